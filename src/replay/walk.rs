//! A date's journal, folded: where it stood after each entry, and whether the same would be decided again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::decide::decide;
use crate::domain::effect::{Effect, Turn};
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey};
use crate::domain::partition::Partition;
use crate::port::JournalEntry;

/// A fold in progress.
#[derive(Clone, Debug)]
pub struct Walk<'g> {
    graph: &'g Graph,
    /// The partition as it stands after the entries that were taken.
    pub partition: Partition,
    /// How many were taken.
    pub taken: usize,
}

/// Where another decision would be taken than the recorded one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Which entry, counted from 1.
    pub entry: usize,
    /// When it was decided.
    pub at: Timestamp,
    /// On which revision.
    pub revision: String,
    /// What followed then and would not now.
    pub lost: Vec<String>,
    /// What would follow now and did not then.
    pub new: Vec<String>,
}

impl<'g> Walk<'g> {
    /// Before the first entry.
    pub fn new(graph: &'g Graph, key: PartitionKey) -> Self {
        Self { graph, partition: Partition::new(key), taken: 0 }
    }

    /// Decides an entry's events again at the instant they were decided at, and goes on from what comes of that. Says in what
    /// the decision differs from the recorded one, if it does.
    pub fn take(&mut self, entry: &JournalEntry) -> Option<Difference> {
        self.taken += 1;
        let mut difference = Difference {
            entry: self.taken,
            at: entry.now.at,
            revision: hex(entry.revision),
            lost: Vec::new(),
            new: Vec::new(),
        };
        let decision = match decide(self.graph, &self.partition, &entry.events, entry.now) {
            Ok(decision) => decision,
            Err(violation) => {
                difference.new.push(format!("the decision would be refused: {violation}"));
                return Some(difference);
            }
        };
        let moved = |id: &NodeId, from: &str, to: &str| format!("moved {id}: {from} → {to}");
        let recorded_moves = entry.moved.iter().map(|(id, from, to)| moved(id, from, to));
        let then: Vec<String> = entry.effects.iter().map(in_words).chain(recorded_moves).collect();
        let moves = decision.next.nodes.iter().filter_map(|(id, node)| {
            let was = self.partition.node(id);
            let (from, to) = (was.state.name(), node.state.name());
            (from != to || was.attempt != node.attempt).then(|| moved(id, from, to))
        });
        let again: Vec<String> = decision.effects.iter().map(in_words).chain(moves).collect();
        difference.lost = without(&then, &again);
        difference.new = without(&again, &then);
        // Words leave figures out that only an effect itself has.
        if difference.lost.is_empty() && difference.new.is_empty() && entry.effects != decision.effects {
            difference.new.push("the same effects, with other contents".to_owned());
        }
        // A tick is not in the journal, but what it did is.
        let events = entry.events.len();
        if entry.recorded.len() == events && entry.recorded != decision.recorded {
            for ((event, then), now) in entry.events.iter().zip(&entry.recorded).zip(&decision.recorded) {
                if then != now {
                    let kind =
                        serde_json::to_value(event).ok().and_then(|event| event["event"].as_str().map(str::to_owned));
                    let kind = kind.unwrap_or_default();
                    difference.lost.push(format!("{kind} → {}", format!("{then:?}").to_lowercase()));
                    difference.new.push(format!("{kind} → {}", format!("{now:?}").to_lowercase()));
                }
            }
        }
        self.partition = decision.next;
        (!difference.lost.is_empty() || !difference.new.is_empty()).then_some(difference)
    }
}

/// Those of `these` that `those` has not, each as often as it is missing.
fn without(these: &[String], those: &[String]) -> Vec<String> {
    let mut rest: BTreeMap<&str, usize> = BTreeMap::new();
    for text in those {
        *rest.entry(text).or_default() += 1;
    }
    let mut missing = Vec::new();
    for text in these {
        match rest.get_mut(text.as_str()).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => missing.push(text.clone()),
        }
    }
    missing
}

/// A revision as it is shown everywhere.
pub fn hex(revision: u64) -> String {
    format!("{revision:016x}")
}

/// An effect in words.
pub fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::Dispatch(dispatch) => {
            let degraded = if dispatch.manifest.degraded { ", degraded" } else { "" };
            format!("dispatch {} because {}{degraded}", dispatch.id, dispatch.manifest.cause.as_str())
        }
        Effect::Close(dispatch) => format!("close {}", dispatch.id),
        Effect::Alert(alert) => {
            let turn = if alert.turn == Turn::Raised { "raised" } else { "resolved" };
            format!("alert {turn} {} ({}): {}", alert.key, alert.severity.as_str(), alert.text)
        }
        Effect::Observe { date, node } => format!("ask about {node}@{date}"),
        Effect::Check { node, check } => format!("ask check {check} of {node}"),
        Effect::ReleaseLock { node, run } => format!("release the lock of {node} {run}"),
        Effect::NotifyPartition { to, node, upstream } => format!("tell {to} of {node}: {}", upstream.extant),
    }
}
