//! When people are told of an alert, in what order, and into which line it is folded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tipoff::domain::effect::{About, Alert, Severity, Turn};
use tipoff::domain::graph::{Dependency, Graph, Offset};
use tipoff::domain::id::{AlertKey, ChannelId, PartitionKey, PipelineId};
use tipoff::domain::notify::{
    ITEMS_MAX, Ledger, MUTES_MAX, MUTES_OVER_MAX, Mute, Muted, News, Notice, NoticeKind, QUEUE_MAX, Route, Sent,
    Settings, Sight, is_topic,
};

use crate::graphs::{at, graph, hard, minutes, source, task};

const CHANNEL: &str = "people";
const HOUR: i64 = 3_600;
/// How long a notice waits for company.
const WAIT: i64 = 30;

fn settings() -> Settings {
    let route = |channel: &str| Route {
        channels: vec![ChannelId::from(channel)],
        severity_min: Severity::Info,
        topics: Vec::new(),
        pipeline: None,
    };
    Settings { routes: vec![route(CHANNEL)], ..Settings::default() }
}

fn date(nth: i64) -> PartitionKey {
    PartitionKey::new("laws", jiff::civil::date(2026, 1, 20).saturating_add(SignedDuration::from_hours(24 * nth)))
}

/// An alert of a node of a date.
fn of(topic: &str, node: &str, nth: i64, severity: Severity, second: i64) -> Alert {
    let key = AlertKey::new(format!("{topic}:{node}:{}", date(nth)));
    Alert::new(key, severity, Turn::Raised, format!("text of {topic} {node}"), at(second))
        .about(About::node(&date(nth), &node.into()))
}

/// Who is told, and what is known to whoever tells.
struct People {
    ledger: Ledger,
    settings: Settings,
    graph: Graph,
    tips: Vec<Timestamp>,
    /// How what is sent is answered.
    answer: fn(&Notice) -> Sent,
    /// When it is looked at again.
    next: Timestamp,
}

impl People {
    fn new(settings: Settings) -> Self {
        // `t` is made of `m`, that of `s`, and of itself a day before; `o` is made of nothing.
        let before = Dependency { offset: Offset::PreviousGameDay, ..hard("t") };
        let nodes = vec![source("s"), source("o"), task("m", vec![hard("s")]), task("t", vec![hard("m"), before])];
        let answer = |_: &Notice| Sent::Taken;
        Self { ledger: Ledger::default(), settings, graph: graph(nodes), tips: Vec::new(), answer, next: at(0) }
    }

    /// Looks at what is on and at what has ended, and sends what may be sent.
    fn look_at(&mut self, on: &[Alert], ended: &[Alert], second: i64) -> Vec<Notice> {
        let now = at(second);
        let graphs: BTreeMap<PipelineId, &Graph> = BTreeMap::from([(PipelineId::from("laws"), &self.graph)]);
        let ended = ended.iter().map(|alert| (alert.key.clone(), alert.clone())).collect();
        let tips = BTreeMap::from([(date(0), self.tips.clone())]);
        let sight = Sight { on, ended: &ended, tips: &tips, graphs: &graphs, now };
        self.next = self.ledger.round(&self.settings, &sight);
        let mut sent = Vec::new();
        while let Some((channel, notice)) = self.ledger.to_send(now).pop() {
            self.ledger.sent(&channel, &notice.id, (self.answer)(&notice), now);
            sent.push(notice);
        }
        sent
    }

    fn look(&mut self, on: &[Alert], second: i64) -> Vec<Notice> {
        self.look_at(on, &[], second)
    }

    /// Looks every half minute. Returns what was told in which second.
    fn watch(&mut self, on: &[Alert], seconds: std::ops::RangeInclusive<i64>) -> Vec<(i64, Notice)> {
        let mut told = Vec::new();
        for second in seconds.step_by(30) {
            let begun: Vec<Alert> = on.iter().filter(|alert| alert.at <= at(second)).cloned().collect();
            told.extend(self.look(&begun, second).into_iter().map(|notice| (second, notice)));
        }
        told
    }

    fn mute(&mut self, what: Muted, from: i64, until: i64) {
        let (actor, reason) = ("ann".to_owned(), "law".to_owned());
        self.ledger.mute(Mute { what, from: at(from), until: at(until), actor, reason, ended_by: None }).unwrap();
    }
}

fn news(told: &[(i64, Notice)]) -> Vec<(i64, News, Severity)> {
    let items = told.iter().flat_map(|(second, notice)| notice.items.iter().map(|item| (*second, item)));
    items.map(|(second, item)| (second, item.news, item.severity)).collect()
}

/// A warning about a date becomes critical two hours before the next of its games begins, and says why; nothing else does.
#[test]
fn a_warning_is_critical_once_the_next_tip_is_near() {
    let warning = of("failed", "s", 0, Severity::Warning, 0);
    let soon = 2 * HOUR;
    for (severity, tips, lead, escalated) in [
        (Severity::Warning, vec![3 * HOUR], soon, Some(HOUR + WAIT)),
        (Severity::Warning, vec![-HOUR, 3 * HOUR, 9 * HOUR], soon, Some(HOUR + WAIT)),
        (Severity::Warning, vec![-HOUR], soon, None),
        (Severity::Warning, vec![9 * HOUR], soon, None),
        (Severity::Warning, vec![3 * HOUR], 0, None),
        (Severity::Info, vec![3 * HOUR], soon, None),
        (Severity::Critical, vec![3 * HOUR], soon, None),
    ] {
        let mut people = People::new(Settings { escalate_before_tip: SignedDuration::from_secs(lead), ..settings() });
        people.tips = tips.iter().map(|second| at(*second)).collect();
        let alert = Alert { severity, ..warning.clone() };
        let told = people.watch(std::slice::from_ref(&alert), 0..=HOUR + 600);
        let first = if severity == Severity::Critical { WAIT } else { told[0].0 };
        let worse = escalated.map(|second| (second, News::Worse, Severity::Critical));
        let expected: Vec<_> = [(first, News::On, severity)].into_iter().chain(worse).collect();
        assert_eq!(news(&told), expected, "{severity:?} {tips:?} {lead}");
        let why = told.last().unwrap().1.items[0].escalated.clone();
        assert_eq!(why.is_some(), escalated.is_some());
        // Its end says neither that nor what is done about it.
        if escalated.is_some() {
            let end = Alert { turn: Turn::Resolved, ..alert.clone() };
            let ends: Vec<Notice> = [2 * HOUR, 2 * HOUR + 300, 2 * HOUR + 630]
                .into_iter()
                .flat_map(|second| people.look_at(&[], std::slice::from_ref(&end), second))
                .collect();
            assert_eq!((ends[0].items[0].news, ends[0].items[0].escalated.clone()), (News::Over, None));
        }
    }
    // A game that begins in this instant has begun.
    let mut people = People::new(settings());
    people.tips = vec![at(600)];
    people.look(&[], 0);
    let told = people.watch(std::slice::from_ref(&Alert { at: at(600), ..warning.clone() }), 600..=1_200);
    assert_eq!(news(&told), [(630, News::On, Severity::Warning)]);
    // It is looked at when it is near, and one that is critical by itself at last is told of once more.
    let mut people = People::new(settings());
    people.tips = vec![at(2 * HOUR + 100)];
    people.look(std::slice::from_ref(&warning), 0);
    people.look(std::slice::from_ref(&warning), 31);
    people.look(std::slice::from_ref(&warning), 90);
    assert_eq!(people.next, at(100));
    people.look(std::slice::from_ref(&warning), 100);
    assert_eq!(people.look(std::slice::from_ref(&warning), 130)[0].items[0].news, News::Worse);
    let critical = Alert { severity: Severity::Critical, ..warning };
    people.look(std::slice::from_ref(&critical), 600);
    let told = people.look(std::slice::from_ref(&critical), 630);
    assert_eq!((told[0].items[0].news, told[0].items[0].severity), (News::Worse, Severity::Critical));
    assert_eq!(people.look(std::slice::from_ref(&critical), 700).len(), 0);
}

/// What is done about an alert is told while it is on.
#[test]
fn what_is_done_is_told_of_what_is_on() {
    let mut people = People::new(settings());
    let mut alert = of("failed", "s", 0, Severity::Critical, 0);
    alert.about.done = Some("it is tried again".to_owned());
    let told = people.watch(std::slice::from_ref(&alert), 0..=60);
    assert_eq!(told[0].1.items[0].done.as_deref(), Some("it is tried again"));
    let over = Alert { turn: Turn::Resolved, ..alert };
    let ends: Vec<Notice> =
        [100, 400, 700].into_iter().flat_map(|s| people.look_at(&[], std::slice::from_ref(&over), s)).collect();
    assert_eq!((ends[0].items[0].news, ends[0].items[0].done.as_deref()), (News::Over, None));
}

/// An end in words of its own says what was; one without says only that.
#[test]
fn an_end_says_what_came_of_it_where_it_knows() {
    let end = |text: &str| {
        let mut people = People::new(settings());
        let alert = of("failed", "s", 0, Severity::Critical, 0);
        people.watch(std::slice::from_ref(&alert), 0..=60);
        let over = Alert { turn: Turn::Resolved, text: text.to_owned(), ..alert };
        let ends: Vec<Notice> =
            [100, 400, 700].into_iter().flat_map(|s| people.look_at(&[], std::slice::from_ref(&over), s)).collect();
        ends[0].items[0].text.clone()
    };
    assert_eq!(end("failed:s:laws/2026-01-20"), "over: text of failed s");
    assert_eq!(end("text of failed s"), "over: text of failed s");
    assert_eq!(end("missed: LAL@GSW"), "missed: LAL@GSW; it was: text of failed s");
}

/// While a mute holds nothing is told; when it is over, what it kept back is told as that, and what is no news is not.
#[test]
fn what_was_muted_is_told_of_when_the_mute_is_over() {
    let alert = of("failed", "s", 0, Severity::Critical, 0);
    let on = std::slice::from_ref(&alert);
    let topic = || Muted::Topic("failed".to_owned());
    // Muted before it began, and still.
    let mut people = People::new(settings());
    people.mute(topic(), -60, 300);
    assert_eq!(news(&people.watch(on, 0..=900)), [(330, News::Unmuted, Severity::Critical)]);
    // Over before it began, and in the instant in which it did.
    for until in [-30, 0] {
        let mut people = People::new(settings());
        people.mute(topic(), -60, until);
        assert_eq!(news(&people.watch(on, 0..=900)), [(WAIT, News::On, Severity::Critical)], "{until}");
    }
    // Told before, and told again when the mute that kept back nothing is over; not once more.
    let mut people = People::new(settings());
    people.watch(on, 0..=60);
    people.mute(topic(), 90, 600);
    let told = people.watch(on, 90..=3_600);
    assert_eq!(news(&told), [(630, News::Unmuted, Severity::Critical)]);
    // A mute of something else keeps back nothing, and its end is no news.
    for what in [Muted::Topic("dead".to_owned()), Muted::Key("failed:o:laws/2026-01-20".into())] {
        let mut people = People::new(settings());
        people.mute(what, -60, 600);
        assert_eq!(news(&people.watch(on, 0..=1_800)), [(WAIT, News::On, Severity::Critical)]);
    }
    // A mute of that one alert keeps it back, and no other of its topic.
    let other = of("failed", "o", 1, Severity::Critical, 0);
    let key = Muted::Key(alert.key.clone());
    assert_eq!([key.topic(), topic().topic()], ["failed", "failed"]);
    let mut people = People::new(settings());
    people.mute(key, -60, 600);
    let told = people.watch(&[alert.clone(), other.clone()], 0..=300);
    assert_eq!(told.iter().flat_map(|(_, n)| &n.items).map(|item| &item.key).collect::<Vec<_>>(), [&other.key]);
    // A notice of the very instant in which a mute ended has told all.
    let mut people = People::new(Settings { group_wait: SignedDuration::ZERO, ..settings() });
    people.mute(topic(), -60, 300);
    let told = people.watch(on, 0..=900);
    assert_eq!(news(&told), [(300, News::Unmuted, Severity::Critical)]);
}

/// So many mutes hold at once and no more; one that is over makes room in that instant.
#[test]
fn a_mute_that_is_over_makes_room_for_another() {
    let mute = |nth: usize, from: i64, until: i64| Mute {
        what: Muted::Topic(format!("topic-{nth}")),
        from: at(from),
        until: at(until),
        actor: "ann".to_owned(),
        reason: "law".to_owned(),
        ended_by: None,
    };
    for (from, taken) in [(599, false), (600, true)] {
        let mut ledger = Ledger::default();
        for nth in 0..MUTES_MAX {
            ledger.mute(mute(nth, 0, if nth < MUTES_OVER_MAX { 600 } else { 900 })).unwrap();
        }
        assert_eq!(ledger.mute(mute(MUTES_MAX, from, 900)).is_ok(), taken, "{from}");
    }
}

/// What is still on is told again after the interval, and never before; what is only worth knowing is told once.
#[test]
fn what_is_still_on_is_repeated_and_what_is_worth_knowing_is_not() {
    let at_once = Settings { group_wait: SignedDuration::ZERO, ..settings() };
    let every = at_once.repeat_interval.as_secs();
    let told =
        |severity| news(&People::new(at_once.clone()).watch(&[of("failed", "s", 0, severity, 0)], 0..=every + 60));
    assert_eq!(told(Severity::Info), [(0, News::On, Severity::Info)]);
    for severity in [Severity::Warning, Severity::Critical] {
        assert_eq!(told(severity), [(0, News::On, severity), (every, News::Still, severity)]);
    }
}

/// Repetitions of a date take along those of the same date that would follow within half the interval, and nobody else's.
#[test]
fn a_repetition_takes_along_what_would_follow_soon() {
    let at_once = Settings { group_wait: SignedDuration::ZERO, ..settings() };
    let every = at_once.repeat_interval.as_secs();
    // When another begins, of which date, and when both are repeated.
    for (begun, nth, repeated) in [
        (every / 2, 0, [every, every]),
        (every / 2 + 60, 0, [every, every + every / 2 + 60]),
        (every / 4, 1, [every, every + every / 4]),
    ] {
        let on = [of("failed", "s", 0, Severity::Critical, 0), of("failed", "o", nth, Severity::Critical, begun)];
        let told = People::new(at_once.clone()).watch(&on, 0..=every + every * 3 / 4);
        let again = |alert: &Alert| {
            let items = told.iter().filter(|(_, notice)| {
                notice.items.iter().any(|item| item.key == alert.key && item.news == News::Still)
            });
            items.map(|(second, _)| *second).next().unwrap()
        };
        assert_eq!([again(&on[0]), again(&on[1])], repeated, "{begun} {nth}");
    }
}

/// An hour is over when it is: a notice of then counts no more.
#[test]
fn a_notice_of_an_hour_ago_counts_no_more() {
    for (later, told_at, kind) in [(HOUR, HOUR, NoticeKind::Digest), (HOUR + WAIT, HOUR + 2 * WAIT, NoticeKind::Alerts)]
    {
        let mut people = People::new(Settings { digest_above: 1, ..settings() });
        let first = of("failed", "s", 0, Severity::Critical, 0);
        people.watch(std::slice::from_ref(&first), 0..=30);
        let second = of("failed", "o", 1, Severity::Warning, later);
        let told = people.watch(&[first, second], later..=later + 60);
        assert_eq!((told[0].0, told[0].1.kind), (told_at, kind), "{later}");
    }
}

/// Of one date, what is not critical is told every five minutes at most.
#[test]
fn notices_of_one_date_are_some_minutes_apart() {
    for (begun, told_at) in [(60, 330), (240, 330), (300, 330), (330, 360), (600, 630)] {
        let on = [of("failed", "s", 0, Severity::Warning, 0), of("failed", "o", 0, Severity::Warning, begun)];
        let told = People::new(settings()).watch(&on, 0..=900);
        assert_eq!(told.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [WAIT, told_at], "{begun}");
    }
}

/// What waits for a channel that works is sent at once.
#[test]
fn what_waits_is_looked_at_at_once_and_each_notice_has_a_name_of_its_own() {
    let mut people = People::new(settings());
    let on = [of("failed", "s", 0, Severity::Critical, 0), of("failed", "s", 1, Severity::Critical, 0)];
    people.look(&on, 0);
    people.settings.group_wait = SignedDuration::ZERO;
    let told = people.look(&on, 30);
    assert_eq!(people.next, at(31));
    let ids: BTreeSet<&str> = told.iter().map(|notice| notice.id.as_str()).collect();
    assert_eq!((told.len(), ids.len()), (2, 2), "{ids:?}");
}

/// A sign of life that could not be sent is made anew when it can be, for it says how things are then. Looking again in that
/// instant changes nothing, and nobody is given one who waits for something else.
#[test]
fn a_sign_of_life_that_waits_is_of_the_instant_in_which_it_may_go() {
    let channel = ChannelId::from(CHANNEL);
    let mut people = People::new(Settings { heartbeat: Some((channel.clone(), minutes(60))), ..settings() });
    people.answer = |_| Sent::Dead("404".to_owned());
    people.look(&[], 0);
    let waiting = |people: &People| {
        let queue = &people.ledger.channels[&channel].queue;
        queue.iter().map(|notice| (notice.kind, notice.id.clone(), notice.at)).collect::<Vec<_>>()
    };
    let first = waiting(&people);
    assert_eq!(first.len(), 1);
    people.look(&[], 299);
    assert_eq!(waiting(&people), first, "it cannot go yet");
    people.look(&[], 300);
    let again = waiting(&people);
    assert_eq!((again.len(), again[0].2), (1, at(300)));
    people.ledger.channels.get_mut(&channel).unwrap().failing.as_mut().unwrap().next = at(300);
    people.look(&[], 300);
    assert_eq!(waiting(&people), again);
    people.answer = |_| Sent::Taken;
    assert_eq!(people.look(&[], 2_000).len(), 1);
    people.answer = |_| Sent::Later { wait: None, why: "503".to_owned() };
    let on = [of("failed", "s", 0, Severity::Critical, 2_000)];
    people.look(&on, 2_000);
    people.look(&on, 2_030);
    people.look(&on, 2_060);
    assert_eq!(waiting(&people).iter().map(|(kind, ..)| *kind).collect::<Vec<_>>(), [NoticeKind::Alerts]);
}

/// Of a channel that no route names any more nothing is kept.
#[test]
fn a_channel_that_there_is_no_more_is_forgotten() {
    let mut people = People::new(settings());
    let on = [of("failed", "s", 0, Severity::Critical, 0)];
    people.watch(&on, 0..=60);
    let channel = ChannelId::from(CHANNEL);
    assert!(people.ledger.channels.contains_key(&channel) && !people.ledger.alerts[&on[0].key].told.is_empty());
    people.settings.routes.clear();
    people.look(&on, 90);
    assert!(!people.ledger.channels.contains_key(&channel) && people.ledger.alerts[&on[0].key].told.is_empty());
}

/// What a channel refused of an alert that has ended meanwhile is nobody's news; what another was told ends there.
#[test]
fn an_end_is_told_where_the_beginning_was() {
    let mut people = People::new(settings());
    let (yes, no) = (ChannelId::from("yes"), ChannelId::from("no"));
    people.settings.routes[0].channels = vec![yes.clone(), no.clone()];
    let alert = of("failed", "s", 0, Severity::Critical, 0);
    let on = std::slice::from_ref(&alert);
    people.look(on, 0);
    let graphs = BTreeMap::new();
    let (ended, none, tips) = (BTreeMap::from([(alert.key.clone(), alert.clone())]), BTreeMap::new(), BTreeMap::new());
    let sight = |now| Sight { on: &[], ended: &ended, tips: &tips, graphs: &graphs, now };
    people.ledger.round(&people.settings, &Sight { on, ended: &none, ..sight(at(30)) });
    people.ledger.round(&people.settings, &sight(at(40)));
    for _ in 0..2 {
        for (channel, notice) in people.ledger.to_send(at(40)) {
            let sent = if channel == no { Sent::Refused("552".to_owned()) } else { Sent::Taken };
            people.ledger.sent(&channel, &notice.id, sent, at(40));
        }
    }
    let known = &people.ledger.alerts[&alert.key];
    assert_eq!(known.told.keys().collect::<Vec<_>>(), [&yes]);
    // Refused by all, it is forgotten.
    let mut people = People::new(settings());
    people.ledger.round(&people.settings, &Sight { on, ended: &none, ..sight(at(0)) });
    people.ledger.round(&people.settings, &Sight { on, ended: &none, ..sight(at(30)) });
    people.ledger.round(&people.settings, &sight(at(40)));
    for _ in 0..2 {
        for (channel, notice) in people.ledger.to_send(at(40)) {
            people.ledger.sent(&channel, &notice.id, Sent::Refused("552".to_owned()), at(40));
        }
    }
    assert!(people.ledger.alerts.is_empty());
}

/// Two tries may fall into one restart of a server, so a channel is in trouble only after two minutes, or at once where
/// somebody has to mend it.
#[test]
fn a_channel_is_in_trouble_after_two_minutes() {
    let channel = ChannelId::from(CHANNEL);
    for (sent, second, is_told) in [
        (Sent::Later { wait: None, why: "503".to_owned() }, 149, false),
        (Sent::Later { wait: None, why: "503".to_owned() }, 150, true),
        (Sent::Dead("404".to_owned()), 30, true),
    ] {
        let mut people = People::new(settings());
        let on = [of("failed", "s", 0, Severity::Critical, 0)];
        people.look(&on, 0);
        people.answer = |_| Sent::Later { wait: Some(minutes(15)), why: "503".to_owned() };
        if matches!(sent, Sent::Dead(_)) {
            people.answer = |_| Sent::Dead("404".to_owned());
        }
        people.look(&on, 30);
        assert_eq!(people.ledger.trouble(&channel, at(second)).is_some(), is_told, "{second}");
    }
}

/// So many notices wait by themselves for a channel that works, and two for one that does not; more become one.
#[test]
fn what_waits_becomes_one_notice_once_it_is_too_much() {
    let kinds = |failing: bool, count: usize| {
        let channel = ChannelId::from(CHANNEL);
        let mut people = People::new(Settings { group_wait: SignedDuration::ZERO, digest_above: 100, ..settings() });
        let graphs = BTreeMap::new();
        let (none, tips) = (BTreeMap::new(), BTreeMap::new());
        let mut on = Vec::new();
        for nth in 0..count {
            on.push(of("failed", "s", i64::try_from(nth).unwrap(), Severity::Critical, 0));
            let sight = Sight { on: &on, ended: &none, tips: &tips, graphs: &graphs, now: at(0) };
            people.ledger.round(&people.settings, &sight);
            if failing && nth == 0 {
                let (channel, first) = people.ledger.to_send(at(0)).pop().unwrap();
                let later = Sent::Later { wait: None, why: "503".to_owned() };
                people.ledger.sent(&channel, &first.id, later, at(0));
            }
        }
        let queue = &people.ledger.channels[&channel].queue;
        (queue.len(), queue.iter().filter(|notice| notice.kind == NoticeKind::Waited).count())
    };
    assert_eq!(kinds(false, QUEUE_MAX - 1), (QUEUE_MAX - 1, 0));
    assert_eq!(kinds(false, QUEUE_MAX), (QUEUE_MAX, 0));
    assert_eq!(kinds(false, QUEUE_MAX + 1), (2, 1));
    assert_eq!(kinds(true, 2), (2, 0));
    assert_eq!(kinds(true, 3), (2, 1));
}

/// What is not shown is counted, in the short form of a notice and in what waited too.
#[test]
fn what_is_left_out_is_counted() {
    let many = |nth: i64, count: usize, second| -> Vec<Alert> {
        let alert = |index| of(&format!("t{index:02}"), "s", nth, Severity::Critical, second);
        (0..count).map(alert).collect()
    };
    let mut people = People::new(settings());
    people.answer = |notice| match notice.kind {
        NoticeKind::Short => Sent::Taken,
        _ => Sent::Refused("552".to_owned()),
    };
    let told = people.watch(&many(0, ITEMS_MAX + 5, 0), 0..=30);
    let [(_, long), (_, short)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((long.items.len(), long.left_out, short.left_out), (ITEMS_MAX, 5, ITEMS_MAX + 5));
    assert!(short.title.starts_with("25 alerts, the worst critical: "), "{}", short.title);

    let mut people = People::new(settings());
    people.answer = |_| Sent::Later { wait: Some(minutes(15)), why: "503".to_owned() };
    let mut on = many(0, 1, 0);
    people.watch(&on, 0..=30);
    on.extend(many(1, ITEMS_MAX + 5, 60));
    on.extend(many(2, ITEMS_MAX + 2, 120));
    people.watch(&on, 60..=180);
    people.answer = |_| Sent::Taken;
    let told = people.look(&on, 2_000);
    let waited = told.iter().find(|notice| notice.kind == NoticeKind::Waited).unwrap();
    assert_eq!((waited.items.len(), waited.left_out), (ITEMS_MAX, 27));
    assert!(waited.title.starts_with("47 alerts waited, "), "{}", waited.title);
}

/// What is over comes last, in a notice and in what waited.
#[test]
fn what_is_over_comes_last() {
    let over = of("failed", "s", 0, Severity::Critical, 0);
    let new = of("late", "o", 0, Severity::Info, 400);
    let end = Alert { turn: Turn::Resolved, ..over.clone() };
    let mut people = People::new(settings());
    people.watch(std::slice::from_ref(&over), 0..=60);
    people.look_at(&[], std::slice::from_ref(&end), 100);
    let mut told = Vec::new();
    for second in (400..=460).step_by(30) {
        told.extend(people.look_at(std::slice::from_ref(&new), std::slice::from_ref(&end), second));
    }
    let [notice] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(notice.items.iter().map(|item| item.news).collect::<Vec<_>>(), [News::On, News::Over]);
    assert_eq!(notice.title, "2 alerts of laws/2026-01-20: 1 info, 1 over");

    // The same of dates that are told apart, and wait for a channel.
    let mut people = People::new(settings());
    people.watch(std::slice::from_ref(&over), 0..=60);
    people.answer = |_| Sent::Later { wait: Some(minutes(15)), why: "503".to_owned() };
    let first = of("failed", "s", 1, Severity::Critical, 100);
    let later = of("late", "o", 2, Severity::Info, 450);
    for second in (100..=600).step_by(10) {
        let on: Vec<Alert> = [&first, &later].into_iter().filter(|alert| alert.at <= at(second)).cloned().collect();
        people.look_at(&on, std::slice::from_ref(&end), second);
    }
    people.answer = |_| Sent::Taken;
    let told = people.look_at(&[first, later], std::slice::from_ref(&end), 2_000);
    let waited = told.iter().find(|notice| notice.kind == NoticeKind::Waited).unwrap();
    assert_eq!(waited.items.iter().map(|item| item.news).collect::<Vec<_>>(), [News::On, News::Over]);
}

/// Into whose line each alert is folded, where `t` is made of `m` and that of `s`.
fn folded(on: &[Alert]) -> Vec<(String, usize)> {
    let told = People::new(settings()).watch(on, 0..=360);
    let items = told.iter().flat_map(|(_, notice)| &notice.items);
    items.map(|item| (format!("{}:{}", item.key.topic(), item.node.as_ref().unwrap()), item.downstream)).collect()
}

/// An alert is folded into that of the farthest node upstream that is at least as bad: one that may be its cause.
#[test]
fn an_alert_is_folded_into_that_of_its_cause() {
    let warning = |topic: &str, node: &str| of(topic, node, 0, Severity::Warning, 0);
    let critical = |topic: &str, node: &str| of(topic, node, 0, Severity::Critical, 0);
    let (s, m, t) = (warning("failed", "s"), warning("failed", "m"), warning("failed", "t"));
    let line = |name: &str, below| (name.to_owned(), below);
    assert_eq!(folded(&[s.clone(), m.clone(), t.clone()]), [line("failed:s", 2)]);
    assert_eq!(folded(&[m.clone(), t.clone()]), [line("failed:m", 1)], "the farther one is well");
    assert_eq!(folded(std::slice::from_ref(&t)), [line("failed:t", 0)], "it is upstream of itself, a day before");
    let apart = [line("failed:o", 0), line("failed:t", 0)];
    assert_eq!(folded(&[warning("failed", "o"), t.clone()]), apart, "nothing of it is in it");
    let by_itself = [line("failed:s", 0), line("failed:t", 0)];
    assert_eq!(folded(&[critical("failed", "s"), critical("failed", "t")]), by_itself, "what is critical is told");
    assert_eq!(folded(&[of("failed", "s", 0, Severity::Info, 0), t.clone()]).len(), 2, "it is worse");
    // Nothing comes of a quorum that was used, and the worst about a node is what others hang on, or else the first.
    assert_eq!(folded(&[warning("quorum", "s"), t.clone()]).len(), 2);
    let worst = folded(&[warning("dead", "s"), critical("failed", "s"), t.clone()]);
    assert_eq!(worst, [line("failed:s", 1), line("dead:s", 0)]);
    let worst = folded(&[critical("dead", "s"), warning("failed", "s"), t.clone()]);
    assert_eq!(worst, [line("dead:s", 1), line("failed:s", 0)]);
    assert_eq!(folded(&[warning("dead", "s"), s, t]), [line("dead:s", 1), line("failed:s", 0)]);
}

/// An end is told by itself, and what has ended is nobody's cause.
#[test]
fn an_end_is_folded_into_nothing() {
    let (s, t) = (of("failed", "s", 0, Severity::Critical, 0), of("failed", "t", 0, Severity::Warning, 0));
    let end = |alert: &Alert| Alert { turn: Turn::Resolved, ..alert.clone() };
    let mut people = People::new(settings());
    people.watch(&[s.clone(), t.clone()], 0..=60);
    let mut told = Vec::new();
    for second in (90..=900).step_by(30) {
        told.extend(people.look_at(std::slice::from_ref(&s), &[end(&t)], second));
    }
    let items: Vec<_> = told.iter().flat_map(|notice| &notice.items).collect();
    assert_eq!(items.iter().map(|item| (&item.key, item.news)).collect::<Vec<_>>(), [(&t.key, News::Over)]);
    assert_eq!(told[0].title, "over: failed t of laws/2026-01-20");
    // It failed, and is well when what hangs on it fails.
    let mut people = People::new(settings());
    people.watch(std::slice::from_ref(&s), 0..=60);
    people.look_at(&[], &[end(&s)], 90);
    let mut told = Vec::new();
    for second in (120..=240).step_by(30) {
        told.extend(people.look_at(std::slice::from_ref(&t), &[end(&s)], second));
    }
    let items: Vec<_> = told.iter().flat_map(|notice| &notice.items).collect();
    assert!(items.iter().all(|item| item.downstream == 0), "{items:?}");
}

/// A title says what is repeated, what is new downstream of what is known, and of which date, where it is one.
#[test]
fn a_title_says_what_is_still_on_and_what_hangs_on_it() {
    let at_once = Settings { group_wait: SignedDuration::ZERO, ..settings() };
    let every = at_once.repeat_interval.as_secs();
    let s = of("failed", "s", 0, Severity::Critical, 0);
    let told = People::new(at_once.clone()).watch(std::slice::from_ref(&s), 0..=every);
    let titles: Vec<&str> = told.iter().map(|(_, notice)| notice.title.as_str()).collect();
    assert_eq!(titles, ["critical: failed s of laws/2026-01-20", "still critical: failed s of laws/2026-01-20"]);
    let mut people = People::new(settings());
    let told = people.watch(&[s.clone(), of("failed", "t", 0, Severity::Warning, 600)], 0..=900);
    assert_eq!(told[1].1.title, "warning: 1 more downstream of failed s of laws/2026-01-20");
    let mut people = People::new(Settings { digest_above: 1, ..settings() });
    let other = |nth| of("late", "o", nth, Severity::Warning, 60);
    let told = people.watch(&[s, other(1), other(2)], 0..=1_800);
    assert_eq!(told[1].1.title, "digest: 2 alerts: 2 warning");
}

/// A route or a mute names a topic of ours, or a class of failures.
#[test]
fn a_topic_is_one_of_ours_or_a_class_of_failures() {
    for (name, is_one) in [("failed", true), ("storm", true), ("quota", true), ("nothing", false), ("", false)] {
        assert_eq!(is_topic(name, ["quota", "banned"]), is_one, "{name}");
    }
    assert!(!is_topic("quota", []));
}
