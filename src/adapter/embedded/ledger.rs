//! What people have been told: one row, replaced under its version.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::store::integer;
use super::text::{checksum, corrupt, json, read_json};
use crate::domain::notify::Ledger;
use crate::port::StoreError;

/// One row at most.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS ledger (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  version  INTEGER NOT NULL,
  document TEXT NOT NULL,
  checksum TEXT NOT NULL
)";

/// What has been told, and its version.
pub(super) fn read(db: &Connection) -> Result<(u64, Ledger), StoreError> {
    let row: Option<(i64, String, String)> = db
        .prepare_cached("SELECT version, document, checksum FROM ledger")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((version, document, stored)) = row else { return Ok((0, Ledger::default())) };
    if stored != checksum(&[&version.to_string(), &document]) {
        return Err(corrupt("the ledger", "its checksum does not match".into()));
    }
    Ok((version.unsigned_abs(), read_json(&document, "the ledger")?))
}

/// Replaces it, if `expected` is still its version.
pub(super) fn keep(db: &Connection, expected: u64, ledger: &Ledger) -> Result<bool, StoreError> {
    let (before, after) = (integer(expected), integer(expected + 1));
    let document = json(ledger)?;
    let kept = db
        .prepare_cached(
            "INSERT INTO ledger (id, version, document, checksum) SELECT 1, ?2, ?3, ?4 WHERE ?1 = 0 OR EXISTS
               (SELECT 1 FROM ledger)
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document,
               checksum = excluded.checksum WHERE version = ?1",
        )?
        .execute(params![before, after, document, checksum(&[&after.to_string(), &document])])?;
    Ok(kept > 0)
}
