//! What a scenario's earlier days showed, put into the store as their journal: nothing is decided on it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::file::{Past, span};
use super::world::RunError;
use crate::domain::coverage::Coverage;
use crate::domain::event::{Completed, Event, Game, GameStatus, Heartbeat, Observed, Outcome, Pulse, Scheduled};
use crate::domain::evidence::Extent;
use crate::domain::forecast::at_clock;
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey, UnitId};
use crate::domain::partition::Partition;
use crate::domain::record::record;
use crate::domain::time::Now;
use crate::port::{Commit, JournalEntry, Store};

/// Stores every date of `past`, one commit for each instant at which something was heard.
pub(super) async fn remember(store: &dyn Store, graph: &Graph, past: &Past) -> Result<(), RunError> {
    for date in &past.dates {
        let key = PartitionKey { pipeline: past.pipeline.clone(), date: *date };
        let mut partition = Partition::new(key.clone());
        let heard = heard(graph, &key, past)?;
        for (version, (at, events)) in (0..).zip(heard) {
            let recorded = events.iter().map(|event| record(graph, &mut partition, event)).collect();
            let journal = JournalEntry {
                seq: 0,
                key: key.clone(),
                version: version + 1,
                now: Now::caught_up(at),
                revision: graph.revision,
                events,
                recorded,
                effects: Vec::new(),
                moved: Vec::new(),
            };
            partition.decided_at = at;
            let (partition, journal) = (partition.clone().into(), Some(journal));
            store
                .commit(Commit {
                    expected_version: version,
                    partition,
                    wake_at: None,
                    outbox: Vec::new(),
                    claimed_until: None,
                    journal,
                })
                .await?;
        }
    }
    Ok(())
}

/// What was heard of a date, in order.
fn heard(graph: &Graph, key: &PartitionKey, past: &Past) -> Result<BTreeMap<Timestamp, Vec<Event>>, RunError> {
    let instant = |clock: SignedDuration| at_clock(clock, key.date, &graph.zone);
    let clock = |text: &str| span(text).map(instant).map_err(RunError::File);
    let mut heard: BTreeMap<Timestamp, Vec<Event>> = BTreeMap::new();
    let midnight = instant(SignedDuration::ZERO);
    // That games were played is what matters of them.
    let game = Game { tip: None, status: GameStatus::Final, id: None };
    let unit = UnitId::new(format!("{}_LAL_BOS", key.date.strftime("%Y%m%d")));
    heard.insert(midnight, vec![Event::Scheduled(Scheduled { games: [(unit, game)].into(), at: midnight })]);
    for (id, node) in &past.nodes {
        let run = format!("{id}@{}", key.date);
        if let Some(begun) = &node.begun {
            let at = clock(begun)?;
            let (run, pulse) = (run.as_str().into(), Pulse::Running);
            let beat = Heartbeat { node: id.clone(), run, pulse, progress: (0, 0), published: at };
            heard.entry(at).or_default().push(Event::Heartbeat(beat));
        }
        for (text, (observed, expected)) in &node.covered {
            let at = clock(text)?;
            let coverage = Coverage::new(*observed, *expected);
            let seen =
                Observed { node: id.clone(), coverage, not_kept: false, units: BTreeMap::new(), at, actor: None };
            heard.entry(at).or_default().push(Event::Observed(seen));
        }
        let at = clock(&node.ready)?;
        heard.entry(at).or_default().push(completed(id, &run, at));
    }
    Ok(heard)
}

fn completed(node: &NodeId, run: &str, published: Timestamp) -> Event {
    Event::Completed(Completed {
        node: node.clone(),
        run: run.into(),
        outcome: Outcome::Done(Extent::Whole),
        records: None,
        published,
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    })
}
