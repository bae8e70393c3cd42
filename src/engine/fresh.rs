//! What this process has just decided, so that the relay need not read back from the store what it has had in its hands.
//!
//! It is a hint and no truth: whose an effect is, the claim says.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::port::OutboxEntry;

/// Effects that wait here at most; beyond that they are found in the store like those of others.
const FRESH_MAX: usize = 256;

/// Effects that were committed here and are not taken up yet.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    known: Mutex<Known>,
    /// Rings when something is handed over.
    pub(super) handed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether anybody takes up what is put here.
    open: bool,
    /// Effects of commits under way.
    expected: usize,
    waiting: Vec<OutboxEntry>,
    /// Whether the store may have something that is not here.
    more: bool,
    read_at: Option<Timestamp>,
}

/// A commit under way, whose effects are handed over when it is done.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    fresh: &'a Fresh,
    count: usize,
}

impl Fresh {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on somebody takes up what is put here, or nobody does.
    pub(super) fn open(&self, open: bool) {
        self.known().open = open;
    }

    /// A commit of so many effects begins. Nothing where they are to be looked for in the store.
    pub(super) fn expect(&self, count: usize) -> Option<Expected<'_>> {
        let mut known = self.known();
        let has_room = known.open && known.waiting.len() + known.expected + count <= FRESH_MAX;
        if count > 0 && has_room {
            known.expected += count;
            return Some(Expected { fresh: self, count });
        }
        known.more |= count > 0;
        None
    }

    /// Takes what waits.
    pub(super) fn take(&self) -> Vec<OutboxEntry> {
        std::mem::take(&mut self.known().waiting)
    }

    /// Puts back what had no room.
    pub(super) fn put_back(&self, entries: impl IntoIterator<Item = OutboxEntry>) {
        self.known().waiting.extend(entries);
    }

    /// What the store has is not known here any more: it is to be read before long.
    pub(super) fn look(&self) {
        self.known().more = true;
    }

    /// Whether the store is to be read at `now`: it may have more, or was last read longer ago than `every`. It counts as read.
    pub(super) fn reads(&self, now: Timestamp, every: SignedDuration) -> bool {
        let mut known = self.known();
        let is_known = known.open
            && !known.more
            && known.read_at.is_some_and(|read| now >= read && now.duration_since(read) < every);
        if !is_known {
            (known.more, known.read_at) = (false, Some(now));
        }
        !is_known
    }

    /// Whether nothing waits here and no commit is to put anything here.
    pub(super) fn is_empty(&self) -> bool {
        let known = self.known();
        known.waiting.is_empty() && known.expected == 0
    }
}

impl Expected<'_> {
    /// They are committed.
    pub(super) fn hand_over(self, entries: Vec<OutboxEntry>) {
        self.fresh.known().waiting.extend(entries);
        self.fresh.handed.notify_one();
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.fresh.known().expected -= self.count;
    }
}

/// The latest dates first, each effect once.
pub(super) fn in_order(mut entries: Vec<OutboxEntry>) -> Vec<OutboxEntry> {
    let mut ids = BTreeSet::new();
    entries.retain(|entry| ids.insert(entry.id.clone()));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.key.date));
    entries
}
