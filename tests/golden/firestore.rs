//! The same on Firestore: `firestore.json` has the documents, fields and all, as the emulator keeps them.

use std::path::Path;

use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::adapter::firestore::{Firestore, Settings};
use tipoff::domain::id::PartitionKey;
use tipoff::domain::notify::Ledger;
use tipoff::domain::once::Calls;
use tipoff::domain::stop::Stops;
use tipoff::port::{Commit, Letters, Store, StoreError};

use super::{databases, emulator, kept, lost};

const PROJECT: &str = "golden";
/// Collections of a store, under the usual prefix.
const COLLECTIONS: [&str; 8] = [
    "tipoff_partitions",
    "tipoff_outbox",
    "tipoff_journal",
    "tipoff_letters",
    "tipoff_letter_contents",
    "tipoff_plans",
    "tipoff_parked",
    "tipoff_cursors",
];

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/firestore.json")
}

async fn connect(emulator: &emulator::Emulator) -> Firestore {
    let settings = Settings { emulator: Some(emulator.address.clone()), ..Settings::new(PROJECT) };
    Firestore::connect(settings).await.unwrap()
}

fn root(emulator: &emulator::Emulator) -> String {
    format!("http://{}/v1/projects/{PROJECT}/databases/(default)/documents", emulator.address)
}

/// The keys of partitions, by the texts of the embedded file.
fn keys(texts: &super::Texts) -> Vec<PartitionKey> {
    let key = |text: &Value| serde_json::from_value(text["partition"]["key"].clone()).unwrap();
    texts["partitions"].iter().map(key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn this_version_finds_everything_in_firestore() {
    let Some(emulator) = emulator::firestore() else { return };
    let documents: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap();
    let client = reqwest::Client::new();
    for document in &documents {
        let mut url = reqwest::Url::parse(&root(&emulator)).unwrap();
        // Ids have marks that a URL takes for its own.
        url.path_segments_mut().unwrap().extend(document["path"].as_str().unwrap().split('/'));
        let body = json!({ "fields": document["fields"] });
        let answer = client.patch(url).bearer_auth("owner").json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
    let ours = connect(&emulator).await;
    let store: &dyn Store = &ours;
    let (_, _home, texts) = databases().into_iter().next().unwrap();
    for (key, text) in keys(&texts).iter().zip(&texts["partitions"]) {
        let stored = store.load(key).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(stored.version > 0, "{key}");
        let mut missing = Vec::new();
        lost(&text["partition"], &serde_json::to_value(&stored.partition).unwrap(), "", &mut missing);
        assert!(missing.is_empty(), "{key}: {missing:?}");
    }
    let far = "2100-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(store.outbox(far, 1_000).await.unwrap().len(), texts["outbox"].len());
    let mut entries = 0;
    for key in keys(&texts) {
        entries += store.journal(Some(&key), 0, 1_000).await.unwrap().len();
    }
    assert!(entries > 20, "{entries} entries");
    let letters = store.letters(Letters::All, None, 100).await.unwrap();
    assert_eq!(letters.len(), texts["letters"].len());
    for (letter, _) in letters {
        let content = store.letter_content(&letter.id, letter.versions.len() - 1).await.unwrap();
        assert!(content.is_some(), "{}", letter.id);
    }
    let plans = store.plans(&"nba".into()).await.unwrap().len() + store.plans(&"mlb".into()).await.unwrap().len();
    assert_eq!(plans, texts["plans"].len());
    assert_eq!(store.parked(100).await.unwrap().len(), texts["parked"].len());
    kept::<Ledger>(store).await;
    kept::<Calls>(store).await;
    kept::<Stops>(store).await;
}

/// Writes `firestore.json` out of the embedded file. Called once for a new kind of document, under another name for the file.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it writes what the others read"]
async fn write() {
    let Some(emulator) = emulator::firestore() else { return };
    let (_, home, texts) = databases().into_iter().next().unwrap();
    let embedded = Embedded::open(home.path(), Durability::Full).unwrap();
    let (from, ours): (&dyn Store, Firestore) = (&embedded, connect(&emulator).await);
    let to: &dyn Store = &ours;
    let far = "2100-01-01T00:00:00Z".parse().unwrap();
    let outbox = from.outbox(far, 1_000).await.unwrap();
    let mut homeless = outbox.clone();
    for (nth, key) in keys(&texts).into_iter().enumerate() {
        let stored = from.load(&key).await.unwrap();
        let outbox = if nth == 0 { std::mem::take(&mut homeless) } else { Vec::new() };
        let entries = from.journal(Some(&key), 0, 1_000).await.unwrap();
        let mut entries = entries.into_iter();
        let commit = |version, outbox, journal| Commit {
            expected_version: version,
            partition: stored.partition.clone(),
            wake_at: stored.wake_at,
            outbox,
            claimed_until: None,
            journal,
        };
        to.commit(commit(0, outbox, entries.next())).await.unwrap();
        for (version, mut entry) in (1..).zip(entries) {
            entry.version = version + 1;
            to.commit(commit(version, Vec::new(), Some(entry))).await.unwrap();
        }
    }
    for (letter, _) in from.letters(Letters::All, None, 100).await.unwrap() {
        let content = from.letter_content(&letter.id, letter.versions.len() - 1).await.unwrap();
        assert!(to.keep_letter(&letter, 0, content).await.unwrap(), "{}", letter.id);
    }
    for pipeline in ["nba", "mlb"] {
        for (plan, _) in from.plans(&pipeline.into()).await.unwrap() {
            assert!(to.put_plan(&plan, 0).await.unwrap());
        }
    }
    for parked in from.parked(100).await.unwrap() {
        to.park(parked).await.unwrap();
    }
    for name in ["notices", "calls", "stops"] {
        let (_, document): (u64, Option<Value>) = from.document(name).await.unwrap();
        let written: Result<bool, StoreError> = to.keep_document(name, 0, &document.unwrap()).await;
        assert!(written.unwrap(), "{name}");
    }
    let client = reqwest::Client::new();
    let mut documents = Vec::new();
    let url = format!("{}:listCollectionIds", root(&emulator));
    let answer = client.post(url).bearer_auth("owner").json(&json!({})).send().await.unwrap();
    let collections: Value = answer.json().await.unwrap();
    for collection in collections["collectionIds"].as_array().unwrap() {
        let collection = collection.as_str().unwrap();
        assert!(COLLECTIONS.contains(&collection), "{collection} is new: say it here");
        let url = format!("{}/{collection}?pageSize=1000", root(&emulator));
        let answer: Value = client.get(url).bearer_auth("owner").send().await.unwrap().json().await.unwrap();
        for document in answer["documents"].as_array().unwrap() {
            let id = document["name"].as_str().unwrap().rsplit('/').next().unwrap();
            documents.push(json!({ "path": format!("{collection}/{id}"), "fields": document["fields"] }));
        }
    }
    let lines: Vec<String> = documents.iter().map(Value::to_string).collect();
    std::fs::write(file(), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
}
