//! The real binary, started by a test and ended with it.
#![allow(dead_code, reason = "every test target uses some of it")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A running `tipoff`.
pub struct Running {
    child: Child,
    pub url: String,
    pub client: reqwest::Client,
    pub data: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The service on an empty directory.
    pub fn serve(extra: &[&str]) -> Self {
        let address = if extra.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] };
        Self::start(&["serve", "--log", "error"], &[address, extra].concat())
    }

    /// A recorded day, with its pages, once it has begun.
    pub async fn demo(extra: &[&str]) -> Self {
        let demo = Self::start(&["demo", "--listen", "127.0.0.1:0"], extra);
        let begins =
            async || demo.client.get(format!("{}/v1/pipelines", demo.url)).send().await.unwrap().status() == 503;
        while begins().await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        demo
    }

    fn start(command: &[&str], extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        child.args(command).args(extra).arg("--data").arg(&data).current_dir(folder.path());
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        // What it says afterwards is read, or it would wait for somebody to read it.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self { child, url, client: reqwest::Client::new(), data, _folder: folder }
    }

    /// Sends it a signal, as `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it as a crash does.
    pub fn killed(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it as a crash does, and starts the service again on what it has stored.
    pub fn killed_and_started(&mut self) {
        self.killed();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        child.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]).arg(&self.data);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().strip_prefix("listening on ").unwrap().clone_into(&mut self.url);
        self.child = child;
    }

    /// Asks it to end, and waits until it has.
    pub fn ended(&mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Publishes one message and says what the service answered.
    pub async fn publish(&self, topic: &str, body: &Value) -> reqwest::StatusCode {
        let call = json!({ "messages": [{ "data": STANDARD.encode(body.to_string()) }] }).to_string();
        let url = format!("{}/v1/projects/p/topics/{topic}:publish", self.url);
        self.client.post(url).body(call).send().await.unwrap().status()
    }

    /// Reads JSON, which has to be there.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Asks for something; the code and the answer.
    pub async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
        let mut call = self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        if let Some(key) = key {
            call = call.header("idempotency-key", key);
        }
        let answer = call.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// What the journal holds, entry by entry.
    pub fn journal(&self) -> Vec<String> {
        let database = rusqlite::Connection::open(self.data.join("tipoff.db")).unwrap();
        let mut statement = database.prepare("SELECT entry FROM journal ORDER BY seq").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

/// Today in the pipeline's zone.
pub fn today() -> jiff::civil::Date {
    jiff::tz::TimeZone::get("America/New_York").unwrap().to_datetime(tipoff::clock::Clock::System.now()).date()
}

/// A completion as a processor sends it.
pub fn completion(name: &str, phase: &str, run: &str, status: &str) -> Value {
    json!({ "processor_name": name, "phase": phase, "execution_id": run, "correlation_id": run,
        "game_date": today().to_string(), "output_table": "", "status": status, "record_count": 282,
        "error_message": if status == "failed" { "it did not work" } else { "" } })
}

/// A heartbeat as a processor sends it.
pub fn heartbeat(name: &str, run: &str, progress: u32, total: u32) -> Value {
    json!({ "processor_name": name, "run_id": run, "data_date": today().to_string(), "status": "running",
        "progress": progress, "total": total })
}
