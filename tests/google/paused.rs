//! While nothing can be taken in, nothing is asked for: a message that is handed back comes nearer to its dead letter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tipoff::adapter::pubsub::subscriber::Patience;
use tipoff::pipeline::{PIPELINE, TOPICS};
use tipoff::port::{Handed, Recipient};
use tipoff::wire::inbound::Delivery;
use tokio::sync::watch;

use super::cloud::Cloud;
use super::reading::{Reading, until};

/// Takes things in while it is open, and hands them back at once while it is not.
struct Door {
    open: watch::Sender<bool>,
    /// What was handed over, and whether it was taken.
    seen: Mutex<Vec<(String, bool)>>,
}

impl Door {
    fn count(&self, text: &str, taken: bool) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(message, was)| message == text && *was == taken).count()
    }
}

#[async_trait]
impl Recipient for Door {
    async fn hand_over(&self, delivery: Delivery) -> Handed {
        let open = *self.open.borrow();
        self.seen.lock().unwrap().push((String::from_utf8(delivery.data).unwrap(), open));
        if open { Handed::Settled } else { Handed::Back(SignedDuration::ZERO) }
    }
    fn room(&self) -> usize {
        1000
    }
    async fn opened(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
    async fn closed(&self) {
        // One that is handed back comes first, as in a service that finds out by failing.
        let _ = self.open.subscribe().wait_for(|open| !*open).await;
        until("a message is handed back", || self.count("first", false) > 0).await;
    }
    fn heard(&self, _road: &str, _published: Timestamp) {}
    fn interrupted(&self) {}
    fn redelivered(&self) {}
    fn fault(&self, _component: &str, _reason: &str) -> bool {
        true
    }
    fn well(&self, _component: &str) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_in_is_not_asked_for() {
    let declared = tipoff::pipeline::load(("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE)).unwrap();
    let Some(cloud) = Cloud::start(&declared.topology).await else { return };
    let door = Arc::new(Door { open: watch::Sender::new(true), seen: Mutex::default() });
    let at = (&*cloud.pubsub.address, &*cloud.pubsub.address);
    let reading = Reading::start(&cloud, &declared.topology, at, door.clone(), Patience::default()).await;
    let topic = "nba-phase3-analytics-complete";
    cloud.publish(topic, "before").await;
    until("it is taken in", || door.count("before", true) == 1).await;

    door.open.send_replace(false);
    cloud.publish(topic, "first").await;
    until("it is handed back", || door.count("first", false) > 0).await;
    // A stream that is closing may still bring something; an open one brings it in milliseconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cloud.publish(topic, "second").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(door.count("second", false), 0, "it was asked for");

    door.open.send_replace(true);
    until("all of it is taken in", || door.count("first", true) > 0 && door.count("second", true) > 0).await;
    reading.end().await;
}
