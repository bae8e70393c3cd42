//! Delivers what waits on push subscriptions, and the calls of services, to the URLs that are configured.
//!
//! Each delivery is a task of its own and each target has its own places, so a target that hangs holds up nobody else,
//! not even the next round. The lease outlives the longest call; a delivery cut short by our own end is simply leased
//! again. It does not decide what is due: the caller comes by with the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use tokio::task::JoinSet;

use super::bus::{self, EmbeddedBus, HTTP, Lease, Leased, PROJECT, Refusal, Terms};
use super::database::lock;
use crate::adapter::call::{self, Meaning, at_path, chain, first_words, headers, json_headers, meaning};
use crate::configuration::shown_url;
use crate::crash::{self, Place};
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::id::AlertKey;
use crate::fault::caught;
use crate::port::{Bus as _, BusError, StoreError};
use crate::topology::{Delivery, PushBody};
use crate::wire::envelope::{Message, wrap_push};

/// Calls of one target at once. A target that takes work in the request is soon busy with these.
const TARGET_PLACES: usize = 8;
/// How much longer a lease lasts than the call it is for, so that no call is repeated while it still runs.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Where pushes go: the base URL of a subscription or, for all of its subscriptions, of a service.
pub type PushTargets = BTreeMap<String, Url>;

/// Delivers. Dropping it ends the calls under way, whose messages are delivered again later.
#[derive(Debug)]
pub struct Pusher {
    bus: EmbeddedBus,
    client: Client,
    calls: Mutex<JoinSet<()>>,
    busy: Arc<Mutex<BTreeMap<String, usize>>>,
    absent: Absent,
}

/// How often after each other nobody was found at a subscription's target.
type Absent = Arc<Mutex<BTreeMap<String, u32>>>;

/// One place at a target, given back when the call ends, however it ends.
struct PlaceAt {
    subscription: String,
    busy: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// A subscription to deliver from.
#[derive(Clone)]
struct Destination {
    subscription: String,
    url: Url,
    body: Body,
    terms: Terms,
}

/// What is posted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Envelope,
    Payload,
    /// The payload as a plain request to a service, which is always JSON.
    Request,
}

impl Pusher {
    /// A pusher of what waits in `bus`.
    pub fn new(bus: EmbeddedBus) -> Result<Self, reqwest::Error> {
        let client = call::client()?;
        Ok(Self { bus, client, calls: Mutex::default(), busy: Arc::default(), absent: Arc::default() })
    }

    /// Starts delivering what is due, as far as there are places, and tells how many it started. It does not wait for
    /// the answers. Safe to cancel: what was leased and not started is leased again when the lease runs out.
    pub async fn push_due(&self, at: Timestamp, targets: &PushTargets) -> Result<usize, BusError> {
        let started = Instant::now();
        let mut destinations = self.declared(targets);
        destinations.extend(self.services(targets).await?);
        let wanted: Vec<(Destination, Vec<PlaceAt>)> = destinations
            .into_iter()
            .map(|destination| {
                let places = self.places(&destination.subscription);
                (destination, places)
            })
            .filter(|(_, places)| !places.is_empty())
            .collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        let topology = Arc::clone(&self.bus.topology);
        let leased = self.bus.database.write(move |db| {
            wanted
                .into_iter()
                .map(|(to, places)| {
                    let lease = to.terms.ack_deadline + LEASE_MARGIN;
                    let taken = bus::take(db, &topology, &to.subscription, &to.terms, places.len(), lease, at)?;
                    Ok((to, places, taken))
                })
                .collect::<Result<Vec<_>, StoreError>>()
        });
        let leased = leased.await?;
        let mut calls = lock(&self.calls);
        while calls.try_join_next().is_some() {}
        let mut count = 0;
        for (to, places, taken) in leased {
            // Places that nothing was found for are given back here, by being dropped.
            for (message, place) in taken.into_iter().zip(places) {
                let (bus, client, to) = (self.bus.clone(), self.client.clone(), to.clone());
                let absent = Arc::clone(&self.absent);
                calls.spawn(async move {
                    let posted = caught(deliver(&bus, &client, &absent, &to, &message, at, started)).await;
                    let taken = match posted {
                        Ok(taken) => taken,
                        Err(why) => {
                            tracing::error!(message.id = message.message_id, "a push panicked: {why}");
                            let refused = Refused { error: format!("pushing it panicked: {why}"), absent: false };
                            let now = bus::later(at, started.elapsed());
                            // If that fails as well, its lease runs out.
                            let _ = refuse(&bus, &to, &message.ack_id, refused, now).await;
                            false
                        }
                    };
                    drop(place);
                    // What was refused waits for its pause; a place at a target that refuses is no news.
                    if taken {
                        bus.database.deliveries.notify_one();
                    }
                });
                count += 1;
            }
        }
        Ok(count)
    }

    /// Gives back what a pusher before this one had leased when it was killed; its leases run for as long as a consumer may
    /// take. What another one is posting at this moment is posted twice, under the same id.
    pub async fn take_over(&self, at: Timestamp, targets: &PushTargets) -> Result<usize, BusError> {
        let mut destinations = self.declared(targets);
        destinations.extend(self.services(targets).await?);
        self.bus.take_over(destinations.into_iter().map(|destination| destination.subscription).collect(), at).await
    }

    /// Waits until there may be more to deliver: something was sent, or was taken and left its place. It does not see what
    /// is due again after a pause, nor what another process has sent.
    pub async fn more(&self) {
        self.bus.database.deliveries.notified().await;
    }

    /// Waits until no call is under way.
    pub async fn idle(&self) {
        while std::future::poll_fn(|context| lock(&self.calls).poll_join_next(context)).await.is_some() {}
    }

    /// The declared push subscriptions that have a URL.
    fn declared(&self, targets: &PushTargets) -> Vec<Destination> {
        let subscriptions = self.bus.topology.topics().flat_map(|(_, topic)| topic.subscriptions());
        subscriptions
            .filter_map(|(name, declared)| {
                let Delivery::Push { path, body } = &declared.delivery else { return None };
                let base = targets.get(name.as_str()).or_else(|| targets.get(&declared.consumer))?;
                Some(Destination {
                    subscription: name.to_string(),
                    url: at_path(base, path),
                    body: match body {
                        PushBody::Envelope => Body::Envelope,
                        PushBody::Payload => Body::Payload,
                    },
                    terms: Terms::of(declared),
                })
            })
            .collect()
    }

    /// The paths of services that a call waits for and that have a URL.
    async fn services(&self, targets: &PushTargets) -> Result<Vec<Destination>, BusError> {
        let waiting: Vec<String> = self
            .bus
            .database
            .read(|db| {
                let mut query = db.prepare_cached(
                    "SELECT DISTINCT subscription FROM deliveries WHERE settled_at IS NULL AND subscription GLOB ?1",
                )?;
                let names = query.query_and_then([format!("{HTTP}*")], |row| Ok(row.get(0)?))?;
                names.collect::<Result<_, StoreError>>()
            })
            .await?;
        let destinations = waiting.into_iter().filter_map(|subscription| {
            let (service, path) = subscription.strip_prefix(HTTP)?.split_once('/')?;
            let url = at_path(targets.get(service)?, path);
            Some(Destination { subscription, url, body: Body::Request, terms: Terms::HTTP })
        });
        Ok(destinations.collect())
    }

    /// Takes every place that is free at a target; one at which nobody is found is tried with one message at a time.
    fn places(&self, subscription: &str) -> Vec<PlaceAt> {
        let is_absent = lock(&self.absent).get(subscription).is_some_and(|times| *times >= TRIES_BEFORE_ALERT);
        let all = if is_absent { 1 } else { TARGET_PLACES };
        let mut busy = lock(&self.busy);
        let taken = busy.entry(subscription.to_owned()).or_default();
        let free = all.saturating_sub(*taken);
        *taken += free;
        let place = || PlaceAt { subscription: subscription.to_owned(), busy: Arc::clone(&self.busy) };
        std::iter::repeat_with(place).take(free).collect()
    }
}

impl Drop for PlaceAt {
    fn drop(&mut self) {
        let mut busy = lock(&self.busy);
        if let Some(taken) = busy.get_mut(&self.subscription) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                busy.remove(&self.subscription);
            }
        }
    }
}

/// Refusals of one message before people are told; two may be a restart of the target.
const TRIES_BEFORE_ALERT: u32 = 3;

/// Posts one message and settles its lease by the answer. Whether it was taken.
async fn deliver(
    bus: &EmbeddedBus,
    client: &Client,
    absent: &Absent,
    to: &Destination,
    message: &Leased,
    at: Timestamp,
    started: Instant,
) -> bool {
    crash::at(Place::PushLeased);
    let posted = post(client, to, message).await;
    crash::at(Place::PushUnsettled);
    // The caller's clock goes on by as much as has passed.
    let now = bus::later(at, started.elapsed());
    let times = count_absence(absent, &to.subscription, posted.as_ref().err());
    if message.delivery_attempt >= TRIES_BEFORE_ALERT || times >= TRIES_BEFORE_ALERT {
        let place = shown_url(to.url.as_str());
        let (turn, text) = match &posted {
            Ok(()) => (Turn::Resolved, format!("{} is taken again at {place}", to.subscription)),
            Err(Refused { error, .. }) => (Turn::Raised, format!("{} is refused at {place}: {error}", to.subscription)),
        };
        let done = match &posted {
            Err(Refused { absent: true, .. }) => {
                "nothing is given up: one message at a time is tried until somebody answers"
            }
            _ => "each message is tried again with growing pauses, and given up after the attempts of its subscription",
        };
        let key = AlertKey::new(format!("target:{}", to.subscription));
        let alert = Alert::new(key, Severity::Critical, turn, text, now).about(About::default().done(done));
        if let Err(error) = bus.alert(&alert).await {
            tracing::error!("raise {}: {error}", alert.key);
        }
    }
    let taken = posted.is_ok();
    let settled = match posted {
        Ok(()) => bus.acknowledge(&to.subscription, std::slice::from_ref(&message.ack_id), now).await,
        Err(refused) => {
            tracing::warn!(
                subscription = to.subscription,
                message.id = message.message_id,
                attempt = message.delivery_attempt,
                error = refused.error,
                "a push was refused"
            );
            refuse(bus, to, &message.ack_id, refused, now).await
        }
    };
    if let Err(error) = settled {
        // The lease runs out and the message is delivered again, which its consumer has to bear anyway.
        tracing::warn!(subscription = to.subscription, message.id = message.message_id, %error, "settle a push");
    }
    taken
}

async fn refuse(
    bus: &EmbeddedBus,
    to: &Destination,
    ack_id: &str,
    refused: Refused,
    now: Timestamp,
) -> Result<(), BusError> {
    let lease = Lease::read(ack_id)?;
    let (topology, to) = (Arc::clone(&bus.topology), to.clone());
    let given_back = bus.database.write(move |db| {
        let refusal = Refusal { subscription: &to.subscription, error: &refused.error };
        if refused.absent {
            return bus::take_back(db, &to.terms, lease, &refusal, now);
        }
        bus::give_back(db, &topology, &to.terms, lease, &refusal, now)
    });
    Ok(given_back.await?)
}

/// Why a message was not taken.
struct Refused {
    error: String,
    /// Nobody was found at the target: that says nothing of the message.
    absent: bool,
}

/// Counts that nobody was found at a target, or that somebody was. Returns how often in a row nobody was found, this time
/// or until now.
fn count_absence(absent: &Absent, subscription: &str, refused: Option<&Refused>) -> u32 {
    let mut absent = lock(absent);
    if refused.is_some_and(|refused| refused.absent) {
        let times = absent.entry(subscription.to_owned()).or_default();
        *times = times.saturating_add(1);
        return *times;
    }
    absent.remove(subscription).unwrap_or_default()
}

async fn post(client: &Client, to: &Destination, message: &Leased) -> Result<(), Refused> {
    let request = client.post(to.url.clone()).timeout(to.terms.ack_deadline);
    let request = match to.body {
        Body::Envelope => {
            let subscription = format!("projects/{PROJECT}/subscriptions/{}", to.subscription);
            let wrapped = Message {
                message_id: message.message_id.clone(),
                published: message.publish_time,
                attributes: message.attributes.clone(),
                data: message.data.clone(),
            };
            let body = wrap_push(&subscription, &wrapped, Some(message.delivery_attempt));
            request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body)
        }
        Body::Payload => request.headers(headers(pairs(&told(to, message)))).body(message.data.clone()),
        Body::Request => request.headers(json_headers(pairs(&told(to, message)))).body(message.data.clone()),
    };
    let response = request.send().await;
    let response =
        response.map_err(|error| Refused { absent: error.is_connect(), error: chain(&error.without_url()) })?;
    let status = response.status();
    if meaning(status) == Meaning::Accepted {
        return Ok(());
    }
    let error = format!("{status} {}", first_words(response).await).trim_end().to_owned();
    Err(Refused { error, absent: false })
}

/// A message's attributes, with what the envelope would have told.
fn told(to: &Destination, message: &Leased) -> BTreeMap<String, String> {
    let told = [
        ("x-goog-pubsub-subscription-name", format!("projects/{PROJECT}/subscriptions/{}", to.subscription)),
        ("x-goog-pubsub-message-id", message.message_id.clone()),
        ("x-goog-pubsub-publish-time", message.publish_time.to_string()),
    ];
    let mut attributes = message.attributes.clone();
    attributes.extend(told.map(|(name, value)| (name.to_owned(), value)));
    attributes
}

fn pairs(attributes: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &String)> {
    attributes.iter().map(|(name, value)| (name.as_str(), value))
}
