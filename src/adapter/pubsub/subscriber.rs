//! Messages in over Pub/Sub: one streaming pull per subscription, each with a supervisor.
//!
//! What holds:
//! - a message is acknowledged only after the intake has settled it, and then once; a panic hands it back;
//! - what is in hand is bounded here, because the broker's own flow control is a request and no promise;
//! - a stream that ends is opened again after a jittered pause; one that is silent for too long is replaced, with its
//!   connection, because the client does not notice a dead one;
//! - while nothing can be taken in, nothing is asked for, so that no message comes nearer to its dead letter;
//! - what only an operator can mend (no such subscription, no permission) makes the service not ready, and goes on being
//!   tried.
//!
//! Proof of hearing: a probe without data goes to each heartbeat topic from time to time. Silence of a processor counts
//! only up to the last message heard there, so a dead connection never reads as everybody's death.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::client::Subscriber as Client;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::publisher::Publisher;
use super::{ConnectError, Connection};
use crate::port::{Handed, Recipient};
use crate::topology::{Carries, Topology};
use crate::wire::inbound::Delivery;

/// The consumer of the subscriptions that are read here.
pub const OURSELVES: &str = "tipoff";
/// Marks a probe of our own; its value is the process that sent it.
const PROBE: &str = "tipoff_probe";
/// How often each process usually sends a probe.
const PROBE_EVERY: Duration = Duration::from_secs(20);
/// The usual patience with a stream. With a probe every 20 s from each of three processes, a live one
/// of a heartbeat topic misses all of them about once in a thousand.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// How many times as long a stream of dead letters may be silent.
const PATIENCE_WITH_LETTERS: u32 = 10;
/// How long silence is borne.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A stream without a message for this long is replaced.
    pub idle_max: Duration,
    /// How often each process sends a probe.
    pub probe_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle_max: IDLE_MAX, probe_every: PROBE_EVERY }
    }
}

/// Kilobytes in hand of all subscriptions. Most messages have less than one.
const ROOM_KB: u32 = 64 * 1024;
/// The shortest and the longest pause before a stream is opened again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// The longest pause where only an operator can mend it: soon enough that nobody has to restart the service.
const PAUSE_OF_FAULT: Duration = Duration::from_secs(30);
/// How long what is in hand may take to be settled when the service ends. Cloud Run kills after ten seconds.
const DRAIN: Duration = Duration::from_secs(8);
/// How long acknowledgements may take to be sent after that.
const FLUSH: Duration = Duration::from_secs(2);
/// From this delivery on a message is reported: it has been handed back, or lost, four times.
const ATTEMPTS_REPORTED: i32 = 5;

/// The subscriptions being read.
#[derive(Debug)]
pub struct Subscribers {
    tasks: JoinSet<()>,
}

/// One subscription and all that its supervisor needs.
struct Supervised {
    recipient: Arc<dyn Recipient>,
    connection: Connection,
    client: Client,
    topic: String,
    name: String,
    path: String,
    /// Whether what comes here proves that heartbeats are heard.
    proves: bool,
    idle_max: Duration,
    /// Messages in hand.
    places: usize,
    /// Kilobytes in hand, shared by all.
    bytes: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// Room for one message, and for its bytes.
type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Why a stream ended.
enum End {
    Stopped,
    Silent,
    /// Nothing can be taken in for the time being.
    Closed,
    /// The broker ended it, with a reason or without.
    Ended(Option<google_cloud_pubsub::Error>),
}

impl Subscribers {
    /// Begins to read every subscription that the topology declares for tipoff, until `stop` turns true.
    pub async fn start(
        connection: &Connection,
        topology: &Topology,
        recipient: &Arc<dyn Recipient>,
        publisher: &Arc<Publisher>,
        patience: Patience,
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, ConnectError> {
        let declared: Vec<_> = topology
            .consumed_by(OURSELVES)
            .map(|(topic, name, _)| {
                let carries = topology.topic(topic.as_str()).map(|topic| topic.carries);
                let proves = carries == Some(Carries::Heartbeat);
                // Hardly anything comes over most of them, so silence there says little.
                let idle_max = if carries == Some(Carries::DeadLetter) {
                    patience.idle_max.saturating_mul(PATIENCE_WITH_LETTERS)
                } else {
                    patience.idle_max
                };
                (topic.to_string(), name.to_string(), proves, idle_max)
            })
            .collect();
        // Together no more than the intake takes without handing back.
        let places = (recipient.room() / declared.len().max(1)).max(1);
        let bytes = Arc::new(Semaphore::new(ROOM_KB as usize));
        let mut tasks = JoinSet::new();
        let probed: Vec<String> =
            declared.iter().filter(|(_, _, proves, _)| *proves).map(|(topic, ..)| topic.clone()).collect();
        if !probed.is_empty() {
            for topic in &probed {
                recipient.heard(topic, Timestamp::MIN);
            }
            tasks.spawn(probe(Arc::clone(publisher), probed, patience.probe_every, stop.clone()));
        }
        for (topic, name, proves, idle_max) in declared {
            let supervised = Supervised {
                recipient: Arc::clone(recipient),
                client: client(connection).await?,
                connection: connection.clone(),
                path: format!("projects/{}/subscriptions/{name}", connection.project),
                topic,
                name,
                proves,
                idle_max,
                places,
                bytes: Arc::clone(&bytes),
                stop: stop.clone(),
            };
            tasks.spawn(supervised.supervise());
        }
        Ok(Self { tasks })
    }

    /// Waits until every stream has ended and its acknowledgements are sent, as far as the drain allows.
    pub async fn ended(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a subscriber was lost: {error}; its messages will come again");
            }
        }
    }
}

impl Supervised {
    async fn supervise(mut self) {
        let component = format!("subscription {}", self.name);
        // Not ready until the first stream has been opened for a moment without an error.
        self.recipient.fault(&component, "connecting");
        let mut failures: u32 = 0;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return,
                () = self.recipient.opened() => {}
            }
            let began = Instant::now();
            let end = self.read(&component).await;
            let longest = match end {
                End::Stopped => return,
                End::Closed => {
                    tracing::info!(subscription = self.name, "nothing is asked for until it can be taken in");
                    self.recipient.interrupted();
                    continue;
                }
                End::Silent => {
                    tracing::debug!(subscription = self.name, "silent for {} s: opened anew", self.idle_max.as_secs());
                    // A stream on the same connection would be as dead as this one.
                    match client(&self.connection).await {
                        Ok(client) => {
                            self.client = client;
                            continue;
                        }
                        Err(error) => {
                            tracing::warn!(subscription = self.name, "{error}");
                            PAUSE.1
                        }
                    }
                }
                End::Ended(error) => self.report(&component, error.as_ref()),
            };
            // What was published meanwhile was not heard.
            self.recipient.interrupted();
            failures = if began.elapsed() > PAUSE.1 { 0 } else { failures.saturating_add(1) };
            tokio::select! {
                () = tokio::time::sleep(pause(failures, longest)) => {}
                () = stopped(&mut self.stop) => return,
            }
        }
    }

    /// Says why a stream ended, and how long to wait at most before the next.
    fn report(&self, component: &str, error: Option<&google_cloud_pubsub::Error>) -> Duration {
        let Some(error) = error else { return PAUSE.1 };
        let code = error.status().map(|status| status.code);
        let advice = match code {
            Some(Code::NotFound) => "it does not exist: run `tipoff topics apply`",
            Some(Code::PermissionDenied) => "not allowed: grant roles/pubsub.subscriber on it to the service account",
            Some(Code::Unauthenticated) => "no valid credentials: see `tipoff doctor`",
            Some(Code::InvalidArgument | Code::FailedPrecondition) => "it cannot be pulled: is it a push subscription?",
            _ => {
                tracing::info!(subscription = self.name, "the stream ended and is opened anew: {error}");
                return PAUSE.1;
            }
        };
        let code = code.map(|code| format!("{code:?}")).unwrap_or_default();
        if self.recipient.fault(component, &format!("{code}: {advice}")) {
            tracing::error!(subscription = self.name, code, "{advice}: {error}");
        }
        PAUSE_OF_FAULT
    }

    /// Reads one stream to its end.
    async fn read(&mut self, component: &str) -> End {
        let mut stream = self
            .client
            .subscribe(&self.path)
            .set_max_outstanding_messages(i64::try_from(self.places).unwrap_or(i64::MAX))
            .set_max_outstanding_bytes(i64::from(ROOM_KB) * 1024)
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build();
        let room = Arc::new(Semaphore::new(self.places));
        let mut in_hand = JoinSet::new();
        let mut idle_since = Instant::now();
        // An open stream says nothing until a message comes; one that is refused says so within this time.
        let mut opened = Some(Instant::now() + Duration::from_secs(3));
        loop {
            while in_hand.try_join_next().is_some() {}
            let place = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return drained(stream, in_hand).await,
                place = Arc::clone(&room).acquire_owned() => place.ok(),
            };
            let mut closed = false;
            // The stream is asked in one place only, and where another branch wins it is either kept or given up whole.
            let received = {
                let mut next = std::pin::pin!(stream.next());
                loop {
                    tokio::select! {
                        biased;
                        () = stopped(&mut self.stop) => break None,
                        () = self.recipient.closed() => {
                            closed = true;
                            break None;
                        }
                        received = &mut next => break Some(received),
                        () = tokio::time::sleep_until(opened.unwrap_or_else(Instant::now)), if opened.is_some() => {
                            opened = None;
                            self.recipient.well(component);
                        }
                        () = tokio::time::sleep_until(idle_since + self.idle_max) => break None,
                    }
                }
            };
            let stopping = *self.stop.borrow();
            match received {
                Some(Some(Ok((message, handler)))) => {
                    idle_since = Instant::now();
                    if opened.take().is_some() {
                        self.recipient.well(component);
                    }
                    let kilobytes = u32::try_from(message.data.len() / 1024 + 1).unwrap_or(ROOM_KB).min(ROOM_KB);
                    let room = tokio::select! {
                        biased;
                        () = stopped(&mut self.stop) => return drained(stream, in_hand).await,
                        room = Arc::clone(&self.bytes).acquire_many_owned(kilobytes) => room.ok(),
                    };
                    if let (Some(place), Some(room)) = (place, room) {
                        self.take(&mut in_hand, message, handler, (place, room));
                    }
                }
                Some(Some(Err(error))) => {
                    settle_elsewhere(stream, in_hand);
                    return End::Ended(Some(error));
                }
                Some(None) => return End::Ended(None),
                None if stopping => return drained(stream, in_hand).await,
                None => {
                    settle_elsewhere(stream, in_hand);
                    return if closed { End::Closed } else { End::Silent };
                }
            }
        }
    }

    /// Hands a message to the intake, in a task of its own that settles it.
    fn take(&self, in_hand: &mut JoinSet<()>, message: Message, handler: Handler, place: Place) {
        let Some(published) = published(&message) else {
            // No broker leaves it out; without it the message would have no place in time.
            tracing::error!(subscription = self.name, message = message.message_id, "a message without its instant");
            handler.nack();
            return;
        };
        if self.proves {
            self.recipient.heard(&self.topic, published);
        }
        if message.attributes.contains_key(PROBE) && message.data.is_empty() {
            handler.ack();
            return;
        }
        if let Some(attempt) = handler.delivery_attempt().filter(|attempt| *attempt > 1) {
            self.recipient.redelivered();
            if attempt >= ATTEMPTS_REPORTED {
                tracing::warn!(subscription = self.name, message = message.message_id, attempt, "delivered again");
            }
        }
        let delivery = Delivery {
            topic: self.topic.clone(),
            message_id: message.message_id,
            published,
            attributes: BTreeMap::from_iter(message.attributes),
            data: message.data.to_vec(),
        };
        let (recipient, mut stop) = (Arc::clone(&self.recipient), self.stop.clone());
        in_hand.spawn(async move {
            let handed = recipient.hand_over(delivery).await;
            settle(handler, handed, &mut stop).await;
            drop(place);
        });
    }
}

/// A client with a connection of its own.
async fn client(connection: &Connection) -> Result<Client, ConnectError> {
    let builder = Client::builder().with_endpoint(connection.endpoint()).with_credentials(connection.credentials()?);
    builder.build().await.map_err(|error| connection.failed(&error))
}

/// Acknowledges, or hands back after the pause that was asked for: without one a message that cannot be taken now would
/// come again at once, for ever.
async fn settle(handler: Handler, handed: Handed, stop: &mut watch::Receiver<bool>) {
    match handed {
        Handed::Settled => match handler {
            // Confirmed only where the subscription promises anything by it; if it comes again it changes nothing.
            Handler::ExactlyOnce(handler) => {
                if let Err(error) = handler.confirmed_ack().await {
                    tracing::debug!("not acknowledged, comes again: {error}");
                }
            }
            handler => handler.ack(),
        },
        Handed::Back(after) => {
            let pause = Duration::try_from(after).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(stop) => {}
            }
            handler.nack();
        }
    }
}

/// What is in hand is settled, then the acknowledgements are sent.
async fn drained(stream: MessageStream, mut in_hand: JoinSet<()>) -> End {
    let token = stream.shutdown_token();
    let all = async { while in_hand.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        tracing::warn!("not everything in hand could be settled; it comes again");
    }
    drop(in_hand);
    let _ = tokio::time::timeout(FLUSH, token.shutdown()).await;
    drop(stream);
    End::Stopped
}

/// Lets what is in hand of a stream that has ended be settled, while a new one is opened.
fn settle_elsewhere(stream: MessageStream, mut in_hand: JoinSet<()>) {
    let token = stream.shutdown_token();
    drop(stream);
    tokio::spawn(async move {
        let all = async { while in_hand.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, all).await;
        drop(in_hand);
        let _ = tokio::time::timeout(FLUSH, token.shutdown()).await;
    });
}

/// Sends probes, so that an idle connection can be told from a dead one.
async fn probe(publisher: Arc<Publisher>, topics: Vec<String>, every: Duration, mut stop: watch::Receiver<bool>) {
    let attributes = BTreeMap::from([(PROBE.to_owned(), uuid::Uuid::new_v4().to_string())]);
    loop {
        for topic in &topics {
            if let Err(error) = publisher.publish(topic, Vec::new(), &attributes).await {
                tracing::debug!(topic, "no probe: {error}");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

fn published(message: &Message) -> Option<Timestamp> {
    let at = message.publish_time.as_ref()?;
    Timestamp::new(at.seconds(), at.nanos()).ok()
}

/// Full jitter: anything up to a bound that doubles with each failure in a row.
fn pause(failures: u32, longest: Duration) -> Duration {
    let bound = PAUSE.0.saturating_mul(1 << failures.min(10)).min(longest);
    let share = u32::try_from(uuid::Uuid::new_v4().as_u128() % 1000).unwrap_or(0);
    PAUSE.0 + bound * share / 1000
}

/// Resolves once the service is going down.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that has gone is an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}
