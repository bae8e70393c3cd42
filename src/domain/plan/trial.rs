//! Who of a silent phase is tried, and what the others wait for.
//!
//! Who that is may be known only when the whole graph has been walked: the walk itself may end a silence, or give up the one
//! whose turn it is. So those before stand back, and the graph is walked once more.

use super::super::effect::Cause;
use super::super::graph::Node;
use super::super::id::NodeId;
use super::super::partition::Partition;
use super::super::readiness::Blocker;
use super::super::silence;
use super::{Verdict, Walk};

impl Walk<'_> {
    /// Whether anybody waits for the end of a silence: the walk itself may have ended it since. So does whoever stood back for
    /// another reason before the one that is tried was found.
    pub(super) fn has_silenced(&self) -> bool {
        let waits = |blocker: &Blocker| matches!(blocker, Blocker::PhaseSilent { .. });
        let is_silent =
            |id: &NodeId| self.times.graph.node(id).is_some_and(|node| self.silent.contains_key(&*node.phase));
        self.verdicts.iter().any(|(id, verdict)| {
            let stood_back = verdict.want == Some(Cause::NotStarted) && !verdict.blockers.is_empty() && is_silent(id);
            stood_back || verdict.blockers.iter().any(waits)
        })
    }

    /// The second walk: with what the first has made of each silence, and with who is tried in it.
    pub(super) fn once_more(&mut self, partition: &mut Partition) {
        self.may_try_others = false;
        self.conditions.clear();
        self.closings.clear();
        self.off_day.clear();
        self.late.clear();
        self.choose();
        let asked = |(_, verdict): &(&NodeId, &Verdict)| verdict.want.is_some() && verdict.blockers.is_empty();
        let asked: Vec<(NodeId, Verdict)> =
            self.verdicts.iter().filter(asked).map(|(id, verdict)| (id.clone(), verdict.clone())).collect();
        self.nodes(partition);
        // To the second walk they are at work: why they were asked the first one knows.
        self.verdicts.extend(asked);
        self.silent = silence::phases(self.times, partition, self.now, &mut self.wake);
    }

    /// Says who is tried in a phase in which the first walk has not come to the one whose turn it is before others: of those that
    /// only wait for it the one that was asked longest ago.
    fn choose(&mut self) {
        let verdicts = &self.verdicts;
        let is_free = |id: &NodeId| {
            let only_waits = |verdict: &Verdict| {
                verdict.want == Some(Cause::NotStarted)
                    && verdict.blockers.iter().all(|blocker| matches!(blocker, Blocker::PhaseSilent { .. }))
            };
            verdicts.get(id).is_some_and(only_waits)
        };
        for silent in self.silent.values_mut().filter(|silent| silent.untried) {
            if let Some(next) = silent.turns.iter().find(|id| is_free(id)) {
                (silent.probe, silent.untried) = (Some(next.clone()), false);
            }
        }
    }

    /// In a phase where nobody shows a sign of life only one is asked again: of those that nothing else stands in the way of
    /// the one whose turn it is; where that may not, the first that may.
    pub(super) fn untried(&mut self, node: &Node, cause: Cause, is_free: bool) -> Option<Blocker> {
        let silent =
            self.silent.get_mut(&*node.phase).filter(|_| cause == Cause::NotStarted && node.task().is_some())?;
        if silent.untried {
            if !is_free {
                return None;
            }
            // Whom the walk has passed may not, or it would have been tried; the second walk has passed everybody.
            let turn = silent.turns.iter().find(|id| !self.verdicts.contains_key(*id));
            if turn.is_none_or(|id| *id == node.id) {
                silent.untried = false;
                silent.probe = Some(node.id.clone());
                return None;
            }
        }
        let waits = silent.probe.as_ref() != Some(&node.id);
        waits.then(|| Blocker::PhaseSilent {
            phase: silent.phase.clone(),
            since: silent.since,
            probe: silent.probe.clone(),
            until: silent.again_at,
        })
    }
}
