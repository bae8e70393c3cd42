//! How much of an output is there, counted in the games of its date, and which games are short of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tipoff::domain::calendar::Schedule;
use tipoff::domain::coverage::Coverage;
use tipoff::domain::event::{Game, GameStatus};
use tipoff::domain::evidence::{Claim, Evidence, Extant, Extent};
use tipoff::domain::graph::{Graph, Node, Unit};
use tipoff::domain::id::UnitId;
use tipoff::domain::partition::{End, Ended, Node as Facts, Partition};
use tipoff::domain::timetable::Timetable;
use tipoff::domain::units::{Deficit, came_since, deficits, extant, is_short};

use crate::graphs::{at, empty, graph, hard, source, task};

/// The games of the date, and what the schedule itself calls each.
const GAMES: [(&str, &str); 3] = [("20260122_BOS_NYK", "g0"), ("20260122_LAL_GSW", "g1"), ("20260122_MIA_ORL", "g2")];

/// A date with so many of the games.
fn date(games: usize) -> Partition {
    let game = |id: &str| Game { tip: Some(at(7_200)), status: GameStatus::Scheduled, id: Some(id.into()) };
    let games = GAMES[..games].iter().map(|(unit, id)| (UnitId::from(*unit), game(id))).collect();
    let mut date = empty();
    date.schedule = Some(Schedule { at: at(0), games, emptied_at: None });
    date
}

fn facts<'p>(date: &'p mut Partition, id: &str) -> &'p mut Facts {
    date.nodes.entry(id.into()).or_default()
}

fn coverage(observed: u32, expected: u32) -> Coverage {
    Coverage::new(observed, expected).unwrap()
}

fn with(unit: Unit, records_min: u32) -> Graph {
    let mut counted = source("s");
    counted.expects.unit = unit;
    counted.expects.records_min = records_min;
    let counts = |node: Node| {
        let mut node = node;
        node.expects.unit = unit;
        node
    };
    graph(vec![counted, counts(task("t", vec![hard("s")]))])
}

/// What the warehouse counted of each unit.
fn seen(second: i64, units: &[(&str, Coverage)]) -> Evidence {
    let mut evidence = Evidence::default();
    let units: BTreeMap<UnitId, Coverage> = units.iter().map(|(unit, coverage)| ((*unit).into(), *coverage)).collect();
    evidence.observe(at(second), coverage(1, 2), units);
    evidence
}

#[test]
fn a_success_with_fewer_rows_than_the_games_make_is_a_part() {
    let graph = with(Unit::Any, 30);
    let of_rows = |games: usize, records, extent| {
        let mut date = date(games);
        let claim = Claim { run: "r".into(), published: at(0), records, extent, correlation: None, trace: None };
        facts(&mut date, "s").evidence.claim(claim);
        extant(&Timetable::of(&graph, &date), &date, &graph.nodes["s"])
    };
    let half = Extent::Share(coverage(1, 2));
    for (games, records, extent, there) in [
        (2, Some(59), Extent::Whole, Extant::Known(coverage(59, 60))),
        (2, Some(0), Extent::Whole, Extant::Known(coverage(0, 60))),
        (2, Some(60), Extent::Whole, Extant::Claimed),
        (2, Some(61), Extent::Whole, Extant::Claimed),
        (3, Some(61), Extent::Whole, Extant::Known(coverage(61, 90))),
        (2, None, Extent::Whole, Extant::Claimed),
        // A run that says itself how much it brought is believed.
        (2, Some(59), half, Extant::Known(coverage(1, 2))),
        (2, Some(59), Extent::Unknown, Extant::Unknown),
    ] {
        assert_eq!(of_rows(games, records, extent), there, "{records:?} of {games}");
    }
}

/// Each game counts alike, whatever is counted of it, and one that is short counts for its part.
#[test]
fn a_share_is_of_the_games_that_are_played() {
    let graph = with(Unit::Game, 0);
    let (first, second, third) = (GAMES[0].0, GAMES[1].1, GAMES[2].0);
    for (units, there, short) in [
        (
            vec![(first, coverage(4, 4)), (second, coverage(1, 2)), (third, coverage(3, 4))],
            (9, 12),
            vec![(1, 1, 2), (2, 3, 4)],
        ),
        (vec![(first, coverage(4, 4)), (second, coverage(2, 2)), (third, coverage(0, 4))], (2, 3), vec![(2, 0, 0)]),
        (vec![(first, coverage(4, 4))], (1, 3), vec![(1, 0, 0), (2, 0, 0)]),
        (vec![(first, coverage(1, 3)), ("elsewhere", coverage(3, 3))], (1, 9), vec![(0, 1, 3), (1, 0, 0), (2, 0, 0)]),
    ] {
        let mut date = date(3);
        facts(&mut date, "s").evidence = seen(0, &units);
        let node = &graph.nodes["s"];
        assert_eq!(
            extant(&Timetable::of(&graph, &date), &date, node),
            Extant::Known(coverage(there.0, there.1)),
            "{units:?}"
        );
        let deficit = |observed, expected| match expected {
            0 => Deficit::Nothing,
            _ => Deficit::Part(coverage(observed, expected)),
        };
        let short: BTreeMap<UnitId, Deficit> =
            short.into_iter().map(|(nth, is, of): (usize, u32, u32)| (GAMES[nth].0.into(), deficit(is, of))).collect();
        assert_eq!(deficits(&Timetable::of(&graph, &date), &date, node, at(0)), short, "{units:?}");
        for (unit, _) in GAMES {
            assert_eq!(is_short(&Timetable::of(&graph, &date), &date, node, &unit.into()), short.contains_key(unit));
        }
    }
}

/// What came into a source since an instant is the games that its loads told of; where a load told of none, or of one that was
/// there before, it may be any.
#[test]
fn the_games_that_came_since_are_told_where_each_load_names_one_that_is_new() {
    let graph = with(Unit::Game, 0);
    let built = 100;
    let base = || {
        let mut date = date(3);
        let facts = facts(&mut date, "s");
        let parts = [(GAMES[0].0, 50), (GAMES[1].1, 150), ("elsewhere", 160)];
        for (unit, second) in parts {
            facts.evidence.part(&unit.into(), at(second));
        }
        let ended = parts.map(|(unit, second)| (unit.into(), Ended { at: at(second), how: End::Done }));
        facts.ended = Arc::new(ended.into());
        date
    };
    let came = |date: &Partition| {
        came_since(&Timetable::of(&graph, date), date, (&graph.nodes["s"], &graph.nodes["t"]), at(built))
            .map(|units| units.iter().map(ToString::to_string).collect::<BTreeSet<_>>())
    };
    let games = |nths: &[usize]| Some(nths.iter().map(|nth| GAMES[*nth].0.to_owned()).collect::<BTreeSet<_>>());
    assert_eq!(came(&date(3)), None, "nothing is known of the source");
    assert_eq!(came(&base()), games(&[1]), "by the name it has here");
    for (second, how, then) in [
        (170, End::Done, None),
        (170, End::Failed, games(&[1])),
        (150, End::Done, games(&[1])),
        (built, End::Done, games(&[1])),
        (40, End::Done, games(&[1])),
    ] {
        let mut date = base();
        Arc::make_mut(&mut facts(&mut date, "s").ended).insert("more".into(), Ended { at: at(second), how });
        assert_eq!(came(&date), then, "{how:?} at {second}");
    }
    let mut old = base();
    facts(&mut old, "s").evidence.part(&GAMES[2].0.into(), at(built));
    assert_eq!(came(&old), games(&[1]), "what was told of at that instant was there");
    // Where the warehouse has counted more since, it may be any game of which the dependent has not all.
    for (second, nths) in [(built - 1, vec![1]), (built, vec![1]), (built + 1, vec![0, 1, 2])] {
        let mut counted = base();
        facts(&mut counted, "s").evidence.observe(at(second), coverage(1, 2), BTreeMap::new());
        assert_eq!(came(&counted), games(&nths), "counted at {second}");
        facts(&mut counted, "t").evidence = seen(0, &[(GAMES[0].0, coverage(1, 1)), (GAMES[2].0, coverage(1, 2))]);
        let nths: Vec<usize> = nths.into_iter().filter(|nth| *nth != 0).collect();
        assert_eq!(came(&counted), games(&nths), "counted at {second}, t has the first");
    }
}

/// Games that are told apart by nobody are known in sum only.
#[test]
fn what_is_counted_in_sum_is_known_in_sum() {
    let graph = with(Unit::Game, 0);
    let node = &graph.nodes["s"];
    let mut summed = date(3);
    facts(&mut summed, "s").evidence = seen(0, &[]);
    assert_eq!(extant(&Timetable::of(&graph, &summed), &summed, node), Extant::Known(coverage(1, 2)));
    assert_eq!(deficits(&Timetable::of(&graph, &summed), &summed, node, at(0)), BTreeMap::new());
    // What messages told of since is the games that they named, beside those that were counted whole.
    let mut parts = date(3);
    let s = facts(&mut parts, "s");
    s.evidence = seen(0, &[(GAMES[2].0, coverage(1, 1)), (GAMES[1].0, coverage(1, 2))]);
    let claim = Claim {
        run: "r".into(),
        published: at(5),
        records: None,
        extent: Extent::Whole,
        correlation: None,
        trace: None,
    };
    s.evidence.claim(claim.clone());
    assert_eq!(extant(&Timetable::of(&graph, &parts), &parts, node), Extant::Claimed, "no message named a game");
    facts(&mut parts, "s").evidence.part(&GAMES[0].0.into(), at(5));
    assert_eq!(extant(&Timetable::of(&graph, &parts), &parts, node), Extant::Known(coverage(2, 3)));
}
