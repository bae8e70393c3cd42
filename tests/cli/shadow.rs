//! The shadow of a pipeline that others run: it sends nothing, says so everywhere, and its report holds what it decided beside
//! what they ran.

use std::time::Duration;

use serde_json::Value;

use super::run;
use crate::any_hour;
use crate::running::{Running, completion, today};

const WEEK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/shadow-week.yaml");

/// (date, node, kind, what its reason says)
const DIFFERENCES: [(&str, &str, &str, &str); 13] = [
    // Precompute by the clock, hours after its inputs were there.
    ("2026-02-02", "player_daily_cache.overnight", "earlier", "all that it needs was there"),
    ("2026-02-02", "player_composite_factors.overnight", "earlier", "all that it needs was there"),
    // Nobody grades in that week.
    ("2026-02-02", "grading", "not_run", "nobody ran it"),
    // A job that is paused for hours, and what is made without it meanwhile.
    ("2026-02-03", "player_daily_cache.overnight", "earlier", "all that it needs was there"),
    ("2026-02-03", "player_composite_factors.overnight", "later", "it waited: player_daily_cache.overnight"),
    // A second subscription; what is made of the second summary would be made again.
    ("2026-02-04", "player_game_summary", "duplicate", "it was done since"),
    ("2026-02-04", "player_daily_cache.overnight", "not_run", "its inputs were newer"),
    // Begun before its input, and made again too late.
    ("2026-02-05", "player_game_summary", "not_decided", "it waited: team_offense_game_summary"),
    ("2026-02-05", "player_game_summary", "earlier", "its inputs were newer"),
    // A failure, and a run that hangs, after which nobody tries again.
    ("2026-02-06", "player_shot_zone_analysis.overnight", "not_run", "had failed (503 from the warehouse)"),
    ("2026-02-06", "ml_feature_store.overnight", "not_decided", "player_shot_zone_analysis.overnight"),
    ("2026-02-07", "player_game_summary", "not_run", "had fallen silent (no heartbeat for 15 minutes)"),
    // A day without games.
    ("2026-02-08", "player_game_summary", "not_decided", "no game is played"),
];

#[test]
fn the_report_of_a_recorded_week_names_each_difference_with_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("week");
    let data = data.to_str().unwrap();
    let (code, text, errors) = run(&["simulate", "--keep", data, WEEK]);
    assert_eq!(code, Some(0), "{text}{errors}");
    let (code, text, errors) = run(&["shadow", "report", "2026-02-02..2026-02-08", "--data", data, "--json"]);
    assert_eq!(code, Some(1), "{text}{errors}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["role"]["shadow"], true);
    let rows = |date: &str| -> Vec<Value> {
        let dates = report["dates"].as_array().unwrap();
        let found = dates.iter().find(|found| found["partition"]["date"] == date);
        let found = found.unwrap_or_else(|| panic!("{date} is missing"));
        assert_eq!(found["incomplete"], Value::Null);
        found["rows"].as_array().unwrap().clone()
    };
    for (date, node, kind, words) in DIFFERENCES {
        let rows = rows(date);
        let is_it = |row: &&Value| row["node"] == node && row["kind"] == kind;
        let reasons: Vec<&str> = rows.iter().filter(is_it).map(|row| row["reason"].as_str().unwrap()).collect();
        assert!(reasons.iter().any(|reason| reason.contains(words)), "{date} {node} {kind}: {reasons:?}\n{rows:#?}");
    }
    // Nothing differs without a reason, and what does not differ is counted.
    for row in report["dates"].as_array().unwrap().iter().flat_map(|date| date["rows"].as_array().unwrap()) {
        assert!(row["reason"].as_str().is_some_and(|reason| reason.len() > 10), "{row}");
        assert_ne!(row["kind"], "same");
    }
    assert_eq!(report["counts"]["same"], 17);
    let daily: Vec<Value> = rows("2026-02-02");
    let cache = daily.iter().find(|row| row["node"] == "player_daily_cache.overnight").unwrap();
    // Decided at 00:41, begun at 06:00.
    assert_eq!(cache["apart_s"], 5 * 3600 + 19 * 60);

    let (code, text, _) = run(&["shadow", "report", "2026-02-03", "--data", data, "--all"]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("shadow: nothing that is decided is sent\n"), "{text}");
    assert!(text.contains("as decided") && text.contains("5h19m"), "{text}");
    // Deciding it again gives the same, and nobody is told that something was not begun.
    let (code, text, errors) = run(&["replay", "2026-02-02..2026-02-08", "--verify", "--data", data]);
    assert_eq!(code, Some(0), "{text}{errors}");
    let (_, alerts, _) = run(&["alerts", "--data", data]);
    assert!(alerts.contains("dead:player_game_summary") && !alerts.contains("not-started:"), "{alerts}");
}

/// Waits until the journal says `words`.
async fn journaled(tipoff: &Running, words: &str) {
    for _ in 0..600 {
        if tipoff.journal().iter().any(|entry| entry.contains(words)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing says {words}: {:#?}", tipoff.journal());
}

fn at_any_hour(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("pipeline.yaml");
    std::fs::write(&path, any_hour::pipeline()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn predictions() -> Value {
    completion("PredictionCoordinator", "phase_5_predictions", "batch-1", "success")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_decides_and_sends_nothing_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let pipeline = at_any_hour(&home);
    let run = |arguments: &[&str]| run(&[arguments, &["--pipeline-file", &pipeline]].concat());
    let mut tipoff = Running::serve(&["--shadow", "--pipeline-file", &pipeline]);
    let data = tipoff.data.to_str().unwrap().to_owned();
    assert_eq!(tipoff.publish("nba-phase5-predictions-complete", &predictions()).await, 200);
    journaled(&tipoff, "\"withheld\"").await;
    let journal = tipoff.journal().concat();
    assert!(journal.contains("/export/1/1"), "the export was not decided: {journal}");
    // There is nobody to whom it could have gone.
    let pull = tipoff.url.clone() + "/v1/projects/p/subscriptions/nba-phase6-export-trigger-sub:pull";
    let pulled = tipoff.client.post(pull).body("{\"maxMessages\":10}").send().await.unwrap();
    assert_eq!(pulled.status(), 404);
    let database = rusqlite::Connection::open(tipoff.data.join("tipoff.db")).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM outbox WHERE id LIKE '%/export/%' AND sent_at IS NULL"), 0);

    let notice = "shadow: nothing that is decided is sent";
    assert_eq!(tipoff.get("/readyz").await["role"], notice);
    let page = tipoff.client.get(format!("{}/ui/nba", tipoff.url)).send().await.unwrap().text().await.unwrap();
    assert!(page.contains(notice), "{page}");
    let (_, status, errors) = run(&["status", "--data", &data]);
    assert!(status.starts_with(notice), "{status}{errors}");
    let (_, why, errors) = run(&["why", "export", "--data", &data]);
    assert!(why.contains(notice) && why.contains("export would be dispatched"), "{why}{errors}");
    let again = run(&["retry", &today().to_string(), "export", "--reason", "again", "--data", &data]);
    assert!(again.1.contains("is sent, nor this") && !again.1.contains("a running service sends"), "{again:?}");
    let replay = ["dlq", "replay", "--topic", "nba-phase3-trigger", "--apply", "--reason", "try", "--data", &data];
    let (code, text, errors) = run(&replay);
    assert!(code == Some(2) && errors.contains("nothing is replayed from the shadow"), "{code:?} {text}{errors}");

    // What others run fulfils what was decided.
    let done = completion("Phase6Export", "phase_6_export", "theirs", "success");
    assert_eq!(tipoff.publish("nba-phase6-export-complete", &done).await, 200);
    journaled(&tipoff, "theirs").await;
    let (_, report, errors) = run(&["shadow", "report", &today().to_string(), "--data", &data, "--all", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|_| panic!("{report}{errors}"));
    let rows = report["dates"][0]["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["node"] == "export" && row["kind"] == "same"), "{report:#}");

    tipoff.stop();
    let refused = |arguments: &[&str], words: &str| {
        let (code, _, errors) = run(&[arguments, &["--listen", "127.0.0.1:0"][..]].concat());
        assert!(code == Some(2) && errors.contains(words), "{arguments:?}: {code:?} {errors}");
    };
    refused(&["serve", "--data", &data], "was decided in the shadow");
    // Nor does a copy of it become what was done, by whatever way.
    let folder = tempfile::tempdir().unwrap();
    let (copy, back) = (folder.path().join("copy.db"), folder.path().join("back"));
    let (copy, back) = (copy.to_str().unwrap(), back.to_str().unwrap());
    let (code, said, errors) = run(&["backup", copy, "--shadow", "--data", &data]);
    assert!(code == Some(0) && said.contains("decided in the shadow"), "{code:?} {said}{errors}");
    let (code, _, errors) = run(&["restore", copy, "--data", back]);
    assert!(code == Some(2) && errors.contains("--shadow restores it"), "{code:?} {errors}");
    let (code, said, errors) = run(&["restore", copy, "--shadow", "--data", back]);
    assert!(code == Some(0), "{code:?} {said}{errors}");
    let push = "nba-phase6-export-trigger-sub=http://127.0.0.1:1";
    refused(&["serve", "--shadow", "--data", &data, "--push", push], "a shadow sends nothing");
    refused(&["serve", "--shadow", "--data", &data, "--send", "export"], "a shadow sends nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn phases_go_over_one_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let pipeline = at_any_hour(&home);
    let tipoff = Running::serve(&["--send", "grading", "--pipeline-file", &pipeline]);
    assert_eq!(tipoff.publish("nba-phase5-predictions-complete", &predictions()).await, 200);
    journaled(&tipoff, "\"withheld\"").await;
    let notice = "of what is decided only what grading is asked is sent";
    assert_eq!(tipoff.get("/readyz").await["role"], notice);
    let data = tipoff.data.to_str().unwrap();
    let (_, status, _) = run(&["status", "--data", data]);
    assert!(status.starts_with(notice), "{status}");
    // It is no shadow's store, never becomes one, and is not shown as one.
    let (code, said, errors) = run(&["status", "--shadow", "--data", data]);
    assert!(code == Some(2) && errors.contains("decided for real"), "{code:?} {said}{errors}");
    // Which store the environment names says nothing of the service that is asked.
    let mut asked = super::program(&["status", "--server", &tipoff.url]);
    let output = asked.env("TIPOFF_DATA", "/elsewhere").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with(notice), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (code, _, errors) = run(&["serve", "--shadow", "--data", data, "--listen", "127.0.0.1:0"]);
    assert!(code == Some(2) && errors.contains("decided for real"), "{code:?} {errors}");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    let (code, said, errors) = run(&["backup", copy.to_str().unwrap(), "--data", data]);
    assert!(code == Some(0), "{code:?} {said}{errors}");
    let back = folder.path().join("back");
    let (code, _, errors) = run(&["restore", copy.to_str().unwrap(), "--shadow", "--data", back.to_str().unwrap()]);
    assert!(code == Some(2) && errors.contains("decided for real") && !back.exists(), "{code:?} {errors}");

    let tipoff = Running::serve(&["--send", "export", "--pipeline-file", &pipeline]);
    assert_eq!(tipoff.publish("nba-phase5-predictions-complete", &predictions()).await, 200);
    let pull = tipoff.url.clone() + "/v1/projects/p/subscriptions/nba-phase6-export-trigger-sub:pull";
    for _ in 0..600 {
        let pulled = tipoff.client.post(&pull).body("{\"maxMessages\":10}").send().await.unwrap();
        if pulled.text().await.unwrap().contains("messageId") {
            let (code, _, errors) = run(&["serve", "--send", "exprt", "--listen", "127.0.0.1:0"]);
            assert!(
                code == Some(2) && errors.contains("no pipeline has a phase `exprt`; did you mean `export`?"),
                "{errors}"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the export was not sent");
}
