//! What a node may cost: tries for one set of inputs, dispatches for one date, and the time between them.

use jiff::Timestamp;

use super::super::effect::Cause;
use super::super::failure::{self, Ends};
use super::super::graph::{Graph, Node, Rebuild, Task};
use super::super::partition::{Fingerprint, Node as Facts, Partition, State};
use super::super::readiness::{Blocker, Readiness};
use super::super::time::{Now, after};

/// Input sets on which others' failures are counted for a node; our own are few, since a date has so many dispatches.
const FINGERPRINTS_MAX: usize = 64;

/// A dispatch that was not started is not a used attempt; where it counts at all, it is counted by itself.
pub(super) fn give_back(facts: &mut Facts, counts: bool) {
    if let Some(last) = &facts.last
        && let Some(spent) = facts.spent.get_mut(&last.fingerprint)
    {
        if is_charged(last.cause) {
            spent.attempts = spent.attempts.saturating_sub(1);
        }
        spent.not_started += u32::from(counts);
    }
}

/// Counts a dispatch for a plan of backfill, once it has begun or is known not to have been started.
pub(super) fn tally(facts: &mut Facts) {
    let awaited = matches!(facts.state, State::Dispatched { .. });
    if let Some(backfilled) = facts.backfilled.as_mut().filter(|backfilled| backfilled.open && !awaited) {
        backfilled.open = false;
        backfilled.attempts += 1;
    }
}

/// Keeps apart what a producer is asked for by itself: an answer has as long as a run may take.
pub(super) fn spaced(facts: &Facts, node: &Node, cause: Cause, now: Now) -> Option<Blocker> {
    let last = facts.last.as_ref().filter(|_| matches!(cause, Cause::Overdue | Cause::CoverageShort))?;
    let until = after(last.at, node.liveness.duration_max);
    (!now.reached(until)).then_some(Blocker::Backoff { until })
}

/// Charges an attempt that somebody else began, and that failed, to the budget of the inputs it failed on; gives back one
/// of ours that failed for a reason which ends by itself.
///
/// Never beyond the budget: how often others fail is theirs to bound. The producer of a source works by its own schedule, so
/// that its failures are no attempts of ours at all.
pub(super) fn charge(
    graph: &Graph,
    node: &Node,
    facts: &mut Facts,
    fingerprint: Fingerprint,
    newest: Option<Timestamp>,
) {
    let Some(task) = node.dispatchable() else { return };
    if !matches!(facts.state, State::Failed { .. } | State::Exhausted { .. }) {
        return;
    }
    let has_room = facts.spent.len() < FINGERPRINTS_MAX || facts.spent.contains_key(&fingerprint);
    let Some(failure) = facts.failure.as_mut() else { return };
    let class = failure::class_of(graph, failure).map(|class| &class.ends);
    if matches!(class, Some(Ends::WithNewInputs)) {
        // The same inputs fail again, so they have had all their attempts: those of our attempt, or, where somebody else
        // began it, all that were known when it failed, whichever was heard of first.
        let paid = match &facts.last {
            Some(last) if failure.charged => Some(last.fingerprint),
            _ => (failure.has_seen(newest) && has_room).then_some(fingerprint),
        };
        if let Some(paid) = paid {
            facts.spent.entry(paid).or_default().attempts = task.attempts_max;
        }
        return;
    }
    if !matches!(facts.state, State::Failed { .. }) {
        return;
    }
    let is_own = class.is_none();
    if failure.charged == is_own {
        return;
    }
    failure.charged = is_own;
    if !is_own {
        let paid = facts.last.as_ref().filter(|last| is_charged(last.cause));
        if let Some(spent) = paid.and_then(|last| facts.spent.get_mut(&last.fingerprint)) {
            spent.attempts = spent.attempts.saturating_sub(1);
        }
    } else if failure.has_seen(newest) && has_room && node.task().is_some() {
        let spent = facts.spent.entry(fingerprint).or_default();
        spent.attempts = (spent.attempts + 1).min(task.attempts_max);
    }
}

/// Whether a dispatch for this cause is paid from the attempts: a wish and a repair have their own account.
pub(super) fn is_charged(cause: Cause) -> bool {
    !matches!(cause, Cause::Requested | Cause::Backfill | Cause::CoverageShort)
}

/// Budgets, backoff and debounce.
pub(super) fn bounds(
    facts: &Facts,
    task: &Task,
    readiness: &Readiness,
    fingerprint: Fingerprint,
    cause: Cause,
    now: Now,
) -> Vec<Blocker> {
    if matches!(cause, Cause::Requested | Cause::Backfill) {
        return Vec::new();
    }
    let mut blockers = Vec::new();
    let spent = facts.spent.get(&fingerprint).copied().unwrap_or_default();
    let out_of_attempts = spent.attempts >= task.attempts_max || spent.not_started >= task.not_started_max;
    if (out_of_attempts && cause != Cause::CoverageShort) || facts.dispatches >= task.dispatches_max {
        blockers.push(Blocker::Budget {
            attempts: spent.attempts + spent.not_started,
            attempts_max: task.attempts_max,
            dispatches: facts.dispatches,
            dispatches_max: task.dispatches_max,
        });
    }
    if let (Cause::Failed, State::Failed { at }) = (cause, &facts.state) {
        let doublings = spent.attempts.saturating_sub(1).min(16);
        let wait = task.backoff.saturating_mul(1 << doublings).min(task.backoff_max);
        let until = after(*at, wait);
        if !now.reached(until) {
            blockers.push(Blocker::Backoff { until });
        }
    }
    if let (Cause::CoverageShort, Some(last)) = (cause, &facts.last)
        && last.cause == Cause::CoverageShort
    {
        let until = after(last.at, task.rebuild_every);
        if !now.reached(until) {
            blockers.push(Blocker::Debounce { until });
        }
    }
    if let (Cause::InputsNewer, Rebuild::After(quiet), Some(newest)) = (cause, task.rebuild, readiness.newest) {
        let last = facts.last.as_ref().map_or(Timestamp::MIN, |last| after(last.at, task.rebuild_every));
        let until = after(newest, quiet).max(last);
        if !now.reached(until) {
            blockers.push(Blocker::Debounce { until });
        }
    }
    blockers
}

/// What stops a node whose last attempt failed for a reason that ends at a clock time.
pub(super) fn used_up(graph: &Graph, partition: &Partition, node: &Node, cause: Cause, now: Now) -> Option<Blocker> {
    let facts = partition.nodes.get(&node.id).filter(|_| cause == Cause::Failed)?;
    let (class, clock, failure) = failure::ends_of_itself(graph, facts)?;
    let until = clock.again_at(graph, &partition.key, &node.id, failure.at);
    (!now.reached(until)).then(|| Blocker::UsedUp { what: class.name.clone(), until })
}
