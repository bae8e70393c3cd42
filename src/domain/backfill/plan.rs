//! Which nodes are asked again for which dates, in which order, how long that may take, and what cannot be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::forecast::History;
use super::super::graph::{Graph, Kind, Offset};
use super::super::id::{NodeId, PipelineId, PlanId};

/// Outputs of one plan. A season of twenty-one outputs a day has 3,500; a plan has to fit into one document.
pub const ITEMS_MAX: usize = 4_000;
/// What was said about a plan is kept up to so many times; the first is how it came about.
const SAID_MAX: usize = 64;

/// A plan, with what has come of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub id: PlanId,
    /// Whose dates.
    pub pipeline: PipelineId,
    /// When it was made.
    pub made_at: Timestamp,
    /// Whether it may be carried out.
    pub status: Status,
    /// The service fills it by itself with what recent dates lack.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// What is made of what was missing is made again as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cascade: bool,
    /// What is to be done, in the order in which it is.
    pub items: Vec<Item>,
    /// What cannot be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// How long it may take, as it was estimated when it was made.
    #[serde(default)]
    pub estimate: Estimate,
    /// Who did what with it, and why.
    pub said: Vec<Said>,
    /// When recent dates were last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The game days without a break on which each output was missing then, or had been until it came again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streaks: BTreeMap<NodeId, BTreeSet<Date>>,
}

/// Whether a plan may be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for somebody to say so.
    Proposed,
    /// It is.
    Running,
    /// Nothing is left to do.
    Over,
    /// Somebody has ended it; what was asked for goes on to its end.
    Cancelled,
}

/// One node to be asked for one date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Which node.
    pub node: NodeId,
    /// For which date.
    pub date: Date,
    /// The outputs that are missing, which it brings: its own, or those of nodes that nobody can ask.
    pub fills: BTreeSet<NodeId>,
    /// Nothing of it is missing: it is made again because what it is made of is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// What has come of it.
    #[serde(flatten)]
    pub state: ItemState,
    /// How often it was begun, or not started, as its date counts.
    #[serde(default)]
    pub attempts: u32,
}

/// What has come of an item.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ItemState {
    /// It is still to be asked for.
    #[default]
    Waiting,
    /// The same, and not before an instant.
    Resting {
        /// When it is looked at again.
        until: Timestamp,
        /// Why it was not asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Arc<str>>,
    },
    /// It has been asked for.
    Asked {
        /// When.
        at: Timestamp,
    },
    /// What was missing is there.
    Done {
        /// Since when that is known.
        at: Timestamp,
    },
    /// It will not be asked for again within this plan.
    Failed {
        /// When that was decided.
        at: Timestamp,
        /// Why.
        why: Arc<str>,
    },
}

impl ItemState {
    /// Whether nothing more happens to it.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

/// A node that is not asked although it has gaps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Which node.
    pub node: NodeId,
    /// For how many dates,
    pub days: u32,
    /// of which this is the first
    pub from: Date,
    /// and this the last.
    pub until: Date,
    /// Why.
    pub why: Arc<str>,
}

/// Who did what with a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Arc<str>,
    /// What, and why.
    pub text: Arc<str>,
}

/// How long a plan may take where nothing fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// All runs after each other.
    pub work: SignedDuration,
    /// As many at once as may be.
    pub takes: SignedDuration,
    /// Items whose usual duration is known from past days; the others are counted with the longest they may take.
    pub known: u32,
}

/// What a plan is made of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Draft {
    /// In the order in which they are to be done.
    pub items: Vec<Item>,
    /// What cannot be done.
    pub refused: Vec<Refused>,
}

impl Plan {
    /// A new plan of `draft`.
    pub fn new(id: PlanId, pipeline: PipelineId, at: Timestamp, draft: Draft, said: Said) -> Self {
        Self {
            id,
            pipeline,
            made_at: at,
            status: Status::Proposed,
            automatic: false,
            cascade: false,
            items: draft.items,
            refused: draft.refused,
            estimate: Estimate::default(),
            said: vec![said],
            looked_at: None,
            streaks: BTreeMap::new(),
        }
    }

    /// Notes who did what; the oldest notes but the first make room.
    pub fn say(&mut self, said: Said) {
        if self.said.len() >= SAID_MAX {
            self.said.remove(1);
        }
        self.said.push(said);
    }
}

/// What is to be asked for so that `missing` comes: sources before tasks, the oldest date first, and on one date what others
/// need before those who need it. With `cascade` whatever is made of it on the same `game_days`, and by an edge to the
/// previous game day on the next, is made again after it, each node once for a date.
pub fn draft(
    graph: &Graph,
    missing: &BTreeMap<NodeId, BTreeSet<Date>>,
    game_days: &BTreeSet<Date>,
    cascade: bool,
) -> Draft {
    let mut items: BTreeMap<(Date, NodeId), (BTreeSet<NodeId>, bool)> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (node, dates) in missing {
        for date in dates {
            match roads(graph, node) {
                Ok(asked) => {
                    for asked in asked {
                        items.entry((*date, asked)).or_default().0.insert(node.clone());
                    }
                }
                Err(why) => refuse(&mut refused, node, *date, why),
            }
        }
    }
    if cascade {
        let mut changed: Vec<(Date, NodeId)> =
            missing.iter().flat_map(|(node, dates)| dates.iter().map(|date| (*date, node.clone()))).collect();
        let mut seen: BTreeSet<(Date, NodeId)> = changed.iter().cloned().collect();
        while let Some((date, node)) = changed.pop() {
            for (dependent, offset) in graph.dependents(&node) {
                let date = match offset {
                    Offset::Same => Some(date),
                    Offset::PreviousGameDay => game_days.range(date..).find(|next| **next > date).copied(),
                };
                let Some(date) = date else { continue };
                let dependent = graph.family(dependent).last().unwrap_or(dependent).clone();
                if !seen.insert((date, dependent.clone())) {
                    continue;
                }
                let Some(found) = graph.node(&dependent) else { continue };
                if found.task().is_some() {
                    match graph.backfill.refusal(&dependent) {
                        // What is not made again changes nothing for others.
                        Some(why) => {
                            refuse(&mut refused, &dependent, date, why.clone());
                            continue;
                        }
                        None => {
                            let (_, follows) = items.entry((date, dependent.clone())).or_default();
                            *follows = true;
                        }
                    }
                }
                changed.push((date, dependent));
            }
        }
    }
    let item = |((date, node), (fills, follows)): ((Date, NodeId), (BTreeSet<NodeId>, bool))| {
        let follows = follows && fills.is_empty();
        Item { node, date, fills, follows, state: ItemState::Waiting, attempts: 0 }
    };
    let mut items: Vec<Item> = items.into_iter().map(item).collect();
    items.sort_by_cached_key(|item| (is_task(graph, &item.node), item.date, rank(graph, &item.node)));
    Draft { items, refused: refused.into_values().collect() }
}

/// Puts the latest dates first: what readers wait for is filled before what only the record lacks.
pub(super) fn latest_first(graph: &Graph, items: &mut [Item]) {
    items.sort_by_cached_key(|item| (std::cmp::Reverse(item.date), rank(graph, &item.node)));
}

fn refuse(refused: &mut BTreeMap<(NodeId, Arc<str>), Refused>, node: &NodeId, date: Date, why: Arc<str>) {
    let key = (node.clone(), why.clone());
    let new = || Refused { node: node.clone(), days: 0, from: date, until: date, why };
    let refused = refused.entry(key).or_insert_with(new);
    refused.days += 1;
    (refused.from, refused.until) = (refused.from.min(date), refused.until.max(date));
}

/// Who is asked so that the output of `node` comes: itself, or who feeds it where nobody can ask it.
fn roads(graph: &Graph, node: &NodeId) -> Result<Vec<NodeId>, Arc<str>> {
    if let Some(why) = graph.backfill.refusal(node) {
        return Err(why.clone());
    }
    let Some(found) = graph.node(node) else { return Err("the pipeline has no such node any more".into()) };
    if found.dispatchable().is_some() {
        return Ok(vec![node.clone()]);
    }
    let feeders = found.needs.iter().filter(|need| need.offset == Offset::Same).map(|need| &need.node);
    let is_source = |id: &&NodeId| graph.node(id).is_some_and(|node| matches!(node.kind, Kind::Source(_)));
    let asked: BTreeSet<NodeId> = feeders.filter(is_source).filter_map(|id| roads(graph, id).ok()).flatten().collect();
    if asked.is_empty() {
        return Err("it has no road: neither its producer nor who feeds it can be asked".into());
    }
    Ok(asked.into_iter().collect())
}

fn is_task(graph: &Graph, node: &NodeId) -> bool {
    graph.node(node).is_some_and(|node| node.task().is_some())
}

fn rank(graph: &Graph, node: &NodeId) -> usize {
    graph.order.iter().position(|id| id == node).unwrap_or(usize::MAX)
}

/// How long `items` may take, by how long their nodes took on past days.
pub fn estimate(graph: &Graph, items: &[Item], history: &History) -> Estimate {
    let mut estimate = Estimate::default();
    let mut longest = SignedDuration::ZERO;
    for item in items.iter().filter(|item| !item.state.is_settled()) {
        let usual = history.duration(&item.node).map(|usual| usual.median);
        estimate.known += u32::from(usual.is_some());
        let most = graph.node(&item.node).map(|node| node.liveness.duration_max);
        let takes = usual.or(most).unwrap_or(SignedDuration::ZERO);
        estimate.work = estimate.work.saturating_add(takes);
        longest = longest.max(takes);
    }
    let lanes = i32::try_from(graph.backfill.limits.at_once.max(1)).unwrap_or(i32::MAX);
    estimate.takes = (estimate.work / lanes).max(longest);
    estimate
}
