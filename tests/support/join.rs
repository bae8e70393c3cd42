//! One join of a few sources, on any date, and what is read of it.
#![allow(dead_code, reason = "every target uses some of it")]

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::{Map, Value, json};

pub const TOPIC: &str = "nba-phase2-raw-complete";
pub const JOIN: &str = "join";

/// The pipeline: `nba` is laid over what the shipped one says besides its nodes, and `join` over the join.
pub fn pipeline(sources: usize, mut nba: Value, join: Value) -> String {
    let mut nodes = Map::new();
    let mut needs = Map::new();
    for source in 0..sources {
        nodes.insert(name(source), json!({ "kind": "source", "phase": "raw", "cycle": "overnight" }));
        needs.insert(name(source), json!({ "strength": "hard" }));
    }
    let body = json!({ "target_date": "{{ date }}", "correlation_id": "{{ correlation_id }}", "trigger_source": "t" });
    let mut task = json!({ "kind": "task", "phase": "grading", "cycle": "overnight", "needs": needs,
        "messages": [{ "topic": "nba-grading-trigger", "body": body }] });
    task.as_object_mut().unwrap().extend(join.as_object().unwrap().clone());
    nodes.insert(JOIN.to_owned(), task);
    nba["calendar"] = Value::Null;
    tipoff::pipeline::alone(nodes, &nba).unwrap()
}

pub fn name(source: usize) -> String {
    format!("s{source}")
}

/// What a source says when it has worked.
pub fn completion(source: usize, date: &str, run: &str) -> Value {
    json!({ "processor_name": name(source), "phase": "phase_2_raw", "execution_id": run, "correlation_id": run,
        "game_date": date, "output_table": "", "status": "success", "record_count": 33 })
}

/// The runs of which the journal has the end.
pub fn recorded(database: &Connection) -> BTreeSet<String> {
    let mut statement = database.prepare("SELECT entry FROM journal").unwrap();
    let entries = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut runs = BTreeSet::new();
    for entry in entries {
        let entry: Value = serde_json::from_str(&entry.unwrap()).unwrap();
        let events = entry["events"].as_array().unwrap().iter();
        runs.extend(events.filter_map(|event| event["run"].as_str()).map(str::to_owned));
    }
    runs
}
