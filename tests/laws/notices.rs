//! What people are told is bounded by what there is to tell and by the hours, whatever arrives and whoever restarts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tipoff::domain::effect::{About, Alert, Severity, Turn};
use tipoff::domain::graph::Graph;
use tipoff::domain::id::{AlertKey, ChannelId, PartitionKey, PipelineId};
use tipoff::domain::notify::{
    Ledger, MUTE_MAX, MUTES_MAX, MUTES_OVER_MAX, Mute, MuteError, Muted, News, Notice, NoticeKind, Route, Sent,
    Settings, Sight, channel_alert,
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

/// Looks once at what is on, and sends everything that waits; `answer` says how each sending ends.
fn look(
    ledger: &mut Ledger,
    settings: &Settings,
    on: &[Alert],
    now: Timestamp,
    mut answer: impl FnMut(&Notice) -> Sent,
) -> Vec<Notice> {
    let (none, tips, graphs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    ledger.round(settings, &Sight { on, ended: &none, tips: &tips, graphs: &graphs, now });
    let mut tried = Vec::new();
    while let Some((channel, notice)) = ledger.to_send(now).pop() {
        ledger.sent(&channel, &notice.id, answer(&notice), now);
        tried.push(notice);
    }
    tried
}

fn failed(nth: usize, severity: Severity, now: Timestamp) -> Alert {
    let date = date(nth);
    Alert::new(AlertKey::new(format!("failed:s:{date}")), severity, Turn::Raised, format!("text {nth}"), now)
        .about(About::node(&date, &"s".into()))
}

#[test]
fn what_is_refused_in_every_form_is_untold_and_told_anew_a_quarter_of_an_hour_later() {
    let (settings, channel) = (settings(), ChannelId::from(CHANNEL));
    let mut ledger = Ledger::default();
    let first = failed(0, Severity::Critical, at(0));
    let key = first.key.clone();
    let refuse = |_: &Notice| Sent::Refused("552".to_owned());
    let mut tried = Vec::new();
    for second in (0..=900).step_by(30) {
        tried.extend(look(&mut ledger, &settings, std::slice::from_ref(&first), at(second), refuse));
        assert_eq!(ledger.trouble(&channel, at(second)).is_some(), !tried.is_empty());
        assert!(ledger.alerts[&key].told.is_empty());
    }
    let [long, short] = tried.as_slice() else { panic!("{tried:?}") };
    assert_eq!((long.kind, short.kind), (NoticeKind::Alerts, NoticeKind::Short));
    assert_eq!(short.title, "critical: failed:s:laws/2026-01-20; see `tipoff alerts`");
    assert!(short.items.is_empty() && short.left_out == 1 && short.id != long.id);
    // Another notice gets through. What was refused has not.
    let both = [first, failed(1, Severity::Critical, at(905))];
    assert_eq!(look(&mut ledger, &settings, &both[1..], at(905), |_| Sent::Taken).len(), 0);
    let other = look(&mut ledger, &settings, &both[1..], at(936), |_| Sent::Taken);
    assert_eq!(other.len(), 1);
    let told: Vec<&AlertKey> = other[0].items.iter().map(|item| &item.key).collect();
    assert!(!told.contains(&&key) && ledger.trouble(&channel, at(936)).is_some(), "{told:?}");
    // Its short form is enough.
    let short = |notice: &Notice| match notice.kind {
        NoticeKind::Short => Sent::Taken,
        _ => Sent::Refused("413".to_owned()),
    };
    let again = look(&mut ledger, &settings, &both, at(965), short);
    let ids: Vec<&str> = again.iter().map(|notice| notice.id.as_str()).collect();
    assert_eq!(ledger.alerts[&key].told[&channel].notice, ids[1]);
    assert!(ledger.trouble(&channel, at(965)).is_none());
    // A repetition that is refused takes away nothing of what was told before.
    let repeated = 965 + 6 * 3_600;
    let still = look(&mut ledger, &settings, &both, at(repeated + 60), refuse);
    // Of each date one, as it is and in short.
    assert_eq!(still.len(), 4, "{still:?}");
    let told = &ledger.alerts[&key].told[&channel];
    assert_eq!((told.notice.as_str(), told.at), (ids[1], at(965)));
}

#[test]
fn repetitions_of_one_date_come_together() {
    let settings = settings();
    let every = settings.repeat_interval.as_secs();
    let mut ledger = Ledger::default();
    let of = |node: &str, nth: usize, begun: i64| {
        let date = date(nth);
        Alert::new(
            AlertKey::new(format!("failed:{node}:{date}")),
            Severity::Critical,
            Turn::Raised,
            node.to_owned(),
            at(begun),
        )
        .about(About::node(&date, &node.into()))
    };
    // Two of one date begin a quarter of the interval apart, one of another date in between.
    let on = [of("a", 0, 0), of("b", 0, every / 4), of("c", 1, every / 8)];
    let mut told: Vec<(i64, Vec<String>)> = Vec::new();
    for second in (0..3 * every).step_by(30) {
        let begun: Vec<Alert> = on.iter().filter(|alert| alert.at <= at(second)).cloned().collect();
        for notice in look(&mut ledger, &settings, &begun, at(second), |_| Sent::Taken) {
            told.push((second, notice.items.iter().map(|item| item.text.clone()).collect()));
        }
    }
    let of_date: Vec<&(i64, Vec<String>)> = told.iter().filter(|(_, items)| !items.contains(&"c".to_owned())).collect();
    // Each is news once; from the first repetition on they come as one.
    let [first, second, repeats @ ..] = of_date.as_slice() else { panic!("{told:?}") };
    assert_eq!((&first.1, &second.1), (&vec!["a".to_owned()], &vec!["b".to_owned()]));
    assert!(!repeats.is_empty() && repeats.iter().all(|(_, items)| items.len() == 2), "{told:?}");
    assert!(repeats.iter().all(|(second, _)| *second >= every), "none is repeated too soon: {told:?}");
    let others = told.iter().filter(|(_, items)| items.contains(&"c".to_owned()));
    assert!(others.clone().count() > 1 && others.clone().all(|(_, items)| items.len() == 1), "{told:?}");
}

#[test]
fn what_is_told_names_the_notice_that_was_sent_and_when() {
    let (settings, channel) = (settings(), ChannelId::from(CHANNEL));
    let mut ledger = Ledger::default();
    let mut on = Vec::new();
    for nth in 0..4 {
        let now = at(60 * nth as i64);
        on.push(failed(nth, Severity::Critical, now));
        let later = |_: &Notice| Sent::Later { wait: None, why: "503".to_owned() };
        look(&mut ledger, &settings, &on, now, later);
        look(&mut ledger, &settings, &on, after(now, SignedDuration::from_secs(31)), later);
    }
    let sent = look(&mut ledger, &settings, &on, at(3_600), |_| Sent::Taken);
    assert_eq!(sent.iter().map(|notice| notice.kind).collect::<Vec<_>>(), [NoticeKind::Alerts, NoticeKind::Waited]);
    for (nth, alert) in on.iter().enumerate() {
        let known = &ledger.alerts[&alert.key];
        let told = &known.told[&channel];
        assert_eq!((&told.notice, told.at), (&sent[nth.min(1)].id, at(3_600)));
        assert!(told.before.is_none());
        assert_eq!(known.since, alert.at);
    }
}

#[test]
fn a_sign_of_life_goes_behind_what_people_are_told_and_is_new_when_it_goes_out() {
    let channel = ChannelId::from(CHANNEL);
    let settings = Settings { heartbeat: Some((channel, minutes(5))), ..settings() };
    let mut ledger = Ledger::default();
    let dead = |_: &Notice| Sent::Dead("404".to_owned());
    look(&mut ledger, &settings, &[], at(0), dead);
    let on = [failed(0, Severity::Critical, at(10))];
    for second in (10..600).step_by(30) {
        look(&mut ledger, &settings, &on, at(second), dead);
    }
    let sent = look(&mut ledger, &settings, &on, at(1_000), |_| Sent::Taken);
    let sent: Vec<_> = sent.iter().map(|notice| (notice.kind, notice.at == at(1_000))).collect();
    assert_eq!(sent, [(NoticeKind::Alerts, false), (NoticeKind::Heartbeat, true)]);
}

#[test]
fn a_channel_that_stays_dead_is_tried_with_fewer_words() {
    let (settings, mut ledger) = (settings(), Ledger::default());
    let on = [failed(0, Severity::Critical, at(0))];
    let mut taken = Vec::new();
    for minute in 0..90 {
        let tried = look(&mut ledger, &settings, &on, at(60 * minute), |notice| match notice.kind {
            NoticeKind::Short => Sent::Taken,
            _ => Sent::Dead("554 5.7.1 looks like spam".to_owned()),
        });
        taken.extend(tried.into_iter().filter(|notice| notice.kind == NoticeKind::Short).map(|_| minute));
    }
    assert!(matches!(taken[..], [50..=70]), "{taken:?}");
}

#[test]
fn a_line_is_never_shown_as_less_than_it_is_and_an_end_says_what_was() {
    let graph = graph(vec![source("s"), task("t", vec![hard("s")])]);
    let graphs: BTreeMap<PipelineId, &Graph> = BTreeMap::from([(PipelineId::from("laws"), &graph)]);
    let mut ledger = Ledger::default();
    let mut round = |on: &[Alert], ended: &[Alert], now: Timestamp| {
        let ended = ended.iter().map(|alert| (alert.key.clone(), alert.clone())).collect();
        ledger.round(&settings(), &Sight { on, ended: &ended, tips: &BTreeMap::new(), graphs: &graphs, now });
        let mut sent = Vec::new();
        while let Some((channel, notice)) = ledger.to_send(now).pop() {
            ledger.sent(&channel, &notice.id, Sent::Taken, now);
            sent.push(notice);
        }
        sent
    };
    let root = failed(0, Severity::Critical, at(0));
    let below =
        Alert { key: AlertKey::new(format!("failed:t:{}", date(0))), severity: Severity::Warning, ..root.clone() };
    let below = below.about(About::node(&date(0), &"t".into()));
    round(std::slice::from_ref(&root), &[], at(0));
    assert_eq!(round(std::slice::from_ref(&root), &[], at(30)).len(), 1);
    let on = [root.clone(), below];
    round(&on, &[], at(600));
    let [notice] = round(&on, &[], at(640)).try_into().unwrap();
    let [item] = &*notice.items else { panic!("{notice:?}") };
    assert_eq!((item.news, item.severity, item.downstream), (News::Still, Severity::Critical, 1));
    // What is new is the warning.
    assert_eq!(notice.severity, Severity::Warning);
    let over = Alert { turn: Turn::Resolved, text: root.key.to_string(), ..root.clone() };
    round(&on[1..], std::slice::from_ref(&over), at(700));
    round(&on[1..], std::slice::from_ref(&over), at(1_000));
    let notices = round(&on[1..], &[over], at(1_040));
    let ended = notices.iter().flat_map(|notice| &notice.items).find(|item| item.news == News::Over).unwrap();
    assert_eq!((&ended.key, ended.text.as_str()), (&root.key, "over: text 0"));
}

#[test]
fn who_has_nothing_to_tell_looks_every_other_minute() {
    let (graphs, nothing) = (BTreeMap::new(), BTreeMap::new());
    let tips = BTreeMap::new();
    let sight = |now| Sight { on: &[], ended: &nothing, tips: &tips, graphs: &graphs, now };
    let mut ledger = Ledger::default();
    assert_eq!(ledger.round(&settings(), &sight(at(0))), at(120));
    // Looking in between changes nothing.
    assert_eq!(ledger.round(&settings(), &sight(at(50))), at(120));
    assert_eq!(ledger.round(&settings(), &sight(at(120))), at(240));
    // An alert that is on is told, and told again six hours later; until then there is as little to do.
    let alert = Change { gap: 0, alert: 0, severity: Severity::Critical, on: true };
    let on = [self::alert(&alert, at(240))];
    // What begins waits half a minute for what begins with it.
    assert_eq!(ledger.round(&settings(), &Sight { on: &on, ..sight(at(240)) }), at(270));
    ledger.round(&settings(), &Sight { on: &on, ..sight(at(270)) });
    let sent = ledger.to_send(at(270));
    assert_eq!(sent.len(), 1);
    for (channel, notice) in sent {
        ledger.sent(&channel, &notice.id, Sent::Taken, at(270));
    }
    assert_eq!(ledger.round(&settings(), &Sight { on: &on, ..sight(at(271)) }), at(360));
}

fn route(channel: &str, severity_min: Severity, topics: &[&str], pipeline: Option<&str>) -> Route {
    Route {
        channels: vec![ChannelId::from(channel)],
        severity_min,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        pipeline: pipeline.map(PipelineId::from),
    }
}

#[test]
fn a_route_takes_what_is_bad_enough_of_its_topics_and_its_pipeline() {
    let routes = vec![
        route("all", Severity::Info, &[], None),
        route("bad", Severity::Critical, &[], None),
        route("dead", Severity::Info, &["dead", "parked"], None),
        route("laws", Severity::Info, &["failed"], Some("laws")),
        route("others", Severity::Info, &[], Some("others")),
    ];
    let settings = Settings { routes, ..settings() };
    let told = |key: &str, severity, about: About| {
        let alert = Alert::new(AlertKey::from(key), severity, Turn::Raised, "text".to_owned(), at(0)).about(about);
        let (none, tips, graphs, mut ledger) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), Ledger::default());
        for second in [0, 31] {
            let on = std::slice::from_ref(&alert);
            ledger.round(&settings, &Sight { on, ended: &none, tips: &tips, graphs: &graphs, now: at(second) });
        }
        ledger.to_send(at(31)).into_iter().map(|(channel, _)| channel.to_string()).collect::<Vec<_>>()
    };
    let of = |pipeline: &str| About::date(&PartitionKey::new(pipeline, date(0).date));
    assert_eq!(told("failed:s:laws/2026-01-20", Severity::Warning, of("laws")), ["all", "laws"]);
    assert_eq!(told("failed:s:laws/2026-01-20", Severity::Critical, of("laws")), ["all", "bad", "laws"]);
    assert_eq!(told("failed:s:others/2026-01-20", Severity::Warning, of("others")), ["all", "others"]);
    assert_eq!(told("dead:s:laws/2026-01-20", Severity::Warning, of("laws")), ["all", "dead"]);
    assert_eq!(told("parked:1", Severity::Info, About::default()), ["all", "dead"]);
    assert_eq!(told("failed:somewhere", Severity::Info, About::default()), ["all"]);
    // That a channel fails is told over the others, whatever they take.
    let all = channel_alert(&ChannelId::from("all"));
    assert_eq!(told(all.as_str(), Severity::Critical, About::default()), ["bad", "dead", "laws", "others"]);
}

#[test]
fn what_goes_over_no_channel_is_found_for_dates_and_for_the_service() {
    let pipelines = [PipelineId::from("laws"), PipelineId::from("others")];
    let unheard = |routes: Vec<Route>, severity| Settings { routes, ..settings() }.unheard(severity, pipelines.iter());
    let all = unheard(Vec::new(), Severity::Critical);
    assert!(all.contains(&"failed") && all.contains(&"parked"));
    assert_eq!(unheard(vec![route("a", Severity::Critical, &[], None)], Severity::Warning), all);
    assert!(unheard(vec![route("a", Severity::Critical, &[], None)], Severity::Critical).is_empty());
    // Of the service nothing goes over the route of a pipeline; of a date what one pipeline has not is unheard.
    let one = unheard(vec![route("a", Severity::Info, &[], Some("laws"))], Severity::Critical);
    assert_eq!(one, all);
    let both = ["laws", "others"].map(|pipeline| route("a", Severity::Info, &[], Some(pipeline))).to_vec();
    let service = unheard(both, Severity::Critical);
    assert!(!service.contains(&"failed") && service.contains(&"parked"));
    let topics = unheard(vec![route("a", Severity::Info, &["failed", "parked"], None)], Severity::Critical);
    assert_eq!(topics.len(), all.len() - 2);
}

/// A channel that fails is tried later and later, and one that can be reached again fails no more, unless something waits
/// that will show it.
#[test]
fn a_channel_that_fails_is_tried_later_and_later() {
    let channel = ChannelId::from(CHANNEL);
    let mut ledger = Ledger::default();
    look(&mut ledger, &settings(), &[], at(0), |_| Sent::Taken);
    assert!(ledger.to_reach(at(0)).is_empty() && !ledger.troubled(&channel));
    let mut now = at(0);
    for wait in [15, 30, 60, 120, 240, 300, 300] {
        ledger.reached(&channel, Err("refused".to_owned()), now);
        let next = after(now, SignedDuration::from_secs(wait));
        assert_eq!(ledger.channels[&channel].next_try(), Some(next));
        assert!(ledger.troubled(&channel));
        assert!(ledger.to_reach(after(next, SignedDuration::from_secs(-1))).is_empty());
        assert_eq!(ledger.to_reach(next), std::slice::from_ref(&channel));
        now = next;
    }
    ledger.reached(&channel, Ok(()), now);
    assert!(!ledger.troubled(&channel) && ledger.to_reach(now).is_empty());
    assert_eq!(ledger.channels[&channel].next_try(), None);
    // Something waits: it is sent, and not tried beside.
    let on = [failed(0, Severity::Critical, now)];
    let later = |_: &Notice| Sent::Later { wait: None, why: "503".to_owned() };
    look(&mut ledger, &settings(), &on, now, later);
    let now = after(now, SignedDuration::from_secs(31));
    assert_eq!(look(&mut ledger, &settings(), &on, now, later).len(), 1);
    assert!(ledger.to_reach(after(now, minutes(60))).is_empty());
    ledger.reached(&channel, Ok(()), now);
    assert!(ledger.troubled(&channel), "what waits will show it");
    // What was refused in every form is trouble as well.
    let mut ledger = Ledger::default();
    for second in [0, 31, 62] {
        look(&mut ledger, &settings(), &on[..1], at(second), |_| Sent::Refused("552".to_owned()));
    }
    assert!(ledger.channels[&channel].next_try().is_none() && ledger.troubled(&channel));
}

#[test]
fn a_mute_lasts_a_week_at_most_and_is_ended_by_its_own_name() {
    let mut ledger = Ledger::default();
    let mute = |what: &Muted| Mute {
        what: what.clone(),
        from: at(0),
        until: after(at(0), MUTE_MAX),
        actor: " ann ".to_owned(),
        reason: " why ".to_owned(),
        ended_by: None,
    };
    let (topic, key) = (Muted::Topic("failed".to_owned()), Muted::Key("failed:t:laws/2026-01-20".into()));
    assert_eq!([topic.to_string(), key.to_string()], ["failed:…", "failed:t:laws/2026-01-20"]);
    assert_eq!(MUTE_MAX.as_hours(), 7 * 24);
    assert_eq!(ledger.mute(mute(&topic)), Ok(()), "exactly the longest");
    assert_eq!((ledger.mutes[0].actor.as_str(), ledger.mutes[0].reason.as_str()), ("ann", "why"));
    assert!(ledger.holding(&topic, at(1)).is_some() && ledger.holding(&key, at(1)).is_some());
    assert!(ledger.holding(&Muted::Topic("dead".to_owned()), at(1)).is_none());
    assert_eq!(ledger.unmute(&key, "bob", at(1)), 0, "another name for it");
    assert_eq!(ledger.unmute(&topic, "bob", at(2)), 1);
    assert_eq!(ledger.unmute(&topic, "bob", at(3)), 0, "it has ended");
}

/// What is told of these alerts once they have been on for half a minute, where `t` is made of `s`.
fn told_of(on: &[Alert]) -> Vec<Notice> {
    let graph = graph(vec![source("s"), task("t", vec![hard("s")])]);
    let graphs: BTreeMap<PipelineId, &Graph> = BTreeMap::from([(PipelineId::from("laws"), &graph)]);
    let (none, tips, mut ledger) = (BTreeMap::new(), BTreeMap::new(), Ledger::default());
    for second in [0, 31] {
        ledger.round(&settings(), &Sight { on, ended: &none, tips: &tips, graphs: &graphs, now: at(second) });
    }
    ledger.to_send(at(31)).into_iter().map(|(_, notice)| notice).collect()
}

fn raised(key: &str, severity: Severity, about: About) -> Alert {
    Alert::new(AlertKey::from(key), severity, Turn::Raised, format!("text of {key}"), at(0)).about(about)
}

#[test]
fn a_title_says_how_many_how_bad_and_of_what() {
    let (of_s, of_t) = (About::node(&date(0), &"s".into()), About::node(&date(0), &"t".into()));
    let of = |node: &About, topic: &str, severity| {
        let name = node.node.as_ref().unwrap();
        raised(&format!("{topic}:{name}:{}", date(0)), severity, node.clone())
    };
    let title = |on: &[Alert]| {
        let notices = told_of(on);
        let [notice] = notices.as_slice() else { panic!("{notices:?}") };
        notice.title.clone()
    };
    let failed = |severity| of(&of_s, "failed", severity);
    let dead = |severity| of(&of_s, "dead", severity);
    assert_eq!(title(&[failed(Severity::Warning)]), "warning: failed s of laws/2026-01-20");
    assert_eq!(title(&[raised("parked:1", Severity::Info, About::default())]), "info: parked:1");
    assert_eq!(
        title(&[failed(Severity::Critical), dead(Severity::Warning), of(&of_s, "late", Severity::Warning)]),
        "3 alerts of laws/2026-01-20: 1 critical, 2 warning"
    );
    let below = of(&of_t, "failed", Severity::Warning);
    assert_eq!(
        title(&[failed(Severity::Critical), below.clone()]),
        "critical: failed s of laws/2026-01-20, 1 downstream affected"
    );
    assert_eq!(
        title(&[failed(Severity::Critical), dead(Severity::Critical), below]),
        "2 alerts of laws/2026-01-20: 2 critical, 1 downstream affected"
    );
    // The service and dates are told of together where they are of no one date.
    let others =
        [raised("parked:1", Severity::Info, About::default()), raised("self:1", Severity::Info, About::default())];
    assert_eq!(title(&others), "2 alerts: 2 info");
}

#[test]
fn a_line_names_the_commands_that_show_more_and_those_that_do_something() {
    let commands = |key: &str, about: About| {
        let notices = told_of(&[raised(key, Severity::Warning, about)]);
        let item = notices[0].items[0].clone();
        assert_eq!(item.text, format!("text of {key}"));
        (item.look, item.act)
    };
    let mute = |what: &str| format!("tipoff mute {what} --for 4h --reason WHY");
    let day = "2026-01-20";
    let look =
        |node: &str| vec![format!("tipoff why {node} {day} -p laws"), format!("tipoff timeline {day} {node} -p laws")];
    let hold = |node: &str| format!("tipoff hold {day} {node} --reason WHY -p laws");
    let (of_s, of_t) = (About::node(&date(0), &"s".into()), About::node(&date(0), &"t".into()));
    let retry = format!("tipoff retry {day} t --reason WHY -p laws");
    let failed = "failed:t:laws/2026-01-20";
    assert_eq!(commands(failed, of_t), (look("t"), vec![retry, hold("t"), mute(failed)]));
    // Nobody asks a source that begins by itself.
    assert_eq!(commands("failed:s:x", of_s), (look("s"), vec![mute("failed:s:x")]));
    let status = vec![format!("tipoff status {day} -p laws")];
    assert_eq!(commands("late:law:x", About::date(&date(0))), (status.clone(), vec![mute("late:law:x")]));
    let resume = "tipoff resume all --reason WHY -p laws".to_owned();
    assert_eq!(commands("stopped:laws", About::date(&date(0))), (status, vec![resume, mute("stopped:laws")]));
    for (key, shows) in [
        ("stopped:laws", "tipoff alerts"),
        ("backlog:1", "tipoff alerts"),
        ("self:store", "tipoff doctor"),
        ("parked:1", "tipoff dlq list --kind parked"),
        ("dead-letter:1", "tipoff dlq list"),
        ("backfill-proposed:1", "tipoff backfill status"),
        ("source-down:1", "tipoff backfill status"),
    ] {
        assert_eq!(commands(key, About::default()), (vec![shows.to_owned()], vec![mute(key)]));
    }
    // A key that is too long to be typed is muted with its topic.
    let long = |letters: usize| format!("backlog:{}", "x".repeat(letters - 8));
    assert_eq!(commands(&long(200), About::default()).1, [mute(&long(200))]);
    assert_eq!(commands(&long(201), About::default()).1, [mute("--topic backlog")]);
}

/// What waited while a channel could not be reached is one notice: each alert once, as it was last, the worst first, and no
/// sign of life.
#[test]
fn what_waited_is_told_at_once() {
    let (settings, channel) = (settings(), ChannelId::from(CHANNEL));
    let mut ledger = Ledger::default();
    let later = |_: &Notice| Sent::Later { wait: None, why: "503".to_owned() };
    let mut on = Vec::new();
    for nth in 0..4 {
        let severity = if nth == 2 { Severity::Critical } else { Severity::Warning };
        let now = at(60 * nth as i64);
        on.push(failed(nth, severity, now));
        look(&mut ledger, &settings, &on, now, later);
        look(&mut ledger, &settings, &on, after(now, SignedDuration::from_secs(31)), later);
    }
    let waiting: Vec<_> = ledger.channels[&channel].queue.iter().map(|notice| notice.kind).collect();
    assert_eq!(waiting, [NoticeKind::Alerts, NoticeKind::Waited]);
    let sent = look(&mut ledger, &settings, &on, at(600), |_| Sent::Taken);
    let waited = sent.iter().find(|notice| notice.kind == NoticeKind::Waited).unwrap();
    let keys: Vec<_> = waited.items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(keys, [&on[2].key, &on[1].key, &on[3].key].map(Clone::clone));
    assert_eq!((waited.severity, waited.left_out), (Severity::Critical, 0));
    assert!(
        waited.title.starts_with("3 alerts waited, for this channel could not be reached since"),
        "{}",
        waited.title
    );
}
