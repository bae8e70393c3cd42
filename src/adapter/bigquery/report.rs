//! What is told about a date? Asks a report and gives its rows their types.
//!
//! Nothing is remembered: whoever asks for a report asks for what holds now.

use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::query_response::QueryResponse;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::Bigquery;
use super::query::Unasked;
use crate::pipeline::probe::Probe;
use crate::port::{Reported, Row};
use crate::wire::report::ROWS_MAX;

impl Bigquery {
    pub(super) async fn told(&self, query: &Probe, date: Date) -> Reported {
        let rows = match self.query(query, date, ROWS_MAX).await {
            Ok(response) => rows(&response).map_err(|why| format!("report {}: {why}", query.name)),
            Err(Unasked::Paused(reason)) => Err(reason),
            Err(Unasked::Failed(why)) => Err(format!("report {}: {why}", query.name)),
        };
        rows.map_or_else(Reported::Unknown, Reported::Rows)
    }
}

/// The rows by column. Every value travels as text, whose meaning the schema has.
fn rows(response: &QueryResponse) -> Result<Vec<Row>, String> {
    let fields = response.schema.as_ref().and_then(|schema| schema.fields.as_deref()).unwrap_or_default();
    let rows = response.rows.as_deref().unwrap_or_default().iter();
    rows.map(|row| {
        let mut cells = row.columns.as_deref().unwrap_or_default().iter();
        let columns = fields.iter().map(|field| {
            let text = cells.next().and_then(|cell| cell.value.as_ref());
            let value = match text {
                None | Some(Value::Null) => Value::Null,
                Some(text) => {
                    let value = text.as_str().and_then(|text| typed(&field.r#type, text));
                    value.ok_or_else(|| format!("{} is {text}, which is no {:?}", field.name, field.r#type))?
                }
            };
            Ok((field.name.clone(), value))
        });
        columns.collect()
    })
    .collect()
}

/// A value of a type that reports have.
fn typed(kind: &FieldType, text: &str) -> Option<Value> {
    match kind {
        FieldType::String | FieldType::Date => Some(Value::from(text)),
        FieldType::Integer | FieldType::Int64 => text.parse::<i64>().ok().map(Value::from),
        FieldType::Boolean | FieldType::Bool => text.parse::<bool>().ok().map(Value::from),
        FieldType::Timestamp => instant(text).map(|at| Value::from(at.to_string())),
        _ => None,
    }
}

/// Seconds since 1970, as `1769299200.0` or `1.7692992E9`, or whole microseconds where those were asked for. No date of
/// ours has microseconds as few as its seconds, or seconds as many as its microseconds.
fn instant(text: &str) -> Option<Timestamp> {
    /// The year 5138 in seconds; 1973 in microseconds.
    const SECONDS_MAX: i64 = 100_000_000_000;
    if let Ok(whole) = text.parse::<i64>() {
        let read = if whole.abs() < SECONDS_MAX { Timestamp::from_second } else { Timestamp::from_microsecond };
        return read(whole).ok();
    }
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite())?;
    let micros = (seconds * 1e6).round();
    #[expect(clippy::cast_possible_truncation, reason = "out of range saturates, and is then refused")]
    Timestamp::from_microsecond(micros as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_in_every_form_that_servers_write() {
        // Google writes seconds with an exponent, the emulator microseconds.
        for text in ["1769299200", "1769299200.0", "1.7692992E9", "1769299200000000"] {
            assert_eq!(instant(text).unwrap().to_string(), "2026-01-25T00:00:00Z", "{text}");
        }
        assert_eq!(instant("1769299200.123456").unwrap().to_string(), "2026-01-25T00:00:00.123456Z");
        for text in ["", "soon", "NaN", "1e300"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
