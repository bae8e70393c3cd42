//! Work that several processes on one database share: each effect is delivered, and the history written, by one of them.
//!
//! A claim is a write to the effect's own `due`, on condition that nobody has touched it since it was read. Whoever loses
//! leaves it alone; if the winner dies, `due` comes again. What a process decides for itself it claims with the commit.

use gcloud_sdk::google::firestore::v1::{BatchWriteRequest, Write};
use gcloud_sdk::prost_types;
use jiff::{SignedDuration, Timestamp};

use super::Firestore;
use super::document::{Only, Read, instant, integer, text, write};
use super::store::{CURSORS, OUTBOX, document_id, is_refusal, unavailable};
use super::{Seen, Taken};
use crate::domain::time::after;
use crate::port::{OutboxEntry, StoreError};

/// Entries whose last change is remembered between reading and claiming: a page of the largest relay round, and more.
const SEEN_MAX: usize = 4096;
/// A claim that came with the commit will do although it ends so much earlier than what is asked for.
const EARLIER_MAX: SignedDuration = SignedDuration::from_secs(5);

impl Firestore {
    /// Remembers what a claim will compare, and until when it is claimed already.
    pub(super) fn saw(&self, id: &str, updated: Option<prost_types::Timestamp>, claimed_until: Option<Timestamp>) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        // What came with the commit compares with the commit until it is claimed: by then somebody else may have it.
        let is_ours = claimed_until.is_none() && seen.get(id).is_some_and(|seen| seen.claimed_until.is_some());
        if let Some(updated) = updated.filter(|_| !is_ours) {
            seen.insert(id.to_owned(), Seen { updated, claimed_until });
        }
    }

    pub(super) async fn claim_outbox(
        &self,
        entries: Vec<(OutboxEntry, Timestamp)>,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let (mut claimed, mut wanted) = (Vec::new(), Vec::new());
        let mut writes: Vec<Write> = Vec::new();
        {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (entry, until) in entries {
                // What was not read by us since it last changed is claimed after the next reading.
                let Some(seen) = seen.remove(&entry.id) else { continue };
                // A claim that ends later than what is asked for is of a clock that was set back since.
                if seen.claimed_until.is_some_and(|claimed| claimed <= until && after(claimed, EARLIER_MAX) >= until) {
                    claimed.push(entry);
                    continue;
                }
                let name = self.name(OUTBOX, &document_id(&entry.id));
                writes.push(write(name, vec![("due", instant(until))], Only::IfUnchanged(seen.updated)));
                wanted.push((entry, seen));
            }
        }
        if wanted.is_empty() {
            return Ok(claimed);
        }
        // Each for itself: one that somebody else was faster with is not to cost us the others.
        let request =
            BatchWriteRequest { database: self.db.get_database_path().clone(), writes, ..BatchWriteRequest::default() };
        let mut client = self.db.client().get();
        match self.in_time(client.batch_write(self.timed(request))).await {
            Ok(answer) => {
                let ours = wanted.into_iter().zip(answer.into_inner().status).filter(|(_, status)| status.code == 0);
                claimed.extend(ours.map(|((entry, _), _)| entry));
                Ok(claimed)
            }
            Err(status) => {
                // Asked for again, it compares the same: if it was claimed and not said so, it is free when its time is over.
                let mut again = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                again.extend(wanted.into_iter().map(|(entry, seen)| (entry.id, seen)));
                if claimed.is_empty() { Err(unavailable(status)) } else { Ok(claimed) }
            }
        }
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
        let fields = |taken: u64| vec![("window", instant(window)), ("taken", integer(taken))];
        let ours_of = |taken: u64| want.min(most.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX)));
        // As this process left it, for as long as nobody else has touched it.
        if let Some(left) = self.left_of(what, None).filter(|left| left.window == window) {
            let ours = ours_of(left.taken);
            // It only grows within its window.
            if ours == 0 {
                self.left_of(what, Some(left));
                return Ok(0);
            }
            let taken = left.taken + u64::from(ours);
            match self.apply(vec![write(name.clone(), fields(taken), Only::IfUnchanged(left.updated))]).await {
                Ok(done) => {
                    let updated = done.write_results.first().and_then(|result| result.update_time);
                    self.left_of(what, updated.map(|updated| Taken { updated, window, taken }));
                    return Ok(ours);
                }
                Err(status) if is_refusal(&status) => {}
                Err(status) => return Err(unavailable(status)),
            }
        }
        let (mut ours, mut taken) = (0, 0);
        let updated = self
            .change(CURSORS, &id, |found| {
                let same = found.map(|found| found.instant("window")).transpose()? == Some(window);
                taken = found.filter(|_| same).map(|found| found.integer("taken")).transpose()?.unwrap_or(0);
                ours = ours_of(taken);
                if ours == 0 {
                    return Ok(None);
                }
                let only = found.map_or(Only::IfNew, |found| found.updated().map_or(Only::IfThere, Only::IfUnchanged));
                taken += u64::from(ours);
                Ok(Some(write(name.clone(), fields(taken), only)))
            })
            .await?;
        self.left_of(what, updated.map(|updated| Taken { updated, window, taken }));
        Ok(ours)
    }

    /// What this process last left of `what`, in whose place it leaves `next`.
    fn left_of(&self, what: &str, next: Option<Taken>) -> Option<Taken> {
        let mut taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let left = taken.remove(what);
        if let Some(next) = next {
            taken.insert(what.to_owned(), next);
        }
        left
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
