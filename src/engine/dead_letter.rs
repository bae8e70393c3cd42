//! The ledger of dead letters: what nobody could process is kept, looked at, corrected, replayed or discarded.
//!
//! What holds:
//! - a letter is acknowledged only once it is kept, and looking at it changes nothing anywhere;
//! - a replay is recorded under an execution id that is a function of the letter before its message leaves, and noted after.
//!   Where the bus shares the store's commits, both are one; elsewhere a crash between them repeats the message under the
//!   same id;
//! - a message that is given up on again comes back to its letter, so that three replays are three;
//! - of two who replay the same letter, one does.

mod discard;
mod keep;
mod look;
mod plan;
mod replay;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::dead_letter::{About, Kind, Letter, Refusal, Stage, Standing};
use crate::domain::id::{DispatchId, LetterId, NodeId, PartitionKey, PipelineId, RunId};
use crate::port::StoreError;
use crate::wire::envelope::Content;

pub(super) use keep::Keeping;
pub use look::{read, shown};

/// Letters read at once.
const PAGE: usize = 500;
/// Tries to note what has happened already, against others who change the same letter.
const TRIES_MAX: usize = 5;
/// How often the ledger is looked after.
pub const LOOK_AFTER_EVERY: Duration = Duration::from_secs(60);
/// Whose subscriptions are ours.
const OURSELVES: &str = "tipoff";

/// Why something could not be done about letters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such letter.
    #[error("there is no letter `{0}`; `tipoff dlq list` shows those that wait, --all the others")]
    NoSuch(String),
    /// More than one letter begins so.
    #[error("{1} letters begin with `{0}`; write more of it")]
    Several(String, usize),
    /// That is not done with this letter.
    #[error("{0}: {1}")]
    Refused(LetterId, Refusal),
    /// That cannot be done with this letter.
    #[error("{0}: {1}")]
    Wrong(LetterId, String),
    /// A shadow sends nothing, and a replay is sent.
    #[error("nothing is replayed from the shadow: whoever runs the pipeline replays it")]
    Shadow,
    /// Others kept changing the letter.
    #[error("{0} is being changed by others; try again")]
    Contended(LetterId),
}

/// Which letters are meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// These, by their names or the beginnings of them; those that everything else says where there are none.
    pub ids: Vec<String>,
    /// Of this topic.
    pub topic: Option<String>,
    /// About this pipeline.
    pub pipeline: Option<PipelineId>,
    /// About this node.
    pub node: Option<NodeId>,
    /// About this date.
    pub date: Option<Date>,
    /// With this fingerprint of their cause, or the beginning of it.
    pub cause: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Given up on before this instant.
    pub before: Option<Timestamp>,
    /// Given up on at this instant or after.
    pub since: Option<Timestamp>,
    /// Whose work stands so: `wanted`, `unneeded`, `unclear`.
    pub standing: Option<String>,
    /// Also those about which nothing more is to be done.
    pub all: bool,
}

/// A letter as people see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// What is kept of it.
    #[serde(flatten)]
    pub letter: Letter,
    /// Where it stands.
    pub stage: Stage,
    /// Whether what it asked for is still wanted, now.
    #[serde(flatten)]
    pub standing: Standing,
    /// What came of its last replay, where it had one.
    pub came_of_it: Option<String>,
    /// Seconds since it was given up on.
    pub age_s: i64,
    /// Its place among all; the next page begins after the last one's.
    pub place: String,
}

/// Letters that failed alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// The fingerprint of the cause.
    pub cause: String,
    /// The cause.
    pub words: String,
    /// How many there are.
    pub count: usize,
    /// Of these, how many are still wanted.
    pub wanted: usize,
    /// How many are not.
    pub unneeded: usize,
    /// How many of which that cannot be told.
    pub unclear: usize,
    /// When the first was given up on.
    pub oldest: Timestamp,
    /// And the last.
    pub newest: Timestamp,
}

/// The ledger, as far as it was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Board {
    /// How many letters were meant.
    pub count: usize,
    /// By cause, the most frequent first.
    pub groups: Vec<Group>,
    /// Causes that were left out.
    pub groups_left_out: usize,
    /// A page of letters, the latest first.
    pub letters: Vec<Seen>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A letter with everything that its versions say.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The letter.
    pub seen: Seen,
    /// What each version says, in their order.
    pub contents: Vec<Content>,
}

/// What operators want replayed.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Which letters.
    pub selection: Selection,
    /// At most so many, the oldest first.
    pub limit: Option<usize>,
    /// Also what is not wanted any more, or of which that cannot be told.
    pub force: bool,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// What the letter is to say instead, where it is one.
    pub with: Option<Vec<u8>>,
    /// Messages a second at most; 0 is no bound.
    pub per_second: u32,
    /// When it was first asked for, where it may be asked for twice: what has been replayed since is not replayed once more.
    pub asked_at: Option<Timestamp>,
}

/// What would be done with a letter, or was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "result", content = "why", rename_all = "snake_case")]
pub enum Verdict {
    /// It is to be replayed.
    Ready,
    /// It was replayed.
    Replayed,
    /// Nothing more is done about it.
    Discarded,
    /// What it asked for is not wanted any more.
    Unneeded(String),
    /// Whether it is cannot be told.
    Unclear(String),
    /// It is not replayed, whatever anybody says.
    Refused(String),
    /// Somebody else is at it.
    UnderWay(String),
    /// It was tried; what was recorded is carried on by itself.
    Failed(String),
}

impl Verdict {
    /// The word shown to people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Unneeded(_) => "unneeded",
            Self::Unclear(_) => "unclear",
            Self::Refused(_) => "refused",
            Self::UnderWay(_) => "under way",
            Self::Failed(_) => "failed",
        }
    }

    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Ready | Self::Replayed | Self::Discarded => "",
            Self::Unneeded(why) | Self::Unclear(why) | Self::Refused(why) | Self::UnderWay(why) | Self::Failed(why) => {
                why
            }
        }
    }
}

/// What became, or would become, of one letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub id: LetterId,
    /// What it is about.
    pub about: About,
    /// The topic its replay goes to.
    pub topic: Option<String>,
    /// The execution id of its replay.
    pub execution: Option<RunId>,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a replay would do to one date.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Consequence {
    /// Which date.
    pub partition: PartitionKey,
    /// Facts that are told to it.
    pub events: usize,
    /// Nodes that change their state: node, from, to.
    pub moved: Vec<(NodeId, String, String)>,
    /// What is asked for.
    pub dispatches: Vec<DispatchId>,
    /// Why nothing can be said of it.
    pub unknown: Option<String>,
}

/// What a replay would come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Each letter that is meant, the oldest first.
    pub letters: Vec<Outcome>,
    /// Messages by the consumer that gets them: everybody who reads the topic.
    pub reaches: BTreeMap<String, usize>,
    /// What follows for the dates.
    pub consequences: Vec<Consequence>,
}

/// How far a replay is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Progress {
    /// Letters looked at.
    pub done: usize,
    /// Of so many.
    pub of: usize,
    /// Replayed.
    pub replayed: usize,
    /// Tried in vain.
    pub failed: usize,
}
