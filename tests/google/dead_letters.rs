//! Dead letters on the Pub/Sub emulator: collected by a replica that is killed, replayed by a command that is killed.
//!
//! Shows: none is lost on the way into the ledger; looking leaves the operators' subscription alone; and each letter is
//! replayed under one execution id, so that whatever the broker or a crash repeats is known to be a repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::cloud::Cloud;
use super::service::Replica;

const LETTERS: usize = 1_000;
const KILLS: usize = 4;
const TOPIC: &str = "nba-phase1-scrapers-complete";
const CONSUMER: &str = "nba-phase2-raw-sub";

fn dlq(cloud: &Cloud, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(["--json", "dlq"]).args(arguments).args(["--backend", "google", "--project", &cloud.project]);
    command.env_remove("GOOGLE_APPLICATION_CREDENTIALS").envs(cloud.environment());
    command
}

fn ask(cloud: &Cloud, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = dlq(cloud, arguments).output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    (output.status.code(), said.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
}

async fn waiting(replica: &Replica) -> u64 {
    let url = format!("{}/v1/dead-letters?limit=1", replica.url);
    let response = reqwest::get(url).await.unwrap();
    let board: Value = response.json().await.unwrap();
    board["count"].as_u64().unwrap_or_else(|| panic!("{board}"))
}

async fn until(replica: &Replica, count: u64, seconds: u64) {
    let patience = Instant::now() + Duration::from_secs(seconds);
    loop {
        let found = waiting(replica).await;
        if found >= count {
            return;
        }
        assert!(Instant::now() < patience, "{found} of {count} letters are in the ledger");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_the_broker_are_each_replayed_under_one_id() {
    let topology = tipoff::pipeline::shipped().unwrap().topology;
    let Some(cloud) = Cloud::start(&topology).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, tipoff::pipeline::PIPELINE).unwrap();
    let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("dead-letters.log");
    let replica = Replica::start(&cloud, &pipeline, &log);
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date().to_string();

    let body = |number: usize| {
        json!({ "scraper_name": "nbac_gamebook_pdf", "execution_id": format!("run-{number}"), "status": "success",
            "record_count": 9, "game_date": today })
        .to_string()
    };
    let mut refusing = JoinSet::new();
    cloud.refuse(&mut refusing, CONSUMER).await;
    let began = Instant::now();
    cloud.publish_all(TOPIC, (0..LETTERS).map(body).collect()).await;
    until(&replica, LETTERS as u64 / 4, 120).await;
    // Killed among the letters: what it had not kept comes again to the next.
    replica.kill();
    let replica = Replica::start(&cloud, &pipeline, &log);
    until(&replica, LETTERS as u64, 180).await;
    drop(refusing);
    println!("{LETTERS} letters collected in {:?}", began.elapsed());

    let replay =
        ["replay", "--topic", TOPIC, "--apply", "--reason", "it is back", "--per-second", "0", "--actor", "ann"];
    let dice = uuid::Uuid::new_v4().into_bytes();
    println!("dice {dice:?}");
    for die in dice.iter().take(KILLS) {
        let mut child = dlq(&cloud, &replay).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        std::thread::sleep(Duration::from_millis(8 * u64::from(*die)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let left = waiting(&replica).await;
    let (code, report) = ask(&cloud, &replay);
    assert_eq!(code, Some(0), "{report}");
    println!("{left} letters were left for the last, which ended after {:?}", began.elapsed());
    assert_eq!(waiting(&replica).await, 0);

    type Seen = BTreeMap<String, (BTreeSet<String>, usize)>;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let mut consumers = JoinSet::new();
    let into = seen.clone();
    let see = move |message: google_cloud_pubsub::model::Message| {
        let body: Value = serde_json::from_slice(&message.data).unwrap();
        if body["recovery"] == true {
            let text = |field: &str| body[field].as_str().unwrap().to_owned();
            let mut seen = into.lock().unwrap();
            let (executions, count) = seen.entry(text("original_execution_id")).or_default();
            executions.insert(text("execution_id"));
            *count += 1;
        }
    };
    cloud.consume(&mut consumers, CONSUMER, see).await;
    let patience = Instant::now() + Duration::from_secs(60);
    while seen.lock().unwrap().len() < LETTERS {
        assert!(Instant::now() < patience, "{} of {LETTERS} replays came", seen.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let seen = seen.lock().unwrap().clone();
    assert!(seen.values().all(|(executions, _)| executions.len() == 1), "a letter was replayed under two ids");
    let repeats: usize = seen.values().map(|(_, count)| count - 1).sum();
    println!("{repeats} repeats on the wire, each under its letter's one id");

    let (_, board) = ask(&cloud, &["list", "--all", "--limit", "10000"]);
    assert_eq!(board["count"], LETTERS);
    for letter in board["letters"].as_array().unwrap() {
        let replays = letter["replays"].as_array().unwrap();
        assert!(replays.len() == 1 && replays[0]["actor"] == "ann" && letter["stage"] == "replayed", "{letter}");
    }
    drop(consumers);
    // Nobody has looked at the operators' own subscription; it has them all at their first delivery.
    let theirs = Arc::new(Mutex::new(0));
    let mut operators = JoinSet::new();
    let count = theirs.clone();
    cloud.consume(&mut operators, "nba-phase1-scrapers-complete-dlq-sub", move |_| *count.lock().unwrap() += 1).await;
    let patience = Instant::now() + Duration::from_secs(60);
    while *theirs.lock().unwrap() < LETTERS {
        assert!(Instant::now() < patience, "operators have {} letters", theirs.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
