//! What of a date that is over is missing, and what is still its own affair.

use std::collections::BTreeMap;

use jiff::civil::Time;
use tipoff::domain::backfill::{Found, Road, judge, outputs, wants_answer};
use tipoff::domain::calendar::{Anchor, Schedule};
use tipoff::domain::coverage::PerMille;
use tipoff::domain::event::{CheckAnswer, Game, GameStatus};
use tipoff::domain::evidence::{Evidence, Extant};
use tipoff::domain::graph::{DayTime, Dependency, Gate, Graph, Kind, Node, Offset, Strength, Tier};
use tipoff::domain::id::NodeId;
use tipoff::domain::partition::{Failure, FailureKind, Partition, State, Wish};
use tipoff::domain::time::Now;
use tipoff::domain::timetable::Timetable;

use crate::facts::{claim, facts, of_ten};
use crate::graphs::{at, costs, empty, graph, hard, minutes, source, task};

/// All laws begin at noon, and passes end at ten the next morning.
const OVER: i64 = 22;

fn now(hour: i64) -> Now {
    Now::caught_up(at(hour * 3_600))
}

fn claimed(second: i64) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.claim(claim(second));
    evidence
}

fn seen(second: i64, tenths: u32) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.observe(at(second), of_ten(tenths), BTreeMap::new());
    evidence
}

fn failed() -> Failure {
    Failure { at: at(0), run: None, kind: FailureKind::Reported, text: "no".into(), charged: true, began: None }
}

/// A source that nobody can ask, one that can be asked, a join of the first, and tasks of it, of the join, and of the day
/// before.
fn nodes() -> Vec<Node> {
    let gate = Gate { critical: [].into(), quorum: vec![Tier { count: 1, after: minutes(0) }] };
    let yesterday = Dependency { offset: Offset::PreviousGameDay, ..hard("s") };
    vec![
        source("s"),
        Node { kind: Kind::Source(Some(costs())), ..source("r") },
        Node { kind: Kind::Gate(gate), needs: vec![hard("s")], probed: false, ..source("join") },
        task("t", vec![hard("s")]),
        task("joined", vec![hard("join")]),
        task("later", vec![yesterday]),
    ]
}

/// The graph, with the passes of `t` and `u` being those of one processor.
fn with_passes(nodes: Vec<Node>, shared: &[&str]) -> Graph {
    let of = graph(nodes);
    let aliases = BTreeMap::from([("shared".to_owned(), shared.iter().map(|id| NodeId::from(*id)).collect())]);
    Graph::new(of.pipeline, of.revision, of.zone, of.nodes, of.order, of.cycles, aliases, of.limits)
}

/// What a look finds that the warehouse answers it cannot tell: nothing where the date itself still cares for it.
fn is_cared_for(graph: &Graph, date: &Partition, id: &str, hour: i64) -> bool {
    let node = graph.nodes.get(id).unwrap();
    let found = judge(&Timetable::of(graph, date), date, node, Some(CheckAnswer::Unknown), now(hour));
    assert!(matches!(found, None | Some(Found::Unknown)));
    assert_eq!(
        wants_answer(&Timetable::of(graph, date), date, node, now(hour)),
        node.probed && found.is_some(),
        "{id} at {hour}"
    );
    found.is_none()
}

/// Every output but those of joins, and of a processor with several passes only that of the last.
#[test]
fn what_is_looked_at_is_the_last_pass_over_a_date() {
    let mut nodes = nodes();
    nodes.push(task("u", vec![hard("s")]));
    let graph = with_passes(nodes, &["t", "u"]);
    let ids: Vec<&str> = outputs(&graph).map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["s", "r", "joined", "later", "u"]);
}

/// Whatever is at work or wished for is not missing, and no pass that is over does anything by itself.
#[test]
fn a_date_cares_for_what_is_at_work_and_for_its_passes_until_they_end() {
    let graph = graph(nodes());
    let mut date = empty();
    facts(&mut date, "s").evidence = claimed(0);
    for id in ["s", "r", "t", "joined", "later"] {
        assert!(is_cared_for(&graph, &date, id, OVER - 1), "{id} has its pass");
        assert!(!is_cared_for(&graph, &date, id, OVER), "{id} has had it");
    }
    for (state, is_cared) in [
        (State::Dispatched { at: at(0) }, [true, true]),
        (State::Failed { at: at(0) }, [true, false]),
        (State::Exhausted { at: at(0) }, [false, false]),
        (State::Expired { at: at(0) }, [false, false]),
    ] {
        facts(&mut date, "t").state = state.clone();
        assert_eq!([OVER - 1, OVER].map(|hour| is_cared_for(&graph, &date, "t", hour)), is_cared, "{state:?}");
    }
    facts(&mut date, "t").wish = Some(Wish { actor: "ann".into(), reason: "law".into(), at: at(0), plan: None });
    assert!(is_cared_for(&graph, &date, "t", OVER), "it is wished for");
}

/// In its pass nobody does anything about an output that nobody can ask for, or for which nothing has come: it is missing once
/// it is due, or where nothing is said of that, at noon of the next day.
#[test]
fn what_nothing_is_done_about_is_missing_from_when_it_is_due() {
    let due = |hour| vec![Anchor::Clock(DayTime { days: 0, time: Time::constant(hour, 0, 0, 0) })];
    let mut nodes = nodes();
    for node in &mut nodes {
        node.expects.due = due(18);
    }
    let mut of = graph(nodes);
    let game = Game { tip: None, status: GameStatus::Scheduled, id: None };
    let games = BTreeMap::from([("20260122_BOS_NYK".into(), game)]);
    let mut date = empty();
    date.schedule = Some(Schedule { at: at(0), games, emptied_at: None });
    let cared_for = |graph: &Graph, date: &Partition, hour| -> Vec<&str> {
        let ids = ["s", "r", "t", "joined", "later"];
        ids.into_iter().filter(|id| is_cared_for(graph, date, id, hour)).collect()
    };
    assert_eq!(cared_for(&of, &date, 5), ["s", "r", "t", "joined", "later"]);
    assert_eq!(cared_for(&of, &date, 6), ["r"], "its producer can be asked");
    facts(&mut date, "t").dispatches = 1;
    assert_eq!(cared_for(&of, &date, 6), ["r", "t"], "it was asked for");
    facts(&mut date, "t").dispatches = 0;
    facts(&mut date, "s").evidence = claimed(0);
    assert_eq!(cared_for(&of, &date, 6), ["r", "t", "joined"], "something came of what they are made of");
    of.backfill.roads.insert("r".into(), Road::Apart { only: true });
    assert_eq!(cared_for(&of, &date, 6), ["t", "joined"], "it is asked for past dates alone");
    of.backfill.roads.insert("r".into(), Road::Apart { only: false });
    assert_eq!(cared_for(&of, &date, 6), ["r", "t", "joined"]);
    // Without a declared time.
    of.cycles[1].until.time = Time::constant(20, 0, 0, 0);
    for node in of.nodes.values_mut() {
        node.expects.due = Vec::new();
    }
    assert_eq!(cared_for(&of, &date, 23), ["s", "r", "t", "joined", "later"]);
    assert_eq!(cared_for(&of, &date, 24), ["r", "t", "joined"]);
}

/// The warehouse is not asked again about what it has counted itself, unless a run has said something since.
#[test]
fn the_warehouse_is_asked_about_what_it_has_not_found_whole() {
    let mut graph = graph(nodes());
    let asks = |graph: &Graph, evidence: Evidence| {
        let mut date = empty();
        facts(&mut date, "s").evidence = evidence;
        wants_answer(&Timetable::of(graph, &date), &date, &graph.nodes["s"], now(OVER))
    };
    let mut since = seen(0, 10);
    since.claim(claimed(5).claim.unwrap());
    for (evidence, wanted) in
        [(Evidence::default(), true), (claimed(0), true), (seen(0, 9), true), (seen(0, 10), false), (since, true)]
    {
        assert_eq!(asks(&graph, evidence.clone()), wanted, "{evidence:?}");
    }
    assert!(wants_answer(&Timetable::of(&graph, &empty()), &empty(), &graph.nodes["s"], now(OVER)), "nothing is known");
    graph.nodes.get_mut("s").unwrap().probed = false;
    assert!(!asks(&graph, seen(0, 9)), "it cannot be");
}

/// What the warehouse says counts before what the date knows, and is measured by what dependents require.
#[test]
fn an_answer_is_measured_by_what_dependents_require() {
    let requires = |least| {
        let need = Dependency { coverage_min: PerMille::new(least).unwrap(), strength: Strength::Soft, ..hard("s") };
        graph(vec![source("s"), task("t", vec![need])])
    };
    let short = |tenths| Some(Found::Missing(Extant::Known(of_ten(tenths))));
    for (least, tenths, found) in
        [(800, 8, Some(Found::There)), (800, 7, short(7)), (0, 1, Some(Found::There)), (0, 0, short(0))]
    {
        let graph = requires(least);
        let judged =
            |date: &Partition, answer| judge(&Timetable::of(&graph, date), date, &graph.nodes["s"], answer, now(OVER));
        let answer = Some(CheckAnswer::Share(of_ten(tenths)));
        assert_eq!(judged(&empty(), answer), found, "{tenths} of {least}");
        // The same where nobody was asked, and the date knows it.
        let mut date = empty();
        facts(&mut date, "s").evidence = seen(0, tenths);
        assert_eq!(judged(&date, None), found, "{tenths} of {least}");
        assert_eq!(judged(&date, Some(CheckAnswer::Unknown)), Some(Found::Unknown));
        facts(&mut date, "s").evidence = claimed(0);
        assert_eq!(judged(&date, answer), found, "it outweighs what a run said");
        assert_eq!(judged(&date, Some(CheckAnswer::NotKept)), Some(Found::There));
    }
}

/// Silence alone proves nothing: of what nobody said anything it is said that it is missing where it failed, where it was due,
/// or where its pass ended although there was something to make it of.
#[test]
fn silence_is_a_gap_where_something_was_to_be_heard() {
    let mut of = graph(nodes());
    let clock = DayTime { days: 0, time: Time::constant(18, 0, 0, 0) };
    of.nodes.get_mut("r").unwrap().expects.due = vec![Anchor::Clock(clock)];
    let game = Game { tip: None, status: GameStatus::Scheduled, id: None };
    let mut date = empty();
    let games = BTreeMap::from([("20260122_BOS_NYK".into(), game)]);
    date.schedule = Some(Schedule { at: at(0), games, emptied_at: None });
    let judged =
        |date: &Partition, id: &str, answer| judge(&Timetable::of(&of, date), date, &of.nodes[id], answer, now(OVER));
    let missing = Some(Found::Missing(Extant::Nothing));
    assert_eq!(judged(&date, "t", None), None);
    assert_eq!(judged(&date, "r", None), missing, "it was due");
    let deaf = Now { heard_until: at(6 * 3_600 - 1), ..now(OVER) };
    assert_eq!(judge(&Timetable::of(&of, &date), &date, &of.nodes["r"], None, deaf), None, "it may have come");
    for state in [State::Failed { at: at(0) }, State::Exhausted { at: at(0) }] {
        facts(&mut date, "t").state = state;
        assert_eq!(judged(&date, "t", None), missing);
    }
    facts(&mut date, "t").state = State::Waiting;
    facts(&mut date, "t").failure = Some(failed());
    assert_eq!(judged(&date, "t", None), missing, "it failed");
    facts(&mut date, "t").failure = None;
    facts(&mut date, "s").evidence = claimed(0);
    assert_eq!(judged(&date, "t", None), None);
    let expired = State::Expired { at: at(0) };
    for (id, found) in [("t", missing), ("joined", missing), ("later", None)] {
        facts(&mut date, id).state = expired.clone();
        assert_eq!(judged(&date, id, None), found, "{id}");
        assert_eq!(judged(&date, id, Some(CheckAnswer::NotKept)), None, "the warehouse keeps nothing of {id}");
    }
    facts(&mut date, "s").evidence = Evidence::default();
    assert_eq!(judged(&date, "t", None), None, "there was nothing to make it of");
    facts(&mut date, "t").state = State::Skipped { at: at(0), reason: "law".into() };
    assert_eq!(judged(&date, "t", None), Some(Found::There), "it is not required");
    facts(&mut date, "joined").evidence.leave_unanswered(at(0));
    assert_eq!(judged(&date, "joined", None), Some(Found::Unknown));
}

/// What one pass of a processor has of an output, all have: the most that any of them knows of counts.
#[test]
fn passes_share_their_output() {
    let graph = with_passes(vec![source("s"), task("t", vec![hard("s")]), task("u", vec![hard("t")])], &["s", "t"]);
    let unknown = || {
        let mut evidence = Evidence::default();
        evidence.leave_unanswered(at(0));
        evidence
    };
    let short = Some(Found::Missing(Extant::Known(of_ten(5))));
    for (one, other, found) in [
        (seen(0, 10), seen(0, 5), Some(Found::There)),
        (seen(0, 5), unknown(), Some(Found::Unknown)),
        (seen(0, 10), unknown(), Some(Found::There)),
        (seen(0, 5), Evidence::default(), short),
    ] {
        for (first, last) in [(one.clone(), other.clone()), (other, one)] {
            let mut date = empty();
            facts(&mut date, "s").evidence = first;
            facts(&mut date, "t").evidence = last;
            assert_eq!(
                judge(&Timetable::of(&graph, &date), &date, &graph.nodes["t"], None, now(OVER)),
                found,
                "{date:?}"
            );
        }
    }
}
