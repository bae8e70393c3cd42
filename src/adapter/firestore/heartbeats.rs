//! Heartbeats that processors write straight into Firestore, read along so that no processor has to change.
//!
//! What holds:
//! - a document is handed over as the message its processor would have published, with the server's instant of its last
//!   change; a run that is seen on both roads is one run;
//! - one process of those that share the database reads, and another takes over when it dies; it tells the others up to
//!   when it has read, and where nobody can read, nobody's silence counts;
//! - listening tells at once; polling is what is relied on, since a listener can go silent.
//!
//! Both schemes of document names are read, since nothing is read from the name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firestore::{FirestoreListenEvent, FirestoreListener, FirestoreListenerTarget, FirestoreMemListenStateStorage};
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{Document, Value};
use gcloud_sdk::prost_types;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Firestore;
use super::document::{compared, instant};
use super::store::unavailable;
use crate::domain::time::after;
use crate::port::{Handed, Recipient, Store as _, StoreError};
use crate::wire::inbound::Delivery;

/// How often the collection is usually read. A run is flagged after five minutes of silence, so three readings may fail.
pub const POLL_EVERY: Duration = Duration::from_secs(60);
/// How long one process reads alone: a reading and a half.
const LEASE: SignedDuration = SignedDuration::from_secs(90);
/// How far back the first reading looks, and from time to time another: runs that fell silent while nobody read, and processors
/// whose clock is behind by more than readings overlap.
const FAR_BACK: SignedDuration = SignedDuration::from_hours(24);
/// Of so many readings one looks far back: often enough that a run is not given up meanwhile. Where each run has a document of its
/// own, 900 a day, that is some 260,000 documents a day that are read, and paid for.
const FAR_BACK_EVERY: u32 = 5;
/// How far the others overlap, beyond what clocks are known to be behind: `last_heartbeat` is the processors' own.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// How long a reading proves that heartbeats are heard: two further ones, and a half. Well below the silence that counts.
const GOOD_FOR: SignedDuration = SignedDuration::from_secs(150);
/// Documents in one reading, the latest. Thirty processors have thirty; the older scheme had 900 a day.
const READ_MAX: u32 = 2000;
/// Changes that wait to be handed over.
const WAITING: usize = 256;
const COMPONENT: &str = "heartbeats in Firestore";

/// A collection of heartbeats, and as what they are handed over.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    /// The collection.
    pub collection: String,
    /// The topic on which the same heartbeats are published.
    pub topic: String,
    /// How often it is read, [`POLL_EVERY`] but for tests.
    pub poll_every: Duration,
}

/// When a document last changed.
type Change = (i64, i32);

/// Documents being handed over, and what has been: of each document, its last change.
#[derive(Default)]
struct Desk {
    handed: BTreeMap<String, Change>,
    under_way: JoinSet<(String, Change, Handed)>,
}

impl Desk {
    /// Notes what became of the documents that are done with. One that was handed back is read again by the next polling.
    fn note(&mut self, (name, change, handed): (String, Change, Handed)) {
        if handed != Handed::Settled && self.handed.get(&name) == Some(&change) {
            self.handed.remove(&name);
        }
    }
}

impl Heartbeats {
    /// Reads until `stop` turns true.
    pub async fn read(
        self,
        firestore: Arc<Firestore>,
        recipient: Arc<dyn Recipient>,
        now: impl Fn() -> Timestamp + Send + Sync,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut desk = Desk::default();
        let road = format!("{} in Firestore", self.collection);
        recipient.heard(&road, Timestamp::MIN);
        let (mut read_until, mut readings): (Option<Timestamp>, u32) = (None, 0);
        // How far the clock of some processor was behind when that was last looked at, and when listening began.
        let (mut behind, mut listened_behind) = (SignedDuration::ZERO, SignedDuration::ZERO);
        let mut listening: Option<(FirestoreListener<_, _>, mpsc::Receiver<Document>)> = None;
        loop {
            let at = now();
            match firestore.lease(&self.collection, at, after(at, LEASE)).await {
                Ok(true) => {
                    let is_far = readings.is_multiple_of(FAR_BACK_EVERY);
                    let far = after(at, -FAR_BACK);
                    let near = read_until.map_or(far, |read| after(read, -OVERLAP - behind));
                    let since = if is_far { near.min(far) } else { near };
                    match self.poll(&firestore, since).await {
                        Ok(found) => {
                            readings = readings.wrapping_add(1);
                            if is_far {
                                behind = found.iter().filter_map(clock_behind).max().unwrap_or_default();
                            }
                            for document in found {
                                self.hand_over(&recipient, &mut desk, document).await;
                            }
                            read_until = Some(at);
                            recipient.heard(&road, after(at, GOOD_FOR));
                            recipient.well(COMPONENT);
                            if let Err(error) = firestore.tell_read(&self.collection, at).await {
                                tracing::debug!("{COMPONENT}: {error}");
                            }
                        }
                        Err(error) => {
                            // What was written meanwhile has not been heard.
                            recipient.interrupted();
                            if recipient.fault(COMPONENT, &error.to_string()) {
                                tracing::warn!("{COMPONENT}: {error}");
                            }
                        }
                    }
                    if listening.is_none() || behind > listened_behind {
                        listened_behind = behind;
                        listening = self.listen(&firestore, after(at, -OVERLAP - behind)).await;
                    }
                }
                Ok(false) => {
                    listening = None;
                    recipient.well(COMPONENT);
                    match firestore.read_until(&self.collection).await {
                        Ok(Some(read)) => recipient.heard(&road, after(read, GOOD_FOR)),
                        Ok(None) => {}
                        Err(error) => tracing::debug!("{COMPONENT}: {error}"),
                    }
                }
                Err(error) => tracing::debug!("{COMPONENT}: {error}"),
            }
            let poll = tokio::time::Instant::now() + self.poll_every;
            loop {
                let change = async {
                    match &mut listening {
                        Some((_, changes)) => changes.recv().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    _ = async { let _ = stop.wait_for(|stop| *stop).await; } => return,
                    change = change => match change {
                        Some(document) => self.hand_over(&recipient, &mut desk, document).await,
                        // It ended by itself; the next round listens anew.
                        None => listening = None,
                    },
                    Some(done) = desk.under_way.join_next() => if let Ok(done) = done {
                        desk.note(done);
                    },
                    () = tokio::time::sleep_until(poll) => break,
                }
            }
        }
    }

    async fn poll(&self, firestore: &Firestore, since: Timestamp) -> Result<Vec<Document>, StoreError> {
        let query = firestore.producers.fluent().select().from(self.collection.as_str());
        let query = query
            .filter(|q| q.for_all([q.field("last_heartbeat").greater_than_or_equal(compared(instant(since)))]))
            .order(|o| o.fields([o.field("last_heartbeat").desc()]))
            .limit(READ_MAX);
        let mut found = query.query().await.map_err(unavailable)?;
        found.reverse();
        Ok(found)
    }

    async fn listen(
        &self,
        firestore: &Firestore,
        since: Timestamp,
    ) -> Option<(FirestoreListener<firestore::FirestoreDb, FirestoreMemListenStateStorage>, mpsc::Receiver<Document>)>
    {
        let (sender, changes) = mpsc::channel(WAITING);
        let listen = async {
            let mut listener = firestore.producers.create_listener(FirestoreMemListenStateStorage::new()).await?;
            let query = firestore.producers.fluent().select().from(self.collection.as_str());
            query
                .filter(|q| q.for_all([q.field("last_heartbeat").greater_than_or_equal(compared(instant(since)))]))
                .listen()
                .add_target(FirestoreListenerTarget::new(1), &mut listener)?;
            let tell = move |event| {
                let sender = sender.clone();
                async move {
                    if let FirestoreListenEvent::DocumentChange(change) = event
                        && let Some(document) = change.document
                    {
                        // Where nobody reads any more, the listener is about to end as well.
                        let _ = sender.send(document).await;
                    }
                    Ok(())
                }
            };
            listener.start(tell).await?;
            Ok::<_, firestore::errors::FirestoreError>(listener)
        };
        match listen.await {
            Ok(listener) => Some((listener, changes)),
            Err(error) => {
                tracing::debug!("{COMPONENT}: listening failed, polling goes on: {error}");
                None
            }
        }
    }

    /// Hands a document over unless this change of it has been. They may wait for each other's company.
    async fn hand_over(&self, recipient: &Arc<dyn Recipient>, desk: &mut Desk, document: Document) {
        let Some(updated) = document.update_time else { return };
        let Ok(published) = Timestamp::new(updated.seconds, updated.nanos) else { return };
        let name = document.name.rsplit('/').next().unwrap_or_default().to_owned();
        let change = (updated.seconds, updated.nanos);
        if desk.handed.get(&name).is_some_and(|handed| *handed >= change) {
            return;
        }
        while desk.under_way.len() >= WAITING
            && let Some(done) = desk.under_way.join_next().await
        {
            if let Ok(done) = done {
                desk.note(done);
            }
        }
        if desk.handed.len() >= READ_MAX as usize {
            desk.handed.pop_first();
        }
        desk.handed.insert(name.clone(), change);
        let delivery = Delivery {
            topic: self.topic.clone(),
            message_id: format!("{}/{name}@{published}", self.collection),
            published,
            attributes: BTreeMap::from([("source".to_owned(), "firestore".to_owned())]),
            data: body(&document).to_string().into_bytes(),
        };
        let recipient = Arc::clone(recipient);
        desk.under_way.spawn(async move { (name, change, recipient.hand_over(delivery).await) });
    }
}

/// How far the clock of the processor that last wrote a document is behind the server's, as far as it matters. What somebody else
/// changed later looks like that, too, and costs nothing but documents that are read again.
fn clock_behind(document: &Document) -> Option<SignedDuration> {
    let instant = |at: &prost_types::Timestamp| Timestamp::new(at.seconds, at.nanos).ok();
    let Some(ValueType::TimestampValue(said)) = &document.fields.get("last_heartbeat")?.value_type else { return None };
    let behind = instant(document.update_time.as_ref()?)?.duration_since(instant(said)?);
    (behind > SignedDuration::ZERO).then(|| behind.min(FAR_BACK))
}

/// The document as the JSON that its processor publishes.
fn body(document: &Document) -> serde_json::Value {
    document.fields.iter().map(|(name, value)| (name.clone(), json(value))).collect()
}

fn json(value: &Value) -> serde_json::Value {
    match &value.value_type {
        Some(ValueType::StringValue(text)) => text.as_str().into(),
        Some(ValueType::IntegerValue(number)) => (*number).into(),
        Some(ValueType::DoubleValue(number)) => (*number).into(),
        Some(ValueType::BooleanValue(is)) => (*is).into(),
        Some(ValueType::TimestampValue(at)) => moment(at).into(),
        // A heartbeat has no other kinds of field that mean anything.
        Some(_) | None => serde_json::Value::Null,
    }
}

fn moment(at: &prost_types::Timestamp) -> Option<String> {
    Timestamp::new(at.seconds, at.nanos).ok().map(|at| at.to_string())
}
