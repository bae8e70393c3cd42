//! The store: what each call reads and writes.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use firestore::{FirestoreDb, FirestoreResult};
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{CommitRequest, CommitResponse, Document, GetDocumentRequest, Write};
use gcloud_sdk::prost_types;
use gcloud_sdk::tonic::{Code, Request, Status};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Firestore;
use super::document::{
    Only, Read, at_least, bytes, commit_instant, compared, increment, instant, integer, json, text, transformed, write,
};
use crate::domain::backfill::Plan;
use crate::domain::dead_letter::Letter;
use crate::domain::effect::{Alert, Severity, Turn};
use crate::domain::id::{AlertKey, LetterId, NodeId, PartitionKey, PipelineId, RunId};
use crate::domain::partition::Partition;
use crate::domain::time::after;
use crate::port::{
    Commit, Delivered, JournalEntry, Letters, OutboxEntry, PARKED_MAX, Parked, Store, StoreError, Stored,
};
use crate::wire::envelope::Content;

const PARTITIONS: &str = "partitions";
pub(super) const OUTBOX: &str = "outbox";
const JOURNAL: &str = "journal";
const PARKED: &str = "parked";
pub(super) const CURSORS: &str = "cursors";
/// Among the cursors: when a service was last at work.
const MARK: &str = "service";
/// Where processors keep their locks; not ours, so without the prefix.
const LOCKS: &str = "processing_locks";

/// The layout of a partition's document. A later one is refused: deciding on half of it would lose the other half.
const SCHEMA: u64 = 1;
/// Times a conditional write is tried when it is refused for another reason than a newer version.
const TRIES_MAX: u32 = 6;
/// How much longer a partition is kept than its journal and effects: their names count its versions, which begin anew when
/// it is gone, and Firestore takes a day or more to delete.
const OUTLIVES: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What names a partition among its document's fields.
const KEY: [&str; 2] = ["pipeline", "date"];
/// Due partitions looked at in one round; more are looked at in the next.
const DUE_READ_MAX: u32 = 5_000;
/// Due effects read for each that is asked for, to find the latest dates among them.
const OUTBOX_READ: usize = 4;
/// The partitions whose last change is remembered.
const LOADED_MAX: usize = 256;
/// Entries of one instant that a page may be cut between.
const SAME_INSTANT: usize = 16;
/// The bits of a journal number below the microseconds; they tell commits of one microsecond apart.
const NUMBER_BITS: u32 = 12;

#[derive(Serialize)]
struct Written<'a> {
    partition: &'a Partition,
}

#[derive(Deserialize)]
struct ReadBack {
    partition: Partition,
}

pub(super) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// A name that a document may have: `/` would begin a collection.
pub(super) fn document_id(id: &str) -> String {
    id.replace('/', "~")
}

fn partition_id(key: &PartitionKey) -> String {
    document_id(&key.to_string())
}

/// The number of a journal entry: the server's instant of its commit, and some bits of its name.
fn number(entry: &Read) -> Result<u64, StoreError> {
    let digest = Sha256::digest(entry.id().as_bytes());
    let bits = digest.iter().take(2).fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    let micros = u64::try_from(entry.instant("at")?.as_microsecond()).unwrap_or(0);
    Ok(micros << NUMBER_BITS | bits & ((1 << NUMBER_BITS) - 1))
}

/// The instant a journal number begins with.
fn instant_of(number: u64) -> Timestamp {
    i64::try_from(number >> NUMBER_BITS)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

/// As many documents as a query may ask for.
pub(super) fn limited(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}

impl Firestore {
    pub(super) fn collection(&self, name: &str) -> String {
        format!("{}{name}", self.settings.prefix)
    }

    pub(super) fn name(&self, collection: &str, id: &str) -> String {
        format!("{}/{}/{id}", self.db.get_documents_path(), self.collection(collection))
    }

    pub(super) fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.settings.timeout);
        request
    }

    pub(super) async fn get(&self, collection: &str, id: &str) -> Result<Option<Read>, StoreError> {
        let request = GetDocumentRequest { name: self.name(collection, id), ..GetDocumentRequest::default() };
        let mut client = self.db.client().get();
        let answer = self.in_time(client.get_document(self.timed(request)));
        match answer.await {
            Ok(found) => Ok(Some(Read::new(found.into_inner()))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(unavailable(status)),
        }
    }

    pub(super) async fn apply(&self, writes: Vec<Write>) -> Result<CommitResponse, Status> {
        self.apply_in(&self.db, writes).await
    }

    async fn apply_in(&self, db: &FirestoreDb, writes: Vec<Write>) -> Result<CommitResponse, Status> {
        let request = CommitRequest { database: db.get_database_path().clone(), writes, ..CommitRequest::default() };
        let mut client = db.client().get();
        Ok(self.in_time(client.commit(self.timed(request))).await?.into_inner())
    }

    /// Gives up waiting when the time is over. The request's own limit is the server's to keep, and a server that hangs
    /// keeps none.
    pub(super) async fn in_time<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded(format!("no answer in {} s", self.settings.timeout.as_secs()))),
        }
    }

    /// Reads a document, and writes what `change` makes of it unless somebody else was faster, else again. When it was written, if
    /// it was.
    pub(super) async fn change(
        &self,
        collection: &str,
        id: &str,
        mut change: impl FnMut(Option<&Read>) -> Result<Option<Write>, StoreError> + Send,
    ) -> Result<Option<prost_types::Timestamp>, StoreError> {
        let mut tries = 0;
        loop {
            let found = self.get(collection, id).await?;
            let Some(write) = change(found.as_ref())? else { return Ok(None) };
            match self.apply(vec![write]).await {
                Ok(done) => return Ok(done.write_results.first().and_then(|result| result.update_time)),
                Err(status) if is_refusal(&status) && tries < TRIES_MAX => {
                    tries += 1;
                    pause(tries).await;
                }
                Err(status) => return Err(unavailable(status)),
            }
        }
    }

    fn remember(&self, key: &PartitionKey, version: u64, updated: Option<prost_types::Timestamp>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match updated {
            Some(updated) => {
                if loaded.len() >= LOADED_MAX {
                    loaded.pop_first();
                }
                loaded.insert(key.clone(), (version, updated));
            }
            None => {
                loaded.remove(key);
            }
        }
    }

    fn remembered(&self, key: &PartitionKey, version: u64) -> Option<prost_types::Timestamp> {
        let loaded = self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        loaded.get(key).filter(|(of, _)| *of == version).map(|(_, updated)| *updated)
    }

    /// The version that is stored, and what a conditional write on it compares.
    async fn stored(&self, key: &PartitionKey) -> Result<(u64, Option<prost_types::Timestamp>), StoreError> {
        match self.get(PARTITIONS, &partition_id(key)).await? {
            Some(found) => Ok((found.integer("version")?, found.updated())),
            None => Ok((0, None)),
        }
    }

    fn partition_write(&self, commit: &Commit, only: Only) -> Result<Write, StoreError> {
        let key = &commit.partition.key;
        let fields = vec![
            ("schema", integer(SCHEMA)),
            ("version", integer(commit.expected_version + 1)),
            ("pipeline", text(key.pipeline.as_str())),
            ("date", text(&key.date.to_string())),
            ("wake_at", commit.wake_at.and_then(instant)),
            ("document", json(&Written { partition: &commit.partition })?),
            ("expire_at", instant(after(commit.partition.decided_at, self.settings.keep.saturating_add(OUTLIVES)))),
        ];
        Ok(write(self.name(PARTITIONS, &partition_id(key)), fields, only))
    }

    fn journal_write(&self, entry: &JournalEntry) -> Result<Write, StoreError> {
        let key = entry.key.to_string();
        let id = format!("{}@{:010}", document_id(&key), entry.version);
        let fields = vec![
            ("key", text(&key)),
            ("version", integer(entry.version)),
            ("entry", json(entry)?),
            ("expire_at", instant(after(entry.now.at, self.settings.keep))),
        ];
        let write = write(self.name(JOURNAL, &id), fields, Only::IfNew);
        Ok(transformed(write, "at", commit_instant()))
    }

    fn outbox_write(&self, entry: &OutboxEntry, number: u64, due: Timestamp) -> Result<Write, StoreError> {
        let fields = vec![
            ("id", text(&entry.id)),
            ("state", text("waiting")),
            ("date", text(&entry.key.date.to_string())),
            ("decided_at", instant(entry.decided_at)),
            ("number", integer(number)),
            ("due", instant(due)),
            ("tries", integer(0)),
            ("entry", json(entry)?),
        ];
        Ok(write(self.name(OUTBOX, &document_id(&entry.id)), fields, Only::IfNew))
    }

    /// An effect that cannot be read is parked with an alert, and keeps nobody back.
    async fn set_aside(&self, found: &Read, error: &StoreError, at: Timestamp) {
        let fields = vec![("state", text("parked")), ("due", None), ("reason", text(&error.to_string()))];
        let only = found.updated().map_or(Only::IfThere, Only::IfUnchanged);
        // Whoever else reads it does the same.
        if let Err(status) = self.apply(vec![write(self.name(OUTBOX, found.id()), fields, only)]).await {
            tracing::warn!("set aside {}: {status}", found.id());
            return;
        }
        let key = AlertKey::new(format!("store/outbox/{}", found.id()));
        let alert = Alert::new(key, Severity::Critical, Turn::Raised, error.to_string(), at);
        if let Err(error) = self.tell(&alert).await {
            tracing::error!("raise {}: {error}", alert.key);
        }
    }

    /// Those of `ids` that the outbox has already.
    async fn known(&self, ids: &[&str]) -> Result<BTreeSet<String>, StoreError> {
        let mut known = BTreeSet::new();
        for id in ids {
            if self.get(OUTBOX, &document_id(id)).await?.is_some() {
                known.insert((*id).to_owned());
            }
        }
        Ok(known)
    }

    fn read_outbox(found: &Read) -> Result<OutboxEntry, StoreError> {
        let entry: OutboxEntry = found.json("entry")?;
        let tries = u32::try_from(found.integer("tries")?).unwrap_or(u32::MAX);
        Ok(OutboxEntry { tries, ..entry })
    }
}

/// Whether the server refused a precondition, or gave way to somebody else: nothing was written.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::AlreadyExists | Code::FailedPrecondition | Code::NotFound | Code::Aborted)
}

/// Waits a little, differently for each caller, and longer with each try.
async fn pause(tries: u32) {
    let jitter = uuid::Uuid::new_v4().as_u128() % 16;
    let millis = u64::try_from(jitter).unwrap_or(0) + 4 * u64::from(tries * tries);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

pub(super) fn documents(found: FirestoreResult<Vec<Document>>) -> Result<Vec<Read>, StoreError> {
    Ok(found.map_err(unavailable)?.into_iter().map(Read::new).collect())
}

#[async_trait]
impl Store for Firestore {
    async fn load(&self, key: &PartitionKey) -> Result<Stored, StoreError> {
        let Some(found) = self.get(PARTITIONS, &partition_id(key)).await? else {
            self.remember(key, 0, None);
            return Ok(Stored { partition: Partition::new(key.clone()).into(), version: 0, wake_at: None });
        };
        let schema = found.integer("schema")?;
        if schema > SCHEMA {
            return Err(found.wrong("schema", &format!("{schema} is of a later tipoff than this one; run that one")));
        }
        let ReadBack { partition } = found.json("document")?;
        let version = found.integer("version")?;
        self.remember(key, version, found.updated());
        Ok(Stored { partition: partition.into(), version, wake_at: found.maybe_instant("wake_at")? })
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let key = &commit.partition.key;
        let conflict = || StoreError::Conflict(key.clone());
        let mut updated = self.remembered(key, commit.expected_version);
        let mut known = BTreeSet::new();
        for tries in 1..=TRIES_MAX {
            let only = match (commit.expected_version, updated) {
                (0, _) => Only::IfNew,
                (_, Some(updated)) => Only::IfUnchanged(updated),
                (expected, None) => match self.stored(key).await? {
                    (version, Some(updated)) if version == expected => Only::IfUnchanged(updated),
                    _ => return Err(conflict()),
                },
            };
            let mut writes = vec![self.partition_write(&commit, only)?];
            if let Some(entry) = &commit.journal {
                writes.push(self.journal_write(entry)?);
            }
            for (index, entry) in commit.outbox.iter().enumerate().filter(|(_, entry)| !known.contains(&entry.id)) {
                // Effects of one decision in their order, and decisions in theirs.
                let number = (commit.expected_version + 1).saturating_mul(10_000).saturating_add(index as u64);
                let due = commit.claimed_until.unwrap_or(entry.decided_at);
                writes.push(self.outbox_write(entry, number, due)?);
            }
            match self.apply(writes).await {
                Ok(done) => {
                    let mut written = done.write_results.iter().map(|result| result.update_time);
                    let updated = written.next().flatten();
                    self.remember(key, commit.expected_version + 1, updated);
                    if commit.claimed_until.is_some() {
                        let written = written.skip(usize::from(commit.journal.is_some()));
                        let entries = commit.outbox.iter().filter(|entry| !known.contains(&entry.id));
                        for (entry, updated) in entries.zip(written) {
                            self.saw(&entry.id, updated, commit.claimed_until);
                        }
                    }
                    return Ok(());
                }
                Err(status) if is_refusal(&status) => {
                    self.remember(key, 0, None);
                    let (version, now) = self.stored(key).await?;
                    if version != commit.expected_version {
                        return Err(conflict());
                    }
                    // The same version: somebody touched a field that is not ours, or an effect is there already.
                    updated = now;
                    let ids: Vec<&str> = commit.outbox.iter().map(|entry| entry.id.as_str()).collect();
                    known = self.known(&ids).await?;
                    pause(tries).await;
                }
                Err(status) => {
                    self.remember(key, 0, None);
                    return Err(unavailable(status));
                }
            }
        }
        Err(StoreError::Unavailable(format!("{key} was refused {TRIES_MAX} times")))
    }

    async fn due(&self, at: Timestamp, limit: usize) -> Result<Vec<PartitionKey>, StoreError> {
        // Only what names them: their documents are long, and are loaded when their turn comes.
        let query = self.db.fluent().select().fields(KEY).from(self.collection(PARTITIONS).as_str());
        let found = query
            .filter(|q| q.for_all([q.field("wake_at").less_than_or_equal(compared(instant(at)))]))
            .order(|o| o.fields([o.field("wake_at").asc()]))
            .limit(DUE_READ_MAX)
            .query()
            .await;
        let mut keys = Vec::new();
        for found in documents(found)? {
            match read_key(&found) {
                Ok(key) => keys.push(key),
                // Nobody can say which date it is; the others go on.
                Err(error) => tracing::error!("{error}"),
            }
        }
        keys.sort_by(|a: &PartitionKey, b| b.date.cmp(&a.date).then_with(|| a.pipeline.cmp(&b.pipeline)));
        keys.truncate(limit);
        Ok(keys)
    }

    async fn next_wake(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        let partitions = self.db.fluent().select().fields(["wake_at"]).from(self.collection(PARTITIONS).as_str());
        let outbox = self.db.fluent().select().fields(["due"]).from(self.collection(OUTBOX).as_str());
        let partitions = partitions.order(|o| o.fields([o.field("wake_at").asc()])).limit(1).query();
        let outbox = outbox
            .filter(|q| q.for_all([q.field("state").eq("waiting")]))
            .order(|o| o.fields([o.field("due").asc()]))
            .limit(1)
            .query();
        let (partitions, outbox) = tokio::join!(partitions, outbox);
        let first = |found: FirestoreResult<Vec<Document>>, field: &str| match documents(found)?.first() {
            Some(found) => found.maybe_instant(field),
            None => Ok(None),
        };
        Ok((first(partitions, "wake_at")?, first(outbox, "due")?))
    }

    async fn outbox(&self, at: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        // Latest dates first cannot be asked for together with "due by then": they are put in order here, out of more than are
        // asked for.
        let query = self.db.fluent().select().from(self.collection(OUTBOX).as_str());
        let due = compared(instant(at));
        let found = query
            .filter(|q| q.for_all([q.field("state").eq("waiting"), q.field("due").less_than_or_equal(due.clone())]))
            .order(|o| o.fields([o.field("due").asc()]))
            .limit(limited(limit.saturating_mul(OUTBOX_READ)))
            .query()
            .await;
        let mut found = documents(found)?;
        let order = |found: &Read| {
            let date = found.text("date").unwrap_or_default().to_owned();
            let decided = found.instant("decided_at").unwrap_or(Timestamp::MIN);
            (std::cmp::Reverse(date), decided, found.integer("number").unwrap_or(0))
        };
        found.sort_by_cached_key(order);
        let mut entries = Vec::new();
        for found in found {
            if entries.len() == limit {
                break;
            }
            match Self::read_outbox(&found) {
                Ok(entry) => {
                    self.saw(&entry.id, found.updated(), None);
                    entries.push(entry);
                }
                Err(error) => self.set_aside(&found, &error, at).await,
            }
        }
        Ok(entries)
    }

    fn shares(&self) -> bool {
        true
    }

    async fn claim(&self, entries: Vec<(OutboxEntry, Timestamp)>) -> Result<Vec<OutboxEntry>, StoreError> {
        self.claim_outbox(entries).await
    }

    async fn lease(&self, work: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.take_lease(work, now, until).await
    }

    async fn take(&self, what: &str, window: Timestamp, want: u32, most: u32) -> Result<u32, StoreError> {
        self.take_of(what, window, want, most).await
    }

    async fn settle(&self, id: &str, delivered: Delivered) -> Result<(), StoreError> {
        let name = self.name(OUTBOX, &document_id(id));
        self.change(OUTBOX, &document_id(id), |found| {
            let Some(found) = found else { return Ok(None) };
            if found.text("state")? == "sent" {
                return Ok(None);
            }
            let fields = match &delivered {
                Delivered::Sent { at } => vec![
                    ("state", text("sent")),
                    ("due", None),
                    ("settled_at", instant(*at)),
                    ("expire_at", instant(after(*at, self.settings.keep))),
                ],
                Delivered::Deferred { .. } if found.text("state")? != "waiting" => return Ok(None),
                Delivered::Deferred { until, error } => {
                    if found.maybe_instant("due")? == Some(*until) && found.integer("tries")? > 0 {
                        return Ok(None);
                    }
                    let tries = found.integer("tries")?.saturating_add(1);
                    vec![("due", instant(*until)), ("tries", integer(tries)), ("error", text(error))]
                }
                Delivered::Parked { reason } => {
                    vec![("state", text("parked")), ("due", None), ("reason", text(reason))]
                }
            };
            let only = found.updated().map_or(Only::IfThere, Only::IfUnchanged);
            Ok(Some(write(name.clone(), fields, only)))
        })
        .await
        .map(|_| ())
    }

    async fn undeliverable(&self, limit: usize) -> Result<Vec<(OutboxEntry, String)>, StoreError> {
        let query = self.db.fluent().select().from(self.collection(OUTBOX).as_str());
        let found = query
            .filter(|q| q.for_all([q.field("state").eq("parked")]))
            .order(|o| o.fields([o.field("decided_at").desc(), o.field("number").desc()]))
            .limit(limited(limit))
            .query()
            .await;
        // What cannot be read was told of by an alert when it was set aside.
        let readable = |found: &Read| Some((Self::read_outbox(found).ok()?, found.text("reason").ok()?.to_owned()));
        Ok(documents(found)?.iter().filter_map(readable).collect())
    }

    async fn park(&self, parked: Parked) -> Result<(), StoreError> {
        let again = |fingerprint: &str| {
            let name = self.name(PARKED, &document_id(fingerprint));
            let write = write(name, vec![("last_at", instant(parked.at))], Only::IfThere);
            transformed(write, "count", increment(1))
        };
        let new = |parked: &Parked| -> Result<Write, StoreError> {
            let fields = vec![
                ("last_at", instant(parked.at)),
                ("count", integer(1)),
                ("slug", text(&parked.slug)),
                ("topic", text(&parked.topic)),
                ("reason", text(&parked.reason)),
                ("head", bytes(parked.head.clone())),
                ("input", json(&Parked { count: 0, ..parked.clone() })?),
            ];
            Ok(write(self.name(PARKED, &document_id(&parked.fingerprint)), fields, Only::IfNew))
        };
        let mut parked = parked.clone();
        for tries in 1..=TRIES_MAX {
            // Most poison is a repetition.
            match self.apply(vec![again(&parked.fingerprint)]).await {
                Ok(_) => return Ok(()),
                Err(status) if is_refusal(&status) => {}
                Err(status) => return Err(unavailable(status)),
            }
            let kept = match self.get(CURSORS, PARKED).await? {
                Some(found) => found.integer("value")?,
                None => 0,
            };
            if kept >= PARKED_MAX {
                parked.fingerprint = "overflow".to_owned();
            }
            let counted =
                transformed(write(self.name(CURSORS, PARKED), Vec::new(), Only::Always), "value", increment(1));
            match self.apply(vec![new(&parked)?, counted]).await {
                Ok(_) => return Ok(()),
                Err(status) if is_refusal(&status) => pause(tries).await,
                Err(status) => return Err(unavailable(status)),
            }
        }
        Err(StoreError::Unavailable("the parked input was refused too often".to_owned()))
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>, StoreError> {
        let query = self.db.fluent().select().from(self.collection(PARKED).as_str());
        let found = query.order(|o| o.fields([o.field("last_at").desc()])).limit(limited(limit)).query().await;
        documents(found)?
            .iter()
            .map(|found| Ok(Parked { count: found.integer("count")?, ..found.json("input")? }))
            .collect()
    }

    async fn journal(
        &self,
        key: Option<&PartitionKey>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        let page = limit.saturating_add(SAME_INSTANT);
        let key = key.map(ToString::to_string);
        let query = self.db.fluent().select().from(self.collection(JOURNAL).as_str());
        let found = query
            .filter(|q| {
                let of_key = key.as_ref().and_then(|key| q.field("key").eq(key.as_str()));
                q.for_all([of_key, q.field("at").greater_than_or_equal(compared(instant(instant_of(after))))])
            })
            .order(|o| o.fields([o.field("at").asc()]))
            .limit(limited(page))
            .query()
            .await;
        let mut found: Vec<(u64, Read)> = documents(found)?
            .into_iter()
            .map(|found| Ok((number(&found)?, found)))
            .collect::<Result<_, StoreError>>()?;
        found.sort_by_key(|(seq, _)| *seq);
        let mut entries: Vec<JournalEntry> = Vec::new();
        for (seq, found) in found.into_iter().filter(|(seq, _)| *seq > after).take(limit) {
            match found.json::<JournalEntry>("entry") {
                Ok(entry) => entries.push(JournalEntry { seq, ..entry }),
                Err(_) if !entries.is_empty() => break,
                Err(StoreError::Corrupt { what, why }) => return Err(StoreError::BadEntry { seq, what, why }),
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    async fn dates(&self, pipeline: &PipelineId, limit: usize) -> Result<Vec<Date>, StoreError> {
        let query = self.db.fluent().select().fields(KEY).from(self.collection(PARTITIONS).as_str());
        let found = query
            .filter(|q| q.for_all([q.field("pipeline").eq(pipeline.as_str())]))
            .order(|o| o.fields([o.field("date").desc()]))
            .limit(limited(limit))
            .query()
            .await;
        documents(found)?.iter().map(|found| Ok(read_key(found)?.date)).collect()
    }

    async fn plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
        self.all_plans(pipeline).await
    }

    async fn put_plan(&self, plan: &Plan, expected: u64) -> Result<bool, StoreError> {
        self.store_plan(plan, expected).await
    }

    async fn release_lock(&self, key: &PartitionKey, node: &NodeId, _run: &RunId) -> Result<(), StoreError> {
        // A lock does not say whose it is; the old monitor deleted it by name as well.
        let names = self.settings.locks.get(&key.pipeline).and_then(|locks| locks.get(node)).into_iter().flatten();
        let locks = format!("{}/{LOCKS}", self.producers.get_documents_path());
        let delete = |processor: &String| Write {
            operation: Some(Operation::Delete(format!("{locks}/{processor}_{}", key.date))),
            ..Write::default()
        };
        let deletes: Vec<Write> = names.map(delete).collect();
        if deletes.is_empty() {
            return Ok(());
        }
        self.apply_in(&self.producers, deletes).await.map(|_| ()).map_err(unavailable)
    }

    async fn mark(&self, at: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let write = write(self.name(CURSORS, MARK), vec![("at", instant(at))], Only::Always);
        let written = self.apply(vec![write]).await.map_err(unavailable)?;
        Ok(written.commit_time.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()))
    }

    async fn marked(&self) -> Result<Option<Timestamp>, StoreError> {
        self.get(CURSORS, MARK).await?.map(|found| found.instant("at")).transpose()
    }

    async fn document(&self, name: &str) -> Result<(u64, Option<serde_json::Value>), StoreError> {
        match self.get(CURSORS, name).await? {
            Some(found) => Ok((found.integer("version")?, Some(found.json("document")?))),
            None => Ok((0, None)),
        }
    }

    async fn keep_document(&self, id: &str, expected: u64, document: &serde_json::Value) -> Result<bool, StoreError> {
        let name = self.name(CURSORS, id);
        let kept = json(document)?;
        let mut ours = false;
        self.change(CURSORS, id, |found| {
            let version = found.map_or(Ok(0), |found| found.integer("version"))?;
            ours = version == expected;
            if !ours {
                return Ok(None);
            }
            let only = found.map_or(Only::IfNew, |found| found.updated().map_or(Only::IfThere, Only::IfUnchanged));
            Ok(Some(write(name.clone(), vec![("version", integer(expected + 1)), ("document", kept.clone())], only)))
        })
        .await?;
        Ok(ours)
    }

    async fn letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
        self.read_letter(id).await
    }

    async fn letter_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
        self.read_content(id, version).await
    }

    async fn letters(
        &self,
        which: Letters,
        place: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError> {
        self.page_of_letters(which, place, limit).await
    }

    async fn keep_letter(&self, letter: &Letter, expected: u64, content: Option<Content>) -> Result<bool, StoreError> {
        self.store_letter(letter, expected, content).await
    }

    async fn trim_letters(&self, most: usize) -> Result<usize, StoreError> {
        self.trim(most).await
    }

    async fn exported(&self) -> Result<u64, StoreError> {
        match self.get(CURSORS, "exported").await? {
            Some(found) => found.integer("value"),
            None => Ok(0),
        }
    }

    async fn set_exported(&self, seq: u64) -> Result<(), StoreError> {
        let write = write(self.name(CURSORS, "exported"), Vec::new(), Only::Always);
        self.apply(vec![transformed(write, "value", at_least(seq))]).await.map(|_| ()).map_err(unavailable)
    }
}

fn read_key(found: &Read) -> Result<PartitionKey, StoreError> {
    let date = found.text("date")?.parse().map_err(|error: jiff::Error| found.wrong("date", &error.to_string()))?;
    Ok(PartitionKey::new(found.text("pipeline")?, date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_that_says_so_means_that_nothing_was_written() {
        let refused = [Code::AlreadyExists, Code::FailedPrecondition, Code::NotFound, Code::Aborted];
        for code in (0..=16).map(Code::from_i32) {
            // What is unknown is neither: it is looked up again before it is tried again.
            assert_eq!(is_refusal(&Status::new(code, "")), refused.contains(&code), "{code:?}");
        }
    }
}
