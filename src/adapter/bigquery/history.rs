//! Rows into the history tables, by streaming inserts.
//!
//! What holds: a row that can never be taken is told, counted and left behind, and every other row of its call is
//! written; whatever may pass is an error, so that the export comes again with the same rows under the same insert ids.
//! BigQuery drops a repeated insert id for about a minute and as well as it can; beyond that a repetition is an equal
//! row, which readers tell by the columns that name it (`decision_id`, `event_id`, `run_id` and `status`).

use std::sync::atomic::Ordering;

use gcp_bigquery_client::model::table_data_insert_all_request::TableDataInsertAllRequest;
use jiff::{Timestamp, TimestampRound, Unit};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Bigquery;
use super::client::{told, within};
use crate::port::Row;
use crate::wire::table::{Kind, Mode, Table};

/// Rows in one call: what Google recommends; 50,000 are allowed.
const ROWS_MAX: usize = 500;
/// Bytes in one call, of the 10 MB that are allowed: what a row weighs beside its JSON is not counted here.
const BYTES_MAX: usize = 5_000_000;
/// Bytes of an insert id, by BigQuery's own limit.
const INSERT_ID_MAX: usize = 128;

/// A row as it is sent.
struct Encoded {
    id: String,
    row: Value,
    bytes: usize,
}

impl Bigquery {
    pub(super) async fn write(&self, table: &Table, rows: Vec<(String, Row)>) -> Result<(), String> {
        if let Some(reason) = self.pause.reason() {
            return Err(reason);
        }
        let mut call: Vec<Encoded> = Vec::new();
        let mut weight = 0;
        for (id, row) in rows {
            let row = encode(table, id, row);
            if row.bytes > BYTES_MAX {
                self.refuse(table, &row.id, &format!("{} bytes are more than a call may have", row.bytes));
                continue;
            }
            if call.len() == ROWS_MAX || weight + row.bytes > BYTES_MAX {
                self.insert(table, std::mem::take(&mut call)).await?;
                weight = 0;
            }
            weight += row.bytes;
            call.push(row);
        }
        if call.is_empty() { Ok(()) } else { self.insert(table, call).await }
    }

    async fn insert(&self, table: &Table, rows: Vec<Encoded>) -> Result<(), String> {
        let mut request = TableDataInsertAllRequest::new();
        request.skip_invalid_rows();
        let mut ids = Vec::with_capacity(rows.len());
        for Encoded { id, row, .. } in rows {
            request.add_row(Some(id.clone()), row).map_err(|error| error.to_string())?;
            ids.push(id);
        }
        let (dataset, name) = (&table.dataset, &table.name);
        let call = self.client.tabledata();
        let call = call.insert_all(&self.settings.project, dataset, name, request);
        let answer = within(self.settings.timeout, call).await.map_err(|failure| {
            self.pause.note(&failure);
            format!("append to {dataset}.{name}: {failure}")
        })?;
        let mut passing = None;
        for error in answer.insert_errors.unwrap_or_default() {
            let errors = error.errors.unwrap_or_default();
            let id = error.index.and_then(|index| ids.get(usize::try_from(index).ok()?)).map_or("?", String::as_str);
            let told = told(&errors);
            let lasting = errors.iter().any(|error| error.reason.as_deref() == Some("invalid"));
            // Every column was found in our own document, so one that is missing is missing from the table.
            if lasting && !told.contains("no such field") {
                self.refuse(table, id, &told);
            } else {
                passing = Some(format!("append to {dataset}.{name}: row {id}: {told}"));
            }
        }
        passing.map_or(Ok(()), Err)
    }

    fn refuse(&self, table: &Table, id: &str, why: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            table = table.name,
            row = id,
            "a row of the history is lost, since it can never be taken: {why}"
        );
    }
}

/// A row in the forms that streaming takes.
fn encode(table: &Table, id: String, row: Row) -> Encoded {
    let row: Row = row
        .into_iter()
        .map(|(name, value)| {
            let kind = table.column(&name).map(|column| (column.kind, column.mode));
            let value = match (kind, value) {
                (_, Value::Null) => Value::Null,
                // JSON travels as text, and instants are kept to the microsecond: a longer text is refused.
                (Some((Kind::Json, Mode::Required | Mode::Nullable)), value) => Value::String(value.to_string()),
                (Some((Kind::Timestamp, _)), Value::String(text)) => Value::String(to_the_microsecond(text)),
                (_, value) => value,
            };
            (name, value)
        })
        .collect();
    let id = if id.len() <= INSERT_ID_MAX { id } else { digest(&id) };
    let row = Value::Object(row);
    let bytes = row.to_string().len() + id.len();
    Encoded { id, row, bytes }
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_the_microsecond(text: String) -> String {
    let down = TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
    text.parse::<Timestamp>().and_then(|at| at.round(down)).map_or(text, |at| at.to_string())
}
