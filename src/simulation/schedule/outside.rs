//! Everybody else: the broker, who works on a dispatch, who publishes unasked, the operator, the warehouse.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::replica::Loaded;
use super::{Body, Kept, LIAR, Letter, World, at};
use crate::domain::coverage::Coverage;
use crate::domain::effect::Dispatch;
use crate::domain::event::{Command, Completed, Event, Heartbeat, Observed, Outcome, Pulse, Request};
use crate::domain::evidence::Extent;
use crate::domain::graph::Kind;
use crate::domain::id::{DispatchId, NodeId, RunId};
use crate::domain::time::after;
use crate::simulation::law::{self, Broken};
use crate::simulation::planted::{Bug, CLOCK_OFF};

/// Somebody who was sent a dispatch.
pub(super) struct Worker {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) run: RunId,
    pub(super) fate: Fate,
    pub(super) begun: bool,
    /// When it last showed a sign of life, in seconds.
    pub(super) last: i64,
    pub(super) over: bool,
    pub(super) echoes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Succeeds,
    Fails,
    /// Begins, and is never heard of again.
    Hangs,
    /// Is never heard of.
    Lost,
    /// Is given up, and succeeds or fails after all.
    Late(bool),
}

impl World<'_> {
    /// The broker takes a dispatch; its consumer may get it twice.
    pub(super) fn accept(&mut self, dispatch: &Arc<Dispatch>) -> Result<(), Broken> {
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

    pub(super) fn name(&mut self) -> RunId {
        self.names += 1;
        RunId::new(format!("run-{}", self.names))
    }

    /// The warehouse answers: what some completion said is there, most of the time.
    pub(super) fn observe(&mut self, index: usize, node: NodeId) -> Result<(), Broken> {
        let there = self.said.iter().any(|(of, _, _, success)| *of == node && *success);
        let coverage = match (there, self.stormy && self.dice.chance(10)) {
            (_, true) => None,
            (true, false) => Coverage::new(10, 10),
            (false, false) => Coverage::new(0, 10),
        };
        let observed =
            Observed { node, coverage, not_kept: false, units: BTreeMap::new(), at: self.now(index).at, actor: None };
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
    pub(super) fn work(&mut self) {
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

    pub(super) fn beat(&mut self, node: NodeId, run: RunId) {
        self.tell(|| format!("{node} {run} beats"));
        let mut published = at(self.clock);
        if self.bug == Some(Bug::ProcessorClock) {
            published = after(published, CLOCK_OFF);
        }
        let heartbeat = Heartbeat { node, run, pulse: Pulse::Running, progress: (1, 5), published };
        self.publish(Body::Event(Event::Heartbeat(heartbeat)));
    }

    pub(super) fn complete(
        &mut self,
        node: &NodeId,
        run: Option<RunId>,
        outcome: Outcome,
        dispatch: Option<DispatchId>,
    ) {
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

    pub(super) fn publish(&mut self, body: Body) {
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
    pub(super) fn produce(&mut self) {
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

    /// The broker delivers what was settled once more, or forgets who has something.
    pub(super) fn disturb(&mut self) {
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

    pub(super) fn operate(&mut self) {
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

    pub(super) fn request(&mut self, command: Command) {
        self.tell(|| format!("an operator asks: {command:?}"));
        let id = self.name();
        let (actor, reason) = ("operator".into(), "drawn".into());
        let request = Request { id: id.as_str().into(), actor, reason, at: at(self.clock), command };
        self.publish(Body::Event(Event::Requested(request)));
    }

    /// Somebody answers an attempt that nobody has decided.
    pub(super) fn lie(&mut self) {
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
}
