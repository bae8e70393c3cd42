//! A request as a person writes it, checked against the graph: dates and nodes by any of their names, with a suggestion
//! where there is none.

use std::sync::Arc;

use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::diagnostic::suggestion;
use crate::domain::calendar::teams_of;
use crate::domain::event::{Command, EdgeRule, GameStatus, Request, RunWord};
use crate::domain::graph::{DayTime, Graph, Kind};
use crate::domain::id::{NodeId, PipelineId, RequestId, RunId, UnitId};
use crate::domain::partition::Partition;
use crate::domain::time::after;
use crate::domain::words;
use crate::pipeline::{Declarations, Pipeline};

/// Why a request makes no sense. Each says what would.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such pipeline.
    #[error("there is no pipeline `{name}`: {known}")]
    NoPipeline {
        /// As given.
        name: String,
        /// Those there are.
        known: String,
    },
    /// That is no date.
    #[error("`{0}` is not a date: YYYY-MM-DD, today, yesterday or tomorrow")]
    NoDate(String),
    /// There is no such node.
    #[error("{pipeline} has no node `{name}`{hint}; `tipoff graph` lists them")]
    NoNode {
        /// Whose.
        pipeline: PipelineId,
        /// As given.
        name: String,
        /// The nearest one.
        hint: String,
    },
    /// The request needs a node.
    #[error("say which node")]
    Whole,
    /// A gate does nothing.
    #[error("{0} is a gate: it does nothing that could be stopped or run")]
    Gate(NodeId),
    /// Nobody can be told to begin, or not to.
    #[error("{node} begins by itself, tipoff never asks for it: {instead}")]
    Unasked {
        /// Who.
        node: NodeId,
        /// What can be done about it.
        instead: String,
    },
    /// The node does not wait for that.
    #[error("{node} does not wait for `{input}`{hint}; it waits for {known}")]
    NoInput {
        /// Whose input.
        node: NodeId,
        /// As given.
        input: String,
        /// The nearest one.
        hint: String,
        /// Those there are.
        known: String,
    },
    /// A member that this request does not have.
    #[error("{verb} takes no {member}")]
    Surplus {
        /// The request.
        verb: &'static str,
        /// What it does not take.
        member: &'static str,
    },
    /// Forcing names one thing.
    #[error("say what to go past: one input, gate or check of the node")]
    PastWhat,
    /// It is about one run.
    #[error("say which run of the node")]
    NoRun,
    /// It is about one game.
    #[error("say which game, as SAS@GSW, and its status, its tip, or that the schedule is to count again")]
    NoGame,
    /// A team of it plays in another game of the date.
    #[error(
        "the schedule has {listed}, and no team plays twice: is that what you mean? Where it is not played, say so first, \
         with the status `postponed` or `moved`"
    )]
    Twice {
        /// That other game.
        listed: String,
    },
    /// That is no game.
    #[error("write the visitors and the hosts, as SAS@GSW")]
    NoTeams,
    /// No message could be about that date: it is a slip of the finger.
    #[error("{date} is too far from today, {today}: is that what you mean?")]
    Reach {
        /// As given.
        date: Date,
        /// In the pipeline's zone.
        today: Date,
    },
    /// The progress of its runs is not watched.
    #[error("{0} has no batches: its progress is not watched. A run of it can be given up")]
    NoBatch(NodeId),
    /// That is no duration, or none that may be asked for.
    #[error("{0}")]
    Span(String),
    /// A request has a reason, and somebody who asks.
    #[error(transparent)]
    Words(#[from] words::Error),
}

impl Refusal {
    /// Whether it is the name of something that does not exist.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::NoPipeline { .. } | Self::NoDate(_) | Self::NoNode { .. })
    }
}

/// The pipeline called `name`.
///
/// # Errors
/// If there is none.
pub fn pipeline<'d>(declarations: &'d Declarations, name: &str) -> Result<&'d Pipeline, Refusal> {
    declarations.pipelines.get(name).ok_or_else(|| {
        let known: Vec<&str> = declarations.pipelines.keys().map(PipelineId::as_str).collect();
        Refusal::NoPipeline { name: short(name), known: known.join(", ") }
    })
}

/// Resolves `today`, `yesterday`, `tomorrow` or `YYYY-MM-DD`, in the pipeline's zone.
///
/// # Errors
/// If it is none of them.
pub fn date(word: &str, graph: &Graph, now: Timestamp) -> Result<Date, Refusal> {
    let today = graph.date_at(now);
    let date = match word.to_ascii_lowercase().as_str() {
        "today" => Some(today),
        "yesterday" => today.yesterday().ok(),
        "tomorrow" => today.tomorrow().ok(),
        other if other.len() == 10 => other.parse().ok(),
        _ => None,
    };
    date.ok_or_else(|| Refusal::NoDate(short(word)))
}

/// The node called `name`, by its id or by any name its producer uses.
///
/// # Errors
/// If there is none.
pub fn node(graph: &Graph, name: &str, date: Date, now: Timestamp) -> Result<NodeId, Refusal> {
    if let Some(node) = graph.nodes.get(name) {
        return Ok(node.id.clone());
    }
    graph.resolve(name, date, now).cloned().ok_or_else(|| {
        let known = graph.nodes.keys().map(NodeId::as_str).chain(graph.aliases.keys().map(String::as_str));
        let hint = if name.len() > NAME_MAX { String::new() } else { suggestion(&name.to_ascii_lowercase(), known) };
        Refusal::NoNode { pipeline: graph.pipeline.clone(), name: short(name), hint }
    })
}

/// Characters of a name that are repeated to whoever gave it, and looked for among the known ones.
const NAME_MAX: usize = 80;

fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Whether a node is a gate.
pub fn is_gate(graph: &Graph, node: &NodeId) -> bool {
    graph.node(node).is_some_and(|node| matches!(node.kind, Kind::Gate(_)))
}

/// What an operator may ask of a date.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Dispatch nothing of it.
    Hold,
    /// End a hold, or have an input count as declared again.
    Resume,
    /// Run it again.
    Retry,
    /// Count it as not required.
    Skip,
    /// Go on past one named thing.
    Force,
    /// Count one of its runs as dead.
    GiveUp,
    /// Close one of its runs with what it has done.
    Finalize,
    /// Give one of its runs its whole patience again.
    Continue,
    /// Know one of its games better than the schedule does.
    Game,
}

impl Verb {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Hold,
        Self::Resume,
        Self::Retry,
        Self::Skip,
        Self::Force,
        Self::GiveUp,
        Self::Finalize,
        Self::Continue,
        Self::Game,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Force => "force",
            Self::GiveUp => "give_up",
            Self::Finalize => "finalize",
            Self::Continue => "continue",
            Self::Game => "game",
        }
    }
}

/// The least time for which an operator's word about a game outweighs the schedule where no time is given: a past date is
/// corrected for good enough within it.
const OVERRIDE_MIN: SignedDuration = SignedDuration::from_hours(24);
/// The longest that anything may be asked for: a season, and the summer after it.
const SPAN_MAX: SignedDuration = SignedDuration::from_hours(400 * 24);

/// A request about a date as a person writes it, in the command line's and the API's one form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What.
    pub command: Verb,
    /// Of which node; the whole date where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The input, gate or check of the node; for `force` what to go past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The execution of the node, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// What is known of a game.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game: Option<GameWord>,
    /// How long, as `90m` or `4h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#for: Option<String>,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What somebody knows of a game better than the schedule.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameWord {
    /// Visitors and hosts, as `SAS@GSW`.
    pub teams: String,
    /// How it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<GameStatus>,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<Timestamp>,
    /// Whether the schedule is to be believed again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
}

impl Wish {
    /// A wish of nothing but a verb and its words.
    pub fn new(command: Verb, actor: &str, reason: &str) -> Self {
        let (node, input, run, game, r#for) = (None, None, None, None, None);
        Self { command, node, input, run, game, r#for, actor: actor.to_owned(), reason: reason.to_owned() }
    }

    /// The request that it is on `date`: asked for at `at`, under `id` or under a new name.
    ///
    /// # Errors
    /// Why it makes no sense.
    pub fn request(&self, graph: &Graph, date: Date, at: Timestamp, id: Option<RequestId>) -> Result<Request, Refusal> {
        within_reach(graph, date, at)?;
        let words = words(&self.actor, &self.reason)?;
        let command = match (&self.game, self.command) {
            (Some(game), Verb::Game) => self.override_of(game, graph, date, at)?,
            (Some(_), verb) => return Err(Refusal::Surplus { verb: verb.as_str(), member: "game" }),
            (None, verb) => {
                let until = self.r#for.as_deref().map(|span| ends(span, at)).transpose()?;
                let (node, input, run) = (self.node.as_deref(), self.input.as_deref(), self.run.as_deref());
                Asked { verb, node, input, until, run }.command(graph, date, at)?
            }
        };
        Ok(request(id, words, at, command))
    }

    fn override_of(&self, game: &GameWord, graph: &Graph, date: Date, at: Timestamp) -> Result<Command, Refusal> {
        let surplus = [("node", &self.node), ("input", &self.input), ("run", &self.run)];
        if let Some((member, _)) = surplus.into_iter().find(|(_, given)| given.is_some()) {
            return Err(Refusal::Surplus { verb: Verb::Game.as_str(), member });
        }
        let GameWord { teams, status, tip, clear } = game;
        let says = status.is_some() || tip.is_some();
        if says == *clear || *clear && self.r#for.is_some() {
            return Err(Refusal::NoGame);
        }
        let noon = DayTime { days: 1, time: Time::constant(12, 0, 0, 0) }.on(date, &graph.zone);
        let until = match &self.r#for {
            _ if *clear => at,
            Some(span) => ends(span, at)?,
            None => noon.max(after(at, OVERRIDE_MIN)),
        };
        let (away, home) = matchup(teams)?;
        let game = UnitId::new(format!("{}_{away}_{home}", date.strftime("%Y%m%d")));
        Ok(Command::Override { game, status: *status, tip: *tip, until })
    }
}

/// The visitors and the hosts of a game that is written as `SAS@GSW`.
///
/// # Errors
/// If it is written otherwise.
pub fn matchup(text: &str) -> Result<(String, String), Refusal> {
    let is_team = |team: &&str| team.len() == 3 && team.bytes().all(|byte| byte.is_ascii_alphabetic());
    let teams = text.split_once('@').filter(|(away, home)| is_team(away) && is_team(home));
    let (away, home) = teams.ok_or(Refusal::NoTeams)?;
    Ok((away.to_ascii_uppercase(), home.to_ascii_uppercase()))
}

/// Whether what is said of a game fits what is known of its date.
///
/// # Errors
/// If one of its teams plays in another.
pub fn fits(partition: &Partition, request: &Request) -> Result<(), Refusal> {
    let Command::Override { game, status, .. } = &request.command else { return Ok(()) };
    let is_played = status.is_none_or(GameStatus::is_played);
    let Some(other) = partition.rules_out(game).filter(|_| is_played) else { return Ok(()) };
    let listed = teams_of(&other).map_or(other.to_string(), |(away, home)| format!("{away}@{home}"));
    Err(Refusal::Twice { listed })
}

/// Whether a message could be about that date.
///
/// # Errors
/// If none could.
pub fn within_reach(graph: &Graph, date: Date, now: Timestamp) -> Result<(), Refusal> {
    let days = graph.limits.behind_max.max(graph.limits.ahead_max).days();
    let today = graph.date_at(now);
    let is_within = (today.saturating_sub(days)..=today.saturating_add(days)).contains(&date);
    if is_within { Ok(()) } else { Err(Refusal::Reach { date, today }) }
}

/// A request about a date, as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    /// What.
    pub verb: Verb,
    /// Of which node; the whole date where none is named.
    pub node: Option<&'a str>,
    /// Of which input of it; for forcing, a check will do too.
    pub input: Option<&'a str>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Which execution of the node, where it is about one.
    pub run: Option<&'a str>,
}

impl Asked<'_> {
    /// The command, if it makes sense on `date`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn command(&self, graph: &Graph, on: Date, now: Timestamp) -> Result<Command, Refusal> {
        let found = self.node.map(|name| node(graph, name, on, now)).transpose()?;
        let surplus = |member| Err(Refusal::Surplus { verb: self.verb.as_str(), member });
        if self.until.is_some() && !matches!(self.verb, Verb::Hold | Verb::Force) {
            return surplus("duration");
        }
        if self.input.is_some() && !matches!(self.verb, Verb::Hold | Verb::Resume | Verb::Force) {
            return surplus("input");
        }
        let word = match self.verb {
            Verb::GiveUp => Some(RunWord::GiveUp),
            Verb::Finalize => Some(RunWord::Finalize),
            Verb::Continue => Some(RunWord::Continue),
            Verb::Hold | Verb::Resume | Verb::Retry | Verb::Skip | Verb::Force | Verb::Game => None,
        };
        if self.run.is_some() && word.is_none() {
            return surplus("run");
        }
        if let Some(word) = word {
            let (node, run) = (found.ok_or(Refusal::Whole)?, words::subject(self.run.ok_or(Refusal::NoRun)?)?);
            if is_gate(graph, &node) {
                return Err(Refusal::Gate(node));
            }
            let is_watched = graph.node(&node).is_some_and(|node| node.liveness.stall.is_some());
            if word != RunWord::GiveUp && !is_watched {
                return Err(Refusal::NoBatch(node));
            }
            return Ok(Command::Execution { node, run: RunId::from(run.as_str()), word });
        }
        if self.verb == Verb::Force && self.input.is_none() {
            return Err(if found.is_none() { Refusal::Whole } else { Refusal::PastWhat });
        }
        if let Some(input) = self.input {
            let node = found.ok_or(Refusal::Whole)?;
            let rule = match self.verb {
                Verb::Force => Some(EdgeRule::Force),
                Verb::Hold => Some(EdgeRule::Hold),
                _ => None,
            };
            return edge(graph, node, input, rule, self.until);
        }
        if let Some(node) = found.as_ref().filter(|node| is_gate(graph, node)) {
            return Err(Refusal::Gate(node.clone()));
        }
        // To resume one that an earlier version held, or to skip it, is something else.
        if let (Verb::Hold | Verb::Retry, Some(node)) = (self.verb, &found)
            && graph.node(node).is_some_and(|node| node.dispatchable().is_none())
        {
            let instead = if self.verb == Verb::Hold {
                format!("what it delivers is held back with `hold NODE --input {node}`")
            } else {
                format!("start its producer, or go on without it with `skip {node}`")
            };
            return Err(Refusal::Unasked { node: node.clone(), instead });
        }
        Ok(match self.verb {
            Verb::Hold => Command::Hold { node: found, until: self.until },
            Verb::Resume => Command::Resume { node: found },
            Verb::Retry => Command::Retry { node: found.ok_or(Refusal::Whole)? },
            Verb::Skip => Command::Skip { node: found.ok_or(Refusal::Whole)? },
            Verb::Force => return Err(Refusal::PastWhat),
            Verb::GiveUp | Verb::Finalize | Verb::Continue => return Err(Refusal::NoRun),
            Verb::Game => return Err(Refusal::NoGame),
        })
    }
}

/// What is said of one input of a node, or of one of its checks.
fn edge(
    graph: &Graph,
    node: NodeId,
    input: &str,
    rule: Option<EdgeRule>,
    until: Option<Timestamp>,
) -> Result<Command, Refusal> {
    let known = inputs(graph, &node, rule);
    if !known.contains(&input) {
        let hint = if input.len() > NAME_MAX { String::new() } else { suggestion(input, known.iter().copied()) };
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        return Err(Refusal::NoInput { node, input: short(input), hint, known });
    }
    Ok(Command::Edge { node, input: input.into(), rule, until })
}

/// What may be said something of: a node's inputs, and its checks where it is not about a hold.
pub fn inputs<'g>(graph: &'g Graph, node: &NodeId, rule: Option<EdgeRule>) -> Vec<&'g str> {
    let Some(declared) = graph.node(node) else { return Vec::new() };
    let inputs = declared.needs.iter().map(|need| need.node.as_str());
    let checks = declared.expects.checks.iter().map(|check| check.id.as_str());
    if rule == Some(EdgeRule::Hold) { inputs.collect() } else { inputs.chain(checks).collect() }
}

/// When a span that was written, as `90m` or `4h`, ends.
///
/// # Errors
/// If it is no duration.
pub fn ends(span: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    let span = match (span.parse::<SignedDuration>(), crate::topology::duration(span)) {
        (_, Ok(span)) => SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX),
        // More than one unit, as `1h30m`.
        (Ok(span), Err(_)) => span,
        (Err(_), Err(error)) => return Err(Refusal::Span(error)),
    };
    if span <= SignedDuration::ZERO {
        return Err(Refusal::Span("that is over at once; to end what was said before, resume or clear it".to_owned()));
    }
    if span > SPAN_MAX {
        return Err(Refusal::Span(format!(
            "that is longer than {} days; leave it out for no end",
            SPAN_MAX.as_hours() / 24
        )));
    }
    Ok(after(now, span))
}

/// Who asks and why, within bounds.
///
/// # Errors
/// If one of them is missing or too long.
pub fn words(actor: &str, reason: &str) -> Result<(Arc<str>, Arc<str>), Refusal> {
    Ok((words::actor(actor)?.into(), words::reason(reason)?.into()))
}

/// The request, under `id` or under a new name.
pub fn request(
    id: Option<RequestId>,
    (actor, reason): (Arc<str>, Arc<str>),
    at: Timestamp,
    command: Command,
) -> Request {
    let id = id.unwrap_or_else(|| RequestId::new(uuid::Uuid::new_v4().to_string()));
    Request { id, actor, reason, at, command }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::shipped;

    fn asked<'a>(verb: Verb, node: Option<&'a str>, input: Option<&'a str>) -> Asked<'a> {
        Asked { verb, node, input, until: None, run: None }
    }

    #[test]
    fn a_request_that_makes_no_sense_says_what_would() {
        let declarations = shipped().unwrap();
        let graph = &declarations.pipelines["nba"].graph;
        let (on, now) = (jiff::civil::date(2026, 1, 22), "2026-01-23T12:00:00Z".parse().unwrap());
        let refused = |asked: Asked<'_>| asked.command(graph, on, now).unwrap_err().to_string();
        let cases = [
            (asked(Verb::Retry, Some("predictoins"), None), "did you mean"),
            (asked(Verb::Retry, None, None), "say which node"),
            (asked(Verb::Hold, Some("phase4_quorum"), None), "is a gate"),
            (asked(Verb::Hold, Some("bdl_standings"), None), "begins by itself"),
            (asked(Verb::Retry, Some("bdl_standings"), None), "`skip bdl_standings`"),
            (asked(Verb::Force, Some("predictions"), None), "go past"),
            (asked(Verb::Force, Some("predictions"), Some("phase4_qorum")), "did you mean `phase4_quorum`"),
            (asked(Verb::Skip, Some("predictions"), Some("phase4_quorum")), "takes no input"),
            (asked(Verb::Hold, None, Some("phase4_quorum")), "say which node"),
            (Asked { until: Some(now), ..asked(Verb::Skip, Some("predictions"), None) }, "takes no duration"),
            (Asked { run: Some("r"), ..asked(Verb::Skip, Some("predictions"), None) }, "takes no run"),
            (asked(Verb::GiveUp, Some("predictions"), None), "say which run"),
            (Asked { run: Some("r"), ..asked(Verb::GiveUp, None, None) }, "say which node"),
            (Asked { run: Some(" "), ..asked(Verb::GiveUp, Some("predictions"), None) }, "blank"),
            (Asked { run: Some("r"), ..asked(Verb::Finalize, Some("export"), None) }, "has no batches"),
        ];
        for (asked, words) in cases {
            let said = refused(asked.clone());
            assert!(said.contains(words), "{asked:?}: {said}");
        }
        let forced = asked(Verb::Force, Some("PredictionCoordinator"), Some("phase4_quorum")).command(graph, on, now);
        assert!(matches!(forced, Ok(Command::Edge { rule: Some(EdgeRule::Force), .. })), "{forced:?}");
    }

    #[test]
    fn who_and_why_are_bounded() {
        assert!(words("ann", " because ").is_ok());
        assert!(matches!(words(" ", "because"), Err(Refusal::Words(_))));
        assert!(matches!(words("ann", &"x".repeat(words::REASON_MAX + 1)), Err(Refusal::Words(_))));
    }
}
