//! The declarations are read again. Whoever runs the loops does it; here it is asked for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::caller::{Credentials, Incoming};
use super::problem::Problem;
use super::requests::Spoken;
use super::{App, requests};
use crate::desk::ask;

/// Somebody wants the declarations read again.
#[derive(Debug)]
pub struct Reload {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Whether they are applied though something that is known would be lost.
    pub accept: bool,
    /// How it is known who asks: whoever may ask now has to be able to ask afterwards.
    pub by: Credentials,
    /// Where it is told what came of it.
    pub answer: oneshot::Sender<Result<Value, Why>>,
}

/// Why the declarations stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The files are wrong.
    #[error("{0}")]
    Wrong(String),
    /// It is set once for the life of the process.
    #[error("`{0}` is set when the service starts: start it anew")]
    Fixed(&'static str),
    /// Facts would lose their node, or something would stand in the way of what nothing stands in the way of.
    #[error(
        "it would take something away from dates in flight: `tipoff plan` says what, and --accept applies it all the same"
    )]
    TakesAway(Value),
    /// Whoever asks could not ask again.
    #[error(
        "it would take away your own right to ask for it: let an administrator do it who keeps theirs, or send SIGHUP"
    )]
    LocksOut,
    /// They are sound, and cannot be served: a store, a broker or an address does not answer.
    #[error("they cannot be served, and those before go on: {0}")]
    Unserved(String),
    /// What it would do cannot be told now.
    #[error("what it would do cannot be told now: {0}")]
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    accept: bool,
    actor: String,
    reason: String,
}

impl Spoken for Asked {
    fn actor(&mut self) -> Option<&mut String> {
        Some(&mut self.actor)
    }
}

/// `POST /v1/reload`: reads the files again, and applies what they say where nothing is lost by it.
pub async fn reload(State(app): State<App>, incoming: Incoming) -> Result<Response, Problem> {
    let by = Credentials::of(&incoming.headers);
    let (asked, _) = requests::taken::<Asked>(incoming, requests::BODY_MAX).await?;
    let Some(reload) = &app.reload else {
        return Err(Problem::new(StatusCode::CONFLICT, "recording", "a recorded day has what it was recorded with"));
    };
    let (actor, reason) = ask::words(&asked.actor, &asked.reason)?;
    let (answer, told) = oneshot::channel();
    let asked = Reload { actor: actor.to_string(), reason: reason.to_string(), accept: asked.accept, by, answer };
    let gone = || Problem::unavailable("the service is going down");
    reload.send(asked).await.map_err(|_| gone())?;
    match told.await.map_err(|_| gone())? {
        Ok(told) => Ok(Json(told).into_response()),
        Err(why @ (Why::Unknown(_) | Why::Unserved(_))) => Err(Problem::unavailable(why.to_string())),
        Err(why @ (Why::TakesAway(_) | Why::Fixed(_) | Why::LocksOut)) => {
            Err(Problem::new(StatusCode::CONFLICT, "state", why.to_string()))
        }
        Err(why @ Why::Wrong(_)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", why.to_string())),
    }
}
