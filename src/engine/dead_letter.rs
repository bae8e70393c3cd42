//! The ledger of dead letters: what nobody could process is kept, looked at, corrected, replayed or discarded.
//!
//! What holds:
//! - a letter is acknowledged only once it is kept, and looking at it changes nothing anywhere;
//! - a replay is recorded under an execution id that is a function of the letter before its message leaves, and noted after.
//!   Where the bus shares the store's commits, both are one; elsewhere a crash between them repeats the message under the
//!   same id;
//! - a message that is given up on again comes back to its letter, so that three replays are three;
//! - of two who replay the same letter, one does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Engine;
use super::intake::{BATCH_MAX, Settlement, routes};
use super::step::moved;
use crate::domain::dead_letter::{
    About, Again, Discarded, Kind, Letter, REPLAY_WITHIN, Reader, Refusal, Says, Stage, Standing, Version, letter_of,
    standing,
};
use crate::domain::decide::decide;
use crate::domain::effect::{Alert, Effect, Severity, Turn};
use crate::domain::event::{Command, Event, Request};
use crate::domain::id::{AlertKey, DispatchId, LetterId, NodeId, PartitionKey, PipelineId, RequestId, RunId};
use crate::domain::partition::Partition;
use crate::domain::time::after;
use crate::port::{
    BusError, Document, LETTERS_MAX, Letters, OutboxEntry, PARKED_MAX, Parked, Parting, StoreError, place,
};
use crate::wire::dispatch::{Outgoing, Target};
use crate::wire::envelope::Content;
use crate::wire::inbound::{Decoded, Delivery, decode};
use crate::wire::letter::{self, Kept, Message};

/// Letters read at once.
const PAGE: usize = 500;
/// Letters replayed side by side; what shares a commit shares its wait for the disk.
const CHUNK: usize = 100;
/// Letters whose messages are under way at once where sending and keeping are not one.
const SIDE_BY_SIDE: usize = 16;
/// Letters of one look whose names are read anew, because they named nothing that was known when they came.
const RESOLVED_MAX: usize = 2_000;
/// Tries to note what has happened already, against others who change the same letter.
const TRIES_MAX: usize = 5;
/// How often the ledger is looked after.
pub const LOOK_AFTER_EVERY: Duration = Duration::from_secs(60);
/// Whose subscriptions are ours.
const OURSELVES: &str = "tipoff";
/// How a message to a topic is told again that has no room in the ledger.
const NO_ROOM: SignedDuration = SignedDuration::from_secs(60);

/// Why something could not be done about letters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such letter.
    #[error("there is no letter `{0}`; `tipoff dlq list` shows those that wait, --all the others")]
    NoSuch(String),
    /// More than one letter begins so.
    #[error("{1} letters begin with `{0}`; write more of it")]
    Several(String, usize),
    /// That is not done with this letter.
    #[error("{0}: {1}")]
    Refused(LetterId, Refusal),
    /// That cannot be done with this letter.
    #[error("{0}: {1}")]
    Wrong(LetterId, String),
    /// Others kept changing the letter.
    #[error("{0} is being changed by others; try again")]
    Contended(LetterId),
}

/// Which letters are meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// These, by their names or the beginnings of them; those that everything else says where there are none.
    pub ids: Vec<String>,
    /// Of this topic.
    pub topic: Option<String>,
    /// About this pipeline.
    pub pipeline: Option<PipelineId>,
    /// About this node.
    pub node: Option<NodeId>,
    /// About this date.
    pub date: Option<Date>,
    /// With this fingerprint of their cause, or the beginning of it.
    pub cause: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Given up on before this instant.
    pub before: Option<Timestamp>,
    /// Given up on at this instant or after.
    pub since: Option<Timestamp>,
    /// Whose work stands so: `wanted`, `unneeded`, `unclear`.
    pub standing: Option<String>,
    /// Also those about which nothing more is to be done.
    pub all: bool,
}

impl Selection {
    /// What can be told from the letter alone.
    fn takes(&self, letter: &Letter) -> bool {
        self.topic.as_ref().is_none_or(|topic| letter.topic.as_ref() == Some(topic))
            && self.cause.as_ref().is_none_or(|cause| letter.cause.fingerprint.starts_with(cause.as_str()))
            && self.kind.is_none_or(|kind| letter.kind == kind)
            && self.before.is_none_or(|before| letter.at < before)
            && self.since.is_none_or(|since| letter.at >= since)
    }

    fn is_about(&self, about: &About) -> bool {
        self.pipeline.as_ref().is_none_or(|pipeline| about.pipeline.as_ref() == Some(pipeline))
            && self.node.as_ref().is_none_or(|node| about.node.as_ref() == Some(node))
            && self.date.is_none_or(|date| about.date == Some(date))
    }
}

/// A letter as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// What is kept of it.
    #[serde(flatten)]
    pub letter: Letter,
    /// Where it stands.
    pub stage: Stage,
    /// Whether what it asked for is still wanted, now.
    #[serde(flatten)]
    pub standing: Standing,
    /// What came of its last replay, where it had one.
    pub came_of_it: Option<String>,
    /// Seconds since it was given up on.
    pub age_s: i64,
    /// Its place among all; the next page begins after the last one's.
    pub place: String,
}

/// Letters that failed alike.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// The fingerprint of the cause.
    pub cause: String,
    /// The cause.
    pub words: String,
    /// How many there are.
    pub count: usize,
    /// Of these, how many are still wanted.
    pub wanted: usize,
    /// How many are not.
    pub unneeded: usize,
    /// When the first was given up on.
    pub oldest: Timestamp,
    /// And the last.
    pub newest: Timestamp,
}

/// The ledger, as far as it was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Board {
    /// How many letters were meant.
    pub count: usize,
    /// By cause, the most frequent first.
    pub groups: Vec<Group>,
    /// Causes that were left out.
    pub groups_left_out: usize,
    /// A page of letters, the latest first.
    pub letters: Vec<Seen>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A letter with everything that its versions say.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The letter.
    pub seen: Seen,
    /// What each version says, in their order.
    pub contents: Vec<Content>,
}

/// What operators want replayed.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Which letters.
    pub selection: Selection,
    /// At most so many, the oldest first.
    pub limit: Option<usize>,
    /// Also what is not wanted any more, or of which that cannot be told.
    pub force: bool,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// What the letter is to say instead, where it is one.
    pub with: Option<Vec<u8>>,
    /// Messages a second at most; 0 is no bound.
    pub per_second: u32,
}

/// What would be done with a letter, or was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "result", content = "why", rename_all = "snake_case")]
pub enum Verdict {
    /// It is to be replayed.
    Ready,
    /// It was replayed.
    Replayed,
    /// Nothing more is done about it.
    Discarded,
    /// What it asked for is not wanted any more.
    Unneeded(String),
    /// Whether it is cannot be told.
    Unclear(String),
    /// It is not replayed, whatever anybody says.
    Refused(String),
    /// Somebody else is at it.
    UnderWay(String),
    /// It was tried; what was recorded is carried on by itself.
    Failed(String),
}

impl Verdict {
    /// The word shown to people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Unneeded(_) => "unneeded",
            Self::Unclear(_) => "unclear",
            Self::Refused(_) => "refused",
            Self::UnderWay(_) => "under way",
            Self::Failed(_) => "failed",
        }
    }

    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Ready | Self::Replayed | Self::Discarded => "",
            Self::Unneeded(why) | Self::Unclear(why) | Self::Refused(why) | Self::UnderWay(why) | Self::Failed(why) => {
                why
            }
        }
    }
}

/// What became, or would become, of one letter.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Which.
    pub id: LetterId,
    /// What it is about.
    pub about: About,
    /// The topic its replay goes to.
    pub topic: Option<String>,
    /// The execution id of its replay.
    pub execution: Option<RunId>,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a replay would do to one date.
#[derive(Clone, Debug, Serialize)]
pub struct Consequence {
    /// Which date.
    pub partition: PartitionKey,
    /// Facts that are told to it.
    pub events: usize,
    /// Nodes that change their state: node, from, to.
    pub moved: Vec<(NodeId, String, String)>,
    /// What is asked for.
    pub dispatches: Vec<DispatchId>,
    /// Why nothing can be said of it.
    pub unknown: Option<String>,
}

/// What a replay would come to.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Each letter that is meant, the oldest first.
    pub letters: Vec<Outcome>,
    /// Messages by the consumer that gets them: everybody who reads the topic.
    pub reaches: BTreeMap<String, usize>,
    /// What follows for the dates.
    pub consequences: Vec<Consequence>,
}

/// How far a replay is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Progress {
    /// Letters looked at.
    pub done: usize,
    /// Of so many.
    pub of: usize,
    /// Replayed.
    pub replayed: usize,
    /// Tried in vain.
    pub failed: usize,
}

/// What the engine remembers of the ledger.
#[derive(Debug, Default)]
pub(super) struct Keeping(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Letters in the ledger, once they have been counted.
    count: Option<usize>,
    /// Topics whose letters people were told of: when last, and what they have not been told since.
    told: BTreeMap<String, (Timestamp, Option<String>)>,
}

/// That what was parked before there was a ledger is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Imported {
    done: bool,
}

impl Document for Imported {
    const NAME: &str = "letters-imported";
}

/// A letter that is looked at with a view to its replay.
struct Candidate {
    letter: Letter,
    expected: u64,
    about: About,
    /// The execution id of its replay.
    execution: RunId,
    /// Its message, or why there is none; nothing for what is decided anew.
    message: Result<Option<Outgoing>, String>,
    /// What tipoff itself takes the message for.
    takes: Option<(PartitionKey, Vec<Event>)>,
    /// What it is to say from now on, where that is new.
    corrected: Option<Content>,
    verdict: Verdict,
}

/// The dates that letters are about, each read once.
struct Desk<'a> {
    engine: &'a Engine,
    partitions: BTreeMap<PartitionKey, Partition>,
    /// What holds each pipeline, if anything does.
    stopped: BTreeMap<PipelineId, Option<String>>,
    resolved: usize,
}

impl<'a> Desk<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self { engine, partitions: BTreeMap::new(), stopped: BTreeMap::new(), resolved: 0 }
    }

    async fn partition(&mut self, key: &PartitionKey) -> Result<&Partition, StoreError> {
        if !self.partitions.contains_key(key) {
            let stored = self.engine.store.load(key).await?;
            self.partitions.insert(key.clone(), stored.partition);
        }
        Ok(&self.partitions[key])
    }

    /// What a letter is about. What named nothing that was known is read again: a name may have been declared since.
    async fn about(&mut self, letter: &Letter) -> Result<About, StoreError> {
        if letter.about.node.is_some() || letter.kind == Kind::Undeliverable || self.resolved >= RESOLVED_MAX {
            return Ok(letter.about.clone());
        }
        self.resolved += 1;
        match self.engine.store.letter_content(&letter.id, letter.latest()).await? {
            Some(content) => Ok(self.engine.message(letter, &content).about(&routes(self.engine))),
            None => Ok(letter.about.clone()),
        }
    }

    async fn standing(&mut self, letter: &Letter, about: &About) -> Result<Standing, StoreError> {
        let engine = self.engine;
        let (Some(pipeline), Some(date)) = (&about.pipeline, about.date) else {
            return Ok(Standing::Unclear("it names no date that can be told".to_owned()));
        };
        let Some(graph) = engine.graph(pipeline) else {
            return Ok(Standing::Unclear(format!("there is no pipeline {pipeline}")));
        };
        let subscription =
            letter.subscription.as_deref().and_then(|name| engine.declarations.topology.subscription(name));
        let ours = letter.kind == Kind::Parked || subscription.is_some_and(|(_, it)| it.consumer == OURSELVES);
        let reader = if ours { Reader::Us } else { Reader::Others };
        let partition = match self.partition(&PartitionKey { pipeline: pipeline.clone(), date }).await {
            Ok(partition) => partition,
            // One damaged date does not keep the letters of the others.
            Err(StoreError::Corrupt { what, why }) => return Ok(Standing::Unclear(format!("{what}: {why}"))),
            Err(error) => return Err(error),
        };
        Ok(standing(graph, partition, about, reader))
    }

    /// Who holds what a replay would begin, and why: a hold outweighs whoever insists.
    async fn held(&mut self, about: &About) -> Result<Option<String>, StoreError> {
        let (Some(pipeline), now) = (&about.pipeline, self.engine.clock.now()) else { return Ok(None) };
        if !self.stopped.contains_key(pipeline) {
            let stop = self.engine.stopped(pipeline).await?;
            self.stopped.insert(pipeline.clone(), stop.map(|stop| stop.to_string()));
        }
        if let Some(Some(stop)) = self.stopped.get(pipeline) {
            return Ok(Some(stop.clone()));
        }
        let (Some(date), Says::Asks) = (about.date, about.says) else { return Ok(None) };
        let partition = self.partition(&PartitionKey { pipeline: pipeline.clone(), date }).await?;
        let of_node = about.node.as_ref().and_then(|node| partition.node(node).hold.clone());
        let hold = partition.hold.clone().into_iter().chain(of_node).find(|hold| hold.holds_at(now));
        Ok(hold.map(|hold| format!("it is held by {}: {}; see `tipoff resume`", hold.actor, hold.reason)))
    }

    async fn see(&mut self, letter: Letter, about: About) -> Result<Seen, StoreError> {
        let standing = self.standing(&letter, &about).await?;
        let age_s = self.engine.clock.now().duration_since(letter.at).as_secs();
        let (stage, place) = (letter.stage(), place(&letter));
        let came_of_it = letter.replays.last().map(|replay| match (replay.sent_at, replay.returned_at, &standing) {
            (_, Some(_), _) => "it was given up on again".to_owned(),
            (None, None, _) => "it is not known to have left".to_owned(),
            (Some(_), None, Standing::Unneeded(why)) => format!("done: {why}"),
            (Some(_), None, Standing::Wanted(why)) => format!("not yet: {why}"),
            (Some(_), None, Standing::Unclear(_)) => "that cannot be told".to_owned(),
        });
        Ok(Seen { letter: Letter { about, ..letter }, stage, standing, came_of_it, age_s, place })
    }
}

impl Engine {
    /// Keeps a message of a dead-letter topic, and says how it is to be settled.
    pub async fn keep_dead(&self, delivery: &Delivery) -> Settlement {
        let (letter, content) = letter::dead(&routes(self), delivery);
        let topic = letter.topic.clone().unwrap_or_else(|| delivery.topic.clone());
        let whose = letter.subscription.as_deref().unwrap_or("a subscription of it").to_owned();
        let text = format!(
            "a message of {topic} was given up on by {whose}: {}; see `tipoff dlq list --topic {topic}`",
            letter.reason
        );
        match self.suspect(self.keep_letter((letter, content)).await) {
            Ok(Fate::Kept) => {
                self.tell_of_letter(&topic, text).await;
                Settlement::Ack
            }
            Ok(Fate::Known) => Settlement::Ack,
            Ok(Fate::NoRoom) => Settlement::Nack { after: NO_ROOM, reason: "the ledger is full".to_owned() },
            Err(error) => Settlement::Nack { after: SignedDuration::from_secs(10), reason: error.to_string() },
        }
    }

    /// Keeps an input that is being parked among the letters, whole, for it may be replayed. Where there is no room for it, it
    /// is parked all the same.
    pub(super) async fn keep_parked(&self, parked: &Parked, delivery: &Delivery) -> Result<(), StoreError> {
        let kept = letter::parked(&routes(self), delivery, &parked.fingerprint, &parked.reason, parked.at);
        self.keep_letter(kept).await.map(|_| ())
    }

    /// Keeps an effect that can never be delivered among the letters.
    pub(super) async fn keep_undeliverable(&self, entry: &OutboxEntry, reason: &str) -> Result<(), StoreError> {
        self.keep_letter(self.undeliverable_letter(entry, reason, self.clock.now())).await.map(|_| ())
    }

    fn undeliverable_letter(&self, entry: &OutboxEntry, reason: &str, at: Timestamp) -> Kept {
        let node = match &entry.effect {
            Effect::Dispatch(dispatch) | Effect::Close(dispatch) => Some(&dispatch.node),
            Effect::Observe { node, .. } | Effect::Check { node, .. } => Some(node),
            Effect::ReleaseLock { node, .. } | Effect::NotifyPartition { node, .. } => Some(node),
            Effect::Alert(_) => None,
        };
        let (dispatch, says) = match &entry.effect {
            Effect::Dispatch(dispatch) => (Some(dispatch.id.clone()), Says::Asks),
            _ => (None, Says::Unclear),
        };
        let about = About {
            pipeline: Some(entry.key.pipeline.clone()),
            date: Some(entry.key.date),
            node: node.cloned(),
            run: None,
            dispatch,
            says,
        };
        let body = serde_json::to_vec(&entry.effect).unwrap_or_default();
        letter::undeliverable((&entry.id, "the outbox"), about, body, reason, at)
    }

    async fn keep_letter(&self, (letter, content): Kept) -> Result<Fate, StoreError> {
        if let Some(execution) = letter::replay_of(&content)
            && let Some(original) = letter_of(execution)
        {
            let (execution, digest) = (RunId::from(execution), letter::digest(&content.0));
            for _ in 0..TRIES_MAX {
                let Some((mut original, version)) = self.store.letter(&original).await? else { break };
                let before = original.clone();
                // Anybody may write the attribute; only what was sent has the digest.
                if !original.came_back(&execution, &digest, letter.at) {
                    break;
                }
                if original == before || self.store.keep_letter(&original, version, None).await? {
                    tracing::warn!(letter = %original.id, replay = %execution, "a replay was given up on as well");
                    return Ok(if original == before { Fate::Known } else { Fate::Kept });
                }
            }
        }
        if !self.has_room().await? {
            if self.store.letter(&letter.id).await?.is_some() {
                return Ok(Fate::Known);
            }
            let text = format!(
                "the ledger holds {LETTERS_MAX} letters about which nothing has been done, and takes no more; \
                 `tipoff dlq list` shows them by cause, `tipoff dlq discard` and `replay` make room"
            );
            self.alert(Alert::new(no_room(), Severity::Critical, Turn::Raised, text, self.clock.now())).await;
            return Ok(Fate::NoRoom);
        }
        if !self.store.keep_letter(&letter, 0, Some(content)).await? {
            return Ok(Fate::Known);
        }
        if let Some(count) = &mut self.keeping.lock().count {
            *count += 1;
        }
        Ok(Fate::Kept)
    }

    /// Whether the ledger takes another letter; the oldest settled ones make room.
    async fn has_room(&self) -> Result<bool, StoreError> {
        let known = self.keeping.lock().count;
        if let Some(count) = known
            && count < LETTERS_MAX
        {
            return Ok(true);
        }
        // Some more than one, so that not each letter that follows counts them all.
        let left = self.store.trim_letters(LETTERS_MAX - LETTERS_MAX / 100).await?;
        self.keeping.lock().count = Some(left);
        Ok(left < LETTERS_MAX)
    }

    /// People are told of a topic's letters once a minute at most; what comes meanwhile is told by the next round.
    async fn tell_of_letter(&self, topic: &str, text: String) {
        let now = self.clock.now();
        let is_due = {
            let mut keeping = self.keeping.lock();
            let (last, untold) = keeping.told.entry(topic.to_owned()).or_insert((Timestamp::MIN, None));
            let is_due = now >= after(*last, SignedDuration::from_mins(1));
            if is_due {
                *last = now;
            } else {
                *untold = Some(text.clone());
            }
            is_due
        };
        if is_due {
            self.alert(Alert::new(waiting(topic), Severity::Warning, Turn::Raised, text, now)).await;
        }
    }

    /// Carries on what was left over: replays whose recorder died are sent, people are told what they have not been, and
    /// settled letters that there is no room for go.
    ///
    /// # Errors
    /// If the store cannot be used; the next round goes on.
    pub async fn look_after_letters(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let untold: Vec<(String, String)> = {
            let mut keeping = self.keeping.lock();
            let told = keeping.told.iter_mut();
            let untold = told.filter_map(|(topic, (last, text))| {
                let text = text.take()?;
                *last = now;
                Some((topic.clone(), text))
            });
            untold.collect()
        };
        for (topic, text) in untold {
            self.alert(Alert::new(waiting(&topic), Severity::Warning, Turn::Raised, text, now)).await;
        }
        let until = after(now, SignedDuration::from_mins(2));
        if self.watch.refusal().is_some() || !self.store.lease("letters", now, until).await? {
            return Ok(());
        }
        for (letter, version) in self.store.letters(Letters::Asked, None, PAGE).await? {
            if letter.left_over(now).is_some() {
                let id = letter.id.clone();
                match self.carry_on(letter, version).await? {
                    Verdict::Replayed => tracing::info!(letter = %id, "a replay that was left over was sent"),
                    other => tracing::warn!(letter = %id, "a replay that was left over: {}", other.why()),
                }
            }
        }
        self.import_letters().await?;
        let left = self.store.trim_letters(LETTERS_MAX).await?;
        let was_full = self.keeping.lock().count.replace(left).is_some_and(|count| count >= LETTERS_MAX);
        if was_full && left < LETTERS_MAX {
            let text = "the ledger takes letters again".to_owned();
            self.alert(Alert::new(no_room(), Severity::Critical, Turn::Resolved, text, now)).await;
        }
        Ok(())
    }

    /// What was parked, or could not be delivered, before there was a ledger.
    async fn import_letters(&self) -> Result<(), StoreError> {
        let (version, imported) = self.store.kept::<Imported>().await?;
        if imported.done {
            return Ok(());
        }
        let limit = usize::try_from(PARKED_MAX).unwrap_or(usize::MAX);
        for parked in self.store.parked(limit).await? {
            let delivery = Delivery {
                topic: parked.topic.clone(),
                message_id: parked.message_id.clone(),
                published: parked.published,
                attributes: parked.attributes.clone(),
                data: parked.head.clone(),
            };
            let (fingerprint, reason) = (&parked.fingerprint, &parked.reason);
            let (mut letter, content) = letter::parked(&routes(self), &delivery, fingerprint, reason, parked.at);
            for version in &mut letter.versions {
                version.size = parked.size;
                version.is_whole = parked.size <= parked.head.len();
            }
            self.keep_letter((letter, content)).await?;
        }
        for (entry, reason) in self.store.undeliverable(limit).await? {
            // What was not wanted any more is nobody's trouble.
            if !reason.starts_with(super::relay::UNWANTED) {
                self.keep_letter(self.undeliverable_letter(&entry, &reason, entry.decided_at)).await?;
            }
        }
        self.store.keep(version, &Imported { done: true }).await?;
        Ok(())
    }

    fn message<'a>(&self, letter: &'a Letter, content: &'a Content) -> Message<'a> {
        let (topic, message_id) = (letter.topic.as_deref(), letter.message_id.as_str());
        Message { topic, message_id, published: letter.published, content }
    }

    /// The letters that are meant: a page of them, and all by cause. Where no causes are asked for, no more is read than the
    /// page needs, and `count` is of what was read.
    ///
    /// # Errors
    /// If the store cannot be read, or one that is named is not there.
    pub async fn dead_letters(
        &self,
        selection: &Selection,
        (from, limit): (Option<&str>, usize),
        groups_max: usize,
    ) -> Result<Board, Error> {
        let mut desk = Desk::new(self);
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let (mut letters, mut count, mut more) = (Vec::new(), 0, false);
        // Whoever does not want the causes does not pay for reading all.
        let most = if groups_max == 0 { Some((from, limit.saturating_add(1))) } else { None };
        for (letter, about) in self.selected(&mut desk, selection, most).await? {
            let place = place(&letter);
            let is_shown = from.is_none_or(|from| place.as_str() < from);
            let seen = desk.see(letter, about).await?;
            if selection.standing.as_ref().is_some_and(|standing| seen.standing.as_str() != standing) {
                continue;
            }
            count += 1;
            let at = seen.letter.at;
            let group = groups.entry(seen.letter.cause.fingerprint.clone()).or_insert_with(|| Group {
                cause: seen.letter.cause.fingerprint.clone(),
                words: seen.letter.cause.words.clone(),
                count: 0,
                wanted: 0,
                unneeded: 0,
                oldest: at,
                newest: at,
            });
            group.count += 1;
            group.wanted += usize::from(matches!(seen.standing, Standing::Wanted(_)));
            group.unneeded += usize::from(matches!(seen.standing, Standing::Unneeded(_)));
            group.oldest = group.oldest.min(at);
            group.newest = group.newest.max(at);
            if is_shown && letters.len() < limit {
                letters.push(seen);
            } else {
                more |= is_shown;
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by(|a, b| (b.count, b.newest, &a.cause).cmp(&(a.count, a.newest, &b.cause)));
        let groups_left_out = groups.len().saturating_sub(groups_max);
        groups.truncate(groups_max);
        let next = letters.last().filter(|_| more).map(|last: &Seen| last.place.clone());
        Ok(Board { count, groups, groups_left_out, letters, next })
    }

    /// One letter, by its name or the beginning of it.
    ///
    /// # Errors
    /// If the store cannot be read, or there is no one such letter.
    pub async fn dead_letter(&self, id: &str) -> Result<Opened, Error> {
        let (letter, _) = self.named(id).await?;
        let mut contents = Vec::with_capacity(letter.versions.len());
        for version in 0..letter.versions.len() {
            contents.push(self.store.letter_content(&letter.id, version).await?.unwrap_or_default());
        }
        let mut desk = Desk::new(self);
        let about = desk.about(&letter).await?;
        Ok(Opened { seen: desk.see(letter, about).await?, contents })
    }

    async fn named(&self, id: &str) -> Result<(Letter, u64), Error> {
        if let Some(found) = self.store.letter(&LetterId::from(id)).await? {
            return Ok(found);
        }
        let mut found = Vec::new();
        // A whole name that is not there begins no other, and what is no name at all is looked for nowhere.
        let is_beginning = id.len() < letter::ID_LEN && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_beginning && !id.is_empty() {
            let mut place: Option<String> = None;
            loop {
                let page = self.store.letters(Letters::All, place.as_deref(), PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                place = Some(crate::port::place(last));
                found.extend(page.into_iter().filter(|(letter, _)| letter.id.as_str().starts_with(id)));
            }
        }
        match found.len() {
            0 => Err(Error::NoSuch(id.to_owned())),
            1 => Ok(found.remove(0)),
            several => Err(Error::Several(id.to_owned(), several)),
        }
    }

    /// The letters that are meant, the latest first, each with what it is about; at most so many after a place, where that is
    /// said and no standing is asked for, which only the dates can tell.
    async fn selected(
        &self,
        desk: &mut Desk<'_>,
        selection: &Selection,
        most: Option<(Option<&str>, usize)>,
    ) -> Result<Vec<(Letter, About)>, Error> {
        let mut found = Vec::new();
        if !selection.ids.is_empty() {
            let mut known = BTreeSet::new();
            for id in &selection.ids {
                let (letter, _) = self.named(id).await?;
                if known.insert(letter.id.clone()) {
                    let about = desk.about(&letter).await?;
                    found.push((letter, about));
                }
            }
            return Ok(found);
        }
        let which = if selection.all { Letters::All } else { Letters::Open };
        let most = most.filter(|_| selection.standing.is_none());
        let mut place: Option<String> = most.and_then(|(from, _)| from.map(str::to_owned));
        let most = most.map_or(usize::MAX, |(_, most)| most);
        loop {
            let page = self.store.letters(which, place.as_deref(), PAGE.min(most.saturating_add(1))).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            place = Some(crate::port::place(last));
            for (letter, _) in page {
                if found.len() == most {
                    return Ok(found);
                }
                if selection.takes(&letter) {
                    let about = desk.about(&letter).await?;
                    if selection.is_about(&about) {
                        found.push((letter, about));
                    }
                }
            }
        }
    }

    /// Corrects a letter that waits: it says this from now on, and what it said before is kept.
    ///
    /// # Errors
    /// If it is not waiting, or what it is to say could not be replayed.
    pub async fn correct(&self, id: &str, data: Vec<u8>, (actor, reason): (&str, &str)) -> Result<Letter, Error> {
        for _ in 0..TRIES_MAX {
            let (letter, version) = self.named(id).await?;
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
        let before = desk.partition(&key).await?.clone();
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
    async fn meant(&self, desk: &mut Desk<'_>, order: &Order) -> Result<Vec<(LetterId, usize)>, Error> {
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

    /// Looks at a letter as it stands now.
    async fn candidate(&self, desk: &mut Desk<'_>, id: &LetterId, order: &Order) -> Result<Candidate, Error> {
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
            (Ok(()), Ok(_), Standing::Unclear(why)) => match unreadable {
                Some(reason) => Verdict::Unclear(format!("{why}; tipoff would park it again: {reason}")),
                None => Verdict::Unclear(why),
            },
            (Ok(()), Ok(_), Standing::Wanted(_)) => Verdict::Ready,
        };
        Ok(Candidate { letter, expected, about, execution, message, takes, corrected, verdict })
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
    fn asked_anew(
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

    /// Replays what is meant and still wanted, paced, telling how far it is. Killed anywhere and begun anew, it goes on.
    ///
    /// # Errors
    /// If the store cannot be read, or a letter that is named is not there. What has been done stays done.
    pub async fn replay(&self, order: &Order, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<Vec<Outcome>, Error> {
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
            if letter.replays.len() > *replays && letter.stage() != Stage::Asked {
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
    async fn carry_on(&self, mut letter: Letter, version: u64) -> Result<Verdict, StoreError> {
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

    /// Has nothing more be done about letters that wait. Where `apply` is not said, only what would be is told.
    ///
    /// # Errors
    /// If the store cannot be used, or a letter that is named is not there.
    pub async fn discard(&self, order: &Order, reason: &str, apply: bool) -> Result<Vec<Outcome>, Error> {
        let mut desk = Desk::new(self);
        let mut outcomes = Vec::new();
        let mut topics = BTreeSet::new();
        for (id, _) in self.meant(&mut desk, order).await? {
            let mut tries = 0;
            loop {
                let (mut letter, version) =
                    self.store.letter(&id).await?.ok_or_else(|| Error::NoSuch(id.to_string()))?;
                let (actor, reason, at) = (order.actor.clone(), reason.to_owned(), self.clock.now());
                let verdict = match letter.discard(Discarded { actor, reason, at }) {
                    Err(refusal) => Verdict::Refused(refusal.to_string()),
                    Ok(()) if !apply => Verdict::Ready,
                    Ok(()) if self.store.keep_letter(&letter, version, None).await? => Verdict::Discarded,
                    Ok(()) if tries < TRIES_MAX => {
                        tries += 1;
                        continue;
                    }
                    Ok(()) => return Err(Error::Contended(id)),
                };
                topics.extend(letter.topic.clone());
                let (about, topic) = (letter.about, letter.topic);
                outcomes.push(Outcome { id: id.clone(), about, topic, execution: None, verdict });
                break;
            }
        }
        if apply {
            self.end_alerts(&topics).await?;
        }
        Ok(outcomes)
    }

    /// What people were told of a topic's letters is over once none of them waits.
    async fn end_alerts(&self, topics: &BTreeSet<String>) -> Result<(), StoreError> {
        let mut over: BTreeSet<&String> = topics.iter().collect();
        let mut place: Option<String> = None;
        while !over.is_empty() {
            let page = self.store.letters(Letters::Open, place.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            place = Some(crate::port::place(last));
            for topic in
                page.iter().filter(|(letter, _)| letter.kind == Kind::Dead).filter_map(|(it, _)| it.topic.as_ref())
            {
                over.remove(topic);
            }
        }
        for topic in over {
            let key = waiting(topic);
            if matches!(self.bus.alert_of(&key).await, Ok(Some(alert)) if alert.turn == Turn::Raised) {
                let text = format!("no letter of {topic} waits any more");
                self.alert(Alert::new(key, Severity::Warning, Turn::Resolved, text, self.clock.now())).await;
            }
        }
        Ok(())
    }
}

/// What became of a letter that was to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Kept,
    /// It is kept already.
    Known,
    NoRoom,
}

impl Keeping {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Candidate {
    fn outcome(&self) -> Outcome {
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

/// Records a replay, sends its message, and notes that.
async fn send(
    store: &dyn crate::port::Store,
    bus: &dyn crate::port::Bus,
    candidate: &mut Candidate,
    now: Timestamp,
) -> Verdict {
    let Ok(Some(message)) = &candidate.message else { return Verdict::Failed("it has no message".to_owned()) };
    candidate.letter.begins(now);
    match store.keep_letter(&candidate.letter, candidate.expected, None).await {
        Ok(true) => sent(store, bus, &candidate.letter.id, message, now).await,
        Ok(false) => faster(),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

/// Sends the message of a replay that was recorded, and notes that. What is not known to have left is sent again later.
async fn sent(
    store: &dyn crate::port::Store,
    bus: &dyn crate::port::Bus,
    id: &LetterId,
    message: &Outgoing,
    now: Timestamp,
) -> Verdict {
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
async fn note(store: &dyn crate::port::Store, id: &LetterId, now: Timestamp) -> Verdict {
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

/// The alert about letters of a topic.
fn waiting(topic: &str) -> AlertKey {
    AlertKey::new(format!("dead-letter:{topic}"))
}

fn no_room() -> AlertKey {
    AlertKey::from("dead-letter-room:ledger")
}

/// Letters of one round, so that no second sees more than it may.
fn chunk_of(per_second: u32) -> usize {
    match per_second {
        0 => CHUNK,
        some => CHUNK.min(usize::try_from(some).unwrap_or(CHUNK)),
    }
}

/// A letter with what each of its versions says, as JSON. What is no text has its bytes in base64 beside it.
pub fn shown(opened: &Opened) -> Value {
    let contents = opened.seen.letter.versions.iter().zip(&opened.contents).map(|(version, (data, attributes))| {
        let mut shown = json!(version);
        shown["attributes"] = json!(attributes);
        shown["body"] = json!(String::from_utf8_lossy(data));
        if std::str::from_utf8(data).is_err() {
            shown["body_base64"] = json!(STANDARD.encode(data));
        }
        shown
    });
    let contents: Vec<Value> = contents.collect();
    let mut shown = json!(opened.seen);
    shown["versions"] = json!(contents);
    shown
}
