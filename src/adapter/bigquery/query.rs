//! Runs a declared query for a date.
//!
//! What holds: it is bounded in bytes, time and rows, and one that nobody waits for any more is ended.

use std::time::Duration;

use gcp_bigquery_client::model::query_parameter::QueryParameter;
use gcp_bigquery_client::model::query_parameter_type::QueryParameterType;
use gcp_bigquery_client::model::query_parameter_value::QueryParameterValue;
use gcp_bigquery_client::model::query_request::QueryRequest;
use gcp_bigquery_client::model::query_response::QueryResponse;
use jiff::civil::Date;

use super::Bigquery;
use super::client::{told, within};
use crate::pipeline::probe::{Argument, Probe};

/// How long telling the server to end a query may take; it is a courtesy, and a saving.
const CANCEL_MAX: Duration = Duration::from_secs(2);

/// Why a query has no rows to read.
pub(super) enum Unasked {
    /// Nothing is asked at the moment, for this reason.
    Paused(String),
    /// It came to nothing, for this reason.
    Failed(String),
}

impl Bigquery {
    /// A response that is complete, with `rows_max` rows at most.
    pub(super) async fn query(&self, query: &Probe, date: Date, rows_max: usize) -> Result<QueryResponse, Unasked> {
        if let Some(reason) = self.pause.reason() {
            return Err(Unasked::Paused(reason));
        }
        let request = self.request(query, date, rows_max);
        let asked = within(self.settings.timeout, self.client.job().query(&self.settings.project, request));
        let response = asked.await.map_err(|failure| {
            self.pause.note(&failure);
            Unasked::Failed(failure.to_string())
        })?;
        // A failed query is answered with 200 as well, and the crate takes it for one without rows.
        if let Some(errors) = response.errors.as_deref().filter(|errors| !errors.is_empty()) {
            return Err(Unasked::Failed(told(errors)));
        }
        if response.job_complete != Some(true) {
            self.cancel(&response).await;
            return Err(Unasked::Failed(format!("not finished within {:?}", self.settings.timeout)));
        }
        if response.page_token.is_some() || response.rows.as_deref().unwrap_or_default().len() > rows_max {
            return Err(Unasked::Failed(format!("it gave more than {rows_max} rows")));
        }
        Ok(response)
    }

    fn request(&self, query: &Probe, date: Date, rows_max: usize) -> QueryRequest {
        let date = parameter("date", "DATE", date.to_string());
        let others = query.arguments.iter().map(|(name, argument)| match argument {
            Argument::Integer(number) => parameter(name, "INT64", number.to_string()),
            Argument::Text(text) => parameter(name, "STRING", text.clone()),
        });
        QueryRequest {
            parameter_mode: Some("NAMED".to_owned()),
            query_parameters: Some(std::iter::once(date).chain(others).collect()),
            maximum_bytes_billed: Some(self.settings.bytes_max.to_string()),
            // The server gives up first, so that its answer names the query that is to be ended.
            timeout_ms: Some(i32::try_from(self.settings.timeout.as_millis() * 3 / 4).unwrap_or(i32::MAX)),
            max_results: i32::try_from(rows_max).ok(),
            location: self.settings.location.clone(),
            ..QueryRequest::new(query.sql.clone())
        }
    }

    /// Ends a query that nobody waits for any more.
    async fn cancel(&self, response: &QueryResponse) {
        let Some(job) = &response.job_reference else { return };
        let Some(id) = &job.job_id else { return };
        let (jobs, location) = (self.client.job(), job.location.as_deref().or(self.settings.location.as_deref()));
        if let Err(failure) = within(CANCEL_MAX, jobs.cancel_job(&self.settings.project, id, location)).await {
            tracing::debug!(job = id, "the query goes on: {failure}");
        }
    }
}

fn parameter(name: &str, kind: &str, value: String) -> QueryParameter {
    QueryParameter {
        name: Some(name.to_owned()),
        parameter_type: Some(QueryParameterType { r#type: kind.to_owned(), ..Default::default() }),
        parameter_value: Some(QueryParameterValue { value: Some(value), ..Default::default() }),
    }
}
