//! `plan`: what another declaration would change, said before anything does.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::run;
use crate::running::{Running, completion, heartbeat};

/// The built-in pipelines with `from` replaced by `to`, which has to be there once.
fn changed(folder: &tempfile::TempDir, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = tipoff::pipeline::PIPELINE.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    written(folder, &text)
}

fn written(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("pipeline.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn plan(service: &Running, file: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    run(&[&["plan", "--server", &service.url, "--pipeline-file", file.to_str().unwrap()], more].concat())
}

fn plan_json(service: &Running, file: &Path) -> (Option<i32>, Value) {
    let (code, said, errors) = plan(service, file, &["--json"]);
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{errors}")))
}

#[tokio::test]
async fn what_another_declaration_would_do_to_the_dates_in_flight_is_told_first() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "alive-1", 3, 9)).await;
    let done = completion("PredictionCoordinator", "phase_5_predictions", "batch-1", "success");
    assert!(service.publish("nba-phase5-predictions-complete", &done).await.is_success());
    let folder = tempfile::tempdir().unwrap();

    // The same file changes nothing.
    let same = changed(&folder, &[]);
    let (code, said, errors) = plan(&service, &same, &[]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("the declarations are the same") && said.contains("0 would change"), "{said}");

    // A node that is gone takes what is known of it along.
    let gone = written(&folder, &tipoff::pipeline::PIPELINE.replace("player_daily_cache", "player_cache"));
    let (code, found) = plan_json(&service, &gone);
    assert_eq!(code, Some(1), "{found}");
    let date = &found["revision"]["dates"][0];
    assert_eq!(date["lost"], json!([{ "node": "player_daily_cache", "state": "running", "alive": 1 }]), "{found}");
    assert_eq!(found["takes_away"], json!(true));
    assert!(found["differences"].as_array().unwrap().len() > 1);
    let (_, said, _) = plan(&service, &gone, &[]);
    assert!(said.contains("loses player_daily_cache (running, 1 runs alive)"), "{said}");

    // A file that is wrong is refused with its line, before anything is asked.
    let wrong = changed(&folder, &[("      player_daily_cache:\n", "      player_daily_cache:\n        needz: {}\n")]);
    let (code, _, errors) = plan(&service, &wrong, &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("needz") && errors.contains("pipeline.yaml:"), "{errors}");
}
