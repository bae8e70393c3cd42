//! `tipoff load`: it measures, is careful where it sends, and says what was not taken.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::running::Running;

fn load(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(["load", "--server", url]).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_accepted_and_measured() {
    let service = Running::serve(&[]);
    let done =
        load(&service.url, &["--events", "101", "--batch", "10", "--date", "yesterday", "--dates", "2", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["accepted"], 101);
    assert_eq!(told["acknowledged_ms"]["count"], 11);
    assert!(told["acknowledged_ms"]["max"].as_f64() >= told["acknowledged_ms"]["p50"].as_f64());
    assert!(told["accepted_per_second"].as_f64().unwrap() > 0.0);
    // Heartbeats and completions, each of a run of its own, are in the journal, and nothing was parked.
    let ends = service.journal().iter().map(|entry| entry.matches("\"event\":\"completed\"").count()).sum::<usize>();
    assert_eq!(ends, 50);
    let database = rusqlite::Connection::open(service.data.join("tipoff.db")).unwrap();
    assert_eq!(database.query_row("SELECT count(*) FROM parked", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn a_load_goes_to_this_machine_unless_it_is_said_twice() {
    let refused = load("http://192.0.2.1:1", &["--events", "1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"), "{refused:?}");
    // Nobody is there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unheard = load(&format!("http://{nobody}"), &["--events", "1", "--seconds", "1", "--json"]);
    assert_eq!(unheard.status.code(), Some(3), "{unheard:?}");
    let told: Value = serde_json::from_slice(&unheard.stdout).unwrap();
    assert_eq!((&told["accepted"], &told["calls_given_up"]), (&0.into(), &1.into()));
    let began = std::time::Instant::now();
    let unheard = load(&format!("http://{nobody}"), &["--json"]);
    assert_eq!(unheard.status.code(), Some(3), "{unheard:?}");
    assert!(began.elapsed().as_secs() < 20, "ten thousand calls were not each waited for: {:?}", began.elapsed());
}

/// What will never be taken is said at once, and not asked for again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_may_not_is_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (token, config) = (folder.path().join("token"), folder.path().join("tipoff.yaml"));
    std::fs::write(&token, "producer-0123456789abcdef0123456789abcdef\n").unwrap();
    let access = json!({ "tokens": { "producer": { "role": "producer", "file": token } } });
    std::fs::write(&config, json!({ "access": access }).to_string()).unwrap();
    let service = Running::serve(&["--config", config.to_str().unwrap()]);
    let refused = load(&service.url, &["--json"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(told["calls_refused"].as_u64().is_some_and(|calls| calls <= 8), "one for each caller: {told}");
    assert!(told["last_refusal"].as_str().is_some_and(|why| why.starts_with("401")), "{told}");
    for (arguments, code, words) in [
        (["--date", "2020-01-01"], 2, "parks what is for other dates"),
        (["--date", "2062-01-01"], 2, "parks what is for other dates"),
        (["--seconds", "18446744073709551615"], 2, "--seconds"),
    ] {
        let wrong = load(&service.url, &arguments);
        assert_eq!(wrong.status.code(), Some(code), "{wrong:?}");
        assert!(String::from_utf8_lossy(&wrong.stderr).contains(words), "{wrong:?}");
    }
}
