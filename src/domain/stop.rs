//! What operators have stopped of a whole pipeline: nothing of it leaves, whatever its dates decide, until that is over.
//!
//! A hold on one date or one node is its date's own state. This one is beside the dates: it reaches those that are not
//! open yet.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::id::PipelineId;
use super::time::shown;

/// Past stops that are kept, for whoever asks later who it was.
const PAST_MAX: usize = 100;

/// How long after the last that happened on a date a hold of the whole pipeline still belongs to it.
pub const BELONGS_FOR: SignedDuration = SignedDuration::from_hours(24);

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

    /// What began and what ended to hold a pipeline between two instants, both included, in words, the earliest first.
    #[must_use]
    pub fn turns(&self, pipeline: &PipelineId, from: Timestamp, until: Timestamp) -> Vec<(Timestamp, String)> {
        let mut turns = Vec::new();
        for stop in self.past.iter().chain(self.standing.values()).filter(|stop| stop.pipeline == *pipeline) {
            // Where somebody ended it before its time, that is what is known of its end.
            let until = stop.until.filter(|_| stop.ended_by.is_none());
            let until = until.map(|until| format!(" until {}", shown(until))).unwrap_or_default();
            turns.push((stop.from, format!("held      the whole pipeline by {}{until}: {}", stop.actor, stop.reason)));
            let replaced = |at| {
                self.past
                    .iter()
                    .chain(self.standing.values())
                    .any(|next| next.pipeline == *pipeline && next.from == at && next.from > stop.from)
            };
            let end = stop.until.map(|at| match &stop.ended_by {
                Some((actor, _)) if replaced(at) => (at, format!("replaced  that hold by another one of {actor}")),
                Some((actor, reason)) => (at, format!("resumed   the whole pipeline by {actor}: {reason}")),
                None => (at, format!("resumed   the whole pipeline: the hold of {} is over", stop.actor)),
            });
            turns.extend(end);
        }
        turns.retain(|(at, _)| (from..=until).contains(at));
        turns.sort_by_key(|(at, _)| *at);
        turns
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: &str) -> Timestamp {
        format!("2026-01-23T{hour}:00Z").parse().unwrap()
    }

    fn stop(from: &str, until: Option<&str>) -> Stop {
        let (actor, reason) = ("ann".to_owned(), "services are deployed".to_owned());
        Stop { pipeline: "nba".into(), actor, reason, from: at(from), until: until.map(at), ended_by: None }
    }

    #[test]
    fn what_held_a_pipeline_is_told_in_order_with_who_ended_it() {
        let mut stops = Stops::default();
        stops.hold(stop("15:00", Some("16:00")));
        // It ends by itself, and nobody says so; the next one is ended by hand.
        stops.hold(stop("17:00", None));
        assert!(stops.end(&"nba".into(), ("bob", "done"), at("17:20")));
        let told = |stops: &Stops, from, until| -> Vec<String> {
            stops.turns(&"nba".into(), at(from), at(until)).into_iter().map(|(_, line)| line).collect()
        };
        let all = told(&stops, "15:00", "18:00");
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all[0].starts_with("held ") && all[0].contains("by ann until 2026-01-23 16:00:00Z"), "{all:?}");
        assert_eq!(all[1], "resumed   the whole pipeline: the hold of ann is over");
        assert_eq!(all[3], "resumed   the whole pipeline by bob: done");
        assert_eq!(told(&stops, "15:30", "16:30"), &all[1..2]);
        assert_eq!(stops.turns(&"mlb".into(), at("15:00"), at("18:00")), []);
        // A second hold while one stands replaces it: nobody resumed.
        stops.hold(stop("19:00", Some("20:00")));
        stops.hold(stop("19:10", None));
        let replaced = told(&stops, "19:00", "19:30");
        assert!(replaced.contains(&"replaced  that hold by another one of ann".to_owned()), "{replaced:?}");
        assert!(!replaced.iter().any(|line| line.starts_with("resumed")), "{replaced:?}");
    }
}
