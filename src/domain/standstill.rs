//! When is it quieter than the calendar explains, and what is it that has gone quiet?
//!
//! Three things are watched, each by itself, because each has failed alone: decisions, what comes in about work that is
//! done, and heartbeats. Nothing is judged without the day's schedule, nor beyond what has been heard.

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};

use super::calendar::Schedule;
use super::effect::Severity;
use super::event::GameStatus;
use super::graph::{DayTime, Graph, Heartbeats};
use super::id::{AlertKey, NodeId, PipelineId};
use super::partition::{End, Partition};
use super::time::{Now, after, shown};

/// The longest time without a decision on a day with games. The rule that the pipeline's people made after 45 hours in which
/// their controller decided nothing.
pub const DECISION_GAP: SignedDuration = SignedDuration::from_hours(2);
/// The longest time without a completion on a day with games: odds alone come every two hours, and take some minutes.
pub const COMPLETION_GAP: SignedDuration = SignedDuration::from_hours(3);
/// How far back heartbeats are looked for. Every pass over a date has processors that beat, and on a day with games no
/// two passes are further apart.
pub const HEARTBEAT_GAP: SignedDuration = SignedDuration::from_hours(6);
/// Completions of processors that should have beaten, before the want of heartbeats is no accident of one of them.
pub const COMPLETIONS_MIN: usize = 3;
/// When a day's work begins, in the pipeline's zone: the first odds of the day are fetched then. What is quiet before that
/// is asleep.
pub const WORK_BEGINS: DayTime = DayTime { days: 0, time: Time::constant(5, 0, 0, 0) };

/// What can go quiet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Plane {
    /// What we decide.
    Decisions,
    /// What is said of work that is done.
    Messages,
    /// Signs of life of work under way.
    Heartbeats,
}

impl Plane {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Decisions, Self::Messages, Self::Heartbeats];

    /// The alert about it.
    pub fn alert(self, pipeline: &PipelineId) -> AlertKey {
        let name = match self {
            Self::Decisions => "decisions",
            Self::Messages => "messages",
            Self::Heartbeats => "heartbeats",
        };
        AlertKey::new(format!("silent:{name}:{pipeline}"))
    }

    /// How bad it is. Without heartbeats work goes on, and only its dead are found later.
    pub fn severity(self) -> Severity {
        match self {
            Self::Decisions | Self::Messages => Severity::Critical,
            Self::Heartbeats => Severity::Warning,
        }
    }
}

/// What is known of a plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is as lively as it has to be, in words.
    Lively(String),
    /// It is too quiet, in words.
    Silent(String),
    /// That cannot be told at present; what was told stands.
    Open,
}

/// When this process last received something, whatever came of it: a message that is parked is no silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Since when it has been listening. Where nothing was ever there, silence begins then.
    pub since: Timestamp,
    /// A message on a topic for completions.
    pub completion: Option<Timestamp>,
    /// A heartbeat, over any road.
    pub heartbeat: Option<Timestamp>,
}

/// What the live dates, and this process, last saw.
struct Signs {
    games: usize,
    begins: Timestamp,
    since: Timestamp,
    decision: Option<Timestamp>,
    completion: Option<(Timestamp, Option<NodeId>)>,
    heartbeat: Option<Timestamp>,
    /// Ends of runs whose processors beat, each with the silence after which such a run is dead.
    ends: Vec<(Timestamp, SignedDuration)>,
}

/// How `plane` stands, by the dates of `live` and what this process has heard.
pub fn judge(plane: Plane, graph: &Graph, live: &[Partition], heard: Heard, now: Now) -> Verdict {
    let today = graph.date_at(now.at);
    let schedule = live.iter().find(|partition| partition.key.date == today).and_then(|day| day.schedule.as_ref());
    match schedule.map(played) {
        None => Verdict::Open,
        Some(0) => Verdict::Lively(format!("{today} has no games, so silence means nothing")),
        Some(games) => {
            let begins = WORK_BEGINS.on(today, &graph.zone);
            Signs::of(graph, live, heard, games, begins).verdict(plane, now)
        }
    }
}

impl Signs {
    fn of(graph: &Graph, live: &[Partition], heard: Heard, games: usize, begins: Timestamp) -> Self {
        let mut signs = Self {
            games,
            begins,
            since: heard.since,
            decision: live.iter().map(|partition| partition.decided_at).filter(|at| *at > Timestamp::MIN).max(),
            completion: heard.completion.map(|at| (at, None)),
            heartbeat: heard.heartbeat,
            ends: Vec::new(),
        };
        for (id, node) in live.iter().flat_map(|partition| &partition.nodes) {
            let liveness = graph.node(id).map(|node| node.liveness);
            let beats = liveness.filter(|liveness| liveness.heartbeats == Heartbeats::Sent);
            // Whoever was fenced said nothing.
            for ended in node.ended.values().filter(|ended| ended.how != End::Fenced) {
                signs.completion = signs.completion.max(Some((ended.at, Some(id.clone()))));
                signs.ends.extend(beats.map(|liveness| (ended.at, liveness.dead_after)));
            }
            signs.heartbeat = signs.heartbeat.max(node.runs.values().map(|run| run.last).max());
        }
        signs
    }

    fn verdict(&self, plane: Plane, now: Now) -> Verdict {
        let games = self.games;
        let completion = self.completion.as_ref().map(|(at, _)| *at);
        match plane {
            Plane::Decisions => self.gap(now, DECISION_GAP, self.decision, "decisions", || {
                let completions = match completion {
                    Some(at) if now.at < after(at, DECISION_GAP) => {
                        format!("though completions come in, the last at {}", shown(at))
                    }
                    at => format!("and no completion has come in since {}", self.words(at)),
                };
                let decision = self.words(self.decision);
                format!("no decision since {decision} on a day with games ({games}), {completions}")
            }),
            Plane::Messages => self.gap(now, COMPLETION_GAP, completion, "completions", || {
                let node = self.completion.as_ref().and_then(|(_, node)| node.as_ref());
                let of = node.map(|node| format!(", of {node}")).unwrap_or_default();
                let completion = self.words(completion);
                format!("no completion on any topic since {completion}{of}, on a day with games ({games})")
            }),
            Plane::Heartbeats => self.beats(now),
        }
    }

    fn beats(&self, now: Now) -> Verdict {
        let beat = self.heartbeat;
        if beat.is_some_and(|beat| now.at < after(beat, HEARTBEAT_GAP)) {
            return Verdict::Lively("heartbeats come in".to_owned());
        }
        let from = after(now.heard_until, -HEARTBEAT_GAP);
        if beat.is_some_and(|beat| beat > from) {
            return Verdict::Open;
        }
        // A run that ended soon after the last heartbeat may be the one that sent it.
        let without = |(end, dead_after): &&(Timestamp, SignedDuration)| {
            *end > from && *end <= now.heard_until && beat.is_none_or(|beat| *end > after(beat, *dead_after))
        };
        let count = self.ends.iter().filter(without).count();
        if count < COMPLETIONS_MIN {
            return Verdict::Open;
        }
        let since = match beat {
            Some(beat) => format!("no heartbeat since {}", shown(beat)),
            None => "no heartbeat on any live date".to_owned(),
        };
        Verdict::Silent(format!("{since}, over any road; {count} completions meanwhile of processors that should beat"))
    }

    /// Too quiet if nothing has come for `longest` of the day's work; a night's sleep does not count.
    fn gap(
        &self,
        now: Now,
        longest: SignedDuration,
        last: Option<Timestamp>,
        what: &str,
        text: impl FnOnce() -> String,
    ) -> Verdict {
        if last.is_some_and(|last| now.at < after(last, longest)) {
            return Verdict::Lively(format!("there are {what} again"));
        }
        let from = last.unwrap_or(self.since).max(self.begins);
        if now.silent_until(after(from, longest)) { Verdict::Silent(text()) } else { Verdict::Open }
    }

    fn words(&self, at: Option<Timestamp>) -> String {
        at.map_or_else(|| format!("the service began to listen at {}", shown(self.since)), shown)
    }
}

/// Games that are played on the date.
fn played(schedule: &Schedule) -> usize {
    schedule.games.values().filter(|game| game.status != GameStatus::Postponed).count()
}
