//! The dead letters, as `tipoff dlq` shows them. Looking changes nothing.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::rest::{invalid, refuse};
use crate::domain::dead_letter::Kind;
use crate::domain::id::{NodeId, PipelineId};
use crate::engine::dead_letter::{Error, Selection, shown};

/// Letters of a page where nobody says how many,
const LIMIT: usize = 50;
/// and at most.
const LIMIT_MAX: usize = 500;
/// Causes that are told.
const GROUPS_MAX: usize = 100;

/// Which letters, and which page of them.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    topic: Option<String>,
    pipeline: Option<PipelineId>,
    node: Option<NodeId>,
    date: Option<Date>,
    cause: Option<String>,
    kind: Option<Kind>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    standing: Option<String>,
    all: bool,
    after: Option<String>,
    limit: Option<usize>,
    /// Whether the causes of all that are meant are told, too; without them no more is read than the page needs.
    groups: Option<bool>,
}

fn failed(error: &Error) -> Response {
    match error {
        Error::NoSuch(_) => refuse(StatusCode::NOT_FOUND, "NOT_FOUND", error.to_string()),
        Error::Several(..) | Error::Refused(..) | Error::Wrong(..) => invalid(error.to_string()),
        Error::Store(_) | Error::Contended(_) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string())
        }
    }
}

/// A page of letters, the latest first, and all that are meant by cause.
pub async fn list(State(app): State<App>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Asked { topic, pipeline, node, date, cause, kind, before, since, standing, all, after, limit, groups } =
        match asked {
            Ok(Query(asked)) => asked,
            Err(error) => return invalid(error.body_text()),
        };
    if standing.as_deref().is_some_and(|word| !matches!(word, "wanted" | "unneeded" | "unclear")) {
        return invalid("`standing` is wanted, unneeded or unclear");
    }
    let ids = Vec::new();
    let selection = Selection { ids, topic, pipeline, node, date, cause, kind, before, since, standing, all };
    let page = (after.as_deref(), limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX));
    let groups = if groups.unwrap_or(true) { GROUPS_MAX } else { 0 };
    match app.engine.dead_letters(&selection, page, groups).await {
        Ok(board) => Json(json!(board)).into_response(),
        Err(error) => failed(&error),
    }
}

/// One letter, with what each of its versions says.
pub async fn letter(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.engine.dead_letter(&id).await {
        Ok(opened) => Json(shown(&opened)).into_response(),
        Err(error) => failed(&error),
    }
}
