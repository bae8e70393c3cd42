//! One run of every loop on one declaration. When the declarations change, this one is drained and another takes its place, on the
//! same store, behind the same address.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::effective::Effective;
use super::{Fault, backend, topics};
use crate::adapter::channel;
use crate::adapter::embedded::{Embedded, EmbeddedBus, PushTargets, Pusher};
use crate::adapter::firestore::ConnectError;
use crate::adapter::firestore::heartbeats::{self, Heartbeats};
use crate::adapter::pubsub::subscriber::{Patience, Subscribers};
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::crash::{self, Place};
use crate::domain::shadow::Role;
use crate::domain::time::after;
use crate::engine::in_force::Identity;
use crate::engine::notify::Notifier;
use crate::engine::recipient::Listening;
use crate::engine::role::{self, RoleError};
use crate::engine::{Engine, Settings, run};
use crate::http::reload::Reload;
use crate::http::{self, App, Local, Mode, ROOM_KB, Screen, guard::Guard};
use crate::pipeline::Declarations;
use crate::pipeline::in_force::Applied;
use crate::port::{Recipient, Store, StoreError};
use crate::telemetry::Telemetry;
use crate::topology::Topology;
use crate::wire::kept::Text;

/// How long a call that is under way may go on when the service ends.
const PUSH_DRAIN: Duration = Duration::from_secs(5);
/// How often deliveries to push targets are looked for that are due again, or that another process has sent.
const PUSH_EVERY: Duration = Duration::from_secs(1);
/// How often dead letters are looked for.
const COLLECT_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for what to tell those who listen to what is decided.
const EVENTS_EVERY: Duration = Duration::from_millis(250);
/// How often old rows are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// What a run is made of, read and found to be sound.
pub struct Prepared {
    pub configuration: Configuration,
    pub declarations: Arc<Declarations>,
    pub role: Role,
    /// Whether people are told of alerts.
    pub tells: bool,
    pub effective: Effective,
    /// What `tipoff.yaml` says, as it may be shown.
    pub settings: Arc<Value>,
    pub declared: (Text, Text),
    pub guard: Arc<Guard>,
}

/// What stays as it is from one run to the next.
pub struct Standing {
    pub targets: Vec<(String, reqwest::Url)>,
    pub telemetry: Telemetry,
    /// Who this process is among those on the store.
    pub name: String,
    /// Where a change of the declarations is asked for.
    pub reload: mpsc::Sender<Reload>,
    /// The embedded store, where it is the backend.
    pub embedded: Option<Arc<Embedded>>,
}

/// A run.
pub struct Generation {
    pub engine: Arc<Engine>,
    pub router: Router,
    stop: watch::Sender<bool>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Generation {
    /// Begins one, which is in force from then on, as `by` wants for that reason.
    pub async fn begin(standing: &Standing, prepared: &Prepared, by: (&str, &str)) -> Result<Self, Fault> {
        let generation = match &standing.embedded {
            Some(embedded) => Self::embedded(standing, prepared, embedded).await?,
            None => Self::google(standing, prepared).await?,
        };
        let effective = &prepared.effective;
        let applied = Applied {
            revision: effective.revision.clone(),
            digest: effective.digest.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: Clock::System.now(),
            actor: by.0.to_owned(),
            reason: by.1.to_owned(),
        };
        crash::at(Place::InForceUnkept);
        // It decides all the same: what is kept of it is for people, and for the next who wants to change it.
        if let Err(error) = generation.engine.bring_into_force(&prepared.declared, &applied).await {
            tracing::warn!("what decides cannot be kept now: {error}");
        }
        Ok(generation)
    }

    /// Ends it: what has been received is settled.
    pub async fn end(self) {
        self.stop.send_replace(true);
        self.ended.await;
    }

    async fn embedded(standing: &Standing, prepared: &Prepared, embedded: &Arc<Embedded>) -> Result<Self, Fault> {
        let Prepared { configuration, declarations, .. } = prepared;
        let bus = embedded.bus(Arc::new(declarations.topology.clone()));
        let keep = backend::span("keep", &configuration.keep)?;
        let settings = settings(prepared, "1s")?;
        assume(&**embedded, prepared).await?;
        let (store, warehouse) = (embedded.clone(), embedded.clone());
        let engine =
            Engine::new(declarations.clone(), store, Arc::new(bus.clone()), warehouse, Clock::System, settings);
        let engine = standing.known(engine, prepared)?;
        let (stop, stopping) = watch::channel(false);
        let running = run::run(&engine, &stopping);
        let targets: PushTargets = standing.targets.iter().cloned().collect();
        let pusher = Arc::new(Pusher::new(bus.clone()).map_err(Fault::unusable)?);
        let mut tasks = JoinSet::new();
        let (pushed, kept) = (stopping.clone(), (embedded.clone(), bus.clone()));
        let push = move || push(pusher.clone(), targets.clone(), pushed.clone());
        tasks.spawn(engine.clone().keep_up("push", stopping.clone(), push));
        let pruned = stopping.clone();
        let prune = move || prune(kept.0.clone(), kept.1.clone(), keep, pruned.clone());
        tasks.spawn(engine.clone().keep_up("prune", stopping.clone(), prune));
        let recipient: Arc<dyn Recipient> =
            Arc::new(Listening { engine: engine.clone(), inbox: running.inbox.clone() });
        let (letters, collected) = (bus.clone(), stopping.clone());
        let collect = move || collect(letters.clone(), recipient.clone(), collected.clone());
        tasks.spawn(engine.clone().keep_up("collect", stopping.clone(), collect));
        let app = App {
            engine: engine.clone(),
            inbox: running.inbox.clone(),
            local: Some(Local { bus, embedded: embedded.clone() }),
            effective: Arc::new(json!(prepared.effective)),
            settings: Some(Arc::clone(&prepared.settings)),
            declared: Arc::new(prepared.declared.clone()),
            guard: prepared.guard.clone(),
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM_KB)),
            screen: Arc::new(Screen::new(Mode::Serving, EVENTS_EVERY)),
            stopping,
            reload: Some(standing.reload.clone()),
        };
        tracing::info!(data = %configuration.data.display(), "the embedded backend is open");
        let ended = Box::pin(async move {
            running.ended().await;
            tasks.join_all().await;
        });
        Ok(Self { engine, router: http::router(app), stop, ended })
    }

    async fn google(standing: &Standing, prepared: &Prepared) -> Result<Self, Fault> {
        let Prepared { configuration, declarations, .. } = prepared;
        let services = backend::services(configuration)?;
        let google = backend::google(configuration, declarations, services).await?;
        topics::tell_what_is_missing(configuration, declarations).await;
        // A look is a read that is paid for.
        let settings = Settings {
            relay_every: SignedDuration::from_secs(2),
            measure_every: SignedDuration::from_mins(1),
            ..settings(prepared, "15s")?
        };
        assume(&*google.firestore, prepared).await?;
        let (store, bus, warehouse) = (google.firestore.clone(), google.bus.clone(), google.warehouse.clone());
        let engine = Engine::new(declarations.clone(), store, bus, warehouse, Clock::System, settings);
        let engine = standing.known(engine, prepared)?;
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
            engine: engine.clone(),
            inbox,
            local: None,
            effective: Arc::new(json!(prepared.effective)),
            settings: Some(Arc::clone(&prepared.settings)),
            declared: Arc::new(prepared.declared.clone()),
            guard: prepared.guard.clone(),
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM_KB)),
            // A look is a read that is paid for, and made only while somebody has a page open.
            screen: Arc::new(Screen::new(Mode::Serving, 8 * EVENTS_EVERY)),
            stopping,
            reload: Some(standing.reload.clone()),
        };
        tracing::info!(project = google.connection.project, "connected to Google Cloud");
        let ended = Box::pin(async move {
            tokio::join!(running.ended(), subscribers.ended(), heartbeats.join_all());
        });
        Ok(Self { engine, router: http::router(app), stop, ended })
    }
}

impl Standing {
    /// The engine as the others on the store know it, and as it is watched.
    fn known(&self, engine: Engine, prepared: &Prepared) -> Result<Arc<Engine>, Fault> {
        let identity = Identity {
            name: self.name.clone(),
            digest: prepared.effective.decides.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: Clock::System.now(),
        };
        let engine = engine.telling(notifier(prepared)?).watched(self.telemetry.clone());
        Ok(Arc::new(engine.known_as(identity)))
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
            let (collection, topic) = (collection.clone(), topic.to_string());
            let heartbeats = Heartbeats { collection, topic, poll_every: heartbeats::POLL_EVERY };
            let (firestore, recipient) = (google.firestore.clone(), recipient.clone());
            tasks.spawn(heartbeats.read(firestore, recipient, || Clock::System.now(), stop.clone()));
        }
    }
    tasks
}

fn settings(prepared: &Prepared, flush: &str) -> Result<Settings, Fault> {
    let flush = prepared.configuration.heartbeat_flush.as_deref().unwrap_or(flush);
    let role = prepared.role.clone();
    Ok(Settings { heartbeat_flush: backend::span("heartbeat_flush", flush)?, role, ..Settings::default() })
}

/// Notes in the store what it is for, or refuses to use it for something else.
async fn assume(store: &dyn Store, prepared: &Prepared) -> Result<(), Fault> {
    let assumed = role::assume(store, prepared.declarations.pipelines.keys(), &prepared.role).await;
    assumed.map_err(|error| match error {
        RoleError::Shadows | RoleError::Real => Fault::usage(error),
        RoleError::Store(_) | RoleError::Contended => Fault::unusable(error),
    })
}

/// Whether a run could not be begun only because its store does not answer. Embedded that is a file of ours, which no waiting mends.
pub fn is_away(standing: &Standing, fault: &Fault) -> bool {
    let unanswered = fault.error.downcast_ref().is_some_and(ConnectError::is_unanswered);
    let away = matches!(fault.error.downcast_ref(), Some(RoleError::Store(StoreError::Unavailable(_))));
    (unanswered || away) && standing.embedded.is_none()
}

/// Who is told of alerts.
fn notifier(prepared: &Prepared) -> Result<Notifier, Fault> {
    if !prepared.tells {
        tracing::info!("alerts of the shadow are kept and told to nobody; --tell tells them");
        return Ok(Notifier::default());
    }
    let (settings, channels) = channel::declared(&prepared.configuration.alerts).map_err(Fault::usage)?;
    if channels.is_empty() {
        tracing::warn!("nobody is told of alerts but who reads the log: tipoff.yaml declares no channel under alerts");
    }
    Ok(Notifier::new(settings, channels))
}

async fn push(pusher: Arc<Pusher>, targets: PushTargets, mut stop: watch::Receiver<bool>) {
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
            () = pusher.more() => false,
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
    if let Err(error) = bus.collect_anew(clock.now()).await {
        tracing::warn!("collect dead letters: {error}");
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
        match bus.expire(clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "messages that nobody took for as long as they are kept are gone"),
            Err(error) => tracing::warn!("expire: {error}"),
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(PRUNE_EVERY) => {}
        }
    }
}
