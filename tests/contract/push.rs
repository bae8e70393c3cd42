//! Pushing to real servers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tipoff::adapter::embedded::{PushTargets, Pusher};
use tipoff::port::Bus;
use tipoff::wire::dispatch::Target;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::bus::message;
use super::embedded::{open, topics};
use super::second;

/// One request that a server got.
struct Got {
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A server that answers everything with `status`, or never.
async fn server(status: Option<StatusCode>) -> (reqwest::Url, mpsc::UnboundedReceiver<Got>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let router = Router::new().fallback(move |request: Request| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
            let _ = sender.send(Got { path: head.uri.path().to_owned(), headers: head.headers, body });
            match status {
                Some(status) => (status, "as told"),
                None => std::future::pending().await,
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, receiver)
}

/// The next request, or the test fails rather than hangs.
async fn got(receiver: &mut mpsc::UnboundedReceiver<Got>) -> Got {
    tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.expect("a request in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_consumer_gets_the_body_it_reads() {
    // The envelope, the bare payload with attributes as headers, and a plain request to a service.
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).bus(topics());
    let pusher = Pusher::new(bus.clone()).unwrap();
    let (url, mut requests) = server(Some(StatusCode::NO_CONTENT)).await;
    let start = message("d/1", Target::Topic("start".into()));
    bus.send(&start, second(0)).await.unwrap();
    let call = message("d/2", Target::Http { service: "analytics".into(), path: "/process-date-range".into() });
    bus.send(&call, second(0)).await.unwrap();
    assert_eq!(pusher.push_due(second(0), &PushTargets::new()).await.unwrap(), 0, "without a URL it waits");

    let targets: PushTargets =
        [("worker", &url), ("bare", &url), ("analytics", &url)].map(|(name, url)| (name.into(), url.clone())).into();
    assert_eq!(pusher.push_due(second(0), &targets).await.unwrap(), 3);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(got(&mut requests).await);
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let [wrapped, call_got, bare] = &all[..] else { panic!("three requests") };
    assert_eq!((wrapped.path.as_str(), bare.path.as_str()), ("/process", "/start"));

    let envelope: serde_json::Value = serde_json::from_slice(&wrapped.body).unwrap();
    assert_eq!(STANDARD.decode(envelope["message"]["data"].as_str().unwrap()).unwrap(), start.body);
    assert_eq!(envelope["message"]["messageId"], "d/1");
    assert_eq!(envelope["message"]["attributes"]["tipoff_dispatch_id"], "d/1");
    assert_eq!(envelope["subscription"], "projects/local/subscriptions/wrapped");

    assert_eq!((&bare.body, &bare.headers["tipoff_dispatch_id"]), (&start.body, &"d/1".parse().unwrap()));
    assert_eq!((call_got.path.as_str(), &call_got.body), ("/process-date-range", &call.body));
    assert_eq!(call_got.headers["content-type"], "application/json");

    pusher.idle().await;
    assert_eq!(pusher.push_due(second(9_999), &targets).await.unwrap(), 0, "accepted is done with");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_or_hangs_delays_no_other() {
    // One hangs with all its places taken, one refuses; the third is served in this round and the next.
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).bus(topics());
    let pusher = Arc::new(Pusher::new(bus.clone()).unwrap());
    let (hangs, mut hanging) = server(None).await;
    let (refuses, mut refused) = server(Some(StatusCode::INTERNAL_SERVER_ERROR)).await;
    let (works, mut served) = server(Some(StatusCode::OK)).await;
    let targets: PushTargets = [("worker", hangs), ("coordinator", refuses), ("analytics", works)]
        .map(|(name, url)| (name.into(), url))
        .into();
    for round in 0..3 {
        for number in 0..8 {
            bus.send(&message(&format!("start/{round}/{number}"), Target::Topic("start".into())), second(0))
                .await
                .unwrap();
        }
        let call = Target::Http { service: "analytics".into(), path: "process".into() };
        bus.send(&message(&format!("call/{round}"), call), second(0)).await.unwrap();
        pusher.push_due(second(0), &targets).await.unwrap();
        assert_eq!(got(&mut served).await.path, "/process");
        got(&mut hanging).await;
        got(&mut refused).await;
    }
    // Ending while calls hang loses nothing: the messages wait for their leases to run out.
    drop(pusher);
    let waiting = bus.backlog().await.unwrap().into_iter().find(|backlog| backlog.subscription == "wrapped");
    assert_eq!(waiting.unwrap().waiting, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_while_it_pushes_takes_no_attempt_of_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).bus(topics());
    let (hangs, mut hanging) = server(None).await;
    let targets = PushTargets::from([("wrapped".into(), hangs)]);
    bus.send(&message("d/1", Target::Topic("start".into())), second(0)).await.unwrap();
    // A subscription gives up after five attempts.
    for start in 0..8 {
        let pusher = Pusher::new(bus.clone()).unwrap();
        assert_eq!(pusher.take_over(second(start), &targets).await.unwrap(), usize::from(start > 0));
        assert_eq!(pusher.push_due(second(start), &targets).await.unwrap(), 1, "start {start}");
        got(&mut hanging).await;
    }
    assert!(bus.pull("letters", 10, second(9)).await.unwrap().is_empty(), "nobody has refused it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_refused_too_often_is_a_dead_letter() {
    // Five answers of 500 under the subscription's backoff, then an operator's business.
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).bus(topics());
    let pusher = Pusher::new(bus.clone()).unwrap();
    let (url, mut requests) = server(Some(StatusCode::INTERNAL_SERVER_ERROR)).await;
    let mut with_secret = url;
    with_secret.set_query(Some("key=planted-secret"));
    let targets = PushTargets::from([("wrapped".into(), with_secret)]);
    bus.send(&message("d/1", Target::Topic("start".into())), second(0)).await.unwrap();
    for round in 0..5 {
        assert_eq!(pusher.push_due(second(1_000 * round), &targets).await.unwrap(), 1);
        got(&mut requests).await;
        pusher.idle().await;
        assert_eq!(pusher.push_due(second(1_000 * round), &targets).await.unwrap(), 0, "there is a pause");
    }
    let alerts = bus.alerts().await.unwrap();
    let told = alerts.iter().find(|alert| alert.key.as_str() == "target:wrapped").unwrap();
    assert!(told.text.contains("is refused at http://127.0.0.1"), "{}", told.text);
    assert!(!told.text.contains("planted-secret"), "{}", told.text);
    let letters = bus.pull("letters", 10, second(9_999)).await.unwrap();
    let error = &letters[0].attributes["CloudPubSubDeadLetterSourceDeliveryErrorMessage"];
    assert!(error.starts_with("500") && error.ends_with("as told"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_pusher_had_leased_is_posted_again_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).bus(topics());
    let (silent, mut asked) = server(None).await;
    bus.send(&message("1", Target::Topic("start".to_owned())), second(0)).await.unwrap();
    let killed = Pusher::new(bus.clone()).unwrap();
    let targets: PushTargets = [("wrapped".to_owned(), silent)].into();
    assert_eq!(killed.push_due(second(1), &targets).await.unwrap(), 1);
    got(&mut asked).await;
    drop(killed);
    let (url, mut requests) = server(Some(StatusCode::NO_CONTENT)).await;
    let next = Pusher::new(bus.clone()).unwrap();
    let targets: PushTargets = [("wrapped".to_owned(), url)].into();
    assert_eq!(next.push_due(second(5), &targets).await.unwrap(), 0, "its lease runs for ten minutes");
    assert_eq!(next.take_over(second(5), &targets).await.unwrap(), 1);
    assert_eq!(next.push_due(second(5), &targets).await.unwrap(), 1);
    got(&mut requests).await;
    next.idle().await;
    assert_eq!(next.take_over(second(6), &targets).await.unwrap(), 0, "what is settled stays settled");
}
