//! Laws of what is recorded and taken up again: a journal makes its partition, and what a late node holds up follows the edges.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tipoff::domain::decide::decide;
use tipoff::domain::effect::Effect;
use tipoff::domain::event::Event;
use tipoff::domain::forecast::{History, forecast};
use tipoff::domain::graph::{Graph, Kind, Offset, Strength};
use tipoff::domain::id::NodeId;
use tipoff::domain::impact::{Fate, Impact, impact};
use tipoff::domain::time::Now;
use tipoff::port::JournalEntry;
use tipoff::replay::record::{Reach, Record};
use tipoff::replay::walk::{Difference, Walk};

use crate::graphs::{any_graph, empty, graph, hard, source, start, task};
use crate::properties::{storm, unfold};

const CASES: u32 = 64;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES,
        rng_seed: RngSeed::Fixed(23),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What the engine would have written of these events.
fn record(graph: &Graph, events: &[(Now, Event)]) -> Result<Record, TestCaseError> {
    let mut record = Record { key: empty().key, entries: Vec::new(), broken: None, partition: empty(), version: 0 };
    for (now, event) in events {
        let events = std::slice::from_ref(event);
        let decision = decide(graph, &record.partition, events, *now)
            .map_err(|violation| TestCaseError::fail(violation.to_string()))?;
        if !decision.changed {
            continue;
        }
        record.version += 1;
        let moved = decision.next.nodes.iter().filter_map(|(id, node)| {
            let was = record.partition.node(id);
            let (from, to) = (was.state.name(), node.state.name());
            (from != to || was.attempt != node.attempt).then(|| (id.clone(), from.to_owned(), to.to_owned()))
        });
        record.entries.push(JournalEntry {
            seq: record.version,
            key: record.key.clone(),
            version: record.version,
            now: *now,
            revision: graph.revision,
            events: events.iter().filter(|event| !matches!(event, Event::Tick)).cloned().collect(),
            recorded: decision.recorded,
            effects: decision.effects,
            moved: moved.collect(),
        });
        record.partition = decision.next;
    }
    Ok(record)
}

fn differences(graph: &Graph, record: &Record) -> Vec<Difference> {
    let mut walk = Walk::new(graph, record.key.clone());
    record.entries.iter().filter_map(|entry| walk.take(entry)).collect()
}

fn hits(graph: &Graph, root: &NodeId) -> Impact {
    let partition = empty();
    let forecast = forecast(graph, &partition, &History::default(), start());
    impact(graph, &[partition], &forecast, root, start()).expect("the node is in its graph")
}

proptest! {
    #![proptest_config(config())]

    /// replay-equals-state: a whole journal is decided again as it was, and makes its partition; also by way of JSON.
    #[test]
    fn a_journal_makes_its_partition(graph in any_graph(), steps in storm()) {
        let record = record(&graph, &unfold(&graph, &steps))?;
        let text = serde_json::to_string(&record).expect("a record is JSON");
        let record: Record = serde_json::from_str(&text).expect("a record reads back");
        prop_assert_eq!(differences(&graph, &record), Vec::new());
        prop_assert!(record.makes_its_partition(&graph));
        prop_assert_eq!(record.check(), Ok(()));
        let reach = if record.version == 0 { Reach::Nothing } else { Reach::Whole };
        prop_assert_eq!(record.reach(&graph), reach);
    }

    /// What is cut off at its beginning is known to be, unless what is missing made no difference.
    #[test]
    fn a_journal_that_is_cut_is_not_taken_for_a_whole_one(graph in any_graph(), steps in storm(), cut in any::<prop::sample::Index>()) {
        let mut record = record(&graph, &unfold(&graph, &steps))?;
        prop_assume!(!record.entries.is_empty());
        record.entries.drain(..=cut.index(record.entries.len()));
        let is_whole = record.reach(&graph) == Reach::Whole;
        prop_assert_eq!(is_whole, !record.entries.is_empty() && record.makes_its_partition(&graph));
    }

    /// An effect that was not decided, and one that was and is not in the record, are both found at their entry.
    #[test]
    fn another_decision_is_found_where_it_was_taken(graph in any_graph(), steps in storm(), at in any::<prop::sample::Index>()) {
        let mut record = record(&graph, &unfold(&graph, &steps))?;
        let telling: Vec<usize> =
            (0..record.entries.len()).filter(|index| !record.entries[*index].effects.is_empty()).collect();
        prop_assume!(!telling.is_empty());
        let place = telling[at.index(telling.len())];
        let effect: Effect = record.entries[place].effects.remove(0);
        let found = differences(&graph, &record);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].entry, place + 1);
        prop_assert!(found[0].lost.is_empty() && !found[0].new.is_empty(), "{:?}", found);
        record.entries[place].effects = vec![effect.clone(), effect.clone()];
        let found = differences(&graph, &record);
        prop_assert!(found.iter().any(|found| found.entry == place + 1 && !found.lost.is_empty()), "{:?}", found);
    }

    /// What needs a held node for certain is held, what is held is so for want of something held, and who does not depend on
    /// the node is not concerned.
    #[test]
    fn a_late_node_holds_up_those_that_need_it_and_no_others(graph in any_graph(), pick in any::<prop::sample::Index>()) {
        let root = &graph.order[pick.index(graph.order.len())];
        let found = hits(&graph, root);
        let mut fates: BTreeMap<&NodeId, Fate> = found.affected.iter().map(|hit| (&hit.node, hit.fate)).collect();
        prop_assert_eq!(fates.len(), found.affected.len(), "named twice: {:?}", found.affected);
        prop_assert!(fates.insert(root, Fate::Held).is_none(), "the node holds up itself");
        for node in graph.nodes.values().filter(|node| node.id != *root) {
            let same = || node.needs.iter().filter(|need| need.offset == Offset::Same);
            let fate = fates.get(&node.id).copied();
            let concerned = same().any(|need| fates.contains_key(&need.node));
            prop_assert_eq!(fate.is_some(), concerned, "{}", node.id);
            let firmly = same().any(|need| {
                need.strength != Strength::Optional && fates.get(&need.node) == Some(&Fate::Held)
            });
            if matches!(node.kind, Kind::Gate(_)) {
                prop_assert!(fate != Some(Fate::Held) || same().any(|need| fates.get(&need.node) == Some(&Fate::Held)));
            } else {
                prop_assert_eq!(fate == Some(Fate::Held), firmly, "{}", node.id);
            }
        }
        if let Some(critical) = &found.critical {
            prop_assert_eq!(&critical.legs.first().expect("a way has a beginning").node, root);
            prop_assert_eq!(&critical.legs.last().expect("a way has an end").node, &critical.due.node);
            prop_assert_eq!(critical.due.at.duration_since(critical.ready_at), critical.slack);
            for pair in critical.legs.windows(2) {
                let next = graph.node(&pair[1].node).expect("it is in the graph");
                prop_assert!(next.needs.iter().any(|need| need.node == pair[0].node), "{:?}", critical.legs);
            }
        }
    }

    /// Who insists more is not better off.
    #[test]
    fn insisting_holds_up_no_less(graph in any_graph(), pick in any::<prop::sample::Index>()) {
        let root = &graph.order[pick.index(graph.order.len())];
        let before = hits(&graph, root);
        let mut strict = graph.clone();
        for need in strict.nodes.values_mut().flat_map(|node| &mut node.needs) {
            need.strength = Strength::Hard;
        }
        let after = hits(&strict, root);
        let held = |found: &Impact| -> Vec<NodeId> {
            found.affected.iter().filter(|hit| hit.fate == Fate::Held).map(|hit| hit.node.clone()).collect()
        };
        let strictly = held(&after);
        prop_assert!(held(&before).iter().all(|node| strictly.contains(node)), "{:?} and {:?}", before, after);
    }
}

/// A record out of a file that nobody has checked is checked.
#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let graph = graph(vec![source("s"), task("t", vec![hard("s")])]);
    let steps = unfold(&graph, &[]);
    let whole = record(&graph, &steps).expect("nothing is decided");
    assert_eq!(whole.check(), Ok(()));
    let mut other = whole.clone();
    other.partition.key.pipeline = "another".into();
    assert!(other.check().is_err_and(|why| why.contains("is about another/")));
}
