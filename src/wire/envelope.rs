//! Pub/Sub's own wrapping: the body of a push request, and of a REST publish call.
//!
//! It says nothing about what the data mean; that is [`super::inbound`]'s.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::inbound::Delivery;
use super::value::Object;

/// Whether padding is there tells nothing about the data.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_OF_URLS: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A push request as the broker makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// The subscription, in full: `projects/…/subscriptions/…`. Empty where the request does not say.
    pub subscription: String,
    /// The message, whose topic the envelope does not name.
    pub message: Message,
    /// Which delivery this is, where the subscription has a dead-letter topic.
    pub delivery_attempt: Option<u32>,
}

/// A message whose topic is still to be found from its subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The broker's name for it.
    pub message_id: String,
    /// When the broker took it.
    pub published: Timestamp,
    /// What stands beside the data.
    pub attributes: BTreeMap<String, String>,
    /// What it says.
    pub data: Vec<u8>,
}

impl Message {
    /// The message as one of `topic`.
    pub fn of(self, topic: impl Into<String>) -> Delivery {
        let Self { message_id, published, attributes, data } = self;
        Delivery { topic: topic.into(), message_id, published, attributes, data }
    }
}

/// Why a body is no envelope. The request's fault, so it is answered with 400; a broker never sends such a thing.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEnvelope {
    /// Not JSON, or a field has the wrong type.
    #[error("the body is not what Pub/Sub sends: {0}")]
    Json(serde_json::Error),
    /// No `message`.
    #[error("the envelope has no message")]
    NoMessage,
    /// A message without its broker's id.
    #[error("the message has no messageId")]
    NoId,
    /// A message without the instant at which the broker took it.
    #[error("the message has no publishTime that is an RFC 3339 instant")]
    NoTime,
    /// Data that are no base64.
    #[error("the data of message {0} are not base64")]
    NotBase64(usize),
    /// A message that says nothing, which Pub/Sub refuses as well.
    #[error("message {0} has neither data nor attributes")]
    Nothing(usize),
}

/// Text that is read where it stands: data are long, and a copy of them is as long.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow)]
    message: Option<Object<Wrapped<'a>>>,
    subscription: Option<String>,
    #[serde(rename = "deliveryAttempt")]
    delivery_attempt: Option<u32>,
}

/// Google sends both spellings of the id and of the instant in one message, so they cannot be aliases of one field.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Wrapped<'a> {
    #[serde(borrow)]
    data: Option<Text<'a>>,
    attributes: Option<BTreeMap<String, String>>,
    #[serde(rename = "messageId")]
    id: Option<String>,
    #[serde(rename = "message_id")]
    id_snake: Option<String>,
    #[serde(rename = "publishTime")]
    time: Option<String>,
    #[serde(rename = "publish_time")]
    time_snake: Option<String>,
}

/// Reads the body of a push request.
///
/// Data that are not base64 are handed on as they stand: what they say is the content's fault, and refusing the request
/// would have it delivered again and again. Decoding parks them with their text.
pub fn unwrap_push(body: &[u8]) -> Result<Pushed, NotAnEnvelope> {
    let Object(push) = serde_json::from_slice::<Object<Push>>(body).map_err(NotAnEnvelope::Json)?;
    let Object(message) = push.message.ok_or(NotAnEnvelope::NoMessage)?;
    let message_id = message.id.or(message.id_snake).filter(|id| !id.is_empty()).ok_or(NotAnEnvelope::NoId)?;
    let published =
        message.time.or(message.time_snake).and_then(|time| time.parse().ok()).ok_or(NotAnEnvelope::NoTime)?;
    let data = message.data.map_or(Cow::Borrowed(""), |Text(data)| data);
    let data = decode(&data).unwrap_or_else(|| data.into_owned().into_bytes());
    let message = Message { message_id, published, attributes: message.attributes.unwrap_or_default(), data };
    let subscription = push.subscription.unwrap_or_default();
    Ok(Pushed { subscription, message, delivery_attempt: push.delivery_attempt })
}

/// Makes the body of a push request of `message` for `subscription`.
pub fn wrap_push(subscription: &str, message: &Message, delivery_attempt: Option<u32>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        message: OutMessage<'a>,
        subscription: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        delivery_attempt: Option<u32>,
    }
    #[derive(Serialize)]
    struct OutMessage<'a> {
        data: String,
        attributes: &'a BTreeMap<String, String>,
        #[serde(rename = "messageId")]
        id: &'a str,
        #[serde(rename = "message_id")]
        id_snake: &'a str,
        #[serde(rename = "publishTime")]
        time: Timestamp,
        #[serde(rename = "publish_time")]
        time_snake: Timestamp,
    }
    let out = Out {
        message: OutMessage {
            data: BASE64.encode(&message.data),
            attributes: &message.attributes,
            id: &message.message_id,
            id_snake: &message.message_id,
            time: message.published,
            time_snake: message.published,
        },
        subscription,
        delivery_attempt,
    };
    serde_json::to_vec(&out).expect("strings and numbers under string keys always serialise")
}

/// The data and the attributes of a message that is yet to be published.
pub type Content = (Vec<u8>, BTreeMap<String, String>);

#[derive(Deserialize)]
struct Publish<'a> {
    #[serde(borrow)]
    messages: Vec<Object<Published<'a>>>,
}

/// An ordering key is left aside: the order of messages decides nothing here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Published<'a> {
    #[serde(borrow)]
    data: Option<Text<'a>>,
    attributes: Option<BTreeMap<String, String>>,
}

/// Reads the body of a REST publish call: the data and attributes of each message.
pub fn unwrap_publish(body: &[u8]) -> Result<Vec<Content>, NotAnEnvelope> {
    let Object(publish) = serde_json::from_slice::<Object<Publish>>(body).map_err(NotAnEnvelope::Json)?;
    let read = |(index, Object(message)): (usize, Object<Published>)| {
        let data = message.data.map_or(Cow::Borrowed(""), |Text(data)| data);
        let data = decode(&data).ok_or(NotAnEnvelope::NotBase64(index))?;
        let attributes = message.attributes.unwrap_or_default();
        if data.is_empty() && attributes.is_empty() {
            Err(NotAnEnvelope::Nothing(index))
        } else {
            Ok((data, attributes))
        }
    };
    publish.messages.into_iter().enumerate().map(read).collect()
}

/// The bytes that either alphabet of base64 stands for.
fn decode(text: &str) -> Option<Vec<u8>> {
    // Each is read where it stands. What is of both, or in lines, is made of one first.
    let plain = BASE64.decode(text).or_else(|_| BASE64_OF_URLS.decode(text));
    plain.ok().or_else(|| {
        let mut standard = String::with_capacity(text.len());
        standard.extend(text.chars().filter(|c| !matches!(c, '\r' | '\n')).map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        }));
        BASE64.decode(standard).ok()
    })
}
