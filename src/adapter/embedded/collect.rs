//! Fills the ledger: dead letters are read off tipoff's own subscriptions, and acknowledged once they are kept.
//!
//! The same way as over a real broker, so a kill between keeping and acknowledging has one come again, and it is known
//! again. Nobody's deliveries but our own are touched.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::bus::EmbeddedBus;
use crate::crash::{self, Place};
use crate::port::{BusError, Handed, Recipient};
use crate::wire::inbound::Delivery;

/// Letters in hand at once; each may have Pub/Sub's ten megabytes, and an answer ends with ten.
const IN_HAND_MAX: usize = 256;

impl EmbeddedBus {
    /// Has what somebody held when it was killed come again at once. What another one holds at this moment is kept twice, and
    /// the second time it is known.
    pub async fn collect_anew(&self, at: Timestamp) -> Result<usize, BusError> {
        self.take_over(self.letter_boxes().map(|(_, name)| name.to_owned()).collect(), at).await
    }

    /// Hands over what waits on the ledger's subscriptions. How many were kept; what was not comes again.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub async fn collect(&self, recipient: &Arc<dyn Recipient>, at: Timestamp) -> Result<usize, BusError> {
        let mut kept = 0;
        for (topic, subscription) in self.filled(at).await? {
            loop {
                let leased = self.pull(&subscription, IN_HAND_MAX, at).await?;
                if leased.is_empty() {
                    break;
                }
                let mut in_hand = JoinSet::new();
                for letter in leased {
                    let delivery = Delivery {
                        topic: topic.clone(),
                        message_id: letter.message_id,
                        published: letter.publish_time,
                        attributes: letter.attributes,
                        data: letter.data,
                    };
                    let recipient = Arc::clone(recipient);
                    // What is not kept now comes again when its lease has run out.
                    in_hand.spawn(async move {
                        (recipient.hand_over(delivery).await == Handed::Settled).then_some(letter.ack_id)
                    });
                }
                let mut settled = Vec::new();
                while let Some(handed) = in_hand.join_next().await {
                    settled.extend(handed.ok().flatten());
                }
                kept += settled.len();
                crash::at(Place::LetterUnsettled);
                self.acknowledge(&subscription, &settled, at).await?;
            }
        }
        Ok(kept)
    }
}
