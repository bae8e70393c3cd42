//! Does the database do what the service will ask of it? For `tipoff doctor`.

use jiff::Timestamp;

use super::Firestore;
use super::document::{Only, instant, write};
use super::store::{CURSORS, unavailable};
use crate::domain::id::{PartitionKey, PipelineId};
use crate::port::{Store as _, StoreError};

impl Firestore {
    /// Writes a small document, and returns the server's clock as it did.
    ///
    /// # Errors
    /// If it could not be written, as without permission.
    pub async fn try_writing(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let name = self.name(CURSORS, "doctor");
        // Something has to change, or the server leaves its instant as it was.
        let written = self.apply(vec![write(name, vec![("tried_at", instant(now))], Only::Always)]).await;
        let at = written.map_err(unavailable)?.commit_time.unwrap_or_default();
        Timestamp::new(at.seconds, at.nanos).map_err(unavailable)
    }

    /// Asks every query that needs a composite index, each for one document, and says which failed and why. The service's
    /// own words name the index that is missing, and the address at which it is made.
    pub async fn try_queries(&self, pipeline: &PipelineId, now: Timestamp) -> Vec<(&'static str, StoreError)> {
        let key = PartitionKey { pipeline: pipeline.clone(), date: jiff::civil::Date::constant(2026, 1, 1) };
        let mut failed = Vec::new();
        let mut note = |query, error: Option<StoreError>| failed.extend(error.map(|error| (query, error)));
        note("the outbox", self.outbox(now, 1).await.err());
        note("the next deadline", self.next_wake().await.err());
        note("parked effects", self.undeliverable(1).await.err());
        note("the dates of a pipeline", self.dates(pipeline, 1).await.err());
        note("the journal of a date", self.journal(Some(&key), 0, 1).await.err());
        note("alerts that are on", self.alerts_on().await.err());
        failed
    }
}
