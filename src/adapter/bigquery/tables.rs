//! The tables and datasets that the history needs, made where they are missing.

use std::collections::BTreeSet;

use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::table::Table as Resource;
use serde_json::{Value, json};

use super::Bigquery;
use super::client::{Failure, within};
use crate::wire::table::{TABLES, Table};

impl Bigquery {
    /// Creates the history tables that are missing, and their datasets. What is there stays as it is, whatever columns,
    /// partitions and clusters it has.
    ///
    /// # Errors
    /// If the server cannot be reached or does not let us; the dataset or table is named.
    pub async fn create_tables(&self) -> Result<(), String> {
        let datasets: BTreeSet<&str> = TABLES.iter().map(|table| table.dataset.as_str()).collect();
        for name in datasets {
            let mut dataset = Dataset::new(&self.settings.project, name);
            dataset.location.clone_from(&self.settings.location);
            let made = within(self.settings.timeout, self.client.dataset().create(dataset)).await;
            ignore_existing(made.map(drop)).map_err(|failure| format!("create dataset {name}: {failure}"))?;
        }
        for table in TABLES.iter() {
            let named = |error: String| format!("create table {}.{}: {error}", table.dataset, table.name);
            let resource = self.resource(table).map_err(|error| named(error.to_string()))?;
            let made = within(self.settings.timeout, self.client.table().create(resource)).await;
            ignore_existing(made.map(drop)).map_err(|failure| named(failure.to_string()))?;
        }
        Ok(())
    }

    fn resource(&self, table: &Table) -> Result<Resource, serde_json::Error> {
        let mut document: Value = serde_json::from_str(table.document)?;
        document["tableReference"]["projectId"] = json!(self.settings.project);
        serde_json::from_value(document)
    }
}

fn ignore_existing(made: Result<(), Failure>) -> Result<(), Failure> {
    match made {
        Err(Failure::Exists(_)) => Ok(()),
        other => other,
    }
}
