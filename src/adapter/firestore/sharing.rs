//! Work that several processes on one database share: each effect is delivered, and the history written, by one of them.
//!
//! A claim is a write to the effect's own `due`, on condition that nobody has touched it since it was read. Whoever loses
//! leaves it alone; if the winner dies, `due` comes again.

use gcloud_sdk::google::firestore::v1::{BatchWriteRequest, Write};
use gcloud_sdk::prost_types;
use jiff::Timestamp;

use super::Firestore;
use super::document::{Only, Read, instant, integer, text, write};
use super::store::{CURSORS, OUTBOX, document_id, unavailable};
use crate::port::{OutboxEntry, StoreError};

/// Entries whose last change is remembered between reading and claiming: a page of the largest relay round, and more.
const SEEN_MAX: usize = 4096;

impl Firestore {
    /// Remembers what a claim will compare.
    pub(super) fn saw(&self, id: &str, updated: Option<prost_types::Timestamp>) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        if let Some(updated) = updated {
            seen.insert(id.to_owned(), updated);
        }
    }

    pub(super) async fn claim_outbox(
        &self,
        entries: Vec<(OutboxEntry, Timestamp)>,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut wanted = Vec::new();
        let mut writes: Vec<Write> = Vec::new();
        {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (entry, until) in entries {
                // What was not read by us since it last changed is claimed after the next reading.
                let Some(updated) = seen.remove(&entry.id) else { continue };
                let name = self.name(OUTBOX, &document_id(&entry.id));
                writes.push(write(name, vec![("due", instant(until))], Only::IfUnchanged(updated)));
                wanted.push(entry);
            }
        }
        if wanted.is_empty() {
            return Ok(wanted);
        }
        // Each for itself: one that somebody else was faster with is not to cost us the others.
        let request =
            BatchWriteRequest { database: self.db.get_database_path().clone(), writes, ..BatchWriteRequest::default() };
        let mut client = self.db.client().get();
        let answer = self.in_time(client.batch_write(self.timed(request))).await.map_err(unavailable)?.into_inner();
        let ours = wanted.into_iter().zip(answer.status).filter(|(_, status)| status.code == 0);
        Ok(ours.map(|(entry, _)| entry).collect())
    }

    pub(super) async fn take_lease(&self, work: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let half = now.saturating_add(until.duration_since(now) / 2).unwrap_or(until);
        let held = self.leases.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(work).copied();
        if held.is_some_and(|held| held > half) {
            return Ok(true);
        }
        let id = format!("{work}-lease");
        let name = self.name(CURSORS, &id);
        let mut ours = false;
        self.change(CURSORS, &id, |found| {
            let somebody = found.map(holder).transpose()?;
            ours = somebody.is_none_or(|(holder, until)| holder == self.process || until <= now);
            if !ours {
                return Ok(None);
            }
            let only = found.map_or(Only::IfNew, |found| found.updated().map_or(Only::IfThere, Only::IfUnchanged));
            Ok(Some(write(name.clone(), vec![("holder", text(&self.process)), ("until", instant(until))], only)))
        })
        .await?;
        let mut leases = self.leases.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if ours {
            leases.insert(work.to_owned(), until);
        } else {
            leases.remove(work);
        }
        Ok(ours)
    }

    pub(super) async fn take_of(&self, what: &str, window: Timestamp, want: u32, most: u32) -> Result<u32, StoreError> {
        let id = format!("{what}-taken");
        let name = self.name(CURSORS, &id);
        let mut ours = 0;
        self.change(CURSORS, &id, |found| {
            let same = found.map(|found| found.instant("window")).transpose()? == Some(window);
            let taken = found.filter(|_| same).map(|found| found.integer("taken")).transpose()?.unwrap_or(0);
            ours = want.min(most.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX)));
            if ours == 0 {
                return Ok(None);
            }
            let only = found.map_or(Only::IfNew, |found| found.updated().map_or(Only::IfThere, Only::IfUnchanged));
            let fields = vec![("window", instant(window)), ("taken", integer(taken + u64::from(ours)))];
            Ok(Some(write(name.clone(), fields, only)))
        })
        .await?;
        Ok(ours)
    }

    /// Tells the other processes that this one has read `what` up to `at`.
    pub(super) async fn tell_read(&self, what: &str, at: Timestamp) -> Result<(), StoreError> {
        let write = write(self.name(CURSORS, &format!("{what}-read")), vec![("until", instant(at))], Only::Always);
        self.apply(vec![write]).await.map(|_| ()).map_err(unavailable)
    }

    /// Up to when the process that reads `what` has read it.
    pub(super) async fn read_until(&self, what: &str) -> Result<Option<Timestamp>, StoreError> {
        match self.get(CURSORS, &format!("{what}-read")).await? {
            Some(found) => found.maybe_instant("until"),
            None => Ok(None),
        }
    }
}

fn holder(found: &Read) -> Result<(String, Timestamp), StoreError> {
    Ok((found.text("holder")?.to_owned(), found.instant("until")?))
}
