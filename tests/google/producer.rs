//! A real producer: Google's Python clients publish completions and write heartbeat documents, as processors do today.
//!
//! Shows: the dispatches they lead to; a run that beats in Firestore and over the topic is one run; a run that falls
//! silent there is fenced, its lock released, and its node dispatched again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::ToSpan as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::cloud::Cloud;
use super::service::{Replica, says};

/// Where the clients are installed, by `tests/support/producers.sh`.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/producers/bin/python");
    if python.is_file() {
        return Some(python);
    }
    super::emulator::missing("Google's Python clients are not installed: run tests/support/producers.sh");
    None
}

struct Producer<'a> {
    python: PathBuf,
    cloud: &'a Cloud,
}

impl Producer<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/google/producer.py");
        let mut command = Command::new(&self.python);
        command.arg(script).args(arguments).envs(self.cloud.environment());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// The real pipeline, with a clock twenty times as fast where silence is judged.
fn impatient() -> String {
    let patch = json!({ "pipelines": { "nba": { "defaults": {
        "heartbeat": { "every": "3s", "stale_after": "10s", "dead_after": "20s" }, "retry": { "backoff": "1s" } } } } });
    let text = tipoff::pipeline::with_overrides("pipeline.yaml", tipoff::pipeline::PIPELINE, &patch).unwrap();
    text.replace("\"debounce\": \"2m\"", "\"debounce\": \"1s\"")
}

async fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> Result<(), String>) {
    let patience = Instant::now() + patience;
    while let Err(why) = holds() {
        assert!(Instant::now() < patience, "{what}: {why}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processors_as_they_are_today_are_understood() {
    let Some(python) = python() else { return };
    let (topics, built_in) = (tipoff::pipeline::TOPICS, tipoff::pipeline::PIPELINE);
    let declared = tipoff::pipeline::load(("topics.yaml", topics), ("pipeline.yaml", built_in)).unwrap();
    let Some(cloud) = Cloud::start(&declared.topology).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, impatient()).unwrap();
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("producer.log");
    let _ = std::fs::remove_file(&log);
    let replica = Replica::start(&cloud, &pipeline, &log);

    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let mut tasks = JoinSet::new();
    let see = asked.clone();
    let collect = move |message: google_cloud_pubsub::model::Message| {
        see.lock().unwrap().push(serde_json::from_slice(&message.data).unwrap());
    };
    cloud.consume(&mut tasks, "nba-phase3-trigger-sub", collect).await;
    let dispatched = |node: &str, attempt: u64| {
        let asked = asked.lock().unwrap();
        asked.iter().any(|body| body["tipoff"]["node"] == node && body["tipoff"]["attempt"] == attempt)
    };

    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let date = zone.to_datetime(tipoff::clock::Clock::System.now()).date().saturating_sub(1.days()).to_string();
    let producer = Producer { python, cloud: &cloud };
    let table = "nba_raw.nbac_team_boxscore";
    let raw = "nba-phase2-raw-complete";
    producer.run(&["completed", raw, "NbacTeamBoxscoreProcessor", "phase_2_raw", "5d6e7f80", &date, table, "16"]);
    until("a completion leads to its dispatch", Duration::from_secs(60), || {
        if dispatched("team_offense_game_summary", 1) { Ok(()) } else { Err(format!("{:?}", asked.lock().unwrap())) }
    })
    .await;

    // The document's name is the processor's, as now, or has the date and the run in it, as in January.
    let (class, run) = ("TeamOffenseGameSummaryProcessor", "a1b2c3d4");
    let january = format!("TeamDefenseGameSummaryProcessor_{date}_e5f60718");
    producer.run(&["lock", class, &date]);
    producer.run(&["heartbeat", class, class, run, &date, "running", "50", "100"]);
    producer.run(&["heartbeat", &january, "TeamDefenseGameSummaryProcessor", "e5f60718", &date, "running", "1", "2"]);
    producer.run(&["beat", "nba-processor-heartbeats", class, run, &date]);
    let node = |name: &str| -> Value {
        let status: Value = serde_json::from_str(&says(&cloud, &pipeline, &["status", &date, "--json"])).unwrap();
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["node"] == name).cloned().unwrap_or_default()
    };
    for name in ["team_offense_game_summary", "team_defense_game_summary"] {
        until("a heartbeat in Firestore is heard", Duration::from_secs(30), || {
            let node = node(name);
            if node["state"] == "running" { Ok(()) } else { Err(node.to_string()) }
        })
        .await;
    }
    let timeline = says(&cloud, &pipeline, &["timeline", &date, "team_offense_game_summary", "--json"]);
    let moves = timeline.matches(r#"["team_offense_game_summary","dispatched","running"]"#).count();
    assert_eq!(moves, 1, "the same run on both roads is one run:\n{timeline}");
    assert!(!timeline.contains("wrong_topic"), "{timeline}");

    // Nobody beats any more: the run of the first is dead, its lock is in the way of the next, and both are dealt with.
    until("a dead run's node is dispatched again", Duration::from_secs(150), || {
        if dispatched("team_offense_game_summary", 2) {
            return Ok(());
        }
        Err(node("team_offense_game_summary").to_string())
    })
    .await;
    until("a dead run's lock is released", Duration::from_secs(20), || {
        match &*producer.run(&["locked", class, &date]) {
            "free" => Ok(()),
            locked => Err(locked.to_owned()),
        }
    })
    .await;
    let again = |body: &&Value| body["tipoff"]["node"] == "team_offense_game_summary" && body["tipoff"]["attempt"] == 2;
    let manifest = asked.lock().unwrap().iter().find(again).cloned().unwrap();
    assert_eq!(manifest["tipoff"]["cause"], "heartbeat_dead", "{manifest}");
    assert_eq!(manifest["tipoff"]["fenced_run_id"], run, "{manifest}");
    assert!(replica.end());
}
