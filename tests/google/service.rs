//! Replicas of the service as processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::cloud::Cloud;

/// What an operator is told who asks the store.
pub fn says(cloud: &Cloud, pipeline: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(arguments).args(["--backend", "google", "--project", &cloud.project]);
    command.arg("--pipeline-file").arg(pipeline).envs(cloud.environment());
    let output = command.output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// One replica. Dropping it kills it.
pub struct Replica {
    child: Child,
    /// Where it answers.
    pub url: String,
}

impl Replica {
    /// Starts a replica on the emulators, and waits until it listens. What it logs goes to `log`.
    pub fn start(cloud: &Cloud, pipeline: &Path, log: &Path) -> Self {
        Self::start_in(cloud, pipeline, log, &[])
    }

    /// The same, with more in its environment.
    pub fn start_in(cloud: &Cloud, pipeline: &Path, log: &Path, environment: &[(&str, String)]) -> Self {
        Self::try_start_in(cloud, pipeline, log, environment).unwrap_or_else(|status| panic!("it ended: {status}"))
    }

    /// The same, or how it ended before it listened.
    pub fn try_start_in(
        cloud: &Cloud,
        pipeline: &Path,
        log: &Path,
        environment: &[(&str, String)],
    ) -> Result<Self, ExitStatus> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["serve", "--backend", "google", "--project", &cloud.project, "--listen", "127.0.0.1:0"]);
        command.args(["--heartbeat-flush", "1s", "--log", "warn,tipoff=info"]).arg("--pipeline-file").arg(pipeline);
        // An emulator asks for no credentials.
        command.env_remove("GOOGLE_APPLICATION_CREDENTIALS");
        command.envs(cloud.environment()).envs(environment.iter().cloned()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("start the service");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        match line.trim().strip_prefix("listening on ") {
            Some(url) => Ok(Self { child, url: url.to_owned() }),
            None => Err(child.wait().unwrap()),
        }
    }

    /// SIGKILL: nothing is drained, nothing is said goodbye to.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended by itself, if it does so within `most`.
    pub async fn ended_within(&mut self, most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + most;
        loop {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a signal, as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// SIGTERM, and whether it ends well.
    pub fn end(mut self) -> bool {
        self.signal("TERM");
        self.child.wait().unwrap().success()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It has ended already, or it ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
