//! What a node holds up that is late, or never comes: which nodes of its date and of the dates after it, which games, and how
//! much time is left on the longest way from it to a deadline.
//!
//! The same edges tell it by which readiness is judged: what needs it for certain is held, what can do without goes later and
//! on less, and a join opens by the tier that the others make.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::calendar::Anchor;
use super::evidence::Extant;
use super::forecast::{Basis, Forecast};
use super::graph::{Dependency, Gate, Graph, Kind, Node, Offset, Strength};
use super::id::{NodeId, UnitId};
use super::partition::{Partition, State};
use super::time::after;
use super::timetable::Timetable;
use super::units;

/// What a node holds up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Impact {
    /// Which node.
    pub node: NodeId,
    /// Of which date.
    pub date: Date,
    /// Where it stands.
    pub state: &'static str,
    /// Its output suffices for all who need it: nothing waits for it.
    pub is_there: bool,
    /// How much of its output is there.
    pub output: Extant,
    /// The games and teams of the date that are short of it although enough is there.
    pub short: BTreeSet<UnitId>,
    /// When it is expected, where enough past days tell.
    pub expected_at: Option<Timestamp>,
    /// Who is concerned, date by date, each after those it needs.
    pub affected: Vec<Affected>,
    /// The games ahead whose outputs are concerned, by tip-off.
    pub games: Vec<GameHit>,
    /// The earliest instant by which something that it holds up is due.
    pub deadline: Option<Due>,
    /// The way that has the least time left.
    pub critical: Option<Critical>,
}

/// A node that is concerned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Affected {
    /// Which.
    pub node: NodeId,
    /// Of which date.
    pub date: Date,
    /// Its phase.
    pub phase: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Through which of its inputs.
    pub via: NodeId,
    /// How long it waits before it goes without, where it does.
    pub waits: SignedDuration,
}

/// What becomes of a node whose input never comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is made of what went without: it comes, on less.
    OnLess,
    /// It goes without it, and is degraded.
    Without,
    /// It does not go.
    Held,
}

/// A game whose output is concerned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GameHit {
    /// Which.
    pub game: UnitId,
    /// Of which date.
    pub date: Date,
    /// When it begins.
    pub tip: Timestamp,
    /// What is promised for it.
    pub output: NodeId,
    /// What becomes of that.
    pub fate: Fate,
}

/// Something that is due.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Due {
    /// Whose output.
    pub node: NodeId,
    /// Of which date.
    pub date: Date,
    /// By when.
    pub at: Timestamp,
}

/// The way from the node to a deadline with the least time left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Critical {
    /// The nodes on it, the late one first, each with how long it takes and on what that stands.
    pub legs: Vec<Leg>,
    /// When the last of them is ready if the first comes as expected; at once where nothing is expected.
    pub ready_at: Timestamp,
    /// What it is due by.
    pub due: Due,
    /// How much later the first may be still; negative where the deadline is missed already.
    pub slack: SignedDuration,
}

/// One node on a way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Leg {
    /// Which.
    pub node: NodeId,
    /// Of which date.
    pub date: Date,
    /// How long it takes.
    pub takes: SignedDuration,
    /// How that is known.
    pub known: Known,
}

/// On what a duration stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// It is the median of past game days.
    Usual,
    /// It is the longest that the declaration allows without a word; too few days tell more.
    Declared,
    /// It does no work, or is no work of ours: it is waited for.
    Waited,
}

/// What `id` holds up of the date of `days[0]`, and of the game days after it in `days`, if it never comes.
pub fn impact(graph: &Graph, days: &[Partition], forecast: &Forecast, id: &NodeId, now: Timestamp) -> Option<Impact> {
    let (root, own) = (graph.node(id)?, days.first()?);
    let times = Timetable::of(graph, own);
    let expected = forecast.of(id);
    let is_there = expected.is_some_and(|expected| expected.is_ready);
    let evidence = own.nodes.get(id).map(|facts| &facts.evidence);
    let seen = evidence.and_then(|evidence| evidence.observation.as_ref());
    let mut short: BTreeSet<UnitId> = units::deficits(&times, own, root, Timestamp::MIN).into_keys().collect();
    short.extend(seen.map(|seen| units::playing(&times, seen)).unwrap_or_default());
    let mut found = Impact {
        output: units::extant(&times, own, root),
        short: if is_there { short } else { BTreeSet::new() },
        node: id.clone(),
        date: own.key.date,
        state: if matches!(root.kind, Kind::Gate(_)) { "a join" } else { own.node(id).state.name() },
        is_there,
        expected_at: expected.and_then(|expected| expected.ready_at).filter(|_| !is_there),
        affected: Vec::new(),
        games: Vec::new(),
        deadline: None,
        critical: None,
    };
    if is_there {
        return Some(found);
    }
    let mut walk = Walk { graph, days, forecast, now, fates: BTreeMap::new(), ways: BTreeMap::new() };
    walk.fates.insert((0, id.clone()), Fate::Held);
    let begins = found.expected_at.map_or(now, |at| at.max(now));
    let (takes, known) =
        if found.expected_at.is_some() { (SignedDuration::ZERO, Known::Usual) } else { walk.takes(root) };
    walk.ways.insert((0, id.clone()), Way { ready_at: after(begins, takes), takes, known, via: None });
    for day in 0..days.len() {
        for node in graph.order.iter().filter_map(|id| graph.node(id)) {
            if (day, &node.id) != (0, id)
                && let Some(affected) = walk.look(day, node)
            {
                found.affected.push(affected);
            }
        }
    }
    found.games = walk.games(root);
    let dues = walk.dues();
    found.deadline = dues.iter().map(|(_, due)| due).min_by_key(|due| due.at).cloned();
    found.critical = walk.critical(&dues);
    Some(found)
}

/// A node of one of the days.
type Of = (usize, NodeId);

/// How a node is reached that is held.
struct Way {
    ready_at: Timestamp,
    takes: SignedDuration,
    known: Known,
    via: Option<Of>,
}

struct Walk<'a> {
    graph: &'a Graph,
    days: &'a [Partition],
    forecast: &'a Forecast,
    now: Timestamp,
    fates: BTreeMap<Of, Fate>,
    ways: BTreeMap<Of, Way>,
}

impl Walk<'_> {
    /// What becomes of a node, given what becomes of those it needs.
    fn look(&mut self, day: usize, node: &Node) -> Option<Affected> {
        let partition = &self.days[day];
        let facts = partition.node(&node.id);
        // What is there already, or will not come any more, waits for nobody.
        let is_over = match &facts.state {
            State::Skipped { .. } | State::Exhausted { .. } | State::Expired { .. } | State::Succeeded { .. } => true,
            State::Waiting | State::Dispatched { .. } | State::Running { .. } | State::Failed { .. } => false,
        };
        let is_past = self.graph.pass(node, partition.key.date).is_some_and(|(_, until)| until <= self.now);
        if is_over || is_past || partition.has_no_games(&self.graph.calendar) {
            return None;
        }
        let hits: Vec<(&Dependency, Of, Fate)> = node
            .needs
            .iter()
            .filter_map(|need| {
                let of = match need.offset {
                    Offset::Same => day,
                    Offset::PreviousGameDay => day.checked_sub(1)?,
                };
                let of = (of, need.node.clone());
                let fate = *self.fates.get(&of)?;
                Some((need, of, fate))
            })
            .collect();
        let (first, of, _) = hits.iter().max_by_key(|(need, _, fate)| (*fate, need.strength != Strength::Optional))?;
        let held =
            |(need, _, fate): &&(&Dependency, Of, Fate)| *fate == Fate::Held && need.strength != Strength::Optional;
        let (fate, via, waits) = match &node.kind {
            Kind::Gate(gate) => {
                let missing: BTreeSet<&NodeId> =
                    hits.iter().filter(|(_, _, fate)| *fate == Fate::Held).map(|(need, _, _)| &need.node).collect();
                match opens(node, gate, &missing) {
                    None => (Fate::Held, of, SignedDuration::ZERO),
                    Some(_) if missing.is_empty() => (Fate::OnLess, of, SignedDuration::ZERO),
                    Some(waits) => (Fate::Without, of, waits),
                }
            }
            Kind::Source(_) | Kind::Task(_) => match hits.iter().find(held) {
                Some((_, via, _)) => (Fate::Held, via, SignedDuration::ZERO),
                None => match hits.iter().find(|(_, _, fate)| *fate == Fate::Held) {
                    Some((need, via, _)) => (Fate::Without, via, need.grace),
                    None => (Fate::OnLess, of, SignedDuration::ZERO),
                },
            },
        };
        let via = via.clone();
        let debounce = first.debounce;
        self.fates.insert((day, node.id.clone()), fate);
        if fate == Fate::Held {
            self.reach(day, node, debounce);
        }
        Some(Affected {
            node: node.id.clone(),
            date: partition.key.date,
            phase: node.phase.clone(),
            fate,
            via: via.1,
            waits,
        })
    }

    /// When a held node is ready once those that hold it are.
    fn reach(&mut self, day: usize, node: &Node, debounce: SignedDuration) {
        let before = |need: &Dependency| {
            let of = match need.offset {
                Offset::Same => (day, need.node.clone()),
                Offset::PreviousGameDay => (day.checked_sub(1)?, need.node.clone()),
            };
            let ready_at = self.ways.get(&of)?.ready_at;
            Some((ready_at, of))
        };
        let Some((since, via)) = node.needs.iter().filter_map(before).max() else { return };
        let from = self.graph.pass(node, self.days[day].key.date).map_or(since, |(from, _)| from);
        let (takes, known) = self.takes(node);
        let ready_at = after(after(since, debounce).max(from), takes);
        self.ways.insert((day, node.id.clone()), Way { ready_at, takes, known, via: Some(via) });
    }

    /// How long a node takes, and how that is known.
    fn takes(&self, node: &Node) -> (SignedDuration, Known) {
        let usual = self.forecast.of(&node.id).and_then(|expected| expected.basis);
        match (&node.kind, usual) {
            (Kind::Task(_), Some(Basis::Duration(usual))) => (usual.median, Known::Usual),
            (Kind::Task(_), _) => (node.liveness.duration_max, Known::Declared),
            (Kind::Source(_) | Kind::Gate(_), _) => (SignedDuration::ZERO, Known::Waited),
        }
    }

    /// The games ahead for which something is promised that is concerned.
    fn games(&self, root: &Node) -> Vec<GameHit> {
        let mut found: BTreeMap<(Timestamp, UnitId), GameHit> = BTreeMap::new();
        for (day, partition) in self.days.iter().enumerate() {
            let times = Timetable::of(self.graph, partition);
            let short = units::deficits(&times, partition, root, Timestamp::MIN);
            // What is there of it in part holds up only the games that are short of it.
            let is_part = day == 0 && units::extant(&times, partition, root) != Extant::Nothing && !short.is_empty();
            for (unit, game) in &times.games {
                let Some(tip) = game.tip.filter(|tip| *tip > self.now) else { continue };
                if is_part && !short.contains_key(unit) {
                    continue;
                }
                for (node, fate) in self.promised(day) {
                    let hit =
                        GameHit { game: unit.clone(), date: partition.key.date, tip, output: node.id.clone(), fate };
                    let worst = found.entry((tip, unit.clone())).or_insert_with(|| hit.clone());
                    if worst.fate < fate {
                        *worst = hit;
                    }
                }
            }
        }
        found.into_values().collect()
    }

    /// The outputs of a day that are promised before tip-off and concerned.
    fn promised(&self, day: usize) -> impl Iterator<Item = (&Node, Fate)> {
        let nodes = self.graph.nodes.values().filter(|node| node.expects.alert_before_tip.is_some());
        nodes.filter_map(move |node| Some((node, *self.fates.get(&(day, node.id.clone()))?)))
    }

    /// What of the held is due, and by when: the next deadline of what is promised for a game, the first tip-off for what is
    /// of no use after it, the end of its pass.
    fn dues(&self) -> Vec<(Of, Due)> {
        let mut dues = Vec::new();
        for (day, id) in self.fates.iter().filter(|(_, fate)| **fate == Fate::Held).map(|(of, _)| of) {
            let Some(node) = self.graph.node(id).filter(|node| node.task().is_some()) else { continue };
            let partition = &self.days[*day];
            let times = Timetable::of(self.graph, partition);
            let tips = times.games.values().filter_map(|game| game.tip);
            let lead = node.expects.alert_before_tip;
            let ahead = |at: &Timestamp| *at > self.now;
            let deadlines = lead.map(|lead| tips.map(|tip| after(tip, -lead)).filter(ahead).min()).unwrap_or_default();
            let first_tip = times.anchored(&[Anchor::FirstTip(SignedDuration::ZERO)]);
            let first_tip = first_tip.filter(|_| node.expects.before_tip);
            let over = self.graph.pass(node, partition.key.date).map(|(_, until)| until);
            let at = [deadlines, first_tip.filter(ahead), over.filter(ahead)].into_iter().flatten().min();
            if let Some(at) = at {
                dues.push(((*day, id.clone()), Due { node: id.clone(), date: partition.key.date, at }));
            }
        }
        dues
    }

    fn critical(&self, dues: &[(Of, Due)]) -> Option<Critical> {
        let slack = |(of, due): &&(Of, Due)| Some((due.at.duration_since(self.ways.get(of)?.ready_at), of.clone()));
        let (of, due) = dues.iter().filter(|due| slack(due).is_some()).min_by_key(slack)?;
        let mut legs = Vec::new();
        let mut next = Some(of.clone());
        while let Some(at) = next {
            let way = self.ways.get(&at)?;
            let (node, date) = (at.1.clone(), self.days[at.0].key.date);
            legs.push(Leg { node, date, takes: way.takes, known: way.known });
            next = way.via.clone();
        }
        legs.reverse();
        let ready_at = self.ways.get(of)?.ready_at;
        Some(Critical { legs, ready_at, due: due.clone(), slack: due.at.duration_since(ready_at) })
    }
}

/// How long a join waits before it opens without some of its members; nothing where it never does.
fn opens(node: &Node, gate: &Gate, missing: &BTreeSet<&NodeId>) -> Option<SignedDuration> {
    if missing.iter().any(|id| gate.critical.contains(*id)) {
        return None;
    }
    let there = u32::try_from(node.needs.len().saturating_sub(missing.len())).unwrap_or(u32::MAX);
    gate.quorum.iter().filter(|tier| tier.count <= there).map(|tier| tier.after).min()
}
