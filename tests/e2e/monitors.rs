//! The monitors of the pipeline, asked as schedulers and people ask them today.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::hostile::Service;

/// The table of 24 January 2026.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/coverage-2026-01-24.csv");

impl Service {
    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.url)).body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Puts a report out of a file into the store of the running service.
    fn load(&self, report: &str, file: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        let output = command.args(["import", report, file, "--data"]).arg(&self.data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether the alert is on, if it ever was.
    fn alerted(&self, key: &str) -> Option<bool> {
        let database = rusqlite::Connection::open(self.data.join("tipoff.db")).unwrap();
        let mut statement = database.prepare("SELECT resolved_at IS NULL FROM alerts WHERE key = ?1").unwrap();
        statement.query_map([key], |row| row.get(0)).unwrap().next().map(Result::unwrap)
    }
}

#[tokio::test]
async fn the_recorded_day_is_answered_as_it_was() {
    // 24 January 2026: three of seven games with fewer than eight players. Dry is dry, wherever it stands.
    let service = Service::start(&[]);
    service.load("game_coverage", RECORDED);
    let key = "coverage-check:nba/2026-01-24";
    let dry = [
        service.get("/game-coverage-alert?date=2026-01-24&dry_run=true").await,
        service.post("/game-coverage-alert", json!({ "date": "2026-01-24", "dry_run": true })).await,
        service.post("/game-coverage-alert?date=2026-01-24", json!({ "dry_run": "true" })).await,
        service.post("/game-coverage-alert?dry_run=true", json!({ "date": "2026-01-24", "dry_run": false })).await,
        service.get("/game-coverage-alert?date=2026-01-24&dry-run=1&dry_run=false").await,
    ];
    for (code, mut answer) in dry {
        assert_eq!(code, 200, "{answer}");
        let coverage = answer["coverage"].take();
        assert_eq!(
            answer,
            json!({ "status": "alert_skipped_dry_run", "date": "2026-01-24", "issues_count": 3, "coverage": null })
        );
        let sums = ["game_count", "total_players", "total_predictions"].map(|sum| coverage[sum].as_u64().unwrap());
        assert_eq!((sums, &coverage["has_issues"]), ([7, 60, 332], &json!(true)));
        let low = json!({
            "game_id": null, "pred_game_id": "20260124_MIA_UTA", "matchup": "MIA@UTA", "player_count": 6,
            "prediction_count": 36, "feature_count": 0, "production_ready_count": 0, "status": "LOW_COVERAGE",
        });
        assert!(coverage["games"].as_array().unwrap().contains(&low), "{coverage}");
        let issues = coverage["issues"].as_array().unwrap().iter();
        let issues: Vec<_> = issues.map(|issue| (issue["matchup"].as_str().unwrap(), &issue["status"])).collect();
        assert_eq!(issues, ["GSW@MIN", "MIA@UTA", "WAS@CHA"].map(|game| (game, &low["status"])));
    }
    assert_eq!(service.alerted(key), None);

    let (code, answer) = service.post("/game-coverage-alert", json!({ "date": "2026-01-24" })).await;
    assert_eq!((code, answer["status"].as_str()), (200, Some("alert_sent")));
    assert_eq!(service.alerted(key), Some(true));

    // One game is mended, one is postponed and the third moves: nothing is wrong any more, and the alert ends.
    let game = |away: &str, home: &str, players: u32| json!({ "away": away, "home": home, "player_count": players, "prediction_count": 5 * players });
    let rows = json!([game("MIA", "UTA", 9), game("WAS", "CHA", 5), game("GSW", "MIN", 5)]);
    let told = json!({ "pipeline": "nba", "report": "game_coverage", "date": "2026-01-24", "rows": rows });
    assert_eq!(service.post("/v1/reports", told).await.0, 200);
    let listed = |id: &str, away: &str, home: &str, status: &str| json!({ "game_id": id, "away": away, "home": home, "tip": null, "status": status });
    let rows = json!([
        listed("0022500649", "MIA", "UTA", "scheduled"),
        listed("0022500650", "WAS", "CHA", "postponed"),
        listed("0022500651", "GSW", "MIN", "moved"),
    ]);
    let told = json!({ "pipeline": "nba", "report": "schedule", "date": "2026-01-24", "rows": rows });
    assert_eq!(service.post("/v1/reports", told).await.0, 200);
    let (_, answer) = service.get("/game-coverage-alert?date=2026-01-24").await;
    assert_eq!((answer["status"].as_str(), answer["games_count"].as_u64()), (Some("ok"), Some(1)), "{answer}");
    assert_eq!(answer["coverage"]["not_played"], json!(["GSW@MIN", "WAS@CHA"]));
    assert_eq!(service.alerted(key), Some(false));
}

#[tokio::test]
async fn a_day_off_is_an_answer_and_not_knowing_is_an_error() {
    let service = Service::start(&[]);
    let off = json!({ "pipeline": "nba", "report": "schedule", "date": "2026-02-14", "rows": [] });
    assert_eq!(service.post("/v1/reports", off).await.0, 200);
    let answer = service.get("/game-coverage-alert?date=2026-02-14").await;
    assert_eq!(answer, (200, json!({ "status": "no_games", "date": "2026-02-14" })));
    // In a break nobody has to say so.
    let answer = service.get("/game-coverage-alert?date=2026-02-16").await;
    assert_eq!(answer, (200, json!({ "status": "no_games", "date": "2026-02-16" })));
    let answer = service.get("/game-coverage-alert?date=2026-02-11&dry_run=true").await;
    let why = "the warehouse keeps no game_coverage of nba/2026-02-11";
    assert_eq!(answer, (404, json!({ "status": "error", "error": why })));
    assert_eq!(service.get("/roster-coverage").await.0, 404);

    for (path, body, words) in [
        ("/game-coverage-alert?date=24.1.2026", json!({}), "`24.1.2026` is not YYYY-MM-DD"),
        ("/pipeline-health-summary", json!({ "date": 20_260_124 }), "date is no text"),
        ("/roster-coverage?date=2026-02-30", json!({}), "`2026-02-30` is not YYYY-MM-DD"),
        ("/game-coverage-alert?dry_run=treu", json!({}), "dry_run is neither true nor false"),
        ("/stale-processor-monitor", json!({ "dry_run": 7 }), "dry_run is neither true nor false"),
        ("/stale-processor-monitor", json!([]), "the body is no JSON object"),
        ("/roster-coverage?pipeline=nhl", json!({}), "there is no pipeline nhl"),
        ("/roster-coverage?pipeline=mlb", json!({}), "mlb declares no roster_coverage under monitors"),
    ] {
        let (code, answer) = service.post(path, body).await;
        assert_eq!((code, &answer["status"]), (400, &json!("error")), "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{path}: {answer}");
    }
    let row = json!({ "game_id": "22500649", "away": "MIA", "home": "UTA", "status": "scheduled" });
    let told = json!({ "pipeline": "nba", "report": "schedule", "date": "2026-02-14", "rows": [row] });
    let (code, answer) = service.post("/v1/reports", told).await;
    let expected = "schedule of 2026-02-14, row 1, game_id: expected the schedule's ten digits, found `22500649`";
    assert_eq!((code, answer["error"]["message"].as_str()), (400, Some(expected)));
}

#[tokio::test]
async fn rosters_are_as_old_as_the_date_asked_about_says() {
    // 23 January 2026: Portland plays with a roster of nine days, and 28 teams have none.
    let service = Service::start(&[]);
    let team = |team: &str, latest: &str, is_playing: bool| json!({ "team": team, "latest_roster": latest, "player_count": 15, "is_playing": is_playing });
    let rows = json!([team("POR", "2026-01-14", true), team("BOS", "2026-01-22", true)]);
    let told = json!({ "pipeline": "nba", "report": "roster_ages", "date": "2026-01-23", "rows": rows });
    assert_eq!(service.post("/v1/reports", told).await.0, 200);
    let (code, answer) = service.get("/roster-coverage?date=2026-01-23").await;
    assert_eq!((code, answer["issues"].as_array().unwrap().len()), (200, 29), "{answer}");
    assert_eq!(answer["thresholds"], json!({ "warning_days": 3, "critical_days": 5, "game_day_days": 2 }));
    let portland = json!({
        "team": "POR", "latest_roster_date": "2026-01-14", "age_days": 9, "is_playing_today": true,
        "severity": "critical",
        "message": "Team POR playing today has stale roster (9 days old). Predictions may be incomplete!",
    });
    assert_eq!(answer["issues"].as_array().unwrap().last().unwrap(), &portland);
    let (_, answer) = service.get("/pipeline-health-summary?date=2026-01-23").await;
    let rosters = json!({
        "total_teams": 2, "teams_current": 1, "teams_stale": 0, "teams_critical": 1, "max_age_days": 9,
        "status": "critical",
    });
    assert_eq!((&answer["roster_coverage"], &answer["data_quality"]), (&rosters, &json!("UNKNOWN")));
}

#[tokio::test]
async fn a_silent_run_is_seen_and_asking_changes_nothing() {
    // A heartbeat that the broker took seven minutes ago is all that was heard of it.
    let service = Service::start(&["--heartbeat-flush", "0s"]);
    let now = tipoff::clock::Clock::System.now();
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let today = zone.to_datetime(now).date();
    let beat = json!({
        "processor_name": "PlayerGameSummaryProcessor", "run_id": "a1b2c3d4", "data_date": today, "status": "running",
        "progress": 50, "total": 100,
    });
    let message = json!({
        "data": STANDARD.encode(beat.to_string()), "messageId": "1", "publishTime": now - SignedDuration::from_mins(7),
    });
    let pushed = json!({ "message": message, "subscription": "projects/p/subscriptions/tipoff-nba-heartbeats-sub" });
    let answer = service.client.post(format!("{}/push", service.url)).body(pushed.to_string()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 204, "{}", answer.text().await.unwrap());
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let (mut path, mut body) = ("/stale-processor-monitor?dry_run=true", json!({}));
    for _ in 0..3 {
        let answer = loop {
            let (code, answer) = service.post(path, body.clone()).await;
            assert_eq!(code, 200, "{answer}");
            if answer["summary"]["stale"] == 1 {
                break answer;
            }
            assert!(std::time::Instant::now() < patience, "{answer}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        assert_eq!(answer["summary"], json!({ "healthy": 0, "stale": 1, "dead": 0, "recovered": 0 }));
        let silent = &answer["details"]["stale_processors"][0];
        let told =
            ["doc_id", "run_id", "progress", "data_date"].map(|member| silent[member].as_str().unwrap().to_owned());
        assert_eq!(told, ["PlayerGameSummaryProcessor", "a1b2c3d4", "50/100", &today.to_string()]);
        assert!((420..480).contains(&silent["age_seconds"].as_i64().unwrap()), "{silent}");
        (path, body) = ("/stale-processor-monitor", json!({ "dry_run": true, "cleanup": true }));
    }
    let (_, answer) = service.post(path, body).await;
    assert_eq!(answer["details"]["cleanup_count"], 0);
}

#[tokio::test]
async fn a_stranger_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-some-length").unwrap();
    let service = Service::start(&["--token-file", token.to_str().unwrap()]);
    for path in ["/game-coverage-alert", "/stale-processor-monitor", "/pipeline-health-summary", "/roster-coverage"] {
        let answer = service.client.get(format!("{}{path}", service.url)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{path}");
    }
}
