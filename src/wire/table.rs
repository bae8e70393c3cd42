//! Which history tables are there, and what may stand in their columns?
//!
//! Read from `schemas/bigquery/`, one document of BigQuery's own form a table, so that the program, the tests and whoever
//! creates the tables have one source. What holds of every table: it is partitioned by a column that each row has.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::port::Row;

/// A history table.
#[derive(Clone, Debug)]
pub struct Table {
    /// The dataset it is in.
    pub dataset: String,
    /// Its name within the dataset.
    pub name: String,
    /// Its columns in their order.
    pub columns: Vec<Column>,
    /// The whole document, in the form of BigQuery's `Table` resource without a project.
    pub document: &'static str,
}

/// One column.
#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// How many values a row has in it.
    pub mode: Mode,
}

/// What a column holds. Rows carry dates and instants as text (`2026-01-22`, RFC 3339) and JSON as itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A number of 64 bits.
    Float,
    /// True or false.
    Boolean,
    /// A calendar date.
    Date,
    /// An instant, kept to the microsecond.
    Timestamp,
    /// Any JSON value.
    Json,
}

/// How many values a row has in a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// One.
    Required,
    /// One or none.
    Nullable,
    /// A list.
    Repeated,
}

macro_rules! documents {
    ($($name:literal),* $(,)?) => {
        [$(include_str!(concat!("../../schemas/bigquery/", $name, ".json"))),*]
    };
}

/// Every history table.
pub static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let documents = documents![
        "processor_run_history",
        "phase_completions",
        "pipeline_event_log",
        "tipoff_decisions",
        "tipoff_dispatches",
    ];
    documents.into_iter().map(|document| read(document).expect("schemas/bigquery holds tables")).collect()
});

/// The table called `name`, if every column that `rows` name is one of its own.
///
/// # Errors
/// If there is no such table, or it lacks columns; all of them are named.
pub fn find(name: &str, rows: &[(String, Row)]) -> Result<&'static Table, String> {
    let found = TABLES.iter().find(|table| table.name == name);
    let table = found.ok_or_else(|| format!("there is no history table `{name}`"))?;
    let named: BTreeSet<&str> = rows.iter().flat_map(|(_, row)| row.keys()).map(String::as_str).collect();
    let unknown: Vec<&str> = named.into_iter().filter(|column| table.column(column).is_none()).collect();
    if unknown.is_empty() { Ok(table) } else { Err(format!("{name} has no column {}", unknown.join(", "))) }
}

impl Table {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

fn read(document: &'static str) -> Result<Table, serde_json::Error> {
    let Resource { table_reference: reference, schema } = serde_json::from_str(document)?;
    Ok(Table { dataset: reference.dataset_id, name: reference.table_id, columns: schema.fields, document })
}

/// What is read of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    table_reference: Reference,
    schema: Schema,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    dataset_id: String,
    table_id: String,
}

#[derive(Deserialize)]
struct Schema {
    fields: Vec<Column>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_table_is_cut_by_a_day_that_each_row_has() {
        // A row without it would lie in a partition that no query for a date reads.
        for table in TABLES.iter() {
            let document: Value = serde_json::from_str(table.document).unwrap();
            assert_eq!(document["timePartitioning"]["type"], "DAY", "{}", table.name);
            let day = document["timePartitioning"]["field"].as_str().unwrap();
            let day = table.column(day).unwrap();
            assert!(day.mode == Mode::Required && matches!(day.kind, Kind::Date | Kind::Timestamp), "{}", table.name);
            for field in document["clustering"]["fields"].as_array().unwrap() {
                assert!(table.column(field.as_str().unwrap()).is_some(), "{}: {field}", table.name);
            }
        }
    }

    #[test]
    fn every_document_is_a_table() {
        let folder = format!("{}/schemas/bigquery", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut known: Vec<&str> = TABLES.iter().map(|table| table.name.as_str()).collect();
        known.sort_unstable();
        assert_eq!(files, known);
    }
}
