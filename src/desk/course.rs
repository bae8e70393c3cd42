//! A date over time, read off its journal: from when until when each node stood how, and what was sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::words;
use crate::domain::effect::{Cause, Effect};
use crate::domain::id::{DispatchId, NodeId, PartitionKey};
use crate::domain::view::NodeView;
use crate::port::{JournalEntry, Store, StoreError};

/// Journal entries read at once.
const PAGE: usize = 500;
/// Entries of one date that are followed; the busiest recorded day has some 5,000.
const ENTRIES_MAX: usize = 50_000;
/// Spans of one node that are kept; a node that comes and goes more often than that is a flicker.
const SPANS_MAX: usize = 200;
/// Lines of what happened that are kept of a date, the latest.
const LINES_MAX: usize = 2_000;
/// Dates whose course is kept in memory.
const COURSES_MAX: usize = 16;

/// How each node of a date stood, from when until when.
#[derive(Clone, Debug, Default)]
pub struct Course {
    seq: u64,
    entries: usize,
    /// By node, oldest first.
    pub spans: BTreeMap<NodeId, Vec<Span>>,
    /// Dispatches, oldest first.
    pub sent: Vec<Sent>,
    /// What happened, in words, oldest first; repetitions are left out. At most [`LINES_MAX`].
    pub lines: VecDeque<(Timestamp, String)>,
    /// The first instant of the journal.
    pub begun: Option<Timestamp>,
    /// Whether there is more than is followed.
    pub is_cut: bool,
}

/// A node in one state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// Which.
    pub state: String,
    /// From when.
    pub from: Timestamp,
    /// Until when; nothing where it still stands so.
    pub until: Option<Timestamp>,
}

/// A dispatch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Its id.
    pub id: DispatchId,
    /// Of which node.
    pub node: NodeId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Whether less than everything was there.
    pub degraded: bool,
}

impl Course {
    /// Reads on in the journal of `key`; nothing is copied where nothing is new.
    async fn read_on(mut this: Arc<Self>, store: &dyn Store, key: &PartitionKey) -> Result<Arc<Self>, StoreError> {
        while this.entries < ENTRIES_MAX {
            let entries = match store.journal(Some(key), this.seq, PAGE).await {
                Ok(entries) => entries,
                // An entry that cannot be trusted is left out.
                Err(StoreError::BadEntry { seq, .. }) => {
                    Arc::make_mut(&mut this).seq = seq;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(last) = entries.last() else { return Ok(this) };
            let course = Arc::make_mut(&mut this);
            course.seq = last.seq;
            course.entries += entries.len();
            entries.iter().for_each(|entry| course.take_in(entry));
        }
        Arc::make_mut(&mut this).is_cut = true;
        Ok(this)
    }

    fn take_in(&mut self, entry: &JournalEntry) {
        let at = entry.now.at;
        self.begun.get_or_insert(at);
        // A probe that says the same again, and a message that was known, tell nobody anything.
        let is_news = |line: &String| !line.ends_with("→ duplicate");
        self.lines.extend(words::lines(entry, None).into_iter().filter(is_news).map(|line| (at, line)));
        let surplus = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..surplus);
        for (node, from, to) in &entry.moved {
            // A new attempt in the same state is told by its dispatch.
            if from == to {
                continue;
            }
            let spans = self.spans.entry(node.clone()).or_default();
            if let Some(open) = spans.last_mut() {
                open.until = Some(at);
            }
            if spans.len() < SPANS_MAX {
                spans.push(Span { state: to.clone(), from: at, until: None });
            }
        }
        self.sent.extend(entry.effects.iter().filter_map(|effect| match effect {
            Effect::Dispatch(sent) => Some(Sent {
                id: sent.id.clone(),
                node: sent.node.clone(),
                at,
                cause: sent.manifest.cause,
                degraded: sent.manifest.degraded,
            }),
            _ => None,
        }));
    }
}

/// Courses of dates that have been looked at lately, so that each journal entry is read once.
#[derive(Debug, Default)]
pub struct Courses(Mutex<BTreeMap<PartitionKey, Arc<Course>>>);

impl Courses {
    /// The course of `key` as the journal has it now.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn of(&self, store: &dyn Store, key: &PartitionKey) -> Result<Arc<Course>, StoreError> {
        let known = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let course = known().get(key).cloned().unwrap_or_default();
        let course = Course::read_on(course, store, key).await?;
        let mut kept = known();
        if kept.len() >= COURSES_MAX && !kept.contains_key(key) {
            // Whichever is the oldest date is the least likely to be looked at again.
            kept.pop_first();
        }
        // Another reader may have got further meanwhile.
        if kept.get(key).is_none_or(|other| other.seq < course.seq) {
            kept.insert(key.clone(), course.clone());
        }
        Ok(course)
    }
}

/// The revision of the graph by which `node` was last dispatched, or where it never was, by which the date was last decided
/// on.
///
/// # Errors
/// If the store cannot be read.
pub async fn decided_by(store: &dyn Store, key: &PartitionKey, node: &NodeView) -> Result<Option<u64>, StoreError> {
    let (mut of_date, mut of_dispatch) = (None, None);
    let wanted = node.last_dispatch.as_ref().map(|last| &last.id);
    let mut after = 0;
    loop {
        let entries = match store.journal(Some(key), after, PAGE).await {
            Ok(entries) => entries,
            // What cannot be read is told by the timeline.
            Err(StoreError::BadEntry { seq, .. }) => {
                after = seq;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(last) = entries.last() else { break };
        after = last.seq;
        of_date = Some(last.revision);
        let dispatched = |entry: &&JournalEntry| {
            entry.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(done) if Some(&done.id) == wanted))
        };
        of_dispatch = entries.iter().rfind(dispatched).map(|entry| entry.revision).or(of_dispatch);
    }
    // A decision older than the journal says nothing; what the date was last decided by would be another answer.
    Ok(if wanted.is_some() { of_dispatch } else { of_date })
}
