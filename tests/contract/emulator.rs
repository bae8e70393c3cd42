//! Google's emulators, started by the tests on free ports and stopped after.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A running emulator; it ends with this.
pub struct Emulator {
    process: Child,
    /// Where it listens.
    pub address: String,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has ended already, or it ends now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the Google Cloud SDK is, if it is anywhere.
fn sdk() -> Option<PathBuf> {
    let output = Command::new("gcloud").args(["info", "--format=value(installation.sdk_root)"]).output().ok()?;
    let root = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    root.join("platform").is_dir().then_some(root)
}

/// Starts the Firestore emulator. Where it is not installed, says so and gives nothing; in CI that is a failure.
pub fn firestore() -> Option<Emulator> {
    let jar = sdk().map(|root| root.join("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"));
    let Some(jar) = jar.filter(|jar| jar.is_file()) else {
        let missing = "the Firestore emulator is not installed (gcloud components install cloud-firestore-emulator)";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("NOT TESTED: {missing}");
        return None;
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("java");
    command.args(["-Duser.language=en", "-cp"]).arg(jar);
    command.args(["com.google.cloud.datastore.emulator.firestore.CloudFirestore", "--host=127.0.0.1"]);
    command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let process = command.spawn().expect("java runs");
    let emulator = Emulator { process, address: format!("127.0.0.1:{port}") };
    let patience = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(&emulator.address).is_err() {
        assert!(Instant::now() < patience, "the Firestore emulator did not start within a minute");
        sleep(Duration::from_millis(100));
    }
    Some(emulator)
}
