//! What can go wrong between the engine and what it stands on: a store that is away, a target that refuses, a settling that
//! is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::seen::Sent;
use crate::clock::Clock;
use crate::domain::backfill::Plan;
use crate::domain::dead_letter::Letter;
use crate::domain::effect::Alert;
use crate::domain::id::{AlertKey, ChannelId, DispatchId, LetterId, NodeId, PartitionKey, PipelineId, RunId};
use crate::domain::notify::{Ledger, Notice, Sent as Told};
use crate::port::{
    Bus, BusError, Channel, Commit, Delivered, Document as _, JournalEntry, Letters, OutboxEntry, Parked, Parting,
    Store, StoreError, Stored,
};
use crate::simulation::dice::Dice;
use crate::wire::dispatch::Outgoing;
use crate::wire::envelope::Content;

/// What a store that fails does not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outage {
    /// It does not answer.
    Away,
    /// It is read, and takes nothing.
    ReadOnly,
}

impl Outage {
    fn words(self) -> String {
        match self {
            Self::Away => "it is away".to_owned(),
            Self::ReadOnly => "PERMISSION_DENIED: missing or insufficient permissions".to_owned(),
        }
    }
}

/// What the wrappers around store and bus share with the world.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub outage: Mutex<Option<Outage>>,
    /// Targets that refuse: how many messages they still let through, and whether they are gone rather than at fault.
    pub broken: Mutex<BTreeMap<String, (u32, bool)>>,
    /// Calls of targets that refused them.
    pub refused: Mutex<BTreeMap<String, usize>>,
    /// The next settling of an effect is lost, as by a kill between sending and noting it.
    pub lose_settling: Mutex<bool>,
    /// The next note of what people were told is lost, as by a kill between telling and noting it.
    pub lose_telling: Mutex<bool>,
    /// Draws which of the notices are followed by such a kill, in a world where kills fall.
    pub telling_dice: Mutex<Option<Dice>>,
    pub told: Mutex<Vec<(Timestamp, ChannelId, Notice)>>,
    pub sent: Mutex<Vec<(Timestamp, Sent)>>,
    pub alerts: Mutex<Vec<(Timestamp, Alert)>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The real bus, with targets that can fail, and a note of what it took.
pub(super) struct FaultyBus {
    pub inner: Arc<dyn Bus>,
    pub faults: Arc<Faults>,
    pub clock: Clock,
}

#[async_trait]
impl Bus for FaultyBus {
    async fn send(&self, message: &Outgoing, at: Timestamp) -> Result<(), BusError> {
        let target = message.target.to_string();
        if let Some((through, gone)) = locked(&self.faults.broken).get_mut(&target) {
            if *through == 0 {
                *locked(&self.faults.refused).entry(target.clone()).or_default() += 1;
                return Err(match gone {
                    true => BusError::Dead("404 Not Found".to_owned()),
                    false => BusError::Unavailable(format!("{target} does not answer")),
                });
            }
            *through -= 1;
        }
        self.inner.send(message, at).await?;
        let dispatch = message.id.split('#').next().unwrap_or_default();
        let sent = Sent {
            message: message.id.clone(),
            dispatch: DispatchId::from(dispatch),
            target,
            body: serde_json::from_slice(&message.body).unwrap_or(Value::Null),
        };
        locked(&self.faults.sent).push((at, sent));
        Ok(())
    }

    fn reaches_us(&self) -> bool {
        self.inner.reaches_us()
    }

    async fn part_with(&self, partings: &[Parting], at: Timestamp) -> Result<Option<Vec<bool>>, BusError> {
        self.inner.part_with(partings, at).await
    }

    async fn alert(&self, alert: &Alert) -> Result<(), BusError> {
        // Every adapter keeps alerts where it keeps everything else.
        let outage = *locked(&self.faults.outage);
        if let Some(outage) = outage {
            return Err(BusError::Unavailable(outage.words()));
        }
        self.inner.alert(alert).await?;
        self.announce(alert);
        Ok(())
    }

    fn announce(&self, alert: &Alert) {
        locked(&self.faults.alerts).push((self.clock.now(), alert.clone()));
    }

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        self.inner.alerts().await
    }

    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError> {
        self.inner.alert_of(key).await
    }
}

/// A channel that takes down what people are told, and can fail.
pub(super) struct RecordedChannel {
    pub id: ChannelId,
    pub faults: Arc<Faults>,
    pub clock: Clock,
}

/// Notices for each that is followed by a kill.
const TELLING_ODDS: u64 = 5;

#[async_trait]
impl Channel for RecordedChannel {
    async fn send(&self, notice: &Notice) -> Told {
        let target = format!("channel:{}", self.id);
        if let Some((through, gone)) = locked(&self.faults.broken).get_mut(&target) {
            if *through == 0 {
                return match gone {
                    true => Told::Dead("404 Not Found".to_owned()),
                    false => Told::Later { wait: None, why: format!("{} does not answer", self.id) },
                };
            }
            *through -= 1;
        }
        locked(&self.faults.told).push((self.clock.now(), self.id.clone(), notice.clone()));
        if locked(&self.faults.telling_dice).as_mut().is_some_and(|dice| dice.roll(TELLING_ODDS) == 0) {
            *locked(&self.faults.lose_telling) = true;
        }
        Told::Taken
    }

    async fn reach(&self) -> Result<(), String> {
        match locked(&self.faults.broken).get(&format!("channel:{}", self.id)) {
            Some((0, _)) => Err(format!("{} does not answer", self.id)),
            Some(_) | None => Ok(()),
        }
    }
}

/// The real store, which can be away, or take nothing.
pub(super) struct FaultyStore {
    pub inner: Arc<dyn Store>,
    pub faults: Arc<Faults>,
}

impl FaultyStore {
    fn there(&self) -> Result<&dyn Store, StoreError> {
        match *locked(&self.faults.outage) {
            Some(outage @ Outage::Away) => Err(StoreError::Unavailable(outage.words())),
            Some(Outage::ReadOnly) | None => Ok(&*self.inner),
        }
    }

    fn taking(&self) -> Result<&dyn Store, StoreError> {
        match *locked(&self.faults.outage) {
            Some(outage) => Err(StoreError::Unavailable(outage.words())),
            None => Ok(&*self.inner),
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn load(&self, key: &PartitionKey) -> Result<Stored, StoreError> {
        self.there()?.load(key).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.taking()?.commit(commit).await
    }

    async fn due(&self, at: Timestamp, limit: usize) -> Result<Vec<PartitionKey>, StoreError> {
        self.there()?.due(at, limit).await
    }

    async fn next_wake(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        self.there()?.next_wake().await
    }

    async fn outbox(&self, at: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.there()?.outbox(at, limit).await
    }

    async fn settle(&self, id: &str, delivered: Delivered) -> Result<(), StoreError> {
        if *locked(&self.faults.lose_settling) {
            return Err(StoreError::Unavailable("killed before it was noted".to_owned()));
        }
        self.taking()?.settle(id, delivered).await
    }

    async fn undeliverable(&self, limit: usize) -> Result<Vec<(OutboxEntry, String)>, StoreError> {
        self.there()?.undeliverable(limit).await
    }

    async fn park(&self, parked: Parked) -> Result<(), StoreError> {
        self.taking()?.park(parked).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>, StoreError> {
        self.there()?.parked(limit).await
    }

    async fn journal(
        &self,
        key: Option<&PartitionKey>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        self.there()?.journal(key, after, limit).await
    }

    async fn dates(&self, pipeline: &PipelineId, limit: usize) -> Result<Vec<Date>, StoreError> {
        self.there()?.dates(pipeline, limit).await
    }

    async fn plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
        self.there()?.plans(pipeline).await
    }

    async fn put_plan(&self, plan: &Plan, expected: u64) -> Result<bool, StoreError> {
        self.taking()?.put_plan(plan, expected).await
    }

    async fn release_lock(&self, key: &PartitionKey, node: &NodeId, run: &RunId) -> Result<(), StoreError> {
        self.taking()?.release_lock(key, node, run).await
    }

    async fn take(&self, what: &str, window: Timestamp, want: u32, most: u32) -> Result<u32, StoreError> {
        self.taking()?.take(what, window, want, most).await
    }

    async fn mark(&self, at: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.taking()?.mark(at).await
    }

    async fn marked(&self) -> Result<Option<Timestamp>, StoreError> {
        self.there()?.marked().await
    }

    async fn document(&self, name: &str) -> Result<(u64, Option<serde_json::Value>), StoreError> {
        self.there()?.document(name).await
    }

    async fn keep_document(&self, name: &str, expected: u64, document: &serde_json::Value) -> Result<bool, StoreError> {
        if name == Ledger::NAME && std::mem::take(&mut *locked(&self.faults.lose_telling)) {
            return Err(StoreError::Unavailable("killed before it was noted".to_owned()));
        }
        self.taking()?.keep_document(name, expected, document).await
    }

    async fn letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
        self.there()?.letter(id).await
    }

    async fn letter_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
        self.there()?.letter_content(id, version).await
    }

    async fn letters(
        &self,
        which: Letters,
        place: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError> {
        self.there()?.letters(which, place, limit).await
    }

    async fn keep_letter(&self, letter: &Letter, expected: u64, content: Option<Content>) -> Result<bool, StoreError> {
        self.taking()?.keep_letter(letter, expected, content).await
    }

    async fn trim_letters(&self, most: usize) -> Result<usize, StoreError> {
        self.taking()?.trim_letters(most).await
    }

    async fn exported(&self) -> Result<u64, StoreError> {
        self.there()?.exported().await
    }

    async fn set_exported(&self, seq: u64) -> Result<(), StoreError> {
        self.taking()?.set_exported(seq).await
    }
}
