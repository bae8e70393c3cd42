//! One file that holds a date: both declarations as they were read, what was recorded of it and of the dates that its edges
//! reach, and what could not be applied or delivered.
//!
//! It is one JSON document, compressed where its name ends in `.gz`. Whoever reads it needs neither the store nor the
//! deployment. It holds messages as far as decisions were taken on them, and no settings: no token, no address of a channel.

use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::effect::Alert;
use crate::domain::graph::Graph;
use crate::domain::id::PartitionKey;
use crate::pipeline::{self, Declarations};
use crate::port::{Bus, BusError, OutboxEntry, Parked, Store, StoreError};

use super::record::Record;
use super::story::neighbours;

/// The layout that is written and read.
pub const VERSION: u32 = 1;
/// The longest document that is read, uncompressed. A date of 7,139 runs has 20 MB.
pub const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Dates beside its own that a capsule holds. A date has one before it and one after it.
const NEIGHBOURS_MAX: usize = 8;
/// Parked inputs, alerts and dispatches that are looked through for those about the date.
const LOOKED_AT_MAX: usize = 10_000;

/// A date, carried away.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// The layout.
    pub capsule: u32,
    /// Which tipoff made it.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// The date it is about.
    pub about: PartitionKey,
    /// topics.yaml as it was read.
    pub topics: Declared,
    /// pipeline.yaml as it was read.
    pub pipelines: Declared,
    /// What was recorded: of its own date first, then of those that its edges reach.
    pub records: Vec<Record>,
    /// Inputs that name the date and could not be applied.
    pub parked: Vec<Parked>,
    /// Alerts about the date that were on.
    pub alerts: Vec<Alert>,
    /// Dispatches and other effects of the date that could not be delivered, each with the reason.
    pub undeliverable: Vec<(OutboxEntry, String)>,
}

/// A declaration file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Where it was read.
    pub name: String,
    /// What it says.
    pub text: String,
    /// The digest by which decisions name it.
    pub revision: String,
}

impl Declared {
    /// The file of that name.
    pub fn new((name, text): (String, String)) -> Self {
        let revision = super::walk::hex(pipeline::revision(&text));
        Self { name, text, revision }
    }
}

/// Why a file is no capsule that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It could not be read at all.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is too long.
    #[error("it is longer than {} MB uncompressed; no capsule is", BYTES_MAX / 1024 / 1024)]
    TooLong,
    /// It is no capsule.
    #[error("it is no capsule: {0}")]
    NotOne(String),
    /// It has another layout.
    #[error(
        "it is a capsule of version {0}, and this tipoff reads version {VERSION}: read it with the tipoff that made it"
    )]
    OtherVersion(u64),
    /// It contradicts itself.
    #[error("the capsule is damaged: {0}")]
    Damaged(String),
}

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The alerts.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Capsule {
    /// Gathers everything about `key`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn gather(
        (store, bus): (&dyn Store, &dyn Bus),
        (topics, pipelines): (Declared, Declared),
        key: &PartitionKey,
        at: Timestamp,
    ) -> Result<Self, Unmade> {
        let own = Record::read(store, key).await?;
        let mut records = Vec::new();
        for neighbour in neighbours(&own).into_iter().take(NEIGHBOURS_MAX) {
            let record = Record::read(store, &neighbour).await?;
            if record.version > 0 {
                records.push(record);
            }
        }
        records.insert(0, own);
        let names = [key.date.to_string(), key.date.strftime("%Y%m%d").to_string()];
        let mut parked = store.parked(LOOKED_AT_MAX).await?;
        parked.retain(|parked| {
            let head = String::from_utf8_lossy(&parked.head);
            names.iter().any(|name| head.contains(name.as_str()))
        });
        let mut alerts = bus.alerts().await?;
        let own = key.to_string();
        alerts.retain(|alert| alert.about.partition.as_ref() == Some(key) || alert.key.as_str().ends_with(&own));
        let mut undeliverable = store.undeliverable(LOOKED_AT_MAX).await?;
        undeliverable.retain(|(entry, _)| entry.key == *key);
        Ok(Self {
            capsule: VERSION,
            made_by: format!("tipoff {}", env!("CARGO_PKG_VERSION")),
            made_at: at,
            about: key.clone(),
            topics,
            pipelines,
            records,
            parked,
            alerts,
            undeliverable,
        })
    }

    /// The document, compressed where `path` says so.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: Option<&Path>, out: impl Write) -> std::io::Result<()> {
        if path.is_some_and(|path| path.extension().is_some_and(|extension| extension == "gz")) {
            let mut packed = GzEncoder::new(out, Compression::default());
            serde_json::to_writer(&mut packed, self)?;
            packed.finish()?.flush()
        } else {
            let mut out = std::io::BufWriter::new(out);
            serde_json::to_writer(&mut out, self)?;
            out.write_all(b"\n")?;
            out.flush()
        }
    }

    /// Reads a document, compressed or not, and checks that it does not contradict itself.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(mut input: impl Read) -> Result<Self, Unreadable> {
        let mut bytes = Vec::new();
        input.by_ref().take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            let packed = MultiGzDecoder::new(bytes.as_slice());
            let read = packed.take(BYTES_MAX + 1).read_to_end(&mut unpacked);
            read.map_err(|error| Unreadable::NotOne(format!("its compression is broken: {error}")))?;
            bytes = unpacked;
        }
        if bytes.len() as u64 > BYTES_MAX {
            return Err(Unreadable::TooLong);
        }
        #[derive(Deserialize)]
        struct Layout {
            capsule: u64,
        }
        let not_one = |error: serde_json::Error| Unreadable::NotOne(error.to_string());
        let layout: Layout = serde_json::from_slice(&bytes).map_err(not_one)?;
        if layout.capsule != u64::from(VERSION) {
            return Err(Unreadable::OtherVersion(layout.capsule));
        }
        let capsule: Self = serde_json::from_slice(&bytes).map_err(not_one)?;
        capsule.check().map_err(Unreadable::Damaged)?;
        Ok(capsule)
    }

    fn check(&self) -> Result<(), String> {
        if self.records.first().map(|record| &record.key) != Some(&self.about) {
            return Err(format!("its first record is not that of {}", self.about));
        }
        if self.records.len() > NEIGHBOURS_MAX + 1 {
            return Err(format!("it holds {} dates", self.records.len()));
        }
        for (index, record) in self.records.iter().enumerate() {
            record.check()?;
            if self.records[..index].iter().any(|other| other.key == record.key) {
                return Err(format!("it holds {} twice", record.key));
            }
        }
        for declared in [&self.topics, &self.pipelines] {
            let revision = super::walk::hex(pipeline::revision(&declared.text));
            if declared.revision != revision {
                return Err(format!("{} is not the text of revision {}", declared.name, declared.revision));
            }
        }
        Ok(())
    }

    /// The graph it is about, out of its declarations.
    pub fn graph<'d>(&self, declarations: &'d Declarations) -> Option<&'d Graph> {
        declarations.pipelines.get(&self.about.pipeline).map(|pipeline| &*pipeline.graph)
    }
}
