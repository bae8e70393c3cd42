//! What earlier versions have stored is read, and nothing of it is lost when it is stored again.
//!
//! A rolling deploy has two versions on one store, and a restore brings an old one back. `embedded-N.sql` is a database with
//! layout N as a version of that layout wrote it, with a row for every shape of document. Such a file is written once and
//! stays; a new layout, or a new kind of document, gets a file of its own beside it, as `documents.json`.

#[path = "../support/emulator.rs"]
mod emulator;
mod firestore;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::domain::backfill::Plan;
use tipoff::domain::dead_letter::Letter;
use tipoff::domain::effect::Effect;
use tipoff::domain::id::PartitionKey;
use tipoff::domain::notify::Ledger;
use tipoff::domain::once::Calls;
use tipoff::domain::partition::{Partition, State};
use tipoff::domain::shadow::Role;
use tipoff::domain::stop::Stops;
use tipoff::pipeline::in_force::{InForce, Replicas};
use tipoff::port::{Document, JournalEntry, Letters, Parked, Store};

/// The files, and the texts in them as they were written, by table.
type Texts = BTreeMap<&'static str, Vec<Value>>;

const TABLES: [(&str, &str); 8] = [
    ("partitions", "document"),
    ("outbox", "effect"),
    ("journal", "entry"),
    ("letters", "letter"),
    ("plans", "document"),
    ("documents", "document"),
    ("parked", "input"),
    ("alerts", "about"),
];

/// Every database there is, opened by this version, with its texts as they were.
fn databases() -> Vec<(String, tempfile::TempDir, Texts)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "sql") {
            let home = tempfile::tempdir().unwrap();
            let database = rusqlite::Connection::open(home.path().join("tipoff.db")).unwrap();
            database.execute_batch(&std::fs::read_to_string(&file).unwrap()).unwrap();
            let of_table = |(table, column): (&'static str, &str)| {
                let mut query = database.prepare(&format!("SELECT {column} FROM {table}")).unwrap();
                let texts = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
                (table, texts.map(|text| serde_json::from_str(&text.unwrap()).unwrap()).collect())
            };
            let texts = TABLES.into_iter().map(of_table).collect();
            found.push((file.display().to_string(), home, texts));
        }
    }
    assert!(!found.is_empty(), "there is nothing to look at");
    found
}

/// What `was` says and `is` does not, by its path. Something new may stand beside what was there.
fn lost(was: &Value, is: &Value, path: &str, found: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            for (key, value) in was {
                lost(value, is.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            was.iter().zip(is).enumerate().for_each(|(at, (was, is))| lost(was, is, &format!("{path}[{at}]"), found));
        }
        (was, is) if was == is => {}
        // Nothing said in other words: an empty list, or none.
        (was, Value::Null) if was.as_array().is_some_and(Vec::is_empty) => {}
        (was, is) => found.push(format!("{path} was {was} and is {is}")),
    }
}

/// Reads a text, writes it again and reads that.
fn survives<T: DeserializeOwned + Serialize + PartialEq + Debug>(what: &str, text: &Value) -> T {
    let read: T = serde_json::from_value(text.clone()).unwrap_or_else(|error| panic!("{what}: {error}: {text}"));
    let written = serde_json::to_value(&read).unwrap();
    let mut missing = Vec::new();
    lost(text, &written, "", &mut missing);
    assert!(missing.is_empty(), "{what} loses\n{}", missing.join("\n"));
    assert_eq!(serde_json::from_value::<T>(written).unwrap(), read, "{what} means something else");
    read
}

#[test]
fn every_document_is_read_and_loses_nothing() {
    for (file, _home, texts) in databases() {
        for (table, all) in &texts {
            assert!(!all.is_empty(), "{file}: nothing in {table}");
            for (number, text) in all.iter().enumerate() {
                let what = format!("{file}: {table} {number}");
                match *table {
                    // The partition lies in an envelope with its version.
                    "partitions" => drop(survives::<Partition>(&what, &text["partition"])),
                    "outbox" => drop(survives::<Effect>(&what, text)),
                    "journal" => drop(survives::<JournalEntry>(&what, text)),
                    "letters" => drop(survives::<Letter>(&what, text)),
                    "plans" => drop(survives::<Plan>(&what, text)),
                    "parked" => drop(survives::<Parked>(&what, text)),
                    _ => {}
                }
            }
        }
    }
}

/// Documents that came after the database was written, each under the name by which it is kept.
#[test]
fn what_replicas_tell_each_other_is_read_and_loses_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/documents.json");
    let texts: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    fn read<D: Document + PartialEq + Debug>(texts: &Value) -> D {
        survives(D::NAME, &texts[D::NAME])
    }
    let in_force: InForce = read(&texts);
    assert!(in_force.texts.is_some() && in_force.applied.len() == 1, "{in_force:?}");
    assert_eq!(read::<Replicas>(&texts).0.len(), 1);
    assert!(read::<Role>(&texts).sends("export") && !read::<Role>(&texts).sends("analytics"));
}

fn words(texts: &[Value], key: &str, into: &mut BTreeSet<String>) {
    for text in texts {
        match text {
            Value::Object(members) => {
                into.extend(members.get(key).and_then(Value::as_str).map(str::to_owned));
                words(&members.values().cloned().collect::<Vec<_>>(), key, into);
            }
            Value::Array(items) => words(items, key, into),
            _ => {}
        }
    }
}

/// A file that shows half of what is stored would prove half.
#[test]
fn every_kind_of_effect_event_and_state_is_there() {
    let all = |key| {
        let mut found = BTreeSet::new();
        for (_, _, texts) in databases() {
            texts.values().for_each(|texts| words(texts, key, &mut found));
        }
        found
    };
    let effects = all("effect");
    for effect in ["dispatch", "alert", "observe", "check", "release_lock", "close", "notify_partition"] {
        assert!(effects.contains(effect), "no {effect} among {effects:?}");
    }
    let events = all("event");
    for event in [
        "completed",
        "heartbeat",
        "observed",
        "checked",
        "scheduled",
        "upstream_settled",
        "requested",
        "noted",
        "delivery",
        "foretold",
    ] {
        assert!(events.contains(event), "no {event} among {events:?}");
    }
    let states = all("state");
    for state in State::NAMES {
        // Who waits has nothing to be stored but that.
        assert!(states.contains(state), "no node is {state} among {states:?}");
    }
}

async fn kept<D: Document>(store: &dyn Store) {
    let (version, document) = store.kept::<D>().await.unwrap();
    assert!(version > 0, "{} is not there", D::NAME);
    let before = serde_json::to_value(&document).unwrap();
    assert!(store.keep(version, &document).await.unwrap(), "{}", D::NAME);
    assert_eq!(serde_json::to_value(store.kept::<D>().await.unwrap().1).unwrap(), before);
}

#[tokio::test]
async fn this_version_opens_the_database_and_finds_everything() {
    let far: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    for (file, home, texts) in databases() {
        let embedded = Arc::new(Embedded::open(home.path(), Durability::Full).unwrap());
        let store: &dyn Store = &*embedded;
        for text in &texts["partitions"] {
            let key: PartitionKey = serde_json::from_value(text["partition"]["key"].clone()).unwrap();
            let stored = store.load(&key).await.unwrap_or_else(|error| panic!("{file}: {key}: {error}"));
            assert!(stored.version > 0, "{file}: {key}");
            let mut missing = Vec::new();
            lost(&text["partition"], &serde_json::to_value(&stored.partition).unwrap(), "", &mut missing);
            assert!(missing.is_empty(), "{file}: {key}: {missing:?}");
        }
        let entries = store.journal(None, 0, 10_000).await.unwrap();
        assert_eq!(entries.len(), texts["journal"].len(), "{file}");
        let letters = store.letters(Letters::All, None, 100).await.unwrap();
        assert_eq!(letters.len(), texts["letters"].len(), "{file}");
        for (letter, _) in letters {
            assert!(store.letter_content(&letter.id, 0).await.unwrap().is_some(), "{file}: {}", letter.id);
        }
        let mut plans = 0;
        for pipeline in ["nba", "mlb"] {
            plans += store.plans(&pipeline.into()).await.unwrap().len();
        }
        assert_eq!(plans, texts["plans"].len(), "{file}");
        assert_eq!(store.parked(100).await.unwrap().len(), texts["parked"].len(), "{file}");
        let waiting = store.outbox(far, 1_000).await.unwrap();
        assert_eq!(waiting.len(), texts["outbox"].len(), "{file}: {:?}", store.undeliverable(100).await.unwrap());
        kept::<Ledger>(store).await;
        kept::<Calls>(store).await;
        kept::<Stops>(store).await;
    }
}
