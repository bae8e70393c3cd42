//! The warehouse on Google Cloud: probes of outputs, reports about dates, and the history of runs.
//!
//! What holds:
//! - every call ends within a time limit, and after one that did not the server is left alone for a moment: a warehouse
//!   that is away costs orchestration nothing but its answers;
//! - a quota that is used up is not asked again before its day ends;
//! - rows are appended and never changed.

mod client;
mod history;
mod pause;
mod probe;
mod query;
mod report;
mod tables;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::Client;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::domain::id::{CheckId, NodeId, PipelineId};
use crate::pipeline::Pipeline;
use crate::pipeline::probe::Probe;
use crate::port::{Answer, Reported, Row, Warehouse};
use crate::wire::report::Kind;
use crate::wire::table;

/// Says where an emulator listens, where the settings do not.
const EMULATOR_HOST: &str = "BIGQUERY_EMULATOR_HOST";

/// Which warehouse, and what may be asked of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Google Cloud project that has the datasets and pays for the queries.
    pub project: String,
    /// Where the datasets are, as `US`; found out by BigQuery where it is not said.
    pub location: Option<String>,
    /// Bytes that one probe may be billed for; a query that would read more is refused before it costs anything.
    pub bytes_max: u64,
    /// The longest one call may take. A probe of one partition takes one to three seconds.
    pub timeout: Duration,
    /// How long an answer is kept that asking again could not better.
    pub keep: SignedDuration,
    /// Where an emulator listens, as `127.0.0.1:9050`; `BIGQUERY_EMULATOR_HOST` says it as well. It needs no credentials.
    pub emulator: Option<String>,
    /// What is asked about a node's output.
    pub probes: BTreeMap<PipelineId, BTreeMap<NodeId, Probe>>,
    /// What is asked before a node is dispatched.
    pub checks: BTreeMap<PipelineId, BTreeMap<(NodeId, CheckId), Probe>>,
    /// What is asked about a date.
    pub reports: BTreeMap<PipelineId, BTreeMap<Kind, Probe>>,
    /// Tells when a pause is over.
    pub clock: Clock,
}

impl Settings {
    /// The usual settings for a project.
    pub fn new(project: impl Into<String>, pipelines: &BTreeMap<PipelineId, Pipeline>) -> Self {
        Self {
            project: project.into(),
            location: None,
            // A partition of the largest table is some tens of megabytes; ten are billed at least.
            bytes_max: 1_000_000_000,
            timeout: Duration::from_secs(10),
            keep: SignedDuration::from_mins(5),
            emulator: None,
            probes: pipelines.iter().map(|(id, pipeline)| (id.clone(), pipeline.probes.clone())).collect(),
            checks: pipelines.iter().map(|(id, pipeline)| (id.clone(), pipeline.checks.clone())).collect(),
            reports: pipelines.iter().map(|(id, pipeline)| (id.clone(), pipeline.reports.clone())).collect(),
            clock: Clock::System,
        }
    }
}

/// No client could be made.
#[derive(Debug, thiserror::Error)]
#[error("connect to BigQuery: {0}")]
pub struct ConnectError(String);

/// A warehouse in one project's BigQuery.
pub struct Bigquery {
    client: Client,
    settings: Settings,
    pause: pause::Pause,
    remembered: probe::Remembered,
    refused: AtomicU64,
}

impl std::fmt::Debug for Bigquery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bigquery").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Bigquery {
    /// Makes a client with the credentials of the environment, or none for an emulator. Nothing is asked yet.
    ///
    /// # Errors
    /// If the environment has no credentials.
    pub async fn connect(mut settings: Settings) -> Result<Self, ConnectError> {
        if settings.emulator.is_none() {
            settings.emulator = std::env::var(EMULATOR_HOST).ok().filter(|address| !address.is_empty());
        }
        let client = client::connect(settings.emulator.as_deref(), settings.timeout).await?;
        let pause = pause::Pause::new(settings.clock.clone());
        Ok(Self { client, settings, pause, remembered: probe::Remembered::default(), refused: AtomicU64::new(0) })
    }

    /// Rows that could never be taken and are lost to the history, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Warehouse for Bigquery {
    // What a table held at another instant is not kept, so whenever it is asked about, the answer is of now.
    async fn coverage(&self, pipeline: &PipelineId, node: &NodeId, date: Date, _at: Timestamp) -> Answer {
        let probe = self.settings.probes.get(pipeline).and_then(|probes| probes.get(node));
        match probe {
            Some(probe) => self.ask(probe, date).await,
            None => Answer::NotKept,
        }
    }

    async fn check(&self, pipeline: &PipelineId, node: &NodeId, check: &CheckId, date: Date, _at: Timestamp) -> Answer {
        let checks = self.settings.checks.get(pipeline);
        match checks.and_then(|checks| checks.get(&(node.clone(), check.clone()))) {
            Some(probe) => self.ask(probe, date).await,
            None => Answer::NotKept,
        }
    }

    async fn report(&self, pipeline: &PipelineId, report: Kind, date: Date, _at: Timestamp) -> Reported {
        let query = self.settings.reports.get(pipeline).and_then(|reports| reports.get(&report));
        match query {
            Some(query) => self.told(query, date).await,
            None => Reported::NotKept,
        }
    }

    async fn append(&self, table: &str, rows: Vec<(String, Row)>) -> Result<(), String> {
        let table = table::find(table, &rows)?;
        self.write(table, rows).await
    }
}
