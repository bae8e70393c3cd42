//! Are old messages coming? A subscription that was away for weeks brings what it kept, and people should know why their
//! service is busy with it.
//!
//! What is old is taken in like anything else: recorded at once, dispatched behind the live dates. Here it is only counted, by
//! topic, and told of once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::Engine;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::domain::time::{after, shown};

/// A message is old from this age on: Pub/Sub's longest retries of one that fails are over by then.
const OLD_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Fewer old messages than this are a straggler, not a backlog.
const MESSAGES_MIN: u64 = 100;
/// A backlog is over when none has come for so long.
const QUIET_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Dates that are counted apart; a backlog of more is told of by its ends all the same.
const DATES_MAX: usize = 512;
/// How the keys of these alerts begin.
const KEY: &str = "backlog:";

/// What is known of old messages.
#[derive(Debug, Default)]
pub struct Backlog(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    topics: BTreeMap<String, Topic>,
    /// Since when it is counted; alerts of before are not ours to end earlier than [`QUIET_FOR`] after that.
    since: Option<Timestamp>,
    inherited: bool,
}

#[derive(Clone, Debug)]
struct Topic {
    messages: u64,
    oldest: Timestamp,
    dates: BTreeSet<Date>,
    last: Timestamp,
    told: bool,
}

impl Topic {
    fn words(&self, now: Timestamp) -> String {
        let hours = now.duration_since(self.oldest).as_hours();
        let dates = match (self.dates.first(), self.dates.last()) {
            (Some(first), Some(last)) if first != last => format!("{} dates from {first} to {last}", self.dates.len()),
            (Some(only), _) => only.to_string(),
            (None, _) => String::new(),
        };
        format!("{} messages older than a day, the oldest of {hours} h, for {dates}", self.messages)
    }
}

impl Backlog {
    /// A message about `date` has come over `topic`.
    pub(super) fn note(&self, topic: &str, date: Date, published: Timestamp, now: Timestamp) {
        if now < after(published, OLD_AFTER) {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Topic { messages: 0, oldest: published, dates: BTreeSet::new(), last: now, told: false };
        let topic = known.topics.entry(topic.to_owned()).or_insert_with(fresh);
        topic.messages += 1;
        topic.oldest = topic.oldest.min(published);
        topic.last = now;
        if topic.dates.len() < DATES_MAX {
            topic.dates.insert(date);
        }
    }

    /// What has begun and what is over, in words by topic.
    fn turns(&self, now: Timestamp) -> Vec<(String, Turn, String)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turns = Vec::new();
        known.topics.retain(|name, topic| {
            if now >= after(topic.last, QUIET_FOR) {
                if topic.told {
                    turns.push((name.clone(), Turn::Resolved, format!("taken in: {}", topic.words(now))));
                }
                return false;
            }
            if !topic.told && topic.messages >= MESSAGES_MIN {
                topic.told = true;
                let words = topic.words(now);
                let text = format!("{name} brings {words}; they are recorded, and dispatched behind the live dates");
                turns.push((name.clone(), Turn::Raised, text));
            }
            true
        });
        turns
    }

    /// Whether alerts of before our start are to be looked for: once, when there was time for the backlog to be heard again.
    fn inherits(&self, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *known.since.get_or_insert(now);
        let due = !known.inherited && now >= after(since, QUIET_FOR);
        known.inherited |= due;
        due
    }

    fn is_known(&self, topic: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).topics.contains_key(topic)
    }
}

impl Engine {
    /// Tells of backlogs that begin and end.
    pub(super) async fn tell_of_backlogs(&self) {
        let at = self.clock.now();
        let mut turns = self.backlog.turns(at);
        if self.backlog.inherits(at)
            && let Ok(on) = self.bus.alerts().await
        {
            for alert in on {
                let Some(topic) = alert.key.as_str().strip_prefix(KEY) else { continue };
                if !self.backlog.is_known(topic) {
                    turns.push((topic.to_owned(), Turn::Resolved, format!("nothing old has come since {}", shown(at))));
                }
            }
        }
        for (topic, turn, text) in turns {
            let key = AlertKey::new(format!("{KEY}{topic}"));
            let about = About::default().done("each is recorded at once; live dates go first");
            self.alert(Alert::new(key, Severity::Warning, turn, text, at).about(about)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_backlog_is_told_of_once_and_at_its_end_with_its_figures() {
        let now: Timestamp = "2026-01-26T12:00:00Z".parse().unwrap();
        let backlog = Backlog::default();
        let at = |minutes: i64| after(now, SignedDuration::from_mins(minutes));
        for one in 0..99 {
            backlog.note("t", date(2026, 1, 2), now - SignedDuration::from_hours(25 + one), now);
        }
        backlog.note("t", date(2026, 1, 25), now - SignedDuration::from_hours(23), now);
        assert_eq!(backlog.turns(now), [], "ninety-nine old ones and a young one are none");
        backlog.note("t", date(2026, 1, 8), now - SignedDuration::from_hours(573), now);
        let told = backlog.turns(at(1));
        assert!(
            matches!(&told[..], [(_, Turn::Raised, text)] if text.contains("100 messages") && text.contains("573 h")
            && text.contains("2 dates from 2026-01-02 to 2026-01-08")),
            "{told:?}"
        );
        backlog.note("t", date(2026, 1, 3), now - SignedDuration::from_hours(500), at(2));
        assert_eq!(backlog.turns(at(3)), []);
        let told = backlog.turns(at(12));
        assert!(matches!(&told[..], [(_, Turn::Resolved, text)] if text.contains("101 messages")), "{told:?}");
        assert_eq!(backlog.turns(at(13)), []);
    }
}
