//! Messages out over Pub/Sub.
//!
//! What holds:
//! - no ordering keys (one failed publish would pause its key), no hedging (it sends slow messages twice);
//! - each topic has its own queue, and a call has a time limit: a topic that hangs delays no other;
//! - the crate's queue has no bound, so calls under way have one here;
//! - a call that ran into its limit may have been accepted. The caller sends again, under the same dispatch id; and over
//!   another connection, because the client does not notice a dead one.

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
    line: Mutex<Line>,
    room: Semaphore,
}

/// A connection, and the queues of the topics on it.
#[derive(Debug)]
struct Line {
    /// Counts the connections.
    number: u64,
    client: BasePublisher,
    topics: BTreeMap<String, OfTopic>,
}

impl Publisher {
    /// Makes the client. Nothing is sent yet, so a service that cannot be reached is noticed by the first call.
    pub async fn connect(connection: Connection) -> Result<Self, ConnectError> {
        let line = Line { number: 0, client: client(&connection).await?, topics: BTreeMap::new() };
        Ok(Self { connection, line: Mutex::new(line), room: Semaphore::new(UNDER_WAY_MAX) })
    }

    /// Publishes one message and returns the broker's name for it. `Ok` means that the broker has it for good.
    pub async fn publish(
        &self,
        topic: &str,
        data: Vec<u8>,
        attributes: &BTreeMap<String, String>,
    ) -> Result<String, BusError> {
        let (number, publisher) = self.of_topic(topic);
        let message = Message::new().set_data(data).set_attributes(attributes.clone());
        let call = async {
            let _place = self.room.acquire().await;
            publisher.publish(message).await
        };
        match tokio::time::timeout(CALL_MAX, call).await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(error)) => {
                if !is_answer(&error) {
                    self.replace(number).await;
                }
                Err(refusal(topic, &error))
            }
            Err(_) => {
                self.replace(number).await;
                Err(BusError::Unavailable(format!("{topic}: no answer in {} s", CALL_MAX.as_secs())))
            }
        }
    }

    /// Gives up a connection that does not answer, unless somebody has already.
    async fn replace(&self, number: u64) {
        let client = match client(&self.connection).await {
            Ok(client) => client,
            Err(error) => return tracing::warn!("{error}"),
        };
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.number == number {
            *line = Line { number: number + 1, client, topics: BTreeMap::new() };
        }
    }

    fn of_topic(&self, topic: &str) -> (u64, OfTopic) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let Line { number, client, topics } = &mut *line;
        let new = || {
            let name = format!("projects/{}/topics/{topic}", self.connection.project);
            client.publisher(name).set_delay_threshold(BATCH_DELAY).build()
        };
        (*number, topics.entry(topic.to_owned()).or_insert_with(new).clone())
    }
}

/// A client with a connection of its own.
async fn client(connection: &Connection) -> Result<BasePublisher, ConnectError> {
    let builder = BasePublisher::builder()
        .with_endpoint(connection.endpoint())
        .with_credentials(connection.credentials()?)
        .with_retry_policy(RetryableErrors.with_time_limit(RETRY_FOR));
    builder.build().await.map_err(|error| connection.failed(&error))
}

/// Whether the service has said no, rather than nothing.
fn is_answer(error: &PublishError) -> bool {
    let PublishError::Rpc(error) = error else { return false };
    error
        .status()
        .is_some_and(|status| !matches!(status.code, Code::Unavailable | Code::DeadlineExceeded | Code::Unknown))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use google_cloud_gax::error::Error;
    use google_cloud_gax::error::rpc::Status;

    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_message_itself_is_final() {
        for code in (1..=16).map(Code::from) {
            let error = PublishError::Rpc(Arc::new(Error::service(Status::default().set_code(code))));
            let is_final = matches!(refusal("t", &error), BusError::Refused(_));
            assert_eq!(is_final, code == Code::InvalidArgument, "{code:?}");
        }
    }
}
