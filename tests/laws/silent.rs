//! A phase in which nobody shows a sign of life, and a node that is late.

use tipoff::domain::coverage::PerMille;
use tipoff::domain::effect::{Cause, Effect};
use tipoff::domain::graph::{Check, Dependency, Graph, Node, Unanswered};
use tipoff::domain::partition::{FailureKind, Hold, Node as Facts, Partition, Spent, State, Way, Wish};
use tipoff::domain::plan::Plan;
use tipoff::domain::readiness::Blocker;
use tipoff::domain::silence::{Silent, phases};
use tipoff::domain::time::{Now, Wake};
use tipoff::domain::timetable::Timetable;

use crate::facts::facts;
use crate::graphs::{at, graph, hard, source, task};
use crate::walk::{claimed, games, last, no_inputs, now, seen, walk};

const END: i64 = 22 * 60;

/// Who is silent in the one phase of the graph at that minute.
fn silent(graph: &Graph, date: &Partition, minute: i64) -> Option<Silent> {
    phases(&Timetable::of(graph, date), date, now(minute), &mut Wake::new(now(minute))).remove("law")
}

fn two() -> Graph {
    graph(vec![task("t", vec![]), task("u", vec![])])
}

/// Asked for at noon, and not begun.
fn unstarted(cause: Cause) -> Facts {
    Facts {
        state: State::Failed { at: at(600) },
        last: Some(last(0, cause)),
        unstarted_since: Some(at(0)),
        ..Facts::default()
    }
}

/// Asked for again at that minute, in vain so far.
fn asked_again(minute: i64) -> Facts {
    let state = State::Dispatched { at: at(minute * 60) };
    Facts { state, last: Some(last(minute, Cause::NotStarted)), ..unstarted(Cause::NotStarted) }
}

fn with(t: Facts) -> Partition {
    let mut date = games();
    date.nodes = [("t".into(), t), ("u".into(), unstarted(Cause::DependenciesMet))].into();
    date
}

fn dispatched(plan: &Plan) -> Vec<String> {
    let sent = plan.effects.iter().filter_map(|effect| match effect {
        Effect::Dispatch(dispatch) => Some(dispatch.node.to_string()),
        _ => None,
    });
    sent.collect()
}

fn unheard(found: Option<Silent>) -> Vec<String> {
    found.map(|found| found.unheard.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// Two tasks that nobody begins make a phase silent; one may be late by itself.
#[test]
fn two_tasks_that_nobody_begins_make_a_phase_silent() {
    let both = ["t", "u"];
    let none: [&str; 0] = [];
    let dispatched = |minute: i64, way| Facts {
        state: State::Dispatched { at: at(minute * 60) },
        last: Some(last(minute, Cause::DependenciesMet)),
        way,
        ..Facts::default()
    };
    let refused = || Some(Way::Refused { since: at(0), reason: "no such topic".into() });
    let taken = |minute: i64| Some(Way::Taken { at: at(minute * 60) });
    let exhausted = Facts { state: State::Exhausted { at: at(600) }, ..unstarted(Cause::DependenciesMet) };
    let done = Facts { state: State::Succeeded { at: at(600) }, ..unstarted(Cause::DependenciesMet) };
    for (t, minute, expected) in [
        (unstarted(Cause::DependenciesMet), 20, both),
        (exhausted, 20, both),
        (dispatched(5, None), 20, both),
        (dispatched(5, taken(5)), 20, both),
    ]
    .into_iter()
    .map(|(t, minute, expected)| (t, minute, expected.to_vec()))
    .chain(
        [
            (dispatched(15, None), 20),
            (dispatched(5, taken(15)), 20),
            (dispatched(5, refused()), 20),
            (done, 20),
            (Facts::default(), 20),
            (unstarted(Cause::DependenciesMet), END),
        ]
        .map(|(t, minute)| (t, minute, none.to_vec())),
    ) {
        let found = silent(&two(), &with(t.clone()), minute);
        assert_eq!(unheard(found), expected, "{t:?} {minute}");
    }
    // Who has been heard since is not silent, and neither is who was never asked.
    for (heard, expected) in [(-1, both.to_vec()), (0, both.to_vec()), (1, none.to_vec())] {
        let heard_at = Some(at(heard * 60));
        let found = silent(&two(), &with(Facts { heard_at, ..unstarted(Cause::DependenciesMet) }), 20);
        assert_eq!(unheard(found), expected, "heard at {heard}");
    }
}

/// A sign of life of anybody in the phase, after the first should have begun, ends its silence.
#[test]
fn a_sign_of_life_of_anybody_ends_the_silence_of_a_phase() {
    let of = graph(vec![task("t", vec![]), task("u", vec![]), task("v", vec![])]);
    for (heard, is_silent) in [(-1, true), (0, true), (1, false)] {
        let mut date = with(unstarted(Cause::DependenciesMet));
        facts(&mut date, "v").heard_at = Some(at(heard * 60));
        let found = silent(&of, &date, 20);
        assert_eq!(found.is_some(), is_silent, "heard at {heard}");
        assert!(found.is_none_or(|found| found.last_sign == Some(at(heard * 60))));
    }
}

/// One task of a silent phase is tried: the first that may be, once.
#[test]
fn one_of_a_silent_phase_is_tried() {
    let probe = |t: Facts| {
        let found = silent(&two(), &with(t), 20).unwrap();
        (found.probe.map(|probe| probe.to_string()), found.untried)
    };
    let (of_t, of_u) = (Some("t".to_owned()), Some("u".to_owned()));
    let exhausted = Facts { state: State::Exhausted { at: at(600) }, ..unstarted(Cause::DependenciesMet) };
    let tried = asked_again(15);
    assert_eq!(probe(unstarted(Cause::DependenciesMet)), (of_t.clone(), true));
    assert_eq!(probe(exhausted), (of_u, true), "that may not be asked again");
    assert_eq!(probe(tried), (of_t, false), "it has time left");
    for cause in [Cause::NotStarted, Cause::Requested, Cause::InputsNewer] {
        let tried = Facts { last: Some(last(10, cause)), ..unstarted(cause) };
        assert_eq!(probe(tried), (None, false), "it was tried in vain: {cause:?}");
    }
    let handed = Facts { way: Some(Way::Taken { at: at(0) }), ..unstarted(Cause::DependenciesMet) };
    assert_eq!(probe(handed), (Some("t".to_owned()), true), "it was handed over, and asked for only once");
    // Tried at that minute, in a silence that has lasted since noon: after `backoff_max` at least, and after as long again.
    for (tried, again) in [(10, 50), (30, 70), (60, 120), (240, 480)] {
        let t = || Facts { last: Some(last(tried, Cause::NotStarted)), ..unstarted(Cause::NotStarted) };
        let found = |minute| silent(&two(), &with(t()), minute).unwrap();
        let (before, then) = (found(again - 1), found(again));
        assert_eq!((before.untried, before.again_at, before.probe), (false, Some(at(again * 60)), None), "{tried}");
        assert_eq!((then.untried, then.again_at, then.probe), (true, None, Some("u".into())), "{tried}");
        let date = with(t());
        // By the clock it is time, but nothing has been heard since.
        let deaf = Now { heard_until: at((again - 1) * 60), ..now(again + 60) };
        let found = phases(&Timetable::of(&two(), &date), &date, deaf, &mut Wake::new(deaf)).remove("law").unwrap();
        assert_eq!((found.untried, found.again_at), (false, Some(at(again * 60))), "{tried}");
        let mut wake = Wake::new(now(again - 1));
        phases(&Timetable::of(&two(), &date), &date, now(again - 1), &mut wake);
        assert_eq!(wake.earliest(), Some(at(again * 60)), "{tried}");
    }
    // A source is asked by nobody.
    let of = graph(vec![source("r"), Node { needs: vec![hard("r")], ..source("s") }, task("t", vec![hard("s")])]);
    let mut date = games();
    date.nodes = [("t".into(), unstarted(Cause::DependenciesMet))].into();
    read(&mut date);
    let found = silent(&of, &date, 20).unwrap();
    assert_eq!((unheard(Some(found.clone())), found.probe), (vec!["s".to_owned(), "t".to_owned()], Some("t".into())));
}

/// Who was asked longest ago is tried next; where that one may not, another is in the same decision.
#[test]
fn those_of_a_silent_phase_take_turns() {
    let of = graph(vec![task("t", vec![]), task("u", vec![]), task("v", vec![])]);
    let not_begun = Some(crate::walk::failure(10, FailureKind::NotStarted));
    let asked = |minutes: [i64; 3]| {
        let mut date = games();
        for (id, minute) in ["t", "u", "v"].into_iter().zip(minutes) {
            let last = Some(last(minute, Cause::NotStarted));
            let facts = Facts { last, failure: not_begun.clone(), ..unstarted(Cause::NotStarted) };
            date.nodes.insert(id.into(), facts);
        }
        date
    };
    let who = |date: &Partition| {
        let (next, plan) = walk(&of, date, 300);
        assert!(walk(&of, &next, 300).1.effects.is_empty(), "planned again at once");
        (dispatched(&plan), plan.verdicts["t"].blockers.clone())
    };
    for (minutes, expected) in [([0, 0, 0], "t"), ([10, 0, 0], "u"), ([10, 20, 0], "v"), ([20, 10, 30], "u")] {
        let (dispatched, blockers) = who(&asked(minutes));
        assert_eq!(dispatched, [expected], "{minutes:?}");
        let told = |blocker: &Blocker| matches!(blocker, Blocker::PhaseSilent { probe, .. } if probe.as_ref().is_some_and(|id| id.as_str() == expected));
        assert!(expected == "t" || blockers.iter().all(told), "{blockers:?}");
    }
    let held = |id: &str, minutes| {
        let mut date = asked(minutes);
        facts(&mut date, id).hold = Some(Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: None });
        who(&date).0
    };
    assert_eq!(held("v", [10, 20, 0]), ["t"], "it comes after them in the graph");
    assert_eq!(held("v", [20, 10, 0]), ["u"], "and the next in turn is not the first in the graph");
    assert_eq!(held("t", [0, 20, 10]), ["v"], "it comes before them, and then it is the turn of the next");
}

/// Why somebody of a silent phase is tried is told though the graph was walked a second time.
#[test]
fn why_the_one_that_is_tried_is_asked_is_told() {
    let not_begun = || {
        let failure = Some(crate::walk::failure(10, FailureKind::NotStarted));
        Facts { failure, ..unstarted(Cause::DependenciesMet) }
    };
    let mut date = with(not_begun());
    date.nodes.insert("u".into(), not_begun());
    let (_, plan) = walk(&two(), &date, 20);
    assert_eq!((dispatched(&plan), plan.verdicts["t"].want), (vec!["t".to_owned()], Some(Cause::NotStarted)));
}

/// What a run is still checked for keeps the one whose turn it is, and nobody else.
#[test]
fn a_check_that_is_not_answered_does_not_take_the_turn_of_another() {
    let least = |permille| PerMille::new(permille).unwrap();
    let mut checked = task("t", vec![]);
    checked.expects.checks = vec![Check {
        id: "enough".into(),
        warn_below: least(900),
        block_below: least(500),
        unanswered: Unanswered::Block,
    }];
    let of = graph(vec![checked, task("u", vec![])]);
    let mut date = with(unstarted(Cause::DependenciesMet));
    for id in ["t", "u"] {
        facts(&mut date, id).failure = Some(crate::walk::failure(10, FailureKind::NotStarted));
    }
    let (next, plan) = walk(&of, &date, 20);
    assert_eq!(dispatched(&plan), ["u"]);
    assert!(plan.effects.iter().any(|effect| matches!(effect, Effect::Check { .. })), "it is asked for all the same");
    assert!(walk(&of, &next, 20).1.effects.is_empty(), "planned again at once");
}

/// Where the one whose turn it is may not, another is chosen before anything is made of who waits: what needs an output that is
/// not made anew before the silence is over goes at once, not one decision later.
#[test]
fn who_stands_back_while_nobody_is_chosen_is_built_on_at_once() {
    let of = graph(vec![
        Node { phase: "other".into(), ..task("b", vec![]) },
        task("c", vec![hard("b")]),
        task("d", vec![]),
        task("z", vec![]),
        Node { phase: "other".into(), ..task("e", vec![hard("c")]) },
    ]);
    let mut date = games();
    let b = facts(&mut date, "b");
    // It is being made anew.
    (b.state, b.evidence, b.built_from) = (State::Dispatched { at: at(19 * 60) }, claimed(-60), Some(at(-3_600)));
    b.last = Some(last(19, Cause::Requested));
    for (id, minute) in [("c", 2), ("d", 2), ("z", 0)] {
        let asked = facts(&mut date, id);
        *asked = unstarted(Cause::DependenciesMet);
        (asked.last, asked.failure) =
            (Some(last(minute, Cause::DependenciesMet)), Some(crate::walk::failure(10, FailureKind::NotStarted)));
        asked.unstarted_since = Some(at(minute * 60));
    }
    let c = facts(&mut date, "c");
    (c.evidence, c.built_from) = (claimed(-50), Some(at(-3_000)));
    facts(&mut date, "z").hold = Some(Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: None });
    let (next, plan) = walk(&of, &date, 20);
    assert_eq!(dispatched(&plan), ["d", "e"]);
    assert!(walk(&of, &next, 20).1.effects.is_empty(), "planned again at once");
}

/// What `s` reads came at noon.
fn read(date: &mut Partition) {
    let r = facts(date, "r");
    r.evidence = claimed(0);
    let ended = tipoff::domain::partition::Ended { at: at(0), how: tipoff::domain::partition::End::Done };
    std::sync::Arc::make_mut(&mut r.ended).insert("r".into(), ended);
}

/// A source of which nothing is heard though what it reads has come is silent by itself, where somebody needs it.
#[test]
fn a_source_that_reads_what_has_come_and_says_nothing_is_silent() {
    let reads = |id: &str| Node { needs: vec![hard("r")], ..source(id) };
    let of = |least: u16, second: bool| {
        let need = |id: &str| Dependency { coverage_min: PerMille::new(least).unwrap(), ..hard(id) };
        let more = if second { vec![reads("z")] } else { vec![] };
        let needs = if second { vec![need("s"), need("z")] } else { vec![need("s")] };
        graph([vec![source("r"), reads("s")], more, vec![task("t", needs)]].concat())
    };
    let heard = Facts { heard_at: Some(at(-60)), ..Facts::default() };
    let counted = Facts { evidence: seen(-1, 5, &[]), ..Facts::default() };
    let skipped = Facts { state: State::Skipped { at: at(0), reason: "law".into() }, ..Facts::default() };
    for (facts, least, minute, is_silent) in [
        (None, 1_000, 10, true),
        (None, 1_000, 9, false),
        (None, 0, 10, false),
        (Some(Facts::default()), 1_000, 10, true),
        (Some(heard), 1_000, 10, false),
        (Some(counted), 1_000, 10, false),
        (Some(skipped), 1_000, 10, false),
    ] {
        let mut date = games();
        read(&mut date);
        date.nodes.extend(facts.clone().map(|facts| ("s".into(), facts)));
        assert_eq!(silent(&of(least, false), &date, minute).is_some(), is_silent, "{facts:?} {least} {minute}");
    }
    let mut date = games();
    read(&mut date);
    assert_eq!(unheard(silent(&of(1_000, true), &date, 10)), ["s", "z"]);
    assert!(silent(&of(1_000, false), &games(), 10).is_none(), "nothing has come that it could read");
}

/// When a source would be silent is looked at again then, and the last sign of life of a phase is that of whoever was heard last.
#[test]
fn a_phase_is_looked_at_again_when_it_may_be_silent() {
    let of = graph(vec![source("r"), Node { needs: vec![hard("r")], ..source("s") }, task("t", vec![hard("s")])]);
    let mut date = games();
    read(&mut date);
    let mut wake = Wake::new(now(9));
    assert!(phases(&Timetable::of(&of, &date), &date, now(9), &mut wake).is_empty());
    assert_eq!(wake.earliest(), Some(at(600)));
    let of = graph(["t", "u", "v", "w"].map(|id| task(id, vec![])).to_vec());
    for (v, w, last) in [(-20, -10, Some(-10)), (-10, -20, Some(-10)), (-10, 1, None), (1, -10, None)] {
        let mut date = with(unstarted(Cause::DependenciesMet));
        for (id, minute) in [("v", v), ("w", w)] {
            facts(&mut date, id).heard_at = Some(at(minute * 60));
        }
        let found = silent(&of, &date, 20);
        assert_eq!(found.and_then(|found| found.last_sign), last.map(|minute: i64| at(minute * 60)), "{v} {w}");
    }
}

/// Where the one that was tried may not be asked again, another is tried in that same decision.
#[test]
fn another_is_tried_where_the_one_that_was_may_not_be_asked_again() {
    let of = two();
    let mut date = with(Facts { state: State::Dispatched { at: at(0) }, ..unstarted(Cause::NotStarted) });
    let t = facts(&mut date, "t");
    (t.dispatches, t.attempt.run, t.attempt.attempt) = (12, 1, 1);
    for id in ["t", "u"] {
        let node = facts(&mut date, id);
        node.spent = [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into();
        node.failure = Some(crate::walk::failure(10, FailureKind::NotStarted));
    }
    let (after, found) = walk(&of, &date, 20);
    assert!(matches!(after.nodes["t"].state, State::Exhausted { .. }), "{:?}", after.nodes["t"].state);
    assert_eq!(dispatched(&found), ["u"]);
}

/// In a silent phase whoever has another reason to run than that nobody began it goes.
#[test]
fn who_is_not_silent_goes_though_the_phase_is() {
    let of = graph(vec![task("t", vec![]), task("u", vec![]), task("v", vec![])]);
    let mut date = with(asked_again(15));
    facts(&mut date, "u").failure = Some(crate::walk::failure(10, FailureKind::NotStarted));
    let (_, found) = walk(&of, &date, 20);
    assert!(found.verdicts["v"].blockers.is_empty(), "{:?}", found.verdicts["v"].blockers);
    assert_eq!(found.verdicts["u"].blockers.len(), 1);
}

/// Who stands back for another reason before the one that is tried is found waits for the end of the silence like all others:
/// what needs its output goes by the one that is there, and at once. So it does where an operator has the one tried.
#[test]
fn who_stood_back_before_the_one_that_is_tried_was_found_is_built_on_at_once() {
    let elsewhere = |node: Node| Node { phase: "other".into(), ..node };
    let wish = Wish { actor: "ann".into(), reason: "law".into(), at: at(19 * 60), plan: None };
    for (e, wish) in [
        (task("e", vec![hard("c")]), None),
        (elsewhere(task("e", vec![hard("c")])), None),
        (elsewhere(task("e", vec![hard("c")])), Some(wish)),
    ] {
        let of = graph(vec![elsewhere(task("b", vec![])), task("c", vec![hard("b")]), task("d", vec![]), e]);
        let mut date = games();
        let b = facts(&mut date, "b");
        // It is being made anew.
        (b.state, b.evidence, b.built_from) = (State::Dispatched { at: at(19 * 60) }, claimed(-60), Some(at(-3_600)));
        b.last = Some(last(19, Cause::Requested));
        for id in ["c", "d"] {
            let asked = facts(&mut date, id);
            (asked.state, asked.last) = (State::Dispatched { at: at(0) }, Some(last(0, Cause::DependenciesMet)));
        }
        let c = facts(&mut date, "c");
        (c.evidence, c.built_from) = (claimed(-50), Some(at(-3_000)));
        facts(&mut date, "d").wish = wish;
        let (next, plan) = walk(&of, &date, 20);
        assert_eq!(dispatched(&plan), ["d", "e"]);
        assert_eq!(dispatched(&walk(&of, &next, 20).1), [""; 0], "decided again at once");
    }
}

/// Why somebody is asked is told with it, as long as nobody waits for the end of a silence.
#[test]
fn why_somebody_is_asked_is_told_though_a_phase_is_silent() {
    let of = graph(vec![task("t", vec![]), task("u", vec![]), Node { phase: "other".into(), ..task("v", vec![]) }]);
    let spent = Facts { state: State::Exhausted { at: at(600) }, dispatches: 12, ..unstarted(Cause::DependenciesMet) };
    let done = Facts { state: State::Succeeded { at: at(600) }, evidence: claimed(10), ..Facts::default() };
    let not_begun =
        Facts { failure: Some(crate::walk::failure(10, FailureKind::NotStarted)), ..unstarted(Cause::DependenciesMet) };
    for (phase, is_silent, v, cause) in [
        (&spent, true, Facts::default(), Cause::DependenciesMet),
        (&spent, true, not_begun.clone(), Cause::NotStarted),
        (&done, false, not_begun, Cause::NotStarted),
    ] {
        let mut date = games();
        date.nodes = [("t".into(), phase.clone()), ("u".into(), phase.clone()), ("v".into(), v)].into();
        assert_eq!(silent(&of, &date, 20).is_some(), is_silent);
        let (_, plan) = walk(&of, &date, 20);
        assert_eq!((dispatched(&plan), plan.verdicts["v"].want), (vec!["v".to_owned()], Some(cause)));
    }
}
