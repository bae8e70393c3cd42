//! Every date of a season at a glance: a light for each of its phases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::Serialize;

use super::day::{Day, Light, lights};
use crate::domain::graph::Graph;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::domain::time::after;
use crate::engine::Engine;
use crate::port::StoreError;

/// Dates that are looked at in one go: a season with its play-offs, and some.
pub const DATES_MAX: i32 = 400;
/// How long what was read of a date that is over is taken as it was. Such a date moves only where it is made again.
const OVER_FOR: SignedDuration = SignedDuration::from_mins(10);

/// A date of the season.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub date: Date,
    /// Why no games are played, where none can be.
    pub idle: Option<String>,
    /// Games that are played, where the schedule is known.
    pub games: Option<usize>,
    /// Whether all that it requires is done.
    pub complete: bool,
    /// By phase: its light, how many of its nodes are done, of how many. Empty where nothing is known of the date.
    pub phases: BTreeMap<String, (Light, usize, usize)>,
}

/// What was read of dates that are over, and when.
#[derive(Debug, Default)]
pub struct Seasons(Mutex<BTreeMap<PartitionKey, (Timestamp, Row)>>);

/// The first and the last day of the season that `today` is in, or of the last one; the last day is today at most.
pub fn span(graph: &Graph, today: Date) -> (Date, Date) {
    let begun = graph.calendar.seasons.iter().filter(|season| season.from <= today).max_by_key(|season| season.from);
    let oldest = today.saturating_sub(DATES_MAX.days());
    match begun {
        Some(season) => (season.from.max(oldest), season.until.min(today.saturating_add(1.day())).max(season.from)),
        None => (today.saturating_sub(30.days()), today),
    }
}

impl Seasons {
    /// The dates from `from` to `until`, the latest first; at most [`DATES_MAX`].
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn rows(
        &self,
        engine: &Engine,
        (graph, pipeline): (&Graph, &PipelineId),
        (from, until): (Date, Date),
    ) -> Result<Vec<Row>, StoreError> {
        let at = engine.clock.now();
        let stored: BTreeSet<Date> = engine.store.dates(pipeline, 2_000).await?.into_iter().collect();
        let mut rows = Vec::new();
        let mut date = until;
        for _ in 0..DATES_MAX {
            if date < from {
                break;
            }
            let key = PartitionKey { pipeline: pipeline.clone(), date };
            let idle = graph.calendar.idle(date).map(str::to_owned);
            rows.push(match stored.contains(&date) {
                true => self.row(engine, graph, &key, at).await?,
                false => Row { date, idle, games: None, complete: false, phases: BTreeMap::new() },
            });
            let Ok(before) = date.yesterday() else { break };
            date = before;
        }
        Ok(rows)
    }

    async fn row(&self, engine: &Engine, graph: &Graph, key: &PartitionKey, at: Timestamp) -> Result<Row, StoreError> {
        let known = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_over = !engine.is_live(graph, key.date, at);
        if let Some((_, row)) = known().get(key).filter(|(read, _)| is_over && at < after(*read, OVER_FOR)) {
            return Ok(row.clone());
        }
        let day = Day::load(engine, graph, key).await?;
        let phases = lights(graph, &day).into_iter().map(|phase| (phase.phase, (phase.light, phase.done, phase.total)));
        let row = Row {
            date: key.date,
            idle: graph.calendar.idle(key.date).map(str::to_owned),
            games: day.partition.schedule.is_some().then(|| day.partition.games().len()),
            complete: day.view.complete,
            phases: phases.collect(),
        };
        if is_over {
            let mut kept = known();
            // Dates of several pipelines, and of a season before: enough for all, and bounded.
            if kept.len() >= 4 * DATES_MAX.unsigned_abs() as usize {
                kept.clear();
            }
            kept.insert(key.clone(), (at, row.clone()));
        }
        Ok(row)
    }
}
