//! A pipeline that operators have stopped: nothing of it leaves. Its dates decide on, and what they decide waits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use crate::domain::id::PipelineId;
use crate::domain::stop::{Stop, Stops};
use crate::domain::time::after;
use crate::port::StoreError;

/// What waits is looked at again after this, since a stop may be ended at any time.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Tries to change the stops against others who do.
const TRIES_MAX: usize = 8;

/// An answer this old is asked for again: what is sent sooner after a stop than it may be on its way already.
const ANSWER_MAX: SignedDuration = SignedDuration::from_millis(100);

/// What holds which pipeline, as it was last asked ahead: when, and the answer.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<(Timestamp, Stops)>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Option<(Timestamp, Stops)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a stop was not set or ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others change the stops all the time.
    #[error("somebody else changes the stops at the same time; try again")]
    Contended,
}

impl Engine {
    /// What holds `pipeline` now, if anything does.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn stopped(&self, pipeline: &PipelineId) -> Result<Option<Stop>, StoreError> {
        let (_, stops) = self.store.kept::<Stops>().await?;
        Ok(stops.of(pipeline, self.clock.now()).cloned())
    }

    /// Asks what holds which pipeline, for what is decided now and sent at once.
    pub(super) async fn ask_stops(&self) -> Result<(), StoreError> {
        let at = self.clock.now();
        let (_, stops) = self.store.kept::<Stops>().await?;
        *self.asked.lock() = Some((at, stops));
        Ok(())
    }

    /// What holds `pipeline`, by an answer no older than `since` that was given a moment ago, or by a new one.
    pub(super) async fn stopped_after(
        &self,
        pipeline: &PipelineId,
        since: Timestamp,
    ) -> Result<Option<Stop>, StoreError> {
        let now = self.clock.now();
        let known = self.asked.lock().as_ref().and_then(|(at, stops)| {
            let is_new = since <= *at && *at <= now && now.duration_since(*at) <= ANSWER_MAX;
            is_new.then(|| stops.of(pipeline, now).cloned())
        });
        match known {
            Some(stop) => Ok(stop),
            None => self.stopped(pipeline).await,
        }
    }

    /// When what a stop holds back is looked at again.
    pub(super) fn look_again(&self, stop: &Stop, now: Timestamp) -> Timestamp {
        let soon = after(now, LOOK_EVERY);
        stop.until.map_or(soon, |until| until.min(soon))
    }

    /// Holds a pipeline; what held it before is replaced, and kept as past.
    ///
    /// # Errors
    /// If that is not kept.
    pub async fn stop(&self, stop: &Stop) -> Result<(), StopError> {
        self.change_stops(|stops| stops.hold(stop.clone())).await?;
        tracing::warn!(actor = stop.actor, "{stop}");
        Ok(())
    }

    /// Ends what holds a pipeline. Whether anything did.
    ///
    /// # Errors
    /// If that is not kept.
    pub async fn go_on(&self, pipeline: &PipelineId, actor: &str, reason: &str) -> Result<bool, StopError> {
        let now = self.clock.now();
        let held = self.change_stops(|stops| stops.end(pipeline, (actor, reason), now)).await?;
        tracing::warn!(actor, held, "{pipeline} is no longer held: {reason}");
        Ok(held)
    }

    async fn change_stops<T>(&self, change: impl Fn(&mut Stops) -> T) -> Result<T, StopError> {
        for _ in 0..TRIES_MAX {
            let (version, mut stops) = self.store.kept::<Stops>().await?;
            let answer = change(&mut stops);
            let kept = self.store.keep(version, &stops).await;
            *self.asked.lock() = None;
            if kept? {
                return Ok(answer);
            }
        }
        Err(StopError::Contended)
    }
}
