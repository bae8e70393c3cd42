//! What `pipeline.yaml` says, before it is known what its names refer to.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::Service;
use super::monitors::DraftPhase;
use super::probe::{DraftAsk, DraftProbe, Probe};
use crate::diagnostic::{Any, Found, Place};
use crate::domain::backfill;
use crate::domain::calendar::Span;
use crate::domain::coverage::PerMille;
use crate::domain::failure::FailureClass;
use crate::domain::graph::{Cycle, Expects, Limits, Liveness, Offset, Refresh, Strength, Task, Unanswered};
use crate::domain::id::PipelineId;
use crate::monitor;
use crate::wire::report;

/// A pipeline as written.
pub(super) struct Draft {
    pub id: PipelineId,
    pub zone: TimeZone,
    pub limits: Limits,
    pub dispatches_per_second: u32,
    pub dispatches_per_hour: u32,
    pub failures: Vec<FailureClass>,
    pub calendar: DraftCalendar,
    pub backfill: backfill::Limits,
    pub services: BTreeMap<String, Service>,
    pub datasets: Vec<String>,
    pub untracked: Vec<String>,
    pub cycles: Vec<Cycle>,
    pub coverage_min: PerMille,
    pub probes: BTreeMap<String, DraftProbe>,
    pub reports: BTreeMap<report::Kind, Probe>,
    pub monitors: monitor::Settings,
    pub monitored_phases: Vec<DraftPhase>,
    pub nodes: BTreeMap<String, DraftNode>,
}

/// A node as written.
pub(super) struct DraftNode {
    pub place: Place,
    pub kind: Option<DraftKind>,
    pub phase: Option<String>,
    pub cycle: Option<Found<String>>,
    pub same_as: Option<Found<String>>,
    pub aliases: Vec<Found<String>>,
    pub files: Vec<Found<String>>,
    pub output: Option<Found<String>>,
    pub ask: Option<DraftAsk>,
    pub liveness: Liveness,
    /// What is said to have a run closed.
    pub close: Vec<DraftMessage>,
    pub backfill: DraftBackfill,
    pub needs: Vec<DraftNeed>,
    /// Without its checks, which are drafts of their own.
    pub expects: Expects,
    pub has_unit: bool,
    pub checks: Vec<DraftCheck>,
}

/// How a node is asked for a past date, as written.
#[derive(Default)]
pub(super) struct DraftBackfill {
    pub messages: Vec<DraftMessage>,
    pub refuse: Option<Found<String>>,
}

/// A calendar as written.
#[derive(Default)]
pub(super) struct DraftCalendar {
    pub seasons: Vec<Span>,
    pub breaks: Vec<Span>,
    pub tip_earliest: Option<Time>,
    pub game_max: SignedDuration,
    pub schedule: Option<Found<String>>,
    pub codes: Vec<(String, String)>,
    pub look_ahead: i32,
    pub read_every: SignedDuration,
}

/// A check as written.
pub(super) struct DraftCheck {
    pub id: String,
    pub ask: Option<DraftAsk>,
    pub warn_below: PerMille,
    pub block_below: PerMille,
    pub unanswered: Unanswered,
}

/// What only one kind of node has.
pub(super) enum DraftKind {
    /// With messages where its producer can be asked.
    Source(Option<(Task, Vec<DraftMessage>)>),
    Task {
        task: Task,
        messages: Vec<DraftMessage>,
    },
    Gate(DraftGate),
}

impl DraftKind {
    /// The word in the file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Task { .. } => "task",
            Self::Gate(_) => "gate",
        }
    }
}

/// An edge as written.
pub(super) struct DraftNeed {
    pub node: String,
    pub place: Place,
    pub strength: Strength,
    pub offset: Offset,
    pub coverage_min: Option<Found<PerMille>>,
    pub grace: Option<Found<SignedDuration>>,
    pub debounce: SignedDuration,
    pub refresh: Refresh,
}

/// A gate as written; its members are its node's `needs`.
pub(super) struct DraftGate {
    pub critical: Vec<Found<String>>,
    pub quorum: Vec<DraftTier>,
    pub quorum_place: Place,
}

/// A tier as written.
pub(super) struct DraftTier {
    pub place: Place,
    pub size: Size,
    pub after: SignedDuration,
}

/// How many members a tier asks for.
#[derive(Clone, Copy)]
pub(super) enum Size {
    Count(u32),
    Share(PerMille),
    /// Not said properly; the mistake is noted already.
    Unsaid,
}

/// A message as written.
pub(super) struct DraftMessage {
    pub place: Place,
    pub topic: Option<Found<String>>,
    pub http: Option<(Found<String>, Found<String>)>,
    pub schema: Option<Found<String>>,
    pub body: Option<Found<Any>>,
    pub attributes: Option<Found<Any>>,
}
