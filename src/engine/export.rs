//! History behind everything else: reads the journal by cursor, appends rows, moves the cursor after success.
//!
//! Bookkeeping never blocks orchestration: a warehouse that does not answer leaves the cursor where it is, and every row
//! has an insert id that follows from its entry, so a repeated append is harmless.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::SignedDuration;

use super::Engine;
use crate::crash::{self, Place};
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::domain::time::after;
use crate::port::StoreError;
use crate::wire::history::rows;

/// Journal entries exported in one round.
const PAGE: usize = 200;
/// How long one process has the export to itself. A page takes seconds; after a death another waits this long.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// What this process knows beyond the cursor.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last entry that each table has. One table that takes no rows holds the cursor, and the others' rows must not be
    /// appended again with every try: a warehouse forgets their ids after a minute.
    appended: Mutex<BTreeMap<&'static str, u64>>,
    /// Whether it has been told that the history waits.
    waits: AtomicBool,
}

impl Progress {
    fn has(&self, table: &str, seq: u64) -> bool {
        self.appended.lock().unwrap_or_else(PoisonError::into_inner).get(table).is_some_and(|last| seq <= *last)
    }

    fn reached(&self, table: &'static str, seq: u64) {
        self.appended.lock().unwrap_or_else(PoisonError::into_inner).insert(table, seq);
    }

    /// Tells when waiting begins and ends: it is tried every few seconds, for hours where a quota is used up.
    fn tell(&self, waits: Option<&(&'static str, String)>) {
        let waited = self.waits.swap(waits.is_some(), Ordering::Relaxed);
        match waits {
            Some((table, error)) if !waited => tracing::warn!(table, "history waits: {error}"),
            None if waited => tracing::info!("history goes on"),
            Some(_) | None => {}
        }
    }
}

impl Engine {
    /// One round. Returns how many journal entries were exported.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn export(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        if self.watch.refusal().is_some() || !self.store.lease("export", now, after(now, LEASE)).await? {
            return Ok(0);
        }
        let cursor = self.store.exported().await?;
        let entries = match self.store.journal(None, cursor, PAGE).await {
            Ok(entries) => entries,
            Err(StoreError::BadEntry { seq, what, why }) => {
                // It is left behind for an operator, and the others are not.
                self.tell_of_gap(&what, &why).await;
                self.store.set_exported(seq).await?;
                return Ok(1);
            }
            Err(error) => return Err(error),
        };
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(0) };
        let mut tables: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
        for entry in &entries {
            let Some(pipeline) = self.pipeline(&entry.key.pipeline) else { continue };
            for (table, id, row) in rows(pipeline, entry) {
                if !self.progress.has(table, entry.seq) {
                    tables.entry(table).or_default().push((id, row));
                }
            }
        }
        let mut waits = None;
        for (table, rows) in tables {
            match self.warehouse.append(table, rows).await {
                Ok(()) => self.progress.reached(table, last),
                Err(error) => waits = Some((table, error)),
            }
        }
        self.progress.tell(waits.as_ref());
        if waits.is_some() {
            return Ok(0);
        }
        crash::at(Place::HistoryUnmarked);
        self.store.set_exported(last).await?;
        Ok(entries.len())
    }

    async fn tell_of_gap(&self, what: &str, why: &str) {
        let alert = Alert {
            key: AlertKey::new(format!("history-gap:{what}")),
            severity: Severity::Critical,
            turn: Turn::Raised,
            text: format!("{what} cannot be read and is missing from the history: {why}"),
            at: self.clock.now(),
            about: About::default().done("the history goes on after it"),
        };
        self.alert(alert).await;
    }
}
