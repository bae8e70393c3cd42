//! How far the world has been heard: the watermark behind every verdict of silence.
//!
//! Right after our own start everything looks silent, and so it does while messages wait unread or cannot be stored, or
//! while a connection is dead and does not say so. Up to the watermark, what has not come has not been sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::after;

/// A service that is at work says so more often than this. Whoever was not for longer was paused, or starved, or its clock was set
/// forward: either way it has missed what came meanwhile, as far as it can know.
pub const PAUSE_MIN: SignedDuration = SignedDuration::from_secs(30);

/// The oldest messages received and not yet settled, and since when we listen.
#[derive(Debug)]
pub struct Hearing {
    listening_since: Mutex<Timestamp>,
    settle_in: SignedDuration,
    unsettled: Arc<Mutex<BTreeMap<Timestamp, u32>>>,
    /// The latest message heard on each road, where only that proves that its connection lives.
    proof: Mutex<BTreeMap<String, Timestamp>>,
    /// When we last were at work.
    at_work: Mutex<Option<Timestamp>>,
}

/// A message that has been received and is not settled.
#[derive(Debug)]
pub struct InHand {
    unsettled: Arc<Mutex<BTreeMap<Timestamp, u32>>>,
    published: Timestamp,
}

impl Drop for InHand {
    fn drop(&mut self) {
        settled(&self.unsettled, self.published);
    }
}

fn settled(unsettled: &Mutex<BTreeMap<Timestamp, u32>>, published: Timestamp) {
    let mut unsettled = unsettled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(count) = unsettled.get_mut(&published) {
        *count -= 1;
        if *count == 0 {
            unsettled.remove(&published);
        }
    }
}

/// What stood between two moments at which we were at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// We were paused for so long, or the clock was set forward.
    Missed(SignedDuration),
    /// The clock was set back by so much.
    Back(SignedDuration),
}

impl Hearing {
    /// Begins to listen at `at`.
    pub fn new(at: Timestamp, settle_in: SignedDuration) -> Self {
        Self {
            listening_since: Mutex::new(at),
            settle_in,
            unsettled: Arc::default(),
            proof: Mutex::default(),
            at_work: Mutex::default(),
        }
    }

    /// A message published at `published` has been received.
    pub fn received(&self, published: Timestamp) {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *unsettled.entry(published).or_default() += 1;
    }

    /// A message published at `published` has been settled, whichever way.
    pub fn settled(&self, published: Timestamp) {
        settled(&self.unsettled, published);
    }

    /// The same as [`Hearing::received`], until what is returned is dropped: however whoever has the message comes to an end.
    pub fn in_hand(&self, published: Timestamp) -> InHand {
        self.received(published);
        InHand { unsettled: Arc::clone(&self.unsettled), published }
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

    /// We are at work at `now`. Where we were not for longer than [`PAUSE_MIN`], or the clock has gone back, it is listened to
    /// the world anew from now on.
    pub fn at_work(&self, now: Timestamp) -> Option<Gap> {
        let mut at_work = self.at_work.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let passed = now.duration_since(at_work.replace(now).unwrap_or(now));
        let gap = match passed {
            passed if passed > PAUSE_MIN => Gap::Missed(passed),
            passed if passed < -PAUSE_MIN => Gap::Back(-passed),
            _ => return None,
        };
        *self.listening_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
        Some(gap)
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
        let at_work = *self.at_work.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if at_work.is_some_and(|last| now.duration_since(last).abs() > PAUSE_MIN) {
            // Nobody has noticed yet.
            return Timestamp::MIN;
        }
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
    fn a_pause_and_a_clock_that_is_set_have_it_listen_anew() {
        let at = |second| Timestamp::from_second(second).expect("an instant");
        let hearing = Hearing::new(at(0), SignedDuration::from_secs(60));
        assert_eq!(hearing.at_work(at(100)), None, "the first");
        assert_eq!(hearing.at_work(at(130)), None);
        assert_eq!(hearing.until(at(130)), at(130));
        assert_eq!(hearing.until(at(1_000)), Timestamp::MIN, "whoever asks first");
        assert_eq!(hearing.at_work(at(1_000)), Some(Gap::Missed(SignedDuration::from_secs(870))));
        assert_eq!(hearing.until(at(1_059)), Timestamp::MIN, "what came in the pause is not read yet");
        assert_eq!(hearing.at_work(at(1_030)), None);
        assert_eq!(hearing.until(at(1_060)), at(1_060));
        // Until the clock is again where it was, nothing would be heard.
        assert_eq!(hearing.at_work(at(500)), Some(Gap::Back(SignedDuration::from_secs(530))));
        assert_eq!(hearing.at_work(at(530)), None);
        assert_eq!(hearing.until(at(559)), Timestamp::MIN);
        assert_eq!(hearing.until(at(560)), at(560));
    }

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
