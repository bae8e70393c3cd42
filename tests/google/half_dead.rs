//! A connection that dies without a word: nothing is closed, nothing answers. Both roads notice and take another. And one that
//! is refused again and again, or not allowed any more: it is tried no more than once a second, and read again when it is well.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tipoff::adapter::pubsub::subscriber::{OURSELVES, Patience};
use tipoff::pipeline::{PIPELINE, TOPICS};
use tipoff::port::{Handed, Recipient};
use tipoff::wire::inbound::Delivery;

use super::cloud::Cloud;
use super::reading::{Reading, until};
use super::wire::{Code, Wire};

const TOPIC: &str = "nba-phase3-analytics-complete";

#[derive(Default)]
struct Heard {
    messages: Mutex<Vec<String>>,
    latest: Mutex<Option<Timestamp>>,
    faults: Mutex<BTreeMap<String, String>>,
}

impl Heard {
    fn has(&self, text: &str) -> bool {
        self.messages.lock().unwrap().iter().any(|message| message == text)
    }
}

#[async_trait]
impl Recipient for Heard {
    async fn hand_over(&self, delivery: Delivery) -> Handed {
        self.messages.lock().unwrap().push(String::from_utf8(delivery.data).unwrap());
        Handed::Settled
    }
    fn room(&self) -> usize {
        1000
    }
    fn heard(&self, _road: &str, published: Timestamp) {
        *self.latest.lock().unwrap() = Some(published);
    }
    fn interrupted(&self) {}
    fn redelivered(&self) {}
    fn fault(&self, component: &str, reason: &str) -> bool {
        self.faults
            .lock()
            .unwrap()
            .insert(component.to_owned(), reason.to_owned())
            .is_none_or(|before| before != reason)
    }
    fn well(&self, component: &str) {
        self.faults.lock().unwrap().remove(component);
    }
}

/// The shipped subscriptions, read over a wire.
struct Road {
    cloud: Cloud,
    wire: Wire,
    heard: Arc<Heard>,
    reading: Reading,
    /// How many they are.
    streams: usize,
}

impl Road {
    /// Where `both`, what we publish goes over the wire as well.
    async fn over_a_wire(both: bool, patience: Patience) -> Option<Self> {
        let topology = tipoff::pipeline::load(("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE)).unwrap().topology;
        let cloud = Cloud::start(&topology).await?;
        let wire = Wire::to(&cloud.pubsub.address).await;
        let heard = Arc::new(Heard::default());
        let at = (&*wire.address, if both { &*wire.address } else { &*cloud.pubsub.address });
        let reading = Reading::start(&cloud, &topology, at, heard.clone(), patience).await;
        let streams = topology.consumed_by(OURSELVES).count();
        Some(Self { cloud, wire, heard, reading, streams })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_without_a_word_is_replaced() {
    let patience = Patience { idle_max: Duration::from_secs(4), probe_every: Duration::from_secs(1) };
    let Some(Road { cloud, wire, heard, reading, .. }) = Road::over_a_wire(true, patience).await else { return };
    cloud.publish(TOPIC, "before").await;
    until("a message comes", || heard.has("before")).await;
    until("a probe comes back", || heard.latest.lock().unwrap().is_some_and(|at| at > Timestamp::UNIX_EPOCH)).await;

    wire.die();
    let connections = wire.connections();
    let at_death = heard.latest.lock().unwrap().unwrap();
    // Published by somebody whose own connection is well.
    cloud.publish(TOPIC, "after").await;
    until("a message comes though the connection has died", || heard.has("after")).await;
    assert!(wire.connections() > connections, "over another connection");
    // The publisher's calls find out by themselves, and probes prove the road again.
    until("the publisher takes another connection", || heard.latest.lock().unwrap().unwrap() > at_death).await;
    // On a busy machine a call may still run out of its time; whoever makes it makes it again.
    let patience = Instant::now() + Duration::from_secs(60);
    while let Err(error) = reading.publisher.publish(TOPIC, b"by us".to_vec(), &Default::default()).await {
        assert!(Instant::now() < patience, "{error}");
    }
    until("what we publish comes as well", || heard.has("by us")).await;
    reading.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_again_and_again_is_asked_for_once_a_second_at_most() {
    let Some(Road { cloud, wire, heard, reading, streams }) = Road::over_a_wire(false, Patience::default()).await
    else {
        return;
    };
    cloud.publish(TOPIC, "before").await;
    until("a message comes", || heard.has("before")).await;

    wire.refuse(Code::Unavailable);
    // The first tries follow each other quickly.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (since, early) = (Instant::now(), wire.refused());
    cloud.publish(TOPIC, "after").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (tries, seconds) = (wire.refused() - early, since.elapsed().as_secs_f64());
    let each = tries as f64 / streams as f64 / seconds;
    assert!(tries > 0 && each <= 1.0, "{tries} tries of {streams} streams in {seconds:.1} s");
    assert!(!heard.has("after"));

    wire.open();
    until("what came meanwhile is read", || heard.has("after")).await;
    reading.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_is_named_until_it_is_back() {
    let Some(Road { cloud, wire, heard, reading, streams }) = Road::over_a_wire(false, Patience::default()).await
    else {
        return;
    };
    until("every subscription is read", || heard.faults.lock().unwrap().is_empty()).await;
    for (code, named) in [
        (Code::PermissionDenied, "PermissionDenied: not allowed: grant roles/pubsub.subscriber"),
        (Code::Unauthenticated, "Unauthenticated: no valid credentials"),
    ] {
        wire.refuse(code);
        until("each subscription is named, with what to do", || {
            let faults = heard.faults.lock().unwrap();
            faults.len() == streams && faults.values().all(|reason| reason.starts_with(named))
        })
        .await;
        let message = format!("{code:?}");
        cloud.publish(TOPIC, &message).await;
        wire.open();
        until("it is read again without a start", || heard.faults.lock().unwrap().is_empty()).await;
        until("what came meanwhile is read", || heard.has(&message)).await;
    }
    reading.end().await;
}
