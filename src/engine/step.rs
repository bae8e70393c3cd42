//! Load, decide, commit: the only way a partition changes.
//!
//! Keeps `ack-after-commit` (a caller settles a message only after `Ok`) and `decided-gets-published` (effects are in
//! the same commit as the state).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::relay::claimed_until;
use crate::crash::{self, Place};
use crate::domain::decide::decide;
use crate::domain::effect::{About, Alert, Effect, Severity, Turn};
use crate::domain::event::Event;
use crate::domain::id::{AlertKey, NodeId, PartitionKey};
use crate::domain::invariant::Violation;
use crate::domain::partition::{Node, Partition, Recorded, State};
use crate::domain::trace::{LINKS_MAX, TraceContext};
use crate::fault::caught;
use crate::port::{Commit, JournalEntry, OutboxEntry, StoreError, Stored};
use crate::telemetry::span::{Kind, Span};
use crate::wire::trace;

/// What became of a batch of events.
#[derive(Debug)]
pub struct Stepped {
    /// What each event did.
    pub recorded: Vec<Recorded>,
    /// Whether effects wait to be delivered.
    pub effects: usize,
}

/// Why a batch of events could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others kept changing the partition.
    #[error("{0} is contended")]
    Contended(PartitionKey),
    /// The decision would have broken an invariant: our bug. Nothing was stored.
    #[error(transparent)]
    Violated(#[from] Violation),
    /// Too many dates of history were opened this minute.
    #[error("{0} is history, and too many dates were opened this minute")]
    Throttled(PartitionKey),
    /// The decision, or what leads to it, panicked: our bug, too. Whether it is stored is not known.
    #[error("a fault of tipoff: {0}")]
    Panicked(String),
    /// There is no such pipeline.
    #[error("there is no pipeline {0}")]
    NoPipeline(String),
}

impl Engine {
    /// Applies `events` to the partition `key`, in one decision and one commit.
    ///
    /// # Errors
    /// After an error nothing is known to be stored, and the same events may be applied again.
    pub async fn step(&self, key: &PartitionKey, events: &[Event]) -> Result<Stepped, StepError> {
        match caught(self.step_once(key, events)).await {
            Ok(stepped) => stepped,
            Err(why) => {
                self.counts.violations.fetch_add(1, Ordering::Relaxed);
                self.telemetry.metrics.refused.add(1, []);
                self.faulted("decide", &format!("{key}: {why}"), "its messages are tried one by one, then parked")
                    .await;
                Err(StepError::Panicked(why))
            }
        }
    }

    async fn step_once(&self, key: &PartitionKey, events: &[Event]) -> Result<Stepped, StepError> {
        let graph = self.graph(&key.pipeline).ok_or_else(|| StepError::NoPipeline(key.pipeline.to_string()))?;
        let remembered = self.remembered.of(key);
        let mut last = remembered.lock().await;
        for round in 0..self.settings.conflicts_max {
            let known = last.take();
            let is_certain = known.is_none();
            let stored = match known {
                Some(stored) => stored,
                None => self.suspect(self.store.load(key).await)?,
            };
            let now = self.now();
            if stored.version == 0 && !self.is_live(graph, key.date, now.at) && !self.may_open(now.at) {
                return Err(StepError::Throttled(key.clone()));
            }
            let decision = match decide(graph, &stored.partition, events, now) {
                Ok(decision) => decision,
                // No commit will tell whether what it was decided on still holds.
                Err(_) if !is_certain => continue,
                Err(violation) => {
                    self.violated(key, &violation).await;
                    return Err(violation.into());
                }
            };
            let recorded = decision.recorded.clone();
            let effects = decision.effects.len();
            if !decision.changed && decision.wake_at == stored.wake_at {
                if !is_certain {
                    continue;
                }
                // That there is nothing yet is never remembered: another may open the date.
                *last = Some(stored).filter(|stored| stored.version > 0);
                return Ok(Stepped { recorded, effects });
            }
            let missed = expired(&stored.partition, &decision.next);
            let dispatched = decision.effects.iter().find_map(|effect| match effect {
                Effect::Dispatch(dispatch) => Some(dispatch.manifest.trace),
                _ => None,
            });
            let sends = decision.effects.iter().any(
                |effect| matches!(effect, Effect::Dispatch(dispatch) if self.sends(&key.pipeline, &dispatch.node)),
            );
            let mut commit = commit(graph.revision, key, &stored, decision, events, now);
            let expected = self.fresh.expect(&commit.outbox);
            commit.claimed_until = expected.as_ref().map(|_| claimed_until(now.at));
            let fresh = if expected.is_some() { commit.outbox.clone() } else { Vec::new() };
            let version = stored.version + 1;
            let next = Stored { partition: Arc::clone(&commit.partition), version, wake_at: commit.wake_at };
            crash::at(Place::Decided);
            let began = tokio::time::Instant::now();
            let committed = async {
                let committed = self.store.commit(commit).await;
                (committed, began.elapsed())
            };
            let ahead = async {
                if expected.is_some() && sends {
                    self.ask_ahead(key, now.at).await;
                }
            };
            let ((committed, took), ()) = tokio::join!(committed, ahead);
            let metrics = &self.telemetry.metrics;
            metrics.commit_duration.record(took.as_secs_f64(), []);
            match self.suspect(committed) {
                Ok(()) => {
                    *last = Some(next);
                    match expected {
                        Some(expected) => expected.hand_over(fresh),
                        None if effects > 0 => self.fresh.look(),
                        None => {}
                    }
                    self.counts.decisions.fetch_add(1, Ordering::Relaxed);
                    metrics.decisions.add(1, [key.pipeline.as_str()]);
                    metrics.deadlines_missed.add(missed, [key.pipeline.as_str()]);
                    self.show_decision(key, version, events, dispatched, now.at);
                    tracing::debug!(partition = %key, events = events.len(), effects, "decided");
                    return Ok(Stepped { recorded, effects });
                }
                Err(StoreError::Conflict(_)) => {
                    metrics.conflicts.add(1, [key.pipeline.as_str()]);
                    tracing::debug!(partition = %key, round, "somebody else was faster");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StepError::Contended(key.clone()))
    }

    /// Shows a decision in the trace of the last message it was taken on; where it was taken on none, but sends something, in
    /// that of what it sends.
    fn show_decision(
        &self,
        key: &PartitionKey,
        version: u64,
        events: &[Event],
        dispatched: Option<Option<TraceContext>>,
        began: Timestamp,
    ) {
        let told = events.iter().filter_map(|event| match event {
            Event::Completed(completed) => Some(completed.trace),
            _ => None,
        });
        let told: Vec<Option<TraceContext>> = told.collect();
        if told.is_empty() && dispatched.is_none() {
            return;
        }
        let mut traces: Vec<TraceContext> = told.into_iter().flatten().collect();
        let parent = traces.pop().or(dispatched.flatten());
        let what = format!("{key}@{version}");
        let context = parent.map_or_else(|| trace::of_date(key, &what), |parent| trace::beside(parent, &what));
        self.telemetry.spans.record(context, || Span {
            name: "decide",
            kind: Kind::Internal,
            context,
            parent,
            links: traces.into_iter().rev().take(LINKS_MAX).collect(),
            start: began,
            end: self.clock.now(),
            attributes: vec![
                ("tipoff.partition", key.to_string()),
                ("tipoff.version", version.to_string()),
                ("tipoff.events", events.len().to_string()),
            ],
            error: None,
        });
    }

    async fn violated(&self, key: &PartitionKey, violation: &Violation) {
        self.counts.violations.fetch_add(1, Ordering::Relaxed);
        self.telemetry.metrics.refused.add(1, []);
        tracing::error!(partition = %key, slug = violation.slug, "{violation}: the decision was refused");
        let alert = Alert {
            key: AlertKey::new(format!("invariant:{}:{key}", violation.slug)),
            severity: Severity::Critical,
            turn: Turn::Raised,
            text: format!("{violation}; {key} takes no decisions on these events"),
            at: self.clock.now(),
            about: About::date(key).done("the decision was refused and nothing of it is stored; other dates go on"),
        };
        self.alert(alert).await;
    }

    /// Whether another partition of history may be opened this minute.
    fn may_open(&self, now: Timestamp) -> bool {
        self.opened.take(now, self.settings.history_opened_per_minute)
    }
}

fn commit(
    revision: u64,
    key: &PartitionKey,
    stored: &Stored,
    decision: crate::domain::decide::Decision,
    events: &[Event],
    now: crate::domain::time::Now,
) -> Commit {
    let version = stored.version + 1;
    let moved = moved(&stored.partition, &decision.next);
    let outbox = decision
        .effects
        .iter()
        .enumerate()
        .map(|(index, effect)| OutboxEntry {
            id: match effect {
                Effect::Dispatch(dispatch) | Effect::Close(dispatch) => dispatch.id.to_string(),
                _ => format!("{key}@{version}#{index}"),
            },
            key: key.clone(),
            effect: effect.clone(),
            decided_at: now.at,
            tries: 0,
        })
        .collect();
    Commit {
        expected_version: stored.version,
        wake_at: decision.wake_at,
        outbox,
        claimed_until: None,
        journal: decision.changed.then(|| JournalEntry {
            seq: 0,
            key: key.clone(),
            version,
            now,
            revision,
            events: events.iter().filter(|event| !matches!(event, Event::Tick)).cloned().collect(),
            recorded: decision.recorded,
            effects: decision.effects,
            moved,
        }),
        partition: Arc::new(decision.next),
    }
}

/// How many nodes have passed their deadline.
fn expired(before: &Partition, after: &Partition) -> u64 {
    let is_news = |(id, node): &(&NodeId, &Node)| {
        matches!(node.state, State::Expired { .. }) && !matches!(before.node(id).state, State::Expired { .. })
    };
    after.nodes.iter().filter(is_news).count() as u64
}

/// The nodes whose state or attempt differs: node, before, after.
pub(super) fn moved(before: &Partition, after: &Partition) -> Vec<(NodeId, String, String)> {
    let differs = |(id, node): (&NodeId, &Node)| {
        let was = before.node(id);
        let (from, to) = (was.state.name(), node.state.name());
        (from != to || was.attempt != node.attempt).then(|| (id.clone(), from.to_owned(), to.to_owned()))
    };
    after.nodes.iter().filter_map(differs).collect()
}

/// So many a minute, counted from the first.
#[derive(Debug, Default)]
pub struct PerMinute(std::sync::Mutex<(Option<Timestamp>, u32)>);

impl PerMinute {
    /// Takes one of `most`, if this minute has one left.
    pub fn take(&self, now: Timestamp, most: u32) -> bool {
        let mut window = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let minute = SignedDuration::from_mins(1);
        if window.0.is_none_or(|since| now.duration_since(since) >= minute || now < since) {
            *window = (Some(now), 0);
        }
        window.1 += 1;
        window.1 <= most
    }
}
