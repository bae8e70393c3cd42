//! Journal entries as rows of the history tables, in the names and columns the pipeline's people query today.
//!
//! One terminal row per run, never an update: a dead run gets its row when it is fenced, and what it still reports
//! afterwards makes none.

use serde_json::{Map, Value, json};

use crate::domain::effect::{Effect, Turn};
use crate::domain::event::{Completed, Event, Outcome};
use crate::domain::evidence::Extent;
use crate::domain::partition::Recorded;
use crate::pipeline::Pipeline;
use crate::port::{JournalEntry, Row};

/// One row per execution, terminal.
pub const RUN_HISTORY: &str = "processor_run_history";
/// One row per completion taken in.
pub const COMPLETIONS: &str = "phase_completions";
/// Dispatches, dead runs and alerts.
pub const EVENT_LOG: &str = "pipeline_event_log";

/// The rows of one journal entry: (table, insert id, row).
pub fn rows(pipeline: &Pipeline, entry: &JournalEntry) -> Vec<(&'static str, String, Row)> {
    let mut rows = Vec::new();
    for (index, (event, recorded)) in entry.events.iter().zip(&entry.recorded).enumerate() {
        let Event::Completed(completed) = event else { continue };
        if !matches!(recorded, Recorded::Applied) {
            continue;
        }
        let id = format!("{}.{index}", entry.seq);
        rows.push((RUN_HISTORY, id.clone(), run_row(pipeline, entry, completed)));
        rows.push((COMPLETIONS, id, completion_row(pipeline, entry, completed)));
    }
    for (index, effect) in entry.effects.iter().enumerate() {
        let id = format!("{}.e{index}", entry.seq);
        match effect {
            Effect::ReleaseLock { node, run } => {
                let row = object(json!({
                    "processor_name": node, "run_id": run, "status": "failed",
                    "data_date": entry.key.date, "started_at": entry.now.at, "processed_at": entry.now.at,
                    "phase": phase(pipeline, node.as_str()), "failure_category": "STALE_HEARTBEAT",
                    "skip_reason": "heartbeat dead: fenced by tipoff", "triggered_by": "api", "skipped": false,
                }));
                rows.push((RUN_HISTORY, id.clone(), row));
                let row = log(entry, &id, "error", node.as_str(), json!({ "run_id": run, "reason": "heartbeat dead" }));
                rows.push((EVENT_LOG, id, row));
            }
            Effect::Dispatch(dispatch) => {
                let retry = dispatch.manifest.attempt.attempt > 1;
                let kind = if retry { "retry" } else { "processor_start" };
                let facts = json!({ "dispatch_id": dispatch.id, "manifest": dispatch.manifest });
                let mut row = log(entry, &id, kind, dispatch.node.as_str(), facts);
                row.insert("correlation_id".into(), json!(dispatch.manifest.correlation));
                rows.push((EVENT_LOG, id, row));
            }
            Effect::Alert(alert) => {
                let kind = if alert.turn == Turn::Raised { "error" } else { "recovery" };
                let facts = json!({ "alert": alert.key, "severity": alert.severity });
                let mut row = log(entry, &id, kind, "", facts);
                row.insert("error_message".into(), json!(alert.text));
                rows.push((EVENT_LOG, id, row));
            }
            Effect::Observe { .. } | Effect::NotifyPartition { .. } => {}
        }
    }
    rows
}

fn run_row(pipeline: &Pipeline, entry: &JournalEntry, completed: &Completed) -> Row {
    let (status, text) = status(&completed.outcome);
    let output = pipeline.outputs.get(&completed.node).map(String::as_str).unwrap_or_default();
    let (dataset, table) = output.rsplit_once('.').unwrap_or(("", output));
    object(json!({
        "processor_name": completed.node, "run_id": completed.run, "status": status,
        "data_date": entry.key.date, "started_at": completed.published, "processed_at": completed.published,
        "records_processed": completed.records, "phase": phase(pipeline, completed.node.as_str()),
        "output_table": table, "output_dataset": dataset, "triggered_by": "api",
        "failure_category": (status == "failed").then_some("processing_error"),
        "skip_reason": (status == "skipped").then(|| text.clone()), "skipped": status == "skipped",
        "errors": (status == "failed").then(|| json!([text]).to_string()),
    }))
}

fn completion_row(pipeline: &Pipeline, entry: &JournalEntry, completed: &Completed) -> Row {
    object(json!({
        "phase": phase(pipeline, completed.node.as_str()), "game_date": entry.key.date,
        "processor_name": completed.node, "status": status(&completed.outcome).0,
        "record_count": completed.records, "correlation_id": completed.correlation,
        "execution_id": completed.run, "completed_at": completed.published, "inserted_at": entry.now.at,
    }))
}

fn log(entry: &JournalEntry, id: &str, kind: &str, node: &str, facts: Value) -> Row {
    object(json!({
        "event_id": format!("{}-{id}", entry.key.pipeline), "timestamp": entry.now.at, "event_type": kind,
        "processor_name": node, "game_date": entry.key.date, "trigger_source": "tipoff",
        "metadata": facts.to_string(),
    }))
}

fn phase<'a>(pipeline: &'a Pipeline, node: &str) -> &'a str {
    pipeline.graph.node(node).map_or("", |node| node.phase.as_str())
}

fn status(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Done(Extent::Whole) => ("success", String::new()),
        Outcome::Done(Extent::Share(_) | Extent::Unknown) => ("partial", String::new()),
        Outcome::Failed(text) => ("failed", text.to_string()),
        Outcome::NoData => ("skipped", "no_data".to_owned()),
        Outcome::Skipped(text) => ("skipped", text.to_string()),
    }
}

fn object(value: Value) -> Row {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}
