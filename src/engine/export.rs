//! History behind everything else: reads the journal by cursor, appends rows, moves the cursor after success.
//!
//! Bookkeeping never blocks orchestration: a warehouse that does not answer leaves the cursor where it is, and every row
//! has an insert id that follows from its entry, so a repeated append is harmless.

use std::sync::atomic::Ordering;

use super::Engine;
use crate::domain::effect::{Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::port::StoreError;
use crate::wire::history::rows;

/// Journal entries exported in one round.
const PAGE: usize = 200;

impl Engine {
    /// One round. Returns how many journal entries were exported.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn export(&self) -> Result<usize, StoreError> {
        let cursor = self.store.exported().await?;
        let entries = match self.store.journal(None, cursor, PAGE).await {
            Ok(entries) => entries,
            Err(StoreError::Corrupt { what, why }) => {
                // The first entry is the bad one. It is left behind for an operator, and the others are not.
                self.tell_of_gap(&what, &why).await;
                self.store.set_exported(cursor + 1).await?;
                return Ok(1);
            }
            Err(error) => return Err(error),
        };
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(0) };
        let mut tables: std::collections::BTreeMap<&'static str, Vec<_>> = std::collections::BTreeMap::new();
        for entry in &entries {
            let Some(pipeline) = self.pipeline(&entry.key.pipeline) else { continue };
            for (table, id, row) in rows(pipeline, entry) {
                tables.entry(table).or_default().push((id, row));
            }
        }
        for (table, rows) in tables {
            if let Err(error) = self.warehouse.append(table, rows).await {
                // It is tried again every few seconds, for hours where a quota is used up; once is enough to be told.
                if !self.history_waits.swap(true, Ordering::Relaxed) {
                    tracing::warn!(table, "history waits: {error}");
                }
                return Ok(0);
            }
        }
        if self.history_waits.swap(false, Ordering::Relaxed) {
            tracing::info!("history goes on");
        }
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
        };
        if let Err(error) = self.bus.alert(&alert).await {
            tracing::error!("raise {}: {error}", alert.key);
        }
    }
}
