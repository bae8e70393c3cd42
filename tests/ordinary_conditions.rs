//! Ordinary conditions under which orchestrators lose, mix or repeat work, by the real binary over HTTP on the embedded store.
//!
//! One join of 21 completions a date stands for all of them. What was decided is read from the outbox, which is committed
//! before a completion is answered: whatever follows from an answered message is there, and nothing has to be waited for.

#[path = "support/join.rs"]
mod join;
#[path = "support/running.rs"]
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, ToSpan as _};
use join::{JOIN, TOPIC, completion};
use running::today;
use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::clock::Clock;
use tipoff::engine::intake::{Settlement, WAITING_MAX};
use tipoff::engine::{Engine, Settings, run};
use tipoff::wire::inbound::Delivery;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the join waits for.
const SOURCES: usize = 21;
const PATIENCE: Duration = Duration::from_secs(90);

/// Dispatch ids by date.
type Dispatched = BTreeMap<String, BTreeSet<String>>;

/// One join of all sources, on dates that are long over as well.
fn pipeline() -> String {
    let cycles =
        json!([{ "name": "overnight", "from": { "day": 0, "at": "00:00" }, "until": { "day": 40, "at": "00:00" } }]);
    join::pipeline(SOURCES, json!({ "cycles": cycles, "limits": { "behind_max": "20000d" } }), json!({}))
}

/// So many dates, yesterday first.
fn dates(count: i64) -> Vec<String> {
    (1..=count).map(|back| today().saturating_sub(back.days()).to_string()).collect()
}

fn run_of(source: usize, date: &str) -> String {
    format!("{date}/{source}")
}

/// A consumer of what the join is sent. While it is away, it answers as a service that starts does.
#[derive(Clone, Default)]
struct Consumer {
    arrived: Arc<Mutex<Vec<(String, String)>>>,
    away: Arc<AtomicBool>,
}

impl Consumer {
    async fn take(State(consumer): State<Self>, body: String) -> StatusCode {
        if consumer.away.load(Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let outer: Value = serde_json::from_str(&body).unwrap();
        let data = STANDARD.decode(outer["message"]["data"].as_str().unwrap()).unwrap();
        let inner: Value = serde_json::from_slice(&data).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(inner["target_date"], inner["tipoff"]["date"], "a message of one date, with another's manifest");
        let seen = (text(&inner["tipoff"]["date"]), text(&inner["tipoff"]["dispatch_id"]));
        consumer.arrived.lock().unwrap().push(seen);
        StatusCode::NO_CONTENT
    }

    fn seen(&self) -> Dispatched {
        by_date(self.arrived.lock().unwrap().iter().cloned())
    }

    /// Waits until every one of `dates` has arrived, and tells what has.
    async fn all(&self, dates: &[String]) -> Dispatched {
        let patience = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen();
            if dates.iter().all(|date| seen.contains_key(date)) {
                return seen;
            }
            assert!(Instant::now() < patience, "of {} dates only {seen:?} arrived", dates.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn by_date(pairs: impl Iterator<Item = (String, String)>) -> Dispatched {
    let mut found = Dispatched::new();
    for (date, id) in pairs {
        found.entry(date).or_default().insert(id);
    }
    found
}

/// The service on a store that outlives it.
struct Service {
    child: Child,
    url: String,
    client: reqwest::Client,
    consumer: Consumer,
    target: String,
    folder: tempfile::TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.yaml"), pipeline()).unwrap();
        Self::start_in(folder).await
    }

    async fn start_in(folder: tempfile::TempDir) -> Self {
        let consumer = Consumer::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(post(Consumer::take)).with_state(consumer.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let (child, url) = launch(folder.path(), &target);
        Self { child, url, client: reqwest::Client::new(), consumer, target, folder }
    }

    /// SIGKILL: nothing is drained, nothing is said goodbye to.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        (self.child, self.url) = launch(self.folder.path(), &self.target);
    }

    /// One call of one message; whether it was accepted. Nobody may answer.
    async fn tell(&self, body: Value) -> bool {
        self.call(&[body]).await.is_some_and(|(status, _)| status.is_success())
    }

    async fn call(&self, bodies: &[Value]) -> Option<(StatusCode, String)> {
        let messages: Vec<Value> =
            bodies.iter().map(|body| json!({ "data": STANDARD.encode(body.to_string()) })).collect();
        let url = format!("{}/v1/projects/p/topics/{TOPIC}:publish", self.url);
        let call = self.client.post(url).body(json!({ "messages": messages }).to_string());
        let answer = call.timeout(Duration::from_secs(60)).send().await.ok()?;
        let status = answer.status();
        // Half an answer is none.
        answer.text().await.ok().map(|words| (status, words))
    }

    async fn accepted(&self, bodies: &[Value]) {
        let status = self.call(bodies).await.map(|(status, _)| status);
        assert_eq!(status, Some(StatusCode::OK), "{} messages", bodies.len());
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("data/tipoff.db")).unwrap()
    }

    /// What was decided, durably.
    fn decided(&self) -> Dispatched {
        self.outbox("")
    }

    /// What was decided and is not noted as sent.
    fn unsent(&self) -> Dispatched {
        self.outbox("AND sent_at IS NULL")
    }

    fn outbox(&self, which: &str) -> Dispatched {
        let database = self.database();
        let query = format!("SELECT date, id FROM outbox WHERE json_extract(effect, '$.node') = '{JOIN}' {which}");
        let mut statement = database.prepare(&query).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        by_date(rows.map(Result::unwrap))
    }

    fn recorded(&self) -> BTreeSet<String> {
        join::recorded(&self.database())
    }
}

fn launch(folder: &Path, target: &str) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data", "data"]);
    command.args(["--pipeline-file", "pipeline.yaml", "--push", &format!("nba-grading-trigger-sub={target}")]);
    let mut child = command.current_dir(folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let out = child.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
    (child, url)
}

fn one_id_each(dispatched: &Dispatched) {
    for (date, ids) in dispatched {
        assert_eq!(ids.len(), 1, "{date} was dispatched under {ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_never_mix_dates() {
    let service = Service::start().await;
    let dates = dates(20);
    // Interleaved, so that 21 completions of any kind are there long before 21 of one date. Every second date lacks one.
    let mut sent = 0;
    for step in 0..SOURCES {
        for (index, date) in dates.iter().enumerate() {
            let source = (step + index) % SOURCES;
            if index % 2 == 1 && source == index {
                continue;
            }
            assert!(service.tell(completion(source, date, &run_of(source, date))).await);
            sent += 1;
        }
        if step + 2 == SOURCES {
            assert!(
                service.decided().keys().all(|date| dates.iter().position(|known| known == date).unwrap() % 2 == 0)
            );
        }
    }
    assert_eq!(sent, 20 * SOURCES - 10);
    let whole: Vec<String> = dates.iter().step_by(2).cloned().collect();
    let decided = service.decided();
    assert_eq!(decided.keys().cloned().collect::<BTreeSet<_>>(), whole.iter().cloned().collect());
    one_id_each(&decided);
    assert_eq!(service.consumer.all(&whole).await, decided);
    // What was missing comes, and each goes on its own.
    for (index, date) in dates.iter().enumerate().skip(1).step_by(2) {
        assert!(!service.decided().contains_key(date));
        assert!(service.tell(completion(index, date, &run_of(index, date))).await);
        assert!(service.decided().contains_key(date), "{date} is whole and waits");
    }
    assert_eq!(service.decided().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_never_fires_a_join_early() {
    let service = Service::start().await;
    let date = &dates(1)[0];
    for source in 0..SOURCES - 1 {
        // The same message again and again, and the same processor once more under another run.
        let same = vec![completion(source, date, &run_of(source, date)); 24];
        service.accepted(&same).await;
        service.accepted(&[completion(source, date, &format!("{date}/{source}/again"))]).await;
        assert!(service.decided().is_empty(), "after {} of {SOURCES}", source + 1);
    }
    assert!(service.recorded().len() >= 2 * (SOURCES - 1));
    let last = completion(SOURCES - 1, date, "last");
    service.accepted(std::slice::from_ref(&last)).await;
    let decided = service.decided();
    assert_eq!(decided.len(), 1);
    // Nor does one fire it twice.
    for _ in 0..20 {
        let again: Vec<Value> =
            (0..SOURCES - 1).map(|source| completion(source, date, &run_of(source, date))).collect();
        service.accepted(&again).await;
        service.accepted(std::slice::from_ref(&last)).await;
    }
    assert_eq!(service.decided(), decided);
    one_id_each(&decided);
    assert_eq!(service.consumer.all(std::slice::from_ref(date)).await, decided);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_right_after_it() {
    const KILLS: usize = 40;
    const SENDERS: usize = 16;
    let mut service = Service::start().await;
    let dates = dates(2);
    let mut acknowledged = BTreeSet::new();
    for kill in 0..KILLS {
        let mut calls = JoinSet::new();
        for sender in 0..SENDERS {
            let run = format!("{kill}/{sender}");
            let message = completion(sender % (SOURCES - 1), &dates[sender % 2], &run);
            let (client, url) = (service.client.clone(), service.url.clone());
            calls.spawn(async move {
                let call = json!({ "messages": [{ "data": STANDARD.encode(message.to_string()) }] }).to_string();
                let call = client.post(format!("{url}/v1/projects/p/topics/{TOPIC}:publish")).body(call);
                let answer = call.send().await.ok()?;
                let accepted = answer.status().is_success();
                (answer.bytes().await.is_ok() && accepted).then_some(run)
            });
        }
        // The first answer is the last thing the service lives to say; others may be on their way.
        let mut killed = false;
        while let Some(answer) = calls.join_next().await {
            let Some(run) = answer.unwrap() else { continue };
            acknowledged.insert(run);
            if !killed {
                service.kill();
                killed = true;
            }
        }
        assert!(killed, "nothing was acknowledged in round {kill}");
        service.start_again();
    }
    assert!(acknowledged.len() >= KILLS, "{} were acknowledged", acknowledged.len());
    let recorded = service.recorded();
    let lost: Vec<&String> = acknowledged.difference(&recorded).collect();
    assert!(lost.is_empty(), "of {} acknowledged, {} are lost: {lost:?}", acknowledged.len(), lost.len());
    println!("{KILLS} kills, {} acknowledged, none lost", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_flood_ten_times_the_queue_nothing_accepted_is_lost() {
    const CALL: usize = 512;
    const CALLS: usize = 10 * WAITING_MAX / CALL;
    let service = Arc::new(Service::start().await);
    let date = dates(1)[0].clone();
    let mut calls = JoinSet::new();
    for call in 0..CALLS {
        let (service, date) = (service.clone(), date.clone());
        calls.spawn(async move {
            let message = |index: usize| completion(index % (SOURCES - 1), &date, &format!("{call}/{index}"));
            let bodies: Vec<Value> = (0..CALL).map(message).collect();
            // By the queue, and by nothing else.
            let mut refused = 0_usize;
            loop {
                match service.call(&bodies).await {
                    Some((StatusCode::OK, _)) => return refused,
                    Some((StatusCode::SERVICE_UNAVAILABLE, why)) => {
                        refused += usize::from(why.contains("are waiting already"))
                    }
                    other => panic!("neither accepted nor refused: {other:?}"),
                }
                // As its answer asks, though sooner.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    let refused: usize = calls.join_all().await.into_iter().sum();
    assert!(refused > 0, "a flood of {} did not fill a queue of {WAITING_MAX}", CALLS * CALL);
    let recorded = service.recorded();
    let lost = (0..CALLS * CALL).filter(|n| !recorded.contains(&format!("{}/{}", n / CALL, n % CALL))).count();
    assert_eq!(lost, 0, "of {} accepted", CALLS * CALL);
    assert!(service.decided().is_empty(), "the join lacks a source");
    println!("{} events, {refused} calls refused and sent again, none lost", CALLS * CALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_first_events_of_a_date_make_one_join() {
    let service = Arc::new(Service::start().await);
    let dates = dates(25);
    for date in &dates {
        let mut calls = JoinSet::new();
        for source in 0..SOURCES {
            let (service, message) = (service.clone(), completion(source, date, &run_of(source, date)));
            calls.spawn(async move { service.tell(message).await });
        }
        assert!(calls.join_all().await.into_iter().all(|accepted| accepted), "{date}");
    }
    let decided = service.decided();
    assert_eq!(decided.len(), dates.len());
    one_id_each(&decided);
    assert_eq!(service.consumer.all(&dates).await, decided);
    assert_eq!(service.consumer.arrived.lock().unwrap().len(), dates.len(), "nobody was told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_incomplete_dates_do_not_hold_up_a_complete_one() {
    const DATES: i64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline()).unwrap();
    let every = dates(DATES + 1);
    let (whole, incomplete) = every.split_first().unwrap();
    past(&folder, incomplete).await;
    let service = Service::start_in(folder).await;
    let count = |sql: &str| service.database().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(count("SELECT count(*) FROM partitions") >= DATES);
    assert!(service.decided().is_empty());
    let messages: Vec<Value> = (0..SOURCES).map(|source| completion(source, whole, &run_of(source, whole))).collect();
    let (last, first) = messages.split_last().unwrap();
    service.accepted(first).await;
    assert!(service.decided().is_empty());
    let began = Instant::now();
    service.accepted(std::slice::from_ref(last)).await;
    let seen = service.consumer.all(std::slice::from_ref(whole)).await;
    let took = began.elapsed();
    assert_eq!(seen, service.decided());
    assert_eq!(seen.len(), 1);
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    println!("{DATES} incomplete dates: the complete one was dispatched after {took:?}");
}

/// Dates to each of which one completion is missing, by the engine and store that the service uses, without its limit on the
/// history that is opened in a minute.
async fn past(folder: &tempfile::TempDir, dates: &[String]) {
    let text = pipeline();
    let declared = tipoff::pipeline::load(("topics.yaml", tipoff::pipeline::TOPICS), ("test", &text)).unwrap();
    let declared = Arc::new(declared);
    let store = Arc::new(Embedded::open(&folder.path().join("data"), Durability::Off).unwrap());
    let bus = Arc::new(store.bus(Arc::new(declared.topology.clone())));
    let settings = Settings {
        history_opened_per_minute: u32::MAX,
        sweep_every: SignedDuration::from_hours(1),
        ..Settings::default()
    };
    let engine = Arc::new(Engine::new(declared, store.clone(), bus, store, Clock::System, settings));
    let (stop, stopping) = watch::channel(false);
    let running = run::run(&engine, &stopping);
    for some in dates.chunks(100) {
        let delivery = |source: usize, date: &String| Delivery {
            topic: TOPIC.to_owned(),
            message_id: run_of(source, date),
            published: Clock::System.now(),
            attributes: BTreeMap::new(),
            data: completion(source, date, &run_of(source, date)).to_string().into_bytes(),
        };
        let deliveries =
            some.iter().flat_map(|date| (0..SOURCES - 1).map(move |source| delivery(source, date))).collect();
        let settlements = running.inbox.deliver_all(deliveries).await;
        assert!(settlements.iter().all(|settlement| *settlement == Settlement::Ack), "{settlements:?}");
    }
    stop.send_replace(true);
    running.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_events_in_one_burst_all_count() {
    let service = Service::start().await;
    let dates = dates(25);
    for date in &dates {
        service.accepted(&[completion(0, date, &run_of(0, date))]).await;
        let burst: Vec<Value> = (1..SOURCES).map(|source| completion(source, date, &run_of(source, date))).collect();
        assert_eq!(burst.len(), 20);
        service.accepted(&burst).await;
        assert!(service.decided().contains_key(date), "{date} is whole and waits");
    }
    assert_eq!(service.recorded().len(), dates.len() * SOURCES);
    let decided = service.decided();
    one_id_each(&decided);
    assert_eq!(service.consumer.all(&dates).await, decided);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_commit_and_publish_loses_no_dispatch() {
    let mut service = Service::start().await;
    let dates = dates(20);
    let mut between = 0;
    for (index, date) in dates.iter().enumerate() {
        // The consumer is away at every second kill; at the others the dispatch may just have left.
        service.consumer.away.store(index % 2 == 0, Ordering::SeqCst);
        let messages: Vec<Value> = (0..SOURCES).map(|source| completion(source, date, &run_of(source, date))).collect();
        let (last, first) = messages.split_last().unwrap();
        service.accepted(first).await;
        service.accepted(std::slice::from_ref(last)).await;
        service.kill();
        let decided = service.decided();
        assert_eq!(decided.get(date).map(BTreeSet::len), Some(1), "{date} was answered and not decided");
        between += usize::from(service.unsent().contains_key(date) && !service.consumer.seen().contains_key(date));
        service.consumer.away.store(false, Ordering::SeqCst);
        service.start_again();
        assert_eq!(service.decided(), decided, "a restart decides nothing anew");
    }
    let seen = service.consumer.all(&dates).await;
    one_id_each(&seen);
    assert_eq!(seen, service.decided());
    assert!(between >= dates.len() / 4, "only {between} kills came between commit and publish");
    println!("{} kills, {between} of them between commit and publish, each dispatched under its one id", dates.len());
}
