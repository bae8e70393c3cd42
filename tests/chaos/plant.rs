//! A pipeline of one join, a service that runs it, publishers, a consumer, and what has to hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::ToSpan as _;
use serde_json::{Value, json};
use tipoff::clock::Clock;
use tipoff::simulation::dice::Dice;

use super::join::{self, TOPIC, name};

/// What the join waits for.
pub const SOURCES: usize = 4;
const DATES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(150);
const LETTERS: &str = "nba-phase2-raw-complete-dlq";
const SUBSCRIPTION: &str = "nba-grading-trigger-sub";
/// Where garbage goes in turn, for each has an alert of its own.
const TOPICS: [&str; 4] =
    [TOPIC, "nba-phase3-analytics-complete", "nba-phase4-precompute-complete", "nba-phase5-predictions-complete"];

/// One attempt of a node for a date.
type Attempt = (String, String, u64, u64);
/// Dispatch ids by attempt.
type Dispatched = BTreeMap<Attempt, BTreeSet<String>>;

/// Whoever takes what is pushed, and the notices.
#[derive(Clone, Default)]
pub struct Consumer {
    arrived: Arc<Mutex<Vec<(Attempt, String)>>>,
    notices: Arc<Mutex<usize>>,
    /// How long it works on each.
    pub work: Arc<Mutex<Duration>>,
}

impl Consumer {
    async fn take(State(consumer): State<Self>, body: String) -> StatusCode {
        let outer: Value = serde_json::from_str(&body).unwrap();
        let data = STANDARD.decode(outer["message"]["data"].as_str().unwrap()).unwrap();
        let inner: Value = serde_json::from_slice(&data).unwrap();
        let manifest = &inner["tipoff"];
        assert_eq!(inner["target_date"], manifest["date"], "a message of one date, with another's manifest");
        let text = |field: &str| manifest[field].as_str().unwrap().to_owned();
        let number = |field: &str| manifest[field].as_u64().unwrap();
        let attempt = (text("date"), text("node"), number("run"), number("attempt"));
        let work = *consumer.work.lock().unwrap();
        consumer.arrived.lock().unwrap().push((attempt, text("dispatch_id")));
        tokio::time::sleep(work).await;
        StatusCode::NO_CONTENT
    }

    async fn hear(State(consumer): State<Self>) -> StatusCode {
        *consumer.notices.lock().unwrap() += 1;
        StatusCode::OK
    }

    pub fn seen(&self) -> Dispatched {
        gathered(self.arrived.lock().unwrap().iter().cloned())
    }
}

fn gathered(pairs: impl Iterator<Item = (Attempt, String)>) -> Dispatched {
    let mut found = Dispatched::new();
    for (attempt, id) in pairs {
        found.entry(attempt).or_default().insert(id);
    }
    found
}

/// What publishers were promised.
#[derive(Default)]
struct Promised {
    runs: BTreeSet<String>,
    garbage: BTreeSet<String>,
    /// The last answer that was no promise.
    refused: String,
    /// The dates about which anything was sent, whether or not it was taken.
    dates: BTreeSet<String>,
}

/// The service, running.
pub struct Service {
    pub child: Child,
    pub url: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Service {
    /// SIGKILL: nothing is drained.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal, as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, within `most`.
    pub async fn ended(&mut self, most: Duration) -> ExitStatus {
        let patience = Instant::now() + most;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < patience, "it has not ended within {most:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// All of it.
pub struct Plant {
    pub folder: tempfile::TempDir,
    pub consumer: Consumer,
    /// Where pushes go.
    pub target: String,
    pub data: PathBuf,
    /// Where the store is, as this process sees it, if only its service has it there.
    pub away: Option<PathBuf>,
    /// What its services log.
    pub log: &'static str,
    client: reqwest::Client,
    promised: Arc<Mutex<Promised>>,
}

impl Plant {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let consumer = Consumer::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/notices", post(Consumer::hear)).fallback(post(Consumer::take));
        let routes = routes.with_state(consumer.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        std::fs::write(folder.path().join("pipeline.yaml"), pipeline()).unwrap();
        let data = folder.path().join("data");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let plant = Self { folder, consumer, target, data, away: None, log: "error", client, promised: Arc::default() };
        plant.configure(1);
        plant
    }

    /// Writes a configuration that differs from others in one setting.
    pub fn configure(&self, wait: usize) {
        let url = format!("{}/notices", self.target);
        let text =
            format!("alerts: {{ group_wait: {wait}s, channels: {{ ops: {{ kind: webhook, url: '{url}' }} }} }}\n");
        std::fs::write(self.folder.path().join("tipoff.yaml"), text).unwrap();
    }

    /// The command that serves, after `before`, and dies at `crash` if that is said.
    pub fn command(&self, before: &[&str], crash: Option<&str>) -> Command {
        let program = env!("CARGO_BIN_EXE_tipoff");
        let mut command = match before.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", self.log, "--config", "tipoff.yaml"]);
        command.args(["--data", "data", "--pipeline-file", "pipeline.yaml"]);
        command.args(["--push", &format!("{SUBSCRIPTION}={}", self.target)]);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(crash) = crash {
            command.env("TIPOFF_CRASH", crash);
        }
        command
    }

    /// Serves, or says how it ended before it could.
    pub fn try_start(&self, mut command: Command) -> Result<Service, ExitStatus> {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        match line.trim().strip_prefix("listening on ") {
            Some(url) => Ok(Service { child, url: url.to_owned() }),
            None => Err(child.wait().unwrap()),
        }
    }

    pub fn start(&self) -> Service {
        self.try_start(self.command(&[], None)).unwrap_or_else(|status| panic!("it does not start: {status}"))
    }

    /// Runs another command on the store.
    pub fn tipoff(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["--data"]).arg(self.store()).args(["--pipeline-file", "pipeline.yaml"]).args(args);
        command.current_dir(self.folder.path()).output().unwrap()
    }

    /// A publisher that knows only its promises.
    pub fn publisher(&self) -> Publisher {
        Publisher { client: self.client.clone(), promised: Arc::clone(&self.promised) }
    }

    /// One round of everything that is published; what is not taken is not promised.
    pub async fn round(&self, url: &str, round: usize) {
        self.publisher().round(url, round).await;
    }

    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.store().join("tipoff.db")).unwrap()
    }

    /// The store, or a copy of it at one instant where SQLite, which follows links, would look for it elsewhere.
    fn store(&self) -> PathBuf {
        let Some(away) = &self.away else { return self.data.clone() };
        let to = self.folder.path().join("copy");
        std::fs::create_dir_all(&to).unwrap();
        let read = |name: &str| std::fs::read(away.join(name)).unwrap_or_default();
        loop {
            let (log, file) = (read("tipoff.db-wal"), read("tipoff.db"));
            // What is in the log at both times is what had not gone into the file between them.
            if read("tipoff.db-wal") == log {
                let _ = std::fs::remove_file(to.join("tipoff.db-shm"));
                std::fs::write(to.join("tipoff.db"), file).unwrap();
                std::fs::write(to.join("tipoff.db-wal"), log).unwrap();
                return to;
            }
        }
    }

    fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn recorded(&self) -> BTreeSet<String> {
        join::recorded(&self.database())
    }

    /// What was decided to be sent: all of it, and what of it had to leave.
    fn decided(&self) -> (Dispatched, Dispatched) {
        let database = self.database();
        let query = "SELECT date, id, effect, parked_reason IS NULL FROM outbox WHERE kind = 'dispatch'";
        let mut statement = database.prepare(query).unwrap();
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, bool>(3)?))
        });
        let rows: Vec<(Attempt, String, bool)> = rows
            .unwrap()
            .map(|row| {
                let (date, id, effect, leaves) = row.unwrap();
                let effect: Value = serde_json::from_str(&effect).unwrap();
                let number = |field: &str| effect["manifest"][field].as_u64().unwrap_or_else(|| panic!("{effect}"));
                let node = effect["node"].as_str().unwrap().to_owned();
                ((date, node, number("run"), number("attempt")), id, leaves)
            })
            .collect();
        let pair = |(attempt, id, _): &(Attempt, String, bool)| (attempt.clone(), id.clone());
        (gathered(rows.iter().map(pair)), gathered(rows.iter().filter(|row| row.2).map(pair)))
    }

    /// What was promised is kept, at any time: it is in the file.
    pub fn nothing_promised_is_lost(&self) -> usize {
        let promised = self.promised.lock().unwrap();
        let recorded = self.recorded();
        let lost: Vec<&String> = promised.runs.difference(&recorded).collect();
        assert!(lost.is_empty(), "of {} promised, {} are lost: {lost:?}", promised.runs.len(), lost.len());
        let parked = self.count("SELECT count(*) FROM parked");
        assert!(parked >= i64::try_from(promised.garbage.len()).unwrap(), "{parked} of {:?}", promised.garbage);
        promised.runs.len()
    }

    /// Everything that is missing is published, everything that was begun ends, and then all has to hold. Returns how many
    /// messages were promised, how many dispatches were decided, and how often they arrived.
    pub async fn comes_to_rest(&self, service: &Service) -> (usize, usize, usize) {
        let dates: Vec<String> = self.promised.lock().unwrap().dates.iter().cloned().collect();
        let publisher = self.publisher();
        for date in &dates {
            let all: Vec<Value> = (0..SOURCES).map(|source| completion(&name(source), date, "last", true)).collect();
            publisher.insist(&service.url, TOPIC, &all).await;
        }
        self.until("every whole date was dispatched", || {
            let seen: BTreeSet<String> = self.consumer.seen().into_keys().map(|(date, ..)| date).collect();
            dates.iter().all(|date| seen.contains(date))
        })
        .await;
        for date in &dates {
            publisher.insist(&service.url, TOPIC, &[completion("join", date, "done", true)]).await;
        }
        self.until("everything is sent, pushed and exported", || {
            let pushed =
                format!("SELECT count(*) FROM deliveries WHERE settled_at IS NULL AND subscription = '{SUBSCRIPTION}'");
            let exported =
                "SELECT coalesce(max(seq), 0) - coalesce((SELECT value FROM cursors WHERE name = 'exported'), 0)
                 FROM journal";
            [pushed.as_str(), "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL", exported]
                .into_iter()
                .all(|sql| self.count(sql) == 0)
        })
        .await;
        self.holds(&dates)
    }

    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let patience = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < patience, "not within {PATIENCE:?}: {what}\n{}", self.waiting());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What waits, for whoever reads a failure.
    fn waiting(&self) -> String {
        let database = self.database();
        let query = "SELECT 'effect ' || id || coalesce(': ' || error, '') FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL
             UNION ALL SELECT 'push ' || message || coalesce(': ' || error, '') FROM deliveries
                 WHERE settled_at IS NULL AND subscription = 'nba-grading-trigger-sub'
             UNION ALL SELECT name || ' ' || value FROM cursors";
        let Ok(mut statement) = database.prepare(query) else { return "what waits cannot be read".to_owned() };
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).take(40).collect::<Vec<_>>().join("\n")
    }

    fn holds(&self, dates: &[String]) -> (usize, usize, usize) {
        let promised = self.nothing_promised_is_lost();
        let (decided, leaves) = self.decided();
        let seen = self.consumer.seen();
        for (attempt, ids) in decided.iter().chain(&seen) {
            assert_eq!(ids.len(), 1, "{attempt:?} was dispatched under {ids:?}");
        }
        for (attempt, ids) in &seen {
            assert_eq!(decided.get(attempt), Some(ids), "{attempt:?} arrived, and nobody has decided it");
        }
        let missing: Vec<_> = leaves.keys().filter(|attempt| !seen.contains_key(*attempt)).collect();
        assert!(missing.is_empty(), "decided, and never arrived: {missing:?}");
        if let (Some(first), Some(last)) = (dates.first(), dates.last()) {
            let replayed = self.tipoff(&["replay", &format!("{first}..{last}"), "--verify"]);
            assert!(replayed.status.success(), "the journal does not give the state: {replayed:?}");
        }
        tipoff::adapter::embedded::check(&self.store().join("tipoff.db")).unwrap();
        let arrived = self.consumer.arrived.lock().unwrap().len();
        (promised, leaves.len(), arrived)
    }

    /// Has a replay of every letter that waits sent.
    pub async fn replay_letters(&self, url: &str) {
        let asked = json!({ "letters": { "topic": LETTERS.trim_end_matches("-dlq") }, "force": true, "apply": true,
            "actor": "ann", "reason": "the service is back" });
        let call = self.client.post(format!("{url}/v1/dead-letters/replay")).body(asked.to_string());
        let _ = call.header("content-type", "application/json").send().await;
    }
}

/// Publishes, and notes what was promised.
#[derive(Clone)]
pub struct Publisher {
    client: reqwest::Client,
    promised: Arc<Mutex<Promised>>,
}

impl Publisher {
    /// Everything that is published, once.
    pub async fn round(&self, url: &str, round: usize) {
        let date = date_of(round % DATES);
        let run = |source: usize| format!("{round}/{source}");
        let messages: Vec<Value> =
            (0..SOURCES).map(|source| completion(&name(source), &date, &run(source), true)).collect();
        let (first, rest) = messages.split_at(1);
        self.tell(url, TOPIC, first).await;
        self.tell(url, TOPIC, rest).await;
        // It is tried again after a second.
        self.tell(url, TOPIC, &[completion("join", &date, &format!("{round}/join"), false)]).await;
        let garbage = format!("garbage {round}");
        if self.publish(url, TOPICS[round % TOPICS.len()], vec![garbage.clone().into_bytes()]).await {
            self.promised.lock().unwrap().garbage.insert(garbage);
        }
        let letter = completion(&name(0), &date, &format!("{round}/letter"), true).to_string().into_bytes();
        self.publish(url, LETTERS, vec![letter]).await;
    }

    /// Publishes completions; what is answered is promised.
    pub async fn tell(&self, url: &str, topic: &str, bodies: &[Value]) -> bool {
        let text = |body: &Value, field: &str| body[field].as_str().unwrap().to_owned();
        self.promised.lock().unwrap().dates.extend(bodies.iter().map(|body| text(body, "game_date")));
        let taken = self.publish(url, topic, bodies.iter().map(|body| body.to_string().into_bytes()).collect()).await;
        if taken {
            self.promised.lock().unwrap().runs.extend(bodies.iter().map(|body| text(body, "execution_id")));
        }
        taken
    }

    /// Publishes until it is taken, as a publisher does.
    async fn insist(&self, url: &str, topic: &str, bodies: &[Value]) {
        let patience = Instant::now() + PATIENCE;
        while !self.tell(url, topic, bodies).await {
            let why = self.promised.lock().unwrap().refused.clone();
            assert!(Instant::now() < patience, "not taken within {PATIENCE:?}, {why}: {bodies:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn publish(&self, url: &str, topic: &str, bodies: Vec<Vec<u8>>) -> bool {
        let messages: Vec<Value> = bodies.iter().map(|body| json!({ "data": STANDARD.encode(body) })).collect();
        let call = self.client.post(format!("{url}/v1/projects/p/topics/{topic}:publish"));
        let Ok(answer) = call.body(json!({ "messages": messages }).to_string()).send().await else { return false };
        let accepted = answer.status().is_success();
        // Half an answer is none.
        let Ok(words) = answer.text().await else { return false };
        if !accepted {
            self.promised.lock().unwrap().refused = words;
        }
        accepted
    }
}

/// So many days after today: none of them is history, which is paced.
fn date_of(ahead: usize) -> String {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(Clock::System.now()).date();
    today.saturating_add(i64::try_from(ahead).unwrap().days()).to_string()
}

fn completion(node: &str, date: &str, run: &str, success: bool) -> Value {
    let (status, count, error) = if success { ("success", 33, "") } else { ("failed", 0, "it did not work") };
    json!({ "processor_name": node, "phase": "phase_2_raw", "execution_id": run, "correlation_id": run,
        "game_date": date, "output_table": "", "status": status, "record_count": count, "error_message": error })
}

/// One join of all sources, on dates to come as well, tried again a second after a failure.
fn pipeline() -> String {
    let cycles =
        json!([{ "name": "overnight", "from": { "day": -40, "at": "00:00" }, "until": { "day": 40, "at": "00:00" } }]);
    let limits = json!({ "ahead_max": "60d", "dispatches_per_second": 1000, "dispatches_per_hour": 1000000 });
    let retry = json!({ "attempts_max": 3, "backoff": "1s", "backoff_max": "1s" });
    join::pipeline(SOURCES, json!({ "cycles": cycles, "limits": limits }), json!({ "retry": retry }))
}

/// Dice of their own each time, or of `TIPOFF_CHAOS_SEED`; a test that fails shows which.
pub fn dice() -> Dice {
    let seed = std::env::var("TIPOFF_CHAOS_SEED").map_or_else(
        |_| u64::try_from(Clock::System.now().as_millisecond()).unwrap(),
        |seed| seed.parse().expect("TIPOFF_CHAOS_SEED is a number"),
    );
    println!("TIPOFF_CHAOS_SEED={seed}");
    Dice::new(seed)
}

/// A tool of the machine that a fault is made with; where it is not there, that is said, and in CI a failure.
pub fn has(tool: &str, probe: &[&str]) -> bool {
    let found = Command::new(tool).args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{tool} {probe:?} does not work");
    // Not by `eprintln!`: what a passing test prints so is shown to nobody.
    let line = format!("NOT TESTED: {tool} {probe:?} does not work here\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    false
}

/// The folder of a process as it sees it itself, on a file system that is its own.
pub fn inside(service: &Service, folder: &Path) -> PathBuf {
    Path::new("/proc").join(service.child.id().to_string()).join("root").join(folder.strip_prefix("/").unwrap())
}
