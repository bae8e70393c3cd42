//! What one event does to what is known: what it changes, what comes too late to, and what is no news.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tipoff::domain::coverage::PerMille;
use tipoff::domain::event::{
    CheckAnswer, Checked, Command, Completed, Delivery, EdgeRule, Event, Foretold, Game, GameStatus, Heartbeat, Note,
    Observed, Outcome, Pulse, Request, RunWord, Scheduled, Served, Upstream, UpstreamSettled, Withheld,
};
use tipoff::domain::evidence::{Evidence, Extant, Extent, Version};
use tipoff::domain::graph::{Check, Graph, Node, Unanswered};
use tipoff::domain::id::Attempt;
use tipoff::domain::partition::{
    ENDED_RUNS_MAX, End, LIVE_RUNS_MAX, NOTES_MAX, Node as Facts, OVERRIDES_MAX, Partition, REQUESTS_MAX,
    REVISIONS_MAX, Recorded, Run, Starter, State, Way,
};
use tipoff::domain::record::record;
use tipoff::domain::time::SKEW_MAX;

use crate::graphs::{at, empty, graph, hard, source, task};

fn small() -> Graph {
    let check = Check {
        id: "enough".into(),
        warn_below: PerMille::FULL,
        block_below: PerMille::NONE,
        unanswered: Unanswered::Block,
    };
    let mut checked = task("t", vec![hard("s")]);
    checked.expects.checks = vec![check];
    graph(vec![source("s"), checked])
}

fn run(first: i64) -> Run {
    Run {
        first: at(first),
        last: at(first),
        progress: (0, 0),
        progressed_at: at(first),
        ended_unreported: false,
        closing_at: None,
        word: None,
    }
}

fn completed(run: &str, second: i64, outcome: Outcome) -> Event {
    Event::Completed(Completed {
        node: "t".into(),
        run: run.into(),
        outcome,
        records: None,
        published: at(second),
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    })
}

fn beat(run: &str, second: i64, pulse: Pulse) -> Event {
    Event::Heartbeat(Heartbeat { node: "t".into(), run: run.into(), pulse, progress: (0, 0), published: at(second) })
}

fn failed() -> Outcome {
    Outcome::Failed("no".into())
}

fn done() -> Outcome {
    Outcome::Done(Extent::Whole)
}

/// What becomes of `t`, whose facts are as given, by one event.
fn becomes(facts: Facts, event: &Event) -> (Recorded, Facts) {
    let mut partition = empty();
    partition.nodes.insert("t".into(), facts);
    let recorded = record(&small(), &mut partition, event);
    (recorded, partition.node(&"t".into()).clone())
}

fn in_state(state: State, runs: &[(&str, Run)]) -> Facts {
    let runs = runs.iter().map(|(id, run)| ((*id).into(), run.clone())).collect();
    Facts { state, runs, attempt: Attempt { run: 1, attempt: 1 }, ..Facts::default() }
}

fn running(since: i64, starter: Starter) -> State {
    State::Running { since: at(since), inputs_at: at(since), starter }
}

#[test]
fn a_failure_ends_an_attempt_unless_another_run_is_at_work_or_it_is_older() {
    let them = || running(10, Starter::Them);
    let fails =
        |state, runs: &[(&str, Run)], second| becomes(in_state(state, runs), &completed("r", second, failed())).1;
    // Another is at work; this one was, and is the last; it was not, and is older than the attempt, or as old.
    assert_eq!(fails(them(), &[("o", run(10))], 20).state, them());
    assert_eq!(fails(them(), &[("o", run(10)), ("r", run(10))], 20).state, them());
    assert_eq!(fails(them(), &[("r", run(10))], 5).state, State::Failed { at: at(5) });
    assert_eq!(fails(them(), &[], 5).state, them());
    assert_eq!(fails(them(), &[], 10).state, State::Failed { at: at(10) });
    // Whose attempt it was is charged.
    for (state, charged) in [
        (State::Dispatched { at: at(0) }, true),
        (running(0, Starter::Us), true),
        (running(0, Starter::Them), false),
        (State::Waiting, false),
    ] {
        let facts = fails(state, &[], 20);
        assert_eq!((facts.failure.unwrap().charged, facts.state), (charged, State::Failed { at: at(20) }));
    }
    // A success stays; a run after it that fails is counted.
    for (second, attempt) in [(5, 1), (10, 1), (20, 2)] {
        let facts = fails(State::Succeeded { at: at(10) }, &[], second);
        assert_eq!((facts.state, facts.attempt.run), (State::Succeeded { at: at(10) }, attempt));
    }
    // Of failures the newest is known.
    for (second, held) in [(5, 10), (10, 10), (15, 15)] {
        let facts = fails(State::Failed { at: at(10) }, &[], second);
        assert_eq!((facts.state, facts.failure.is_some()), (State::Failed { at: at(held) }, second >= 10));
    }
}

#[test]
fn the_words_of_a_failure_may_come_after_it() {
    let (_, facts) = becomes(in_state(State::Dispatched { at: at(0) }, &[]), &beat("r", 10, Pulse::Failed));
    let text = |facts: &Facts| facts.failure.as_ref().unwrap().text.to_string();
    let wordless = text(&facts);
    let (recorded, facts) = becomes(facts, &completed("r", 11, failed()));
    assert_eq!((recorded, text(&facts)), (Recorded::Applied, "no".to_owned()));
    let (recorded, facts) = becomes(facts, &completed("r", 12, Outcome::Failed("other".into())));
    assert_eq!((recorded, text(&facts)), (Recorded::Duplicate, "no".to_owned()));
    assert_ne!(wordless, "no");
}

#[test]
fn a_success_is_that_of_the_attempt_it_answers() {
    let succeeds = |runs: &[(&str, Run)], second| {
        becomes(in_state(running(10, Starter::Them), runs), &completed("r", second, done())).1
    };
    assert_eq!(succeeds(&[], 10).state, State::Succeeded { at: at(10) });
    assert_eq!(succeeds(&[], 9).state, running(10, Starter::Them), "it is older");
    assert_eq!(succeeds(&[("r", run(10))], 9).state, State::Succeeded { at: at(9) }, "it was the last at work");
    // It answers for those that went without a word, and not for those that beat, or came after it.
    let gone = |first| Run { ended_unreported: true, ..run(first) };
    let left = |runs: &[(&str, Run)]| succeeds(runs, 20).runs.into_keys().map(|id| id.to_string()).collect::<Vec<_>>();
    assert_eq!(left(&[("gone", gone(20)), ("later", gone(21)), ("beats", run(5))]), ["beats", "later"]);
}

/// On a date without games, that there is nothing ends what was asked for, as a success would.
#[test]
fn nothing_to_do_ends_the_attempt_it_answers() {
    let far = SKEW_MAX.as_secs();
    let answers = |state: State, runs: &[(&str, Run)], second| {
        let mut partition = empty();
        record(&small(), &mut partition, &Event::Scheduled(Scheduled { games: BTreeMap::new(), at: at(-far) }));
        partition.nodes.insert("t".into(), in_state(state, runs));
        let recorded = record(&small(), &mut partition, &completed("r", second, Outcome::NoData));
        let is_skipped = matches!(partition.node(&"t".into()).state, State::Skipped { .. });
        assert_eq!(is_skipped, recorded == Recorded::Applied);
        is_skipped
    };
    let them = || running(10, Starter::Them);
    assert!(answers(State::Waiting, &[], 0));
    assert!(answers(State::Dispatched { at: at(far) }, &[], 0));
    assert!(!answers(State::Dispatched { at: at(far + 1) }, &[], 0), "it was asked for later");
    assert!(answers(them(), &[], 10) && answers(them(), &[], 20));
    assert!(!answers(them(), &[], 9) && answers(them(), &[("r", run(10))], 9));
    assert!(!answers(them(), &[("o", run(10))], 20), "another is at work");
    assert!(!answers(them(), &[("o", run(10)), ("r", run(10))], 20), "another is at work");
}

#[test]
fn a_sign_of_life_begins_what_it_is_of() {
    let attempt = |run, attempt| Attempt { run, attempt };
    // The next try of what failed, or a new run.
    let failure = becomes(in_state(State::Waiting, &[]), &completed("x", 0, failed())).1.failure;
    for (held, failure, expected) in [
        (attempt(1, 2), failure.clone(), attempt(1, 3)),
        (attempt(0, 0), failure, attempt(1, 1)),
        (attempt(1, 2), None, attempt(2, 1)),
    ] {
        let facts = Facts { attempt: held, failure, ..in_state(State::Failed { at: at(0) }, &[]) };
        assert_eq!(becomes(facts, &beat("r", 10, Pulse::Running)).1.attempt, expected);
    }
    // An attempt of ours began when it was first heard, and not before it was asked for.
    let ours = || State::Running { since: at(30), inputs_at: at(20), starter: Starter::Us };
    let since = |second| match becomes(in_state(ours(), &[]), &beat("r", second, Pulse::Running)).1.state {
        State::Running { since, .. } => since,
        other => panic!("{other:?}"),
    };
    assert_eq!([19, 20, 25, 40].map(since), [30, 20, 25, 30].map(at));
    // A goodbye after the result says nothing; one before it is of a run that may have done its work.
    let (_, known) = becomes(Facts::default(), &completed("r", 10, done()));
    for (second, is_run) in [(9, false), (10, false), (11, true)] {
        let (recorded, facts) = becomes(known.clone(), &beat("x", second, Pulse::Ended));
        assert_eq!((facts.runs.contains_key("x"), recorded == Recorded::Applied), (is_run, is_run), "{second}");
    }
    let (_, facts) = becomes(known, &beat("x", 10, Pulse::Running));
    assert!(facts.runs.contains_key("x"), "it goes on");
    // So many are known, the latest.
    let mut facts = Facts::default();
    for nth in 0..=LIVE_RUNS_MAX {
        assert_eq!(facts.runs.len(), nth);
        facts = becomes(facts, &beat(&format!("r{nth}"), i64::try_from(nth).unwrap(), Pulse::Running)).1;
    }
    assert!(facts.runs.len() == LIVE_RUNS_MAX && !facts.runs.contains_key("r0"));
}

fn asked(partition: &mut Partition, second: i64, command: Command) -> Recorded {
    let id = format!("{second} {command:?}").as_str().into();
    let request = Request { id, actor: "ann".into(), reason: "law".into(), at: at(second), command };
    record(&small(), partition, &Event::Requested(request))
}

#[test]
fn what_was_asked_for_earlier_does_not_undo_what_was_asked_for_later() {
    let edge = |input: &str, rule| Command::Edge { node: "t".into(), input: input.into(), rule, until: None };
    let mut partition = empty();
    // An input may stop a node or be done without; a check can only be done without.
    for (command, recorded) in [
        (edge("s", Some(EdgeRule::Hold)), Recorded::Applied),
        (edge("s", Some(EdgeRule::Force)), Recorded::Applied),
        (edge("enough", Some(EdgeRule::Force)), Recorded::Applied),
        (edge("enough", None), Recorded::Applied),
        (edge("enough", Some(EdgeRule::Hold)), Recorded::Rejected),
        (edge("other", Some(EdgeRule::Force)), Recorded::Rejected),
        (Command::Retry { node: "t".into() }, Recorded::Applied),
        (Command::Retry { node: "s".into() }, Recorded::Rejected),
        (Command::Backfill { node: "s".into(), plan: "p".into() }, Recorded::Rejected),
        (Command::Skip { node: "nobody".into() }, Recorded::Rejected),
    ] {
        assert_eq!(asked(&mut partition, 10, command.clone()), recorded, "{command:?}");
    }
    assert_eq!(asked(&mut partition, 9, edge("s", None)), Recorded::Superseded);
    assert_eq!(asked(&mut partition, 11, edge("s", None)), Recorded::Applied);
    // A hold that is as late as the resume stands.
    let hold = || Command::Hold { node: None, until: None };
    assert_eq!(asked(&mut partition, 10, Command::Resume { node: None }), Recorded::Superseded, "nothing is held");
    assert_eq!(asked(&mut partition, 9, hold()), Recorded::Superseded);
    assert_eq!(asked(&mut partition, 10, hold()), Recorded::Applied);
    // A plan takes back its own wish only.
    let mut partition = empty();
    let withdraw = |plan: &str| Command::Withdraw { node: "t".into(), plan: plan.into() };
    assert_eq!(asked(&mut partition, 1, Command::Backfill { node: "t".into(), plan: "p".into() }), Recorded::Applied);
    assert_eq!(asked(&mut partition, 2, withdraw("q")), Recorded::Superseded);
    assert!(partition.node(&"t".into()).wish.is_some());
    assert_eq!(asked(&mut partition, 3, withdraw("p")), Recorded::Applied);
    assert!(partition.node(&"t".into()).wish.is_none());
}

#[test]
fn the_last_word_on_a_run_or_a_game_counts() {
    let mut watched = task("t", vec![hard("s")]);
    watched.liveness.stall = Some(tipoff::domain::graph::Stall {
        close_after: SignedDuration::from_mins(10),
        over_after: SignedDuration::from_mins(20),
    });
    let nodes: Vec<Node> = vec![source("s"), watched];
    let graph = graph(nodes);
    let mut partition = empty();
    partition.nodes.insert("t".into(), in_state(running(0, Starter::Them), &[("r", run(0))]));
    let mut say = |second: i64, word: RunWord| {
        let command = Command::Execution { node: "t".into(), run: "r".into(), word };
        let id = format!("{second} {word:?}").as_str().into();
        let request = Request { id, actor: "ann".into(), reason: "law".into(), at: at(second), command };
        let recorded = record(&graph, &mut partition, &Event::Requested(request));
        (recorded, partition.node(&"t".into()).runs["r"].progressed_at)
    };
    assert_eq!(say(10, RunWord::GiveUp), (Recorded::Applied, at(0)));
    assert_eq!(say(9, RunWord::Continue), (Recorded::Superseded, at(0)));
    assert_eq!(say(10, RunWord::Continue), (Recorded::Applied, at(10)));
    assert_eq!(say(11, RunWord::Finalize), (Recorded::Applied, at(10)));
    // What is said of a game adds up until its end.
    let mut partition = empty();
    let word = |game: &str, status, tip: Option<i64>, until| Command::Override {
        game: game.into(),
        status,
        tip: tip.map(at),
        until: at(until),
    };
    let off = Some(GameStatus::Postponed);
    assert_eq!(asked(&mut partition, 10, word("g", off, None, 20)), Recorded::Applied);
    assert_eq!(asked(&mut partition, 9, word("g", None, Some(1), 20)), Recorded::Superseded);
    assert_eq!(asked(&mut partition, 10, word("g", None, Some(500), 20)), Recorded::Applied);
    let known = |partition: &Partition| {
        let known = &partition.overrides["g"];
        (known.status, known.tip)
    };
    assert_eq!(known(&partition), (off, Some(at(500))));
    assert_eq!(asked(&mut partition, 19, word("g", off, None, 30)), Recorded::Applied);
    assert_eq!(known(&partition), (off, Some(at(500))));
    assert_eq!(asked(&mut partition, 30, word("g", None, Some(600), 40)), Recorded::Applied);
    assert_eq!(known(&partition), (None, Some(at(600))), "the word before ended in that instant");
    for nth in 1..OVERRIDES_MAX {
        assert_eq!(asked(&mut partition, 50, word(&format!("g{nth}"), off, None, 60)), Recorded::Applied);
    }
    assert_eq!(asked(&mut partition, 51, word("more", off, None, 60)), Recorded::Superseded, "there is no room");
    assert_eq!(asked(&mut partition, 51, word("g", off, None, 60)), Recorded::Applied);
}

#[test]
fn the_newest_schedule_counts_and_an_empty_one_takes_nothing_away() {
    let graph = small();
    let games = |names: &[&str]| {
        let game = Game { tip: Some(at(7_200)), status: GameStatus::Scheduled, id: None };
        names.iter().map(|name| ((*name).into(), game.clone())).collect::<BTreeMap<_, _>>()
    };
    let tell = |partition: &mut Partition, names: &[&str], second| {
        record(&graph, partition, &Event::Scheduled(Scheduled { games: games(names), at: at(second) }))
    };
    let mut partition = empty();
    assert_eq!(tell(&mut partition, &["a"], 10), Recorded::Applied);
    assert_eq!(tell(&mut partition, &["b"], 10), Recorded::Superseded);
    assert_eq!(tell(&mut partition, &["b"], 5), Recorded::Superseded);
    assert_eq!(tell(&mut partition, &["a"], 20), Recorded::Duplicate);
    assert_eq!(tell(&mut partition, &["b"], 30), Recorded::Applied);
    assert_eq!(tell(&mut partition, &[], 40), Recorded::Applied);
    let emptied = |partition: &Partition| partition.schedule.as_ref().unwrap().emptied_at;
    assert_eq!((partition.games().len(), emptied(&partition)), (1, Some(at(40))));
    assert_eq!(tell(&mut partition, &["b"], 50), Recorded::Applied, "it is listed again");
    assert_eq!(emptied(&partition), None);
    // Read in the other order it comes to the same.
    let mut other = empty();
    assert_eq!(tell(&mut other, &[], 40), Recorded::Applied);
    assert_eq!(tell(&mut other, &[], 30), Recorded::Superseded);
    assert_eq!(tell(&mut other, &["b"], 40), Recorded::Applied);
    assert_eq!((other.games().len(), emptied(&other)), (1, Some(at(40))));
    // What was skipped for want of games waits again once there are some; what an operator skipped does not.
    let mut skipped = empty();
    tell(&mut skipped, &[], 1);
    record(&graph, &mut skipped, &completed("r", 2, Outcome::NoData));
    asked(&mut skipped, 3, Command::Skip { node: "s".into() });
    tell(&mut skipped, &[], 4);
    assert!(["s", "t"].iter().all(|id| matches!(skipped.node(&(*id).into()).state, State::Skipped { .. })));
    tell(&mut skipped, &["a"], 5);
    assert_eq!(skipped.node(&"t".into()).state, State::Waiting);
    assert!(matches!(skipped.node(&"s".into()).state, State::Skipped { .. }));
    // Once more skipped, though there were games before: they change nothing.
    asked(&mut skipped, 6, Command::Skip { node: "t".into() });
    tell(&mut skipped, &["a", "b"], 7);
    assert!(matches!(skipped.node(&"t".into()).state, State::Skipped { .. }));
}

#[test]
fn of_what_is_told_by_others_the_newest_counts() {
    let (graph, mut partition) = (small(), empty());
    let date = partition.key.date;
    let settled = |told: i64, days: i32, extant| {
        let date = date.saturating_add(jiff::Span::new().days(days));
        let upstream = Upstream {
            date,
            extant,
            version: Version::of(()),
            told_at: at(told),
            since: at(0),
            renewing: false,
            waived: false,
            empty_days: 0,
        };
        Event::UpstreamSettled(UpstreamSettled { date, node: "s".into(), upstream })
    };
    let mut hear = |event: Event| record(&graph, &mut partition, &event);
    assert_eq!(hear(settled(10, -1, Extant::Claimed)), Recorded::Applied);
    assert_eq!(hear(settled(10, -1, Extant::Claimed)), Recorded::Duplicate);
    assert_eq!(hear(settled(9, -1, Extant::Unknown)), Recorded::Superseded);
    assert_eq!(hear(settled(20, -2, Extant::Unknown)), Recorded::Superseded, "of an earlier date");
    assert_eq!(hear(settled(10, -1, Extant::Unknown)), Recorded::Applied);
    assert_eq!(hear(settled(11, -1, Extant::Unknown)), Recorded::Applied);
    // That the warehouse cannot tell is news; that it keeps nothing of the kind is none.
    let look = |second, not_kept| {
        Event::Observed(Observed {
            node: "s".into(),
            coverage: None,
            units: BTreeMap::new(),
            not_kept,
            actor: None,
            at: at(second),
        })
    };
    assert_eq!(hear(look(1, true)), Recorded::Duplicate);
    assert_eq!(hear(look(2, false)), Recorded::Applied);
    assert_eq!(hear(look(3, false)), Recorded::Duplicate);
    // Revisions: so many, the latest, in whatever order they are heard of.
    let served = |node: &str, nth: usize, second| {
        Event::Served(Served { node: node.into(), revision: format!("r{nth}").as_str().into(), at: at(second) })
    };
    assert_eq!(hear(served("nobody", 0, 0)), Recorded::Rejected);
    for nth in 0..REVISIONS_MAX {
        assert_eq!(hear(served("s", nth, 10 + i64::try_from(nth).unwrap())), Recorded::Applied);
    }
    assert_eq!(hear(served("s", 0, 10)), Recorded::Superseded);
    assert_eq!(hear(served("s", 99, 5)), Recorded::Superseded, "older than all");
    assert_eq!(hear(served("s", 98, 50)), Recorded::Applied);
    assert_eq!(partition.served["s"].len(), REVISIONS_MAX);
    assert!(!partition.served["s"].contains_key("r0"));
}

/// The graph of the laws, in which `t` and `late` are one processor in two passes.
fn two_passes() -> Graph {
    let of = small();
    let late = Node { cycle: "same_day".into(), ..task("late", vec![hard("s")]) };
    let nodes = of.nodes.clone().into_iter().chain([("late".into(), late)]).collect();
    let order = of.order.iter().cloned().chain(["late".into()]).collect();
    let aliases = BTreeMap::from([("producer".to_owned(), vec!["late".into(), "t".into()])]);
    Graph::new(of.pipeline, 1, of.zone, nodes, order, of.cycles, aliases, of.limits)
}

/// What a run says is of the pass that it works for, and of the other once it has ended there.
#[test]
fn a_run_stays_of_the_pass_that_it_works_for() {
    let graph = two_passes();
    // What is known of the run at the other pass, when it is heard of, and whether that is of the other pass.
    let alive = in_state(running(10, Starter::Them), &[("r", run(10))]);
    let ended = becomes(Facts::default(), &completed("r", 20, done())).1;
    for (other, second, is_of_other) in [
        (alive.clone(), 30, true),
        (ended.clone(), 19, true),
        (ended.clone(), 20, true),
        (ended, 21, false),
        (in_state(running(10, Starter::Them), &[("o", run(10))]), 30, false),
    ] {
        for event in [completed("r", second, Outcome::Done(Extent::Unknown)), beat("r", second, Pulse::Running)] {
            let mut partition = empty();
            partition.nodes.insert("late".into(), other.clone());
            record(&graph, &mut partition, &event);
            assert_eq!(partition.nodes.contains_key("t"), !is_of_other, "{second} {event:?}");
        }
    }
    let mut both = empty();
    both.nodes.insert("late".into(), alive.clone());
    both.nodes.insert("t".into(), alive);
    record(&graph, &mut both, &completed("r", 30, done()));
    assert_eq!(["t", "late"].map(|id| both.nodes[id].runs.len()), [0, 1], "it is of the one that is meant");
}

/// An operator has a node run, or has nobody wait for it: then nothing is wished for any more, and it has not failed.
#[test]
fn what_an_operator_says_of_a_node_stands_in_its_facts() {
    let mut partition = empty();
    let t = |partition: &Partition| partition.node(&"t".into()).clone();
    assert_eq!(asked(&mut partition, 10, Command::Retry { node: "t".into() }), Recorded::Applied);
    let wish = t(&partition).wish.unwrap();
    assert_eq!((&*wish.actor, &*wish.reason, wish.at, wish.plan), ("ann", "law", at(10), None));
    record(&small(), &mut partition, &completed("r", 20, failed()));
    assert!(t(&partition).failure.is_some());
    assert_eq!(asked(&mut partition, 30, Command::Skip { node: "t".into() }), Recorded::Applied);
    let t = t(&partition);
    assert_eq!((t.wish, t.failure), (None, None));
    assert_eq!(t.state, State::Skipped { at: at(30), reason: "law, by ann".into() });
}

/// What is said of a node or of a check that there is not is not kept; of answers to a check the newest counts.
#[test]
fn what_is_said_of_nobody_is_not_kept() {
    let (graph, mut partition) = (small(), empty());
    let answer = |node: &str, check: &str, second, answer| {
        Event::Checked(Checked { node: node.into(), check: check.into(), answer, at: at(second) })
    };
    let seen = Observed {
        node: "nobody".into(),
        coverage: None,
        units: BTreeMap::new(),
        not_kept: false,
        actor: None,
        at: at(0),
    };
    let upstream = Upstream {
        date: partition.key.date,
        extant: Extant::Claimed,
        version: Version::of(()),
        told_at: at(0),
        since: at(0),
        renewing: false,
        waived: false,
        empty_days: 0,
    };
    let settled = UpstreamSettled { date: partition.key.date, node: "nobody".into(), upstream };
    let finalize = Command::Execution { node: "t".into(), run: "r".into(), word: RunWord::Finalize };
    for event in [
        Event::Observed(seen),
        Event::UpstreamSettled(settled),
        answer("nobody", "enough", 0, CheckAnswer::Unknown),
        answer("t", "other", 0, CheckAnswer::Unknown),
    ] {
        assert_eq!(record(&graph, &mut partition, &event), Recorded::Rejected, "{event:?}");
        assert_eq!(partition, empty());
    }
    record(&graph, &mut partition, &beat("r", 1, Pulse::Running));
    assert_eq!(asked(&mut partition, 2, finalize), Recorded::Rejected, "nobody watches its progress");
    for (second, said, recorded, held) in [
        (10, CheckAnswer::Unknown, Recorded::Applied, CheckAnswer::Unknown),
        (10, CheckAnswer::NotKept, Recorded::Superseded, CheckAnswer::Unknown),
        (9, CheckAnswer::NotKept, Recorded::Superseded, CheckAnswer::Unknown),
        (11, CheckAnswer::NotKept, Recorded::Applied, CheckAnswer::NotKept),
    ] {
        assert_eq!(record(&graph, &mut partition, &answer("t", "enough", second, said)), recorded, "{second}");
        assert_eq!(partition.nodes["t"].checks["enough"].answer, held, "{second}");
    }
}

/// Whether an attempt has been handed over is kept with it: that it was refused, and that it was taken after all.
#[test]
fn whether_an_attempt_has_been_handed_over_is_kept() {
    let attempt = Attempt { run: 1, attempt: 1 };
    let told = |way: Option<Way>, second, refused: Option<&str>| {
        let facts = Facts { way, ..in_state(State::Dispatched { at: at(0) }, &[]) };
        let refused = refused.map(Into::into);
        let (recorded, facts) =
            becomes(facts, &Event::Delivery(Delivery { node: "t".into(), attempt, at: at(second), refused }));
        (recorded, facts.way)
    };
    let (refused, taken) = (|| Way::Refused { since: at(5), reason: "no".into() }, || Way::Taken { at: at(7) });
    for (way, second, word, recorded, becomes) in [
        (None, 5, Some("no"), Recorded::Applied, Some(refused())),
        (Some(refused()), 6, Some("other"), Recorded::Duplicate, Some(refused())),
        (Some(refused()), 7, None, Recorded::Applied, Some(taken())),
        (Some(taken()), 5, Some("no"), Recorded::Applied, Some(refused())),
        (Some(taken()), 8, None, Recorded::Duplicate, Some(taken())),
        (None, 8, None, Recorded::Duplicate, None),
    ] {
        assert_eq!(told(way.clone(), second, word), (recorded, becomes), "{way:?} {word:?}");
    }
}

/// A run that says goodbye without a word of its output is gone once that is reported under another name, and is remembered as
/// one that did it; a later sign of its life takes the goodbye back.
#[test]
fn a_run_that_said_goodbye_is_gone_with_the_word_of_another() {
    let begun = in_state(running(10, Starter::Us), &[("r", run(10))]);
    let (_, left) = becomes(begun, &beat("r", 20, Pulse::Ended));
    assert!(left.runs["r"].ended_unreported);
    let (_, back) = becomes(left.clone(), &beat("r", 21, Pulse::Running));
    assert!(!back.runs["r"].ended_unreported);
    assert_eq!(back.heard_at, Some(at(21)));
    let (_, done) = becomes(left, &completed("other", 30, done()));
    assert!(done.runs.is_empty());
    let ended: Vec<(&str, End)> = done.ended.iter().map(|(id, ended)| (id.as_str(), ended.how)).collect();
    assert_eq!(ended, [("other", End::Done), ("r", End::Done)]);
}

/// A run that had nothing to do has ended, and with it what had failed before.
#[test]
fn a_run_that_had_nothing_to_do_has_ended() {
    let mut partition = empty();
    record(&small(), &mut partition, &Event::Scheduled(Scheduled { games: BTreeMap::new(), at: at(0) }));
    record(&small(), &mut partition, &completed("x", 10, failed()));
    assert!(partition.nodes["t"].failure.is_some());
    record(&small(), &mut partition, &completed("r", 20, Outcome::NoData));
    let t = &partition.nodes["t"];
    assert_eq!((t.failure.is_none(), t.ended["r"].how), (true, End::Done));
    assert!(matches!(t.state, State::Skipped { .. }), "{:?}", t.state);
}

/// When a revision was last at work, and since when a schedule is empty, is told by the latest word.
#[test]
fn when_something_last_was_is_told_by_the_latest_word() {
    let (graph, mut partition) = (small(), empty());
    for (second, held) in [(10, 10), (30, 30), (20, 30)] {
        let served = Served { node: "s".into(), revision: "a".into(), at: at(second) };
        record(&graph, &mut partition, &Event::Served(served));
        assert_eq!(partition.served["s"]["a"], at(held), "{second}");
    }
    let game = Game { tip: Some(at(7_200)), status: GameStatus::Scheduled, id: None };
    let some = BTreeMap::from([("a".into(), game)]);
    for (games, second, emptied) in
        [(some.clone(), 10, None), (BTreeMap::new(), 20, Some(20)), (some.clone(), 15, Some(20)), (some, 21, None)]
    {
        record(&graph, &mut partition, &Event::Scheduled(Scheduled { games, at: at(second) }));
        assert_eq!(partition.schedule.as_ref().unwrap().emptied_at, emptied.map(at), "{second}");
    }
}

/// So many oddities are kept of a date, each once.
#[test]
fn so_many_notes_are_kept() {
    let mut partition = empty();
    let mut note = |nth: usize| {
        let note = Note::UnknownName { name: format!("n{nth}").as_str().into(), node: "s".into() };
        record(&small(), &mut partition, &Event::Noted(note))
    };
    for nth in 0..NOTES_MAX {
        assert_eq!([note(nth), note(nth)], [Recorded::Applied, Recorded::Duplicate], "{nth}");
    }
    assert_eq!([note(NOTES_MAX), note(0)], [Recorded::Duplicate; 2]);
    assert_eq!(partition.notes.len(), NOTES_MAX);
}

/// Of what is foretold the latest counts.
#[test]
fn what_was_foretold_last_counts() {
    let mut partition = empty();
    let mut told = |second| {
        let told = Foretold { node: "t".into(), shortfall: None, at: at(second) };
        let recorded = record(&small(), &mut partition, &Event::Foretold(told));
        (recorded, partition.forecast["t"].at)
    };
    assert_eq!(told(10), (Recorded::Applied, at(10)));
    assert_eq!(told(9), (Recorded::Superseded, at(10)));
    assert_eq!(told(10), (Recorded::Superseded, at(10)));
    assert_eq!(told(11), (Recorded::Applied, at(11)));
}

/// Where nobody is asked, what was there stands, made of what was known when it would have been asked for.
#[test]
fn what_nobody_is_asked_for_stands_as_it_was() {
    let withheld = |evidence: Evidence| {
        let facts = Facts { evidence, built_from: Some(at(3)), ..in_state(State::Dispatched { at: at(30) }, &[]) };
        let told = Withheld { node: "t".into(), attempt: facts.attempt, at: at(31) };
        let (recorded, facts) = becomes(facts, &Event::Withheld(told));
        (recorded, facts.state, facts.built_from, facts.way.is_some())
    };
    let mut counted = Evidence::default();
    counted.observe(at(20), crate::facts::of_ten(5), BTreeMap::new());
    let mut claimed = Evidence::default();
    claimed.claim(crate::facts::claim(10));
    let stands = |second| (Recorded::Applied, State::Succeeded { at: at(second) }, Some(at(30)), false);
    assert_eq!(withheld(counted), stands(20));
    assert_eq!(withheld(claimed), stands(10));
    let nothing = (Recorded::Applied, State::Dispatched { at: at(30) }, Some(at(3)), true);
    assert_eq!(withheld(Evidence::default()), nothing);
}

/// A run may tell of one part after the other; each is news once.
#[test]
fn a_run_may_tell_of_part_after_part() {
    let part = |second, unit: &str| match completed("r", second, done()) {
        Event::Completed(all) => Event::Completed(Completed { unit: Some(unit.into()), ..all }),
        other => other,
    };
    let (_, facts) = becomes(Facts::default(), &part(10, "a"));
    let (recorded, facts) = becomes(facts, &part(11, "b"));
    assert_eq!((recorded, facts.evidence.parts.len()), (Recorded::Applied, 2));
    assert_eq!(becomes(facts, &part(12, "b")).0, Recorded::Duplicate);
}

/// What ends without anybody having begun it is a first run.
#[test]
fn what_ends_unbegun_is_a_first_run() {
    for outcome in [done(), failed()] {
        let attempt = |held| {
            let facts = Facts { attempt: held, ..Facts::default() };
            becomes(facts, &completed("r", 10, outcome.clone())).1.attempt
        };
        assert_eq!(attempt(Attempt::default()), Attempt { run: 1, attempt: 1 });
        assert_eq!(attempt(Attempt { run: 2, attempt: 3 }), Attempt { run: 2, attempt: 3 });
    }
}

/// A run of others that fails takes away no output that was there before.
#[test]
fn a_run_of_others_that_fails_takes_no_output_away() {
    let mut facts = in_state(running(20, Starter::Them), &[("r", run(20))]);
    facts.evidence.claim(crate::facts::claim(10));
    let (_, facts) = becomes(facts, &completed("r", 30, failed()));
    assert_eq!((facts.state, facts.failure), (State::Succeeded { at: at(10) }, None));
}

/// A sign of life is news where it is later than the last or earlier than the first, and progress counts from when it changed.
#[test]
fn a_sign_of_life_is_news_where_it_is_later_or_earlier() {
    let told = |second, progress| {
        let beat =
            Heartbeat { node: "t".into(), run: "r".into(), pulse: Pulse::Running, progress, published: at(second) };
        let held = Run { last: at(20), progress: (1, 9), ..run(10) };
        let (recorded, facts) = becomes(in_state(running(10, Starter::Them), &[("r", held)]), &Event::Heartbeat(beat));
        let run = &facts.runs["r"];
        (recorded == Recorded::Applied, run.first, run.last, run.progress.0, run.progressed_at)
    };
    for (second, done, expected) in [
        (9, 0, (true, 9, 20, 1, 10)),
        (10, 2, (false, 10, 20, 1, 10)),
        (15, 2, (false, 10, 20, 1, 10)),
        (20, 2, (false, 10, 20, 1, 10)),
        (21, 2, (true, 10, 21, 2, 21)),
        (21, 1, (true, 10, 21, 1, 10)),
    ] {
        let (news, first, last, progress, progressed_at) = expected;
        assert_eq!(
            told(second, (done, 9)),
            (news, at(first), at(last), progress, at(progressed_at)),
            "{second} {done}"
        );
    }
}

/// Two runs of a task that beat at once are more than one; of a source they are none of our concern.
#[test]
fn two_runs_of_a_task_at_once_are_noticed() {
    let gone = Run { ended_unreported: true, ..run(10) };
    for (node, other, is_double) in
        [("t", Some(run(10)), true), ("t", Some(gone), false), ("t", None, false), ("s", Some(run(10)), false)]
    {
        let mut partition = empty();
        let runs: Vec<(&str, Run)> = other.clone().map(|run| ("o", run)).into_iter().collect();
        partition.nodes.insert(node.into(), in_state(running(10, Starter::Them), &runs));
        let Event::Heartbeat(beat) = beat("r", 20, Pulse::Running) else { panic!() };
        record(&small(), &mut partition, &Event::Heartbeat(Heartbeat { node: node.into(), ..beat }));
        assert_eq!(partition.node(&node.into()).double_run, is_double, "{node} {other:?}");
    }
}

/// So many requests are remembered, and the earliest is forgotten for another.
#[test]
fn so_many_requests_are_remembered() {
    let mut partition = empty();
    let ask = |partition: &mut Partition, nth: usize| {
        let command = Command::Retry { node: "t".into() };
        let second = i64::try_from(nth).unwrap();
        let request = Request {
            id: format!("q{nth}").as_str().into(),
            actor: "ann".into(),
            reason: "law".into(),
            at: at(second),
            command,
        };
        record(&small(), partition, &Event::Requested(request))
    };
    for nth in 0..REQUESTS_MAX {
        ask(&mut partition, nth);
        assert_eq!(partition.requests.len(), nth + 1);
    }
    assert_eq!(ask(&mut partition, 0), Recorded::Duplicate);
    ask(&mut partition, REQUESTS_MAX);
    assert_eq!(partition.requests.len(), REQUESTS_MAX);
    assert!(!partition.requests.contains_key("q0") && ask(&mut partition, 1) == Recorded::Duplicate);
}

/// Of two stops the one that was asked for last counts.
#[test]
fn the_stop_that_was_asked_for_last_counts() {
    for (second, recorded, until) in
        [(9, Recorded::Superseded, 100), (10, Recorded::Applied, 200), (11, Recorded::Applied, 200)]
    {
        let mut partition = empty();
        let hold = |until| Command::Hold { node: None, until: Some(at(until)) };
        assert_eq!(asked(&mut partition, 10, hold(100)), Recorded::Applied);
        assert_eq!(asked(&mut partition, second, hold(200)), recorded, "{second}");
        assert_eq!(partition.hold.unwrap().until, Some(at(until)));
    }
}

/// A run is counted as begun once, however often it is heard of and also when it has ended.
#[test]
fn a_run_is_counted_as_begun_once() {
    let mut facts = Facts::default();
    for (event, begun) in [
        (beat("r", 10, Pulse::Running), 1),
        (beat("r", 20, Pulse::Running), 1),
        (completed("r", 30, done()), 1),
        (completed("r", 40, done()), 1),
        (beat("r", 50, Pulse::Running), 1),
        (completed("o", 60, failed()), 2),
    ] {
        facts = becomes(facts, &event).1;
        assert_eq!(facts.begun.in_the_hour_before(at(60)), begun, "{event:?}");
    }
}

/// So many ended runs are remembered, and the one that ended first is forgotten for another.
#[test]
fn so_many_ended_runs_are_remembered() {
    let mut facts = Facts::default();
    for nth in 0..=ENDED_RUNS_MAX {
        assert_eq!(facts.ended.len(), nth);
        let run = format!("r{nth:03}");
        facts = becomes(facts, &completed(&run, i64::try_from(nth).unwrap(), failed())).1;
    }
    assert_eq!(facts.ended.len(), ENDED_RUNS_MAX);
    assert!(!facts.ended.contains_key("r000") && facts.ended.contains_key("r001"));
}

/// A schedule that lists no game takes away none that is played; of those that are not played there is nothing to keep.
#[test]
fn an_empty_schedule_replaces_one_in_which_nobody_plays() {
    for (status, kept) in [(GameStatus::Scheduled, 1), (GameStatus::Postponed, 0)] {
        let mut partition = empty();
        let games = BTreeMap::from([("20260122_BOS_NYK".into(), Game { tip: None, status, id: None })]);
        record(&small(), &mut partition, &Event::Scheduled(Scheduled { games, at: at(0) }));
        record(&small(), &mut partition, &Event::Scheduled(Scheduled { games: BTreeMap::new(), at: at(10) }));
        let schedule = partition.schedule.unwrap();
        assert_eq!((schedule.games.len(), schedule.emptied_at.is_some()), (kept, kept == 1), "{status:?}");
    }
}
