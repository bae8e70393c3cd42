//! The dead letters, as `tipoff dlq` shows them. Looking changes nothing.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Json;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::problem::Problem;
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

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSuch(_) => Self::unknown(error.to_string()),
            Error::Several(..) | Error::Refused(..) | Error::Wrong(..) => Self::invalid(error.to_string()),
            Error::Store(_) | Error::Contended(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// A page of letters, the latest first, and all that are meant by cause.
pub async fn list(State(app): State<App>, asked: Result<Query<Asked>, QueryRejection>) -> Result<Json<Value>, Problem> {
    let Query(asked) = asked?;
    let Asked { topic, pipeline, node, date, cause, kind, before, since, standing, all, after, limit, groups } = asked;
    if standing.as_deref().is_some_and(|word| !matches!(word, "wanted" | "unneeded" | "unclear")) {
        return Err(Problem::invalid("`standing` is wanted, unneeded or unclear"));
    }
    if limit.is_some_and(|limit| !(1..=LIMIT_MAX).contains(&limit)) {
        return Err(Problem::invalid(format!("`limit` is 1 to {LIMIT_MAX}")));
    }
    let ids = Vec::new();
    let selection = Selection { ids, topic, pipeline, node, date, cause, kind, before, since, standing, all };
    let page = (after.as_deref(), limit.unwrap_or(LIMIT));
    let groups = if groups.unwrap_or(true) { GROUPS_MAX } else { 0 };
    Ok(Json(json!(app.engine.dead_letters(&selection, page, groups).await?)))
}

/// One letter, with what each of its versions says.
pub async fn letter(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Result<Json<Value>, Problem> {
    let Path(id) = id?;
    Ok(Json(shown(&app.engine.dead_letter(&id).await?)))
}
