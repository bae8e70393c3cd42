//! Jobs that join without code of their own, by `tipoff run`, and Python programs that join by the client.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::hostile::Service;

impl Service {
    /// `tipoff run`, to this service.
    fn job(&self, options: &[&str], job: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["run", "--server", &self.url]).args(options).arg("--").args(job);
        command.output().unwrap()
    }

    fn stands(&self, node: &str, date: &str) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        let output = command.args(["status", date, "--json", "--data"]).arg(&self.data).output().unwrap();
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        view["nodes"].as_array().unwrap().iter().find(|found| found["node"] == node).cloned().unwrap()
    }

    fn history(&self, run: &str) -> Option<(String, Option<i64>)> {
        let database = rusqlite::Connection::open(self.data.join("tipoff.db")).unwrap();
        let query = "SELECT status, records_processed FROM processor_run_history WHERE run_id = ?1 ORDER BY rowid DESC";
        let mut statement = database.prepare(query).unwrap();
        statement.query_map([run], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().next().map(Result::unwrap)
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_joins_without_code() {
    let service = Service::start(&[]);
    let on = |node: &'static str, run: &'static str| {
        ["--node", node, "--date", "yesterday", "--run-id", run, "--every", "1s"]
    };

    // It succeeds; its output passes through, untouched, and tells the rows.
    let script = "echo progress 1/2; printf 'no newline, and bytes: \\377\\n'; echo records: 210; printf end >&2";
    let done = service.job(&on("PlayerGameSummaryProcessor", "good"), &["sh", "-c", script]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(done.stdout, b"progress 1/2\nno newline, and bytes: \xff\nrecords: 210\n");
    assert_eq!(done.stderr, b"end");
    assert_eq!(service.stands("player_game_summary", "yesterday")["state"], "succeeded");
    assert_eq!(until("its row", || service.history("good")), ("success".to_owned(), Some(210)));

    // It fails, and its last words say why.
    let failed = service
        .job(&on("grading", "bad"), &["sh", "-c", "echo first >&2; echo 'HTTP 500 from the vendor' >&2; exit 7"]);
    assert_eq!(failed.status.code(), Some(7));
    let failure = service.stands("grading", "yesterday")["failure"].to_string();
    assert!(failure.contains("exit status: 7: first | HTTP 500 from the vendor"), "{failure}");

    // It cannot be started, or is no node.
    assert_eq!(service.job(&on("grading", "none"), &["/no/such/program"]).status.code(), Some(127));
    assert_eq!(service.job(&on("gradng", "typo"), &["true"]).status.code(), Some(2));

    // While it lives it is seen to beat, with what its output told; what ends us reaches it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(["run", "--server", &service.url]).args(on("team_offense_game_summary", "long")).arg("--");
    let job = "trap 'echo caught; exit 3' TERM; echo processed 45 of 450; while :; do sleep 0.1; done";
    let child = command.args(["sh", "-c", job]).stdout(Stdio::piped()).spawn().unwrap();
    until("it beats", || {
        (service.stands("team_offense_game_summary", "yesterday")["state"] == "running").then_some(())
    });
    let process = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout), (Some(3), b"processed 45 of 450\ncaught\n".to_vec()));
    let failure = service.stands("team_offense_game_summary", "yesterday")["failure"].to_string();
    assert!(failure.contains("exit status: 3"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_though_nobody_can_be_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    let url = format!("http://{nobody}");
    command.args(["run", "--server", &url, "--node", "grading", "--", "sh", "-c", "echo did it"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It is tried for minutes; whoever waits no longer is told what was to be said.
    std::thread::sleep(Duration::from_secs(1));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &ended.stdout[..]), (Some(3), &b"did it\n"[..]), "{errors}");
    assert!(errors.contains("could not be delivered") && errors.contains("\"status\":\"success\""), "{errors}");
}

/// What a Python program would do.
const PROGRAM: &str = r#"
import sys, time
sys.path.insert(0, sys.argv[1])
from tipoff_client import Client, Undelivered
client = Client.http(sys.argv[2])
date = sys.argv[3]
with client.run("TeamDefenseGameSummaryProcessor", phase="analytics", date=date, run_id="py-good", every=0.2) as run:
    run.progress(9, 18)
    time.sleep(0.5)
    run.records = 18
try:
    with client.run("grading", phase="grading", date=date, run_id="py-bad"):
        raise ValueError("no rows of the vendor")
except ValueError:
    print("went on its way")
try:
    with Client.http("http://127.0.0.1:1", give_up_after=0.1).run("grading", phase="grading", date=date):
        pass
except Undelivered as error:
    print("undelivered:", "grading" in str(error))
for wrong in (dict(phase="analytic"), dict(phase="analytics", every=0)):
    try:
        client.run("grading", date=date, **wrong)
    except ValueError as error:
        print("refused")
for readable in ("http://10.0.0.1:8085", "http://tipoff.example", "http://127.0.0.1.example", "http://"):
    try:
        Client.http(readable, token="secret")
        print("would be read on the way:", readable)
    except ValueError as error:
        assert "https" in str(error) and "secret" not in str(error), error
class Moment(Exception):
    def __str__(self):
        return "half a character: \udc80"
told = []
client = Client(lambda topic, body, attributes=None: told.append((topic, body)))
for written in ("2026-W04-5", "20260123", __import__("datetime").datetime(2026, 1, 23, 7)):
    try:
        with client.run("grading", phase="grading", date=written):
            raise Moment()
    except Moment:
        assert told[-1][1]["game_date"] == "2026-01-23", told
        assert told[-1][1]["error_message"].encode() == b"half a character: ?", told
    except ValueError:
        # Older versions of Python read one way of writing a date.
        assert sys.version_info < (3, 11), written
for kept in (dict(url="https://tipoff.example"), dict(url="http://[::1]:1"), dict(url="http://x", insecure_http=True)):
    Client.http(token="secret", **kept)

import http.server, threading
seen = []
class Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(302)
        self.send_header("location", f"http://127.0.0.2:{self.server.server_port}/")
        self.end_headers()
    def do_GET(self):
        seen.append(self.headers.get("authorization"))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
elsewhere = http.server.HTTPServer(("", 0), Elsewhere)
threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
client = Client.http(f"http://127.0.0.1:{elsewhere.server_port}", token="secret", give_up_after=0.1)
try:
    with client.run("grading", phase="grading", date=date):
        pass
except Undelivered:
    print("not followed:", seen)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_program_joins() {
    let service = Service::start(&[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let view = service.stands("grading", "yesterday");
    assert_eq!(view["state"], "waiting");
    let mut command = Command::new("python3");
    command.arg("-").arg(&root).arg(&service.url).arg(service.date("yesterday"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return super::emulator::missing("python3 is not installed") };
    child.stdin.take().unwrap().write_all(PROGRAM.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "went on its way\nundelivered: True\nrefused\nrefused\nnot followed: []\n", "{errors}");
    assert_eq!(service.stands("team_defense_game_summary", "yesterday")["state"], "succeeded");
    assert_eq!(until("its row", || service.history("py-good")), ("success".to_owned(), Some(18)));
    let failure = service.stands("grading", "yesterday")["failure"].to_string();
    assert!(failure.contains("no rows of the vendor"), "{failure}");
}

impl Service {
    /// A date as this pipeline counts them.
    fn date(&self, word: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        let output = command.args(["status", word, "--json", "--data"]).arg(&self.data).output().unwrap();
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        view["partition"]["date"].as_str().unwrap().to_owned()
    }
}
