//! `dispatch`: a node is sent what it is sent, with the payload built and checked, and shown before anything leaves.

use clap::Args;
use serde_json::{Value, json};

use super::backend::Access;
use super::command::request;
use super::inspect::harmless;
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict};
use crate::desk::ask::{Verb, Wish};
use crate::domain::id::PartitionKey;
use crate::domain::words;
use crate::engine::foresee::{self, Ahead};
use crate::pipeline::Pipeline;
use crate::wire::dispatch::render;

/// `tipoff dispatch NODE DATE`
#[derive(Args)]
#[command(
    after_help = "Without --apply nothing is sent, and it exits 1 where nothing would be. It passes the same gate as every \
    other dispatch: what stands in its way is named, and `tipoff force` goes past one of these at a time; `tipoff retry` has it \
    run as soon as nothing does.\nExample: tipoff dispatch predictions today --apply --reason 'lines were late'"
)]
pub struct DispatchNode {
    /// Which node; any name its producer uses will do
    node: String,
    /// Which date
    date: String,
    /// Send it
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Why; it is journaled and shown by `why`
    #[arg(long, short, value_parser = words::reason)]
    reason: Option<String>,
    /// Who asks
    #[arg(long, env = "USER", default_value = "operator", value_parser = words::actor)]
    actor: String,
}

impl DispatchNode {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let whole = Whole::open(common, Access::Read).await?;
        let (declared, graph, now) = (whole.declared(), whole.graph(), whole.now);
        let key = whole.key(&self.date)?;
        let date = key.date;
        let reason = self.reason.as_deref().unwrap_or("a dry run");
        let wish = Wish { node: Some(self.node.clone()), ..Wish::new(Verb::Retry, &self.actor, reason) };
        let asked = wish.request(graph, date, now, None).map_err(Fault::usage)?;
        let ahead = whole.engine.look_ahead(&key, &asked).await.map_err(Fault::unusable)?;
        let is_sent = ahead.foreseen.stopped.is_none() && !ahead.sent.is_empty();
        let messages = messages(declared, &ahead)?;
        if self.apply && is_sent {
            return request(common, &self.date, wish).await;
        }
        let verdict = if is_sent { Verdict::Holds } else { Verdict::Fails };
        if common.json {
            let Ahead { foreseen, then, .. } = &ahead;
            say!(
                "{}",
                json!({ "sent": false, "would_send": is_sent, "messages": messages, "foreseen": foreseen, "then": then })
            );
        } else {
            let node = ahead.foreseen.node.as_ref().map(|standing| &standing.node);
            let needing = node.into_iter().flat_map(|node| graph.dependents(node)).map(|(id, _)| id.as_str()).collect();
            self.print(&key, &ahead, &messages, needing);
        }
        Ok(verdict)
    }

    fn print(&self, key: &PartitionKey, ahead: &Ahead, messages: &[Value], needing: Vec<&str>) {
        let (paint, date) = (Paint::stdout(), key.date);
        let Ahead { foreseen, then, .. } = ahead;
        let standing = foreseen.node.as_ref();
        let node = standing.map_or(self.node.as_str(), |standing| standing.node.as_str());
        let head = paint.strong(&format!("{node} {date}"));
        if messages.is_empty() || foreseen.stopped.is_some() {
            say!("{head}: {}", paint.bad("nothing would be sent"));
            if let Some(stop) = &foreseen.stopped {
                say!("  {}", harmless(&stop.to_string()));
            }
            if let Some(standing) = standing {
                say!("  it is {}", standing.state);
            }
            for blocker in standing.into_iter().flat_map(|standing| &standing.blocked_by) {
                say!("  - {}", harmless(blocker));
            }
            say!(
                "`tipoff why {node} {date}` says what would move it; `tipoff retry {date} {node} --reason WHY` has it run as soon as nothing stands in its way"
            );
            return;
        }
        say!("{head}: {}, nothing is sent", paint.strong("a dry run"));
        for message in messages {
            say!(
                "  to {} as {}, by {}",
                words_of(&message["target"]),
                words_of(&message["id"]),
                words_of(&message["contract"])
            );
            for line in format!("{:#}", message["body"]).lines() {
                say!("    {}", harmless(line));
            }
        }
        for sent in foreseen.dispatches.iter().filter(|sent| sent.degraded) {
            let missing: Vec<&str> = sent.missing.iter().map(|node| node.as_str()).collect();
            say!("  degraded: without {}", missing.join(", "));
        }
        for moved in &foreseen.moved {
            say!("  {}: {} → {}", moved.node, moved.from, moved.to);
        }
        match names(then).as_slice() {
            [] => {
                let needing = if needing.is_empty() {
                    "nothing needs it".to_owned()
                } else {
                    format!("what needs it: {}", needing.join(", "))
                };
                say!("  once it has succeeded, nothing follows at once; {needing}");
            }
            follow => say!("  once it has succeeded, these follow: {}", follow.join(", ")),
        }
        say!("To send it: tipoff dispatch {node} {date} --apply --reason WHY");
    }
}

fn names(asked: &[foresee::Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.node.as_str()).collect()
}

fn words_of(value: &Value) -> String {
    harmless(value.as_str().unwrap_or_default())
}

/// What would leave, message by message, as its contract has it.
fn messages(declared: &Pipeline, ahead: &Ahead) -> Result<Vec<Value>, Fault> {
    let mut shown = Vec::new();
    for sent in &ahead.sent {
        let rendered = render(declared, sent).map_err(|error| Fault { code: 1, error: error.into() })?;
        let contracts = declared.messages(sent).unwrap_or_default();
        for (message, declared) in rendered.iter().zip(contracts) {
            let body: Value = serde_json::from_slice(&message.body).map_err(Fault::unusable)?;
            shown.push(
                json!({ "id": message.id, "target": message.target.to_string(), "contract": declared.contract.name,
                "attributes": message.attributes, "body": body }),
            );
        }
    }
    Ok(shown)
}
