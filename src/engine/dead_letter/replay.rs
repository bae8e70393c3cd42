//! Replays letters: each is recorded, sent and noted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::look::Desk;
use super::plan::Candidate;
use super::{Error, Order, Outcome, Progress, TRIES_MAX, Verdict};
use crate::crash::{self, Place};
use crate::domain::dead_letter::{Again, Kind, Letter, REPLAY_WITHIN, Stage};
use crate::domain::event::Event;
use crate::domain::id::{LetterId, PartitionKey};
use crate::engine::Engine;
use crate::engine::intake::BATCH_MAX;
use crate::port::{Bus, BusError, Parting, Store, StoreError};
use crate::wire::dispatch::Outgoing;
use crate::wire::letter;

/// Letters replayed side by side; what shares a commit shares its wait for the disk.
const CHUNK: usize = 100;
/// Letters whose messages are under way at once where sending and keeping are not one.
const SIDE_BY_SIDE: usize = 16;

impl Engine {
    /// Replays what is meant and still wanted, paced, telling how far it is. Killed anywhere and begun anew, it goes on.
    ///
    /// # Errors
    /// If the store cannot be read, or a letter that is named is not there. What has been done stays done.
    pub async fn replay(&self, order: &Order, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<Vec<Outcome>, Error> {
        if self.role().await?.shadow {
            return Err(Error::Shadow);
        }
        let meant = self.meant(&mut Desk::new(self), order).await?;
        let mut progress = Progress { of: meant.len(), ..Progress::default() };
        let chosen: BTreeMap<LetterId, usize> = meant.iter().cloned().collect();
        let again = |id: LetterId| (id.clone(), chosen.get(&id).copied().unwrap_or_default());
        let (mut outcomes, mut later) = (Vec::with_capacity(meant.len()), Vec::new());
        let mut topics = BTreeSet::new();
        tell(progress);
        for chunk in meant.chunks(chunk_of(order.per_second)) {
            let began = tokio::time::Instant::now();
            let done = self.replay_chunk(chunk, order, &mut topics).await?;
            let sent = done.iter().filter(|outcome| outcome.verdict == Verdict::Replayed).count();
            for outcome in done {
                progress.replayed += usize::from(outcome.verdict == Verdict::Replayed);
                progress.failed += usize::from(matches!(outcome.verdict, Verdict::Failed(_)));
                match outcome.verdict {
                    Verdict::UnderWay(_) => later.push(again(outcome.id)),
                    _ => outcomes.push(outcome),
                }
            }
            progress.done = outcomes.len();
            tell(progress);
            if order.per_second > 0 {
                let needs = Duration::from_secs_f64(sent as f64 / f64::from(order.per_second));
                tokio::time::sleep_until(began + needs).await;
            }
        }
        // Whoever records a replay and dies leaves it to the next, after a while.
        let patience = tokio::time::Instant::now() + Duration::try_from(REPLAY_WITHIN).unwrap_or_default() * 2;
        while !later.is_empty() && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for outcome in self.replay_chunk(&std::mem::take(&mut later), order, &mut topics).await? {
                match outcome.verdict {
                    Verdict::UnderWay(_) => later.push(again(outcome.id)),
                    _ => outcomes.push(outcome),
                }
            }
            progress.done = outcomes.len();
            progress.replayed = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Replayed).count();
            tell(progress);
        }
        if !later.is_empty() {
            let rest = self.replay_chunk(&later, order, &mut topics).await?;
            outcomes.extend(rest);
        }
        self.end_alerts(&topics).await?;
        Ok(outcomes)
    }

    async fn replay_chunk(
        &self,
        chunk: &[(LetterId, usize)],
        order: &Order,
        topics: &mut BTreeSet<String>,
    ) -> Result<Vec<Outcome>, Error> {
        let now = self.clock.now();
        let mut desk = Desk::new(self);
        let (mut outcomes, mut ready) = (Vec::with_capacity(chunk.len()), Vec::new());
        for (id, replays) in chunk {
            let Some((letter, version)) = self.store.letter(id).await? else {
                return Err(Error::NoSuch(id.to_string()));
            };
            topics.extend(letter.topic.clone());
            if letter.left_over(now).is_some() {
                let (about, topic) = (letter.about.clone(), letter.topic.clone());
                let execution = letter.replays.last().map(|replay| replay.execution.clone());
                let verdict = self.carry_on(letter, version).await?;
                outcomes.push(Outcome { id: id.clone(), about, topic, execution, verdict });
                continue;
            }
            let candidate = self.candidate(&mut desk, id, order).await?;
            // Of two who chose it at the same time one replays it, whatever both insist on.
            let has_been = |at| letter.replays.last().is_some_and(|replay| replay.sent_at.is_some() && replay.at >= at);
            let is_done = letter.replays.len() > *replays || order.asked_at.is_some_and(has_been);
            if is_done && letter.stage() != Stage::Asked {
                let verdict = Verdict::Unneeded("somebody else has replayed it meanwhile".to_owned());
                outcomes.push(Outcome { verdict, ..candidate.outcome() });
                continue;
            }
            match candidate.verdict {
                Verdict::Ready => ready.push(candidate),
                _ => outcomes.push(candidate.outcome()),
            }
        }
        for candidate in &mut ready {
            self.record_correction(candidate).await?;
            let message = candidate.message.iter().flatten().next();
            let digest = message.map(|message| letter::digest(&message.body)).unwrap_or_default();
            let again = if order.force { Again::Allowed } else { Again::Refused };
            let words = (order.actor.as_str(), order.reason.as_deref());
            if let Err(refusal) = candidate.letter.ask(again, words, digest, now) {
                candidate.verdict = Verdict::Refused(refusal.to_string());
            }
        }
        let (anew, mut messages): (Vec<Candidate>, Vec<Candidate>) =
            ready.into_iter().partition(|candidate| candidate.letter.kind == Kind::Undeliverable);
        for candidate in anew {
            outcomes.push(self.decide_anew(candidate).await?);
        }
        if !self.bus.reaches_us() {
            self.take_in(&mut messages).await;
        }
        outcomes.extend(self.part_with(messages, now).await?);
        Ok(outcomes)
    }

    /// What a letter is to say from now on is kept before it is replayed.
    async fn record_correction(&self, candidate: &mut Candidate) -> Result<(), Error> {
        if let Some(content) = candidate.corrected.take() {
            if !self.store.keep_letter(&candidate.letter, candidate.expected, Some(content)).await? {
                return Err(Error::Contended(candidate.letter.id.clone()));
            }
            candidate.expected += 1;
        }
        Ok(())
    }

    /// Tells the dates what messages say that do not come to tipoff by themselves. Told twice, it is told once.
    async fn take_in(&self, candidates: &mut [Candidate]) {
        let mut told: BTreeMap<PartitionKey, Vec<usize>> = BTreeMap::new();
        for (index, candidate) in candidates.iter().enumerate() {
            if let (Verdict::Ready, Some((key, _))) = (&candidate.verdict, &candidate.takes) {
                told.entry(key.clone()).or_default().push(index);
            }
        }
        for (key, indices) in told {
            for batch in indices.chunks(BATCH_MAX / 2) {
                let events: Vec<Event> = batch
                    .iter()
                    .filter_map(|index| candidates[*index].takes.as_ref())
                    .flat_map(|(_, events)| events.iter().cloned())
                    .collect();
                if let Err(error) = self.step(&key, &events).await {
                    for index in batch {
                        candidates[*index].verdict = Verdict::Failed(format!("tell {key}: {error}"));
                    }
                }
            }
        }
    }

    /// Sends the messages of replays that were asked for, each once.
    async fn part_with(&self, candidates: Vec<Candidate>, now: Timestamp) -> Result<Vec<Outcome>, Error> {
        let (ready, mut others): (Vec<Candidate>, Vec<Candidate>) =
            candidates.into_iter().partition(|candidate| candidate.verdict == Verdict::Ready);
        let mut partings = Vec::with_capacity(ready.len());
        for candidate in &ready {
            if let Ok(Some(message)) = &candidate.message {
                let mut letter = candidate.letter.clone();
                letter.sent(now);
                // Where our own broker brings us nothing, what we could not read comes back all the same.
                if candidate.is_unreadable && !self.bus.reaches_us() {
                    letter.returned(now);
                }
                partings.push(Parting { letter, expected: candidate.expected, message: message.clone() });
            }
        }
        let mut outcomes = Vec::with_capacity(ready.len());
        if partings.is_empty() {
            outcomes.extend(others.iter().map(Candidate::outcome));
            return Ok(outcomes);
        }
        match self.bus.part_with(&partings, now).await {
            Ok(Some(parted)) => {
                crash::at(Place::ReplayUnanswered);
                for (mut candidate, parted) in ready.into_iter().zip(parted) {
                    candidate.verdict = if parted { Verdict::Replayed } else { faster() };
                    others.push(candidate);
                }
            }
            Ok(None) => {
                let mut under_way = JoinSet::new();
                for candidate in ready {
                    // What is under way when we die is what may be sent twice, so that is not much.
                    if under_way.len() >= SIDE_BY_SIDE {
                        others.extend(under_way.join_next().await.and_then(Result::ok));
                    }
                    let (store, bus, clock) = (self.store.clone(), self.bus.clone(), self.clock.clone());
                    under_way.spawn(async move {
                        let mut candidate = candidate;
                        candidate.verdict = send(&*store, &*bus, &mut candidate, clock.now()).await;
                        candidate
                    });
                }
                while let Some(sent) = under_way.join_next().await {
                    // One that is lost in a panic is left over, and carried on later.
                    others.extend(sent.ok());
                }
            }
            Err(error) => {
                for mut candidate in ready {
                    candidate.verdict = Verdict::Failed(error.to_string());
                    others.push(candidate);
                }
            }
        }
        outcomes.extend(others.iter().map(Candidate::outcome));
        Ok(outcomes)
    }

    /// The replay of a dispatch: recorded, decided anew, noted. The date takes a request of one name once.
    async fn decide_anew(&self, mut candidate: Candidate) -> Result<Outcome, Error> {
        if candidate.verdict == Verdict::Ready {
            candidate.verdict = match &candidate.takes {
                Some((key, events)) if self.store.keep_letter(&candidate.letter, candidate.expected, None).await? => {
                    match self.step(key, events).await {
                        Ok(_) => note(&*self.store, &candidate.letter.id, self.clock.now()).await,
                        Err(error) => Verdict::Failed(error.to_string()),
                    }
                }
                Some(_) => faster(),
                None => Verdict::Failed("nothing could be asked for".to_owned()),
            };
        }
        Ok(candidate.outcome())
    }

    /// Sends a replay whose recorder has died, under the same execution id.
    pub(super) async fn carry_on(&self, mut letter: Letter, version: u64) -> Result<Verdict, StoreError> {
        let now = self.clock.now();
        if !letter.take_over(now) || !self.store.keep_letter(&letter, version, None).await? {
            return Ok(faster());
        }
        let Some(replay) = letter.replays.last() else { return Ok(faster()) };
        if letter.kind == Kind::Undeliverable {
            let asked = self.asked_anew(&letter.about, &replay.execution, (&replay.actor, replay.reason.as_deref()));
            let Some((key, events)) = asked else { return Ok(Verdict::Failed("it is no dispatch".to_owned())) };
            return Ok(match self.step(&key, &events).await {
                Ok(_) => note(&*self.store, &letter.id, now).await,
                Err(error) => Verdict::Failed(error.to_string()),
            });
        }
        let content = self.store.letter_content(&letter.id, replay.version).await?.unwrap_or_default();
        let topology = &self.declarations.topology;
        Ok(match letter::replay(topology, letter.topic.as_deref(), &content, &replay.execution) {
            Ok(message) => sent(&*self.store, &*self.bus, &letter.id, &message, now).await,
            Err(error) => Verdict::Failed(error.to_string()),
        })
    }
}

/// Records a replay, sends its message, and notes that.
async fn send(store: &dyn Store, bus: &dyn Bus, candidate: &mut Candidate, now: Timestamp) -> Verdict {
    let Ok(Some(message)) = &candidate.message else { return Verdict::Failed("it has no message".to_owned()) };
    candidate.letter.begins(now);
    match store.keep_letter(&candidate.letter, candidate.expected, None).await {
        Ok(true) => sent(store, bus, &candidate.letter.id, message, now).await,
        Ok(false) => faster(),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

/// Sends the message of a replay that was recorded, and notes that. What is not known to have left is sent again later.
async fn sent(store: &dyn Store, bus: &dyn Bus, id: &LetterId, message: &Outgoing, now: Timestamp) -> Verdict {
    match bus.send(message, now).await {
        Ok(()) => note(store, id, now).await,
        Err(BusError::Refused(why)) => {
            if let Ok(Some((mut letter, version))) = store.letter(id).await {
                letter.withdraw();
                // Where that fails it is tried once more, and refused once more.
                let _ = store.keep_letter(&letter, version, None).await;
            }
            Verdict::Failed(format!("the broker refuses it: {why}"))
        }
        Err(error @ (BusError::Unavailable(_) | BusError::Dead(_))) => {
            Verdict::Failed(format!("{error}; it is tried again by itself"))
        }
    }
}

/// Notes that the message of a replay has left.
async fn note(store: &dyn Store, id: &LetterId, now: Timestamp) -> Verdict {
    for _ in 0..TRIES_MAX {
        match store.letter(id).await {
            Ok(Some((mut letter, version))) => {
                letter.sent(now);
                match store.keep_letter(&letter, version, None).await {
                    Ok(true) => return Verdict::Replayed,
                    Ok(false) => {}
                    Err(error) => return unnoted(&error),
                }
            }
            Ok(None) => return Verdict::Replayed,
            Err(error) => return unnoted(&error),
        }
    }
    Verdict::Failed("it was sent, and others kept changing its letter".to_owned())
}

fn unnoted(error: &StoreError) -> Verdict {
    Verdict::Failed(format!("it was sent, which could not be noted: {error}"))
}

fn faster() -> Verdict {
    Verdict::UnderWay("somebody else was faster".to_owned())
}

/// Letters of one round, so that no second sees more than it may.
fn chunk_of(per_second: u32) -> usize {
    match per_second {
        0 => CHUNK,
        some => CHUNK.min(usize::try_from(some).unwrap_or(CHUNK)),
    }
}
