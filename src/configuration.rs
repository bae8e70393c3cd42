//! What a deployment sets: which backend, where it is, who may call.
//!
//! A flag wins over its environment variable, that over `tipoff.yaml`, that over the default. An unknown key in the file
//! is refused, and a secret is never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::diagnostic::{self, Problems};
use crate::domain::effect::Severity;

/// The file that is read where none is named.
pub const FILE: &str = "tipoff.yaml";

/// Where state is kept, and over what is talked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// One file in a directory, with a small Pub/Sub and a small warehouse in it.
    #[default]
    Embedded,
    /// Pub/Sub, Firestore and BigQuery of a Google Cloud project, or their emulators.
    Google,
}

/// The configuration, with its defaults filled in.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// Where state is kept, and over what is talked.
    pub backend: Backend,
    /// The directory of the embedded backend.
    pub data: PathBuf,
    /// Where HTTP is served. Anything but loopback needs somebody who may call: `access`, or a token.
    #[serde(deserialize_with = "listening")]
    pub listen: SocketAddr,
    /// A file with a bearer token that may do everything.
    pub token_file: Option<PathBuf>,
    /// The token itself. A file is better: it is in no listing of the environment.
    pub token: Option<Secret>,
    /// Who else may call, and what they may do.
    pub access: Access,
    /// Who may post Pub/Sub's envelopes to `/push`.
    pub push: Push,
    /// How long a heartbeat may wait to be committed with others. A Firestore document takes about one sustained write a
    /// second, so the default is 15s there, and 1s on the embedded backend.
    #[serde(deserialize_with = "lasting_if_said")]
    pub heartbeat_flush: Option<String>,
    /// How long what is done with is kept.
    #[serde(deserialize_with = "lasting")]
    pub keep: String,
    /// Whether this is the shadow of a pipeline that others run: with a store and subscriptions of its own, and nothing is
    /// sent. `docs/migration.md` explains it.
    pub shadow: bool,
    /// The phases whose dispatches are sent; all of them where none is named. What the others are asked is decided, and not
    /// sent.
    pub send: Option<Vec<String>>,
    /// What only the backend `google` needs.
    pub google: Google,
    /// Where services are that are called directly, and as whom.
    pub services: BTreeMap<String, Service>,
    /// Who is told of alerts, and how.
    pub alerts: Alerts,
    /// What an OpenTelemetry collector is told.
    pub telemetry: Telemetry,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            data: PathBuf::from("tipoff-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8085)),
            token_file: None,
            token: None,
            access: Access::default(),
            push: Push::default(),
            heartbeat_flush: None,
            keep: "30d".to_owned(),
            shadow: false,
            send: None,
            google: Google::default(),
            services: BTreeMap::new(),
            alerts: Alerts::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// Who may call, and what they may do. Where nobody is named, everybody on this machine may do everything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Whoever has a token, by the name under which their requests are kept.
    pub tokens: BTreeMap<String, Token>,
    /// People whom Google's Identity-Aware Proxy lets through.
    pub iap: Option<Identities>,
    /// Whoever has an identity token of Google's.
    pub google: Option<Identities>,
    /// Where people find the pages, as `https://tipoff.example.org`, if a proxy in between does not say so.
    pub origin: Option<String>,
}

/// What a caller may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publish and pull messages, tell the warehouse, ask the monitors. Neither read nor ask for anything else.
    Producer,
    /// Read, and ask those monitors that change nothing.
    Viewer,
    /// Read, and ask for what operators ask for.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Whether it may do what `needed` is for.
    #[must_use]
    pub const fn covers(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Admin, _)
            | (Self::Operator, Self::Operator | Self::Viewer)
            | (Self::Viewer, Self::Viewer)
            | (Self::Producer, Self::Producer) => true,
            (Self::Operator | Self::Viewer | Self::Producer, _) => false,
        }
    }
}

/// A token, and what whoever has it may do. One of `file`, `env` and `sha256` says which; each may hold several, of which
/// every one is good, so that one can be replaced by another.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is good for.
    pub role: Role,
    /// The file that holds it, or `sha256:` and its digest.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The environment variable that does.
    #[serde(default)]
    pub env: Option<String>,
    /// The digest itself, as `tipoff token` prints it.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// Callers whom Google vouches for, by their e-mail addresses.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    /// For whom the tokens have to be made, to the letter.
    pub audience: String,
    /// What each address may do. Of others Google vouches for, nobody may do anything.
    pub roles: BTreeMap<String, Role>,
    /// Whether Cloud Run has checked the signature and taken it off; not with `iap`.
    #[serde(default)]
    pub cloud_run_iam: bool,
    /// Where the keys are with which the tokens are signed, if not where Google publishes them.
    #[serde(default)]
    pub keys: Option<String>,
}

/// Who may post Pub/Sub's envelopes to `/push`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// How they are known. Where it is not said: as everybody else on loopback, and not at all elsewhere.
    pub mode: Option<PushMode>,
    /// For whom their tokens have to be made, to the letter.
    pub audience: Option<String>,
    /// The service accounts that may push.
    pub emails: Vec<String>,
    /// Where the keys are with which the tokens are signed, if not where Google publishes them.
    pub keys: Option<String>,
}

/// How it is known who pushes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PushMode {
    /// Nobody may push, and there is no such path.
    Off,
    /// As everybody else is: by a token whose role is `producer`, or by being on this machine.
    Token,
    /// By a token that Google has signed.
    Oidc,
    /// By the same, of which Cloud Run has checked the signature.
    CloudRunIam,
}

/// A Google Cloud project and what of it is used.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Google {
    /// The project. `GOOGLE_CLOUD_PROJECT` says it as well.
    pub project: Option<String>,
    /// The Firestore database; `(default)` where none is named.
    pub database: Option<String>,
    /// The database into which processors write their heartbeats and locks; the one above where none is named.
    pub producers_database: Option<String>,
    /// Comes before the name of every Firestore collection of ours.
    pub prefix: String,
    /// Where queries run, as `us-west2`; where the datasets are if not said.
    pub location: Option<String>,
    /// The service account as whom Pub/Sub pushes to services, which have to let it in. Nobody, if not said.
    pub push_identity: Option<String>,
    /// Whether BigQuery is used. Without it there is no history, and messages alone tell what is done.
    pub bigquery: bool,
}

impl Default for Google {
    fn default() -> Self {
        Self {
            project: None,
            database: None,
            producers_database: None,
            prefix: "tipoff_".to_owned(),
            location: None,
            push_identity: None,
            bigquery: true,
        }
    }
}

/// What an OpenTelemetry collector is told, by OTLP: protobuf over HTTP. The variables `OTEL_EXPORTER_OTLP_ENDPOINT` and its
/// kin, `OTEL_SERVICE_NAME` and `OTEL_SDK_DISABLED` win over it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where the collector is, as `http://127.0.0.1:4318`; nothing leaves where that is not said.
    pub endpoint: Option<String>,
    /// Whether spans leave.
    pub traces: bool,
    /// Whether metrics leave. They can be read at `/metrics` in any case.
    pub metrics: bool,
    /// How often metrics leave.
    #[serde(deserialize_with = "lasting")]
    pub metrics_every: String,
    /// As which service.
    pub service: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            endpoint: None,
            traces: true,
            metrics: true,
            metrics_every: "60s".to_owned(),
            service: "tipoff".to_owned(),
        }
    }
}

/// Who is told of alerts, and how. `docs/alerts.md` explains it for people.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// The ways to tell people, by name.
    pub channels: BTreeMap<String, Channel>,
    /// Which alerts go over which channels; where there are none, warnings and worse go over all.
    pub routes: Vec<Route>,
    /// How long a notice waits for company.
    pub group_wait: String,
    /// The longest that it waits, the least time between two notices about one date, and how long an end has to last.
    pub group_interval: String,
    /// What is still on is told again after this long.
    pub repeat_interval: String,
    /// With so many notices within an hour, a channel goes over to digests.
    pub digest_above: usize,
    /// How far apart digests are.
    pub digest_every: String,
    /// A warning is told as critical so long before a game of its date begins; `0s` for never.
    pub escalate_before_tip: String,
    /// Whether a sign of life is sent, for somebody else to miss.
    pub heartbeat: Option<Heartbeat>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            channels: BTreeMap::new(),
            routes: Vec::new(),
            group_wait: "30s".to_owned(),
            group_interval: "5m".to_owned(),
            repeat_interval: "6h".to_owned(),
            digest_above: 20,
            digest_every: "15m".to_owned(),
            escalate_before_tip: "2h".to_owned(),
            heartbeat: None,
        }
    }
}

/// One way to tell people. Which of the fields it needs depends on its kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What it is.
    pub kind: ChannelKind,
    /// Slack and webhook: where to post. It is a secret, so better in `url_env` or `url_file`.
    #[serde(default)]
    pub url: Option<Secret>,
    /// The environment variable that says it.
    #[serde(default)]
    pub url_env: Option<String>,
    /// The file that says it.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Webhook: the environment variable with a bearer token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// The file with it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Webhook: the environment variable with the key by which bodies are signed.
    #[serde(default)]
    pub signing_env: Option<String>,
    /// The file with it.
    #[serde(default)]
    pub signing_file: Option<PathBuf>,
    /// Mail: the SMTP server.
    #[serde(default)]
    pub host: Option<String>,
    /// Its port; 587, 465 with `tls`, 25 with `none`.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is kept secret.
    #[serde(default)]
    pub security: MailSecurity,
    /// As whom to log in; nobody where not said.
    #[serde(default)]
    pub user: Option<String>,
    /// The environment variable with the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// The file with it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Mail: from whom.
    #[serde(default)]
    pub from: Option<String>,
    /// Mail: to whom.
    #[serde(default)]
    pub to: Vec<String>,
}

/// What a channel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// An incoming webhook of Slack.
    Slack,
    /// A URL that takes JSON, by `schemas/notice.json`.
    Webhook,
    /// SMTP.
    Mail,
}

/// How a connection to a mail server is kept secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MailSecurity {
    /// It begins in the clear, and nothing is said before it is secret.
    #[default]
    Starttls,
    /// From the first byte.
    Tls,
    /// Not at all; on loopback only.
    None,
}

/// Which alerts go over which channels.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The channels, by name.
    pub channels: Vec<String>,
    /// Only what is at least so bad; `warning` where not said.
    #[serde(default = "warning")]
    pub severity_min: Severity,
    /// Only these topics: what a key says before its first colon.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Only this pipeline.
    #[serde(default)]
    pub pipeline: Option<String>,
}

fn warning() -> Severity {
    Severity::Warning
}

/// A sign of life.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The channel it goes over.
    pub channel: String,
    /// How often.
    pub every: String,
}

/// A service that is called directly.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its base URL, without a path of its own.
    pub url: String,
    /// For whom the identity token is made; the URL's origin if not said.
    #[serde(default)]
    pub audience: Option<String>,
    /// As whom it is called.
    #[serde(default)]
    pub identity: Identity,
}

/// As whom a service is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// With an identity token of the service account we run as.
    Oidc,
    /// As nobody.
    #[default]
    None,
}

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

const HIDDEN: &str = "(hidden)";

impl Configuration {
    /// Reads the file's text. What it does not say has its default.
    pub fn read(file: &str, text: &str) -> Result<Self, Problems> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        diagnostic::parse(file, text)
    }

    /// The same as a shadow's: nothing of it is where the real one has it, and nothing is sent.
    #[must_use]
    pub fn in_the_shadow(mut self) -> Self {
        let usual = Self::default();
        if self.data == usual.data {
            self.data = PathBuf::from("tipoff-shadow");
        }
        if self.google.prefix == usual.google.prefix {
            self.google.prefix = "tipoff_shadow_".to_owned();
        }
        (self.shadow, self.send) = (true, Some(Vec::new()));
        self
    }

    /// The configuration as it may be shown: without secrets, nor what a URL says before its `@` or after its `?`.
    pub fn shown(&self) -> serde_json::Value {
        let mut shown = self.clone();
        for service in shown.services.values_mut() {
            service.url = shown_url(&service.url);
        }
        shown.telemetry.endpoint = shown.telemetry.endpoint.as_deref().map(shown_url);
        serde_json::to_value(shown).unwrap_or_default()
    }
}

/// Where to listen, as it is written. A name would be looked up by whoever answers for it, so only that of this machine is one.
///
/// # Errors
/// How to write it.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let of_name = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let found = of_name.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    found.or_else(|| text.parse().ok()).ok_or_else(|| format!("`{text}`: write ADDRESS:PORT, as 127.0.0.1:8085"))
}

/// How long something lasts, as it is written: `90s`, `36h`, `30d`.
///
/// # Errors
/// How to write it.
pub fn span(text: &str) -> Result<SignedDuration, String> {
    let span = crate::topology::duration(text)?;
    SignedDuration::try_from(span).map_err(|error| error.to_string())
}

fn lasting<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    span(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn lasting_if_said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    if let Some(text) = &text {
        span(text).map_err(D::Error::custom)?;
    }
    Ok(text)
}

fn listening<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    listen(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// A URL without what may be secret in it. It need not be a sound one: a mistake is no reason to show a password.
pub fn shown_url(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    let (who, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("(hidden)@", rest));
    let (place, query) = rest.split_once(['?', '#']).map_or((rest, ""), |(place, _)| (place, "?(hidden)"));
    format!("{scheme}{who}{place}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let read = Configuration::read("tipoff.yaml", "backend: google\ngoogle: { project: p }\n").unwrap();
        assert_eq!(read.backend, Backend::Google);
        assert_eq!(read.google.project.as_deref(), Some("p"));
        assert_eq!(read.google.prefix, "tipoff_");
        assert_eq!(Configuration::read("tipoff.yaml", "# nothing\n").unwrap().backend, Backend::Embedded);
    }

    #[test]
    fn who_may_call_is_read_as_it_is_written() {
        let text = "push: { mode: off }\naccess: { tokens: { deploy: { role: operator, env: DEPLOY } } }\n";
        let read = Configuration::read("tipoff.yaml", text).unwrap();
        assert_eq!(read.push.mode, Some(PushMode::Off));
        assert_eq!(read.access.tokens["deploy"].role, Role::Operator);
        let wrong = Configuration::read("tipoff.yaml", "access:\n  tokens: { d: { role: root } }\n").unwrap_err();
        assert!(wrong.to_string().starts_with("tipoff.yaml:2: "), "{wrong}");
    }

    #[test]
    fn the_name_of_this_machine_is_an_address_and_others_are_refused_with_how_to_write_one() {
        let read = |text: &str| Configuration::read("tipoff.yaml", &format!("listen: {text}\n"));
        assert_eq!(read("localhost:80").unwrap().listen, "127.0.0.1:80".parse().unwrap());
        assert_eq!(read("'[::1]:80'").unwrap().listen, "[::1]:80".parse().unwrap());
        for wrong in ["localhost", "localhost:http", "localhost.evil.example:80", "example.org:80", "8085"] {
            let problems = read(wrong).unwrap_err().to_string();
            assert!(problems.starts_with("tipoff.yaml:1: "), "{problems}");
        }
        assert!(read("example.org:80").unwrap_err().to_string().contains("as 127.0.0.1:8085"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_file_and_line() {
        let problems = Configuration::read("tipoff.yaml", "backend: google\ngoogle:\n  projet: p\n").unwrap_err();
        let problems = problems.to_string();
        assert!(problems.starts_with("tipoff.yaml:3: "), "{problems}");
        assert!(problems.contains("projet"), "{problems}");
    }

    #[test]
    fn a_shadow_keeps_nothing_where_the_real_one_does() {
        let shadow = Configuration::default().in_the_shadow();
        let real = Configuration::default();
        assert_ne!(shadow.data, real.data);
        assert_ne!(shadow.google.prefix, real.google.prefix);
        assert_eq!(shadow.send, Some(Vec::new()));
        // What is said stays so: it may be anywhere, and the store itself knows what it is for.
        let said = Configuration { data: "elsewhere".into(), ..real }.in_the_shadow();
        assert_eq!(said.data, PathBuf::from("elsewhere"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let text = "token: do-not-show-this-one\nservices: { s: { url: 'https://ann:hunter2@example.org/' } }\n";
        let read = Configuration::read("tipoff.yaml", text).unwrap();
        let shown = format!("{read:?} {}", read.shown());
        assert!(!read.shown().to_string().contains("hunter2"), "{}", read.shown());
        assert!(!shown.contains("do-not-show"), "{shown}");
        assert_eq!(read.token.unwrap().reveal(), "do-not-show-this-one");
        for (url, shown) in [
            ("https://x.org/base", "https://x.org/base"),
            ("https://ann:hunter2@x.org/?key=hunter2", "https://(hidden)@x.org/?(hidden)"),
            ("https://ann:hun/ter2@x.org", "https://(hidden)@x.org"),
            ("ann:hunter2@x.org", "(hidden)@x.org"),
            ("https://ann:hunter2?@x.org", "https://(hidden)@x.org"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
