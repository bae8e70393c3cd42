//! Why a node is asked to run, what its request says, and what is carried to the next date.

use tipoff::domain::effect::{Cause, Dispatch, Effect, Severity};
use tipoff::domain::event::{Game, GameStatus, RunWord, Upstream};
use tipoff::domain::evidence::{Claim, Evidence, Extant, Version};
use tipoff::domain::failure::{Ends, FailureClass};
use tipoff::domain::graph::{Dependency, Graph, Kind, Node, Offset, Rebuild, Refresh, Task, Unit};
use tipoff::domain::id::{Attempt, RunId};
use tipoff::domain::partition::{
    Backfilled, End, Failure, FailureKind, Hold, LastDispatch, Node as Facts, Partition, Run, Spent, Starter, State,
    Wish, Word,
};
use tipoff::domain::plan::Plan;
use tipoff::domain::readiness::{Blocker, Readiness};

use crate::facts::{claim, facts};
use crate::graphs::{DATE, at, costs, graph, hard, minutes, source, task};
use crate::walk::{about, claimed, failure, games, last, no_inputs, run, seen, walk, with_games};

const END: i64 = 22 * 60;
const GAMES: [&str; 2] = ["20260122_BOS_NYK", "20260122_LAL_GSW"];

fn dispatch<'p>(plan: &'p Plan, id: &str) -> Option<&'p Dispatch> {
    plan.effects.iter().find_map(|effect| match effect {
        Effect::Dispatch(dispatch) if dispatch.node.as_str() == id => Some(dispatch),
        _ => None,
    })
}

fn wish(second: i64) -> Wish {
    Wish { actor: "ann".into(), reason: "law".into(), at: at(second), plan: None }
}

fn by_ann(until: Option<i64>) -> Hold {
    Hold { actor: "ann".into(), reason: "law".into(), at: at(0), until: until.map(|minute| at(minute * 60)) }
}

/// A producer is asked for the parts that are missing: for those of teams that play, or else for all that are short.
#[test]
fn a_producer_is_asked_for_the_parts_that_are_missing() {
    let of = |unit| {
        let mut r = Node { kind: Kind::Source(Some(costs())), probed: false, ..source("r") };
        r.expects.unit = unit;
        graph(vec![r])
    };
    let two = || {
        let mut date = games();
        let game = |tip: i64| Game { tip: Some(at(tip * 60)), status: GameStatus::Scheduled, id: None };
        date.schedule.as_mut().unwrap().games = GAMES.map(|unit| (unit.into(), game(480))).into();
        date
    };
    // One game came by messages, after the warehouse had counted.
    let told = |since: i64| {
        let mut evidence = seen(10, 5, &[]);
        evidence.claim(Claim { records: Some(1), ..claim(since * 60) });
        evidence.part(&GAMES[0].into(), at(since * 60));
        evidence
    };
    for (unit, evidence, units) in [
        (Unit::Team, seen(10, 5, &[("BOS", 5), ("MIA", 5), ("NYK", 10)]), &["BOS"][..]),
        (Unit::Team, seen(10, 5, &[("MIA", 5), ("ORL", 0), ("NYK", 10)]), &["MIA", "ORL"]),
        (Unit::Any, seen(10, 5, &[("MIA", 5)]), &["MIA"]),
        (Unit::Game, told(20), &GAMES[1..]),
        (Unit::Any, told(20), &[]),
        (Unit::Game, Evidence::default(), &[]),
    ] {
        let mut date = two();
        let r = facts(&mut date, "r");
        (r.evidence, r.wish) = (evidence.clone(), Some(wish(1_800)));
        let (_, plan) = walk(&of(unit), &date, 31);
        let asked = &dispatch(&plan, "r").unwrap().manifest;
        let asked: Vec<&str> = asked.units.iter().map(|unit| unit.as_str()).collect();
        assert_eq!(asked, units, "{unit:?} {evidence:?}");
    }
}

/// Who waits only for the clock to make its output anew is waited for; who was never made, or is held, is not.
#[test]
fn an_output_that_is_made_anew_in_some_minutes_is_waited_for() {
    let of = |needs: Vec<Dependency>| graph(vec![source("s"), task("u", needs), task("v", vec![hard("u")])]);
    let quiet = Dependency { debounce: minutes(20), ..hard("s") };
    let renewing = Blocker::Renewing { node: "u".into(), date: DATE };
    let unmet = Blocker::Unmet { node: "u".into(), date: DATE, state: "nothing known" };
    for (needs, made, held, blockers) in [
        (vec![hard("s")], true, false, vec![renewing.clone()]),
        (vec![hard("s")], true, true, vec![]),
        (vec![quiet], false, false, vec![unmet]),
    ] {
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(30);
        if made {
            let u = facts(&mut date, "u");
            (u.evidence, u.built_from) = (claimed(10), Some(at(300)));
            u.state = State::Succeeded { at: at(600) };
            u.hold = held.then(|| by_ann(None));
        }
        let (_, plan) = walk(&of(needs), &date, 35);
        assert_eq!(plan.verdicts["v"].blockers, blockers, "{made} {held}");
    }
}

/// An output that is older than what it cannot do without is not used, unless it is never made anew.
#[test]
fn an_output_that_is_never_made_anew_is_used_as_it_is() {
    for (rebuild, blocked) in [(Rebuild::After(minutes(10)), true), (Rebuild::Never, false)] {
        let u = Node { kind: Kind::Task(Task { rebuild, ..costs() }), ..task("u", vec![hard("p")]) };
        let of = graph(vec![task("p", vec![]), u, task("v", vec![hard("u")])]);
        let mut date = games();
        for (id, minute) in [("p", 30), ("u", 10)] {
            let node = facts(&mut date, id);
            (node.evidence, node.built_from) = (claimed(minute), Some(at(minute * 60)));
            node.state = State::Succeeded { at: at(minute * 60) };
        }
        facts(&mut date, "u").hold = Some(by_ann(None));
        let (_, plan) = walk(&of, &date, 60);
        let stale = Blocker::Stale { node: "u".into(), date: DATE };
        assert_eq!(plan.verdicts["v"].blockers, if blocked { vec![stale] } else { vec![] });
    }
}

fn running(runs: &[(&str, Run)], starter: Starter) -> Partition {
    let mut date = games();
    let t = facts(&mut date, "t");
    t.runs = runs.iter().map(|(id, run)| (RunId::from(*id), run.clone())).collect();
    t.state = State::Running { since: at(0), inputs_at: at(0), starter };
    date
}

/// A run that an operator gives up has failed at once, and says so; one that was told to go on and fell silent says that.
#[test]
fn a_run_that_an_operator_gives_up_has_failed_at_once() {
    let of = graph(vec![task("t", vec![hard("s")])]);
    let word = |word| Some(Word { word, actor: "ann".into(), reason: "law".into(), at: at(60) });
    for (said, last, text) in [
        (word(RunWord::GiveUp), 29, Some("given up by ann: law")),
        (word(RunWord::Continue), 29, None),
        (word(RunWord::Continue), 10, Some("no heartbeat for 20 minutes")),
    ] {
        let date = running(&[("x", Run { word: said.clone(), ..run(0, last) })], Starter::Us);
        let (after, plan) = walk(&of, &date, 30);
        let t = &after.nodes["t"];
        assert_eq!(t.failure.as_ref().map(|failure| &*failure.text), text, "{said:?} {last}");
        assert_eq!(t.runs.is_empty(), text.is_some());
        let let_go = plan.effects.iter().any(|effect| matches!(effect, Effect::ReleaseLock { .. }));
        assert_eq!(let_go, text.is_some());
    }
}

/// A run of ours that falls silent was paid for when it was asked for; one that others began is paid for when it has.
#[test]
fn a_run_that_falls_silent_is_paid_for_once() {
    let of = graph(vec![task("t", vec![])]);
    for (starter, paid) in [(Starter::Us, 1), (Starter::Them, 2)] {
        let mut date = running(&[("x", run(0, 10))], starter);
        let t = facts(&mut date, "t");
        t.spent = [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into();
        t.hold = Some(by_ann(None));
        let (after, _) = walk(&of, &date, 30);
        assert_eq!(after.nodes["t"].spent[&no_inputs()].attempts, paid, "{starter:?}");
    }
}

/// A failed run is tried again under its number, and everything else is a new run. A request names the run that it replaces where
/// that fell silent.
#[test]
fn a_run_that_failed_is_tried_again_under_its_number() {
    let of = graph(vec![task("t", vec![])]);
    let r = |run, attempt| Attempt { run, attempt };
    let failed = |kind, attempt| Facts {
        state: State::Failed { at: at(0) },
        failure: Some(Failure { run: Some("x".into()), ..failure(0, kind) }),
        spent: [(no_inputs(), Spent { attempts: 1, ..Spent::default() })].into(),
        attempt,
        ..Facts::default()
    };
    let backfill = |attempts| Facts {
        wish: Some(Wish { plan: Some("p".into()), ..wish(0) }),
        backfilled: Some(Backfilled { plan: "p".into(), at: at(0), attempts, open: false }),
        attempt: r(2, 1),
        ..Facts::default()
    };
    let asked_again = Facts { wish: Some(wish(0)), attempt: r(2, 1), ..Facts::default() };
    for (facts, attempt, cause, fenced) in [
        (failed(FailureKind::Reported, r(1, 1)), r(1, 2), Cause::Failed, None),
        (failed(FailureKind::Silent, r(1, 2)), r(1, 3), Cause::HeartbeatDead, Some("x")),
        (failed(FailureKind::NotStarted, r(1, 1)), r(1, 2), Cause::NotStarted, None),
        (failed(FailureKind::Reported, Attempt::default()), r(1, 1), Cause::Failed, None),
        (asked_again, r(3, 1), Cause::Requested, None),
        (backfill(0), r(3, 1), Cause::Backfill, None),
        (backfill(1), r(2, 2), Cause::Backfill, None),
    ] {
        let mut date = games();
        date.nodes.insert("t".into(), facts.clone());
        let (after, plan) = walk(&of, &date, 30);
        let manifest = &dispatch(&plan, "t").unwrap().manifest;
        let said = (manifest.attempt, manifest.cause, manifest.fenced.as_ref().map(|run| run.as_str()));
        assert_eq!(said, (attempt, cause, fenced), "{facts:?}");
        assert_eq!(after.nodes["t"].attempt, attempt);
    }
}

/// What came only when its pass was over was not missed in it.
#[test]
fn what_came_when_the_pass_was_over_was_not_missed_in_it() {
    let missed = |needs: Vec<Dependency>, come: &[(&str, i64)]| {
        let of = graph(vec![source("a"), source("b"), Node { probed: false, ..task("t", needs) }]);
        let mut date = games();
        for (id, minute) in come {
            facts(&mut date, id).evidence = claimed(*minute);
        }
        facts(&mut date, "t").state = State::Expired { at: at(END * 60) };
        about(&walk(&of, &date, END + 5).1, "missed")
    };
    let both = || ["a", "b"].map(hard).to_vec();
    let told = Some(Severity::Warning);
    assert_eq!(missed(both(), &[("a", 1), ("b", END - 1)]), told);
    assert_eq!(missed(both(), &[("a", 1), ("b", END)]), None);
    let never = vec![Dependency { refresh: Refresh::Never, ..hard("a") }];
    assert_eq!(missed(never.clone(), &[("a", END - 1)]), told);
    assert_eq!(missed(never, &[("a", END)]), None);
}

fn carried(plan: &Plan) -> Vec<(String, Upstream)> {
    let carried = plan.effects.iter().filter_map(|effect| match effect {
        Effect::NotifyPartition { to, node, upstream } => {
            assert_eq!(*to, DATE.tomorrow().unwrap());
            Some((node.to_string(), upstream.clone()))
        }
        _ => None,
    });
    carried.collect()
}

fn held_before(extant: Extant) -> Upstream {
    Upstream {
        date: DATE.yesterday().unwrap(),
        extant,
        version: Version::of(()),
        told_at: at(0),
        since: at(0),
        renewing: false,
        waived: false,
        empty_days: 2,
    }
}

/// What the next date looks back at is told to it when it is another, and only then; on a day off what was told is passed on.
#[test]
fn what_the_next_date_looks_back_at_is_carried_to_it() {
    let before = Dependency { offset: Offset::PreviousGameDay, ..hard("y") };
    let of = graph(vec![source("y"), source("z"), task("t", vec![before, hard("z")])]);
    let mut date = games();
    facts(&mut date, "y").evidence = claimed(10);
    facts(&mut date, "z").evidence = claimed(10);
    let (after, plan) = walk(&of, &date, 11);
    let told = carried(&plan);
    let [(node, upstream)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((node.as_str(), upstream.date, upstream.since), ("y", DATE, at(600)));
    assert_eq!((upstream.extant, upstream.waived, upstream.told_at), (Extant::Claimed, false, at(660)));
    assert_eq!(carried(&walk(&of, &after, 30).1), [], "nothing is new");
    // Skipped, it is waived; there is an output all the same.
    for (there, waived) in [(false, true), (true, false)] {
        let mut skipped = date.clone();
        let y = facts(&mut skipped, "y");
        y.state = State::Skipped { at: at(0), reason: "law".into() };
        if !there {
            y.evidence = Evidence::default();
        }
        assert_eq!(carried(&walk(&of, &skipped, 11).1)[0].1.waived, waived);
    }
    let mut off = with_games(None, GameStatus::Postponed);
    assert_eq!(carried(&walk(&of, &off, 11).1), []);
    off.upstream = [("y".into(), held_before(Extant::Claimed))].into();
    assert_eq!(carried(&walk(&of, &off, 11).1), [("y".to_owned(), held_before(Extant::Claimed))]);
}

/// How many game days in a row a source had nothing is counted on from date to date, whoever looks back at it.
#[test]
fn days_without_data_are_counted_from_date_to_date() {
    let mut s = source("s");
    s.expects.empty_days_max = Some(9);
    let of = graph(vec![s, source("z"), task("t", vec![hard("s")])]);
    let days = |date: &Partition| {
        carried(&walk(&of, date, 11).1).into_iter().map(|(node, up)| (node, up.empty_days)).collect::<Vec<_>>()
    };
    let mut date = games();
    date.upstream = [("s".into(), held_before(Extant::Nothing))].into();
    assert_eq!(days(&date), [], "nothing is known yet");
    let s = facts(&mut date, "s");
    (s.state, s.failure) = (State::Failed { at: at(0) }, Some(failure(0, FailureKind::Empty)));
    assert_eq!(days(&date), [("s".to_owned(), 3)]);
    let s = facts(&mut date, "s");
    (s.state, s.failure, s.evidence) = (State::Succeeded { at: at(0) }, None, claimed(0));
    assert_eq!(days(&date), [("s".to_owned(), 0)]);
}

/// A stop that ends by itself is looked at when it does.
#[test]
fn a_stop_that_ends_by_itself_is_looked_at_when_it_does() {
    let of = graph(vec![source("s")]);
    for (until, wake) in [(Some(30), Some(30)), (Some(10), None), (Some(11), None), (None, None)] {
        let mut date = with_games(None, GameStatus::Scheduled);
        facts(&mut date, "s").hold = Some(by_ann(until));
        let (_, plan) = walk(&of, &date, 11);
        assert_eq!(plan.wake_at, wake.map(|minute: i64| at(minute * 60)), "{until:?}");
        let mut date = with_games(None, GameStatus::Scheduled);
        date.hold = Some(by_ann(until));
        assert_eq!(walk(&of, &date, 11).1.wake_at, wake.map(|minute: i64| at(minute * 60)), "{until:?}");
    }
}

/// Rows that are all there, counted after a failure, outweigh it; fewer, or counted before it, do not.
#[test]
fn rows_that_are_there_outweigh_a_failure() {
    let of = graph(vec![task("t", vec![hard("s")])]);
    for (tenths, counted, succeeds) in [(10, 19, false), (10, 20, true), (10, 21, true), (9, 21, false)] {
        for state in
            [State::Failed { at: at(1_200) }, State::Exhausted { at: at(1_200) }, State::Expired { at: at(1_200) }]
        {
            let mut date = games();
            let t = facts(&mut date, "t");
            (t.state, t.failure) = (state.clone(), Some(failure(20, FailureKind::Reported)));
            t.evidence = seen(counted, tenths, &[]);
            t.built_from = Some(at(300));
            let (after, _) = walk(&of, &date, 22);
            let t = &after.nodes["t"];
            let done = State::Succeeded { at: at(counted * 60) };
            assert_eq!((t.state == done, t.failure.is_none()), (succeeds, succeeds), "{tenths} {counted} {state:?}");
            // It is of what its inputs were when it was made, as far as that is known.
            assert_eq!(t.built_from, Some(at(if succeeds { counted * 60 } else { 300 })));
        }
    }
    let mut date = games();
    facts(&mut date, "t").evidence = seen(10, 9, &[]);
    assert_eq!(walk(&of, &date, 22).0.nodes["t"].built_from, Some(at(600)), "and else when they were first counted");
}

/// A run that said goodbye without a completion has done its work where the rows are all there since.
#[test]
fn a_run_that_ended_without_a_word_has_done_its_work_where_the_rows_are_there() {
    let of = graph(vec![task("t", vec![hard("s")])]);
    let gone = || Run { ended_unreported: true, ..run(0, 10) };
    let alive = || run(0, 14);
    for (runs, tenths, counted, is_done) in [
        (vec![("x", gone())], 10, 9, false),
        (vec![("x", gone())], 10, 10, true),
        (vec![("x", gone())], 10, 11, true),
        (vec![("x", gone())], 9, 11, false),
        (vec![("x", alive())], 10, 11, false),
        (vec![("x", gone()), ("y", alive())], 10, 11, false),
        (vec![("x", gone()), ("y", gone())], 10, 11, true),
        (vec![], 10, 11, false),
    ] {
        let mut date = running(&runs, Starter::Us);
        facts(&mut date, "t").evidence = seen(counted, tenths, &[]);
        let (after, _) = walk(&of, &date, 15);
        let t = &after.nodes["t"];
        assert_eq!(t.state == State::Succeeded { at: at(counted * 60) }, is_done, "{runs:?} {tenths} {counted}");
        if is_done {
            assert!(t.runs.is_empty() && t.ended.values().all(|ended| ended.how == End::Done));
            assert_eq!(t.built_from, Some(at(0)));
        } else {
            assert_eq!(t.runs.len(), runs.len());
        }
    }
}

/// An operator's wish is fulfilled by an output that came after it.
#[test]
fn a_wish_is_fulfilled_by_an_output_that_came_after_it() {
    for of in [
        graph(vec![task("n", vec![hard("s")])]),
        graph(vec![Node { kind: Kind::Source(Some(costs())), probed: false, ..source("n") }]),
    ] {
        for (done, is_fulfilled) in [(9, false), (10, false), (11, true)] {
            let mut date = games();
            let n = facts(&mut date, "n");
            (n.state, n.evidence) = (State::Succeeded { at: at(done * 60) }, claimed(done));
            (n.wish, n.hold) = (Some(wish(600)), Some(by_ann(None)));
            let (after, _) = walk(&of, &date, 12);
            assert_eq!(after.nodes["n"].wish.is_none(), is_fulfilled, "done at {done}");
        }
    }
}

/// What falls short is made anew once, whatever else was tried with the same inputs; what was given up needs newer figures.
#[test]
fn what_falls_short_is_made_anew_once() {
    let of = graph(vec![task("t", vec![]), task("u", vec![hard("t")])]);
    let tried = Spent { attempts: 3, ..Spent::default() };
    let want = |state: State, counted: i64, spent: Spent| {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.evidence) = (state, seen(counted, 9, &[]));
        t.spent = [(no_inputs(), tried), (Readiness::default().all_inputs(), spent)].into();
        walk(&of, &date, 30).1.verdicts["t"].want
    };
    let done = State::Succeeded { at: at(600) };
    let given_up = State::Exhausted { at: at(600) };
    let short = Some(Cause::CoverageShort);
    assert_eq!(want(done.clone(), 10, tried), short);
    assert_eq!(want(done, 10, Spent { repairs: 1, ..tried }), None);
    assert_eq!([9, 10, 11].map(|counted| want(given_up.clone(), counted, tried)), [None, None, short]);
    // With inputs of which nothing was tried yet it is asked again, though it was given up with others.
    let mut date = games();
    let t = facts(&mut date, "t");
    t.state = given_up;
    t.spent = [(Version::of("others"), tried)].into();
    assert_eq!(walk(&of, &date, 30).1.verdicts["t"].want, Some(Cause::InputsNewer));
    facts(&mut date, "t").spent.insert(no_inputs(), tried);
    assert_eq!(walk(&of, &date, 30).1.verdicts["t"].want, None);
}

fn of_its_inputs() -> Graph {
    let mut of = graph(vec![source("s"), task("t", vec![hard("s")])]);
    let words = vec!["bad input".to_owned()];
    of.failures = vec![FailureClass { name: "bad".into(), words, ends: Ends::WithNewInputs }];
    of
}

/// A task whose failure was its inputs' has had all its tries with those, and is asked again for others.
#[test]
fn who_fails_of_its_inputs_has_had_all_its_tries_with_those() {
    let others = Version::of("others");
    // When the input came, when it failed, whether that was our run, and how often it was tried with these inputs and those of
    // the last request.
    for (come, failed, charged, text, now_spent, then_spent, want) in [
        (10, 20, false, "bad input", Some(3), None, Some(Cause::Failed)),
        (20, 20, false, "bad input", Some(3), None, Some(Cause::Failed)),
        (21, 20, false, "bad input", None, None, Some(Cause::InputsNewer)),
        (10, 20, true, "bad input", None, Some(3), Some(Cause::InputsNewer)),
        (21, 20, true, "bad input", None, Some(3), Some(Cause::InputsNewer)),
        (10, 20, true, "no room", None, None, Some(Cause::Failed)),
        (10, 20, false, "no room", Some(1), None, Some(Cause::Failed)),
    ] {
        let of = of_its_inputs();
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(come);
        let t = facts(&mut date, "t");
        t.state = State::Failed { at: at(failed * 60) };
        t.failure = Some(Failure { text: text.into(), charged, ..failure(failed, FailureKind::Reported) });
        t.last = Some(LastDispatch { fingerprint: others, ..last(0, Cause::DependenciesMet) });
        t.hold = Some(by_ann(None));
        let (after, plan) = walk(&of, &date, 60);
        let t = &after.nodes["t"];
        let spent = |of: &Version| t.spent.get(of).map(|spent| spent.attempts);
        let current = plan.verdicts["t"].readiness.fingerprint();
        assert_eq!((spent(&current), spent(&others)), (now_spent, then_spent), "{come} {charged} {text}");
        assert_eq!(plan.verdicts["t"].want, want, "{come} {charged} {text}");
    }
}

/// What was tried is kept for so many sets of inputs, and a failure with another is not paid for.
#[test]
fn a_failure_with_one_set_of_inputs_too_many_is_paid_by_nobody() {
    for text in ["no room", "bad input"] {
        let of = of_its_inputs();
        let mut date = games();
        facts(&mut date, "s").evidence = claimed(10);
        let t = facts(&mut date, "t");
        t.state = State::Failed { at: at(1_200) };
        t.failure = Some(Failure { text: text.into(), charged: false, ..failure(20, FailureKind::Reported) });
        t.hold = Some(by_ann(None));
        let current = walk(&of, &date, 60).1.verdicts["t"].readiness.fingerprint();
        for (others, is_known, is_paid) in [(63, false, true), (64, false, false), (63, true, true), (64, true, true)] {
            let t = facts(&mut date, "t");
            t.spent = (0..others).map(|nth: u32| (Version::of(nth), Spent::default())).collect();
            if is_known {
                t.spent.insert(current, Spent::default());
            }
            let (after, _) = walk(&of, &date, 60);
            let paid = after.nodes["t"].spent.get(&current).is_some_and(|spent| spent.attempts > 0);
            assert_eq!(paid, is_paid, "{text} {others} {is_known}");
        }
    }
}

/// Two runs for the sake of what is short are as far apart as two for newer inputs; the first waits for nobody.
#[test]
fn runs_for_what_is_short_are_kept_apart() {
    let t = Node { kind: Kind::Task(Task { rebuild_every: minutes(30), ..costs() }), ..task("t", vec![]) };
    let of = graph(vec![t, task("u", vec![hard("t")])]);
    for (cause, minute, waits) in
        [(Cause::CoverageShort, 39, true), (Cause::CoverageShort, 40, false), (Cause::DependenciesMet, 39, false)]
    {
        let mut date = games();
        let t = facts(&mut date, "t");
        (t.state, t.evidence) = (State::Succeeded { at: at(600) }, seen(20, 9, &[]));
        t.last = Some(last(10, cause));
        let (_, plan) = walk(&of, &date, minute);
        assert_eq!(plan.verdicts["t"].want, Some(Cause::CoverageShort));
        let until = at(40 * 60);
        assert_eq!(plan.verdicts["t"].blockers, if waits { vec![Blocker::Debounce { until }] } else { vec![] });
    }
}
