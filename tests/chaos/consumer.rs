//! Whoever takes what is pushed, and is told of alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// One attempt of a node for a date.
pub type Attempt = (String, String, u64, u64);
/// Dispatch ids by attempt.
pub type Dispatched = BTreeMap<Attempt, BTreeSet<String>>;

pub fn gathered(pairs: impl Iterator<Item = (Attempt, String)>) -> Dispatched {
    let mut found = Dispatched::new();
    for (attempt, id) in pairs {
        found.entry(attempt).or_default().insert(id);
    }
    found
}

/// What has come.
#[derive(Clone, Default)]
pub struct Consumer {
    arrived: Arc<Mutex<Vec<(Attempt, String)>>>,
    notices: Arc<Mutex<Vec<Value>>>,
    /// How long it works on each.
    pub work: Arc<Mutex<Duration>>,
}

impl Consumer {
    /// Listens, and says where; people are told at `/notices`.
    pub async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/notices", post(Self::hear)).fallback(post(Self::take));
        let routes = routes.with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn take(State(consumer): State<Self>, body: String) -> StatusCode {
        let outer: Value = serde_json::from_str(&body).unwrap();
        let data = STANDARD.decode(outer["message"]["data"].as_str().unwrap()).unwrap();
        let inner: Value = serde_json::from_slice(&data).unwrap();
        let manifest = &inner["tipoff"];
        assert_eq!(inner["target_date"], manifest["date"], "a message of one date, with another's manifest");
        let text = |field: &str| manifest[field].as_str().unwrap().to_owned();
        let number = |field: &str| manifest[field].as_u64().unwrap();
        let attempt = (text("date"), text("node"), number("run"), number("attempt"));
        let work = *consumer.work.lock().unwrap();
        consumer.arrived.lock().unwrap().push((attempt, text("dispatch_id")));
        tokio::time::sleep(work).await;
        StatusCode::NO_CONTENT
    }

    async fn hear(State(consumer): State<Self>, headers: HeaderMap, Json(notice): Json<Value>) -> StatusCode {
        assert_eq!(headers["webhook-id"], notice["id"].as_str().unwrap());
        consumer.notices.lock().unwrap().push(notice);
        StatusCode::OK
    }

    pub fn seen(&self) -> Dispatched {
        gathered(self.arrived.lock().unwrap().iter().cloned())
    }

    /// How often each dispatch has come, by its id.
    pub fn arrivals(&self) -> BTreeMap<String, usize> {
        counted(self.arrived.lock().unwrap().iter().map(|(_, id)| id.clone()))
    }

    /// How often each notice has come, by its id.
    pub fn told(&self) -> BTreeMap<String, usize> {
        counted(self.notices.lock().unwrap().iter().map(named))
    }

    /// The last notice that has come.
    pub fn told_last(&self) -> Option<String> {
        self.notices.lock().unwrap().last().map(named)
    }

    /// One id has one text, and that an alert is on is told in one notice.
    pub fn was_told_once(&self) {
        let notices = self.notices.lock().unwrap();
        let mut texts: BTreeMap<String, &Value> = BTreeMap::new();
        let mut begun: BTreeMap<String, String> = BTreeMap::new();
        for notice in notices.iter() {
            let id = named(notice);
            assert_eq!(*texts.entry(id.clone()).or_insert(notice), notice, "two notices under one id");
            for item in notice["items"].as_array().unwrap().iter().filter(|item| item["news"] == "on") {
                let on = format!("{} since {}", item["key"], item["since"]);
                let told = begun.entry(on.clone()).or_insert_with(|| id.clone());
                assert_eq!(*told, id, "{on} is told in two notices");
            }
        }
    }
}

fn named(notice: &Value) -> String {
    notice["id"].as_str().unwrap().to_owned()
}

fn counted(items: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for item in items {
        *found.entry(item).or_default() += 1;
    }
    found
}
