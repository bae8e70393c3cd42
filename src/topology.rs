//! Which topics, subscriptions and dead-letter topics must exist, and with which settings?
//!
//! Reads `topics.yaml`, the one declaration that the service, `topics apply`, `topics check` and the deployment share,
//! so that no topic name is typed twice. It does not know which broker will carry the topics, what a message means, or
//! where a consumer is deployed: an endpoint here is a path, and the host belongs to the settings.
//!
//! What holds of every [`Topology`] that exists:
//! - a subscription's name is used once, whatever its topic;
//! - what a subscription gives up on goes to a declared dead-letter topic, which somebody reads, and never in a circle;
//! - what carries completions, heartbeats, triggers or requests has a consumer, unless it is retired;
//! - every number is one that Pub/Sub accepts.

pub mod broker;
mod read;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use self::read::check;

/// Every declared topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    topics: BTreeMap<TopicName, Topic>,
}

impl Topology {
    /// Every topic, retired ones included, by name.
    pub fn topics(&self) -> impl Iterator<Item = (&TopicName, &Topic)> {
        self.topics.iter()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The subscription of that name and the topic it reads.
    pub fn subscription(&self, name: &str) -> Option<(&TopicName, &Subscription)> {
        self.topics.iter().find_map(|(topic, declared)| Some((topic, declared.subscriptions.get(name)?)))
    }

    /// What a shadow reads: the topics that `consumer` hears, each over a subscription of the shadow's own, whose name begins
    /// with `prefix`. It gives nothing up and replays nothing, so it has to do with no dead letter.
    #[must_use]
    pub fn shadow(&self, consumer: &str, prefix: &str) -> Self {
        let topics = self.topics.iter().filter(|(_, topic)| topic.carries != Carries::DeadLetter);
        let topics = topics.filter_map(|(name, topic)| {
            let heard: BTreeMap<SubscriptionName, Subscription> = topic
                .subscriptions
                .iter()
                .filter(|(_, subscription)| subscription.consumer == consumer)
                .map(|(name, subscription)| {
                    let name = SubscriptionName(format!("{prefix}{name}"));
                    (name, Subscription { dead_letter: None, ..subscription.clone() })
                })
                .collect();
            (!heard.is_empty()).then(|| (name.clone(), Topic { subscriptions: heard, ..topic.clone() }))
        });
        Self { topics: topics.collect() }
    }

    /// Every subscription from which one consumer is served.
    pub fn consumed_by(&self, consumer: &str) -> impl Iterator<Item = (&TopicName, &SubscriptionName, &Subscription)> {
        self.topics.iter().flat_map(move |(topic, declared)| {
            declared
                .subscriptions
                .iter()
                .filter(move |(_, subscription)| subscription.consumer == consumer)
                .map(move |(name, subscription)| (topic, name, subscription))
        })
    }
}

/// A topic as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// What the topic is for, in words.
    pub purpose: String,
    /// The pipeline that the topic belongs to. A message of another pipeline that arrives here is misrouted.
    pub pipeline: String,
    /// What kind of message the topic carries.
    pub carries: Carries,
    /// The phase whose messages these are; a label, for display only.
    pub phase: Option<String>,
    /// Who publishes here. A description: nothing is granted by it.
    pub publishers: Vec<String>,
    /// How long the topic keeps messages, acknowledged ones included, so that a subscription can be rewound.
    pub retention: Duration,
    /// Name of the JSON Schema of the messages, without directory and extension.
    pub schema: Option<String>,
    /// The Firestore collection into which the same messages are written by those who do not publish.
    pub collection: Option<String>,
    /// Whether the topic is in use.
    pub standing: Standing,
    /// Line of the topic's name in the file, for messages about it.
    pub line: u64,
    subscriptions: BTreeMap<SubscriptionName, Subscription>,
}

impl Topic {
    /// The declared subscriptions; their number is the number of consumers the topic should have.
    pub fn subscriptions(&self) -> impl ExactSizeIterator<Item = (&SubscriptionName, &Subscription)> {
        self.subscriptions.iter()
    }
}

/// What kind of message a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carries {
    /// Claims that a run ended.
    Completion,
    /// Proofs of life of runs.
    Heartbeat,
    /// Requests for work that an orchestrator sends.
    Trigger,
    /// Requests for work that others send, among themselves or to an orchestrator.
    Request,
    /// What a subscription gave up on.
    DeadLetter,
    /// Anything that does not move the pipeline's graph.
    Other,
}

impl Carries {
    const ALL: [Self; 6] =
        [Self::Completion, Self::Heartbeat, Self::Trigger, Self::Request, Self::DeadLetter, Self::Other];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Heartbeat => "heartbeat",
            Self::Trigger => "trigger",
            Self::Request => "request",
            Self::DeadLetter => "dead-letter",
            Self::Other => "other",
        }
    }

    /// Why a live topic of this kind must have a consumer, where it must.
    fn unread(self) -> Option<&'static str> {
        match self {
            Self::Completion | Self::Heartbeat | Self::Trigger | Self::Request => {
                Some("has no subscription, so every message is lost; declare its consumer or say why it is retired")
            }
            Self::DeadLetter => Some("is a dead-letter topic without a subscription, so every letter is lost"),
            Self::Other => None,
        }
    }
}

/// Whether a topic is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// Nothing should publish or subscribe any more. Declared so that a check of the broker can name it as an orphan.
    Retired {
        why: String,
    },
}

/// A subscription as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The service, or the people, served from it.
    pub consumer: String,
    /// How messages reach the consumer.
    pub delivery: Delivery,
    /// How long the consumer may take to acknowledge before the broker delivers again. For a push this bounds the work.
    pub ack_deadline: Duration,
    /// How long the broker keeps what is not acknowledged.
    pub retention: Duration,
    /// The pause between deliveries of a message that was refused.
    pub backoff: Backoff,
    /// Where messages go that nobody could process. Absent only on a dead-letter topic's own subscription.
    pub dead_letter: Option<DeadLetter>,
    /// Line of the subscription's name in the file, for messages about it.
    pub line: u64,
}

/// How messages reach a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The consumer asks for them.
    Pull,
    /// The broker posts them to a path at the consumer's service.
    Push { path: String, body: PushBody },
}

/// What a push request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushBody {
    /// Pub/Sub's envelope, the payload in base64 inside.
    Envelope,
    /// The payload itself; the message's attributes are request headers.
    Payload,
}

/// The least and the longest pause between deliveries of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

/// When a subscription gives up on a message, and where the message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: TopicName,
    pub attempts_max: u32,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A topic's name within its project.
    TopicName
}
name! {
    /// A subscription's name within its project.
    SubscriptionName
}

/// A duration written as a whole number and one unit: `90s`, `10m`, `1h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("`{text}` is not a duration; write a whole number and a unit, as in 90s, 10m, 1h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_each: u64 = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(malformed()),
    };
    // A sign would be accepted by the parser of numbers and means nothing here.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let count: u64 = digits.parse().map_err(|_| malformed())?;
    count.checked_mul(seconds_each).map(Duration::from_secs).ok_or_else(malformed)
}

/// A duration in the form that [`duration`] reads, in the largest unit that divides it; fractions of a second are dropped.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")];
    let fits = units.iter().find(|(each, _)| seconds >= *each && seconds.is_multiple_of(*each));
    fits.map_or_else(|| format!("{seconds}s"), |(each, unit)| format!("{}{unit}", seconds / each))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::diagnostic::Problems;

    const SHIPPED: &str = include_str!("../topics.yaml");

    const HEAD: &str = "\
version: 1
defaults:
  topic: { retention: 7d }
  push: { ack_deadline: 600s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 7d }
  pull: { ack_deadline: 60s, attempts_max: 20, backoff: { min: 10s, max: 600s }, retention: 7d }
topics:
  done-dlq:
    { purpose: letters, pipeline: nba, carries: dead-letter, subscriptions: { done-dlq-sub: { consumer: operators, delivery: pull } } }
";

    /// A file with one sound dead-letter topic and the given lines, which begin at line 9.
    fn checked(lines: &str) -> Result<Topology, Problems> {
        check(&format!("{HEAD}{lines}"), "topics.yaml")
    }

    /// A topic whose one subscription has the given settings, which begin at line 14.
    fn with_subscription(settings: &str) -> String {
        format!("  done:\n    purpose: p\n    pipeline: nba\n    carries: completion\n    subscriptions:\n{settings}")
    }

    #[test]
    fn the_shipped_topology_is_sound() {
        // What the crate ships must pass its own check, or the service would not start.
        let topology = check(SHIPPED, "topics.yaml").unwrap_or_else(|problems| panic!("\n{problems}"));
        let phase4 = topology.topic("nba-phase4-trigger").expect("declared");
        let (_, subscription) = phase4.subscriptions().next().expect("has a consumer");
        assert_eq!(subscription.delivery, Delivery::Push { path: "/process".to_owned(), body: PushBody::Envelope });
        assert_eq!(subscription.ack_deadline, Duration::from_secs(600));
        assert_eq!(
            subscription.dead_letter.as_ref().map(|letter| letter.topic.as_str()),
            Some("nba-phase4-trigger-dlq")
        );
        let (_, start) = topology.subscription("nba-predictions-trigger-sub").expect("declared");
        assert_eq!(start.delivery, Delivery::Push { path: "/start".to_owned(), body: PushBody::Payload });
    }

    #[test]
    fn tipoff_reads_everything_that_reports() {
        // A completion that nobody turns into an event is a hand-off that never happens.
        let topology = check(SHIPPED, "topics.yaml").expect("sound");
        let read: BTreeSet<_> = topology.consumed_by("tipoff").map(|(topic, _, _)| topic.clone()).collect();
        let reports: BTreeSet<_> = topology
            .topics()
            .filter(|(_, topic)| topic.standing == Standing::Live)
            .filter(|(_, topic)| matches!(topic.carries, Carries::Completion | Carries::Heartbeat))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(read.is_superset(&reports), "unread: {:?}", reports.difference(&read).collect::<Vec<_>>());
        for (_, name, subscription) in topology.consumed_by("tipoff") {
            assert!(name.as_str().starts_with("tipoff-"), "{name}");
            assert_eq!(subscription.delivery, Delivery::Pull, "{name}");
        }
    }

    #[test]
    fn every_schema_that_a_topic_names_accepts_its_own_examples() {
        // A schema that is enforced on outgoing messages must at least let the messages through that it shows.
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let read = |path: &std::path::Path| -> serde_json::Value {
            let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let topology = check(SHIPPED, "topics.yaml").expect("sound");
        for (name, topic) in topology.topics() {
            if let Some(schema) = &topic.schema {
                assert!(root.join(format!("{schema}.json")).is_file(), "{name} names {schema}");
            }
        }
        for entry in std::fs::read_dir(&root).expect("schemas are shipped") {
            let path = entry.expect("readable").path();
            // The folders beside them hold schemas of tables, and the API's description is YAML.
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let schema = read(&path);
            let validator =
                jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let examples = schema["examples"].as_array().filter(|examples| !examples.is_empty());
            for example in examples.unwrap_or_else(|| panic!("{} shows no example", path.display())) {
                if let Err(error) = validator.validate(example) {
                    panic!("{}: {error}: {example}", path.display());
                }
            }
        }
    }

    #[test]
    fn defaults_fill_what_a_subscription_leaves_out() {
        // Each value comes from the subscription if it is there and from the delivery's defaults if not.
        let topology = checked(&with_subscription(
            "      raw: { consumer: raw, delivery: push, endpoint: /process, ack_deadline: 300s, dead_letter: done-dlq }
      our: { consumer: tipoff, delivery: pull, attempts_max: 7, dead_letter: done-dlq }\n",
        ))
        .expect("sound");
        let (topic, raw) = topology.subscription("raw").expect("declared");
        assert_eq!(topic.as_str(), "done");
        assert_eq!(raw.ack_deadline, Duration::from_secs(300));
        assert_eq!(raw.dead_letter.as_ref().map(|letter| letter.attempts_max), Some(5));
        let (_, our) = topology.subscription("our").expect("declared");
        assert_eq!(our.ack_deadline, Duration::from_secs(60));
        assert_eq!(our.dead_letter.as_ref().map(|letter| letter.attempts_max), Some(7));
        let names: Vec<_> = topology.consumed_by("tipoff").map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(names, ["our"]);
    }

    #[test]
    fn each_mistake_in_a_subscription_is_named_with_its_place() {
        // One row per rule; the subscription's own keys begin at line 14.
        let table = [
            (
                "      raw: { consumer: raw, delivery: push, endpoint: /process, dead_letter: done-dlq, ack_deadline: 10x }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.ack_deadline: `10x` is not a duration; write a whole number and a unit, as in 90s, 10m, 1h or 7d",
            ),
            (
                "      raw:\n        consumer: raw\n        delivery: pull\n        dead_letter: done-dlq\n        ack_deadline: 9s\n",
                "topics.yaml:18: topics.done.subscriptions.raw.ack_deadline: 9s is outside 10s to 10m",
            ),
            (
                "      raw:\n        consumer: raw\n        delivery: pull\n        dead_letter: done-dlq\n        retention: 32d\n",
                "topics.yaml:18: topics.done.subscriptions.raw.retention: 32d is outside 10m to 31d",
            ),
            (
                "      raw:\n        consumer: raw\n        delivery: pull\n        dead_letter: done-dlq\n        attempts_max: 3\n",
                "topics.yaml:18: topics.done.subscriptions.raw.attempts_max: 3 is outside 5 to 100",
            ),
            (
                "      raw:\n        consumer: raw\n        delivery: pull\n        dead_letter: done-dlq\n        backoff: { min: 20s, max: 10s }\n",
                "topics.yaml:18: topics.done.subscriptions.raw.backoff: min 20s is longer than max 10s",
            ),
            (
                "      raw:\n        consumer: raw\n        delivery: pull\n        dead_leter: done-dlq\n",
                "topics.yaml:14: topics.done.subscriptions.raw.dead_letter: missing; without it a message that nobody can process is delivered until it expires\n\
                 topics.yaml:17: topics.done.subscriptions.raw.dead_leter: unknown key; did you mean `dead_letter`?",
            ),
            (
                "      raw: { consumer: raw, delivery: pull, dead_letter: done-dql }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.dead_letter: no topic `done-dql` is declared; did you mean `done-dlq`?",
            ),
            (
                "      raw: { consumer: raw, delivery: pull, dead_letter: done }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.dead_letter: `done` carries completion; a letter needs a topic that carries dead-letter\n\
                 topics.yaml:14: topics.done.subscriptions.raw.dead_letter: a letter sent to `done` comes back to `done`, and would go round until it expires",
            ),
            (
                "      raw: { consumer: raw, delivery: push, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.delivery: a push needs an `endpoint`",
            ),
            (
                "      raw: { consumer: raw, delivery: push, endpoint: process, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.endpoint: `process` is not a path; it has to begin with /",
            ),
            (
                "      raw: { consumer: raw, delivery: pull, endpoint: /process, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.endpoint: has no effect on a pull",
            ),
            (
                "      raw: { consumer: raw, delivery: pul, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.delivery: `pul` is not one of push, pull; did you mean `pull`?",
            ),
            (
                "      raw: { delivery: pull, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.raw.consumer: missing",
            ),
            (
                "      a1: { consumer: raw, delivery: pull, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.a1: a name has 3 to 255 characters, this one 2",
            ),
            (
                "      goog raw: { consumer: raw, delivery: pull, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.goog raw: a name is of letters, digits and - _ . ~ + %; this one has ` `\n\
                 topics.yaml:14: topics.done.subscriptions.goog raw: names that begin with `goog` are reserved",
            ),
            (
                "      1raw: { consumer: raw, delivery: pull, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.1raw: a name begins with a letter",
            ),
            (
                "      done-dlq-sub: { consumer: raw, delivery: pull, dead_letter: done-dlq }\n",
                "topics.yaml:14: topics.done.subscriptions.done-dlq-sub: `done-dlq` has a subscription of this name; names are unique in a project",
            ),
            (
                "      raw: { consumer: raw, delivery: push, endpoint: /process, dead_letter: done-dlq }\n      raw2: { consumer: raw, delivery: push, endpoint: /process, dead_letter: done-dlq }\n",
                "topics.yaml:15: topics.done.subscriptions.raw2: pushes to /process of raw as `raw` does; the work would be done twice",
            ),
        ];
        for (settings, expected) in table {
            let shown = checked(&with_subscription(settings)).expect_err(settings).to_string();
            assert_eq!(shown, expected, "\n{settings}");
        }
    }

    #[test]
    fn each_mistake_in_a_topic_is_named_with_its_place() {
        // One row per rule; the topics' own keys begin at line 9.
        let table = [
            (
                "  go: { purpose: p, pipeline: nba, carries: other }\n",
                "topics.yaml:9: topics.go: a name has 3 to 255 characters, this one 2",
            ),
            (
                "  done: { purpose: p, pipeline: nba, carries: completion }\n",
                "topics.yaml:9: topics.done: has no subscription, so every message is lost; declare its consumer or say why it is retired",
            ),
            (
                "  start: { purpose: p, pipeline: nba, carries: trigger, subscriptions: {} }\n",
                "topics.yaml:9: topics.start: has no subscription, so every message is lost; declare its consumer or say why it is retired",
            ),
            (
                "  lost-dlq: { purpose: p, pipeline: nba, carries: dead-letter }\n",
                "topics.yaml:9: topics.lost-dlq: is a dead-letter topic without a subscription, so every letter is lost",
            ),
            (
                "  done: { purpose: p, pipeline: nba, carries: completions }\n",
                "topics.yaml:9: topics.done.carries: `completions` is not one of completion, heartbeat, trigger, request, dead-letter, other; did you mean `completion`?",
            ),
            (
                "  done: { purpose: p, pipelin: nba, carries: other }\n",
                "topics.yaml:9: topics.done.pipeline: missing\n\
                 topics.yaml:9: topics.done.pipelin: unknown key; did you mean `pipeline`?",
            ),
            (
                "  done: { purpose: p, pipeline: nba, carries: other, retention: 5m }\n",
                "topics.yaml:9: topics.done.retention: 5m is outside 10m to 31d",
            ),
            (
                "  done: { purpose: p, pipeline: nba, carries: trigger, retired: '' }\n",
                "topics.yaml:9: topics.done.retired: says nothing; write why the topic is no longer in use",
            ),
            (
                "  done: { purpose: p, pipeline: nba, carries: other, retired: old, subscriptions: { raw: { consumer: raw, delivery: pull, dead_letter: done-dlq } } }\n",
                "topics.yaml:9: topics.done.subscriptions: belongs to a retired topic; remove the subscriptions or `retired`",
            ),
            (
                "  old-dlq: { purpose: p, pipeline: nba, carries: dead-letter, retired: old }\n  done: { purpose: p, pipeline: nba, carries: other, subscriptions: { raw: { consumer: raw, delivery: pull, dead_letter: old-dlq } } }\n",
                "topics.yaml:10: topics.done.subscriptions.raw.dead_letter: `old-dlq` is retired",
            ),
            (
                "  done: { purpose: p, pipeline: nba, carries: other }\n  done: { purpose: p, pipeline: nba, carries: other }\n",
                "topics.yaml:10: topics.done: written twice in one mapping",
            ),
            (
                "  late-dlq: { purpose: p, pipeline: nba, carries: dead-letter, subscriptions: { late: { consumer: o, delivery: pull, attempts_max: 9 } } }\n",
                "topics.yaml:9: topics.late-dlq.subscriptions.late.attempts_max: has no effect without `dead_letter`",
            ),
        ];
        for (topics, expected) in table {
            let shown = checked(topics).expect_err(topics).to_string();
            assert_eq!(shown, expected, "\n{topics}");
        }
    }

    #[test]
    fn letters_must_not_go_round() {
        // Each topic is a sound dead-letter topic; together they pass a letter on for ever.
        let shown = checked(
            "  one-dlq: { purpose: p, pipeline: nba, carries: dead-letter, subscriptions: { one: { consumer: o, delivery: pull, dead_letter: two-dlq } } }
  two-dlq: { purpose: p, pipeline: nba, carries: dead-letter, subscriptions: { two: { consumer: o, delivery: pull, dead_letter: one-dlq } } }\n",
        )
        .expect_err("a circle")
        .to_string();
        assert_eq!(
            shown,
            "topics.yaml:9: topics.one-dlq.subscriptions.one.dead_letter: a letter sent to `two-dlq` comes back to `one-dlq`, and would go round until it expires\n\
             topics.yaml:10: topics.two-dlq.subscriptions.two.dead_letter: a letter sent to `one-dlq` comes back to `two-dlq`, and would go round until it expires"
        );
    }

    #[test]
    fn the_head_of_the_file_is_checked_too() {
        // All that is missing is listed, and what is there is still read.
        let shown = check("version: 2\ntopic: {}\n", "t.yaml").expect_err("mistakes").to_string();
        assert_eq!(
            shown,
            "t.yaml:1: version: expected 1, found 2\n\
             t.yaml:1: defaults: missing\n\
             t.yaml:1: topics: missing\n\
             t.yaml:2: topic: unknown key; did you mean `topics`?"
        );
        let shown = check("version: 1\ndefaults:\n  topic: {}\n  push: { ack_deadline: 5s }\ntopics: {}\n", "t.yaml");
        assert_eq!(
            shown.expect_err("mistakes").to_string(),
            "t.yaml:2: defaults.pull: missing\n\
             t.yaml:3: defaults.topic.retention: missing\n\
             t.yaml:4: defaults.push.attempts_max: missing\n\
             t.yaml:4: defaults.push.backoff: missing\n\
             t.yaml:4: defaults.push.retention: missing\n\
             t.yaml:4: defaults.push.ack_deadline: 5s is outside 10s to 10m"
        );
        assert!(check("- a\n- b\n", "t.yaml").is_err());
        assert!(check("topics: {", "t.yaml").is_err());
    }

    #[test]
    fn durations_read_and_show_alike() {
        // A whole number and one unit, nothing else.
        for (text, seconds) in [("0s", 0), ("90s", 90), ("10m", 600), ("1h", 3600), ("7d", 604_800), ("25h", 90_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(duration(&show(Duration::from_secs(seconds))), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(show(Duration::from_secs(600)), "10m");
        assert_eq!(show(Duration::from_secs(90)), "90s");
        for text in ["", "s", "10", "10 s", "-1s", "+1s", "1.5h", "10S", "1h30m", "10ms", "9999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
