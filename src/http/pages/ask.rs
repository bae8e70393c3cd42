//! Asking for something: first what it would do, by the decision that it would cause; then the form that asks it.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Redirect};
use jiff::civil::Date;
use maud::{Markup, html};
use serde::Deserialize;

use super::form::Filled;
use super::parts::{moment, path, state, text};
use super::{Frame, Named, Refresh, Shown, Tab, Wrong, opened};
use crate::desk::ask::{self, Asked, Verb};
use crate::desk::words::clean;
use crate::domain::effect::Turn;
use crate::domain::id::RequestId;
use crate::domain::partition::Recorded;
use crate::domain::words;
use crate::engine::foresee::Foreseen;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::{App, api, requests};

/// Lengths of a hold, or of what is said of an input, that are offered.
const SPANS: [&str; 6] = ["30m", "1h", "2h", "4h", "12h", "24h"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    command: Verb,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    run: Option<String>,
}

/// What is asked, as a sentence begins with it.
fn sentence(verb: Verb, node: Option<&str>, input: Option<&str>, date: Date) -> String {
    let what = node.map_or_else(|| "the whole date".to_owned(), str::to_owned);
    match (verb, input) {
        (Verb::Hold, None) => format!("Hold {what} on {date}"),
        (Verb::Hold, Some(input)) => format!("Hold what comes from {input} to {what} on {date}"),
        (Verb::Resume, None) => format!("Lift the hold on {what} on {date}"),
        (Verb::Resume, Some(input)) => format!("Have {input} count for {what} as declared on {date}"),
        (Verb::Retry, _) => format!("Run {what} again on {date}"),
        (Verb::Skip, _) => format!("Skip {what} on {date}"),
        (Verb::GiveUp, run) => format!("Give up {} of {what} on {date}", run.unwrap_or("…")),
        (Verb::Finalize, run) => format!("Close {} of {what} on {date} now", run.unwrap_or("…")),
        (Verb::Continue, run) => format!("Give {} of {what} on {date} its whole time again", run.unwrap_or("…")),
        (Verb::Game, _) => format!("Correct a game of {date}"),
        (Verb::Force, input) => format!("Let {what} go past {} on {date}", input.unwrap_or("…")),
    }
}

/// `/ui/{pipeline}/{date}/ask`: what it would do.
pub async fn page(State(app): State<App>, named: Named<(String, String)>, caller: Caller, uri: Uri) -> Shown {
    let asked: Parameters = api::parameters(&uri)?;
    let (frame, date) = opened(&app, named).await?;
    let (node, input) = (asked.node.as_deref(), asked.input.as_deref());
    let run = asked.run.as_deref();
    let meant = Asked { verb: asked.command, node, input, until: None, run };
    let command = meant.command(frame.graph, date, frame.now)?;
    let request = ask::request(None, ("operator".into(), "a preview".into()), frame.now, command);
    let foreseen = app.engine.foresee(&frame.key(date), &request).await?;
    let title = sentence(asked.command, node, input.or(run), date);
    let has_span = matches!(asked.command, Verb::Hold | Verb::Force);
    let body = html! {
        h1 { (text(&title, 200)) "?" }
        p class="dim" { (frame.long(date)) }
        (answer(&frame, &foreseen))
        form method="post" class="fields ask" {
            input type="hidden" name="command" value=(asked.command.as_str());
            @if let Some(node) = node { input type="hidden" name="node" value=(clean(node, 200)); }
            @if let Some(input) = input { input type="hidden" name="input" value=(clean(input, 200)); }
            @if let Some(run) = run { input type="hidden" name="run" value=(run); }
            input type="hidden" name="key" value=(uuid::Uuid::new_v4());
            @if has_span {
                label { "For " select name="for" {
                    option value="" { @if asked.command == Verb::Hold { "until somebody lifts it" } @else { "this date" } }
                    @for span in SPANS { option value=(span) { (span) } }
                } }
            }
            (who_and_why(&caller))
            p class="actions" {
                button class="primary" { (text(&title, 200)) } " "
                a class="button" href=(back(&frame, date, node)) { "Leave it" }
            }
        }
    };
    Ok(frame.page((Tab::None, Refresh::Still), (&title, Some(date)), &body))
}

pub(super) fn who_and_why(caller: &Caller) -> Markup {
    let (actor, is_certain) = caller.likely();
    html! {
        label { "Why " input name="reason" required maxlength=(words::REASON_MAX) autocomplete="off" autofocus; }
        label { "Who " input name="actor" required maxlength=(words::ACTOR_MAX) autocomplete="username" readonly[is_certain] value=(clean(actor.unwrap_or("operator"), 100)); }
    }
}

fn back(frame: &Frame<'_>, date: Date, node: Option<&str>) -> String {
    match node {
        Some(node) => frame.of_date(date, &format!("/node/{}", path(node))),
        None => frame.of_date(date, ""),
    }
}

/// The dry run's answer.
fn answer(frame: &Frame<'_>, foreseen: &Foreseen) -> Markup {
    let date = foreseen.partition.date;
    let is_nothing = foreseen.moved.is_empty() && foreseen.dispatches.is_empty() && foreseen.alerts.is_empty();
    html! {
        section class="card foreseen" aria-labelledby="foreseen" {
            h2 id="foreseen" { "What would happen at once" }
            @match foreseen.recorded {
                Recorded::Applied => {}
                Recorded::Rejected => { p class="warn" { "! It would be refused: tipoff does not run this node, its producer does." } }
                _ => { p class="warn" { "! Nothing would change: something newer is known." } }
            }
            @if is_nothing { p { "No node moves, and nothing is asked for." } }
            ul class="rows" {
                @for moved in &foreseen.moved {
                    li { span class="id" { (text(moved.node.as_str(), 80)) } " " (state(moved.from)) " → " (state(moved.to)) }
                }
                @for sent in &foreseen.dispatches {
                    li {
                        span class="state work" { "→ asked for" } " " span class="id" { (text(sent.node.as_str(), 80)) }
                        " because " (super::node::cause(sent.cause))
                        @if sent.degraded {
                            ", " span class="warn" { "degraded" } " without "
                            @for (index, node) in sent.missing.iter().take(12).enumerate() { @if index > 0 { ", " } (text(node.as_str(), 60)) }
                        }
                        " " code { (text(sent.id.as_str(), 200)) }
                    }
                }
                @for (key, turn) in &foreseen.alerts {
                    li { @if *turn == Turn::Raised { "alert begins: " } @else { "alert ends: " } code { (text(key.as_str(), 200)) } }
                }
            }
            @if let Some(node) = &foreseen.node {
                p {
                    span class="id" { (text(node.node.as_str(), 80)) } " would be " (state(node.state))
                    @if node.blocked_by.is_empty() { ", with nothing in its way." } @else { ", and wait:" }
                }
                @if !node.blocked_by.is_empty() {
                    ul { @for why in node.blocked_by.iter().take(12) { li { (text(why, 300)) } } }
                }
            }
            @if let Some(stop) = &foreseen.stopped {
                p class="warn" { "! " (text(&stop.to_string(), 400)) " What is decided waits until then." }
            }
            p class="dim" { "Decided on a copy of " (date) " as it stood " (moment(&frame.graph.zone, foreseen.at, frame.now)) "; nothing of it is stored." }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    command: Verb,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    r#for: String,
    key: String,
    reason: String,
    actor: String,
}

/// `POST /ui/{pipeline}/{date}/ask`: asks it.
pub async fn carry_out(
    State(app): State<App>,
    named: Named<(String, String)>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Filled<Sent>, Problem>,
) -> Result<impl IntoResponse, Wrong> {
    super::own_form(&app, &uri, &headers)?;
    let Path((name, word)) = named.map_err(Problem::from)?;
    let Filled(sent) = form?;
    let (key, graph) = api::partition(&app, &name, &word)?;
    let now = app.engine.clock.now();
    let words = ask::words(&caller.actor(&sent.actor), &sent.reason)?;
    let until =
        Some(sent.r#for.as_str()).filter(|span| !span.is_empty()).map(|span| ask::ends(span, now)).transpose()?;
    let node = sent.node.as_deref();
    let command = Asked { verb: sent.command, node, input: sent.input.as_deref(), until, run: sent.run.as_deref() }
        .command(graph, key.date, now)?;
    // A form that is sent twice asks once.
    let form: uuid::Uuid = sent.key.parse().map_err(|_| Problem::invalid("the form is damaged; open it again"))?;
    let request = ask::request(Some(RequestId::new(format!("page-{form}"))), words, now, command);
    let told = match requests::carry_out(&app, &key, &request).await? {
        Recorded::Applied | Recorded::Duplicate => "applied",
        Recorded::Rejected => "rejected",
        Recorded::Superseded | Recorded::Fenced | Recorded::Future => "unchanged",
    };
    let frame = format!("/ui/{}/{}", path(&name), key.date);
    let place = node.map_or(frame.clone(), |node| format!("{frame}/node/{}", path(node)));
    Ok(Redirect::to(&format!("{place}?told={told}")))
}

/// What became of a form, above the page it leads to.
pub fn told(uri: &Uri) -> Markup {
    #[derive(Deserialize)]
    struct Told {
        told: Option<String>,
    }
    let told = api::parameters::<Told>(uri).ok().and_then(|told| told.told);
    let (class, words) = match told.as_deref() {
        Some("applied") => ("ok", "✓ Done. What follows is below."),
        Some("held") => ("ok", "✓ The whole pipeline is held."),
        Some("resumed") => ("ok", "✓ The pipeline is no longer held; what waits leaves within a minute."),
        Some("replayed") => ("ok", "✓ Replayed. What came of it is below."),
        Some("discarded") => ("ok", "✓ Discarded. Who and why is kept with them."),
        Some("muted") => ("ok", "✓ Muted. The state and the pages still show it."),
        Some("unmuted") => ("ok", "✓ Not muted any more."),
        Some("rejected") => ("warn", "! Refused: tipoff does not run this node, its producer does."),
        Some("unchanged") => ("warn", "! Nothing changed: something newer is known."),
        _ => return html! {},
    };
    html! { p class=(format!("banner {class}")) role="status" { (words) } }
}

/// `/ui/{pipeline}/stop`: hold the whole pipeline, or end that.
pub async fn whole(State(app): State<App>, named: Named<String>, caller: Caller) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let waiting: Vec<_> = frame
        .live
        .iter()
        .flat_map(|day| {
            day.view.nodes.iter().filter(|node| node.state == "dispatched").map(|node| (day.partition.key.date, node))
        })
        .collect();
    let is_held = frame.strip.stopped.is_some();
    let body = html! {
        h1 { @if is_held { "End the hold on the whole pipeline?" } @else { "Hold the whole pipeline?" } }
        section class="card foreseen" aria-labelledby="foreseen" {
            h2 id="foreseen" { "What would happen" }
            @if is_held { p { "What was decided meanwhile leaves within a minute, as fast as its targets take it." } }
            @else {
                p { "Nothing leaves, on any date, those included that are not open yet. Dates decide on, and what they decide waits." }
                p { "Runs that have begun go on. Asked for and without a sign of life at this moment:" }
                @if waiting.is_empty() { p class="dim" { "None." } }
                ul class="rows" { @for (date, node) in waiting.iter().take(20) { li { span class="id" { (text(node.node.as_str(), 80)) } " " (date) } } }
            }
        }
        form method="post" class="fields ask" {
            input type="hidden" name="act" value=(if is_held { "resume" } else { "hold" });
            @if !is_held {
                label { "For " select name="for" { option value="" { "until somebody ends it" } @for span in SPANS { option value=(span) { (span) } } } }
            }
            (who_and_why(&caller))
            p class="actions" {
                button class="primary" { @if is_held { "End the hold" } @else { "Hold " (text(frame.pipeline.as_str(), 60)) } } " "
                a class="button" href=(frame.link("")) { "Leave it" }
            }
        }
    };
    Ok(frame.page((Tab::None, Refresh::Still), ("Hold the pipeline", None), &body))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    act: String,
    #[serde(default)]
    r#for: String,
    reason: String,
    actor: String,
}

/// `POST /ui/{pipeline}/stop`
pub async fn turn_whole(
    State(app): State<App>,
    named: Named<String>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Filled<Whole>, Problem>,
) -> Result<impl IntoResponse, Wrong> {
    super::own_form(&app, &uri, &headers)?;
    let Path(name) = named.map_err(Problem::from)?;
    let Filled(sent) = form?;
    let (pipeline, _) = api::pipeline(&app, &name)?;
    let actor = caller.actor(&sent.actor);
    let told = match sent.act.as_str() {
        "hold" => {
            let span = Some(sent.r#for.as_str()).filter(|span| !span.is_empty());
            requests::hold_all(&app, &pipeline, (&actor, &sent.reason), span, app.engine.clock.now()).await?;
            "held"
        }
        "resume" => {
            let (actor, reason) = ask::words(&actor, &sent.reason)?;
            app.engine.go_on(&pipeline, &actor, &reason).await?;
            "resumed"
        }
        other => return Err(Problem::invalid(format!("act is hold or resume, not {}", clean(other, 40))).into()),
    };
    Ok(Redirect::to(&format!("/ui/{}/today?told={told}", path(&name))))
}
