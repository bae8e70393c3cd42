//! Every date of the season by phase, month by month, the latest first.

use axum::extract::{Path, State};
use maud::{Markup, html};

use super::parts::{lit, text};
use super::{Frame, Named, Refresh, Shown, Tab};
use crate::desk::day;
use crate::desk::season::{self, Row};
use crate::http::App;
use crate::http::problem::Problem;

/// `/ui/{pipeline}/calendar`
pub async fn page(State(app): State<App>, named: Named<String>) -> Shown {
    let Path(name) = named.map_err(Problem::from)?;
    let frame = Frame::open(&app, &name).await?;
    let (from, until) = season::span(frame.graph, frame.today());
    let rows = app.screen.seasons.rows(&app.engine, (frame.graph, &frame.pipeline), (from, until)).await?;
    let has_nodes = |phase: &&str| frame.graph.nodes.values().any(|node| node.phase == *phase);
    let phases: Vec<&str> = day::phases(frame.graph).into_iter().filter(has_nodes).collect();
    let mut months: Vec<Vec<&Row>> = Vec::new();
    for row in &rows {
        match months.last_mut() {
            Some(month) if month[0].date.first_of_month() == row.date.first_of_month() => month.push(row),
            _ => months.push(vec![row]),
        }
    }
    let body = html! {
        h1 { "Calendar" }
        p class="dim" { "From " (from) " to " (until) ", dates in " (frame.zone()) ". ✓ done, ▶ working, ○ waiting, ✕ trouble, – not needed, · nothing known." }
        div class="months" {
            @for month in &months { (table(&frame, &phases, month)) }
        }
    };
    Ok(frame.page((Tab::Calendar, Refresh::Live), ("Calendar", None), &body))
}

fn table(frame: &Frame<'_>, phases: &[&str], month: &[&Row]) -> Markup {
    let name = month[0].date.strftime("%B %Y").to_string();
    html! {
        div class="scroll" role="region" aria-label=(name) tabindex="0" {
            table class="calendar" {
                caption { (name) }
                thead {
                    tr {
                        th scope="col" { "Date" } th scope="col" { "Games" }
                        @for phase in phases { th scope="col" { (text(phase, 16)) } }
                    }
                }
                tbody {
                    @for row in month {
                        tr class=[(row.date == frame.today()).then_some("today")] {
                            th scope="row" class="num" {
                                a href=(frame.of_date(row.date, "")) { (row.date.strftime("%a %d")) }
                                @if row.complete && !row.phases.is_empty() { " " span class="ok" title="complete" { "✓" } }
                            }
                            td class="num" {
                                @match (row.games, &row.idle) {
                                    (Some(games), _) => (games),
                                    (None, Some(idle)) => { span class="dim" { (text(idle, 30)) } }
                                    (None, None) => { span class="dim" { "·" } }
                                }
                            }
                            @for phase in phases {
                                @match row.phases.get(*phase) {
                                    Some((light, done, total)) => {
                                        @let (sign, class) = lit(*light);
                                        td class=(class) { span aria-hidden="true" { (sign) } " " span class="sr" { (light.as_str()) } span class="num" { (done) "/" (total) } }
                                    }
                                    None => { td class="dim" { "·" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
