//! Slack, webhooks and mail, each against a server that says everything a real one may say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::Value;
use tipoff::adapter::channel;
use tipoff::configuration::Configuration;
use tipoff::domain::effect::Severity;
use tipoff::domain::id::{ChannelId, PartitionKey, PipelineId};
use tipoff::domain::notify::{ITEMS_MAX, Item, News, Notice, NoticeKind, Sent};
use tipoff::port::Channel;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::second;

type Heard = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn answer(
    State(heard): State<Heard>,
    Path((status, _secret)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    heard.lock().unwrap().push((headers, body));
    match status.as_str() {
        "hang" => std::future::pending().await,
        "302" => Redirect::to("/200/elsewhere").into_response(),
        "429" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "slower").into_response(),
        status => {
            let status = StatusCode::from_u16(status.parse().unwrap()).unwrap();
            (status, "asked at /404/T0/B0/hunter2, and there is nothing").into_response()
        }
    }
}

/// Where it listens, and what it hears.
async fn server() -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Heard::default();
    let routes = Router::new().route("/{status}/{*secret}", post(answer)).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, heard)
}

/// The one channel that a piece of tipoff.yaml declares.
fn channel(declared: &str) -> Result<Arc<dyn Channel>, String> {
    let text = format!("alerts: {{ channels: {{ it: {declared} }} }}\n");
    let configuration = Configuration::read("tipoff.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    let (_, mut channels) = channel::declared(&configuration.alerts).map_err(|error| error.to_string())?;
    Ok(channels.remove(&ChannelId::from("it")).unwrap())
}

fn item(text: &str) -> Item {
    Item {
        key: "failed:player_game_summary:nba/2026-01-22".into(),
        news: News::On,
        severity: Severity::Critical,
        partition: Some(PartitionKey::new("nba", jiff::civil::date(2026, 1, 22))),
        node: Some("player_game_summary".into()),
        text: text.to_owned(),
        done: Some("it was dispatched again, r1a2".to_owned()),
        escalated: None,
        since: second(0),
        over_since: None,
        downstream: 12,
        affected: vec!["blocked:predictions: it waits".to_owned()],
        look: vec!["tipoff why player_game_summary 2026-01-22 -p nba".to_owned()],
        act: vec!["tipoff retry 2026-01-22 player_game_summary --reason WHY -p nba".to_owned()],
    }
}

fn notice(title: &str, items: Vec<Item>) -> Notice {
    Notice {
        id: "it-20260122T060000Z-1".to_owned(),
        at: second(0),
        kind: NoticeKind::Alerts,
        severity: Severity::Critical,
        title: title.to_owned(),
        items,
        left_out: 0,
    }
}

/// Names as a stranger may choose them: markup, mentions, headers, and very long.
fn hostile() -> Notice {
    let text = format!("<script>alert(1)</script> <!channel> & `rm`\r\nBcc: all@example.org {}", "x".repeat(10_000));
    let mut item = item(&text);
    item.key = format!("unknown-name:{text}").as_str().into();
    item.look = vec![text.clone()];
    item.affected = vec![text.clone(); 2];
    item.done = Some(text.clone());
    notice(&text, vec![item; ITEMS_MAX])
}

#[tokio::test]
async fn an_answer_to_a_post_means_one_of_four_things_and_shows_no_secret() {
    let (url, heard) = server().await;
    for kind in ["slack", "webhook"] {
        let later = |wait: Option<i64>, text: &str| Sent::Later {
            wait: wait.map(SignedDuration::from_secs),
            why: text.to_owned(),
        };
        let words = |status: &str| match status {
            "404 Not Found" => format!("{status} asked at (hidden), and there is nothing"),
            // Of another place, it is still the same secret.
            _ => format!("{status} asked at /404/T0/B0/(hidden), and there is nothing"),
        };
        for (status, meant) in [
            ("200", Sent::Taken),
            ("302", Sent::Dead("303 See Other".to_owned())),
            ("400", Sent::Refused(words("400 Bad Request"))),
            ("403", Sent::Dead(words("403 Forbidden"))),
            ("404", Sent::Dead(words("404 Not Found"))),
            ("429", later(Some(7), "429 Too Many Requests slower")),
            ("500", later(None, &words("500 Internal Server Error"))),
        ] {
            let channel = channel(&format!("{{ kind: {kind}, url: '{url}/{status}/T0/B0/hunter2' }}")).unwrap();
            assert_eq!(channel.send(&notice("t", vec![item("x")])).await, meant, "{kind} {status}");
            channel.reach().await.unwrap();
        }
    }
    // A redirect was not followed.
    assert_eq!(heard.lock().unwrap().len(), 14);
    let nobody = channel("{ kind: slack, url: 'http://127.0.0.1:1/T0/B0/hunter2' }").unwrap();
    let Sent::Later { wait: None, why } = nobody.send(&notice("t", Vec::new())).await else { panic!("nobody listens") };
    let reached = nobody.reach().await.unwrap_err();
    assert!(!why.contains("hunter2") && !reached.contains("hunter2"), "{why} {reached}");
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_on() {
    let (url, _) = server().await;
    let channel = channel(&format!("{{ kind: webhook, url: '{url}/hang/x' }}")).unwrap();
    let sent = tokio::time::timeout(Duration::from_secs(20), channel.send(&notice("t", Vec::new()))).await.unwrap();
    assert!(matches!(&sent, Sent::Later { wait: None, why } if why.contains("timed out")), "{sent:?}");
}

#[tokio::test]
async fn a_slack_message_keeps_to_slacks_bounds_and_mentions_nobody() {
    let (url, heard) = server().await;
    let slack = channel(&format!("{{ kind: slack, url: '{url}/200/x' }}")).unwrap();
    for notice in [notice("critical: failed player_game_summary", vec![item("no rows")]), hostile()] {
        assert_eq!(slack.send(&notice).await, Sent::Taken);
    }
    let bodies: Vec<Value> =
        heard.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    for body in &bodies {
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50, "{}", blocks.len());
        let length = |value: &Value| value.as_str().unwrap().chars().count();
        assert!(length(&body["text"]) <= 3_000);
        for block in blocks {
            match block["type"].as_str().unwrap() {
                "header" => assert!((1..=150).contains(&length(&block["text"]["text"]))),
                "section" => {
                    assert!((1..=3_000).contains(&length(&block["text"]["text"])));
                    let fields = block["fields"].as_array().unwrap();
                    assert!((1..=10).contains(&fields.len()));
                    assert!(fields.iter().all(|field| (1..=2_000).contains(&length(&field["text"]))));
                }
                "context" => {
                    let elements = block["elements"].as_array().unwrap();
                    assert!(elements.iter().all(|element| (1..=3_000).contains(&length(&element["text"]))));
                }
                other => panic!("{other}"),
            }
            if block["type"] != "header" {
                assert!(!block.to_string().contains('<'), "{block}");
            }
        }
        assert!(!body["text"].as_str().unwrap().contains('<'));
    }
    let said = bodies[0].to_string();
    for word in ["no rows", "it was dispatched again", "tipoff why", "tipoff retry", "nba/2026-01-22", "12 affected"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[tokio::test]
async fn a_webhook_body_is_what_its_schema_says_and_is_signed() {
    let (url, heard) = server().await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "whsec_c2VjcmV0\n").unwrap();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "hunter2\n").unwrap();
    let (key, token) = (key.path().display(), token.path().display());
    let declared = format!("{{ kind: webhook, url: '{url}/200/x', signing_file: '{key}', token_file: '{token}' }}");
    let webhook = channel(&declared).unwrap();
    let heartbeat = Notice::heartbeat("it-1".to_owned(), second(1));
    for notice in [notice("t", vec![item("no rows")]), hostile(), heartbeat] {
        assert_eq!(webhook.send(&notice).await, Sent::Taken);
    }
    let path = format!("{}/schemas/notice.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for (headers, body) in heard.lock().unwrap().iter() {
        let read: Value = serde_json::from_slice(body).unwrap();
        let wrong: Vec<String> = schema.iter_errors(&read).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?} in {read}");
        let header = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(header("authorization"), "Bearer hunter2");
        assert_eq!(header("webhook-id"), read["id"]);
        let signed = [header("webhook-id"), header("webhook-timestamp"), std::str::from_utf8(body).unwrap()].join(".");
        assert_eq!(
            header("webhook-signature"),
            format!("v1,{}", STANDARD.encode(hmac_sha256(b"secret", signed.as_bytes())))
        );
    }
}

/// By the definition of RFC 2104, so that the adapter is not held beside itself.
fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let padded = |pad: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ pad).collect() };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

/// What a mail server heard: the envelope and the message.
#[derive(Clone, Default, Debug)]
struct Mailed {
    to: Vec<String>,
    data: String,
}

/// A mail server that answers everything with success, but the command `refuses` with `answer`.
async fn mail_sink(refuses: &'static str, answer: &'static str) -> (u16, Arc<Mutex<Vec<Mailed>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mailed = Arc::new(Mutex::new(Vec::new()));
    let heard = mailed.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(dialogue(stream, refuses, answer, heard.clone()));
        }
    });
    (port, mailed)
}

async fn dialogue(
    stream: TcpStream,
    refuses: &'static str,
    answer: &'static str,
    heard: Arc<Mutex<Vec<Mailed>>>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 sink\r\n").await?;
    let mut mail = Mailed::default();
    while let Some(line) = lines.next_line().await? {
        let command = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if command == refuses {
            writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
            continue;
        }
        let reply = match command.as_str() {
            "EHLO" => "250-sink\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n",
            "AUTH" => "235 welcome\r\n",
            "RCPT" => {
                mail.to.push(line);
                "250 ok\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await?;
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.data += &format!("{line}\n");
                }
                heard.lock().unwrap().push(std::mem::take(&mut mail));
                "250 taken\r\n"
            }
            "QUIT" => return writer.write_all(b"221 bye\r\n").await,
            _ => "250 ok\r\n",
        };
        writer.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

fn mail(port: u16, more: &str) -> Arc<dyn Channel> {
    let declared = format!(
        "{{ kind: mail, host: 127.0.0.1, port: {port}, security: none, from: 'tipoff <tipoff@example.org>', \
         to: [ann@example.org, bob@example.org]{more} }}"
    );
    channel(&declared).unwrap()
}

#[tokio::test]
async fn a_mail_says_everything_and_a_name_adds_no_header() {
    let (port, mailed) = mail_sink("NONE", "").await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "hunter2").unwrap();
    let mail = mail(port, &format!(", user: tipoff, password_file: '{}'", password.path().display()));
    mail.reach().await.unwrap();
    assert!(mailed.lock().unwrap().is_empty(), "trying the server sends nothing");
    assert_eq!(mail.send(&notice("critical: failed player_game_summary", vec![item("no rows")])).await, Sent::Taken);
    assert_eq!(mail.send(&hostile()).await, Sent::Taken);
    let mailed = mailed.lock().unwrap().clone();
    let [plain, hostile] = mailed.as_slice() else { panic!("{} mails", mailed.len()) };
    for mail in [plain, hostile] {
        assert_eq!(mail.to, ["RCPT TO:<ann@example.org>", "RCPT TO:<bob@example.org>"]);
        let (head, _) = mail.data.split_once("\n\n").unwrap();
        let names: BTreeSet<&str> = head
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split(':').next().unwrap())
            .collect();
        let expected = [
            "Auto-Submitted",
            "Content-Transfer-Encoding",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
        ];
        let names: BTreeSet<&str> = names.into_iter().collect();
        assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
        assert!(head.contains("Message-ID: <it-20260122T060000Z-1@example.org>"), "{head}");
    }
    for word in ["Subject: [tipoff] critical: failed", "no rows", "dispatched again", "tipoff why", "tipoff retry"] {
        assert!(plain.data.contains(word), "{word}: {}", plain.data);
    }
}

#[tokio::test]
async fn what_a_mail_server_says_means_one_of_four_things() {
    for (refuses, answer, meant) in [
        ("RCPT", "450 mailbox busy", "later"),
        ("RCPT", "550 no such user", "dead"),
        ("DATA", "554 5.7.1 relay denied", "dead"),
        ("RCPT", "550 5.7.1 sender blocked", "dead"),
        ("MAIL", "521 no mail here", "dead"),
        ("DATA", "552 5.3.4 too big", "refused"),
        ("RCPT", "552 5.2.2 mailbox full", "dead"),
        ("MAIL", "421 going down", "later"),
    ] {
        let (port, _) = mail_sink(refuses, answer).await;
        let sent = match mail(port, "").send(&notice("t", vec![item("x")])).await {
            Sent::Taken => "taken",
            Sent::Later { .. } => "later",
            Sent::Dead(_) => "dead",
            Sent::Refused(_) => "refused",
        };
        assert_eq!(sent, meant, "{refuses} {answer}");
    }
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "hunter2").unwrap();
    let (port, _) = mail_sink("AUTH", "535 bad credentials").await;
    let mail = mail(port, &format!(", user: tipoff, password_file: '{}'", password.path().display()));
    let why = mail.reach().await.unwrap_err();
    assert!(why.contains("bad credentials") && !why.contains("hunter2"), "{why}");
    assert!(matches!(mail.send(&notice("t", vec![item("x")])).await, Sent::Dead(_)));
}

#[test]
fn what_cannot_work_is_refused_before_the_start_and_by_its_key() {
    let refused = |declared: &str| channel(declared).err().unwrap_or_else(|| panic!("{declared} was taken"));
    for (declared, word) in [
        ("{ kind: slack }", "alerts.channels.it: say where to post"),
        ("{ kind: slack, url: 'http://hooks.example.org/hunter2' }", "https"),
        ("{ kind: slack, url: 'hunter2' }", "cannot be read"),
        ("{ kind: slack, url_env: TIPOFF_NOBODY_SETS_THIS }", "TIPOFF_NOBODY_SETS_THIS is not set"),
        ("{ kind: slack, url: 'https://a.org/', url_env: HOME }", "one of url, url_env and url_file"),
        ("{ kind: slack, url: 'https://a.org/', host: x }", "channels.it.host"),
        ("{ kind: mail, host: mail.example.org, from: a@b.org, to: [a@b.org], security: none }", "loopback"),
        ("{ kind: mail, host: localhost, from: a@b.org, security: none }", "to whom"),
        ("{ kind: mail, host: localhost, from: 'a@b.org, c', to: [a@b.org] }", "a@b.org, c"),
        ("{ kind: mail, host: localhost, from: a@b.org, to: [a@b.org], user: u }", "password"),
    ] {
        let why = refused(declared);
        assert!(why.contains(word) && !why.contains("hunter2"), "{declared}: {why}");
    }
    let unknown = Configuration::read("tipoff.yaml", "alerts:\n  channels:\n    it: { kind: slack, urll: x }\n");
    let unknown = unknown.unwrap_err().to_string();
    assert!(unknown.starts_with("tipoff.yaml:3: ") && unknown.contains("urll"), "{unknown}");
    let text =
        "alerts: { channels: { it: { kind: slack, url: 'https://a.org/hunter2' } }, routes: [{ channels: [ti] }] }";
    let read = Configuration::read("tipoff.yaml", text).unwrap();
    assert!(!format!("{read:?} {}", read.shown()).contains("hunter2"));
    let why = channel::declared(&read.alerts).err().unwrap().to_string();
    assert!(why.contains("alerts.routes[0]: there is no channel `ti`"), "{why}");
}

#[test]
fn a_route_names_topics_and_pipelines_that_there_are() {
    let declarations = tipoff::pipeline::shipped().unwrap();
    let routed = |route: &str| {
        let text = format!(
            "alerts: {{ channels: {{ it: {{ kind: webhook, url: 'https://a.org/x' }} }}, routes: [{{ channels: [it]{route} }}] }}"
        );
        let read = Configuration::read("tipoff.yaml", &text).unwrap();
        let known = channel::known(&read.alerts, &declarations).map_err(|error| error.to_string());
        (known, channel::declared(&read.alerts).unwrap().0)
    };
    for (route, word) in [
        (", topics: [dead, faild]", "alerts.routes[0].topics: no alert is of topic `faild`; did you mean `failed`?"),
        (", pipeline: nbaa", "alerts.routes[0].pipeline: there is no pipeline `nbaa`; did you mean `nba`?"),
    ] {
        let why = routed(route).0.unwrap_err();
        assert!(why.contains(word), "{why}");
    }
    // A class of failures that pipeline.yaml names is a topic, too.
    let (known, settings) = routed(", severity_min: critical, topics: [dead, quota]");
    known.unwrap();
    let pipelines = || declarations.pipelines.keys();
    assert!(!settings.unheard(Severity::Critical, pipelines()).contains(&"dead"));
    assert!(settings.unheard(Severity::Critical, pipelines()).contains(&"failed"));
    assert!(settings.unheard(Severity::Warning, pipelines()).contains(&"dead"));
    // What is about the service is of no pipeline.
    let nba = PipelineId::from("nba");
    let unheard = routed(", pipeline: nba").1.unheard(Severity::Critical, std::iter::once(&nba));
    assert!(unheard.contains(&"target") && !unheard.contains(&"failed"), "{unheard:?}");
    assert!(routed("").1.unheard(Severity::Critical, pipelines()).is_empty());
}
