//! An incoming webhook of Slack, in Block Kit.

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::post::Poster;
use super::text::{details, limited, line};
use crate::configuration::Secret;
use crate::domain::effect::Severity;
use crate::domain::notify::{News, Notice, Sent};
use crate::domain::time::shown;
use crate::port::Channel;

/// Slack's bounds, in characters; a message beyond one of them is refused as a whole.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3_000;
const FIELD_MAX: usize = 2_000;
const FIELDS_MAX: usize = 10;
/// Of its 40,000; this is what notifications and screen readers say.
const FALLBACK_MAX: usize = 3_000;

/// Posts to one webhook.
pub(super) struct Slack(Poster);

impl Slack {
    pub fn new(url: &Secret) -> Result<Self, String> {
        Ok(Self(Poster::new(url, true, &[])?))
    }
}

#[async_trait]
impl Channel for Slack {
    async fn send(&self, notice: &Notice) -> Sent {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.0.post(headers, body(notice).to_string().into_bytes()).await
    }

    async fn reach(&self) -> Result<(), String> {
        self.0.reach().await
    }
}

/// The message. A notice has 20 alerts at most, so of Slack's 50 blocks 42 are used.
fn body(notice: &Notice) -> Value {
    let sign = sign(notice.severity, notice.items.iter().all(|item| item.news == News::Over));
    let header = format!("{sign} {}", line(&notice.title));
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "emoji": true, "text": limited(&header, HEADER_MAX) } }),
    ];
    for item in &notice.items {
        let head = format!("*{}* ({}) {}", item.severity.as_str(), item.news.as_str(), escaped(item.key.as_str()));
        let text = format!("{}\n{}", limited(&head, SECTION_MAX / 3), escaped(&item.text));
        let fields: Vec<Value> = details(item)
            .into_iter()
            .take(FIELDS_MAX)
            .map(|(name, value)| mrkdwn(&format!("*{name}*\n{}", escaped(&value)), FIELD_MAX))
            .collect();
        let mut section = json!({ "type": "section", "text": mrkdwn(&text, SECTION_MAX) });
        if !fields.is_empty() {
            section["fields"] = Value::Array(fields);
        }
        blocks.push(section);
        let commands =
            item.look.iter().chain(&item.act).map(|command| format!("`{}`", escaped(command).replace('`', "'")));
        let commands = commands.collect::<Vec<_>>().join("\n");
        if !commands.is_empty() {
            blocks.push(json!({ "type": "context", "elements": [mrkdwn(&commands, SECTION_MAX)] }));
        }
    }
    let is_part = notice.left_out > 0 && !notice.items.is_empty();
    let more = if is_part { format!("and {} more: `tipoff alerts` · ", notice.left_out) } else { String::new() };
    let foot = format!("{more}{} · {}", notice.id, shown(notice.at));
    blocks.push(json!({ "type": "context", "elements": [mrkdwn(&foot, SECTION_MAX)] }));
    let first = notice.items.first().map(|item| format!(": {}", line(&item.text))).unwrap_or_default();
    let fallback = limited(&escaped(&format!("{}{first}", line(&notice.title))), FALLBACK_MAX);
    json!({ "text": fallback, "blocks": blocks })
}

fn mrkdwn(text: &str, most: usize) -> Value {
    json!({ "type": "mrkdwn", "verbatim": true, "text": limited(text, most) })
}

/// The three characters that mean something to Slack. Bare addresses and names are left alone because the text is `verbatim`;
/// `*`, `_` and `~` still are marks.
fn escaped(text: &str) -> String {
    let lines = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    lines.collect::<String>().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn sign(severity: Severity, over: bool) -> &'static str {
    match severity {
        Severity::Critical => ":x:",
        Severity::Warning => ":warning:",
        Severity::Info if over => ":white_check_mark:",
        Severity::Info => ":information_source:",
    }
}
