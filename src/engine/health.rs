//! What keeps the service from being ready, by component.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Faults that only somebody outside can mend. The service goes on trying, and says that it is not ready.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<String, String>>);

impl Health {
    /// `component` does not work, for `reason`. Returns whether that is news.
    pub fn fault(&self, component: &str, reason: &str) -> bool {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.insert(component.to_owned(), reason.to_owned()).as_deref() != Some(reason)
    }

    /// `component` works.
    pub fn well(&self, component: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(component);
    }

    /// What does not work, by component. Empty when the service is ready.
    pub fn faults(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
