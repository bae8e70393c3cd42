//! A service that lets in only whom it knows: it is called with an identity token made for it, or not at all.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, Request};
use axum::http::header::AUTHORIZATION;
use serde_json::json;

use super::cloud::Cloud;
use super::service::{Replica, says};

const AUDIENCE: &str = "https://phase4.example";

async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// As Google's metadata server: an unsigned token that names for whom it was made.
async fn metadata() -> String {
    let token = |Query(asked): Query<std::collections::BTreeMap<String, String>>| async move {
        use base64::Engine as _;
        let part = |part: serde_json::Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let until = tipoff::clock::Clock::System.now().as_second() + 3600;
        let claims = json!({ "aud": asked["audience"], "exp": until, "iss": "https://accounts.google.com" });
        format!("{}.{}.unsigned", part(json!({ "alg": "none" })), part(claims))
    };
    let path = "/computeMetadata/v1/instance/service-accounts/default/identity";
    serve(Router::new().route(path, axum::routing::get(token))).await
}

/// The real pipeline, with a task of one input that is asked over HTTP.
fn pipeline() -> String {
    let body = json!({ "processors": ["MLFeatureStoreProcessor"], "analysis_date": "{{ date }}", "backfill_mode": false,
        "strict_mode": false });
    let message = json!({ "http": { "service": "nba-phase4-precompute-processors", "path": "/process-date" },
        "schema": "phase4-process-date", "body": body });
    let called = json!({ "kind": "task", "phase": "grading", "cycle": "overnight",
        "needs": { "s": { "strength": "hard" } }, "messages": [message] });
    let source = json!({ "kind": "source", "phase": "raw", "cycle": "overnight" });
    let patch = json!({ "pipelines": { "nba": { "nodes": { "s": source, "called": called } } } });
    tipoff::pipeline::with_overrides("pipeline.yaml", tipoff::pipeline::PIPELINE, &patch).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_called_as_somebody_it_was_told_of() {
    let pipeline_text = pipeline();
    let declared =
        tipoff::pipeline::load(("topics.yaml", tipoff::pipeline::TOPICS), ("pipeline.yaml", &pipeline_text)).unwrap();
    let Some(cloud) = Cloud::start(&declared.topology).await else { return };
    let called: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let note = called.clone();
    let service = serve(Router::new().fallback(move |request: Request| {
        let who = request.headers().get(AUTHORIZATION).map(|who| who.to_str().unwrap().to_owned());
        note.lock().unwrap().push((request.uri().path().to_owned(), who.unwrap_or_default()));
        async { "{}" }
    }))
    .await;

    let home = tempfile::tempdir().unwrap();
    let (pipeline, config) = (home.path().join("pipeline.yaml"), home.path().join("tipoff.yaml"));
    std::fs::write(&pipeline, &pipeline_text).unwrap();
    let services = json!({ "nba-phase4-precompute-processors":
        { "url": format!("http://{service}"), "audience": AUDIENCE, "identity": "oidc" } });
    std::fs::write(&config, json!({ "services": services }).to_string()).unwrap();
    // Nobody's own credentials are to be found.
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let environment =
        [("HOME", path(home.path())), ("TIPOFF_CONFIG", path(&config)), ("GCE_METADATA_HOST", metadata().await)];
    let log = home.path().join("log");
    let replica = Replica::start_in(&cloud, &pipeline, &log, &environment);
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let yesterday = zone.to_datetime(tipoff::clock::Clock::System.now()).date().yesterday().unwrap().to_string();
    let done = json!({ "processor_name": "s", "phase": "phase_2_raw", "execution_id": "r1", "correlation_id": "r1",
        "game_date": yesterday, "output_table": "", "status": "success", "record_count": 1 });
    cloud.publish("nba-phase2-raw-complete", &done.to_string()).await;
    let patience = Instant::now() + Duration::from_secs(60);
    let (at, who) = loop {
        if let Some(call) = called.lock().unwrap().first().cloned() {
            break call;
        }
        let logged = || std::fs::read_to_string(&log).unwrap();
        assert!(Instant::now() < patience, "{}\n{}", says(&cloud, &pipeline, &["status", &yesterday]), logged());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(at, "/process-date");
    let claims = who.strip_prefix("Bearer ").and_then(|token| token.split('.').nth(1)).expect(&who).to_owned();
    let claims = {
        use base64::Engine as _;
        String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
    };
    assert!(claims.contains(AUDIENCE), "{claims}");
    assert!(replica.end());

    // A person's login makes no such token. Only what would need one is refused, with what to do.
    let login = home.path().join("login.json");
    let person = json!({ "type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x" });
    std::fs::write(&login, person.to_string()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(arguments).args(["--backend", "google", "--project", &cloud.project]).envs(cloud.environment());
        command.env("TIPOFF_CONFIG", &config).env("GOOGLE_APPLICATION_CREDENTIALS", &login);
        let output = command.arg("--pipeline-file").arg(&pipeline).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let (code, said) = run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(code == Some(2) && said.contains("services.nba-phase4-precompute-processors.identity"), "{said}");
    let (code, said) = run(&["doctor"]);
    assert!(code == Some(1) && said.contains("--impersonate-service-account"), "{said}");
    assert!(said.contains("ok      database"), "the rest is checked as well: {said}");
    let (code, said) = run(&["status", &yesterday]);
    assert!(code == Some(1), "{said}");
}
