//! Whether what a node needs is there, and if not, what stands in its way.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};
use tipoff::domain::calendar::{Schedule, Span};
use tipoff::domain::coverage::PerMille;
use tipoff::domain::effect::Cause;
use tipoff::domain::event::{CheckAnswer, EdgeRule, Game, GameStatus, Upstream};
use tipoff::domain::evidence::{Claim, Evidence, Extant, Version};
use tipoff::domain::graph::{
    Check, Cycle, DayTime, Dependency, Gate, Graph, Kind, Node, Offset, Refresh, Strength, Tier, Unanswered,
};
use tipoff::domain::id::{Attempt, NodeId};
use tipoff::domain::partition::{CheckTaken, EdgeWord, Hold, LastDispatch, Partition, State, Wish};
use tipoff::domain::readiness::{
    Blocker, Join, Readiness, Standing, Standings, checks, circumstances, dependencies, is_settled, join, stand,
    unverified,
};
use tipoff::domain::time::Now;
use tipoff::domain::timetable::Timetable;
use tipoff::domain::trace::TraceContext;

use crate::facts::{self, facts, of_ten};
use crate::graphs::{DATE, at, empty, graph, hard, minutes, source, start, task};

fn now(minute: i64) -> Now {
    Now::caught_up(at(minute * 60))
}

fn claim(minute: i64, correlation: Option<&str>) -> Claim {
    Claim { correlation: correlation.map(Into::into), ..facts::claim(minute * 60) }
}

fn claimed(minute: i64) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.claim(claim(minute, None));
    evidence
}

fn seen(minute: i64, tenths: u32) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.observe(at(minute * 60), of_ten(tenths), BTreeMap::new());
    evidence
}

/// The standings of every node but the last, which nothing makes anew.
fn standings(graph: &Graph, date: &Partition, now: Now) -> Standings {
    let (times, mut all) = (Timetable::of(graph, date), Standings::new());
    for id in &graph.order[..graph.order.len() - 1] {
        let node = &graph.nodes[id];
        let standing = match &node.kind {
            Kind::Gate(gate) => join(&times, date, node, gate, &all, now),
            Kind::Source(_) | Kind::Task(_) => stand(&times, date, node, false, false, now),
        };
        all.insert(id.clone(), standing);
    }
    all
}

/// The dependencies of the last node.
fn found(graph: &Graph, date: &Partition, now: Now) -> Readiness {
    let last = graph.order.last().unwrap();
    dependencies(&Timetable::of(graph, date), date, &graph.nodes[last], &standings(graph, date, now), now)
}

fn scheduled(tip: Option<Timestamp>, status: GameStatus) -> Schedule {
    let games = BTreeMap::from([("20260122_BOS_NYK".into(), Game { tip, status, id: None })]);
    Schedule { at: at(0), games, emptied_at: None }
}

/// A join of three that opens when all have come, or two after half an hour.
fn joined(critical: &[&str], quorum: &[(u32, i64)]) -> (Graph, Node, Gate) {
    let quorum = quorum.iter().map(|(count, after)| Tier { count: *count, after: minutes(*after) }).collect();
    let gate = Gate { critical: critical.iter().map(|id| NodeId::from(*id)).collect(), quorum };
    let needs = ["a", "b", "c"].map(hard).into();
    let node = Node { kind: Kind::Gate(gate.clone()), needs, probed: false, ..source("join") };
    (graph(vec![source("a"), source("b"), source("c"), node.clone()]), node, gate)
}

fn join_of((graph, node, gate): &(Graph, Node, Gate), date: &Partition, minute: i64) -> (Standing, Join) {
    let standing =
        join(&Timetable::of(graph, date), date, node, gate, &standings(graph, date, now(minute)), now(minute));
    let join = standing.join.clone().unwrap();
    (standing, join)
}

#[test]
fn a_join_opens_by_its_tiers_and_says_which_is_next() {
    let of = joined(&["c"], &[(3, 0), (2, 30)]);
    let (standing, none) = join_of(&of, &empty(), 0);
    assert!(!none.begun && !none.has_any() && !none.open && !none.last_tier_over);
    assert_eq!((none.first, none.next, standing.extant), (None, None, Extant::Nothing));
    // Who has come, when it is looked at, whether it is open, on a later tier than the first, and beyond its last; and what is next.
    let tier = |count, minute: i64| Some((count, at(minute * 60)));
    for (come, minute, (open, relaxed, last_tier_over), next) in [
        ("a", 29, (false, false, false), tier(2, 30)),
        ("a", 30, (false, false, true), None),
        ("ab", 29, (false, false, false), None),
        ("ab", 30, (false, false, true), None),
        ("ac", 29, (false, false, false), tier(2, 30)),
        ("ac", 30, (true, true, true), None),
        ("abc", 29, (true, false, false), tier(2, 30)),
        ("abc", 31, (true, false, true), None),
    ] {
        let mut date = empty();
        for id in come.chars() {
            facts(&mut date, &id.to_string()).evidence = claimed(0);
        }
        let (standing, join) = join_of(&of, &date, minute);
        assert_eq!((join.open, join.relaxed, join.last_tier_over), (open, relaxed, last_tier_over), "{come} {minute}");
        assert_eq!((join.next, join.first), (next, Some(at(0))), "{come} {minute}");
        assert!(join.begun && join.has_any());
        assert_eq!(standing.extant != Extant::Nothing, open);
    }
    // A join that opens at once or not at all has no tier whose time could be over.
    let mut date = empty();
    facts(&mut date, "a").evidence = claimed(0);
    let (_, join) = join_of(&joined(&[], &[(3, 0)]), &date, 60);
    assert!(!join.last_tier_over);
}

/// A member that an operator has the join go on without counts as come; one of which too little or something unknown is there
/// has begun it, and does not count.
#[test]
fn what_an_operator_waives_counts_and_what_falls_short_has_begun() {
    let of = joined(&[], &[(1, 0)]);
    let mut waived = empty();
    facts(&mut waived, "a").state = State::Skipped { at: at(0), reason: "law".into() };
    let (_, join) = join_of(&of, &waived, 1);
    assert!(join.begun && join.has_any() && join.open);
    assert_eq!((join.good, join.waived, join.first), (0, ["a".into()].into(), Some(at(0))));
    // Where no game is played nothing is required of anybody, and nobody waived it.
    waived.schedule = Some(scheduled(None, GameStatus::Postponed));
    let (_, join) = join_of(&of, &waived, 1);
    assert!(!join.begun && !join.has_any() && !join.open);
    for evidence in [seen(0, 9), Evidence { unanswered: Some(at(0)), ..Evidence::default() }] {
        let mut short = empty();
        facts(&mut short, "a").evidence = evidence;
        let (_, join) = join_of(&of, &short, 1);
        assert!(join.begun && !join.has_any() && !join.open);
    }
    // A node behind the join has its work before it as soon as that has begun.
    let (graph, node, _) = &of;
    let behind = crate::graphs::graph(
        [
            graph.nodes.values().filter(|n| n.id != node.id).cloned().collect(),
            vec![node.clone(), task("t", vec![hard("join")])],
        ]
        .concat(),
    );
    let mut short = empty();
    assert!(!found(&behind, &short, now(1)).engaged);
    facts(&mut short, "a").evidence = seen(0, 9);
    assert!(found(&behind, &short, now(1)).engaged);
}

#[test]
fn tiers_count_from_the_first_member_of_the_same_pass() {
    let (mut graph, node, gate) = joined(&[], &[(3, 0), (2, 30)]);
    let mut date = empty();
    facts(&mut date, "a").evidence = claimed(0);
    facts(&mut date, "b").evidence = claimed(40);
    facts(&mut date, "c").evidence = seen(50, 5);
    let first = |graph: &Graph| join_of(&(graph.clone(), node.clone(), gate.clone()), &date, 60).1.first;
    assert_eq!(first(&graph), Some(at(0)));
    graph.nodes.get_mut("a").unwrap().cycle = "same_day".into();
    assert_eq!(first(&graph), Some(at(40 * 60)), "a is of an earlier pass");
    for id in ["b", "c"] {
        graph.nodes.get_mut(id).unwrap().cycle = "same_day".into();
    }
    assert_eq!(first(&graph), Some(at(0)), "all are");
}

fn blockers(need: Dependency, change: impl FnOnce(&mut Standing), minute: i64) -> Vec<Blocker> {
    let graph = graph(vec![source("s"), task("t", vec![need])]);
    let mut all = standings(&graph, &empty(), now(minute));
    change(all.get_mut("s").unwrap());
    dependencies(&Timetable::of(&graph, &empty()), &empty(), &graph.nodes["t"], &all, now(minute)).blockers
}

/// What stands in the way is the first of these that does: that nothing or too little is there, that it is being made anew, that
/// it is older than its own inputs, that it is being checked, and that more may come.
#[test]
fn what_stands_in_the_way_of_an_input_is_told_by_its_first_reason() {
    let node = || NodeId::from("s");
    let least = PerMille::new(800).unwrap();
    let need = Dependency { coverage_min: least, grace: minutes(20), debounce: minutes(5), ..hard("s") };
    let known = |tenths| Extant::Known(of_ten(tenths));
    let until = at(3_600);
    let unmet = Blocker::Unmet { node: node(), date: DATE, state: "nothing known" };
    let renewing = Blocker::Renewing { node: node(), date: DATE };
    let stale = Blocker::Stale { node: node(), date: DATE };
    let unverified = Blocker::Unverified { node: node(), date: DATE, until };
    let short = Blocker::CoverageShort { node: node(), date: DATE, observed: of_ten(7), required: least };
    let unknown = Blocker::CoverageUnknown { node: node(), date: DATE, required: least };
    let grace = Blocker::Grace { node: node(), until: at(20 * 60) };
    let debounce = Blocker::Debounce { until: at(5 * 60) };
    for (extant, renews, is_stale, checked, minute, blocker) in [
        (Extant::Nothing, false, true, true, 1, Some(&unmet)),
        (Extant::Nothing, true, true, true, 1, Some(&renewing)),
        (Extant::Unknown, true, true, true, 1, Some(&unknown)),
        (known(7), true, true, true, 1, Some(&unverified)),
        (known(7), true, true, false, 1, Some(&short)),
        (known(8), true, true, true, 1, Some(&renewing)),
        (known(8), false, true, true, 1, Some(&stale)),
        (known(8), false, false, true, 1, Some(&unverified)),
        (known(8), false, false, false, 19, Some(&grace)),
        (known(8), false, false, false, 20, None),
        (known(10), false, false, false, 4, Some(&debounce)),
        (known(10), false, false, false, 5, None),
        (Extant::Claimed, false, false, false, 4, Some(&debounce)),
        (Extant::Claimed, false, true, false, 9, Some(&stale)),
        (Extant::Claimed, true, false, false, 9, Some(&renewing)),
    ] {
        let change = |standing: &mut Standing| {
            standing.extant = extant;
            standing.since = (extant != Extant::Nothing).then(|| at(0));
            (standing.renewing, standing.stale) = (renews, is_stale);
            standing.unverified = checked.then_some(until);
        };
        let found = blockers(need.clone(), change, minute);
        assert_eq!(found.iter().collect::<Vec<_>>(), blocker.into_iter().collect::<Vec<_>>(), "{extant:?} {minute}");
    }
    // Without a span in which it has to be quiet, nothing is waited for.
    let whole = |standing: &mut Standing| (standing.extant, standing.since) = (Extant::Claimed, Some(at(600)));
    assert_eq!(blockers(hard("s"), whole, 1), []);
}

/// What an edge to the last game day sees is what that date told, and before the first day of a season nothing is waited for.
#[test]
fn an_edge_to_the_last_game_day_sees_what_that_date_told() {
    let yesterday = DATE.yesterday().unwrap();
    let need = Dependency { offset: Offset::PreviousGameDay, ..hard("y") };
    let mut graph = graph(vec![source("y"), task("t", vec![need])]);
    let dated = |upstream: Option<Upstream>| {
        let mut date = empty();
        date.upstream = upstream.map(|upstream| ("y".into(), upstream)).into_iter().collect();
        facts(&mut date, "t").built_from = Some(at(30));
        date
    };
    let told = Upstream {
        date: DATE.saturating_sub(jiff::ToSpan::days(3)),
        extant: Extant::Claimed,
        version: Version::of("of three days ago"),
        told_at: at(0),
        since: at(60),
        renewing: false,
        waived: false,
        empty_days: 0,
    };
    let nothing = found(&graph, &dated(None), now(5));
    assert_eq!(nothing.blockers, [Blocker::Unmet { node: "y".into(), date: yesterday, state: "nothing known" }]);
    let come = found(&graph, &dated(Some(told.clone())), now(5));
    assert_eq!(come.blockers, []);
    assert_eq!((come.inputs[0].date, come.inputs[0].version), (told.date, Some(told.version)));
    assert_eq!((come.newest, come.any_newer), (Some(at(60)), true));
    let renewed = found(&graph, &dated(Some(Upstream { renewing: true, ..told.clone() })), now(5));
    assert_eq!(renewed.blockers, [Blocker::Renewing { node: "y".into(), date: told.date }]);
    let waived = Upstream { waived: true, extant: Extant::Nothing, ..told.clone() };
    let without = found(&graph, &dated(Some(waived)), now(5));
    assert_eq!((without.blockers, without.newest, without.waived), (vec![], None, ["y".into()].into()));
    assert_eq!((without.any_newer, without.engaged_since), (false, Some(at(60))));
    graph.calendar.seasons = vec![Span { name: "law".into(), from: DATE, until: DATE }];
    let opening = found(&graph, &dated(None), now(5));
    assert_eq!((opening.blockers, opening.waived), (vec![], ["y".into()].into()));
    graph.calendar.seasons[0].from = yesterday;
    assert_eq!(found(&graph, &dated(None), now(5)).blockers.len(), 1);
}

fn last(missing: &[&str]) -> LastDispatch {
    LastDispatch {
        id: Attempt { run: 1, attempt: 1 }.dispatch_id(&empty().key, &"t".into()),
        at: at(0),
        cause: Cause::DependenciesMet,
        fingerprint: Version::of(()),
        degraded: true,
        missing: missing.iter().map(|id| NodeId::from(*id)).collect(),
    }
}

/// An output is older than its inputs where one of those that matter came after it was made, and not at the same instant.
#[test]
fn an_output_is_stale_where_an_input_that_matters_is_newer() {
    let need = |id: &str, strength, refresh| Dependency { strength, refresh, ..hard(id) };
    // The edge, what was missed, and whether what comes after makes it stale, and not to be used.
    for (first, missed, stale, unusable) in [
        (need("a", Strength::Hard, Refresh::Always), [].as_slice(), true, true),
        (need("a", Strength::Soft, Refresh::Always), &[], true, false),
        (need("a", Strength::Hard, Refresh::Never), &["a"], false, false),
        (need("a", Strength::Hard, Refresh::IfMissed), &[], false, false),
        (need("a", Strength::Hard, Refresh::IfMissed), &["a"], true, false),
        (need("a", Strength::Optional, Refresh::Always), &[], true, false),
    ] {
        for (minute, is_newer) in [(9, false), (10, false), (11, true)] {
            for order in [[0, 1], [1, 0]] {
                let needs = [first.clone(), hard("b")];
                let needs = order.map(|nth: usize| needs[nth].clone()).into();
                let graph = graph(vec![task("a", vec![]), task("b", vec![]), task("t", needs)]);
                let mut date = empty();
                facts(&mut date, "a").evidence = claimed(minute);
                facts(&mut date, "b").evidence = claimed(0);
                let t = facts(&mut date, "t");
                (t.built_from, t.last) = (Some(at(600)), Some(last(missed)));
                let found = found(&graph, &date, now(60));
                assert_eq!(found.is_stale(), stale && is_newer, "{first:?} {minute} {order:?}");
                assert_eq!(found.is_unusable(), unusable && is_newer, "{first:?} {minute} {order:?}");
            }
        }
    }
    // A producer's word is not believed where there is no input that it could have used.
    for (evidence, is_unusable) in [(claimed(20), true), (seen(20, 10), false)] {
        let graph = graph(vec![task("a", vec![]), task("b", vec![]), task("t", vec![hard("a"), hard("b")])]);
        let mut date = empty();
        facts(&mut date, "b").evidence = claimed(0);
        facts(&mut date, "t").evidence = evidence;
        facts(&mut date, "t").built_from = Some(at(600));
        let found = found(&graph, &date, now(60));
        assert_eq!((found.is_unusable(), found.is_stale()), (is_unusable, is_unusable));
    }
}

/// What is optional and falls short of its edge is as if it were not there; what calls for no new run does not count among the
/// inputs of one.
#[test]
fn what_falls_short_of_an_optional_edge_is_as_if_it_were_not_there() {
    let least = PerMille::new(800).unwrap();
    let print = |need: Dependency, evidence: Evidence| {
        let graph = graph(vec![source("o"), task("t", vec![Dependency { coverage_min: least, ..need }])]);
        let mut date = empty();
        facts(&mut date, "o").evidence = evidence;
        facts(&mut date, "t").built_from = Some(at(0));
        let found = found(&graph, &date, now(60));
        (found.fingerprint(), found.all_inputs(), found.newest, found.any_newer)
    };
    let need = |strength, refresh| Dependency { strength, refresh, ..hard("o") };
    for (strength, short_counts) in [(Strength::Optional, false), (Strength::Soft, true), (Strength::Hard, true)] {
        let always = || need(strength, Refresh::Always);
        let (none, _, _, _) = print(always(), Evidence::default());
        let (short, _, newest, newer) = print(always(), seen(10, 7));
        assert_eq!(
            (short != none, newest.is_some(), newer),
            (short_counts, short_counts, short_counts),
            "{strength:?}"
        );
        let (enough, _, newest, newer) = print(always(), seen(10, 8));
        assert_eq!((enough != none, newest, newer), (true, Some(at(600)), true), "{strength:?}");
        let never = |evidence| print(need(strength, Refresh::Never), evidence);
        let (none, of_none, _, _) = never(Evidence::default());
        let (enough, of_enough, newest, newer) = never(seen(10, 8));
        assert_eq!((enough == none, of_enough != of_none, newest, newer), (true, true, None, false), "{strength:?}");
    }
}

/// What is optional is waited for from when the rest came, and no longer than leaves time before the first game.
#[test]
fn what_is_optional_is_waited_for_no_longer_than_the_games_allow() {
    let optional = Dependency { strength: Strength::Optional, grace: minutes(120), ..hard("o") };
    let mut nodes = vec![source("s"), source("o"), task("t", vec![hard("s"), optional])];
    nodes[2].expects.start_before_tip = Some(minutes(60));
    let graph = graph(nodes);
    let mut date = empty();
    facts(&mut date, "s").evidence = claimed(0);
    for (tip, until) in [(90, 30), (150, 90), (200, 120)] {
        date.schedule = Some(scheduled(Some(at(tip * 60)), GameStatus::Scheduled));
        let grace = Blocker::Grace { node: "o".into(), until: at(until * 60) };
        assert_eq!(found(&graph, &date, now(until - 1)).blockers, [grace]);
        assert_eq!(found(&graph, &date, now(until)).blockers, []);
    }
}

/// What a node causes carries on the correlation of the newest of its inputs that has any.
#[test]
fn the_correlation_is_that_of_the_newest_input() {
    let graph = graph(vec![source("a"), source("b"), source("c"), task("t", ["a", "b", "c"].map(hard).into())]);
    for (come, correlation) in [
        ([(1, Some("a")), (2, Some("b")), (3, None)], Some("b")),
        ([(2, Some("a")), (1, Some("b")), (0, Some("c"))], Some("a")),
        ([(1, Some("a")), (1, Some("b")), (1, None)], Some("a")),
        ([(1, None), (2, None), (3, Some("c"))], Some("c")),
        ([(1, None), (2, None), (3, None)], None),
    ] {
        let mut date = empty();
        for (id, (minute, correlation)) in ["a", "b", "c"].into_iter().zip(come) {
            facts(&mut date, id).evidence.claim(claim(minute, correlation));
        }
        assert_eq!(found(&graph, &date, now(60)).correlation.as_deref(), correlation, "{come:?}");
    }
}

/// A completion is held back until the warehouse has been heard of it, so long at most, where the warehouse can be asked.
#[test]
fn a_completion_waits_for_the_warehouse_where_it_can_be_asked() {
    let mut node = source("s");
    let until = |node: &Node, evidence: Evidence, minute| {
        let mut date = empty();
        facts(&mut date, "s").evidence = evidence;
        unverified(&date, node, now(minute))
    };
    assert_eq!(until(&node, claimed(0), 0), None, "it is believed");
    node.expects.verify = minutes(5);
    assert_eq!(until(&node, claimed(0), 4), Some(at(300)));
    assert_eq!(until(&node, claimed(0), 5), None);
    assert_eq!(until(&node, seen(0, 5), 1), None, "nobody claims anything");
    for (tenths, waits) in [(9, true), (10, false)] {
        let mut confirmed = claimed(0);
        confirmed.look(at(60));
        confirmed.observe(at(60), of_ten(tenths), BTreeMap::new());
        assert_eq!(until(&node, confirmed, 2).is_some(), waits);
    }
    node.probed = false;
    assert_eq!(until(&node, claimed(0), 1), None);
}

#[test]
fn a_check_stops_what_it_finds_too_little_for_and_what_it_must_answer() {
    let id = || "c".into();
    let check = |unanswered| Check {
        id: id(),
        warn_below: PerMille::FULL,
        block_below: PerMille::new(800).unwrap(),
        unanswered,
    };
    let mut node = task("t", vec![hard("s")]);
    let pending = || Some(Blocker::CheckPending { check: id() });
    let failed = |tenths| {
        let required = PerMille::new(800).unwrap();
        Some(Blocker::CheckFailed { check: id(), observed: of_ten(tenths), required })
    };
    let share = |tenths| Some(CheckAnswer::Share(of_ten(tenths)));
    for (unanswered, answer, blocker) in [
        (Unanswered::Block, None, pending()),
        (Unanswered::Block, share(7), failed(7)),
        (Unanswered::Block, share(8), None),
        (Unanswered::Block, Some(CheckAnswer::Unknown), Some(Blocker::CheckUnanswered { check: id() })),
        (Unanswered::Proceed, Some(CheckAnswer::Unknown), None),
        (Unanswered::Block, Some(CheckAnswer::NotKept), None),
    ] {
        node.expects.checks = vec![check(unanswered)];
        let mut date = empty();
        let taken = answer.map(|answer| (id(), CheckTaken { at: at(60), answer }));
        facts(&mut date, "t").checks = taken.into_iter().collect();
        let said = |newest: Option<i64>| checks(&date, &node, newest.map(at), now(5));
        assert_eq!(said(None), blocker.clone().into_iter().collect::<Vec<_>>(), "{answer:?}");
        assert_eq!(said(Some(60)), blocker.into_iter().collect::<Vec<_>>(), "{answer:?}");
        assert_eq!(said(Some(61)), pending().into_iter().collect::<Vec<_>>(), "older than an input");
    }
}

/// Without games, before its pass and after it a node is not dispatched unless an operator wishes so.
#[test]
fn a_wish_passes_by_the_calendar_and_the_pass() {
    let mut graph = graph(vec![task("t", vec![])]);
    graph.cycles[1].from.days = 0;
    graph.cycles[1].from.time = Time::constant(11, 0, 0, 0);
    let (from, until) = (at(-3_600), at(22 * 3_600));
    let blockers =
        |date: &Partition, minute| circumstances(&Timetable::of(&graph, date), date, &graph.nodes["t"], now(minute));
    for (played, minute, expected) in [
        (true, -61, vec![Blocker::NotYet { until: from }]),
        (true, -60, vec![]),
        (true, 22 * 60 - 1, vec![]),
        (true, 22 * 60, vec![Blocker::Over { since: until }]),
        (false, 0, vec![Blocker::NoGames]),
        (false, -61, vec![Blocker::NoGames, Blocker::NotYet { until: from }]),
    ] {
        let status = if played { GameStatus::Scheduled } else { GameStatus::Postponed };
        let mut date = empty();
        date.schedule = Some(scheduled(None, status));
        assert_eq!(blockers(&date, minute), expected, "{played} {minute}");
        facts(&mut date, "t").wish = Some(Wish { actor: "ann".into(), reason: "law".into(), at: at(0), plan: None });
        assert_eq!(blockers(&date, minute), [], "{played} {minute}");
    }
}

/// A join is another with each member that comes; it answers to what the newest of them answers to, and stands, as what is made
/// of it does, on the messages of them all.
#[test]
fn a_join_stands_on_the_members_that_have_come() {
    let (of, node, gate) = joined(&[], &[(1, 0)]);
    let nodes = of.order.iter().map(|id| of.nodes[id].clone()).chain([task("t", vec![hard("join")])]).collect();
    let of_task = graph(nodes);
    let of = (of, node, gate);
    let trace = |nth: u8| format!("00-{0:032x}-{0:016x}-01", nth).parse::<TraceContext>().unwrap();
    let mut versions = Vec::new();
    for (come, correlation) in [("a", "of_a"), ("ab", "of_b"), ("ac", "of_a"), ("bc", "of_b"), ("abc", "of_b")] {
        let mut date = empty();
        for id in come.chars() {
            // The one in the middle is the newest.
            let minute = match id {
                'a' => 5,
                'b' => 9,
                _ => 1,
            };
            let trace = Some(trace(id as u8));
            let claim = Claim { trace, ..claim(minute, Some(format!("of_{id}").as_str())) };
            facts(&mut date, &id.to_string()).evidence.claim(claim);
        }
        let (standing, _) = join_of(&of, &date, 10);
        assert_eq!(standing.correlation.as_deref(), Some(correlation), "{come}");
        let (parent, links) = standing.traces.parent_and_links();
        assert_eq!((parent.is_some(), 1 + links.len()), (true, come.len()), "{come}");
        let found = found(&of_task, &date, now(10));
        assert_eq!(found.traces.parent_and_links(), (parent, links), "{come}");
        assert_eq!(found.correlation.as_deref(), Some(correlation), "{come}");
        versions.push(standing.version);
    }
    let different: BTreeSet<_> = versions.iter().map(|version| format!("{version:?}")).collect();
    assert_eq!(different.len(), versions.len());
}

/// What is not there is missing, and what a node goes without is waived as well: an input that operators have it go without,
/// one that is optional once its grace is over, and members that an open join does without. The others can be asked about.
#[test]
fn what_is_missing_what_is_waived_and_what_can_be_asked_about() {
    let optional = Dependency { strength: Strength::Optional, grace: minutes(20), ..hard("o") };
    let gate = Gate { critical: [].into(), quorum: vec![Tier { count: 1, after: minutes(30) }] };
    let join = Node { kind: Kind::Gate(gate), needs: ["a", "b"].map(hard).into(), probed: false, ..source("join") };
    let of = |needs: Vec<Dependency>| {
        graph(vec![source("s"), source("o"), source("a"), source("b"), join.clone(), task("t", needs)])
    };
    let force = || EdgeWord {
        rule: Some(EdgeRule::Force),
        by: Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: None },
    };
    let names = |ids: &[&str]| ids.iter().map(|id| NodeId::from(*id)).collect::<BTreeSet<_>>();
    for (needs, come, forced, minute, missing, waived, askable) in [
        (vec![hard("s")], &[][..], None, 10, &["s"][..], &[][..], &["s"][..]),
        (vec![hard("s")], &[], Some("s"), 10, &["s"], &["s"], &["s"]),
        (vec![hard("s"), optional.clone()], &["s"], None, 19, &["o"], &[], &["o"]),
        (vec![hard("s"), optional.clone()], &["s"], None, 20, &["o"], &["o"], &[]),
        (vec![hard("join")], &["a"], None, 29, &["b"], &[], &["b"]),
        (vec![hard("join")], &["a"], None, 30, &["b"], &["b"], &[]),
        (vec![hard("join")], &[], None, 10, &["a", "b"], &[], &["a", "b"]),
    ] {
        let of = of(needs);
        let mut date = empty();
        for id in come {
            facts(&mut date, id).evidence = claimed(0);
        }
        if let Some(id) = forced {
            facts(&mut date, "t").edges = [(id.into(), force())].into();
        }
        let found = found(&of, &date, now(minute));
        let asked = found.askable.iter().map(|(_, id)| id.clone()).collect();
        let expected = (names(missing), names(waived), names(askable));
        assert_eq!((found.missing, found.waived, asked), expected, "{come:?} {forced:?} {minute}");
    }
}

/// An input that is a reason for a new run only where the last one went without counts as whole or not at all.
#[test]
fn an_input_that_matters_where_it_was_missed_counts_as_whole_or_not_at_all() {
    let of = graph(vec![source("s"), task("t", vec![Dependency { refresh: Refresh::IfMissed, ..hard("s") }])]);
    let with = |evidence: Evidence, missed: bool| {
        let mut date = empty();
        facts(&mut date, "s").evidence = evidence;
        let t = facts(&mut date, "t");
        t.built_from = Some(at(0));
        t.last = Some(LastDispatch {
            id: Attempt { run: 1, attempt: 1 }.dispatch_id(&empty().key, &"t".into()),
            at: at(0),
            cause: Cause::DependenciesMet,
            fingerprint: Readiness::default().fingerprint(),
            degraded: missed,
            missing: if missed { ["s".into()].into() } else { [].into() },
        });
        found(&of, &date, now(40))
    };
    let (none, some, whole) = (Evidence::default(), seen(20, 5), seen(30, 10));
    let print = |evidence: &Evidence| with(evidence.clone(), true).fingerprint();
    assert_eq!(print(&none), print(&some));
    assert_ne!(print(&none), print(&whole));
    assert_eq!(print(&whole), print(&claimed(35)), "whoever says so");
    for (evidence, missed, newest) in
        [(&whole, true, Some(at(30 * 60))), (&whole, false, None), (&some, true, None), (&none, true, None)]
    {
        let found = with(evidence.clone(), missed);
        assert_eq!((found.newest, found.any_newer), (newest, newest.is_some()), "{evidence:?} {missed}");
    }
}

/// A later pass of a processor begins once its producer's name means that pass and no earlier one: the second as the date
/// begins, the third a day later. One that begins after that anyhow keeps its time.
#[test]
fn a_later_pass_begins_once_its_name_means_it() {
    let ids = ["a", "b", "c"];
    let passes = |is_one: bool, from: DayTime| {
        let cycle = |id: &str| format!("of_{id}").as_str().into();
        let of = graph(ids.iter().map(|id| Node { cycle: cycle(id), ..task(id, vec![]) }).collect());
        let until = DayTime { days: 2, time: Time::midnight() };
        let cycles = ids.iter().map(|id| Cycle { id: cycle(id), from, until }).collect();
        let shared = ids.map(NodeId::from).to_vec();
        let aliases = if is_one { BTreeMap::from([("producer".to_owned(), shared)]) } else { BTreeMap::new() };
        let of = Graph::new(of.pipeline, 1, of.zone, of.nodes, of.order, cycles, aliases, of.limits);
        ids.map(|id| {
            of.pass(&of.nodes[id], DATE).map(|(from, until)| [from, until].map(|at| at.duration_since(start())))
        })
    };
    let noon = |days| DayTime { days, time: Time::constant(12, 0, 0, 0) };
    // Hours from noon on, where all laws begin.
    for (is_one, from, begin) in [
        (true, noon(-1), [-24, -12, 12]),
        (true, noon(0), [0, 0, 12]),
        (true, noon(1), [24, 24, 24]),
        (false, noon(-1), [-24, -24, -24]),
    ] {
        let expected = begin.map(|hour| Some([hour, 36].map(SignedDuration::from_hours)));
        assert_eq!(passes(is_one, from), expected, "{is_one} {from:?}");
    }
}

#[test]
fn a_node_is_settled_where_nothing_more_is_done_about_it() {
    let at = at(0);
    let (_, gate, _) = joined(&[], &[(1, 0)]);
    for (state, settled) in [
        (State::Waiting, false),
        (State::Dispatched { at }, false),
        (State::Failed { at }, false),
        (State::Succeeded { at }, true),
        (State::Skipped { at, reason: "law".into() }, true),
        (State::Expired { at }, true),
        (State::Exhausted { at }, true),
    ] {
        assert_eq!(is_settled(&task("t", vec![]), &state), settled, "{state:?}");
        assert!(is_settled(&gate, &state), "a join does nothing");
    }
}

/// What an operator says of one input holds the node, or has it go without what stands in the way; of what does not, nothing is
/// said.
#[test]
fn an_operator_may_hold_an_input_or_go_without_it() {
    let graph = graph(vec![source("a"), source("b"), task("t", ["a", "b"].map(hard).into())]);
    let word = |rule, until: Option<i64>| EdgeWord {
        rule,
        by: Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: until.map(|minute| at(minute * 60)) },
    };
    let with = |word: EdgeWord| {
        let mut date = empty();
        facts(&mut date, "a").evidence = claimed(0);
        facts(&mut date, "t").edges = [("a".into(), word.clone()), ("b".into(), word)].into();
        let found = found(&graph, &date, now(5));
        let kinds: Vec<&str> = found
            .blockers
            .iter()
            .map(|blocker| match blocker {
                Blocker::Held { .. } => "held",
                Blocker::Unmet { .. } => "unmet",
                _ => "other",
            })
            .collect();
        (kinds.join(" "), found.waived.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let none: [String; 0] = [];
    assert_eq!(with(word(None, None)), ("unmet".to_owned(), none.to_vec()));
    assert_eq!(with(word(Some(EdgeRule::Hold), None)), ("held held unmet".to_owned(), none.to_vec()));
    assert_eq!(with(word(Some(EdgeRule::Hold), Some(5))), ("unmet".to_owned(), none.to_vec()));
    assert_eq!(with(word(Some(EdgeRule::Hold), Some(6))).0, "held held unmet");
    assert_eq!(
        with(word(Some(EdgeRule::Force), None)),
        (String::new(), vec!["b".to_owned()]),
        "a stands in nobody's way"
    );
}

/// A join that has opened is waited for until it has been quiet for as long as its edge says.
#[test]
fn an_open_join_is_waited_for_until_it_is_quiet() {
    let (_, node, _) = joined(&[], &[(2, 0)]);
    let behind = |debounce| {
        let need = Dependency { debounce: minutes(debounce), ..hard("join") };
        graph(vec![source("a"), source("b"), source("c"), node.clone(), task("t", vec![need])])
    };
    let mut date = empty();
    facts(&mut date, "a").evidence = claimed(0);
    facts(&mut date, "b").evidence = claimed(10);
    let until = at(15 * 60);
    for (debounce, minute, blockers) in [(5, 14, vec![Blocker::Debounce { until }]), (5, 15, vec![]), (0, 10, vec![])] {
        assert_eq!(found(&behind(debounce), &date, now(minute)).blockers, blockers, "{debounce} {minute}");
    }
}

/// An output that was made without a task that it needs is stale, unless somebody has waived that, or it was counted.
#[test]
fn an_output_made_without_a_task_it_needs_is_stale() {
    let graph = graph(vec![task("a", vec![]), task("t", vec![hard("a")])]);
    let skipped = State::Skipped { at: at(0), reason: "law".into() };
    for (evidence, state, stale) in [
        (Evidence::default(), State::Waiting, true),
        (Evidence::default(), skipped.clone(), false),
        (claimed(5), State::Waiting, false),
        (claimed(5), skipped, false),
    ] {
        let mut date = empty();
        let a = facts(&mut date, "a");
        (a.evidence, a.state) = (evidence, state.clone());
        let t = facts(&mut date, "t");
        (t.evidence, t.built_from) = (claimed(10), Some(at(600)));
        assert_eq!(found(&graph, &date, now(60)).hard_missing, stale, "{state:?}");
        facts(&mut date, "t").evidence = seen(10, 10);
        assert!(!found(&graph, &date, now(60)).hard_missing, "it was counted");
    }
}

/// What an edge does not wait for at all is gone without at once.
#[test]
fn what_an_edge_does_not_wait_for_is_gone_without() {
    let with = |grace| {
        let need = Dependency { strength: Strength::Optional, grace: minutes(grace), ..hard("b") };
        let graph = graph(vec![source("a"), source("b"), task("t", vec![hard("a"), need])]);
        let mut date = empty();
        facts(&mut date, "a").evidence = claimed(0);
        found(&graph, &date, now(0)).blockers
    };
    assert_eq!((with(0), with(5)), (vec![], vec![Blocker::Grace { node: "b".into(), until: at(300) }]));
}

/// What is required of a node is the most that its dependents ask of it, and of nobody else.
#[test]
fn what_is_required_is_the_most_that_is_asked_of_it() {
    let need = |id: &str, thousandths, strength| Dependency {
        coverage_min: PerMille::new(thousandths).unwrap(),
        strength,
        ..hard(id)
    };
    let graph = graph(vec![
        source("a"),
        source("b"),
        task("t", vec![need("a", 700, Strength::Hard), need("b", 900, Strength::Hard)]),
        task("u", vec![need("a", 800, Strength::Soft)]),
        task("v", vec![need("a", 1_000, Strength::Optional)]),
    ]);
    assert_eq!(["a", "b", "t"].map(|id| graph.required_of(&id.into()).get()), [800, 900, 0]);
}
