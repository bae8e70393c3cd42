//! Every interleaving of two replicas over one store, with the real `decide`.
//!
//! A replica loads a partition, decides, commits with a compare-and-set, and acks: four steps, between which the other
//! replica, a crash, the operator or the clock may come. The relay reads the outbox, publishes, and marks: three steps.
//! The broker delivers at least once. The model leaves out other dates, alerts,
//! heartbeats and the warehouse; `properties` has them.
//!
//! The same model with the outbox replaced by publishing after the commit must fail, so that the check is known to be
//! able to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stateright::{Checker, HasDiscoveries, Model, Property};
use tipoff::domain::decide::decide;
use tipoff::domain::effect::Effect;
use tipoff::domain::event::{Command, Completed, Event, Outcome, Request};
use tipoff::domain::evidence::Extent;
use tipoff::domain::graph::Graph;
use tipoff::domain::id::{DispatchId, NodeId};
use tipoff::domain::partition::{Partition, Recorded, State as NodeState};
use tipoff::domain::record::record;
use tipoff::domain::time::Now;

use crate::graphs::{at, empty, graph, hard, source, task};

const REPLICAS: usize = 2;
/// The instants at which anything happens: far enough apart for a backoff and a start deadline to fall in between.
const INSTANTS: [i64; 2] = [0, 660];

/// How what was decided reaches the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// Stored with the state, sent by the relay.
    Outbox,
    /// Sent from memory once the state is stored.
    AfterCommit,
}

struct Replicas {
    graph: Graph,
    delivery: Delivery,
    faults: Faults,
    /// Decisions taken before: `decide` is pure, so the same partition, work and instant need it once.
    proposals: Mutex<HashMap<Question, (Stage, Option<&'static str>)>>,
    /// Messages that the partition with this digest is known to have settled.
    settled: Mutex<HashSet<(u64, Message, u8)>>,
}

/// The digest of a partition, what is to be decided about it, when that was published, the clock, and how far is heard.
type Question = (u64, Work, Option<u8>, Timestamp, Timestamp);

/// What may go wrong, and how often. All of it at once has more orders than can be walked, so it is taken by turns.
#[derive(Clone, Copy)]
struct Faults {
    /// Replicas that die, and with them what they have in hand.
    crashes: u8,
    /// Runs that fail.
    failures: u8,
    /// Messages delivered again after they were settled, or while another replica has them.
    redeliveries: u8,
    /// Whether an operator holds the date and lets it go.
    operator: Operator,
    /// How often the clock jumps past a deadline.
    jumps: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Absent,
    HoldsAndResumes,
}

/// What the store holds for the date, with the hash of its bytes: partitions are compared and hashed by it.
#[derive(Debug)]
struct Stored {
    partition: Partition,
    wake_at: Option<Timestamp>,
    /// Everything decided so far, and whether it has been marked as sent.
    outbox: BTreeMap<DispatchId, Entry>,
    version: u8,
    digest: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Entry {
    Unsent,
    Sent,
}

#[derive(Clone, Debug)]
struct Snapshot(Arc<Stored>);

impl Snapshot {
    fn new(partition: Partition, wake_at: Option<Timestamp>, outbox: BTreeMap<DispatchId, Entry>, version: u8) -> Self {
        let mut hasher = DefaultHasher::new();
        serde_json::to_vec(&partition).expect("a partition is JSON").hash(&mut hasher);
        wake_at.hash(&mut hasher);
        outbox.hash(&mut hasher);
        version.hash(&mut hasher);
        Self(Arc::new(Stored { partition, wake_at, outbox, version, digest: hasher.finish() }))
    }

    /// The first entry that has not been marked as sent.
    fn unsent(&self) -> Option<&DispatchId> {
        self.0.outbox.iter().find(|(_, entry)| **entry == Entry::Unsent).map(|(id, _)| id)
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Hash for Snapshot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

/// One message; when it was published is an index into [`INSTANTS`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Message {
    SourceDone,
    Succeeded(DispatchId),
    Failed(DispatchId),
    Hold,
    Resume,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Letter {
    instant: u8,
    settled: bool,
}

/// What a replica works on: a message, or the clock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Work {
    Message(Message),
    Tick,
}

#[derive(Clone, PartialEq, Hash, Debug)]
enum Stage {
    Idle,
    Received(Work),
    Loaded(Work, Snapshot),
    Decided(Work, Box<Proposal>),
    Committed(Work, Vec<DispatchId>),
}

#[derive(Clone, PartialEq, Hash, Debug)]
struct Proposal {
    base: u8,
    next: Snapshot,
    decided: Vec<DispatchId>,
}

/// Where a replica's relay is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Relay {
    Idle,
    Read(DispatchId),
    Published(DispatchId),
}

#[derive(Clone, PartialEq, Hash, Debug)]
struct World {
    clock: u8,
    store: Snapshot,
    broker: BTreeMap<Message, Letter>,
    /// Dispatches the broker has accepted, and whether the worker has answered.
    published: BTreeMap<DispatchId, Answer>,
    replicas: [(Stage, Relay); REPLICAS],
    crashes: u8,
    failures: u8,
    redeliveries: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Answer {
    Due,
    Given,
}

#[derive(Clone, PartialEq, Debug)]
enum Action {
    Publish(Message),
    Receive(usize, Work),
    Load(usize),
    Decide(usize),
    Commit(usize),
    SendFromMemory(usize),
    Ack(usize),
    ReadOutbox(usize),
    PublishOutbox(usize),
    MarkSent(usize),
    Crash(usize),
    Advance,
}

impl World {
    fn instant(&self) -> Timestamp {
        at(INSTANTS[usize::from(self.clock)])
    }

    /// The clock, and how far the world has been heard: nothing published at or after the oldest unsettled message is.
    fn now(&self) -> Now {
        let oldest = self.broker.values().filter(|letter| !letter.settled).map(|letter| letter.instant).min();
        let heard = oldest.map_or(self.clock, |oldest| oldest.min(self.clock));
        Now { at: self.instant(), heard_until: at(INSTANTS[usize::from(heard)]) }
    }

    fn caught_up(&self) -> bool {
        self.broker.values().all(|letter| letter.settled)
    }

    fn holds(&self, message: &Message) -> bool {
        self.replicas.iter().any(|(stage, _)| stage.work() == Some(&Work::Message(message.clone())))
    }

    /// Whether nothing that has been decided or said is still on its way.
    fn all_delivered(&self) -> bool {
        self.caught_up() && self.store.0.outbox.keys().all(|id| self.published.get(id) == Some(&Answer::Given))
    }

    fn accept(&mut self, id: &DispatchId) {
        self.published.entry(id.clone()).or_insert(Answer::Due);
        if !self.store.0.outbox.contains_key(id) {
            self.broken = Some("published-was-decided");
        }
    }
}

impl Stage {
    fn work(&self) -> Option<&Work> {
        match self {
            Self::Idle => None,
            Self::Received(work) | Self::Loaded(work, _) | Self::Decided(work, _) | Self::Committed(work, _) => {
                Some(work)
            }
        }
    }
}

fn event(message: &Message, instant: u8) -> Event {
    // Messages of one instant are told apart by a second, in the order in which their kinds can happen.
    let rank = match message {
        Message::SourceDone | Message::Hold => 0,
        Message::Resume => 1,
        Message::Succeeded(_) | Message::Failed(_) => 2,
    };
    let published = at(INSTANTS[usize::from(instant)] + rank);
    let completed = |node: NodeId, run: &str, outcome, dispatch| {
        Event::Completed(Completed {
            node,
            run: run.into(),
            outcome,
            records: None,
            published,
            correlation: None,
            dispatch,
            unit: None,
            trace: None,
        })
    };
    let request = |id: &str, command| {
        let (actor, reason) = ("operator".into(), "model".into());
        Event::Requested(Request { id: id.into(), actor, reason, at: published, command })
    };
    match message {
        Message::SourceDone => completed("s".into(), "scrape", Outcome::Done(Extent::Whole), None),
        Message::Succeeded(id) => completed(node_of(id), id.as_str(), Outcome::Done(Extent::Whole), Some(id.clone())),
        Message::Failed(id) => completed(node_of(id), id.as_str(), Outcome::Failed("model".into()), Some(id.clone())),
        Message::Hold => request("hold", Command::Hold { node: None, until: None }),
        Message::Resume => request("resume", Command::Resume { node: None }),
    }
}

fn node_of(id: &DispatchId) -> NodeId {
    id.parts().expect("the model only makes dispatch ids that read back").1
}

impl Replicas {
    fn new(delivery: Delivery, faults: Faults) -> Self {
        let nodes = vec![source("s"), task("a", vec![hard("s")]), task("b", vec![hard("a")])];
        Self { graph: graph(nodes), delivery, faults, proposals: Mutex::default(), settled: Mutex::default() }
    }

    fn proposed(&self, world: &mut World, work: &Work, snapshot: &Snapshot) -> Stage {
        let published = match work {
            Work::Message(message) => Some(world.broker[message].instant),
            Work::Tick => None,
        };
        let now = world.now();
        let question = (snapshot.0.digest, work.clone(), published, now.at, now.heard_until);
        let known = self.proposals.lock().expect("no thread panics with it").get(&question).cloned();
        let (stage, broken) = known.unwrap_or_else(|| {
            let mut scratch = World { broken: None, ..world.clone() };
            let stage = self.propose(&mut scratch, work, snapshot);
            let answer = (stage, scratch.broken);
            self.proposals.lock().expect("no thread panics with it").insert(question, answer.clone());
            answer
        });
        world.broken = world.broken.or(broken);
        stage
    }

    /// Whether telling `message` once more would change nothing.
    fn has_settled(&self, world: &World, message: &Message, instant: u8) -> bool {
        let question = (world.store.0.digest, message.clone(), instant);
        if self.settled.lock().expect("no thread panics with it").contains(&question) {
            return true;
        }
        let mut partition = world.store.0.partition.clone();
        let told = record(&self.graph, &mut partition, &event(message, instant));
        let settled = !matches!(told, Recorded::Applied | Recorded::Future | Recorded::Rejected);
        if settled {
            self.settled.lock().expect("no thread panics with it").insert(question);
        }
        settled
    }

    fn propose(&self, world: &mut World, work: &Work, snapshot: &Snapshot) -> Stage {
        let events = match work {
            Work::Message(message) => vec![event(message, world.broker[message].instant)],
            Work::Tick => vec![Event::Tick],
        };
        let decision = match decide(&self.graph, &snapshot.0.partition, &events, world.now()) {
            Ok(decision) => decision,
            Err(violation) => {
                world.broken = Some(violation.slug);
                return Stage::Idle;
            }
        };
        let decided: Vec<DispatchId> = decision
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Dispatch(dispatch) => Some(dispatch.id.clone()),
                Effect::Close(_)
                | Effect::Alert(_)
                | Effect::Observe { .. }
                | Effect::Check { .. }
                | Effect::ReleaseLock { .. }
                | Effect::NotifyPartition { .. } => None,
            })
            .collect();
        if !decided.is_empty() && decision.next.hold.is_some() {
            world.broken = Some("held-is-still");
        }
        let a = decision.next.node(&"a".into());
        let a_is_good = a.evidence.claim.is_some() && !a.state.is_live();
        if decided.iter().any(|id| node_of(id).as_str() == "b") && !a_is_good {
            world.broken = Some("dispatch-after-ready");
        }
        if !decision.changed && snapshot.0.wake_at == decision.wake_at {
            return Stage::Committed(work.clone(), Vec::new());
        }
        let mut outbox = snapshot.0.outbox.clone();
        for id in &decided {
            let entry = if self.delivery == Delivery::Outbox { Entry::Unsent } else { Entry::Sent };
            if outbox.insert(id.clone(), entry).is_some() {
                world.broken = Some("same-decision-same-id");
            }
        }
        let base = snapshot.0.version;
        let next = Snapshot::new(decision.next, decision.wake_at, outbox, base + 1);
        Stage::Decided(work.clone(), Box::new(Proposal { base, next, decided }))
    }
}

impl Model for Replicas {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            clock: 0,
            store: Snapshot::new(empty(), None, BTreeMap::new(), 0),
            broker: BTreeMap::new(),
            published: BTreeMap::new(),
            replicas: [(Stage::Idle, Relay::Idle), (Stage::Idle, Relay::Idle)],
            crashes: self.faults.crashes,
            failures: self.faults.failures,
            redeliveries: self.faults.redeliveries,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let said = |message: &Message| world.broker.contains_key(message);
        if !said(&Message::SourceDone) {
            actions.push(Action::Publish(Message::SourceDone));
        }
        if self.faults.operator == Operator::HoldsAndResumes && !said(&Message::Hold) {
            actions.push(Action::Publish(Message::Hold));
        }
        if said(&Message::Hold) && !said(&Message::Resume) {
            actions.push(Action::Publish(Message::Resume));
        }
        for (id, answer) in &world.published {
            if *answer == Answer::Due {
                actions.push(Action::Publish(Message::Succeeded(id.clone())));
                // A failure at the last instant would wait for a backoff that never ends.
                if world.failures > 0 && world.clock < self.faults.jumps {
                    actions.push(Action::Publish(Message::Failed(id.clone())));
                }
            }
        }
        for (replica, (stage, relay)) in world.replicas.iter().enumerate() {
            match stage {
                Stage::Idle => {
                    for (message, letter) in &world.broker {
                        let again = letter.settled || world.holds(message);
                        if !again || world.redeliveries > 0 {
                            actions.push(Action::Receive(replica, Work::Message(message.clone())));
                        }
                    }
                    let due = world.store.0.wake_at.is_some_and(|wake| wake <= world.instant());
                    let ticking = world.replicas.iter().any(|(stage, _)| stage.work() == Some(&Work::Tick));
                    if due && !ticking {
                        actions.push(Action::Receive(replica, Work::Tick));
                    }
                }
                Stage::Received(_) => actions.push(Action::Load(replica)),
                Stage::Loaded(..) => actions.push(Action::Decide(replica)),
                Stage::Decided(..) => actions.push(Action::Commit(replica)),
                Stage::Committed(_, unsent) if !unsent.is_empty() => actions.push(Action::SendFromMemory(replica)),
                Stage::Committed(..) => actions.push(Action::Ack(replica)),
            }
            match relay {
                Relay::Idle if world.store.unsent().is_some() => actions.push(Action::ReadOutbox(replica)),
                Relay::Idle => {}
                Relay::Read(_) => actions.push(Action::PublishOutbox(replica)),
                Relay::Published(_) => actions.push(Action::MarkSent(replica)),
            }
            let busy = *stage != Stage::Idle || *relay != Relay::Idle;
            if world.crashes > 0 && busy {
                actions.push(Action::Crash(replica));
            }
        }
        if world.clock < self.faults.jumps {
            actions.push(Action::Advance);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Publish(message) => {
                if let Message::Succeeded(id) | Message::Failed(id) = &message {
                    world.published.insert(id.clone(), Answer::Given);
                }
                world.failures -= u8::from(matches!(message, Message::Failed(_)));
                world.broker.insert(message, Letter { instant: world.clock, settled: false });
            }
            Action::Receive(replica, work) => {
                if let Work::Message(message) = &work {
                    let again = world.broker[message].settled || world.holds(message);
                    world.redeliveries -= u8::from(again);
                }
                world.replicas[replica].0 = Stage::Received(work);
            }
            Action::Load(replica) => {
                let Stage::Received(work) = world.replicas[replica].0.clone() else { return None };
                world.replicas[replica].0 = Stage::Loaded(work, world.store.clone());
            }
            Action::Decide(replica) => {
                let Stage::Loaded(work, snapshot) = world.replicas[replica].0.clone() else { return None };
                world.replicas[replica].0 = self.proposed(&mut world, &work, &snapshot);
            }
            Action::Commit(replica) => {
                let Stage::Decided(work, proposal) = world.replicas[replica].0.clone() else { return None };
                world.replicas[replica].0 = if proposal.base == world.store.0.version {
                    world.store = proposal.next;
                    let from_memory = self.delivery == Delivery::AfterCommit;
                    Stage::Committed(work, if from_memory { proposal.decided } else { Vec::new() })
                } else {
                    Stage::Received(work)
                };
            }
            Action::SendFromMemory(replica) => {
                let Stage::Committed(work, unsent) = world.replicas[replica].0.clone() else { return None };
                for id in &unsent {
                    world.accept(id);
                }
                world.replicas[replica].0 = Stage::Committed(work, Vec::new());
            }
            Action::Ack(replica) => {
                let Stage::Committed(work, _) = world.replicas[replica].0.clone() else { return None };
                if let Work::Message(message) = work {
                    world.broker.get_mut(&message)?.settled = true;
                }
                world.replicas[replica].0 = Stage::Idle;
            }
            Action::ReadOutbox(replica) => {
                world.replicas[replica].1 = Relay::Read(world.store.unsent()?.clone());
            }
            Action::PublishOutbox(replica) => {
                let Relay::Read(id) = world.replicas[replica].1.clone() else { return None };
                world.accept(&id);
                world.replicas[replica].1 = Relay::Published(id);
            }
            Action::MarkSent(replica) => {
                let Relay::Published(id) = world.replicas[replica].1.clone() else { return None };
                // A mark is a write of its own document: it does not conflict with decisions.
                let held = &world.store.0;
                let mut outbox = held.outbox.clone();
                outbox.insert(id, Entry::Sent);
                world.store = Snapshot::new(held.partition.clone(), held.wake_at, outbox, held.version);
                world.replicas[replica].1 = Relay::Idle;
            }
            Action::Crash(replica) => {
                world.crashes -= 1;
                world.replicas[replica] = (Stage::Idle, Relay::Idle);
            }
            Action::Advance => world.clock += 1,
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn at_rest(model: &Replicas, world: &World) -> bool {
            if !world.caught_up() {
                return false;
            }
            let mut actions = Vec::new();
            model.actions(world, &mut actions);
            // What the broker might deliver once more is no work that is left.
            actions.iter().all(|action| matches!(action, Action::Receive(_, Work::Message(_))))
        }
        vec![
            Property::always("no invariant is violated", |_, world: &World| world.broken.is_none()),
            Property::always("published-was-decided", |_, world: &World| {
                world.published.keys().all(|id| world.store.0.outbox.contains_key(id))
            }),
            Property::always("ack-after-commit", |model: &Self, world: &World| {
                let mut settled = world.broker.iter().filter(|(_, letter)| letter.settled);
                settled.all(|(message, letter)| model.has_settled(world, message, letter.instant))
            }),
            Property::always("budget-bounds", |model: &Self, world: &World| {
                ["a", "b"].into_iter().all(|node| {
                    let bounds = model.graph.nodes.get(node).and_then(|node| node.task()).expect("a and b are tasks");
                    let count = world.store.0.outbox.keys().filter(|id| node_of(id).as_str() == node).count();
                    u32::try_from(count).is_ok_and(|count| count <= bounds.attempts_max + bounds.not_started_max)
                })
            }),
            Property::always("decided-gets-published", |model: &Self, world: &World| {
                !at_rest(model, world) || world.all_delivered()
            }),
            Property::always("everything converges", |model: &Self, world: &World| {
                let done = |node: &str| {
                    matches!(world.store.0.partition.node(&node.into()).state, NodeState::Succeeded { .. })
                };
                !at_rest(model, world) || ["s", "a", "b"].into_iter().all(done)
            }),
            Property::sometimes("everything is done", |_, world: &World| {
                matches!(world.store.0.partition.node(&"b".into()).state, NodeState::Succeeded { .. })
            }),
            Property::sometimes("every failure that may happen does, and is overcome", |_, world: &World| {
                world.failures == 0 && world.crashes == 0 && world.store.0.outbox.len() > 1 && world.all_delivered()
            }),
        ]
    }
}

/// Nothing is lost, decided twice, or dispatched out of turn, in any order of two replicas' steps.
fn walk(faults: Faults) -> usize {
    let checker = Replicas::new(Delivery::Outbox, faults).checker().threads(2).spawn_dfs().join();
    println!("{} distinct states, {} in all", checker.unique_state_count(), checker.state_count());
    checker.assert_properties();
    checker.unique_state_count()
}

const NONE: Faults = Faults { crashes: 0, failures: 0, redeliveries: 0, operator: Operator::Absent, jumps: 0 };

/// A crash, a redelivery, a failing run and a hold in one world. It is too large to be walked to its ends, so only what
/// must always hold is looked at, over the first 120,000 states.
#[test]
fn everything_at_once_breaks_nothing() {
    let faults = Faults { crashes: 1, failures: 1, redeliveries: 1, operator: Operator::HoldsAndResumes, jumps: 1 };
    let checker =
        Replicas::new(Delivery::Outbox, faults).checker().threads(2).target_state_count(400_000).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{states} distinct states, {} in all", checker.state_count());
    assert!(states >= 100_000, "only {states} states: the model does not interleave");
    for property in checker.model().properties() {
        if property.expectation == stateright::Expectation::Always {
            assert!(checker.discovery(property.name).is_none(), "{} does not hold", property.name);
        }
    }
}

/// One of two replicas dies at any point.
#[test]
fn a_crash_loses_nothing() {
    let states = walk(Faults { crashes: 1, ..NONE });
    assert!(states >= 1_000, "only {states} states: the model does not interleave");
}

/// A settled message comes again, or both replicas have it in hand.
#[test]
fn a_redelivery_repeats_nothing() {
    let states = walk(Faults { redeliveries: 1, ..NONE });
    assert!(states >= 1_000, "only {states} states: the model does not interleave");
}

/// A run fails, or is late, and the clock jumps past its backoff and its start deadline.
#[test]
fn a_failed_run_is_followed_by_a_good_one() {
    let states = walk(Faults { failures: 1, jumps: 1, ..NONE });
    assert!(states >= 100_000, "only {states} states: the model does not interleave");
}

/// An operator holds the date and lets it go, whichever the replicas take in first.
#[test]
fn a_hold_that_was_lifted_holds_nothing() {
    let states = walk(Faults { operator: Operator::HoldsAndResumes, ..NONE });
    assert!(states >= 100_000, "only {states} states: the model does not interleave");
}

/// Two faults and more in one world, walked to their ends, each larger than the one before, as far as ten minutes go: `cargo test
/// --test laws largest -- --ignored --nocapture`.
#[test]
#[ignore = "it takes ten minutes"]
fn the_largest_worlds_that_end() {
    let operator = Operator::HoldsAndResumes;
    let worlds = [
        ("a crash and a redelivery", Faults { crashes: 1, redeliveries: 1, ..NONE }),
        ("two crashes", Faults { crashes: 2, ..NONE }),
        ("two redeliveries", Faults { redeliveries: 2, ..NONE }),
        ("a crash and a hold", Faults { crashes: 1, operator, ..NONE }),
        ("a failed run and a crash", Faults { failures: 1, jumps: 1, crashes: 1, ..NONE }),
        (
            "a failed run, a crash and a redelivery",
            Faults { failures: 1, jumps: 1, crashes: 1, redeliveries: 1, ..NONE },
        ),
    ];
    let (began, mut ended) = (Instant::now(), 0);
    for (what, faults) in worlds {
        let left = Duration::from_mins(10).saturating_sub(began.elapsed());
        let checker = Replicas::new(Delivery::Outbox, faults).checker().threads(2).timeout(left).spawn_dfs().join();
        let (states, all) = (checker.unique_state_count(), checker.state_count());
        if began.elapsed() >= Duration::from_mins(10) {
            println!("{what}: {states} distinct states, {all} in all, and it has not ended");
            break;
        }
        println!("{what}: {states} distinct states, {all} in all, after {:.0?}", began.elapsed());
        checker.assert_properties();
        ended += 1;
    }
    assert!(ended > 0, "not one world ended");
}

/// Without the outbox a crash between commit and publish loses a dispatch, and the checker finds it.
#[test]
fn without_an_outbox_a_dispatch_is_lost() {
    let checker = Replicas::new(Delivery::AfterCommit, Faults { crashes: 1, ..NONE })
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf(["decided-gets-published"].into()))
        .spawn_bfs()
        .join();
    let path = checker.assert_any_discovery("decided-gets-published");
    let crash = path.into_actions().iter().any(|action| matches!(action, Action::Crash(_)));
    assert!(crash, "a dispatch is lost although nobody crashed");
}
