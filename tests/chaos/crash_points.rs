//! Every place of `tipoff::crash`, three passes each: the process dies there, and starts again on what it had stored.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tipoff::crash::Place;
use tipoff::simulation::dice::Dice;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::plant::{Plant, Service, dice};

const SIGKILL: i32 = 9;
const PATIENCE: Duration = Duration::from_secs(60);
/// Places under way at once; most of a pass is waiting.
const SIDE_BY_SIDE: usize = 6;

/// At which pass the process dies, each time on what the last one left. The end of a service, a migration and what is read
/// anew have as many passes as they have steps; people are told, and history is written, every few seconds.
fn passes(place: Place, dice: &mut Dice) -> [u64; 3] {
    match place {
        Place::Migration | Place::Drain | Place::InForceUnkept => [1, 2, 3],
        Place::HistoryUnmarked | Place::ToldUnkept => [1, 1, 2],
        _ => [1, 2, 3 + dice.roll(8)],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_place_loses_nothing_and_doubles_nothing() {
    let room = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut crashes = JoinSet::new();
    let mut dice = dice();
    for place in Place::ALL {
        let passes = passes(*place, &mut dice);
        let room = Arc::clone(&room);
        crashes.spawn(async move {
            let _room = room.acquire().await.unwrap();
            (place.name(), passes, crash(*place, passes).await)
        });
    }
    let mut done = Vec::new();
    while let Some(crashed) = crashes.join_next().await {
        done.push(crashed.unwrap());
    }
    done.sort_unstable_by_key(|(name, ..)| *name);
    for (name, passes, (promised, dispatches, arrivals)) in &done {
        println!("{name} at passes {passes:?}: {promised} promised, {dispatches} dispatches, {arrivals} arrivals");
    }
    assert_eq!(done.len(), Place::ALL.len());
}

async fn crash(place: Place, passes: [u64; 3]) -> (usize, usize, usize) {
    let plant = Plant::new().await;
    let mut round = 0;
    if place == Place::Migration {
        let mut service = plant.start();
        plant.round(&service.url, round).await;
        service.kill();
    }
    for pass in passes {
        if place == Place::Migration {
            age(&plant);
        }
        let crash = format!("{}:{pass}", place.name());
        let status = match plant.try_start(plant.command(&[], Some(&crash))) {
            Ok(service) => until_it_dies(&plant, service, place, &mut round).await,
            Err(status) => status,
        };
        assert_eq!(status.signal(), Some(SIGKILL), "{crash}: {status}");
        plant.nothing_promised_is_lost();
    }
    let service = plant.start();
    if place == Place::Migration {
        plant.round(&service.url, round).await;
    }
    plant.comes_to_rest(&service).await
}

/// Everything that leads by the places, again and again.
async fn until_it_dies(plant: &Plant, mut service: Service, place: Place, round: &mut usize) -> ExitStatus {
    let patience = Instant::now() + PATIENCE;
    let mut ends = false;
    loop {
        if let Some(status) = service.child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < patience, "{} was not come by in {round} rounds", place.name());
        plant.round(&service.url, *round).await;
        *round += 1;
        match place {
            Place::Drain if !ends => {
                service.signal("TERM");
                ends = true;
            }
            Place::InForceUnkept => {
                plant.configure(1 + *round);
                service.signal("HUP");
            }
            Place::ReplayUnanswered => plant.replay_letters(&service.url).await,
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes the store one of the first version of the program.
fn age(plant: &Plant) {
    let aged = "DROP TABLE IF EXISTS tipoff_decisions; DROP TABLE IF EXISTS warehouse_report; PRAGMA user_version = 1";
    plant.database().execute_batch(aged).unwrap();
}
