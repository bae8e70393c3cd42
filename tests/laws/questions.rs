//! What the warehouse is asked, and how often: only what stands in somebody's way.

use jiff::civil::{Date, Time};
use tipoff::domain::calendar::Anchor;
use tipoff::domain::coverage::PerMille;
use tipoff::domain::effect::{Effect, Severity};
use tipoff::domain::event::{CheckAnswer, GameStatus};
use tipoff::domain::evidence::{Claim, Evidence};
use tipoff::domain::graph::{Check, DayTime, Dependency, Node, Offset, Unanswered};
use tipoff::domain::partition::{CheckTaken, FailureKind, Run, Starter, State};
use tipoff::domain::plan::{Plan, plan};
use tipoff::domain::time::Now;

use crate::facts::{claim, facts};
use crate::graphs::{DATE, at, graph, hard, minutes, source, task};
use crate::walk::{about, claimed, failure, games, run, seen, walk, with_games};

/// When the last pass over the date ends.
const END: i64 = 22 * 60;

/// Of which nodes of which dates the warehouse is asked.
fn asked(plan: &Plan) -> Vec<(Date, String)> {
    let asked = plan.effects.iter().filter_map(|effect| match effect {
        Effect::Observe { date, node } => Some((*date, node.to_string())),
        _ => None,
    });
    asked.collect()
}

fn of_today(nodes: &[&str]) -> Vec<(Date, String)> {
    nodes.iter().map(|node| (DATE, (*node).to_owned())).collect()
}

fn unanswered() -> Evidence {
    Evidence { unanswered: Some(at(0)), ..Evidence::default() }
}

/// A run that says goodbye without a completion may have done its work: the rows can tell.
#[test]
fn the_rows_are_asked_for_where_a_run_ended_without_a_word() {
    for (ended_unreported, probed, asks) in [(true, true, &["t"][..]), (false, true, &[]), (true, false, &[])] {
        let of = graph(vec![Node { probed, ..task("t", vec![]) }]);
        let mut date = games();
        let t = facts(&mut date, "t");
        t.runs = [("x".into(), Run { ended_unreported, ..run(0, 1) })].into();
        t.state = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
        assert_eq!(asked(&walk(&of, &date, 2).1), of_today(asks), "{ended_unreported} {probed}");
    }
}

/// A source that reports nothing, or not how much, is looked at once, when that has come by our clock as well.
#[test]
fn a_source_that_reports_nothing_or_not_how_much_is_looked_at_once() {
    let of = graph(vec![source("s")]);
    let failed = |kind| {
        let mut date = games();
        let s = facts(&mut date, "s");
        (s.state, s.failure) = (State::Failed { at: at(600) }, Some(failure(10, kind)));
        date
    };
    let done = |records| {
        let mut date = games();
        let s = facts(&mut date, "s");
        s.evidence.claim(Claim { records, ..claim(600) });
        s.state = State::Succeeded { at: at(600) };
        date
    };
    for (date, asks) in [
        (failed(FailureKind::Empty), &["s"][..]),
        (failed(FailureKind::Declined), &["s"]),
        (failed(FailureKind::Reported), &[]),
        (done(None), &["s"]),
        (done(Some(0)), &["s"]),
        (done(Some(1)), &[]),
        (games(), &[]),
    ] {
        let (before, found) = walk(&of, &date, 9);
        assert_eq!(asked(&found), [], "it has not come yet");
        assert_eq!(found.wake_at == Some(at(600)), !asks.is_empty());
        let (after, found) = walk(&of, &before, 10);
        assert_eq!(asked(&found), of_today(asks));
        assert_eq!(asked(&walk(&of, &after, 60).1), []);
    }
}

/// What stands in the way is asked about while something is under way, and not for a day off or outside of its pass.
#[test]
fn what_stands_in_the_way_is_asked_about() {
    let least = PerMille::new(800).unwrap();
    let needs = vec![Dependency { coverage_min: least, ..hard("s") }];
    let mut of = graph(vec![source("s"), task("t", needs)]);
    of.cycles[1].from = DayTime { days: 0, time: Time::constant(12, 0, 0, 0) };
    let off = || with_games(None, GameStatus::Postponed);
    // What is there of the source, whether the task has failed, on which date it is looked at and when, and who is asked about.
    for (there, troubled, date, minute, asks) in [
        (Some(7), false, games(), 1, &["s"][..]),
        (Some(7), true, games(), 1, &["s", "t"]),
        (None, false, games(), 1, &[]),
        (None, true, games(), 1, &["s", "t"]),
        (Some(9), false, games(), 1, &[]),
        (Some(9), true, games(), 1, &["t"]),
        (Some(7), false, games(), -1, &[]),
        (Some(7), true, games(), -1, &["s", "t"]),
        (None, true, games(), -1, &["s", "t"]),
        (Some(7), true, games(), END, &[]),
        (Some(7), true, off(), 1, &[]),
    ] {
        let mut date = date.clone();
        if let Some(tenths) = there {
            facts(&mut date, "s").evidence = seen(-10, tenths, &[]);
        }
        if troubled {
            let t = facts(&mut date, "t");
            (t.state, t.failure) = (State::Failed { at: at(-600) }, Some(failure(-10, FailureKind::Reported)));
        }
        assert_eq!(asked(&walk(&of, &date, minute).1), of_today(asks), "{there:?} {troubled} {minute}");
    }
}

/// One output is asked about once per interval; that of another date is another.
#[test]
fn an_output_is_asked_about_once_per_interval() {
    let before = Dependency { offset: Offset::PreviousGameDay, ..hard("s") };
    let of = graph(vec![source("s"), source("r"), task("t", vec![hard("r"), before])]);
    let mut date = games();
    facts(&mut date, "r").evidence = unanswered();
    let yesterday = DATE.yesterday().unwrap();
    let both = vec![(yesterday, "s".to_owned()), (DATE, "r".to_owned())];
    let (first, found) = walk(&of, &date, 0);
    assert_eq!((asked(&found), found.wake_at), (both.clone(), Some(at(7_200))));
    assert_eq!(first.asked.keys().map(ToString::to_string).collect::<Vec<_>>(), ["r"]);
    assert_eq!(first.asked_upstream.keys().map(ToString::to_string).collect::<Vec<_>>(), ["s"]);
    let (still, found) = walk(&of, &first, 119);
    assert_eq!((asked(&found), found.wake_at), (vec![], Some(at(7_200))));
    assert_eq!(asked(&walk(&of, &still, 120).1), both);
}

/// Before what was not done in its pass is told as missed, the warehouse is asked once, and has two minutes to answer.
#[test]
fn the_warehouse_is_asked_before_something_is_called_missed() {
    let of = |probed| graph(vec![source("s"), Node { probed, ..task("t", vec![hard("s")]) }]);
    let mut date = games();
    facts(&mut date, "s").evidence = claimed(0);
    facts(&mut date, "t").state = State::Expired { at: at(END * 60) };
    let missed = |plan: &Plan| about(plan, "missed");
    let told = Some(Severity::Warning);
    let (waits, found) = walk(&of(true), &date, END);
    assert_eq!((asked(&found), missed(&found), found.wake_at), (of_today(&["t"]), None, Some(at((END + 2) * 60))));
    let (_, found) = walk(&of(true), &waits, END + 1);
    assert_eq!((asked(&found), missed(&found)), (vec![], None));
    assert_eq!(missed(&walk(&of(true), &waits, END + 2).1), told);
    assert_eq!(missed(&walk(&of(false), &date, END).1), told, "nobody can be asked");
    // What it counts from then on is a word, and what it counted before is none.
    for (minute, tenths, expected) in [(END - 1, 0, None), (END, 0, told), (END + 1, 0, told), (END + 1, 5, None)] {
        let mut heard = waits.clone();
        facts(&mut heard, "t").evidence = seen(minute, tenths, &[]);
        assert_eq!(missed(&walk(&of(true), &heard, END + 1).1), expected, "{tenths} of ten at {minute}");
    }
}

/// A completion that the warehouse could not tell of in time is believed, and asked about once per interval while its pass lasts.
#[test]
fn a_completion_that_could_not_be_looked_at_is_asked_about_again() {
    let with = |verify| {
        let mut s = source("s");
        s.expects.verify = minutes(verify);
        graph(vec![s])
    };
    let answered = |evidence: Evidence| {
        let mut date = games();
        facts(&mut date, "s").evidence = evidence;
        date
    };
    let mut could_not_tell = claimed(0);
    could_not_tell.look(at(60));
    could_not_tell.leave_unanswered(at(60));
    for (verify, evidence, minute, asks) in [
        (5, could_not_tell.clone(), 6, &["s"][..]),
        (5, could_not_tell.clone(), END, &[]),
        (0, could_not_tell, 6, &[]),
        (5, claimed(0), 6, &[]),
    ] {
        let (after, found) = walk(&with(verify), &answered(evidence), minute);
        assert_eq!(asked(&found), of_today(asks), "{verify} {minute}");
        assert_eq!(asked(&walk(&with(verify), &after, minute + 1).1), []);
    }
}

/// A completion is asked about when it has come by our clock, and every minute until enough is there or its time is over.
#[test]
fn a_completion_is_asked_about_every_minute_until_it_is_there() {
    let mut s = source("s");
    s.expects.verify = minutes(5);
    let of = graph(vec![s, task("t", vec![hard("s")])]);
    let mut date = games();
    facts(&mut date, "s").evidence = claimed(0);
    let (before, found) = walk(&of, &date, -1);
    assert_eq!((asked(&found), found.wake_at), (vec![], Some(at(0))), "the broker's clock is ahead of ours");
    // Asked at the very instant of a completion is asked about it, and asked earlier is not.
    for (last, minute, asks, wake) in [
        (None, 0, &["s"][..], 60),
        (Some(-1), 0, &["s"], 60),
        (Some(0), 0, &[], 60),
        (Some(0), 1, &["s"], 120),
        (Some(3), 4, &["s"], 300),
        (Some(4), 5, &[], END * 60),
    ] {
        let mut date = before.clone();
        date.asked = last.map(|minute: i64| ("s".into(), at(minute * 60))).into_iter().collect();
        let (_, found) = walk(&of, &date, minute);
        assert_eq!(asked(&found), of_today(asks), "{last:?} {minute}");
        assert!(found.wake_at.is_some_and(|next| next <= at(wake)), "{last:?} {minute}: {:?}", found.wake_at);
    }
}

/// A check is asked for anew where its answer is older than the inputs, however lately it was asked for, unless it was asked
/// since; one that stops the dispatch is asked for once per interval.
#[test]
fn a_check_is_asked_for_anew_for_newer_inputs() {
    let mut t = task("t", vec![hard("s")]);
    let half = PerMille::new(500).unwrap();
    t.expects.checks =
        vec![Check { id: "c".into(), warn_below: half, block_below: half, unanswered: Unanswered::Block }];
    let of = graph(vec![source("s"), t]);
    // When it was asked for, when it was answered, and whether it is asked for at minute 60, where the input came at 30.
    for (asked_at, answered, checks) in [
        (None, None, true),
        (Some(20), Some(21), true),
        (Some(20), Some(20), true),
        (Some(40), Some(21), false),
        (Some(40), None, false),
    ] {
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(30);
        let t = facts(&mut date, "t");
        t.asked_checks = asked_at.map(|minute: i64| ("c".into(), at(minute * 60))).into_iter().collect();
        let taken = |minute: i64| ("c".into(), CheckTaken { at: at(minute * 60), answer: CheckAnswer::Unknown });
        t.checks = answered.map(taken).into_iter().collect();
        let mut after = date.clone();
        let found = plan(&of, &mut after, Now::caught_up(at(3_600)));
        let asks = found.effects.iter().any(|effect| matches!(effect, Effect::Check { .. }));
        assert_eq!(asks, checks, "{asked_at:?} {answered:?}");
    }
}

/// What is due is counted once when it is due, whatever its producer says, and while less than all is there, once per interval.
#[test]
fn what_is_due_is_counted_when_it_is() {
    let of = |probed| {
        let mut s = Node { probed, ..source("s") };
        s.expects.due = vec![Anchor::FirstTip(minutes(-60))];
        graph(vec![s])
    };
    let date = |evidence: Evidence| {
        let mut date = with_games(Some(at(3_600)), GameStatus::Scheduled);
        facts(&mut date, "s").evidence = evidence;
        date
    };
    let whole = seen(-1, 10, &[]);
    for (probed, minute, evidence, asks, again) in [
        (true, -1, whole.clone(), &[][..], &[][..]),
        (true, 0, whole.clone(), &["s"], &[]),
        (true, END, whole.clone(), &[], &[]),
        (false, 0, whole, &[], &[]),
        (true, 0, seen(-1, 9, &[]), &["s"], &["s"]),
        (true, 0, Evidence::default(), &["s"], &[]),
    ] {
        let (after, found) = walk(&of(probed), &date(evidence), minute);
        assert_eq!(asked(&found), of_today(asks), "{probed} {minute}");
        if minute >= 0 {
            assert_eq!(asked(&walk(&of(probed), &after, minute + 1).1), [], "{probed} {minute}");
            assert_eq!(asked(&walk(&of(probed), &after, minute + 120).1), of_today(again), "{probed} {minute}");
        }
    }
}
