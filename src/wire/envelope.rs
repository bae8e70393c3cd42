//! Pub/Sub's envelopes: the push delivery and the publish call.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::Deserialize;

use super::inbound::Delivery;

/// What is wrong with an envelope. The sender gets it as an answer: it is the sender's mistake.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the expected JSON.
    #[error("the envelope is not what Pub/Sub sends: {0}")]
    Shape(#[from] serde_json::Error),
    /// The data are not base64.
    #[error("`data` is not base64")]
    Base64,
}

/// A push delivery.
#[derive(Debug)]
pub struct Pushed {
    /// The full name of the subscription it came over.
    pub subscription: String,
    /// The message; its topic is not in the envelope and is empty here.
    pub delivery: Delivery,
    /// How often it has been delivered, where the subscription has a dead-letter policy.
    pub attempt: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Push {
    message: PushMessage,
    #[serde(default)]
    subscription: String,
    #[serde(default)]
    delivery_attempt: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PushMessage {
    #[serde(default)]
    data: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default, rename = "message_id")]
    message_id_snake: Option<String>,
    #[serde(default)]
    publish_time: Option<Timestamp>,
    #[serde(default, rename = "publish_time")]
    publish_time_snake: Option<Timestamp>,
}

/// Reads a push delivery. One without a publish time was published by whoever is talking to us: `now`.
///
/// # Errors
/// If it is not a push envelope, or its data are not base64.
pub fn parse_push(bytes: &[u8], now: Timestamp) -> Result<Pushed, EnvelopeError> {
    let push: Push = serde_json::from_slice(bytes)?;
    let message = push.message;
    let published = message.publish_time.or(message.publish_time_snake).unwrap_or(now);
    Ok(Pushed {
        subscription: push.subscription,
        attempt: push.delivery_attempt,
        delivery: Delivery {
            topic: String::new(),
            message_id: message.message_id.or(message.message_id_snake).unwrap_or_default(),
            // A sender's clock ahead of ours must not hold verdicts back.
            published: published.min(now),
            attributes: message.attributes,
            data: decode(&message.data)?,
        },
    })
}

#[derive(Deserialize)]
struct Publish {
    messages: Vec<PublishMessage>,
}

#[derive(Deserialize)]
struct PublishMessage {
    #[serde(default)]
    data: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// One message of a publish call: its data and its attributes.
pub type Published = (Vec<u8>, BTreeMap<String, String>);

/// Reads the body of a publish call.
///
/// # Errors
/// If it is not one, or some message's data are not base64.
pub fn parse_publish(bytes: &[u8]) -> Result<Vec<Published>, EnvelopeError> {
    let publish: Publish = serde_json::from_slice(bytes)?;
    publish.messages.into_iter().map(|message| Ok((decode(&message.data)?, message.attributes))).collect()
}

/// Both alphabets and any padding: clients differ.
fn decode(data: &str) -> Result<Vec<u8>, EnvelopeError> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if data.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, config).decode(data.trim()).map_err(|_| EnvelopeError::Base64)
}
