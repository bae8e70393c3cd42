//! What past game days showed: when outputs came, how long runs took, and how coverage grew.
//!
//! A [`Day`] is a fold over a date's journal; nothing else of the journal is kept. Clock times are of the pipeline's zone, so
//! that a source that comes at half past seven does so on both sides of a clock change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::coverage::PerMille;
use super::super::effect::Effect;
use super::super::event::Event;
use super::super::graph::Graph;
use super::super::id::{NodeId, PartitionKey};
use super::super::partition::{Partition, State};
use super::super::record::record;
use super::super::timetable::Timetable;
use super::{is_good, share};

/// Game days that must have shown the same for it to count as usual. Of fewer the median is a coincidence.
pub const FORECAST_DAYS_MIN: usize = 5;
/// Game days that are looked back on, the latest first: two weeks. What is usual changes with the season.
pub const FORECAST_DAYS_MAX: usize = 14;

/// What one game day showed. Instants are clock times: so long after the date's midnight, by the clock on the wall.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Day {
    /// When the output of a node first sufficed for those who need it.
    pub arrived: BTreeMap<NodeId, SignedDuration>,
    /// How long that took from its first dispatch or first sign of life, retries included.
    pub took: BTreeMap<NodeId, SignedDuration>,
    /// How much of an output stood from when on, for outputs that are promised before tip-off.
    pub covered: BTreeMap<NodeId, Vec<(SignedDuration, PerMille)>>,
}

/// What several days had in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Usual {
    /// Half of the days were not above it.
    pub median: SignedDuration,
    /// A quarter of the days were not above it.
    pub low: SignedDuration,
    /// Three quarters of the days were not above it.
    pub high: SignedDuration,
    /// So many days, at least [`FORECAST_DAYS_MIN`].
    pub days: u32,
}

/// The game days that are looked back on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// What each showed.
    pub days: Vec<Arc<Day>>,
}

impl History {
    /// When the output of `node` usually comes, after its date's midnight. Nothing where too few days tell.
    pub fn arrival(&self, node: &NodeId) -> Option<Usual> {
        Usual::of(self.days.iter().filter_map(|day| day.arrived.get(node).copied()).collect())
    }

    /// How long `node` usually takes. Nothing where too few days tell.
    pub fn duration(&self, node: &NodeId) -> Option<Usual> {
        Usual::of(self.days.iter().filter_map(|day| day.took.get(node).copied()).collect())
    }

    /// How much of the output of `node` usually stands at a clock time. Nothing where too few days tell.
    pub fn coverage(&self, node: &NodeId, at: SignedDuration) -> Option<PerMille> {
        let stood = |steps: &Vec<(SignedDuration, PerMille)>| {
            steps.iter().rev().find(|(since, _)| *since <= at).map_or(PerMille::NONE, |(_, share)| *share)
        };
        let mut shares: Vec<PerMille> = self.days.iter().filter_map(|day| day.covered.get(node)).map(stood).collect();
        shares.sort();
        (shares.len() >= FORECAST_DAYS_MIN).then(|| ranked(&shares, 2)).flatten()
    }
}

impl Usual {
    fn of(mut seen: Vec<SignedDuration>) -> Option<Self> {
        if seen.len() < FORECAST_DAYS_MIN {
            return None;
        }
        seen.sort();
        let (low, median, high) = (ranked(&seen, 1)?, ranked(&seen, 2)?, ranked(&seen, 3)?);
        Some(Self { median, low, high, days: u32::try_from(seen.len()).unwrap_or(u32::MAX) })
    }
}

/// The value that so many quarters of the sorted ones are not above.
fn ranked<T: Copy>(sorted: &[T], quarters: usize) -> Option<T> {
    sorted.get((sorted.len() * quarters).div_ceil(4).saturating_sub(1)).copied()
}

/// How long after the midnight of `date` it is by the clocks of `zone`.
pub fn clock_of(at: Timestamp, date: Date, zone: &TimeZone) -> SignedDuration {
    zone.to_datetime(at).duration_since(date.to_datetime(Time::midnight()))
}

/// The instant at which the clocks of `zone` show that; a time that a clock change skips is taken an hour later.
pub fn at_clock(clock: SignedDuration, date: Date, zone: &TimeZone) -> Timestamp {
    zone.to_timestamp(date.to_datetime(Time::midnight()).saturating_add(clock)).unwrap_or(Timestamp::MAX)
}

/// Reads a date's journal, entry by entry.
#[derive(Debug)]
pub struct Reading<'g> {
    graph: &'g Graph,
    partition: Partition,
    begun: BTreeMap<NodeId, Timestamp>,
    day: Day,
}

impl<'g> Reading<'g> {
    /// Of a date, from its first entry on.
    pub fn new(graph: &'g Graph, key: PartitionKey) -> Self {
        Self { graph, partition: Partition::new(key), begun: BTreeMap::new(), day: Day::default() }
    }

    /// Takes in what happened at one decision, and what followed.
    pub fn take(&mut self, at: Timestamp, events: &[Event], effects: &[Effect]) {
        let mut touched = BTreeSet::new();
        for event in events {
            if let Event::Heartbeat(beat) = event {
                let begun = self.begun.entry(beat.node.clone()).or_insert(beat.published);
                *begun = beat.published.min(*begun);
            }
            match event {
                Event::Completed(completed) => touched.extend(self.sharers(&completed.node)),
                Event::Observed(observed) => touched.extend(self.sharers(&observed.node)),
                // Other games are another share of the same output.
                Event::Scheduled(_) | Event::Requested(_) => touched.extend(self.day.covered.keys().cloned()),
                _ => {}
            }
            record(self.graph, &mut self.partition, event);
        }
        for id in touched {
            self.look(&id, at);
        }
        for effect in effects {
            let Effect::Dispatch(dispatch) = effect else { continue };
            self.begun.entry(dispatch.node.clone()).or_insert(at);
            // An answer is known by the attempt it answers, and attempts are made by `plan`, which is not asked here.
            let facts = self.partition.node_mut(&dispatch.node);
            (facts.attempt, facts.state) = (dispatch.manifest.attempt, State::Dispatched { at });
        }
    }

    /// What the date showed; nothing where no game was played.
    pub fn day(self) -> Option<Day> {
        self.partition.has_games().then_some(self.day)
    }

    fn sharers(&self, id: &NodeId) -> Vec<NodeId> {
        self.graph.family(id).iter().chain([id]).cloned().collect()
    }

    fn look(&mut self, id: &NodeId, at: Timestamp) {
        let Some(node) = self.graph.node(id).filter(|node| self.partition.nodes.contains_key(&node.id)) else {
            return;
        };
        let times = Timetable::of(self.graph, &self.partition);
        let clock = clock_of(at, times.date, &self.graph.zone);
        if node.expects.alert_before_tip.is_some() {
            let stands = share(&times, &self.partition, node);
            let steps = self.day.covered.entry(id.clone()).or_default();
            if steps.last().is_none_or(|(_, last)| *last != stands) {
                steps.push((clock, stands));
            }
        }
        if !self.day.arrived.contains_key(id) && is_good(&times, &self.partition, node) {
            self.day.arrived.insert(id.clone(), clock);
            if let Some(begun) = self.begun.get(id).filter(|begun| **begun <= at) {
                self.day.took.insert(id.clone(), at.duration_since(*begun));
            }
        }
    }
}
