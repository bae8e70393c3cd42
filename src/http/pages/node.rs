//! One node of a date: why it has or has not run, what would move it, and what has happened to it.

use axum::extract::{Path, State};
use axum::http::Uri;
use jiff::civil::Date;
use maud::{Markup, html};

use super::parts::{ago, moment, path, progress, span, state, text};
use super::{Frame, Named, Refresh, Shown, Tab};
use crate::desk::ask::{self, Verb};
use crate::desk::day;
use crate::domain::effect::Cause;
use crate::domain::evidence::Extant;
use crate::domain::graph::{Kind, Node, Offset, Strength};
use crate::domain::view::{self, NodeView, Why};
use crate::http::problem::Problem;
use crate::http::{App, api};

/// Lines of what happened that are shown.
const LINES_SHOWN: usize = 60;
/// Commands that are shown at once.
const REMEDIES_SHOWN: usize = 5;
/// Reasons under reasons that are shown; deeper ones are on the page of the node they are about.
const DEPTH_MAX: usize = 6;

/// `/ui/{pipeline}/{date}/node/{node}`
pub async fn page(State(app): State<App>, named: Named<(String, String, String)>, uri: Uri) -> Shown {
    let Path((name, word, node)) = named.map_err(Problem::from)?;
    let (key, graph) = api::partition(&app, &name, &word)?;
    let date = key.date;
    let id = ask::node(graph, &node, date, app.engine.clock.now())?;
    let frame = Frame::open(&app, &name).await?;
    let day = frame.day(date).await?;
    let (Some(found), Some(declared), Some(why)) = (day.node(&id), graph.node(&id), view::why(&day.view, &id)) else {
        return Err(Problem::unknown(format!("{id} is not in the graph")).into());
    };
    let remedies = view::remedies(&day.view, &why);
    let course = app.screen.courses.of(&*app.engine.store, &key).await?;
    let is_about = |line: &str| {
        line.split(|letter: char| letter.is_whitespace() || ":,;@/".contains(letter)).any(|word| word == id.as_str())
    };
    let lines: Vec<_> = course.lines.iter().rev().filter(|(_, line)| is_about(line)).take(LINES_SHOWN).collect();
    let runs: Vec<_> = day::runs(graph, &day).into_iter().filter(|run| run.node == id).collect();
    let body = html! {
        (super::ask::told(&uri))
        div class="head" {
            h1 { span class="id" { (text(id.as_str(), 120)) } " " (state(found.state)) }
            (frame.date_line(date, &format!("/node/{}", path(id.as_str()))))
        }
        p class="dim" {
            (frame.long(date)) " · " (text(&found.phase, 40)) " · " (found.kind) " · pass " (text(found.cycle.as_str(), 40))
        }
        section id="why" aria-labelledby="why-title" {
            h2 id="why-title" { "Why" }
            (tree(&frame, &why, 0))
            @if let Some(until) = found.until {
                p class="dim" { "Waits until " (moment(&graph.zone, until, frame.now)) " at most, if nothing comes first." }
            }
            (actions(&frame, date, found, declared))
            @if !remedies.is_empty() {
                h3 { "What would move it" }
                (commands(&remedies[..remedies.len().min(REMEDIES_SHOWN)]))
                @if remedies.len() > REMEDIES_SHOWN {
                    details {
                        summary { "and " (remedies.len() - REMEDIES_SHOWN) " more" }
                        (commands(&remedies[REMEDIES_SHOWN..]))
                    }
                }
            }
        }
        @if !runs.is_empty() {
            section aria-labelledby="runs" {
                h2 id="runs" { "Runs" }
                ul class="rows" {
                    @for run in &runs {
                        li {
                            (super::runs::health(run.health)) " " span class="id" { (text(run.run.as_str(), 80)) } " "
                            (progress(run.done, run.total)) " "
                            span class="dim" {
                                "heard " (span(run.age_seconds)) " ago, since " (moment(&graph.zone, run.first, frame.now))
                            }
                        }
                    }
                }
            }
        }
        (facts(&frame, found))
        (inputs(&frame, &day, declared))
        section aria-labelledby="lines" {
            h2 id="lines" { "What happened" }
            @if lines.is_empty() { p class="dim" { "Nothing is recorded of it." } }
            @else {
                ol class="log" reversed {
                    @for (at, line) in &lines {
                        li { (moment(&graph.zone, *at, frame.now)) " " span class="line" { (text(line, 500)) } }
                    }
                }
            }
        }
    };
    Ok(frame.page((Tab::None, Refresh::Live), (&format!("{id} {date}"), Some(date)), &body))
}

fn commands(remedies: &[view::Remedy]) -> Markup {
    html! {
        ul class="rows" {
            @for remedy in remedies {
                li { code { (text(&remedy.command, 300)) } " " span class="dim" { (text(&remedy.effect, 200)) } }
            }
        }
    }
}

fn tree(frame: &Frame<'_>, why: &Why, depth: usize) -> Markup {
    html! {
        div class="why" {
            p {
                (state(why.state)) " "
                @if depth > 0 {
                    a class="id" data-panel="" href=(frame.node(why.date, &why.node)) { (text(why.node.as_str(), 80)) } ": "
                }
                (text(&why.verdict, 500))
            }
            @if !why.because.is_empty() {
                ul {
                    @for reason in why.because.iter().take(40) {
                        li {
                            (text(&reason.text, 500))
                            @if depth < DEPTH_MAX {
                                @for under in reason.under.iter().take(40) { (tree(frame, under, depth + 1)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Links to forms that first show what would happen.
fn actions(frame: &Frame<'_>, date: Date, found: &NodeView, declared: &Node) -> Markup {
    if matches!(declared.kind, Kind::Gate(_)) {
        return html! {};
    }
    let link = |verb: Verb| {
        let (verb, node) = (verb.as_str(), path(found.node.as_str()));
        frame.of_date(date, &format!("/ask?command={verb}&node={node}"))
    };
    let is_held = day::is_held(found);
    html! {
        p class="actions" {
            @if is_held { a class="button" href=(link(Verb::Resume)) { "Lift the hold…" } " " }
            @else if declared.dispatchable().is_some() { a class="button" href=(link(Verb::Hold)) { "Hold…" } " " }
            @if declared.dispatchable().is_some() { a class="button" href=(link(Verb::Retry)) { "Run again…" } " " }
            a class="button" href=(link(Verb::Skip)) { "Skip…" }
        }
    }
}

fn facts(frame: &Frame<'_>, found: &NodeView) -> Markup {
    let zone = &frame.graph.zone;
    let output = match found.output {
        Extant::Nothing => "nothing".to_owned(),
        output => output.to_string(),
    };
    html! {
        section aria-labelledby="facts" {
            h2 id="facts" { "Stands" }
            dl class="facts" {
                dt { "Output" } dd { (output) @if found.degraded { " " span class="warn" { "degraded" } } }
                dt { "Attempt" } dd { (found.attempt.to_string()) }
                @if let Some(since) = found.since { dt { "Since" } dd { (moment(zone, since, frame.now)) " (" (ago(since, frame.now)) ")" } }
                dt { "Last asked for" }
                dd {
                    @match &found.last_dispatch {
                        Some(last) => {
                            (moment(zone, last.at, frame.now)) " because " (cause(last.cause)) " "
                            code { (text(last.id.as_str(), 200)) }
                            @if !last.missing.is_empty() {
                                ", without " @for (index, node) in last.missing.iter().take(12).enumerate() {
                                    @if index > 0 { ", " } (text(node.as_str(), 60))
                                }
                            }
                        }
                        None => "never",
                    }
                }
                @if let Some(failure) = &found.failure {
                    dt { "Last failure" }
                    dd { (moment(zone, failure.at, frame.now)) " " (text(&failure.text, 500)) }
                }
                @if let Some(refused) = &found.refused { dt { "Not taken" } dd { (text(refused, 500)) } }
            }
        }
    }
}

/// Why something was asked for, in words.
pub fn cause(cause: Cause) -> String {
    cause.as_str().replace('_', " ")
}

fn inputs(frame: &Frame<'_>, day: &day::Day, declared: &Node) -> Markup {
    let date = day.partition.key.date;
    if declared.needs.is_empty() && declared.expects.checks.is_empty() {
        return html! {};
    }
    let ask = |verb: Verb, input: &str| {
        let node = path(declared.id.as_str());
        frame.of_date(date, &format!("/ask?command={}&node={node}&input={}", verb.as_str(), path(input)))
    };
    html! {
        section aria-labelledby="inputs" {
            h2 id="inputs" { "Needs" }
            div class="scroll" role="region" aria-labelledby="inputs" tabindex="0" {
                table {
                    thead { tr { th scope="col" { "Input" } th scope="col" { "Stands" } th scope="col" { "Required" } th scope="col" { "Ask" } } }
                    tbody {
                        @for need in &declared.needs {
                            @let same = need.offset == Offset::Same;
                            tr {
                                th scope="row" class="id" {
                                    a href=(frame.node(date, &need.node)) { (text(need.node.as_str(), 80)) }
                                    @if !same { " " span class="dim" { "previous game day" } }
                                }
                                td {
                                    @match day.node(&need.node).filter(|_| same) {
                                        Some(node) => { (state(node.state)) " " (node.output.to_string()) }
                                        None => {
                                            @match day.partition.upstream.get(&need.node) {
                                                Some(upstream) => { (upstream.date.to_string()) ": " (upstream.extant.to_string()) }
                                                None => { span class="dim" { "nothing told" } }
                                            }
                                        }
                                    }
                                }
                                td {
                                    (match need.strength { Strength::Hard => "hard", Strength::Soft => "soft", Strength::Optional => "optional" })
                                    @if need.strength != Strength::Optional { " ≥ " (need.coverage_min.to_string()) }
                                }
                                td class="asks" {
                                    a href=(ask(Verb::Hold, need.node.as_str())) { "hold…" } " "
                                    a href=(ask(Verb::Force, need.node.as_str())) { "go past…" } " "
                                    @if declares(day, declared, need.node.as_str(), frame.now) {
                                        a href=(ask(Verb::Resume, need.node.as_str())) { "as declared…" }
                                    }
                                }
                            }
                        }
                        @for check in &declared.expects.checks {
                            tr {
                                th scope="row" class="id" { (text(check.id.as_str(), 80)) " " span class="dim" { "check" } }
                                td {
                                    @match day.partition.node(&declared.id).checks.get(&check.id) {
                                        Some(taken) => {
                                            @match taken.answer {
                                                crate::domain::event::CheckAnswer::Share(share) => (share.to_string()),
                                                crate::domain::event::CheckAnswer::Unknown => "cannot be told",
                                                crate::domain::event::CheckAnswer::NotKept => "not kept",
                                            }
                                        }
                                        None => { span class="dim" { "not asked yet" } }
                                    }
                                }
                                td { "≥ " (check.block_below.to_string()) }
                                td class="asks" { a href=(ask(Verb::Force, check.id.as_str())) { "go past…" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether an operator has said something of an input that still counts.
fn declares(day: &day::Day, node: &Node, input: &str, now: jiff::Timestamp) -> bool {
    let facts = day.partition.node(&node.id);
    facts.edges.get(input).is_some_and(|word| word.rule.is_some() && word.by.holds_at(now))
}
