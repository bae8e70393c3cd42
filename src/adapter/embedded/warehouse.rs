//! A small stand-in for the analytics warehouse: how much of each output is there, reports, and the history of runs.
//!
//! The history tables have the names and columns of the warehouse they stand for, so that a query written for one
//! reads the other. Coverage and reports are kept as they were told at each instant; an answer never looks ahead.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params, params_from_iter};
use serde_json::Value;

use super::Embedded;
use super::database::lock;
use super::text::{self, corrupt, get, instant};
use crate::domain::coverage::Coverage;
use crate::domain::id::{CheckId, NodeId, PipelineId, UnitId};
use crate::port::{Answer, Reported, Row, StoreError, Warehouse};
use crate::wire::report;
use crate::wire::table::{self, Column, Kind, Mode, TABLES, Table};

/// The row of the whole output among the rows of its units.
const WHOLE: &str = "";

/// Under which name the answer to a check is kept, beside those about nodes' outputs.
pub fn question(node: &NodeId, check: &CheckId) -> NodeId {
    NodeId::new(format!("{node}#{check}"))
}

#[async_trait]
impl Warehouse for Embedded {
    async fn coverage(&self, pipeline: &PipelineId, node: &NodeId, date: Date, at: Timestamp) -> Answer {
        if let Some(reason) = self.told_unavailable() {
            return Answer::Unknown(reason);
        }
        let (pipeline, node) = (pipeline.clone(), node.clone());
        let answer = self.database.read(move |db| newest(db, &pipeline, &node, date, at)).await;
        answer.unwrap_or_else(|error| Answer::Unknown(error.to_string()))
    }

    async fn check(&self, pipeline: &PipelineId, node: &NodeId, check: &CheckId, date: Date, at: Timestamp) -> Answer {
        self.coverage(pipeline, &question(node, check), date, at).await
    }

    async fn report(&self, pipeline: &PipelineId, report: report::Kind, date: Date, at: Timestamp) -> Reported {
        if let Some(reason) = self.told_unavailable() {
            return Reported::Unknown(reason);
        }
        let pipeline = pipeline.clone();
        let reported = self.database.read(move |db| newest_report(db, &pipeline, report, date, at)).await;
        reported.unwrap_or_else(|error| Reported::Unknown(error.to_string()))
    }

    async fn append(&self, table: &str, rows: Vec<(String, Row)>) -> Result<(), String> {
        if let Some(reason) = self.told_unavailable() {
            return Err(reason);
        }
        let declared = table::find(table, &rows)?;
        let appended = self.database.write(move |db| append(db, declared, rows)).await;
        appended.map_err(|error| format!("append to {table}: {error}"))
    }
}

impl Embedded {
    /// Makes `coverage` the answer from `as_of` on, with the units it is made of.
    pub async fn put_coverage(
        &self,
        pipeline: &PipelineId,
        node: &NodeId,
        date: Date,
        coverage: Coverage,
        units: BTreeMap<UnitId, Coverage>,
        as_of: Timestamp,
    ) -> Result<(), StoreError> {
        let (pipeline, node) = (pipeline.clone(), node.clone());
        self.database
            .write(move |db| {
                let (date, as_of) = (date.to_string(), instant(as_of));
                // Put again for the same instant, it is a correction, and units left out are gone.
                db.prepare_cached(
                    "DELETE FROM warehouse_coverage WHERE pipeline = ?1 AND node = ?2 AND date = ?3 AND as_of = ?4",
                )?
                .execute([pipeline.as_str(), node.as_str(), &date, &as_of])?;
                let mut insert = db.prepare_cached(
                    "INSERT INTO warehouse_coverage (pipeline, node, date, as_of, unit, observed, expected)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?;
                let parts = units.iter().map(|(unit, coverage)| (unit.as_str(), *coverage));
                for (unit, coverage) in parts.chain([(WHOLE, coverage)]) {
                    insert.execute(params![
                        pipeline.as_str(),
                        node.as_str(),
                        date,
                        as_of,
                        unit,
                        coverage.observed(),
                        coverage.expected(),
                    ])?;
                }
                Ok(())
            })
            .await
    }

    /// Makes `rows` the answer from `as_of` on. The caller has checked them.
    ///
    /// # Errors
    /// If the file does not take them.
    pub async fn put_report(
        &self,
        pipeline: &PipelineId,
        report: report::Kind,
        date: Date,
        rows: Vec<Row>,
        as_of: Timestamp,
    ) -> Result<(), StoreError> {
        let pipeline = pipeline.clone();
        let rows = text::json(&rows)?;
        self.database
            .write(move |db| {
                db.prepare_cached(
                    "INSERT INTO warehouse_report (pipeline, report, date, as_of, rows) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (pipeline, report, date, as_of) DO UPDATE SET rows = excluded.rows",
                )?
                .execute([
                    pipeline.as_str(),
                    report.as_str(),
                    &date.to_string(),
                    &instant(as_of),
                    &rows,
                ])?;
                Ok(())
            })
            .await
    }

    /// Lets the warehouse be away for `reason`, until told `None`. Store and bus go on.
    pub fn set_unavailable(&self, reason: Option<String>) {
        *lock(&self.unavailable) = reason;
    }

    /// A history table's rows in the order they were appended, columns without a value left out.
    pub async fn history(&self, table: &str, limit: usize) -> Result<Vec<Row>, String> {
        let declared = table::find(table, &[])?;
        let rows = self.database.read(move |db| history(db, declared, limit)).await;
        rows.map_err(|error| format!("read {table}: {error}"))
    }

    fn told_unavailable(&self) -> Option<String> {
        lock(&self.unavailable).clone()
    }
}

fn newest(
    db: &Connection,
    pipeline: &PipelineId,
    node: &NodeId,
    date: Date,
    at: Timestamp,
) -> Result<Answer, StoreError> {
    let what = format!("warehouse_coverage/{pipeline}/{date}/{node}");
    let mut query = db.prepare_cached(
        "SELECT unit, observed, expected FROM warehouse_coverage
         WHERE pipeline = ?1 AND node = ?2 AND date = ?3 AND as_of =
           (SELECT max(as_of) FROM warehouse_coverage
            WHERE pipeline = ?1 AND node = ?2 AND date = ?3 AND as_of <= ?4)",
    )?;
    let mut rows = query.query([pipeline.as_str(), node.as_str(), &date.to_string(), &instant(at)])?;
    let (mut whole, mut units) = (None, BTreeMap::new());
    while let Some(row) = rows.next()? {
        let unit: String = get(row, "unit", &what)?;
        let coverage = Coverage::new(get(row, "observed", &what)?, get(row, "expected", &what)?)
            .ok_or_else(|| corrupt(&what, "it expects nothing".into()))?;
        if unit == WHOLE {
            whole = Some(coverage);
        } else {
            units.insert(UnitId::new(unit), coverage);
        }
    }
    Ok(whole.map_or(Answer::NotKept, |coverage| Answer::Known { coverage, units }))
}

fn newest_report(
    db: &Connection,
    pipeline: &PipelineId,
    report: report::Kind,
    date: Date,
    at: Timestamp,
) -> Result<Reported, StoreError> {
    let what = format!("warehouse_report/{pipeline}/{date}/{report}");
    let mut query = db.prepare_cached(
        "SELECT rows FROM warehouse_report WHERE pipeline = ?1 AND report = ?2 AND date = ?3 AND as_of <= ?4
         ORDER BY as_of DESC LIMIT 1",
    )?;
    let mut rows = query.query([pipeline.as_str(), report.as_str(), &date.to_string(), &instant(at)])?;
    match rows.next()? {
        Some(row) => Ok(Reported::Rows(text::read_json(&get::<String>(row, "rows", &what)?, &what)?)),
        None => Ok(Reported::NotKept),
    }
}

/// Deletes reports that were told before `before` and are not the newest of their date.
pub(super) fn prune(db: &Connection, before: &str) -> Result<usize, StoreError> {
    let superseded = "DELETE FROM warehouse_report AS old WHERE as_of < ?1 AND EXISTS (
       SELECT 1 FROM warehouse_report AS newer
       WHERE newer.pipeline = old.pipeline AND newer.report = old.report AND newer.date = old.date
         AND newer.as_of > old.as_of)";
    Ok(db.prepare_cached(superseded)?.execute([before])?)
}

fn append(db: &Connection, table: &Table, rows: Vec<(String, Row)>) -> Result<(), StoreError> {
    for (insert_id, row) in rows {
        // The names are ours by now: every one of them was found in the declaration.
        let names: Vec<&str> = row.keys().map(String::as_str).collect();
        let columns: String = names.iter().map(|name| format!(", \"{name}\"")).collect();
        let places = ", ?".repeat(names.len());
        let sql = format!(
            "INSERT INTO {} (insert_id{columns}) VALUES (?{places}) ON CONFLICT (insert_id) DO NOTHING",
            table.name
        );
        let values = std::iter::once(Sql::Text(insert_id)).chain(row.values().map(sql_value));
        db.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    }
    Ok(())
}

fn history(db: &Connection, table: &Table, limit: usize) -> Result<Vec<Row>, StoreError> {
    let mut query = db.prepare_cached(&format!("SELECT * FROM {} ORDER BY rowid LIMIT ?1", table.name))?;
    let mut rows = query.query([super::store::rows_max(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Row::new();
        for Column { name, kind, mode } in &table.columns {
            let structured = *kind == Kind::Json || *mode == Mode::Repeated;
            let value = match get(row, name, &table.name)? {
                Sql::Null => continue,
                Sql::Integer(number) if *kind == Kind::Boolean => Value::from(number != 0),
                Sql::Integer(number) => Value::from(number),
                Sql::Real(number) => Value::from(number),
                // Somebody may have written plain text where JSON belongs; it is shown as what it is.
                Sql::Text(text) if structured => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                Sql::Text(text) => Value::from(text),
                Sql::Blob(_) => return Err(corrupt(&table.name, format!("{name} holds bytes"))),
            };
            columns.insert(name.clone(), value);
        }
        found.push(columns);
    }
    Ok(found)
}

fn sql_value(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(truth) => Sql::Integer((*truth).into()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Sql::Integer(whole),
            (None, Some(real)) => Sql::Real(real),
            (None, None) => Sql::Text(number.to_string()),
        },
        Value::String(text) => Sql::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Sql::Text(value.to_string()),
    }
}

/// The statement that creates the table of reports, which files of earlier versions lack.
pub(super) const REPORTS: &str = "
-- What a warehouse would answer to a report; rows is a list of objects.
CREATE TABLE IF NOT EXISTS warehouse_report (
  pipeline TEXT NOT NULL,
  report   TEXT NOT NULL,
  date     TEXT NOT NULL,
  as_of    TEXT NOT NULL,
  rows     TEXT NOT NULL /* JSON */,
  PRIMARY KEY (pipeline, report, date, as_of)
) WITHOUT ROWID;
";

/// The statements that create the history tables that are not there yet.
///
/// SQLite has no types for dates, truth and JSON; the names in the file's schema tell.
pub(super) fn history_tables() -> String {
    let declare = |column: &Column| {
        let kind = match (column.kind, column.mode) {
            (_, Mode::Repeated) | (Kind::Json, _) => "TEXT /* JSON */",
            (Kind::String, _) => "TEXT",
            (Kind::Integer, _) => "INTEGER",
            (Kind::Float, _) => "REAL",
            (Kind::Boolean, _) => "BOOLEAN",
            (Kind::Date, _) => "TEXT /* date */",
            (Kind::Timestamp, _) => "TEXT /* RFC 3339 */",
        };
        format!(",\n  \"{}\" {kind}", column.name)
    };
    TABLES
        .iter()
        .map(|table| {
            let columns: String = table.columns.iter().map(declare).collect();
            format!("CREATE TABLE IF NOT EXISTS {} (\n  insert_id TEXT NOT NULL UNIQUE{columns}\n);\n", table.name)
        })
        .collect()
}
