//! What is shown of a date: who is held, who goes without what, and who made up for whom.

use std::collections::BTreeMap;

use tipoff::domain::coverage::{Coverage, PerMille};
use tipoff::domain::event::EdgeRule;
use tipoff::domain::graph::{Graph, Kind, Node};
use tipoff::domain::partition::{EdgeWord, Hold, Partition, State, Way};
use tipoff::domain::time::Now;
use tipoff::domain::view::{Blocker, NodeView, Reason, Why, brief, remedies, view, why, words};

use crate::facts::facts;
use crate::graphs::{DATE, at, costs, empty, graph, hard, source, task};
use crate::walk::{claimed, games};

/// A source and what is made of it, in two passes of one processor.
fn passes() -> Graph {
    let asked = Node { kind: Kind::Source(Some(costs())), ..source("r") };
    let of = graph(vec![source("s"), asked, task("late", vec![hard("s")]), task("t", vec![hard("s")])]);
    let mut nodes = of.nodes.clone();
    nodes.insert("late".into(), Node { cycle: "same_day".into(), ..nodes["late"].clone() });
    let aliases = BTreeMap::from([("producer".to_owned(), vec!["late".into(), "t".into()])]);
    Graph::new(of.pipeline, 1, of.zone, nodes, of.order, of.cycles, aliases, of.limits)
}

fn shown(date: &Partition, id: &str) -> NodeView {
    let view = view(&passes(), date, Now::caught_up(at(60)));
    view.nodes.into_iter().find(|node| node.node.as_str() == id).unwrap()
}

fn by_ann(until: Option<i64>) -> Hold {
    Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: until.map(at) }
}

/// A hold is shown once, also where nothing is wanted; not of what is never asked for.
#[test]
fn a_hold_is_shown_where_nothing_is_wanted_too() {
    let held = |blockers: &[Blocker]| blockers.iter().filter(|blocker| matches!(blocker, Blocker::Held { .. })).count();
    for (id, is_done, expected) in [("t", true, 1), ("t", false, 1), ("r", false, 1), ("s", false, 0)] {
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(0);
        let node = facts(&mut date, id);
        node.hold = Some(by_ann(None));
        if is_done {
            (node.state, node.evidence, node.built_from) = (State::Succeeded { at: at(0) }, claimed(0), Some(at(0)));
        }
        assert_eq!(held(&shown(&date, id).blockers), expected, "{id} {is_done}");
    }
}

/// Since when a node stands as it does is shown, and why it is skipped.
#[test]
fn it_is_shown_since_when_and_why() {
    let mut date = games();
    facts(&mut date, "t").state = State::Skipped { at: at(30), reason: "not today".into() };
    facts(&mut date, "late").state = State::Exhausted { at: at(20) };
    let [t, late, s] = ["t", "late", "s"].map(|id| shown(&date, id));
    assert_eq!((t.since, t.skipped_for.as_deref()), (Some(at(30)), Some("not today")));
    assert_eq!((late.since, late.skipped_for), (Some(at(20)), None));
    assert_eq!((s.since, s.skipped_for), (None, None));
}

/// What operators have a node go without is told until their word ends; a word that stops it is another matter.
#[test]
fn what_a_node_goes_without_is_told_until_that_ends() {
    let verdict = |rule, until| {
        let mut date = games();
        let t = facts(&mut date, "t");
        t.edges = [("s".into(), EdgeWord { rule: Some(rule), by: by_ann(until) })].into();
        let view = view(&passes(), &date, Now::caught_up(at(60)));
        let verdict = why(&view, &"t".into()).unwrap().verdict;
        verdict.split_once("; ").map(|(_, word)| word.to_owned())
    };
    let word = "it goes without s, by ann: law".to_owned();
    assert_eq!(verdict(EdgeRule::Force, None), Some(word));
    let until = "it goes without s, by ann until 2026-01-22 12:02:00Z: law".to_owned();
    assert_eq!(verdict(EdgeRule::Force, Some(120)), Some(until));
    assert_eq!(verdict(EdgeRule::Force, Some(60)), None);
    assert_eq!(verdict(EdgeRule::Hold, None), None);
}

/// That a request has not been handed over is told while it is still to be.
#[test]
fn what_has_not_been_handed_over_is_told_while_it_is_to_be() {
    for (state, told) in [(State::Dispatched { at: at(0) }, Some("no such topic")), (State::Failed { at: at(0) }, None)]
    {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.way) = (state.clone(), Some(Way::Refused { since: at(0), reason: "no such topic".into() }));
        assert_eq!(shown(&date, "t").refused.as_deref(), told, "{state:?}");
    }
}

/// A pass that is over without its work is made up for by another that did it.
#[test]
fn a_pass_is_made_up_for_by_another_that_did_its_work() {
    let done = State::Succeeded { at: at(0) };
    let over = State::Expired { at: at(0) };
    for (t, late, by) in
        [(over.clone(), done.clone(), Some("late")), (over.clone(), over.clone(), None), (State::Waiting, done, None)]
    {
        let mut date = games();
        facts(&mut date, "t").state = t.clone();
        facts(&mut date, "late").state = late.clone();
        let by_whom = shown(&date, "t").made_up_by;
        assert_eq!(by_whom.as_ref().map(|id| id.as_str()), by, "{t:?} {late:?}");
    }
}

/// A node of another date is named with it.
#[test]
fn a_node_of_another_date_is_named_with_it() {
    let unmet = |date| Blocker::Unmet { node: "s".into(), date, state: "nothing known" };
    assert_eq!(words(&unmet(DATE), DATE), "s: nothing known");
    assert_eq!(words(&unmet(DATE.yesterday().unwrap()), DATE), "s@2026-01-21: nothing known");
    assert_eq!(brief(&unmet(DATE), DATE), "s: nothing known");
    let quorum = Blocker::Quorum {
        gate: "join".into(),
        good: 1,
        total: 3,
        missing: ["a".into(), "b".into()].into(),
        missing_critical: [].into(),
        until: None,
    };
    assert_eq!(brief(&quorum, DATE), "join: 1 of 3, 2 missing");
}

/// A budget that is spent is told by what it allows: so many runs of a date, or else so many tries with the same inputs.
#[test]
fn a_budget_that_is_spent_is_told_by_what_it_allows() {
    let of_inputs = "3 attempts made on these inputs, 3 allowed";
    for (dispatches, expected) in [
        (3, of_inputs),
        (11, of_inputs),
        (12, "12 dispatches made on this date, 12 allowed"),
        (13, "13 dispatches made on this date, 12 allowed"),
    ] {
        let spent = Blocker::Budget { attempts: 3, attempts_max: 3, dispatches, dispatches_max: 12 };
        assert_eq!(words(&spent, DATE), expected);
    }
}

/// What nothing more is done about can be run all the same, and what speaks against it is said.
#[test]
fn what_speaks_against_another_run_is_said() {
    for (state, effect) in [
        (State::Expired { at: at(0) }, "run it although its pass over the date is over"),
        (State::Exhausted { at: at(0) }, "run it although its budget is spent"),
    ] {
        let mut date = empty();
        let t = facts(&mut date, "t");
        t.state = state;
        t.spent = [(crate::walk::no_inputs(), Default::default())].into();
        let view = view(&passes(), &date, Now::caught_up(at(60)));
        let why = why(&view, &"t".into()).unwrap();
        let effects: Vec<_> = remedies(&view, &why).into_iter().map(|remedy| remedy.effect).collect();
        assert!(effects.iter().any(|found| found == effect), "{effects:?}");
    }
}

/// What is short is made again where it can be asked for, and gone without where it cannot.
#[test]
fn nobody_is_told_to_ask_for_what_is_never_asked_for() {
    let mut date = games();
    facts(&mut date, "s").evidence = claimed(0);
    let view = view(&passes(), &date, Now::caught_up(at(60)));
    let tried = |input: &str| {
        let observed = Coverage::new(1, 2).unwrap();
        let blocker = Blocker::CoverageShort { node: input.into(), date: DATE, observed, required: PerMille::FULL };
        let reason = Reason { text: words(&blocker, DATE), under: Vec::new(), blocker };
        let why = Why { node: "t".into(), date: DATE, state: "waiting", verdict: String::new(), because: vec![reason] };
        remedies(&view, &why).into_iter().map(|remedy| remedy.command).collect::<Vec<_>>()
    };
    assert_eq!(tried("r"), [format!("tipoff retry {DATE} r --reason …")]);
    assert_eq!(tried("s"), [format!("tipoff force {DATE} t --past s --reason …")]);
}
