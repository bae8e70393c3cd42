//! Producers' messages in: which dialect, which pipeline, which node, which date, what happened.
//!
//! `decode` is total: any bytes give events, or a reason why they never will. Nothing is guessed: a name that is in no
//! alias list and a date that is not a date are parked, and today's date is never a default.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;

use crate::diagnostic::suggestion;
use crate::domain::coverage::Coverage;
use crate::domain::event::{Completed, Event, Heartbeat, Note, Outcome, Pulse};
use crate::domain::evidence::Extent;
use crate::domain::graph::Graph;
use crate::domain::id::{DispatchId, NodeId, PartitionKey, PipelineId, RunId};
use crate::topology::{Carries, Topology};

/// A body larger than this is parked unread: the largest real message has some 2 KB, and parsing costs up to
/// seventeen times the size.
pub const DATA_MAX: usize = 256 * 1024;
/// The longest name or id taken.
const NAME_MAX: usize = 200;
/// Characters kept of a producer's error message; producers cut theirs at the same length.
const TEXT_MAX: usize = 1000;

/// One message as the broker hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The topic it came over.
    pub topic: String,
    /// The broker's name for it.
    pub message_id: String,
    /// When the broker took it.
    pub published: Timestamp,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its body.
    pub data: Vec<u8>,
}

/// Where names lead.
#[derive(Debug)]
pub struct Routes<'a> {
    /// Every pipeline's graph.
    pub graphs: Vec<&'a Graph>,
    /// Which topic carries what, and whose it is.
    pub topology: &'a Topology,
    /// The prefixes of each pipeline's datasets: `nba_`.
    pub datasets: BTreeMap<PipelineId, &'a [String]>,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Something happened to one partition.
    Events {
        /// Which.
        key: PartitionKey,
        /// What: one fact, and a note where the message was odd.
        events: Vec<Event>,
    },
    /// Nothing: an endpoint validation probe.
    Probe,
    /// Something that is none of our business.
    Ignored {
        /// What it is.
        reason: &'static str,
    },
    /// Something that can never be applied.
    Parked {
        /// Why.
        reason: Reason,
    },
}

/// Why a message can never be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The topic is not declared.
    UnknownTopic(String),
    /// More than [`DATA_MAX`] bytes.
    TooLarge(usize),
    /// Not UTF-8.
    NotText,
    /// Not JSON, or not of a form any producer sends; with the parser's words.
    NotAMessage(String),
    /// A JSON value that is not an object.
    NotAnObject,
    /// No producer's name in it.
    NoName,
    /// A name no pipeline knows.
    UnknownName {
        /// The name.
        name: String,
        /// A near one, as a hint.
        hint: String,
    },
    /// A name several pipelines know, and nothing says which is meant.
    Ambiguous(String),
    /// A name or id too long or with control characters.
    BadName(&'static str),
    /// No date, or none that is one.
    NoDate(String),
    /// Further ahead than the pipeline looks.
    TooFarAhead(Date),
    /// Longer ago than the pipeline remembers.
    TooOld(Date),
    /// No status, or one that is in no vocabulary.
    BadStatus(Option<String>),
    /// A number that cannot be.
    BadNumber(&'static str),
}

impl Reason {
    /// The kind of reason, for counting.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::UnknownTopic(_) => "unknown-topic",
            Self::TooLarge(_) => "too-large",
            Self::NotText => "not-text",
            Self::NotAMessage(_) => "not-a-message",
            Self::NotAnObject => "not-an-object",
            Self::NoName => "no-name",
            Self::UnknownName { .. } => "unknown-name",
            Self::Ambiguous(_) => "ambiguous-name",
            Self::BadName(_) => "bad-name",
            Self::NoDate(_) => "no-date",
            Self::TooFarAhead(_) => "too-far-ahead",
            Self::TooOld(_) => "too-old",
            Self::BadStatus(_) => "bad-status",
            Self::BadNumber(_) => "bad-number",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic(topic) => {
                write!(f, "topics.yaml does not declare `{topic}`: declare it, or publish elsewhere")
            }
            Self::TooLarge(bytes) => write!(f, "the body has {bytes} bytes; at most {DATA_MAX} are read"),
            Self::NotText => f.write_str("the body is not UTF-8"),
            Self::NotAMessage(why) => write!(f, "the body is not a message of any known form: {why}"),
            Self::NotAnObject => f.write_str("the body is JSON, but not an object"),
            Self::NoName => f.write_str("no processor or scraper is named: add `processor_name` and publish it again"),
            Self::UnknownName { name, hint } => {
                write!(f, "no pipeline knows `{name}`{hint}: add it to a node's aliases in pipeline.yaml")
            }
            Self::Ambiguous(name) => {
                write!(f, "several pipelines know `{name}`: name its `output_dataset`, or publish on its own topic")
            }
            Self::BadName(field) => write!(f, "`{field}` is longer than {NAME_MAX} characters or not printable"),
            Self::NoDate(found) => write!(f, "no date: {found}; give `game_date` as YYYY-MM-DD"),
            Self::TooFarAhead(date) => write!(f, "{date} is too far ahead of the day it was published"),
            Self::TooOld(date) => write!(f, "{date} is longer ago than this pipeline remembers"),
            Self::BadStatus(None) => {
                f.write_str("`status` is missing: publish it again with success, partial, no_data, failed or skipped")
            }
            Self::BadStatus(Some(status)) => {
                write!(f, "`{status}` is no status: success, partial, no_data, failed or skipped")
            }
            Self::BadNumber(field) => write!(f, "`{field}` is not a count"),
        }
    }
}

/// Every field that any dialect uses. Unknown fields are passed over unread; a body of megabytes of them was refused by
/// size before.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    processor_name: Option<String>,
    scraper_name: Option<String>,
    scraper: Option<String>,
    name: Option<String>,
    bucket: Option<String>,
    gcs_path: Option<String>,
    event_type: Option<String>,
    source_table: Option<String>,
    analytics_table: Option<String>,
    output_table: Option<String>,
    output_dataset: Option<String>,
    status: Option<String>,
    success: Option<bool>,
    phase: Option<serde::de::IgnoredAny>,
    game_date: Option<String>,
    data_date: Option<String>,
    analysis_date: Option<String>,
    target_date: Option<String>,
    date: Option<String>,
    gamedate: Option<String>,
    execution_id: Option<String>,
    run_id: Option<String>,
    correlation_id: Option<String>,
    record_count: Option<f64>,
    player_count: Option<f64>,
    error_message: Option<String>,
    skip_reason: Option<String>,
    team_abbr: Option<String>,
    progress: Option<f64>,
    total: Option<f64>,
    output_type: Option<String>,
    trigger_source: Option<String>,
    retry_count: Option<f64>,
    metadata: Option<Metadata>,
    tipoff: Option<Echo>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    gcs_path: Option<String>,
    batch_id: Option<String>,
    expected_players: Option<f64>,
    completed_players: Option<f64>,
    skipped_players: Option<f64>,
    expected_predictions: Option<f64>,
    completed_predictions: Option<f64>,
    completion_pct: Option<f64>,
    expected_count: Option<f64>,
    skip_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Echo {
    dispatch_id: Option<String>,
}

/// Storage prefixes of files whose message names no scraper, to the scraper that writes them.
const PREFIXES: &[(&str, &str)] = &[
    ("nba-com/gamebooks", "nbac_gamebook_pdf"),
    ("nba-com/player-boxscores", "nbac_player_boxscore"),
    ("nba-com/team-boxscore", "nbac_team_boxscore"),
    ("nba-com/play-by-play", "nbac_play_by_play"),
    ("nba-com/schedule", "nbac_schedule_api"),
    ("nba-com/scoreboard-v2", "nbac_scoreboard_v2"),
    ("nba-com/player-list", "nbac_player_list"),
    ("nba-com/injury-report", "nbac_injury_report"),
    ("nba-com/referee-assignments", "nbac_referee_assignments"),
    ("nba-com/player-movement", "nbac_player_movement"),
    ("big-data-ball", "bigdataball_pbp"),
    ("bigdataball", "bigdataball_pbp"),
    ("odds-api/events", "oddsa_events"),
    ("odds-api/player-props", "oddsa_player_props"),
    ("odds-api/game-lines", "oddsa_game_lines"),
    ("bettingpros/events", "bp_events"),
    ("bettingpros/player-props", "bp_player_props"),
    ("espn/rosters", "espn_roster"),
    ("basketball-ref/season-rosters", "br_season_roster"),
];

/// Reads one message.
pub fn decode(routes: &Routes<'_>, delivery: &Delivery) -> Decoded {
    match read(routes, delivery) {
        Ok(decoded) => decoded,
        Err(reason) => Decoded::Parked { reason },
    }
}

fn read(routes: &Routes<'_>, delivery: &Delivery) -> Result<Decoded, Reason> {
    let Some(topic) = routes.topology.topic(&delivery.topic) else {
        return Err(Reason::UnknownTopic(delivery.topic.chars().take(NAME_MAX).collect()));
    };
    if delivery.data.len() > DATA_MAX {
        return Err(Reason::TooLarge(delivery.data.len()));
    }
    let text = std::str::from_utf8(&delivery.data).map_err(|_| Reason::NotText)?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(Decoded::Probe);
    }
    if !text.starts_with('{') {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        return Err(if is_json { Reason::NotAnObject } else { Reason::NotAMessage("not JSON".to_owned()) });
    }
    let body: Body = serde_json::from_str(text)
        .map_err(|error| Reason::NotAMessage(error.to_string().chars().take(NAME_MAX).collect()))?;
    match topic.carries {
        Carries::Heartbeat => heartbeat(routes, delivery, &topic.pipeline, &body),
        Carries::Completion => completion(routes, delivery, &topic.pipeline, &body),
        Carries::Trigger | Carries::Request | Carries::DeadLetter | Carries::Other => {
            Ok(Decoded::Ignored { reason: "a request to somebody else" })
        }
    }
}

fn heartbeat(routes: &Routes<'_>, delivery: &Delivery, whose: &str, body: &Body) -> Result<Decoded, Reason> {
    let name = named("processor_name", body.processor_name.as_deref())?.ok_or(Reason::NoName)?;
    let date = date(delivery, [&body.data_date, &body.game_date], None)?;
    let pulse = match body.status.as_deref() {
        Some("running") => Pulse::Running,
        Some("completed") => Pulse::Ended,
        Some("failed") => Pulse::Failed,
        other => return Err(Reason::BadStatus(other.map(short))),
    };
    let found = resolve(routes, delivery, whose, &[name], None, date)?;
    let run = run(delivery, &[("run_id", &body.run_id), ("execution_id", &body.execution_id)])?;
    let progress = (count("progress", body.progress)?.unwrap_or(0), count("total", body.total)?.unwrap_or(0));
    let heartbeat = Heartbeat { node: found.node.clone(), run, pulse, progress, published: delivery.published };
    Ok(found.events(Event::Heartbeat(heartbeat)))
}

fn completion(routes: &Routes<'_>, delivery: &Delivery, whose: &str, body: &Body) -> Result<Decoded, Reason> {
    let metadata = body.metadata.as_ref();
    let meta = |field: fn(&Metadata) -> &Option<String>| metadata.and_then(|metadata| field(metadata).as_deref());
    let path = body.gcs_path.as_deref().or(meta(|metadata| &metadata.gcs_path));
    let stored = match (&body.bucket, &body.name) {
        (Some(_), Some(object)) => Some(object.as_str()),
        _ => None,
    };
    let path = path.or(stored);
    let table = body.output_table.as_deref().or(body.source_table.as_deref()).or(body.analytics_table.as_deref());
    let producer = body
        .processor_name
        .as_deref()
        .or(body.scraper_name.as_deref())
        .or(body.scraper.as_deref())
        .or(if stored.is_none() { body.name.as_deref() } else { None });
    let Some(producer) = named("processor_name", producer)?.or_else(|| path.and_then(scraper_of)) else {
        if body.event_type.is_none() && body.status.is_some() && table.is_some() {
            return Ok(Decoded::Ignored { reason: "a run-history status that leaked onto the topic" });
        }
        if body.output_type.is_some() && body.trigger_source.is_none() {
            return Ok(Decoded::Ignored { reason: "a request for a backfill" });
        }
        return match named("source_table", table)? {
            Some(table) => finish(routes, delivery, whose, body, &[table], path),
            None => Err(Reason::NoName),
        };
    };
    let mut names = vec![producer];
    names.extend(named("output_table", table)?);
    finish(routes, delivery, whose, body, &names, path)
}

fn finish(
    routes: &Routes<'_>,
    delivery: &Delivery,
    whose: &str,
    body: &Body,
    names: &[&str],
    path: Option<&str>,
) -> Result<Decoded, Reason> {
    let dates = [&body.game_date, &body.data_date, &body.analysis_date, &body.target_date, &body.date, &body.gamedate];
    let date = date(delivery, dates, path)?;
    let found = resolve(routes, delivery, whose, names, body.output_dataset.as_deref(), date)?;
    let records = count("record_count", body.record_count)?;
    let batch = body.metadata.as_ref().and_then(|metadata| metadata.batch_id.clone());
    let run = run(
        delivery,
        &[
            ("execution_id", &body.execution_id),
            ("run_id", &body.run_id),
            ("batch_id", &batch),
            ("correlation_id", &body.correlation_id),
        ],
    )?;
    let text = |given: Option<&str>, otherwise: &str| Arc::from(given.map_or(otherwise.to_owned(), cut).as_str());
    let failed = || Outcome::Failed(text(body.error_message.as_deref(), "no message"));
    let reason = body.metadata.as_ref().and_then(|metadata| metadata.skip_reason.as_deref());
    let skipped = || Outcome::Skipped(text(body.skip_reason.as_deref().or(reason), "no reason given"));
    let outcome = match (body.status.as_deref(), body.success) {
        (Some("success" | "complete" | "completed"), _) | (None, Some(true)) => Outcome::Done(whole(body)?),
        (Some("partial"), _) => Outcome::Done(share(body)?.unwrap_or(Extent::Unknown)),
        (Some("no_data"), _) => Outcome::NoData,
        (Some("failed" | "auto_heal_failed"), _) | (None, Some(false)) => failed(),
        (Some("skipped" | "auto_heal_pending"), _) => skipped(),
        // A scraper that gives a path and no status has written that file.
        (None, None) if path.is_some() => Outcome::Done(Extent::Whole),
        (other, _) => return Err(Reason::BadStatus(other.map(short))),
    };
    let dispatch = body
        .tipoff
        .as_ref()
        .and_then(|echo| echo.dispatch_id.as_deref())
        .or(delivery.attributes.get("tipoff-dispatch-id").map(String::as_str));
    let correlation = named("correlation_id", body.correlation_id.as_deref())?.map(Arc::from);
    let completed = Completed {
        node: found.node.clone(),
        run,
        outcome,
        records,
        published: delivery.published,
        correlation,
        dispatch: named("dispatch_id", dispatch)?.map(DispatchId::from),
    };
    Ok(found.events(Event::Completed(completed)))
}

/// Where a message belongs.
struct Found {
    key: PartitionKey,
    node: NodeId,
    notes: Vec<Note>,
}

impl Found {
    fn events(self, event: Event) -> Decoded {
        let events = std::iter::once(event).chain(self.notes.into_iter().map(Event::Noted)).collect();
        Decoded::Events { key: self.key, events }
    }
}

/// Finds the node: by the producer's name, else by its output table. Name and dataset decide the pipeline; the topic
/// only where they leave it open.
fn resolve(
    routes: &Routes<'_>,
    delivery: &Delivery,
    whose: &str,
    names: &[&str],
    dataset: Option<&str>,
    date: Date,
) -> Result<Found, Reason> {
    for (rank, name) in names.iter().enumerate() {
        let bare = name.rsplit('.').next().unwrap_or(name);
        let candidates: Vec<(&Graph, &NodeId)> = routes
            .graphs
            .iter()
            .filter_map(|graph| {
                let published = delivery.published;
                let node = graph
                    .resolve(name, date, published)
                    .or_else(|| (rank > 0).then(|| graph.resolve(bare, date, published)).flatten())?;
                Some((*graph, node))
            })
            .collect();
        let of_dataset = |graph: &Graph| {
            let prefixes = routes.datasets.get(&graph.pipeline).copied().unwrap_or_default();
            let named = dataset.into_iter().chain(names.iter().copied().filter(|name| name.contains('.')));
            named.into_iter().any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())))
        };
        let chosen = match candidates.as_slice() {
            [] => continue,
            [only] => *only,
            several => {
                let by_dataset: Vec<_> = several.iter().filter(|(graph, _)| of_dataset(graph)).collect();
                let by_topic: Vec<_> = several.iter().filter(|(graph, _)| graph.pipeline.as_str() == whose).collect();
                match (by_dataset.as_slice(), by_topic.as_slice()) {
                    ([one], _) | ([], [one]) => **one,
                    _ => return Err(Reason::Ambiguous((*name).to_owned())),
                }
            }
        };
        let (graph, node) = chosen;
        within(graph, date, delivery.published)?;
        let mut notes = Vec::new();
        if let (true, Some(first)) = (rank > 0, names.first()) {
            notes.push(Note::UnknownName { name: Arc::from(*first), node: node.clone() });
        }
        if graph.pipeline.as_str() != whose {
            notes.push(Note::WrongTopic {
                name: Arc::from(*names.first().unwrap_or(name)),
                topic: Arc::from(delivery.topic.as_str()),
            });
        }
        let key = PartitionKey { pipeline: graph.pipeline.clone(), date };
        return Ok(Found { key, node: node.clone(), notes });
    }
    let name = names.first().copied().unwrap_or_default();
    let known = routes.graphs.iter().flat_map(|graph| graph.aliases.keys()).map(String::as_str);
    Err(Reason::UnknownName { name: name.to_owned(), hint: suggestion(&name.to_ascii_lowercase(), known) })
}

/// The window of dates a pipeline takes, counted from the day of publication in its zone.
fn within(graph: &Graph, date: Date, published: Timestamp) -> Result<(), Reason> {
    let today = graph.date_at(published);
    let days = i32::try_from(date.duration_since(today).as_hours() / 24).unwrap_or(i32::MAX);
    if days > graph.limits.ahead_max {
        return Err(Reason::TooFarAhead(date));
    }
    if days < -graph.limits.behind_max {
        return Err(Reason::TooOld(date));
    }
    Ok(())
}

/// The first date that is given, else the one in the path. A date field that is not a date is not passed over in
/// silence, unless the path says clearly what is meant.
fn date<'a>(
    delivery: &Delivery,
    fields: impl IntoIterator<Item = &'a Option<String>>,
    path: Option<&str>,
) -> Result<Date, Reason> {
    let given = fields.into_iter().flatten().find(|given| !given.is_empty());
    let in_path = path.and_then(date_in);
    let parsed = given.and_then(|given| day(given));
    parsed.or(in_path).or_else(|| delivery.attributes.get("game_date").and_then(|given| day(given))).ok_or_else(|| {
        Reason::NoDate(given.map_or("none is given".to_owned(), |given| format!("`{}` is none", short(given))))
    })
}

/// YYYY-MM-DD or YYYYMMDD, nothing else.
fn day(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    let iso = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let basic = bytes.len() == 8 && bytes.iter().all(u8::is_ascii_digit);
    (iso || basic).then(|| text.parse().ok()).flatten()
}

/// The date in a storage path, if it has exactly one.
fn date_in(path: &str) -> Option<Date> {
    let mut days = path.split('/').filter(|part| part.len() == 10).filter_map(day);
    let first = days.next()?;
    days.all(|other| other == first).then_some(first)
}

fn scraper_of(path: &str) -> Option<&'static str> {
    let object = path.strip_prefix("gs://").and_then(|rest| rest.split_once('/')).map_or(path, |(_, object)| object);
    PREFIXES.iter().find(|(prefix, _)| object.starts_with(prefix)).map(|(_, scraper)| *scraper)
}

/// The execution a message is about: the first id it gives, else the message itself.
fn run(delivery: &Delivery, fields: &[(&'static str, &Option<String>)]) -> Result<RunId, Reason> {
    for (field, given) in fields {
        if let Some(id) = named(field, given.as_deref())? {
            return Ok(RunId::from(id));
        }
    }
    Ok(RunId::from(delivery.message_id.chars().take(NAME_MAX).collect::<String>().as_str()))
}

/// A name or id, if it is given, short and printable.
fn named<'a>(field: &'static str, given: Option<&'a str>) -> Result<Option<&'a str>, Reason> {
    match given.map(str::trim) {
        None | Some("") => Ok(None),
        Some(name) if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) => {
            Err(Reason::BadName(field))
        }
        Some(name) => Ok(Some(name)),
    }
}

/// A whole number of things, written by whatever client.
fn count(field: &'static str, given: Option<f64>) -> Result<Option<u64>, Reason> {
    match given {
        None => Ok(None),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked here")]
        Some(number) if (0.0..=1e15).contains(&number) => Ok(Some(number as u64)),
        Some(_) => Err(Reason::BadNumber(field)),
    }
}

/// What a success claims: whole, unless its own figures say otherwise.
fn whole(body: &Body) -> Result<Extent, Reason> {
    Ok(match share(body)? {
        Some(Extent::Share(coverage)) if !coverage.is_full() => Extent::Share(coverage),
        _ => Extent::Whole,
    })
}

/// What a message's own figures say. Skipped units are accounted for.
fn share(body: &Body) -> Result<Option<Extent>, Reason> {
    let Some(metadata) = &body.metadata else { return Ok(None) };
    let pairs = [
        (metadata.completed_players, metadata.expected_players),
        (metadata.completed_predictions, metadata.expected_predictions),
        (body.record_count, metadata.expected_count),
    ];
    let skipped = count("skipped_players", metadata.skipped_players)?.unwrap_or(0);
    for (done, due) in pairs {
        let (Some(done), Some(due)) = (count("completed", done)?, count("expected", due)?) else { continue };
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        return Ok(Coverage::new(narrow(done.saturating_add(skipped)), narrow(due)).map(Extent::Share));
    }
    let Some(percent) = metadata.completion_pct else { return Ok(None) };
    if !(0.0..=100.0).contains(&percent) {
        return Err(Reason::BadNumber("completion_pct"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked here")]
    let thousandths = (percent * 10.0).floor() as u32;
    Ok(Coverage::new(thousandths, 1000).map(Extent::Share))
}

fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(40).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
