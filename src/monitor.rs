//! What the pipeline's people ask every day: is every game predicted, is anybody silent, is the day whole, are rosters
//! new?
//!
//! Each question is a pure function of what was read and of the instant handed in, and answers in the JSON that the
//! pipeline's own monitors gave, so that the calls and scripts of today keep working. Nothing here reads anything or
//! tells anybody; thresholds come from `pipeline.yaml`.

pub mod coverage;
pub mod health;
pub mod rosters;
pub mod silence;

use jiff::Timestamp;

/// What a pipeline declares under `monitors`. A monitor that is not declared has nothing to say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// When a game is predicted well enough.
    pub game_coverage: Option<coverage::Limits>,
    /// When a roster is new enough.
    pub roster_coverage: Option<rosters::Limits>,
    /// The phases of a day in their order; none where nothing is declared.
    pub pipeline_health: Vec<health::Phase>,
}

/// An instant as Python writes it, to the second: `2026-01-24T22:00:00+00:00`.
fn isoformat(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}
