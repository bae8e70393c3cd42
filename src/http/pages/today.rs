//! A date at a glance: is it complete, what is wrong, which game lacks what, what is due next, who is at work.

use axum::extract::{Path, State};
use axum::http::Uri;
use jiff::Timestamp;
use maud::{Markup, html};

use super::parts::{ago, lit, moment, plain, progress, span, state, text, until};
use super::{Frame, Named, Refresh, Shown, Tab, opened};
use crate::desk::day::{self, Day, GameView, Phase};
use crate::domain::event::GameStatus;
use crate::domain::units::Deficit;
use crate::domain::view::{self, NodeView};
use crate::http::App;
use crate::http::problem::Problem;

/// Deadlines shown.
const DUES_SHOWN: usize = 10;
/// Names shown of those that are due at once.
const NAMES_SHOWN: usize = 4;

/// `/ui/{pipeline}`: today.
pub async fn now(State(app): State<App>, named: Named<String>, uri: Uri) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    page(State(app), Ok(Path((name, "today".to_owned()))), uri).await
}

/// `/ui/{pipeline}/{date}`
pub async fn page(State(app): State<App>, named: Named<(String, String)>, uri: Uri) -> Shown {
    let (frame, date) = opened(&app, named).await?;
    let told = super::ask::told(&uri);
    let day = frame.day(date).await?;
    let phases = day::lights(frame.graph, &day);
    let games = day::games(frame.graph, &day);
    let alerts = app.engine.bus.alerts().await?;
    let key = frame.key(date);
    let mine = |alert: &&crate::domain::effect::Alert| alert.about.partition.as_ref().is_none_or(|about| *about == key);
    let alerts: Vec<_> = alerts.iter().filter(mine).take(8).collect();
    let body = html! {
        (told)
        div class="head" {
            h1 { (frame.long(date)) }
            (frame.date_line(date, ""))
        }
        (verdict(&day))
        @if !alerts.is_empty() {
            section aria-labelledby="alerts" {
                h2 id="alerts" { "Alerts" }
                ul class="alerts" {
                    @for alert in &alerts {
                        li class=(alert.severity.as_str()) {
                            span class="sev" { (alert.severity.as_str()) } " " (text(&alert.text, 300))
                            " " span class="dim" { (ago(alert.at, frame.now)) }
                        }
                    }
                }
                p { a href=(frame.link("/alerts")) { "All alerts, and mutes" } }
            }
        }
        section aria-labelledby="phases" {
            h2 id="phases" { "Phases" }
            ol class="phases" { @for phase in &phases { (light(&frame, &day, phase)) } }
        }
        div class="columns" {
            (attention(&frame, &day))
            div {
                (working(&frame, &day))
                (deadlines(&frame, &day))
            }
        }
        (coverage(&frame, &day, &games))
        p class="actions" {
            a class="button" href=(frame.of_date(date, "/ask?command=hold")) { "Hold this date…" } " "
            @if day.partition.hold.as_ref().is_some_and(|hold| hold.holds_at(frame.now)) {
                a class="button" href=(frame.of_date(date, "/ask?command=resume")) { "Lift the hold on this date…" } " "
            }
            a class="button" href=(frame.link("/stop")) { "Hold the whole pipeline…" }
        }
    };
    let title = format!("{} {}", if date == frame.today() { "Today" } else { "Date" }, date);
    Ok(frame.page((Tab::Today, Refresh::Live), (&title, Some(date)), &body))
}

fn verdict(day: &Day) -> Markup {
    let tasks = || day.view.nodes.iter().filter(|node| node.kind == "task");
    let count = |state: &str| tasks().filter(|node| node.state == state && node.made_up_by.is_none()).count();
    let (done, total) = (tasks().filter(|node| day::is_done(node)).count(), tasks().count());
    let rest: Vec<String> = ["running", "dispatched", "failed", "exhausted", "expired", "waiting"]
        .into_iter()
        .filter_map(|state| Some(count(state)).filter(|count| *count > 0).map(|count| format!("{count} {state}")))
        .collect();
    html! {
        p class="verdict" {
            @if day.view.no_games { strong { "No game is played, and nothing is required." } }
            @else if day.view.complete { strong class="ok" { "✓ Complete." } }
            @else { strong { "Not complete." } }
            " " (done) " of " (total) " tasks are done"
            @if !rest.is_empty() { "; " (rest.join(", ")) }
            "."
        }
    }
}

fn light(frame: &Frame<'_>, day: &Day, phase: &Phase) -> Markup {
    let (sign, class) = lit(phase.light);
    let heard = phase.heard_at.map(|at| ago(at, frame.now));
    html! {
        li class=(format!("phase {class}")) {
            a href=(frame.of_date(day.partition.key.date, &format!("/graph#phase-{}", plain(&phase.phase, 40)))) {
                span class="name" { (text(&phase.phase, 40)) }
                span class="light" { span aria-hidden="true" { (sign) } " " (phase.light.as_str()) }
                span class="num" { (phase.done) " of " (phase.total) }
                span class="dim" {
                    @match heard { Some(heard) => { "last message " (heard) } None => { "nothing heard" } }
                }
                @if phase.held > 0 { span class="held" { "‖ " (phase.held) " held" } }
            }
        }
    }
}

/// What somebody may want to look at: trouble first, then what is held, then what is blocked.
fn attention(frame: &Frame<'_>, day: &Day) -> Markup {
    let date = day.partition.key.date;
    let is_blocked = |node: &&NodeView| {
        node.kind == "task" && node.want.is_some() && !node.blockers.is_empty() && !day::is_done(node)
    };
    let rank = |node: &NodeView| match () {
        () if day::is_trouble(node) => Some(0),
        () if day::is_held(node) => Some(1),
        () if is_blocked(&node) => Some(2),
        () => None,
    };
    let mut found: Vec<(i32, &NodeView)> = day.view.nodes.iter().filter_map(|node| Some((rank(node)?, node))).collect();
    found.sort_by_key(|(rank, _)| *rank);
    html! {
        section aria-labelledby="attention" {
            h2 id="attention" { "To look at" }
            @if found.is_empty() { p class="dim" { "Nothing." } }
            @else {
                ul class="rows" {
                    @for (_, node) in found.iter().take(24) {
                        li {
                            (state(node.state)) " "
                            a class="id" data-panel="" href=(frame.node(date, &node.node)) { (text(node.node.as_str(), 80)) }
                            @if let Some(why) = why(node, date) { " " span class="dim" { (text(&why, 200)) } }
                        }
                    }
                    @if found.len() > 24 { li class="dim" { "and " (found.len() - 24) " more, on the graph" } }
                }
            }
        }
    }
}

fn why(node: &NodeView, date: jiff::civil::Date) -> Option<String> {
    if let Some(refused) = &node.refused {
        return Some(format!("not taken: {refused}"));
    }
    let held = node.blockers.iter().find(|blocker| matches!(blocker, view::Blocker::Held { .. }));
    let first = held.or(node.blockers.first()).map(|blocker| view::brief(blocker, date));
    first.or_else(|| node.failure.as_ref().map(|failure| failure.text.to_string()))
}

fn working(frame: &Frame<'_>, day: &Day) -> Markup {
    let date = day.partition.key.date;
    let runs = day::runs(frame.graph, day);
    let asked = day.view.nodes.iter().filter(|node| node.state == "dispatched");
    let asked: Vec<&NodeView> = asked.filter(|node| runs.iter().all(|run| run.node != node.node)).collect();
    html! {
        section aria-labelledby="working" {
            h2 id="working" { "At work" }
            @if runs.is_empty() && asked.is_empty() { p class="dim" { "Nobody." } }
            @else {
                ul class="rows" {
                    @for run in runs.iter().take(20) {
                        li {
                            (super::runs::health(run.health)) " "
                            a class="id" data-panel="" href=(frame.node(date, &run.node)) { (text(run.node.as_str(), 80)) } " "
                            (progress(run.done, run.total)) " "
                            span class="dim" { "heard " (span(run.age_seconds)) " ago" }
                        }
                    }
                    @for node in asked.iter().take(20) {
                        li {
                            (state(node.state)) " "
                            a class="id" data-panel="" href=(frame.node(date, &node.node)) { (text(node.node.as_str(), 80)) } " "
                            @if let Some(since) = node.since {
                                span class="dim" { "asked for " (ago(since, frame.now)) ", no sign of life yet" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How a game stands, and how long it is until it begins.
fn standing(game: &GameView, now: Timestamp) -> String {
    match (game.status, game.tip) {
        (GameStatus::Final, _) => "final".to_owned(),
        (GameStatus::Postponed, _) => "postponed".to_owned(),
        (GameStatus::Moved, _) => "moved".to_owned(),
        (GameStatus::Live, _) => "under way".to_owned(),
        (GameStatus::Scheduled, Some(tip)) if tip <= now => format!("begun {}", ago(tip, now)),
        (GameStatus::Scheduled, Some(tip)) => until(tip, now),
        (GameStatus::Scheduled, None) => "hour unknown".to_owned(),
    }
}

fn coverage(frame: &Frame<'_>, day: &Day, games: &[GameView]) -> Markup {
    let date = day.partition.key.date;
    let outputs = day::counted(frame.graph);
    html! {
        section aria-labelledby="games" {
            h2 id="games" { "Games" }
            @if games.is_empty() {
                p class="dim" {
                    @if day.view.no_games { "None." } @else { "The schedule of this date is not known yet." }
                }
            } @else {
                div class="scroll" role="region" aria-labelledby="games" tabindex="0" {
                    table class="games" {
                        thead {
                            tr {
                                th scope="col" { "Game" } th scope="col" { "Tip-off" } th scope="col" { "Stands" }
                                @for output in &outputs {
                                    th scope="col" { a href=(frame.node(date, output)) { (text(output.as_str(), 60)) } }
                                }
                            }
                        }
                        tbody {
                            @for game in games {
                                tr {
                                    th scope="row" class="num" {
                                        (text(&game.away, 20)) " @ " (text(&game.home, 20))
                                        @if game.overridden { " " span class="tag" { "corrected" } }
                                    }
                                    td class="num" {
                                        @match game.tip { Some(tip) => (moment(&frame.graph.zone, tip, frame.now)), None => "–" }
                                    }
                                    td class="num" { (standing(game, frame.now)) }
                                    @for output in &outputs { (share(game, output.as_str())) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn share(game: &GameView, output: &str) -> Markup {
    if !game.status.is_played() {
        return html! { td class="dim" { "–" } };
    }
    match game.short_of.get(output).copied().flatten() {
        None => html! { td class="ok" { "✓ there" } },
        Some(Deficit::Nothing) => {
            html! { td class=(if game.has_begun { "bad" } else { "wait" }) { "○ nothing" } }
        }
        Some(Deficit::Part(part)) => html! { td class="warn" { "◐ " (part.observed()) " of " (part.expected()) } },
    }
}

fn deadlines(frame: &Frame<'_>, day: &Day) -> Markup {
    let dues = day::dues(frame.graph, day);
    html! {
        section aria-labelledby="dues" {
            h2 id="dues" { "Next deadlines" }
            @if dues.is_empty() { p class="dim" { "None." } }
            @else {
                table {
                    thead { tr { th scope="col" { "When" } th scope="col" { "In" } th scope="col" { "What" } } }
                    tbody {
                        @for due in dues.iter().take(DUES_SHOWN) {
                            tr class=[(due.at <= frame.now).then_some("late")] {
                                td class="num" { (moment(&frame.graph.zone, due.at, frame.now)) }
                                td class="num" {
                                    @if due.at <= frame.now { "! late by " (span(frame.now.duration_since(due.at).as_secs())) }
                                    @else { (span(due.at.duration_since(frame.now).as_secs())) }
                                }
                                td {
                                    (due.what) ": "
                                    @for (index, who) in due.who.iter().take(NAMES_SHOWN).enumerate() {
                                        @if index > 0 { ", " } span class="id" { (text(who, 60)) }
                                    }
                                    @if due.who.len() > NAMES_SHOWN { " and " (due.who.len() - NAMES_SHOWN) " more" }
                                }
                            }
                        }
                    }
                }
            }
            @if let Some(wake_at) = day.view.wake_at {
                p class="dim" { "tipoff looks again " (until(wake_at, frame.now)) ", or when something comes in." }
            }
        }
    }
}
