//! What a dead letter looks like on the wire: where it comes from, what it is about, and what its replay says.
//!
//! A replay is a new message on the original topic: the same fields, `recovery: true`, an execution id of its own, and the
//! id of the execution that it was first published for. Both ids are functions of the letter, so a replay that is sent
//! twice is the same message for whoever compares them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::dispatch::{MANIFEST_KEY, Outgoing, Target};
use super::envelope::Content;
use super::inbound::{DISPATCH_ATTRIBUTE, Decoded, Delivery, NAME_MAX, Reason, Routes, decode, object};
use super::value::{date, shown};
use crate::domain::dead_letter::{About, Cause, Kind, Letter, Says, Version};
use crate::domain::event::Event;
use crate::domain::id::{DispatchId, LetterId, RunId};
use crate::topology::{Carries, Topology};

/// The most bytes of a body that are kept whole, and can be replayed as they are: as many as are read of a message.
pub const BODY_MAX: usize = super::inbound::DATA_MAX;
/// What is kept of a longer one.
pub const HEAD_MAX: usize = 4096;
/// The most bytes of attributes that are kept: as many as Pub/Sub takes.
const ATTRIBUTES_MAX: usize = 128 * 1024;
/// The longest reason that is kept.
const REASON_MAX: usize = 1000;
/// The longest words of a cause.
const CAUSE_MAX: usize = 200;
/// Characters of a letter's name.
pub const ID_LEN: usize = 16;
/// How the attributes begin by which a broker says where a dead letter comes from.
const SOURCE: &str = "CloudPubSubDeadLetterSource";
/// The attribute by which a replay is known again: its execution id.
pub const REPLAY_ATTRIBUTE: &str = "tipoff-replay";

/// A letter with what it says.
pub type Kept = (Letter, Content);

/// Reads a message off a dead-letter topic.
pub fn dead(routes: &Routes<'_>, delivery: &Delivery) -> Kept {
    let source = |name: &str| delivery.attributes.get(&format!("{SOURCE}{name}")).map(String::as_str);
    let (topic, subscription) = origin(routes.topology, &delivery.topic, source("Subscription"));
    let published = source("TopicPublishTime").and_then(|at| at.parse::<Timestamp>().ok());
    let error = source("DeliveryErrorMessage").map(|text| shown(text, REASON_MAX)).filter(|text| !text.is_empty());
    let content = content(delivery);
    let seen = Message {
        topic: topic.as_deref(),
        message_id: &delivery.message_id,
        published: published.unwrap_or(delivery.published),
        content: &content,
    };
    let unreadable = seen.unreadable(routes);
    let words = error.unwrap_or_else(|| "its consumer never acknowledged it".to_owned());
    let reason = match &unreadable {
        Some(reason) => shown(&format!("{words}; {reason}"), REASON_MAX),
        None => words.clone(),
    };
    let slug = unreadable.as_ref().map(|reason| format!(" ({})", reason.slug())).unwrap_or_default();
    let letter = Letter {
        // Forwarded twice by the broker, it is one letter: the broker's new name for it tells nothing.
        id: match published {
            Some(at) => id(&[
                "dead",
                &delivery.topic,
                subscription.as_deref().unwrap_or_default(),
                &origin_id(delivery),
                &at.to_string(),
                &digest(&delivery.data),
            ]),
            None => id(&["dead", &delivery.topic, &delivery.message_id]),
        },
        kind: Kind::Dead,
        cause: cause(subscription.as_deref().unwrap_or(&delivery.topic), &format!("{words}{slug}")),
        message_id: shown(&delivery.message_id, NAME_MAX),
        published: seen.published,
        at: delivery.published,
        attempts: source("DeliveryCount").and_then(|count| count.parse().ok()).unwrap_or(0),
        reason,
        about: seen.about(routes),
        versions: vec![first(delivery)],
        replays: Vec::new(),
        discarded: None,
        again_at: None,
        topic,
        subscription,
    };
    (letter, content)
}

/// An input that can never be applied, under the fingerprint by which its repetitions are counted.
pub fn parked(routes: &Routes<'_>, delivery: &Delivery, fingerprint: &str, reason: &str, at: Timestamp) -> Kept {
    let content = content(delivery);
    let topic = routes.topology.topic(&delivery.topic).map(|_| delivery.topic.clone());
    let seen = Message {
        topic: topic.as_deref(),
        message_id: &delivery.message_id,
        published: delivery.published,
        content: &content,
    };
    let letter = Letter {
        id: id(&["parked", fingerprint]),
        kind: Kind::Parked,
        cause: cause(topic.as_deref().unwrap_or("an undeclared topic"), reason),
        subscription: None,
        message_id: shown(&delivery.message_id, NAME_MAX),
        published: delivery.published,
        at,
        attempts: 1,
        reason: shown(reason, REASON_MAX),
        about: seen.about(routes),
        versions: vec![first(delivery)],
        replays: Vec::new(),
        discarded: None,
        again_at: None,
        topic,
    };
    (letter, content)
}

/// An effect that can never be delivered: its id, where it was to go, and its JSON.
pub fn undeliverable(effect: (&str, &str), about: About, body: Vec<u8>, reason: &str, at: Timestamp) -> Kept {
    let (effect, target) = effect;
    let delivery = Delivery {
        topic: String::new(),
        message_id: effect.to_owned(),
        published: at,
        attributes: BTreeMap::new(),
        data: body,
    };
    let letter = Letter {
        id: id(&["undeliverable", effect]),
        kind: Kind::Undeliverable,
        topic: None,
        subscription: Some(target.to_owned()),
        message_id: effect.to_owned(),
        published: at,
        at,
        attempts: 0,
        reason: shown(reason, REASON_MAX),
        cause: cause(target, reason),
        about,
        versions: vec![first(&delivery)],
        replays: Vec::new(),
        discarded: None,
        again_at: None,
    };
    (letter, content(&delivery))
}

/// A message as it was first published.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its topic, where known.
    pub topic: Option<&'a str>,
    /// The broker's name for it.
    pub message_id: &'a str,
    /// When.
    pub published: Timestamp,
    /// What it says.
    pub content: &'a Content,
}

impl Message<'_> {
    /// The same as a delivery.
    pub fn delivery(&self) -> Delivery {
        let (data, attributes) = self.content.clone();
        Delivery {
            topic: self.topic.unwrap_or_default().to_owned(),
            message_id: self.message_id.to_owned(),
            published: self.published,
            attributes,
            data,
        }
    }

    /// Why tipoff itself can make nothing of it, if it should.
    pub fn unreadable(&self, routes: &Routes<'_>) -> Option<Reason> {
        if self.topic.is_some_and(|topic| is_report(routes.topology, topic)) {
            return match decode(routes, &self.delivery()) {
                Decoded::Parked { reason } => Some(reason),
                Decoded::Events { .. } | Decoded::Probe | Decoded::Ignored { .. } => None,
            };
        }
        object::<Map<String, Value>>(&self.content.0).err()
    }

    /// What it is about, as the names are declared now.
    pub fn about(&self, routes: &Routes<'_>) -> About {
        let carries = self.topic.and_then(|topic| routes.topology.topic(topic)).map(|topic| topic.carries);
        if matches!(carries, Some(Carries::Completion | Carries::Heartbeat))
            && let Decoded::Events { key, events } = decode(routes, &self.delivery())
        {
            let (node, run, dispatch, says) = match events.into_iter().next() {
                Some(Event::Completed(done)) => (Some(done.node), Some(done.run), done.dispatch, Says::Reports),
                Some(Event::Heartbeat(beat)) => (Some(beat.node), Some(beat.run), None, Says::Beats),
                _ => (None, None, None, Says::Unclear),
            };
            return About { pipeline: Some(key.pipeline), date: Some(key.date), node, run, dispatch, says };
        }
        let says = match carries {
            Some(Carries::Completion) => Says::Reports,
            Some(Carries::Heartbeat) => Says::Beats,
            Some(Carries::Trigger | Carries::Request) => Says::Asks,
            Some(Carries::DeadLetter | Carries::Other) | None => Says::Unclear,
        };
        let body = object::<Map<String, Value>>(&self.content.0).unwrap_or_default();
        let attribute = |name: &str| self.content.1.get(name).map(String::as_str);
        let manifest = body.get(MANIFEST_KEY).and_then(|manifest| manifest.get("dispatch_id")).and_then(Value::as_str);
        let dispatch = manifest.or_else(|| attribute(DISPATCH_ATTRIBUTE)).filter(|id| id.chars().count() <= NAME_MAX);
        let dispatch = dispatch.map(DispatchId::from);
        if let Some((key, node, _)) = dispatch.as_ref().and_then(DispatchId::parts) {
            return About {
                pipeline: Some(key.pipeline),
                date: Some(key.date),
                node: Some(node),
                run: None,
                dispatch,
                says,
            };
        }
        let pipeline = self.topic.and_then(|topic| routes.topology.topic(topic)).map(|topic| topic.pipeline.as_str());
        let graph = routes.graphs.iter().find(|graph| Some(graph.pipeline.as_str()) == pipeline);
        let date = date_of(&body);
        let names = ["processor_name", "processor", "scraper_name", "scraper", "node"];
        let name = names.into_iter().find_map(|field| body.get(field).and_then(Value::as_str));
        let node = match (graph, name, date) {
            (Some(graph), Some(name), Some(date)) => {
                graph.resolve(&name.to_ascii_lowercase(), date, self.published).cloned()
            }
            _ => None,
        };
        About { pipeline: graph.map(|graph| graph.pipeline.clone()), date, node, run: None, dispatch: None, says }
    }
}

/// Why a letter cannot be put into a new message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotSendable {
    /// Nobody knows where it came from.
    #[error("the topic it came from is not known, or not declared in topics.yaml")]
    NoTopic,
    /// Nothing can be added to it.
    #[error("{0}; --with FILE says what it is to say instead")]
    NotAnObject(String),
}

/// The message of a replay of a letter.
///
/// # Errors
/// If there is nowhere to send it, or its body takes no fields.
pub fn replay(
    topology: &Topology,
    topic: Option<&str>,
    content: &Content,
    run: &RunId,
) -> Result<Outgoing, NotSendable> {
    let topic = topic.filter(|topic| topology.topic(topic).is_some()).ok_or(NotSendable::NoTopic)?;
    let (data, attributes) = content;
    let mut body = object::<Map<String, Value>>(data).map_err(|reason| NotSendable::NotAnObject(reason.to_string()))?;
    if let Some(original) = original_of(&body) {
        body.insert("original_execution_id".to_owned(), original);
    }
    body.insert("execution_id".to_owned(), Value::from(run.as_str()));
    body.insert("recovery".to_owned(), Value::Bool(true));
    let mut attributes: BTreeMap<String, String> = attributes.clone();
    attributes.insert(REPLAY_ATTRIBUTE.to_owned(), run.to_string());
    Ok(Outgoing {
        id: run.to_string(),
        target: Target::Topic(topic.to_owned()),
        body: Value::Object(body).to_string().into_bytes(),
        attributes,
    })
}

/// The execution that a message was first published for, by the fields that say so wherever messages are read.
fn original_of(body: &Map<String, Value>) -> Option<Value> {
    let given = |value: &&Value| match value {
        Value::String(text) => !text.trim().is_empty(),
        other => other.is_u64() || other.is_i64(),
    };
    let recovered = body.get("recovery") == Some(&Value::Bool(true));
    let original = body.get("original_execution_id").filter(|_| recovered).filter(given);
    let plain = || ["execution_id", "run_id", "batch_id"].into_iter().find_map(|field| body.get(field).filter(given));
    let inner = || body.get("metadata").and_then(|metadata| metadata.get("batch_id")).filter(given);
    original.or_else(plain).or_else(inner).cloned()
}

/// The execution id of the replay that a message is, where it says that it is one.
pub fn replay_of(content: &Content) -> Option<&str> {
    content.1.get(REPLAY_ATTRIBUTE).map(String::as_str)
}

/// A digest of a body.
pub fn digest(data: &[u8]) -> String {
    hex(&Sha256::digest(data), 16)
}

/// Whether `topic` carries what tipoff reads.
fn is_report(topology: &Topology, topic: &str) -> bool {
    topology.topic(topic).is_some_and(|topic| matches!(topic.carries, Carries::Completion | Carries::Heartbeat))
}

/// Where a letter on `letters` comes from. The name of a subscription is believed only where that one's letters go there.
fn origin(topology: &Topology, letters: &str, named: Option<&str>) -> (Option<String>, Option<String>) {
    let name = named.and_then(|name| name.rsplit('/').next()).unwrap_or_default();
    let goes_here = |subscription: &crate::topology::Subscription| {
        subscription.dead_letter.as_ref().is_some_and(|letter| letter.topic.as_str() == letters)
    };
    if let Some((topic, subscription)) = topology.subscription(name)
        && goes_here(subscription)
    {
        return (Some(topic.to_string()), Some(name.to_owned()));
    }
    let mut topics = topology.topics().filter(|(_, topic)| topic.subscriptions().any(|(_, it)| goes_here(it)));
    let only = topics.next().map(|(name, _)| name.to_string()).filter(|_| topics.next().is_none());
    (only, None)
}

/// What names the original message where the broker's name for the letter does: ours is made of it.
fn origin_id(delivery: &Delivery) -> String {
    delivery.message_id.rsplit_once('@').map_or_else(String::new, |(origin, _)| origin.to_owned())
}

/// What is kept of a message, without what the broker has added.
fn content(delivery: &Delivery) -> Content {
    let mut room = if is_whole(delivery) { usize::MAX } else { HEAD_MAX };
    let mut attributes = BTreeMap::new();
    for (name, value) in delivery.attributes.iter().filter(|(name, _)| !name.starts_with(SOURCE)) {
        let needs = name.len() + value.len();
        if needs <= room {
            room -= needs;
            attributes.insert(name.clone(), value.clone());
        }
    }
    let data =
        if is_whole(delivery) { &delivery.data[..] } else { &delivery.data[..delivery.data.len().min(HEAD_MAX)] };
    (data.to_vec(), attributes)
}

fn is_whole(delivery: &Delivery) -> bool {
    let attributes: usize = delivery.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    delivery.data.len() <= BODY_MAX && attributes <= ATTRIBUTES_MAX
}

fn first(delivery: &Delivery) -> Version {
    Version {
        at: delivery.published,
        actor: None,
        reason: None,
        size: delivery.data.len(),
        is_whole: is_whole(delivery),
    }
}

/// What letters that failed alike have in common: where, and the words without numbers and ids.
pub fn cause(place: &str, words: &str) -> Cause {
    let words = shown(&format!("{place}: {}", without_numbers(words)), CAUSE_MAX);
    Cause { fingerprint: id(&[&words]).as_str().chars().take(8).collect(), words }
}

/// The words of an error with `#` for every number and every long id, so that those of one kind are equal. A number of
/// three digits stays: it is how services say what is wrong.
fn without_numbers(text: &str) -> String {
    /// Hexadecimal digits in a row that are an id and no word.
    const ID_MIN: usize = 8;
    /// Digits of a status of HTTP.
    const STATUS: usize = 3;
    let letters: Vec<char> = text.chars().take(REASON_MAX).collect();
    let mut plain = String::new();
    let mut rest = &letters[..];
    while let Some(next) = rest.first() {
        let run = |is: fn(&char) -> bool| rest.iter().take_while(|letter| is(letter)).count();
        let (hex, digits) = (run(char::is_ascii_hexdigit), run(char::is_ascii_digit));
        let is_id = hex >= ID_MIN && rest[..hex].iter().any(char::is_ascii_digit);
        let taken = if is_id { hex } else { digits };
        match taken {
            0 => plain.push(*next),
            STATUS if !is_id && !is_place(&plain) => plain.extend(&rest[..taken]),
            _ => plain.push('#'),
        }
        rest = &rest[taken.max(1)..];
    }
    plain
}

/// Whether a number that follows is a place in a text, as parsers tell it.
fn is_place(before: &str) -> bool {
    ["line ", "column ", "char ", "byte ", "offset ", "position "].iter().any(|word| before.ends_with(word))
}

/// A name made of what it stands for.
fn id(parts: &[&str]) -> LetterId {
    // Eight bytes: among 50,000 letters, two are called alike once in ten thousand million ledgers.
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part.as_bytes());
    }
    LetterId::new(hex(&digest.finalize(), ID_LEN / 2))
}

fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).map(|byte| format!("{byte:02x}")).collect()
}

fn date_of(body: &Map<String, Value>) -> Option<Date> {
    let fields = ["game_date", "analysis_date", "target_date", "data_date", "date", "start_date"];
    fields.into_iter().find_map(|field| date(body.get(field)?.as_str()?.trim()))
}
