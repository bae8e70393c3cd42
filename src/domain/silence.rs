//! Is anybody there? Tells a phase in which nobody shows a sign of life from a node that is late.
//!
//! A deploy that breaks a service, or a subscription that is refused at its door, silences every node of a phase at once.
//! That is one trouble and one alert, and asking all of them again is a storm: one is tried, later and later,
//! and a sign of life of any lets the others go.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::coverage::PerMille;
use super::effect::Cause;
use super::evidence::Extant;
use super::graph::{Heartbeats, Kind, Node};
use super::id::NodeId;
use super::partition::{Partition, State, Way};
use super::time::{Now, Wake, after};
use super::timetable::Timetable;

/// Tasks that were asked for, of which none started: from this many on it is the phase and not the node.
const TASKS_MIN: usize = 2;

/// A phase in which nobody shows a sign of life.
#[derive(Clone, Debug)]
pub struct Silent {
    /// The phase.
    pub phase: Arc<str>,
    /// Since when: the earliest that anybody in it should have begun.
    pub since: Timestamp,
    /// Who should have.
    pub unheard: Vec<NodeId>,
    /// The one that is tried, or will be; nobody where one was tried in vain a short while ago, where nobody may be asked any
    /// more, or where all of them are sources.
    pub probe: Option<NodeId>,
    /// Nobody has been tried yet: the first of `turns` that nothing else stands in the way of is.
    pub untried: bool,
    /// Who may be tried: who was asked longest ago first.
    pub turns: Vec<NodeId>,
    /// When one is tried again, where one was in vain.
    pub again_at: Option<Timestamp>,
    /// The last sign of life of anybody in the phase, for this date.
    pub last_sign: Option<Timestamp>,
}

/// A node that should have begun.
struct Asked<'a> {
    node: &'a Node,
    /// When it was last asked for; nobody asks a source.
    last: Option<Timestamp>,
    since: Timestamp,
    deadline: Timestamp,
    kind: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Its time is over.
    Overdue,
    /// It was asked again, and has time left.
    Tried,
    /// It was asked again, and its time is over once more; until then nobody is.
    TriedInVain { until: Timestamp },
    /// It may not be asked again, or cannot.
    Spent,
}

/// The silent phases of the date, by their names; `wake` learns when another may turn out to be one.
pub fn phases(times: &Timetable<'_>, partition: &Partition, now: Now, wake: &mut Wake) -> BTreeMap<Arc<str>, Silent> {
    let mut asked: BTreeMap<&str, Vec<Asked<'_>>> = BTreeMap::new();
    let mut signs: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for node in times.graph.order.iter().filter_map(|id| times.graph.node(id)) {
        if let Some(sign) = partition.nodes.get(&node.id).and_then(|facts| facts.heard_at) {
            let last = signs.entry(&node.phase).or_insert(sign);
            *last = sign.max(*last);
        }
        if let Some(found) = asked_of(times, partition, node, now) {
            asked.entry(&node.phase).or_default().push(found);
        }
    }
    let mut found = BTreeMap::new();
    for (phase, asked) in asked {
        // Who is asked once more is no less silent for it.
        let is_over = |one: &Asked<'_>| one.kind == Standing::Tried || now.silent_until(one.deadline);
        let (asked, waiting): (Vec<Asked<'_>>, Vec<Asked<'_>>) = asked.into_iter().partition(is_over);
        waiting.iter().for_each(|one| wake.at(one.deadline));
        let Some(since) = asked.iter().map(|one| one.since).min() else { continue };
        let last_sign = signs.get(phase).copied();
        let tasks = asked.iter().filter(|one| one.node.task().is_some()).count();
        let enough = tasks >= TASKS_MIN || tasks < asked.len();
        if last_sign.is_some_and(|sign| sign > since) || !enough {
            continue;
        }
        let tried = asked.iter().find(|one| one.kind == Standing::Tried && one.node.task().is_some());
        let in_vain = asked.iter().filter_map(|one| match one.kind {
            Standing::TriedInVain { until } => Some(until),
            Standing::Overdue | Standing::Tried | Standing::Spent => None,
        });
        let again_at = in_vain.max();
        again_at.into_iter().for_each(|at| wake.at(at));
        let untried = tried.is_none() && again_at.is_none();
        let overdue = |one: &&Asked<'_>| untried && one.kind == Standing::Overdue && one.node.task().is_some();
        let mut turns: Vec<&Asked<'_>> = asked.iter().filter(overdue).collect();
        turns.sort_by_key(|one| one.last);
        let turns: Vec<NodeId> = turns.into_iter().map(|one| one.node.id.clone()).collect();
        let probe = tried.map(|one| &one.node.id).or(turns.first()).cloned();
        let unheard = asked.iter().map(|one| one.node.id.clone()).collect();
        let phase: Arc<str> = phase.into();
        found.insert(phase.clone(), Silent { phase, since, unheard, probe, untried, turns, again_at, last_sign });
    }
    found
}

fn asked_of<'g>(times: &Timetable<'_>, partition: &Partition, node: &'g Node, now: Now) -> Option<Asked<'g>> {
    match &node.kind {
        Kind::Gate(_) => None,
        Kind::Task(task) => {
            let facts = partition.nodes.get(&node.id)?;
            let over = times.pass(node).is_some_and(|(_, until)| now.reached(until));
            let last = facts.last.as_ref().filter(|_| !over)?;
            let unstarted = facts.unstarted_since.filter(|since| facts.heard_at <= Some(*since));
            let asked = match &facts.way {
                Some(Way::Taken { at }) => last.at.max(*at),
                Some(Way::Refused { .. }) | None => last.at,
            };
            // As long again as the silence had lasted by then: of a day of it there are half a dozen trials.
            let lasted = unstarted.map_or(SignedDuration::ZERO, |since| asked.duration_since(since));
            let until = after(asked, lasted.max(task.backoff_max));
            // Counted up to what has been heard: whoever begins meanwhile may have said so already. An operator's wish
            // is a trial like any other.
            let in_vain = unstarted.is_some_and(|since| since < last.at || last.cause == Cause::NotStarted)
                && !now.silent_until(until);
            let overdue = if in_vain { Standing::TriedInVain { until } } else { Standing::Overdue };
            let last = Some(asked);
            match (&facts.state, &facts.way) {
                // Nobody can have begun what nobody has been handed.
                (State::Dispatched { .. }, Some(Way::Refused { .. })) => None,
                (State::Dispatched { .. }, _) => {
                    let within = match node.liveness.heartbeats {
                        Heartbeats::Sent => node.liveness.start_within,
                        Heartbeats::None => node.liveness.duration_max,
                    };
                    let deadline = after(asked, within);
                    let kind = match unstarted {
                        _ if now.silent_until(deadline) => overdue,
                        Some(_) => Standing::Tried,
                        // It has been asked for the first time, and has time left.
                        None => return None,
                    };
                    Some(Asked { node, last, since: unstarted.unwrap_or(asked), deadline, kind })
                }
                (State::Failed { .. }, _) => {
                    let since = unstarted?;
                    Some(Asked { node, last, since, deadline: since, kind: overdue })
                }
                (State::Exhausted { .. }, _) => {
                    let since = unstarted?;
                    Some(Asked { node, last, since, deadline: since, kind: Standing::Spent })
                }
                _ => None,
            }
        }
        // Nobody asks a source, but what it reads has come.
        Kind::Source(_) => {
            let known = partition.nodes.get(&node.id);
            let heard =
                known.is_some_and(|facts| facts.heard_at.is_some() || facts.evidence.extant() != Extant::Nothing);
            let skipped = known.is_some_and(|facts| matches!(facts.state, State::Skipped { .. }));
            if heard || skipped || times.graph.required_of(&node.id) == PerMille::NONE {
                return None;
            }
            let begun = |id: &NodeId| {
                let facts = partition.nodes.get(id).filter(|facts| facts.evidence.claim.is_some())?;
                facts.ended.values().map(|ended| ended.at).min()
            };
            let since = node.needs.iter().filter_map(|need| begun(&need.node)).min()?;
            let deadline = after(since, node.liveness.start_within);
            Some(Asked { node, last: None, since, deadline, kind: Standing::Spent })
        }
    }
}
