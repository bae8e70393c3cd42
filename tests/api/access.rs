//! Who may call what: every route of the router itself, with every kind of credentials there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::http::routes::Route;
use tipoff::http::{Local, routes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ASK;
use super::google_keys::{Key, KeyServer, assertion, claims};
use super::running::{Running, completion, today};

const PUSH: &str = "https://tipoff.example/push";
const SERVICE: &str = "https://tipoff.example";
const BACKEND: &str = "/projects/1/global/backendServices/2";
const PUSHER: &str = "pusher@p.iam.gserviceaccount.com";

/// A service that knows a token of each role, people behind the proxy, identities, and a pusher.
pub struct Guarded {
    pub service: Running,
    pub key: Key,
    proxy: Key,
    _servers: (KeyServer, KeyServer),
    pub folder: tempfile::TempDir,
}

pub fn token(role: &str) -> String {
    format!("{role}-0123456789abcdef0123456789abcdef")
}

pub async fn guarded(listen: &str, push: Value) -> Guarded {
    let (key, proxy) = (Key::rsa("k1"), Key::ec("p1"));
    let (keys, proxied) = (KeyServer::start(&[&key]).await, KeyServer::start(&[&proxy]).await);
    let folder = tempfile::tempdir().unwrap();
    let mut tokens = BTreeMap::new();
    for role in ["producer", "viewer", "operator", "admin"] {
        let file = folder.path().join(role);
        // The second is the one that is about to take the place of the first.
        std::fs::write(&file, format!("{}\nsha256:{}\n", token(role), tipoff::http::caller::digest(&token("next"))))
            .unwrap();
        tokens.insert(format!("the-{role}"), json!({ "role": role, "file": file }));
    }
    let mut push = push;
    if push["mode"] == "oidc" {
        push["keys"] = json!(keys.url);
    }
    let configuration = json!({
        "push": push,
        "access": {
            "tokens": tokens,
            "google": { "audience": SERVICE, "keys": keys.url, "roles": { "viewer@p.example": "viewer", "admin@p.example": "admin" } },
            "iap": { "audience": BACKEND, "keys": proxied.url, "roles": { "Ann@example.org": "operator", "bob@example.org": "viewer" } },
        },
    });
    let file = folder.path().join("tipoff.yaml");
    std::fs::write(&file, configuration.to_string()).unwrap();
    let service = Running::serve(&["--config", file.to_str().unwrap(), "--listen", listen]);
    Guarded { service, key, proxy, _servers: (keys, proxied), folder }
}

pub fn oidc() -> Value {
    json!({ "mode": "oidc", "audience": PUSH, "emails": [PUSHER] })
}

/// Whose a route is, said once more than in the router: what a new route needs has to be said here as well.
fn needs(route: &Route) -> &'static str {
    let (method, path) = (route.method.as_str(), route.path);
    let begins = |all: &[&str]| all.iter().any(|begin| path.starts_with(begin));
    match method {
        _ if matches!(path, "/healthz" | "/readyz" | "/startupz") => "nobody",
        "POST" if path == "/push" => "pusher",
        "POST" if path == "/v1/kept" => "viewer",
        "POST" if matches!(path, "/v1/coverage" | "/v1/reports") || begins(&["/v1/projects/"]) => "producer",
        // Not asked dryly, it raises an alert.
        "GET" | "POST" if path == "/game-coverage-alert" => "producer",
        "GET" | "POST" if begins(&["/stale-processor-monitor", "/pipeline-health-summary", "/roster-coverage"]) => {
            "asker"
        }
        "POST" if path == "/v1/reload" => "admin",
        "GET" if matches!(path, "/" | "/ui" | "/metrics" | "/openapi.json") || begins(&["/ui/", "/v1/"]) => "viewer",
        "POST" if begins(&["/ui/", "/v1/pipelines/", "/v1/dead-letters/", "/v1/alerts/"]) => "operator",
        _ => panic!("{method} {path}: say here whose it is"),
    }
}

/// What they are called, the role that they should give, and the headers.
type Credentials<'c> = (&'c str, &'c str, Vec<(&'c str, String)>);

/// What a caller with that role gets of what needs that: 0 where the guard lets it pass.
fn expected(needs: &str, role: &str) -> u16 {
    match (needs, role) {
        ("nobody", _) | ("pusher", "pusher") => 0,
        ("pusher", _) | (_, "pusher" | "stranger") => 401,
        ("asker", _)
        | (_, "admin")
        | ("viewer", "viewer" | "operator")
        | ("operator", "operator")
        | ("producer", "producer") => 0,
        _ => 403,
    }
}

fn filled(path: &str) -> String {
    let path = path.replace("{pipeline}", "nba").replace("{date}", "today").replace("{node}", "predictions");
    let path = path.replace("{project}/topics/{call}", "p/topics/nba-phase3-trigger:publish");
    let path = path.replace("{project}/subscriptions/{call}", "p/subscriptions/nix:pull");
    path.replace("{name}", "tipoff.js").replace("{plan}", "nix").replace("{id}", "nix")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_lets_in_whom_it_is_for_and_nobody_else() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let store = tempfile::tempdir().unwrap();
    let embedded = Arc::new(Embedded::open(store.path(), Durability::Full).unwrap());
    let topology = tipoff::pipeline::shipped().unwrap().topology;
    let local = Local { bus: embedded.bus(Arc::new(topology)), embedded };
    let listed = routes(Some(&local)).listed().to_vec();
    assert!(listed.len() > 60, "{} routes", listed.len());

    let now = tipoff::clock::Clock::System.now().as_second();
    let bearer = |token: String| ("authorization", format!("Bearer {token}"));
    let asserted = |token: String| ("x-goog-iap-jwt-assertion", token);
    let mut expired = claims(SERVICE, "admin@p.example");
    expired["iat"] = json!(now - 7_200);
    expired["exp"] = json!(now - 3_600);
    let basic = base64::prelude::BASE64_STANDARD.encode(format!("ann:{}", token("viewer")));
    let credentials: Vec<Credentials<'_>> = vec![
        ("none", "stranger", vec![]),
        ("garbage", "stranger", vec![bearer("garbage".to_owned())]),
        ("an empty token", "stranger", vec![bearer(String::new())]),
        ("a digest for a token", "stranger", vec![bearer(tipoff::http::caller::digest(&token("admin")))]),
        ("a producer's token", "producer", vec![bearer(token("producer"))]),
        ("a viewer's token", "viewer", vec![bearer(token("viewer"))]),
        ("a viewer's, typed", "viewer", vec![("authorization", format!("Basic {basic}"))]),
        ("an operator's token", "operator", vec![bearer(token("operator"))]),
        ("an admin's token", "admin", vec![bearer(token("admin"))]),
        ("a viewer by Google", "viewer", vec![bearer(guarded.key.token(&claims(SERVICE, "viewer@p.example")))]),
        ("an admin by Google", "admin", vec![bearer(guarded.key.token(&claims(SERVICE, "admin@p.example")))]),
        ("somebody by Google", "stranger", vec![bearer(guarded.key.token(&claims(SERVICE, "eve@p.example")))]),
        ("an expired admin", "stranger", vec![bearer(guarded.key.token(&expired))]),
        ("a token for the push", "pusher", vec![bearer(guarded.key.token(&claims(PUSH, PUSHER)))]),
        ("an admin's, for the push", "stranger", vec![bearer(guarded.key.token(&claims(PUSH, "admin@p.example")))]),
        (
            "an operator behind the proxy",
            "operator",
            vec![asserted(guarded.proxy.token(&assertion(BACKEND, "ann@example.org")))],
        ),
        (
            "somebody behind the proxy",
            "stranger",
            vec![asserted(guarded.proxy.token(&assertion(BACKEND, "eve@example.org")))],
        ),
        (
            "a viewer behind the proxy with an admin's token",
            "viewer",
            vec![asserted(guarded.proxy.token(&assertion(BACKEND, "bob@example.org"))), bearer(token("admin"))],
        ),
        (
            "the proxy's word without its signature",
            "stranger",
            vec![("x-goog-authenticated-user-email", "accounts.google.com:ann@example.org".to_owned())],
        ),
        (
            "another key's assertion",
            "stranger",
            vec![asserted(Key::ec("p1").token(&assertion(BACKEND, "ann@example.org")))],
        ),
    ];
    let mut calls = tokio::task::JoinSet::new();
    for (name, role, headers) in &credentials {
        for route in &listed {
            let wanted = expected(needs(route), role);
            let url = format!("{}{}", guarded.service.url, filled(route.path));
            let mut call = guarded.service.client.request(route.method.clone(), url);
            // As a page of ours sends it, so that whatever is refused is refused for who calls.
            call = call.header("sec-fetch-site", "same-origin").header("content-type", "application/json");
            for (name, value) in headers {
                call = call.header(*name, value);
            }
            let what = format!("{name}: {} {}", route.method, route.path);
            let call = if route.method == "POST" { call.body("{}") } else { call };
            calls.spawn(async move {
                let answer = call.send().await.unwrap();
                let status = answer.status().as_u16();
                if wanted == 0 {
                    assert!(!matches!(status, 401 | 403 | 429), "{what}: {status}");
                    return;
                }
                assert_eq!(status, wanted, "{what}");
                assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
                assert_eq!(answer.headers().contains_key("www-authenticate"), wanted == 401, "{what}");
                assert_eq!(answer.headers()["cache-control"], "no-store", "{what}");
                let problem: Value = answer.json().await.unwrap();
                assert!(problem["type"].as_str().unwrap().starts_with("urn:tipoff:problem:"), "{what}: {problem}");
                assert!(!problem.to_string().contains("eyJ"), "{what}: {problem}");
            });
        }
    }
    let count = calls.len();
    calls.join_all().await;
    assert_eq!(count, credentials.len() * listed.len());
    assert_eq!(guarded.service.journal().len(), 0, "something was changed");
}

#[tokio::test]
async fn what_is_no_route_is_refused_to_strangers_as_well_and_probes_tell_them_nothing() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let call = async |method: &str, path: &str, role: Option<&str>| {
        let url = format!("{}{path}", guarded.service.url);
        let call = guarded.service.client.request(method.parse().unwrap(), url);
        let call = role.map_or(call.try_clone().unwrap(), |role| call.bearer_auth(token(role)));
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (method, path, known) in [
        ("GET", "/nix", 404),
        ("POST", "/v1/nix", 404),
        ("DELETE", "/v1/stops", 405),
        ("OPTIONS", "/v1/stops", 405),
        ("TRACE", "/v1/stops", 405),
        ("HEAD", "/v1/stops", 200),
        ("GET", "/push", 405),
    ] {
        assert_eq!(call(method, path, None).await.0, 401, "{method} {path}");
        assert_eq!(call(method, path, Some("viewer")).await.0, known, "{method} {path}");
    }
    assert_eq!(call("HEAD", "/v1/stops", Some("producer")).await.0, 403);
    let (code, said) = call("GET", "/readyz", None).await;
    assert_eq!((code, said.as_str()), (200, "{\"ready\":true}"));
    assert!(call("GET", "/readyz", Some("viewer")).await.1.contains("configuration"));
    assert!(!call("GET", "/readyz", Some("producer")).await.1.contains("configuration"), "who may not read");
    // Whether a token is good is told no sooner there than elsewhere, and not at all by the others.
    let begin = std::time::Instant::now();
    assert_eq!(call("GET", "/healthz", Some("nobody")).await, (200, "ok\n".to_owned()));
    assert_eq!(call("GET", "/startupz", Some("nobody")).await.0, 200);
    assert!(begin.elapsed() < std::time::Duration::from_millis(250), "{:?}", begin.elapsed());
    let begin = std::time::Instant::now();
    assert_eq!(call("GET", "/readyz", Some("nobody")).await, (200, "{\"ready\":true}".to_owned()));
    assert!(begin.elapsed() >= std::time::Duration::from_millis(250), "{:?}", begin.elapsed());
    // A platform asks by whatever name it has for us; where nobody is asked who they are, only this machine does.
    for (service, code) in [(&guarded.service, 200), (&Running::serve(&[]), 403)] {
        for path in ["/healthz", "/startupz", "/readyz"] {
            let asked = service.client.get(format!("{}{path}", service.url)).header("host", "tipoff.evil.example:8085");
            assert_eq!(asked.send().await.unwrap().status(), code, "{path}");
            let asked = service.client.get(format!("{}{path}", service.url)).send();
            assert_eq!(asked.await.unwrap().status(), 200, "{path}");
        }
    }
    // Either of two tokens of one name is good.
    let (code, _) = call("GET", "/v1/stops", Some("next")).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn who_may_only_read_asks_a_monitor_dryly_where_it_would_raise_an_alert() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let ask = async |path: &str, role: &str| {
        let url = format!("{}/game-coverage-alert{path}", guarded.service.url);
        let answer = guarded.service.client.get(url).bearer_auth(token(role)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    // The warehouse has been told of nothing.
    for role in ["producer", "viewer", "operator", "admin"] {
        let (code, said) = ask("?dry_run=true&date=2026-01-24", role).await;
        assert_eq!((code, said.contains("keeps no game_coverage")), (404, true), "{role}: {said}");
    }
    for (role, wanted) in [("producer", 404), ("viewer", 403), ("operator", 403), ("admin", 404)] {
        let (code, said) = ask("?date=2026-01-24", role).await;
        assert_eq!((code, said.contains("but for dry_run=true")), (wanted, wanted == 403), "{role}: {said}");
    }
}

#[tokio::test]
async fn what_somebody_asks_for_is_kept_with_who_they_are() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let service = &guarded.service;
    let iap = guarded.proxy.token(&assertion(BACKEND, "ann@example.org"));
    let ask = |reason: &str| {
        let body = json!({ "command": "hold", "node": "predictions", "for": "2h", "actor": "eve", "reason": reason });
        let call = service.client.post(format!("{}{ASK}", service.url)).header("content-type", "application/json");
        call.body(body.to_string())
    };
    let answer = ask("by a token").bearer_auth(token("operator")).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["request"]["actor"], "eve (token the-operator)");
    let answer = ask("by the proxy").header("x-goog-iap-jwt-assertion", &iap).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["request"]["actor"], "ann@example.org");
    // Nobody passes for the holder of another token.
    let body = json!({ "command": "hold", "node": "predictions", "for": "2h", "actor": "root (token the-admin)",
        "reason": "in disguise" });
    let disguised = service.client.post(format!("{}{ASK}", service.url)).bearer_auth(token("operator"));
    let answer = disguised.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    let actor = answer.json::<Value>().await.unwrap()["request"]["actor"].clone();
    assert_eq!(actor, "root token the-admin (token the-operator)");
    // The same under one key is another request if somebody else makes it.
    let key = |reason: &str| ask(reason).header("idempotency-key", "k");
    let first = key("twice").bearer_auth(token("operator")).send().await.unwrap().json::<Value>().await.unwrap();
    let other = key("twice").bearer_auth(token("admin")).send().await.unwrap().json::<Value>().await.unwrap();
    assert_ne!(first["request"]["id"], other["request"]["id"]);
    // A form, too; its field cannot be changed, and changing it changes nothing.
    let page = format!("{}/ui/nba/{}/ask", service.url, today());
    let shown = service.client.get(format!("{page}?command=hold&node=predictions"));
    let shown = shown.header("x-goog-iap-jwt-assertion", &iap).send().await.unwrap().text().await.unwrap();
    assert!(shown.contains("readonly value=\"ann@example.org\""), "{shown}");
    let form = format!("command=retry&node=predictions&key={}&reason=by+a+form&actor=eve", uuid::Uuid::new_v4());
    let sent = service.client.post(&page).header("content-type", "application/x-www-form-urlencoded").body(form);
    let sent = sent.header("sec-fetch-site", "same-origin").header("x-goog-iap-jwt-assertion", &iap);
    let answer = sent.send().await.unwrap();
    let (status, url) = (answer.status(), answer.url().clone());
    assert!(status.is_success(), "{url}: {status}: {}", answer.text().await.unwrap());
    let journal = service.journal();
    let actor_of = |reason: &str| {
        let entry = journal.iter().find(|entry| entry.contains(reason)).unwrap_or_else(|| panic!("{reason}"));
        let entry: Value = serde_json::from_str(entry).unwrap();
        entry["events"].to_string()
    };
    assert!(actor_of("by a token").contains("eve (token the-operator)"));
    assert!(actor_of("by the proxy").contains("\"ann@example.org\""));
    let form = actor_of("by a form");
    assert!(form.contains("\"ann@example.org\"") && !form.contains("\"eve\""), "{form}");
}

#[tokio::test]
async fn an_envelope_is_taken_from_whom_it_is_expected_and_read_only_then() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let service = &guarded.service;
    let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "r1", "success");
    let envelope = json!({
        "message": { "data": base64::prelude::BASE64_STANDARD.encode(done.to_string()), "messageId": "1",
            "publishTime": tipoff::clock::Clock::System.now().to_string() },
        "subscription": "projects/p/subscriptions/nba-phase3-analytics-complete-sub",
    });
    let push = async |token: &str| {
        let call = service.client.post(format!("{}/push", service.url)).bearer_auth(token);
        call.body(envelope.to_string()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(push(&guarded.key.token(&claims(PUSH, "eve@p.iam.gserviceaccount.com"))).await, 401);
    assert_eq!(push(&token("admin")).await, 401);
    assert_eq!(service.journal().len(), 0);
    let genuine = guarded.key.token(&claims(PUSH, PUSHER));
    assert!(matches!(push(&genuine).await, 200 | 204));
    // What is of no subscription of ours would come again for days: it is kept, told of, and acknowledged.
    let mut stray = envelope.clone();
    stray["subscription"] = json!("projects/p/subscriptions/somebody-elses");
    let call = service.client.post(format!("{}/push", service.url)).bearer_auth(&genuine);
    let answer = call.body(stray.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("parked"));
    let before = service.journal().len();
    // Sent again and again, it changes nothing.
    for _ in 0..20 {
        assert!(matches!(push(&genuine).await, 200 | 204));
    }
    assert_eq!(service.journal().len(), before);

    // Who is not known is answered before anything of a body is read.
    let address = service.url.strip_prefix("http://").unwrap();
    for (length, code) in [
        ("content-length: 16777216", "401"),
        ("transfer-encoding: chunked", "401"),
        ("content-length: 1073741824", "413"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("POST /push HTTP/1.1\r\nhost: {address}\r\n{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(std::time::Duration::from_secs(10), read).await.expect("it is closed").unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    }
}

#[tokio::test]
async fn while_keys_cannot_be_fetched_a_pusher_is_told_to_come_again() {
    let down = guarded("127.0.0.1:0", oidc()).await;
    down._servers.0.fail(500);
    let call = down.service.client.post(format!("{}/push", down.service.url));
    let answer = call.bearer_auth(down.key.token(&claims(PUSH, PUSHER))).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn whose_key_is_known_is_known_after_a_reload() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let push = async || {
        let call = guarded.service.client.post(format!("{}/push", guarded.service.url));
        let call = call.bearer_auth(guarded.key.token(&claims(PUSH, PUSHER))).body("{}");
        call.send().await.unwrap().status().as_u16()
    };
    let before = push().await;
    assert!(![401, 403, 503].contains(&before), "{before}");
    guarded._servers.0.fail(500);
    let call = guarded.service.client.post(format!("{}/v1/reload", guarded.service.url)).bearer_auth(token("admin"));
    let body = json!({ "actor": "ann", "reason": "a token has been replaced" }).to_string();
    let call = call.header("content-type", "application/json").body(body);
    assert_eq!(call.send().await.unwrap().status(), 200);
    assert_eq!(push().await, before, "its key was thrown away");
}

#[tokio::test]
async fn on_another_address_nobody_pushes_unless_it_is_said_who() {
    for (listen, push, role, code) in [
        ("0.0.0.0:0", json!({}), "admin", 404),
        ("0.0.0.0:0", json!({ "mode": "off" }), "admin", 404),
        ("0.0.0.0:0", json!({ "mode": "token" }), "producer", 204),
        ("0.0.0.0:0", json!({ "mode": "token" }), "viewer", 403),
        ("127.0.0.1:0", json!({ "mode": "off" }), "admin", 404),
        ("127.0.0.1:0", json!({}), "producer", 204),
    ] {
        let guarded = guarded(listen, push.clone()).await;
        let call = guarded.service.client.post(format!("{}/push", guarded.service.url));
        let answer = call.bearer_auth(token(role)).send().await.unwrap();
        assert_eq!(answer.status(), code, "{listen} {push} {role}");
    }
}
