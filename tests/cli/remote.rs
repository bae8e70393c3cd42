//! Over the API of a running service everything is said as it is said at its store, and done as it is done there.

use std::process::Command;

use serde_json::{Value, json};

use super::{program, run};
use crate::running::{Running, completion, heartbeat, today};

/// A service with a date on which something has happened, and a letter.
async fn prepared() -> Running {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "alive-1", 3, 9)).await;
    for (name, run, status) in
        [("PlayerGameSummaryProcessor", "failed-1", "failed"), ("TeamOffenseGameSummaryProcessor", "done-1", "success")]
    {
        let done = completion(name, "phase_3_analytics", run, status);
        assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    }
    let nobody = json!({ "processor_name": "NobodyProcessor", "status": "success" });
    service.publish("nba-phase2-raw-complete", &nobody).await;
    service
}

/// What a command says, at the store and over the API.
fn both(service: &Running, arguments: &[&str]) -> [(Option<i32>, String, String); 2] {
    let at_store = run(&[arguments, &["--data", service.data.to_str().unwrap()]].concat());
    let over_api = run(&[arguments, &["--server", &service.url]].concat());
    [at_store, over_api]
}

fn served(service: &Running, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(&[arguments, &["--server", &service.url]].concat())
}

/// JSON without what moves from one second to the next.
fn still(value: &mut Value) {
    const MOVING: [&str; 11] = [
        "at",
        "now",
        "age_seconds",
        "age_s",
        "service_wrote_at",
        "wake_at",
        "slack",
        "until",
        "made_at",
        "in_seconds",
        "takes",
    ];
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !MOVING.contains(&name.as_str()));
            // A run beside its age.
            members.values_mut().for_each(still);
            if let Some(Value::Array(runs)) = members.get_mut("runs") {
                for run in runs.iter_mut().filter_map(Value::as_array_mut) {
                    run.truncate(1);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(still),
        _ => {}
    }
}

#[tokio::test]
async fn every_question_has_the_same_answer_over_the_api() {
    let service = prepared().await;
    let day = today().to_string();
    let season = ["--from", &day, "--until", &day];
    let questions: Vec<Vec<&str>> = vec![
        vec!["status"],
        vec!["status", "--all"],
        vec!["why", "player_game_summary"],
        vec!["timeline", "today"],
        vec!["timeline", "today", "player_game_summary"],
        vec!["show", "today", "--event", "1"],
        vec!["runs"],
        vec!["runs", "--failed"],
        vec!["runs", "--stuck"],
        vec!["runs", "--storm"],
        vec!["games"],
        vec!["impact", "player_game_summary"],
        vec!["forecast"],
        vec!["locks"],
        vec!["batch", "list"],
        vec!["coverage"],
        vec!["health", "today"],
        vec!["rosters"],
        vec!["graph"],
        vec!["reconcile", "today"],
        vec!["dispatch", "player_game_summary", "today"],
        [&["gaps"], season.as_slice()].concat(),
        vec!["backfill", "status"],
        vec!["alerts"],
        vec!["dlq", "list"],
        vec!["dlq", "replay", "--every"],
        vec!["replay", "today", "--verify"],
    ];
    for question in questions {
        let [at_store, over_api] = both(&service, &[question.as_slice(), &["--json"]].concat());
        let values = |said: &str| -> Vec<Value> {
            let values = serde_json::Deserializer::from_str(said).into_iter::<Value>();
            values.map(|value| value.unwrap_or_else(|error| panic!("{question:?}: {error}: {said}"))).collect()
        };
        let (mut here, mut there) = (values(&at_store.1), values(&over_api.1));
        here.iter_mut().chain(&mut there).for_each(still);
        assert!(!here.is_empty(), "{question:?} says nothing: {}", at_store.2);
        assert_eq!(here, there, "{question:?}: {}{}", at_store.2, over_api.2);
        assert_eq!(at_store.0, over_api.0, "{question:?}: {}{}", at_store.2, over_api.2);
        // What people read is of the same making; its first word is there.
        let [at_store, over_api] = both(&service, &question);
        assert_eq!(
            at_store.1.lines().count(),
            over_api.1.lines().count(),
            "{question:?}: {}\n{}",
            at_store.1,
            over_api.1
        );
    }
    // A capsule is written from afar, and decides here as it did there.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("today.capsule.json.gz");
    let (code, _, errors) = served(&service, &["capsule", "today", "--output", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(run(&["replay", file.to_str().unwrap(), "--verify"]).0, Some(0));
}

#[tokio::test]
async fn what_is_asked_over_the_api_is_carried_out_by_the_service() {
    let service = prepared().await;
    let why = ["--reason", "the model is looked at", "--actor", "ann"];
    let asked = |arguments: &[&str]| {
        let (code, said, errors) = served(&service, &[arguments, &why].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {said}{errors}");
        said
    };
    assert!(asked(&["hold", "today", "predictions", "--for", "2h"]).contains("predictions is held until"));
    assert!(asked(&["resume", "today", "predictions"]).contains("no longer held"));
    assert!(asked(&["skip", "today", "p2_odds_player_props"]).contains("is skipped"));
    assert!(asked(&["retry", "today", "player_game_summary"]).contains("is to run again"));
    assert!(
        asked(&["force", "today", "predictions", "--past", "phase4_quorum"]).contains("no longer stands in the way")
    );
    assert!(asked(&["game", "today", "SAS@GSW", "--status", "postponed"]).contains("is as you say until"));
    assert!(asked(&["game", "today", "SAS@GSW", "--clear"]).contains("is as the schedule says"));
    assert!(asked(&["locks", "release", "player_daily_cache", "today", "--force"]).contains("alive-1 is given up"));
    assert!(asked(&["hold", "all", "--for", "1h"]).contains("ann"));
    assert!(asked(&["resume", "all"]).contains("no longer held"));
    assert!(asked(&["mute", "--topic", "parked", "--for", "1h"]).contains("is muted until"));
    let (code, said, _) = served(&service, &["unmute", "--topic", "parked", "--actor", "ann"]);
    assert_eq!((code, said.contains("not muted any more")), (Some(0), true), "{said}");
    let (code, said, errors) = served(&service, &["reconcile", "today", "--apply"]);
    assert!(matches!(code, Some(0 | 3)), "{said}{errors}");

    // A letter is put right, and what it says reaches its node.
    let (_, letters, _) = served(&service, &["dlq", "list", "--json"]);
    let letters: Value = serde_json::from_str(&letters).unwrap();
    let id = letters["letters"][0]["id"].as_str().unwrap_or_else(|| panic!("{letters}")).to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("right.json");
    let right = completion("NbacScheduleProcessor", "phase_2_raw", "put-right", "success");
    std::fs::write(&file, right.to_string()).unwrap();
    asked(&["dlq", "correct", &id, "--with", file.to_str().unwrap()]);
    let said = asked(&["dlq", "replay", &id, "--apply", "--force"]);
    assert!(said.contains("1 replayed"), "{said}");
    let (_, shown, _) = served(&service, &["dlq", "show", &id, "--json"]);
    assert!(shown.contains("the model is looked at"), "{shown}");

    // The journal names who asked, and the store agrees.
    let (_, said, _) = run(&["timeline", "today", "--data", service.data.to_str().unwrap()]);
    for words in ["hold", "ann", "the model is looked at"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What was refused is refused in the same words.
    for wrong in [
        vec!["hold", "today", "predictoins", "--reason", "r"],
        vec!["hold", "today", "predictions", "--for", "99999999h", "--reason", "r"],
        vec!["retry", "1999-01-01", "predictions", "--reason", "r"],
        vec!["force", "today", "predictions", "--past", "nothing", "--reason", "r"],
        vec!["backfill", "run", "plan-1", "--reason", "r", "--yes"],
        vec!["dlq", "show", "nobody"],
    ] {
        let [at_store, over_api] = both(&service, &wrong);
        assert_eq!(at_store, over_api, "{wrong:?}");
        assert_eq!(over_api.0, Some(2), "{wrong:?}: {}", over_api.2);
    }
}

#[test]
fn what_asks_no_service_says_so_and_what_does_not_answer_is_told() {
    let (code, _, errors) = run(&["check", "--server", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--server: this command works on this machine alone"), "{errors}");
    let (code, _, errors) = run(&["status", "--server", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("http://127.0.0.1:1"), "{errors}");
    let (code, _, errors) = run(&["status", "--server", "ftp://127.0.0.1"]);
    assert_eq!((code, errors.contains("only http and https")), (Some(2), true), "{errors}");
    assert_eq!(run(&["status", "--server", "http://127.0.0.1:1", "--offline"]).0, Some(2));
    // The environment speaks for commands that can ask; --offline overrides it.
    let with = |arguments: &[&str]| {
        let mut command: Command = program(arguments);
        let output = command.env("TIPOFF_SERVER", "http://127.0.0.1:1").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(with(&["check"]).0, Some(0));
    let empty = tempfile::tempdir().unwrap();
    let (code, errors) = with(&["status", "--offline", "--data", empty.path().to_str().unwrap()]);
    assert_eq!(code, Some(3));
    assert!(errors.contains("open the store"), "{errors}");
}

#[tokio::test]
async fn a_token_is_sent_from_its_file_and_missed_where_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let file = file.to_str().unwrap();
    let service = Running::serve(&["--token-file", file]);
    let (code, _, errors) = served(&service, &["status"]);
    assert_eq!((code, errors.contains("--token-file")), (Some(3), true), "{errors}");
    let (code, said, errors) = served(&service, &["status", "--token-file", file]);
    assert_eq!(code, Some(1), "{said}{errors}");
    assert!(said.contains("not complete"), "{said}");
}

/// Nobody on the way is shown a token, unless it is said that they may be.
#[tokio::test]
async fn a_token_goes_to_another_machine_over_https_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let far = ["--server", "http://tipoff.invalid:8085", "--token-file", file.to_str().unwrap()];
    for command in [
        &["status"][..],
        &["hold", "today", "predictions", "--reason", "r"],
        &["load", "--yes", "--events", "1"],
        &["run", "--node", "grading", "--", "false"],
    ] {
        let at = command.iter().position(|word| *word == "--").unwrap_or(command.len());
        let (code, said, errors) = run(&[&command[..at], &far, &command[at..]].concat());
        assert_eq!((code, errors.contains("--insecure-http")), (Some(2), true), "{command:?}: {said}{errors}");
        assert!(!errors.contains("0123456789abcdef"), "{errors}");
    }
    // Where it is wanted, or there is nothing to be read on the way, it is tried: nobody has that name.
    let (wanted, https) = (["--insecure-http"], ["--server", "https://tipoff.invalid:8085"]);
    for arguments in [
        [&["status"], &far[..], &wanted].concat(),
        [&["status"], &https[..], &far[2..]].concat(),
        [&["status"], &far[..2]].concat(),
    ] {
        let (code, said, errors) = run(&arguments);
        assert_eq!((code, errors.contains("tipoff.invalid")), (Some(3), true), "{arguments:?}: {said}{errors}");
    }
}
