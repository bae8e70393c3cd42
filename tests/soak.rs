//! Game days, one after another: the real engine over the embedded store and bus on a virtual clock, with every loop of
//! the service. One replica stays, others beside it come and go. What the service holds in memory and on disk does not grow with
//! the days, and each date comes to its end.
//!
//! A process of its own, because its memory is looked at: `TIPOFF_SOAK_DAYS=30 cargo test --test soak -- --nocapture` plays a
//! month and prints it day by day.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde_json::json;
use tipoff::adapter::embedded::{Durability, Embedded, EmbeddedBus};
use tipoff::clock::Clock;
use tipoff::domain::event::{Completed, Event, Heartbeat, Outcome, Pulse};
use tipoff::domain::evidence::Extent;
use tipoff::domain::graph::{Graph, Kind};
use tipoff::domain::id::{NodeId, PartitionKey};
use tipoff::domain::partition::State;
use tipoff::engine::{Engine, Settings};
use tipoff::pipeline::{Declarations, shipped};
use tipoff::wire::report;

const FIRST: Date = date(2026, 1, 5);
/// Without another word.
const DAYS: i64 = 9;
/// Rows are kept so long here, so that it shows whether they go.
const KEEP: SignedDuration = SignedDuration::from_hours(2 * 24);
/// How long a run takes.
const RUN: SignedDuration = SignedDuration::from_mins(3);
/// By then everything that is kept for a while has been kept for once, and every loop has seen some days.
const SETTLED: usize = 5;
/// Bytes by which the file may grow a day from then on: the partitions of the date, which stay.
const GROWTH_MAX: u64 = 400_000;
/// Bytes by which memory may grow from then on.
const MEMORY_MAX: u64 = 12 * 1024 * 1024;

/// A process on the store: its engine, and what it holds open.
struct Replica {
    engine: Engine,
    embedded: Embedded,
    bus: EmbeddedBus,
}

fn start(folder: &Path, declared: &Arc<Declarations>, clock: &Clock) -> Replica {
    let embedded = Embedded::open(folder, Durability::Off).unwrap();
    let bus = embedded.bus(Arc::new(declared.topology.clone()));
    let (store, out, warehouse) = (Arc::new(embedded.clone()), Arc::new(bus.clone()), Arc::new(embedded.clone()));
    let engine = Engine::new(declared.clone(), store, out, warehouse, clock.clone(), Settings::default());
    Replica { engine, embedded, bus }
}

impl Replica {
    /// One round of every loop, of those that are due in this minute.
    async fn round(&self, minute: i64, now: Timestamp) {
        if minute % 60 == 0 {
            self.embedded.prune(now.saturating_sub(KEEP).unwrap()).await.unwrap();
            self.bus.expire(now).await.unwrap();
            self.engine.read_schedules().await.unwrap();
        }
        if minute % 10 == 0 {
            self.engine.foretell().await.unwrap();
            self.engine.backfill().await.unwrap();
            self.engine.look_after_letters().await.unwrap();
            self.engine.measure_ourselves();
            self.engine.measure().await.unwrap();
        }
        self.engine.watch().await;
        self.engine.sweep().await.unwrap();
        while self.engine.relay().await.unwrap() > 0 {}
        self.engine.notify().await.unwrap();
        while self.engine.export().await.unwrap() > 0 {}
    }

    /// Takes what waits for consumers, each dispatch once: its id, node and date.
    async fn consume(&self, seen: &mut BTreeSet<String>, now: Timestamp) -> Vec<(String, NodeId, Date)> {
        let mut taken = Vec::new();
        for waiting in self.bus.backlog().await.unwrap().into_iter().filter(|backlog| backlog.waiting > 0) {
            let messages = self.bus.pull(&waiting.subscription, 100, now).await.unwrap();
            let acks: Vec<String> = messages.iter().map(|message| message.ack_id.clone()).collect();
            for message in messages {
                let told = |name: &str| message.attributes.get(name).cloned();
                let Some(id) = told("tipoff-dispatch-id") else { continue };
                if seen.insert(id.clone()) {
                    taken.push((
                        id,
                        told("tipoff-node").unwrap().as_str().into(),
                        told("tipoff-date").unwrap().parse().unwrap(),
                    ));
                }
            }
            self.bus.acknowledge(&waiting.subscription, &acks, now).await.unwrap();
        }
        taken
    }

    async fn says(&self, date: Date, event: Event) {
        self.engine.step(&key(date), &[event]).await.unwrap();
    }
}

fn key(date: Date) -> PartitionKey {
    PartitionKey::new("nba", date)
}

fn completed(node: &NodeId, run: &str, published: Timestamp) -> Event {
    Event::Completed(Completed {
        node: node.clone(),
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

fn begins(node: &NodeId, run: &str, published: Timestamp) -> Event {
    let progress = (0, 1);
    Event::Heartbeat(Heartbeat { node: node.clone(), run: run.into(), pulse: Pulse::Running, progress, published })
}

/// When each source of a date says that it is there: some minutes into its pass, one after another.
fn sources(graph: &Graph, date: Date) -> impl Iterator<Item = (Timestamp, NodeId)> + '_ {
    let sources = graph.nodes.values().filter(|node| matches!(node.kind, Kind::Source(_)));
    sources.enumerate().filter_map(move |(nth, node)| {
        let (from, _) = graph.pass(node, date)?;
        let minutes = 20 + i64::try_from(nth % 30).unwrap();
        Some((from.saturating_add(SignedDuration::from_mins(minutes)).unwrap(), node.id.clone()))
    })
}

/// The warehouse says how the games of a date stand.
async fn plays(replica: &Replica, day: Date, status: &str, at: Timestamp) {
    let tip = format!("{}T00:30:00Z", day.tomorrow().unwrap());
    let games = [("BOS", "NYK"), ("LAL", "DEN"), ("MIA", "CHI")].into_iter().enumerate().map(|(nth, (away, home))| {
        let id = format!("{}{nth}", day.strftime("00225%j0"));
        let row = json!({ "game_id": id, "away": away, "home": home, "tip": tip, "status": status });
        row.as_object().unwrap().clone()
    });
    replica.embedded.put_report(&"nba".into(), report::Kind::Schedule, day, games.collect(), at).await.unwrap();
}

fn is_over(state: &State) -> bool {
    matches!(state, State::Succeeded { .. } | State::Skipped { .. } | State::Expired { .. })
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn stored(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn game_days_leave_nothing_behind() {
    let days = std::env::var("TIPOFF_SOAK_DAYS").map_or(DAYS, |days| days.parse().expect("a number of days"));
    let folder = tempfile::tempdir().unwrap();
    let declared = Arc::new(shipped().unwrap());
    let graph = declared.pipelines["nba"].graph.clone();
    let begun: Timestamp = "2026-01-05T05:00:00Z".parse().unwrap();
    let clock = Clock::manual(begun);
    let mut replicas = [(); 2].map(|()| start(folder.path(), &declared, &clock));
    let dates: Vec<Date> = (0..days).map(|days| FIRST.saturating_add(days.days())).collect();
    for day in &dates {
        plays(&replicas[0], *day, "scheduled", begun).await;
    }
    let mut coming: BTreeMap<Timestamp, Vec<(NodeId, Date)>> = BTreeMap::new();
    for day in &dates {
        for (at, node) in sources(&graph, *day) {
            coming.entry(at).or_default().push((node, *day));
        }
    }
    // Runs under way, by the instant of their end.
    let mut runs: BTreeMap<Timestamp, Vec<(String, NodeId, Date)>> = BTreeMap::new();
    let (mut seen, mut dispatched, mut kills) = (BTreeSet::new(), 0, 0);
    let mut measured: Vec<(u64, u64)> = Vec::new();
    for minute in 0..(days + 2) * 24 * 60 {
        let now = begun.saturating_add(SignedDuration::from_mins(minute)).unwrap();
        clock.set(now);
        if minute % (24 * 60) == 0
            && let Some(over) = dates.get(usize::try_from(minute / (24 * 60) - 1).unwrap_or(usize::MAX))
        {
            plays(&replicas[0], *over, "final", now).await;
        }
        // They take turns; every three hours the second is gone, and another comes.
        if minute % 180 == 90 {
            replicas[1] = start(folder.path(), &declared, &clock);
            kills += 1;
        }
        let replica = &replicas[usize::from(minute / 5 % 2 == 1)];
        let next = [coming.first_key_value().map(|(at, _)| *at), runs.first_key_value().map(|(at, _)| *at)];
        let is_due = next.into_iter().flatten().any(|at| at <= now);
        // What no loop would find anything to do in is left out, for time.
        if !is_due && minute % 10 != 0 && replica.engine.sweep().await.unwrap() == 0 {
            continue;
        }
        while let Some(due) = coming.first_entry().filter(|due| *due.key() <= now) {
            for (node, day) in due.remove() {
                replica.says(day, completed(&node, &format!("{node}@{day}"), now)).await;
            }
        }
        while let Some(due) = runs.first_entry().filter(|due| *due.key() <= now) {
            for (id, node, day) in due.remove() {
                replica.says(day, completed(&node, &id, now)).await;
            }
        }
        replica.round(minute, now).await;
        for (id, node, day) in replica.consume(&mut seen, now).await {
            dispatched += 1;
            replica.says(day, begins(&node, &id, now)).await;
            runs.entry(now.saturating_add(RUN).unwrap()).or_default().push((id, node, day));
        }
        if minute % (24 * 60) == 0 && minute > 0 {
            measured.push((resident(), stored(folder.path())));
            println!(
                "day {:>2}: {:>4} MiB in memory, {:>6} kB on disk, {dispatched} dispatches, {kills} replicas gone",
                minute / (24 * 60),
                measured.last().unwrap().0 / 1024 / 1024,
                measured.last().unwrap().1 / 1000,
            );
        }
    }

    // Everything has come to its end, and nothing is still to be decided of the dates that are over.
    let (last, whole) = dates.split_last().unwrap();
    assert!(
        kills > 8 * whole.len() - 8 && dispatched > 10 * whole.len(),
        "{kills} replicas gone, {dispatched} dispatches"
    );
    let mut unpredicted = Vec::new();
    for day in whole {
        let stored = replicas[0].engine.store.load(&key(*day)).await.unwrap();
        let passes = |id: &NodeId| graph.node(id).and_then(|node| graph.pass(node, *day));
        let is_still_on = |id: &NodeId| passes(id).is_some_and(|(_, until)| until > clock.now());
        let open = stored.partition.nodes.iter().filter(|(id, facts)| !is_over(&facts.state) && !is_still_on(id));
        let open: Vec<String> = open.map(|(id, facts)| format!("{id} is {}", facts.state.name())).collect();
        assert!(open.is_empty(), "of {day} {open:?}");
        let predicted = stored.partition.node(&"predictions".into());
        // The first lacks the days before it.
        if *day != FIRST && !matches!(predicted.state, State::Succeeded { .. }) {
            unpredicted.push(format!("{day}: {}", predicted.state.name()));
        }
        assert!(stored.wake_at.is_none_or(|at| at > clock.now()), "{day} is still due at {:?}", stored.wake_at);
    }
    assert!(unpredicted.is_empty(), "without predictions: {unpredicted:?}");
    let alerts = tipoff::port::Bus::alerts(&replicas[0].bus).await.unwrap();
    let stale = alerts.iter().find(|alert| alert.key.as_str().contains(&whole[1].to_string()));
    assert!(stale.is_none(), "an alert of {} is still on: {stale:?}, and the last is {last}", whole[1]);

    let (memory, disk) = measured[SETTLED];
    let (memory_then, disk_then) = *measured.last().unwrap();
    let days = u64::try_from(measured.len() - 1 - SETTLED).unwrap();
    assert!(memory_then <= memory + MEMORY_MAX, "{memory} bytes in memory on day {SETTLED}, {memory_then} at the end");
    assert!(disk_then <= disk + days * GROWTH_MAX, "{disk} bytes on disk on day {SETTLED}, {disk_then} at the end");
}
