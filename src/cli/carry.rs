//! What operators ask for is carried out: by the running service that `--server` names, over its API; or by this process,
//! straight at the store. The commit protocol makes the latter safe beside a running service, which then delivers what follows.
//!
//! Both roads take the same words, and are refused for the same reasons.

use jiff::civil::Date;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::command::Words;
use super::whole::Whole;
use super::{Common, Fault};
use crate::adapter::service;
use crate::desk::ask::{self, Refusal, Wish};
use crate::desk::letters::{self, Correcting, Discarding, Done, Replaying};
use crate::domain::backfill::{Plan, Said, Status, Survey};
use crate::domain::dead_letter::Letter;
use crate::domain::event::{Command, Event, Request};
use crate::domain::id::{PartitionKey, PlanId};
use crate::domain::notify::{Mute, Muted};
use crate::domain::partition::Recorded;
use crate::domain::stop::Stop;
use crate::engine::Engine;
use crate::engine::backfill::Turned;
use crate::engine::dead_letter::{Error as LetterError, Outcome, Progress};
use crate::engine::notify::{Error as NotifyError, Muting};
use crate::engine::reconcile::Reconciled;

/// Letters that one call is about; a paced call does fewer, and says how many are left.
const LETTERS_AT_ONCE: usize = letters::CALL_MAX;

/// Asks the service for something, if one is asked.
async fn served<T: DeserializeOwned>(common: &Common, path: &[&str], body: &Value) -> Result<Option<T>, Fault> {
    match &common.served {
        Some(service) => match service.ask(path, body).await {
            Err(error @ (service::Error::Unreachable { .. } | service::Error::Slow { .. })) => {
                let words =
                    "it is not known whether this was carried out; `tipoff timeline` and `tipoff dlq show` tell";
                Err(Fault::unusable(anyhow::Error::from(error).context(words)))
            }
            asked => asked.map(Some).map_err(Fault::called),
        },
        None => Ok(None),
    }
}

/// Why a wish makes no sense, in the command line's words.
fn refused(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Span(why) => Fault::usage(anyhow::anyhow!("--for: {why}")),
        other => Fault::usage(other),
    }
}

/// A wish about a date: the request that it became, and what that did.
pub async fn request(
    common: &Common,
    whole: &Whole,
    key: &PartitionKey,
    wish: &Wish,
) -> Result<(Request, Recorded), Fault> {
    #[derive(Deserialize)]
    struct Asked {
        request: Request,
        recorded: Recorded,
    }
    let request = wish.request(whole.graph(), key.date, whole.now, None).map_err(refused)?;
    let (pipeline, date) = (key.pipeline.as_str(), key.date.to_string());
    let path = ["pipelines", pipeline, "dates", &date, "requests"];
    if let Some(Asked { request, recorded }) = served(common, &path, &json!(wish)).await? {
        return Ok((request, recorded));
    }
    if matches!(request.command, Command::Override { .. }) {
        ask::fits(&whole.engine.store.load(key).await.map_err(Fault::unusable)?.partition, &request)
            .map_err(refused)?;
    }
    let stepped = whole.engine.step(key, &[Event::Requested(request.clone())]).await.map_err(Fault::unusable)?;
    Ok((request, stepped.recorded.first().copied().unwrap_or(Recorded::Rejected)))
}

/// A hold on a whole pipeline.
pub async fn stop(common: &Common, whole: &Whole, words: &Words, span: Option<&str>) -> Result<Stop, Fault> {
    let until = span.map(|span| ask::ends(span, whole.now)).transpose().map_err(refused)?;
    let (actor, reason) = (words.actor.clone(), words.reason.clone());
    let mut body = json!({ "actor": actor, "reason": reason });
    if let Some(span) = span {
        body["for"] = json!(span);
    }
    if let Some(stop) = served(common, &["pipelines", whole.pipeline.as_str(), "hold"], &body).await? {
        return Ok(stop);
    }
    let stop = Stop { pipeline: whole.pipeline.clone(), actor, reason, from: whole.now, until, ended_by: None };
    whole.engine.stop(&stop).await.map_err(Fault::unusable)?;
    Ok(stop)
}

/// The end of that. Whether there was one.
pub async fn go_on(common: &Common, whole: &Whole, words: &Words) -> Result<bool, Fault> {
    #[derive(Deserialize)]
    struct Ended {
        was_held: bool,
    }
    let body = json!({ "actor": words.actor, "reason": words.reason });
    let path = ["pipelines", whole.pipeline.as_str(), "resume"];
    if let Some(Ended { was_held }) = served(common, &path, &body).await? {
        return Ok(was_held);
    }
    whole.engine.go_on(&whole.pipeline, &words.actor, &words.reason).await.map_err(Fault::unusable)
}

/// A date follows the evidence that was found, as `actor` asks. How many answers it took in.
pub async fn reconcile(common: &Common, engine: &Engine, found: &Reconciled, actor: &str) -> Result<usize, Fault> {
    #[derive(Deserialize)]
    struct Applied {
        applied: usize,
    }
    let (pipeline, date) = (found.partition.pipeline.as_str(), found.partition.date.to_string());
    let path = ["pipelines", pipeline, "dates", &date, "reconcile"];
    if let Some(Applied { applied }) = served(common, &path, &json!({ "actor": actor })).await? {
        return Ok(applied);
    }
    engine.reconcile(found, &actor.into()).await.map_err(Fault::unusable)
}

/// What went wrong with alerts.
pub fn of_alerts(error: NotifyError) -> Fault {
    match error {
        NotifyError::Mute(error) => Fault::usage(error),
        NotifyError::Store(_) | NotifyError::Alerts(_) | NotifyError::Contended => Fault::unusable(error),
    }
}

/// A mute, as long as `span` says.
pub async fn mute(common: &Common, engine: &Engine, mute: &Mute, span: &str) -> Result<Muting, Fault> {
    let body = json!({ "what": mute.what, "for": span, "actor": mute.actor, "reason": mute.reason });
    match served(common, &["alerts", "mute"], &body).await? {
        Some(muting) => Ok(muting),
        None => engine.mute(mute).await.map_err(of_alerts),
    }
}

/// The end of every mute of exactly that. How many there were.
pub async fn unmute(common: &Common, engine: &Engine, what: &Muted, actor: &str) -> Result<usize, Fault> {
    #[derive(Deserialize)]
    struct Ended {
        ended: usize,
    }
    match served(common, &["alerts", "unmute"], &json!({ "what": what, "actor": actor })).await? {
        Some(Ended { ended }) => Ok(ended),
        None => engine.unmute(what, actor).await.map_err(of_alerts),
    }
}

/// A plan of what is missing between two dates, of these nodes, or of all.
pub async fn plan(
    common: &Common,
    whole: &Whole,
    survey: &Survey,
    ((from, until), nodes, cascade): ((Date, Date), &[String], bool),
    said: Said,
) -> Result<Plan, Fault> {
    let body = json!({ "from": from, "until": until, "nodes": nodes, "cascade": cascade, "actor": said.actor });
    if let Some(plan) = served(common, &["pipelines", whole.pipeline.as_str(), "plans"], &body).await? {
        return Ok(plan);
    }
    let made = whole.engine.plan_backfill(&whole.pipeline, whole.graph(), survey, cascade, said);
    made.await.map_err(Fault::unusable)
}

/// A plan is started, or ended.
pub async fn turn(common: &Common, whole: &Whole, plan: &PlanId, status: Status, said: Said) -> Result<Turned, Fault> {
    let known = async || {
        let plans = whole.engine.store.plans(&whole.pipeline).await.map_err(Fault::unusable)?;
        Ok::<_, Fault>(plans.into_iter().map(|(plan, _)| plan).find(|known| known.id == *plan))
    };
    // A call that is made again is answered as the first was; somebody who types it again is told.
    if common.served.is_some()
        && let Some(is) = known().await?.map(|plan| plan.status).filter(|is| *is == status)
    {
        return Ok(Turned::Not(is));
    }
    let verb = if status == Status::Running { "run" } else { "cancel" };
    let path = ["pipelines", whole.pipeline.as_str(), "plans", plan.as_str(), verb];
    let body = json!({ "actor": said.actor, "reason": said.text });
    if served::<Value>(common, &path, &body).await?.is_some() {
        return Ok(known().await?.map_or(Turned::Unknown, |plan| Turned::Done(Box::new(plan))));
    }
    whole.engine.turn_plan(&whole.pipeline, plan, status, said).await.map_err(Fault::unusable)
}

/// What went wrong with letters.
pub fn of_letters(error: letters::Refusal) -> Fault {
    match error {
        letters::Refusal::Ledger(error @ (LetterError::Store(_) | LetterError::Contended(_))) => Fault::unusable(error),
        other => Fault::usage(other),
    }
}

/// What went wrong with the ledger.
pub fn of_ledger(error: LetterError) -> Fault {
    of_letters(error.into())
}

/// A letter says something else from now on.
pub async fn correct(common: &Common, engine: &Engine, id: &str, correcting: &Correcting) -> Result<Letter, Fault> {
    let Correcting { with, actor, reason } = correcting;
    match served(common, &["dead-letters", id, "correct"], &json!(correcting)).await? {
        Some(letter) => Ok(letter),
        None => engine.correct(id, with.clone().into_bytes(), (actor, reason)).await.map_err(of_ledger),
    }
}

/// What became of letters that were replayed.
pub async fn replay(
    common: &Common,
    engine: &Engine,
    asked: &Replaying,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Outcome>, Fault> {
    let order = asked.order(&engine.declarations, engine.clock.now()).map_err(of_letters)?;
    if common.served.is_none() {
        return engine.replay(&order, tell).await.map_err(of_ledger);
    }
    let planned = engine.plan_replay(&order).await.map_err(of_ledger)?.letters;
    let body =
        |ids| json!(Replaying { letters: letters::Wanted::named(ids), limit: None, apply: true, ..asked.clone() });
    in_calls(common, planned, &["dead-letters", "replay"], body, tell).await
}

/// What became of letters that were discarded, or would.
pub async fn discard(common: &Common, engine: &Engine, asked: &Discarding) -> Result<Vec<Outcome>, Fault> {
    let (order, reason) = asked.order(&engine.declarations, engine.clock.now()).map_err(of_letters)?;
    if common.served.is_none() || !asked.apply {
        return engine.discard(&order, &reason, asked.apply).await.map_err(of_ledger);
    }
    let planned = engine.discard(&order, &reason, false).await.map_err(of_ledger)?;
    let body = |ids| json!(Discarding { letters: letters::Wanted::named(ids), limit: None, ..asked.clone() });
    in_calls(common, planned, &["dead-letters", "discard"], body, &mut |_| {}).await
}

/// Does what was planned with letters that are ready for it, some in each call; what is not ready stays as it was found.
async fn in_calls(
    common: &Common,
    planned: Vec<Outcome>,
    path: &[&str],
    body: impl Fn(Vec<String>) -> Value,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Outcome>, Fault> {
    use crate::engine::dead_letter::Verdict;
    let mut progress = Progress { of: planned.len(), ..Progress::default() };
    let (ready, mut outcomes): (Vec<_>, Vec<_>) =
        planned.into_iter().partition(|outcome| outcome.verdict == Verdict::Ready);
    progress.done = outcomes.len();
    let mut waiting: Vec<String> = ready.into_iter().map(|outcome| outcome.id.to_string()).collect();
    while !waiting.is_empty() {
        tell(progress);
        let some: Vec<String> = waiting.iter().take(LETTERS_AT_ONCE).cloned().collect();
        let left = waiting.len();
        let cut_short = |fault: Fault| Fault {
            code: fault.code,
            error: fault
                .error
                .context(format!("{left} of {} are left; the same command goes on with them", progress.of)),
        };
        let done: Option<Done> = served(common, path, &body(some)).await.map_err(cut_short)?;
        let Some(done) = done.filter(|done| !done.letters.is_empty()) else {
            return Err(cut_short(Fault::unusable(anyhow::anyhow!(
                "the service says nothing of what it was asked about"
            ))));
        };
        waiting.retain(|id| !done.letters.iter().any(|outcome| outcome.id.as_str() == id));
        progress.done += done.letters.len();
        progress.replayed += done.letters.iter().filter(|outcome| outcome.verdict == Verdict::Replayed).count();
        progress.failed += done.letters.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).count();
        outcomes.extend(done.letters);
    }
    tell(progress);
    Ok(outcomes)
}
