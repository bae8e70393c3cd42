//! Works out what is to be expected of today and tomorrow, and tells a date when that changes.
//!
//! What past days showed is read from the journal once; a past date is read again only when something has been decided about
//! it since.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::Engine;
use super::step::StepError;
use crate::domain::event::{Event, Foretold};
use crate::domain::forecast::{Day, FORECAST_DAYS_MAX, Forecast, History, Reading, Shortfall, forecast};
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey, PipelineId};
use crate::domain::partition::Partition;
use crate::domain::time::after;
use crate::port::StoreError;

/// How often forecasts are made. What is late becomes later by the minute; five of them are soon enough to act on.
pub const FORECAST_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Which replica makes them.
const LEASE: &str = "forecast";
/// For how long: longer than the time between two rounds, so that it stays with whoever has read the past.
const LEASE_FOR: SignedDuration = SignedDuration::from_mins(15);
/// Dates that are known to the store and looked through for game days: [`FORECAST_DAYS_MAX`] of them, the days off between
/// them, and the days ahead that are open already.
const DATES_MAX: usize = 32;
/// Journal entries read at once.
const PAGE: usize = 500;

/// A past date as last read: at which version, and what it showed.
type Read = (u64, Option<Arc<Day>>);

/// Past dates that have been read.
#[derive(Debug, Default)]
pub struct Pasts(Mutex<BTreeMap<PartitionKey, Read>>);

impl Engine {
    /// Makes a forecast for today and tomorrow of every pipeline, and tells each date what is news to it. Returns how many
    /// dates were told.
    ///
    /// # Errors
    /// If the store cannot be used; the next round starts over.
    pub async fn foretell(&self) -> Result<usize, StepError> {
        let now = self.clock.now();
        if !self.store.lease(LEASE, now, after(now, LEASE_FOR)).await? {
            return Ok(0);
        }
        let mut told = 0;
        for (id, pipeline) in &self.declarations.pipelines {
            let graph = &pipeline.graph;
            let today = graph.date_at(now);
            let mut history = None;
            for date in [today, today.saturating_add(1.day())] {
                let key = PartitionKey { pipeline: id.clone(), date };
                let partition = self.store.load(&key).await?.partition;
                if !partition.has_games() {
                    continue;
                }
                let known = match history.take() {
                    Some(history) => history,
                    None => self.history(graph, id, today).await?,
                };
                let forecast = forecast(graph, &partition, &known, now);
                history = Some(known);
                let news = news(graph, &partition, &forecast, now);
                if !news.is_empty() {
                    self.step(&key, &news).await?;
                    told += 1;
                }
            }
        }
        Ok(told)
    }

    /// What is to be expected of a date. Nobody is told.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn forecast(&self, graph: &Graph, key: &PartitionKey) -> Result<Forecast, StoreError> {
        let now = self.clock.now();
        let partition = self.store.load(key).await?.partition;
        // Of a day that is not over nothing is usual yet.
        let history = self.history(graph, &key.pipeline, key.date.min(graph.date_at(now))).await?;
        Ok(forecast(graph, &partition, &history, now))
    }

    /// What the game days before `date` showed.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn history(&self, graph: &Graph, pipeline: &PipelineId, date: Date) -> Result<History, StoreError> {
        let mut days = Vec::new();
        let past = self.store.dates(pipeline, DATES_MAX).await?.into_iter().filter(|past| *past < date);
        for past in past {
            days.extend(self.day(graph, PartitionKey { pipeline: pipeline.clone(), date: past }).await?);
            if days.len() == FORECAST_DAYS_MAX {
                break;
            }
        }
        Ok(History { days })
    }

    /// What a past date showed; nothing where no game was played, or where its journal is not whole any more.
    async fn day(&self, graph: &Graph, key: PartitionKey) -> Result<Option<Arc<Day>>, StoreError> {
        let stored = self.store.load(&key).await?;
        let pasts = || self.pasts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, day)) = pasts().get(&key)
            && *version == stored.version
        {
            return Ok(day.clone());
        }
        let day = if stored.partition.has_games() { self.read(graph, &key).await? } else { None };
        let day = day.map(Arc::new);
        let mut pasts = pasts();
        pasts.insert(key, (stored.version, day.clone()));
        while pasts.len() > DATES_MAX * self.declarations.pipelines.len() {
            // Dates of one pipeline come after each other, the oldest first.
            let Some(oldest) = pasts.keys().min_by_key(|key| key.date).cloned() else { break };
            pasts.remove(&oldest);
        }
        Ok(day)
    }

    async fn read(&self, graph: &Graph, key: &PartitionKey) -> Result<Option<Day>, StoreError> {
        let mut reading = Reading::new(graph, key.clone());
        let mut last = 0;
        loop {
            let entries = match self.store.journal(Some(key), last, PAGE).await {
                Ok(entries) => entries,
                Err(StoreError::BadEntry { what, why, .. }) => {
                    tracing::warn!(partition = %key, "{what} is corrupt: {why}: nothing is learnt from that date");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let Some(end) = entries.last() else { return Ok(reading.day()) };
            last = end.seq;
            for entry in &entries {
                reading.take(entry.now.at, &entry.events, &entry.effects);
            }
        }
    }
}

/// What the date has not been told yet.
fn news(graph: &Graph, partition: &Partition, forecast: &Forecast, now: Timestamp) -> Vec<Event> {
    let told = |node: &NodeId| partition.forecast.get(node).and_then(|told| told.shortfall.as_ref());
    let promised = graph.nodes.values().filter(|node| node.expects.alert_before_tip.is_some());
    let expected = promised.map(|node| (node.id.clone(), forecast.shortfall(&node.id)));
    let is_news = |(node, shortfall): &(NodeId, Option<Shortfall>)| match (told(node), shortfall) {
        (Some(told), Some(shortfall)) => !told.is_like(shortfall),
        (told, shortfall) => told.is_some() != shortfall.is_some(),
    };
    let event = |(node, shortfall)| Event::Foretold(Foretold { node, shortfall, at: now });
    expected.filter(is_news).map(event).collect()
}
