//! When each node of a date will be ready, and how much will stand when its games' deadlines come.
//!
//! Sources come when they usually do, runs take as long as they usually do, and what waits for others goes when they are
//! there, by the rules of `readiness`. What is late is taken to come at this instant: a shortfall is foreseen once nothing but
//! luck could avert it, and not before. The same walk over a day on which nothing is known yet tells what is usual, so that
//! what the estimate gets wrong every day makes nobody late. Where too few days tell, nothing is said.

mod past;

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::calendar::{Anchor, has_placeholders};
use super::coverage::PerMille;
use super::event::Upstream;
use super::evidence::Extant;
use super::graph::{Dependency, Gate, Graph, Kind, Node, Offset, Strength, Tier};
use super::id::{NodeId, UnitId};
use super::partition::{Partition, State};
use super::readiness;
use super::time::{Now, after};
use super::timetable::Timetable;
use super::units;
pub use past::{Day, FORECAST_DAYS_MAX, FORECAST_DAYS_MIN, History, Reading, Usual, at_clock, clock_of};

/// What is to be expected of a date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Forecast {
    /// Every node, in topological order.
    pub nodes: Vec<Expected>,
    /// What will stand at the deadlines that are still to come, the next first.
    pub deadlines: Vec<Deadline>,
}

/// What is to be expected of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Expected {
    /// Which.
    pub node: NodeId,
    /// When its output suffices for those who need it. Nothing where it cannot be told, or will not come by itself.
    pub ready_at: Option<Timestamp>,
    /// It does already.
    pub is_ready: bool,
    /// When it usually would on this date. Nothing where too few days tell.
    pub usual_at: Option<Timestamp>,
    /// How much later than usual it is.
    pub late_by: SignedDuration,
    /// What makes it late, which may be itself: the first that is late on the way to it.
    pub because: Option<Late>,
    /// What the estimate of the node itself stands on.
    pub basis: Option<Basis>,
}

/// What an estimate stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// When it came on past days, after their midnight.
    Arrival(Usual),
    /// How long it took on past days.
    Duration(Usual),
}

/// What will stand of an output when it is looked at before tip-off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Deadline {
    /// Whose output.
    pub node: NodeId,
    /// When.
    pub at: Timestamp,
    /// The games whose deadline it is.
    pub games: Vec<UnitId>,
    /// The share of the date's games that will be covered. Nothing where too few days tell.
    pub expected: Option<PerMille>,
    /// The share that is required.
    pub required: PerMille,
}

impl Deadline {
    /// Whether less will be there than is required, as far as can be told.
    pub fn is_short(&self) -> bool {
        self.expected.is_some_and(|expected| expected < self.required)
    }
}

/// A deadline that will be missed, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shortfall {
    /// Which.
    pub deadline: Timestamp,
    /// The share of the games that will be covered.
    pub expected: PerMille,
    /// The share that is required.
    pub required: PerMille,
    /// What is late, by how much, and what that stands on. Nothing where that deadline is always missed.
    pub cause: Option<Late>,
}

/// What makes others late.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Late {
    /// Which node.
    pub node: NodeId,
    /// Of which date.
    pub date: Date,
    /// By how much.
    pub by: SignedDuration,
    /// It has come meanwhile.
    pub has_come: bool,
    /// What that stands on. Nothing for a join, which is made of others.
    pub basis: Option<Basis>,
}

impl Forecast {
    /// What is expected of `node`.
    pub fn of(&self, node: &NodeId) -> Option<&Expected> {
        self.nodes.iter().find(|expected| expected.node == *node)
    }

    /// The next deadline of `node` that will be missed.
    pub fn shortfall(&self, node: &NodeId) -> Option<Shortfall> {
        let missed = self.deadlines.iter().find(|deadline| deadline.node == *node && deadline.is_short())?;
        let cause = self.of(node)?.because.clone();
        let (deadline, required) = (missed.at, missed.required);
        Some(Shortfall { deadline, expected: missed.expected?, required, cause })
    }
}

impl Shortfall {
    /// Whether `other` would tell people nothing else: figures that grow by the minute are no news.
    pub fn is_like(&self, other: &Self) -> bool {
        let cause = |shortfall: &Self| shortfall.cause.as_ref().map(|late| (late.node.clone(), late.date));
        self.deadline == other.deadline && cause(self) == cause(other)
    }

    /// In words, about the output of `node` of a date: what will be missing, why, and how that is known.
    pub fn words(&self, node: &NodeId, date: Date, zone: &TimeZone) -> String {
        let clock = |at: Timestamp| zone.to_datetime(at).strftime("%H:%M").to_string();
        let (expected, required) = (self.expected.get() / 10, self.required.get() / 10);
        let text = format!("{} will have {expected} % of {required} % of {node}", clock(self.deadline));
        let Some(late) = &self.cause else { return format!("{text}, as always at that hour") };
        let of = if late.date == date { late.node.to_string() } else { format!("{}@{}", late.node, late.date) };
        let verb = if late.has_come { "came" } else { "is" };
        let basis = match &late.basis {
            Some(Basis::Arrival(usual)) => {
                let [low, high] = [usual.low, usual.high].map(|at| clock(at_clock(at, late.date, zone)));
                format!(" (half of the last {} game days had it between {low} and {high})", usual.days)
            }
            Some(Basis::Duration(usual)) => {
                let [low, high] = [usual.low, usual.high].map(minutes);
                format!(" (on half of the last {} game days it took {low} to {high} minutes)", usual.days)
            }
            None => String::new(),
        };
        format!("{text}, because {of} {verb} {} minutes late{basis}", minutes(late.by))
    }
}

/// Whole minutes, rounded to the nearest.
fn minutes(span: SignedDuration) -> i64 {
    (span.as_secs() + 30).div_euclid(60)
}

/// The forecast for a date at `now`.
pub fn forecast(graph: &Graph, partition: &Partition, history: &History, now: Timestamp) -> Forecast {
    // Of the date as it is are only its games, which are in `times`.
    let untouched = Partition::new(partition.key.clone());
    let times = Timetable::of(graph, partition);
    let today = Walk::new(&times, partition, history, now).run();
    let usual = Walk::new(&times, &untouched, history, Timestamp::MIN).run();
    let late_by = |of: &Of| match (today.get(of), usual.get(of)) {
        (Some(today), Some(usual)) => today.at.duration_since(usual.at).max(SignedDuration::ZERO),
        _ => SignedDuration::ZERO,
    };
    let own = |id: &NodeId| (id.clone(), partition.key.date);
    let basis = |(id, date): &Of| match graph.node(id).map(|node| &node.kind) {
        Some(Kind::Task(_)) if *date == partition.key.date => history.duration(id).map(Basis::Duration),
        Some(Kind::Task(_) | Kind::Source(_)) => history.arrival(id).map(Basis::Arrival),
        Some(Kind::Gate(_)) | None => None,
    };
    let because = |of: &Of| {
        let mut cause = of;
        let is_late = |via: &&Of| !late_by(via).is_zero();
        while let Some(via) = today.get(cause).and_then(|found| found.via.as_ref()).filter(is_late) {
            cause = via;
        }
        let found = today.get(cause).filter(|_| is_late(&cause))?;
        let (node, date) = cause.clone();
        // After a day off the last game day is not the day before.
        let before = partition.upstream.get(&node).filter(|_| date != partition.key.date);
        let date = before.map_or(date, |held| held.date);
        Some(Late { node, date, by: late_by(cause), has_come: found.is_ready, basis: basis(cause) })
    };
    let expected = |node: &Node| {
        let of = own(&node.id);
        Expected {
            node: node.id.clone(),
            ready_at: today.get(&of).map(|found| found.at),
            is_ready: today.get(&of).is_some_and(|found| found.is_ready),
            usual_at: usual.get(&of).map(|found| found.at),
            late_by: late_by(&of),
            because: because(&of),
            basis: basis(&of),
        }
    };
    let nodes: Vec<Expected> = graph.order.iter().filter_map(|id| graph.node(id)).map(expected).collect();
    let mut deadlines: Vec<Deadline> = Vec::new();
    for node in graph.order.iter().filter_map(|id| graph.node(id)) {
        let (stands, of) = (share(&times, partition, node), own(&node.id));
        for (at, games) in deadlines_of(&times, node, now) {
            let usually = || {
                // Without both there is no telling how far today is from what is usual.
                (today.contains_key(&of) && usual.contains_key(&of)).then_some(())?;
                let clock = clock_of(at, partition.key.date, &graph.zone).saturating_sub(late_by(&of));
                history.coverage(&node.id, clock).map(|usually| usually.max(stands))
            };
            let required = graph.required_of(&node.id);
            let expected = if stands >= required { Some(stands) } else { usually() };
            deadlines.push(Deadline { node: node.id.clone(), at, games, expected, required });
        }
    }
    deadlines.sort_by_key(|deadline| deadline.at);
    Forecast { nodes, deadlines }
}

/// When the games that are ahead are looked at for the output of `node`, if they are.
fn deadlines_of(times: &Timetable<'_>, node: &Node, now: Timestamp) -> BTreeMap<Timestamp, Vec<UnitId>> {
    let mut found: BTreeMap<Timestamp, Vec<UnitId>> = BTreeMap::new();
    let Some(lead) = node.expects.alert_before_tip else { return found };
    let earliest = has_placeholders(&times.games).then(|| times.anchored(&[Anchor::FirstTip(-lead)])).flatten();
    for (unit, game) in &times.games {
        let Some(tip) = game.tip else { continue };
        let at = earliest.unwrap_or(after(tip, -lead));
        if at > now {
            found.entry(at).or_default().push(unit.clone());
        }
    }
    found
}

/// How much of the output of `node` is known to be there. What cannot be told is not known to be.
fn share(times: &Timetable<'_>, partition: &Partition, node: &Node) -> PerMille {
    match units::extant(times, partition, node) {
        Extant::Nothing | Extant::Unknown => PerMille::NONE,
        Extant::Claimed => PerMille::FULL,
        Extant::Known(coverage) => coverage.share(),
    }
}

/// Whether the output of `node` suffices for all who need it; of what is only optional, any of it does.
fn is_good(times: &Timetable<'_>, partition: &Partition, node: &Node) -> bool {
    let stands = share(times, partition, node);
    stands > PerMille::NONE && stands >= times.graph.required_of(&node.id)
}

/// A node of a date: an edge may lead to an earlier one.
type Of = (NodeId, Date);

/// When an output is there, and whom it waited for last.
#[derive(Clone, Debug)]
struct Found {
    at: Timestamp,
    is_ready: bool,
    via: Option<Of>,
}

/// One walk in topological order. What is not in `found` does not come, as far as can be told.
struct Walk<'a> {
    times: &'a Timetable<'a>,
    partition: &'a Partition,
    history: &'a History,
    now: Timestamp,
    found: BTreeMap<Of, Found>,
}

impl<'a> Walk<'a> {
    fn new(times: &'a Timetable<'a>, partition: &'a Partition, history: &'a History, now: Timestamp) -> Self {
        Self { times, partition, history, now, found: BTreeMap::new() }
    }

    fn run(mut self) -> BTreeMap<Of, Found> {
        for node in self.times.graph.order.iter().filter_map(|id| self.times.graph.node(id)) {
            for need in node.needs.iter().filter(|need| need.offset != Offset::Same) {
                if let Some(found) = self.earlier(need) {
                    self.found.insert(self.of(need), found);
                }
            }
            let found = match &node.kind {
                Kind::Gate(gate) => self.gate(node, gate),
                Kind::Source(_) | Kind::Task(_) => self.node(node),
            };
            if let Some(found) = found {
                self.found.insert((node.id.clone(), self.partition.key.date), found);
            }
        }
        self.found
    }

    /// What an edge leads to.
    fn of(&self, need: &Dependency) -> Of {
        let date = match need.offset {
            Offset::Same => self.partition.key.date,
            Offset::PreviousGameDay => readiness::previous_date(self.partition.key.date),
        };
        (need.node.clone(), date)
    }

    /// When that is there.
    fn input(&self, need: &Dependency) -> Option<Timestamp> {
        self.found.get(&self.of(need)).map(|found| found.at)
    }

    /// An output of the last game day, which may still be on its way.
    fn earlier(&self, need: &Dependency) -> Option<Found> {
        let held = self.partition.upstream.get(&need.node);
        let suffices = |held: &&Upstream| held.waived || held.extant.reaches(need.coverage_min) == Some(true);
        if let Some(held) = held.filter(suffices) {
            return Some(Found { at: held.since, is_ready: true, via: None });
        }
        let date = held.map_or(readiness::previous_date(self.partition.key.date), |held| held.date);
        Some(self.ahead(self.arrives(&need.node, date)?, None))
    }

    fn node(&self, node: &Node) -> Option<Found> {
        let facts = self.partition.node(&node.id);
        let took = || self.history.duration(&node.id).map(|usual| usual.median);
        if is_good(self.times, self.partition, node) {
            let at = facts.evidence.since().unwrap_or(self.now);
            return Some(Found { at, is_ready: true, via: self.behind(node, at) });
        }
        match &facts.state {
            // Nobody waits for it.
            State::Skipped { at, .. } => return Some(Found { at: *at, is_ready: true, via: None }),
            State::Exhausted { .. } | State::Expired { .. } => return None,
            State::Dispatched { at: since } | State::Running { inputs_at: since, .. } => {
                if let Some(took) = took() {
                    return Some(self.ahead(after(*since, took), self.behind(node, *since)));
                }
            }
            State::Waiting | State::Succeeded { .. } | State::Failed { .. } => {}
        }
        match &node.kind {
            Kind::Task(_) => {
                let (opens, via) = self.opens(node)?;
                Some(self.ahead(after(opens.max(self.now), took()?), via))
            }
            Kind::Source(_) | Kind::Gate(_) => Some(self.ahead(self.arrives(&node.id, self.partition.key.date)?, None)),
        }
    }

    /// Not ready yet, and so not before now.
    fn ahead(&self, at: Timestamp, via: Option<Of>) -> Found {
        Found { at: at.max(self.now), is_ready: false, via }
    }

    fn arrives(&self, id: &NodeId, date: Date) -> Option<Timestamp> {
        Some(at_clock(self.history.arrival(id)?.median, date, &self.times.graph.zone))
    }

    /// What a node that began by `since` waited for last.
    fn behind(&self, node: &Node, since: Timestamp) -> Option<Of> {
        let inputs = node.needs.iter().filter(|need| need.strength != Strength::Optional);
        let (_, of) = inputs.filter_map(|need| Some((self.input(need)?, self.of(need)))).max()?;
        self.found.get(&of).is_some_and(|found| found.at <= since).then_some(of)
    }

    /// When nothing stands in the way of `node` any more, and what stood there last.
    fn opens(&self, node: &Node) -> Option<(Timestamp, Option<Of>)> {
        let holds = readiness::holds(self.partition, &node.id, Now::caught_up(self.now));
        let (from, until) = self.times.pass(node)?;
        if until <= self.now {
            return None;
        }
        let mut opens = (from, None);
        for hold in holds {
            opens.0 = opens.0.max(hold.until()?);
        }
        let mut firm: Option<Timestamp> = None;
        for need in node.needs.iter().filter(|need| need.strength != Strength::Optional) {
            let at = self.input(need)?;
            firm = firm.max(Some(at));
            opens = later(opens, after(at, need.debounce), self.of(need));
        }
        let by = node.expects.start_before_tip;
        let latest = by.and_then(|by| self.times.anchored(&[Anchor::FirstTip(-by)]));
        for need in node.needs.iter().filter(|need| need.strength == Strength::Optional) {
            let Some(given_up) = firm.map(|firm| after(firm, need.grace)) else { continue };
            let given_up = latest.map_or(given_up, |latest| latest.min(given_up));
            let until = self.input(need).map_or(given_up, |at| at.min(given_up));
            opens = later(opens, until, self.of(need));
        }
        Some(opens)
    }

    /// A join opens with the first tier that its members make.
    fn gate(&self, node: &Node, gate: &Gate) -> Option<Found> {
        let mut members: Vec<(Timestamp, Of)> =
            node.needs.iter().filter_map(|need| Some((self.input(need)?, self.of(need)))).collect();
        members.sort();
        let own = |id: &NodeId| self.times.graph.node(id).is_some_and(|member| member.cycle == node.cycle);
        let has_own = node.needs.iter().any(|need| own(&need.node));
        let (first, _) = members.iter().find(|(_, (id, _))| !has_own || own(id))?;
        let critical = gate.critical.iter().map(|id| members.iter().find(|(_, (member, _))| member == id));
        let critical = critical.collect::<Option<Vec<_>>>()?.into_iter().max();
        let made = |tier: &Tier| {
            let last = members.get(usize::try_from(tier.count).ok()?.checked_sub(1)?)?;
            let (at, of) = critical.map_or(last, |critical| critical.max(last));
            Some((if tier.after.is_zero() { *at } else { after(*first, tier.after).max(*at) }, of))
        };
        let (at, of) = gate.quorum.iter().filter_map(made).min()?;
        let made = self.found.get(of).is_some_and(|found| found.is_ready) && at <= self.now;
        if made {
            Some(Found { at, is_ready: true, via: Some(of.clone()) })
        } else {
            Some(self.ahead(at, Some(of.clone())))
        }
    }
}

/// The later of what stands in the way so far and of `of`, which does until then.
fn later(so_far: (Timestamp, Option<Of>), until: Timestamp, of: Of) -> (Timestamp, Option<Of>) {
    if until > so_far.0 { (until, Some(of)) } else { so_far }
}
