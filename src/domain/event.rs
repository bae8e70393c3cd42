//! What can happen to a partition: past facts, already decoded, with the broker's publish time as their time.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::evidence::{Extant, Extent, Version};
use super::forecast::Shortfall;
use super::id::{Attempt, CheckId, DispatchId, NodeId, PlanId, RequestId, RunId, UnitId};
use super::time::shown;
use super::trace::TraceContext;

/// One fact about one partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A producer says how an execution ended.
    Completed(Completed),
    /// A producer says an execution is alive.
    Heartbeat(Heartbeat),
    /// The warehouse answered.
    Observed(Observed),
    /// The warehouse answered a check.
    Checked(Checked),
    /// The day's games, as the calendar knows them from now on.
    Scheduled(Scheduled),
    /// A node of another date has new evidence.
    UpstreamSettled(UpstreamSettled),
    /// An operator asks for something.
    Requested(Request),
    /// A producer used a name in a way an operator should know of.
    Noted(Note),
    /// A dispatch was not taken by its target, or is at last.
    Delivery(Delivery),
    /// A dispatch was decided and is not sent, since others run the pipeline.
    Withheld(Withheld),
    /// What is to be expected of an output has changed.
    Foretold(Foretold),
    /// A producer says which revision of its program it is.
    Served(Served),
    /// Time has passed.
    Tick,
}

impl Event {
    /// When the broker took the message that says so; nothing of what no message says.
    pub fn published(&self) -> Option<Timestamp> {
        match self {
            Self::Completed(completed) => Some(completed.published),
            Self::Heartbeat(heartbeat) => Some(heartbeat.published),
            Self::Served(served) => Some(served.at),
            Self::Observed(_)
            | Self::Checked(_)
            | Self::Scheduled(_)
            | Self::UpstreamSettled(_)
            | Self::Requested(_)
            | Self::Noted(_)
            | Self::Delivery(_)
            | Self::Withheld(_)
            | Self::Foretold(_)
            | Self::Tick => None,
        }
    }
}

/// Which revision of a program is at work. It decides nothing: two at once are told of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Served {
    /// Of which node.
    pub node: NodeId,
    /// As the producer names it: a revision of the service, or a commit.
    pub revision: Arc<str>,
    /// When the broker took the message that says so.
    pub at: Timestamp,
}

/// What is to be expected of an output that is promised before tip-off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Foretold {
    /// Whose.
    pub node: NodeId,
    /// The next deadline that it will miss; nothing where it will miss none.
    pub shortfall: Option<Shortfall>,
    /// When that was worked out.
    pub at: Timestamp,
}

/// What became of handing a dispatch to its target. Told only where it was not taken at the first try.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// Whose.
    pub node: NodeId,
    /// Which attempt was dispatched.
    pub attempt: Attempt,
    /// When.
    pub at: Timestamp,
    /// Why the target did not take it; nothing where it has.
    pub refused: Option<Arc<str>>,
}

/// A dispatch that nobody gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Withheld {
    /// Whose.
    pub node: NodeId,
    /// Which attempt was decided.
    pub attempt: Attempt,
    /// When.
    pub at: Timestamp,
}

/// How an execution ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Completed {
    /// Whose.
    pub node: NodeId,
    /// Which execution.
    pub run: RunId,
    /// How.
    pub outcome: Outcome,
    /// Rows written, where said.
    pub records: Option<u64>,
    /// When the broker took the message.
    pub published: Timestamp,
    /// The producer's correlation id.
    pub correlation: Option<Arc<str>>,
    /// The dispatch it answers, where the producer echoes it.
    pub dispatch: Option<DispatchId>,
    /// The part of the output it is about, in the producer's words, where it is about one: a game, a team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
    /// The span in which it was received, where its message brought a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

/// The ways an execution ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is an output, this complete.
    Done(Extent),
    /// It failed, with the producer's words.
    Failed(Arc<str>),
    /// It found nothing to work on.
    NoData,
    /// It decided not to run, with the producer's words.
    Skipped(Arc<str>),
}

/// A sign of life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub node: NodeId,
    /// Which execution.
    pub run: RunId,
    /// What it says of itself.
    pub pulse: Pulse,
    /// Units done and to do; both zero where the processor does not count.
    pub progress: (u64, u64),
    /// When the broker took the message. The producer's own clock decides nothing.
    pub published: Timestamp,
}

/// A heartbeat's status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pulse {
    /// It runs.
    Running,
    /// The process ended; that is not a completion, for processors say so after a failure too.
    Ended,
    /// It failed.
    Failed,
}

/// A probe's answer about one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// Whose output.
    pub node: NodeId,
    /// What is there of what should be. `None`: the warehouse could not tell, or keeps nothing of the kind.
    pub coverage: Option<Coverage>,
    /// The warehouse keeps nothing about this output, or expects nothing of the date.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_kept: bool,
    /// Per unit, where known.
    #[serde(default)]
    pub units: BTreeMap<UnitId, Coverage>,
    /// When the answer was taken.
    pub at: Timestamp,
    /// Who has asked for it, where somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
}

/// The answer to one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Whose check.
    pub node: NodeId,
    /// Which.
    pub check: CheckId,
    /// What came of it.
    pub answer: CheckAnswer,
    /// When the answer was taken.
    pub at: Timestamp,
}

/// What came of a check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckAnswer {
    /// So much of what should be.
    Share(Coverage),
    /// The warehouse could not tell.
    Unknown,
    /// It keeps nothing about this, or expects nothing of the date: there is nothing to object to.
    NotKept,
}

/// The games of the date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scheduled {
    /// By `YYYYMMDD_AWAY_HOME`.
    pub games: BTreeMap<UnitId, Game>,
    /// When the schedule was read.
    pub at: Timestamp,
}

/// One game.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Game {
    /// When it starts, where known.
    pub tip: Option<Timestamp>,
    /// Whether it is played.
    pub status: GameStatus,
    /// The schedule's own name for it, by which some files are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<UnitId>,
}

/// How a game stands on the date it is listed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GameStatus {
    /// Not begun.
    Scheduled,
    /// In progress.
    Live,
    /// Over.
    Final,
    /// Not played on this date; when it will be is not known.
    Postponed,
    /// Played on another date.
    Moved,
}

impl GameStatus {
    /// Whether it is, was or will be played on that date.
    pub fn is_played(self) -> bool {
        match self {
            Self::Scheduled | Self::Live | Self::Final => true,
            Self::Postponed | Self::Moved => false,
        }
    }
}

/// Evidence of a node of another date, carried here so that this partition stays a function of its own events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpstreamSettled {
    /// The date the evidence is about.
    pub date: Date,
    /// Whose.
    pub node: NodeId,
    /// What it amounts to.
    pub upstream: Upstream,
}

/// What another date's node amounts to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// The date whose output this is: the previous date with games.
    pub date: Date,
    /// How much is there.
    pub extant: Extant,
    /// Which version.
    pub version: Version,
    /// When it was told: of two tellings the later counts, whichever is delivered first.
    #[serde(default)]
    pub told_at: Timestamp,
    /// When that version came to be known, or was waived.
    pub since: Timestamp,
    /// Whether it is being made anew at this moment.
    pub renewing: bool,
    /// Whether an operator has had its dependents go on without it.
    #[serde(default)]
    pub waived: bool,
    /// Game days in a row on which it had no data.
    #[serde(default)]
    pub empty_days: u32,
}

/// Something an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the asker; the same id asks once.
    pub id: RequestId,
    /// Who.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// What.
    pub command: Command,
}

/// What can be asked for. `None` as a node means the whole date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Dispatch nothing until resumed, or until the instant given.
    Hold {
        /// Which node.
        node: Option<NodeId>,
        /// When the hold ends by itself.
        until: Option<Timestamp>,
    },
    /// End a hold.
    Resume {
        /// Which node.
        node: Option<NodeId>,
    },
    /// Run the node again as soon as its dependencies allow, whatever its budget and whether its pass is over.
    Retry {
        /// Which node.
        node: NodeId,
    },
    /// Make the node's output again for a plan of backfill, on the same terms.
    Backfill {
        /// Which node.
        node: NodeId,
        /// Which plan.
        plan: PlanId,
    },
    /// Ask no longer for what a plan of backfill has asked for and has not been sent.
    Withdraw {
        /// Which node.
        node: NodeId,
        /// Which plan.
        plan: PlanId,
    },
    /// Count the node as not required for this date.
    Skip {
        /// Which node.
        node: NodeId,
    },
    /// Say of one of the node's inputs, or of one of its checks, that it stops the node or that it does not.
    Edge {
        /// Whose.
        node: NodeId,
        /// The input, a gate perhaps, or the check.
        input: Arc<str>,
        /// What holds of it from now on; nothing where it is as declared again.
        rule: Option<EdgeRule>,
        /// When that ends by itself.
        until: Option<Timestamp>,
    },
    /// Know of an execution what its heartbeats do not say.
    Execution {
        /// Whose.
        node: NodeId,
        /// Which.
        run: RunId,
        /// What.
        word: RunWord,
    },
    /// Know a game better than the schedule does, until the feed says that it is over.
    Override {
        /// Which game.
        game: UnitId,
        /// How it stands.
        status: Option<GameStatus>,
        /// When it begins.
        tip: Option<Timestamp>,
        /// When this ends by itself.
        until: Timestamp,
    },
}

/// What an operator says of an execution that is alive as far as its heartbeats tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunWord {
    /// It is dead: it is fenced, its lock is let go, and its node may be tried again.
    GiveUp,
    /// It will not come on: its processor is asked to close it, as at its threshold.
    Finalize,
    /// It will come on: its patience begins anew.
    Continue,
}

impl RunWord {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GiveUp => "give up",
            Self::Finalize => "finalize",
            Self::Continue => "continue",
        }
    }
}

/// What an operator says of one of a node's inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeRule {
    /// Nothing passes: the node waits, whatever has come.
    Hold,
    /// The node goes without it, where it is what stands in the way. Only a check or an input can be forced, never a hold.
    Force,
}

impl Command {
    /// The node it is about; none where it is about the whole date.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Hold { node, .. } | Self::Resume { node } => node.as_ref(),
            Self::Retry { node }
            | Self::Backfill { node, .. }
            | Self::Withdraw { node, .. }
            | Self::Skip { node }
            | Self::Execution { node, .. }
            | Self::Edge { node, .. } => Some(node),
            Self::Override { .. } => None,
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hold { .. } => "hold",
            Self::Resume { .. } => "resume",
            Self::Retry { .. } => "retry",
            Self::Backfill { .. } => "backfill",
            Self::Withdraw { .. } => "withdraw",
            Self::Skip { .. } => "skip",
            Self::Edge { rule: Some(EdgeRule::Hold), .. } => "hold",
            Self::Edge { rule: Some(EdgeRule::Force), .. } => "force",
            Self::Edge { rule: None, .. } => "resume",
            Self::Execution { word, .. } => word.as_str(),
            Self::Override { .. } => "override",
        })?;
        match (self.node(), self) {
            (_, Self::Override { game, .. }) => write!(f, " {game}")?,
            (Some(node), _) => write!(f, " {node}")?,
            (None, _) => f.write_str(" the whole date")?,
        }
        if let Self::Edge { input, .. } = self {
            write!(f, " past {input}")?;
        }
        match self {
            Self::Backfill { plan, .. } => write!(f, " for {plan}"),
            Self::Execution { run, .. } => write!(f, " run {run}"),
            Self::Hold { until: Some(until), .. }
            | Self::Edge { until: Some(until), .. }
            | Self::Override { until, .. } => write!(f, " until {}", shown(*until)),
            _ => Ok(()),
        }
    }
}

/// Something about a producer's message that is accepted but not right.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The name is in no alias list; the output table told which node it is.
    UnknownName {
        /// The name as sent.
        name: Arc<str>,
        /// The node it was taken for.
        node: NodeId,
    },
    /// The message came over a topic of another pipeline.
    WrongTopic {
        /// The name as sent.
        name: Arc<str>,
        /// The topic it came over.
        topic: Arc<str>,
    },
    /// The file of a game lies under this date, and the message about it gives another: a scraper's word for today.
    OtherDate {
        /// Whose file.
        node: NodeId,
        /// The date as given.
        given: Date,
    },
}
