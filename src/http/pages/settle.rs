//! What is to become of dead letters: first what a replay would do, or which would be discarded; then the form that asks it.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::who_and_why;
use super::form::Filled;
use super::parts::{path, state, text};
use super::{Frame, Named, Refresh, Shown, Tab, Wrong};
use crate::desk::letters::{self, Discarding, Replaying, Wanted, counts};
use crate::desk::words::clean;
use crate::engine::dead_letter::{Outcome, Plan};
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::{App, api, requests};

/// Letters, and dates, that a page names.
const SHOWN_MAX: usize = 50;

/// What is to become of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Replay,
    Discard,
}

/// Which letters: one, or those of one cause.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    act: Act,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    cause: Option<String>,
    #[serde(default)]
    force: bool,
}

impl Parameters {
    fn wanted(&self) -> Wanted {
        Wanted { ids: self.id.iter().cloned().collect(), cause: self.cause.clone(), ..Wanted::default() }
    }

    fn replaying(&self, apply: bool, actor: &str, reason: Option<&str>) -> Replaying {
        let (actor, reason) = (actor.to_owned(), reason.map(str::to_owned));
        let (letters, per_second) = (self.wanted(), letters::PER_SECOND);
        Replaying { letters, limit: None, force: self.force, with: None, per_second, apply, actor, reason }
    }

    fn discarding(&self, apply: bool, actor: &str, reason: &str) -> Discarding {
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        Discarding { letters: self.wanted(), limit: None, apply, actor, reason }
    }
}

/// `/ui/{pipeline}/letters/settle`: what it would do.
pub async fn page(State(app): State<App>, named: Named<String>, caller: Caller, uri: Uri) -> Shown {
    let asked: Parameters = api::parameters(&uri)?;
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let (title, button, foreseen, meant, any) = match asked.act {
        Act::Replay => {
            let replaying = asked.replaying(false, "operator", None);
            let plan = letters::plan(&app.engine, &replaying).await.map_err(Problem::from)?.plan;
            let ready = plan.letters.iter().filter(|letter| letter.verdict.as_str() == "ready").count();
            ("Replay dead letters", "Replay", of_replay(&frame, &plan), ready, !plan.letters.is_empty())
        }
        Act::Discard => {
            let discarding = asked.discarding(false, "operator", "a preview");
            let found = letters::discard(&app.engine, &discarding).await.map_err(Problem::from)?.letters;
            let count = found.iter().filter(|letter| letter.verdict.as_str() == "ready").count();
            ("Discard dead letters", "Discard", verdicts(&found), count, !found.is_empty())
        }
    };
    let link = |act: &str, force: bool| {
        let id = asked.id.iter().map(|id| format!("&id={}", path(id)));
        let cause = asked.cause.iter().map(|cause| format!("&cause={}", path(cause)));
        let force = force.then(|| "&force=true".to_owned());
        format!("?act={act}{}", id.chain(cause).chain(force).collect::<String>())
    };
    let body = html! {
        h1 { (title) "?" }
        section class="card foreseen" aria-labelledby="foreseen" {
            h2 id="foreseen" { "What would happen" }
            (foreseen)
            @if asked.act == Act::Replay {
                @if asked.force { p class="warn" { "! Also what is not wanted any more, and what was replayed already." } }
                @else if meant == 0 && any { p { a href=(link("replay", true)) { "Replay them all the same" } } }
            }
        }
        @if meant == 0 { p class="actions" { a class="button" href=(frame.link("/letters")) { "Back to the letters" } } }
        @else {
            form method="post" class="fields ask" {
                input type="hidden" name="act" value=(json!(asked.act).as_str().unwrap_or_default());
                @if let Some(id) = &asked.id { input type="hidden" name="id" value=(clean(id, 200)); }
                @if let Some(cause) = &asked.cause { input type="hidden" name="cause" value=(clean(cause, 200)); }
                @if asked.force { input type="hidden" name="force" value="true"; }
                input type="hidden" name="key" value=(uuid::Uuid::new_v4());
                (who_and_why(&caller))
                p class="actions" {
                    button class="primary" { (button) " " (meant.min(letters::CALL_MAX)) @if meant == 1 { " letter" } @else { " letters" } } " "
                    a class="button" href=(frame.link("/letters")) { "Leave them" }
                }
                @if meant > letters::CALL_MAX { p class="dim" { "The rest stays for another turn; " code { "tipoff dlq" } " does all at once." } }
            }
        }
    };
    Ok(frame.page((Tab::Letters, Refresh::Still), (title, None), &body))
}

/// How many letters come to what, and why.
fn verdicts(outcomes: &[Outcome]) -> Markup {
    html! {
        @if outcomes.is_empty() { p { "No letter is meant: none waits any more." } }
        @else { p { @for (index, (word, count)) in counts(outcomes).iter().enumerate() { @if index > 0 { ", " } (count) " " (word) } "." } }
        ul class="rows" {
            @for outcome in outcomes.iter().take(SHOWN_MAX) {
                li {
                    code { (text(outcome.id.as_str(), 100)) } " " (outcome.verdict.as_str())
                    @if !outcome.verdict.why().is_empty() { ": " (text(outcome.verdict.why(), 300)) }
                }
            }
        }
        @if outcomes.len() > SHOWN_MAX { p class="dim" { "and " (outcomes.len() - SHOWN_MAX) " more" } }
    }
}

fn of_replay(frame: &Frame<'_>, plan: &Plan) -> Markup {
    html! {
        (verdicts(&plan.letters))
        @if !plan.reaches.is_empty() {
            p { "Everybody who reads the topic gets it: "
                @for (index, (reader, count)) in plan.reaches.iter().enumerate() { @if index > 0 { ", " } (text(reader, 100)) " (" (count) ")" } }
        }
        ul class="rows" {
            @for one in plan.consequences.iter().take(SHOWN_MAX) {
                li {
                    @if one.partition.pipeline == frame.pipeline {
                        a href=(frame.of_date(one.partition.date, "")) { (one.partition.date) }
                    } @else { (text(&one.partition.to_string(), 100)) }
                    @if let Some(why) = &one.unknown { ": " (text(why, 300)) }
                    @for (node, from, to) in &one.moved { " · " span class="id" { (text(node.as_str(), 80)) } " " (state(from)) " → " (state(to)) }
                    @for id in &one.dispatches { " · asked for: " code { (text(id.as_str(), 200)) } }
                    @if one.unknown.is_none() && one.moved.is_empty() && one.dispatches.is_empty() { ": no node moves, and nothing is asked for" }
                }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    act: Act,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    cause: Option<String>,
    #[serde(default)]
    force: bool,
    key: String,
    reason: String,
    actor: String,
}

/// `POST /ui/{pipeline}/letters/settle`: does it.
pub async fn carry_out(
    State(app): State<App>,
    named: Named<String>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Filled<Sent>, Problem>,
) -> Result<impl IntoResponse, Wrong> {
    super::own_form(&app, &uri, &headers)?;
    let Path(name) = named.map_err(Problem::from)?;
    api::pipeline(&app, &name)?;
    let Filled(sent) = form?;
    let Sent { act, id, cause, force, key, reason, actor } = sent;
    let actor = caller.actor(&actor);
    let key: uuid::Uuid = key.parse().map_err(|_| Problem::invalid("the form is damaged; open it again"))?;
    let asked = Parameters { act, id, cause, force };
    let content = format!("{asked:?} {actor} {reason}");
    // A form that is sent twice asks once.
    let told = match act {
        Act::Replay => {
            let replaying = asked.replaying(true, &actor, Some(&reason));
            let act = async |at| Ok(json!(letters::replay(&app.engine, &replaying, at).await?));
            requests::once_of_form(&app, key, &content, act).await?;
            "replayed"
        }
        Act::Discard => {
            let discarding = asked.discarding(true, &actor, &reason);
            let act = async |_| Ok(json!(letters::discard(&app.engine, &discarding).await?));
            requests::once_of_form(&app, key, &content, act).await?;
            "discarded"
        }
    };
    Ok(Redirect::to(&format!("/ui/{}/letters?told={told}", path(&name))))
}
