//! What another declaration would make of the dates in flight, decided on copies of them.

use jiff::Timestamp;
use serde::Serialize;

use super::Engine;
use super::step::StepError;
use crate::domain::decide::decide;
use crate::domain::effect::Effect;
use crate::domain::event::Event;
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey};
use crate::domain::partition::{Node, Partition};
use crate::domain::time::Now;
use crate::domain::view::{self, NodeView, PartitionView};
use crate::pipeline::Declarations;

/// Dates of one pipeline that are looked at: those behind them are history, and decided by what is known of them.
const DATES_MAX: usize = 32;

/// What another declaration would do.
#[derive(Debug, Serialize)]
pub struct Revision {
    /// The declaration in force, as its decisions name it.
    pub from: String,
    /// The other one.
    pub to: String,
    /// Dates in flight that it would change, the latest first.
    pub dates: Vec<Revised>,
    /// Dates that were looked at.
    pub looked_at: usize,
    /// When.
    pub at: Timestamp,
}

impl Revision {
    /// Whether something would be lost that is known now, or stand in the way of what nothing stands in the way of.
    pub fn takes_away(&self) -> bool {
        self.dates.iter().any(|date| !date.lost.is_empty() || !date.unsatisfied.is_empty())
    }
}

/// What it would do to one date.
#[derive(Debug, Serialize)]
pub struct Revised {
    /// Which.
    pub partition: PartitionKey,
    /// Nodes that would be dispatched at once, and are not now.
    pub dispatches: Vec<NodeId>,
    /// Nodes in whose way nothing stands now and something would.
    pub unsatisfied: Vec<Unsatisfied>,
    /// Nodes in whose way something stands now and nothing would.
    pub satisfied: Vec<NodeId>,
    /// Facts whose node would be gone.
    pub lost: Vec<Lost>,
    /// Whether the date would be complete, where that changes.
    pub complete: Option<bool>,
}

impl Revised {
    fn is_nothing(&self) -> bool {
        let lists = self.dispatches.len() + self.unsatisfied.len() + self.satisfied.len() + self.lost.len();
        lists == 0 && self.complete.is_none()
    }
}

/// A node that would have to wait again.
#[derive(Debug, Serialize)]
pub struct Unsatisfied {
    /// Which.
    pub node: NodeId,
    /// Its state.
    pub state: &'static str,
    /// What would stand in its way.
    pub by: String,
}

/// Facts that would belong to nothing.
#[derive(Debug, Serialize)]
pub struct Lost {
    /// Their node.
    pub node: NodeId,
    /// Its state.
    pub state: &'static str,
    /// Executions of it that are alive.
    pub alive: usize,
}

impl Engine {
    /// What `other` would make of the dates in flight. Nothing is changed.
    ///
    /// # Errors
    /// If the store cannot be read, or a decision would break an invariant.
    pub async fn revise(&self, other: &Declarations) -> Result<Revision, StepError> {
        let now = Now::caught_up(self.clock.now());
        let mut dates = Vec::new();
        let mut looked_at = 0;
        for (id, pipeline) in &self.declarations.pipelines {
            let theirs = other.pipelines.get(id).map(|pipeline| &*pipeline.graph);
            for date in self.store.dates(id, DATES_MAX).await? {
                let key = PartitionKey { pipeline: id.clone(), date };
                let partition = self.store.load(&key).await?.partition;
                looked_at += 1;
                let revised = revised(&pipeline.graph, theirs, &partition, now)?;
                if !revised.is_nothing() {
                    dates.push(revised);
                }
            }
        }
        let name = |declarations: &Declarations| {
            let revision = declarations.pipelines.values().next().map_or(0, |pipeline| pipeline.graph.revision);
            format!("{revision:016x}")
        };
        Ok(Revision { from: name(&self.declarations), to: name(other), dates, looked_at, at: now.at })
    }
}

/// What a date is under a graph once time has done its own, and what is sent at once.
fn under(graph: &Graph, partition: &Partition, now: Now) -> Result<(PartitionView, Vec<NodeId>), StepError> {
    let decision = decide(graph, partition, &[Event::Tick], now)?;
    let sent = decision.effects.iter().filter_map(|effect| match effect {
        Effect::Dispatch(sent) => Some(sent.node.clone()),
        _ => None,
    });
    Ok((view::view(graph, &decision.next, now), sent.collect()))
}

fn revised(ours: &Graph, theirs: Option<&Graph>, partition: &Partition, now: Now) -> Result<Revised, StepError> {
    let is_known = |(id, node): &(&NodeId, &Node)| **node != Node::default() && ours.node(id.as_str()).is_some();
    let lost = partition.nodes.iter().filter(is_known);
    let lost = lost.filter(|(id, _)| theirs.is_none_or(|theirs| theirs.node(id.as_str()).is_none()));
    let lost = lost.map(|(id, node)| Lost { node: id.clone(), state: node.state.name(), alive: node.runs.len() });
    let mut found = Revised {
        partition: partition.key.clone(),
        dispatches: Vec::new(),
        unsatisfied: Vec::new(),
        satisfied: Vec::new(),
        lost: lost.collect(),
        complete: None,
    };
    let Some(theirs) = theirs else { return Ok(found) };
    let (before, sent_before) = under(ours, partition, now)?;
    let (after, sent_after) = under(theirs, partition, now)?;
    found.dispatches = sent_after.into_iter().filter(|node| !sent_before.contains(node)).collect();
    found.complete = (before.complete != after.complete).then_some(after.complete);
    for node in &after.nodes {
        let Some(was) = before.nodes.iter().find(|was| was.node == node.node) else { continue };
        match (is_ready(was), is_ready(node)) {
            (true, false) => found.unsatisfied.push(Unsatisfied {
                node: node.node.clone(),
                state: node.state,
                by: node.blockers.first().map_or_else(String::new, |blocker| view::brief(blocker, partition.key.date)),
            }),
            // What is dispatched at once is told as that.
            (false, true) if !found.dispatches.contains(&node.node) => found.satisfied.push(node.node.clone()),
            _ => {}
        }
    }
    Ok(found)
}

/// Whether nothing stands in the way of a node that is not done, or a gate is open.
fn is_ready(node: &NodeView) -> bool {
    match node.state {
        "open" => true,
        "closed" => false,
        "succeeded" | "skipped" => true,
        _ => node.blockers.is_empty(),
    }
}
