//! A pipeline of one join, a service that runs it, publishers, a consumer, and what has to hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tipoff::clock::Clock;
use tipoff::simulation::dice::Dice;

use super::consumer::{Attempt, Consumer, Dispatched, gathered};
use super::join::{self, TOPIC, name};
use super::publisher::{LETTERS, Publisher, completion};

/// What the join waits for.
pub const SOURCES: usize = 4;
pub const PATIENCE: Duration = Duration::from_secs(150);
pub const SUBSCRIPTION: &str = "nba-grading-trigger-sub";
/// Over which letters come to the ledger.
pub const LETTER_BOX: &str = "tipoff-nba-phase2-raw-complete-dlq-sub";

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
    pub publisher: Publisher,
}

impl Plant {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let consumer = Consumer::default();
        let target = consumer.listen().await;
        std::fs::write(folder.path().join("pipeline.yaml"), pipeline()).unwrap();
        let data = folder.path().join("data");
        let plant = Self { folder, consumer, target, data, away: None, log: "error", publisher: Publisher::new() };
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

    /// One round of everything that is published.
    pub async fn round(&self, url: &str) {
        self.publisher.round(url).await;
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

    pub fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub fn recorded(&self) -> BTreeSet<String> {
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

    /// Nobody is asked twice for one thing: a run of a node is on other inputs than its other runs, and a further attempt of it
    /// follows a failure. Names of attempts alone would not show that, for a second time would have a name of its own.
    fn nothing_is_asked_for_twice(&self) {
        let database = self.database();
        let mut statement = database.prepare("SELECT date, effect FROM outbox WHERE kind = 'dispatch'").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
        let mut asked = BTreeSet::new();
        for (date, effect) in rows.map(Result::unwrap) {
            let effect: Value = serde_json::from_str(&effect).unwrap();
            let (manifest, node) = (&effect["manifest"], effect["node"].as_str().unwrap());
            let cause = manifest["cause"].as_str().unwrap();
            if cause == "requested" {
                // Somebody wanted it once more.
            } else if manifest["attempt"] == 1 {
                assert!(["dependencies_met", "inputs_newer"].contains(&cause), "{effect}");
                let new = asked.insert((date, node.to_owned(), manifest["inputs"].to_string()));
                assert!(new, "it was asked for on these inputs before: {effect}");
            } else {
                assert!(["failed", "heartbeat_dead", "not_started"].contains(&cause), "{effect}");
            }
        }
    }

    /// What the letters of a kind say.
    pub fn letters(&self, kind: &str) -> Vec<Vec<u8>> {
        let database = self.database();
        let query = "SELECT data FROM letter_contents JOIN letters ON id = letter_contents.letter
             WHERE letters.letter ->> '$.kind' = ?1";
        let mut statement = database.prepare(query).unwrap();
        let rows = statement.query_map([kind], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// How what is parked begins, which is all of it here.
    pub fn parked(&self) -> Vec<Vec<u8>> {
        let database = self.database();
        let mut statement = database.prepare("SELECT input ->> '$.head' FROM parked").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|head| serde_json::from_str(&head.unwrap()).unwrap()).collect()
    }

    /// What was promised is kept, at any time: it is in the file.
    pub fn nothing_promised_is_lost(&self) -> usize {
        let promised = self.publisher.promised.lock().unwrap();
        let recorded = self.recorded();
        let lost: Vec<&String> = promised.runs.difference(&recorded).collect();
        assert!(lost.is_empty(), "of {} promised, {} are lost: {lost:?}", promised.runs.len(), lost.len());
        each_once("parked", &promised.garbage, &self.parked());
        each_once("in the ledger", &promised.garbage, &self.letters("parked"));
        promised.runs.len()
    }

    /// Everything that is missing is published, everything that was begun ends, and then all has to hold. Returns how many
    /// messages were promised, how many dispatches were decided, and how often they arrived.
    pub async fn comes_to_rest(&self, service: &Service) -> (usize, usize, usize) {
        let publisher = &self.publisher;
        let dates: Vec<String> = publisher.promised.lock().unwrap().dates.iter().cloned().collect();
        publisher.insist_on_garbage(&service.url).await;
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
        self.until("everything is sent, pushed, exported and in the ledger", || {
            let pushed = format!(
                "SELECT count(*) FROM deliveries WHERE settled_at IS NULL AND subscription IN ('{SUBSCRIPTION}', '{LETTER_BOX}')"
            );
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

    /// What waits, what was parked, and why a date without an arrival has none, for whoever reads a failure.
    fn waiting(&self) -> String {
        let database = self.database();
        let query = "SELECT 'effect ' || id || coalesce(': ' || error, '') FROM outbox WHERE sent_at IS NULL AND parked_reason IS NULL
             UNION ALL SELECT 'parked ' || date || ' ' || id || ': ' || parked_reason FROM outbox WHERE parked_reason IS NOT NULL
             UNION ALL SELECT 'push ' || message || coalesce(': ' || error, '') FROM deliveries
                 WHERE settled_at IS NULL AND subscription <> 'nba-phase2-raw-complete-dlq-sub'
             UNION ALL SELECT name || ' ' || value FROM cursors";
        let Ok(mut statement) = database.prepare(query) else { return "what waits cannot be read".to_owned() };
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut told: Vec<String> = rows.map(Result::unwrap).take(40).collect();
        let seen: BTreeSet<String> = self.consumer.seen().into_keys().map(|(date, ..)| date).collect();
        let mut dates = self.publisher.promised.lock().unwrap().dates.clone();
        dates.retain(|date| !seen.contains(date));
        for date in dates.iter().take(2) {
            let why = self.tipoff(&["why", "join", date]);
            told.push(format!("{date} never arrived:\n{}", String::from_utf8_lossy(&why.stdout)));
            told.push(String::from_utf8_lossy(&why.stderr).into_owned());
        }
        told.join("\n")
    }

    fn holds(&self, dates: &[String]) -> (usize, usize, usize) {
        let promised = self.nothing_promised_is_lost();
        let (decided, leaves) = self.decided();
        let seen = self.consumer.seen();
        self.nothing_is_asked_for_twice();
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
        let parked = self.count("SELECT count(*) FROM parked");
        assert_eq!(self.letters("parked").len(), usize::try_from(parked).unwrap(), "what is parked has a letter each");
        let letters = self.letters("dead");
        each_once("in the ledger", &self.publisher.promised.lock().unwrap().letters, &letters);
        let sent = self.count(&format!("SELECT count(*) FROM messages WHERE topic = '{LETTERS}'"));
        assert_eq!(letters.len(), usize::try_from(sent).unwrap(), "letters have a place each in the ledger");
        let decided = "SELECT count(*) FROM journal
             WHERE json_array_length(entry, '$.moved') > 0 OR json_array_length(entry, '$.effects') > 0";
        let rows = self.count("SELECT count(*) FROM tipoff_decisions");
        assert_eq!(rows, self.count(decided), "each decision that moved or asked for something has its row");
        self.consumer.was_told_once();
        let arrived = self.consumer.arrivals().values().sum();
        (promised, leaves.len(), arrived)
    }
}

/// What was promised is there, each once.
fn each_once(place: &str, promised: &BTreeSet<Vec<u8>>, there: &[Vec<u8>]) {
    let mut kept: BTreeMap<&[u8], usize> = BTreeMap::new();
    for body in there {
        *kept.entry(body).or_default() += 1;
    }
    for body in promised {
        let count = kept.get(body.as_slice()).copied().unwrap_or(0);
        assert_eq!(count, 1, "{place}: {}", String::from_utf8_lossy(body));
    }
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
    missing(&format!("{tool} {probe:?} does not work here"));
    false
}

/// Says that something is not tested; in CI that is a failure.
pub fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what}");
    // Not by `eprintln!`: what a passing test prints so is shown to nobody.
    let line = format!("NOT TESTED: {what}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}

/// The folder of a process as it sees it itself, on a file system that is its own.
pub fn inside(service: &Service, folder: &Path) -> PathBuf {
    Path::new("/proc").join(service.child.id().to_string()).join("root").join(folder.strip_prefix("/").unwrap())
}
