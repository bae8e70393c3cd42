//! A small Pub/Sub in the same file: what is sent waits there until it is pulled or pushed, acknowledged, given up on or
//! too old.
//!
//! A message sent to a topic becomes one delivery for each declared subscription but those of tipoff itself, whose
//! intake the caller serves directly; on a dead-letter topic for those as well, out of which the ledger is filled. A call of a service becomes a delivery on a subscription of its own, named
//! `http:SERVICE/PATH`. What a delivery waits for is one instant, `not_before`: the end of a lease while somebody holds
//! one, the end of a pause after a refusal. Nothing has to be running for a lease to expire.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, params};

use super::database::Database;
use super::store::rows_max;
use super::text::{checksum, corrupt, get, instant, json, read_instant, read_json};
use super::{Embedded, alerts, letters};
use crate::crash::{self, Place};
use crate::domain::effect::Alert;
use crate::domain::id::AlertKey;
use crate::domain::time::after;
use crate::port::{Bus, BusError, Parting, StoreError};
use crate::topology::{Backoff, Carries, Subscription, Topic, Topology};
use crate::wire::dispatch::{Outgoing, Target};

/// The consumer of the subscriptions that the caller serves by itself.
const OURSELVES: &str = "tipoff";
/// Begins the name of the subscription that stands for a service's path.
pub(super) const HTTP: &str = "http:";
/// Stands where Pub/Sub has a project's name.
pub(super) const PROJECT: &str = "local";
/// Pub/Sub's longest lease, and here the bound on one call of a service.
const LEASE_MAX: Duration = Duration::from_secs(600);
/// Calls of a service before giving up, as the fewest deliveries that Pub/Sub allows.
const HTTP_ATTEMPTS_MAX: u32 = 5;
/// The pause between calls of a service, as between pushes where the topology says nothing else.
const HTTP_BACKOFF: Backoff = Backoff { min: Duration::from_secs(10), max: LEASE_MAX };
/// How long a call of a service may wait, as a subscription's messages do where the topology says nothing else.
const HTTP_RETENTION: Duration = Duration::from_hours(7 * 24);

/// The bus of one directory under one topology. Cloning shares it.
#[derive(Clone)]
pub struct EmbeddedBus {
    pub(super) database: Arc<Database>,
    pub(super) topology: Arc<Topology>,
}

/// A message handed to somebody for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leased {
    /// Names this lease when acknowledging or extending it.
    pub ack_id: String,
    /// The message's name, equal for every delivery of it.
    pub message_id: String,
    /// Its body.
    pub data: Vec<u8>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// When it was sent.
    pub publish_time: Timestamp,
    /// Counts from 1.
    pub delivery_attempt: u32,
}

/// How a subscription stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// Its name.
    pub subscription: String,
    /// Deliveries that are neither acknowledged nor given up.
    pub waiting: u64,
    /// When the oldest of these was published.
    pub oldest: Option<Timestamp>,
    /// Deliveries given up on, as far as they have not been pruned.
    pub dead: u64,
    /// Deliveries dropped unread because they were too old, as far as they have not been pruned.
    pub expired: u64,
}

impl Embedded {
    /// The bus in this directory, delivering as `topology` declares.
    pub fn bus(&self, topology: Arc<Topology>) -> EmbeddedBus {
        EmbeddedBus { database: Arc::clone(&self.database), topology }
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn send(&self, message: &Outgoing, at: Timestamp) -> Result<(), BusError> {
        let (topic, subscriptions) = match &message.target {
            Target::Topic(topic) => (topic.clone(), self.subscribers(topic)?),
            Target::Http { service, path } => {
                let subscription = format!("{HTTP}{service}/{}", path.trim_start_matches('/'));
                (subscription.clone(), vec![subscription])
            }
        };
        let message = New {
            id: message.id.clone(),
            topic,
            data: message.body.clone(),
            attributes: message.attributes.clone(),
            at,
        };
        let stored = self.database.write(move |db| {
            message.store(db, &subscriptions)?;
            crash::at(Place::SendOpen);
            Ok(())
        });
        stored.await?;
        crash::at(Place::SendUnanswered);
        self.database.deliveries.notify_one();
        Ok(())
    }

    fn reaches_us(&self) -> bool {
        false
    }

    async fn part_with(&self, partings: &[Parting], at: Timestamp) -> Result<Option<Vec<bool>>, BusError> {
        let mut ready = Vec::with_capacity(partings.len());
        for Parting { letter, expected, message } in partings {
            let Target::Topic(topic) = &message.target else {
                return Err(BusError::Refused(format!("{} is no topic", message.target)));
            };
            let subscriptions = self.subscribers(topic)?;
            let message = New {
                id: message.id.clone(),
                topic: topic.clone(),
                data: message.body.clone(),
                attributes: message.attributes.clone(),
                at,
            };
            ready.push((letters::Written::of(letter, *expected, None)?, message, subscriptions));
        }
        let parted = self.database.write(move |db| {
            let mut parted = Vec::with_capacity(ready.len());
            for (letter, message, subscriptions) in ready {
                let kept = letter.store(db)?;
                if kept {
                    message.store(db, &subscriptions)?;
                }
                parted.push(kept);
            }
            Ok(parted)
        });
        let parted = parted.await?;
        self.database.deliveries.notify_one();
        Ok(Some(parted))
    }

    async fn alert(&self, alert: &Alert) -> Result<(), BusError> {
        let alert = alert.clone();
        Ok(self.database.write(move |db| alerts::tell(db, &alert)).await?)
    }

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        Ok(self.database.read(alerts::alerts).await?)
    }

    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError> {
        let key = key.clone();
        Ok(self.database.read(move |db| alerts::alert_of(db, &key)).await?)
    }
}

impl EmbeddedBus {
    /// Takes messages that somebody else publishes, each its data and attributes, and names them: all or none. Tipoff's
    /// own subscriptions are the caller's.
    pub async fn publish(
        &self,
        topic: &str,
        messages: Vec<(Vec<u8>, BTreeMap<String, String>)>,
        at: Timestamp,
    ) -> Result<Vec<String>, BusError> {
        let subscriptions = self.subscribers(topic)?;
        let topic = topic.to_owned();
        let published = self.database.write(move |db| {
            let mut ids = Vec::with_capacity(messages.len());
            for (data, attributes) in messages {
                // Pub/Sub's names are numbers; ours count, so that a simulated run gives the same ones again.
                let number: i64 = db
                    .prepare_cached(
                        "INSERT INTO cursors (name, value) VALUES ('message', 1)
                         ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                    )?
                    .query_row([], |row| row.get(0))?;
                let id = number.to_string();
                New { id: id.clone(), topic: topic.clone(), data, attributes, at }.store(db, &subscriptions)?;
                ids.push(id);
            }
            Ok(ids)
        });
        let ids = published.await?;
        self.database.deliveries.notify_one();
        Ok(ids)
    }

    /// Leases at most `max` messages of a subscription, each for the subscription's deadline. An expired lease is
    /// leased again and counted; what has been leased too often goes to the dead letters instead.
    pub async fn pull(&self, subscription: &str, max: usize, at: Timestamp) -> Result<Vec<Leased>, BusError> {
        let terms = self.terms(subscription)?;
        let (subscription, topology) = (subscription.to_owned(), Arc::clone(&self.topology));
        let leased = self.database.write(move |db| {
            let lease = terms.ack_deadline;
            take(db, &topology, &subscription, &terms, max, lease, at)
        });
        Ok(leased.await?)
    }

    /// Settles deliveries. One whose lease has run out is settled all the same: the work was done.
    pub async fn acknowledge(&self, subscription: &str, ack_ids: &[String], at: Timestamp) -> Result<(), BusError> {
        self.terms(subscription)?;
        let leases = ack_ids.iter().map(|id| Lease::read(id)).collect::<Result<Vec<_>, _>>()?;
        let subscription = subscription.to_owned();
        let settled = self.database.write(move |db| {
            for lease in leases {
                db.prepare_cached(
                    "UPDATE deliveries SET settled_at = ?3, outcome = 'acknowledged', error = NULL
                     WHERE id = ?1 AND subscription = ?2 AND settled_at IS NULL",
                )?
                .execute(params![lease.delivery, subscription, instant(at)])?;
            }
            Ok(())
        });
        Ok(settled.await?)
    }

    /// Makes leases last `seconds` from now. 0 gives the message back: it comes again after the subscription's pause.
    /// A lease that has run out is left alone, for somebody else may hold the message.
    pub async fn modify_ack_deadline(
        &self,
        subscription: &str,
        ack_ids: &[String],
        seconds: u32,
        at: Timestamp,
    ) -> Result<(), BusError> {
        let terms = self.terms(subscription)?;
        let extension = Duration::from_secs(seconds.into());
        if extension > LEASE_MAX {
            return Err(BusError::Refused(format!("a lease is at most {} s, not {seconds}", LEASE_MAX.as_secs())));
        }
        let leases = ack_ids.iter().map(|id| Lease::read(id)).collect::<Result<Vec<_>, _>>()?;
        let (subscription, topology) = (subscription.to_owned(), Arc::clone(&self.topology));
        let modified = self.database.write(move |db| {
            for lease in leases {
                if seconds == 0 {
                    let refusal = Refusal { subscription: &subscription, error: "refused by its consumer" };
                    give_back(db, &topology, &terms, lease, &refusal, at)?;
                } else {
                    db.prepare_cached(
                        "UPDATE deliveries SET not_before = ?4 WHERE id = ?1 AND subscription = ?2 AND attempts = ?3
                           AND settled_at IS NULL AND not_before > ?5",
                    )?
                    .execute(params![
                        lease.delivery,
                        subscription,
                        lease.attempt,
                        instant(later(at, extension)),
                        instant(at),
                    ])?;
                }
            }
            Ok(())
        });
        Ok(modified.await?)
    }

    /// Drops what is older than its subscription keeps messages. How many deliveries that was.
    pub async fn expire(&self, at: Timestamp) -> Result<usize, BusError> {
        let declared = self.topology.topics().flat_map(|(_, topic)| topic.subscriptions());
        let kept: Vec<(String, Duration)> =
            declared.map(|(name, subscription)| (name.to_string(), subscription.retention)).collect();
        let expired = self.database.write(move |db| {
            let mut dropped = 0;
            for (name, retention) in kept {
                dropped += db.prepare_cached(&expiry("subscription = ?3"))?.execute(params![
                    instant(at),
                    instant(earlier(at, retention)),
                    name
                ])?;
            }
            let before = instant(earlier(at, HTTP_RETENTION));
            dropped += db.prepare_cached(&expiry("subscription GLOB ?3"))?.execute(params![
                instant(at),
                before,
                format!("{HTTP}*")
            ])?;
            Ok(dropped)
        });
        Ok(expired.await?)
    }

    /// How every subscription stands that has seen a message.
    pub async fn backlog(&self) -> Result<Vec<Backlog>, BusError> {
        let backlog = self.database.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT d.subscription,
                   count(*) FILTER (WHERE d.settled_at IS NULL) AS waiting,
                   min(m.published_at) FILTER (WHERE d.settled_at IS NULL) AS oldest,
                   count(*) FILTER (WHERE d.outcome = 'dead') AS dead,
                   count(*) FILTER (WHERE d.outcome = 'expired') AS expired
                 FROM deliveries d JOIN messages m ON m.id = d.message GROUP BY d.subscription ORDER BY d.subscription",
            )?;
            let rows = query.query_and_then([], |row| {
                let subscription: String = get(row, "subscription", "a subscription's backlog")?;
                let what = format!("the backlog of {subscription}");
                let count = |column: &str| Ok::<_, StoreError>(get::<i64>(row, column, &what)?.unsigned_abs());
                let oldest: Option<String> = get(row, "oldest", &what)?;
                Ok(Backlog {
                    waiting: count("waiting")?,
                    oldest: oldest
                        .map(|text| text.parse().map_err(|error: jiff::Error| corrupt(&what, error.to_string())))
                        .transpose()?,
                    dead: count("dead")?,
                    expired: count("expired")?,
                    subscription,
                })
            })?;
            rows.collect()
        });
        Ok(backlog.await?)
    }

    /// The subscriptions that a message on `topic` goes to.
    fn subscribers(&self, topic: &str) -> Result<Vec<String>, BusError> {
        let declared =
            self.topology.topic(topic).ok_or_else(|| BusError::Refused(format!("topic `{topic}` is not declared")))?;
        Ok(readers(declared).map(str::to_owned).collect())
    }

    /// Whether anybody but the caller is to get what is sent to a topic.
    pub fn has_readers(&self, topic: &Topic) -> bool {
        readers(topic).next().is_some()
    }

    /// The subscriptions over which dead letters come to the ledger, each with its topic.
    pub(super) fn letter_boxes(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = self.topology.consumed_by(OURSELVES);
        let is_letters =
            |name: &str| self.topology.topic(name).is_some_and(|topic| topic.carries == Carries::DeadLetter);
        ours.filter(move |(topic, _, _)| is_letters(topic.as_str()))
            .map(|(topic, name, _)| (topic.as_str(), name.as_str()))
    }

    /// Has letters that came before their topic's subscription of ours was declared come over it as well, once for each
    /// declaration. How many.
    pub async fn catch_up(&self, at: Timestamp) -> Result<usize, BusError> {
        let boxes: BTreeMap<String, String> =
            self.letter_boxes().map(|(topic, name)| (topic.to_owned(), name.to_owned())).collect();
        let names: Vec<&str> = boxes.iter().flat_map(|(topic, name)| [topic.as_str(), name.as_str()]).collect();
        let done = format!("caught up:{}", checksum(&names));
        let caught_up = self.database.write(move |db| {
            if db.prepare_cached("SELECT 1 FROM cursors WHERE name = ?1")?.exists([&done])? {
                return Ok(0);
            }
            let mut query = db.prepare("SELECT id, topic FROM messages")?;
            let mut rows = query.query([])?;
            let mut found = 0;
            while let Some(row) = rows.next()? {
                let (id, topic): (String, String) = (row.get(0)?, row.get(1)?);
                if let Some(name) = boxes.get(&topic) {
                    found += db
                        .prepare_cached(
                            "INSERT INTO deliveries (message, subscription, not_before) VALUES (?1, ?2, ?3)
                             ON CONFLICT (message, subscription) DO NOTHING",
                        )?
                        .execute([&id, name, &instant(at)])?;
                }
            }
            db.prepare_cached("INSERT INTO cursors (name, value) VALUES (?1, 1)")?.execute([&done])?;
            Ok(found)
        });
        Ok(caught_up.await?)
    }

    /// Ends every lease of these subscriptions, whoever has it. How many. It counts as no attempt of what nobody has refused yet: that
    /// we were killed says nothing of a message.
    pub(super) async fn take_over(&self, subscriptions: Vec<String>, at: Timestamp) -> Result<usize, BusError> {
        let ended = self.database.write(move |db| {
            let mut count = 0;
            for subscription in &subscriptions {
                count += db
                    .prepare_cached(
                        "UPDATE deliveries SET not_before = ?2, attempts = attempts - (error IS NULL)
                         WHERE subscription = ?1 AND settled_at IS NULL AND attempts > 0 AND not_before > ?2",
                    )?
                    .execute([subscription, &instant(at)])?;
            }
            Ok(count)
        });
        Ok(ended.await?)
    }

    /// Those of the ledger's subscriptions that have something to deliver at `at`, each with its topic.
    pub(super) async fn filled(&self, at: Timestamp) -> Result<Vec<(String, String)>, BusError> {
        let boxes: BTreeMap<String, String> =
            self.letter_boxes().map(|(topic, name)| (name.to_owned(), topic.to_owned())).collect();
        let filled = self.database.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM deliveries WHERE subscription = ?1 AND settled_at IS NULL AND not_before <= ?2)",
            )?;
            let mut filled = Vec::new();
            for (name, topic) in boxes {
                if query.query_row([&name, &instant(at)], |row| row.get(0))? {
                    filled.push((topic, name));
                }
            }
            Ok(filled)
        });
        Ok(filled.await?)
    }

    fn terms(&self, subscription: &str) -> Result<Terms, BusError> {
        if subscription.starts_with(HTTP) {
            return Ok(Terms::HTTP);
        }
        let (_, declared) = self
            .topology
            .subscription(subscription)
            .ok_or_else(|| BusError::Refused(format!("subscription `{subscription}` is not declared")))?;
        Ok(Terms::of(declared))
    }
}

impl fmt::Debug for EmbeddedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBus").field("database", &self.database).finish_non_exhaustive()
    }
}

impl From<StoreError> for BusError {
    fn from(error: StoreError) -> Self {
        // A damaged row is no property of the message, so the message is not refused for it.
        Self::Unavailable(error.to_string())
    }
}

/// The subscriptions that a topic's messages are kept for.
fn readers(topic: &Topic) -> impl Iterator<Item = &str> {
    let is_letters = topic.carries == Carries::DeadLetter;
    let others =
        topic.subscriptions().filter(move |(_, subscription)| is_letters || subscription.consumer != OURSELVES);
    others.map(|(name, _)| name.as_str())
}

/// What holds of a subscription's deliveries.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) ack_deadline: Duration,
    retention: Duration,
    backoff: Backoff,
    /// Without a bound a delivery is tried until it is too old.
    attempts_max: Option<u32>,
    dead_letter: Option<String>,
}

impl Terms {
    pub(super) const HTTP: Self = Self {
        ack_deadline: LEASE_MAX,
        retention: HTTP_RETENTION,
        backoff: HTTP_BACKOFF,
        attempts_max: Some(HTTP_ATTEMPTS_MAX),
        dead_letter: None,
    };

    pub(super) fn of(declared: &Subscription) -> Self {
        Self {
            ack_deadline: declared.ack_deadline,
            retention: declared.retention,
            backoff: declared.backoff,
            attempts_max: declared.dead_letter.as_ref().map(|letter| letter.attempts_max),
            dead_letter: declared.dead_letter.as_ref().map(|letter| letter.topic.to_string()),
        }
    }

    /// Whether a delivery tried `attempts` times is given up on.
    fn exhausted(&self, attempts: u32) -> bool {
        self.attempts_max.is_some_and(|max| attempts >= max)
    }

    /// The pause after `attempts` refusals: doubled each time, between the subscription's bounds.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.min.saturating_mul(doubled).min(self.backoff.max)
    }
}

/// One lease of one delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    delivery: i64,
    attempt: u32,
}

impl Lease {
    pub(super) fn read(ack_id: &str) -> Result<Self, BusError> {
        let parts = ack_id.split_once('-').and_then(|(delivery, attempt)| {
            Some(Self { delivery: delivery.parse().ok()?, attempt: attempt.parse().ok()? })
        });
        parts.ok_or_else(|| BusError::Refused(format!("`{ack_id}` is not an ack id of ours")))
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.delivery, self.attempt)
    }
}

/// Who refused a delivery, and with which words.
#[derive(Debug)]
pub(super) struct Refusal<'a> {
    pub(super) subscription: &'a str,
    pub(super) error: &'a str,
}

/// A message to store.
struct New {
    id: String,
    topic: String,
    data: Vec<u8>,
    attributes: BTreeMap<String, String>,
    at: Timestamp,
}

impl New {
    fn store(&self, db: &Connection, subscriptions: &[String]) -> Result<(), StoreError> {
        let at = instant(self.at);
        let stored = db
            .prepare_cached(
                "INSERT INTO messages (id, topic, data, attributes, published_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![self.id, self.topic, self.data, json(&self.attributes)?, at])?;
        if stored == 0 {
            // Sent before: its deliveries are under way, or done.
            return Ok(());
        }
        for subscription in subscriptions {
            db.prepare_cached("INSERT INTO deliveries (message, subscription, not_before) VALUES (?1, ?2, ?3)")?
                .execute([&self.id, subscription, &at])?;
        }
        Ok(())
    }
}

/// A delivery with its message.
struct Waiting {
    delivery: i64,
    attempts: u32,
    error: Option<String>,
    message_id: String,
    data: Vec<u8>,
    attributes: BTreeMap<String, String>,
    published_at: Timestamp,
}

impl Waiting {
    /// The columns that [`Waiting::read`] reads.
    const SELECT: &str = "SELECT d.id AS delivery, d.attempts, d.error, m.id AS message, m.data, m.attributes, \
                          m.published_at FROM deliveries d JOIN messages m ON m.id = d.message";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let message_id: String = get(row, "message", "a message")?;
        let what = format!("messages/{message_id}");
        Ok(Self {
            delivery: get(row, "delivery", &what)?,
            attempts: get(row, "attempts", &what)?,
            error: get(row, "error", &what)?,
            data: get(row, "data", &what)?,
            attributes: read_json(&get::<String>(row, "attributes", &what)?, &what)?,
            published_at: read_instant(row, "published_at", &what)?,
            message_id,
        })
    }
}

/// Leases what may be delivered, and lays aside what may not.
pub(super) fn take(
    db: &Connection,
    topology: &Topology,
    subscription: &str,
    terms: &Terms,
    max: usize,
    lease: Duration,
    at: Timestamp,
) -> Result<Vec<Leased>, StoreError> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    // Every round moves each delivery it finds out of the next one's sight, so this ends.
    while taken.len() < max && bytes < ANSWER_MAX {
        let sql = format!(
            "{} WHERE d.subscription = ?1 AND d.settled_at IS NULL AND d.not_before <= ?2
             ORDER BY d.not_before, d.id LIMIT ?3",
            Waiting::SELECT
        );
        let page: Vec<Waiting> = db
            .prepare_cached(&sql)?
            .query_and_then(params![subscription, instant(at), rows_max(PAGE.min(max - taken.len()))], Waiting::read)?
            .collect::<Result<_, StoreError>>()?;
        if page.is_empty() {
            break;
        }
        for waiting in page {
            if bytes >= ANSWER_MAX {
                break;
            }
            if waiting.published_at < earlier(at, terms.retention) {
                lay_aside(db, waiting.delivery, "expired", waiting.error.as_deref(), at)?;
            } else if terms.exhausted(waiting.attempts) {
                bury(db, topology, subscription, terms, &waiting, at)?;
            } else {
                let attempt = waiting.attempts + 1;
                db.prepare_cached("UPDATE deliveries SET attempts = ?2, not_before = ?3 WHERE id = ?1")?
                    .execute(params![waiting.delivery, attempt, instant(later(at, lease.max(LEASE_MIN)))])?;
                bytes += waiting.data.len();
                taken.push(Leased {
                    ack_id: Lease { delivery: waiting.delivery, attempt }.to_string(),
                    message_id: waiting.message_id,
                    data: waiting.data,
                    attributes: waiting.attributes,
                    publish_time: waiting.published_at,
                    delivery_attempt: attempt,
                });
            }
        }
    }
    Ok(taken)
}

/// Bytes after which an answer is full; what is left comes with the next.
const ANSWER_MAX: usize = 10 * 1024 * 1024;
/// Deliveries read at a time, each of which may have Pub/Sub's ten megabytes.
const PAGE: usize = 8;

/// A lease of nothing would hand the same message out twice in one answer.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// Ends a lease because its holder could not use the message.
pub(super) fn give_back(
    db: &Connection,
    topology: &Topology,
    terms: &Terms,
    lease: Lease,
    refusal: &Refusal<'_>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let touched = db
        .prepare_cached(
            "UPDATE deliveries SET not_before = ?4, error = ?5
             WHERE id = ?1 AND subscription = ?2 AND attempts = ?3 AND settled_at IS NULL",
        )?
        .execute(params![
            lease.delivery,
            refusal.subscription,
            lease.attempt,
            instant(later(at, terms.pause(lease.attempt))),
            refusal.error,
        ])?;
    if touched == 1 && terms.exhausted(lease.attempt) {
        let sql = format!("{} WHERE d.id = ?1", Waiting::SELECT);
        let waiting = db.prepare_cached(&sql)?.query_and_then([lease.delivery], Waiting::read)?.next().transpose()?;
        if let Some(waiting) = waiting {
            bury(db, topology, refusal.subscription, terms, &waiting, at)?;
        }
    }
    Ok(())
}

/// Ends a lease whose message nobody was there to be offered: it counts as no attempt.
pub(super) fn take_back(
    db: &Connection,
    terms: &Terms,
    lease: Lease,
    refusal: &Refusal<'_>,
    at: Timestamp,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE deliveries SET attempts = attempts - 1, not_before = ?4, error = ?5
         WHERE id = ?1 AND subscription = ?2 AND attempts = ?3 AND settled_at IS NULL",
    )?
    .execute(params![
        lease.delivery,
        refusal.subscription,
        lease.attempt,
        instant(later(at, terms.pause(1))),
        refusal.error,
    ])?;
    Ok(())
}

/// Gives a delivery up: its message goes to the dead letters' readers, with where it comes from.
fn bury(
    db: &Connection,
    topology: &Topology,
    subscription: &str,
    terms: &Terms,
    waiting: &Waiting,
    at: Timestamp,
) -> Result<(), StoreError> {
    lay_aside(db, waiting.delivery, "dead", waiting.error.as_deref(), at)?;
    let error = waiting.error.as_deref().unwrap_or("never acknowledged");
    tracing::warn!(
        subscription,
        message.id = waiting.message_id,
        attempts = waiting.attempts,
        error,
        "a message was given up on"
    );
    let Some((name, topic)) = terms.dead_letter.as_deref().and_then(|name| Some((name, topology.topic(name)?))) else {
        // A call of a service has no dead letters: the node it asked for shows no sign of life, and that is noticed.
        return Ok(());
    };
    let mut attributes = waiting.attributes.clone();
    // Pub/Sub's own names, so that a reader of dead letters finds what it is used to.
    attributes.extend(
        [
            ("DeliveryCount", waiting.attempts.to_string()),
            ("Subscription", subscription.to_owned()),
            ("SubscriptionProject", PROJECT.to_owned()),
            ("TopicPublishTime", waiting.published_at.to_string()),
            ("DeliveryErrorMessage", error.to_owned()),
        ]
        .map(|(name, value)| (format!("CloudPubSubDeadLetterSource{name}"), value)),
    );
    let letter = New {
        // A name made of its origin: the same letter is never written twice.
        id: format!("{}@{subscription}", waiting.message_id),
        topic: name.to_owned(),
        data: waiting.data.clone(),
        attributes,
        at,
    };
    let readers: Vec<String> = topic.subscriptions().map(|(name, _)| name.to_string()).collect();
    letter.store(db, &readers)
}

fn lay_aside(
    db: &Connection,
    delivery: i64,
    outcome: &str,
    error: Option<&str>,
    at: Timestamp,
) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE deliveries SET settled_at = ?2, outcome = ?3, error = ?4 WHERE id = ?1")?
        .execute(params![delivery, instant(at), outcome, error])?;
    Ok(())
}

/// The statement that drops old deliveries: at ?1, what was published before ?2.
fn expiry(which: &str) -> String {
    format!(
        "UPDATE deliveries SET settled_at = ?1, outcome = 'expired' WHERE settled_at IS NULL AND {which}
           AND message IN (SELECT id FROM messages WHERE published_at < ?2)"
    )
}

/// Deletes settled deliveries before an instant, and messages that none is left of. How many of each.
pub(super) fn prune(db: &Connection, before: &str) -> Result<(usize, usize), StoreError> {
    let deliveries = db.prepare_cached("DELETE FROM deliveries WHERE settled_at < ?1")?.execute([before])?;
    let messages = db
        .prepare_cached(
            "DELETE FROM messages WHERE published_at < ?1
               AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message = messages.id)",
        )?
        .execute([before])?;
    Ok((deliveries, messages))
}

pub(super) fn later(at: Timestamp, span: Duration) -> Timestamp {
    after(at, SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX))
}

fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_sub(span).unwrap_or(Timestamp::MIN)
}
