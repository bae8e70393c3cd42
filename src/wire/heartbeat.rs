//! Heartbeats: which run of which node is alive, and how far it has come.
//!
//! The instants that a producer writes are its own clock's and decide nothing; the broker's publish time does. The final
//! `completed` is no completion, for processors say so after a failure too.

use serde::Deserialize;

use crate::domain::event::{Event, Heartbeat, Pulse};
use crate::domain::id::RunId;

use super::inbound::{Decoded, Delivery, Routes};
use super::name::{Names, checked, resolve};
use super::parked::{Kind, Reason, excerpt};
use super::revision::served;
use super::value::{Count, Text, date};

/// The fields of a heartbeat that mean something here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    processor_name: Option<String>,
    run_id: Option<Text>,
    data_date: Option<Text>,
    status: Option<String>,
    progress: Option<Count>,
    total: Option<Count>,
    revision: Option<Text>,
    commit: Option<Text>,
}

/// Reads a heartbeat that came over a topic of `pipeline`.
pub(super) fn decode(routes: &Routes<'_>, pipeline: &str, delivery: &Delivery, body: &Body) -> Decoded {
    read(routes, pipeline, delivery, body).unwrap_or_else(|other| other)
}

fn read(routes: &Routes<'_>, pipeline: &str, delivery: &Delivery, body: &Body) -> Result<Decoded, Decoded> {
    let park = |reason| Decoded::Parked { reason };
    let name = body.processor_name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let name = name.ok_or(park(Reason::NoName))?;
    let data_date = body.data_date.as_ref().map(|text| text.0.as_str());
    let date = data_date.and_then(date).ok_or_else(|| Reason::NoDate { given: data_date.map(excerpt) });
    let names = Names { name, is_table: false, tables: Vec::new(), dataset: None };
    let resolved = resolve(routes, (&delivery.topic, pipeline), &names, date, delivery.published, None)?;
    let run = body.run_id.as_ref().map(|run| run.0.as_str()).filter(|run| !run.is_empty());
    let run = checked("run_id", run.ok_or(park(Reason::NoRun))?).map_err(park)?;
    let pulse = match body.status.as_deref().map(str::trim) {
        Some("running") => Pulse::Running,
        Some("completed") => Pulse::Ended,
        Some("failed") => Pulse::Failed,
        Some(other) if !other.is_empty() => {
            return Err(park(Reason::UnknownStatus(excerpt(other), Kind::Heartbeat)));
        }
        Some(_) | None => return Err(park(Reason::NoStatus)),
    };
    // A sign of life with a nonsensical figure is still a sign of life.
    let figure = |count: Option<Count>| count.and_then(Count::get).unwrap_or(0);
    let served = served(&resolved.node, [&body.revision, &body.commit], delivery);
    let heartbeat = Heartbeat {
        node: resolved.node,
        run: RunId::from(run),
        pulse,
        progress: (figure(body.progress), figure(body.total)),
        published: delivery.published,
    };
    let mut events = vec![Event::Heartbeat(heartbeat)];
    events.extend(served);
    events.extend(resolved.notes);
    Ok(Decoded::Events { key: resolved.key, events })
}
