//! The world around the engine: a broker, a clock that is moved by hand, a warehouse that is told facts, and faults.
//!
//! It jumps from event to event; nothing sleeps. What it may do to the engine is what the real world may: deliver late,
//! twice and out of order, kill it between any two of its steps, and be away for a while.

mod broker;
mod consumers;
mod looks;
mod operators;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use self::broker::{Message, long_name};
use super::faults::{Faults, FaultyBus, FaultyStore, Outage, RecordedChannel, locked};
use super::file::{Break, Denied, Scenario, Step, instant, span};
use super::ground::Ground;
use super::past::remember;
use super::seen::{Entry, Seen, What};
use crate::adapter::embedded::{Durability, Embedded, question};
use crate::clock::Clock;
use crate::domain::coverage::Coverage;
use crate::domain::effect::Severity;
use crate::domain::event::{Event, Game, Request, Scheduled};
use crate::domain::id::{AlertKey, ChannelId, DispatchId, NodeId, PartitionKey, RequestId};
use crate::domain::notify::{self, Mute, Route};
use crate::domain::shadow::Role;
use crate::domain::stop::Stop;
use crate::domain::time::after;
use crate::domain::view::PartitionView;
use crate::engine::forecast::FORECAST_EVERY;
use crate::engine::intake::Intake;
use crate::engine::notify::Notifier;
use crate::engine::role;
use crate::engine::{Engine, Settings};
use crate::pipeline::Declarations;
use crate::port::{Bus, Channel, Store, StoreError};
use crate::simulation::dice::Dice;

/// Rounds of relaying at one instant before the world gives up: effects that beget effects must come to an end.
const RELAY_ROUNDS_MAX: usize = 200;

/// How the world treats the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Regime {
    /// As the file says.
    Plain,
    /// Every message comes twice.
    Twice,
    /// The process is killed at points drawn from the seed.
    RestartAnywhere(u64),
    /// Messages between which no deadline falls come in an order drawn from the seed.
    Shuffle(u64),
}

/// The channel over which people are told in every world.
pub const PEOPLE: &str = "people";

/// Messages further apart than this are not reordered.
pub const SHUFFLE_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// One input of the world.
#[derive(Clone, Debug)]
enum Input {
    Message(usize),
    Step(Box<Step>),
    Mend(String),
    Up,
    Check(usize),
}

/// The world of one run.
pub struct World<'a> {
    scenario: &'a Scenario,
    declarations: Arc<Declarations>,
    regime: Regime,
    dice: Dice,
    clock: Clock,
    ground: Box<dyn Ground>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    /// Always the embedded one: facts are put into it.
    warehouse: Embedded,
    _folder: tempfile::TempDir,
    faults: Arc<Faults>,
    engine: Option<Engine>,
    intake: Intake<usize>,
    queue: BTreeMap<(Timestamp, u64), Input>,
    next: u64,
    messages: Vec<Message>,
    /// Messages that the broker keeps while nothing is asked of it.
    held: Vec<usize>,
    /// Alerts that are on.
    on: BTreeSet<AlertKey>,
    answered: BTreeSet<DispatchId>,
    answers: BTreeMap<NodeId, u32>,
    /// Dispatches of a node for a date so far.
    dispatched: BTreeMap<(PartitionKey, NodeId), u32>,
    journaled: u64,
    seen: Seen,
    watched: BTreeSet<PartitionKey>,
    /// A process that was stopped is not there again before this.
    down_until: Timestamp,
}

/// A body that is sent again and again, with the number of the message where it says `{n}`.
fn numbered(data: &[u8], number: u32) -> Vec<u8> {
    match std::str::from_utf8(data) {
        Ok(text) if text.contains("{n}") => text.replace("{n}", &number.to_string()).into_bytes(),
        _ => data.to_vec(),
    }
}

/// A moment of the run, for whoever watches.
pub struct Moment<'w> {
    /// When.
    pub at: Timestamp,
    /// What was seen since the last moment.
    pub entries: &'w [Entry],
    /// The dates that anything has happened to.
    pub dates: &'w [PartitionView],
    /// What it all stands on, for whoever wants to look at more.
    pub stage: Stage<'w>,
}

/// The clock, the store and the bus of a run, and what is declared.
#[derive(Clone, Copy)]
pub struct Stage<'w> {
    /// What is declared.
    pub declarations: &'w Arc<Declarations>,
    /// The hand-moved clock.
    pub clock: &'w Clock,
    /// The store, as nothing disturbs it.
    pub store: &'w Arc<dyn Store>,
    /// The bus, likewise.
    pub bus: &'w Arc<dyn Bus>,
    /// The warehouse.
    pub warehouse: &'w Embedded,
}

/// Why a run could not be carried out; not the same as an expectation that was missed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store of the run.
    #[error("the store of the run: {0}")]
    Store(#[from] StoreError),
    /// The directory of the run.
    #[error("the directory of the run: {0}")]
    Open(String),
    /// A time or a span in the file.
    #[error("{0}")]
    File(String),
    /// Effects that never come to an end.
    #[error("at {0} effects beget effects without end")]
    Endless(Timestamp),
}

impl<'a> World<'a> {
    /// The world at the scenario's start.
    ///
    /// # Errors
    /// If a directory for the run cannot be made, or what it stands on cannot be opened.
    pub async fn new(
        scenario: &'a Scenario,
        declarations: Arc<Declarations>,
        regime: Regime,
        mut ground: Box<dyn Ground>,
    ) -> Result<Self, RunError> {
        let folder = tempfile::tempdir().map_err(|error| RunError::Open(error.to_string()))?;
        let warehouse = Embedded::open(folder.path(), Durability::Off);
        let warehouse = warehouse.map_err(|error| RunError::Open(error.to_string()))?;
        let (store, bus) = ground.open().await.map_err(RunError::Open)?;
        let assumed = role::assume(&*store, declarations.pipelines.keys(), &role_of(scenario)).await;
        assumed.map_err(|error| RunError::Open(error.to_string()))?;
        let seed = match regime {
            Regime::RestartAnywhere(seed) | Regime::Shuffle(seed) => seed,
            Regime::Plain | Regime::Twice => 0,
        };
        let mut world = Self {
            scenario,
            declarations,
            regime,
            dice: Dice::new(seed),
            clock: Clock::manual(scenario.start),
            ground,
            store,
            bus,
            warehouse,
            _folder: folder,
            faults: Arc::default(),
            engine: None,
            intake: Intake::default(),
            queue: BTreeMap::new(),
            next: 0,
            messages: Vec::new(),
            held: Vec::new(),
            on: BTreeSet::new(),
            answered: BTreeSet::new(),
            answers: BTreeMap::new(),
            dispatched: BTreeMap::new(),
            journaled: 0,
            seen: Seen::default(),
            watched: BTreeSet::new(),
            down_until: scenario.start,
        };
        if let Regime::RestartAnywhere(seed) = regime {
            // A course of its own: what people are told changes nothing of what else is drawn.
            *locked(&world.faults.telling_dice) = Some(Dice::new(!seed));
        }
        world.remember().await?;
        world.start();
        world.fill()?;
        Ok(world)
    }

    /// Puts earlier days into the store. They are known from the start, and are no part of what is seen.
    async fn remember(&mut self) -> Result<(), RunError> {
        for past in &self.scenario.history {
            let Some(declared) = self.declarations.pipelines.get(&past.pipeline) else {
                return Err(RunError::File(format!("history: there is no pipeline `{}`", past.pipeline)));
            };
            remember(&*self.store, &declared.graph, past).await?;
        }
        while let Some(last) = self.store.journal(None, self.journaled, 500).await?.last() {
            self.journaled = last.seq;
        }
        Ok(())
    }

    /// Plays it to its end, telling `watch` of every moment at which something happened.
    ///
    /// # Errors
    /// If the run cannot be carried out.
    pub async fn play(mut self, mut watch: impl FnMut(&Moment<'_>)) -> Result<Seen, RunError> {
        let last = self.queue.keys().next_back().map_or(self.scenario.start, |(at, _)| *at);
        let run_on = match &self.scenario.run_on {
            Some(text) => span(text).map_err(RunError::File)?,
            None => SignedDuration::from_hours(1),
        };
        let mut end = after(last, run_on);
        let mut shown = 0;
        let mut dates = Vec::new();
        let mut read_at = 0;
        while let Some((at, works)) = self.next_instant().await? {
            if at > end {
                break;
            }
            self.clock.set(at);
            if works {
                self.inputs(at).await?;
                self.foretell(at).await;
                self.backfill(at).await?;
                self.round(at).await?;
            }
            self.watch(at).await?;
            self.tell_people(at).await?;
            // A world that answers goes on for as long as it has something to say.
            if let Some((last, _)) = self.queue.keys().next_back().filter(|_| self.answers_dispatches()) {
                end = end.max(after(*last, run_on.min(SignedDuration::from_hours(1))));
            }
            if self.seen.entries.len() > shown {
                // Dates are read again only when a decision has been taken since: a flood of poison takes none.
                if self.journaled > read_at {
                    dates = self.views(at).await?;
                    read_at = self.journaled;
                }
                let stage = Stage {
                    declarations: &self.declarations,
                    clock: &self.clock,
                    store: &self.store,
                    bus: &self.bus,
                    warehouse: &self.warehouse,
                };
                watch(&Moment { at, entries: &self.seen.entries[shown..], dates: &dates, stage });
                shown = self.seen.entries.len();
            }
        }
        self.finish(end).await
    }

    fn answers_dispatches(&self) -> bool {
        !self.scenario.answers.is_empty() || !self.scenario.follows.is_empty()
    }

    /// Makes a forecast where one is due. Without a past there is none to make.
    async fn foretell(&mut self, at: Timestamp) {
        if self.scenario.history.is_empty() || !on_grid(at, FORECAST_EVERY) || locked(&self.faults.outage).is_some() {
            return;
        }
        if let Some(engine) = &self.engine
            && let Err(error) = engine.foretell().await
        {
            self.world(at, format!("no forecast: {error}"));
        }
    }

    /// Sees to what is missing of past dates, where that is due.
    async fn backfill(&mut self, at: Timestamp) -> Result<(), RunError> {
        let Some(every) = self.backfill_every()? else { return Ok(()) };
        if !on_grid(at, every) || locked(&self.faults.outage).is_some() {
            return Ok(());
        }
        if let Some(engine) = &self.engine
            && let Err(error) = engine.backfill().await
        {
            self.world(at, format!("no backfill: {error}"));
        }
        if self.strikes(25) {
            self.look(at).await?;
            self.kill(at, SignedDuration::ZERO).await?;
        }
        Ok(())
    }

    fn backfill_every(&self) -> Result<Option<SignedDuration>, RunError> {
        self.scenario.backfill.as_deref().map(span).transpose().map_err(RunError::File)
    }

    async fn finish(mut self, end: Timestamp) -> Result<Seen, RunError> {
        self.clock.set(end);
        if self.engine.is_none() {
            self.start();
        }
        if let Some(engine) = &self.engine {
            while engine.export().await? > 0 {}
        }
        for (index, expectation) in self.scenario.expect.iter().enumerate() {
            if expectation.value.look() == Some(None) {
                self.check(index, end).await?;
            }
        }
        self.seen.parked = self.store.parked(10_000).await?;
        self.seen.letters = self.letters().await?;
        self.seen.refused = std::mem::take(&mut *locked(&self.faults.refused));
        self.seen.ended = end;
        Ok(self.seen)
    }

    /// Turns the file's steps into inputs.
    fn fill(&mut self) -> Result<(), RunError> {
        let scenario = self.scenario;
        for (index, step) in scenario.timeline.iter().enumerate() {
            let step = &step.value;
            let id = step.id.clone().unwrap_or_else(|| format!("step {}", index + 1));
            self.lay(step, scenario.start, &id)?;
        }
        for (index, expectation) in scenario.expect.iter().enumerate() {
            if let Some(text) = expectation.value.look().flatten() {
                let at = scenario.instant(text).map_err(RunError::File)?;
                self.enqueue(at, Input::Check(index));
            }
        }
        Ok(())
    }

    /// Turns a step into inputs; spans of it count from `origin`.
    fn lay(&mut self, step: &Step, origin: Timestamp, id: &str) -> Result<(), RunError> {
        let at = instant(&step.at, origin).map_err(RunError::File)?;
        if let Some(publish) = &step.publish {
            let topic = long_name(&publish.topic);
            let data = match (&publish.body, &publish.raw, &publish.bytes) {
                (Some(body), _, _) => body.to_string().into_bytes(),
                (None, Some(raw), _) => raw.clone().into_bytes(),
                (None, None, bytes) => bytes.clone().unwrap_or_default(),
            };
            let (times, every) = match &publish.repeat {
                Some(repeat) => (repeat.times, span(&repeat.every).map_err(RunError::File)?),
                None => (1, SignedDuration::ZERO),
            };
            for nth in 0..times {
                let at = after(at, every.saturating_mul(i32::try_from(nth).unwrap_or(i32::MAX)));
                let published = match &publish.published {
                    Some(text) => instant(text, origin).map_err(RunError::File)?,
                    None => at,
                };
                let delays = publish.redeliver.iter().map(|text| span(text).map_err(RunError::File));
                let delays = delays.collect::<Result<Vec<_>, _>>()?;
                let data = if publish.repeat.is_some() { numbered(&data, nth + 1) } else { data.clone() };
                self.message(id, &topic, data, publish.attributes.clone(), published, at, &delays);
            }
        } else if let Some(beats) = &step.heartbeats {
            let every = beats.every.as_deref().unwrap_or("60s");
            let every = span(every).map_err(RunError::File)?;
            for nth in 0..beats.times {
                let at = after(at, every.saturating_mul(i32::try_from(nth).unwrap_or(i32::MAX)));
                let body = json!({
                    "processor_name": beats.processor, "run_id": beats.run, "data_date": beats.date,
                    "status": beats.status.as_deref().unwrap_or("running"), "last_heartbeat": at,
                    "progress": beats.progress, "total": beats.total, "status_message": "",
                });
                let topic = long_name("hb");
                self.message(id, &topic, body.to_string().into_bytes(), BTreeMap::new(), at, at, &[]);
            }
        } else {
            let repeat = step.restart.as_ref().and_then(|restart| restart.repeat.as_ref());
            let (times, every) = match repeat {
                Some(repeat) => (repeat.times, span(&repeat.every).map_err(RunError::File)?),
                None => (1, SignedDuration::ZERO),
            };
            for nth in 0..times {
                let at = after(at, every.saturating_mul(i32::try_from(nth).unwrap_or(i32::MAX)));
                self.enqueue(at, Input::Step(Box::new(step.clone())));
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, at: Timestamp, input: Input) {
        self.queue.insert((at, self.next), input);
        self.next += 1;
    }

    fn start(&mut self) {
        let store = FaultyStore { inner: Arc::clone(&self.store), faults: Arc::clone(&self.faults) };
        let bus =
            FaultyBus { inner: Arc::clone(&self.bus), faults: Arc::clone(&self.faults), clock: self.clock.clone() };
        let engine = Engine::new(
            Arc::clone(&self.declarations),
            Arc::new(store),
            Arc::new(bus),
            Arc::new(self.warehouse.clone()),
            self.clock.clone(),
            Settings { role: role_of(self.scenario), ..Settings::default() },
        );
        let id = ChannelId::from(PEOPLE);
        let channel = RecordedChannel { id: id.clone(), faults: Arc::clone(&self.faults), clock: self.clock.clone() };
        let channels: BTreeMap<ChannelId, Arc<dyn Channel>> = BTreeMap::from([(id, Arc::new(channel) as Arc<_>)]);
        self.engine = Some(engine.telling(Notifier::new(telling(), channels)));
        self.intake = Intake::default();
    }

    /// SIGKILL: what is in memory is lost, what was not acknowledged comes again.
    async fn kill(&mut self, at: Timestamp, down_for: SignedDuration) -> Result<(), RunError> {
        self.engine = None;
        self.intake = Intake::default();
        *locked(&self.faults.lose_settling) = false;
        *locked(&self.faults.lose_telling) = false;
        (self.store, self.bus) = self.ground.open().await.map_err(RunError::Open)?;
        let up = after(at, down_for);
        self.down_until = self.down_until.max(up);
        self.enqueue(up, Input::Up);
        self.world(at, format!("killed, down for {}", down_for.as_secs()));
        Ok(())
    }

    fn world(&mut self, at: Timestamp, text: String) {
        self.seen.entries.push(Entry { at, what: What::World { text } });
    }

    /// The next instant at which anything happens, and whether it is more than a look of the service at itself.
    async fn next_instant(&self) -> Result<Option<(Timestamp, bool)>, RunError> {
        let mut instants: Vec<Timestamp> = self.queue.keys().next().map(|(at, _)| *at).into_iter().collect();
        let now = self.clock.now();
        if let Some(engine) = &self.engine {
            instants.extend(self.intake.next_due());
            let away = locked(&self.faults.outage).is_some();
            if !away {
                let (wake, outbox) = self.store.next_wake().await?;
                // A sweep comes by every so often, not at the very instant.
                let grid = engine.settings.sweep_every;
                let aligned = |at: Timestamp, grid: SignedDuration| {
                    let grid = grid.as_secs().max(1);
                    let second = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
                    let next = (second + grid - 1).div_euclid(grid) * grid;
                    Timestamp::from_second(next).unwrap_or(Timestamp::MAX)
                };
                instants.extend(wake.map(|at| aligned(at.max(after(now, SignedDuration::from_secs(1))), grid)));
                if !self.scenario.history.is_empty() {
                    instants.push(aligned(after(now, SignedDuration::from_secs(1)), FORECAST_EVERY));
                }
                instants.extend(outbox.map(|at| at.max(after(now, SignedDuration::from_millis(200)))));
                if let Some(every) = self.backfill_every()? {
                    instants.push(aligned(after(now, SignedDuration::from_secs(1)), every));
                }
            }
        }
        let work = instants.into_iter().min().map(|at| at.max(now));
        let look = self.engine.as_ref().map(|engine| engine.watch.due().min(engine.notifier.due()).max(now));
        Ok(match (work, look) {
            (Some(work), Some(look)) => Some((work.min(look), work <= look)),
            (Some(work), None) => Some((work, true)),
            (None, look) => look.map(|look| (look, false)),
        })
    }

    /// The service looks at itself, where that is due. What the broker has kept comes once it can be taken in.
    async fn watch(&mut self, at: Timestamp) -> Result<(), RunError> {
        let Some(engine) = self.engine.as_ref().filter(|engine| engine.watch.due() <= at) else { return Ok(()) };
        engine.watch().await;
        if engine.watch.refusal().is_none() {
            for index in std::mem::take(&mut self.held) {
                self.enqueue(at, Input::Message(index));
            }
        }
        self.look(at).await
    }

    /// People are told what they have to be, where that is due.
    async fn tell_people(&mut self, at: Timestamp) -> Result<(), RunError> {
        let Some(engine) = self.engine.as_ref().filter(|engine| engine.notifier.due() <= at) else { return Ok(()) };
        let failed = engine.notify().await.is_err();
        // Between telling and noting it.
        let killed = failed && locked(&self.faults.telling_dice).is_some() && locked(&self.faults.outage).is_none();
        self.look(at).await?;
        if killed {
            self.seen.kills += 1;
            self.kill(at, SignedDuration::ZERO).await?;
        }
        Ok(())
    }

    /// Everything that arrives now.
    async fn inputs(&mut self, at: Timestamp) -> Result<(), RunError> {
        if let Regime::Shuffle(_) = self.regime {
            self.shuffle(at).await?;
        }
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > at {
                break;
            }
            let input = entry.remove();
            match input {
                Input::Message(index) => self.deliver(index, at).await?,
                Input::Step(step) => self.step(*step, at).await?,
                Input::Mend(target) => {
                    if target == "store" {
                        *locked(&self.faults.outage) = None;
                    } else {
                        locked(&self.faults.broken).remove(&target);
                    }
                    self.world(at, format!("{target} works again"));
                }
                // A kill drawn by the regime may fall into a stop that the file asks for, and must not shorten it.
                Input::Up if at < self.down_until => {}
                Input::Up => {
                    self.start();
                    self.held.clear();
                    self.watch(at).await?;
                    let unsettled = self.arrived();
                    for index in unsettled {
                        self.enqueue(at, Input::Message(index));
                    }
                }
                // What is looked at by the engine is looked at when it is back.
                Input::Check(index) if self.engine.is_none() => {
                    self.enqueue(self.down_until.max(after(at, SignedDuration::from_secs(1))), Input::Check(index));
                }
                Input::Check(index) => {
                    self.round(at).await?;
                    self.check(index, at).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a kill falls here, in a world where they fall.
    fn strikes(&mut self, odds: u64) -> bool {
        matches!(self.regime, Regime::RestartAnywhere(_)) && self.engine.is_some() && {
            let hit = self.dice.roll(odds) == 0;
            self.seen.kills += u32::from(hit);
            hit
        }
    }

    async fn step(&mut self, step: Step, at: Timestamp) -> Result<(), RunError> {
        // Whoever asks a service that does not answer asks again when it does.
        let asks = step.schedule.is_some()
            || step.event.is_some()
            || step.operator.is_some()
            || step.mute.is_some()
            || step.unmute.is_some()
            || step.hold_all.is_some()
            || step.resume_all.is_some()
            || step.letters.is_some()
            || step.backfill.is_some();
        if self.engine.is_none() && asks {
            self.enqueue(self.down_until.max(at), Input::Step(Box::new(step)));
            return Ok(());
        }
        if let Some(fact) = step.fact {
            let Some(coverage) = Coverage::new(fact.observed, fact.expected) else {
                return Err(RunError::File(format!("a fact about {} expects nothing", fact.node)));
            };
            let units = fact
                .units
                .into_iter()
                .filter_map(|(unit, (observed, expected))| Some((unit, Coverage::new(observed, expected)?)))
                .collect();
            let about = fact.check.map_or(fact.node.clone(), |check| question(&fact.node, &check));
            self.warehouse.put_coverage(&fact.pipeline, &about, fact.date, coverage, units, at).await?;
            self.world(at, format!("the warehouse has {coverage} of {about}@{}", fact.date));
        } else if let Some(reason) = step.warehouse_away {
            let away = (!reason.is_empty()).then_some(reason);
            self.world(at, format!("the warehouse is {}", away.as_deref().unwrap_or("back")));
            self.warehouse.set_unavailable(away);
        } else if let Some(games) = step.schedule {
            let key = PartitionKey { pipeline: games.pipeline, date: games.date };
            let games = games
                .games
                .into_iter()
                .map(|(id, game)| (id, Game { tip: game.tip, status: game.status, id: game.id }));
            let event = Event::Scheduled(Scheduled { games: games.collect(), at });
            self.tell(&key, event, at).await?;
        } else if let Some(told) = step.event {
            let key = PartitionKey { pipeline: told.pipeline, date: told.date };
            self.tell(&key, told.is, at).await?;
        } else if let Some(asked) = step.operator {
            let key = PartitionKey { pipeline: asked.pipeline, date: asked.date };
            let event = Event::Requested(Request {
                id: RequestId::new(format!("asked at {at}")),
                actor: asked.actor.as_deref().unwrap_or("operator").into(),
                reason: asked.reason.as_str().into(),
                at,
                command: asked.ask,
            });
            self.tell(&key, event, at).await?;
        } else if let Some(asked) = step.mute {
            let until = after(at, span(&asked.r#for).map_err(RunError::File)?);
            let (actor, reason) = (asked.actor.unwrap_or_else(|| "operator".to_owned()), asked.reason);
            let mute = Mute { what: asked.what, from: at, until, actor, reason, ended_by: None };
            self.world(at, format!("{} mutes {}", mute.actor, mute.what));
            if let Some(engine) = &self.engine
                && let Err(error) = engine.mute(&mute).await
            {
                self.world(at, format!("refused: {error}"));
            }
        } else if let Some(what) = step.unmute {
            self.world(at, format!("{what} is unmuted"));
            if let Some(engine) = &self.engine
                && let Err(error) = engine.unmute(&what, "operator").await
            {
                self.world(at, format!("refused: {error}"));
            }
        } else if let Some(asked) = step.hold_all {
            let until = asked.r#for.as_deref().map(span).transpose().map_err(RunError::File)?;
            let actor = asked.actor.unwrap_or_else(|| "operator".to_owned());
            let until = until.map(|span| after(at, span));
            let (pipeline, reason) = (asked.pipeline, asked.reason);
            let stop = Stop { pipeline, actor, reason, from: at, until, ended_by: None };
            self.world(at, stop.to_string());
            if let Some(engine) = &self.engine
                && let Err(error) = engine.stop(&stop).await
            {
                self.world(at, format!("refused: {error}"));
            }
        } else if let Some(asked) = step.letters {
            self.with_letters(asked, at).await?;
        } else if let Some(asked) = step.resume_all {
            let actor = asked.actor.as_deref().unwrap_or("operator");
            self.world(at, format!("{actor} ends the hold on {}", asked.pipeline));
            if let Some(engine) = &self.engine
                && let Err(error) = engine.go_on(&asked.pipeline, actor, &asked.reason).await
            {
                self.world(at, format!("refused: {error}"));
            }
        } else if let Some(asked) = step.backfill {
            self.operate(&asked, at).await?;
        } else if let Some(restart) = step.restart {
            let down_for = restart.down_for.as_deref().map_or(Ok(SignedDuration::ZERO), span);
            self.kill(at, down_for.map_err(RunError::File)?).await?;
        } else if let Some(Break { target, r#for, after: through, gone, denies }) = step.breaks {
            let mended = after(at, span(&r#for).map_err(RunError::File)?);
            let outage = match denies {
                Some(Denied::Writes) => Outage::ReadOnly,
                None => Outage::Away,
            };
            if target == "store" {
                *locked(&self.faults.outage) = Some(outage);
            } else if denies.is_some() {
                return Err(RunError::File(format!("`denies` is said of the store, not of {target}")));
            } else {
                locked(&self.faults.broken).insert(target.clone(), (through, gone));
            }
            self.world(at, format!("{target} fails"));
            self.enqueue(mended, Input::Mend(target));
        }
        Ok(())
    }

    /// What the engine does at one instant: applies what is due, sweeps, relays, until there is nothing left to do.
    async fn round(&mut self, at: Timestamp) -> Result<(), RunError> {
        for _ in 0..RELAY_ROUNDS_MAX {
            if self.engine.is_none() {
                break;
            }
            let batches = self.intake.due(at, usize::MAX);
            let mut busy = !batches.is_empty();
            for batch in batches {
                let Some(engine) = &self.engine else { break };
                let key = batch.key.clone();
                let settled = engine.apply(batch).await;
                self.watched.insert(key.clone());
                self.intake.done(&key);
                if self.strikes(25) {
                    // Committed, not acknowledged: all of it comes again.
                    self.look(at).await?;
                    self.kill(at, SignedDuration::ZERO).await?;
                    break;
                }
                for (index, settlement) in settled {
                    self.settle(index, settlement, at);
                }
            }
            if locked(&self.faults.outage).is_none()
                && let Some(engine) = &self.engine
            {
                let (wake, _) = self.store.next_wake().await?;
                if wake.is_some_and(|wake| wake <= at) && on_grid(at, engine.settings.sweep_every) {
                    engine.sweep().await?;
                }
            }
            self.look(at).await?;
            if self.strikes(25) {
                self.kill(at, SignedDuration::ZERO).await?;
                break;
            }
            if self.strikes(25) {
                *locked(&self.faults.lose_settling) = true;
            }
            if let Some(engine) = &self.engine {
                match engine.relay().await {
                    Ok(count) => busy |= count > 0,
                    Err(_) if *locked(&self.faults.lose_settling) => {
                        self.look(at).await?;
                        self.kill(at, SignedDuration::ZERO).await?;
                        break;
                    }
                    Err(_) => {}
                }
            }
            self.look(at).await?;
            if !busy {
                return Ok(());
            }
        }
        if self.engine.is_some() && !self.intake.due(at, 0).is_empty() {
            return Err(RunError::Endless(at));
        }
        Ok(())
    }
}

/// Everything from a warning on is told, by the usual settings.
fn telling() -> notify::Settings {
    let channels = vec![ChannelId::from(PEOPLE)];
    let route = Route { channels, severity_min: Severity::Warning, topics: Vec::new(), pipeline: None };
    notify::Settings { routes: vec![route], ..notify::Settings::default() }
}

fn on_grid(at: Timestamp, every: SignedDuration) -> bool {
    at.as_second().rem_euclid(every.as_secs().max(1)) == 0 && at.subsec_nanosecond() == 0
}

/// Whether what is decided is sent: where no phase is named, it is a shadow.
fn role_of(scenario: &Scenario) -> Role {
    Role { shadow: scenario.sends.as_ref().is_some_and(BTreeSet::is_empty), sends: scenario.sends.clone() }
}
