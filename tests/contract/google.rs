//! The adapters of Google Cloud together, on the emulators: the contract of a bus, and what several processes share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use firestore::FirestoreDb;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{Document, UpdateDocumentRequest, Value};
use gcloud_sdk::prost_types;
use jiff::{SignedDuration, Timestamp};
use tipoff::adapter::firestore::heartbeats::Heartbeats;
use tipoff::adapter::firestore::{Firestore, Settings};
use tipoff::adapter::google::bus::GoogleBus;
use tipoff::adapter::google::services::Services;
use tipoff::adapter::pubsub::{Connection, publisher::Publisher};
use tipoff::clock::Clock;
use tipoff::domain::time::after;
use tipoff::port::{Bus as _, Commit, Handed, Recipient, Store};
use tipoff::wire::dispatch::Target;
use tipoff::wire::inbound::Delivery;
use tokio::sync::watch;

use super::bus::message;
use super::cloud::Cloud;
use super::embedded::topics;
use super::store::{decide, effect, key, next, waiting};
use super::{bus, emulator, second};

async fn connect(emulator: &emulator::Emulator, project: &str) -> Arc<Firestore> {
    let settings = Settings { emulator: Some(emulator.address.clone()), ..Settings::new(project) };
    Arc::new(Firestore::connect(settings).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_of_a_bus_holds_on_the_emulators() {
    let Some(cloud) = Cloud::start(&topics()).await else { return };
    let connection = Connection { project: cloud.project.clone(), emulator: Some(cloud.pubsub.address.clone()) };
    let publisher = Arc::new(Publisher::connect(connection).await.unwrap());
    let alerts = connect(&cloud.firestore, &cloud.project).await;
    let services = Services::new(&BTreeMap::new()).unwrap();
    let google = GoogleBus::new(topics(), publisher, services, alerts);
    bus::contract(&google, "start").await;
    // Each topic has a queue of its own; this one is not held up by what was refused.
    google.send(&message("after", Target::Topic("start".into())), second(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_is_one_processs_to_deliver() {
    let Some(emulator) = emulator::firestore() else { return };
    let (one, two) = (connect(&emulator, "share").await, connect(&emulator, "share").await);
    let ids: Vec<String> = (0..20).map(|index| format!("effect-{index}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    decide(&*one, &key("share", "2026-01-22"), &ids, second(0)).await;

    let until = second(30);
    let claim = async |store: &Firestore, at| {
        let entries = store.outbox(at, 100).await.unwrap();
        let asked = entries.into_iter().map(|entry| (entry, after(until, SignedDuration::ZERO))).collect();
        let claimed = store.claim(asked).await.unwrap();
        claimed.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let (first, second_claim) = tokio::join!(claim(&one, second(1)), claim(&two, second(1)));
    let mut all: Vec<String> = first.iter().chain(&second_claim).cloned().collect();
    all.sort();
    let mut expected: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    expected.sort();
    assert_eq!(all, expected, "each is claimed exactly once: {first:?} and {second_claim:?}");
    assert_eq!(waiting(&*two, second(2)).await, Vec::<String>::new());
    // Whoever claimed them may have died.
    assert_eq!(claim(&two, second(31)).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_with_its_commit_is_the_committers_without_being_read() {
    let Some(emulator) = emulator::firestore() else { return };
    let (one, two) = (connect(&emulator, "fresh").await, connect(&emulator, "fresh").await);
    assert!(one.shares());
    let key = key("fresh", "2026-01-22");
    let commit = next(one.load(&key).await.unwrap(), second(0));
    let outbox: Vec<_> = ["a", "b", "c", "d"].map(|id| effect(&key, id, second(0))).into();
    one.commit(Commit { outbox: outbox.clone(), claimed_until: Some(second(30)), ..commit }).await.unwrap();
    let claim = async |store: &Firestore, nth: usize, until| {
        let claimed = store.claim(vec![(outbox[nth].clone(), second(until))]).await.unwrap();
        claimed.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let nothing = Vec::<String>::new();
    assert_eq!(waiting(&*two, second(29)).await, nothing, "it is the committer's until then");
    assert_eq!(claim(&two, 0, 35).await, nothing, "nobody claims what it has not seen");
    assert_eq!(claim(&one, 0, 31).await, ["a"], "it has it");
    assert_eq!(claim(&one, 0, 32).await, nothing, "once");
    // For longer than it came with; the other then waits as long.
    assert_eq!(claim(&one, 1, 600).await, ["b"]);
    // What the committer did not take up is anybody's after its time.
    assert_eq!(waiting(&*two, second(31)).await, ["a", "c", "d"]);
    assert_eq!(claim(&two, 2, 60).await, ["c"]);
    assert_eq!(claim(&one, 2, 61).await, nothing, "somebody has touched it since");
    assert_eq!(claim(&two, 3, 600).await, ["d"]);
    assert!(waiting(&*one, second(7_200)).await.contains(&"d".to_owned()), "it looks at what is to come");
    assert_eq!(claim(&one, 3, 661).await, nothing, "to have looked at it is not to have it");
}

/// Two processes count together, each from what it left, whatever the other took meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_two_processes_take_in_turn_is_one_count() {
    let Some(emulator) = emulator::firestore() else { return };
    let (one, two) = (connect(&emulator, "count").await, connect(&emulator, "count").await);
    let mut taken = 0;
    for turn in 0..12 {
        let process = if turn % 3 == 0 { &one } else { &two };
        taken += process.take("dispatches", second(0), 1, 10).await.unwrap();
        assert_eq!(taken, (turn + 1).min(10), "{turn}");
    }
    // Neither is told of the next window.
    assert_eq!(two.take("dispatches", second(3_600), 8, 10).await.unwrap(), 8);
    assert_eq!(one.take("dispatches", second(3_600), 8, 10).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_held_by_one_and_ends() {
    let Some(emulator) = emulator::firestore() else { return };
    let (one, two) = (connect(&emulator, "lease").await, connect(&emulator, "lease").await);
    assert!(one.lease("export", second(0), second(60)).await.unwrap());
    assert!(!two.lease("export", second(1), second(61)).await.unwrap());
    assert!(two.lease("other", second(1), second(61)).await.unwrap());
    // Held on to by whoever has it, even past what the other saw.
    assert!(one.lease("export", second(50), second(110)).await.unwrap());
    assert!(!two.lease("export", second(70), second(130)).await.unwrap());
    assert!(two.lease("export", second(111), second(171)).await.unwrap());
    assert!(!one.lease("export", second(112), second(172)).await.unwrap());
}

/// Notes up to when it has heard, what is at fault, and what it was handed.
#[derive(Default)]
struct Ear(Mutex<(Option<Timestamp>, Option<String>, Vec<Delivery>)>);

#[async_trait]
impl Recipient for Ear {
    async fn hand_over(&self, delivery: Delivery) -> Handed {
        self.0.lock().unwrap().2.push(delivery);
        Handed::Settled
    }
    fn room(&self) -> usize {
        1
    }
    fn heard(&self, _road: &str, published: Timestamp) {
        self.0.lock().unwrap().0 = Some(published);
    }
    fn interrupted(&self) {}
    fn redelivered(&self) {}
    fn fault(&self, _component: &str, reason: &str) -> bool {
        self.0.lock().unwrap().1 = Some(reason.to_owned());
        true
    }
    fn well(&self, _component: &str) {}
}

fn heartbeats(collection: &str) -> Heartbeats {
    let poll_every = Duration::from_secs(1);
    Heartbeats { collection: collection.to_owned(), topic: "heartbeats".to_owned(), poll_every }
}

/// Reads a collection until `done`, and tells up to when it has been heard.
async fn listen(firestore: &Arc<Firestore>, collection: &str, done: impl Fn(&Ear) -> bool) -> Option<Timestamp> {
    let ear = Arc::new(Ear::default());
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(heartbeats(collection).read(firestore.clone(), ear.clone(), || second(0), stopping));
    let patience = Instant::now() + Duration::from_secs(20);
    while !done(&ear) {
        assert!(Instant::now() < patience, "{:?}", ear.0.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send_replace(true);
    task.await.unwrap();
    ear.0.lock().unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_counts_where_somebody_reads_and_nowhere_else() {
    let Some(emulator) = emulator::firestore() else { return };
    let (one, two) = (connect(&emulator, "ears").await, connect(&emulator, "ears").await);
    let heard = |ear: &Ear| ear.0.lock().unwrap().0 >= Some(second(0));
    let first = listen(&one, "processor_heartbeats", heard).await;
    // The second does not read, because the first has the lease; it goes by what that one has read.
    assert_eq!(listen(&two, "processor_heartbeats", heard).await, first);
    // Nobody may read this one: it is reserved.
    let at_fault = |ear: &Ear| ear.0.lock().unwrap().1.is_some();
    assert_eq!(listen(&one, "__reserved__", at_fault).await, Some(Timestamp::MIN));
}

/// A heartbeat of one run, written by a processor whose clock is behind.
async fn beat(db: &FirestoreDb, progress: i64, behind: SignedDuration) {
    let said = Clock::System.now() - behind;
    let last_heartbeat = ValueType::TimestampValue(prost_types::Timestamp {
        seconds: said.as_second(),
        nanos: said.subsec_nanosecond(),
    });
    let fields = [
        ("processor_name", ValueType::StringValue("PlayerGameSummaryProcessor".to_owned())),
        ("progress", ValueType::IntegerValue(progress)),
        ("last_heartbeat", last_heartbeat),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), Value { value_type: Some(value) })).into();
    let name = format!("{}/processor_heartbeats/PlayerGameSummaryProcessor", db.get_documents_path());
    let document = Some(Document { name, fields, ..Document::default() });
    let request = UpdateDocumentRequest { document, ..UpdateDocumentRequest::default() };
    db.client().get().update_document(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_whose_clock_is_behind_is_heard_as_soon_as_others() {
    let Some(emulator) = emulator::firestore() else { return };
    let (firestore, db) = super::firestore::connect(&emulator, "behind").await;
    let (ear, (stop, stopping)) = (Arc::new(Ear::default()), watch::channel(false));
    let behind = SignedDuration::from_hours(5);
    beat(&db, 1, behind).await;
    let read =
        heartbeats("processor_heartbeats").read(Arc::new(firestore), ear.clone(), || Clock::System.now(), stopping);
    let task = tokio::spawn(read);
    for progress in 1..=3_usize {
        if progress > 1 {
            beat(&db, i64::try_from(progress).unwrap(), behind).await;
        }
        let patience = Instant::now() + Duration::from_secs(20);
        while ear.0.lock().unwrap().2.len() < progress {
            assert!(Instant::now() < patience, "beat {progress} is not heard: {:?}", ear.0.lock().unwrap().2);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.send_replace(true);
    task.await.unwrap();
}
