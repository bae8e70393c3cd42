//! What a request would do: the decision that it would cause, taken on a copy, of which nothing is stored.

use jiff::Timestamp;
use serde::Serialize;

use super::Engine;
use super::step::StepError;
use crate::domain::decide::decide;
use crate::domain::effect::{Cause, Dispatch, Effect, Turn};
use crate::domain::event::{Completed, Event, Outcome, Request};
use crate::domain::evidence::Extent;
use crate::domain::id::{AlertKey, DispatchId, NodeId, PartitionKey, RunId};
use crate::domain::partition::Recorded;
use crate::domain::stop::Stop;
use crate::domain::view::{Blocker, view, words};

/// What would follow at once. What follows from that later depends on the world.
#[derive(Debug, Serialize)]
pub struct Foreseen {
    /// The date.
    pub partition: PartitionKey,
    /// What the request would be recorded as.
    pub recorded: Recorded,
    /// Nodes that would change their state.
    pub moved: Vec<Moved>,
    /// What would be asked for.
    pub dispatches: Vec<Asked>,
    /// Alerts that would begin or end.
    pub alerts: Vec<(AlertKey, Turn)>,
    /// Where the node that the request is about would stand; nothing where it is about the whole date.
    pub node: Option<Standing>,
    /// Why nothing would leave in spite of that.
    pub stopped: Option<Stop>,
    /// When it was foreseen.
    pub at: Timestamp,
}

/// A node that would change its state.
#[derive(Debug, Serialize)]
pub struct Moved {
    /// Which.
    pub node: NodeId,
    /// Where it stands.
    pub from: &'static str,
    /// Where it would stand.
    pub to: &'static str,
}

/// A dispatch that would be decided.
#[derive(Debug, Serialize)]
pub struct Asked {
    /// Its id.
    pub id: DispatchId,
    /// Of which node.
    pub node: NodeId,
    /// Why.
    pub cause: Cause,
    /// Whether less than everything is there.
    pub degraded: bool,
    /// What is not there.
    pub missing: Vec<NodeId>,
}

/// Where a node would stand.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// Which.
    pub node: NodeId,
    /// Its state.
    pub state: &'static str,
    /// What would still be in its way, in words.
    pub blocked_by: Vec<String>,
}

/// What would follow, and then.
#[derive(Debug)]
pub struct Ahead {
    /// At once.
    pub foreseen: Foreseen,
    /// What would be sent, in full.
    pub sent: Vec<Dispatch>,
    /// What would be asked for as soon as all of that has succeeded, as far as their words alone decide it.
    pub then: Vec<Asked>,
}

impl Asked {
    pub(super) fn of(sent: &Dispatch) -> Self {
        Self {
            id: sent.id.clone(),
            node: sent.node.clone(),
            cause: sent.manifest.cause,
            degraded: sent.manifest.degraded,
            missing: sent.manifest.missing.iter().cloned().collect(),
        }
    }
}

impl Engine {
    /// Foresees what `request` would do to the date `key`.
    ///
    /// # Errors
    /// If the store cannot be read, or the decision would break an invariant.
    pub async fn foresee(&self, key: &PartitionKey, request: &Request) -> Result<Foreseen, StepError> {
        Ok(self.look_ahead(key, request).await?.foreseen)
    }

    /// Foresees what `request` would do to the date `key`, and what would come of that.
    ///
    /// # Errors
    /// If the store cannot be read, or the decision would break an invariant.
    pub async fn look_ahead(&self, key: &PartitionKey, request: &Request) -> Result<Ahead, StepError> {
        let graph = self.graph(&key.pipeline).ok_or_else(|| StepError::NoPipeline(key.pipeline.to_string()))?;
        let stored = self.store.load(key).await?;
        let now = self.now();
        // What would happen without the request is no consequence of it.
        let without = decide(graph, &stored.partition, &[Event::Tick], now)?.next;
        let decision = decide(graph, &without, &[Event::Requested(request.clone())], now)?;
        let moved = graph.order.iter().filter_map(|id| {
            let (from, to) = (without.node(id).state.name(), decision.next.node(id).state.name());
            (from != to).then(|| Moved { node: id.clone(), from, to })
        });
        let (mut dispatches, mut alerts, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for effect in &decision.effects {
            match effect {
                Effect::Dispatch(asked) | Effect::Close(asked) => {
                    dispatches.push(Asked::of(asked));
                    sent.push(asked.clone());
                }
                Effect::Alert(alert) => alerts.push((alert.key.clone(), alert.turn)),
                Effect::Observe { .. }
                | Effect::Check { .. }
                | Effect::ReleaseLock { .. }
                | Effect::NotifyPartition { .. } => {}
            }
        }
        let after = view(graph, &decision.next, now);
        let node = request.command.node().and_then(|id| {
            let found = after.nodes.iter().find(|node| node.node == *id)?;
            let blocked_by = found.blockers.iter().map(|blocker: &Blocker| words(blocker, key.date)).collect();
            Some(Standing { node: id.clone(), state: found.state, blocked_by })
        });
        let recorded = decision.recorded.first().copied().unwrap_or(Recorded::Rejected);
        let stopped = self.stopped(&key.pipeline).await?;
        let foreseen = Foreseen {
            partition: key.clone(),
            recorded,
            moved: moved.collect(),
            dispatches,
            alerts,
            node,
            stopped,
            at: now.at,
        };
        let done: Vec<Event> =
            sent.iter().filter(|sent| sent.manifest.closes.is_none()).map(|sent| succeeded(sent, now.at)).collect();
        let then = if done.is_empty() { Vec::new() } else { decide(graph, &decision.next, &done, now)?.effects };
        let then = then.iter().filter_map(|effect| match effect {
            Effect::Dispatch(asked) => Some(Asked::of(asked)),
            _ => None,
        });
        Ok(Ahead { foreseen, sent, then: then.collect() })
    }
}

fn succeeded(sent: &Dispatch, at: Timestamp) -> Event {
    Event::Completed(Completed {
        node: sent.node.clone(),
        run: RunId::from(sent.id.as_str()),
        outcome: Outcome::Done(Extent::Whole),
        records: None,
        published: at,
        correlation: None,
        dispatch: Some(sent.id.clone()),
        unit: None,
        trace: None,
    })
}
