//! Everything about one date of one pipeline: what is known of its nodes, its games, and what operators have asked for.
//!
//! `record` takes events into it, and `plan` reads off it what to send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::calendar::{Override, Schedule};
use super::effect::{Cause, Severity};
use super::event::{CheckAnswer, EdgeRule, Foretold, Note, Request, RunWord, Upstream};
use super::evidence::{Evidence, Version};
use super::id::{AlertKey, Attempt, CheckId, DispatchId, NodeId, PartitionKey, PlanId, RequestId, RunId, UnitId};
use super::rate::Rate;

/// Ended runs remembered per node, to recognise their echoes. A per-file processor ends some 70 a day.
pub const ENDED_RUNS_MAX: usize = 128;
/// Runs of one node that may be alive at once; the one longest silent makes room.
pub const LIVE_RUNS_MAX: usize = 64;
/// Operators' requests remembered per partition, to recognise a repetition.
pub const REQUESTS_MAX: usize = 64;
/// Operators' overrides of games kept per partition. A date has some fifteen games.
pub const OVERRIDES_MAX: usize = 64;
/// Notes kept per partition; a flood of odd names must not grow the document.
pub const NOTES_MAX: usize = 32;

/// Revisions of one node's program that are remembered.
pub const REVISIONS_MAX: usize = 4;

/// Everything about one date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Partition {
    /// Its key.
    pub key: PartitionKey,
    /// The latest instant a decision was taken at; time never goes back (`time-forward`).
    pub decided_at: Timestamp,
    /// How far the world had been heard at any decision.
    pub heard_until: Timestamp,
    /// Nodes anything is known of; one that is absent is waiting.
    #[serde(default)]
    pub nodes: BTreeMap<NodeId, Node>,
    /// The games, once the calendar has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// What operators know better than the schedule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<UnitId, Override>,
    /// Evidence from earlier dates that this date's edges look at.
    #[serde(default)]
    pub upstream: BTreeMap<NodeId, Upstream>,
    /// Evidence last carried to the next date.
    #[serde(default)]
    pub notified: BTreeMap<NodeId, Upstream>,
    /// The operator's stop on the whole date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// When an operator last ended a stop on the whole date; a stop asked for earlier, but heard of later, is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// When the warehouse was last asked about a node of this date.
    #[serde(default)]
    pub asked: BTreeMap<NodeId, Timestamp>,
    /// When the warehouse was last asked about a node of an earlier date.
    #[serde(default)]
    pub asked_upstream: BTreeMap<NodeId, Timestamp>,
    /// Alerts that are on.
    #[serde(default)]
    pub alerts: BTreeMap<AlertKey, Severity>,
    /// How often each alert has been told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<AlertKey, Told>,
    /// What an alert about several things has named, so that it is told again when there are more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<AlertKey, BTreeSet<Arc<str>>>,
    /// What is to be expected of outputs that are promised before tip-off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forecast: BTreeMap<NodeId, Foretold>,
    /// Which revisions of their programs producers have said they are, with when each last did; the latest
    /// [`REVISIONS_MAX`] of a node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub served: BTreeMap<NodeId, BTreeMap<Arc<str>, Timestamp>>,
    /// Oddities of producers' messages.
    #[serde(default)]
    pub notes: BTreeSet<Note>,
    /// Requests already taken in.
    #[serde(default)]
    pub requests: BTreeMap<RequestId, Timestamp>,
}

/// How often an alert has been told; counted no further than it may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// That it began.
    pub begun: u32,
    /// That it is about more, or about less, while it was on.
    pub anew: u32,
}

/// An operator's stop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Who.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Since when.
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl Hold {
    /// Whether it stops anything at `at`.
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| at < until)
    }
}

/// A node of which nothing is known.
static WAITING: LazyLock<Node> = LazyLock::new(Node::default);

/// What is known of one node for this date.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Node {
    /// Where it stands.
    pub state: State,
    /// Its latest run and attempt.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// What is known about its output.
    #[serde(default)]
    pub evidence: Evidence,
    /// Executions that are alive.
    #[serde(default)]
    pub runs: BTreeMap<RunId, Run>,
    /// Executions that have ended, the latest [`ENDED_RUNS_MAX`]. Most of what is known of a busy node is this, and most decisions
    /// add nothing to it, so they share it.
    #[serde(default)]
    pub ended: Arc<BTreeMap<RunId, Ended>>,
    /// The last failure no success has overcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What has been spent, per fingerprint of the inputs.
    #[serde(default)]
    pub spent: BTreeMap<Fingerprint, Spent>,
    /// Dispatches of this node for this date, ever.
    #[serde(default)]
    pub dispatches: u32,
    /// The last dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastDispatch>,
    /// The way of the last dispatch to its target, where it was not taken at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// An operator's wish that has not been fulfilled yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// What was done for a plan of backfill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfilled: Option<Backfilled>,
    /// The operator's stop on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// When an operator last ended a stop on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// What operators say of its inputs and its checks. What has ended stays, so that an older word does not come back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<Arc<str>, EdgeWord>,
    /// The inputs its output may have seen: those known by this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_from: Option<Timestamp>,
    /// Two executions of the same task were alive at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub double_run: bool,
    /// When anybody was last heard at it: the publish time of the latest heartbeat or completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// How often a run of it began, whoever began it.
    #[serde(default, skip_serializing_if = "Rate::is_empty")]
    pub begun: Rate,
    /// Since when nobody has begun what was asked for, over all tries; of no meaning once somebody is heard after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unstarted_since: Option<Timestamp>,
    /// The last answer to each of its checks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<CheckId, CheckTaken>,
    /// When each of its checks was last asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked_checks: BTreeMap<CheckId, Timestamp>,
}

/// What an operator says of an input or a check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EdgeWord {
    /// What holds; nothing where it is as declared again.
    pub rule: Option<EdgeRule>,
    /// Who says so, why, and how long.
    #[serde(flatten)]
    pub by: Hold,
}

/// The last answer to a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckTaken {
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub answer: CheckAnswer,
}

/// The way of a dispatch that its target did not take at the first tries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Way {
    /// It does not take it. Nobody can have started, so no deadline runs.
    Refused {
        /// Since when that is known.
        since: Timestamp,
        /// The target's words.
        reason: Arc<str>,
    },
    /// It has taken it at last; whoever starts it has from then on.
    Taken {
        /// When.
        at: Timestamp,
    },
}

/// The fingerprint of a node's inputs: equal where every input has the same version.
pub type Fingerprint = Version;

/// Where a node stands. The data live in the variant that has them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing has happened.
    #[default]
    Waiting,
    /// We asked for it; nobody has shown a sign of life yet.
    Dispatched {
        /// Since when.
        at: Timestamp,
    },
    /// Somebody is at it.
    Running {
        /// The first sign of life.
        since: Timestamp,
        /// The inputs it may have seen: those known by this instant.
        inputs_at: Timestamp,
        /// Who started it.
        starter: Starter,
    },
    /// It has an output.
    Succeeded {
        /// Since when.
        at: Timestamp,
    },
    /// Its last attempt failed; another may follow.
    Failed {
        /// Since when.
        at: Timestamp,
    },
    /// No further attempt is made for these inputs.
    Exhausted {
        /// Since when.
        at: Timestamp,
    },
    /// It is not required for this date.
    Skipped {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: Arc<str>,
    },
    /// Its pass over the date ended before it was done.
    Expired {
        /// Since when.
        at: Timestamp,
    },
}

impl State {
    /// Every word that [`State::name`] may give.
    pub const NAMES: [&str; 8] =
        ["waiting", "dispatched", "running", "succeeded", "failed", "exhausted", "skipped", "expired"];

    /// The word shown to people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dispatched { .. } => "dispatched",
            Self::Running { .. } => "running",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Exhausted { .. } => "exhausted",
            Self::Skipped { .. } => "skipped",
            Self::Expired { .. } => "expired",
        }
    }

    /// Whether somebody is at it, or has been asked to be.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Dispatched { .. } | Self::Running { .. })
    }

    /// Since when it stands so, except for waiting, which has no beginning.
    pub fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Waiting => None,
            Self::Running { since, .. } => Some(*since),
            Self::Dispatched { at }
            | Self::Succeeded { at }
            | Self::Failed { at }
            | Self::Exhausted { at }
            | Self::Skipped { at, .. }
            | Self::Expired { at } => Some(*at),
        }
    }
}

/// Who started the current attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Starter {
    /// Our dispatch.
    Us,
    /// A scheduler, an operator's shell, the producer's own subscription.
    Them,
}

/// One execution that is alive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// First heard of.
    pub first: Timestamp,
    /// Last heard of.
    pub last: Timestamp,
    /// Units done and to do.
    pub progress: (u64, u64),
    /// When the progress last changed.
    pub progressed_at: Timestamp,
    /// The process says it has ended, but has reported no result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_unreported: bool,
    /// When its processor was asked to close it, because it did not come on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Timestamp>,
    /// What an operator knows of it that its heartbeats do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
}

/// An operator's word on an execution.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Word {
    /// What.
    pub word: RunWord,
    /// Who says so.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// When.
    pub at: Timestamp,
}

impl Run {
    /// Whether an operator has said that of it.
    pub fn is_said(&self, word: RunWord) -> bool {
        self.word.as_ref().is_some_and(|said| said.word == word)
    }
}

/// How an execution ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub how: End,
}

/// The ways an execution leaves the stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With an output.
    Done,
    /// With a failure it reported.
    Failed,
    /// In silence; whatever failure it still reports moves nothing.
    Fenced,
    /// Another execution took its place after it had stopped coming on; nothing that it still reports counts.
    Superseded,
}

/// A failure that has not been overcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// The execution, where one was heard of.
    pub run: Option<RunId>,
    /// What kind.
    pub kind: FailureKind,
    /// The producer's words, or ours.
    pub text: Arc<str>,
    /// Whether it has been charged to the budget.
    pub charged: bool,
    /// When its run was first heard of, where it was: inputs that came later have not failed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
}

impl Failure {
    /// Whether it is a failure on inputs of which the newest came at that instant.
    pub fn has_seen(&self, newest: Option<Timestamp>) -> bool {
        newest <= Some(self.began.unwrap_or(self.at))
    }
}

/// Kinds of failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The producer said so.
    Reported,
    /// It decided not to run.
    Declined,
    /// It found no data where there should be some, or wrote no rows.
    Empty,
    /// It fell silent.
    Silent,
    /// It never showed a sign of life.
    NotStarted,
}

impl FailureKind {
    /// The cause of the attempt that follows.
    pub fn cause(self) -> Cause {
        match self {
            Self::Reported | Self::Declined | Self::Empty => Cause::Failed,
            Self::Silent => Cause::HeartbeatDead,
            Self::NotStarted => Cause::NotStarted,
        }
    }

    /// Whether the producer may have been wrong, so that the rows may be there for all that.
    pub fn is_doubtful(self) -> bool {
        matches!(self, Self::Declined | Self::Empty)
    }
}

/// What has been spent on one set of inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Attempts that began, whoever began them.
    pub attempts: u32,
    /// Dispatches that never began.
    pub not_started: u32,
    /// Runs for the sake of coverage.
    pub repairs: u32,
}

/// The last dispatch, for the operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastDispatch {
    /// Its id.
    pub id: DispatchId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Which inputs.
    pub fingerprint: Fingerprint,
    /// Whether anything less than everything was there.
    pub degraded: bool,
    /// What was not there.
    pub missing: BTreeSet<NodeId>,
}

/// An operator's wish for a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// Who.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The plan of backfill it belongs to, where it is no person's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
}

impl Wish {
    /// What `request` wishes, for a plan where it names one.
    pub fn of(request: &Request, plan: Option<PlanId>) -> Self {
        Self { actor: request.actor.clone(), reason: request.reason.clone(), at: request.at, plan }
    }

    /// The cause of the run that fulfils it.
    pub fn cause(&self) -> Cause {
        if self.plan.is_some() { Cause::Backfill } else { Cause::Requested }
    }
}

/// How often a node was begun for a plan of backfill. This is the only count there is of it: messages, echoes and whoever
/// asks add nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Backfilled {
    /// Which plan.
    pub plan: PlanId,
    /// When it was last dispatched for it.
    pub at: Timestamp,
    /// Runs that began, and dispatches that are known not to have been started.
    pub attempts: u32,
    /// The last dispatch is still to be counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}

/// What an event did to the partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Something is known now that was not.
    Applied,
    /// It was known already.
    Duplicate,
    /// Something newer is known.
    Superseded,
    /// It comes from a run that was declared dead; it moves nothing.
    Fenced,
    /// It names an attempt that has not been decided: not to be settled yet.
    Future,
    /// It names a node that this graph does not have: it can never be applied.
    Rejected,
}

impl Partition {
    /// A date about which nothing is known.
    pub fn new(key: PartitionKey) -> Self {
        Self {
            key,
            decided_at: Timestamp::MIN,
            heard_until: Timestamp::MIN,
            nodes: BTreeMap::new(),
            schedule: None,
            overrides: BTreeMap::new(),
            upstream: BTreeMap::new(),
            notified: BTreeMap::new(),
            hold: None,
            resumed_at: None,
            asked: BTreeMap::new(),
            asked_upstream: BTreeMap::new(),
            alerts: BTreeMap::new(),
            told: BTreeMap::new(),
            named: BTreeMap::new(),
            forecast: BTreeMap::new(),
            served: BTreeMap::new(),
            notes: BTreeSet::new(),
            requests: BTreeMap::new(),
        }
    }

    /// What is known of `node`; nothing known reads as waiting.
    pub fn node(&self, node: &NodeId) -> &Node {
        self.nodes.get(node).unwrap_or(&WAITING)
    }

    /// Whether what was asked of `node` in `attempt` is still to be handed over. Nobody can have begun what nobody has been handed, so
    /// that it was given up for that is no reason against it, unless an operator holds it at `at`.
    pub fn awaits(&self, node: &NodeId, attempt: Attempt, at: Timestamp) -> bool {
        let facts = self.node(node);
        let unstarted = facts.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::NotStarted);
        let is_held = [&self.hold, &facts.hold].into_iter().flatten().any(|hold| hold.holds_at(at));
        let waits = match facts.state {
            State::Dispatched { .. } => true,
            State::Failed { .. } => unstarted && !is_held,
            _ => false,
        };
        waits && facts.attempt == attempt
    }

    /// A run of `node` was heard of.
    pub(super) fn hear(&mut self, node: &NodeId, run: &RunId, published: Timestamp) {
        let facts = self.node_mut(node);
        facts.heard_at = facts.heard_at.max(Some(published));
        if !facts.runs.contains_key(run) && !facts.ended.contains_key(run) {
            facts.begun.note(published);
        }
    }

    /// What is known of `node`, to be changed.
    pub(super) fn node_mut(&mut self, node: &NodeId) -> &mut Node {
        self.nodes.entry(node.clone()).or_default()
    }
}

impl Node {
    /// What an operator says of `input`, where it is a rule that holds at `at`.
    pub fn edge(&self, input: &str, rule: EdgeRule, at: Timestamp) -> Option<&Hold> {
        let word = self.edges.get(input).filter(|word| word.rule == Some(rule))?;
        Some(&word.by).filter(|by| by.holds_at(at))
    }

    /// Whether it has an output that a failing execution does not take away.
    pub(super) fn stands(&self) -> bool {
        self.evidence.claim.is_some()
    }

    /// The state of a node whose output stands.
    pub(super) fn stood(&self) -> State {
        self.evidence.claim.as_ref().map_or(State::Waiting, |claim| State::Succeeded { at: claim.published })
    }
}

/// Remembers that `run` ended, forgetting the one that ended first where there is no room.
pub(super) fn end(node: &mut Node, run: &RunId, at: Timestamp, how: End) {
    let known = Arc::make_mut(&mut node.ended);
    known.insert(run.clone(), Ended { at, how });
    if known.len() > ENDED_RUNS_MAX {
        let oldest = known.iter().min_by_key(|(_, ended)| ended.at).map(|(run, _)| run.clone());
        if let Some(oldest) = oldest {
            known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_been_handed_is_still_wanted_when_it_was_given_up_for_that() {
        // The broker was away for longer than a start may take, and whoever could have said so died.
        let at = Timestamp::UNIX_EPOCH;
        let node = NodeId::from("t");
        let attempt = Attempt { run: 1, attempt: 2 };
        let failed = |kind| {
            let failure = Failure { at, run: None, kind, text: "".into(), charged: true, began: None };
            Node { state: State::Failed { at }, attempt, failure: Some(failure), ..Node::default() }
        };
        let partition = |facts: Node| {
            let mut partition = Partition::new(PartitionKey::new("nba", jiff::civil::date(2026, 1, 22)));
            partition.nodes.insert(node.clone(), facts);
            partition
        };
        let dispatched = Node { state: State::Dispatched { at }, attempt, ..Node::default() };
        assert!(partition(dispatched).awaits(&node, attempt, at));
        let unstarted = partition(failed(FailureKind::NotStarted));
        assert!(unstarted.awaits(&node, attempt, at));
        assert!(!unstarted.awaits(&node, Attempt { attempt: 1, ..attempt }, at), "another was asked for since");
        assert!(!partition(failed(FailureKind::Reported)).awaits(&node, attempt, at), "it ran, and failed");
        assert!(
            !partition(Node { state: State::Succeeded { at }, attempt, ..Node::default() }).awaits(&node, attempt, at)
        );
        let hold = |until| Hold { actor: "ann".into(), reason: "not now".into(), at, until };
        let held = |hold| partition(Node { hold: Some(hold), ..failed(FailureKind::NotStarted) });
        assert!(!held(hold(None)).awaits(&node, attempt, at));
        assert!(held(hold(Some(at))).awaits(&node, attempt, at), "the hold is over");
    }
}
