//! An alert of the real binary reaches people, over a channel that is busy at first, once.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::hostile::Service;

type Heard = Arc<Mutex<Vec<Value>>>;

/// Busy the first time.
async fn take(State(heard): State<Heard>, body: String) -> Response {
    let mut heard = heard.lock().unwrap();
    heard.push(serde_json::from_str(&body).unwrap());
    match heard.len() {
        1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        _ => StatusCode::OK.into_response(),
    }
}

fn tipoff(service: &Service, config: &str, args: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    let output = command.args(["--json", "--config", config, "--data"]).arg(&service.data).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}")))
}

/// How a call ends that says what is wrong with it.
fn refused(service: &Service, config: &str, args: &[&str]) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    let output = command.args(["--config", config, "--data"]).arg(&service.data).args(args).output().unwrap();
    assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    output.status.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_reaches_people_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hunter2", listener.local_addr().unwrap());
    let heard = Heard::default();
    let routes = Router::new().route("/hunter2", post(take)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tipoff.yaml");
    let text = format!("alerts: {{ group_wait: 1s, channels: {{ ops: {{ kind: webhook, url: '{url}' }} }} }}\n");
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();

    let service = Service::start(&["--config", config]);
    for _ in 0..5 {
        assert!(service.publish("nba-phase2-raw-complete", b"no json").await.status().is_success());
    }
    for _ in 0..300 {
        if heard.lock().unwrap().len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = heard.lock().unwrap().clone();
    let [busy, taken] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(busy, taken, "what is sent again is the same notice");
    let item = &taken["items"][0];
    let key = item["key"].as_str().unwrap();
    assert!(key.starts_with("parked:") && key.ends_with(":nba-phase2-raw-complete"), "{taken}");
    assert_eq!((&item["news"], &item["severity"]), (&json!("on"), &json!("warning")));

    let (code, board) = tipoff(&service, config, &["alerts"]);
    assert_eq!(code, Some(0));
    assert_eq!(board["alerts"][0]["told"]["ops"]["notice"], taken["id"], "{board}");
    let mute = ["mute", key, "--for", "1h", "--reason", "a producer is being mended", "--actor", "ann"];
    assert_eq!(tipoff(&service, config, &mute).0, Some(0));
    let (_, board) = tipoff(&service, config, &["alerts", "list"]);
    assert_eq!(board["alerts"][0]["muted"]["actor"], "ann", "{board}");
    let answer = service.client.get(format!("{}/v1/alerts", service.url)).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["alerts"][0]["muted"]["reason"], "a producer is being mended");
    let unmute = json!({ "what": { "key": key }, "actor": "bob" }).to_string();
    let call = service.client.post(format!("{}/v1/alerts/unmute", service.url)).body(unmute);
    let answer = call.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["ended"], 1);
    assert_eq!(tipoff(&service, config, &["unmute", key]).0, Some(1));
    for wrong in [
        ["mute", key, "--for", "8d", "--reason", "x"],
        ["mute", "--topic=faild", "--for", "1h", "--reason", "x"],
        ["mute", "--topic=failed:x", "--for", "1h", "--reason", "x"],
        ["mute", "faild:x", "--for", "1h", "--reason", "x"],
        ["mute", "", "--for", "1h", "--reason", "x"],
        ["mute", key, "--for", "1h", "--reason", " "],
    ] {
        assert_eq!(refused(&service, config, &wrong), Some(2), "{wrong:?}");
    }
    // A key that is not on may be muted for later; an older mute that lasts longer decides.
    let quiet = ["mute", "failed:x:nba/2026-01-24", "--for", "2h", "--reason", "x"];
    assert_eq!(tipoff(&service, config, &quiet).1["on"], 0);
    let (_, shorter) = tipoff(&service, config, &["mute", "--topic", "failed", "--for", "1h", "--reason", "x"]);
    assert_eq!(shorter["muted_until"], shorter["until"]);
    let (_, shorter) = tipoff(&service, config, &["mute", "failed:x:nba/2026-01-24", "--for", "1h", "--reason", "x"]);
    assert!(shorter["muted_until"].as_str() > shorter["until"].as_str(), "{shorter}");
    for (body, status) in [
        (json!({ "what": { "key": key }, "for": "1h", "reason": "x".repeat(70_000), "actor": "ann" }), 413),
        (json!({ "what": { "key": key }, "for": "1h", "reason": "x".repeat(1_001), "actor": "ann" }), 422),
        (json!({ "what": { "key": key }, "for": "1h", "reason": "x", "actor": "a".repeat(201) }), 422),
        (json!({ "what": { "topic": "nosuch" }, "for": "1h", "reason": "x", "actor": "ann" }), 422),
    ] {
        let url = format!("{}/v1/alerts/mute", service.url);
        let call = service.client.post(url).header("content-type", "application/json").body(body.to_string());
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body:.100}");
    }

    let (code, tried) = tipoff(&service, config, &["alerts", "test"]);
    assert_eq!((code, &tried["ops"]["taken"]), (Some(0), &json!(true)));
    assert!(heard.lock().unwrap().iter().any(|notice| notice["kind"] == "test"));
    // A channel that is not set up keeps nobody from trying another one.
    let two = folder.path().join("two.yaml");
    let other = "mail: { kind: slack, url_env: TIPOFF_TEST_IS_NOT_SET }";
    std::fs::write(&two, format!("alerts: {{ channels: {{ ops: {{ kind: webhook, url: '{url}' }}, {other} }} }}\n"))
        .unwrap();
    let two = two.to_str().unwrap();
    assert_eq!(tipoff(&service, two, &["alerts", "test", "ops"]).0, Some(0));
    for wrong in [&["alerts", "test"][..], &["alerts", "test", "mail"], &["alerts", "test", "opps"]] {
        assert_eq!(refused(&service, two, wrong), Some(2), "{wrong:?}");
    }
    let (_, shown) = tipoff(&service, config, &["config"]);
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
}
