//! What this process has just decided, so that the relay need not read back from the store what it has had in its hands.
//!
//! It is a hint and no truth: whose an effect is, the claim says. What is not here is found by reading the store, and when that
//! is to be read is known here as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::port::OutboxEntry;

/// Effects that wait here at most; beyond that they are found in the store like those of others.
const FRESH_MAX: usize = 256;
/// Times at which something is tried again that are remembered, the next ones; the others are found when the store is read.
const NEXT_MAX: usize = 256;
/// Effects that are remembered as left to others; what is forgotten is taken up as soon as it is due.
const CEDED_MAX: usize = 1_024;
/// The shortest wait for what is tried again.
const NAP_MIN: SignedDuration = SignedDuration::from_millis(1);

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
    /// Effects of commits under way, by their ids.
    expected: BTreeSet<String>,
    waiting: Vec<OutboxEntry>,
    /// Whether the store may have something that is not here,
    more: bool,
    /// or will have then: what is tried again.
    next: BTreeSet<Timestamp>,
    read_at: Option<Timestamp>,
    /// What others may have first, and until when.
    ceded: BTreeMap<String, Timestamp>,
}

/// A commit under way, whose effects are handed over when it is done.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    fresh: &'a Fresh,
    /// None are left once they are handed over.
    ids: Vec<String>,
}

impl Fresh {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on somebody takes up what is put here, or nobody does.
    pub(super) fn open(&self, open: bool) {
        self.known().open = open;
    }

    /// A commit of these effects begins. Nothing where they are to be looked for in the store, when it is done.
    pub(super) fn expect(&self, entries: &[OutboxEntry]) -> Option<Expected<'_>> {
        let mut known = self.known();
        let has_room = known.open && known.waiting.len() + known.expected.len() + entries.len() <= FRESH_MAX;
        if entries.is_empty() || !has_room {
            return None;
        }
        let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
        known.expected.extend(ids.iter().cloned());
        Some(Expected { fresh: self, ids })
    }

    /// Takes what waits. Out of what was read of the store goes what is about to be handed over: a store that does not hide what is
    /// claimed shows it as soon as it is committed, and it would be taken up a second time.
    pub(super) fn take(&self, read: &mut Vec<OutboxEntry>) -> Vec<OutboxEntry> {
        let mut known = self.known();
        read.retain(|entry| !known.expected.contains(&entry.id));
        std::mem::take(&mut known.waiting)
    }

    /// Puts back what had no room.
    pub(super) fn put_back(&self, entries: impl IntoIterator<Item = OutboxEntry>) {
        self.known().waiting.extend(entries);
    }

    /// What the store has is not known here any more: it is to be read before long.
    pub(super) fn look(&self) {
        self.known().more = true;
    }

    /// Something is tried again at `next`.
    pub(super) fn look_at(&self, next: Timestamp) {
        let mut known = self.known();
        known.next.insert(next);
        if known.next.len() > NEXT_MAX {
            known.next.pop_last();
        }
    }

    /// The effect `id` is left to other processes until then.
    pub(super) fn cede(&self, id: &str, until: Timestamp) {
        let mut known = self.known();
        known.ceded.insert(id.to_owned(), until);
        if known.ceded.len() > CEDED_MAX
            && let Some(next) = known.ceded.iter().min_by_key(|(_, until)| **until).map(|(id, _)| id.clone())
        {
            known.ceded.remove(&next);
        }
    }

    /// Whether the effect `id` is left to other processes at `now`. What was is forgotten.
    pub(super) fn is_ceded(&self, id: &str, now: Timestamp) -> bool {
        let mut known = self.known();
        known.ceded.retain(|_, until| now < *until);
        known.ceded.contains_key(id)
    }

    /// How long after `now` the store may go unread, which is never longer than `every`. What has come is said once.
    pub(super) fn nap(&self, now: Timestamp, every: SignedDuration) -> SignedDuration {
        let mut known = self.known();
        if known.come(now) {
            known.more = true;
            return NAP_MIN;
        }
        known.next.first().map_or(every, |next| next.duration_since(now).clamp(NAP_MIN, every))
    }

    /// Whether the store is to be read at `now`: it may have more, or was last read longer ago than `every`. It counts as read.
    pub(super) fn reads(&self, now: Timestamp, every: SignedDuration) -> bool {
        let mut known = self.known();
        let come = known.come(now);
        let is_known = known.open
            && !known.more
            && !come
            && known.read_at.is_some_and(|read| now >= read && now.duration_since(read) < every);
        if !is_known {
            (known.more, known.read_at) = (false, Some(now));
        }
        !is_known
    }

    /// Whether nothing waits here and no commit is to put anything here.
    pub(super) fn is_empty(&self) -> bool {
        let known = self.known();
        known.waiting.is_empty() && known.expected.is_empty()
    }
}

impl Known {
    fn expects_no_more(&mut self, ids: &[String]) {
        ids.iter().for_each(|id| _ = self.expected.remove(id));
    }

    /// Whether anything that is tried again has come by `now`; it is forgotten.
    fn come(&mut self, now: Timestamp) -> bool {
        let before = self.next.len();
        self.next.retain(|next| now < *next);
        self.next.len() < before
    }
}

impl Expected<'_> {
    /// They are committed.
    pub(super) fn hand_over(mut self, entries: Vec<OutboxEntry>) {
        let mut known = self.fresh.known();
        known.expects_no_more(&std::mem::take(&mut self.ids));
        known.waiting.extend(entries);
        drop(known);
        self.fresh.handed.notify_one();
    }
}

impl Drop for Expected<'_> {
    /// Whether they are committed is not known, or they are not: the store says it.
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            let mut known = self.fresh.known();
            known.expects_no_more(&self.ids);
            known.more = true;
        }
    }
}

/// The latest dates first, within a date in the order they were decided, each effect once.
pub(super) fn in_order(mut entries: Vec<OutboxEntry>) -> Vec<OutboxEntry> {
    let mut ids = BTreeSet::new();
    entries.retain(|entry| ids.insert(entry.id.clone()));
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.key.date), entry.decided_at));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::effect::Effect;
    use crate::domain::id::PartitionKey;

    const EVERY: SignedDuration = SignedDuration::from_millis(500);

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_767_000_000_000 + milliseconds).unwrap()
    }

    fn entry(date: &str, id: &str) -> OutboxEntry {
        decided(date, id, 0)
    }

    fn decided(date: &str, id: &str, when: i64) -> OutboxEntry {
        let key = PartitionKey::new("nba", date.parse().unwrap());
        let effect = Effect::Observe { date: key.date, node: "n".into() };
        OutboxEntry { id: id.to_owned(), key, effect, decided_at: at(when), tries: 0 }
    }

    fn ids(entries: &[OutboxEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn the_store_is_read_now_and_then_and_when_it_may_have_more() {
        let fresh = Fresh::default();
        assert!(fresh.reads(at(0), EVERY) && fresh.reads(at(1), EVERY), "nobody is handed anything");
        fresh.open(true);
        assert!(!fresh.reads(at(2), EVERY), "it was just read");
        assert!(fresh.reads(at(501), EVERY));
        fresh.look();
        assert!(fresh.reads(at(502), EVERY) && !fresh.reads(at(503), EVERY));
        fresh.look_at(at(600));
        fresh.look_at(at(700));
        assert_eq!(fresh.nap(at(503), EVERY), SignedDuration::from_millis(97));
        assert!(!fresh.reads(at(599), EVERY) && fresh.reads(at(600), EVERY));
        assert_eq!(fresh.nap(at(600), EVERY), SignedDuration::from_millis(100));
        // It has come, and nobody may read: that is no reason to ask again and again.
        assert_eq!([0, 1, 2].map(|later| fresh.nap(at(700 + later), EVERY)), [NAP_MIN, EVERY, EVERY]);
        assert!(fresh.reads(at(703), EVERY) && !fresh.reads(at(704), EVERY));
        assert!(fresh.reads(at(400), EVERY), "the clock was set back");
    }

    #[test]
    fn what_failed_here_is_left_to_others_for_a_while() {
        let fresh = Fresh::default();
        fresh.cede("a", at(10));
        fresh.cede("b", at(20));
        assert!(fresh.is_ceded("a", at(9)) && !fresh.is_ceded("a", at(10)) && fresh.is_ceded("b", at(19)));
        (0..CEDED_MAX).for_each(|nth| fresh.cede(&nth.to_string(), at(100)));
        assert!(!fresh.is_ceded("b", at(19)), "what is next has made room");
        assert!((0..CEDED_MAX).all(|nth| fresh.is_ceded(&nth.to_string(), at(99))));
    }

    #[test]
    fn what_is_committed_is_handed_over_once_and_what_is_not_is_not() {
        let fresh = Fresh::default();
        let [a, b, c] = ["a", "b", "c"].map(|id| entry("2026-01-22", id));
        let mut none = Vec::new();
        assert!(fresh.expect(std::slice::from_ref(&a)).is_none(), "nobody takes it up");
        fresh.open(true);
        assert!(fresh.expect(&[]).is_none(), "there is nothing to be taken up");
        let both = [a.clone(), b.clone()];
        let (done, failed) = (fresh.expect(&both).unwrap(), fresh.expect(std::slice::from_ref(&c)).unwrap());
        // The store shows what is committed before it is handed over.
        let mut read = vec![a, b, c.clone(), entry("2026-01-22", "of another")];
        assert_eq!((fresh.take(&mut read).len(), ids(&read)), (0, vec!["of another"]));
        fresh.reads(at(0), EVERY);
        assert!(!fresh.is_empty(), "commits are under way");
        done.hand_over(both.into());
        assert!(!fresh.reads(at(1), EVERY), "all of it is known");
        drop(failed);
        assert!(fresh.reads(at(2), EVERY), "whether it is committed the store says");
        let mut read = vec![c];
        assert_eq!((ids(&fresh.take(&mut read)), read.len()), (vec!["a", "b"], 1));
        assert!(fresh.is_empty());
        let many: Vec<OutboxEntry> = (0..=FRESH_MAX).map(|nth| entry("2026-01-22", &nth.to_string())).collect();
        assert!(fresh.expect(&many).is_none(), "there is no room");
        assert_eq!(fresh.take(&mut none).len(), 0);
    }

    #[test]
    fn the_latest_dates_go_first_in_their_order_and_each_effect_once() {
        let found = vec![
            entry("2026-01-21", "a"),
            entry("2026-01-22", "b"),
            entry("2026-01-22", "c"),
            entry("2026-01-22", "b"),
        ];
        assert_eq!(ids(&in_order(found)), ["b", "c", "a"]);
        let put_back = vec![decided("2026-01-22", "later", 7), decided("2026-01-22", "earlier", 5)];
        assert_eq!(ids(&in_order(put_back)), ["earlier", "later"]);
    }
}
