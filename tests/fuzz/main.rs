//! Whatever comes, nothing breaks: every decoder, and the service's own HTTP, on altered inputs.
//!
//! `corpus/` has what each is altered from, and what once broke it; all of that is tried first, as it is. Then inputs are
//! altered at random for `TIPOFF_FUZZ_SECONDS` a target, one second where it is not set: a run of an hour is
//! `TIPOFF_FUZZ_SECONDS=3600 cargo test --test fuzz`. What breaks a target is left under `target/fuzz/`, to be kept in
//! `corpus/` once it is mended. `TIPOFF_FUZZ_SEED` alters in the same way again.

mod alter;
#[path = "../support/running.rs"]
mod running;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use jiff::civil::date;
use tipoff::configuration::Configuration;
use tipoff::domain::id::RunId;
use tipoff::http::caller::Callers;
use tipoff::pipeline::{self, Declarations, PIPELINE, TOPICS};
use tipoff::port::Row;
use tipoff::replay::capsule::Capsule;
use tipoff::scenario::file::Scenario;
use tipoff::wire::inbound::{Decoded, Delivery, Reason, Routes, decode};
use tipoff::wire::{envelope, kept, letter, report};

use alter::Alter;
use running::Running;

/// No input of this size takes longer, on the slowest machine and built without optimisation.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of an input.
const INPUT_MAX: usize = 256 * 1024;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What is altered: the files of a folder, unpacked.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = root().join("tests/fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let mut bytes = std::fs::read(path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let packed = std::mem::take(&mut bytes);
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        }
        bytes
    };
    files.iter().map(read).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Tries a target on its corpus, and on what is altered from it.
fn fuzz(target: &str, corpus: &[Vec<u8>], mut tried: impl FnMut(&[u8])) {
    assert!(!corpus.is_empty(), "{target}: there is nothing to alter");
    let seed = number("TIPOFF_FUZZ_SEED").unwrap_or(u64::from(std::process::id()) ^ 0x7169_6f66);
    let span = Duration::from_secs(number("TIPOFF_FUZZ_SECONDS").unwrap_or(1));
    let mut alter = Alter::new(seed);
    let mut one = |input: &[u8]| {
        let begin = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| tried(input)));
        if held.is_err() || begin.elapsed() > WITHIN {
            let folder = root().join("target/fuzz");
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join(format!("{target}-{}", &letter::digest(input)));
            std::fs::write(&file, input).unwrap();
            let how = if held.is_err() { "breaks" } else { "takes too long" };
            panic!("{target} {how} on {} (seed {seed})", file.display());
        }
    };
    for input in corpus {
        one(input);
    }
    let (end, mut count) = (Instant::now() + span, 0_u64);
    while Instant::now() < end {
        one(&alter.one_of(corpus, INPUT_MAX));
        count += 1;
    }
    assert!(count > 0, "{target}: nothing was tried");
    println!("{target}: {count} inputs, seed {seed}");
}

fn shipped() -> &'static Declarations {
    static SHIPPED: OnceLock<Declarations> = OnceLock::new();
    SHIPPED.get_or_init(|| pipeline::shipped().unwrap())
}

fn routes() -> Routes<'static> {
    let pipelines = &shipped().pipelines;
    Routes {
        graphs: pipelines.values().map(|pipeline| &*pipeline.graph).collect(),
        topology: &shipped().topology,
        naming: pipelines.iter().map(|(id, pipeline)| (id, &pipeline.naming)).collect(),
    }
}

fn now() -> Timestamp {
    "2026-01-23T15:00:00Z".parse().unwrap()
}

fn delivery(topic: &str, attributes: BTreeMap<String, String>, data: &[u8]) -> Delivery {
    Delivery { topic: topic.to_owned(), message_id: "1".to_owned(), published: now(), attributes, data: data.to_vec() }
}

/// Completions in all their dialects, heartbeats, and the names in them: on every topic there is.
#[test]
fn messages() {
    let (routes, topics) =
        (routes(), shipped().topology.topics().map(|(name, _)| name.to_string()).collect::<Vec<_>>());
    let mut at = 0;
    let mut applied = 0;
    fuzz("message", &corpus("message"), |data| {
        at += 1;
        for topic in [&topics[at % topics.len()], "nba-phase2-raw-complete", "nba-processor-heartbeats", "nix"] {
            match decode(&routes, &delivery(topic, BTreeMap::new(), data)) {
                Decoded::Events { events, .. } => {
                    assert!(!events.is_empty(), "an applied message says nothing");
                    applied += 1;
                }
                // A reason is told to people; that it panicked is none.
                Decoded::Parked { reason } => {
                    assert_ne!(reason, Reason::Fault);
                    assert!(!reason.to_string().is_empty() && !reason.slug().is_empty());
                }
                Decoded::Probe | Decoded::Ignored { .. } => {}
            }
        }
    });
    assert!(applied > 0, "no message was ever understood: the corpus is of no use");
}

/// Dead letters: what they are about, and what a replay of them would send.
#[test]
fn letters() {
    let routes = routes();
    fuzz("letter", &corpus("message"), |data| {
        let text = String::from_utf8_lossy(data);
        let attributes = [
            ("CloudPubSubDeadLetterSourceSubscription", "nba-phase3-analytics-complete-sub".to_owned()),
            ("CloudPubSubDeadLetterSourceTopicPublishTime", text.chars().take(40).collect()),
            ("CloudPubSubDeadLetterSourceDeliveryErrorMessage", text.into_owned()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).into();
        let (kept, content) = letter::dead(&routes, &delivery("nba-phase3-analytics-complete-dlq", attributes, data));
        assert!(!kept.id.as_str().is_empty());
        let topic = Some("nba-phase3-analytics-complete");
        let message = letter::Message { topic, message_id: "1", published: now(), content: &content };
        let _ = message.about(&routes);
        assert_ne!(message.unreadable(&routes), Some(Reason::Fault));
        if let Ok(sent) = letter::replay(routes.topology, topic, &content, &RunId::from("replay-1")) {
            serde_json::from_slice::<Row>(&sent.body).expect("a replay is an object");
        }
    });
}

#[test]
fn envelopes() {
    fuzz("push", &corpus("push"), |bytes| {
        if let Ok(pushed) = envelope::unwrap_push(bytes) {
            let again = envelope::wrap_push(&pushed.subscription, &pushed.message, Some(1));
            let read = envelope::unwrap_push(&again).expect("our own envelope");
            assert_eq!(read.message.data, pushed.message.data);
        }
    });
    fuzz("publish", &corpus("publish"), |bytes| drop(envelope::unwrap_publish(bytes)));
}

#[test]
fn reports() {
    use report::Kind;
    fuzz("report", &corpus("report"), |bytes| {
        let Ok(rows) = serde_json::from_slice::<Vec<Row>>(bytes) else { return };
        for kind in [Kind::Schedule, Kind::GameCoverage, Kind::RosterAges] {
            let _ = report::check(kind, date(2026, 1, 24), &rows);
            if let Ok(dates) = report::by_date(kind, rows.clone(), Some(date(2026, 1, 24))) {
                assert!(dates.values().all(|rows| !rows.is_empty()));
            }
        }
    });
}

/// What people write. An error names the file, and a line that it has.
#[test]
fn declarations() {
    let problems = |said: &str, file: &str| assert!(said.contains(file), "{said}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fuzz("topics", &[corpus("topics"), vec![TOPICS.into()]].concat(), |bytes| {
        if let Err(error) = tipoff::topology::check(&text(bytes), "t.yaml") {
            problems(&error.to_string(), "t.yaml");
        }
    });
    fuzz("pipeline", &[PIPELINE.as_bytes().to_vec()], |bytes| {
        if let Err(error) = pipeline::load(("t.yaml", TOPICS), ("p.yaml", &text(bytes))) {
            problems(&error.to_string(), "p.yaml");
        }
    });
    fuzz("configuration", &corpus("configuration"), |bytes| match Configuration::read("c.yaml", &text(bytes)) {
        Ok(read) => drop((read.shown(), tipoff::adapter::channel::declared(&read.alerts).is_ok())),
        Err(error) => problems(&error.to_string(), "c.yaml"),
    });
    fuzz("scenario", &corpus("scenario"), |bytes| {
        if let Err(error) = Scenario::read("s.yaml", &text(bytes)) {
            problems(&error.to_string(), "s.yaml");
        }
    });
}

#[test]
fn capsules() {
    let kept = corpus("capsule");
    assert!(kept.iter().any(|bytes| Capsule::read(bytes.as_slice()).is_ok()), "no capsule of the corpus can be read");
    fuzz("capsule", &kept, |bytes| drop(Capsule::read(bytes)));
}

#[test]
fn questions() {
    fuzz("question", &corpus("question"), |bytes| drop(serde_json::from_slice::<kept::Question>(bytes)));
}

/// Who says who they are, in whatever way; nobody becomes anybody by it.
#[test]
fn credentials() {
    let known = "operator-0123456789abcdef0123456789abcdef";
    let yaml = format!(
        "access: {{ tokens: {{ deploy: {{ role: operator, sha256: '{}' }} }}, google: {{ audience: https://tipoff.example, roles: {{ a@b: admin }}, keys: 'http://127.0.0.1:1/' }} }}",
        tipoff::http::caller::digest(known)
    );
    let callers = Callers::of(&Configuration::read("c.yaml", &yaml).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    fuzz("authorization", &corpus("authorization"), |bytes| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.clone())]);
        headers.insert("x-goog-iap-jwt-assertion", value);
        if let Ok(caller) = runtime.block_on(callers.caller(&headers)) {
            let said = String::from_utf8_lossy(bytes);
            // A scheme is written in any case, and followed by one space or more; what follows is the token, or a name and it.
            let (scheme, given) = said.split_once(' ').unwrap_or_default();
            let is_token = scheme.eq_ignore_ascii_case("Bearer") && given.trim_start_matches(' ') == known;
            let is_typed = scheme.eq_ignore_ascii_case("Basic");
            assert!(*caller.name == *"deploy" && (is_token || is_typed), "{said}");
        }
    });
}

/// Bytes as they come over a connection, to the real binary: it answers, or closes, and goes on.
#[test]
fn http() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    let address = service.url.strip_prefix("http://").unwrap().to_owned();
    let said = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&address).expect("it takes no connections any more");
        // Half a request is waited for, and we wait for no answer to it.
        stream.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
        let _ = stream.write_all(bytes);
        let (mut answer, mut chunk) = (Vec::new(), [0; 8192]);
        while let Ok(read) = stream.read(&mut chunk) {
            answer.extend_from_slice(&chunk[..read]);
            if read == 0 || answer.windows(4).any(|part| part == b"\r\n\r\n") {
                break;
            }
        }
        answer
    };
    let mut answered = 0;
    fuzz("http", &corpus("http"), |bytes| {
        let answer = said(bytes);
        answered += usize::from(!answer.is_empty());
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        assert!(line.is_empty() || line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 "), "{line}");
        // It is at fault in nothing that it is sent.
        assert!(!line.contains(" 500 ") && !line.contains(" 501 "), "{line}");
    });
    assert!(answered > 20, "it hardly ever answers");
    let begin = Instant::now();
    while !said(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").starts_with(b"HTTP/1.1 200") {
        assert!(begin.elapsed() < 4 * WITHIN, "it is not well any more");
    }
}
