//! When may a target have its next dispatch?
//!
//! A burst into a service that has scaled down to nothing is a burst of refusals, so dispatches to one target leave at a
//! declared pace, each at an instant of its own. Turns are given in the order in which effects ask, which is the latest
//! dates first, and are kept in memory: after a restart they are given anew, at the same pace.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::after;

/// How long a turn that nobody comes for is remembered. An effect comes for its own within a round of the relay.
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// A wait is at most this much longer than it would have to be, as one part of so many, so that what was refused together
/// does not come again together.
const JITTER: u64 = 4;

/// The turns of every target.
#[derive(Debug, Default)]
pub struct Pace(Mutex<BTreeMap<String, Turns>>);

#[derive(Debug)]
struct Turns {
    /// No turn before this has been left free.
    next: Timestamp,
    /// Turns that effects wait for.
    given: BTreeMap<String, Timestamp>,
}

impl Pace {
    /// Takes the turn of the effect `id` at `target` if it has come; gives it one otherwise.
    pub fn take(&self, target: &str, id: &str, per_second: u32, now: Timestamp) -> bool {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = targets.entry(target.to_owned()).or_insert_with(|| Turns { next: now, given: BTreeMap::new() });
        turns.given.retain(|_, at| now < after(*at, FORGET_AFTER));
        if let Some(at) = turns.given.get(id) {
            let come = *at <= now;
            if come {
                turns.given.remove(id);
            }
            return come;
        }
        let apart = SignedDuration::from_secs(1) / i32::try_from(per_second.max(1)).unwrap_or(i32::MAX);
        let at = turns.next.max(now);
        turns.next = after(at, apart);
        if at > now {
            turns.given.insert(id.to_owned(), at);
        }
        at <= now
    }

    /// Whether the effect `id` was given a turn that it has not taken.
    pub fn has_turn(&self, id: &str) -> bool {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.values().any(|turns| turns.given.contains_key(id))
    }

    /// How long the effect `id` has to wait for the turn it was given, if it was.
    pub fn wait(&self, id: &str, now: Timestamp) -> Option<SignedDuration> {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = targets.values().find_map(|turns| turns.given.get(id)).filter(|at| **at > now)?;
        Some(at.duration_since(now))
    }
}

/// A wait of at least `wait`, longer by a part that the effect and its tries alone determine.
pub fn jittered(wait: SignedDuration, id: &str, tries: u32) -> SignedDuration {
    let mut hasher = DefaultHasher::new();
    (id, tries).hash(&mut hasher);
    let most = u64::try_from(wait.as_millis()).unwrap_or(0) / JITTER;
    let more = hasher.finish().checked_rem(most).unwrap_or(0);
    wait.saturating_add(SignedDuration::from_millis(i64::try_from(more).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn each_has_a_turn_of_its_own_and_keeps_it() {
        // Ten a second: the first goes, the others a tenth of a second apart, however often they ask.
        let pace = Pace::default();
        let ids = ["a", "b", "c"];
        assert_eq!(ids.map(|id| pace.take("t", id, 10, at(0))), [true, false, false]);
        assert_eq!(ids.map(|id| pace.wait(id, at(0)).map(|wait| wait.as_millis())), [None, Some(100), Some(200)]);
        assert_eq!(["a", "b"].map(|id| pace.has_turn(id)), [false, true]);
        assert_eq!(["c", "b"].map(|id| pace.take("t", id, 10, at(100))), [false, true]);
        assert_eq!(["c", "d"].map(|id| pace.take("t", id, 10, at(200))), [true, false]);
        assert!(pace.take("u", "e", 10, at(200)), "another target has turns of its own");
        assert!(pace.take("t", "f", 10, at(9_000)), "a pause is not made up for later");
        assert!(!pace.take("t", "g", 10, at(9_000)));
    }

    #[test]
    fn a_turn_that_nobody_comes_for_is_forgotten() {
        let pace = Pace::default();
        assert_eq!(["a", "b"].map(|id| pace.take("t", id, 1, at(0))), [true, false]);
        pace.take("t", "c", 1, at(120_000));
        assert_eq!(pace.0.lock().unwrap()["t"].given.len(), 0);
    }

    #[test]
    fn a_wait_is_never_shorter_and_a_quarter_longer_at_most() {
        let wait = SignedDuration::from_secs(8);
        let waits: Vec<SignedDuration> = (0..20).map(|tries| jittered(wait, "nba/2026-01-22/t/1/1", tries)).collect();
        assert!(waits.iter().all(|found| (wait..wait * 5 / 4).contains(found)), "{waits:?}");
        assert!(waits.iter().any(|found| *found != waits[0]), "they differ");
        assert_eq!(jittered(SignedDuration::ZERO, "x", 0), SignedDuration::ZERO);
    }
}
