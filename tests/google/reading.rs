//! Subscriptions read by a recipient of the test's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tipoff::adapter::pubsub::Connection;
use tipoff::adapter::pubsub::publisher::Publisher;
use tipoff::adapter::pubsub::subscriber::{Patience, Subscribers};
use tipoff::port::Recipient;
use tipoff::topology::Topology;
use tokio::sync::watch;

use super::cloud::Cloud;

/// What is being read, and who publishes beside it.
pub struct Reading {
    pub publisher: Arc<Publisher>,
    stop: watch::Sender<bool>,
    subscribers: Subscribers,
}

impl Reading {
    /// Begins to read what `topology` declares for tipoff, at the first address; at the second it publishes, probes included.
    pub async fn start(
        cloud: &Cloud,
        topology: &Topology,
        (reads, publishes): (&str, &str),
        recipient: Arc<dyn Recipient>,
        patience: Patience,
    ) -> Self {
        let at = |address: &str| Connection { project: cloud.project.clone(), emulator: Some(address.to_owned()) };
        let publisher = Arc::new(Publisher::connect(at(publishes)).await.unwrap());
        let (stop, stopping) = watch::channel(false);
        let subscribers =
            Subscribers::start(&at(reads), topology, &recipient, &publisher, patience, &stopping).await.unwrap();
        Self { publisher, stop, subscribers }
    }

    pub async fn end(self) {
        self.stop.send_replace(true);
        self.subscribers.ended().await;
    }
}

/// Waits until that is so, on a machine that also compiles.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < patience, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
