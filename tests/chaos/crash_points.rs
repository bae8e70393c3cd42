//! Every place of `tipoff::crash`, three passes each: the process dies there, and starts again on what it had stored.
//!
//! What holds after every fault is looked for in `plant`; here is what one place is about: what may, or must, come again,
//! and, where the file tells it, that the process died where it is said to have.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tipoff::crash::Place;
use tipoff::simulation::dice::Dice;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::plant::{LETTER_BOX, Plant, SUBSCRIPTION, Service, dice};

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
    let mut left = Left::default();
    if place == Place::Migration {
        let mut service = plant.start();
        plant.round(&service.url).await;
        service.kill();
    }
    for (index, pass) in passes.into_iter().enumerate() {
        if place == Place::Migration {
            age(&plant);
        }
        let crash = format!("{}:{pass}", place.name());
        let status = match plant.try_start(plant.command(&[], Some(&crash))) {
            Ok(service) => {
                left.is_kept_by_the_next_start(place, &plant, &service).await;
                until_it_dies(&plant, service, place, &mut left.asked).await
            }
            Err(status) => status,
        };
        assert_eq!(status.signal(), Some(SIGKILL), "{crash}: {status}");
        plant.nothing_promised_is_lost();
        shows(place, &plant, index + 1, pass);
        left.note(&plant);
    }
    let service = plant.start();
    if place == Place::Migration {
        plant.round(&service.url).await;
    }
    assert!(left.is_kept_by_the_next_start(place, &plant, &service).await, "it does not say what is in force");
    for key in &left.asked {
        // It is under way for half a minute, whoever has died meanwhile.
        let patience = Instant::now() + PATIENCE;
        while !plant.publisher.replay_letters(&service.url, key).await {
            assert!(Instant::now() < patience, "a replay is not answered");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let seen = plant.comes_to_rest(&service).await;
    left.came_again(place, &plant).await;
    seen
}

/// That the process died at the place, at its crash of that number, as the file shows it.
fn shows(place: Place, plant: &Plant, crash: usize, pass: u64) {
    let count = |sql: &str| usize::try_from(plant.count(sql)).unwrap();
    match place {
        Place::MarkUnanswered => {
            let noted = count("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL");
            assert!(noted >= usize::try_from(pass).unwrap(), "{noted} are noted as sent");
        }
        Place::LetterKept => {
            let (letters, parked) = (plant.letters("parked").len(), plant.parked().len());
            assert_eq!(letters, parked + crash, "one more is in the ledger than is parked with each crash");
        }
        Place::LetterUnsettled => {
            let settled = format!(
                "SELECT count(*) FROM deliveries WHERE settled_at IS NOT NULL AND subscription = '{LETTER_BOX}'"
            );
            assert!(plant.letters("dead").len() > count(&settled), "no letter is kept that is not settled");
        }
        Place::HistoryUnmarked => {
            let unmarked = "SELECT count(*) FROM tipoff_decisions WHERE CAST(insert_id AS INTEGER) >
                 coalesce((SELECT value FROM cursors WHERE name = 'exported'), 0)";
            assert!(count(unmarked) > 0, "no row is appended beyond what is noted");
        }
        _ => {}
    }
}

/// What the crashes have left, and what has to become of it.
#[derive(Default)]
struct Left {
    /// How often a dispatch had come by the time it was settled, by its id.
    settled: BTreeMap<String, usize>,
    /// The last notice that people had been told at each crash.
    told: Vec<String>,
    /// What was kept to be in force.
    in_force: Option<String>,
    /// The keys under which replays were asked for that were not answered.
    asked: Vec<String>,
}

impl Left {
    fn note(&mut self, plant: &Plant) {
        let arrivals = plant.consumer.arrivals();
        for id in settled(plant) {
            self.settled.entry(id.clone()).or_insert(arrivals[&id]);
        }
        self.told.extend(plant.consumer.told_last());
        self.in_force = in_force(plant);
    }

    /// What a start brings into force is kept, and at that place had not been. Whether that could be looked at: the next crash
    /// may come before the answer.
    async fn is_kept_by_the_next_start(&self, place: Place, plant: &Plant, service: &Service) -> bool {
        let config = plant.publisher.client.get(format!("{}/v1/config", service.url)).send().await;
        let Ok(config) = config else { return false };
        let Ok(config) = config.json::<serde_json::Value>().await else { return false };
        let at_work = config["digest"].as_str().map(str::to_owned);
        assert_eq!(in_force(plant), at_work);
        if place == Place::InForceUnkept {
            assert_ne!(self.in_force, at_work, "it was kept before the crash");
        }
        true
    }

    /// What was settled came no more, and what people were told and nobody knew of came once more.
    async fn came_again(&self, place: Place, plant: &Plant) {
        let arrivals = plant.consumer.arrivals();
        for (id, count) in &self.settled {
            assert_eq!(arrivals[id], *count, "{id} was settled, and came again");
        }
        if place == Place::ToldUnkept {
            assert_eq!(self.told.len(), 3);
            let again = || plant.consumer.told();
            plant.until("each notice comes again", || self.told.iter().all(|id| again()[id] > 1)).await;
            plant.consumer.was_told_once();
        }
        if place == Place::ReplayUnanswered {
            let replays = "SELECT count(*) FROM letters, json_each(letter -> '$.replays')";
            let replayed = "SELECT count(*) FROM letters WHERE json_array_length(letter, '$.replays') > 0";
            let sent = "SELECT count(*) FROM messages, letters, json_each(letter -> '$.replays') AS replay
                 WHERE messages.id = replay.value ->> '$.execution'";
            let left = "SELECT count(*) FROM messages WHERE attributes ->> '$.tipoff-replay' IS NOT NULL";
            let [replays, replayed, sent, left] = [replays, replayed, sent, left].map(|sql| plant.count(sql));
            assert!(replayed >= 3, "{replayed} letters were replayed");
            assert_eq!([replays, sent, left], [replayed; 3], "each letter that was asked for leaves once");
        }
    }
}

/// The dispatches that were pushed and acknowledged.
fn settled(plant: &Plant) -> Vec<String> {
    let database = plant.database();
    let query = format!(
        "SELECT attributes ->> '$.tipoff-dispatch-id' FROM deliveries JOIN messages ON messages.id = message
         WHERE subscription = '{SUBSCRIPTION}' AND outcome = 'acknowledged'"
    );
    let mut statement = database.prepare(&query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The digest of what was kept to be in force last.
fn in_force(plant: &Plant) -> Option<String> {
    let query = "SELECT document ->> '$.applied[#-1].digest' FROM documents WHERE name = 'in_force'";
    plant.database().query_row(query, [], |row| row.get(0)).unwrap_or_default()
}

/// Everything that leads by the places, again and again.
async fn until_it_dies(plant: &Plant, mut service: Service, place: Place, asked: &mut Vec<String>) -> ExitStatus {
    let patience = Instant::now() + PATIENCE;
    let mut ends = false;
    loop {
        if let Some(status) = service.child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < patience, "{} was not come by", place.name());
        plant.round(&service.url).await;
        let round = plant.publisher.rounds.load(Ordering::SeqCst);
        match place {
            Place::Drain if !ends => {
                service.signal("TERM");
                ends = true;
            }
            Place::InForceUnkept => {
                plant.configure(1 + round);
                service.signal("HUP");
            }
            Place::ReplayUnanswered => {
                let key = format!("ask-{round}");
                if !plant.publisher.replay_letters(&service.url, &key).await {
                    asked.push(key);
                }
            }
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
