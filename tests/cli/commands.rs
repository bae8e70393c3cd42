//! `runs`, `games`, `dispatch`, `force`, `skip`, `retry`, `gaps`, `backfill`, `reconcile`, `locks`, `batch`, `man`: on a running service, with what processors and a schedule have told it.

use serde_json::{Value, json};

use super::run;
use crate::running::{Running, completion, heartbeat, today};

/// A service that has heard of one run at work, one failure, a storm and a schedule.
async fn prepared() -> Running {
    let mut service = Running::serve(&["--heartbeat-flush", "0s"]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "alive-1", 3, 9)).await;
    let failed = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "failed-1", "failed");
    assert!(service.publish("nba-phase3-analytics-complete", &failed).await.is_success());
    for nth in 0..60 {
        let beat = heartbeat("TeamDefenseZoneAnalysisProcessor", &format!("again-{nth}"), 0, 9);
        service.publish("nba-processor-heartbeats", &beat).await;
    }
    let tip = |hours: i64| json!(tipoff::clock::Clock::System.now() + jiff::SignedDuration::from_hours(hours));
    let game = |id: &str, (away, home): (&str, &str), tip: Value, status: &str| json!({ "game_id": id, "away": away, "home": home, "tip": tip, "status": status });
    let games = [
        game("0022500001", ("BOS", "NYK"), tip(2), "scheduled"),
        game("0022500002", ("LAL", "GSW"), tip(4), "scheduled"),
    ];
    let rows = json!({ "pipeline": "nba", "report": "schedule", "date": today().to_string(), "rows": games });
    let answer = service.client.post(format!("{}/v1/reports", service.url)).body(rows.to_string());
    let answer = answer.header("content-type", "application/json").send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    // It reads schedules every few minutes, and when it starts.
    service.killed_and_started();
    service
}

fn at(service: &Running, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(&[arguments, &["--data", service.data.to_str().unwrap()]].concat())
}

fn json_at(service: &Running, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, said, errors) = at(service, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}{errors}")))
}

#[tokio::test]
async fn runs_are_those_at_work_and_by_filter_those_that_want_an_eye() {
    let service = prepared().await;
    let (code, found) = json_at(&service, &["runs"]);
    assert_eq!(code, Some(0));
    let alive = found["runs"].as_array().unwrap();
    let run = alive.iter().find(|run| run["run"] == "alive-1").unwrap_or_else(|| panic!("{found}"));
    assert_eq!((&run["node"], &run["done"], &run["total"]), (&json!("player_daily_cache"), &json!(3), &json!(9)));
    let (_, text, _) = at(&service, &["runs", "--node", "PlayerDailyCacheProcessor"]);
    assert!(text.contains("alive-1") && text.contains("at 3 of 9") && !text.contains("again-"), "{text}");

    let (code, found) = json_at(&service, &["runs", "today", "--failed"]);
    assert_eq!(code, Some(1));
    let failure = &found["failed"][0];
    assert_eq!((&failure["node"], &failure["run"]), (&json!("player_game_summary"), &json!("failed-1")), "{found}");
    assert_eq!((&failure["kind"], &failure["text"]), (&json!("reported"), &json!("it did not work")));

    let (code, found) = json_at(&service, &["runs", "--storm"]);
    assert_eq!(code, Some(1), "{found}");
    let storm = &found["storms"][0];
    assert_eq!((&storm["node"], &storm["begun"]), (&json!("team_defense_zone_analysis"), &json!(60)), "{found}");
    let (_, text, _) = at(&service, &["runs", "--storm"]);
    assert!(text.contains("60 runs within the hour, more than 50 are a warning"), "{text}");

    let (code, found) = json_at(&service, &["runs", "--stuck"]);
    assert_eq!((code, &found["stuck"]), (Some(0), &json!([])), "everybody beats");
    for (wrong, words) in [
        (&["runs", "--node", "predictons"][..], "predictions"),
        (&["runs", "--stuck", "--failed"], "cannot be used with"),
        (&["runs", "someday"], "someday"),
    ] {
        let (code, _, errors) = at(&service, wrong);
        assert!(code == Some(2) && errors.contains(words), "{wrong:?}: {errors}");
    }
}

#[test]
fn a_run_that_fell_silent_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("silent.yaml");
    let story = "title: silent\nstory: It beats once.\nstart: 2026-01-23T15:00:00Z\nrun_on: 1m\ntimeline:\n  - { at: +1m, \
        heartbeats: { processor: PlayerDailyCacheProcessor, run: hangs, date: 2026-01-23, times: 1 } }\n\
        expect:\n  - never: { dispatch: {} }\n";
    std::fs::write(&file, story).unwrap();
    let kept = folder.path().join("kept");
    let (code, said, errors) = run(&["simulate", file.to_str().unwrap(), "--keep", kept.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}{errors}");
    let data = ["--data", kept.to_str().unwrap()];
    let (code, text, errors) = run(&[&["runs", "2026-01-23", "--stuck"], &data[..]].concat());
    assert!(code == Some(1) && text.contains("player_daily_cache: hangs"), "{text}{errors}");
    assert!(text.contains("it counts as dead"), "{text}");
}

#[tokio::test]
async fn games_say_when_they_begin_who_knows_better_and_what_they_are_short_of() {
    let service = prepared().await;
    let word = ["game", "today", "LAL@GSW", "--status", "postponed", "--reason", "the roof leaks", "--actor", "ann"];
    assert_eq!(at(&service, &word).0, Some(0));
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while at(&service, &["games"]).0 != Some(0) {
        assert!(std::time::Instant::now() < patience, "the schedule is never read");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let (_, text, _) = at(&service, &["games"]);
    assert!(text.contains("1 of 2 games are played"), "{text}");
    assert!(text.contains("BOS @ NYK") && text.contains("in 1 h 59 min"), "{text}");
    assert!(text.contains("short of") && text.contains("predictions nothing"), "{text}");
    assert!(text.contains("as ann says until") && text.contains("the roof leaks"), "{text}");
    assert!(text.contains("the schedule has it as scheduled"), "{text}");
    // A slip of the finger makes no game; one whose teams do not play otherwise may be known to nobody else.
    for teams in ["BOS@NYX", "NYK@BOS"] {
        let (code, _, errors) = at(&service, &["game", "today", teams, "--status", "final", "--reason", "r"]);
        assert_eq!((code, errors.contains("the schedule has BOS@NYK")), (Some(2), true), "{errors}");
    }
    assert_eq!(at(&service, &["game", "today", "LAL@UTA", "--status", "scheduled", "--reason", "r"]).0, Some(0));
    assert_eq!(at(&service, &["game", "today", "LAL@UTA", "--clear", "--reason", "r"]).0, Some(0));
    let (_, found) = json_at(&service, &["games", "today"]);
    let status: Vec<&Value> = found["games"].as_array().unwrap().iter().map(|game| &game["status"]).collect();
    assert_eq!(status, [&json!("scheduled"), &json!("postponed")], "{found}");
    let (code, text, _) = at(&service, &["games", "tomorrow"]);
    assert!(code == Some(1) && text.contains("no schedule of this date is known"), "{text}");
}

#[tokio::test]
async fn a_dispatch_is_shown_before_it_is_sent_and_sent_once() {
    let service = prepared().await;
    // Nothing has come in that predictions are made of.
    let (code, text, errors) = at(&service, &["dispatch", "predictions", "today"]);
    assert!(code == Some(1) && text.contains("nothing would be sent"), "{text}{errors}");
    assert!(text.contains("ml_feature_store") && text.contains("tipoff why predictions"), "{text}");
    let blocked = ["dispatch", "predictions", "today", "--apply", "--reason", "try"];
    assert_eq!(at(&service, &blocked).0, Some(1));
    let journal = service.journal().len();

    // A scraper needs nothing.
    let scraper = ["dispatch", "nbac_gamebook_pdf", "today"];
    let (code, found) = json_at(&service, &scraper);
    assert_eq!((code, &found["would_send"]), (Some(0), &json!(true)), "{found}");
    let message = &found["messages"][0];
    assert!(message["target"].as_str().unwrap().contains("nba-"), "{message}");
    assert_eq!(
        message["body"]["game_date"].as_str().or(message["body"]["date"].as_str()),
        Some(&*today().to_string()),
        "{message}"
    );
    let (_, text, _) = at(&service, &scraper);
    assert!(text.contains("a dry run, nothing is sent") && text.contains("--apply --reason WHY"), "{text}");
    assert_eq!(service.journal().len(), journal, "a dry run is journaled");

    let apply = [&scraper[..], &["--apply", "--reason", "the file was moved", "--actor", "ann"]].concat();
    let (code, sent) = json_at(&service, &apply);
    assert_eq!((code, &sent["recorded"]), (Some(0), &json!("applied")), "{sent}");
    assert!(service.journal().iter().any(|entry| entry.contains("the file was moved") && entry.contains("ann")));
    // It is under way now: nothing more would leave.
    let (code, text, _) = at(&service, &scraper);
    assert!(code == Some(1) && text.contains("it is dispatched"), "{text}");
    for (wrong, words) in [
        (&["dispatch", "predictons", "today"][..], "predictions"),
        (&["dispatch", "predictions", "today", "--apply"], "--reason"),
        (&["dispatch", "predictions", "2035-01-01"], "too far from today"),
    ] {
        let (code, _, errors) = at(&service, wrong);
        assert!(code == Some(2) && errors.contains(words), "{wrong:?}: {errors}");
    }
}

#[tokio::test]
async fn a_word_of_an_operator_is_journaled_shown_and_taken_back() {
    let service = prepared().await;
    let said = |arguments: &[&str]| at(&service, &[arguments, &["--reason", "ann knows", "--actor", "ann"]].concat());
    let why = || json_at(&service, &["why", "predictions", "today"]).1;
    let forced = said(&["force", "today", "predictions", "--past", "ml_feature_store", "--for", "2h"]);
    assert!(forced.0 == Some(0) && forced.1.contains("no longer stands in the way of predictions until"), "{forced:?}");
    assert_eq!(why()["node"]["forced"][0][0], "ml_feature_store", "{}", why());
    assert_eq!(why()["node"]["forced"][0][1]["reason"], "ann knows");
    assert_eq!(said(&["resume", "today", "predictions", "--input", "ml_feature_store"]).0, Some(0));
    assert_eq!(why()["node"]["forced"], Value::Null);
    let (code, _, errors) = said(&["force", "today", "predictions", "--past", "ml_feature_stor"]);
    assert!(code == Some(2) && errors.contains("ml_feature_store"), "{errors}");

    assert_eq!(said(&["skip", "today", "predictions"]).0, Some(0));
    assert_eq!(
        (&why()["node"]["state"], &why()["node"]["skipped_for"]),
        (&json!("skipped"), &json!("ann knows, by ann"))
    );
    assert_eq!(said(&["resume", "today", "predictions"]).0, Some(0));
    assert_eq!(why()["node"]["state"], "waiting");
    let (code, text, _) = said(&["retry", "today", "predictions"]);
    assert!(code == Some(0) && text.contains("predictions waits"), "{text}");
    assert_eq!(service.journal().iter().filter(|entry| entry.contains("ann knows")).count(), 5);
    // The whole pipeline is held beside the dates, and shows in the course of each.
    assert_eq!(said(&["hold", "all", "--for", "1h"]).0, Some(0));
    let (_, text, _) = at(&service, &["timeline", "today"]);
    assert!(
        text.contains("requested skip predictions by ann") && text.contains("held      the whole pipeline"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_missing_is_listed_planned_started_and_ended() {
    let service = Running::serve(&[]);
    for (day, there) in [("2026-01-20", 1), ("2026-01-21", 0), ("2026-01-22", 0), ("2026-01-23", 1)] {
        let game = json!({ "game_id": "0022500001", "away": "BOS", "home": "NYK", "tip": format!("{day}T23:00:00Z"), "status": "final" });
        let rows = json!({ "pipeline": "nba", "report": "schedule", "date": day, "rows": [game] });
        assert_eq!(service.post("/v1/reports", None, &rows).await.0, 200);
        let told = json!({ "pipeline": "nba", "node": "p2_nbacom_gamebook_pdf", "date": day, "observed": there, "expected": 1 });
        assert_eq!(service.post("/v1/coverage", None, &told).await.0, 200);
    }
    let span = ["--from", "2026-01-20", "--until", "2026-01-23", "--node", "p2_nbacom_gamebook_pdf"];
    let (code, found) = json_at(&service, &[&["gaps"][..], &span].concat());
    assert_eq!(code, Some(1), "{found}");
    let gap = &found["gaps"][0];
    assert_eq!(
        (&gap["from"], &gap["until"], &gap["days"]),
        (&json!("2026-01-21"), &json!("2026-01-22"), &json!(2)),
        "{found}"
    );
    let words = ["--reason", "the files were late", "--actor", "ann"];
    let (code, planned) = json_at(&service, &[&["backfill", "plan"][..], &span, &["--actor", "ann"]].concat());
    assert_eq!(code, Some(0), "{planned}");
    let plan = planned["plan"]["id"].as_str().or(planned["id"].as_str()).unwrap_or_else(|| panic!("{planned}"));
    assert_eq!(at(&service, &["backfill", "status", plan]).0, Some(0));
    assert_eq!(at(&service, &[&["backfill", "run", plan][..], &words].concat()).0, Some(0));
    let (_, text, _) = at(&service, &["backfill", "status", plan]);
    assert!(text.contains("running"), "{text}");
    assert_eq!(at(&service, &[&["backfill", "cancel", plan][..], &words].concat()).0, Some(0));
    let (code, _, errors) = at(&service, &[&["backfill", "run", plan][..], &words].concat());
    assert!(code == Some(2) && errors.contains("cancelled"), "what is cancelled is not run: {errors}");
    let (code, _, errors) = at(&service, &["gaps", "--node", "p2_nbacom_gamebok_pdf"]);
    assert!(code == Some(2) && errors.contains("p2_nbacom_gamebook_pdf"), "{errors}");
}

#[tokio::test]
async fn what_is_believed_is_compared_with_what_is_there() {
    let service = Running::serve(&[]);
    let day = today().to_string();
    let there = async |node: &str, observed: u32| {
        let told = json!({ "pipeline": "nba", "node": node, "date": day, "observed": observed, "expected": 10 });
        assert_eq!(service.post("/v1/coverage", None, &told).await.0, 200);
    };
    let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "r1", "success");
    assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    assert_eq!(json_at(&service, &["status"]).1["nodes"].as_array().map(Vec::is_empty), Some(false));
    // It said that it was done, and hardly anything is there; of another one all is there, and nobody said so.
    there("player_game_summary", 1).await;
    there("p2_nbacom_gamebook_pdf", 10).await;
    let journal = service.journal().len();
    let (code, found) = json_at(&service, &["reconcile", "today"]);
    assert_eq!(code, Some(1), "{found}");
    let differences = found["reconciled"]["differences"].as_array().unwrap();
    let of = |node: &str| differences.iter().find(|found| found["node"] == node).unwrap_or_else(|| panic!("{found}"));
    assert_eq!(of("player_game_summary")["is_short"], true, "{found}");
    assert_eq!(service.journal().len(), journal, "a comparison changes nothing");
    let (_, text, _) = at(&service, &["reconcile", "today"]);
    assert!(text.contains("player_game_summary: believed succeeded") && text.contains("With --apply"), "{text}");
    let (code, text, errors) = at(&service, &["reconcile", "today", "--apply", "--actor", "ann"]);
    assert!(code == Some(0) && text.contains("The date follows what is there"), "{text}{errors}");
    let (_, told, _) = at(&service, &["timeline", "today"]);
    assert!(told.contains(", asked for by ann"), "{told}");
    let (code, text, _) = at(&service, &["reconcile", "today"]);
    assert!(code == Some(0) && text.contains("what is believed of them is so"), "{text}");
    let (code, _, errors) = at(&service, &["reconcile", "2035-01-01"]);
    assert!(code == Some(2) && errors.contains("too far from today"), "{errors}");
}

#[tokio::test]
async fn a_lock_is_let_go_with_its_run_and_not_while_it_is_at_work() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "wedged", 3, 9)).await;
    let (code, found) = json_at(&service, &["locks"]);
    assert_eq!((code, &found["locks"][0]["run"]), (Some(0), &json!("wedged")), "{found}");
    assert!(found["locks"][0]["dead_at"].as_str() > found["locks"][0]["stale_at"].as_str(), "{found}");
    let words = ["--reason", "its machine is gone", "--actor", "ann"];
    let release = ["locks", "release", "PlayerDailyCacheProcessor", "today"];
    let (code, _, errors) = at(&service, &[&release[..], &words].concat());
    assert!(code == Some(1) && errors.contains("may be at work") && errors.contains("--force"), "{errors}");
    let (code, text, errors) = at(&service, &[&release[..], &words, &["--force"]].concat());
    assert!(code == Some(0) && text.contains("wedged is given up"), "{text}{errors}");
    assert_eq!(json_at(&service, &["locks", "today"]).1["locks"], json!([]));
    let (_, failed) = json_at(&service, &["runs", "--failed"]);
    assert_eq!(failed["failed"][0]["text"], "given up by ann: its machine is gone", "{failed}");
    let (_, text, _) = at(&service, &["timeline", "today"]);
    assert!(text.contains("requested give up player_daily_cache run wedged by ann: its machine is gone"), "{text}");
    let (code, _, errors) = at(&service, &[&release[..], &words].concat());
    assert!(code == Some(1) && errors.contains("nobody is at work on player_daily_cache"), "{errors}");
    // What that run still says counts for nothing.
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "wedged", 9, 9)).await;
    assert_eq!(json_at(&service, &["locks"]).1["locks"], json!([]));
}

#[tokio::test]
async fn a_batch_is_listed_closed_and_given_time() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    for (name, run) in [("PredictionCoordinator", "batch_1"), ("PlayerDailyCacheProcessor", "no-batch")] {
        service.publish("nba-processor-heartbeats", &heartbeat(name, run, 119, 136)).await;
    }
    let (_, found) = json_at(&service, &["batch", "list"]);
    let [batch] = found["batches"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!(
        (&batch["run"], &batch["done"], &batch["batch"]["asked_at"]),
        (&json!("batch_1"), &json!(119), &Value::Null)
    );
    let words = ["--reason", "they have no lines", "--actor", "ann"];
    let of = |what: &'static str, node: &'static str| [&["batch", what, node, "today"][..], &words].concat();
    assert_eq!(at(&service, &of("continue", "predictions")).0, Some(0));
    let (code, text, errors) = at(&service, &of("finalize", "predictions"));
    assert!(code == Some(0) && text.contains("batch_1 of predictions is to be closed"), "{text}{errors}");
    let (_, found) = json_at(&service, &["batch", "list", "today"]);
    assert!(found["batches"][0]["batch"]["asked_at"].is_string(), "its processor is asked at once: {found}");
    let (_, text, _) = at(&service, &["batch", "list"]);
    assert!(text.contains("asked to close at") && text.contains("ann said `finalize`"), "{text}");
    for (wrong, words) in [
        (of("finalize", "player_daily_cache"), "has no batches"),
        (of("finalize", "export"), "nobody is at work on export"),
        ([&of("continue", "predictions")[..], &["--run", "batch_2"]].concat(), "at work are batch_1"),
    ] {
        let (code, _, errors) = at(&service, &wrong);
        assert!(code == Some(1) && errors.contains(words), "{wrong:?}: {errors}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = run(&["man", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    for name in ["tipoff.1", "tipoff-status.1", "tipoff-dispatch.1", "tipoff-dlq-replay.1"] {
        let page = std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let (code, page, _) = run(&["man"]);
    assert!(code == Some(0) && page.contains(".TH tipoff"), "{page}");
    let (code, _, errors) = run(&["man", "/dev/null/x"]);
    assert!(code == Some(2) && errors.contains("/dev/null/x"), "{errors}");
}
