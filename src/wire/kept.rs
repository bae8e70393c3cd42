//! What a service is asked of what it keeps, and how it answers: the reading half of the ports as JSON, so that a command line
//! elsewhere reads a service's store as it would read its own.
//!
//! A question is `{"what": "partition", …}`, an answer `{"kept": …}` or, where the store has failed, `{"failed": …}`. Both are of
//! one version of tipoff; the command line says when it is of another.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::report;
use crate::domain::id::{AlertKey, CheckId, LetterId, NodeId, PartitionKey, PipelineId};
use crate::port::Letters;

/// One call of a port that changes nothing. Each answers as the method of its name does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "they are the arguments of the methods in `port`")]
pub enum Question {
    /// `Store::load`
    Partition { key: PartitionKey },
    /// `Store::due`
    Due { at: Timestamp, limit: usize },
    /// `Store::next_wake`
    NextWake,
    /// `Store::outbox`
    Outbox { at: Timestamp, limit: usize },
    /// `Store::undeliverable`
    Undeliverable { limit: usize },
    /// `Store::parked`
    Parked { limit: usize },
    /// `Store::journal`
    Journal { key: Option<PartitionKey>, after: u64, limit: usize },
    /// `Store::dates`
    Dates { pipeline: PipelineId, limit: usize },
    /// `Store::plans`
    Plans { pipeline: PipelineId },
    /// `Store::marked`
    Marked,
    /// `Store::document`
    Document { name: String },
    /// `Store::letter`
    Letter { id: LetterId },
    /// `Store::letter_content`
    LetterContent { id: LetterId, version: usize },
    /// `Store::letters`
    Letters { which: Letters, place: Option<String>, limit: usize },
    /// `Store::exported`
    Exported,
    /// `Bus::alerts`
    Alerts,
    /// `Bus::alert_of`
    AlertOf { key: AlertKey },
    /// `Warehouse::coverage`
    Coverage { pipeline: PipelineId, node: NodeId, date: Date, at: Timestamp },
    /// `Warehouse::check`
    Check { pipeline: PipelineId, node: NodeId, check: CheckId, date: Date, at: Timestamp },
    /// `Warehouse::report`
    Report { pipeline: PipelineId, report: report::Kind, date: Date, at: Timestamp },
}

impl Question {
    /// The pipeline that it is about, where it is about one.
    #[must_use]
    pub fn pipeline(&self) -> Option<&PipelineId> {
        match self {
            Self::Partition { key } => Some(&key.pipeline),
            Self::Journal { key, .. } => key.as_ref().map(|key| &key.pipeline),
            Self::Dates { pipeline, .. }
            | Self::Plans { pipeline }
            | Self::Coverage { pipeline, .. }
            | Self::Check { pipeline, .. }
            | Self::Report { pipeline, .. } => Some(pipeline),
            Self::Due { .. }
            | Self::NextWake
            | Self::Outbox { .. }
            | Self::Undeliverable { .. }
            | Self::Parked { .. }
            | Self::Marked
            | Self::Document { .. }
            | Self::Letter { .. }
            | Self::LetterContent { .. }
            | Self::Letters { .. }
            | Self::Exported
            | Self::Alerts
            | Self::AlertOf { .. } => None,
        }
    }
}

/// Things listed in one answer at most.
pub const LIMIT_MAX: usize = 10_000;

/// What a port answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told<T, E> {
    /// This.
    Kept(T),
    /// It has failed.
    Failed(E),
}

impl<T, E> From<Result<T, E>> for Told<T, E> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(kept) => Self::Kept(kept),
            Err(failed) => Self::Failed(failed),
        }
    }
}

/// What a service decides on: both declarations as it has read them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Declared {
    /// The version of tipoff.
    pub version: String,
    /// What it is there.
    pub now: Timestamp,
    /// `topics.yaml`.
    pub topics: Text,
    /// `pipeline.yaml`.
    pub pipelines: Text,
    /// What `tipoff.yaml` says, without secrets; told to administrators alone, who may have it read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
}

/// A file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Text {
    /// Where it was read.
    pub file: String,
    /// What it says.
    pub text: String,
}
