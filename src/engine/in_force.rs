//! What decides is kept in the store, and who decides by what: two replicas that decide by different declarations are told of.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::Engine;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::pipeline::in_force::{Applied, InForce, Replica, Replicas};
use crate::port::StoreError;
use crate::wire::kept::Text;

/// The alert about replicas that differ.
const MIXED: &str = "self:revision-mix";
/// The alert about files that were read again and are not at work.
const RELOAD: &str = "self:reload";
/// Tries to change what is kept against others who do.
const TRIES_MAX: usize = 8;

/// Who this process is among those that run on the store.
#[derive(Clone, Debug)]
pub struct Identity {
    /// A name that no other has.
    pub name: String,
    /// The digest of what decides: both declarations, and what of the settings tells in what is decided, sent and told.
    pub digest: String,
    /// The version of tipoff.
    pub version: String,
    /// Since when it runs.
    pub since: Timestamp,
}

impl Engine {
    /// Has these declarations be those in force. Whether that is news.
    ///
    /// # Errors
    /// If that is not kept.
    pub async fn bring_into_force(&self, texts: &(Text, Text), applied: &Applied) -> Result<bool, StoreError> {
        for _ in 0..TRIES_MAX {
            let (version, mut in_force) = self.store.kept::<InForce>().await?;
            if !in_force.apply(texts, applied.clone()) {
                return Ok(false);
            }
            if self.store.keep(version, &in_force).await? {
                return Ok(true);
            }
        }
        Err(StoreError::Unavailable("others keep changing what is in force".to_owned()))
    }

    /// Says that this process is at work, and tells where others decide by something else.
    pub(super) async fn hear_replicas(&self) -> Result<(), StoreError> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let seen = self.clock.now();
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let replica = || {
            let Identity { digest, version, since, .. } = identity.clone();
            Replica { digest, version, since, seen, refused: refused.clone() }
        };
        let Some((before, replicas)) =
            self.change_replicas(|replicas| replicas.hear(&identity.name, replica())).await?
        else {
            return Ok(());
        };
        let mixed = match (before.mixed(), replicas.mixed()) {
            (_, Some(mixed)) => Some((
                Turn::Raised,
                format!("replicas decide by different things: {mixed}; what is newest may not be what decides"),
            )),
            (Some(_), None) => Some((Turn::Resolved, "every replica decides by the same".to_owned())),
            (None, None) => None,
        };
        let files = match (before.refused(), replicas.refused()) {
            (_, Some(why)) => {
                Some((Turn::Raised, format!("the files were read again, and what they say is not at work: {why}")))
            }
            (Some(_), None) => Some((Turn::Resolved, "what the files say is at work".to_owned())),
            (None, None) => None,
        };
        for (key, told, done) in [
            (MIXED, mixed, "each decision is sound by its own declaration, and its journal names the revision"),
            (RELOAD, files, "what was at work before goes on"),
        ] {
            if let Some((turn, text)) = told {
                let about = About::default().done(done);
                self.alert(Alert::new(AlertKey::new(key), Severity::Warning, turn, text, seen).about(about)).await;
            }
        }
        Ok(())
    }

    /// The files were read again on nobody's behalf: why what they say is not at work, if it is not. It is told soon, and until
    /// they are at work or this process is gone.
    pub fn reloaded(&self, refused: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        self.watch.look_soon(self.clock.now());
    }

    /// Says that this process ends. Where it cannot, the others forget it by themselves.
    pub async fn leave(&self) {
        if let Some(identity) = &self.identity
            && let Err(error) = self.change_replicas(|replicas| replicas.forget(&identity.name)).await
        {
            tracing::warn!("the others learn later that this one has ended: {error}");
        }
    }

    /// What was kept and what is, unless others were faster every time: then the next look tells.
    async fn change_replicas(
        &self,
        change: impl Fn(&mut Replicas),
    ) -> Result<Option<(Replicas, Replicas)>, StoreError> {
        for _ in 0..TRIES_MAX {
            let (version, mut replicas) = self.store.kept::<Replicas>().await?;
            let before = replicas.clone();
            change(&mut replicas);
            if self.store.keep(version, &replicas).await? {
                return Ok(Some((before, replicas)));
            }
        }
        Ok(None)
    }
}
