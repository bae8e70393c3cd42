//! Two replicas, and later three, on one Firestore and one set of subscriptions take a game day, every message twice and
//! out of order, while they are killed, paused and resumed, and while the emulators hang.
//!
//! Shows: every date gets all that it needs, no dispatch has two ids, repeats on the wire carry the same id, and every
//! completion that was published is in the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::ToSpan as _;
use serde_json::{Value, json};
use tipoff::adapter::firestore::{Firestore, Settings};
use tipoff::domain::event::Event;
use tipoff::port::Store as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cloud::Cloud;
use super::service::{Replica, says};

const REPLICAS_AT_FIRST: usize = 2;
/// Kills in every run of the tests; `TIPOFF_GOOGLE_KILLS` says otherwise.
const KILLS: usize = 10;
/// How long one sleeps.
const ASLEEP: Duration = Duration::from_secs(60);
/// At this kill one more replica joins, as when the service is scaled out.
const JOINED_AT: usize = 5;
/// Files of one raw table and date. Eight tables, two dates, a heartbeat and a completion each, all of it twice.
const FILES: usize = 40;

/// What a node is asked over, and how its completion is told.
const CONSUMED: [&str; 3] = ["nba-phase3-trigger-sub", "nba-phase4-trigger-sub", "nba-grading-trigger-sub"];
const SUMMARIES: [&str; 3] = ["team_offense_game_summary", "team_defense_game_summary", "player_game_summary"];
const OVERNIGHT: [&str; 3] =
    ["team_defense_zone_analysis.overnight", "player_shot_zone_analysis.overnight", "player_daily_cache.overnight"];

/// What the consumers saw: how often each dispatch id came, by node and date.
type Seen = Mutex<BTreeMap<(String, String), BTreeMap<String, usize>>>;

fn completion(name: &str, phase: &str, run: &str, date: &str) -> Value {
    json!({ "processor_name": name, "phase": phase, "execution_id": run, "correlation_id": run, "game_date": date,
        "output_table": "", "status": "success", "record_count": 230, "timestamp": "2026-01-01T00:00:00Z" })
}

fn heartbeat(name: &str, run: &str, date: &str) -> Value {
    json!({ "processor_name": name, "run_id": run, "data_date": date, "status": "running", "progress": 1, "total": 2 })
}

/// The messages of one date's night, as often as `FILES` says.
fn night(date: &str) -> Vec<(&'static str, Value)> {
    let raw = [
        "p2_nbacom_gamebook_pdf",
        "p2_nbacom_boxscores",
        "p2_nbacom_team_boxscore",
        "p2_nbacom_play_by_play",
        "p2_bigdataball_pbp",
        "p2_nbacom_injury_report",
        "p2_odds_player_props",
        "p2_odds_game_lines",
    ];
    let mut messages = Vec::new();
    for (index, name) in raw.iter().enumerate() {
        for file in 0..FILES {
            let run = format!("{date}-{index}-{file}");
            messages.push(("nba-processor-heartbeats", heartbeat(name, &run, date)));
            messages.push(("nba-phase2-raw-complete", completion(name, "phase_2_raw", &run, date)));
        }
    }
    for name in ["upcoming_player_game_context", "upcoming_team_game_context"] {
        let run = format!("{date}-{name}");
        messages.push(("nba-phase3-analytics-complete", completion(name, "phase_3_analytics", &run, date)));
    }
    messages
}

/// The real pipeline, in which every node runs once: a killed replica's messages come again a minute later, and would be
/// newer inputs of what has run by then. Inputs settle for two minutes in production, here for three seconds.
fn once_each() -> String {
    let text = tipoff::pipeline::with_overrides("pipeline.yaml", tipoff::pipeline::PIPELINE, &json!({})).unwrap();
    let mut declared: Value = serde_json::from_str(&text).unwrap();
    for node in declared["pipelines"]["nba"]["nodes"].as_object_mut().unwrap().values_mut() {
        for need in
            node.get_mut("needs").and_then(Value::as_object_mut).into_iter().flat_map(|needs| needs.values_mut())
        {
            need["refresh"] = json!("never");
        }
    }
    declared.to_string().replace("\"debounce\":\"2m\"", "\"debounce\":\"3s\"")
}

/// Another order, the same in every run.
fn shuffled<T>(mut items: Vec<T>) -> Vec<T> {
    let mut state = 20_260_123_u64;
    for index in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(index, usize::try_from(state >> 33).unwrap() % (index + 1));
    }
    items
}

/// The processors: each new dispatch is answered with a heartbeat and a completion.
async fn processors(cloud: &Arc<Cloud>, tasks: &mut JoinSet<()>, seen: &Arc<Seen>, busy: &Arc<AtomicUsize>) {
    let (ask, mut asked) = mpsc::unbounded_channel::<(String, String, String)>();
    for subscription in CONSUMED {
        let (seen, ask, busy) = (seen.clone(), ask.clone(), busy.clone());
        let see = move |message: google_cloud_pubsub::model::Message| {
            let body: Value = serde_json::from_slice(&message.data).unwrap();
            let text = |key: &str| body["tipoff"][key].as_str().unwrap_or_default().to_owned();
            let (node, date, id) = (text("node"), text("date"), text("dispatch_id"));
            assert!(!id.is_empty(), "a dispatch without its manifest: {body}");
            assert_eq!(message.attributes["tipoff-dispatch-id"], id);
            // The first of several messages of a dispatch stands for it.
            let count = {
                let mut seen = seen.lock().unwrap();
                let count = seen.entry((node.clone(), date.clone())).or_default().entry(id.clone()).or_default();
                *count += 1;
                *count
            };
            if count == 1 && node != "grading" {
                busy.fetch_add(1, Ordering::SeqCst);
                ask.send((node, date, id)).unwrap();
            }
        };
        cloud.consume(tasks, subscription, see).await;
    }
    let (cloud, busy) = (cloud.clone(), busy.clone());
    tasks.spawn(async move {
        while let Some((node, date, id)) = asked.recv().await {
            let name = node.split('.').next().unwrap();
            let run = format!("run-{}", id.replace('/', "-"));
            cloud.publish("nba-processor-heartbeats", &heartbeat(name, &run, &date).to_string()).await;
            let (topic, phase) = match SUMMARIES.contains(&node.as_str()) {
                true => ("nba-phase3-analytics-complete", "phase_3_analytics"),
                false => ("nba-phase4-precompute-complete", "phase_4_precompute"),
            };
            for _ in 0..2 {
                cloud.publish(topic, &completion(name, phase, &run, &date).to_string()).await;
            }
            busy.fetch_sub(1, Ordering::SeqCst);
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_day_survives_kills_zombies_and_hanging_emulators() {
    let kills = std::env::var("TIPOFF_GOOGLE_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    assert!(kills >= KILLS, "fewer than {KILLS} kills are not all that this test is about");
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, once_each()).unwrap();
    let declared = tipoff::pipeline::load(
        ("topics.yaml", tipoff::pipeline::TOPICS),
        ("pipeline.yaml", tipoff::pipeline::PIPELINE),
    );
    let topology = declared.unwrap().topology;
    let Some(cloud) = Cloud::start(&topology).await else { return };
    let cloud = Arc::new(cloud);
    let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("replicas.log");
    let _ = std::fs::remove_file(&log);

    let (seen, busy) = (Arc::new(Seen::default()), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    processors(&cloud, &mut tasks, &seen, &busy).await;

    let mut replicas: Vec<Replica> = (0..REPLICAS_AT_FIRST).map(|_| Replica::start(&cloud, &pipeline, &log)).collect();
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date();
    let dates: Vec<String> = [1, 2].map(|back: i64| today.saturating_sub(back.days()).to_string()).to_vec();
    let night: Vec<_> = dates.iter().flat_map(|date| night(date)).collect();
    let runs: BTreeSet<String> =
        night.iter().filter_map(|(_, body)| body["execution_id"].as_str().map(str::to_owned)).collect();
    let messages = shuffled(night.iter().chain(&night).cloned().collect());
    let total = messages.len();

    let mut zombie = None;
    let mark = total / (kills + 1);
    for (index, (topic, body)) in messages.into_iter().enumerate() {
        cloud.publish(topic, &body.to_string()).await;
        if index % mark != mark - 1 {
            continue;
        }
        let kill = index / mark;
        match kill {
            // One sleeps through a minute of the day and goes on with what it knew.
            2 => {
                replicas[0].signal("STOP");
                zombie = Some(Instant::now());
            }
            4 => {
                cloud.firestore.signal("STOP");
                tokio::time::sleep(Duration::from_secs(3)).await;
                cloud.firestore.signal("CONT");
            }
            JOINED_AT => replicas.push(Replica::start(&cloud, &pipeline, &log)),
            6 => {
                cloud.pubsub.signal("STOP");
                tokio::time::sleep(Duration::from_secs(3)).await;
                cloud.pubsub.signal("CONT");
            }
            _ => {}
        }
        if zombie.is_some_and(|since: Instant| since.elapsed() > ASLEEP) {
            replicas[0].signal("CONT");
            zombie = None;
        }
        if kill < kills {
            // The sleeping one is not killed: it is to wake up as a zombie.
            let all = replicas.len();
            let victim = if zombie.is_some() { 1 + kill % (all - 1) } else { kill % all };
            std::mem::replace(&mut replicas[victim], Replica::start(&cloud, &pipeline, &log)).kill();
            // Long enough that something is under way at each.
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }
    if let Some(since) = zombie {
        tokio::time::sleep(ASLEEP.saturating_sub(since.elapsed())).await;
        replicas[0].signal("CONT");
    }

    let expected: BTreeSet<(String, String)> = dates
        .iter()
        .flat_map(|date| {
            SUMMARIES.iter().chain(&OVERNIGHT).chain(&["grading"]).map(|node| ((*node).to_owned(), date.clone()))
        })
        .collect();
    let patience = Instant::now() + Duration::from_secs(100);
    loop {
        let found: BTreeSet<_> = seen.lock().unwrap().keys().cloned().collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        if missing.is_empty() && busy.load(Ordering::SeqCst) == 0 {
            break;
        }
        if Instant::now() > patience {
            let standing: String = dates.iter().map(|date| says(&cloud, &pipeline, &["status", date])).collect();
            panic!("never dispatched: {missing:?}; seen {found:?}\n{standing}\nsee {}", log.display());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let settings = Settings { emulator: Some(cloud.firestore.address.clone()), ..Settings::new(cloud.project.clone()) };
    let store = Firestore::connect(settings).await.unwrap();
    let patience = Instant::now() + Duration::from_secs(180);
    loop {
        let journaled = journaled(&store).await;
        let lost: Vec<_> = runs.difference(&journaled).collect();
        if lost.is_empty() {
            break;
        }
        assert!(Instant::now() < patience, "{} completions are not in the journal: {lost:?}", lost.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for replica in &replicas {
        // All read their subscriptions, the one that slept and the one that has just begun included.
        let patience = Instant::now() + ASLEEP;
        loop {
            let ready = reqwest::get(format!("{}/readyz", replica.url)).await.unwrap();
            if ready.status().is_success() {
                break;
            }
            assert!(Instant::now() < patience, "{}", ready.text().await.unwrap());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    for replica in replicas {
        assert!(replica.end(), "the service does not end well on SIGTERM");
    }
    let seen = seen.lock().unwrap();
    for ((node, date), ids) in seen.iter().filter(|(key, _)| expected.contains(*key)) {
        assert_eq!(ids.len(), 1, "{node}@{date} was dispatched under {ids:?}");
    }
    let repeats: usize = seen.values().flat_map(BTreeMap::values).map(|count| count - 1).sum();
    println!("{total} messages, {kills} kills, {} dispatches, {repeats} repeats with the same id", seen.len());
}

/// Every completion that the journal tells of, by run.
pub async fn journaled(store: &Firestore) -> BTreeSet<String> {
    let mut runs = BTreeSet::new();
    let mut after = 0;
    loop {
        let page = store.journal(None, after, 500).await.unwrap();
        let Some(last) = page.last() else { return runs };
        after = last.seq;
        for event in page.iter().flat_map(|entry| &entry.events) {
            if let Event::Completed(completed) = event {
                runs.insert(completed.run.to_string());
            }
        }
    }
}
