//! A small stand-in for the analytics warehouse: how much of each output is there, and the history of runs.
//!
//! The history tables have the names and columns of the warehouse they stand for, so that a query written for one
//! reads the other. Coverage is kept as it was observed at each instant; an answer never looks ahead.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params, params_from_iter};
use serde_json::Value;

use super::Embedded;
use super::database::lock;
use super::text::{corrupt, get, instant};
use crate::domain::coverage::Coverage;
use crate::domain::id::{NodeId, PipelineId, UnitId};
use crate::port::{Answer, Row, StoreError, Warehouse};

/// The row of the whole output among the rows of its units.
const WHOLE: &str = "";

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

    async fn append(&self, table: &str, rows: Vec<(String, Row)>) -> Result<(), String> {
        if let Some(reason) = self.told_unavailable() {
            return Err(reason);
        }
        let declared = TABLES
            .iter()
            .find(|declared| declared.name == table)
            .ok_or_else(|| format!("there is no history table `{table}`"))?;
        let unknown: BTreeSet<&str> = rows
            .iter()
            .flat_map(|(_, row)| row.keys())
            .map(String::as_str)
            .filter(|column| declared.columns.iter().all(|(known, _)| known != column))
            .collect();
        if !unknown.is_empty() {
            let unknown: Vec<&str> = unknown.into_iter().collect();
            return Err(format!("{table} has no column {}", unknown.join(", ")));
        }
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

    /// Lets the warehouse be away for `reason`, until told `None`. Store and bus go on.
    pub fn set_unavailable(&self, reason: Option<String>) {
        *lock(&self.unavailable) = reason;
    }

    /// A history table's rows in the order they were appended, columns without a value left out.
    pub async fn history(&self, table: &str, limit: usize) -> Result<Vec<Row>, String> {
        let declared = TABLES
            .iter()
            .find(|declared| declared.name == table)
            .ok_or_else(|| format!("there is no history table `{table}`"))?;
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
        for (column, kind) in table.columns {
            let value = match (get(row, column, table.name)?, kind) {
                (Sql::Null, _) => continue,
                (Sql::Integer(number), Kind::Bool) => Value::from(number != 0),
                (Sql::Integer(number), _) => Value::from(number),
                (Sql::Real(number), _) => Value::from(number),
                // Somebody may have written plain text where JSON belongs; it is shown as what it is.
                (Sql::Text(text), Kind::Json) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
                (Sql::Text(text), _) => Value::from(text),
                (Sql::Blob(_), _) => return Err(corrupt(table.name, format!("{column} holds bytes"))),
            };
            columns.insert((*column).to_owned(), value);
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

/// A history table.
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
}

/// What a column holds. SQLite has no types for dates, truth and JSON; the names in the file's schema tell.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Float,
    Bool,
    Date,
    Instant,
    Json,
}

/// The statements that create the history tables.
pub(super) fn history_tables() -> String {
    TABLES
        .iter()
        .map(|table| {
            let columns: String = table
                .columns
                .iter()
                .map(|(name, kind)| {
                    let kind = match kind {
                        Kind::Text => "TEXT",
                        Kind::Integer => "INTEGER",
                        Kind::Float => "REAL",
                        Kind::Bool => "BOOLEAN",
                        Kind::Date => "TEXT /* date */",
                        Kind::Instant => "TEXT /* RFC 3339 */",
                        Kind::Json => "TEXT /* JSON */",
                    };
                    format!(",\n  \"{name}\" {kind}")
                })
                .collect();
            format!("CREATE TABLE {} (\n  insert_id TEXT NOT NULL UNIQUE{columns}\n);\n", table.name)
        })
        .collect()
}

/// The history tables, with the columns that the readers of the pipeline's own warehouse know.
const TABLES: &[Table] = &[
    Table {
        name: "processor_run_history",
        columns: &[
            ("processor_name", Kind::Text),
            ("run_id", Kind::Text),
            ("season_year", Kind::Integer),
            ("status", Kind::Text),
            ("duration_seconds", Kind::Float),
            ("records_processed", Kind::Integer),
            ("records_created", Kind::Integer),
            ("records_updated", Kind::Integer),
            ("records_skipped", Kind::Integer),
            ("data_source_primary", Kind::Text),
            ("data_source_enhancement", Kind::Text),
            ("data_records_queried", Kind::Integer),
            ("validation_mode", Kind::Text),
            ("validation_skipped_reason", Kind::Text),
            ("source_data_freshness_days", Kind::Integer),
            ("espn_roster_date", Kind::Date),
            ("nbacom_source_date", Kind::Date),
            ("br_scrape_date", Kind::Date),
            ("gamebook_pdf_date", Kind::Date),
            ("espn_matched_requested_date", Kind::Bool),
            ("nbacom_matched_requested_date", Kind::Bool),
            ("br_matched_requested_date", Kind::Bool),
            ("gamebook_matched_requested_date", Kind::Bool),
            ("used_source_fallback", Kind::Bool),
            ("season_filter", Kind::Text),
            ("team_filter", Kind::Text),
            ("date_range_filter_start", Kind::Date),
            ("date_range_filter_end", Kind::Date),
            ("backfill_mode", Kind::Bool),
            ("force_reprocess", Kind::Bool),
            ("test_mode", Kind::Bool),
            ("execution_host", Kind::Text),
            ("triggered_by", Kind::Text),
            ("errors", Kind::Json),
            ("warnings", Kind::Json),
            ("summary", Kind::Json),
            ("data_date", Kind::Date),
            ("started_at", Kind::Instant),
            ("processed_at", Kind::Instant),
            ("phase", Kind::Text),
            ("output_table", Kind::Text),
            ("output_dataset", Kind::Text),
            ("trigger_source", Kind::Text),
            ("trigger_message_id", Kind::Text),
            ("trigger_message_data", Kind::Json),
            ("parent_processor", Kind::Text),
            ("upstream_dependencies", Kind::Json),
            ("dependency_check_passed", Kind::Bool),
            ("missing_dependencies", Kind::Json),
            ("stale_dependencies", Kind::Json),
            ("alert_sent", Kind::Bool),
            ("alert_type", Kind::Text),
            ("cloud_run_service", Kind::Text),
            ("cloud_run_revision", Kind::Text),
            ("retry_attempt", Kind::Integer),
            ("skipped", Kind::Bool),
            ("skip_reason", Kind::Text),
            ("failure_category", Kind::Text),
            ("timing_breakdown", Kind::Json),
        ],
    },
    Table {
        name: "phase_completions",
        columns: &[
            ("phase", Kind::Text),
            ("game_date", Kind::Date),
            ("processor_name", Kind::Text),
            ("status", Kind::Text),
            ("record_count", Kind::Integer),
            ("correlation_id", Kind::Text),
            ("execution_id", Kind::Text),
            ("completed_at", Kind::Instant),
            ("is_incremental", Kind::Bool),
            ("entities_changed", Kind::Json),
            ("metadata", Kind::Json),
            ("inserted_at", Kind::Instant),
        ],
    },
    Table {
        name: "phase_completion_status",
        columns: &[
            ("phase", Kind::Text),
            ("game_date", Kind::Date),
            ("completed_count", Kind::Integer),
            ("expected_count", Kind::Integer),
            ("completed_processors", Kind::Json),
            ("missing_processors", Kind::Json),
            ("is_triggered", Kind::Bool),
            ("triggered_at", Kind::Instant),
            ("trigger_reason", Kind::Text),
            ("mode", Kind::Text),
            ("first_completion_at", Kind::Instant),
            ("last_completion_at", Kind::Instant),
            ("updated_at", Kind::Instant),
        ],
    },
    Table {
        name: "pipeline_event_log",
        columns: &[
            ("event_id", Kind::Text),
            ("timestamp", Kind::Instant),
            ("event_type", Kind::Text),
            ("phase", Kind::Text),
            ("processor_name", Kind::Text),
            ("game_date", Kind::Date),
            ("correlation_id", Kind::Text),
            ("trigger_source", Kind::Text),
            ("parent_event_id", Kind::Text),
            ("duration_seconds", Kind::Float),
            ("records_processed", Kind::Integer),
            ("error_type", Kind::Text),
            ("error_message", Kind::Text),
            ("stack_trace", Kind::Text),
            ("resolution_action", Kind::Text),
            ("resolution_by", Kind::Text),
            ("metadata", Kind::Json),
        ],
    },
];
