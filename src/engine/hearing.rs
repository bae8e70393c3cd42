//! How far the world has been heard: the watermark behind every verdict of silence.
//!
//! Right after our own start everything looks silent, and so it does while messages wait unread or cannot be stored, or
//! while a connection is dead and does not say so. Up to the watermark, what has not come has not been sent.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::after;

/// The oldest messages received and not yet settled, and since when we listen.
#[derive(Debug)]
pub struct Hearing {
    listening_since: Mutex<Timestamp>,
    settle_in: SignedDuration,
    unsettled: Mutex<BTreeMap<Timestamp, u32>>,
    /// The latest message heard on each road, where only that proves that its connection lives.
    proof: Mutex<BTreeMap<String, Timestamp>>,
}

impl Hearing {
    /// Begins to listen at `at`.
    pub fn new(at: Timestamp, settle_in: SignedDuration) -> Self {
        Self { listening_since: Mutex::new(at), settle_in, unsettled: Mutex::default(), proof: Mutex::default() }
    }

    /// A message published at `published` has been received.
    pub fn received(&self, published: Timestamp) {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *unsettled.entry(published).or_default() += 1;
    }

    /// A message published at `published` has been settled, whichever way.
    pub fn settled(&self, published: Timestamp) {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(count) = unsettled.get_mut(&published) {
            *count -= 1;
            if *count == 0 {
                unsettled.remove(&published);
            }
        }
    }

    /// A message published at `published` has come in over `road`: up to then its connection lived. Once told of a road,
    /// silence counts only up to the latest message on it: a connection may be dead without a word, and somebody then
    /// publishes something from time to time.
    pub fn heard(&self, road: &str, published: Timestamp) {
        let mut proof = self.proof.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match proof.get_mut(road) {
            Some(latest) => *latest = published.max(*latest),
            None => {
                proof.insert(road.to_owned(), published);
            }
        }
    }

    /// What came at `at` could not be taken in and was handed back. Until it has had time to come again we have heard
    /// nothing, exactly as after a start.
    pub fn interrupted(&self, at: Timestamp) {
        let mut since = self.listening_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *since = at.max(*since);
    }

    /// Messages received and not settled, and when the oldest of them was published.
    pub fn unsettled(&self) -> (u32, Option<Timestamp>) {
        let unsettled = self.unsettled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (unsettled.values().sum(), unsettled.keys().next().copied())
    }

    /// Up to when the world has been heard, or since when it is listened to, where that tells nothing yet.
    pub fn known_until(&self, now: Timestamp) -> Timestamp {
        let since = *self.listening_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.until(now).max(since)
    }

    /// Everything published before this instant has been settled.
    pub fn until(&self, now: Timestamp) -> Timestamp {
        let since = *self.listening_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if now < after(since, self.settle_in) {
            return Timestamp::MIN;
        }
        let proof = self.proof.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let proof = proof.values().min().copied().unwrap_or(now);
        let unsettled = self.unsettled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unsettled.keys().next().map_or(now, |oldest| now.min(*oldest)).min(proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_up_to_the_last_word_on_the_quietest_road() {
        let at = |second| Timestamp::from_second(second).expect("an instant");
        let hearing = Hearing::new(at(0), SignedDuration::from_secs(60));
        assert_eq!(hearing.until(at(59)), Timestamp::MIN);
        assert_eq!(hearing.until(at(100)), at(100));
        // A bus that is elsewhere has to prove itself, each connection for itself.
        hearing.heard("nba", Timestamp::MIN);
        hearing.heard("mlb", Timestamp::MIN);
        hearing.heard("mlb", at(95));
        assert_eq!(hearing.until(at(100)), Timestamp::MIN);
        hearing.heard("nba", at(80));
        hearing.heard("nba", at(70));
        assert_eq!(hearing.until(at(100)), at(80));
        // What has been received and not settled holds it back further.
        hearing.received(at(75));
        assert_eq!(hearing.until(at(100)), at(75));
        hearing.settled(at(75));
        assert_eq!(hearing.until(at(100)), at(80));
    }
}
