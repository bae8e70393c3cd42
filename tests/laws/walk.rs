//! What one walk over a date finds: what is to be asked for, what bounds that, and what people are told of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Time;
use tipoff::domain::calendar::{Anchor, Override, Schedule};
use tipoff::domain::coverage::PerMille;
use tipoff::domain::decide::decide;
use tipoff::domain::effect::{Cause, Effect, Severity, Turn};
use tipoff::domain::event::{CheckAnswer, Event, Game, GameStatus, Upstream};
use tipoff::domain::evidence::{Claim, Evidence, Extant, Version};
use tipoff::domain::graph::{
    Check, DayTime, Dependency, Gate, Graph, Heartbeats, Kind, Node, Rebuild, Task, Tier, Unanswered, Unit,
};
use tipoff::domain::id::{Attempt, NodeId};
use tipoff::domain::partition::{
    Backfilled, CheckTaken, End, Failure, FailureKind, LastDispatch, Node as Facts, Partition, Run, Spent, Starter,
    State, Way, Wish,
};
use tipoff::domain::plan::{Plan, plan};
use tipoff::domain::readiness::{Blocker, Readiness};
use tipoff::domain::time::Now;

use crate::facts::{came, claim, facts, of_ten};
use crate::graphs::{DATE, at, costs, empty, graph, hard, minutes, source, task};

/// A moment at which nothing is on its way.
pub fn now(minute: i64) -> Now {
    Now::caught_up(at(minute * 60))
}

/// Evidence of a completion.
pub fn claimed(minute: i64) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.claim(Claim { records: Some(1), ..claim(minute * 60) });
    evidence
}

/// Evidence of what the warehouse counted.
pub fn seen(minute: i64, tenths: u32, units: &[(&str, u32)]) -> Evidence {
    let mut evidence = Evidence::default();
    let units = units.iter().map(|(unit, tenths)| ((*unit).into(), of_ten(*tenths))).collect();
    evidence.look(at(minute * 60));
    evidence.observe(at(minute * 60), of_ten(tenths), units);
    evidence
}

/// A failure that was paid for.
pub fn failure(minute: i64, kind: FailureKind) -> Failure {
    Failure { at: at(minute * 60), run: None, kind, text: "no".into(), charged: true, began: None }
}

/// A date with one game.
pub fn with_games(tip: Option<Timestamp>, status: GameStatus) -> Partition {
    let mut date = empty();
    let games = BTreeMap::from([("20260122_BOS_NYK".into(), Game { tip, status, id: None })]);
    date.schedule = Some(Schedule { at: at(0), games, emptied_at: None });
    date
}

/// A date with one game in the evening.
pub fn games() -> Partition {
    with_games(Some(at(8 * 3_600)), GameStatus::Scheduled)
}

/// The date after a walk over it, and what the walk found.
pub fn walk(graph: &Graph, date: &Partition, minute: i64) -> (Partition, Plan) {
    let mut after = date.clone();
    let plan = plan(graph, &mut after, now(minute));
    (after, plan)
}

/// What begins to be told of, by topic.
fn raised(plan: &Plan) -> Vec<(&str, Severity)> {
    let raised = plan.effects.iter().filter_map(|effect| match effect {
        Effect::Alert(alert) if alert.turn == Turn::Raised => Some((alert.key.topic(), alert.severity)),
        _ => None,
    });
    raised.collect()
}

/// How bad what begins to be told of under `topic` is.
pub fn about(plan: &Plan, topic: &str) -> Option<Severity> {
    raised(plan).into_iter().find(|(of, _)| *of == topic).map(|(_, severity)| severity)
}

/// A source whose output is due at six in the afternoon, six hours after the laws begin.
fn due() -> Node {
    let clock = DayTime { days: 0, time: Time::constant(18, 0, 0, 0) };
    let mut node = Node { kind: Kind::Source(Some(costs())), probed: false, ..source("r") };
    node.expects.due = vec![Anchor::Clock(clock)];
    node
}

/// The fingerprint of a node that is made of nothing.
pub fn no_inputs() -> Version {
    Readiness::default().fingerprint()
}

/// A dispatch of before.
pub fn last(minute: i64, cause: Cause) -> LastDispatch {
    LastDispatch {
        id: Attempt { run: 1, attempt: 1 }.dispatch_id(&empty().key, &"r".into()),
        at: at(minute * 60),
        cause,
        fingerprint: no_inputs(),
        degraded: false,
        missing: [].into(),
    }
}

/// A producer works by its own schedule: it is asked for what is not there when it is due, and earlier only where it cannot be
/// about to try again itself.
#[test]
fn a_producer_is_asked_for_what_is_due_and_for_what_it_does_not_try_itself() {
    const BEFORE: i64 = 5 * 60;
    const AFTER: i64 = 7 * 60;
    let of = graph(vec![due()]);
    let mut at_any_time = due();
    at_any_time.expects.due = Vec::new();
    let at_any_time = graph(vec![at_any_time]);
    let want = |graph: &Graph, date: &Partition, minute| walk(graph, date, minute).1.verdicts["r"].want;
    let failed = |kind| Facts {
        state: State::Failed { at: at(0) },
        failure: Some(failure(0, kind)),
        spent: [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into(),
        ..Facts::default()
    };
    let exhausted = |spent| Facts {
        state: State::Exhausted { at: at(0) },
        spent: [(no_inputs(), spent)].into(),
        ..Facts::default()
    };
    let short = |repairs| Facts {
        evidence: seen(10, 5, &[("BOS", 5)]),
        spent: [(no_inputs(), Spent { repairs, ..Spent::default() })].into(),
        ..Facts::default()
    };
    let whole = Facts { evidence: seen(10, 10, &[("BOS", 10)]), ..Facts::default() };
    for (facts, before, after) in [
        (Facts::default(), None, Some(Cause::Overdue)),
        (failed(FailureKind::Reported), None, Some(Cause::Failed)),
        (failed(FailureKind::Empty), None, Some(Cause::Failed)),
        (failed(FailureKind::Silent), Some(Cause::HeartbeatDead), Some(Cause::HeartbeatDead)),
        (exhausted(Spent::default()), None, Some(Cause::Overdue)),
        (exhausted(Spent { attempts: 3, ..Spent::default() }), None, None),
        (exhausted(Spent { not_started: 2, ..Spent::default() }), None, None),
        (short(0), Some(Cause::CoverageShort), Some(Cause::CoverageShort)),
        (short(1), None, None),
        (whole, None, None),
    ] {
        let mut date = games();
        date.nodes.insert("r".into(), facts.clone());
        assert_eq!(want(&of, &date, BEFORE), before, "{facts:?}");
        assert_eq!(want(&of, &date, AFTER), after, "{facts:?}");
        if facts.failure.is_some_and(|failure| failure.kind == FailureKind::Empty) {
            assert_eq!(want(&at_any_time, &date, BEFORE), Some(Cause::Failed), "nothing says when it should be there");
        }
    }
    // The schedule is asked for where what it says cannot be.
    let mut of_schedule = of.clone();
    of_schedule.calendar.schedule = Some("r".into());
    of_schedule.calendar.game_max = minutes(60);
    let mut emptied = games();
    emptied.schedule.as_mut().unwrap().emptied_at = Some(at(0));
    let overlong = with_games(Some(at(3_600)), GameStatus::Live);
    for (date, cause) in [(games(), None), (emptied, Some(Cause::Overdue)), (overlong, Some(Cause::Overdue))] {
        assert_eq!(want(&of_schedule, &date, BEFORE), cause);
        assert_eq!(want(&of, &date, BEFORE), None, "another source knows nothing of that");
    }
}

/// What a producer was asked for is there once the warehouse has counted all of it since; a producer that did not answer is
/// asked again after the time that a run may take.
#[test]
fn what_a_producer_was_asked_for_is_there_once_it_is_counted() {
    let of = graph(vec![due()]);
    for (tenths, minute, is_done) in [(10, 21, true), (10, 20, false), (10, 19, false), (9, 21, false)] {
        let mut date = games();
        let r = facts(&mut date, "r");
        r.state = State::Dispatched { at: at(20 * 60) };
        r.evidence = seen(minute, tenths, &[]);
        let (after, _) = walk(&of, &date, 22);
        assert_eq!(matches!(after.nodes["r"].state, State::Succeeded { .. }), is_done, "{tenths} at {minute}");
    }
    let asked = 7 * 60;
    for (minute, cause, blocked) in [
        (asked + 59, Cause::Overdue, true),
        (asked + 60, Cause::Overdue, false),
        (asked + 59, Cause::CoverageShort, true),
    ] {
        let mut date = games();
        let r = facts(&mut date, "r");
        r.last = Some(last(asked, cause));
        if cause == Cause::CoverageShort {
            r.evidence = seen(10, 5, &[("BOS", 5)]);
        }
        let (_, plan) = walk(&of, &date, minute);
        let until = at((asked + 60) * 60);
        let expected = if blocked { vec![Blocker::Backoff { until }] } else { vec![] };
        assert_eq!((plan.verdicts["r"].want, &plan.verdicts["r"].blockers), (Some(cause), &expected), "{minute}");
    }
}

/// Between two attempts is twice the time each further time, and never more than so much; and there are so many.
#[test]
fn attempts_are_spaced_and_counted() {
    let costs = Task { attempts_max: 5, not_started_max: 2, ..costs() };
    let of = graph(vec![Node { kind: Kind::Task(costs), ..task("t", vec![]) }]);
    let budget = |attempts| Blocker::Budget { attempts, attempts_max: 5, dispatches: 0, dispatches_max: 12 };
    for (spent, minute, blockers) in [
        (Spent { attempts: 1, ..Spent::default() }, 9, vec![Blocker::Backoff { until: at(600) }]),
        (Spent { attempts: 1, ..Spent::default() }, 10, vec![]),
        (Spent { attempts: 2, ..Spent::default() }, 19, vec![Blocker::Backoff { until: at(1_200) }]),
        (Spent { attempts: 3, ..Spent::default() }, 39, vec![Blocker::Backoff { until: at(2_400) }]),
        (Spent { attempts: 4, ..Spent::default() }, 39, vec![Blocker::Backoff { until: at(2_400) }]),
        (Spent { attempts: 4, ..Spent::default() }, 40, vec![]),
        (Spent { attempts: 5, ..Spent::default() }, 60, vec![budget(5)]),
        (Spent { attempts: 1, not_started: 2, repairs: 0 }, 60, vec![budget(3)]),
    ] {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Reported)));
        t.spent = [(no_inputs(), spent)].into();
        let (_, plan) = walk(&of, &date, minute);
        assert_eq!(plan.verdicts["t"].blockers, blockers, "{spent:?} {minute}");
    }
}

/// What stands in the way until some clock is looked at again by it, unless a budget is spent as well, which no clock gives
/// back.
#[test]
fn no_clock_is_waited_for_where_a_budget_is_spent() {
    let of = graph(vec![source("s"), task("t", vec![Dependency { debounce: minutes(20), ..hard("s") }])]);
    for (attempts, is_spent) in [(1, false), (2, false), (3, true)] {
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(55);
        let inputs = walk(&of, &date, 60).1.verdicts["t"].readiness.fingerprint();
        let t = facts(&mut date, "t");
        (t.state, t.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Reported)));
        t.spent = [(inputs, Spent { attempts, ..Spent::default() })].into();
        let (_, plan) = walk(&of, &date, 60);
        let quiet = Blocker::Debounce { until: at(75 * 60) };
        assert!(plan.verdicts["t"].blockers.contains(&quiet), "{:?}", plan.verdicts["t"].blockers);
        assert_eq!(plan.wake_at == Some(at(75 * 60)), !is_spent, "{attempts} {:?}", plan.wake_at);
    }
}

/// Who gives up is told of as that, and not as blocked by an input that falls short as well.
#[test]
fn who_gives_up_is_not_told_of_as_blocked() {
    let of = graph(vec![source("s"), task("t", vec![hard("s")])]);
    for (attempts, blocked, exhausted) in [(2, Some(Severity::Warning), None), (3, None, Some(Severity::Critical))] {
        let mut date = games();
        facts(&mut date, "s").evidence = seen(-10, 5, &[]);
        let inputs = walk(&of, &date, 60).1.verdicts["t"].readiness.fingerprint();
        let t = facts(&mut date, "t");
        (t.state, t.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Reported)));
        t.spent = [(inputs, Spent { attempts, ..Spent::default() })].into();
        let (_, plan) = walk(&of, &date, 60);
        assert_eq!((about(&plan, "blocked"), about(&plan, "exhausted")), (blocked, exhausted), "{attempts}");
    }
}

/// Of a run that says nothing for some minutes, and of one that takes too long, people are told while it lasts.
#[test]
fn a_run_that_is_quiet_or_takes_long_is_told_of() {
    let warning = Some(Severity::Warning);
    for node in [task("t", vec![]), Node { id: "t".into(), ..source("t") }] {
        let of = graph(vec![node]);
        for (begun, heard, minute, stale, overdue, next) in [
            (1, 50, 54, None, None, 55),
            (1, 50, 55, warning, None, 61),
            (1, 58, 60, None, None, 61),
            (1, 60, 61, None, warning, 65),
        ] {
            let mut date = games();
            let t = facts(&mut date, "t");
            t.state = State::Running { since: at(60), inputs_at: at(60), starter: Starter::Them };
            t.runs = [("x".into(), run(begun, heard))].into();
            let (_, plan) = walk(&of, &date, minute);
            assert_eq!((about(&plan, "stale"), about(&plan, "overdue")), (stale, overdue), "{begun} {heard} {minute}");
            assert_eq!(plan.wake_at, Some(at(next * 60)), "{begun} {heard} {minute}");
        }
    }
}

/// Who is at work is not asked again, whoever wishes so; and what is asked for anew has been handed to nobody yet.
#[test]
fn who_is_at_work_is_not_asked_again() {
    let of = graph(vec![task("t", vec![])]);
    let running = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
    for (state, is_asked) in [
        (State::Waiting, true),
        (State::Failed { at: at(0) }, true),
        (State::Dispatched { at: at(0) }, false),
        (running, false),
    ] {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.way, t.double_run) = (state.clone(), Some(Way::Taken { at: at(0) }), true);
        if matches!(state, State::Running { .. }) {
            t.runs = [("x".into(), run(0, 5))].into();
        }
        t.wish = Some(Wish { actor: "ann".into(), reason: "law".into(), at: at(60), plan: None });
        let (after, plan) = walk(&of, &date, 6);
        assert_eq!(plan.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_))), is_asked, "{state:?}");
        let t = &after.nodes["t"];
        assert_eq!((t.way.is_none(), t.double_run), (is_asked, !is_asked), "{state:?}");
    }
}

/// What a person or a plan wishes is bounded by no budget.
#[test]
fn a_wish_is_bounded_by_no_budget() {
    let of = graph(vec![task("t", vec![])]);
    for (plan, cause) in [(None, Cause::Requested), (Some("p"), Cause::Backfill)] {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Reported)));
        (t.spent, t.dispatches) = ([(no_inputs(), Spent { attempts: 3, ..Spent::default() })].into(), 12);
        let plan = plan.map(Into::into);
        t.wish = Some(Wish { actor: "ann".into(), reason: "law".into(), at: at(0), plan });
        let (_, plan) = walk(&of, &date, 1);
        assert_eq!((plan.verdicts["t"].want, plan.verdicts["t"].blockers.as_slice()), (Some(cause), &[][..]));
    }
}

/// A run that said goodbye without a word of its output has done its work once the rows are there, and has not failed.
#[test]
fn a_run_that_said_goodbye_has_done_its_work_once_the_rows_are_there() {
    let of = graph(vec![task("t", vec![])]);
    for (minute, tenths, is_done) in [(5, 10, true), (4, 10, false), (6, 9, false)] {
        let mut date = games();
        let t = facts(&mut date, "t");
        t.state = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
        t.runs = [("x".into(), Run { ended_unreported: true, ..run(0, 5) })].into();
        (t.failure, t.evidence) = (Some(failure(-10, FailureKind::Reported)), seen(minute, tenths, &[]));
        let (after, _) = walk(&of, &date, 7);
        let t = &after.nodes["t"];
        assert_eq!(t.state == State::Succeeded { at: at(minute * 60) }, is_done, "{minute} {tenths}");
        assert_eq!((t.failure.is_none(), t.runs.is_empty()), (is_done, is_done), "{minute} {tenths}");
        assert_eq!(t.ended.get("x").map(|ended| ended.how), is_done.then_some(End::Done), "{minute} {tenths}");
    }
}

/// A dispatch for a plan of backfill is counted once it has begun.
#[test]
fn a_dispatch_for_a_plan_is_counted_once_it_has_begun() {
    let of = graph(vec![task("t", vec![])]);
    let running = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
    for (state, open, counted) in [
        (State::Dispatched { at: at(0) }, true, (true, 0)),
        (running.clone(), true, (false, 1)),
        (running, false, (false, 0)),
    ] {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.runs) = (state.clone(), [("x".into(), run(0, 5))].into());
        t.backfilled = Some(Backfilled { plan: "p".into(), at: at(0), attempts: 0, open });
        let (after, _) = walk(&of, &date, 6);
        let backfilled = after.nodes["t"].backfilled.as_ref().unwrap();
        assert_eq!((backfilled.open, backfilled.attempts), counted, "{state:?} {open}");
    }
}

/// Whether what a task reports is there is looked at, and told where nothing of it is when it must be.
#[test]
fn what_a_task_reports_is_looked_at() {
    let mut node = task("t", vec![]);
    node.expects.verify = minutes(30);
    let of = graph(vec![node]);
    for (tenths, minute, is_asked, told) in [
        (None, 12, true, None),
        (Some(10), 12, false, None),
        (Some(0), 39, true, None),
        (Some(0), 40, false, Some(Severity::Critical)),
    ] {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.evidence, t.built_from) = (State::Succeeded { at: at(600) }, claimed(10), Some(at(0)));
        if let Some(tenths) = tenths {
            t.evidence.look(at(660));
            t.evidence.observe(at(660), of_ten(tenths), BTreeMap::new());
        }
        let (_, plan) = walk(&of, &date, minute);
        let asked = plan.effects.iter().any(|effect| matches!(effect, Effect::Observe { .. }));
        assert_eq!((asked, about(&plan, "phantom-success")), (is_asked, told), "{tenths:?} {minute}");
    }
}

/// A date is looked at again when the next tier of a join may open it, when what an operator said of a game ends, and when an
/// output is due.
#[test]
fn a_date_is_looked_at_again_when_a_clock_says_so() {
    let gate = Gate {
        critical: [].into(),
        quorum: [(2, 0), (1, 30)].map(|(count, after)| Tier { count, after: minutes(after) }).into(),
    };
    let needs = ["a", "b"].map(hard).into();
    let join = Node { kind: Kind::Gate(gate), needs, probed: false, ..source("join") };
    let mut date = games();
    facts(&mut date, "a").evidence = claimed(0);
    let (_, plan) = walk(&graph(vec![source("a"), source("b"), join]), &date, 10);
    assert_eq!(plan.wake_at, Some(at(30 * 60)));
    let mut date = games();
    let known = Override {
        actor: "ann".into(),
        reason: "law".into(),
        at: at(0),
        until: at(20 * 60),
        status: None,
        tip: Some(at(9 * 3_600)),
    };
    date.overrides.insert("20260122_BOS_NYK".into(), known);
    assert_eq!(walk(&graph(vec![source("a")]), &date, 10).1.wake_at, Some(at(20 * 60)));
    for is_task in [false, true] {
        let mut node = if is_task { task("a", vec![]) } else { source("a") };
        node.expects.due = due().expects.due;
        let mut date = games();
        let a = facts(&mut date, "a");
        (a.state, a.evidence, a.built_from) = (State::Succeeded { at: at(0) }, claimed(0), Some(at(0)));
        assert_eq!(walk(&graph(vec![node]), &date, 10).1.wake_at, Some(at(6 * 3_600)), "{is_task}");
    }
}

/// Where there is nothing to send and nothing is known that was not before, a decision changes nothing.
#[test]
fn a_decision_that_finds_nothing_changes_nothing() {
    let of = graph(vec![source("s")]);
    for (event, is_news) in [(Event::Tick, false), (Event::Completed(came("s", "r")), true)] {
        let decided = decide(&of, &games(), &[event], now(1)).unwrap();
        assert_eq!((decided.changed, decided.next != games()), (is_news, is_news));
        assert!(!decide(&of, &decided.next, &[Event::Tick], now(2)).unwrap().changed, "decided again");
    }
}

/// A run that began before the newest inputs came says nothing of them, however late it is known to have failed: they have all
/// their attempts.
#[test]
fn a_failure_is_charged_to_inputs_that_its_run_may_have_read_alone() {
    let of = graph(vec![
        source("s"),
        Node { kind: Kind::Task(Task { attempts_max: 1, ..costs() }), ..task("t", vec![hard("s")]) },
    ]);
    for (began, is_tried) in [(Some(4), true), (Some(5), false), (Some(6), false), (None, false)] {
        let mut date = games();
        let s = facts(&mut date, "s");
        (s.state, s.evidence) = (State::Succeeded { at: at(5 * 60) }, claimed(5));
        let began = began.map(|minute: i64| at(minute * 60));
        let t = facts(&mut date, "t");
        t.state = State::Failed { at: at(20 * 60) };
        t.failure = Some(Failure { charged: false, began, ..failure(20, FailureKind::Silent) });
        let (next, plan) = walk(&of, &date, 21);
        let spent: Vec<u32> = next.nodes["t"].spent.values().map(|spent| spent.attempts).collect();
        let dispatched = plan.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_)));
        // What is tried at once has paid for that.
        assert_eq!((spent, dispatched), (vec![1], is_tried), "{began:?}");
    }
}

/// However many inputs others' runs failed on, the next set has attempts of its own; only so many such failures are counted.
#[test]
fn failures_of_others_on_many_inputs_leave_the_next_its_attempts() {
    let of = graph(vec![Node { kind: Kind::Task(costs()), ..task("t", vec![]) }]);
    for (others, kept) in [(63, 64), (64, 64), (200, 200)] {
        let mut date = games();
        let t = facts(&mut date, "t");
        t.spent = (0..others).map(|nth: u32| (Version::of(nth), Spent { attempts: 3, ..Spent::default() })).collect();
        let of_others = Failure { charged: false, ..failure(0, FailureKind::Reported) };
        (t.state, t.failure) = (State::Failed { at: at(0) }, Some(of_others));
        let (next, _) = walk(&of, &date, 0);
        assert_eq!(next.nodes["t"].spent.len(), kept, "{others}");
        let (_, plan) = walk(&of, &date, 60);
        assert_eq!(plan.verdicts["t"].blockers, [], "{others}");
    }
}

/// A failure of a run that somebody else began is paid like one of ours, up to the budget and no further, once.
#[test]
fn a_failure_of_others_is_paid_once_and_never_beyond_the_budget() {
    let of = graph(vec![Node { kind: Kind::Task(costs()), ..task("t", vec![]) }, due()]);
    for (id, charged, attempts, paid) in
        [("t", false, 0, 1), ("t", false, 2, 3), ("t", false, 3, 3), ("t", true, 1, 1), ("r", false, 1, 1)]
    {
        let mut date = games();
        let node = facts(&mut date, id);
        node.state = State::Failed { at: at(0) };
        node.failure = Some(Failure { charged, ..failure(0, FailureKind::Reported) });
        node.spent = [(no_inputs(), Spent { attempts, ..Spent::default() })].into();
        let (after, _) = walk(&of, &date, 1);
        assert_eq!(after.nodes[id].spent[&no_inputs()].attempts, paid, "{id} {charged} {attempts}");
        let (again, _) = walk(&of, &after, 2);
        assert_eq!(again.nodes[id].spent[&no_inputs()].attempts, paid);
    }
}

/// A run that has said nothing of its progress.
pub fn run(first: i64, last: i64) -> Run {
    Run {
        first: at(first * 60),
        last: at(last * 60),
        progress: (0, 0),
        progressed_at: at(first * 60),
        ended_unreported: false,
        closing_at: None,
        word: None,
    }
}

/// A run that is silent for too long has failed, unless what it was running for has been reported since it began.
#[test]
fn a_run_that_is_silent_has_failed_unless_its_output_was_reported() {
    let of = graph(vec![task("t", vec![])]);
    let begun = |runs: &[(&str, Run)], claim: Option<i64>| {
        let mut date = games();
        let t = facts(&mut date, "t");
        t.runs = runs.iter().map(|(id, run)| ((*id).into(), run.clone())).collect();
        t.state = State::Running { since: at(60), inputs_at: at(60), starter: Starter::Us };
        t.evidence = claim.map(claimed).unwrap_or_default();
        date
    };
    let (after, plan) = walk(&of, &begun(&[("x", run(1, 70))], None), 84);
    assert!(after.nodes["t"].state.is_live(), "not yet");
    assert_eq!(plan.wake_at, Some(at(85 * 60)));
    let (after, plan) = walk(&of, &begun(&[("x", run(1, 70))], None), 91);
    let t = &after.nodes["t"];
    assert_eq!(&*t.failure.as_ref().unwrap().text, "no heartbeat for 21 minutes");
    assert!(plan.effects.iter().any(|effect| matches!(effect, Effect::ReleaseLock { .. })));
    for (claim, succeeded) in [(0, false), (1, true), (2, true)] {
        let (after, _) = walk(&of, &begun(&[("x", run(1, 70))], Some(claim)), 91);
        let t = &after.nodes["t"];
        assert_eq!(t.state == State::Succeeded { at: at(claim * 60) }, succeeded, "{claim}");
        assert_eq!(t.failure.is_none(), succeeded);
    }
    // Another that is alive goes on.
    let both = [("x", run(1, 70)), ("y", run(1, 90))];
    for claim in [None, Some(2)] {
        let (after, _) = walk(&of, &begun(&both, claim), 91);
        assert!(after.nodes["t"].state.is_live());
        assert_eq!(after.nodes["t"].runs.len(), 1);
    }
}

/// What nobody would take waits until its pass ends, and has then failed; what was not to be sent at all was asked of nobody.
#[test]
fn what_could_not_be_handed_over_is_given_up_with_its_pass() {
    let of = graph(vec![task("t", vec![])]);
    let end = 22 * 60;
    let refused = |reason: &str, asked: i64| {
        let mut date = games();
        let t = facts(&mut date, "t");
        t.state = State::Dispatched { at: at(asked * 60) };
        t.last = Some(LastDispatch { cause: Cause::DependenciesMet, ..last(asked, Cause::DependenciesMet) });
        t.spent = [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into();
        t.way = Some(Way::Refused { since: at(asked * 60), reason: reason.into() });
        t.backfilled = Some(Backfilled { plan: "p".into(), at: at(asked * 60), attempts: 0, open: true });
        date
    };
    // No plan of backfill pays for it either.
    for reason in ["no such topic", tipoff::domain::shadow::NOT_SENT] {
        let (after, _) = walk(&of, &refused(reason, 0), end);
        let backfilled = after.nodes["t"].backfilled.as_ref().unwrap();
        assert_eq!((backfilled.open, backfilled.attempts), (false, 0), "{reason}");
    }
    let (after, plan) = walk(&of, &refused("no such topic", 0), end - 1);
    assert!(after.nodes["t"].state.is_live());
    assert_eq!(plan.wake_at, Some(at(end * 60)));
    let (after, _) = walk(&of, &refused("no such topic", 0), end);
    let t = &after.nodes["t"];
    let text = "it could not be handed over before its pass ended: no such topic";
    assert_eq!((&*t.failure.as_ref().unwrap().text, t.spent[&no_inputs()].not_started), (text, 1));
    let (after, _) = walk(&of, &refused(tipoff::domain::shadow::NOT_SENT, 0), end);
    let t = &after.nodes["t"];
    assert_eq!((t.failure.as_ref(), t.spent[&no_inputs()]), (None, Spent::default()));
    assert!(!t.state.is_live());
    // What was asked for when the pass was over already is wanted all the same.
    for asked in [end, end + 1] {
        let (after, _) = walk(&of, &refused("no such topic", asked), end + 60);
        assert!(after.nodes["t"].state.is_live());
    }
}

/// Since when nobody begins is told over all tries, until somebody is heard.
#[test]
fn since_when_nobody_begins_is_kept_over_all_tries() {
    let mut silent = task("t", vec![]);
    silent.liveness.heartbeats = Heartbeats::Sent;
    let of = graph(vec![silent]);
    for (heard, since) in [(None, 1), (Some(0), 1), (Some(1), 1), (Some(2), 30)] {
        let mut date = games();
        let t = facts(&mut date, "t");
        t.state = State::Dispatched { at: at(30 * 60) };
        (t.unstarted_since, t.heard_at) = (Some(at(60)), heard.map(|minute: i64| at(minute * 60)));
        let (after, _) = walk(&of, &date, 40);
        assert_eq!(after.nodes["t"].unstarted_since, Some(at(since * 60)), "heard at {heard:?}");
        let failure = after.nodes["t"].failure.as_ref().unwrap();
        assert_eq!((failure.kind, &*failure.text), (FailureKind::NotStarted, "no sign of life within 10 minutes"));
    }
}

/// That a join cannot open is told once its last tier is over and somebody it needs has been given up; that it goes on without
/// somebody, while it matters.
#[test]
fn a_join_that_cannot_open_is_told_of() {
    let joined = |critical: &[&str]| {
        let quorum = [(3, 0), (2, 30)].map(|(count, after)| Tier { count, after: minutes(after) }).into();
        let gate = Gate { critical: critical.iter().map(|id| NodeId::from(*id)).collect(), quorum };
        let needs = ["a", "b", "c"].map(hard).into();
        let node = Node { kind: Kind::Gate(gate), needs, probed: false, ..source("join") };
        graph(vec![source("a"), source("b"), source("c"), node])
    };
    let none: &[&str] = &[];
    let of_c: &[&str] = &["c"];
    let end = 22 * 60;
    let impossible = [("impossible", Severity::Critical)].as_slice();
    let quorum = [("quorum", Severity::Warning)].as_slice();
    // Who is critical, has come, was given up, and when it is looked at.
    for (critical, come, given_up, minute, told) in [
        (none, "a", "bc", 30, impossible),
        (none, "a", "b", 30, impossible),
        (none, "a", "bc", 29, &[]),
        (none, "a", "", 30, &[]),
        (none, "", "abc", 30, &[]),
        (of_c, "ab", "c", 30, impossible),
        (of_c, "ab", "c", 29, &[]),
        (of_c, "a", "b", 30, &[]),
        (of_c, "a", "bc", 30, impossible),
        (of_c, "ac", "b", 30, quorum),
        (of_c, "ac", "b", 29, &[]),
        (of_c, "ac", "", 30, quorum),
        (of_c, "abc", "", 30, &[]),
        (none, "a", "bc", end, &[]),
        (of_c, "ac", "b", end, &[]),
    ] {
        for played in [true, false] {
            let status = if played { GameStatus::Scheduled } else { GameStatus::Postponed };
            let mut date = with_games(None, status);
            for id in come.chars() {
                facts(&mut date, &id.to_string()).evidence = claimed(0);
            }
            for id in given_up.chars() {
                facts(&mut date, &id.to_string()).state = State::Exhausted { at: at(0) };
            }
            let (_, plan) = walk(&joined(critical), &date, minute);
            let of: Vec<_> =
                raised(&plan).into_iter().filter(|(topic, _)| ["quorum", "impossible"].contains(topic)).collect();
            assert_eq!(of, if played { told } else { &[] }, "{critical:?} {come} {given_up} {minute}");
            let blocked = !plan.verdicts["join"].blockers.is_empty();
            assert_eq!(blocked, !plan.standings["join"].join.as_ref().unwrap().open);
        }
    }
}

/// What the warehouse finds of a completion is told of by how bad that is, once it has been asked since.
#[test]
fn a_completion_that_is_contradicted_is_told_of_once() {
    let told = |verify: i64, tenths, counted: i64, lead: Option<i64>| {
        let mut node = source("s");
        node.expects.verify = minutes(verify);
        node.expects.alert_before_tip = lead.map(minutes);
        let graph = graph(vec![node, task("t", vec![hard("s")])]);
        let mut date = games();
        let s = facts(&mut date, "s");
        s.evidence = claimed(0);
        s.evidence.look(at(counted * 60));
        s.evidence.observe(at(counted * 60), of_ten(tenths), BTreeMap::new());
        let (_, plan) = walk(&graph, &date, 6);
        ["phantom-success", "contradicted"].map(|topic| about(&plan, topic))
    };
    let (critical, warning) = (Some(Severity::Critical), Some(Severity::Warning));
    assert_eq!(told(5, 0, 1, None), [critical, None]);
    assert_eq!(told(5, 9, 1, None), [None, warning]);
    assert_eq!(told(5, 9, 0, None), [None, warning]);
    assert_eq!(told(5, 10, 1, None), [None, None]);
    assert_eq!(told(5, 9, -1, None), [None, None], "it was counted before");
    assert_eq!(told(0, 9, 1, None), [None, None], "nobody wants it to be checked");
    assert_eq!(told(5, 9, 1, Some(10)), [None, None], "which games are short says more");
    assert_eq!(told(5, 0, 1, Some(10)), [critical, None]);
    // A success with too few rows is worse when it was made again for that already.
    let few = |repairs, live| {
        let mut node = source("s");
        node.expects.records_min = 30;
        node.expects.verify = minutes(5);
        let graph = graph(vec![node, task("t", vec![hard("s")])]);
        let mut date = games();
        let s = facts(&mut date, "s");
        s.evidence = claimed(0);
        s.last = Some(last(0, Cause::DependenciesMet));
        s.spent = [(no_inputs(), Spent { repairs, ..Spent::default() })].into();
        if live {
            s.runs = [("x".into(), run(0, 5))].into();
            s.state = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Them };
        }
        about(&walk(&graph, &date, 6).1, "low-output")
    };
    assert_eq!([few(0, false), few(1, false), few(1, true)], [warning, critical, warning]);
}

/// People are told what a check found below what they want, and that it stops the dispatch where it does.
#[test]
fn a_check_that_finds_too_little_is_told_of() {
    let told = |answer, unanswered| {
        let mut node = task("t", vec![]);
        let check = Check {
            id: "c".into(),
            warn_below: PerMille::new(900).unwrap(),
            block_below: PerMille::new(500).unwrap(),
            unanswered,
        };
        node.expects.checks = vec![check];
        let graph = graph(vec![node]);
        let mut date = games();
        facts(&mut date, "t").checks = [("c".into(), CheckTaken { at: at(0), answer })].into();
        let (_, plan) = walk(&graph, &date, 1);
        let sent = plan.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_)));
        (about(&plan, "check"), sent)
    };
    let share = |tenths| CheckAnswer::Share(of_ten(tenths));
    for (answer, unanswered, severity, sent) in [
        (share(9), Unanswered::Block, None, true),
        (share(8), Unanswered::Block, Some(Severity::Warning), true),
        (share(4), Unanswered::Block, Some(Severity::Critical), false),
        (CheckAnswer::Unknown, Unanswered::Proceed, Some(Severity::Warning), true),
        (CheckAnswer::Unknown, Unanswered::Block, Some(Severity::Warning), false),
        (CheckAnswer::NotKept, Unanswered::Block, None, true),
    ] {
        assert_eq!(told(answer, unanswered), (severity, sent), "{answer:?} {unanswered:?}");
    }
}

/// What is short of a source is told of while its pass lasts, and is worse where teams are that play.
#[test]
fn parts_that_are_short_are_told_of_while_something_can_be_done() {
    let mut node = due();
    node.expects.unit = Unit::Team;
    let of = graph(vec![node]);
    let told = |date: &Partition, units: &[(&str, u32)], minute| {
        let mut date = date.clone();
        facts(&mut date, "r").evidence = seen(0, 5, units);
        about(&walk(&of, &date, minute).1, "short")
    };
    let (critical, warning) = (Some(Severity::Critical), Some(Severity::Warning));
    assert_eq!(told(&games(), &[("BOS", 5), ("LAL", 10)], 1), critical);
    assert_eq!(told(&games(), &[("LAL", 5), ("BOS", 10)], 1), warning);
    assert_eq!(told(&games(), &[("BOS", 10)], 1), None);
    assert_eq!(told(&games(), &[("BOS", 5)], 22 * 60), None);
    assert_eq!(told(&with_games(None, GameStatus::Postponed), &[("BOS", 5)], 1), None);
}

/// Game days without data are counted from the last date that had games on, and told of from so many on.
#[test]
fn a_source_that_is_always_empty_is_told_of() {
    let mut node = source("s");
    node.expects.empty_days_max = Some(3);
    let of = graph(vec![node]);
    let told = |date: &Partition, kind, before: Option<u32>| {
        let mut date = date.clone();
        let s = facts(&mut date, "s");
        (s.state, s.failure) = (State::Failed { at: at(0) }, Some(failure(0, kind)));
        let upstream = |empty_days| Upstream {
            date: DATE.yesterday().unwrap(),
            extant: Extant::Nothing,
            version: Version::of(()),
            told_at: at(0),
            since: at(0),
            renewing: false,
            waived: false,
            empty_days,
        };
        date.upstream = before.map(|days| ("s".into(), upstream(days))).into_iter().collect();
        about(&walk(&of, &date, 1).1, "always-empty")
    };
    let critical = Some(Severity::Critical);
    let empty_one = FailureKind::Empty;
    for (before, severity) in [(None, None), (Some(1), None), (Some(2), critical), (Some(5), critical)] {
        assert_eq!(told(&games(), empty_one, before), severity, "{before:?} before");
        assert_eq!(told(&games(), FailureKind::Reported, before), None);
        assert_eq!(told(&with_games(None, GameStatus::Postponed), empty_one, before), None);
        assert_eq!(told(&empty(), empty_one, before), None, "nobody knows whether there are games");
    }
}

/// An output whose inputs are newer, and whose budget is spent, is told of; one that is not to be made again is not.
#[test]
fn an_output_that_is_not_made_again_for_its_budget_is_told_of() {
    let told = |dispatches, rebuild| {
        let costs = Task { rebuild, ..costs() };
        let graph = graph(vec![source("s"), Node { kind: Kind::Task(costs), ..task("t", vec![hard("s")]) }]);
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(30);
        let t = facts(&mut date, "t");
        t.evidence = claimed(10);
        t.state = State::Succeeded { at: at(600) };
        (t.built_from, t.dispatches) = (Some(at(300)), dispatches);
        about(&walk(&graph, &date, 31).1, "outdated")
    };
    let soon = Rebuild::After(minutes(10));
    assert_eq!(told(12, soon), Some(Severity::Warning));
    assert_eq!(told(11, soon), None, "it waits until its inputs are quiet");
    assert_eq!(told(12, Rebuild::Never), None);
}
