//! A replica whose clock is two hours ahead of the broker's and the store's.

use std::time::{Duration, Instant};

use jiff::ToSpan as _;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::service::Replica;
use super::{emulator, faketime};

/// The alerts that are on, by key.
async fn alerts(replica: &Replica) -> Vec<String> {
    let answer = reqwest::get(format!("{}/v1/alerts", replica.url)).await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let alerts = answer["alerts"].as_array().unwrap_or_else(|| panic!("{answer}"));
    alerts.iter().map(|alert| alert["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_told_and_declares_nobody_dead() {
    let topology = tipoff::pipeline::shipped().unwrap().topology;
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, log, hand) = (folder.path().join("p.yaml"), folder.path().join("log"), folder.path().join("clock"));
    std::fs::write(&pipeline, tipoff::pipeline::PIPELINE).unwrap();
    std::fs::write(&hand, "+2h").unwrap();
    let Some(ahead) = faketime::environment(&hand) else { return emulator::missing("libfaketime is not installed") };
    let Some(cloud) = Cloud::start(&topology).await else { return };
    let replica = Replica::start_in(&cloud, &pipeline, &log, &ahead);
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date();
    let beat = json!({ "processor_name": "p2_nbacom_boxscores", "run_id": "alive", "status": "running",
        "data_date": today.saturating_sub(1.day()).to_string(), "progress": 1, "total": 2 });
    cloud.publish("nba-processor-heartbeats", &beat.to_string()).await;
    let until = async |replica: &Replica, on: bool| {
        let patience = Instant::now() + Duration::from_secs(90);
        loop {
            let alerts = alerts(replica).await;
            if alerts.iter().any(|key| key == "self:clock") == on {
                return;
            }
            assert!(Instant::now() < patience, "{alerts:?}\nsee {}", std::fs::read_to_string(&log).unwrap());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    until(&replica, true).await;
    // By its own clock the run was silent for two hours when it began to listen, and a minute is over since then.
    tokio::time::sleep(Duration::from_secs(80)).await;
    let told = alerts(&replica).await;
    assert!(!told.iter().any(|key| key.starts_with("dead:") || key.starts_with("stale:")), "{told:?}");
    assert!(replica.end());
    let replica = Replica::start(&cloud, &pipeline, &log);
    until(&replica, false).await;
    assert!(replica.end());
}
