//! `status`, `why`, `timeline`: read straight from the store, so they work whether or not the service runs.

use std::io::IsTerminal;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::json;

use super::backend::Access;
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict, backend, dates, graph};
use crate::desk::{ask, course, day, words};
use crate::domain::effect::Alert;
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey, PipelineId};
use crate::domain::shadow::Role;
use crate::domain::stop::{BELONGS_FOR, Stops};
use crate::domain::time::{self, Now, after, shown};
use crate::domain::view::{self, PartitionView};
pub use crate::domain::words::harmless;
use crate::engine::watch::ABSENT_AFTER;
use crate::pipeline::Declarations;
use crate::port::{Bus, Store};
use crate::replay::walk::hex;

/// Alerts that are shown above the nodes.
const ALERTS_SHOWN: usize = 8;
/// Journal entries read at once.
const PAGE: usize = 500;

/// `tipoff status [DATE]`
#[derive(Args)]
pub struct Status {
    /// Which date
    #[arg(default_value = "today")]
    date: String,
    /// Nodes of which nothing is known, too
    #[arg(long, short)]
    all: bool,
}

/// `tipoff why NODE DATE`
#[derive(Args)]
pub struct Why {
    /// Which node; any name its producer uses will do
    node: String,
    /// Which date
    #[arg(default_value = "today")]
    date: String,
}

/// `tipoff timeline DATE [NODE]`
#[derive(Args)]
pub struct Timeline {
    /// Which date
    date: String,
    /// Only this node
    node: Option<String>,
}

/// What the reading commands have at hand.
pub(super) struct Desk {
    pub declarations: Declarations,
    /// Where the pipelines are declared.
    file: String,
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub pipeline: PipelineId,
    pub now: Now,
}

impl Desk {
    pub async fn open(common: &Common) -> Result<Self, Fault> {
        let declarations = common.declarations()?;
        let pipeline = PipelineId::from(common.pipeline.as_str());
        if !declarations.pipelines.contains_key(&pipeline) {
            return Err(graph::no_pipeline(&declarations, &common.pipeline));
        }
        let opened = backend::open(common, &declarations, Access::Read).await?;
        let file = common.pipelines_from()?;
        let now = Now::caught_up(common.clock().now());
        Ok(Self { declarations, file, store: opened.store, bus: opened.bus, pipeline, now })
    }

    pub fn graph(&self) -> &Graph {
        &self.declarations.pipelines[&self.pipeline].graph
    }

    pub fn date(&self, word: &str) -> Result<Date, Fault> {
        let date = dates::resolve(word, self.graph(), self.now.at)?;
        // Whatever is asked of a day that nobody plans has an answer, and a script that mistypes a year would believe it.
        if date > self.graph().date_at(self.now.at) {
            ask::within_reach(self.graph(), date, self.now.at).map_err(Fault::usage)?;
        }
        Ok(date)
    }

    pub fn node(&self, name: &str, date: Date) -> Result<NodeId, Fault> {
        node(self.graph(), name, date, self.now.at)
    }

    pub fn key(&self, date: Date) -> PartitionKey {
        PartitionKey { pipeline: self.pipeline.clone(), date }
    }

    /// The declaration by which `node` was last dispatched, or where it never was, by which the date was last decided on.
    async fn decided_by(&self, date: Date, node: &view::NodeView) -> Result<Option<Revision>, Fault> {
        let found = course::decided_by(&*self.store, &self.key(date), node).await.map_err(Fault::unusable)?;
        let here = self.graph().revision;
        Ok(found.map(|decided| Revision { decided: hex(decided), here: hex(here), file: self.file.clone() }))
    }

    async fn view(&self, date: Date) -> Result<PartitionView, Fault> {
        let stored = self.store.load(&self.key(date)).await.map_err(Fault::unusable)?;
        Ok(view::view(self.graph(), &stored.partition, self.now))
    }
}

/// Which declaration decided, and which one is read here.
#[derive(Serialize)]
struct Revision {
    decided: String,
    here: String,
    file: String,
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { decided, here, file } = self;
        if decided == here {
            write!(f, "decided by revision {decided}, which is {file}")
        } else {
            write!(f, "decided by revision {decided}, which is not {file} as it is here ({here})")
        }
    }
}

/// The node called `name`, by id or by any alias.
pub fn node(graph: &Graph, name: &str, date: Date, now: jiff::Timestamp) -> Result<NodeId, Fault> {
    ask::node(graph, name, date, now).map_err(Fault::usage)
}

impl Status {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common).await?;
        let date = desk.date(&self.date)?;
        let view = desk.view(date).await?;
        let graph = desk.graph();
        let marked = desk.store.marked().await.map_err(Fault::unusable)?;
        let (_, stops) = desk.store.kept::<Stops>().await.map_err(Fault::unusable)?;
        let stop = stops.of(&desk.pipeline, desk.now.at);
        let (_, role) = desk.store.kept::<Role>().await.map_err(Fault::unusable)?;
        let absent_since = marked.filter(|marked| desk.now.reached(after(*marked, ABSENT_AFTER)));
        if common.json {
            let mut shown = json!(view);
            shown["service_wrote_at"] = json!(marked);
            shown["stopped"] = json!(stop);
            shown["role"] = json!(role);
            say!("{shown}");
        } else {
            let alerts = desk.bus.alerts().await.map_err(Fault::unusable)?;
            if let Some(notice) = role.notice() {
                say!("{}", Paint::stdout().bad(&notice));
            }
            self.print(graph, &view, absent_since, &alerts);
            if let Some(stop) = stop {
                say!("{}", Paint::stdout().bad(&harmless(&stop.to_string())));
            }
        }
        Ok(match (view.complete, absent_since) {
            (true, _) => Verdict::Holds,
            (false, None) => Verdict::Fails,
            (false, Some(_)) => Verdict::Stale,
        })
    }

    fn print(&self, graph: &Graph, view: &PartitionView, absent_since: Option<Timestamp>, alerts: &[Alert]) {
        let (paint, date) = (Paint::stdout(), view.partition.date);
        let (verdict, tally) = tally(view);
        let name = paint.strong(&format!("{} {date}", graph.pipeline));
        // What nobody wrote down looks exactly like what has not happened.
        if let Some(since) = absent_since {
            let absent = paint.bad(&format!("the service has written nothing since {}", shown(since)));
            say!(
                "{name} ({}): {absent}: it does not run, or the store refuses its writes; its log and /readyz say which",
                zone(graph)
            );
            say!("until then: {verdict}; {tally}");
        } else {
            say!("{name} ({}): {verdict}; {tally}", zone(graph));
        }
        // The date's own, and what belongs to no date: parked messages, targets that refuse.
        let is_of_another_date = |alert: &&Alert| {
            let end = alert.key.as_str().rsplit(':').next().unwrap_or_default();
            end.parse::<PartitionKey>().is_ok_and(|key| key != view.partition)
        };
        let of_it = |alert: &&Alert| view.alerts.contains(&alert.key) || !is_of_another_date(alert);
        let more = alerts.iter().filter(of_it).count().saturating_sub(ALERTS_SHOWN);
        // The worst come first.
        for alert in alerts.iter().filter(of_it).take(ALERTS_SHOWN) {
            let severity = alert.severity.as_str();
            say!("{} {}  {}", paint.bad(severity), harmless(&alert.text), paint.dim(alert.key.as_str()));
        }
        if more > 0 {
            say!("{}", paint.dim(&format!("and {more} more alerts: `tipoff alerts`")));
        }
        rows(graph, view, self.all);
        if let Some(wake_at) = view.wake_at {
            say!("{}", paint.dim(&format!("looks again at {}, or when something comes in", shown(wake_at))));
        }
    }
}

/// Whether a date is complete, and how many of its tasks stand where.
pub(super) fn tally(view: &PartitionView) -> (String, String) {
    let paint = Paint::stdout();
    let tasks: Vec<_> = view.nodes.iter().filter(|node| node.kind == "task").collect();
    let verdict = if view.complete { paint.strong("complete") } else { paint.bad("not complete") };
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for node in &tasks {
        let state = if node.made_up_by.is_some() { "made up for" } else { node.state };
        match counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    counts.sort_by_key(|(state, count)| (*state != "succeeded", std::cmp::Reverse(*count)));
    let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let idle = if view.no_games { "no game is played, and nothing is required; " } else { "" };
    (verdict, format!("{idle}of {} tasks {}", tasks.len(), counts.join(", ")))
}

/// Every node that says something, phase by phase.
pub(super) fn rows(graph: &Graph, view: &PartitionView, all: bool) {
    let phases = day::phases(graph);
    let (paint, date) = (Paint::stdout(), view.partition.date);
    let width = if std::io::stdout().is_terminal() { crossterm::terminal::size().ok() } else { None };
    let width = width.map_or(usize::MAX, |(columns, _)| usize::from(columns));
    for phase in phases {
        let of_phase = || view.nodes.iter().filter(|node| node.phase == phase);
        let shown: Vec<_> = of_phase().filter(|node| all || is_telling(node)).collect();
        let expired: Vec<&str> = of_phase()
            .filter(|node| node.state == "expired" && node.made_up_by.is_none() && !all)
            .map(|node| node.node.as_str())
            .collect();
        if shown.is_empty() && expired.is_empty() {
            continue;
        }
        say!("{}", paint.dim(phase));
        for node in shown {
            say!("  {}", line(node, date, paint, width));
        }
        if !expired.is_empty() {
            say!("  {}", paint.dim(&format!("not done before their pass was over: {}", expired.join(", "))));
        }
    }
}

/// Whether a node says something that the others do not.
fn is_telling(node: &view::NodeView) -> bool {
    let idle = node.state == "waiting" || node.state == "closed";
    let quiet = idle && (node.blockers.is_empty() || node.kind == "source");
    !quiet && node.state != "expired"
}

/// A node on one line of at most `width` columns, its indent left aside.
fn line(node: &view::NodeView, date: Date, paint: Paint, width: usize) -> String {
    let output = match node.output {
        crate::domain::evidence::Extant::Nothing => String::new(),
        output => format!("{output} "),
    };
    let degraded = if node.degraded { "degraded " } else { "" };
    let head = format!("{:<38} {:<10} {output}{degraded}", node.node.to_string(), node.state);
    let room = width.saturating_sub(head.chars().count() + 4);
    let why = first_blocker(node, date);
    let why: String = if why.chars().count() > room {
        why.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        why
    };
    let state = paint.state(node.state, &format!("{:<10}", node.state));
    format!("{:<38} {state} {output}{degraded}{}", node.node.to_string(), paint.dim(&why))
}

pub(super) fn zone(graph: &Graph) -> &str {
    graph.zone.iana_name().unwrap_or("UTC")
}

fn first_blocker(node: &view::NodeView, date: Date) -> String {
    // A hold stands above whatever else is missing, for somebody can lift it now.
    let held = node.blockers.iter().find(|blocker| matches!(blocker, view::Blocker::Held { .. }));
    match held.or(node.blockers.first()) {
        Some(first) if node.kind != "source" => {
            let rest = node.blockers.len() - 1;
            let more = if rest == 0 { String::new() } else { format!(" (and {rest} more)") };
            format!("← {}{more}", view::brief(first, date))
        }
        Some(_) | None => String::new(),
    }
}

impl Why {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common).await?;
        let date = desk.date(&self.date)?;
        let node = desk.node(&self.node, date)?;
        let view = desk.view(date).await?;
        let found = view.nodes.iter().find(|candidate| candidate.node == node);
        let (Some(why), Some(found)) = (view::why(&view, &node), found) else {
            return Err(Fault::usage(anyhow::anyhow!("{node} is not in the graph")));
        };
        let remedies = view::remedies(&view, &why);
        let revision = desk.decided_by(date, found).await?;
        if common.json {
            say!("{}", json!({ "why": why, "node": found, "revision": revision, "try": remedies }));
            return Ok(Verdict::Holds);
        }
        let paint = Paint::stdout();
        say!("{} {node} {date} ({})", paint.strong(&common.pipeline), zone(desk.graph()));
        let (_, role) = desk.store.kept::<Role>().await.map_err(Fault::unusable)?;
        if let Some(notice) = role.notice() {
            say!("{}", paint.bad(&notice));
        }
        print_why(&why, 0, paint);
        if let Some(until) = found.until {
            say!("waits until {} at most, if nothing comes first", shown(until));
        }
        for (run, age) in &found.runs {
            say!("run {run} was last heard of {age} s ago");
        }
        if let Some(failure) = &found.failure {
            say!("last failure: {} at {}", failure.text, shown(failure.at));
        }
        match &found.last_dispatch {
            Some(last) => say!(
                "last decision: {} at {} because {}{}",
                last.id,
                shown(last.at),
                last.cause.as_str(),
                if last.degraded { ", degraded" } else { "" }
            ),
            None => say!("last decision: never dispatched"),
        }
        if let Some(revision) = revision {
            say!("{revision}");
        }
        if let Some(width) = remedies.iter().map(|remedy| remedy.command.len()).max() {
            say!("what would move it:");
            for view::Remedy { command, effect } in &remedies {
                say!("  {command:<width$}  {}", paint.dim(&format!("# {effect}")));
            }
        }
        Ok(Verdict::Holds)
    }
}

pub(super) fn print_why(why: &view::Why, depth: usize, paint: Paint) {
    let indent = "  ".repeat(depth);
    say!("{indent}{}", paint.state(why.state, &why.verdict));
    for reason in &why.because {
        say!("{indent}  - {}", reason.text);
        for under in &reason.under {
            print_why(under, depth + 2, paint);
        }
    }
}

impl Timeline {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common).await?;
        let date = desk.date(&self.date)?;
        let node = self.node.as_ref().map(|name| desk.node(name, date)).transpose()?;
        let key = desk.key(date);
        let paint = Paint::stdout();
        if !common.json {
            say!("{}", paint.strong(&format!("{key} ({})", zone(desk.graph()))));
        }
        let (_, stops) = desk.store.kept::<Stops>().await.map_err(Fault::unusable)?;
        let mut turns = Vec::new().into_iter().peekable();
        let tell_until = |until: Timestamp, turns: &mut Peekable<IntoIter<(Timestamp, String)>>| {
            while let Some((at, line)) = turns.next_if(|(at, _)| *at <= until) {
                if common.json {
                    say!("{}", json!({ "at": at, "line": line }));
                } else {
                    say!("{}  {}", paint.dim(&shown(at)), harmless(&line));
                }
            }
        };
        let (mut after, mut last_at) = (0, None);
        loop {
            let entries = desk.store.journal(Some(&key), after, PAGE).await.map_err(Fault::unusable)?;
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { break };
            if last_at.is_none() {
                turns = stops.turns(&desk.pipeline, first.now.at, desk.now.at).into_iter().peekable();
            }
            (after, last_at) = (last.seq, Some(last.now.at));
            for entry in &entries {
                tell_until(entry.now.at, &mut turns);
                let is_meant = node.is_none() || !words::lines(entry, node.as_ref()).is_empty();
                if common.json && is_meant {
                    say!("{}", json!(entry));
                } else if !common.json {
                    for line in words::lines(entry, node.as_ref()) {
                        say!("{}  {line}", paint.dim(&shown(entry.now.at)));
                    }
                }
            }
        }
        // What is held after the last that happened may be why nothing happens.
        if let Some(last) = last_at {
            tell_until(time::after(last, BELONGS_FOR), &mut turns);
        }
        Ok(Verdict::Holds)
    }
}
