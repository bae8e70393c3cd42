//! A POST to a secret URL, and what its answer means for a notice.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Url};
use tokio::net::TcpStream;

use super::hidden::Hidden;
use crate::adapter::call::{self, Meaning};
use crate::adapter::egress;
use crate::configuration::Secret;
use crate::domain::notify::Sent;

/// The longest that a post may take. Slack answers within a second.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of an answer that are shown.
const WORDS_MAX: usize = 200;

/// Posts to one URL.
pub(super) struct Poster {
    client: Client,
    url: Url,
    hidden: Hidden,
}

impl Poster {
    /// Prepares it. Only loopback may be spoken to in the clear where `secrecy` is asked for. `others` are secrets as the URL
    /// is, which headers carry.
    pub fn new(url: &Secret, secrecy: bool, others: &[&str]) -> Result<Self, String> {
        // The parser's own error may repeat what it was given.
        let url: Url = url.reveal().parse().map_err(|_| "its URL cannot be read as one".to_owned())?;
        egress::declared(&url).map_err(|refused| format!("its URL: {refused}"))?;
        let local = call::is_loopback(&url);
        match url.scheme() {
            "https" => {}
            "http" if local || !secrecy => {}
            "http" => return Err("its URL has to be https, or what it carries could be read on the way".to_owned()),
            other => return Err(format!("its URL is {other}, and only http and https are spoken")),
        }
        let client = call::client().map_err(|error| format!("set up TLS: {error}"))?;
        let hidden = Hidden::of_url(&url, others);
        Ok(Self { client, url, hidden })
    }

    pub async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Sent {
        let request = self.client.post(self.url.clone()).headers(headers).body(body).timeout(TIMEOUT);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Sent::Later { wait: None, why: call::chain(&error.without_url()) },
        };
        let status = answer.status();
        let wait = asked_wait(answer.headers());
        let meaning = call::meaning(status);
        if meaning == Meaning::Accepted {
            return Sent::Taken;
        }
        let words = tokio::time::timeout(TIMEOUT, call::first_words(answer)).await.unwrap_or_default();
        let why = format!("{status} {}", shown(&self.hidden.clean(&words))).trim_end().to_owned();
        match meaning {
            Meaning::Accepted | Meaning::Passing => Sent::Later { wait, why },
            Meaning::Dead => Sent::Dead(why),
            Meaning::Refused => Sent::Refused(why),
        }
    }

    /// Whether somebody listens there. Nothing is said.
    pub async fn reach(&self) -> Result<(), String> {
        let (Some(host), Some(port)) = (self.url.host_str(), self.url.port_or_known_default()) else {
            return Err("its URL names no host".to_owned());
        };
        let host = host.trim_matches(['[', ']']);
        let connect = async { TcpStream::connect(&*egress::addresses(host, port).await?).await };
        match tokio::time::timeout(TIMEOUT, connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("connect to {host}: {error}")),
            Err(_) => Err(format!("{host} takes no connection within {} s", TIMEOUT.as_secs())),
        }
    }
}

fn shown(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(WORDS_MAX).collect()
}

/// How long an answer asks to wait: seconds, or an instant by the clock that is in the answer as well.
fn asked_wait(headers: &HeaderMap) -> Option<SignedDuration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| Some(value.to_str().ok()?.trim()));
    let asked = text(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    let instant = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
    let (until, now) = (instant(asked)?, instant(text(DATE)?)?);
    (until > now).then(|| until.duration_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_as_seconds_or_as_an_instant() {
        let wait = |pairs: &[(reqwest::header::HeaderName, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            asked_wait(&headers.collect()).map(|wait| wait.as_secs())
        };
        let date = (DATE, "Fri, 23 Jan 2026 23:59:30 GMT");
        assert_eq!(wait(&[(RETRY_AFTER, " 30 ")]), Some(30));
        assert_eq!(wait(&[(RETRY_AFTER, "Sat, 24 Jan 2026 00:01:00 GMT"), date.clone()]), Some(90));
        // What lies behind, is no wait at all, or cannot be compared, asks for nothing.
        assert_eq!(wait(&[(RETRY_AFTER, "Fri, 23 Jan 2026 23:59:29 GMT"), date]), None);
        assert_eq!(wait(&[(RETRY_AFTER, "Sat, 24 Jan 2026 00:01:00 GMT")]), None);
        assert_eq!(wait(&[(RETRY_AFTER, "-5")]), None);
        assert_eq!(wait(&[(RETRY_AFTER, "soon")]), None);
        assert_eq!(wait(&[]), None);
    }
}
