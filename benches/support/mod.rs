//! The service as a process, for benches.
#![allow(dead_code, reason = "every bench uses some of it")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Service {
    child: Child,
    pub url: String,
    /// From the start of the process until it said that it is ready.
    pub ready: Duration,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    pub async fn start(folder: &Path, extra: &[&str]) -> Self {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "off", "--data", "data"]).args(extra);
        let mut child = command.current_dir(folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it says where it listens").to_owned();
        while !reqwest::get(format!("{url}/readyz")).await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < PATIENCE, "it is not ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { child, url, ready: began.elapsed() }
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> f64 {
        self.memory("VmRSS")
    }

    /// The most that it was, in MiB.
    pub fn most_resident(&self) -> f64 {
        self.memory("VmHWM")
    }

    fn memory(&self, which: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(which)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Seconds of processor time so far, at a hundred ticks a second.
    pub fn busy(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

pub async fn publish(client: &reqwest::Client, url: &str, topic: &str, bodies: &[Value]) {
    let messages: Vec<Value> = bodies.iter().map(|body| json!({ "data": STANDARD.encode(body.to_string()) })).collect();
    let call = client.post(format!("{url}/v1/projects/p/topics/{topic}:publish"));
    let answer = call.body(json!({ "messages": messages }).to_string()).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
}

pub fn ms(sorted: &[Duration], share: usize) -> f64 {
    sorted[(sorted.len() - 1) * share / 100].as_secs_f64() * 1e3
}
