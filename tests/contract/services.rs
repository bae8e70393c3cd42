//! Calls of services: what each answer comes to, on a real server.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use std::sync::{Arc, Mutex};
use tipoff::adapter::google::services::{ServiceError, Services};
use tipoff::configuration::{Identity, Service};
use tipoff::port::BusError;

type Heard = Arc<Mutex<Vec<(String, Option<String>, Option<String>)>>>;

/// Answers with the status that its path names.
async fn answer(State(heard): State<Heard>, Path(status): Path<u16>, request: Request) -> Response {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    heard.lock().unwrap().push((request.uri().path().to_owned(), header("tipoff-node"), header("authorization")));
    match status {
        302 => Redirect::to("/200").into_response(),
        status => (StatusCode::from_u16(status).unwrap(), "the words of the service").into_response(),
    }
}

async fn server() -> (Services, Heard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let heard = Heard::default();
    let routes = Router::new().route("/{status}", post(answer)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (Services::new(&one(&url, Identity::None)).unwrap(), heard)
}

fn one(url: &str, identity: Identity) -> BTreeMap<String, Service> {
    BTreeMap::from([("s".to_owned(), Service { url: url.to_owned(), audience: None, identity })])
}

#[tokio::test]
async fn an_answer_means_one_of_four_things() {
    let (services, heard) = server().await;
    // An attribute cannot say who we are.
    let attributes = [("tipoff-node", "predictions"), ("Authorization", "Bearer forged"), ("not a header", "x")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let call = async |path: &str| match services.call("s", path, b"{}".to_vec(), &attributes).await {
        Ok(()) => "accepted".to_owned(),
        Err(BusError::Unavailable(why)) => format!("passing: {why}"),
        Err(BusError::Dead(why)) => format!("dead: {why}"),
        Err(BusError::Refused(why)) => format!("refused: {why}"),
    };
    for (status, meaning) in [
        (200, "accepted"),
        (202, "accepted"),
        (302, "dead: 303 See Other"),
        (400, "refused: 400 Bad Request the words of the service"),
        (401, "dead: 401 Unauthorized the words of the service"),
        (403, "dead: 403 Forbidden the words of the service"),
        (404, "dead: 404 Not Found the words of the service"),
        (429, "passing: 429 Too Many Requests the words of the service"),
        (500, "passing: 500 Internal Server Error the words of the service"),
        (503, "passing: 503 Service Unavailable the words of the service"),
    ] {
        assert_eq!(call(&format!("/{status}")).await, meaning);
    }
    let heard = heard.lock().unwrap();
    // The redirect was not followed, and nobody was pretended to be.
    assert_eq!(heard.len(), 10);
    assert!(heard.iter().all(|(_, node, who)| node.as_deref() == Some("predictions") && who.is_none()), "{heard:?}");
}

#[tokio::test]
async fn a_service_that_is_not_there_or_not_configured_is_no_success() {
    let gone = Services::new(&one(&format!("http://127.0.0.1:{}", super::emulator::free_port()), Identity::None));
    let gone = gone.unwrap().call("s", "/x", Vec::new(), &BTreeMap::new()).await;
    assert!(matches!(gone, Err(BusError::Unavailable(_))), "{gone:?}");
    let none = Services::new(&BTreeMap::new()).unwrap();
    let unknown = none.call("s", "/x", Vec::new(), &BTreeMap::new()).await;
    assert!(matches!(&unknown, Err(BusError::Dead(why)) if why.contains("services.s.url")), "{unknown:?}");
}

#[test]
fn what_cannot_work_is_said_at_the_start() {
    for url in ["http://169.254.169.254/", "https://metadata.google.internal./", "http://[::ffff:a9fe:a9fe]/"] {
        let refused = Services::new(&one(url, Identity::None)).unwrap_err().to_string();
        assert!(refused.contains("its own credentials"), "{url}: {refused}");
    }
    for (url, identity, expected) in [
        ("coordinator", Identity::None, "services.s.url: "),
        ("ftp://coordinator/", Identity::None, "services.s.url: only http and https are spoken"),
        ("http://coordinator.example/", Identity::Oidc, "services.s.url: an identity token goes over https only"),
    ] {
        let error: ServiceError = Services::new(&one(url, identity)).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
