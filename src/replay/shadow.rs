//! What was decided of a date beside what others really ran: who was earlier, what the one did and the other did not, and why.
//!
//! Both are in the date's journal: decisions as dispatches, and what really ran as heartbeats and completions. Where nothing
//! is sent, every run is somebody else's. Why something was not decided is what stood in its way just before somebody began it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::domain::decide::decide;
use crate::domain::effect::{Cause, Dispatch, Effect};
use crate::domain::event::{Event, Outcome};
use crate::domain::graph::Graph;
use crate::domain::id::{DispatchId, NodeId, PartitionKey, RunId};
use crate::domain::partition::{Partition, Recorded};
use crate::domain::time::{Now, after, shown};
use crate::domain::view;
use crate::domain::words::harmless;
use crate::port::JournalEntry;

use super::record::Record;
use super::walk::Walk;

/// What is no further apart is at the same time: a heartbeat comes once a minute, and nobody is quicker on purpose.
pub const SAME_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// How long after the last sign of life of a run a completion under another name is taken for its own.
const OWN_WITHIN: SignedDuration = SignedDuration::from_mins(15);
/// Things in the way that are named.
const REASONS_MAX: usize = 3;

/// How a decision and a run compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Decided when others began it.
    Same,
    /// Decided before others began it.
    Earlier,
    /// Begun by others before it was decided.
    Later,
    /// Decided, and begun by nobody.
    NotRun,
    /// Begun by others, and not decided.
    NotDecided,
    /// Begun by others although it was done, or being done.
    Duplicate,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Same, Self::Earlier, Self::Later, Self::NotRun, Self::NotDecided, Self::Duplicate];

    /// In words, with tipoff as who decides.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Same => "as decided",
            Self::Earlier => "tipoff earlier",
            Self::Later => "tipoff later",
            Self::NotRun => "only tipoff",
            Self::NotDecided => "only the others",
            Self::Duplicate => "run twice",
        }
    }
}

/// A dispatch as it was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Decided {
    /// Its id.
    pub id: DispatchId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// An execution that others began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Ran {
    /// As its processor calls it.
    pub run: RunId,
    /// Its first sign of life.
    pub began: Timestamp,
    /// Whether that was its completion, so that it began some time before.
    pub only_its_end_is_known: bool,
}

/// One decision, one run, or both.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    /// Whose.
    pub node: NodeId,
    /// How they compare.
    pub kind: Kind,
    /// What was decided, if anything was.
    pub decided: Option<Decided>,
    /// What others ran, if anybody did.
    pub ran: Option<Ran>,
    /// Seconds between the two.
    pub apart_s: Option<i64>,
    /// Why they differ; nothing where they do not.
    pub reason: String,
}

impl Row {
    /// The first instant that it is about.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        let decided = self.decided.as_ref().map(|decided| decided.at);
        let ran = self.ran.as_ref().map(|ran| ran.began);
        decided.into_iter().chain(ran).min().unwrap_or(Timestamp::MIN)
    }
}

/// A date's decisions beside its runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Compared {
    /// Which date.
    pub partition: PartitionKey,
    /// In the order of time.
    pub rows: Vec<Row>,
    /// Why not all of the date is compared, where it is not.
    pub incomplete: Option<String>,
}

impl Compared {
    /// How many compare so.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.rows.iter().filter(|row| row.kind == kind).count()
    }
}

/// A run, with how its node stood just before it.
#[derive(Debug)]
struct Found {
    ran: Ran,
    last: Timestamp,
    ended: bool,
    before: Before,
}

/// What there was to say of a node just before others began it.
#[derive(Debug)]
enum Before {
    /// It would have been dispatched at that moment.
    About,
    /// It was done or under way.
    Done(String),
    /// Something stood in its way.
    Waits(String),
}

/// Holds a date's decisions beside its runs, on the graph by which it was decided.
#[must_use]
pub fn compared(graph: &Graph, record: &Record) -> Compared {
    let mut runs: BTreeMap<NodeId, Vec<Found>> = BTreeMap::new();
    let mut decided: BTreeMap<NodeId, Vec<&Dispatch>> = BTreeMap::new();
    let mut walk = Walk::new(graph, record.key.clone());
    for entry in &record.entries {
        for (index, event) in entry.events.iter().enumerate() {
            if matches!(entry.recorded.get(index), Some(Recorded::Rejected | Recorded::Future)) {
                continue;
            }
            let Some(sign) = Sign::of(event) else { continue };
            let of_node = runs.entry(sign.node.clone()).or_default();
            if let Some(known) = known(of_node, &sign) {
                known.ran.began = known.ran.began.min(sign.at);
                known.last = known.last.max(sign.at);
                known.ended |= sign.is_end;
                continue;
            }
            let ran = Ran { run: sign.run.clone(), began: sign.at, only_its_end_is_known: sign.is_end };
            let before = before(graph, &walk.partition, entry, &sign);
            of_node.push(Found { ran, last: sign.at, ended: sign.is_end, before });
        }
        for effect in &entry.effects {
            if let Effect::Dispatch(dispatch) = effect {
                decided.entry(dispatch.node.clone()).or_default().push(dispatch);
            }
        }
        walk.take(entry);
    }
    let mut rows = Vec::new();
    for (node, mut found) in runs {
        found.sort_by_key(|found| found.ran.began);
        let asked = decided.remove(&node).unwrap_or_default();
        // What others schedule is no decision of ours, unless we would have asked for it.
        if graph.node(&node).is_some_and(|node| node.task().is_some()) || !asked.is_empty() {
            rows.extend(pair(&walk.partition, &node, found, asked));
        }
    }
    for (node, asked) in decided {
        rows.extend(pair(&walk.partition, &node, Vec::new(), asked));
    }
    rows.sort_by(|one, other| (one.at(), &one.node).cmp(&(other.at(), &other.node)));
    let cut = record.entries.first().is_some_and(|first| first.version > 1) && !record.makes_its_partition(graph);
    let cut = cut.then(|| "its first entries are not kept any more, or another declaration decided it".to_owned());
    Compared { partition: record.key.clone(), rows, incomplete: record.broken.clone().or(cut) }
}

/// A sign of life of a run.
struct Sign {
    node: NodeId,
    run: RunId,
    at: Timestamp,
    is_end: bool,
}

impl Sign {
    fn of(event: &Event) -> Option<Self> {
        match event {
            // Who declines has not run.
            Event::Completed(done) if !matches!(done.outcome, Outcome::Skipped(_)) => {
                Some(Self { node: done.node.clone(), run: done.run.clone(), at: done.published, is_end: true })
            }
            Event::Heartbeat(beat) => {
                Some(Self { node: beat.node.clone(), run: beat.run.clone(), at: beat.published, is_end: false })
            }
            _ => None,
        }
    }
}

/// The run that a sign is of: the one of that name, or for a completion the one that was alive until then and has reported
/// nothing, since many report under another name than the one under which they beat.
fn known<'f>(found: &'f mut [Found], sign: &Sign) -> Option<&'f mut Found> {
    let same = found.iter().position(|found| found.ran.run == sign.run);
    let own = || {
        let is_own =
            |found: &Found| !found.ended && found.ran.began <= sign.at && sign.at <= after(found.last, OWN_WITHIN);
        found.iter().position(is_own).filter(|_| sign.is_end)
    };
    same.or_else(own).and_then(|place| found.get_mut(place))
}

/// How the node of a run stood before it, with all that came in beside it.
fn before(graph: &Graph, partition: &Partition, entry: &JournalEntry, sign: &Sign) -> Before {
    let others: Vec<Event> = entry
        .events
        .iter()
        .filter(|event| Sign::of(event).is_none_or(|other| other.run != sign.run || other.node != sign.node))
        .cloned()
        .collect();
    let now = Now { at: sign.at.max(partition.decided_at), ..entry.now };
    let Ok(decision) = decide(graph, partition, &others, now) else {
        return Before::Waits("what was known then is no longer known".to_owned());
    };
    let is_it = |effect: &Effect| matches!(effect, Effect::Dispatch(dispatch) if dispatch.node == sign.node);
    if decision.effects.iter().any(is_it) {
        return Before::About;
    }
    let view = view::view(graph, &decision.next, now);
    let Some(node) = view.nodes.iter().find(|node| node.node == sign.node) else {
        return Before::Waits("it is not declared any more".to_owned());
    };
    match node.state {
        "running" => {
            let alive = node.runs.first().map_or(String::new(), |(run, _)| format!(" ({})", harmless(run.as_str())));
            return Before::Done(format!("another run of it was under way{alive}"));
        }
        "succeeded" if node.want.is_none() => {
            let since = node.since.map(|since| format!(" since {}", shown(since))).unwrap_or_default();
            return Before::Done(format!("it was done{since}, and its inputs were no newer"));
        }
        "skipped" => {
            let reason = node.skipped_for.as_deref().map(harmless).unwrap_or_default();
            return Before::Waits(format!("it was not required: {reason}"));
        }
        _ => {}
    }
    let date = view.partition.date;
    let mut reasons: Vec<String> = node.blockers.iter().map(|blocker| view::brief(blocker, date)).collect();
    if reasons.is_empty() {
        return Before::Waits(view::why(&view, &sign.node).map(|why| why.verdict).unwrap_or_default());
    }
    let more = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Before::Waits(format!("it waited: {}{more}", reasons.join("; ")))
}

/// Brings the runs of a node and its dispatches together, both in the order of time.
fn pair(last: &Partition, node: &NodeId, runs: Vec<Found>, asked: Vec<&Dispatch>) -> Vec<Row> {
    let mut asked: Vec<(Decided, bool)> = asked
        .into_iter()
        .map(|it| (Decided { id: it.id.clone(), at: it.decided_at, cause: it.manifest.cause }, false))
        .collect();
    let mut rows = Vec::new();
    let mut alone = Vec::new();
    for found in runs {
        let in_time =
            |(decided, taken): &&mut (Decided, bool)| !*taken && decided.at <= after(found.ran.began, SAME_WITHIN);
        let Some((decided, taken)) = asked.iter_mut().find(in_time) else {
            alone.push(found);
            continue;
        };
        *taken = true;
        let apart = found.ran.began.duration_since(decided.at);
        let kind = if apart > SAME_WITHIN { Kind::Earlier } else { Kind::Same };
        let reason =
            if kind == Kind::Same { String::new() } else { format!("decided because {}", cause(decided.cause)) };
        let (decided, ran) = (Some(decided.clone()), Some(found.ran));
        rows.push(Row { node: node.clone(), kind, decided, ran, apart_s: Some(apart.as_secs()), reason });
    }
    for found in alone {
        let began = found.ran.began;
        let row = |kind, reason| Row { node: node.clone(), kind, decided: None, ran: None, apart_s: None, reason };
        let mut row = match found.before {
            Before::About => row(Kind::Same, String::new()),
            Before::Done(why) => row(Kind::Duplicate, why),
            Before::Waits(why) => row(Kind::NotDecided, why),
        };
        let next = asked.iter_mut().find(|(decided, taken)| !*taken && decided.at > began);
        if let (Kind::NotDecided, Some((decided, taken))) = (row.kind, next) {
            *taken = true;
            row.kind = Kind::Later;
            row.apart_s = Some(began.duration_since(decided.at).as_secs());
            row.reason = format!("{}; decided then because {}", row.reason, cause(decided.cause));
            row.decided = Some(decided.clone());
        }
        row.ran = Some(found.ran);
        rows.push(row);
    }
    for (decided, _) in asked.into_iter().filter(|(_, taken)| !*taken) {
        let failure = last.nodes.get(node).and_then(|facts| facts.failure.as_ref());
        let words = failure.map(|failure| format!(" ({})", harmless(&failure.text))).unwrap_or_default();
        let reason = match decided.cause {
            Cause::Failed => format!("its run had failed{words}, and nobody tried again"),
            Cause::HeartbeatDead => format!("its run had fallen silent{words}, and nobody tried again"),
            other => format!("nobody ran it: decided because {}", self::cause(other)),
        };
        rows.push(Row {
            node: node.clone(),
            kind: Kind::NotRun,
            decided: Some(decided),
            ran: None,
            apart_s: None,
            reason,
        });
    }
    rows
}

/// Why something was decided, as the end of a sentence.
fn cause(cause: Cause) -> Arc<str> {
    let words = match cause {
        Cause::DependenciesMet => "all that it needs was there",
        Cause::InputsNewer => "its inputs were newer than what it had been made of",
        Cause::Failed => "its last run had failed",
        Cause::HeartbeatDead => "its last run had fallen silent",
        Cause::NotStarted => "nobody had begun what was asked for",
        Cause::CoverageShort => "less was there than its dependents need",
        Cause::Overdue => "it was due, and not there",
        Cause::Stalled => "its run did not come on",
        Cause::Requested => "an operator asked for it",
        Cause::Backfill => "it was missing from a date that is over",
    };
    Arc::from(words)
}
