//! What should be sent now, read off the whole partition. `plan` never sees an event.
//!
//! A completion, a heartbeat, a timer, a restart and an operator's wish reach dispatch through this one walk in
//! topological order. Recovery has no code of its own: a run that fell silent is a failed attempt, and a failed
//! attempt is a reason to run. Only this module makes a `Dispatch`.
//!
//! Keeps `dispatch-after-ready`, `held-is-still`, `budget-bounds`, `quiescent`: planning again at once changes nothing.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::coverage::PerMille;
use super::effect::{Alert, Cause, Dispatch, Effect, Manifest, Severity, Turn};
use super::event::{Note, Upstream};
use super::evidence::Extant;
use super::failure;
use super::graph::{Graph, Heartbeats, Kind, Node, Offset, Rebuild, Task};
use super::id::{AlertKey, Attempt, NodeId, RunId};
use super::partition::{
    End, Failure, FailureKind, Fingerprint, LastDispatch, Node as Facts, Partition, Spent, Starter, State, Way, end,
};
use super::readiness::{self, Blocker, Readiness, Standing, Standings};
use super::time::{Now, Wake, after};

/// Input sets a node's budget is kept for; a node whose inputs change more often than this on one date is held back.
const FINGERPRINTS_MAX: usize = 64;

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
    let mut walk = Walk {
        graph,
        now,
        wake: Wake::new(now),
        effects: Vec::new(),
        conditions: BTreeMap::new(),
        verdicts: BTreeMap::new(),
        standings: BTreeMap::new(),
    };
    for id in &graph.order {
        let Some(node) = graph.node(id.as_str()) else { continue };
        let standing = match &node.kind {
            Kind::Source => walk.source(partition, node),
            Kind::Gate(gate) => {
                let standing = readiness::join(graph, partition, node, gate, &walk.standings, now);
                walk.gate(partition, node, &standing);
                standing
            }
            Kind::Task(task) => walk.task(partition, node, task),
        };
        walk.standings.insert(id.clone(), standing);
    }
    walk.notify(partition);
    walk.notes(partition);
    walk.shared_failures(partition);
    walk.holds(partition);
    walk.alert(partition);
    Plan { effects: walk.effects, wake_at: walk.wake.earliest(), verdicts: walk.verdicts, standings: walk.standings }
}

struct Walk<'a> {
    graph: &'a Graph,
    now: Now,
    wake: Wake,
    effects: Vec<Effect>,
    conditions: BTreeMap<AlertKey, (Severity, String)>,
    verdicts: BTreeMap<NodeId, Verdict>,
    standings: Standings,
}

impl Walk<'_> {
    fn source(&mut self, partition: &mut Partition, node: &Node) -> Standing {
        let facts = partition.nodes.get(&node.id);
        if facts.is_some() {
            let facts = partition.node_mut(&node.id);
            self.silence(facts, node);
            reconcile(facts);
            self.trouble(partition, node);
        }
        let readiness = readiness::dependencies(self.graph, partition, node, &self.standings, self.now);
        self.verdicts.insert(node.id.clone(), Verdict { blockers: readiness.blockers.clone(), readiness, want: None });
        readiness::stand(partition, node, false, false)
    }

    fn gate(&mut self, partition: &Partition, node: &Node, standing: &Standing) {
        let Some(join) = &standing.join else { return };
        let readiness = readiness::dependencies(self.graph, partition, node, &self.standings, self.now);
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
        let over = readiness::pass(self.graph, &partition.key, node).is_some_and(|(_, until)| self.now.reached(until));
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
            self.not_started(facts, node, date);
            reconcile(facts);
            self.inquire(partition, node);
        }
        // After `reconcile`, for what the output was built from decides whether its inputs are newer.
        let readiness = readiness::dependencies(self.graph, partition, node, &self.standings, self.now);
        let fingerprint = readiness.fingerprint();
        if known {
            let facts = partition.node_mut(&node.id);
            charge(self.graph, facts, task, fingerprint);
            fulfil(facts);
        }
        let required = self.graph.required_of(&node.id);
        let want = want(&partition.node(&node.id), task, &readiness, fingerprint, required);
        let mut blockers = Vec::new();
        if let Some(cause) = want {
            blockers = readiness.blockers.clone();
            blockers.extend(readiness::circumstances(self.graph, partition, node, self.now));
            let facts = partition.node(&node.id);
            blockers.extend(bounds(&facts, task, &readiness, fingerprint, cause, self.now));
            blockers.extend(used_up(self.graph, partition, node, cause, self.now));
            self.ask(partition, node, &readiness, &blockers);
            self.settle(partition, node, &blockers);
            if blockers.is_empty() {
                self.dispatch(partition, node, &readiness, fingerprint, cause);
            }
            // No clock lifts what is blocked by its budget as well.
            if !blockers.iter().any(|blocker| matches!(blocker, Blocker::Budget { .. })) {
                for until in blockers.iter().filter_map(Blocker::until) {
                    self.wake.at(until);
                }
            }
            if !blockers.is_empty()
                && let Some((_, until)) = readiness::pass(self.graph, &partition.key, node)
                && !self.now.reached(until)
            {
                self.wake.at(until);
            }
        }
        self.trouble(partition, node);
        self.given_up(partition, node, &readiness, &blockers);
        // A node that has just given up is told of as exhausted or expired, not as blocked.
        let given_up = matches!(partition.node(&node.id).state, State::Exhausted { .. } | State::Expired { .. });
        if want.is_some() && !given_up {
            self.coverage(partition, node, &blockers);
        }
        let renewing = want.is_some()
            && partition.nodes.get(&node.id).is_some_and(|facts| facts.built_from.is_some())
            && !blockers.is_empty()
            && blockers.iter().all(Blocker::is_a_matter_of_minutes);
        let stale = readiness.is_unusable() && task.rebuild != Rebuild::Never;
        let standing = readiness::stand(partition, node, renewing, stale);
        self.verdicts.insert(node.id.clone(), Verdict { readiness, want, blockers });
        standing
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
        for run in &dead {
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
            let text = if lost.ended_unreported {
                format!("it ended {silence} minutes ago without a completion, and its rows are not there")
            } else {
                format!("no heartbeat for {silence} minutes")
            };
            self.fail(facts, Some(run.clone()), FailureKind::Silent, text);
        }
        if let State::Running { since, .. } = facts.state
            && facts.runs.is_empty()
        {
            let deadline = after(since, node.liveness.dead_after);
            if self.now.silent_until(deadline) {
                self.fail(facts, None, FailureKind::Silent, "its run is no longer heard of".to_owned());
            } else {
                self.wake.at(deadline);
            }
        }
    }

    /// A failure that we noticed ourselves. A node with live runs goes on; one with an output keeps it.
    fn fail(&self, facts: &mut Facts, run: Option<RunId>, kind: FailureKind, text: String) {
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
        facts.failure = Some(Failure { at: self.now.at, run, kind, text: text.into(), charged });
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
                match self.graph.pass(node, date).map(|(_, until)| until) {
                    Some(end) if self.now.reached(end) => {
                        let text = format!("it could not be handed over before its pass ended: {reason}");
                        self.give_back(facts);
                        self.fail(facts, None, FailureKind::NotStarted, text);
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
        self.give_back(facts);
        let text = format!("no sign of life within {}", minutes(within));
        self.fail(facts, None, FailureKind::NotStarted, text);
    }

    /// A dispatch that was not started is not a used attempt, and is counted by itself.
    fn give_back(&self, facts: &mut Facts) {
        if let Some(last) = &facts.last
            && let Some(spent) = facts.spent.get_mut(&last.fingerprint)
        {
            if is_charged(last.cause) {
                spent.attempts = spent.attempts.saturating_sub(1);
            }
            spent.not_started += 1;
        }
    }

    /// Asks the warehouse about a run that said goodbye and reported nothing: only the rows can tell.
    fn inquire(&mut self, partition: &mut Partition, node: &Node) {
        let unreported = partition.node(&node.id).runs.values().any(|run| run.ended_unreported);
        if unreported && node.probed {
            self.observe(partition, partition.key.date, node.id.clone());
        }
    }

    /// Asks about one output, once per interval.
    fn observe(&mut self, partition: &mut Partition, date: Date, node: NodeId) {
        let every = self.graph.limits.observe_every;
        let today = date == partition.key.date;
        let book = if today { &mut partition.asked } else { &mut partition.asked_upstream };
        match book.get(&node).map(|at| after(*at, every)) {
            Some(due) if !self.now.reached(due) => self.wake.at(due),
            Some(_) | None => {
                book.insert(node.clone(), self.now.at);
                self.wake.at(after(self.now.at, every));
                self.effects.push(Effect::Observe { date, node });
            }
        }
    }

    /// Asks the warehouse about what stands in the way, once per interval and only where something is under way.
    fn ask(&mut self, partition: &mut Partition, node: &Node, readiness: &Readiness, blockers: &[Blocker]) {
        let troubled = partition.node(&node.id).failure.is_some();
        let over = blockers.iter().any(|blocker| matches!(blocker, Blocker::Over { .. } | Blocker::NoGames));
        let early = blockers.iter().any(|blocker| matches!(blocker, Blocker::NotYet { .. }));
        if over || !(readiness.engaged || troubled) || (early && !troubled) {
            return;
        }
        let mut askable = if readiness.blockers.is_empty() { Default::default() } else { readiness.askable.clone() };
        if troubled && node.probed {
            askable.insert((partition.key.date, node.id.clone()));
        }
        for (date, asked) in askable {
            self.observe(partition, date, asked);
        }
    }

    /// Moves a node whose budget or pass is over to the state that says so.
    fn settle(&self, partition: &mut Partition, node: &Node, blockers: &[Blocker]) {
        let spent = blockers.iter().any(|blocker| matches!(blocker, Blocker::Budget { .. }));
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
        fingerprint: Fingerprint,
        cause: Cause,
    ) {
        let key = partition.key.clone();
        let facts = partition.node_mut(&node.id);
        let retry = matches!(cause, Cause::Failed | Cause::HeartbeatDead | Cause::NotStarted) && facts.attempt.run > 0;
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
        facts.wish = None;
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
    fn given_up(&mut self, partition: &Partition, node: &Node, readiness: &Readiness, blockers: &[Blocker]) {
        let facts = partition.node(&node.id);
        let is_over = |id: &NodeId| matches!(partition.node(id).state, State::Expired { .. } | State::Exhausted { .. });
        match facts.state {
            State::Expired { .. } => {
                let nothing = facts.evidence.extant() == Extant::Nothing && facts.failure.is_none();
                // While another pass of the same processor may still make up for it, it is no loss.
                if nothing && readiness.engaged && self.graph.family(&node.id).iter().all(is_over) {
                    let text = format!("{} was not done before its pass over the date ended", node.id);
                    self.condition("missed", node, partition, Severity::Warning, text);
                }
            }
            State::Succeeded { .. } if blockers.iter().any(|blocker| matches!(blocker, Blocker::Budget { .. })) => {
                let text = format!("{} is not made again although its inputs are newer: its budget is spent", node.id);
                self.condition("outdated", node, partition, Severity::Warning, text);
            }
            _ => {}
        }
    }

    /// Conditions of one node that people should know of.
    fn trouble(&mut self, partition: &Partition, node: &Node) {
        let Some(facts) = partition.nodes.get(&node.id) else { return };
        let attempt = facts.attempt;
        for (run, life) in &facts.runs {
            let stale = after(life.last, node.liveness.stale_after);
            if self.now.silent_until(stale) {
                let text = format!("{} {run} has been silent since {}", node.id, clock(life.last));
                self.condition("stale", node, partition, Severity::Warning, text);
            }
            let overdue = after(life.first, node.liveness.duration_max);
            if facts.state.is_live() {
                if self.now.reached(overdue) {
                    let text = format!(
                        "{} {run} is alive but has run for more than {}",
                        node.id,
                        minutes(node.liveness.duration_max)
                    );
                    self.condition("overdue", node, partition, Severity::Warning, text);
                } else {
                    self.wake.at(overdue);
                }
            }
        }
        if let Some(failure) = &facts.failure
            && !matches!(facts.state, State::Skipped { .. })
            && failure::ends_of_itself(self.graph, facts).is_none()
        {
            let run = failure.run.as_ref().map(|run| format!(" {run}")).unwrap_or_default();
            let next = match facts.state {
                State::Dispatched { .. } => format!("; {attempt} dispatched"),
                State::Running { .. } => format!("; {attempt} running"),
                State::Exhausted { .. } => "; no attempt left".to_owned(),
                State::Expired { .. } => "; its pass is over".to_owned(),
                State::Waiting | State::Succeeded { .. } | State::Failed { .. } | State::Skipped { .. } => {
                    String::new()
                }
            };
            let (topic, severity) = match failure.kind {
                FailureKind::Silent => ("dead", Severity::Critical),
                FailureKind::NotStarted => ("not-started", Severity::Warning),
                FailureKind::Reported | FailureKind::Declined | FailureKind::Empty => ("failed", Severity::Warning),
            };
            let text = format!("{}{run}: {}{next}", node.id, failure.text);
            self.condition(topic, node, partition, severity, text);
        }
        if matches!(facts.state, State::Exhausted { .. }) {
            let text = format!("{} is exhausted: it waits for new inputs or for `tipoff retry`", node.id);
            self.condition("exhausted", node, partition, Severity::Critical, text);
        }
        if facts.double_run {
            let text = format!("{} has more than one execution alive at once", node.id);
            self.condition("double-run", node, partition, Severity::Warning, text);
        }
        if matches!(facts.state, State::Succeeded { .. })
            && facts.evidence.claim.as_ref().is_none()
            && facts.evidence.extant().is_whole()
        {
            let text =
                format!("{} has {} without a completion message: counted as done", node.id, facts.evidence.extant());
            self.condition("reconciled", node, partition, Severity::Info, text);
        }
    }

    /// A node that would run but for an input that falls short.
    fn coverage(&mut self, partition: &Partition, node: &Node, blockers: &[Blocker]) {
        // Before its pass begins nothing is late, and after it nothing can be mended.
        let outside =
            |blocker: &Blocker| matches!(blocker, Blocker::Over { .. } | Blocker::NoGames | Blocker::NotYet { .. });
        if blockers.iter().any(outside) {
            return;
        }
        let words: Vec<String> = blockers
            .iter()
            .filter_map(|blocker| match blocker {
                Blocker::CoverageShort { node, date, observed, required } => {
                    Some(format!("{node}@{date} {observed} < {required}"))
                }
                Blocker::CoverageUnknown { node, date, required } => {
                    Some(format!("{node}@{date} unknown, {required} required"))
                }
                _ => None,
            })
            .collect();
        if !words.is_empty() {
            let text = format!("{} is blocked: {}", node.id, words.join("; "));
            self.condition("blocked", node, partition, Severity::Warning, text);
        }
    }

    /// Carries evidence to the next date for the nodes that another date looks back at.
    fn notify(&mut self, partition: &mut Partition) {
        let Ok(to) = partition.key.date.tomorrow() else { return };
        let no_games = partition.has_no_games();
        for id in &self.graph.order {
            let looked_back_at = self.graph.dependents(id).iter().any(|(_, offset)| *offset != Offset::Same);
            if !looked_back_at {
                continue;
            }
            let upstream = if no_games {
                partition.upstream.get(id).cloned()
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

    fn notes(&mut self, partition: &Partition) {
        for note in &partition.notes {
            let (key, text) = match note {
                Note::UnknownName { name, node } => (
                    format!("unknown-name:{name}"),
                    format!("`{name}` is in no alias list; its output table says it is {node}"),
                ),
                Note::WrongTopic { name, topic } => {
                    (format!("wrong-topic:{name}"), format!("`{name}` came over {topic}, a topic of another pipeline"))
                }
            };
            self.conditions.insert(AlertKey::new(key), (Severity::Warning, text));
        }
    }

    /// One alert for whoever fails for the same reason; it names them, and is told again when there are more.
    fn shared_failures(&mut self, partition: &mut Partition) {
        let mut named = BTreeMap::new();
        for shared in failure::shared(self.graph, partition) {
            let key = AlertKey::new(format!("{}:{}", shared.class.name, partition.key));
            let until = super::time::shown(shared.until);
            let text = format!("{}: {} cannot work before {until}", shared.class.name, list(&shared.nodes));
            let before = partition.named.get(&key);
            if before.is_some_and(|before| !shared.nodes.is_subset(before)) && partition.alerts.contains_key(&key) {
                self.effects.push(Effect::Alert(Alert {
                    key: key.clone(),
                    severity: Severity::Critical,
                    turn: Turn::Raised,
                    text: text.clone(),
                    at: self.now.at,
                }));
            }
            named.insert(key.clone(), before.into_iter().flatten().cloned().chain(shared.nodes).collect());
            self.conditions.insert(key, (Severity::Critical, text));
        }
        if partition.named != named {
            partition.named = named;
        }
    }

    fn holds(&mut self, partition: &Partition) {
        let holds = partition.nodes.values().map(|facts| &facts.hold).chain([&partition.hold]);
        for until in holds.flatten().filter_map(|hold| hold.until) {
            if !self.now.reached(until) {
                self.wake.at(until);
            }
        }
    }

    fn condition(&mut self, topic: &str, node: &Node, partition: &Partition, severity: Severity, text: String) {
        let key = AlertKey::new(format!("{topic}:{}:{}", node.id, partition.key));
        self.conditions.insert(key, (severity, text));
    }

    /// Turns conditions into alerts: one when it begins, one when it ends, and one if it becomes worse.
    fn alert(&mut self, partition: &mut Partition) {
        let at = self.now.at;
        for (key, (severity, text)) in &self.conditions {
            if partition.alerts.get(key).is_none_or(|held| held < severity) {
                partition.alerts.insert(key.clone(), *severity);
                self.effects.push(Effect::Alert(Alert {
                    key: key.clone(),
                    severity: *severity,
                    turn: Turn::Raised,
                    text: text.clone(),
                    at,
                }));
            }
        }
        let over: Vec<(AlertKey, Severity)> = partition
            .alerts
            .iter()
            .filter(|(key, _)| !self.conditions.contains_key(*key))
            .map(|(key, severity)| (key.clone(), *severity))
            .collect();
        for (key, severity) in over {
            partition.alerts.remove(&key);
            let text = key.to_string();
            self.effects.push(Effect::Alert(Alert { key, severity, turn: Turn::Resolved, text, at }));
        }
    }
}

/// Charges an attempt that somebody else began, and that failed, to the budget of the inputs it failed on; gives back one
/// of ours that failed for a reason which ends by itself.
///
/// Never beyond the budget: how often others fail is theirs to bound.
fn charge(graph: &Graph, facts: &mut Facts, task: &Task, fingerprint: Fingerprint) {
    if !matches!(facts.state, State::Failed { .. }) {
        return;
    }
    let Some(failure) = facts.failure.as_mut() else { return };
    let is_own = failure::class_of(graph, failure).is_none();
    if failure.charged == is_own {
        return;
    }
    failure.charged = is_own;
    if !is_own {
        let paid = facts.last.as_ref().filter(|last| is_charged(last.cause));
        if let Some(spent) = paid.and_then(|last| facts.spent.get_mut(&last.fingerprint)) {
            spent.attempts = spent.attempts.saturating_sub(1);
        }
    } else if facts.spent.len() < FINGERPRINTS_MAX || facts.spent.contains_key(&fingerprint) {
        let spent = facts.spent.entry(fingerprint).or_default();
        spent.attempts = (spent.attempts + 1).min(task.attempts_max);
    }
}

/// Whether a dispatch for this cause is paid from the attempts: an operator's wish and a repair have their own account.
fn is_charged(cause: Cause) -> bool {
    !matches!(cause, Cause::Requested | Cause::CoverageShort)
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
    facts: &Facts,
    task: &Task,
    readiness: &Readiness,
    fingerprint: Fingerprint,
    required: PerMille,
) -> Option<Cause> {
    if facts.state.is_live() {
        return None;
    }
    if facts.wish.is_some() {
        return Some(Cause::Requested);
    }
    let spent = facts.spent.get(&fingerprint).copied().unwrap_or_default();
    let seen = facts.evidence.observation.as_ref().map(|seen| seen.coverage);
    let short = seen.is_some_and(|coverage| !coverage.reaches(required))
        && facts.evidence.extant().reaches(required) == Some(false)
        && spent.repairs == 0;
    let stale = readiness.is_stale() && task.rebuild != Rebuild::Never;
    match &facts.state {
        State::Waiting => Some(Cause::DependenciesMet),
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

/// Budgets, backoff and debounce.
fn bounds(
    facts: &Facts,
    task: &Task,
    readiness: &Readiness,
    fingerprint: Fingerprint,
    cause: Cause,
    now: Now,
) -> Vec<Blocker> {
    if cause == Cause::Requested {
        return Vec::new();
    }
    let mut blockers = Vec::new();
    let spent = facts.spent.get(&fingerprint).copied().unwrap_or_default();
    let out_of_attempts = spent.attempts >= task.attempts_max || spent.not_started >= task.not_started_max;
    let room = facts.spent.len() < FINGERPRINTS_MAX || facts.spent.contains_key(&fingerprint);
    if (out_of_attempts && cause != Cause::CoverageShort) || facts.dispatches >= task.dispatches_max || !room {
        blockers
            .push(Blocker::Budget { attempts: spent.attempts + spent.not_started, attempts_max: task.attempts_max });
    }
    if let (Cause::Failed, State::Failed { at }) = (cause, &facts.state) {
        let doublings = spent.attempts.saturating_sub(1).min(16);
        let wait = task.backoff.saturating_mul(1 << doublings).min(task.backoff_max);
        let until = after(*at, wait);
        if !now.reached(until) {
            blockers.push(Blocker::Backoff { until });
        }
    }
    if let (Cause::InputsNewer, Rebuild::After(quiet), Some(newest)) = (cause, task.rebuild, readiness.newest) {
        let until = after(newest, quiet);
        if !now.reached(until) {
            blockers.push(Blocker::Debounce { until });
        }
    }
    blockers
}

/// What stops a node whose last attempt failed for a reason that ends at a clock time.
fn used_up(graph: &Graph, partition: &Partition, node: &Node, cause: Cause, now: Now) -> Option<Blocker> {
    let facts = partition.nodes.get(&node.id).filter(|_| cause == Cause::Failed)?;
    let (class, failure) = failure::ends_of_itself(graph, facts)?;
    let until = class.again_at(graph, &partition.key, &node.id, failure.at);
    (!now.reached(until)).then(|| Blocker::UsedUp { what: class.name.clone(), until })
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
