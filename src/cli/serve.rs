//! `tipoff serve`: the service on the embedded store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use tokio::sync::{Semaphore, watch};

use super::say::say;
use super::{Common, Fault, Verdict};
use crate::adapter::embedded::{Durability, Embedded, EmbeddedBus, PushTargets, Pusher};
use crate::clock::Clock;
use crate::domain::time::after;
use crate::engine::{Engine, Settings, run};
use crate::http::{self, App, ROOM_KB, guard::Guard};

/// How long a call that is under way may go on when the service ends.
const PUSH_DRAIN: std::time::Duration = std::time::Duration::from_secs(5);
/// How often deliveries to push targets are looked for.
const PUSH_EVERY: Duration = Duration::from_millis(200);
/// How often old rows are deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// `tipoff serve`
#[derive(Args)]
pub struct Serve {
    /// Where to listen; anything but loopback needs --token-file
    #[arg(long, env = "TIPOFF_LISTEN", default_value = "127.0.0.1:8085", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A file with the bearer token that every call must carry
    #[arg(long, env = "TIPOFF_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Push to a subscription or service: NAME=http://host:port, repeatable
    #[arg(long = "push", value_name = "NAME=URL", value_parser = target)]
    targets: Vec<(String, reqwest::Url)>,
    /// How long a heartbeat may wait to be committed with others
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    heartbeat_flush: String,
    /// How long settled messages, sent dispatches and the journal are kept
    #[arg(long, default_value = "30d", value_name = "DURATION")]
    keep: String,
    /// Log one JSON object a line
    #[arg(long)]
    pub log_json: bool,
}

fn target(text: &str) -> Result<(String, reqwest::Url), String> {
    let (name, url) = text.split_once('=').ok_or("write NAME=http://host:port")?;
    let url: reqwest::Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{url}: only http and https are spoken"));
    }
    Ok((name.to_owned(), url))
}

fn span(name: &str, text: &str) -> Result<SignedDuration, Fault> {
    let span = crate::topology::duration(text).map_err(|error| Fault::usage(anyhow::anyhow!("--{name}: {error}")))?;
    SignedDuration::try_from(span).map_err(|error| Fault::usage(anyhow::anyhow!("--{name}: {error}")))
}

impl Serve {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let token = self.token()?;
        if !self.listen.ip().is_loopback() && token.is_none() {
            return Err(Fault::usage(anyhow::anyhow!(
                "{} is not loopback: give --token-file, or listen on 127.0.0.1",
                self.listen
            )));
        }
        let declarations = Arc::new(common.declarations()?);
        for (name, _) in &self.targets {
            let service = declarations.pipelines.values().any(|pipeline| pipeline.services.contains_key(name));
            if !service && declarations.topology.subscription(name).is_none() {
                return Err(Fault::usage(anyhow::anyhow!("--push {name}: no such subscription or service")));
            }
        }
        let embedded = Arc::new(Embedded::open(&common.data, Durability::Full).map_err(Fault::unusable)?);
        let bus = embedded.bus(Arc::new(declarations.topology.clone()));
        let settings =
            Settings { heartbeat_flush: span("heartbeat-flush", &self.heartbeat_flush)?, ..Settings::default() };
        let keep = span("keep", &self.keep)?;
        let engine = Arc::new(Engine::new(
            declarations,
            embedded.clone(),
            Arc::new(bus.clone()),
            embedded.clone(),
            Clock::System,
            settings,
        ));
        let listener = tokio::net::TcpListener::bind(self.listen)
            .await
            .map_err(|error| Fault::unusable(anyhow::anyhow!("listen on {}: {error}", self.listen)))?;
        let address = listener.local_addr().map_err(Fault::unusable)?;
        let (stop, stopping) = watch::channel(false);
        let running = run::run(&engine, &stopping);
        let targets: PushTargets = self.targets.iter().cloned().collect();
        let pusher = Pusher::new(bus.clone()).map_err(Fault::unusable)?;
        let push = tokio::spawn(push(pusher, targets, stopping.clone()));
        let prune = tokio::spawn(prune(Arc::clone(&embedded), bus.clone(), keep, stopping.clone()));
        let app = App {
            engine: Arc::clone(&engine),
            inbox: running.inbox.clone(),
            bus,
            embedded,
            guard: Arc::new(Guard::new(token.as_deref())),
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(ROOM_KB)),
            stopping: stopping.clone(),
        };
        tracing::info!(%address, data = %common.data.display(), "listening");
        // The one line a script waits for.
        say!("listening on http://{address}");
        let mut ending = stopping.clone();
        let server = axum::serve(listener, http::router(app)).with_graceful_shutdown(async move {
            let _ = ending.wait_for(|stop| *stop).await;
        });
        let server = tokio::spawn(async move { server.await });
        signal().await;
        tracing::info!("draining: what has been received is settled, then the service ends");
        stop.send_replace(true);
        running.ended().await;
        // Clients that keep their connection open do not keep us.
        let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
        let _ = tokio::join!(push, prune);
        Ok(Verdict::Holds)
    }

    fn token(&self) -> Result<Option<String>, Fault> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Fault::usage(anyhow::anyhow!("read {}: {error}", path.display())))?;
        let token = text.trim();
        if token.len() < 16 {
            return Err(Fault::usage(anyhow::anyhow!("{}: a token has at least 16 characters", path.display())));
        }
        Ok(Some(token.to_owned()))
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
