//! Plans of backfill as rows.

use rusqlite::{Connection, params};

use super::store::integer;
use super::text::{checksum, corrupt, get, instant, json, read_json};
use crate::domain::backfill::{Plan, Status};
use crate::domain::id::PipelineId;
use crate::port::{PLANS_MAX, StoreError};

/// Documents are JSON, as those of partitions.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS plans (
  pipeline TEXT NOT NULL,
  id       TEXT NOT NULL,
  version  INTEGER NOT NULL,
  made_at  TEXT NOT NULL,
  is_over  INTEGER NOT NULL,
  document TEXT NOT NULL,
  checksum TEXT NOT NULL,
  PRIMARY KEY (pipeline, id)
) WITHOUT ROWID;";

/// A plan as the texts that are stored.
pub(super) struct Row {
    pipeline: String,
    id: String,
    expected: i64,
    made_at: String,
    is_over: bool,
    document: String,
    checksum: String,
}

impl Row {
    pub(super) fn of(plan: &Plan, expected: u64) -> Result<Self, StoreError> {
        let (pipeline, id) = (plan.pipeline.to_string(), plan.id.to_string());
        let (document, expected) = (json(plan)?, integer(expected));
        let checksum = sum(&pipeline, &id, expected + 1, &document);
        let is_over = matches!(plan.status, Status::Over | Status::Cancelled);
        Ok(Self { pipeline, id, expected, made_at: instant(plan.made_at), is_over, document, checksum })
    }

    pub(super) fn store(self, db: &Connection) -> Result<bool, StoreError> {
        let sql = if self.expected == 0 {
            "INSERT INTO plans (pipeline, id, version, made_at, is_over, document, checksum)
             VALUES (?1, ?2, ?3 + 1, ?4, ?5, ?6, ?7) ON CONFLICT (pipeline, id) DO NOTHING"
        } else {
            "UPDATE plans SET version = ?3 + 1, made_at = ?4, is_over = ?5, document = ?6, checksum = ?7
             WHERE pipeline = ?1 AND id = ?2 AND version = ?3"
        };
        let row =
            params![self.pipeline, self.id, self.expected, self.made_at, self.is_over, self.document, self.checksum];
        let stored = db.prepare_cached(sql)?.execute(row)? == 1;
        if stored && self.expected == 0 {
            db.prepare_cached(
                "DELETE FROM plans WHERE pipeline = ?1 AND document ->> '$.status' <> 'running' AND id NOT IN
                   (SELECT id FROM plans WHERE pipeline = ?1
                    ORDER BY document ->> '$.status' = 'running' DESC, is_over, made_at DESC, id LIMIT ?2)",
            )?
            .execute(params![self.pipeline, limit()])?;
        }
        Ok(stored)
    }
}

pub(super) fn all(db: &Connection, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT * FROM plans WHERE pipeline = ?1
         ORDER BY document ->> '$.status' = 'running' DESC, is_over, made_at DESC, id LIMIT ?2",
    )?;
    let rows = query.query_and_then(params![pipeline.as_str(), limit()], |row| {
        let id: String = get(row, "id", "a plan")?;
        let what = format!("plan/{pipeline}/{id}");
        let version: i64 = get(row, "version", &what)?;
        let document: String = get(row, "document", &what)?;
        if get::<String>(row, "checksum", &what)? != sum(pipeline.as_str(), &id, version, &document) {
            return Err(corrupt(&what, "its checksum does not match".into()));
        }
        Ok((read_json(&document, &what)?, version.unsigned_abs()))
    })?;
    rows.collect()
}

fn limit() -> i64 {
    i64::try_from(PLANS_MAX).unwrap_or(i64::MAX)
}

fn sum(pipeline: &str, id: &str, version: i64, document: &str) -> String {
    checksum(&[pipeline, id, &version.to_string(), document])
}
