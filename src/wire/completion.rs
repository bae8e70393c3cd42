//! Completions in all their dialects: the unified envelope, what came before it, and what never was one.
//!
//! A dialect is told by the fields a message has, never by its topic, for every dialect has been seen on every topic.
//! What a message leaves out is derived only where it follows for certain: the date from a path that names one, the
//! scraper from a declared place in the bucket. Nothing is ever taken from a clock.

use std::sync::Arc;

use jiff::civil::Date;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::domain::coverage::Coverage;
use crate::domain::event::{Completed, Event, Note, Outcome};
use crate::domain::evidence::Extent;
use crate::domain::graph::Node;
use crate::domain::id::{DispatchId, RunId, UnitId};

use super::inbound::{DISPATCH_ATTRIBUTE, Decoded, Delivery, NAME_MAX, Routes};
use super::name::{Names, Resolved, Writer, checked, resolve, writer_of};
use super::parked::{Ignored, Kind, Reason, excerpt};
use super::revision::served;
use super::trace;
use super::value::{Count, Object, Text, Words, date, date_in, is_control, shown};

/// The longest message of a failure that is kept; producers cut theirs at the same length.
const WORDS_MAX: usize = 1000;
/// Digits of a game's number in the league's schedule, by which some files are called.
const GAME_DIGITS: usize = 10;

/// The fields that mean something in any dialect.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    // Who.
    processor_name: Option<String>,
    scraper_name: Option<String>,
    scraper: Option<String>,
    name: Option<String>,
    bucket: Option<String>,
    output_table: Option<String>,
    source_table: Option<String>,
    analytics_table: Option<String>,
    output_dataset: Option<String>,
    // Which execution.
    execution_id: Option<Text>,
    run_id: Option<Text>,
    batch_id: Option<Text>,
    correlation_id: Option<Text>,
    revision: Option<Text>,
    commit: Option<Text>,
    tipoff: Option<Object<Echo>>,
    recovery: Option<bool>,
    original_execution_id: Option<Text>,
    // Which date.
    game_date: Option<Text>,
    data_date: Option<Text>,
    analysis_date: Option<Text>,
    target_date: Option<Text>,
    date: Option<Text>,
    gamedate: Option<Text>,
    gcs_path: Option<String>,
    // Which part of the output.
    team_abbr: Option<String>,
    // How it ended.
    status: Option<String>,
    success: Option<bool>,
    record_count: Option<Count>,
    error_message: Words,
    error: Words,
    errors: Words,
    skip_reason: Words,
    reason: Words,
    metadata: Option<Object<Metadata>>,
    // What tells a request from a report.
    trigger_source: Option<IgnoredAny>,
    triggered_by: Option<Text>,
    triggered_at: Option<IgnoredAny>,
    output_type: Option<IgnoredAny>,
    expected_partition: Option<IgnoredAny>,
    processor: Option<IgnoredAny>,
    backfill_mode: Option<IgnoredAny>,
}

/// The members of `metadata` that mean something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    gcs_path: Option<String>,
    batch_id: Option<Text>,
    expected_players: Option<Count>,
    completed_players: Option<Count>,
    skipped_players: Option<Count>,
    expected_predictions: Option<Count>,
    completed_predictions: Option<Count>,
    skipped_predictions: Option<Count>,
    completion_pct: Option<f64>,
    skip_reason: Words,
}

/// What a producer that knows of us sends back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Echo {
    dispatch_id: Option<String>,
}

/// Who reports, and what its dialect says of a missing status.
#[derive(Debug)]
struct Report<'a> {
    names: Names<'a>,
    path: Option<&'a str>,
    without_status: Missing,
}

/// What a missing status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Nothing can be told.
    Fault,
    /// Success: a stored file is the message, and the consumers it was written for look no further.
    Success,
}

/// Reads a completion that came over a topic of `pipeline`.
pub(super) fn decode(routes: &Routes<'_>, pipeline: &str, delivery: &Delivery, body: &Body) -> Decoded {
    read(routes, pipeline, delivery, body).unwrap_or_else(|other| other)
}

fn read(routes: &Routes<'_>, pipeline: &str, delivery: &Delivery, body: &Body) -> Result<Decoded, Decoded> {
    let park = |reason| Decoded::Parked { reason };
    let report = classify(routes, body)?;
    let echoed = body.tipoff.as_ref().and_then(|echo| echo.0.dispatch_id.as_deref());
    let echoed = echoed.or_else(|| delivery.attributes.get(DISPATCH_ATTRIBUTE).map(String::as_str));
    let said = date_of(body, report.path);
    let topic = (delivery.topic.as_str(), pipeline);
    let at = |when| resolve(routes, topic, &report.names, when, delivery.published, echoed);
    let mut resolved = at(said.clone())?;
    // The file of a game lies under the date of the game, whatever day its scraper or its loader took for it.
    let own = report.path.filter(|path| is_of_game(path) && is_file_of(routes, &resolved, path));
    if let Some(filed) = own.and_then(date_in).filter(|filed| *filed != resolved.key.date) {
        resolved = at(Ok(filed))?;
    }
    let served = served(&resolved.node, [&body.revision, &body.commit], delivery);
    let completed = Completed {
        node: resolved.node,
        run: run_of(body, delivery, resolved.dispatch.as_ref()).map_err(park)?,
        outcome: outcome_of(body, report.without_status).map_err(park)?,
        records: count("record_count", body.record_count).map_err(park)?,
        published: delivery.published,
        correlation: correlation_of(body),
        dispatch: resolved.dispatch,
        unit: unit_of(body, delivery, report.path),
        trace: trace::sent_with(&delivery.attributes).map(|_| trace::received(delivery, Some(&resolved.key))),
    };
    let other = said.ok().filter(|given| *given != resolved.key.date);
    let note = other.map(|given| Event::Noted(Note::OtherDate { node: completed.node.clone(), given }));
    let mut events = vec![Event::Completed(completed)];
    events.extend(served);
    events.extend(resolved.notes);
    events.extend(note);
    Ok(Decoded::Events { key: resolved.key, events })
}

/// Which dialect it is. The order is the consumers' own: what they took a message for, it was.
fn classify<'a>(routes: &Routes<'a>, body: &'a Body) -> Result<Report<'a>, Decoded> {
    let ignore = |reason| Err(Decoded::Ignored { reason });
    let park = |reason| Err(Decoded::Parked { reason });
    let inner_path = body.metadata.as_ref().and_then(|metadata| text(&metadata.0.gcs_path));
    let path = text(&body.gcs_path).or(inner_path);
    let report = |name, path, without_status| {
        // A scraper writes its own name without underscores as its table. It matches no alias, so it does no harm.
        let tables = [&body.output_table, &body.source_table, &body.analytics_table];
        let tables = tables.into_iter().filter_map(text).collect();
        Ok(Report {
            names: Names { name, is_table: false, tables, dataset: text(&body.output_dataset) },
            path,
            without_status,
        })
    };
    let from_path = |path| match writer_of(routes, path) {
        Writer::Node(node) => report(node, Some(path), Missing::Success),
        Writer::Untracked => ignore(Ignored::Untracked),
        Writer::Unknown => park(Reason::UnknownPath { path: excerpt(path) }),
    };
    // Cloud Storage says that a file was written.
    if let (Some(_), Some(object)) = (text(&body.bucket), text(&body.name)) {
        return from_path(object);
    }
    if let Some(name) = text(&body.processor_name) {
        let silent = text(&body.status).is_none() && body.success.is_none();
        if silent && body.trigger_source.is_some() && body.triggered_at.is_some() {
            return ignore(Ignored::Request);
        }
        return report(name, path, Missing::Fault);
    }
    // Requests for work that were published where the reports go.
    let asks = body.expected_partition.is_some() && body.output_type.is_some()
        || body.processor.is_some() && body.backfill_mode.is_some()
        || body.source_table.is_some() && body.triggered_by.as_ref().is_some_and(|by| by.0 == "auto_retry");
    if asks {
        return ignore(Ignored::Request);
    }
    let first_version = text(&body.scraper_name).or_else(|| text(&body.name).filter(|_| body.gcs_path.is_some()));
    if let Some(name) = first_version.or_else(|| text(&body.scraper)) {
        return report(name, path, if path.is_some() { Missing::Success } else { Missing::Fault });
    }
    // The envelope before the unified one has no producer's name, only the table; so the table is the name.
    if let Some(table) = text(&body.source_table).or_else(|| text(&body.analytics_table)) {
        let mut found = report("", path, Missing::Fault)?;
        found.names.name = table;
        found.names.is_table = true;
        return Ok(found);
    }
    if let Some(path) = path {
        return from_path(path);
    }
    if text(&body.status).is_some() && body.output_table.is_some() {
        return ignore(Ignored::RunHistory);
    }
    park(Reason::NoName)
}

/// The date a message is about: a field that names one, else the path. Never the present day.
fn date_of(body: &Body, path: Option<&str>) -> Result<Date, Reason> {
    let same = [&body.game_date, &body.data_date, &body.analysis_date, &body.target_date];
    let mut dates = same.into_iter().flatten().filter_map(|text| date(&text.0));
    if let Some(first) = dates.next() {
        return match dates.find(|other| *other != first) {
            Some(other) => Err(Reason::TwoDates(first, other)),
            None => Ok(first),
        };
    }
    // Scrapers' own words for a date may mean the day of the scrape, so they do not contradict the ones above.
    let scrapers = [&body.date, &body.gamedate];
    let scraped = scrapers.into_iter().flatten().find_map(|text| date(&text.0));
    scraped.or_else(|| path.and_then(date_in)).ok_or_else(|| {
        let given = same.into_iter().chain(scrapers).flatten().next();
        Reason::NoDate { given: given.map(|text| excerpt(&text.0)) }
    })
}

/// The part of the output that a completion is about, where its file or its fields name one: a game by the schedule's number
/// or by its date and teams, a team by its code. What of it exists is for whoever knows the games.
fn unit_of(body: &Body, delivery: &Delivery, path: Option<&str>) -> Option<UnitId> {
    let team = text(&body.team_abbr).or_else(|| delivery.attributes.get("team_abbr").map(String::as_str));
    let team = team.filter(|team| is_code(team)).map(str::to_ascii_uppercase);
    let unit = team.or_else(|| path?.split('/').rev().find_map(part_in));
    unit.map(UnitId::new)
}

/// Whether a node writes the file at `path`, or loads it.
fn is_file_of(routes: &Routes<'_>, resolved: &Resolved, path: &str) -> bool {
    let Writer::Node(writer) = writer_of(routes, path) else { return false };
    let graph = routes.graphs.iter().find(|graph| graph.pipeline == resolved.key.pipeline);
    let node = graph.and_then(|graph| graph.node(&resolved.node));
    let loads = |node: &Node| node.needs.iter().any(|need| need.node.as_str() == writer);
    resolved.node.as_str() == writer || node.is_some_and(loads)
}

/// Whether a file is about one game.
fn is_of_game(path: &str) -> bool {
    path.split('/').filter_map(part_in).any(|part| part.starts_with(|first: char| first.is_ascii_digit()))
}

/// The part that one step of a path names: `0022500440.pdf`, `20260123-BOSBKN`, `team_POR`.
fn part_in(step: &str) -> Option<String> {
    let stem = step.split('.').next().unwrap_or_default();
    if stem.len() == GAME_DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(stem.to_owned());
    }
    if let Some(team) = stem.strip_prefix("team_").filter(|team| is_code(team)) {
        return Some(team.to_ascii_uppercase());
    }
    let (day, teams) = stem.split_once('-').or_else(|| stem.split_once('_'))?;
    let teams = teams.replace('_', "");
    let is_day = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    let are_teams = teams.len() == 6 && teams.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_day && are_teams).then(|| format!("{day}_{}_{}", &teams[..3], &teams[3..]))
}

fn is_code(team: &str) -> bool {
    (2..=4).contains(&team.len()) && team.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// The producer's name for its execution. Where there is none the dispatch stands in that it answers, else the broker's
/// id: one message, one execution. A correlation id does not, for all that follows from one event has the same.
fn run_of(body: &Body, delivery: &Delivery, dispatch: Option<&DispatchId>) -> Result<RunId, Reason> {
    let inner = body.metadata.as_ref().and_then(|metadata| metadata.0.batch_id.as_ref());
    // What is published again for the sake of recovery is about the execution that it was first published for.
    let original = body.original_execution_id.as_ref().filter(|_| body.recovery == Some(true));
    let ids = [
        ("original_execution_id", original),
        ("execution_id", body.execution_id.as_ref()),
        ("run_id", body.run_id.as_ref()),
        ("batch_id", body.batch_id.as_ref()),
        ("metadata.batch_id", inner),
    ];
    let given = ids.into_iter().find_map(|(field, id)| Some((field, id?.0.as_str())).filter(|(_, id)| !id.is_empty()));
    let echoed = dispatch.map(|dispatch| ("the dispatch id", dispatch.as_str()));
    let (field, id) = given.or(echoed).unwrap_or(("the message id", delivery.message_id.as_str()));
    checked(field, id).map(RunId::from)
}

/// The correlation id, for display and handing on; one that could break a header is dropped rather than the message.
fn correlation_of(body: &Body) -> Option<Arc<str>> {
    let id = &body.correlation_id.as_ref()?.0;
    let sound = !id.is_empty() && id.chars().count() <= NAME_MAX && !id.chars().any(is_control);
    sound.then(|| Arc::from(id.as_str()))
}

fn outcome_of(body: &Body, missing: Missing) -> Result<Outcome, Reason> {
    let status = text(&body.status).map(str::to_ascii_lowercase);
    let status = match (status.as_deref(), body.success, missing) {
        (Some(status), _, _) => status,
        (None, Some(true), _) | (None, None, Missing::Success) => "success",
        (None, Some(false), _) => "failed",
        (None, None, Missing::Fault) => return Err(Reason::NoStatus),
    };
    Ok(match status {
        "success" => Outcome::Done(share_of(body)?.unwrap_or(Extent::Whole)),
        "partial" => Outcome::Done(share_of(body)?.unwrap_or(Extent::Unknown)),
        // A grader that waits for actuals it has asked for has found nothing to grade yet.
        "no_data" | "auto_heal_pending" => Outcome::NoData,
        "failed" | "auto_heal_failed" => {
            Outcome::Failed(words([&body.error_message, &body.error, &body.errors], "no message"))
        }
        "skipped" => {
            let none = Words::default();
            let inner = body.metadata.as_ref().map_or(&none, |metadata| &metadata.0.skip_reason);
            Outcome::Skipped(words([inner, &body.skip_reason, &body.reason, &body.error_message], "no reason given"))
        }
        other => return Err(Reason::UnknownStatus(excerpt(other), Kind::Completion)),
    })
}

/// How much of its batch a coordinator has accounted for. Who was skipped with cause is accounted for: a batch must be
/// able to finish when a player is hurt.
fn share_of(body: &Body) -> Result<Option<Extent>, Reason> {
    let Some(Object(metadata)) = &body.metadata else { return Ok(None) };
    let parts = [
        ("expected_players", metadata.expected_players, metadata.completed_players, metadata.skipped_players),
        (
            "expected_predictions",
            metadata.expected_predictions,
            metadata.completed_predictions,
            metadata.skipped_predictions,
        ),
    ];
    for (field, expected, completed, skipped) in parts {
        let (expected, completed) = (count(field, expected)?, count(field, completed)?);
        let skipped = count(field, skipped)?.unwrap_or(0);
        if let (Some(expected), Some(completed)) = (expected, completed) {
            let units = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            if let Some(coverage) = Coverage::new(units(completed.saturating_add(skipped)), units(expected)) {
                return Ok(Some(Extent::Share(coverage)));
            }
        }
    }
    let Some(percent) = metadata.completion_pct else { return Ok(None) };
    if percent < 0.0 {
        return Err(Reason::NegativeCount { field: "completion_pct" });
    }
    // Rounded down, but for the error of binary fractions: 99.96 % is not complete, and 87.5 % is 875 thousandths.
    let thousandths = (percent.min(100.0) * 10.0 + 1e-6).floor() as u32;
    Ok(Coverage::new(thousandths, 1000).map(Extent::Share))
}

/// Beyond it not every reader of JSON tells one number from the next, and nobody has counted so far.
const COUNT_MAX: u64 = 1 << 53;

fn count(field: &'static str, count: Option<Count>) -> Result<Option<u64>, Reason> {
    match count {
        Some(Count::Negative) => Err(Reason::NegativeCount { field }),
        Some(Count::Of(count)) if count > COUNT_MAX => Err(Reason::HugeCount { field }),
        Some(Count::Of(count)) => Ok(Some(count)),
        None => Ok(None),
    }
}

fn words<'a>(candidates: impl IntoIterator<Item = &'a Words>, otherwise: &str) -> Arc<str> {
    let given =
        candidates.into_iter().filter_map(|words| words.0.as_deref()).map(str::trim).find(|text| !text.is_empty());
    given.map_or_else(|| Arc::from(otherwise), |text| Arc::from(shown(text, WORDS_MAX)))
}

/// A field's text; an empty one is as good as none.
fn text(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty())
}
