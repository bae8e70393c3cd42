//! Two processes on one store, each with its memory of what it decided last.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::date;
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::clock::Clock;
use tipoff::domain::effect::Effect;
use tipoff::domain::event::{Command, Completed, Event, Outcome, Request};
use tipoff::domain::evidence::Extent;
use tipoff::domain::id::{DispatchId, PartitionKey};
use tipoff::domain::partition::{Recorded, State};
use tipoff::engine::{Engine, Settings};
use tipoff::pipeline::{Declarations, shipped};

/// A source that can be asked for.
const NODE: &str = "nbac_player_boxscore";

fn start(folder: &Path, declared: &Arc<Declarations>, clock: &Clock) -> Engine {
    let embedded = Embedded::open(folder, Durability::Off).unwrap();
    let bus = Arc::new(embedded.bus(Arc::new(declared.topology.clone())));
    let (store, warehouse) = (Arc::new(embedded.clone()), Arc::new(embedded));
    Engine::new(declared.clone(), store, bus, warehouse, clock.clone(), Settings::default())
}

fn completed(node: &str, dispatch: Option<DispatchId>, published: Timestamp) -> Event {
    Event::Completed(Completed {
        node: node.into(),
        run: format!("{node}@{published}").as_str().into(),
        outcome: Outcome::Done(Extent::Whole),
        records: Some(200),
        published,
        correlation: None,
        dispatch,
        unit: None,
        trace: None,
    })
}

/// Somebody asks for a run of the node. The dispatch that follows.
async fn asked(engine: &Engine, key: &PartitionKey, at: Timestamp) -> DispatchId {
    let request = Event::Requested(Request {
        id: "again".into(),
        actor: "ann".into(),
        reason: "to see".into(),
        at,
        command: Command::Retry { node: NODE.into() },
    });
    engine.step(key, &[request]).await.unwrap();
    let waiting = engine.store.outbox(at, 100).await.unwrap();
    let dispatch = waiting.iter().find_map(|entry| match &entry.effect {
        Effect::Dispatch(dispatch) if dispatch.node == NODE.into() => Some(dispatch.id.clone()),
        _ => None,
    });
    dispatch.expect("it is asked for")
}

#[tokio::test]
async fn what_another_has_decided_is_neither_new_nor_from_the_future() {
    let folder = tempfile::tempdir().unwrap();
    let declared = Arc::new(shipped().unwrap());
    let begun: Timestamp = "2026-01-23T12:00:00Z".parse().unwrap();
    let clock = Clock::manual(begun);
    let [one, other] = [(); 2].map(|()| start(folder.path(), &declared, &clock));
    let key = PartitionKey::new("nba", date(2026, 1, 22));
    let load = completed("p2_nbacom_boxscores", None, begun);
    let stepped = one.step(&key, std::slice::from_ref(&load)).await.unwrap();
    assert_eq!(stepped.recorded, [Recorded::Applied]);

    // The other asks for a run, which the first has no memory of.
    let dispatch = asked(&other, &key, begun).await;

    // By its memory alone the first would hand the answer back, and count the load as known, without asking the store.
    let answer = completed(NODE, Some(dispatch), begun);
    let stepped = one.step(&key, &[answer.clone(), load]).await.unwrap();
    assert_eq!(stepped.recorded, [Recorded::Applied, Recorded::Duplicate]);
    let stored = other.store.load(&key).await.unwrap();
    assert!(matches!(stored.partition.node(&NODE.into()).state, State::Succeeded { .. }));
    // And the other knows it as well, once it is told again.
    let stepped = other.step(&key, &[answer]).await.unwrap();
    assert_eq!(stepped.recorded, [Recorded::Duplicate]);
}
