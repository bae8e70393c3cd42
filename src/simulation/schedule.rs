//! One schedule: a broker, a store, replicas and workers that do one small thing at a time, in an order drawn from a seed.
//!
//! What decides is the real `decide`; what a replica does around it (receive, load, commit, acknowledge, read the outbox,
//! publish, mark) is done here as the engine does it, one step at a time, so that anything may come between two steps.
//! First everything may go wrong: messages come late, twice and in any order, leases expire, the store refuses, or applies
//! and does not say so, replicas die and lag. Then nothing does any more, and everything has to come to rest.

mod outside;
mod replica;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use self::outside::{Fate, Worker};
use self::replica::{Relay, Replica, Stage};
use super::Seen;
use super::dice::Dice;
use super::law::{self, Broken, broken};
use super::planted::{Bent, Bug};
use crate::domain::effect::Dispatch;
use crate::domain::event::{Command, Event, Outcome};
use crate::domain::evidence::Extent;
use crate::domain::graph::{Graph, Kind};
use crate::domain::id::{DispatchId, NodeId, PartitionKey, RunId};
use crate::domain::partition::Partition;
use crate::domain::time::Now;

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
    for node in graph.order.iter().filter_map(|id| graph.node(id)) {
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

    /// Time passes.
    fn pass(&mut self) {
        let by = match self.dice.roll(10) {
            0..5 => 1 + self.dice.roll(20),
            5..8 => 20 + self.dice.roll(280),
            _ => 300 + self.dice.roll(900),
        };
        self.clock += i64::try_from(by).unwrap_or(1);
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
