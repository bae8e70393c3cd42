//! The engine refuses a decision that would break a law: each law by a decision that is right but for that.

use jiff::SignedDuration;
use tipoff::domain::decide::decide;
use tipoff::domain::effect::Effect;
use tipoff::domain::event::Event;
use tipoff::domain::graph::Graph;
use tipoff::domain::id::{Attempt, NodeId};
use tipoff::domain::invariant::check;
use tipoff::domain::partition::{Hold, Node as Facts, Partition, Spent, State};
use tipoff::domain::plan::{Plan, plan};
use tipoff::domain::readiness::Blocker;
use tipoff::domain::record::record;
use tipoff::domain::time::{Now, after};

use crate::facts::came;
use crate::graphs::{at, empty, graph, hard, source, task};

/// A decision: the date before it, the date after it, and what it found and sends.
struct Decided {
    graph: Graph,
    before: Partition,
    after: Partition,
    plan: Plan,
}

/// The first dispatch of a task, whose source has come.
fn sends() -> Decided {
    let graph = graph(vec![source("s"), task("t", vec![hard("s")])]);
    let (before, mut after) = (empty(), empty());
    record(&graph, &mut after, &Event::Completed(came("s", "r")));
    after.decided_at = at(0);
    let plan = plan(&graph, &mut after, Now::caught_up(at(0)));
    assert!(plan.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_))));
    Decided { graph, before, after, plan }
}

fn facts<'p>(partition: &'p mut Partition, id: &str) -> &'p mut Facts {
    partition.nodes.entry(id.into()).or_default()
}

fn t() -> NodeId {
    "t".into()
}

fn hold(until: Option<i64>) -> Hold {
    Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: until.map(at) }
}

/// The law that a decision breaks once it is altered.
fn broken(alter: impl FnOnce(&mut Decided)) -> Option<&'static str> {
    let mut decided = sends();
    alter(&mut decided);
    check(&decided.graph, &decided.before, &decided.after, &decided.plan).err().map(|violation| violation.slug)
}

#[test]
fn a_decision_that_breaks_a_law_is_refused_under_its_name() {
    assert_eq!(broken(|_| {}), None);
    assert_eq!(broken(|decided| decided.before.decided_at = at(0)), None);
    assert_eq!(broken(|decided| decided.before.decided_at = at(1)), Some("time-forward"));
    // Dispatched although blocked, or looked at by nobody, or nothing that can be.
    assert_eq!(
        broken(|decided| decided.plan.verdicts.get_mut(&t()).unwrap().blockers.push(Blocker::NoGames)),
        Some("dispatch-after-ready")
    );
    assert_eq!(broken(|decided| drop(decided.plan.verdicts.remove(&t()))), Some("dispatch-after-ready"));
    let unknown = |decided: &mut Decided| decided.graph = graph(vec![source("s"), source("t")]);
    assert_eq!(broken(unknown), Some("dispatch-after-ready"));
    for (until, is_held) in [(None, true), (Some(1), true), (Some(0), false)] {
        let expected = is_held.then_some("held-is-still");
        assert_eq!(broken(|decided| decided.after.hold = Some(hold(until))), expected);
        assert_eq!(broken(|decided| facts(&mut decided.after, "t").hold = Some(hold(until))), expected);
    }
    // Under another name, or decided already.
    let (first, second) = (Attempt { run: 1, attempt: 1 }, Attempt { run: 1, attempt: 2 });
    assert_eq!(broken(|decided| facts(&mut decided.after, "t").attempt = second), Some("same-decision-same-id"));
    for decided_before in [first, second] {
        let again = |decided: &mut Decided| facts(&mut decided.before, "t").attempt = decided_before;
        assert_eq!(broken(again), Some("same-decision-same-id"));
    }
}

/// What one decision spends is bounded; what was spent before it, under another declaration, is not its own.
#[test]
fn a_budget_bounds_what_a_decision_spends() {
    let spends = |had: Spent, spent: Spent| {
        broken(|decided| {
            let known = facts(&mut decided.after, "t");
            let fingerprint = known.last.as_ref().unwrap().fingerprint;
            known.spent.insert(fingerprint, spent);
            facts(&mut decided.before, "t").spent.insert(fingerprint, had);
        })
    };
    let attempts = |attempts| Spent { attempts, ..Spent::default() };
    let repairs = |repairs| Spent { repairs, ..Spent::default() };
    let over = Some("budget-bounds");
    let table = [
        (attempts(2), attempts(3), None),
        (attempts(3), attempts(4), over),
        (attempts(4), attempts(4), None),
        (attempts(5), attempts(4), None),
        (repairs(0), repairs(1), None),
        (repairs(1), repairs(2), over),
        (repairs(2), repairs(2), None),
        (repairs(3), repairs(2), None),
    ];
    for (had, spent, expected) in table {
        assert_eq!(spends(had, spent), expected, "{had:?}, then {spent:?}");
    }
}

#[test]
fn a_success_stays_and_what_is_unfinished_is_looked_at_again() {
    let stood = |after: State, lost: bool| {
        broken(|decided| {
            decided.before = decided.after.clone();
            facts(&mut decided.before, "s").state = State::Succeeded { at: at(0) };
            let known = facts(&mut decided.after, "s");
            known.state = after;
            if lost {
                known.evidence.claim = None;
            }
            decided.plan.effects.clear();
        })
    };
    let at = at(0);
    let stays = Some("success-stays");
    assert_eq!(stood(State::Succeeded { at }, false), None);
    assert_eq!(stood(State::Succeeded { at }, true), stays);
    assert_eq!(stood(State::Failed { at }, false), None, "a newer run may fail");
    assert_eq!(stood(State::Waiting, false), stays);
    assert_eq!(stood(State::Expired { at }, false), stays);
    assert_eq!(stood(State::Skipped { at, reason: "law".into() }, false), stays);
    // A dispatch that nobody will look at again.
    assert_eq!(broken(|decided| decided.plan.wake_at = None), Some("never-wedged"));
    // What only a clock lifts, without a time to look at it; a hold without an end waits for its operator.
    let waits = |blockers: Vec<Blocker>, is_wanted: bool| {
        broken(|decided| {
            decided.plan.effects.clear();
            decided.plan.wake_at = None;
            facts(&mut decided.after, "t").state = State::Waiting;
            let verdict = decided.plan.verdicts.get_mut(&t()).unwrap();
            verdict.blockers = blockers;
            verdict.want = verdict.want.filter(|_| is_wanted);
        })
    };
    let backoff = || Blocker::Backoff { until: after(at, SignedDuration::from_mins(1)) };
    let scope = tipoff::domain::readiness::Scope::Node;
    let held = Blocker::Held { scope, actor: "ann".into(), reason: "law".into(), until: None };
    assert_eq!(waits(vec![backoff()], true), Some("never-wedged"));
    assert_eq!(waits(vec![backoff()], false), None);
    assert_eq!(waits(vec![backoff(), Blocker::NoGames], true), None);
    assert_eq!(waits(vec![backoff(), held], true), None);
    assert_eq!(waits(Vec::new(), true), None);
}

/// The engine gets no decision that breaks one.
#[test]
fn a_decision_is_checked_before_it_is_given_out() {
    let Decided { graph, mut before, .. } = sends();
    before.decided_at = at(10);
    let decided = decide(&graph, &before, &[Event::Tick], Now::caught_up(at(0))).unwrap();
    assert!(decided.next.decided_at >= at(10), "a clock that lags does not go back");
}
