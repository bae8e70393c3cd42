//! What a store costs that has grown: `cargo bench --bench growth` prints a table and one line of JSON; `-- --quick` takes a
//! tenth of it.
//!
//! Dates to each of which one completion is missing are beside a date that comes about now; and a backlog that nobody has
//! taken yet waits while the service starts. The service is the real one, on the store that it has filled itself.

#[path = "../tests/support/join.rs"]
mod join;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::{SignedDuration, ToSpan as _};
use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::clock::Clock;
use tipoff::engine::intake::Settlement;
use tipoff::engine::{Engine, Settings, run};
use tipoff::wire::inbound::Delivery;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use join::{TOPIC, completion};
use support::{PATIENCE, Service, ms, publish};

/// What the join of a date waits for.
const SOURCES: usize = 21;
/// A topic that others read as well, whose messages therefore wait.
const READ_BY_OTHERS: &str = "nba-phase1-scrapers-complete";
const DATES: [i64; 4] = [10, 100, 1_000, 10_000];
const BACKLOG: usize = 1_000_000;
/// Completions of the live date that are timed, one after another.
const TIMED: usize = 200;

/// One join of all sources, on dates that are long over as well.
fn pipeline() -> String {
    let cycles =
        json!([{ "name": "overnight", "from": { "day": 0, "at": "00:00" }, "until": { "day": 40, "at": "00:00" } }]);
    join::pipeline(SOURCES, json!({ "cycles": cycles, "limits": { "behind_max": "20000d" } }), json!({}))
}

/// So many days before today, the latest first.
fn dates(count: i64) -> Vec<String> {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(Clock::System.now()).date();
    (1..=count).map(|back| today.saturating_sub(back.days()).to_string()).collect()
}

/// Fills a store as the service does, without its bound on the history that is opened in a minute.
async fn fill(data: &Path, dates: &[String], backlog: usize) {
    let text = pipeline();
    let declared = tipoff::pipeline::load(("topics.yaml", tipoff::pipeline::TOPICS), ("bench", &text)).unwrap();
    let declared = Arc::new(declared);
    let store = Arc::new(Embedded::open(data, Durability::Off).unwrap());
    let bus = store.bus(Arc::new(declared.topology.clone()));
    for from in (0..backlog).step_by(1_000) {
        let file = |index: usize| json!({ "scraper_name": "nbac_schedule", "n": index }).to_string().into_bytes();
        let messages = (from..from + 1_000).map(|index| (file(index), BTreeMap::new())).collect();
        bus.publish(READ_BY_OTHERS, messages, Clock::System.now()).await.unwrap();
    }
    let settings = Settings {
        history_opened_per_minute: u32::MAX,
        sweep_every: SignedDuration::from_hours(1),
        ..Settings::default()
    };
    let engine = Arc::new(Engine::new(declared, store.clone(), Arc::new(bus), store, Clock::System, settings));
    let (stop, stopping) = watch::channel(false);
    let running = run::run(&engine, &stopping);
    for some in dates.chunks(100) {
        let delivery = |source: usize, date: &String| Delivery {
            topic: TOPIC.to_owned(),
            message_id: format!("{date}/{source}"),
            published: Clock::System.now(),
            attributes: BTreeMap::new(),
            data: completion(source, date, &format!("{date}/{source}")).to_string().into_bytes(),
        };
        let deliveries = some.iter().flat_map(|date| (1..SOURCES).map(move |source| delivery(source, date))).collect();
        let settlements = running.inbox.deliver_all(deliveries).await;
        assert!(settlements.iter().all(|settlement| *settlement == Settlement::Ack), "{settlements:?}");
    }
    stop.send_replace(true);
    running.ended().await;
}

/// A service on what was filled, and how it does.
struct Seen {
    ready: Duration,
    /// Until a completion is acknowledged, in order.
    acknowledged: Vec<Duration>,
    /// From the start of the process until the live date's dispatch was at its consumer,
    started: Duration,
    /// and from the completion that made it ready.
    dispatched: Duration,
    most_resident: f64,
    stored: u64,
}

async fn look(dates: &[String], backlog: usize) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline()).unwrap();
    let data = folder.path().join("data");
    fill(&data, dates, backlog).await;
    let stored = std::fs::metadata(data.join("tipoff.db")).unwrap().len();

    let (arrive, mut arrived) = mpsc::unbounded_channel();
    let (take, mut taken) = mpsc::unbounded_channel();
    let trigger = format!("nba-grading-trigger-sub={}", consumer(arrive).await);
    let files = format!("nba-phase2-raw-sub={}", consumer(take).await);
    let began = Instant::now();
    let service = Service::start(folder.path(), &["--push", &trigger, "--push", &files]).await;
    let client = reqwest::Client::new();
    let live = &dates[0];
    let ready_at = Instant::now();
    publish(&client, &service.url, TOPIC, &[completion(0, live, "last")]).await;
    tokio::time::timeout(PATIENCE, arrived.recv()).await.expect("it is dispatched").unwrap();
    let (started, dispatched) = (began.elapsed(), ready_at.elapsed());
    let mut acknowledged = Vec::with_capacity(TIMED);
    for run in 0..TIMED {
        let began = Instant::now();
        let completion = completion(run % SOURCES, live, &format!("again-{run}"));
        publish(&client, &service.url, TOPIC, &[completion]).await;
        acknowledged.push(began.elapsed());
    }
    acknowledged.sort();
    let mut pushed = 0;
    while taken.try_recv().is_ok() {
        pushed += 1;
    }
    assert_eq!(pushed > 0, backlog > 0, "{pushed} of {backlog} were pushed");
    Seen { ready: service.ready, acknowledged, started, dispatched, most_resident: service.most_resident(), stored }
}

/// Where somebody takes whatever is pushed, and tells of each.
async fn consumer(arrive: mpsc::UnboundedSender<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = async |State(arrive): State<mpsc::UnboundedSender<()>>, _: String| {
        let _ = arrive.send(());
        StatusCode::NO_CONTENT
    };
    let routes = Router::new().fallback(post(taken)).with_state(arrive);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

fn main() {
    // What a run of the test target passes is none of ours.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut rows = Vec::new();
        println!("incomplete dates beside the live one{}", if quick { ", quick" } else { "" });
        for count in DATES.map(|count| if quick { count / 10 } else { count }) {
            let seen = look(&dates(count), 0).await;
            let per_date = seen.stored as f64 / count as f64 / 1e3;
            println!(
                "  {count:>6}  acknowledged p50 {:>6.2} ms, p99 {:>6.2} ms; dispatched after {:>6.1} ms; ready after {:.2} s; \
                 {:>5.0} MiB at most; {per_date:>5.1} kB a date",
                ms(&seen.acknowledged, 50),
                ms(&seen.acknowledged, 99),
                seen.dispatched.as_secs_f64() * 1e3,
                seen.ready.as_secs_f64(),
                seen.most_resident,
            );
            rows.push(row(count, &seen));
        }
        let backlog = if quick { BACKLOG / 10 } else { BACKLOG };
        let seen = look(&dates(10), backlog).await;
        println!(
            "{backlog} messages wait for a consumer, who takes them from the start on\n  ready after {:.2} s, the live date dispatched \
             {:.2} s after the start; {:.0} MiB at most",
            seen.ready.as_secs_f64(),
            seen.started.as_secs_f64(),
            seen.most_resident
        );
        println!("{}", json!({ "quick": quick, "dates": rows, "backlog": { "messages": backlog, "seen": row(10, &seen) } }));
    });
}

fn row(dates: i64, seen: &Seen) -> Value {
    json!({ "dates": dates, "acknowledged_ms": { "p50": ms(&seen.acknowledged, 50), "p99": ms(&seen.acknowledged, 99) },
        "dispatched_ms": seen.dispatched.as_secs_f64() * 1e3, "started_ms": seen.started.as_secs_f64() * 1e3,
        "ready_seconds": seen.ready.as_secs_f64(), "most_resident_mib": seen.most_resident, "stored_bytes": seen.stored })
}
