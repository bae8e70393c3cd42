//! What a project's Pub/Sub has, and how it is changed.
//!
//! Every change is one call that may be repeated: what is there already is not an error, and what differs is written field
//! by field.

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_gax::retry_policy::RetryPolicyExt as _;
use google_cloud_pubsub::client::{SchemaService, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::push_config::{AuthenticationMethod, NoWrapper, OidcToken, Wrapper};
use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy, PushConfig, RetryPolicy, Subscription, Topic};
use google_cloud_pubsub::retry_policy::RetryableErrors;
use google_cloud_wkt::FieldMask;

use super::{ConnectError, Connection};
use crate::topology::Topology;
use crate::topology::broker::{
    Broker, Change, FoundPush, FoundSubscription, FoundTopic, Places, subscriptions, wanted,
};

/// How long one call is tried.
const CALL_MAX: Duration = Duration::from_secs(20);
/// The account as which Pub/Sub itself moves dead letters.
const AGENT: &str = "@gcp-sa-pubsub.iam.gserviceaccount.com";

/// The administration of one project's Pub/Sub.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    policies: SchemaService,
}

/// A call failed, in words that say which.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct AdminError {
    what: String,
    why: String,
}

fn failed(what: impl Into<String>) -> impl FnOnce(google_cloud_pubsub::Error) -> AdminError {
    let what = what.into();
    move |error| AdminError { what, why: words(&error) }
}

/// Google's words, without the wrapping.
fn words(error: &google_cloud_pubsub::Error) -> String {
    match error.status() {
        Some(status) => format!("{:?}: {}", status.code, status.message),
        None => error.to_string(),
    }
}

impl Admin {
    /// Makes the clients; nothing is asked yet.
    pub async fn connect(connection: Connection) -> Result<Self, ConnectError> {
        let (endpoint, credentials) = (connection.endpoint(), connection.credentials()?);
        let retry = || RetryableErrors.with_time_limit(CALL_MAX);
        let topics = TopicAdmin::builder().with_endpoint(&endpoint).with_credentials(credentials.clone());
        let subscriptions = SubscriptionAdmin::builder().with_endpoint(&endpoint).with_credentials(credentials.clone());
        let policies = SchemaService::builder().with_endpoint(&endpoint).with_credentials(credentials);
        let error = |error| connection.failed(&error);
        let topics = topics.with_retry_policy(retry()).build().await.map_err(error)?;
        let subscriptions = subscriptions.with_retry_policy(retry()).build().await.map_err(error)?;
        let policies = policies.with_retry_policy(retry()).build().await.map_err(error)?;
        Ok(Self { connection, topics, subscriptions, policies })
    }

    /// What the project has. `letters` says whether to ask also who may move dead letters, which is a call for each.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub async fn found(&self, letters: bool) -> Result<Broker, AdminError> {
        let project = format!("projects/{}", self.connection.project);
        let mut broker = Broker::default();
        let mut topics = self.topics.list_topics().set_project(&project).by_item();
        while let Some(topic) = topics.next().await {
            let topic = topic.map_err(failed(format!("list the topics of {project}")))?;
            let retention = topic.message_retention_duration.map(|kept| kept.seconds().unsigned_abs());
            broker.topics.insert(short(&topic.name), FoundTopic { retention, letters_allowed: None });
        }
        let mut subscriptions = self.subscriptions.list_subscriptions().set_project(&project).by_item();
        while let Some(subscription) = subscriptions.next().await {
            let subscription = subscription.map_err(failed(format!("list the subscriptions of {project}")))?;
            broker.subscriptions.insert(short(&subscription.name), found(subscription));
        }
        // An emulator has no permissions: nothing can be told, and nothing is said.
        if letters && self.connection.emulator.is_none() {
            self.letters(&mut broker).await;
        }
        Ok(broker)
    }

    /// Whether Pub/Sub's own account may do with dead letters what it has to. Grants on the project are not seen here.
    async fn letters(&self, broker: &mut Broker) {
        let targets: BTreeMap<String, ()> = broker
            .subscriptions
            .values()
            .filter_map(|subscription| subscription.dead_letter.as_ref())
            .map(|(topic, _)| (topic.clone(), ()))
            .collect();
        for topic in targets.keys() {
            let allowed = self.granted(&self.topic_name(topic), "roles/pubsub.publisher").await;
            if let Some(found) = broker.topics.get_mut(topic) {
                found.letters_allowed = allowed;
            }
        }
        for (name, subscription) in &mut broker.subscriptions {
            if subscription.dead_letter.is_some() {
                subscription.letters_allowed =
                    self.granted(&self.subscription_name(name), "roles/pubsub.subscriber").await;
            }
        }
    }

    /// Whether the policy of a resource grants a role to Pub/Sub's own account; nothing where it cannot be read.
    async fn granted(&self, resource: &str, role: &str) -> Option<bool> {
        let policy = self.policies.get_iam_policy().set_resource(resource).send().await.ok()?;
        let grants = policy.bindings.iter().filter(|binding| binding.role == role);
        Some(grants.flat_map(|binding| &binding.members).any(|member| member.ends_with(AGENT)))
    }

    /// Makes one change.
    ///
    /// # Errors
    /// If the broker refuses it, or does not answer; it may be made again.
    pub async fn make(&self, change: &Change, declared: &Topology, places: &Places) -> Result<(), AdminError> {
        match change {
            Change::CreateTopic { topic } => {
                let call = self.topics.create_topic().with_request(self.topic(topic, declared));
                settled(call.send().await.map(|_| ()), Code::AlreadyExists).map_err(failed(format!("create {topic}")))
            }
            Change::UpdateTopic { topic, .. } => {
                let mask = FieldMask::default().set_paths(["message_retention_duration"]);
                let call = self.topics.update_topic().set_topic(self.topic(topic, declared)).set_update_mask(mask);
                call.send().await.map(|_| ()).map_err(failed(format!("change {topic}")))
            }
            Change::CreateSubscription { subscription: name, .. } => {
                let Some(subscription) = self.subscription(name, declared, places) else { return Ok(()) };
                let call = self.subscriptions.create_subscription().with_request(subscription);
                settled(call.send().await.map(|_| ()), Code::AlreadyExists).map_err(failed(format!("create {name}")))
            }
            Change::UpdateSubscription { subscription: name, moved } => {
                let Some(subscription) = self.subscription(name, declared, places) else { return Ok(()) };
                let path = |field: &str| match field {
                    "delivery" => Some("push_config"),
                    "ack_deadline" => Some("ack_deadline_seconds"),
                    "retention" => Some("message_retention_duration"),
                    "backoff" => Some("retry_policy"),
                    "dead_letter" => Some("dead_letter_policy"),
                    "expiration" => Some("expiration_policy"),
                    _ => None,
                };
                let mask = FieldMask::default().set_paths(moved.iter().filter_map(|moved| path(moved.field)));
                let call = self.subscriptions.update_subscription();
                let call = call.set_subscription(subscription).set_update_mask(mask);
                call.send().await.map(|_| ()).map_err(failed(format!("change {name}")))
            }
            Change::Delete { name } => {
                let subscription =
                    self.subscriptions.delete_subscription().set_subscription(self.subscription_name(name));
                settled(subscription.send().await, Code::NotFound)
                    .map_err(failed(format!("delete subscription {name}")))?;
                let topic = self.topics.delete_topic().set_topic(self.topic_name(name));
                settled(topic.send().await, Code::NotFound).map_err(failed(format!("delete topic {name}")))
            }
        }
    }

    fn topic(&self, name: &str, declared: &Topology) -> Topic {
        let topic = Topic::new().set_name(self.topic_name(name));
        let retention = declared.topic(name).map(|declared| duration(declared.retention.as_secs()));
        topic.set_or_clear_message_retention_duration(retention)
    }

    fn subscription(&self, name: &str, declared: &Topology, places: &Places) -> Option<Subscription> {
        let (topic, _, declared) = subscriptions(declared).find(|(_, other, _)| *other == name)?;
        let wanted = wanted(declared, places)?;
        let backoff = wanted
            .backoff
            .map(|(min, max)| RetryPolicy::new().set_minimum_backoff(duration(min)).set_maximum_backoff(duration(max)));
        let letters = wanted.dead_letter.map(|(topic, attempts)| {
            let attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
            DeadLetterPolicy::new().set_dead_letter_topic(self.topic_name(&topic)).set_max_delivery_attempts(attempts)
        });
        let subscription = Subscription::new()
            .set_name(self.subscription_name(name))
            .set_topic(self.topic_name(topic))
            .set_ack_deadline_seconds(i32::try_from(wanted.ack_deadline).unwrap_or(i32::MAX))
            .set_or_clear_message_retention_duration(wanted.retention.map(duration))
            .set_or_clear_retry_policy(backoff)
            .set_or_clear_dead_letter_policy(letters)
            // Without a time to live it never expires.
            .set_expiration_policy(ExpirationPolicy::new())
            .set_push_config(wanted.push.map(push).unwrap_or_default());
        Some(subscription)
    }

    fn topic_name(&self, name: &str) -> String {
        format!("projects/{}/topics/{name}", self.connection.project)
    }

    fn subscription_name(&self, name: &str) -> String {
        format!("projects/{}/subscriptions/{name}", self.connection.project)
    }
}

/// What somebody else has done already is done.
fn settled(result: Result<(), google_cloud_pubsub::Error>, already: Code) -> Result<(), google_cloud_pubsub::Error> {
    match result {
        Err(error) if error.status().is_some_and(|status| status.code == already) => Ok(()),
        result => result,
    }
}

fn push(push: FoundPush) -> PushConfig {
    let mut config = PushConfig::new().set_push_endpoint(push.endpoint);
    if let Some(identity) = push.identity {
        let token = OidcToken::new().set_service_account_email(identity);
        let token = token.set_audience(push.audience.unwrap_or_default());
        config = config.set_authentication_method(Some(AuthenticationMethod::OidcToken(Box::new(token))));
    }
    if push.bare {
        // The attributes come as headers.
        config = config.set_wrapper(Some(Wrapper::NoWrapper(Box::new(NoWrapper::new().set_write_metadata(true)))));
    }
    config
}

fn found(subscription: Subscription) -> FoundSubscription {
    let seconds = |duration: Option<google_cloud_wkt::Duration>| duration.map(|it| it.seconds().unsigned_abs());
    let push = subscription.push_config.filter(|push| !push.push_endpoint.is_empty()).map(|push| {
        let token = match push.authentication_method {
            Some(AuthenticationMethod::OidcToken(token)) => Some(token),
            _ => None,
        };
        FoundPush {
            endpoint: push.push_endpoint,
            bare: matches!(push.wrapper, Some(Wrapper::NoWrapper(_))),
            identity: token.as_ref().map(|token| token.service_account_email.clone()),
            audience: token.map(|token| token.audience).filter(|audience| !audience.is_empty()),
        }
    });
    FoundSubscription {
        topic: short(&subscription.topic),
        push,
        ack_deadline: u64::from(subscription.ack_deadline_seconds.unsigned_abs()),
        retention: seconds(subscription.message_retention_duration),
        backoff: subscription.retry_policy.map(|policy| {
            (seconds(policy.minimum_backoff).unwrap_or(10), seconds(policy.maximum_backoff).unwrap_or(600))
        }),
        dead_letter: subscription
            .dead_letter_policy
            .filter(|policy| !policy.dead_letter_topic.is_empty())
            .map(|policy| (short(&policy.dead_letter_topic), policy.max_delivery_attempts.unsigned_abs())),
        letters_allowed: None,
        expires: subscription.expiration_policy.and_then(|policy| seconds(policy.ttl)).filter(|ttl| *ttl > 0),
        ordered: subscription.enable_message_ordering,
        exactly_once: subscription.enable_exactly_once_delivery,
        filter: subscription.filter,
    }
}

/// A name without its project.
fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

fn duration(seconds: u64) -> google_cloud_wkt::Duration {
    google_cloud_wkt::Duration::clamp(i64::try_from(seconds).unwrap_or(i64::MAX), 0)
}
