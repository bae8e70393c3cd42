//! Is it alive, has it started, is it ready; and what has it measured?
//!
//! The three probes are asked by a platform that knows no token, so they say a word and no name; whoever may read anything
//! else is told the reason.

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tokio::time::Instant;

use super::App;
use super::caller::Caller;

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Alive while every loop moves without which nothing is taken in, decided or sent. That the store is away is no reason to be
/// started again; that something hangs is.
pub async fn alive(State(app): State<App>) -> Response {
    let stuck = app.engine.beats.stuck();
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    tracing::error!(loops = stuck.join(", "), "stuck: the service is to be started again");
    (StatusCode::SERVICE_UNAVAILABLE, "stuck\n").into_response()
}

/// Started once the store takes writes, and what had waited in it has been seen to.
pub async fn started(State(app): State<App>) -> Response {
    if app.engine.beats.has_started() {
        return "started\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
}

/// Ready when the store answers, nothing is reported at fault, and the service is not going down.
pub async fn ready(State(app): State<App>, caller: Option<Extension<Caller>>) -> Response {
    let store = app.engine.store.next_wake().await;
    let stopping = *app.stopping.borrow();
    let faults = app.engine.health.faults();
    let (code, reason) = match store {
        _ if stopping => (StatusCode::SERVICE_UNAVAILABLE, "draining".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Ok(_) if !faults.is_empty() => (StatusCode::SERVICE_UNAVAILABLE, "at fault".to_owned()),
        Ok(_) => (StatusCode::OK, "ready".to_owned()),
    };
    let ready = code == StatusCode::OK;
    if caller.is_none() {
        return (code, Json(json!({ "ready": ready }))).into_response();
    }
    let digest = &app.effective["digest"];
    let mut said = json!({ "ready": ready, "reason": reason, "faults": faults, "configuration": digest });
    if let Some(notice) = app.engine.settings.role.notice() {
        said["role"] = json!(notice);
    }
    (code, Json(said)).into_response()
}

/// What has been counted and measured, as Prometheus reads it.
pub async fn metrics(State(app): State<App>) -> Response {
    app.engine.measure_ourselves();
    ([(header::CONTENT_TYPE, TEXT)], app.engine.telemetry.metrics.text()).into_response()
}

/// Counts requests, and how long their answers took.
pub async fn counted(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let metrics = &app.engine.telemetry.metrics;
    metrics.http_duration.record(began.elapsed().as_secs_f64(), [&route]);
    metrics.http_requests.add(1, [&method, &route, response.status().as_str()]);
    response
}
