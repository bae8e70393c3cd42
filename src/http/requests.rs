//! The writing half of `/v1`: what an operator asks for. JSON only, so that no form of another site can ask; every call has a
//! reason, and under an `Idempotency-Key` it is carried out once.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::api::{self, Named, Nothing, parameters};
use super::caller::{Caller, Incoming};
use super::problem::Problem;
use super::{App, BODY_WITHIN, Mode};
use crate::desk::ask::{self, Wish};
use crate::desk::letters::{Correcting, Discarding, Replaying};
use crate::domain::backfill::{Said, Status};
use crate::domain::event::{Command, Event, Request};
use crate::domain::id::{PartitionKey, PipelineId, PlanId, RequestId};
use crate::domain::notify::{Mute, Muted};
use crate::domain::once::{ANSWER_MAX, Entered};
use crate::domain::partition::Recorded;
use crate::domain::stop::Stop;
use crate::domain::time::after;
use crate::domain::words;
use crate::engine::backfill::Turned;
use crate::engine::notify::Muting;
use crate::wire::letter;

/// The largest body of a request; it is a few words.
pub const BODY_MAX: usize = 64 * 1024;
/// The largest body of one that says what a letter is to say: every byte may be escaped.
pub const LETTER_MAX: usize = BODY_MAX + 6 * letter::BODY_MAX;
/// Dates that one call plans for at most: a dozen seasons.
const PLAN_DAYS_MAX: i32 = 4_400;
/// Characters of an idempotency key.
const KEY_MAX: usize = 200;
/// The header that names a call.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What is asked for.
pub trait Spoken {
    /// Who asks, as they call themselves; nobody, where that is not said.
    fn actor(&mut self) -> Option<&mut String> {
        None
    }
}

/// A call that has been read, as it came.
pub struct Written {
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    bytes: Vec<u8>,
}

/// A call that has been read and entered.
struct Call<T> {
    body: T,
    /// As of when it is carried out.
    at: Timestamp,
    /// Under which it is kept, and the name of the request that it makes.
    key: Option<(String, RequestId)>,
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// A body of JSON of at most `most` bytes, within a bound of time.
async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let why = "the body is application/json; say so in content-type";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", why));
    }
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => {
            let why = format!("the body could not be read, or has more than {most} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", why))
        }
        Err(_) => Err(Problem::slow()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

/// Carries a call out, once under one key.
async fn once<T: DeserializeOwned + Spoken>(
    app: &App,
    incoming: Incoming,
    act: impl AsyncFnOnce(Call<T>) -> Result<Value, Problem>,
) -> Result<Response, Problem> {
    let (body, written) = taken::<T>(incoming, BODY_MAX).await?;
    keyed(app, &written, async |at, key| act(Call { body, at, key }).await).await
}

/// What a call asks for in at most `most` bytes, with who asks as far as that is known, and the call as it came.
pub async fn taken<T: DeserializeOwned + Spoken>(incoming: Incoming, most: usize) -> Result<(T, Written), Problem> {
    let Incoming { caller, headers, uri, body } = incoming;
    let Nothing {} = parameters(&uri)?;
    let bytes = read(&headers, body, most).await?;
    let mut asked = parse::<T>(&bytes)?;
    if let Some(actor) = asked.actor() {
        *actor = caller.actor(actor);
    }
    Ok((asked, Written { caller, headers, uri, bytes }))
}

impl Written {
    /// The key of its headers, where they have one.
    ///
    /// # Errors
    /// If it is none.
    pub fn key(&self) -> Result<Option<&str>, Problem> {
        let Some(given) = self.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let is_sound =
            |key: &&str| !key.is_empty() && key.len() <= KEY_MAX && key.bytes().all(|byte| byte.is_ascii_graphic());
        match given.to_str().ok().filter(is_sound) {
            Some(given) => Ok(Some(given)),
            None => Err(Problem::invalid(format!("Idempotency-Key has 1 to {KEY_MAX} visible ASCII characters"))),
        }
    }
}

/// Carries out what was asked for, once under the key of the call, where it has one. Another caller's key is another key.
pub async fn keyed(
    app: &App,
    written: &Written,
    act: impl AsyncFnOnce(Timestamp, Option<(String, RequestId)>) -> Result<Value, Problem>,
) -> Result<Response, Problem> {
    changeable(app)?;
    let Some(given) = written.key()? else {
        return Ok(Json(act(app.engine.clock.now(), None).await?).into_response());
    };
    let key = digest(&[written.caller.name.as_bytes(), given.as_bytes()]);
    let content = digest(&[written.uri.path().as_bytes(), &written.bytes]);
    Ok(match under(app, key, content, act).await? {
        Carried::Out(answer) => Json(answer).into_response(),
        Carried::Before(code, body) => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (code, kind, [("idempotent-replayed", "true")], body).into_response()
        }
    })
}

/// Carries out what a form of ours asks for, once however often the form is sent.
pub async fn once_of_form(
    app: &App,
    form: uuid::Uuid,
    content: &str,
    act: impl AsyncFnOnce(Timestamp) -> Result<Value, Problem>,
) -> Result<Value, Problem> {
    changeable(app)?;
    let key = digest(&[b"form", form.as_bytes()]);
    let content = digest(&[content.as_bytes()]);
    Ok(match under(app, key, content, async |at, _| act(at).await).await? {
        Carried::Out(answer) => answer,
        Carried::Before(_, body) => serde_json::from_str(&body).unwrap_or_default(),
    })
}

fn changeable(app: &App) -> Result<(), Problem> {
    if app.screen.mode == Mode::Recording {
        let why = "this is a recorded day: nothing can be changed in it";
        return Err(Problem::new(StatusCode::CONFLICT, "recording", why));
    }
    Ok(())
}

/// What became of a call under a key.
enum Carried {
    Out(Value),
    /// It was before, with this code and answer.
    Before(u16, String),
}

async fn under(
    app: &App,
    key: String,
    content: String,
    act: impl AsyncFnOnce(Timestamp, Option<(String, RequestId)>) -> Result<Value, Problem>,
) -> Result<Carried, Problem> {
    let request = RequestId::new(format!("api-{}", &digest(&[key.as_bytes(), content.as_bytes()])[..32]));
    let at = match app.engine.enter(&key, &content, app.engine.clock.now()).await? {
        Entered::New(at) => at,
        Entered::Answered(code, body) => return Ok(Carried::Before(code, body)),
        Entered::Other => {
            let why = "this Idempotency-Key was given to another request; take a new one";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", why));
        }
        Entered::UnderWay => {
            let why = "the same request is being carried out; ask again in a moment";
            return Err(Problem::new(StatusCode::CONFLICT, "under-way", why));
        }
    };
    let done = act(at, Some((key.clone(), request))).await;
    let kept = done.as_ref().ok().map(|answer| (StatusCode::OK.as_u16(), brief(answer)));
    if let Err(error) = app.engine.answered(&key, kept).await {
        // The same call made again is the same request, so that nothing is done twice.
        tracing::warn!("an answer is not kept: {error}");
    }
    Ok(Carried::Out(done?))
}

/// An answer as it is kept: one that is too long without what it lists.
fn brief(answer: &Value) -> String {
    let whole = answer.to_string();
    match answer.as_object() {
        Some(members) if whole.len() > ANSWER_MAX => {
            let without = |(name, value): (&String, &Value)| {
                (name.clone(), if value.is_array() { json!([]) } else { value.clone() })
            };
            Value::Object(members.iter().map(without).collect()).to_string()
        }
        _ => whole,
    }
}

/// `POST /v1/pipelines/{pipeline}/dates/{date}/requests`: asks it.
pub async fn ask(
    State(app): State<App>,
    named: Named<(String, String)>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let Path((name, word)) = named?;
    let (key, graph) = api::partition(&app, &name, &word)?;
    once::<Wish>(&app, incoming, async |call| {
        let request = call.body.request(graph, key.date, call.at, call.key.map(|(_, id)| id))?;
        let recorded = carry_out(&app, &key, &request).await?;
        Ok(json!({ "partition": key, "request": request, "recorded": recorded }))
    })
    .await
}

/// Asks for it. One that was taken in before, under the same name, is applied.
pub async fn carry_out(app: &App, key: &PartitionKey, request: &Request) -> Result<Recorded, Problem> {
    fits(app, key, request).await?;
    let stepped = app.engine.step(key, &[Event::Requested(request.clone())]).await?;
    let recorded = stepped.recorded.first().copied().unwrap_or(Recorded::Rejected);
    Ok(if recorded == Recorded::Duplicate { Recorded::Applied } else { recorded })
}

/// `POST /v1/pipelines/{pipeline}/dates/{date}/preview`: what asking it would do.
pub async fn preview(
    State(app): State<App>,
    named: Named<(String, String)>,
    incoming: Incoming,
) -> Result<Json<Value>, Problem> {
    let Path((name, word)) = named?;
    let (key, graph) = api::partition(&app, &name, &word)?;
    let (wish, _) = taken::<Wish>(incoming, BODY_MAX).await?;
    let request = wish.request(graph, key.date, app.engine.clock.now(), None)?;
    fits(&app, &key, &request).await?;
    Ok(Json(json!(app.engine.foresee(&key, &request).await?)))
}

/// What only the date itself can tell of a request.
async fn fits(app: &App, key: &PartitionKey, request: &Request) -> Result<(), Problem> {
    if matches!(request.command, Command::Override { .. }) {
        ask::fits(&app.engine.store.load(key).await?.partition, request)?;
    }
    Ok(())
}

/// Bodies that say who asks.
macro_rules! spoken {
    ($($body:ty),*) => {$(
        impl Spoken for $body {
            fn actor(&mut self) -> Option<&mut String> {
                Some(&mut self.actor)
            }
        }
    )*};
}

spoken!(Wish, PlanBody, HoldAll, Words, MuteBody, UnmuteBody, Replaying, Discarding, Correcting, Reconciling);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconciling {
    /// What they call themselves, where that says more than the caller's name.
    #[serde(default)]
    actor: String,
}

/// `POST /v1/pipelines/{pipeline}/dates/{date}/reconcile`: has the date follow what the warehouse says of it now.
pub async fn reconcile(
    State(app): State<App>,
    named: Named<(String, String)>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let Path((name, word)) = named?;
    let (key, graph) = api::partition(&app, &name, &word)?;
    ask::within_reach(graph, key.date, app.engine.clock.now())?;
    let caller = incoming.caller.clone();
    once::<Reconciling>(&app, incoming, async |call| {
        let said = Some(call.body.actor).filter(|said| !said.is_empty());
        let actor = said.map_or(Ok(Arc::clone(&caller.name)), |said| words::actor(&said).map(Arc::from));
        let actor = actor.map_err(ask::Refusal::from)?;
        let found = app.engine.compare(&key).await?;
        let applied = app.engine.reconcile(&found, &actor).await?;
        Ok(json!({ "reconciled": found, "applied": applied }))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanBody {
    from: Date,
    until: Date,
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(default)]
    cascade: bool,
    actor: String,
}

/// `POST /v1/pipelines/{pipeline}/plans`: plans what is missing between two dates; nothing is begun.
pub async fn plan(State(app): State<App>, named: Named<String>, incoming: Incoming) -> Result<Response, Problem> {
    let Path(name) = named?;
    let (pipeline, graph) = api::pipeline(&app, &name)?;
    once::<PlanBody>(&app, incoming, async |call| {
        let PlanBody { from, until, nodes, cascade, actor } = call.body;
        let days = from.until(until).map_or(-1, |span| span.get_days());
        if until > graph.date_at(call.at) {
            let why = format!("{until} has not been yet: nothing is missing of it");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", why));
        }
        if !(0..PLAN_DAYS_MAX).contains(&days) {
            let why = format!("{from} to {until} are not 1 to {PLAN_DAYS_MAX} dates");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", why));
        }
        let nodes = nodes.iter().map(|name| ask::node(graph, name, from, call.at)).collect::<Result<Vec<_>, _>>()?;
        let only = (!nodes.is_empty()).then_some(nodes.as_slice());
        let survey = app.engine.survey(&pipeline, graph, (from, until), only, &|_, _| {}).await?;
        let (actor, text) = ask::words(&actor, &format!("planned what is missing from {from} to {until}"))?;
        let said = Said { at: call.at, actor, text };
        let plan = app.engine.plan_backfill(&pipeline, graph, &survey, cascade, said).await?;
        let mut answer = json!(plan);
        // A plan of nothing is told, and not kept.
        answer["kept"] = json!(!plan.items.is_empty());
        Ok(answer)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldAll {
    #[serde(default)]
    r#for: Option<String>,
    actor: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    actor: String,
    reason: String,
}

/// `POST /v1/pipelines/{pipeline}/hold`: nothing of the whole pipeline leaves.
pub async fn hold(State(app): State<App>, named: Named<String>, incoming: Incoming) -> Result<Response, Problem> {
    let Path(name) = named?;
    let (pipeline, _) = api::pipeline(&app, &name)?;
    once::<HoldAll>(&app, incoming, async |call| {
        let stop =
            hold_all(&app, &pipeline, (&call.body.actor, &call.body.reason), call.body.r#for.as_deref(), call.at)
                .await?;
        Ok(json!(stop))
    })
    .await
}

/// Holds a whole pipeline.
pub async fn hold_all(
    app: &App,
    pipeline: &PipelineId,
    (actor, reason): (&str, &str),
    span: Option<&str>,
    from: Timestamp,
) -> Result<Stop, Problem> {
    let (actor, reason) = ask::words(actor, reason)?;
    let until = span.map(|span| ask::ends(span, from)).transpose()?;
    let (actor, reason) = (actor.to_string(), reason.to_string());
    let stop = Stop { pipeline: pipeline.clone(), actor, reason, from, until, ended_by: None };
    app.engine.stop(&stop).await?;
    Ok(stop)
}

/// `POST /v1/pipelines/{pipeline}/resume`: ends that.
pub async fn resume(State(app): State<App>, named: Named<String>, incoming: Incoming) -> Result<Response, Problem> {
    let Path(name) = named?;
    let (pipeline, _) = api::pipeline(&app, &name)?;
    once::<Words>(&app, incoming, async |call| {
        let (actor, reason) = ask::words(&call.body.actor, &call.body.reason)?;
        let held = app.engine.go_on(&pipeline, &actor, &reason).await?;
        Ok(json!({ "pipeline": pipeline, "was_held": held }))
    })
    .await
}

/// `POST /v1/pipelines/{pipeline}/plans/{plan}/run`: starts a plan of backfill.
pub async fn run_plan(
    State(app): State<App>,
    named: Named<(String, String)>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    turn(app, named, incoming, Status::Running).await
}

/// `POST /v1/pipelines/{pipeline}/plans/{plan}/cancel`: ends one.
pub async fn cancel_plan(
    State(app): State<App>,
    named: Named<(String, String)>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    turn(app, named, incoming, Status::Cancelled).await
}

async fn turn(
    app: App,
    named: Named<(String, String)>,
    incoming: Incoming,
    status: Status,
) -> Result<Response, Problem> {
    let Path((name, plan)) = named?;
    let (pipeline, _) = api::pipeline(&app, &name)?;
    once::<Words>(&app, incoming, async |call| {
        let (actor, text) = ask::words(&call.body.actor, &call.body.reason)?;
        let said = Said { at: call.at, actor, text };
        match app.engine.turn_plan(&pipeline, &PlanId::from(plan.as_str()), status, said).await? {
            Turned::Done(plan) => Ok(json!({ "plan": plan.id, "status": plan.status, "tally": plan.tally() })),
            // It was done in an earlier try of the same call.
            Turned::Not(is) if is == status => Ok(json!({ "plan": plan, "status": is, "tally": null })),
            Turned::Not(is) => {
                let why = format!("the plan is {} already", json!(is).as_str().unwrap_or_default());
                Err(Problem::new(StatusCode::CONFLICT, "state", why))
            }
            Turned::Crowded(count) => {
                Err(Problem::new(StatusCode::CONFLICT, "state", format!("{count} plans run already")))
            }
            Turned::Unknown => Err(api::unknown_plan(&plan)),
        }
    })
    .await
}

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

/// `POST /v1/alerts/mute`: `{what: {key} or {topic}, for: "4h", reason, actor}`.
pub async fn mute(State(app): State<App>, incoming: Incoming) -> Result<Response, Problem> {
    once::<MuteBody>(&app, incoming, async |call| {
        let MuteBody { what, r#for: span, reason, actor } = call.body;
        Ok(json!(mute_for(&app, what, (&actor, &reason), &span, call.at).await?))
    })
    .await
}

/// Mutes something for a while.
pub async fn mute_for(
    app: &App,
    what: Muted,
    (actor, reason): (&str, &str),
    span: &str,
    from: Timestamp,
) -> Result<Muting, Problem> {
    let (actor, reason) = ask::words(actor, reason)?;
    let span = crate::topology::duration(span).map_err(|error| ask::Refusal::Span(format!("for: {error}")))?;
    let until = after(from, SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX));
    let mute = Mute { what, from, until, actor: actor.to_string(), reason: reason.to_string(), ended_by: None };
    Ok(app.engine.mute(&mute).await?)
}

/// `POST /v1/alerts/unmute`: ends every mute of exactly that: `{what, actor}`.
pub async fn unmute(State(app): State<App>, incoming: Incoming) -> Result<Response, Problem> {
    once::<UnmuteBody>(&app, incoming, async |call| {
        let (actor, _) = ask::words(&call.body.actor, "unmute")?;
        let ended = app.engine.unmute(&call.body.what, &actor).await?;
        Ok(json!({ "ended": ended }))
    })
    .await
}
