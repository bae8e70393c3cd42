//! A day's messages through the Pub/Sub and Firestore emulators, beside a subscriber of the same crate that does nothing.
//!
//! Both stand beside the design that tipoff replaces, one transaction for each message in Python, where `tests/support/producers.sh`
//! has installed Google's clients.
//!
//! `cargo bench --bench emulators` prints a table and one line of JSON; with `-- --json` that line alone. Both run against the same emulator in the same run,
//! so the ratio says what tipoff costs; the absolute figures are the emulator's, which hands out 100 messages per stream
//! every 50 ms. So both read over one stream, as a process does, and then over as many as several processes have. And what is
//! added to the latency is measured between two of these ticks, from what has been received until the broker has what follows:
//! a whole way ends with a tick, wherever between two of them it was done.

#[path = "../tests/support/cloud.rs"]
mod cloud;
#[path = "../tests/support/emulator.rs"]
mod emulator;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cloud::Cloud;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde_json::{Map, Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::adapter::firestore::{Firestore, Settings};
use tipoff::adapter::google::bus::GoogleBus;
use tipoff::adapter::google::services::Services;
use tipoff::adapter::pubsub::Connection;
use tipoff::adapter::pubsub::publisher::Publisher;
use tipoff::adapter::pubsub::subscriber::Subscribers;
use tipoff::clock::Clock;
use tipoff::engine::recipient::Listening;
use tipoff::engine::{Engine, run};
use tipoff::port::{Handed, Recipient};
use tipoff::wire::inbound::Delivery;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Messages of the throughput run: a busy day has about five thousand.
const MESSAGES: usize = 5_000;
/// Streams of the second throughput run.
const STREAMS: usize = 4;
/// Round trips of the latency run.
const TRIPS: usize = 40;
/// Joins of the burst run, of so many completions each, which come at once.
const BURSTS: usize = 10;
const FAN_IN: usize = 21;
/// Messages of the design that tipoff replaces, which takes its time.
const REPLACED_MESSAGES: usize = 500;
const TOPIC: &str = "nba-phase2-raw-complete";
const TRIGGER: &str = "nba-grading-trigger";
/// A reader of the same topic that acknowledges and does nothing.
const REFERENCE: &str = "reference-sub";
/// What the design that tipoff replaces reads.
const REPLACED: &str = "replaced-sub";
const PATIENCE: Duration = Duration::from_secs(300);

/// Four sources that many messages are about, and for each trip a source and the task that it makes ready.
fn pipeline() -> String {
    let mut nodes = Map::new();
    let source = || json!({ "kind": "source", "phase": "raw", "cycle": "overnight" });
    for index in 0..4 {
        nodes.insert(format!("x{index}"), source());
    }
    let body = json!({ "target_date": "{{ date }}", "correlation_id": "{{ correlation_id }}", "trigger_source": "t" });
    let task = |needs: Map<String, Value>| {
        json!({ "kind": "task", "phase": "grading", "cycle": "overnight", "needs": needs,
            "messages": [{ "topic": TRIGGER, "body": body }] })
    };
    let hard = || json!({ "strength": "hard" });
    for trip in 0..TRIPS {
        nodes.insert(format!("s{trip}"), source());
        nodes.insert(format!("t{trip}"), task(Map::from_iter([(format!("s{trip}"), hard())])));
    }
    for burst in 0..BURSTS {
        let members = || (0..FAN_IN).map(move |member| member_of(burst, member));
        nodes.extend(members().map(|member| (member, source())));
        nodes.insert(format!("c{burst}"), task(members().map(|member| (member, hard())).collect()));
    }
    tipoff::pipeline::alone(nodes, &json!({ "calendar": null })).unwrap()
}

/// A completion that the join of a burst waits for.
fn member_of(burst: usize, member: usize) -> String {
    format!("b{burst}_{member}")
}

fn completion(name: &str, run: &str, date: &str) -> String {
    json!({ "processor_name": name, "phase": "phase_2_raw", "execution_id": run, "correlation_id": run,
        "game_date": date, "output_table": "", "status": "success", "record_count": 33 })
    .to_string()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < patience, "{what} did not come to an end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn percentile(sorted: &[Duration], share: usize) -> f64 {
    sorted[(sorted.len() - 1) * share / 100].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() {
    // What a run of the test target passes is none of ours.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let pipeline = pipeline();
    let declared = tipoff::pipeline::load(("topics.yaml", tipoff::pipeline::TOPICS), ("bench", &pipeline));
    let declared = Arc::new(declared.unwrap());
    let Some(cloud) = Cloud::start(&declared.topology).await else { return };
    cloud.subscribe(TOPIC, REFERENCE).await;

    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(Clock::System.now()).date();
    let date = today.saturating_sub(1.days()).to_string();
    let messages = |round: &str| {
        (0..MESSAGES).map(|index| completion(&format!("x{}", index % 4), &format!("{round}-{index}"), &date)).collect()
    };
    cloud.publish_all(TOPIC, messages("one")).await;
    let mut tasks = JoinSet::new();
    let nothing = reference(&cloud, 1).await;

    let settings = Settings { emulator: Some(cloud.firestore.address.clone()), ..Settings::new(cloud.project.clone()) };
    let firestore = Arc::new(Firestore::connect(settings).await.unwrap());
    let connection = Connection { project: cloud.project.clone(), emulator: Some(cloud.pubsub.address.clone()) };
    let publisher = Arc::new(Publisher::connect(connection.clone()).await.unwrap());
    let services = Services::new(&Default::default()).unwrap();
    let bus = GoogleBus::new(Arc::new(declared.topology.clone()), publisher.clone(), services, firestore.clone());
    let folder = tempfile::tempdir().unwrap();
    let warehouse = Arc::new(Embedded::open(folder.path(), Durability::Off).unwrap());
    let settings = tipoff::engine::Settings { heartbeat_flush: SignedDuration::from_secs(1), ..Default::default() };
    let engine = Engine::new(declared.clone(), firestore, Arc::new(bus), warehouse, Clock::System, settings);
    let engine = Arc::new(engine);
    let (stop, stopping) = watch::channel(false);
    let running = run::run(&engine, &stopping);
    let (receive, mut received) = mpsc::unbounded_channel();
    let listening = Listening { engine: engine.clone(), inbox: running.inbox.clone() };
    let recipient: Arc<dyn Recipient> = Arc::new(Timed { listening, receive });
    let read = async |streams: usize| {
        let (end, ending) = watch::channel(false);
        let mut subscribers = Vec::new();
        for _ in 0..streams {
            let (topology, patience) = (&declared.topology, Default::default());
            let started = Subscribers::start(&connection, topology, &recipient, &publisher, patience, &ending);
            subscribers.push(started.await.unwrap());
        }
        (end, subscribers)
    };
    let acked = || usize::try_from(engine.counts.acked.load(Ordering::Relaxed)).unwrap();
    let began = Instant::now();
    let (end, subscribers) = read(1).await;
    until("tipoff", || acked() >= MESSAGES).await;
    let ours = began.elapsed();
    stop_reading(end, subscribers).await;

    cloud.publish_all(TOPIC, messages("many")).await;
    let nothing_of_many = reference(&cloud, STREAMS).await;
    let began = Instant::now();
    let (end, subscribers) = read(STREAMS).await;
    until("tipoff, over many streams", || acked() >= 2 * MESSAGES).await;
    let ours_of_many = began.elapsed();
    stop_reading(end, subscribers).await;
    let (end, subscribers) = read(1).await;

    // From the completion that makes it ready to the dispatch at its consumer, beside a reader that sends at once what it reads.
    let (hop, mut hopped) = mpsc::unbounded_channel();
    cloud
        .consume(&mut tasks, REFERENCE, move |_| {
            let _ = hop.send(Clock::System.now());
        })
        .await;
    let (arrive, mut arrived) = mpsc::unbounded_channel();
    cloud
        .consume(&mut tasks, "nba-grading-trigger-sub", move |message| {
            let published = message.publish_time.unwrap();
            let _ = arrive.send(Timestamp::new(published.seconds(), published.nanos()).unwrap());
        })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let trigger = json!({ "target_date": date, "correlation_id": "c", "trigger_source": "t" }).to_string();
    let (mut echoes, mut turns, mut trips) = (Vec::new(), Vec::new(), Vec::new());
    for trip in 0..TRIPS {
        aside(trip).await;
        while hopped.try_recv().is_ok() {}
        cloud.publish(TOPIC, &completion("x0", &format!("hop-{trip}"), &date)).await;
        let at: Timestamp = hopped.recv().await.unwrap();
        cloud.publish(TRIGGER, &trigger).await;
        let sent = tokio::time::timeout(PATIENCE, arrived.recv()).await.unwrap().unwrap();
        echoes.push(between(at, sent));
    }
    for trip in 0..TRIPS {
        aside(trip).await;
        while received.try_recv().is_ok() {}
        let began = Instant::now();
        cloud.publish(TOPIC, &completion(&format!("s{trip}"), &format!("trip-{trip}"), &date)).await;
        let at = received.recv().await.unwrap();
        let sent = tokio::time::timeout(PATIENCE, arrived.recv()).await.unwrap().unwrap();
        turns.push(between(at, sent));
        trips.push(began.elapsed());
    }
    let mut bursts = Vec::new();
    for burst in 0..BURSTS {
        aside(burst).await;
        let members = (0..FAN_IN).map(|member| member_of(burst, member));
        let members = members.map(|name| completion(&name, &name, &date)).collect();
        bursts.push(burst_to_dispatch(&cloud, members, &mut arrived).await);
    }
    echoes.sort();
    turns.sort();
    trips.sort();
    bursts.sort();
    stop.send_replace(true);
    stop_reading(end, subscribers).await;
    running.ended().await;
    let replaced = replaced(&cloud, &date, &mut arrived).await;

    let rate = |elapsed: Duration| MESSAGES as f64 / elapsed.as_secs_f64();
    let added = percentile(&turns, 50) - percentile(&echoes, 50);
    if !std::env::args().any(|argument| argument == "--json") {
        println!("{MESSAGES} completions of one date, all committed before they are acknowledged");
        println!("  a subscriber that does nothing  {:>8.0} messages/s", rate(nothing));
        println!(
            "  tipoff                          {:>8.0} messages/s, {:.2} of it",
            rate(ours),
            rate(ours) / rate(nothing)
        );
        println!("the same over {STREAMS} streams");
        println!("  a subscriber that does nothing  {:>8.0} messages/s", rate(nothing_of_many));
        println!(
            "  tipoff                          {:>8.0} messages/s, {:.2} of it",
            rate(ours_of_many),
            rate(ours_of_many) / rate(nothing_of_many)
        );
        println!("completion received until the dispatch is with the broker");
        println!("  one that sends what it reads    {:>8.1} ms", percentile(&echoes, 50));
        println!("  tipoff                          {:>8.1} ms, {added:.1} ms added", percentile(&turns, 50));
        println!("completion published until the dispatch is at its consumer, with two ticks of the emulator");
        println!("  tipoff                          {:>8.1} ms", percentile(&trips, 50));
        println!("{FAN_IN} completions at once to their dispatch at its consumer");
        println!("  tipoff                          {:>8.1} ms", percentile(&bursts, 50));
    }
    if let Some(replaced) = &replaced
        && !std::env::args().any(|argument| argument == "--json")
    {
        println!("the design that it replaces, a transaction for each message in Python");
        println!(
            "  {REPLACED_MESSAGES} completions of one date     {:>8.0} messages/s; tipoff {:.0} times as many, {:.0} over {STREAMS} streams",
            replaced.rate,
            rate(ours) / replaced.rate,
            rate(ours_of_many) / replaced.rate
        );
        println!(
            "  {FAN_IN} completions to dispatch      {:>8.1} ms, {:.1} times tipoff's",
            percentile(&replaced.bursts, 50),
            percentile(&replaced.bursts, 50) / percentile(&bursts, 50)
        );
    }
    let replaced = replaced.map(|of| json!({ "per_second": of.rate, "burst_ms": percentile(&of.bursts, 50) }));
    let json = json!({ "messages": MESSAGES, "nothing_per_second": rate(nothing), "tipoff_per_second": rate(ours),
        "ratio": rate(ours) / rate(nothing), "streams": STREAMS, "nothing_per_second_of_streams": rate(nothing_of_many),
        "tipoff_per_second_of_streams": rate(ours_of_many), "echo_ms": percentile(&echoes, 50),
        "turn_ms": percentile(&turns, 50), "dispatch_ms": percentile(&trips, 50), "added_ms": added, "burst_ms": percentile(&bursts, 50), "replaced": replaced });
    println!("{json}");
}

/// The emulator looks for messages every 50 ms: what comes is not to be in step with that.
async fn aside(trip: usize) {
    tokio::time::sleep(Duration::from_millis(u64::try_from(trip).unwrap() * 7 % 50)).await;
}

/// From a moment of ours to one of the broker, on the same machine.
fn between(at: Timestamp, sent: Timestamp) -> Duration {
    Duration::try_from(sent.duration_since(at)).unwrap_or_default()
}

/// tipoff, and when it was handed each message.
struct Timed {
    listening: Listening,
    receive: mpsc::UnboundedSender<Timestamp>,
}

#[async_trait]
impl Recipient for Timed {
    async fn hand_over(&self, delivery: Delivery) -> Handed {
        let _ = self.receive.send(Clock::System.now());
        self.listening.hand_over(delivery).await
    }

    fn room(&self) -> usize {
        self.listening.room()
    }

    fn heard(&self, road: &str, published: Timestamp) {
        self.listening.heard(road, published);
    }

    fn interrupted(&self) {
        self.listening.interrupted();
    }

    fn redelivered(&self) {
        self.listening.redelivered();
    }

    fn fault(&self, component: &str, reason: &str) -> bool {
        self.listening.fault(component, reason)
    }

    fn well(&self, component: &str) {
        self.listening.well(component);
    }
}

/// How long a subscriber takes that does nothing, over so many streams.
async fn reference(cloud: &Cloud, streams: usize) -> Duration {
    let mut tasks = JoinSet::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    for _ in 0..streams {
        let count = seen.clone();
        cloud
            .consume(&mut tasks, REFERENCE, move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
            .await;
    }
    until("the reference", || seen.load(Ordering::Relaxed) >= MESSAGES).await;
    let took = began.elapsed();
    // What was seen is still to be acknowledged, or it comes again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    tasks.shutdown().await;
    took
}

async fn stop_reading(end: watch::Sender<bool>, subscribers: Vec<Subscribers>) {
    end.send_replace(true);
    for subscribers in subscribers {
        subscribers.ended().await;
    }
}

/// How the design does that tipoff replaces.
struct Replaced {
    /// Messages a second.
    rate: f64,
    /// From a burst of completions to the trigger at its consumer, in order of length.
    bursts: Vec<Duration>,
}

/// Runs that design on the same emulators; nothing where its clients are not installed.
async fn replaced(cloud: &Cloud, date: &str, arrived: &mut mpsc::UnboundedReceiver<Timestamp>) -> Option<Replaced> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/producers/bin/python");
    if !python.exists() {
        println!("no figure of the design that tipoff replaces: run tests/support/producers.sh");
        return None;
    }
    cloud.subscribe(TOPIC, REPLACED).await;
    let sources = ["x0", "x1", "x2", "x3", "never"].join(",");
    let script = |expected: &str, count: usize| {
        let mut command = Command::new(&python);
        command.arg(root.join("benches/transaction_per_message.py"));
        command.args([&cloud.project, REPLACED, TRIGGER, expected, &count.to_string()]);
        command.envs(cloud.environment()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    // It reads before anything comes, so that its start does not count.
    let (mut child, mut lines) = script(&sources, REPLACED_MESSAGES);
    lines.next_line().await.unwrap().expect("it reads");
    let completions =
        (0..REPLACED_MESSAGES).map(|index| completion(&format!("x{}", index % 4), &format!("again-{index}"), date));
    cloud.publish_all(TOPIC, completions.collect()).await;
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it comes to an end").unwrap();
    let seconds: f64 = line.expect("it tells how long it took").parse().unwrap();
    child.kill().await.unwrap();

    let members: Vec<String> = (0..FAN_IN).map(|member| format!("m{member}")).collect();
    let (mut child, mut lines) = script(&members.join(","), usize::MAX);
    lines.next_line().await.unwrap().expect("it reads");
    tokio::time::sleep(Duration::from_secs(1)).await;
    while arrived.try_recv().is_ok() {}
    let mut bursts = Vec::new();
    for burst in 0..BURSTS {
        aside(burst).await;
        // A date of its own each time.
        let completions = members.iter().map(|name| completion(name, name, &format!("burst-{burst}"))).collect();
        bursts.push(burst_to_dispatch(cloud, completions, arrived).await);
    }
    child.kill().await.unwrap();
    bursts.sort();
    Some(Replaced { rate: REPLACED_MESSAGES as f64 / seconds, bursts })
}

/// How long it takes from completions that are published together to what they make ready.
async fn burst_to_dispatch(
    cloud: &Cloud,
    completions: Vec<String>,
    arrived: &mut mpsc::UnboundedReceiver<Timestamp>,
) -> Duration {
    let began = Instant::now();
    cloud.publish_all(TOPIC, completions).await;
    tokio::time::timeout(PATIENCE, arrived.recv()).await.expect("it is dispatched").unwrap();
    began.elapsed()
}
