//! What an operator is shown: verdicts derived from the facts by the same walk that decides.
//!
//! Nothing here is stored, so `status`, `why` and the engine cannot disagree.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::effect::Cause;
use super::event::EdgeRule;
use super::evidence::Extant;
use super::graph::{Graph, Kind, Node};
use super::id::{AlertKey, Attempt, CycleId, NodeId, PartitionKey, RunId};
use super::partition::{Failure, Hold, LastDispatch, Partition, State, Way};
use super::plan::{Plan, plan};
pub use super::readiness::Blocker;
use super::readiness::{self, Scope};
use super::shadow::NOT_SENT;
use super::time::{Now, shown};
use super::words::harmless;

/// A date as it stands.
#[derive(Debug, Serialize)]
pub struct PartitionView {
    /// Which date.
    pub partition: PartitionKey,
    /// Nodes in topological order.
    pub nodes: Vec<NodeView>,
    /// Whether the calendar says that no game is played.
    pub no_games: bool,
    /// Whether all that the date requires is done: every task has succeeded, was skipped, or was made up for; or there are
    /// no games.
    pub complete: bool,
    /// Alerts that are on.
    pub alerts: Vec<AlertKey>,
    /// When something happens next though nobody says anything.
    pub wake_at: Option<Timestamp>,
}

/// A node as it stands.
#[derive(Debug, Serialize)]
pub struct NodeView {
    /// Its id.
    pub node: NodeId,
    /// `source`, `task` or `gate`.
    pub kind: &'static str,
    /// Whether it can be asked for; a source that begins by itself cannot.
    #[serde(skip)]
    pub dispatchable: bool,
    /// Label.
    pub phase: String,
    /// Pass over the date.
    pub cycle: CycleId,
    /// Where it stands; a gate is `open` or `closed`.
    pub state: &'static str,
    /// For a task whose pass is over: the node of the same processor that succeeded in another pass over the date.
    pub made_up_by: Option<NodeId>,
    /// Why it was skipped, where it was.
    pub skipped_for: Option<Arc<str>>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Its latest run and attempt.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// How much of its output is there.
    pub output: Extant,
    /// Whether its last dispatch was decided on less than everything.
    pub degraded: bool,
    /// Why it should run, if it should.
    pub want: Option<Cause>,
    /// Why it does not.
    pub blockers: Vec<Blocker>,
    /// When a blocker may fall away by itself; nothing where a budget is spent, which no clock gives back.
    pub until: Option<Timestamp>,
    /// Inputs and checks without which operators have it go, with who says so, why and how long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<(Arc<str>, Hold)>,
    /// Executions that are alive, with the age of their last heartbeat in seconds.
    pub runs: Vec<(RunId, i64)>,
    /// Why its target does not take the last dispatch, where it does not.
    pub refused: Option<Arc<str>>,
    /// The last dispatch.
    pub last_dispatch: Option<LastDispatch>,
    /// The last failure that no success has overcome.
    pub failure: Option<Failure>,
}

/// The tree of unmet needs under one node.
#[derive(Debug, Serialize)]
pub struct Why {
    /// Which node.
    pub node: NodeId,
    /// Which date.
    pub date: Date,
    /// Where it stands.
    pub state: &'static str,
    /// One sentence.
    pub verdict: String,
    /// What stands in the way, each with what is under it.
    pub because: Vec<Reason>,
}

/// One thing in the way.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// What.
    pub blocker: Blocker,
    /// In words, with the figures.
    pub text: String,
    /// The same question about the nodes it is about.
    pub under: Vec<Why>,
}

/// The date as it stands at `now`.
pub fn view(graph: &Graph, partition: &Partition, now: Now) -> PartitionView {
    let mut scratch = partition.clone();
    let found = plan(graph, &mut scratch, now);
    let nodes = graph.order.iter().filter_map(|id| graph.node(id));
    let nodes: Vec<NodeView> = nodes.map(|node| node_view(graph, partition, node, &found, now)).collect();
    let no_games = partition.has_no_games(&graph.calendar);
    let mut tasks = nodes.iter().filter(|node| node.kind == "task");
    let done = |node: &NodeView| matches!(node.state, "succeeded" | "skipped") || node.made_up_by.is_some();
    let complete = no_games || tasks.all(done);
    PartitionView {
        partition: partition.key.clone(),
        no_games,
        complete,
        nodes,
        alerts: partition.alerts.keys().cloned().collect(),
        wake_at: found.wake_at,
    }
}

fn node_view(graph: &Graph, partition: &Partition, node: &Node, found: &Plan, now: Now) -> NodeView {
    let facts = partition.node(&node.id);
    let verdict = found.verdicts.get(&node.id);
    let standing = found.standings.get(&node.id);
    let open = standing.and_then(|standing| standing.join.as_ref()).is_some_and(|join| join.open);
    let (kind, state) = match node.kind {
        Kind::Source(_) => ("source", facts.state.name()),
        Kind::Task(_) => ("task", facts.state.name()),
        Kind::Gate(_) => ("gate", if open { "open" } else { "closed" }),
    };
    let mut blockers = verdict.map(|verdict| verdict.blockers.clone()).unwrap_or_default();
    // A hold is shown where nothing is wanted, too: it will stop what comes.
    if node.dispatchable().is_some() && !blockers.iter().any(|blocker| matches!(blocker, Blocker::Held { .. })) {
        blockers.extend(readiness::holds(partition, &node.id, now));
    }
    NodeView {
        node: node.id.clone(),
        kind,
        dispatchable: node.dispatchable().is_some(),
        phase: node.phase.clone(),
        cycle: node.cycle.clone(),
        state,
        made_up_by: made_up_by(graph, partition, node),
        skipped_for: match &facts.state {
            State::Skipped { reason, .. } => Some(reason.clone()),
            _ => None,
        },
        since: facts.state.since(),
        attempt: facts.attempt,
        output: standing.map_or(Extant::Nothing, |standing| standing.extant),
        degraded: facts.last.as_ref().is_some_and(|last| last.degraded),
        want: verdict.and_then(|verdict| verdict.want),
        until: if readiness::is_spent(&blockers) { None } else { blockers.iter().filter_map(Blocker::until).max() },
        blockers,
        forced: facts
            .edges
            .iter()
            .filter(|(_, word)| word.rule == Some(EdgeRule::Force) && word.by.holds_at(now.at))
            .map(|(input, word)| (input.clone(), word.by.clone()))
            .collect(),
        runs: facts.runs.iter().map(|(run, life)| (run.clone(), now.at.duration_since(life.last).as_secs())).collect(),
        refused: match &facts.way {
            Some(Way::Refused { reason, .. }) if facts.state.is_live() => Some(reason.clone()),
            _ => None,
        },
        last_dispatch: facts.last.clone(),
        failure: facts.failure.clone(),
    }
}

fn made_up_by(graph: &Graph, partition: &Partition, node: &Node) -> Option<NodeId> {
    let is_in = |id: &NodeId, state: fn(&State) -> bool| state(&partition.node(id).state);
    if node.task().is_none() || !is_in(&node.id, |state| matches!(state, State::Expired { .. })) {
        return None;
    }
    graph.family(&node.id).iter().find(|id| is_in(id, |state| matches!(state, State::Succeeded { .. }))).cloned()
}

/// Why `node` has not run, down to the inputs nobody has heard of.
pub fn why(view: &PartitionView, node: &NodeId) -> Option<Why> {
    explain(view, node, &mut BTreeSet::new())
}

fn explain(view: &PartitionView, node: &NodeId, seen: &mut BTreeSet<NodeId>) -> Option<Why> {
    let found = view.nodes.iter().find(|candidate| candidate.node == *node)?;
    let first_time = seen.insert(node.clone());
    let date = view.partition.date;
    let because = if first_time {
        found
            .blockers
            .iter()
            .map(|blocker| Reason {
                text: words(blocker, date),
                under: beneath(blocker, date).iter().filter_map(|under| explain(view, under, seen)).collect(),
                blocker: blocker.clone(),
            })
            .collect()
    } else {
        Vec::new()
    };
    let verdict =
        if first_time { format!("{}{}", sentence(found), forced(found)) } else { format!("{node}: see above") };
    Some(Why { node: node.clone(), date, state: found.state, verdict, because })
}

/// The nodes of the same date that a blocker is about.
fn beneath(blocker: &Blocker, date: Date) -> Vec<NodeId> {
    match blocker {
        Blocker::Unmet { node, date: of, .. }
        | Blocker::CoverageShort { node, date: of, .. }
        | Blocker::CoverageUnknown { node, date: of, .. }
        | Blocker::Renewing { node, date: of }
        | Blocker::Unverified { node, date: of, .. }
        | Blocker::Stale { node, date: of }
            if *of == date =>
        {
            vec![node.clone()]
        }
        Blocker::Quorum { missing, .. } => missing.iter().cloned().collect(),
        Blocker::Unmet { .. }
        | Blocker::CoverageShort { .. }
        | Blocker::CoverageUnknown { .. }
        | Blocker::Renewing { .. }
        | Blocker::Stale { .. }
        | Blocker::Unverified { .. }
        | Blocker::CheckPending { .. }
        | Blocker::CheckFailed { .. }
        | Blocker::CheckUnanswered { .. }
        | Blocker::PhaseSilent { .. }
        | Blocker::Grace { .. }
        | Blocker::Debounce { .. }
        | Blocker::Backoff { .. }
        | Blocker::UsedUp { .. }
        | Blocker::Budget { .. }
        | Blocker::Held { .. }
        | Blocker::NoGames
        | Blocker::NotYet { .. }
        | Blocker::Over { .. } => Vec::new(),
    }
}

/// What operators have it go without.
fn forced(found: &NodeView) -> String {
    let word = |(input, by): &(Arc<str>, Hold)| {
        let until = by.until.map(|until| format!(" until {}", shown(until))).unwrap_or_default();
        format!("; it goes without {}, by {}{until}: {}", harmless(input), harmless(&by.actor), harmless(&by.reason))
    };
    found.forced.iter().map(word).collect()
}

fn sentence(found: &NodeView) -> String {
    let node = &found.node;
    match (found.state, found.want, found.kind) {
        ("open", _, _) => format!("{node} is open"),
        ("closed", _, _) => format!("{node} is closed"),
        ("skipped", _, _) => {
            let reason = harmless(found.skipped_for.as_deref().unwrap_or_default());
            format!("{node} is skipped ({reason}): what needs it goes on without it")
        }
        ("dispatched", _, _) if found.refused.as_deref() == Some(NOT_SENT) => {
            format!("{node} would be dispatched ({}): {NOT_SENT}", found.attempt)
        }
        ("dispatched", _, _) if found.refused.is_some() => {
            let reason = found.refused.as_deref().unwrap_or_default();
            format!("{node} is dispatched ({}), and has not been handed over: {reason}", found.attempt)
        }
        ("dispatched", _, _) => format!("{node} is dispatched ({}), no sign of life yet", found.attempt),
        ("waiting", None, "source") => {
            format!("{node} has not been heard of; tipoff does not run it, its producer does")
        }
        (state, None, "source") => format!("{node} is {state}: it is observed, not dispatched by tipoff"),
        ("succeeded", None, _) => format!("{node} succeeded and its inputs are no newer"),
        ("running", _, _) => format!("{node} is running ({})", found.attempt),
        ("succeeded", Some(_), _) if found.blockers.is_empty() => {
            format!("{node} succeeded, its inputs are newer, and it is about to be dispatched again")
        }
        ("succeeded", Some(_), _) => format!("{node} succeeded, but its inputs are newer and its rebuild is blocked"),
        ("expired", Some(_), _) => format!("{node} is asked for although its pass over the date is over, and blocked"),
        ("expired", None, _) if found.made_up_by.is_some() => {
            let by = found.made_up_by.as_ref().map_or("", NodeId::as_str);
            format!("{node} was not done before its pass over the date ended; {by} made up for it")
        }
        ("expired", None, _) => format!("{node} was not done before its pass over the date ended"),
        ("exhausted", None, _) => format!("{node} has spent its budget"),
        ("exhausted", _, _) => format!("{node} has spent its budget, and is blocked besides"),
        (state, Some(cause), _) if found.blockers.is_empty() => {
            format!("{node} is {state} and about to be dispatched ({})", cause.as_str())
        }
        (state, _, _) => format!("{node} is {state} and blocked"),
    }
}

/// A blocker in words, with its figures. `date` is the date asked about; others are named.
pub fn words(blocker: &Blocker, date: Date) -> String {
    let at = |of: &Date| if *of == date { String::new() } else { format!("@{of}") };
    match blocker {
        Blocker::Unmet { node, date, state } => format!("{node}{}: {state}", at(date)),
        Blocker::CoverageShort { node, date, observed, required } => {
            format!("{node}{}: {observed} observed, {required} required", at(date))
        }
        Blocker::CoverageUnknown { node, date, required } => {
            format!("{node}{}: coverage unknown, {required} required", at(date))
        }
        Blocker::Renewing { node, date } => format!("{node}{}: being made (anew)", at(date)),
        Blocker::Stale { node, date } => format!("{node}{}: its own inputs are newer, or not there", at(date)),
        Blocker::Unverified { node, date, until } => {
            format!("{node}{}: what it reported is being looked for, until {} at the latest", at(date), shown(*until))
        }
        Blocker::CheckPending { check } => format!("its check `{check}` has been asked for and not answered yet"),
        Blocker::CheckFailed { check, observed, required } => {
            format!("its check `{check}` found {observed}, {required} required; it is asked again by itself")
        }
        Blocker::CheckUnanswered { check } => {
            format!("its check `{check}` cannot be answered by the warehouse; it is asked again by itself")
        }
        Blocker::PhaseSilent { phase, since, probe, until } => {
            let since = shown(*since);
            let first = match (probe, until) {
                (Some(probe), _) => format!("{probe} is tried first"),
                (None, Some(until)) => format!("one was tried in vain, and one is again at {}", shown(*until)),
                (None, None) => "nobody may be tried any more, and the others wait for a sign of life".to_owned(),
            };
            format!("nobody in {phase} has shown a sign of life since {since}; {first}")
        }
        Blocker::Grace { node, until } => format!("{node}: the rest is waited for until {}", shown(*until)),
        Blocker::Quorum { gate, good, total, missing, missing_critical, until } => {
            let list = |nodes: &BTreeSet<NodeId>| nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
            let critical = if missing_critical.is_empty() {
                String::new()
            } else {
                format!("; never without {}", list(missing_critical))
            };
            let until = until.map(|until| format!("; next tier at {}", shown(until))).unwrap_or_default();
            format!("{gate}: {good} of {total}, missing {}{critical}{until}", list(missing))
        }
        Blocker::Debounce { until } => format!("its inputs are still changing; quiet at {}", shown(*until)),
        Blocker::Backoff { until } => format!("the last attempt failed; the next is at {}", shown(*until)),
        Blocker::UsedUp { what, until } => {
            format!("the last attempt failed ({what}), and no other makes sense before {}", shown(*until))
        }
        Blocker::Budget { dispatches, dispatches_max, .. } if dispatches >= dispatches_max => {
            format!("{dispatches} dispatches made on this date, {dispatches_max} allowed")
        }
        Blocker::Budget { attempts, attempts_max, .. } => {
            format!("{attempts} attempts made on these inputs, {attempts_max} allowed")
        }
        Blocker::Held { scope, actor, reason, until } => {
            let scope = match scope {
                Scope::Date => "the date is".to_owned(),
                Scope::Node => String::new(),
                Scope::Input(input) => format!("what comes from {input} is"),
            };
            let until = until.map(|until| format!(" until {}", shown(until))).unwrap_or_default();
            let (actor, reason) = (harmless(actor), harmless(reason));
            format!("{scope} held by {actor}{until}: {reason}").trim_start().to_owned()
        }
        Blocker::NoGames => "no game is played on this date".to_owned(),
        Blocker::NotYet { until } => format!("its pass over the date begins at {}", shown(*until)),
        Blocker::Over { since } => format!("its pass over the date ended at {}", shown(*since)),
    }
}

/// A blocker in as few words as tell what to look at.
pub fn brief(blocker: &Blocker, date: Date) -> String {
    match blocker {
        Blocker::Quorum { gate, good, total, missing, .. } => {
            format!("{gate}: {good} of {total}, {} missing", missing.len())
        }
        blocker => words(blocker, date),
    }
}

/// A command that would move a node, and what it would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Remedy {
    /// What to type.
    pub command: String,
    /// What comes of it.
    pub effect: String,
}

/// The commands that would move the node `why` is about, those for what lies deepest first.
pub fn remedies(view: &PartitionView, why: &Why) -> Vec<Remedy> {
    let mut found = Vec::new();
    gather(view, why, &mut found);
    found
}

fn gather(view: &PartitionView, why: &Why, found: &mut Vec<Remedy>) {
    for under in why.because.iter().flat_map(|reason| &reason.under) {
        gather(view, under, found);
    }
    let Some(node) = view.nodes.iter().find(|candidate| candidate.node == why.node) else { return };
    let (name, date) = (&node.node, why.date);
    let can_be_asked = |id: &NodeId| view.nodes.iter().any(|node| node.node == *id && node.dispatchable);
    let mut add = |command: String, effect: String| {
        if found.iter().all(|known: &Remedy| known.command != command) {
            found.push(Remedy { command, effect });
        }
    };
    let is_settled = node.state == "expired" && node.want.is_none() || node.state == "exhausted";
    if is_settled && node.dispatchable && node.made_up_by.is_none() {
        let although = if node.state == "expired" { "its pass over the date is over" } else { "its budget is spent" };
        add(format!("tipoff retry {date} {name} --reason …"), format!("run it although {although}"));
    }
    if node.kind == "source" && node.state == "waiting" {
        add(format!("tipoff skip {date} {name} --reason …"), "go on without it".to_owned());
    }
    for reason in &why.because {
        match &reason.blocker {
            Blocker::Held { scope: Scope::Node, .. } => {
                add(format!("tipoff resume {date} {name} --reason …"), "lift the hold".to_owned());
            }
            Blocker::Held { scope: Scope::Input(input), .. } => {
                add(format!("tipoff resume {date} {name} --input {input} --reason …"), "lift the hold".to_owned());
            }
            Blocker::Held { scope: Scope::Date, .. } => {
                add(format!("tipoff resume {date} --reason …"), "lift the hold on the date".to_owned());
            }
            Blocker::UsedUp { what, .. } => {
                add(format!("tipoff retry {date} {name} --reason …"), format!("try although {what} said to wait"));
            }
            Blocker::Budget { .. } => {
                add(format!("tipoff retry {date} {name} --reason …"), "one more attempt on these inputs".to_owned());
            }
            Blocker::Over { .. } | Blocker::NotYet { .. } | Blocker::NoGames if node.state != "expired" => {
                add(format!("tipoff retry {date} {name} --reason …"), "run it all the same".to_owned());
            }
            Blocker::Unmet { node, date: of, .. }
            | Blocker::CoverageShort { node, date: of, .. }
            | Blocker::CoverageUnknown { node, date: of, .. }
            | Blocker::Stale { node, date: of }
                if *of != date =>
            {
                add(format!("tipoff why {node} {of}"), "what stands in its way on that date".to_owned());
            }
            Blocker::PhaseSilent { phase, .. } => {
                add(
                    format!("tipoff retry {date} {name} --reason …"),
                    format!("ask for it although nobody in {phase} answers"),
                );
            }
            Blocker::CoverageShort { node, .. } if can_be_asked(node) => {
                add(format!("tipoff retry {date} {node} --reason …"), "make it again".to_owned());
            }
            Blocker::Quorum { gate, .. } => {
                add(
                    format!("tipoff force {date} {name} --past {gate} --reason …"),
                    "go on with what is there".to_owned(),
                );
            }
            Blocker::CheckFailed { check, .. } | Blocker::CheckUnanswered { check } => {
                add(format!("tipoff force {date} {name} --past {check} --reason …"), "go on all the same".to_owned());
            }
            Blocker::Unmet { node: input, .. }
            | Blocker::CoverageShort { node: input, .. }
            | Blocker::CoverageUnknown { node: input, .. }
                if node.kind == "task" =>
            {
                add(format!("tipoff force {date} {name} --past {input} --reason …"), "go on without it".to_owned());
            }
            Blocker::Over { .. }
            | Blocker::NotYet { .. }
            | Blocker::NoGames
            | Blocker::Unmet { .. }
            | Blocker::CoverageShort { .. }
            | Blocker::CoverageUnknown { .. }
            | Blocker::Stale { .. }
            | Blocker::Renewing { .. }
            | Blocker::Unverified { .. }
            | Blocker::CheckPending { .. }
            | Blocker::Grace { .. }
            | Blocker::Debounce { .. }
            | Blocker::Backoff { .. } => {}
        }
    }
}
