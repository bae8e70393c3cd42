//! A message that ends the process each time it is handled: the broker gives it up, and it is kept where an operator sees it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cloud::Cloud;
use super::service::Replica;

const TOPIC: &str = "nba-phase3-analytics-complete";
/// Deliveries of a message before it is a dead letter: Pub/Sub's fewest. topics.yaml has twenty, over two hours.
const DELIVERIES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "each delivery waits for the end of a lease"]
async fn what_ends_the_process_each_time_is_given_up_by_the_broker_and_kept() {
    // A lease that nobody extends ends sooner, and what was handed out comes again at once.
    let topics = tipoff::pipeline::TOPICS
        .replace("ack_deadline: 60s", "ack_deadline: 10s")
        .replace("attempts_max: 20", &format!("attempts_max: {DELIVERIES}"))
        .replace("backoff: { min: 10s, max: 600s }", "backoff: { min: 0s, max: 1s }");
    let declared =
        tipoff::pipeline::load(("topics.yaml", &topics), ("pipeline.yaml", tipoff::pipeline::PIPELINE)).unwrap();
    let Some(cloud) = Cloud::start(&declared.topology).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, tipoff::pipeline::PIPELINE).unwrap();
    let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("poison.log");
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date().to_string();
    let done = |run: &str| {
        json!({ "processor_name": "PlayerGameSummaryProcessor", "phase": "phase_3_analytics", "execution_id": run,
            "correlation_id": run, "game_date": today, "output_table": "", "status": "success", "record_count": 9 })
        .to_string()
    };
    cloud.publish(TOPIC, &done("poison")).await;
    let mut ends = 0;
    let patience = Instant::now() + Duration::from_secs(900);
    // Whoever starts it does so again and again.
    loop {
        // A message of ours that is decoded ends it; what it sends itself to see whether a connection lives is read before.
        let crash = [("TIPOFF_CRASH", "k02:1".to_owned())];
        let ended = match Replica::try_start_in(&cloud, &pipeline, &log, &crash) {
            // The lease of whoever died before ends within a minute.
            Ok(mut replica) => replica.ended_within(Duration::from_secs(90)).await,
            Err(status) => Some(status),
        };
        let Some(status) = ended else { break };
        assert!(!status.success(), "{status}");
        ends += 1;
        assert!(Instant::now() < patience && ends <= 2 * DELIVERIES, "{ends} ends, and it comes again");
    }
    println!("{ends} ends of the process");
    assert!(ends >= DELIVERIES - 1, "{ends} ends of the process, so it was not the message");
    // What comes beside it is worked on, and it is in the ledger.
    let replica = Replica::start(&cloud, &pipeline, &log);
    cloud.publish(TOPIC, &done("sound")).await;
    let board = async || {
        let answer = reqwest::get(format!("{}/v1/dead-letters?limit=10", replica.url)).await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    while board().await["count"] != 1 {
        assert!(Instant::now() < patience, "{}", board().await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let letter = board().await["letters"][0].clone();
    assert!(letter.to_string().contains("poison"), "{letter}");
    let timeline = async || {
        let url = format!("{}/v1/pipelines/nba/dates/{today}/timeline", replica.url);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    while !timeline().await.contains("sound") {
        assert!(Instant::now() < patience, "{}", timeline().await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
