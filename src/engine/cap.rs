//! How many dispatches may leave in an hour, whatever they are for: the last bound on a loop that nobody has thought of.
//!
//! Counted in the store, so that a restart does not begin anew and replicas share one count; one at a time, so that a process
//! that is killed over and over takes none with it, and what was not sent is given back. History may have half, so that it
//! never uses up what a live date needs.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::domain::id::PipelineId;
use crate::domain::time::after;
use crate::port::{Store, StoreError};

/// The span that is counted.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// What this process has taken and not used.
#[derive(Debug, Default)]
pub struct Cap(Mutex<BTreeMap<String, (Timestamp, u32)>>);

impl Cap {
    /// Takes one dispatch of `pipeline`, of which `most` may leave an hour.
    ///
    /// # Errors
    /// If the store cannot tell. Inside: until when there is none.
    pub async fn take(
        &self,
        store: &dyn Store,
        pipeline: &PipelineId,
        (most, is_live): (u32, bool),
        now: Timestamp,
    ) -> Result<Result<(), Timestamp>, StoreError> {
        let window = beginning(now);
        let mut held = self.0.lock().await;
        let names = names(pipeline, most, is_live);
        for (name, most) in &names {
            let left = held.entry(name.clone()).or_insert((window, 0));
            if left.0 != window || left.1 == 0 {
                *left = (window, store.take(name, window, 1, *most).await?);
            }
            if left.1 == 0 {
                return Ok(Err(after(window, WINDOW)));
            }
        }
        for (name, _) in &names {
            if let Some((_, left)) = held.get_mut(name) {
                *left -= 1;
            }
        }
        Ok(Ok(()))
    }

    /// Gives back what was taken and not sent: the next dispatch has it.
    pub async fn give_back(&self, pipeline: &PipelineId, is_live: bool, now: Timestamp) {
        let mut held = self.0.lock().await;
        for (name, _) in names(pipeline, 0, is_live) {
            if let Some((window, left)) = held.get_mut(&name)
                && *window == beginning(now)
            {
                *left += 1;
            }
        }
    }
}

/// What is counted for a dispatch, each with the most there may be.
fn names(pipeline: &PipelineId, most: u32, is_live: bool) -> Vec<(String, u32)> {
    let all = (format!("dispatches-{pipeline}"), most);
    if is_live { vec![all] } else { vec![(format!("history-{pipeline}"), most.div_ceil(2)), all] }
}

fn beginning(now: Timestamp) -> Timestamp {
    let seconds = now.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(WINDOW.as_secs())).unwrap_or(now)
}
