//! What decides is kept in the store, and who decides by what: two replicas that decide by different declarations are told of.

use jiff::Timestamp;

use super::Engine;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::pipeline::in_force::{Applied, InForce, Replica, Replicas};
use crate::port::StoreError;
use crate::wire::kept::Text;

/// The alert about replicas that differ.
const MIXED: &str = "self:revision-mix";
/// The alert about files that were to be put to work and were not.
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
        let replica = || {
            let Identity { digest, version, since, .. } = identity.clone();
            Replica { digest, version, since, seen }
        };
        let Some((before, replicas)) =
            self.change_replicas(|replicas| replicas.hear(&identity.name, replica())).await?
        else {
            return Ok(());
        };
        let (turn, text) = match (before.mixed(), replicas.mixed()) {
            (_, Some(mixed)) => (
                Turn::Raised,
                format!("replicas decide by different things: {mixed}; what is newest may not be what decides"),
            ),
            (Some(_), None) => (Turn::Resolved, "every replica decides by the same".to_owned()),
            (None, None) => return Ok(()),
        };
        let about =
            About::default().done("each decision is sound by its own declaration, and its journal names the revision");
        self.alert(Alert::new(AlertKey::new(MIXED), Severity::Warning, turn, text, seen).about(about)).await;
        Ok(())
    }

    /// Tells that the files were read again on nobody's behalf and stay without effect, and why; or that what they say is at work.
    pub async fn tell_of_reload(&self, refused: Option<&str>) {
        let (turn, text) = match refused {
            Some(why) => {
                let first = why.lines().next().unwrap_or_default();
                let more = why.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
                let more =
                    if more > 0 { format!(" (and {more} lines more: `tipoff check` says all)") } else { String::new() };
                let text = format!(
                    "the files were read again and stay without effect: {first}{more}; mend them and send SIGHUP again"
                );
                (Turn::Raised, text)
            }
            None => (Turn::Resolved, "what the files say is at work".to_owned()),
        };
        let about = About::default().done("what was at work before goes on");
        self.alert(Alert::new(AlertKey::new(RELOAD), Severity::Warning, turn, text, self.clock.now()).about(about))
            .await;
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
