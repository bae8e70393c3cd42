//! A season with holes is made whole: the real engine over the embedded store, on a virtual clock, with a worker that fails
//! every tenth time, and killed three times: with what is decided and not sent, with what is sent and not heard of, and
//! with what is heard of.
//!
//! Shows what an operator relies on: the ranges are those that are missing; the oldest dates go first; nothing is asked for
//! too often, too soon, at night, or beside too much else; and a live date waits for none of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::clock::Clock;
use tipoff::domain::backfill::{Said, Status};
use tipoff::domain::coverage::Coverage;
use tipoff::domain::effect::Alert;
use tipoff::domain::event::{Command, Completed, Event, Outcome, Request};
use tipoff::domain::evidence::Extent;
use tipoff::domain::id::{NodeId, PartitionKey, PipelineId};
use tipoff::engine::backfill::Turned;
use tipoff::engine::{Engine, Settings};
use tipoff::pipeline::{Declarations, shipped};
use tipoff::port::{Bus, BusError, Store};
use tipoff::wire::dispatch::Outgoing;
use tipoff::wire::report;

const FIRST: Date = date(2025, 10, 21);
const TODAY: Date = date(2026, 4, 20);
const GAME_DAYS: usize = 165;
/// The table that is missing, and who brings it.
const TABLE: &str = "p2_nbacom_gamebook_pdf";
const SCRAPER: &str = "nbac_gamebook_pdf";
/// The node that a live date asks for meanwhile.
const LIVE: &str = "nbac_player_boxscore";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What left, with its instant.
type Sent = Arc<Mutex<Vec<(Timestamp, String, Value)>>>;

/// The real bus, with an ear to it.
struct Ear {
    inner: Arc<dyn Bus>,
    sent: Sent,
}

#[async_trait]
impl Bus for Ear {
    async fn send(&self, message: &Outgoing, at: Timestamp) -> Result<(), BusError> {
        let body = serde_json::from_slice(&message.body).unwrap();
        self.sent.lock().unwrap().push((at, message.id.clone(), body));
        self.inner.send(message, at).await
    }

    async fn alert(&self, alert: &Alert) -> Result<(), BusError> {
        self.inner.alert(alert).await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        self.inner.alerts().await
    }

    async fn alert_of(&self, key: &tipoff::domain::id::AlertKey) -> Result<Option<Alert>, BusError> {
        self.inner.alert_of(key).await
    }
}

struct Season {
    folder: tempfile::TempDir,
    declarations: Arc<Declarations>,
    clock: Clock,
    warehouse: Embedded,
    engine: Engine,
    sent: Sent,
}

fn open(folder: &std::path::Path, declarations: &Arc<Declarations>, clock: &Clock, sent: &Sent) -> (Engine, Embedded) {
    let embedded = Embedded::open(folder, Durability::Off).unwrap();
    let inner = Arc::new(embedded.bus(Arc::new(declarations.topology.clone())));
    let bus = Arc::new(Ear { inner, sent: sent.clone() });
    let store: Arc<dyn Store> = Arc::new(embedded.clone());
    let warehouse = Arc::new(embedded.clone());
    let engine = Engine::new(declarations.clone(), store, bus, warehouse, clock.clone(), Settings::default());
    (engine, embedded)
}

impl Season {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let declarations = Arc::new(shipped().unwrap());
        // Eleven in the evening in New York, so that a night comes soon.
        let clock = Clock::manual("2026-04-21T03:00:00Z".parse().unwrap());
        let sent = Sent::default();
        let (engine, warehouse) = open(folder.path(), &declarations, &clock, &sent);
        Self { folder, declarations, clock, warehouse, engine, sent }
    }

    /// The process is killed; what was only in its memory is gone.
    fn restart(&mut self) {
        let (engine, warehouse) = open(self.folder.path(), &self.declarations, &self.clock, &self.sent);
        (self.engine, self.warehouse) = (engine, warehouse);
    }

    async fn has(&self, date: Date, games: u32) {
        let coverage = Coverage::new(games, 1).unwrap();
        let now = self.clock.now();
        self.warehouse.put_coverage(&nba(), &TABLE.into(), date, coverage, BTreeMap::new(), now).await.unwrap();
    }

    async fn completes(&self, node: &str, date: Date, run: &str, outcome: Outcome) {
        let completed = Completed {
            node: node.into(),
            run: run.into(),
            outcome,
            records: None,
            published: self.clock.now(),
            correlation: None,
            dispatch: None,
            unit: None,
            trace: None,
        };
        let key = PartitionKey { pipeline: nba(), date };
        self.engine.step(&key, &[Event::Completed(completed)]).await.unwrap();
    }

    async fn deliver(&self) {
        while self.engine.relay().await.unwrap() > 0 {}
    }
}

fn nba() -> PipelineId {
    "nba".into()
}

/// The dates on which games are played: all but those of the break.
fn game_days() -> Vec<Date> {
    let pause = date(2026, 2, 13)..=date(2026, 2, 18);
    FIRST.series(1.day()).filter(|date| !pause.contains(date)).take(GAME_DAYS).collect()
}

/// Twenty-six after each other, and twenty alone.
fn missing(days: &[Date]) -> Vec<Date> {
    let alone = (2..=52).step_by(5).chain((92..=132).step_by(5));
    let mut missing: Vec<Date> = (60..86).chain(alone).map(|nth: usize| days[nth]).collect();
    missing.sort();
    missing
}

#[tokio::test]
async fn a_season_with_holes_is_made_whole() {
    let mut season = Season::new();
    let days = game_days();
    let missing = missing(&days);
    assert_eq!((days.len(), missing.len()), (GAME_DAYS, 46));
    for day in FIRST.series(1.day()).take_while(|day| *day <= TODAY) {
        let rows = if days.contains(&day) {
            let tip = format!("{day}T23:00:00Z");
            vec![json!({ "game_id": "0022500001", "away": "BOS", "home": "NYK", "tip": tip, "status": "final" })]
        } else {
            Vec::new()
        };
        let rows = rows.into_iter().map(|row| row.as_object().unwrap().clone()).collect();
        let now = season.clock.now();
        season.warehouse.put_report(&nba(), report::Kind::Schedule, day, rows, now).await.unwrap();
        if days.contains(&day) {
            season.has(day, u32::from(!missing.contains(&day))).await;
        }
    }

    // What is missing, as ranges: twenty-six days are one, though nothing else is alike.
    let graph = season.declarations.pipelines[&nba()].graph.clone();
    let survey = season.engine.survey(&nba(), &graph, (FIRST, TODAY), None, &|_, _| {}).await.unwrap();
    let gaps = survey.gaps();
    assert_eq!(survey.game_days.len(), GAME_DAYS);
    assert!(gaps.iter().all(|gap| gap.node == NodeId::from(TABLE)), "{gaps:?}");
    assert_eq!(gaps.len(), 21);
    let longest = gaps.iter().max_by_key(|gap| gap.days).unwrap();
    assert_eq!((longest.from, longest.until, longest.days), (days[60], days[85], 26));

    // The plan asks the scraper, for nobody can ask the table; nothing happens before somebody says so.
    let said = |text: &str| Said { at: season.clock.now(), actor: "ann".into(), text: text.into() };
    let plan = season.engine.plan_backfill(&nba(), &graph, &survey, false, said("holes")).await.unwrap();
    let order: Vec<Date> = plan.items.iter().map(|item| item.date).collect();
    assert_eq!(order, missing);
    assert!(plan.items.iter().all(|item| item.node == NodeId::from(SCRAPER)));
    season.engine.backfill().await.unwrap();
    season.deliver().await;
    assert!(season.sent.lock().unwrap().is_empty());
    let turned = season.engine.turn_plan(&nba(), &plan.id, Status::Running, said("they are needed")).await.unwrap();
    assert!(matches!(turned, Turned::Done(_)));

    let begun = season.clock.now();
    let (mut heard, mut live, mut kills) = (0, 0, 0);
    // Runs under way, by the instant of their end.
    let mut runs: BTreeMap<(Timestamp, String), (Date, bool)> = BTreeMap::new();
    let mut asked: BTreeMap<Date, Vec<Timestamp>> = BTreeMap::new();
    let mut first_asks: Vec<(Timestamp, Date)> = Vec::new();
    for minute in 0..60 * 72 {
        let now = begun.saturating_add(MINUTE * minute).unwrap();
        season.clock.set(now);
        if minute % 5 == 0 {
            season.engine.backfill().await.unwrap();
        }
        let decided = || async { season.engine.store.outbox(now, 10).await.unwrap().len() };
        if kills == 0 && first_asks.len() >= 15 && decided().await > 0 {
            season.restart();
            kills += 1;
        }
        season.engine.sweep().await.unwrap();
        if minute % 120 == 7 {
            // Somebody asks for something of today, and it leaves at once.
            live += 1;
            let key = PartitionKey { pipeline: nba(), date: TODAY.tomorrow().unwrap() };
            let request = Request {
                id: format!("live {minute}").as_str().into(),
                actor: "ann".into(),
                reason: "now".into(),
                at: now,
                command: Command::Retry { node: LIVE.into() },
            };
            season.engine.step(&key, &[Event::Requested(request)]).await.unwrap();
            season.deliver().await;
            let sent = season.sent.lock().unwrap();
            let left = sent.iter().filter(|(at, id, _)| *at == now && id.contains(LIVE)).count();
            assert_eq!(left, 1, "a live date waits for nothing");
        }
        season.deliver().await;
        if kills == 1 && first_asks.len() >= 23 && season.sent.lock().unwrap().len() > heard {
            season.restart();
            kills += 1;
        }
        let new: Vec<(Timestamp, String, Value)> = season.sent.lock().unwrap()[heard..].to_vec();
        heard += new.len();
        for (at, id, body) in new {
            if id.contains(LIVE) {
                season.completes(LIVE, TODAY.tomorrow().unwrap(), &id, Outcome::Done(Extent::Whole)).await;
                continue;
            }
            assert_eq!(
                (&body["tipoff"]["cause"], &body["phase"]),
                (&json!("backfill"), &json!("phase1_scrape")),
                "{body}"
            );
            let date: Date = body["game_date"].as_str().unwrap().parse().unwrap();
            // It leaves within its turn, a little later.
            let decided: Timestamp = body["requested_at"].as_str().unwrap().parse().unwrap();
            let tries = asked.entry(date).or_default();
            if tries.is_empty() {
                first_asks.push((decided, date));
            }
            tries.push(decided);
            // Every tenth run fails, and which one they are is always the same.
            let fails = (first_asks.len() + tries.len() * 7).is_multiple_of(10);
            runs.insert((at.saturating_add(MINUTE * 7).unwrap(), id), (date, fails));
            assert!(runs.len() <= 5, "at most five at once: {runs:?}");
            let clock = graph.zone.to_datetime(at).time();
            assert!(clock.hour() < 2 || clock.hour() >= 6, "asked for at night: {at}");
        }
        while let Some(((end, id), (date, fails))) = runs.first_key_value().map(|(key, run)| (key.clone(), *run)) {
            if end > now {
                break;
            }
            runs.remove(&(end, id.clone()));
            if fails {
                season.completes(SCRAPER, date, &id, Outcome::Failed("HTTP 500".into())).await;
            } else {
                season.completes(SCRAPER, date, &id, Outcome::Done(Extent::Whole)).await;
                season.has(date, 1).await;
                season.completes(TABLE, date, &format!("load {id}"), Outcome::Done(Extent::Whole)).await;
            }
        }
        if kills == 2 && first_asks.len() >= 31 && !runs.is_empty() {
            season.restart();
            kills += 1;
        }
        let plans = season.engine.store.plans(&nba()).await.unwrap();
        if plans.iter().any(|(known, _)| known.id == plan.id && known.status == Status::Over) {
            break;
        }
    }

    let plans = season.engine.store.plans(&nba()).await.unwrap();
    let (plan, _) = plans.into_iter().find(|(known, _)| known.id == plan.id).unwrap();
    assert_eq!((plan.status, plan.tally().done, plan.tally().failed), (Status::Over, 46, 0), "{:?}", plan.tally());
    assert!(kills == 3 && live > 1);
    // What is decided at one instant leaves the latest first.
    first_asks.sort();
    let order: Vec<Date> = first_asks.iter().map(|(_, date)| *date).collect();
    assert_eq!(order, missing, "the oldest first, each of them, and nothing else");
    for (date, tries) in &asked {
        assert!(tries.len() <= 3, "{date} was asked for {} times", tries.len());
        let apart = tries.windows(2).map(|pair| pair[1].duration_since(pair[0])).min();
        assert!(apart.is_none_or(|apart| apart >= SignedDuration::from_hours(2)), "{date} rests two hours");
    }
    assert!(asked.values().any(|tries| tries.len() > 1), "some failed, and were tried again");
    let survey = season.engine.survey(&nba(), &graph, (FIRST, TODAY), None, &|_, _| {}).await.unwrap();
    assert_eq!(survey.gaps(), [], "nothing is missing any more");
}
