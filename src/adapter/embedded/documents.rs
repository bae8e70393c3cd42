//! What is kept as a whole under a name: one row each, replaced under its version.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;

use super::store::integer;
use super::text::{checksum, corrupt, json, read_json};
use crate::port::StoreError;

pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS documents (
  name     TEXT PRIMARY KEY,
  version  INTEGER NOT NULL,
  document TEXT NOT NULL,
  checksum TEXT NOT NULL
) WITHOUT ROWID";

/// What is kept under a name, and its version.
pub(super) fn read(db: &Connection, name: &str) -> Result<(u64, Option<Value>), StoreError> {
    let row: Option<(i64, String, String)> = db
        .prepare_cached("SELECT version, document, checksum FROM documents WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((version, document, stored)) = row else { return Ok((0, None)) };
    if stored != checksum(&[name, &version.to_string(), &document]) {
        return Err(corrupt(name, "its checksum does not match".into()));
    }
    Ok((version.unsigned_abs(), Some(read_json(&document, name)?)))
}

/// Replaces it, if `expected` is still its version.
pub(super) fn keep(db: &Connection, name: &str, expected: u64, document: &Value) -> Result<bool, StoreError> {
    let (before, after) = (integer(expected), integer(expected + 1));
    let document = json(document)?;
    let kept = db
        .prepare_cached(
            "INSERT INTO documents (name, version, document, checksum) SELECT ?1, ?3, ?4, ?5 WHERE ?2 = 0 OR EXISTS
               (SELECT 1 FROM documents WHERE name = ?1)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version, document = excluded.document,
               checksum = excluded.checksum WHERE version = ?2",
        )?
        .execute(params![name, before, after, document, checksum(&[name, &after.to_string(), &document])])?;
    Ok(kept > 0)
}
