//! Reads the schedule: the days around today are opened from it, so that a first message that does not come is missed.
//!
//! A reading that says what is known already is told to nobody. What cannot be read changes nothing, and is told of.

use jiff::civil::Date;
use jiff::{SignedDuration, ToSpan};

use super::Engine;
use super::step::StepError;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::event::{Event, Scheduled};
use crate::domain::id::{AlertKey, PartitionKey, PipelineId};
use crate::domain::time::after;
use crate::port::Reported;
use crate::wire::report;

/// Days before today whose games may still change: one that is moved is often told of a day late.
const LOOK_BACK: i32 = 1;
/// Which replica reads.
const LEASE: &str = "calendar";
/// For how long: longer than the time between two readings, so that it stays with whoever reads until that one is gone.
const LEASE_FOR: SignedDuration = SignedDuration::from_mins(30);

impl Engine {
    /// How often schedules are to be read.
    pub fn schedules_every(&self) -> SignedDuration {
        let every = self.declarations.pipelines.values().map(|pipeline| pipeline.reading.every);
        every.min().unwrap_or(LEASE_FOR)
    }

    /// One reading of every pipeline's schedule. Returns how many dates it changed.
    ///
    /// # Errors
    /// If the store cannot be used; the next reading starts over.
    pub async fn read_schedules(&self) -> Result<usize, StepError> {
        let now = self.clock.now();
        if !self.store.lease(LEASE, now, after(now, LEASE_FOR)).await? {
            return Ok(0);
        }
        let mut changed = 0;
        for (id, pipeline) in &self.declarations.pipelines {
            let today = pipeline.graph.date_at(now);
            for offset in -LOOK_BACK..=pipeline.reading.look_ahead {
                changed += usize::from(self.read_schedule(id, today.saturating_add(offset.days())).await?);
            }
        }
        Ok(changed)
    }

    async fn read_schedule(&self, pipeline: &PipelineId, date: Date) -> Result<bool, StepError> {
        let now = self.clock.now();
        let key = PartitionKey { pipeline: pipeline.clone(), date };
        let rows = match self.warehouse.report(pipeline, report::Kind::Schedule, date, now).await {
            Reported::Rows(rows) => rows,
            Reported::NotKept => return Ok(false),
            Reported::Unknown(why) => {
                tracing::warn!(partition = %key, "the schedule cannot be read: {why}");
                return Ok(false);
            }
        };
        let listing = match report::schedule(date, &rows) {
            Ok(listing) => listing,
            Err(error) => {
                self.bad_schedule(&key, &error).await;
                return Ok(false);
            }
        };
        let stored = self.store.load(&key).await?;
        let known = stored.partition.schedule.as_ref();
        let same = known.is_some_and(|known| known.games == listing.games && known.emptied_at.is_none());
        let contradicted = known.is_some_and(|known| known.emptied_at.is_some() && listing.games.is_empty());
        if same || contradicted {
            return Ok(false);
        }
        self.step(&key, &[Event::Scheduled(Scheduled { games: listing.games, at: now })]).await?;
        Ok(true)
    }

    async fn bad_schedule(&self, key: &PartitionKey, error: &report::Error) {
        tracing::error!(partition = %key, "the schedule is not used: {error}");
        let alert = Alert {
            key: AlertKey::new(format!("schedule-unread:{key}")),
            severity: Severity::Warning,
            turn: Turn::Raised,
            text: format!("the schedule is not used: {error}"),
            at: self.clock.now(),
            about: About::date(key).done("the schedule known before still counts"),
        };
        if let Err(error) = self.bus.alert(&alert).await {
            tracing::error!("raise {}: {error}", alert.key);
        }
    }
}
