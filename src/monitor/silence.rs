//! Which runs are alive, late, or silent, and which have been given up?
//!
//! Nothing is recovered here: the engine fences a dead run by itself. So the answer is the same whether or not it was
//! asked for dryly, and asking changes nothing.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::isoformat;
use crate::domain::graph::{Graph, Heartbeats};
use crate::domain::id::{NodeId, RunId};
use crate::domain::partition::{End, Partition, Run};
use crate::domain::time::{Now, after};

/// The runs of some dates, in the members of the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Silence {
    checked_at: String,
    healthy_count: usize,
    recovered: Vec<Recovered>,
    stale_processors: Vec<Silent>,
    dead_processors: Vec<Silent>,
}

/// A run that has not been heard of for too long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Silent {
    doc_id: String,
    processor_name: String,
    run_id: RunId,
    data_date: jiff::civil::Date,
    last_heartbeat: String,
    age_seconds: i64,
    progress: String,
    status_message: String,
}

/// A run that was silent for so long that it was given up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Recovered {
    doc_id: String,
    processor_name: String,
    run_id: RunId,
    data_date: jiff::civil::Date,
    recovered_at: String,
}

impl Silence {
    /// An answer about no date yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            checked_at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            healthy_count: 0,
            recovered: Vec::new(),
            stale_processors: Vec::new(),
            dead_processors: Vec::new(),
        }
    }

    /// Adds the runs of one date. `class` tells what a node's processor calls itself. A run is late by the clock; it is
    /// dead only if the world has been heard for as long, as everything looks dead right after a start of ours.
    pub fn add(&mut self, graph: &Graph, partition: &Partition, now: Now, class: impl Fn(&NodeId) -> String) {
        for (id, known) in &partition.nodes {
            let Some(node) = graph.node(id).filter(|node| node.liveness.heartbeats == Heartbeats::Sent) else {
                continue;
            };
            let name = class(id);
            for (run_id, run) in &known.runs {
                let silent = || silent(&name, run_id, run, partition, now);
                if now.silent_until(after(run.last, node.liveness.dead_after)) {
                    self.dead_processors.push(silent());
                } else if now.reached(after(run.last, node.liveness.stale_after)) {
                    self.stale_processors.push(silent());
                } else {
                    self.healthy_count += 1;
                }
            }
            for (run_id, ended) in known.ended.iter().filter(|(_, ended)| ended.how == End::Fenced) {
                self.recovered.push(Recovered {
                    doc_id: name.clone(),
                    processor_name: name.clone(),
                    run_id: run_id.clone(),
                    data_date: partition.key.date,
                    recovered_at: isoformat(ended.at),
                });
            }
        }
    }

    /// The answer to whoever asked; where a clean-up was asked for, that there was nothing to clean up.
    pub fn answer(&self, cleanup: bool) -> Value {
        let mut details = json!(self);
        if cleanup {
            details["cleanup_count"] = json!(0);
        }
        let summary = json!({
            "healthy": self.healthy_count, "stale": self.stale_processors.len(), "dead": self.dead_processors.len(),
            "recovered": self.recovered.len(),
        });
        json!({ "status": "ok", "summary": summary, "details": details })
    }
}

fn silent(name: &str, run_id: &RunId, run: &Run, partition: &Partition, now: Now) -> Silent {
    let (done, to_do) = run.progress;
    Silent {
        doc_id: name.to_owned(),
        processor_name: name.to_owned(),
        run_id: run_id.clone(),
        data_date: partition.key.date,
        last_heartbeat: isoformat(run.last),
        age_seconds: now.at.duration_since(run.last).as_secs(),
        progress: format!("{done}/{to_do}"),
        status_message: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::domain::id::PartitionKey;
    use crate::domain::partition::Ended;
    use crate::pipeline::shipped;

    #[test]
    fn a_run_is_late_by_the_clock_and_dead_only_if_it_would_have_been_heard() {
        // The answer of the incident: one run alive, one late for seven minutes, one silent for twenty-five.
        let shipped = shipped().unwrap();
        let nba = &shipped.pipelines["nba"];
        let at: Timestamp = "2026-01-24T11:20:00Z".parse().unwrap();
        let back = |minutes| at - SignedDuration::from_mins(minutes);
        let run = |last| Run {
            first: back(60),
            last,
            progress: (50, 100),
            progressed_at: last,
            ended_unreported: false,
            closing_at: None,
            word: None,
        };
        let mut partition = Partition::new(PartitionKey::new("nba", "2026-01-23".parse().unwrap()));
        let node = partition.nodes.entry("player_game_summary".into()).or_default();
        node.runs =
            BTreeMap::from([("r1".into(), run(back(25))), ("r2".into(), run(back(7))), ("r3".into(), run(back(5)))]);
        node.runs.insert("r4".into(), run(back(4)));
        Arc::make_mut(&mut node.ended).insert("r0".into(), Ended { at: back(30), how: End::Fenced });
        Arc::make_mut(&mut node.ended).insert("r00".into(), Ended { at: back(40), how: End::Failed });
        let ask = |now| {
            let mut silence = Silence::new(at);
            silence.add(&nba.graph, &partition, now, |node| nba.class(node).to_owned());
            silence.answer(false)
        };
        let answer = ask(Now::caught_up(at));
        assert_eq!(answer["summary"], json!({ "healthy": 1, "stale": 2, "dead": 1, "recovered": 1 }));
        let dead = json!({
            "doc_id": "PlayerGameSummaryProcessor", "processor_name": "PlayerGameSummaryProcessor", "run_id": "r1",
            "data_date": "2026-01-23", "last_heartbeat": "2026-01-24T10:55:00+00:00", "age_seconds": 1500,
            "progress": "50/100", "status_message": "",
        });
        assert_eq!(answer["details"]["dead_processors"], json!([dead]));
        assert_eq!(answer["details"]["checked_at"], "2026-01-24T11:20:00Z");
        let just_started = ask(Now { at, heard_until: Timestamp::MIN });
        assert_eq!(just_started["summary"], json!({ "healthy": 1, "stale": 3, "dead": 0, "recovered": 1 }));
    }
}
