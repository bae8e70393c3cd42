//! What does a message say? Bytes in, events about one partition out, or the reason why not.
//!
//! Decoding is total and a function of the message alone: no clock is read, nothing is looked up, the same delivery
//! means the same for ever. A message that cannot be applied is a value too, so a content fault is never an error that
//! would have the broker deliver it again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::crash::{self, Place};
use crate::diagnostic::suggestion;
use crate::domain::event::Event;
use crate::domain::graph::Graph;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::topology::{Carries, TopicName, Topology};

pub use super::name::Naming;
pub use super::parked::{Ignored, Reason, excerpt};
use super::value::Object;
use super::{completion, heartbeat};

/// The most bytes of a message that are read. Real ones have a few thousand; the size is checked before anything else,
/// so that what a hostile one costs is bounded.
pub const DATA_MAX: usize = 256 * 1024;
/// The deepest nesting that is read. Real messages have three levels.
pub const DEPTH_MAX: usize = 32;
/// The longest name or id that is kept. Real ones have fewer than 60 characters.
pub const NAME_MAX: usize = 200;
/// The attribute by which a producer may say which dispatch it answers; the field `tipoff.dispatch_id` says the same.
pub const DISPATCH_ATTRIBUTE: &str = "tipoff-dispatch-id";

/// One message as the broker hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The topic it was published to.
    pub topic: String,
    /// The broker's name for it.
    pub message_id: String,
    /// When the broker took it.
    pub published: Timestamp,
    /// What stands beside the data.
    pub attributes: BTreeMap<String, String>,
    /// What it says.
    pub data: Vec<u8>,
}

/// What a message comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Facts about one partition; several where a note goes with one.
    Events {
        /// Which partition.
        key: PartitionKey,
        /// The facts, the main one first.
        events: Vec<Event>,
    },
    /// An empty body, by which a push endpoint is validated: acknowledged and counted.
    Probe,
    /// Recognised and none of our business.
    Ignored {
        /// Why.
        reason: Ignored,
    },
    /// It can never be applied.
    Parked {
        /// Why, and what to do.
        reason: Reason,
    },
}

/// What names and topics mean.
#[derive(Clone, Debug)]
pub struct Routes<'a> {
    /// Every pipeline's graph.
    pub graphs: Vec<&'a Graph>,
    /// Every declared topic.
    pub topology: &'a Topology,
    /// What each pipeline's messages may name beside its nodes.
    pub naming: BTreeMap<&'a PipelineId, &'a Naming>,
}

/// Reads one message. Never fails and never panics: whatever cannot be read is [`Decoded::Parked`].
pub fn decode(routes: &Routes<'_>, delivery: &Delivery) -> Decoded {
    // What panics here would do so each time it comes, and nothing of it outlives the call.
    catch_unwind(AssertUnwindSafe(|| read(routes, delivery))).unwrap_or(Decoded::Parked { reason: Reason::Fault })
}

fn read(routes: &Routes<'_>, delivery: &Delivery) -> Decoded {
    crash::at(Place::Received);
    if delivery.data.is_empty() {
        return Decoded::Probe;
    }
    let decoded = (|| {
        let topic = routes.topology.topic(&delivery.topic).ok_or_else(|| unknown_topic(routes, &delivery.topic))?;
        match topic.carries {
            Carries::Completion => {
                let body = object(&delivery.data)?;
                Ok(completion::decode(routes, &topic.pipeline, delivery, &body))
            }
            Carries::Heartbeat => {
                let body = object(&delivery.data)?;
                Ok(heartbeat::decode(routes, &topic.pipeline, delivery, &body))
            }
            Carries::Trigger | Carries::Request => Ok(Decoded::Ignored { reason: Ignored::Request }),
            Carries::DeadLetter | Carries::Other => Ok(Decoded::Ignored { reason: Ignored::OtherTopic }),
        }
    })();
    decoded.unwrap_or_else(|reason| Decoded::Parked { reason })
}

/// The data as an object of known fields, unknown ones left aside.
pub(super) fn object<T: DeserializeOwned>(data: &[u8]) -> Result<T, Reason> {
    if data.len() > DATA_MAX {
        return Err(Reason::TooLarge { bytes: data.len() });
    }
    let text = std::str::from_utf8(data).map_err(|_| Reason::NotUtf8)?;
    // Some editors put a byte-order mark first; it says nothing.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if is_too_deep(text) {
        return Err(Reason::TooDeep);
    }
    let not_json = |error: serde_json::Error| Reason::NotJson(excerpt(&error.to_string()));
    if !text.starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text).map_err(not_json)?;
        return Err(Reason::NotAnObject(if text.starts_with('[') { "a list" } else { "a single value" }));
    }
    match serde_json::from_str::<Object<T>>(text) {
        Ok(object) => Ok(object.0),
        Err(error) if error.is_data() => Err(Reason::Shape(excerpt(&error.to_string()))),
        Err(error) => Err(not_json(error)),
    }
}

/// Whether brackets outside strings nest deeper than [`DEPTH_MAX`]; counted before parsing, which costs more.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn unknown_topic(routes: &Routes<'_>, topic: &str) -> Reason {
    let topic = excerpt(topic);
    let hint = suggestion(&topic, routes.topology.topics().map(|(name, _): (&TopicName, _)| name.as_str()));
    Reason::UnknownTopic { topic, hint }
}
