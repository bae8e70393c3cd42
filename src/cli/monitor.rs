//! `coverage`, `rosters`, `health`: the questions of the daily monitors, with the answers that a running service gives.
//!
//! They only read, and raise no alert.

use clap::Args;
use serde_json::json;

use super::backend::Access;
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict};
use crate::domain::effect::Severity;
use crate::domain::id::PartitionKey;
use crate::engine::Engine;
use crate::engine::monitor::Error;
use crate::monitor::coverage::{Coverage, Mode, Status};
use crate::monitor::health::Health;
use crate::monitor::rosters::Rosters;

/// `tipoff coverage [DATE]`
#[derive(Args)]
pub struct GameCoverage {
    /// Which date
    #[arg(default_value = "today")]
    date: String,
}

/// `tipoff rosters [--date DATE]`
#[derive(Args)]
pub struct RosterCoverage {
    /// For which date
    #[arg(long, default_value = "today")]
    date: String,
}

/// `tipoff health [DATE]`
#[derive(Args)]
pub struct PipelineHealth {
    /// Which date
    #[arg(default_value = "yesterday")]
    date: String,
}

/// An engine at the store, and the date that a word means.
pub(super) async fn open(common: &Common, date: &str) -> Result<(Engine, PartitionKey), Fault> {
    let whole = Whole::open(common, Access::Read).await?;
    let key = whole.key(date)?;
    Ok((whole.engine, key))
}

fn fault(error: Error) -> Fault {
    match error {
        Error::NoPipeline(_) | Error::Undeclared(..) => Fault::usage(error),
        Error::NotKept(..) | Error::Unanswered(_) | Error::Unreadable(_) | Error::Store(_) | Error::Untold(_) => {
            Fault::unusable(error)
        }
    }
}

fn verdict(has_issues: bool) -> Verdict {
    if has_issues { Verdict::Fails } else { Verdict::Holds }
}

impl GameCoverage {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let (engine, key) = open(common, &self.date).await?;
        let coverage = engine.game_coverage(&key).await.map_err(fault)?;
        if common.json {
            say!("{}", coverage.answer(Mode::Dry));
        } else {
            games(&key, &coverage, Paint::stdout());
        }
        Ok(verdict(!coverage.issues().is_empty()))
    }
}

fn games(key: &PartitionKey, coverage: &Coverage, paint: Paint) {
    let count = coverage.games().len();
    let summary = match (count, coverage.issues().len()) {
        (0, _) => "no games".to_owned(),
        (_, 0) => "every game is predicted".to_owned(),
        (_, issues) => paint.bad(&format!("{issues} of {count} games have too few predictions")),
    };
    say!("{}: {summary}", paint.strong(&key.to_string()));
    if count > 0 {
        say!("{}", paint.dim("  game     players  predictions  features  ready"));
    }
    for game in coverage.games() {
        let status = match game.status {
            Status::Ok => paint.dim(game.status.as_str()),
            Status::LowCoverage | Status::NoPredictions => paint.bad(game.status.as_str()),
        };
        say!(
            "  {:<8} {:>7}  {:>11}  {:>8}  {:>5}  {status}",
            game.matchup,
            game.player_count,
            game.prediction_count,
            game.feature_count,
            game.production_ready_count
        );
    }
    if !coverage.not_played().is_empty() {
        say!("  {}", paint.dim(&format!("not played on this date: {}", coverage.not_played().join(", "))));
    }
}

impl RosterCoverage {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let (engine, key) = open(common, &self.date).await?;
        let rosters = engine.roster_coverage(&key).await.map_err(fault)?;
        if common.json {
            say!("{}", json!(rosters));
        } else {
            teams(&key, &rosters, Paint::stdout());
        }
        Ok(verdict(!rosters.issues().is_empty()))
    }
}

fn teams(key: &PartitionKey, rosters: &Rosters, paint: Paint) {
    let summary = rosters.summary();
    say!(
        "{}: {} of {} teams have a roster, {} of them a current one; {} play",
        paint.strong(&key.to_string()),
        summary.teams_with_data,
        summary.expected_teams,
        summary.teams_current,
        summary.teams_playing_today
    );
    for issue in rosters.issues() {
        let word = issue.severity.as_str();
        let severity = match issue.severity {
            Severity::Critical => paint.bad(&format!("{word:<8}")),
            Severity::Warning | Severity::Info => paint.strong(&format!("{word:<8}")),
        };
        say!("  {severity} {}", issue.message);
    }
    if let Some(oldest) = rosters.freshness().values().map(|fresh| fresh.latest_roster).min() {
        say!("{}", paint.dim(&format!("  the oldest of the newest rosters is of {oldest}")));
    }
}

impl PipelineHealth {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let (engine, key) = open(common, &self.date).await?;
        let health = engine.pipeline_health(&key).await.map_err(fault)?;
        if common.json {
            say!("{}", json!(health));
        } else {
            phases(&key, &health, Paint::stdout());
        }
        Ok(verdict(health.has_issues()))
    }
}

fn phases(key: &PartitionKey, health: &Health, paint: Paint) {
    let quality = if health.quality() == "GOLD" { health.quality().to_owned() } else { paint.bad(health.quality()) };
    say!("{}: {quality}, {} failed executions", paint.strong(&key.to_string()), health.gaps());
    for (name, phase) in health.phases() {
        let status = format!("{:<12}", phase.status);
        let status = if phase.status == "success" { paint.dim(&status) } else { paint.bad(&status) };
        say!("  {name:<22} {status} {:>2} of {:>2}  {} rows", phase.complete, phase.total, phase.records_processed);
    }
    let rosters = health.rosters();
    say!(
        "  rosters: {}; {} current, {} stale, {} critical, {} days at most",
        rosters.status,
        rosters.teams_current,
        rosters.teams_stale,
        rosters.teams_critical,
        rosters.max_age_days
    );
}
