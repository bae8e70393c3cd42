//! Messages in: decoded, gathered by partition, applied together, and settled after the commit.
//!
//! Events that wait together for one partition are one decision and one commit (group commit). Heartbeats may wait for
//! company; everything else goes at once. Live dates go before history. What can never be applied is parked and
//! acknowledged; what cannot be applied now is handed back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::Engine;
use super::hearing::InHand;
use super::step::{StepError, Stepped};
use crate::crash::{self, Place};
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::event::Event;
use crate::domain::id::{AlertKey, PartitionKey};
use crate::domain::partition::Recorded;
use crate::domain::time::after;
use crate::port::{Parked, StoreError};
use crate::telemetry::span::{Kind, Span};
use crate::topology::Carries;
use crate::wire::inbound::{Decoded, Delivery, Routes, decode, excerpt};
use crate::wire::trace;

/// Events that may wait in memory: enough for fourteen subscriptions of a few batches each. Beyond it messages are handed
/// back.
pub const WAITING_MAX: usize = 4096;
/// Bytes kept of a parked body.
pub const PARKED_HEAD: usize = 1024;
/// Attributes kept of a parked message, each cut.
const ATTRIBUTES_MAX: usize = 16;
/// Events applied in one decision.
pub const BATCH_MAX: usize = 256;

/// How a message is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// Its effect is durable, or it has none.
    Ack,
    /// It can never be applied and is kept with its reason.
    Park {
        /// The kind of reason.
        slug: String,
        /// The reason.
        reason: String,
    },
    /// Not now.
    Nack {
        /// When to try again.
        after: SignedDuration,
        /// Why.
        reason: String,
    },
}

/// One message's share of a partition's waiting events.
#[derive(Debug)]
pub struct Waiting<T> {
    /// What it says.
    pub events: Vec<Event>,
    /// The message.
    pub delivery: Delivery,
    /// When it was taken in.
    pub since: Timestamp,
    /// Until it is dropped with the rest, nothing later counts as heard.
    in_hand: InHand,
    /// Whatever the caller needs to settle it.
    pub token: T,
}

/// What waits for one partition.
#[derive(Debug)]
pub struct Batch<T> {
    /// Which partition.
    pub key: PartitionKey,
    /// What waits.
    pub waiting: Vec<Waiting<T>>,
}

/// Messages that wait to be applied, by partition.
#[derive(Debug)]
pub struct Intake<T> {
    partitions: BTreeMap<PartitionKey, (Timestamp, Vec<Waiting<T>>)>,
    busy: BTreeSet<PartitionKey>,
    count: usize,
}

impl<T> Default for Intake<T> {
    fn default() -> Self {
        Self { partitions: BTreeMap::new(), busy: BTreeSet::new(), count: 0 }
    }
}

/// What decoding a message led to.
#[derive(Debug)]
pub enum Offer<T> {
    /// It waits with the others of its partition.
    Taken,
    /// It is settled already.
    Settled(T, Settlement),
    /// It can never be applied: to be parked, then acknowledged.
    ToPark(T, Box<(Parked, Delivery)>),
    /// A dead letter: to be kept in the ledger, then acknowledged.
    ToKeep(T, Box<Delivery>),
}

impl<T> Intake<T> {
    /// Takes a message in. It is due at once, or for a heartbeat when `engine`'s flush interval has passed.
    pub fn offer(&mut self, engine: &Engine, delivery: Delivery, token: T) -> Offer<T> {
        let now = engine.clock.now();
        let declared = engine.declarations.topology.topic(&delivery.topic);
        if declared.is_some_and(|topic| topic.carries == Carries::DeadLetter) {
            return match engine.watch.refusal() {
                Some(reason) => {
                    Offer::Settled(token, Settlement::Nack { after: SignedDuration::from_secs(10), reason })
                }
                None => Offer::ToKeep(token, Box::new(delivery)),
            };
        }
        let decoded = decode(&routes(engine), &delivery);
        if !matches!(decoded, Decoded::Probe)
            && let Some(topic) = engine.declarations.topology.topic(&delivery.topic)
        {
            engine.watch.heard(topic.carries, delivery.published);
        }
        match decoded {
            Decoded::Probe => {
                engine.counts.probes.fetch_add(1, Ordering::Relaxed);
                Offer::Settled(token, Settlement::Ack)
            }
            Decoded::Ignored { .. } => {
                engine.counts.ignored.fetch_add(1, Ordering::Relaxed);
                Offer::Settled(token, Settlement::Ack)
            }
            Decoded::Parked { .. } | Decoded::Events { .. } if engine.watch.refusal().is_some() => {
                // Whoever cannot be paused is answered at once, and spares a store that is not well.
                engine.hearing.interrupted(now);
                let reason = engine.watch.refusal().unwrap_or_default();
                Offer::Settled(token, Settlement::Nack { after: SignedDuration::from_secs(10), reason })
            }
            Decoded::Parked { reason } => {
                let parked = parked(engine, &delivery, reason.slug(), &reason.to_string(), now);
                Offer::ToPark(token, Box::new((parked, delivery)))
            }
            Decoded::Events { key, events } => {
                if let Some(refusal) = self.refusal(engine, 1) {
                    return Offer::Settled(token, refusal);
                }
                let patient = events.iter().all(|event| matches!(event, Event::Heartbeat(_) | Event::Served(_)));
                // A heartbeat that comes late, as out of a backlog, has waited already.
                let flush = engine.settings.heartbeat_flush;
                let due = if patient { after(delivery.published, flush).clamp(now, after(now, flush)) } else { now };
                let in_hand = engine.hearing.in_hand(delivery.published);
                engine.backlog.note(&delivery.topic, key.date, delivery.published, now);
                let (at, waiting) = self.partitions.entry(key).or_insert_with(|| (due, Vec::new()));
                *at = due.min(*at);
                waiting.push(Waiting { events, delivery, since: now, in_hand, token });
                self.count += 1;
                Offer::Taken
            }
        }
    }

    /// How `more` messages are settled if there is no room for all of them.
    pub fn refusal(&self, engine: &Engine, more: usize) -> Option<Settlement> {
        if self.count + more <= WAITING_MAX {
            return None;
        }
        engine.hearing.interrupted(engine.clock.now());
        let reason = format!("{} messages are waiting already", self.count);
        Some(Settlement::Nack { after: SignedDuration::from_secs(10), reason })
    }

    /// Takes out at most `most` batches of what is due, the latest dates first. A partition stays busy, and its further messages wait, until
    /// [`Intake::done`] is called for it.
    pub fn due(&mut self, now: Timestamp, most: usize) -> Vec<Batch<T>> {
        let mut keys: Vec<PartitionKey> = self
            .partitions
            .iter()
            .filter(|(key, (at, _))| *at <= now && !self.busy.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.date));
        keys.into_iter()
            .take(most)
            .filter_map(|key| {
                let (at, mut waiting) = self.partitions.remove(&key)?;
                if waiting.len() > BATCH_MAX {
                    let rest = waiting.split_off(BATCH_MAX);
                    self.partitions.insert(key.clone(), (at, rest));
                }
                self.count -= waiting.len();
                self.busy.insert(key.clone());
                Some(Batch { key, waiting })
            })
            .collect()
    }

    /// The partition's batch has been applied or handed back.
    pub fn done(&mut self, key: &PartitionKey) {
        self.busy.remove(key);
    }

    /// When the next batch is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.partitions.iter().filter(|(key, _)| !self.busy.contains(*key)).map(|(_, (at, _))| *at).min()
    }

    /// Makes everything due: before a shutdown nothing waits for company.
    pub fn flush(&mut self) {
        for (at, _) in self.partitions.values_mut() {
            *at = Timestamp::MIN;
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

/// The routes by which names find their nodes.
pub fn routes(engine: &Engine) -> Routes<'_> {
    let pipelines = &engine.declarations.pipelines;
    Routes {
        graphs: pipelines.values().map(|pipeline| &*pipeline.graph).collect(),
        topology: &engine.declarations.topology,
        naming: pipelines.iter().map(|(id, pipeline)| (id, &pipeline.naming)).collect(),
    }
}

impl Engine {
    /// Applies a batch and says how each of its messages is to be settled.
    pub async fn apply<T>(&self, batch: Batch<T>) -> Vec<(T, Settlement)> {
        crash::at(Place::Decoded);
        let stepped = self.step_all(&batch).await;
        let is_fault = matches!(stepped, Err(StepError::Panicked(_)));
        if is_fault || batch.waiting.len() > 1 && matches!(stepped, Err(StepError::Violated(_))) {
            // One by one, so that what breaks an invariant takes nobody with it; and a panic may have been of that moment.
            let mut settlements = Vec::with_capacity(batch.waiting.len());
            for waiting in batch.waiting {
                let alone = Batch { key: batch.key.clone(), waiting: vec![waiting] };
                let stepped = self.step_all(&alone).await;
                settlements.extend(self.settle_all(alone, stepped).await);
            }
            return settlements;
        }
        self.settle_all(batch, stepped).await
    }

    async fn step_all<T>(&self, batch: &Batch<T>) -> Result<Stepped, StepError> {
        let events: Vec<Event> = batch.waiting.iter().flat_map(|waiting| waiting.events.iter().cloned()).collect();
        self.step(&batch.key, &events).await
    }

    async fn settle_all<T>(&self, batch: Batch<T>, stepped: Result<Stepped, StepError>) -> Vec<(T, Settlement)> {
        let mut recorded = match &stepped {
            Ok(stepped) => stepped.recorded.iter().copied(),
            Err(_) => [].iter().copied(),
        };
        let now = self.clock.now();
        if matches!(stepped, Err(StepError::Store(StoreError::Unavailable(_)))) {
            self.hearing.interrupted(now);
        }
        let mut settlements = Vec::with_capacity(batch.waiting.len());
        for waiting in batch.waiting {
            let mine: Vec<Recorded> = recorded.by_ref().take(waiting.events.len()).collect();
            let settlement = match &stepped {
                Ok(_) => settle(&mine, &waiting.delivery, now, self.settings.future_max),
                Err(StepError::Violated(violation)) => {
                    Settlement::Park { slug: format!("invariant-{}", violation.slug), reason: violation.to_string() }
                }
                Err(error @ StepError::Panicked(_)) => {
                    Settlement::Park { slug: "fault".to_owned(), reason: error.to_string() }
                }
                Err(error @ StepError::Throttled(_)) => {
                    Settlement::Nack { after: SignedDuration::from_secs(60), reason: error.to_string() }
                }
                Err(error) => Settlement::Nack { after: SignedDuration::from_secs(10), reason: error.to_string() },
            };
            let settlement = match settlement {
                Settlement::Park { slug, reason } => {
                    self.park(parked(self, &waiting.delivery, &slug, &reason, now), &waiting.delivery).await
                }
                other => other,
            };
            drop(waiting.in_hand);
            self.count(&waiting.delivery.topic, &settlement);
            if waiting.events.iter().any(|event| matches!(event, Event::Completed(_))) {
                self.show_receipt(&waiting.delivery, Some(&batch.key), waiting.since, &settlement);
            }
            settlements.push((waiting.token, settlement));
        }
        if let Err(error) = &stepped {
            tracing::warn!(partition = %batch.key, messages = settlements.len(), "not applied: {error}");
        }
        settlements
    }

    /// Keeps an input that can never be applied, and its message among the dead letters; if even that is impossible now, it is
    /// handed back.
    pub async fn park(&self, parked: Parked, delivery: &Delivery) -> Settlement {
        let (slug, reason) = (parked.slug.clone(), parked.reason.clone());
        // As many keys as there are topics, whatever names are sent.
        let declared = match self.declarations.topology.topic(&parked.topic) {
            Some(_) => parked.topic.as_str(),
            None => "undeclared",
        };
        let alert = Alert {
            key: AlertKey::new(format!("parked:{}:{}", parked.slug, declared)),
            severity: Severity::Warning,
            turn: Turn::Raised,
            text: format!("a message on {} was parked: {reason}", parked.topic),
            at: parked.at,
            about: About::default().done("it is kept with its reason and was acknowledged"),
        };
        let kept = match self.suspect(self.keep_parked(&parked, delivery).await) {
            Ok(()) => {
                crash::at(Place::LetterKept);
                self.suspect(self.store.park(parked).await)
            }
            Err(error) => Err(error),
        };
        match kept {
            Ok(()) => {
                self.alert(alert).await;
                Settlement::Park { slug, reason }
            }
            Err(error) => Settlement::Nack { after: SignedDuration::from_secs(10), reason: error.to_string() },
        }
    }

    /// Counts how a message of `topic` was settled.
    pub fn count(&self, topic: &str, settlement: &Settlement) {
        let (counter, outcome) = match settlement {
            Settlement::Ack => (&self.counts.acked, "acknowledged"),
            Settlement::Park { .. } => (&self.counts.parked, "parked"),
            Settlement::Nack { .. } => (&self.counts.nacked, "handed_back"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.telemetry.metrics.messages.add(1, [self.label_of(topic), outcome]);
    }

    /// Shows in its trace that a message, about a date where that is known, was taken in at `since` and is settled.
    pub fn show_receipt(
        &self,
        delivery: &Delivery,
        key: Option<&PartitionKey>,
        since: Timestamp,
        settlement: &Settlement,
    ) {
        let context = trace::received(delivery, key);
        self.telemetry.spans.record(context, || {
            let attributes = [
                ("messaging.system", "gcp_pubsub".to_owned()),
                ("messaging.destination.name", excerpt(&delivery.topic)),
                ("messaging.message.id", excerpt(&delivery.message_id)),
            ];
            let partition = key.map(|key| ("tipoff.partition", key.to_string()));
            Span {
                name: "receive",
                kind: Kind::Received,
                context,
                parent: trace::sent_with(&delivery.attributes),
                links: Vec::new(),
                start: since,
                end: self.clock.now(),
                attributes: attributes.into_iter().chain(partition).collect(),
                error: match settlement {
                    Settlement::Ack => None,
                    Settlement::Park { slug, .. } => Some(format!("parked: {slug}")),
                    Settlement::Nack { .. } => Some("handed back".to_owned()),
                },
            }
        });
    }
}

/// How a message is settled, given what its events did.
fn settle(recorded: &[Recorded], delivery: &Delivery, now: Timestamp, future_max: SignedDuration) -> Settlement {
    if recorded.contains(&Recorded::Rejected) {
        let reason = "it names something this graph does not run: a gate, or a node removed since".to_owned();
        return Settlement::Park { slug: "rejected".to_owned(), reason };
    }
    if recorded.contains(&Recorded::Future) {
        let reason = "it answers an attempt that has not been decided".to_owned();
        return if now.duration_since(delivery.published) > future_max {
            Settlement::Park { slug: "future".to_owned(), reason }
        } else {
            Settlement::Nack { after: SignedDuration::from_secs(30), reason }
        };
    }
    Settlement::Ack
}

/// A message as it is kept for an operator.
fn parked(engine: &Engine, delivery: &Delivery, slug: &str, reason: &str, at: Timestamp) -> Parked {
    let declared = engine.declarations.topology.topic(&delivery.topic);
    let beats = declared.is_some_and(|topic| topic.carries == Carries::Heartbeat);
    let mut digest = Sha256::new();
    // Heartbeats that say the same wrong thing differ in their progress every minute; one of them is kept.
    let content = if beats { reason.as_bytes() } else { &delivery.data };
    for part in [delivery.topic.as_bytes(), slug.as_bytes(), content] {
        digest.update(part);
        digest.update([0]);
    }
    let fingerprint: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Parked {
        fingerprint,
        slug: slug.to_owned(),
        reason: reason.to_owned(),
        topic: excerpt(&delivery.topic),
        message_id: delivery.message_id.clone(),
        published: delivery.published,
        attributes: delivery
            .attributes
            .iter()
            .take(ATTRIBUTES_MAX)
            .map(|(key, value)| (excerpt(key), excerpt(value)))
            .collect(),
        head: delivery.data.iter().take(PARKED_HEAD).copied().collect(),
        size: delivery.data.len(),
        at,
        count: 1,
    }
}
