//! How is BigQuery called, and what did a refusal mean?
//!
//! `gcp-bigquery-client` brings neither a time limit nor a difference between refusals; both are added here. Whatever is
//! asked ends within the limit, credentials included, and nothing is asked again by itself: who asked has a clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::error_proto::ErrorProto;
use google_cloud_auth::credentials::{AccessTokenCredentials, Builder};

use super::ConnectError;

/// What tables and queries need; `bigquery.insertdata` alone would not let a probe run.
const SCOPE: &str = "https://www.googleapis.com/auth/bigquery";
/// How long reaching the server may take. It is near or not there.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The day's quota is used up: nothing will succeed until it is given anew.
    #[error("the day's quota is used up: {0}")]
    Quota(String),
    /// The server could not be reached or did not answer in time.
    #[error("{0}")]
    Away(String),
    /// It is there already.
    #[error("{0}")]
    Exists(String),
    /// The server answered, and not as asked.
    #[error("{0}")]
    Refused(String),
}

/// Makes a client for Google's service, or for an emulator at `HOST:PORT`.
pub(super) async fn connect(emulator: Option<&str>, timeout: Duration) -> Result<Client, ConnectError> {
    let http = reqwest_of_bigquery::Client::builder().connect_timeout(CONNECT_MAX).timeout(timeout).build();
    let mut builder = ClientBuilder::new();
    builder.with_client(http.map_err(|error| ConnectError(error.to_string()))?);
    let token = match emulator {
        Some(address) => {
            builder.with_v2_base_url(format!("http://{address}/bigquery/v2"));
            Token::Emulator
        }
        None => {
            let credentials = Builder::default().with_scopes([SCOPE]).build_access_token_credentials();
            Token::Environment(credentials.map_err(|error| ConnectError(error.to_string()))?)
        }
    };
    let client = builder.build_from_authenticator(Arc::new(token)).await;
    client.map_err(|error| ConnectError(error.to_string()))
}

/// Where the token comes from that every call carries.
#[derive(Clone)]
enum Token {
    /// Every emulator of Google's services lets this one do everything.
    Emulator,
    /// The environment: a service account, a workload identity, or the user of `gcloud`.
    Environment(AccessTokenCredentials),
}

#[async_trait]
impl Authenticator for Token {
    async fn access_token(&self) -> Result<String, BQError> {
        match self {
            Self::Emulator => Ok("owner".to_owned()),
            Self::Environment(credentials) => {
                let token = credentials.access_token().await;
                // The crate has no variant for credentials that are not its own; this one carries the text.
                let error = |error| BQError::InvalidServiceAccountAuthenticator(std::io::Error::other(error));
                Ok(token.map_err(error)?.token)
            }
        }
    }
}

/// Waits for a call, no longer than `limit`.
pub(super) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, BQError>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(meaning),
        Err(_) => Err(Failure::Away(format!("no answer within {limit:?}"))),
    }
}

fn meaning(error: BQError) -> Failure {
    let BQError::ResponseError { error } = error else {
        return match error {
            // A body that is no JSON comes from something between here and there.
            BQError::RequestError(error) => Failure::Away(chain(&error)),
            other => Failure::Refused(other.to_string()),
        };
    };
    let reason = error.error.errors.first().and_then(|error| error.get("reason")).map_or("", String::as_str);
    let text = format!("{} {reason}: {}", error.error.code, error.error.message);
    match (error.error.code, reason) {
        (403, "quotaExceeded") => Failure::Quota(text),
        (409, _) => Failure::Exists(text),
        (500.., _) => Failure::Away(text),
        // `rateLimitExceeded` is among these: it is over in seconds, and whoever asks again comes later than that.
        _ => Failure::Refused(text),
    }
}

/// An error with its causes: the outermost says only which URL was asked.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The errors that came with an answer, in one line.
pub(super) fn told(errors: &[ErrorProto]) -> String {
    let text = |error: &ErrorProto| {
        let [reason, message] = [&error.reason, &error.message].map(|text| text.as_deref().unwrap_or_default());
        format!("{reason}: {message}")
    };
    errors.iter().map(text).collect::<Vec<_>>().join("; ")
}
