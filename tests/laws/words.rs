//! What an operator reads: where a node stands, what is in its way, and what to type.

use tipoff::domain::dead_letter;
use tipoff::domain::effect::Cause;
use tipoff::domain::event::{Command, EdgeRule, RunWord};
use tipoff::domain::notify::News;
use tipoff::domain::readiness::Scope;
use tipoff::domain::shadow::NOT_SENT;
use tipoff::domain::time::Now;
use tipoff::domain::view::{Blocker, NodeView, PartitionView, remedies, view, why};

use crate::graphs::{DATE, at, empty, graph, hard, source, task};

/// A source and a task of it, of which nothing is known.
fn shown() -> PartitionView {
    view(&graph(vec![source("s"), task("t", vec![hard("s")])]), &empty(), Now::caught_up(at(0)))
}

/// The same with the node `id` altered.
fn altered(id: &str, alter: impl FnOnce(&mut NodeView)) -> PartitionView {
    let mut view = shown();
    let node = view.nodes.iter_mut().find(|node| node.node.as_str() == id).unwrap();
    node.blockers.clear();
    node.want = None;
    alter(node);
    view
}

/// A blocker that nothing is under.
fn backoff() -> Blocker {
    Blocker::Backoff { until: at(60) }
}

#[test]
fn one_sentence_says_where_a_node_stands() {
    let sentence = |id: &str, alter: &dyn Fn(&mut NodeView)| why(&altered(id, alter), &id.into()).unwrap().verdict;
    let task = |state: &'static str, want: Option<Cause>, is_blocked: bool| {
        sentence("t", &|node| {
            (node.state, node.want) = (state, want);
            node.blockers = is_blocked.then(backoff).into_iter().collect();
        })
    };
    let failed = Some(Cause::Failed);
    let table = [
        (task("open", None, false), "t is open"),
        (task("closed", None, true), "t is closed"),
        (task("dispatched", None, false), "t is dispatched (r0.a0), no sign of life yet"),
        (task("running", None, false), "t is running (r0.a0)"),
        (task("succeeded", None, false), "t succeeded and its inputs are no newer"),
        (task("succeeded", failed, false), "t succeeded, its inputs are newer, and it is about to be dispatched again"),
        (task("succeeded", failed, true), "t succeeded, but its inputs are newer and its rebuild is blocked"),
        (task("expired", failed, true), "t is asked for although its pass over the date is over, and blocked"),
        (task("expired", None, false), "t was not done before its pass over the date ended"),
        (task("exhausted", None, false), "t has spent its budget"),
        (task("exhausted", failed, true), "t has spent its budget, and is blocked besides"),
        (task("failed", failed, false), "t is failed and about to be dispatched (failed)"),
        (task("failed", failed, true), "t is failed and blocked"),
        (task("waiting", failed, true), "t is waiting and blocked"),
        (
            sentence("t", &|node| (node.state, node.made_up_by) = ("expired", Some("u".into()))),
            "t was not done before its pass over the date ended; u made up for it",
        ),
        (
            sentence("t", &|node| (node.state, node.skipped_for) = ("skipped", Some("no need".into()))),
            "t is skipped (no need): what needs it goes on without it",
        ),
        (
            sentence("t", &|node| (node.state, node.refused) = ("dispatched", Some("503".into()))),
            "t is dispatched (r0.a0), and has not been handed over: 503",
        ),
        (
            sentence("s", &|node| node.state = "waiting"),
            "s has not been heard of; tipoff does not run it, its producer does",
        ),
        (sentence("s", &|node| node.state = "running"), "s is running: it is observed, not dispatched by tipoff"),
    ];
    let attempt = shown().nodes[1].attempt.to_string();
    for (said, expected) in table {
        assert_eq!(said, expected.replace("r0.a0", &attempt));
    }
    let shadow = sentence("t", &|node| (node.state, node.refused) = ("dispatched", Some(NOT_SENT.into())));
    assert_eq!(shadow, format!("t would be dispatched ({attempt}): {NOT_SENT}"));
}

/// What lies under a blocker is explained where it is of the same date, and once.
#[test]
fn what_is_under_a_blocker_is_told_once_and_of_its_own_date() {
    let unmet = |date| Blocker::Unmet { node: "s".into(), date, state: "nothing known" };
    let under = |blockers: Vec<Blocker>| {
        let why = why(&altered("t", |node| node.blockers = blockers), &"t".into()).unwrap();
        let told = why.because.iter().map(|reason| reason.under.iter().map(|why| why.verdict.clone()).collect());
        told.collect::<Vec<Vec<String>>>()
    };
    let source = "s has not been heard of; tipoff does not run it, its producer does".to_owned();
    assert_eq!(under(vec![unmet(DATE)]), [[source.clone()]]);
    assert_eq!(under(vec![unmet(DATE.yesterday().unwrap())]), [[] as [String; 0]]);
    assert_eq!(under(vec![unmet(DATE), unmet(DATE)]), [[source], ["s: see above".to_owned()]]);
    assert_eq!(under(vec![backoff()]), [[] as [String; 0]]);
    assert!(why(&shown(), &"nobody".into()).is_none());
}

/// For each thing that may be in the way, what to type.
#[test]
fn every_blocker_that_a_person_can_lift_says_how() {
    let commands = |id: &str, alter: &dyn Fn(&mut NodeView)| {
        let view = altered(id, alter);
        let why = why(&view, &id.into()).unwrap();
        remedies(&view, &why).into_iter().map(|remedy| remedy.command).collect::<Vec<_>>()
    };
    let date = DATE.to_string();
    let before = DATE.yesterday().unwrap();
    let blocked = |blocker: &Blocker| commands("t", &|node| node.blockers = vec![blocker.clone()]);
    let held = |scope| Blocker::Held { scope, actor: "ann".into(), reason: "law".into(), until: None };
    let least = tipoff::domain::coverage::PerMille::FULL;
    let observed = tipoff::domain::coverage::Coverage::new(1, 2).unwrap();
    let short = |date| Blocker::CoverageShort { node: "s".into(), date, observed, required: least };
    let unknown = |date| Blocker::CoverageUnknown { node: "s".into(), date, required: least };
    let unmet = |date| Blocker::Unmet { node: "s".into(), date, state: "nothing known" };
    let retry = format!("tipoff retry {date} t --reason …");
    let skip_source = format!("tipoff skip {date} s --reason …");
    let past = |what: &str| format!("tipoff force {date} t --past {what} --reason …");
    let elsewhere = format!("tipoff why s {before}");
    let table = [
        (held(Scope::Node), vec![format!("tipoff resume {date} t --reason …")]),
        (held(Scope::Input("s".into())), vec![format!("tipoff resume {date} t --input s --reason …")]),
        (held(Scope::Date), vec![format!("tipoff resume {date} --reason …")]),
        (Blocker::UsedUp { what: "quota".into(), until: at(60) }, vec![retry.clone()]),
        (Blocker::Budget { attempts: 3, attempts_max: 3, dispatches: 3, dispatches_max: 24 }, vec![retry.clone()]),
        (Blocker::NoGames, vec![retry.clone()]),
        (Blocker::Over { since: at(0) }, vec![retry.clone()]),
        (Blocker::NotYet { until: at(60) }, vec![retry.clone()]),
        (unmet(before), vec![elsewhere.clone()]),
        (short(before), vec![elsewhere.clone()]),
        (unknown(before), vec![elsewhere.clone()]),
        (Blocker::Stale { node: "s".into(), date: before }, vec![elsewhere]),
        (Blocker::Stale { node: "s".into(), date: DATE }, vec![skip_source.clone()]),
        (unmet(DATE), vec![skip_source.clone(), past("s")]),
        (unknown(DATE), vec![skip_source.clone(), past("s")]),
        (short(DATE), vec![skip_source.clone(), past("s")]),
        (Blocker::PhaseSilent { phase: "law".into(), since: at(0), probe: None, until: None }, vec![retry.clone()]),
        (Blocker::CheckUnanswered { check: "enough".into() }, vec![past("enough")]),
        (Blocker::CheckFailed { check: "enough".into(), observed, required: least }, vec![past("enough")]),
        (backoff(), Vec::new()),
    ];
    for (blocker, expected) in table {
        assert_eq!(blocked(&blocker), expected, "{blocker:?}");
    }
    // What is over is asked for once more, unless another pass has made up for it.
    for state in ["expired", "exhausted"] {
        assert_eq!(commands("t", &|node| node.state = state), [retry.as_str()]);
        let made_up = commands("t", &|node| (node.state, node.made_up_by) = (state, Some("u".into())));
        assert!(made_up.is_empty(), "{made_up:?}");
    }
    let wanted = |node: &mut NodeView| (node.state, node.want) = ("expired", Some(Cause::Requested));
    assert!(commands("t", &wanted).is_empty(), "it has been asked for");
    let over = commands("t", &|node| {
        wanted(node);
        node.blockers = vec![Blocker::Over { since: at(0) }];
    });
    assert!(over.is_empty(), "{over:?}");
    // A source, and a gate, cannot be sent past what it waits for.
    assert_eq!(commands("s", &|_| {}), [skip_source]);
    assert!(commands("s", &|node| (node.state, node.blockers) = ("failed", vec![unmet(DATE)])).is_empty());
    let quorum = Blocker::Quorum {
        gate: "g".into(),
        good: 1,
        total: 2,
        missing: ["s".into()].into(),
        missing_critical: [].into(),
        until: None,
    };
    assert_eq!(blocked(&quorum), [format!("tipoff skip {date} s --reason …"), past("g")]);
}

#[test]
fn what_was_asked_for_is_told_in_its_own_words() {
    let until = at(60);
    let ends = "until 2026-01-22 12:01:00Z".to_owned();
    let edge = |rule, until| Command::Edge { node: "t".into(), input: "s".into(), rule, until };
    let run = |word| Command::Execution { node: "t".into(), run: "r".into(), word };
    let game = "20260122_BOS_NYK";
    let table = [
        (Command::Hold { node: None, until: None }, "hold the whole date".to_owned(), None),
        (Command::Hold { node: Some("t".into()), until: Some(until) }, format!("hold t {ends}"), Some("t")),
        (Command::Resume { node: Some("t".into()) }, "resume t".to_owned(), Some("t")),
        (Command::Resume { node: None }, "resume the whole date".to_owned(), None),
        (Command::Retry { node: "t".into() }, "retry t".to_owned(), Some("t")),
        (Command::Skip { node: "t".into() }, "skip t".to_owned(), Some("t")),
        (Command::Backfill { node: "t".into(), plan: "p1".into() }, "backfill t for p1".to_owned(), Some("t")),
        (Command::Withdraw { node: "t".into(), plan: "p1".into() }, "withdraw t".to_owned(), Some("t")),
        (edge(Some(EdgeRule::Hold), Some(until)), format!("hold t past s {ends}"), Some("t")),
        (edge(Some(EdgeRule::Force), None), "force t past s".to_owned(), Some("t")),
        (edge(None, None), "resume t past s".to_owned(), Some("t")),
        (run(RunWord::GiveUp), "give up t run r".to_owned(), Some("t")),
        (run(RunWord::Finalize), "finalize t run r".to_owned(), Some("t")),
        (run(RunWord::Continue), "continue t run r".to_owned(), Some("t")),
        (
            Command::Override { game: game.into(), status: None, tip: None, until },
            format!("override {game} {ends}"),
            None,
        ),
    ];
    for (command, words, node) in table {
        assert_eq!(command.to_string(), words);
        assert_eq!(command.node().map(|node| node.as_str()), node, "{words}");
    }
    let news = [News::On, News::Worse, News::Still, News::Unmuted, News::Over].map(News::as_str);
    assert_eq!(news, ["on", "worse", "still on", "on, no longer muted", "over"]);
    let standing = dead_letter::Standing::Unclear("why".to_owned());
    assert_eq!((standing.as_str(), standing.why()), ("unclear", "why"));
}
