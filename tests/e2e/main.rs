//! The real binary takes a game day over HTTP while it is killed again and again.
//!
//! Shows: every accepted event is in the journal, no dispatch is missing, none has two ids, and consumers see repeats
//! only with the same id.

mod alerts;
mod dead_letters;
#[path = "../support/emulator.rs"]
mod emulator;
mod hostile;
mod joins;
mod monitors;
mod replicas;
mod season;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::ToSpan;
use serde_json::{Value, json};

const KILLS: usize = 20;
/// Events of one game day, as the busiest recorded one had.
const EVENTS_MIN: usize = 5_000;
const SENDERS: usize = 12;

/// What the consumers saw: dispatch id of every message, by node and date.
type Seen = Mutex<BTreeMap<(String, String), BTreeMap<String, usize>>>;

#[derive(Clone)]
struct World {
    url: Arc<RwLock<String>>,
    client: reqwest::Client,
    seen: Arc<Seen>,
    accepted: Arc<Mutex<BTreeSet<String>>>,
    answering: Arc<AtomicUsize>,
}

impl World {
    /// Publishes until it is accepted, as a producer's client does.
    async fn publish(&self, topic: &str, body: Value) {
        let data = STANDARD.encode(body.to_string());
        let call = json!({ "messages": [{ "data": data }] });
        for _ in 0..2_000 {
            let url = self.url.read().unwrap().clone();
            let response = self
                .client
                .post(format!("{url}/v1/projects/p/topics/{topic}:publish"))
                .body(call.to_string())
                .timeout(Duration::from_secs(20))
                .send()
                .await;
            if let Ok(response) = response
                && response.status().is_success()
                && response.bytes().await.is_ok()
            {
                let told = match body.get("execution_id").and_then(Value::as_str) {
                    Some(run) => format!("completed {run}"),
                    None => format!("heartbeat {}", body["run_id"].as_str().unwrap()),
                };
                self.accepted.lock().unwrap().insert(told);
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never accepted: {body}");
    }

    /// What a processor does with a dispatch: it beats, works, and completes.
    async fn answer(self, node: String, date: String, id: String) {
        let name = node.split('.').next().unwrap().to_owned();
        let run = format!("run-{}", id.replace('/', "-"));
        let beat = json!({ "processor_name": name, "run_id": run, "data_date": date, "status": "running",
            "progress": 1, "total": 2 });
        self.publish("nba-processor-heartbeats", beat).await;
        let (topic, phase) = match node.as_str() {
            "team_offense_game_summary" | "team_defense_game_summary" | "player_game_summary" => {
                ("nba-phase3-analytics-complete", "phase_3_analytics")
            }
            _ => ("nba-phase4-precompute-complete", "phase_4_precompute"),
        };
        self.publish(topic, completion(&name, phase, &run, &date, 230)).await;
        self.answering.fetch_sub(1, Ordering::SeqCst);
    }
}

fn completion(name: &str, phase: &str, run: &str, date: &str, records: u32) -> Value {
    json!({ "processor_name": name, "phase": phase, "execution_id": run, "correlation_id": run, "game_date": date,
        "output_table": "", "status": "success", "record_count": records, "timestamp": "2026-01-01T00:00:00Z" })
}

/// A consumer: takes the push envelope or the bare body, remembers the dispatch id, and answers a new one once.
async fn consume(State(world): State<World>, body: String) -> StatusCode {
    let Ok(outer) = serde_json::from_str::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    let inner = match outer.pointer("/message/data").and_then(Value::as_str) {
        Some(data) => serde_json::from_slice(&STANDARD.decode(data).unwrap()).unwrap(),
        None => outer,
    };
    let manifest = &inner["tipoff"];
    let text = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
    let (node, date, id) = (text("node"), text("date"), text("dispatch_id"));
    assert!(!id.is_empty(), "a dispatch without its manifest: {inner}");
    let new = {
        let mut seen = world.seen.lock().unwrap();
        let ids = seen.entry((node.clone(), date.clone())).or_default();
        let count = ids.entry(id.clone()).or_default();
        *count += 1;
        *count == 1
    };
    if new && node != "grading" {
        world.answering.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(world.answer(node, date, id));
    }
    StatusCode::NO_CONTENT
}

struct Service {
    child: Child,
}

impl Service {
    fn start(data: &std::path::Path, pipeline: &std::path::Path, consumer: &str, world: &World) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--heartbeat-flush", "0s", "--log", "error"]);
        command.arg("--data").arg(data).arg("--pipeline-file").arg(pipeline);
        for name in [
            "nba-phase3-trigger-sub",
            "nba-phase4-trigger-sub",
            "nba-grading-trigger-sub",
            "nba-phase4-precompute-processors",
        ] {
            command.arg("--push").arg(format!("{name}={consumer}"));
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start the service");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("the service says where it listens").to_owned();
        *world.url.write().unwrap() = url;
        Self { child }
    }

    /// SIGKILL: nothing is drained, nothing is said goodbye to.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The messages of the post-game hours of a date: one completion and one heartbeat per file, and what the morning's
/// context runs said. Every processor has files to its end, so that no input is quiet before the day is over.
fn day(date: &str) -> Vec<(&'static str, Value)> {
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
    for file in 0..160 {
        for (index, name) in raw.iter().enumerate() {
            let run = format!("{date}-{index}-{file}");
            let beat = json!({ "processor_name": name, "run_id": run, "data_date": date, "status": "running",
                "progress": 0, "total": 1 });
            messages.push(("nba-processor-heartbeats", beat));
            messages.push(("nba-phase2-raw-complete", completion(name, "phase_2_raw", &run, date, 33)));
        }
    }
    for name in ["upcoming_player_game_context", "upcoming_team_game_context"] {
        let run = format!("{date}-{name}");
        let done = completion(name, "phase_3_analytics", &run, date, 206);
        messages.push(("nba-phase3-analytics-complete", done));
    }
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_day_survives_twenty_kills() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // Inputs settle for two minutes in production. Here the day takes a minute or two, and a start after a kill some
    // seconds on a busy machine: an input that is quiet for longer is quiet for good. What was built from less would be
    // built anew only in an hour.
    let patch = json!({ "pipelines": { "nba": { "defaults": { "rebuild_after": "1h" } } } });
    let text = tipoff::pipeline::with_overrides("pipeline.yaml", tipoff::pipeline::PIPELINE, &patch).unwrap();
    let text = text.replace("\"debounce\": \"2m\"", "\"debounce\": \"10s\"");
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, text).unwrap();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let consumer = format!("http://{}", listener.local_addr().unwrap());
    let world = World {
        url: Arc::default(),
        client: reqwest::Client::new(),
        seen: Arc::default(),
        accepted: Arc::default(),
        answering: Arc::default(),
    };
    let routes = Router::new().fallback(post(consume)).with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date();
    let dates: Vec<String> = [1, 2].map(|back: i64| today.saturating_sub(back.days()).to_string()).to_vec();
    let messages: Vec<_> = dates.iter().flat_map(|date| day(date)).collect();
    let total = messages.len();
    assert!(total >= EVENTS_MIN, "{total} events are not a game day");

    let mut service = Service::start(&data, &pipeline, &consumer, &world);
    let queue = Arc::new(Mutex::new(messages.into_iter()));
    let sent = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (world, queue, sent) = (world.clone(), queue.clone(), sent.clone());
            tokio::spawn(async move {
                loop {
                    let Some((topic, body)) = queue.lock().unwrap().next() else { break };
                    world.publish(topic, body).await;
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();

    // One kill each time another twenty-first of the day has been accepted, so that the kills fall all over it.
    let mut kills = 0;
    while kills < KILLS {
        let mark = total * (kills + 1) / (KILLS + 1);
        let deadline = Instant::now() + Duration::from_secs(60);
        while sent.load(Ordering::SeqCst) < mark {
            assert!(Instant::now() < deadline, "stuck at {} of {total}", sent.load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        service.kill();
        kills += 1;
        service = Service::start(&data, &pipeline, &consumer, &world);
    }
    for sender in senders {
        sender.await.unwrap();
    }

    let expected: BTreeSet<(String, String)> = dates
        .iter()
        .flat_map(|date| {
            [
                "team_offense_game_summary",
                "team_defense_game_summary",
                "player_game_summary",
                "team_defense_zone_analysis.overnight",
                "player_shot_zone_analysis.overnight",
                "player_daily_cache.overnight",
                "player_composite_factors.overnight",
                "ml_feature_store.overnight",
                "grading",
            ]
            .map(|node| (node.to_owned(), date.clone()))
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let seen: BTreeSet<_> = world.seen.lock().unwrap().keys().cloned().collect();
        let missing: Vec<_> = expected.difference(&seen).collect();
        if missing.is_empty() && world.answering.load(Ordering::SeqCst) == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "after {kills} kills these were never dispatched: {missing:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A drained end: SIGTERM.
    let status = Command::new("kill").arg(service.child.id().to_string()).status().unwrap();
    assert!(status.success());
    assert!(service.child.wait().unwrap().success(), "the service does not end well on SIGTERM");

    let seen = world.seen.lock().unwrap();
    for ((node, date), ids) in seen.iter().filter(|(key, _)| expected.contains(*key)) {
        assert_eq!(ids.len(), 1, "{node}@{date} was dispatched under {ids:?}");
    }
    let journaled = journaled(&data);
    let accepted = world.accepted.lock().unwrap();
    // A heartbeat that is read after its run's completion changes nothing, and what changes nothing is not journaled.
    let overtaken =
        |told: &str| told.strip_prefix("heartbeat ").is_some_and(|run| journaled.contains(&format!("completed {run}")));
    let lost: Vec<_> = accepted.difference(&journaled).filter(|told| !overtaken(told)).collect();
    assert!(lost.is_empty(), "{} accepted events are not in the journal: {lost:?}", lost.len());
    let repeats: usize = seen.values().flat_map(BTreeMap::values).map(|count| count - 1).sum();
    println!("{total} events, {kills} kills, {} dispatches, {repeats} repeats with the same id", seen.len());
}

/// Every completion and heartbeat that the journal tells of, by run.
fn journaled(data: &std::path::Path) -> BTreeSet<String> {
    let database = rusqlite::Connection::open(data.join("tipoff.db")).unwrap();
    let mut statement = database.prepare("SELECT entry FROM journal").unwrap();
    let entries = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut runs = BTreeSet::new();
    for entry in entries {
        let entry: Value = serde_json::from_str(&entry.unwrap()).unwrap();
        for event in entry["events"].as_array().unwrap() {
            if let (Some(kind), Some(run)) = (event["event"].as_str(), event["run"].as_str()) {
                runs.insert(format!("{kind} {run}"));
            }
        }
    }
    runs
}
