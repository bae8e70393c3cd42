//! Committed effects out: each is tried until it is accepted, and one that fails delays no other.
//!
//! Keeps `published-was-decided` (only what the outbox holds is sent) and `decided-gets-published` (an entry stays
//! until it is accepted). Between acceptance and the note of it a crash repeats a message, with the same id.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::step::StepError;
use crate::domain::effect::{Alert, Dispatch, Effect, Severity, Turn};
use crate::domain::event::{Event, Observed, UpstreamSettled};
use crate::domain::id::{AlertKey, PartitionKey};
use crate::domain::time::after;
use crate::port::{Answer, BusError, Delivered, OutboxEntry, StoreError};
use crate::wire::dispatch::render;

/// Entries taken up in one round.
const PAGE: usize = 100;
/// The wait after the first refusal; doubles with each further one.
const BACKOFF: SignedDuration = SignedDuration::from_secs(1);
/// The longest wait between two tries.
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(5);
/// After this many refusals in a row a target is reported.
const TRIES_BEFORE_ALERT: u32 = 3;

impl Engine {
    /// One round: tries every effect that is due, the latest dates first. Returns how many were taken up.
    ///
    /// # Errors
    /// If the store cannot be read; the next round starts over.
    pub async fn relay(&self) -> Result<usize, StoreError> {
        let entries = self.store.outbox(self.clock.now(), PAGE).await?;
        let count = entries.len();
        for entry in entries {
            let delivered = self.deliver(&entry).await;
            self.store.settle(&entry.id, delivered).await?;
        }
        Ok(count)
    }

    async fn deliver(&self, entry: &OutboxEntry) -> Delivered {
        let now = self.clock.now();
        let result = match &entry.effect {
            Effect::Dispatch(dispatch) => self.send(entry, dispatch).await,
            Effect::Alert(alert) => self.bus.alert(alert).await.map_err(Failure::from),
            Effect::Observe { date, node } => {
                let key = PartitionKey { pipeline: entry.key.pipeline.clone(), date: *date };
                let coverage = match self.warehouse.coverage(&key.pipeline, node, *date, now).await {
                    Answer::Known { coverage, units } => Some((Some(coverage), units)),
                    Answer::Unknown(why) => {
                        tracing::warn!(partition = %key, node = %node, "coverage unknown: {why}");
                        Some((None, Default::default()))
                    }
                    Answer::NotKept => None,
                };
                match coverage {
                    Some((coverage, units)) => {
                        let observed = Observed { node: node.clone(), coverage, units, at: now };
                        self.tell(&key, Event::Observed(observed)).await
                    }
                    None => Ok(()),
                }
            }
            Effect::NotifyPartition { to, node, upstream } => {
                let key = PartitionKey { pipeline: entry.key.pipeline.clone(), date: *to };
                let settled = UpstreamSettled { date: entry.key.date, node: node.clone(), upstream: upstream.clone() };
                self.tell(&key, Event::UpstreamSettled(settled)).await
            }
            Effect::ReleaseLock { node, run } => {
                let released = self.store.release_lock(&entry.key, node, run).await;
                released.map_err(|error| Failure::Later(error.to_string()))
            }
        };
        match result {
            Ok(()) => Delivered::Sent { at: now },
            Err(Failure::Later(error)) => {
                let doublings = entry.tries.min(16);
                let wait = BACKOFF.saturating_mul(1 << doublings).min(BACKOFF_MAX);
                tracing::warn!(effect = entry.id, tries = entry.tries + 1, "not delivered: {error}");
                Delivered::Deferred { until: after(now, wait), error }
            }
            Err(Failure::Never(reason)) => {
                self.report(entry, "undeliverable", &reason, now).await;
                Delivered::Parked { reason }
            }
        }
    }

    async fn send(&self, entry: &OutboxEntry, dispatch: &Dispatch) -> Result<(), Failure> {
        let now = self.clock.now();
        let Some(pipeline) = self.pipeline(&dispatch.key.pipeline) else {
            return Err(Failure::Never(format!("there is no pipeline {}", dispatch.key.pipeline)));
        };
        let live = self.is_live(&pipeline.graph, dispatch.key.date, now);
        if !live && !self.history.take(now, self.settings.history_dispatches_per_minute) {
            return Err(Failure::Later("history waits behind the live dates".to_owned()));
        }
        let messages = render(pipeline, dispatch).map_err(|error| Failure::Never(error.to_string()))?;
        for message in &messages {
            if let Err(error) = self.bus.send(message, now).await {
                let failure = Failure::from(error);
                if let Failure::Later(reason) = &failure
                    && entry.tries + 1 >= TRIES_BEFORE_ALERT
                {
                    self.report(entry, "target", &format!("{}: {reason}", message.target), now).await;
                }
                return Err(failure);
            }
        }
        self.counts.dispatched.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            dispatch = %dispatch.id,
            node = %dispatch.node,
            cause = dispatch.manifest.cause.as_str(),
            degraded = dispatch.manifest.degraded,
            "dispatched"
        );
        Ok(())
    }

    async fn tell(&self, key: &PartitionKey, event: Event) -> Result<(), Failure> {
        match self.step(key, &[event]).await {
            Ok(_) => Ok(()),
            Err(StepError::Violated(violation)) => Err(Failure::Never(violation.to_string())),
            Err(error) => Err(Failure::Later(error.to_string())),
        }
    }

    async fn report(&self, entry: &OutboxEntry, topic: &str, reason: &str, at: Timestamp) {
        let alert = Alert {
            key: AlertKey::new(format!("{topic}:{}", entry.id)),
            severity: Severity::Critical,
            turn: Turn::Raised,
            text: format!("{} could not be delivered: {reason}", entry.id),
            at,
        };
        if let Err(error) = self.bus.alert(&alert).await {
            tracing::error!("raise {}: {error}", alert.key);
        }
    }
}

/// Why an effect was not delivered.
enum Failure {
    Later(String),
    Never(String),
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Unavailable(why) => Self::Later(why),
            BusError::Refused(why) => Self::Never(why),
        }
    }
}
