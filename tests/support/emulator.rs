//! Google's emulators, started by the tests on free ports and stopped after.
//!
//! Where one is not installed, its tests say so and prove nothing; with `CI` set that is a failure.
#![allow(dead_code, reason = "every test target uses some of them")]

use std::fs::File;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an emulator may take until it listens. A second is usual; a machine that also compiles needs more.
const START_MAX: Duration = Duration::from_secs(90);

/// A running emulator; it ends with this.
#[derive(Debug)]
pub struct Emulator {
    process: Child,
    /// Where it listens, as `127.0.0.1:8085`.
    pub address: String,
}

impl Emulator {
    /// Starts `command`, which is to listen on `port`, with what it prints in a file for whoever has to look.
    fn start(name: &str, mut command: Command, port: u16) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{port}.log", name.replace('/', "")));
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let process = command.spawn().unwrap_or_else(|error| panic!("start the {name} emulator: {error}"));
        let mut emulator = Self { process, address: format!("127.0.0.1:{port}") };
        let patience = Instant::now() + START_MAX;
        while TcpStream::connect(&emulator.address).is_err() {
            let ended = emulator.process.try_wait().unwrap();
            let late = Instant::now() > patience;
            assert!(ended.is_none() && !late, "the {name} emulator did not start; see {}", log.display());
            sleep(Duration::from_millis(50));
        }
        emulator
    }

    /// Sends it a signal, as `STOP` and `CONT` to let it hang for a while.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has ended already, or it ends now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A file of the Google Cloud SDK, if it is there: the one in `folder` whose name begins and ends so.
fn installed(name: &str, (folder, begin, end): (&str, &str, &str), component: &str) -> Option<PathBuf> {
    let is_it = |file: &Path| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    let files = sdk().and_then(|root| std::fs::read_dir(root.join(folder)).ok()).into_iter().flatten();
    let file = files.filter_map(|file| Some(file.ok()?.path())).find(|file| is_it(file));
    if file.is_none() {
        missing(&format!("the {name} emulator is not installed: gcloud components install {component}"));
    }
    file
}

/// Says that something is not tested, or fails where it must be.
pub fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what}");
    // Not by `eprintln!`: what a passing test prints so is shown to nobody.
    std::io::stderr().write_all(format!("NOT TESTED: {what}\n").as_bytes()).unwrap();
}

/// Where the Google Cloud SDK is, if it is anywhere.
fn sdk() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let gcloud = std::env::split_paths(&path).map(|dir| dir.join("gcloud")).find(|file| file.is_file())?;
    Some(gcloud.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

/// Starts the Firestore emulator.
pub fn firestore() -> Option<Emulator> {
    let jar = ("platform/cloud-firestore-emulator", "cloud-firestore-emulator", ".jar");
    let jar = installed("Firestore", jar, "cloud-firestore-emulator")?;
    let port = free_port();
    let mut java = Command::new("java");
    java.args(["-Xmx1g", "-Duser.language=en", "-cp"]).arg(jar);
    java.args(["com.google.cloud.datastore.emulator.firestore.CloudFirestore", "--host=127.0.0.1"]);
    java.arg(format!("--port={port}"));
    Some(Emulator::start("Firestore", java, port))
}

/// Starts the BigQuery emulator that `bqemulator.sh` has installed, by default or where `TIPOFF_BQEMULATOR` says.
pub fn bigquery() -> Option<Emulator> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bqemulator");
    let dir = std::env::var_os("TIPOFF_BQEMULATOR").map_or_else(usual, PathBuf::from);
    let program = dir.join("bin/bqemulator");
    if !program.is_file() {
        missing("the BigQuery emulator is not installed: tests/support/bqemulator.sh");
        return None;
    }
    let port = free_port();
    let mut bqemulator = Command::new(program);
    // The extension of its database that it would fetch is in this home.
    bqemulator.env("HOME", dir.join("home")).args(["start", "--log-format=console", "--project=tipoff"]);
    bqemulator.arg(format!("--rest-port={port}")).arg(format!("--grpc-port={}", free_port()));
    Some(Emulator::start("BigQuery", bqemulator, port))
}

/// Starts the Pub/Sub emulator, mended by `emulator/io/grpc/InternalStatus.java`.
pub fn pubsub() -> Option<Emulator> {
    // Its name has its version, which is whatever the SDK brought.
    let jar = ("platform/pubsub-emulator/lib", "cloud-pubsub-emulator-", "-all.jar");
    let jar = installed("Pub/Sub", jar, "pubsub-emulator")?;
    let mend = mend(&jar);
    let port = free_port();
    let mut java = Command::new("java");
    java.args(["-Xmx1g", "-cp"]).arg(format!("{}:{}", mend.display(), jar.display()));
    java.args(["com.google.cloud.pubsub.testing.v1.Main", "--host=127.0.0.1"]).arg(format!("--port={port}"));
    Some(Emulator::start("Pub/Sub", java, port))
}

/// Compiles the mend of the Pub/Sub emulator, once a run.
fn mend(jar: &Path) -> &'static Path {
    static MEND: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = MEND.get_or_init(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/emulator/io/grpc/InternalStatus.java");
        let done = Command::new("javac").arg("-cp").arg(jar).arg("-d").arg(dir.path()).arg(source).status();
        assert!(done.expect("javac, which mends the Pub/Sub emulator, is installed").success());
        dir
    });
    dir.path()
}
