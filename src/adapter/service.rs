//! A running service as a store, a bus and a warehouse that are only read, over its API; and the calls that ask it for
//! something. Nothing is written but by what the service itself carries out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock::Clock;
use crate::domain::backfill::Plan;
use crate::domain::dead_letter::Letter;
use crate::domain::effect::Alert;
use crate::domain::id::{AlertKey, CheckId, LetterId, NodeId, PartitionKey, PipelineId, RunId};
use crate::port::{
    Answer, Bus, BusError, Commit, Delivered, JournalEntry, Letters, OutboxEntry, Parked, Reported, Row, Store,
    StoreError, Stored, Warehouse,
};
use crate::wire::dispatch::Outgoing;
use crate::wire::envelope::Content;
use crate::wire::kept::{Declared, Question, Told};
use crate::wire::report;

/// A service that does not take a connection in this time is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The longest that one call takes; a paced replay takes ten seconds, a look at a season longer.
const CALL_MAX: Duration = Duration::from_secs(120);
/// The longest that the first one takes, which reads two files.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// The largest answer that is read: a journal of a storm has some megabytes.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Times that a call is made whose answer did not come; it is carried out once, under one key.
const TRIES: u32 = 3;
/// The wait before the second try; doubles.
const BACKOFF: Duration = Duration::from_millis(300);
/// What a service says of a call that it is carrying out already.
const UNDER_WAY: &str = "urn:tipoff:problem:under-way";
/// The code of an answer that says to come again.
const BUSY: u16 = 503;
/// Clocks that differ by less than this are alike.
const SKEW_MIN: SignedDuration = SignedDuration::from_secs(2);
/// Characters of an answer that is not ours which are repeated.
const WORDS_MAX: usize = 200;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or somebody else did.
    #[error("{url}: {why}")]
    Unreachable {
        /// Where.
        url: Url,
        /// What happened.
        why: String,
    },
    /// It takes too long.
    #[error("{url}: no answer within {} seconds", CALL_MAX.as_secs())]
    Slow {
        /// Where.
        url: Url,
    },
    /// It wants to know who calls, or that caller may not.
    #[error("{url}: {detail}; {hint}")]
    Unknown {
        /// Where.
        url: Url,
        /// What it said.
        detail: String,
        /// What would do.
        hint: &'static str,
    },
    /// It says that the call makes no sense, or not now.
    #[error("{detail}")]
    Refused {
        /// The code of the answer.
        status: u16,
        /// What it said.
        detail: String,
    },
}

impl Error {
    /// Whether the call itself was wrong: the same call would be refused again.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if (400..500).contains(status))
    }
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    caller: Caller,
    /// What it decides on.
    pub declared: Declared,
    /// Its clock.
    pub clock: Clock,
}

/// Who calls, and where.
#[derive(Debug)]
struct Caller {
    client: Client,
    base: Url,
    token: Option<String>,
}

impl Service {
    /// Asks the service at `base` what it decides on. It is called with `token`, if there is one, and with nothing else of
    /// this machine: no proxy of the environment, no redirect.
    ///
    /// # Errors
    /// If it does not answer as a service of tipoff does.
    pub async fn connect(base: &Url, token: Option<String>, here: &Clock) -> Result<Self, Error> {
        let builder = Client::builder().redirect(redirect::Policy::none()).connect_timeout(CONNECT_WITHIN);
        let client = builder.timeout(CALL_MAX).no_proxy().build();
        let unreachable = |error: reqwest::Error| Error::Unreachable { url: base.clone(), why: error.to_string() };
        let caller = Caller { client: client.map_err(unreachable)?, base: base.clone(), token };
        let asked = caller.call(Method::GET, &["declarations"], None::<&()>, None);
        let declared: Declared = match tokio::time::timeout(FIRST_MAX, asked).await {
            Ok(Err(Error::Refused { status: 404 | 405, .. })) => {
                let why = "this is no tipoff, or an older one, or it is served below another path".to_owned();
                return Err(Error::Unreachable { url: base.clone(), why });
            }
            Ok(answer) => answer?,
            Err(_) => {
                let why = format!("no answer within {} seconds", FIRST_MAX.as_secs());
                return Err(Error::Unreachable { url: base.clone(), why });
            }
        };
        let ahead = declared.now.duration_since(here.now());
        let clock = if ahead.abs() < SKEW_MIN { here.clone() } else { Clock::Ahead(ahead) };
        Ok(Self { caller, declared, clock })
    }

    /// Asks for something at a path below `/v1`, segment by segment, which is carried out once, though its answer be lost.
    ///
    /// # Errors
    /// If it was refused, or it is not known whether it was carried out.
    pub async fn ask<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Error> {
        let key = uuid::Uuid::new_v4().to_string();
        self.caller.call(Method::POST, path, Some(body), Some(&key)).await
    }

    async fn kept<T: DeserializeOwned>(&self, question: Question) -> Result<T, StoreError> {
        match self.caller.question(&question).await.map_err(|error| StoreError::Unavailable(error.to_string()))? {
            Told::Kept(kept) => Ok(kept),
            Told::Failed(failed) => Err(failed),
        }
    }

    async fn told<T: DeserializeOwned>(&self, question: Question) -> Result<T, BusError> {
        match self.caller.question(&question).await.map_err(|error| BusError::Unavailable(error.to_string()))? {
            Told::Kept(kept) => Ok(kept),
            Told::Failed(failed) => Err(failed),
        }
    }

    async fn answer<T: DeserializeOwned>(&self, question: Question) -> Result<T, String> {
        match self.caller.question(&question).await.map_err(|error| error.to_string())? {
            Told::Kept(kept) => Ok(kept),
            Told::Failed(()) => Err("the service could not tell".to_owned()),
        }
    }
}

impl Caller {
    async fn question<T: DeserializeOwned>(&self, question: &Question) -> Result<T, Error> {
        self.call(Method::POST, &["kept"], Some(question), None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
        key: Option<&str>,
    ) -> Result<T, Error> {
        let url = self.url(path);
        let mut wait = BACKOFF;
        let mut tries = 1;
        loop {
            let mut request = self.client.request(method.clone(), url.clone());
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            match self.once(request, &url).await {
                Err(Error::Unreachable { .. } | Error::Refused { status: 429 | BUSY, .. }) if tries < TRIES => {
                    tokio::time::sleep(wait).await;
                    (wait, tries) = (wait * 2, tries + 1);
                }
                result => return result,
            }
        }
    }

    async fn once<T: DeserializeOwned>(&self, request: RequestBuilder, url: &Url) -> Result<T, Error> {
        let unreachable = |why: String| Error::Unreachable { url: url.clone(), why };
        let told = |error: reqwest::Error| match error.is_timeout() {
            // What takes that long once takes as long again.
            true => Error::Slow { url: url.clone() },
            false => unreachable(chain(&error.without_url())),
        };
        let mut response = request.send().await.map_err(told)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                let detail = format!("{url} answers with more than {} MiB", ANSWER_MAX >> 20);
                return Err(Error::Refused { status: status.as_u16(), detail });
            }
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                let words = String::from_utf8_lossy(&bytes).chars().take(WORDS_MAX).collect::<String>();
                Error::Refused {
                    status: 200,
                    detail: format!("{url} does not answer as tipoff does: {error}: {words}"),
                }
            });
        }
        let problem: Option<Value> = serde_json::from_slice(&bytes).ok();
        let is_under_way = problem.as_ref().is_some_and(|problem| problem["type"] == UNDER_WAY);
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str()).map(str::to_owned);
        let detail = detail.unwrap_or_else(|| format!("{url} answers {status}"));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = match &self.token {
                    None => "--token-file, or TIPOFF_TOKEN_FILE, names the file with a token",
                    Some(_) => "the token that was given is not one that may do this",
                };
                Err(Error::Unknown { url: url.clone(), detail, hint })
            }
            _ if is_under_way => Err(Error::Refused { status: BUSY, detail }),
            _ => Err(Error::Refused { status: status.as_u16(), detail }),
        }
    }

    /// The address of a path below `/v1`, where the service is served.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only an address without a host has no path, and that was refused.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }
}

/// An error with what lies under it, which is where the reason is.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut under = error.source();
    while let Some(error) = under {
        words = format!("{words}: {error}");
        under = error.source();
    }
    words
}

/// What a service keeps is changed by the service.
fn only_read() -> StoreError {
    StoreError::Unavailable("what a service keeps is only read over its API".to_owned())
}

#[async_trait]
impl Store for Service {
    async fn load(&self, key: &PartitionKey) -> Result<Stored, StoreError> {
        self.kept(Question::Partition { key: key.clone() }).await
    }

    async fn commit(&self, _: Commit) -> Result<(), StoreError> {
        Err(only_read())
    }

    async fn due(&self, at: Timestamp, limit: usize) -> Result<Vec<PartitionKey>, StoreError> {
        self.kept(Question::Due { at, limit }).await
    }

    async fn next_wake(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        self.kept(Question::NextWake).await
    }

    async fn outbox(&self, at: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        self.kept(Question::Outbox { at, limit }).await
    }

    async fn settle(&self, _: &str, _: Delivered) -> Result<(), StoreError> {
        Err(only_read())
    }

    async fn undeliverable(&self, limit: usize) -> Result<Vec<(OutboxEntry, String)>, StoreError> {
        self.kept(Question::Undeliverable { limit }).await
    }

    async fn park(&self, _: Parked) -> Result<(), StoreError> {
        Err(only_read())
    }

    async fn parked(&self, limit: usize) -> Result<Vec<Parked>, StoreError> {
        self.kept(Question::Parked { limit }).await
    }

    async fn journal(
        &self,
        key: Option<&PartitionKey>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        self.kept(Question::Journal { key: key.cloned(), after, limit }).await
    }

    async fn dates(&self, pipeline: &PipelineId, limit: usize) -> Result<Vec<Date>, StoreError> {
        self.kept(Question::Dates { pipeline: pipeline.clone(), limit }).await
    }

    async fn plans(&self, pipeline: &PipelineId) -> Result<Vec<(Plan, u64)>, StoreError> {
        self.kept(Question::Plans { pipeline: pipeline.clone() }).await
    }

    async fn put_plan(&self, _: &Plan, _: u64) -> Result<bool, StoreError> {
        Err(only_read())
    }

    async fn release_lock(&self, _: &PartitionKey, _: &NodeId, _: &RunId) -> Result<(), StoreError> {
        Err(only_read())
    }

    async fn take(&self, _: &str, _: Timestamp, _: u32, _: u32) -> Result<u32, StoreError> {
        Err(only_read())
    }

    async fn mark(&self, _: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        Err(only_read())
    }

    async fn marked(&self) -> Result<Option<Timestamp>, StoreError> {
        self.kept(Question::Marked).await
    }

    async fn document(&self, name: &str) -> Result<(u64, Option<Value>), StoreError> {
        self.kept(Question::Document { name: name.to_owned() }).await
    }

    async fn keep_document(&self, _: &str, _: u64, _: &Value) -> Result<bool, StoreError> {
        Err(only_read())
    }

    async fn letter(&self, id: &LetterId) -> Result<Option<(Letter, u64)>, StoreError> {
        self.kept(Question::Letter { id: id.clone() }).await
    }

    async fn letter_content(&self, id: &LetterId, version: usize) -> Result<Option<Content>, StoreError> {
        self.kept(Question::LetterContent { id: id.clone(), version }).await
    }

    async fn letters(
        &self,
        which: Letters,
        place: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Letter, u64)>, StoreError> {
        self.kept(Question::Letters { which, place: place.map(str::to_owned), limit }).await
    }

    async fn keep_letter(&self, _: &Letter, _: u64, _: Option<Content>) -> Result<bool, StoreError> {
        Err(only_read())
    }

    async fn trim_letters(&self, _: usize) -> Result<usize, StoreError> {
        Err(only_read())
    }

    async fn exported(&self) -> Result<u64, StoreError> {
        self.kept(Question::Exported).await
    }

    async fn set_exported(&self, _: u64) -> Result<(), StoreError> {
        Err(only_read())
    }
}

#[async_trait]
impl Bus for Service {
    async fn send(&self, _: &Outgoing, _: Timestamp) -> Result<(), BusError> {
        Err(BusError::Refused(only_read().to_string()))
    }

    async fn alert(&self, _: &Alert) -> Result<(), BusError> {
        Err(BusError::Refused(only_read().to_string()))
    }

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        self.told(Question::Alerts).await
    }

    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError> {
        self.told(Question::AlertOf { key: key.clone() }).await
    }
}

#[async_trait]
impl Warehouse for Service {
    async fn coverage(&self, pipeline: &PipelineId, node: &NodeId, date: Date, at: Timestamp) -> Answer {
        let (pipeline, node) = (pipeline.clone(), node.clone());
        self.answer(Question::Coverage { pipeline, node, date, at }).await.unwrap_or_else(Answer::Unknown)
    }

    async fn check(&self, pipeline: &PipelineId, node: &NodeId, check: &CheckId, date: Date, at: Timestamp) -> Answer {
        let (pipeline, node, check) = (pipeline.clone(), node.clone(), check.clone());
        self.answer(Question::Check { pipeline, node, check, date, at }).await.unwrap_or_else(Answer::Unknown)
    }

    async fn report(&self, pipeline: &PipelineId, report: report::Kind, date: Date, at: Timestamp) -> Reported {
        let pipeline = pipeline.clone();
        self.answer(Question::Report { pipeline, report, date, at }).await.unwrap_or_else(Reported::Unknown)
    }

    async fn append(&self, _: &str, _: Vec<(String, Row)>) -> Result<(), String> {
        Err(only_read().to_string())
    }
}

/// A service as all three ports.
pub fn ports(service: &Arc<Service>) -> (Arc<dyn Store>, Arc<dyn Bus>, Arc<dyn Warehouse>) {
    (service.clone(), service.clone(), service.clone())
}
