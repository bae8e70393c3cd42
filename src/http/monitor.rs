//! The pipeline's monitors under their own paths: what was asked with `curl` and by a scheduler goes on being asked so.
//!
//! Parameters come in the query or as members of a JSON body; `dry_run` counts wherever it stands. Asking changes
//! nothing, but that `/game-coverage-alert` raises its alert where it is not asked dryly; so whoever may only read asks it
//! dryly.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::caller::{self, Caller};
use super::problem::Problem;
use super::{App, requests, rest};
use crate::configuration::Role;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::engine::monitor::Error;
use crate::monitor::Settings;
use crate::monitor::coverage::Mode;

/// Parameters of the query.
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// `/game-coverage-alert`: is every game of a date predicted? Today's where none is named.
pub async fn game_coverage(State(app): State<App>, caller: Caller, parameters: Parameters, body: Body) -> Response {
    let answer = async {
        let asked = Asked::read(&app, parameters, body).await?;
        let mode = if asked.flag("dry_run")? { Mode::Dry } else { Mode::Alert };
        if mode == Mode::Alert && !caller.role.covers(Role::Producer) {
            let why = format!("{}, but for dry_run=true", Problem::from(caller::Refusal::Role(caller.role)).detail);
            let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", why);
            return Err(Refusal::Answered(Box::new(problem.into_response())));
        }
        let key = asked.partition(&app, Day::Today, |monitors| monitors.game_coverage.is_some())?;
        let coverage = app.engine.game_coverage(&key).await?;
        if mode == Mode::Alert {
            app.engine.tell_coverage(&key, &coverage).await?;
        }
        Ok(coverage.answer(mode))
    };
    respond(answer.await)
}

/// `/stale-processor-monitor`: which runs are silent, and which have been given up? Of every pipeline where none is
/// named.
pub async fn silence(State(app): State<App>, parameters: Parameters, body: Body) -> Response {
    let answer = async {
        let asked = Asked::read(&app, parameters, body).await?;
        // Both answers are the same, but what is neither yes nor no is told as elsewhere.
        asked.flag("dry_run")?;
        let pipelines = match asked.text("pipeline")? {
            Some(name) => vec![PipelineId::new(name)],
            None => app.engine.declarations.pipelines.keys().cloned().collect(),
        };
        Ok(app.engine.silence(&pipelines).await?.answer(asked.flag("cleanup")?))
    };
    respond(answer.await)
}

/// `/pipeline-health-summary`: how did a date go? Yesterday's where none is named.
pub async fn health(State(app): State<App>, parameters: Parameters, body: Body) -> Response {
    let answer = async {
        let asked = Asked::read(&app, parameters, body).await?;
        let key = asked.partition(&app, Day::Yesterday, |monitors| !monitors.pipeline_health.is_empty())?;
        Ok(json!(app.engine.pipeline_health(&key).await?))
    };
    respond(answer.await)
}

/// `/roster-coverage`: how new are the rosters for a date? Today's where none is named.
pub async fn rosters(State(app): State<App>, parameters: Parameters, body: Body) -> Response {
    let answer = async {
        let asked = Asked::read(&app, parameters, body).await?;
        let key = asked.partition(&app, Day::Today, |monitors| monitors.roster_coverage.is_some())?;
        Ok(json!(app.engine.roster_coverage(&key).await?))
    };
    respond(answer.await)
}

/// Why there is no answer.
enum Refusal {
    /// The call is wrong.
    Wrong(String),
    /// Nothing is known of it.
    Unknown(String),
    /// It could not be found out.
    Failed(Error),
    /// It is said already.
    Answered(Box<Response>),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NoPipeline(_) | Error::Undeclared(..) => Self::Wrong(error.to_string()),
            Error::NotKept(..) => Self::Unknown(error.to_string()),
            Error::Unanswered(_) | Error::Unreadable(_) | Error::Store(_) | Error::Untold(_) => Self::Failed(error),
        }
    }
}

fn respond(answer: Result<Value, Refusal>) -> Response {
    let (code, why) = match answer {
        Ok(answer) => return Json(answer).into_response(),
        Err(Refusal::Answered(response)) => return *response,
        Err(Refusal::Wrong(why)) => (StatusCode::BAD_REQUEST, why),
        // No fault of ours, and no answer either: whoever asks by a schedule has it fail.
        Err(Refusal::Unknown(why)) => (StatusCode::NOT_FOUND, why),
        Err(Refusal::Failed(error)) => {
            tracing::warn!("a monitor has no answer: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    };
    (code, Json(json!({ "status": "error", "error": why }))).into_response()
}

/// Which date is meant where none is named, in the pipeline's zone.
#[derive(Clone, Copy)]
enum Day {
    Today,
    Yesterday,
}

/// What a call says.
struct Asked {
    query: BTreeMap<String, Vec<String>>,
    body: Map<String, Value>,
}

impl Asked {
    async fn read(app: &App, parameters: Parameters, body: Body) -> Result<Self, Refusal> {
        let Query(given) = parameters.map_err(|error| Refusal::Wrong(error.body_text()))?;
        let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in given {
            query.entry(meant(name)).or_default().push(value);
        }
        let (bytes, _room) = rest::read_within(app, body, requests::BODY_MAX)
            .await
            .map_err(|response| Refusal::Answered(Box::new(response)))?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self { query, body: Map::new() });
        }
        let body = serde_json::from_slice(&bytes)
            .map(|body: Map<String, Value>| body.into_iter().map(|(name, value)| (meant(name), value)).collect());
        let body = body.map_err(|error| Refusal::Wrong(format!("the body is no JSON object: {error}")))?;
        Ok(Self { query, body })
    }

    /// A text, of the query if it stands there.
    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match (self.query.get(name), self.body.get(name)) {
            (Some(texts), _) if texts.iter().any(|text| Some(text) != texts.first()) => {
                Err(Refusal::Wrong(format!("{name} is given more than once")))
            }
            (Some(texts), _) => Ok(texts.first().map(String::as_str)),
            (None, None | Some(Value::Null)) => Ok(None),
            (None, Some(Value::String(text))) => Ok(Some(text)),
            (None, Some(_)) => Err(Refusal::Wrong(format!("{name} is no text"))),
        }
    }

    /// Whether a flag is set, in the query or in the body. What is neither true nor false is refused: a test run that
    /// was taken for a real one because of a spelling would be the worst answer.
    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let wrong = || Refusal::Wrong(format!("{name} is neither true nor false"));
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(wrong()),
        };
        let given = self.query.get(name).into_iter().flatten().map(|text| read(text));
        let in_query = given.collect::<Result<Vec<_>, _>>()?.contains(&true);
        let in_body = match self.body.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(truth)) => *truth,
            Some(Value::Number(number)) => read(&number.to_string())?,
            Some(Value::String(text)) => read(text)?,
            Some(_) => return Err(wrong()),
        };
        Ok(in_query || in_body)
    }

    /// The date that is asked about, of the pipeline that is named or else the only one that `answers`.
    fn partition(&self, app: &App, day: Day, answers: impl Fn(&Settings) -> bool) -> Result<PartitionKey, Refusal> {
        let declared = &app.engine.declarations.pipelines;
        let pipeline = match self.text("pipeline")? {
            Some(name) => PipelineId::new(name),
            None => {
                let mut able = declared.iter().filter(|(_, pipeline)| answers(&pipeline.monitors)).map(|(id, _)| id);
                match (able.next(), able.next()) {
                    (Some(only), None) => only.clone(),
                    (None, _) => return Err(Refusal::Wrong("no pipeline declares this monitor".to_owned())),
                    (Some(_), Some(_)) => {
                        return Err(Refusal::Wrong(
                            "several pipelines have this monitor; name one: pipeline=…".to_owned(),
                        ));
                    }
                }
            }
        };
        let graph = app.engine.graph(&pipeline).ok_or_else(|| Error::NoPipeline(pipeline.clone()))?;
        let today = graph.date_at(app.engine.clock.now());
        let date = match (self.text("date")?, day) {
            (Some(text), _) => date(text)?,
            (None, Day::Today) => today,
            (None, Day::Yesterday) => today.yesterday().unwrap_or(today),
        };
        Ok(PartitionKey { pipeline, date })
    }
}

/// The parameter that a name means: `dry-run` and `dryRun` are `dry_run`.
fn meant(name: String) -> String {
    let plain = name.replace(['-', '_'], "").to_ascii_lowercase();
    if plain == "dryrun" { "dry_run".to_owned() } else { name }
}

fn date(text: &str) -> Result<Date, Refusal> {
    let read = Some(text).filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
    read.ok_or_else(|| Refusal::Wrong(format!("date: `{}` is not YYYY-MM-DD", text.escape_default())))
}
