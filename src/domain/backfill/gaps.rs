//! What is missing: for each date with games, whether what is there of an output is what its dependents require.
//!
//! That nobody can tell is not that it is missing. What its date still cares for is not missing either: within its pass a
//! node tries again by itself, and what is due later may come.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};
use serde::{Deserialize, Serialize};

use super::super::coverage::PerMille;
use super::super::event::CheckAnswer;
use super::super::evidence::Extant;
use super::super::graph::{DayTime, Graph, Kind, Node, Offset};
use super::super::id::NodeId;
use super::super::partition::{Partition, State};
use super::super::time::Now;
use super::super::timetable::Timetable;
use super::super::units;
use super::Limits;

/// Of what no time is declared it is said on the day after its date, from then on, that it is missing: the night's games
/// have been loaded by the morning.
const AWAITED_UNTIL: DayTime = DayTime { days: 1, time: Time::constant(12, 0, 0, 0) };

/// What a look at one output of one date found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Enough for those who need it.
    There,
    /// Less than that.
    Missing(Extant),
    /// Nobody can tell.
    Unknown,
}

/// What a look at many dates found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Dates on which games were played.
    pub game_days: BTreeSet<Date>,
    /// Dates of which nobody can say whether games were played. They are looked at no further.
    pub unknown_days: BTreeSet<Date>,
    /// What was found, for outputs that are to be expected by now.
    pub found: BTreeMap<NodeId, BTreeMap<Date, Found>>,
}

/// Game days after each other on which one output is missing, or nobody can tell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// Whose output.
    pub node: NodeId,
    /// The first of the game days.
    pub from: Date,
    /// The last.
    pub until: Date,
    /// How many there are.
    pub days: u32,
}

/// The nodes that are looked at: for a processor of several passes its last, which is the one that a past date means.
pub fn outputs(graph: &Graph) -> impl Iterator<Item = &Node> {
    let is_last = |node: &&Node| graph.family(&node.id).last().is_none_or(|last| *last == node.id);
    let nodes = graph.order.iter().filter_map(|id| graph.node(id));
    nodes.filter(|node| !matches!(node.kind, Kind::Gate(_))).filter(is_last)
}

/// Whether the warehouse has to say how much of an output is there: it is asked about it, the date does not care for it any
/// more, and the date does not know by the warehouse's own word that enough is there.
pub fn wants_answer(times: &Timetable<'_>, partition: &Partition, node: &Node, now: Now) -> bool {
    let evidence = partition.nodes.get(&node.id).map(|facts| &facts.evidence);
    let seen = evidence.filter(|evidence| evidence.newest_claim().is_none() && evidence.observation.is_some());
    let known = seen.is_some_and(|seen| suffices(seen.extant(), required(times.graph, node)) == Some(true));
    node.probed && !known && !is_cared_for(times, partition, node, now)
}

/// What is to be said of the output of `node`, given what the warehouse answered if it was asked. Nothing where nothing is to
/// be expected: not yet, or not at all.
pub fn judge(
    times: &Timetable<'_>,
    partition: &Partition,
    node: &Node,
    answer: Option<CheckAnswer>,
    now: Now,
) -> Option<Found> {
    if is_cared_for(times, partition, node, now) {
        return None;
    }
    match answer {
        Some(CheckAnswer::Share(coverage)) => {
            let extant = Extant::Known(coverage);
            let enough = suffices(extant, required(times.graph, node)) == Some(true);
            return Some(if enough { Found::There } else { Found::Missing(extant) });
        }
        Some(CheckAnswer::Unknown) => return Some(Found::Unknown),
        Some(CheckAnswer::NotKept) | None => {}
    }
    let facts = partition.node(&node.id);
    if matches!(facts.state, State::Skipped { .. }) {
        return Some(Found::There);
    }
    match best(times, partition, node) {
        (extant, Some(false)) if extant == Extant::Nothing => {
            // Silence alone proves nothing, unless something was to be heard by now.
            let failed =
                facts.failure.is_some() || matches!(facts.state, State::Failed { .. } | State::Exhausted { .. });
            let due = times.anchored(&node.expects.due).is_some_and(|due| now.silent_until(due));
            // Where the warehouse keeps nothing of it, nothing need be there.
            let not_made =
                answer.is_none() && matches!(facts.state, State::Expired { .. }) && has_input(times, partition, node);
            (failed || due || not_made).then_some(Found::Missing(extant))
        }
        (extant, Some(false)) => Some(Found::Missing(extant)),
        (_, Some(true)) => Some(Found::There),
        (_, None) => Some(Found::Unknown),
    }
}

/// Whether anything is there that the node is made of.
fn has_input(times: &Timetable<'_>, partition: &Partition, node: &Node) -> bool {
    node.needs.iter().filter(|need| need.offset == Offset::Same).any(|need| {
        let Some(input) = times.graph.node(&need.node) else { return false };
        match &input.kind {
            Kind::Gate(_) => has_input(times, partition, input),
            Kind::Source(_) | Kind::Task(_) => units::extant(times, partition, input) != Extant::Nothing,
        }
    })
}

/// Whether the date itself still does something about the output, or may be told of it.
fn is_cared_for(times: &Timetable<'_>, partition: &Partition, node: &Node, now: Now) -> bool {
    let facts = partition.node(&node.id);
    if facts.state.is_live() || facts.wish.is_some() {
        return true;
    }
    let over = times.pass(node).is_none_or(|(_, until)| now.reached(until));
    if over || matches!(facts.state, State::Exhausted { .. } | State::Expired { .. }) {
        return false;
    }
    // What nothing has come for is waited for no longer than what nobody can ask for.
    let at_work = node.task().is_none() || facts.dispatches > 0 || has_input(times, partition, node);
    if at_work && node.dispatchable().is_some() && !times.graph.backfill.is_for_that_alone(&node.id) {
        return true;
    }
    let due = times.anchored(&node.expects.due);
    !now.reached(due.unwrap_or_else(|| AWAITED_UNTIL.on(times.date, &times.graph.zone)))
}

/// The most that dependents of the output require, whichever pass they look at.
fn required(graph: &Graph, node: &Node) -> PerMille {
    let family = graph.family(&node.id).iter().chain([&node.id]);
    family.map(|id| graph.required_of(id)).max().unwrap_or(PerMille::NONE)
}

/// Whether it is enough; where nobody requires anything, anything is. `None` where that cannot be told.
fn suffices(extant: Extant, required: PerMille) -> Option<bool> {
    match extant {
        Extant::Known(coverage) if coverage.observed() == 0 => Some(false),
        extant => extant.reaches(required),
    }
}

/// The most that any pass has of the output, which they share, and whether it is enough.
fn best(times: &Timetable<'_>, partition: &Partition, node: &Node) -> (Extant, Option<bool>) {
    let required = required(times.graph, node);
    let graph = times.graph;
    let family = graph.family(&node.id).iter().filter_map(|id| graph.node(id));
    let all = family.chain([node]).map(|node| units::extant(times, partition, node));
    let judged = all.map(|extant| (extant, suffices(extant, required)));
    judged
        .max_by_key(|(extant, enough)| (*enough == Some(true), enough.is_none(), *extant != Extant::Nothing))
        .unwrap_or((Extant::Nothing, Some(false)))
}

/// Whether enough of the output is there by what its date knows.
pub(super) fn is_there(times: &Timetable<'_>, partition: &Partition, node: &Node) -> bool {
    best(times, partition, node).1 == Some(true)
        || partition.nodes.get(&node.id).is_some_and(|facts| matches!(facts.state, State::Skipped { .. }))
}

impl Survey {
    /// Game days after each other on which an output is missing, by node in their order in the graph.
    pub fn gaps(&self) -> Vec<Gap> {
        self.ranges(|found| matches!(found, Found::Missing(_)))
    }

    /// The same for what nobody can tell.
    pub fn unknown(&self) -> Vec<Gap> {
        self.ranges(|found| found == Found::Unknown)
    }

    fn ranges(&self, is_wanted: impl Fn(Found) -> bool) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for (node, found) in &self.found {
            let mut open: Option<Gap> = None;
            for date in &self.game_days {
                if found.get(date).is_some_and(|found| is_wanted(*found)) {
                    let gap =
                        open.get_or_insert_with(|| Gap { node: node.clone(), from: *date, until: *date, days: 0 });
                    (gap.until, gap.days) = (*date, gap.days + 1);
                } else {
                    gaps.extend(open.take());
                }
            }
            gaps.extend(open);
        }
        gaps
    }

    /// The dates on which an output is missing.
    pub fn missing(&self) -> BTreeMap<NodeId, BTreeSet<Date>> {
        let dates = |found: &BTreeMap<Date, Found>| -> BTreeSet<Date> {
            found.iter().filter(|(_, found)| matches!(found, Found::Missing(_))).map(|(date, _)| *date).collect()
        };
        let missing = self.found.iter().map(|(node, found)| (node.clone(), dates(found)));
        missing.filter(|(_, dates)| !dates.is_empty()).collect()
    }

    /// How many outputs are missing, and of how many that is known.
    pub fn counts(&self) -> (u32, u32) {
        let (mut missing, mut known) = (0, 0);
        for found in self.found.values().flat_map(BTreeMap::values) {
            missing += u32::from(matches!(found, Found::Missing(_)));
            known += u32::from(*found != Found::Unknown);
        }
        (missing, known)
    }

    /// Whether so much is missing that the look itself is to be doubted.
    pub fn is_suspect(&self, limits: &Limits) -> bool {
        let (missing, known) = self.counts();
        missing > limits.suspect_above
            && u64::from(missing) * 1000 > u64::from(known) * u64::from(limits.suspect_share.get())
    }

    /// What is missing of an output until now, or was until it came again.
    pub fn running(&self, node: &NodeId) -> Vec<Date> {
        let streak = self.streak(node);
        if streak.is_empty() { self.overcome(node) } else { streak }
    }

    /// That of every output.
    pub fn streaks(&self) -> BTreeMap<NodeId, BTreeSet<Date>> {
        let running = self.found.keys().map(|node| (node.clone(), self.running(node).into_iter().collect()));
        running.filter(|(_, days): &(NodeId, BTreeSet<Date>)| !days.is_empty()).collect()
    }

    /// Adds what is known to have been missing before the dates that were looked at, where it is the same streak.
    pub fn recall(&mut self, node: &NodeId, missing: &BTreeSet<Date>) {
        if self.running(node).first().is_some_and(|first| missing.contains(first))
            && let Some(found) = self.found.get_mut(node)
        {
            for date in missing {
                found.entry(*date).or_insert(Found::Missing(Extant::Nothing));
                self.game_days.insert(*date);
            }
        }
    }

    /// The game days until the last one that is known of, without a break, on which the output is missing.
    fn streak(&self, node: &NodeId) -> Vec<Date> {
        let known = self.found.get(node).into_iter().flatten().rev();
        let mut days: Vec<Date> =
            known.take_while(|(_, found)| matches!(found, Found::Missing(_))).map(|(date, _)| *date).collect();
        days.reverse();
        days
    }

    /// The game days on which the output was missing without a break, right before it came again.
    fn overcome(&self, node: &NodeId) -> Vec<Date> {
        let known = self.found.get(node).into_iter().flatten().rev();
        let before = known.skip_while(|(_, found)| **found == Found::There);
        let is_there = self.found.get(node).and_then(|found| found.values().next_back()) == Some(&Found::There);
        let mut days: Vec<Date> =
            before.take_while(|(_, found)| matches!(found, Found::Missing(_))).map(|(date, _)| *date).collect();
        days.reverse();
        if is_there { days } else { Vec::new() }
    }

    /// The sources that have brought nothing, or too little, on so many game days in a row that they are down, with those days;
    /// none that is fed by another which is.
    pub fn down(&self, graph: &Graph) -> BTreeMap<NodeId, Vec<Date>> {
        let is_down = |id: &NodeId| is_long(graph, self.streak(id).len());
        let is_first = |node: &&Node| is_down(&node.id) && !node.needs.iter().any(|need| is_down(&need.node));
        sources(graph).filter(is_first).map(|node| (node.id.clone(), self.streak(&node.id))).collect()
    }

    /// What sources missed that were down for so many game days, and bring again what they should.
    pub fn recovered(&self, graph: &Graph) -> BTreeMap<NodeId, BTreeSet<Date>> {
        let missed = sources(graph).map(|node| (node.id.clone(), self.overcome(&node.id).into_iter().collect()));
        missed.filter(|(_, days): &(NodeId, BTreeSet<Date>)| is_long(graph, days.len())).collect()
    }
}

fn sources(graph: &Graph) -> impl Iterator<Item = &Node> {
    graph.nodes.values().filter(|node| matches!(node.kind, Kind::Source(_)))
}

/// Whether so many game days in a row are more than one bad day after another.
fn is_long(graph: &Graph, days: usize) -> bool {
    u32::try_from(days).unwrap_or(u32::MAX) >= graph.backfill.limits.down_after
}
