//! The HTTP face: push envelopes and, on the embedded default, Pub/Sub's REST calls; the pipeline's monitors; the API of
//! operators under `/v1`, with its description; the pages; health.
//!
//! A response is the settlement of a message: 2xx is an acknowledgement and is given only after the commit; 503 hands it back.
//! Binds to loopback unless it is configured who may call; a request from another site's page is refused either way. Every
//! route says whose role it is for.

pub mod api;
pub mod audit;
pub mod caller;
pub mod dead_letters;
pub mod events;
pub mod guard;
pub mod kept;
pub mod monitor;
pub mod pages;
pub mod probe;
pub mod problem;
pub mod reload;
pub mod requests;
pub mod rest;
pub mod retold;
pub mod routes;
pub mod server;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Json;
use axum::{Extension, Router};
use serde_json::Value;

use crate::adapter::embedded::{Embedded, EmbeddedBus};
use crate::configuration::Role;
use crate::desk::course::Courses;
use crate::desk::season::Seasons;
use crate::engine::Engine;
use crate::engine::run::Inbox;
use crate::wire::kept::Text;
use events::Feed;
use routes::{Needs, Routes};

/// The largest body taken: Pub/Sub's 10 MB of data, as base64 inside an envelope.
pub const BODY_MAX: usize = 16 * 1024 * 1024;
/// A client that takes longer than this to send its body is cut off.
const BODY_WITHIN: Duration = Duration::from_secs(30);

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
    /// What `tipoff.yaml` says, without secrets; nothing in a recorded day.
    pub settings: Option<Arc<Value>>,
    /// Both declarations as they were read: of the topics, and of the pipelines.
    pub declared: Arc<(Text, Text)>,
    /// Who may call.
    pub guard: Arc<guard::Guard>,
    /// Publish calls that failed and will be told again.
    pub retold: Arc<retold::Retold>,
    /// Bodies in memory, in kilobytes.
    pub room: Arc<tokio::sync::Semaphore>,
    /// What is shown to operators, and to whom.
    pub screen: Arc<Screen>,
    /// Where a change of the declarations is asked for; nowhere in a recorded day.
    pub reload: Option<tokio::sync::mpsc::Sender<reload::Reload>>,
    /// Turns true when the service is going down.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

/// What the API and the pages remember between calls.
#[derive(Debug)]
pub struct Screen {
    /// Whether anything may be changed.
    pub mode: Mode,
    /// Who is told what is decided.
    pub feed: Feed,
    /// Dates over time.
    pub courses: Courses,
    /// Dates that are over.
    pub seasons: Seasons,
}

/// Whether operators can change anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// They can.
    Serving,
    /// A recorded day is shown; nobody can change what has happened.
    Recording,
}

impl Screen {
    /// Looks every so often for what has been decided, while anybody is told of it.
    pub fn new(mode: Mode, every: Duration) -> Self {
        Self { mode, feed: Feed::new(every), courses: Courses::default(), seasons: Seasons::default() }
    }
}

/// What the embedded backend serves over HTTP because nobody else does.
#[derive(Clone)]
pub struct Local {
    /// The broker in the same file.
    pub bus: EmbeddedBus,
    /// The warehouse in the same file.
    pub embedded: Arc<Embedded>,
}

/// Bodies in memory at once, with what is read of them, in kilobytes: three of the longest, where they have few parts.
pub const ROOM_KB: usize = (3 * 2 * BODY_MAX) / 1024 + 64;

/// What operators read.
fn reading() -> Routes {
    Routes::of(Needs::Role(Role::Viewer))
        .get("/openapi.json", api::openapi)
        .get("/metrics", probe::metrics)
        .get("/v1/config", effective)
        .get("/v1/declarations", kept::declarations)
        .post("/v1/kept", kept::kept)
        .get("/v1/pipelines", api::pipelines)
        .get("/v1/pipelines/{pipeline}/dates", api::dates)
        .get("/v1/pipelines/{pipeline}/dates/{date}", api::status)
        .get("/v1/pipelines/{pipeline}/dates/{date}/nodes/{node}", api::why)
        .get("/v1/pipelines/{pipeline}/dates/{date}/timeline", api::timeline)
        .get("/v1/pipelines/{pipeline}/dates/{date}/games", api::games)
        .get("/v1/pipelines/{pipeline}/graph", api::graph)
        .get("/v1/pipelines/{pipeline}/runs", api::runs)
        .get("/v1/pipelines/{pipeline}/calendar", api::calendar)
        .get("/v1/pipelines/{pipeline}/gaps", api::gaps)
        .get("/v1/pipelines/{pipeline}/plans", api::plans)
        .get("/v1/pipelines/{pipeline}/plans/{plan}", api::plan)
        .get("/v1/stops", api::stops)
        .get("/v1/alerts", api::alerts)
        .get("/v1/breakers", api::breakers)
        .get("/v1/dead-letters", dead_letters::list)
        .get("/v1/dead-letters/{id}", dead_letters::letter)
        .get("/v1/parked", api::parked)
        .get("/v1/undeliverable", api::undeliverable)
        .get("/v1/events", events::stream)
}

/// What operators ask for.
fn asking() -> Routes {
    Routes::of(Needs::Role(Role::Operator))
        .post("/v1/pipelines/{pipeline}/dates/{date}/requests", requests::ask)
        .post("/v1/pipelines/{pipeline}/dates/{date}/preview", requests::preview)
        .post("/v1/pipelines/{pipeline}/dates/{date}/reconcile", requests::reconcile)
        .post("/v1/pipelines/{pipeline}/plans", requests::plan)
        .post("/v1/pipelines/{pipeline}/hold", requests::hold)
        .post("/v1/pipelines/{pipeline}/resume", requests::resume)
        .post("/v1/pipelines/{pipeline}/plans/{plan}/run", requests::run_plan)
        .post("/v1/pipelines/{pipeline}/plans/{plan}/cancel", requests::cancel_plan)
        .post("/v1/dead-letters/replay", dead_letters::replay)
        .post("/v1/dead-letters/discard", dead_letters::discard)
        .post("/v1/dead-letters/{id}/correct", dead_letters::correct)
        .post("/v1/alerts/mute", requests::mute)
        .post("/v1/alerts/unmute", requests::unmute)
}

/// What administrators ask for.
fn administering() -> Routes {
    Routes::of(Needs::Role(Role::Admin)).post("/v1/reload", reload::reload)
}

/// A real broker's envelopes.
fn pushing() -> Routes {
    Routes::of(Needs::Pusher).post("/push", rest::push)
}

/// Whether we live, and whether we are ready.
fn probing() -> Routes {
    let told = Routes::of(Needs::Anybody).get("/readyz", probe::ready);
    Routes::of(Needs::Nobody).get("/healthz", probe::alive).get("/startupz", probe::started).merge(told)
}

/// The monitors under their old paths, as schedulers ask them, and people who only want to know.
fn monitoring() -> Routes {
    Routes::of(Needs::Asker)
        .get("/game-coverage-alert", monitor::game_coverage)
        .post("/game-coverage-alert", monitor::game_coverage)
        .get("/stale-processor-monitor", monitor::silence)
        .post("/stale-processor-monitor", monitor::silence)
        .get("/pipeline-health-summary", monitor::health)
        .post("/pipeline-health-summary", monitor::health)
        .get("/roster-coverage", monitor::rosters)
        .post("/roster-coverage", monitor::rosters)
}

/// The broker's own calls, where the broker is ours, and what its warehouse is told.
fn brokering() -> Routes {
    Routes::of(Needs::Role(Role::Producer))
        .post("/v1/projects/{project}/topics/{call}", rest::topic)
        .post("/v1/projects/{project}/subscriptions/{call}", rest::subscription)
        .post("/v1/coverage", rest::coverage)
        .post("/v1/reports", rest::report)
}

/// Every route that there can be.
pub fn routes(local: Option<&Local>) -> Routes {
    serving(local).merge(pushing())
}

fn serving(local: Option<&Local>) -> Routes {
    let all = showing().merge(monitoring());
    match local {
        Some(local) => all.merge(brokering().map(|router| router.layer(Extension(local.clone())))),
        None => all,
    }
}

/// What operators see and ask for.
fn showing() -> Routes {
    reading().merge(asking()).merge(administering()).merge(pages::routes()).merge(probing())
}

/// The whole service.
pub fn router(app: App) -> Router {
    let routes = serving(app.local.as_ref());
    let pushed = app.guard.callers().takes_pushes();
    guarded(if pushed { routes.merge(pushing()) } else { routes }, app)
}

/// What operators see, and no way in for anything: a recorded day.
pub fn recording(app: App) -> Router {
    guarded(showing(), app)
}

fn guarded(routes: Routes, app: App) -> Router {
    let (router, table) = routes.parts();
    router
        .fallback(api::missing)
        .method_not_allowed_fallback(api::not_so)
        .layer(axum::middleware::from_fn_with_state((app.clone(), Arc::new(table)), guard::check))
        .layer(axum::middleware::from_fn_with_state(app.clone(), probe::counted))
        .with_state(app)
}

/// What this process runs on.
async fn effective(State(app): State<App>) -> Json<Value> {
    Json(Value::clone(&app.effective))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is not described, since its shape is another's: Pub/Sub's calls, the monitors, what a warehouse is told; and pages.
    fn is_described(path: &str) -> bool {
        path.starts_with("/v1/") || path == "/openapi.json"
    }

    #[test]
    fn every_route_is_described_and_everything_described_is_a_route() {
        let routed: BTreeSet<(String, String)> = routes(None)
            .listed()
            .iter()
            .filter(|route| is_described(route.path))
            .map(|route| (route.method.as_str().to_lowercase(), route.path.to_owned()))
            .collect();
        let paths = api::document()["paths"].as_object().expect("paths");
        let methods = |(path, described): (&String, &Value)| -> Vec<(String, String)> {
            let keys = described.as_object().into_iter().flatten().map(|(key, _)| key.clone());
            keys.filter(|key| key != "parameters").map(|key| (key, path.clone())).collect()
        };
        let described: BTreeSet<(String, String)> = paths.iter().flat_map(methods).collect();
        assert!(described.len() > 20, "{described:?}");
        assert_eq!(routed, described);
        // Whatever a demo shows has the same description.
        let reading = reading().merge(asking()).merge(administering());
        let shown = reading.listed().iter().filter(|route| is_described(route.path)).count();
        assert_eq!(shown, described.len());
    }

    #[test]
    fn every_operation_has_its_own_name_and_says_what_goes_wrong() {
        let mut names = BTreeSet::new();
        for (path, described) in api::document()["paths"].as_object().expect("paths") {
            for (method, operation) in
                described.as_object().into_iter().flatten().filter(|(key, _)| *key != "parameters")
            {
                let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no name"));
                assert!(names.insert(name.to_owned()), "{name} is the name of two");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
            }
        }
    }
}
