//! Which games are played on a date, when they begin, and whether any are to be expected.
//!
//! What is declared (seasons, breaks, teams' names) is a [`Calendar`]; what a schedule has told is kept in the partition.
//! What follows for a decision is in `timetable`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::event::{Game, GameStatus};
use super::graph::DayTime;
use super::id::{NodeId, UnitId};
use super::partition::Partition;

/// Games of one day that all begin at the same instant are suspect from this many on: feeds put a placeholder where they do
/// not know.
const IDENTICAL_TIPS_MIN: usize = 3;

/// What a pipeline declares about its year.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    /// When games are played. Without any, on any date.
    pub seasons: Vec<Span>,
    /// When none are, within a season.
    pub breaks: Vec<Span>,
    /// The earliest a game begins on any day; counted on where the schedule's own times cannot be believed.
    pub tip_earliest: Option<Time>,
    /// How long after its tip-off a game is over at the latest.
    pub game_max: SignedDuration,
    /// The source that brings the schedule, and is asked for a newer one where it cannot be right.
    pub schedule: Option<NodeId>,
    /// Other sources' codes of the teams, in upper case, to the ones used here.
    pub codes: BTreeMap<Arc<str>, Arc<str>>,
}

/// Some days, the first and the last included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// What they are called.
    pub name: Arc<str>,
    /// The first.
    pub from: Date,
    /// The last.
    pub until: Date,
}

impl Span {
    fn holds(&self, date: Date) -> bool {
        (self.from..=self.until).contains(&date)
    }
}

impl Calendar {
    /// Why no game can be played on `date`, if none can.
    pub fn idle(&self, date: Date) -> Option<&str> {
        let off_season = !self.seasons.is_empty() && !self.seasons.iter().any(|season| season.holds(date));
        let pause = self.breaks.iter().find(|pause| pause.holds(date)).map(|pause| &*pause.name);
        pause.or(off_season.then_some("off season"))
    }

    /// Whether a season begins on `date`: no game day goes before it.
    pub fn opens(&self, date: Date) -> bool {
        self.seasons.iter().any(|season| season.from == date)
    }

    /// The team that a source calls `code`.
    pub fn team<'a>(&'a self, code: &'a str) -> &'a str {
        self.codes.get(code).map_or(code, |team| team)
    }
}

/// The games of a date, as a schedule told them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// When it was read.
    pub at: Timestamp,
    /// The games.
    pub games: BTreeMap<UnitId, Game>,
    /// When a later reading listed no game at all, though these were known. Nothing is concluded from it: a feed that fails
    /// and a day without games look alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptied_at: Option<Timestamp>,
}

impl Schedule {
    /// Whether any game is played on the date.
    pub fn has_games(&self) -> bool {
        self.games.values().any(is_played)
    }
}

/// What an operator knows better than the schedule. It stands until the feed says that the game is over, or until it
/// expires.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Override {
    /// Who.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Since when.
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// How the game stands.
    pub status: Option<GameStatus>,
    /// When it begins.
    pub tip: Option<Timestamp>,
}

/// An instant that hangs on the games of a date, or on a clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// So long after (before, where negative) the first tip-off.
    FirstTip(SignedDuration),
    /// So long after the last tip-off.
    LastTip(SignedDuration),
    /// At that clock time, in the pipeline's zone.
    Clock(DayTime),
}

fn is_played(game: &Game) -> bool {
    game.status.is_played()
}

impl Partition {
    /// The games that are played on the date, with what operators know better. Empty where no schedule has been told.
    pub fn games(&self) -> BTreeMap<UnitId, Game> {
        let mut games = self.listed();
        games.retain(|_, game| is_played(game));
        games
    }

    /// The games of the date's schedule, those included that are not played, with what operators know better.
    pub fn listed(&self) -> BTreeMap<UnitId, Game> {
        let Some(schedule) = &self.schedule else { return BTreeMap::new() };
        let mut games = schedule.games.clone();
        for (unit, known) in &self.overrides {
            // A game that only an operator knows is played all the same.
            let game = games.entry(unit.clone()).or_insert(Game { tip: None, status: GameStatus::Scheduled, id: None });
            game.status = known.status.unwrap_or(game.status);
            game.tip = known.tip.or(game.tip);
        }
        games
    }

    /// A game of the date that is played by one of the teams of `game`, which nobody knows of so far: no team plays twice on a
    /// date, so one of the two is not.
    pub fn rules_out(&self, game: &UnitId) -> Option<UnitId> {
        let (away, home) = teams_of(game)?;
        let plays = |other: &UnitId| {
            teams_of(other).is_some_and(|(one, two)| [one, two].iter().any(|team| [away, home].contains(team)))
        };
        let listed = self.listed();
        if listed.contains_key(game) {
            return None;
        }
        listed.into_iter().find(|(other, known)| is_played(known) && plays(other)).map(|(other, _)| other)
    }

    /// Whether it is certain that no game is played on this date.
    pub fn has_no_games(&self, calendar: &Calendar) -> bool {
        match &self.schedule {
            Some(_) => self.games().is_empty(),
            None => calendar.idle(self.key.date).is_some(),
        }
    }

    /// Whether it is certain that games are played on this date.
    pub fn has_games(&self) -> bool {
        self.schedule.is_some() && !self.games().is_empty()
    }

    /// Lets go of overrides that have expired or that the feed has caught up with. Returns when the next one expires.
    pub(super) fn lapse(&mut self, at: Timestamp) -> Option<Timestamp> {
        let over = |unit: &UnitId| {
            let told = self.schedule.as_ref().and_then(|schedule| schedule.games.get(unit));
            told.is_some_and(|game| game.status == GameStatus::Final)
        };
        let gone: Vec<UnitId> = self
            .overrides
            .iter()
            .filter(|(unit, known)| known.until <= at || over(unit))
            .map(|(u, _)| u.clone())
            .collect();
        for unit in &gone {
            self.overrides.remove(unit);
        }
        self.overrides.values().map(|known| known.until).min()
    }
}

/// When the games of `date` begin, the first first. Where the schedule's times cannot be believed the day begins at the
/// earliest a game ever does.
pub fn tips(calendar: &Calendar, zone: &TimeZone, date: Date, games: &BTreeMap<UnitId, Game>) -> Vec<Timestamp> {
    let mut tips: Vec<Timestamp> = games.values().filter_map(|game| game.tip).collect();
    tips.sort();
    if has_placeholders(games)
        && let Some(earliest) = calendar.tip_earliest
    {
        let earliest = DayTime { days: 0, time: earliest }.on(date, zone);
        if tips.first().is_none_or(|first| earliest < *first) {
            tips.insert(0, earliest);
        }
    }
    tips
}

/// Whether the tip-offs are placeholders: three games or more, and all at the same instant.
pub fn has_placeholders(games: &BTreeMap<UnitId, Game>) -> bool {
    let mut tips = games.values().map(|game| game.tip);
    let first = tips.next().flatten();
    games.len() >= IDENTICAL_TIPS_MIN && first.is_some() && tips.all(|tip| tip == first)
}

/// Whether `game` has begun at `at`. One whose tip-off nobody knows has not.
pub fn has_begun(game: &Game, at: Timestamp) -> bool {
    matches!(game.status, GameStatus::Live | GameStatus::Final) || game.tip.is_some_and(|tip| tip <= at)
}

/// The two teams of a game, from its name `YYYYMMDD_AWAY_HOME`.
pub fn teams_of(game: &UnitId) -> Option<(&str, &str)> {
    let mut parts = game.as_str().split('_').skip(1);
    Some((parts.next()?, parts.next()?))
}
