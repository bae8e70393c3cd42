//! The engine as the one to whom adapters hand what they receive.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Engine;
use super::intake::{Settlement, WAITING_MAX};
use super::run::Inbox;
use crate::port::{Handed, Recipient};
use crate::wire::inbound::Delivery;

/// A running engine and its inbox.
pub struct Listening {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Where its messages go in.
    pub inbox: Inbox,
}

#[async_trait]
impl Recipient for Listening {
    async fn hand_over(&self, delivery: Delivery) -> Handed {
        // Also while it waits for the intake: until it is settled, nothing later has been heard.
        let in_hand = self.engine.hearing.in_hand(delivery.published);
        let settlement = self.inbox.deliver(delivery).await;
        drop(in_hand);
        match settlement {
            Settlement::Ack | Settlement::Park { .. } => Handed::Settled,
            Settlement::Nack { after, .. } => Handed::Back(after),
        }
    }

    fn room(&self) -> usize {
        WAITING_MAX
    }

    async fn opened(&self) {
        self.engine.watch.opened().await;
    }

    async fn closed(&self) {
        self.engine.watch.closed().await;
    }

    fn heard(&self, road: &str, published: Timestamp) {
        self.engine.hearing.heard(road, published);
    }

    fn interrupted(&self) {
        self.engine.hearing.interrupted(self.engine.clock.now());
    }

    fn redelivered(&self) {
        self.engine.counts.redelivered.fetch_add(1, Ordering::Relaxed);
        self.engine.telemetry.metrics.redelivered.add(1, []);
    }

    fn fault(&self, component: &str, reason: &str) -> bool {
        self.engine.health.fault(component, reason)
    }

    fn well(&self, component: &str) {
        self.engine.health.well(component);
    }
}
