//! Watches the service itself: does its store take what is decided, and does anything still move?
//!
//! A call of the store that fails is a suspicion; a mark that fails as well is a fault. From then on nothing is taken in,
//! swept or sent, until a mark succeeds: what is handed back comes nearer to its dead letter, and what is sent and cannot
//! be noted is sent again. People are told without the store, for it would have to keep what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use super::Engine;
use crate::clock::Clock;
use crate::domain::calendar::Schedule;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::event::Event;
use crate::domain::graph::Graph;
use crate::domain::id::{AlertKey, PartitionKey};
use crate::domain::partition::Partition;
use crate::domain::standstill::{self, Heard, Plane, Verdict};
use crate::domain::time::{Now, SKEW_MAX, after, ahead_of};
use crate::port::StoreError;
use crate::topology::Carries;

/// How often the service looks at itself, and marks in the store that it is at work.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// How often it is looked for what has gone quiet. Of gaps that are hours long, this is soon enough.
const JUDGE_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// A mark older than this, five missed looks, means that nobody is at work, or that nobody can write it down.
pub const ABSENT_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// How often a store that refuses is tried again. Nothing moves meanwhile, so not much longer than a blip.
const TRY_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// The least time between two tries, whatever is suspected.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// Failed tries in a row before people are told: one connection that breaks wakes nobody.
const TRIES_BEFORE_ALERT: u32 = 2;
/// Alerts remembered until they can be kept. More are a flood, whose first ones tell enough.
const OWED_MAX: usize = 256;
/// How long one process has it to itself to tell what has gone quiet. After its death another waits this long.
const LEASE: SignedDuration = SignedDuration::from_mins(15);
/// Days ahead that anything may have happened to: the evening before is part of a date's work.
const DAYS_AHEAD: i32 = 1;
/// Journal entries read at once.
const PAGE: usize = 200;
/// The store among what may be at fault.
const STORE: &str = "store";
/// The alert about it.
const STORE_ALERT: &str = "self:store";
/// The alert about our clock.
const CLOCK_ALERT: &str = "self:clock";

/// What the service knows of itself.
#[derive(Debug)]
pub struct Watch {
    known: Mutex<Known>,
    /// Whether anything can be taken in.
    open: watch::Sender<bool>,
    suspected: Notify,
}

impl Default for Watch {
    fn default() -> Self {
        Self { known: Mutex::default(), open: watch::Sender::new(true), suspected: Notify::new() }
    }
}

#[derive(Debug)]
struct Known {
    store: Standing,
    tried: Timestamp,
    due: Timestamp,
    /// When it was last looked for what has gone quiet.
    judged: Timestamp,
    /// What has been announced and not been kept, in its order.
    owed: Vec<Alert>,
    heard: Heard,
    /// How far each date's journal has been searched for heartbeats.
    searched: BTreeMap<PartitionKey, u64>,
    /// Whether our clock is too far from the store's, as it was told last.
    clock_is_off: Option<bool>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            store: Standing::Untried,
            tried: Timestamp::MIN,
            due: Timestamp::MIN,
            judged: Timestamp::MIN,
            owed: Vec::new(),
            heard: Heard { since: Timestamp::MIN, completion: None, heartbeat: None },
            searched: BTreeMap::new(),
            clock_is_off: None,
        }
    }
}

/// How the store stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    Untried,
    Takes,
    Refuses { reason: String, tries: u32 },
}

impl Watch {
    /// When the service wants to look at itself next.
    pub fn due(&self) -> Timestamp {
        self.known().due
    }

    /// Why nothing is taken in, swept or sent; none where all is.
    pub fn refusal(&self) -> Option<String> {
        match &self.known().store {
            Standing::Refuses { reason, .. } => Some(format!("the store refuses writes: {reason}")),
            Standing::Untried | Standing::Takes => None,
        }
    }

    /// Resolves when anything can be taken in.
    pub async fn opened(&self) {
        // The sender is ours, so it cannot have gone.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Resolves when nothing can be taken in.
    pub async fn closed(&self) {
        let _ = self.open.subscribe().wait_for(|open| !*open).await;
    }

    /// Resolves when something may have become due earlier.
    pub(super) async fn suspected(&self) {
        self.suspected.notified().await;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something new to tell.
    pub(super) fn look_soon(&self, now: Timestamp) {
        self.known().due = now;
        self.suspected.notify_one();
    }

    /// The store has failed somebody: it is to be tried soon.
    fn suspect(&self, now: Timestamp) {
        let mut known = self.known();
        if !matches!(known.store, Standing::Refuses { .. }) {
            known.due = known.due.min(now.max(after(known.tried, TRY_AGAIN)));
            self.suspected.notify_one();
        }
    }

    /// Notes how a try ended. Returns how the store stood before, and how it stands now.
    fn tried(&self, now: Timestamp, refused: Option<String>) -> (Standing, Standing) {
        let mut known = self.known();
        let before = known.store.clone();
        if before == Standing::Untried {
            known.heard.since = now;
        }
        known.store = match (refused, &before) {
            (None, _) => Standing::Takes,
            (Some(reason), Standing::Refuses { tries, .. }) => Standing::Refuses { reason, tries: tries + 1 },
            (Some(reason), Standing::Untried | Standing::Takes) => Standing::Refuses { reason, tries: 1 },
        };
        let takes = known.store == Standing::Takes;
        known.tried = now;
        known.due = after(now, if takes { LOOK_EVERY } else { TRY_EVERY });
        self.open.send_if_modified(|open| std::mem::replace(open, takes) != takes);
        (before, known.store.clone())
    }

    /// A message published then has come in, whatever becomes of it.
    pub(super) fn heard(&self, carries: Carries, published: Timestamp) {
        let heard = &mut self.known().heard;
        match carries {
            Carries::Completion => heard.completion = heard.completion.max(Some(published)),
            Carries::Heartbeat => heard.heartbeat = heard.heartbeat.max(Some(published)),
            Carries::Trigger | Carries::Request | Carries::DeadLetter | Carries::Other => {}
        }
    }

    /// Alerts that are on and cannot be kept.
    pub(super) fn owed(&self) -> Vec<Alert> {
        let mut on: BTreeMap<AlertKey, Alert> = BTreeMap::new();
        for alert in &self.known().owed {
            match alert.turn {
                Turn::Raised => on.insert(alert.key.clone(), alert.clone()),
                Turn::Resolved => on.remove(&alert.key),
            };
        }
        on.into_values().collect()
    }

    /// Remembers an alert that cannot be kept. Returns whether it is news.
    fn owe(&self, alert: &Alert) -> bool {
        let mut known = self.known();
        let last = known.owed.iter().rev().find(|owed| owed.key == alert.key);
        let news = last.is_none_or(|owed| owed.turn != alert.turn || owed.severity < alert.severity);
        if news && known.owed.len() < OWED_MAX {
            known.owed.push(alert.clone());
        }
        news
    }
}

impl Engine {
    /// One look: tries the store, and tells what has changed.
    pub async fn watch(&self) {
        let now = self.clock.now();
        self.beats.moves("watch");
        self.watch_the_notifier(now);
        let marked = self.store.mark(now).await;
        let returned = self.clock.now();
        let (before, found) = self.watch.tried(now, marked.as_ref().err().map(ToString::to_string));
        match found {
            Standing::Refuses { reason, tries } => {
                // What comes to us meanwhile is handed back, or waits at its broker unheard.
                self.hearing.interrupted(now);
                if self.health.fault(STORE, &reason) {
                    tracing::warn!("the store refuses writes, and nothing is taken in: {reason}");
                }
                if tries >= TRIES_BEFORE_ALERT {
                    let text = format!(
                        "the store refuses writes: {reason}; nothing is taken in, decided or sent until it takes them"
                    );
                    self.announce(self.of_store(Turn::Raised, text));
                }
            }
            Standing::Untried | Standing::Takes => {
                if let Standing::Refuses { .. } = before {
                    self.hearing.interrupted(now);
                    self.health.well(STORE);
                }
                self.beats.caught_up("watch");
                self.keep_what_is_owed().await;
                // Whether it was on before our start nobody knows.
                if before != Standing::Takes {
                    self.alert(self.of_store(Turn::Resolved, "the store takes writes".to_owned())).await;
                }
                if let Ok(Some(theirs)) = marked {
                    self.tell_of_clock(ahead_of(theirs, now, returned), theirs).await;
                }
                self.tell_of_backlogs().await;
                if let Err(error) = self.hear_replicas().await {
                    tracing::warn!("who else is at work cannot be told: {error}");
                }
                if let Err(error) = self.look_for_silence().await {
                    tracing::warn!("what has gone quiet cannot be told: {error}");
                }
            }
        }
    }

    /// Tells that our clock is off, or is right again, as of `theirs`, by which it is ordered. Whether another process has told so before our start nobody knows.
    async fn tell_of_clock(&self, ahead: SignedDuration, theirs: Timestamp) {
        // A day that is played has a clock of its own, by which no store goes.
        if !matches!(self.clock, Clock::System) {
            return;
        }
        let is_off = ahead.abs() > SKEW_MAX;
        if self.watch.known().clock_is_off.replace(is_off) == Some(is_off) {
            return;
        }
        let (turn, text) = if is_off {
            let way = if ahead.is_positive() { "ahead of" } else { "behind" };
            let who = self.identity.as_ref().map_or("a replica", |identity| identity.name.as_str());
            let off = ahead.abs().as_secs();
            let text = format!(
                "the clock of {who} is {off} s {way} the store's: what waits for a time comes too early or too late; set it by NTP"
            );
            (Turn::Raised, text)
        } else {
            (Turn::Resolved, "the clock is the store's".to_owned())
        };
        let about = About::default().done("silence is judged by the broker's clock all the same");
        self.alert(Alert::new(AlertKey::new(CLOCK_ALERT), Severity::Critical, turn, text, theirs).about(about)).await;
    }

    /// Tells which planes have gone quiet, or are lively again. Of several processes one does.
    async fn look_for_silence(&self) -> Result<(), StoreError> {
        let now = self.now();
        if now.at < after(self.watch.known().judged, JUDGE_EVERY) {
            return Ok(());
        }
        if !self.suspect(self.store.lease("watch", now.at, after(now.at, LEASE)).await)? {
            return Ok(());
        }
        let mut on: Option<BTreeSet<AlertKey>> = None;
        for pipeline in self.declarations.pipelines.values() {
            let live = self.live_dates(&pipeline.graph, now.at).await?;
            for plane in Plane::ALL {
                let verdict = self.judge(plane, &pipeline.graph, &live, now).await?;
                let (turn, text) = match verdict {
                    Verdict::Silent(text) => (Turn::Raised, text),
                    Verdict::Lively(text) => (Turn::Resolved, text),
                    Verdict::Open => continue,
                };
                let on = match &mut on {
                    Some(on) => on,
                    // Asked for only on days on which there is something to tell.
                    None => on.insert(match self.bus.alerts().await {
                        Ok(alerts) => alerts.into_iter().map(|alert| alert.key).collect(),
                        Err(error) => return Err(StoreError::Unavailable(error.to_string())),
                    }),
                };
                let key = plane.alert(&pipeline.graph.pipeline);
                if on.contains(&key) != (turn == Turn::Raised) {
                    self.alert(Alert::new(key, plane.severity(), turn, text, now.at)).await;
                }
            }
        }
        self.watch.known().judged = now.at;
        Ok(())
    }

    /// The live dates, today first; nothing but today where that has no games, or where nobody knows.
    async fn live_dates(&self, graph: &Graph, at: Timestamp) -> Result<Vec<Partition>, StoreError> {
        let today = graph.date_at(at);
        let day = |days: i32| today.saturating_add(SignedDuration::from_hours(24 * i64::from(days)));
        let others = (1 - self.settings.live_days..=DAYS_AHEAD).filter(|days| *days != 0).map(day);
        let mut live = Vec::new();
        for date in std::iter::once(today).chain(others) {
            match self.store.load(&PartitionKey { pipeline: graph.pipeline.clone(), date }).await {
                Ok(stored) => live.push(Arc::unwrap_or_clone(stored.partition)),
                // Nothing is known of it; of the others there is.
                Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return self.suspect(Err(error)),
            }
            let has_games = |day: &Partition| day.schedule.as_ref().is_some_and(Schedule::has_games);
            if !live.first().is_some_and(has_games) {
                break;
            }
        }
        Ok(live)
    }

    async fn judge(&self, plane: Plane, graph: &Graph, live: &[Partition], now: Now) -> Result<Verdict, StoreError> {
        let heard = || self.watch.known().heard;
        let verdict = standstill::judge(plane, graph, live, heard(), now);
        if plane != Plane::Heartbeats || !matches!(verdict, Verdict::Silent(_)) {
            return Ok(verdict);
        }
        // A date forgets the heartbeats of runs that have ended, and another process may have heard them: the journal
        // knows.
        self.watch
            .known()
            .searched
            .retain(|key, _| key.pipeline != graph.pipeline || live.iter().any(|partition| partition.key == *key));
        for partition in live {
            self.search(&partition.key).await?;
        }
        Ok(standstill::judge(plane, graph, live, heard(), now))
    }

    /// Searches what is new in a date's journal for heartbeats.
    async fn search(&self, key: &PartitionKey) -> Result<(), StoreError> {
        loop {
            let from = self.watch.known().searched.get(key).copied().unwrap_or(0);
            let entries = match self.store.journal(Some(key), from, PAGE).await {
                Ok(entries) => entries,
                Err(StoreError::BadEntry { seq, .. }) => {
                    self.watch.known().searched.insert(key.clone(), seq);
                    continue;
                }
                Err(error) => return self.suspect(Err(error)),
            };
            let Some(last) = entries.last() else { return Ok(()) };
            let mut known = self.watch.known();
            for event in entries.iter().flat_map(|entry| &entry.events) {
                if let Event::Heartbeat(beat) = event {
                    known.heard.heartbeat = known.heard.heartbeat.max(Some(beat.published));
                }
            }
            known.searched.insert(key.clone(), last.seq);
        }
    }

    fn of_store(&self, turn: Turn, text: String) -> Alert {
        let key = AlertKey::new(STORE_ALERT);
        let about = About::default().done("nothing is taken in, so nothing is lost: what comes waits at its broker");
        Alert::new(key, Severity::Critical, turn, text, self.clock.now()).about(about)
    }

    /// Passes on what the store answered. Where it did not answer, it is tried soon.
    pub(super) fn suspect<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let errors = &self.telemetry.metrics.store_errors;
        match &answer {
            Err(StoreError::Unavailable(_)) => {
                errors.add(1, ["unavailable"]);
                self.watch.suspect(self.clock.now());
            }
            Err(StoreError::Corrupt { .. } | StoreError::BadEntry { .. }) => errors.add(1, ["corrupt"]),
            // Somebody else was faster, which is no error of the store.
            Err(StoreError::Conflict(_)) | Ok(_) => {}
        }
        answer
    }

    /// Tells people. What cannot be kept now is announced at once, and kept as soon as it can be.
    pub(super) async fn alert(&self, alert: Alert) {
        if let Err(error) = self.bus.alert(&alert).await {
            tracing::warn!("{} cannot be kept now: {error}", alert.key);
            self.announce(alert);
        }
    }

    fn announce(&self, alert: Alert) {
        if self.watch.owe(&alert) {
            self.bus.announce(&alert);
            self.health.fault(&owed(&alert.key), &format!("not kept yet: {}", alert.text));
        }
    }

    async fn keep_what_is_owed(&self) {
        loop {
            let Some(alert) = self.watch.known().owed.first().cloned() else { return };
            if let Err(error) = self.bus.alert(&alert).await {
                tracing::warn!("{} cannot be kept yet: {error}", alert.key);
                return;
            }
            self.watch.known().owed.remove(0);
            self.health.well(&owed(&alert.key));
        }
    }
}

/// An alert among what is at fault.
fn owed(key: &AlertKey) -> String {
    format!("alert {key}")
}
