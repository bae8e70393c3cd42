//! What people are told of a date, how often, and in which words.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::{Time, date};
use tipoff::domain::calendar::{Anchor, Schedule};
use tipoff::domain::coverage::PerMille;
use tipoff::domain::effect::{About, Alert, Cause, Effect, Severity, Turn};
use tipoff::domain::event::{Foretold, Game, GameStatus, Note};
use tipoff::domain::evidence::Evidence;
use tipoff::domain::forecast::{Late, Shortfall};
use tipoff::domain::graph::{Check, Dependency, Kind, Node, Storm, Tier, Unanswered, Unit};
use tipoff::domain::id::{AlertKey, Attempt, NodeId, UnitId};
use tipoff::domain::partition::{FailureKind, Node as Facts, Partition, Spent, Starter, State, Told};
use tipoff::domain::plan::{Plan, plan};
use tipoff::domain::rate::Rate;
use tipoff::domain::time::Now;

use crate::facts::{facts, of_ten};
use crate::graphs::{DATE, at, empty, graph, hard, minutes, source, task};
use crate::walk::{about, claimed, failure, games, last, no_inputs, run, seen, walk, with_games};

/// When the last pass over the date ends.
const END: i64 = 22 * 60;
const TWO: [&str; 2] = ["20260122_BOS_NYK", "20260122_LAL_GSW"];

fn alerts(plan: &Plan) -> Vec<&Alert> {
    let alerts = plan.effects.iter().filter_map(|effect| match effect {
        Effect::Alert(alert) => Some(alert),
        _ => None,
    });
    alerts.collect()
}

fn alert<'p>(plan: &'p Plan, topic: &str) -> Option<&'p Alert> {
    alerts(plan).into_iter().find(|alert| alert.key.topic() == topic)
}

/// How bad, in which words.
fn told(plan: &Plan, topic: &str) -> Option<(Severity, String)> {
    let alert = alert(plan, topic).filter(|alert| alert.turn == Turn::Raised)?;
    Some((alert.severity, alert.text.clone()))
}

fn says(severity: Severity, text: &str) -> Option<(Severity, String)> {
    Some((severity, text.to_owned()))
}

/// A date with games that begin so many minutes after the start.
fn dated(tips: &[(&str, i64)]) -> Partition {
    let game = |minute: i64| Game { tip: Some(at(minute * 60)), status: GameStatus::Scheduled, id: None };
    let games = tips.iter().map(|(unit, minute)| (UnitId::from(*unit), game(*minute))).collect();
    let mut date = empty();
    date.schedule = Some(Schedule { at: at(0), games, emptied_at: None });
    date
}

fn without_games() -> Partition {
    with_games(None, GameStatus::Postponed)
}

/// An alert says of which date and which node it is, and what is done about it.
#[test]
fn an_alert_says_whose_it_is_and_what_is_done_about_it() {
    let mut t = task("t", vec![]);
    let check = Check {
        id: "c".into(),
        warn_below: PerMille::FULL,
        block_below: PerMille::NONE,
        unanswered: Unanswered::Block,
    };
    t.expects.checks = vec![check];
    let of = graph(vec![source("s"), t]);
    let of_node =
        |id: &str, done: Option<&str>| About { done: done.map(str::to_owned), ..About::node(&empty().key, &id.into()) };
    let mut date = games();
    let exhausted = facts(&mut date, "t");
    exhausted.state = State::Exhausted { at: at(0) };
    exhausted.failure = Some(failure(0, FailureKind::Reported));
    exhausted.spent = [(no_inputs(), Spent { attempts: 3, ..Spent::default() })].into();
    (exhausted.attempt, exhausted.dispatches) = (Attempt { run: 1, attempt: 3 }, 3);
    let taken = tipoff::domain::event::CheckAnswer::Share(of_ten(9));
    exhausted.checks = [("c".into(), tipoff::domain::partition::CheckTaken { at: at(0), answer: taken })].into();
    let (after, found) = walk(&of, &date, 1);
    let of_t = alert(&found, "exhausted").unwrap();
    assert_eq!(of_t.about.node, Some("t".into()));
    assert_eq!(of_t.about.partition, Some(date.key.clone()));
    assert!(of_t.about.done.as_ref().unwrap().starts_with("it was dispatched 3 times for this date"), "{of_t:?}");
    assert_eq!(alert(&found, "check").unwrap().about, of_node("t", None), "it is called by its node and its own name");
    // So does its end.
    let mut well = after;
    let t = facts(&mut well, "t");
    (t.state, t.failure, t.evidence) = (State::Succeeded { at: at(60) }, None, claimed(1));
    let (_, found) = walk(&of, &well, 2);
    let end = alert(&found, "exhausted").unwrap();
    assert_eq!((end.turn, &end.about), (Turn::Resolved, &of_node("t", None)));
}

/// Of what goes on by itself it is said so: of a run that is quiet, of a node that waits for more of an input.
#[test]
fn what_goes_on_by_itself_is_said_to() {
    let of = graph(vec![source("s"), task("t", vec![hard("s")])]);
    let mut date = games();
    facts(&mut date, "s").evidence = seen(-10, 5, &[]);
    let (_, found) = walk(&of, &date, 1);
    let done = |plan: &Plan, topic| alert(plan, topic).unwrap().about.done.clone();
    assert_eq!(done(&found, "blocked").as_deref(), Some("it goes by itself as soon as enough is there"));
    for (id, expected) in [("s", None), ("t", Some("the run is given up and replaced at 12:25:00Z if it stays silent"))]
    {
        let mut date = games();
        let node = facts(&mut date, id);
        node.state = State::Running { since: at(60), inputs_at: at(60), starter: Starter::Them };
        node.runs = [("x".into(), run(1, 10))].into();
        let (_, found) = walk(&of, &date, 16);
        assert_eq!(done(&found, "stale").as_deref(), expected, "{id}");
    }
}

/// What is late is named once, though a walk that may end a silence is done again.
#[test]
fn what_is_late_is_named_once() {
    let mut s = source("s");
    s.expects.due = vec![Anchor::FirstTip(minutes(-60))];
    let of = graph(vec![Node { phase: "other".into(), ..s }, task("t", vec![]), task("u", vec![])]);
    let not_begun = Facts {
        state: State::Failed { at: at(600) },
        failure: Some(failure(10, FailureKind::NotStarted)),
        last: Some(last(0, Cause::DependenciesMet)),
        unstarted_since: Some(at(0)),
        ..Facts::default()
    };
    for is_silent in [false, true] {
        let mut date = games();
        if is_silent {
            date.nodes = ["t", "u"].map(|id| (id.into(), not_begun.clone())).into();
        }
        let (_, found) = walk(&of, &date, 7 * 60 + 30);
        assert_eq!(alert(&found, "phase-silent").is_some(), is_silent);
        let (_, text) = told(&found, "late").unwrap();
        assert_eq!(text.matches("s (due").count(), 1, "{text}");
    }
}

/// What is done about a failure follows from who may try again.
#[test]
fn what_is_done_about_a_failure_depends_on_who_tries_again() {
    let of = graph(vec![source("s"), task("t", vec![])]);
    for (id, done) in [("s", None), ("t", Some("it is tried again within its budget"))] {
        let mut date = games();
        let node = facts(&mut date, id);
        (node.state, node.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Reported)));
        let (_, found) = walk(&of, &date, 1);
        let alert = alert(&found, "failed").unwrap();
        assert_eq!((alert.severity, alert.about.done.as_deref()), (Severity::Warning, done), "{id}");
    }
}

fn doubled(date: &Partition, double_run: bool) -> Partition {
    let mut date = date.clone();
    facts(&mut date, "t").double_run = double_run;
    date
}

/// What comes and goes is told six times; then it stays on until the date is over, and is told no more after that either.
#[test]
fn what_comes_and_goes_is_told_six_times() {
    let of = graph(vec![task("t", vec![hard("s")])]);
    let mut date = with_games(None, GameStatus::Scheduled);
    let t = facts(&mut date, "t");
    (t.state, t.evidence) = (State::Succeeded { at: at(0) }, claimed(0));
    for time in 1..=6 {
        let (on, found) = walk(&of, &doubled(&date, true), time);
        let (severity, text) = told(&found, "double-run").unwrap();
        assert_eq!(severity, Severity::Warning);
        assert_eq!(text.ends_with("; it comes and goes, and is told no more for this date"), time == 6, "{text}");
        assert_eq!(on.told.values().next().unwrap().begun, u32::try_from(time).unwrap());
        let (again, found) = walk(&of, &on, time);
        assert!(alerts(&found).is_empty() && again.told == on.told, "it is on already");
        let (off, found) = walk(&of, &doubled(&on, false), time);
        let ends: Vec<_> = alerts(&found).iter().map(|alert| alert.turn).collect();
        assert_eq!(ends, if time < 6 { vec![Turn::Resolved] } else { vec![] });
        assert_eq!(found.wake_at, (time == 6).then(|| at(END * 60)), "it ends with the date");
        date = off;
    }
    let (over, found) = walk(&of, &date, END - 1);
    assert!(alerts(&found).is_empty() && !over.alerts.is_empty());
    let (over, found) = walk(&of, &date, END);
    assert_eq!(alerts(&found).iter().map(|alert| alert.turn).collect::<Vec<_>>(), [Turn::Resolved]);
    let (on, found) = walk(&of, &doubled(&over, true), END + 1);
    assert!(alert(&found, "double-run").is_none(), "{:?}", alerts(&found));
    assert!(on.alerts.keys().any(|key| key.topic() == "double-run"));
}

fn late(id: &str) -> Node {
    let mut node = Node { probed: false, ..source(id) };
    node.expects.due = vec![Anchor::FirstTip(minutes(-60))];
    node
}

/// What is about more is told anew so many times and no more, but that it has become worse is always told.
#[test]
fn what_becomes_worse_is_told_however_often_it_was_told() {
    let mut worse = late("b");
    worse.expects.late = Some(Severity::Critical);
    let of = |second: Node| graph(vec![late("a"), second]);
    let key = AlertKey::from("late:law:laws/2026-01-22");
    // How often it was told anew, how bad it is, and whether it is told that there is one more.
    for (anew, second, is_told) in [(47, late("b"), true), (48, late("b"), false), (48, worse, true)] {
        let mut date = dated(&[(TWO[0], 60)]);
        date.alerts = [(key.clone(), Severity::Warning)].into();
        date.told = [(key.clone(), Told { begun: 1, anew })].into();
        date.named = [(key.clone(), [Arc::from("a")].into())].into();
        let (after, found) = walk(&of(second), &date, 1);
        assert_eq!(told(&found, "late").is_some(), is_told, "{anew}");
        assert_eq!(after.told[&key].anew, 48);
    }
}

/// Dispatches that nobody began are told of by node, or of their phase where it is silent, and not where no game is played.
#[test]
fn what_nobody_began_is_told_of_once() {
    let of = graph(vec![task("t", vec![]), task("u", vec![])]);
    let unstarted = |ids: &[&str], mut date: Partition, kind: FailureKind| {
        for id in ids {
            let node = facts(&mut date, id);
            node.state = State::Failed { at: at(0) };
            node.failure = Some(failure(0, kind));
            node.last = Some(last(-10, Cause::DependenciesMet));
            node.unstarted_since = (kind == FailureKind::NotStarted).then(|| at(-600));
        }
        let (_, plan) = walk(&of, &date, 1);
        ["not-started", "phase-silent", "failed"].map(|topic| about(&plan, topic))
    };
    let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
    assert_eq!(unstarted(&["t"], games(), FailureKind::NotStarted), [warning, None, None]);
    assert_eq!(unstarted(&["t", "u"], games(), FailureKind::NotStarted), [None, critical, None]);
    assert_eq!(unstarted(&["t"], without_games(), FailureKind::NotStarted), [None, None, None]);
    assert_eq!(unstarted(&["t"], without_games(), FailureKind::Reported), [None, None, None]);
    assert_eq!(unstarted(&["t"], games(), FailureKind::Reported), [None, None, warning]);
}

/// A storm is over once half as many runs begin as it took to be one.
#[test]
fn a_storm_is_over_when_half_as_many_begin() {
    let mut t = task("t", vec![hard("s")]);
    t.liveness.storm = Some(Storm { warn_above: 10, critical_above: 100 });
    let of = graph(vec![t]);
    let key = AlertKey::from("storm:t:laws/2026-01-22");
    for (begun, was_on, is_on) in
        [(10, false, false), (11, false, true), (6, true, true), (5, true, false), (6, false, false)]
    {
        let mut date = games();
        let mut rate = Rate::default();
        (0..begun).for_each(|_| rate.note(at(0)));
        facts(&mut date, "t").begun = rate;
        if was_on {
            date.alerts = [(key.clone(), Severity::Warning)].into();
        }
        let (after, _) = walk(&of, &date, 1);
        assert_eq!(after.alerts.contains_key(&key), is_on, "{begun}, {was_on}");
    }
}

/// That a source has nothing is told once the warehouse has been asked too, or has had two minutes to answer.
#[test]
fn that_a_source_has_nothing_is_told_when_the_warehouse_has_been_heard() {
    let of = |node: Node| graph(vec![node]);
    let silent = Node { probed: false, ..source("n") };
    for (node, kind, looked, minute, is_told) in [
        (source("n"), FailureKind::Empty, None, 11, false),
        (source("n"), FailureKind::Declined, None, 11, false),
        (source("n"), FailureKind::Empty, None, 12, true),
        (source("n"), FailureKind::Empty, Some(9), 11, false),
        (source("n"), FailureKind::Empty, Some(10), 11, true),
        (source("n"), FailureKind::Empty, Some(11), 11, true),
        (source("n"), FailureKind::Reported, None, 11, true),
        (silent, FailureKind::Empty, None, 11, true),
        (task("n", vec![]), FailureKind::Empty, None, 11, true),
    ] {
        let mut date = games();
        let n = facts(&mut date, "n");
        (n.state, n.failure) = (State::Failed { at: at(600) }, Some(failure(10, kind)));
        n.evidence.looked_at = looked.map(|minute: i64| at(minute * 60));
        let (_, found) = walk(&of(node), &date, minute);
        assert_eq!(about(&found, "failed").is_some(), is_told, "{kind:?} {looked:?} {minute}");
        if !is_told {
            assert_eq!(found.wake_at, Some(at(12 * 60)));
        }
    }
}

/// What falls short of what a node needs is told in one sentence, while the pass lasts.
#[test]
fn what_blocks_a_node_is_told_while_its_pass_lasts() {
    let least = PerMille::new(800).unwrap();
    let needs = ["a", "b"].map(|id| Dependency { coverage_min: least, ..hard(id) }).into();
    let mut of = graph(vec![source("a"), source("b"), task("t", needs)]);
    of.cycles[1].from.days = 0;
    of.cycles[1].from.time = Time::constant(12, 0, 0, 0);
    let short = |date: &Partition, minute: i64| {
        let mut date = date.clone();
        facts(&mut date, "a").evidence = seen(0, 7, &[]);
        facts(&mut date, "b").evidence = Evidence { unanswered: Some(at(0)), ..Evidence::default() };
        told(&walk(&of, &date, minute).1, "blocked")
    };
    let text = "t is blocked: a@2026-01-22 7/10 (0.70) < 0.80; b@2026-01-22 unknown, 0.80 required";
    assert_eq!(short(&games(), 1), says(Severity::Warning, text));
    assert_eq!(short(&games(), -1), None);
    assert_eq!(short(&games(), END), None);
    assert_eq!(short(&without_games(), 1), None);
}

/// Oddities of messages are told as they were noted.
#[test]
fn oddities_of_messages_are_told() {
    let of = graph(vec![source("s")]);
    let mut date = games();
    date.notes = [
        Note::UnknownName { name: "odd".into(), node: "s".into() },
        Note::WrongTopic { name: "s".into(), topic: "other".into() },
        Note::OtherDate { node: "s".into(), given: date_of(21) },
    ]
    .into();
    let (_, found) = walk(&of, &date, 1);
    let said = |topic| told(&found, topic).unwrap();
    assert_eq!(said("unknown-name").1, "`odd` is in no alias list; its output table says it is s");
    assert_eq!(said("wrong-topic").1, "`s` came over other, a topic of another pipeline");
    assert_eq!(
        said("other-date").1,
        "s gives 2026-01-21 for files of games that lie under 2026-01-22; they count for that date"
    );
    assert!(["unknown-name", "wrong-topic", "other-date"].iter().all(|topic| said(topic).0 == Severity::Warning));
}

fn date_of(day: i8) -> jiff::civil::Date {
    date(2026, 1, day)
}

/// On a date without games it is said that some failed, and nothing else.
#[test]
fn on_a_day_off_failures_are_one_line() {
    let of = graph(vec![task("t", vec![hard("s")]), task("u", vec![hard("s")]), task("v", vec![hard("s")])]);
    let failed = |mut date: Partition| {
        for id in ["t", "u"] {
            let node = facts(&mut date, id);
            (node.state, node.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Reported)));
        }
        walk(&of, &date, 1).1
    };
    let found = failed(without_games());
    let line = says(Severity::Info, "2 processors failed on a date without games, as t: nothing is lost");
    assert_eq!((told(&found, "day-off"), alerts(&found).len()), (line, 1));
    assert_eq!(told(&failed(games()), "day-off"), None);
}

/// What cannot be right about a schedule is told: that it lists nothing any more, that all begin at once, that they never end.
#[test]
fn what_cannot_be_right_about_a_schedule_is_told() {
    let mut of = graph(vec![source("s")]);
    of.calendar.game_max = minutes(240);
    let three = [(TWO[0], 600), (TWO[1], 600), ("20260122_MIA_ORL", 600)];
    let emptied = |mut date: Partition| {
        date.schedule.as_mut().unwrap().emptied_at = Some(at(0));
        date
    };
    let on = |date: &Partition, minute| {
        let (_, plan) = walk(&of, date, minute);
        let topics = ["schedule-empty", "schedule-suspect", "schedule-stale"];
        (topics.map(|topic| told(&plan, topic).is_some()), plan.wake_at)
    };
    assert_eq!(on(&dated(&three[..2]), 1).0, [false, false, false]);
    assert_eq!(on(&emptied(dated(&three[..2])), 1).0, [true, false, false]);
    assert_eq!(on(&emptied(dated(&[])), 1).0, [false, false, false], "it knew of none");
    assert_eq!(on(&dated(&three), 1).0, [false, true, false]);
    assert_eq!(on(&dated(&three), 600).0, [false, false, false], "they have begun");
    let mut apart = three;
    apart[2].1 = 601;
    assert_eq!(on(&dated(&apart), 1).0, [false, false, false]);
    assert_eq!(on(&dated(&apart), 600).0, [false, false, false]);
    let soon = on(&dated(&three[..1]), 839);
    assert_eq!(soon, ([false, false, false], Some(at(840 * 60))), "it is over in a minute at the latest");
    assert_eq!(on(&dated(&three[..1]), 840).0, [false, false, true]);
    let text = "by the schedule these have not ended, and must have: 20260122_BOS_NYK; they count as over";
    assert_eq!(told(&walk(&of, &dated(&three[..1]), 840).1, "schedule-stale"), says(Severity::Warning, text));
}

/// An output is late from when it is due; where the warehouse is asked about it then, from its answer or two minutes later on.
#[test]
fn what_is_late_is_told_by_phase() {
    let date = dated(&[(TWO[0], 60), (TWO[1], 120)]);
    let all = |nodes: Vec<Node>| graph(nodes);
    let of = all(vec![late("a"), late("b")]);
    let (_, before) = walk(&of, &date, -1);
    assert_eq!((told(&before, "late"), before.wake_at), (None, Some(at(0))));
    let (on, found) = walk(&of, &date, 0);
    let text = "law: late are a (due 12:00:00Z, nothing), b (due 12:00:00Z, nothing)";
    assert_eq!(told(&found, "late"), says(Severity::Warning, text));
    assert!(alerts(&walk(&of, &on, 1).1).is_empty(), "once");
    // One comes, and the other is told of no more than it was.
    let mut one = on.clone();
    facts(&mut one, "a").evidence = claimed(1);
    assert!(alerts(&walk(&of, &one, 2).1).is_empty());
    facts(&mut one, "b").evidence = claimed(1);
    assert_eq!(alert(&walk(&of, &one, 2).1, "late").unwrap().turn, Turn::Resolved);
    // What is probed has two minutes more, or as long as the warehouse takes.
    let probed = all(vec![Node { probed: true, ..late("a") }]);
    for (looked, minute, is_late) in [
        (None, 0, false),
        (None, 1, false),
        (None, 2, true),
        (Some(-1), 1, false),
        (Some(0), 0, true),
        (Some(1), 1, true),
    ] {
        let mut date = date.clone();
        facts(&mut date, "a").evidence.looked_at = looked.map(|minute: i64| at(minute * 60));
        let (_, found) = walk(&probed, &date, minute);
        assert_eq!(told(&found, "late").is_some(), is_late, "{looked:?} {minute}");
        assert!(is_late || found.wake_at.is_some_and(|wake| wake <= at(120)));
    }
    let (_, found) = walk(&probed, &date, -1);
    assert_eq!(found.wake_at, Some(at(0)));
}

/// What has come is not late: all of it where its games are told apart, and else any of it. What nobody waits for is not either.
#[test]
fn what_has_come_is_not_late() {
    let with = |unit| {
        let mut node = late("a");
        node.expects.unit = unit;
        graph(vec![node])
    };
    let date = dated(&[(TWO[0], 60), (TWO[1], 120)]);
    let evident = |evidence: Evidence, state: State| Facts { evidence, state, ..Facts::default() };
    let one = seen(0, 5, &[(TWO[0], 10)]);
    let unknown = Evidence { unanswered: Some(at(0)), ..Evidence::default() };
    let skipped = State::Skipped { at: at(0), reason: "law".into() };
    let none = Evidence::default;
    for (unit, facts, minute, is_late) in [
        (Unit::Game, evident(one.clone(), State::Waiting), 1, true),
        (Unit::Any, evident(one, State::Waiting), 1, false),
        (Unit::Game, evident(unknown, State::Waiting), 1, false),
        (Unit::Game, evident(none(), State::Waiting), 1, true),
        (Unit::Any, evident(none(), State::Waiting), 1, true),
        (Unit::Any, evident(none(), skipped), 1, false),
        (Unit::Any, evident(none(), State::Waiting), END, false),
    ] {
        let mut date = date.clone();
        date.nodes.insert("a".into(), facts.clone());
        let (_, found) = walk(&with(unit), &date, minute);
        assert_eq!(told(&found, "late").is_some(), is_late, "{unit:?} {facts:?} {minute}");
    }
    assert_eq!(told(&walk(&with(Unit::Any), &without_games(), 1).1, "late"), None);
}

/// A phase in which nobody begins is told of as one, with who was asked, and who is tried.
#[test]
fn a_silent_phase_is_told_of_as_one() {
    let of = graph(vec![task("t", vec![]), task("u", vec![])]);
    let mut date = games();
    for id in ["t", "u"] {
        let node = facts(&mut date, id);
        node.state = State::Dispatched { at: at(0) };
        (node.attempt, node.last) = (Attempt { run: 1, attempt: 1 }, Some(last(0, Cause::DependenciesMet)));
        node.spent = [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into();
    }
    let (_, before) = walk(&of, &date, 9);
    assert_eq!((told(&before, "phase-silent"), before.wake_at), (None, Some(at(600))));
    let (after, found) = walk(&of, &date, 10);
    let text = "law: 2 expected, 0 started since 12:00:00Z: t, u; last sign of life: none for this date";
    assert_eq!(told(&found, "phase-silent"), says(Severity::Critical, text));
    let done = alert(&found, "phase-silent").unwrap().about.done.clone().unwrap();
    assert_eq!(done, "only t is asked again, later and later; the others wait until somebody is heard");
    let asked: Vec<_> = found.effects.iter().filter(|effect| matches!(effect, Effect::Dispatch(_))).collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(told(&walk(&of, &after, 11).1, "phase-silent"), None, "once");
}

/// Programs of two revisions at work in one phase within the hour are told of until the older has been gone for an hour.
#[test]
fn revisions_that_are_mixed_are_told_of_for_an_hour() {
    let apart = Node { phase: "other".to_owned(), ..source("o") };
    let of = graph(vec![source("a"), source("b"), apart]);
    let mix = |served: &[(&str, &str, i64)], minute: i64| {
        let mut date = games();
        for (node, revision, second) in served {
            date.served.entry((*node).into()).or_default().insert((*revision).into(), at(second * 60));
        }
        let (_, found) = walk(&of, &date, minute);
        told(&found, "revision-mix").map(|(severity, text)| (severity, text, found.wake_at))
    };
    let two = [("a", "r1", 0), ("b", "r2", 10)];
    let text = "law: more than one revision has been at work within the hour: r1 until 12:00:00Z, r2 until 12:10:00Z";
    assert_eq!(mix(&two, 59), Some((Severity::Info, text.to_owned(), Some(at(3_600)))));
    assert_eq!(mix(&two, 60), None);
    assert_eq!(mix(&[("a", "r1", 0), ("b", "r1", 10)], 20), None, "the same");
    assert_eq!(mix(&[("a", "r1", 0), ("o", "r2", 10)], 20), None, "each in its own phase");
    assert_eq!(mix(&two[..1], 20), None);
}

/// Little that was reported as little is told as that, and not as contradicted too.
#[test]
fn few_rows_that_were_reported_as_few_are_not_contradicted() {
    let mut s = source("s");
    s.expects.records_min = 30;
    s.expects.verify = minutes(5);
    let of = graph(vec![s, task("t", vec![hard("s")])]);
    let mut date = games();
    let s = facts(&mut date, "s");
    s.evidence = claimed(0);
    s.evidence.look(at(60));
    s.evidence.observe(at(60), of_ten(9), BTreeMap::new());
    let (_, found) = walk(&of, &date, 6);
    assert_eq!(["low-output", "contradicted"].map(|topic| told(&found, topic).is_some()), [true, false]);
}

/// An output of which people are told an hour before each game what is missing; it waits for what never comes.
fn promised(probed: bool) -> Node {
    let mut t = Node { probed, ..task("t", vec![hard("s")]) };
    t.expects.unit = Unit::Game;
    t.expects.alert_before_tip = Some(minutes(60));
    t
}

/// Of an output that was not made people are told an hour before each game that needs it, and until that game begins.
#[test]
fn a_game_without_its_output_is_told_of_an_hour_before_it_begins() {
    let of = graph(vec![promised(false)]);
    let date = dated(&[(TWO[1], 120), (TWO[0], 180)]);
    let (_, before) = walk(&of, &date, 59);
    assert_eq!((told(&before, "coverage"), before.wake_at), (None, Some(at(3_600))));
    let (on, found) = walk(&of, &date, 60);
    assert_eq!(told(&found, "coverage"), says(Severity::Critical, "1 of 2 games are short of t: LAL@GSW nothing"));
    assert_eq!(
        (alert(&found, "coverage").unwrap().about.node.clone(), found.wake_at),
        (Some("t".into()), Some(at(7_200)))
    );
    assert!(alerts(&walk(&of, &on, 61).1).is_empty(), "once");
    // The first has begun when the second is looked at, and both have begun at last.
    let (next, found) = walk(&of, &on, 120);
    let text = "1 of 2 games are short of t: BOS@NYK nothing";
    assert_eq!(told(&found, "coverage"), says(Severity::Critical, text));
    let (_, found) = walk(&of, &next, 180);
    let end = alert(&found, "coverage").unwrap();
    assert_eq!((end.turn, &*end.text), (Turn::Resolved, "missed: BOS@NYK, LAL@GSW began short of t"));
    // Where it is made in time, its end says nothing of that.
    let mut made = on;
    facts(&mut made, "t").evidence = claimed(61);
    let end = walk(&of, &made, 62).1;
    assert_eq!(alert(&end, "coverage").unwrap().text, "coverage:t:laws/2026-01-22");
}

/// Where all games are said to begin at once, coverage is looked at before the earliest that a game ever begins.
#[test]
fn games_that_all_begin_at_once_are_looked_at_before_the_earliest() {
    let mut of = graph(vec![promised(false)]);
    of.calendar.tip_earliest = Some(Time::constant(17, 0, 0, 0));
    let three = [(TWO[0], 480), (TWO[1], 480), ("20260122_MIA_ORL", 480)];
    for (minute, is_told) in [(239, false), (240, true)] {
        assert_eq!(told(&walk(&of, &dated(&three), minute).1, "coverage").is_some(), is_told, "{minute}");
        assert_eq!(told(&walk(&of, &dated(&three[..2]), minute).1, "coverage"), None);
    }
}

/// Where the warehouse can be asked it is asked first, and waited for two minutes.
#[test]
fn the_warehouse_is_asked_before_a_game_is_called_short() {
    let of = graph(vec![promised(true)]);
    let date = dated(&[(TWO[0], 120)]);
    let (asked, found) = walk(&of, &date, 60);
    let asks = |plan: &Plan| plan.effects.iter().filter(|effect| matches!(effect, Effect::Observe { .. })).count();
    assert_eq!((told(&found, "coverage"), asks(&found), found.wake_at), (None, 1, Some(at(62 * 60))));
    let (_, found) = walk(&of, &asked, 61);
    assert_eq!((told(&found, "coverage"), asks(&found)), (None, 0));
    assert!(told(&walk(&of, &asked, 62).1, "coverage").is_some());
    for (looked, is_told) in [(59, false), (60, true), (61, true)] {
        let mut heard = asked.clone();
        facts(&mut heard, "t").evidence.look(at(looked * 60));
        assert_eq!(told(&walk(&of, &heard, 61).1, "coverage").is_some(), is_told, "heard at {looked}");
    }
}

/// What was made and falls short of a game is told of at once; while it is made for the first time it is not short yet.
#[test]
fn what_was_made_without_a_game_is_told_of_at_once() {
    let of = graph(vec![promised(false)]);
    let date = dated(&[(TWO[0], 600), (TWO[1], 600)]);
    let running = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
    let half = || seen(0, 7, &[(TWO[0], 10), (TWO[1], 5)]);
    let text = "1 of 2 games are short of t: LAL@GSW 5 of 10";
    let again = || {
        let mut evidence = half();
        evidence.claim = claimed(-5).claim;
        evidence
    };
    for (evidence, state, said) in [
        (half(), State::Succeeded { at: at(0) }, says(Severity::Warning, text)),
        (half(), running.clone(), None),
        (again(), running.clone(), says(Severity::Warning, text)),
        (Evidence::default(), running, None),
        (Evidence::default(), State::Waiting, None),
        (seen(0, 10, &[(TWO[0], 10), (TWO[1], 10)]), State::Succeeded { at: at(0) }, None),
    ] {
        let mut date = date.clone();
        let t = facts(&mut date, "t");
        (t.evidence, t.state) = (evidence, state);
        if t.state.is_live() {
            t.runs = [("x".into(), run(0, 1))].into();
        }
        assert_eq!(told(&walk(&of, &date, 1).1, "coverage"), said, "{:?}", date.nodes["t"]);
    }
    // Within the hour before a game all that are short are told of, and it is critical.
    let mut soon = dated(&[(TWO[0], 60), (TWO[1], 600)]);
    let t = facts(&mut soon, "t");
    (t.evidence, t.state) = (seen(0, 5, &[(TWO[0], 5), (TWO[1], 5)]), State::Succeeded { at: at(0) });
    let text = "2 of 2 games are short of t: BOS@NYK 5 of 10, LAL@GSW 5 of 10";
    assert_eq!(told(&walk(&of, &soon, 1).1, "coverage"), says(Severity::Critical, text));
}

/// A game that is not played any more is short of nothing, and that is told.
#[test]
fn a_game_that_is_not_played_any_more_is_named_no_more() {
    let of = graph(vec![promised(false)]);
    let mut date = dated(&[(TWO[0], 600), (TWO[1], 600)]);
    let t = facts(&mut date, "t");
    (t.evidence, t.state) = (seen(0, 5, &[(TWO[0], 5), (TWO[1], 5)]), State::Succeeded { at: at(0) });
    let (mut on, _) = walk(&of, &date, 1);
    on.schedule.as_mut().unwrap().games.get_mut(TWO[0]).unwrap().status = GameStatus::Postponed;
    let (after, found) = walk(&of, &on, 2);
    let text = "1 of 1 games are short of t: LAL@GSW 5 of 10";
    assert_eq!(told(&found, "coverage"), says(Severity::Warning, text));
    assert!(alerts(&walk(&of, &after, 3).1).is_empty());
    // One of which the rest has come is not told of as less.
    let (mut on, _) = walk(&of, &date, 1);
    facts(&mut on, "t").evidence = seen(1, 7, &[(TWO[0], 10), (TWO[1], 5)]);
    assert!(alerts(&walk(&of, &on, 2).1).is_empty());
}

/// While a new completion is being looked at, games that have not begun stay told of.
#[test]
fn games_stay_short_while_a_new_completion_is_looked_at() {
    let mut t = promised(true);
    t.expects.verify = minutes(5);
    let of = graph(vec![t]);
    let mut date = dated(&[(TWO[0], 600), (TWO[1], 20)]);
    let t = facts(&mut date, "t");
    (t.evidence, t.state) = (seen(0, 5, &[(TWO[0], 10), (TWO[1], 5)]), State::Succeeded { at: at(0) });
    let (on, found) = walk(&of, &date, 1);
    assert!(told(&found, "coverage").is_some());
    let mut anew = on;
    facts(&mut anew, "t").evidence.claim = claimed(2).claim;
    // When it is looked at, and whether it is over.
    for (minute, is_over) in [(3, false), (6, false), (7, true)] {
        let (_, found) = walk(&of, &anew, minute);
        assert_eq!(alert(&found, "coverage").map(|alert| alert.turn), is_over.then_some(Turn::Resolved), "{minute}");
    }
    // Where every game that was short has begun nothing is waited for.
    let mut begun = anew.clone();
    begun.schedule.as_mut().unwrap().games.get_mut(TWO[1]).unwrap().tip = Some(at(120));
    let (_, found) = walk(&of, &begun, 3);
    assert_eq!(alert(&found, "coverage").map(|alert| alert.turn), Some(Turn::Resolved));
}

/// A deadline that will be missed is told of until it has come, or until enough is there after all.
#[test]
fn a_deadline_that_will_be_missed_is_told_of() {
    let of = graph(vec![task("t", vec![hard("s")])]);
    let cause = Late { node: "s".into(), date: DATE, by: minutes(20), has_come: false, basis: None };
    let shortfall = Shortfall {
        deadline: at(3_600),
        expected: PerMille::new(500).unwrap(),
        required: PerMille::new(800).unwrap(),
        cause: Some(cause),
    };
    let mut date = games();
    let node = NodeId::from("t");
    date.forecast = [(node.clone(), Foretold { node, shortfall: Some(shortfall), at: at(0) })].into();
    let (on, found) = walk(&of, &date, 59);
    let text = "13:00 will have 50 % of 80 % of t, because s is 20 minutes late";
    assert_eq!((told(&found, "forecast"), found.wake_at), (says(Severity::Warning, text), Some(at(3_600))));
    assert_eq!(told(&walk(&of, &date, 60).1, "forecast"), None);
    for (tenths, is_on) in [(7, true), (8, false)] {
        let mut come = on.clone();
        facts(&mut come, "t").evidence = seen(10, tenths, &[]);
        let (after, _) = walk(&of, &come, 11);
        assert_eq!(after.alerts.keys().any(|key| key.topic() == "forecast"), is_on, "{tenths}");
    }
}

/// What is short of a source is listed, and which of it is of teams that play.
#[test]
fn parts_that_are_short_are_listed() {
    let mut s = late("s");
    s.expects.unit = Unit::Team;
    let of = graph(vec![s]);
    let listed = |units: &[(&str, u32)]| {
        let mut date = dated(&[(TWO[0], 120)]);
        facts(&mut date, "s").evidence = seen(0, 5, units);
        told(&walk(&of, &date, 1).1, "short").unwrap()
    };
    let (severity, text) = listed(&[("LAL", 5)]);
    assert_eq!((severity, text.ends_with("; short are LAL")), (Severity::Warning, true), "{text}");
    let (severity, text) = listed(&[("BOS", 5), ("LAL", 5)]);
    let both = text.ends_with("; short are BOS, LAL; of teams that play BOS");
    assert_eq!((severity, both), (Severity::Critical, true), "{text}");
}

/// Nothing is called silent, late or short of a word that may still be on its way.
#[test]
fn what_is_not_heard_of_yet_is_not_late() {
    let of = graph(vec![late("a")]);
    let mut date = dated(&[(TWO[0], 60)]);
    let found = plan(&of, &mut date, Now { at: at(60), heard_until: at(-60) });
    assert_eq!(told(&found, "late"), None);
    assert_eq!(found.wake_at, Some(at(70)), "it is looked at again soon");
}

/// A join that goes on without somebody says without whom, unless it was declared to need no more.
#[test]
fn a_join_says_whom_it_goes_on_without() {
    for (tiers, said) in
        [(vec![(2, 0), (1, 30)], says(Severity::Warning, "join goes on with 1 of 2: b missing")), (vec![(1, 0)], None)]
    {
        let quorum = tiers.into_iter().map(|(count, after)| Tier { count, after: minutes(after) }).collect();
        let kind = Kind::Gate(tipoff::domain::graph::Gate { critical: [].into(), quorum });
        let join = Node { kind, probed: false, ..task("join", ["a", "b"].map(hard).into()) };
        let of = graph(vec![source("a"), source("b"), join]);
        let mut date = games();
        facts(&mut date, "a").evidence = claimed(0);
        assert_eq!(told(&walk(&of, &date, 30).1, "quorum"), said);
    }
}

/// An output that is all there without a completion counts as done, and that is told; one that was reported, is short, or is still
/// being made is not told of.
#[test]
fn what_is_done_without_a_completion_is_told_of() {
    let of = graph(vec![task("t", vec![])]);
    let done = || State::Succeeded { at: at(0) };
    let running = State::Running { since: at(0), inputs_at: at(0), starter: Starter::Us };
    let reported = || {
        let mut evidence = seen(0, 10, &[]);
        evidence.claim = claimed(-5).claim;
        evidence
    };
    let whole = "t has 10/10 (1.00) without a completion message: counted as done";
    for (evidence, state, said) in [
        (seen(0, 10, &[]), done(), says(Severity::Info, whole)),
        (reported(), done(), None),
        (seen(0, 9, &[]), done(), None),
        (seen(0, 10, &[]), running, None),
    ] {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.evidence, t.state) = (evidence, state);
        if t.state.is_live() {
            t.runs = [("x".into(), run(0, 1))].into();
        }
        assert_eq!(told(&walk(&of, &date, 1).1, "reconciled"), said, "{:?}", date.nodes["t"].state);
    }
}
