//! The stories with the engine on the Firestore and Pub/Sub emulators: the same file, the same clock, another store and
//! another bus.
//!
//! Which ones: the first of each incident but what `TOO_LONG` names, and those that use a store in a way of their own; some
//! with the process killed anywhere too. A commit takes milliseconds here, and the others ask of the engine what they ask
//! on the embedded store as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tipoff::adapter::firestore::{Firestore, Settings};
use tipoff::adapter::google::bus::GoogleBus;
use tipoff::adapter::google::services::Services;
use tipoff::adapter::pubsub::{Connection, publisher::Publisher};
use tipoff::configuration::{Identity, Service};
use tipoff::pipeline::{PIPELINE, TOPICS};
use tipoff::port::{Bus, Store};
use tipoff::scenario::file::Scenario;
use tipoff::scenario::ground::Ground;
use tipoff::scenario::run::{declarations, run_on};
use tipoff::scenario::world::Regime;
use tipoff::topology::Topology;

use super::cloud::Cloud;

/// Thousands of messages show volume, which the day of the replicas shows here.
const TOO_LONG: [&str; 4] = [
    "inc-20-seven-thousand-runs.yaml",
    "inc-22-three-weeks-of-backlog.yaml",
    "inc-24-flood.yaml",
    "inc-27-the-cleaner-in-full.yaml",
];
/// A past that is read back, a store that is away under a run, silence that is told from the store's own.
const OF_STORES: [&str; 3] =
    ["forecast-rosters-late.yaml", "store-away-under-a-beating-run.yaml", "silence-of-our-own.yaml"];
/// Of so many first stories one is killed.
const KILLED_EACH: usize = 6;
const SEED: u64 = 42;

/// One database on the emulator, and the topics of the test's project.
struct Emulated {
    settings: Settings,
    publisher: Arc<Publisher>,
    topology: Arc<Topology>,
    services: BTreeMap<String, Service>,
}

/// A service that takes every call.
async fn willing() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = axum::Router::new().fallback(|| async { "{\"status\": \"completed\", \"results\": []}" });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[async_trait]
impl Ground for Emulated {
    async fn open(&mut self) -> Result<(Arc<dyn Store>, Arc<dyn Bus>), String> {
        let firestore = Firestore::connect(self.settings.clone()).await.map_err(|error| error.to_string())?;
        let firestore = Arc::new(firestore);
        let services = Services::new(&self.services).map_err(|error| error.to_string())?;
        let bus = GoogleBus::new(self.topology.clone(), self.publisher.clone(), services, firestore.clone());
        Ok((firestore, Arc::new(bus)))
    }
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| !TOO_LONG.contains(&&*path.file_name().unwrap().to_string_lossy()))
        .collect();
    files.sort();
    files
}

/// The first story of each incident.
fn firsts(stories: &[PathBuf]) -> Vec<PathBuf> {
    let incident = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.strip_prefix("inc-").and_then(|rest| rest.split('-').next()).map(str::to_owned)
    };
    let mut known = std::collections::BTreeSet::new();
    stories.iter().filter(|path| incident(path).is_some_and(|incident| known.insert(incident))).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stories_hold_on_the_emulators() {
    let declared = tipoff::pipeline::load(("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE)).unwrap();
    let Some(cloud) = Cloud::start(&declared.topology).await else { return };
    let connection = Connection { project: cloud.project.clone(), emulator: Some(cloud.pubsub.address.clone()) };
    let publisher = Arc::new(Publisher::connect(connection).await.unwrap());
    let url = willing().await;
    let stories = stories();
    let is_of_stores = |path: &&PathBuf| path.file_name().is_some_and(|name| OF_STORES.iter().any(|own| name == *own));
    let own: Vec<PathBuf> = stories.iter().filter(is_of_stores).cloned().collect();
    assert_eq!(own.len(), OF_STORES.len(), "a story of OF_STORES is gone");
    let firsts = firsts(&stories);
    let plain = firsts.iter().chain(&own).cloned().map(|path| (path, Regime::Plain));
    let killed = firsts.iter().step_by(KILLED_EACH).cloned().map(|path| (path, Regime::RestartAnywhere(SEED)));
    let mut missed = Vec::new();
    for (nth, (path, regime)) in plain.chain(killed).enumerate() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let started = std::time::Instant::now();
        let scenario = Scenario::read(&name, &std::fs::read_to_string(&path).unwrap()).unwrap();
        let declared = declarations(&scenario, ("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE)).unwrap();
        let settings = Settings {
            emulator: Some(cloud.firestore.address.clone()),
            // A database of its own for each, since one process is what the store's clock is for.
            ..Settings::new(format!("story-{nth}"))
        };
        let topology = Arc::new(declared.topology.clone());
        let service =
            |name: &String| (name.clone(), Service { url: url.clone(), audience: None, identity: Identity::None });
        let services = declared.pipelines.values().flat_map(|pipeline| pipeline.services.keys()).map(service).collect();
        let ground = Box::new(Emulated { settings, publisher: publisher.clone(), topology, services });
        let report = run_on(ground, &scenario, &declared, regime, |_| {}).await;
        let report = report.unwrap_or_else(|error| panic!("{name} under {regime:?}: {error}"));
        missed.extend(report.misses.iter().map(|miss| format!("{name}:{}: {regime:?}: {}", miss.line, miss.text)));
        println!("{name} under {regime:?}: {:.1} s", started.elapsed().as_secs_f64());
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
