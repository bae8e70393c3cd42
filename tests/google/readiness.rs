//! What only an operator can mend makes the service not ready, with what to do, and is tried until it is mended.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_at_the_start_is_waited_for() {
    let Some(cloud) = Cloud::bare().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, tipoff::pipeline::PIPELINE).unwrap();
    // Nobody listens there yet.
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let environment = [("FIRESTORE_EMULATOR_HOST", place.to_string())];
    let replica = Replica::start_in(&cloud, &pipeline, &folder.path().join("log"), &environment);
    let status = async |path: &str| reqwest::get(format!("{}{path}", replica.url)).await.unwrap().status().as_u16();
    assert_eq!((status("/healthz").await, status("/startupz").await), (200, 503));
    assert_eq!((status("/readyz").await, status("/v1/pipelines").await), (503, 503));

    let listener = TcpListener::bind(place).await.unwrap();
    let to = cloud.firestore.address.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut on = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut on).await;
            });
        }
    });
    let patience = Instant::now() + Duration::from_secs(60);
    while status("/v1/pipelines").await != 200 {
        assert!(Instant::now() < patience, "{}", std::fs::read_to_string(folder.path().join("log")).unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(replica.end());
}
