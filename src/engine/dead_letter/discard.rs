//! Has nothing more be done about letters, and ends what people were told of those that are settled.

use std::collections::BTreeSet;

use super::keep::waiting;
use super::look::Desk;
use super::{Error, Order, Outcome, PAGE, TRIES_MAX, Verdict};
use crate::domain::dead_letter::{Discarded, Kind};
use crate::domain::effect::{Alert, Turn};
use crate::engine::Engine;
use crate::port::{Letters, StoreError};

impl Engine {
    /// Has nothing more be done about letters that wait. Where `apply` is not said, only what would be is told.
    ///
    /// # Errors
    /// If the store cannot be used, or a letter that is named is not there.
    pub async fn discard(&self, order: &Order, reason: &str, apply: bool) -> Result<Vec<Outcome>, Error> {
        let mut desk = Desk::new(self);
        let mut outcomes = Vec::new();
        let mut topics = BTreeSet::new();
        for (id, _) in self.meant(&mut desk, order).await? {
            let mut tries = 0;
            loop {
                let (mut letter, version) =
                    self.store.letter(&id).await?.ok_or_else(|| Error::NoSuch(id.to_string()))?;
                let (actor, reason, at) = (order.actor.clone(), reason.to_owned(), self.clock.now());
                let verdict = match letter.discard(Discarded { actor, reason, at }) {
                    Err(refusal) => Verdict::Refused(refusal.to_string()),
                    Ok(()) if !apply => Verdict::Ready,
                    Ok(()) if self.store.keep_letter(&letter, version, None).await? => Verdict::Discarded,
                    Ok(()) if tries < TRIES_MAX => {
                        tries += 1;
                        continue;
                    }
                    Ok(()) => return Err(Error::Contended(id)),
                };
                topics.extend(letter.topic.clone());
                let (about, topic) = (letter.about, letter.topic);
                outcomes.push(Outcome { id: id.clone(), about, topic, execution: None, verdict });
                break;
            }
        }
        if apply {
            self.end_alerts(&topics).await?;
        }
        Ok(outcomes)
    }

    /// What people were told of a topic's letters is over once none of them waits.
    pub(super) async fn end_alerts(&self, topics: &BTreeSet<String>) -> Result<(), StoreError> {
        let of_topic = |topic: &String| [(Kind::Dead, topic.clone()), (Kind::Parked, topic.clone())];
        let mut over: BTreeSet<(Kind, String)> = topics.iter().flat_map(of_topic).collect();
        let mut place: Option<String> = None;
        while !over.is_empty() {
            let page = self.store.letters(Letters::Open, place.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            place = Some(crate::port::place(last));
            for (letter, _) in &page {
                if let Some(topic) = &letter.topic {
                    over.remove(&(letter.kind, topic.clone()));
                }
            }
        }
        // What cannot be read now is told on; the next letter that is settled ends it.
        let Ok(alerts) = self.bus.alerts().await else { return Ok(()) };
        for alert in alerts.iter().filter(|alert| alert.turn == Turn::Raised) {
            let told = over.iter().find(|(kind, topic)| match kind {
                Kind::Dead => alert.key == waiting(topic),
                Kind::Parked => is_about_parked(alert.key.as_str(), topic),
                Kind::Undeliverable => false,
            });
            if let Some((_, topic)) = told {
                let text = format!("no letter of {topic} waits any more");
                let over = Alert::new(alert.key.clone(), alert.severity, Turn::Resolved, text, self.clock.now());
                self.alert(over).await;
            }
        }
        Ok(())
    }
}

/// Whether an alert is about inputs of a topic that were parked, for whatever reason.
fn is_about_parked(key: &str, topic: &str) -> bool {
    key.strip_prefix("parked:").and_then(|rest| rest.split_once(':')).is_some_and(|(_, of)| of == topic)
}
