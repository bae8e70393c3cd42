//! Did the day's processors do their work, phase by phase?
//!
//! The answer has always counted processors by what they said of themselves; here they are counted by what is known of
//! their output, so a processor that failed and was made up for is complete.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Serialize;

use crate::domain::evidence::Extant;
use crate::domain::graph::{self, Graph, Kind};
use crate::domain::id::NodeId;
use crate::domain::partition::{End, Partition, State};
use crate::wire::report::RosterAge;

use super::rosters;

/// A phase of the day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Phase {
    /// The label of its nodes.
    pub label: String,
    /// Processors that are done when it is.
    pub expected: u32,
}

/// How a day went, in the members of the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Health {
    status: &'static str,
    date: Date,
    phases: BTreeMap<String, Counted>,
    data_quality: &'static str,
    gaps_detected: u32,
    records_processed: u64,
    roster_coverage: RosterCoverage,
}

/// A phase's processors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Counted {
    /// That have an output, whole or in part.
    pub complete: u32,
    /// That should have one.
    pub total: u32,
    /// `success`, `partial`, `failed` or `not_started`.
    pub status: &'static str,
    /// Rows that they say they have written.
    pub records_processed: u64,
}

/// The rosters of the league in short.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RosterCoverage {
    /// Teams that have one.
    pub total_teams: usize,
    /// Teams whose roster is new enough.
    pub teams_current: usize,
    /// Teams whose roster is worth a warning.
    pub teams_stale: usize,
    /// Teams whose roster is worse.
    pub teams_critical: usize,
    /// The oldest of the newest rosters, in days.
    pub max_age_days: i32,
    /// `ok`, `warning`, `critical`; `unknown` where teams are missing, `error` where the warehouse could not tell.
    pub status: &'static str,
}

/// What is known of the rosters.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// By team.
    Rosters(&'a BTreeMap<String, RosterAge>, &'a rosters::Limits),
    /// Nobody keeps it.
    Nothing,
    /// The warehouse could not tell.
    Unanswered,
}

/// Judges a date. On a date without games nothing is expected.
pub fn judge(graph: &Graph, partition: &Partition, phases: &[Phase], rosters: Told<'_>) -> Health {
    let mut counted = BTreeMap::new();
    let mut gaps_detected = 0;
    for (index, phase) in phases.iter().enumerate() {
        let processors = processors(graph, &phase.label);
        let (phase, gaps) = count(graph, &processors, partition, phase.expected);
        gaps_detected += gaps;
        counted.insert(name(index, &phases[index].label), phase);
    }
    let all = |status: &str| counted.values().all(|phase| phase.status == status);
    let any = |status: &str| counted.values().any(|phase| phase.status == status);
    let data_quality = match () {
        () if all("success") => "GOLD",
        () if any("failed") => "BRONZE",
        () if any("partial") => "SILVER",
        () => "UNKNOWN",
    };
    Health {
        status: "success",
        date: partition.key.date,
        data_quality,
        gaps_detected,
        records_processed: total(counted.values().map(|phase| phase.records_processed)),
        phases: counted,
        roster_coverage: roster_coverage(partition.key.date, rosters),
    }
}

/// All of them, or as many as can be counted: what producers say is theirs.
fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// `Phase 3 (Analytics)`.
fn name(index: usize, label: &str) -> String {
    let mut letters = label.chars();
    let label: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    format!("Phase {} ({label})", index + 1)
}

/// The processors of a phase, each with its passes.
fn processors<'a>(graph: &'a Graph, label: &str) -> BTreeMap<&'a NodeId, Vec<&'a graph::Node>> {
    let mut processors: BTreeMap<&NodeId, Vec<&graph::Node>> = BTreeMap::new();
    for node in graph.nodes.values().filter(|node| node.phase == label && !matches!(node.kind, Kind::Gate(_))) {
        let first = graph.family(&node.id).first().unwrap_or(&node.id);
        processors.entry(first).or_default().push(node);
    }
    processors
}

/// How far a phase is, and how many of its executions failed.
fn count(
    graph: &Graph,
    processors: &BTreeMap<&NodeId, Vec<&graph::Node>>,
    partition: &Partition,
    expected: u32,
) -> (Counted, u32) {
    let (mut complete, mut failed, mut spared, mut gaps, mut records_processed) = (0, 0, 0, 0, 0_u64);
    for passes in processors.values() {
        let known: Vec<_> = passes.iter().map(|node| partition.node(&node.id)).collect();
        let done = known.iter().any(|node| match node.evidence.extant() {
            Extant::Claimed | Extant::Unknown => node.evidence.claim.is_some(),
            Extant::Known(coverage) => coverage.observed() > 0,
            Extant::Nothing => false,
        });
        let lost = known.iter().flat_map(|node| node.ended.values()).filter(|ended| ended.how != End::Done).count();
        let lost = u32::try_from(lost).unwrap_or(u32::MAX);
        let failing =
            lost > 0 || known.iter().any(|node| matches!(node.state, State::Failed { .. } | State::Exhausted { .. }));
        complete += u32::from(done);
        failed += u32::from(!done && failing);
        spared += u32::from(!done && known.iter().all(|node| matches!(node.state, State::Skipped { .. })));
        gaps += lost;
        let claims = known.iter().filter_map(|node| node.evidence.claim.as_ref());
        records_processed = records_processed.saturating_add(total(claims.filter_map(|claim| claim.records)));
    }
    let total = if partition.has_no_games(&graph.calendar) { 0 } else { expected.saturating_sub(spared) };
    let status = match () {
        () if complete >= total => "success",
        () if complete > 0 => "partial",
        () if failed > 0 => "failed",
        () => "not_started",
    };
    (Counted { complete, total, status, records_processed }, gaps)
}

fn roster_coverage(date: Date, told: Told<'_>) -> RosterCoverage {
    let (teams, limits) = match told {
        Told::Rosters(teams, limits) => (teams, limits),
        Told::Nothing => return RosterCoverage { status: "unknown", ..RosterCoverage::default() },
        Told::Unanswered => return RosterCoverage { status: "error", ..RosterCoverage::default() },
    };
    let ages: Vec<i32> =
        teams.values().filter_map(|team| team.latest).map(|latest| (date - latest).get_days()).collect();
    let within = |from: i32, to: i32| ages.iter().filter(|age| (from..=to).contains(*age)).count();
    let teams_stale = within(limits.warning_days + 1, limits.critical_days);
    let teams_critical = within(limits.critical_days + 1, i32::MAX);
    let status = match () {
        () if teams_critical > 0 => "critical",
        () if teams_stale > 0 => "warning",
        () if ages.len() >= limits.teams.len() => "ok",
        () => "unknown",
    };
    RosterCoverage {
        total_teams: ages.len(),
        teams_current: within(0, limits.warning_days),
        teams_stale,
        teams_critical,
        max_age_days: ages.iter().copied().max().unwrap_or(0),
        status,
    }
}

impl Health {
    /// The phases by name, in their order.
    pub fn phases(&self) -> &BTreeMap<String, Counted> {
        &self.phases
    }

    /// `GOLD` where every phase is done, `BRONZE` where one failed, `SILVER` where one is done in part, else `UNKNOWN`.
    pub fn quality(&self) -> &str {
        self.data_quality
    }

    /// Executions that failed or were given up.
    pub fn gaps(&self) -> u32 {
        self.gaps_detected
    }

    /// The rosters of the league in short.
    pub fn rosters(&self) -> &RosterCoverage {
        &self.roster_coverage
    }

    /// Whether somebody should look: not every phase is done, or rosters are too old or could not be asked about.
    pub fn has_issues(&self) -> bool {
        self.data_quality != "GOLD" || matches!(self.roster_coverage.status, "warning" | "critical" | "error")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::domain::calendar::Schedule;
    use crate::domain::evidence::{Claim, Extent};
    use crate::domain::id::PartitionKey;
    use crate::domain::partition::Ended;
    use crate::pipeline::shipped;

    #[test]
    fn a_phase_is_as_far_as_its_processors_have_outputs() {
        // A processor counts once, whichever of its passes was done; a failure that was made up for is a gap and no
        // more.
        let shipped = shipped().unwrap();
        let nba = &shipped.pipelines["nba"];
        let at: Timestamp = "2026-01-24T06:00:00Z".parse().unwrap();
        let mut partition = Partition::new(PartitionKey::new("nba", "2026-01-23".parse().unwrap()));
        let mut done = |node: &str| {
            let claim = Claim {
                run: node.into(),
                published: at,
                records: Some(10),
                extent: Extent::Whole,
                correlation: None,
                trace: None,
            };
            partition.nodes.entry(node.into()).or_default().evidence.claim(claim);
        };
        for node in
            ["player_game_summary", "team_offense_game_summary", "ml_feature_store", "ml_feature_store.tomorrow"]
        {
            done(node);
        }
        for node in ["player_game_summary", "predictions"] {
            let ended = Ended { at, how: End::Failed };
            Arc::make_mut(&mut partition.nodes.entry(node.into()).or_default().ended).insert("r".into(), ended);
        }
        let judge =
            |partition: &Partition, rosters| judge(&nba.graph, partition, &nba.monitors.pipeline_health, rosters);
        let told = json!(judge(&partition, Told::Nothing));
        let phase = |name: &str| {
            let phase = &told["phases"][name];
            (phase["complete"].as_u64().unwrap(), phase["total"].as_u64().unwrap(), phase["status"].as_str().unwrap())
        };
        assert_eq!(phase("Phase 1 (Scrapers)"), (0, 21, "not_started"));
        assert_eq!(phase("Phase 3 (Analytics)"), (2, 5, "partial"));
        assert_eq!(phase("Phase 4 (Precompute)"), (1, 5, "partial"));
        assert_eq!(phase("Phase 5 (Predictions)"), (0, 1, "failed"));
        assert_eq!((&told["data_quality"], &told["gaps_detected"]), (&json!("BRONZE"), &json!(2)));
        assert_eq!(told["roster_coverage"]["status"], "unknown");

        partition.schedule = Some(Schedule { at, games: BTreeMap::new(), emptied_at: None });
        let off = judge(&partition, Told::Unanswered);
        assert_eq!((off.quality(), off.rosters().status), ("GOLD", "error"), "nothing is expected of a day off");
    }
}
