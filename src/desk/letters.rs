//! Dead letters as operators ask for them: which are meant, what is to become of them, and how much of that one call does.
//!
//! The command line, the API and the pages ask in the same words and are refused for the same reasons.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ask;
use crate::diagnostic::suggestion;
use crate::domain::dead_letter::Kind;
use crate::domain::id::PipelineId;
use crate::domain::words;
use crate::engine::Engine;
use crate::engine::dead_letter::{Error, Order, Outcome, Plan, Selection, Verdict};
use crate::pipeline::Declarations;

/// Messages a second where nobody says otherwise: a consumer that has just been mended is not to be overrun.
pub const PER_SECOND: u32 = 20;
/// Letters that one call over HTTP replays or discards; whoever wants more calls again for the rest.
pub const CALL_MAX: usize = 100;
/// Seconds that a paced call takes at most.
const CALL_SECONDS: usize = 10;

/// Why nothing is done about letters. Each says what would be.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A pipeline, a node or a date.
    #[error(transparent)]
    Ask(#[from] ask::Refusal),
    /// Who, or why.
    #[error(transparent)]
    Words(#[from] words::Error),
    /// There is no such topic.
    #[error("topics.yaml has no topic `{0}`{1}")]
    NoTopic(String, String),
    /// That is no standing.
    #[error("`standing` is wanted, unneeded or unclear")]
    Standing,
    /// Nobody means every letter by saying nothing.
    #[error("say which letters: their names, a filter such as a cause or a topic, or that every one is meant")]
    Unsaid,
    /// Both ways at once.
    #[error("letters are named or filtered, not both")]
    Both,
    /// A correction is of one letter.
    #[error("a correction is of one letter: name one")]
    NotOne,
    /// No letters at most.
    #[error("`limit` is 1 or more")]
    NoLimit,
    /// A replay that is applied has a reason.
    #[error("say why; it is kept with the letters")]
    NoReason,
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] Error),
}

/// Which letters, as a person says it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// These, by their names or the beginnings of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Of this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// About this pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// About this node, by any of its names where the pipeline is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// About this date; a word such as `today` where the pipeline is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// With this fingerprint of their cause, or the beginning of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Given up on before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// Given up on at this instant or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whose work stands so: `wanted`, `unneeded`, `unclear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// Every letter that waits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub every: bool,
}

impl Wanted {
    /// These, by their names.
    pub fn named(ids: Vec<String>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// What it means to the ledger.
    ///
    /// # Errors
    /// If it names what does not exist.
    pub fn selection(&self, declarations: &Declarations, now: Timestamp) -> Result<Selection, Refusal> {
        if let Some(topic) = &self.topic
            && declarations.topology.topic(topic).is_none()
        {
            let known = declarations.topology.topics().map(|(name, _)| name.as_str());
            let hint = if topic.len() > words::ACTOR_MAX { String::new() } else { suggestion(topic, known) };
            return Err(Refusal::NoTopic(super::words::clean(topic, 80), hint));
        }
        if self.standing.as_deref().is_some_and(|word| !matches!(word, "wanted" | "unneeded" | "unclear")) {
            return Err(Refusal::Standing);
        }
        let graph = match &self.pipeline {
            Some(name) => Some(&ask::pipeline(declarations, name)?.graph),
            None => None,
        };
        let date = match (&self.date, graph) {
            (Some(word), Some(graph)) => Some(ask::date(word, graph, now)?),
            (Some(word), None) => Some(word.parse().map_err(|_| ask::Refusal::NoDate(super::words::clean(word, 80)))?),
            (None, _) => None,
        };
        let node = match (&self.node, graph) {
            (Some(name), Some(graph)) => Some(ask::node(graph, name, date.unwrap_or_else(|| graph.date_at(now)), now)?),
            (Some(name), None) => Some(name.as_str().into()),
            (None, _) => None,
        };
        Ok(Selection {
            ids: self.ids.clone(),
            topic: self.topic.clone(),
            pipeline: self.pipeline.as_deref().map(PipelineId::from),
            node,
            date,
            cause: self.cause.clone(),
            kind: self.kind,
            before: self.before,
            since: self.since,
            standing: self.standing.clone(),
            all: false,
        })
    }

    fn has_filter(&self) -> bool {
        let texts = [&self.topic, &self.pipeline, &self.node, &self.date, &self.cause, &self.standing];
        let instants = [self.before, self.since];
        texts.into_iter().any(Option::is_some) || instants.into_iter().any(|at| at.is_some()) || self.kind.is_some()
    }

    /// Whether it says which are meant.
    ///
    /// # Errors
    /// If it does not, or twice.
    fn is_said(&self) -> Result<(), Refusal> {
        match (self.ids.is_empty(), self.has_filter(), self.every) {
            (true, false, false) => Err(Refusal::Unsaid),
            (false, true, _) | (false, _, true) => Err(Refusal::Both),
            _ => Ok(()),
        }
    }
}

fn at_least_one(limit: Option<usize>) -> Result<(), Refusal> {
    if limit == Some(0) { Err(Refusal::NoLimit) } else { Ok(()) }
}

/// A replay, as a person asks for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaying {
    /// Which letters.
    pub letters: Wanted,
    /// At most so many, the oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Also what is not wanted any more, or of which that cannot be told, and what was replayed already.
    #[serde(default)]
    pub force: bool,
    /// What the letter is to say instead, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// Messages a second at most; 0 is no bound.
    #[serde(default = "per_second")]
    pub per_second: u32,
    /// Whether it is done; else what it would come to is told.
    #[serde(default)]
    pub apply: bool,
    /// Who.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn per_second() -> u32 {
    PER_SECOND
}

impl Replaying {
    /// The order that it is.
    ///
    /// # Errors
    /// Why it makes no sense.
    pub fn order(&self, declarations: &Declarations, now: Timestamp) -> Result<Order, Refusal> {
        self.letters.is_said()?;
        at_least_one(self.limit)?;
        if self.with.is_some() && self.letters.ids.len() != 1 {
            return Err(Refusal::NotOne);
        }
        Ok(Order {
            selection: self.letters.selection(declarations, now)?,
            limit: self.limit,
            force: self.force,
            actor: words::actor(&self.actor)?,
            reason: self.reason.as_deref().map(words::reason).transpose()?,
            with: self.with.clone().map(String::into_bytes),
            per_second: self.per_second,
            asked_at: None,
        })
    }
}

/// A discard, as a person asks for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discarding {
    /// Which letters.
    pub letters: Wanted,
    /// At most so many, the oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Whether it is done; else which would be discarded is told.
    #[serde(default)]
    pub apply: bool,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl Discarding {
    /// The order that it is, and its reason.
    ///
    /// # Errors
    /// Why it makes no sense.
    pub fn order(&self, declarations: &Declarations, now: Timestamp) -> Result<(Order, String), Refusal> {
        self.letters.is_said()?;
        at_least_one(self.limit)?;
        let order = Order {
            selection: self.letters.selection(declarations, now)?,
            limit: self.limit,
            actor: words::actor(&self.actor)?,
            ..Order::default()
        };
        Ok((order, words::reason(&self.reason)?))
    }
}

/// What one letter is to say from now on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correcting {
    /// Its new body.
    pub with: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What a replay would come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// That nothing was done.
    pub applied: bool,
    /// What would be.
    pub plan: Plan,
}

/// What became, or would become, of letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Whether it was done.
    pub applied: bool,
    /// How many letters came to what.
    #[serde(default)]
    pub counts: BTreeMap<String, usize>,
    /// Each of them, the oldest first.
    pub letters: Vec<Outcome>,
    /// Letters that were meant, and are left for another call.
    #[serde(default)]
    pub left: usize,
}

impl Done {
    /// What became of `letters`.
    pub fn new(applied: bool, letters: Vec<Outcome>, left: usize) -> Self {
        Self { applied, counts: counts(&letters), letters, left }
    }
}

/// How many letters came to what.
pub fn counts(outcomes: &[Outcome]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome.verdict.as_str().to_owned()).or_default() += 1;
    }
    counts
}

/// Whether nothing is left that somebody has to look at: what is not wanted any more is not.
pub fn is_sound(outcomes: &[Outcome]) -> bool {
    let is_sound = |outcome: &Outcome| {
        matches!(outcome.verdict, Verdict::Ready | Verdict::Replayed | Verdict::Discarded | Verdict::Unneeded(_))
    };
    outcomes.iter().all(is_sound)
}

/// Narrows an order to what one call does, and says how many letters are left.
async fn narrow(engine: &Engine, order: &mut Order, most: usize) -> Result<usize, Error> {
    let chosen = engine.chosen(order).await?;
    let left = chosen.len().saturating_sub(most);
    let ids = chosen.into_iter().take(most).map(|id| id.to_string()).collect();
    order.selection = Selection { ids, ..Selection::default() };
    Ok(left)
}

/// What a replay would come to.
///
/// # Errors
/// If it makes no sense, or the store cannot be read.
pub async fn plan(engine: &Engine, asked: &Replaying) -> Result<Planned, Refusal> {
    let order = asked.order(&engine.declarations, engine.clock.now())?;
    Ok(Planned { applied: false, plan: engine.plan_replay(&order).await? })
}

/// Replays what one call does of it, as of the instant at which it was first asked for.
///
/// # Errors
/// If it makes no sense, or the store cannot be used.
pub async fn replay(engine: &Engine, asked: &Replaying, at: Timestamp) -> Result<Done, Refusal> {
    let mut order = asked.order(&engine.declarations, engine.clock.now())?;
    if order.reason.is_none() {
        return Err(Refusal::NoReason);
    }
    order.asked_at = Some(at);
    let paced = usize::try_from(order.per_second).unwrap_or(usize::MAX).saturating_mul(CALL_SECONDS);
    let most = if order.per_second == 0 { CALL_MAX } else { CALL_MAX.min(paced) };
    let left = narrow(engine, &mut order, most).await?;
    // Nobody means every letter where none is left.
    let outcomes = match order.selection.ids.is_empty() {
        true => Vec::new(),
        false => engine.replay(&order, &mut |_| {}).await?,
    };
    Ok(Done::new(true, outcomes, left))
}

/// Discards what one call does of it, or says which letters would be.
///
/// # Errors
/// If it makes no sense, or the store cannot be used.
pub async fn discard(engine: &Engine, asked: &Discarding) -> Result<Done, Refusal> {
    let (mut order, reason) = asked.order(&engine.declarations, engine.clock.now())?;
    let left = if asked.apply { narrow(engine, &mut order, CALL_MAX).await? } else { 0 };
    let outcomes = match asked.apply && order.selection.ids.is_empty() {
        true => Vec::new(),
        false => engine.discard(&order, &reason, asked.apply).await?,
    };
    Ok(Done::new(asked.apply, outcomes, left))
}
