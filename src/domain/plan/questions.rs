//! What the warehouse is asked, and when: only what stands in somebody's way, and not more often than helps.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::super::effect::Effect;
use super::super::graph::Node;
use super::super::id::NodeId;
use super::super::partition::Partition;
use super::super::readiness::{self, Blocker, Readiness};
use super::super::time::after;
use super::Walk;

/// How often a completion is checked against a warehouse that has less: rows show up within a minute of their writing.
const VERIFY_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// How long the warehouse may take to answer before something is said without it.
const ANSWER_WITHIN: SignedDuration = SignedDuration::from_mins(2);

impl Walk<'_> {
    /// Asks the warehouse about a run that said goodbye and reported nothing: only the rows can tell.
    pub(super) fn inquire(&mut self, partition: &mut Partition, node: &Node) {
        let unreported = partition.node(&node.id).runs.values().any(|run| run.ended_unreported);
        if unreported && node.probed {
            self.observe(partition, partition.key.date, node.id.clone());
        }
    }

    /// Asks the warehouse about a source whose producer says that it had nothing, or nothing to do, or not how much it
    /// stored: many producers never fill in a count.
    pub(super) fn doubt(&mut self, partition: &mut Partition, node: &Node) {
        let facts = partition.node(&node.id);
        let failed = facts.failure.as_ref().filter(|failure| failure.kind.is_doubtful()).map(|failure| failure.at);
        let claim = facts.evidence.claim.as_ref();
        let claimed = claim.filter(|claim| claim.records.unwrap_or(0) == 0).map(|claim| claim.published);
        match failed.max(claimed) {
            Some(since) if self.now.reached(since) => self.observe_since(partition, node, since),
            Some(since) => self.wake.at(since),
            None => {}
        }
    }

    /// Asks about one output, once per interval.
    pub(super) fn observe(&mut self, partition: &mut Partition, date: Date, node: NodeId) {
        self.observe_every(partition, date, node, self.times.graph.limits.observe_every);
    }

    fn observe_every(&mut self, partition: &mut Partition, date: Date, node: NodeId, every: SignedDuration) {
        let today = date == partition.key.date;
        let book = if today { &mut partition.asked } else { &mut partition.asked_upstream };
        match book.get(&node).map(|at| after(*at, every)) {
            Some(due) if !self.now.reached(due) => self.wake.at(due),
            Some(_) | None => {
                book.insert(node.clone(), self.now.at);
                self.wake.at(after(self.now.at, every));
                self.effects.push(Effect::Observe { date, node });
            }
        }
    }

    /// Asks about an output of this date unless that has been done since `instant`, which has come.
    pub(super) fn observe_since(&mut self, partition: &mut Partition, node: &Node, instant: Timestamp) {
        if node.probed && partition.asked.get(&node.id).is_none_or(|asked| *asked < instant) {
            partition.asked.insert(node.id.clone(), self.now.at);
            self.effects.push(Effect::Observe { date: partition.key.date, node: node.id.clone() });
        }
    }

    /// Asks about an output of this date once since `instant`. Whether the answer may still come.
    pub(super) fn answer_may_come(&mut self, partition: &mut Partition, node: &Node, instant: Timestamp) -> bool {
        if !node.probed {
            return false;
        }
        self.observe_since(partition, node, instant);
        let seen = partition.nodes.get(&node.id).and_then(|facts| facts.evidence.observation.as_ref());
        let until = partition.asked.get(&node.id).map(|asked| after(*asked, ANSWER_WITHIN));
        let waits = seen.is_none_or(|seen| seen.at < instant) && until.is_some_and(|until| !self.now.reached(until));
        if waits && let Some(until) = until {
            self.wake.at(until);
        }
        waits
    }

    /// Asks whether what a completion reports is there: at once, and every minute for as long as less is; once per interval
    /// where the warehouse could not tell in time, for it may still say that nothing is there.
    pub(super) fn verify(&mut self, partition: &mut Partition, node: &Node) {
        let Some(until) = readiness::unverified(partition, node, self.now) else {
            let over = self.times.pass(node).is_some_and(|(_, until)| self.now.reached(until));
            if !node.expects.verify.is_zero() && !over && partition.node(&node.id).evidence.is_unanswered() {
                self.observe(partition, partition.key.date, node.id.clone());
            }
            return;
        };
        self.wake.at(until);
        let claimed = partition.node(&node.id).evidence.claim.as_ref().map(|claim| claim.published);
        let Some(claimed) = claimed else { return };
        if !self.now.reached(claimed) {
            // The broker's clock is ahead of ours.
            self.wake.at(claimed);
        } else if partition.asked.get(&node.id).is_none_or(|asked| *asked < claimed) {
            self.observe_since(partition, node, claimed);
            self.wake.at(after(self.now.at, VERIFY_EVERY));
        } else {
            self.observe_every(partition, partition.key.date, node.id.clone(), VERIFY_EVERY);
        }
    }

    /// Asks the warehouse about what stands in the way, once per interval and only where something is under way.
    pub(super) fn ask(&mut self, partition: &mut Partition, node: &Node, readiness: &Readiness, blockers: &[Blocker]) {
        let troubled = partition.node(&node.id).failure.is_some();
        let over = blockers.iter().any(|blocker| matches!(blocker, Blocker::Over { .. } | Blocker::NoGames));
        let early = blockers.iter().any(|blocker| matches!(blocker, Blocker::NotYet { .. }));
        if over || !(readiness.engaged || troubled) || (early && !troubled) {
            return;
        }
        let mut askable = if readiness.blockers.is_empty() { Default::default() } else { readiness.askable.clone() };
        if troubled && node.probed {
            askable.insert((partition.key.date, node.id.clone()));
        }
        for (date, asked) in askable {
            self.observe(partition, date, asked);
        }
    }

    /// Has the checks of a node answered that has nothing else in its way: anew for newer inputs, and once per interval while
    /// the answer stops it.
    pub(super) fn check(&mut self, partition: &mut Partition, node: &Node, blockers: &[Blocker]) {
        for blocker in blockers {
            let (Blocker::CheckPending { check }
            | Blocker::CheckFailed { check, .. }
            | Blocker::CheckUnanswered { check }) = blocker
            else {
                continue;
            };
            let asked = &mut partition.node_mut(&node.id).asked_checks;
            let due = asked.get(check).map(|at| after(*at, self.times.graph.limits.observe_every));
            // An answer that is older than the inputs is no answer, however lately it was given.
            let outdated = matches!(blocker, Blocker::CheckPending { .. })
                && partition.nodes.get(&node.id).is_some_and(|facts| {
                    facts.checks.get(check).is_some_and(|taken| facts.asked_checks.get(check) <= Some(&taken.at))
                });
            match due {
                Some(due) if !self.now.reached(due) && !outdated => self.wake.at(due),
                Some(_) | None => {
                    partition.node_mut(&node.id).asked_checks.insert(check.clone(), self.now.at);
                    self.wake.at(after(self.now.at, self.times.graph.limits.observe_every));
                    self.effects.push(Effect::Check { node: node.id.clone(), check: check.clone() });
                }
            }
        }
    }
}
