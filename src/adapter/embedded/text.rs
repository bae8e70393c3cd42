//! How instants, documents and checksums are written into the file, so that `sqlite3` shows them readably.

use std::fmt::Write;

use jiff::Timestamp;
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::port::StoreError;

/// RFC 3339 in UTC with nine digits: the texts sort as the instants do, and nothing is rounded.
pub(super) fn instant(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// Reads what [`instant`] wrote, in column `column` of the record `what`.
pub(super) fn read_instant(row: &Row<'_>, column: &str, what: &str) -> Result<Timestamp, StoreError> {
    let text: String = get(row, column, what)?;
    text.parse().map_err(|error| corrupt(what, format!("{column}: {error}")))
}

/// A column whose type must be right, or the record is corrupt.
pub(super) fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: &str, what: &str) -> Result<T, StoreError> {
    row.get(column).map_err(|error| corrupt(what, format!("{column}: {error}")))
}

/// A JSON text for storing.
pub(super) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    // Only a type that cannot be JSON at all fails here, and then nothing has been stored.
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(format!("write as JSON: {error}")))
}

/// Reads a JSON text back.
pub(super) fn read_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| corrupt(what, format!("read its document: {error}")))
}

/// A digest over the parts of a record. It finds what a disk did, not what a person did on purpose.
pub(super) fn checksum(parts: &[&str]) -> String {
    /// Sixteen bytes: an accident that keeps these is not met with.
    const KEPT: usize = 16;
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(KEPT).fold(String::with_capacity(2 * KEPT), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The error of a record that cannot be trusted.
pub(super) fn corrupt(what: &str, why: String) -> StoreError {
    StoreError::Corrupt { what: what.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_sort_as_their_texts_do() {
        // Fixed width: otherwise `…:05Z` would sort after `…:05.5Z`.
        let texts: Vec<String> =
            ["2026-01-22T03:04:05Z", "2026-01-22T03:04:05.000001Z", "2026-01-22T03:04:05.5Z", "2026-01-22T03:04:06Z"]
                .iter()
                .map(|text| instant(text.parse().unwrap()))
                .collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[1], "2026-01-22T03:04:05.000001000Z");
    }
}
