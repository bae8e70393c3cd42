//! Partitions, outbox, journal and parked inputs as rows.

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::{checksum, corrupt, get, instant, json, read_instant, read_json};
use super::{Embedded, alerts, bus, documents, letters, plans, warehouse};
use crate::crash::{self, Place};
use crate::domain::backfill::Plan;
use crate::domain::dead_letter::Letter;
use crate::domain::effect::{Effect, Severity};
use crate::domain::id::{LetterId, NodeId, PartitionKey, PipelineId, RunId};
use crate::domain::partition::Partition;
use crate::port::{
    Commit, Delivered, JournalEntry, Letters, OutboxEntry, PARKED_MAX, Parked, Store, StoreError, Stored,
};
use crate::wire::envelope::Content;

/// The layout of a partition's document in this version of the program.
const DOCUMENT: u32 = 1;
/// The fingerprint under which inputs are counted that there was no room for.
const OVERFLOW: &str = "overflow";
/// Where the export of the journal has got to.
const EXPORTED: &str = "exported";

/// When a service was last at work, in seconds.
const MARK: &str = "marked";
/// Bytes that a mark needs for a moment: a full disk still takes a row that is there already, and no commit.
const ROOM_OF_COMMIT: i32 = 64 * 1024;

/// What [`Embedded::prune`] deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Sent effects.
    pub outbox: usize,
    /// Exported journal entries.
    pub journal: usize,
    /// Settled deliveries.
    pub deliveries: usize,
    /// Messages that no delivery needs any more.
    pub messages: usize,
    /// Reports that were told anew since.
    pub reports: usize,
    /// Letters that nothing more is to be done about.
    pub letters: usize,
}

/// A processor's lock, as processors keep it to themselves for the time of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// Which partition.
    pub key: PartitionKey,
    /// Whose.
    pub node: NodeId,
    /// Which execution holds it.
    pub run: RunId,
}

/// The stored form of a partition.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    partition: &'a Partition,
}

/// Read first, because a later document may not have our fields at all.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

#[derive(Deserialize)]
struct ReadBack {
    partition: Partition,
}

#[async_trait]
impl Store for Embedded {
    async fn load(&self, key: &PartitionKey) -> Result<Stored, StoreError> {
        let key = key.clone();
        self.database.read(move |db| load(db, key)).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        // Written as JSON before it is queued, so that the one writer is left the rows only.
        let rows = Rows::of(&commit)?;
        let stored = self.database.write(move |db| {
            rows.store(db)?;
            crash::at(Place::CommitOpen);
            Ok(())
        });
        stored.await?;
        crash::at(Place::CommitUnanswered);
        Ok(())
    }

    async fn due(&self, at: Timestamp, limit: usize) -> Result<Vec<PartitionKey>, StoreError> {
        self.database
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "SELECT pipeline, date FROM partitions WHERE wake_at <= ?1 ORDER BY date DESC, pipeline LIMIT ?2",
                )?;
                let rows = query.query_and_then(params![instant(at), rows_max(limit)], |row| {
                    read_key(row, "the key of a partition")
                })?;
                rows.collect()
            })
            .await
    }

    async fn next_wake(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        self.database
            .read(|db| {
                let earliest = |sql: &str, what: &str| {
                    let text: Option<String> = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
                    text.map(|text| text.parse().map_err(|error: jiff::Error| corrupt(what, error.to_string())))
                        .transpose()
                };
                Ok((
                    earliest(
                        "SELECT min(wake_at) FROM partitions WHERE wake_at IS NOT NULL",
                        "the earliest wake_at of a partition",
                    )?,
                    earliest(
                        "SELECT min(not_before) FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL",
                        "the earliest not_before of an effect",
                    )?,
                ))
            })
            .await
    }

    async fn outbox(&self, at: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let (entries, spoilt) = self.database.read(move |db| outbox(db, at, limit)).await?;
        if !spoilt.is_empty() {
            // One bad row must not keep the others back; it goes where a person looks.
            self.database.write(move |db| set_aside(db, &spoilt, at)).await?;
        }
        Ok(entries)
    }

    async fn settle(&self, id: &str, delivered: Delivered) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.database.write(move |db| settle(db, &id, &delivered)).await
    }

    async fn undeliverable(&self, limit: usize) -> Result<Vec<(OutboxEntry, String)>, StoreError> {
        self.database
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "SELECT * FROM outbox WHERE parked_reason IS NOT NULL ORDER BY seq DESC LIMIT ?1",
                )?;
                let mut rows = query.query([rows_max(limit)])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    // An unreadable one is here as well; an alert names it, for its effect cannot be shown.
                    if let Ok(entry) = read_outbox(row) {
                        found.push((entry, get(row, "parked_reason", "a parked effect")?));
                    }
                }
                Ok(found)
            })
            .await
    }

    async fn park(&self, parked: Parked) -> Result<(), StoreError> {
        self.database.write(move |db| park(db, parked)).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>, StoreError> {
        self.database
            .read(move |db| {
                let mut query =
                    db.prepare_cached("SELECT * FROM parked ORDER BY last_at DESC, fingerprint LIMIT ?1")?;
                let rows = query.query_and_then([rows_max(limit)], |row| {
                    let fingerprint: String = get(row, "fingerprint", "a parked input")?;
                    let what = format!("parked/{fingerprint}");
                    let parked: Parked = read_json(&get::<String>(row, "input", &what)?, &what)?;
                    Ok(Parked { count: get::<i64>(row, "count", &what)?.unsigned_abs(), ..parked })
                })?;
                rows.collect()
            })
            .await
    }

    async fn journal(
        &self,
        key: Option<&PartitionKey>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        let key = key.cloned();
        self.database.read(move |db| journal(db, key.as_ref(), after, limit)).await
    }

    async fn dates(&self, pipeline: &PipelineId, limit: usize) -> Result<Vec<Date>, StoreError> {
        let pipeline = pipeline.clone();
        self.database
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "SELECT pipeline, date FROM partitions WHERE pipeline = ?1 ORDER BY date DESC LIMIT ?2",
                )?;
                let rows = query.query_and_then(params![pipeline.as_str(), rows_max(limit)], |row| {
                    Ok(read_key(row, "the key of a partition")?.date)
                })?;
                rows.collect()
            })
            .await
    }

    async fn plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
        let pipeline = pipeline.clone();
        self.database.read(move |db| plans::all(db, &pipeline)).await
    }

    async fn put_plan(&self, plan: &Plan, expected: u64) -> Result<bool, StoreError> {
        let row = plans::Row::of(plan, expected)?;
        self.database.write(move |db| row.store(db)).await
    }

    async fn release_lock(&self, key: &PartitionKey, node: &NodeId, run: &RunId) -> Result<(), StoreError> {
        let name = lock_name(key, node);
        let run = run.clone();
        self.database
            .write(move |db| {
                // The run is compared: a lock that a later run has taken is not ours to release.
                db.prepare_cached("DELETE FROM processing_locks WHERE name = ?1 AND run = ?2")?
                    .execute([&name, run.as_str()])?;
                Ok(())
            })
            .await
    }

    async fn take(&self, what: &str, window: Timestamp, want: u32, most: u32) -> Result<u32, StoreError> {
        let (kind, name) = (format!("taken:{what}:"), format!("taken:{what}:{window}"));
        self.database
            .write(move |db| {
                let taken: Option<i64> = db
                    .prepare_cached("SELECT value FROM cursors WHERE name = ?1")?
                    .query_row([&name], |row| row.get(0))
                    .optional()?;
                if taken.is_none() {
                    let others = "DELETE FROM cursors WHERE substr(name, 1, length(?1)) = ?1";
                    db.prepare_cached(others)?.execute([&kind])?;
                }
                let taken = u32::try_from(taken.unwrap_or(0)).unwrap_or(u32::MAX);
                let ours = want.min(most.saturating_sub(taken));
                db.prepare_cached(
                    "INSERT INTO cursors (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                )?
                .execute(params![name, i64::from(taken) + i64::from(ours)])?;
                Ok(ours)
            })
            .await
    }

    async fn mark(&self, at: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.database.write(move |db| mark(db, at)).await?;
        Ok(None)
    }

    async fn look_anew(&self, now: Timestamp) -> Result<(), StoreError> {
        self.database
            .write(move |db| {
                for waiting in [
                    "UPDATE outbox SET not_before = ?1 WHERE not_before > ?1 AND sent_at IS NULL AND parked_reason IS NULL",
                    // Whoever has it leased may have it twice, under one id.
                    "UPDATE deliveries SET not_before = ?1 WHERE not_before > ?1 AND settled_at IS NULL",
                ] {
                    db.prepare_cached(waiting)?.execute([instant(now)])?;
                }
                db.prepare_cached("UPDATE cursors SET value = ?2 WHERE name = ?1 AND value > ?2")?
                    .execute(params![MARK, now.as_second()])?;
                Ok(())
            })
            .await
    }

    async fn marked(&self) -> Result<Option<Timestamp>, StoreError> {
        self.database
            .read(|db| {
                let second: Option<i64> = db
                    .prepare_cached("SELECT value FROM cursors WHERE name = ?1")?
                    .query_row([MARK], |row| row.get(0))
                    .optional()?;
                second
                    .map(|second| {
                        Timestamp::from_second(second).map_err(|error| corrupt("the mark", error.to_string()))
                    })
                    .transpose()
            })
            .await
    }

    async fn document(&self, name: &str) -> Result<(u64, Option<Value>), StoreError> {
        let name = name.to_owned();
        self.database.read(move |db| documents::read(db, &name)).await
    }

    async fn keep_document(&self, name: &str, expected: u64, document: &Value) -> Result<bool, StoreError> {
        let (name, document) = (name.to_owned(), document.clone());
        self.database.write(move |db| documents::keep(db, &name, expected, &document)).await
    }

    async fn letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
        let id = id.clone();
        self.database.read(move |db| letters::read(db, &id)).await
    }

    async fn letter_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
        let id = id.clone();
        self.database.read(move |db| letters::content(db, &id, version)).await
    }

    async fn letters(
        &self,
        which: Letters,
        place: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError> {
        let place = place.map(str::to_owned);
        self.database.read(move |db| letters::page(db, which, place.as_deref(), limit)).await
    }

    async fn keep_letter(&self, letter: &Letter, expected: u64, content: Option<Content>) -> Result<bool, StoreError> {
        let written = letters::Written::of(letter, expected, content)?;
        self.database.write(move |db| written.store(db)).await
    }

    async fn trim_letters(&self, most: usize) -> Result<usize, StoreError> {
        self.database.write(move |db| letters::trim(db, most)).await
    }

    async fn exported(&self) -> Result<u64, StoreError> {
        self.database.read(|db| Ok(exported(db)?.unsigned_abs())).await
    }

    async fn set_exported(&self, seq: u64) -> Result<(), StoreError> {
        self.database
            .write(move |db| {
                db.prepare_cached(
                    "INSERT INTO cursors (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                )?
                .execute(params![EXPORTED, integer(seq)])?;
                Ok(())
            })
            .await
    }
}

impl Embedded {
    /// Takes a processor's lock as a run of it would, for scenarios. Whether it was free.
    pub async fn take_lock(&self, lock: Lock, at: Timestamp) -> Result<bool, StoreError> {
        self.database
            .write(move |db| {
                let taken = db
                    .prepare_cached(
                        "INSERT INTO processing_locks (name, pipeline, date, node, run, taken_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING",
                    )?
                    .execute(params![
                        lock_name(&lock.key, &lock.node),
                        lock.key.pipeline.as_str(),
                        lock.key.date.to_string(),
                        lock.node.as_str(),
                        lock.run.as_str(),
                        instant(at),
                    ])?;
                Ok(taken == 1)
            })
            .await
    }

    /// The locks that are held, by name.
    pub async fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        self.database
            .read(|db| {
                let mut query = db.prepare_cached("SELECT * FROM processing_locks ORDER BY name")?;
                let rows = query.query_and_then([], |row| {
                    let what = "a processor's lock";
                    Ok(Lock {
                        key: read_key(row, what)?,
                        node: get::<String>(row, "node", what)?.as_str().into(),
                        run: get::<String>(row, "run", what)?.as_str().into(),
                    })
                })?;
                rows.collect()
            })
            .await
    }
}

/// A commit as the texts that are stored.
struct Rows {
    key: PartitionKey,
    expected: i64,
    wake_at: Option<String>,
    document: String,
    checksum: String,
    at: String,
    outbox: Vec<OutboxRow>,
    entry: Option<String>,
}

struct OutboxRow {
    id: String,
    key: PartitionKey,
    kind: &'static str,
    effect: String,
    decided_at: String,
    tries: u32,
}

impl Rows {
    fn of(commit: &Commit) -> Result<Self, StoreError> {
        let key = commit.partition.key.clone();
        let expected = integer(commit.expected_version);
        let wake_at = commit.wake_at.map(instant);
        let document = json(&Written { schema: DOCUMENT, partition: &commit.partition })?;
        let outbox = commit.outbox.iter().map(|entry| {
            Ok(OutboxRow {
                id: entry.id.clone(),
                key: entry.key.clone(),
                kind: kind(&entry.effect),
                effect: json(&entry.effect)?,
                decided_at: instant(entry.decided_at),
                tries: entry.tries,
            })
        });
        Ok(Self {
            checksum: partition_checksum(&key, expected + 1, wake_at.as_deref(), &document),
            expected,
            wake_at,
            document,
            at: instant(commit.partition.decided_at),
            outbox: outbox.collect::<Result<_, StoreError>>()?,
            entry: commit.journal.as_ref().map(json).transpose()?,
            key,
        })
    }

    fn store(self, db: &Connection) -> Result<(), StoreError> {
        let version = self.expected + 1;
        let date = self.key.date.to_string();
        let sql = if self.expected == 0 {
            "INSERT INTO partitions (pipeline, date, version, wake_at, document, checksum, updated_at)
             VALUES (:pipeline, :date, :expected + 1, :wake_at, :document, :checksum, :at)
             ON CONFLICT (pipeline, date) DO NOTHING"
        } else {
            "UPDATE partitions SET version = :expected + 1, wake_at = :wake_at, document = :document,
               checksum = :checksum, updated_at = :at
             WHERE pipeline = :pipeline AND date = :date AND version = :expected"
        };
        let touched = db.prepare_cached(sql)?.execute(named_params! {
            ":pipeline": self.key.pipeline.as_str(),
            ":date": date,
            ":expected": self.expected,
            ":wake_at": self.wake_at,
            ":document": self.document,
            ":checksum": self.checksum,
            ":at": self.at,
        })?;
        if touched == 0 {
            return Err(StoreError::Conflict(self.key));
        }
        for row in &self.outbox {
            row.store(db)?;
        }
        let Some(entry) = &self.entry else { return Ok(()) };
        db.prepare_cached(
            "INSERT INTO journal (pipeline, date, version, at, entry, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            self.key.pipeline.as_str(),
            date,
            version,
            self.at,
            entry,
            journal_checksum(&self.key, version, entry),
        ])?;
        Ok(())
    }
}

impl OutboxRow {
    fn store(&self, db: &Connection) -> Result<(), StoreError> {
        db.prepare_cached(
            "INSERT INTO outbox (id, pipeline, date, kind, effect, checksum, decided_at, tries, not_before)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            self.id,
            self.key.pipeline.as_str(),
            self.key.date.to_string(),
            self.kind,
            self.effect,
            outbox_checksum(&self.id, &self.key, &self.effect, &self.decided_at),
            self.decided_at,
            self.tries,
        ])?;
        Ok(())
    }
}

fn mark(db: &Connection, at: Timestamp) -> Result<(), StoreError> {
    // Nobody sees it: it is gone again in the same transaction.
    db.prepare_cached("INSERT INTO parked VALUES (?1, '', '', 0, zeroblob(?2))")?
        .execute(params![MARK, ROOM_OF_COMMIT])?;
    db.prepare_cached("DELETE FROM parked WHERE fingerprint = ?1")?.execute([MARK])?;
    db.prepare_cached(
        "INSERT INTO cursors (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
    )?
    .execute(params![MARK, at.as_second()])?;
    Ok(())
}

/// Reads everything that decides: every date, every effect, every decision.
///
/// # Errors
/// The first that cannot be trusted.
pub(super) fn load_all(db: &Connection) -> Result<(), StoreError> {
    let mut keys = db.prepare("SELECT pipeline, date FROM partitions")?;
    let keys = keys.query_map([], |row| Ok(read_key(row, "a partition")))?;
    for key in keys {
        load(db, key??)?;
    }
    let mut effects = db.prepare("SELECT * FROM outbox")?;
    let mut rows = effects.query([])?;
    while let Some(row) = rows.next()? {
        read_outbox(row)?;
    }
    let mut entries = db.prepare("SELECT * FROM journal")?;
    let mut rows = entries.query([])?;
    while let Some(row) = rows.next()? {
        read_journal(row)?;
    }
    Ok(())
}

fn load(db: &Connection, key: PartitionKey) -> Result<Stored, StoreError> {
    let what = format!("partitions/{key}");
    let mut query = db.prepare_cached("SELECT * FROM partitions WHERE pipeline = ?1 AND date = ?2")?;
    let mut rows = query.query([key.pipeline.as_str(), &key.date.to_string()])?;
    let Some(row) = rows.next()? else {
        return Ok(Stored { partition: Partition::new(key).into(), version: 0, wake_at: None });
    };
    let version: i64 = get(row, "version", &what)?;
    let document: String = get(row, "document", &what)?;
    let wake_at: Option<String> = get(row, "wake_at", &what)?;
    let stored: String = get(row, "checksum", &what)?;
    if stored != partition_checksum(&key, version, wake_at.as_deref(), &document) {
        return Err(corrupt(&what, "its checksum does not match".into()));
    }
    let Schema { schema } = read_json(&document, &what)?;
    if schema != DOCUMENT {
        let why = format!("it has schema {schema}, and this version of tipoff reads {DOCUMENT}");
        return Err(corrupt(&what, why));
    }
    let ReadBack { partition } = read_json(&document, &what)?;
    if partition.key != key {
        return Err(corrupt(&what, format!("its document is that of {}", partition.key)));
    }
    let wake_at =
        wake_at.map(|at| at.parse()).transpose().map_err(|_| corrupt(&what, "its wake_at is no instant".into()))?;
    Ok(Stored { partition: partition.into(), version: version.unsigned_abs(), wake_at })
}

/// An effect that cannot be trusted: its row, and why.
struct Spoilt {
    seq: i64,
    id: String,
    why: String,
}

fn outbox(db: &Connection, at: Timestamp, limit: usize) -> Result<(Vec<OutboxEntry>, Vec<Spoilt>), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT * FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL AND not_before <= ?1
         ORDER BY date DESC, seq LIMIT ?2",
    )?;
    let mut rows = query.query(params![instant(at), rows_max(limit)])?;
    let (mut entries, mut spoilt) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match read_outbox(row) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                let seq: i64 = row.get("seq")?;
                let id = row.get("id").unwrap_or_else(|_| format!("seq {seq}"));
                spoilt.push(Spoilt { seq, id, why: error.to_string() });
            }
        }
    }
    Ok((entries, spoilt))
}

fn set_aside(db: &Connection, spoilt: &[Spoilt], at: Timestamp) -> Result<(), StoreError> {
    for Spoilt { seq, id, why } in spoilt {
        db.prepare_cached("UPDATE outbox SET parked_reason = ?2 WHERE seq = ?1")?.execute(params![seq, why])?;
        let text = format!("{why}; it is not delivered, and a person has to decide what it was");
        alerts::raise(db, &format!("store/outbox/{id}"), Severity::Critical, &text, at)?;
    }
    Ok(())
}

fn settle(db: &Connection, id: &str, delivered: &Delivered) -> Result<(), StoreError> {
    match delivered {
        // What has been accepted stays so, whatever is said later.
        Delivered::Sent { at } => db
            .prepare_cached(
                "UPDATE outbox SET sent_at = ?2, error = NULL, parked_reason = NULL WHERE id = ?1 AND sent_at IS NULL",
            )?
            .execute(params![id, instant(*at)])?,
        // The same deferral told twice is one try.
        Delivered::Deferred { until, error } => db
            .prepare_cached(
                "UPDATE outbox SET tries = tries + 1, not_before = ?2, error = ?3
                 WHERE id = ?1 AND sent_at IS NULL AND parked_reason IS NULL
                   AND NOT (not_before = ?2 AND error IS ?3)",
            )?
            .execute(params![id, instant(*until), error])?,
        Delivered::Parked { reason } => db
            .prepare_cached(
                "UPDATE outbox SET parked_reason = ?2 WHERE id = ?1 AND sent_at IS NULL AND parked_reason IS NULL",
            )?
            .execute([id, reason])?,
    };
    Ok(())
}

fn park(db: &Connection, parked: Parked) -> Result<(), StoreError> {
    let at = instant(parked.at);
    let count = |fingerprint: &str| {
        db.prepare_cached("UPDATE parked SET count = count + 1, last_at = max(last_at, ?2) WHERE fingerprint = ?1")?
            .execute([fingerprint, &at])
    };
    if count(&parked.fingerprint)? == 1 {
        return Ok(());
    }
    let kept: i64 = db
        .prepare_cached("SELECT count(*) FROM parked WHERE fingerprint <> ?1")?
        .query_row([OVERFLOW], |row| row.get(0))?;
    let kept = if kept.unsigned_abs() < PARKED_MAX {
        Parked { count: 1, ..parked }
    } else {
        if count(OVERFLOW)? == 1 {
            return Ok(());
        }
        Parked {
            fingerprint: OVERFLOW.into(),
            slug: OVERFLOW.into(),
            reason: format!("{PARKED_MAX} different inputs are parked; further ones are only counted here"),
            head: Vec::new(),
            count: 1,
            ..parked
        }
    };
    db.prepare_cached("INSERT INTO parked (fingerprint, at, last_at, count, input) VALUES (?1, ?2, ?2, 1, ?3)")?
        .execute(params![kept.fingerprint, at, json(&kept)?])?;
    Ok(())
}

fn journal(
    db: &Connection,
    key: Option<&PartitionKey>,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalEntry>, StoreError> {
    let mut entries = Vec::new();
    let mut add = |row: &Row<'_>| match read_journal(row) {
        Ok(entry) => {
            entries.push(entry);
            Ok(true)
        }
        // What stands before a bad entry is still told; asked again from there, the bad one is the answer.
        Err(_) if !entries.is_empty() => Ok(false),
        Err(StoreError::Corrupt { what, why }) => {
            let seq: i64 = row.get("seq")?;
            Err(StoreError::BadEntry { seq: seq.unsigned_abs(), what, why })
        }
        Err(error) => Err(error),
    };
    let (after, limit) = (integer(after), rows_max(limit));
    match key {
        Some(key) => {
            let mut query = db.prepare_cached(
                "SELECT * FROM journal WHERE pipeline = ?1 AND date = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4",
            )?;
            let mut rows = query.query(params![key.pipeline.as_str(), key.date.to_string(), after, limit])?;
            while let Some(row) = rows.next()?
                && add(row)?
            {}
        }
        None => {
            let mut query = db.prepare_cached("SELECT * FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
            let mut rows = query.query(params![after, limit])?;
            while let Some(row) = rows.next()?
                && add(row)?
            {}
        }
    }
    Ok(entries)
}

fn exported(db: &Connection) -> Result<i64, StoreError> {
    let seq = db
        .prepare_cached("SELECT value FROM cursors WHERE name = ?1")?
        .query_row([EXPORTED], |row| row.get(0))
        .optional()?;
    Ok(seq.unwrap_or(0))
}

/// See [`Embedded::prune`].
pub(super) fn prune(db: &Connection, before: Timestamp) -> Result<Pruned, StoreError> {
    let before = instant(before);
    let outbox = db.prepare_cached("DELETE FROM outbox WHERE sent_at < ?1")?.execute([&before])?;
    let journal = db
        .prepare_cached("DELETE FROM journal WHERE at < ?1 AND seq <= ?2")?
        .execute(params![before, exported(db)?])?;
    let (deliveries, messages) = bus::prune(db, &before)?;
    let reports = warehouse::prune(db, &before)?;
    let letters = letters::prune(db, &before)?;
    Ok(Pruned { outbox, journal, deliveries, messages, reports, letters })
}

fn read_key(row: &Row<'_>, what: &str) -> Result<PartitionKey, StoreError> {
    let pipeline: String = get(row, "pipeline", what)?;
    let date: String = get(row, "date", what)?;
    let date = date.parse().map_err(|error| corrupt(what, format!("date `{date}`: {error}")))?;
    Ok(PartitionKey::new(pipeline.as_str(), date))
}

fn read_outbox(row: &Row<'_>) -> Result<OutboxEntry, StoreError> {
    let id: String = get(row, "id", "an effect")?;
    let what = format!("outbox/{id}");
    let key = read_key(row, &what)?;
    let effect: String = get(row, "effect", &what)?;
    let decided_at: String = get(row, "decided_at", &what)?;
    let stored: String = get(row, "checksum", &what)?;
    if stored != outbox_checksum(&id, &key, &effect, &decided_at) {
        return Err(corrupt(&what, "its checksum does not match".into()));
    }
    Ok(OutboxEntry {
        effect: read_json(&effect, &what)?,
        decided_at: read_instant(row, "decided_at", &what)?,
        tries: get(row, "tries", &what)?,
        id,
        key,
    })
}

fn read_journal(row: &Row<'_>) -> Result<JournalEntry, StoreError> {
    let seq: i64 = get(row, "seq", "a journal entry")?;
    let what = format!("journal/{seq}");
    let key = read_key(row, &what)?;
    let version: i64 = get(row, "version", &what)?;
    let text: String = get(row, "entry", &what)?;
    let stored: String = get(row, "checksum", &what)?;
    if stored != journal_checksum(&key, version, &text) {
        return Err(corrupt(&what, "its checksum does not match".into()));
    }
    let entry: JournalEntry = read_json(&text, &what)?;
    Ok(JournalEntry { seq: seq.unsigned_abs(), ..entry })
}

fn partition_checksum(key: &PartitionKey, version: i64, wake_at: Option<&str>, document: &str) -> String {
    checksum(&[&key.to_string(), &version.to_string(), wake_at.unwrap_or_default(), document])
}

fn outbox_checksum(id: &str, key: &PartitionKey, effect: &str, decided_at: &str) -> String {
    checksum(&[id, &key.to_string(), effect, decided_at])
}

fn journal_checksum(key: &PartitionKey, version: i64, entry: &str) -> String {
    checksum(&[&key.to_string(), &version.to_string(), entry])
}

fn lock_name(key: &PartitionKey, node: &NodeId) -> String {
    format!("{key}/{node}")
}

/// The word for an effect, for whoever reads the table.
fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Dispatch(_) => "dispatch",
        Effect::Close(_) => "close",
        Effect::Alert(_) => "alert",
        Effect::Observe { .. } => "observe",
        Effect::Check { .. } => "check",
        Effect::ReleaseLock { .. } => "release_lock",
        Effect::NotifyPartition { .. } => "notify_partition",
    }
}

/// A number as SQLite keeps it. Counters of ours do not reach the bound.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A page's size as SQLite takes it.
pub(super) fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
