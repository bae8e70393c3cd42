//! Messages out over Pub/Sub.
//!
//! What holds:
//! - no ordering keys (one failed publish would pause its key), no hedging (it sends slow messages twice);
//! - each topic has its own queue, and a call has a time limit: a topic that hangs delays no other;
//! - the crate's queue has no bound, so calls under way have one here;
//! - a call that ran into its limit may have been accepted. The caller sends again, under the same dispatch id.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::RetryPolicyExt as _;
use google_cloud_pubsub::client::{BasePublisher, Publisher as OfTopic};
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use tokio::sync::Semaphore;

use super::{ConnectError, Connection};
use crate::port::BusError;

/// Calls under way at once.
const UNDER_WAY_MAX: usize = 256;
/// How long the client goes on trying by itself. Longer waits are the outbox's, which survives us.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// The longest a call may take, whatever the client does.
const CALL_MAX: Duration = Duration::from_secs(15);
/// How long a message may wait for others of its topic. A dispatch is one message; a burst shares calls.
const BATCH_DELAY: Duration = Duration::from_millis(2);

/// Publishes to the topics of one project.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    client: BasePublisher,
    topics: Mutex<BTreeMap<String, OfTopic>>,
    room: Semaphore,
}

impl Publisher {
    /// Makes the client. Nothing is sent yet, so a service that cannot be reached is noticed by the first call.
    pub async fn connect(connection: Connection) -> Result<Self, ConnectError> {
        let builder = BasePublisher::builder()
            .with_endpoint(connection.endpoint())
            .with_credentials(connection.credentials()?)
            .with_retry_policy(RetryableErrors.with_time_limit(RETRY_FOR));
        let client = builder.build().await.map_err(|error| connection.failed(&error))?;
        Ok(Self { connection, client, topics: Mutex::default(), room: Semaphore::new(UNDER_WAY_MAX) })
    }

    /// Publishes one message and returns the broker's name for it. `Ok` means that the broker has it for good.
    pub async fn publish(
        &self,
        topic: &str,
        data: Vec<u8>,
        attributes: &BTreeMap<String, String>,
    ) -> Result<String, BusError> {
        let publisher = self.of_topic(topic);
        let message = Message::new().set_data(data).set_attributes(attributes.clone());
        let call = async {
            let _place = self.room.acquire().await;
            publisher.publish(message).await
        };
        match tokio::time::timeout(CALL_MAX, call).await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(error)) => Err(refusal(topic, &error)),
            Err(_) => Err(BusError::Unavailable(format!("{topic}: no answer in {} s", CALL_MAX.as_secs()))),
        }
    }

    fn of_topic(&self, topic: &str) -> OfTopic {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let name = format!("projects/{}/topics/{topic}", self.connection.project);
            self.client.publisher(name).set_delay_threshold(BATCH_DELAY).build()
        };
        topics.entry(topic.to_owned()).or_insert_with(new).clone()
    }
}

/// What a refusal means. A topic that is missing, or may not be written, is for an operator to mend, and then the message is
/// still wanted; only what is wrong with the message itself is final.
fn refusal(topic: &str, error: &PublishError) -> BusError {
    let text = format!("{topic}: {error}");
    match error {
        PublishError::Rpc(error) if error.status().is_some_and(|status| status.code == Code::InvalidArgument) => {
            BusError::Refused(text)
        }
        _ => BusError::Unavailable(text),
    }
}
