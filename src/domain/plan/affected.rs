//! Which games a run is about, where it is not about all.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::calendar::has_begun;
use super::super::effect::Cause;
use super::super::event::Game;
use super::super::evidence::Extant;
use super::super::graph::{Kind, Node, Offset, Refresh, Unit};
use super::super::id::UnitId;
use super::super::partition::{End, Partition};
use super::super::units;
use super::Walk;

/// How an output falls short.
pub(super) enum Shortage {
    /// Less is there than its dependents ask for.
    InSum,
    /// These games are short of it, whatever the rest.
    Of(BTreeSet<UnitId>),
}

impl Walk<'_> {
    /// How the output of a task that has run falls short, if it does.
    pub(super) fn shortage(&self, partition: &Partition, node: &Node) -> Option<Shortage> {
        let evidence = &partition.nodes.get(&node.id)?.evidence;
        if node.expects.before_tip && evidence.extant() != Extant::Nothing {
            let short = units::deficits(self.times, partition, node, self.now.at);
            if !short.is_empty() {
                return Some(Shortage::Of(short.into_keys().collect()));
            }
        }
        let extant = units::extant(self.times, partition, node);
        let counted = evidence.observation.is_some() || extant != evidence.extant();
        let short = counted && extant.reaches(self.times.graph.required_of(&node.id)) == Some(false);
        short.then_some(Shortage::InSum)
    }

    /// Games that a dispatch is about, where it is not about all: those that are short, or those that have not begun.
    pub(super) fn affected(
        &self,
        partition: &Partition,
        node: &Node,
        cause: Cause,
        shortage: Option<Shortage>,
    ) -> BTreeSet<UnitId> {
        match (cause, shortage) {
            (Cause::CoverageShort, Some(Shortage::Of(games))) => games,
            (Cause::InputsNewer | Cause::CoverageShort, _) if node.expects.before_tip => {
                let games = &self.times.games;
                let ahead = |game: &Game| !has_begun(game, self.now.at);
                if games.values().all(ahead) {
                    return BTreeSet::new();
                }
                games.iter().filter(|(_, game)| ahead(game)).map(|(unit, _)| unit.clone()).collect()
            }
            (Cause::InputsNewer, _) => self.renewed(partition, node).unwrap_or_default(),
            _ => BTreeSet::new(),
        }
    }

    /// The games that have come into the inputs of `node` since it was built; nothing where other games may have changed.
    fn renewed(&self, partition: &Partition, node: &Node) -> Option<BTreeSet<UnitId>> {
        let built = partition.nodes.get(&node.id)?.built_from.filter(|_| node.expects.unit == Unit::Game)?;
        self.came_since(partition, node, node, built)
    }

    /// The games that have come into the inputs of `through` since `built`, as far as `node` goes.
    fn came_since(
        &self,
        partition: &Partition,
        node: &Node,
        through: &Node,
        built: Timestamp,
    ) -> Option<BTreeSet<UnitId>> {
        let mut games = BTreeSet::new();
        for need in through.needs.iter().filter(|need| need.refresh == Refresh::Always) {
            let upstream = self.times.graph.node(&need.node)?;
            let is_newer = self.standings.get(&upstream.id).is_some_and(|standing| standing.since > Some(built));
            if need.offset != Offset::Same {
                let newer = partition.upstream.get(&upstream.id).is_some_and(|upstream| upstream.since > built);
                if newer {
                    return None;
                }
                continue;
            }
            if !is_newer {
                continue;
            }
            let facts = partition.node(&upstream.id);
            games.extend(match &upstream.kind {
                Kind::Gate(_) => self.came_since(partition, node, upstream, built)?,
                // What was made before is made again for what has come into its own inputs.
                Kind::Task(_) => {
                    let before = facts.ended.values().any(|ended| ended.how == End::Done && ended.at <= built);
                    let games = before.then(|| self.came_since(partition, node, upstream, built))??;
                    Some(games).filter(|games| !games.is_empty())?
                }
                Kind::Source(_) => units::came_since(self.times, partition, (upstream, node), built)?,
            });
        }
        Some(games)
    }
}
