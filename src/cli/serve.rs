//! `tipoff serve`: the service, on the embedded backend or on Google Cloud.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::effective::Effective;
use super::say::say;
use super::{Common, Door, Fault, Verdict, backend, telemetry, topics};
use crate::adapter::channel;
use crate::adapter::egress;
use crate::adapter::embedded::{Durability, Embedded, EmbeddedBus, PushTargets, Pusher};
use crate::adapter::firestore::heartbeats::Heartbeats;
use crate::adapter::pubsub::subscriber::{Patience, Subscribers};
use crate::clock::Clock;
use crate::configuration::{Backend, Configuration};
use crate::domain::time::after;
use crate::engine::notify::Notifier;
use crate::engine::recipient::Listening;
use crate::engine::{Engine, Settings, run};
use crate::http::caller::Callers;
use crate::http::server::{self, Limits};
use crate::http::{self, App, Local, Mode, ROOM_KB, Screen, guard::Guard};
use crate::pipeline::Declarations;
use crate::port::Recipient;
use crate::telemetry::log;
use crate::topology::Topology;
use crate::wire::kept::Text;

/// How long a call that is under way may go on when the service ends.
const PUSH_DRAIN: std::time::Duration = std::time::Duration::from_secs(5);
/// How often deliveries to push targets are looked for.
const PUSH_EVERY: Duration = Duration::from_millis(200);
/// How often dead letters are looked for.
const COLLECT_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for what to tell those who listen to what is decided.
const EVENTS_EVERY: Duration = Duration::from_millis(250);
/// How often old rows are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// `tipoff serve`
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    door: Door,
    /// Push to a subscription or service of the embedded broker: NAME=http://host:port, repeatable
    #[arg(long = "push", value_name = "NAME=URL", value_parser = target)]
    targets: Vec<(String, reqwest::Url)>,
    /// How long a heartbeat may wait to be committed with others [default: 1s, and 15s on Google Cloud]
    #[arg(long, value_name = "DURATION")]
    heartbeat_flush: Option<String>,
    /// How long settled messages, sent dispatches and the journal are kept [default: 30d]
    #[arg(long, value_name = "DURATION")]
    keep: Option<String>,
    /// What a line of the log looks like [default: gcp on Cloud Run and on Kubernetes, else text]
    #[arg(long, env = "TIPOFF_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    log_format: Option<log::Form>,
    /// The same as --log-format json
    #[arg(long, conflicts_with = "log_format")]
    log_json: bool,
}

fn target(text: &str) -> Result<(String, reqwest::Url), String> {
    let (name, url) = text.split_once('=').ok_or("write NAME=http://host:port")?;
    let url: reqwest::Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{url}: only http and https are spoken"));
    }
    egress::declared(&url).map_err(|refused| format!("{url}: {refused}"))?;
    Ok((name.to_owned(), url))
}

impl Serve {
    /// What a line of the log looks like.
    pub fn log_form(&self) -> log::Form {
        let in_cloud = ["K_SERVICE", "KUBERNETES_SERVICE_HOST"].iter().any(|name| std::env::var_os(name).is_some());
        let usual = if in_cloud { log::Form::Gcp } else { log::Form::Text };
        if self.log_json { log::Form::Json } else { self.log_format.unwrap_or(usual) }
    }

    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let configuration = self.configuration(common)?;
        let callers = Callers::of(&configuration).map_err(Fault::usage)?;
        keep_out_of_dumps();
        let declarations = Arc::new(common.declarations()?);
        // What is wrong with it is said before anything is opened.
        channel::declared(&configuration.alerts).map_err(Fault::usage)?;
        channel::known(&configuration.alerts, &declarations).map_err(Fault::usage)?;
        let effective = Effective::of(common, &configuration)?;
        effective.log();
        let declared = common.declared()?;
        let listener = tokio::net::TcpListener::bind(configuration.listen)
            .await
            .map_err(|error| Fault::unusable(anyhow::anyhow!("listen on {}: {error}", configuration.listen)))?;
        let guard = Arc::new(Guard::new(callers, configuration.access.origin.as_deref()));
        match configuration.backend {
            Backend::Embedded => {
                self.embedded(&configuration, (effective, declared), declarations, listener, guard).await
            }
            Backend::Google => self.google(&configuration, (effective, declared), declarations, listener, guard).await,
        }
    }

    /// The configuration, with what only this command can be told.
    fn configuration(&self, common: &Common) -> Result<Configuration, Fault> {
        let mut configuration = self.door.configuration(common)?;
        if let Some(flush) = &self.heartbeat_flush {
            configuration.heartbeat_flush = Some(flush.clone());
        }
        if let Some(keep) = &self.keep {
            configuration.keep.clone_from(keep);
        }
        Ok(configuration)
    }

    async fn embedded(
        &self,
        configuration: &Configuration,
        (effective, declared): (Effective, (Text, Text)),
        declarations: Arc<Declarations>,
        listener: TcpListener,
        guard: Arc<Guard>,
    ) -> Result<Verdict, Fault> {
        for (name, _) in &self.targets {
            let service = declarations.pipelines.values().any(|pipeline| pipeline.services.contains_key(name));
            if !service && declarations.topology.subscription(name).is_none() {
                return Err(Fault::usage(anyhow::anyhow!("--push {name}: no such subscription or service")));
            }
        }
        let embedded = Arc::new(Embedded::open(&configuration.data, Durability::Full).map_err(Fault::unusable)?);
        let bus = embedded.bus(Arc::new(declarations.topology.clone()));
        let settings = settings(configuration, "1s")?;
        let keep = backend::span("keep", &configuration.keep)?;
        let engine = Engine::new(
            declarations,
            embedded.clone(),
            Arc::new(bus.clone()),
            embedded.clone(),
            Clock::System,
            settings,
        );
        let telemetry = telemetry::start(configuration, &effective)?;
        let engine = Arc::new(engine.telling(notifier(configuration)?).watched(telemetry.clone()));
        let (stop, stopping) = watch::channel(false);
        let running = run::run(&engine, &stopping);
        let targets: PushTargets = self.targets.iter().cloned().collect();
        let pusher = Pusher::new(bus.clone()).map_err(Fault::unusable)?;
        let push = tokio::spawn(push(pusher, targets, stopping.clone()));
        let prune = tokio::spawn(prune(Arc::clone(&embedded), bus.clone(), keep, stopping.clone()));
        let recipient: Arc<dyn Recipient> =
            Arc::new(Listening { engine: engine.clone(), inbox: running.inbox.clone() });
        let collect = tokio::spawn(collect(bus.clone(), recipient, stopping.clone()));
        let app = App {
            engine,
            inbox: running.inbox.clone(),
            local: Some(Local { bus, embedded }),
            effective: Arc::new(json!(effective)),
            declared: Arc::new(declared),
            guard,
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM_KB)),
            screen: Arc::new(Screen::new(Mode::Serving, EVENTS_EVERY)),
            stopping,
        };
        tracing::info!(data = %configuration.data.display(), "the embedded backend is open");
        let server = listen(app, listener)?;
        signal().await;
        stop.send_replace(true);
        running.ended().await;
        closed(server).await;
        let _ = tokio::join!(push, prune, collect);
        telemetry.end().await;
        Ok(Verdict::Holds)
    }

    async fn google(
        &self,
        configuration: &Configuration,
        (effective, declared): (Effective, (Text, Text)),
        declarations: Arc<Declarations>,
        listener: TcpListener,
        guard: Arc<Guard>,
    ) -> Result<Verdict, Fault> {
        if let Some((name, _)) = self.targets.first() {
            return Err(Fault::usage(anyhow::anyhow!(
                "--push {name}: on Google Cloud the broker pushes; where services are called directly is said in tipoff.yaml"
            )));
        }
        if let Some(file) = backend::service_account_key() {
            tracing::warn!(
                "{file} is the key of a service account, which is good for ever and for whoever has it: run as the account \
                 (Workload Identity, the metadata server), or impersonate it"
            );
        }
        let services = backend::services(configuration)?;
        let google = backend::google(configuration, &declarations, services).await?;
        topics::tell_what_is_missing(configuration, &declarations).await;
        // A look is a read that is paid for.
        let settings = Settings {
            relay_every: SignedDuration::from_secs(2),
            measure_every: SignedDuration::from_mins(1),
            ..settings(configuration, "15s")?
        };
        let store = google.firestore.clone();
        let engine =
            Engine::new(declarations, store, google.bus.clone(), google.warehouse.clone(), Clock::System, settings);
        let telemetry = telemetry::start(configuration, &effective)?;
        let engine = Arc::new(engine.telling(notifier(configuration)?).watched(telemetry.clone()));
        let (stop, stopping) = watch::channel(false);
        let running = run::run(&engine, &stopping);
        let (inbox, topology) = (running.inbox.clone(), &engine.declarations.topology);
        let recipient: Arc<dyn Recipient> = Arc::new(Listening { engine: engine.clone(), inbox: inbox.clone() });
        let subscribers = Subscribers::start(
            &google.connection,
            topology,
            &recipient,
            &google.publisher,
            Patience::default(),
            &stopping,
        );
        let subscribers = subscribers.await.map_err(Fault::unusable)?;
        let heartbeats = heartbeats(topology, &google, &recipient, &stopping);
        let app = App {
            engine,
            inbox,
            local: None,
            effective: Arc::new(json!(effective)),
            declared: Arc::new(declared),
            guard,
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM_KB)),
            // A look is a read that is paid for, and made only while somebody has a page open.
            screen: Arc::new(Screen::new(Mode::Serving, 8 * EVENTS_EVERY)),
            stopping,
        };
        tracing::info!(project = google.connection.project, "connected to Google Cloud");
        let server = listen(app, listener)?;
        signal().await;
        stop.send_replace(true);
        tokio::join!(running.ended(), subscribers.ended(), heartbeats.join_all());
        closed(server).await;
        telemetry.end().await;
        Ok(Verdict::Holds)
    }
}

/// Reads heartbeats from the Firestore collections that topics.yaml names, along with those on their topics.
fn heartbeats(
    topology: &Topology,
    google: &backend::Google,
    recipient: &Arc<dyn Recipient>,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (topic, declared) in topology.topics() {
        if let Some(collection) = &declared.collection {
            let heartbeats = Heartbeats { collection: collection.clone(), topic: topic.to_string() };
            let (firestore, recipient) = (google.firestore.clone(), recipient.clone());
            tasks.spawn(heartbeats.read(firestore, recipient, || Clock::System.now(), stop.clone()));
        }
    }
    tasks
}

type Server = tokio::task::JoinHandle<()>;

/// Serves HTTP until the service ends, and says where.
fn listen(app: App, listener: TcpListener) -> Result<Server, Fault> {
    let address = listener.local_addr().map_err(Fault::unusable)?;
    let ending = app.stopping.clone();
    let server = tokio::spawn(server::serve(listener, http::router(app), ending, Limits::default()));
    tracing::info!(%address, "listening");
    // The one line a script waits for.
    say!("listening on http://{address}");
    Ok(server)
}

/// Clients that keep their connection open do not keep us.
async fn closed(server: Server) {
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
}

fn settings(configuration: &Configuration, flush: &str) -> Result<Settings, Fault> {
    let flush = configuration.heartbeat_flush.as_deref().unwrap_or(flush);
    Ok(Settings { heartbeat_flush: backend::span("heartbeat_flush", flush)?, ..Settings::default() })
}

/// Who is told of alerts.
fn notifier(configuration: &Configuration) -> Result<Notifier, Fault> {
    let (settings, channels) = channel::declared(&configuration.alerts).map_err(Fault::usage)?;
    if channels.is_empty() {
        tracing::warn!("nobody is told of alerts but who reads the log: tipoff.yaml declares no channel under alerts");
    }
    Ok(Notifier::new(settings, channels))
}

/// The token that a call of ours carries, if there is one.
pub fn token(configuration: &Configuration) -> Result<Option<String>, Fault> {
    let (token, from) = match (&configuration.token_file, &configuration.token) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Fault::usage(anyhow::anyhow!("read {}: {error}", path.display())))?;
            // The first is as good as the others, and a digest is none.
            let token = text.split_whitespace().find(|word| !word.starts_with("sha256:"));
            (token.unwrap_or_default().to_owned(), path.display().to_string())
        }
        (None, Some(token)) => (token.reveal().to_owned(), "token".to_owned()),
        (None, None) => return Ok(None),
    };
    if token.len() < 16 {
        return Err(Fault::usage(anyhow::anyhow!("{from}: a token has at least 16 characters")));
    }
    Ok(Some(token))
}

/// A crash leaves no memory behind, in which tokens would be.
fn keep_out_of_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!("a crash may leave a dump with secrets in it: {error}");
    }
}

/// SIGTERM, or Ctrl-C.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
    tracing::info!("draining: what has been received is settled, then the service ends");
}

async fn push(pusher: Pusher, targets: PushTargets, mut stop: watch::Receiver<bool>) {
    let clock = Clock::System;
    match pusher.take_over(clock.now(), &targets).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "deliveries that were under way when the service last ended are made again"),
        Err(error) => tracing::warn!("push: {error}"),
    }
    loop {
        if let Err(error) = pusher.push_due(clock.now(), &targets).await {
            tracing::warn!("push: {error}");
        }
        let stopped = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(PUSH_EVERY) => false,
        };
        if stopped {
            // What is not answered by then is made again at the next start.
            let _ = tokio::time::timeout(PUSH_DRAIN, pusher.idle()).await;
            return;
        }
    }
}

async fn collect(bus: EmbeddedBus, recipient: Arc<dyn Recipient>, mut stop: watch::Receiver<bool>) {
    let clock = Clock::System;
    match bus.catch_up(clock.now()).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "dead letters from before there was a ledger go into it"),
        Err(error) => tracing::warn!("collect dead letters: {error}"),
    }
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            collected = bus.collect(&recipient, clock.now()) => {
                if let Err(error) = collected {
                    tracing::warn!("collect dead letters: {error}");
                }
            }
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(COLLECT_EVERY) => {}
        }
    }
}

async fn prune(embedded: Arc<Embedded>, bus: EmbeddedBus, keep: SignedDuration, mut stop: watch::Receiver<bool>) {
    let clock = Clock::System;
    loop {
        if let Err(error) = embedded.prune(after(clock.now(), -keep)).await {
            tracing::warn!("prune: {error}");
        }
        if let Err(error) = bus.expire(clock.now()).await {
            tracing::warn!("expire: {error}");
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(PRUNE_EVERY) => {}
        }
    }
}
