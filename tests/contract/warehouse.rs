//! The contract of a warehouse.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::{Date, date};
use serde_json::json;
use tipoff::domain::coverage::Coverage;
use tipoff::monitor::coverage::{self, Mode};
use tipoff::pipeline;
use tipoff::port::{Answer, Reported, Row, Warehouse};
use tipoff::wire::report::{self, Kind};

use super::second;

/// The pipeline that is asked about.
pub const PIPELINE: &str = "nba";
/// The node that is asked about: one with an output of which a whole game is there or missing.
pub const NODE: &str = "player_game_summary";

/// A warehouse with what the port has no call for: facts come into it and rows are read out of it by others.
#[async_trait]
pub trait Bench: Sync {
    /// The warehouse.
    fn warehouse(&self) -> &dyn Warehouse;

    /// From `at` on, these games are played on `date`, and the output has those that are marked.
    async fn put_games(&self, date: Date, games: &[(&str, bool)], at: Timestamp);

    /// From `at` on, so much is predicted of each game of `date`.
    async fn put_game_coverage(&self, date: Date, rows: Vec<Row>, at: Timestamp);

    /// Every row of a history table, columns without a value left out.
    async fn rows(&self, table: &str) -> Vec<Row>;
}

/// Runs every check of the contract, on a warehouse without rows.
pub async fn contract(bench: &dyn Bench) {
    a_node_that_is_not_kept_is_not_empty(bench).await;
    a_recorded_days_coverage_is_reported_as_it_was(bench).await;
    a_report_that_is_not_kept_is_not_empty(bench).await;
    what_is_there_is_counted_by_game(bench).await;
    a_strange_table_or_column_is_refused(bench).await;
    every_column_keeps_what_was_put_there(bench).await;
    many_rows_are_all_there(bench).await;
}

async fn a_node_that_is_not_kept_is_not_empty(bench: &dyn Bench) {
    // Not knowing a node is an answer of its own: neither nothing nor everything.
    let answer = bench.warehouse().coverage(&PIPELINE.into(), &"nobody".into(), date(2026, 1, 22), second(0)).await;
    assert_eq!(answer, Answer::NotKept);
}

async fn a_report_that_is_not_kept_is_not_empty(bench: &dyn Bench) {
    let told = bench.warehouse().report(&"nobody".into(), Kind::Schedule, date(2026, 1, 22), second(0)).await;
    assert_eq!(told, Reported::NotKept);
}

async fn a_recorded_days_coverage_is_reported_as_it_was(bench: &dyn Bench) {
    // 24 January 2026: seven games, three of them with fewer than eight players.
    let day = date(2026, 1, 24);
    let mut dates = report::by_date(Kind::GameCoverage, recorded(), None).unwrap();
    bench.put_game_coverage(day, dates.remove(&day).unwrap(), second(0)).await;
    let told = bench.warehouse().report(&PIPELINE.into(), Kind::GameCoverage, day, second(0)).await;
    let Reported::Rows(rows) = told else { panic!("{told:?}") };
    let games = report::game_coverage(day, &rows).unwrap();
    let shipped = pipeline::shipped().unwrap();
    let limits = shipped.pipelines[PIPELINE].monitors.game_coverage.unwrap();
    let answer = coverage::judge(day, &games, None, limits, second(0)).answer(Mode::Dry);
    let sums =
        ["game_count", "total_players", "total_predictions"].map(|sum| answer["coverage"][sum].as_u64().unwrap());
    assert_eq!(sums, [7, 60, 332]);
    let low: BTreeSet<(&str, &str)> = answer["coverage"]["issues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| (issue["matchup"].as_str().unwrap(), issue["status"].as_str().unwrap()))
        .collect();
    assert_eq!(low, ["MIA@UTA", "WAS@CHA", "GSW@MIN"].map(|game| (game, "LOW_COVERAGE")).into());
}

/// The table of predictions as it was recorded on 24 January 2026.
pub fn recorded() -> Vec<Row> {
    let text = include_str!("../data/coverage-2026-01-24.csv");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        columns.iter().zip(&record).map(|(column, cell)| (column.to_owned(), json!(cell))).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

async fn what_is_there_is_counted_by_game(bench: &dyn Bench) {
    // The answer names the game that is missing, and follows when it arrives.
    let day = date(2026, 1, 22);
    let (pipeline, node) = (PIPELINE.into(), NODE.into());
    let ask = |at| bench.warehouse().coverage(&pipeline, &node, day, at);
    let part = |observed| Coverage::new(observed, 1).unwrap();
    let (celtics, blazers) = ("20260122_LAL_BOS", "20260122_TOR_POR");

    bench.put_games(day, &[(celtics, true), (blazers, false)], second(10)).await;
    let units = BTreeMap::from([(celtics.into(), part(1)), (blazers.into(), part(0))]);
    assert_eq!(ask(second(10)).await, Answer::Known { coverage: Coverage::new(1, 2).unwrap(), units });

    bench.put_games(day, &[(celtics, true), (blazers, true)], second(20)).await;
    let units = BTreeMap::from([(celtics.into(), part(1)), (blazers.into(), part(1))]);
    assert_eq!(ask(second(20)).await, Answer::Known { coverage: Coverage::new(2, 2).unwrap(), units });

    let other = bench.warehouse().coverage(&pipeline, &node, date(2026, 1, 21), second(20)).await;
    assert_eq!(other, Answer::NotKept, "nothing is expected of a date without games");
}

async fn a_strange_table_or_column_is_refused(bench: &dyn Bench) {
    // All that is wrong is named at once, and nothing of the call is kept.
    let strange = row(json!({ "phase": "phase_3_analytics", "no_such": 1, "nor_this": 2 }));
    let sound = row(json!({ "processor_name": "X", "game_date": "2026-01-22" }));
    let rows = vec![("sound".into(), sound), ("strange".into(), strange)];
    let refused = bench.warehouse().append("phase_completions", rows).await.unwrap_err();
    assert!(refused.contains("no_such") && refused.contains("nor_this"), "{refused}");
    assert!(bench.warehouse().append("no_such_table", Vec::new()).await.is_err());
    assert_eq!(bench.rows("phase_completions").await, Vec::<Row>::new());
}

async fn every_column_keeps_what_was_put_there(bench: &dyn Bench) {
    // A writer whose answer was lost appends again: readers find the same row, once or twice.
    let run = row(json!({
        "processor_name": "PlayerGameSummaryProcessor", "run_id": "r1", "status": "partial", "duration_seconds": 1.5,
        "records_processed": 281, "backfill_mode": false, "skipped": true, "data_date": "2026-01-22",
        "started_at": "2026-01-22T06:00:00.123456Z", "errors": ["none", 1], "summary": { "by": { "team": [2] } },
    }));
    let dispatch = row(json!({
        "dispatch_id": "nba/2026-01-22/a/1/1", "pipeline": "nba", "game_date": "2026-01-22", "node": "a", "run": 1,
        "missing": ["b", "c"], "decided_at": "2026-01-22T06:00:00Z", "manifest": { "cause": "requested" },
    }));
    for (table, row) in [("processor_run_history", run), ("tipoff_dispatches", dispatch)] {
        bench.warehouse().append(table, Vec::new()).await.unwrap();
        for _ in 0..2 {
            bench.warehouse().append(table, vec![("nba/1".into(), row.clone())]).await.unwrap();
        }
        let found = bench.rows(table).await;
        assert!(!found.is_empty(), "{table}");
        for found in found {
            assert_eq!(found, row, "{table}");
        }
    }
}

async fn many_rows_are_all_there(bench: &dyn Bench) {
    // More than fit into one call of any warehouse, under ids longer than one takes.
    let name = |number: usize| format!("Processor{number}");
    let rows = (0..1_201).map(|number| {
        let columns = json!({ "processor_name": name(number), "game_date": "2026-01-22", "record_count": number });
        (format!("{number}/{}", "x".repeat(200)), row(columns))
    });
    bench.warehouse().append("phase_completions", rows.collect()).await.unwrap();
    let found = bench.rows("phase_completions").await;
    let found: BTreeSet<&str> = found.iter().map(|row| row["processor_name"].as_str().unwrap()).collect();
    assert_eq!(found.len(), 1_201);
}

/// A row from a JSON object.
pub fn row(value: serde_json::Value) -> Row {
    value.as_object().unwrap().clone()
}
