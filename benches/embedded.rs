//! The service on the embedded store, over HTTP: `cargo bench --bench embedded` prints a table and one line of JSON; `-- --quick`
//! takes a tenth of the events.
//!
//! Every figure stands beside a reference of the same run, on the same disk and the same cores: single durable commits of
//! SQLite with the same settings, a server that does nothing behind the same client, a message over the bus that nobody decides on.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::ToSpan as _;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use support::{PATIENCE, Service, ms, publish};

const EVENTS: u64 = 50_000;
const COMMITS: usize = 1_000;
/// Each has four nodes of its own, and every decision looks at all of them: so many make a graph as large as the shipped one.
const TRIPS: usize = 10;
/// So often, each time by a new service on an empty store.
const ROUNDS: usize = 4;
/// Completions that a join waits for.
const FAN_IN: usize = 21;
const IDLE: Duration = Duration::from_secs(10);
const TOPIC: &str = "nba-phase2-raw-complete";
const TRIGGER: &str = "nba-grading-trigger";

/// For each trip a source and a task that waits for it, and for each a join of [`FAN_IN`].
fn pipeline() -> String {
    let mut nodes = Map::new();
    let source = || json!({ "kind": "source", "phase": "raw", "cycle": "overnight" });
    let body = json!({ "target_date": "{{ date }}", "correlation_id": "{{ correlation_id }}", "trigger_source": "t" });
    let task = |needs: Map<String, Value>| {
        json!({ "kind": "task", "phase": "grading", "cycle": "overnight", "needs": needs,
            "messages": [{ "topic": TRIGGER, "body": body }] })
    };
    for shared in 1..FAN_IN {
        nodes.insert(format!("x{shared}"), source());
    }
    for trip in 0..TRIPS {
        let mut needs = Map::from_iter([(format!("s{trip}"), json!({ "strength": "hard" }))]);
        nodes.insert(format!("s{trip}"), source());
        nodes.insert(format!("t{trip}"), task(needs.clone()));
        needs.remove(&format!("s{trip}"));
        needs.insert(format!("l{trip}"), json!({ "strength": "hard" }));
        needs.extend((1..FAN_IN).map(|shared| (format!("x{shared}"), json!({ "strength": "hard" }))));
        nodes.insert(format!("l{trip}"), source());
        nodes.insert(format!("j{trip}"), task(needs));
    }
    let limits = json!({ "dispatches_per_second": 1_000, "dispatches_per_hour": 100_000 });
    tipoff::pipeline::alone(nodes, &json!({ "calendar": null, "limits": limits })).unwrap()
}

/// What `tipoff load` measures of a server.
async fn load(url: &str, folder: &Path, arguments: &[&str]) -> Value {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(["load", "--server", url, "--json", "--date", "yesterday"]).args(arguments);
    let output = command.current_dir(folder).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// One durable commit after another, of rows as long as a message.
fn commits(folder: &Path) -> Vec<Duration> {
    let database = rusqlite::Connection::open(folder.join("raw.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "synchronous", "FULL").unwrap();
    database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, row TEXT NOT NULL)", []).unwrap();
    let row = "x".repeat(400);
    let mut took: Vec<Duration> = (0..COMMITS)
        .map(|_| {
            let began = Instant::now();
            database.execute("INSERT INTO rows (row) VALUES (?1)", [&row]).unwrap();
            began.elapsed()
        })
        .collect();
    took.sort();
    took
}

/// What is sent and when it is there, trip by trip.
async fn trips(
    client: &reqwest::Client,
    url: &str,
    arrived: &mut mpsc::UnboundedReceiver<Instant>,
    message: impl Fn(usize) -> (&'static str, Value),
) -> Vec<Duration> {
    let mut took = Vec::with_capacity(TRIPS);
    for trip in 0..TRIPS {
        let (topic, body) = message(trip);
        let began = Instant::now();
        publish(client, url, topic, &[body]).await;
        let at = tokio::time::timeout(PATIENCE, arrived.recv()).await.expect("it arrives").unwrap();
        took.push(at.duration_since(began));
    }
    took
}

#[tokio::main]
async fn main() {
    // What a run of the test target passes is none of ours.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let events = (if quick { EVENTS / 10 } else { EVENTS }).to_string();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline()).unwrap();
    let raw = commits(folder.path());
    let raw_rate = COMMITS as f64 / raw.iter().sum::<Duration>().as_secs_f64();

    // A server that does nothing but read.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nothing = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(post(async |_: String| StatusCode::OK));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("nba-grading-trigger-sub=http://{}", listener.local_addr().unwrap());
    let (arrive, mut arrived) = mpsc::unbounded_channel();
    let taken = async |State(arrive): State<mpsc::UnboundedSender<Instant>>, _: String| {
        let _ = arrive.send(Instant::now());
        StatusCode::NO_CONTENT
    };
    let routes = Router::new().fallback(post(taken)).with_state(arrive);
    tokio::spawn(async move { axum::serve(listener, routes).await });

    // What waits for the trips, before anything else makes the date longer.
    let client = reqwest::Client::new();
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(tipoff::clock::Clock::System.now()).date();
    let date = today.saturating_sub(1.days()).to_string();
    let completion = |name: String| {
        json!({ "processor_name": name, "phase": "phase_2_raw", "execution_id": name, "correlation_id": name,
            "game_date": date, "output_table": "", "status": "success", "record_count": 33 })
    };
    let [mut bus, mut one, mut join] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let own = tempfile::tempdir().unwrap();
        std::fs::copy(folder.path().join("pipeline.yaml"), own.path().join("pipeline.yaml")).unwrap();
        let service = Service::start(own.path(), &["--push", &target]).await;
        let shared: Vec<Value> = (1..FAN_IN).map(|shared| completion(format!("x{shared}"))).collect();
        publish(&client, &service.url, TOPIC, &shared).await;
        let trigger = json!({ "target_date": date, "correlation_id": "c", "trigger_source": "t" });
        bus.extend(trips(&client, &service.url, &mut arrived, |_| (TRIGGER, trigger.clone())).await);
        one.extend(trips(&client, &service.url, &mut arrived, |trip| (TOPIC, completion(format!("s{trip}")))).await);
        join.extend(trips(&client, &service.url, &mut arrived, |trip| (TOPIC, completion(format!("l{trip}")))).await);
    }
    [&mut bus, &mut one, &mut join].into_iter().for_each(|took| took.sort());

    // The shipped declarations from here on, on an empty store.
    let shipped = tempfile::tempdir().unwrap();
    let service = Service::start(shipped.path(), &[]).await;
    let before = service.busy();
    tokio::time::sleep(if quick { IDLE / 5 } else { IDLE }).await;
    let idle = (service.busy() - before) / (if quick { IDLE / 5 } else { IDLE }).as_secs_f64() * 100.0;
    let (resident, ready) = (service.resident(), service.ready);
    let flood = ["--events", &events, "--batch", "50", "--concurrency", "16"];
    let single = ["--events", &events, "--concurrency", "64"];
    let paced = ["--events", if quick { "2000" } else { "10000" }, "--rate", "1000", "--concurrency", "64"];
    let [nothing_flood, nothing_single, nothing_paced] = [
        load(&nothing, shipped.path(), &flood).await,
        load(&nothing, shipped.path(), &single).await,
        load(&nothing, shipped.path(), &paced).await,
    ];
    let ours_paced = load(&service.url, shipped.path(), &paced).await;
    let ours_single = load(&service.url, shipped.path(), &single).await;
    let ours_flood = load(&service.url, shipped.path(), &flood).await;
    let after = service.resident();

    let rate = |of: &Value| of["accepted_per_second"].as_f64().unwrap_or_default();
    let latency = |of: &Value, key: &str| of["acknowledged_ms"][key].as_f64().unwrap_or_default();
    println!("embedded, every commit durable{}", if quick { ", quick" } else { "" });
    println!(
        "  one durable commit after another    {raw_rate:>9.0} a second, p50 {:.2} ms, p99 {:.2} ms",
        ms(&raw, 50),
        ms(&raw, 99)
    );
    for (what, nothing, ours) in
        [("50 messages a call", &nothing_flood, &ours_flood), ("one message a call", &nothing_single, &ours_single)]
    {
        println!("{what}, as fast as answered");
        println!("  a server that does nothing          {:>9.0} events/s", rate(nothing));
        println!(
            "  tipoff, committed                   {:>9.0} events/s, {:.2} of it, {:.1} a raw commit",
            rate(ours),
            rate(ours) / rate(nothing),
            rate(ours) / raw_rate
        );
    }
    println!("1,000 events a second, until acknowledged");
    for (what, of) in [("a server that does nothing", &nothing_paced), ("tipoff, committed", &ours_paced)] {
        println!("  {what:<34}  p50 {:>8.2} ms, p99 {:>8.2} ms", latency(of, "p50"), latency(of, "p99"));
    }
    println!("a message until it is at its consumer");
    for (what, of) in
        [("over the bus alone", &bus), ("a completion, its dispatch", &one), ("the last of 21, its dispatch", &join)]
    {
        println!("  {what:<34}  p50 {:>8.2} ms, p99 {:>8.2} ms", ms(of, 50), ms(of, 99));
    }
    println!(
        "idle  {resident:.1} MiB, {idle:.2} % of a core, ready after {:.2} s; after the load {after:.1} MiB",
        ready.as_secs_f64()
    );
    let trip = |of: &[Duration]| json!({ "p50": ms(of, 50), "p99": ms(of, 99) });
    println!(
        "{}",
        json!({ "quick": quick, "raw_commits_per_second": raw_rate, "raw_commit_ms": trip(&raw),
            "flood": { "nothing": nothing_flood, "tipoff": ours_flood },
            "single": { "nothing": nothing_single, "tipoff": ours_single },
            "paced": { "nothing": nothing_paced, "tipoff": ours_paced },
            "bus_ms": trip(&bus), "dispatch_ms": trip(&one), "fan_in_ms": trip(&join),
            "idle": { "resident_mib": resident, "percent_of_a_core": idle, "ready_seconds": ready.as_secs_f64(),
                "resident_mib_after": after } })
    );
}
