//! A run that beats while its progress stands still: asked to close, then over with what it has done.
//!
//! A batch in which a few players can never be predicted would otherwise run for ever, and hold up what waits for the others.

use super::super::coverage::Coverage;
use super::super::effect::{Cause, Dispatch, Effect, Manifest, Severity};
use super::super::event::RunWord;
use super::super::evidence::{Claim, Extant, Extent};
use super::super::graph::{Node, Stall};
use super::super::id::RunId;
use super::super::partition::{End, FailureKind, Node as Facts, Partition, Run, State, end};
use super::super::time::after;
use super::{Walk, clock};

impl Walk<'_> {
    /// Closes runs that do not come on, and ends those that nobody closes.
    pub(super) fn stalled(&mut self, partition: &mut Partition, node: &Node) {
        let Some(stall) = node.liveness.stall else { return };
        self.supersede(partition, node, stall);
        let facts = partition.node(&node.id);
        let standing: Vec<(RunId, Run)> = facts.runs.clone().into_iter().filter(|(_, run)| counts(run)).collect();
        let mut words = Vec::new();
        for (id, run) in standing {
            let close_at = after(run.progressed_at, stall.close_after);
            let over_at = after(run.progressed_at, stall.over_after);
            let is_finalized = run.is_said(RunWord::Finalize);
            if !is_finalized && !self.now.silent_until(close_at) {
                self.wake.at(close_at);
                continue;
            }
            let over_at = match (&run.word, run.closing_at) {
                (Some(word), Some(asked_at)) if is_finalized && asked_at < word.at => self.now.at,
                // It is left as long to close it as it has at the threshold.
                (_, asked_at) if is_finalized => {
                    after(asked_at.unwrap_or(self.now.at), stall.over_after.saturating_sub(stall.close_after))
                }
                _ => over_at,
            };
            if self.now.silent_until(over_at) || is_finalized && self.now.reached(over_at) {
                self.end_stalled(partition, node, &id, &run);
                continue;
            }
            self.wake.at(over_at);
            if run.closing_at.is_none() {
                self.close(partition, node, &id);
            }
            let (done, total) = run.progress;
            words.push(format!("{id} at {done} of {total} since {}", clock(run.progressed_at)));
        }
        if !words.is_empty() {
            let text = format!(
                "{} beats and does not come on: {}; it has been asked to close, and is over with what it has {} after that",
                node.id,
                words.join(", "),
                super::minutes(stall.over_after)
            );
            self.condition("stalled", node, partition, Severity::Warning, text);
            self.done("stalled", node, partition, "its processor was asked once to close it");
        }
    }

    /// A run that has stopped coming on makes way for one that began since.
    fn supersede(&mut self, partition: &mut Partition, node: &Node, stall: Stall) {
        let facts = partition.node_mut(&node.id);
        let Some((newest, first)) = facts.runs.iter().max_by_key(|(_, run)| run.first).map(|(id, run)| (id, run.first))
        else {
            return;
        };
        let is_over = |run: &Run| counts(run) && self.now.silent_until(after(run.progressed_at, stall.close_after));
        let gone: Vec<RunId> = facts
            .runs
            .iter()
            .filter(|(id, run)| *id != newest && run.progressed_at < first && is_over(run))
            .map(|(id, _)| id.clone())
            .collect();
        for run in gone {
            facts.runs.remove(&run);
            end(facts, &run, self.now.at, End::Superseded);
        }
    }

    fn close(&mut self, partition: &mut Partition, node: &Node, run: &RunId) {
        let key = partition.key.clone();
        let facts = partition.node_mut(&node.id);
        if let Some(run) = facts.runs.get_mut(run) {
            run.closing_at = Some(self.now.at);
        }
        let manifest = Manifest {
            cycle: node.cycle.clone(),
            attempt: facts.attempt,
            cause: Cause::Stalled,
            inputs: Vec::new(),
            degraded: false,
            missing: Default::default(),
            waived: Default::default(),
            fenced: None,
            correlation: None,
            closes: Some(run.clone()),
            units: Default::default(),
            trace: None,
            links: Vec::new(),
        };
        let id = facts.attempt.dispatch_id(&key, &node.id).to_close(run);
        let (node, decided_at) = (node.id.clone(), self.now.at);
        self.effects.push(Effect::Close(Dispatch { id, key, node, decided_at, manifest }));
    }

    /// Ends a run that nobody has closed: with what it has done, where that is enough to go on with; else it is dead, and its
    /// node is tried again.
    fn end_stalled(&mut self, partition: &mut Partition, node: &Node, id: &RunId, run: &Run) {
        let required = self.times.graph.required_of(&node.id);
        let facts = partition.node_mut(&node.id);
        facts.runs.remove(id);
        let units = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let share = Coverage::new(units(run.progress.0), units(run.progress.1));
        let enough = share.filter(|share| Extant::Known(*share).reaches(required) == Some(true) && run.progress.0 > 0);
        let Some(share) = enough else {
            end(facts, id, self.now.at, End::Fenced);
            self.effects.push(Effect::ReleaseLock { node: node.id.clone(), run: id.clone() });
            let text =
                format!("it stood at {} of {} from {} on", run.progress.0, run.progress.1, clock(run.progressed_at));
            self.fail(facts, (Some(id.clone()), Some(run.first)), FailureKind::Silent, text);
            return;
        };
        end(facts, id, self.now.at, End::Done);
        let claim = Claim {
            run: id.clone(),
            published: self.now.at,
            records: None,
            extent: Extent::Share(share),
            correlation: None,
            trace: None,
        };
        let news = facts.evidence.claim(claim);
        succeed(facts, self.now.at, news);
    }
}

/// Whether a run says how far it has come, and has not said goodbye.
fn counts(run: &Run) -> bool {
    run.progress.1 > 0 && !run.ended_unreported
}

fn succeed(facts: &mut Facts, at: jiff::Timestamp, news: bool) {
    let State::Running { inputs_at, .. } = facts.state else { return };
    if facts.runs.is_empty() {
        facts.state = State::Succeeded { at };
        facts.failure = None;
        if news {
            facts.built_from = Some(inputs_at.min(at));
        }
    }
}
