//! A panic, which is a fault of tipoff itself, ends what it happened in, and nothing else: a loop is begun again, a message that
//! panics each time is parked, an effect is tried again later, and people are told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Engine;
use super::run::stopped;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::fault::caught;

/// How long what has panicked is left alone, so that it does not do so all the time.
pub(super) const REST: Duration = Duration::from_secs(5);

impl Engine {
    /// Runs the loop `name` to its end, anew after each panic.
    pub async fn keep_up<F>(self: Arc<Self>, name: &'static str, mut stop: watch::Receiver<bool>, begin: impl Fn() -> F)
    where
        F: Future<Output = ()>,
    {
        while let Err(why) = caught(begin()).await {
            self.faulted(name, &why, "it was begun again, and what it had in hand comes again").await;
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                () = tokio::time::sleep(REST) => {}
            }
        }
    }

    /// Tells people that `name` has panicked, and what was `done` about it.
    pub(super) async fn faulted(&self, name: &str, why: &str, done: &str) {
        tracing::error!("{name} panicked: {why}");
        let key = AlertKey::new(format!("fault:{name}"));
        let text = format!("{name} panicked, which is a fault of tipoff: {why}");
        let alert = Alert::new(key, Severity::Critical, Turn::Raised, text, self.clock.now());
        let told = caught(self.alert(alert.about(About::default().done(done)))).await;
        if let Err(why) = told {
            tracing::error!("nobody could be told, for that panicked as well: {why}");
        }
    }
}
