//! One schedule: a broker, a store, replicas and workers that do one small thing at a time, in an order drawn from a seed.
//!
//! What decides is the real `decide`; what a replica does around it (receive, load, commit, acknowledge, read the outbox,
//! publish, mark) is done here as the engine does it, one step at a time, so that anything may come between two steps.
//! First everything may go wrong: messages come late, twice and in any order, leases expire, the store refuses, or applies
//! and does not say so, replicas die and lag. Then nothing does any more, and everything has to come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Seen;
use super::dice::Dice;
use super::law::{self, Broken, broken};
use super::planted::{Bent, Bug, CLOCK_OFF, bend, twist};
use crate::domain::coverage::Coverage;
use crate::domain::decide::{Decision, decide};
use crate::domain::effect::{Dispatch, Effect};
use crate::domain::event::{Command, Completed, Event, Heartbeat, Observed, Outcome, Pulse, Request};
use crate::domain::evidence::Extent;
use crate::domain::graph::{Graph, Kind};
use crate::domain::id::{DispatchId, NodeId, PartitionKey, RunId};
use crate::domain::partition::{Partition, Recorded};
use crate::domain::time::{Now, after};
use crate::engine::hearing::Hearing;

/// Steps of the part in which things go wrong.
const STEPS: u32 = 220;
/// Rounds in which everything has to come to rest once nothing goes wrong any more.
const ROUNDS_MAX: u32 = 4_000;
/// In so many seconds everything that was begun has come to an end.
const CALM_MAX: i64 = 24 * 3600;
/// How long a message that was handed out belongs to a replica, in seconds.
const LEASE: i64 = 10;
/// A message that is handed back comes again after this, in seconds.
const AGAIN: i64 = 10;
/// A message about an attempt that has not been decided is kept for this long before it is parked, in seconds.
const FUTURE_MAX: i64 = 900;
/// How far the clocks of two replicas may be apart, in seconds.
const SKEW: u64 = 60;
/// A message that names an attempt nobody decides.
const LIAR: &str = "99/1";

/// A message, as the broker keeps it.
pub(super) struct Letter {
    pub body: Body,
    pub published: Timestamp,
    pub settled: bool,
    /// It has been settled before, and comes again.
    pub once: bool,
    /// Not handed out before this second.
    due: i64,
    deliveries: u32,
}

/// What a message says.
pub(super) enum Body {
    Event(Event),
    /// It cannot be read.
    Poison,
}

/// What the store holds of the one date.
pub(super) struct Kept {
    pub partition: Arc<Partition>,
    pub version: u64,
    pub wake_at: Option<Timestamp>,
    pub outbox: Vec<Entry>,
    pub journal: Vec<(Vec<Event>, Now)>,
    /// Messages that can never be applied.
    pub parked: BTreeSet<usize>,
}

/// What waits to be delivered.
pub(super) struct Entry {
    pub what: Outgoing,
    pub sent: bool,
    /// Not tried before this second.
    due: i64,
}

pub(super) enum Outgoing {
    Dispatch(Arc<Dispatch>),
    Observe(NodeId),
}

/// What a replica has loaded.
#[derive(Clone)]
struct Loaded {
    partition: Arc<Partition>,
    version: u64,
    wake_at: Option<Timestamp>,
}

enum Work {
    Letters(Vec<usize>),
    Tick,
}

enum Stage {
    Idle,
    Received(Work),
    Loaded(Work, Loaded),
    Committed(Work, Vec<Recorded>),
}

enum Relay {
    Idle,
    Read(usize),
    Published(usize),
}

struct Replica {
    /// Down until somebody starts it.
    up: bool,
    /// So many seconds ahead of the world.
    skew: i64,
    hearing: Hearing,
    intake: Stage,
    sweep: Stage,
    relay: Relay,
}

/// Somebody who was sent a dispatch.
struct Worker {
    dispatch: Arc<Dispatch>,
    run: RunId,
    fate: Fate,
    begun: bool,
    /// When it last showed a sign of life, in seconds.
    last: i64,
    over: bool,
    echoes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Fails,
    /// Begins, and is never heard of again.
    Hangs,
    /// Is never heard of.
    Lost,
    /// Is given up, and succeeds or fails after all.
    Late(bool),
}

/// What came of a commit.
enum Commit {
    Stored,
    Conflict,
    /// It may be stored or not.
    Unknown,
}

pub(super) struct World<'g> {
    pub graph: &'g Graph,
    bent: &'g Bent,
    bug: Option<Bug>,
    dice: Dice,
    pub clock: i64,
    pub store: Kept,
    pub letters: Vec<Letter>,
    /// Dispatches that the broker has taken.
    pub accepted: BTreeMap<DispatchId, Arc<Dispatch>>,
    replicas: Vec<Replica>,
    workers: Vec<Worker>,
    /// A node whose workers always fail.
    cursed: Option<NodeId>,
    /// What producers published, for the laws to compare with.
    pub said: Vec<(NodeId, RunId, Timestamp, bool)>,
    pub retries: BTreeMap<NodeId, u32>,
    pub held: bool,
    /// How far any replica had heard when it decided what is stored.
    pub heard: Timestamp,
    /// Whether anything may go wrong.
    stormy: bool,
    pub seen: Seen,
    names: u32,
    story: Option<Vec<String>>,
}

/// The second `seconds` after noon of the date.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_769_083_200 + seconds).unwrap_or(Timestamp::MAX)
}

fn second(instant: Timestamp) -> i64 {
    instant.as_second() - 1_769_083_200
}

/// Plays the schedule of `seed` on `graph`. With `tell`, the story of its steps comes back.
pub(super) fn play(
    graph: &Graph,
    bent: &Bent,
    bug: Option<Bug>,
    seed: u64,
    tell: bool,
) -> (Seen, Result<(), Broken>, Vec<String>) {
    let mut dice = Dice::new(seed);
    let replicas = 1 + dice.index(3);
    let tasks: Vec<NodeId> = graph.nodes.values().filter(|node| node.task().is_some()).map(|n| n.id.clone()).collect();
    let cursed = if dice.chance(25) { dice.pick(&tasks).cloned() } else { None };
    let key = PartitionKey::new("sim", jiff::civil::date(2026, 1, 22));
    let mut world = World {
        graph,
        bent,
        bug,
        clock: 0,
        store: Kept {
            partition: Arc::new(Partition::new(key)),
            version: 0,
            wake_at: None,
            outbox: Vec::new(),
            journal: Vec::new(),
            parked: BTreeSet::new(),
        },
        letters: Vec::new(),
        accepted: BTreeMap::new(),
        replicas: Vec::new(),
        workers: Vec::new(),
        cursed,
        said: Vec::new(),
        retries: BTreeMap::new(),
        held: false,
        heard: Timestamp::MIN,
        stormy: true,
        seen: Seen::default(),
        names: 0,
        story: tell.then(Vec::new),
        dice,
    };
    for node in graph.order.iter().filter_map(|id| graph.node(id.as_str())) {
        let needs: Vec<String> = node.needs.iter().map(|need| format!("{} ({:?})", need.node, need.strength)).collect();
        let kind = match &node.kind {
            Kind::Source(_) => "source".to_owned(),
            Kind::Gate(_) => "gate".to_owned(),
            Kind::Task(task) => format!("task, {} attempts, {:?}", task.attempts_max, task.rebuild),
        };
        world.tell(|| format!("{}: {kind} of [{}], probed: {}", node.id, needs.join(", "), node.probed));
    }
    for _ in 0..replicas {
        let replica = world.started();
        world.replicas.push(replica);
    }
    let result = world.storm().and_then(|()| world.calm()).and_then(|()| law::at_rest(&world));
    (world.seen.clone(), result, world.story.take().unwrap_or_default())
}

impl World<'_> {
    /// Everything may go wrong.
    fn storm(&mut self) -> Result<(), Broken> {
        for _ in 0..STEPS {
            self.seen.steps += 1;
            let replica = self.dice.index(self.replicas.len());
            match self.dice.roll(100) {
                0..34 => self.intake(replica)?,
                34..50 => self.relay(replica)?,
                50..62 => self.sweep(replica)?,
                62..78 => self.work(),
                78..82 => self.produce(),
                82..92 => self.pass(),
                92..95 => self.disturb(),
                95..97 => self.operate(),
                97..98 => self.lie(),
                _ => self.kill(replica),
            }
        }
        Ok(())
    }

    /// Nothing goes wrong any more: it has to come to rest.
    fn calm(&mut self) -> Result<(), Broken> {
        self.stormy = false;
        self.tell(|| "nothing goes wrong any more".to_owned());
        for index in 0..self.replicas.len() {
            if !self.replicas[index].up {
                self.replicas[index] = self.started();
            }
        }
        let sources: Vec<NodeId> = self
            .graph
            .nodes
            .values()
            .filter(|node| matches!(node.kind, Kind::Source(_)))
            .map(|n| n.id.clone())
            .collect();
        for source in sources {
            self.complete(&source, None, Outcome::Done(Extent::Whole), None);
        }
        if self.held {
            self.request(Command::Resume { node: None });
            self.held = false;
        }
        let until = self.clock + CALM_MAX;
        for _ in 0..ROUNDS_MAX {
            self.seen.steps += 1;
            let before = self.progress();
            for index in 0..self.replicas.len() {
                self.intake(index)?;
                self.relay(index)?;
                self.sweep(index)?;
            }
            self.work();
            if self.progress() != before || self.is_busy() {
                continue;
            }
            let Some(next) = self.next_instant() else { return Ok(()) };
            if next > until {
                // The warehouse is asked from time to time for as long as anything is missing; that is rest.
                let live = self.store.partition.nodes.iter().find(|(_, node)| node.state.is_live());
                let text = |(id, _): (&NodeId, _)| format!("a day later {id} is still at work");
                return live.map_or(Ok(()), |live| Err(broken("comes-to-rest", text(live))));
            }
            self.clock = next.max(self.clock + 1);
        }
        Err(broken("comes-to-rest", format!("after {ROUNDS_MAX} rounds something still goes on")))
    }

    /// A figure that changes whenever anything does.
    fn progress(&self) -> (u64, usize, usize, usize, usize) {
        let settled = self.letters.iter().filter(|letter| letter.settled).count();
        let sent = self.store.outbox.iter().filter(|entry| entry.sent).count();
        let workers = self.workers.iter().map(|worker| usize::from(worker.begun) + usize::from(worker.over)).sum();
        (self.store.version, settled, sent, workers, self.letters.len())
    }

    fn is_busy(&self) -> bool {
        let idle = |replica: &Replica| {
            matches!(replica.intake, Stage::Idle)
                && matches!(replica.sweep, Stage::Idle)
                && matches!(replica.relay, Relay::Idle)
        };
        !self.replicas.iter().all(idle)
    }

    /// When anything happens next by itself.
    fn next_instant(&self) -> Option<i64> {
        let letters = self.letters.iter().filter(|letter| !letter.settled).map(|letter| letter.due);
        let outbox = self.store.outbox.iter().filter(|entry| !entry.sent).map(|entry| entry.due);
        let lag = self.replicas.iter().map(|replica| replica.skew).min().unwrap_or(0);
        // What has been heard grows for a minute after a start.
        let wake = self.store.wake_at.map(|wake| second(wake) - lag.min(0));
        let late = self
            .workers
            .iter()
            .filter(|worker| !worker.over && worker.begun)
            .filter_map(|worker| matches!(worker.fate, Fate::Late(_)).then_some(worker.last + 1_500));
        letters.chain(outbox).chain(wake).chain(late).min()
    }

    fn started(&mut self) -> Replica {
        let skew = i64::try_from(self.dice.roll(SKEW)).unwrap_or(0) - i64::try_from(SKEW / 2).unwrap_or(0);
        let skew = if self.dice.chance(50) { 0 } else { skew };
        Replica {
            up: true,
            skew,
            hearing: Hearing::new(at(self.clock + skew), SignedDuration::from_secs(60)),
            intake: Stage::Idle,
            sweep: Stage::Idle,
            relay: Relay::Idle,
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>6}s  {}", self.clock, what()));
        }
    }

    fn now(&self, replica: usize) -> Now {
        let replica = &self.replicas[replica];
        let at = at(self.clock + replica.skew);
        Now { at, heard_until: replica.hearing.until(at) }
    }

    /// One step of a replica's way from a message to its acknowledgement.
    fn intake(&mut self, index: usize) -> Result<(), Broken> {
        if !self.replicas[index].up {
            if self.dice.chance(10) {
                self.tell(|| format!("replica {index} starts"));
                self.replicas[index] = self.started();
            }
            return Ok(());
        }
        match std::mem::replace(&mut self.replicas[index].intake, Stage::Idle) {
            Stage::Idle => self.receive(index),
            Stage::Received(work) => self.load(index, work, false),
            Stage::Loaded(work, loaded) => self.commit(index, work, &loaded, false)?,
            Stage::Committed(work, recorded) => self.settle(index, work, &recorded)?,
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) {
        let clock = self.clock;
        let mut due: Vec<usize> =
            (0..self.letters.len()).filter(|at| !self.letters[*at].settled && self.letters[*at].due <= clock).collect();
        if due.is_empty() {
            return;
        }
        let most = 1 + self.dice.index(3);
        let mut taken = Vec::with_capacity(most);
        while taken.len() < most && !due.is_empty() {
            taken.push(due.swap_remove(self.dice.index(due.len())));
        }
        for letter in &taken {
            let letter = &mut self.letters[*letter];
            letter.due = clock + LEASE;
            letter.deliveries += 1;
            self.seen.redeliveries += u64::from(letter.deliveries > 1);
            self.replicas[index].hearing.received(letter.published);
        }
        self.tell(|| format!("replica {index} receives {taken:?}"));
        if self.bug == Some(Bug::AckBeforeCommit) {
            taken.iter().for_each(|letter| self.letters[*letter].settled = true);
        }
        self.replicas[index].intake = Stage::Received(Work::Letters(taken));
    }

    fn load(&mut self, index: usize, work: Work, sweeps: bool) {
        if self.stormy && self.dice.chance(3) {
            return self.hand_back(index, work);
        }
        let Kept { partition, version, wake_at, .. } = &self.store;
        let loaded = Loaded { partition: Arc::clone(partition), version: *version, wake_at: *wake_at };
        *self.stage(index, sweeps) = Stage::Loaded(work, loaded);
    }

    fn stage(&mut self, index: usize, sweeps: bool) -> &mut Stage {
        let replica = &mut self.replicas[index];
        if sweeps { &mut replica.sweep } else { &mut replica.intake }
    }

    fn hand_back(&mut self, index: usize, work: Work) {
        if let Work::Letters(letters) = work {
            let replica = &mut self.replicas[index];
            replica.hearing.interrupted(at(self.clock + replica.skew));
            for letter in letters {
                let letter = &mut self.letters[letter];
                replica.hearing.settled(letter.published);
                letter.due = self.clock + AGAIN;
            }
            self.tell(|| format!("replica {index} hands its messages back"));
        }
    }

    fn events(&self, work: &Work) -> (Vec<Event>, u32) {
        match work {
            Work::Tick => (vec![Event::Tick], 0),
            Work::Letters(letters) => {
                let events = letters.iter().filter_map(|letter| match &self.letters[*letter].body {
                    Body::Event(event) => Some(event.clone()),
                    Body::Poison => None,
                });
                (events.collect(), letters.iter().map(|letter| self.letters[*letter].deliveries).sum())
            }
        }
    }

    pub(super) fn decided(
        &self,
        partition: &Partition,
        events: &[Event],
        now: Now,
        delivery: u32,
    ) -> Result<Decision, Broken> {
        let Some(bug) = self.bug else {
            return decide(self.graph, partition, events, now)
                .map_err(|violation| broken(violation.slug, violation.text));
        };
        let failed = events.iter().find_map(|event| match event {
            Event::Completed(Completed { outcome: Outcome::Failed(_), node, .. }) => self.bent.on_failure.get(node),
            _ => None,
        });
        let graph = failed.or(self.bent.all.as_ref()).unwrap_or(self.graph);
        let (mut partition, mut events, mut now) = (partition.clone(), events.to_vec(), now);
        let before = partition.clone();
        bend(bug, &mut partition, &mut events, &mut now, delivery);
        let decision = decide(graph, &partition, &events, now);
        let mut decision = decision.map_err(|violation| broken(violation.slug, violation.text))?;
        twist(bug, &before, &mut decision, &events, now);
        Ok(decision)
    }

    fn commit(&mut self, index: usize, work: Work, loaded: &Loaded, sweeps: bool) -> Result<(), Broken> {
        let now = self.now(index);
        let (events, delivery) = self.events(&work);
        let decision = self.decided(&loaded.partition, &events, now, delivery)?;
        law::on_decision(self, &loaded.partition, &decision, now)?;
        let mut recorded = decision.recorded.clone();
        recorded.resize(events.len(), Recorded::Duplicate);
        if self.bug == Some(Bug::PublishBeforeCommit) {
            for effect in &decision.effects {
                if let Effect::Dispatch(dispatch) = effect {
                    self.accept(&Arc::new(dispatch.clone()))?;
                }
            }
        }
        // What is decided on an old version comes to nothing.
        if let Work::Letters(letters) = &work
            && loaded.version == self.store.version
        {
            law::on_repetition(self, &loaded.partition, letters, &recorded)?;
        }
        if !decision.changed && decision.wake_at == loaded.wake_at {
            self.tell(|| format!("replica {index} has nothing to store"));
            *self.stage(index, sweeps) = Stage::Committed(work, recorded);
            return Ok(());
        }
        match self.store(loaded, decision, events, now, sweeps)? {
            Commit::Stored => *self.stage(index, sweeps) = Stage::Committed(work, recorded),
            Commit::Conflict => {
                self.seen.conflicts += 1;
                *self.stage(index, sweeps) = Stage::Received(work);
            }
            Commit::Unknown => self.hand_back(index, work),
        }
        Ok(())
    }

    /// The one commit: state, outbox and journal together, if nobody was faster.
    fn store(
        &mut self,
        loaded: &Loaded,
        decision: Decision,
        mut events: Vec<Event>,
        now: Now,
        sweeps: bool,
    ) -> Result<Commit, Broken> {
        if self.stormy && self.dice.chance(3) {
            return Ok(Commit::Unknown);
        }
        let blind = self.bug == Some(Bug::BlindWrite) || self.bug == Some(Bug::BlindSweep) && sweeps;
        if loaded.version != self.store.version && !blind {
            return Ok(Commit::Conflict);
        }
        law::on_commit(self, loaded.version, &decision)?;
        if self.bug == Some(Bug::JournalLosesAnEvent) && events.len() > 1 {
            events.pop();
        }
        let sent = self.bug == Some(Bug::NoOutbox);
        self.heard = self.heard.max(now.heard_until);
        self.store.version += 1;
        self.store.wake_at = decision.wake_at;
        if decision.changed {
            self.seen.decisions += 1;
            self.store.partition = Arc::new(decision.next);
            self.store.journal.push((events, now));
        }
        let mut from_memory = Vec::new();
        for effect in decision.effects {
            let what = match effect {
                Effect::Dispatch(dispatch) => {
                    self.seen.dispatches += 1;
                    let dispatch = Arc::new(dispatch);
                    self.tell(|| format!("{} is decided: {}", dispatch.id, dispatch.manifest.cause.as_str()));
                    if sent {
                        from_memory.push(Arc::clone(&dispatch));
                    }
                    Outgoing::Dispatch(dispatch)
                }
                Effect::Observe { node, .. } => Outgoing::Observe(node),
                Effect::Alert(_)
                | Effect::Check { .. }
                | Effect::ReleaseLock { .. }
                | Effect::Close(_)
                | Effect::NotifyPartition { .. } => continue,
            };
            let sent = sent && matches!(what, Outgoing::Dispatch(_));
            self.store.outbox.push(Entry { what, sent, due: self.clock });
        }
        // Applied, and whoever asked is not told.
        if self.stormy && self.dice.chance(3) {
            return Ok(Commit::Unknown);
        }
        for dispatch in from_memory {
            self.accept(&dispatch)?;
        }
        Ok(Commit::Stored)
    }

    fn settle(&mut self, index: usize, work: Work, recorded: &[Recorded]) -> Result<(), Broken> {
        let Work::Letters(letters) = work else { return Ok(()) };
        let mut recorded = recorded.iter();
        for at in letters {
            let told = match self.letters[at].body {
                Body::Event(_) => recorded.next().copied().unwrap_or(Recorded::Duplicate),
                Body::Poison => Recorded::Rejected,
            };
            let published = self.letters[at].published;
            self.replicas[index].hearing.settled(published);
            let old = self.clock - second(published) > FUTURE_MAX;
            match told {
                Recorded::Future if self.bug == Some(Bug::FutureAcked) => {}
                Recorded::Future if !old => {
                    self.letters[at].due = self.clock + 30;
                    continue;
                }
                Recorded::Future | Recorded::Rejected if self.bug != Some(Bug::PoisonAcked) => {
                    self.store.parked.insert(at);
                }
                _ => {}
            }
            // An acknowledgement that is lost: the message comes again.
            if self.stormy && self.dice.chance(5) {
                continue;
            }
            law::on_ack(self, at)?;
            self.letters[at].settled = true;
            self.letters[at].once = true;
        }
        Ok(())
    }

    /// One step of a replica's sweeper.
    fn sweep(&mut self, index: usize) -> Result<(), Broken> {
        if !self.replicas[index].up {
            return Ok(());
        }
        match std::mem::replace(&mut self.replicas[index].sweep, Stage::Idle) {
            Stage::Idle => {
                let now = self.now(index).at;
                if self.store.wake_at.is_some_and(|wake| wake <= now) {
                    self.tell(|| format!("replica {index} wakes the date"));
                    self.replicas[index].sweep = Stage::Received(Work::Tick);
                }
            }
            Stage::Received(work) => self.load(index, work, true),
            Stage::Loaded(work, loaded) => self.commit(index, work, &loaded, true)?,
            Stage::Committed(..) => {}
        }
        Ok(())
    }

    /// One step of a replica's relay.
    fn relay(&mut self, index: usize) -> Result<(), Broken> {
        if !self.replicas[index].up {
            return Ok(());
        }
        match std::mem::replace(&mut self.replicas[index].relay, Relay::Idle) {
            Relay::Idle => {
                let clock = self.clock;
                let unsent = self.store.outbox.iter().position(|entry| !entry.sent && entry.due <= clock);
                if let Some(entry) = unsent {
                    self.replicas[index].relay = Relay::Read(entry);
                }
            }
            Relay::Read(entry) => {
                if self.stormy && self.dice.chance(8) {
                    self.tell(|| format!("the broker refuses what replica {index} sends"));
                    if self.bug == Some(Bug::ParkedForEver) {
                        self.store.outbox[entry].sent = true;
                    } else {
                        self.store.outbox[entry].due = self.clock + AGAIN;
                    }
                    return Ok(());
                }
                match &self.store.outbox[entry].what {
                    Outgoing::Dispatch(dispatch) => {
                        let dispatch = Arc::clone(dispatch);
                        self.accept(&dispatch)?;
                    }
                    Outgoing::Observe(node) => {
                        let node = node.clone();
                        self.observe(index, node)?;
                    }
                }
                // Taken, and whoever sent it is not told.
                if !(self.stormy && self.dice.chance(4)) {
                    self.replicas[index].relay = Relay::Published(entry);
                }
            }
            Relay::Published(entry) => {
                if self.bug != Some(Bug::NeverMarked) && !(self.stormy && self.dice.chance(4)) {
                    self.store.outbox[entry].sent = true;
                }
            }
        }
        Ok(())
    }

    /// The broker takes a dispatch; its consumer may get it twice.
    fn accept(&mut self, dispatch: &Arc<Dispatch>) -> Result<(), Broken> {
        law::on_publish(self, &dispatch.id)?;
        let again = self.accepted.insert(dispatch.id.clone(), Arc::clone(dispatch)).is_some();
        // Consumers drop most repetitions by the id, and not all.
        if again && !(self.stormy && self.dice.chance(20)) {
            return Ok(());
        }
        self.tell(|| format!("the broker takes {}", dispatch.id));
        let cursed = self.cursed.as_ref() == Some(&dispatch.node);
        let fate = match self.dice.roll(100) {
            _ if cursed => Fate::Fails,
            _ if !self.stormy => Fate::Succeeds,
            0..64 => Fate::Succeeds,
            64..78 => Fate::Fails,
            78..88 => Fate::Hangs,
            88..93 => Fate::Lost,
            roll => Fate::Late(roll < 97),
        };
        let run = self.name();
        let echoes = self.dice.chance(50);
        let (dispatch, last) = (Arc::clone(dispatch), self.clock);
        self.workers.push(Worker { dispatch, run, fate, begun: false, last, over: false, echoes });
        Ok(())
    }

    fn name(&mut self) -> RunId {
        self.names += 1;
        RunId::new(format!("run-{}", self.names))
    }

    /// The warehouse answers: what some completion said is there, most of the time.
    fn observe(&mut self, index: usize, node: NodeId) -> Result<(), Broken> {
        let there = self.said.iter().any(|(of, _, _, success)| *of == node && *success);
        let coverage = match (there, self.stormy && self.dice.chance(10)) {
            (_, true) => None,
            (true, false) => Coverage::new(10, 10),
            (false, false) => Coverage::new(0, 10),
        };
        let observed = Observed { node, coverage, not_kept: false, units: BTreeMap::new(), at: self.now(index).at };
        let events = vec![Event::Observed(observed)];
        let Kept { partition, version, wake_at, .. } = &self.store;
        let loaded = Loaded { partition: Arc::clone(partition), version: *version, wake_at: *wake_at };
        let now = self.now(index);
        let decision = self.decided(&loaded.partition, &events, now, 1)?;
        law::on_decision(self, &loaded.partition, &decision, now)?;
        if decision.changed || decision.wake_at != loaded.wake_at {
            self.store(&loaded, decision, events, now, false)?;
        }
        Ok(())
    }

    /// A worker does something.
    fn work(&mut self) {
        let mut able: Vec<usize> = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let waits = match (worker.fate, worker.begun) {
                (Fate::Late(_), true) => self.clock < worker.last + 1_500,
                (Fate::Hangs, true) | (Fate::Lost, _) => true,
                _ => false,
            };
            if !worker.over && !waits {
                able.push(index);
            }
        }
        let Some(index) = self.dice.pick(&able).copied() else { return };
        let worker = &self.workers[index];
        let (node, run, fate, begun) = (worker.dispatch.node.clone(), worker.run.clone(), worker.fate, worker.begun);
        if !begun {
            self.workers[index].begun = true;
            self.workers[index].last = self.clock;
            return self.beat(node, run);
        }
        if self.stormy && self.dice.chance(30) && !matches!(fate, Fate::Late(_)) {
            self.workers[index].last = self.clock;
            return self.beat(node, run);
        }
        let echo = self.workers[index].echoes.then(|| self.workers[index].dispatch.id.clone());
        self.workers[index].over = true;
        let outcome = match fate {
            Fate::Fails | Fate::Late(false) => Outcome::Failed("drawn".into()),
            Fate::Succeeds | Fate::Late(true) | Fate::Hangs | Fate::Lost => Outcome::Done(Extent::Whole),
        };
        self.complete(&node, Some(run), outcome, echo);
    }

    fn beat(&mut self, node: NodeId, run: RunId) {
        self.tell(|| format!("{node} {run} beats"));
        let mut published = at(self.clock);
        if self.bug == Some(Bug::ProcessorClock) {
            published = after(published, CLOCK_OFF);
        }
        let heartbeat = Heartbeat { node, run, pulse: Pulse::Running, progress: (1, 5), published };
        self.publish(Body::Event(Event::Heartbeat(heartbeat)));
    }

    fn complete(&mut self, node: &NodeId, run: Option<RunId>, outcome: Outcome, dispatch: Option<DispatchId>) {
        let run = run.unwrap_or_else(|| self.name());
        self.tell(|| format!("{node} {run} ends: {outcome:?}"));
        self.said.push((node.clone(), run.clone(), at(self.clock), matches!(outcome, Outcome::Done(_))));
        // A producer whose call got no answer publishes again.
        let times = if self.stormy && self.dice.chance(8) { 2 } else { 1 };
        for _ in 0..times {
            let completed = Completed {
                node: node.clone(),
                run: run.clone(),
                outcome: outcome.clone(),
                records: None,
                published: at(self.clock),
                correlation: None,
                dispatch: dispatch.clone(),
                unit: None,
                trace: None,
            };
            self.publish(Body::Event(Event::Completed(completed)));
        }
    }

    fn publish(&mut self, body: Body) {
        let late =
            if self.stormy && self.dice.chance(20) { i64::try_from(self.dice.roll(600)).unwrap_or(0) } else { 0 };
        let letter = Letter {
            body,
            published: at(self.clock),
            settled: false,
            once: false,
            due: self.clock + late,
            deliveries: 0,
        };
        self.letters.push(letter);
        // No two messages in the same instant, as no broker has them.
        self.clock += 1;
    }

    /// A producer that nobody asks says something; so does somebody who runs a task by hand.
    fn produce(&mut self) {
        let by_hand = self.dice.chance(15);
        let nodes: Vec<NodeId> = self
            .graph
            .nodes
            .values()
            .filter(|node| matches!(node.kind, Kind::Source(_)) || by_hand && node.task().is_some())
            .map(|node| node.id.clone())
            .collect();
        let Some(node) = self.dice.pick(&nodes).cloned() else { return };
        match self.dice.roll(10) {
            0 => {
                let run = self.name();
                self.beat(node, run);
            }
            1 | 2 => self.complete(&node, None, Outcome::Failed("drawn".into()), None),
            3 => self.publish(Body::Poison),
            _ => self.complete(&node, None, Outcome::Done(Extent::Whole), None),
        }
    }

    /// Time passes.
    fn pass(&mut self) {
        let by = match self.dice.roll(10) {
            0..5 => 1 + self.dice.roll(20),
            5..8 => 20 + self.dice.roll(280),
            _ => 300 + self.dice.roll(900),
        };
        self.clock += i64::try_from(by).unwrap_or(1);
    }

    /// The broker delivers what was settled once more, or forgets who has something.
    fn disturb(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let at = self.dice.index(self.letters.len());
        self.letters[at].due = self.clock;
        if self.dice.chance(50) && self.letters[at].deliveries > 0 {
            self.tell(|| format!("message {at} comes again"));
            self.letters[at].settled = false;
        }
    }

    fn operate(&mut self) {
        let tasks: Vec<NodeId> =
            self.graph.nodes.values().filter(|node| node.task().is_some()).map(|node| node.id.clone()).collect();
        match self.dice.roll(4) {
            0 if !self.held => {
                self.held = true;
                self.request(Command::Hold { node: None, until: None });
            }
            0 | 1 if self.held => {
                self.held = false;
                self.request(Command::Resume { node: None });
            }
            2 => {
                if let Some(node) = self.dice.pick(&tasks).cloned() {
                    *self.retries.entry(node.clone()).or_default() += 1;
                    self.request(Command::Retry { node });
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, command: Command) {
        self.tell(|| format!("an operator asks: {command:?}"));
        let id = self.name();
        let (actor, reason) = ("operator".into(), "drawn".into());
        let request = Request { id: id.as_str().into(), actor, reason, at: at(self.clock), command };
        self.publish(Body::Event(Event::Requested(request)));
    }

    /// Somebody answers an attempt that nobody has decided.
    fn lie(&mut self) {
        let tasks: Vec<NodeId> =
            self.graph.nodes.values().filter(|node| node.task().is_some()).map(|node| node.id.clone()).collect();
        let Some(node) = self.dice.pick(&tasks).cloned() else { return };
        let id = DispatchId::new(format!("{}/{node}/{LIAR}", self.store.partition.key));
        let run = self.name();
        let published = at(self.clock);
        let outcome = Outcome::Failed("drawn".into());
        self.publish(Body::Event(Event::Completed(Completed {
            node,
            run,
            outcome,
            records: None,
            published,
            correlation: None,
            dispatch: Some(id),
            unit: None,
            trace: None,
        })));
    }

    fn kill(&mut self, index: usize) {
        if self.replicas[index].up {
            self.tell(|| format!("replica {index} dies"));
            self.seen.kills += 1;
            self.replicas[index].up = false;
            self.replicas[index].intake = Stage::Idle;
            self.replicas[index].sweep = Stage::Idle;
            self.replicas[index].relay = Relay::Idle;
        }
    }
}
