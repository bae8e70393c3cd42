//! What operators have stopped of a whole pipeline: nothing of it leaves, whatever its dates decide, until that is over.
//!
//! A hold on one date or one node is its date's own state. This one is beside the dates: it reaches those that are not
//! open yet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::PipelineId;
use super::time::shown;

/// Past stops that are kept, for whoever asks later who it was.
const PAST_MAX: usize = 100;

/// One stop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stop {
    /// Which pipeline.
    pub pipeline: PipelineId,
    /// Who wants it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when; none where somebody has to end it. Moved forward to when somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who ended it before its time, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<(String, String)>,
}

impl Stop {
    /// Whether it holds then.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = self.until.map_or("`tipoff resume all`".to_owned(), shown);
        write!(to, "{} is held by {} until {until}: {}", self.pipeline, self.actor, self.reason)
    }
}

/// The stops that hold, and those before them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stops {
    /// One for each pipeline at most.
    #[serde(default)]
    standing: BTreeMap<PipelineId, Stop>,
    /// What was, oldest first.
    #[serde(default)]
    past: Vec<Stop>,
}

impl Stops {
    /// What holds a pipeline then, if anything does.
    #[must_use]
    pub fn of(&self, pipeline: &PipelineId, now: Timestamp) -> Option<&Stop> {
        self.standing.get(pipeline).filter(|stop| stop.holds(now))
    }

    /// Stops that are over or have been replaced, the oldest of the last hundred first.
    #[must_use]
    pub fn past(&self) -> &[Stop] {
        &self.past
    }

    /// Holds a pipeline; what held it before is replaced.
    pub fn hold(&mut self, stop: Stop) {
        self.end(&stop.pipeline.clone(), (&stop.actor, &stop.reason), stop.from);
        self.standing.insert(stop.pipeline.clone(), stop);
    }

    /// Ends what holds a pipeline. Whether anything did.
    pub fn end(&mut self, pipeline: &PipelineId, (actor, reason): (&str, &str), now: Timestamp) -> bool {
        let Some(mut stop) = self.standing.remove(pipeline) else { return false };
        let held = stop.holds(now);
        if held {
            stop.until = Some(now);
            stop.ended_by = Some((actor.to_owned(), reason.to_owned()));
        }
        self.past.push(stop);
        let surplus = self.past.len().saturating_sub(PAST_MAX);
        self.past.drain(..surplus);
        held
    }
}
