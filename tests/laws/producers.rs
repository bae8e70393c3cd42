//! A source whose producer can be asked: it is bounded, watched and believed as a task is.

use jiff::SignedDuration;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use tipoff::domain::backfill::Road;
use tipoff::domain::calendar::Anchor;
use tipoff::domain::effect::{Cause, Effect};
use tipoff::domain::failure::{ClockTime, Ends, FailureClass};
use tipoff::domain::graph::{Graph, Kind, Node};
use tipoff::domain::partition::{Failure, FailureKind, Node as Facts, Partition, Spent, Starter, State, Wish};
use tipoff::domain::readiness::Blocker;

use crate::graphs::{at, costs, graph, minutes, source};
use crate::walk::{failure, games, no_inputs, run, seen, walk};

/// One source, due an hour after the first tip-off of the evening and never asked about; minutes after noon.
const DUE: i64 = 9 * 60;

fn asked() -> Graph {
    let mut node = Node { kind: Kind::Source(Some(costs())), probed: false, ..source("r") };
    node.expects.due = vec![Anchor::FirstTip(minutes(60))];
    graph(vec![node])
}

fn of(r: Facts) -> Partition {
    let mut date = games();
    date.nodes.insert("r".into(), r);
    date
}

fn wish(plan: Option<&str>) -> Option<Wish> {
    Some(Wish { actor: "ann".into(), reason: "law".into(), at: at(60), plan: plan.map(Into::into) })
}

fn is_asked(date: &Partition, minute: i64) -> bool {
    let (_, plan) = walk(&asked(), date, minute);
    plan.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_)))
}

/// A producer is asked so many times with the same inputs and on one date.
#[test]
fn a_producer_has_a_budget() {
    for (attempts, dispatches, is_spent) in [(2, 0, false), (3, 0, true), (0, 11, false), (0, 12, true)] {
        let spent = [(no_inputs(), Spent { attempts, ..Spent::default() })].into();
        let (_, plan) = walk(&asked(), &of(Facts { spent, dispatches, ..Facts::default() }), DUE + 1);
        let r = &plan.verdicts["r"];
        assert_eq!(r.want, Some(Cause::Overdue), "{attempts} {dispatches}");
        let budget = Blocker::Budget { attempts, attempts_max: 3, dispatches, dispatches_max: 12 };
        assert_eq!(r.blockers, if is_spent { vec![budget] } else { vec![] }, "{attempts} {dispatches}");
    }
}

/// While it is at work it is not asked again, whoever wishes so.
#[test]
fn a_producer_that_is_at_work_is_not_asked_again() {
    let at_work = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Them };
    for (state, expected) in [(State::Waiting, true), (State::Dispatched { at: at(0) }, false), (at_work, false)] {
        let runs = if expected { [].into() } else { [("x".into(), run(0, 5))].into() };
        let date = of(Facts { state: state.clone(), runs, wish: wish(None), ..Facts::default() });
        assert_eq!(is_asked(&date, 6), expected, "{state:?}");
    }
}

/// A producer that can be asked for past dates alone is asked for nothing by itself.
#[test]
fn a_producer_of_past_dates_alone_is_asked_for_nothing_by_itself() {
    for (only, wish, want) in [
        (false, None, Some(Cause::Overdue)),
        (true, None, None),
        (true, wish(Some("p")), Some(Cause::Backfill)),
        (true, wish(None), Some(Cause::Requested)),
    ] {
        let mut graph = asked();
        graph.backfill.roads = [("r".into(), Road::Apart { only })].into();
        let (_, plan) = walk(&graph, &of(Facts { wish, ..Facts::default() }), DUE + 1);
        assert_eq!(plan.verdicts["r"].want, want, "{only}");
    }
}

/// What it was asked for and nobody began, and what it began and says no more of, has failed.
#[test]
fn a_producer_that_falls_silent_has_failed() {
    let spent = || [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into();
    let dispatched = Facts { state: State::Dispatched { at: at(0) }, spent: spent(), ..Facts::default() };
    let running = Facts {
        state: State::Running { since: at(60), inputs_at: at(60), starter: Starter::Us },
        runs: [("x".into(), run(1, 70))].into(),
        spent: spent(),
        ..Facts::default()
    };
    for (r, minute, kind) in [
        (dispatched.clone(), 9, None),
        (dispatched, 10, Some(FailureKind::NotStarted)),
        (running.clone(), 84, None),
        (running, 85, Some(FailureKind::Silent)),
    ] {
        let (after, _) = walk(&asked(), &of(r.clone()), minute);
        assert_eq!(after.nodes["r"].failure.as_ref().map(|failure| failure.kind), kind, "{r:?} {minute}");
    }
}

/// What the warehouse has counted in full since it failed is there, and it has not failed any more.
#[test]
fn what_is_counted_in_full_outweighs_a_failure() {
    for (minute, tenths, is_there) in [(20, 10, true), (19, 10, false), (21, 9, false)] {
        let failed = Facts {
            state: State::Failed { at: at(20 * 60) },
            failure: Some(failure(20, FailureKind::Reported)),
            evidence: seen(minute, tenths, &[]),
            ..Facts::default()
        };
        let (after, _) = walk(&asked(), &of(failed), 22);
        let r = &after.nodes["r"];
        assert_eq!(matches!(r.state, State::Succeeded { .. }), is_there, "{minute} {tenths}");
        assert_eq!(r.failure.is_none(), is_there, "{minute} {tenths}");
    }
    // So it is where it was asked once more meanwhile.
    let asked_again = Facts {
        state: State::Dispatched { at: at(20 * 60) },
        failure: Some(failure(10, FailureKind::Reported)),
        evidence: seen(21, 10, &[]),
        ..Facts::default()
    };
    let (after, _) = walk(&asked(), &of(asked_again), 22);
    assert_eq!((&after.nodes["r"].state, &after.nodes["r"].failure), (&State::Succeeded { at: at(21 * 60) }, &None));
}

/// What fails with the same inputs again is tried with others only, and what ends at a clock time not before.
#[test]
fn a_producer_that_fails_for_its_inputs_or_until_a_clock_time_is_not_asked_meanwhile() {
    let of_class = |ends| {
        let mut graph = asked();
        graph.failures = vec![FailureClass { name: "quota".into(), words: vec!["no".into()], ends }];
        graph
    };
    let failed = Facts {
        state: State::Failed { at: at(0) },
        failure: Some(Failure { charged: false, ..failure(0, FailureKind::Reported) }),
        ..Facts::default()
    };
    let (after, _) = walk(&of_class(Ends::WithNewInputs), &of(failed.clone()), 1);
    assert_eq!(after.nodes["r"].spent[&no_inputs()].attempts, 3);
    let clock = ClockTime { at: Time::constant(23, 0, 0, 0), zone: TimeZone::UTC, spread: SignedDuration::ZERO };
    let (_, plan) = walk(&of_class(Ends::At(clock)), &of(failed), DUE + 1);
    let used_up = Blocker::UsedUp { what: "quota".into(), until: at(11 * 3_600) };
    assert_eq!((plan.verdicts["r"].want, &plan.verdicts["r"].blockers), (Some(Cause::Failed), &vec![used_up]));
}
