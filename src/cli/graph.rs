//! `tipoff graph`: the declared graph as text, Mermaid or DOT.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::say::{self, say};
use super::{Common, Fault, Verdict};
use crate::domain::graph::{Dependency, Kind, Offset, Strength};
use crate::domain::id::PipelineId;

/// `tipoff graph`
#[derive(Args)]
pub struct Graph {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Only this pass over a date
    #[arg(long, value_name = "NAME")]
    cycle: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Mermaid,
    Dot,
}

impl Graph {
    pub fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let declarations = common.declarations()?;
        let id = PipelineId::from(common.pipeline.as_str());
        let Some(pipeline) = declarations.pipelines.get(&id) else {
            return Err(no_pipeline(&declarations, &common.pipeline));
        };
        let graph = &pipeline.graph;
        if let Some(cycle) = &self.cycle
            && !graph.cycles.iter().any(|known| known.id.as_str() == cycle)
        {
            let known: Vec<&str> = graph.cycles.iter().map(|cycle| cycle.id.as_str()).collect();
            return Err(Fault::usage(anyhow::anyhow!("there is no cycle `{cycle}`: {}", known.join(", "))));
        }
        let chosen: Vec<_> = graph
            .order
            .iter()
            .filter_map(|id| graph.node(id))
            .filter(|node| self.cycle.as_ref().is_none_or(|cycle| node.cycle.as_str() == cycle))
            .collect();
        let mut out = String::new();
        if common.json {
            let nodes: Vec<_> = chosen
                .iter()
                .map(|node| {
                    let needs: Vec<_> = node
                        .needs
                        .iter()
                        .map(|need| {
                            json!({
                                "node": need.node, "strength": strength(need), "coverage_min": need.coverage_min,
                                "date": offset(need),
                            })
                        })
                        .collect();
                    json!({ "id": node.id, "kind": kind(&node.kind), "phase": node.phase, "cycle": node.cycle,
                        "needs": needs })
                })
                .collect();
            say!("{}", json!({ "pipeline": id, "nodes": nodes }));
            return Ok(Verdict::Holds);
        }
        match self.format {
            Format::Text => {
                let mut phase = "";
                for node in &chosen {
                    if node.phase != phase {
                        phase = &node.phase;
                        let _ = writeln!(out, "{phase}");
                    }
                    let _ = writeln!(out, "  {} ({}, {})", node.id, kind(&node.kind), node.cycle);
                    for need in &node.needs {
                        let _ = writeln!(out, "    ← {}{} {}", need.node, offset_mark(need), label(need));
                    }
                }
            }
            Format::Mermaid => {
                let _ = writeln!(out, "flowchart LR");
                for node in &chosen {
                    let id = mangled(node.id.as_str());
                    let shape = match node.kind {
                        Kind::Source(_) => format!("{id}([{}])", node.id),
                        Kind::Task(_) => format!("{id}[{}]", node.id),
                        Kind::Gate(_) => format!("{id}{{{{{}}}}}", node.id),
                    };
                    let _ = writeln!(out, "  {shape}");
                    for need in &node.needs {
                        let arrow = if need.strength == Strength::Hard { "==>" } else { "-.->" };
                        let from = mangled(need.node.as_str());
                        let _ = writeln!(out, "  {from} {arrow}|\"{}\"| {id}", label(need));
                    }
                }
            }
            Format::Dot => {
                let _ = writeln!(out, "digraph \"{id}\" {{\n  rankdir=LR;");
                for node in &chosen {
                    let shape = match node.kind {
                        Kind::Source(_) => "ellipse",
                        Kind::Task(_) => "box",
                        Kind::Gate(_) => "hexagon",
                    };
                    let _ = writeln!(out, "  \"{}\" [shape={shape}];", node.id);
                    for need in &node.needs {
                        let style = if need.strength == Strength::Hard { "solid" } else { "dashed" };
                        let _ = writeln!(
                            out,
                            "  \"{}\" -> \"{}\" [style={style}, label=\"{}\"];",
                            need.node,
                            node.id,
                            label(need)
                        );
                    }
                }
                let _ = writeln!(out, "}}");
            }
        }
        say::print(format_args!("{out}"));
        Ok(Verdict::Holds)
    }
}

/// There is no such pipeline; says which there are.
pub fn no_pipeline(declarations: &crate::pipeline::Declarations, name: &str) -> Fault {
    let known: Vec<&str> = declarations.pipelines.keys().map(PipelineId::as_str).collect();
    Fault::usage(anyhow::anyhow!("there is no pipeline `{name}`: {}", known.join(", ")))
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Source(_) => "source",
        Kind::Task(_) => "task",
        Kind::Gate(_) => "gate",
    }
}

fn strength(need: &Dependency) -> &'static str {
    match need.strength {
        Strength::Hard => "hard",
        Strength::Soft => "soft",
        Strength::Optional => "optional",
    }
}

fn offset(need: &Dependency) -> &'static str {
    match need.offset {
        Offset::Same => "same",
        Offset::PreviousGameDay => "previous_game_day",
    }
}

fn offset_mark(need: &Dependency) -> &'static str {
    match need.offset {
        Offset::Same => "",
        Offset::PreviousGameDay => "@previous game day",
    }
}

fn label(need: &Dependency) -> String {
    let offset = if need.offset == Offset::Same { "" } else { ", previous game day" };
    match need.strength {
        Strength::Optional => format!("optional{offset}"),
        Strength::Hard | Strength::Soft => format!("{} ≥ {}{offset}", strength(need), need.coverage_min),
    }
}

fn mangled(id: &str) -> String {
    id.replace('.', "__")
}
