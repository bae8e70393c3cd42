//! What the service tells of itself to those who watch it: the log's form, the metrics, the spans.
//!
//! [`metrics`] names every metric once, and [`log`] says what a line looks like. Metrics are read at `/metrics`; over OTLP
//! they leave together with spans, where a collector is configured. Nothing here decides anything, and none of it ever
//! waits: what a collector does not take in time is dropped.

pub mod export;
pub mod log;
pub mod metrics;
pub mod span;

use std::sync::Arc;

use metrics::Metrics;
use span::Spans;

/// Where loops leave what they have measured and done. A copy leaves it in the same place.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// What has been done, in traces.
    pub spans: Spans,
}
