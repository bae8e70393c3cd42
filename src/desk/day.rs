//! A date as it stands, as a screen shows it: a light for each phase, games with what they are short of, runs with the age of
//! their last sign of life, and what is due next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::domain::calendar::{has_begun, teams_of};
use crate::domain::event::GameStatus;
use crate::domain::graph::{Graph, Heartbeats, Kind, Offset, Unit};
use crate::domain::id::{NodeId, PartitionKey, PipelineId, RunId, UnitId};
use crate::domain::partition::{FailureKind, Partition};
use crate::domain::readiness::Blocker;
use crate::domain::time::{Now, after};
use crate::domain::timetable::Timetable;
use crate::domain::units::{Deficit, deficits};
use crate::domain::view::{NodeView, PartitionView, view};
use crate::engine::Engine;
use crate::port::StoreError;

/// Dates that may be live at once: some back, and those ahead that are open already.
const LIVE_MAX: usize = 8;

/// A date, read at one instant.
#[derive(Debug)]
pub struct Day {
    /// What is stored.
    pub partition: Partition,
    /// What follows from it.
    pub view: PartitionView,
    /// When it was read.
    pub now: Now,
}

impl Day {
    /// The date as it is stored.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn load(engine: &Engine, graph: &Graph, key: &PartitionKey) -> Result<Self, StoreError> {
        let stored = engine.store.load(key).await?;
        // As the command line does: a page says what holds by the clock, and leaves verdicts to the engine.
        let now = Now::caught_up(engine.clock.now());
        Ok(Self { view: view(graph, &stored.partition, now), partition: Arc::unwrap_or_clone(stored.partition), now })
    }

    /// The dates of a pipeline on which something may still happen, the earliest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn live(engine: &Engine, graph: &Graph, pipeline: &PipelineId) -> Result<Vec<Self>, StoreError> {
        let at = engine.clock.now();
        let mut dates = engine.store.dates(pipeline, LIVE_MAX).await?;
        dates.retain(|date| engine.is_live(graph, *date, at));
        dates.sort();
        let mut days = Vec::new();
        for date in dates {
            days.push(Self::load(engine, graph, &PartitionKey { pipeline: pipeline.clone(), date }).await?);
        }
        Ok(days)
    }

    /// A node as it stands.
    pub fn node(&self, id: &NodeId) -> Option<&NodeView> {
        self.view.nodes.iter().find(|node| node.node == *id)
    }
}

/// The phases in the order of the work: one comes after those that its nodes need something of.
pub fn phases(graph: &Graph) -> Vec<&str> {
    let nodes = || graph.order.iter().filter_map(|id| graph.node(id));
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in nodes() {
        let phase_of = |id: &NodeId| graph.node(id).map(|node| node.phase.as_str());
        let needed = node.needs.iter().filter(|need| need.offset == Offset::Same);
        let needed = needed.filter_map(|need| phase_of(&need.node)).filter(|phase| *phase != node.phase);
        before.entry(&node.phase).or_default().extend(needed);
    }
    let mut phases: Vec<&str> = Vec::new();
    // Where phases need each other, no order is right and any will do.
    while let Some(next) = before
        .iter()
        .min_by_key(|(_, needed)| needed.iter().filter(|phase| !phases.contains(phase)).count())
        .map(|(phase, _)| *phase)
    {
        before.remove(next);
        phases.push(next);
    }
    phases
}

/// How a phase of a date stands, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Light {
    /// Nothing is required of it.
    Idle,
    /// All of it is done.
    Done,
    /// Nobody is at it, and it is not done.
    Waiting,
    /// Somebody is at it, or has been asked to be.
    Working,
    /// Somebody has to look.
    Trouble,
}

impl Light {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "not needed",
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Trouble => "trouble",
        }
    }
}

/// A phase of a date.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its label.
    pub phase: String,
    /// How it stands.
    pub light: Light,
    /// Nodes of it that are done, skipped or made up for.
    pub done: usize,
    /// Nodes of it, without joins and without sources that are expected at no time and have not been heard.
    pub total: usize,
    /// Nodes of it by state, the most frequent first.
    pub states: Vec<(&'static str, usize)>,
    /// Nodes of it that an operator holds.
    pub held: usize,
    /// Nodes of it that somebody has to look at.
    pub trouble: Vec<NodeId>,
    /// When anything of it was last heard.
    pub heard_at: Option<Timestamp>,
}

/// Whether a node is done for its date, one way or another.
pub fn is_done(node: &NodeView) -> bool {
    matches!(node.state, "succeeded" | "skipped") || node.made_up_by.is_some()
}

/// Whether an operator holds it.
pub fn is_held(node: &NodeView) -> bool {
    node.blockers.iter().any(|blocker| matches!(blocker, Blocker::Held { .. }))
}

/// Whether somebody has to look at a node: it has failed, is given up, or its target does not take it.
pub fn is_trouble(node: &NodeView) -> bool {
    let lost = node.state == "expired" && node.kind == "task" && node.made_up_by.is_none();
    matches!(node.state, "failed" | "exhausted") || lost || node.refused.is_some()
}

/// A light for each phase, in the order of the work.
pub fn lights(graph: &Graph, day: &Day) -> Vec<Phase> {
    let stale: BTreeSet<NodeId> =
        runs(graph, day).into_iter().filter(|run| run.health != Health::Alive).map(|run| run.node).collect();
    // A source counts where it is expected at a time, or has been heard: what some never send is missed by nobody.
    let counts = |shown: &&NodeView| match graph.node(&shown.node).map(|node| (&node.kind, &node.expects.due)) {
        Some((Kind::Gate(_), _)) | None => false,
        Some((Kind::Source(_), due)) => !due.is_empty() || !matches!(shown.state, "waiting" | "expired"),
        Some((Kind::Task(_), _)) => true,
    };
    let times = Timetable::of(graph, &day.partition);
    let is_late = |shown: &NodeView| {
        let node = graph.node(&shown.node);
        let due = node.and_then(|node| times.anchored(&node.expects.due));
        shown.state == "waiting" && due.is_some_and(|due| day.now.reached(due))
    };
    // What one pass left undone another may still make up for.
    let may_yet = |shown: &NodeView| {
        let goes_on = |id: &NodeId| {
            let other = day.view.nodes.iter().find(|other| other.node == *id);
            other.is_some_and(|other| !matches!(other.state, "expired" | "exhausted"))
        };
        shown.state == "expired" && graph.family(&shown.node).iter().any(goes_on)
    };
    let of_phase = |phase: &str| {
        let nodes: Vec<&NodeView> = day.view.nodes.iter().filter(|node| node.phase == phase).filter(counts).collect();
        let mut states: Vec<(&'static str, usize)> = Vec::new();
        for node in &nodes {
            match states.iter_mut().find(|(known, _)| *known == node.state) {
                Some((_, count)) => *count += 1,
                None => states.push((node.state, 1)),
            }
        }
        states.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let has_trouble =
            |node: &&&NodeView| is_trouble(node) && !may_yet(node) || is_late(node) || stale.contains(&node.node);
        let trouble: Vec<NodeId> = nodes.iter().filter(has_trouble).map(|node| node.node.clone()).collect();
        let done = nodes.iter().filter(|node| is_done(node)).count();
        let at_it = nodes.iter().any(|node| matches!(node.state, "dispatched" | "running"));
        let light = match () {
            () if day.view.no_games => Light::Idle,
            () if !trouble.is_empty() => Light::Trouble,
            () if nodes.is_empty() => Light::Waiting,
            () if done == nodes.len() => Light::Done,
            () if at_it => Light::Working,
            () => Light::Waiting,
        };
        let heard = |node: &&NodeView| day.partition.nodes.get(&node.node)?.heard_at;
        Phase {
            phase: phase.to_owned(),
            light,
            done,
            total: nodes.len(),
            states,
            held: nodes.iter().filter(|node| is_held(node)).count(),
            trouble,
            heard_at: nodes.iter().filter_map(heard).max(),
        }
    };
    phases(graph).into_iter().map(of_phase).collect()
}

/// Whether a run gives signs of life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It does.
    Alive,
    /// It has been silent for longer than it should.
    Stale,
    /// It has been silent for so long that it counts as dead.
    Dead,
}

impl Health {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Stale => "stale",
            Self::Dead => "dead",
        }
    }
}

/// An execution that has not ended, as far as anybody has said.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    /// Of which date.
    pub date: jiff::civil::Date,
    /// Of which node.
    pub node: NodeId,
    /// Its phase.
    pub phase: String,
    /// What its producer calls it.
    pub run: RunId,
    /// Whether it gives signs of life.
    pub health: Health,
    /// Whether its processor sends heartbeats at all.
    pub beats: bool,
    /// When it was first heard of.
    pub first: Timestamp,
    /// When it was last heard of.
    pub last: Timestamp,
    /// How long ago that is, in seconds.
    pub age_seconds: i64,
    /// Units done.
    pub done: u64,
    /// Units to do; 0 where it does not count.
    pub total: u64,
    /// When the figure of its progress last changed.
    pub progressed_at: Timestamp,
    /// It says that it has ended, and has reported no result.
    pub ended_unreported: bool,
}

/// The runs of a date that have not ended, the longest silent first.
pub fn runs(graph: &Graph, day: &Day) -> Vec<RunView> {
    let now = day.now;
    let mut found: Vec<RunView> = Vec::new();
    for (id, facts) in &day.partition.nodes {
        let Some(node) = graph.node(id) else { continue };
        let beats = node.liveness.heartbeats == Heartbeats::Sent;
        found.extend(facts.runs.iter().map(|(run, life)| RunView {
            date: day.partition.key.date,
            node: id.clone(),
            phase: node.phase.clone(),
            run: run.clone(),
            health: match () {
                () if !beats => Health::Alive,
                () if now.reached(after(life.last, node.liveness.dead_after)) => Health::Dead,
                () if now.reached(after(life.last, node.liveness.stale_after)) => Health::Stale,
                () => Health::Alive,
            },
            beats,
            first: life.first,
            last: life.last,
            age_seconds: now.at.duration_since(life.last).as_secs().max(0),
            done: life.progress.0,
            total: life.progress.1,
            progressed_at: life.progressed_at,
            ended_unreported: life.ended_unreported,
        }));
    }
    found.sort_by_key(|run| (std::cmp::Reverse(run.health), run.last));
    found
}

/// Whether the last run of a node fell silent, and nothing has made up for it.
pub fn is_dead(node: &NodeView) -> bool {
    node.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Silent)
        && !matches!(node.state, "succeeded" | "running" | "skipped")
}

/// A game of a date.
#[derive(Clone, Debug, Serialize)]
pub struct GameView {
    /// Its name.
    pub game: UnitId,
    /// The visitors.
    pub away: String,
    /// The hosts.
    pub home: String,
    /// How it stands.
    pub status: GameStatus,
    /// When it begins, where that is known.
    pub tip: Option<Timestamp>,
    /// Whether it has begun.
    pub has_begun: bool,
    /// Whether an operator knows it better than the schedule.
    pub overridden: bool,
    /// What it is short of, by output; only those that are counted by game or team.
    pub short_of: BTreeMap<NodeId, Option<Deficit>>,
}

/// The outputs that are counted game by game, or team by team, in the order of the work: those of tasks, and of what is wanted
/// before the tip-off.
pub fn counted(graph: &Graph) -> Vec<&NodeId> {
    let counts = |id: &&NodeId| {
        graph.node(id).is_some_and(|node| {
            node.expects.unit != Unit::Any && (node.expects.alert_before_tip.is_some() || node.task().is_some())
        })
    };
    graph.order.iter().filter(counts).collect()
}

/// The games of a date in the order in which they begin, each with what it is short of.
pub fn games(graph: &Graph, day: &Day) -> Vec<GameView> {
    let times = Timetable::of(graph, &day.partition);
    let counted: Vec<(&NodeId, BTreeMap<UnitId, Deficit>)> = counted(graph)
        .into_iter()
        .filter_map(|id| Some((id, deficits(&times, &day.partition, graph.node(id)?, Timestamp::MIN))))
        .collect();
    let mut games: Vec<GameView> = day
        .partition
        .listed()
        .into_iter()
        .map(|(unit, game)| {
            let teams = teams_of(&unit).map(|(away, home)| (away.to_owned(), home.to_owned()));
            let (away, home) = teams.unwrap_or_else(|| (unit.to_string(), String::new()));
            GameView {
                away,
                home,
                status: game.status,
                tip: game.tip,
                has_begun: has_begun(&game, day.now.at),
                overridden: day.partition.overrides.contains_key(&unit),
                short_of: counted.iter().map(|(id, short)| ((*id).clone(), short.get(&unit).copied())).collect(),
                game: unit,
            }
        })
        .collect();
    games.sort_by(|one, other| (one.tip, &one.game).cmp(&(other.tip, &other.game)));
    games
}

/// Something that is due.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// What becomes of it then.
    pub what: &'static str,
    /// Which nodes, or games.
    pub who: Vec<String>,
}

/// How long a deadline that has passed without what was due is still shown.
const PASSED_FOR: SignedDuration = SignedDuration::from_hours(6);

/// What is due next, the earliest first, along with what was due in the last hours and has not come.
pub fn dues(graph: &Graph, day: &Day) -> Vec<Due> {
    let mut found: BTreeMap<(Timestamp, &'static str), BTreeSet<String>> = BTreeMap::new();
    if day.view.no_games {
        return Vec::new();
    }
    let times = Timetable::of(graph, &day.partition);
    let mut add = |at: Timestamp, what: &'static str, who: &str| {
        if after(at, PASSED_FOR) > day.now.at {
            found.entry((at, what)).or_default().insert(who.to_owned());
        }
    };
    for shown in day.view.nodes.iter().filter(|node| !is_done(node) && node.state != "expired") {
        let Some(node) = graph.node(&shown.node) else { continue };
        if let Some(at) = times.anchored(&node.expects.due) {
            add(at, "due", node.id.as_str());
        }
        if let Some((from, until)) = times.pass(node).filter(|_| node.task().is_some()) {
            let is_required = day.now.reached(from);
            if is_required && until > day.now.at {
                add(until, "its pass ends", node.id.as_str());
            }
        }
    }
    let games = games(graph, day);
    for node in graph.nodes.values() {
        let Some(before) = node.expects.alert_before_tip else { continue };
        for game in games.iter().filter(|game| game.status.is_played() && !game.has_begun) {
            let is_short = game.short_of.get(&node.id).is_some_and(Option::is_some);
            if let Some(tip) = game.tip.filter(|_| is_short) {
                add(
                    after(tip, -before),
                    "critical if the game is still short",
                    &format!("{} @ {}", game.away, game.home),
                );
            }
        }
    }
    for game in games.iter().filter(|game| game.status.is_played()) {
        if let Some(tip) = game.tip.filter(|tip| *tip > day.now.at) {
            add(tip, "tip-off", &format!("{} @ {}", game.away, game.home));
        }
    }
    found.into_iter().map(|((at, what), who)| Due { at, what, who: who.into_iter().collect() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decide::decide;
    use crate::domain::event::{Event, Game, Heartbeat, Pulse, Scheduled};
    use crate::pipeline::shipped;

    fn day(events: &[Event], now: &str) -> (std::sync::Arc<Graph>, Day) {
        let declarations = shipped().unwrap();
        let graph = declarations.pipelines["nba"].graph.clone();
        let key: PartitionKey = "nba/2026-01-23".parse().unwrap();
        let at = Now::caught_up("2026-01-23T15:00:00Z".parse().unwrap());
        let partition = decide(&graph, &Partition::new(key), events, at).unwrap().next;
        let now = Now::caught_up(now.parse().unwrap());
        let view = view(&graph, &partition, now);
        (graph, Day { partition, view, now })
    }

    fn beat() -> Event {
        Event::Heartbeat(Heartbeat {
            node: "player_daily_cache".into(),
            run: "r1".into(),
            pulse: Pulse::Running,
            progress: (3, 10),
            published: "2026-01-23T15:00:00Z".parse().unwrap(),
        })
    }

    fn schedule() -> Event {
        let tip = Some("2026-01-24T00:00:00Z".parse().unwrap());
        let games =
            BTreeMap::from([("20260123_BOS_LAL".into(), Game { tip, status: GameStatus::Scheduled, id: None })]);
        Event::Scheduled(Scheduled { games, at: "2026-01-23T14:00:00Z".parse().unwrap() })
    }

    #[test]
    fn a_run_is_stale_and_then_dead_and_its_phase_in_trouble() {
        for (now, health, light) in [
            ("2026-01-23T15:01:00Z", Health::Alive, Light::Working),
            ("2026-01-23T15:06:00Z", Health::Stale, Light::Trouble),
            ("2026-01-23T15:16:00Z", Health::Dead, Light::Trouble),
        ] {
            let (graph, day) = day(&[schedule(), beat()], now);
            let runs = runs(&graph, &day);
            assert_eq!((runs[0].health, runs[0].done, runs[0].total), (health, 3, 10), "{now}");
            let phase = lights(&graph, &day).into_iter().find(|phase| phase.phase == "precompute").unwrap();
            assert_eq!(phase.light, light, "{now}: {:?}", phase.trouble);
        }
    }

    #[test]
    fn a_game_without_predictions_is_short_and_its_deadline_is_named() {
        let (graph, day) = day(&[schedule()], "2026-01-23T15:00:00Z");
        let games = games(&graph, &day);
        assert_eq!((games[0].away.as_str(), games[0].home.as_str()), ("BOS", "LAL"));
        assert_eq!(games[0].short_of["predictions"], Some(Deficit::Nothing));
        let dues = dues(&graph, &day);
        assert!(dues.iter().any(|due| due.what == "tip-off" && due.who == ["BOS @ LAL"]), "{dues:?}");
        assert!(dues.iter().any(|due| due.what.starts_with("critical")), "{dues:?}");
    }
}
