//! What only an operator can mend makes the service not ready, with what to do, and is tried until it is mended.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cloud::Cloud;
use super::service::Replica;

async fn readyz(replica: &Replica) -> (bool, Value) {
    let answer = reqwest::get(format!("{}/readyz", replica.url)).await.unwrap();
    (answer.status().is_success(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_subscription_is_named_until_it_is_there() {
    let Some(cloud) = Cloud::bare().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, tipoff::pipeline::PIPELINE).unwrap();
    let log = folder.path().join("log");
    let replica = Replica::start(&cloud, &pipeline, &log);
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let (ready, said) = readyz(&replica).await;
        assert!(!ready, "{said}");
        let fault = said["faults"]["subscription tipoff-nba-phase2-sub"].as_str().unwrap_or_default().to_owned();
        if fault.contains("NotFound") && fault.contains("`tipoff topics apply`") {
            break;
        }
        assert!(Instant::now() < patience, "{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Its start has said the same, for whoever reads the log.
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("subscription tipoff-nba-phase2-sub does not exist"), "{logged}");

    let mut apply = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    apply.args(["topics", "apply", "--yes", "--pull-instead", "--project", &cloud.project]).envs(cloud.environment());
    assert!(apply.output().unwrap().status.success());
    let patience = Instant::now() + Duration::from_secs(90);
    loop {
        let (ready, said) = readyz(&replica).await;
        if ready {
            break;
        }
        assert!(Instant::now() < patience, "{said}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // The pipeline's monitors answer here as anywhere, from the project's store.
    let answer = reqwest::get(format!("{}/stale-processor-monitor?dry_run=true", replica.url)).await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(answer["summary"], json!({ "healthy": 0, "stale": 0, "dead": 0, "recovered": 0 }));
    assert!(replica.end());
}
