//! Runs that want somebody's eye: those that hang, those that failed, and those that begin over and over.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::day::{Day, Health, RunView, runs};
use crate::domain::failure::class_of;
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, RunId};
use crate::domain::partition::FailureKind;
use crate::domain::time::after;

/// A run that has not ended and should have, or comes on no further, with the reason in words.
#[derive(Clone, Debug, Serialize)]
pub struct Stuck {
    /// Which.
    #[serde(flatten)]
    pub run: RunView,
    /// Why it counts as stuck.
    pub why: String,
}

/// The stuck runs of a date: silent for too long, ended without a word of how, longer at it than declared, or beating while the
/// figure of their progress stands still.
pub fn stuck(graph: &Graph, day: &Day) -> Vec<Stuck> {
    let why = |run: &RunView| {
        let liveness = &graph.node(&run.node)?.liveness;
        let minutes = |from: Timestamp| day.now.at.duration_since(from).as_mins();
        match run.health {
            Health::Dead => return Some(format!("silent for {} min: it counts as dead", minutes(run.last))),
            Health::Stale => return Some(format!("silent for {} min", minutes(run.last))),
            Health::Alive => {}
        }
        if run.ended_unreported {
            return Some("it says that it has ended, and not how".to_owned());
        }
        let stands = liveness.stall.filter(|stall| day.now.reached(after(run.progressed_at, stall.close_after)));
        if stands.is_some() && run.total > 0 {
            return Some(format!("at {} of {} for {} min", run.done, run.total, minutes(run.progressed_at)));
        }
        let is_long = day.now.reached(after(run.first, liveness.duration_max));
        is_long.then(|| format!("at it for {} min, {} at most", minutes(run.first), liveness.duration_max.as_mins()))
    };
    runs(graph, day).into_iter().filter_map(|run| Some(Stuck { why: why(&run)?, run })).collect()
}

/// The last failure of a node, which no success has overcome.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// Of which date.
    pub date: Date,
    /// Of which node.
    pub node: NodeId,
    /// Its phase.
    pub phase: String,
    /// The run, where one was heard of.
    pub run: Option<RunId>,
    /// When.
    pub at: Timestamp,
    /// What kind.
    pub kind: FailureKind,
    /// The declared class of failures it is one of, if any.
    pub class: Option<String>,
    /// The producer's words, or ours.
    pub text: String,
    /// Where the node stands now.
    pub state: &'static str,
    /// Dispatches of the node for this date, ever.
    pub dispatches: u32,
}

/// The failures of a date that stand, the latest first.
pub fn failed(graph: &Graph, day: &Day) -> Vec<Failed> {
    let of = |shown: &crate::domain::view::NodeView| {
        let failure = shown.failure.as_ref().filter(|_| !matches!(shown.state, "succeeded" | "skipped"))?;
        Some(Failed {
            date: day.partition.key.date,
            node: shown.node.clone(),
            phase: shown.phase.clone(),
            run: failure.run.clone(),
            at: failure.at,
            kind: failure.kind,
            class: class_of(graph, failure).map(|class| class.name.to_string()),
            text: failure.text.to_string(),
            state: shown.state,
            dispatches: day.partition.node(&shown.node).dispatches,
        })
    };
    let mut found: Vec<Failed> = day.view.nodes.iter().filter_map(of).collect();
    found.sort_by_key(|failed| std::cmp::Reverse(failed.at));
    found
}

/// A node whose runs begin over and over.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// Of which date.
    pub date: Date,
    /// Of which node.
    pub node: NodeId,
    /// Its phase.
    pub phase: String,
    /// Runs that have begun within the last hour, whoever began them.
    pub begun: u32,
    /// Of these, tipoff asked at most for so many: its dispatches for this date, ever.
    pub dispatches: u32,
    /// More than so many within an hour are told of.
    pub warn_above: u32,
    /// More than so many are critical.
    pub critical_above: u32,
    /// Runs that have not ended.
    pub alive: usize,
}

/// The nodes of a date of which more runs begin than declared, the worst first.
pub fn storms(graph: &Graph, day: &Day) -> Vec<Storm> {
    let of = |(id, facts): (&NodeId, &crate::domain::partition::Node)| {
        let node = graph.node(id)?;
        let limits = node.liveness.storm?;
        let begun = facts.begun.in_the_hour_before(day.now.at);
        (begun > limits.warn_above).then(|| Storm {
            date: day.partition.key.date,
            node: id.clone(),
            phase: node.phase.clone(),
            begun,
            dispatches: facts.dispatches,
            warn_above: limits.warn_above,
            critical_above: limits.critical_above,
            alive: facts.runs.len(),
        })
    };
    let mut found: Vec<Storm> = day.partition.nodes.iter().filter_map(of).collect();
    found.sort_by_key(|storm| std::cmp::Reverse(storm.begun));
    found
}
