//! Bad input is normal: it gets a clear reason, is kept where an operator sees it, and never stops the rest.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The date in the pipeline's zone.
fn today() -> jiff::civil::Date {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    zone.to_datetime(tipoff::clock::Clock::System.now()).date()
}

/// The service on an empty directory; it ends with this.
pub struct Service {
    child: Child,
    pub url: String,
    pub client: reqwest::Client,
    _folder: tempfile::TempDir,
    pub data: std::path::PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    pub fn start(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]).arg(&data).args(extra);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url, client: reqwest::Client::new(), _folder: folder, data }
    }

    pub async fn publish(&self, topic: &str, data: &[u8]) -> reqwest::Response {
        let body = json!({ "messages": [{ "data": STANDARD.encode(data) }] }).to_string();
        let url = format!("{}/v1/projects/p/topics/{topic}:publish", self.url);
        self.client.post(url).body(body).send().await.unwrap()
    }

    fn parked(&self) -> Vec<(String, i64)> {
        let database = rusqlite::Connection::open(self.data.join("tipoff.db")).unwrap();
        let mut statement =
            database.prepare("SELECT json_extract(input, '$.slug'), sum(count) FROM parked GROUP BY 1").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn partitions(&self) -> i64 {
        let database = rusqlite::Connection::open(self.data.join("tipoff.db")).unwrap();
        database.query_row("SELECT count(*) FROM partitions", [], |row| row.get(0)).unwrap()
    }

    /// Resident memory in megabytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    async fn works(&self) {
        let today = today();
        let done = json!({ "processor_name": "PlayerGameSummaryProcessor", "phase": "phase_3_analytics",
            "execution_id": uuid::Uuid::new_v4().to_string(), "game_date": today.to_string(), "status": "success",
            "record_count": 282 });
        let response = self.publish("nba-phase3-analytics-complete", done.to_string().as_bytes()).await;
        assert!(response.status().is_success(), "a good message is no longer taken: {response:?}");
    }
}

fn completion(date: &str, name: &str) -> Vec<u8> {
    json!({ "processor_name": name, "phase": "phase_3_analytics", "execution_id": "x", "game_date": date,
        "status": "success", "record_count": 1 })
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn poison_is_parked_with_a_reason_and_the_rest_goes_on() {
    let service = Service::start(&[]);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{{\"metadata\":{}1{}}}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let poison: Vec<Vec<u8>> = vec![
        b"not json".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"17".to_vec(),
        b"[]".to_vec(),
        deep.into_bytes(),
        nested.into_bytes(),
        vec![b' '; 7 * 1024 * 1024],
        completion("9999-12-31", "PlayerGameSummaryProcessor"),
        completion("1801-01-01", "PlayerGameSummaryProcessor"),
        completion("2026-2-8", "PlayerGameSummaryProcessor"),
        completion("2026-02-08", "NobodyProcessor"),
    ];
    for data in &poison {
        let response = service.publish("nba-phase3-analytics-complete", data).await;
        assert!(response.status().is_success(), "poison must be acknowledged, got {response:?}");
        service.works().await;
    }
    let parked = service.parked();
    let kept: i64 = parked.iter().map(|(_, count)| count).sum();
    assert_eq!(kept, i64::try_from(poison.len()).unwrap(), "each is kept with its reason: {parked:?}");
    assert!(service.memory() < 512, "{} MB", service.memory());
}

#[tokio::test]
async fn a_body_beyond_the_brokers_bound_is_refused_and_an_unknown_topic_named() {
    let service = Service::start(&[]);
    let response = service.publish("nba-phase3-analytics-complete", &vec![b' '; 11 * 1024 * 1024]).await;
    assert_eq!(response.status(), 400);
    let response = service.publish("nba-phase3-analytic-complete", b"{}").await;
    assert_eq!(response.status(), 404);
    let error: Value = response.json().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("nba-phase3-analytics-complete"), "no suggestion: {message}");
    service.works().await;
}

/// What was laid aside, and is published again as wrong as before, is seen again; and a count beyond all counts ends nothing.
#[tokio::test]
async fn what_comes_again_after_it_was_laid_aside_waits_again() {
    let service = Service::start(&[]);
    let topic = "nba-phase3-analytics-complete";
    let waiting = async || {
        let url = format!("{}/v1/dead-letters", service.url);
        let board: Value = service.client.get(url).send().await.unwrap().json().await.unwrap();
        board["count"].as_u64().unwrap()
    };
    let discard = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
        let arguments = ["dlq", "discard", "--kind", "parked", "--reason", "mended", "--actor", "ann", "--apply"];
        let ended = command.args(arguments).arg("--data").arg(&service.data).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    };
    for _ in 0..2 {
        assert!(service.publish(topic, b"not json").await.status().is_success());
        assert_eq!(waiting().await, 1);
        discard();
        assert_eq!(waiting().await, 0);
    }
    for name in ["TeamDefenseGameSummaryProcessor", "TeamOffenseGameSummaryProcessor"] {
        let done = json!({ "processor_name": name, "game_date": today().to_string(), "status": "success",
            "execution_id": name, "record_count": 1e20 });
        assert!(service.publish(topic, done.to_string().as_bytes()).await.status().is_success());
    }
    assert_eq!(waiting().await, 2, "they are parked");
    let health = service.client.get(format!("{}/pipeline-health-summary", service.url)).send().await.unwrap();
    assert!(health.status().is_success(), "{health:?}");
    let nothing = service.client.post(format!("{}/v1/projects/p/topics/{topic}:publish", service.url));
    let answer = nothing.body(r#"{"messages":[{"attributes":{"a":"b"}},{}]}"#).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().contains("message 1 has neither")), (400, true));
    service.works().await;
}

/// Names, runs, dates and units are anybody's to choose, and a series of metrics that is begun is kept for ever.
#[tokio::test]
async fn no_message_begins_a_series_of_its_own() {
    let service = Service::start(&[]);
    let series = async || {
        let text = service.client.get(format!("{}/metrics", service.url)).send().await.unwrap().text().await.unwrap();
        let named = text.lines().filter(|line| !line.starts_with('#'));
        named.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect::<BTreeSet<String>>()
    };
    let topic = "nba-phase3-analytics-complete";
    let send = async |nth: usize| {
        // No more dates than are opened in a minute.
        let date = today().saturating_sub(jiff::ToSpan::days(i64::try_from(nth % 40).unwrap() + 1));
        let of = |name: &str, status: &str| {
            json!({ "processor_name": name, "phase": "phase_3_analytics", "execution_id": format!("run-{nth}"),
                "correlation_id": format!("c-{nth}"), "game_date": date, "output_table": "", "status": status,
                "error_message": format!("{nth} went wrong"), "record_count": nth })
        };
        let bodies = [
            of("PlayerGameSummaryProcessor", "success").to_string().into_bytes(),
            of("PlayerGameSummaryProcessor", "failed").to_string().into_bytes(),
            of(&format!("NobodyKnows{nth}Processor"), "success").to_string().into_bytes(),
            format!("garbage {nth}").into_bytes(),
            completion(&format!("no-date-{nth}"), "PlayerGameSummaryProcessor"),
        ];
        for body in bodies {
            assert!(service.publish(topic, &body).await.status().is_success(), "{}", String::from_utf8_lossy(&body));
        }
        let unknown = service.publish(&format!("no-topic-{nth}"), b"{}").await;
        assert_eq!(unknown.status(), 404);
    };
    for nth in 0..3 {
        send(nth).await;
    }
    service.works().await;
    let before = series().await;
    assert!(before.len() > 50, "{before:?}");
    for nth in 3..120 {
        send(nth).await;
    }
    service.works().await;
    let begun: Vec<String> = series().await.difference(&before).cloned().collect();
    // What the first three of a kind have not met is of declarations, or of a list in the code.
    let chosen = |line: &&String| {
        ["run-", "NobodyKnows", "garbage", "no-", "202", "went wrong"].iter().any(|word| line.contains(word))
    };
    assert_eq!(begun.iter().find(chosen), None);
    assert!(begun.len() < 50, "{} series: {begun:?}", begun.len());
}

#[tokio::test]
async fn ten_thousand_dates_from_one_publisher_open_a_bounded_number() {
    let service = Service::start(&[]);
    let first = jiff::civil::date(2000, 1, 1);
    for page in 0..100 {
        let messages: Vec<Value> = (0..100)
            .map(|index| {
                let date = first.saturating_add(jiff::ToSpan::days(i64::from(page * 100 + index)));
                json!({ "data": STANDARD.encode(completion(&date.to_string(), "PlayerGameSummaryProcessor")) })
            })
            .collect();
        let url = format!("{}/v1/projects/p/topics/nba-phase3-analytics-complete:publish", service.url);
        let body = json!({ "messages": messages }).to_string();
        // A 503 is an answer too: history beyond the rate is handed back.
        let status = service.client.post(url).body(body).send().await.unwrap().status();
        assert!(status.is_success() || status == 503, "{status}");
    }
    service.works().await;
    // Two minutes' worth at most, and the next dates that the opened ones tell.
    assert!(service.partitions() <= 300, "{} partitions", service.partitions());
    assert!(service.memory() < 512, "{} MB", service.memory());
}

#[tokio::test]
async fn web_pages_and_strangers_are_refused() {
    let service = Service::start(&[]);
    let url = format!("{}/v1/projects/p/topics/nba-phase3-analytics-complete:publish", service.url);
    let from_page = service.client.post(&url).header("origin", "https://evil.example").body("{}").send().await.unwrap();
    assert_eq!(from_page.status(), 403);
    let rebound = service.client.post(&url).header("host", "evil.example").body("{}").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    let refused = Command::new(env!("CARGO_BIN_EXE_tipoff")).args(["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--token-file"));
}

#[tokio::test]
async fn a_token_is_required_where_one_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let service = Service::start(&["--token-file", file.to_str().unwrap()]);
    let url = format!("{}/v1/projects/p/topics/nba-phase3-analytics-complete:publish", service.url);
    let body = json!({ "messages": [{ "data": "e30=" }] }).to_string();
    assert_eq!(service.client.post(&url).body(body.clone()).send().await.unwrap().status(), 401);
    let admitted = service.client.post(&url).bearer_auth("0123456789abcdef").body(body).send().await.unwrap();
    assert_eq!(admitted.status(), 200);
}

#[tokio::test]
async fn bodies_that_are_announced_and_never_sent_hold_up_nobody() {
    use std::io::Write;
    let service = Service::start(&[]);
    let address = service.url.strip_prefix("http://").unwrap().to_owned();
    let announced: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(&address).unwrap();
            write!(stream, "POST /push HTTP/1.1\r\nHost: {address}\r\nContent-Length: 16000000\r\n\r\n{{").unwrap();
            stream
        })
        .collect();
    let patience = std::time::Duration::from_secs(10);
    tokio::time::timeout(patience, service.works()).await.expect("a good message waits for bodies that never come");
    drop(announced);
}

#[tokio::test]
async fn a_call_that_failed_and_is_told_again_is_told_once() {
    // The first has no execution id; the second answers an attempt nobody has decided, so the call fails each time.
    let service = Service::start(&[]);
    let date = today();
    let failed = json!({ "processor_name": "PlayerGameSummaryProcessor", "game_date": date, "status": "failed" });
    let early = json!({ "processor_name": "PlayerGameSummaryProcessor", "execution_id": "e", "game_date": date,
        "status": "success", "tipoff": { "dispatch_id": format!("nba/{date}/player_game_summary/1/9") } });
    let data = |message: &Value| json!({ "data": STANDARD.encode(message.to_string()) });
    let call = json!({ "messages": [data(&failed), data(&early)] }).to_string();
    for _ in 0..5 {
        let url = format!("{}/v1/projects/p/topics/nba-phase3-analytics-complete:publish", service.url);
        assert_eq!(service.client.post(url).body(call.clone()).send().await.unwrap().status(), 503);
    }
    let database = rusqlite::Connection::open(service.data.join("tipoff.db")).unwrap();
    let told: i64 = database
        .query_row("SELECT count(*) FROM journal WHERE entry LIKE '%\"failed\"%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(told, 1, "each telling was another run");
}

/// Somebody else holds the file: it is read, and every write waits in vain. The service says so, and is not restarted for it.
#[tokio::test]
async fn a_store_that_refuses_writes_is_said_and_what_comes_is_handed_back() {
    let service = Service::start(&[]);
    service.works().await;
    let health = async |path: &str| {
        let answer = service.client.get(format!("{}/{path}", service.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (code, ready) = health("readyz").await;
    assert_eq!(code, 200);
    // What it runs on is told with it.
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let effective = json(&health("v1/config").await.1);
    assert!(effective["digest"].is_string(), "{effective}");
    assert_eq!(json(&ready)["configuration"], effective["digest"]);
    assert!(effective["sources"]["pipeline.yaml"].is_string(), "{effective}");
    let holder = rusqlite::Connection::open(service.data.join("tipoff.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let summary = completion("2026-01-22", "PlayerGameSummaryProcessor");
    let refused = service.publish("nba-phase3-analytics-complete", &summary).await;
    assert_eq!(refused.status(), 503);
    let until = async |code: u16, words: &str| {
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(90);
        loop {
            let (found, said) = health("readyz").await;
            if found == code && said.contains(words) {
                return;
            }
            assert!(std::time::Instant::now() < patience, "{found}: {said}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    // The alert about it, too, is there without having been stored.
    until(503, "alert self:store").await;
    assert_eq!(health("healthz").await.0, 200);
    // Without waiting for the store: it is known to take nothing.
    let asked = std::time::Instant::now();
    let refused = service.publish("nba-phase3-analytics-complete", &summary).await;
    assert_eq!(refused.status(), 503);
    assert!(asked.elapsed() < std::time::Duration::from_secs(4), "{:?}", asked.elapsed());
    assert!(refused.text().await.unwrap().contains("the store refuses writes"));

    holder.execute_batch("ROLLBACK").unwrap();
    until(200, "ready").await;
    service.works().await;
    let told = "SELECT count(*) FROM alerts WHERE key = 'self:store' AND resolved_at IS NOT NULL AND times > 0";
    assert_eq!(holder.query_row(told, [], |row| row.get::<_, i64>(0)).unwrap(), 1, "the alert was not kept afterwards");
}

/// Heartbeats that flood in are kept together, and what is no heartbeat does not wait with them.
#[tokio::test]
async fn dozens_of_heartbeats_share_a_commit_and_hold_up_no_completion() {
    const CALLS: usize = 60;
    const BEATS: usize = 50;
    let service = Service::start(&[]);
    service.works().await;
    let commits = || -> i64 {
        let database = rusqlite::Connection::open(service.data.join("tipoff.db")).unwrap();
        database.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap()
    };
    let today = today();
    let names = ["p2_nbacom_boxscores", "p2_nbacom_team_boxscore", "p2_nbacom_play_by_play", "p2_odds_game_lines"];
    let before = commits();
    for wave in 0..2 {
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..CALLS {
            let beats = (0..BEATS).map(|nth| {
                let nth = call * BEATS + nth;
                let beat = json!({ "processor_name": names[nth % names.len()], "run_id": format!("run-{}", nth % 40),
                    "data_date": today.to_string(), "status": "running", "progress": nth, "total": 10_000 });
                json!({ "data": STANDARD.encode(beat.to_string()) })
            });
            let body = json!({ "messages": beats.collect::<Vec<_>>() }).to_string();
            let url = format!("{}/v1/projects/p/topics/nba-processor-heartbeats:publish", service.url);
            let client = service.client.clone();
            calls.spawn(async move { client.post(url).body(body).send().await.unwrap().status() });
        }
        // They wait for company; what is published in the middle of it does not.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let since = std::time::Instant::now();
        service.works().await;
        let took = since.elapsed();
        assert!(took.as_secs() < 10, "wave {wave}: a completion took {took:?} beside heartbeats that wait for 15 s");
        while let Some(status) = calls.join_next().await {
            assert!(status.unwrap().is_success(), "wave {wave}");
        }
    }
    let commits = commits() - before;
    assert!((1..=100).contains(&commits), "{} heartbeats and 2 completions were {commits} commits", 2 * CALLS * BEATS);
}
