//! Dates as people say them, always resolved in the pipeline's zone and printed back.

use jiff::Timestamp;
use jiff::civil::Date;

use super::Fault;
use crate::desk::ask;
use crate::domain::graph::Graph;

/// Resolves `today`, `yesterday`, `tomorrow` or `YYYY-MM-DD`.
pub fn resolve(word: &str, graph: &Graph, now: Timestamp) -> Result<Date, Fault> {
    ask::date(word, graph, now).map_err(Fault::usage)
}
