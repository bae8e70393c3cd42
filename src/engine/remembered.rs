//! One decision at a time on each date, and what the last one left, so that the next need not read it.
//!
//! It is a memory and no truth: the commit tells whether anybody else has decided since.

use std::sync::{Arc, Mutex, PoisonError};

use hashlink::LruCache;

use crate::domain::id::PartitionKey;
use crate::port::Stored;

/// Dates that are remembered: those of a week, of two pipelines.
const REMEMBERED_MAX: usize = 16;

/// What was last stored of one date, held by whoever decides on it; nothing where that is not known.
pub(super) type Last = Arc<tokio::sync::Mutex<Option<Stored>>>;

/// The dates that were last decided on.
#[derive(Debug)]
pub(super) struct Remembered(Mutex<LruCache<PartitionKey, Last>>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED_MAX)))
    }
}

impl Remembered {
    /// What is remembered of `key`; whoever holds it decides. Two of one date may be out at once where many dates are decided on;
    /// their commits then conflict.
    pub(super) fn of(&self, key: &PartitionKey) -> Last {
        let mut dates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = dates.get(key) {
            return Arc::clone(last);
        }
        let last = Last::default();
        dates.insert(key.clone(), Arc::clone(&last));
        last
    }
}
