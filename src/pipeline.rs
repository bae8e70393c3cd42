//! Which nodes are there, what does each need, and what is said to the services that do the work?
//!
//! Reads `pipeline.yaml` beside `topics.yaml` and hands out what decisions trust: a [`Graph`] per pipeline, and the
//! messages of its tasks. It does not know how a dispatch is decided, nor how one travels. What holds of every
//! [`Declarations`] that exists:
//! - every name that an edge, a gate or a message mentions is declared, and every alias means one processor;
//! - no node waits for itself, and every task can be reached from a source;
//! - every message has a live topic with a consumer, or a declared service, and satisfies its receiver's contract.

mod link;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::diagnostic::{self, Problems};
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PipelineId};
use crate::topology::{self, Topology};
use crate::wire::dispatch::Message;

/// The topology that is compiled in.
pub const TOPICS: &str = include_str!("../topics.yaml");
/// The pipelines that are compiled in.
pub const PIPELINE: &str = include_str!("../pipeline.yaml");

/// Everything declared, checked as a whole.
#[derive(Debug)]
pub struct Declarations {
    /// Topics and subscriptions.
    pub topology: Topology,
    /// Pipelines by name.
    pub pipelines: BTreeMap<PipelineId, Pipeline>,
}

/// One pipeline: what decisions see, and what only messages and displays need.
#[derive(Debug)]
pub struct Pipeline {
    /// What decisions see.
    pub graph: Arc<Graph>,
    /// What is said to start a task; never empty.
    pub tasks: BTreeMap<NodeId, Vec<Message>>,
    /// The table that a node writes, with its dataset.
    pub outputs: BTreeMap<NodeId, String>,
    /// Services that are asked directly rather than over a topic.
    pub services: BTreeMap<String, Service>,
    /// Prefixes of the datasets that belong to this pipeline; they tell pipelines apart where a name does not.
    pub datasets: Vec<String>,
}

/// A service that is asked directly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Where it is, if the declaration says so; the settings say it otherwise.
    pub url: Option<String>,
}

/// Reads both files, each given as its name and its text, or lists every mistake in them.
pub fn load(topics: (&str, &str), pipeline: (&str, &str)) -> Result<Declarations, Problems> {
    let (file, text) = topics;
    let topology = topology::check(text, file);
    // The pipelines are read even where the topics are wrong, so that one round of mending shows every mistake.
    let pipelines = read::file(pipeline, revision(pipeline.1), topology.as_ref().ok());
    match (topology, pipelines) {
        (Ok(topology), Ok(pipelines)) => Ok(Declarations { topology, pipelines }),
        (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
        (Err(Problems(mut problems)), Err(Problems(more))) => {
            problems.extend(more);
            Err(Problems(problems))
        }
    }
}

/// The declarations that are compiled in.
pub fn shipped() -> Result<Declarations, Problems> {
    load(("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE))
}

/// The declaration with `patch` laid over it by the rules of RFC 7386: a mapping is merged, null removes, anything else
/// replaces. Written back as JSON, which is YAML.
pub fn with_overrides(file: &str, text: &str, patch: &Value) -> Result<String, Problems> {
    let mut declared: Value = diagnostic::parse(file, text)?;
    merge(&mut declared, patch);
    Ok(format!("{declared:#}\n"))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            members.remove(key);
        } else {
            merge(members.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// A digest that is the same in every build and on every machine, since it is stored with every decision.
fn revision(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_sound() {
        let declarations = shipped().unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(declarations.pipelines.len(), 2);
    }
}
