//! What the calendar and the clocks make of one date: its games, their tip-offs, and when the passes over it begin and end.
//!
//! Worked out once for a decision, for none of it changes while one is taken. A deadline hangs on the games or on a clock of the
//! pipeline's zone, never on the host's: for the same partition it is the same instant everywhere (`anchored`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::calendar::{Anchor, tips};
use super::event::{Game, GameStatus};
use super::graph::{Graph, Node, Passes};
use super::id::UnitId;
use super::partition::Partition;
use super::time::after;

/// The instants of one date of a graph.
#[derive(Debug)]
pub struct Timetable<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// The date.
    pub date: Date,
    /// The games that are played, with what operators know better. Empty where no schedule has been told.
    pub games: BTreeMap<UnitId, Game>,
    tips: Vec<Timestamp>,
    /// When the last game begins, where that is known of all.
    last_tip: Option<Timestamp>,
    passes: Passes,
    has_games: bool,
    has_no_games: bool,
}

impl<'g> Timetable<'g> {
    /// What is known of the partition's date.
    pub fn of(graph: &'g Graph, partition: &Partition) -> Self {
        let (date, games) = (partition.key.date, partition.games());
        let begin: Option<Vec<Timestamp>> = games.values().map(|game| game.tip).collect();
        Self {
            graph,
            date,
            tips: if games.is_empty() { Vec::new() } else { tips(&graph.calendar, &graph.zone, date, &games) },
            last_tip: begin.and_then(|tips| tips.into_iter().max()),
            passes: graph.passes(date),
            has_games: partition.has_games(),
            has_no_games: partition.has_no_games(&graph.calendar),
            games,
        }
    }

    /// Whether it is certain that no game is played.
    pub fn has_no_games(&self) -> bool {
        self.has_no_games
    }

    /// Whether it is certain that games are played.
    pub fn has_games(&self) -> bool {
        self.has_games
    }

    /// When the node's pass over the date begins and ends. What nobody needs after the last tip-off ends there.
    pub fn pass(&self, node: &Node) -> Option<(Timestamp, Timestamp)> {
        let (from, until) = self.passes.of(self.graph, node)?;
        let last_tip = self.last_tip.filter(|_| node.expects.before_tip);
        Some((from, last_tip.unwrap_or(until)))
    }

    /// When the last pass over the date ends.
    pub fn last_pass_ends(&self) -> Option<Timestamp> {
        self.passes.last_ends()
    }

    /// The earliest of `anchors`, of those that can be told. Nothing where no games are known: on a day without games nothing
    /// is due.
    pub fn anchored(&self, anchors: &[Anchor]) -> Option<Timestamp> {
        if self.games.is_empty() {
            return None;
        }
        let instant = |anchor: &Anchor| match anchor {
            Anchor::FirstTip(by) => self.tips.first().map(|tip| after(*tip, *by)),
            Anchor::LastTip(by) => self.tips.last().map(|tip| after(*tip, *by)),
            Anchor::Clock(clock) => Some(clock.on(self.date, &self.graph.zone)),
        };
        anchors.iter().filter_map(instant).min()
    }

    /// Games that, by the schedule, still go on although they must be over at `at`, and when the next of the others must be.
    pub fn overlong(&self, at: Timestamp) -> (Vec<&UnitId>, Option<Timestamp>) {
        let mut found = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (unit, game) in &self.games {
            let (Some(tip), GameStatus::Scheduled | GameStatus::Live) = (game.tip, game.status) else { continue };
            let end = after(tip, self.graph.calendar.game_max);
            if end <= at {
                found.push(unit);
            } else {
                next = Some(next.map_or(end, |next| next.min(end)));
            }
        }
        (found, next)
    }
}
