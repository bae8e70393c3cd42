//! What a replica does around `decide`, as the engine does it, one step at a time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{AGAIN, Body, Entry, FUTURE_MAX, Kept, LEASE, Outgoing, SKEW, World, at, second};
use crate::domain::decide::{Decision, decide};
use crate::domain::effect::Effect;
use crate::domain::event::{Completed, Event, Outcome};
use crate::domain::partition::{Partition, Recorded};
use crate::domain::time::Now;
use crate::engine::hearing::Hearing;
use crate::simulation::law::{self, Broken, broken};
use crate::simulation::planted::{Bug, bend, twist};

/// What a replica has loaded.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) partition: Arc<Partition>,
    pub(super) version: u64,
    pub(super) wake_at: Option<Timestamp>,
}

pub(super) enum Work {
    Letters(Vec<usize>),
    Tick,
}

pub(super) enum Stage {
    Idle,
    Received(Work),
    Loaded(Work, Loaded),
    Committed(Work, Vec<Recorded>),
}

pub(super) enum Relay {
    Idle,
    Read(usize),
    Published(usize),
}

pub(super) struct Replica {
    /// Down until somebody starts it.
    pub(super) up: bool,
    /// So many seconds ahead of the world.
    pub(super) skew: i64,
    pub(super) hearing: Hearing,
    pub(super) intake: Stage,
    pub(super) sweep: Stage,
    pub(super) relay: Relay,
}

/// What came of a commit.
pub(super) enum Commit {
    Stored,
    Conflict,
    /// It may be stored or not.
    Unknown,
}

impl World<'_> {
    /// One step of a replica's way from a message to its acknowledgement.
    pub(super) fn intake(&mut self, index: usize) -> Result<(), Broken> {
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

    pub(super) fn receive(&mut self, index: usize) {
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

    pub(super) fn load(&mut self, index: usize, work: Work, sweeps: bool) {
        if self.stormy && self.dice.chance(3) {
            return self.hand_back(index, work);
        }
        let Kept { partition, version, wake_at, .. } = &self.store;
        let loaded = Loaded { partition: Arc::clone(partition), version: *version, wake_at: *wake_at };
        *self.stage(index, sweeps) = Stage::Loaded(work, loaded);
    }

    pub(super) fn stage(&mut self, index: usize, sweeps: bool) -> &mut Stage {
        let replica = &mut self.replicas[index];
        if sweeps { &mut replica.sweep } else { &mut replica.intake }
    }

    pub(super) fn hand_back(&mut self, index: usize, work: Work) {
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

    pub(super) fn events(&self, work: &Work) -> (Vec<Event>, u32) {
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

    pub(in crate::simulation) fn decided(
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

    pub(super) fn commit(&mut self, index: usize, work: Work, loaded: &Loaded, sweeps: bool) -> Result<(), Broken> {
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
    pub(super) fn store(
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

    pub(super) fn settle(&mut self, index: usize, work: Work, recorded: &[Recorded]) -> Result<(), Broken> {
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
    pub(super) fn sweep(&mut self, index: usize) -> Result<(), Broken> {
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
    pub(super) fn relay(&mut self, index: usize) -> Result<(), Broken> {
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

    pub(super) fn started(&mut self) -> Replica {
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
}
