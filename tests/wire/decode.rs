//! What every message that was ever seen decodes to, and that nothing else can upset the decoder.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use tipoff::domain::event::{Event, Note, Outcome};
use tipoff::domain::evidence::Extent;
use tipoff::wire::envelope::{Message, unwrap_publish, unwrap_push, wrap_push};
use tipoff::wire::inbound::{DATA_MAX, Decoded, Delivery, Reason, decode};

use crate::support::World;

const PHASE1: &str = "nba-phase1-scrapers-complete";
const PHASE2: &str = "nba-phase2-raw-complete";
const PHASE3: &str = "nba-phase3-analytics-complete";
const PHASE4: &str = "nba-phase4-precompute-complete";
const PHASE5: &str = "nba-phase5-predictions-complete";
const PHASE6: &str = "nba-phase6-export-complete";
const GRADING: &str = "nba-grading-complete";
const BEATS: &str = "nba-processor-heartbeats";

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

fn delivery(topic: &str, published: &str, data: impl Into<Vec<u8>>) -> Delivery {
    Delivery {
        topic: topic.to_owned(),
        message_id: "m-1".to_owned(),
        published: published.parse().expect("an instant"),
        attributes: BTreeMap::new(),
        data: data.into(),
    }
}

fn decoded(topic: &str, published: &str, data: impl Into<Vec<u8>>) -> Decoded {
    decode(&world().routes(), &delivery(topic, published, data))
}

/// A decoded message in one line.
fn show(decoded: &Decoded) -> String {
    match decoded {
        Decoded::Probe => "probe".to_owned(),
        Decoded::Ignored { reason } => format!("ignored {}", reason.slug()),
        Decoded::Parked { reason } => format!("parked {}", reason.slug()),
        Decoded::Events { key, events } => {
            let events: Vec<_> = events.iter().map(show_event).collect();
            format!("{key} {}", events.join("; "))
        }
    }
}

fn show_event(event: &Event) -> String {
    match event {
        Event::Completed(completed) => {
            let outcome = match &completed.outcome {
                Outcome::Done(Extent::Whole) => "done".to_owned(),
                Outcome::Done(Extent::Share(coverage)) => {
                    format!("done {}/{}", coverage.observed(), coverage.expected())
                }
                Outcome::Done(Extent::Unknown) => "done in part".to_owned(),
                Outcome::Failed(words) => format!("failed \"{words}\""),
                Outcome::NoData => "no data".to_owned(),
                Outcome::Skipped(words) => format!("skipped \"{words}\""),
            };
            let records = completed.records.map_or_else(String::new, |records| format!(" {records} rows"));
            let correlation = completed.correlation.as_ref().map_or_else(String::new, |id| format!(" <{id}>"));
            let dispatch = completed.dispatch.as_ref().map_or_else(String::new, |id| format!(" answers {id}"));
            format!("{} {outcome} by {}{records}{correlation}{dispatch}", completed.node, completed.run)
        }
        Event::Heartbeat(beat) => {
            let (done, total) = beat.progress;
            format!("{} {:?} {} {done}/{total}", beat.node, beat.pulse, beat.run)
        }
        Event::Noted(Note::UnknownName { name, node }) => format!("unknown name {name} for {node}"),
        Event::Noted(Note::WrongTopic { name, topic }) => format!("{name} on {topic}"),
        other => format!("{other:?}"),
    }
}

/// The unified envelope with some fields replaced; `null` takes a field away.
fn unified(fields: Value) -> Value {
    let mut body = json!({
        "processor_name": "nbac_gamebook_pdf", "phase": "phase_1_scrapers", "execution_id": "6f0c1c7e",
        "correlation_id": "6f0c1c7e", "game_date": "2026-01-22", "output_table": "nbacgamebookpdf",
        "output_dataset": "nba_raw", "status": "success", "record_count": 1, "records_failed": 0,
        "timestamp": "2026-01-23T06:05:11Z", "duration_seconds": 28.5, "trigger_source": "scheduler",
        "metadata": {"gcs_path": "gs://nba-scraped-data/nba-com/gamebooks-pdf/2026-01-22/0022500630.pdf",
                     "workflow": "post_game_window_2", "scraper_type": "api"}
    });
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        for (name, value) in fields {
            if value == json!("(absent)") {
                body.remove(&name)
            } else {
                body.insert(name, value)
            };
        }
    }
    body
}

/// Topic, publish time, body, what it comes to.
type Row = (&'static str, &'static str, Value, &'static str);

fn golden() -> Vec<Row> {
    let night = "2026-01-24T06:30:00Z";
    let day = "2026-01-23T17:00:00Z";
    vec![
        // The unified envelope, phase by phase.
        (
            PHASE1,
            night,
            json!({"processor_name":"nbac_gamebook_pdf","phase":"phase_1_scrapers","execution_id":"a1b2c3d4","correlation_id":"a1b2c3d4","game_date":"2026-01-23","output_table":"nbacgamebookpdf","output_dataset":"nba_raw","status":"success","record_count":33,"metadata":{"gcs_path":"gs://nba-scraped-data/nba-com/gamebooks-data/2026-01-23/20260123-BOSBKN/20260124_061201.json","workflow":"post_game_window_3"}}),
            "nba/2026-01-23 nbac_gamebook_pdf done by a1b2c3d4 33 rows <a1b2c3d4>",
        ),
        (
            PHASE1,
            night,
            json!({"processor_name":"oddsa_player_props","phase":"phase_1_scrapers","execution_id":"77aa88bb","game_date":"2026-01-24","status":"failed","record_count":0,"error_message":"HTTP 429 …","error_type":"type","metadata":{"gcs_path":null}}),
            "nba/2026-01-24 oddsa_player_props failed \"HTTP 429 …\" by 77aa88bb 0 rows",
        ),
        (PHASE1, day, unified(json!({})), "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>"),
        (
            PHASE1,
            day,
            unified(json!({"phase": "(absent)"})),
            "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE2,
            night,
            json!({"processor_name":"NbacGamebookProcessor","phase":"phase_2_raw","execution_id":"5d6e7f80","correlation_id":"a1b2c3d4","game_date":"2026-01-23","output_table":"nba_raw.nbac_gamebook_player_stats","output_dataset":"nba_raw","status":"success","record_count":33,"metadata":{"rows_updated":0}}),
            "nba/2026-01-23 p2_nbacom_gamebook_pdf done by 5d6e7f80 33 rows <a1b2c3d4>",
        ),
        (
            PHASE3,
            "2026-01-26T06:45:10Z",
            json!({"processor_name":"PlayerGameSummaryProcessor","phase":"phase_3_analytics","execution_id":"exec-456","correlation_id":"corr-abc","game_date":"2026-01-25","output_table":"player_game_summary","output_dataset":"nba_analytics","status":"success","record_count":450,"metadata":{"is_incremental":true,"entities_changed":["lebron-james"]}}),
            "nba/2026-01-25 player_game_summary done by exec-456 450 rows <corr-abc>",
        ),
        (
            PHASE4,
            "2026-01-25T16:05:00Z",
            json!({"processor_name":"MLFeatureStoreProcessor","phase":"phase_4_precompute","execution_id":"exec-789","game_date":"2026-01-25","output_table":"ml_feature_store_v2","output_dataset":"nba_predictions","status":"success","record_count":1500,"metadata":{"total_runtime":97.6}}),
            "nba/2026-01-25 ml_feature_store done by exec-789 1500 rows",
        ),
        (
            PHASE4,
            day,
            unified(
                json!({"processor_name":"PlayerDailyCacheProcessor","game_date":"2026-01-23","status":"skipped","metadata":{"skip_reason":"upstream not ready"}}),
            ),
            "nba/2026-01-23 player_daily_cache skipped \"upstream not ready\" by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        // The date's relation to the day of publishing in New York tells the pass.
        (
            PHASE4,
            "2026-01-24T04:59:00Z",
            unified(json!({"processor_name":"player_daily_cache","game_date":"2026-01-23"})),
            "nba/2026-01-23 player_daily_cache done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE4,
            "2026-01-24T05:01:00Z",
            unified(json!({"processor_name":"player_daily_cache","game_date":"2026-01-23"})),
            "nba/2026-01-23 player_daily_cache.overnight done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE4,
            "2026-01-24T05:01:00Z",
            unified(
                json!({"processor_name":"player_daily_cache","game_date":"2026-01-23","tipoff":{"dispatch_id":"nba/2026-01-23/player_daily_cache/1/1"}}),
            ),
            "nba/2026-01-23 player_daily_cache done by 6f0c1c7e 1 rows <6f0c1c7e> answers nba/2026-01-23/player_daily_cache/1/1",
        ),
        (
            PHASE4,
            night,
            unified(
                json!({"processor_name":"player_daily_cache","game_date":"2026-01-23","tipoff":{"dispatch_id":"nba/2026-01-22/player_daily_cache/1/1"}}),
            ),
            "nba/2026-01-23 player_daily_cache.overnight done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        // Predictions, both variants, and what follows them.
        (
            PHASE5,
            "2026-01-25T17:22:08Z",
            json!({"processor_name":"PredictionCoordinator","phase":"phase_5_predictions","execution_id":"batch_2026-01-25_1737831600","correlation_id":"corr-def","game_date":"2026-01-25","status":"success","record_count":1450,"metadata":{"batch_id":"batch_2026-01-25_1737831600","expected_players":150,"completed_players":148,"completed_predictions":1450,"total_predictions":1450,"completion_pct":98.7}}),
            "nba/2026-01-25 predictions done 148/150 by batch_2026-01-25_1737831600 1450 rows <corr-def>",
        ),
        (
            PHASE5,
            day,
            unified(
                json!({"processor_name":"PredictionCoordinator","execution_id":"(absent)","correlation_id":"(absent)","game_date":"2026-01-23","status":"partial","metadata":{"batch_id":"b-7","expected_predictions":136,"completed_predictions":119,"failed_predictions":17,"completion_pct":87.5,"summary":{}}}),
            ),
            "nba/2026-01-23 predictions done 119/136 by b-7 1 rows",
        ),
        (
            PHASE5,
            day,
            unified(
                json!({"processor_name":"PredictionCoordinator","game_date":"2026-01-23","metadata":{"expected_players":"15","completed_players":13.0,"skipped_players":{"integerValue":"2"}}}),
            ),
            "nba/2026-01-23 predictions done 15/15 by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE5,
            day,
            unified(
                json!({"processor_name":"PredictionCoordinator","game_date":"2026-01-23","status":"partial","metadata":{"completion_pct":99.96}}),
            ),
            "nba/2026-01-23 predictions done 999/1000 by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE5,
            day,
            unified(
                json!({"processor_name":"PredictionCoordinator","game_date":"2026-01-23","status":"partial","metadata":{"expected_players":0,"completed_players":0}}),
            ),
            "nba/2026-01-23 predictions done in part by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE5,
            "2026-02-19T17:00:00Z",
            json!({"processor_name":"PredictionCoordinator","game_date":"2026-02-19","execution_id":"manual","record_count":81}),
            "parked no-status",
        ),
        (
            PHASE6,
            "2026-01-25T17:25:31Z",
            json!({"processor_name":"Phase6Export","phase":"phase_6_publishing","correlation_id":"corr-def","status":"success","export_type":"tonight","paths":{"tonight":"gs://x"},"errors":[],"target_date":"2026-01-25","export_types":["tonight"]}),
            "nba/2026-01-25 export done by m-1 <corr-def>",
        ),
        (
            PHASE6,
            day,
            json!({"processor_name":"Phase6Export","phase":"phase_6_publishing","status":"failed","errors":["bucket is gone","again"],"target_date":"2026-01-23"}),
            "nba/2026-01-23 export failed \"bucket is gone\" by m-1",
        ),
        (
            GRADING,
            "2026-01-25T11:46:40Z",
            json!({"processor_name":"Phase5BGrading","phase":"phase_5b_grading","target_date":"2026-01-24","status":"success","correlation_id":"p3g_2026-01-24_064512","duration":22.4,"graded_count":1402,"mae":4.71}),
            "nba/2026-01-24 grading done by m-1 <p3g_2026-01-24_064512>",
        ),
        (
            GRADING,
            night,
            json!({"processor_name":"Phase5BGrading","phase":"phase_5b_grading","target_date":"2026-01-23","status":"auto_heal_pending"}),
            "nba/2026-01-23 grading no data by m-1",
        ),
        (
            GRADING,
            night,
            json!({"processor_name":"Phase5BGrading","phase":"phase_5b_grading","target_date":"2026-01-23","status":"auto_heal_failed"}),
            "nba/2026-01-23 grading failed \"no message\" by m-1",
        ),
        // Scrapers before the unified envelope.
        (
            PHASE1,
            night,
            json!({"scraper_name":"bdl_injuries","gcs_path":"gs://nba-scraped-data/ball-dont-lie/injuries/2026-01-24/x.json","execution_id":"recovery-1f2e3d4c","original_execution_id":"9c8b7a65","recovery":true,"recovery_attempt":1,"status":"success"}),
            "nba/2026-01-24 bdl_injuries done by 9c8b7a65",
        ),
        (
            PHASE1,
            "2025-11-19T00:05:00Z",
            json!({"scraper_name":"bdl_injuries_scraper","gcs_path":"gs://nba-scraped-data/bdl/2024-25/2025-11-19/injuries.json","status":"success","recovery":true,"execution_id":"manual-recovery-1763510700"}),
            "nba/2025-11-19 bdl_injuries done by manual-recovery-1763510700",
        ),
        (
            PHASE1,
            night,
            json!({"name":"bdl_injuries","gcs_path":"gs://nba-scraped-data/ball-dont-lie/injuries/2026-01-24/x.json"}),
            "nba/2026-01-24 bdl_injuries done by m-1",
        ),
        (
            PHASE1,
            night,
            json!({"scraper_name":"bdl_box_scores","game_date":"2026-01-16","status":"success","record_count":0,"gcs_path":"gs://nba-scraped-data/ball-dont-lie/boxscores/2026-01-16/x.json"}),
            "ignored untracked",
        ),
        (
            PHASE1,
            night,
            json!({"gcs_path":"gs://nba-scraped-data/odds-api/player-props/2026-01-23/20260123_180501.json"}),
            "nba/2026-01-23 oddsa_player_props done by m-1",
        ),
        (
            PHASE1,
            night,
            json!({"gcs_path":"gs://nba-scraped-data/new-source/2026-01-23/x.json"}),
            "parked unknown-path",
        ),
        (
            PHASE1,
            night,
            json!({"bucket":"nba-scraped-data","name":"nba-com/gamebooks-data/2026-01-23/20260123-BOSBKN/20260124_061201.json","contentType":"application/json"}),
            "nba/2026-01-23 nbac_gamebook_pdf done by m-1",
        ),
        (
            PHASE1,
            day,
            json!({"scraper":"espn_roster","scraper_type":"espn_team_roster","team_abbr":"POR","team_slug":"portland-trail-blazers","date":"2026-01-23","player_count":15,"gcs_path":"espn/rosters/2026-01-23/team_POR/","timestamp":"2026-01-23T12:31:44+00:00","run_id":"r1"}),
            "nba/2026-01-23 espn_roster done by r1",
        ),
        (
            PHASE1,
            "2025-11-21T06:10:00Z",
            json!({"scraper_name":"nbac_gamebook_pdf","game_date":"2025-11-20","games_processed":8,"status":"success","correlation_id":"corr-1120"}),
            "nba/2025-11-20 nbac_gamebook_pdf done by m-1 <corr-1120>",
        ),
        // Loaders and analytics before the unified envelope.
        (
            PHASE2,
            day,
            json!({"event_type":"raw_data_loaded","source_table":"nba_raw.nbac_gamebook_player_stats","game_date":"2026-01-22","record_count":210,"execution_id":"e1","phase":2,"success":true,"error_message":null,"metadata":{}}),
            "nba/2026-01-22 p2_nbacom_gamebook_pdf done by e1 210 rows",
        ),
        // A bare table is the loader's, though a scraper has the same name.
        (
            PHASE2,
            day,
            json!({"event_type":"raw_data_loaded","source_table":"nbac_team_boxscore","game_date":"2026-01-22","record_count":16,"execution_id":"e1","phase":2,"success":true}),
            "nba/2026-01-22 p2_nbacom_team_boxscore done by e1 16 rows",
        ),
        (
            PHASE3,
            day,
            json!({"event_type":"analytics_complete","analytics_table":"player_game_summary","game_date":"2026-01-22","execution_id":"e2","phase":3,"success":false,"error_message":"boom"}),
            "nba/2026-01-22 player_game_summary failed \"boom\" by e2",
        ),
        // What is no report.
        (
            PHASE1,
            day,
            json!({"status":"success","output_table":"nba_raw.nbac_gamebook_player_stats","game_date":"2026-01-22","triggered_by":"run_history","retry_count":3}),
            "ignored run-history",
        ),
        (
            PHASE3,
            day,
            json!({"processor_name":"PlayerGameSummaryProcessor","analysis_date":"2026-01-22","trigger_source":"auto_backfill_orchestrator","triggered_at":"2026-01-23T12:00:00Z"}),
            "ignored request",
        ),
        (
            PHASE3,
            day,
            json!({"sport":"nba","game_date":"2026-02-03","phase":"phase3_analytics","output_type":"player_game_summary","expected_partition":"nba_analytics.player_game_summary|game_date=2026-02-03","attempt":1}),
            "ignored request",
        ),
        (
            PHASE3,
            day,
            json!({"processor":"x","target_date":"2026-01-22","backfill_mode":true,"triggered_by":"op","gap_info":{}}),
            "ignored request",
        ),
        (
            PHASE2,
            day,
            json!({"game_date":"2026-01-22","source_table":"PlayerGameSummaryProcessor","status":"success","triggered_by":"auto_retry","retry_count":1}),
            "ignored request",
        ),
        ("nba-backfill-trigger", day, json!({"sport":"nba"}), "ignored request"),
        (
            "nba-scraper-trigger",
            day,
            json!({"scraper_name":"nbac_gamebook","date":"2026-01-22","reason":"incomplete_boxscore_coverage_detected"}),
            "ignored request",
        ),
        (
            "nba-phase4-trigger",
            day,
            json!({"source_table":"player_game_summary","analysis_date":"2026-01-22","success":true}),
            "ignored request",
        ),
        ("prediction-ready-prod", day, json!({}), "ignored other-topic"),
        // Names.
        (
            PHASE2,
            "2026-01-24T20:00:00Z",
            json!({"processor_name":"p2_nba_raw.nbac_gamebook_player_stats","game_date":"2026-01-24","status":"success","record_count":210,"execution_id":"e"}),
            "nba/2026-01-24 p2_nbacom_gamebook_pdf done by e 210 rows",
        ),
        (
            PHASE2,
            "2026-01-24T20:00:00Z",
            json!({"processor_name":"NbacGambookProcessor","output_table":"nba_raw.nbac_gamebook_player_stats","game_date":"2026-01-24","status":"success","execution_id":"e"}),
            "nba/2026-01-24 p2_nbacom_gamebook_pdf done by e; unknown name NbacGambookProcessor for p2_nbacom_gamebook_pdf",
        ),
        (
            PHASE2,
            "2026-01-24T20:00:00Z",
            json!({"processor_name":"SomethingNewProcessor","output_table":"unknown","game_date":"2026-01-24","status":"success"}),
            "parked unknown-name",
        ),
        (
            PHASE3,
            "2026-03-28T07:00:00Z",
            json!({"processor_name":"MlbPitcherGameSummaryProcessor","output_dataset":"mlb_analytics","game_date":"2026-03-27","status":"success","record_count":28,"execution_id":"e"}),
            "mlb/2026-03-27 pitcher_game_summary done by e 28 rows; MlbPitcherGameSummaryProcessor on nba-phase3-analytics-complete",
        ),
        (
            PHASE3,
            day,
            json!({"processor_name":"SharedSummaryProcessor","output_dataset":"mlb_analytics","game_date":"2026-01-22","status":"success"}),
            "mlb/2026-01-22 shared_summary done by m-1; SharedSummaryProcessor on nba-phase3-analytics-complete",
        ),
        (
            "mlb-phase3-analytics-complete",
            day,
            json!({"processor_name":"SharedSummaryProcessor","game_date":"2026-01-22","status":"success"}),
            "mlb/2026-01-22 shared_summary done by m-1",
        ),
        (
            PHASE3,
            day,
            json!({"processor_name":"a\u{1b}[31mb","game_date":"2026-01-22","status":"success"}),
            "parked control-character",
        ),
        (
            PHASE3,
            day,
            json!({"processor_name":"x".repeat(201),"game_date":"2026-01-22","status":"success"}),
            "parked too-long",
        ),
        (PHASE3, day, unified(json!({"execution_id":"x".repeat(201)})), "parked too-long"),
        ("nba-phase3-complete", day, unified(json!({})), "parked unknown-topic"),
        // Dates.
        (
            PHASE1,
            day,
            unified(json!({"game_date":"2026-2-8"})),
            "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE1,
            day,
            unified(json!({"game_date":"TODAY"})),
            "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE1,
            day,
            unified(json!({"game_date":null})),
            "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (PHASE1, day, unified(json!({"game_date":"TODAY","metadata":{"gcs_path":null}})), "parked no-date"),
        // A day that there is every four years, and one that there is not.
        (
            PHASE1,
            "2028-03-01T06:30:00Z",
            unified(json!({"game_date":"2028-02-29"})),
            "nba/2028-02-29 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (PHASE1, day, unified(json!({"game_date":"2026-02-29","metadata":{"gcs_path":null}})), "parked no-date"),
        (
            PHASE1,
            day,
            unified(json!({"game_date":null,"metadata":{"gcs_path":"gs://b/2026-01-21/2026-01-22/x"}})),
            "parked no-date",
        ),
        (
            PHASE1,
            day,
            unified(json!({"game_date":"(absent)","gamedate":20260122})),
            "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (
            PHASE3,
            day,
            unified(json!({"processor_name":"PlayerGameSummaryProcessor","analysis_date":"2026-01-21"})),
            "parked two-dates",
        ),
        (
            PHASE3,
            "2025-12-29T17:30:00Z",
            unified(json!({"processor_name":"UpcomingPlayerGameContextProcessor","game_date":"2026-01-03"})),
            "parked too-far-ahead",
        ),
        (
            PHASE3,
            "2025-12-29T17:30:00Z",
            unified(json!({"processor_name":"UpcomingPlayerGameContextProcessor","game_date":"2026-01-01"})),
            "nba/2026-01-01 upcoming_player_game_context done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (PHASE3, day, unified(json!({"game_date":"2025-11-23"})), "parked too-old"),
        // Poison.
        (PHASE1, day, unified(json!({"status":"weird"})), "parked unknown-status"),
        (PHASE1, day, unified(json!({"status":5})), "parked wrong-shape"),
        (PHASE1, day, unified(json!({"record_count":-1})), "parked negative-count"),
        (PHASE1, day, unified(json!({"record_count":1e20})), "parked huge-count"),
        (PHASE1, day, unified(json!({"record_count":"99999999999999999999"})), "parked huge-count"),
        (PHASE1, day, unified(json!({"record_count":9_007_199_254_740_993_u64})), "parked huge-count"),
        (PHASE1, day, unified(json!({"metadata":["gs://x"]})), "parked wrong-shape"),
        (
            PHASE1,
            day,
            unified(json!({"surprise":{"deep":[1,2,{"x":null}]}})),
            "nba/2026-01-22 nbac_gamebook_pdf done by 6f0c1c7e 1 rows <6f0c1c7e>",
        ),
        (PHASE1, day, unified(json!({"metadata":{"blob":"x".repeat(DATA_MAX)}})), "parked too-large"),
        (PHASE1, day, json!({}), "parked no-name"),
        (PHASE1, day, json!([1]), "parked not-an-object"),
        (PHASE1, day, json!("success"), "parked not-an-object"),
        // Heartbeats.
        (
            BEATS,
            "2026-01-24T11:02:32Z",
            json!({"processor_name":"PlayerGameSummaryProcessor","run_id":"a1b2c3d4","data_date":"2026-01-24","last_heartbeat":"2026-01-24T11:02:31Z","started_at":"2026-01-24T10:58:31Z","status":"running","progress":50,"total":100,"status_message":"Processing players"}),
            "nba/2026-01-24 player_game_summary Running a1b2c3d4 50/100",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"p2_nba_raw.nbac_team_boxscore","run_id":"r","data_date":"2026-01-22","status":"completed","progress":{"integerValue":"7"},"total":"8","completed_at":"x","duration_seconds":4.4}),
            "nba/2026-01-22 p2_nbacom_team_boxscore Ended r 7/8",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"AsyncUpcomingPlayerGameContextProcessor","run_id":"r","data_date":"2026-01-23","status":"failed","progress":-3}),
            "nba/2026-01-23 upcoming_player_game_context Failed r 0/0",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"PlayerGameSummaryProcessor","run_id":"r","data_date":null,"status":"running"}),
            "parked no-date",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"PlayerGameSummaryProcessor","run_id":"r","data_date":"None","status":"running"}),
            "parked no-date",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"PlayerGameSummaryProcessor","data_date":"2026-01-22","status":"running"}),
            "parked no-run",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"PlayerGameSummaryProcessor","run_id":"r","data_date":"2026-01-22","status":"stuck"}),
            "parked unknown-status",
        ),
        (
            BEATS,
            day,
            json!({"processor_name":"NobodyProcessor","run_id":"r","data_date":"2026-01-22","status":"running"}),
            "parked unknown-name",
        ),
    ]
}

#[test]
fn every_dialect_ever_seen_means_one_thing() {
    let mut wrong = Vec::new();
    for (topic, published, body, expected) in golden() {
        let shown = show(&decoded(topic, published, body.to_string()));
        if shown != expected {
            let body: String = body.to_string().chars().take(200).collect();
            wrong.push(format!("{topic} {body}\n  expected {expected}\n  found    {shown}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_is_no_json_object_is_parked_with_its_own_reason() {
    let day = "2026-01-23T17:00:00Z";
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let beat = |name: &str| format!("{{\"processor_name\":\"{name}\",\"run_id\":\"r\",\"progress\":1}}").into_bytes();
    let with_mark = [b"\xef\xbb\xbf".as_slice(), b"5"].concat();
    let (nul, half) = (beat("a\\u0000b"), beat("\\ud800"));
    let table: [(&[u8], &str); 18] = [
        (b"", "probe"),
        (b"\xff\xfe\x00", "parked not-utf8"),
        (b"not json", "parked not-json"),
        (b"{\"processor_name\":", "parked not-json"),
        (b"{} trailing", "parked not-json"),
        (b" ", "parked not-json"),
        (b"5", "parked not-an-object"),
        // A byte-order mark says nothing.
        (&with_mark, "parked not-an-object"),
        (b"{\"progress\":NaN}", "parked not-json"),
        (b"{\"progress\":1e999}", "parked no-name"),
        (&half, "parked not-json"),
        (&nul, "parked control-character"),
        (b"\x1f\x8b\x08\x00gzip", "parked not-utf8"),
        (b"null", "parked not-an-object"),
        (b"[]", "parked not-an-object"),
        (b"{\"status\":\"success\",\"status\":\"failed\"}", "parked wrong-shape"),
        (b"{\"metadata\":{\"batch_id\":\"a\",\"batch_id\":\"b\"}}", "parked wrong-shape"),
        (deep.as_bytes(), "parked too-deep"),
    ];
    for (data, expected) in table {
        let shown = show(&decoded(PHASE1, day, data));
        assert_eq!(shown, expected, "{}", String::from_utf8_lossy(&data[..data.len().min(60)]));
    }
}

#[test]
fn a_reason_says_what_to_do_and_repeats_no_control_character() {
    let day = "2026-01-23T17:00:00Z";
    let reason = |topic, body: Value| match decoded(topic, day, body.to_string()) {
        Decoded::Parked { reason } => reason.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        reason(PHASE2, json!({"processor_name":"NbacGambookProcessor","game_date":"2026-01-22","status":"success"})),
        "no node is called `NbacGambookProcessor`; add the name to its node's aliases and replay the message; did you mean `nbacgamebookprocessor`?"
    );
    assert_eq!(
        reason("nba-phase3-analytics-complet", json!({})),
        "topic `nba-phase3-analytics-complet` is not in topics.yaml; declare it or remove the subscription; did you mean `nba-phase3-analytics-complete`?"
    );
    assert_eq!(
        reason(PHASE1, unified(json!({"game_date":"TODAY\u{1b}","metadata":{}}))),
        "the message names no date that can be told for certain (`TODAY ` is none); publish it again with game_date as YYYY-MM-DD"
    );
}

#[test]
fn a_name_that_two_pipelines_know_needs_a_dataset_or_a_topic_to_choose() {
    // On a topic of a pipeline that does not know the name, nothing chooses, and neither graph may change.
    let text = include_str!("../../topics.yaml").replace("pipeline: mlb", "pipeline: other");
    let topology = tipoff::topology::check(&text, "topics.yaml").expect("sound");
    let mut routes = world().routes();
    routes.topology = &topology;
    let body = json!({"processor_name":"SharedSummaryProcessor","game_date":"2026-01-22","status":"success"});
    let message = delivery("mlb-phase3-analytics-complete", "2026-01-23T17:00:00Z", body.to_string());
    assert_eq!(show(&decode(&routes, &message)), "parked ambiguous-name");
}

#[test]
fn an_attribute_may_name_the_dispatch_as_well_as_a_field() {
    let mut message =
        delivery(PHASE4, "2026-01-23T17:00:00Z", unified(json!({"processor_name":"ml_feature_store"})).to_string());
    message.attributes.insert("tipoff-dispatch-id".to_owned(), "nba/2026-01-22/ml_feature_store/2/1".to_owned());
    let shown = show(&decode(&world().routes(), &message));
    assert!(shown.ends_with("answers nba/2026-01-22/ml_feature_store/2/1"), "{shown}");
}

#[test]
fn a_failure_keeps_a_thousand_characters_of_its_message_and_no_half_one() {
    let body = unified(json!({"status":"failed","error_message":"é".repeat(5000)}));
    let Decoded::Events { events, .. } = decoded(PHASE1, "2026-01-23T17:00:00Z", body.to_string()) else { panic!() };
    let Event::Completed(completed) = &events[0] else { panic!() };
    assert_eq!(completed.outcome, Outcome::Failed("é".repeat(1000).into()));
}

#[test]
fn every_example_of_an_incoming_schema_is_understood() {
    // The run-history line is the one example that is shown because it must be left alone.
    let schemas = [
        ("completion-phase1", PHASE1),
        ("completion", PHASE3),
        ("predictions-complete", PHASE5),
        ("export-complete", PHASE6),
        ("grading-complete", GRADING),
        ("heartbeat", BEATS),
    ];
    for (schema, topic) in schemas {
        let path = format!("{}/schemas/{schema}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let schema: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        for example in schema["examples"].as_array().expect("examples") {
            let published = example["timestamp"].as_str().unwrap_or("2026-01-24T12:00:00Z");
            let shown = show(&decoded(topic, published, example.to_string()));
            let expected = if example.get("triggered_by").is_some() { "ignored run-history" } else { "nba/" };
            assert!(shown.starts_with(expected), "{shown}: {example}");
        }
    }
}

#[test]
fn a_push_envelope_reads_back_what_was_wrapped() {
    let message = Message {
        message_id: "1".to_owned(),
        published: "2026-01-23T17:00:00.123456Z".parse::<Timestamp>().unwrap(),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
        data: vec![0xfb, 0xff, 0, 1],
    };
    for data in [message.data.clone(), Vec::new()] {
        let message = Message { data, ..message.clone() };
        let pushed = unwrap_push(&wrap_push("projects/p/subscriptions/s", &message, Some(3))).unwrap();
        assert_eq!((pushed.subscription.as_str(), pushed.delivery_attempt), ("projects/p/subscriptions/s", Some(3)));
        assert_eq!(pushed.message, message);
    }
}

#[test]
fn envelopes_are_read_in_either_spelling_and_alphabet() {
    let bytes = [0xfb_u8, 0xff, 0xfe, 0x01];
    for data in [STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)] {
        for (id, time) in [("messageId", "publishTime"), ("message_id", "publish_time")] {
            let body = json!({"message":{"data":data,id:"7",time:"2026-01-23T17:00:00Z"},"subscription":"s"});
            let pushed = unwrap_push(body.to_string().as_bytes()).unwrap();
            assert_eq!((pushed.message.message_id.as_str(), pushed.message.data.as_slice()), ("7", &bytes[..]));
        }
        let body = json!({"messages":[{"data":data,"orderingKey":"k"},{"attributes":{"a":"b"}}]});
        let published = unwrap_publish(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            published,
            [(bytes.to_vec(), BTreeMap::new()), (Vec::new(), [("a".to_owned(), "b".to_owned())].into())]
        );
    }
    let whole = json!({"message":{"messageId":"7","publishTime":"2026-01-23T17:00:00Z"},"subscription":"s"});
    assert_eq!(unwrap_push(whole.to_string().as_bytes()).unwrap().message.data, b"");
    for refused in [
        json!({}),
        json!({"message":null}),
        json!({"message":{"data":""}}),
        json!({"message":{"messageId":"7","publishTime":"yesterday"}}),
        json!([]),
        json!("x"),
    ] {
        assert!(unwrap_push(refused.to_string().as_bytes()).is_err(), "{refused}");
    }
    assert!(unwrap_publish(br#"{"messages":[{"data":"*"}]}"#).is_err());
}

#[test]
fn data_that_are_no_base64_are_the_contents_fault_and_parked_with_their_text() {
    let body = json!({"message":{"data":"*** not base64 ***","messageId":"7","publishTime":"2026-01-23T17:00:00Z"}});
    let message = unwrap_push(body.to_string().as_bytes()).unwrap().message.of(PHASE1);
    assert_eq!(message.data, b"*** not base64 ***");
    assert_eq!(show(&decode(&world().routes(), &message)), "parked not-json");
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "",
        "success",
        "running",
        "2026-01-22",
        "20260122",
        "TODAY",
        "2026-é2-22",
        "espn_roster",
        "PlayerGameSummaryProcessor",
        "p2_nba_raw.nbac_team_boxscore",
        "p2_",
        ".",
        "p2_.",
        "gs://",
        "gs://b",
        "espn/rosters/2026-01-22/",
        "\u{0}",
        "nba/2026-01-22/export/1/1",
        "-1",
        "99999999999999999999999999",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(field(), inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "processor_name",
        "scraper_name",
        "scraper",
        "name",
        "bucket",
        "gcs_path",
        "status",
        "success",
        "metadata",
        "game_date",
        "data_date",
        "date",
        "target_date",
        "execution_id",
        "run_id",
        "batch_id",
        "tipoff",
        "dispatch_id",
        "record_count",
        "output_table",
        "source_table",
        "completion_pct",
        "expected_players",
        "completed_players",
        "error_message",
        "errors",
        "progress",
        "integerValue",
        "doubleValue",
        "triggered_by",
    ])
    .prop_map(str::to_owned)
}

fn topic() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        PHASE1,
        PHASE3,
        PHASE5,
        BEATS,
        GRADING,
        "mlb-phase3-analytics-complete",
        "",
        "no-such-topic",
    ])
}

/// Decodes twice, on both doors, and asks for every text that may be shown.
fn steady(topic: &str, data: &[u8]) -> Result<(), TestCaseError> {
    let message = delivery(topic, "2026-01-23T17:00:00Z", data);
    let first = decode(&world().routes(), &message);
    prop_assert_eq!(&first, &decode(&world().routes(), &message));
    if let Decoded::Parked { reason } = &first {
        prop_assert_ne!(reason, &Reason::Fault);
        let text = reason.to_string();
        prop_assert!(text.chars().count() < 600 && !text.chars().any(char::is_control), "{text:?}");
        prop_assert!(!reason.slug().is_empty());
    }
    let _ = show(&first);
    let _ = unwrap_push(data);
    let _ = unwrap_publish(data);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_bytes_upset_the_decoder(topic in topic(), data in prop::collection::vec(any::<u8>(), 0..300)) {
        steady(topic, &data)?;
    }

    #[test]
    fn no_json_upsets_the_decoder(topic in topic(), body in any_json()) {
        steady(topic, body.to_string().as_bytes())?;
    }

    #[test]
    fn no_altered_message_upsets_the_decoder(
        row in any::<prop::sample::Index>(),
        name in field(),
        value in any_json(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (topic, _, mut body, _) = row.get(&golden()).clone();
        if let Value::Object(members) = &mut body {
            members.insert(name, value);
        }
        let mut data = body.to_string().into_bytes();
        steady(topic, &data)?;
        let at = at.index(data.len());
        if cut { data.truncate(at) } else { data[at] = byte }
        steady(topic, &data)?;
    }
}
