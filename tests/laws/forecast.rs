//! Laws of the forecast, for random graphs and random pasts.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tipoff::domain::calendar::Override;
use tipoff::domain::coverage::PerMille;
use tipoff::domain::event::{Completed, Event, Game, GameStatus, Outcome, Scheduled, Upstream};
use tipoff::domain::evidence::{Extant, Extent, Version};
use tipoff::domain::forecast::{Basis, Day, FORECAST_DAYS_MIN, Forecast, History, Late, Shortfall, forecast};
use tipoff::domain::graph::{Dependency, Gate, Graph, Kind, Node, Offset, Strength, Tier};
use tipoff::domain::id::NodeId;
use tipoff::domain::partition::{Partition, Starter, State};
use tipoff::domain::record::record;

use crate::facts::facts;
use crate::graphs::{DATE, any_graph, at, empty, graph, hard, minutes, source, start, task};

const CASES: u32 = 256;

/// What one day showed of one node: minutes after midnight, and minutes it took.
type Shown = (i64, i64);

/// Days that showed something of each of ten nodes.
fn pasts(days: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<Shown>>> {
    prop::collection::vec(prop::collection::vec((0_i64..1_400, 1_i64..90), 10), days)
}

fn history(graph: &Graph, pasts: &[Vec<Shown>]) -> History {
    let day = |shown: &Vec<Shown>| {
        let nodes = || graph.order.iter().zip(shown);
        Arc::new(Day {
            arrived: nodes().map(|(id, (arrived, _))| (id.clone(), minutes(*arrived))).collect(),
            took: nodes().map(|(id, (_, took))| (id.clone(), minutes(*took))).collect(),
            covered: BTreeMap::new(),
        })
    };
    History { days: pasts.iter().map(day).collect() }
}

fn sources(graph: &Graph) -> Vec<NodeId> {
    let is_source = |id: &&NodeId| matches!(graph.nodes[*id].kind, Kind::Source(_));
    graph.order.iter().filter(is_source).cloned().collect()
}

/// A date on which these sources have come, so many minutes after the start; nothing has been decided on it.
fn come(graph: &Graph, arrivals: &[(NodeId, i64)]) -> Partition {
    let mut partition = empty();
    for (node, minute) in arrivals {
        let completed = Completed {
            node: node.clone(),
            run: "r".into(),
            outcome: Outcome::Done(Extent::Whole),
            records: None,
            published: at(minute * 60),
            correlation: None,
            dispatch: None,
            unit: None,
            trace: None,
        };
        record(graph, &mut partition, &Event::Completed(completed));
    }
    partition
}

fn ready(forecast: &Forecast) -> BTreeMap<&NodeId, jiff::Timestamp> {
    forecast.nodes.iter().filter_map(|expected| Some((&expected.node, expected.ready_at?))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, rng_seed: RngSeed::Fixed(20260122), ..ProptestConfig::default() })]

    /// What is not there cannot have come before now; what few days show is not believed.
    #[test]
    fn nothing_that_is_ahead_lies_in_the_past(
        graph in any_graph(),
        pasts in pasts(0..9),
        come_by in prop::collection::vec(any::<bool>(), 10),
        minute in -600_i64..600,
    ) {
        let arrivals: Vec<_> = sources(&graph).into_iter().zip(&come_by).filter(|(_, come)| **come).collect();
        let arrivals: Vec<_> = arrivals.into_iter().map(|(id, _)| (id, minute)).collect();
        let partition = come(&graph, &arrivals);
        let now = at(minute * 60);
        let history = history(&graph, &pasts);
        let found = forecast(&graph, &partition, &history, now);
        for expected in found.nodes.iter().filter(|expected| !expected.is_ready) {
            prop_assert!(expected.ready_at.is_none_or(|ready| ready >= now), "{expected:?}");
            // A join of what is there opens by the clock, which needs no past.
            let is_join = matches!(graph.nodes[&expected.node].kind, Kind::Gate(_));
            let is_told = expected.ready_at.is_some() && !is_join;
            prop_assert!(!is_told || pasts.len() >= FORECAST_DAYS_MIN, "{expected:?}");
        }
        prop_assert_eq!(found, forecast(&graph, &partition, &history, now));
    }

    /// Whoever waits for something that comes later is not ready earlier.
    #[test]
    fn a_later_input_makes_nobody_earlier(
        graph in any_graph(),
        pasts in pasts(5..9),
        come_at in prop::collection::vec(prop::option::of(-400_i64..0), 10),
        late in any::<prop::sample::Index>(),
        by in 1_i64..300,
    ) {
        let sources = sources(&graph);
        let arrivals: Vec<_> = sources.iter().cloned().zip(&come_at).filter_map(|(id, at)| Some((id, (*at)?))).collect();
        let late = &sources[late.index(sources.len())];
        let rank = graph.order.iter().position(|id| id == late).expect("a source is in the order");
        let later_arrivals: Vec<_> = arrivals
            .iter()
            .map(|(id, minute)| (id.clone(), if id == late { (minute + by).min(0) } else { *minute }))
            .collect();
        let mut later_pasts = pasts.clone();
        later_pasts.iter_mut().for_each(|day| day[rank].0 += by);
        let soon = forecast(&graph, &come(&graph, &arrivals), &history(&graph, &pasts), start());
        let later = forecast(&graph, &come(&graph, &later_arrivals), &history(&graph, &later_pasts), start());
        let (soon, later) = (ready(&soon), ready(&later));
        for (node, ready) in &later {
            prop_assert!(soon.get(node).is_some_and(|soon| soon <= ready), "{node}: {:?}, then {ready}", soon.get(node));
        }
        prop_assert_eq!(soon.len(), later.len());
    }
}

/// A source, what is made of it, and a promise about that two hours before a game; five days alike.
fn promised() -> (Graph, History) {
    let mut promised = task("p", vec![hard("t")]);
    promised.expects.alert_before_tip = Some(minutes(120));
    let graph = graph(vec![source("s"), task("t", vec![hard("s")]), promised, task("x", vec![hard("p")])]);
    let day = Day {
        arrived: [("s", 720), ("t", 730), ("p", 750)].map(|(id, at)| (id.into(), minutes(at))).into(),
        took: [("t", 10), ("p", 20)].map(|(id, took)| (id.into(), minutes(took))).into(),
        covered: [("p".into(), vec![(minutes(750), share(700)), (minutes(770), PerMille::FULL)])].into(),
    };
    let day = Arc::new(day);
    (graph, History { days: vec![day; FORECAST_DAYS_MIN] })
}

fn share(thousandths: u16) -> PerMille {
    PerMille::new(thousandths).expect("below 1000")
}

/// The date of the laws with one game that tips off so many minutes after the start, noon.
fn game(graph: &Graph, tip: i64, arrivals: &[(NodeId, i64)]) -> Partition {
    let mut partition = come(graph, arrivals);
    let game = Game { tip: Some(at(tip * 60)), status: GameStatus::Scheduled, id: None };
    let told = Scheduled { games: [("20260122_LAL_BOS".into(), game)].into(), at: at(-3600) };
    record(graph, &mut partition, &Event::Scheduled(told));
    partition
}

#[test]
fn a_shortfall_is_foreseen_with_its_cause_once_the_time_left_is_used_up() {
    let (graph, history) = promised();
    // What is promised for 13:00 usually stands at 12:50; the source usually comes at noon.
    let day = game(&graph, 180, &[]);
    let promised = NodeId::from("p");
    for on_time in [0, 10] {
        assert_eq!(forecast(&graph, &day, &history, at(on_time * 60)).shortfall(&promised), None, "{on_time}");
    }
    let found = forecast(&graph, &day, &history, at(11 * 60));
    let short = found.shortfall(&promised).expect("11 minutes late, and 10 to spare");
    assert_eq!((short.deadline, short.expected, short.required), (at(3600), share(700), PerMille::FULL));
    let late = short.cause.as_ref().expect("the source is late");
    assert_eq!((late.node.as_str(), late.by, late.has_come), ("s", minutes(11), false));
    assert!(matches!(late.basis, Some(Basis::Arrival(usual)) if usual.days == 5 && usual.median == minutes(720)));
    let words = short.words(&promised, day.key.date, &graph.zone);
    let wanted = "13:00 will have 70 % of 100 % of p, because s is 11 minutes late (half of the last 5 game days had it \
                  between 12:00 and 12:00)";
    assert_eq!(words, wanted);
    // It stays so when the source has come, and is named as having come.
    let come = forecast(&graph, &game(&graph, 180, &[("s".into(), 11)]), &history, at(12 * 60));
    let late = come.shortfall(&promised).and_then(|short| short.cause).expect("the minutes are lost");
    assert_eq!((late.node.as_str(), late.by, late.has_come), ("s", minutes(11), true));
    // After the deadline nothing is foreseen any more.
    assert_eq!(forecast(&graph, &day, &history, at(3600)).shortfall(&promised), None);
}

#[test]
fn too_few_days_tell_nothing() {
    let (graph, mut history) = promised();
    history.days.pop();
    let found = forecast(&graph, &game(&graph, 180, &[]), &history, at(40 * 60));
    assert_eq!(found.shortfall(&"p".into()), None);
    assert!(found.nodes.iter().all(|expected| expected.ready_at.is_none()), "{found:?}");
    assert_eq!(found.deadlines[0].expected, None);
}

#[test]
fn a_clock_change_moves_no_clock_time() {
    let zone = jiff::tz::TimeZone::get("America/New_York").expect("the zone is built in");
    let noon = SignedDuration::from_hours(12);
    for (date, utc) in [((3, 7), 17), ((3, 8), 16), ((10, 31), 16), ((11, 1), 17)] {
        let date = jiff::civil::date(2026, date.0, date.1);
        let instant = tipoff::domain::forecast::at_clock(noon, date, &zone);
        assert_eq!(instant.strftime("%H").to_string(), utc.to_string(), "{date}");
        assert_eq!(tipoff::domain::forecast::clock_of(instant, date, &zone), noon);
    }
}

/// Days alike, on which these came so many minutes after midnight, and took so long.
fn alike(shown: &[(&str, i64, i64)]) -> History {
    let day = Day {
        arrived: shown.iter().map(|(id, arrived, _)| ((*id).into(), minutes(*arrived))).collect(),
        took: shown.iter().map(|(id, _, took)| ((*id).into(), minutes(*took))).collect(),
        covered: BTreeMap::new(),
    };
    History { days: std::iter::repeat_n(Arc::new(day), FORECAST_DAYS_MIN).collect() }
}

/// Minutes after midnight; the laws begin at noon.
fn expected(graph: &Graph, partition: &Partition, history: &History, id: &str, minute: i64) -> Option<i64> {
    let found = forecast(graph, partition, history, at((minute - 720) * 60));
    let ready_at = found.of(&id.into()).unwrap().ready_at?;
    Some(ready_at.duration_since(at(0)).as_secs() / 60 + 720)
}

#[test]
fn a_join_is_expected_by_the_first_tier_that_its_members_make() {
    let gate = |critical: &[&str], tiers: &[(u32, i64)]| {
        let quorum = tiers.iter().map(|(count, after)| Tier { count: *count, after: minutes(*after) }).collect();
        let kind = Kind::Gate(Gate { critical: critical.iter().map(|id| (*id).into()).collect(), quorum });
        Node { kind, probed: false, ..task("g", vec![hard("a"), hard("b"), hard("c")]) }
    };
    let of = |gate: Node, a: Node| graph(vec![a, source("b"), source("c"), gate]);
    let history = alike(&[("a", 400, 1), ("b", 800, 1), ("c", 900, 1)]);
    let opens = |critical: &[&str], tiers: &[(u32, i64)], a: Node| {
        expected(&of(gate(critical, tiers), a), &empty(), &history, "g", 300)
    };
    let all = [(3, 0)];
    assert_eq!(opens(&[], &all, source("a")), Some(900));
    assert_eq!(opens(&[], &[(3, 0), (2, 30)], source("a")), Some(800), "the second comes after the half hour");
    assert_eq!(opens(&[], &[(3, 0), (2, 450)], source("a")), Some(850));
    assert_eq!(opens(&["c"], &[(3, 0), (1, 30)], source("a")), Some(900), "never without c");
    assert_eq!(opens(&["a"], &[(3, 0), (1, 30)], source("a")), Some(430));
    assert_eq!(opens(&["nobody"], &all, source("a")), None);
    // The time of a tier counts from the first of its own pass.
    let before = Node { cycle: "same_day".into(), ..source("a") };
    assert_eq!(opens(&[], &[(3, 0), (2, 50)], before.clone()), Some(850));
    assert_eq!(opens(&[], &[(3, 0), (1, 150)], before), Some(950).min(Some(900)));
    // Once its members are there it has opened, and then it is as ready as they are.
    let graph = of(gate(&[], &[(3, 0), (2, 30)]), source("a"));
    let come = |minutes: &[(&str, i64)]| {
        let arrivals: Vec<(NodeId, i64)> = minutes.iter().map(|(id, minute)| ((*id).into(), minute - 720)).collect();
        come(&graph, &arrivals)
    };
    let two = come(&[("a", 730), ("b", 740)]);
    assert_eq!(expected(&graph, &two, &history, "g", 750), Some(760), "half an hour after the first");
    let is_ready = |partition: &Partition, minute: i64| {
        forecast(&graph, partition, &history, at((minute - 720) * 60)).of(&"g".into()).unwrap().is_ready
    };
    assert!(!is_ready(&two, 759) && is_ready(&two, 760));
    let three = come(&[("a", 730), ("b", 740), ("c", 745)]);
    assert!(is_ready(&three, 745));
    assert_eq!(expected(&graph, &three, &history, "g", 750), Some(745));
}

/// What is optional is waited for until its grace ends, or until a game comes too near, and no longer.
#[test]
fn what_is_optional_holds_a_forecast_up_as_long_as_its_grace() {
    let history = alike(&[("s", 730, 1), ("o", 800, 1), ("t", 0, 10)]);
    let ready = |grace: i64, before_tip: Option<i64>| {
        let mut waits =
            task("t", vec![hard("s"), Dependency { strength: Strength::Optional, grace: minutes(grace), ..hard("o") }]);
        waits.expects.start_before_tip = before_tip.map(minutes);
        let graph = graph(vec![source("s"), source("o"), waits]);
        // One game, an hour after noon.
        expected(&graph, &game(&graph, 60, &[]), &history, "t", 700)
    };
    assert_eq!(ready(0, None), Some(740));
    assert_eq!(ready(20, None), Some(760));
    assert_eq!(ready(200, None), Some(810), "it comes at 800");
    assert_eq!(ready(200, Some(15)), Some(775));
}

/// An output of the day before is there, or on its way.
#[test]
fn what_is_needed_of_the_day_before_counts_as_it_stands() {
    let graph = graph(vec![source("s"), task("t", vec![Dependency { offset: Offset::PreviousGameDay, ..hard("s") }])]);
    let history = alike(&[("s", 1_200, 1), ("t", 0, 10)]);
    let ready = |held: Option<(Extant, bool)>| {
        let mut partition = empty();
        let yesterday = partition.key.date.yesterday().unwrap();
        if let Some((extant, waived)) = held {
            let upstream = Upstream {
                date: yesterday,
                extant,
                version: Version::of(()),
                told_at: at(0),
                since: at(-60),
                renewing: false,
                waived,
                empty_days: 0,
            };
            partition.upstream.insert("s".into(), upstream);
        }
        expected(&graph, &partition, &history, "t", 60)
    };
    // It is expected in the evening before, which has passed.
    assert_eq!(ready(None), Some(70));
    let since = Some(720 - 1 + 10);
    assert_eq!(ready(Some((Extant::Claimed, false))), since);
    assert_eq!(ready(Some((Extant::Nothing, true))), since, "waived");
    assert_eq!(ready(Some((Extant::Nothing, false))), Some(70));
}

#[test]
fn a_shortfall_is_told_anew_where_its_deadline_or_its_cause_is_another() {
    let (graph, history) = promised();
    let late =
        |minute: i64| forecast(&graph, &game(&graph, 180, &[]), &history, at(minute * 60)).shortfall(&"p".into());
    let short = late(11).unwrap();
    let later = late(12).unwrap();
    assert!(short != later && short.is_like(&later), "a minute more is no news");
    assert!(!short.is_like(&Shortfall { deadline: at(0), ..later.clone() }));
    assert!(!short.is_like(&Shortfall { cause: None, ..later.clone() }));
    let cause = short.cause.clone().map(|late| Late { node: "t".into(), ..late });
    assert!(!short.is_like(&Shortfall { cause, ..later }));
    let none = Shortfall { cause: None, ..short };
    assert_eq!(
        none.words(&"p".into(), graph.date_at(at(0)), &graph.zone),
        "13:00 will have 70 % of 100 % of p, as always at that hour"
    );
}

/// What makes a node late is named, with what that is known from: the first that is late on the way to it.
#[test]
fn what_makes_a_node_late_is_named() {
    let of = |strength| {
        let needs = ["a", "b"].map(|id| Dependency { strength, grace: minutes(600), ..hard(id) });
        let needs = needs.into_iter().chain([hard("c")]).collect();
        graph(vec![source("a"), source("b"), source("c"), task("t", needs), task("u", vec![hard("t")])])
    };
    let history = alike(&[("a", 720, 1), ("b", 720, 1), ("c", 720, 1), ("t", 730, 10), ("u", 750, 20)]);
    // A task that began when its last input had come; or before that, so that it was late by itself.
    let because = |strength, come: [i64; 2], began: i64, id: &str| {
        let graph = of(strength);
        let mut date = come_at(&graph, &[("a", come[0]), ("b", come[1]), ("c", 0)]);
        let t = facts(&mut date, "t");
        t.state = State::Running { since: at(began * 60), inputs_at: at(began * 60), starter: Starter::Us };
        let found = forecast(&graph, &date, &history, at(began * 60));
        let late = found.of(&id.into()).unwrap().because.clone().unwrap();
        let basis = match late.basis {
            Some(Basis::Arrival(_)) => "arrival",
            Some(Basis::Duration(_)) => "duration",
            None => "nothing",
        };
        (late.node.to_string(), late.by, late.date, basis)
    };
    let found = |id: &str, by, basis| (id.to_owned(), minutes(by), DATE, basis);
    assert_eq!(because(Strength::Hard, [5, 40], 45, "t"), found("b", 40, "arrival"));
    assert_eq!(because(Strength::Hard, [40, 5], 45, "u"), found("a", 40, "arrival"));
    assert_eq!(because(Strength::Hard, [0, 0], 45, "u"), found("t", 45, "duration"));
    assert_eq!(because(Strength::Hard, [0, 40], 39, "u"), found("t", 39, "duration"), "it did not wait for that");
    assert_eq!(because(Strength::Hard, [0, 40], 40, "u"), found("b", 40, "arrival"));
    assert_eq!(because(Strength::Optional, [5, 40], 45, "t"), found("t", 45, "duration"), "it waits for nobody");
    // Of two that are as late the first is named.
    let graph = of(Strength::Hard);
    let late = forecast(&graph, &empty(), &history, at(600)).of(&"t".into()).unwrap().because.clone().unwrap();
    assert_eq!((late.node.as_str(), late.by), ("a", minutes(10)));
}

/// So many minutes after noon these have come.
fn come_at(graph: &Graph, come: &[(&str, i64)]) -> Partition {
    self::come(graph, &come.iter().map(|(id, minute)| ((*id).into(), *minute)).collect::<Vec<_>>())
}

/// What makes a node late may be of the last game day, which is not always the day before.
#[test]
fn what_makes_a_node_late_may_be_of_the_last_game_day() {
    let before = Dependency { offset: Offset::PreviousGameDay, ..hard("y") };
    let graph = graph(vec![task("y", vec![]), source("s"), task("t", vec![before, hard("s")])]);
    let history = alike(&[("y", 1_430, 10), ("s", 5, 1), ("t", 10, 10)]);
    let late = |held: Option<i8>| {
        let mut date = come_at(&graph, &[("s", -715)]);
        let upstream = |day| Upstream {
            date: jiff::civil::date(2026, 1, day),
            extant: Extant::Claimed,
            version: Version::of(()),
            told_at: at(0),
            since: at(-60),
            renewing: false,
            waived: false,
            empty_days: 0,
        };
        date.upstream = held.map(|day| ("y".into(), upstream(day))).into_iter().collect();
        let found = forecast(&graph, &date, &history, at(0));
        let late = found.of(&"t".into()).unwrap().because.clone().unwrap();
        (late.node.to_string(), late.date.day(), matches!(late.basis, Some(Basis::Arrival(_))))
    };
    assert_eq!(late(Some(21)), ("y".to_owned(), 21, true));
    assert_eq!(late(Some(19)), ("y".to_owned(), 19, true));
    assert_eq!(late(None), ("y".to_owned(), 21, true));
}

/// What is usual is usual for the games of that date, also as operators know them.
#[test]
fn what_is_usual_hangs_on_the_games_of_the_date() {
    let history = alike(&[("s", 730, 1), ("o", 900, 1), ("t", 0, 10)]);
    let mut waits =
        task("t", vec![hard("s"), Dependency { strength: Strength::Optional, grace: minutes(200), ..hard("o") }]);
    waits.expects.start_before_tip = Some(minutes(15));
    let graph = graph(vec![source("s"), source("o"), waits]);
    let usual = |date: &Partition| {
        let found = forecast(&graph, date, &history, at(-1_200));
        let t = found.of(&"t".into()).unwrap();
        assert_eq!(t.ready_at, t.usual_at, "nothing is late yet");
        t.usual_at.unwrap().duration_since(at(0)).as_secs() / 60 + 720
    };
    let mut date = game(&graph, 60, &[]);
    assert_eq!(usual(&date), 775);
    let word = Override {
        actor: "ann".into(),
        reason: "law".into(),
        at: at(0),
        until: at(99_999),
        status: None,
        tip: Some(at(90 * 60)),
    };
    date.overrides = [("20260122_LAL_BOS".into(), word)].into();
    assert_eq!(usual(&date), 805, "it begins half an hour later");
}

/// What a deadline will show is told where both what is expected today and what is usual can be.
#[test]
fn a_deadline_is_told_where_today_and_the_usual_can_be() {
    let (graph, history) = promised();
    let expected = |alter: &dyn Fn(&mut Partition)| {
        let mut day = game(&graph, 180, &[]);
        alter(&mut day);
        forecast(&graph, &day, &history, at(0)).deadlines[0].expected
    };
    assert_eq!(expected(&|_| {}), Some(PerMille::FULL));
    let spent = |day: &mut Partition| facts(day, "p").state = State::Exhausted { at: at(0) };
    assert_eq!(expected(&spent), None, "it will not come by itself");
    let whole = |day: &mut Partition| {
        spent(day);
        facts(day, "p").evidence.claim(crate::facts::claim(0));
    };
    assert_eq!(expected(&whole), Some(PerMille::FULL), "it is there");
    // Where all games are said to begin at once, the earliest that one ever does counts.
    let mut three = graph.clone();
    three.calendar.tip_earliest = Some(jiff::civil::Time::constant(14, 0, 0, 0));
    let mut day = game(&graph, 480, &[]);
    let known = day.schedule.as_ref().unwrap().games["20260122_LAL_BOS"].clone();
    for unit in ["20260122_BOS_NYK", "20260122_MIA_ORL"] {
        day.schedule.as_mut().unwrap().games.insert(unit.into(), known.clone());
    }
    let ats = |graph: &Graph| {
        forecast(graph, &day, &history, at(-7_200)).deadlines.iter().map(|of| of.at).collect::<Vec<_>>()
    };
    assert_eq!((ats(&three), ats(&graph)), (vec![at(0)], vec![at(6 * 3_600)]));
}
