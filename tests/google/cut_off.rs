//! One replica of two is cut off, from the store or from the broker; the other goes on with what is the first one's. And a store
//! that answers slowly.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::{Value, json};
use tipoff::adapter::firestore::{Firestore, Settings};
use tokio::task::JoinSet;

use super::any_hour;
use super::cloud::Cloud;
use super::replicas::journaled;
use super::service::Replica;
use super::wire::Wire;

/// How long anything may take on a machine that also compiles: leases of what one had in hand end first.
const PATIENCE: Duration = Duration::from_secs(180);
/// Completions that are published while one is cut off, of which it has its share in hand.
const MESSAGES: usize = 60;

/// Two replicas on one project, the first by a way that may fail.
struct Two {
    cloud: Cloud,
    first: Replica,
    second: Replica,
    wire: Wire,
    today: Date,
    /// The dispatches of `export` that its consumer got, by id.
    exports: Arc<Mutex<Vec<String>>>,
    _consumers: JoinSet<()>,
    _folder: tempfile::TempDir,
}

/// Begins with the first one's way, of which `through` names the variable that is to lead over the wire.
async fn two(through: &'static str) -> Option<Two> {
    let cloud = Cloud::start(&tipoff::pipeline::shipped().unwrap().topology).await?;
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.yaml");
    std::fs::write(&pipeline, any_hour::pipeline()).unwrap();
    let address = cloud.environment().into_iter().find(|(name, _)| *name == through).unwrap().1;
    let wire = Wire::to(&address).await;
    let log = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{through}-{name}.log"));
    let first = Replica::start_in(&cloud, &pipeline, &log("first"), &[(through, wire.address.clone())]);
    let second = Replica::start(&cloud, &pipeline, &log("second"));
    let exports: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut consumers = JoinSet::new();
    let seen = Arc::clone(&exports);
    let see = move |message: google_cloud_pubsub::model::Message| {
        let body: Value = serde_json::from_slice(&message.data).unwrap();
        if body["tipoff"]["node"] == "export" {
            seen.lock().unwrap().push(body["tipoff"]["dispatch_id"].as_str().unwrap().to_owned());
        }
    };
    cloud.consume(&mut consumers, "nba-phase6-export-trigger-sub", see).await;
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date();
    let two = Two { cloud, first, second, wire, today, exports, _consumers: consumers, _folder: folder };
    two.until_ready(&two.first, true).await;
    two.until_ready(&two.second, true).await;
    Some(two)
}

impl Two {
    async fn until_ready(&self, replica: &Replica, ready: bool) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let said = reqwest::get(format!("{}/readyz", replica.url)).await.unwrap();
            if said.status().is_success() == ready {
                return;
            }
            assert!(Instant::now() < patience, "ready: {ready}? {}", said.text().await.unwrap());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn until_exported(&self, times: usize) {
        let patience = Instant::now() + PATIENCE;
        while self.ids().len() < times {
            assert!(Instant::now() < patience, "{times} exports, not {:?}", self.ids());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn until_succeeded(&self, node: &str) {
        let date = format!("{}/v1/pipelines/nba/dates/{}", self.first.url, self.today);
        let patience = Instant::now() + PATIENCE;
        loop {
            let said = reqwest::get(&date).await.unwrap().text().await.unwrap();
            let said: Value = serde_json::from_str(&said).unwrap();
            let nodes = said["nodes"].as_array().unwrap_or_else(|| panic!("{said}"));
            if nodes.iter().any(|known| known["node"] == node && known["state"] == "succeeded") {
                return;
            }
            assert!(Instant::now() < patience, "{said}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The ids under which `export` was asked for.
    fn ids(&self) -> BTreeSet<String> {
        self.exports.lock().unwrap().iter().cloned().collect()
    }

    async fn publish(&self, topic: &str, name: &str, phase: &str, run: &str, date: Date) {
        let body = json!({ "processor_name": name, "phase": phase, "execution_id": run, "correlation_id": run,
            "game_date": date.to_string(), "output_table": "", "status": "success", "record_count": 282 });
        self.cloud.publish(topic, &body.to_string()).await;
    }

    /// Completions of yesterday's loads, each of a run of its own: which runs.
    async fn loaded(&self, name: &str) -> BTreeSet<String> {
        let yesterday = self.today.saturating_sub(1.day());
        let runs: BTreeSet<String> = (0..MESSAGES).map(|nth| format!("{name}-{nth}")).collect();
        for run in &runs {
            self.publish("nba-phase2-raw-complete", "p2_nbacom_boxscores", "phase_2_raw", run, yesterday).await;
        }
        runs
    }

    /// Waits until the completions of these runs are in the journal.
    async fn until_journaled(&self, runs: &BTreeSet<String>) {
        let emulator = Some(self.cloud.firestore.address.clone());
        let settings = Settings { emulator, ..Settings::new(self.cloud.project.clone()) };
        let store = Firestore::connect(settings).await.unwrap();
        let patience = Instant::now() + PATIENCE;
        loop {
            let journaled = journaled(&store).await;
            let missing: Vec<_> = runs.difference(&journaled).collect();
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < patience, "not taken in: {missing:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// How often the first has handed a message back.
    async fn handed_back(&self) -> u64 {
        let metrics = reqwest::get(format!("{}/metrics", self.first.url)).await.unwrap().text().await.unwrap();
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("tipoff_messages_total{") && line.contains("outcome=\"handed_back\""));
        lines.filter_map(|line| line.rsplit(' ').next()).map(|count| count.parse::<f64>().unwrap() as u64).sum()
    }

    async fn predicted(&self) {
        self.publish(
            "nba-phase5-predictions-complete",
            "PredictionCoordinator",
            "phase_5_predictions",
            "b-1",
            self.today,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_that_is_cut_off_from_the_store_has_in_hand_goes_to_another() {
    let Some(two) = two("FIRESTORE_EMULATOR_HOST").await else { return };
    two.wire.cut();
    let runs = two.loaded("cut").await;
    two.predicted().await;
    two.until_exported(1).await;
    two.until_journaled(&runs).await;
    // Some of it was the first one's, or this shows nothing.
    assert!(two.handed_back().await > 0, "the one that is cut off had nothing in hand");
    two.until_ready(&two.first, false).await;
    two.until_ready(&two.second, true).await;
    two.wire.open();
    two.until_ready(&two.first, true).await;
    assert_eq!(two.ids().len(), 1, "{:?}", two.ids());
    assert!(two.first.end() && two.second.end());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_that_is_cut_off_from_the_broker_decides_is_sent_by_another() {
    let Some(two) = two("PUBSUB_EMULATOR_HOST").await else { return };
    two.predicted().await;
    two.until_exported(1).await;
    two.publish("nba-phase6-export-complete", "Phase6Export", "phase_6_export", "done", two.today).await;
    two.until_succeeded("export").await;
    two.wire.cut();
    // Asked of the one that cannot send it, which decides it all the same.
    let mut retry = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    retry.args(["retry", &two.today.to_string(), "export", "--reason", "once more", "--server", &two.first.url]);
    let asked = retry.output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    two.until_exported(2).await;
    two.wire.open();
    two.until_ready(&two.first, true).await;
    // What was on its way when it was cut comes now, under the same id.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(two.ids().len(), 2, "{:?}", two.exports.lock().unwrap());
    assert!(two.first.end() && two.second.end());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_answers_more_and_more_slowly_loses_nothing_and_doubles_nothing() {
    let Some(two) = two("FIRESTORE_EMULATOR_HOST").await else { return };
    // All of it is the slow one's to do.
    two.second.signal("TERM");
    let patience = Instant::now() + PATIENCE;
    while reqwest::get(format!("{}/healthz", two.second.url)).await.is_ok() {
        assert!(Instant::now() < patience, "the second goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for millis in [50, 500, 1_000] {
        two.wire.slow(Duration::from_millis(millis));
        let runs = two.loaded(&format!("slow-{millis}")).await;
        two.until_journaled(&runs).await;
    }
    two.predicted().await;
    two.until_exported(1).await;
    two.wire.slow(Duration::ZERO);
    two.until_ready(&two.first, true).await;
    assert_eq!(two.ids().len(), 1, "{:?}", two.ids());
    assert!(two.first.end());
}
