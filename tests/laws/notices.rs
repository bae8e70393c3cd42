//! What people are told is bounded by what there is to tell and by the hours, whatever arrives and whoever restarts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tipoff::domain::effect::{About, Alert, Severity, Turn};
use tipoff::domain::graph::Graph;
use tipoff::domain::id::{AlertKey, ChannelId, PartitionKey, PipelineId};
use tipoff::domain::notify::{
    Ledger, MUTE_MAX, MUTES_MAX, MUTES_OVER_MAX, Mute, MuteError, Muted, News, Notice, NoticeKind, Route, Sent,
    Settings, Sight,
};
use tipoff::domain::time::after;
use tipoff::domain::words;

use crate::graphs::{at, graph, hard, minutes, source, task};

const CHANNEL: &str = "people";
/// Few enough that a random run goes beyond it.
const DIGEST_ABOVE: usize = 4;

fn settings() -> Settings {
    let route = Route {
        channels: vec![ChannelId::from(CHANNEL)],
        severity_min: Severity::Info,
        topics: Vec::new(),
        pipeline: None,
    };
    Settings { routes: vec![route], digest_above: DIGEST_ABOVE, ..Settings::default() }
}

/// Something that happens to an alert.
#[derive(Clone, Debug)]
struct Change {
    /// Seconds after the last one.
    gap: i64,
    alert: usize,
    severity: Severity,
    on: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let severity = prop_oneof![Just(Severity::Info), Just(Severity::Warning), Just(Severity::Critical)];
    (0..900i64, 0..8usize, severity, any::<bool>()).prop_map(|(gap, alert, severity, on)| Change {
        gap,
        alert,
        severity,
        on,
    })
}

fn date(nth: usize) -> PartitionKey {
    PartitionKey::new(
        "laws",
        jiff::civil::date(2026, 1, 20).saturating_add(SignedDuration::from_hours(24 * nth as i64)),
    )
}

/// Alerts of three nodes of two dates, one below the other, and two of the service.
fn alert(change: &Change, now: Timestamp) -> Alert {
    let turn = if change.on { Turn::Raised } else { Turn::Resolved };
    let (key, about) = match change.alert {
        nth @ 0..6 => {
            let (node, date) = (["s", "t", "u"][nth % 3], date(nth / 3));
            (format!("failed:{node}:{date}"), About::node(&date, &node.into()))
        }
        nth => (format!("parked:{nth}"), About::default()),
    };
    Alert::new(AlertKey::new(key), change.severity, turn, "text".to_owned(), now).about(about)
}

/// How a run is played: how often each alert is raised again meanwhile, and whether the process restarts after each round.
#[derive(Clone, Copy)]
struct Played {
    repeats: usize,
    restarts: bool,
}

/// Plays the changes to an hour after the last, and returns the notices.
fn play(changes: &[Change], settings: &Settings, played: Played) -> Vec<Notice> {
    let graph = graph(vec![source("s"), task("t", vec![hard("s")]), task("u", vec![hard("t")])]);
    let graphs: BTreeMap<PipelineId, &Graph> = BTreeMap::from([(PipelineId::from("laws"), &graph)]);
    let mut world: BTreeMap<AlertKey, Alert> = BTreeMap::new();
    let mut ledger = Ledger::default();
    let mut notices = Vec::new();
    let mut now = at(0);
    let mut next = now;
    let mut round = |world: &BTreeMap<AlertKey, Alert>, now: Timestamp| {
        let on: Vec<Alert> = world.values().filter(|alert| alert.turn == Turn::Raised).cloned().collect();
        let ended: BTreeMap<AlertKey, Alert> = world
            .iter()
            .filter(|(_, alert)| alert.turn == Turn::Resolved)
            .map(|(key, alert)| (key.clone(), alert.clone()))
            .collect();
        let sight = Sight { on: &on, ended: &ended, tips: &BTreeMap::new(), graphs: &graphs, now };
        let next = ledger.round(settings, &sight);
        while let Some((channel, notice)) = ledger.to_send(now).pop() {
            ledger.sent(&channel, &notice.id, Sent::Taken, now);
            notices.push(notice);
        }
        if played.restarts {
            ledger = serde_json::from_str(&serde_json::to_string(&ledger).unwrap()).unwrap();
            // Whoever starts looks at once.
            ledger.round(settings, &sight);
            assert!(ledger.to_send(now).is_empty(), "a restart tells something: {:?}", ledger.to_send(now));
        }
        next
    };
    let end = changes.iter().map(|change| change.gap).sum::<i64>() + 3_600;
    let mut changes = changes.iter().peekable();
    let mut due = changes.peek().map(|change| after(now, SignedDuration::from_secs(change.gap)));
    while now < at(0) + SignedDuration::from_secs(end) {
        now = due.map_or(next, |due| due.min(next));
        if due == Some(now)
            && let Some(change) = changes.next()
        {
            let alert = alert(change, now);
            for _ in 0..played.repeats {
                let known =
                    world.get(&alert.key).filter(|known| known.turn == alert.turn && known.severity >= alert.severity);
                let severity = known.map_or(alert.severity, |known| known.severity);
                world.insert(alert.key.clone(), Alert { severity, ..alert.clone() });
                round(&world, now);
            }
            due = changes.peek().map(|change| after(now, SignedDuration::from_secs(change.gap)));
        }
        next = round(&world, now);
        assert!(next > now);
    }
    notices
}

fn titles(notices: &[Notice]) -> Vec<(Timestamp, &str)> {
    notices.iter().map(|notice| (notice.at, notice.title.as_str())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn raising_again_and_restarting_tell_nothing(changes in prop::collection::vec(change(), 1..40)) {
        let once = play(&changes, &settings(), Played { repeats: 1, restarts: false });
        let often = play(&changes, &settings(), Played { repeats: 5, restarts: false });
        let restarted = play(&changes, &settings(), Played { repeats: 1, restarts: true });
        prop_assert_eq!(titles(&once), titles(&often));
        prop_assert_eq!(titles(&once), titles(&restarted));
        let ids: BTreeSet<&str> = once.iter().map(|notice| notice.id.as_str()).collect();
        prop_assert_eq!(ids.len(), once.len());
    }

    #[test]
    fn an_hour_has_so_many_notices_and_no_more(changes in prop::collection::vec(change(), 1..60)) {
        let notices = play(&changes, &settings(), Played { repeats: 1, restarts: false });
        for first in &notices {
            let within = |notice: &&Notice| notice.at >= first.at && notice.at < after(first.at, minutes(60));
            let hour: Vec<&Notice> = notices.iter().filter(within).collect();
            let is_critical = |notice: &&&Notice| notice.severity == Severity::Critical;
            let digests = hour.iter().filter(|notice| notice.kind == NoticeKind::Digest).count();
            let plain = hour.iter().filter(|notice| notice.kind == NoticeKind::Alerts && !is_critical(notice)).count();
            prop_assert!(digests <= 4, "{digests} digests");
            prop_assert!(plain <= DIGEST_ABOVE, "{plain} notices");
            prop_assert!(hour.iter().filter(is_critical).count() <= 120);
        }
    }

    #[test]
    fn what_is_told_is_told_by_turns(changes in prop::collection::vec(change(), 1..40)) {
        // Nobody hears of an end without a beginning, nor of two beginnings without an end.
        let quiet = Settings { digest_above: 1_000, ..settings() };
        let mut on: BTreeSet<AlertKey> = BTreeSet::new();
        for notice in play(&changes, &quiet, Played { repeats: 1, restarts: false }) {
            prop_assert_eq!(notice.left_out, 0);
            for item in notice.items.iter().filter(|item| item.downstream == 0) {
                match item.news {
                    News::On => prop_assert!(on.insert(item.key.clone()), "{} twice", item.key),
                    News::Over => { on.remove(&item.key); }
                    News::Worse | News::Still | News::Unmuted => {}
                }
            }
        }
    }
}

#[test]
fn a_mute_has_an_end_and_a_reason() {
    let mut ledger = Ledger::default();
    let mute = |span: SignedDuration, reason: &str| Mute {
        what: Muted::Topic("failed".to_owned()),
        from: at(0),
        until: after(at(0), span),
        actor: "ann".to_owned(),
        reason: reason.to_owned(),
        ended_by: None,
    };
    assert_eq!(ledger.mute(mute(SignedDuration::ZERO, "why")), Err(MuteError::Past(at(0))));
    assert_eq!(ledger.mute(mute(MUTE_MAX + minutes(1), "why")), Err(MuteError::TooLong));
    for reason in [" ".to_owned(), "why".repeat(words::REASON_MAX)] {
        assert!(matches!(ledger.mute(mute(minutes(1), &reason)), Err(MuteError::Words(_))));
    }
    for (what, actor) in
        [(Muted::Key("".into()), "ann".to_owned()), (Muted::Topic("failed".to_owned()), "a".repeat(201))]
    {
        let mute = Mute { what, actor, ..mute(minutes(1), "why") };
        assert!(matches!(ledger.mute(mute), Err(MuteError::Words(_))));
    }
    assert_eq!(ledger.mute(mute(minutes(1), "why")), Ok(()));
    let key = AlertKey::from("failed:t:laws/2026-01-20");
    assert!(ledger.muted(&key, at(59)).is_some() && ledger.muted(&key, at(60)).is_none());
    assert!(ledger.muted(&AlertKey::from("dead:t:laws/2026-01-20"), at(1)).is_none());
    assert_eq!(ledger.unmute(&Muted::Topic("failed".to_owned()), "bob", at(30)), 1);
    assert!(ledger.muted(&key, at(31)).is_none());
    assert_eq!(ledger.mutes[0].ended_by.as_deref(), Some("bob"));
    // The book of mutes has an end too, and what holds is never dropped for what is new.
    for _ in 0..400 {
        let outcome = ledger.mute(mute(minutes(60), "why"));
        assert!(matches!(outcome, Ok(()) | Err(MuteError::TooMany)));
    }
    assert_eq!(ledger.mutes.len(), MUTES_MAX);
    // An older mute that lasts longer decides.
    let what = Muted::Key(key.clone());
    assert_eq!(ledger.holding(&what, at(1)).map(|mute| mute.until), Some(at(3_600)));
    // What is over is kept for a week, and not all of it.
    let later = Mute { from: at(3_601), until: at(3_700), ..mute(minutes(60), "why") };
    assert_eq!(ledger.mute(later), Ok(()));
    assert_eq!(ledger.mutes.len(), MUTES_OVER_MAX + 1);
    let none = BTreeMap::new();
    let week = after(at(3_700), MUTE_MAX);
    ledger.round(
        &settings(),
        &Sight { on: &[], ended: &none, tips: &BTreeMap::new(), graphs: &BTreeMap::new(), now: week },
    );
    assert!(ledger.mutes.is_empty());
}

#[test]
fn a_sign_of_life_goes_out_and_does_not_pile_up() {
    let watchdog = ChannelId::from("watchdog");
    let settings = Settings { heartbeat: Some((watchdog.clone(), minutes(5))), ..settings() };
    let mut ledger = Ledger::default();
    let (none, tips, graphs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut beats = Vec::new();
    for minute in 0..60 {
        let now = at(60 * minute);
        ledger.round(&settings, &Sight { on: &[], ended: &none, tips: &tips, graphs: &graphs, now });
        // For half an hour nobody is there.
        let is_there = minute >= 30;
        for (channel, notice) in ledger.to_send(now) {
            assert_eq!((&channel, notice.kind), (&watchdog, NoticeKind::Heartbeat));
            let sent = if is_there { Sent::Taken } else { Sent::Dead("404".to_owned()) };
            beats.extend(is_there.then_some(minute));
            ledger.sent(&channel, &notice.id, sent, now);
        }
        assert!(ledger.channels[&watchdog].queue.len() <= 1);
        assert_eq!(ledger.trouble(&watchdog, now).is_some(), !is_there);
    }
    assert_eq!(beats, [30, 35, 40, 45, 50, 55]);
}
