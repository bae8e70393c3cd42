//! Identifiers: parsed once at the edge, trusted inside.
//!
//! Every name is a newtype over a shared string, so cloning one is cheap and mixing two kinds up does not compile.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name {
            /// Its first bytes: most comparisons are over with them.
            head: u64,
            name: Arc<str>,
        }

        impl $name {
            /// Wraps a name that the caller has already validated.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                let name = name.into();
                Self { head: head(&name), name }
            }

            /// The name as it is written in files, messages and logs.
            pub fn as_str(&self) -> &str {
                &self.name
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.head.cmp(&other.head).then_with(|| self.name.cmp(&other.name))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.name.hash(state);
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.name.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Arc::<str>::deserialize(deserializer).map(Self::new)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.name
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.name)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// The first eight bytes of a name, as a number that is ordered as they are.
fn head(name: &str) -> u64 {
    let mut bytes = [0; 8];
    let len = name.len().min(bytes.len());
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    u64::from_be_bytes(bytes)
}

name! {
    /// One graph with its time zone: `nba`.
    PipelineId
}
name! {
    /// A vertex of the graph: `player_game_summary`, or `player_daily_cache.overnight` for the pass of a processor
    /// that runs more than once over a date.
    NodeId
}
name! {
    /// A producer's own name for one execution: a heartbeat's `run_id`, a completion's `execution_id`, a batch id.
    RunId
}
name! {
    /// A part that a node's coverage counts: a game, a team, a file.
    UnitId
}
name! {
    /// A question about the data behind a node's dispatch: `minutes`.
    CheckId
}
name! {
    /// A pass over a date: `tomorrow`, `same_day`, `overnight`.
    CycleId
}
name! {
    /// What an alert is about. One alert per key until it is resolved.
    AlertKey
}
name! {
    /// A way to tell people, as the configuration calls it: `ops-slack`.
    ChannelId
}
name! {
    /// The name of one decision to ask for work: `pipeline/date/node/run/attempt`. Two replicas that take the same
    /// decision write the same id (`same-decision-same-id`).
    DispatchId
}
name! {
    /// A message that nobody could process, as it is kept for operators.
    LetterId
}
name! {
    /// A plan of backfill.
    PlanId
}
name! {
    /// The name of one operator's request, chosen by whoever makes it, so that a repeated request is recognised.
    RequestId
}

impl AlertKey {
    /// What kind of thing it is about: the part before the first colon, or slash.
    pub fn topic(&self) -> &str {
        self.name.split([':', '/']).next().unwrap_or_default()
    }
}

/// Everything about one date of one pipeline is one partition; this is its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PartitionKey {
    /// Which graph.
    pub pipeline: PipelineId,
    /// The game date, a calendar date in the pipeline's zone.
    pub date: Date,
}

impl PartitionKey {
    /// The key of `date` in `pipeline`.
    pub fn new(pipeline: impl Into<PipelineId>, date: Date) -> Self {
        Self { pipeline: pipeline.into(), date }
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.date)
    }
}

/// A partition key that could not be read back from its `pipeline/date` form.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not PIPELINE/YYYY-MM-DD")]
pub struct NotAKey(String);

impl FromStr for PartitionKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let parsed = text.split_once('/').and_then(|(pipeline, date)| Some((pipeline, date.parse::<Date>().ok()?)));
        match parsed {
            Some((pipeline, date)) if !pipeline.is_empty() => Ok(Self::new(pipeline, date)),
            _ => Err(NotAKey(text.to_owned())),
        }
    }
}

/// Which run and attempt of a node a dispatch is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Attempt {
    /// One intention to execute the node for its date; a rebuild is a new run. Counts from 1.
    pub run: u32,
    /// One try within the run. Counts from 1.
    pub attempt: u32,
}

impl Attempt {
    /// The dispatch id of this attempt: a function of the decision and of nothing else.
    pub fn dispatch_id(self, key: &PartitionKey, node: &NodeId) -> DispatchId {
        DispatchId::new(format!("{key}/{node}/{}/{}", self.run, self.attempt))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} attempt {}", self.run, self.attempt)
    }
}

impl DispatchId {
    /// The name of the request to close `run` of the attempt that `self` names. It is no attempt: [`DispatchId::parts`] reads
    /// nothing back.
    pub fn to_close(&self, run: &RunId) -> Self {
        Self::new(format!("{self}/close/{run}"))
    }

    /// Reads the partition, node and attempt back, if `self` has the shape of a dispatch id.
    pub fn parts(&self) -> Option<(PartitionKey, NodeId, Attempt)> {
        let mut parts = self.as_str().split('/');
        let pipeline = parts.next()?;
        let date = parts.next()?.parse().ok()?;
        let node = parts.next()?;
        let run = parts.next()?.parse().ok()?;
        let attempt = parts.next()?.parse().ok()?;
        parts.next().is_none().then(|| (PartitionKey::new(pipeline, date), node.into(), Attempt { run, attempt }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_and_found_as_their_texts_are() {
        let texts = ["", "a", "a\0", "a\0b", "ab", "abcdefgh", "abcdefgh\0", "abcdefghi", "abcdefgi", "zürich", "żółw"];
        for one in texts {
            for other in texts {
                let (a, b) = (NodeId::from(one), NodeId::from(other));
                assert_eq!(a.cmp(&b), one.cmp(other), "{one:?} {other:?}");
                assert_eq!(a == b, one == other, "{one:?} {other:?}");
            }
        }
        let map: std::collections::BTreeMap<NodeId, &str> = texts.map(|text| (text.into(), text)).into();
        assert!(texts.iter().all(|text| map.get(*text) == Some(text)));
    }

    #[test]
    fn a_dispatch_id_names_the_decision_and_reads_back() {
        let key: PartitionKey = "nba/2026-01-22".parse().unwrap();
        let attempt = Attempt { run: 1, attempt: 2 };
        let id = attempt.dispatch_id(&key, &"player_game_summary".into());
        assert_eq!(id.as_str(), "nba/2026-01-22/player_game_summary/1/2");
        assert_eq!(id.parts(), Some((key, "player_game_summary".into(), attempt)));
        assert_eq!(DispatchId::from("nba/2026-01-22/x/1").parts(), None);
    }
}
