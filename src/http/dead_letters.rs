//! The dead letters, as `tipoff dlq` shows them, and what is to become of them. Looking changes nothing.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Incoming;
use super::problem::Problem;
use super::{App, requests};
use crate::desk::ask;
use crate::desk::letters::{self, Correcting, Discarding, Refusal, Replaying, Wanted};
use crate::domain::dead_letter::Kind;
use crate::engine::dead_letter::{Error, Selection, shown};
use crate::port::is_place;

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
    pipeline: Option<String>,
    node: Option<String>,
    date: Option<String>,
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
            Error::Several(..) | Error::Wrong(..) => Self::invalid(error.to_string()),
            Error::Refused(..) | Error::Shadow => Self::new(StatusCode::CONFLICT, "state", error.to_string()),
            Error::Store(_) | Error::Contended(_) => Self::unavailable(error.to_string()),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ask(refusal) => refusal.into(),
            Refusal::Words(error) => ask::Refusal::from(error).into(),
            Refusal::Ledger(error) => error.into(),
            Refusal::NoTopic(..) => Self::unknown(refusal.to_string()),
            Refusal::Standing
            | Refusal::Unsaid
            | Refusal::Both
            | Refusal::NotOne
            | Refusal::NoLimit
            | Refusal::NoReason => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", refusal.to_string()),
        }
    }
}

/// A page of letters, the latest first, and all that are meant by cause.
pub async fn list(State(app): State<App>, asked: Result<Query<Asked>, QueryRejection>) -> Result<Json<Value>, Problem> {
    let Query(asked) = asked?;
    let Asked { topic, pipeline, node, date, cause, kind, before, since, standing, all, after, limit, groups } = asked;
    if limit.is_some_and(|limit| !(1..=LIMIT_MAX).contains(&limit)) {
        return Err(Problem::invalid(format!("`limit` is 1 to {LIMIT_MAX}")));
    }
    if after.as_deref().is_some_and(|after| !is_place(after)) {
        return Err(Problem::invalid("`after` is the `next` of the page before".to_owned()));
    }
    let ids = Vec::new();
    let wanted = Wanted { ids, topic, pipeline, node, date, cause, kind, before, since, standing, every: false };
    let selection = wanted.selection(&app.engine.declarations, app.engine.clock.now())?;
    let selection = Selection { all, ..selection };
    let page = (after.as_deref(), limit.unwrap_or(LIMIT));
    let groups = if groups.unwrap_or(true) { GROUPS_MAX } else { 0 };
    Ok(Json(json!(app.engine.dead_letters(&selection, page, groups).await?)))
}

/// One letter, with what each of its versions says.
pub async fn letter(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Result<Json<Value>, Problem> {
    let Path(id) = id?;
    Ok(Json(shown(&app.engine.dead_letter(&id).await?)))
}

/// `POST /v1/dead-letters/replay`: what a replay would come to, or with `apply` what it has. One call does so much of it;
/// `left` says how many letters are meant for the next.
pub async fn replay(State(app): State<App>, incoming: Incoming) -> Result<Response, Problem> {
    let (asked, written) = requests::taken::<Replaying>(incoming, requests::LETTER_MAX).await?;
    if !asked.apply {
        written.key()?;
        return Ok(Json(letters::plan(&app.engine, &asked).await?).into_response());
    }
    let act = async |at, _| Ok(json!(letters::replay(&app.engine, &asked, at).await?));
    requests::keyed(&app, &written, act).await
}

/// `POST /v1/dead-letters/discard`: which letters would be discarded, or with `apply` which were.
pub async fn discard(State(app): State<App>, incoming: Incoming) -> Result<Response, Problem> {
    let (asked, written) = requests::taken::<Discarding>(incoming, requests::BODY_MAX).await?;
    if !asked.apply {
        written.key()?;
        return Ok(Json(letters::discard(&app.engine, &asked).await?).into_response());
    }
    let act = async |_, _| Ok(json!(letters::discard(&app.engine, &asked).await?));
    requests::keyed(&app, &written, act).await
}

/// `POST /v1/dead-letters/{id}/correct`: has a letter say something else from now on; what it said is kept.
pub async fn correct(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let Path(id) = id?;
    let (asked, written) = requests::taken::<Correcting>(incoming, requests::LETTER_MAX).await?;
    let (actor, reason) = ask::words(&asked.actor, &asked.reason)?;
    let act = async |_, _| {
        let data = asked.with.clone().into_bytes();
        Ok(json!(app.engine.correct(&id, data, (&actor, &reason)).await?))
    };
    requests::keyed(&app, &written, act).await
}
