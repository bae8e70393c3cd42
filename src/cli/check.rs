//! `tipoff check`: are the declarations sound?

use serde_json::json;

use super::say::say;
use super::{Common, Fault, Verdict};
use crate::adapter::channel;
use crate::adapter::google::services::Services;
use crate::pipeline;

/// Validates both files and prints every problem with its file, line and key.
pub fn check(common: &Common) -> Result<Verdict, Fault> {
    let (topics, pipelines) = common.texts()?;
    match pipeline::load((&topics.0, &topics.1), (&pipelines.0, &pipelines.1)) {
        Ok(declarations) => {
            // What tipoff.yaml says of their alerts and pipelines has to be there.
            let configuration = common.configuration()?;
            channel::known(&configuration.alerts, &declarations).map_err(Fault::usage)?;
            Services::check(&configuration.services).map_err(Fault::usage)?;
            let nodes: usize = declarations.pipelines.values().map(|pipeline| pipeline.graph.nodes.len()).sum();
            let topics_count = declarations.topology.topics().count();
            if common.json {
                say!("{}", json!({ "ok": true, "topics": topics_count, "nodes": nodes, "problems": [] }));
            } else {
                say!(
                    "{} and {} are sound: {topics_count} topics, {} pipelines, {nodes} nodes",
                    topics.0,
                    pipelines.0,
                    declarations.pipelines.len()
                );
            }
            Ok(Verdict::Holds)
        }
        Err(problems) => {
            if common.json {
                let list: Vec<_> = problems
                    .0
                    .iter()
                    .map(|problem| {
                        json!({ "file": problem.file, "line": problem.line, "key": problem.key,
                            "message": problem.message })
                    })
                    .collect();
                say!("{}", json!({ "ok": false, "problems": list }));
            } else {
                say!("{problems}");
                say!("{} problem(s)", problems.0.len());
            }
            Ok(Verdict::Fails)
        }
    }
}
