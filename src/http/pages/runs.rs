//! Who is at work, with the age of the last sign of life; which phase has said nothing for how long; which targets rest.

use axum::extract::{Path, State};
use maud::{Markup, html};

use super::parts::{ago, moment, path, progress, span, text, until};
use super::{Frame, Named, Refresh, Shown, Tab};
use crate::desk::day::{self, Health, RunView};
use crate::domain::graph::Graph;
use crate::http::App;
use crate::http::problem::Problem;

/// Bytes of a run's name that an address takes.
const RUN_MAX: usize = 500;
/// Runs shown.
const RUNS_SHOWN: usize = 200;

/// Whether a run gives signs of life, by a sign and a word.
pub fn health(health: Health) -> Markup {
    let (sign, class) = match health {
        Health::Alive => ("▶", "work"),
        Health::Stale => ("!", "warn"),
        Health::Dead => ("✕", "bad"),
    };
    html! { span class=(format!("state {class}")) { span aria-hidden="true" { (sign) } " " (health.as_str()) } }
}

/// What may be said of a run: requests, with the words for them.
fn words_on(graph: &Graph, run: &RunView) -> Vec<(&'static str, &'static str)> {
    let is_batch = run.total > 0 && graph.node(&run.node).is_some_and(|node| node.liveness.stall.is_some());
    let of_batch = [("finalize", "close…"), ("continue", "give time…")];
    let of_batch = of_batch.into_iter().filter(|_| is_batch);
    [("give_up", "give up…")].into_iter().filter(|_| run.run.as_str().len() <= RUN_MAX).chain(of_batch).collect()
}

/// `/ui/{pipeline}/runs`
pub async fn page(State(app): State<App>, named: Named<String>) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let graph = frame.graph;
    let mut runs: Vec<_> = frame.live.iter().flat_map(|day| day::runs(graph, day)).collect();
    runs.sort_by_key(|run| (std::cmp::Reverse(run.health), run.last));
    let given_up: Vec<_> = frame
        .live
        .iter()
        .flat_map(|day| day.view.nodes.iter().map(move |node| (day.partition.key.date, node)))
        .filter(|(_, node)| day::is_dead(node))
        .collect();
    let resting = app.engine.resting();
    let body = html! {
        h1 { "Runs" }
        section aria-labelledby="heartbeats" {
            h2 id="heartbeats" { "Heartbeats" }
            @if runs.is_empty() { p class="dim" { "Nobody is at work." } }
            @else {
                div class="scroll" role="region" aria-labelledby="heartbeats" tabindex="0" {
                    table {
                        thead { tr {
                            th scope="col" { "State" } th scope="col" { "Last heard" } th scope="col" { "Node" } th scope="col" { "Date" }
                            th scope="col" { "Progress" } th scope="col" { "Moved" } th scope="col" { "Since" } th scope="col" { "Run" }
                        } }
                        tbody {
                            @for run in runs.iter().take(RUNS_SHOWN) {
                                tr {
                                    td { (health(run.health)) }
                                    td class="num" {
                                        (span(run.age_seconds)) " ago"
                                        @if !run.beats { " " span class="dim" { "sends none" } }
                                    }
                                    th scope="row" class="id" { a href=(frame.node(run.date, &run.node)) { (text(run.node.as_str(), 80)) } }
                                    td class="num" { (run.date) }
                                    td { (progress(run.done, run.total)) }
                                    td class="num" { (ago(run.progressed_at, frame.now)) }
                                    td class="num" { (moment(&graph.zone, run.first, frame.now)) }
                                    td class="id" {
                                        (text(run.run.as_str(), 60))
                                        @if run.ended_unreported { " " span class="warn" { "ended, no result" } }
                                        @for (verb, words) in words_on(graph, run) {
                                            " " a href=(frame.of_date(run.date, &format!("/ask?command={verb}&node={}&run={}", path(run.node.as_str()), path(run.run.as_str())))) { (words) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !given_up.is_empty() {
            section aria-labelledby="dead" {
                h2 id="dead" { "Fell silent" }
                ul class="rows" {
                    @for (date, node) in &given_up {
                        li {
                            (super::parts::state(node.state)) " "
                            a class="id" href=(frame.node(*date, &node.node)) { (text(node.node.as_str(), 80)) } " " span class="num" { (date) }
                            @if let Some(failure) = &node.failure { " " span class="dim" { (text(&failure.text, 200)) " " (ago(failure.at, frame.now)) } }
                        }
                    }
                }
            }
        }
        section aria-labelledby="phases" {
            h2 id="phases" { "Last message of each phase" }
            div class="scroll" role="region" aria-labelledby="phases" tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "Phase" }
                        @for day in &frame.live { th scope="col" { a href=(frame.of_date(day.partition.key.date, "")) { (day.partition.key.date) } } }
                    } }
                    tbody {
                        @for phase in day::phases(graph) {
                            tr {
                                th scope="row" { (text(phase, 40)) }
                                @for day in &frame.live {
                                    @let heard = day::lights(graph, day).into_iter().find(|found| found.phase == phase).and_then(|found| found.heard_at);
                                    td class="num" {
                                        @match heard {
                                            Some(at) => { (ago(at, frame.now)) " " span class="dim" { (moment(&graph.zone, at, frame.now)) } }
                                            None => { span class="dim" { "nothing" } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        section id="breakers" aria-labelledby="breakers-title" {
            h2 id="breakers-title" { "Breakers" }
            @if resting.is_empty() { p class="dim" { "None is open: every target that was called has answered." } }
            @else {
                ul class="rows" {
                    @for (target, rest) in &resting {
                        li {
                            span class="state bad" { "✕ open" } " " span class="id" { (text(target, 200)) } " "
                            @if rest.dead { "somebody has to mend it; " }
                            "tried again " (until(rest.until, frame.now)) " " span class="dim" { (text(&rest.reason, 300)) }
                        }
                    }
                }
            }
        }
    };
    Ok(frame.page((Tab::Runs, Refresh::Live), ("Runs", None), &body))
}
