//! Wakes partitions whose deadline has come: timers fire without messages.

use super::Engine;
use super::step::StepError;
use crate::crash::{self, Place};
use crate::domain::event::Event;
use crate::port::StoreError;

/// Partitions woken in one round, the latest dates first.
const PAGE: usize = 64;

impl Engine {
    /// One round. Returns how many partitions were woken.
    ///
    /// # Errors
    /// If the store cannot be read; a partition that cannot be woken is left for the next round and delays no other.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        if self.watch.refusal().is_some() {
            return Ok(0);
        }
        let due = self.suspect(self.store.due(self.clock.now(), PAGE).await)?;
        let all = due.len() < PAGE;
        let mut woken = 0;
        for key in due {
            self.beats.moves("sweep");
            crash::at(Place::Due);
            match self.step(&key, &[Event::Tick]).await {
                Ok(_) => {
                    crash::at(Place::Woken);
                    woken += 1;
                }
                Err(StepError::NoPipeline(_)) => {}
                Err(error) => tracing::warn!(partition = %key, "wake: {error}"),
            }
        }
        if all {
            self.beats.caught_up("sweep");
        }
        Ok(woken)
    }
}
