//! What a store has kept of a date: its journal, and the partition as it stands.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::graph::Graph;
use crate::domain::id::PartitionKey;
use crate::domain::partition::Partition;
use crate::port::{JournalEntry, Store, StoreError};

use super::walk::Walk;

/// Entries of one date that are taken up. The worst day on record, with 7,139 runs of one node, has a tenth of that.
pub const ENTRIES_MAX: usize = 200_000;
/// Journal entries read at once.
const PAGE: usize = 500;

/// What was recorded of a date.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which date.
    pub key: PartitionKey,
    /// What was decided, oldest first.
    pub entries: Vec<JournalEntry>,
    /// Why the entries end before the record does, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// The partition as it stood when it was read.
    pub partition: Partition,
    /// So many commits made it.
    pub version: u64,
}

/// How far back a record reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// To the first thing that was ever decided about the date.
    Whole,
    /// Its first entries are not kept any more: what the date was like before is not known, so nothing can be built on it.
    Cut,
    /// Nothing was ever decided about the date.
    Nothing,
}

impl Record {
    /// Reads it.
    ///
    /// # Errors
    /// If the store cannot be read. A journal entry that cannot be trusted is no error: the record ends before it.
    pub async fn read(store: &dyn Store, key: &PartitionKey) -> Result<Self, StoreError> {
        // First, so that what is decided meanwhile is left aside rather than taken for a difference.
        let stored = store.load(key).await?;
        let mut entries: Vec<JournalEntry> = Vec::new();
        let (mut after, mut broken) = (0, None);
        loop {
            let page = match store.journal(Some(key), after, PAGE).await {
                Ok(page) => page,
                Err(StoreError::BadEntry { what, why, .. }) => {
                    broken = Some(format!("{what} is corrupt: {why}"));
                    break;
                }
                Err(error) => return Err(error),
            };
            let Some(last) = page.last() else { break };
            after = last.seq;
            entries.extend(page.into_iter().filter(|entry| entry.version <= stored.version));
            if entries.len() > ENTRIES_MAX {
                entries.truncate(ENTRIES_MAX);
                broken = Some(format!("it has more than {ENTRIES_MAX} entries; the rest was not read"));
                break;
            }
        }
        entries.sort_by_key(|entry| entry.version);
        Ok(Self {
            key: key.clone(),
            entries,
            broken,
            partition: Arc::unwrap_or_clone(stored.partition),
            version: stored.version,
        })
    }

    /// How far back it reaches, as far as `graph` can tell.
    pub fn reach(&self, graph: &Graph) -> Reach {
        match self.entries.first() {
            None if self.version == 0 => Reach::Nothing,
            None => Reach::Cut,
            Some(first) if first.version == 1 => Reach::Whole,
            // A commit that moved nothing but the time to wake leaves no entry. Where that is all that is missing, the
            // entries still make the partition.
            Some(_) if self.broken.is_none() && self.makes_its_partition(graph) => Reach::Whole,
            Some(_) => Reach::Cut,
        }
    }

    /// Whether folding the entries on `graph` gives the partition that was stored.
    pub fn makes_its_partition(&self, graph: &Graph) -> bool {
        let mut walk = Walk::new(graph, self.key.clone());
        self.entries.iter().for_each(|entry| {
            walk.take(entry);
        });
        walk.partition == self.partition
    }

    /// The revisions it was decided on, in the order in which they were first used.
    pub fn revisions(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for entry in &self.entries {
            if !found.contains(&entry.revision) {
                found.push(entry.revision);
            }
        }
        found
    }

    /// What is wrong with it as a record, where it came out of a file: nobody else has checked it.
    ///
    /// # Errors
    /// The first mistake, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(format!("{} has more than {ENTRIES_MAX} entries", self.key));
        }
        if self.partition.key != self.key {
            return Err(format!("the partition of {} is about {}", self.key, self.partition.key));
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.key != self.key) {
            return Err(format!("entry {} of {} is about {}", entry.seq, self.key, entry.key));
        }
        let versions = self.entries.iter().map(|entry| entry.version);
        if let Some((before, next)) = versions.clone().zip(versions.skip(1)).find(|(before, next)| next <= before) {
            return Err(format!("version {next} of {} stands after version {before}", self.key));
        }
        Ok(())
    }
}
