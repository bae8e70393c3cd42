//! Dates as people say them, always resolved in the pipeline's zone and printed back.

use jiff::Timestamp;
use jiff::civil::Date;

use super::Fault;
use crate::domain::graph::Graph;

/// Resolves `today`, `yesterday`, `tomorrow` or `YYYY-MM-DD`.
pub fn resolve(word: &str, graph: &Graph, now: Timestamp) -> Result<Date, Fault> {
    let today = graph.date_at(now);
    let date = match word.to_ascii_lowercase().as_str() {
        "today" => Some(today),
        "yesterday" => today.yesterday().ok(),
        "tomorrow" => today.tomorrow().ok(),
        other if other.len() == 10 => other.parse().ok(),
        _ => None,
    };
    date.ok_or_else(|| {
        Fault::usage(anyhow::anyhow!("`{word}` is not a date: YYYY-MM-DD, today, yesterday or tomorrow"))
    })
}
