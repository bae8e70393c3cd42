//! What a story expects to be seen, and not to be seen.

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use super::file::nba;
use crate::domain::effect::Severity;
use crate::domain::id::{NodeId, PipelineId};
use crate::domain::notify::{News, NoticeKind};

/// One expectation: one of its fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// A dispatch.
    #[serde(default)]
    pub dispatch: Option<WantedDispatch>,
    /// An alert.
    #[serde(default)]
    pub alert: Option<WantedAlert>,
    /// What people are told.
    #[serde(default)]
    pub told: Option<WantedTelling>,
    /// How a message was settled.
    #[serde(default)]
    pub settled: Option<WantedSettlement>,
    /// Where a node stands.
    #[serde(default)]
    pub state: Option<WantedState>,
    /// What is missing of an output.
    #[serde(default)]
    pub gaps: Option<WantedGaps>,
    /// How far a plan of backfill is.
    #[serde(default)]
    pub plan: Option<WantedPlan>,
    /// So many different inputs parked for this reason.
    #[serde(default)]
    pub parked: Option<WantedParked>,
    /// So many dead letters that stand so.
    #[serde(default)]
    pub letters: Option<WantedLetters>,
    /// How often a target that refuses is called.
    #[serde(default)]
    pub refused: Option<WantedRefusals>,
    /// So many alerts in all at the most.
    #[serde(default)]
    pub alerts_at_most: Option<usize>,
    /// What must not be seen.
    #[serde(default)]
    pub never: Option<Never>,
    /// Only of a plain run: a process that is killed forgets what it has counted, and what comes twice is counted twice.
    #[serde(default)]
    pub plainly: bool,
}

/// How often a target that refuses is called. Whoever is killed does not know how often it called before.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedRefusals {
    /// `topic:NAME` or `http:SERVICE/PATH`.
    pub target: String,
    /// At least so often, once for each kill less.
    pub at_least: usize,
    /// At most so often, ten times more for each kill.
    pub at_most: usize,
}

/// A dispatch that must be seen, so many times, in that time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedDispatch {
    /// Whose date; any where absent.
    #[serde(default)]
    pub pipeline: Option<PipelineId>,
    /// Which node.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// Which date.
    #[serde(default)]
    pub date: Option<Date>,
    /// Which run.
    #[serde(default)]
    pub run: Option<u32>,
    /// Which attempt.
    #[serde(default)]
    pub attempt: Option<u32>,
    /// Why.
    #[serde(default)]
    pub cause: Option<String>,
    /// `topic:NAME` or `http:SERVICE/PATH`.
    #[serde(default)]
    pub target: Option<String>,
    /// Members that the body must have; objects are compared member by member.
    #[serde(default)]
    pub body: Option<Value>,
    /// How many messages; defaults to 1. A dispatch of several messages counts once unless `target` or `body` is given.
    #[serde(default)]
    pub count: Option<usize>,
    /// From when until when.
    #[serde(default)]
    pub between: Option<(String, String)>,
}

/// An alert that must be seen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedAlert {
    /// Its key.
    pub key: String,
    /// How bad.
    #[serde(default)]
    pub severity: Option<String>,
    /// When it is raised.
    #[serde(default)]
    pub raised: Option<(String, String)>,
    /// When it is resolved.
    #[serde(default)]
    pub resolved: Option<(String, String)>,
    /// How often it is raised; defaults to 1.
    #[serde(default)]
    pub count: Option<usize>,
    /// What it says, at least once: all of these.
    #[serde(default)]
    pub says: Vec<String>,
    /// What it never says.
    #[serde(default)]
    pub says_not: Vec<String>,
    /// What is said when it ends, at least once: all of these.
    #[serde(default)]
    pub says_at_end: Vec<String>,
}

/// What people must be told, in so many notices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedTelling {
    /// An alert of this key is in it.
    #[serde(default)]
    pub key: Option<String>,
    /// An alert whose key begins so is in it.
    #[serde(default)]
    pub key_prefix: Option<String>,
    /// What is told of it.
    #[serde(default)]
    pub news: Option<News>,
    /// How bad it is told to be.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// So many others are folded into it.
    #[serde(default)]
    pub downstream: Option<usize>,
    /// What kind of notice it is in.
    #[serde(default)]
    pub kind: Option<NoticeKind>,
    /// Words of the notice's title, or of what it says of the alert: all of these.
    #[serde(default)]
    pub says: Vec<String>,
    /// How many such notices; defaults to 1.
    #[serde(default)]
    pub count: Option<usize>,
    /// Or more, up to so many: what cannot be kept is told again by whoever starts meanwhile.
    #[serde(default)]
    pub most: Option<usize>,
    /// From when until when all of them come.
    #[serde(default)]
    pub between: Option<(String, String)>,
}

/// How a message must be settled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedSettlement {
    /// The step's `id`.
    pub message: String,
    /// `ack`, `nack`, or `park:SLUG`.
    pub r#as: String,
    /// Each copy of it was handed back at most so often.
    #[serde(default)]
    pub handed_back: Option<usize>,
}

/// Where a node must stand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedState {
    /// Whose date; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which node.
    pub node: NodeId,
    /// Which date.
    pub date: Date,
    /// The state's name.
    pub is: String,
    /// When; defaults to the end.
    #[serde(default)]
    pub at: Option<String>,
}

/// The ranges of dates that an output is missing of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedGaps {
    /// Whose dates; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Whose output.
    pub node: NodeId,
    /// The first date that is looked at.
    pub from: Date,
    /// The last.
    pub until: Date,
    /// The ranges, each as `FROM..UNTIL`.
    pub are: Vec<String>,
    /// When; defaults to the end.
    #[serde(default)]
    pub at: Option<String>,
}

/// How far a plan is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedPlan {
    /// Whose; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Its name; `latest` is the one that was made last.
    pub id: String,
    /// `proposed`, `running`, `over` or `cancelled`.
    pub is: String,
    /// Items that are done.
    pub done: usize,
    /// Items that were given up.
    #[serde(default)]
    pub failed: usize,
    /// Items that are neither.
    #[serde(default)]
    pub left: usize,
    /// When; defaults to the end.
    #[serde(default)]
    pub at: Option<String>,
}

impl Expectation {
    /// Something that is looked at rather than seen: when, where not at the end.
    pub fn look(&self) -> Option<Option<&str>> {
        let state = self.state.as_ref().map(|state| state.at.as_deref());
        let gaps = self.gaps.as_ref().map(|gaps| gaps.at.as_deref());
        state.or(gaps).or(self.plan.as_ref().map(|plan| plan.at.as_deref()))
    }
}

/// Parked inputs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedParked {
    /// The kind of reason.
    pub slug: String,
    /// How many different ones.
    pub count: usize,
}

/// Dead letters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedLetters {
    /// Where they stand: `waiting`, `asked`, `replayed`, `discarded`.
    pub are: String,
    /// Whether what they ask for is still wanted: `wanted`, `unneeded`, `unclear`.
    #[serde(default)]
    pub standing: Option<String>,
    /// How many.
    pub count: usize,
}

/// So many, so close together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// How many are still allowed.
    pub count: usize,
    /// Within which span.
    pub within: String,
}

/// What must not be seen, at any time or between two.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Never {
    /// A dispatch like this.
    #[serde(default)]
    pub dispatch: Option<WantedDispatch>,
    /// Not at all is meant without this; with it, not more than so many so close together.
    #[serde(default)]
    pub more_than: Option<Crowd>,
    /// An alert whose key begins so.
    #[serde(default)]
    pub alert: Option<String>,
    /// A notice like this.
    #[serde(default)]
    pub told: Option<WantedTelling>,
    /// From when until when.
    #[serde(default)]
    pub between: Option<(String, String)>,
}

/// Every time that an expectation names, as it is written.
pub(super) fn times(expectation: &Expectation) -> Vec<&str> {
    let mut pairs: Vec<&(String, String)> = Vec::new();
    let mut times = Vec::new();
    if let Some(wanted) = &expectation.dispatch {
        pairs.extend(&wanted.between);
    }
    if let Some(wanted) = &expectation.alert {
        pairs.extend(&wanted.raised);
        pairs.extend(&wanted.resolved);
    }
    if let Some(wanted) = &expectation.told {
        pairs.extend(&wanted.between);
    }
    if let Some(never) = &expectation.never {
        pairs.extend(&never.between);
        pairs.extend(never.told.iter().filter_map(|wanted| wanted.between.as_ref()));
        if let Some(wanted) = &never.dispatch {
            pairs.extend(&wanted.between);
        }
    }
    times.extend(expectation.look().flatten());
    times.extend(pairs.into_iter().flat_map(|(from, until)| [from.as_str(), until.as_str()]));
    times
}
