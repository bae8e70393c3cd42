//! What is believed of a date beside what the warehouse says of it now, and the one taken to the other.
//!
//! There is no flag that anybody could set: what differs is told to the date as an observation, as every answer of the
//! warehouse is, and what follows is decided from that.

use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinSet;

use super::Engine;
use super::foresee::Asked;
use super::relay::observed;
use super::step::StepError;
use crate::domain::decide::decide;
use crate::domain::effect::Effect;
use crate::domain::event::{Event, Observed};
use crate::domain::evidence::Extant;
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey};
use crate::domain::partition::Partition;
use crate::domain::timetable::Timetable;
use crate::domain::units::extant;

/// Questions asked at once; the warehouse has work of its own.
const AT_ONCE: usize = 8;

/// A date beside its evidence.
#[derive(Debug, Serialize)]
pub struct Reconciled {
    /// Which date.
    pub partition: PartitionKey,
    /// Outputs that were asked about.
    pub asked: usize,
    /// Of these, outputs of which the warehouse keeps nothing, or expects nothing on that date.
    pub not_kept: usize,
    /// Outputs of which it could not tell.
    pub unknown: Vec<NodeId>,
    /// Where belief and evidence differ, in the order of the work.
    pub differences: Vec<Difference>,
    /// What would be dispatched at once if belief followed evidence.
    pub dispatches: Vec<Asked>,
    /// The answers that differ, as the date is told of them.
    #[serde(skip)]
    answers: Vec<Observed>,
}

/// A node of which something else is believed than is there.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Which.
    pub node: NodeId,
    /// What is believed.
    pub believed: Stands,
    /// What would be.
    pub would_be: Stands,
    /// Whether it counts as done and less is there than it needs.
    pub is_short: bool,
}

/// Where a node stands, and how much of its output is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stands {
    /// Its state.
    pub state: &'static str,
    /// Its output.
    pub output: Extant,
}

impl Stands {
    fn of(graph: &Graph, partition: &Partition, id: &NodeId) -> Self {
        let output =
            graph.node(id).map_or(Extant::Nothing, |node| extant(&Timetable::of(graph, partition), partition, node));
        Self { state: partition.node(id).state.name(), output }
    }
}

impl Engine {
    /// Asks the warehouse about every output of a date that it can be asked about, and compares. Nothing is changed.
    ///
    /// # Errors
    /// If the store cannot be read, or the decision would break an invariant.
    pub async fn compare(&self, key: &PartitionKey) -> Result<Reconciled, StepError> {
        let graph = self.graph(&key.pipeline).ok_or_else(|| StepError::NoPipeline(key.pipeline.to_string()))?;
        let now = self.now();
        let probed: Vec<&NodeId> =
            graph.order.iter().filter(|id| graph.node(id).is_some_and(|node| node.probed)).collect();
        let mut answers = Vec::new();
        for some in probed.chunks(AT_ONCE) {
            let mut asking = JoinSet::new();
            for &id in some {
                let (warehouse, key, id) = (self.warehouse.clone(), key.clone(), id.clone());
                asking.spawn(async move { observed(&*warehouse, &key, &id, now.at).await });
            }
            answers.extend(asking.join_all().await);
        }
        answers.sort_by_key(|answer| graph.order.iter().position(|id| *id == answer.node));
        let before = decide(graph, &self.store.load(key).await?.partition, &[Event::Tick], now)?.next;
        let known = |answer: &&Observed| answer.coverage.is_some();
        let told: Vec<Event> = answers.iter().filter(known).cloned().map(Event::Observed).collect();
        let decision = decide(graph, &before, &told, now)?;
        let mut differences = Vec::new();
        for answer in answers.iter().filter(known) {
            let believed = Stands::of(graph, &before, &answer.node);
            let would_be = Stands::of(graph, &decision.next, &answer.node);
            // A share that nothing is said against is no difference: a completion said that all of it is there, and it is.
            let same = believed == would_be
                || believed.state == would_be.state && believed.output.is_whole() && would_be.output.is_whole();
            if !same {
                let required = graph.required_of(&answer.node);
                let is_short = believed.state == "succeeded" && would_be.output.reaches(required) == Some(false);
                differences.push(Difference { node: answer.node.clone(), believed, would_be, is_short });
            }
        }
        let differs = |answer: &Observed| differences.iter().any(|found| found.node == answer.node);
        let dispatches = decision.effects.iter().filter_map(|effect| match effect {
            Effect::Dispatch(sent) => Some(Asked::of(sent)),
            _ => None,
        });
        Ok(Reconciled {
            partition: key.clone(),
            asked: answers.len(),
            not_kept: answers.iter().filter(|answer| answer.not_kept).count(),
            unknown: answers
                .iter()
                .filter(|answer| answer.coverage.is_none() && !answer.not_kept)
                .map(|answer| answer.node.clone())
                .collect(),
            dispatches: dispatches.collect(),
            answers: answers.iter().filter(|answer| differs(answer)).cloned().collect(),
            differences,
        })
    }

    /// Has the date follow the evidence that was found, as `actor` asks. Returns how many answers it took in.
    ///
    /// # Errors
    /// If it is not kept.
    pub async fn reconcile(&self, found: &Reconciled, actor: &Arc<str>) -> Result<usize, StepError> {
        let asked = |answer: &Observed| Observed { actor: Some(Arc::clone(actor)), ..answer.clone() };
        let told: Vec<Event> = found.answers.iter().map(asked).map(Event::Observed).collect();
        if !told.is_empty() {
            self.step(&found.partition, &told).await?;
        }
        Ok(told.len())
    }
}
