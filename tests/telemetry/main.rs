//! What those see who watch the service: the real binary, a collector that reads real OTLP, and the log as it is written.
//!
//! Shows: one trace runs from a scraper's message to the export, over a crash; what is exported, what `/metrics` shows and
//! what is documented are the same metrics; a collector that is away costs nothing; no name can forge a line of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::{Value, json};
use tipoff::domain::trace::TraceContext;
use tipoff::telemetry::metrics::FAMILIES;

const TOPICS: &str = "version: 1
defaults:
  topic: { retention: 7d }
  push: { ack_deadline: 600s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 7d }
  pull: { ack_deadline: 60s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 7d }
topics:
  dlq: { purpose: p, pipeline: nba, carries: dead-letter, subscriptions: { dlq-sub: { consumer: o, delivery: pull } } }
  nba-processor-heartbeats: { purpose: p, pipeline: nba, carries: heartbeat, subscriptions: { beats-sub: { consumer: tipoff, delivery: pull, dead_letter: dlq } } }
  done: { purpose: p, pipeline: nba, carries: completion, phase: predictions, subscriptions: { done-sub: { consumer: tipoff, delivery: pull, dead_letter: dlq } } }
  work: { purpose: p, pipeline: nba, carries: trigger, schema: grading-trigger, subscriptions: { work-sub: { consumer: w, delivery: pull, dead_letter: dlq } } }
  export: { purpose: p, pipeline: nba, carries: trigger, schema: grading-trigger, subscriptions: { export-sub: { consumer: e, delivery: pull, dead_letter: dlq } } }
";

const PIPELINE: &str = "version: 1
pipelines:
  nba:
    zone: America/New_York
    datasets: [nba_]
    limits: { ahead_max: 2d, behind_max: 400d, observe_every: 15m, dispatches_per_second: 10, dispatches_per_hour: 600 }
    defaults:
      heartbeat: { every: 60s, stale_after: 5m, dead_after: 15m }
      start_within: 30m
      duration_max: 1h
      coverage_min: 0.80
      retry: { attempts_max: 3, not_started_max: 2, dispatches_max: 24, backoff: 5m, backoff_max: 30m }
      rebuild_after: 2m
    cycles:
      - { name: all, from: { day: 0, at: \"00:00\" }, until: { day: 7, at: \"00:00\" } }
    nodes:
      odds: { kind: source, phase: raw, cycle: all }
      box: { kind: source, phase: raw, cycle: all }
      predict: { kind: task, phase: predictions, cycle: all, needs: { odds: { strength: hard }, box: { strength: hard } }, messages: [{ topic: work, body: { target_date: \"{{ date }}\", correlation_id: \"{{ correlation_id }}\", trigger_source: t } }] }
      publish: { kind: task, phase: export, cycle: all, needs: { predict: { strength: hard } }, messages: [{ topic: export, body: { target_date: \"{{ date }}\", correlation_id: \"{{ correlation_id }}\", trigger_source: t } }] }
";

/// A span as it came in.
#[derive(Clone, Debug)]
struct Seen {
    name: String,
    trace: String,
    span: String,
    parent: String,
    links: Vec<String>,
    attributes: BTreeMap<String, String>,
}

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Seen>>>,
    metrics: Arc<Mutex<BTreeSet<String>>>,
    about: Arc<Mutex<BTreeMap<String, String>>>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pairs(of: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> BTreeMap<String, String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    let text = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| match pair.value.clone()?.value? {
        StringValue(text) => Some((pair.key.clone(), text)),
        _ => None,
    };
    of.iter().filter_map(text).collect()
}

async fn collect(State(collector): State<Collector>, uri: Uri, body: Bytes) -> StatusCode {
    match uri.path() {
        "/v1/traces" => {
            let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
            for of_resource in request.resource_spans {
                collector.about.lock().unwrap().extend(pairs(&of_resource.resource.unwrap().attributes));
                for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    collector.spans.lock().unwrap().push(Seen {
                        trace: hex(&span.trace_id),
                        span: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                        attributes: pairs(&span.attributes),
                        name: span.name,
                    });
                }
            }
        }
        "/v1/metrics" => {
            let Ok(request) = ExportMetricsServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
            let scopes = request.resource_metrics.into_iter().flat_map(|of_resource| of_resource.scope_metrics);
            let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
            collector.metrics.lock().unwrap().extend(names);
        }
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::OK
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(post(collect)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (collector, url)
    }
}

/// The real binary on a pipeline of four nodes.
struct Service {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(folder: &Path, settings: &str, extra: &[&str]) -> Self {
        std::fs::write(folder.join("topics.yaml"), TOPICS).unwrap();
        std::fs::write(folder.join("pipeline.yaml"), PIPELINE).unwrap();
        std::fs::write(folder.join("tipoff.yaml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data"]).args(extra).current_dir(folder);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(folder.join("log")).unwrap();
        // Among lines that a machine reads it is one of them.
        let said = serde_json::from_str(&line).map_or(line, |said: Value| {
            assert_eq!(said["severity"], "INFO");
            said["message"].as_str().unwrap().to_owned()
        });
        let url = said.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{said}{}", log())).to_owned();
        Self { child, url, client: reqwest::Client::new() }
    }

    /// SIGTERM; how long it took to end.
    fn end(mut self) -> Duration {
        let began = Instant::now();
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        began.elapsed()
    }

    async fn publish(&self, body: &Value, attributes: Value, header: Option<&str>) {
        let message = json!({ "data": STANDARD.encode(body.to_string()), "attributes": attributes });
        let mut call = self.client.post(format!("{}/v1/projects/p/topics/done:publish", self.url));
        if let Some(header) = header {
            call = call.header("traceparent", header);
        }
        let answer = call.body(json!({ "messages": [message] }).to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// The attributes of the next message of a subscription.
    async fn pull(&self, subscription: &str) -> BTreeMap<String, String> {
        for _ in 0..600 {
            let url = format!("{}/v1/projects/p/subscriptions/{subscription}:pull", self.url);
            let answer = self.client.post(url).body(r#"{"maxMessages":1}"#).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            if let Some(attributes) = answer.pointer("/receivedMessages/0/message/attributes") {
                return serde_json::from_value(attributes.clone()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing came to {subscription}");
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn today() -> jiff::civil::Date {
    jiff::tz::TimeZone::get("America/New_York").unwrap().to_datetime(tipoff::clock::Clock::System.now()).date()
}

fn done(node: &str) -> Value {
    json!({ "processor_name": node, "execution_id": format!("{node}-1"), "game_date": today().to_string(),
        "status": "success", "record_count": 81 })
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came: {what}");
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER: &str = "11111111111111111111111111111111";

fn parent(trace: &str, span: &str) -> String {
    format!("00-{trace}-{span}-01")
}

fn documented() -> BTreeSet<String> {
    FAMILIES.iter().map(|family| family.name.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_runs_from_the_scraper_to_the_export_and_every_metric_arrives() {
    let (collector, url) = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "telemetry: {{ endpoint: '{url}', metrics_every: 1s }}\n\
         alerts: {{ channels: {{ ops: {{ kind: webhook, url: 'http://127.0.0.1:9/' }} }} }}\n"
    );
    let service = Service::start(folder.path(), &settings, &["--log", "info"]);

    // Two scrapers, each in a trace of its own; the second completes the input, and a bad context is none.
    service.publish(&done("odds"), json!({ "traceparent": parent(OTHER, "aaaaaaaaaaaaaaaa") }), None).await;
    let both = json!({ "googclient_traceparent": parent(TRACE, "bbbbbbbbbbbbbbbb"), "traceparent": "nonsense" });
    service.publish(&done("box"), both, None).await;
    let work = service.pull("work-sub").await;
    assert_eq!(work["traceparent"], work["googclient_traceparent"]);
    let asked: TraceContext = work["traceparent"].parse().unwrap();
    assert_eq!(hex(&asked.trace), TRACE, "the newest input's trace goes on");

    // The consumer answers in that trace, once by Google's attribute, and once by the header of its call.
    let answered = json!({ "googclient_traceparent": parent(TRACE, "cccccccccccccccc") });
    service.publish(&done("predict"), answered, None).await;
    let export = service.pull("export-sub").await;
    let exported: TraceContext = export["traceparent"].parse().unwrap();
    assert_eq!(hex(&exported.trace), TRACE);
    service.publish(&done("publish"), json!({}), Some(&parent(TRACE, "dddddddddddddddd"))).await;

    let (code, text) = service.get("/metrics").await;
    assert_eq!(code, 200);
    let shown: BTreeSet<String> =
        text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect();
    assert_eq!(shown, documented());
    let label = |line: &str| line.contains("node=\"predict\"") && line.contains("outcome=\"sent\"");
    let sent = text.lines().find(|line| line.starts_with("tipoff_dispatches_total{") && label(line)).unwrap();
    assert!(sent.ends_with(" 1"), "{sent}");
    until("every metric", || *collector.metrics.lock().unwrap() == documented()).await;
    assert!(service.end() < Duration::from_secs(10));
    assert_eq!(*collector.metrics.lock().unwrap(), documented());

    let spans = collector.spans.lock().unwrap().clone();
    let ours: Vec<&Seen> = spans.iter().filter(|span| span.trace == TRACE).collect();
    let strangers = ["bbbbbbbbbbbbbbbb", "cccccccccccccccc", "dddddddddddddddd"];
    let known: BTreeSet<&str> = ours.iter().map(|span| span.span.as_str()).chain(strangers).collect();
    for span in &ours {
        assert!(known.contains(span.parent.as_str()), "{span:?} hangs in the air: {ours:#?}");
    }
    let under = |name: &str, parent: &str| -> Vec<&Seen> {
        ours.iter().copied().filter(|span| span.name == name && span.parent == parent).collect()
    };
    let only = |found: Vec<&Seen>| -> Seen {
        assert_eq!(found.len(), 1, "{found:?} of {ours:#?}");
        found[0].clone()
    };
    let received = only(under("receive", strangers[0]));
    assert_eq!(received.attributes["messaging.destination.name"], "done");
    let decided = only(under("decide", &received.span));
    assert_eq!(decided.attributes["tipoff.partition"], format!("nba/{}", today()));
    let dispatched = only(under("dispatch", &received.span));
    assert_eq!(dispatched.span, hex(&asked.span), "the span that was sent is the span that is shown");
    assert_eq!(dispatched.attributes["tipoff.node"], "predict");
    let other = spans.iter().find(|span| span.trace == OTHER && span.name == "receive").unwrap();
    assert_eq!(other.parent, "aaaaaaaaaaaaaaaa");
    assert_eq!(dispatched.links, std::slice::from_ref(&other.span), "the other input is linked");
    let answer = only(under("receive", strangers[1]));
    assert_eq!(only(under("dispatch", &answer.span)).span, hex(&exported.span));
    only(under("receive", strangers[2]));

    let about = collector.about.lock().unwrap().clone();
    assert_eq!(about["service.name"], "tipoff");
    assert!(about.contains_key("tipoff.configuration"), "{about:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_stays_in_its_trace_over_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), "", &["--log", "error"]);
    // Telemetry is off; who watches elsewhere sees one trace all the same.
    service.publish(&done("odds"), json!({ "traceparent": parent(OTHER, "aaaaaaaaaaaaaaaa") }), None).await;
    service.publish(&done("box"), json!({ "traceparent": parent(TRACE, "bbbbbbbbbbbbbbbb") }), None).await;
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    let service = Service::start(folder.path(), "", &["--log", "error"]);
    let work = service.pull("work-sub").await;
    assert!(work["traceparent"].starts_with(&format!("00-{TRACE}-")), "{work:?}");
    // Who is not to be sampled stays so.
    let unsampled = format!("00-{OTHER}-cccccccccccccccc-00");
    service.publish(&done("predict"), json!({ "traceparent": unsampled }), None).await;
    let export = service.pull("export-sub").await;
    assert!(export["traceparent"].starts_with(&format!("00-{OTHER}-")), "{export:?}");
    assert!(export["traceparent"].ends_with("-00"), "{export:?}");
}

/// Jobs that have no code of their own, and those in Python, go on with the trace of what asked for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_with_the_trace_of_its_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "", &["--log", "error"]);
    service.publish(&done("odds"), json!({}), None).await;
    service.publish(&done("box"), json!({ "traceparent": parent(TRACE, "bbbbbbbbbbbbbbbb") }), None).await;
    let work = service.pull("work-sub").await;
    let mut job = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    job.args(["run", "--node", "predict", "--server", &service.url, "--", "true"]).current_dir(folder.path());
    let ended = job.env("TRACEPARENT", &work["traceparent"]).stderr(Stdio::null()).status().unwrap();
    assert!(ended.success(), "{ended}");
    let export = service.pull("export-sub").await;
    assert!(export["traceparent"].starts_with(&format!("00-{TRACE}-")), "{export:?}");

    let script = format!(
        "import sys; sys.path.insert(0, {:?})\nfrom tipoff_client import Client\nclient = Client.http({:?})\n\
         with client.run('publish', date='{}', completions='done', traceparent={:?}): pass\n",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python"),
        service.url,
        today(),
        parent(OTHER, "cccccccccccccccc"),
    );
    let python = Command::new("python3").args(["-c", &script]).stderr(Stdio::inherit()).status();
    assert!(python.expect("python3 is installed").success());
    let database = rusqlite::Connection::open(folder.path().join("data/tipoff.db")).unwrap();
    let told = format!("%00-{OTHER}-%");
    let count: i64 =
        database.query_row("SELECT COUNT(*) FROM journal WHERE entry LIKE ?1", [told], |row| row.get(0)).unwrap();
    assert!(count > 0, "the completion of Python's run is in its trace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_holds_up_nothing() {
    // It takes connections and never answers.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!("telemetry: {{ endpoint: 'http://{}', metrics_every: 1s }}\n", hole.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &settings, &["--log", "error"]);
    for round in 0..50 {
        let mut body = done("odds");
        body["execution_id"] = json!(format!("odds-{round}"));
        service.publish(&body, json!({ "traceparent": parent(TRACE, "aaaaaaaaaaaaaaaa") }), None).await;
    }
    service.publish(&done("box"), json!({ "traceparent": parent(TRACE, "bbbbbbbbbbbbbbbb") }), None).await;
    service.pull("work-sub").await;
    assert_eq!(service.get("/healthz").await, (200, "ok\n".to_owned()));
    let took = service.end();
    assert!(took < Duration::from_secs(6), "it took {took:?} to end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_forges_a_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "", &["--log", "debug", "--log-format", "gcp"]);
    let hostile = "x\n{\"severity\":\"CRITICAL\",\"message\":\"all is lost\"}\u{2028}\u{1b}[2J\u{202e}";
    for field in ["processor_name", "status", "game_date", "execution_id", "error_message", "output_table"] {
        let mut body = done("odds");
        body[field] = json!(hostile);
        body["secret"] = json!("planted-in-the-payload");
        service.publish(&body, json!({ "traceparent": hostile, hostile: hostile }), None).await;
    }
    let path = format!("/v1/{}", "%0a%7b%22severity%22%3a%22CRITICAL%22%7d");
    assert_eq!(service.get(&path).await.0, 404);
    service.publish(&done("box"), json!({ "traceparent": parent(TRACE, "bbbbbbbbbbbbbbbb") }), None).await;
    service.publish(&done("odds"), json!({}), None).await;
    service.pull("work-sub").await;
    service.end();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let mut dispatched = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let severity = line["severity"].as_str().unwrap();
        assert!(["DEBUG", "INFO", "WARNING", "ERROR"].contains(&severity), "{line}");
        let letters = line.to_string();
        assert!(!letters.contains(['\u{2028}', '\u{202e}', '\u{1b}']) && !letters.contains("\\n"), "{line}");
        if line["message"] == "dispatched" {
            dispatched += 1;
            assert_eq!(line["logging.googleapis.com/labels"]["node"], "predict", "{line}");
            assert!(line["logging.googleapis.com/trace"].is_string(), "{line}");
        }
        assert!(!letters.contains("planted-in-the-payload"), "a payload is no matter for the log: {line}");
    }
    assert_eq!(dispatched, 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_say_a_word_to_anybody_and_names_to_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "a-token-of-sixteen-letters").unwrap();
    let service = Service::start(folder.path(), "", &["--log", "error", "--token-file", "token"]);
    let mut started = service.get("/startupz").await;
    for _ in 0..600 {
        if started.0 == 200 {
            break;
        }
        assert_eq!(started, (503, "starting\n".to_owned()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        started = service.get("/startupz").await;
    }
    assert_eq!(started, (200, "started\n".to_owned()));
    assert_eq!(service.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(service.get("/readyz").await, (200, "{\"ready\":true}".to_owned()));
    assert_eq!(service.get("/metrics").await.0, 401, "metrics name topics and nodes");
    let known = service.client.get(format!("{}/readyz", service.url)).bearer_auth("a-token-of-sixteen-letters");
    let said: Value = known.send().await.unwrap().json().await.unwrap();
    assert_eq!(said["reason"], "ready");
    assert!(said["configuration"].is_string(), "{said}");
}

/// Whoever watches a rate sees it come from 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_series_that_the_declarations_tell_of_is_there_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "alerts: { channels: { hook: { kind: webhook, url: 'http://127.0.0.1:9/' } } }\n";
    let service = Service::start(folder.path(), settings, &["--log", "error"]);
    let has = |text: &str, name: &str| {
        text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)))
    };
    let mut text = String::new();
    for _ in 0..600 {
        text = service.get("/metrics").await.1;
        if has(&text, "tipoff_measured_time_seconds") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Requests are by route and status, of which only those are told that were made.
    let known = FAMILIES.iter().filter(|family| !family.labels.contains(&"route"));
    let missing: Vec<&str> = known.map(|family| family.name).filter(|name| !has(&text, name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_finds_the_same_files_is_said_to_have_found_them() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "", &["--log", "info", "--log-format", "json"]);
    assert!(Command::new("kill").arg("-HUP").arg(service.child.id().to_string()).status().unwrap().success());
    let mut log = String::new();
    for _ in 0..600 {
        log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        if log.contains("SIGHUP") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let line = log.lines().find(|line| line.contains("SIGHUP")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("and say the same") && !line.contains("have changed"), "{line}");
    service.end();
}

#[test]
fn the_list_for_people_is_the_list_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let rows: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| `tipoff_")).collect();
    let wanted: Vec<String> = FAMILIES
        .iter()
        .map(|family| {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = family.kind.as_str();
            format!("| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help)
        })
        .collect();
    assert_eq!(rows, wanted.iter().map(String::as_str).collect());
}

#[test]
fn the_dashboard_asks_for_nothing_that_is_not_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("deploy/grafana/tipoff.json")).unwrap();
    let board: Value = serde_json::from_str(&text).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{} asks nothing", panel["title"]));
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let words = expression.split(|letter| !is_part(letter)).filter(|word| word.starts_with("tipoff_"));
            asked.extend(words.map(str::to_owned));
        }
    }
    for name in &asked {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(documented().contains(base), "the dashboard asks for {name}");
    }
    assert!(asked.len() > 20, "{asked:?}");
}
