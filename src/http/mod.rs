//! The HTTP face of the embedded default: push envelopes and the REST publish call in, REST pull and acknowledge out,
//! health; and the pipeline's monitors, on every backend.
//!
//! A response is the settlement: 2xx is an acknowledgement and is given only after the commit; 503 hands a message back.
//! Binds to loopback unless a token is configured; a browser's cross-site request is refused either way.

pub mod alerts;
pub mod dead_letters;
pub mod guard;
pub mod monitor;
pub mod rest;
pub mod retold;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};

use crate::adapter::embedded::{Embedded, EmbeddedBus};
use crate::engine::Engine;
use crate::engine::run::Inbox;

/// The largest body taken: Pub/Sub's 10 MB of data, as base64 inside an envelope.
pub const BODY_MAX: usize = 16 * 1024 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Where messages go in.
    pub inbox: Inbox,
    /// The embedded broker and warehouse, where they are the backend.
    pub local: Option<Local>,
    /// The configuration in force: its digest, its sources, and in what it differs from the built-in one.
    pub effective: Arc<Value>,
    /// Who may call.
    pub guard: Arc<guard::Guard>,
    /// Publish calls that failed and will be told again.
    pub retold: Arc<retold::Retold>,
    /// Bodies in memory, in kilobytes.
    pub room: Arc<tokio::sync::Semaphore>,
    /// Turns true when the service is going down.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

/// What the embedded backend serves over HTTP because nobody else does.
#[derive(Clone)]
pub struct Local {
    /// The broker in the same file.
    pub bus: EmbeddedBus,
    /// The warehouse in the same file.
    pub embedded: Arc<Embedded>,
}

/// Bodies in memory at once, in kilobytes: 64 MiB.
pub const ROOM_KB: usize = 64 * 1024;

/// Every route: the push endpoint, the monitors, the configuration in force and health, and the broker's own calls where the broker is ours.
pub fn router(app: App) -> Router {
    let mut guarded = Router::new()
        .route("/push", post(rest::push))
        .route("/v1/config", get(effective))
        .route("/v1/alerts", get(alerts::board))
        .route("/v1/alerts/mute", post(alerts::mute))
        .route("/v1/alerts/unmute", post(alerts::unmute))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/{id}", get(dead_letters::letter))
        .route("/game-coverage-alert", get(monitor::game_coverage).post(monitor::game_coverage))
        .route("/stale-processor-monitor", get(monitor::silence).post(monitor::silence))
        .route("/pipeline-health-summary", get(monitor::health).post(monitor::health))
        .route("/roster-coverage", get(monitor::rosters).post(monitor::rosters));
    if let Some(local) = &app.local {
        let broker = Router::new()
            .route("/v1/projects/{project}/topics/{call}", post(rest::topic))
            .route("/v1/projects/{project}/subscriptions/{call}", post(rest::subscription))
            .route("/v1/coverage", post(rest::coverage))
            .route("/v1/reports", post(rest::report))
            .layer(Extension(local.clone()));
        guarded = guarded.merge(broker);
    }
    guarded
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::check))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(app)
}

/// Ready when the store answers, nothing is reported at fault, and the service is not going down.
async fn ready(State(app): State<App>) -> Response {
    let store = app.engine.store.next_wake().await;
    let stopping = *app.stopping.borrow();
    let faults = app.engine.health.faults();
    let (code, reason) = match store {
        _ if stopping => (StatusCode::SERVICE_UNAVAILABLE, "draining".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Ok(_) if !faults.is_empty() => (StatusCode::SERVICE_UNAVAILABLE, "at fault".to_owned()),
        Ok(_) => (StatusCode::OK, "ready".to_owned()),
    };
    let digest = &app.effective["digest"];
    let said = json!({ "ready": code == StatusCode::OK, "reason": reason, "faults": faults, "configuration": digest });
    (code, Json(said)).into_response()
}

/// What this process runs on.
async fn effective(State(app): State<App>) -> Json<Value> {
    Json(Value::clone(&app.effective))
}
