//! What a late node holds up: who waits, who goes without, which games, and by when it has to come.

use jiff::{SignedDuration, Timestamp};
use tipoff::domain::coverage::Coverage;
use tipoff::domain::event::{Event, Game, GameStatus, Observed, Scheduled};
use tipoff::domain::forecast::{History, forecast};
use tipoff::domain::graph::{Dependency, Gate, Graph, Kind, Node, Strength, Tier, Unit};
use tipoff::domain::impact::{Fate, Impact, Known, impact};
use tipoff::domain::partition::Partition;
use tipoff::domain::record::record;

use crate::facts::came;
use crate::graphs::{at, empty, graph, hard, minutes, source, task};

const HOUR: i64 = 3_600;

fn optional(upstream: &str, grace: i64) -> Dependency {
    Dependency { strength: Strength::Optional, grace: minutes(grace), ..hard(upstream) }
}

/// A source, what is made of it, what is promised for games of that, what goes without the first, and what is made of that.
fn nodes() -> Vec<Node> {
    let mut promised = task("promised", vec![hard("made")]);
    promised.expects.alert_before_tip = Some(minutes(30));
    promised.expects.before_tip = true;
    promised.liveness.duration_max = minutes(20);
    let mut made = task("made", vec![hard("s")]);
    made.liveness.duration_max = minutes(40);
    vec![
        source("s"),
        source("other"),
        made,
        promised,
        task("without", vec![hard("other"), optional("s", 25)]),
        task("on-less", vec![hard("without")]),
        task("apart", vec![hard("other")]),
    ]
}

fn game(tip: Timestamp) -> Game {
    Game { tip: Some(tip), status: GameStatus::Scheduled, id: None }
}

/// A date with games at these hours.
fn date(graph: &Graph, hours: &[i64]) -> Partition {
    let name = |nth: usize| format!("20260122_{}", ["BOS_NYK", "LAL_GSW", "MIA_ORL"][nth]);
    let games =
        hours.iter().enumerate().map(|(nth, hour)| (name(nth).as_str().into(), game(at(hour * HOUR)))).collect();
    let mut date = empty();
    record(graph, &mut date, &Event::Scheduled(Scheduled { games, at: at(-HOUR) }));
    date
}

fn held_up(graph: &Graph, date: &Partition, id: &str, now: Timestamp) -> Impact {
    let forecast = forecast(graph, date, &History { days: Vec::new() }, now);
    impact(graph, std::slice::from_ref(date), &forecast, &id.into(), now).unwrap()
}

#[test]
fn who_waits_who_goes_without_and_which_games_are_concerned() {
    let graph = graph(nodes());
    let found = held_up(&graph, &date(&graph, &[-1, 2, 3]), "s", at(0));
    assert!(!found.is_there && found.short.is_empty());
    let fates: Vec<_> =
        found.affected.iter().map(|of| (of.node.as_str(), of.fate, of.via.as_str(), of.waits)).collect();
    let none = SignedDuration::ZERO;
    assert_eq!(
        fates,
        [
            ("made", Fate::Held, "s", none),
            ("promised", Fate::Held, "made", none),
            ("without", Fate::Without, "s", minutes(25)),
            ("on-less", Fate::OnLess, "without", none),
        ]
    );
    // One game has begun: it waits for nothing.
    let games: Vec<_> = found.games.iter().map(|hit| (hit.tip, hit.output.as_str(), hit.fate)).collect();
    assert_eq!(games, [(at(2 * HOUR), "promised", Fate::Held), (at(3 * HOUR), "promised", Fate::Held)]);
    // Half an hour before the first that is ahead.
    let due = found.deadline.unwrap();
    assert_eq!((due.node.as_str(), due.at), ("promised", at(90 * 60)));
    let critical = found.critical.unwrap();
    let legs: Vec<_> = critical.legs.iter().map(|leg| (leg.node.as_str(), leg.takes, leg.known)).collect();
    assert_eq!(
        legs,
        [
            ("s", none, Known::Waited),
            ("made", minutes(40), Known::Declared),
            ("promised", minutes(20), Known::Declared),
        ]
    );
    assert_eq!((critical.ready_at, critical.slack), (at(HOUR), minutes(30)));
}

/// A deadline that has passed is none any more: the next tip-off counts, or the end of the pass.
#[test]
fn the_next_deadline_counts() {
    let graph = graph(nodes());
    let due = |hours: &[i64], minute: i64| {
        let due = held_up(&graph, &date(&graph, hours), "s", at(minute * 60)).deadline.unwrap();
        due.at.duration_since(at(0)).as_secs() / 60
    };
    assert_eq!(due(&[2, 3], 0), 90);
    assert_eq!(due(&[2, 3], 90), 120, "the first game begins then");
    assert_eq!(due(&[2, 3], 120), 150);
    // Ten o'clock of the next morning.
    assert_eq!(due(&[2], 121), 22 * 60);
    assert!(held_up(&graph, &date(&graph, &[]), "s", at(0)).deadline.is_none(), "nobody plays");
}

#[test]
fn what_is_there_in_part_holds_up_the_games_that_are_short_of_it() {
    let mut nodes = nodes();
    nodes[0].expects.unit = Unit::Game;
    let graph = graph(nodes);
    let mut date = date(&graph, &[2, 3]);
    let units = [("20260122_BOS_NYK", 1), ("20260122_LAL_GSW", 0)];
    let of_one = |there| Coverage::new(there, 1).unwrap();
    let seen = Observed {
        node: "s".into(),
        coverage: Coverage::new(1, 2),
        units: units.iter().map(|(unit, there)| ((*unit).into(), of_one(*there))).collect(),
        not_kept: false,
        actor: None,
        at: at(0),
    };
    record(&graph, &mut date, &Event::Observed(seen));
    let games: Vec<_> = held_up(&graph, &date, "s", at(60)).games.into_iter().map(|hit| hit.game.to_string()).collect();
    assert_eq!(games, ["20260122_LAL_GSW"]);
}

/// What is done, or over, waits for nobody, and a join goes on without whom it can do without.
#[test]
fn what_is_done_waits_for_nobody_and_a_join_opens_by_its_tier() {
    let join = |critical: &[&str]| {
        let quorum = vec![
            Tier { count: 2, after: SignedDuration::ZERO },
            Tier { count: 1, after: minutes(15) },
            Tier { count: 0, after: minutes(45) },
        ];
        let gate = Gate { critical: critical.iter().map(|id| (*id).into()).collect(), quorum };
        Node { kind: Kind::Gate(gate), probed: false, ..task("g", vec![hard("s"), hard("other")]) }
    };
    let fates = |critical: &[&str], late: &str| {
        let graph = graph(vec![source("s"), source("other"), join(critical), task("t", vec![hard("g")])]);
        let found = held_up(&graph, &date(&graph, &[2]), late, at(0));
        found.affected.iter().map(|of| (of.node.to_string(), of.fate, of.waits)).collect::<Vec<_>>()
    };
    let named = |id: &str, fate, waits| (id.to_owned(), fate, minutes(waits));
    assert_eq!(fates(&[], "s"), [named("g", Fate::Without, 15), named("t", Fate::OnLess, 0)]);
    assert_eq!(fates(&["s"], "s"), [named("g", Fate::Held, 0), named("t", Fate::Held, 0)]);
    assert_eq!(fates(&["s"], "other"), [named("g", Fate::Without, 15), named("t", Fate::OnLess, 0)]);
    // Made already.
    let graph = graph(nodes());
    let mut date = date(&graph, &[2]);
    let done = |node: &str| Event::Completed(came(node, "r"));
    record(&graph, &mut date, &done("made"));
    let affected = |date: &Partition, id: &str, now| {
        let found = held_up(&graph, date, id, now);
        found.affected.iter().map(|of| of.node.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(affected(&date, "s", at(1)), ["without", "on-less"]);
    assert_eq!(affected(&date, "s", at(22 * HOUR)), [] as [String; 0], "every pass is over");
    assert_eq!(affected(&date, "s", at(22 * HOUR - 1)), ["without", "on-less"]);
    record(&graph, &mut date, &done("s"));
    let there = held_up(&graph, &date, "s", at(1));
    assert!(there.is_there && there.affected.is_empty() && there.deadline.is_none());
}

/// What is known only in sum may be short of any game, and one that begins in this instant waits for nothing.
#[test]
fn what_is_known_in_sum_holds_up_every_game_ahead() {
    let mut nodes = nodes();
    nodes[0].expects.unit = Unit::Game;
    let graph = graph(nodes);
    let mut date = date(&graph, &[0, 2, 3]);
    let seen = Observed {
        node: "s".into(),
        coverage: Coverage::new(1, 2),
        units: std::collections::BTreeMap::new(),
        not_kept: false,
        actor: None,
        at: at(-60),
    };
    record(&graph, &mut date, &Event::Observed(seen));
    let tips: Vec<_> = held_up(&graph, &date, "s", at(0)).games.into_iter().map(|hit| hit.tip).collect();
    assert_eq!(tips, [at(2 * HOUR), at(3 * HOUR)]);
}

/// Of several outputs that are promised for a game the one that fares worst is told, and of those that fare alike the first.
#[test]
fn a_game_is_told_of_by_the_output_that_fares_worst() {
    let promised = |id: &str, need: Dependency| {
        let mut node = task(id, vec![hard("other"), need]);
        node.expects.alert_before_tip = Some(minutes(30));
        node
    };
    let worst = |first: Dependency, second: Dependency| {
        let graph = graph(vec![source("s"), source("other"), promised("a", first), promised("b", second)]);
        let found = held_up(&graph, &date(&graph, &[2]), "s", at(0));
        found.games.into_iter().map(|hit| (hit.output.to_string(), hit.fate)).collect::<Vec<_>>()
    };
    let is = |id: &str, fate| vec![(id.to_owned(), fate)];
    assert_eq!(worst(hard("s"), optional("s", 5)), is("a", Fate::Held));
    assert_eq!(worst(optional("s", 5), hard("s")), is("b", Fate::Held));
    assert_eq!(worst(hard("s"), hard("s")), is("a", Fate::Held));
}

/// What goes on with less does so by what it needs, before what it may do without, and a join of that does as well.
#[test]
fn who_goes_on_with_less_does_so_by_what_it_needs() {
    let graph = graph(vec![
        source("s"),
        source("other"),
        task("a", vec![hard("other"), optional("s", 5)]),
        task("b", vec![hard("other"), optional("s", 5)]),
        task("c", vec![hard("a"), optional("b", 5)]),
        Node {
            kind: Kind::Gate(Gate { critical: [].into(), quorum: vec![Tier { count: 1, after: minutes(0) }] }),
            probed: false,
            ..task("join", vec![hard("a")])
        },
    ]);
    let found = held_up(&graph, &date(&graph, &[2]), "s", at(0));
    let fates: Vec<_> = found.affected.iter().map(|of| (of.node.as_str(), of.fate, of.via.as_str())).collect();
    let less = Fate::OnLess;
    let without = Fate::Without;
    assert_eq!(fates, [("a", without, "s"), ("b", without, "s"), ("c", less, "a"), ("join", less, "a")]);
}

/// When something is expected is told while it is not there.
#[test]
fn what_is_there_is_expected_no_more() {
    let graph = graph(nodes());
    let mut date = date(&graph, &[2]);
    let day = std::sync::Arc::new(tipoff::domain::forecast::Day {
        arrived: [("s".into(), minutes(750))].into(),
        ..Default::default()
    });
    let history = History { days: vec![day; 5] };
    let expected = |date: &Partition| {
        let forecast = forecast(&graph, date, &history, at(60));
        impact(&graph, std::slice::from_ref(date), &forecast, &"s".into(), at(60)).unwrap().expected_at
    };
    assert_eq!(expected(&date), Some(at(1_800)));
    record(&graph, &mut date, &Event::Completed(came("s", "r")));
    assert_eq!(expected(&date), None);
}
