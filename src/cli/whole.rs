//! A pipeline at its store, for commands that ask of its dates what the engine would.

use jiff::Timestamp;

use super::backend::{self, Access};
use super::{Common, Fault, dates, graph};
use crate::desk::day::Day;
use crate::domain::graph::Graph;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::engine::Engine;
use crate::pipeline::Pipeline;

/// A pipeline, and an engine at its store that runs no loop.
pub struct Whole {
    pub engine: Engine,
    pub pipeline: PipelineId,
    pub now: Timestamp,
}

impl Whole {
    pub async fn open(common: &Common, access: Access) -> Result<Self, Fault> {
        let declarations = common.declarations()?;
        let pipeline = PipelineId::from(common.pipeline.as_str());
        if !declarations.pipelines.contains_key(&pipeline) {
            return Err(graph::no_pipeline(&declarations, &common.pipeline));
        }
        let engine = backend::engine(common, declarations, access).await?;
        Ok(Self { now: engine.clock.now(), engine, pipeline })
    }

    /// What is declared of it.
    pub fn declared(&self) -> &Pipeline {
        &self.engine.declarations.pipelines[&self.pipeline]
    }

    pub fn graph(&self) -> &Graph {
        &self.declared().graph
    }

    /// The date that a word means.
    pub fn key(&self, word: &str) -> Result<PartitionKey, Fault> {
        let date = dates::resolve(word, self.graph(), self.now)?;
        Ok(PartitionKey { pipeline: self.pipeline.clone(), date })
    }

    /// A date as it stands.
    pub async fn day(&self, key: &PartitionKey) -> Result<Day, Fault> {
        Day::load(&self.engine, self.graph(), key).await.map_err(Fault::unusable)
    }

    /// The date that a word means; without one, every date on which something may still happen.
    pub async fn days(&self, word: Option<&str>) -> Result<Vec<Day>, Fault> {
        match word {
            Some(word) => Ok(vec![self.day(&self.key(word)?).await?]),
            None => Day::live(&self.engine, self.graph(), &self.pipeline).await.map_err(Fault::unusable),
        }
    }
}
