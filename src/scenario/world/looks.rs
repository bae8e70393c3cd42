//! What is seen of a story: what has moved, was sent and told, and how it stands.

use jiff::Timestamp;
use jiff::civil::Date;

use super::{RunError, World};
use crate::domain::backfill::{Item, ItemState};
use crate::domain::effect::Turn;
use crate::domain::id::{NodeId, PartitionKey, PipelineId};
use crate::domain::time::Now;
use crate::domain::view::{PartitionView, view};
use crate::engine::dead_letter::{self, Selection};
use crate::port::LETTERS_MAX;
use crate::scenario::faults::locked;
use crate::scenario::seen::{Entry, What};

impl World<'_> {
    /// The ledger, at the end.
    pub(super) async fn letters(&self) -> Result<Vec<dead_letter::Seen>, RunError> {
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let all = Selection { all: true, ..Selection::default() };
        let board = engine.dead_letters(&all, (None, LETTERS_MAX), 0).await;
        Ok(board.map_err(|error| RunError::File(error.to_string()))?.letters)
    }

    /// Notes what has happened since the last look, and answers new dispatches.
    pub(super) async fn look(&mut self, at: Timestamp) -> Result<(), RunError> {
        loop {
            let entries = self.store.journal(None, self.journaled, 500).await?;
            let Some(last) = entries.last() else { break };
            self.journaled = last.seq;
            for entry in entries {
                self.watched.insert(entry.key.clone());
                for (node, from, to) in entry.moved {
                    let what = What::Moved { partition: entry.key.clone(), node, from, to };
                    self.seen.entries.push(Entry { at, what });
                }
            }
        }
        let alerts: Vec<_> = std::mem::take(&mut *locked(&self.faults.alerts));
        if let Some(engine) = self.engine.as_ref().filter(|_| !alerts.is_empty()) {
            engine.notifier.wake();
        }
        let told: Vec<_> = std::mem::take(&mut *locked(&self.faults.told));
        for (at, channel, notice) in told {
            self.seen.entries.push(Entry { at, what: What::Told { channel, notice } });
        }
        for (at, alert) in alerts {
            // An end without a beginning is nobody's news.
            match alert.turn {
                Turn::Resolved if !self.on.remove(&alert.key) => continue,
                Turn::Resolved => {}
                Turn::Raised => {
                    self.on.insert(alert.key.clone());
                }
            }
            let what = What::Alert { key: alert.key, severity: alert.severity, turn: alert.turn, text: alert.text };
            self.seen.entries.push(Entry { at, what });
        }
        let sent: Vec<_> = std::mem::take(&mut *locked(&self.faults.sent));
        for (at, sent) in sent {
            if self.answered.insert(sent.dispatch.clone()) {
                self.answer(&sent, at)?;
            }
            self.seen.entries.push(Entry { at, what: What::Sent(sent) });
        }
        Ok(())
    }

    pub(super) async fn check(&mut self, index: usize, at: Timestamp) -> Result<(), RunError> {
        let wanted = self.scenario.expect.get(index).map(|wanted| &wanted.value);
        if let Some(wanted) = wanted.and_then(|wanted| wanted.gaps.as_ref()) {
            if let (Some(engine), Some(declared)) = (&self.engine, self.declarations.pipelines.get(&wanted.pipeline)) {
                let (span, only) = ((wanted.from, wanted.until), [wanted.node.clone()]);
                let survey = engine.survey(&wanted.pipeline, &declared.graph, span, Some(&only), &|_, _| {}).await?;
                let gaps: Vec<String> =
                    survey.gaps().iter().map(|gap| format!("{}..{}", gap.from, gap.until)).collect();
                self.seen.checks.insert(index, gaps.join(", "));
            }
            return Ok(());
        }
        if let Some(wanted) = wanted.and_then(|wanted| wanted.plan.as_ref()) {
            let found = self.plan(&wanted.pipeline, &wanted.id).await?.map_or("not there".to_owned(), |plan| {
                let (tally, status) = (plan.tally(), format!("{:?}", plan.status).to_lowercase());
                let left = tally.waiting + tally.asked;
                let rests = |item: &Item| match &item.state {
                    ItemState::Resting { why: Some(why), .. } => Some(format!("{}@{}: {why}", item.node, item.date)),
                    _ => None,
                };
                let why: Vec<String> = plan.items.iter().filter_map(rests).collect();
                let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
                format!("{status}: {} done, {} failed, {left} left{why}", tally.done, tally.failed)
            });
            self.seen.checks.insert(index, found);
            return Ok(());
        }
        let Some(wanted) = self.scenario.expect.get(index).and_then(|wanted| wanted.value.state.clone()) else {
            return Ok(());
        };
        let state = self.state(&wanted.pipeline, wanted.date, &wanted.node, at).await?;
        self.seen.checks.insert(index, state);
        Ok(())
    }

    async fn state(&self, pipeline: &PipelineId, date: Date, node: &NodeId, at: Timestamp) -> Result<String, RunError> {
        let Some(declared) = self.declarations.pipelines.get(pipeline) else {
            return Ok(format!("no pipeline {pipeline}"));
        };
        let key = PartitionKey { pipeline: pipeline.clone(), date };
        let stored = self.store.load(&key).await?;
        let view = view(&declared.graph, &stored.partition, Now::caught_up(at));
        let found = view.nodes.iter().find(|found| found.node == *node);
        Ok(found.map_or_else(|| format!("no node {node}"), |found| found.state.to_owned()))
    }

    pub(super) async fn views(&self, at: Timestamp) -> Result<Vec<PartitionView>, RunError> {
        let mut views = Vec::new();
        for key in &self.watched {
            if let Some(declared) = self.declarations.pipelines.get(&key.pipeline) {
                let stored = self.store.load(key).await?;
                views.push(view(&declared.graph, &stored.partition, Now::caught_up(at)));
            }
        }
        Ok(views)
    }
}
