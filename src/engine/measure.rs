//! What is measured rather than counted: how much waits, how old it is, how the live dates stand.

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::beat::VITAL;
use crate::domain::effect::{Effect, Severity};
use crate::domain::graph::Graph;
use crate::domain::id::PartitionKey;
use crate::domain::partition::{End, Partition, State};
use crate::domain::time::{Now, after};
use crate::domain::view::view;
use crate::port::{Delivered, Letters, OutboxEntry, StoreError};
use crate::wire::trace;

/// Effects that are counted.
const EFFECTS_MAX: usize = 500;
/// Dead letters that are counted.
const LETTERS_MAX: usize = 200;
/// What is put off is put off by at most an hour, so that this sees all of it.
const AHEAD: SignedDuration = SignedDuration::from_hours(2);
/// Days ahead that may be at work.
const DAYS_AHEAD: i32 = 1;
/// How a message may be settled.
const OUTCOMES: [&str; 3] = ["acknowledged", "parked", "handed_back"];
/// What may become of a dispatch.
const DISPATCHED: [&str; 4] = ["sent", "deferred", "unwanted", "undeliverable"];
/// Topics that are not declared, under one name.
const UNDECLARED: &str = "undeclared";

impl Engine {
    /// Makes every series known that declarations tell of, at 0: a first increase is then seen as one.
    pub fn make_series_known(&self) {
        let metrics = &self.telemetry.metrics;
        let topics = self.declarations.topology.topics().map(|(name, _)| name.as_str());
        for topic in topics.chain([UNDECLARED]) {
            OUTCOMES.into_iter().for_each(|outcome| metrics.messages.add(0, [topic, outcome]));
        }
        metrics.redelivered.add(0, []);
        metrics.refused.add(0, []);
        ["unavailable", "corrupt"].into_iter().for_each(|kind| metrics.store_errors.add(0, [kind]));
        for channel in self.notifier.channels().keys() {
            ["sent", "failed"].into_iter().for_each(|outcome| metrics.notices.add(0, [channel.as_str(), outcome]));
        }
        for (id, pipeline) in &self.declarations.pipelines {
            metrics.decisions.add(0, [id.as_str()]);
            metrics.conflicts.add(0, [id.as_str()]);
            metrics.deadlines_missed.add(0, [id.as_str()]);
            metrics.cap.set(pipeline.dispatches_per_hour.into(), [id.as_str()]);
            metrics.cap_used.set(0.0, [id.as_str()]);
            let tasks = pipeline.graph.order.iter().filter_map(|id| pipeline.graph.node(id));
            for node in tasks.filter(|node| node.task().is_some()) {
                for outcome in DISPATCHED {
                    metrics.dispatches.add(0, [id.as_str(), node.id.as_str(), outcome]);
                }
            }
        }
        metrics.start_time.set(seconds(self.clock.now()), []);
    }

    /// Measures what needs no store.
    pub fn measure_ourselves(&self) {
        let metrics = &self.telemetry.metrics;
        let now = self.clock.now();
        metrics.faults.set(count(self.health.faults().len()), []);
        metrics.breakers_open.set(count(self.breakers.resting().len()), []);
        let (unsettled, oldest) = self.hearing.unsettled();
        metrics.unsettled.set(f64::from(unsettled), []);
        metrics.unsettled_age.set(age(oldest, now), []);
        metrics.hearing_age.set(age(Some(self.hearing.known_until(now)), now), []);
        for (id, used) in self.cap.used(now) {
            metrics.cap_used.set(f64::from(used), [&id]);
        }
        for (name, age) in self.beats.ages() {
            metrics.loop_age.set(age.as_secs_f64(), [name]);
        }
        VITAL.into_iter().filter(|name| !self.beats.ages().contains_key(name)).for_each(|name| {
            metrics.loop_age.set(0.0, [name]);
        });
    }

    /// Measures all the rest.
    ///
    /// # Errors
    /// If the store or the bus cannot be read; what was measured before stays.
    pub async fn measure(&self) -> Result<(), StoreError> {
        let metrics = &self.telemetry.metrics;
        let now = self.now();
        let outbox = self.suspect(self.store.outbox(after(now.at, AHEAD), EFFECTS_MAX).await)?;
        metrics.outbox_depth.set(count(outbox.len()), []);
        metrics.outbox_age.set(age(outbox.iter().map(|entry| entry.decided_at).min(), now.at), []);
        let (wake, _) = self.suspect(self.store.next_wake().await)?;
        metrics.sweep_lag.set(age(wake, now.at), []);
        let open = self.suspect(self.store.letters(Letters::Open, None, LETTERS_MAX).await)?;
        metrics.dead_letters_open.set(count(open.len()), []);
        let alerts = self.bus.alerts().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            let on = alerts.iter().filter(|alert| alert.severity == severity).count();
            metrics.alerts_on.set(count(on), [severity.as_str()]);
        }
        for pipeline in self.declarations.pipelines.values() {
            self.measure_dates(&pipeline.graph, now).await?;
        }
        metrics.measured.set(seconds(now.at), []);
        Ok(())
    }

    async fn measure_dates(&self, graph: &Graph, now: Now) -> Result<(), StoreError> {
        let metrics = &self.telemetry.metrics;
        let id = graph.pipeline.as_str();
        let today = graph.date_at(now.at);
        let (mut open, mut runs) = (0, [0_usize; 3]);
        for days in 1 - self.settings.live_days..=DAYS_AHEAD {
            let date = today.saturating_add(SignedDuration::from_hours(24 * i64::from(days)));
            let key = PartitionKey { pipeline: graph.pipeline.clone(), date };
            let stored = match self.store.load(&key).await {
                // Of the other dates something is known.
                Err(StoreError::Corrupt { .. }) => continue,
                answer => self.suspect(answer)?,
            };
            let found = view(graph, &stored.partition, now);
            if stored.version > 0 && !found.complete {
                open += 1;
            }
            for (sum, more) in runs.iter_mut().zip(runs_of(graph, &stored.partition, now.at)) {
                *sum += more;
            }
            if days == 0 {
                for state in State::NAMES {
                    let tasks = found.nodes.iter().filter(|node| node.kind == "task" && node.state == state);
                    metrics.nodes.set(count(tasks.count()), [id, state]);
                }
            }
        }
        metrics.dates_open.set(f64::from(open), [id]);
        for (state, runs) in ["alive", "stale", "dead"].into_iter().zip(runs) {
            metrics.runs.set(count(runs), [id, state]);
        }
        Ok(())
    }

    /// A topic as it may stand in a label.
    pub(super) fn label_of<'t>(&self, topic: &'t str) -> &'t str {
        if self.declarations.topology.topic(topic).is_some() { topic } else { UNDECLARED }
    }

    /// Counts, and shows in its trace, what became of a try to deliver a dispatch that began at `began`.
    pub(super) fn told_of(&self, entry: &OutboxEntry, delivered: &Delivered, began: Timestamp) {
        let (Effect::Dispatch(dispatch) | Effect::Close(dispatch)) = &entry.effect else { return };
        let now = self.clock.now();
        let (outcome, error) = match delivered {
            Delivered::Sent { .. } => ("sent", None),
            Delivered::Deferred { error, .. } => ("deferred", Some(error)),
            Delivered::Parked { reason } if reason.starts_with(super::relay::UNWANTED) => ("unwanted", Some(reason)),
            Delivered::Parked { reason } => ("undeliverable", Some(reason)),
        };
        let metrics = &self.telemetry.metrics;
        metrics.dispatches.add(1, [dispatch.key.pipeline.as_str(), dispatch.node.as_str(), outcome]);
        let context = trace::dispatched(dispatch);
        let attributes = || {
            vec![
                ("tipoff.dispatch", dispatch.id.to_string()),
                ("tipoff.partition", dispatch.key.to_string()),
                ("tipoff.node", dispatch.node.to_string()),
                ("tipoff.cause", dispatch.manifest.cause.as_str().to_owned()),
                ("tipoff.attempt", dispatch.manifest.attempt.attempt.to_string()),
                ("tipoff.tries", (entry.tries + 1).to_string()),
            ]
        };
        use crate::telemetry::span::{Kind, Span};
        match error {
            None => {
                let delay = now.duration_since(dispatch.decided_at).as_secs_f64();
                metrics.dispatch_delay.record(delay.max(0.0), []);
                self.telemetry.spans.record(context, || Span {
                    name: "dispatch",
                    kind: Kind::Sent,
                    context,
                    parent: dispatch.manifest.trace,
                    links: dispatch.manifest.links.clone(),
                    start: dispatch.decided_at,
                    end: now,
                    attributes: attributes(),
                    error: None,
                });
            }
            // The dispatch goes on; this was one try of it.
            Some(error) => {
                let of_try = trace::beside(context, &format!("{}#{}", dispatch.id, entry.tries));
                self.telemetry.spans.record(of_try, || Span {
                    name: "dispatch try",
                    kind: Kind::Internal,
                    context: of_try,
                    parent: Some(context),
                    links: Vec::new(),
                    start: began,
                    end: now,
                    attributes: attributes(),
                    error: Some(error.clone()),
                });
            }
        }
    }
}

/// Runs that are alive, that are stale in their silence, and that are dead.
fn runs_of(graph: &Graph, partition: &Partition, now: Timestamp) -> [usize; 3] {
    let mut found = [0; 3];
    for (id, facts) in &partition.nodes {
        let stale_after = graph.node(id).map(|node| node.liveness.stale_after);
        let is_stale = |last: Timestamp| stale_after.is_some_and(|limit| now >= after(last, limit));
        let stale = facts.runs.values().filter(|run| is_stale(run.last)).count();
        found[0] += facts.runs.len() - stale;
        found[1] += stale;
        found[2] += facts.ended.values().filter(|ended| ended.how == End::Fenced).count();
    }
    found
}

/// How long ago that was, in seconds; 0 where it was not, or is yet to be.
fn age(at: Option<Timestamp>, now: Timestamp) -> f64 {
    at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0))
}

fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

fn count(many: usize) -> f64 {
    u32::try_from(many).map_or(f64::from(u32::MAX), f64::from)
}
