//! Does every loop still move? A service whose HTTP answers while its loops stand is worse than one that has ended: that one
//! would be started again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The loops without which nothing is taken in, decided or sent.
pub const VITAL: [&str; 4] = ["intake", "sweep", "relay", "watch"];
/// The loops that have to get through a first round before the service has started.
const FIRST: [&str; 3] = ["sweep", "relay", "watch"];
/// A vital loop that has not moved for this long is stuck. A loop moves at least every minute; what it may wait for, a call of
/// a store or of a broker, has a limit of its own far below this.
pub const STUCK_AFTER: Duration = Duration::from_secs(300);

/// When each loop last moved.
#[derive(Debug)]
pub struct Beats {
    since: Instant,
    known: Mutex<BTreeMap<&'static str, Beat>>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Instant,
    /// Whether it has got through a round.
    round: bool,
}

impl Default for Beats {
    fn default() -> Self {
        Self { since: Instant::now(), known: Mutex::default() }
    }
}

impl Beats {
    /// The loop moves.
    pub fn moves(&self, name: &'static str) {
        self.moves_at(name, Instant::now());
    }

    pub(crate) fn moves_at(&self, name: &'static str, at: Instant) {
        self.known().entry(name).or_insert(Beat { at, round: false }).at = at;
    }

    /// The loop has got through a round, and nothing of what had waited is left.
    pub fn caught_up(&self, name: &'static str) {
        self.known().insert(name, Beat { at: Instant::now(), round: true });
    }

    /// As if we had started then.
    #[cfg(test)]
    pub(crate) fn begun(since: Instant) -> Self {
        Self { since, ..Self::default() }
    }

    /// How long ago each loop that has been started moved.
    pub fn ages(&self) -> BTreeMap<&'static str, Duration> {
        self.known().iter().map(|(name, beat)| (*name, beat.at.elapsed())).collect()
    }

    /// The vital loops that have not moved for longer than [`STUCK_AFTER`]; one that has never moved counts from our start.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.stuck_at(Instant::now())
    }

    fn stuck_at(&self, now: Instant) -> Vec<&'static str> {
        let known = self.known();
        let last = |name: &str| known.get(name).map_or(self.since, |beat| beat.at);
        VITAL.into_iter().filter(|name| now.saturating_duration_since(last(name)) > STUCK_AFTER).collect()
    }

    /// Whether what had waited at the start has been seen to: the store takes writes, deadlines that had passed are acted on,
    /// and what was to be sent has been taken up.
    pub fn has_started(&self) -> bool {
        let known = self.known();
        FIRST.iter().all(|name| known.get(name).is_some_and(|beat| beat.round))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<&'static str, Beat>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_move_is_seen_and_one_that_moves_is_not() {
        let beats = Beats::default();
        let at = |more: u64| beats.since + STUCK_AFTER + Duration::from_secs(more);
        assert!(beats.stuck_at(at(0)).is_empty());
        // Also one that never came to its first move.
        assert_eq!(beats.stuck_at(at(1)), VITAL);
        VITAL.into_iter().for_each(|name| beats.moves_at(name, at(1)));
        assert!(beats.stuck_at(at(1)).is_empty());
        ["intake", "sweep", "watch"].into_iter().for_each(|name| beats.moves_at(name, at(100)));
        assert!(beats.stuck_at(at(301)).is_empty());
        assert_eq!(beats.stuck_at(at(302)), ["relay"]);
    }

    #[test]
    fn it_has_started_once_every_first_round_is_through() {
        let beats = Beats::default();
        for name in ["intake", "sweep", "relay"] {
            beats.caught_up(name);
        }
        beats.moves("watch");
        assert!(!beats.has_started());
        beats.caught_up("watch");
        beats.moves("watch");
        assert!(!beats.ages().is_empty() && beats.has_started(), "a later move takes nothing back");
    }
}
