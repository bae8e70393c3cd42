//! Partitions, outbox and journal in Firestore.
//!
//! What holds:
//! - a decision is one atomic `Commit` call with preconditions after a plain read, never a transaction: two readers of a
//!   hot document would wait for each other's locks, and the crate's retries start at half a second;
//! - fields that are not ours stay as they are, in every document;
//! - every request has a time limit, and a commit that ran into it is unknown: the caller loads and looks;
//! - journals, settled effects and old dates carry `expire_at`, for a TTL policy of the database to delete.
//!
//! Collections, each with the configured prefix: `partitions`, `outbox`, `journal`, `parked`, `alerts`, `cursors`,
//! `plans`, `letters`, `letter_contents`. The composite indexes are in [`indexes`].

mod alerts;
mod document;
pub mod heartbeats;
pub mod indexes;
mod letters;
mod plans;
mod sharing;
mod store;
mod trial;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use firestore::errors::FirestoreError;
use firestore::{FirestoreDb, FirestoreDbOptions};
use gcloud_sdk::prost_types;
use jiff::{SignedDuration, Timestamp};

use super::google::emulator_credentials;
use crate::domain::id::{NodeId, PartitionKey, PipelineId};

/// Where the documents are, and how long they stay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Google Cloud project.
    pub project: String,
    /// The database; `(default)` where none is named.
    pub database: Option<String>,
    /// The database into which processors write their heartbeats and locks; the one above where none is named.
    pub producers_database: Option<String>,
    /// Comes before the name of every collection of ours.
    pub prefix: String,
    /// The longest one request may take. A commit of ten documents takes tens of milliseconds.
    pub timeout: Duration,
    /// How long what is done with is kept.
    pub keep: SignedDuration,
    /// Where an emulator listens, as `127.0.0.1:8086`; `FIRESTORE_EMULATOR_HOST` says it as well. It needs no credentials.
    pub emulator: Option<String>,
    /// The names under which processors keep their locks in `processing_locks`, by node.
    pub locks: BTreeMap<PipelineId, BTreeMap<NodeId, Vec<String>>>,
}

impl Settings {
    /// The usual settings for a project.
    pub fn new(project: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            database: None,
            producers_database: None,
            prefix: "tipoff_".to_owned(),
            timeout: Duration::from_secs(10),
            keep: SignedDuration::from_hours(30 * 24),
            emulator: None,
            locks: BTreeMap::new(),
        }
    }
}

/// The database could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("connect to Firestore of project {project}: {error}")]
pub struct ConnectError {
    project: String,
    error: FirestoreError,
}

impl ConnectError {
    /// Whether nobody answered at the address, which may pass; nothing that was asked for is wrong.
    pub fn is_unanswered(&self) -> bool {
        // All that is left of what the transport said is its name.
        matches!(&self.error, FirestoreError::SystemError(error) if error.public.code.starts_with("GrpcStatus("))
    }
}

/// An effect as it was when this process last had it before it.
#[derive(Clone, Copy)]
struct Seen {
    /// When it changed, which a claim compares.
    updated: prost_types::Timestamp,
    /// Until when it was claimed with the commit.
    claimed_until: Option<Timestamp>,
}

/// A count as this process left it.
#[derive(Clone, Copy)]
struct Taken {
    /// When it changed, which the next write compares.
    updated: prost_types::Timestamp,
    /// The beginning of the span that is counted.
    window: Timestamp,
    taken: u64,
}

/// A store in one Firestore database. `FIRESTORE_EMULATOR_HOST` is honoured.
pub struct Firestore {
    db: FirestoreDb,
    /// Where processors write; the same where nothing else is said.
    producers: FirestoreDb,
    settings: Settings,
    /// The change of each partition that was loaded last: its version, and what a conditional write compares.
    loaded: Mutex<BTreeMap<PartitionKey, (u64, prost_types::Timestamp)>>,
    /// Each effect that was read or committed last, until it is claimed.
    seen: Mutex<BTreeMap<String, Seen>>,
    /// What this process last took of what is counted in the database.
    taken: Mutex<BTreeMap<String, Taken>>,
    /// Until when this process has which work to itself.
    leases: Mutex<BTreeMap<String, Timestamp>>,
    /// The name of this process among those that share the database.
    process: String,
}

impl std::fmt::Debug for Firestore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Firestore").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Firestore {
    /// Connects with the credentials of the environment, or none to an emulator.
    pub async fn connect(settings: Settings) -> Result<Self, ConnectError> {
        let db = open(&settings, settings.database.as_deref()).await?;
        let producers = match &settings.producers_database {
            Some(theirs) if settings.producers_database != settings.database => open(&settings, Some(theirs)).await?,
            _ => db.clone(),
        };
        let process = uuid::Uuid::new_v4().to_string();
        Ok(Self {
            db,
            producers,
            settings,
            loaded: Mutex::default(),
            seen: Mutex::default(),
            taken: Mutex::default(),
            leases: Mutex::default(),
            process,
        })
    }
}

async fn open(settings: &Settings, database: Option<&str>) -> Result<FirestoreDb, ConnectError> {
    let mut options = FirestoreDbOptions::new(settings.project.clone()).with_request_timeout(settings.timeout);
    if let Some(database) = database {
        options = options.with_database_id(database.to_owned());
    }
    let db = match &settings.emulator {
        Some(emulator) => {
            let options = options.with_firebase_api_url(format!("http://{emulator}"));
            FirestoreDb::with_options_auth(options, emulator_credentials()).await
        }
        None => FirestoreDb::with_options(options).await,
    };
    db.map_err(|error| ConnectError { project: settings.project.clone(), error })
}
