//! `alerts`, `mute`, `unmute`: what is on, who was told of it, and what is not to be told for a while.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde_json::json;

use super::backend::{self, Access};
use super::inspect::harmless;
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict, carry};
use crate::adapter::channel;
use crate::clock::Clock;
use crate::diagnostic::suggestion;
use crate::domain::id::AlertKey;
use crate::domain::notify::{Mute, Muted, Notice, Sent};
use crate::domain::time::{after, shown};
use crate::engine::Engine;
use crate::engine::notify::Board;

/// `tipoff alerts`
#[derive(Args)]
pub struct Alerts {
    #[command(subcommand)]
    command: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// What is on, what people were told of it, and how the channels stand [default]
    List,
    /// Send a test notice over every channel, or over one, and say what came of it; exits 1 if one was not taken
    Test {
        /// Which channel [default: every one]
        channel: Option<String>,
        /// Who tries
        #[arg(long, env = "USER", default_value = "operator")]
        actor: String,
    },
}

/// What a mute is about.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// Which alert, by its key
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Every alert of this topic: what keys say before their first colon
    #[arg(long)]
    topic: Option<String>,
}

impl Subject {
    fn what(&self) -> Result<Muted, Fault> {
        match (&self.key, &self.topic) {
            (Some(key), None) => Ok(Muted::Key(AlertKey::from(key.as_str()))),
            (None, Some(topic)) => Ok(Muted::Topic(topic.clone())),
            _ => Err(Fault::usage(anyhow::anyhow!("say one of KEY and --topic"))),
        }
    }
}

/// `tipoff mute KEY --for 4h --reason WHY`
#[derive(Args)]
pub struct MuteFor {
    #[command(flatten)]
    subject: Subject,
    /// How long, as `90m` or `4h`; seven days at most
    #[arg(long = "for", value_name = "DURATION")]
    span: String,
    /// Why; it is kept and shown by `alerts`
    #[arg(long, short)]
    reason: String,
    /// Who asks
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
}

/// `tipoff unmute KEY`
#[derive(Args)]
pub struct Unmute {
    #[command(flatten)]
    subject: Subject,
    /// Who asks
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
}

/// An engine at the store.
async fn engine(common: &Common, access: Access) -> Result<Engine, Fault> {
    backend::engine(common, common.declarations()?, access).await
}

impl Alerts {
    /// Whether it is about what this machine's configuration declares.
    pub fn is_here(&self) -> bool {
        matches!(self.command, Some(What::Test { .. }))
    }

    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        match &self.command {
            None | Some(What::List) => list(common).await,
            Some(What::Test { channel, actor }) => test(common, channel.as_deref(), actor).await,
        }
    }
}

async fn list(common: &Common) -> Result<Verdict, Fault> {
    let board = engine(common, Access::Read).await?.board().await.map_err(carry::of_alerts)?;
    if common.json {
        say!("{}", json!(board));
    } else {
        print(&board, Paint::stdout());
    }
    Ok(Verdict::Holds)
}

fn print(board: &Board, paint: Paint) {
    if board.alerts.is_empty() {
        say!("nothing is on");
    }
    for standing in &board.alerts {
        let (key, since) = (standing.alert.key.as_str(), shown(standing.since));
        let severity = paint.bad(standing.told_as.as_str());
        say!("{severity} {}  {}", harmless(key), paint.dim(&format!("since {since}")));
        say!("  {}", harmless(&standing.alert.text));
        if let Some(mute) = &standing.muted {
            let (until, reason) = (shown(mute.until), harmless(&mute.reason));
            say!("  muted until {until} by {}: {reason}", harmless(&mute.actor));
        }
        for (channel, told) in &standing.told {
            let (severity, at, notice) = (told.severity.as_str(), shown(told.at), &told.notice);
            let words = match standing.waiting.contains(channel) {
                true => format!("not told yet over {channel}: as {severity} it waits since {at} in {notice}"),
                false => format!("told as {severity} over {channel} at {at} in {notice}"),
            };
            say!("  {}", paint.dim(&words));
        }
        for (channel, anew) in &standing.refused {
            say!("  {channel} refused to tell of it; it is tried anew from {}", shown(*anew));
        }
    }
    for (id, channel) in &board.channels {
        let last = channel.delivered_at.map_or("never".to_owned(), shown);
        match &channel.trouble {
            Some(trouble) => {
                say!("{} {id}: {}; {} waiting", paint.bad("channel"), harmless(trouble), channel.waiting);
            }
            None => say!("channel {id}: works, last used {last}; {} waiting", channel.waiting),
        }
    }
    for mute in &board.mutes {
        let (what, until) = (harmless(&mute.what.to_string()), shown(mute.until));
        say!("muted {what} until {until} by {}: {}", harmless(&mute.actor), harmless(&mute.reason));
    }
}

async fn test(common: &Common, only: Option<&str>, actor: &str) -> Result<Verdict, Fault> {
    let mut alerts = common.configuration()?.alerts;
    let known: Vec<&str> = alerts.channels.keys().map(String::as_str).collect();
    match only {
        None if known.is_empty() => {
            return Err(Fault::usage(anyhow::anyhow!("tipoff.yaml declares no channel; see docs/alerts.md")));
        }
        Some(only) if !known.contains(&only) => {
            let list = if known.is_empty() { "tipoff.yaml declares none".to_owned() } else { known.join(", ") };
            let hint = suggestion(only, known);
            let only = harmless(only);
            return Err(Fault::usage(anyhow::anyhow!("there is no channel `{only}`{hint}; there are: {list}")));
        }
        Some(only) => {
            // What is wrong with another one, or with who is told what, says nothing of this one.
            alerts.channels.retain(|name, _| name == only);
            alerts.routes.clear();
            alerts.heartbeat = None;
        }
        None => {}
    }
    let (_, channels) = channel::declared(&alerts).map_err(Fault::usage)?;
    let now = Clock::System.now();
    let mut outcomes = BTreeMap::new();
    for (id, channel) in &channels {
        let notice = Notice::test(format!("{id}-test-{}", uuid::Uuid::new_v4()), now, actor);
        let outcome = match channel.send(&notice).await {
            Sent::Taken => Ok(()),
            Sent::Later { why, .. } => Err(format!("not now: {why}")),
            Sent::Dead(why) => Err(format!("not until it is mended: {why}")),
            Sent::Refused(why) => Err(format!("refused: {why}")),
        };
        if !common.json {
            match &outcome {
                Ok(()) => say!("{id}: taken, notice {}", notice.id),
                Err(why) => say!("{id}: {}", Paint::stdout().bad(&harmless(why))),
            }
        }
        outcomes.insert(id, json!({ "notice": notice.id, "taken": outcome.is_ok(), "error": outcome.err() }));
    }
    if common.json {
        say!("{}", json!(outcomes));
    }
    let all = outcomes.values().all(|outcome| outcome["taken"] == true);
    Ok(if all { Verdict::Holds } else { Verdict::Fails })
}

impl MuteFor {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let what = self.subject.what()?;
        let span = crate::topology::duration(&self.span);
        let span = span.map_err(|error| Fault::usage(anyhow::anyhow!("--for: {error}")))?;
        let from = common.clock().now();
        let until = after(from, SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX));
        let (actor, reason) = (self.actor.clone(), self.reason.clone());
        let mute = Mute { what, from, until, actor, reason, ended_by: None };
        let engine = engine(common, Access::Write).await?;
        let muting = carry::mute(common, &engine, &mute, &self.span).await?;
        if common.json {
            say!("{}", json!(muting));
            return Ok(Verdict::Holds);
        }
        let (what, until) = (harmless(&mute.what.to_string()), shown(muting.until));
        say!("{what} is muted until {until}; it is told again then if it is still on");
        if muting.until > muting.mute.until {
            say!(
                "an older mute lasts longer than this one, which ends at {}: `tipoff unmute` ends both",
                shown(muting.mute.until)
            );
        }
        if muting.on == 0 {
            say!(
                "nothing of it is on now; `tipoff alerts` lists what is. The mute holds for what begins before its end"
            );
        }
        Ok(Verdict::Holds)
    }
}

impl Unmute {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let what = self.subject.what()?;
        let engine = engine(common, Access::Write).await?;
        let ended = carry::unmute(common, &engine, &what, &self.actor).await?;
        if common.json {
            say!("{}", json!({ "what": what, "ended": ended }));
        } else if ended == 0 {
            say!("no mute of exactly {} holds; `tipoff alerts` lists them", harmless(&what.to_string()));
        } else {
            say!("{} is not muted any more", harmless(&what.to_string()));
        }
        Ok(if ended > 0 { Verdict::Holds } else { Verdict::Fails })
    }
}
