//! How much of an output is there, counted in the games of its date, and which games are short of it.
//!
//! What is expected follows from the games that are played, as they are known now: a game that is postponed is missed by
//! nobody, one that is added is missing. An aggregate that suffices says nothing of the game that is not in it, so deficits
//! are kept beside it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::calendar::{Calendar, has_begun, teams_of};
use super::coverage::Coverage;
use super::event::Game;
use super::evidence::{Evidence, Extant, Extent, Observation};
use super::graph::{Node, Unit};
use super::id::UnitId;
use super::partition::{End, Partition};
use super::timetable::Timetable;

/// How a game is short of an output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deficit {
    /// Nothing of it is there.
    Nothing,
    /// Less than all of it is.
    Part(Coverage),
}

impl std::fmt::Display for Deficit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Part(coverage) => write!(f, "{} of {}", coverage.observed(), coverage.expected()),
        }
    }
}

/// How much of the output of `node` is there.
///
/// Where the node's coverage counts games or teams, and parts of it are known, the share is of the games that are played. A
/// success with fewer rows than the games make at least is a part.
pub fn extant(times: &Timetable<'_>, partition: &Partition, node: &Node) -> Extant {
    let Some(facts) = partition.nodes.get(&node.id) else { return Extant::Nothing };
    let said = facts.evidence.extant();
    if partition.schedule.is_none() || (node.expects.unit == Unit::Any && node.expects.records_min == 0) {
        return said;
    }
    let games = &times.games;
    let Some(shares) = shares(&times.graph.calendar, &facts.evidence, node.expects.unit, games) else {
        let newest = facts.evidence.newest_claim().and_then(|_| by_records(&facts.evidence, node, games));
        return newest.map_or(said, Extant::Known);
    };
    share_of(&shares).map_or(said, Extant::Known)
}

/// What is there of all units together: each counts alike, and one that is short counts for the part of it that is there.
fn share_of(shares: &BTreeMap<&str, Option<Deficit>>) -> Option<Coverage> {
    let parts = shares.values().filter_map(|deficit| match deficit {
        Some(Deficit::Part(coverage)) => Some(coverage.expected()),
        Some(Deficit::Nothing) | None => None,
    });
    let each = u64::from(parts.max().unwrap_or(1));
    let there = |deficit: &Option<Deficit>| match deficit {
        None => each,
        Some(Deficit::Nothing) => 0,
        Some(Deficit::Part(coverage)) => u64::from(coverage.observed()) * each / u64::from(coverage.expected()),
    };
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let units = u64::try_from(shares.len()).unwrap_or(u64::MAX);
    Coverage::new(count(shares.values().map(there).sum()), count(each.saturating_mul(units)))
}

/// How many rows the last success says that it wrote, of those that so many games make at least, where it is fewer.
pub fn by_records(evidence: &Evidence, node: &Node, games: &BTreeMap<UnitId, Game>) -> Option<Coverage> {
    let claim = evidence.claim.as_ref().filter(|claim| claim.extent == Extent::Whole)?;
    let records = u32::try_from(claim.records?).unwrap_or(u32::MAX);
    let least = node.expects.records_min.saturating_mul(u32::try_from(games.len()).unwrap_or(u32::MAX));
    (records < least).then(|| Coverage::new(records, least))?
}

/// Every unit that is expected, with its deficit if it has one. Nothing where no unit of the output is known apart.
fn shares<'g>(
    calendar: &Calendar,
    evidence: &Evidence,
    unit: Unit,
    games: &'g BTreeMap<UnitId, Game>,
) -> Option<BTreeMap<&'g str, Option<Deficit>>> {
    let expected: Vec<&str> = match unit {
        Unit::Any => return None,
        Unit::Game => games.keys().map(UnitId::as_str).collect(),
        Unit::Team => games.keys().filter_map(teams_of).flat_map(|(away, home)| [away, home]).collect(),
    };
    let named = |given: &UnitId| named(calendar, games, given);
    let seen: BTreeMap<String, Option<Deficit>> = match (&evidence.observation, evidence.newest_claim()) {
        // What the warehouse counted outweighs what messages said before.
        (Some(observed), None) if !observed.units.is_empty() => {
            let deficit = |coverage: &Coverage| match coverage.observed() {
                _ if coverage.is_full() => None,
                0 => Some(Deficit::Nothing),
                _ => Some(Deficit::Part(*coverage)),
            };
            observed.units.iter().map(|(unit, coverage)| (named(unit), deficit(coverage))).collect()
        }
        // Messages add to what it counted before them.
        (observed, Some(_)) if !evidence.parts.is_empty() => {
            let counted = observed.iter().flat_map(|observed| &observed.units);
            let counted = counted.filter(|(_, coverage)| coverage.is_full()).map(|(unit, _)| unit);
            counted.chain(evidence.parts.keys()).map(|unit| (named(unit), None)).collect()
        }
        _ => return None,
    };
    Some(expected.into_iter().map(|unit| (unit, seen.get(unit).copied().unwrap_or(Some(Deficit::Nothing)))).collect())
}

/// What is called `given` by a source, as it is called here: a game by the schedule's own number, or a team by its code.
fn named(calendar: &Calendar, games: &BTreeMap<UnitId, Game>, given: &UnitId) -> String {
    let game = games.iter().find(|(_, game)| game.id.as_ref() == Some(given)).map(|(unit, _)| unit.as_str());
    game.unwrap_or(calendar.team(given.as_str())).to_owned()
}

/// The games that have come into `source` since `built`: those that messages told of, and where the warehouse has counted
/// more since, those that `node` is short of. Nothing where other games may have changed: a load that names no game, or
/// loads one again.
pub fn came_since(
    times: &Timetable<'_>,
    partition: &Partition,
    (source, node): (&Node, &Node),
    built: Timestamp,
) -> Option<BTreeSet<UnitId>> {
    let facts = partition.nodes.get(&source.id)?;
    let (evidence, games) = (&facts.evidence, &times.games);
    let came = |at: &Timestamp| evidence.parts.values().any(|first| first == at);
    let loads = facts.ended.values().filter(|ended| ended.how == End::Done && ended.at > built);
    if !loads.map(|ended| ended.at).all(|at| came(&at)) {
        return None;
    }
    let told = evidence.parts.iter().filter(|(_, first)| **first > built);
    let told = told.map(|(unit, _)| UnitId::from(&*named(&times.graph.calendar, games, unit)));
    let mut came: BTreeSet<UnitId> = told.filter(|unit| games.contains_key(unit)).collect();
    if evidence.observation.as_ref().is_some_and(|seen| seen.since > built) {
        came.extend(deficits(times, partition, node, Timestamp::MIN).into_keys());
    }
    Some(came)
}

/// The units of which the warehouse counted less than all.
pub fn short_units(seen: &Observation) -> impl Iterator<Item = &UnitId> {
    seen.units.iter().filter(|(_, coverage)| !coverage.is_full()).map(|(unit, _)| unit)
}

/// Of the units that are short, those of the date's games and of the teams that play in them, as they are called here.
pub fn playing(times: &Timetable<'_>, seen: &Observation) -> BTreeSet<UnitId> {
    let (games, calendar) = (&times.games, &times.graph.calendar);
    let plays = |unit: &str| {
        games.keys().any(|game| {
            game.as_str() == unit || teams_of(game).is_some_and(|(away, home)| unit == away || unit == home)
        })
    };
    short_units(seen).map(|unit| calendar.team(unit.as_str())).filter(|unit| plays(unit)).map(UnitId::from).collect()
}

/// Whether `game` is short of the output of `node`, begun or not.
pub fn is_short(times: &Timetable<'_>, partition: &Partition, node: &Node, game: &UnitId) -> bool {
    deficits(times, partition, node, Timestamp::MIN).contains_key(game)
}

/// The games that are short of the output of `node` and have not begun at `at`. A game is short where one of its teams is.
///
/// Every game is short of an output of which nothing is known; none is of one that is known only in sum.
pub fn deficits(times: &Timetable<'_>, partition: &Partition, node: &Node, at: Timestamp) -> BTreeMap<UnitId, Deficit> {
    let games = &times.games;
    let ahead = |game: &Game| at == Timestamp::MIN || !has_begun(game, at);
    let evidence = partition.nodes.get(&node.id).map(|facts| &facts.evidence);
    let Some(evidence) = evidence.filter(|evidence| evidence.extant() != Extant::Nothing) else {
        let ahead = games.iter().filter(|(_, game)| ahead(game));
        return ahead.map(|(unit, _)| (unit.clone(), Deficit::Nothing)).collect();
    };
    let Some(shares) = shares(&times.graph.calendar, evidence, node.expects.unit, games) else {
        return BTreeMap::new();
    };
    let short = |unit: &UnitId| match node.expects.unit {
        Unit::Any => None,
        Unit::Game => shares.get(unit.as_str()).copied().flatten(),
        Unit::Team => {
            let (away, home) = teams_of(unit)?;
            [away, home].into_iter().find_map(|team| shares.get(team).copied().flatten())
        }
    };
    games.iter().filter(|(_, game)| ahead(game)).filter_map(|(unit, _)| Some((unit.clone(), short(unit)?))).collect()
}
