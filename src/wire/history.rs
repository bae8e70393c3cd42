//! Journal entries as rows of the history tables, in the names and columns the pipeline's people query today.
//!
//! What holds:
//! - a row is appended once and never changed; a run has one terminal row, from its first end that counted. A run that
//!   failed or was declared dead and delivers all the same has two, the later of which is true;
//! - `processor_name` is the processor's class (`Pipeline::classes`), as its own rows have it; our own tables add the node;
//! - the same entry gives the same rows under the same ids, so that it may be appended again.

use serde_json::{Map, Value, json};

use super::dispatch::manifest;
use super::producer::phase_word;
use crate::domain::effect::{Alert, Dispatch, Effect, Turn};
use crate::domain::event::{Completed, Event, Outcome};
use crate::domain::evidence::Extent;
use crate::domain::id::{NodeId, RunId};
use crate::domain::partition::Recorded;
use crate::pipeline::Pipeline;
use crate::port::{JournalEntry, Row};

/// One row per execution, terminal.
pub const RUN_HISTORY: &str = "processor_run_history";
/// One row per completion taken in.
pub const COMPLETIONS: &str = "phase_completions";
/// Dispatches, dead runs and alerts.
pub const EVENT_LOG: &str = "pipeline_event_log";
/// One row per decision that changed or asked for something.
pub const DECISIONS: &str = "tipoff_decisions";
/// One row per dispatch.
pub const DISPATCHES: &str = "tipoff_dispatches";

/// A row to append: its table, its insert id, its columns.
pub type Appended = (&'static str, String, Row);

/// The rows of one journal entry.
pub fn rows(pipeline: &Pipeline, entry: &JournalEntry) -> Vec<Appended> {
    let telling = Telling { pipeline, entry };
    let mut rows = Vec::new();
    for (index, (event, recorded)) in entry.events.iter().zip(&entry.recorded).enumerate() {
        let Event::Completed(completed) = event else { continue };
        if !matches!(recorded, Recorded::Applied) {
            continue;
        }
        rows.push(telling.run(completed));
        rows.push((COMPLETIONS, format!("{}.{index}", entry.seq), telling.completion(completed)));
    }
    for (index, effect) in entry.effects.iter().enumerate() {
        let id = format!("{}.e{index}", entry.seq);
        match effect {
            Effect::ReleaseLock { node, run } => {
                rows.push(telling.dead_run(node, run));
                rows.push(telling.log(id, "error", Some(node), json!({ "run_id": run, "reason": "heartbeat dead" })));
            }
            Effect::Dispatch(dispatch) => {
                rows.push(telling.started(id, dispatch));
                rows.push((DISPATCHES, dispatch.id.to_string(), telling.dispatch(dispatch)));
            }
            Effect::Close(close) => {
                let run = &close.manifest.closes;
                rows.push(telling.log(id, "warning", Some(&close.node), json!({ "run_id": run, "reason": "stalled" })));
            }
            Effect::Alert(alert) => rows.push(telling.alert(id, alert)),
            Effect::Observe { .. } | Effect::Check { .. } | Effect::NotifyPartition { .. } => {}
        }
    }
    // Heartbeats and ticks that change nothing would be most of the table.
    if !entry.moved.is_empty() || !entry.effects.is_empty() {
        rows.push((DECISIONS, entry.seq.to_string(), telling.decision()));
    }
    rows
}

/// One entry, and the pipeline whose words it is told in.
struct Telling<'a> {
    pipeline: &'a Pipeline,
    entry: &'a JournalEntry,
}

impl Telling<'_> {
    fn phase(&self, node: &NodeId) -> &str {
        let label = self.pipeline.graph.node(node).map_or("", |node| node.phase.as_str());
        phase_word(label)
    }

    /// The id names the run and how it ended, not the entry: what a run says again about an end adds no row.
    fn run_id(&self, node: &NodeId, run: &RunId, status: &str) -> String {
        format!("{}/{node}/{run}/{status}", self.entry.key)
    }

    fn run(&self, completed: &Completed) -> Appended {
        let Completed { node, run, records, published, .. } = completed;
        let (status, text) = status(&completed.outcome);
        let output = self.pipeline.outputs.get(node).map(String::as_str).unwrap_or_default();
        let (dataset, table) = output.rsplit_once('.').unwrap_or(("", output));
        let row = json!({
            "processor_name": self.pipeline.class(node), "run_id": run, "status": status,
            "data_date": self.entry.key.date, "started_at": published, "processed_at": published,
            "records_processed": records, "phase": self.phase(node),
            "output_table": table, "output_dataset": dataset, "triggered_by": "api",
            "failure_category": (status == "failed").then_some("processing_error"),
            "skip_reason": (status == "skipped").then_some(&text), "skipped": status == "skipped",
            "errors": (status == "failed").then(|| json!([text])),
        });
        (RUN_HISTORY, self.run_id(node, run, status), object(row))
    }

    fn dead_run(&self, node: &NodeId, run: &RunId) -> Appended {
        let at = self.entry.now.at;
        let row = json!({
            "processor_name": self.pipeline.class(node), "run_id": run, "status": "failed",
            "data_date": self.entry.key.date, "started_at": at, "processed_at": at,
            "phase": self.phase(node), "failure_category": "STALE_HEARTBEAT",
            "skip_reason": "heartbeat dead: fenced by tipoff", "triggered_by": "api", "skipped": false,
        });
        (RUN_HISTORY, self.run_id(node, run, "failed"), object(row))
    }

    fn completion(&self, completed: &Completed) -> Row {
        object(json!({
            "phase": self.phase(&completed.node), "game_date": self.entry.key.date,
            "processor_name": self.pipeline.class(&completed.node), "status": status(&completed.outcome).0,
            "record_count": completed.records, "correlation_id": completed.correlation,
            "execution_id": completed.run, "completed_at": completed.published, "inserted_at": self.entry.now.at,
        }))
    }

    fn log(&self, id: String, kind: &str, node: Option<&NodeId>, facts: Value) -> Appended {
        let row = object(json!({
            "event_id": format!("{}-{id}", self.entry.key.pipeline), "timestamp": self.entry.now.at, "event_type": kind,
            "phase": node.map(|node| self.phase(node)), "processor_name": node.map(|node| self.pipeline.class(node)),
            "game_date": self.entry.key.date, "trigger_source": "tipoff", "metadata": facts,
        }));
        (EVENT_LOG, id, row)
    }

    fn started(&self, id: String, dispatch: &Dispatch) -> Appended {
        let retry = dispatch.manifest.attempt.attempt > 1;
        let kind = if retry { "retry" } else { "processor_start" };
        let facts = json!({ "dispatch_id": dispatch.id, "manifest": manifest(dispatch) });
        let (table, id, mut row) = self.log(id, kind, Some(&dispatch.node), facts);
        if let Some(correlation) = &dispatch.manifest.correlation {
            row.insert("correlation_id".into(), json!(correlation));
        }
        (table, id, row)
    }

    fn alert(&self, id: String, alert: &Alert) -> Appended {
        let kind = if alert.turn == Turn::Raised { "error" } else { "recovery" };
        let facts = json!({ "alert": alert.key, "severity": alert.severity });
        let (table, id, mut row) = self.log(id, kind, None, facts);
        row.insert("error_message".into(), json!(alert.text));
        (table, id, row)
    }

    fn dispatch(&self, dispatch: &Dispatch) -> Row {
        let Dispatch { id, key, node, decided_at, manifest: decided } = dispatch;
        object(json!({
            "dispatch_id": id, "pipeline": key.pipeline, "game_date": key.date, "node": node,
            "processor_name": self.pipeline.class(node), "phase": self.phase(node), "cycle": decided.cycle,
            "run": decided.attempt.run, "attempt": decided.attempt.attempt, "cause": decided.cause.as_str(),
            "degraded": decided.degraded, "missing": decided.missing, "waived": decided.waived,
            "fenced_run": decided.fenced, "correlation_id": decided.correlation, "decided_at": decided_at,
            "manifest": manifest(dispatch),
        }))
    }

    fn decision(&self) -> Row {
        let entry = self.entry;
        let events: Vec<Value> = entry.events.iter().zip(&entry.recorded).map(happened).collect();
        let moved: Vec<Value> =
            entry.moved.iter().map(|(node, from, to)| json!({ "node": node, "from": from, "to": to })).collect();
        let dispatches = entry.effects.iter().filter_map(|effect| match effect {
            Effect::Dispatch(dispatch) => Some(&dispatch.id),
            _ => None,
        });
        let alerts = entry.effects.iter().filter_map(|effect| match effect {
            Effect::Alert(alert) => Some(&alert.key),
            _ => None,
        });
        let heard = entry.now.heard_until;
        object(json!({
            "decision_id": format!("{}-{}", entry.key.pipeline, entry.seq),
            "pipeline": entry.key.pipeline, "game_date": entry.key.date, "decided_at": entry.now.at,
            // Before anything was heard it is the beginning of time, which no column of instants reaches back to.
            "heard_until": (heard != jiff::Timestamp::MIN).then_some(heard),
            "version": entry.version, "revision": format!("{:016x}", entry.revision),
            "events": events, "moved": moved,
            "dispatches": dispatches.collect::<Vec<_>>(), "alerts": alerts.collect::<Vec<_>>(),
        }))
    }
}

/// An event in short; its node and run stand where the event has them.
fn happened((event, recorded): (&Event, &Recorded)) -> Value {
    let whole = serde_json::to_value(event).unwrap_or_default();
    let mut short: Row = ["event", "node", "run"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), whole.get(key)?.clone())))
        .collect();
    short.insert("recorded".to_owned(), json!(recorded));
    Value::Object(short)
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;

    use super::*;
    use crate::domain::effect::{Cause, Manifest, Severity};
    use crate::domain::id::{Attempt, PartitionKey};
    use crate::domain::time::Now;
    use crate::pipeline::shipped;
    use crate::wire::table::{self, Mode};

    fn entry(events: Vec<Event>, effects: Vec<Effect>) -> JournalEntry {
        JournalEntry {
            seq: 7,
            key: PartitionKey::new("nba", "2026-01-23".parse().unwrap()),
            version: 3,
            now: Now::caught_up(at()),
            revision: 0xab,
            recorded: vec![Recorded::Applied; events.len()],
            events,
            effects,
            moved: Vec::new(),
        }
    }

    fn at() -> Timestamp {
        "2026-01-23T20:00:00.5Z".parse().unwrap()
    }

    fn completed(node: &str, run: &str, outcome: Outcome) -> Event {
        Event::Completed(Completed {
            node: node.into(),
            run: run.into(),
            outcome,
            records: Some(281),
            published: at(),
            correlation: Some("c".into()),
            dispatch: None,
            unit: None,
            trace: None,
        })
    }

    /// The rows by table, each checked against the table it goes to.
    fn told(entry: &JournalEntry) -> BTreeMap<&'static str, Vec<Row>> {
        let shipped = shipped().unwrap();
        let (mut tables, mut ids) = (BTreeMap::<_, Vec<Row>>::new(), BTreeSet::new());
        for (name, id, row) in rows(&shipped.pipelines["nba"], entry) {
            let table = table::find(name, &[(id.clone(), row.clone())]).unwrap();
            for column in table.columns.iter().filter(|column| column.mode == Mode::Required) {
                assert!(row.contains_key(&column.name), "{name}: a row lacks {}", column.name);
            }
            assert!(ids.insert((name, id.clone())), "{name} gets {id} twice");
            tables.entry(name).or_default().push(row);
        }
        tables
    }

    #[test]
    fn every_row_fits_its_table_and_names_the_processors_class() {
        // One of each kind of thing that is told.
        let dispatch = Dispatch {
            id: "nba/2026-01-23/player_daily_cache.overnight/1/2".into(),
            key: PartitionKey::new("nba", "2026-01-23".parse().unwrap()),
            node: "player_daily_cache.overnight".into(),
            decided_at: at(),
            manifest: Manifest {
                cycle: "overnight".into(),
                attempt: Attempt { run: 1, attempt: 2 },
                cause: Cause::HeartbeatDead,
                inputs: Vec::new(),
                degraded: true,
                missing: BTreeSet::from(["upcoming_player_game_context".into()]),
                waived: BTreeSet::new(),
                fenced: Some("r0".into()),
                correlation: None,
                closes: None,
                units: std::collections::BTreeSet::new(),
                trace: None,
                links: Vec::new(),
            },
        };
        let alert = Alert::new("k".into(), Severity::Critical, Turn::Raised, "t".into(), at());
        let events = vec![
            completed("player_game_summary", "r1", Outcome::Done(Extent::Whole)),
            completed("team_offense_game_summary", "r2", Outcome::Failed("no rows".into())),
            Event::Tick,
        ];
        let dead = Effect::ReleaseLock { node: "player_daily_cache.overnight".into(), run: "r0".into() };
        let told = told(&entry(events, vec![dead, Effect::Dispatch(dispatch), Effect::Alert(alert)]));

        let column = |table: &str, name: &str| -> Vec<Value> {
            told[table].iter().map(|row| row.get(name).cloned().unwrap_or_default()).collect()
        };
        let classes = [
            json!("PlayerGameSummaryProcessor"),
            json!("TeamOffenseGameSummaryProcessor"),
            json!("PlayerDailyCacheProcessor"),
        ];
        assert_eq!(column(RUN_HISTORY, "processor_name"), classes);
        assert_eq!(column(RUN_HISTORY, "status"), [json!("success"), json!("failed"), json!("failed")]);
        assert_eq!(column(RUN_HISTORY, "errors"), [Value::Null, json!(["no rows"]), Value::Null]);
        assert_eq!(column(RUN_HISTORY, "phase")[2], "phase_4_precompute");
        assert_eq!(column(COMPLETIONS, "processor_name"), classes[..2]);
        assert_eq!(column(EVENT_LOG, "event_type"), [json!("error"), json!("retry"), json!("error")]);
        assert_eq!(column(DISPATCHES, "processor_name"), classes[2..]);
        assert_eq!(column(DISPATCHES, "missing"), [json!(["upcoming_player_game_context"])]);
        assert_eq!(column(DECISIONS, "dispatches"), [json!(["nba/2026-01-23/player_daily_cache.overnight/1/2"])]);
        assert_eq!(column(DECISIONS, "revision"), [json!("00000000000000ab")]);
        assert_eq!(column(DECISIONS, "events")[0][2], json!({ "event": "tick", "recorded": "applied" }));
    }

    #[test]
    fn what_a_run_says_again_has_the_id_of_its_row() {
        // Whether one warehouse drops the second or readers do, a run has one row for one end.
        let shipped = shipped().unwrap();
        let again = |seq: u64, outcome: Outcome| -> String {
            let entry = JournalEntry { seq, ..entry(vec![completed("predictions", "r1", outcome)], Vec::new()) };
            let rows = rows(&shipped.pipelines["nba"], &entry);
            rows.into_iter().find(|(table, ..)| *table == RUN_HISTORY).unwrap().1
        };
        assert_eq!(again(1, Outcome::Done(Extent::Whole)), again(9, Outcome::Done(Extent::Whole)));
        assert_ne!(again(1, Outcome::Failed("x".into())), again(9, Outcome::Done(Extent::Whole)));
    }

    #[test]
    fn what_changes_nothing_is_no_decision() {
        assert_eq!(told(&entry(vec![Event::Tick], Vec::new())).len(), 0);
    }
}
