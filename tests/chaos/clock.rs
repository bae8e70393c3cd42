//! The clock of the service's machine is set forward and back while it runs, by libfaketime; the clock by which it waits is not.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::faketime;
use super::join::{JOIN, TOPIC, name};
use super::kills::Load;
use super::plant::{Plant, SOURCES, Service, missing};
use super::publisher::completion;

/// What the clock of a service shows, beside the true time.
struct Hand(PathBuf);

impl Hand {
    /// Starts a service whose clock it is.
    fn start(plant: &Plant, offset: &str) -> Option<(Self, Service)> {
        let hand = Self(plant.folder.path().join("clock"));
        let Some(environment) = faketime::environment(&hand.0) else {
            missing("libfaketime is not installed");
            return None;
        };
        hand.set(offset);
        let mut command = plant.command(&[], None);
        command.envs(environment);
        let service = plant.try_start(command).unwrap_or_else(|status| panic!("it does not start: {status}"));
        Some((hand, service))
    }

    fn set(&self, offset: &str) {
        std::fs::write(&self.0, offset).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_declares_nobody_dead_who_is_still_heard() {
    let plant = Plant::new().await;
    let Some((hand, service)) = Hand::start(&plant, "+0") else { return };
    let date = plant.publisher.date(1);
    let sources: Vec<_> = (0..SOURCES).map(|source| completion(&name(source), &date, "first", true)).collect();
    plant.publisher.insist(&service.url, TOPIC, &sources).await;
    plant.until("it is dispatched", || plant.consumer.seen().len() == 1).await;
    let beat = async || {
        let body = json!({ "processor_name": JOIN, "run_id": "alive", "data_date": date, "status": "running",
            "progress": 1, "total": 2 });
        assert!(plant.publisher.hand(&service.url, "nba-processor-heartbeats", body.to_string().into_bytes()).await);
    };
    let dead = || plant.count("SELECT count(*) FROM alerts WHERE key LIKE 'dead:%'");
    beat().await;
    // A run is dead after a quarter of an hour of silence. It beats every minute, and the sweep comes every ten seconds.
    hand.set("+2h");
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!((dead(), plant.consumer.seen().len()), (0, 1), "before it could beat");
    beat().await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!((dead(), plant.consumer.seen().len()), (0, 1));
    // Whoever is not heard in the minute after it is.
    hand.set("+4h");
    plant.until("a run that is silent is found", || dead() > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_and_forward_loses_nothing_and_stops_nothing() {
    let plant = Plant::new().await;
    let Some((hand, service)) = Hand::start(&plant, "+2h") else { return };
    let load = Load::begin(&plant.publisher, &service.url);
    for offset in ["+0", "+1h", "-1h", "+0"] {
        tokio::time::sleep(Duration::from_secs(5)).await;
        hand.set(offset);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    load.end().await;
    // What nobody has decided on by the other clock is dispatched at once.
    let fresh = plant.publisher.date(30);
    let sources: Vec<_> = (0..SOURCES).map(|source| completion(&name(source), &fresh, "fresh", true)).collect();
    plant.publisher.insist(&service.url, TOPIC, &sources).await;
    plant.until("a new date is dispatched", || plant.consumer.seen().keys().any(|(date, ..)| *date == fresh)).await;
    // What failed then is tried again by that clock's time, unless somebody wants it sooner.
    let dates = plant.publisher.promised.lock().unwrap().dates.clone();
    for date in dates {
        if !plant.consumer.seen().keys().any(|(seen, ..)| *seen == date) {
            let retried = plant.tipoff(&["retry", &date, JOIN, "--reason", "the clock was wrong"]);
            assert!(retried.status.success(), "{retried:?}");
        }
    }
    plant.comes_to_rest(&service).await;
}
