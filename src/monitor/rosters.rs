//! How new is the roster of every team, measured against the date asked about?

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::isoformat;
use crate::domain::effect::Severity;
use crate::wire::report::RosterAge;

/// The age of a roster that there is none of, in days: what the answer has always said.
const AGE_OF_NONE: i32 = 999;

/// When a roster is new enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The teams that should have one.
    pub teams: BTreeSet<String>,
    /// Older than so many days is worth a warning.
    pub warning_days: i32,
    /// Older than so many days, a person must act.
    pub critical_days: i32,
    /// The same for a team that plays on the date.
    pub game_day_days: i32,
}

/// How new the rosters are, in the members of the answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Rosters {
    check_date: Date,
    timestamp: String,
    summary: Summary,
    thresholds: Thresholds,
    roster_freshness: BTreeMap<String, Freshness>,
    issues: Vec<Issue>,
    has_critical_issues: bool,
    has_warning_issues: bool,
}

/// Teams by the age of their rosters.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// That should have one.
    pub expected_teams: usize,
    /// That have one at all.
    pub teams_with_data: usize,
    /// Whose roster is new enough on any day.
    pub teams_current: usize,
    /// Whose is not; the critical ones included.
    pub teams_stale: usize,
    /// Whose roster is so old that a person must act.
    pub teams_critical: usize,
    /// That play on the date.
    pub teams_playing_today: usize,
    /// Those with one of those expected, in percent with one decimal. For display; nothing is decided by it.
    pub coverage_pct: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
struct Thresholds {
    warning_days: i32,
    critical_days: i32,
    game_day_days: i32,
}

/// A team's newest roster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Freshness {
    /// Its day.
    pub latest_roster: Date,
    /// Days from then to the date asked about.
    pub age_days: i32,
    /// Players on the team's rosters.
    pub player_count: u32,
}

/// A roster that is too old, or missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Issue {
    /// Whose.
    pub team: String,
    /// The day of its newest roster.
    pub latest_roster_date: Option<Date>,
    /// Its age; 999 where there is none.
    pub age_days: i32,
    /// Whether the team plays on the date.
    pub is_playing_today: bool,
    /// How bad it is.
    pub severity: Severity,
    /// In words.
    pub message: String,
}

/// Judges the rosters of a league for `date`.
pub fn judge(date: Date, told: &BTreeMap<String, RosterAge>, limits: &Limits, now: Timestamp) -> Rosters {
    let age = |latest: Date| (date - latest).get_days();
    let fresh: BTreeMap<String, Freshness> = told
        .iter()
        .filter_map(|(team, told)| {
            let latest_roster = told.latest?;
            let age_days = age(latest_roster);
            Some((team.clone(), Freshness { latest_roster, age_days, player_count: told.players }))
        })
        .collect();
    let plays = |team: &String| told.get(team).is_some_and(|told| told.is_playing);
    let teams: BTreeSet<&String> = limits.teams.iter().chain(told.keys()).collect();
    let mut issues: Vec<Issue> =
        teams.into_iter().filter_map(|team| issue(team, fresh.get(team), plays(team), limits)).collect();
    issues.sort_by_key(|issue| (std::cmp::Reverse((issue.severity, issue.age_days)), issue.team.clone()));
    let older = |days: i32| fresh.values().filter(|fresh| fresh.age_days > days).count();
    let has = |severity| issues.iter().any(|issue| issue.severity == severity);
    Rosters {
        check_date: date,
        timestamp: isoformat(now),
        summary: Summary {
            expected_teams: limits.teams.len(),
            teams_with_data: fresh.len(),
            teams_current: fresh.len() - older(limits.warning_days),
            teams_stale: older(limits.warning_days),
            teams_critical: older(limits.critical_days),
            teams_playing_today: told.values().filter(|told| told.is_playing).count(),
            coverage_pct: percent(fresh.len(), limits.teams.len()),
        },
        thresholds: Thresholds {
            warning_days: limits.warning_days,
            critical_days: limits.critical_days,
            game_day_days: limits.game_day_days,
        },
        has_critical_issues: has(Severity::Critical),
        has_warning_issues: has(Severity::Warning),
        roster_freshness: fresh,
        issues,
    }
}

fn issue(team: &str, fresh: Option<&Freshness>, plays: bool, limits: &Limits) -> Option<Issue> {
    let (severity, message) = match fresh.map(|fresh| fresh.age_days) {
        None => (Severity::Critical, format!("Team {team} has NO roster data in past 90 days!")),
        Some(age) if plays && age > limits.game_day_days => (
            Severity::Critical,
            format!("Team {team} playing today has stale roster ({age} days old). Predictions may be incomplete!"),
        ),
        Some(age) if age > limits.critical_days => {
            (Severity::Critical, format!("Team {team} roster is critically stale ({age} days old)"))
        }
        Some(age) if age > limits.warning_days => {
            (Severity::Warning, format!("Team {team} roster is stale ({age} days old)"))
        }
        Some(_) => return None,
    };
    Some(Issue {
        team: team.to_owned(),
        latest_roster_date: fresh.map(|fresh| fresh.latest_roster),
        age_days: fresh.map_or(AGE_OF_NONE, |fresh| fresh.age_days),
        is_playing_today: plays,
        severity,
        message,
    })
}

/// So many of so many in percent, with one decimal.
fn percent(part: usize, whole: usize) -> f64 {
    let thousandths = (part * 1000 + whole / 2).checked_div(whole).unwrap_or(0);
    u32::try_from(thousandths).map_or(0.0, |thousandths| f64::from(thousandths) / 10.0)
}

impl Rosters {
    /// Teams by the age of their rosters.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The newest roster of each team that has one.
    pub fn freshness(&self) -> &BTreeMap<String, Freshness> {
        &self.roster_freshness
    }

    /// What is wrong, worst and oldest first.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_roster_is_as_old_as_the_date_says_and_a_playing_teams_must_be_newer() {
        // 23 January 2026: on the day of a game two days are allowed, else five, and none at all is the worst.
        let day = date(2026, 1, 23);
        let told = |latest: Option<Date>, is_playing| RosterAge { latest, players: 15, is_playing };
        let days = |back: i8| Some(date(2026, 1, 23 - back));
        let teams = [
            ("BOS", told(days(2), true)),
            ("DEN", told(days(3), true)),
            ("LAL", told(days(3), false)),
            ("MIA", told(days(5), false)),
            ("POR", told(days(9), true)),
            ("SAC", told(days(6), false)),
            ("TOR", told(None, true)),
        ];
        let teams: BTreeMap<String, RosterAge> = teams.into_iter().map(|(team, told)| (team.into(), told)).collect();
        let expected = teams.keys().cloned().chain(["UTA".into()]).collect();
        let limits = Limits { teams: expected, warning_days: 3, critical_days: 5, game_day_days: 2 };
        let judged = judge(day, &teams, &limits, "2026-01-23T12:00:00Z".parse().unwrap());
        let issues: Vec<_> =
            judged.issues.iter().map(|issue| (issue.team.as_str(), issue.age_days, issue.severity.as_str())).collect();
        let worst = [("TOR", 999), ("UTA", 999), ("POR", 9), ("SAC", 6), ("DEN", 3)];
        let worst = worst.map(|(team, age)| (team, age, "critical"));
        assert_eq!(issues, [&worst[..], &[("MIA", 5, "warning")]].concat());
        let summary = json!({
            "expected_teams": 8, "teams_with_data": 6, "teams_current": 3, "teams_stale": 3, "teams_critical": 2,
            "teams_playing_today": 4, "coverage_pct": 75.0,
        });
        assert_eq!(json!(judged)["summary"], summary);
        assert_eq!(
            json!(judged)["roster_freshness"]["POR"],
            json!({ "latest_roster": "2026-01-14", "age_days": 9, "player_count": 15 })
        );
        assert_eq!([percent(29, 30), percent(30, 30), percent(0, 0)], [96.7, 100.0, 0.0]);
    }
}
