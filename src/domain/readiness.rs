//! Whether a node's dependencies are met, and if not, why not: the one gate for every dispatch.
//!
//! First runs, retries, rebuilds, recoveries and requests all pass through [`Readiness`]; `plan`, the API and `why`
//! read the same blockers. Nothing here changes anything.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use serde::Serialize;

use super::calendar::Anchor;
use super::coverage::{Coverage, PerMille};
use super::effect::Input;
use super::event::{CheckAnswer, EdgeRule};
use super::evidence::{Extant, Version};
use super::graph::{DayTime, Dependency, Gate, Graph, Kind, Node, Offset, Refresh, Strength, Unanswered};
use super::id::{CheckId, NodeId};
use super::partition::{Fingerprint, Hold, Partition, State};
use super::time::{Now, after};
use super::timetable::Timetable;
use super::trace::Traces;
use super::units;

/// How a node stands as somebody's input.
#[derive(Clone, Debug)]
pub struct Standing {
    /// How much of its output is there.
    pub extant: Extant,
    /// Which version.
    pub version: Version,
    /// When that version came to be known.
    pub since: Option<Timestamp>,
    /// Its output is being made anew, or is about to be.
    pub renewing: bool,
    /// Its output is older than an input it cannot do without.
    pub stale: bool,
    /// Since when an operator has had its dependents go on without it.
    pub waived: Option<Timestamp>,
    /// A completion of it is being checked against the warehouse, at most until then.
    pub unverified: Option<Timestamp>,
    /// For a gate: how the join stands.
    pub join: Option<Join>,
    /// The correlation id of its newest completion.
    pub correlation: Option<Arc<str>>,
    /// The messages that it stands on; for a gate, those of its members.
    pub traces: Traces,
}

/// How a join stands.
#[derive(Clone, Debug)]
pub struct Join {
    /// Whether it lets its dependents through.
    pub open: bool,
    /// Whether something is there of any member, or it is waived.
    pub begun: bool,
    /// When the first came of those members from which its tiers count.
    pub first: Option<Timestamp>,
    /// Good members.
    pub good: u32,
    /// Members that an operator has had it go on without; they count towards a tier.
    pub waived: BTreeSet<NodeId>,
    /// All members.
    pub total: u32,
    /// Members that are neither good nor waived.
    pub missing: BTreeSet<NodeId>,
    /// Critical members that are neither.
    pub missing_critical: BTreeSet<NodeId>,
    /// The next tier that would let them through, and when.
    pub next: Option<(u32, Timestamp)>,
    /// It lets them through on a later tier than the first: not all came that should have.
    pub relaxed: bool,
    /// The last tier's time has come.
    pub last_tier_over: bool,
}

impl Join {
    /// Whether any member is good or waived.
    pub fn has_any(&self) -> bool {
        self.good > 0 || !self.waived.is_empty()
    }
}

/// The standings of a partition's nodes, filled in topological order.
pub type Standings = BTreeMap<NodeId, Standing>;

/// One reason why a node is not dispatched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "blocker", rename_all = "snake_case")]
pub enum Blocker {
    /// Nothing is known of an input.
    Unmet {
        /// The input.
        node: NodeId,
        /// Its date.
        date: Date,
        /// Where it stands.
        state: &'static str,
    },
    /// Less of an input is there than the edge requires.
    CoverageShort {
        /// The input.
        node: NodeId,
        /// Its date.
        date: Date,
        /// What is there.
        observed: Coverage,
        /// What is required.
        required: PerMille,
    },
    /// How much of an input is there cannot be told.
    CoverageUnknown {
        /// The input.
        node: NodeId,
        /// Its date.
        date: Date,
        /// What is required.
        required: PerMille,
    },
    /// An input is being made anew.
    Renewing {
        /// The input.
        node: NodeId,
        /// Its date.
        date: Date,
    },
    /// An input is older than what it was made from.
    Stale {
        /// The input.
        node: NodeId,
        /// Its date.
        date: Date,
    },
    /// A completion of an input is being checked against the warehouse.
    Unverified {
        /// The input.
        node: NodeId,
        /// Its date.
        date: Date,
        /// Until when at the latest.
        until: Timestamp,
    },
    /// A check has not been answered yet.
    CheckPending {
        /// Which.
        check: CheckId,
    },
    /// A check says that the data are not good enough.
    CheckFailed {
        /// Which.
        check: CheckId,
        /// What it found.
        observed: Coverage,
        /// What is required.
        required: PerMille,
    },
    /// The warehouse cannot answer a check that must be answered.
    CheckUnanswered {
        /// Which.
        check: CheckId,
    },
    /// Nobody in the phase shows a sign of life; another node is tried first, or was in vain.
    PhaseSilent {
        /// The phase.
        phase: Arc<str>,
        /// Since when.
        since: Timestamp,
        /// The node that is tried, if one still is.
        probe: Option<NodeId>,
        /// Where one was tried in vain: when one is tried again.
        until: Option<Timestamp>,
    },
    /// Enough is there; the rest is given until then.
    Grace {
        /// The input.
        node: NodeId,
        /// Until when.
        until: Timestamp,
    },
    /// A join is not complete enough.
    Quorum {
        /// The join.
        gate: NodeId,
        /// Good members.
        good: u32,
        /// All members.
        total: u32,
        /// Members that are not good.
        missing: BTreeSet<NodeId>,
        /// Of these, the ones no tier can do without.
        missing_critical: BTreeSet<NodeId>,
        /// When the next tier could let it through.
        until: Option<Timestamp>,
    },
    /// Inputs are still changing.
    Debounce {
        /// Until when, if they stay quiet.
        until: Timestamp,
    },
    /// The last attempt failed a short while ago.
    Backoff {
        /// Until when.
        until: Timestamp,
    },
    /// The last attempt failed for a reason that ends at a clock time.
    UsedUp {
        /// What such failures are called.
        what: Arc<str>,
        /// Until when.
        until: Timestamp,
    },
    /// The budget for these inputs is spent, or that of the whole date.
    Budget {
        /// Attempts made on these inputs.
        attempts: u32,
        /// Attempts allowed on the same inputs.
        attempts_max: u32,
        /// Dispatches made on the date, whatever the inputs.
        dispatches: u32,
        /// Dispatches allowed on one date.
        dispatches_max: u32,
    },
    /// An operator stopped it.
    Held {
        /// The whole date, or the node alone.
        scope: Scope,
        /// Who.
        actor: Arc<str>,
        /// Why.
        reason: Arc<str>,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// No game is played on the date.
    NoGames,
    /// Its pass over the date has not begun.
    NotYet {
        /// When it begins.
        until: Timestamp,
    },
    /// Its pass over the date has ended.
    Over {
        /// When it ended.
        since: Timestamp,
    },
}

/// What a hold stops.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One node.
    Node,
    /// The whole date.
    Date,
    /// What comes from one input.
    Input(NodeId),
}

impl Blocker {
    /// The instant at which it may fall away by itself.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Grace { until, .. }
            | Self::Debounce { until }
            | Self::Backoff { until }
            | Self::UsedUp { until, .. }
            | Self::Unverified { until, .. }
            | Self::NotYet { until } => Some(*until),
            Self::Quorum { until, .. } | Self::Held { until, .. } | Self::PhaseSilent { until, .. } => *until,
            Self::Unmet { .. }
            | Self::CoverageShort { .. }
            | Self::CoverageUnknown { .. }
            | Self::Renewing { .. }
            | Self::Stale { .. }
            | Self::CheckPending { .. }
            | Self::CheckFailed { .. }
            | Self::CheckUnanswered { .. }
            | Self::Budget { .. }
            | Self::NoGames
            | Self::Over { .. } => None,
        }
    }

    /// Whether only the clock stands in the way.
    pub fn is_a_matter_of_minutes(&self) -> bool {
        matches!(self, Self::Debounce { .. } | Self::Backoff { .. } | Self::Renewing { .. } | Self::Unverified { .. })
    }
}

/// Whether a budget is among what stands in the way: no clock lifts that, whatever else it lifts.
pub fn is_spent(blockers: &[Blocker]) -> bool {
    blockers.iter().any(|blocker| matches!(blocker, Blocker::Budget { .. }))
}

/// A node's dependencies as they stand.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Every dependency.
    pub inputs: Vec<Input>,
    /// Dependencies that are not met.
    pub blockers: Vec<Blocker>,
    /// Inputs, gate members included, that are not there or not whole.
    pub missing: BTreeSet<NodeId>,
    /// Of these, the ones that are done without.
    pub waived: BTreeSet<NodeId>,
    /// When the newest input that matters for staleness came to be known.
    pub newest: Option<Timestamp>,
    /// Inputs that may be asked about: (date, node).
    pub askable: BTreeSet<(Date, NodeId)>,
    /// Something the node needs is there already.
    pub engaged: bool,
    /// Since when, as far as that is known.
    pub engaged_since: Option<Timestamp>,
    /// A hard input, itself a task, has no output at all.
    pub hard_missing: bool,
    /// A hard input is newer than the node's output.
    pub hard_newer: bool,
    /// Any input is newer than the node's output.
    pub any_newer: bool,
    /// The correlation id of the newest input.
    pub correlation: Option<Arc<str>>,
    /// The messages that the inputs stand on.
    pub traces: Traces,
    versions: Vec<(NodeId, Option<Version>)>,
    /// Of inputs that are no reason for a new run by themselves.
    ignored: Vec<(NodeId, Option<Version>)>,
}

impl Readiness {
    /// Equal where every input that matters has the same version.
    pub fn fingerprint(&self) -> Fingerprint {
        Version::of(&self.versions)
    }

    /// Equal where every input has the same version, those included that are no reason for a new run by themselves: what fell
    /// short of one of them may be better with another.
    pub fn all_inputs(&self) -> Fingerprint {
        Version::of((&self.versions, &self.ignored))
    }

    /// Whether the output, if there is one, is older than its inputs.
    pub fn is_stale(&self) -> bool {
        self.any_newer || self.hard_missing
    }

    /// Whether the output must not be used: it is older than an input it cannot do without.
    pub fn is_unusable(&self) -> bool {
        self.hard_newer || self.hard_missing
    }
}

/// The previous date a cross-date edge looks at when nothing is known of it yet.
pub fn previous_date(date: Date) -> Date {
    date.yesterday().unwrap_or(date)
}

/// Evaluates the dependencies of `node`, whose upstreams of the same date are in `standings` already.
pub fn dependencies(
    times: &Timetable<'_>,
    partition: &Partition,
    node: &Node,
    standings: &Standings,
    now: Now,
) -> Readiness {
    let graph = times.graph;
    let mut found = Readiness::default();
    let latest = node.expects.start_before_tip.and_then(|by| times.anchored(&[Anchor::FirstTip(-by)]));
    let facts = partition.nodes.get(&node.id);
    let missed = facts.and_then(|facts| facts.last.as_ref()).map(|last| &last.missing);
    let built_from = facts.and_then(|facts| facts.built_from);
    let claimed = facts.is_some_and(|facts| facts.evidence.claim.is_some());
    let is_forced = |need: &Dependency| {
        facts.is_some_and(|facts| facts.edge(need.node.as_str(), EdgeRule::Force, now.at).is_some())
    };
    let mut firm_since: Option<Timestamp> = None;
    let mut newest_correlated: Option<Timestamp> = None;
    let mut optional: Vec<(&Dependency, Date, Cow<'_, Standing>)> = Vec::new();
    for need in &node.needs {
        let (date, standing) = look_up(graph, partition, need, standings);
        found.inputs.push(Input {
            node: need.node.clone(),
            date,
            observed: standing.extant,
            required: need.coverage_min,
            version: (standing.extant != Extant::Nothing).then_some(standing.version),
        });
        if standing.extant != Extant::Nothing || standing.waived.is_some() {
            found.engaged = true;
        }
        let came = standing.since.or(standing.waived).or_else(|| standing.join.as_ref().and_then(|join| join.first));
        found.engaged_since = [found.engaged_since, came].into_iter().flatten().min();
        let missed = missed.is_some_and(|missed| missed.contains(&need.node)) && standing.extant.is_whole();
        if need.refresh == Refresh::IfMissed {
            let whole = standing.extant.is_whole().then(|| Version::of(()));
            found.versions.push((need.node.clone(), whole));
            found.any_newer |= missed && standing.since.zip(built_from).is_some_and(|(since, built)| since > built);
            found.newest = found.newest.max(standing.since.filter(|_| missed));
        }
        // What is optional and falls short of the edge is as if it were not there.
        let too_little =
            need.strength == Strength::Optional && standing.extant.reaches(need.coverage_min) == Some(false);
        let there = standing.extant != Extant::Nothing && !too_little;
        let version = there.then_some(standing.version);
        if need.refresh == Refresh::Never {
            found.ignored.push((need.node.clone(), version));
        }
        if need.refresh == Refresh::Always {
            found.versions.push((need.node.clone(), version));
            let since = standing.since.filter(|_| !too_little);
            found.newest = found.newest.max(since);
            let newer = match (since, built_from) {
                (Some(since), Some(built)) => since > built,
                (Some(_) | None, _) => false,
            };
            found.any_newer |= newer;
            let upstream_is_task = graph.node(&need.node).is_some_and(|upstream| upstream.task().is_some());
            if need.strength == Strength::Hard && upstream_is_task && standing.join.is_none() {
                found.hard_newer |= newer;
                // Rows that a probe has counted are believed without their ancestors; a producer's word is not.
                let absent = standing.extant == Extant::Nothing && standing.waived.is_none();
                found.hard_missing |= claimed && built_from.is_some() && absent;
            }
        }
        if let Some(hold) = facts.and_then(|facts| facts.edge(need.node.as_str(), EdgeRule::Hold, now.at)) {
            found.blockers.push(held(Scope::Input(need.node.clone()), hold));
        }
        found.traces.extend(&standing.traces);
        if standing.correlation.is_some() && standing.since > newest_correlated {
            newest_correlated = standing.since;
            found.correlation.clone_from(&standing.correlation);
        }
        if need.strength == Strength::Optional {
            optional.push((need, date, standing));
            continue;
        }
        firm_since = firm_since.max(standing.since);
        let before = found.blockers.len();
        firm(graph, &mut found, need, (date, latest), &standing, now);
        if is_forced(need) && !found.blockers.split_off(before).is_empty() {
            let alone = || BTreeSet::from([need.node.clone()]);
            let absent = standing.join.as_ref().map_or_else(alone, |join| join.missing.clone());
            found.missing.extend(absent.iter().cloned());
            found.waived.extend(absent);
        }
    }
    for (need, date, standing) in optional {
        if standing.extant.is_whole() {
            continue;
        }
        found.missing.insert(need.node.clone());
        let until = firm_since.map(|since| no_later(latest, after(since, need.grace)));
        match until {
            Some(until)
                if standing.waived.is_none()
                    && !need.grace.is_zero()
                    && !now.silent_until(until)
                    && !is_forced(need) =>
            {
                found.blockers.push(Blocker::Grace { node: need.node.clone(), until });
                ask(graph, &mut found, &need.node, date);
            }
            Some(_) | None => {
                found.waived.insert(need.node.clone());
            }
        }
    }
    found
}

fn no_later(latest: Option<Timestamp>, until: Timestamp) -> Timestamp {
    latest.map_or(until, |latest| until.min(latest))
}

/// One hard or soft edge, whose upstream is of a date; waits for the rest of it end at the latest at an instant.
fn firm(
    graph: &Graph,
    found: &mut Readiness,
    need: &Dependency,
    (date, latest): (Date, Option<Timestamp>),
    standing: &Standing,
    now: Now,
) {
    let node = need.node.clone();
    if let Some(join) = &standing.join {
        found.missing.extend(join.missing.union(&join.waived).cloned());
        if join.open {
            found.waived.extend(join.missing.union(&join.waived).cloned());
            let quiet = standing.since.map(|since| after(since, need.debounce)).filter(|_| !need.debounce.is_zero());
            if let Some(until) = quiet.filter(|quiet| !now.reached(*quiet)) {
                found.blockers.push(Blocker::Debounce { until });
            }
        } else {
            for member in &join.missing {
                ask(graph, found, member, date);
            }
            found.engaged |= join.begun;
            found.blockers.push(Blocker::Quorum {
                gate: node,
                good: join.good,
                total: join.total,
                missing: join.missing.clone(),
                missing_critical: join.missing_critical.clone(),
                until: join.next.map(|(_, at)| at),
            });
        }
        return;
    }
    let enough = standing.extant.reaches(need.coverage_min);
    if !standing.extant.is_whole() {
        found.missing.insert(node.clone());
        if standing.waived.is_none() {
            ask(graph, found, &node, date);
        }
    }
    if standing.waived.is_some() && enough != Some(true) {
        found.waived.insert(node);
        return;
    }
    let blocker = match (standing.extant, enough) {
        (Extant::Nothing, _) if standing.renewing => Some(Blocker::Renewing { node, date }),
        (Extant::Nothing, _) => Some(Blocker::Unmet { node, date, state: "nothing known" }),
        (_, None) => Some(Blocker::CoverageUnknown { node, date, required: need.coverage_min }),
        (Extant::Known(observed), Some(false)) => Some(match standing.unverified {
            // Rows may show up a minute after their completion; until then nobody is told that they are missing.
            Some(until) => Blocker::Unverified { node, date, until },
            None => Blocker::CoverageShort { node, date, observed, required: need.coverage_min },
        }),
        (_, Some(false)) => Some(Blocker::Unmet { node, date, state: "not enough" }),
        (_, Some(true)) if standing.renewing => Some(Blocker::Renewing { node, date }),
        (_, Some(true)) if standing.stale => Some(Blocker::Stale { node, date }),
        (extant, Some(true)) => {
            let since = standing.since.unwrap_or(now.at);
            let graced = no_later(latest, after(since, need.grace));
            let quiet = after(since, need.debounce);
            if let Some(until) = standing.unverified {
                Some(Blocker::Unverified { node, date, until })
            } else if !extant.is_whole() && !now.silent_until(graced) {
                Some(Blocker::Grace { node, until: graced })
            } else if !need.debounce.is_zero() && !now.reached(quiet) {
                Some(Blocker::Debounce { until: quiet })
            } else {
                None
            }
        }
    };
    found.blockers.extend(blocker);
}

fn ask(graph: &Graph, found: &mut Readiness, node: &NodeId, date: Date) {
    if graph.node(node).is_some_and(|node| node.probed) {
        found.askable.insert((date, node.clone()));
    }
}

/// The standing of one edge's upstream, and the date it is about.
fn look_up<'s>(
    graph: &Graph,
    partition: &Partition,
    need: &Dependency,
    standings: &'s Standings,
) -> (Date, Cow<'s, Standing>) {
    let nothing = || Standing {
        extant: Extant::Nothing,
        version: Version::of(()),
        since: None,
        renewing: false,
        stale: false,
        waived: None,
        unverified: None,
        join: None,
        correlation: None,
        traces: Traces::default(),
    };
    let opens = graph.calendar.opens(partition.key.date);
    match need.offset {
        Offset::Same => {
            let standing = standings.get(&need.node).map_or_else(|| Cow::Owned(nothing()), Cow::Borrowed);
            (partition.key.date, standing)
        }
        // Before the first day of a season nothing of it was played, so nothing is waited for.
        Offset::PreviousGameDay => match partition.upstream.get(&need.node).filter(|_| !opens) {
            Some(upstream) => {
                let standing = Standing {
                    extant: upstream.extant,
                    version: upstream.version,
                    since: Some(upstream.since).filter(|_| !upstream.waived),
                    renewing: upstream.renewing,
                    waived: Some(upstream.since).filter(|_| upstream.waived),
                    ..nothing()
                };
                (upstream.date, Cow::Owned(standing))
            }
            None => {
                let date = partition.key.date;
                let waived = opens.then(|| DayTime { days: 0, time: Time::midnight() }.on(date, &graph.zone));
                (previous_date(date), Cow::Owned(Standing { waived, ..nothing() }))
            }
        },
    }
}

/// Until when, at the latest, a completion of `node` waits for the warehouse's word.
///
/// A producer may report what it has not stored. The warehouse may lag behind a completion, so that it is asked again where
/// it has less or cannot tell; where it keeps nothing of the kind, the completion is believed at once.
pub fn unverified(partition: &Partition, node: &Node, now: Now) -> Option<Timestamp> {
    if node.expects.verify.is_zero() || !node.probed {
        return None;
    }
    let evidence = &partition.nodes.get(&node.id)?.evidence;
    let claimed = evidence.claim.as_ref()?.published;
    let until = after(claimed, node.expects.verify);
    let seen = evidence.observation.as_ref().filter(|seen| seen.at >= claimed);
    let heard = evidence.looked_at >= Some(claimed) && evidence.unanswered.is_none();
    let confirmed = heard && seen.is_none_or(|seen| seen.coverage.is_full());
    (!confirmed && !now.reached(until)).then_some(until)
}

/// What the checks of `node` say, given when the newest of its inputs came to be known: older answers are not counted.
pub fn checks(partition: &Partition, node: &Node, newest: Option<Timestamp>, now: Now) -> Vec<Blocker> {
    let facts = partition.node(&node.id);
    let verdict = |check: &super::graph::Check| {
        let id = check.id.clone();
        facts.edge(id.as_str(), EdgeRule::Force, now.at).is_none().then_some(())?;
        match facts.checks.get(&check.id).filter(|taken| Some(taken.at) >= newest).map(|taken| taken.answer) {
            None => Some(Blocker::CheckPending { check: id }),
            Some(CheckAnswer::Share(observed)) if !observed.reaches(check.block_below) => {
                Some(Blocker::CheckFailed { check: id, observed, required: check.block_below })
            }
            Some(CheckAnswer::Unknown) if check.unanswered == Unanswered::Block => {
                Some(Blocker::CheckUnanswered { check: id })
            }
            Some(CheckAnswer::Share(_) | CheckAnswer::Unknown | CheckAnswer::NotKept) => None,
        }
    };
    node.expects.checks.iter().filter_map(verdict).collect()
}

/// The standing of a source or task, given whether it is about to be made anew and whether its output is usable.
pub fn stand(
    times: &Timetable<'_>,
    partition: &Partition,
    node: &Node,
    renewing: bool,
    stale: bool,
    now: Now,
) -> Standing {
    let facts = partition.node(&node.id);
    let live = facts.state.is_live() && node.task().is_some();
    Standing {
        extant: units::extant(times, partition, node),
        version: facts.evidence.version(),
        since: facts.evidence.since(),
        renewing: renewing || live,
        stale,
        // Where no game is played nothing is required of anybody; that is no operator's waiver.
        waived: match facts.state {
            State::Skipped { at, .. } if !times.has_no_games() => Some(at),
            _ => None,
        },
        unverified: unverified(partition, node, now),
        join: None,
        correlation: facts.evidence.claim.as_ref().and_then(|claim| claim.correlation.clone()),
        traces: facts
            .evidence
            .claim
            .as_ref()
            .map_or_else(Traces::default, |claim| Traces::of(Some(claim.published), claim.trace)),
    }
}

/// The standing of a gate.
pub fn join(
    times: &Timetable<'_>,
    partition: &Partition,
    node: &Node,
    gate: &Gate,
    standings: &Standings,
    now: Now,
) -> Standing {
    let graph = times.graph;
    // A member of an earlier pass may have been done a day ago; the tiers count from this pass's own first.
    let own = |member: &NodeId| graph.node(member).is_some_and(|member| member.cycle == node.cycle);
    let has_own = node.needs.iter().any(|need| own(&need.node));
    let facts = partition.nodes.get(&node.id);
    let mut begun = false;
    let mut good = 0;
    let (mut waived, mut missing) = (BTreeSet::new(), BTreeSet::new());
    let mut first: Option<Timestamp> = None;
    let mut newest: Option<Timestamp> = None;
    let mut versions = Vec::new();
    let mut correlation = None;
    let mut traces = Traces::default();
    for need in &node.needs {
        let (_, standing) = look_up(graph, partition, need, standings);
        begun |= standing.extant != Extant::Nothing || standing.waived.is_some();
        let word = |rule| facts.is_some_and(|facts| facts.edge(need.node.as_str(), rule, now.at).is_some());
        let met = !word(EdgeRule::Hold)
            && standing.join.as_ref().map_or_else(
                || {
                    let enough = standing.extant.reaches(need.coverage_min) == Some(true);
                    enough && !standing.stale && !standing.renewing && standing.unverified.is_none()
                },
                |join| join.open,
            );
        if let Some(since) = standing.since.or(standing.waived).filter(|_| !has_own || own(&need.node)) {
            first = Some(first.map_or(since, |first| first.min(since)));
        }
        if met {
            good += 1;
            versions.push((need.node.clone(), standing.version));
            traces.extend(&standing.traces);
            if standing.since >= newest {
                newest = standing.since;
                correlation.clone_from(&standing.correlation);
            }
        } else if standing.waived.is_some() || word(EdgeRule::Force) {
            waived.insert(need.node.clone());
        } else {
            missing.insert(need.node.clone());
        }
    }
    let count = |members: usize| u32::try_from(members).unwrap_or(u32::MAX);
    let total = count(node.needs.len());
    let counted = count(waived.len()).saturating_add(good);
    let missing_critical: BTreeSet<NodeId> = missing.intersection(&gate.critical).cloned().collect();
    let mut open_since = None;
    let mut next = None;
    let mut relaxed = false;
    let mut last_tier_over = false;
    for (index, tier) in gate.quorum.iter().enumerate() {
        let Some(due) = first.map(|first| after(first, tier.after)) else { break };
        let come = tier.after.is_zero() || now.silent_until(due);
        last_tier_over = come && index + 1 == gate.quorum.len() && !tier.after.is_zero();
        let enough = counted >= tier.count && missing_critical.is_empty();
        if come && enough && open_since.is_none() {
            relaxed = index > 0;
            open_since = Some(if tier.after.is_zero() { newest.unwrap_or(due) } else { due });
        }
        if !come && next.is_none() && (enough || counted < tier.count) {
            next = Some((tier.count, due));
        }
    }
    let extant = match (open_since, Coverage::new(good, total)) {
        (Some(_), Some(coverage)) => Extant::Known(coverage),
        (Some(_) | None, _) => Extant::Nothing,
    };
    Standing {
        extant,
        version: Version::of(versions),
        since: newest.filter(|_| open_since.is_some()),
        renewing: false,
        stale: false,
        waived: None,
        unverified: None,
        join: Some(Join {
            open: open_since.is_some(),
            begun,
            first,
            good,
            waived,
            total,
            missing,
            missing_critical,
            next,
            relaxed,
            last_tier_over,
        }),
        correlation,
        traces,
    }
}

/// What an operator has stopped.
pub fn holds(partition: &Partition, node: &NodeId, now: Now) -> Vec<Blocker> {
    let facts = partition.node(node);
    [(Scope::Date, &partition.hold), (Scope::Node, &facts.hold)]
        .into_iter()
        .filter_map(|(scope, hold)| Some((scope, hold.as_ref().filter(|hold| hold.holds_at(now.at))?)))
        .map(|(scope, hold)| held(scope, hold))
        .collect()
}

fn held(scope: Scope, hold: &Hold) -> Blocker {
    Blocker::Held { scope, actor: hold.actor.clone(), reason: hold.reason.clone(), until: hold.until }
}

/// Holds, the calendar and the pass over the date: what stops a node whatever its dependencies.
pub fn circumstances(times: &Timetable<'_>, partition: &Partition, node: &Node, now: Now) -> Vec<Blocker> {
    let mut blockers = holds(partition, &node.id, now);
    let facts = partition.node(&node.id);
    let wished = facts.wish.is_some();
    if times.has_no_games() && !wished {
        blockers.push(Blocker::NoGames);
    }
    if let Some((from, until)) = times.pass(node) {
        if !now.reached(from) && !wished {
            blockers.push(Blocker::NotYet { until: from });
        }
        if now.reached(until) && !wished {
            blockers.push(Blocker::Over { since: until });
        }
    }
    blockers
}

/// Whether the node is over for this date: nothing more will be done about it unless an operator asks.
pub fn is_settled(node: &Node, state: &State) -> bool {
    matches!(node.kind, Kind::Gate(_))
        || matches!(
            state,
            State::Succeeded { .. } | State::Skipped { .. } | State::Expired { .. } | State::Exhausted { .. }
        )
}
