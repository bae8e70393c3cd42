//! What every decision must keep, checked on every decision in every build.
//!
//! A violation is our bug: the engine refuses the decision, parks its events, raises an alert, and leaves the other
//! dates running.

use super::effect::Effect;
use super::graph::{Graph, Kind};
use super::partition::{Partition, State};
use super::plan::Plan;
use super::readiness::Blocker;

/// A named invariant that a decision would break.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invariant {slug}: {text}")]
pub struct Violation {
    /// The name used in ARCHITECTURE.md, the properties, the model and the scenarios.
    pub slug: &'static str,
    /// What would break it.
    pub text: String,
}

/// Checks one decision.
pub fn check(graph: &Graph, before: &Partition, after: &Partition, plan: &Plan) -> Result<(), Violation> {
    let broken = |slug, text: String| Err(Violation { slug, text });
    if after.decided_at < before.decided_at {
        return broken("time-forward", format!("{} before {}", after.decided_at, before.decided_at));
    }
    for effect in &plan.effects {
        let Effect::Dispatch(dispatch) = effect else { continue };
        let Some(task) = graph.node(&dispatch.node).and_then(|node| node.dispatchable()) else {
            return broken("dispatch-after-ready", format!("{} cannot be dispatched", dispatch.node));
        };
        let facts = after.node(&dispatch.node);
        if plan.verdicts.get(&dispatch.node).is_none_or(|verdict| !verdict.blockers.is_empty()) {
            return broken("dispatch-after-ready", format!("{} was dispatched although blocked", dispatch.id));
        }
        let holds = [&after.hold, &facts.hold];
        if holds.into_iter().flatten().any(|hold| hold.holds_at(after.decided_at)) {
            return broken("held-is-still", format!("{} was dispatched although held", dispatch.id));
        }
        if dispatch.id != facts.attempt.dispatch_id(&after.key, &dispatch.node) {
            return broken("same-decision-same-id", format!("{} names {}", dispatch.id, facts.attempt));
        }
        if before.node(&dispatch.node).attempt >= facts.attempt {
            return broken("same-decision-same-id", format!("{} was decided before", dispatch.id));
        }
        let spent = facts.last.as_ref().and_then(|last| facts.spent.get(&last.fingerprint)).copied();
        let spent = spent.unwrap_or_default();
        // What was spent under another declaration, or by an operator's wish, is not this decision's.
        let had = facts
            .last
            .as_ref()
            .and_then(|last| before.nodes.get(&dispatch.node)?.spent.get(&last.fingerprint).copied());
        let had = had.unwrap_or_default();
        let overspent = spent.attempts > had.attempts && spent.attempts > task.attempts_max
            || spent.repairs > had.repairs && spent.repairs > 1;
        if overspent {
            let text = format!("{}: {} attempts and {} repairs", dispatch.id, spent.attempts, spent.repairs);
            return broken("budget-bounds", text);
        }
    }
    for (id, was) in &before.nodes {
        let is = after.node(id);
        let lost = was.evidence.claim.is_some() && is.evidence.claim.is_none();
        let undone = matches!(was.state, State::Succeeded { .. })
            && matches!(is.state, State::Waiting | State::Expired { .. } | State::Skipped { .. });
        if lost || undone {
            return broken("success-stays", format!("{id} was {}, is {}", was.state.name(), is.state.name()));
        }
    }
    if let Some((id, _)) = wedged(graph, after, plan) {
        return broken("never-wedged", format!("{id} can run, nothing is in its way, and nothing will wake it"));
    }
    Ok(())
}

/// A task that wants to run although nothing it waits for can come: no input, no clock, no operator.
fn wedged<'a>(graph: &'a Graph, after: &Partition, plan: &'a Plan) -> Option<(&'a super::id::NodeId, ())> {
    plan.verdicts.iter().find_map(|(id, verdict)| {
        let node = graph.node(id)?;
        let live = after.node(id).state.is_live();
        let unwoken_run = live && plan.wake_at.is_none();
        let by_clock_alone =
            !verdict.blockers.is_empty() && verdict.blockers.iter().all(|blocker| blocker.until().is_some());
        let held_for_good = verdict.blockers.iter().any(|blocker| matches!(blocker, Blocker::Held { until: None, .. }));
        let unwoken_wait = verdict.want.is_some() && by_clock_alone && !held_for_good && plan.wake_at.is_none();
        let is_task = matches!(node.kind, Kind::Task(_));
        (is_task && (unwoken_run || unwoken_wait)).then_some((id, ()))
    })
}
