//! Graphs of a few nodes, drawn: sources, tasks and joins, with every strength of edge.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::dice::Dice;
use crate::domain::coverage::PerMille;
use crate::domain::graph::{
    Cycle, DayTime, Dependency, Expects, Gate, Graph, Heartbeats, Kind, Limits, Liveness, Node, Offset, Rebuild,
    Refresh, Strength, Task, Tier,
};
use crate::domain::id::{NodeId, PipelineId};

const fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

/// A graph of two to five nodes: the first is a source, the last a task.
pub(super) fn drawn(dice: &mut Dice) -> Graph {
    let count = 2 + dice.index(4);
    let mut nodes: Vec<Node> = Vec::with_capacity(count);
    for index in 0..count {
        let id = NodeId::new(["a", "b", "c", "d", "e"][index]);
        let kind = match dice.roll(10) {
            _ if index == 0 => Kind::Source(None),
            0 if index + 1 < count => Kind::Source(None),
            1 if index >= 2 && index + 1 < count => gate(dice, &nodes),
            _ => Kind::Task(costs(dice)),
        };
        let needs = match &kind {
            Kind::Source(_) => Vec::new(),
            Kind::Gate(_) => nodes.iter().map(|node| edge(&node.id, Strength::Soft, dice)).collect(),
            Kind::Task(_) => needs(dice, &nodes),
        };
        let probed = !matches!(kind, Kind::Gate(_)) && dice.chance(30);
        nodes.push(Node {
            id,
            phase: if dice.chance(50) { "early".to_owned() } else { "late".to_owned() },
            cycle: "day".into(),
            needs,
            probed,
            expects: Expects::default(),
            liveness: Liveness {
                heartbeats: if dice.chance(85) { Heartbeats::Sent } else { Heartbeats::None },
                stale_after: minutes(5),
                dead_after: minutes(15),
                start_within: minutes(10),
                duration_max: minutes(60),
                stall: None,
                storm: None,
            },
            kind,
        });
    }
    let order = nodes.iter().map(|node| node.id.clone()).collect();
    let nodes: BTreeMap<NodeId, Node> = nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
    let clock = |days, hour| DayTime { days, time: Time::constant(hour, 0, 0, 0) };
    // Open for so long that no schedule comes to its end.
    let cycles = vec![Cycle { id: "day".into(), from: clock(-1, 0), until: clock(9, 0) }];
    let limits = Limits { ahead_max: 10, behind_max: 400, observe_every: minutes(120) };
    Graph::new(PipelineId::new("sim"), 1, TimeZone::UTC, nodes, order, cycles, BTreeMap::new(), limits)
}

fn costs(dice: &mut Dice) -> Task {
    Task {
        attempts_max: 1 + u32::try_from(dice.roll(3)).unwrap_or(0),
        not_started_max: 1 + u32::try_from(dice.roll(2)).unwrap_or(0),
        dispatches_max: 12,
        backoff: minutes(5),
        backoff_max: minutes(20),
        rebuild: if dice.chance(60) { Rebuild::After(minutes(5)) } else { Rebuild::Never },
        rebuild_every: SignedDuration::ZERO,
    }
}

fn needs(dice: &mut Dice, before: &[Node]) -> Vec<Dependency> {
    let mut seen = BTreeSet::new();
    let mut needs = Vec::new();
    for _ in 0..=dice.roll(3) {
        let Some(upstream) = dice.pick(before) else { continue };
        if !seen.insert(upstream.id.clone()) {
            continue;
        }
        let strength = match dice.roll(5) {
            _ if matches!(upstream.kind, Kind::Gate(_)) => Strength::Hard,
            0 => Strength::Soft,
            1 if !needs.is_empty() => Strength::Optional,
            _ => Strength::Hard,
        };
        needs.push(edge(&upstream.id, strength, dice));
    }
    needs
}

fn edge(upstream: &NodeId, strength: Strength, dice: &mut Dice) -> Dependency {
    let coverage_min = match strength {
        Strength::Hard => PerMille::FULL,
        Strength::Soft | Strength::Optional => PerMille::new(800).unwrap_or(PerMille::FULL),
    };
    Dependency {
        node: upstream.clone(),
        offset: Offset::Same,
        strength,
        coverage_min,
        grace: if strength != Strength::Hard && dice.chance(50) { minutes(10) } else { SignedDuration::ZERO },
        debounce: SignedDuration::ZERO,
        refresh: if dice.chance(80) { Refresh::Always } else { Refresh::Never },
    }
}

fn gate(dice: &mut Dice, members: &[Node]) -> Kind {
    let total = u32::try_from(members.len()).unwrap_or(1);
    let critical = members.iter().take(dice.index(2)).map(|node| node.id.clone()).collect();
    let fewer = total.saturating_sub(1).max(1);
    let quorum = vec![Tier { count: total, after: SignedDuration::ZERO }, Tier { count: fewer, after: minutes(30) }];
    Kind::Gate(Gate { critical, quorum })
}
