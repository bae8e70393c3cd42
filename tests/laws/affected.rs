//! Which games a run is about, where it is not about all.

use std::sync::Arc;

use jiff::Timestamp;
use tipoff::domain::calendar::Schedule;
use tipoff::domain::coverage::PerMille;
use tipoff::domain::effect::{Cause, Effect};
use tipoff::domain::event::{Game, GameStatus, Upstream};
use tipoff::domain::evidence::{Claim, Extant, Version};
use tipoff::domain::graph::{Dependency, Gate, Graph, Kind, Node, Offset, Refresh, Tier, Unit};
use tipoff::domain::id::UnitId;
use tipoff::domain::partition::{End, Ended, Partition, State};

use crate::facts::{claim, facts, of_ten};
use crate::graphs::{DATE, at, empty, graph, hard, minutes, source, task};
use crate::walk::{seen, walk};

const GAMES: [&str; 3] = ["20260122_BOS_NYK", "20260122_LAL_GSW", "20260122_MIA_ORL"];
/// The minute at which what `t` was made of was known.
const BUILT: i64 = 10;
/// The minute at which every law looks.
const LOOK: i64 = 120;

fn of_games(mut node: Node) -> Node {
    node.expects.unit = Unit::Game;
    node
}

/// A date of three games, of which the first so many have begun.
fn date(begun: usize) -> Partition {
    let game = |nth: usize| {
        let status = if nth < begun { GameStatus::Live } else { GameStatus::Scheduled };
        Game { tip: Some(at(8 * 3_600)), status, id: None }
    };
    let games = GAMES.iter().enumerate().map(|(nth, unit)| (UnitId::from(*unit), game(nth))).collect();
    let mut date = empty();
    date.schedule = Some(Schedule { at: at(0), games, emptied_at: None });
    made(&mut date, "t", &[(BUILT, End::Done)]);
    date
}

/// A task that has been made at these minutes, of what was there by then, or has failed.
fn made(date: &mut Partition, id: &str, ends: &[(i64, End)]) {
    let node = facts(date, id);
    let ended = ends
        .iter()
        .map(|(minute, how)| (format!("{id}{minute}").as_str().into(), Ended { at: time(*minute), how: *how }));
    node.ended = Arc::new(ended.collect());
    let last = ends.iter().filter(|(_, how)| *how == End::Done).map(|(minute, _)| *minute).max().unwrap();
    node.state = State::Succeeded { at: time(last) };
    node.built_from = Some(time(last));
    node.evidence.claim(Claim { run: format!("{id}{last}").as_str().into(), ..claim(last * 60) });
}

/// A load of one game.
fn load(date: &mut Partition, id: &str, nth: usize, minute: i64) {
    let node = facts(date, id);
    let run = format!("{id}{minute}");
    node.evidence.part(&GAMES[nth].into(), time(minute));
    node.evidence.claim(Claim { run: run.as_str().into(), ..claim(minute * 60) });
    Arc::make_mut(&mut node.ended).insert(run.as_str().into(), Ended { at: time(minute), how: End::Done });
}

fn time(minute: i64) -> Timestamp {
    at(minute * 60)
}

/// Why `t` is dispatched, and which games for; none stands for all.
fn dispatched(graph: &Graph, date: &Partition) -> Option<(Cause, Vec<usize>)> {
    let (_, plan) = walk(graph, date, LOOK);
    plan.effects.into_iter().find_map(|effect| match effect {
        Effect::Dispatch(dispatch) if dispatch.node.as_str() == "t" => {
            let nth = |unit: &UnitId| GAMES.iter().position(|game| *game == unit.as_str()).unwrap();
            Some((dispatch.manifest.cause, dispatch.manifest.units.iter().map(nth).collect()))
        }
        _ => None,
    })
}

/// An edge that takes whatever is there of its input.
fn some(id: &str) -> Dependency {
    Dependency { coverage_min: PerMille::NONE, ..hard(id) }
}

fn newer(games: &[usize]) -> Option<(Cause, Vec<usize>)> {
    Some((Cause::InputsNewer, games.to_vec()))
}

/// Where each game is a part by itself, a new run is about those that have come, and else about all.
#[test]
fn a_run_for_newer_inputs_is_about_the_games_that_have_come() {
    let of = graph(vec![of_games(source("s")), of_games(task("t", vec![some("s")]))]);
    let mut come = date(0);
    load(&mut come, "s", 0, 5);
    assert_eq!(dispatched(&of, &come), None, "nothing has come since");
    load(&mut come, "s", 1, 30);
    assert_eq!(dispatched(&of, &come), newer(&[1]));
    load(&mut come, "s", 2, 31);
    assert_eq!(dispatched(&of, &come), newer(&[1, 2]));
    let by_itself = graph(vec![of_games(source("s")), task("t", vec![some("s")])]);
    assert_eq!(dispatched(&by_itself, &come), newer(&[]), "its output is no matter of games");
    // A load that names no game may have changed any.
    Arc::make_mut(&mut facts(&mut come, "s").ended).insert("all".into(), Ended { at: time(32), how: End::Done });
    assert_eq!(dispatched(&of, &come), newer(&[]));
}

/// What an input brings that is no reason for a new run is no reason to be in one either.
#[test]
fn games_of_an_input_that_starts_no_run_are_not_in_one() {
    let quiet = Dependency { refresh: Refresh::Never, ..some("q") };
    let of = graph(vec![of_games(source("q")), of_games(source("s")), of_games(task("t", vec![quiet, some("s")]))]);
    let mut come = date(0);
    load(&mut come, "q", 0, 30);
    load(&mut come, "s", 1, 30);
    assert_eq!(dispatched(&of, &come), newer(&[1]));
}

/// Games are followed through joins to what has brought them, and through tasks that were made before.
#[test]
fn the_games_that_have_come_are_found_behind_joins_and_tasks() {
    let quorum = vec![Tier { count: 1, after: minutes(0) }];
    let kind = Kind::Gate(Gate { critical: [].into(), quorum });
    let join = Node { kind, needs: vec![some("s")], probed: false, ..source("join") };
    let of = graph(vec![of_games(source("s")), join, of_games(task("t", vec![some("join")]))]);
    let mut come = date(0);
    load(&mut come, "s", 0, 5);
    load(&mut come, "s", 1, 30);
    assert_eq!(dispatched(&of, &come), newer(&[1]));

    let between =
        graph(vec![of_games(source("s")), of_games(task("u", vec![some("s")])), of_games(task("t", vec![some("u")]))]);
    // How `u` ended and when, and which game `t` is made for.
    for (ends, games) in [
        ([(8, End::Done), (40, End::Done)].as_slice(), [1].as_slice()),
        (&[(BUILT, End::Done), (40, End::Done)], &[1]),
        (&[(BUILT + 1, End::Done), (40, End::Done)], &[]),
        (&[(8, End::Failed), (40, End::Done)], &[]),
        (&[(40, End::Done)], &[]),
    ] {
        let mut come = come.clone();
        made(&mut come, "u", ends);
        assert_eq!(dispatched(&between, &come), newer(games), "{ends:?}");
    }
    // What was made anew of the same inputs may be other in any game.
    let mut same = date(0);
    load(&mut same, "s", 0, 5);
    made(&mut same, "u", &[(8, End::Done), (40, End::Done)]);
    assert_eq!(dispatched(&between, &same), newer(&[]));
}

/// An output was made of what was known by an instant, that instant included.
#[test]
fn what_came_in_the_instant_of_the_last_run_is_not_newer() {
    let before = Dependency { offset: Offset::PreviousGameDay, ..some("y") };
    let of = graph(vec![
        of_games(source("y")),
        of_games(task("u", vec![])),
        of_games(source("s")),
        of_games(task("t", vec![before, some("u"), some("s")])),
    ]);
    for (yesterday, made_at, games) in
        [(BUILT - 1, 5, [1].as_slice()), (BUILT, 5, &[1]), (BUILT + 1, 5, &[]), (5, BUILT, &[1]), (5, BUILT + 1, &[])]
    {
        let mut come = date(0);
        load(&mut come, "s", 1, 30);
        made(&mut come, "u", &[(made_at, End::Done)]);
        let told = Upstream {
            date: DATE.yesterday().unwrap(),
            extant: Extant::Claimed,
            version: Version::of(()),
            told_at: at(0),
            since: time(yesterday),
            renewing: false,
            waived: false,
            empty_days: 0,
        };
        come.upstream = [("y".into(), told)].into();
        assert_eq!(dispatched(&of, &come), newer(games), "yesterday's at {yesterday}, the other at {made_at}");
    }
}

/// What nobody needs after tip-off is made for the games that have not begun.
#[test]
fn what_is_needed_before_tip_is_made_for_the_games_ahead() {
    let with = |before_tip| {
        let mut t = task("t", vec![some("s")]);
        t.expects.before_tip = before_tip;
        graph(vec![source("s"), t])
    };
    for (before_tip, begun, games) in
        [(true, 0, [].as_slice()), (true, 1, &[1, 2]), (true, 2, &[2]), (false, 1, &[]), (false, 0, &[])]
    {
        let mut come = date(begun);
        load(&mut come, "s", 1, 30);
        assert_eq!(dispatched(&with(before_tip), &come), newer(games), "{before_tip} {begun}");
    }
}

/// Less than is needed is made anew once: for the games that are short where they are known and matter by themselves, and else
/// for all.
#[test]
fn what_is_short_is_made_anew_for_the_games_that_are_short() {
    let with = |before_tip, unit, records_min| {
        let mut t = task("t", vec![]);
        (t.expects.before_tip, t.expects.unit, t.expects.records_min) = (before_tip, unit, records_min);
        graph(vec![t, task("u", vec![hard("t")])])
    };
    let counted = |units: &[(&str, u32)], tenths| {
        let mut date = date(0);
        facts(&mut date, "t").evidence = seen(BUILT, tenths, units);
        date
    };
    let short = |games: &[usize]| Some((Cause::CoverageShort, games.to_vec()));
    let one = [(GAMES[0], 10), (GAMES[1], 5), (GAMES[2], 10)];
    let whole = GAMES.map(|game| (game, 10));
    assert_eq!(dispatched(&with(true, Unit::Game, 0), &counted(&one, 9)), short(&[1]));
    assert_eq!(dispatched(&with(false, Unit::Game, 0), &counted(&one, 9)), short(&[]));
    assert_eq!(dispatched(&with(true, Unit::Game, 0), &counted(&whole, 10)), None);
    assert_eq!(dispatched(&with(false, Unit::Any, 0), &counted(&[], 9)), short(&[]), "counted in sum");
    // A success with too few rows is short without being counted; a share that its run told of is its own affair.
    let mut few = date(0);
    facts(&mut few, "t").evidence.claim.as_mut().unwrap().records = Some(5);
    assert_eq!(dispatched(&with(false, Unit::Any, 30), &few), short(&[]));
    assert_eq!(dispatched(&with(false, Unit::Any, 0), &few), None);
    let mut part = date(0);
    let share = tipoff::domain::evidence::Extent::Share(of_ten(5));
    facts(&mut part, "t").evidence.claim.as_mut().unwrap().extent = share;
    assert_eq!(dispatched(&with(false, Unit::Any, 0), &part), None);
    // It has been made for all that there is, so once more brings no more.
    let (after, _) = walk(&with(true, Unit::Game, 0), &counted(&one, 9), LOOK);
    let mut again = after.clone();
    let t = facts(&mut again, "t");
    t.state = State::Succeeded { at: time(LOOK) };
    assert_eq!(dispatched(&with(true, Unit::Game, 0), &again), None);
}
