//! What should be sent now, read off the whole partition. `plan` never sees an event.
//!
//! A completion, a heartbeat, a timer, a restart and an operator's wish reach dispatch through this one walk in
//! topological order. Recovery has no code of its own: a run that fell silent is a failed attempt, and a failed
//! attempt is a reason to run. Only this module makes a `Dispatch`.
//!
//! What people should know of it is in `conditions`, what the warehouse is asked in `questions`, what a run may cost in
//! `budget`, which games it is about in `affected`, and who of a silent phase is tried in `trial`.
//!
//! Keeps `dispatch-after-ready`, `held-is-still`, `budget-bounds`, `quiescent`: planning again at once changes nothing.

mod affected;
mod budget;
mod conditions;
mod questions;
mod stall;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::effect::{Cause, Dispatch, Effect, Manifest, Severity};
use super::event::{RunWord, Upstream};
use super::evidence::Extant;
use super::failure;
use super::graph::{Graph, Heartbeats, Kind, Node, Offset, Rebuild, Task, Unit};
use super::id::{AlertKey, Attempt, NodeId, RunId, UnitId};
use super::partition::{
    Backfilled, End, Failure, FailureKind, Fingerprint, LastDispatch, Node as Facts, Partition, Spent, Starter, State,
    Way, end,
};
use super::readiness::{self, Blocker, Readiness, Standing, Standings};
use super::shadow::NOT_SENT;
use super::silence::{self, Silent};
use super::time::{Now, Wake, after};
use super::timetable::Timetable;
use super::units;
use affected::Shortage;
use budget::{bounds, charge, is_charged, spaced, tally, used_up};
use conditions::{Condition, empty_days};

/// What the walk found for one node.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its dependencies.
    pub readiness: Readiness,
    /// Why it should run, if it should.
    pub want: Option<Cause>,
    /// Why it does not, if it should.
    pub blockers: Vec<Blocker>,
}

/// The result of a walk.
#[derive(Debug)]
pub struct Plan {
    /// What to send.
    pub effects: Vec<Effect>,
    /// When to look again though nothing happens.
    pub wake_at: Option<Timestamp>,
    /// What was found, node by node.
    pub verdicts: BTreeMap<NodeId, Verdict>,
    /// How each node stands as an input.
    pub standings: Standings,
}

/// Walks the graph once; the partition is left in the state that its dispatches and verdicts of silence put it in.
pub fn plan(graph: &Graph, partition: &mut Partition, now: Now) -> Plan {
    let mut wake = Wake::new(now);
    if let Some(expires) = partition.lapse(now.at) {
        wake.at(expires);
    }
    let times = Timetable::of(graph, partition);
    let mut walk = Walk {
        times: &times,
        now,
        wake,
        effects: Vec::new(),
        conditions: BTreeMap::new(),
        closings: BTreeMap::new(),
        off_day: BTreeSet::new(),
        late: BTreeMap::new(),
        silent: BTreeMap::new(),
        may_try_others: true,
        verdicts: BTreeMap::new(),
        standings: BTreeMap::new(),
    };
    walk.lose(partition);
    walk.silent = silence::phases(&times, partition, now, &mut walk.wake);
    walk.nodes(partition);
    // What people are told is as the walk has left it: whom it has asked for may end a silence.
    walk.silent = silence::phases(&times, partition, now, &mut walk.wake);
    if walk.has_silenced() {
        walk.once_more(partition);
    }
    walk.not_begun(partition);
    walk.notify(partition);
    walk.notes(partition);
    walk.shared_failures(partition);
    walk.days_off(partition);
    walk.schedule(partition);
    walk.late_phases(partition);
    walk.silent_phases(partition);
    walk.revisions(partition);
    walk.holds(partition);
    walk.alert(partition);
    Plan { effects: walk.effects, wake_at: walk.wake.earliest(), verdicts: walk.verdicts, standings: walk.standings }
}

struct Walk<'a> {
    times: &'a Timetable<'a>,
    now: Now,
    wake: Wake,
    effects: Vec<Effect>,
    conditions: BTreeMap<AlertKey, Condition>,
    /// What is said at the end of a condition, where its key does not say it all.
    closings: BTreeMap<AlertKey, String>,
    /// Who failed on a date without games.
    off_day: BTreeSet<Arc<str>>,
    /// What is late, by phase, with when it was due.
    late: BTreeMap<Arc<str>, Vec<(NodeId, Timestamp)>>,
    /// Phases in which nobody shows a sign of life.
    silent: BTreeMap<Arc<str>, Silent>,
    /// The walk may still end a silence, or give up who was tried in it, so that others that wait for that may go.
    may_try_others: bool,
    verdicts: BTreeMap<NodeId, Verdict>,
    standings: Standings,
}

impl Walk<'_> {
    /// Every node after those it depends on.
    fn nodes(&mut self, partition: &mut Partition) {
        let graph = self.times.graph;
        for id in &graph.order {
            let Some(node) = graph.node(id) else { continue };
            let standing = match &node.kind {
                Kind::Source(road) => self.source(partition, node, road.as_ref()),
                Kind::Gate(gate) => {
                    let standing = readiness::join(self.times, partition, node, gate, &self.standings, self.now);
                    self.gate(partition, node, &standing);
                    standing
                }
                Kind::Task(task) => self.task(partition, node, task),
            };
            self.standings.insert(id.clone(), standing);
        }
    }

    fn source(&mut self, partition: &mut Partition, node: &Node, road: Option<&Task>) -> Standing {
        let known = partition.nodes.contains_key(&node.id);
        if known {
            let date = partition.key.date;
            let facts = partition.node_mut(&node.id);
            self.silence(facts, node);
            if road.is_some() {
                reconcile_asked(facts);
                self.not_started(facts, node, date);
                tally(facts);
            }
            reconcile(facts);
            self.doubt(partition, node);
        }
        self.verify(partition, node);
        self.look_when_due(partition, node);
        let readiness = readiness::dependencies(self.times, partition, node, &self.standings, self.now);
        let mut blockers = readiness.blockers.clone();
        let mut want = None;
        if let Some(task) = road {
            let fingerprint = readiness.fingerprint();
            if known {
                let facts = partition.node_mut(&node.id);
                charge(self.times.graph, node, facts, fingerprint, readiness.newest);
                fulfil(facts);
            }
            want = self.lacks(partition, node, fingerprint);
            if let Some(cause) = want {
                // Its producer waits for nobody; only what bounds our asking stands in the way.
                blockers = readiness::circumstances(self.times, partition, node, self.now);
                let facts = partition.node(&node.id);
                blockers.extend(bounds(facts, task, &readiness, fingerprint, cause, self.now));
                blockers.extend(spaced(facts, node, cause, self.now));
                blockers.extend(used_up(self.times.graph, partition, node, cause, self.now));
                let units = self.lacking_units(partition, node);
                self.attempt(partition, node, &readiness, (fingerprint, cause, units), &blockers);
            }
        }
        self.trouble(partition, node);
        self.lateness(partition, node);
        self.contradictions(partition, node);
        self.shortfall(partition, node);
        self.always_empty(partition, node);
        self.verdicts.insert(node.id.clone(), Verdict { blockers, readiness, want });
        readiness::stand(self.times, partition, node, false, false, self.now)
    }

    /// Why the producer of a source should be asked, if it should: it has nothing, or not all, of what is due by now.
    fn lacks(&self, partition: &Partition, node: &Node, fingerprint: Fingerprint) -> Option<Cause> {
        let facts = partition.node(&node.id);
        if facts.state.is_live() {
            return None;
        }
        if let Some(wish) = &facts.wish {
            return Some(wish.cause());
        }
        if self.times.graph.backfill.is_for_that_alone(&node.id) {
            return None;
        }
        let late = self.is_late(partition, node).is_some();
        let is_schedule = self.times.graph.calendar.schedule.as_ref() == Some(&node.id);
        let doubtful = is_schedule
            && (partition.schedule.as_ref().is_some_and(|schedule| schedule.emptied_at.is_some())
                || !self.times.overlong(self.now.at).0.is_empty());
        let spent = facts.spent.get(&fingerprint).copied().unwrap_or_default();
        let seen = facts.evidence.observation.as_ref().filter(|_| facts.evidence.newest_claim().is_none());
        let short = !node.expects.due.is_empty()
            && spent.repairs == 0
            && seen.is_some_and(|seen| units::short_units(seen).next().is_some());
        match &facts.state {
            State::Failed { .. } => match facts.failure.as_ref().map(|failure| failure.kind) {
                // Producers try again by their own schedule, until it is too late. What is empty before it is due may come
                // yet: a file of before the games uses up no attempt.
                Some(FailureKind::Reported) if !late => None,
                Some(FailureKind::Empty) if !late && !node.expects.due.is_empty() => None,
                kind => Some(kind.map_or(Cause::Failed, FailureKind::cause)),
            },
            State::Waiting | State::Succeeded { .. } if late || doubtful => Some(Cause::Overdue),
            State::Waiting | State::Succeeded { .. } if short => Some(Cause::CoverageShort),
            State::Exhausted { .. } if late && spent == Spent::default() => Some(Cause::Overdue),
            _ => None,
        }
    }

    /// The parts that a source is asked for: those that teams need which play today, else all that are missing.
    fn lacking_units(&self, partition: &Partition, node: &Node) -> BTreeSet<UnitId> {
        let facts = partition.node(&node.id);
        match &facts.evidence.observation {
            Some(seen) if facts.evidence.newest_claim().is_none() => {
                let playing = units::playing(self.times, seen);
                if playing.is_empty() { units::short_units(seen).cloned().collect() } else { playing }
            }
            _ if node.expects.unit != Unit::Any && facts.evidence.extant() != Extant::Nothing => {
                units::deficits(self.times, partition, node, Timestamp::MIN).into_keys().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Dispatches what nothing stands in the way of; moves what has given up; else looks again when a clock may help.
    fn attempt(
        &mut self,
        partition: &mut Partition,
        node: &Node,
        readiness: &Readiness,
        (fingerprint, cause, units): (Fingerprint, Cause, BTreeSet<UnitId>),
        blockers: &[Blocker],
    ) {
        self.settle(partition, node, blockers);
        if blockers.is_empty() {
            self.dispatch(partition, node, readiness, (fingerprint, cause, units));
            return;
        }
        if !readiness::is_spent(blockers) {
            for until in blockers.iter().filter_map(Blocker::until) {
                self.wake.at(until);
            }
        }
        if let Some((_, until)) = self.times.pass(node)
            && !self.now.reached(until)
        {
            self.wake.at(until);
        }
    }

    fn gate(&mut self, partition: &Partition, node: &Node, standing: &Standing) {
        let Some(join) = &standing.join else { return };
        let readiness = readiness::dependencies(self.times, partition, node, &self.standings, self.now);
        let mut blockers = Vec::new();
        if !join.open {
            if let Some((_, at)) = join.next.filter(|_| join.has_any()) {
                self.wake.at(at);
            }
            blockers.push(Blocker::Quorum {
                gate: node.id.clone(),
                good: join.good,
                total: join.total,
                missing: join.missing.clone(),
                missing_critical: join.missing_critical.clone(),
                until: join.next.map(|(_, at)| at),
            });
        }
        let over = self.times.has_no_games() || self.times.pass(node).is_some_and(|(_, until)| self.now.reached(until));
        if join.open && join.relaxed && !join.missing.is_empty() && !over {
            let text =
                format!("{} goes on with {} of {}: {} missing", node.id, join.good, join.total, list(&join.missing));
            self.condition("quorum", node, partition, Severity::Warning, text);
        }
        let given_up =
            |member: &NodeId| matches!(partition.node(member).state, State::Exhausted { .. } | State::Expired { .. });
        let hopeless = join.missing_critical.iter().any(given_up)
            || join.missing_critical.is_empty() && join.missing.iter().any(given_up);
        if !join.open && join.last_tier_over && join.has_any() && hopeless && !over {
            let lacking = if join.missing_critical.is_empty() { &join.missing } else { &join.missing_critical };
            let text = format!("{} cannot open: {} missing, and no later tier will do", node.id, list(lacking));
            self.condition("impossible", node, partition, Severity::Critical, text);
        }
        self.verdicts.insert(node.id.clone(), Verdict { readiness, want: None, blockers });
    }

    fn task(&mut self, partition: &mut Partition, node: &Node, task: &Task) -> Standing {
        let known = partition.nodes.contains_key(&node.id);
        if known {
            let date = partition.key.date;
            let facts = partition.node_mut(&node.id);
            reconcile_unreported(facts);
            self.silence(facts, node);
            self.stalled(partition, node);
            let facts = partition.node_mut(&node.id);
            self.not_started(facts, node, date);
            tally(facts);
            reconcile(facts);
            self.inquire(partition, node);
        }
        // After `reconcile`, for what the output was built from decides whether its inputs are newer.
        let readiness = readiness::dependencies(self.times, partition, node, &self.standings, self.now);
        let fingerprint = readiness.fingerprint();
        if known {
            let facts = partition.node_mut(&node.id);
            charge(self.times.graph, node, facts, fingerprint, readiness.newest);
            fulfil(facts);
        }
        self.verify(partition, node);
        let shortage = self.shortage(partition, node);
        let want = want(self.times.graph, partition.node(&node.id), task, &readiness, fingerprint, shortage.as_ref());
        let mut blockers = Vec::new();
        if let Some(cause) = want {
            blockers = readiness.blockers.clone();
            blockers.extend(readiness::circumstances(self.times, partition, node, self.now));
            let facts = partition.node(&node.id);
            blockers.extend(bounds(facts, task, &readiness, fingerprint, cause, self.now));
            blockers.extend(used_up(self.times.graph, partition, node, cause, self.now));
            let unchecked = match blockers.is_empty() {
                true => readiness::checks(partition, node, readiness.newest, self.now),
                false => Vec::new(),
            };
            let is_free = blockers.is_empty() && unchecked.is_empty();
            match self.untried(node, cause, is_free) {
                Some(silent) => blockers.push(silent),
                None => {
                    self.check(partition, node, &unchecked);
                    blockers.extend(unchecked);
                }
            }
            self.ask(partition, node, &readiness, &blockers);
            let units = self.affected(partition, node, cause, shortage);
            let paid = if cause == Cause::CoverageShort { readiness.all_inputs() } else { fingerprint };
            self.attempt(partition, node, &readiness, (paid, cause, units), &blockers);
        }
        self.trouble(partition, node);
        self.lateness(partition, node);
        self.contradictions(partition, node);
        self.checked(partition, node, &blockers);
        self.game_coverage(partition, node);
        self.foreseen(partition, node);
        self.given_up(partition, node, &readiness, &blockers);
        // A node that has just given up is told of as exhausted or expired, not as blocked.
        let given_up = matches!(partition.node(&node.id).state, State::Exhausted { .. } | State::Expired { .. });
        if want.is_some() && !given_up {
            self.coverage(partition, node, &blockers);
        }
        let renewing = want.is_some()
            && partition.nodes.get(&node.id).is_some_and(|facts| facts.built_from.is_some())
            && !blockers.is_empty()
            && blockers.iter().all(|blocker| {
                // Who may be made anew by the end of this very walk is not built on before.
                let may_end = self.may_try_others && matches!(blocker, Blocker::PhaseSilent { .. });
                may_end || blocker.is_a_matter_of_minutes()
            });
        let stale = readiness.is_unusable() && task.rebuild != Rebuild::Never;
        let standing = readiness::stand(self.times, partition, node, renewing, stale, self.now);
        self.verdicts.insert(node.id.clone(), Verdict { readiness, want, blockers });
        standing
    }

    /// Fences the runs that an operator gives up, before anything is made of who is alive.
    fn lose(&mut self, partition: &mut Partition) {
        let is_lost = |facts: &Facts| facts.runs.values().any(|run| run.is_said(RunWord::GiveUp));
        let losing: Vec<NodeId> =
            partition.nodes.iter().filter(|(_, facts)| is_lost(facts)).map(|(id, _)| id.clone()).collect();
        for id in losing {
            let Some(node) = self.times.graph.node(&id) else { continue };
            let facts = partition.node_mut(&id);
            let lost = facts.runs.iter().filter(|(_, run)| run.is_said(RunWord::GiveUp)).map(|(run, _)| run.clone());
            let lost: Vec<RunId> = lost.collect();
            self.fence(facts, node, &lost);
        }
    }

    /// Fences runs that have been silent too long.
    fn silence(&mut self, facts: &mut Facts, node: &Node) {
        let dead: Vec<RunId> = facts
            .runs
            .iter()
            .filter(|(_, run)| {
                let deadline = after(run.last, node.liveness.dead_after);
                let silent = self.now.silent_until(deadline);
                if !silent {
                    let stale = after(run.last, node.liveness.stale_after);
                    self.wake.at(if self.now.silent_until(stale) { deadline } else { stale });
                }
                silent
            })
            .map(|(id, _)| id.clone())
            .collect();
        self.fence(facts, node, &dead);
        if let State::Running { since, .. } = facts.state
            && facts.runs.is_empty()
        {
            let deadline = after(since, node.liveness.dead_after);
            if self.now.silent_until(deadline) {
                self.fail(facts, (None, Some(since)), FailureKind::Silent, "its run is no longer heard of".to_owned());
            } else {
                self.wake.at(deadline);
            }
        }
    }

    /// Ends runs that are dead, and lets go of what they hold.
    fn fence(&mut self, facts: &mut Facts, node: &Node, dead: &[RunId]) {
        for run in dead {
            let Some(lost) = facts.runs.remove(run) else { continue };
            end(facts, run, self.now.at, End::Fenced);
            self.effects.push(Effect::ReleaseLock { node: node.id.clone(), run: run.clone() });
            if let Some(answer) = facts.evidence.claim.as_ref().filter(|claim| claim.published >= lost.first) {
                // It reported under another name: what it was running for is there.
                if matches!(facts.state, State::Running { .. }) && facts.runs.is_empty() && facts.failure.is_none() {
                    facts.state = State::Succeeded { at: answer.published };
                }
                continue;
            }
            let silence = self.now.at.duration_since(lost.last).as_secs() / 60;
            let text = if let Some(word) = lost.word.as_ref().filter(|word| word.word == RunWord::GiveUp) {
                format!("given up by {}: {}", word.actor, word.reason)
            } else if lost.ended_unreported {
                format!("it ended {silence} minutes ago without a completion, and its rows are not there")
            } else {
                format!("no heartbeat for {silence} minutes")
            };
            self.fail(facts, (Some(run.clone()), Some(lost.first)), FailureKind::Silent, text);
        }
    }

    /// A failure that we noticed ourselves, of which run, and when that began. A node with live runs goes on; one with an output
    /// keeps it.
    fn fail(
        &self,
        facts: &mut Facts,
        (run, began): (Option<RunId>, Option<Timestamp>),
        kind: FailureKind,
        text: String,
    ) {
        let charged = match facts.state {
            State::Running { starter, .. } => starter == Starter::Us,
            State::Dispatched { .. } => true,
            State::Waiting
            | State::Succeeded { .. }
            | State::Failed { .. }
            | State::Exhausted { .. }
            | State::Skipped { .. }
            | State::Expired { .. } => false,
        };
        facts.failure = Some(Failure { at: self.now.at, run, kind, text: text.into(), charged, began });
        if matches!(facts.state, State::Running { starter: Starter::Them, .. })
            && facts.runs.is_empty()
            && facts.stands()
        {
            facts.state = facts.stood();
            return;
        }
        // A dispatch outlives the silence of runs older than itself; it fails if it is not started.
        let over = match facts.state {
            State::Running { .. } => facts.runs.is_empty(),
            State::Dispatched { .. } => kind == FailureKind::NotStarted,
            State::Waiting
            | State::Succeeded { .. }
            | State::Failed { .. }
            | State::Exhausted { .. }
            | State::Skipped { .. }
            | State::Expired { .. } => false,
        };
        if over {
            facts.state = State::Failed { at: self.now.at };
        }
    }

    /// A dispatch without a sign of life was not started; that is not a used attempt.
    fn not_started(&mut self, facts: &mut Facts, node: &Node, date: Date) {
        let State::Dispatched { at } = facts.state else { return };
        let within = match node.liveness.heartbeats {
            Heartbeats::Sent => node.liveness.start_within,
            Heartbeats::None => node.liveness.duration_max,
        };
        let from = match &facts.way {
            // Nobody can have started what nobody has been handed. It is still tried, and an operator has been told; when
            // its pass is over it is not wanted any more.
            Some(Way::Refused { reason, .. }) => {
                // What an operator or a plan of backfill asks for when that is over already is wanted all the same.
                let end = self.times.graph.pass(node, date).map(|(_, until)| until).filter(|end| at < *end);
                match end {
                    // Nobody was asked, so nobody has failed to begin.
                    Some(end) if self.now.reached(end) && &**reason == NOT_SENT => {
                        budget::give_back(facts, false);
                        if let Some(backfilled) = &mut facts.backfilled {
                            backfilled.open = false;
                        }
                        facts.state = State::Waiting;
                    }
                    Some(end) if self.now.reached(end) => {
                        let text = format!("it could not be handed over before its pass ended: {reason}");
                        budget::give_back(facts, true);
                        if let Some(backfilled) = &mut facts.backfilled {
                            backfilled.open = false;
                        }
                        self.fail(facts, (None, None), FailureKind::NotStarted, text);
                    }
                    Some(end) => self.wake.at(end),
                    None => self.wake.at(after(self.now.at, within)),
                }
                return;
            }
            Some(Way::Taken { at: taken }) => at.max(*taken),
            None => at,
        };
        let deadline = after(from, within);
        if !self.now.silent_until(deadline) {
            self.wake.at(deadline);
            return;
        }
        // Where nobody in the phase begins, that says nothing of this node: it has its tries once somebody does.
        let counts = node.task().is_none() || !self.silent.contains_key(&*node.phase);
        budget::give_back(facts, counts);
        let text = format!("no sign of life within {}", minutes(within));
        self.fail(facts, (None, None), FailureKind::NotStarted, text);
        if facts.unstarted_since.is_none_or(|since| facts.heard_at > Some(since)) {
            facts.unstarted_since = Some(from);
        }
    }

    /// Moves a node whose budget or pass is over to the state that says so.
    fn settle(&self, partition: &mut Partition, node: &Node, blockers: &[Blocker]) {
        let spent = readiness::is_spent(blockers);
        let over = blockers.iter().any(|blocker| matches!(blocker, Blocker::Over { .. }));
        let state = partition.node(&node.id).state.clone();
        match state {
            State::Waiting | State::Failed { .. } if over => {
                partition.node_mut(&node.id).state = State::Expired { at: self.now.at };
            }
            State::Failed { .. } if spent => {
                partition.node_mut(&node.id).state = State::Exhausted { at: self.now.at };
            }
            State::Waiting
            | State::Failed { .. }
            | State::Dispatched { .. }
            | State::Running { .. }
            | State::Succeeded { .. }
            | State::Exhausted { .. }
            | State::Skipped { .. }
            | State::Expired { .. } => {}
        }
    }

    fn dispatch(
        &mut self,
        partition: &mut Partition,
        node: &Node,
        readiness: &Readiness,
        (fingerprint, cause, units): (Fingerprint, Cause, BTreeSet<UnitId>),
    ) {
        let key = partition.key.clone();
        let facts = partition.node_mut(&node.id);
        let plan = facts.wish.take().and_then(|wish| wish.plan);
        let before = facts.backfilled.take_if(|backfilled| plan.as_ref() == Some(&backfilled.plan));
        let again = matches!(cause, Cause::Failed | Cause::HeartbeatDead | Cause::NotStarted)
            || before.as_ref().is_some_and(|before| before.attempts > 0);
        let retry = again && facts.attempt.run > 0;
        facts.attempt = if retry {
            Attempt { run: facts.attempt.run, attempt: facts.attempt.attempt + 1 }
        } else {
            Attempt { run: facts.attempt.run + 1, attempt: 1 }
        };
        let spent = facts.spent.entry(fingerprint).or_default();
        if is_charged(cause) {
            spent.attempts += 1;
        }
        if cause == Cause::CoverageShort {
            spent.repairs += 1;
        }
        facts.dispatches += 1;
        if let Some(plan) = plan {
            let attempts = before.map_or(0, |backfilled| backfilled.attempts);
            facts.backfilled = Some(Backfilled { plan, at: self.now.at, attempts, open: true });
        }
        facts.way = None;
        facts.double_run = false;
        facts.state = State::Dispatched { at: self.now.at };
        let id = facts.attempt.dispatch_id(&key, &node.id);
        let degraded = !readiness.missing.is_empty();
        facts.last = Some(LastDispatch {
            id: id.clone(),
            at: self.now.at,
            cause,
            fingerprint,
            degraded,
            missing: readiness.missing.clone(),
        });
        let fenced = facts.failure.as_ref().filter(|failure| failure.kind == FailureKind::Silent);
        let (trace, links) = readiness.traces.parent_and_links();
        let manifest = Manifest {
            cycle: node.cycle.clone(),
            attempt: facts.attempt,
            cause,
            inputs: readiness.inputs.clone(),
            degraded,
            missing: readiness.missing.clone(),
            waived: readiness.waived.clone(),
            fenced: fenced.and_then(|failure| failure.run.clone()),
            correlation: readiness.correlation.clone(),
            closes: None,
            units,
            trace,
            links,
        };
        // The deadline of the new state, for the walk has passed the place where it is looked at.
        let within = match node.liveness.heartbeats {
            Heartbeats::Sent => node.liveness.start_within,
            Heartbeats::None => node.liveness.duration_max,
        };
        self.wake.at(after(self.now.at, within));
        self.effects.push(Effect::Dispatch(Dispatch {
            id,
            key,
            node: node.id.clone(),
            decided_at: self.now.at,
            manifest,
        }));
    }

    /// What will not be done any more, and of which no failure tells.
    fn given_up(&mut self, partition: &mut Partition, node: &Node, readiness: &Readiness, blockers: &[Blocker]) {
        let is_over = |id: &NodeId| matches!(partition.node(id).state, State::Expired { .. } | State::Exhausted { .. });
        match partition.node(&node.id).state {
            State::Expired { .. } => {
                let facts = partition.node(&node.id);
                // That the warehouse has none of it is no word for it having been done.
                let none = match facts.evidence.extant() {
                    Extant::Nothing => true,
                    Extant::Known(coverage) => coverage.observed() == 0,
                    Extant::Unknown | Extant::Claimed => false,
                };
                let nothing = none && facts.failure.is_none();
                // What came for it when its pass was over already, as by a backfill, was not missed then.
                let pass = self.times.pass(node);
                let in_time = pass.is_none_or(|(_, until)| {
                    readiness.newest.is_none_or(|newest| newest < until)
                        && readiness.engaged_since.is_some_and(|since| since < until)
                });
                let needed = readiness.engaged && in_time && !self.times.has_no_games();
                // While another pass of the same processor may still make up for it, it is no loss.
                if nothing && needed && self.times.graph.family(&node.id).iter().all(is_over) {
                    // It may have been done, and nobody have said so.
                    if pass.is_some_and(|(_, until)| self.answer_may_come(partition, node, until)) {
                        return;
                    }
                    let text = format!("{} was not done before its pass over the date ended", node.id);
                    self.condition("missed", node, partition, Severity::Warning, text);
                    let done = "nothing is sent for it any more; backfill plans it where the date is recent enough";
                    self.done("missed", node, partition, done);
                }
            }
            State::Succeeded { .. } if readiness::is_spent(blockers) => {
                let text = format!("{} is not made again although its inputs are newer: its budget is spent", node.id);
                self.condition("outdated", node, partition, Severity::Warning, text);
            }
            _ => {}
        }
    }

    /// Carries evidence to the next date for the nodes that another date looks back at.
    fn notify(&mut self, partition: &mut Partition) {
        let Ok(to) = partition.key.date.tomorrow() else { return };
        let no_games = self.times.has_no_games();
        for id in &self.times.graph.order {
            let looked_back_at = self.times.graph.dependents(id).iter().any(|(_, offset)| *offset != Offset::Same);
            let counted = self.times.graph.node(id).filter(|node| node.expects.empty_days_max.is_some());
            if !looked_back_at && counted.is_none() {
                continue;
            }
            let upstream = if no_games {
                partition.upstream.get(id).cloned()
            } else if let Some(node) = counted {
                self.emptiness(partition, node)
            } else {
                self.standings.get(id).and_then(|standing| {
                    Some(Upstream {
                        date: partition.key.date,
                        told_at: self.now.at,
                        extant: if standing.stale { Extant::Unknown } else { standing.extant },
                        version: standing.version,
                        since: standing.since.or(standing.waived)?,
                        renewing: standing.renewing,
                        waived: standing.waived.is_some() && standing.since.is_none(),
                        empty_days: 0,
                    })
                })
            };
            let Some(upstream) = upstream else { continue };
            let told = partition.notified.get(id).map(|told| Upstream { told_at: upstream.told_at, ..told.clone() });
            if told.as_ref() != Some(&upstream) {
                partition.notified.insert(id.clone(), upstream.clone());
                self.effects.push(Effect::NotifyPartition { to, node: id.clone(), upstream });
            }
        }
    }

    /// How many game days in a row a source has had no data, carried to the next date.
    fn emptiness(&self, partition: &Partition, node: &Node) -> Option<Upstream> {
        let days = empty_days(self.times, partition, node);
        let facts = partition.node(&node.id);
        let since = facts.failure.as_ref().map(|failure| failure.at).or(facts.evidence.since())?;
        Some(Upstream {
            date: partition.key.date,
            told_at: self.now.at,
            extant: facts.evidence.extant(),
            version: facts.evidence.version(),
            since,
            renewing: false,
            waived: false,
            empty_days: days,
        })
    }

    /// Has the warehouse count an output at the time it is due: what its producer says is not all there is to know.
    fn look_when_due(&mut self, partition: &mut Partition, node: &Node) {
        let due = self.times.anchored(&node.expects.due);
        let Some(due) = due.filter(|_| node.probed) else { return };
        let over = self.times.pass(node).is_some_and(|(_, until)| self.now.reached(until));
        if !over && self.now.reached(due) {
            self.observe_since(partition, node, due);
            let seen = partition.node(&node.id).evidence.observation.clone();
            if seen.is_some_and(|seen| !seen.coverage.is_full()) {
                self.observe(partition, partition.key.date, node.id.clone());
            }
        }
    }

    fn holds(&mut self, partition: &Partition) {
        let holds = partition.nodes.values().map(|facts| &facts.hold).chain([&partition.hold]);
        let edges = partition.nodes.values().flat_map(|facts| facts.edges.values().map(|word| &word.by));
        for until in holds.flatten().chain(edges).filter_map(|hold| hold.until) {
            if !self.now.reached(until) {
                self.wake.at(until);
            }
        }
    }
}

/// Rows that are there outweigh a status that says they are not.
fn reconcile(facts: &mut Facts) {
    let Some(seen) = &facts.evidence.observation else { return };
    let failed_at = facts.failure.as_ref().map_or(Timestamp::MIN, |failure| failure.at);
    let unfinished =
        matches!(facts.state, State::Waiting | State::Failed { .. } | State::Exhausted { .. } | State::Expired { .. });
    if unfinished && seen.coverage.is_full() && seen.at >= failed_at {
        facts.state = State::Succeeded { at: seen.at };
        facts.built_from = facts.built_from.max(Some(seen.since));
        facts.failure = None;
    } else if unfinished && facts.built_from.is_none() {
        facts.built_from = Some(seen.since);
    }
}

/// What a producer was asked for is there: it has done it, whether it says so or not.
fn reconcile_asked(facts: &mut Facts) {
    let State::Dispatched { at: asked } = facts.state else { return };
    if let Some(seen) = facts.evidence.observation.as_ref().filter(|seen| seen.coverage.is_full() && seen.at > asked) {
        facts.state = State::Succeeded { at: seen.at };
        facts.failure = None;
    }
}

/// A run that said goodbye without a completion has done its work if the rows are there since.
fn reconcile_unreported(facts: &mut Facts) {
    let State::Running { inputs_at, .. } = facts.state else { return };
    let Some(seen) = &facts.evidence.observation else { return };
    let at = seen.at;
    let all = !facts.runs.is_empty() && facts.runs.values().all(|run| run.ended_unreported && at >= run.last);
    if all && seen.coverage.is_full() {
        for run in std::mem::take(&mut facts.runs).into_keys() {
            end(facts, &run, at, End::Done);
        }
        facts.state = State::Succeeded { at };
        facts.built_from = facts.built_from.max(Some(inputs_at));
        facts.failure = None;
    }
}

/// A wish is fulfilled by an output that came after it.
fn fulfil(facts: &mut Facts) {
    let done = match (&facts.wish, &facts.state) {
        (Some(wish), State::Succeeded { at }) => *at > wish.at,
        (Some(_) | None, _) => false,
    };
    if done {
        facts.wish = None;
    }
}

/// Why the node should run, if it should.
fn want(
    graph: &Graph,
    facts: &Facts,
    task: &Task,
    readiness: &Readiness,
    fingerprint: Fingerprint,
    shortage: Option<&Shortage>,
) -> Option<Cause> {
    if facts.state.is_live() {
        return None;
    }
    if let Some(wish) = &facts.wish {
        return Some(wish.cause());
    }
    let spent = facts.spent.get(&fingerprint).copied().unwrap_or_default();
    // Once for what all its inputs are now, those included that are no reason for a new run by themselves.
    let repaired = facts.spent.get(&readiness.all_inputs()).is_some_and(|spent| spent.repairs > 0);
    let short = shortage.is_some() && !repaired;
    let stale = readiness.is_stale() && task.rebuild != Rebuild::Never;
    match &facts.state {
        State::Waiting => Some(Cause::DependenciesMet),
        State::Failed { .. } if spent == Spent::default() && failure::is_of_its_inputs(graph, facts) => {
            Some(Cause::InputsNewer)
        }
        State::Failed { .. } => Some(facts.failure.as_ref().map_or(Cause::Failed, |failure| failure.kind.cause())),
        State::Succeeded { .. } if stale => Some(Cause::InputsNewer),
        State::Succeeded { .. } if short => Some(Cause::CoverageShort),
        // News since: what was known when it gave up is no reason to begin again.
        State::Exhausted { at } if short && facts.evidence.observation.as_ref().is_some_and(|seen| seen.at > *at) => {
            Some(Cause::CoverageShort)
        }
        State::Exhausted { .. } if spent == Spent::default() => Some(Cause::InputsNewer),
        State::Succeeded { .. } | State::Exhausted { .. } | State::Skipped { .. } | State::Expired { .. } => None,
        State::Dispatched { .. } | State::Running { .. } => None,
    }
}

fn list(nodes: &std::collections::BTreeSet<NodeId>) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

fn minutes(span: SignedDuration) -> String {
    format!("{} minutes", span.as_secs() / 60)
}

fn clock(at: Timestamp) -> String {
    format!("{}", at.strftime("%H:%M:%SZ"))
}
