//! What does a dispatch look like to the service that is asked?
//!
//! Turns one [`Dispatch`] into the messages its node declares: templates filled, the manifest added, each body checked
//! against its contract. It does not know how a message travels. What it keeps: the same dispatch gives the same bytes
//! (`same-decision-same-id`), and nothing leaves that its receiver's contract would refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use jiff::civil::Date;
use jsonschema::Validator;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Expression, UndefinedBehavior};
use serde_json::{Map, Value, json};

use crate::diagnostic::{Any, Found, Place, Report, suggestion};
use crate::domain::coverage::Coverage;
use crate::domain::effect::{Cause, Dispatch, Input, Manifest};
use crate::domain::evidence::Extant;
use crate::domain::graph::{Dependency, Node, Offset};
use crate::domain::id::{Attempt, CycleId, NodeId, PartitionKey, PipelineId, RunId};
use crate::pipeline::Pipeline;
use crate::wire::trace;

/// Pub/Sub refuses a message with a longer attribute; the body carries whatever does not fit.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// The member of every body that says what tipoff decided.
pub const MANIFEST_KEY: &str = "tipoff";
/// The version of the manifest and of our attributes. A member may be added without a new one.
const MANIFEST_VERSION: &str = "1";

/// Where a message goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// A topic of the broker.
    Topic(String),
    /// A declared service, asked directly.
    Http {
        /// The service's name among the pipeline's `services`.
        service: String,
        /// The path at that service.
        path: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic:{name}"),
            Self::Http { service, path } => write!(f, "http:{service}{path}"),
        }
    }
}

/// A message ready to leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The dispatch id, with `#2` for its second message, `#3` for its third.
    pub id: String,
    /// Where to.
    pub target: Target,
    /// The JSON body.
    pub body: Vec<u8>,
    /// Attributes of a Pub/Sub message; header fields of a request.
    pub attributes: BTreeMap<String, String>,
}

/// Why a dispatch could not be put into words. None of these is worth a retry: the declaration is at fault.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The node is no task of this pipeline, as after a declaration that dropped it.
    #[error("`{0}` declares no messages")]
    NoMessages(NodeId),
    /// A template could not be filled.
    #[error("message {message} of `{node}`: {problem}")]
    Template {
        /// The node.
        node: NodeId,
        /// Which of its messages, from one.
        message: usize,
        /// What is wrong, and where.
        problem: String,
    },
    /// The filled body is not what its receiver understands.
    #[error("message {message} of `{node}` breaks {schema}: {problem}")]
    Contract {
        /// The node.
        node: NodeId,
        /// Which of its messages, from one.
        message: usize,
        /// The schema broken.
        schema: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
}

/// A message as declared, ready to be filled.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it goes.
    pub target: Target,
    /// What its receiver understands.
    pub contract: Contract,
    /// The body, always a mapping.
    pub body: Template,
    /// Attributes beside our own.
    pub attributes: BTreeMap<String, Template>,
}

/// The messages of `dispatch`, in the order in which its node declares them; where it is to close a run, those for that.
pub fn render(pipeline: &Pipeline, dispatch: &Dispatch) -> Result<Vec<Outgoing>, RenderError> {
    let messages = pipeline.messages(dispatch);
    let messages = messages.ok_or_else(|| RenderError::NoMessages(dispatch.node.clone()))?;
    let manifest = manifest(dispatch);
    let today = pipeline.graph.date_at(dispatch.decided_at);
    let context = context(dispatch, today, &manifest);
    let fill = |(index, message)| one(message, index, dispatch, &manifest, &context);
    messages.iter().enumerate().map(fill).collect()
}

fn one(
    message: &Message,
    index: usize,
    dispatch: &Dispatch,
    manifest: &Value,
    context: &minijinja::Value,
) -> Result<Outgoing, RenderError> {
    let number = index + 1;
    let node = || dispatch.node.clone();
    let template = |problem| RenderError::Template { node: node(), message: number, problem };
    let mut body = message.body.fill(context).map_err(template)?;
    if let Value::Object(members) = &mut body {
        members.insert(MANIFEST_KEY.to_owned(), manifest.clone());
    }
    if let Err(error) = message.contract.validator.validate(&body) {
        let problem = format!("{}: {error}", error.instance_path());
        return Err(RenderError::Contract { node: node(), message: number, schema: message.contract.name, problem });
    }
    let mut attributes = BTreeMap::new();
    for (name, value) in &message.attributes {
        let value = match value.fill(context).map_err(template)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        attributes.insert(name.clone(), value);
    }
    let ours = [
        ("tipoff-dispatch-id", dispatch.id.to_string()),
        ("tipoff-node", dispatch.node.to_string()),
        ("tipoff-date", dispatch.key.date.to_string()),
        ("tipoff-cause", dispatch.manifest.cause.as_str().to_owned()),
        ("tipoff-attempt", dispatch.manifest.attempt.attempt.to_string()),
        ("tipoff-schema", message.contract.name.to_owned()),
        ("tipoff-schema-version", MANIFEST_VERSION.to_owned()),
        // As W3C has it, which is a header's name as well; and as Google's Pub/Sub clients do, who carry it on by themselves.
        (trace::TRACEPARENT, trace::dispatched(dispatch).to_string()),
        (trace::OF_GOOGLES_CLIENTS, trace::dispatched(dispatch).to_string()),
        ("correlation-id", correlation(dispatch).to_owned()),
    ];
    attributes.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    attributes.retain(|_, value| value.len() <= ATTRIBUTE_BYTES_MAX);
    let id = if index == 0 { dispatch.id.to_string() } else { format!("{}#{number}", dispatch.id) };
    Ok(Outgoing { id, target: message.target.clone(), body: body.to_string().into_bytes(), attributes })
}

/// One id from scraper to export: the newest input's, or the dispatch's own where no input brought one.
fn correlation(dispatch: &Dispatch) -> &str {
    let carried = dispatch.manifest.correlation.as_deref().filter(|carried| !carried.is_empty());
    carried.unwrap_or(dispatch.id.as_str())
}

/// What was decided, in the shape of `schemas/manifest.json`.
pub(super) fn manifest(dispatch: &Dispatch) -> Value {
    let Dispatch { id, key, node, manifest, .. } = dispatch;
    let inputs: Vec<Value> = manifest.inputs.iter().map(input).collect();
    json!({
        "dispatch_id": id,
        "pipeline": key.pipeline,
        "date": key.date,
        "node": node,
        "cycle": manifest.cycle,
        "run": manifest.attempt.run,
        "attempt": manifest.attempt.attempt,
        "cause": manifest.cause.as_str(),
        "degraded": manifest.degraded,
        "missing": manifest.missing,
        "waived": manifest.waived,
        "fenced_run_id": manifest.fenced,
        "units": manifest.units,
        "inputs": inputs,
    })
}

fn input(input: &Input) -> Value {
    // A reader that compares numbers should not have to take a sentence apart, so the units stand apart from the word.
    let (state, units) = match input.observed {
        Extant::Nothing => ("nothing", None),
        Extant::Unknown => ("unknown", None),
        Extant::Claimed => ("claimed", None),
        Extant::Known(coverage) => ("known", Some(coverage)),
    };
    json!({
        "node": input.node,
        "date": input.date,
        "state": state,
        "observed": units.map(Coverage::observed),
        "expected": units.map(Coverage::expected),
        "required": f64::from(input.required.get()) / 1000.0,
    })
}

/// Every name that a template may use.
fn names(dispatch: &Dispatch, today: Date, manifest: &Value) -> Value {
    let date = dispatch.key.date;
    json!({
        "pipeline": dispatch.key.pipeline,
        "date": date,
        "previous_date": date.yesterday().unwrap_or(date),
        // Where the decision falls in the pipeline's zone: a function of the dispatch, unlike the day it is rendered.
        "today": today,
        "next_date": date.tomorrow().unwrap_or(date),
        "node": dispatch.node,
        "cycle": dispatch.manifest.cycle,
        "run": dispatch.manifest.attempt.run,
        "attempt": dispatch.manifest.attempt.attempt,
        "dispatch_id": dispatch.id,
        "cause": dispatch.manifest.cause.as_str(),
        "correlation_id": correlation(dispatch),
        "decided_at": dispatch.decided_at,
        "degraded": dispatch.manifest.degraded,
        "missing": dispatch.manifest.missing,
        "waived": dispatch.manifest.waived,
        "units": dispatch.manifest.units,
        // The run that is to be closed; nothing in any other message.
        "closes": dispatch.manifest.closes,
        "manifest": manifest,
    })
}

fn context(dispatch: &Dispatch, today: Date, manifest: &Value) -> minijinja::Value {
    minijinja::Value::from(Serde(names(dispatch, today, manifest)))
}

/// A schema that a body has to satisfy.
#[derive(Clone)]
pub struct Contract {
    /// Its file in `schemas/`, without the extension.
    pub name: &'static str,
    validator: Arc<Validator>,
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! contracts {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../schemas/", $name, ".json")))),*]
    };
}

/// The schemas of what tipoff sends.
static CONTRACTS: LazyLock<BTreeMap<&'static str, Arc<Validator>>> = LazyLock::new(|| {
    let texts = contracts![
        "backfill-trigger",
        "check-stalled",
        "execute-workflow",
        "export-trigger",
        "grading-trigger",
        "phase3-trigger",
        "phase4-process-date",
        "phase4-trigger",
        "predictions-trigger",
        "roster-refresh-trigger",
        "sweep-odds",
    ];
    let compile = |(name, text): (&'static str, &str)| {
        let schema: Value = serde_json::from_str(text).expect("the schemas compiled in are JSON; a test reads each");
        let validator =
            jsonschema::validator_for(&schema).expect("the schemas compiled in are sound; a test reads each");
        (name, Arc::new(validator))
    };
    texts.map(compile).into()
});

impl Contract {
    /// The contract of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        let (name, validator) = CONTRACTS.get_key_value(name)?;
        Some(Self { name, validator: Arc::clone(validator) })
    }

    /// Every contract's name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CONTRACTS.keys().copied()
    }
}

/// A JSON value with holes.
#[derive(Clone, Debug)]
pub enum Template {
    /// No hole in it.
    Plain(Value),
    /// One hole and nothing else: what fills it keeps its type.
    Hole(Hole),
    /// Text with holes.
    Text(Vec<Piece>),
    /// A list.
    List(Vec<Template>),
    /// A mapping.
    Table(BTreeMap<String, Template>),
}

/// A part of a text with holes.
#[derive(Clone, Debug)]
pub enum Piece {
    /// As written.
    Words(String),
    /// To be filled.
    Hole(Hole),
}

/// An expression between double braces.
#[derive(Clone)]
pub struct Hole {
    source: Arc<str>,
    compiled: Arc<Expression<'static, 'static>>,
}

impl fmt::Debug for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{ {} }}}}", self.source)
    }
}

/// Expressions borrow their environment; a static one lets them be kept.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    // A misspelled name has to fail, not to send an empty date.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
});

impl Hole {
    fn compile(source: &str) -> Result<Self, String> {
        let compiled = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| format!("`{source}` cannot be read: {}", detail(&error)))?;
        Ok(Self { source: source.into(), compiled: Arc::new(compiled) })
    }

    fn fill(&self, context: &minijinja::Value) -> Result<Value, String> {
        let value = self
            .compiled
            .eval(context.clone())
            .map_err(|error| format!("`{}` cannot be filled: {}", self.source, detail(&error)))?;
        if value.kind() == ValueKind::Undefined {
            return Err(format!("`{}` is not known", self.source));
        }
        serde_json::to_value(&value).map_err(|error| format!("`{}` is no JSON: {error}", self.source))
    }

    /// The names used that no dispatch will have.
    fn unknown(&self, known: &Value) -> Vec<String> {
        let used: BTreeSet<String> = self.compiled.undeclared_variables(true).into_iter().collect();
        used.into_iter().filter_map(|path| unknown(&path, known)).collect()
    }
}

fn detail(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// What is wrong with `path`, if something of it is not among the `known` names.
fn unknown(path: &str, known: &Value) -> Option<String> {
    let mut at = known;
    let mut parent = String::new();
    for part in path.split('.') {
        // What is below a list or a scalar is for the evaluation to judge.
        let Value::Object(members) = at else { return None };
        let is_function = parent.is_empty() && ENVIRONMENT.globals().any(|(name, _)| name == part);
        if is_function {
            return None;
        }
        let Some(next) = members.get(part) else {
            let near: Vec<String> = members.keys().map(|key| format!("{parent}{key}")).collect();
            let wrong = format!("{parent}{part}");
            return Some(format!("`{wrong}` is not known{}", suggestion(&wrong, near.iter().map(String::as_str))));
        };
        at = next;
        parent = format!("{parent}{part}.");
    }
    None
}

impl Template {
    /// Reads a declared value, noting every hole that cannot be filled at the line of its leaf.
    pub fn read(found: &Found<Any>, report: &mut Report) -> Self {
        match &found.value {
            Any::Null => Self::Plain(Value::Null),
            Any::Bool(value) => Self::Plain(Value::Bool(*value)),
            Any::Integer(value) => Self::Plain((*value).into()),
            Any::Real(value) => Self::Plain((*value).into()),
            Any::Text(text) => Self::text(text).unwrap_or_else(|problem| {
                report.at(&found.place, problem);
                Self::Plain(Value::Null)
            }),
            Any::List(items) => Self::List(items.iter().map(|item| Self::read(item, report)).collect()),
            Any::Table(entries) => {
                Self::Table(entries.iter().map(|(key, value)| (key.clone(), Self::read(value, report))).collect())
            }
        }
    }

    fn text(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((words, after)) = rest.split_once("{{") {
            let Some((source, after)) = after.split_once("}}") else {
                return Err(format!("`{text}` opens a hole with {{{{ and does not close it"));
            };
            if !words.is_empty() {
                pieces.push(Piece::Words(words.to_owned()));
            }
            let hole = Hole::compile(source.trim())?;
            if let Some(problem) = hole.unknown(&KNOWN).into_iter().next() {
                return Err(problem);
            }
            pieces.push(Piece::Hole(hole));
            rest = after;
        }
        if rest.contains("}}") || text.contains("{%") {
            return Err(format!("`{text}` is no template; only {{{{ an expression }}}} can be filled in"));
        }
        if pieces.is_empty() {
            return Ok(Self::Plain(Value::String(text.to_owned())));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Words(rest.to_owned()));
        }
        match pieces.as_slice() {
            [Piece::Hole(hole)] => Ok(Self::Hole(hole.clone())),
            _ => Ok(Self::Text(pieces)),
        }
    }

    fn fill(&self, context: &minijinja::Value) -> Result<Value, String> {
        match self {
            Self::Plain(value) => Ok(value.clone()),
            Self::Hole(hole) => hole.fill(context),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Words(words) => text.push_str(words),
                        Piece::Hole(hole) => match hole.fill(context)? {
                            Value::String(filled) => text.push_str(&filled),
                            other => text.push_str(&other.to_string()),
                        },
                    }
                }
                Ok(Value::String(text))
            }
            Self::List(items) => {
                items.iter().map(|item| item.fill(context)).collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Table(entries) => {
                let fill = |(key, value): (&String, &Self)| Ok((key.clone(), value.fill(context)?));
                entries.iter().map(fill).collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
        }
    }
}

/// The names of some dispatch, with which a template's names are compared when it is read.
static KNOWN: LazyLock<Value> = LazyLock::new(|| {
    let dispatch = example(&"pipeline".into(), &"node".into(), &"cycle".into(), Vec::new(), Turnout::Whole);
    names(&dispatch, EXAMPLE_DATE, &manifest(&dispatch))
});

const EXAMPLE_DATE: Date = jiff::civil::date(2026, 1, 23);

/// The two ends of what a dispatch can be decided on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turnout {
    /// Every input whole, a correlation id carried on, decided on the day.
    Whole,
    /// No input there, no correlation id, a dead run replaced, decided the day after.
    Empty,
}

fn example(pipeline: &PipelineId, node: &NodeId, cycle: &CycleId, inputs: Vec<Input>, turnout: Turnout) -> Dispatch {
    let key = PartitionKey { pipeline: pipeline.clone(), date: EXAMPLE_DATE };
    let attempt = Attempt { run: 1, attempt: 1 };
    let (missing, cause, fenced, correlation) = match turnout {
        Turnout::Whole => (BTreeSet::new(), Cause::DependenciesMet, None, Some("a1b2c3d4".into())),
        Turnout::Empty => {
            let missing = inputs.iter().map(|input| input.node.clone()).collect();
            (missing, Cause::HeartbeatDead, Some(RunId::from("run-1")), None)
        }
    };
    let manifest = Manifest {
        cycle: cycle.clone(),
        attempt,
        cause,
        inputs,
        degraded: turnout == Turnout::Empty,
        waived: missing.clone(),
        missing,
        fenced,
        correlation,
        closes: None,
        units: BTreeSet::new(),
        trace: None,
        links: Vec::new(),
    };
    Dispatch {
        id: attempt.dispatch_id(&key, node),
        key,
        node: node.clone(),
        decided_at: Timestamp::UNIX_EPOCH,
        manifest,
    }
}

/// What a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To have the node run.
    Run,
    /// To have one of its runs closed.
    Close,
    /// To have it run for a date that is over.
    Backfill,
}

/// Fills every message of `node` as some dispatch would, noting what its contract refuses at the line of the culprit.
///
/// `declared` is the body as written, for its places. Both ends of what can be decided are tried, so that a template
/// which fits only a complete day is found before the first incomplete one.
pub fn rehearse(
    pipeline: &PipelineId,
    node: &Node,
    (message, purpose): (&Message, Purpose),
    declared: &Found<Any>,
    report: &mut Report,
) {
    let next = EXAMPLE_DATE.tomorrow().unwrap_or(EXAMPLE_DATE);
    for (turnout, today) in [(Turnout::Whole, EXAMPLE_DATE), (Turnout::Empty, next)] {
        let inputs = node.needs.iter().map(|need| example_input(need, turnout)).collect();
        let mut dispatch = example(pipeline, &node.id, &node.cycle, inputs, turnout);
        if purpose == Purpose::Close {
            dispatch.manifest.cause = Cause::Stalled;
            dispatch.manifest.closes = Some(RunId::from("run-1"));
        }
        if purpose == Purpose::Backfill {
            dispatch.manifest.cause = Cause::Backfill;
        }
        let manifest = manifest(&dispatch);
        let body = match message.body.fill(&context(&dispatch, today, &manifest)) {
            Ok(Value::Object(mut members)) => {
                members.insert(MANIFEST_KEY.to_owned(), manifest);
                Value::Object(members)
            }
            Ok(_) => return,
            Err(problem) => {
                report.at(&declared.place, format!("for `{}`: {problem}", node.id));
                return;
            }
        };
        let noted = report.len();
        for error in message.contract.validator.iter_errors(&body) {
            let place = place(declared, error.instance_path().as_str());
            report.at(place, format!("for `{}`, breaks {}: {error}", node.id, message.contract.name));
        }
        // The other turnout would mostly repeat what has been said.
        if report.len() > noted {
            return;
        }
    }
}

fn example_input(need: &Dependency, turnout: Turnout) -> Input {
    let date = match need.offset {
        Offset::Same => EXAMPLE_DATE,
        Offset::PreviousGameDay => EXAMPLE_DATE.yesterday().unwrap_or(EXAMPLE_DATE),
    };
    let observed = match turnout {
        Turnout::Whole => Extant::Claimed,
        Turnout::Empty => Extant::Nothing,
    };
    Input { node: need.node.clone(), date, observed, required: need.coverage_min, version: None }
}

/// The place of the part that a JSON pointer names, or of the nearest part around it that was written.
fn place<'a>(declared: &'a Found<Any>, pointer: &str) -> &'a Place {
    let mut at = declared;
    for part in pointer.split('/').skip(1) {
        let next = match &at.value {
            Any::Table(entries) => entries.iter().find(|(key, _)| key == part).map(|(_, value)| value),
            Any::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            Any::Null | Any::Bool(_) | Any::Integer(_) | Any::Real(_) | Any::Text(_) => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    &at.place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::coverage::PerMille;
    use crate::domain::evidence::Extant;
    use crate::pipeline;

    fn dispatch(node: &str, date: Date, cause: Cause) -> Dispatch {
        let key = PartitionKey { pipeline: "nba".into(), date };
        let attempt = Attempt { run: 2, attempt: 3 };
        Dispatch {
            id: attempt.dispatch_id(&key, &node.into()),
            key,
            node: node.into(),
            // Half past eight in the evening of the 23rd in New York, the 24th in Greenwich.
            decided_at: "2026-01-24T01:30:00Z".parse().unwrap(),
            manifest: Manifest {
                cycle: "same_day".into(),
                attempt,
                cause,
                inputs: vec![Input {
                    node: "ml_feature_store".into(),
                    date,
                    observed: Extant::Known(Coverage::new(6, 8).unwrap()),
                    required: PerMille::new(600).unwrap(),
                    version: None,
                }],
                degraded: true,
                missing: BTreeSet::from(["player_composite_factors".into()]),
                waived: BTreeSet::new(),
                fenced: Some("batch-1".into()),
                correlation: Some("corr-1".into()),
                closes: None,
                units: BTreeSet::new(),
                trace: None,
                links: Vec::new(),
            },
        }
    }

    fn body(outgoing: &Outgoing) -> Value {
        serde_json::from_slice(&outgoing.body).unwrap()
    }

    fn today() -> Date {
        jiff::civil::date(2026, 1, 23)
    }

    #[test]
    fn a_dispatch_becomes_the_receivers_own_words_with_the_manifest_beside_them() {
        // Holes keep their types: a list stays a list, a number a number.
        let nba = &pipeline::shipped().unwrap().pipelines["nba"];
        let sent = render(nba, &dispatch("predictions", today(), Cause::DependenciesMet)).unwrap();
        let [message] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!(message.id, "nba/2026-01-23/predictions/2/3");
        assert_eq!(message.target.to_string(), "topic:nba-predictions-trigger");
        assert_eq!(
            body(message),
            json!({
                "game_date": "2026-01-23",
                "upstream_processors_count": 4,
                "expected_processors": ["team_defense_zone_analysis", "player_shot_zone_analysis",
                    "player_composite_factors", "player_daily_cache", "ml_feature_store"],
                "data_freshness_verified": false,
                "missing_tables": ["player_composite_factors"],
                "trigger_reason": "dependencies_met",
                "force": false,
                "game_ids": [],
                "only_missing": false,
                "correlation_id": "corr-1",
                "trigger_source": "orchestrator",
                "triggered_by": "tipoff",
                "timestamp": "2026-01-24T01:30:00Z",
                "tipoff": {
                    "dispatch_id": "nba/2026-01-23/predictions/2/3",
                    "pipeline": "nba", "date": "2026-01-23", "node": "predictions", "cycle": "same_day",
                    "run": 2, "attempt": 3, "cause": "dependencies_met", "degraded": true,
                    "missing": ["player_composite_factors"], "waived": [], "fenced_run_id": "batch-1", "units": [],
                    "inputs": [{ "node": "ml_feature_store", "date": "2026-01-23", "state": "known",
                        "observed": 6, "expected": 8, "required": 0.6 }],
                },
            })
        );
        let attributes: Vec<(&str, &str)> =
            message.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            attributes,
            [
                ("Content-Type", "application/json"),
                ("correlation-id", "corr-1"),
                ("googclient_traceparent", "00-214700595d426a4a0fb1253717c59fda-007b82a2f83263d1-01"),
                ("tipoff-attempt", "3"),
                ("tipoff-cause", "dependencies_met"),
                ("tipoff-date", "2026-01-23"),
                ("tipoff-dispatch-id", "nba/2026-01-23/predictions/2/3"),
                ("tipoff-node", "predictions"),
                ("tipoff-schema", "predictions-trigger"),
                ("tipoff-schema-version", "1"),
                ("traceparent", "00-214700595d426a4a0fb1253717c59fda-007b82a2f83263d1-01"),
            ]
        );
        let again = render(nba, &dispatch("predictions", today(), Cause::Requested)).unwrap();
        assert_eq!(body(&again[0])["force"], true);
    }

    #[test]
    fn the_same_dispatch_gives_the_same_bytes() {
        // Two replicas that read the files each for themselves send one message twice, not two messages.
        let (one, two) = (pipeline::shipped().unwrap(), pipeline::shipped().unwrap());
        for (id, pipeline) in &one.pipelines {
            for node in pipeline.tasks.keys() {
                let dispatch = dispatch(node.as_str(), today(), Cause::InputsNewer);
                let sent = render(pipeline, &dispatch).unwrap();
                assert_eq!(sent, render(&two.pipelines[id], &dispatch).unwrap());
                let ids: BTreeSet<&str> = sent.iter().map(|message| message.id.as_str()).collect();
                assert_eq!(ids.len(), sent.len(), "{node}");
            }
        }
    }

    #[test]
    fn messages_after_the_first_are_numbered_and_a_service_is_named_with_its_path() {
        let nba = &pipeline::shipped().unwrap().pipelines["nba"];
        let ids = |node| -> Vec<String> {
            let sent = render(nba, &dispatch(node, today(), Cause::DependenciesMet)).unwrap();
            sent.into_iter().map(|message| format!("{} {}", message.id, message.target)).collect()
        };
        assert_eq!(
            ids("player_daily_cache"),
            [
                "nba/2026-01-23/player_daily_cache/2/3 topic:nba-phase4-trigger",
                "nba/2026-01-23/player_daily_cache/2/3#2 topic:nba-phase4-trigger",
                "nba/2026-01-23/player_daily_cache/2/3#3 topic:nba-phase4-trigger",
            ]
        );
        assert_eq!(
            ids("ml_feature_store"),
            ["nba/2026-01-23/ml_feature_store/2/3 http:nba-phase4-precompute-processors/process-date"]
        );
    }

    #[test]
    fn an_export_of_a_past_date_leaves_alone_what_readers_were_shown() {
        // "Past" is decided in the pipeline's zone: at 01:30 UTC of the 24th, the 23rd is still today.
        let nba = &pipeline::shipped().unwrap().pipelines["nba"];
        let export = |date| body(&render(nba, &dispatch("export", date, Cause::Requested)).unwrap()[0]);
        let now = export(today());
        assert_eq!((now["export_types"].as_array().unwrap().len(), &now["update_latest"]), (15, &json!(true)));
        let past = export(today().yesterday().unwrap());
        assert_eq!(past["update_latest"], false);
        for destructive in ["signal-best-bets", "subset-picks", "admin-picks"] {
            assert!(!past["export_types"].as_array().unwrap().contains(&json!(destructive)), "{destructive}");
        }
    }

    #[test]
    fn without_a_correlation_id_the_dispatch_names_itself() {
        let nba = &pipeline::shipped().unwrap().pipelines["nba"];
        let mut dispatch = dispatch("grading", today(), Cause::DependenciesMet);
        dispatch.manifest.correlation = None;
        let sent = render(nba, &dispatch).unwrap();
        assert_eq!(body(&sent[0])["correlation_id"], dispatch.id.as_str());
        // Over the broker's bound the attribute would have the whole message refused, for ever.
        dispatch.manifest.correlation = Some("x".repeat(ATTRIBUTE_BYTES_MAX + 1).into());
        assert!(!render(nba, &dispatch).unwrap()[0].attributes.contains_key("correlation-id"));
    }

    #[test]
    fn what_is_no_task_cannot_be_dispatched() {
        let nba = &pipeline::shipped().unwrap().pipelines["nba"];
        let error = render(nba, &dispatch("phase4_quorum", today(), Cause::Requested)).unwrap_err();
        assert_eq!(error.to_string(), "`phase4_quorum` declares no messages");
    }

    #[test]
    fn every_contract_compiled_in_is_sound_and_a_pipeline_can_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<Pipeline>();
        assert_eq!(Contract::names().filter_map(Contract::named).count(), CONTRACTS.len());
    }
}
