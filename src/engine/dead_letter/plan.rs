//! What a replay would come to, told before anything is done; and what a letter is to say instead.

use std::collections::BTreeMap;

use super::look::Desk;
use super::{Consequence, Error, OURSELVES, Order, Outcome, Plan, TRIES_MAX, Verdict};
use crate::domain::dead_letter::{About, Again, Kind, Letter, Refusal, Says, Standing, Version};
use crate::domain::decide::decide;
use crate::domain::effect::Effect;
use crate::domain::event::{Command, Event, Request};
use crate::domain::id::{LetterId, PartitionKey, RequestId, RunId};
use crate::engine::Engine;
use crate::engine::intake::{BATCH_MAX, routes};
use crate::engine::step::moved;
use crate::port::StoreError;
use crate::wire::dispatch::{Outgoing, Target};
use crate::wire::envelope::Content;
use crate::wire::inbound::{Decoded, Delivery, decode};
use crate::wire::letter;

/// A letter that is looked at with a view to its replay.
pub(super) struct Candidate {
    pub(super) letter: Letter,
    pub(super) expected: u64,
    pub(super) about: About,
    /// The execution id of its replay.
    pub(super) execution: RunId,
    /// Its message, or why there is none; nothing for what is decided anew.
    pub(super) message: Result<Option<Outgoing>, String>,
    /// What tipoff itself takes the message for.
    pub(super) takes: Option<(PartitionKey, Vec<Event>)>,
    /// Whether tipoff would park it.
    pub(super) is_unreadable: bool,
    /// What it is to say from now on, where that is new.
    pub(super) corrected: Option<Content>,
    pub(super) verdict: Verdict,
}

impl Candidate {
    pub(super) fn outcome(&self) -> Outcome {
        let is_its_own = matches!(self.verdict, Verdict::Ready | Verdict::Replayed);
        let execution = is_its_own.then(|| self.execution.clone());
        Outcome {
            id: self.letter.id.clone(),
            about: self.about.clone(),
            topic: self.letter.topic.clone(),
            execution,
            verdict: self.verdict.clone(),
        }
    }
}

impl Engine {
    /// Corrects a letter that waits: it says this from now on, and what it said before is kept.
    ///
    /// # Errors
    /// If it is not waiting, or what it is to say could not be replayed.
    pub async fn correct(&self, id: &str, data: Vec<u8>, (actor, reason): (&str, &str)) -> Result<Letter, Error> {
        for _ in 0..TRIES_MAX {
            let (letter, version) = self.named(id).await?;
            // A call that is made again, since its answer was lost, corrects nothing twice.
            let latest = letter.versions.last().filter(|latest| latest.actor.as_deref() == Some(actor));
            if latest.is_some_and(|latest| latest.reason.as_deref() == Some(reason))
                && self.store.letter_content(&letter.id, letter.latest()).await?.is_some_and(|(said, _)| said == data)
            {
                return Ok(letter);
            }
            let (letter, content) = self.corrected(letter, data.clone(), (actor, Some(reason))).await?;
            if self.store.keep_letter(&letter, version, Some(content)).await? {
                return Ok(letter);
            }
        }
        Err(Error::Contended(LetterId::from(id)))
    }

    async fn corrected(
        &self,
        mut letter: Letter,
        data: Vec<u8>,
        (actor, reason): (&str, Option<&str>),
    ) -> Result<(Letter, Content), Error> {
        let id = letter.id.clone();
        if letter.kind == Kind::Undeliverable {
            let why = "an effect is not corrected, but decided anew: replay it, or mend what it is declared as";
            return Err(Error::Wrong(id, why.to_owned()));
        }
        if data.len() > letter::BODY_MAX {
            return Err(Error::Wrong(id, format!("a correction has at most {} bytes", letter::BODY_MAX)));
        }
        let attributes = match self.store.letter_content(&letter.id, 0).await? {
            Some((_, attributes)) => attributes,
            None => BTreeMap::new(),
        };
        let version = Version {
            at: self.clock.now(),
            actor: Some(actor.to_owned()),
            reason: reason.map(str::to_owned),
            size: data.len(),
            is_whole: true,
        };
        letter.correct(version).map_err(|refusal| Error::Refused(id.clone(), refusal))?;
        let content = (data, attributes);
        letter::replay(&self.declarations.topology, letter.topic.as_deref(), &content, &letter.next_execution())
            .map_err(|error| Error::Wrong(id, error.to_string()))?;
        letter.about = self.message(&letter, &content).about(&routes(self));
        Ok((letter, content))
    }

    /// What a replay would come to. Nothing is changed.
    ///
    /// # Errors
    /// If the store cannot be read, or a letter that is named is not there.
    pub async fn plan_replay(&self, order: &Order) -> Result<Plan, Error> {
        let mut desk = Desk::new(self);
        let meant = self.meant(&mut desk, order).await?;
        let mut candidates = Vec::with_capacity(meant.len());
        for (id, _) in meant {
            candidates.push(self.candidate(&mut desk, &id, order).await?);
        }
        let mut reaches: BTreeMap<String, usize> = BTreeMap::new();
        let mut told: BTreeMap<PartitionKey, Vec<Event>> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| candidate.verdict == Verdict::Ready) {
            if let Ok(Some(message)) = &candidate.message {
                for consumer in self.consumers(&message.target) {
                    *reaches.entry(consumer).or_default() += 1;
                }
            }
            if let Some((key, events)) = &candidate.takes {
                told.entry(key.clone()).or_default().extend(events.iter().cloned());
            }
        }
        let mut consequences = Vec::with_capacity(told.len());
        for (key, events) in told {
            consequences.push(self.consequence(&mut desk, key, &events).await?);
        }
        let letters = candidates.iter().map(Candidate::outcome).collect();
        Ok(Plan { letters, reaches, consequences })
    }

    /// What events would do to a date, by deciding on a copy of it.
    async fn consequence(
        &self,
        desk: &mut Desk<'_>,
        key: PartitionKey,
        events: &[Event],
    ) -> Result<Consequence, StoreError> {
        let stored = desk.partition(&key).await?.clone();
        let mut found = Consequence {
            partition: key.clone(),
            events: events.len(),
            moved: Vec::new(),
            dispatches: Vec::new(),
            unknown: None,
        };
        let Some(graph) = self.graph(&key.pipeline) else {
            found.unknown = Some(format!("there is no pipeline {}", key.pipeline));
            return Ok(found);
        };
        // What would happen without the replay is no consequence of it.
        let before = match decide(graph, &stored, &[Event::Tick], self.now()) {
            Ok(decision) => decision.next,
            Err(violation) => {
                found.unknown = Some(violation.to_string());
                return Ok(found);
            }
        };
        let mut partition = before.clone();
        for batch in events.chunks(BATCH_MAX) {
            match decide(graph, &partition, batch, self.now()) {
                Ok(decision) => {
                    let dispatches = decision.effects.iter().filter_map(|effect| match effect {
                        Effect::Dispatch(dispatch) => Some(dispatch.id.clone()),
                        _ => None,
                    });
                    found.dispatches.extend(dispatches);
                    partition = decision.next;
                }
                Err(violation) => {
                    found.unknown = Some(violation.to_string());
                    return Ok(found);
                }
            }
        }
        found.moved = moved(&before, &partition);
        Ok(found)
    }

    fn consumers(&self, target: &Target) -> Vec<String> {
        let Target::Topic(topic) = target else { return Vec::new() };
        let declared = self.declarations.topology.topic(topic).into_iter().flat_map(|topic| topic.subscriptions());
        declared.map(|(_, subscription)| subscription.consumer.clone()).collect()
    }

    /// The letters of an order, the oldest first, each with the number of replays that it has had.
    pub(super) async fn meant(&self, desk: &mut Desk<'_>, order: &Order) -> Result<Vec<(LetterId, usize)>, Error> {
        let mut meant = Vec::new();
        for (letter, about) in self.selected(desk, &order.selection, None).await? {
            if let Some(wanted) = &order.selection.standing
                && desk.standing(&letter, &about).await?.as_str() != wanted
            {
                continue;
            }
            meant.push((letter.id, letter.replays.len()));
        }
        meant.reverse();
        meant.truncate(order.limit.unwrap_or(usize::MAX));
        Ok(meant)
    }

    /// The letters of an order, the oldest first.
    ///
    /// # Errors
    /// If the store cannot be read, or one that is named is not there.
    pub async fn chosen(&self, order: &Order) -> Result<Vec<LetterId>, Error> {
        Ok(self.meant(&mut Desk::new(self), order).await?.into_iter().map(|(id, _)| id).collect())
    }

    /// Looks at a letter as it stands now.
    pub(super) async fn candidate(
        &self,
        desk: &mut Desk<'_>,
        id: &LetterId,
        order: &Order,
    ) -> Result<Candidate, Error> {
        let (mut letter, expected) = self.store.letter(id).await?.ok_or_else(|| Error::NoSuch(id.to_string()))?;
        let mut corrected = None;
        if let Some(data) = &order.with {
            let words = (order.actor.as_str(), order.reason.as_deref());
            let (with, content) = self.corrected(letter, data.clone(), words).await?;
            letter = with;
            corrected = Some(content);
        }
        let content = match &corrected {
            Some(content) => content.clone(),
            None => self.store.letter_content(&letter.id, letter.latest()).await?.unwrap_or_default(),
        };
        // Names may have been declared since it came.
        let about = match letter.kind {
            Kind::Undeliverable => letter.about.clone(),
            Kind::Dead | Kind::Parked => self.message(&letter, &content).about(&routes(self)),
        };
        let execution = letter.next_execution();
        let (message, takes) = match letter.kind {
            Kind::Undeliverable => match self.asked_anew(&about, &execution, (&order.actor, order.reason.as_deref())) {
                Some(asked) => (Ok(None), Some(asked)),
                None => (Err("what is no dispatch is not decided anew; discard it".to_owned()), None),
            },
            Kind::Dead | Kind::Parked => {
                let topology = &self.declarations.topology;
                let message = letter::replay(topology, letter.topic.as_deref(), &content, &execution);
                let takes = message.as_ref().ok().and_then(|message| self.takes(message).ok().flatten());
                (message.map(Some).map_err(|error| error.to_string()), takes)
            }
        };
        let standing = desk.standing(&letter, &about).await?;
        let again = if order.force { Again::Allowed } else { Again::Refused };
        let unreadable = message.iter().flatten().find_map(|message| self.takes(message).err());
        let held = desk.held(&about).await?;
        let verdict = match (letter.may_replay(again), &message, standing) {
            (Ok(()), Ok(_), _) if held.is_some() => Verdict::Refused(held.unwrap_or_default()),
            (Err(Refusal::UnderWay(actor)), ..) => Verdict::UnderWay(format!("a replay by {actor} is under way")),
            (Err(refusal), ..) => Verdict::Refused(refusal.to_string()),
            (Ok(()), Err(why), _) => Verdict::Refused(why.clone()),
            (Ok(()), Ok(_), _) if order.force => Verdict::Ready,
            (Ok(()), Ok(_), Standing::Unneeded(why)) => Verdict::Unneeded(why),
            (Ok(()), Ok(_), Standing::Unclear(why)) => match &unreadable {
                Some(reason) => Verdict::Unclear(format!("{why}; tipoff would park it again: {reason}")),
                None => Verdict::Unclear(why),
            },
            (Ok(()), Ok(_), Standing::Wanted(why)) => match &unreadable {
                Some(reason) if letter.kind == Kind::Parked => {
                    Verdict::Unclear(format!("{why}; tipoff would park it again: {reason}"))
                }
                _ => Verdict::Ready,
            },
        };
        let is_unreadable = unreadable.is_some();
        Ok(Candidate { letter, expected, about, execution, message, takes, is_unreadable, corrected, verdict })
    }

    /// What tipoff takes a message for that is about to leave; an error is why it would be parked.
    fn takes(&self, message: &Outgoing) -> Result<Option<(PartitionKey, Vec<Event>)>, String> {
        let Target::Topic(topic) = &message.target else { return Ok(None) };
        let declared = self.declarations.topology.topic(topic).into_iter().flat_map(|topic| topic.subscriptions());
        if !declared.into_iter().any(|(_, subscription)| subscription.consumer == OURSELVES) {
            return Ok(None);
        }
        let delivery = Delivery {
            topic: topic.clone(),
            message_id: message.id.clone(),
            published: self.clock.now(),
            attributes: message.attributes.clone(),
            data: message.body.clone(),
        };
        match decode(&routes(self), &delivery) {
            Decoded::Events { key, events } => Ok(Some((key, events))),
            Decoded::Parked { reason } => Err(reason.to_string()),
            Decoded::Probe | Decoded::Ignored { .. } => Ok(None),
        }
    }

    /// The replay of a dispatch that could not be delivered: its node is asked for anew, as an operator would. Nothing for
    /// what is no dispatch.
    pub(super) fn asked_anew(
        &self,
        about: &About,
        execution: &RunId,
        (actor, reason): (&str, Option<&str>),
    ) -> Option<(PartitionKey, Vec<Event>)> {
        let About { pipeline: Some(pipeline), date: Some(date), node: Some(node), says: Says::Asks, .. } = about else {
            return None;
        };
        let request = Request {
            id: RequestId::new(execution.to_string()),
            actor: actor.into(),
            reason: reason.unwrap_or("its dispatch could not be delivered").into(),
            at: self.clock.now(),
            command: Command::Retry { node: node.clone() },
        };
        Some((PartitionKey { pipeline: pipeline.clone(), date: *date }, vec![Event::Requested(request)]))
    }
}
