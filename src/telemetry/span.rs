//! Spans: what was done, when, in whose trace.
//!
//! A span is a record that is handed over when it is over. Its ids are given, since they are on the wire and in the store
//! before it ends; so no tracer makes them up, and none has to be asked while something is decided.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};

use crate::domain::trace::TraceContext;

/// What a span is, seen from its trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A message was taken in.
    Received,
    /// Something was done inside.
    Internal,
    /// A message left.
    Sent,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Span {
    /// What kind of thing; one of few words.
    pub name: &'static str,
    /// Which way it went.
    pub kind: Kind,
    /// Its own ids.
    pub context: TraceContext,
    /// What it followed from, in the same trace.
    pub parent: Option<TraceContext>,
    /// What it followed from as well.
    pub links: Vec<TraceContext>,
    /// When it began.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
    /// Figures and names.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Where spans go. A copy goes to the same place.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Arc<BatchSpanProcessor>>);

impl Spans {
    /// To that exporter's queue, which has a bound; what does not fit is dropped.
    pub fn to(processor: BatchSpanProcessor) -> Self {
        Self(Some(Arc::new(processor)))
    }

    /// Hands a span over, where spans go anywhere and the trace is sampled. Never waits.
    pub fn record(&self, context: TraceContext, span: impl FnOnce() -> Span) {
        if let Some(processor) = self.0.as_ref().filter(|_| context.sampled) {
            processor.on_end(data(span()));
        }
    }

    /// Sends what has not been sent, within `timeout`. Blocks.
    ///
    /// # Errors
    /// If it could not be sent in time.
    pub fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.0.as_ref().map_or(Ok(()), |processor| processor.shutdown_with_timeout(timeout))
    }
}

fn data(span: Span) -> SpanData {
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(|link| Link::with_context(remote(link))).collect();
    SpanData {
        span_context: remote(span.context),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.span)),
        parent_span_is_remote: span.kind == Kind::Received,
        span_kind: match span.kind {
            Kind::Received => SpanKind::Consumer,
            Kind::Internal => SpanKind::Internal,
            Kind::Sent => SpanKind::Producer,
        },
        name: span.name.into(),
        start_time: instant(span.start),
        end_time: instant(span.end.max(span.start)),
        attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("tipoff").build(),
    }
}

/// The instant as the exporter has it; nothing here happens before 1970.
fn instant(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

fn remote(context: TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_bytes(context.trace), SpanId::from_bytes(context.span));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}
