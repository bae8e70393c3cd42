//! Why a message is not applied: parked, because it can never be, or ignored, because it is none of our business.

use jiff::civil::Date;

use crate::domain::id::PipelineId;

use super::value::shown;

/// The longest excerpt of a message that a reason repeats.
const EXCERPT_MAX: usize = 120;

/// Why a message can never be applied. The text says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// More bytes than any producer sends.
    #[error("the message has {bytes} bytes and at most {max} are read; have the producer send less", max = super::inbound::DATA_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not text.
    #[error("the message is not UTF-8; have the producer publish JSON text")]
    NotUtf8,
    /// Text, but not JSON.
    #[error("the message is not JSON ({0}); correct it and publish it again")]
    NotJson(String),
    /// JSON, but a number, a word or a list.
    #[error("the message is {0} and not an object; correct it and publish it again")]
    NotAnObject(&'static str),
    /// Nested more deeply than any producer nests.
    #[error("the message nests deeper than {max} levels; correct it and publish it again", max = super::inbound::DEPTH_MAX)]
    TooDeep,
    /// A field has the wrong type, or is there twice.
    #[error("a field is not what it should be ({0}); correct it and publish it again")]
    Shape(String),
    /// The topic is not declared.
    #[error("topic `{topic}` is not in topics.yaml; declare it or remove the subscription{hint}")]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// The nearest declared one, as `; did you mean …?`.
        hint: String,
    },
    /// None of the known dialects.
    #[error(
        "the message names neither a processor, a scraper, a table nor a file; publish it again with processor_name"
    )]
    NoName,
    /// A name without a node.
    #[error("no node is called `{name}`; add the name to its node's aliases and replay the message{hint}")]
    UnknownName {
        /// The name as sent.
        name: String,
        /// The nearest known one, as `; did you mean …?`.
        hint: String,
    },
    /// A name that several pipelines know.
    #[error("`{name}` is a node of {}, and neither dataset nor topic says which; publish it again with output_dataset", list(.pipelines))]
    AmbiguousName {
        /// The name as sent.
        name: String,
        /// Who knows it.
        pipelines: Vec<PipelineId>,
    },
    /// A path that tells no scraper.
    #[error("no scraper is known to write `{path}`; publish it again with scraper_name")]
    UnknownPath {
        /// The path.
        path: String,
    },
    /// A control character where a name or an id belongs.
    #[error("{field} has a control character; correct it and publish it again")]
    ControlCharacter {
        /// Where.
        field: &'static str,
    },
    /// A name or an id longer than any producer's.
    #[error("{field} is longer than {max} characters; correct it and publish it again", max = super::inbound::NAME_MAX)]
    TooLong {
        /// Where.
        field: &'static str,
    },
    /// No date, or none that can be told for certain.
    #[error("the message names no date that can be told for certain{}; publish it again with game_date as YYYY-MM-DD", instead(.given))]
    NoDate {
        /// What stands where a date should.
        given: Option<String>,
    },
    /// Two fields name two dates.
    #[error("the message names two dates, {0} and {1}; publish it again with one")]
    TwoDates(Date, Date),
    /// A date later than the pipeline plans for.
    #[error(
        "{date} is too far ahead: published on {today}, at most {max} days ahead are accepted; correct the date, or replay the message when it is nearer"
    )]
    TooFarAhead {
        /// The message's.
        date: Date,
        /// The date of publishing in the pipeline's zone.
        today: Date,
        /// The bound.
        max: i32,
    },
    /// A date longer ago than the pipeline keeps.
    #[error(
        "{date} is too old: published on {today}, at most {max} days back are accepted; correct the date, or raise limits.behind_max and replay the message"
    )]
    TooOld {
        /// The message's.
        date: Date,
        /// The date of publishing in the pipeline's zone.
        today: Date,
        /// The bound.
        max: i32,
    },
    /// No status.
    #[error("status is missing; publish it again with status success, partial, no_data, failed or skipped")]
    NoStatus,
    /// A status that nobody has declared.
    #[error("`{0}` is no status; publish it again with one of {known}", known = known(*.1))]
    UnknownStatus(String, Kind),
    /// A count below zero.
    #[error("{field} is negative; correct it and publish it again")]
    NegativeCount {
        /// Where.
        field: &'static str,
    },
    /// A count that nobody can have counted to.
    #[error("{field} is larger than any count; correct it and publish it again")]
    HugeCount {
        /// Where.
        field: &'static str,
    },
    /// A heartbeat that belongs to no run.
    #[error("the heartbeat has no run_id, so it keeps no run alive; have the producer send its run_id")]
    NoRun,
    /// Reading it panicked.
    #[error(
        "reading it panicked, which is a fault of tipoff and no fault of the message; replay it with a version that is mended"
    )]
    Fault,
}

/// What a message claims to be; it decides which words are statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A run ended.
    Completion,
    /// A run lives.
    Heartbeat,
}

impl Reason {
    /// A short name, for counters and keys: its values are as many as the variants, whatever comes in.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotUtf8 => "not-utf8",
            Self::NotJson(_) => "not-json",
            Self::NotAnObject(_) => "not-an-object",
            Self::TooDeep => "too-deep",
            Self::Shape(_) => "wrong-shape",
            Self::UnknownTopic { .. } => "unknown-topic",
            Self::NoName => "no-name",
            Self::UnknownName { .. } => "unknown-name",
            Self::AmbiguousName { .. } => "ambiguous-name",
            Self::UnknownPath { .. } => "unknown-path",
            Self::ControlCharacter { .. } => "control-character",
            Self::TooLong { .. } => "too-long",
            Self::NoDate { .. } => "no-date",
            Self::TwoDates(..) => "two-dates",
            Self::TooFarAhead { .. } => "too-far-ahead",
            Self::TooOld { .. } => "too-old",
            Self::NoStatus => "no-status",
            Self::UnknownStatus(..) => "unknown-status",
            Self::NegativeCount { .. } => "negative-count",
            Self::HugeCount { .. } => "huge-count",
            Self::NoRun => "no-run",
            Self::Fault => "fault",
        }
    }
}

/// Why a message is acknowledged without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// A line of the run history that leaked onto the topic; it says nothing that a completion does not say.
    #[error("a run-history line on a completion topic")]
    RunHistory,
    /// A request for work, addressed to somebody else.
    #[error("a request for work by somebody else")]
    Request,
    /// A scraper or processor that feeds no date of any pipeline.
    #[error("a producer that no pipeline tracks")]
    Untracked,
    /// The topic carries nothing that moves a graph.
    #[error("a topic that moves no graph")]
    OtherTopic,
}

impl Ignored {
    /// A short name, for counters.
    pub fn slug(self) -> &'static str {
        match self {
            Self::RunHistory => "run-history",
            Self::Request => "request",
            Self::Untracked => "untracked",
            Self::OtherTopic => "other-topic",
        }
    }
}

/// As much of a message's own words as a reason repeats.
pub fn excerpt(text: &str) -> String {
    shown(text, EXCERPT_MAX)
}

fn instead(given: &Option<String>) -> String {
    given.as_ref().map_or_else(String::new, |given| format!(" (`{given}` is none)"))
}

fn known(kind: Kind) -> &'static str {
    match kind {
        Kind::Completion => "success, partial, no_data, failed, skipped",
        Kind::Heartbeat => "running, completed, failed",
    }
}

fn list(pipelines: &[PipelineId]) -> String {
    pipelines.iter().map(PipelineId::as_str).collect::<Vec<_>>().join(" and ")
}
