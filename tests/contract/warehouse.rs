//! The contract of a warehouse, as far as it can be asked without preparing it.

use serde_json::json;
use tipoff::port::{Answer, Row, Warehouse};

use super::second;

/// Runs every check of the contract.
pub async fn contract(warehouse: &dyn Warehouse) {
    // Not knowing a node is an answer of its own: neither nothing nor everything.
    let date = "2026-01-22".parse().unwrap();
    let answer = warehouse.coverage(&"nba".into(), &"nobody".into(), date, second(0)).await;
    assert_eq!(answer, Answer::NotKept);
    let row = row(json!({ "phase": "phase_3", "no_such": 1, "nor_this": 2 }));
    let refused = warehouse.append("phase_completions", vec![("x".into(), row)]).await.unwrap_err();
    assert!(refused.contains("no_such") && refused.contains("nor_this"), "{refused}");
    assert!(warehouse.append("no_such_table", Vec::new()).await.is_err());
}

/// A row from a JSON object.
pub fn row(value: serde_json::Value) -> Row {
    value.as_object().unwrap().clone()
}
