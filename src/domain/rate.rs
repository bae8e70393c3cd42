//! How often does something happen? Counted by publish time in spans of ten minutes, so that order does not matter.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::time::after;

/// One span.
const SPAN: SignedDuration = SignedDuration::from_mins(10);
/// Spans that make an hour, and the one that the hour begins in.
const SPANS: usize = 7;

/// What happened in the latest hour that anything happened in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(BTreeMap<Timestamp, u32>);

impl Rate {
    /// It happened at `at`.
    pub fn note(&mut self, at: Timestamp) {
        let counted = self.0.entry(beginning(at)).or_default();
        *counted = counted.saturating_add(1);
        while let Some((oldest, newest)) = self.0.keys().next().copied().zip(self.0.keys().next_back().copied())
            && is_over(oldest) <= newest
        {
            self.0.remove(&oldest);
        }
    }

    /// How often in the hour before `now`, give or take a span.
    pub fn in_the_hour_before(&self, now: Timestamp) -> u32 {
        self.0.iter().filter(|(from, _)| now < is_over(**from)).map(|(_, counted)| *counted).sum()
    }

    /// When the oldest of what counts at `now` counts no more.
    pub fn falls_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.keys().map(|from| is_over(*from)).find(|over| now < *over)
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn beginning(at: Timestamp) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(SPAN.as_secs())).unwrap_or(at)
}

fn is_over(from: Timestamp) -> Timestamp {
    after(from, SPAN * SPANS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_768_521_600 + minutes * 60).unwrap()
    }

    #[test]
    fn an_hour_is_counted_whatever_the_order_and_nothing_else_is_kept() {
        let minutes = [0, 1, 59, 60, 61, 130, 190];
        let mut forward = Rate::default();
        minutes.iter().for_each(|minute| forward.note(at(*minute)));
        let mut backward = Rate::default();
        minutes.iter().rev().for_each(|minute| backward.note(at(*minute)));
        assert_eq!(forward, backward);
        assert_eq!(forward.in_the_hour_before(at(199)), 2);
        assert_eq!(forward.in_the_hour_before(at(200)), 1);
        assert_eq!(forward.falls_at(at(199)), Some(at(200)));
        assert_eq!(forward.in_the_hour_before(at(600)), 0);
        let mut flood = Rate::default();
        (0..10_000).for_each(|minute| flood.note(at(minute)));
        assert!(flood.0.len() <= SPANS, "{}", flood.0.len());
    }
}
