//! Whoever publishes, and what they were promised.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::ToSpan as _;
use serde_json::{Value, json};
use tipoff::clock::Clock;

use super::join::{TOPIC, name};
use super::plant::{PATIENCE, SOURCES};

const DATES: usize = 20;
pub const LETTERS: &str = "nba-phase2-raw-complete-dlq";
/// Where garbage goes in turn, for each has an alert of its own.
const TOPICS: [&str; 4] =
    [TOPIC, "nba-phase3-analytics-complete", "nba-phase4-precompute-complete", "nba-phase5-predictions-complete"];

/// Garbage comes in so many rounds, and no more: of ten thousand different pieces each is kept, and beyond that they are counted.
const GARBAGE_MAX: usize = tipoff::port::PARKED_MAX as usize * 9 / 10;

/// What publishers were promised.
#[derive(Default)]
pub struct Promised {
    pub runs: BTreeSet<String>,
    /// What cannot be read, as its bytes.
    pub garbage: BTreeSet<Vec<u8>>,
    /// What others gave up on.
    pub letters: BTreeSet<Vec<u8>>,
    /// Garbage and letters that nobody has answered, with their topics.
    unanswered: BTreeSet<(&'static str, Vec<u8>)>,
    /// Every answer that was no promise.
    pub refused: Vec<(StatusCode, String)>,
    /// The dates about which anything was sent, whether or not it was taken.
    pub dates: BTreeSet<String>,
}

/// Publishes, and notes what was promised.
#[derive(Clone, Default)]
pub struct Publisher {
    pub client: reqwest::Client,
    pub promised: Arc<Mutex<Promised>>,
    /// Rounds that have begun.
    pub rounds: Arc<AtomicUsize>,
}

impl Publisher {
    pub fn new() -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { client, ..Self::default() }
    }

    /// A date that is published about.
    pub fn date(&self, ahead: usize) -> String {
        date_of(ahead)
    }

    /// Everything that is published, once; what is not taken is not promised.
    pub async fn round(&self, url: &str) {
        let round = self.rounds.fetch_add(1, Ordering::SeqCst);
        let date = date_of(round % DATES);
        let run = |source: usize| format!("{round}/{source}");
        let messages: Vec<Value> =
            (0..SOURCES).map(|source| completion(&name(source), &date, &run(source), true)).collect();
        let (first, rest) = messages.split_at(1);
        self.tell(url, TOPIC, first).await;
        self.tell(url, TOPIC, rest).await;
        // It is tried again after a second.
        self.tell(url, TOPIC, &[completion("join", &date, &format!("{round}/join"), false)]).await;
        if round < GARBAGE_MAX {
            self.hand(url, TOPICS[round % TOPICS.len()], format!("garbage {round}").into_bytes()).await;
        }
        let letter = completion(&name(0), &date, &format!("{round}/letter"), true);
        self.hand(url, LETTERS, letter.to_string().into_bytes()).await;
    }

    /// Publishes garbage, or a letter.
    pub async fn hand(&self, url: &str, topic: &'static str, body: Vec<u8>) -> bool {
        let taken = self.publish(url, topic, vec![body.clone()]).await;
        let mut promised = self.promised.lock().unwrap();
        if taken {
            promised.unanswered.remove(&(topic, body.clone()));
            let kept = if topic == LETTERS { &mut promised.letters } else { &mut promised.garbage };
            kept.insert(body);
        } else {
            promised.unanswered.insert((topic, body));
        }
        taken
    }

    /// Publishes garbage that nobody has answered until it is taken. A letter is nobody's to send again.
    pub async fn insist_on_garbage(&self, url: &str) {
        let unanswered = self.promised.lock().unwrap().unanswered.clone();
        let patience = Instant::now() + PATIENCE;
        for (topic, body) in unanswered.into_iter().filter(|(topic, _)| *topic != LETTERS) {
            while !self.hand(url, topic, body.clone()).await {
                assert!(Instant::now() < patience, "not taken within {PATIENCE:?}, {:?}", self.refusal());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Publishes completions; what is answered is promised.
    pub async fn tell(&self, url: &str, topic: &str, bodies: &[Value]) -> bool {
        let text = |body: &Value, field: &str| body[field].as_str().unwrap().to_owned();
        self.promised.lock().unwrap().dates.extend(bodies.iter().map(|body| text(body, "game_date")));
        let taken = self.publish(url, topic, bodies.iter().map(|body| body.to_string().into_bytes()).collect()).await;
        if taken {
            self.promised.lock().unwrap().runs.extend(bodies.iter().map(|body| text(body, "execution_id")));
        }
        taken
    }

    /// Publishes until it is taken, as a publisher does.
    pub async fn insist(&self, url: &str, topic: &str, bodies: &[Value]) {
        let patience = Instant::now() + PATIENCE;
        while !self.tell(url, topic, bodies).await {
            assert!(Instant::now() < patience, "not taken within {PATIENCE:?}, {:?}: {bodies:?}", self.refusal());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn refusal(&self) -> Option<(StatusCode, String)> {
        self.promised.lock().unwrap().refused.last().cloned()
    }

    pub async fn publish(&self, url: &str, topic: &str, bodies: Vec<Vec<u8>>) -> bool {
        let messages: Vec<Value> = bodies.iter().map(|body| json!({ "data": STANDARD.encode(body) })).collect();
        let call = self.client.post(format!("{url}/v1/projects/p/topics/{topic}:publish"));
        let Ok(answer) = call.body(json!({ "messages": messages }).to_string()).send().await else { return false };
        let status = answer.status();
        // Half an answer is none.
        let Ok(words) = answer.text().await else { return false };
        if !status.is_success() {
            self.promised.lock().unwrap().refused.push((status, words));
        }
        status.is_success()
    }

    /// Has every letter that waits replayed. Whoever asks again under the same key does not ask for more.
    pub async fn replay_letters(&self, url: &str, key: &str) -> bool {
        let asked = json!({ "letters": { "topic": LETTERS.trim_end_matches("-dlq") }, "force": true, "apply": true,
            "actor": "ann", "reason": "the service is back" });
        let call = self.client.post(format!("{url}/v1/dead-letters/replay")).body(asked.to_string());
        let call = call.header("content-type", "application/json").header("idempotency-key", key);
        call.send().await.is_ok_and(|answer| answer.status().is_success())
    }
}

/// So many days after today: none of them is history, which is paced.
fn date_of(ahead: usize) -> String {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(Clock::System.now()).date();
    today.saturating_add(i64::try_from(ahead).unwrap().days()).to_string()
}

pub fn completion(node: &str, date: &str, run: &str, success: bool) -> Value {
    let (status, count, error) = if success { ("success", 33, "") } else { ("failed", 0, "it did not work") };
    json!({ "processor_name": node, "phase": "phase_2_raw", "execution_id": run, "correlation_id": run,
        "game_date": date, "output_table": "", "status": status, "record_count": count, "error_message": error })
}
