//! What could not be used or delivered: parked inputs, and what was decided and cannot be delivered as it is.

use axum::extract::{Path, State};
use maud::{Markup, html};

use super::parts::{ago, moment, text};
use super::{Frame, Named, Refresh, Shown, Tab};
use crate::domain::dead_letter::Kind;
use crate::domain::effect::Effect;
use crate::engine::dead_letter::{Seen, Selection};
use crate::http::App;
use crate::http::problem::Problem;
use crate::port::{OutboxEntry, Parked};

/// Letters shown of each kind.
const SHOWN_MAX: usize = 100;
/// Characters of a body that are shown.
const HEAD_MAX: usize = 1_024;

/// `/ui/{pipeline}/letters`
pub async fn page(State(app): State<App>, named: Named<String>) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let parked = app.engine.store.parked(SHOWN_MAX).await?;
    let undeliverable = app.engine.store.undeliverable(SHOWN_MAX).await?;
    let board = app.engine.dead_letters(&of_broker(), (None, SHOWN_MAX), 0).await?;
    let body = html! {
        h1 { "Letters" }
        p class="dim" { "Looking changes nothing, and acknowledges nothing." }
        (section("dead", "Dead letters: messages the broker gave up on", board.letters.len(), &html! {
            @for seen in &board.letters { (of_broker_card(&frame, seen)) }
        }))
        (section("parked", "Parked: inputs that can never be applied as they are", parked.len(), &html! {
            @for input in &parked { (of_input(&frame, input)) }
        }))
        (section("undeliverable", "Undeliverable: decided, and cannot be delivered as it is", undeliverable.len(), &html! {
            @for (entry, reason) in &undeliverable { (of_entry(&frame, entry, reason)) }
        }))
    };
    Ok(frame.page((Tab::Letters, Refresh::Live), ("Letters", None), &body))
}

/// Letters of one kind. Another kind is another section.
fn section(id: &str, title: &str, count: usize, cards: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby=(format!("{id}-title")) {
            h2 id=(format!("{id}-title")) { (title) @if count > 0 { " (" (count) @if count >= SHOWN_MAX { "+" } ")" } }
            @if count == 0 { p class="dim" { "None." } } @else { ul class="cards" { (cards) } }
        }
    }
}

/// What the broker gave up on, and nobody has settled.
fn of_broker() -> Selection {
    Selection { kind: Some(Kind::Dead), ..Selection::default() }
}

fn of_broker_card(frame: &Frame<'_>, seen: &Seen) -> Markup {
    let letter = &seen.letter;
    let standing = if seen.standing.as_str() == "wanted" { "critical" } else { "warning" };
    html! {
        li class=(format!("card {standing}")) {
            p {
                span class="sev" { (seen.standing.as_str()) } " " (text(seen.standing.why(), 600)) " "
                span class="dim" { (moment(&frame.graph.zone, letter.at, frame.now)) " (" (ago(letter.at, frame.now)) ")" }
            }
            p { (text(&letter.reason, 600)) }
            p class="dim" {
                @if let Some(topic) = &letter.topic { "from " code { (text(topic, 200)) } " · " }
                "message " code { (text(&letter.message_id, 100)) } " · " (letter.attempts) " attempts"
                @if !letter.replays.is_empty() { " · replayed " (letter.replays.len()) " times" }
                @if let Some(words) = &seen.came_of_it { " · " (text(words, 200)) }
            }
            p class="dim" { "look: " code { "tipoff dlq show " (text(letter.id.as_str(), 100)) } " · again: " code { "tipoff dlq replay " (text(letter.id.as_str(), 100)) } }
        }
    }
}

fn of_input(frame: &Frame<'_>, input: &Parked) -> Markup {
    let head = String::from_utf8_lossy(&input.head);
    html! {
        li class="card warning" {
            p {
                span class="sev" { (text(&input.slug, 60)) } " " (text(&input.reason, 600)) " "
                span class="dim" { (moment(&frame.graph.zone, input.at, frame.now)) " (" (ago(input.at, frame.now)) ")" }
            }
            p class="dim" {
                "from " code { (text(&input.topic, 200)) } " · message " code { (text(&input.message_id, 100)) }
                " · " (input.size) " bytes" @if input.count > 1 { " · seen " (input.count) " times" }
            }
            details { summary { "Its beginning" } pre tabindex="0" { (text(&head, HEAD_MAX)) } }
        }
    }
}

fn of_entry(frame: &Frame<'_>, entry: &OutboxEntry, reason: &str) -> Markup {
    html! {
        li class="card critical" {
            p {
                span class="sev" { "undeliverable" } " " (text(reason, 600)) " "
                span class="dim" { "decided " (ago(entry.decided_at, frame.now)) ", tried " (entry.tries) " times" }
            }
            p class="dim" {
                code { (text(&entry.id, 200)) }
                @if let Effect::Dispatch(sent) | Effect::Close(sent) = &entry.effect {
                    @if entry.key.pipeline == frame.pipeline {
                        " · " a href=(frame.node(entry.key.date, &sent.node)) { (text(sent.node.as_str(), 80)) " " (entry.key.date) }
                    }
                }
            }
        }
    }
}
