//! A server that answers every call as it is told to, with what Google's would say and the emulator never does.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Json, Router};
use serde_json::{Value, json};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<(u16, Value, Vec<String>)>>);

/// It ends with the test's runtime.
pub struct Server {
    pub address: String,
    told: Told,
}

impl Server {
    /// Starts it; until told otherwise it has nothing to say.
    pub async fn start() -> Self {
        let told = Told::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(answer).with_state(told.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let server = Self { address, told };
        server.answer(200, json!({}));
        server
    }

    /// What it says from now on.
    pub fn answer(&self, status: u16, body: Value) {
        let mut told = self.told.0.lock().unwrap();
        (told.0, told.1) = (status, body);
    }

    /// The paths that have been called.
    pub fn calls(&self) -> Vec<String> {
        self.told.0.lock().unwrap().2.clone()
    }
}

async fn answer(State(told): State<Told>, request: Request) -> (StatusCode, Json<Value>) {
    let mut told = told.0.lock().unwrap();
    told.2.push(request.uri().path().to_owned());
    (StatusCode::from_u16(told.0).unwrap(), Json(told.1.clone()))
}
