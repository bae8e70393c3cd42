//! What a failure's words say about when another try makes sense.
//!
//! Most failures are worth a try after a short wait. Some say themselves that nothing will help before a certain hour: a
//! day's quota is used up, and comes back at midnight somewhere. Such a failure is no try of the node's own, and not its
//! own trouble either: whoever fails alike shares one alert. Others say that these inputs will never do. A failure is told
//! by its words alone, which the graph declares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::evidence::Version;
use super::graph::Graph;
use super::id::{NodeId, PartitionKey};
use super::partition::{Failure, FailureKind, Node, Partition, State};
use super::time::after;

/// Days back that are told apart when work begins again; older dates wait as long as the last of these.
const DAYS_BACK_MAX: i32 = 6;

/// Failures that are alike.
#[derive(Clone, Debug)]
pub struct FailureClass {
    /// Its name.
    pub name: Arc<str>,
    /// Words of which an error has one, in lower case.
    pub words: Vec<String>,
    /// When another try makes sense.
    pub ends: Ends,
}

/// When another try makes sense.
#[derive(Clone, Debug)]
pub enum Ends {
    /// From a clock time on, whatever the inputs.
    At(ClockTime),
    /// Only with newer inputs: the same ones fail again.
    WithNewInputs,
}

/// The clock time that ends failures.
#[derive(Clone, Debug)]
pub struct ClockTime {
    /// What the clock shows.
    pub at: Time,
    /// Where the clock hangs.
    pub zone: TimeZone,
    /// Work begins again over this long; over as much again for each day back.
    pub spread: SignedDuration,
}

impl FailureClass {
    /// Whether an error with this text is one of them.
    pub fn holds(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.words.iter().any(|word| text.contains(word))
    }
}

impl ClockTime {
    /// The first end after `instant`. A clock time that a daylight change skips is taken an hour later.
    pub fn end_after(&self, instant: Timestamp) -> Timestamp {
        let today = self.zone.to_datetime(instant).date();
        let on = |date: Date| self.zone.to_timestamp(date.to_datetime(self.at)).unwrap_or(Timestamp::MAX);
        let first = on(today);
        if first > instant { first } else { on(today.saturating_add(1.day())) }
    }

    /// When `node`, which failed at `failed_at`, may be tried again: after the end, the latest dates first, and within a date
    /// not all at the same moment. The same node gets the same instant whoever computes it.
    pub fn again_at(&self, graph: &Graph, key: &PartitionKey, node: &NodeId, failed_at: Timestamp) -> Timestamp {
        let end = self.end_after(failed_at);
        let days_back = (graph.date_at(end) - key.date).get_days().clamp(0, DAYS_BACK_MAX);
        let span = self.spread.as_secs().unsigned_abs();
        let within = i64::try_from(Version::of((key, node)).within(span)).unwrap_or(0);
        let wait = self.spread.saturating_mul(days_back).saturating_add(SignedDuration::from_secs(within));
        after(end, wait)
    }
}

/// The class of a failure that a producer reported, if it has one.
pub fn class_of<'g>(graph: &'g Graph, failure: &Failure) -> Option<&'g FailureClass> {
    let reported = failure.kind == FailureKind::Reported;
    graph.failures.iter().find(|class| reported && class.holds(&failure.text))
}

/// Whether the node failed for a reason that only newer inputs end.
pub fn is_of_its_inputs(graph: &Graph, facts: &Node) -> bool {
    let class = facts.failure.as_ref().and_then(|failure| class_of(graph, failure));
    class.is_some_and(|class| matches!(class.ends, Ends::WithNewInputs))
}

/// The failure that keeps a node from working and ends of itself, with its class. Nothing where nothing more is tried.
pub fn ends_of_itself<'g, 'f>(
    graph: &'g Graph,
    facts: &'f Node,
) -> Option<(&'g FailureClass, &'g ClockTime, &'f Failure)> {
    let given_up = matches!(facts.state, State::Exhausted { .. } | State::Skipped { .. } | State::Expired { .. });
    let failure = facts.failure.as_ref().filter(|_| !given_up)?;
    let class = class_of(graph, failure)?;
    match &class.ends {
        Ends::At(clock) => Some((class, clock, failure)),
        Ends::WithNewInputs => None,
    }
}

/// Who fails for the same reason.
#[derive(Debug)]
pub struct Shared<'g> {
    /// The reason.
    pub class: &'g FailureClass,
    /// Whoever fails so.
    pub nodes: BTreeSet<NodeId>,
    /// When the last of them is over.
    pub until: Timestamp,
}

/// Whom each class of failures keeps from working. A success after its end shows that a class is over, for all.
pub fn shared<'g>(graph: &'g Graph, partition: &Partition) -> Vec<Shared<'g>> {
    let mut found: BTreeMap<&str, Shared<'g>> = BTreeMap::new();
    for (id, facts) in &partition.nodes {
        let Some((class, clock, failure)) = ends_of_itself(graph, facts) else { continue };
        let until = clock.end_after(failure.at);
        let shared = found.entry(&class.name).or_insert_with(|| Shared { class, nodes: BTreeSet::new(), until });
        shared.nodes.insert(id.clone());
        shared.until = shared.until.max(until);
    }
    let overcome = |until: Timestamp| {
        partition.nodes.values().any(|facts| matches!(facts.state, State::Succeeded { at } if at >= until))
    };
    found.into_values().filter(|shared| !overcome(shared.until)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn midnight_in_los_angeles() -> ClockTime {
        ClockTime {
            at: Time::midnight(),
            zone: TimeZone::get("America/Los_Angeles").unwrap(),
            spread: SignedDuration::from_mins(10),
        }
    }

    #[test]
    fn the_end_is_midnight_in_los_angeles_on_both_sides_of_a_daylight_change() {
        let class = midnight_in_los_angeles();
        let table = [
            ("2026-01-27T00:51:00Z", "2026-01-27T08:00:00Z"),
            ("2026-01-27T07:59:59Z", "2026-01-27T08:00:00Z"),
            ("2026-01-27T08:00:00Z", "2026-01-28T08:00:00Z"),
            // The night to 8 March has one hour less, the night to 1 November one more.
            ("2026-03-08T05:00:00Z", "2026-03-08T08:00:00Z"),
            ("2026-03-08T20:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-11-01T20:00:00Z", "2026-11-02T08:00:00Z"),
        ];
        for (failed, end) in table {
            assert_eq!(class.end_after(failed.parse().unwrap()), end.parse().unwrap(), "{failed}");
        }
    }

    #[test]
    fn an_error_is_told_by_its_words_in_any_case() {
        let words = vec!["quota exceeded".into()];
        let class = FailureClass { name: "quota".into(), words, ends: Ends::WithNewInputs };
        assert!(class.holds("403 Quota Exceeded: table imports per day"));
        assert!(!class.holds("403 access denied"));
    }
}
