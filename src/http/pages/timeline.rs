//! A date over time: for each node a bar from when until when it stood how, and what happened in words.

use axum::extract::State;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::parts::{begins, local_time, moment, plain, span, state, text};
use super::{Frame, Named, Refresh, Shown, Tab, opened};
use crate::desk::course::{Course, Span};
use crate::desk::day::{self, Day};
use crate::domain::id::NodeId;
use crate::domain::stop::{BELONGS_FOR, Stops};
use crate::domain::time::after;
use crate::http::App;

const LABELS: i64 = 284;
const CHART: i64 = 1000;
const ROW: i64 = 20;
const TOP: i64 = 26;
/// Lines of what happened that are shown.
const LINES_SHOWN: usize = 200;
/// Marks of the hour at most.
const TICKS_MAX: i64 = 14;

/// `/ui/{pipeline}/{date}/timeline`
pub async fn page(State(app): State<App>, named: Named<(String, String)>) -> Shown {
    let (frame, date) = opened(&app, named).await?;
    let day = frame.day(date).await?;
    let course = app.screen.courses.of(&*app.engine.store, &frame.key(date)).await?;
    let (_, stops) = app.engine.store.kept::<Stops>().await?;
    let lines = lines(&course, &stops, &frame);
    let rows: Vec<(&NodeId, &Vec<Span>)> =
        frame.graph.order.iter().filter_map(|id| course.spans.get_key_value(id)).collect();
    let body = html! {
        div class="head" {
            h1 { "Timeline " (frame.long(date)) }
            (frame.date_line(date, "/timeline"))
        }
        @if rows.is_empty() { p class="dim" { "Nothing has happened on this date, as far as the journal goes back." } }
        @else {
            p class="legend dim" {
                span class="swatch asked" aria-hidden="true" {} " asked for  "
                span class="swatch ran" aria-hidden="true" {} " running  "
                span class="swatch lost" aria-hidden="true" {} " failed  "
                "✓ succeeded  ✕ exhausted  ∅ expired  » skipped · times in " (frame.zone())
            }
            div class="scroll" role="region" aria-label="The chart" tabindex="0" { (chart(&frame, &day, &course, &rows)) }
            details {
                summary { "The same as a table" }
                (table(&frame, date, &rows))
            }
        }
        section aria-labelledby="lines" {
            h2 id="lines" { "What happened, the latest first" }
            @if course.is_cut { p class="warn" { "There is more than is shown: the day's journal is longer than what is followed." } }
            ol class="log" reversed {
                @for (at, line) in lines.iter().rev().take(LINES_SHOWN) {
                    li { (moment(&frame.graph.zone, *at, frame.now)) " " span class="line" { (text(line, 500)) } }
                }
            }
            @if lines.len() > LINES_SHOWN {
                p class="dim" { "Earlier: " code { "tipoff timeline " (date) } " or " code { "/v1/pipelines/…/timeline" } }
            }
        }
    };
    Ok(frame.page((Tab::Timeline, Refresh::Live), (&format!("Timeline {date}"), Some(date)), &body))
}

/// What happened on the date, and what held its whole pipeline meanwhile, the earliest first.
fn lines(course: &Course, stops: &Stops, frame: &Frame<'_>) -> Vec<(Timestamp, String)> {
    let mut lines: Vec<(Timestamp, String)> = course.lines.iter().cloned().collect();
    if let (Some(from), Some((last, _))) = (course.begun, lines.last()) {
        lines.extend(stops.turns(&frame.pipeline, from, after(*last, BELONGS_FOR)));
        lines.sort_by_key(|(at, _)| *at);
    }
    lines
}

/// From when until when, and the way from an instant to a place.
struct Scale {
    from: Timestamp,
    until: Timestamp,
}

impl Scale {
    fn x(&self, at: Timestamp) -> i64 {
        let all = self.until.duration_since(self.from).as_secs().max(1);
        let since = at.duration_since(self.from).as_secs().clamp(0, all);
        LABELS + since * CHART / all
    }

    /// How far apart the marks are: whole hours, so that there are not too many.
    fn step(&self) -> i64 {
        let hours = self.until.duration_since(self.from).as_hours().max(1);
        [1, 2, 3, 6, 12, 24, 48].into_iter().find(|step| hours / step <= TICKS_MAX).unwrap_or(96)
    }
}

fn chart(frame: &Frame<'_>, day: &Day, course: &Course, rows: &[(&NodeId, &Vec<Span>)]) -> Markup {
    let last = rows
        .iter()
        .flat_map(|(_, spans)| spans.iter())
        .flat_map(|span| span.until.into_iter().chain([span.from]))
        .max();
    let is_over = rows.iter().all(|(_, spans)| spans.last().is_none_or(|span| !is_open(&span.state)));
    let from = course.begun.unwrap_or(frame.now);
    // A day on which nothing goes on any more ends with the last that happened.
    let end = if is_over { last.unwrap_or(frame.now) } else { frame.now };
    let until = after(end.max(after(from, SignedDuration::from_mins(30))), SignedDuration::from_mins(10));
    let scale = Scale { from, until };
    let height = TOP + ROW * i64::try_from(rows.len()).unwrap_or(0) + 8;
    let width = LABELS + CHART + 20;
    let tips: Vec<(Timestamp, String)> = day::games(frame.graph, day)
        .into_iter()
        .filter_map(|game| Some((game.tip?, format!("{} @ {}", game.away, game.home))))
        .filter(|(tip, _)| *tip > from && *tip < until)
        .collect();
    html! {
        svg class="gantt" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="group" aria-label="When each node stood how" {
            defs {
                pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect class="hatch-ground" width="6" height="6" {}
                    rect class="hatch-line" width="2.5" height="6" {}
                }
            }
            (ticks(frame, &scale, height))
            @for (tip, game) in &tips {
                line class="tip" x1=(scale.x(*tip)) x2=(scale.x(*tip)) y1=(TOP) y2=(height) { title { "tip-off " (plain(game, 40)) } }
            }
            @for (row, (id, spans)) in rows.iter().enumerate() {
                @let y = TOP + ROW * i64::try_from(row).unwrap_or(0);
                a href=(frame.node(day.partition.key.date, id)) data-panel="" aria-label=(told(id, spans)) {
                    rect class="row" x="0" y=(y) width=(width) height=(ROW) {}
                    text x="4" y=(y + 14) { (begins(id.as_str(), 38)) }
                    @for span in spans.iter() { (bar(frame, &scale, span, y)) }
                }
            }
            @if frame.now < until && frame.now > from {
                line class="now" x1=(scale.x(frame.now)) x2=(scale.x(frame.now)) y1=(TOP - 8) y2=(height) { title { "now" } }
            }
        }
    }
}

/// Whether a state goes on until something happens to it.
fn is_open(state: &str) -> bool {
    matches!(state, "dispatched" | "running")
}

fn told(id: &NodeId, spans: &[Span]) -> String {
    let states: Vec<&str> = spans.iter().map(|span| span.state.as_str()).collect();
    format!("{}: {}", plain(id.as_str(), 80), plain(&states.join(", "), 300))
}

fn ticks(frame: &Frame<'_>, scale: &Scale, height: i64) -> Markup {
    let (zone, step) = (&frame.graph.zone, scale.step());
    let begun = local_time(zone, scale.from);
    let hour = i64::from(begun.hour());
    let first = begun.date().to_datetime(jiff::civil::Time::midnight());
    let marks = (0..=TICKS_MAX + 2).filter_map(|mark| {
        let hours = (hour / step + 1 + mark) * step;
        let at = first.checked_add(SignedDuration::from_hours(hours)).ok()?;
        let at = zone.to_timestamp(at).ok()?;
        (at > scale.from && at < scale.until).then_some(at)
    });
    html! {
        g class="ticks" aria-hidden="true" {
            @for at in marks {
                @let local = local_time(zone, at);
                line x1=(scale.x(at)) x2=(scale.x(at)) y1=(TOP - 6) y2=(height) {}
                text x=(scale.x(at) + 3) y="13" {
                    @if local.hour() == 0 { (local.strftime("%d %b")) } @else { (local.strftime("%H:%M")) }
                }
            }
        }
    }
}

fn bar(frame: &Frame<'_>, scale: &Scale, of: &Span, y: i64) -> Markup {
    let (x1, x2) = (scale.x(of.from), scale.x(of.until.unwrap_or(frame.now.min(scale.until))));
    let width = (x2 - x1).max(2);
    let lasted = of.until.unwrap_or(frame.now).duration_since(of.from).as_secs();
    let local = local_time(&frame.graph.zone, of.from);
    let title = format!("{} from {} for {}", plain(&of.state, 40), local.strftime("%H:%M:%S %Z"), span(lasted));
    html! {
        @match of.state.as_str() {
            "dispatched" => { rect class="asked" x=(x1) y=(y + 6) width=(width) height="9" { title { (title) } } }
            "running" => { rect class="ran" x=(x1) y=(y + 3) width=(width) height="14" rx="2" { title { (title) } } }
            "failed" => { rect class="lost" x=(x1) y=(y + 9) width=(width) height="4" { title { (title) } } }
            "waiting" => {}
            other => {
                @let (sign, class) = super::parts::look(other);
                text class=(format!("mark {class}")) x=(x1) y=(y + 14) { title { (title) } (sign) }
            }
        }
    }
}

fn table(frame: &Frame<'_>, date: Date, rows: &[(&NodeId, &Vec<Span>)]) -> Markup {
    html! {
        div class="scroll" role="region" aria-label="The table" tabindex="0" {
            table {
                thead { tr { th scope="col" { "Node" } th scope="col" { "Stood" } } }
                tbody {
                    @for (id, spans) in rows {
                        tr {
                            th scope="row" class="id" { a href=(frame.node(date, id)) { (text(id.as_str(), 80)) } }
                            td {
                                @for span in spans.iter().rev().take(12).rev() {
                                    (state(&span.state)) " " (moment(&frame.graph.zone, span.from, frame.now)) " "
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
