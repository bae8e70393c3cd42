//! Is every game of a date predicted?

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};

use super::isoformat;
use crate::domain::effect::{About, Alert, Severity, Turn};
use crate::domain::event;
use crate::domain::id::{AlertKey, PartitionKey, UnitId};
use crate::wire::report::GameCoverage;

/// When a game is predicted well enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Players with a prediction that a game has at least.
    pub players_min: u32,
}

/// What a date's games have, in the members of the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Coverage {
    date: Date,
    game_count: usize,
    total_players: u64,
    total_predictions: u64,
    has_issues: bool,
    checked_at: String,
    games: Vec<Game>,
    issues: Vec<Game>,
    /// Games that are listed for the date and not played on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_played: Vec<String>,
    #[serde(skip)]
    players_min: u32,
}

/// One game that is played.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Game {
    /// The schedule's own id, where it is told.
    pub game_id: Option<String>,
    /// Its name in every other table.
    pub pred_game_id: UnitId,
    /// `AWAY@HOME`.
    pub matchup: String,
    /// Players of whom a prediction is shown.
    pub player_count: u32,
    /// Predictions that are shown.
    pub prediction_count: u32,
    /// Rows of the feature store.
    pub feature_count: u32,
    /// Those of them that are good enough to be used.
    pub production_ready_count: u32,
    /// The verdict.
    pub status: Status,
}

/// The verdict on a game.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Enough players.
    Ok,
    /// Too few.
    LowCoverage,
    /// None.
    NoPredictions,
}

impl Status {
    /// The word in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::LowCoverage => "LOW_COVERAGE",
            Self::NoPredictions => "NO_PREDICTIONS",
        }
    }
}

/// Whether somebody is told of what is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Nobody: nothing is changed.
    Dry,
    /// An alert is raised, or resolved.
    Alert,
}

/// Judges the games of a date. Where the schedule is known, a game that it has and nothing is `told` of has no
/// predictions, and one that is postponed or has moved is no issue, whatever is predicted of it.
pub fn judge(
    date: Date,
    told: &BTreeMap<UnitId, GameCoverage>,
    schedule: Option<&BTreeMap<UnitId, event::Game>>,
    limits: Limits,
    now: Timestamp,
) -> Coverage {
    let listed = |unit: &UnitId| schedule.and_then(|games| games.get(unit));
    let is_played = |unit: &UnitId| listed(unit).is_none_or(|game| game.status.is_played());
    let untold = schedule.into_iter().flatten().filter(|(unit, _)| !told.contains_key(*unit));
    let all = told.iter().map(|(unit, told)| (unit, Some(told))).chain(untold.map(|(unit, _)| (unit, None)));
    let (played, called_off): (Vec<_>, Vec<_>) = all.partition(|(unit, _)| is_played(unit));
    let mut games: Vec<Game> = played.into_iter().map(|(unit, told)| game(unit, told, listed(unit), limits)).collect();
    games.sort_by(|a, b| (&a.game_id, &a.pred_game_id).cmp(&(&b.game_id, &b.pred_game_id)));
    let issues: Vec<Game> = games.iter().filter(|game| game.status != Status::Ok).cloned().collect();
    let sum = |count: fn(&Game) -> u32| games.iter().map(|game| u64::from(count(game))).sum();
    Coverage {
        date,
        game_count: games.len(),
        total_players: sum(|game| game.player_count),
        total_predictions: sum(|game| game.prediction_count),
        has_issues: !issues.is_empty(),
        checked_at: isoformat(now),
        issues,
        not_played: called_off.into_iter().map(|(unit, _)| matchup(unit)).collect(),
        players_min: limits.players_min,
        games,
    }
}

fn game(unit: &UnitId, told: Option<&GameCoverage>, listed: Option<&event::Game>, limits: Limits) -> Game {
    let count = |count: fn(&GameCoverage) -> u32| told.map_or(0, count);
    let player_count = count(|told| told.players);
    Game {
        game_id: told.and_then(|told| told.game_id.clone()).or_else(|| listed?.id.as_ref().map(ToString::to_string)),
        pred_game_id: unit.clone(),
        matchup: matchup(unit),
        player_count,
        prediction_count: count(|told| told.predictions),
        feature_count: count(|told| told.features),
        production_ready_count: count(|told| told.production_ready),
        status: match player_count {
            0 => Status::NoPredictions,
            few if few < limits.players_min => Status::LowCoverage,
            _ => Status::Ok,
        },
    }
}

/// `AWAY@HOME` out of `YYYYMMDD_AWAY_HOME`.
fn matchup(unit: &UnitId) -> String {
    let mut parts = unit.as_str().splitn(3, '_').skip(1);
    match (parts.next(), parts.next()) {
        (Some(away), Some(home)) => format!("{away}@{home}"),
        _ => unit.to_string(),
    }
}

impl Coverage {
    /// The games that are played, in the schedule's order.
    pub fn games(&self) -> &[Game] {
        &self.games
    }

    /// Those of them with too few players.
    pub fn issues(&self) -> &[Game] {
        &self.issues
    }

    /// Games that are listed and not played on the date, as `AWAY@HOME`.
    pub fn not_played(&self) -> &[String] {
        &self.not_played
    }

    /// The answer to whoever asked in `mode`.
    pub fn answer(&self, mode: Mode) -> Value {
        let date = self.date;
        let status = match mode {
            _ if self.games.is_empty() => return json!({ "status": "no_games", "date": date }),
            _ if self.issues.is_empty() => {
                return json!({ "status": "ok", "date": date, "games_count": self.game_count, "coverage": self });
            }
            Mode::Dry => "alert_skipped_dry_run",
            Mode::Alert => "alert_sent",
        };
        json!({ "status": status, "date": date, "issues_count": self.issues.len(), "coverage": self })
    }

    /// What is to be told: that games lack predictions, or that none does.
    pub fn alert(&self, key: &PartitionKey, now: Timestamp) -> Alert {
        let alert =
            |severity, turn, text| Alert::new(alert_key(key), severity, turn, text, now).about(About::date(key));
        if self.issues.is_empty() {
            let text = format!("{key}: every game has {} players or more predicted", self.players_min);
            return alert(Severity::Warning, Turn::Resolved, text);
        }
        let none = self.issues.iter().any(|game| game.status == Status::NoPredictions);
        let severity = if none { Severity::Critical } else { Severity::Warning };
        let games: Vec<String> =
            self.issues.iter().map(|game| format!("{} ({})", game.matchup, game.player_count)).collect();
        let text = format!("{key}: fewer than {} players are predicted for {}", self.players_min, games.join(", "));
        alert(severity, Turn::Raised, text)
    }
}

/// The alert about a date whose games are asked about.
fn alert_key(key: &PartitionKey) -> AlertKey {
    AlertKey::new(format!("coverage-check:{key}"))
}

#[cfg(test)]
mod tests {
    use crate::domain::event::GameStatus;

    use super::*;

    fn told(players: u32) -> GameCoverage {
        GameCoverage {
            game_id: None,
            away: String::new(),
            home: String::new(),
            players,
            predictions: players * 5,
            features: 0,
            production_ready: 0,
        }
    }

    #[test]
    fn a_game_that_is_not_played_is_no_issue_and_one_that_nobody_predicts_is() {
        // Eight players are enough, seven are not.
        let date = jiff::civil::date(2026, 1, 24);
        let names =
            ["20260124_BOS_CHI", "20260124_CLE_ORL", "20260124_GSW_MIN", "20260124_LAL_DAL", "20260124_NYK_PHI"];
        let of = [Some(8), Some(7), Some(0), Some(5), None];
        let statuses =
            [GameStatus::Live, GameStatus::Final, GameStatus::Scheduled, GameStatus::Moved, GameStatus::Scheduled];
        let told = names.iter().zip(of).filter_map(|(name, players)| Some(((*name).into(), told(players?)))).collect();
        let schedule: BTreeMap<UnitId, event::Game> = names
            .iter()
            .zip(statuses)
            .map(|(name, status)| ((*name).into(), event::Game { tip: None, status, id: None }))
            .collect();
        let now = "2026-01-24T22:00:00Z".parse().unwrap();
        let limits = Limits { players_min: 8 };
        let judged = judge(date, &told, Some(&schedule), limits, now);
        let verdicts: Vec<_> = judged.games.iter().map(|game| (game.matchup.as_str(), game.status.as_str())).collect();
        let expected = [
            ("BOS@CHI", "OK"),
            ("CLE@ORL", "LOW_COVERAGE"),
            ("GSW@MIN", "NO_PREDICTIONS"),
            ("NYK@PHI", "NO_PREDICTIONS"),
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(judged.not_played, ["LAL@DAL"]);
        let alert = judged.alert(&PartitionKey::new("nba", date), now);
        assert_eq!((alert.key.as_str(), alert.severity), ("coverage-check:nba/2026-01-24", Severity::Critical));
        assert!(alert.text.ends_with("fewer than 8 players are predicted for CLE@ORL (7), GSW@MIN (0), NYK@PHI (0)"));
        assert_eq!(judged.answer(Mode::Dry)["status"], "alert_skipped_dry_run");

        let off = schedule
            .keys()
            .map(|unit| (unit.clone(), event::Game { tip: None, status: GameStatus::Postponed, id: None }));
        let judged = judge(date, &told, Some(&off.collect()), limits, now);
        assert_eq!(judged.answer(Mode::Alert), json!({ "status": "no_games", "date": "2026-01-24" }));
    }
}
