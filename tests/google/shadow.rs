//! A shadow beside the real service, on one project of the emulators: it hears what the real one hears, and nothing of what
//! it decides leaves.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::any_hour;
use super::cloud::Cloud;
use super::service::Replica;

/// How long anything may take on a machine that also compiles.
const PATIENCE: Duration = Duration::from_secs(120);

fn tipoff(cloud: &Cloud, pipeline: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(arguments).args(["--backend", "google", "--project", &cloud.project, "--pipeline-file"]).arg(pipeline);
    let output = command.env_remove("GOOGLE_APPLICATION_CREDENTIALS").envs(cloud.environment()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_hears_what_the_real_one_hears_and_sends_nothing() {
    let Some(cloud) = Cloud::start(&tipoff::pipeline::shipped().unwrap().topology).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, any_hour::pipeline()).unwrap();

    let (code, said) = tipoff(&cloud, &pipeline, &["topics", "apply", "--shadow", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let log = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let shadow = [("TIPOFF_SHADOW", "true".to_owned())];
    let shadow = Replica::start_in(&cloud, &pipeline, &log("shadow.log"), &shadow);
    let real = Replica::start(&cloud, &pipeline, &log("shadow-real.log"));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut consumers = JoinSet::new();
    let seen = Arc::clone(&asked);
    let see = move |message: google_cloud_pubsub::model::Message| {
        seen.lock().unwrap().push(String::from_utf8(message.data.to_vec()).unwrap());
    };
    cloud.consume(&mut consumers, "nba-phase6-export-trigger-sub", see).await;

    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date().to_string();
    let done = |name: &str, phase: &str, run: &str| {
        json!({ "processor_name": name, "phase": phase, "execution_id": run, "correlation_id": run, "game_date": today,
            "output_table": "", "status": "success", "record_count": 282 })
        .to_string()
    };
    cloud
        .publish("nba-phase5-predictions-complete", &done("PredictionCoordinator", "phase_5_predictions", "b-1"))
        .await;
    let patience = Instant::now() + PATIENCE;
    while asked.lock().unwrap().is_empty() {
        assert!(Instant::now() < patience, "the real one asks for no export");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cloud.publish("nba-phase6-export-complete", &done("Phase6Export", "phase_6_export", "theirs")).await;

    // What the real one has done fulfils what the shadow has decided.
    let report = ["shadow", "report", &today, "--shadow", "--all", "--json"];
    let patience = Instant::now() + PATIENCE;
    loop {
        let (_, said) = tipoff(&cloud, &pipeline, &report);
        let read: Value = serde_json::from_str(&said).unwrap_or_default();
        let rows = read["dates"][0]["rows"].as_array().cloned().unwrap_or_default();
        if rows.iter().any(|row| row["node"] == "export" && row["kind"] == "same") {
            break;
        }
        assert!(Instant::now() < patience, "{said}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(asked.lock().unwrap().len(), 1, "one is the real one's: {asked:?}");
    // Neither has anything of the other's.
    let (_, said) = tipoff(&cloud, &pipeline, &["status", &today]);
    assert!(!said.contains("nothing that is decided is sent"), "{said}");
    let (_, said) = tipoff(&cloud, &pipeline, &["status", &today, "--shadow"]);
    assert!(said.starts_with("shadow: nothing that is decided is sent"), "{said}");
    assert!(shadow.end() && real.end());
}
