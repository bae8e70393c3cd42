//! The API of the real binary: once under one key, told as it happens, refused to strangers, and as it is described.

mod access;
#[path = "../support/emulator.rs"]
mod emulator;
#[path = "../support/google_keys.rs"]
mod google_keys;
mod limits;
#[path = "../support/running.rs"]
mod running;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use running::{Running, completion, heartbeat};
use serde_json::{Value, json};

const ASK: &str = "/v1/pipelines/nba/dates/today/requests";

fn hold() -> Value {
    json!({ "command": "hold", "node": "predictions", "for": "2h", "actor": "ann", "reason": "the model is looked at" })
}

#[tokio::test]
async fn under_one_key_a_request_is_made_once_also_across_a_crash() {
    let mut service = Running::serve(&[]);
    let requests =
        |service: &Running| service.journal().iter().filter(|entry| entry.contains("the model is looked at")).count();
    let (code, first) = service.post(ASK, Some("k-1"), &hold()).await;
    assert_eq!((code, &first["recorded"]), (200, &json!("applied")), "{first}");
    assert_eq!(service.post(ASK, Some("k-1"), &hold()).await, (200, first.clone()));
    // What was sent twice because the answer was lost is one request, whatever became of the process in between.
    service.killed_and_started();
    assert_eq!(service.post(ASK, Some("k-1"), &hold()).await, (200, first));
    assert_eq!(requests(&service), 1);
    let other = json!({ "command": "skip", "node": "predictions", "actor": "ann", "reason": "another" });
    let (code, refused) = service.post(ASK, Some("k-1"), &other).await;
    assert_eq!((code, &refused["type"]), (422, &json!("urn:tipoff:problem:key-reused")), "{refused}");
    // The same about another date is another request.
    let (code, refused) = service.post("/v1/pipelines/nba/dates/tomorrow/requests", Some("k-1"), &hold()).await;
    assert_eq!(code, 422, "{refused}");
    // What was refused may be mended and sent again under the key.
    let wrong = json!({ "command": "hold", "node": "predictoins", "actor": "ann", "reason": "r" });
    let (code, refused) = service.post(ASK, Some("k-2"), &wrong).await;
    assert_eq!(code, 404);
    assert!(refused["detail"].as_str().unwrap().contains("did you mean `predictions`"), "{refused}");
    assert_eq!(service.post(ASK, Some("k-2"), &hold()).await.0, 200);
}

#[tokio::test]
async fn a_pipeline_is_held_and_let_go_and_a_preview_changes_nothing() {
    let service = Running::serve(&[]);
    let before = service.journal().len();
    let (code, foreseen) = service.post("/v1/pipelines/nba/dates/today/preview", None, &hold()).await;
    assert_eq!((code, &foreseen["recorded"]), (200, &json!("applied")), "{foreseen}");
    let waits = foreseen["node"]["blocked_by"].to_string();
    assert!(waits.contains("held by ann"), "{foreseen}");
    assert_eq!(service.journal().len(), before, "a preview was stored");

    let words = json!({ "actor": "ann", "reason": "all services are deployed", "for": "1h" });
    let (code, stop) = service.post("/v1/pipelines/nba/hold", Some("h"), &words).await;
    assert_eq!(code, 200, "{stop}");
    assert_eq!(service.post("/v1/pipelines/nba/hold", Some("h"), &words).await.1, stop);
    let stops = service.get("/v1/stops").await;
    assert_eq!(
        (&stops["standing"][0]["actor"], stops["past"].as_array().unwrap().len()),
        (&json!("ann"), 0),
        "{stops}"
    );
    let words = json!({ "actor": "bob", "reason": "done" });
    assert_eq!(service.post("/v1/pipelines/nba/resume", None, &words).await.1["was_held"], true);
    assert_eq!(service.get("/v1/pipelines/nba/dates/today").await["stopped"], Value::Null);
}

#[tokio::test]
async fn other_sites_and_other_kinds_of_bodies_are_refused_and_reading_changes_nothing() {
    let service = Running::serve(&[]);
    let call = |kind: &'static str, origin: Option<&'static str>| {
        let call = service.client.post(format!("{}{ASK}", service.url)).header("content-type", kind);
        let call = match origin {
            Some(origin) => call.header("origin", origin).header("sec-fetch-site", "cross-site"),
            None => call,
        };
        call.body(hold().to_string())
    };
    assert_eq!(call("text/plain", None).send().await.unwrap().status(), 415);
    assert_eq!(call("application/json", Some("https://evil.example")).send().await.unwrap().status(), 403);
    // A form of another site, and one that does not say whose it is.
    let form = format!("{}/ui/nba/today/ask", service.url);
    let body = format!("command=hold&node=predictions&key={}&reason=r&actor=a", uuid::Uuid::new_v4());
    let form = |extra: &'static [(&'static str, &'static str)]| {
        let call = service.client.post(&form).header("content-type", "application/x-www-form-urlencoded");
        extra.iter().fold(call, |call, (name, value)| call.header(*name, *value)).body(body.clone())
    };
    assert_eq!(form(&[]).send().await.unwrap().status(), 403);
    assert_eq!(form(&[("origin", "null")]).send().await.unwrap().status(), 403);
    assert_eq!(form(&[("sec-fetch-site", "same-site")]).send().await.unwrap().status(), 403);
    assert_eq!(service.journal().len(), 0, "something was changed");

    // No roster has been told of yet, which is neither an answer nor a fault.
    let unknown = [("/roster-coverage", 404)];
    for route in tipoff::http::routes(None).listed().iter().filter(|route| route.method == "GET") {
        let path = route.path;
        if path == "/v1/events" || path.ends_with("-alert") {
            continue;
        }
        let path = path.replace("{pipeline}", "nba").replace("{date}", "today").replace("{node}", "predictions");
        let path = path.replace("{name}", "tipoff.js").replace("{plan}", "nix").replace("{id}", "nix");
        let path = if path.ends_with("/ask") { format!("{path}?command=retry&node=predictions") } else { path };
        let path = if path.ends_with("/settle") { format!("{path}?act=replay&cause=nix") } else { path };
        let answer = service.client.get(format!("{}{path}", service.url)).send().await.unwrap();
        assert!(
            answer.status().is_success()
                || path.ends_with("/nix")
                || unknown.contains(&(path.as_str(), answer.status().as_u16())),
            "{path}: {}",
            answer.status()
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        if path.starts_with("/ui/") && !path.contains("assets") {
            let policy = answer.headers()["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
    }
    let asked = json!({ "what": "dates", "pipeline": "nix", "limit": 1 });
    let (code, said) = service.post("/v1/kept", None, &asked).await;
    assert_eq!((code, said["detail"].as_str().unwrap().contains("nix")), (404, true), "{said}");
    assert_eq!(service.journal().len(), 0, "reading changed something");
}

#[tokio::test]
async fn with_a_token_a_browser_asks_for_it_and_its_name_is_the_actor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let service = Running::serve(&["--token-file", file.to_str().unwrap()]);
    let page =
        || service.client.get(format!("{}/ui/nba/today/ask?command=hold", service.url)).header("accept", "text/html");
    let stranger = page().send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert!(stranger.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let signed_in = page().basic_auth("ann", Some("0123456789abcdef")).send().await.unwrap();
    assert_eq!(signed_in.status(), 200);
    assert!(signed_in.text().await.unwrap().contains("value=\"ann\""));
    assert_eq!(page().basic_auth("ann", Some("0123456789abcdeg")).send().await.unwrap().status(), 401);
    assert_eq!(service.client.get(format!("{}/openapi.json", service.url)).send().await.unwrap().status(), 401);
}

/// Events of a stream until `enough`: (name, id, data).
async fn events(service: &Running, query: &str, last: Option<&str>, enough: usize) -> Vec<(String, String, Value)> {
    let mut call = service.client.get(format!("{}/v1/events{query}", service.url));
    if let Some(last) = last {
        call = call.header("last-event-id", last);
    }
    let mut answer = call.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut text, mut found) = (String::new(), Vec::new());
    let reading = async {
        while found.len() < enough {
            text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
            while let Some((event, rest)) =
                text.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned()))
            {
                text = rest;
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
                };
                if !field("event:").is_empty() {
                    found.push((field("event:"), field("id:"), serde_json::from_str(&field("data:")).unwrap()));
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the events come");
    found
}

#[tokio::test]
async fn what_is_decided_is_told_and_whoever_comes_back_misses_nothing() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    for run in 0..5 {
        let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", &format!("r{run}"), "success");
        assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    }
    // From the beginning.
    let all = events(&service, "?after=0", None, 6).await;
    assert_eq!(all[0].0, "hello");
    assert!(all[1..].iter().all(|(name, ..)| name == "decided"), "{all:?}");
    let seqs: Vec<u64> = all[1..].iter().map(|(_, id, _)| id.parse().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    // From where somebody left off.
    let rest = events(&service, "", Some(&all[2].1), 3).await;
    assert_eq!(rest[1].1, all[3].1);
    // As it happens, to whoever asks about that date only.
    let today = format!("?date={}", running::today());
    let live = tokio::join!(
        events(&service, "?pipeline=nba&date=2001-01-01", None, 1),
        events(&service, &today, None, 2),
        async {
            tokio::time::sleep(Duration::from_millis(800)).await;
            service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "b", 1, 9)).await
        }
    );
    assert_eq!((live.0[0].0.as_str(), live.1[1].0.as_str()), ("hello", "decided"));
    assert_eq!(live.1[1].2["partition"]["pipeline"], "nba");
    for wrong in ["?date=x", "?pipeline=nix", "?before=3"] {
        let answer = service.client.get(format!("{}/v1/events{wrong}", service.url)).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{wrong}");
    }
}

#[tokio::test]
async fn so_many_listen_and_one_who_leaves_makes_room() {
    let service = Running::serve(&[]);
    let listen = || service.client.get(format!("{}/v1/events", service.url)).send();
    let mut listening = Vec::new();
    for _ in 0..tipoff::http::events::LISTENERS_MAX {
        let answer = listen().await.unwrap();
        assert_eq!(answer.status(), 200);
        listening.push(answer);
    }
    let refused = listen().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    drop(listening);
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while listen().await.unwrap().status() != 200 {
        assert!(std::time::Instant::now() < patience, "nobody who left made room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_run_is_given_up_after_it_was_seen_what_that_does() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "wedged", 1, 9)).await;
    let asked = json!({ "command": "give_up", "node": "player_daily_cache", "run": "wedged", "actor": "ann", "reason": "gone" });
    let (code, seen) = service.post("/v1/pipelines/nba/dates/today/preview", None, &asked).await;
    assert_eq!((code, &seen["recorded"]), (200, &json!("applied")), "{seen}");
    assert_eq!(service.get("/v1/pipelines/nba/runs").await["runs"][0]["run"], "wedged", "a preview gave it up");
    let (code, done) = service.post(ASK, Some("k"), &asked).await;
    assert_eq!((code, &done["recorded"]), (200, &json!("applied")), "{done}");
    assert_eq!(service.get("/v1/pipelines/nba/runs").await["runs"], json!([]));
    let (code, again) = service.post(ASK, Some("k2"), &asked).await;
    assert_eq!((code, &again["recorded"]), (200, &json!("superseded")), "{again}");
    for (name, value) in [("node", "predictions_gate"), ("run", ""), ("command", "finalize")] {
        let mut wrong = asked.clone();
        wrong[name] = json!(value);
        let (code, answer) = service.post(ASK, None, &wrong).await;
        assert!(matches!(code, 404 | 422), "{name}: {code} {answer}");
    }
}

/// The fuzzer that `tests/support/schemathesis.sh` has installed, if it has.
fn schemathesis() -> Option<PathBuf> {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    if !program.is_file() {
        emulator::missing("the API's fuzzer is not installed: tests/support/schemathesis.sh");
        return None;
    }
    Some(program)
}

#[tokio::test]
async fn no_call_breaks_it_and_every_answer_is_as_described() {
    let Some(program) = schemathesis() else { return };
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    // So that there is something to read.
    for (run, status) in [("r1", "success"), ("r2", "failed")] {
        let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", run, status);
        assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    }
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "b", 1, 9)).await;
    service
        .publish("nba-phase2-raw-complete", &json!({ "processor_name": "NobodyProcessor", "status": "success" }))
        .await;
    let words = json!({ "actor": "ann", "reason": "r" });
    assert_eq!(service.post("/v1/pipelines/nba/hold", None, &words).await.0, 200);

    let folder = tempfile::tempdir().unwrap();
    let mut fuzzer = Command::new(program);
    fuzzer.current_dir(folder.path()).env_remove("CI");
    fuzzer.arg("run").arg(format!("{}/openapi.json", service.url)).args(["--url", &service.url]);
    // A stream has no end; and what is well formed may still make no sense, which is refused.
    fuzzer.args(["--exclude-path", "/v1/events", "--exclude-checks", "positive_data_acceptance"]);
    fuzzer.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "20260123"]);
    fuzzer.args(["--request-timeout", "60", "--no-color"]);
    let output = tokio::task::spawn_blocking(move || fuzzer.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("36 selected / 37 total"), "not every operation was tried: {said}");
    // It still works.
    assert_eq!(service.post(ASK, None, &hold()).await.0, 200);
}
