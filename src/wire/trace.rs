//! The trace that a message belongs to, and the spans that follow from it.
//!
//! The ids of our own spans follow from what they are about: a message that is delivered again is the same span, and every
//! repetition of a dispatch carries the same bytes.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::inbound::Delivery;
use crate::domain::effect::Dispatch;
use crate::domain::id::PartitionKey;
use crate::domain::trace::TraceContext;

/// The attribute, and the header, as W3C names it.
pub const TRACEPARENT: &str = "traceparent";
/// The attribute of Google's Pub/Sub clients: the span of their publishing.
pub const OF_GOOGLES_CLIENTS: &str = "googclient_traceparent";

/// What a message was sent with. What cannot be read says nothing.
pub fn sent_with(attributes: &BTreeMap<String, String>) -> Option<TraceContext> {
    [OF_GOOGLES_CLIENTS, TRACEPARENT].into_iter().find_map(|name| attributes.get(name)?.parse().ok())
}

/// The span of taking a message in: in the sender's trace; else in that of the date it is about, or in its own.
pub fn received(delivery: &Delivery, key: Option<&PartitionKey>) -> TraceContext {
    let sent = sent_with(&delivery.attributes);
    let of_message = format!("{}/{}", delivery.topic, delivery.message_id);
    let trace = || key.map_or_else(|| digest(&of_message), |key| digest(&key.to_string()));
    TraceContext {
        trace: sent.map_or_else(trace, |sent| sent.trace),
        span: digest(&of_message),
        sampled: sent.is_none_or(|sent| sent.sampled),
    }
}

/// The span of a dispatch: in the trace of the message it follows from, else in that of its date.
pub fn dispatched(dispatch: &Dispatch) -> TraceContext {
    let parent = dispatch.manifest.trace;
    TraceContext {
        trace: parent.map_or_else(|| digest(&dispatch.key.to_string()), |parent| parent.trace),
        span: digest(dispatch.id.as_str()),
        sampled: parent.is_none_or(|parent| parent.sampled),
    }
}

/// The span of something that is told apart by `what`, beside another of its trace.
pub fn beside(other: TraceContext, what: &str) -> TraceContext {
    TraceContext { span: digest(what), ..other }
}

/// The trace of a date in which nobody else's is carried on.
pub fn of_date(key: &PartitionKey, what: &str) -> TraceContext {
    TraceContext { trace: digest(&key.to_string()), span: digest(what), sampled: true }
}

fn digest<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(byte, found)| *byte = found);
    bytes
}
