//! What would have been: a recorded day played twice, as it was declared and on other terms, and the two held side by side.
//!
//! The model is [`MODEL`]. It is played through the real engine on a virtual clock, so a changed threshold means here what it
//! means in service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::domain::effect::{Effect, Severity, Turn};
use crate::domain::evidence::Extant;
use crate::domain::graph::{Graph, Node};
use crate::domain::id::{AlertKey, NodeId, PartitionKey, UnitId};
use crate::domain::partition::Partition;
use crate::domain::time::after;
use crate::domain::timetable::Timetable;
use crate::domain::units::{self, Deficit};
use crate::pipeline::Declarations;
use crate::scenario::file::Scenario;
use crate::scenario::ground::{Ground, Kept};
use crate::scenario::world::{Regime, RunError, World};

use super::record::Record;
use super::story::{Story, dispatches};
use super::walk::Walk;

/// What is assumed where a record is played on other terms.
pub const MODEL: &str = "a run begins as long after its dispatch as recorded and takes as long; what is not dispatched does not \
    run; what nobody here asked for comes when it came; what was dispatched more often than recorded goes as its last recorded \
    run; operators do what they did";

/// What a date came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Outcome {
    /// Which date.
    pub partition: PartitionKey,
    /// What was dispatched, by node.
    pub nodes: BTreeMap<NodeId, Dispatched>,
    /// What stood of what is promised for each game when it began.
    pub games: Vec<Game>,
    /// Deadlines that came before what was due by them.
    pub missed: Vec<Missed>,
    /// Alerts that were raised, at their worst.
    pub alerts: BTreeMap<AlertKey, Severity>,
}

/// How a node was dispatched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Dispatched {
    /// When, each time.
    pub at: Vec<Timestamp>,
    /// How many of them on less than everything.
    pub degraded: usize,
}

/// A game as it stood at its tip-off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Game {
    /// Which.
    pub game: UnitId,
    /// When it began.
    pub tip: Timestamp,
    /// The output that was promised.
    pub output: NodeId,
    /// Whether nothing, part or all of it was there.
    pub standing: Standing,
}

/// How much of a game's output was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// Less than all.
    Part,
    /// All, as far as is known.
    All,
}

/// A deadline that was missed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Missed {
    /// When it was.
    pub at: Timestamp,
    /// Whose output was not there.
    pub node: NodeId,
    /// The games that were short of it; none where it was due for the date as a whole.
    pub games: Vec<UnitId>,
}

/// Two outcomes of the same records.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What is assumed.
    pub model: &'static str,
    /// Of each date: as declared, and as changed.
    pub dates: Vec<(Outcome, Outcome)>,
    /// Dispatches that were recorded and do not come when the record is played as declared, or the other way round: by so much
    /// the model is wrong about this day.
    pub unlike_the_record: Vec<String>,
    /// Dispatches on the changed terms that go as an earlier recorded run, for there is no record of their own.
    pub assumed: usize,
    /// Dispatches on the changed terms that nobody answers, for no run was ever recorded.
    pub unanswered: usize,
    /// What of the records is not played.
    pub left_out: BTreeSet<String>,
}

/// Plays a scenario, and reads what came of the dates it was made of.
///
/// # Errors
/// If it cannot be played.
pub async fn play(
    scenario: &Scenario,
    declarations: &Arc<Declarations>,
    keys: &[PartitionKey],
) -> Result<Vec<Record>, RunError> {
    let folder = tempfile::tempdir().map_err(|error| RunError::Open(error.to_string()))?;
    let mut ground = Kept::new(folder.path(), &declarations.topology);
    let world = World::new(scenario, Arc::clone(declarations), Regime::Plain, Box::new(ground.clone())).await?;
    world.play(|_| {}).await?;
    let (store, _) = ground.open().await.map_err(RunError::Open)?;
    let mut records = Vec::new();
    for key in keys {
        records.push(Record::read(&*store, key).await?);
    }
    Ok(records)
}

/// Plays the story of `records` on both declarations, and holds what came of `keys` side by side.
///
/// # Errors
/// If it cannot be played.
pub async fn compare(
    story: &Story,
    scenario: &Scenario,
    (declared, changed): (&Arc<Declarations>, &Arc<Declarations>),
    records: &[&Record],
    keys: &[PartitionKey],
) -> Result<Comparison, RunError> {
    let as_declared = play(scenario, declared, keys).await?;
    let as_changed = play(scenario, changed, keys).await?;
    let recorded: Vec<&Record> = records.iter().copied().filter(|record| keys.contains(&record.key)).collect();
    let of = |declared: &Declarations, record: &Record| {
        let graph = declared.pipelines.get(&record.key.pipeline).map(|pipeline| Arc::clone(&pipeline.graph));
        graph.map(|graph| outcome(&graph, record))
    };
    let pairs = as_declared.iter().zip(&as_changed);
    let dates = pairs.filter_map(|(before, then)| Some((of(declared, before)?, of(changed, then)?))).collect();
    let (mut assumed, mut unanswered) = (0, 0);
    for record in &as_changed {
        let mut counts: BTreeMap<&NodeId, usize> = BTreeMap::new();
        dispatches(record).for_each(|(_, dispatch)| *counts.entry(&dispatch.node).or_default() += 1);
        for (node, count) in counts {
            let known = story.dispatches.get(&(record.key.clone(), node.clone())).copied().unwrap_or(0);
            let beyond = count.saturating_sub(usize::try_from(known).unwrap_or(usize::MAX));
            if known == 0 { unanswered += beyond } else { assumed += beyond }
        }
    }
    let unlike_the_record = recorded.iter().zip(&as_declared).flat_map(|(then, again)| unlike(then, again)).collect();
    Ok(Comparison { model: MODEL, dates, unlike_the_record, assumed, unanswered, left_out: story.left_out.clone() })
}

/// The dispatches in which a record that was played again differs from itself, up to its end.
fn unlike(record: &Record, again: &Record) -> Vec<String> {
    let end = record.entries.last().map_or(Timestamp::MIN, |entry| entry.now.at);
    let within = |record: &Record| -> BTreeSet<String> {
        let sent = dispatches(record).filter(|(entry, _)| entry.now.at <= after(end, -SignedDuration::from_secs(90)));
        sent.map(|(_, dispatch)| dispatch.id.to_string()).collect()
    };
    let all: BTreeSet<String> = dispatches(record).map(|(_, dispatch)| dispatch.id.to_string()).collect();
    let all_again: BTreeSet<String> = dispatches(again).map(|(_, dispatch)| dispatch.id.to_string()).collect();
    let lost = within(record).into_iter().filter(|id| !all_again.contains(id)).map(|id| format!("{id} does not come"));
    let new = within(again).into_iter().filter(|id| !all.contains(id)).map(|id| format!("{id} was not recorded"));
    lost.chain(new).collect()
}

/// What a record came to, on the graph by which it was decided.
pub fn outcome(graph: &Graph, record: &Record) -> Outcome {
    let mut nodes: BTreeMap<NodeId, Dispatched> = BTreeMap::new();
    let mut alerts: BTreeMap<AlertKey, Severity> = BTreeMap::new();
    let mut walk = Walk::new(graph, record.key.clone());
    record.entries.iter().for_each(|entry| {
        walk.take(entry);
    });
    let last = walk.partition;
    let promised = || graph.nodes.values().filter(|node| node.expects.alert_before_tip.is_some());
    // Every instant at which something is judged: (when, what).
    let mut looks: Vec<(Timestamp, Look<'_>)> = Vec::new();
    let times = Timetable::of(graph, &last);
    for (unit, game) in &times.games {
        let Some(tip) = game.tip else { continue };
        looks.push((tip, Look::Tip(unit.clone())));
        for node in promised() {
            let lead = node.expects.alert_before_tip.unwrap_or_default();
            looks.push((after(tip, -lead), Look::Deadline(node, Some(unit.clone()))));
        }
    }
    for node in graph.nodes.values() {
        if let Some(due) = times.anchored(&node.expects.due) {
            looks.push((due, Look::Deadline(node, None)));
        }
    }
    looks.sort_by_key(|(at, _)| *at);
    let mut found = Outcome {
        partition: record.key.clone(),
        nodes: BTreeMap::new(),
        games: Vec::new(),
        missed: Vec::new(),
        alerts: BTreeMap::new(),
    };
    let mut walk = Walk::new(graph, record.key.clone());
    let mut looks = looks.into_iter().peekable();
    for entry in &record.entries {
        while let Some((at, look)) = looks.next_if(|(at, _)| *at < entry.now.at) {
            found.look(graph, &walk.partition, &last, at, &look);
        }
        walk.take(entry);
        for effect in &entry.effects {
            match effect {
                Effect::Dispatch(dispatch) => {
                    let sent = nodes.entry(dispatch.node.clone());
                    let sent = sent.or_insert(Dispatched { at: Vec::new(), degraded: 0 });
                    sent.at.push(entry.now.at);
                    sent.degraded += usize::from(dispatch.manifest.degraded);
                }
                Effect::Alert(alert) if alert.turn == Turn::Raised => {
                    let worst = alerts.entry(alert.key.clone()).or_insert(alert.severity);
                    *worst = (*worst).max(alert.severity);
                }
                _ => {}
            }
        }
    }
    // What was recorded before an instant that lies behind its end is all there is at that instant.
    for (at, look) in looks {
        found.look(graph, &walk.partition, &last, at, &look);
    }
    (found.nodes, found.alerts) = (nodes, alerts);
    found.games.sort_by(|one, other| (one.tip, &one.game).cmp(&(other.tip, &other.game)));
    found
}

/// What is looked at.
enum Look<'g> {
    /// A game, as it begins.
    Tip(UnitId),
    /// An output, as it is due: for a game, or for the date.
    Deadline(&'g Node, Option<UnitId>),
}

impl Outcome {
    fn look(&mut self, graph: &Graph, partition: &Partition, last: &Partition, at: Timestamp, look: &Look<'_>) {
        // Which games are played is known better at the end.
        let known =
            Partition { schedule: last.schedule.clone(), overrides: last.overrides.clone(), ..partition.clone() };
        match look {
            Look::Tip(game) => {
                let mut outputs: BTreeMap<&NodeId, Standing> = BTreeMap::new();
                for node in graph.nodes.values().filter(|node| node.expects.alert_before_tip.is_some()) {
                    // Passes over a date make one output.
                    let output = graph.family(&node.id).iter().min_by_key(|id| id.as_str().len()).unwrap_or(&node.id);
                    let standing = standing(graph, &known, node, game);
                    let best = outputs.entry(output).or_insert(standing);
                    if (*best as u8) < standing as u8 {
                        *best = standing;
                    }
                }
                let games = outputs.into_iter().map(|(output, standing)| Game {
                    game: game.clone(),
                    tip: at,
                    output: output.clone(),
                    standing,
                });
                self.games.extend(games);
            }
            Look::Deadline(node, Some(game)) => {
                let family = graph.family(&node.id).iter().filter_map(|id| graph.node(id)).chain([*node]);
                let there =
                    family.map(|node| standing(graph, &known, node, game)).any(|standing| standing == Standing::All);
                if there {
                    return;
                }
                let same = |missed: &&mut Missed| {
                    let of_family = missed.node == node.id || graph.family(&node.id).contains(&missed.node);
                    missed.at == at && of_family && !missed.games.is_empty()
                };
                match self.missed.iter_mut().find(same) {
                    Some(missed) if missed.games.contains(game) => {}
                    Some(missed) => missed.games.push(game.clone()),
                    None => self.missed.push(Missed { at, node: node.id.clone(), games: vec![game.clone()] }),
                }
            }
            Look::Deadline(node, None) => {
                if units::extant(&Timetable::of(graph, &known), &known, node) == Extant::Nothing {
                    self.missed.push(Missed { at, node: node.id.clone(), games: Vec::new() });
                }
            }
        }
    }

    /// Dispatches on less than everything.
    pub fn degraded(&self) -> usize {
        self.nodes.values().map(|sent| sent.degraded).sum()
    }

    /// The games that had nothing of what is promised for them.
    pub fn lost(&self) -> Vec<&UnitId> {
        self.games.iter().filter(|game| game.standing == Standing::Nothing).map(|game| &game.game).collect()
    }
}

fn standing(graph: &Graph, partition: &Partition, node: &Node, game: &UnitId) -> Standing {
    let times = Timetable::of(graph, partition);
    if units::extant(&times, partition, node) == Extant::Nothing {
        return Standing::Nothing;
    }
    match units::deficits(&times, partition, node, Timestamp::MIN).get(game) {
        None => Standing::All,
        Some(Deficit::Part(_)) => Standing::Part,
        Some(Deficit::Nothing) => Standing::Nothing,
    }
}
