//! What Google's service refuses and the emulator never does: it takes every row, has no quotas, and ends every query.
//!
//! A small server answers with the bodies that Google's documentation shows.

use jiff::civil::date;
use serde_json::json;
use tipoff::adapter::bigquery::Bigquery;
use tipoff::port::{Answer, Reported, Row, Warehouse};
use tipoff::wire::report::Kind;

use super::super::second;
use super::super::warehouse::row;
use super::server::Server;
use super::{ask, asking, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_is_held_to_until_midnight_in_california() {
    // Nothing is asked or appended before; a rate that was exceeded is over by the next question.
    let server = Server::start().await;
    let own = asking("SELECT @date, @least", &server.address);
    let clock = own.clock.clone();
    let bigquery = Bigquery::connect(own).await.unwrap();
    let refusal = |reason: &str| {
        let message = "Exceeded rate limits: too many table update operations for this table";
        let error = json!({ "message": message, "domain": "usageLimits", "reason": reason });
        json!({ "error": { "code": 403, "message": message, "errors": [error], "status": "PERMISSION_DENIED" } })
    };
    server.answer(403, refusal("rateLimitExceeded"));
    for asked in 1..=2 {
        assert!(matches!(ask(&bigquery).await, Answer::Unknown(_)));
        assert_eq!(server.calls().len(), asked);
    }
    server.answer(403, refusal("quotaExceeded"));
    assert!(matches!(ask(&bigquery).await, Answer::Unknown(_)));
    let held = bigquery.append("phase_completions", completion("1")).await.unwrap_err();
    assert!(held.contains("not asked until 2026-01-22T08:00:00Z"), "{held}");
    assert!(matches!(ask(&bigquery).await, Answer::Unknown(_)));
    assert_eq!(server.calls().len(), 3);

    server.answer(200, json!({}));
    clock.set(second(2 * 3600));
    bigquery.append("phase_completions", completion("1")).await.unwrap();
    assert_eq!(server.calls().len(), 4);
}

fn completion(id: &str) -> Vec<(String, Row)> {
    vec![(id.to_owned(), row(json!({ "processor_name": "X", "game_date": "2026-01-22" })))]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_can_never_be_taken_keeps_no_other_back() {
    // What may pass, and what is the table's fault rather than the row's, leaves the export where it is.
    let server = Server::start().await;
    let bigquery = Bigquery::connect(asking("SELECT @date, @least", &server.address)).await.unwrap();
    let errors = |reason: &str, message: &str| {
        let error = json!({ "reason": reason, "location": "", "debugInfo": "", "message": message });
        json!({ "kind": "bigquery#tableDataInsertAllResponse", "insertErrors": [{ "index": 0, "errors": [error] }] })
    };
    let table = [
        (errors("invalid", "Could not parse 'x' as DATE"), true, 1),
        (errors("backendError", "try again"), false, 1),
        (errors("timeout", ""), false, 1),
        (errors("invalid", "no such field: status."), false, 1),
        (json!({}), true, 1),
    ];
    for (answer, taken, refused) in table {
        server.answer(200, answer.clone());
        let appended = bigquery.append("phase_completions", completion("1")).await;
        assert_eq!((appended.is_ok(), bigquery.refused()), (taken, refused), "{answer} {appended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_does_not_end_is_ended() {
    // The answer names the query, which would go on and be billed.
    let server = Server::start().await;
    let bigquery = Bigquery::connect(asking("SELECT @date, @least", &server.address)).await.unwrap();
    server.answer(200, json!({ "jobComplete": false, "jobReference": { "projectId": "own", "jobId": "job_1" } }));
    let answer = ask(&bigquery).await;
    assert!(matches!(&answer, Answer::Unknown(why) if why.contains("not finished within")), "{answer:?}");
    assert_eq!(server.calls().last().unwrap(), "/bigquery/v2/projects/own/jobs/job_1/cancel");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_asked_again_until_it_cannot_get_better() {
    // A shortage is asked about every time; a whole answer is kept for its minutes.
    let server = Server::start().await;
    let own = asking("SELECT @date, @least", &server.address);
    let (clock, keep) = (own.clock.clone(), own.keep);
    let bigquery = Bigquery::connect(own).await.unwrap();
    let answer = |observed: &str| {
        let field = |name: &str| json!({ "name": name, "type": "INTEGER" });
        json!({
            "jobComplete": true, "schema": { "fields": [field("observed"), field("expected")] },
            "rows": [{ "f": [{ "v": observed }, { "v": "8" }] }], "totalRows": "1",
        })
    };
    server.answer(200, answer("6"));
    ask(&bigquery).await;
    ask(&bigquery).await;
    assert_eq!(server.calls().len(), 2);
    server.answer(200, answer("8"));
    let whole = ask(&bigquery).await;
    server.answer(500, json!({}));
    assert_eq!(ask(&bigquery).await, whole);
    assert_eq!(server.calls().len(), 3);
    clock.set(second(0) + keep);
    assert!(matches!(ask(&bigquery).await, Answer::Unknown(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_given_its_types_and_what_is_none_is_unknown() {
    // Google writes instants with an exponent. An error comes with 200 as well, and a used-up quota holds reports too.
    let server = Server::start().await;
    let own = settings("own", &server.address);
    let bigquery = Bigquery::connect(own).await.unwrap();
    let day = date(2026, 1, 24);
    let tell = async || bigquery.report(&"nba".into(), Kind::Schedule, day, second(0)).await;
    let field = |name: &str, kind: &str| json!({ "name": name, "type": kind });
    let answer = |tip: serde_json::Value, is_late: &str| {
        let fields = [
            field("away", "STRING"),
            field("day", "DATE"),
            field("tip", "TIMESTAMP"),
            field("late", "BOOLEAN"),
            field("rows", "INTEGER"),
        ];
        let cells = json!([{ "v": "BOS" }, { "v": "2026-01-24" }, { "v": tip }, { "v": is_late }, { "v": "3" }]);
        json!({ "jobComplete": true, "schema": { "fields": fields }, "rows": [{ "f": cells }], "totalRows": "1" })
    };
    server.answer(200, answer(json!("1.7692992E9"), "true"));
    let typed = json!({ "away": "BOS", "day": "2026-01-24", "tip": "2026-01-25T00:00:00Z", "late": true, "rows": 3 });
    assert_eq!(tell().await, Reported::Rows(vec![row(typed.clone())]));
    server.answer(200, answer(serde_json::Value::Null, "false"));
    let Reported::Rows(rows) = tell().await else { panic!() };
    assert_eq!((&rows[0]["tip"], &rows[0]["late"]), (&serde_json::Value::Null, &json!(false)));
    server.answer(200, json!({ "jobComplete": true, "schema": { "fields": [] } }));
    assert_eq!(tell().await, Reported::Rows(Vec::new()));

    let error = json!({ "reason": "invalidQuery", "message": "no such column" });
    let table = [
        (200, answer(json!("soon"), "true"), "report schedule: tip is \"soon\", which is no Timestamp"),
        (200, json!({ "jobComplete": true, "errors": [error] }), "report schedule: invalidQuery: no such column"),
        (200, json!({ "jobComplete": true, "pageToken": "2" }), "report schedule: it gave more than 1000 rows"),
        (
            403,
            json!({ "error": { "code": 403, "message": "used", "status": "x", "errors": [{ "reason": "quotaExceeded" }] } }),
            "the day's quota is used up",
        ),
        (200, json!({}), "not asked until 2026-01-22T08:00:00Z"),
    ];
    for (status, body, expected) in table {
        server.answer(status, body);
        let told = tell().await;
        assert!(matches!(&told, Reported::Unknown(why) if why.contains(expected)), "{told:?}");
    }
}
