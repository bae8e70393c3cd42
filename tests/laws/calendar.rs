//! What is expected, due and missing follows from the games and the instant handed in, and from nothing else.

use std::collections::BTreeMap;

use jiff::civil::{Date, Time, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use tipoff::domain::calendar::{Anchor, Calendar, Schedule, Span, has_begun, tips};
use tipoff::domain::coverage::Coverage;
use tipoff::domain::decide::decide;
use tipoff::domain::event::{Command, Event, Game, GameStatus, Request};
use tipoff::domain::graph::{DayTime, Graph, Unit};
use tipoff::domain::id::{PartitionKey, RequestId, UnitId};
use tipoff::domain::partition::{Node as Facts, Partition};
use tipoff::domain::time::Now;
use tipoff::domain::timetable::Timetable;
use tipoff::domain::units::deficits;

use super::graphs::{graph, source};

const TEAMS: [&str; 12] = ["ATL", "BKN", "BOS", "CHA", "CHI", "CLE", "DAL", "DEN", "DET", "GSW", "HOU", "IND"];
const ZONE: &str = "America/New_York";

/// A graph of one node whose coverage counts games that are worked for until they begin, in New York.
fn counting() -> Graph {
    let mut node = source("p");
    node.expects.unit = Unit::Game;
    node.expects.before_tip = true;
    let mut graph = graph(vec![node]);
    graph.zone = TimeZone::get(ZONE).unwrap();
    graph
}

/// A date around one of the clock changes of 2026, or any other of a season.
fn any_date() -> impl Strategy<Value = Date> {
    prop_oneof![
        (0_i64..4).prop_map(|day| date(2026, 3, 7).saturating_add(day.days())),
        (0_i64..4).prop_map(|day| date(2026, 10, 31).saturating_add(day.days())),
        (0_i64..200).prop_map(|day| date(2025, 11, 1).saturating_add(day.days())),
    ]
}

/// Games of `date`: minutes after noon in New York, and how each stands.
fn games(date: Date, drawn: &[(i64, u8)]) -> BTreeMap<UnitId, Game> {
    let noon = TimeZone::get(ZONE).unwrap().to_timestamp(date.at(12, 0, 0, 0)).unwrap();
    let statuses =
        [GameStatus::Scheduled, GameStatus::Live, GameStatus::Final, GameStatus::Postponed, GameStatus::Moved];
    let game = |(index, (minutes, status)): (usize, &(i64, u8))| {
        let unit = format!("{}_{}_{}", date.strftime("%Y%m%d"), TEAMS[2 * index], TEAMS[2 * index + 1]);
        let tip = noon.saturating_add(SignedDuration::from_mins(*minutes)).ok();
        (UnitId::new(unit), Game { tip, status: statuses[usize::from(*status) % statuses.len()], id: None })
    };
    drawn.iter().enumerate().map(game).collect()
}

fn drawn() -> impl Strategy<Value = Vec<(i64, u8)>> {
    proptest::collection::vec((0_i64..780, 0_u8..5), 1..6)
}

fn anchor() -> impl Strategy<Value = Anchor> {
    let span = (-720_i64..720).prop_map(SignedDuration::from_mins);
    let clock = (-1_i32..2, 0_i8..24, 0_i8..60)
        .prop_map(|(days, hour, minute)| DayTime { days, time: Time::constant(hour, minute, 0, 0) });
    prop_oneof![span.clone().prop_map(Anchor::FirstTip), span.prop_map(Anchor::LastTip), clock.prop_map(Anchor::Clock)]
}

/// The date with its games, and what the warehouse saw of them: so many players of eight.
fn partition(date: Date, games: &BTreeMap<UnitId, Game>, seen: &[u32]) -> Partition {
    let mut partition = Partition::new(PartitionKey::new("laws", date));
    partition.schedule = Some(Schedule { at: Timestamp::MIN, games: games.clone(), emptied_at: None });
    let units = games.keys().zip(seen).map(|(unit, players)| (unit.clone(), Coverage::new(*players, 8).unwrap()));
    let mut facts = Facts::default();
    facts.evidence.observe(Timestamp::UNIX_EPOCH, Coverage::new(1, 2).unwrap(), units.collect());
    partition.nodes.insert("p".into(), facts);
    partition
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// What else a partition holds, and when it was last decided about, moves no deadline and hides no missing game.
    #[test]
    fn the_games_and_the_instant_alone_decide(
        date in any_date(), drawn in drawn(), anchors in proptest::collection::vec(anchor(), 0..4),
        seen in proptest::collection::vec(0_u32..10, 6), noise in any::<i32>(), hours in 0_i64..40,
    ) {
        let graph = counting();
        let games = games(date, &drawn);
        let plain = partition(date, &games, &seen);
        let mut noisy = plain.clone();
        let instant = Timestamp::from_second(1_700_000_000 + i64::from(noise) / 16).unwrap();
        noisy.decided_at = instant;
        noisy.heard_until = instant;
        let facts = noisy.nodes.get_mut("p").unwrap();
        facts.heard_at = Some(instant);
        facts.dispatches = 7;
        let noon = graph.zone.to_timestamp(date.at(12, 0, 0, 0)).unwrap();
        let at = noon.saturating_add(SignedDuration::from_hours(hours - 12)).unwrap();
        let node = &graph.nodes["p"];
        prop_assert_eq!(Timetable::of(&graph, &plain).anchored(&anchors), Timetable::of(&graph, &noisy).anchored(&anchors));
        prop_assert_eq!(deficits(&Timetable::of(&graph, &plain), &plain, node, at), deficits(&Timetable::of(&graph, &noisy), &noisy, node, at));
    }

    /// A clock deadline shows its own time on a clock in New York, on both sides of a clock change; one that is skipped comes
    /// an hour later, and each comes once.
    #[test]
    fn a_clock_deadline_is_that_time_in_the_pipelines_zone(date in any_date(), hour in 0_i8..24, days in -1_i32..2) {
        let graph = counting();
        let partition = partition(date, &games(date, &[(480, 0)]), &[8]);
        let clock = DayTime { days, time: Time::constant(hour, 30, 0, 0) };
        let due = Timetable::of(&graph, &partition).anchored(&[Anchor::Clock(clock)]).unwrap();
        let shown = graph.zone.to_datetime(due);
        prop_assert_eq!(shown.date(), date.saturating_add(i64::from(days).days()));
        let skipped = shown.hour() == hour + 1 && hour == 2;
        prop_assert!(shown.hour() == hour || skipped, "{} for {}:30", shown, hour);
    }

    /// Exactly the games that are played, are short and have not begun are missing, whatever the schedule was before.
    #[test]
    fn a_game_is_missing_while_it_is_played_and_ahead(
        date in any_date(), before in drawn(), after in drawn(), seen in proptest::collection::vec(0_u32..10, 6),
        hours in 0_i64..40,
    ) {
        let graph = counting();
        let (old, new) = (games(date, &before), games(date, &after));
        let mut partition = partition(date, &old, &seen);
        partition.schedule = Some(Schedule { at: Timestamp::UNIX_EPOCH, games: new.clone(), emptied_at: None });
        let noon = graph.zone.to_timestamp(date.at(12, 0, 0, 0)).unwrap();
        let at = noon.saturating_add(SignedDuration::from_hours(hours - 12)).unwrap();
        let found = deficits(&Timetable::of(&graph, &partition), &partition, &graph.nodes["p"], at);
        for (index, (unit, game)) in new.iter().enumerate() {
            let players = if old.contains_key(unit) { seen[index] } else { 0 };
            let missing = game.status.is_played() && !has_begun(game, at) && players < 8;
            prop_assert_eq!(found.contains_key(unit), missing, "{} at {}", unit, at);
        }
        prop_assert!(found.keys().all(|unit| new.contains_key(unit)));
    }
}

/// What an operator says of a game adds up until it is taken back, and taking it back leaves nothing of it.
#[test]
fn words_about_a_game_add_up_until_they_are_taken_back() {
    let graph = counting();
    let date = date(2026, 1, 23);
    let told = games(date, &[(480, 0), (540, 0)]);
    let noon = graph.zone.to_timestamp(date.at(12, 0, 0, 0)).unwrap();
    let at = |minutes| noon.saturating_add(SignedDuration::from_mins(minutes)).unwrap();
    let game = told.keys().next().unwrap();
    let request = |minutes, status, tip, until| {
        let command = Command::Override { game: game.clone(), status, tip, until };
        let id = RequestId::new(format!("r{minutes}"));
        Event::Requested(Request { id, actor: "ann".into(), reason: "snow".into(), at: at(minutes), command })
    };
    let says = |partition: &Partition, minutes, status, tip, until| {
        decide(&graph, partition, &[request(minutes, status, tip, until)], Now::caught_up(at(minutes))).unwrap().next
    };
    let next = says(&partition(date, &told, &[8, 8]), 0, Some(GameStatus::Postponed), None, at(600));
    let next = says(&next, 1, None, Some(at(300)), at(600));
    let listed = next.listed();
    assert_eq!((listed[game].status, listed[game].tip), (GameStatus::Postponed, Some(at(300))));
    assert_eq!((listed.len(), next.games().len()), (2, 1));
    let next = says(&next, 2, None, None, at(2));
    assert_eq!((next.listed(), next.overrides.len()), (told.clone(), 0));
    // Nor does what was taken back come again with the next word, though both are heard of at once.
    let words = [
        request(0, Some(GameStatus::Postponed), None, at(600)),
        request(1, None, None, at(1)),
        request(2, None, Some(at(300)), at(600)),
    ];
    let next = decide(&graph, &partition(date, &told, &[8, 8]), &words, Now::caught_up(at(3))).unwrap().next;
    assert_eq!((next.listed()[game].status, next.listed()[game].tip), (told[game].status, Some(at(300))));
}

#[test]
fn a_day_of_placeholders_begins_when_a_game_ever_does() {
    let (graph, date) = (counting(), date(2026, 1, 23));
    let calendar = Calendar { tip_earliest: Some(Time::constant(12, 30, 0, 0)), ..Calendar::default() };
    let minutes = |drawn: &[i64]| -> Vec<i64> {
        let drawn: Vec<(i64, u8)> = drawn.iter().map(|minute| (*minute, 0)).collect();
        let noon = graph.zone.to_timestamp(date.at(12, 0, 0, 0)).unwrap();
        let tips = tips(&calendar, &graph.zone, date, &games(date, &drawn));
        tips.into_iter().map(|tip| tip.duration_since(noon).as_mins()).collect()
    };
    assert_eq!(minutes(&[480, 420, 480]), [420, 480, 480], "these are told apart");
    assert_eq!(minutes(&[480, 480]), [480, 480], "two may begin at once");
    assert_eq!(minutes(&[480, 480, 480]), [30, 480, 480, 480]);
    assert_eq!(minutes(&[30, 30, 30]), [30, 30, 30]);
    assert_eq!(minutes(&[20, 20, 20]), [20, 20, 20]);
}

/// No game can be played outside of every season, or in a break; without seasons any day may have some.
#[test]
fn a_day_is_idle_outside_of_every_season_and_in_a_break() {
    let span =
        |name: &str, from, until| Span { name: name.into(), from: date(2026, 1, from), until: date(2026, 1, until) };
    let of = |seasons: Vec<Span>, breaks: Vec<Span>| Calendar { seasons, breaks, ..Calendar::default() };
    let season = of(vec![span("regular", 10, 20)], vec![span("all-star", 14, 15)]);
    let idle = |calendar: &Calendar, day| calendar.idle(date(2026, 1, day)).map(str::to_owned);
    let off = Some("off season".to_owned());
    let pause = Some("all-star".to_owned());
    let days = [9, 10, 13, 14, 15, 16, 20, 21].map(|day| idle(&season, day));
    assert_eq!(days, [off.clone(), None, None, pause.clone(), pause, None, None, off]);
    assert_eq!(idle(&of(vec![], vec![]), 9), None);
}

/// On a day without games nothing is due, by no clock either.
#[test]
fn on_a_day_without_games_nothing_is_due() {
    let mut day = partition(date(2026, 1, 22), &BTreeMap::new(), &[]);
    let clock = Anchor::Clock(DayTime { days: 0, time: Time::midnight() });
    assert_eq!(Timetable::of(&counting(), &day).anchored(&[clock]), None);
    day.schedule = None;
    assert_eq!(Timetable::of(&counting(), &day).anchored(&[clock]), None);
}

/// No team plays twice on a date, unless the other game is not played.
#[test]
fn a_game_that_nobody_knows_of_is_ruled_out_by_one_of_its_teams() {
    let (day, noon) = (date(2026, 1, 22), 0);
    let unit = |teams: &str| UnitId::new(format!("20260122_{teams}"));
    let mut partition = Partition::new(PartitionKey::new("laws", day));
    assert_eq!(partition.rules_out(&unit("ATL_BKN")), None, "no schedule is known");
    // The first is played, the second postponed.
    let games = games(day, &[(noon, 0), (noon, 3)]);
    partition.schedule = Some(Schedule { at: Timestamp::MIN, games, emptied_at: None });
    for (teams, other) in [
        ("ATL_BKN", None),
        ("BKN_ATL", Some("ATL_BKN")),
        ("DEN_BKN", Some("ATL_BKN")),
        ("ATL_DEN", Some("ATL_BKN")),
        ("DEN_GSW", None),
        ("CHA_BOS", None),
        ("nonsense", None),
    ] {
        assert_eq!(partition.rules_out(&unit(teams)), other.map(unit), "{teams}");
    }
}
