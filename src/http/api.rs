//! The reading half of `/v1`: what the command line shows, as JSON. Documented in `schemas/openapi.yaml`.

use std::sync::LazyLock;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Json;
use jiff::ToSpan;
use jiff::civil::Date;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::App;
use super::problem::Problem;
use crate::desk::day::{self, Day};
use crate::desk::{ask, course, season, words};
use crate::domain::graph::{Dependency, Graph, Kind, Offset, Strength};
use crate::domain::id::{NodeId, PartitionKey, PipelineId};
use crate::domain::stop::Stops;
use crate::domain::view;
use crate::port::StoreError;

/// Items on one page at most.
const PAGE_MAX: usize = 500;
/// Items on one page where nothing is said.
const PAGE: usize = 100;

/// An answer.
pub type Answer = Result<Json<Value>, Problem>;
/// Parts of the path.
pub type Named<T> = Result<Path<T>, PathRejection>;

/// The document, as YAML is read once.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../../schemas/openapi.yaml"))
        .expect("schemas/openapi.yaml is YAML; a test reads it")
});

/// The description of this API.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// `/openapi.json`
pub async fn openapi() -> Json<&'static Value> {
    Json(document())
}

/// The parameters of the query; an unknown one is refused, so that none is ignored in silence.
pub fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Ok(Query::try_from_uri(uri)?.0)
}

/// The pipeline called `name`.
pub fn pipeline<'a>(app: &'a App, name: &str) -> Result<(PipelineId, &'a Graph), Problem> {
    let found = ask::pipeline(&app.engine.declarations, name)?;
    Ok((found.graph.pipeline.clone(), &found.graph))
}

/// The date called `word` of the pipeline called `name`.
pub fn partition<'a>(app: &'a App, name: &str, word: &str) -> Result<(PartitionKey, &'a Graph), Problem> {
    let (pipeline, graph) = pipeline(app, name)?;
    let date = ask::date(word, graph, app.engine.clock.now())?;
    Ok((PartitionKey { pipeline, date }, graph))
}

/// No parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Nothing is there.
pub async fn missing(method: Method, uri: Uri) -> Problem {
    Problem::unknown(format!(
        "there is no {method} {}; GET /openapi.json says what there is",
        words::clean(uri.path(), 200)
    ))
}

/// The path is there, and not for that method.
pub async fn not_so(method: Method, uri: Uri) -> Problem {
    let path = words::clean(uri.path(), 200);
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", format!("{path} does not take {method}"))
}

fn zone(graph: &Graph) -> &str {
    graph.zone.iana_name().unwrap_or("UTC")
}

/// `/v1/pipelines`
pub async fn pipelines(State(app): State<App>, uri: Uri) -> Answer {
    let Nothing {} = parameters(&uri)?;
    let now = app.engine.clock.now();
    let shown = app.engine.declarations.pipelines.iter().map(|(id, pipeline)| {
        let graph = &pipeline.graph;
        json!({ "pipeline": id, "zone": zone(graph), "today": graph.date_at(now),
            "revision": format!("{:016x}", graph.revision) })
    });
    Ok(Json(json!({ "pipelines": shown.collect::<Vec<_>>(), "now": now })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
}

fn limit(given: Option<u32>) -> Result<usize, Problem> {
    match given {
        None => Ok(PAGE),
        Some(limit) if (1..=PAGE_MAX).contains(&(limit as usize)) => Ok(limit as usize),
        Some(_) => Err(Problem::invalid(format!("limit is a number from 1 to {PAGE_MAX}"))),
    }
}

/// `/v1/pipelines/{pipeline}/dates`: the dates of which anything is known, the latest first.
pub async fn dates(State(app): State<App>, named: Named<String>, uri: Uri) -> Answer {
    let (Path(name), page) = (named?, parameters::<Page>(&uri)?);
    let (pipeline, _) = pipeline(&app, &name)?;
    let limit = limit(page.limit)?;
    let before: Option<Date> = match page.cursor.as_deref().map(str::parse) {
        Some(Ok(date)) => Some(date),
        Some(Err(_)) => return Err(Problem::invalid("cursor is what an earlier page gave as next_cursor")),
        None => None,
    };
    let mut dates = app.engine.store.dates(&pipeline, 10_000).await?;
    dates.retain(|date| before.is_none_or(|before| *date < before));
    let more = dates.len() > limit;
    dates.truncate(limit);
    let next = dates.last().filter(|_| more);
    Ok(Json(json!({ "pipeline": pipeline, "dates": dates, "next_cursor": next })))
}

/// `/v1/pipelines/{pipeline}/dates/{date}`: where every node stands.
pub async fn status(State(app): State<App>, named: Named<(String, String)>, uri: Uri) -> Answer {
    let (Path((name, word)), Nothing {}) = (named?, parameters(&uri)?);
    let (key, graph) = partition(&app, &name, &word)?;
    let day = Day::load(&app.engine, graph, &key).await?;
    let mut shown = json!(day.view);
    shown["zone"] = json!(zone(graph));
    shown["phases"] = json!(day::lights(graph, &day));
    shown["service_wrote_at"] = json!(app.engine.store.marked().await?);
    shown["stopped"] = json!(app.engine.stopped(&key.pipeline).await?);
    Ok(Json(shown))
}

/// `/v1/pipelines/{pipeline}/dates/{date}/nodes/{node}`: why a node has or has not run.
pub async fn why(State(app): State<App>, named: Named<(String, String, String)>, uri: Uri) -> Answer {
    let (Path((name, word, node)), Nothing {}) = (named?, parameters(&uri)?);
    let (key, graph) = partition(&app, &name, &word)?;
    let node = ask::node(graph, &node, key.date, app.engine.clock.now())?;
    let day = Day::load(&app.engine, graph, &key).await?;
    let (Some(why), Some(found)) = (view::why(&day.view, &node), day.node(&node)) else {
        return Err(Problem::unknown(format!("{node} is not in the graph")));
    };
    let decided = course::decided_by(&*app.engine.store, &key, found).await?;
    let revision = decided
        .map(|decided| json!({ "decided": format!("{decided:016x}"), "here": format!("{:016x}", graph.revision) }));
    Ok(Json(json!({ "why": why, "node": found, "revision": revision, "try": view::remedies(&day.view, &why) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimelinePage {
    node: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `/v1/pipelines/{pipeline}/dates/{date}/timeline`: what happened, oldest first, page by page.
pub async fn timeline(State(app): State<App>, named: Named<(String, String)>, uri: Uri) -> Answer {
    let (Path((name, word)), page) = (named?, parameters::<TimelinePage>(&uri)?);
    let (key, graph) = partition(&app, &name, &word)?;
    let now = app.engine.clock.now();
    let node = page.node.as_deref().map(|name| ask::node(graph, name, key.date, now)).transpose()?;
    let limit = limit(page.limit)?;
    let after = match page.cursor.as_deref().map(str::parse::<u64>) {
        Some(Ok(after)) => after,
        Some(Err(_)) => return Err(Problem::invalid("cursor is what an earlier page gave as next_cursor")),
        None => 0,
    };
    let (entries, damaged) = match app.engine.store.journal(Some(&key), after, limit).await {
        Ok(entries) => (entries, None),
        Err(StoreError::BadEntry { seq, why, .. }) => (Vec::new(), Some((seq, why))),
        Err(error) => return Err(error.into()),
    };
    let last = entries.last().map(|entry| entry.seq).or(damaged.as_ref().map(|(seq, _)| *seq));
    let shown: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({ "seq": entry.seq, "at": entry.now.at, "version": entry.version,
                "revision": format!("{:016x}", entry.revision), "lines": words::lines(entry, node.as_ref()),
                "events": entry.events, "recorded": entry.recorded, "effects": entry.effects, "moved": entry.moved })
        })
        .collect();
    let next = last.filter(|_| entries.len() == limit || damaged.is_some()).map(|seq| seq.to_string());
    let damaged = damaged.map(|(seq, why)| json!({ "seq": seq, "why": why }));
    Ok(Json(json!({ "partition": key, "entries": shown, "damaged": damaged, "next_cursor": next })))
}

/// `/v1/pipelines/{pipeline}/dates/{date}/games`: the games, each with what it is short of.
pub async fn games(State(app): State<App>, named: Named<(String, String)>, uri: Uri) -> Answer {
    let (Path((name, word)), Nothing {}) = (named?, parameters(&uri)?);
    let (key, graph) = partition(&app, &name, &word)?;
    let day = Day::load(&app.engine, graph, &key).await?;
    let known = day.partition.schedule.as_ref().map(|schedule| schedule.at);
    Ok(Json(
        json!({ "partition": key, "zone": zone(graph), "games": day::games(graph, &day), "schedule_read_at": known,
        "dues": day::dues(graph, &day) }),
    ))
}

/// `/v1/pipelines/{pipeline}/runs`: executions of the live dates that have not ended, the longest silent first.
pub async fn runs(State(app): State<App>, named: Named<String>, uri: Uri) -> Answer {
    let (Path(name), Nothing {}) = (named?, parameters(&uri)?);
    let (pipeline, graph) = pipeline(&app, &name)?;
    let days = Day::live(&app.engine, graph, &pipeline).await?;
    let mut runs: Vec<_> = days.iter().flat_map(|day| day::runs(graph, day)).collect();
    runs.sort_by_key(|run| (std::cmp::Reverse(run.health), run.last));
    runs.truncate(PAGE_MAX);
    Ok(Json(json!({ "pipeline": pipeline, "runs": runs, "now": app.engine.clock.now() })))
}

/// `/v1/pipelines/{pipeline}/graph`: the declared graph.
pub async fn graph(State(app): State<App>, named: Named<String>, uri: Uri) -> Answer {
    let (Path(name), Nothing {}) = (named?, parameters(&uri)?);
    let (pipeline, graph) = pipeline(&app, &name)?;
    let nodes = graph.order.iter().filter_map(|id| graph.node(id)).map(|node| {
        let kind = match node.kind {
            Kind::Source(_) => "source",
            Kind::Task(_) => "task",
            Kind::Gate(_) => "gate",
        };
        let needs: Vec<Value> = node.needs.iter().map(need).collect();
        json!({ "id": node.id, "kind": kind, "phase": node.phase, "cycle": node.cycle, "needs": needs })
    });
    let revision = format!("{:016x}", graph.revision);
    Ok(Json(json!({ "pipeline": pipeline, "revision": revision, "nodes": nodes.collect::<Vec<_>>() })))
}

fn need(need: &Dependency) -> Value {
    let strength = match need.strength {
        Strength::Hard => "hard",
        Strength::Soft => "soft",
        Strength::Optional => "optional",
    };
    let date = match need.offset {
        Offset::Same => "same",
        Offset::PreviousGameDay => "previous_game_day",
    };
    json!({ "node": need.node, "strength": strength, "coverage_min": need.coverage_min, "date": date })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    from: Option<Date>,
    until: Option<Date>,
}

/// The dates asked for, or those of the season; in order and not too many.
fn span(graph: &Graph, asked: &Span, today: Date) -> Result<(Date, Date), Problem> {
    let (first, last) = season::span(graph, today);
    let (from, until) = match (asked.from, asked.until) {
        (None, None) => (first, last),
        (Some(from), None) => (from, last.max(from)),
        (None, Some(until)) => (first.min(until), until),
        (Some(from), Some(until)) => (from, until),
    };
    let most = season::DATES_MAX;
    let too_late = from.checked_add(most.days()).is_ok_and(|end| until >= end);
    if until < from || too_late {
        let why = format!("from {from} until {until}: at most {most} days, and the first before the last");
        return Err(Problem::invalid(why));
    }
    Ok((from, until))
}

/// `/v1/pipelines/{pipeline}/calendar`: every date of a season at a glance, the latest first.
pub async fn calendar(State(app): State<App>, named: Named<String>, uri: Uri) -> Answer {
    let (Path(name), asked) = (named?, parameters::<Span>(&uri)?);
    let (pipeline, graph) = pipeline(&app, &name)?;
    let (from, until) = span(graph, &asked, graph.date_at(app.engine.clock.now()))?;
    let rows = app.screen.seasons.rows(&app.engine, (graph, &pipeline), (from, until)).await?;
    Ok(Json(json!({ "pipeline": pipeline, "from": from, "until": until, "dates": rows })))
}

/// How long it may be looked for what is missing: the warehouse is asked, date by date.
const SURVEY_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gaps {
    from: Option<Date>,
    until: Option<Date>,
    node: Option<String>,
}

/// `/v1/pipelines/{pipeline}/gaps`: what is missing of past dates, as ranges of game days.
pub async fn gaps(State(app): State<App>, named: Named<String>, uri: Uri) -> Answer {
    let (Path(name), asked) = (named?, parameters::<Gaps>(&uri)?);
    let (pipeline, graph) = pipeline(&app, &name)?;
    let now = app.engine.clock.now();
    let today = graph.date_at(now);
    let (from, until) = span(graph, &Span { from: asked.from, until: asked.until }, today)?;
    let until = until.min(today);
    if until < from {
        return Err(Problem::invalid(format!("{from} is still to come: nothing can be missing of it")));
    }
    let nodes: Vec<NodeId> =
        asked.node.iter().map(|name| ask::node(graph, name, from, now)).collect::<Result<_, _>>()?;
    let only = (!nodes.is_empty()).then_some(nodes.as_slice());
    let look = app.engine.survey(&pipeline, graph, (from, until), only, &|_, _| {});
    let survey = tokio::time::timeout(SURVEY_WITHIN, look).await;
    let survey =
        survey.map_err(|_| Problem::unavailable("it took too long; ask for fewer dates, or for one node"))??;
    let (missing, known) = survey.counts();
    Ok(Json(json!({ "pipeline": pipeline, "from": from, "until": until, "game_days": survey.game_days.len(),
        "unknown_days": survey.unknown_days, "known": known, "missing": missing, "gaps": survey.gaps(),
        "unknown": survey.unknown() })))
}

/// `/v1/pipelines/{pipeline}/plans`: plans of backfill, the latest first.
pub async fn plans(State(app): State<App>, named: Named<String>, uri: Uri) -> Answer {
    let (Path(name), Nothing {}) = (named?, parameters(&uri)?);
    let (pipeline, _) = pipeline(&app, &name)?;
    let plans = app.engine.store.plans(&pipeline).await?;
    let shown = plans.iter().map(|(plan, _)| {
        json!({ "plan": plan.id, "status": plan.status, "made_at": plan.made_at, "automatic": plan.automatic,
            "tally": plan.tally() })
    });
    Ok(Json(json!({ "pipeline": pipeline, "plans": shown.collect::<Vec<_>>() })))
}

/// `/v1/pipelines/{pipeline}/plans/{plan}`: one of them, item by item.
pub async fn plan(State(app): State<App>, named: Named<(String, String)>, uri: Uri) -> Answer {
    let (Path((name, wanted)), Nothing {}) = (named?, parameters(&uri)?);
    let (pipeline, _) = pipeline(&app, &name)?;
    let plans = app.engine.store.plans(&pipeline).await?;
    let found = plans.into_iter().find(|(plan, _)| plan.id.as_str() == wanted);
    let (plan, _) = found.ok_or_else(|| unknown_plan(&wanted))?;
    let mut shown = json!(plan);
    shown["tally"] = json!(plan.tally());
    Ok(Json(shown))
}

/// There is no such plan.
pub fn unknown_plan(name: &str) -> Problem {
    Problem::unknown(format!("there is no plan `{}`", words::clean(name, 80)))
}

/// `/v1/stops`: which pipelines are held as a whole, and which were.
pub async fn stops(State(app): State<App>, uri: Uri) -> Answer {
    let Nothing {} = parameters(&uri)?;
    let (_, stops) = app.engine.store.kept::<Stops>().await?;
    let now = app.engine.clock.now();
    let standing: Vec<_> =
        app.engine.declarations.pipelines.keys().filter_map(|pipeline| stops.of(pipeline, now)).collect();
    Ok(Json(json!({ "standing": standing, "past": stops.past() })))
}

/// `/v1/alerts`: what is on, what people were told of it, how the channels stand, and the mutes that hold.
pub async fn alerts(State(app): State<App>, uri: Uri) -> Answer {
    let Nothing {} = parameters(&uri)?;
    Ok(Json(json!(app.engine.board().await?)))
}

/// `/v1/breakers`: targets that rest because they did not answer.
pub async fn breakers(State(app): State<App>, uri: Uri) -> Answer {
    let Nothing {} = parameters(&uri)?;
    let resting = app.engine.resting().into_iter().map(
        |(target, rest)| json!({ "target": target, "until": rest.until, "reason": rest.reason, "dead": rest.dead }),
    );
    Ok(Json(json!({ "resting": resting.collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<u32>,
}

/// `/v1/parked`: inputs that can never be applied, the latest first.
pub async fn parked(State(app): State<App>, uri: Uri) -> Answer {
    let limit = limit(parameters::<Limit>(&uri)?.limit)?;
    let parked = app.engine.store.parked(limit).await?;
    let shown = parked.iter().map(|parked| {
        json!({ "fingerprint": parked.fingerprint, "slug": parked.slug, "reason": parked.reason, "topic": parked.topic,
            "message_id": parked.message_id, "published": parked.published, "attributes": parked.attributes,
            "head": String::from_utf8_lossy(&parked.head), "size": parked.size, "at": parked.at, "count": parked.count })
    });
    Ok(Json(json!({ "parked": shown.collect::<Vec<_>>() })))
}

/// `/v1/undeliverable`: what was decided and can never be delivered as it is, the latest first.
pub async fn undeliverable(State(app): State<App>, uri: Uri) -> Answer {
    let limit = limit(parameters::<Limit>(&uri)?.limit)?;
    let found = app.engine.store.undeliverable(limit).await?;
    let shown = found.iter().map(|(entry, reason)| json!({ "entry": entry, "reason": reason }));
    Ok(Json(json!({ "undeliverable": shown.collect::<Vec<_>>() })))
}
