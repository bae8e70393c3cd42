//! `plan`: what another declaration would change, said before anything does.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::run;
use crate::any_hour;
use crate::running::{Running, completion, heartbeat};

/// The built-in pipelines with `from` replaced by `to`, which has to be there once.
fn changed(folder: &tempfile::TempDir, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = tipoff::pipeline::PIPELINE.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    written(folder, &text)
}

fn written(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("pipeline.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn plan(service: &Running, file: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    run(&[&["plan", "--server", &service.url, "--pipeline-file", file.to_str().unwrap()], more].concat())
}

fn plan_json(service: &Running, file: &Path) -> (Option<i32>, Value) {
    let (code, said, errors) = plan(service, file, &["--json"]);
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{errors}")))
}

#[tokio::test]
async fn what_another_declaration_would_do_to_the_dates_in_flight_is_told_first() {
    let service = Running::serve(&["--heartbeat-flush", "0s"]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "alive-1", 3, 9)).await;
    let done = completion("PredictionCoordinator", "phase_5_predictions", "batch-1", "success");
    assert!(service.publish("nba-phase5-predictions-complete", &done).await.is_success());
    let folder = tempfile::tempdir().unwrap();

    // The same file changes nothing.
    let same = changed(&folder, &[]);
    let (code, said, errors) = plan(&service, &same, &[]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("the declarations are the same") && said.contains("0 would change"), "{said}");

    // A node that is gone takes what is known of it along.
    let gone = written(&folder, &tipoff::pipeline::PIPELINE.replace("player_daily_cache", "player_cache"));
    let (code, found) = plan_json(&service, &gone);
    assert_eq!(code, Some(1), "{found}");
    let date = &found["revision"]["dates"][0];
    assert_eq!(date["lost"], json!([{ "node": "player_daily_cache", "state": "running", "alive": 1 }]), "{found}");
    assert_eq!(found["takes_away"], json!(true));
    assert!(found["differences"].as_array().unwrap().len() > 1);
    let (_, said, _) = plan(&service, &gone, &[]);
    assert!(said.contains("loses player_daily_cache (running, 1 runs alive)"), "{said}");

    // A file that is wrong is refused with its line, before anything is asked.
    let wrong = changed(&folder, &[("      player_daily_cache:\n", "      player_daily_cache:\n        needz: {}\n")]);
    let (code, _, errors) = plan(&service, &wrong, &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("needz") && errors.contains("pipeline.yaml:"), "{errors}");
}

/// The digest of what a service decides by.
async fn digest(service: &Running) -> String {
    service.get("/v1/config").await["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_are_changed_under_way_and_no_message_is_refused_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, tipoff::pipeline::PIPELINE);
    let service = Running::serve(&["--heartbeat-flush", "0s", "--pipeline-file", file.to_str().unwrap()]);
    service.publish("nba-processor-heartbeats", &heartbeat("PlayerDailyCacheProcessor", "alive-1", 3, 9)).await;
    let reload = |more: &[&str]| {
        let asked = ["reload", "--server", &service.url, "--reason", "the cache has another name", "--actor", "ann"];
        run(&[&asked, more].concat())
    };
    let first = digest(&service).await;
    let (code, said, errors) = reload(&[]);
    assert_eq!((code, said.contains("nothing changed")), (Some(0), true), "{said}{errors}");

    // What is wrong is refused with its line, and what would lose something is not done by itself.
    written(&folder, &tipoff::pipeline::PIPELINE.replace("    zone:", "    zoned:"));
    let (code, _, errors) = reload(&[]);
    assert_eq!((code, errors.contains("zoned")), (Some(2), true), "{errors}");
    written(&folder, &tipoff::pipeline::PIPELINE.replace("player_daily_cache", "player_cache"));
    let (code, _, errors) = reload(&[]);
    assert_eq!((code, errors.contains("tipoff plan")), (Some(2), true), "{errors}");
    assert_eq!(digest(&service).await, first, "the old one goes on");
    // To a signal nobody is answered, so that people are told.
    let alert = async |on: bool| {
        let told = || run(&["alerts", "--server", &service.url]).1;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while told().contains("self:reload") != on {
            assert!(std::time::Instant::now() < until, "{}", told());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        told()
    };
    written(&folder, &tipoff::pipeline::PIPELINE.replace("    zone:", "    zoned:"));
    service.signal("HUP");
    let told = alert(true).await;
    // Whoever looks into the store reads the broken file first, and is told whom to ask.
    let (code, _, errors) =
        run(&["alerts", "--data", service.data.to_str().unwrap(), "--pipeline-file", file.to_str().unwrap()]);
    assert_eq!((code, errors.contains("--server URL")), (Some(2), true), "{errors}");
    assert!(told.contains("nba.zone: missing") && told.contains("send SIGHUP again"), "{told}");
    written(&folder, tipoff::pipeline::PIPELINE);
    service.signal("HUP");
    alert(false).await;
    assert_eq!(digest(&service).await, first, "the old one goes on");

    // While it is changed, and changed back by a signal, producers are answered.
    written(&folder, &tipoff::pipeline::PIPELINE.replace("player_daily_cache", "player_cache"));
    let publishing = async {
        for nth in 0..40 {
            let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", &format!("run-{nth}"), "success");
            let answer = service.publish("nba-phase3-analytics-complete", &done).await;
            assert!(answer.is_success(), "run-{nth}: {answer}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let changing = async {
        let (code, said, errors) = tokio::task::block_in_place(|| reload(&["--accept"]));
        assert_eq!((code, said.contains("is in force")), (Some(0), true), "{said}{errors}");
        let second = digest(&service).await;
        assert_ne!(second, first);
        // Its name is known no more; the file says so by itself afterwards.
        let (_, graph, _) = run(&["graph", "--server", &service.url, "--json"]);
        assert!(graph.contains("\"player_cache\""), "{graph}");
        written(
            &folder,
            &format!("{}\n# only a remark\n", tipoff::pipeline::PIPELINE.replace("player_daily_cache", "player_cache")),
        );
        service.signal("HUP");
        while digest(&service).await == second {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), async { tokio::join!(publishing, changing) })
        .await
        .unwrap();
    let (_, said, _) = run(&["timeline", "today", "--server", &service.url]);
    for nth in 10..40 {
        assert!(said.contains(&format!("run-{nth}")), "run-{nth} is lost: {said}");
    }
    // The store knows what decides, and who brought it.
    let (code, said, errors) =
        run(&["plan", "--data", service.data.to_str().unwrap(), "--pipeline-file", file.to_str().unwrap()]);
    assert_eq!((code, said.contains("the declarations are the same")), (Some(0), true), "{said}{errors}");
}

#[tokio::test]
async fn two_services_that_decide_by_different_things_are_told_of() {
    let service = Running::serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, &format!("{}\n# not the same\n", tipoff::pipeline::PIPELINE));
    let data = service.data.to_str().unwrap();
    let mut other = super::program(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "off",
        "--data",
        data,
        "--pipeline-file",
        file.to_str().unwrap(),
    ])
    .stdout(std::process::Stdio::null())
    .spawn()
    .unwrap();
    let mut told = String::new();
    for _ in 0..200 {
        told = run(&["alerts", "--data", data]).1;
        if told.contains("self:revision-mix") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let _ = other.kill();
    let _ = other.wait();
    assert!(told.contains("self:revision-mix") && told.contains("replicas decide by different things: 1 by"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_reload_waits_for_a_consumer_probes_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, &any_hour::pipeline());
    let consumer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let push = format!("nba-phase6-export-trigger-sub=http://{}", consumer.local_addr().unwrap());
    let service = Running::serve(&["--pipeline-file", file.to_str().unwrap(), "--push", &push]);
    let done = completion("PredictionCoordinator", "phase_5_predictions", "batch-1", "success");
    assert!(service.publish("nba-phase5-predictions-complete", &done).await.is_success());
    // It takes the call and says nothing.
    let _pushed = tokio::time::timeout(std::time::Duration::from_secs(60), consumer.accept()).await.unwrap().unwrap();

    written(&folder, &format!("{}\n# a remark\n", std::fs::read_to_string(&file).unwrap()));
    service.signal("HUP");
    let asked = |path: &str| service.client.get(format!("{}{path}", service.url)).send();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let waits = tokio::spawn(asked("/v1/stops"));
        let mut answered = 0;
        while !waits.is_finished() {
            let probe = tokio::time::timeout(std::time::Duration::from_secs(2), asked("/healthz"));
            assert_eq!(probe.await.expect("it waits as well").unwrap().status(), 200);
            answered += 1;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(waits.await.unwrap().unwrap().status(), 200, "whoever waits is answered in the end");
        if answered > 5 {
            break;
        }
        assert!(std::time::Instant::now() < patience, "nobody waited for the consumer");
    }
}

#[tokio::test]
async fn a_token_is_replaced_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let write = |text: &str| std::fs::write(&token, text).unwrap();
    write("the-first-token-of-thirty-two-bytes");
    let service = Running::serve(&["--token-file", token.to_str().unwrap()]);
    let answers = async |token: &str| {
        let call = service.client.get(format!("{}/v1/stops", service.url)).bearer_auth(token);
        call.send().await.unwrap().status().as_u16()
    };
    assert_eq!(answers("the-first-token-of-thirty-two-bytes").await, 200);
    write("another-token-of-thirty-two-bytes-x");
    service.signal("HUP");
    for _ in 0..200 {
        if answers("another-token-of-thirty-two-bytes-x").await == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(answers("another-token-of-thirty-two-bytes-x").await, 200);
    assert_eq!(answers("the-first-token-of-thirty-two-bytes").await, 401);
}

#[tokio::test]
async fn nothing_that_a_reload_does_opens_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (folder.path().join("tipoff.yaml"), folder.path().join("token"));
    std::fs::write(&token, "a-token-of-more-than-thirty-two-bytes").unwrap();
    let access = json!({ "access": { "tokens": { "ann": { "role": "admin", "file": token } } } });
    std::fs::write(&file, access.to_string()).unwrap();
    let service = Running::serve(&["--config", file.to_str().unwrap()]);
    let strangers = async || service.client.get(format!("{}/v1/stops", service.url)).send().await.unwrap().status();
    assert_eq!(strangers().await, 401);
    // A file that is caught while it is written is empty.
    for (text, words) in [("", "`access` is set when the service starts"), ("{}", "`access`")] {
        std::fs::write(&file, text).unwrap();
        let (code, said, errors) = run(&[
            "reload",
            "--accept",
            "--server",
            &service.url,
            "--token-file",
            token.to_str().unwrap(),
            "--config",
            "/dev/null",
            "--reason",
            "r",
        ]);
        assert_eq!((code, errors.contains(words)), (Some(2), true), "{text:?}: {said}{errors}");
        assert_eq!(strangers().await, 401, "{text:?}");
    }
    std::fs::remove_file(&file).unwrap();
    service.signal("HUP");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(strangers().await, 401, "the file is gone");
}

#[tokio::test]
async fn what_tipoff_yaml_would_change_is_told_and_a_reload_locks_nobody_out_who_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, token) in
        [("ann", "a-token-of-ann-with-thirty-two-bytes"), ("bob", "a-token-of-bob-with-thirty-two-bytes")]
    {
        std::fs::write(path(name), token).unwrap();
    }
    std::fs::write(path("viewer"), "a-token-to-view-of-thirty-two-bytes-").unwrap();
    let settings = |admins: &[&str], digest_above: u32| {
        let mut tokens: serde_json::Map<String, Value> =
            admins.iter().map(|name| ((*name).to_owned(), json!({ "role": "admin", "file": path(name) }))).collect();
        tokens.insert("viewer".to_owned(), json!({ "role": "viewer", "file": path("viewer") }));
        let hook = json!({ "kind": "webhook", "url": "http://127.0.0.1:9/planted-secret" });
        json!({ "access": { "tokens": tokens },
            "alerts": { "digest_above": digest_above, "channels": { "hook": hook } } })
        .to_string()
    };
    let (file, wanted) = (path("tipoff.yaml"), path("wanted.yaml"));
    std::fs::write(&file, settings(&["ann", "bob"], 20)).unwrap();
    let service = Running::serve(&["--config", &file]);
    let plan = |config: &str, token: &str| {
        let (code, said, errors) =
            run(&["plan", "--json", "--server", &service.url, "--config", config, "--token-file", &path(token)]);
        assert_eq!(code, Some(0), "{said}{errors}");
        assert!(!said.contains("planted-secret"), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        let differences = said["differences"].as_array().unwrap().iter();
        let paths: Vec<String> = differences.map(|found| found["path"].as_str().unwrap().to_owned()).collect();
        (paths, said["settings_compared"] == true)
    };
    assert_eq!(plan(&file, "ann"), (vec![], true), "the same file");
    std::fs::write(&wanted, settings(&["bob"], 30)).unwrap();
    let changed = ["tipoff.yaml.access.tokens.ann", "tipoff.yaml.alerts.digest_above"].map(str::to_owned).to_vec();
    assert_eq!(plan(&wanted, "ann"), (changed, true));
    assert_eq!(plan(&wanted, "viewer"), (vec![], false), "settings are for administrators");

    // Ann could not take it back; bob can.
    std::fs::copy(&wanted, &file).unwrap();
    let reload = |token: &str| {
        let asked = ["reload", "--server", &service.url, "--token-file", &path(token), "--reason", "r"];
        run(&[&asked[..], &["--config", "/dev/null", "--json"]].concat())
    };
    let (code, said, errors) = reload("ann");
    assert_eq!((code, errors.contains("take away your own right")), (Some(2), true), "{said}{errors}");
    let (code, said, errors) = reload("bob");
    assert_eq!(code, Some(0), "{said}{errors}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["differences"].as_array().map(Vec::len), Some(2), "{said}");
    // What could not be served is refused by whoever reads it, and what is in force stays.
    let in_force = std::fs::read_to_string(&file).unwrap();
    for (key, value) in [("keep", "5x"), ("keep", "-5d"), ("heartbeat_flush", "1y")] {
        std::fs::write(&file, in_force.replacen('{', &format!("{{\"{key}\":\"{value}\","), 1)).unwrap();
        let (code, said, errors) = reload("bob");
        assert_eq!((code, errors.contains(&format!("`{value}` is not a duration"))), (Some(2), true), "{said}{errors}");
        for command in ["check", "doctor", "config"] {
            let (code, said, errors) = run(&[command, "--config", &file, "--data", &path("none")]);
            assert_ne!(code, Some(0), "{command}");
            assert!(format!("{said}{errors}").contains("is not a duration"), "{command}: {said}{errors}");
        }
    }
    std::fs::write(&file, in_force).unwrap();
    let (code, _, errors) = reload("ann");
    assert_eq!((code, errors.contains("not accepted")), (Some(3), true), "{errors}");
}

#[tokio::test]
async fn two_services_may_listen_and_know_their_callers_each_in_its_own_way() {
    let service = Running::serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-more-than-thirty-two-bytes").unwrap();
    let data = service.data.to_str().unwrap();
    let more = ["--listen", "127.0.0.1:0", "--log", "off", "--token-file", token.to_str().unwrap(), "--data", data];
    let mut other = super::program(&[&["serve"][..], &more].concat());
    let mut other = other.stdout(std::process::Stdio::null()).spawn().unwrap();
    let database = rusqlite::Connection::open(service.data.join("tipoff.db")).unwrap();
    let replicas = || -> Vec<String> {
        let kept = "SELECT document FROM documents WHERE name = 'replicas'";
        let kept: String = database.query_row(kept, [], |row| row.get(0)).unwrap_or_else(|_| "{}".to_owned());
        let kept: serde_json::Map<String, Value> = serde_json::from_str(&kept).unwrap();
        kept.values().map(|replica| replica["digest"].as_str().unwrap().to_owned()).collect()
    };
    for _ in 0..200 {
        if replicas().len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let _ = other.kill();
    let _ = other.wait();
    let found = replicas();
    assert!(found.len() == 2 && found[0] == found[1], "{found:?}");
    assert!(!run(&["alerts", "--data", data]).1.contains("self:revision-mix"));
}
