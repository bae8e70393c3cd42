//! What the service keeps and what it decides on, as it is: for a command line that reads it from elsewhere.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Json;
use serde::Serialize;
use serde_json::Value;

use super::App;
use super::api::{self, Nothing, parameters};
use super::caller::{Caller, Incoming};
use super::problem::Problem;
use super::requests::{self, Spoken};
use crate::configuration::Role;
use crate::wire::kept::{Declared, LIMIT_MAX, Question, Told};

/// `/v1/declarations`
pub async fn declarations(State(app): State<App>, caller: Caller, uri: Uri) -> Result<Json<Declared>, Problem> {
    let Nothing {} = parameters(&uri)?;
    let settings = app.settings.as_deref().filter(|_| caller.role == Role::Admin).cloned();
    let (topics, pipelines) = Clone::clone(&*app.declared);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Json(Declared { version, now: app.engine.clock.now(), topics, pipelines, settings }))
}

/// An answer as JSON. What cannot be written so is at fault on our side.
fn told<T: Serialize, E: Serialize>(result: Result<T, E>) -> Result<Json<Value>, Problem> {
    let value = serde_json::to_value(Told::from(result));
    value.map(Json).map_err(|error| Problem::unavailable(format!("write the answer: {error}")))
}

impl Spoken for Question {}

/// `POST /v1/kept`: one call of a port. It changes nothing.
pub async fn kept(State(app): State<App>, incoming: Incoming) -> Result<Json<Value>, Problem> {
    let (question, _) = requests::taken::<Question>(incoming, requests::BODY_MAX).await?;
    let (store, bus, warehouse) = (&app.engine.store, &app.engine.bus, &app.engine.warehouse);
    let within = |limit: usize| limit.clamp(1, LIMIT_MAX);
    if let Some(asked) = question.pipeline() {
        api::pipeline(&app, asked.as_str())?;
    }
    match question {
        Question::Partition { key } => told(store.load(&key).await),
        Question::Due { at, limit } => told(store.due(at, within(limit)).await),
        Question::NextWake => told(store.next_wake().await),
        Question::Outbox { at, limit } => told(store.outbox(at, within(limit)).await),
        Question::Undeliverable { limit } => told(store.undeliverable(within(limit)).await),
        Question::Parked { limit } => told(store.parked(within(limit)).await),
        Question::Journal { key, after, limit } => told(store.journal(key.as_ref(), after, within(limit)).await),
        Question::Dates { pipeline, limit } => told(store.dates(&pipeline, within(limit)).await),
        Question::Plans { pipeline } => told(store.plans(&pipeline).await),
        Question::Marked => told(store.marked().await),
        Question::Document { name } => told(store.document(&name).await),
        Question::Letter { id } => told(store.letter(&id).await),
        Question::LetterContent { id, version } => told(store.letter_content(&id, version).await),
        Question::Letters { which, place, limit } => told(store.letters(which, place.as_deref(), within(limit)).await),
        Question::Exported => told(store.exported().await),
        Question::Alerts => told(bus.alerts().await),
        Question::AlertOf { key } => told(bus.alert_of(&key).await),
        Question::Coverage { pipeline, node, date, at } => {
            told(Ok::<_, ()>(warehouse.coverage(&pipeline, &node, date, at).await))
        }
        Question::Check { pipeline, node, check, date, at } => {
            told(Ok::<_, ()>(warehouse.check(&pipeline, &node, &check, date, at).await))
        }
        Question::Report { pipeline, report, date, at } => {
            told(Ok::<_, ()>(warehouse.report(&pipeline, report, date, at).await))
        }
    }
}
