//! `tipoff run`: any job as a run that tipoff watches. It sends heartbeats while the job lives, with the progress that its
//! output tells, and a completion when it ends; the exit status says which.
//!
//! The job comes first: it runs though nobody can be told, its output passes through, signals reach it, and its exit status is
//! the command's.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use regex::Regex;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Common, Fault, Verdict, backend, dates, graph, inspect, serve};
use crate::adapter::call;
use crate::adapter::pubsub::Connection;
use crate::adapter::pubsub::publisher::Publisher;
use crate::clock::Clock;
use crate::configuration::{Backend, Configuration};
use crate::domain::event::Pulse;
use crate::domain::graph::Kind;
use crate::domain::id::PipelineId;
use crate::domain::trace::TraceContext;
use crate::topology::Carries;
use crate::wire::producer::{Ending, Producer};
use crate::wire::trace::TRACEPARENT;

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(10);
/// How long it is tried to deliver the completion after the job has ended.
const COMPLETION_WITHIN: Duration = Duration::from_secs(300);
/// The wait after the first failure to deliver it; doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// The longest line that is looked at; of a longer one its last part.
const LINE_MAX: usize = 4096;
/// Lines of the job's errors that a failure names.
const LAST_LINES: usize = 3;
/// After the job has ended, how long its output may stay open: a child of its own may hold it.
const DRAIN: Duration = Duration::from_secs(2);
/// What tells progress where nothing else is said: `12/300 [`, `progress 12/300`, `processed 12 of 300`, `45%`.
const PROGRESS: &str = r"(?i)(?:\b(?:progress|processed|completed|done)\D{0,20}(?P<done>\d+)\s*(?:/|of)\s*(?P<total>\d+)|\b(?P<done2>\d+)/(?P<total2>\d+)\s*\[|\b(?P<percent>\d{1,3})(?:\.\d+)?\s?%)";
/// What tells the number of rows: `records: 210`, `record_count=210`, `210 rows written`.
const RECORDS: &str = r"(?i)(?:\b(?:records?|record_count|rows?|row_count)\s*[:=]\s*(?P<records>\d+)|\b(?P<records2>\d+)\s+(?:records|rows)\b)";

/// `tipoff run --node NODE --date DATE -- COMMAND…`
#[derive(Args)]
#[command(
    after_help = "Sends to --server, or where this configuration has tipoff listen; with the backend google, to the broker.\n\
    Exits with the status of the job: 128 and the signal where it was killed by one, 127 where it could \
    not be started; and with 3 where the job succeeded and its completion could not be delivered."
)]
pub struct Run {
    /// Which node the job is; any name its producer uses will do
    #[arg(long, short)]
    node: String,
    /// Which date it is about
    #[arg(long, short, default_value = "today")]
    date: String,
    /// Names the run [default: a new one]
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// The dispatch that asked for it: `tipoff.dispatch_id` of the trigger
    #[arg(long, env = "TIPOFF_DISPATCH_ID", value_name = "ID")]
    dispatch: Option<String>,
    /// The trace that it goes on with: `traceparent` of the trigger
    #[arg(long, env = "TRACEPARENT", value_name = "CONTEXT")]
    traceparent: Option<String>,
    /// How often a heartbeat is sent
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    every: String,
    /// What a line that tells progress looks like: a regular expression with the groups `done` and `total`, or `percent`
    #[arg(long, value_name = "REGEX")]
    progress: Option<Regex>,
    /// What a line that tells the number of rows looks like: a regular expression with the group `records`
    #[arg(long, value_name = "REGEX")]
    records: Option<Regex>,
    /// The job
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    command: Vec<String>,
}

/// How messages leave.
enum Road {
    Http { client: Client, url: Url, token: Option<String> },
    PubSub(Box<Publisher>),
}

/// What the job's output has told.
#[derive(Default)]
struct Told {
    progress: (u64, u64),
    records: Option<u64>,
    /// The last lines of its errors.
    last: Vec<String>,
}

/// Where reports go.
struct Desk {
    road: Road,
    heartbeats: String,
    completions: String,
    /// What stands beside the data of a message.
    attributes: BTreeMap<String, String>,
    producer: Producer,
    told: Arc<Mutex<Told>>,
    clock: Clock,
}

impl Run {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let every = crate::topology::duration(&self.every);
        let every = every.map_err(|error| Fault::usage(anyhow::anyhow!("--every: {error}")))?;
        let every = Some(every).filter(|every| *every >= Duration::from_secs(1));
        let every = every.ok_or_else(|| Fault::usage(anyhow::anyhow!("--every: a second at least")))?;
        let desk = Arc::new(self.desk(common).await?);
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Fault::usage(anyhow::anyhow!("say what is to be run, after --")));
        };
        let mut job = Command::new(program);
        job.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        job.env("TIPOFF_RUN_ID", &desk.producer.run).env("TIPOFF_DATE", desk.producer.date.to_string());
        job.env("TIPOFF_NODE", desk.producer.node.as_str());
        let mut signals = Signals::listen().map_err(Fault::unusable)?;
        let mut child = match job.spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("tipoff: start {program}: {error}");
                let why = format!("{program} could not be started: {error}");
                desk.end(Ending::Failed(why), &mut signals).await;
                return Ok(Verdict::Code(127));
            }
        };
        let patterns = Arc::new(Patterns::new(self.progress.clone(), self.records.clone())?);
        let mut streams = tokio::task::JoinSet::new();
        if let Some(from) = child.stdout.take() {
            streams.spawn(pass(from, tokio::io::stdout(), patterns.clone(), desk.told.clone(), false));
        }
        if let Some(from) = child.stderr.take() {
            streams.spawn(pass(from, tokio::io::stderr(), patterns, desk.told.clone(), true));
        }
        let beating = tokio::spawn(beat(desk.clone(), every));
        let status = wait(&mut child, &mut signals).await.map_err(Fault::unusable)?;
        let drained = async { while streams.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        beating.abort();
        let ending = if status.success() { Ending::Done } else { Ending::Failed(desk.why(status)) };
        let delivered = desk.end(ending, &mut signals).await;
        Ok(Verdict::Code(match code(status) {
            0 if !delivered => 3,
            code => code,
        }))
    }

    async fn desk(&self, common: &Common) -> Result<Desk, Fault> {
        let declarations = common.declarations()?;
        let configuration = common.configuration()?;
        let id = PipelineId::from(common.pipeline.as_str());
        let Some(declared) = declarations.pipelines.get(&id) else {
            return Err(graph::no_pipeline(&declarations, &common.pipeline));
        };
        let now = Clock::System.now();
        let date = dates::resolve(&self.date, &declared.graph, now)?;
        let node = inspect::node(&declared.graph, &self.node, date, now)?;
        let known = declared.graph.node(&node).filter(|node| !matches!(node.kind, Kind::Gate(_)));
        let known = known.ok_or_else(|| Fault::usage(anyhow::anyhow!("{node} is a gate: nobody runs it")))?;
        let phase = known.phase.to_string();
        let topic = |what: &str, carries: Carries, phase: Option<&str>| {
            let found = declarations.topology.topics().find(|(_, topic)| {
                topic.pipeline == id.as_str()
                    && topic.carries == carries
                    && (phase.is_none() || topic.phase.as_deref() == phase)
            });
            let none = || Fault::usage(anyhow::anyhow!("topics.yaml has no topic of {id} that carries {what}"));
            found.map(|(name, _)| name.to_string()).ok_or_else(none)
        };
        let heartbeats = topic("heartbeats", Carries::Heartbeat, None)?;
        let completions = topic(&format!("completions of phase {phase}"), Carries::Completion, Some(&phase))?;
        let run = self.run_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let producer = Producer {
            node,
            phase,
            date,
            correlation: run.clone(),
            run,
            dispatch: self.dispatch.clone().filter(|id| !id.is_empty()),
            started_at: now,
        };
        // What is no context says nothing, as on the other side.
        let context = self.traceparent.as_deref().and_then(|text| text.parse::<TraceContext>().ok());
        let attributes = context.map(|context| (TRACEPARENT.to_owned(), context.to_string())).into_iter().collect();
        let road = road(common, &configuration).await?;
        Ok(Desk { road, heartbeats, completions, attributes, producer, told: Arc::default(), clock: Clock::System })
    }
}

/// Over HTTP to the service, or to the broker of a Google Cloud project.
async fn road(common: &Common, configuration: &Configuration) -> Result<Road, Fault> {
    match configuration.backend {
        Backend::Embedded => {
            let (url, token) = match common.server()? {
                Some(url) => {
                    let token = common.token_for(&url, configuration)?;
                    (url, token)
                }
                // On this machine, whatever its address is called.
                None => {
                    let url = format!("http://{}", configuration.listen).parse().map_err(Fault::unusable)?;
                    (url, serve::token(configuration)?)
                }
            };
            Ok(Road::Http { client: call::client().map_err(Fault::unusable)?, url, token })
        }
        Backend::Google => {
            let project = backend::project(configuration)?;
            let emulators = backend::Emulators::find().map_err(|why| Fault::usage(anyhow::anyhow!(why)))?;
            let connection = Connection { project, emulator: emulators.pubsub };
            let publisher = Publisher::connect(connection).await.map_err(Fault::unusable)?;
            Ok(Road::PubSub(Box::new(publisher)))
        }
    }
}

impl Desk {
    fn progress(&self) -> (u64, u64) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).progress
    }

    async fn publish(&self, topic: &str, body: &Value) -> Result<(), String> {
        match &self.road {
            Road::Http { client, url, token } => {
                let url = call::at_path(url, &format!("v1/projects/tipoff/topics/{topic}:publish"));
                let message = json!({ "messages": [{ "data": STANDARD.encode(body.to_string()), "attributes": self.attributes }] });
                let mut request = client.post(url).json(&message).timeout(CALL_MAX);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let answer = request.send().await.map_err(|error| call::chain(&error.without_url()))?;
                if !answer.status().is_success() {
                    return call::understood(answer).await.map_err(|error| error.to_string());
                }
                // Others say 200 as well.
                let words = call::first_words(answer).await;
                if words.contains("messageIds") { Ok(()) } else { Err(format!("this is no tipoff: {words}")) }
            }
            Road::PubSub(publisher) => {
                let sent = publisher.publish(topic, body.to_string().into_bytes(), &self.attributes).await;
                sent.map(|_| ()).map_err(|error| error.to_string())
            }
        }
    }

    async fn heartbeat(&self, pulse: Pulse) -> Result<(), String> {
        let body = self.producer.heartbeat(pulse, self.progress(), self.clock.now());
        self.publish(&self.heartbeats, &body).await
    }

    /// Says how it ended, again and again until it is taken, or somebody wants us gone. Whether it was.
    async fn end(&self, ending: Ending, signals: &mut Signals) -> bool {
        let pulse = if ending == Ending::Done { Pulse::Ended } else { Pulse::Failed };
        let records = self.told.lock().unwrap_or_else(PoisonError::into_inner).records;
        let body = self.producer.completion(&ending, records, self.clock.now());
        let give_up = Instant::now() + COMPLETION_WITHIN;
        let mut wait = BACKOFF;
        // The last heartbeat is no completion, and nobody waits for it.
        let (_, mut sent) = tokio::join!(self.heartbeat(pulse), self.publish(&self.completions, &body));
        let mut is_wanted = true;
        while let Err(error) = sent {
            if !is_wanted || Instant::now() + wait >= give_up {
                eprintln!("tipoff: the completion of {} could not be delivered: {error}", self.producer.node);
                eprintln!("tipoff: it would have said {body}");
                return false;
            }
            if wait == BACKOFF {
                let minutes = COMPLETION_WITHIN.as_secs() / 60;
                eprintln!("tipoff: the completion is not taken, and is tried again for {minutes} minutes: {error}");
            }
            is_wanted = tokio::time::timeout(wait, signals.next()).await.is_err();
            wait = (wait * 2).min(BACKOFF_MAX);
            sent = self.publish(&self.completions, &body).await;
        }
        true
    }

    fn why(&self, status: ExitStatus) -> String {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.last.join(" | ");
        if last.is_empty() { status.to_string() } else { format!("{status}: {last}") }
    }
}

/// Sends signs of life until it is stopped. That nobody takes them is said once.
async fn beat(desk: Arc<Desk>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_well = true;
    loop {
        ticks.tick().await;
        match desk.heartbeat(Pulse::Running).await {
            Ok(()) => is_well = true,
            Err(error) if is_well => {
                eprintln!("tipoff: the job goes on, but its heartbeats are not taken: {error}");
                is_well = false;
            }
            Err(_) => {}
        }
    }
}

/// What would end us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> rustix::process::Signal {
        tokio::select! {
            _ = self.terminate.recv() => rustix::process::Signal::TERM,
            _ = self.interrupt.recv() => rustix::process::Signal::INT,
            _ = self.hangup.recv() => rustix::process::Signal::HUP,
        }
    }
}

/// Waits for the end of the job; what would end us is passed on to it.
async fn wait(child: &mut Child, signals: &mut Signals) -> std::io::Result<ExitStatus> {
    loop {
        let number = tokio::select! {
            status = child.wait() => return status,
            number = signals.next() => number,
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended this moment.
            let _ = rustix::process::kill_process(pid, number);
        }
    }
}

/// The status a shell would give.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What lines are looked through for.
struct Patterns {
    progress: Regex,
    records: Regex,
}

impl Patterns {
    fn new(progress: Option<Regex>, records: Option<Regex>) -> Result<Self, Fault> {
        let has = |pattern: &Regex, names: &[&str]| {
            names.iter().all(|wanted| pattern.capture_names().flatten().any(|name| name == *wanted))
        };
        if let Some(pattern) = &progress
            && !has(pattern, &["done", "total"])
            && !has(pattern, &["percent"])
        {
            let why = "--progress: has neither the groups `done` and `total` nor the group `percent`, as in \
                'loaded (?P<done>\\d+) of (?P<total>\\d+)'";
            return Err(Fault::usage(anyhow::anyhow!(why)));
        }
        if let Some(pattern) = &records
            && !has(pattern, &["records"])
        {
            return Err(Fault::usage(anyhow::anyhow!(
                "--records: has no group `records`, as in 'wrote (?P<records>\\d+)'"
            )));
        }
        let given = |pattern: Option<Regex>, usual: &str| {
            pattern.map_or_else(|| Regex::new(usual).map_err(Fault::unusable), Ok)
        };
        Ok(Self { progress: given(progress, PROGRESS)?, records: given(records, RECORDS)? })
    }

    fn read(&self, line: &str, told: &mut Told) {
        let number = |found: &regex::Captures<'_>, names: [&str; 2]| {
            names.iter().find_map(|name| found.name(name)?.as_str().parse::<u64>().ok())
        };
        if let Some(found) = self.progress.captures_iter(line).last() {
            match (
                number(&found, ["done", "done2"]),
                number(&found, ["total", "total2"]),
                number(&found, ["percent", ""]),
            ) {
                (Some(done), Some(total), _) if total > 0 && done <= total => told.progress = (done, total),
                (_, _, Some(percent)) if percent <= 100 => told.progress = (percent, 100),
                _ => {}
            }
        }
        if let Some(found) = self.records.captures_iter(line).last() {
            told.records = number(&found, ["records", "records2"]).or(told.records);
        }
    }
}

/// Passes a stream on, as it comes, and looks through its lines.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    patterns: Arc<Patterns>,
    told: Arc<Mutex<Told>>,
    is_errors: bool,
) {
    let mut chunk = vec![0; 16 * 1024];
    let mut line: Vec<u8> = Vec::new();
    loop {
        let count = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        // Whoever reads our output may be gone; the job is not to notice.
        let _ = to.write_all(&chunk[..count]).await;
        let _ = to.flush().await;
        for byte in &chunk[..count] {
            // A carriage return ends the line of a progress bar.
            if matches!(byte, b'\n' | b'\r') {
                look(&patterns, &told, &line, is_errors);
                line.clear();
            } else {
                if line.len() >= LINE_MAX {
                    line.drain(..LINE_MAX / 2);
                }
                line.push(*byte);
            }
        }
    }
    look(&patterns, &told, &line, is_errors);
}

fn look(patterns: &Patterns, told: &Mutex<Told>, line: &[u8], is_errors: bool) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    patterns.read(text, &mut told);
    if is_errors {
        let clean = text.chars().filter(|character| !character.is_control()).take(300).collect();
        told.last.push(clean);
        if told.last.len() > LAST_LINES {
            told.last.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_what_jobs_print() {
        let Ok(patterns) = Patterns::new(None, None) else { panic!("the usual patterns are sound") };
        let told = |line: &str| {
            let mut told = Told::default();
            patterns.read(line, &mut told);
            (told.progress, told.records)
        };
        assert_eq!(told("progress 12/300"), ((12, 300), None));
        assert_eq!(told("Processed 45 of 450 players"), ((45, 450), None));
        assert_eq!(told(" 34%|███▍      | 102/300 [00:12<00:23,  8.5it/s]"), ((102, 300), None));
        assert_eq!(told("loading: 34.5%"), ((34, 100), None));
        assert_eq!(told("2026-01-23 wrote record_count=210"), ((0, 0), Some(210)));
        assert_eq!(told("inserted 18 rows into nba_raw.x"), ((0, 0), Some(18)));
        // A date, a rate above all, and what ends before it begins are none.
        for line in ["01/23/2026 starting", "250% of target", "done 7/3", "99999999999999999999999 rows"] {
            assert_eq!(told(line), ((0, 0), None), "{line}");
        }
    }
}
