//! What does a pipeline say under `monitors`? Thresholds and expectations of [`crate::monitor`].

use std::collections::BTreeSet;

use crate::diagnostic::{Found, Report, Table};
use crate::monitor::{Settings, coverage, health, rosters};

use super::read::{count, days};

/// A phase as written, and where.
pub(super) type DraftPhase = (Found<String>, u32);

/// Reads the section; the labels of its phases are compared with the nodes later.
pub(super) fn monitors(mut table: Table, report: &mut Report) -> (Settings, Vec<DraftPhase>) {
    let game_coverage = table.table("game_coverage", report).and_then(|mut table| {
        table.require("players_min", report);
        let players_min = count(&mut table, "players_min", report);
        table.finish(report);
        Some(coverage::Limits { players_min: players_min? })
    });
    let roster_coverage = table.table("roster_coverage", report).and_then(|table| roster_coverage(table, report));
    let phases = table.tables("pipeline_health", report).into_iter().filter_map(|mut table| {
        let phase = table.required_text("phase", report);
        table.require("expected", report);
        let expected = count(&mut table, "expected", report);
        table.finish(report);
        Some((phase?, expected?))
    });
    let phases: Vec<DraftPhase> = phases.collect();
    table.finish(report);
    let pipeline_health =
        phases.iter().map(|(label, expected)| health::Phase { label: label.value.clone(), expected: *expected });
    let pipeline_health = pipeline_health.collect();
    (Settings { game_coverage, roster_coverage, pipeline_health }, phases)
}

fn roster_coverage(mut table: Table, report: &mut Report) -> Option<rosters::Limits> {
    for key in ["teams", "warning_after", "critical_after", "game_day_after"] {
        table.require(key, report);
    }
    let place = table.place().clone();
    let mut teams = BTreeSet::new();
    for team in table.texts("teams", report) {
        if !teams.insert(team.value.clone()) {
            report.at(&team.place, format!("`{}` is named twice", team.value));
        }
    }
    let warning = days(&mut table, "warning_after", report);
    let critical = days(&mut table, "critical_after", report);
    let game_day = days(&mut table, "game_day_after", report);
    table.finish(report);
    let (warning_days, critical_days, game_day_days) = (warning?, critical?, game_day?);
    if critical_days < warning_days {
        report.at(&place, "critical_after is shorter than warning_after");
    }
    Some(rosters::Limits { teams, warning_days, critical_days, game_day_days })
}
