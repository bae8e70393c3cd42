//! The Firestore adapter on Google's emulator: the contract, and what only documents can meet with.

use std::sync::Arc;

use firestore::{FirestoreDb, FirestoreDbOptions, FirestoreWritePrecondition};
use serde_json::{Value, json};
use tipoff::adapter::firestore::{Firestore, Settings};
use tipoff::adapter::google::emulator_credentials;
use tipoff::domain::partition::Partition;
use tipoff::port::{Commit, Store as _, StoreError};

use super::store::{decide, key, next, waiting};
use super::{emulator, second, store};

/// The same database to us and to somebody who looks at its documents.
pub async fn connect(emulator: &emulator::Emulator, project: &str) -> (Firestore, FirestoreDb) {
    let settings = Settings { emulator: Some(emulator.address.clone()), ..Settings::new(project) };
    let ours = Firestore::connect(settings).await.unwrap();
    let options = FirestoreDbOptions::new(project.to_owned());
    let options = options.with_firebase_api_url(format!("http://{}", emulator.address));
    (ours, FirestoreDb::with_options_auth(options, emulator_credentials()).await.unwrap())
}

/// Lays fields over a document, as somebody in the console would.
async fn lay(db: &FirestoreDb, collection: &str, id: &str, fields: Value) {
    let names: Vec<String> = fields.as_object().unwrap().keys().cloned().collect();
    db.fluent()
        .update()
        .fields(names)
        .in_col(collection)
        .precondition(FirestoreWritePrecondition::Exists(true))
        .document_id(id)
        .object(&fields)
        .execute::<()>()
        .await
        .unwrap();
}

async fn ids(db: &FirestoreDb, collection: &str) -> Vec<String> {
    let found = db.fluent().select().from(collection).query().await.unwrap();
    found.iter().map(|document| document.name.rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_the_emulator() {
    let Some(emulator) = emulator::firestore() else { return };
    let (ours, _) = connect(&emulator, "contract").await;
    store::contract(Arc::new(ours)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_larger_than_a_document_is_kept() {
    let Some(emulator) = emulator::firestore() else { return };
    let (ours, _) = connect(&emulator, "large").await;
    let key = key("nba", "2026-01-22");
    let commit = next(ours.load(&key).await.unwrap(), second(1));
    let asked = (0..40_000).map(|node| (format!("node_{node}").as_str().into(), second(node))).collect();
    let large = Arc::new(Partition { asked, ..Partition::clone(&commit.partition) });
    assert!(serde_json::to_string(&large).unwrap().len() > 1_048_576, "this would fit into a document");
    ours.commit(Commit { partition: large.clone(), ..commit }).await.unwrap();
    assert_eq!(ours.load(&key).await.unwrap().partition, large);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_others_stay_and_what_is_old_expires() {
    let Some(emulator) = emulator::firestore() else { return };
    let (ours, theirs) = connect(&emulator, "fields").await;
    let key = key("nba", "2026-01-22");
    decide(&ours, &key, &["one"], second(1)).await;
    let id = ids(&theirs, "tipoff_partitions").await.remove(0);
    lay(&theirs, "tipoff_partitions", &id, json!({ "added_by_a_later_version": "kept" })).await;
    // Their write is no decision, so it does not make ours fail.
    decide(&ours, &key, &[], second(2)).await;
    assert_eq!(ours.load(&key).await.unwrap().version, 2);

    let document = theirs.fluent().select().by_id_in("tipoff_partitions").one(&id).await.unwrap().unwrap();
    assert!(document.fields.contains_key("added_by_a_later_version"), "{:?}", document.fields.keys());
    let expires = |collection: &'static str| {
        let theirs = theirs.clone();
        async move {
            let found = theirs.fluent().select().from(collection).query().await.unwrap();
            let instant = |value: &gcloud_sdk::google::firestore::v1::Value| {
                matches!(value.value_type, Some(gcloud_sdk::google::firestore::v1::value::ValueType::TimestampValue(_)))
            };
            found.iter().filter(|document| document.fields.get("expire_at").is_some_and(instant)).count()
        }
    };
    assert_eq!(expires("tipoff_partitions").await, 1);
    assert_eq!(expires("tipoff_journal").await, 2);
    // What is still to be delivered does not.
    assert_eq!(expires("tipoff_outbox").await, 0);
    ours.settle("one", tipoff::port::Delivered::Sent { at: second(3) }).await.unwrap();
    assert_eq!(expires("tipoff_outbox").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_keeps_nobody_back() {
    let Some(emulator) = emulator::firestore() else { return };
    let (ours, theirs) = connect(&emulator, "damage").await;
    let key = key("nba", "2026-01-22");
    for turn in 0..3 {
        decide(&ours, &key, &[format!("effect-{turn}").as_str()], second(turn)).await;
    }
    // An effect is set aside with an alert.
    lay(&theirs, "tipoff_outbox", "effect-1", json!({ "entry": "{" })).await;
    assert_eq!(waiting(&ours, second(9)).await, ["effect-0", "effect-2"]);
    let alerts = ours.alerts_on().await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.key.as_str()).collect::<Vec<_>>(), ["store/outbox/effect-1"]);
    assert_eq!(waiting(&ours, second(9)).await, ["effect-0", "effect-2"]);

    // A journal entry is told when it is reached, with the place after which the others are.
    let mut entries = ids(&theirs, "tipoff_journal").await;
    entries.sort();
    lay(&theirs, "tipoff_journal", &entries[1], json!({ "entry": "{" })).await;
    let before = ours.journal(None, 0, 10).await.unwrap();
    assert_eq!(before.len(), 1);
    let error = ours.journal(None, before[0].seq, 10).await.unwrap_err();
    let StoreError::BadEntry { seq, .. } = error else { panic!("{error}") };
    assert_eq!(ours.journal(None, seq, 10).await.unwrap().len(), 1);

    // A date takes no decisions; another goes on.
    let id = ids(&theirs, "tipoff_partitions").await.remove(0);
    lay(&theirs, "tipoff_partitions", &id, json!({ "document": "{" })).await;
    assert!(matches!(ours.load(&key).await, Err(StoreError::Corrupt { .. })));
    decide(&ours, &super::store::key("nba", "2026-01-23"), &[], second(9)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_is_unavailable_in_time() {
    let Some(emulator) = emulator::firestore() else { return };
    let settings = Settings {
        emulator: Some(emulator.address.clone()),
        timeout: std::time::Duration::from_secs(1),
        ..Settings::new("hangs")
    };
    let ours = Firestore::connect(settings).await.unwrap();
    let key = key("nba", "2026-01-22");
    // The emulator's first answer takes longer than that.
    let stored = loop {
        if let Ok(stored) = ours.load(&key).await {
            break stored;
        }
    };
    let commit = next(stored, second(1));
    emulator.signal("STOP");
    // Each tries again a few times, and each try has its limit.
    let patience = std::time::Duration::from_secs(60);
    let calls = async {
        assert!(matches!(ours.load(&key).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(ours.commit(commit.clone()).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(ours.due(second(1), 1).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(ours.outbox(second(1), 1).await, Err(StoreError::Unavailable(_))));
    };
    tokio::time::timeout(patience, calls).await.expect("each call has its limit");
    emulator.signal("CONT");
    // Whether the commit was applied is unknown to us; the store knows.
    let stored = loop {
        if let Ok(stored) = ours.load(&key).await {
            break stored;
        }
    };
    assert!(stored.version <= 1);
}

/// What we know is in a database of our own, and the lock of a dead run where processors have it.
#[tokio::test(flavor = "multi_thread")]
async fn locks_are_let_go_in_the_database_of_the_producers() {
    let Some(emulator) = emulator::firestore() else { return };
    let project = "apart";
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let classes = [("player_game_summary".into(), names(&["PlayerGameSummaryProcessor"]))].into_iter().collect();
    let settings = Settings {
        emulator: Some(emulator.address.clone()),
        database: Some("tipoff".to_owned()),
        producers_database: Some("(default)".to_owned()),
        locks: [("nba".into(), classes)].into_iter().collect(),
        ..Settings::new(project)
    };
    let ours = Firestore::connect(settings).await.unwrap();
    let (_, theirs) = connect(&emulator, project).await;
    let locked = async |id: &str| {
        let lock = json!({ "locked_at": "2026-01-22T22:00:00Z" });
        theirs.fluent().insert().into("processing_locks").document_id(id).object(&lock).execute::<()>().await.unwrap();
    };
    locked("PlayerGameSummaryProcessor_2026-01-22").await;
    locked("PlayerGameSummaryProcessor_2026-01-21").await;
    let key = key("nba", "2026-01-22");
    decide(&ours, &key, &[], second(1)).await;
    ours.release_lock(&key, &"player_game_summary".into(), &"r1".into()).await.unwrap();
    assert_eq!(ids(&theirs, "processing_locks").await, ["PlayerGameSummaryProcessor_2026-01-21"]);
    // Nothing of ours is among what is theirs.
    assert_eq!(ids(&theirs, "tipoff_partitions").await, Vec::<String>::new());
    assert_eq!(ours.load(&key).await.unwrap().version, 1);
}
