//! How many dispatches may leave in an hour, whatever they are for: the last bound on a loop that nobody has thought of.
//!
//! Counted in the store, so that a restart does not begin anew and replicas share one count; one at a time, so that a process
//! that is killed over and over takes hardly any with it, and what was not sent is given back. History may have half, so that it
//! never uses up what a live date needs.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::domain::id::PipelineId;
use crate::domain::time::after;
use crate::port::{Store, StoreError};

/// The span that is counted.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// What this process has taken and not used, and what it has used.
#[derive(Debug, Default)]
pub struct Cap {
    held: Mutex<BTreeMap<String, (Timestamp, u32)>>,
    used: std::sync::Mutex<BTreeMap<PipelineId, (Timestamp, u32)>>,
}

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
        let mut held = self.held.lock().await;
        let names = names(pipeline, most, is_live);
        let taken = hold(&mut held, store, &names, beginning(now)).await?;
        if taken.is_ok() {
            for (name, _) in &names {
                if let Some((_, left)) = held.get_mut(name) {
                    *left -= 1;
                }
            }
        }
        Ok(taken)
    }

    /// Sees to it that the next dispatch that is taken need not be asked for, unless somebody is just asking.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn take_ahead(
        &self,
        store: &dyn Store,
        pipeline: &PipelineId,
        (most, is_live): (u32, bool),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Ok(mut held) = self.held.try_lock() else { return Ok(()) };
        hold(&mut held, store, &names(pipeline, most, is_live), beginning(now)).await.map(|_| ())
    }

    /// A dispatch of `pipeline` has left.
    pub fn sent(&self, pipeline: &PipelineId, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let window = beginning(now);
        let count = used.entry(pipeline.clone()).or_insert((window, 0));
        *count = if count.0 == window { (window, count.1 + 1) } else { (window, 1) };
    }

    /// Dispatches that this process has sent since the hour began, of each pipeline that has sent any.
    pub fn used(&self, now: Timestamp) -> Vec<(String, u32)> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |(window, count): &(Timestamp, u32)| if *window == beginning(now) { *count } else { 0 };
        used.iter().map(|(id, count)| (id.to_string(), since(count))).collect()
    }

    /// Gives back what was taken and not sent: the next dispatch has it.
    pub async fn give_back(&self, pipeline: &PipelineId, is_live: bool, now: Timestamp) {
        let mut held = self.held.lock().await;
        for (name, _) in names(pipeline, 0, is_live) {
            if let Some((window, left)) = held.get_mut(&name)
                && *window == beginning(now)
            {
                *left += 1;
            }
        }
    }
}

/// Holds one of each, taken in the store where none is left of before. Inside: until when there is none.
async fn hold(
    held: &mut BTreeMap<String, (Timestamp, u32)>,
    store: &dyn Store,
    names: &[(String, u32)],
    window: Timestamp,
) -> Result<Result<(), Timestamp>, StoreError> {
    for (name, most) in names {
        let left = held.entry(name.clone()).or_insert((window, 0));
        if left.0 != window || left.1 == 0 {
            *left = (window, store.take(name, window, 1, *most).await?);
        }
        if left.1 == 0 {
            return Ok(Err(after(window, WINDOW)));
        }
    }
    Ok(Ok(()))
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
