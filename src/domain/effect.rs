//! What a decision asks of the world. Committed with the state, delivered after it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::coverage::PerMille;
use super::event::Upstream;
use super::evidence::{Extant, Version};
use super::id::{AlertKey, Attempt, CheckId, CycleId, DispatchId, NodeId, PartitionKey, RunId, UnitId};
use super::trace::TraceContext;

/// One thing to deliver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Ask for work.
    Dispatch(Dispatch),
    /// Tell people, or tell them that it is over.
    Alert(Alert),
    /// Ask the warehouse how much of an output is there.
    Observe {
        /// The date asked about.
        date: Date,
        /// The node asked about.
        node: NodeId,
    },
    /// Ask the warehouse whether the data behind a dispatch are good.
    Check {
        /// Whose check.
        node: NodeId,
        /// Which.
        check: CheckId,
    },
    /// A run is dead: whatever lock it holds is to be released, and its end recorded.
    ReleaseLock {
        /// The node that held it.
        node: NodeId,
        /// The dead run.
        run: RunId,
    },
    /// Ask a processor to close a run of its own that does not come on: a request like any other, but no attempt.
    Close(Dispatch),
    /// Carry a node's evidence to another date.
    NotifyPartition {
        /// The date told.
        to: Date,
        /// The node told about.
        node: NodeId,
        /// Its evidence.
        upstream: Upstream,
    },
}

/// A request for work, with its cause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dispatch {
    /// Names the decision; every repetition on the wire carries it.
    pub id: DispatchId,
    /// Which partition.
    pub key: PartitionKey,
    /// Which node.
    pub node: NodeId,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Why, and on what.
    pub manifest: Manifest,
}

/// What a dispatch was decided on, so that a consumer can mark what it makes as degraded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The pass over the date.
    pub cycle: CycleId,
    /// Which run and attempt.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// Why now.
    pub cause: Cause,
    /// Every dependency as it stood.
    pub inputs: Vec<Input>,
    /// Whether anything less than everything was there.
    pub degraded: bool,
    /// Nodes that were not there, or not whole.
    pub missing: BTreeSet<NodeId>,
    /// Nodes whose absence was accepted because their grace or their quorum's tier ran out.
    pub waived: BTreeSet<NodeId>,
    /// The run this one replaces, whose failure will be ignored from now on.
    pub fenced: Option<RunId>,
    /// Carried from the newest input, so that one id runs from scraper to export.
    pub correlation: Option<Arc<str>>,
    /// The run that is to be closed, where it is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes: Option<RunId>,
    /// The parts it is about, games or teams; the whole date where none is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub units: BTreeSet<UnitId>,
    /// The span of the newest input's message, which this follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// Those of the other inputs' messages, from the newest on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<TraceContext>,
}

/// One dependency as it stood when the dispatch was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Input {
    /// The upstream node.
    pub node: NodeId,
    /// Its date.
    pub date: Date,
    /// How much of it was there.
    pub observed: Extant,
    /// How much was required.
    pub required: PerMille,
    /// Which version.
    pub version: Option<Version>,
}

/// Why a dispatch was decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its dependencies are met for the first time.
    DependenciesMet,
    /// Its inputs are newer than its output.
    InputsNewer,
    /// Its last run failed, and said so.
    Failed,
    /// Its last run fell silent.
    HeartbeatDead,
    /// Its last dispatch showed no sign of life.
    NotStarted,
    /// Its output is shorter than what its dependents need.
    CoverageShort,
    /// It should have been heard of by now, and has not.
    Overdue,
    /// A run beats and does not come on.
    Stalled,
    /// An operator asked.
    Requested,
    /// It is missing from a date that is over, and a plan of backfill has come to it.
    Backfill,
}

impl Cause {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DependenciesMet => "dependencies_met",
            Self::InputsNewer => "inputs_newer",
            Self::Failed => "failed",
            Self::HeartbeatDead => "heartbeat_dead",
            Self::NotStarted => "not_started",
            Self::CoverageShort => "coverage_short",
            Self::Overdue => "overdue",
            Self::Stalled => "stalled",
            Self::Requested => "requested",
            Self::Backfill => "backfill",
        }
    }
}

/// An alert begins or ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub key: AlertKey,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it begins or ends.
    pub turn: Turn,
    /// One sentence with the figures.
    pub text: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Whose it is, and what is done about it.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
}

impl Alert {
    /// An alert that belongs to no date: what is known of one is added by [`Alert::about`].
    pub fn new(key: AlertKey, severity: Severity, turn: Turn, text: String, at: Timestamp) -> Self {
        Self { key, severity, turn, text, at, about: About::default() }
    }

    /// The same, about that.
    pub fn about(self, about: About) -> Self {
        Self { about, ..self }
    }
}

/// Whose an alert is, and what is done about it, as far as that is known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionKey>,
    /// The node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What has been done already, or will be without anybody, as a clause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
}

impl About {
    /// A date.
    pub fn date(partition: &PartitionKey) -> Self {
        Self { partition: Some(partition.clone()), ..Self::default() }
    }

    /// A node of a date.
    pub fn node(partition: &PartitionKey, node: &NodeId) -> Self {
        Self { node: Some(node.clone()), ..Self::date(partition) }
    }

    /// The same, and what is done.
    pub fn done(self, done: impl Into<String>) -> Self {
        Self { done: Some(done.into()), ..self }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether an alert begins or ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// It begins, or has become worse.
    Raised,
    /// It is over.
    Resolved,
}

/// How bad an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Degraded, or about to be.
    Warning,
    /// A person must act.
    Critical,
}

impl Severity {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
