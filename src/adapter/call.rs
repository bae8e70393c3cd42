//! HTTP calls of services: what a request looks like, and what an answer means.
//!
//! 2xx says that the work was accepted, never that it was done: services here answer 200 though every processor failed.
//! Done is what the node's own completion, or the warehouse, says.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::egress;
use crate::port::BusError;

/// A service that does not even take a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer: only its first words are ever shown.
const ANSWER_MAX: usize = 512;
/// Headers that belong to the request itself, or say who calls; an attribute of that name would break it.
const RESERVED: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "authorization"];

/// A client for calls of services. It connects to nothing that [`egress`] does not let it; whoever calls an address has to
/// ask there first.
///
/// # Errors
/// If TLS cannot be set up.
pub fn client() -> Result<Client, reqwest::Error> {
    // A redirect would turn a POST into a GET and lose the message while it looks delivered. Proxies would come from the
    // environment, which is not ours to read.
    let builder = Client::builder().redirect(redirect::Policy::none()).connect_timeout(CONNECT_TIMEOUT);
    builder.no_proxy().dns_resolver(egress::resolver()).build()
}

/// What an answer means for the one who called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// The call was taken.
    Accepted,
    /// Not now: busy, starting, or at fault for the moment.
    Passing,
    /// The service is gone, has moved, or does not know us. Somebody has to mend it; the call is still wanted.
    Dead,
    /// The service will never take this call.
    Refused,
}

/// What a status means.
pub fn meaning(status: StatusCode) -> Meaning {
    match status.as_u16() {
        // 102 is a success to Pub/Sub.
        102 | 200..=299 => Meaning::Accepted,
        // A redirect leads to a login page, or to where the service has moved.
        300..=399 | 401 | 403 | 404 | 405 | 410 => Meaning::Dead,
        400 | 413 | 415 | 422 => Meaning::Refused,
        _ => Meaning::Passing,
    }
}

/// The answer as the bus says it: with the status and the service's first words.
pub async fn understood(response: Response) -> Result<(), BusError> {
    let status = response.status();
    let meaning = meaning(status);
    if meaning == Meaning::Accepted {
        return Ok(());
    }
    let text = format!("{status} {}", first_words(response).await).trim_end().to_owned();
    Err(match meaning {
        Meaning::Accepted | Meaning::Passing => BusError::Unavailable(text),
        Meaning::Dead => BusError::Dead(text),
        Meaning::Refused => BusError::Refused(text),
    })
}

/// The beginning of an answer's body.
pub async fn first_words(mut response: Response) -> String {
    let mut words = Vec::new();
    while words.len() < ANSWER_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => words.extend_from_slice(&chunk),
            // The status has decided already; the words are only for people.
            Ok(None) | Err(_) => break,
        }
    }
    words.truncate(ANSWER_MAX);
    String::from_utf8_lossy(&words).into_owned()
}

/// Attributes as headers. What cannot be a header is left out, as by Pub/Sub.
pub fn headers<'a>(attributes: impl Iterator<Item = (&'a str, &'a String)>) -> HeaderMap {
    attributes
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)))
        .filter(|(name, _)| !RESERVED.contains(&name.as_str()))
        .collect()
}

/// The headers of a plain request to a service, which is always JSON.
pub fn json_headers<'a>(attributes: impl Iterator<Item = (&'a str, &'a String)>) -> HeaderMap {
    let mut headers = headers(attributes);
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    headers
}

/// The URL of a path below a base, which may have a path of its own.
pub fn at_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), path.trim_start_matches('/')));
    url
}

/// Whether a URL is of this machine, by its name or its address.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// An error with its causes: reqwest's own text leaves out why.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
