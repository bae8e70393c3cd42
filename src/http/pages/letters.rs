//! What could not be used or delivered, and what became of it: dead letters, parked inputs, and what was decided and cannot be delivered as it is.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::Uri;
use maud::{Markup, html};

use super::parts::{ago, moment, path, text};
use super::{Frame, Named, Refresh, Shown, Tab};
use crate::domain::dead_letter::{Kind, Stage};
use crate::engine::dead_letter::{Board, Seen, Selection};
use crate::http::App;
use crate::http::problem::Problem;

/// Letters shown of each kind.
const SHOWN_MAX: usize = 100;
/// Causes shown.
const GROUPS_MAX: usize = 20;
/// Letters shown that were replayed or discarded.
const SETTLED_MAX: usize = 20;
/// Characters of a body that are shown.
const HEAD_MAX: usize = 1_024;

/// `/ui/{pipeline}/letters`
pub async fn page(State(app): State<App>, named: Named<String>, uri: Uri) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let of = async |kind: Kind| {
        let selection = Selection { kind: Some(kind), ..Selection::default() };
        app.engine.dead_letters(&selection, (None, SHOWN_MAX), 0).await
    };
    let (dead, parked, undeliverable) =
        (of(Kind::Dead).await?, of(Kind::Parked).await?, of(Kind::Undeliverable).await?);
    let mut heads = BTreeMap::new();
    for seen in &parked.letters {
        let said = app.engine.store.letter_content(&seen.letter.id, seen.letter.latest()).await?;
        heads.insert(seen.letter.id.clone(), said.unwrap_or_default().0);
    }
    let causes = app.engine.dead_letters(&Selection::default(), (None, 1), GROUPS_MAX).await?;
    let settled =
        app.engine.dead_letters(&Selection { all: true, ..Selection::default() }, (None, SHOWN_MAX), 0).await?;
    let settled: Vec<&Seen> = settled.letters.iter().filter(|seen| !is_open(seen)).take(SETTLED_MAX).collect();
    let body = html! {
        (super::ask::told(&uri))
        h1 { "Letters" }
        p class="dim" { "Looking changes nothing, and acknowledges nothing." }
        @if !causes.groups.is_empty() { (by_cause(&frame, &causes)) }
        (section("dead", "Dead letters: messages the broker gave up on", dead.letters.len(), &html! {
            @for seen in &dead.letters { (card(&frame, seen, None)) }
        }))
        (section("parked", "Parked: inputs that can never be applied as they are", parked.letters.len(), &html! {
            @for seen in &parked.letters { (card(&frame, seen, heads.get(&seen.letter.id).map(Vec::as_slice))) }
        }))
        (section("undeliverable", "Undeliverable: decided, and cannot be delivered as it is", undeliverable.letters.len(), &html! {
            @for seen in &undeliverable.letters { (card(&frame, seen, None)) }
        }))
    };
    let body = html! {
        (body)
        @if !settled.is_empty() {
            section id="settled" aria-labelledby="settled-title" {
                h2 id="settled-title" { "Replayed or discarded lately" }
                ul class="rows" { @for seen in settled { li { (settled_line(&frame, seen)) } } }
            }
        }
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

/// Whether somebody has to decide about it yet.
fn is_open(seen: &Seen) -> bool {
    matches!(seen.stage, Stage::Waiting | Stage::Asked)
}

/// All that waits, by what went wrong, with what may be done about it.
fn by_cause(frame: &Frame<'_>, board: &Board) -> Markup {
    html! {
        section id="causes" aria-labelledby="causes-title" {
            h2 id="causes-title" { "What waits, by cause" }
            ul class="cards" {
                @for group in &board.groups {
                    li class=(if group.wanted > 0 { "card critical" } else { "card warning" }) {
                        p { strong { (group.count) } " × " (text(&group.words, 400)) }
                        p class="dim" {
                            (group.wanted) " wanted, " (group.unneeded) " not wanted any more, " (group.unclear) " unclear · the oldest "
                            (moment(&frame.graph.zone, group.oldest, frame.now)) " (" (ago(group.oldest, frame.now)) ")"
                        }
                        (actions(frame, "cause", &group.cause))
                    }
                }
            }
            @if board.groups_left_out > 0 { p class="dim" { "and " (board.groups_left_out) " more causes" } }
        }
    }
}

/// What may be done about a letter, or about all of a cause: each is shown before it is done.
fn actions(frame: &Frame<'_>, which: &str, name: &str) -> Markup {
    let to = |act: &str| frame.link(&format!("/letters/settle?act={act}&{which}={}", path(name)));
    html! {
        p class="actions" { a class="button" href=(to("replay")) { "Replay…" } " " a class="button" href=(to("discard")) { "Discard…" } }
    }
}

fn settled_line(frame: &Frame<'_>, seen: &Seen) -> Markup {
    let letter = &seen.letter;
    html! {
        code { (text(letter.id.as_str(), 100)) } " "
        @if let Some(discarded) = &letter.discarded {
            "discarded by " (text(&discarded.actor, 80)) " " (moment(&frame.graph.zone, discarded.at, frame.now)) ": " (text(&discarded.reason, 300))
        } @else if let Some(replay) = letter.replays.last() {
            "replayed by " (text(&replay.actor, 80)) " " (moment(&frame.graph.zone, replay.at, frame.now))
            @if let Some(reason) = &replay.reason { ": " (text(reason, 300)) }
            @if let Some(words) = &seen.came_of_it { " · " (text(words, 200)) }
        }
    }
}

/// A letter, and the beginning of what it says.
fn card(frame: &Frame<'_>, seen: &Seen, said: Option<&[u8]>) -> Markup {
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
            @if let (Some(date), Some(node)) = (letter.about.date, &letter.about.node) {
                @if letter.about.pipeline.as_ref() == Some(&frame.pipeline) {
                    p { "about " a href=(frame.node(date, node)) { (text(node.as_str(), 80)) " " (date) } }
                }
            }
            @if let Some(said) = said {
                details { summary { "Its beginning" } pre tabindex="0" { (text(&String::from_utf8_lossy(said), HEAD_MAX)) } }
            }
            p class="dim" { "look: " code { "tipoff dlq show " (text(letter.id.as_str(), 100)) } }
            (actions(frame, "id", letter.id.as_str()))
        }
    }
}
