//! Keeps what nobody could process, and looks after what is kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{PAGE, TRIES_MAX, Verdict};
use crate::domain::dead_letter::{About, Kind, Letter, Says, letter_of};
use crate::domain::effect::{Alert, Effect, Severity, Turn};
use crate::domain::id::{AlertKey, RunId};
use crate::domain::time::after;
use crate::engine::Engine;
use crate::engine::intake::{Settlement, routes};
use crate::engine::relay::UNWANTED;
use crate::port::{Document, LETTERS_MAX, Letters, OutboxEntry, PARKED_MAX, Parked, StoreError};
use crate::wire::inbound::Delivery;
use crate::wire::letter::{self, Kept};

/// How a message to a topic is told again that has no room in the ledger.
const NO_ROOM: SignedDuration = SignedDuration::from_secs(60);

/// What the engine remembers of the ledger.
#[derive(Debug, Default)]
pub(in crate::engine) struct Keeping(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Letters in the ledger, once they have been counted.
    count: Option<usize>,
    /// Topics whose letters people were told of: when last, and what they have not been told since.
    told: BTreeMap<String, (Timestamp, Option<String>)>,
}

/// That what was parked before there was a ledger is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Imported {
    done: bool,
}

impl Document for Imported {
    const NAME: &str = "letters-imported";
}

/// What became of a letter that was to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Kept,
    /// It is kept already.
    Known,
    NoRoom,
}

impl Keeping {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Keeps a message of a dead-letter topic, and says how it is to be settled.
    pub async fn keep_dead(&self, delivery: &Delivery) -> Settlement {
        let (letter, content) = letter::dead(&routes(self), delivery);
        let topic = letter.topic.clone().unwrap_or_else(|| delivery.topic.clone());
        let whose = letter.subscription.as_deref().unwrap_or("a subscription of it").to_owned();
        let text = format!(
            "a message of {topic} was given up on by {whose}: {}; see `tipoff dlq list --topic {topic}`",
            letter.reason
        );
        match self.suspect(self.keep_letter((letter, content)).await) {
            Ok(Fate::Kept) => {
                self.tell_of_letter(&topic, text).await;
                Settlement::Ack
            }
            Ok(Fate::Known) => Settlement::Ack,
            Ok(Fate::NoRoom) => Settlement::Nack { after: NO_ROOM, reason: "the ledger is full".to_owned() },
            Err(error) => Settlement::Nack { after: SignedDuration::from_secs(10), reason: error.to_string() },
        }
    }

    /// Keeps an input that is being parked among the letters, whole, for it may be replayed. Where there is no room for it, it
    /// is parked all the same.
    pub(in crate::engine) async fn keep_parked(&self, parked: &Parked, delivery: &Delivery) -> Result<(), StoreError> {
        let kept = letter::parked(&routes(self), delivery, &parked.fingerprint, &parked.reason, parked.at);
        self.keep_letter(kept).await.map(|_| ())
    }

    /// Keeps an effect that can never be delivered among the letters.
    pub(in crate::engine) async fn keep_undeliverable(
        &self,
        entry: &OutboxEntry,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.keep_letter(self.undeliverable_letter(entry, reason, self.clock.now())).await.map(|_| ())
    }

    fn undeliverable_letter(&self, entry: &OutboxEntry, reason: &str, at: Timestamp) -> Kept {
        let node = match &entry.effect {
            Effect::Dispatch(dispatch) | Effect::Close(dispatch) => Some(&dispatch.node),
            Effect::Observe { node, .. } | Effect::Check { node, .. } => Some(node),
            Effect::ReleaseLock { node, .. } | Effect::NotifyPartition { node, .. } => Some(node),
            Effect::Alert(_) => None,
        };
        let (dispatch, says) = match &entry.effect {
            Effect::Dispatch(dispatch) => (Some(dispatch.id.clone()), Says::Asks),
            _ => (None, Says::Unclear),
        };
        let about = About {
            pipeline: Some(entry.key.pipeline.clone()),
            date: Some(entry.key.date),
            node: node.cloned(),
            run: None,
            dispatch,
            says,
        };
        let body = serde_json::to_vec(&entry.effect).unwrap_or_default();
        letter::undeliverable((&entry.id, "the outbox"), about, body, reason, at)
    }

    async fn keep_letter(&self, (letter, content): Kept) -> Result<Fate, StoreError> {
        if let Some(execution) = letter::replay_of(&content)
            && let Some(original) = letter_of(execution)
        {
            let (execution, digest) = (RunId::from(execution), letter::digest(&content.0));
            for _ in 0..TRIES_MAX {
                let Some((mut original, version)) = self.store.letter(&original).await? else { break };
                let before = original.clone();
                // Anybody may write the attribute; only what was sent has the digest.
                if !original.came_back(&execution, &digest, letter.at) {
                    break;
                }
                if original == before || self.store.keep_letter(&original, version, None).await? {
                    tracing::warn!(letter = %original.id, replay = %execution, "a replay was given up on as well");
                    return Ok(if original == before { Fate::Known } else { Fate::Kept });
                }
            }
        }
        if !self.has_room().await? {
            if self.store.letter(&letter.id).await?.is_some() {
                return Ok(Fate::Known);
            }
            let text = format!(
                "the ledger holds {LETTERS_MAX} letters about which nothing has been done, and takes no more; \
                 `tipoff dlq list` shows them by cause, `tipoff dlq discard` and `replay` make room"
            );
            self.alert(Alert::new(no_room(), Severity::Critical, Turn::Raised, text, self.clock.now())).await;
            return Ok(Fate::NoRoom);
        }
        if !self.store.keep_letter(&letter, 0, Some(content)).await? && !self.opened_again(&letter).await? {
            return Ok(Fate::Known);
        }
        if let Some(count) = &mut self.keeping.lock().count {
            *count += 1;
        }
        Ok(Fate::Kept)
    }

    /// Whether a letter that is known had been settled before the same was published once more. A message of a dead-letter topic is
    /// that one message, whenever it comes.
    async fn opened_again(&self, told: &Letter) -> Result<bool, StoreError> {
        if told.kind != Kind::Parked {
            return Ok(false);
        }
        for _ in 0..TRIES_MAX {
            let Some((mut known, version)) = self.store.letter(&told.id).await? else { break };
            if !known.came_again(told.published) {
                break;
            }
            if self.store.keep_letter(&known, version, None).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the ledger takes another letter; the oldest settled ones make room.
    async fn has_room(&self) -> Result<bool, StoreError> {
        let known = self.keeping.lock().count;
        if let Some(count) = known
            && count < LETTERS_MAX
        {
            return Ok(true);
        }
        // Some more than one, so that not each letter that follows counts them all.
        let left = self.store.trim_letters(LETTERS_MAX - LETTERS_MAX / 100).await?;
        self.keeping.lock().count = Some(left);
        Ok(left < LETTERS_MAX)
    }

    /// People are told of a topic's letters once a minute at most; what comes meanwhile is told by the next round.
    async fn tell_of_letter(&self, topic: &str, text: String) {
        let now = self.clock.now();
        let is_due = {
            let mut keeping = self.keeping.lock();
            let (last, untold) = keeping.told.entry(topic.to_owned()).or_insert((Timestamp::MIN, None));
            let is_due = now >= after(*last, SignedDuration::from_mins(1));
            if is_due {
                *last = now;
            } else {
                *untold = Some(text.clone());
            }
            is_due
        };
        if is_due {
            self.alert(Alert::new(waiting(topic), Severity::Warning, Turn::Raised, text, now)).await;
        }
    }

    /// Carries on what was left over: replays whose recorder died are sent, people are told what they have not been, and
    /// settled letters that there is no room for go.
    ///
    /// # Errors
    /// If the store cannot be used; the next round goes on.
    pub async fn look_after_letters(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let untold: Vec<(String, String)> = {
            let mut keeping = self.keeping.lock();
            let told = keeping.told.iter_mut();
            let untold = told.filter_map(|(topic, (last, text))| {
                let text = text.take()?;
                *last = now;
                Some((topic.clone(), text))
            });
            untold.collect()
        };
        for (topic, text) in untold {
            self.alert(Alert::new(waiting(&topic), Severity::Warning, Turn::Raised, text, now)).await;
        }
        let until = after(now, SignedDuration::from_mins(2));
        if self.watch.refusal().is_some() || !self.store.lease("letters", now, until).await? {
            return Ok(());
        }
        for (letter, version) in self.store.letters(Letters::Asked, None, PAGE).await? {
            if letter.left_over(now).is_some() {
                let id = letter.id.clone();
                match self.carry_on(letter, version).await? {
                    Verdict::Replayed => tracing::info!(letter = %id, "a replay that was left over was sent"),
                    other => tracing::warn!(letter = %id, "a replay that was left over: {}", other.why()),
                }
            }
        }
        self.import_letters().await?;
        let left = self.store.trim_letters(LETTERS_MAX).await?;
        let was_full = self.keeping.lock().count.replace(left).is_some_and(|count| count >= LETTERS_MAX);
        if was_full && left < LETTERS_MAX {
            let text = "the ledger takes letters again".to_owned();
            self.alert(Alert::new(no_room(), Severity::Critical, Turn::Resolved, text, now)).await;
        }
        Ok(())
    }

    /// What was parked, or could not be delivered, before there was a ledger.
    async fn import_letters(&self) -> Result<(), StoreError> {
        let (version, imported) = self.store.kept::<Imported>().await?;
        if imported.done {
            return Ok(());
        }
        let limit = usize::try_from(PARKED_MAX).unwrap_or(usize::MAX);
        for parked in self.store.parked(limit).await? {
            let delivery = Delivery {
                topic: parked.topic.clone(),
                message_id: parked.message_id.clone(),
                published: parked.published,
                attributes: parked.attributes.clone(),
                data: parked.head.clone(),
            };
            let (fingerprint, reason) = (&parked.fingerprint, &parked.reason);
            let (mut letter, content) = letter::parked(&routes(self), &delivery, fingerprint, reason, parked.at);
            for version in &mut letter.versions {
                version.size = parked.size;
                version.is_whole = parked.size <= parked.head.len();
            }
            self.keep_letter((letter, content)).await?;
        }
        for (entry, reason) in self.store.undeliverable(limit).await? {
            // What was not wanted any more is nobody's trouble.
            if !reason.starts_with(UNWANTED) {
                self.keep_letter(self.undeliverable_letter(&entry, &reason, entry.decided_at)).await?;
            }
        }
        self.store.keep(version, &Imported { done: true }).await?;
        Ok(())
    }
}

/// The alert about letters of a topic.
pub(super) fn waiting(topic: &str) -> AlertKey {
    AlertKey::new(format!("dead-letter:{topic}"))
}

fn no_room() -> AlertKey {
    AlertKey::from("dead-letter-room:ledger")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_has_imported_is_not_imported_again() {
        let texts: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/golden/documents.json")).unwrap();
        let kept: Imported = serde_json::from_value(texts[Imported::NAME].clone()).unwrap();
        assert_eq!(kept, Imported { done: true });
        assert_eq!(serde_json::to_value(kept).unwrap(), texts[Imported::NAME]);
    }
}
