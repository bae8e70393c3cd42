//! Time comes in as an argument and goes out as a deadline.

use jiff::{SignedDuration, Timestamp};

/// How far the clocks of two replicas, or of a replica and the broker, may be apart. What a quick run answers may be dated
/// earlier than what it was asked.
pub const SKEW_MAX: SignedDuration = SignedDuration::from_secs(60);

/// The instant of a decision, and how far the world has been heard.
///
/// A verdict about something that came (a completion) holds at `at`. A verdict about something that did *not* come
/// (silence, a grace that ran out) holds only up to `heard_until`: right after our own start, and after any outage,
/// everything looks silent until the backlog is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Now {
    /// The clock's reading.
    pub at: Timestamp,
    /// Every message published before this instant has been settled, as far as this replica knows.
    pub heard_until: Timestamp,
}

impl Now {
    /// A moment at which nothing published earlier is still on its way.
    pub fn caught_up(at: Timestamp) -> Self {
        Self { at, heard_until: at }
    }

    /// Whether `deadline` has come.
    pub fn reached(self, deadline: Timestamp) -> bool {
        self.at >= deadline
    }

    /// Whether it is certain that nothing arrived by `deadline`.
    pub fn silent_until(self, deadline: Timestamp) -> bool {
        self.at >= deadline && self.heard_until >= deadline
    }
}

/// `instant + span`, saturating at the end of time, so that a bad configuration cannot panic a decision.
pub fn after(instant: Timestamp, span: SignedDuration) -> Timestamp {
    instant.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// How far our clock is ahead of another, below zero where it is behind: nothing where the other's instant lies within the time
/// that the call took.
pub fn ahead_of(other: Timestamp, before: Timestamp, after: Timestamp) -> SignedDuration {
    let behind = after.duration_since(other).min(SignedDuration::ZERO);
    before.duration_since(other).max(behind)
}

/// An instant for people: UTC, to the second.
pub fn shown(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// How long to look away when a deadline has come but the backlog behind it has not been read yet.
const RECHECK: SignedDuration = SignedDuration::from_secs(10);

/// Collects deadlines; the earliest becomes the partition's `wake_at`.
#[derive(Debug)]
pub struct Wake {
    now: Now,
    earliest: Option<Timestamp>,
}

impl Wake {
    /// Starts with no deadline.
    pub fn new(now: Now) -> Self {
        Self { now, earliest: None }
    }

    /// Asks to be woken at `deadline`; a deadline that has passed but could not be judged yet is looked at again soon.
    pub fn at(&mut self, deadline: Timestamp) {
        let instant = if deadline > self.now.at { deadline } else { after(self.now.at, RECHECK) };
        self.earliest = Some(self.earliest.map_or(instant, |earliest| earliest.min(instant)));
    }

    /// The earliest deadline asked for.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.earliest
    }
}
