//! Committed effects out: each is tried until it is accepted, and one that fails delays no other.
//!
//! Keeps `published-was-decided` (only what the outbox holds is sent) and `decided-gets-published` (an entry stays
//! until it is accepted). Between acceptance and the note of it a crash repeats a message, with the same id.
//!
//! Effects are delivered side by side, in lanes: a target that hangs fills its own lane and no other. What is told to
//! one partition goes in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::fresh::in_order;
use super::pace::jittered;
use super::step::StepError;
use crate::crash::{self, Place};
use crate::domain::effect::{About, Alert, Dispatch, Effect, Severity, Turn};
use crate::domain::event::{CheckAnswer, Checked, Delivery, Event, Observed, UpstreamSettled, Withheld};
use crate::domain::id::{AlertKey, CheckId, NodeId, PartitionKey};
use crate::domain::shadow::NOT_SENT;
use crate::domain::time::{after, shown};
use crate::pipeline::Pipeline;
use crate::port::{Answer, BusError, Delivered, OutboxEntry, StoreError, Warehouse};
use crate::wire::dispatch::{Target, render};
use crate::wire::trace;

/// Entries looked at in one round.
const PAGE: usize = 256;
/// Deliveries to one target at once.
const LANE_MAX: usize = 16;
/// Deliveries at once over all lanes.
const UNDER_WAY_MAX: usize = 128;
/// How long an effect is ours to deliver: longer than any adapter may take over a publish call. After our death another
/// process waits this long before it takes the effect up.
const CLAIM: SignedDuration = SignedDuration::from_secs(30);
/// The same where a service does the work inside the call: ten minutes are Pub/Sub's longest push, and a margin.
const CLAIM_OF_CALL: SignedDuration = SignedDuration::from_secs(630);
/// The wait after the first refusal; doubles with each further one.
const BACKOFF: SignedDuration = SignedDuration::from_secs(1);
/// The longest wait between two tries.
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(5);
/// After this many refusals a target is reported,
const TRIES_BEFORE_ALERT: u32 = 3;
/// but not before something has waited this long: a service that starts from nothing refuses for some minutes.
const WAIT_BEFORE_ALERT: SignedDuration = SignedDuration::from_mins(5);
/// What we could not bring on its way is left to others that share the store once it is due again, for so many of their
/// looks at the outbox: the way that fails may be ours alone.
const CEDED_LOOKS: i32 = 2;
/// How the reason begins for which a dispatch that had to wait is not sent.
pub(super) const UNWANTED: &str = "not wanted any more";

/// Where effects that must not overtake, or hold up, each other go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Lane {
    Target(String),
    Partition(PartitionKey),
    Warehouse,
    Alert(AlertKey),
    Locks,
}

impl Lane {
    fn room(&self) -> usize {
        match self {
            // Two that are told at once would only refuse each other's commit, or tell an end before its beginning.
            Self::Partition(_) | Self::Alert(_) => 1,
            Self::Target(_) | Self::Warehouse | Self::Locks => LANE_MAX,
        }
    }
}

/// What is being delivered at this moment.
#[derive(Debug, Default)]
pub struct UnderWay {
    ids: BTreeSet<String>,
    lanes: BTreeMap<Lane, usize>,
}

impl UnderWay {
    fn enter(&mut self, id: &str, lane: &Lane) -> bool {
        let busy = self.lanes.entry(lane.clone()).or_default();
        if *busy >= lane.room() || self.ids.len() >= UNDER_WAY_MAX || !self.ids.insert(id.to_owned()) {
            return false;
        }
        *busy += 1;
        true
    }

    fn leave(&mut self, id: &str, lane: &Lane) {
        if self.ids.remove(id)
            && let Some(busy) = self.lanes.get_mut(lane)
        {
            *busy -= 1;
            if *busy == 0 {
                self.lanes.remove(lane);
            }
        }
    }
}

/// Until when what is committed at `now` is claimed with the commit.
pub(super) fn claimed_until(now: Timestamp) -> Timestamp {
    after(now, CLAIM)
}

impl Engine {
    /// Says whether [`Engine::take_up`] is called from now on. While it is, what is committed here is kept for it.
    pub fn relays(&self, relays: bool) {
        self.fresh.open(relays);
    }

    /// One round to its end: tries every effect that is due, the latest dates first, one after the other. Returns how many
    /// were taken up. For the virtual clock, on which nothing takes time.
    ///
    /// # Errors
    /// If the store cannot be read; the next round starts over.
    pub async fn relay(&self) -> Result<usize, StoreError> {
        if self.watch.refusal().is_some() {
            return Ok(0);
        }
        let entries = self.suspect(self.store.outbox(self.clock.now(), PAGE).await)?;
        let count = entries.len();
        for entry in entries {
            self.deliver(&entry).await?;
        }
        Ok(count)
    }

    /// Effects that are due and have room, the latest dates first: each is to be passed to [`Engine::deliver`], and then to
    /// [`Engine::delivered`]. Nobody else delivers them meanwhile.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn take_up(&self, under_way: &mut UnderWay) -> Result<Vec<OutboxEntry>, StoreError> {
        // What is sent and cannot be noted would be sent again and again.
        if self.watch.refusal().is_some() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut read = Vec::new();
        if self.fresh.reads(now, self.settings.relay_every) {
            match self.suspect(self.store.outbox(now, PAGE).await) {
                Ok(others) => read = others,
                Err(error) => {
                    self.fresh.look();
                    return Err(error);
                }
            }
        }
        let mut found = self.fresh.take(&mut read);
        let hints: BTreeSet<String> = found.iter().map(|entry| entry.id.clone()).collect();
        found.extend(read);
        let mut wanted = Vec::new();
        for entry in in_order(found) {
            if self.fresh.is_ceded(&entry.id, now) {
                continue;
            }
            let lane = self.lane(&entry);
            if under_way.enter(&entry.id, &lane) {
                let calls = self.first_target(&entry).is_some_and(|target| matches!(target, Target::Http { .. }));
                wanted.push((entry, after(now, if calls { CLAIM_OF_CALL } else { CLAIM })));
            } else if hints.contains(&entry.id) {
                self.fresh.put_back([entry]);
            } else {
                self.fresh.look();
            }
        }
        let asked: Vec<OutboxEntry> = wanted.iter().map(|(entry, _)| entry.clone()).collect();
        let claimed = match self.suspect(self.store.claim(wanted).await) {
            Ok(claimed) => claimed,
            Err(error) => {
                asked.iter().for_each(|entry| self.delivered(under_way, entry));
                self.fresh.put_back(asked.into_iter().filter(|entry| hints.contains(&entry.id)));
                self.fresh.look();
                return Err(error);
            }
        };
        let ours: BTreeSet<&str> = claimed.iter().map(|entry| entry.id.as_str()).collect();
        for entry in asked.iter().filter(|entry| !ours.contains(entry.id.as_str())) {
            self.delivered(under_way, entry);
        }
        if !claimed.is_empty() {
            crash::at(Place::TakenUp);
        }
        Ok(claimed)
    }

    /// Gives back the room an effect took.
    pub fn delivered(&self, under_way: &mut UnderWay, entry: &OutboxEntry) {
        under_way.leave(&entry.id, &self.lane(entry));
    }

    /// Tries one effect, and records what became of it.
    ///
    /// # Errors
    /// If that cannot be recorded; the effect is then tried again, under the same id.
    pub async fn deliver(&self, entry: &OutboxEntry) -> Result<(), StoreError> {
        let began = self.clock.now();
        let tried = self.try_out(entry).await;
        // It may be our way alone that fails.
        let cedes = self.store.shares() && matches!(tried, Err(Failure::Unreached(_) | Failure::Rests(..)));
        let delivered = self.outcome(entry, tried, began).await;
        let again = match &delivered {
            Delivered::Deferred { until, .. } if cedes => {
                let ours = after(*until, self.settings.relay_every * CEDED_LOOKS);
                self.fresh.cede(&entry.id, ours);
                Some(ours)
            }
            Delivered::Deferred { until, .. } => Some(*until),
            Delivered::Sent { .. } | Delivered::Parked { .. } => None,
        };
        self.told_of(entry, &delivered, began);
        crash::at(Place::BeforeMark);
        let sent = matches!(delivered, Delivered::Sent { .. });
        let (settled, ()) = tokio::join!(self.store.settle(&entry.id, delivered), async {
            if sent {
                self.take_next_ahead(entry).await;
            }
        });
        let settled = self.suspect(settled);
        crash::at(Place::MarkUnanswered);
        if let Some(again) = again {
            self.fresh.look_at(again);
        }
        settled
    }

    /// Has the hour's next dispatch ready for the next decision, so that it need not wait for a commit.
    async fn take_next_ahead(&self, entry: &OutboxEntry) {
        let (Effect::Dispatch(Dispatch { key, node, .. }) | Effect::Close(Dispatch { key, node, .. })) = &entry.effect
        else {
            return;
        };
        let Some(pipeline) = self.pipeline(&key.pipeline).filter(|_| self.sends(&key.pipeline, node)) else { return };
        // A call may have taken until another hour.
        let (most, now) = ((pipeline.dispatches_per_hour, true), self.clock.now());
        if let Err(error) = self.cap.take_ahead(&*self.store, &key.pipeline, most, now).await {
            tracing::debug!(partition = %key, "not taken ahead: {error}");
        }
    }

    fn first_target(&self, entry: &OutboxEntry) -> Option<&Target> {
        let (Effect::Dispatch(dispatch) | Effect::Close(dispatch)) = &entry.effect else { return None };
        self.pipeline(&dispatch.key.pipeline)?.messages(dispatch)?.first().map(|message| &message.target)
    }

    fn lane(&self, entry: &OutboxEntry) -> Lane {
        match &entry.effect {
            Effect::Dispatch(_) | Effect::Close(_) => {
                Lane::Target(self.first_target(entry).map(ToString::to_string).unwrap_or_default())
            }
            Effect::Alert(alert) => Lane::Alert(alert.key.clone()),
            Effect::Observe { .. } | Effect::Check { .. } => Lane::Warehouse,
            Effect::NotifyPartition { to, .. } => {
                Lane::Partition(PartitionKey { pipeline: entry.key.pipeline.clone(), date: *to })
            }
            Effect::ReleaseLock { .. } => Lane::Locks,
        }
    }

    async fn try_out(&self, entry: &OutboxEntry) -> Result<(), Failure> {
        let now = self.clock.now();
        match &entry.effect {
            Effect::Dispatch(dispatch) | Effect::Close(dispatch)
                if !self.sends(&dispatch.key.pipeline, &dispatch.node) =>
            {
                self.withhold(dispatch, now).await
            }
            Effect::Dispatch(dispatch) | Effect::Close(dispatch) => self.send(entry, dispatch).await,
            Effect::Alert(alert) => self.bus.alert(alert).await.map_err(Failure::from),
            Effect::Observe { date, node } => {
                let key = PartitionKey { pipeline: entry.key.pipeline.clone(), date: *date };
                let observed = observed(&*self.warehouse, &key, node, now).await;
                self.tell(&key, Event::Observed(observed)).await
            }
            Effect::Check { node, check } => {
                let checked = self.checked(&entry.key, node, check, now).await;
                self.tell(&entry.key, Event::Checked(checked)).await
            }
            Effect::NotifyPartition { to, node, upstream } => {
                let key = PartitionKey { pipeline: entry.key.pipeline.clone(), date: *to };
                let settled = UpstreamSettled { date: entry.key.date, node: node.clone(), upstream: upstream.clone() };
                self.tell(&key, Event::UpstreamSettled(settled)).await
            }
            // The lock is of a run that others began.
            Effect::ReleaseLock { node, .. } if !self.sends(&entry.key.pipeline, node) => Ok(()),
            Effect::ReleaseLock { node, run } => {
                let released = self.store.release_lock(&entry.key, node, run).await;
                released.map_err(|error| Failure::Later(error.to_string()))
            }
        }
    }

    /// What becomes of an effect that was tried at `now`.
    async fn outcome(&self, entry: &OutboxEntry, tried: Result<(), Failure>, now: Timestamp) -> Delivered {
        match tried {
            Ok(()) => Delivered::Sent { at: now },
            Err(Failure::Later(error) | Failure::Dead(error)) => {
                let wait = self.pace.wait(&entry.id, now).unwrap_or(backoff(entry));
                tracing::warn!(effect = entry.id, tries = entry.tries + 1, "not delivered: {error}");
                Delivered::Deferred { until: after(now, wait), error }
            }
            Err(Failure::Unreached(error)) => {
                tracing::warn!(effect = entry.id, tries = entry.tries + 1, "not delivered: {error}");
                Delivered::Deferred { until: after(now, backoff(entry)), error }
            }
            // It rests for us, and is anybody's to try meanwhile.
            Err(Failure::Rests(until, error)) if self.store.shares() => {
                tracing::info!(effect = entry.id, "waits: {error}");
                Delivered::Deferred { until: until.min(after(now, backoff(entry))), error }
            }
            Err(Failure::Until(until, error) | Failure::Rests(until, error)) => {
                let wait = jittered(until.duration_since(now), &entry.id, entry.tries);
                tracing::info!(effect = entry.id, "waits: {error}");
                Delivered::Deferred { until: after(now, wait), error }
            }
            Err(Failure::Unwanted(reason)) => {
                tracing::info!(effect = entry.id, "{reason}");
                Delivered::Parked { reason }
            }
            Err(Failure::Never(reason)) => {
                if let Err(error) = self.suspect(self.keep_undeliverable(entry, &reason).await) {
                    return Delivered::Deferred { until: after(now, BACKOFF_MAX), error: error.to_string() };
                }
                self.report(entry, "undeliverable", &reason, now).await;
                Delivered::Parked { reason }
            }
        }
    }

    /// What the warehouse says to a check of a node.
    pub(super) async fn checked(&self, key: &PartitionKey, node: &NodeId, check: &CheckId, now: Timestamp) -> Checked {
        let answer = match self.warehouse.check(&key.pipeline, node, check, key.date, now).await {
            Answer::Known { coverage, .. } => CheckAnswer::Share(coverage),
            Answer::NotKept => CheckAnswer::NotKept,
            Answer::Unknown(why) => {
                tracing::warn!(partition = %key, node = %node, check = %check, "not answered: {why}");
                CheckAnswer::Unknown
            }
        };
        Checked { node: node.clone(), check: check.clone(), answer, at: now }
    }

    async fn send(&self, entry: &OutboxEntry, dispatch: &Dispatch) -> Result<(), Failure> {
        let now = self.clock.now();
        let Some(pipeline) = self.pipeline(&dispatch.key.pipeline) else {
            return Err(Failure::Never(format!("there is no pipeline {}", dispatch.key.pipeline)));
        };
        let live = self.is_live(&pipeline.graph, dispatch.key.date, now);
        if !live
            && !self.pace.has_turn(&entry.id)
            && !self.history.take(now, self.settings.history_dispatches_per_minute)
        {
            return Err(Failure::Later("history waits behind the live dates".to_owned()));
        }
        if entry.tries > 0
            && let Some(why) = self.unwanted(dispatch).await?
        {
            return Err(Failure::Unwanted(why));
        }
        self.not_stopped(entry, dispatch, now).await?;
        let messages = render(pipeline, dispatch).map_err(|error| Failure::Never(error.to_string()))?;
        let targets: BTreeSet<&Target> = messages.iter().map(|message| &message.target).collect();
        for target in targets.iter().map(ToString::to_string) {
            if let Err(rest) = self.breakers.ask(&target, &entry.id, now) {
                if rest.dead || is_long(entry, now) {
                    self.target_fails(&target, dispatch, &rest.reason, now).await;
                    self.tell_of_way(dispatch, Some(format!("{target}: {}", rest.reason).into()), now).await;
                }
                let why = format!("{target} rests after it failed: {}", rest.reason);
                // Who is gone is gone for everybody; whom we cannot reach, others may.
                return Err(if rest.dead { Failure::Until(rest.until, why) } else { Failure::Rests(rest.until, why) });
            }
        }
        for target in targets {
            let per_second = pipeline.dispatches_per_second(target);
            if !self.pace.take(&target.to_string(), &entry.id, per_second, now) {
                return Err(Failure::Later(format!("{target} has others first")));
            }
        }
        if let Err(full) = self.within_cap(pipeline, dispatch, live, now).await {
            self.breakers.forgo(&entry.id);
            return Err(full);
        }
        for (nth, message) in messages.iter().enumerate() {
            let target = message.target.to_string();
            if let Err(error) = self.bus.send(message, now).await {
                let failure = Failure::from(error);
                if nth == 0 {
                    self.cap.give_back(&dispatch.key.pipeline, live, now).await;
                }
                match &failure {
                    Failure::Dead(reason) => self.breakers.failed(&target, &entry.id, (reason, true), now),
                    Failure::Unreached(reason) => self.breakers.failed(&target, &entry.id, (reason, false), now),
                    // It answered, and what it refused is ours to mend.
                    Failure::Later(_)
                    | Failure::Rests(..)
                    | Failure::Until(..)
                    | Failure::Unwanted(_)
                    | Failure::Never(_) => self.breakers.worked(&target),
                }
                let reason = match &failure {
                    Failure::Dead(reason) => Some(reason),
                    Failure::Unreached(reason) if is_long(entry, now) => Some(reason),
                    Failure::Unreached(_)
                    | Failure::Later(_)
                    | Failure::Rests(..)
                    | Failure::Until(..)
                    | Failure::Unwanted(_)
                    | Failure::Never(_) => None,
                };
                if let Some(reason) = reason {
                    self.target_fails(&target, dispatch, reason, now).await;
                    // Its words stay with the node, for whoever asks why.
                    let refused = Some(format!("{target}: {reason}").into());
                    self.tell_of_way(dispatch, refused, now).await;
                }
                return Err(failure);
            }
            self.breakers.worked(&target);
            self.target_works(&target, now).await;
        }
        if entry.tries > 0 {
            self.tell_of_way(dispatch, None, now).await;
        }
        self.counts.dispatched.fetch_add(1, Ordering::Relaxed);
        self.cap.sent(&dispatch.key.pipeline, now);
        tracing::info!(
            trace = %trace::dispatched(dispatch),
            partition = %dispatch.key,
            dispatch = %dispatch.id,
            node = %dispatch.node,
            cause = dispatch.manifest.cause.as_str(),
            degraded = dispatch.manifest.degraded,
            "dispatched"
        );
        Ok(())
    }

    /// Asks, while a decision at `now` is committed, what its dispatch is about to be asked: whether operators let the pipeline
    /// send, and for its place in the hour. What cannot be answered is asked again then.
    pub(super) async fn ask_ahead(&self, key: &PartitionKey, now: Timestamp) {
        let Some(pipeline) = self.pipeline(&key.pipeline) else { return };
        let most = (pipeline.dispatches_per_hour, self.is_live(&pipeline.graph, key.date, now));
        let (stopped, taken) =
            tokio::join!(self.ask_stops(), self.cap.take_ahead(&*self.store, &key.pipeline, most, now));
        if let Err(error) = stopped.and(taken) {
            tracing::debug!(partition = %key, "not answered ahead: {error}");
        }
    }

    /// Whether operators let the pipeline send. What they hold back says so where it stands, and people are told.
    async fn not_stopped(&self, entry: &OutboxEntry, dispatch: &Dispatch, now: Timestamp) -> Result<(), Failure> {
        let id = &dispatch.key.pipeline;
        let stopped = self
            .suspect(self.stopped_after(id, entry.decided_at).await)
            .map_err(|error| Failure::Later(error.to_string()))?;
        let key = format!("stopped:{id}");
        let Some(stop) = stopped else {
            self.works(&key, format!("{id} is not held any more"), Severity::Warning, now).await;
            return Ok(());
        };
        let words = |waiting: &str| format!("{stop}; these wait: {waiting}");
        let told = (Severity::Warning, "dates decide on; what waits leaves within a minute of the end of the hold");
        self.fails(&key, dispatch, words, told, now).await;
        self.tell_of_way(dispatch, Some(stop.to_string().into()), now).await;
        Err(Failure::Until(self.look_again(&stop, now), stop.to_string()))
    }

    /// Whether another dispatch may leave this hour. What may not says so where it stands, and people are told once.
    async fn within_cap(
        &self,
        pipeline: &Pipeline,
        dispatch: &Dispatch,
        is_live: bool,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let id = &dispatch.key.pipeline;
        let most = pipeline.dispatches_per_hour;
        let taken = self.cap.take(&*self.store, id, (most, is_live), now).await;
        let key = format!("cap:{id}");
        match self.suspect(taken).map_err(|error| Failure::Later(error.to_string()))? {
            Ok(()) => {
                self.works(&key, "dispatches leave again".to_owned(), Severity::Warning, now).await;
                Ok(())
            }
            Err(until) => {
                let whose = if is_live { "" } else { "half of " };
                let reason = format!("{whose}the {most} dispatches that may leave an hour have left");
                let words = |waiting: &str| format!("{reason}; until {} these wait: {waiting}", shown(until));
                let told = (Severity::Warning, "what waits leaves when the hour is over, live dates first");
                self.fails(&key, dispatch, words, told, now).await;
                self.tell_of_way(dispatch, Some(reason.clone().into()), now).await;
                Err(Failure::Until(until, reason))
            }
        }
    }

    /// Why a dispatch that had to wait is not wanted any more, if it is not: what it asked for has been done, given up, or
    /// asked for anew meanwhile.
    async fn unwanted(&self, dispatch: &Dispatch) -> Result<Option<String>, Failure> {
        let stored = self.store.load(&dispatch.key).await.map_err(|error| Failure::Later(error.to_string()))?;
        let node = stored.partition.node(&dispatch.node);
        if let Some(run) = &dispatch.manifest.closes {
            let gone = !node.runs.contains_key(run);
            return Ok(gone.then(|| format!("{UNWANTED}: {run} of {} has ended", dispatch.node)));
        }
        let wanted = stored.partition.awaits(&dispatch.node, dispatch.manifest.attempt, self.clock.now());
        Ok((!wanted).then(|| format!("{UNWANTED}: {} is {} ({})", dispatch.node, node.state.name(), node.attempt)))
    }

    /// A dispatch that is decided and not sent. Its date knows, so that it waits for nobody whom it has not asked.
    async fn withhold(&self, dispatch: &Dispatch, at: Timestamp) -> Result<(), Failure> {
        if dispatch.manifest.closes.is_none() {
            let told = Withheld { node: dispatch.node.clone(), attempt: dispatch.manifest.attempt, at };
            self.tell(&dispatch.key, Event::Withheld(told)).await?;
        }
        let cause = dispatch.manifest.cause.as_str();
        tracing::info!(dispatch = %dispatch.id, node = %dispatch.node, cause, "{NOT_SENT}");
        Ok(())
    }

    /// Tells the partition what became of handing a dispatch over. If that cannot be stored, the next try tells it again.
    async fn tell_of_way(&self, dispatch: &Dispatch, refused: Option<Arc<str>>, at: Timestamp) {
        if dispatch.manifest.closes.is_some() {
            return;
        }
        let told = Delivery { node: dispatch.node.clone(), attempt: dispatch.manifest.attempt, at, refused };
        if let Err(
            Failure::Later(error)
            | Failure::Until(_, error)
            | Failure::Rests(_, error)
            | Failure::Unreached(error)
            | Failure::Dead(error)
            | Failure::Unwanted(error)
            | Failure::Never(error),
        ) = self.tell(&dispatch.key, Event::Delivery(told)).await
        {
            tracing::warn!(dispatch = %dispatch.id, "not told to its date: {error}");
        }
    }

    async fn tell(&self, key: &PartitionKey, event: Event) -> Result<(), Failure> {
        match self.step(key, &[event]).await {
            Ok(_) => Ok(()),
            Err(StepError::Violated(violation)) => Err(Failure::Never(violation.to_string())),
            Err(error) => Err(Failure::Later(error.to_string())),
        }
    }

    async fn target_fails(&self, target: &str, waiting: &Dispatch, reason: &str, at: Timestamp) {
        let words = |waiting: &str| format!("{target} does not take what is sent: {reason}; waiting: {waiting}");
        let told = (Severity::Critical, "what waits is sent again with growing pauses until it is taken");
        self.fails(&format!("target:{target}"), waiting, words, told, at).await;
    }

    async fn target_works(&self, target: &str, at: Timestamp) {
        self.works(&format!("target:{target}"), format!("{target} takes what is sent"), Severity::Critical, at).await;
    }

    /// One alert for what stands in the way, whatever waits for it; told again only when another date waits.
    async fn fails(
        &self,
        key: &str,
        waiting: &Dispatch,
        words: impl FnOnce(&str) -> String,
        (severity, done): (Severity, &str),
        at: Timestamp,
    ) {
        let told = {
            let mut known = self.targets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            known.entry(key.to_owned()).or_default().get_or_insert_default().add(waiting)
        };
        let Some(waiting) = told else { return };
        let (key, text) = (AlertKey::new(key), words(&waiting.shown));
        let about = About::date(&waiting.newest).done(done);
        self.alert(Alert::new(key, severity, Turn::Raised, text, at).about(about)).await;
    }

    /// The end of that alert. After a start nobody knows whether it is on, so the first success says so as well.
    async fn works(&self, key: &str, text: String, severity: Severity, at: Timestamp) {
        let news = {
            let mut known = self.targets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            known.insert(key.to_owned(), None).is_none_or(|waiting| waiting.is_some())
        };
        if news {
            self.alert(Alert::new(AlertKey::new(key), severity, Turn::Resolved, text, at)).await;
        }
    }

    async fn report(&self, entry: &OutboxEntry, topic: &str, reason: &str, at: Timestamp) {
        let alert = Alert {
            key: AlertKey::new(format!("{topic}:{}", entry.id)),
            severity: Severity::Critical,
            turn: Turn::Raised,
            text: format!("{} could not be delivered: {reason}", entry.id),
            at,
            about: About::date(&entry.key).done("it is kept as it is, and not sent"),
        };
        self.alert(alert).await;
    }
}

/// What the warehouse says of a node's output.
pub(super) async fn observed(warehouse: &dyn Warehouse, key: &PartitionKey, node: &NodeId, now: Timestamp) -> Observed {
    let (coverage, units, not_kept) = match warehouse.coverage(&key.pipeline, node, key.date, now).await {
        Answer::Known { coverage, units } => (Some(coverage), units, false),
        Answer::Unknown(why) => {
            tracing::warn!(partition = %key, node = %node, "coverage unknown: {why}");
            (None, Default::default(), false)
        }
        Answer::NotKept => (None, Default::default(), true),
    };
    Observed { node: node.clone(), coverage, units, not_kept, at: now, actor: None }
}

/// Whether an effect has been refused for so long that people should know.
fn is_long(entry: &OutboxEntry, now: Timestamp) -> bool {
    entry.tries + 1 >= TRIES_BEFORE_ALERT && now >= after(entry.decided_at, WAIT_BEFORE_ALERT)
}

/// The wait after an effect has failed as often as it has.
fn backoff(entry: &OutboxEntry) -> SignedDuration {
    let wait = BACKOFF.saturating_mul(1 << entry.tries.min(16)).min(BACKOFF_MAX);
    jittered(wait, &entry.id, entry.tries)
}

/// Why an effect was not delivered.
enum Failure {
    Later(String),
    /// It did not get there, or no answer came back.
    Unreached(String),
    /// The same of late, so that it was not tried before then.
    Rests(Timestamp, String),
    /// Not before then.
    Until(Timestamp, String),
    Dead(String),
    Unwanted(String),
    Never(String),
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Unavailable(why) => Self::Unreached(why),
            BusError::Dead(why) => Self::Dead(why),
            BusError::Refused(why) => Self::Never(why),
        }
    }
}
