//! The pages: rendered here, readable without scripts, and refreshed by one small script where there is one.
//!
//! Everything from outside goes through [`parts::text`]: escaped, cut, and without marks that turn text round. Nothing is
//! changed by a GET; a form shows first what would happen, and is taken only from our own pages.

mod alerts;
mod ask;
mod calendar;
mod form;
mod graph;
mod letters;
mod node;
mod parts;
mod runs;
mod settle;
mod timeline;
mod today;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use maud::{DOCTYPE, Markup, html};

use super::api::{self, Named};
use super::problem::Problem;
use super::routes::{Needs, Routes};
use super::{App, Mode};
use crate::configuration::Role;
use crate::desk::day::{self, Day, Health};
use crate::domain::dead_letter::Kind;
use crate::domain::graph::Graph;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::domain::stop::Stop;
use crate::port::Letters;
use parts::{path, text};

const CSS: &str = include_str!("assets/tipoff.css");
const JS: &str = include_str!("assets/tipoff.js");
/// Idiomorph 0.8.0, of the authors of htmx, 0BSD: changes a page into another and keeps focus, scroll and what is open.
const IDIOMORPH: &str = include_str!("assets/idiomorph-0.8.0.min.js");

/// No script but ours, nothing from elsewhere, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Letters that are counted; more is told as more.
const COUNTED_MAX: usize = 100;

/// Every page, and what they are made with.
pub fn routes() -> Routes {
    let forms = Routes::of(Needs::Role(Role::Operator))
        .post("/ui/{pipeline}/alerts", alerts::change)
        .post("/ui/{pipeline}/letters/settle", settle::carry_out)
        .post("/ui/{pipeline}/stop", ask::turn_whole)
        .post("/ui/{pipeline}/{date}/ask", ask::carry_out);
    Routes::of(Needs::Role(Role::Viewer))
        .get("/", front)
        .get("/ui", front)
        .get("/ui/assets/{name}", asset)
        .get("/ui/{pipeline}", today::now)
        .get("/ui/{pipeline}/calendar", calendar::page)
        .get("/ui/{pipeline}/runs", runs::page)
        .get("/ui/{pipeline}/alerts", alerts::page)
        .get("/ui/{pipeline}/letters", letters::page)
        .get("/ui/{pipeline}/letters/settle", settle::page)
        .get("/ui/{pipeline}/stop", ask::whole)
        .get("/ui/{pipeline}/{date}", today::page)
        .get("/ui/{pipeline}/{date}/graph", graph::page)
        .get("/ui/{pipeline}/{date}/timeline", timeline::page)
        .get("/ui/{pipeline}/{date}/node/{node}", node::page)
        .get("/ui/{pipeline}/{date}/ask", ask::page)
        .merge(forms)
}

/// Whether `path` is a page that a link may stand for anywhere.
pub fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/ui/")
}

/// `/`: the first pipeline's today.
async fn front(State(app): State<App>) -> Response {
    match app.engine.declarations.pipelines.keys().next_back() {
        // Of several the one that the command line takes where none is named.
        Some(_) if app.engine.declarations.pipelines.contains_key("nba") => Redirect::to("/ui/nba").into_response(),
        Some(pipeline) => Redirect::to(&format!("/ui/{}", path(pipeline.as_str()))).into_response(),
        None => Wrong(Problem::unknown("no pipeline is declared")).into_response(),
    }
}

async fn asset(named: Named<String>) -> Result<Response, Wrong> {
    let (kind, body) = match &*named.map_err(Problem::from)?.0 {
        "tipoff.css" => ("text/css; charset=utf-8", CSS),
        "tipoff.js" => ("text/javascript; charset=utf-8", JS),
        "idiomorph.js" => ("text/javascript; charset=utf-8", IDIOMORPH),
        _ => return Err(Wrong(Problem::unknown("there is no such file"))),
    };
    // It comes with the binary: another binary may have another.
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, body).into_response())
}

/// What went wrong, as a page.
#[derive(Debug)]
pub struct Wrong(Problem);

impl<E: Into<Problem>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let title = self.0.status.canonical_reason().unwrap_or("Error");
        let body = html! {
            main id="main" class="alone" {
                h1 { (title) }
                p { (text(&self.0.detail, 500)) }
                p { a href="/" { "To today" } }
            }
        };
        document(self.0.status, title, None, &body)
    }
}

type Shown = Result<Response, Wrong>;

/// A whole document.
fn document(status: StatusCode, title: &str, events: Option<&str>, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · tipoff" }
                link rel="stylesheet" href="/ui/assets/tipoff.css";
                link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23c4631d'/%3E%3C/svg%3E";
                @if events.is_some() {
                    script src="/ui/assets/idiomorph.js" defer {}
                }
                script src="/ui/assets/tipoff.js" defer {}
            }
            body data-events=[events] {
                a class="skip" href="#main" { "Skip to the content" }
                (body)
            }
        }
    };
    let mut response = (status, page.into_string()).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // A form has to say that it is ours, which it could not without a referrer.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Which entry of the navigation a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tab {
    Today,
    Graph,
    Timeline,
    Runs,
    Calendar,
    Alerts,
    Letters,
    None,
}

/// Whether a page is refreshed by itself. A form that is being filled in is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refresh {
    Live,
    Still,
}

/// What stands above every page of a pipeline.
struct Frame<'a> {
    app: &'a App,
    pipeline: PipelineId,
    graph: &'a Graph,
    now: Timestamp,
    /// The dates on which something may still happen.
    live: Vec<Day>,
    strip: Strip,
}

/// The figures that are looked at first.
struct Strip {
    running: usize,
    stale: usize,
    dead: usize,
    parked: usize,
    undelivered: usize,
    breakers: usize,
    alerts: usize,
    stopped: Option<Stop>,
}

impl<'a> Frame<'a> {
    async fn open(app: &'a App, name: &str) -> Result<Self, Problem> {
        let (pipeline, graph) = api::pipeline(app, name)?;
        let live = Day::live(&app.engine, graph, &pipeline).await?;
        let runs: Vec<_> = live.iter().flat_map(|day| day::runs(graph, day)).collect();
        let count = |health: Health| runs.iter().filter(|run| run.health == health).count();
        let given_up = live.iter().flat_map(|day| &day.view.nodes).filter(|node| day::is_dead(node)).count();
        let waiting = app.engine.store.letters(Letters::Open, None, COUNTED_MAX).await?;
        let of = |parked: bool| waiting.iter().filter(|(letter, _)| (letter.kind == Kind::Parked) == parked).count();
        let strip = Strip {
            running: runs.len(),
            stale: count(Health::Stale),
            dead: count(Health::Dead) + given_up,
            parked: of(true),
            undelivered: of(false),
            breakers: app.engine.resting().len(),
            alerts: app.engine.bus.alerts().await?.len(),
            stopped: app.engine.stopped(&pipeline).await?,
        };
        Ok(Self { app, pipeline, graph, now: app.engine.clock.now(), live, strip })
    }

    fn today(&self) -> Date {
        self.graph.date_at(self.now)
    }

    fn key(&self, date: Date) -> PartitionKey {
        PartitionKey { pipeline: self.pipeline.clone(), date }
    }

    async fn day(&self, date: Date) -> Result<Day, Problem> {
        Ok(Day::load(&self.app.engine, self.graph, &self.key(date)).await?)
    }

    fn zone(&self) -> &str {
        self.graph.zone.iana_name().unwrap_or("UTC")
    }

    /// Where `rest` of this pipeline is.
    fn link(&self, rest: &str) -> String {
        format!("/ui/{}{rest}", path(self.pipeline.as_str()))
    }

    fn of_date(&self, date: Date, rest: &str) -> String {
        self.link(&format!("/{date}{rest}"))
    }

    fn node(&self, date: Date, node: &crate::domain::id::NodeId) -> String {
        self.of_date(date, &format!("/node/{}", path(node.as_str())))
    }

    /// The page: the header with the strip, and `body`.
    fn page(&self, (tab, refresh): (Tab, Refresh), (title, date): (&str, Option<Date>), body: &Markup) -> Response {
        let date = date.unwrap_or_else(|| self.today());
        let events = format!("/v1/events?pipeline={}", path(self.pipeline.as_str()));
        let title = format!("{title} · {}", self.pipeline);
        let all = html! {
            (self.header(tab, date))
            @if let Some(stop) = &self.strip.stopped {
                p class="banner bad" role="status" {
                    strong { "Held: " } "nothing of " (text(stop.pipeline.as_str(), 60)) " leaves. " (text(&stop.actor, 100)) ": "
                    (text(&stop.reason, 300)) " "
                    @match stop.until {
                        Some(until) => { "Until " (parts::moment(&self.graph.zone, until, self.now)) ". " }
                        None => { "Until somebody ends it. " }
                    }
                    a href=(self.link("/stop")) { "End it" }
                }
            }
            main id="main" { (body) }
            aside id="panel" hidden aria-label="Why" {}
            footer {
                "tipoff " (env!("CARGO_PKG_VERSION")) " · " (text(self.pipeline.as_str(), 60)) " · dates in " (self.zone())
                @if let Some(digest) = self.app.effective["digest"].as_str() { " · configuration " code { (digest) } }
                " · " a href="/openapi.json" { "API" }
            }
        };
        document(StatusCode::OK, &title, (refresh == Refresh::Live).then_some(&events), &all)
    }

    fn header(&self, tab: Tab, date: Date) -> Markup {
        let current = |this: Tab| (tab == this).then_some("page");
        let Strip { running, stale, dead, parked, undelivered, breakers, alerts, .. } = self.strip;
        let letters = parked + undelivered;
        html! {
            header class="top" {
                div class="bar" {
                    a class="brand" href="/" { "tipoff" }
                    @if self.app.engine.declarations.pipelines.len() > 1 {
                        nav class="pipelines" aria-label="Pipelines" {
                            @for id in self.app.engine.declarations.pipelines.keys().rev() {
                                a href=(format!("/ui/{}", path(id.as_str()))) aria-current=[(*id == self.pipeline).then_some("true")] {
                                    (text(id.as_str(), 30))
                                }
                            }
                        }
                    } @else {
                        strong { (text(self.pipeline.as_str(), 30)) }
                    }
                    span class="clock" {
                        (parts::instant(&self.graph.zone, self.now)) " " span class="dim" { (self.zone()) }
                    }
                    @if self.app.screen.mode == Mode::Recording { span class="tag" { "a recorded day" } }
                    @if let Some(notice) = self.app.engine.settings.role.notice() { span class="tag" { (notice) } }
                    span id="live" role="status" class="dim" { "reload to refresh" }
                }
                nav class="tabs" aria-label="Pages" {
                    a href=(self.of_date(date, "")) aria-current=[current(Tab::Today)] {
                        @if date == self.today() { "Today" } @else { "Date" }
                    }
                    a href=(self.of_date(date, "/graph")) aria-current=[current(Tab::Graph)] { "Graph" }
                    a href=(self.of_date(date, "/timeline")) aria-current=[current(Tab::Timeline)] { "Timeline" }
                    a href=(self.link("/runs")) aria-current=[current(Tab::Runs)] { "Runs" }
                    a href=(self.link("/calendar")) aria-current=[current(Tab::Calendar)] { "Calendar" }
                    a href=(self.link("/alerts")) aria-current=[current(Tab::Alerts)] { "Alerts" (parts::count(alerts)) }
                    a href=(self.link("/letters")) aria-current=[current(Tab::Letters)] { "Letters" (parts::count(letters)) }
                }
                ul class="strip" aria-label="At a glance" {
                    (figure("running", running, None, &self.link("/runs"), "work"))
                    (figure("stale", stale, None, &self.link("/runs"), "warn"))
                    (figure("dead", dead, None, &self.link("/runs"), "bad"))
                    (figure("parked", parked, Some(COUNTED_MAX), &self.link("/letters"), "warn"))
                    (figure("DLQ", undelivered, Some(COUNTED_MAX), &self.link("/letters#undeliverable"), "bad"))
                    (figure("breakers open", breakers, None, &self.link("/runs#breakers"), "bad"))
                    (figure("alerts", alerts, None, &self.link("/alerts"), "bad"))
                }
            }
        }
    }

    /// One date with the ways to its neighbours.
    fn date_line(&self, date: Date, rest: &str) -> Markup {
        let near = |days: i64| date.checked_add(days.days()).ok();
        html! {
            nav class="dates" aria-label="Dates" {
                @if let Some(before) = near(-1) {
                    a rel="prev" href=(self.of_date(before, rest)) { "← " (before.strftime("%d %b")) }
                }
                @if date != self.today() { a href=(self.of_date(self.today(), rest)) { "today" } }
                @if let Some(next) = near(1) {
                    a rel="next" href=(self.of_date(next, rest)) { (next.strftime("%d %b")) " →" }
                }
            }
        }
    }

    /// A date in full, with its zone.
    fn long(&self, date: Date) -> Markup {
        let is_today = if date == self.today() { " (today)" } else { "" };
        html! { (date.strftime("%a %d %b %Y")) (is_today) " " span class="zone" { (self.zone()) } }
    }
}

/// A figure of the strip; nought is quiet.
fn figure(name: &str, count: usize, most: Option<usize>, link: &str, class: &str) -> Markup {
    let more = if most.is_some_and(|most| count >= most) { "+" } else { "" };
    let class = if count == 0 { "none" } else { class };
    html! { li class=(class) { a href=(link) { b { (count) (more) } " " (name) } } }
}

/// Opens the frame and the date that a page of a date is about.
async fn opened<'a>(app: &'a App, named: Named<(String, String)>) -> Result<(Frame<'a>, Date), Wrong> {
    let Path((name, word)) = named.map_err(Problem::from)?;
    let (key, _) = api::partition(app, &name, &word)?;
    Ok((Frame::open(app, &name).await?, key.date))
}

/// Refuses a form that no page of ours has sent.
fn own_form(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if app.screen.mode == Mode::Recording {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "recording",
            "This is a recorded day: nothing can be changed in it.",
        ));
    }
    if !app.guard.is_own_form(uri, headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "refused", "forms are taken from our own pages only"));
    }
    Ok(())
}
