//! What a run showed: everything that was seen, in order, and what another run is held beside.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::domain::effect::{Severity, Turn};
use crate::domain::id::{AlertKey, ChannelId, DispatchId, NodeId, PartitionKey};
use crate::domain::notify::Notice;
use crate::engine::dead_letter;
use crate::engine::intake::Settlement;
use crate::port::Parked;

/// Something that was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can be seen.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum What {
    /// A message arrived.
    Received {
        /// The message.
        message: String,
        /// Its topic.
        topic: String,
    },
    /// A message was settled.
    Settled {
        /// The message.
        message: String,
        /// How.
        settlement: String,
    },
    /// A node changed its state.
    Moved {
        /// Whose date.
        partition: PartitionKey,
        /// Which node.
        node: NodeId,
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// A message was sent.
    Sent(Sent),
    /// An alert began or ended.
    Alert {
        /// Its key.
        key: AlertKey,
        /// How bad.
        severity: Severity,
        /// Whether it began or ended.
        turn: Turn,
        /// In words.
        text: String,
    },
    /// People were told.
    Told {
        /// Over which channel.
        channel: ChannelId,
        /// What.
        notice: Notice,
    },
    /// Something the world did.
    World {
        /// In words.
        text: String,
    },
}

/// A message that left.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Its name on the wire.
    pub message: String,
    /// The dispatch it belongs to.
    pub dispatch: DispatchId,
    /// Where it went.
    pub target: String,
    /// What it says.
    pub body: Value,
}

impl Sent {
    /// A member of its manifest, as text.
    pub fn manifest(&self, member: &str) -> Option<&str> {
        self.body.get("tipoff")?.get(member)?.as_str()
    }
}

/// What is left of the run once it is over.
#[derive(Debug, Default)]
pub struct Seen {
    /// Everything, in order.
    pub entries: Vec<Entry>,
    /// How each message of the file was settled, in order.
    pub settlements: BTreeMap<String, Vec<Settlement>>,
    /// Answers to the checks asked for, by their place in `expect`.
    pub checks: BTreeMap<usize, String>,
    /// Parked inputs.
    pub parked: Vec<Parked>,
    /// Dead letters.
    pub letters: Vec<dead_letter::Seen>,
    /// Calls of targets that refused them.
    pub refused: BTreeMap<String, usize>,
    /// How often the engine was killed beyond what the file says.
    pub kills: u32,
    /// When it ended. A world that answers goes on after a kill for longer than without one.
    pub ended: Timestamp,
}

/// What a run sent, for another run to be held beside.
#[derive(Clone, Debug)]
pub struct Course {
    /// Every dispatch id.
    pub dispatches: BTreeSet<DispatchId>,
    /// When it ended.
    pub ended: Timestamp,
}

impl Seen {
    /// Messages sent, each once, with the instant of its first sending.
    pub fn sent(&self) -> Vec<(Timestamp, &Sent)> {
        let mut known = BTreeSet::new();
        self.entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Sent(sent) if known.insert(sent.message.as_str()) => Some((entry.at, sent)),
                _ => None,
            })
            .collect()
    }

    /// Notices, each once, with the channel and the instant of its first telling.
    pub fn told(&self) -> Vec<(Timestamp, &ChannelId, &Notice)> {
        let mut known = BTreeSet::new();
        self.entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Told { channel, notice } if known.insert(notice.id.as_str()) => Some((entry.at, channel, notice)),
                _ => None,
            })
            .collect()
    }

    /// What was sent until an instant.
    pub fn course(&self, ended: Timestamp) -> Course {
        let sent = self.sent().into_iter().filter(|(at, _)| *at <= ended);
        Course { dispatches: sent.map(|(_, sent)| sent.dispatch.clone()).collect(), ended }
    }
}
