//! SIGKILL at random times while publishers publish.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::plant::{Plant, dice};
use super::publisher::Publisher;

const PUBLISHERS: usize = 3;
/// Kills in every run of the tests; `TIPOFF_CHAOS_KILLS` says otherwise.
const KILLS: usize = 50;

/// Publishers that go on whatever becomes of the service.
pub struct Load {
    stop: Arc<AtomicBool>,
    url: Arc<Mutex<String>>,
    tasks: JoinSet<()>,
    pub rounds: Arc<AtomicUsize>,
}

impl Load {
    pub fn begin(publisher: &Publisher, url: &str) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            url: Arc::new(Mutex::new(url.to_owned())),
            tasks: JoinSet::new(),
            rounds: Arc::clone(&publisher.rounds),
        };
        for _ in 0..PUBLISHERS {
            let (stop, url) = (Arc::clone(&load.stop), Arc::clone(&load.url));
            let publisher = publisher.clone();
            load.tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let url = url.lock().unwrap().clone();
                    publisher.round(&url).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        load
    }

    /// From now on they publish there.
    pub fn turn_to(&self, url: &str) {
        url.clone_into(&mut self.url.lock().unwrap());
    }

    pub async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
        self.rounds.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_times_under_load_lose_nothing_and_double_nothing() {
    let kills = std::env::var("TIPOFF_CHAOS_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let mut dice = dice();
    let plant = Plant::new().await;
    let mut service = plant.start();
    let load = Load::begin(&plant.publisher, &service.url);
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(50 + dice.roll(300))).await;
        service.kill();
        if kill % 10 == 0 {
            plant.nothing_promised_is_lost();
        }
        service = plant.start();
        load.turn_to(&service.url);
    }
    load.end().await;
    let (promised, dispatches, arrivals) = plant.comes_to_rest(&service).await;
    assert!(promised > 4 * kills, "only {promised} messages were taken: that was no load");
    println!("{kills} kills: {promised} promised, {dispatches} dispatches, {arrivals} arrivals");
}
