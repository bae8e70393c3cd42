//! What a caller may cost: connections, time, bytes, and requests a second; and that nothing secret comes out.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base64::Engine as _;
use serde_json::{Value, json};
use tipoff::http::server::{Limits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::ASK;
use super::access::{Guarded, guarded, oidc, token};
use super::google_keys::claims;
use super::running::{Running, completion};

const LIMITS: Limits = Limits {
    connections: 8,
    head: Duration::from_millis(500),
    rest: Duration::from_millis(1_500),
    taken: Duration::from_millis(1_000),
};

/// A small service within these limits, and what ends it.
async fn small() -> (String, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let long = || async {
        // It begins, and goes on for longer than any wait.
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
        tokio::spawn(async move {
            for _ in 0..5 {
                sender.send(Ok("x".to_owned())).await.unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver))
    };
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        "slow"
    };
    // Not a byte of what comes is looked at.
    let never = || async { axum::http::StatusCode::PAYLOAD_TOO_LARGE };
    let router = Router::new().route("/", get(|| async { "ok" })).route("/long", get(long)).route("/slow", get(slow));
    let router = router.route("/never", axum::routing::post(never));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopping) = watch::channel(false);
    (address, stop, tokio::spawn(serve(listener, router, stopping, LIMITS)))
}

/// How long it takes until a connection is closed on which that is said.
async fn closed(address: &str, said: &[&str], pause: Duration) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begin = Instant::now();
    let (mut reads, mut writes) = stream.split();
    let speak = async {
        for part in said {
            if writes.write_all(part.as_bytes()).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        std::future::pending::<()>().await
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = speak => unreachable!(),
        ended = tokio::time::timeout(Duration::from_secs(10), reads.read_to_end(&mut rest)) => { let _ = ended.expect("it is never closed"); }
    }
    begin.elapsed()
}

/// Everybody who may connect has asked once and rests; whoever comes then is answered long before their rest is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_rest_make_room() {
    let router = Router::new().route("/", get(|| async { "ok" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_stop, stopping) = watch::channel(false);
    let limits = Limits { rest: Duration::from_secs(600), head: Duration::from_secs(600), ..LIMITS };
    tokio::spawn(serve(listener, router, stopping, limits));
    let ask = async || {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let read =
            tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.expect("it is kept out");
        assert!(answer[..read.unwrap()].starts_with(b"HTTP/1.1 200"));
        stream
    };
    let mut resting = Vec::new();
    for _ in 0..3 * LIMITS.connections {
        resting.push(ask().await);
    }
    // Nor do those keep anybody out who have said nothing yet, or half a word.
    for nth in 0..LIMITS.connections {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(if nth % 2 == 0 { b"" } else { b"GET / HT" }).await.unwrap();
        resting.push(stream);
    }
    resting.push(ask().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_or_too_slowly_is_not_waited_for() {
    let (address, _stop, _) = small().await;
    let (head, rest) = (LIMITS.head, LIMITS.rest);
    // The service begins to count a moment before whoever has connected does.
    let moment = Duration::from_millis(100);
    let soon = |took: Duration, wanted: Duration| took + moment >= wanted && took < wanted + Duration::from_secs(2);
    let letters: Vec<String> = (0..100).map(|at| format!("x-{at}: y\r\n")).collect();
    let dribble: Vec<&str> = std::iter::once("GET / HTTP/1.1\r\n").chain(letters.iter().map(String::as_str)).collect();
    let whole = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    let ((), (), (), (), (), ()) = tokio::join!(
        async { assert!(soon(closed(&address, &[], zero).await, head), "silence") },
        async { assert!(soon(closed(&address, &["GET / HTTP/1.1\r\nhost: x\r\n"], zero).await, head), "half a head") },
        async { assert!(soon(closed(&address, &dribble, second / 10).await, head), "a header now and then") },
        // A connection rests longer between requests, and not for ever.
        async { assert!(soon(closed(&address, &[whole], zero).await, rest), "after an answer") },
        async { assert!(soon(closed(&address, &[whole, whole], second).await, rest + second), "after two answers") },
        async {
            assert!(soon(closed(&address, &[whole, "GET / HT"], second).await, head + second), "half a second one")
        },
    );
    // An answer takes as long as it takes.
    for (path, whole) in [("slow", "slow"), ("long", "xxxxx")] {
        let answer = reqwest::get(format!("http://{address}/{path}")).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), whole, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_hold_connections_and_say_nothing_do_not_keep_others_out_for_long() {
    let (address, stop, server) = small().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let begin = Instant::now();
    assert_eq!(reqwest::get(format!("http://{address}/")).await.unwrap().status(), 200);
    assert!(begin.elapsed() > LIMITS.head / 2, "more connections were served than there may be");
    // What is under way when the service ends is answered, and nobody else is.
    let client = reqwest::Client::new();
    let slow = tokio::spawn(client.get(format!("http://{address}/slow")).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send_replace(true);
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "slow");
    tokio::time::timeout(Duration::from_secs(5), server).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ask_again_and_again_make_room_for_others() {
    let (address, _stop, _server) = small().await;
    let address = Arc::new(address);
    let busy: tokio::task::JoinSet<()> = (0..LIMITS.connections)
        .map(|_| {
            let address = Arc::clone(&address);
            async move {
                // No connection of theirs ever rests, and each that is closed is opened again.
                loop {
                    let Ok(mut stream) = TcpStream::connect(&*address).await else { continue };
                    let mut answer = [0; 1024];
                    while stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok()
                        && stream.read(&mut answer).await.is_ok_and(|read| read > 0)
                    {}
                }
            }
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        let other = tokio::time::timeout(Duration::from_secs(5), reqwest::get(format!("http://{address}/")));
        assert_eq!(other.await.expect("it is kept out").unwrap().status(), 200);
    }
    drop(busy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_answer_keeps_no_connection() {
    let (address, _stop, _server) = small().await;
    let mut deaf = Vec::new();
    for _ in 0..LIMITS.connections {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let asks = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
        // Until neither side takes anything any more.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(500), stream.write_all(asks.as_bytes())).await
        {
            written.unwrap();
        }
        deaf.push(stream);
    }
    let other = tokio::time::timeout(Duration::from_secs(10), reqwest::get(format!("http://{address}/")));
    assert_eq!(other.await.expect("it is kept out").unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_too_long_is_refused_by_its_length() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let (client, url) = (&guarded.service.client, &guarded.service.url);
    let status = async |call: reqwest::RequestBuilder| call.send().await.unwrap().status().as_u16();
    let operator = || client.post(format!("{url}{ASK}")).bearer_auth(token("operator"));
    assert_eq!(status(client.get(format!("{url}/v1/stops?x={}", "x".repeat(5_000)))).await, 414);
    assert_eq!(status(client.get(format!("{url}/v1/stops")).header("x-long", "x".repeat(17_000))).await, 431);
    let many = (0..150).fold(client.get(format!("{url}/v1/stops")), |call, at| call.header(format!("x-{at}"), "y"));
    assert_eq!(status(many).await, 431);
    let long = json!({ "actor": "x".repeat(70_000) }).to_string();
    assert_eq!(status(operator().header("content-type", "application/json").body(long)).await, 413);
    assert_eq!(status(operator().header("content-type", "text/plain").body("{}")).await, 415);
    // Everybody else is as well off as before.
    assert_eq!(status(client.get(format!("{url}/v1/stops")).bearer_auth(token("viewer"))).await, 200);
}

/// Which of two would be believed is no question to be left open.
#[tokio::test]
async fn a_request_names_one_host() {
    let service = Running::serve(&[]);
    let address = service.url.trim_start_matches("http://");
    for (more, code) in [("", "200"), ("host: localhost\r\n", "400"), ("host: evil.example\r\n", "400")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /v1/stops HTTP/1.1\r\nhost: {address}\r\n{more}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{more}: {answer}");
    }
}

/// Whoever still sends when they are refused hears why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_while_they_still_send_is_told_why() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let (client, url) = (reqwest::Client::new(), &guarded.service.url);
    let longer = |megabytes: usize| "x".repeat(megabytes * 1024 * 1024);
    for _ in 0..5 {
        // Nobody is known by no token; and what is announced is too much.
        for (body, code) in [(longer(15), 401), (longer(40), 413)] {
            let call = client.post(format!("{url}{ASK}")).header("content-type", "application/json").body(body);
            assert_eq!(call.send().await.unwrap().status(), code);
        }
    }
    // Who asks before they send has no reason to.
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST {ASK} HTTP/1.1\r\nhost: {address}\r\nexpect: 100-continue\r\ncontent-length: 2000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let ended = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(4), ended).await.expect("its body is waited for").unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// Says that so much comes, and sends `sent` of it. Returns the connection once the refusal has come.
async fn refused(address: &str, announced: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /never HTTP/1.1\r\nhost: {address}\r\ncontent-length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; sent]).await.unwrap();
    answered(&mut stream, "HTTP/1.1 413").await;
    stream
}

/// Reads one answer, which has no body, or one of two letters.
async fn answered(stream: &mut TcpStream, begins: &str) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") && !answer.ends_with(b"ok") {
        let mut more = [0; 1024];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut more)).await.expect("no answer");
        let read = read.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&more[..read]);
    }
    assert!(answer.starts_with(begins.as_bytes()), "{:?}", String::from_utf8_lossy(&answer));
}

/// What is left of a refused body is read, and then the connection rests like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_refused_asks_again_on_the_same_connection() {
    const LENGTH: usize = 3_000_000;
    let (address, _stop, _) = small().await;
    let mut stream = refused(&address, LENGTH, LENGTH).await;
    // Longer than a head may take, and shorter than a rest.
    tokio::time::sleep(Duration::from_millis(900)).await;
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    answered(&mut stream, "HTTP/1.1 200").await;
}

/// Who was refused and sends no more holds a place only while nobody wants it, and holds up no end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_refused_and_says_nothing_more_makes_room() {
    let (address, stop, ended) = small().await;
    let mut silent = Vec::new();
    for _ in 0..LIMITS.connections {
        silent.push(refused(&address, 3_000_000, 1).await);
    }
    let begin = Instant::now();
    let answer = reqwest::get(format!("http://{address}/")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    silent.push(refused(&address, 3_000_000, 1).await);
    let begin = Instant::now();
    stop.send_replace(true);
    ended.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_asks_for_so_much_a_second_and_reads_as_much_as_they_like() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let call = guarded.service.client.post(format!("{}/v1/alerts/unmute", guarded.service.url));
        let call = call.bearer_auth(token("operator")).header("content-type", "application/json").body("{}");
        calls.spawn(async move {
            let answer = call.send().await.unwrap();
            (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
        });
    }
    let answers = calls.join_all().await;
    let refused = answers.iter().filter(|answer| **answer == (429, true)).count();
    let taken = answers.iter().filter(|(code, _)| *code == 400).count();
    assert_eq!(refused + taken, 100, "{answers:?}");
    assert!(taken >= 40 && refused >= 10, "{taken} taken, {refused} refused");
    let admin = guarded.service.client.post(format!("{}/v1/alerts/unmute", guarded.service.url));
    let admin = admin.bearer_auth(token("admin")).header("content-type", "application/json").body("{}");
    assert_eq!(admin.send().await.unwrap().status(), 400, "somebody else is held up");
    for _ in 0..60 {
        let read = guarded.service.client.get(format!("{}/v1/stops", guarded.service.url));
        assert_eq!(read.bearer_auth(token("operator")).send().await.unwrap().status(), 200);
    }
    // Where nobody is told from anybody else, nobody is held up.
    let open = Running::serve(&[]);
    for _ in 0..60 {
        assert_eq!(open.post("/v1/alerts/unmute", None, &json!({})).await.0, 400);
    }
}

/// The service beside a guarded one, with its configuration and a log that is read.
struct Logged {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Logged {
    fn serve(guarded: &Guarded, level: &str) -> Self {
        let folder = guarded.folder.path();
        let log = folder.join("log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        child.args(["serve", "--listen", "127.0.0.1:0", "--log", level, "--log-json"]);
        child.arg("--config").arg(folder.join("tipoff.yaml")).arg("--data").arg(folder.join("data"));
        let mut child = child.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["message"].as_str().unwrap().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url, log }
    }

    /// What its log says, once it has ended.
    fn ended(&mut self) -> String {
        let told = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success());
        std::fs::read_to_string(&self.log).unwrap()
    }
}

#[tokio::test]
async fn who_is_refused_and_who_tells_us_something_is_logged_and_a_flood_is_counted() {
    let guarded = guarded("127.0.0.1:0", json!({ "mode": "token" })).await;
    let mut service = Logged::serve(&guarded, "info");
    let client = &guarded.service.client;
    let url = |path: &str| format!("{}{path}", service.url);
    let status = async |call: reqwest::RequestBuilder| call.send().await.unwrap().status().as_u16();
    for _ in 0..50 {
        assert_eq!(status(client.get(url("/v1/stops?token=a-secret-question"))).await, 401);
    }
    let held = || client.post(url("/v1/pipelines/nba/hold")).header("content-type", "application/json").body("{}");
    assert_eq!(status(held().bearer_auth(token("viewer"))).await, 403);
    assert_eq!(status(held().bearer_auth(token("viewer")).header("x-forwarded-for", "203.0.113.7")).await, 403);
    assert_eq!(status(held().bearer_auth(token("operator")).header("origin", "https://evil.example")).await, 403);
    assert_eq!(status(client.get(url("/game-coverage-alert")).bearer_auth(token("viewer"))).await, 403);
    let mut asked = 0;
    while status(held().bearer_auth(token("operator"))).await != 429 {
        asked += 1;
    }
    let publish = |topic: &str, body: Value| {
        let call = client.post(url(&format!("/v1/projects/p/topics/{topic}:publish")));
        call.bearer_auth(token("producer")).body(body.to_string())
    };
    let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "r1", "success");
    let done = json!({ "messages": [{ "data": base64::prelude::BASE64_STANDARD.encode(done.to_string()) }] });
    for _ in 0..10 {
        assert_eq!(status(publish("nba-phase3-analytics-complete", done.clone())).await, 200);
    }
    assert_eq!(status(publish("no-such-topic", done)).await, 404);
    assert_eq!(status(client.post(url("/push")).bearer_auth(token("viewer"))).await, 403);
    assert_eq!(status(client.get(url("/v1/stops")).bearer_auth(token("viewer"))).await, 200);

    let log = service.ended();
    for secret in ["0123456789abcdef", "a-secret-question", "PlayerGameSummaryProcessor"] {
        assert!(!log.contains(secret), "the log says {secret}");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let audited = |message: &str, caller: &Value| -> Vec<&Value> {
        let all = lines.iter().filter(|line| line["target"] == "tipoff::audit");
        all.filter(|line| line["message"] == message && line["caller"] == *caller).collect()
    };
    let strangers = audited("refused", &Value::Null);
    assert_eq!(strangers.len(), 20, "{strangers:?}");
    let first = strangers[0];
    assert_eq!((&first["peer"], &first["status"]), (&json!("127.0.0.1"), &json!(401)));
    assert_eq!((&first["method"], &first["path"]), (&json!("GET"), &json!("/v1/stops")));
    // Thirty more without a token, and one call of another site's page.
    let counted = audited("refused as well", &Value::Null);
    assert_eq!((counted.len(), &counted[0]["calls"]), (1, &json!(31)), "{counted:?}");
    let viewer = audited("refused", &json!("the-viewer"));
    let seen: Vec<_> = viewer.iter().map(|line| (line["path"].as_str().unwrap(), &line["status"])).collect();
    let held = ("/v1/pipelines/nba/hold", &json!(403));
    assert_eq!(seen, [held, held, ("/game-coverage-alert", &json!(403)), ("/push", &json!(403))]);
    assert_eq!((&viewer[0]["forwarded"], &viewer[1]["forwarded"]), (&Value::Null, &json!("203.0.113.7")));
    assert_eq!(audited("asked for", &json!("the-operator")).len(), asked);
    let hurried = audited("refused", &json!("the-operator"));
    assert_eq!((hurried.len(), &hurried[0]["status"]), (1, &json!(429)), "{hurried:?}");
    assert_eq!(audited("told", &json!("the-producer")).len(), 1);
    let told = audited("told as well", &json!("the-producer"));
    assert_eq!((&told[0]["calls"], &told[0]["failed"]), (&json!(10), &json!(1)), "{told:?}");
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_answer_or_the_printed_configuration() {
    let guarded = guarded("127.0.0.1:0", oidc()).await;
    let mut service = Logged::serve(&guarded, "trace");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.child.id())).unwrap_or_default();
    let url = service.url.clone();
    let client = reqwest::Client::new();
    let identity = guarded.key.token(&claims("https://tipoff.example", "viewer@p.example"));
    let mut said = String::new();
    for given in
        [token("admin"), token("nobody"), identity.clone(), format!("{identity}x"), "eyJ0.eyJ1.eyJ2".to_owned()]
    {
        for path in ["/v1/config", "/ui/nba", "/readyz", "/nix", "/openapi.json", "/v1/declarations"] {
            let call =
                client.get(format!("{url}{path}")).bearer_auth(&given).header("cookie", "planted=planted-cookie");
            let answer = call.send().await.unwrap();
            said += &format!("{:?}", answer.headers());
            said += &answer.text().await.unwrap();
        }
    }
    let held =
        client.post(format!("{url}{ASK}")).bearer_auth(token("operator")).header("content-type", "application/json");
    let words =
        json!({ "command": "hold", "node": "predictions", "actor": "ann", "reason": "\n{\"severity\":\"CRITICAL\"}" });
    assert_eq!(held.body(words.to_string()).send().await.unwrap().status(), 200);
    let log = service.ended();
    let mut shown = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    let shown = shown.args(["config", "--config"]).arg(guarded.folder.path().join("tipoff.yaml")).output().unwrap();
    said += &String::from_utf8(shown.stdout).unwrap();
    for secret in [&token("admin"), &token("operator"), &token("nobody"), "eyJ", "planted-cookie"] {
        assert!(!log.contains(secret), "the log says {secret}");
        assert!(!said.contains(secret), "an answer says {secret}");
    }
    // Every line is one of ours; what was asked for is there, with who asked.
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["severity"] != "CRITICAL"));
    let audited: Vec<&Value> =
        lines.iter().filter(|line| line["target"] == "tipoff::audit" && line["message"] == "asked for").collect();
    assert_eq!(audited.len(), 1, "{audited:?}");
    let fields = audited[0];
    assert_eq!(
        (&fields["caller"], &fields["method"], &fields["status"]),
        (&json!("the-operator"), &json!("POST"), &json!(200))
    );
    assert_eq!(fields["peer"], "127.0.0.1");
    if cfg!(target_os = "linux") {
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
}
