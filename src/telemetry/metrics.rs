//! Every metric: its name, its unit, what it counts and by what. `docs/metrics.md` is the same list for people; a test
//! compares.
//!
//! One set of instruments is read by whoever asks for `/metrics` and by the OTLP exporter, under the same names. Values of
//! labels come from declarations or from lists in code, never from a message, so that there is no end of series for a
//! stranger to open.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{self, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};

/// What kind of number a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// It is what it was when it was last measured.
    Gauge,
    /// How many were how long.
    Histogram,
}

impl Kind {
    /// The word for it, as Prometheus has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, here and at the collector.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its unit in UCUM's words.
    pub unit: &'static str,
    /// What it is told apart by.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Counts.
#[derive(Debug)]
pub struct Counter<const N: usize> {
    instrument: metrics::Counter<u64>,
    labels: [&'static str; N],
}

impl<const N: usize> Counter<N> {
    fn new(
        meter: &Meter,
        name: &'static str,
        unit: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self { instrument: meter.u64_counter(name).with_unit(unit).with_description(help).build(), labels }
    }

    /// So many more; 0 makes the series known, so that its first increase is seen as one.
    pub fn add(&self, more: u64, values: [&str; N]) {
        self.instrument.add(more, &labelled(&self.labels, &values));
    }
}

/// Holds what was last measured.
#[derive(Debug)]
pub struct Gauge<const N: usize> {
    instrument: metrics::Gauge<f64>,
    labels: [&'static str; N],
}

impl<const N: usize> Gauge<N> {
    fn new(
        meter: &Meter,
        name: &'static str,
        unit: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Self {
        Self { instrument: meter.f64_gauge(name).with_unit(unit).with_description(help).build(), labels }
    }

    /// It is this.
    pub fn set(&self, value: f64, values: [&str; N]) {
        self.instrument.record(value, &labelled(&self.labels, &values));
    }
}

/// Holds how many were how long.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    instrument: metrics::Histogram<f64>,
    labels: [&'static str; N],
}

/// Seconds: from a commit on a quiet disk to a dispatch that has waited for an hour.
const BOUNDS: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

impl<const N: usize> Histogram<N> {
    fn new(
        meter: &Meter,
        name: &'static str,
        unit: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Self {
        let built = meter.f64_histogram(name).with_unit(unit).with_description(help).with_boundaries(BOUNDS.to_vec());
        Self { instrument: built.build(), labels }
    }

    /// One of so many seconds.
    pub fn record(&self, seconds: f64, values: [&str; N]) {
        self.instrument.record(seconds, &labelled(&self.labels, &values));
    }
}

fn labelled(labels: &[&'static str], values: &[&str]) -> Vec<KeyValue> {
    labels.iter().zip(values).map(|(label, value)| KeyValue::new(*label, (*value).to_owned())).collect()
}

macro_rules! metrics {
    ($($field:ident: $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        /// The instruments, each under its field.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: $kind<{ <[&str]>::len(&[$($label),*]) }>,)*
            reader: Reader,
            provider: SdkMeterProvider,
        }

        /// Every metric there is.
        pub const FAMILIES: &[Family] = &[
            $(Family { name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help },)*
        ];

        impl Metrics {
            fn of(provider: SdkMeterProvider, reader: Reader) -> Self {
                let meter = provider.meter("tipoff");
                Self { $($field: $kind::new(&meter, $name, $unit, [$($label),*], $help),)* reader, provider }
            }
        }
    };
}

metrics! {
    build_info: Gauge "tipoff_build_info" "1" ["version", "source", "revision", "configuration"]
        "1 for what runs, 0 for what a reload has replaced since the start: the version, the source it was built from, and the digests of the pipelines and of the configuration in force";
    start_time: Gauge "tipoff_start_time_seconds" "s" []
        "When the process began, in seconds since 1970";
    faults: Gauge "tipoff_faults" "{fault}" []
        "What keeps the service from being ready; /readyz says what";
    loop_age: Gauge "tipoff_loop_age_seconds" "s" ["loop"]
        "How long ago each loop last moved; beyond five minutes /healthz fails";
    measured: Gauge "tipoff_measured_time_seconds" "s" []
        "When the gauges that need the store were last taken, in seconds since 1970";
    messages: Counter "tipoff_messages_total" "{message}" ["topic", "outcome"]
        "Messages settled: acknowledged, parked because they can never be applied, or handed_back to come again";
    redelivered: Counter "tipoff_messages_redelivered_total" "{message}" []
        "Messages that the broker has delivered more than once";
    unsettled: Gauge "tipoff_messages_unsettled" "{message}" []
        "Messages received and not settled yet";
    unsettled_age: Gauge "tipoff_message_unsettled_age_seconds" "s" []
        "How long ago the oldest message that is not settled yet was published; 0 where there is none";
    hearing_age: Gauge "tipoff_hearing_age_seconds" "s" []
        "How far the watermark of what has been heard is behind; no silence after it is judged";
    decisions: Counter "tipoff_decisions_total" "{decision}" ["pipeline"]
        "Decisions committed";
    refused: Counter "tipoff_decisions_refused_total" "{decision}" []
        "Decisions refused because an invariant would have broken, or that panicked: a fault of tipoff itself";
    conflicts: Counter "tipoff_commit_conflicts_total" "{commit}" ["pipeline"]
        "Commits for which somebody else was faster, so that it was decided again";
    commit_duration: Histogram "tipoff_commit_duration_seconds" "s" []
        "How long a commit took";
    store_errors: Counter "tipoff_store_errors_total" "{error}" ["kind"]
        "Calls of the store that failed: unavailable, or corrupt";
    sweep_lag: Gauge "tipoff_sweep_lag_seconds" "s" []
        "How long the earliest deadline of any date has passed without being acted on; 0 where none has";
    deadlines_missed: Counter "tipoff_deadlines_missed_total" "{node}" ["pipeline"]
        "Nodes that were not done before their deadline or the end of their pass, each once a date";
    dispatches: Counter "tipoff_dispatches_total" "{dispatch}" ["pipeline", "node", "outcome"]
        "Tries to hand a dispatch over: sent, deferred to be tried again, unwanted by now, or undeliverable for good";
    dispatch_delay: Histogram "tipoff_dispatch_delay_seconds" "s" []
        "From the decision of a dispatch until its target had taken it";
    outbox_depth: Gauge "tipoff_outbox_depth" "{effect}" []
        "Effects that wait to be delivered, counted up to 500";
    outbox_age: Gauge "tipoff_outbox_age_seconds" "s" []
        "How long ago the oldest of these was decided; 0 where there is none";
    breakers_open: Gauge "tipoff_breakers_open" "{target}" []
        "Targets that rest because they failed again and again";
    cap_used: Gauge "tipoff_cap_used_dispatches" "{dispatch}" ["pipeline"]
        "Dispatches that this process has sent since the hour began";
    cap: Gauge "tipoff_cap_dispatches" "{dispatch}" ["pipeline"]
        "Dispatches that may leave within an hour, of all processes together";
    dates_open: Gauge "tipoff_dates_open" "{date}" ["pipeline"]
        "Live dates of which not all is done";
    nodes: Gauge "tipoff_nodes" "{node}" ["pipeline", "state"]
        "Tasks of today by state";
    runs: Gauge "tipoff_runs" "{run}" ["pipeline", "state"]
        "Runs of live dates: alive, stale in their silence, or dead and fenced";
    alerts_on: Gauge "tipoff_alerts_on" "{alert}" ["severity"]
        "Alerts that are on";
    notices: Counter "tipoff_notices_total" "{notice}" ["channel", "outcome"]
        "Tries to tell people: sent or failed";
    dead_letters_open: Gauge "tipoff_dead_letters_open" "{letter}" []
        "Dead letters about which something is to be done, counted up to 200";
    http_requests: Counter "tipoff_http_requests_total" "{request}" ["method", "route", "status"]
        "HTTP requests answered, by route as it is declared";
    http_duration: Histogram "tipoff_http_request_duration_seconds" "s" ["route"]
        "How long an HTTP request took until its answer began";
}

/// A reader that two hold: the provider, and whoever asks.
#[derive(Clone, Debug, Default)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: std::sync::Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, into: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(into)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

impl Default for Metrics {
    /// Metrics that nobody reads: what is measured is forgotten.
    fn default() -> Self {
        Self::of(SdkMeterProvider::builder().build(), Reader::default())
    }
}

impl Metrics {
    /// Metrics for [`Metrics::text`], and for `exporter` as well, where there is one.
    pub fn new(resource: Resource, exporter: Option<impl MetricReader>) -> Self {
        let reader = Reader::default();
        let builder = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone());
        let provider = match exporter {
            Some(exporter) => builder.with_reader(exporter).build(),
            None => builder.build(),
        };
        Self::of(provider, reader)
    }

    /// All that is known, in Prometheus' text format 0.0.4: every family with its help, and its series.
    pub fn text(&self) -> String {
        let mut found = ResourceMetrics::default();
        // Of a reader that has been shut down nothing is known any more.
        let _ = self.reader.collect(&mut found);
        let all: Vec<_> = found.scope_metrics().flat_map(|scope| scope.metrics()).collect();
        let mut text = String::new();
        for family in FAMILIES {
            let Family { name, help, kind, .. } = family;
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
            let before = text.len();
            for metric in all.iter().filter(|metric| metric.name() == *name) {
                series(&mut text, name, metric.data());
            }
            // An instrument begins with its first value; whoever watches a rate wants to see it come from 0.
            if text.len() == before && *kind == Kind::Histogram && family.labels.is_empty() {
                empty(&mut text, name);
            }
        }
        text
    }

    /// Sends what has not been sent, within `timeout`. Blocks.
    ///
    /// # Errors
    /// If it could not be sent in time.
    pub fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.provider.shutdown_with_timeout(timeout)
    }
}

/// A histogram of nothing yet.
fn empty(text: &mut String, name: &str) {
    for bound in BOUNDS.map(|bound| bound.to_string()).iter().map(String::as_str).chain(["+Inf"]) {
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} 0");
    }
    let _ = writeln!(text, "{name}_sum 0\n{name}_count 0");
}

fn series(text: &mut String, name: &str, data: &AggregatedMetrics) {
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            for point in sum.data_points() {
                let _ = writeln!(text, "{name}{} {}", braced(point.attributes(), None), point.value());
            }
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            for point in gauge.data_points() {
                let _ = writeln!(text, "{name}{} {}", braced(point.attributes(), None), point.value());
            }
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            for point in histogram.data_points() {
                let bounds = point.bounds().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
                let mut below = 0;
                for (bound, count) in bounds.zip(point.bucket_counts()) {
                    below += count;
                    let _ = writeln!(text, "{name}_bucket{} {below}", braced(point.attributes(), Some(&bound)));
                }
                let labels = braced(point.attributes(), None);
                let _ = writeln!(text, "{name}_sum{labels} {}\n{name}_count{labels} {}", point.sum(), point.count());
            }
        }
        // No instrument of ours is of another kind.
        AggregatedMetrics::U64(_) | AggregatedMetrics::F64(_) | AggregatedMetrics::I64(_) => {}
    }
}

fn braced<'a>(labels: impl Iterator<Item = &'a KeyValue>, bound: Option<&str>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut pairs: Vec<String> =
        labels.map(|pair| format!("{}=\"{}\"", pair.key, escaped(&pair.value.as_str()))).collect();
    pairs.sort();
    pairs.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_family_and_what_was_measured() {
        let metrics = Metrics::new(Resource::builder_empty().build(), None::<ManualReader>);
        metrics.messages.add(2, ["a \"quoted\" topic\\", "parked"]);
        metrics.messages.add(1, ["a \"quoted\" topic\\", "parked"]);
        metrics.faults.set(1.5, []);
        metrics.commit_duration.record(0.3, []);
        metrics.commit_duration.record(5000.0, []);
        let text = metrics.text();
        for family in FAMILIES {
            assert!(text.contains(&format!("\n# TYPE {} {}\n", family.name, family.kind.as_str())), "{text}");
        }
        for line in [
            "tipoff_messages_total{outcome=\"parked\",topic=\"a \\\"quoted\\\" topic\\\\\"} 3",
            "tipoff_faults 1.5",
            "tipoff_commit_duration_seconds_bucket{le=\"0.25\"} 0",
            "tipoff_commit_duration_seconds_bucket{le=\"0.5\"} 1",
            "tipoff_commit_duration_seconds_bucket{le=\"3600\"} 1",
            "tipoff_commit_duration_seconds_bucket{le=\"+Inf\"} 2",
            "tipoff_commit_duration_seconds_count 2",
            "tipoff_commit_duration_seconds_sum 5000.3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn names_tell_unit_and_kind() {
        let mut names = std::collections::BTreeSet::new();
        for Family { name, kind, unit, .. } in FAMILIES {
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("tipoff_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*unit == "s", name.ends_with("_seconds"), "{name}");
        }
    }
}
