//! What is on, what people were told of it, and mutes.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::form::Filled;
use super::parts::{ago, moment, text};
use super::{Frame, Named, Refresh, Shown, Tab, Wrong};
use crate::desk::ask;
use crate::desk::words::clean;
use crate::domain::id::AlertKey;
use crate::domain::notify::Muted;
use crate::engine::notify::Standing;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::{App, requests};

/// Alerts shown.
const SHOWN_MAX: usize = 100;

/// `/ui/{pipeline}/alerts`
pub async fn page(State(app): State<App>, named: Named<String>, caller: Caller, uri: Uri) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let board = app.engine.board().await?;
    let actor = caller.likely().0;
    let body = html! {
        (super::ask::told(&uri))
        h1 { "Alerts" }
        @if board.alerts.is_empty() { p class="dim" { "Nothing is on." } }
        ul class="cards" {
            @for standing in board.alerts.iter().take(SHOWN_MAX) { (card(&frame, standing, &caller)) }
        }
        @if board.alerts.len() > SHOWN_MAX { p class="dim" { "and " (board.alerts.len() - SHOWN_MAX) " more: " code { "tipoff alerts" } } }
        section aria-labelledby="mutes" {
            h2 id="mutes" { "Mutes" }
            @if board.mutes.is_empty() { p class="dim" { "None." } }
            ul class="rows" {
                @for mute in &board.mutes {
                    li {
                        code { (text(&mute.what.to_string(), 200)) } " until " (moment(&frame.graph.zone, mute.until, frame.now))
                        " by " (text(&mute.actor, 100)) ": " (text(&mute.reason, 300)) " "
                        form method="post" class="inline" {
                            (about(&mute.what))
                            input type="hidden" name="act" value="unmute";
                            input type="hidden" name="actor" value=(clean(actor.unwrap_or("operator"), 100));
                            button { "End" span class="sr" { " the mute of " (clean(&mute.what.to_string(), 120)) } }
                        }
                    }
                }
            }
        }
        section aria-labelledby="channels" {
            h2 id="channels" { "Ways to tell people" }
            @if board.channels.is_empty() { p class="dim" { "None has been used; " code { "tipoff.yaml" } " declares them." } }
            ul class="rows" {
                @for (id, channel) in &board.channels {
                    li {
                        @match &channel.trouble {
                            Some(trouble) => { span class="state bad" { "✕ fails" } " " code { (id) } " " (text(trouble, 300)) }
                            None => {
                                span class="state ok" { "✓ works" } " " code { (id) }
                                @if let Some(at) = channel.delivered_at { " " span class="dim" { "last used " (ago(at, frame.now)) } }
                            }
                        }
                        @if channel.waiting > 0 { ", " (channel.waiting) " waiting" }
                    }
                }
            }
        }
    };
    Ok(frame.page((Tab::Alerts, Refresh::Live), ("Alerts", None), &body))
}

fn about(what: &Muted) -> Markup {
    match what {
        Muted::Key(key) => html! { input type="hidden" name="key" value=(key); },
        Muted::Topic(topic) => html! { input type="hidden" name="topic" value=(topic); },
    }
}

fn card(frame: &Frame<'_>, standing: &Standing, caller: &Caller) -> Markup {
    let (actor, is_certain) = caller.likely();
    let alert = &standing.alert;
    html! {
        li class=(format!("card {}", alert.severity.as_str())) {
            p {
                span class="sev" { (alert.severity.as_str()) } " " (text(&alert.text, 600)) " "
                span class="dim" { "since " (moment(&frame.graph.zone, standing.since, frame.now)) " (" (ago(standing.since, frame.now)) ")" }
            }
            @if let Some(done) = &alert.about.done { p { "What is done: " (text(done, 300)) } }
            p class="dim" {
                code { (text(alert.key.as_str(), 200)) }
                @if let (Some(key), Some(node)) = (&alert.about.partition, &alert.about.node) {
                    @if key.pipeline == frame.pipeline { " · " a href=(frame.node(key.date, node)) { (text(node.as_str(), 80)) " " (key.date) } }
                }
                @for (channel, told) in &standing.told { " · told as " (told.severity.as_str()) " over " (channel) " " (ago(told.at, frame.now)) }
            }
            @match &standing.muted {
                Some(mute) => {
                    p { span class="tag" { "muted" } " until " (moment(&frame.graph.zone, mute.until, frame.now)) " by " (text(&mute.actor, 100)) ": " (text(&mute.reason, 300)) }
                }
                None => {
                    details {
                        summary { "Mute…" span class="sr" { " " (clean(alert.key.as_str(), 120)) } }
                        form method="post" class="fields" {
                            input type="hidden" name="key" value=(alert.key);
                            input type="hidden" name="act" value="mute";
                            label { "For " select name="for" { @for span in ["1h", "4h", "12h", "24h", "3d", "7d"] { option value=(span) selected[span == "4h"] { (span) } } } }
                            label { "Why " input name="reason" required maxlength="500" autocomplete="off"; }
                            label { "Who " input name="actor" required maxlength="100" autocomplete="username" readonly[is_certain] value=(clean(actor.unwrap_or("operator"), 100)); }
                            button { "Mute: state and pages still show it" }
                        }
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    act: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    r#for: String,
    #[serde(default)]
    reason: String,
    actor: String,
}

/// `POST /ui/{pipeline}/alerts`: mutes, or ends a mute.
pub async fn change(
    State(app): State<App>,
    named: Named<String>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Filled<Change>, Problem>,
) -> Result<impl IntoResponse, Wrong> {
    super::own_form(&app, &uri, &headers)?;
    let Path(name) = named.map_err(Problem::from)?;
    let Filled(change) = form?;
    let what = match (change.key, change.topic) {
        (Some(key), None) => Muted::Key(AlertKey::from(key.as_str())),
        (None, Some(topic)) => Muted::Topic(topic),
        _ => return Err(Problem::invalid("say one of key and topic").into()),
    };
    let actor = caller.actor(&change.actor);
    let told = match change.act.as_str() {
        "mute" => {
            let words = (actor.as_str(), change.reason.as_str());
            requests::mute_for(&app, what, words, &change.r#for, app.engine.clock.now()).await?;
            "muted"
        }
        "unmute" => {
            let (actor, _) = ask::words(&actor, "unmute")?;
            app.engine.unmute(&what, &actor).await?;
            "unmuted"
        }
        other => return Err(Problem::invalid(format!("act is mute or unmute, not {}", clean(other, 40))).into()),
    };
    Ok(Redirect::to(&format!("/ui/{}/alerts?told={told}", super::path(&name))))
}
