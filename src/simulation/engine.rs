//! The real engine over a model of its broker, its store and its clocks: one to three replicas, everything out of order.
//!
//! The engine's own futures are polled one step at a time, in an order drawn from the seed. A step ends wherever the engine
//! calls its store or its bus, so a replica may be killed, and time may pass, between any two calls. First everything may go
//! wrong, then nothing does any more, and everything has to come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use jiff::civil::{Date, date};
use serde_json::{Map, Value, json};

use super::dice::Dice;
use super::law::{Broken, broken};
use super::model::{Ground, ModelBus, ModelStore, locked};
use super::{Schedules, Seen};
use crate::adapter::embedded::{Durability, Embedded};
use crate::clock::Clock;
use crate::diagnostic::Problems;
use crate::domain::decide::decide;
use crate::domain::effect::Effect;
use crate::domain::id::{DispatchId, NodeId, PartitionKey};
use crate::domain::partition::{Partition, Recorded, State};
use crate::domain::record::record;
use crate::engine::intake::{Intake, Offer, Settlement, routes};
use crate::engine::relay::UnderWay;
use crate::engine::{Engine, Settings};
use crate::pipeline::Declarations;
use crate::port::{JournalEntry, OutboxEntry, Parked, Store, StoreError};
use crate::wire::inbound::{Decoded, Delivery, decode};

/// Steps of the part in which things go wrong.
const STEPS: u32 = 1_200;
/// Rounds in which everything has to come to rest once nothing goes wrong any more.
const ROUNDS_MAX: u32 = 20_000;
/// Rounds without any change after which time goes on although something is at work.
const STILL_MAX: u32 = 3;
/// In so many seconds everything that was begun has come to an end.
const CALM_MAX: i64 = 24 * 3600;
/// How long a message that was handed out belongs to a replica, in seconds.
const LEASE: i64 = 60;
/// How far the clocks of replicas are apart at most, in seconds.
const SKEW: u64 = 60;
/// The dates of a schedule.
const DATES: [Date; 2] = [date(2026, 1, 22), date(2026, 1, 21)];
const COMPLETIONS: &str = "nba-phase2-raw-complete";
const HEARTBEATS: &str = "nba-processor-heartbeats";

/// A bug below the engine, planted to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    /// Messages are acknowledged when they are handed out.
    AckOnReceipt,
    /// A commit is answered and not stored.
    LostCommit,
}

impl Below {
    /// Every one of them.
    pub const ALL: [Self; 2] = [Self::AckOnReceipt, Self::LostCommit];

    /// Its name, the law that it breaks, and what is wrong.
    pub fn described(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AckOnReceipt => {
                ("ack-on-receipt", "ack-after-commit", "messages are acknowledged when they are handed out")
            }
            Self::LostCommit => ("lost-commit", "ack-after-commit", "a commit is answered and not stored"),
        }
    }
}

/// What schedules of the engine are played on.
#[derive(Debug)]
pub struct Stage {
    declarations: Arc<Declarations>,
    planted: Option<Below>,
}

struct Message {
    delivery: Delivery,
    settled: bool,
    due: i64,
    deliveries: u32,
}

enum Done {
    Applied(PartitionKey, Vec<(usize, Settlement)>),
    Parked(usize, Settlement),
    Taken(UnderWay, Result<Vec<OutboxEntry>, StoreError>),
    Delivered(Box<OutboxEntry>),
    Swept,
    Watched,
    Exported,
}

type Task = Pin<Box<dyn Future<Output = Done>>>;

struct Replica {
    engine: Arc<Engine>,
    clock: Clock,
    skew: i64,
    intake: Intake<usize>,
    tasks: Vec<Task>,
    under_way: Option<UnderWay>,
    /// Effects that have been delivered while it was looked for more.
    delivered: Vec<OutboxEntry>,
    sweeps: bool,
    watches: bool,
    exports: bool,
}

struct Worker {
    id: DispatchId,
    node: String,
    date: Date,
    run: String,
    fate: u64,
    begun: bool,
    over: bool,
    last: i64,
}

struct World<'s> {
    stage: &'s Stage,
    dice: Dice,
    clock: i64,
    /// The world's own clock, which no replica sees.
    true_clock: Clock,
    store: Embedded,
    ground: Arc<Mutex<Ground>>,
    replicas: Vec<Option<Replica>>,
    messages: Vec<Message>,
    workers: Vec<Worker>,
    taken: usize,
    known: BTreeSet<DispatchId>,
    stormy: bool,
    names: usize,
    planted: Option<Below>,
    seen: Seen,
    story: Option<Vec<String>>,
}

fn at(seconds: i64) -> Timestamp {
    // Seven in the evening of the first date in New York.
    Timestamp::from_second(1_769_126_400 + seconds).unwrap_or(Timestamp::MAX)
}

fn second(instant: Timestamp) -> i64 {
    instant.as_second() - 1_769_126_400
}

/// Two sources, a join of three tasks, and one task behind it.
fn pipeline() -> Result<String, Problems> {
    let mut nodes = Map::new();
    let source = || json!({ "kind": "source", "phase": "raw", "cycle": "overnight" });
    let task = |needs: Value| {
        let body =
            json!({ "target_date": "{{ date }}", "correlation_id": "{{ correlation_id }}", "trigger_source": "t" });
        json!({ "kind": "task", "phase": "grading", "cycle": "overnight", "needs": needs,
            "messages": [{ "topic": "nba-grading-trigger", "body": body }] })
    };
    let hard = || json!({ "strength": "hard" });
    nodes.insert("s1".into(), source());
    nodes.insert("s2".into(), source());
    nodes.insert("t1".into(), task(json!({ "s1": hard() })));
    nodes.insert("t2".into(), task(json!({ "s1": hard(), "s2": hard() })));
    nodes.insert("t3".into(), task(json!({ "s2": hard() })));
    nodes.insert("last".into(), task(json!({ "t1": hard(), "t2": hard(), "t3": hard() })));
    crate::pipeline::alone(nodes, &json!({ "calendar": { "schedule": null } }))
}

impl Stage {
    /// Reads the declarations that all schedules share.
    ///
    /// # Errors
    /// If what is built in cannot be read, which is our bug.
    pub fn new(planted: Option<Below>) -> anyhow::Result<Self> {
        let declared = crate::pipeline::load(("topics.yaml", crate::pipeline::TOPICS), ("sim", &pipeline()?))?;
        Ok(Self { declarations: Arc::new(declared), planted })
    }
}

impl Schedules for Stage {
    fn schedule(&self, seed: u64, tell: bool) -> (Seen, Result<(), Broken>, Vec<String>) {
        let opened = tempfile::tempdir().map_err(|error| error.to_string()).and_then(|folder| {
            let store = Embedded::open(folder.path(), Durability::Off).map_err(|error| error.to_string())?;
            Ok((folder, store))
        });
        let (_folder, store) = match opened {
            Ok(opened) => opened,
            Err(error) => return (Seen::default(), Err(broken("the-store-opens", error)), Vec::new()),
        };
        let mut world = World {
            stage: self,
            dice: Dice::new(seed),
            clock: 0,
            true_clock: Clock::manual(at(0)),
            store,
            ground: Ground::new(seed),
            replicas: Vec::new(),
            messages: Vec::new(),
            workers: Vec::new(),
            taken: 0,
            known: BTreeSet::new(),
            stormy: true,
            names: 0,
            planted: self.planted,
            seen: Seen::default(),
            story: tell.then(Vec::new),
        };
        locked(&world.ground).lies = self.planted == Some(Below::LostCommit);
        for _ in 0..=world.dice.index(3) {
            world.replicas.push(None);
        }
        for index in 0..world.replicas.len() {
            world.start(index);
        }
        let result = world.storm().and_then(|()| world.calm()).and_then(|()| world.at_rest());
        world.seen.conflicts = locked(&world.ground).conflicts;
        (world.seen, result, world.story.unwrap_or_default())
    }
}

impl World<'_> {
    fn storm(&mut self) -> Result<(), Broken> {
        for _ in 0..STEPS {
            self.seen.steps += 1;
            let index = self.dice.index(self.replicas.len());
            match self.dice.roll(100) {
                0..60 => self.poll(index)?,
                60..72 => {
                    self.deliver(index);
                }
                72..80 => self.begin(index),
                80..86 => self.work(),
                86..91 => self.produce(),
                91..97 => self.pass(),
                97..98 => self.disturb(),
                _ if self.dice.chance(40) => self.kill(index),
                _ => {}
            }
            self.look()?;
        }
        Ok(())
    }

    fn calm(&mut self) -> Result<(), Broken> {
        self.stormy = false;
        locked(&self.ground).trouble = 0;
        locked(&self.ground).away = false;
        self.tell(|| "nothing goes wrong any more".to_owned());
        for index in 0..self.replicas.len() {
            self.start(index);
        }
        for date in DATES {
            for source in ["s1", "s2"] {
                let run = self.name();
                self.complete(source, date, &run, "success", None);
            }
        }
        let until = self.clock + CALM_MAX;
        let mut still = 0;
        for _ in 0..ROUNDS_MAX {
            self.seen.steps += 1;
            let before = self.progress();
            for index in 0..self.replicas.len() {
                while self.deliver(index) {}
                self.begin(index);
                for _ in 0..40 {
                    self.poll(index)?;
                }
            }
            self.work();
            self.look()?;
            let busy = self.replicas.iter().flatten().any(|replica| !replica.tasks.is_empty());
            if self.progress() != before {
                still = 0;
                continue;
            }
            still += 1;
            if busy {
                // Whoever looks for what another has claimed looks in vain until that one's time is over.
                if still > STILL_MAX {
                    self.set(self.clock + 1);
                }
                continue;
            }
            let Some(next) = self.next_instant()? else { return Ok(()) };
            if next > until {
                return Ok(());
            }
            self.set(next.max(self.clock + 1));
        }
        Err(broken("comes-to-rest", format!("after {ROUNDS_MAX} rounds something still goes on")))
    }

    fn progress(&self) -> (usize, usize, usize, usize) {
        let settled = self.messages.iter().filter(|message| message.settled).count();
        let begun = self.workers.iter().map(|worker| usize::from(worker.begun) + usize::from(worker.over)).sum();
        (settled, begun, self.messages.len(), self.taken)
    }

    fn next_instant(&self) -> Result<Option<i64>, Broken> {
        let (wake, outbox) = waited(self.store.next_wake())?;
        let slow = self.replicas.iter().flatten().map(|replica| replica.skew).min().unwrap_or(0).min(0);
        let stored = [wake, outbox].into_iter().flatten().map(|instant| second(instant) + 1 - slow);
        let messages = self.messages.iter().filter(|message| !message.settled).map(|message| message.due);
        let intake = self.replicas.iter().flatten().filter_map(|replica| replica.intake.next_due());
        let watch = self
            .replicas
            .iter()
            .flatten()
            .filter(|replica| replica.engine.watch.refusal().is_some())
            .map(|replica| second(replica.engine.watch.due()));
        let late = self.workers.iter().filter(|worker| worker.is_late()).map(|worker| worker.last + 1_500);
        let intake = intake.map(|instant| second(instant) + 1 - slow);
        Ok(stored.chain(messages).chain(intake).chain(watch.map(|at| at + 1 - slow)).chain(late).min())
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>6}s  {}", self.clock, what()));
        }
    }

    fn set(&mut self, clock: i64) {
        self.clock = clock;
        self.true_clock.set(at(clock));
        for replica in self.replicas.iter().flatten() {
            replica.clock.set(at(clock + replica.skew));
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("run-{}", self.names)
    }

    /// A process starts, where none runs.
    fn start(&mut self, index: usize) {
        if self.replicas[index].is_some() {
            return;
        }
        let skew = i64::try_from(self.dice.roll(SKEW)).unwrap_or(0) - i64::try_from(SKEW / 2).unwrap_or(0);
        let skew = if self.dice.chance(50) { 0 } else { skew };
        let clock = Clock::manual(at(self.clock + skew));
        self.names += 1;
        let store = ModelStore {
            inner: self.store.clone(),
            ground: Arc::clone(&self.ground),
            replica: self.names,
            clock: self.true_clock.clone(),
        };
        let engine = Engine::new(
            Arc::clone(&self.stage.declarations),
            Arc::new(store),
            Arc::new(ModelBus(Arc::clone(&self.ground))),
            Arc::new(self.store.clone()),
            clock.clone(),
            Settings::default(),
        );
        engine.relays(true);
        self.tell(|| format!("replica {index} starts, {skew} s ahead"));
        self.replicas[index] = Some(Replica {
            engine: Arc::new(engine),
            clock,
            skew,
            intake: Intake::default(),
            tasks: Vec::new(),
            under_way: Some(UnderWay::default()),
            delivered: Vec::new(),
            sweeps: false,
            watches: false,
            exports: false,
        });
    }

    /// A process dies wherever it is; what it was handed comes again.
    fn kill(&mut self, index: usize) {
        if self.replicas[index].take().is_some() {
            self.seen.kills += 1;
            self.tell(|| format!("replica {index} dies"));
        } else {
            self.start(index);
        }
    }

    /// The broker hands a replica one message of those that are due; whether it could.
    fn deliver(&mut self, index: usize) -> bool {
        let Some(replica) = &mut self.replicas[index] else { return false };
        if replica.engine.watch.refusal().is_some() {
            return false;
        }
        let clock = self.clock;
        let due: Vec<usize> = (0..self.messages.len())
            .filter(|at| !self.messages[*at].settled && self.messages[*at].due <= clock)
            .collect();
        let Some(at) = self.dice.pick(&due).copied() else { return false };
        let message = &mut self.messages[at];
        message.due = clock + LEASE;
        message.deliveries += 1;
        self.seen.redeliveries += u64::from(message.deliveries > 1);
        message.settled = self.planted == Some(Below::AckOnReceipt);
        let offer = replica.intake.offer(&replica.engine, message.delivery.clone(), at);
        match offer {
            Offer::Taken | Offer::ToKeep(..) => {}
            Offer::Settled(at, settlement) => self.settle(at, &settlement),
            Offer::ToPark(at, parked) => {
                let engine = Arc::clone(&replica.engine);
                replica.tasks.push(Box::pin(async move {
                    let (parked, delivery) = *parked;
                    Done::Parked(at, engine.park(parked, &delivery).await)
                }));
            }
        }
        self.tell(|| format!("replica {index} receives message {at}"));
        true
    }

    fn settle(&mut self, at: usize, settlement: &Settlement) {
        match settlement {
            Settlement::Ack | Settlement::Park { .. } => {
                // An acknowledgement that is lost: it comes again.
                if !(self.stormy && self.dice.chance(5)) {
                    self.messages[at].settled = true;
                }
            }
            Settlement::Nack { after, .. } => self.messages[at].due = self.clock + after.as_secs().max(1),
        }
    }

    /// A replica begins whatever is due.
    fn begin(&mut self, index: usize) {
        let Some(replica) = &mut self.replicas[index] else { return };
        let now = replica.clock.now();
        for batch in replica.intake.due(now, 4) {
            let engine = Arc::clone(&replica.engine);
            replica.tasks.push(Box::pin(async move {
                let key = batch.key.clone();
                Done::Applied(key, engine.apply(batch).await)
            }));
        }
        let (wake, outbox) = waited(self.store.next_wake()).unwrap_or_default();
        let is_due = |instant: Option<Timestamp>| instant.is_some_and(|instant| instant <= now);
        let refuses = replica.engine.watch.refusal().is_some();
        if is_due(outbox)
            && !refuses
            && let Some(mut under_way) = replica.under_way.take()
        {
            for entry in replica.delivered.drain(..) {
                replica.engine.delivered(&mut under_way, &entry);
            }
            let engine = Arc::clone(&replica.engine);
            replica.tasks.push(Box::pin(async move {
                let taken = engine.take_up(&mut under_way).await;
                Done::Taken(under_way, taken)
            }));
        }
        if !replica.sweeps && is_due(wake) && !refuses {
            replica.sweeps = true;
            let engine = Arc::clone(&replica.engine);
            replica.tasks.push(Box::pin(async move {
                // What could not be woken is woken in the next round.
                let _ = engine.sweep().await;
                Done::Swept
            }));
        }
        if !replica.watches && replica.engine.watch.due() <= now && refuses {
            replica.watches = true;
            let engine = Arc::clone(&replica.engine);
            replica.tasks.push(Box::pin(async move {
                engine.watch().await;
                Done::Watched
            }));
        }
        if !replica.exports && self.stormy && self.dice.chance(5) {
            replica.exports = true;
            let engine = Arc::clone(&replica.engine);
            replica.tasks.push(Box::pin(async move {
                let _ = engine.export().await;
                Done::Exported
            }));
        }
    }

    /// One step of one thing that a replica is at.
    fn poll(&mut self, index: usize) -> Result<(), Broken> {
        let Some(replica) = &mut self.replicas[index] else {
            if self.dice.chance(5) {
                self.start(index);
            }
            return Ok(());
        };
        if replica.tasks.is_empty() {
            self.begin(index);
            return Ok(());
        }
        let at = self.dice.index(replica.tasks.len());
        let Poll::Ready(done) = poll_once(replica.tasks[at].as_mut()) else { return Ok(()) };
        drop(replica.tasks.swap_remove(at));
        match done {
            Done::Applied(key, settlements) => {
                replica.intake.done(&key);
                for (at, settlement) in settlements {
                    self.acknowledged(at, &settlement)?;
                    self.settle(at, &settlement);
                }
            }
            Done::Parked(at, settlement) => {
                self.acknowledged(at, &settlement)?;
                self.settle(at, &settlement);
            }
            Done::Taken(under_way, taken) => {
                replica.under_way = Some(under_way);
                for entry in taken.unwrap_or_default() {
                    let engine = Arc::clone(&replica.engine);
                    replica.tasks.push(Box::pin(async move {
                        // What could not be noted is sent again, under the same id.
                        let _ = engine.deliver(&entry).await;
                        Done::Delivered(Box::new(entry))
                    }));
                }
            }
            Done::Delivered(entry) => replica.delivered.push(*entry),
            Done::Swept => replica.sweeps = false,
            Done::Watched => replica.watches = false,
            Done::Exported => replica.exports = false,
        }
        Ok(())
    }

    /// What was acknowledged is kept, or would change nothing any more.
    fn acknowledged(&self, at: usize, settlement: &Settlement) -> Result<(), Broken> {
        let delivery = &self.messages[at].delivery;
        match settlement {
            Settlement::Nack { .. } => Ok(()),
            Settlement::Park { .. } => {
                let parked = waited(self.store.parked(10_000))?;
                let is_it = |parked: &Parked| {
                    parked.topic == delivery.topic
                        && parked.size == delivery.data.len()
                        && delivery.data.starts_with(&parked.head)
                };
                let kept = parked.iter().any(is_it);
                if kept { Ok(()) } else { Err(broken("ack-after-commit", format!("message {at} is parked nowhere"))) }
            }
            Settlement::Ack => self.changes_nothing(at),
        }
    }

    fn changes_nothing(&self, at: usize) -> Result<(), Broken> {
        let delivery = &self.messages[at].delivery;
        let Some(replica) = self.replicas.iter().flatten().next() else { return Ok(()) };
        let Decoded::Events { key, events } = decode(&routes(&replica.engine), delivery) else { return Ok(()) };
        let Some(graph) = replica.engine.graph(&key.pipeline) else { return Ok(()) };
        let mut partition = Arc::unwrap_or_clone(waited(self.store.load(&key))?.partition);
        for event in &events {
            let told = record(graph, &mut partition, event);
            if matches!(told, Recorded::Applied | Recorded::Future | Recorded::Rejected) {
                let text = format!("message {at} was acknowledged and would be {told:?}: {event:?}");
                return Err(broken("ack-after-commit", text));
            }
        }
        Ok(())
    }

    /// What the broker has taken: it was decided, and somebody is at it.
    fn look(&mut self) -> Result<(), Broken> {
        let sent: Vec<String> = {
            let ground = locked(&self.ground);
            ground.sent[self.taken..].iter().map(|message| message.id.clone()).collect()
        };
        self.taken += sent.len();
        for id in sent {
            let id = DispatchId::new(id.split('#').next().unwrap_or_default());
            let Some((key, node, _)) = id.parts() else { continue };
            let again = !self.known.insert(id.clone());
            if !again {
                let journal = self.journal(&key)?;
                if !decided(&journal).any(|dispatch| *dispatch == id) {
                    return Err(broken("published-was-decided", format!("{id} is in no journal")));
                }
                self.seen.dispatches += 1;
            }
            // Consumers drop most repetitions by the id, and not all.
            if again && !self.dice.chance(20) {
                continue;
            }
            self.tell(|| format!("the broker takes {id}"));
            let fate = if self.stormy { self.dice.roll(100) } else { 0 };
            let (run, last) = (self.name(), self.clock);
            let node = node.as_str().to_owned();
            self.workers.push(Worker { id, node, date: key.date, run, fate, begun: false, over: false, last });
        }
        Ok(())
    }

    fn journal(&self, key: &PartitionKey) -> Result<Vec<JournalEntry>, Broken> {
        waited(self.store.journal(Some(key), 0, 100_000))
    }

    fn work(&mut self) {
        let able: Vec<usize> = (0..self.workers.len()).filter(|at| self.workers[*at].is_able(self.clock)).collect();
        let Some(at) = self.dice.pick(&able).copied() else { return };
        let worker = &mut self.workers[at];
        let (node, date, run) = (worker.node.clone(), worker.date, worker.run.clone());
        if !worker.begun {
            (worker.begun, worker.last) = (true, self.clock);
            return self.beat(&node, date, &run);
        }
        worker.over = true;
        let echo = worker.fate.is_multiple_of(2).then(|| worker.id.clone());
        let status = if worker.fails() { "error" } else { "success" };
        self.complete(&node, date, &run, status, echo);
    }

    fn beat(&mut self, node: &str, date: Date, run: &str) {
        let body = json!({ "processor_name": node, "run_id": run, "data_date": date, "status": "running",
            "last_heartbeat": at(self.clock), "progress": 1, "total": 5, "status_message": "" });
        self.publish(HEARTBEATS, body);
    }

    fn complete(&mut self, node: &str, date: Date, run: &str, status: &str, echo: Option<DispatchId>) {
        let mut body = json!({ "processor_name": node, "phase": "phase_2_raw", "execution_id": run,
            "correlation_id": run, "game_date": date, "output_table": "", "status": status, "record_count": 33 });
        if let Some(id) = echo {
            body["tipoff"] = json!({ "dispatch_id": id });
        }
        self.publish(COMPLETIONS, body);
    }

    fn publish(&mut self, topic: &str, body: Value) {
        let late =
            if self.stormy && self.dice.chance(20) { i64::try_from(self.dice.roll(600)).unwrap_or(0) } else { 0 };
        self.names += 1;
        let delivery = Delivery {
            topic: topic.to_owned(),
            message_id: format!("m{}", self.names),
            published: at(self.clock),
            attributes: BTreeMap::new(),
            data: body.to_string().into_bytes(),
        };
        self.messages.push(Message { delivery, settled: false, due: self.clock + late, deliveries: 0 });
        self.set(self.clock + 1);
    }

    fn produce(&mut self) {
        let date = *self.dice.pick(&DATES).unwrap_or(&DATES[0]);
        let run = self.name();
        match self.dice.roll(12) {
            0 => {
                self.publish(COMPLETIONS, json!({ "processor_name": "nobody", "game_date": date, "status": "success" }))
            }
            1 => self.complete("s1", date, &run, "error", None),
            2 => self.beat("s2", date, &run),
            3 => self.complete("t1", date, &run, "success", None),
            4..8 => self.complete("s1", date, &run, "success", None),
            _ => self.complete("s2", date, &run, "success", None),
        }
    }

    fn pass(&mut self) {
        let by = match self.dice.roll(10) {
            0..6 => 1 + self.dice.roll(20),
            6..9 => 20 + self.dice.roll(280),
            _ => 300 + self.dice.roll(900),
        };
        self.set(self.clock + i64::try_from(by).unwrap_or(1));
    }

    /// The broker delivers what was settled once more; the store goes away, or comes back.
    fn disturb(&mut self) {
        if self.dice.chance(30) {
            let mut ground = locked(&self.ground);
            ground.away = !ground.away;
            return;
        }
        if self.messages.is_empty() {
            return;
        }
        let at = self.dice.index(self.messages.len());
        if self.messages[at].deliveries > 0 {
            self.messages[at].settled = false;
            self.messages[at].due = self.clock;
        }
    }

    fn at_rest(&mut self) -> Result<(), Broken> {
        for at in 0..self.messages.len() {
            if !self.messages[at].settled {
                return Err(broken("comes-to-rest", format!("message {at} was never settled")));
            }
            self.changes_nothing(at)?;
        }
        let parked = waited(self.store.undeliverable(100))?;
        let unsent: Vec<String> =
            waited(self.store.outbox(Timestamp::MAX, 100))?.into_iter().map(|entry| entry.id).collect();
        for date in DATES {
            let key = PartitionKey::new("nba", date);
            let journal = self.journal(&key)?;
            self.seen.decisions += journal.len() as u64;
            let mut all = BTreeSet::new();
            for id in decided(&journal) {
                if !all.insert(id.clone()) {
                    return Err(broken("same-decision-same-id", format!("{id} was decided twice")));
                }
                let given_up = parked.iter().any(|(entry, _)| entry.id == id.as_str());
                if !self.known.contains(id) && !given_up {
                    let waits = unsent.iter().any(|waits| waits == id.as_str());
                    return Err(broken("decided-gets-published", format!("{id} was never taken; waits: {waits}")));
                }
            }
            self.replays(&key, &journal)?;
            let partition = waited(self.store.load(&key))?.partition;
            for node in ["t1", "t2", "t3", "last"] {
                let facts = partition.node(&NodeId::new(node));
                let is_over = matches!(facts.state, State::Succeeded { .. } | State::Exhausted { .. });
                let inputs = ["t1", "t2", "t3"]
                    .iter()
                    .any(|input| matches!(partition.node(&NodeId::new(*input)).state, State::Exhausted { .. }));
                let waits = node == "last" && inputs;
                if !is_over && !waits {
                    return Err(broken("never-wedged", format!("{key} {node} is left {}", facts.state.name())));
                }
            }
        }
        for replica in self.replicas.iter().flatten() {
            let refused = replica.engine.counts.violations.load(std::sync::atomic::Ordering::Relaxed);
            if refused > 0 {
                return Err(broken("no-decision-is-refused", format!("{refused} were")));
            }
        }
        Ok(())
    }

    /// Folding the journal gives the partition.
    fn replays(&self, key: &PartitionKey, journal: &[JournalEntry]) -> Result<(), Broken> {
        let Some(replica) = self.replicas.iter().flatten().next() else { return Ok(()) };
        let Some(graph) = replica.engine.graph(&key.pipeline) else { return Ok(()) };
        let mut partition = Partition::new(key.clone());
        for entry in journal {
            let decision = decide(graph, &partition, &entry.events, entry.now);
            let decision = decision.map_err(|violation| broken(violation.slug, violation.text))?;
            if decision.effects != entry.effects {
                return Err(broken("replay-equals-state", format!("{key}@{} has other effects", entry.version)));
            }
            partition = decision.next;
        }
        if partition == *waited(self.store.load(key))?.partition {
            return Ok(());
        }
        Err(broken("replay-equals-state", format!("the journal of {key} folds to another partition")))
    }
}

impl Worker {
    fn fails(&self) -> bool {
        (65..78).contains(&self.fate) || self.fate >= 97
    }

    fn hangs(&self) -> bool {
        (78..88).contains(&self.fate)
    }

    fn is_lost(&self) -> bool {
        (88..93).contains(&self.fate)
    }

    /// Ends after it has been given up.
    fn is_late(&self) -> bool {
        self.fate >= 93 && self.begun && !self.over
    }

    fn is_able(&self, clock: i64) -> bool {
        let waits = self.is_lost() || self.begun && self.hangs() || self.is_late() && clock < self.last + 1_500;
        !self.over && !waits
    }
}

fn decided(journal: &[JournalEntry]) -> impl Iterator<Item = &DispatchId> {
    journal.iter().flat_map(|entry| &entry.effects).filter_map(|effect| match effect {
        Effect::Dispatch(dispatch) => Some(&dispatch.id),
        _ => None,
    })
}

/// One step. Whoever plays gives way by its dice, and not after so many steps as a runtime's task does.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    std::pin::pin!(tokio::task::unconstrained(future)).poll(&mut Context::from_waker(Waker::noop()))
}

/// What the store itself says, which nothing disturbs and which answers at once.
fn waited<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Broken> {
    match poll_once(std::pin::pin!(call)) {
        Poll::Ready(Ok(answer)) => Ok(answer),
        Poll::Ready(Err(error)) => Err(broken("the-store-answers", error.to_string())),
        Poll::Pending => Err(broken("the-store-answers", "it does not answer at once".to_owned())),
    }
}
