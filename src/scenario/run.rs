//! One scenario under one regime, and the comparison with the plain run.

use std::sync::Arc;

use super::expect::{Miss, misses};
use super::file::Scenario;
use super::world::{Moment, Regime, RunError, Seen, World};
use crate::diagnostic::Problems;
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
    let seen = World::new(scenario, Arc::clone(declarations), regime)?.play(watch).await?;
    let mut misses = misses(scenario, &seen, regime);
    if regime != Regime::Plain {
        let plain = World::new(scenario, Arc::clone(declarations), Regime::Plain)?.play(|_| {}).await?;
        let (here, there) = (seen.dispatches(), plain.dispatches());
        let lost: Vec<String> = there.difference(&here).map(ToString::to_string).collect();
        let new: Vec<String> = here.difference(&there).map(ToString::to_string).collect();
        if !lost.is_empty() || !new.is_empty() {
            let text = format!("{regime:?} gives other dispatches: lost {lost:?}, new {new:?}");
            misses.push(Miss { line: 1, text });
        }
    }
    Ok(Report { seen, misses })
}
