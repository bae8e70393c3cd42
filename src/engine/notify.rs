//! Tells people what is on and has not been told. What is told is decided by `domain::notify`; here it is kept and sent.
//!
//! The ledger is kept before a notice is sent and after it, by compare-and-set. A crash between the two sends that one
//! notice again, under the same id. Of several processes one does the telling. Where the store refuses writes, what is
//! known of that is told all the same, by what was last read of the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Engine;
use crate::crash::{self, Place};
use crate::diagnostic::suggestion;
use crate::domain::calendar::has_begun;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::graph::Graph;
use crate::domain::id::{AlertKey, ChannelId, PartitionKey, PipelineId};
use crate::domain::notify::{
    Channel as ChannelState, KEYS_MAX, Ledger, Mute, MuteError, Muted, Notice, Sent, Settings, Sight, TOPICS, Told,
    channel_alert, is_topic,
};
use crate::domain::time::{after, shown};
use crate::domain::words;
use crate::port::{BusError, Channel, StoreError};

/// Among what may be at fault.
const NOTIFIER: &str = "notifier";
/// How long one process has the telling to itself. After its death another waits this long.
const LEASE: SignedDuration = SignedDuration::from_mins(2);
/// How often whoever has not the telling looks whether it is free.
const ASK_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// A notifier that has not looked for so long is at fault.
pub const QUIET_MAX: SignedDuration = SignedDuration::from_mins(5);
/// How long the tip-offs of a date are taken as they were read.
const TIPS_FOR: SignedDuration = SignedDuration::from_mins(5);
/// Notices sent over one channel in one round. What waits longer comes in the next.
const SENDS_MAX: usize = 20;
/// Tries to change the ledger against others who do, as operators that mute.
const CONFLICTS_MAX: usize = 5;

/// The channels, and what is remembered between two rounds.
#[derive(Default)]
pub struct Notifier {
    settings: Settings,
    channels: BTreeMap<ChannelId, Arc<dyn Channel>>,
    memory: Mutex<Memory>,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("channels", &self.channels.keys()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Memory {
    /// When to look next.
    due: Option<Timestamp>,
    /// When it was last looked; first, when it was first asked for.
    looked_at: Option<Timestamp>,
    /// The ledger as it was last read or kept, and its version.
    ledger: Option<(u64, Ledger)>,
    /// Whether it has been changed since, without being kept.
    unkept: bool,
    /// Whether the channels have been tried since the start.
    tried: bool,
    /// When the games begin that have not begun, and when that was read.
    tips: BTreeMap<PartitionKey, (Timestamp, Vec<Timestamp>)>,
}

/// Why nothing could be told, or a mute not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The alerts could not be read.
    #[error("read the alerts: {0}")]
    Alerts(#[from] BusError),
    /// Others were always faster.
    #[error("what people have been told was changed by others {CONFLICTS_MAX} times meanwhile")]
    Contended,
    /// The mute itself.
    #[error(transparent)]
    Mute(#[from] MuteError),
}

impl Notifier {
    /// Tells people over these channels, by these settings.
    pub fn new(settings: Settings, channels: BTreeMap<ChannelId, Arc<dyn Channel>>) -> Self {
        Self { settings, channels, memory: Mutex::default() }
    }

    /// Whether there is anybody to be told.
    pub fn is_silent(&self) -> bool {
        self.channels.is_empty()
    }

    /// When it wants to look next.
    pub fn due(&self) -> Timestamp {
        match self.is_silent() {
            true => Timestamp::MAX,
            false => self.memory().due.unwrap_or(Timestamp::MIN),
        }
    }

    /// Something may have to be told.
    pub fn wake(&self) {
        self.memory().due = None;
    }

    /// The channels.
    pub fn channels(&self) -> &BTreeMap<ChannelId, Arc<dyn Channel>> {
        &self.channels
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self, now: Timestamp, due: Timestamp) {
        let mut memory = self.memory();
        memory.looked_at = Some(now);
        memory.due = Some(due);
    }
}

/// What a mute came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Muting {
    /// The mute.
    #[serde(flatten)]
    pub mute: Mute,
    /// How many of the alerts that are on it covers.
    pub on: usize,
    /// Until when nothing is told: an older mute may last longer.
    #[serde(rename = "muted_until")]
    pub until: Timestamp,
}

/// The alerts that are on, as operators see them.
#[derive(Debug, Serialize)]
pub struct Board {
    /// The worst first.
    pub alerts: Vec<Standing>,
    /// How the channels stand.
    pub channels: BTreeMap<ChannelId, ChannelBoard>,
    /// Mutes that hold.
    pub mutes: Vec<Mute>,
    /// When it was last looked for what people have to be told.
    pub round_at: Option<Timestamp>,
}

/// One alert.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// As it was last told to us.
    #[serde(flatten)]
    pub alert: Alert,
    /// Since when it is on.
    pub since: Timestamp,
    /// How bad people are told that it is.
    pub told_as: Severity,
    /// What people have been told, over which channel.
    pub told: BTreeMap<ChannelId, Told>,
    /// Channels over which it has still to go out.
    pub waiting: BTreeSet<ChannelId>,
    /// Channels that refused to tell of it, and when it is told anew over them.
    pub refused: BTreeMap<ChannelId, Timestamp>,
    /// Why nothing is told of it.
    pub muted: Option<Mute>,
}

/// One channel.
#[derive(Debug, Serialize)]
pub struct ChannelBoard {
    /// Notices that wait for it.
    pub waiting: usize,
    /// What is wrong with it, if anything is.
    pub trouble: Option<String>,
    /// When it last took a notice.
    pub delivered_at: Option<Timestamp>,
}

impl ChannelBoard {
    fn of(channel: &ChannelState) -> Self {
        let failing = channel.failing.as_ref().map(|failing| {
            format!("no notice since {}: {}; tried again at {}", shown(failing.since), failing.why, shown(failing.next))
        });
        let refused = || {
            let refused = channel.refused.as_ref()?;
            Some(format!("refused `{}` at {}: {}", refused.title, shown(refused.at), refused.why))
        };
        Self { waiting: channel.queue.len(), trouble: failing.or_else(refused), delivered_at: channel.delivered_at }
    }
}

impl Engine {
    /// One round: looks at the alerts, and sends what has to be told.
    ///
    /// # Errors
    /// If the ledger or the alerts cannot be read or kept; the next round starts over.
    pub async fn notify(&self) -> Result<(), Error> {
        if self.notifier.is_silent() {
            return Ok(());
        }
        let now = self.clock.now();
        if self.watch.refusal().is_some() {
            self.notify_without_store(now).await;
            return Ok(());
        }
        self.notifier.memory().due = Some(after(now, SignedDuration::from_secs(15)));
        if !self.suspect(self.store.lease("notify", now, after(now, LEASE)).await)? {
            self.notifier.looked(now, after(now, ASK_EVERY));
            return Ok(());
        }
        let on = self.bus.alerts().await?;
        let due = self.plan(&on, now).await?;
        self.send_all(now).await?;
        self.reach(now).await?;
        let news = self.tell_of_channels(&on, now).await;
        let next_try = self.next_try();
        let due = if news { after(now, SignedDuration::from_secs(1)) } else { next_try.map_or(due, |at| at.min(due)) };
        self.notifier.looked(now, due);
        Ok(())
    }

    /// Queues what is to be told, and keeps that. Returns when to look again.
    async fn plan(&self, on: &[Alert], now: Timestamp) -> Result<Timestamp, Error> {
        let tips = self.tips(on, now).await;
        for _ in 0..CONFLICTS_MAX {
            let (version, before) = self.read_ledger().await?;
            let mut ledger = self.take_unkept(version).unwrap_or_else(|| before.clone());
            let ended = self.ended(&ledger, on, now).await?;
            let due = self.look(&mut ledger, on, &ended, &tips, now);
            if ledger == before || self.keep(version, &ledger).await? {
                return Ok(due);
            }
        }
        Err(Error::Contended)
    }

    fn look(
        &self,
        ledger: &mut Ledger,
        on: &[Alert],
        ended: &BTreeMap<AlertKey, Alert>,
        tips: &BTreeMap<PartitionKey, Vec<Timestamp>>,
        now: Timestamp,
    ) -> Timestamp {
        let pipelines = self.declarations.pipelines.iter();
        let graphs: BTreeMap<PipelineId, &Graph> = pipelines.map(|(id, found)| (id.clone(), &*found.graph)).collect();
        ledger.round(&self.notifier.settings, &Sight { on, ended, tips, graphs: &graphs, now })
    }

    /// Sends what is queued and may be tried, and keeps how that went.
    async fn send_all(&self, now: Timestamp) -> Result<(), Error> {
        for _ in 0..SENDS_MAX {
            let waiting = self.notifier.memory().ledger.as_ref().map(|(_, ledger)| ledger.to_send(now));
            let outcomes = self.send_over(waiting.unwrap_or_default()).await;
            if outcomes.is_empty() {
                return Ok(());
            }
            crash::at(Place::ToldUnkept);
            self.change(|ledger| {
                for (channel, id, sent) in &outcomes {
                    ledger.sent(channel, id, sent.clone(), now);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Sends one notice over each channel, side by side, so that one that hangs holds up none of the others.
    async fn send_over(&self, waiting: Vec<(ChannelId, Notice)>) -> Vec<(ChannelId, String, Sent)> {
        let mut sending = JoinSet::new();
        for (id, notice) in waiting {
            if let Some(channel) = self.notifier.channels.get(&id).map(Arc::clone) {
                let metrics = Arc::clone(&self.telemetry.metrics);
                sending.spawn(async move {
                    let sent = channel.send(&notice).await;
                    let outcome = if sent == Sent::Taken { "sent" } else { "failed" };
                    metrics.notices.add(1, [id.as_str(), outcome]);
                    if let Sent::Later { why, .. } | Sent::Dead(why) | Sent::Refused(why) = &sent {
                        tracing::warn!(channel = id.as_str(), notice = notice.id, "not told, {why}: {}", notice.title);
                    }
                    (id, notice.id, sent)
                });
            }
        }
        let mut outcomes = sending.join_all().await;
        outcomes.sort_by(|one, other| one.0.cmp(&other.0));
        outcomes
    }

    /// Tries the channels of which it is not known whether they work: all, after a start, and those that failed and have
    /// nothing to send.
    async fn reach(&self, now: Timestamp) -> Result<(), Error> {
        let first = !std::mem::replace(&mut self.notifier.memory().tried, true);
        let failed = self.notifier.memory().ledger.as_ref().map(|(_, ledger)| ledger.to_reach(now)).unwrap_or_default();
        let mut trying = JoinSet::new();
        for (id, channel) in self.notifier.channels.iter().filter(|(id, _)| first || failed.contains(id)) {
            let (id, channel) = (id.clone(), Arc::clone(channel));
            trying.spawn(async move { (id, channel.reach().await) });
        }
        let mut reached = trying.join_all().await;
        reached.sort_by(|one, other| one.0.cmp(&other.0));
        for (id, outcome) in &reached {
            if let Err(why) = outcome {
                tracing::error!(channel = id.as_str(), "nobody can be told over it: {why}");
            }
        }
        // What works and worked is not worth a note.
        reached.retain(|(id, outcome)| outcome.is_err() || failed.contains(id));
        if reached.is_empty() {
            return Ok(());
        }
        self.change(|ledger| reached.iter().for_each(|(id, how)| ledger.reached(id, how.clone(), now))).await
    }

    /// Tells what can be known of the store while it refuses writes. Each process does so for itself.
    async fn notify_without_store(&self, now: Timestamp) {
        let known = self.notifier.memory().ledger.clone();
        // One that is only not written to can still be read.
        let (version, mut ledger) = match known {
            Some(known) => known,
            None => self.store.kept::<Ledger>().await.unwrap_or_default(),
        };
        let owed = self.watch.owed();
        let due = self.look(&mut ledger, &owed, &BTreeMap::new(), &BTreeMap::new(), now);
        for _ in 0..SENDS_MAX {
            let outcomes = self.send_over(ledger.to_send(now)).await;
            if outcomes.is_empty() {
                break;
            }
            for (channel, id, sent) in outcomes {
                ledger.sent(&channel, &id, sent, now);
            }
        }
        {
            let mut memory = self.notifier.memory();
            memory.ledger = Some((version, ledger));
            memory.unkept = true;
        }
        self.notifier.looked(now, self.next_try().map_or(due, |at| at.min(due)));
    }

    /// What was told while nothing could be kept, if nobody else has told anything meanwhile.
    fn take_unkept(&self, version: u64) -> Option<Ledger> {
        let mut memory = self.notifier.memory();
        let unkept = std::mem::take(&mut memory.unkept);
        let known = memory.ledger.as_ref().filter(|(known, _)| unkept && *known == version);
        known.map(|(_, ledger)| ledger.clone())
    }

    /// When a channel that failed is tried next.
    fn next_try(&self) -> Option<Timestamp> {
        let memory = self.notifier.memory();
        let (_, ledger) = memory.ledger.as_ref()?;
        ledger.channels.values().filter_map(ChannelState::next_try).min()
    }

    /// An alert for each channel that fails, and its end. Returns whether that was news.
    async fn tell_of_channels(&self, on: &[Alert], now: Timestamp) -> bool {
        let Some((_, ledger)) = self.notifier.memory().ledger.clone() else { return false };
        let mut news = false;
        for channel in self.notifier.channels.keys() {
            let key = channel_alert(channel);
            let is_on = on.iter().any(|alert| alert.key == key);
            let (turn, text) = match ledger.trouble(channel, now) {
                Some(trouble) if !is_on => (Turn::Raised, trouble),
                None if is_on && !ledger.troubled(channel) => (Turn::Resolved, format!("{channel} takes notices")),
                Some(_) | None => continue,
            };
            news = true;
            let about = About::default().done("what waits is kept, and sent as one notice when it works again");
            self.alert(Alert::new(key, Severity::Critical, turn, text, now).about(about)).await;
        }
        news
    }

    /// How those ended that were told and are not on any more. One that is kept no longer ended long ago.
    async fn ended(&self, ledger: &Ledger, on: &[Alert], now: Timestamp) -> Result<BTreeMap<AlertKey, Alert>, Error> {
        let on: BTreeSet<&AlertKey> = on.iter().take(KEYS_MAX).map(|alert| &alert.key).collect();
        let mut ended = BTreeMap::new();
        for (key, known) in ledger.alerts.iter().filter(|(key, known)| !on.contains(key) && known.over_since.is_none())
        {
            let gone = || Alert::new(key.clone(), known.severity, Turn::Resolved, known.text.clone(), now);
            let last = self.bus.alert_of(key).await?.unwrap_or_else(gone);
            if last.turn == Turn::Resolved {
                ended.insert(key.clone(), last);
            }
        }
        Ok(ended)
    }

    /// When the games begin that have not begun, of the dates about which there is a warning.
    async fn tips(&self, on: &[Alert], now: Timestamp) -> BTreeMap<PartitionKey, Vec<Timestamp>> {
        let warned = on.iter().filter(|alert| alert.severity == Severity::Warning);
        let dates: BTreeSet<&PartitionKey> = warned.filter_map(|alert| alert.about.partition.as_ref()).collect();
        let mut found = BTreeMap::new();
        for key in dates {
            let live = self.graph(&key.pipeline).is_some_and(|graph| self.is_live(graph, key.date, now));
            let known = self.notifier.memory().tips.get(key).cloned();
            let known = known.filter(|(read_at, _)| now < after(*read_at, TIPS_FOR));
            let tips = match known {
                Some((_, tips)) => tips,
                None if !live => continue,
                None => match self.store.load(key).await {
                    Ok(stored) => {
                        let games = stored.partition.games();
                        let ahead = games.values().filter(|game| !has_begun(game, now));
                        let tips: Vec<Timestamp> = ahead.filter_map(|game| game.tip).collect();
                        self.notifier.memory().tips.insert(key.clone(), (now, tips.clone()));
                        tips
                    }
                    // Without its games nothing is told as worse than it is.
                    Err(_) => continue,
                },
            };
            found.insert(key.clone(), tips);
        }
        self.notifier.memory().tips.retain(|_, (read_at, _)| now < after(*read_at, TIPS_FOR));
        found
    }

    async fn read_ledger(&self) -> Result<(u64, Ledger), Error> {
        let (version, ledger) = self.suspect(self.store.kept::<Ledger>().await)?;
        let mut memory = self.notifier.memory();
        if !memory.unkept {
            memory.ledger = Some((version, ledger.clone()));
        }
        Ok((version, ledger))
    }

    async fn keep(&self, version: u64, ledger: &Ledger) -> Result<bool, Error> {
        let kept = self.suspect(self.store.keep(version, ledger).await)?;
        if kept {
            self.notifier.memory().ledger = Some((version + 1, ledger.clone()));
        }
        Ok(kept)
    }

    /// Changes the ledger, whoever else does.
    async fn change<T>(&self, mut change: impl FnMut(&mut Ledger) -> T) -> Result<T, Error> {
        for _ in 0..CONFLICTS_MAX {
            let (version, mut ledger) = self.read_ledger().await?;
            let answer = change(&mut ledger);
            if self.keep(version, &ledger).await? {
                return Ok(answer);
            }
        }
        Err(Error::Contended)
    }

    /// Mutes something. Says what of it is on, and until when nothing is told of it, which an older mute may decide.
    ///
    /// # Errors
    /// If the mute is not a sound one, no alert could be of that topic, or it cannot be kept.
    pub async fn mute(&self, mute: &Mute) -> Result<Muting, Error> {
        words::subject(mute.what.as_str()).map_err(MuteError::from)?;
        self.is_topic(&mute.what)?;
        let on = self.bus.alerts().await?.iter().filter(|alert| mute.what.covers(&alert.key)).count();
        let held = self.change(|ledger| {
            ledger.mute(mute.clone())?;
            Ok::<_, MuteError>(ledger.holding(&mute.what, mute.from).map_or(mute.until, |held| held.until))
        });
        let until = held.await??;
        tracing::info!(actor = mute.actor, reason = mute.reason, until = %mute.until, "{} is muted", mute.what);
        self.notifier.wake();
        Ok(Muting { mute: mute.clone(), on, until })
    }

    fn is_topic(&self, what: &Muted) -> Result<(), MuteError> {
        let topic = what.topic();
        let classes = || self.declarations.failure_classes();
        if is_topic(topic, classes()) {
            return Ok(());
        }
        let hint = match what {
            Muted::Topic(key) if key.contains(':') => {
                "; that is a key, and its topic is what stands before the colon".to_owned()
            }
            Muted::Topic(_) | Muted::Key(_) => {
                suggestion(topic, TOPICS.iter().map(|(known, ..)| *known).chain(classes()))
            }
        };
        Err(MuteError::NoTopic(topic.to_owned(), hint))
    }

    /// Ends every mute of exactly this. Returns how many there were.
    ///
    /// # Errors
    /// If who asks has no name, nothing can have that key or topic, or it cannot be kept.
    pub async fn unmute(&self, what: &Muted, actor: &str) -> Result<usize, Error> {
        let actor = &*words::actor(actor).map_err(MuteError::from)?;
        words::subject(what.as_str()).map_err(MuteError::from)?;
        let now = self.clock.now();
        let ended = self.change(|ledger| ledger.unmute(what, actor, now)).await?;
        tracing::info!(actor, ended, "{what} is not muted any more");
        self.notifier.wake();
        Ok(ended)
    }

    /// What is on, what people were told of it, and how the channels stand.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn board(&self) -> Result<Board, Error> {
        let now = self.clock.now();
        let (_, ledger) = self.store.kept::<Ledger>().await?;
        let alerts = self.bus.alerts().await?;
        let standing = |alert: Alert| {
            let known = ledger.alerts.get(&alert.key);
            let is_told_in = |id: &ChannelId, notice: &Notice| {
                let told = known.and_then(|known| known.told.get(id));
                told.is_some_and(|told| told.notice == notice.id)
                    || notice.items.iter().any(|item| item.key == alert.key)
            };
            let waiting =
                ledger.channels.iter().filter(|(id, channel)| channel.queue.iter().any(|waits| is_told_in(id, waits)));
            Standing {
                since: known.map_or(alert.at, |known| known.since),
                told_as: known.map_or(alert.severity, |known| known.told_as().max(alert.severity)),
                told: known.map(|known| known.told.clone()).unwrap_or_default(),
                refused: known.map(|known| known.refused.clone()).unwrap_or_default(),
                waiting: waiting.map(|(id, _)| id.clone()).collect(),
                muted: ledger.muted(&alert.key, now).cloned(),
                alert,
            }
        };
        Ok(Board {
            alerts: alerts.into_iter().map(standing).collect(),
            channels: ledger.channels.iter().map(|(id, channel)| (id.clone(), ChannelBoard::of(channel))).collect(),
            mutes: ledger.mutes.iter().filter(|mute| mute.holds(now)).cloned().collect(),
            round_at: ledger.round_at,
        })
    }

    /// A notifier that has not looked for long is at fault: nobody would be told.
    pub(super) fn watch_the_notifier(&self, now: Timestamp) {
        if self.notifier.is_silent() {
            return;
        }
        let looked_at = *self.notifier.memory().looked_at.get_or_insert(now);
        if now >= after(looked_at, QUIET_MAX) {
            let reason = format!("it was last looked for what people have to be told at {}", shown(looked_at));
            if self.health.fault(NOTIFIER, &reason) {
                tracing::error!("nobody is told of alerts: {reason}");
            }
        } else {
            self.health.well(NOTIFIER);
        }
    }
}
