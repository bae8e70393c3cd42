//! The alerts that are on, with what people were told of them, and mutes.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::rest::{invalid, read_within, refuse};
use crate::domain::notify::{Mute, Muted};
use crate::domain::time::after;
use crate::engine::notify::Error;

/// The longest request: a key, a reason and a name, all of them with bounds far below.
const BODY_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteBody {
    what: Muted,
    r#for: String,
    reason: String,
    actor: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnmuteBody {
    what: Muted,
    actor: String,
}

fn failed(error: Error) -> Response {
    match error {
        Error::Mute(error) => invalid(error.to_string()),
        Error::Store(_) | Error::Alerts(_) | Error::Contended => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string())
        }
    }
}

/// What is on, what people were told of it, how the channels stand, and the mutes that hold.
pub async fn board(State(app): State<App>) -> Response {
    match app.engine.board().await {
        Ok(board) => Json(json!(board)).into_response(),
        Err(error) => failed(error),
    }
}

/// Mutes something: `{what: {key} or {topic}, for: "4h", reason, actor}`.
pub async fn mute(State(app): State<App>, body: Body) -> Response {
    let (bytes, _room) = match read_within(&app, body, BODY_MAX).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let body: MuteBody = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(error) => return invalid(error.to_string()),
    };
    let span = match crate::topology::duration(&body.r#for) {
        Ok(span) => SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX),
        Err(error) => return invalid(format!("for: {error}")),
    };
    let from = app.engine.clock.now();
    let (what, actor, reason) = (body.what, body.actor, body.reason);
    let mute = Mute { what, from, until: after(from, span), actor, reason, ended_by: None };
    match app.engine.mute(&mute).await {
        Ok(muting) => Json(json!(muting)).into_response(),
        Err(error) => failed(error),
    }
}

/// Ends every mute of exactly that: `{what, actor}`.
pub async fn unmute(State(app): State<App>, body: Body) -> Response {
    let (bytes, _room) = match read_within(&app, body, BODY_MAX).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let body: UnmuteBody = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(error) => return invalid(error.to_string()),
    };
    match app.engine.unmute(&body.what, &body.actor).await {
        Ok(ended) => Json(json!({ "ended": ended })).into_response(),
        Err(error) => failed(error),
    }
}
