//! What is at work, and how another takes its place: the one is drained, the other begun, and calls wait at the entrance meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio::sync::RwLock;

use super::generation::{Generation, Prepared, Standing};
use super::telemetry;
use crate::fault::caught;
use crate::http::reload::Why;

/// How soon what could not be begun is tried again.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is at work.
pub struct AtWork {
    pub generation: Generation,
    pub prepared: Prepared,
}

/// Where calls come in. While what is at work is replaced they wait, but for those that ask how we are: these are answered by
/// what was at work before, however long the other takes.
pub struct Entrance {
    open: RwLock<Router>,
    last: Mutex<Router>,
}

impl Entrance {
    pub fn to(router: Router) -> Self {
        Self { open: RwLock::new(router.clone()), last: Mutex::new(router) }
    }

    fn last(&self) -> MutexGuard<'_, Router> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `router` answers, also those who wait at the entrance that is held `open`.
    fn lead_to(&self, open: &mut Router, router: &Router) {
        self.last().clone_from(router);
        open.clone_from(router);
    }

    /// From now on `router` answers.
    pub async fn lead(&self, router: &Router) {
        self.lead_to(&mut *self.open.write().await, router);
    }

    /// Who answers a call of `path`.
    pub async fn leads(&self, path: &str) -> Router {
        if matches!(path, "/healthz" | "/startupz" | "/readyz" | "/metrics") {
            return self.last().clone();
        }
        self.open.read().await.clone()
    }
}

/// Drains what is at work and begins the other; calls that come meanwhile wait at the entrance. Where the other cannot be begun, the
/// same goes on, and why is said.
pub async fn replaced(
    standing: &Standing,
    at_work: AtWork,
    prepared: Prepared,
    by: (&str, &str),
    entrance: &Entrance,
) -> (AtWork, Option<Why>) {
    let mut open = entrance.open.write().await;
    at_work.generation.end().await;
    let generation = match begun(standing, &prepared, by).await {
        Ok(generation) => generation,
        Err(why) => {
            let prepared = at_work.prepared;
            let again = ("serve", "what was to take its place could not be served");
            let generation = begun_again(standing, &prepared, again).await;
            entrance.lead_to(&mut open, &generation.router);
            return (AtWork { generation, prepared }, Some(Why::Unserved(why)));
        }
    };
    prepared.effective.log();
    telemetry::tell(&standing.telemetry, &at_work.prepared.effective, &prepared.effective);
    entrance.lead_to(&mut open, &generation.router);
    (AtWork { generation, prepared }, None)
}

/// Drains what is at work and begins the same anew, as a start would: nothing waits any more for a time that it had in memory.
pub async fn begun_anew(standing: &Standing, at_work: AtWork, entrance: &Entrance) -> AtWork {
    let mut open = entrance.open.write().await;
    at_work.generation.end().await;
    let prepared = at_work.prepared;
    let generation = begun_again(standing, &prepared, ("serve", "the clock was set back")).await;
    entrance.lead_to(&mut open, &generation.router);
    AtWork { generation, prepared }
}

/// Begins a run, or says why that is not possible now; a panic of it as well.
async fn begun(standing: &Standing, prepared: &Prepared, by: (&str, &str)) -> Result<Generation, String> {
    match caught(Generation::begin(standing, prepared, by)).await {
        Ok(Ok(generation)) => Ok(generation),
        Ok(Err(fault)) => Err(format!("{:#}", fault.error)),
        Err(why) => Err(format!("it panicked: {why}")),
    }
}

/// The same of what was at work before, until it is possible: a store or a broker that does not answer is no reason to end.
async fn begun_again(standing: &Standing, prepared: &Prepared, by: (&str, &str)) -> Generation {
    loop {
        match begun(standing, prepared, by).await {
            Ok(generation) => return generation,
            Err(why) => tracing::error!("what was at work cannot be begun again yet: {why}"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
