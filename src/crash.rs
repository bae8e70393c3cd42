//! Named places at which a test has the process die, as a kill would have it die there.
//!
//! `TIPOFF_CRASH=k05:3` ends it by SIGKILL the third time it comes by `k05`; `TIPOFF_PANIC=k05:3` has it panic there, and
//! `TIPOFF_PANIC=k05` each time. That is so in builds with debug assertions only: what is shipped reads no such variable, and a place
//! costs nothing there.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! places {
    ($($(#[doc = $says:literal])* $place:ident = $name:literal,)*) => {
        /// Where the process may die.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Place {
            $($(#[doc = $says])* $place,)*
        }

        impl Place {
            /// Every place, in the order in which a message comes by them.
            pub const ALL: &[Self] = &[$(Self::$place,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$place => $name,)*
                }
            }
        }
    };
}

places! {
    /// A message has come and is not decoded.
    Received = "k01",
    /// It is decoded, and its date is not loaded.
    Decoded = "k02",
    /// It is decided what follows, and nothing is asked of the store.
    Decided = "k03",
    /// A decision is written, and its transaction is open.
    CommitOpen = "k04a",
    /// A decision is on disk, and whoever asked for that does not know.
    CommitUnanswered = "k04b",
    /// It is known to be on disk, and its messages are not settled.
    BeforeAck = "k05",
    /// They are settled, and the publisher has no answer.
    AckUnsent = "k06",
    /// The relay has taken an effect up.
    TakenUp = "k07",
    /// A dispatch is being sent, and the broker has not taken it.
    SendOpen = "k08a",
    /// The broker has taken it, and the relay does not know.
    SendUnanswered = "k08b",
    /// It is known to be sent, and that is not noted.
    BeforeMark = "k09",
    /// It is noted, and the relay does not know.
    MarkUnanswered = "k10",
    /// A date's deadline has come, and nothing is decided.
    Due = "k11",
    /// It is decided, and nobody has been told.
    Woken = "k12",
    /// A message that can never be applied is in the ledger of dead letters, and not parked.
    LetterKept = "k13",
    /// A letter of a dead-letter topic is in the ledger, and not acknowledged there.
    LetterUnsettled = "k14",
    /// A replay has left, and whoever asked for it does not know.
    ReplayUnanswered = "k15",
    /// History is appended, and the cursor stands before it.
    HistoryUnmarked = "k16",
    /// Between two statements of a migration.
    Migration = "k17",
    /// The service is ending.
    Drain = "k18",
    /// Declarations are at work, and it is not kept that they are.
    InForceUnkept = "k19",
    /// People have been told, and that is not kept.
    ToldUnkept = "k20",
    /// A delivery is leased to be pushed, and not posted.
    PushLeased = "p01",
    /// Its consumer has taken it, and that is not noted.
    PushUnsettled = "p02",
}

/// What was asked for: at which place, and at which pass or, without one, at each.
struct Wanted {
    place: String,
    passes: Option<AtomicU32>,
}

impl Wanted {
    fn asked(variable: &str) -> Option<Self> {
        let asked = std::env::var(variable).ok()?;
        Some(match asked.split_once(':') {
            Some((place, passes)) => {
                Self { place: place.to_owned(), passes: Some(AtomicU32::new(passes.parse().ok()?)) }
            }
            None => Self { place: asked, passes: None },
        })
    }

    fn is_now(&self, place: Place) -> bool {
        self.place == place.name() && self.passes.as_ref().is_none_or(|left| left.fetch_sub(1, Ordering::SeqCst) == 1)
    }
}

/// Dies here, or panics, if that is what was asked for, and this is the pass.
#[inline]
pub fn at(place: Place) {
    if cfg!(debug_assertions) {
        pass(place);
    }
}

fn pass(place: Place) {
    static DIES: LazyLock<Option<Wanted>> = LazyLock::new(|| Wanted::asked("TIPOFF_CRASH"));
    static PANICS: LazyLock<Option<Wanted>> = LazyLock::new(|| Wanted::asked("TIPOFF_PANIC"));
    if DIES.as_ref().is_some_and(|wanted| wanted.is_now(place)) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    assert!(!PANICS.as_ref().is_some_and(|wanted| wanted.is_now(place)), "as a test wants it at {}", place.name());
}
