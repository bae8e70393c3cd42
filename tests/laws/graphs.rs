//! Graphs to state laws about: builders for hand-made ones and a strategy for random ones.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tipoff::domain::coverage::PerMille;
use tipoff::domain::graph::{
    Cycle, DayTime, Dependency, Expects, Gate, Graph, Heartbeats, Kind, Limits, Liveness, Node, Offset, Rebuild,
    Refresh, Strength, Task, Tier,
};
use tipoff::domain::id::{NodeId, PartitionKey, PipelineId};
use tipoff::domain::partition::Partition;

/// The date every law is about.
pub const DATE: Date = date(2026, 1, 22);

/// The instant at which every law begins: all passes over [`DATE`] are open then, and for some hours more.
pub fn start() -> Timestamp {
    at(0)
}

/// So many seconds after the start.
pub fn at(seconds: i64) -> Timestamp {
    let noon = TimeZone::UTC.to_timestamp(DATE.at(12, 0, 0, 0)).expect("noon exists in UTC");
    noon.saturating_add(SignedDuration::from_secs(seconds)).expect("a test's instants are representable")
}

/// A date of which nothing is known.
pub fn empty() -> Partition {
    Partition::new(PartitionKey::new("laws", DATE))
}

/// A source that beats.
pub fn source(id: &str) -> Node {
    node(id, Kind::Source(None), Vec::new())
}

/// A task that depends on `needs`.
pub fn task(id: &str, needs: Vec<Dependency>) -> Node {
    node(id, Kind::Task(costs()), needs)
}

/// What a task may cost where a law does not say otherwise.
pub fn costs() -> Task {
    Task {
        attempts_max: 3,
        not_started_max: 2,
        dispatches_max: 12,
        backoff: minutes(10),
        backoff_max: minutes(40),
        rebuild: Rebuild::After(minutes(10)),
        rebuild_every: SignedDuration::ZERO,
    }
}

/// An edge that is met by a whole output, at once.
pub fn hard(upstream: &str) -> Dependency {
    Dependency {
        node: upstream.into(),
        offset: Offset::Same,
        strength: Strength::Hard,
        coverage_min: PerMille::FULL,
        grace: SignedDuration::ZERO,
        debounce: SignedDuration::ZERO,
        refresh: Refresh::Always,
    }
}

/// Puts `nodes`, given in topological order, into a graph whose passes are open from the day before to late at night.
pub fn graph(nodes: Vec<Node>) -> Graph {
    let order = nodes.iter().map(|node| node.id.clone()).collect();
    let nodes: BTreeMap<NodeId, Node> = nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
    let clock = |days, hour| DayTime { days, time: Time::constant(hour, 0, 0, 0) };
    let cycles = vec![
        Cycle { id: "same_day".into(), from: clock(0, 6), until: clock(0, 20) },
        Cycle { id: "overnight".into(), from: clock(-1, 0), until: clock(1, 10) },
    ];
    let limits = Limits { ahead_max: 10, behind_max: 400, observe_every: minutes(120) };
    Graph::new(PipelineId::new("laws"), 1, TimeZone::UTC, nodes, order, cycles, BTreeMap::new(), limits)
}

/// So many minutes.
pub fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

fn node(id: &str, kind: Kind, needs: Vec<Dependency>) -> Node {
    Node {
        id: id.into(),
        phase: "law".to_owned(),
        cycle: "overnight".into(),
        needs,
        probed: true,
        expects: Expects::default(),
        liveness: Liveness {
            heartbeats: Heartbeats::Sent,
            stale_after: minutes(5),
            dead_after: minutes(15),
            start_within: minutes(10),
            duration_max: minutes(60),
            stall: None,
            storm: None,
        },
        kind,
    }
}

/// What a random node is drawn from; `up` picks its upstreams among the nodes before it.
#[derive(Clone, Debug)]
struct Draft {
    kind: u8,
    cycle: bool,
    probed: bool,
    beats: bool,
    rebuild: Option<i64>,
    bounds: (u32, u32, u32),
    up: Vec<(prop::sample::Index, Edge)>,
    tier: (u32, i64),
    critical: bool,
}

#[derive(Clone, Debug)]
struct Edge {
    strength: Strength,
    coverage_min: u16,
    grace: i64,
    debounce: i64,
    refresh: bool,
    yesterday: bool,
}

fn edge() -> impl Strategy<Value = Edge> {
    (
        prop_oneof![Just(Strength::Hard), Just(Strength::Soft), Just(Strength::Optional)],
        prop_oneof![Just(0_u16), Just(500), Just(800), Just(1000)],
        prop_oneof![Just(0_i64), Just(0), Just(20)],
        prop_oneof![Just(0_i64), Just(0), Just(5)],
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(strength, coverage_min, grace, debounce, refresh, yesterday)| Edge {
            strength,
            coverage_min,
            grace,
            debounce,
            refresh,
            yesterday,
        })
}

fn draft() -> impl Strategy<Value = Draft> {
    (
        0_u8..10,
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.8, prop_oneof![Just(0_i64), Just(10)]),
        (1_u32..4, 1_u32..3, 2_u32..9),
        prop::collection::vec((any::<prop::sample::Index>(), edge()), 1..4),
        (1_u32..4, prop_oneof![Just(0_i64), Just(30)]),
        any::<bool>(),
    )
        .prop_map(|(kind, cycle, probed, beats, rebuild, bounds, up, tier, critical)| Draft {
            kind,
            cycle,
            probed,
            beats,
            rebuild,
            bounds,
            up,
            tier,
            critical,
        })
}

/// Acyclic graphs of three to nine nodes: the first is a source, the last a task, anything in between.
pub fn any_graph() -> impl Strategy<Value = Graph> {
    prop::collection::vec(draft(), 3..10).prop_map(|drafts| {
        let last = drafts.len() - 1;
        let mut nodes: Vec<Node> = Vec::new();
        for (index, draft) in drafts.into_iter().enumerate() {
            let id = format!("n{index}");
            let mut built = match draft.kind {
                _ if index == 0 => source(&id),
                0..2 if index != last => source(&id),
                2..4 if index != last => gate(&id, &draft, &nodes),
                _ => any_task(&id, &draft, &nodes),
            };
            built.cycle = if draft.cycle { "same_day".into() } else { "overnight".into() };
            built.probed = draft.probed && !matches!(built.kind, Kind::Gate(_));
            built.liveness.heartbeats = if draft.beats { Heartbeats::Sent } else { Heartbeats::None };
            nodes.push(built);
        }
        graph(nodes)
    })
}

fn any_task(id: &str, draft: &Draft, before: &[Node]) -> Node {
    let (attempts_max, not_started_max, dispatches_max) = draft.bounds;
    let rebuild = draft.rebuild.map_or(Rebuild::Never, |quiet| Rebuild::After(minutes(quiet)));
    let costs = Task { attempts_max, not_started_max, dispatches_max, rebuild, ..costs() };
    node(id, Kind::Task(costs), needs(draft, before))
}

fn gate(id: &str, draft: &Draft, before: &[Node]) -> Node {
    let needs: Vec<Dependency> =
        needs(draft, before).into_iter().map(|need| Dependency { strength: Strength::Soft, ..need }).collect();
    let total = u32::try_from(needs.len()).expect("a gate has few members");
    let critical: BTreeSet<NodeId> = needs.iter().take(usize::from(draft.critical)).map(|n| n.node.clone()).collect();
    let (count, after) = draft.tier;
    let all = Tier { count: total, after: SignedDuration::ZERO };
    let fewer = Tier { count: count.min(total), after: minutes(after) };
    node(id, Kind::Gate(Gate { critical, quorum: vec![all, fewer] }), needs)
}

fn needs(draft: &Draft, before: &[Node]) -> Vec<Dependency> {
    let mut seen = BTreeSet::new();
    let mut needs = Vec::new();
    for (index, edge) in &draft.up {
        let upstream = &before[index.index(before.len())];
        if !seen.insert(upstream.id.clone()) {
            continue;
        }
        let join = matches!(upstream.kind, Kind::Gate(_));
        needs.push(Dependency {
            node: upstream.id.clone(),
            offset: if edge.yesterday && !join { Offset::PreviousGameDay } else { Offset::Same },
            strength: if join { Strength::Hard } else { edge.strength },
            coverage_min: PerMille::new(edge.coverage_min).expect("drawn below 1000"),
            grace: minutes(edge.grace),
            debounce: minutes(edge.debounce),
            refresh: if edge.refresh { Refresh::Always } else { Refresh::Never },
        });
    }
    needs
}
