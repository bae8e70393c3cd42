//! What has come of a plan, and what is to be asked for now: read off the partitions.
//!
//! No message and no replica counts anything here. A crash between asking and noting it is mended by looking: a date that
//! is at work for the plan has been asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::graph::{Graph, Offset};
use super::super::id::{NodeId, RequestId};
use super::super::partition::{Node as Facts, Partition, State};
use super::super::time::after;
use super::super::timetable::Timetable;
use super::plan::{Item, ItemState, Plan, Status, latest_first};
use super::{Draft, Limits, gaps};

/// How far a plan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Items in all.
    pub all: usize,
    /// Done.
    pub done: usize,
    /// Asked for, and not ended.
    pub asked: usize,
    /// Given up.
    pub failed: usize,
    /// Still to be asked for.
    pub waiting: usize,
}

/// Names the request for an item's next attempt: whoever asks twice asks once.
pub fn request_id(plan: &Plan, item: &Item) -> RequestId {
    RequestId::new(format!("{}/{}/{}/{}", plan.id, item.node, item.date, item.attempts + 1))
}

/// Whether what an item is to bring is there by what its date knows.
pub fn is_filled(graph: &Graph, partition: &Partition, item: &Item) -> bool {
    let times = Timetable::of(graph, partition);
    let is_there = |id: &NodeId| graph.node(id).is_some_and(|node| gaps::is_there(&times, partition, node));
    !item.follows && item.fills.iter().all(is_there)
}

/// Moves item `index` of `plan` to where its date says that it stands.
pub fn settle(graph: &Graph, plan: &mut Plan, index: usize, partition: &Partition, now: Timestamp) {
    let limits = &graph.backfill.limits;
    let changed_at = inputs_done_at(graph, plan, index);
    let id = plan.id.clone();
    let Some(item) = plan.items.get_mut(index) else { return };
    let facts = partition.node(&item.node);
    let ours = facts.backfilled.as_ref().filter(|backfilled| backfilled.plan == id);
    item.attempts = ours.map_or(0, |ours| ours.attempts);
    let wished = facts.wish.as_ref().filter(|wish| wish.plan.as_ref() == Some(&id));
    let is_ours = ours.is_some_and(|ours| facts.last.as_ref().is_some_and(|last| last.at == ours.at));
    let made_again = matches!(facts.state, State::Succeeded { at } if changed_at.is_some_and(|since| at > since));
    if let Some(wish) = wished {
        item.state = ItemState::Asked { at: wish.at };
    } else if facts.state.is_live() && is_ours {
        item.state = ItemState::Asked { at: ours.map_or(now, |ours| ours.at) };
    } else if is_filled(graph, partition, item) || item.follows && made_again {
        item.state = ItemState::Done { at: now };
    } else if item.attempts >= limits.attempts_max {
        // What a run that succeeded brings is loaded after it.
        let rests_until = after(ours.map_or(now, |ours| ours.at), limits.cooldown);
        let is_lost = !matches!(facts.state, State::Succeeded { .. }) && !is_fed(item);
        item.state = if is_lost || now >= rests_until {
            ItemState::Failed { at: now, why: given_up(facts, item) }
        } else {
            ItemState::Resting { until: rests_until, why: None }
        };
    } else if matches!(item.state, ItemState::Asked { .. }) {
        item.state = ItemState::Waiting;
    }
    if let (ItemState::Waiting, Some(until)) = (&item.state, has_to_wait(facts, limits, now)) {
        item.state = ItemState::Resting { until, why: facts.failure.as_ref().map(|failure| failure.text.clone()) };
    }
}

/// Until when a node rests after it was last dispatched for any plan, if it still does.
pub fn has_to_wait(facts: &Facts, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
    let until = after(facts.backfilled.as_ref()?.at, limits.cooldown);
    (until > now).then_some(until)
}

fn given_up(facts: &Facts, item: &Item) -> Arc<str> {
    let last = facts.failure.as_ref().map_or("it brought nothing of what was missing", |failure| &*failure.text);
    format!("{} attempts, of which the last: {last}", item.attempts).into()
}

/// Whether others load what it brings.
fn is_fed(item: &Item) -> bool {
    item.fills.iter().any(|node| *node != item.node)
}

/// The items that may be asked for at `now`, the first first: those whose inputs within the plan are settled. What was never
/// tried goes before what failed, so that nothing starves behind what cannot be mended.
pub fn next(graph: &Graph, plan: &Plan, now: Timestamp) -> Vec<usize> {
    if plan.status != Status::Running {
        return Vec::new();
    }
    let is_due = |item: &Item| match &item.state {
        ItemState::Waiting => true,
        ItemState::Resting { until, .. } => *until <= now,
        ItemState::Asked { .. } | ItemState::Done { .. } | ItemState::Failed { .. } => false,
    };
    let due = plan.items.iter().enumerate().filter(|(_, item)| is_due(item));
    let is_free =
        |(index, _): &(usize, &Item)| inputs(graph, plan, *index).iter().all(|input| input.state.is_settled());
    let mut free: Vec<(usize, &Item)> = due.filter(is_free).collect();
    free.sort_by_key(|(index, item)| (item.attempts, *index));
    free.into_iter().map(|(index, _)| index).collect()
}

/// The items of the plan that bring what item `index` is made of: of its date, and of the last one before it.
fn inputs<'p>(graph: &Graph, plan: &'p Plan, index: usize) -> Vec<&'p Item> {
    let Some(item) = plan.items.get(index) else { return Vec::new() };
    // A producer waits for nobody.
    if graph.node(&item.node).is_none_or(|node| node.task().is_none()) {
        return Vec::new();
    }
    let (same, previous) = ancestors(graph, &item.node);
    let brings = |other: &Item, wanted: &BTreeSet<NodeId>| {
        wanted.contains(&other.node) || other.fills.iter().any(|node| wanted.contains(node))
    };
    let earlier = plan.items.iter().filter(|other| other.date < item.date && brings(other, &previous));
    let last = earlier.clone().map(|other| other.date).max();
    let of_date = plan.items.iter().filter(|other| other.date == item.date && other.node != item.node);
    of_date.filter(|other| brings(other, &same)).chain(earlier.filter(|other| Some(other.date) == last)).collect()
}

/// What a node is made of, near and far: on the same date, and on the previous game day.
fn ancestors(graph: &Graph, node: &NodeId) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
    let (mut same, mut previous) = (BTreeSet::new(), BTreeSet::new());
    let mut open = vec![node.clone()];
    while let Some(id) = open.pop() {
        for need in graph.node(&id).map(|node| node.needs.as_slice()).unwrap_or_default() {
            // For a date that is over, the last pass of a processor stands for all of them.
            let meant = graph.family(&need.node).last().unwrap_or(&need.node).clone();
            if need.offset == Offset::PreviousGameDay {
                previous.insert(meant);
            } else if meant != *node && same.insert(meant.clone()) {
                open.push(meant);
            }
        }
    }
    (same, previous)
}

/// When the last of the item's inputs within the plan came.
fn inputs_done_at(graph: &Graph, plan: &Plan, index: usize) -> Option<Timestamp> {
    let done = |item: &&Item| match item.state {
        ItemState::Done { at } => Some(at),
        _ => None,
    };
    inputs(graph, plan, index).iter().filter_map(done).max()
}

impl Plan {
    /// How far it is.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { all: self.items.len(), ..Tally::default() };
        for item in &self.items {
            match item.state {
                ItemState::Waiting | ItemState::Resting { .. } => tally.waiting += 1,
                ItemState::Asked { .. } => tally.asked += 1,
                ItemState::Done { .. } => tally.done += 1,
                ItemState::Failed { .. } => tally.failed += 1,
            }
        }
        tally
    }

    /// Gives up what is made again for the sake of inputs none of which came.
    pub fn drop_followers(&mut self, graph: &Graph, now: Timestamp) {
        for index in 0..self.items.len() {
            let item = &self.items[index];
            if !item.follows || item.state.is_settled() || matches!(item.state, ItemState::Asked { .. }) {
                continue;
            }
            let inputs = inputs(graph, self, index);
            let lost = inputs.iter().all(|input| matches!(input.state, ItemState::Failed { .. }));
            if lost {
                let why = "nothing of what it is made of could be filled".into();
                self.items[index].state = ItemState::Failed { at: now, why };
            }
        }
    }

    /// Takes what recent dates lack into the automatic plan, and lets go of what is older than `oldest`. What was given up
    /// stays given up; what was done and is missing again is tried again.
    pub fn take_in(&mut self, graph: &Graph, draft: Draft, oldest: jiff::civil::Date) {
        self.items.retain(|item| item.date >= oldest || matches!(item.state, ItemState::Asked { .. }));
        for new in draft.items.into_iter().filter(|item| item.date >= oldest) {
            let held = self.items.iter_mut().find(|held| held.node == new.node && held.date == new.date);
            match held {
                Some(held) => {
                    held.fills.extend(new.fills);
                    if matches!(held.state, ItemState::Done { .. }) {
                        held.state = ItemState::Waiting;
                    }
                }
                None => self.items.push(new),
            }
        }
        self.refused = draft.refused;
        latest_first(graph, &mut self.items);
    }

    /// Whether it asks for the same as `other` does, and for all that brings.
    pub fn covers(&self, other: &Item) -> bool {
        let same = |item: &&Item| item.node == other.node && item.date == other.date;
        self.items.iter().find(same).is_some_and(|item| other.fills.is_subset(&item.fills))
    }

    /// Whether nothing is left to do.
    pub fn is_settled(&self) -> bool {
        self.items.iter().all(|item| item.state.is_settled())
    }
}
