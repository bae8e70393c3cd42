//! What the engine needs of the world: a store, a bus, a warehouse. Contracts in prose and types.
//!
//! Each trait has one contract suite that every adapter passes; the engine knows nothing else of a vendor.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::backfill::Plan;
use crate::domain::coverage::Coverage;
use crate::domain::dead_letter::Letter;
use crate::domain::effect::{Alert, Effect, Turn};
use crate::domain::event::Event;
use crate::domain::id::{AlertKey, CheckId, LetterId, NodeId, PartitionKey, PipelineId, RunId, UnitId};
use crate::domain::notify::{Ledger, Notice, Sent};
use crate::domain::once::Calls;
use crate::domain::partition::{Partition, Recorded};
use crate::domain::shadow::Role;
use crate::domain::stop::Stops;
use crate::domain::time::Now;
use crate::pipeline::in_force::{InForce, Replicas};
use crate::wire::dispatch::Outgoing;
use crate::wire::envelope::Content;
use crate::wire::inbound::Delivery;
use crate::wire::report;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreError {
    /// Somebody else committed first: load and decide again.
    #[error("{0} was changed by somebody else")]
    Conflict(PartitionKey),
    /// Not now; the same call may succeed later. Whether a commit was applied is unknown: load and look.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be trusted. No decision is taken on it; other partitions are not affected.
    #[error("{what} is corrupt: {why}")]
    Corrupt {
        /// Which record.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A journal entry cannot be trusted. The entries after `seq` are not affected.
    #[error("{what} is corrupt: {why}")]
    BadEntry {
        /// Its number.
        seq: u64,
        /// Which record.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A partition as stored. A date nobody has written about is a new partition at version 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// The partition.
    pub partition: Arc<Partition>,
    /// Counts commits; the next commit must name it.
    pub version: u64,
    /// When it is to be woken.
    pub wake_at: Option<Timestamp>,
}

/// One atomic change: all of it is stored, or none.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The version this was decided on. The commit is refused if another is stored.
    pub expected_version: u64,
    /// The partition to store, at `expected_version + 1`.
    pub partition: Arc<Partition>,
    /// When it wants to be woken.
    pub wake_at: Option<Timestamp>,
    /// Effects to deliver. An id that exists already is left as it is.
    pub outbox: Vec<OutboxEntry>,
    /// Until when the effects are this process's to deliver, as if it had claimed them; from the start anybody's if nothing. Only
    /// where [`Store::shares`].
    pub claimed_until: Option<Timestamp>,
    /// The record of the decision; its `seq` is given by the store. None where only the waking time has moved.
    pub journal: Option<JournalEntry>,
}

/// An effect waiting to be delivered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// The dispatch id for a dispatch; else `partition@version#index`. Unique for ever.
    pub id: String,
    /// Whose effect.
    pub key: PartitionKey,
    /// What to deliver.
    pub effect: Effect,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Deliveries tried so far.
    #[serde(default)]
    pub tries: u32,
}

/// What became of an outbox entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// It was accepted.
    Sent {
        /// When.
        at: Timestamp,
    },
    /// It was not; to be tried again.
    Deferred {
        /// Not before.
        until: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// It can never be delivered as it is; kept for an operator.
    Parked {
        /// Why.
        reason: String,
    },
}

/// One decision as recorded: what happened, when, and what followed. Folding a partition's entries rebuilds it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Grows by one per entry over the whole store; 0 before it is stored.
    #[serde(default)]
    pub seq: u64,
    /// Whose decision.
    pub key: PartitionKey,
    /// The version it made.
    pub version: u64,
    /// The instant of the decision.
    pub now: Now,
    /// The graph it was decided on.
    pub revision: u64,
    /// What happened.
    pub events: Vec<Event>,
    /// What each event did.
    pub recorded: Vec<Recorded>,
    /// What is to be delivered.
    pub effects: Vec<Effect>,
    /// Nodes that changed their state: (node, from, to).
    pub moved: Vec<(NodeId, String, String)>,
}

/// An input that can never be applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parked {
    /// Groups repetitions: topic, reason and body digest. A repetition is counted, not kept again.
    pub fingerprint: String,
    /// The kind of reason, for counting.
    pub slug: String,
    /// The reason, and what to do.
    pub reason: String,
    /// Where it came from.
    pub topic: String,
    /// The broker's name for it.
    pub message_id: String,
    /// When the broker took it.
    pub published: Timestamp,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// The first kilobyte of its body.
    pub head: Vec<u8>,
    /// The size of its body in bytes.
    pub size: usize,
    /// When it was first parked.
    pub at: Timestamp,
    /// How often it has been seen.
    #[serde(default)]
    pub count: u64,
}

/// Partitions, outbox and journal, in one place so that one commit can change all three.
#[async_trait]
pub trait Store: Send + Sync {
    /// The partition as last committed.
    async fn load(&self, key: &PartitionKey) -> Result<Stored, StoreError>;

    /// Stores a decision. After `Ok` it survives the death of the process and of the machine.
    async fn commit(&self, commit: Commit) -> Result<(), StoreError>;

    /// Partitions whose `wake_at` has come, the latest dates first, at most `limit`.
    async fn due(&self, at: Timestamp, limit: usize) -> Result<Vec<PartitionKey>, StoreError>;

    /// The earliest `wake_at`, and the earliest time an outbox entry may be tried.
    async fn next_wake(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError>;

    /// Effects that may be tried at `at`, the latest dates first, within a date in the order they were decided.
    async fn outbox(&self, at: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Whether several processes share the effects, so that what one claims the others do not get. [`Store::claim`] then
    /// decides about what this process has committed without reading it back, too.
    fn shares(&self) -> bool {
        false
    }

    /// Those of `entries` that are this process's to deliver until the instant beside each: no other process gets them
    /// before then. One that is not settled by then may be taken up again. A store that only one process opens gives
    /// all of them back.
    async fn claim(&self, entries: Vec<(OutboxEntry, Timestamp)>) -> Result<Vec<OutboxEntry>, StoreError> {
        Ok(entries.into_iter().map(|(entry, _)| entry).collect())
    }

    /// Records what became of an effect. Settling twice is harmless.
    async fn settle(&self, id: &str, delivered: Delivered) -> Result<(), StoreError>;

    /// Outbox entries that were parked, newest first.
    async fn undeliverable(&self, limit: usize) -> Result<Vec<(OutboxEntry, String)>, StoreError>;

    /// Keeps an input that can never be applied, or counts it if it is kept already. At most [`PARKED_MAX`] different
    /// ones are kept; beyond that they are only counted, under the fingerprint `overflow`.
    async fn park(&self, parked: Parked) -> Result<(), StoreError>;

    /// Parked inputs, latest first.
    async fn parked(&self, limit: usize) -> Result<Vec<Parked>, StoreError>;

    /// Journal entries after `seq`, of one partition or of all, oldest first. They end before one that cannot be trusted;
    /// where that would be the first, it is the answer as [`StoreError::BadEntry`].
    async fn journal(
        &self,
        key: Option<&PartitionKey>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StoreError>;

    /// The dates known of a pipeline, latest first.
    async fn dates(&self, pipeline: &PipelineId, limit: usize) -> Result<Vec<Date>, StoreError>;

    /// The plans of backfill of a pipeline, each with its version: those that run, then those that are proposed, then those
    /// that are over, of each the latest first; at most [`PLANS_MAX`].
    async fn plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError>;

    /// Stores a plan at `expected + 1`, where its version is `expected`; a new one has none, which is 0. Whether it was
    /// stored: false where somebody else was faster. Plans that are over, and then the oldest that are proposed, make room for new ones.
    async fn put_plan(&self, plan: &Plan, expected: u64) -> Result<bool, StoreError>;

    /// Releases the lock that a dead run of `node` holds, if the store keeps processors' locks.
    async fn release_lock(&self, key: &PartitionKey, node: &NodeId, run: &RunId) -> Result<(), StoreError>;

    /// Whether this process is the one that does `work` until then. Whoever has it may have it again; after that instant
    /// anybody may. A store that only one process opens always says yes.
    async fn lease(&self, _work: &str, _now: Timestamp, _until: Timestamp) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Takes up to `want` of the `most` that all processes together may have of `what` in the window that begins at `window`;
    /// returns how many are the caller's. What was taken in an earlier window is forgotten.
    async fn take(&self, what: &str, window: Timestamp, want: u32, most: u32) -> Result<u32, StoreError>;

    /// Notes that a service was at work at `at`, and needs as much room for it as a commit does. It fails where commits
    /// would fail, so it tells whether writes are taken. Returns the store's own time at that, where it has a clock of its own.
    async fn mark(&self, at: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// The clock has gone back to `now`: whatever waits for a time beyond it is due at once, for it may have been meant by the clock
    /// as it was. A store on which the clocks of others are at work leaves it as it is.
    async fn look_anew(&self, _now: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    /// When a service was last marked as being at work; nothing where none ever was.
    async fn marked(&self) -> Result<Option<Timestamp>, StoreError>;

    /// What is kept as a whole under a name, and its version: 0 where nothing was ever kept.
    async fn document(&self, name: &str) -> Result<(u64, Option<serde_json::Value>), StoreError>;

    /// Replaces what is kept under a name, if `expected` is still its version; the version grows by one. Returns whether it
    /// was. After an error it is unknown: read and look.
    async fn keep_document(&self, name: &str, expected: u64, document: &serde_json::Value) -> Result<bool, StoreError>;

    /// A letter, and its version; nothing where it is not kept.
    async fn letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError>;

    /// What a version of a letter says, counted from 0.
    async fn letter_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError>;

    /// Letters, the latest first, each with its version. Those after `place`, where one is given: the [`place`] of the last
    /// that was seen.
    async fn letters(
        &self,
        which: Letters,
        place: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError>;

    /// Keeps a letter at `expected + 1`, where its version is `expected`; a new one has none, which is 0. `content` is what
    /// its latest version says, where that is new. Whether it was kept: false where somebody else was faster.
    async fn keep_letter(&self, letter: &Letter, expected: u64, content: Option<Content>) -> Result<bool, StoreError>;

    /// Lets the oldest settled letters go until `most` are left, or none is settled. How many are left.
    async fn trim_letters(&self, most: usize) -> Result<usize, StoreError>;

    /// Where the export of the journal has got to.
    async fn exported(&self) -> Result<u64, StoreError>;

    /// Moves the export's place. Never backwards.
    async fn set_exported(&self, seq: u64) -> Result<(), StoreError>;
}

/// What a store keeps as a whole: one document under one name.
pub trait Document: Default + Serialize + serde::de::DeserializeOwned + Sync {
    /// Its name.
    const NAME: &str;
}

impl Document for Ledger {
    const NAME: &str = "notices";
}

impl Document for Calls {
    const NAME: &str = "calls";
}

impl Document for InForce {
    const NAME: &str = "in_force";
}

impl Document for Replicas {
    const NAME: &str = "replicas";
}

impl Document for Stops {
    const NAME: &str = "stops";
}

impl Document for Role {
    const NAME: &str = "role";
}

impl<'a> dyn Store + 'a {
    /// What is kept of this kind, and its version; nothing of it at version 0.
    ///
    /// # Errors
    /// If the store cannot be read, or what it holds is no such document.
    pub async fn kept<D: Document>(&self) -> Result<(u64, D), StoreError> {
        match self.document(D::NAME).await? {
            (version, Some(kept)) => match serde_json::from_value(kept) {
                Ok(kept) => Ok((version, kept)),
                Err(error) => Err(StoreError::Corrupt { what: D::NAME.to_owned(), why: error.to_string() }),
            },
            (version, None) => Ok((version, D::default())),
        }
    }

    /// Replaces what is kept of this kind, as [`Store::keep_document`] does.
    ///
    /// # Errors
    /// If it is not known whether it is kept.
    pub async fn keep<D: Document>(&self, expected: u64, document: &D) -> Result<bool, StoreError> {
        let value = serde_json::to_value(document);
        let value = value.map_err(|error| StoreError::Unavailable(format!("write as JSON: {error}")))?;
        self.keep_document(D::NAME, expected, &value).await
    }
}

/// Different parked inputs kept. At 2 KB each this is 20 MB; a flood beyond it is poison of one kind.
pub const PARKED_MAX: u64 = 10_000;

/// Letters kept. At 2 KB each this is 100 MB; beyond it the oldest settled ones go, and where none is settled, new ones
/// wait where they are until there is room, and people are told.
pub const LETTERS_MAX: usize = 50_000;

/// Which letters are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letters {
    /// Those about which something is to be done.
    Open,
    /// Those of which a replay was recorded that is not known to have left.
    Asked,
    /// All that are kept.
    All,
}

/// The place of a letter among all, by which they are ordered and pages follow each other.
pub fn place(letter: &Letter) -> String {
    format!("{:.9}-{}", letter.at, letter.id)
}

/// Whether a word can be the place of a letter.
pub fn is_place(word: &str) -> bool {
    word.split_once("Z-").is_some_and(|(at, id)| !id.is_empty() && format!("{at}Z").parse::<Timestamp>().is_ok())
}

/// A replay that is ready to leave, and its letter as it is to be kept once it has.
#[derive(Clone, Debug)]
pub struct Parting {
    /// The letter, with its replay noted as sent.
    pub letter: Letter,
    /// The version that this was decided on.
    pub expected: u64,
    /// The new message.
    pub message: Outgoing,
}

/// Plans of backfill kept of one pipeline.
pub const PLANS_MAX: usize = 64;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusError {
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
    /// Not until somebody mends the target: it is gone, has moved, or does not know us. The message is still wanted.
    #[error("{0}")]
    Dead(String),
    /// Never, as it is.
    #[error("{0}")]
    Refused(String),
}

/// The way out.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Hands a message over. `Ok` means that it survives our death. Sending the same id again is harmless.
    async fn send(&self, message: &Outgoing, at: Timestamp) -> Result<(), BusError>;

    /// Whether what is sent to a topic comes to tipoff's own subscriptions by itself. Where it does not, whoever sends takes
    /// it in.
    fn reaches_us(&self) -> bool {
        true
    }

    /// Sends messages of replays and keeps their letters, each with its letter or not at all: false for one whose letter
    /// somebody else has changed. Nothing where the bus does not share its store's commits; then a letter is kept before
    /// its message is sent, and again after.
    async fn part_with(&self, _partings: &[Parting], _at: Timestamp) -> Result<Option<Vec<bool>>, BusError> {
        Ok(None)
    }

    /// Tells people, and keeps it until it is over.
    async fn alert(&self, alert: &Alert) -> Result<(), BusError>;

    /// Says at once what cannot be kept, by ways that need no store: the log, at least.
    fn announce(&self, alert: &Alert) {
        let key = alert.key.as_str();
        match alert.turn {
            Turn::Raised => tracing::error!(alert.key = key, severity = alert.severity.as_str(), "{}", alert.text),
            Turn::Resolved => tracing::info!(alert.key = key, "over: {}", alert.text),
        }
    }

    /// Alerts that are on, worst first.
    async fn alerts(&self) -> Result<Vec<Alert>, BusError>;

    /// An alert as it was last told, on or over; none where it is not kept, or not any more.
    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError>;
}

/// A way to tell people: a chat, an address, a webhook.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Sends a notice. It ends within a time limit of the adapter's own. The same notice may be sent again under its id
    /// where the answer was lost.
    async fn send(&self, notice: &Notice) -> Sent;

    /// Whether it could be reached, without telling anybody anything.
    ///
    /// # Errors
    /// What is wrong, without a secret.
    async fn reach(&self) -> Result<(), String>;
}

/// What became of a message that was handed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handed {
    /// What it causes is durable, or it causes nothing: acknowledge it.
    Settled,
    /// Not now: let it come again, not before this long.
    Back(SignedDuration),
}

/// To whom an adapter hands what it receives on its own. Calls may come from many tasks at once.
#[async_trait]
pub trait Recipient: Send + Sync {
    /// Takes a message, and says only after the commit what became of it.
    async fn hand_over(&self, delivery: Delivery) -> Handed;

    /// Messages it takes at once without handing any back.
    fn room(&self) -> usize;

    /// Resolves when messages can be taken in. An adapter asks its broker for none before: each that is handed back is
    /// one step nearer to its dead letter.
    async fn opened(&self) {}

    /// Resolves when none can be taken in, whatever it says.
    async fn closed(&self) {
        std::future::pending().await
    }

    /// A message published then has come in over a road on which a dead connection would not say so. Once called for a
    /// road, silence counts only up to the latest such instant; [`Timestamp::MIN`] says that nothing has come yet.
    fn heard(&self, road: &str, published: Timestamp);

    /// Something published until now may not have come in, and will come later.
    fn interrupted(&self);

    /// The broker delivers a message again.
    fn redelivered(&self);

    /// `component` cannot work until somebody outside mends it. Returns whether that is news.
    fn fault(&self, component: &str, reason: &str) -> bool;

    /// `component` works.
    fn well(&self, component: &str);
}

/// A probe's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// So much is there.
    Known {
        /// In all.
        coverage: Coverage,
        /// Per unit, where the warehouse keeps units.
        units: BTreeMap<UnitId, Coverage>,
    },
    /// It keeps no record about this.
    NotKept,
    /// It could not be told; neither 0 nor 1.
    Unknown(String),
}

/// A report's answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// These rows, as [`report`] reads them; none where there is nothing of the date, as on a day without games.
    Rows(Vec<Row>),
    /// It keeps no such report, or none of this date.
    NotKept,
    /// It could not be told.
    Unknown(String),
}

/// One row of a history table or a report, column by column: dates and instants as text, JSON as itself.
pub type Row = serde_json::Map<String, serde_json::Value>;

/// Questions about outputs and dates, and the history of runs. Every call ends within a time limit of the adapter's
/// own.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// How much of a node's output for a date is there. [`Answer::NotKept`] where the node has no probe, or nothing is
    /// expected of the date.
    async fn coverage(&self, pipeline: &PipelineId, node: &NodeId, date: Date, at: Timestamp) -> Answer;

    /// The same about a check of a node: the share of the data behind a dispatch that is good.
    async fn check(&self, pipeline: &PipelineId, node: &NodeId, check: &CheckId, date: Date, at: Timestamp) -> Answer;
    /// The rows of a report about a date. They are as they are kept: whoever uses them reads them by [`report`].
    async fn report(&self, pipeline: &PipelineId, report: report::Kind, date: Date, at: Timestamp) -> Reported;

    /// Appends rows, each with its insert id, to a history table of [`crate::wire::table`]. Appending the same id again is
    /// harmless: it is dropped, or readers find an equal row twice. After an error any of the rows may be there, and all
    /// are to be appended again. A row that can never be taken is the adapter's to tell, and no error.
    async fn append(&self, table: &str, rows: Vec<(String, Row)>) -> Result<(), String>;
}
