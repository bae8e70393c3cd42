//! Gathers what the monitors judge: reports of the warehouse, and what is known of dates. Nothing is compared here.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Engine;
use crate::domain::event::Game;
use crate::domain::id::{PartitionKey, PipelineId, UnitId};
use crate::monitor::coverage::{self, Coverage};
use crate::monitor::health::{self, Health};
use crate::monitor::rosters::{self, Rosters};
use crate::monitor::silence::Silence;
use crate::pipeline::Pipeline;
use crate::port::{BusError, Reported, Row, StoreError};
use crate::wire::report::{self, Kind};

/// Dates of one pipeline whose runs are looked at, the latest first. Those that are live are six at most.
const DATES_MAX: usize = 32;

/// Why a monitor has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such pipeline.
    #[error("there is no pipeline {0}")]
    NoPipeline(PipelineId),
    /// The pipeline does not say what it is held to.
    #[error("{0} declares no {1} under monitors")]
    Undeclared(PipelineId, &'static str),
    /// The warehouse keeps nothing of the date.
    #[error("the warehouse keeps no {0} of {1}")]
    NotKept(Kind, PartitionKey),
    /// The warehouse could not tell.
    #[error("{0}")]
    Unanswered(String),
    /// What the warehouse told cannot be read.
    #[error(transparent)]
    Unreadable(#[from] report::Error),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody could be told.
    #[error("raise the alert: {0}")]
    Untold(#[from] BusError),
}

impl Engine {
    /// What is predicted of the games of a date.
    ///
    /// # Errors
    /// If it cannot be told: never an empty answer.
    pub async fn game_coverage(&self, key: &PartitionKey) -> Result<Coverage, Error> {
        let limits = self.monitored(key)?.monitors.game_coverage;
        let limits = limits.ok_or_else(|| Error::Undeclared(key.pipeline.clone(), "game_coverage"))?;
        let now = self.clock.now();
        let schedule = match self.games(key, now).await {
            Ok(schedule) => schedule,
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => {
                // Better an alert about a game that is not played than none about one that is.
                tracing::warn!(partition.date = %key.date, "games are judged without their schedule: {error}");
                None
            }
        };
        if schedule.as_ref().is_some_and(|games| games.values().all(|game| !game.status.is_played())) {
            // A day off is known to be one, whatever the warehouse would say.
            return Ok(coverage::judge(key.date, &BTreeMap::new(), schedule.as_ref(), limits, now));
        }
        let told = self.rows(key, Kind::GameCoverage, now).await?.ok_or_else(|| not_kept(Kind::GameCoverage, key))?;
        let told = report::game_coverage(key.date, &told)?;
        Ok(coverage::judge(key.date, &told, schedule.as_ref(), limits, now))
    }

    /// Raises the alert about a date's games, or ends it.
    ///
    /// # Errors
    /// If nobody could be told.
    pub async fn tell_coverage(&self, key: &PartitionKey, coverage: &Coverage) -> Result<(), Error> {
        Ok(self.bus.alert(&coverage.alert(key, self.clock.now())).await?)
    }

    /// How new the rosters are for a date.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn roster_coverage(&self, key: &PartitionKey) -> Result<Rosters, Error> {
        let limits = self.monitored(key)?.monitors.roster_coverage.as_ref();
        let limits = limits.ok_or_else(|| Error::Undeclared(key.pipeline.clone(), "roster_coverage"))?;
        let now = self.clock.now();
        let told = self.rows(key, Kind::RosterAges, now).await?.ok_or_else(|| not_kept(Kind::RosterAges, key))?;
        Ok(rosters::judge(key.date, &report::roster_ages(key.date, &told)?, limits, now))
    }

    /// How a date went. Rosters that cannot be told of are part of the answer.
    ///
    /// # Errors
    /// If the store could not be read.
    pub async fn pipeline_health(&self, key: &PartitionKey) -> Result<Health, Error> {
        let pipeline = self.monitored(key)?;
        let phases = &pipeline.monitors.pipeline_health;
        if phases.is_empty() {
            return Err(Error::Undeclared(key.pipeline.clone(), "pipeline_health"));
        }
        let partition = self.store.load(key).await?.partition;
        let rows = match &pipeline.monitors.roster_coverage {
            Some(_) => self.rows(key, Kind::RosterAges, self.clock.now()).await,
            None => Ok(None),
        };
        let told = rows.and_then(|rows| Ok(rows.map(|rows| report::roster_ages(key.date, &rows)).transpose()?));
        let rosters = match (&told, &pipeline.monitors.roster_coverage) {
            (Ok(Some(teams)), Some(limits)) => health::Told::Rosters(teams, limits),
            (Ok(_), _) => health::Told::Nothing,
            (Err(error), _) => {
                tracing::warn!(partition.date = %key.date, "rosters: {error}");
                health::Told::Unanswered
            }
        };
        Ok(health::judge(&pipeline.graph, &partition, phases, rosters))
    }

    /// The runs of the live dates of `pipelines`.
    ///
    /// # Errors
    /// If the store could not be read.
    pub async fn silence(&self, pipelines: &[PipelineId]) -> Result<Silence, Error> {
        let now = self.now();
        let mut silence = Silence::new(now.at);
        for id in pipelines {
            let pipeline = self.pipeline(id).ok_or_else(|| Error::NoPipeline(id.clone()))?;
            let dates = self.store.dates(id, DATES_MAX).await?.into_iter();
            for date in dates.filter(|date| self.is_live(&pipeline.graph, *date, now.at)) {
                let partition = self.store.load(&PartitionKey { pipeline: id.clone(), date }).await?.partition;
                silence.add(&pipeline.graph, &partition, now, |node| pipeline.class(node).to_owned());
            }
        }
        Ok(silence)
    }

    fn monitored(&self, key: &PartitionKey) -> Result<&Pipeline, Error> {
        self.pipeline(&key.pipeline).ok_or_else(|| Error::NoPipeline(key.pipeline.clone()))
    }

    /// The games of a date: as the date knows them, who may have been told better, else as the warehouse does. None where
    /// the calendar knows that nobody plays.
    async fn games(&self, key: &PartitionKey, now: Timestamp) -> Result<Option<BTreeMap<UnitId, Game>>, Error> {
        let partition = self.store.load(key).await?.partition;
        if partition.schedule.is_some() {
            return Ok(Some(partition.listed()));
        }
        if partition.has_no_games(&self.monitored(key)?.graph.calendar) {
            return Ok(Some(BTreeMap::new()));
        }
        let rows = self.rows(key, Kind::Schedule, now).await?;
        Ok(rows.map(|rows| report::schedule(key.date, &rows)).transpose()?.map(|listing| listing.games))
    }

    /// What the warehouse says of a date; nothing where it keeps no such report.
    async fn rows(&self, key: &PartitionKey, kind: Kind, now: Timestamp) -> Result<Option<Vec<Row>>, Error> {
        match self.warehouse.report(&key.pipeline, kind, key.date, now).await {
            Reported::Rows(rows) => Ok(Some(rows)),
            Reported::NotKept => Ok(None),
            Reported::Unknown(why) => Err(Error::Unanswered(why)),
        }
    }
}

fn not_kept(kind: Kind, key: &PartitionKey) -> Error {
    Error::NotKept(kind, key.clone())
}
