//! Who is told what of the alerts that are on, and when: one notice per key until it is over, whatever arrives.
//!
//! An alert is a state; a notice is a message to people. [`Ledger::round`] compares the alerts with what has been told of
//! them over each channel and queues what is missing. It is a function of the ledger, the alerts and the instant, so a
//! restart tells nothing twice. The words are those of Prometheus' Alertmanager where it has one: `group_wait`,
//! `group_interval`, `repeat_interval`, routes; a silence is called a mute here.
//!
//! - A notice is about one date, or about the service. It waits until nothing new has come for `group_wait`, at most
//!   `group_interval`; one with something critical waits `group_wait` and no longer.
//! - What hangs downstream of a node that alerts as well is folded into that node's line.
//! - An end is told once it has lasted for `group_interval`, and only of what was told.
//! - Over more than `digest_above` notices an hour, what is not critical comes as one digest each `digest_every`.

mod compose;
mod round;
mod topics;

use std::collections::{BTreeMap, VecDeque};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::effect::{About, Severity};
use super::id::{AlertKey, ChannelId, NodeId, PartitionKey, PipelineId};
use super::time::{after, shown};
use super::words;

pub use round::Sight;
pub use topics::{TOPICS, Whose, is_topic};

/// Alerts looked at in one round, the worst first. More are a flood, which a thousand show well enough.
pub const KEYS_MAX: usize = 1_000;
/// Alerts that one notice shows. The others are counted, and `tipoff alerts` lists them.
pub const ITEMS_MAX: usize = 20;
/// Nodes that one line names as downstream; the others are counted.
pub const DOWNSTREAM_MAX: usize = 10;
/// Notices that wait for one channel. More become one, as they do while it cannot be reached.
pub const QUEUE_MAX: usize = 20;
/// The longest mute: what is known to be broken for more than a week is to be mended or taken out of pipeline.yaml.
pub const MUTE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Mutes that hold at once.
pub const MUTES_MAX: usize = 200;
/// Mutes kept that are over, the latest; none for longer than a week.
pub const MUTES_OVER_MAX: usize = 50;
/// The wait after the first failure of a channel; doubles with each further one,
const BACKOFF: SignedDuration = SignedDuration::from_secs(15);
/// up to this.
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(5);
/// The longest that a channel's own word on when to come again is heeded.
const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_mins(15);
/// A channel that has failed for so long is itself an alert. Two tries may fall into one restart of its server.
const FAILING_MAX: SignedDuration = SignedDuration::from_mins(2);
/// What a channel refused is told anew after this, over that channel.
const RETELL_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// A notice for which a channel has been dead so many times in a row, about an hour, is tried in its short form: the answer
/// may be about its words after all.
const SHORT_AFTER: u32 = 12;
/// Over what notices are counted.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Begins the key of the alert about a channel.
const CHANNEL_ALERT: &str = "self:channel:";

/// The alert about a channel that fails.
pub fn channel_alert(channel: &ChannelId) -> AlertKey {
    AlertKey::new(format!("{CHANNEL_ALERT}{channel}"))
}

/// Which channels there are for what, and how often they are used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Who is told what. An alert goes over the channels of every route that takes it.
    pub routes: Vec<Route>,
    /// How long a notice waits for company.
    pub group_wait: SignedDuration,
    /// The longest that it waits, the least time between two notices about one date, and how long an end has to last.
    pub group_interval: SignedDuration,
    /// What is still on is told again after this long, unless it is only worth knowing.
    pub repeat_interval: SignedDuration,
    /// With so many notices within an hour, a channel goes over to digests.
    pub digest_above: usize,
    /// How far apart digests are.
    pub digest_every: SignedDuration,
    /// A warning about a date is told as critical so long before any of its games begins; never where it is zero.
    pub escalate_before_tip: SignedDuration,
    /// The channel to which a sign of life goes, and how often.
    pub heartbeat: Option<(ChannelId, SignedDuration)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            group_wait: SignedDuration::from_secs(30),
            group_interval: SignedDuration::from_mins(5),
            repeat_interval: SignedDuration::from_hours(6),
            digest_above: 20,
            digest_every: SignedDuration::from_mins(15),
            escalate_before_tip: SignedDuration::from_hours(2),
            heartbeat: None,
        }
    }
}

/// Which alerts go over which channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The channels.
    pub channels: Vec<ChannelId>,
    /// Only what is at least so bad.
    pub severity_min: Severity,
    /// Only these topics; all where there are none.
    pub topics: Vec<String>,
    /// Only this pipeline, and not what belongs to none.
    pub pipeline: Option<PipelineId>,
}

impl Route {
    fn takes(&self, key: &AlertKey, about: &About, severity: Severity) -> bool {
        let topic = key.topic();
        let of_pipeline = |wanted: &PipelineId| about.partition.as_ref().is_some_and(|found| found.pipeline == *wanted);
        severity >= self.severity_min
            && (self.topics.is_empty() || self.topics.iter().any(|wanted| wanted == topic))
            && self.pipeline.as_ref().is_none_or(of_pipeline)
    }
}

impl Settings {
    /// Every channel that a route names.
    pub fn channels(&self) -> std::collections::BTreeSet<&ChannelId> {
        self.routes.iter().flat_map(|route| &route.channels).collect()
    }

    /// The topics of which an alert as bad as `severity` goes over no channel: where it is about a date of one of
    /// `pipelines`, or about the service.
    pub fn unheard<'a>(
        &self,
        severity: Severity,
        pipelines: impl Iterator<Item = &'a PipelineId> + Clone,
    ) -> Vec<&'static str> {
        let is_heard = |topic: &str, about: &About| {
            let key = AlertKey::from(topic);
            self.routes.iter().any(|route| route.takes(&key, about, severity))
        };
        let of = |pipeline: &PipelineId| About::date(&PartitionKey::new(pipeline.clone(), Date::MIN));
        let unheard = TOPICS.iter().filter(|(topic, whose, _)| match whose {
            Whose::Date => pipelines.clone().any(|pipeline| !is_heard(topic, &of(pipeline))),
            Whose::Service => !is_heard(topic, &About::default()),
        });
        unheard.map(|(topic, ..)| *topic).collect()
    }

    /// Whether an alert goes over `channel`. That a channel fails is told over all the others.
    fn is_for(&self, channel: &ChannelId, key: &AlertKey, about: &About, severity: Severity) -> bool {
        match key.as_str().strip_prefix(CHANNEL_ALERT) {
            Some(failing) => failing != channel.as_str(),
            None => {
                self.routes.iter().any(|route| route.channels.contains(channel) && route.takes(key, about, severity))
            }
        }
    }
}

/// What has been told, what waits to be, and what is not to be: one durable record of the whole service.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Alerts that are on, and those that have ended and whose end is still to be told.
    pub alerts: BTreeMap<AlertKey, Known>,
    /// Every channel that has been used.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Mutes, those included that are over; the latest last.
    pub mutes: Vec<Mute>,
    /// Notices made so far; the next one's number.
    pub made: u64,
    /// When a round last looked at the alerts, to a minute or two.
    pub round_at: Option<Timestamp>,
}

/// What is known of one alert.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Known {
    /// When a round first saw it.
    pub since: Timestamp,
    /// How bad it is.
    pub severity: Severity,
    /// When it became as bad as it is told: as it began, as it became worse, or as a tip-off came near.
    pub as_bad_since: Timestamp,
    /// The tip-off because of which it is told as critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated: Option<Timestamp>,
    /// What it says.
    pub text: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
    /// Since when it is over, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_since: Option<Timestamp>,
    /// What has been told of it, over which channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<ChannelId, Told>,
    /// The channels that refused to tell of it, and when it is told anew over them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<ChannelId, Timestamp>,
}

impl Known {
    /// How bad it is told to be.
    pub fn told_as(&self) -> Severity {
        if self.escalated.is_some() { Severity::Critical } else { self.severity }
    }
}

/// What was last told of an alert over a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// How bad.
    pub severity: Severity,
    /// How bad it was by itself, without a tip-off that was near.
    pub by_itself: Severity,
    /// When: as the notice was made, and once a channel has taken it, as it was taken.
    pub at: Timestamp,
    /// In which notice.
    pub notice: String,
    /// What had been told before, while it is not known whether the notice is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Told>>,
}

impl Told {
    /// Notices have become one of another name.
    fn renamed(&mut self, from: &[String], to: &str) {
        if from.contains(&self.notice) {
            to.clone_into(&mut self.notice);
        }
        if let Some(before) = &mut self.before {
            before.renamed(from, to);
        }
        while let Some(before) = self.before.take_if(|before| before.notice == self.notice) {
            self.before = before.before;
        }
    }

    /// A notice has been taken. Whether it was this one.
    fn taken(&mut self, notice: &str, now: Timestamp) -> bool {
        if self.notice == notice {
            (self.at, self.before) = (now, None);
            return true;
        }
        self.before.as_mut().is_some_and(|before| before.taken(notice, now))
    }

    /// What has been told, if a notice was not; and whether that makes a difference.
    fn without(mut self, notice: &str) -> (Option<Self>, bool) {
        let (before, differs) = match self.before.take() {
            Some(before) => before.without(notice),
            None => (None, false),
        };
        if self.notice == notice {
            return (before, true);
        }
        self.before = before.map(Box::new);
        (Some(self), differs)
    }
}

/// How a channel stands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// What waits to be sent, in its order.
    pub queue: VecDeque<Notice>,
    /// Since when it cannot be reached, if it cannot.
    pub failing: Option<Failing>,
    /// When it last took a notice.
    pub delivered_at: Option<Timestamp>,
    /// The last notice that it would not take, until it takes one.
    pub refused: Option<Refused>,
    /// When notices were made for it within the last hour.
    pub made: Vec<Timestamp>,
    /// When its last digest was made.
    pub digest_at: Option<Timestamp>,
    /// When a notice was last made about each date, within `group_interval`.
    pub groups: BTreeMap<String, Timestamp>,
    /// When a sign of life was last made for it.
    pub beat_at: Option<Timestamp>,
}

/// A channel that cannot be reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failing {
    /// Since when.
    pub since: Timestamp,
    /// What it last said.
    pub why: String,
    /// Whether somebody has to mend it.
    pub dead: bool,
    /// Tries that failed in a row.
    pub tries: u32,
    /// When it is tried next.
    pub next: Timestamp,
}

/// A notice that a channel would not take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Which: its title.
    pub title: String,
    /// Why.
    pub why: String,
}

/// What of the alerts is not told for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mute {
    /// What is muted.
    pub what: Muted,
    /// From when.
    pub from: Timestamp,
    /// Until when; moved forward to when somebody ended it.
    pub until: Timestamp,
    /// Who wants it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Who ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

/// What is muted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Muted {
    /// One alert.
    Key(AlertKey),
    /// Every alert of a topic.
    Topic(String),
}

impl Muted {
    /// The key or the topic.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(key) => key.as_str(),
            Self::Topic(topic) => topic,
        }
    }

    /// The topic meant, or that of the key.
    pub fn topic(&self) -> &str {
        match self {
            Self::Key(key) => key.topic(),
            Self::Topic(topic) => topic,
        }
    }

    /// Whether `key` is meant.
    pub fn covers(&self, key: &AlertKey) -> bool {
        match self {
            Self::Key(muted) => muted == key,
            Self::Topic(topic) => topic == key.topic(),
        }
    }
}

impl std::fmt::Display for Muted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key}"),
            Self::Topic(topic) => write!(f, "{topic}:…"),
        }
    }
}

/// Why a mute is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MuteError {
    /// It would be over at once.
    #[error("it would end at {}, which has passed", shown(*.0))]
    Past(Timestamp),
    /// It is longer than any may be.
    #[error("a mute lasts {} days at most", MUTE_MAX.as_hours() / 24)]
    TooLong,
    /// What was written beside it.
    #[error(transparent)]
    Words(#[from] words::Error),
    /// No alert is of that topic, with what may have been meant.
    #[error("there is no alert topic `{0}`{1}")]
    NoTopic(String, String),
    /// So many are under way that nobody could know them all.
    #[error("{MUTES_MAX} mutes are under way; end some with `tipoff unmute`")]
    TooMany,
}

impl Mute {
    /// Whether it holds at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// A message to people. `id` is the same however often it is sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// Its name: the same one again is a repetition.
    pub id: String,
    /// When it was made.
    pub at: Timestamp,
    /// What it is.
    pub kind: NoticeKind,
    /// How bad the worst of it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The alerts, the worst first; at most [`ITEMS_MAX`].
    pub items: Vec<Item>,
    /// Alerts that are not shown.
    #[serde(default)]
    pub left_out: usize,
}

/// What a notice is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// What has begun, ended, or become worse.
    Alerts,
    /// The same, of a quarter of an hour in which there was much.
    Digest,
    /// What could not be told while the channel could not be reached.
    Waited,
    /// What was refused as it was: how many alerts, and the worst of them.
    Short,
    /// Somebody tries the channel.
    Test,
    /// A sign of life: nothing is wrong with the way out.
    Heartbeat,
}

/// One alert in a notice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Its key.
    pub key: AlertKey,
    /// What is told of it.
    pub news: News,
    /// How bad it is told to be.
    pub severity: Severity,
    /// Whose date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionKey>,
    /// Which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// One sentence with the figures.
    pub text: String,
    /// What has been done about it, as a clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Why it is told as worse than it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated: Option<String>,
    /// Since when it is on.
    pub since: Timestamp,
    /// Since when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_since: Option<Timestamp>,
    /// Alerts of nodes downstream that are folded into this one.
    #[serde(default)]
    pub downstream: usize,
    /// Some of them, as `topic:node`, each with what it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected: Vec<String>,
    /// Commands that show more.
    pub look: Vec<String>,
    /// Commands that do something about it.
    pub act: Vec<String>,
}

/// What is told of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It is on.
    On,
    /// It has become worse, or a tip-off has come near.
    Worse,
    /// It is still on.
    Still,
    /// It was muted, and is on.
    Unmuted,
    /// It is over.
    Over,
}

impl News {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Worse => "worse",
            Self::Still => "still on",
            Self::Unmuted => "on, no longer muted",
            Self::Over => "over",
        }
    }
}

/// How an attempt to send a notice ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The channel has taken it.
    Taken,
    /// Not now; the channel may say when.
    Later {
        /// Not before this long.
        wait: Option<SignedDuration>,
        /// What went wrong.
        why: String,
    },
    /// Not until somebody mends the channel. The notice is still wanted.
    Dead(String),
    /// Never, as it is: the answer is about the notice, and not about us.
    Refused(String),
}

impl Ledger {
    /// The mute that holds for `key`, the one that lasts longest.
    pub fn muted(&self, key: &AlertKey, now: Timestamp) -> Option<&Mute> {
        self.mutes.iter().filter(|mute| mute.holds(now) && mute.what.covers(key)).max_by_key(|mute| mute.until)
    }

    /// The mute that holds for all that `what` means, the one that lasts longest.
    pub fn holding(&self, what: &Muted, now: Timestamp) -> Option<&Mute> {
        let covers = |mute: &&Mute| match what {
            Muted::Key(key) => mute.what.covers(key),
            Muted::Topic(_) => mute.what == *what,
        };
        self.mutes.iter().filter(|mute| mute.holds(now)).filter(covers).max_by_key(|mute| mute.until)
    }

    /// Mutes something.
    ///
    /// # Errors
    /// If it has no time, or too much of it, or what is written beside it is out of bounds.
    pub fn mute(&mut self, mute: Mute) -> Result<(), MuteError> {
        if mute.until <= mute.from {
            return Err(MuteError::Past(mute.until));
        }
        if mute.until > after(mute.from, MUTE_MAX) {
            return Err(MuteError::TooLong);
        }
        words::subject(mute.what.as_str())?;
        let (actor, reason) = (words::actor(&mute.actor)?, words::reason(&mute.reason)?);
        self.forget_mutes(mute.from);
        if self.mutes.iter().filter(|kept| kept.until > mute.from).count() >= MUTES_MAX {
            return Err(MuteError::TooMany);
        }
        self.mutes.push(Mute { actor, reason, ..mute });
        Ok(())
    }

    /// Lets go of mutes that have been over for long, or are many.
    fn forget_mutes(&mut self, now: Timestamp) {
        self.mutes.retain(|mute| now < after(mute.until, MUTE_MAX));
        let over = self.mutes.iter().filter(|mute| mute.until <= now).count();
        let mut surplus = over.saturating_sub(MUTES_OVER_MAX);
        self.mutes.retain(|mute| {
            let goes = mute.until <= now && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Ends every mute of exactly this. Returns how many there were.
    pub fn unmute(&mut self, what: &Muted, actor: &str, now: Timestamp) -> usize {
        let held = self.mutes.iter_mut().filter(|mute| mute.holds(now) && mute.what == *what);
        held.map(|mute| {
            mute.until = now;
            mute.ended_by = Some(actor.to_owned());
        })
        .count()
    }

    /// The notices that may be sent now, one for each channel.
    pub fn to_send(&self, now: Timestamp) -> Vec<(ChannelId, Notice)> {
        let open = |channel: &Channel| channel.failing.as_ref().is_none_or(|failing| failing.next <= now);
        let channels = self.channels.iter().filter(|(_, channel)| open(channel));
        channels.filter_map(|(id, channel)| Some((id.clone(), channel.queue.front()?.clone()))).collect()
    }

    /// The channels that failed, have nothing to send, and may be tried again.
    pub fn to_reach(&self, now: Timestamp) -> Vec<ChannelId> {
        let idle = |channel: &Channel| {
            channel.queue.is_empty() && channel.failing.as_ref().is_some_and(|failing| failing.next <= now)
        };
        self.channels.iter().filter(|(_, channel)| idle(channel)).map(|(id, _)| id.clone()).collect()
    }

    /// Notes whether a channel could be reached, without anything being sent.
    pub fn reached(&mut self, channel: &ChannelId, reached: Result<(), String>, now: Timestamp) {
        let channel = self.channels.entry(channel.clone()).or_default();
        match reached {
            Ok(()) if channel.queue.is_empty() => channel.failing = None,
            // What waits will show it.
            Ok(()) => {}
            Err(why) => channel.fails(None, why, false, now),
        }
    }

    /// Notes how the sending of a notice ended. A second note about the same notice changes nothing.
    pub fn sent(&mut self, id: &ChannelId, notice: &str, sent: Sent, now: Timestamp) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Some(first) = channel.queue.front().filter(|first| first.id == notice) else { return };
        let has_short = matches!(first.kind, NoticeKind::Alerts | NoticeKind::Digest | NoticeKind::Waited);
        match sent {
            Sent::Taken => {
                channel.queue.pop_front();
                channel.failing = None;
                channel.delivered_at = Some(now);
                self.taken(id, notice, now);
            }
            Sent::Later { wait, why } => channel.fails(wait, why, false, now),
            Sent::Dead(why) => {
                channel.fails(None, why, true, now);
                if has_short && channel.failing.as_ref().is_some_and(|failing| failing.tries >= SHORT_AFTER) {
                    self.shorten(id);
                }
            }
            Sent::Refused(why) => {
                channel.failing = None;
                if has_short {
                    self.shorten(id);
                } else {
                    channel.refused = Some(Refused { at: now, title: first.title.clone(), why });
                    channel.queue.pop_front();
                    self.untold(id, notice, now);
                }
            }
        }
        self.collapse(id, now);
    }

    /// A channel has taken a notice. What it refused has got through once all of it has been told.
    fn taken(&mut self, id: &ChannelId, notice: &str, now: Timestamp) {
        for known in self.alerts.values_mut() {
            if known.told.get_mut(id).is_some_and(|told| told.taken(notice, now)) {
                known.refused.remove(id);
            }
        }
        if let Some(channel) = self.channels.get_mut(id)
            && !self.alerts.values().any(|known| known.refused.contains_key(id))
        {
            channel.refused = None;
        }
    }

    /// The first notice that waits is tried in its short form.
    fn shorten(&mut self, id: &ChannelId) {
        let Some(first) = self.channels.get_mut(id).and_then(|channel| channel.queue.front_mut()) else { return };
        let short = compose::short(first);
        let long = std::mem::replace(first, short);
        let name = first.id.clone();
        self.rename(id, &[long.id], &name);
    }

    /// A channel takes a notice in no form: of what it says nobody has been told, and is told anew later.
    fn untold(&mut self, id: &ChannelId, notice: &str, now: Timestamp) {
        for known in self.alerts.values_mut() {
            let Some(told) = known.told.remove(id) else { continue };
            let (told, differs) = told.without(notice);
            known.told.extend(told.map(|told| (id.clone(), told)));
            if differs {
                known.refused.insert(id.clone(), after(now, RETELL_AFTER));
            }
        }
        self.alerts.retain(|_, known| known.over_since.is_none() || !known.told.is_empty());
    }

    fn rename(&mut self, id: &ChannelId, from: &[String], to: &str) {
        for told in self.alerts.values_mut().filter_map(|known| known.told.get_mut(id)) {
            told.renamed(from, to);
        }
    }

    fn collapse(&mut self, id: &ChannelId, now: Timestamp) {
        if let Some((from, to)) = self.channels.get_mut(id).and_then(|channel| channel.collapse(now)) {
            self.rename(id, &from, &to);
        }
    }

    /// Adds a notice to what waits for a channel.
    fn push(&mut self, id: &ChannelId, notice: Notice, now: Timestamp) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.queue.push_back(notice);
            self.collapse(id, now);
        }
    }

    /// What is to be known of a channel that does not work; none where it does.
    pub fn trouble(&self, channel: &ChannelId, now: Timestamp) -> Option<String> {
        let known = self.channels.get(channel)?;
        let waiting = known.queue.len();
        if let Some(failing) = &known.failing
            && (failing.dead || now >= after(failing.since, FAILING_MAX))
        {
            let (since, why) = (shown(failing.since), &failing.why);
            return Some(format!("{channel} takes no notices since {since}: {why}; {waiting} waiting"));
        }
        let refused = known.refused.as_ref()?;
        Some(format!("{channel} refused the notice `{}` at {}: {}", refused.title, shown(refused.at), refused.why))
    }

    /// Whether [`Ledger::trouble`] would have something to say of the channel as soon as it lasts.
    pub fn troubled(&self, channel: &ChannelId) -> bool {
        self.channels.get(channel).is_some_and(|known| known.failing.is_some() || known.refused.is_some())
    }
}

impl Channel {
    fn fails(&mut self, wait: Option<SignedDuration>, why: String, dead: bool, now: Timestamp) {
        let before = self.failing.as_ref();
        let tries = before.map_or(0, |failing| failing.tries).saturating_add(1);
        let backoff =
            if dead { BACKOFF_MAX } else { BACKOFF.saturating_mul(1 << (tries - 1).min(10)).min(BACKOFF_MAX) };
        let wait = wait.map_or(backoff, |asked| asked.clamp(SignedDuration::from_secs(1), RETRY_AFTER_MAX));
        let since = before.map_or(now, |failing| failing.since);
        self.failing = Some(Failing { since, why, dead, tries, next: after(now, wait) });
    }

    /// When it is to be tried next, if it is.
    pub fn next_try(&self) -> Option<Timestamp> {
        self.failing.as_ref().map(|failing| failing.next)
    }

    /// While the channel cannot be reached, or does not keep up, all that waits becomes one notice. The first stays as it
    /// is, for it has been tried, and may have been taken without our knowing. A sign of life comes last. Returns which
    /// notices have become which.
    fn collapse(&mut self, now: Timestamp) -> Option<(Vec<String>, String)> {
        let is_beat = |notice: &Notice| notice.kind == NoticeKind::Heartbeat;
        let (beats, told): (VecDeque<_>, VecDeque<_>) = self.queue.drain(..).partition(is_beat);
        self.queue = told;
        let mut merged = None;
        if self.queue.len() > QUEUE_MAX || (self.failing.is_some() && self.queue.len() > 2) {
            let since = self.failing.as_ref().map_or(now, |failing| failing.since);
            let rest: Vec<Notice> = self.queue.drain(1..).collect();
            let names = rest.iter().map(|notice| notice.id.clone()).collect();
            if let Some(waited) = compose::waited(rest, since) {
                merged = Some((names, waited.id.clone()));
                self.queue.push_back(waited);
            }
        }
        self.queue.extend(beats);
        merged
    }
}
