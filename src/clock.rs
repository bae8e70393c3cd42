//! The only reader of time.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

/// Tells what time it is: the system's, another machine's, or a hand that a simulation moves.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Another machine's, which is so much ahead of this one's.
    Ahead(SignedDuration),
    /// A hand-moved clock.
    Manual(Arc<Mutex<Timestamp>>),
}

impl Clock {
    /// A clock that stands at `at` until it is set.
    pub fn manual(at: Timestamp) -> Self {
        Self::Manual(Arc::new(Mutex::new(at)))
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
            Self::System => Timestamp::now(),
            Self::Ahead(by) => {
                let now = Self::System.now();
                now.checked_add(*by).unwrap_or(now)
            }
            Self::Manual(hand) => *hand.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }

    /// Moves a hand-moved clock; the others stay as they are.
    pub fn set(&self, at: Timestamp) {
        if let Self::Manual(hand) = self {
            *hand.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = at;
        }
    }
}
