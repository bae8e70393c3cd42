//! The product: one pure function from what is known and what happened to what is known next and what is to be sent.

use jiff::Timestamp;

use super::effect::Effect;
use super::event::Event;
use super::graph::Graph;
use super::invariant::{self, Violation};
use super::partition::{Partition, Recorded};
use super::plan::{Plan, plan};
use super::record::record;
use super::time::{Now, SKEW_MAX, after};

/// What follows from a batch of events.
#[derive(Debug)]
pub struct Decision {
    /// The partition to store.
    pub next: Partition,
    /// What each event did, in order.
    pub recorded: Vec<Recorded>,
    /// What to deliver once `next` is stored.
    pub effects: Vec<Effect>,
    /// When to decide again though nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Whether `next` differs from what was stored in anything but the time of the decision.
    pub changed: bool,
}

/// Takes in `events` and says what follows. Events that wait together are one decision.
///
/// `now` never goes behind the partition's last decision: a replica whose clock lags decides at that one's time, and
/// what another replica has heard stays heard, or a restart would take a verdict of silence back. Nor does it go behind
/// what it decides on, as far as two clocks may be apart: or what is asked for would look older than its own inputs.
///
/// # Errors
/// A [`Violation`] where the decision would break an invariant; nothing of it may be stored.
pub fn decide(graph: &Graph, partition: &Partition, events: &[Event], now: Now) -> Result<Decision, Violation> {
    let heard_until = now.heard_until.max(partition.heard_until);
    let published = events.iter().filter_map(Event::published).max().unwrap_or(now.at);
    let at = now.at.max(partition.decided_at).max(published.min(after(now.at, SKEW_MAX)));
    let now = Now { at, heard_until };
    let mut next = partition.clone();
    let recorded = events.iter().map(|event| record(graph, &mut next, event)).collect();
    let found: Plan = plan(graph, &mut next, now);
    let changed = next != *partition || !found.effects.is_empty();
    if changed {
        next.decided_at = now.at;
        next.heard_until = now.heard_until;
    }
    invariant::check(graph, partition, &next, &found)?;
    Ok(Decision { next, recorded, effects: found.effects, wake_at: found.wake_at, changed })
}
