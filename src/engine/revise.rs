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
use crate::domain::plan::{Plan, plan};
use crate::domain::time::Now;
use crate::domain::view::{self, Blocker, NodeView, PartitionView};
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

/// A date under a graph, once time has done its own.
struct Under {
    view: PartitionView,
    plan: Plan,
    /// What is sent at once.
    sent: Vec<NodeId>,
}

fn under(graph: &Graph, partition: &Partition, now: Now) -> Result<Under, StepError> {
    let decision = decide(graph, partition, &[Event::Tick], now)?;
    let sent = decision.effects.iter().filter_map(|effect| match effect {
        Effect::Dispatch(sent) => Some(sent.node.clone()),
        _ => None,
    });
    let sent = sent.collect();
    let plan = plan(graph, &mut decision.next.clone(), now);
    Ok(Under { view: view::view(graph, &decision.next, now), plan, sent })
}

impl Under {
    /// What its inputs put in the way of a node; nothing where that does not matter any more.
    fn in_the_way(&self, node: &NodeView) -> Option<&[Blocker]> {
        let is_over = matches!(node.state, "succeeded" | "skipped" | "expired" | "exhausted");
        let found = self.plan.verdicts.get(&node.node).filter(|_| !is_over)?;
        // A gate has its own.
        Some(if node.kind == "gate" { &found.blockers } else { &found.readiness.blockers })
    }
}

fn revised(ours: &Graph, theirs: Option<&Graph>, partition: &Partition, now: Now) -> Result<Revised, StepError> {
    let is_known = |(id, node): &(&NodeId, &Node)| **node != Node::default() && ours.node(id).is_some();
    let lost = partition.nodes.iter().filter(is_known);
    let lost = lost.filter(|(id, _)| theirs.is_none_or(|theirs| theirs.node(id).is_none()));
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
    let (before, after) = (under(ours, partition, now)?, under(theirs, partition, now)?);
    found.dispatches = after.sent.iter().filter(|node| !before.sent.contains(node)).cloned().collect();
    found.complete = (before.view.complete != after.view.complete).then_some(after.view.complete);
    for node in &after.view.nodes {
        let was = before.view.nodes.iter().find(|was| was.node == node.node).and_then(|was| before.in_the_way(was));
        match (was, after.in_the_way(node)) {
            (Some([]), Some([first, ..])) => found.unsatisfied.push(Unsatisfied {
                node: node.node.clone(),
                state: node.state,
                by: view::brief(first, partition.key.date),
            }),
            // What is dispatched at once is told as that.
            (Some([_, ..]), Some([])) if !found.dispatches.contains(&node.node) => {
                found.satisfied.push(node.node.clone())
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::{self, PIPELINE, TOPICS};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The shipped pipelines with a patch laid over them.
    fn declared(patch: &Value) -> Declarations {
        let text = pipeline::with_overrides("pipeline.yaml", PIPELINE, patch).unwrap();
        pipeline::load(("topics.yaml", TOPICS), ("pipeline.yaml", &text)).unwrap()
    }

    fn graph(declarations: &Declarations) -> &Graph {
        &declarations.pipelines["nba"].graph
    }

    /// A day whose predictions are done and counted.
    fn day(graph: &Graph) -> Partition {
        let done: Event = serde_json::from_value(json!({
            "event": "completed", "node": "predictions", "run": "batch-1", "outcome": { "done": "whole" }, "records": 81,
            "published": at("2026-01-23T17:00:00Z"), "correlation": null, "dispatch": null,
        }))
        .unwrap();
        let observed: Event = serde_json::from_value(json!({
            "event": "observed", "node": "predictions", "coverage": { "observed": 81, "expected": 81 }, "units": {},
            "not_kept": false, "at": at("2026-01-23T17:03:00Z"),
        }))
        .unwrap();
        let partition = Partition::new(PartitionKey { pipeline: "nba".into(), date: date(2026, 1, 23) });
        let after = |partition: &Partition, event: Event, at: Timestamp| {
            decide(graph, partition, &[event], Now::caught_up(at)).unwrap().next
        };
        let partition = after(&partition, done, at("2026-01-23T17:00:01Z"));
        after(&partition, observed, at("2026-01-23T17:03:01Z"))
    }

    #[test]
    fn a_need_more_is_in_the_way_and_a_need_less_sends() {
        let export = |patch: Value| declared(&json!({ "pipelines": { "nba": { "nodes": { "export": patch } } } }));
        let more = json!({ "grading": { "strength": "hard" } });
        let (shipped, other) = (export(json!({})), export(json!({ "needs": more })));
        let now = Now::caught_up(at("2026-01-23T17:05:00Z"));
        let partition = day(graph(&shipped));
        let of = |found: &[Unsatisfied]| found.iter().map(|one| one.node.to_string()).collect::<Vec<_>>();
        let taken = revised(graph(&shipped), Some(graph(&other)), &partition, now).unwrap();
        assert_eq!(of(&taken.unsatisfied), ["export"], "{taken:?}");
        assert!(taken.unsatisfied[0].by.contains("grading"), "{taken:?}");
        assert!(taken.dispatches.is_empty() && taken.lost.is_empty());
        // The other way round, what waited for it goes; the check that is asked first is left out, as nobody answers it here.
        let (less, most) = (export(json!({ "checks": null })), export(json!({ "checks": null, "needs": more })));
        let given = revised(graph(&most), Some(graph(&less)), &day(graph(&most)), now).unwrap();
        assert_eq!(given.dispatches, [NodeId::from("export")], "{given:?}");
        assert!(given.unsatisfied.is_empty());
        // The same is nothing, and where the pipeline is gone, all of it is.
        assert!(revised(graph(&shipped), Some(graph(&shipped)), &partition, now).unwrap().is_nothing());
        let gone = revised(graph(&shipped), None, &partition, now).unwrap();
        assert!(gone.lost.iter().any(|lost| lost.node.as_str() == "predictions"), "{gone:?}");
    }
}
