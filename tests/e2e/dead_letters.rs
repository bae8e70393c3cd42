//! Ten thousand dead letters are replayed by the real binary, which is killed again and again beside a running service.
//!
//! Shows: looking takes nothing off the operators' subscription; each letter leaves once, under one execution id of its own;
//! the ledger says who replayed what.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::clock::Clock;
use tipoff::domain::dead_letter::{Kind, Stage};
use tipoff::domain::effect::Alert;
use tipoff::domain::event::{Completed, Event, Outcome};
use tipoff::domain::evidence::Extent;
use tipoff::domain::id::{AlertKey, PartitionKey};
use tipoff::engine::dead_letter::{Order, Selection};
use tipoff::engine::{Engine, Settings};
use tipoff::pipeline::shipped;
use tipoff::port::{Bus, BusError, Parting};
use tipoff::wire::dispatch::Outgoing;

use super::hostile::Service;

const LETTERS: usize = 10_000;
const KILLS: usize = 8;
const TOPIC: &str = "nba-phase1-scrapers-complete";
const CONSUMER: &str = "nba-phase2-raw-sub";
/// Letters that one call of the broker takes.
const CALL: usize = 1_000;

/// A topology in which a refused message comes again at once.
fn impatient() -> tempfile::NamedTempFile {
    let text = tipoff::pipeline::TOPICS.replace("backoff: { min: 10s, max: 600s }", "backoff: { min: 0s, max: 1s }");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

async fn call(service: &Service, subscription: &str, verb: &str, body: Value) -> Value {
    let url = format!("{}/v1/projects/p/subscriptions/{subscription}:{verb}", service.url);
    let response = service.client.post(url).body(body.to_string()).send().await.unwrap();
    assert!(response.status().is_success(), "{verb}: {response:?}");
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn pull(service: &Service, subscription: &str) -> Vec<Value> {
    let answer = call(service, subscription, "pull", json!({ "maxMessages": CALL })).await;
    answer["receivedMessages"].as_array().unwrap().clone()
}

async fn publish(service: &Service, topic: &str, bodies: &[Value]) {
    for bodies in bodies.chunks(CALL) {
        let messages: Vec<Value> =
            bodies.iter().map(|body| json!({ "data": STANDARD.encode(body.to_string()) })).collect();
        let url = format!("{}/v1/projects/p/topics/{topic}:publish", service.url);
        let body = json!({ "messages": messages }).to_string();
        let response = service.client.post(url).body(body).send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
    }
}

/// Has a consumer refuse everything until it is given up on.
async fn refuse(service: &Service, subscription: &str) {
    let mut refused = 0;
    loop {
        let pulled = pull(service, subscription).await;
        if pulled.is_empty() {
            break;
        }
        refused += pulled.len();
        let ids: Vec<&Value> = pulled.iter().map(|message| &message["ackId"]).collect();
        let body = json!({ "ackIds": ids, "ackDeadlineSeconds": 0 });
        call(service, subscription, "modifyAckDeadline", body).await;
    }
    assert!(refused > 0, "nothing was there to be refused");
}

async fn letters(service: &Service, query: &str) -> Value {
    let url = format!("{}/v1/dead-letters?{query}", service.url);
    let response = service.client.get(url).send().await.unwrap();
    assert!(response.status().is_success(), "{response:?}");
    response.json().await.unwrap()
}

async fn collected(service: &Service, count: usize) {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let found = letters(service, "limit=1&all=true").await["count"].as_u64().unwrap();
        if found == count as u64 {
            return;
        }
        assert!(Instant::now() < patience, "{found} of {count} letters are in the ledger");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn tipoff(service: &Service, topics: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.arg("--topics").arg(topics).arg("--data").arg(&service.data);
    command
}

fn dlq(service: &Service, topics: &std::path::Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let Output { status, stdout, stderr } =
        tipoff(service, topics).args(["--json", "dlq"]).args(arguments).output().unwrap();
    let said = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
        panic!("{arguments:?}: {error}: {}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    });
    (status.code(), said)
}

fn today() -> String {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    zone.to_datetime(tipoff::clock::Clock::System.now()).date().to_string()
}

fn scraped(run: &str) -> Value {
    json!({ "scraper_name": "nbac_gamebook_pdf", "execution_id": run, "status": "success", "record_count": 9,
        "game_date": today() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_letters_are_each_replayed_once_whenever_it_is_killed() {
    let topics = impatient();
    let service = Service::start(&["--topics", topics.path().to_str().unwrap()]);
    let bodies: Vec<Value> = (0..LETTERS).map(|number| scraped(&format!("run-{number}"))).collect();
    publish(&service, TOPIC, &bodies).await;
    refuse(&service, CONSUMER).await;
    collected(&service, LETTERS).await;

    // Looking is free: the operators' own subscription still has every letter at its first delivery.
    let (code, board) = dlq(&service, topics.path(), &["list", "--limit", "1"]);
    assert_eq!((code, board["count"].as_u64(), board["groups"].as_array().unwrap().len()), (Some(1), Some(10_000), 1));
    let theirs = pull(&service, "nba-phase1-scrapers-complete-dlq-sub").await;
    assert!(!theirs.is_empty() && theirs.iter().all(|letter| letter["deliveryAttempt"] == 1));

    let replay =
        ["replay", "--topic", TOPIC, "--apply", "--reason", "it is back", "--per-second", "0", "--actor", "ann"];
    let dice = uuid::Uuid::new_v4().into_bytes();
    println!("dice {dice:?}");
    let mut killed = 0;
    for die in dice.iter().take(KILLS) {
        let mut command = tipoff(&service, topics.path());
        let mut child = command.arg("dlq").args(replay).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // It has chosen its letters once it says of how many.
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        std::thread::sleep(Duration::from_millis(4 * u64::from(*die)));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let left = letters(&service, "limit=1").await["count"].as_u64().unwrap();
    let (code, report) = dlq(&service, topics.path(), &replay);
    assert_eq!(code, Some(0), "{report}");
    println!("{killed} kills, {left} letters left for the last");

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut runs = BTreeSet::new();
    loop {
        let pulled = pull(&service, CONSUMER).await;
        if pulled.is_empty() {
            break;
        }
        for message in &pulled {
            let body = STANDARD.decode(message["message"]["data"].as_str().unwrap()).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["recovery"], true);
            *seen.entry(body["execution_id"].as_str().unwrap().to_owned()).or_default() += 1;
            assert!(runs.insert(body["original_execution_id"].as_str().unwrap().to_owned()), "twice: {body}");
        }
        let ids: Vec<&Value> = pulled.iter().map(|message| &message["ackId"]).collect();
        call(&service, CONSUMER, "acknowledge", json!({ "ackIds": ids })).await;
    }
    assert_eq!((seen.len(), runs.len()), (LETTERS, LETTERS));
    assert!(seen.values().all(|count| *count == 1));

    let (code, board) = dlq(&service, topics.path(), &["list", "--all", "--limit", "10000"]);
    assert_eq!((code, board["count"].as_u64()), (Some(0), Some(10_000)));
    for letter in board["letters"].as_array().unwrap() {
        let replays = letter["replays"].as_array().unwrap();
        assert!(replays.len() == 1 && replays[0]["actor"] == "ann" && letter["stage"] == "replayed", "{letter}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_who_insist_on_the_same_letters_one_replays_each() {
    const FEW: usize = 300;
    let topics = impatient();
    let service = Service::start(&["--topics", topics.path().to_str().unwrap()]);
    let bodies: Vec<Value> = (0..FEW).map(|number| scraped(&format!("run-{number}"))).collect();
    publish(&service, TOPIC, &bodies).await;
    refuse(&service, CONSUMER).await;
    collected(&service, FEW).await;
    let replay =
        ["dlq", "replay", "--topic", TOPIC, "--apply", "--reason", "it is back", "--force", "--per-second", "0"];
    let all: Vec<_> =
        (0..3).map(|_| tipoff(&service, topics.path()).args(replay).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut child in all {
        assert!(child.wait().unwrap().success());
    }
    let board = letters(&service, "all=true&limit=500").await;
    let (found, count) = (board["letters"].as_array().unwrap(), &board["count"]);
    assert_eq!(count, FEW);
    for letter in found {
        // Who came when another had done with a letter has replayed it anew, as he insisted; nobody did so beside another.
        let replays = letter["replays"].as_array().unwrap();
        let names: BTreeSet<&str> = replays.iter().map(|replay| replay["execution"].as_str().unwrap()).collect();
        assert_eq!(names.len(), replays.len(), "{letter}");
    }
    let replays: usize = found.iter().map(|letter| letter["replays"].as_array().unwrap().len()).sum();
    let mut seen = 0;
    loop {
        let pulled = pull(&service, CONSUMER).await;
        seen += pulled.len();
        if pulled.is_empty() {
            break;
        }
    }
    assert_eq!(seen, replays, "what the ledger tells of has left, and nothing else");
    // So many a second, and no more.
    let more: Vec<Value> = (FEW..FEW + 100).map(|number| scraped(&format!("run-{number}"))).collect();
    publish(&service, TOPIC, &more).await;
    refuse(&service, CONSUMER).await;
    collected(&service, FEW + 100).await;
    let paced = ["dlq", "replay", "--topic", TOPIC, "--apply", "--reason", "slowly", "--per-second", "50"];
    let began = std::time::Instant::now();
    assert!(tipoff(&service, topics.path()).args(paced).stdout(Stdio::null()).status().unwrap().success());
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "100 letters in {:?}", began.elapsed());
}

/// A bus that takes no dispatch for what it says, until it is mended.
struct Refusing {
    inner: Arc<dyn Bus>,
    refuses: AtomicBool,
    sent: Mutex<Vec<String>>,
}

#[async_trait]
impl Bus for Refusing {
    async fn send(&self, message: &Outgoing, at: Timestamp) -> Result<(), BusError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(BusError::Refused("400 attributes are too long".into()));
        }
        self.sent.lock().unwrap().push(message.id.clone());
        self.inner.send(message, at).await
    }

    fn reaches_us(&self) -> bool {
        self.inner.reaches_us()
    }

    async fn part_with(&self, partings: &[Parting], at: Timestamp) -> Result<Option<Vec<bool>>, BusError> {
        self.inner.part_with(partings, at).await
    }

    async fn alert(&self, alert: &Alert) -> Result<(), BusError> {
        self.inner.alert(alert).await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        self.inner.alerts().await
    }

    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError> {
        self.inner.alert_of(key).await
    }
}

#[tokio::test]
async fn a_dispatch_that_could_not_be_delivered_is_decided_anew() {
    let folder = tempfile::tempdir().unwrap();
    let declarations = Arc::new(shipped().unwrap());
    let clock = Clock::manual("2026-02-09T07:00:00Z".parse().unwrap());
    let embedded = Embedded::open(folder.path(), Durability::Off).unwrap();
    let inner: Arc<dyn Bus> = Arc::new(embedded.bus(Arc::new(declarations.topology.clone())));
    let bus = Arc::new(Refusing { inner, refuses: AtomicBool::new(true), sent: Mutex::default() });
    let store = Arc::new(embedded.clone());
    let engine = Engine::new(declarations, store, bus.clone(), Arc::new(embedded), clock.clone(), Settings::default());
    let key = PartitionKey::new("nba", jiff::civil::date(2026, 2, 8));
    for node in ["p2_nbacom_gamebook_pdf", "team_offense_game_summary", "team_defense_game_summary"] {
        let completed = Completed {
            node: node.into(),
            run: format!("run of {node}").as_str().into(),
            outcome: Outcome::Done(Extent::Whole),
            records: Some(282),
            published: clock.now(),
            correlation: None,
            dispatch: None,
            unit: None,
            trace: None,
        };
        engine.step(&key, &[Event::Completed(completed)]).await.unwrap();
    }
    let deliver = async || {
        clock.set(clock.now() + SignedDuration::from_mins(5));
        engine.sweep().await.unwrap();
        while engine.relay().await.unwrap() > 0 {}
    };
    // Nobody begins, so it is asked for again, in vain, until it is given up.
    for _ in 0..20 {
        deliver().await;
    }
    let selection = Selection { kind: Some(Kind::Undeliverable), ..Selection::default() };
    let board = engine.dead_letters(&selection, (None, 10), 10).await.unwrap();
    assert_eq!((board.count, board.groups.len()), (2, 1), "{board:?}");
    let standings: Vec<&str> = board.letters.iter().map(|seen| seen.standing.as_str()).collect();
    assert_eq!(standings, ["wanted", "unneeded"], "the latest stands for all: {board:?}");
    let letter = &board.letters[0].letter;
    assert_eq!(letter.about.node.as_ref().unwrap().as_str(), "player_game_summary");
    assert!(letter.reason.contains("attributes are too long"), "{}", letter.reason);

    bus.refuses.store(false, Ordering::SeqCst);
    let order = Order { selection, actor: "ann".into(), ..Order::default() };
    let plan = engine.plan_replay(&order).await.unwrap();
    let asked: Vec<&str> = plan.consequences.iter().flat_map(|it| it.dispatches.iter().map(|id| id.as_str())).collect();
    assert!(
        matches!(asked[..], ["nba/2026-02-08/player_game_summary/2/1" | "nba/2026-02-08/player_game_summary/1/3"]),
        "{plan:?}"
    );
    let asked = asked[0].to_owned();
    for _ in 0..2 {
        engine.replay(&order, &mut |_| {}).await.unwrap();
        deliver().await;
    }
    let sent = bus.sent.lock().unwrap().clone();
    assert_eq!(sent.iter().filter(|id| **id == asked).count(), 1, "{sent:?}");
    let kept = engine.dead_letter(&letter.id.to_string()).await.unwrap().seen;
    assert_eq!((kept.stage, kept.letter.replays.len()), (Stage::Replayed, 1));
}
