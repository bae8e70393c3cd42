//! `tipoff load`: completions and heartbeats of a declared pipeline over the calls that producers use, and how long each takes
//! to be acknowledged. What it sends is believed, so it is careful where it does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hdrhistogram::Histogram;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::say::say;
use super::{Common, Fault, Verdict, dates, graph};
use crate::adapter::call;
use crate::clock::Clock;
use crate::domain::event::Pulse;
use crate::domain::graph::Kind;
use crate::domain::id::{NodeId, PipelineId};
use crate::pipeline::Declarations;
use crate::topology::Carries;
use crate::wire::producer::{Ending, Producer};

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);
/// The wait after a call that was refused; a service says ten seconds, which hide when it would have taken it.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a service may refuse one call, or not answer, before it is given up.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How long a service may take nothing at all from the start before the whole load is given up.
const NOTHING_WITHIN: Duration = Duration::from_secs(10);
/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 3_600_000_000;
/// After the last acknowledgement, how long triggers are waited for.
const TRIGGERS_WITHIN: Duration = Duration::from_secs(2);

/// `tipoff load --server URL`
#[derive(Args)]
#[command(
    after_help = "Sends to --server, as whom --token-file says. What it sends is believed: dates fill with runs that never were, \
    and what they make ready is dispatched. Use a deployment, or at least a pipeline, of its own; a service that is not on this \
    machine is refused without --yes.\nA refusal that another try does not mend ends it, and so do ten seconds in which nothing is taken from the start.\n\
    Exits with 1 where not everything was accepted, and with 3 where nothing was."
)]
pub struct Load {
    /// Messages in all
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// End after so many seconds, though not all was sent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    seconds: Option<u64>,
    /// Messages a second; each call is timed from when it was due [default: as fast as calls are answered]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Calls at once
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    concurrency: u64,
    /// Messages a call
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Heartbeats before each completion
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(..=100))]
    heartbeats: u64,
    /// So many dates
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=10_000))]
    dates: i64,
    /// The last of them [default: the earliest dates that the pipeline takes]
    #[arg(long, value_name = "DATE")]
    date: Option<String>,
    /// Listen here as a target of the service's --push, and measure how long triggers take from the last message of their date
    #[arg(long, value_name = "ADDRESS")]
    consumer: Option<SocketAddr>,
    /// Send though the service is not on this machine
    #[arg(long)]
    yes: bool,
}

/// What is sent, call by call: the same for the same index.
struct Plan {
    nodes: Vec<(NodeId, String, String)>,
    heartbeats_on: String,
    heartbeats: u64,
    dates: Vec<Date>,
    batch: u64,
    events: u64,
    /// Tells this load's runs from another's.
    name: String,
    began: Timestamp,
}

impl Plan {
    fn calls(&self) -> u64 {
        self.events.div_ceil(self.batch)
    }

    /// Topic, messages and dates of a call: one node's heartbeats or completions, each of a run of its own.
    fn call(&self, index: u64) -> (&str, Vec<Value>, Vec<Date>) {
        let (turn, step) = (index / (self.heartbeats + 1), index % (self.heartbeats + 1));
        let (node, phase, topic) = &self.nodes[at(turn, self.nodes.len())];
        let count = self.batch.min(self.events - index * self.batch);
        let dates: Vec<Date> =
            (0..count).map(|place| self.dates[at(turn * self.batch + place, self.dates.len())]).collect();
        let message = |(place, date): (usize, &Date)| {
            let run = format!("load-{}-{turn}-{place}", self.name);
            let producer = Producer {
                node: node.clone(),
                phase: phase.clone(),
                date: *date,
                correlation: run.clone(),
                run,
                dispatch: None,
                started_at: self.began,
            };
            let now = Clock::System.now();
            if step < self.heartbeats {
                producer.heartbeat(Pulse::Running, (step, self.heartbeats), now)
            } else {
                producer.completion(&Ending::Done, Some(200), now)
            }
        };
        let messages = dates.iter().enumerate().map(message).collect();
        (if step < self.heartbeats { &self.heartbeats_on } else { topic }, messages, dates)
    }
}

/// The place of an index in a list that is gone through again and again.
fn at(index: u64, length: usize) -> usize {
    usize::try_from(index % length.max(1) as u64).unwrap_or_default()
}

/// What has been seen.
struct Seen {
    next: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    given_up: AtomicU64,
    /// Whether the service has said that it will never take this.
    never: AtomicBool,
    /// Why a call was not taken, the last time.
    why: Mutex<Option<String>>,
    acknowledged: Mutex<Histogram<u64>>,
    /// When the last message of a date was sent.
    sent: Mutex<BTreeMap<String, Instant>>,
    triggered: Mutex<Histogram<u64>>,
}

impl Seen {
    fn new() -> Result<Self, Fault> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3).map_err(Fault::unusable);
        Ok(Self {
            next: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            never: AtomicBool::new(false),
            why: Mutex::default(),
            acknowledged: Mutex::new(histogram()?),
            sent: Mutex::default(),
            triggered: Mutex::new(histogram()?),
        })
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(histogram: &Mutex<Histogram<u64>>, took: Duration) {
    lock(histogram).saturating_record(u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX));
}

/// The middle, the slowest of a hundred and the slowest, in milliseconds; nothing where nothing was seen.
fn told(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let [p50, p99, max] = [histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99), histogram.max()]
        .map(|us| us as f64 / 1e3);
    json!({ "count": histogram.len(), "p50": p50, "p99": p99, "max": max })
}

/// Where it goes, and as whom.
struct Road {
    client: Client,
    url: Url,
    token: Option<String>,
}

impl Load {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let usage = |why: String| Fault::usage(anyhow::anyhow!(why));
        let url = common.server()?.ok_or_else(|| usage("--server: say which service is to be sent to".to_owned()))?;
        if !call::is_loopback(&url) && !self.yes {
            return Err(usage(format!(
                "{url} is not on this machine, and believes what it is sent: --yes sends all the same"
            )));
        }
        let declarations = common.declarations()?;
        let plan = Arc::new(self.plan(common, &declarations)?);
        let configuration = common.configuration()?;
        let client = call::client().map_err(Fault::unusable)?;
        let token = common.token_for(&url, &configuration)?;
        let road = Arc::new(Road { client, url, token });
        let seen = Arc::new(Seen::new()?);
        if let Some(address) = self.consumer {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|error| usage(format!("--consumer {address}: {error}")))?;
            let routes = Router::new().fallback(post(trigger)).with_state(Arc::clone(&seen));
            tokio::spawn(async move { axum::serve(listener, routes).await });
        }
        if let (Some(first), Some(last)) = (plan.dates.first(), plan.dates.last()) {
            eprintln!("tipoff: {} events for {first} to {last} go to {}, which believes them", self.events, road.url);
        }
        let began = Instant::now();
        let end = self.seconds.map(|seconds| began + Duration::from_secs(seconds));
        let mut senders = JoinSet::new();
        for _ in 0..self.concurrency {
            senders.spawn(send(Arc::clone(&plan), Arc::clone(&road), Arc::clone(&seen), (began, self.rate, end)));
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                joined = senders.join_next() => if joined.is_none() { break },
                _ = ticks.tick() => {
                    if !common.json {
                        progress(&seen, began);
                    }
                    let told = |count: &AtomicU64| count.load(Ordering::Relaxed) > 0;
                    let in_vain = told(&seen.refused) || told(&seen.unanswered);
                    if in_vain && !told(&seen.accepted) && began.elapsed() >= NOTHING_WITHIN {
                        seen.given_up.fetch_add(1, Ordering::Relaxed);
                        senders.abort_all();
                    }
                }
                _ = tokio::signal::ctrl_c() => senders.abort_all(),
            }
        }
        let took = began.elapsed();
        if self.consumer.is_some() {
            tokio::time::sleep(TRIGGERS_WITHIN).await;
        }
        Ok(self.report(common, &seen, took))
    }

    fn plan(&self, common: &Common, declarations: &Declarations) -> Result<Plan, Fault> {
        let id = PipelineId::from(common.pipeline.as_str());
        let Some(declared) = declarations.pipelines.get(&id) else {
            return Err(graph::no_pipeline(declarations, &common.pipeline));
        };
        let topic = |carries: Carries, phase: Option<&str>| {
            let mut topics = declarations.topology.topics();
            let found = topics.find(|(_, topic)| {
                topic.pipeline == id.as_str()
                    && topic.carries == carries
                    && (phase.is_none() || topic.phase.as_deref() == phase)
            });
            found.map(|(name, _)| name.to_string())
        };
        let mut nodes = Vec::new();
        for (name, node) in &declared.graph.nodes {
            let phase = node.phase.to_string();
            if !matches!(node.kind, Kind::Gate(_))
                && let Some(topic) = topic(Carries::Completion, Some(&phase))
            {
                nodes.push((name.clone(), phase, topic));
            }
        }
        let none = |what: &str| Fault::usage(anyhow::anyhow!("topics.yaml has no topic of {id} that carries {what}"));
        if nodes.is_empty() {
            return Err(none("completions"));
        }
        let now = Clock::System.now();
        let today = declared.graph.date_at(now);
        let last = match &self.date {
            Some(word) => dates::resolve(word, &declared.graph, now)?,
            None => today.saturating_sub(declared.graph.limits.behind_max.days()).saturating_add(self.dates.days()),
        };
        let limits = &declared.graph.limits;
        let (earliest, latest) =
            (today.saturating_sub(limits.behind_max.days()), today.saturating_add(limits.ahead_max.days()));
        if last.saturating_sub((self.dates - 1).days()) < earliest || last > latest {
            return Err(Fault::usage(anyhow::anyhow!(
                "--date, --dates: {id} takes {earliest} to {latest}, and parks what is for other dates"
            )));
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        Ok(Plan {
            nodes,
            heartbeats_on: topic(Carries::Heartbeat, None).ok_or_else(|| none("heartbeats"))?,
            heartbeats: self.heartbeats,
            dates: (0..self.dates).rev().map(|back| last.saturating_sub(back.days())).collect(),
            batch: self.batch,
            events: self.events,
            name: name.chars().take(8).collect(),
            began: now,
        })
    }

    fn report(&self, common: &Common, seen: &Seen, took: Duration) -> Verdict {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let accepted = count(&seen.accepted);
        let rate = accepted as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
        let (acknowledged, triggered) = (told(&lock(&seen.acknowledged)), told(&lock(&seen.triggered)));
        let why = lock(&seen.why).clone();
        if common.json {
            say!(
                "{}",
                json!({ "events": self.events, "accepted": accepted, "accepted_per_second": rate,
                    "seconds": took.as_secs_f64(), "calls_refused": count(&seen.refused),
                    "calls_unanswered": count(&seen.unanswered), "calls_given_up": count(&seen.given_up),
                    "last_refusal": why, "acknowledged_ms": acknowledged, "triggered_ms": triggered })
            );
        } else {
            let line = |name: &str, of: &Value| {
                let value = |key: &str| of[key].as_f64().unwrap_or_default();
                if of.is_null() {
                    say!("{name:<14}        none");
                } else {
                    say!(
                        "{name:<14}{:>12} p50 {:>10.2} ms  p99 {:>10.2} ms  max {:>10.2} ms",
                        of["count"].as_u64().unwrap_or_default(),
                        value("p50"),
                        value("p99"),
                        value("max")
                    );
                }
            };
            say!("accepted      {accepted:>12} of {} in {:.2} s, {rate:.0} a second", self.events, took.as_secs_f64());
            say!("refused       {:>12} calls, sent again", count(&seen.refused));
            say!("unanswered    {:>12} calls, sent again", count(&seen.unanswered));
            line("acknowledged", &acknowledged);
            if let Some(address) = self.consumer {
                line("triggered", &triggered);
                if lock(&seen.triggered).is_empty() {
                    say!("no trigger came: is the service started with --push SUBSCRIPTION=http://{address}?");
                }
            }
            if let Some(why) = why {
                say!("last refusal  {}", crate::domain::words::harmless(&why));
            }
        }
        match accepted {
            0 => Verdict::Stale,
            some if some < self.events && self.seconds.is_none() => Verdict::Fails,
            _ if count(&seen.given_up) > 0 => Verdict::Fails,
            _ => Verdict::Holds,
        }
    }
}

/// Makes calls until there are none left, or it is time to end.
async fn send(
    plan: Arc<Plan>,
    road: Arc<Road>,
    seen: Arc<Seen>,
    (began, rate, end): (Instant, Option<u64>, Option<Instant>),
) {
    loop {
        let index = seen.next.fetch_add(1, Ordering::Relaxed);
        if index >= plan.calls() || seen.never.load(Ordering::Relaxed) {
            return;
        }
        // Timed from when it was due, so that a service that is slow does not choose when it is measured.
        let due = rate.map(|rate| began + Duration::from_secs_f64((index * plan.batch) as f64 / rate as f64));
        if end.is_some_and(|end| due.unwrap_or_else(Instant::now) >= end) {
            return;
        }
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
        let (topic, messages, dates) = plan.call(index);
        let count = messages.len() as u64;
        let messages: Vec<Value> =
            messages.iter().map(|message| json!({ "data": STANDARD.encode(message.to_string()) })).collect();
        let body = json!({ "messages": messages }).to_string();
        let started = Instant::now();
        loop {
            let now = Instant::now();
            lock(&seen.sent).extend(dates.iter().map(|date| (date.to_string(), now)));
            let Err(Untaken { counter, why, never }) = road.publish(topic, &body, &seen).await else {
                note(&seen.acknowledged, due.unwrap_or(started).elapsed());
                seen.accepted.fetch_add(count, Ordering::Relaxed);
                break;
            };
            counter.fetch_add(1, Ordering::Relaxed);
            *lock(&seen.why) = Some(why);
            seen.never.fetch_or(never, Ordering::Relaxed);
            if seen.never.load(Ordering::Relaxed)
                || started.elapsed() > GIVE_UP
                || end.is_some_and(|end| Instant::now() >= end)
            {
                seen.given_up.fetch_add(1, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// A call that was not taken.
struct Untaken<'s> {
    /// What counts it.
    counter: &'s AtomicU64,
    why: String,
    /// Another try does not mend it.
    never: bool,
}

impl Road {
    /// One call.
    async fn publish<'s>(&self, topic: &str, body: &str, seen: &'s Seen) -> Result<(), Untaken<'s>> {
        let url = call::at_path(&self.url, &format!("v1/projects/tipoff/topics/{topic}:publish"));
        let mut request = self.client.post(url).body(body.to_owned()).timeout(CALL_MAX);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let unanswered = |error: reqwest::Error| Untaken {
            counter: &seen.unanswered,
            why: call::chain(&error.without_url()),
            never: false,
        };
        let answer = request.send().await.map_err(unanswered)?;
        if answer.status().is_success() {
            // The connection is used again only once its answer has been read.
            answer.bytes().await.map_err(unanswered)?;
            return Ok(());
        }
        let status = answer.status();
        // Who may not, or says what is not understood, may not the next time either.
        let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        let why = format!("{status} {}", call::first_words(answer).await);
        Err(Untaken { counter: &seen.refused, why, never: status.is_client_error() && !again })
    }
}

/// A trigger that the service has pushed.
async fn trigger(State(seen): State<Arc<Seen>>, body: String) -> StatusCode {
    let arrived = Instant::now();
    let outer: Value = serde_json::from_str(&body).unwrap_or_default();
    let data = outer.pointer("/message/data").and_then(Value::as_str).and_then(|data| STANDARD.decode(data).ok());
    let inner = data.and_then(|data| serde_json::from_slice(&data).ok()).unwrap_or(outer);
    if let Some(sent) = inner["tipoff"]["date"].as_str().and_then(|date| lock(&seen.sent).get(date).copied()) {
        note(&seen.triggered, arrived.duration_since(sent));
    }
    StatusCode::NO_CONTENT
}

fn progress(seen: &Seen, began: Instant) {
    let accepted = seen.accepted.load(Ordering::Relaxed);
    let rate = accepted as f64 / began.elapsed().as_secs_f64().max(1.0);
    let why = lock(&seen.why).clone().filter(|_| accepted == 0);
    let why = why.map(|why| format!("; {}", crate::domain::words::harmless(&why))).unwrap_or_default();
    eprintln!("tipoff: {accepted} accepted, {rate:.0} a second{why}");
}
