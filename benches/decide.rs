//! What one decision of the core costs: `cargo bench --bench decide`.
//!
//! On the shipped NBA graph by kind of event, and on chains and fans of 50 to 5,000 nodes, where the cost has to grow with the
//! number of nodes and no faster.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use serde_json::{Map, json};
use tipoff::domain::decide::decide;
use tipoff::domain::event::{Completed, Event, Game, GameStatus, Heartbeat, Outcome, Pulse, Scheduled};
use tipoff::domain::evidence::Extent;
use tipoff::domain::graph::{Graph, Kind};
use tipoff::domain::id::{NodeId, PartitionKey};
use tipoff::domain::partition::Partition;
use tipoff::domain::time::Now;

/// A busy evening.
const GAMES: usize = 10;
const SIZES: [usize; 4] = [50, 500, 1_000, 5_000];

fn graph(pipelines: &str) -> Arc<Graph> {
    let declared = tipoff::pipeline::load(("topics.yaml", tipoff::pipeline::TOPICS), ("bench", pipelines)).unwrap();
    declared.pipelines["nba"].graph.clone()
}

/// A chain, or a fan of one source into many tasks.
fn shaped(shape: &str, count: usize) -> Arc<Graph> {
    let mut nodes = Map::new();
    nodes.insert("n0".to_owned(), json!({ "kind": "source", "phase": "raw", "cycle": "overnight" }));
    for index in 1..count {
        let up = if shape == "chain" { index - 1 } else { 0 };
        let body =
            json!({ "target_date": "{{ date }}", "correlation_id": "{{ correlation_id }}", "trigger_source": "t" });
        nodes.insert(
            format!("n{index}"),
            json!({ "kind": "task", "phase": "grading", "cycle": "overnight",
                "needs": { format!("n{up}"): { "strength": "hard" } },
                "messages": [{ "topic": "nba-grading-trigger", "body": body }] }),
        );
    }
    graph(&tipoff::pipeline::alone(nodes, &json!({ "calendar": null })).unwrap())
}

fn completed(node: &str, run: &str, published: Timestamp) -> Event {
    Event::Completed(Completed {
        node: NodeId::from(node),
        run: run.into(),
        outcome: Outcome::Done(Extent::Whole),
        records: Some(200),
        published,
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    })
}

fn heartbeat(node: &str, run: &str, published: Timestamp) -> Event {
    Event::Heartbeat(Heartbeat {
        node: NodeId::from(node),
        run: run.into(),
        pulse: Pulse::Running,
        progress: (1, 2),
        published,
    })
}

/// The evening of a game day.
fn now() -> Now {
    Now::caught_up("2026-01-23T03:00:00Z".parse().unwrap())
}

fn begun(graph: &Graph) -> Partition {
    let key = PartitionKey::new("nba", jiff::civil::date(2026, 1, 22));
    decide(graph, &Partition::new(key), &[Event::Tick], now()).unwrap().next
}

/// The same evening with its games known and everything done once.
fn under_way(graph: &Graph) -> Partition {
    let at = now().at;
    let game = |index: usize| {
        let game = Game { tip: Some(at), status: GameStatus::Scheduled, id: None };
        (format!("20260122_A{index:02}_B{index:02}").as_str().into(), game)
    };
    let games = Event::Scheduled(Scheduled { games: (0..GAMES).map(game).collect(), at });
    let done = graph.order.iter().filter(|id| !matches!(graph.nodes[*id].kind, Kind::Gate(_)));
    let events: Vec<Event> = [games].into_iter().chain(done.map(|id| completed(id.as_str(), "run-0", at))).collect();
    decide(graph, &begun(graph), &events, now()).unwrap().next
}

fn nba(criterion: &mut Criterion) {
    let graph = graph(tipoff::pipeline::PIPELINE);
    for (name, partition) in [("nba", begun(&graph)), ("nba under way", under_way(&graph))] {
        evening(criterion, name, &graph, &partition);
    }
}

fn evening(criterion: &mut Criterion, name: &str, graph: &Graph, partition: &Partition) {
    let at = now().at;
    let mut group = criterion.benchmark_group(name);
    let events = [
        ("tick", Event::Tick),
        ("heartbeat", heartbeat("p2_nbacom_boxscores", "run-1", at)),
        ("completion of a source", completed("p2_nbacom_boxscores", "run-1", at)),
        ("completion of a task", completed("player_game_summary", "run-1", at)),
    ];
    for (name, event) in events {
        let events = [event];
        group.bench_function(name, |bench| bench.iter(|| decide(graph, partition, &events, now()).unwrap()));
    }
    // Events that wait together are one decision.
    let many: Vec<Event> =
        (0..256).map(|index| completed("p2_nbacom_boxscores", &format!("run-{index}"), at)).collect();
    group.throughput(Throughput::Elements(256));
    group.bench_function("256 completions at once", |bench| {
        bench.iter(|| decide(graph, partition, &many, now()).unwrap());
    });
}

fn sizes(criterion: &mut Criterion) {
    for shape in ["chain", "fan"] {
        let mut group = criterion.benchmark_group(shape);
        group.sample_size(10);
        for count in SIZES {
            let graph = shaped(shape, count);
            let partition = begun(&graph);
            let events = [completed("n0", "run-1", now().at)];
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::from_parameter(count), |bench| {
                bench.iter(|| decide(&graph, &partition, &events, now()).unwrap());
            });
        }
    }
}

criterion_group!(benches, nba, sizes);
criterion_main!(benches);
