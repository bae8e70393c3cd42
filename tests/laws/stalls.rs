//! A run that beats and does not come on: asked to close, then over with what it has done.

use std::sync::Arc;

use tipoff::domain::coverage::PerMille;
use tipoff::domain::effect::{Cause, Effect, Severity};
use tipoff::domain::event::RunWord;
use tipoff::domain::evidence::{Extant, Extent};
use tipoff::domain::graph::{Dependency, Graph, Stall};
use tipoff::domain::partition::{End, FailureKind, Partition, Run, Starter, State, Word};
use tipoff::domain::plan::{Plan, plan};
use tipoff::domain::time::Now;

use crate::facts::{facts, of_ten};
use crate::graphs::{at, graph, hard, minutes, task};
use crate::walk::{about, games, run, walk};

/// A batch that is asked to close after half an hour, and over after three quarters; who needs it takes it from so much on.
fn batch(required: u16) -> Graph {
    let mut t = task("t", vec![]);
    t.liveness.stall = Some(Stall { close_after: minutes(30), over_after: minutes(45) });
    let need = Dependency { coverage_min: PerMille::new(required).unwrap(), ..hard("t") };
    graph(vec![t, task("u", vec![need])])
}

/// A run that beats all the time and came on last at `progressed`.
fn standing(first: i64, progressed: i64, progress: (u64, u64)) -> Run {
    Run { progress, progressed_at: at(progressed * 60), ..run(first, 100) }
}

fn running(runs: &[(&str, Run)]) -> Partition {
    let mut date = games();
    let t = facts(&mut date, "t");
    t.runs = runs.iter().map(|(id, run)| ((*id).into(), run.clone())).collect();
    t.state = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
    date
}

fn closed(plan: &Plan) -> Vec<(Cause, String)> {
    let closed = plan.effects.iter().filter_map(|effect| match effect {
        Effect::Close(dispatch) => {
            Some((dispatch.manifest.cause, dispatch.manifest.closes.as_ref().unwrap().to_string()))
        }
        _ => None,
    });
    closed.collect()
}

fn said(run: Run, word: RunWord, minute: i64) -> Run {
    let word = Word { word, actor: "ann".into(), reason: "law".into(), at: at(minute * 60) };
    Run { word: Some(word), ..run }
}

/// It is asked once, people are told until it is over, and the next thing that happens has its time.
#[test]
fn a_run_that_does_not_come_on_is_asked_once_to_close() {
    let of = batch(1_000);
    let once = vec![(Cause::Stalled, "x".to_owned())];
    let begun = running(&[("x", standing(0, 0, (9, 10)))]);
    let (_, before) = walk(&of, &begun, 29);
    assert_eq!((closed(&before), about(&before, "stalled"), before.wake_at), (vec![], None, Some(at(30 * 60))));
    let (asked, found) = walk(&of, &begun, 30);
    assert_eq!((closed(&found), about(&found, "stalled")), (once, Some(Severity::Warning)));
    assert_eq!(found.wake_at, Some(at(45 * 60)));
    let (still, found) = walk(&of, &asked, 44);
    assert_eq!((closed(&found), found.wake_at), (vec![], Some(at(45 * 60))));
    assert!(still.nodes["t"].state.is_live() && still.alerts.keys().any(|key| key.topic() == "stalled"));
    let (over, found) = walk(&of, &still, 45);
    assert!(over.nodes["t"].runs.is_empty() && !over.alerts.keys().any(|key| key.topic() == "stalled"));
    assert_eq!(closed(&found), []);
}

/// Nothing is concluded from standing still while what was published by then is still to be read.
#[test]
fn a_run_that_may_have_come_on_is_not_asked_to_close() {
    let of = batch(1_000);
    for (at_minute, heard, asked) in [(30, 29, 0), (30, 30, 1), (45, 44, 1)] {
        let mut date = running(&[("x", standing(0, 0, (9, 10)))]);
        let now = Now { at: at(at_minute * 60), heard_until: at(heard * 60) };
        let found = plan(&of, &mut date, now);
        assert_eq!(closed(&found).len(), asked, "heard until {heard}");
        assert!(date.nodes["t"].state.is_live());
    }
}

/// A run that does not say how far it has come cannot stand still, and one that has said goodbye is judged by that.
#[test]
fn only_a_run_that_tells_its_progress_can_stand_still() {
    let of = batch(1_000);
    let goodbye = Run { ended_unreported: true, ..standing(0, 0, (9, 10)) };
    for (run, asked) in [(standing(0, 0, (0, 0)), 0), (goodbye, 0), (standing(0, 0, (0, 10)), 1)] {
        for minute in [30, 46] {
            let (after, found) = walk(&of, &running(&[("x", run.clone())]), minute);
            let over = asked == 1 && minute == 46;
            assert_eq!(closed(&found).len(), if over { 0 } else { asked }, "{run:?} {minute}");
            assert_eq!(after.nodes["t"].runs.is_empty(), over, "{run:?} {minute}");
        }
    }
}

/// What is enough for whoever needs it is an output; too little, or nothing, is a failure, and its lock is let go.
#[test]
fn a_run_that_nobody_closed_is_over_with_what_it_has_done() {
    for (required, done, is_enough) in
        [(800, 8, true), (800, 7, false), (1_000, 9, false), (1_000, 10, true), (0, 1, true), (0, 0, false)]
    {
        let (after, found) = walk(&batch(required), &running(&[("x", standing(0, 0, (done, 10)))]), 45);
        let t = &after.nodes["t"];
        let let_go = found.effects.iter().any(|effect| matches!(effect, Effect::ReleaseLock { .. }));
        assert_eq!((t.runs.len(), let_go), (0, !is_enough), "{done} of 10, {required} wanted");
        if is_enough {
            assert_eq!((&t.state, t.ended["x"].how), (&State::Succeeded { at: at(45 * 60) }, End::Done));
            let claim = t.evidence.claim.as_ref().unwrap();
            let share = of_ten(u32::try_from(done).unwrap());
            assert_eq!((claim.extent, t.evidence.extant()), (Extent::Share(share), Extant::Known(share)));
            assert_eq!((t.built_from, &t.failure), (Some(at(0)), &None), "made of what was there when it began");
        } else {
            let failure = t.failure.as_ref().unwrap();
            let text = format!("it stood at {done} of 10 from 12:00:00Z on");
            assert_eq!((&*failure.text, failure.kind), (&*text, FailureKind::Silent));
            assert_eq!((t.evidence.extant(), t.ended["x"].how), (Extant::Nothing, End::Fenced));
        }
    }
}

/// While another run of the node goes on, the node does, whatever the one that stood still has brought.
#[test]
fn a_node_goes_on_while_another_of_its_runs_does() {
    let alive = Run { progressed_at: at(44 * 60), ..standing(0, 44, (1, 10)) };
    for done in [9, 10] {
        let runs = [("x", standing(0, 0, (done, 10))), ("y", alive.clone())];
        let (after, _) = walk(&batch(1_000), &running(&runs), 45);
        let t = &after.nodes["t"];
        assert!(t.state.is_live());
        assert_eq!(t.runs.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["y"]);
    }
}

/// An operator who says that a run will not come on has it asked at once, and it is left as long as it has at its threshold;
/// where it had been asked before that word, it is over at once.
#[test]
fn a_word_of_an_operator_closes_a_run_before_its_threshold() {
    let of = batch(1_000);
    let told = |asked: Option<i64>, word: RunWord| {
        let closing_at = asked.map(|minute| at(minute * 60));
        running(&[("x", said(Run { closing_at, ..standing(0, 5, (9, 10)) }, word, 20))])
    };
    let (after, found) = walk(&of, &told(None, RunWord::Finalize), 20);
    assert_eq!((closed(&found).len(), found.wake_at), (1, Some(at(35 * 60))));
    assert_eq!(after.nodes["t"].runs["x"].closing_at, Some(at(20 * 60)));
    for (asked, minute, is_over) in [(20, 34, false), (20, 35, true), (21, 35, false), (21, 36, true), (19, 20, true)] {
        let (after, found) = walk(&of, &told(Some(asked), RunWord::Finalize), minute);
        assert_eq!(after.nodes["t"].runs.is_empty(), is_over, "asked {asked}, looked at {minute}");
        assert_eq!(closed(&found), [], "it has been asked");
        // Who says so knows better than what is still to be read.
        let mut unread = told(Some(asked), RunWord::Finalize);
        plan(&of, &mut unread, Now { at: at(minute * 60), heard_until: at(0) });
        assert_eq!(unread.nodes["t"].runs.is_empty(), is_over);
    }
    let (after, found) = walk(&of, &told(None, RunWord::Continue), 34);
    assert_eq!((closed(&found).len(), after.nodes["t"].runs.len()), (0, 1), "any other word does not close it");
    let (after, _) = walk(&of, &told(Some(10), RunWord::Continue), 36);
    assert_eq!(after.nodes["t"].runs.len(), 1, "it has all its time from where it last came on");
}

/// A run that stands still makes way for one that began after it had last come on; it is not asked to close first.
#[test]
fn a_run_that_stands_still_makes_way_for_one_that_began_since() {
    let of = batch(1_000);
    // When the older came on last, when the newer began, when they are looked at, and whether the older has made way.
    for (progressed, first, minute, gone) in [
        (5, 10, 34, false),
        (5, 10, 35, true),
        (10, 10, 40, false),
        (11, 10, 41, false),
        (9, 10, 39, true),
        (9, 10, 38, false),
    ] {
        let newer = standing(first, minute, (1, 10));
        let (after, found) = walk(&of, &running(&[("x", standing(0, progressed, (9, 10))), ("y", newer)]), minute);
        let t = &after.nodes["t"];
        assert_eq!(!t.runs.contains_key("x"), gone, "{progressed} {first} {minute}");
        assert_eq!(t.ended.get("x").map(|ended| ended.how), gone.then_some(End::Superseded));
        assert!(t.runs.contains_key("y"));
        let asked = usize::from(!gone && minute - progressed >= 30);
        assert_eq!(closed(&found).len(), asked, "{progressed} {first} {minute}");
    }
    // One that says nothing of its progress does not stand still, and the newest makes way for nobody.
    let silent = standing(0, 5, (0, 0));
    let (after, _) = walk(&of, &running(&[("x", silent), ("y", standing(10, 40, (1, 10)))]), 40);
    assert_eq!(after.nodes["t"].runs.len(), 2);
    let (after, _) = walk(&of, &running(&[("x", standing(0, 40, (1, 10))), ("y", standing(10, 5, (9, 10)))]), 40);
    assert_eq!(after.nodes["t"].runs.len(), 2);
    assert_eq!(Arc::clone(&after.nodes["t"].ended).len(), 0);
}
