//! What is missing of dates that are over, and how it is made again.
//!
//! A gap is what the calendar says should be there and is not, by coverage and not by flags (`gaps`). A [`Plan`] says which
//! nodes are asked again for which dates, in which order, and what cannot be asked for (`plan`); it is kept, so that it goes
//! on after a restart. What is to be asked for now, and what has come of it, is read off the partitions (`progress`): they
//! alone count attempts, and asking goes through them like everything else.

mod gaps;
mod plan;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::coverage::PerMille;
use super::graph::DayTime;
use super::id::NodeId;
use super::time::after;
pub use gaps::{Found, Gap, Survey, judge, outputs, wants_answer};
pub use plan::{Draft, Estimate, ITEMS_MAX, Item, ItemState, Plan, Refused, Said, Status, draft, estimate};
pub use progress::{Tally, has_to_wait, is_filled, next, request_id, settle};

/// What a pipeline declares about making dates again.
#[derive(Clone, Debug, Default)]
pub struct Backfill {
    /// How much at a time, and when.
    pub limits: Limits,
    /// Nodes that are asked for a past date by other messages than usual, or not at all.
    pub roads: BTreeMap<NodeId, Road>,
}

/// How a node is asked for a past date, where not by its usual messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Road {
    /// By messages of its own.
    Apart {
        /// It has no other messages: but for backfill, nobody asks it for anything.
        only: bool,
    },
    /// Not at all, and why.
    Refused(Arc<str>),
}

impl Backfill {
    /// Whether `node` can be asked for nothing but a past date.
    pub fn is_for_that_alone(&self, node: &NodeId) -> bool {
        matches!(self.roads.get(node), Some(Road::Apart { only: true }))
    }

    /// Why `node` is never asked for a past date, where it is not.
    pub fn refusal(&self, node: &NodeId) -> Option<&Arc<str>> {
        match self.roads.get(node) {
            Some(Road::Refused(why)) => Some(why),
            Some(Road::Apart { .. }) | None => None,
        }
    }
}

/// Bounds of all plans of a pipeline together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Runs asked for that have not ended.
    pub at_once: u32,
    /// The shortest time between two runs of one node for one date.
    pub cooldown: SignedDuration,
    /// Runs of one node for one date within a plan that began, or were not started.
    pub attempts_max: u32,
    /// Nothing is asked for before this clock time, in the pipeline's zone,
    pub from: Time,
    /// nor from this one on. It may lie after midnight. All day where the two are equal.
    pub until: Time,
    /// What is missing of so many days before today is asked for without anybody's approval.
    pub automatic_within: i32,
    /// How often it is looked for.
    pub every: SignedDuration,
    /// A look that finds more than this share missing,
    pub suspect_share: PerMille,
    /// and more than so many outputs, has probably a wrong premise: nothing follows from it.
    pub suspect_above: u32,
    /// A source that has failed on so many game days in a row is down.
    pub down_after: u32,
}

impl Default for Limits {
    /// What the scripts before tipoff did; the suspicion is that of their cleaner, which once found everything missing.
    fn default() -> Self {
        Self {
            at_once: 5,
            cooldown: SignedDuration::from_hours(2),
            attempts_max: 3,
            from: Time::constant(6, 0, 0, 0),
            until: Time::constant(2, 0, 0, 0),
            automatic_within: 7,
            every: SignedDuration::from_mins(30),
            suspect_share: PerMille::new(200).unwrap_or(PerMille::FULL),
            suspect_above: 20,
            down_after: 3,
        }
    }
}

impl Limits {
    /// Whether anything may be asked for at `at`.
    pub fn is_active(&self, zone: &TimeZone, at: Timestamp) -> bool {
        let clock = zone.to_datetime(at).time();
        match self.from.cmp(&self.until) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Less => self.from <= clock && clock < self.until,
            std::cmp::Ordering::Greater => clock >= self.from || clock < self.until,
        }
    }

    /// The end of `span` of active hours that begin to count at `at`.
    pub fn ends_at(&self, zone: &TimeZone, at: Timestamp, span: SignedDuration) -> Timestamp {
        if self.from == self.until {
            return after(at, span);
        }
        let (mut at, mut left) = (at, span);
        // A plan of a year's work would still end within this many changes between day and night.
        for _ in 0..2_000 {
            let active = self.is_active(zone, at);
            let change = next_clock(if active { self.until } else { self.from }, zone, at);
            let room = change.duration_since(at);
            if active && left <= room {
                return after(at, left);
            }
            if active {
                left = left.saturating_sub(room);
            }
            at = change;
        }
        at
    }
}

/// The first instant after `at` at which the clocks of `zone` show `time`.
fn next_clock(time: Time, zone: &TimeZone, at: Timestamp) -> Timestamp {
    let today = zone.to_datetime(at).date();
    let on = |days| DayTime { days, time }.on(today, zone);
    [0, 1, 2].into_iter().map(on).find(|instant| *instant > at).unwrap_or(at)
}
