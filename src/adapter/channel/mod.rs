//! The ways to tell people: Slack, a webhook, mail. Each sends a notice, and says what came of it.
//!
//! URLs, tokens and passwords are secrets: they are in no error, no log and no configuration that is shown.

mod hidden;
mod mail;
mod post;
mod slack;
mod text;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::configuration::{Alerts, Channel as Declared, ChannelKind, Secret};
use crate::diagnostic::suggestion;
use crate::domain::effect::Severity;
use crate::domain::id::{ChannelId, PipelineId};
use crate::domain::notify::{Route, Settings, TOPICS, is_topic};
use crate::pipeline::Declarations;
use crate::port::Channel;

/// Every channel, by name.
pub type Channels = BTreeMap<ChannelId, Arc<dyn Channel>>;

/// What is wrong with `alerts` in the configuration.
#[derive(Debug, thiserror::Error)]
#[error("alerts.{key}: {message}")]
pub struct Error {
    key: String,
    message: String,
}

fn wrong(key: impl Into<String>, message: impl Into<String>) -> Error {
    Error { key: key.into(), message: message.into() }
}

/// The channels and the settings that a configuration declares. Nothing is connected to.
///
/// # Errors
/// What is wrong with them, by key.
pub fn declared(alerts: &Alerts) -> Result<(Settings, Channels), Error> {
    let mut channels = Channels::new();
    for (name, channel) in &alerts.channels {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let key = format!("channels.{name}");
        if name.is_empty() || name.len() > 40 || !name.bytes().all(is_name) {
            return Err(wrong(key, "a channel's name has at most 40 letters, digits, `-` and `_`"));
        }
        channels.insert(ChannelId::from(name.as_str()), open(&key, channel)?);
    }
    let known = |key: &str, name: &str| {
        let hint = || suggestion(name, alerts.channels.keys().map(String::as_str));
        match alerts.channels.contains_key(name) {
            true => Ok(ChannelId::from(name)),
            false => Err(wrong(key, format!("there is no channel `{name}`{}", hint()))),
        }
    };
    let mut routes = Vec::new();
    for (index, route) in alerts.routes.iter().enumerate() {
        let key = format!("routes[{index}]");
        let channels = route.channels.iter().map(|name| known(&key, name)).collect::<Result<Vec<_>, _>>()?;
        if channels.is_empty() {
            return Err(wrong(key, "a route goes somewhere: name its channels"));
        }
        let (topics, pipeline) = (route.topics.clone(), route.pipeline.as_deref().map(Into::into));
        routes.push(Route { channels, severity_min: route.severity_min, topics, pipeline });
    }
    if routes.is_empty() && !channels.is_empty() {
        let channels = channels.keys().cloned().collect();
        routes.push(Route { channels, severity_min: Severity::Warning, topics: Vec::new(), pipeline: None });
    }
    let used: BTreeSet<&ChannelId> = routes.iter().flat_map(|route| &route.channels).collect();
    let beats = alerts.heartbeat.as_ref().map(|heartbeat| heartbeat.channel.as_str());
    if let Some(idle) = channels.keys().find(|id| !used.contains(id) && beats != Some(id.as_str())) {
        return Err(wrong(format!("channels.{idle}"), "no route names it, so nobody would be told over it"));
    }
    let span = |key: &str, text: &str| {
        let span = crate::topology::duration(text).map_err(|error| wrong(key, error))?;
        SignedDuration::try_from(span).map_err(|error| wrong(key, error.to_string()))
    };
    let positive = |key: &str, text: &str| match span(key, text)? {
        zero if zero.is_zero() => Err(wrong(key, "it has to be longer than nothing")),
        span => Ok(span),
    };
    let heartbeat = alerts.heartbeat.as_ref().map(|heartbeat| {
        Ok((known("heartbeat.channel", &heartbeat.channel)?, positive("heartbeat.every", &heartbeat.every)?))
    });
    let settings = Settings {
        routes,
        group_wait: positive("group_wait", &alerts.group_wait)?,
        group_interval: positive("group_interval", &alerts.group_interval)?,
        repeat_interval: positive("repeat_interval", &alerts.repeat_interval)?,
        digest_above: alerts.digest_above.max(1),
        digest_every: positive("digest_every", &alerts.digest_every)?,
        escalate_before_tip: span("escalate_before_tip", &alerts.escalate_before_tip)?,
        heartbeat: heartbeat.transpose()?,
    };
    Ok((settings, channels))
}

/// Whether every route names topics and a pipeline that there are; of another one nobody would ever be told.
///
/// # Errors
/// The first that names what there is not, by its key, with what may have been meant.
pub fn known(alerts: &Alerts, declarations: &Declarations) -> Result<(), Error> {
    let topics = || TOPICS.iter().map(|(topic, ..)| *topic).chain(declarations.failure_classes());
    let pipelines = || declarations.pipelines.keys().map(PipelineId::as_str);
    for (index, route) in alerts.routes.iter().enumerate() {
        if let Some(name) = route.topics.iter().find(|name| !is_topic(name, declarations.failure_classes())) {
            let hint = suggestion(name, topics());
            let list = "docs/alerts.md lists the topics";
            return Err(wrong(
                format!("routes[{index}].topics"),
                format!("no alert is of topic `{name}`{hint}; {list}"),
            ));
        }
        if let Some(name) = route.pipeline.as_deref().filter(|name| !pipelines().any(|known| known == *name)) {
            let hint = suggestion(name, pipelines());
            return Err(wrong(format!("routes[{index}].pipeline"), format!("there is no pipeline `{name}`{hint}")));
        }
    }
    Ok(())
}

fn open(key: &str, declared: &Declared) -> Result<Arc<dyn Channel>, Error> {
    let foreign = |names: &[(&str, bool)]| match names.iter().find(|(_, said)| *said) {
        Some((name, _)) => Err(wrong(format!("{key}.{name}"), "a channel of this kind has none")),
        None => Ok(()),
    };
    let of_mail = [
        ("host", declared.host.is_some()),
        ("port", declared.port.is_some()),
        ("user", declared.user.is_some()),
        ("password_env", declared.password_env.is_some()),
        ("password_file", declared.password_file.is_some()),
        ("from", declared.from.is_some()),
        ("to", !declared.to.is_empty()),
    ];
    let of_url = [
        ("url", declared.url.is_some()),
        ("url_env", declared.url_env.is_some()),
        ("url_file", declared.url_file.is_some()),
    ];
    let of_webhook = [
        ("token_env", declared.token_env.is_some()),
        ("token_file", declared.token_file.is_some()),
        ("signing_env", declared.signing_env.is_some()),
        ("signing_file", declared.signing_file.is_some()),
    ];
    let url = || {
        let url = secret(key, "url", declared.url.as_ref(), declared.url_env.as_deref(), declared.url_file.as_deref())?;
        url.ok_or_else(|| wrong(key, "say where to post: url_env, url_file or url"))
    };
    match declared.kind {
        ChannelKind::Slack => {
            foreign(&of_mail)?;
            foreign(&of_webhook)?;
            Ok(Arc::new(slack::Slack::new(&url()?).map_err(|message| wrong(key, message))?))
        }
        ChannelKind::Webhook => {
            foreign(&of_mail)?;
            let Declared { token_env, token_file, signing_env, signing_file, .. } = declared;
            let token = secret(key, "token", None, token_env.as_deref(), token_file.as_deref())?;
            let signing = secret(key, "signing", None, signing_env.as_deref(), signing_file.as_deref())?;
            Ok(Arc::new(webhook::Webhook::new(&url()?, token, signing).map_err(|message| wrong(key, message))?))
        }
        ChannelKind::Mail => {
            foreign(&of_url)?;
            foreign(&of_webhook)?;
            let (env, file) = (declared.password_env.as_deref(), declared.password_file.as_deref());
            let password = secret(key, "password", None, env, file)?;
            Ok(Arc::new(mail::Mail::new(declared, password).map_err(|message| wrong(key, message))?))
        }
    }
}

/// A secret from wherever it is kept; at most one of the three may say it.
fn secret(
    key: &str,
    name: &str,
    given: Option<&Secret>,
    env: Option<&str>,
    file: Option<&Path>,
) -> Result<Option<Secret>, Error> {
    let found = match (given, env, file) {
        (None, None, None) => return Ok(None),
        (Some(given), None, None) => given.reveal().to_owned(),
        (None, Some(env), None) => std::env::var(env)
            .map_err(|_| wrong(format!("{key}.{name}_env"), format!("the environment variable {env} is not set")))?,
        (None, None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| wrong(format!("{key}.{name}_file"), format!("read {}: {error}", file.display())))?,
        _ => return Err(wrong(key, format!("say one of {name}, {name}_env and {name}_file"))),
    };
    match found.trim() {
        "" => Err(wrong(key, format!("{name} is empty"))),
        found => Ok(Some(Secret::from(found.to_owned()))),
    }
}
