//! What must hold in every schedule, looked at from outside: by what was published, stored, sent and acknowledged.
//!
//! The names are those of ARCHITECTURE.md. What they ask the code under test is whether a message says anything new, whether to
//! decide once more changes anything, and whether the journal gives the state.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::schedule::{Body, Outgoing, World};
use crate::domain::decide::{Decision, decide};
use crate::domain::effect::{Cause, Dispatch, Effect};
use crate::domain::event::{Event, Outcome};
use crate::domain::evidence::Version;
use crate::domain::graph::{Graph, Kind, Strength};
use crate::domain::id::{DispatchId, NodeId, RunId};
use crate::domain::partition::{End, Partition, Recorded, State};
use crate::domain::plan::plan;
use crate::domain::record::record;
use crate::domain::time::{Now, after};

/// A law that does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{law}: {text}")]
pub struct Broken {
    /// Its name.
    pub law: &'static str,
    /// What was seen.
    pub text: String,
}

pub(super) fn broken(law: &'static str, text: String) -> Broken {
    Broken { law, text }
}

fn dispatches(effects: &[Effect]) -> impl Iterator<Item = &Dispatch> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Dispatch(dispatch) => Some(dispatch),
        _ => None,
    })
}

/// Whether an input is there: an output was claimed and nobody is at work on it, or it is not required.
fn is_there(graph: &Graph, partition: &Partition, id: &NodeId) -> bool {
    let facts = partition.node(id);
    match graph.node(id).map(|node| (&node.kind, &node.needs)) {
        Some((Kind::Gate(gate), members)) => {
            let there = members.iter().filter(|member| is_there(graph, partition, &member.node)).count();
            let least = gate.quorum.iter().map(|tier| tier.count).min().unwrap_or(0);
            u32::try_from(there).is_ok_and(|there| there >= least)
                && gate.critical.iter().all(|member| is_there(graph, partition, member))
        }
        _ => {
            // Nobody knows what a source works on; what it has delivered stands.
            let again = facts.state.is_live() && graph.node(id).is_some_and(|node| node.task().is_some());
            matches!(facts.state, State::Skipped { .. })
                || facts.evidence.claim.is_some() && !again
                || facts.evidence.observation.as_ref().is_some_and(|seen| seen.coverage.is_full())
        }
    }
}

/// What one decision may do, whatever becomes of it.
pub(super) fn on_decision(world: &World<'_>, before: &Partition, decision: &Decision, now: Now) -> Result<(), Broken> {
    let next = &decision.next;
    if next.decided_at < before.decided_at {
        return Err(broken("time-forward", format!("{} before {}", next.decided_at, before.decided_at)));
    }
    for dispatch in dispatches(&decision.effects) {
        let Some(node) = world.graph.node(&dispatch.node) else { continue };
        let lacks =
            node.needs.iter().find(|need| need.strength == Strength::Hard && !is_there(world.graph, next, &need.node));
        if let Some(need) = lacks {
            return Err(broken("dispatch-after-ready", format!("{} without {}", dispatch.id, need.node)));
        }
        if next.hold.as_ref().is_some_and(|hold| hold.holds_at(next.decided_at)) {
            return Err(broken("held-is-still", format!("{} although the date is held", dispatch.id)));
        }
    }
    for (id, was) in &before.nodes {
        let is = next.node(id);
        if was.evidence.claim.is_some() && is.evidence.claim.is_none() {
            return Err(broken("success-stays", format!("{id} had succeeded")));
        }
        let given_up = is.ended.iter().filter(|(run, ended)| {
            ended.how == End::Fenced && was.ended.get(*run).is_none_or(|known| known.how != End::Fenced)
        });
        let dead_after = world.graph.node(id).map(|node| node.liveness.dead_after).unwrap_or_default();
        let heard = world.heard.max(now.heard_until);
        for (run, _) in given_up {
            if let Some(last) = was.runs.get(run).map(|run| run.last)
                && after(last, dead_after) > heard
            {
                let text = format!("{id} {run} was given up at {}, heard is {heard}", now.at);
                return Err(broken("silence-was-heard", text));
            }
        }
    }
    // Every fourth, for it costs as much as a decision.
    if (world.store.version + world.letters.len() as u64).is_multiple_of(4) {
        let again = world.decided(next, &[Event::Tick], now, 0)?;
        if let Some(effect) = again.effects.first() {
            return Err(broken("quiescent", format!("decided again at once it sends {effect:?}")));
        }
    }
    Ok(())
}

/// What a message that is delivered again, or comes from a run that was given up, may do: nothing.
pub(super) fn on_repetition(
    world: &World<'_>,
    before: &Partition,
    letters: &[usize],
    recorded: &[Recorded],
) -> Result<(), Broken> {
    let read = letters.iter().filter(|letter| matches!(world.letters[**letter].body, Body::Event(_)));
    for (letter, recorded) in read.zip(recorded) {
        let known = &world.letters[*letter];
        if *recorded != Recorded::Applied {
            continue;
        }
        let Body::Event(event) = &known.body else { continue };
        if known.once && letters.len() == 1 {
            return Err(broken("twice-is-once", format!("message {letter} was settled, and counts again: {event:?}")));
        }
        if let Event::Completed(completed) = event
            && matches!(completed.outcome, Outcome::Failed(_))
            && before.node(&completed.node).ended.get(&completed.run).is_some_and(|ended| ended.how == End::Fenced)
        {
            return Err(broken("fenced-is-still", format!("{} was given up, and its failure counts", completed.run)));
        }
    }
    Ok(())
}

/// What may be stored.
pub(super) fn on_commit(world: &World<'_>, base: u64, decision: &Decision) -> Result<(), Broken> {
    if base != world.store.version {
        let text = format!("decided on version {base}, stored over version {}", world.store.version);
        return Err(broken("no-lost-update", text));
    }
    for dispatch in dispatches(&decision.effects) {
        let Some(task) = world.graph.node(&dispatch.node).and_then(|node| node.task()) else { continue };
        let attempt = dispatch.manifest.attempt;
        let of_node = world.store.outbox.iter().filter_map(|entry| match &entry.what {
            Outgoing::Dispatch(earlier) if earlier.node == dispatch.node => Some(&**earlier),
            _ => None,
        });
        let mut decided = 0;
        let mut alike = 0;
        let followed = of_node.clone().skip(1).chain([dispatch]);
        for (earlier, next) in of_node.zip(followed) {
            if earlier.manifest.attempt >= attempt {
                return Err(broken("same-decision-same-id", format!("{} after {}", dispatch.id, earlier.id)));
            }
            decided += 1;
            // One of a silent phase is tried again and again, so far apart, whatever its budget for the inputs is.
            let trial = earlier.manifest.cause == Cause::NotStarted
                && after(earlier.decided_at, task.backoff_max) <= next.decided_at;
            alike += u32::from(versions(earlier).eq(versions(dispatch)) && !trial);
        }
        // What operators ask for comes on top.
        let more = 2 + world.retries.get(&dispatch.node).copied().unwrap_or(0);
        if alike >= task.attempts_max + task.not_started_max + more || decided >= task.dispatches_max + more {
            let text = format!("{} is the {}th on these inputs, the {}th of all", dispatch.id, alike + 1, decided + 1);
            return Err(broken("budget-bounds", text));
        }
    }
    Ok(())
}

/// Which inputs a dispatch was decided on.
fn versions(dispatch: &Dispatch) -> impl Iterator<Item = Option<Version>> {
    dispatch.manifest.inputs.iter().map(|input| input.version)
}

/// What may be sent.
pub(super) fn on_publish(world: &World<'_>, id: &DispatchId) -> Result<(), Broken> {
    let decided = world.store.outbox.iter().any(|entry| matches!(&entry.what, Outgoing::Dispatch(d) if d.id == *id));
    if decided { Ok(()) } else { Err(broken("published-was-decided", format!("{id} is not stored"))) }
}

/// What may be acknowledged: what is kept, or would change nothing any more.
pub(super) fn on_ack(world: &World<'_>, letter: usize) -> Result<(), Broken> {
    settled_well(world, letter, "is acknowledged")
}

fn settled_well(world: &World<'_>, letter: usize, when: &str) -> Result<(), Broken> {
    if world.store.parked.contains(&letter) {
        return Ok(());
    }
    let lost = |what: String| Err(broken("ack-after-commit", format!("message {letter} {when} {what}")));
    match &world.letters[letter].body {
        Body::Poison => lost("and kept nowhere".to_owned()),
        Body::Event(event) => {
            let mut partition = (*world.store.partition).clone();
            match record(world.graph, &mut partition, event) {
                told @ (Recorded::Applied | Recorded::Future | Recorded::Rejected) => {
                    lost(format!("and would be {told:?}: {event:?}"))
                }
                Recorded::Duplicate | Recorded::Superseded | Recorded::Fenced => Ok(()),
            }
        }
    }
}

/// What holds when nothing goes on any more.
pub(super) fn at_rest(world: &World<'_>) -> Result<(), Broken> {
    for letter in 0..world.letters.len() {
        if !world.letters[letter].settled {
            return Err(broken("comes-to-rest", format!("message {letter} was never settled")));
        }
        settled_well(world, letter, "was acknowledged")?;
    }
    for entry in &world.store.outbox {
        if let Outgoing::Dispatch(dispatch) = &entry.what
            && (!entry.sent || !world.accepted.contains_key(&dispatch.id))
        {
            return Err(broken("decided-gets-published", format!("{} was never taken", dispatch.id)));
        }
    }
    replays(world)?;
    believed(world)?;
    let partition = &world.store.partition;
    for node in world.graph.nodes.values().filter(|node| node.task().is_some()) {
        let state = &partition.node(&node.id).state;
        let left = match state {
            State::Dispatched { .. } | State::Running { .. } => true,
            State::Waiting | State::Failed { .. } => node.needs.iter().all(|need| stands(world, &need.node)),
            State::Succeeded { .. } | State::Exhausted { .. } | State::Skipped { .. } | State::Expired { .. } => false,
        };
        if left {
            let now = Now::caught_up(partition.decided_at);
            let verdict = plan(world.graph, &mut (**partition).clone(), now).verdicts.remove(&node.id);
            let blockers = verdict.map(|verdict| (verdict.want, verdict.blockers));
            return Err(broken("never-wedged", format!("{} is left {}: {blockers:?}", node.id, state.name())));
        }
    }
    Ok(())
}

/// Whether a node has succeeded, as far as anybody can say, with all that it needs.
fn stands(world: &World<'_>, id: &NodeId) -> bool {
    let Some(node) = world.graph.node(id) else { return false };
    let facts = world.store.partition.node(id);
    // An output that was to be made anew, and could not be, is a reason to wait.
    let last = world.said.iter().rev().find(|(of, ..)| of == id);
    let fresh = matches!(facts.state, State::Succeeded { .. })
        && facts.failure.is_none()
        && last.is_none_or(|(.., success)| *success);
    let itself = matches!(node.kind, Kind::Gate(_)) || fresh;
    itself && node.needs.iter().all(|need| stands(world, &need.node))
}

/// Folding the journal gives the partition.
fn replays(world: &World<'_>) -> Result<(), Broken> {
    // Every eighth, for it costs as much as the schedule.
    if !world.letters.len().is_multiple_of(8) {
        return Ok(());
    }
    let mut partition = Partition::new(world.store.partition.key.clone());
    for (events, now) in &world.store.journal {
        let decision = decide(world.graph, &partition, events, *now);
        partition = decision.map_err(|violation| broken(violation.slug, violation.text))?.next;
    }
    if partition == *world.store.partition {
        return Ok(());
    }
    Err(broken("replay-equals-state", "the journal folds to another partition".to_owned()))
}

/// What is believed of an output is what was published last, whatever came when.
fn believed(world: &World<'_>) -> Result<(), Broken> {
    let mut told: BTreeMap<&NodeId, BTreeMap<&RunId, Timestamp>> = BTreeMap::new();
    for (node, run, published, success) in &world.said {
        if *success {
            told.entry(node).or_default().entry(run).or_insert(*published);
        }
    }
    for (node, runs) in told {
        let Some((run, published)) = runs.into_iter().max_by_key(|(run, published)| (*published, (*run).clone()))
        else {
            continue;
        };
        let facts = world.store.partition.node(node);
        let claim = facts.evidence.claim.as_ref().map(|claim| (&claim.run, claim.published));
        if claim != Some((run, published)) {
            let text = format!("{node}: {run} of {published} was published last, believed is {claim:?}");
            return Err(broken("order-free", text));
        }
    }
    Ok(())
}
