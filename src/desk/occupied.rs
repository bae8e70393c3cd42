//! Who occupies a node: executions that are alive as far as anybody has said, and until when that is believed.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::day::{Day, RunView, runs};
use crate::domain::graph::Graph;
use crate::domain::partition::Word;
use crate::domain::time::after;

/// An execution that keeps its node from being dispatched.
#[derive(Clone, Debug, Serialize)]
pub struct Occupied {
    /// Which.
    #[serde(flatten)]
    pub run: RunView,
    /// From when on its silence is told of.
    pub stale_at: Timestamp,
    /// From when on it counts as dead, and is fenced without anybody.
    pub dead_at: Timestamp,
    /// What an operator has said of it.
    pub word: Option<Word>,
    /// How its progress is watched, where it is.
    pub batch: Option<Batch>,
}

/// A run whose progress is watched: a batch that stands still is closed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Batch {
    /// From when on its processor is asked to close it, if it does not come on.
    pub close_at: Timestamp,
    /// From when on it has ended with what it has done.
    pub over_at: Timestamp,
    /// When its processor was asked.
    pub asked_at: Option<Timestamp>,
}

/// The runs that occupy the nodes of a date, the longest silent first.
pub fn occupied(graph: &Graph, day: &Day) -> Vec<Occupied> {
    let of = |run: RunView| {
        let liveness = &graph.node(&run.node)?.liveness;
        let known = day.partition.nodes.get(&run.node)?.runs.get(&run.run)?;
        let batch = liveness.stall.filter(|_| run.total > 0 && !run.ended_unreported).map(|stall| Batch {
            close_at: after(run.progressed_at, stall.close_after),
            over_at: after(run.progressed_at, stall.over_after),
            asked_at: known.closing_at,
        });
        Some(Occupied {
            stale_at: after(run.last, liveness.stale_after),
            dead_at: after(run.last, liveness.dead_after),
            word: known.word.clone(),
            batch,
            run,
        })
    };
    runs(graph, day).into_iter().filter_map(of).collect()
}

/// What may be occupied on `date` by one node.
pub fn by_node<'o>(all: &'o [Occupied], date: Date, node: &str) -> Vec<&'o Occupied> {
    all.iter().filter(|found| found.run.date == date && found.run.node.as_str() == node).collect()
}
