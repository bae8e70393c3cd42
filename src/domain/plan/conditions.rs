//! What people should know of a date, as conditions that hold or do not; the difference to what is on becomes alerts.
//!
//! A condition is read off the partition like everything else, so none can be forgotten, and each ends by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::calendar::{Anchor, has_begun, has_placeholders};
use super::super::coverage::PerMille;
use super::super::effect::{About, Alert, Effect, Severity, Turn};
use super::super::event::{CheckAnswer, Note};
use super::super::evidence::{Extant, Extent};
use super::super::failure;
use super::super::graph::{Node, Unit};
use super::super::id::{AlertKey, NodeId, UnitId};
use super::super::partition::{FailureKind, Node as Facts, Partition, State};
use super::super::readiness::{self, Blocker};
use super::super::silence::Silent;
use super::super::time::{after, shown};
use super::super::timetable::Timetable;
use super::super::units;
use super::super::words::harmless;
use super::{Walk, clock, list, minutes};

/// How long an answer about what is due, or about what is doubtful, may take before people are told what was known without
/// it.
const ANSWER_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// Revisions of a program that were at work longer ago than this have been replaced.
const REVISIONS_WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// How often an alert of one key begins for one date. What comes and goes more often stays on until the date is over, so that
/// no number of messages can tell people more.
const BEGUN_MAX: u32 = 6;
/// How often it is told anew while it is on, because it is about more, or about less. A date has some fifteen games.
const ANEW_MAX: u32 = 48;
/// Games and nodes that an alert's text names.
const SHOWN_MAX: usize = 20;

/// One thing that holds of the date.
#[derive(Debug)]
pub(super) struct Condition {
    severity: Severity,
    text: String,
    /// Whose it is, beside the date, and what is done about it.
    about: About,
    /// What it is about, where that may become more while it holds: it is then told again.
    names: BTreeSet<Arc<str>>,
    /// What it was told to be about and is not any more, because there is no such thing: it is then told again too.
    gone: BTreeSet<Arc<str>>,
}

impl Walk<'_> {
    /// Something holds of one node.
    pub(super) fn condition(
        &mut self,
        topic: &str,
        node: &Node,
        partition: &Partition,
        severity: Severity,
        text: String,
    ) {
        let key = AlertKey::new(format!("{topic}:{}:{}", node.id, partition.key));
        self.holds_of(key, severity, BTreeSet::new(), text);
    }

    fn holds_of(&mut self, key: AlertKey, severity: Severity, names: BTreeSet<Arc<str>>, text: String) {
        let about = About { node: self.node_of(&key), ..About::default() };
        self.conditions.insert(key, Condition { severity, text, about, names, gone: BTreeSet::new() });
    }

    /// The node that a key names in its second part, if it names one.
    fn node_of(&self, key: &AlertKey) -> Option<NodeId> {
        let named = key.as_str().split(':').nth(1)?;
        // A check is called by its node and its own name.
        let node =
            self.times.graph.nodes.get(named).or_else(|| self.times.graph.nodes.get(named.rsplit_once('.')?.0))?;
        Some(node.id.clone())
    }

    /// What is done about what was just said to hold of `node` under `topic`.
    pub(super) fn done(&mut self, topic: &str, node: &Node, partition: &Partition, done: impl Into<String>) {
        self.done_about(&AlertKey::new(format!("{topic}:{}:{}", node.id, partition.key)), done.into());
    }

    fn done_about(&mut self, key: &AlertKey, done: String) {
        if let Some(condition) = self.conditions.get_mut(key) {
            condition.about.done = Some(done);
        }
    }

    /// Turns conditions into alerts: one when it begins, one when it ends, and one if it becomes worse, is about more, or
    /// named what there is no more.
    pub(super) fn alert(&mut self, partition: &mut Partition) {
        let at = self.now.at;
        let mut named = BTreeMap::new();
        for (key, condition) in &self.conditions {
            let known = partition.named.get(key);
            let other = known.is_some_and(|known| {
                !condition.names.is_subset(known) || known.iter().any(|name| condition.gone.contains(name))
            });
            if other || partition.alerts.get(key).is_none_or(|held| *held < condition.severity) {
                // What was told as worse is not told as better while it lasts.
                let held = partition.alerts.get(key).copied().unwrap_or(condition.severity);
                let severity = condition.severity.max(held);
                let before = partition.alerts.insert(key.clone(), severity);
                let told = partition.told.entry(key.clone()).or_default();
                let (told, most) = match before {
                    None => (&mut told.begun, BEGUN_MAX),
                    Some(_) => (&mut told.anew, ANEW_MAX),
                };
                if *told < most || before.is_some_and(|held| held < severity) {
                    *told = (*told + 1).min(most);
                    let last =
                        if *told == most { "; it comes and goes, and is told no more for this date" } else { "" };
                    let (key, text) = (key.clone(), format!("{}{last}", condition.text));
                    let about = About { partition: Some(partition.key.clone()), ..condition.about.clone() };
                    self.effects.push(Effect::Alert(Alert { key, severity, turn: Turn::Raised, text, at, about }));
                }
            }
            if !condition.names.is_empty() {
                let before = known.into_iter().flatten().filter(|name| !condition.gone.contains(*name));
                named.insert(key.clone(), condition.names.iter().chain(before).cloned().collect());
            }
        }
        if partition.named != named {
            partition.named = named;
        }
        let is_over = self.times.last_pass_ends().is_none_or(|ends| self.now.reached(ends));
        let stays = |key: &AlertKey| partition.told.get(key).is_some_and(|told| told.begun >= BEGUN_MAX) && !is_over;
        let over: Vec<(AlertKey, Severity)> = partition
            .alerts
            .iter()
            .filter(|(key, _)| !self.conditions.contains_key(*key) && !stays(key))
            .map(|(key, severity)| (key.clone(), *severity))
            .collect();
        if partition.alerts.keys().any(|key| !self.conditions.contains_key(key) && stays(key))
            && let Some(ends) = self.times.last_pass_ends()
        {
            self.wake.at(ends);
        }
        for (key, severity) in over {
            partition.alerts.remove(&key);
            let text = self.closings.remove(&key).unwrap_or_else(|| key.to_string());
            let about = About { node: self.node_of(&key), ..About::date(&partition.key) };
            self.effects.push(Effect::Alert(Alert { key, severity, turn: Turn::Resolved, text, at, about }));
        }
    }

    /// Conditions of one node that people should know of.
    pub(super) fn trouble(&mut self, partition: &Partition, node: &Node) {
        let Some(facts) = partition.nodes.get(&node.id) else { return };
        if self.times.has_no_games() && facts.failure.is_some() {
            self.off_day.insert(node.id.as_str().into());
            return;
        }
        let attempt = facts.attempt;
        for (run, life) in &facts.runs {
            let stale = after(life.last, node.liveness.stale_after);
            if self.now.silent_until(stale) {
                let text = format!("{} {run} has been silent since {}", node.id, clock(life.last));
                self.condition("stale", node, partition, Severity::Warning, text);
                if node.task().is_some() {
                    let dead = clock(after(life.last, node.liveness.dead_after));
                    self.done(
                        "stale",
                        node,
                        partition,
                        format!("the run is given up and replaced at {dead} if it stays silent"),
                    );
                }
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
        if facts.failure.as_ref().is_some_and(|failure| failure.kind != FailureKind::NotStarted) {
            self.failed(partition, node);
        }
        // A source's producer goes on by its own schedule, and what is late or short of it is told of as that.
        if matches!(facts.state, State::Exhausted { .. }) && node.task().is_some() {
            let last = facts.failure.as_ref().map(|failure| format!("; its last failure: {}", failure.text));
            let text = format!(
                "{} is exhausted: it waits for new inputs or for `tipoff retry`{}",
                node.id,
                last.unwrap_or_default()
            );
            self.condition("exhausted", node, partition, Severity::Critical, text);
            self.done(
                "exhausted",
                node,
                partition,
                format!(
                    "it was dispatched {} times for this date, up to {attempt}; nothing more is done",
                    facts.dispatches
                ),
            );
        }
        self.storm(partition, node, facts);
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

    /// Dispatches that nobody began, once the walk is over: in a phase that is silent then, that says nothing of one node.
    pub(super) fn not_begun(&mut self, partition: &Partition) {
        let graph = self.times.graph;
        for node in graph.order.iter().filter_map(|id| graph.node(id)) {
            let failure = partition.nodes.get(&node.id).and_then(|facts| facts.failure.as_ref());
            if failure.is_some_and(|failure| failure.kind == FailureKind::NotStarted)
                && !self.times.has_no_games()
                && !self.silent.contains_key(&*node.phase)
            {
                self.failed(partition, node);
            }
        }
    }

    /// A failure that nothing has overcome.
    fn failed(&mut self, partition: &Partition, node: &Node) {
        let Some(facts) = partition.nodes.get(&node.id) else { return };
        let attempt = facts.attempt;
        if let Some(failure) = &facts.failure
            && !matches!(facts.state, State::Skipped { .. })
            && failure::ends_of_itself(self.times.graph, facts).is_none()
            && !self.is_doubted(node, facts)
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
            let done = match facts.state {
                State::Dispatched { .. } => Some(format!("it was dispatched again, {attempt}")),
                State::Running { .. } => Some(format!("another attempt is running, {attempt}")),
                State::Exhausted { .. } => Some("every attempt of its budget was made; nothing more is".to_owned()),
                State::Expired { .. } => Some("nothing: its pass is over".to_owned()),
                State::Failed { .. } if node.task().is_some() => Some("it is tried again within its budget".to_owned()),
                State::Waiting | State::Succeeded { .. } | State::Failed { .. } | State::Skipped { .. } => None,
            };
            if let Some(done) = done {
                self.done(topic, node, partition, done);
            }
        }
    }

    /// Runs that begin over and over, whoever begins them.
    fn storm(&mut self, partition: &Partition, node: &Node, facts: &Facts) {
        let Some(storm) = node.liveness.storm else { return };
        let begun = facts.begun.in_the_hour_before(self.now.at);
        // What is on ends well below where it began: a storm that abates is none of many small ones.
        let is_on = partition.alerts.contains_key(&AlertKey::new(format!("storm:{}:{}", node.id, partition.key)));
        if begun <= if is_on { storm.warn_above / 2 } else { storm.warn_above } {
            return;
        }
        if let Some(falls) = facts.begun.falls_at(self.now.at) {
            self.wake.at(falls);
        }
        let severity = if begun > storm.critical_above { Severity::Critical } else { Severity::Warning };
        let text = format!(
            "{begun} runs of {} began within the hour, where {} are many; tipoff has asked for {} on this date in all, so look \
             for a schedule or a subscription that delivers again and again",
            node.id, storm.warn_above, facts.dispatches
        );
        // Told anew whenever it has doubled, so that the figure is that of the storm and not of its first minutes.
        let steps = std::iter::successors(Some(storm.critical_above), |most| most.checked_mul(2));
        let names = steps.take_while(|most| *most < begun).map(|most| format!("more than {most}").into()).collect();
        self.holds_of(AlertKey::new(format!("storm:{}:{}", node.id, partition.key)), severity, names, text);
        self.done("storm", node, partition, "tipoff begins none of them itself beyond its budget; nothing is stopped");
    }

    /// Whether the warehouse has still to say if a source that reports nothing really has nothing.
    fn is_doubted(&mut self, node: &Node, facts: &Facts) -> bool {
        let Some(failure) = facts.failure.as_ref().filter(|failure| failure.kind.is_doubtful()) else { return false };
        let given_up = after(failure.at, ANSWER_WITHIN);
        let awaited = node.probed
            && node.task().is_none()
            && facts.evidence.looked_at < Some(failure.at)
            && !self.now.reached(given_up);
        if awaited {
            self.wake.at(given_up);
        }
        awaited
    }

    /// A node that would run but for an input that falls short.
    pub(super) fn coverage(&mut self, partition: &Partition, node: &Node, blockers: &[Blocker]) {
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
            self.done("blocked", node, partition, "it goes by itself as soon as enough is there");
        } else if blockers.iter().any(|blocker| matches!(blocker, Blocker::Unverified { .. })) {
            // A new completion has come, and whether it helped is being looked at.
            let key = AlertKey::new(format!("blocked:{}:{}", node.id, partition.key));
            if let Some(severity) = partition.alerts.get(&key).copied() {
                let text = format!("whether {} is still blocked is not known yet", node.id);
                self.holds_of(key, severity, BTreeSet::new(), text);
            }
        }
    }

    pub(super) fn notes(&mut self, partition: &Partition) {
        for note in &partition.notes {
            let (key, text) = match note {
                Note::UnknownName { name, node } => (
                    format!("unknown-name:{name}"),
                    format!("`{name}` is in no alias list; its output table says it is {node}"),
                ),
                Note::WrongTopic { name, topic } => {
                    (format!("wrong-topic:{name}"), format!("`{name}` came over {topic}, a topic of another pipeline"))
                }
                Note::OtherDate { node, given } => (
                    format!("other-date:{node}:{}", partition.key),
                    format!(
                        "{node} gives {given} for files of games that lie under {}; they count for that date",
                        partition.key.date
                    ),
                ),
            };
            self.holds_of(AlertKey::new(key), Severity::Warning, BTreeSet::new(), text);
        }
    }

    /// One alert for whoever fails for the same reason; it names them, and is told again when there are more.
    pub(super) fn shared_failures(&mut self, partition: &Partition) {
        for shared in failure::shared(self.times.graph, partition) {
            let key = AlertKey::new(format!("{}:{}", shared.class.name, partition.key));
            let until = shown(shared.until);
            let text = format!("{}: {} cannot work before {until}", shared.class.name, list(&shared.nodes));
            let names = shared.nodes.iter().map(|node| node.as_str().into()).collect();
            self.holds_of(key, Severity::Critical, names, text);
        }
    }

    /// Failures on a date without games are no trouble; one line says that there were some.
    pub(super) fn days_off(&mut self, partition: &Partition) {
        let failed = std::mem::take(&mut self.off_day);
        if let Some(first) = failed.first() {
            let key = AlertKey::new(format!("day-off:{}", partition.key));
            let text =
                format!("{} processors failed on a date without games, as {first}: nothing is lost", failed.len());
            self.holds_of(key, Severity::Info, BTreeSet::new(), text);
        }
    }

    /// What cannot be right about the schedule.
    pub(super) fn schedule(&mut self, partition: &Partition) {
        let Some(schedule) = &partition.schedule else { return };
        let games = &self.times.games;
        if let Some(emptied) = schedule.emptied_at.filter(|_| !games.is_empty()) {
            let key = AlertKey::new(format!("schedule-empty:{}", partition.key));
            let text = format!(
                "the schedule lists no game since {}, though {} were known: they still count; override them if they are \
                 not played",
                shown(emptied),
                games.len()
            );
            self.holds_of(key, Severity::Warning, BTreeSet::new(), text);
        }
        if has_placeholders(games) && !games.values().all(|game| has_begun(game, self.now.at)) {
            let key = AlertKey::new(format!("schedule-suspect:{}", partition.key));
            let text = format!(
                "all {} games begin at the same instant by the schedule: coverage is also looked at before the earliest a \
                 game begins",
                games.len()
            );
            self.holds_of(key, Severity::Warning, BTreeSet::new(), text);
        }
        let (overlong, next) = self.times.overlong(self.now.at);
        if let Some(next) = next {
            self.wake.at(next);
        }
        if !overlong.is_empty() {
            let key = AlertKey::new(format!("schedule-stale:{}", partition.key));
            let games = overlong.iter().map(|unit| unit.as_str()).collect::<Vec<_>>().join(", ");
            let text = format!("by the schedule these have not ended, and must have: {games}; they count as over");
            self.holds_of(key, Severity::Warning, overlong.iter().map(|game| game.as_str().into()).collect(), text);
        }
    }

    /// Notes a node whose output should have been heard of by now.
    pub(super) fn lateness(&mut self, partition: &Partition, node: &Node) {
        match self.is_late(partition, node) {
            Some(due) => self.late.entry(node.phase.as_str().into()).or_default().push((node.id.clone(), due)),
            None => {
                if let Some(due) = self.times.anchored(&node.expects.due) {
                    let judged = judged_at(partition, node, due);
                    if let Some(next) = [due, judged].into_iter().find(|instant| !self.now.silent_until(*instant)) {
                        self.wake.at(next);
                    }
                }
            }
        }
    }

    /// When the output of `node` was due, if that instant has passed, nobody has been heard since, and it can still come.
    pub(super) fn is_late(&self, partition: &Partition, node: &Node) -> Option<Timestamp> {
        let due = self.times.anchored(&node.expects.due)?;
        if !self.now.silent_until(judged_at(partition, node, due)) {
            return None;
        }
        let facts = partition.node(&node.id);
        let skipped = matches!(facts.state, State::Skipped { .. } | State::Expired { .. });
        let over = self.times.pass(node).is_some_and(|(_, until)| self.now.reached(until));
        let there = match units::extant(self.times, partition, node) {
            Extant::Nothing => false,
            extant if node.expects.unit != Unit::Any => extant.reaches(PerMille::FULL) != Some(false),
            Extant::Unknown | Extant::Claimed | Extant::Known(_) => true,
        };
        (!skipped && !over && !there).then_some(due)
    }

    /// One alert for all that is late in a phase.
    pub(super) fn late_phases(&mut self, partition: &Partition) {
        for (phase, nodes) in std::mem::take(&mut self.late) {
            let key = AlertKey::new(format!("late:{phase}:{}", partition.key));
            let severities = nodes.iter().filter_map(|(id, _)| self.times.graph.node(id)?.expects.late);
            let severity = severities.max().unwrap_or(Severity::Warning);
            let words = nodes.iter().take(SHOWN_MAX).map(|(id, due)| {
                let extant = self.times.graph.node(id).map(|node| units::extant(self.times, partition, node));
                let extant = extant.unwrap_or(Extant::Nothing);
                format!("{id} (due {}, {extant})", clock(*due))
            });
            let text = format!("{phase}: late are {}", words.collect::<Vec<_>>().join(", "));
            let names = nodes.iter().map(|(id, _)| id.as_str().into()).collect();
            self.holds_of(key, severity, names, text);
        }
    }

    /// A phase in which nobody shows a sign of life.
    pub(super) fn silent_phases(&mut self, partition: &Partition) {
        for Silent { phase, since, unheard, last_sign, probe, again_at, .. } in
            self.silent.values().cloned().collect::<Vec<_>>()
        {
            let key = AlertKey::new(format!("phase-silent:{phase}:{}", partition.key));
            let last = last_sign.map_or("none for this date".to_owned(), shown);
            let text = format!(
                "{phase}: {} expected, 0 started since {}: {}; last sign of life: {last}",
                unheard.len(),
                clock(since),
                unheard.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
            );
            let done = match (probe, again_at) {
                (Some(probe), _) => {
                    format!("only {probe} is asked again, later and later; the others wait until somebody is heard")
                }
                (None, Some(at)) => {
                    format!("one is asked again at {}, and nobody before, unless somebody is heard", shown(at))
                }
                (None, None) => "nobody of it is asked again until somebody is heard".to_owned(),
            };
            self.holds_of(key.clone(), Severity::Critical, BTreeSet::new(), text);
            self.done_about(&key, done);
        }
    }

    /// Phases in which different revisions of the programs have been at work within the hour: what is newest may not be what
    /// serves.
    pub(super) fn revisions(&mut self, partition: &Partition) {
        let mut seen: BTreeMap<&str, BTreeMap<&Arc<str>, Timestamp>> = BTreeMap::new();
        for (id, revisions) in &partition.served {
            let Some(node) = self.times.graph.node(id) else { continue };
            let of_phase = seen.entry(&node.phase).or_default();
            for (revision, at) in revisions.iter().filter(|(_, at)| !self.now.reached(after(**at, REVISIONS_WITHIN))) {
                let last = of_phase.entry(revision).or_insert(*at);
                *last = (*last).max(*at);
            }
        }
        for (phase, revisions) in seen.into_iter().filter(|(_, revisions)| revisions.len() > 1) {
            let key = AlertKey::new(format!("revision-mix:{phase}:{}", partition.key));
            let mut each: Vec<_> = revisions.iter().map(|(revision, at)| (*at, Arc::clone(revision))).collect();
            each.sort();
            if let Some((oldest, _)) = each.first() {
                self.wake.at(after(*oldest, REVISIONS_WITHIN));
            }
            let words = each.iter().map(|(at, revision)| format!("{} until {}", harmless(revision), clock(*at)));
            let text = format!(
                "{phase}: more than one revision has been at work within the hour: {}",
                words.collect::<Vec<_>>().join(", ")
            );
            let names = each.into_iter().map(|(_, revision)| revision).collect();
            self.holds_of(key, Severity::Info, names, text);
        }
    }

    /// A completion that the warehouse contradicts, and one that claims fewer rows than the games make.
    pub(super) fn contradictions(&mut self, partition: &Partition, node: &Node) {
        let Some(facts) = partition.nodes.get(&node.id) else { return };
        let Some(claim) = facts.evidence.claim.as_ref().filter(|claim| claim.extent == Extent::Whole) else { return };
        let extant = units::extant(self.times, partition, node);
        let short = extant.reaches(self.times.graph.required_of(&node.id)) == Some(false);
        let few = units::by_records(&facts.evidence, node, &self.times.games).filter(|_| short);
        if let Some(few) = few {
            let again = facts.last.as_ref().and_then(|last| facts.spent.get(&last.fingerprint));
            let severity = if again.is_some_and(|spent| spent.repairs > 0) && !facts.state.is_live() {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let text = format!("{} reported success with {few} rows of those that the games make at least", node.id);
            self.condition("low-output", node, partition, severity, text);
        }
        let seen = facts.evidence.observation.as_ref().filter(|seen| seen.at >= claim.published);
        let judged = readiness::unverified(partition, node, self.now).is_none() && !node.expects.verify.is_zero();
        if let Some(seen) = seen
            && judged
            && !seen.coverage.is_full()
        {
            let text = format!("{} reported success, and {} of it is there", node.id, seen.coverage);
            match seen.coverage.observed() {
                0 => self.condition("phantom-success", node, partition, Severity::Critical, text),
                // Which games are short of it is told, and says more.
                _ if node.expects.alert_before_tip.is_some() => {}
                // Little is there, and little was reported.
                _ if few.is_some() => {}
                _ => self.condition("contradicted", node, partition, Severity::Warning, text),
            }
        }
    }

    /// Answers to checks that people should know of.
    pub(super) fn checked(&mut self, partition: &Partition, node: &Node, blockers: &[Blocker]) {
        let facts = partition.node(&node.id);
        for check in &node.expects.checks {
            let blocks = blockers.iter().any(|blocker| {
                matches!(blocker, Blocker::CheckFailed { check: of, .. } | Blocker::CheckUnanswered { check: of }
                    if *of == check.id)
            });
            let (topic, severity, text) = match facts.checks.get(&check.id).map(|taken| taken.answer) {
                Some(CheckAnswer::Share(share)) if !share.reaches(check.warn_below) => {
                    let severity = if blocks { Severity::Critical } else { Severity::Warning };
                    ("check", severity, format!("{share}, {} wanted", check.warn_below))
                }
                Some(CheckAnswer::Unknown) => {
                    let goes = if blocks { "it stops the dispatch" } else { "the dispatch goes all the same" };
                    ("check", Severity::Warning, format!("the warehouse cannot tell; {goes}"))
                }
                Some(CheckAnswer::Share(_) | CheckAnswer::NotKept) | None => continue,
            };
            let key = AlertKey::new(format!("{topic}:{}.{}:{}", node.id, check.id, partition.key));
            self.holds_of(key, severity, BTreeSet::new(), format!("{}: {}: {text}", node.id, check.id));
        }
    }

    /// The games that are short of an output people wait for: told of once it is made, and before each tip-off.
    pub(super) fn game_coverage(&mut self, partition: &mut Partition, node: &Node) {
        let Some(lead) = node.expects.alert_before_tip else { return };
        let games = &self.times.games;
        let earliest = has_placeholders(games).then(|| self.times.anchored(&[Anchor::FirstTip(-lead)]));
        // By game whose deadline has come, and who has not begun: whether the warehouse has been heard since.
        let mut looked: BTreeMap<UnitId, bool> = BTreeMap::new();
        let mut latest: Option<Timestamp> = None;
        let looked_at = partition.node(&node.id).evidence.looked_at;
        for (unit, game) in games {
            let Some(tip) = game.tip else { continue };
            let deadline = earliest.flatten().unwrap_or(after(tip, -lead));
            if !self.now.reached(deadline) {
                self.wake.at(deadline);
                continue;
            }
            if self.now.reached(tip) {
                continue;
            }
            self.wake.at(tip);
            latest = latest.max(Some(deadline));
            let given_up = after(deadline, ANSWER_WITHIN);
            let answered = !node.probed || looked_at >= Some(deadline) || self.now.reached(given_up);
            if !answered {
                self.wake.at(given_up);
            }
            looked.insert(unit.clone(), answered);
        }
        if let Some(latest) = latest {
            self.observe_since(partition, node, latest);
        }
        let evidence = partition.node(&node.id).evidence.clone();
        let short = units::deficits(self.times, partition, node, self.now.at);
        let told = |unit: &UnitId| looked.get(unit) == Some(&true);
        let due = short.keys().any(told);
        // What is being made for the first time is not short yet; what is made again is, until it is there.
        let made = evidence.extant() != Extant::Nothing
            && (evidence.claim.is_some() || !partition.node(&node.id).state.is_live());
        let key = AlertKey::new(format!("coverage:{}:{}", node.id, partition.key));
        if due || made && !short.is_empty() {
            let wanted: Vec<_> = short.iter().filter(|(unit, _)| made || told(unit)).collect();
            let words = wanted.iter().take(SHOWN_MAX).map(|(unit, deficit)| format!("{} {deficit}", matchup(unit)));
            let text = format!(
                "{} of {} games are short of {}: {}",
                wanted.len(),
                games.len(),
                node.id,
                words.collect::<Vec<_>>().join(", ")
            );
            let names = wanted.iter().map(|(unit, _)| unit.as_str().into()).collect();
            // A game that is not played any more is short of nothing.
            let told = partition.named.get(&key).into_iter().flatten();
            let gone = told.filter(|unit| !games.contains_key(&UnitId::from(&***unit))).cloned().collect();
            let severity = if due { Severity::Critical } else { Severity::Warning };
            let about = About { node: Some(node.id.clone()), ..About::default() };
            self.conditions.insert(key, Condition { severity, text, about, names, gone });
        } else if let Some(named) = partition.named.get(&key) {
            let awaited = named.iter().any(|unit| {
                let game = games.get(&UnitId::from(&**unit));
                game.is_some_and(|game| !has_begun(game, self.now.at))
            });
            if let Some(severity) = partition.alerts.get(&key).copied()
                && awaited
                && readiness::unverified(partition, node, self.now).is_some()
            {
                // A new completion has come, and whether it helped is being looked at.
                let text = format!("whether the games are still short of {} is not known yet", node.id);
                self.holds_of(key, severity, named.clone(), text);
                return;
            }
            let missed: Vec<String> = named
                .iter()
                .map(|unit| UnitId::from(&**unit))
                .filter(|unit| games.get(unit).is_some_and(|game| has_begun(game, self.now.at)))
                .filter(|unit| units::is_short(self.times, partition, node, unit))
                .map(|unit| matchup(&unit))
                .collect();
            if !missed.is_empty() {
                self.closings.insert(key, format!("missed: {} began short of {}", missed.join(", "), node.id));
            }
        }
    }

    /// A deadline ahead that will be missed as things stand; the output may come in time for all that.
    pub(super) fn foreseen(&mut self, partition: &Partition, node: &Node) {
        let told = partition.forecast.get(&node.id).and_then(|told| told.shortfall.as_ref());
        let Some(short) = told.filter(|short| !self.now.reached(short.deadline)) else { return };
        if units::extant(self.times, partition, node).reaches(short.required) == Some(true) {
            return;
        }
        self.wake.at(short.deadline);
        let key = AlertKey::new(format!("forecast:{}:{}", node.id, partition.key));
        let names = short.cause.iter().map(|late| late.node.as_str().into()).collect();
        let text = short.words(&node.id, partition.key.date, &self.times.graph.zone);
        self.holds_of(key, Severity::Warning, names, text);
    }

    /// Parts of a source's output that are not there, or too old; it is worse where they are of teams that play.
    pub(super) fn shortfall(&mut self, partition: &Partition, node: &Node) {
        let Some(facts) = partition.nodes.get(&node.id) else { return };
        let Some(seen) = facts.evidence.observation.as_ref().filter(|_| !node.expects.due.is_empty()) else { return };
        let short: BTreeSet<Arc<str>> = units::short_units(seen).map(|unit| unit.as_str().into()).collect();
        // After its pass nothing can be mended, and the next date has its own.
        let over = self.times.pass(node).is_some_and(|(_, until)| self.now.reached(until));
        if short.is_empty() || over || self.times.has_no_games() {
            return;
        }
        let playing = units::playing(self.times, seen);
        let severity = if playing.is_empty() { Severity::Warning } else { Severity::Critical };
        let some = |units: &mut dyn Iterator<Item = &str>| units.take(SHOWN_MAX).collect::<Vec<_>>().join(", ");
        let mut text = format!("{}: {}; short are {}", node.id, seen.coverage, some(&mut short.iter().map(|u| &**u)));
        if !playing.is_empty() {
            text = format!("{text}; of teams that play {}", some(&mut playing.iter().map(UnitId::as_str)));
        }
        let key = AlertKey::new(format!("short:{}:{}", node.id, partition.key));
        self.holds_of(key, severity, short, text);
    }

    /// A source that has had nothing for several game days in a row.
    pub(super) fn always_empty(&mut self, partition: &Partition, node: &Node) {
        let Some(most) = node.expects.empty_days_max else { return };
        let days = empty_days(self.times, partition, node);
        if days >= most {
            let text = format!("{} had no data on {days} of the last {days} game days", node.id);
            self.condition("always-empty", node, partition, Severity::Critical, text);
        }
    }
}

/// When it is judged whether the output of `node`, due at `due`, is late: at once; where the warehouse is asked about it at
/// that time, when it has answered, or has had the time for it.
fn judged_at(partition: &Partition, node: &Node, due: Timestamp) -> Timestamp {
    let looked_at = partition.nodes.get(&node.id).and_then(|facts| facts.evidence.looked_at);
    if node.probed && looked_at < Some(due) { after(due, ANSWER_WITHIN) } else { due }
}

/// Game days in a row, this one included, on which `node` had no data.
pub(super) fn empty_days(times: &Timetable<'_>, partition: &Partition, node: &Node) -> u32 {
    let facts = partition.node(&node.id);
    let empty = facts.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Empty);
    if !empty || !times.has_games() {
        return 0;
    }
    partition.upstream.get(&node.id).map_or(0, |before| before.empty_days) + 1
}

/// A game as people write it.
fn matchup(game: &UnitId) -> String {
    super::super::calendar::teams_of(game).map_or(game.to_string(), |(away, home)| format!("{away}@{home}"))
}
