//! The scenario format: a day as a file. `docs/scenarios.md` documents it for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::wanted::{Expectation, times};
use crate::diagnostic::{self, Problem, Problems};
use crate::domain::event::{Command, Event, GameStatus};
use crate::domain::id::{CheckId, NodeId, PipelineId, UnitId};
use crate::domain::notify::Muted;
use crate::domain::time::after;

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line.
    pub title: String,
    /// What it tells.
    #[serde(default)]
    pub story: String,
    /// When the clock begins.
    pub start: Timestamp,
    /// How long to go on after the last step; defaults to an hour.
    #[serde(default)]
    pub run_on: Option<String>,
    /// A merge patch on pipeline.yaml.
    #[serde(default)]
    pub pipeline: Option<Value>,
    /// What earlier days showed: they are in the journal at the start.
    #[serde(default)]
    pub history: Vec<Past>,
    /// How often what is missing of past dates is seen to; never, where absent.
    #[serde(default)]
    pub backfill: Option<String>,
    /// What happens.
    #[serde(default)]
    pub timeline: Vec<Spanned<Step>>,
    /// Who answers dispatches.
    #[serde(default)]
    pub answers: BTreeMap<NodeId, Answer>,
    /// What follows single dispatches, as it was recorded.
    #[serde(default)]
    pub follows: Vec<Spanned<Follow>>,
    /// What must, and must not, come of it.
    #[serde(default)]
    pub expect: Vec<Spanned<Expectation>>,
    /// Every dispatch must be expected.
    #[serde(default)]
    pub only: bool,
    /// The phases whose dispatches are sent; all where absent. None is the shadow of a pipeline that others run.
    #[serde(default)]
    pub sends: Option<BTreeSet<Arc<str>>>,
}

/// Earlier game days that were alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Whose; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which dates.
    pub dates: Vec<Date>,
    /// What was heard of their nodes.
    pub nodes: BTreeMap<NodeId, PastNode>,
}

/// What was heard of a node on an earlier day. Each time is a span after the date's midnight, by the clock on the wall.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastNode {
    /// Its first sign of life.
    #[serde(default)]
    pub begun: Option<String>,
    /// What the warehouse had of it before: (there, due).
    #[serde(default)]
    pub covered: BTreeMap<String, (u32, u32)>,
    /// When it completed.
    pub ready: String,
}

/// One thing that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When: `+9m05s` from the start, or an instant.
    pub at: String,
    /// Names the message for `settled`.
    #[serde(default)]
    pub id: Option<String>,
    /// What it means, for the reader.
    #[serde(default)]
    pub note: Option<String>,
    /// A message arrives.
    #[serde(default)]
    pub publish: Option<Publish>,
    /// Heartbeats of one run.
    #[serde(default)]
    pub heartbeats: Option<Heartbeats>,
    /// The warehouse would answer this from now on.
    #[serde(default)]
    pub fact: Option<Fact>,
    /// The warehouse cannot answer from now on, with the reason; `null` or empty ends it.
    #[serde(default)]
    pub warehouse_away: Option<String>,
    /// The day's games become known.
    #[serde(default)]
    pub schedule: Option<Games>,
    /// An operator asks.
    #[serde(default)]
    pub operator: Option<Operator>,
    /// A date is told something that no message says.
    #[serde(default)]
    pub event: Option<Telling>,
    /// An operator mutes an alert, or a topic.
    #[serde(default)]
    pub mute: Option<MuteStep>,
    /// An operator ends that.
    #[serde(default)]
    pub unmute: Option<Muted>,
    /// An operator holds a whole pipeline.
    #[serde(default)]
    pub hold_all: Option<StopStep>,
    /// An operator ends that; says why.
    #[serde(default)]
    pub resume_all: Option<StopStep>,
    /// An operator replays dead letters, or discards them.
    #[serde(default)]
    pub letters: Option<LettersStep>,
    /// An operator plans backfill, or decides on a plan.
    #[serde(default)]
    pub backfill: Option<Backfilling>,
    /// The process is killed and started again.
    #[serde(default)]
    pub restart: Option<Restart>,
    /// Something fails for a while.
    #[serde(default, rename = "break")]
    pub breaks: Option<Break>,
    /// The same again for the days after it, with every date in it a day later each time.
    #[serde(default)]
    pub daily: Option<Daily>,
}

impl Step {
    /// How many things it does.
    fn things(&self) -> usize {
        let given = [
            self.publish.is_some(),
            self.heartbeats.is_some(),
            self.fact.is_some(),
            self.warehouse_away.is_some(),
            self.schedule.is_some(),
            self.operator.is_some(),
            self.event.is_some(),
            self.mute.is_some(),
            self.unmute.is_some(),
            self.hold_all.is_some(),
            self.resume_all.is_some(),
            self.letters.is_some(),
            self.backfill.is_some(),
            self.restart.is_some(),
            self.breaks.is_some(),
        ];
        given.iter().filter(|given| **given).count()
    }

    /// The step so many days later; `at` is when it is.
    fn later(&self, days: i32, at: Timestamp) -> Self {
        let mut step = self.clone();
        step.at = at.to_string();
        step.daily = None;
        let later = |date: Date| date.saturating_add(days.days());
        if let Some(body) = step.publish.as_mut().and_then(|publish| publish.body.as_mut()) {
            later_in(body, days);
        }
        if let Some(beats) = &mut step.heartbeats {
            beats.date = beats.date.parse().map_or_else(|_| beats.date.clone(), |date| later(date).to_string());
        }
        if let Some(fact) = &mut step.fact {
            fact.date = later(fact.date);
        }
        if let Some(games) = &mut step.schedule {
            let (was, date) = (games.date.strftime("%Y%m%d").to_string(), later(games.date));
            games.date = date;
            let moved = std::mem::take(&mut games.games).into_iter().map(|(id, mut game)| {
                let id = id.as_str().replace(&was, &date.strftime("%Y%m%d").to_string());
                game.tip = game.tip.map(|tip| after(tip, SignedDuration::from_hours(24 * i64::from(days))));
                (UnitId::new(id), game)
            });
            games.games = moved.collect();
        }
        step
    }
}

/// Every text of a body that is a date, so many days later.
fn later_in(body: &mut Value, days: i32) {
    match body {
        Value::String(text) if text.len() == 10 => {
            if let Ok(date) = text.parse::<Date>() {
                *text = date.saturating_add(days.days()).to_string();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| later_in(value, days)),
        Value::Object(members) => members.values_mut().for_each(|value| later_in(value, days)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// A topic, or one of the short names `phase1` … `phase6`, `grade`, `hb`.
    pub topic: String,
    /// A JSON body.
    #[serde(default)]
    pub body: Option<Value>,
    /// A body as it is.
    #[serde(default)]
    pub raw: Option<String>,
    /// A body of these bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// Attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// When the broker took it; defaults to when it arrives.
    #[serde(default)]
    pub published: Option<String>,
    /// The same again so many times in all, that far apart, each a message of its own; `{n}` in the body is its number.
    #[serde(default)]
    pub repeat: Option<Repeat>,
    /// The same message delivered again after these spans.
    #[serde(default)]
    pub redeliver: Vec<String>,
}

/// Repetition.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often in all.
    pub times: u32,
    /// How far apart.
    pub every: String,
}

/// Heartbeats of one run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeats {
    /// The processor's name.
    pub processor: String,
    /// The run.
    pub run: String,
    /// The date.
    pub date: String,
    /// How many.
    pub times: u32,
    /// How far apart; defaults to 60 s.
    #[serde(default)]
    pub every: Option<String>,
    /// `running`, `completed` or `failed`; defaults to `running`.
    #[serde(default)]
    pub status: Option<String>,
    /// Units done.
    #[serde(default)]
    pub progress: u64,
    /// Units to do.
    #[serde(default)]
    pub total: u64,
}

/// What the warehouse would answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// Whose; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which node's output.
    pub node: NodeId,
    /// Not its output, but what one of its checks finds.
    #[serde(default)]
    pub check: Option<CheckId>,
    /// For which date.
    pub date: Date,
    /// Units there.
    pub observed: u32,
    /// Units due.
    pub expected: u32,
    /// Per unit: (there, due).
    #[serde(default)]
    pub units: BTreeMap<UnitId, (u32, u32)>,
}

/// The games of a date.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Games {
    /// Whose; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which date.
    pub date: Date,
    /// By id.
    pub games: BTreeMap<UnitId, GameLine>,
}

/// One game.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameLine {
    /// Its tip-off.
    #[serde(default)]
    pub tip: Option<Timestamp>,
    /// Its status.
    pub status: GameStatus,
    /// The schedule's own name for it.
    #[serde(default)]
    pub id: Option<UnitId>,
}

/// An operator's request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Whose date; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which date.
    pub date: Date,
    /// What.
    pub ask: Command,
    /// Who; defaults to `operator`.
    #[serde(default)]
    pub actor: Option<String>,
    /// Why.
    pub reason: String,
}

/// A mute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuteStep {
    /// What: `key: KEY` or `topic: TOPIC`.
    pub what: Muted,
    /// For how long.
    pub r#for: String,
    /// Who; defaults to `operator`.
    #[serde(default)]
    pub actor: Option<String>,
    /// Why.
    pub reason: String,
}

/// What an operator does with dead letters that wait.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LettersStep {
    /// Those of this topic; all that wait where absent.
    #[serde(default)]
    pub topic: Option<String>,
    /// What they are to say instead.
    #[serde(default)]
    pub with: Option<Value>,
    /// Also what is not wanted any more, or of which that cannot be told.
    #[serde(default)]
    pub force: bool,
    /// They are discarded rather than replayed.
    #[serde(default)]
    pub discard: bool,
    /// Who; defaults to `operator`.
    #[serde(default)]
    pub actor: Option<String>,
    /// Why.
    pub reason: String,
}

/// A hold on a whole pipeline, or its end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopStep {
    /// Which pipeline; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// For how long; until it is ended where absent.
    #[serde(default)]
    pub r#for: Option<String>,
    /// Who; defaults to `operator`.
    #[serde(default)]
    pub actor: Option<String>,
    /// Why.
    pub reason: String,
}

/// The same for several days.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daily {
    /// How many in all.
    pub times: u32,
    /// How far apart these steps are; a day where absent.
    #[serde(default)]
    pub apart: Option<String>,
}

/// What an operator does about backfill: one of `plan`, `run` and `cancel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backfilling {
    /// Whose dates; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Plans what is missing of these dates.
    #[serde(default)]
    pub plan: Option<Planning>,
    /// Starts the plan of that name; `latest` is the one that was made last.
    #[serde(default)]
    pub run: Option<String>,
    /// Ends it.
    #[serde(default)]
    pub cancel: Option<String>,
    /// Why.
    pub reason: String,
}

/// What is planned.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planning {
    /// The first date.
    pub from: Date,
    /// The last.
    pub until: Date,
    /// Only these outputs; all, where none is named.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
    /// What is made of them as well.
    #[serde(default)]
    pub cascade: bool,
}

/// A kill and a new start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// So many times in all, that far apart.
    #[serde(default)]
    pub repeat: Option<Repeat>,
    /// How long it is down; defaults to nothing.
    #[serde(default)]
    pub down_for: Option<String>,
}

/// A failure for a while.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Break {
    /// `store`, `topic:NAME`, `http:SERVICE/PATH` or `channel:people`.
    pub target: String,
    /// For how long.
    pub r#for: String,
    /// After letting so many messages through.
    #[serde(default)]
    pub after: u32,
    /// Whether it is gone, as a service that answers 404, rather than at fault for a while.
    #[serde(default)]
    pub gone: bool,
    /// What a store still does not do while it answers; everything, where absent.
    #[serde(default)]
    pub denies: Option<Denied>,
}

/// What a store can deny.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Denied {
    /// It is read, and takes nothing, as where a role is missing.
    Writes,
}

/// How the world answers the dispatches of a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The name it reports under.
    pub processor: String,
    /// The topic it reports to.
    pub topic: String,
    /// The first heartbeat comes this long after the dispatch; defaults to 20 s.
    #[serde(default)]
    pub starts: Option<String>,
    /// The completion comes this long after the dispatch. Never, where it is absent: it hangs after `beats` beats.
    #[serde(default)]
    pub completes: Option<String>,
    /// Heartbeats before it hangs; with 0 nothing is ever heard of it. Defaults to 1.
    #[serde(default = "one")]
    pub beats: u32,
    /// It completes as failed, with this reason.
    #[serde(default)]
    pub fails: Option<String>,
    /// Rows.
    #[serde(default)]
    pub records: u64,
    /// Only the first so many dispatches are answered so; then, if given, as `then`.
    #[serde(default)]
    pub times: Option<u32>,
    /// How later dispatches are answered.
    #[serde(default)]
    pub then: Option<Box<Answer>>,
}

/// What a date is told, as the journal has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telling {
    /// Whose date; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which date.
    pub date: Date,
    /// What.
    pub is: Event,
}

/// What follows one dispatch of a node for a date, on the clock of that dispatch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// Whose date; defaults to `nba`.
    #[serde(default = "nba")]
    pub pipeline: PipelineId,
    /// Which date.
    pub date: Date,
    /// Which node.
    pub node: NodeId,
    /// After which of its dispatches, counted from 1. One that is not described is answered as the last of those that anything
    /// follows, under other ids.
    pub nth: u32,
    /// What happens; `+20s` counts from the dispatch, and a `dispatch_id` of `{dispatch}` is its own. Nothing where absent.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Whose day it is where a file does not say.
pub(super) fn nba() -> PipelineId {
    PipelineId::from("nba")
}

const fn one() -> u32 {
    1
}

impl Scenario {
    /// Reads a file, and checks what a type cannot: every time is one, every step does one thing.
    ///
    /// # Errors
    /// Every problem with its file, line and key.
    pub fn read(file: &str, text: &str) -> Result<Self, Problems> {
        let mut scenario: Self = diagnostic::parse(file, text)?;
        let mut problems = Vec::new();
        let mut problem = |line: u64, key: String, message: String| {
            problems.push(Problem { file: file.to_owned(), line, key, message });
        };
        for (index, step) in scenario.timeline.iter().enumerate() {
            let line = step.referenced.line();
            let step = &step.value;
            if step.event.is_some() && step.daily.is_some() {
                problem(line, format!("timeline[{index}].daily"), "an event is told once".to_owned());
            }
            if step.things() != 1 {
                problem(line, format!("timeline[{index}]"), "a step does exactly one thing".to_owned());
            }
            if let Err(message) = scenario.instant(&step.at) {
                problem(line, format!("timeline[{index}].at"), message);
            }
        }
        for (index, follow) in scenario.follows.iter().enumerate() {
            for step in &follow.value.steps {
                let line = follow.referenced.line();
                if step.things() != 1 || step.daily.is_some() {
                    problem(line, format!("follows[{index}]"), "a step does exactly one thing, once".to_owned());
                }
                let times = [Some(&step.at), step.publish.as_ref().and_then(|publish| publish.published.as_ref())];
                for text in times.into_iter().flatten().filter_map(|text| instant(text, scenario.start).err()) {
                    problem(line, format!("follows[{index}].at"), text);
                }
            }
        }
        for (index, past) in scenario.history.iter().enumerate() {
            for (id, node) in &past.nodes {
                for text in node.begun.iter().chain([&node.ready]).chain(node.covered.keys()) {
                    if let Err(message) = span(text) {
                        problem(1, format!("history[{index}].nodes.{id}"), message);
                    }
                }
            }
        }
        for (index, expectation) in scenario.expect.iter().enumerate() {
            let line = expectation.referenced.line();
            for time in times(&expectation.value) {
                if let Err(message) = scenario.instant(time) {
                    problem(line, format!("expect[{index}]"), message);
                }
            }
            if let Some(crowd) = expectation.value.never.as_ref().and_then(|never| never.more_than.as_ref()) {
                let key = format!("expect[{index}].never.more_than");
                if crowd.count == 0 {
                    problem(line, key.clone(), "allows none; leave it out instead".to_owned());
                }
                if let Err(message) = span(&crowd.within) {
                    problem(line, key, message);
                }
            }
        }
        if let Some(Err(message)) = scenario.backfill.as_deref().map(span) {
            problem(1, "backfill".to_owned(), message);
        }
        let daily = scenario.timeline.iter().filter_map(|step| Some((step, step.value.daily.clone()?)));
        let mut later = Vec::new();
        for (step, times) in daily {
            let Ok(at) = scenario.instant(&step.value.at) else { continue };
            let apart = times.apart.as_deref().map_or(Ok(SignedDuration::from_hours(24)), span);
            let apart = apart.unwrap_or_else(|message| {
                problem(step.referenced.line(), "daily.apart".to_owned(), message);
                SignedDuration::ZERO
            });
            for days in 1..i32::try_from(times.times).unwrap_or(i32::MAX) {
                let at = after(at, apart.saturating_mul(days));
                later.push(Spanned { value: step.value.later(days, at), ..step.clone() });
            }
        }
        scenario.timeline.extend(later);
        if problems.is_empty() { Ok(scenario) } else { Err(Problems(problems)) }
    }

    /// An instant of the file: `+9m05s` counts from the start.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn instant(&self, text: &str) -> Result<Timestamp, String> {
        instant(text, self.start)
    }
}

/// An instant: `+9m05s` counts from `origin`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn instant(text: &str, origin: Timestamp) -> Result<Timestamp, String> {
    match text.strip_prefix('+') {
        Some(offset) => Ok(after(origin, span(offset)?)),
        None => text.parse().map_err(|_| format!("`{text}` is neither +SPAN nor an instant like 2026-01-22T22:00:00Z")),
    }
}

/// A span such as `9m05s`, `2h` or `1d3h`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn span(text: &str) -> Result<SignedDuration, String> {
    let mut total = SignedDuration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a span is missing".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().map_err(|_| format!("`{text}` is no span like 9m05s"))?;
        rest = &rest[digits..];
        let letters = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => SignedDuration::from_millis(1),
            "s" => SignedDuration::from_secs(1),
            "m" => SignedDuration::from_mins(1),
            "h" => SignedDuration::from_hours(1),
            "d" => SignedDuration::from_hours(24),
            other => return Err(format!("`{other}` in `{text}` is no unit: ms, s, m, h, d")),
        };
        let factor = i32::try_from(number).map_err(|_| format!("`{text}` is too long"))?;
        total = total.saturating_add(unit.saturating_mul(factor));
        rest = &rest[letters..];
    }
    Ok(total)
}
