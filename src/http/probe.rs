//! Is it alive, has it started, is it ready; and what has it measured?
//!
//! The three probes are asked by a platform that knows no token, so they say a word and no name; whoever may read anything
//! else is told by `/readyz` the reason.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::json;
use tokio::time::Instant;

use super::App;
use super::caller::Caller;
use super::problem::Problem;
use crate::configuration::Role;

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
    if caller.is_none_or(|caller| !caller.role.covers(Role::Viewer)) {
        return (code, Json(json!({ "ready": ready }))).into_response();
    }
    let digest = &app.effective["digest"];
    let mut said = json!({ "ready": ready, "reason": reason, "faults": faults, "configuration": digest });
    if let Some(notice) = app.engine.settings.role.notice() {
        said["role"] = json!(notice);
    }
    (code, Json(said)).into_response()
}

/// What is answered as long as nothing can be served, since what it works on does not answer: alive, neither started nor ready.
pub fn not_begun() -> Router {
    Router::new()
        .route("/healthz", get("ok\n"))
        .route("/startupz", get((StatusCode::SERVICE_UNAVAILABLE, "starting\n")))
        .route("/readyz", get((StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false })))))
        .fallback(async || Problem::unavailable("what the service works on does not answer yet; its log says what"))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use tokio::sync::{Semaphore, watch};
    use tower::ServiceExt as _;

    use super::*;
    use crate::adapter::embedded::{Durability, Embedded};
    use crate::clock::Clock;
    use crate::engine::beat::{Beats, STUCK_AFTER, VITAL};
    use crate::engine::run::Inbox;
    use crate::engine::{Engine, Settings};
    use crate::http::caller::Callers;
    use crate::http::guard::Guard;
    use crate::http::{self, Mode, Screen};
    use crate::wire::kept::Text;

    #[tokio::test]
    async fn a_loop_that_stands_has_the_service_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let embedded = Arc::new(Embedded::open(folder.path(), Durability::Off).unwrap());
        let declarations = Arc::new(crate::pipeline::shipped().unwrap());
        let bus = Arc::new(embedded.bus(Arc::new(declarations.topology.clone())));
        let (store, warehouse) = (embedded.clone(), embedded);
        let mut engine = Engine::new(declarations, store, bus, warehouse, Clock::System, Settings::default());
        let long_ago = Instant::now().checked_sub(STUCK_AFTER + Duration::from_secs(1)).unwrap();
        engine.beats = Beats::begun(long_ago);
        let file = || Text { file: String::new(), text: String::new() };
        let engine = Arc::new(engine);
        let app = App {
            engine: engine.clone(),
            inbox: Inbox::closed(),
            local: None,
            effective: Arc::default(),
            settings: None,
            declared: Arc::new((file(), file())),
            guard: Arc::new(Guard::new(Callers::local(), None)),
            retold: Arc::default(),
            room: Arc::new(Semaphore::new(0)),
            screen: Arc::new(Screen::new(Mode::Serving, Duration::from_secs(1))),
            stopping: watch::channel(false).1,
            reload: None,
        };
        let router = http::router(app);
        let health = async || {
            let asked = Request::get("/healthz").header("host", "localhost").body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(asked).await.unwrap();
            let code = answer.status().as_u16();
            (code, String::from_utf8(to_bytes(answer.into_body(), 100).await.unwrap().to_vec()).unwrap())
        };
        let (well, stuck) = ((200, "ok\n".to_owned()), (503, "stuck\n".to_owned()));
        assert_eq!(health().await, stuck, "nothing has ever moved");
        VITAL.into_iter().for_each(|name| engine.beats.moves(name));
        assert_eq!(health().await, well);
        engine.beats.moves_at("relay", long_ago);
        assert_eq!(health().await, stuck, "one of them stands");
    }
}
