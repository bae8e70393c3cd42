//! Laws of backfill: plans keep the order of the graph, and what is asked for keeps within the limits and starves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::{Date, Time, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tipoff::domain::backfill::{
    self, Draft, Found, Gap, ItemState, Limits, Plan, Road, Said, Status, Survey, draft, request_id, settle,
};
use tipoff::domain::decide::decide;
use tipoff::domain::effect::{Cause, Effect};
use tipoff::domain::event::{Command, Completed, Event, Outcome, Request};
use tipoff::domain::evidence::{Claim, Extant, Extent, Version};
use tipoff::domain::forecast::{self, History};
use tipoff::domain::graph::{Dependency, Graph, Kind, Node, Offset};
use tipoff::domain::id::{Attempt, NodeId, PartitionKey};
use tipoff::domain::partition::{Backfilled, LastDispatch, Node as Facts, Partition, State, Wish};
use tipoff::domain::time::{Now, after};

use crate::graphs::{any_graph, at, costs, graph, hard, source, task};

const CASES: u32 = 64;
/// Long before the day on which it is all made again.
const FIRST: Date = date(2025, 11, 1);

fn days(offsets: &BTreeSet<u8>) -> BTreeSet<Date> {
    offsets.iter().map(|offset| FIRST.saturating_add(i32::from(*offset).days())).collect()
}

/// The graph, with every source's producer ready to be asked.
fn with_roads(mut graph: Graph) -> Graph {
    for node in graph.nodes.values_mut().filter(|node| matches!(node.kind, Kind::Source(_))) {
        node.kind = Kind::Source(Some(costs()));
    }
    graph
}

fn running(draft: Draft) -> Plan {
    let said = Said { at: at(0), actor: "law".into(), text: "a law".into() };
    Plan { status: Status::Running, ..Plan::new("law".into(), "laws".into(), at(0), draft, said) }
}

/// How the world answers, by item and attempt: whether the run succeeds.
type Luck = BTreeMap<(Date, NodeId), Vec<bool>>;

/// One date at one instant.
fn step(graph: &Graph, partitions: &mut BTreeMap<Date, Partition>, date: Date, event: Event, now: Now) -> Vec<Effect> {
    let new = || Partition::new(PartitionKey::new("laws", date));
    let partition = partitions.entry(date).or_insert_with(new);
    let decision = decide(graph, partition, &[event], now).unwrap_or_else(|violation| panic!("{violation}"));
    *partition = decision.next;
    decision.effects
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, rng_seed: RngSeed::Fixed(20260122), ..ProptestConfig::default() })]

    /// What another item of the same date is made of comes before it, sources before tasks, and no item twice; with a cascade
    /// whatever is made of something that is missing is in the plan as well.
    #[test]
    fn a_plan_keeps_the_order_of_the_graph(
        graph in any_graph().prop_map(with_roads),
        missing in prop::collection::btree_set(0_u8..20, 1..6),
        more in prop::collection::btree_set(0_u8..20, 0..6),
        which in any::<prop::sample::Index>(),
        cascade in any::<bool>(),
    ) {
        let askable: Vec<&NodeId> =
            graph.order.iter().filter(|id| graph.nodes[*id].dispatchable().is_some()).collect();
        let node = askable[which.index(askable.len())];
        let game_days = days(&missing.union(&more).copied().collect());
        let gaps = BTreeMap::from([(node.clone(), days(&missing))]);
        let draft = draft(&graph, &gaps, &game_days, cascade);
        let place: BTreeMap<(Date, &NodeId), usize> =
            draft.items.iter().enumerate().map(|(place, item)| ((item.date, &item.node), place)).collect();
        prop_assert_eq!(place.len(), draft.items.len(), "each once for a date");
        for item in &draft.items {
            for need in graph.nodes[&item.node].needs.iter().filter(|need| need.offset == Offset::Same) {
                if let Some(before) = place.get(&(item.date, &need.node)) {
                    prop_assert!(*before < place[&(item.date, &item.node)], "{} before {}", need.node, item.node);
                }
            }
            if cascade {
                for (dependent, offset) in graph.dependents(&item.node) {
                    let on = match offset {
                        Offset::Same => Some(item.date),
                        Offset::PreviousGameDay => game_days.range(item.date..).nth(1).copied(),
                    };
                    let is_task = graph.nodes[dependent].task().is_some();
                    if let Some(on) = on.filter(|_| is_task) {
                        prop_assert!(place.contains_key(&(on, dependent)), "{dependent} on {on} follows");
                    }
                }
            }
        }
    }

    /// With runs that fail as they like: never more at once than may be, never sooner again than they may, never more often;
    /// each is asked for within as many cycles as it takes to ask for all once; and it comes to an end. A request that is made
    /// twice, as after a crash, adds nothing.
    #[test]
    fn limits_hold_and_nothing_starves(
        nodes in 1_usize..4,
        missing in prop::collection::btree_set(0_u8..40, 1..20),
        at_once in 1_u32..7,
        attempts_max in 1_u32..4,
        luck in prop::collection::vec(any::<bool>(), 240),
        repeats in prop::collection::vec(any::<bool>(), 8),
    ) {
        let names: Vec<String> = (0..nodes).map(|nth| format!("s{nth}")).collect();
        let mut graph = with_roads(graph(names.iter().map(|name| source(name)).collect()));
        graph.backfill.limits.at_once = at_once;
        graph.backfill.limits.attempts_max = attempts_max;
        let cooldown = graph.backfill.limits.cooldown;
        let dates = days(&missing);
        let gaps: BTreeMap<NodeId, BTreeSet<Date>> =
            names.iter().map(|name| (name.as_str().into(), dates.clone())).collect();
        let mut plan = running(draft(&graph, &gaps, &dates, false));
        let all = plan.items.len();
        prop_assert_eq!(all, nodes * dates.len());
        let mut lucks = luck.iter().cycle();
        let luck: Luck = plan
            .items
            .iter()
            .map(|item| ((item.date, item.node.clone()), lucks.by_ref().take(3).copied().collect()))
            .collect();
        let mut partitions = BTreeMap::new();
        let mut asked_at: BTreeMap<(Date, NodeId), Vec<jiff::Timestamp>> = BTreeMap::new();
        let cycles = all.div_ceil(usize::try_from(at_once).unwrap());
        // A cycle is half an hour; the last attempts lie some cooldowns behind the first.
        for cycle in 0..cycles * 3 + 20 {
            let now = Now::caught_up(at(1_800 * i64::try_from(cycle).unwrap()));
            for index in 0..all {
                if let Some(partition) = partitions.get(&plan.items[index].date) {
                    settle(&graph, &mut plan, index, partition, now.at);
                }
            }
            let busy = plan.tally().asked;
            prop_assert_eq!(busy, 0, "every run ends within its cycle");
            let room = usize::try_from(at_once).unwrap();
            for index in backfill::next(&graph, &plan, now.at).into_iter().take(room) {
                let item = plan.items[index].clone();
                let request = Request {
                    id: request_id(&plan, &item),
                    actor: "law".into(),
                    reason: "law".into(),
                    at: now.at,
                    command: Command::Backfill { node: item.node.clone(), plan: plan.id.clone() },
                };
                let event = Event::Requested(request);
                let effects = step(&graph, &mut partitions, item.date, event.clone(), now);
                let sent = effects.iter().filter_map(|effect| match effect {
                    Effect::Dispatch(dispatch) => Some(dispatch.manifest.attempt),
                    _ => None,
                });
                let nth = asked_at.get(&(item.date, item.node.clone())).map_or(0, Vec::len) + 1;
                let attempt = Attempt { run: 1, attempt: u32::try_from(nth).unwrap() };
                prop_assert_eq!(sent.collect::<Vec<_>>(), [attempt], "one plan's attempts are of one run");
                if repeats[index % repeats.len()] {
                    let again = step(&graph, &mut partitions, item.date, event, now);
                    prop_assert!(again.is_empty(), "asked twice is asked once");
                }
                let times = asked_at.entry((item.date, item.node.clone())).or_default();
                prop_assert!(times.last().is_none_or(|last| after(*last, cooldown) <= now.at), "rests in between");
                let lucky = luck[&(item.date, item.node.clone())][times.len().min(2)];
                times.push(now.at);
                settle(&graph, &mut plan, index, &partitions[&item.date], now.at);
                let is_asked = matches!(plan.items[index].state, ItemState::Asked { .. });
                prop_assert!(is_asked);
                let end = Now::caught_up(after(now.at, SignedDuration::from_mins(5)));
                let outcome = if lucky { Outcome::Done(Extent::Whole) } else { Outcome::Failed("no".into()) };
                let completed = Completed {
                    node: item.node.clone(),
                    run: format!("r{}", times.len()).as_str().into(),
                    outcome,
                    records: None,
                    published: end.at,
                    correlation: None,
                    dispatch: None,
                    unit: None,
                    trace: None,
                };
                step(&graph, &mut partitions, item.date, Event::Completed(completed), end);
                if !lucky && u32::try_from(nth).unwrap() == attempts_max {
                    settle(&graph, &mut plan, index, &partitions[&item.date], end.at);
                    let is_given_up = matches!(plan.items[index].state, ItemState::Failed { .. });
                    prop_assert!(is_given_up, "nothing is waited for after the last attempt");
                }
            }
            if cycle + 1 == cycles {
                prop_assert_eq!(asked_at.len(), all, "each was asked for once within {} cycles", cycles);
            }
        }
        for (index, item) in plan.items.clone().iter().enumerate() {
            let end = at(86_400 * 30);
            settle(&graph, &mut plan, index, &partitions[&item.date], end);
            let tries = &luck[&(item.date, item.node.clone())][..usize::try_from(attempts_max).unwrap()];
            let needed = tries.iter().position(|lucky| *lucky).map_or(tries.len(), |first| first + 1);
            prop_assert_eq!(asked_at[&(item.date, item.node.clone())].len(), needed);
            let is_done = matches!(plan.items[index].state, ItemState::Done { .. });
            prop_assert_eq!(is_done, tries.contains(&true));
        }
        prop_assert!(plan.is_settled());
    }
}

/// A survey of days after each other, of which each letter is one: `x` is missing, `?` cannot be told, `.` is there.
fn survey(found: &[(&str, &str)]) -> Survey {
    let letter = |letter| match letter {
        'x' => Found::Missing(Extant::Nothing),
        '?' => Found::Unknown,
        _ => Found::There,
    };
    let mut survey = Survey::default();
    for (node, letters) in found {
        for (day, found) in (0_u8..).zip(letters.chars().map(letter)) {
            let date = FIRST.saturating_add(i32::from(day).days());
            survey.game_days.insert(date);
            survey.found.entry(NodeId::from(*node)).or_default().insert(date, found);
        }
    }
    survey
}

#[test]
fn a_source_is_down_after_so_many_days_and_has_recovered_once_it_brings_again() {
    let fed = Node { needs: vec![hard("s")], ..source("fed") };
    let graph = graph(vec![source("s"), source("other"), fed, task("t", vec![hard("s")])]);
    assert_eq!(graph.backfill.limits.down_after, 3);
    let days = |range: std::ops::Range<u8>| days(&range.collect());
    let down = |found: &[(&str, &str)]| -> BTreeMap<NodeId, BTreeSet<Date>> {
        let down = survey(found).down(&graph).into_iter();
        down.map(|(node, days)| (node, days.into_iter().collect())).collect()
    };
    let only = |node: &str, days| BTreeMap::from([(NodeId::from(node), days)]);
    assert_eq!(down(&[("s", "..xxx")]), only("s", days(2..5)));
    for up in ["..xx", "xxx.", "xxx?", "x.xx"] {
        assert_eq!(down(&[("s", up)]), BTreeMap::new(), "{up}");
    }
    // What it feeds is short for its sake, and a task is nobody's source.
    assert_eq!(down(&[("s", "xxx"), ("fed", "xxx"), ("t", "xxx")]), only("s", days(0..3)));
    assert_eq!(down(&[("s", "..."), ("fed", "xxx")]), only("fed", days(0..3)));
    let recovered = |found: &str| survey(&[("s", found)]).recovered(&graph);
    assert_eq!(recovered(".xxx."), only("s", days(1..4)));
    assert_eq!(recovered("xxxx.."), only("s", days(0..4)));
    for not in ["..xx.", "xxx", "xxx?", "xxx?.", "....."] {
        assert_eq!(recovered(not), BTreeMap::new(), "{not}");
    }
}

#[test]
fn a_streak_runs_until_now_or_until_it_came_again() {
    let streaks = survey(&[("now", "x.xx"), ("over", "xx.."), ("never", "...."), ("told", ".xx?")]).streaks();
    let days = |range: std::ops::Range<u8>| days(&range.collect());
    assert_eq!(streaks, BTreeMap::from([("now".into(), days(2..4)), ("over".into(), days(0..2))]));
}

#[test]
fn gaps_are_ranges_of_game_days_and_one_that_goes_on_is_one() {
    let mut survey = survey(&[("s", "xx.x?x"), ("t", "......")]);
    let gap = |from: i32, until: i32, days| Gap {
        node: "s".into(),
        from: FIRST.saturating_add(from.days()),
        until: FIRST.saturating_add(until.days()),
        days,
    };
    assert_eq!(survey.gaps(), [gap(0, 1, 2), gap(3, 3, 1), gap(5, 5, 1)]);
    assert_eq!(survey.unknown(), [gap(4, 4, 1)]);
    assert_eq!(survey.counts(), (4, 11));
    assert_eq!(survey.missing(), BTreeMap::from([("s".into(), days(&[0, 1, 3, 5].into()))]));
    // What was missing before the look is of the same streak where the look began within it.
    let earlier = BTreeSet::from([FIRST.saturating_add((-1).days()), FIRST.saturating_add(5.days())]);
    survey.recall(&"t".into(), &earlier);
    assert_eq!(survey.gaps().len(), 3);
    survey.recall(&"s".into(), &earlier);
    assert_eq!(survey.gaps()[0], gap(-1, 1, 3));
}

#[test]
fn a_look_that_finds_too_much_missing_is_suspect() {
    let limits = Limits { suspect_above: 2, ..Limits::default() };
    let suspect = |found: &str| survey(&[("s", found)]).is_suspect(&limits);
    assert!(suspect("xxx"));
    assert!(!suspect("xx"), "so few are believed");
    assert!(!suspect("xxx............"), "one in five is believed");
    assert!(suspect("xxx..........."));
    assert!(suspect("xxx...........?"), "what nobody can tell makes nothing likelier");
}

#[test]
fn what_follows_from_inputs_none_of_which_came_is_given_up() {
    let graph = with_roads(graph(vec![source("s"), source("r"), task("t", vec![hard("s"), hard("r")])]));
    let dates = days(&[0].into());
    let gaps = BTreeMap::from([("s".into(), dates.clone()), ("r".into(), dates.clone())]);
    let failed = || ItemState::Failed { at: at(1), why: "no".into() };
    let follower = |s: ItemState, r: ItemState, t: ItemState| {
        let mut plan = running(draft(&graph, &gaps, &dates, true));
        for (node, state) in [("s", s), ("r", r), ("t", t)] {
            plan.items.iter_mut().find(|item| item.node.as_str() == node).unwrap().state = state;
        }
        plan.drop_followers(&graph, at(2));
        plan.items.into_iter().find(|item| item.follows).unwrap().state
    };
    let is_given_up = |state| matches!(state, ItemState::Failed { at: then, .. } if then == at(2));
    assert!(is_given_up(follower(failed(), failed(), ItemState::Waiting)));
    assert!(is_given_up(follower(failed(), failed(), ItemState::Resting { until: at(9), why: None })));
    for other in [ItemState::Waiting, ItemState::Asked { at: at(1) }, ItemState::Done { at: at(1) }] {
        assert_eq!(follower(failed(), other, ItemState::Waiting), ItemState::Waiting);
    }
    for ended in [ItemState::Asked { at: at(1) }, ItemState::Done { at: at(1) }, failed()] {
        assert_eq!(follower(failed(), failed(), ended.clone()), ended);
    }
}

/// Hours may lie within a day, go past midnight, or be all of it; what waits for them counts none in between.
#[test]
fn only_active_hours_count() {
    let limits = |from, until| Limits {
        from: Time::constant(from, 0, 0, 0),
        until: Time::constant(until, 0, 0, 0),
        ..Limits::default()
    };
    // The laws begin at noon.
    let clock = |hour: i64| at((hour - 12) * 3_600);
    let active = |from, until| {
        let limits = limits(from, until);
        (0..24).filter(|hour| limits.is_active(&TimeZone::UTC, clock(*hour))).collect::<Vec<_>>()
    };
    assert_eq!(active(9, 17), (9..17).collect::<Vec<_>>());
    assert_eq!(active(22, 2), [0, 1, 22, 23]);
    assert_eq!(active(5, 5), (0..24).collect::<Vec<_>>());
    for ((from, until), (begins, hours), ends) in [
        ((9, 17), (9, 8), 17),
        ((9, 17), (9, 10), 24 + 11),
        ((9, 17), (17, 1), 24 + 10),
        ((9, 17), (8, 1), 10),
        ((9, 17), (20, 8 + 3), 48 + 12),
        ((22, 2), (1, 2), 23),
        ((22, 2), (12, 5), 24 + 23),
        ((5, 5), (3, 30), 33),
    ] {
        let end = limits(from, until).ends_at(&TimeZone::UTC, clock(begins), SignedDuration::from_hours(hours));
        assert_eq!(end, clock(ends), "{hours} hours from {begins} on, {from} to {until}");
    }
}

/// Hours that would be over when they begin, since the clocks leave out their beginning, are none: what waits for them waits
/// for those of the next day.
#[test]
fn hours_that_begin_when_they_are_over_are_none() {
    let limits = Limits { from: Time::constant(2, 30, 0, 0), until: Time::constant(3, 15, 0, 0), ..Limits::default() };
    let zone = TimeZone::get("America/New_York").unwrap();
    let on = |day: i8, hour: i8, minute: i8| zone.to_timestamp(date(2026, 3, day).at(hour, minute, 0, 0)).unwrap();
    let ends_at = |begins| limits.ends_at(&zone, begins, SignedDuration::from_mins(10));
    assert_eq!(ends_at(on(7, 2, 30)), on(7, 2, 40));
    // In the night to the eighth it is three o'clock after two, and half past three where it would be half past two.
    for begins in [on(8, 1, 59), on(8, 3, 30), on(8, 4, 0)] {
        assert_eq!(ends_at(begins), on(9, 2, 40), "{begins}");
    }
}

/// What is in a plan is counted once each, taken in where it is recent, and tried again where it was done and is missing again.
#[test]
fn a_plan_takes_in_what_is_missing_and_counts_what_it_has() {
    let graph = with_roads(graph(vec![source("s"), source("o")]));
    let dates: Vec<Date> = [0, 1, 2].map(|day| FIRST.saturating_add(day.days())).into();
    let gaps = |node: &str, of: &[Date]| BTreeMap::from([(NodeId::from(node), of.iter().copied().collect())]);
    let all: BTreeSet<Date> = dates.iter().copied().collect();
    let drafted = |node: &str, of: &[Date]| draft(&graph, &gaps(node, of), &all, false);
    let mut plan = running(drafted("s", &dates));
    let place = |plan: &Plan, date| plan.items.iter().position(|item| item.date == date).unwrap();
    let states = [
        ItemState::Done { at: at(1) },
        ItemState::Asked { at: at(1) },
        ItemState::Failed { at: at(1), why: "law".into() },
    ];
    for (date, state) in dates.iter().zip(states) {
        let index = place(&plan, *date);
        plan.items[index].state = state;
    }
    let tally = plan.tally();
    assert_eq!((tally.all, tally.done, tally.asked, tally.failed, tally.waiting), (3, 1, 1, 1, 0));
    assert!(!plan.is_settled(), "one is asked for");
    assert!(plan.items.iter().all(|item| plan.covers(item)));
    let other = drafted("o", &dates[..1]).items.remove(0);
    assert!(!plan.covers(&other), "of another node");
    let mut more = plan.items[0].clone();
    more.fills.insert("more".into());
    assert!(!plan.covers(&more), "it brings more");
    let elsewhere = FIRST.saturating_add(9.days());
    assert!(!plan.covers(&backfill::Item { date: elsewhere, ..plan.items[0].clone() }), "of another date");
    // Missing again: the first is tried again, the last stays given up; what is older goes, unless it is asked for.
    plan.take_in(&graph, drafted("s", &dates), dates[0]);
    assert_eq!(plan.items[place(&plan, dates[0])].state, ItemState::Waiting);
    assert!(matches!(plan.items[place(&plan, dates[2])].state, ItemState::Failed { .. }));
    plan.take_in(&graph, drafted("o", &dates), dates[2]);
    let left: BTreeSet<(String, Date)> = plan.items.iter().map(|item| (item.node.to_string(), item.date)).collect();
    let named = |node: &str, date| (node.to_owned(), date);
    assert_eq!(left, BTreeSet::from([named("s", dates[1]), named("s", dates[2]), named("o", dates[2])]));
    let tally = plan.tally();
    assert_eq!((tally.all, tally.asked, tally.failed, tally.waiting), (3, 1, 1, 1));
    for item in &mut plan.items {
        item.state = ItemState::Done { at: at(2) };
    }
    assert!(plan.is_settled());
}

/// A plan of one node for one date, that is to bring these outputs.
fn item(node: &str, day: u8, fills: &[&str]) -> backfill::Item {
    backfill::Item {
        node: node.into(),
        date: FIRST.saturating_add(i32::from(day).days()),
        fills: fills.iter().map(|node| NodeId::from(*node)).collect(),
        follows: fills.is_empty(),
        state: ItemState::Waiting,
        attempts: 0,
    }
}

/// Where an item stands is read off its date: what was done for another plan says nothing of it.
#[test]
fn an_item_stands_where_its_date_says() {
    let fed = Node { kind: Kind::Source(None), needs: vec![hard("r")], ..source("fed") };
    let mut graph = graph(vec![Node { kind: Kind::Source(Some(costs())), ..source("r") }, fed]);
    graph.backfill.limits.attempts_max = 2;
    let cooldown = graph.backfill.limits.cooldown;
    let last = LastDispatch {
        id: Attempt { run: 1, attempt: 1 }.dispatch_id(&PartitionKey::new("laws", FIRST), &"r".into()),
        at: at(0),
        cause: Cause::Backfill,
        fingerprint: Version::of(()),
        degraded: false,
        missing: BTreeSet::new(),
    };
    let backfilled = |plan: &str, attempts| Backfilled { plan: plan.into(), at: at(0), attempts, open: false };
    let wish = |plan: Option<&str>, second| Wish {
        actor: "law".into(),
        reason: "law".into(),
        at: at(second),
        plan: plan.map(Into::into),
    };
    let succeeded = State::Succeeded { at: at(60) };
    let failed = State::Failed { at: at(60) };
    let resting = |why: Option<&str>| ItemState::Resting { until: after(at(0), cooldown), why: why.map(Into::into) };
    let given_up =
        |now, text: &str| ItemState::Failed { at: now, why: format!("2 attempts, of which the last: {text}").into() };
    let nothing = "it brought nothing of what was missing";
    let soon = at(100);
    let later = after(at(0), cooldown);
    let live = State::Dispatched { at: at(0) };
    let done_for = |plan, attempts, state: &State| Facts {
        state: state.clone(),
        backfilled: Some(backfilled(plan, attempts)),
        last: Some(last.clone()),
        ..Facts::default()
    };
    let asked = ItemState::Asked { at: at(0) };
    let own = ["r"].as_slice();
    // What is known, what it is to bring, where it stood, when it is looked at, and where it stands.
    let table = [
        (
            Facts { wish: Some(wish(Some("law"), 50)), ..Facts::default() },
            own,
            ItemState::Waiting,
            soon,
            ItemState::Asked { at: at(50) },
        ),
        (
            Facts { wish: Some(wish(Some("other"), 50)), ..Facts::default() },
            own,
            ItemState::Waiting,
            soon,
            ItemState::Waiting,
        ),
        (Facts { wish: Some(wish(None, 50)), ..Facts::default() }, own, asked.clone(), soon, ItemState::Waiting),
        (done_for("law", 1, &live), own, ItemState::Waiting, soon, asked.clone()),
        (Facts { backfilled: None, ..done_for("law", 1, &live) }, own, ItemState::Waiting, soon, ItemState::Waiting),
        (Facts { last: None, ..done_for("law", 1, &live) }, own, ItemState::Waiting, later, ItemState::Waiting),
        (done_for("other", 1, &live), own, ItemState::Waiting, later, ItemState::Waiting),
        // Two attempts are all.
        (done_for("law", 1, &failed), own, asked.clone(), soon, resting(None)),
        (done_for("law", 1, &failed), own, asked.clone(), later, ItemState::Waiting),
        (done_for("other", 2, &failed), own, asked.clone(), later, ItemState::Waiting),
        (done_for("law", 2, &failed), own, asked.clone(), soon, given_up(soon, nothing)),
        // What a run that succeeded brings, and what others load of it, may still come.
        (done_for("law", 2, &succeeded), own, asked.clone(), soon, resting(None)),
        (done_for("law", 2, &succeeded), own, asked.clone(), later, given_up(later, nothing)),
        (done_for("law", 2, &failed), &["fed", "r"], asked.clone(), soon, resting(None)),
        (done_for("law", 2, &failed), &["fed", "r"], asked.clone(), later, given_up(later, nothing)),
    ];
    for (nth, (facts, fills, was, now, is)) in table.into_iter().enumerate() {
        let draft = Draft { items: vec![backfill::Item { state: was, ..item("r", 0, fills) }], refused: Vec::new() };
        let mut plan = running(draft);
        let mut partition = Partition::new(PartitionKey::new("laws", FIRST));
        partition.nodes.insert("r".into(), facts.clone());
        settle(&graph, &mut plan, 0, &partition, now);
        assert_eq!(plan.items[0].state, is, "{nth}");
        // Once all of it is there it is done, unless it is asked for still.
        let claim = Claim {
            run: "r".into(),
            published: at(70),
            records: None,
            extent: Extent::Whole,
            correlation: None,
            trace: None,
        };
        for node in fills {
            partition.nodes.entry(NodeId::from(*node)).or_default().evidence.claim(claim.clone());
        }
        settle(&graph, &mut plan, 0, &partition, now);
        let is = if matches!(is, ItemState::Asked { .. }) { is } else { ItemState::Done { at: now } };
        assert_eq!(plan.items[0].state, is, "{nth}, and it is there");
    }
    let rests = |seconds| {
        let now = later.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        backfill::has_to_wait(&done_for("other", 1, &failed), &graph.backfill.limits, now)
    };
    assert_eq!([-1, 0].map(rests), [Some(later), None]);
    assert_eq!(backfill::has_to_wait(&Facts::default(), &graph.backfill.limits, soon), None);
}

/// What is made again for the sake of its inputs is done once it was made after the last of them came.
#[test]
fn what_follows_is_done_once_it_was_made_after_its_inputs() {
    let graph = with_roads(graph(vec![source("s"), source("r"), task("t", vec![hard("s"), hard("r")])]));
    let done = |second| ItemState::Done { at: at(second) };
    let failed = || ItemState::Failed { at: at(1), why: "no".into() };
    for (s, r, made, is_done) in [
        (done(10), done(20), 21, true),
        (done(10), done(20), 20, false),
        (done(20), done(10), 15, false),
        (done(10), failed(), 11, true),
        (failed(), failed(), 11, false),
        (ItemState::Waiting, done(10), 11, true),
    ] {
        let items = vec![
            backfill::Item { state: s.clone(), ..item("s", 0, &["s"]) },
            backfill::Item { state: r.clone(), ..item("r", 0, &["r"]) },
            item("t", 0, &[]),
        ];
        let mut plan = running(Draft { items, refused: Vec::new() });
        let mut partition = Partition::new(PartitionKey::new("laws", FIRST));
        let facts = Facts { state: State::Succeeded { at: at(made) }, ..Facts::default() };
        partition.nodes.insert("t".into(), facts);
        settle(&graph, &mut plan, 2, &partition, at(30));
        let state = if is_done { done(30) } else { ItemState::Waiting };
        assert_eq!(plan.items[2].state, state, "{s:?}, {r:?}, made at {made}");
        // What is to bring something itself is done once that is there, whenever it was made.
        plan.items[2] = item("t", 0, &["t"]);
        settle(&graph, &mut plan, 2, &partition, at(30));
        assert_eq!(plan.items[2].state, ItemState::Waiting);
    }
}

/// A task is asked for once what it is made of is settled: of its date, and of the last date before it in the plan.
#[test]
fn a_task_waits_for_the_items_that_bring_its_inputs() {
    let yesterday = Dependency { offset: Offset::PreviousGameDay, ..hard("y") };
    let fed = Node { kind: Kind::Source(None), needs: vec![hard("feeder")], ..source("fed") };
    let graph = graph(vec![
        Node { kind: Kind::Source(Some(costs())), ..source("y") },
        Node { kind: Kind::Source(Some(costs())), ..source("feeder") },
        Node { kind: Kind::Source(Some(costs())), ..source("apart") },
        fed,
        task("m", vec![hard("fed")]),
        task("t", vec![hard("m"), yesterday]),
    ]);
    let is_free = |other: backfill::Item| {
        let plan = running(Draft { items: vec![other, item("t", 5, &["t"])], refused: Vec::new() });
        backfill::next(&graph, &plan, at(0)).contains(&1)
    };
    for (other, free) in [
        (item("feeder", 5, &["fed"]), false),
        (item("m", 5, &["m"]), false),
        (item("m", 5, &[]), false),
        (item("m", 4, &["m"]), true),
        (item("m", 6, &["m"]), true),
        (item("apart", 5, &["apart"]), true),
        (item("apart", 4, &["apart"]), true),
        (item("apart", 5, &["fed"]), false),
        (item("y", 4, &["y"]), false),
        (item("y", 2, &["y"]), false),
        (item("y", 5, &["y"]), true),
        (item("y", 6, &["y"]), true),
        (item("apart", 3, &["y"]), false),
        (item("t", 4, &["t"]), true),
    ] {
        assert_eq!(is_free(other.clone()), free, "{other:?}");
        let done = backfill::Item { state: ItemState::Done { at: at(0) }, ..other };
        assert!(is_free(done));
    }
    // Of several dates before it the last.
    for (early, late, free) in [(false, true, true), (true, false, false), (false, false, false)] {
        let state = |is_done| if is_done { ItemState::Done { at: at(0) } } else { ItemState::Asked { at: at(0) } };
        let items = vec![
            backfill::Item { state: state(early), ..item("y", 1, &["y"]) },
            backfill::Item { state: state(late), ..item("y", 3, &["y"]) },
            item("t", 5, &["t"]),
        ];
        let plan = running(Draft { items, refused: Vec::new() });
        assert_eq!(backfill::next(&graph, &plan, at(0)), if free { vec![2] } else { vec![] }, "{early} {late}");
    }
}

/// Of what was said of a plan the first and the latest stay.
#[test]
fn a_plan_remembers_how_it_came_about_and_what_was_said_last() {
    let mut plan = running(Draft::default());
    let said = |nth: i64| Said { at: at(nth), actor: "law".into(), text: nth.to_string().into() };
    for nth in 1..=100 {
        plan.say(said(nth));
    }
    let times: Vec<_> = plan.said.iter().map(|said| said.at).collect();
    assert_eq!(times.len(), 64);
    assert_eq!((times[0], times[1], times[63]), (at(0), at(38), at(100)));
}

/// What cannot be asked for is told once for each reason, with how many dates it concerns; what is made of it is not made
/// again for its sake, unless something else is missing.
#[test]
fn what_cannot_be_asked_for_is_told_with_its_dates() {
    let fed = Node { kind: Kind::Source(None), needs: vec![hard("r")], ..source("fed") };
    let lone = Node { kind: Kind::Source(None), needs: vec![], ..source("lone") };
    let of_yesterday = Node {
        kind: Kind::Source(None),
        needs: vec![Dependency { offset: Offset::PreviousGameDay, ..hard("r") }],
        ..source("old")
    };
    let of_task = Node { kind: Kind::Source(None), needs: vec![hard("t")], ..source("of-task") };
    let mut graph = graph(vec![
        Node { kind: Kind::Source(Some(costs())), ..source("r") },
        fed,
        lone,
        of_yesterday,
        task("t", vec![hard("fed")]),
        of_task,
        task("u", vec![hard("t")]),
    ]);
    graph.backfill.roads.insert("t".into(), Road::Refused("it only knows today".into()));
    let dates = days(&[3, 5, 9].into());
    let drafted = |node: &str, cascade| {
        let draft = draft(&graph, &BTreeMap::from([(node.into(), dates.clone())]), &dates, cascade);
        let items: BTreeSet<String> = draft.items.iter().map(|item| item.node.to_string()).collect();
        let refused: Vec<_> =
            draft.refused.iter().map(|no| (no.node.to_string(), no.days, no.from, no.until)).collect();
        (items.into_iter().collect::<Vec<_>>().join(" "), refused)
    };
    let all = |node: &str| vec![(node.to_owned(), 3, *dates.first().unwrap(), *dates.last().unwrap())];
    assert_eq!(drafted("fed", false), ("r".to_owned(), vec![]), "who feeds it is asked");
    for node in ["lone", "old", "of-task", "t"] {
        assert_eq!(drafted(node, false), (String::new(), all(node)), "{node}");
    }
    assert_eq!(drafted("fed", true), ("r".to_owned(), all("t")), "and nothing beyond it");
    assert_eq!(drafted("t", true), ("u".to_owned(), all("t")));
    assert_eq!(drafted("gone", false), (String::new(), all("gone")), "the pipeline has none of that name");
}

/// Items of a plan that goes on by itself are in the order of their dates, the latest first, and of one date in that of the
/// graph.
#[test]
fn the_latest_dates_come_first_where_a_plan_fills_itself() {
    let graph = with_roads(graph(vec![source("s"), source("a"), task("t", vec![hard("s")])]));
    let order = |items: &[backfill::Item]| -> Vec<String> {
        items.iter().map(|item| format!("{}{}", item.node, item.date.day())).collect()
    };
    let dates = days(&[0, 1].into());
    let missing = ["t", "a", "s"].map(|node| (NodeId::from(node), dates.clone()));
    let drafted = draft(&graph, &missing.into(), &dates, false);
    assert_eq!(
        order(&drafted.items),
        ["s1", "a1", "s2", "a2", "t1", "t2"],
        "sources before tasks, and the oldest first"
    );
    let mut plan = running(Draft::default());
    plan.take_in(&graph, drafted, FIRST);
    assert_eq!(order(&plan.items), ["s2", "a2", "t2", "s1", "a1", "t1"]);
}

/// A plan takes as long as all its runs in so many lanes, and no shorter than the longest of them.
#[test]
fn an_estimate_counts_what_is_left_in_lanes() {
    let mut graph = with_roads(graph(vec![source("s"), source("r")]));
    graph.nodes.get_mut("r").unwrap().liveness.duration_max = SignedDuration::from_mins(90);
    let no_history = History { days: Vec::new() };
    let mut items: Vec<backfill::Item> = (0..6).map(|day| item("s", day, &["s"])).collect();
    for (lanes, takes) in [(1, 360), (2, 180), (4, 90), (10, 60), (0, 360)] {
        graph.backfill.limits.at_once = lanes;
        let estimate = backfill::estimate(&graph, &items, &no_history);
        let minutes = (estimate.work.as_mins(), estimate.takes.as_mins(), estimate.known);
        assert_eq!(minutes, (360, takes, 0), "{lanes} at once");
    }
    items.push(item("r", 0, &["r"]));
    for item in &mut items[..3] {
        item.state = ItemState::Done { at: at(0) };
    }
    graph.backfill.limits.at_once = 3;
    let estimate = backfill::estimate(&graph, &items, &no_history);
    assert_eq!((estimate.work.as_mins(), estimate.takes.as_mins()), (270, 90));
    // Where past days tell, they are believed.
    let took = BTreeMap::from([(NodeId::from("s"), SignedDuration::from_mins(20))]);
    let past = Arc::new(forecast::Day { took, ..forecast::Day::default() });
    let history = History { days: vec![past; 30] };
    let estimate = backfill::estimate(&graph, &items, &history);
    assert_eq!((estimate.work.as_mins(), estimate.takes.as_mins(), estimate.known), (150, 90, 3));
}
