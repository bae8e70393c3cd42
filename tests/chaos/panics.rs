//! A panic at every place of `tipoff::crash` that a running service comes by: it ends what it happened in, and the service goes
//! on without a start.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tipoff::crash::Place;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::join::{TOPIC, name};
use super::plant::{Plant, SOURCES, Service};
use super::publisher::completion;

const PATIENCE: Duration = Duration::from_secs(60);
/// Places under way at once; most of each is waiting.
const SIDE_BY_SIDE: usize = 6;
/// Where there is no service yet, or none any more.
const OUTSIDE: [Place; 2] = [Place::Migration, Place::Drain];

/// Starts a service that panics there, and logs into a file.
fn start(plant: &Plant, panic: &str) -> Service {
    let mut command = plant.command(&[], None);
    command.env("TIPOFF_PANIC", panic).stderr(File::create(plant.folder.path().join("log")).unwrap());
    plant.try_start(command).unwrap_or_else(|status| panic!("it does not start: {status}"))
}

fn log(plant: &Plant) -> String {
    std::fs::read_to_string(plant.folder.path().join("log")).unwrap()
}

/// Replays whatever was parked about the first date.
fn replay_what_is_parked(plant: &Plant) {
    let date = plant.publisher.promised.lock().unwrap().dates.first().unwrap().clone();
    let replayed = plant.tipoff(&["dlq", "replay", "--date", &date, "--apply", "--force", "--reason", "mended"]);
    assert!(replayed.status.success(), "{replayed:?}");
}

async fn is_well(plant: &Plant, service: &mut Service) {
    assert_eq!(service.child.try_wait().unwrap(), None, "it has ended:\n{}", log(plant));
    let lives = plant.publisher.client.get(format!("{}/healthz", service.url)).send().await.unwrap();
    assert!(lives.status().is_success(), "{}", log(plant));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_at_any_place_ends_nothing_else() {
    let room = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut panics = JoinSet::new();
    for place in Place::ALL.iter().filter(|place| !OUTSIDE.contains(place)) {
        let room = Arc::clone(&room);
        panics.spawn(async move {
            let _room = room.acquire().await.unwrap();
            panic_once(*place).await;
        });
    }
    while let Some(done) = panics.join_next().await {
        done.unwrap();
    }
}

async fn panic_once(place: Place) {
    let plant = Plant::new().await;
    let mut service = start(&plant, &format!("{}:2", place.name()));
    let patience = Instant::now() + PATIENCE;
    while !log(&plant).contains("as a test wants it") {
        assert!(Instant::now() < patience, "{} was not come by", place.name());
        plant.round(&service.url).await;
        if place == Place::ReplayUnanswered {
            let round = plant.publisher.rounds.load(Ordering::SeqCst);
            plant.publisher.replay_letters(&service.url, &format!("ask-{round}")).await;
        }
        if place == Place::InForceUnkept {
            plant.configure(plant.publisher.rounds.load(Ordering::SeqCst));
            service.signal("HUP");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    plant.round(&service.url).await;
    if place == Place::Received {
        // Reading a message is the same each time, so it is parked at once.
        replay_what_is_parked(&plant);
    }
    plant.comes_to_rest(&service).await;
    is_well(&plant, &mut service).await;
    // What was lost in the panic must not keep silence from being noticed.
    let patience = Instant::now() + PATIENCE;
    loop {
        let metrics = plant.publisher.client.get(format!("{}/metrics", service.url)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        if metrics.lines().any(|line| line == "tipoff_messages_unsettled 0") {
            break;
        }
        assert!(Instant::now() < patience, "{}: a message counts as unsettled:\n{metrics}", place.name());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_panics_each_time_is_parked_and_is_taken_by_the_version_that_is_mended() {
    for place in [Place::Received, Place::Decided] {
        let plant = Plant::new().await;
        let mut service = start(&plant, place.name());
        plant.round(&service.url).await;
        let date = plant.publisher.promised.lock().unwrap().dates.first().unwrap().clone();
        let told: Vec<_> = (0..SOURCES).map(|source| completion(&name(source), &date, "parked", true)).collect();
        assert!(plant.publisher.tell(&service.url, TOPIC, &told).await, "{}: {}", place.name(), log(&plant));
        is_well(&plant, &mut service).await;
        let parked = "SELECT count(*) FROM parked WHERE input ->> '$.slug' = 'fault'";
        assert!(plant.count(parked) >= i64::try_from(SOURCES).unwrap(), "{}", place.name());
        let told = "SELECT count(*) FROM alerts WHERE key LIKE 'parked:fault:%' OR key LIKE 'fault:%'";
        assert!(plant.count(told) > 0, "{}: nobody is told", place.name());
        service.kill();
        // The next version has no such fault.
        let service = plant.start();
        replay_what_is_parked(&plant);
        plant.until("what was parked is decided", || plant.recorded().contains("parked")).await;
        plant.comes_to_rest(&service).await;
    }
}
