//! One look at the alerts: what has to be told over which channel, and when to look again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::super::effect::{Alert, Severity};
use super::super::graph::Graph;
use super::super::id::{AlertKey, ChannelId, PartitionKey, PipelineId};
use super::super::time::after;
use super::compose::{self, Line};
use super::{Failing, HOUR, KEYS_MAX, Known, Ledger, News, Notice, NoticeKind, Settings, Told};

/// How often a round notes that it has looked.
const NOTE_EVERY: SignedDuration = SignedDuration::from_mins(2);
/// What is about no date is grouped under this name.
const SERVICE: &str = "service";

/// What a round looks at.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The alerts that are on.
    pub on: &'a [Alert],
    /// How those ended that the ledger knows and that are not on any more. One that is in neither stays as it was.
    pub ended: &'a BTreeMap<AlertKey, Alert>,
    /// When the games of those dates begin that have not begun.
    pub tips: &'a BTreeMap<PartitionKey, Vec<Timestamp>>,
    /// Which node needs which.
    pub graphs: &'a BTreeMap<PipelineId, &'a Graph>,
    /// When.
    pub now: Timestamp,
}

/// Something to be told of one alert over one channel.
#[derive(Clone, Debug)]
struct Pending {
    key: AlertKey,
    news: News,
    /// Since when it is to be told; may lie ahead.
    since: Timestamp,
    urgent: bool,
    group: String,
}

/// What is told again of one date is told again at once: a repetition takes along those that would follow within half the
/// interval, and from then on they come together.
fn repeat_together(pending: &mut [Pending], settings: &Settings, now: Timestamp) {
    let is_due = |pending: &&Pending| pending.news == News::Still && pending.since <= now;
    let due: BTreeSet<String> = pending.iter().filter(is_due).map(|pending| pending.group.clone()).collect();
    let soon = after(now, settings.repeat_interval / 2);
    for follower in pending.iter_mut().filter(|pending| pending.news == News::Still && due.contains(&pending.group)) {
        if follower.since <= soon {
            follower.since = follower.since.min(now);
        }
    }
}

/// The earliest instant of those it is shown.
#[derive(Default)]
struct Earliest(Option<Timestamp>);

impl Earliest {
    fn at(&mut self, instant: Timestamp) {
        self.0 = Some(self.0.map_or(instant, |known| known.min(instant)));
    }
}

impl Ledger {
    /// Looks at the alerts, queues the notices that are due, and says when to look again at the latest.
    pub fn round(&mut self, settings: &Settings, sight: &Sight<'_>) -> Timestamp {
        let now = sight.now;
        let mut next = Earliest(None);
        if self.round_at.is_none_or(|noted| now >= after(noted, NOTE_EVERY)) {
            self.round_at = Some(now);
        }
        next.at(after(self.round_at.unwrap_or(now), NOTE_EVERY));
        self.observe(settings, sight, &mut next);
        let channels: Vec<ChannelId> = settings.channels().into_iter().cloned().collect();
        for channel in &channels {
            self.tell(channel, settings, sight, &mut next);
        }
        if let Some((channel, every)) = &settings.heartbeat {
            self.beat(channel, *every, now, &mut next);
        }
        self.forget(&channels);
        self.forget_mutes(now);
        for channel in self.channels.values() {
            match channel.next_try() {
                Some(at) => next.at(at),
                None if channel.queue.is_empty() => {}
                None => next.at(now),
            }
        }
        next.0.unwrap_or(now).max(after(now, SignedDuration::from_secs(1)))
    }

    /// Notes what has begun, become worse, come near its tip-off, or ended.
    fn observe(&mut self, settings: &Settings, sight: &Sight<'_>, next: &mut Earliest) {
        let now = sight.now;
        for alert in sight.on.iter().take(KEYS_MAX) {
            let known = self.alerts.entry(alert.key.clone()).or_insert_with(|| Known {
                since: alert.at.min(now),
                severity: alert.severity,
                as_bad_since: now,
                escalated: None,
                text: String::new(),
                about: alert.about.clone(),
                over_since: None,
                told: BTreeMap::new(),
                refused: BTreeMap::new(),
            });
            // What ended for a moment has not ended.
            known.over_since = None;
            let as_bad = (known.told_as(), known.severity);
            known.severity = known.severity.max(alert.severity);
            known.text.clone_from(&alert.text);
            known.about.clone_from(&alert.about);
            let tips = alert.about.partition.as_ref().and_then(|key| sight.tips.get(key));
            let nearest = tips.and_then(|tips| tips.iter().filter(|tip| **tip > now).min());
            if let Some(tip) = nearest
                && known.severity == Severity::Warning
                && known.escalated.is_none()
                && !settings.escalate_before_tip.is_zero()
            {
                let near = after(*tip, -settings.escalate_before_tip);
                if near <= now {
                    known.escalated = Some(*tip);
                } else {
                    next.at(near);
                }
            }
            if (known.told_as(), known.severity) > as_bad {
                known.as_bad_since = now;
            }
        }
        for (key, ended) in sight.ended {
            if let Some(known) = self.alerts.get_mut(key)
                && known.over_since.is_none()
            {
                known.over_since = Some(now);
                known.text = compose::over(&known.text, ended);
            }
        }
        // What ended before anybody was told is nobody's news.
        self.alerts.retain(|_, known| known.over_since.is_none() || !known.told.is_empty());
    }

    /// Makes the notices that are due over one channel.
    fn tell(&mut self, channel: &ChannelId, settings: &Settings, sight: &Sight<'_>, next: &mut Earliest) {
        let now = sight.now;
        let standing = self.channels.entry(channel.clone()).or_default();
        standing.made.retain(|at| now < after(*at, HOUR));
        standing.groups.retain(|_, at| now < after(*at, settings.group_interval));
        loop {
            let mut pending = self.pending(channel, settings, now);
            repeat_together(&mut pending, settings, now);
            let (ready, ahead): (Vec<_>, Vec<_>) = pending.into_iter().partition(|pending| pending.since <= now);
            ahead.iter().for_each(|pending| next.at(pending.since));
            let Some((due, kind, batch)) = self.next_batch(channel, settings, ready) else { return };
            if due > now {
                return next.at(due);
            }
            self.make(channel, kind, batch, sight);
        }
    }

    /// What goes out next over a channel, and when.
    fn next_batch(
        &self,
        channel: &ChannelId,
        settings: &Settings,
        ready: Vec<Pending>,
    ) -> Option<(Timestamp, NoticeKind, Vec<Pending>)> {
        let standing = self.channels.get(channel)?;
        let first = |batch: &[Pending]| batch.iter().map(|pending| pending.since).min();
        let urgent_due = |batch: &[Pending]| {
            let urgent = batch.iter().filter(|pending| pending.urgent).map(|pending| pending.since).min()?;
            Some(after(urgent, settings.group_wait))
        };
        if standing.made.len() >= settings.digest_above.max(1) {
            let (urgent, rest): (Vec<_>, Vec<_>) = ready.into_iter().partition(|pending| pending.urgent);
            let urgent = urgent_due(&urgent).map(|due| (due, NoticeKind::Alerts, urgent));
            let last = standing.digest_at.max(standing.made.last().copied())?;
            let digest = first(&rest).map(|_| (after(last, settings.digest_every), NoticeKind::Digest, rest));
            return urgent.into_iter().chain(digest).min_by_key(|(due, ..)| *due);
        }
        let mut groups: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
        for pending in ready {
            groups.entry(pending.group.clone()).or_default().push(pending);
        }
        let dues = groups.into_iter().filter_map(|(group, batch)| {
            let due = urgent_due(&batch).or_else(|| {
                let last = batch.iter().map(|pending| pending.since).max()?;
                let quiet = after(last, settings.group_wait).min(after(first(&batch)?, settings.group_interval));
                let spaced = standing.groups.get(&group).map(|told| after(*told, settings.group_interval));
                Some(spaced.map_or(quiet, |spaced| spaced.max(quiet)))
            })?;
            Some((due, NoticeKind::Alerts, batch))
        });
        dues.min_by_key(|(due, ..)| *due)
    }

    /// What is to be told over a channel, now or later.
    fn pending(&self, channel: &ChannelId, settings: &Settings, now: Timestamp) -> Vec<Pending> {
        let mut pending = Vec::new();
        for (key, known) in &self.alerts {
            let as_bad = known.told_as();
            let told = known.told.get(channel);
            if self.muted(key, now).is_some() || !settings.is_for(channel, key, &known.about, as_bad) && told.is_none()
            {
                continue;
            }
            let mutes = self.mutes.iter().filter(|mute| mute.until <= now && mute.what.covers(key));
            let unmuted = mutes.map(|mute| mute.until).max();
            let found = match (told, known.over_since) {
                (None, Some(_)) => None,
                (None, None) => match unmuted.filter(|unmuted| *unmuted > known.as_bad_since) {
                    Some(unmuted) => Some((News::Unmuted, unmuted)),
                    None => Some((News::On, known.as_bad_since)),
                },
                (Some(_), Some(over)) => Some((News::Over, after(over, settings.group_interval))),
                (Some(told), None) if as_bad > told.severity || known.severity > told.by_itself => {
                    let since = unmuted.map_or(known.as_bad_since, |unmuted| unmuted.max(known.as_bad_since));
                    Some((News::Worse, since))
                }
                (Some(told), None) => match unmuted.filter(|unmuted| *unmuted > told.at) {
                    Some(unmuted) => Some((News::Unmuted, unmuted)),
                    None if as_bad == Severity::Info => None,
                    None => Some((News::Still, after(told.at, settings.repeat_interval))),
                },
            };
            if let Some((news, since)) = found {
                // What the channel refused is not offered again at once.
                let anew = known.refused.get(channel).filter(|_| news != News::Over);
                let since = anew.map_or(since, |anew| since.max(*anew));
                let urgent = as_bad == Severity::Critical && matches!(news, News::On | News::Worse | News::Unmuted);
                let group = known.about.partition.as_ref().map_or_else(|| SERVICE.to_owned(), ToString::to_string);
                pending.push(Pending { key: key.clone(), news, since, urgent, group });
            }
        }
        pending
    }

    /// Makes one notice, and notes of every alert in it that it has been told.
    fn make(&mut self, channel: &ChannelId, kind: NoticeKind, batch: Vec<Pending>, sight: &Sight<'_>) {
        let now = sight.now;
        let id = self.next_id(channel, now);
        let mut lines: Vec<Line<'_>> = Vec::new();
        for pending in &batch {
            if let Some(known) = self.alerts.get(&pending.key) {
                lines.push(Line { key: &pending.key, known, news: pending.news });
            }
        }
        let standing: BTreeSet<&AlertKey> =
            self.alerts.iter().filter(|(_, known)| known.over_since.is_none()).map(|(key, _)| key).collect();
        let notice = compose::notice(&id, now, kind, &lines, &standing, &self.alerts, sight.graphs);
        for pending in &batch {
            let Some(known) = self.alerts.get_mut(&pending.key) else { continue };
            if pending.news == News::Over {
                known.told.remove(channel);
            } else {
                let (severity, by_itself) = (known.told_as(), known.severity);
                let before = known.told.remove(channel).map(Box::new);
                let told = Told { severity, by_itself, at: now, notice: id.clone(), before };
                known.told.insert(channel.clone(), told);
            }
        }
        self.alerts.retain(|_, known| known.over_since.is_none() || !known.told.is_empty());
        let Some(standing) = self.channels.get_mut(channel) else { return };
        if kind == NoticeKind::Digest {
            standing.digest_at = Some(now);
        } else {
            standing.made.push(now);
        }
        for pending in batch {
            standing.groups.insert(pending.group, now);
        }
        self.push(channel, notice, now);
    }

    /// A name that no other notice has, also where the ledger of a failing store is begun anew.
    fn next_id(&mut self, channel: &ChannelId, now: Timestamp) -> String {
        self.made += 1;
        format!("{channel}-{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), self.made)
    }

    /// Queues a sign of life where one is due. One that waits is enough; when it may be sent, it is made anew, for it says
    /// how things are then.
    fn beat(&mut self, channel: &ChannelId, every: SignedDuration, now: Timestamp, next: &mut Earliest) {
        let known = self.channels.entry(channel.clone()).or_default();
        let is_due = known.beat_at.is_none_or(|last| after(last, every) <= now);
        if is_due {
            known.beat_at = Some(now);
        }
        next.at(after(known.beat_at.unwrap_or(now), every));
        let is_beat = |waiting: &Notice| waiting.kind == NoticeKind::Heartbeat;
        let is_open = known.failing.as_ref().is_none_or(|Failing { next, .. }| *next <= now);
        let is_stale = is_open && known.queue.iter().any(|waiting| is_beat(waiting) && waiting.at < now);
        if is_due || is_stale {
            known.queue.retain(|waiting| !is_beat(waiting));
            let id = self.next_id(channel, now);
            self.push(channel, Notice::heartbeat(id, now), now);
        }
    }

    /// Lets go of channels that there are no more.
    fn forget(&mut self, channels: &[ChannelId]) {
        for known in self.alerts.values_mut() {
            known.told.retain(|channel, _| channels.contains(channel));
            known.refused.retain(|channel, _| channels.contains(channel));
        }
        self.channels.retain(|channel, known| channels.contains(channel) || known.beat_at.is_some());
        self.alerts.retain(|_, known| known.over_since.is_none() || !known.told.is_empty());
    }
}
