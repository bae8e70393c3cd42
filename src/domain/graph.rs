//! The graph as decisions see it: nodes in topological order, edges with their thresholds, names resolved.
//!
//! Built and validated by `pipeline.rs`; from then on it is trusted. It knows nothing of topics and templates.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::backfill::Backfill;
use super::calendar::{Anchor, Calendar};
use super::coverage::PerMille;
use super::effect::Severity;
use super::failure::FailureClass;
use super::id::{CheckId, CycleId, NodeId, PipelineId};

/// One pipeline, validated: every node named by an edge exists, there is no cycle, every alias means one processor.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The pipeline's name.
    pub pipeline: PipelineId,
    /// A digest of the declaration; recorded with every decision.
    pub revision: u64,
    /// The zone in which a game date is a calendar date.
    pub zone: TimeZone,
    /// Nodes by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Every node after all the nodes of the same date it depends on.
    pub order: Vec<NodeId>,
    /// Passes over a date, in the order they happen.
    pub cycles: Vec<Cycle>,
    /// Every name a producer may use, lower-cased, to the nodes that share it, in the order of their cycles.
    pub aliases: BTreeMap<String, Vec<NodeId>>,
    /// Bounds and intervals that hold for the whole pipeline.
    pub limits: Limits,
    /// Failures that say when another try makes sense.
    pub failures: Vec<FailureClass>,
    /// When games are played, and what they mean for deadlines.
    pub calendar: Calendar,
    /// How dates that are over are made again.
    pub backfill: Backfill,
    dependents: BTreeMap<NodeId, Vec<(NodeId, Offset)>>,
    required: BTreeMap<NodeId, PerMille>,
    /// Nodes whose producers' names mean another node on an earlier day, and the day, counted from the date, from which
    /// on they mean this one.
    meant_from: BTreeMap<NodeId, i32>,
    /// The nodes that share a processor with a node.
    families: BTreeMap<NodeId, Vec<NodeId>>,
}

/// Bounds of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A message about a date further ahead than this many days is parked.
    pub ahead_max: i32,
    /// A message about a date longer ago than this many days is parked.
    pub behind_max: i32,
    /// How often the warehouse is asked about an output that holds something up.
    pub observe_every: SignedDuration,
}

/// A pass over a date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Its name.
    pub id: CycleId,
    /// Nothing of this pass is dispatched before this instant of the date.
    pub from: DayTime,
    /// From this instant on, what has not been done is no longer worth doing unless an operator asks.
    pub until: DayTime,
}

/// When the passes over one date begin and end.
#[derive(Clone, Debug)]
pub struct Passes {
    /// In the order of the cycles.
    cycles: Vec<(Timestamp, Timestamp)>,
    /// When the date begins, and the day after.
    midnights: [Timestamp; 2],
}

impl Passes {
    /// Those of a node of `graph`, whose passes they are.
    ///
    /// A node that shares its producer's names with an earlier pass does not begin before those names mean it: asked
    /// for earlier, its answer would be taken for the other's, and it would seem never to have started.
    pub fn of(&self, graph: &Graph, node: &Node) -> Option<(Timestamp, Timestamp)> {
        let rank = graph.cycles.iter().position(|cycle| cycle.id == node.cycle)?;
        let (from, until) = *self.cycles.get(rank)?;
        let meant_from = graph.meant_from.get(&node.id).map(|days| self.midnights[usize::from(*days > 0)]);
        Some((meant_from.map_or(from, |day| from.max(day)), until))
    }

    /// When the last of them ends.
    pub fn last_ends(&self) -> Option<Timestamp> {
        self.cycles.iter().map(|(_, until)| *until).max()
    }
}

/// An instant relative to a date: so many days later (or earlier), at a clock time in the pipeline's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayTime {
    /// Days after the date; negative is before.
    pub days: i32,
    /// Clock time.
    pub time: jiff::civil::Time,
}

impl DayTime {
    /// The instant for `date` in `zone`; a clock time that a daylight change skips is taken an hour later.
    pub fn on(self, date: Date, zone: &TimeZone) -> Timestamp {
        let day = date.saturating_add(SignedDuration::from_hours(24 * i64::from(self.days)));
        zone.to_timestamp(day.to_datetime(self.time)).unwrap_or(Timestamp::MAX)
    }
}

/// A vertex.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Display and routing only.
    pub phase: String,
    /// Which pass it belongs to.
    pub cycle: CycleId,
    /// What it depends on.
    pub needs: Vec<Dependency>,
    /// Whether the warehouse can be asked about its output.
    pub probed: bool,
    /// What is expected of its output, and when.
    pub expects: Expects,
    /// How its runs are judged alive.
    pub liveness: Liveness,
    /// What kind of vertex it is.
    pub kind: Kind,
}

/// What is expected of an output, beyond what its dependents ask of it.
#[derive(Clone, Debug, Default)]
pub struct Expects {
    /// What its coverage counts.
    pub unit: Unit,
    /// Rows that one game makes at least; a success with fewer is no whole output. Zero where that cannot be said.
    pub records_min: u32,
    /// When its first completion is late: the earliest of these. Never where there are none.
    pub due: Vec<Anchor>,
    /// How bad that is.
    pub late: Option<Severity>,
    /// After the last tip-off nobody needs it any more, and after a game's own its part of it.
    pub before_tip: bool,
    /// So long before each game's own tip-off its share of the output is looked at, and people are told what is missing.
    pub alert_before_tip: Option<SignedDuration>,
    /// A completion is checked against the warehouse, at most this long, before anybody builds on it.
    pub verify: SignedDuration,
    /// Its waits for what is optional end so long before the first tip-off at the latest.
    pub start_before_tip: Option<SignedDuration>,
    /// So many game days in a row without data are told of.
    pub empty_days_max: Option<u32>,
    /// Questions that have to be answered well before it is dispatched.
    pub checks: Vec<Check>,
}

/// What an output's coverage counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unit {
    /// Whatever the probe counts.
    #[default]
    Any,
    /// The games of the date.
    Game,
    /// The two teams of each game of the date.
    Team,
}

/// A question about the data behind a dispatch, with what its answers mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub id: CheckId,
    /// Below this people are told.
    pub warn_below: PerMille,
    /// Below this nothing is dispatched.
    pub block_below: PerMille,
    /// What to do when the warehouse cannot tell.
    pub unanswered: Unanswered,
}

/// What an unanswered check does. People are told either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// It stops the dispatch.
    Block,
    /// The dispatch goes.
    Proceed,
}

/// The three kinds of vertex.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Observed. Where its producer can be asked for what is missing, what that may cost.
    Source(Option<Task>),
    /// Dispatched by us.
    Task(Task),
    /// A join with no work of its own.
    Gate(Gate),
}

/// What a task may cost.
#[derive(Clone, Debug)]
pub struct Task {
    /// Tries per (node, date, input fingerprint) before it is exhausted.
    pub attempts_max: u32,
    /// Dispatches that never start, per fingerprint, before it is exhausted; such a dispatch is not a used attempt.
    pub not_started_max: u32,
    /// Every dispatch of the node for one date, whatever its inputs: the last bound on a feedback loop.
    pub dispatches_max: u32,
    /// Wait after a reported failure; doubles with each further one.
    pub backoff: SignedDuration,
    /// The longest wait between two attempts.
    pub backoff_max: SignedDuration,
    /// Whether newer inputs start a new run.
    pub rebuild: Rebuild,
    /// The shortest time between two runs for the sake of newer inputs.
    pub rebuild_every: SignedDuration,
}

/// What newer inputs do to a node that has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Nothing.
    Never,
    /// A new run, once its inputs have been quiet this long.
    After(SignedDuration),
}

/// How long a run may be silent, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Whether the processor sends heartbeats at all; one that does not is judged by `duration_max` alone.
    pub heartbeats: Heartbeats,
    /// Silence after which a run is flagged.
    pub stale_after: SignedDuration,
    /// Silence after which a run is fenced.
    pub dead_after: SignedDuration,
    /// A dispatch that shows no sign of life within this was not started.
    pub start_within: SignedDuration,
    /// A run longer than this is flagged although it beats.
    pub duration_max: SignedDuration,
    /// When a run that beats and does not come on is closed; never where absent.
    pub stall: Option<Stall>,
    /// How many runs may begin within an hour; any number where absent.
    pub storm: Option<Storm>,
}

/// Runs that begin within an hour: more than these are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Beyond so many something begins them over and over.
    pub warn_above: u32,
    /// Beyond so many it is at the cost of everything else.
    pub critical_above: u32,
}

/// What is done about a run that beats while the figure of its progress stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// After so long its processor is asked, once, to close it.
    pub close_after: SignedDuration,
    /// After so long it has ended with what it has done.
    pub over_after: SignedDuration,
}

/// Whether a processor proves its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeats {
    /// It beats while it runs.
    Sent,
    /// It says nothing until it completes.
    None,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The upstream node.
    pub node: NodeId,
    /// Which date's.
    pub offset: Offset,
    /// Whether it can be done without.
    pub strength: Strength,
    /// The least coverage that will do.
    pub coverage_min: PerMille,
    /// How long to wait for the rest once the least is there.
    pub grace: SignedDuration,
    /// How long the input must have been quiet.
    pub debounce: SignedDuration,
    /// Whether a newer version of it makes the node stale.
    pub refresh: Refresh,
}

/// Whether a newer version of an input calls for a new run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresh {
    /// It does.
    Always,
    /// Only where the last run had to do without it, or with less than all of it.
    IfMissed,
    /// It does not: a join says *when*, and some inputs add little.
    Never,
}

/// How much an edge insists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Never without it, and its output must not be older than its own hard inputs.
    Hard,
    /// Enough of it will do; the run is then degraded.
    Soft,
    /// Used where it is there.
    Optional,
}

/// Which date an edge looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// The same date.
    Same,
    /// The last date before this one that had games.
    PreviousGameDay,
}

/// A join.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Members that no quorum can do without.
    pub critical: BTreeSet<NodeId>,
    /// Tiers, strictest first; the gate's members are its node's `needs`.
    pub quorum: Vec<Tier>,
}

/// How many members suffice after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Members that must be good.
    pub count: u32,
    /// Counted from the first member's evidence.
    pub after: SignedDuration,
}

impl Graph {
    /// Puts the parts together and derives the reverse edges. `order` must be topological over same-date edges.
    #[expect(clippy::too_many_arguments, reason = "one for each part of a graph; only the loader and tests call it")]
    pub fn new(
        pipeline: PipelineId,
        revision: u64,
        zone: TimeZone,
        nodes: BTreeMap<NodeId, Node>,
        order: Vec<NodeId>,
        cycles: Vec<Cycle>,
        aliases: BTreeMap<String, Vec<NodeId>>,
        limits: Limits,
    ) -> Self {
        let mut dependents: BTreeMap<NodeId, Vec<(NodeId, Offset)>> = BTreeMap::new();
        let mut required: BTreeMap<NodeId, PerMille> = BTreeMap::new();
        for node in nodes.values() {
            for need in &node.needs {
                dependents.entry(need.node.clone()).or_default().push((node.id.clone(), need.offset));
                if need.strength != Strength::Optional {
                    let most = required.entry(need.node.clone()).or_insert(PerMille::NONE);
                    *most = need.coverage_min.max(*most);
                }
            }
        }
        let rank = |id: &NodeId| {
            let cycle = &nodes.get(id)?.cycle;
            cycles.iter().position(|candidate| candidate.id == *cycle)
        };
        let mut meant_from = BTreeMap::new();
        for sharers in aliases.values() {
            let earliest = sharers.iter().filter_map(rank).min();
            for id in sharers {
                match rank(id).filter(|rank| Some(*rank) > earliest) {
                    Some(1) => meant_from.insert(id.clone(), 0),
                    Some(_) => meant_from.insert(id.clone(), 1),
                    None => None,
                };
            }
        }
        let mut families: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for sharers in aliases.values().filter(|sharers| sharers.len() > 1) {
            for id in sharers {
                families.entry(id.clone()).or_insert_with(|| sharers.clone());
            }
        }
        let (failures, calendar, backfill) = (Vec::new(), Calendar::default(), Backfill::default());
        Self {
            pipeline,
            revision,
            zone,
            nodes,
            order,
            cycles,
            aliases,
            limits,
            failures,
            calendar,
            backfill,
            dependents,
            required,
            meant_from,
            families,
        }
    }

    /// The nodes of the same processor, one for each pass, itself among them; empty where it has only one.
    pub fn family(&self, id: &NodeId) -> &[NodeId] {
        self.families.get(id).map_or(&[], Vec::as_slice)
    }

    /// When the node's pass over `date` begins and ends.
    pub fn pass(&self, node: &Node, date: Date) -> Option<(Timestamp, Timestamp)> {
        self.passes(date).of(self, node)
    }

    /// When the passes over `date` begin and end.
    pub fn passes(&self, date: Date) -> Passes {
        let cycles =
            self.cycles.iter().map(|cycle| (cycle.from.on(date, &self.zone), cycle.until.on(date, &self.zone)));
        let midnight = |days| DayTime { days, time: Time::midnight() }.on(date, &self.zone);
        Passes { cycles: cycles.collect(), midnights: [midnight(0), midnight(1)] }
    }

    /// The node called `id`.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// The nodes that depend on `id`, and over which dates.
    pub fn dependents(&self, id: &NodeId) -> &[(NodeId, Offset)] {
        self.dependents.get(id).map_or(&[], Vec::as_slice)
    }

    /// The most that any dependent requires of `id`; nothing where nobody depends on it.
    pub fn required_of(&self, id: &NodeId) -> PerMille {
        self.required.get(id).copied().unwrap_or(PerMille::NONE)
    }

    /// The calendar date in the pipeline's zone at `instant`.
    pub fn date_at(&self, instant: Timestamp) -> Date {
        self.zone.to_datetime(instant).date()
    }

    /// Which of the nodes that share a name a message about `date`, published at `published`, is about.
    ///
    /// The date lies ahead (the first declared cycle), is today (the second) or is past (the third); where the
    /// processor has no node in that pass, the latest earlier pass it has, else its first. Handling time plays no part.
    pub fn resolve(&self, name: &str, date: Date, published: Timestamp) -> Option<&NodeId> {
        let sharers = self.aliases.get(&name.to_ascii_lowercase())?;
        let today = self.date_at(published);
        let pass = match date.cmp(&today) {
            std::cmp::Ordering::Greater => 0,
            std::cmp::Ordering::Equal => 1,
            std::cmp::Ordering::Less => 2,
        };
        let rank = |id: &&NodeId| {
            let cycle = &self.nodes.get(*id)?.cycle;
            self.cycles.iter().position(|candidate| candidate.id == *cycle)
        };
        sharers.iter().filter(|id| rank(id).is_some_and(|rank| rank <= pass)).max_by_key(rank).or(sharers.first())
    }
}

impl Node {
    /// The task's bounds, if it is one.
    pub fn task(&self) -> Option<&Task> {
        match &self.kind {
            Kind::Task(task) => Some(task),
            Kind::Source(_) | Kind::Gate(_) => None,
        }
    }

    /// What dispatching it may cost, if it can be dispatched: every task, and a source whose producer can be asked.
    pub fn dispatchable(&self) -> Option<&Task> {
        match &self.kind {
            Kind::Task(task) | Kind::Source(Some(task)) => Some(task),
            Kind::Source(None) | Kind::Gate(_) => None,
        }
    }
}
