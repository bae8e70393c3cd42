//! One scenario under one regime, and the comparison with the plain run.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::expect::{Miss, misses};
use super::file::Scenario;
use super::ground::{Embedding, Ground};
use super::seen::{Course, Seen};
use super::world::{Moment, Regime, RunError, World};
use crate::diagnostic::Problems;
use crate::domain::id::NodeId;
use crate::pipeline::{self, Declarations};

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub seen: Seen,
    /// What was missed.
    pub misses: Vec<Miss>,
}

/// The declarations of a scenario: the given ones with its patch.
///
/// # Errors
/// What the patch breaks.
pub fn declarations(
    scenario: &Scenario,
    topics: (&str, &str),
    pipelines: (&str, &str),
) -> Result<Arc<Declarations>, Problems> {
    let Some(patch) = &scenario.pipeline else {
        return pipeline::load(topics, pipelines).map(Arc::new);
    };
    let text = pipeline::with_overrides(pipelines.0, pipelines.1, patch)?;
    pipeline::load(topics, (pipelines.0, &text)).map(Arc::new)
}

/// Names in the expectations that nobody has: an expectation about them could not fail, or not hold.
fn unknown(scenario: &Scenario, declarations: &Declarations) -> Vec<String> {
    const STATES: [&str; 10] = [
        "waiting",
        "dispatched",
        "running",
        "succeeded",
        "failed",
        "exhausted",
        "skipped",
        "expired",
        "open",
        "closed",
    ];
    let mut found = Vec::new();
    let ids: BTreeSet<&str> = scenario.timeline.iter().filter_map(|step| step.value.id.as_deref()).collect();
    let is_node = |node: &NodeId| declarations.pipelines.values().any(|pipeline| pipeline.graph.node(node).is_some());
    for node in scenario.history.iter().flat_map(|past| past.nodes.keys()).filter(|node| !is_node(node)) {
        found.push(format!("history: there is no node `{node}`"));
    }
    for spanned in scenario.follows.iter().filter(|follow| !is_node(&follow.value.node)) {
        found.push(format!("line {}: there is no node `{}`", spanned.referenced.line(), spanned.value.node));
    }
    for spanned in &scenario.expect {
        let line = spanned.referenced.line();
        let wanted = &spanned.value;
        let forbidden = wanted.never.as_ref().and_then(|never| never.dispatch.as_ref());
        let nodes = wanted.dispatch.iter().chain(forbidden).filter_map(|dispatch| dispatch.node.as_ref());
        for node in nodes.chain(wanted.state.as_ref().map(|state| &state.node)).filter(|node| !is_node(node)) {
            found.push(format!("line {line}: there is no node `{node}`"));
        }
        if let Some(state) = wanted.state.as_ref().filter(|state| !STATES.contains(&state.is.as_str())) {
            found.push(format!("line {line}: `{}` is no state; write one of {}", state.is, STATES.join(", ")));
        }
        if let Some(settled) = &wanted.settled {
            if !ids.contains(settled.message.as_str()) {
                found.push(format!("line {line}: no step has the id `{}`", settled.message));
            }
            if !matches!(settled.r#as.as_str(), "ack" | "nack") && !settled.r#as.starts_with("park:") {
                found.push(format!("line {line}: `{}` is none of ack, nack, park:SLUG", settled.r#as));
            }
        }
        let severity = wanted.alert.as_ref().and_then(|alert| alert.severity.as_deref());
        if let Some(severity) = severity.filter(|word| !matches!(*word, "info" | "warning" | "critical")) {
            found.push(format!("line {line}: `{severity}` is none of info, warning, critical"));
        }
    }
    found
}

/// Runs it, and says what was missed.
///
/// # Errors
/// If it cannot be carried out.
pub async fn run(
    scenario: &Scenario,
    declarations: &Arc<Declarations>,
    regime: Regime,
    watch: impl FnMut(&Moment<'_>),
) -> Result<Report, RunError> {
    let ground = embedding(declarations)?;
    run_on(ground, scenario, declarations, regime, watch).await
}

/// The embedded store and bus, empty.
///
/// # Errors
/// If their directory cannot be made.
pub fn embedding(declarations: &Declarations) -> Result<Box<dyn Ground>, RunError> {
    let embedding = Embedding::new(&declarations.topology).map_err(|error| RunError::Open(error.to_string()))?;
    Ok(Box::new(embedding))
}

/// The same on another store and bus. Under a regime it has to send what the plain run on the embedded ones sends.
///
/// # Errors
/// If it cannot be carried out.
pub async fn run_on(
    ground: Box<dyn Ground>,
    scenario: &Scenario,
    declarations: &Arc<Declarations>,
    regime: Regime,
    watch: impl FnMut(&Moment<'_>),
) -> Result<Report, RunError> {
    let unknown = unknown(scenario, declarations);
    if !unknown.is_empty() {
        return Err(RunError::File(unknown.join("\n")));
    }
    let plain = match regime {
        Regime::Plain => None,
        _ => Some(plainly(scenario, declarations).await?),
    };
    run_beside(ground, scenario, declarations, (regime, plain.as_ref()), watch).await
}

/// What the plain run on the embedded store and bus sends, which is what every other run has to send.
///
/// # Errors
/// If it cannot be carried out.
pub async fn plainly(scenario: &Scenario, declarations: &Arc<Declarations>) -> Result<Course, RunError> {
    let ground = embedding(declarations)?;
    let seen = World::new(scenario, Arc::clone(declarations), Regime::Plain, ground).await?.play(|_| {}).await?;
    Ok(seen.course(seen.ended))
}

/// Runs it under a regime, beside the plain run where that is known: what that sent has to be sent, and until it ended
/// nothing else.
///
/// # Errors
/// If it cannot be carried out.
pub async fn run_beside(
    ground: Box<dyn Ground>,
    scenario: &Scenario,
    declarations: &Arc<Declarations>,
    (regime, plain): (Regime, Option<&Course>),
    watch: impl FnMut(&Moment<'_>),
) -> Result<Report, RunError> {
    let seen = World::new(scenario, Arc::clone(declarations), regime, ground).await?.play(watch).await?;
    let mut misses = misses(scenario, &seen, regime);
    if let Some(there) = plain {
        let (all, meanwhile) = (seen.course(seen.ended).dispatches, seen.course(there.ended).dispatches);
        let lost: Vec<String> = there.dispatches.difference(&all).map(ToString::to_string).collect();
        let new: Vec<String> = meanwhile.difference(&there.dispatches).map(ToString::to_string).collect();
        if !lost.is_empty() || !new.is_empty() {
            let text = format!("{regime:?} gives other dispatches: lost {lost:?}, new {new:?}");
            misses.push(Miss { line: 1, text });
        }
    }
    Ok(Report { seen, misses })
}
