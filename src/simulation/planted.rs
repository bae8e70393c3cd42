//! Bugs that are planted on purpose, to see that the simulation finds them.
//!
//! Each is one that a system of this kind has had. They are planted around the real `decide` and in the steps of a replica;
//! the laws look at what comes of it and know nothing of them.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::domain::decide::Decision;
use crate::domain::event::{Command, Completed, Event, Outcome};
use crate::domain::graph::{Graph, Kind, Node};
use crate::domain::id::{NodeId, RunId};
use crate::domain::partition::{Partition, State};
use crate::domain::time::{Now, after};

/// A bug, and the law that it breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planted {
    /// Its name.
    pub name: &'static str,
    /// The law that should be seen broken.
    pub law: &'static str,
    /// What is wrong.
    pub what: &'static str,
    pub(super) bug: Bug,
}

/// What is wrong, for the code that does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    AckBeforeCommit,
    PublishBeforeCommit,
    NoOutbox,
    NeverMarked,
    BlindWrite,
    BlindSweep,
    PoisonAcked,
    FutureAcked,
    RetrySkipsGate,
    AnyInput,
    HoldIgnored,
    ProcessorClock,
    NoWake,
    Deaf,
    Unbounded,
    FailureTakesAway,
    LateFailureCounts,
    OldSuccessIgnored,
    LastArrivalWins,
    NewRunPerDelivery,
    ClockGoesBack,
    JournalLosesAnEvent,
    AsksAgain,
    ParkedForEver,
}

macro_rules! planted {
    ($($bug:ident, $name:literal, $law:literal, $what:literal;)*) => {
        /// Every bug that can be planted.
        pub const PLANTED: &[Planted] =
            &[$(Planted { name: $name, law: $law, what: $what, bug: Bug::$bug }),*];
    };
}

planted! {
    AckBeforeCommit, "ack-before-commit", "ack-after-commit", "a message is acknowledged when it is received";
    PoisonAcked, "poison-acked", "ack-after-commit", "what cannot be read is acknowledged and not kept";
    FutureAcked, "future-acked", "ack-after-commit", "an answer to an attempt not yet decided is taken for an old one";
    PublishBeforeCommit, "publish-before-commit", "published-was-decided", "a dispatch leaves before it is stored";
    NoOutbox, "no-outbox", "decided-gets-published", "a dispatch leaves from memory after the commit";
    ParkedForEver, "refused-is-sent", "decided-gets-published", "a dispatch that the broker refuses is marked as sent";
    NeverMarked, "never-marked", "comes-to-rest", "what has been sent is not marked, and is sent again and again";
    BlindWrite, "blind-write", "no-lost-update", "a commit does not compare versions";
    BlindSweep, "blind-sweep", "no-lost-update", "the sweeper's commit does not compare versions";
    RetrySkipsGate, "retry-skips-gate", "dispatch-after-ready", "a retry does not ask whether its inputs are there";
    AnyInput, "any-input", "dispatch-after-ready", "one input of several is taken for all";
    HoldIgnored, "hold-ignored", "held-is-still", "an operator's hold is not looked at";
    ProcessorClock, "processor-clock", "comes-to-rest", "silence is measured by the processor's own clock";
    Deaf, "deaf-verdict", "silence-was-heard", "a run is given up by the clock, whatever has not been heard yet";
    NoWake, "no-wake", "never-wedged", "nothing wakes a date that waits for a deadline";
    Unbounded, "unbounded", "budget-bounds", "nothing bounds how often a failing node is tried";
    FailureTakesAway, "failure-takes-away", "success-stays", "a failure takes an earlier success away";
    LateFailureCounts, "late-failure-counts", "fenced-is-still", "the failure of a given-up run counts against its successor";
    OldSuccessIgnored, "old-success-ignored", "order-free", "the success of a given-up run is not believed";
    LastArrivalWins, "last-arrival-wins", "order-free", "what arrives last counts, not what was published last";
    NewRunPerDelivery, "new-run-per-delivery", "twice-is-once", "a message delivered again is another execution";
    ClockGoesBack, "clock-goes-back", "time-forward", "a replica whose clock lags decides at its own time";
    JournalLosesAnEvent, "journal-loses-an-event", "replay-equals-state", "of a batch the journal has all events but the last";
    AsksAgain, "asks-again", "quiescent", "what has been asked of the warehouse is not remembered";
}

impl Planted {
    /// The bug of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PLANTED.iter().find(|planted| planted.name == name)
    }
}

/// How far a processor's clock is off, where it is believed.
pub(super) const CLOCK_OFF: SignedDuration = SignedDuration::from_hours(30);

/// The graph that a planted bug has `decide` see; the laws go by the true one.
#[derive(Debug)]
pub(super) struct Bent {
    /// For every decision.
    pub all: Option<Graph>,
    /// For a decision on a failure of that node.
    pub on_failure: BTreeMap<NodeId, Graph>,
}

impl Bent {
    pub(super) fn new(graph: &Graph, bug: Option<Bug>) -> Self {
        let mut bent = Self { all: None, on_failure: BTreeMap::new() };
        match bug {
            Some(Bug::AnyInput) => bent.all = Some(changed(graph, |node| node.needs.truncate(1))),
            Some(Bug::Unbounded) => {
                bent.all = Some(changed(graph, |node| {
                    if let Kind::Task(task) = &mut node.kind {
                        (task.attempts_max, task.not_started_max, task.dispatches_max) = (10_000, 10_000, 10_000);
                    }
                }));
            }
            Some(Bug::RetrySkipsGate) => {
                for id in graph.nodes.keys() {
                    let without = |node: &mut Node| {
                        if node.id == *id {
                            node.needs.clear();
                        }
                    };
                    bent.on_failure.insert(id.clone(), changed(graph, without));
                }
            }
            Some(_) | None => {}
        }
        bent
    }
}

fn changed(graph: &Graph, mut change: impl FnMut(&mut Node)) -> Graph {
    let mut nodes = graph.nodes.clone();
    nodes.values_mut().for_each(&mut change);
    Graph::new(
        graph.pipeline.clone(),
        graph.revision,
        graph.zone.clone(),
        nodes,
        graph.order.clone(),
        graph.cycles.clone(),
        BTreeMap::new(),
        graph.limits.clone(),
    )
}

/// What a planted bug makes of what is decided on.
pub(super) fn bend(bug: Bug, partition: &mut Partition, events: &mut Vec<Event>, now: &mut Now, delivery: u32) {
    match bug {
        Bug::HoldIgnored => partition.hold = None,
        Bug::Deaf => now.heard_until = now.at,
        Bug::LastArrivalWins => {
            for event in events.iter_mut() {
                if let Event::Completed(completed) = event {
                    completed.published = now.at;
                }
            }
        }
        Bug::NewRunPerDelivery => {
            for event in events.iter_mut() {
                if let Event::Completed(completed) = event {
                    completed.run = RunId::new(format!("{}-{delivery}", completed.run));
                    completed.published = after(completed.published, SignedDuration::from_secs(i64::from(delivery)));
                }
            }
        }
        Bug::OldSuccessIgnored => events.retain(|event| match event {
            Event::Completed(Completed { outcome: Outcome::Done(_), node, run, .. }) => {
                !partition.node(node).ended.contains_key(run)
            }
            _ => true,
        }),
        Bug::LateFailureCounts => {
            for event in events.iter_mut() {
                if let Event::Completed(completed) = event
                    && matches!(completed.outcome, Outcome::Failed(_))
                {
                    let facts = partition.node(&completed.node);
                    if facts.ended.contains_key(&completed.run)
                        && let Some(run) = facts.runs.keys().next()
                    {
                        completed.run = run.clone();
                    }
                }
            }
        }
        _ => {}
    }
}

/// What a planted bug makes of a decision.
pub(super) fn twist(bug: Bug, before: &Partition, decision: &mut Decision, events: &[Event], now: Now) {
    match bug {
        Bug::HoldIgnored => {
            let resumes = |event: &Event| matches!(event, Event::Requested(request) if matches!(request.command, Command::Resume { .. }));
            if decision.next.hold.is_none() && !events.iter().any(resumes) {
                decision.next.hold.clone_from(&before.hold);
            }
        }
        Bug::ClockGoesBack if decision.changed => decision.next.decided_at = now.at,
        Bug::NoWake => decision.wake_at = None,
        Bug::AsksAgain => decision.next.asked.clear(),
        Bug::FailureTakesAway => {
            for event in events {
                if let Event::Completed(Completed { outcome: Outcome::Failed(_), node, published, .. }) = event
                    && let Some(facts) = decision.next.nodes.get_mut(node)
                    && matches!(facts.state, State::Succeeded { .. })
                {
                    facts.evidence.claim = None;
                    facts.state = State::Failed { at: *published };
                }
            }
        }
        _ => {}
    }
}
