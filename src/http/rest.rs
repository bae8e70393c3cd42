//! Pub/Sub's own calls: a push envelope posted to us, `topics/{topic}:publish`, and a subscription's `:pull`,
//! `:acknowledge` and `:modifyAckDeadline`. `curl`, a push subscription, and Google's client in REST mode speak them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::StreamExt as _;

use super::retold::Identity;
use super::{App, BODY_MAX, BODY_WITHIN, Local, ROOM_KB};
use crate::adapter::embedded::question;
use crate::crash::{self, Place};
use crate::domain::coverage::Coverage;
use crate::domain::id::{CheckId, NodeId, PipelineId, UnitId};
use crate::domain::trace::TraceContext;
use crate::engine::intake::Settlement;
use crate::port::Row;
use crate::topology::Carries;
use crate::wire::inbound::Delivery;
use crate::wire::{envelope, report, trace};

/// Pub/Sub's bound on the data of one message, in bytes.
const MESSAGE_MAX: usize = 10 * 1024 * 1024;

/// What a part of a body takes in memory once it is read, with what is copied of it, in bytes: a message of no length 70, an
/// attribute 430, and an object in another of which nothing is known 630.
const PART: usize = 640;

/// The longest that a subscription keeps a message.
const RETENTION_MAX: SignedDuration = SignedDuration::from_hours(31 * 24);
/// Pub/Sub's bound on the messages of one publish call.
const PUBLISH_MAX: usize = 1000;

/// Google's error shape.
pub(super) fn refuse(code: StatusCode, status: &str, message: impl Into<String>) -> Response {
    let error = json!({ "error": { "code": code.as_u16(), "status": status, "message": message.into() } });
    let mut response = (code, Json(error)).into_response();
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
    }
    response
}

pub(super) fn invalid(message: impl Into<String>) -> Response {
    refuse(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
}

/// Reads a body, within bounds of size, time and memory in use. Room is taken for what has come, not for what is
/// announced: who announces much and sends nothing holds up nobody. What consists of very many parts needs more room than it has
/// bytes.
pub(super) async fn read(app: &App, body: Body) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Response> {
    read_within(app, body, BODY_MAX).await
}

/// The same, of a body that has no reason to be long.
pub(super) async fn read_within(
    app: &App,
    body: Body,
    most: usize,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Response> {
    let large =
        || refuse(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", format!("the body may have at most {most} bytes"));
    if axum::body::HttpBody::size_hint(&body).lower() > most as u64 {
        return Err(large());
    }
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut room): (Vec<u8>, Option<OwnedSemaphorePermit>) = (Vec::new(), None);
    let mut form = Form::default();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| invalid("the body could not be read"))?;
            if bytes.len() + chunk.len() > most {
                return Err(large());
            }
            if bytes.capacity() < bytes.len() + chunk.len() {
                // By little: doubled, a long one takes twice what it has.
                bytes.reserve_exact(chunk.len() + bytes.len() / 8);
            }
            bytes.extend_from_slice(&chunk);
            form.read(&chunk);
            // For a while it is there beside what is decoded of it, and what is written with escapes beside two copies of it.
            let times = if form.has_escapes { 4 } else { 2 };
            let wanted = (times * bytes.len() + form.parts * PART) / 1024 + 1;
            if wanted > ROOM_KB {
                let why = "the body takes too much room once it is read, for its length or its many parts: send it in several calls";
                return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", why));
            }
            let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(&app.room).try_acquire_many_owned(more) else {
                return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "too many large bodies at once"));
            };
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(())) => Ok((bytes, room)),
        Ok(Err(response)) => Err(response),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "DEADLINE_EXCEEDED", "the body came too slowly")),
    }
}

/// What a body of JSON will take once it is read, as far as it has come.
#[derive(Debug, Default)]
struct Form {
    /// Elements and members: a comma or a bracket is before each.
    parts: usize,
    has_escapes: bool,
    in_text: bool,
    after_backslash: bool,
}

impl Form {
    fn read(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match byte {
                _ if self.after_backslash => self.after_backslash = false,
                b'\\' if self.in_text => (self.after_backslash, self.has_escapes) = (true, true),
                b'"' => self.in_text = !self.in_text,
                b',' | b'[' | b'{' if !self.in_text => self.parts += 1,
                _ => {}
            }
        }
    }
}

/// The trace that a request belongs to, for messages that name none.
fn traced(headers: &HeaderMap, attributes: &mut BTreeMap<String, String>) {
    let header = || headers.get(trace::TRACEPARENT)?.to_str().ok()?.parse::<TraceContext>().ok();
    if trace::sent_with(attributes).is_none()
        && let Some(context) = header()
    {
        attributes.insert(trace::TRACEPARENT.to_owned(), context.to_string());
    }
}

/// A push subscription's delivery: the answer settles it.
pub async fn push(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    let (bytes, _room) = match read(&app, body).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    if bytes.is_empty() {
        // How an endpoint is tried before a subscription is pointed at it.
        return StatusCode::NO_CONTENT.into_response();
    }
    let pushed = match envelope::unwrap_push(&bytes) {
        Ok(pushed) => pushed,
        Err(error) => return invalid(error.to_string()),
    };
    let name = pushed.subscription.rsplit('/').next().unwrap_or_default();
    let known = app.engine.declarations.topology.subscription(name);
    let topic = known.map_or_else(|| name.to_owned(), |(topic, _)| topic.to_string());
    let mut delivery = pushed.message.of(topic);
    traced(&headers, &mut delivery.attributes);
    // A sender's clock ahead of ours must not hold verdicts back, and one far behind must not move dates.
    let now = app.engine.clock.now();
    delivery.published = delivery.published.clamp(now.saturating_sub(RETENTION_MAX).unwrap_or(now), now);
    match app.inbox.deliver(delivery).await {
        Settlement::Ack => StatusCode::NO_CONTENT.into_response(),
        Settlement::Park { reason, .. } => (StatusCode::OK, Json(json!({ "parked": reason }))).into_response(),
        Settlement::Nack { reason, .. } => refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", reason),
    }
}

/// `topics/{topic}:publish`.
pub async fn topic(
    State(app): State<App>,
    Extension(local): Extension<Local>,
    Path((_project, call)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some((topic, "publish")) = call.rsplit_once(':') else {
        return refuse(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no call `{call}`; try TOPIC:publish"));
    };
    let Some(declared) = app.engine.declarations.topology.topic(topic) else {
        let known = app.engine.declarations.topology.topics().map(|(name, _)| name.as_str());
        let hint = crate::diagnostic::suggestion(topic, known);
        return refuse(StatusCode::NOT_FOUND, "NOT_FOUND", format!("topics.yaml has no topic `{topic}`{hint}"));
    };
    // Dead letters come to the ledger over the broker's own deliveries.
    let ours = declared.carries != Carries::DeadLetter
        && declared.subscriptions().any(|(_, subscription)| subscription.consumer == "tipoff");
    let (bytes, _room) = match read(&app, body).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let mut messages = match envelope::unwrap_publish(&bytes) {
        Ok(messages) => messages,
        Err(error) => return invalid(error.to_string()),
    };
    drop(bytes);
    if let Some((data, _)) = messages.iter().find(|(data, _)| data.len() > MESSAGE_MAX) {
        return invalid(format!("a message has {} bytes; at most {MESSAGE_MAX} are taken", data.len()));
    }
    if messages.len() > PUBLISH_MAX {
        return invalid(format!("the call has {} messages; at most {PUBLISH_MAX} are taken", messages.len()));
    }
    let now = app.engine.clock.now();
    if ours {
        // By what was sent: a call that is made again may be in another trace.
        let identities: Vec<Identity> =
            messages.iter().map(|(data, attributes)| app.retold.identity(topic, data, attributes, now)).collect();
        let others = local.bus.has_readers(declared);
        let deliveries = messages.iter_mut().zip(&identities).map(|((data, attributes), identity)| {
            traced(&headers, attributes);
            Delivery {
                topic: topic.to_owned(),
                message_id: identity.id.clone(),
                published: identity.published,
                attributes: attributes.clone(),
                // Long ones are not kept twice for nobody.
                data: if others { data.clone() } else { std::mem::take(data) },
            }
        });
        let settlements = app.inbox.deliver_all(deliveries.collect()).await;
        crash::at(Place::AckUnsent);
        // One that is handed back fails the call; the publisher sends all again, and what was applied is a repetition.
        if let Some(Settlement::Nack { reason, .. }) =
            settlements.into_iter().find(|settlement| matches!(settlement, Settlement::Nack { .. }))
        {
            identities.into_iter().for_each(|identity| app.retold.failed(identity));
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", reason);
        }
        if !others {
            let ids: Vec<String> = identities.into_iter().map(|identity| identity.id).collect();
            return Json(json!({ "messageIds": ids })).into_response();
        }
    }
    messages.iter_mut().for_each(|(_, attributes)| traced(&headers, attributes));
    match local.bus.publish(topic, messages, now).await {
        Ok(ids) => Json(json!({ "messageIds": ids })).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pull {
    max_messages: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AckIds {
    ack_ids: Vec<String>,
    #[serde(default)]
    ack_deadline_seconds: u32,
}

/// Messages given to one pull at most; Pub/Sub's own bound.
const PULL_MAX: usize = 1000;

/// `subscriptions/{subscription}:pull`, `:acknowledge`, `:modifyAckDeadline`.
pub async fn subscription(
    State(app): State<App>,
    Extension(local): Extension<Local>,
    Path((_project, call)): Path<(String, String)>,
    body: Body,
) -> Response {
    let Some((name, verb)) = call.rsplit_once(':') else {
        return refuse(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no call `{call}`"));
    };
    let (bytes, _room) = match read(&app, body).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let now = app.engine.clock.now();
    let done = match verb {
        "pull" => match serde_json::from_slice::<Pull>(&bytes) {
            Ok(pull) => local
                .bus
                .pull(name, pull.max_messages.clamp(1, PULL_MAX), now)
                .await
                .map(|leased| json!({ "receivedMessages": leased.into_iter().map(received).collect::<Vec<_>>() })),
            Err(error) => return invalid(error.to_string()),
        },
        "acknowledge" | "modifyAckDeadline" => match serde_json::from_slice::<AckIds>(&bytes) {
            Ok(ids) if verb == "acknowledge" => {
                local.bus.acknowledge(name, &ids.ack_ids, now).await.map(|()| json!({}))
            }
            Ok(ids) => local
                .bus
                .modify_ack_deadline(name, &ids.ack_ids, ids.ack_deadline_seconds, now)
                .await
                .map(|()| json!({})),
            Err(error) => return invalid(error.to_string()),
        },
        _ => return refuse(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no call `{verb}`")),
    };
    match done {
        Ok(answer) => Json(answer).into_response(),
        Err(crate::port::BusError::Refused(why)) => refuse(StatusCode::NOT_FOUND, "NOT_FOUND", why),
        Err(crate::port::BusError::Unavailable(why) | crate::port::BusError::Dead(why)) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", why)
        }
    }
}

fn received(leased: crate::adapter::embedded::Leased) -> Value {
    json!({
        "ackId": leased.ack_id,
        "deliveryAttempt": leased.delivery_attempt,
        "message": {
            "data": STANDARD.encode(&leased.data),
            "attributes": leased.attributes,
            "messageId": leased.message_id,
            "publishTime": leased.publish_time,
        },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CoverageBody {
    pipeline: PipelineId,
    node: NodeId,
    /// One of its checks, where it is not its output that is told of.
    #[serde(default)]
    check: Option<CheckId>,
    date: Date,
    observed: u32,
    expected: u32,
    #[serde(default)]
    units: BTreeMap<UnitId, (u32, u32)>,
}

/// Units that one output may be told of by; the warehouse's own answers have no more.
const UNITS_MAX: usize = 1000;
/// Characters of a unit's name.
const UNIT_NAME_MAX: usize = 64;

/// What is there of an output, or what one of its checks finds, for the embedded warehouse: `{pipeline, node, check?, date,
/// observed, expected, units?}`.
pub async fn coverage(State(app): State<App>, Extension(local): Extension<Local>, body: Body) -> Response {
    let (bytes, _room) = match read(&app, body).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let body: CoverageBody = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(error) => return invalid(error.to_string()),
    };
    let Some(coverage) = Coverage::new(body.observed, body.expected) else {
        return invalid("`expected` must be at least 1");
    };
    let Some(node) = app.engine.graph(&body.pipeline).and_then(|graph| graph.node(&body.node)) else {
        return invalid(format!("{} has no node {}", body.pipeline, body.node));
    };
    let told = match &body.check {
        Some(check) if !node.expects.checks.iter().any(|known| known.id == *check) => {
            return invalid(format!("{} has no check {check}", body.node));
        }
        Some(check) => question(&body.node, check),
        None => body.node.clone(),
    };
    if body.units.len() > UNITS_MAX {
        return invalid(format!("`units` has {} members, of at most {UNITS_MAX}", body.units.len()));
    }
    let mut units = BTreeMap::new();
    for (unit, (observed, expected)) in body.units {
        let name = unit.as_str();
        if name.is_empty() || name.len() > UNIT_NAME_MAX || name.chars().any(char::is_control) {
            return invalid(format!("units: `{}` is no unit's name", name.escape_debug()));
        }
        let Some(coverage) = Coverage::new(observed, expected) else {
            return invalid(format!("units: {name}: what is expected must be at least 1"));
        };
        units.insert(unit, coverage);
    }
    let now = app.engine.clock.now();
    match local.embedded.put_coverage(&body.pipeline, &told, body.date, coverage, units, now).await {
        Ok(()) => Json(json!({})).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportBody {
    pipeline: PipelineId,
    report: String,
    date: Date,
    rows: Vec<Row>,
}

/// What a report says of a date from now on, for the embedded warehouse: `{pipeline, report, date, rows: [{…}]}`.
pub async fn report(State(app): State<App>, Extension(local): Extension<Local>, body: Body) -> Response {
    let (bytes, _room) = match read(&app, body).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    let body: ReportBody = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(error) => return invalid(error.to_string()),
    };
    let kind = match body.report.parse::<report::Kind>() {
        Ok(kind) => kind,
        Err(message) => return invalid(format!("report: {message}")),
    };
    if app.engine.pipeline(&body.pipeline).is_none() {
        return invalid(format!("there is no pipeline {}", body.pipeline));
    }
    if let Err(error) = report::check(kind, body.date, &body.rows) {
        return invalid(error.to_string());
    }
    let now = app.engine.clock.now();
    match local.embedded.put_report(&body.pipeline, kind, body.date, body.rows, now).await {
        Ok(()) => Json(json!({})).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string()),
    }
}
