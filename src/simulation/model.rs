//! What the engine stands on in a schedule: a store that several replicas share, and the way out.
//!
//! What is kept is the embedded store's, in a directory of its own. Around it every call comes to a stop before and after, so
//! that whoever plays may have others go first, may let it fail, may have it applied and not say so, or may kill whoever
//! called. Claims and leases are those of Firestore: an effect is one replica's until an instant, and then anybody's.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::dice::Dice;
use crate::adapter::embedded::Embedded;
use crate::domain::backfill::Plan;
use crate::domain::dead_letter::Letter;
use crate::domain::effect::{Alert, Turn};
use crate::domain::id::{AlertKey, LetterId, NodeId, PartitionKey, PipelineId, RunId};
use crate::port::{
    Bus, BusError, Commit, Delivered, JournalEntry, Letters, OutboxEntry, Parked, Store, StoreError, Stored,
};
use crate::wire::dispatch::Outgoing;
use crate::wire::envelope::Content;

/// What store and bus share with whoever plays.
#[derive(Debug)]
pub(super) struct Ground {
    dice: Dice,
    /// In so many of a hundred calls something goes wrong.
    pub trouble: u64,
    /// Nothing is answered before somebody says so.
    pub away: bool,
    /// A commit is answered and not stored: a bug that is planted.
    pub lies: bool,
    /// Commits refused since somebody was faster.
    pub conflicts: u64,
    claims: BTreeMap<String, (usize, Timestamp)>,
    leases: BTreeMap<String, (usize, Timestamp)>,
    /// What was handed to the broker, in order.
    pub sent: Vec<Outgoing>,
    pub alerts: BTreeMap<AlertKey, Alert>,
}

impl Ground {
    pub(super) fn new(seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            dice: Dice::new(!seed),
            trouble: 3,
            away: false,
            lies: false,
            conflicts: 0,
            claims: BTreeMap::new(),
            leases: BTreeMap::new(),
            sent: Vec::new(),
            alerts: BTreeMap::new(),
        }))
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets others go first, once.
struct Stop(bool);

impl Future for Stop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        // Whoever plays polls by its dice and waits for no waker.
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One replica's way to the store.
pub(super) struct ModelStore {
    pub inner: Embedded,
    pub ground: Arc<Mutex<Ground>>,
    /// Whose it is; a replica that starts anew is another.
    pub replica: usize,
    /// The world's clock, by which leases end.
    pub clock: crate::clock::Clock,
}

impl ModelStore {
    async fn trouble(&self, what: &str) -> Result<(), StoreError> {
        Stop(false).await;
        let mut ground = locked(&self.ground);
        let trouble = ground.trouble;
        if ground.away || trouble > 0 && ground.dice.chance(trouble) {
            return Err(StoreError::Unavailable(format!("drawn {what}")));
        }
        Ok(())
    }
}

/// A call that may fail before it, and where it writes also after it.
macro_rules! read {
    ($store:ident, $call:expr) => {{
        $store.trouble("before it was done").await?;
        let answer = $call.await;
        Stop(false).await;
        answer
    }};
}

macro_rules! write {
    ($store:ident, $call:expr) => {{
        $store.trouble("before it was done").await?;
        let answer = $call.await?;
        $store.trouble("after it was done").await?;
        Ok(answer)
    }};
}

/// Takes what is free, or whose holder's time is over, or the caller's own.
fn takes(
    held: &mut BTreeMap<String, (usize, Timestamp)>,
    what: &str,
    who: usize,
    now: Timestamp,
    until: Timestamp,
) -> bool {
    let free = held.get(what).is_none_or(|(holder, until)| *holder == who || *until <= now);
    if free {
        held.insert(what.to_owned(), (who, until));
    }
    free
}

#[async_trait]
impl Store for ModelStore {
    async fn load(&self, key: &PartitionKey) -> Result<Stored, StoreError> {
        read!(self, self.inner.load(key))
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        if locked(&self.ground).lies {
            let lies = locked(&self.ground).dice.chance(5);
            if lies {
                return Ok(());
            }
        }
        self.trouble("before it was done").await?;
        let claimed: Vec<String> = commit.outbox.iter().map(|entry| entry.id.clone()).collect();
        let claimed = commit.claimed_until.map(|until| (claimed, until));
        let answer = self.inner.commit(commit).await;
        if answer.is_ok()
            && let Some((ids, until)) = claimed
        {
            let (now, claims) = (self.clock.now(), &mut locked(&self.ground).claims);
            for id in ids {
                takes(claims, &id, self.replica, now, until);
            }
        }
        if matches!(answer, Err(StoreError::Conflict(_))) {
            locked(&self.ground).conflicts += 1;
        }
        answer?;
        self.trouble("after it was done").await
    }

    async fn due(&self, at: Timestamp, limit: usize) -> Result<Vec<PartitionKey>, StoreError> {
        read!(self, self.inner.due(at, limit))
    }

    async fn next_wake(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        read!(self, self.inner.next_wake())
    }

    async fn outbox(&self, at: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        read!(self, self.inner.outbox(at, limit))
    }

    fn shares(&self) -> bool {
        true
    }

    async fn claim(&self, entries: Vec<(OutboxEntry, Timestamp)>) -> Result<Vec<OutboxEntry>, StoreError> {
        self.trouble("before it was claimed").await?;
        let now = self.clock.now();
        let ours = {
            let mut ground = locked(&self.ground);
            let claims = &mut ground.claims;
            let ours = entries.into_iter().filter(|(entry, until)| takes(claims, &entry.id, self.replica, now, *until));
            ours.map(|(entry, _)| entry).collect()
        };
        self.trouble("after it was claimed").await?;
        Ok(ours)
    }

    async fn settle(&self, id: &str, delivered: Delivered) -> Result<(), StoreError> {
        self.trouble("before it was settled").await?;
        // What is to be tried again is anybody's from then on.
        locked(&self.ground).claims.remove(id);
        self.inner.settle(id, delivered).await?;
        self.trouble("after it was settled").await
    }

    async fn undeliverable(&self, limit: usize) -> Result<Vec<(OutboxEntry, String)>, StoreError> {
        read!(self, self.inner.undeliverable(limit))
    }

    async fn park(&self, parked: Parked) -> Result<(), StoreError> {
        write!(self, self.inner.park(parked))
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>, StoreError> {
        read!(self, self.inner.parked(limit))
    }

    async fn journal(
        &self,
        key: Option<&PartitionKey>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        read!(self, self.inner.journal(key, after, limit))
    }

    async fn dates(&self, pipeline: &PipelineId, limit: usize) -> Result<Vec<Date>, StoreError> {
        read!(self, self.inner.dates(pipeline, limit))
    }

    async fn plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
        read!(self, self.inner.plans(pipeline))
    }

    async fn put_plan(&self, plan: &Plan, expected: u64) -> Result<bool, StoreError> {
        write!(self, self.inner.put_plan(plan, expected))
    }

    async fn release_lock(&self, key: &PartitionKey, node: &NodeId, run: &RunId) -> Result<(), StoreError> {
        write!(self, self.inner.release_lock(key, node, run))
    }

    async fn lease(&self, work: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.trouble("before it was leased").await?;
        Ok(takes(&mut locked(&self.ground).leases, work, self.replica, now, until))
    }

    async fn take(&self, what: &str, window: Timestamp, want: u32, most: u32) -> Result<u32, StoreError> {
        write!(self, self.inner.take(what, window, want, most))
    }

    async fn mark(&self, at: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        write!(self, self.inner.mark(at))
    }

    async fn marked(&self) -> Result<Option<Timestamp>, StoreError> {
        read!(self, self.inner.marked())
    }

    async fn document(&self, name: &str) -> Result<(u64, Option<Value>), StoreError> {
        read!(self, self.inner.document(name))
    }

    async fn keep_document(&self, name: &str, expected: u64, document: &Value) -> Result<bool, StoreError> {
        write!(self, self.inner.keep_document(name, expected, document))
    }

    async fn letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
        read!(self, self.inner.letter(id))
    }

    async fn letter_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
        read!(self, self.inner.letter_content(id, version))
    }

    async fn letters(
        &self,
        which: Letters,
        place: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError> {
        read!(self, self.inner.letters(which, place, limit))
    }

    async fn keep_letter(&self, letter: &Letter, expected: u64, content: Option<Content>) -> Result<bool, StoreError> {
        write!(self, self.inner.keep_letter(letter, expected, content))
    }

    async fn trim_letters(&self, most: usize) -> Result<usize, StoreError> {
        write!(self, self.inner.trim_letters(most))
    }

    async fn exported(&self) -> Result<u64, StoreError> {
        read!(self, self.inner.exported())
    }

    async fn set_exported(&self, seq: u64) -> Result<(), StoreError> {
        write!(self, self.inner.set_exported(seq))
    }
}

/// The way out: what it takes is noted, and now and then it takes nothing, or does not say that it did.
pub(super) struct ModelBus(pub Arc<Mutex<Ground>>);

impl ModelBus {
    async fn trouble(&self) -> Result<(), BusError> {
        Stop(false).await;
        let mut ground = locked(&self.0);
        let trouble = ground.trouble;
        if trouble > 0 && ground.dice.chance(trouble) {
            return Err(BusError::Unavailable("drawn".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Bus for ModelBus {
    async fn send(&self, message: &Outgoing, _at: Timestamp) -> Result<(), BusError> {
        self.trouble().await?;
        locked(&self.0).sent.push(message.clone());
        self.trouble().await
    }

    async fn alert(&self, alert: &Alert) -> Result<(), BusError> {
        Stop(false).await;
        locked(&self.0).alerts.insert(alert.key.clone(), alert.clone());
        Ok(())
    }

    fn announce(&self, _alert: &Alert) {}

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        let ground = locked(&self.0);
        Ok(ground.alerts.values().filter(|alert| alert.turn == Turn::Raised).cloned().collect())
    }

    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError> {
        Ok(locked(&self.0).alerts.get(key).cloned())
    }
}
