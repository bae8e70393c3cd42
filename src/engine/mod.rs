//! The loops over ports: no vendor, no policy. What is decided is `domain`'s; what is said is `wire`'s.
//!
//! - [`intake`]: messages wait by partition, and are settled only after what they cause is committed.
//! - [`step`]: load, decide, commit; again if somebody else was faster. `remembered` has what was last stored.
//! - [`relay`]: delivers committed effects, each target's at its [`pace`].
//! - [`breaker`]: lets a target rest that fails again and again; [`cap`]: lets only so many dispatches leave an hour.
//! - [`sweep`]: wakes partitions whose deadline has come.
//! - [`calendar`]: reads the schedule, and opens the days around today.
//! - [`forecast`]: works out what is to be expected of today, and tells a date when that changes.
//! - [`backfill`]: fills what is missing of dates that are over.
//! - [`dead_letter`]: keeps what nobody could process, and replays it.
//! - [`role`]: whether what is decided is done, or this is the shadow of a pipeline that others run.
//! - [`export`]: writes the history from the journal, behind everything else.
//! - [`monitor`]: gathers what the daily questions are answered from.
//! - [`foresee`]: what a request would do; [`once`]: a call that is made twice is carried out once.
//! - [`notify`]: tells people what is on and has not been told, and keeps what has.
//! - [`watch`]: watches the service itself: its store, and whether anything still moves.
//! - [`backlog`]: tells of old messages that come in numbers.
//! - [`health`]: what keeps the service from being ready; [`beat`]: whether its loops move.
//! - [`measure`]: what is measured for those who watch.
//!
//! Every loop is a function of the store and the clock that does one round. `serve` calls them when something happens
//! or is due; the simulator calls the same functions on a virtual clock.

pub mod backfill;
pub mod backlog;
pub mod beat;
pub mod breaker;
pub mod calendar;
pub mod cap;
pub mod dead_letter;
pub mod export;
mod fault;
pub mod forecast;
pub mod foresee;
mod fresh;
pub mod health;
pub mod hearing;
pub mod in_force;
pub mod intake;
pub mod measure;
pub mod monitor;
pub mod notify;
pub mod once;
pub mod pace;
pub mod recipient;
pub mod reconcile;
pub mod relay;
mod remembered;
pub mod revise;
pub mod role;
pub mod run;
pub mod step;
pub mod stop;
pub mod sweep;
mod waiting;
pub mod watch;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::domain::graph::Graph;
use crate::domain::id::PipelineId;
use crate::domain::shadow::Role;
use crate::domain::time::Now;
use crate::pipeline::{Declarations, Pipeline};
use crate::port::{Bus, Store, Warehouse};
use crate::telemetry::Telemetry;
use hearing::Hearing;
use step::PerMinute;

/// Everything a round of any loop needs.
pub struct Engine {
    /// The declared topology and pipelines.
    pub declarations: Arc<Declarations>,
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// The way out.
    pub bus: Arc<dyn Bus>,
    /// Questions about outputs, and history.
    pub warehouse: Arc<dyn Warehouse>,
    /// What time it is.
    pub clock: Clock,
    /// Bounds and intervals.
    pub settings: Settings,
    /// How far the world has been heard.
    pub hearing: Hearing,
    /// What has been counted.
    pub counts: Counts,
    /// What keeps the service from being ready.
    pub health: health::Health,
    /// Whether the loops move.
    pub beats: beat::Beats,
    /// Where what is counted, measured and done is left for those who watch.
    pub telemetry: Telemetry,
    /// What the service knows of itself.
    pub watch: watch::Watch,
    /// Rings when the clock was set back: what is kept in memory of times to come was meant by the old one.
    pub set_back: tokio::sync::Notify,
    /// How people are told.
    pub notifier: notify::Notifier,
    /// Who this process is among those on the store; nobody where it only looks.
    identity: Option<in_force::Identity>,
    /// Why what the files say is not at work, where it is not.
    refused: Mutex<Option<String>>,
    remembered: remembered::Remembered,
    opened: PerMinute,
    history: PerMinute,
    targets: waiting::Targets,
    pace: pace::Pace,
    backlog: backlog::Backlog,
    breakers: breaker::Breakers,
    cap: cap::Cap,
    progress: export::Progress,
    pasts: forecast::Pasts,
    answers: backfill::Answers,
    keeping: dead_letter::Keeping,
    fresh: fresh::Fresh,
    asked: stop::Asked,
}

/// Bounds and intervals of the loops.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a heartbeat may wait for company before it is committed. A Firestore document takes about one
    /// sustained write a second; 15 s keeps thirty beating processors at two.
    pub heartbeat_flush: SignedDuration,
    /// How often due partitions are looked for.
    pub sweep_every: SignedDuration,
    /// How often the outbox is looked at though nothing was decided here: for what is to be tried again, and for what another
    /// process decided and could not deliver.
    pub relay_every: SignedDuration,
    /// How often what waits is measured. It takes a dozen reads of the store.
    pub measure_every: SignedDuration,
    /// After a start, how long the world is listened to before anything counts as silent: one heartbeat interval.
    pub settle_in: SignedDuration,
    /// An event about an attempt that has not been decided waits this long before it is parked.
    pub future_max: SignedDuration,
    /// Dates this many days back and more are history: recorded at once, dispatched behind the live ones.
    pub live_days: i32,
    /// Dispatches for history a minute. A 24-day backlog of 60 tasks a day takes an hour at this rate.
    pub history_dispatches_per_minute: u32,
    /// Partitions of history opened a minute, so that one publisher's odd dates cannot fill the store.
    pub history_opened_per_minute: u32,
    /// Tries of one decision against other committers before its events are handed back.
    pub conflicts_max: u32,
    /// Whether what is decided is sent.
    pub role: Role,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_flush: SignedDuration::from_secs(15),
            sweep_every: SignedDuration::from_secs(10),
            relay_every: SignedDuration::from_millis(500),
            measure_every: SignedDuration::from_secs(15),
            settle_in: SignedDuration::from_secs(60),
            future_max: SignedDuration::from_mins(15),
            live_days: 3,
            history_dispatches_per_minute: 30,
            history_opened_per_minute: 64,
            conflicts_max: 8,
            role: Role::default(),
        }
    }
}

/// What has been counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages by what became of them.
    pub acked: AtomicU64,
    /// Handed back to come again.
    pub nacked: AtomicU64,
    /// Delivered by the broker more than once.
    pub redelivered: AtomicU64,
    /// Kept for an operator.
    pub parked: AtomicU64,
    /// Empty bodies.
    pub probes: AtomicU64,
    /// Recognised and none of our business.
    pub ignored: AtomicU64,
    /// Decisions committed.
    pub decisions: AtomicU64,
    /// Dispatches handed to the bus.
    pub dispatched: AtomicU64,
    /// Decisions refused because an invariant would have broken, or that panicked.
    pub violations: AtomicU64,
}

impl Engine {
    /// Puts the parts together; listening begins now.
    pub fn new(
        declarations: Arc<Declarations>,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        warehouse: Arc<dyn Warehouse>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let hearing = Hearing::new(clock.now(), settings.settle_in);
        Self {
            declarations,
            store,
            bus,
            warehouse,
            clock,
            settings,
            hearing,
            counts: Counts::default(),
            health: health::Health::default(),
            beats: beat::Beats::default(),
            telemetry: Telemetry::default(),
            watch: watch::Watch::default(),
            set_back: tokio::sync::Notify::new(),
            notifier: notify::Notifier::default(),
            identity: None,
            refused: Mutex::default(),
            remembered: remembered::Remembered::default(),
            opened: PerMinute::default(),
            history: PerMinute::default(),
            targets: waiting::Targets::default(),
            pace: pace::Pace::default(),
            backlog: backlog::Backlog::default(),
            breakers: breaker::Breakers::default(),
            cap: cap::Cap::default(),
            progress: export::Progress::default(),
            pasts: forecast::Pasts::default(),
            answers: backfill::Answers::default(),
            keeping: dead_letter::Keeping::default(),
            fresh: fresh::Fresh::default(),
            asked: stop::Asked::default(),
        }
    }

    /// The same, which leaves there what it counts, measures and does.
    pub fn watched(self, telemetry: Telemetry) -> Self {
        Self { telemetry, ..self }
    }

    /// The same, which tells people over the channels of `notifier`.
    pub fn telling(self, notifier: notify::Notifier) -> Self {
        Self { notifier, ..self }
    }

    /// The same, known to the others on the store as `identity`.
    pub fn known_as(self, identity: in_force::Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The pipeline called `id`.
    pub fn pipeline(&self, id: &PipelineId) -> Option<&Pipeline> {
        self.declarations.pipelines.get(id)
    }

    /// The graph of the pipeline called `id`.
    pub fn graph(&self, id: &PipelineId) -> Option<&Graph> {
        self.pipeline(id).map(|pipeline| &*pipeline.graph)
    }

    /// Targets that rest, with why and until when.
    pub fn resting(&self) -> Vec<(String, breaker::Rest)> {
        self.breakers.resting()
    }

    /// The moment of a decision taken now.
    pub fn now(&self) -> Now {
        let at = self.clock.now();
        Now { at, heard_until: self.hearing.until(at) }
    }

    /// Whether `date` of `graph` is live rather than history at `at`.
    pub fn is_live(&self, graph: &Graph, date: jiff::civil::Date, at: Timestamp) -> bool {
        let back = SignedDuration::from_hours(24 * i64::from(self.settings.live_days));
        date > graph.date_at(at).saturating_sub(back)
    }
}
