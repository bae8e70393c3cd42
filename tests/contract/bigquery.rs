//! The BigQuery adapter on an emulator: the contract, and what only BigQuery can be asked.

mod project;
mod refusals;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use project::Project;
use serde_json::json;
use tempfile::TempDir;
use tipoff::adapter::bigquery::{Bigquery, Settings};
use tipoff::adapter::embedded::{Embedded, EmbeddedBus};
use tipoff::clock::Clock;
use tipoff::domain::coverage::Coverage;
use tipoff::domain::event::{Completed, Event, GameStatus, Outcome};
use tipoff::domain::evidence::Extent;
use tipoff::domain::id::UnitId;
use tipoff::engine::Engine;
use tipoff::pipeline::probe::{Argument, Probe};
use tipoff::pipeline::{self, Declarations};
use tipoff::port::{Answer, Reported, Row, Store, Warehouse};
use tipoff::wire::report::{self, Kind, RosterAge};

use super::embedded::open;
use super::store::key;
use super::warehouse::{self, Bench};
use super::{emulator, second};

/// What one call may take here.
const LIMIT: Duration = Duration::from_secs(2);

fn declarations() -> Declarations {
    pipeline::shipped().unwrap()
}

/// The shipped probes, a clock that stands, and a limit that a test can wait for.
fn settings(project: &str, address: &str) -> Settings {
    Settings {
        emulator: Some(address.to_owned()),
        timeout: Duration::from_secs(20),
        clock: Clock::manual(second(0)),
        ..Settings::new(project, &declarations().pipelines)
    }
}

/// A project on the emulator with the adapter under test.
struct Emulated {
    bigquery: Bigquery,
    project: Project,
    laid: AtomicBool,
}

impl Emulated {
    async fn new(name: &str, address: &str) -> Self {
        let bigquery = Bigquery::connect(settings(name, address)).await.unwrap();
        bigquery.create_tables().await.unwrap();
        Self { bigquery, project: Project::new(name, address), laid: AtomicBool::new(false) }
    }

    /// The schedule, with so many games on a date.
    async fn put_schedule(&self, date: Date, games: &[&str]) {
        let fields = [
            ("game_id", "STRING"),
            ("game_date", "DATE"),
            ("away_team_tricode", "STRING"),
            ("home_team_tricode", "STRING"),
        ];
        self.project.create("nba_reference", "nba_schedule", &fields).await;
        let rows = games.iter().enumerate().map(|(number, game)| {
            let teams: Vec<&str> = game.split('_').skip(1).collect();
            json!({
                "game_id": format!("002250{number:04}"), "game_date": date,
                "away_team_tricode": teams[0], "home_team_tricode": teams[1],
            })
        });
        // An exhibition game is no game that anybody works for.
        let exhibition = json!({
            "game_id": "0032500001", "game_date": date, "away_team_tricode": "EST", "home_team_tricode": "WST",
        });
        self.project.insert("nba_reference", "nba_schedule", rows.chain([exhibition]).collect()).await;
    }
}

#[async_trait]
impl Bench for Emulated {
    fn warehouse(&self) -> &dyn Warehouse {
        &self.bigquery
    }

    async fn put_games(&self, date: Date, games: &[(&str, bool)], _at: Timestamp) {
        if !self.laid.swap(true, Ordering::Relaxed) {
            self.put_schedule(date, &games.iter().map(|(game, _)| *game).collect::<Vec<_>>()).await;
        }
        // Nine rows are fewer than any box score has: a game of which that much is there is missing.
        self.project
            .create("nba_analytics", "player_game_summary", &[("game_id", "STRING"), ("game_date", "DATE")])
            .await;
        let rows = games
            .iter()
            .flat_map(|(game, there)| vec![json!({ "game_id": game, "game_date": date }); if *there { 10 } else { 9 }]);
        self.project.insert("nba_analytics", "player_game_summary", rows.collect()).await;
    }

    async fn put_game_coverage(&self, date: Date, rows: Vec<Row>, _at: Timestamp) {
        let day = date.strftime("%Y%m%d");
        let teams = |row: &Row| format!("{day}_{}_{}", row["away"].as_str().unwrap(), row["home"].as_str().unwrap());
        let games: Vec<String> = rows.iter().map(teams).collect();
        self.put_schedule(date, &games.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let fields =
            [("game_id", "STRING"), ("game_date", "DATE"), ("player_lookup", "STRING"), ("is_active", "BOOLEAN")];
        self.project.create("nba_predictions", "player_prop_predictions", &fields).await;
        let fields = [("game_id", "STRING"), ("game_date", "DATE"), ("is_production_ready", "BOOLEAN")];
        self.project.create("nba_predictions", "ml_feature_store_v2", &fields).await;
        let prediction = |game: &str, number: u64, is_active: bool| {
            let player = format!("player{number}");
            json!({ "game_id": game, "game_date": date, "player_lookup": player, "is_active": is_active })
        };
        for (row, game) in rows.iter().zip(&games) {
            let count = |column: &str| row[column].as_str().unwrap().parse::<u64>().unwrap();
            let (players, predictions) = (count("player_count"), count("prediction_count"));
            let shown = (0..predictions).map(|number| prediction(game, number % players, true));
            // What has been replaced is shown to nobody.
            let rows = shown.chain([prediction(game, 99, false)]).collect();
            self.project.insert("nba_predictions", "player_prop_predictions", rows).await;
        }
    }

    async fn rows(&self, table: &str) -> Vec<Row> {
        let dataset = if table == "processor_run_history" { "nba_reference" } else { "nba_orchestration" };
        self.project.rows(dataset, table).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_the_emulator() {
    let Some(emulator) = emulator::bigquery() else { return };
    let emulated = Emulated::new("contract", &emulator.address).await;
    // Tables that are there are left alone.
    emulated.bigquery.create_tables().await.unwrap();
    warehouse::contract(&emulated).await;
    assert_eq!(emulated.bigquery.refused(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_knows_hours_and_what_is_not_played() {
    // A game is listed twice, one was called off, one is listed for a later date as well, and one is an exhibition.
    let Some(emulator) = emulator::bigquery() else { return };
    let emulated = Emulated::new("schedule", &emulator.address).await;
    let (day, later) = (date(2026, 1, 24), date(2026, 1, 25));
    let text = "STRING";
    let fields = [
        ("game_id", text),
        ("game_date", "DATE"),
        ("away_team_tricode", text),
        ("home_team_tricode", text),
        ("game_status", "INTEGER"),
        ("game_status_text", text),
    ];
    emulated.project.create("nba_raw", "nbac_schedule", &fields).await;
    let listed = |id: &str, date: Date, game: &str, status: i32, words: &str| {
        let (away, home) = game.split_once('@').unwrap();
        json!({
            "game_id": id, "game_date": date, "away_team_tricode": away, "home_team_tricode": home,
            "game_status": status, "game_status_text": words,
        })
    };
    let rows = vec![
        listed("0022500647", day, "BOS@CHI", 1, "Scheduled"),
        listed("0022500647", day, "BOS@CHI", 2, "In Progress"),
        listed("0022500648", day, "CLE@ORL", 3, "Final"),
        listed("0022500649", day, "LAL@DAL", 1, "Postponed"),
        listed("0022500651", day, "GSW@MIN", 3, "Final"),
        listed("0022500651", later, "GSW@MIN", 1, "Scheduled"),
        listed("0042500101", day, "NYK@PHI", 1, "Scheduled"),
        listed("0032500001", day, "EST@WST", 1, "Scheduled"),
    ];
    emulated.project.insert("nba_raw", "nbac_schedule", rows).await;
    let fields = [
        ("game_date", "DATE"),
        ("away_team_abbr", text),
        ("home_team_abbr", text),
        ("commence_time", "TIMESTAMP"),
        ("snapshot_timestamp", "TIMESTAMP"),
    ];
    emulated.project.create("nba_raw", "odds_api_game_lines", &fields).await;
    let odds = |away: &str, home: &str, tip: &str, told: &str| {
        json!({
            "game_date": &tip[..10], "away_team_abbr": away, "home_team_abbr": home, "commence_time": tip,
            "snapshot_timestamp": told,
        })
    };
    let rows = vec![
        odds("BOS", "CHI", "2026-01-25T02:00:00Z", "2026-01-24T12:00:00Z"),
        odds("BOS", "CHI", "2026-01-25T01:10:00Z", "2026-01-24T14:00:00Z"),
        odds("NYK", "PHI", "2026-01-24T20:00:00Z", "2026-01-24T14:00:00Z"),
        // The same teams again the next evening.
        odds("CLE", "ORL", "2026-01-26T00:00:00Z", "2026-01-24T14:00:00Z"),
    ];
    emulated.project.insert("nba_raw", "odds_api_game_lines", rows).await;

    let ask = async |date| match emulated.bigquery.report(&"nba".into(), Kind::Schedule, date, second(0)).await {
        Reported::Rows(rows) => report::schedule(date, &rows).unwrap().games,
        other => panic!("{other:?}"),
    };
    let games = ask(day).await;
    let told = games.iter().map(|(unit, game)| (unit.as_str(), game.status, game.tip.map(|tip| tip.to_string())));
    let expected = [
        ("20260124_BOS_CHI", GameStatus::Live, Some("2026-01-25T01:10:00Z".to_owned())),
        ("20260124_CLE_ORL", GameStatus::Final, None),
        ("20260124_GSW_MIN", GameStatus::Moved, None),
        ("20260124_LAL_DAL", GameStatus::Postponed, None),
        ("20260124_NYK_PHI", GameStatus::Scheduled, Some("2026-01-24T20:00:00Z".to_owned())),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(ask(later).await.keys().map(UnitId::as_str).collect::<Vec<_>>(), ["20260125_GSW_MIN"]);
    assert_eq!(ask(date(2026, 7, 1)).await, BTreeMap::new(), "a day without games is an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_roster_is_found_under_espns_code() {
    let Some(emulator) = emulator::bigquery() else { return };
    let emulated = Emulated::new("rosters", &emulator.address).await;
    let day = date(2026, 1, 23);
    emulated.put_schedule(day, &["20260123_TOR_POR"]).await;
    let fields = [("team_abbr", "STRING"), ("roster_date", "DATE"), ("player_lookup", "STRING")];
    emulated.project.create("nba_raw", "espn_team_rosters", &fields).await;
    let codes = ["GS", "NO", "NY", "SA", "UTAH", "WSH", "POR"];
    let rows = codes.iter().flat_map(|code| {
        let roster = |date: &str, player| json!({ "team_abbr": code, "roster_date": date, "player_lookup": player });
        // One too old to count, and one from after the date.
        [roster("2026-01-14", "a"), roster("2026-01-14", "b"), roster("2025-10-01", "c"), roster("2026-01-24", "d")]
    });
    emulated.project.insert("nba_raw", "espn_team_rosters", rows.collect()).await;
    let told = emulated.bigquery.report(&"nba".into(), Kind::RosterAges, day, second(0)).await;
    let Reported::Rows(rows) = told else { panic!("{told:?}") };
    let teams = report::roster_ages(day, &rows).unwrap();
    assert_eq!(teams.len(), 30);
    for team in ["GSW", "NOP", "NYK", "SAS", "UTA", "WAS", "POR"] {
        let expected = RosterAge { latest: Some(date(2026, 1, 14)), players: 2, is_playing: team == "POR" };
        assert_eq!(teams[team], expected, "{team}");
    }
    assert_eq!(teams["TOR"], RosterAge { latest: None, players: 0, is_playing: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_declared_probe_is_answered() {
    // On tables with the columns that the probes name, and a day with one game of two.
    let Some(emulator) = emulator::bigquery() else { return };
    let emulated = Emulated::new("probes", &emulator.address).await;
    let day = date(2026, 1, 23);
    emulated.put_schedule(day, &["20260123_LAL_BOS", "20260123_TOR_POR"]).await;
    let declarations = declarations();
    let nba = &declarations.pipelines["nba"];
    for (node, probe) in &nba.probes {
        let (dataset, table) = nba.outputs[node].split_once('.').unwrap();
        let column = probe.sql.split('`').find(|name| name.ends_with("_date")).unwrap_or("game_date").to_owned();
        let fields = [
            ("game_id", "STRING"),
            (column.as_str(), "DATE"),
            ("player_lookup", "STRING"),
            ("is_active", "BOOLEAN"),
            ("team_abbr", "STRING"),
        ];
        if !emulated.project.create(dataset, table, &fields).await {
            continue;
        }
        let rows = (0..100).map(|number| {
            json!({
                "game_id": if probe.name == "schedule" { "0022500000" } else { "20260123_LAL_BOS" },
                column.as_str(): day, "player_lookup": format!("player{}", number % 8), "is_active": true, "team_abbr": "BOS",
            })
        });
        emulated.project.insert(dataset, table, rows.collect()).await;
    }
    let ask = async |node: &str, date| emulated.bigquery.coverage(&"nba".into(), &node.into(), date, second(0)).await;
    for node in nba.probes.keys() {
        let answer = ask(node.as_str(), day).await;
        assert!(matches!(answer, Answer::Known { .. }), "{node}: {answer:?}");
    }
    let share = async |node: &str| match ask(node, day).await {
        Answer::Known { coverage, units } => (coverage.observed(), coverage.expected(), units.len()),
        other => panic!("{node}: {other:?}"),
    };
    assert_eq!(share("p2_nbacom_gamebook_pdf").await, (1, 2, 2), "by game");
    assert_eq!(share("predictions").await, (1, 2, 2), "eight players are enough for a game");
    assert_eq!(share("p2_nbacom_schedule").await, (1, 2, 2), "by the schedule's own ids");
    assert_eq!(share("p2_espn_roster").await, (1, 30, 30), "by team");
    assert_eq!(share("p2_odds_game_lines").await, (8, 8, 0), "rows beyond the least are no surplus");
    assert_eq!(share("player_shot_zone_analysis").await, (100, 100, 0));
    let off = ask("p2_nbacom_gamebook_pdf", date(2026, 1, 25)).await;
    assert_eq!(off, Answer::NotKept, "nothing is expected of a day without games");
    assert_eq!(ask("p2_espn_roster", date(2026, 1, 25)).await, ask("p2_espn_roster", day).await, "two days are fresh");
    let stale = ask("p2_espn_roster", date(2026, 1, 27)).await;
    let Answer::Known { coverage, .. } = stale else { panic!("{stale:?}") };
    assert_eq!(coverage.observed(), 0, "four days are not");
}

/// Settings in which one node is asked one query.
fn asking(sql: &str, address: &str) -> Settings {
    let arguments = BTreeMap::from([("least".to_owned(), Argument::Integer(3))]);
    let probe = Probe { name: "own".into(), sql: sql.into(), arguments };
    let probes = BTreeMap::from([("nba".into(), BTreeMap::from([("node".into(), probe)]))]);
    Settings { probes, ..settings("own", address) }
}

async fn ask(bigquery: &Bigquery) -> Answer {
    bigquery.coverage(&"nba".into(), &"node".into(), date(2026, 1, 23), second(0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_an_answer_is_unknown_with_its_reason() {
    // The emulator answers a failed query with 200, and a query may give rows that say nothing.
    let Some(emulator) = emulator::bigquery() else { return };
    let table = [
        ("SELECT nothing FROM UNNEST([@date])", "probe own: invalidQuery: "),
        ("SELECT 1 AS observed", "no column expected"),
        ("SELECT -1 AS observed, @least AS expected", "observed is -1, not a count"),
        ("SELECT 1 AS observed, CAST(NULL AS INT64) AS expected", "expected is null"),
        ("SELECT u AS unit, 1 AS observed, 1 AS expected FROM UNNEST(['a', 'a']) AS u", "names a twice"),
        ("SELECT 1 AS observed, 1 AS expected FROM UNNEST([1, 2])", "several rows and no column unit"),
        (
            "SELECT u AS unit, 1 AS observed, 1 AS expected FROM UNNEST(GENERATE_ARRAY(1, 1001)) AS u",
            "more than 1000 rows",
        ),
    ];
    for (sql, why) in table {
        let bigquery = Bigquery::connect(asking(sql, &emulator.address)).await.unwrap();
        let answer = ask(&bigquery).await;
        assert!(matches!(&answer, Answer::Unknown(told) if told.contains(why)), "{sql}: {answer:?}");
    }
    let sound = asking("SELECT 2 AS observed, @least AS expected", &emulator.address);
    let known = Answer::Known { coverage: Coverage::new(2, 3).unwrap(), units: BTreeMap::new() };
    assert_eq!(ask(&Bigquery::connect(sound).await.unwrap()).await, known);
}

/// An engine on a file, with BigQuery as its warehouse, at noon of a game day.
struct Orchestrated {
    store: Embedded,
    bus: Arc<EmbeddedBus>,
    bigquery: Arc<Bigquery>,
    clock: Clock,
    engine: Engine,
    _dir: TempDir,
}

impl Orchestrated {
    async fn new(address: &str) -> Self {
        let own = asking("SELECT 3 AS observed, @least AS expected", address);
        let clock = own.clock.clone();
        clock.set(second(12 * 3600));
        let bigquery = Arc::new(Bigquery::connect(Settings { timeout: LIMIT, ..own }).await.unwrap());
        bigquery.create_tables().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let bus = Arc::new(store.bus(Arc::new(declarations().topology)));
        let (parts, limits) = (Arc::new(declarations()), tipoff::engine::Settings::default());
        let engine = Engine::new(parts, Arc::new(store.clone()), bus.clone(), bigquery.clone(), clock.clone(), limits);
        Self { store, bus, bigquery, clock, engine, _dir: dir }
    }
}

/// The day's predictions are made, after which their export is due as soon as they are counted; where nobody can count
/// them, as soon as the time for it is over.
async fn predictions_end(engine: &Engine, clock: &Clock) {
    let done = Completed {
        node: "predictions".into(),
        run: "batch-1".into(),
        outcome: Outcome::Done(Extent::Whole),
        records: Some(81),
        published: engine.clock.now(),
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    };
    engine.step(&key("nba", "2026-01-22"), &[Event::Completed(done)]).await.unwrap();
    // Twice: what is asked is an effect, and so is what the answer brings.
    for _ in 0..2 {
        engine.relay().await.unwrap();
        clock.set(clock.now() + SignedDuration::from_mins(2));
        engine.sweep().await.unwrap();
    }
    engine.relay().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_keeps_its_own_rows_waiting_and_repeats_no_others() {
    // The emulator keeps every repetition, so each table that has one row was appended to once.
    let Some(emulator) = emulator::bigquery() else { return };
    let Orchestrated { store, bigquery, clock, engine, _dir, .. } = Orchestrated::new(&emulator.address).await;
    let project = Project::new("own", &emulator.address);
    project.delete("nba_orchestration", "phase_completions").await;
    predictions_end(&engine, &clock).await;
    for _ in 0..3 {
        assert_eq!(engine.export().await.unwrap(), 0);
    }
    assert_eq!(store.exported().await.unwrap(), 0, "the cursor stays");
    bigquery.create_tables().await.unwrap();
    assert!(engine.export().await.unwrap() > 0);
    for (dataset, table) in [
        ("nba_reference", "processor_run_history"),
        ("nba_orchestration", "phase_completions"),
        ("nba_orchestration", "tipoff_dispatches"),
    ] {
        assert_eq!(project.rows(dataset, table).await.len(), 1, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_hangs_holds_up_no_decision_and_the_history_catches_up() {
    // A batch of predictions ends while nothing answers: its export goes out, and each call costs one time limit at most.
    let Some(emulator) = emulator::bigquery() else { return };
    let Orchestrated { store, bus, bigquery, clock, engine, _dir } = Orchestrated::new(&emulator.address).await;

    emulator.signal("STOP");
    let began = Instant::now();
    predictions_end(&engine, &clock).await;
    let sent = bus.pull("nba-phase6-export-trigger-sub", 10, clock.now()).await.unwrap();
    assert_eq!(sent.len(), 1, "the export was asked for");
    assert_eq!(engine.export().await.unwrap(), 0);
    assert_eq!(store.exported().await.unwrap(), 0, "the cursor stays");
    // Left alone for a moment: sixty questions do not wait sixty times.
    for _ in 0..60 {
        let answer = ask(&bigquery).await;
        assert!(matches!(&answer, Answer::Unknown(why) if why.contains("not asked until")), "{answer:?}");
    }
    assert!(began.elapsed() < 4 * LIMIT, "{:?}", began.elapsed());

    emulator.signal("CONT");
    clock.set(clock.now() + SignedDuration::from_secs(31));
    assert!(engine.export().await.unwrap() > 0);
    assert!(matches!(ask(&bigquery).await, Answer::Known { .. }));
    let project = Project::new("own", &emulator.address);
    let runs = project.rows("nba_reference", "processor_run_history").await;
    assert_eq!((runs.len(), &runs[0]["processor_name"]), (1, &json!("PredictionCoordinator")));
    let dispatches = project.rows("nba_orchestration", "tipoff_dispatches").await;
    assert_eq!((dispatches.len(), &dispatches[0]["processor_name"]), (1, &json!("Phase6Export")));
    assert_eq!(dispatches[0]["manifest"]["cause"], "dependencies_met");
    let decisions = project.rows("nba_orchestration", "tipoff_decisions").await;
    let asked = json!([dispatches[0]["dispatch_id"]]);
    assert_eq!(decisions.iter().filter(|decision| decision.get("dispatches") == Some(&asked)).count(), 1);
}
