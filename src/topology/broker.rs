//! What a broker has, and how that differs from what is declared. No vendor, no IO.
//!
//! A difference is a change that would take it away, or, where nothing we may do takes it away, a finding for people.
//! Nothing is ever deleted unless it is named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Delivery, PushBody, Standing, Subscription, Topology, show};

/// The consumer of our own subscriptions.
pub const OURSELVES: &str = "tipoff";

/// What a broker has of one project. `topics check --json` prints it, and `--from` reads it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Its topics, by name without the project.
    pub topics: BTreeMap<String, FoundTopic>,
    /// Its subscriptions, by name without the project.
    pub subscriptions: BTreeMap<String, FoundSubscription>,
}

/// A topic as it is. Absent values are the broker's defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoundTopic {
    /// Seconds for which acknowledged messages are kept.
    pub retention: Option<u64>,
    /// Whether the broker's own account may publish dead letters here; nothing where that cannot be told.
    pub letters_allowed: Option<bool>,
}

/// A subscription as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoundSubscription {
    /// Its topic; `_deleted-topic_` where that is gone.
    pub topic: String,
    /// Where it pushes; nothing where it is pulled.
    pub push: Option<FoundPush>,
    /// Seconds.
    pub ack_deadline: u64,
    /// Seconds for which unacknowledged messages are kept.
    pub retention: Option<u64>,
    /// Seconds: the least and the longest pause between deliveries.
    pub backoff: Option<(u64, u64)>,
    /// Where letters go, and after how many deliveries.
    pub dead_letter: Option<(String, u32)>,
    /// Whether the broker's own account may acknowledge what it has made a dead letter; nothing where that cannot be told.
    pub letters_allowed: Option<bool>,
    /// Seconds of idleness after which the broker deletes it; nothing for never.
    pub expires: Option<u64>,
    /// Whether messages of one key come in order.
    pub ordered: bool,
    /// Whether acknowledgements are confirmed.
    pub exactly_once: bool,
    /// Which messages it lets through; empty for all.
    pub filter: String,
}

/// Where a subscription pushes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoundPush {
    /// The URL.
    pub endpoint: String,
    /// Whether the payload comes without the envelope.
    pub bare: bool,
    /// The service account as whom it is pushed.
    pub identity: Option<String>,
    /// For whom the token is made; the endpoint where nothing is said.
    pub audience: Option<String>,
}

/// Where consumers are, and as whom they are called.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Base URLs by consumer.
    pub urls: BTreeMap<String, String>,
    /// The service account as whom the broker pushes.
    pub identity: Option<String>,
    /// Whether what would be pushed to a consumer without a URL is to be pulled instead, as on a laptop.
    pub pull_instead: bool,
}

/// One field of a subscription or topic that is to become another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Moved {
    /// Which.
    pub field: &'static str,
    /// From.
    pub from: String,
    /// To.
    pub to: String,
}

/// Something that would be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A topic is missing.
    CreateTopic {
        /// Its name.
        topic: String,
    },
    /// A topic is different.
    UpdateTopic {
        /// Its name.
        topic: String,
        /// What would move.
        moved: Vec<Moved>,
    },
    /// A subscription is missing.
    CreateSubscription {
        /// Its name.
        subscription: String,
        /// Its topic.
        topic: String,
    },
    /// A subscription is different.
    UpdateSubscription {
        /// Its name.
        subscription: String,
        /// What would move.
        moved: Vec<Moved>,
    },
    /// Named by the caller to be deleted.
    Delete {
        /// Its name.
        name: String,
    },
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Messages are lost, refused, or worked on twice.
    Error,
    /// It works today.
    Warning,
}

/// Something that people should know.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Finding {
    /// How bad.
    pub weight: Weight,
    /// The topic or subscription.
    pub name: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What would be done, in the order in which it can be.
pub fn changes(declared: &Topology, found: &Broker, places: &Places, delete: &BTreeSet<String>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, topic) in declared.topics().filter(|(_, topic)| topic.standing == Standing::Live) {
        let topic_name = name.to_string();
        match found.topics.get(name.as_str()) {
            None => changes.push(Change::CreateTopic { topic: topic_name }),
            Some(has) => {
                let moved = differing([("retention", has.retention.map(span), Some(show(topic.retention)))]);
                if !moved.is_empty() {
                    changes.push(Change::UpdateTopic { topic: topic_name, moved });
                }
            }
        }
    }
    for (topic, name, subscription) in subscriptions(declared) {
        let name = name.to_owned();
        let wanted = wanted(subscription, places);
        match (found.subscriptions.get(&name), wanted) {
            // Where it would push is not known; `findings` says so.
            (_, None) => {}
            (None, Some(_)) => {
                changes.push(Change::CreateSubscription { subscription: name, topic: topic.to_owned() });
            }
            (Some(has), Some(wanted)) if has.topic == topic => {
                let moved = moved(has, &wanted);
                if !moved.is_empty() {
                    changes.push(Change::UpdateSubscription { subscription: name, moved });
                }
            }
            (Some(_), Some(_)) => {}
        }
    }
    let there = |name: &&String| found.topics.contains_key(*name) || found.subscriptions.contains_key(*name);
    changes.extend(delete.iter().filter(there).map(|name| Change::Delete { name: name.clone() }));
    changes
}

/// Every declared subscription of a topic in use, with its topic's name and its own.
pub fn subscriptions(declared: &Topology) -> impl Iterator<Item = (&str, &str, &Subscription)> {
    declared.topics().filter(|(_, topic)| topic.standing == Standing::Live).flat_map(|(topic, declared)| {
        declared.subscriptions().map(move |(name, subscription)| (topic.as_str(), name.as_str(), subscription))
    })
}

/// A subscription as it should be. Nothing where nobody knows where it would push.
pub fn wanted(subscription: &Subscription, places: &Places) -> Option<FoundSubscription> {
    let push = match &subscription.delivery {
        Delivery::Pull => None,
        Delivery::Push { path, body } => match places.urls.get(&subscription.consumer) {
            Some(url) => Some(FoundPush {
                endpoint: format!("{}/{}", url.trim_end_matches('/'), path.trim_start_matches('/')),
                bare: *body == PushBody::Payload,
                identity: places.identity.clone(),
                audience: places.identity.as_ref().map(|_| url.trim_end_matches('/').to_owned()),
            }),
            None if places.pull_instead => None,
            None => return None,
        },
    };
    Some(FoundSubscription {
        topic: String::new(),
        push,
        ack_deadline: subscription.ack_deadline.as_secs(),
        retention: Some(subscription.retention.as_secs()),
        backoff: Some((subscription.backoff.min.as_secs(), subscription.backoff.max.as_secs())),
        dead_letter: subscription.dead_letter.as_ref().map(|to| (to.topic.to_string(), to.attempts_max)),
        ..FoundSubscription::default()
    })
}

fn moved(has: &FoundSubscription, wanted: &FoundSubscription) -> Vec<Moved> {
    let push = |push: &Option<FoundPush>| match push {
        None => "pull".to_owned(),
        Some(push) => {
            let bare = if push.bare { ", without envelope" } else { "" };
            let identity = push.identity.as_deref().map_or(", as nobody".to_owned(), |who| format!(", as {who}"));
            let audience = push.audience.as_deref().map_or(String::new(), |whom| format!(" for {whom}"));
            format!("push to {}{bare}{identity}{audience}", push.endpoint)
        }
    };
    let backoff = |backoff: Option<(u64, u64)>| backoff.map(|(min, max)| format!("{} to {}", span(min), span(max)));
    let letters = |to: &Option<(String, u32)>| to.as_ref().map(|(topic, after)| format!("{topic} after {after}"));
    differing([
        ("delivery", Some(push(&has.push)), Some(push(&wanted.push))),
        ("ack_deadline", Some(span(has.ack_deadline)), Some(span(wanted.ack_deadline))),
        ("retention", has.retention.map(span), wanted.retention.map(span)),
        ("backoff", backoff(has.backoff), backoff(wanted.backoff)),
        ("dead_letter", letters(&has.dead_letter), letters(&wanted.dead_letter)),
        ("expiration", has.expires.map(span), None),
    ])
}

fn differing<const N: usize>(fields: [(&'static str, Option<String>, Option<String>); N]) -> Vec<Moved> {
    let words = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let differ = fields.into_iter().filter(|(_, from, to)| from != to);
    differ.map(|(field, from, to)| Moved { field, from: words(from), to: words(to) }).collect()
}

fn span(seconds: u64) -> String {
    show(Duration::from_secs(seconds))
}

/// What people should know, the worst first.
pub fn findings(declared: &Topology, found: &Broker, places: &Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |weight, name: &str, what: String, advice: &str| {
        findings.push(Finding { weight, name: name.to_owned(), what, advice: advice.to_owned() });
    };
    for (name, topic) in declared.topics() {
        let has = found.topics.get(name.as_str());
        match (&topic.standing, has) {
            (Standing::Live, None) => {
                say(Weight::Error, name.as_str(), "the topic does not exist".into(), "run `tipoff topics apply`");
            }
            (Standing::Retired { why }, Some(_)) => {
                let advice = "delete it once nothing publishes there: `tipoff topics apply --delete NAME`";
                say(Weight::Warning, name.as_str(), format!("the topic is retired and still there: {why}"), advice);
            }
            _ => {}
        }
        let expected = topic.subscriptions().len();
        let reading = found.subscriptions.values().filter(|has| has.topic == name.as_str()).count();
        if has.is_some() && topic.standing == Standing::Live && reading > expected {
            let what = format!("{reading} consumers read it, {expected} should: each message is worked on by all");
            say(Weight::Error, name.as_str(), what, "find whose the extra subscription is; `topics plan` names it");
        }
        if has.is_some() && expected > 0 && reading == 0 {
            let what = "nobody reads it: what is published there is lost";
            say(Weight::Error, name.as_str(), what.into(), "run `tipoff topics apply`");
        }
        if has.is_some_and(|has| has.letters_allowed == Some(false)) && is_letters(declared, name.as_str()) {
            let what = "the broker may not publish dead letters here, so messages are retried for ever";
            let advice = "grant roles/pubsub.publisher on it to service-NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com";
            say(Weight::Error, name.as_str(), what.into(), advice);
        }
    }
    let mut known = BTreeSet::new();
    for (topic, name, subscription) in subscriptions(declared) {
        known.insert(name);
        let Some(has) = found.subscriptions.get(name) else {
            let weight = if subscription.consumer == OURSELVES { Weight::Error } else { Weight::Warning };
            let consumer = &subscription.consumer;
            if wanted(subscription, places).is_none() {
                let advice = format!("say services.{consumer}.url in tipoff.yaml, or `--pull-instead` on a laptop");
                say(weight, name, format!("nobody knows where to push for {consumer}"), &advice);
            } else {
                say(weight, name, format!("{consumer} does not read {topic}"), "run `tipoff topics apply`");
            }
            continue;
        };
        if has.topic != topic {
            let what = format!("it reads {}, not {topic}; a subscription cannot be moved", has.topic);
            say(Weight::Error, name, what, "delete it (`topics apply --delete NAME`) and apply again");
        }
    }
    for (name, has) in &found.subscriptions {
        of_subscription(name, has, &mut say);
        let topic_is_ours = declared.topic(&has.topic).is_some();
        if topic_is_ours && !known.contains(name.as_str()) {
            let what = format!("topics.yaml does not know it; it reads {}", has.topic);
            say(Weight::Warning, name, what, "declare its consumer, or delete it: `topics apply --delete NAME`");
        }
    }
    let mut endpoints: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (name, has) in &found.subscriptions {
        if let Some(push) = &has.push {
            endpoints.entry((has.topic.as_str(), push.endpoint.as_str())).or_default().push(name);
        }
    }
    for ((topic, endpoint), names) in endpoints.into_iter().filter(|(_, names)| names.len() > 1) {
        let what = format!("{} push {topic} to {endpoint}: everything is done twice", names.join(" and "));
        say(Weight::Error, names[0], what, "keep the one that topics.yaml declares");
    }
    findings.sort();
    findings
}

/// What is wrong with a subscription, whoever's it is.
fn of_subscription(name: &str, has: &FoundSubscription, say: &mut impl FnMut(Weight, &str, String, &str)) {
    if has.topic == "_deleted-topic_" {
        say(Weight::Error, name, "its topic has been deleted".into(), "delete it, and apply again");
    }
    if let Some(push) = &has.push {
        match (&push.identity, &push.audience) {
            (None, _) => {
                let what = "it pushes as nobody, so a service that asks who calls refuses every message";
                say(Weight::Error, name, what.into(), "say google.push_identity in tipoff.yaml and apply");
            }
            (Some(_), Some(audience)) if !push.endpoint.starts_with(audience.as_str()) => {
                let what = format!("its token is for {audience}, and it pushes to {}", push.endpoint);
                say(Weight::Error, name, what, "the audience is the endpoint or its origin; apply mends it");
            }
            _ => {}
        }
        if !push.endpoint.starts_with("https://") {
            let what = format!("{} is not https", push.endpoint);
            say(Weight::Warning, name, what, "Pub/Sub pushes with an identity to https only");
        }
    }
    if has.dead_letter.is_none() && !has.topic.ends_with("-dlq") && !has.topic.ends_with("dead-letter") {
        let what = "what its consumer cannot process is retried until it is too old, and then lost";
        say(Weight::Warning, name, what.into(), "declare its dead_letter topic");
    }
    if has.dead_letter.is_some() && has.letters_allowed == Some(false) {
        let what = "the broker may not take dead letters off it, so its dead_letter does nothing";
        let advice = "grant roles/pubsub.subscriber on it to service-NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com";
        say(Weight::Error, name, what.into(), advice);
    }
    if has.backoff.is_none() {
        let what = "a refused message comes again at once, in a hot loop";
        say(Weight::Warning, name, what.into(), "declare its backoff");
    }
    if let Some(expires) = has.expires {
        let what = format!("the broker deletes it after {} without a consumer", span(expires));
        say(Weight::Warning, name, what, "a season's break is longer; apply sets it to never");
    }
    if has.ordered {
        say(
            Weight::Warning,
            name,
            "its messages are ordered, so one that fails holds up its key".into(),
            "recreate it",
        );
    }
    if !has.filter.is_empty() {
        say(Weight::Warning, name, format!("it leaves out what does not match {}", has.filter), "recreate it without");
    }
}

fn is_letters(declared: &Topology, topic: &str) -> bool {
    subscriptions(declared).any(|(_, _, subscription)| {
        subscription.dead_letter.as_ref().is_some_and(|letters| letters.topic.as_str() == topic)
    })
}

/// What keeps the service itself from working: the subscriptions it reads, and the topics it publishes to.
pub fn missing<'a>(declared: &Topology, found: &Broker, sends: impl Iterator<Item = &'a str>) -> Vec<String> {
    let read = declared.consumed_by(OURSELVES).map(|(_, name, _)| name.as_str());
    let read = read.filter(|name| !found.subscriptions.contains_key(*name)).map(|name| format!("subscription {name}"));
    let sends: BTreeSet<&str> = sends.collect();
    let sent = sends.into_iter().filter(|name| !found.topics.contains_key(*name)).map(|name| format!("topic {name}"));
    read.chain(sent).collect()
}

impl Broker {
    /// What it would have once the changes were made; the law that nothing is left to change.
    pub fn with(&self, declared: &Topology, places: &Places, changes: &[Change]) -> Self {
        let mut after = self.clone();
        let subscription = |name: &str| subscriptions(declared).find(|(_, other, _)| *other == name);
        for change in changes {
            match change {
                Change::CreateTopic { topic } | Change::UpdateTopic { topic, .. } => {
                    let retention = declared.topic(topic).map(|declared| declared.retention.as_secs());
                    after.topics.entry(topic.clone()).or_default().retention = retention;
                }
                Change::CreateSubscription { subscription: name, .. }
                | Change::UpdateSubscription { subscription: name, .. } => {
                    if let Some((topic, _, declared)) = subscription(name)
                        && let Some(wanted) = wanted(declared, places)
                    {
                        let has = FoundSubscription { topic: topic.to_owned(), ..wanted };
                        after.subscriptions.insert(name.clone(), has);
                    }
                }
                Change::Delete { name } => {
                    after.topics.remove(name);
                    after.subscriptions.remove(name);
                }
            }
        }
        after
    }
}
