//! A project on the emulators: the declared topics, somebody who publishes, and consumers that see what is dispatched.
#![allow(dead_code, reason = "every test target uses some of it")]

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::{BasePublisher, Publisher, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::{DeadLetterPolicy, Message, RetryPolicy};
use google_cloud_pubsub::subscriber::handler::Handler;
use tipoff::topology::{Delivery, Topology};
use tokio::task::JoinSet;

use super::emulator::{self, Emulator};

/// Both emulators and one project on them.
pub struct Cloud {
    pub pubsub: Emulator,
    pub firestore: Emulator,
    pub project: String,
    publisher: BasePublisher,
    topics: std::sync::Mutex<BTreeMap<String, Publisher>>,
}

impl Cloud {
    /// Starts the emulators and creates what `topology` declares; every subscription is one to pull from, since nobody is
    /// there to be pushed to. Nothing where they are not installed.
    pub async fn start(topology: &Topology) -> Option<Self> {
        let cloud = Self::bare().await?;
        create(&format!("http://{}", cloud.pubsub.address), &cloud.project, topology).await;
        Some(cloud)
    }

    /// The emulators without a topic.
    pub async fn bare() -> Option<Self> {
        let (pubsub, firestore) = (emulator::pubsub()?, emulator::firestore()?);
        let endpoint = format!("http://{}", pubsub.address);
        let publisher = BasePublisher::builder()
            .with_endpoint(&endpoint)
            .with_credentials(anonymous::Builder::new().build())
            .build()
            .await
            .unwrap();
        let project = "tipoff-test".to_owned();
        Some(Self { pubsub, firestore, project, publisher, topics: Default::default() })
    }

    /// The environment in which a process finds the emulators.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("PUBSUB_EMULATOR_HOST", self.pubsub.address.clone()),
            ("FIRESTORE_EMULATOR_HOST", self.firestore.address.clone()),
        ]
    }

    /// Publishes, as a producer's client does: until the broker has it.
    pub async fn publish(&self, topic: &str, body: &str) {
        self.publish_all(topic, vec![body.to_owned()]).await;
    }

    /// Publishes many, a thousand at a time.
    pub async fn publish_all(&self, topic: &str, bodies: Vec<String>) {
        let name = format!("projects/{}/topics/{topic}", self.project);
        let publisher = {
            let mut topics = self.topics.lock().unwrap();
            let new = || self.publisher.publisher(&name).set_delay_threshold(Duration::from_millis(2)).build();
            topics.entry(name.clone()).or_insert_with(new).clone()
        };
        for bodies in bodies.chunks(1000) {
            let calls: Vec<_> =
                bodies.iter().map(|body| publisher.publish(Message::new().set_data(body.clone()))).collect();
            for call in calls {
                call.await.unwrap();
            }
        }
    }

    /// Lets one more reader have everything that is published to `topic` from now on.
    pub async fn subscribe(&self, topic: &str, name: &str) {
        let admin = SubscriptionAdmin::builder()
            .with_endpoint(format!("http://{}", self.pubsub.address))
            .with_credentials(anonymous::Builder::new().build())
            .build()
            .await
            .unwrap();
        let call = admin.create_subscription().set_name(format!("projects/{}/subscriptions/{name}", self.project));
        call.set_topic(format!("projects/{}/topics/{topic}", self.project)).send().await.unwrap();
    }

    /// Hands back whatever comes over `subscription` for as long as the tasks live, until the broker gives up on it.
    pub async fn refuse(&self, tasks: &mut JoinSet<()>, subscription: &str) {
        let client = Subscriber::builder()
            .with_endpoint(format!("http://{}", self.pubsub.address))
            .with_credentials(anonymous::Builder::new().build())
            .build()
            .await
            .unwrap();
        let name = format!("projects/{}/subscriptions/{subscription}", self.project);
        tasks.spawn(async move {
            loop {
                let mut stream = client.subscribe(&name).build();
                while let Some(Ok((_, handler))) = stream.next().await {
                    drop(handler);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// Reads `subscription` for as long as the tasks live, and hands every message to `see` before it is acknowledged.
    pub async fn consume(
        &self,
        tasks: &mut JoinSet<()>,
        subscription: &str,
        see: impl Fn(Message) + Send + Sync + 'static,
    ) {
        let client = Subscriber::builder()
            .with_endpoint(format!("http://{}", self.pubsub.address))
            .with_credentials(anonymous::Builder::new().build())
            .build()
            .await
            .unwrap();
        let name = format!("projects/{}/subscriptions/{subscription}", self.project);
        tasks.spawn(async move {
            loop {
                let mut stream = client.subscribe(&name).build();
                while let Some(Ok((message, handler))) = stream.next().await {
                    see(message);
                    Handler::ack(handler);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
}

async fn create(endpoint: &str, project: &str, topology: &Topology) {
    let credentials = anonymous::Builder::new().build();
    let topics =
        TopicAdmin::builder().with_endpoint(endpoint).with_credentials(credentials.clone()).build().await.unwrap();
    let subscriptions =
        SubscriptionAdmin::builder().with_endpoint(endpoint).with_credentials(credentials).build().await.unwrap();
    for (topic, _) in topology.topics() {
        topics.create_topic().set_name(format!("projects/{project}/topics/{topic}")).send().await.unwrap();
    }
    let span = |span: Duration| google_cloud_wkt::Duration::try_from(span).unwrap();
    for (topic, declared) in topology.topics() {
        for (name, subscription) in declared.subscriptions() {
            let deadline = i32::try_from(subscription.ack_deadline.as_secs()).unwrap();
            // What would be pushed is pulled by the test; the client then extends the deadline itself.
            let deadline = if matches!(subscription.delivery, Delivery::Pull) { deadline } else { 10 };
            let mut call = subscriptions
                .create_subscription()
                .set_name(format!("projects/{project}/subscriptions/{name}"))
                .set_topic(format!("projects/{project}/topics/{topic}"))
                .set_ack_deadline_seconds(deadline)
                // One of ours confirms its acknowledgements, as somebody's may.
                .set_enable_exactly_once_delivery(name.as_str() == "tipoff-nba-phase4-sub")
                .set_retry_policy(
                    RetryPolicy::new()
                        .set_minimum_backoff(span(Duration::from_millis(100)))
                        .set_maximum_backoff(span(Duration::from_secs(1))),
                );
            if let Some(letters) = &subscription.dead_letter {
                call = call.set_dead_letter_policy(
                    DeadLetterPolicy::new()
                        .set_dead_letter_topic(format!("projects/{project}/topics/{}", letters.topic))
                        .set_max_delivery_attempts(i32::try_from(letters.attempts_max).unwrap()),
                );
            }
            call.send().await.unwrap();
        }
    }
}
