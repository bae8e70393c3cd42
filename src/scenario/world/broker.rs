//! The broker of a story: it hands messages over, late, twice and in another order, and again where they come back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Input, Regime, RunError, SHUFFLE_WITHIN, World};
use crate::domain::time::after;
use crate::engine::intake::{Offer, Settlement};
use crate::scenario::seen::{Entry, What};
use crate::wire::inbound::Delivery;

/// A message that is handed back comes again after this, as Pub/Sub's retry policy has it here.
const REDELIVER_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// Deliveries of one message at which the process may be killed.
const STRUCK_MAX: u32 = 4;

/// A message that is on its way to us, or was.
pub(super) struct Message {
    pub id: String,
    pub delivery: Delivery,
    pub settled: bool,
    /// How often it was delivered.
    pub deliveries: u32,
}

impl World<'_> {
    #[expect(clippy::too_many_arguments, reason = "a message has this many parts")]
    pub(super) fn message(
        &mut self,
        id: &str,
        topic: &str,
        data: Vec<u8>,
        attributes: BTreeMap<String, String>,
        published: Timestamp,
        at: Timestamp,
        redeliver: &[SignedDuration],
    ) {
        let copies = if self.regime == Regime::Twice { 2 } else { 1 };
        for copy in 0..copies {
            let index = self.messages.len();
            let delivery = Delivery {
                topic: topic.to_owned(),
                message_id: format!("m{index}"),
                published,
                attributes: attributes.clone(),
                data: data.clone(),
            };
            self.messages.push(Message { id: id.to_owned(), delivery, settled: false, deliveries: 0 });
            let at = after(at, SignedDuration::from_millis(500 * copy));
            self.enqueue(at, Input::Message(index));
            for delay in redeliver {
                self.enqueue(after(at, *delay), Input::Message(index));
            }
        }
    }

    /// The messages that have been sent to us, are not settled, and are not on their way again already.
    pub(super) fn arrived(&self) -> Vec<usize> {
        let coming = self.queue.values().filter_map(|input| match input {
            Input::Message(index) => Some(*index),
            _ => None,
        });
        let coming: BTreeSet<usize> = coming.collect();
        let unsettled = self.messages.iter().enumerate().filter(|(_, message)| !message.settled);
        unsettled.map(|(index, _)| index).filter(|index| !coming.contains(index)).collect()
    }

    /// Takes the messages up to the next deadline and brings their order into another.
    pub(super) async fn shuffle(&mut self, at: Timestamp) -> Result<(), RunError> {
        let (wake, _) = self.store.next_wake().await?;
        let mut barrier = after(at, SHUFFLE_WITHIN);
        barrier = wake.map_or(barrier, |wake| if wake > at { barrier.min(wake) } else { barrier });
        let mut group = Vec::new();
        for ((when, nth), input) in &self.queue {
            match input {
                Input::Message(index) if *when < barrier => group.push(((*when, *nth), *index)),
                _ => break,
            }
        }
        if group.len() < 2 {
            return Ok(());
        }
        let last = group.iter().map(|((when, _), _)| *when).max().unwrap_or(at);
        for (key, _) in &group {
            self.queue.remove(key);
        }
        let mut order: Vec<usize> = group.into_iter().map(|(_, index)| index).collect();
        for from in (1..order.len()).rev() {
            let to = usize::try_from(self.dice.roll(from as u64 + 1)).unwrap_or(0);
            order.swap(from, to);
        }
        self.clock.set(last);
        for index in order {
            self.deliver(index, last).await?;
            self.round(last).await?;
        }
        Ok(())
    }

    pub(super) async fn deliver(&mut self, index: usize, at: Timestamp) -> Result<(), RunError> {
        let message = &self.messages[index];
        let (id, delivery) = (message.id.clone(), message.delivery.clone());
        let Some(engine) = &self.engine else {
            // Nobody listens: the broker keeps it and delivers it when somebody does.
            self.messages[index].settled = false;
            return Ok(());
        };
        if engine.watch.refusal().is_some() {
            self.held.push(index);
            return Ok(());
        }
        let topic = delivery.topic.clone();
        let offer = self.intake.offer(engine, delivery, index);
        self.seen.entries.push(Entry { at, what: What::Received { message: id, topic } });
        match offer {
            Offer::Taken => {}
            Offer::Settled(index, settlement) => self.settle(index, settlement, at),
            Offer::ToPark(index, parked) => {
                let (parked, delivery) = *parked;
                let settlement = engine.park(parked, &delivery).await;
                self.settle(index, settlement, at);
            }
            Offer::ToKeep(index, letter) => {
                let settlement = engine.keep_dead(&letter).await;
                self.settle(index, settlement, at);
            }
        }
        self.messages[index].deliveries += 1;
        // Else a burst of hundreds would hardly ever be got through.
        if self.messages[index].deliveries <= STRUCK_MAX && self.strikes(40) {
            self.kill(at, SignedDuration::ZERO).await?;
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, index: usize, settlement: Settlement, at: Timestamp) {
        let words = match &settlement {
            Settlement::Ack => "ack".to_owned(),
            Settlement::Park { slug, reason } => format!("park:{slug}: {reason}"),
            Settlement::Nack { reason, .. } => format!("nack: {reason}"),
        };
        let message = &mut self.messages[index];
        let id = message.id.clone();
        match &settlement {
            Settlement::Nack { after: wait, .. } => {
                let wait = (*wait).max(REDELIVER_AFTER);
                self.enqueue(after(at, wait), Input::Message(index));
            }
            Settlement::Ack | Settlement::Park { .. } => message.settled = true,
        }
        self.seen.entries.push(Entry { at, what: What::Settled { message: id.clone(), settlement: words } });
        self.seen.settlements.entry(id).or_default().push(settlement);
    }
}

/// The short names of the incident notes.
pub(super) fn long_name(topic: &str) -> String {
    match topic {
        "phase1" => "nba-phase1-scrapers-complete",
        "phase2" => "nba-phase2-raw-complete",
        "phase3" => "nba-phase3-analytics-complete",
        "phase4" => "nba-phase4-precompute-complete",
        "phase5" => "nba-phase5-predictions-complete",
        "phase6" => "nba-phase6-export-complete",
        "grade" => "nba-grading-complete",
        "hb" => "nba-processor-heartbeats",
        other => other,
    }
    .to_owned()
}
