//! A pipeline that others run: everything is decided, and nothing of it is sent, or only what some phases are asked.
//!
//! What is not sent is told to its date as [`super::event::Withheld`], so a date is still a function of its own events, and
//! what others do fulfils what was decided here.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a dispatch is with nobody.
pub const NOT_SENT: &str = "decided, and not sent: others run it";

/// What a store is for. It stays with the store, so that nobody takes what a shadow decided for what was done.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Role {
    /// Whether it is a shadow's.
    #[serde(default)]
    pub shadow: bool,
    /// The phases whose dispatches leave; all, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sends: Option<BTreeSet<Arc<str>>>,
}

impl Role {
    /// A shadow's: nothing leaves.
    #[must_use]
    pub fn shadow() -> Self {
        Self { shadow: true, sends: Some(BTreeSet::new()) }
    }

    /// Whether what a node of `phase` is asked leaves.
    #[must_use]
    pub fn sends(&self, phase: &str) -> bool {
        self.sends.as_ref().is_none_or(|phases| phases.contains(phase))
    }

    /// What a reader has to know before anything else; nothing where all that is decided is done.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let phases = self.sends.as_ref()?;
        let what = if phases.is_empty() {
            "nothing that is decided is sent".to_owned()
        } else {
            let phases: Vec<&str> = phases.iter().map(|phase| &**phase).collect();
            format!("of what is decided only what {} is asked is sent", phases.join(", "))
        };
        Some(if self.shadow { format!("shadow: {what}") } else { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_is_said_in_one_line() {
        let only = |phases: &[&str]| Role {
            shadow: false,
            sends: Some(phases.iter().map(|phase| Arc::from(*phase)).collect()),
        };
        assert_eq!(Role::default().notice(), None);
        assert_eq!(Role::shadow().notice().unwrap(), "shadow: nothing that is decided is sent");
        let some = only(&["export", "grading"]);
        assert_eq!(some.notice().unwrap(), "of what is decided only what export, grading is asked is sent");
        assert!(Role::default().sends("export") && some.sends("export"));
        assert!(!some.sends("analytics") && !Role::shadow().sends("export"));
    }
}
