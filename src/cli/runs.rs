//! `runs`: who is at work, who hangs, what failed, and what begins over and over.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::backend::Access;
use super::inspect::{harmless, node};
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict};
use crate::desk::day::{self, Health};
use crate::desk::runs::{Failed, Storm, Stuck, failed, storms, stuck};
use crate::domain::id::NodeId;
use crate::domain::time::shown;

/// Characters of a producer's words on one line.
const WORDS_SHOWN: usize = 300;

/// `tipoff runs [DATE]`
#[derive(Args)]
#[command(after_help = "Without a filter: every run that has not ended. With one, exits 1 where something is found.\n\
    Examples:\n  tipoff runs --stuck\n  tipoff runs yesterday --failed --node predictions")]
pub struct Runs {
    /// Which date [default: every date on which something may still happen]
    date: Option<String>,
    /// Only runs of this node; any name its producer uses will do
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Those that are silent for too long, at it for too long, or come on no further
    #[arg(long, conflicts_with_all = ["failed", "storm"])]
    stuck: bool,
    /// Nodes whose last run failed, and which no success has overcome
    #[arg(long, conflicts_with = "storm")]
    failed: bool,
    /// Nodes of which more runs begin within an hour than declared
    #[arg(long)]
    storm: bool,
}

impl Runs {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let whole = Whole::open(common, Access::Read).await?;
        let (graph, now) = (whole.graph(), whole.now);
        let days = whole.days(self.date.as_deref()).await?;
        let only = |date: Date| self.node.as_ref().map(|name| node(graph, name, date, now)).transpose();
        let mut wanted = Vec::new();
        for day in &days {
            wanted.push((day, only(day.partition.key.date)?));
        }
        if let (Some(name), true) = (&self.node, days.is_empty()) {
            node(graph, name, graph.date_at(now), now)?;
        }
        let is_of = |only: &Option<NodeId>, id: &NodeId| only.as_ref().is_none_or(|only| only == id);
        let (name, found, lines) = match () {
            () if self.stuck => {
                let found = wanted.iter().flat_map(|(day, only)| {
                    stuck(graph, day).into_iter().filter(move |found| is_of(only, &found.run.node))
                });
                let found: Vec<Stuck> = found.collect();
                ("stuck", json!(found), found.iter().map(hangs).collect())
            }
            () if self.failed => {
                let found = wanted.iter().flat_map(|(day, only)| {
                    failed(graph, day).into_iter().filter(move |found| is_of(only, &found.node))
                });
                let found: Vec<Failed> = found.collect();
                ("failed", json!(found), found.iter().map(fails).collect())
            }
            () if self.storm => {
                let found = wanted.iter().flat_map(|(day, only)| {
                    storms(graph, day).into_iter().filter(move |found| is_of(only, &found.node))
                });
                let found: Vec<Storm> = found.collect();
                ("storms", json!(found), found.iter().map(begins).collect())
            }
            () => {
                let mut found: Vec<_> = wanted
                    .iter()
                    .flat_map(|(day, only)| day::runs(graph, day).into_iter().filter(move |run| is_of(only, &run.node)))
                    .collect();
                found.sort_by_key(|run| (std::cmp::Reverse(run.health), run.last));
                ("runs", json!(found), found.iter().map(|run| at_work(run, now)).collect::<Vec<_>>())
            }
        };
        let dates: Vec<Date> = days.iter().map(|day| day.partition.key.date).collect();
        self.print(common, (name, found, &lines), (whole.pipeline.as_str(), &dates, now));
        let is_filtered = self.stuck || self.failed || self.storm;
        Ok(if is_filtered && !lines.is_empty() { Verdict::Fails } else { Verdict::Holds })
    }

    fn print(
        &self,
        common: &Common,
        (name, found, lines): (&str, Value, &[String]),
        (pipeline, dates, now): (&str, &[Date], Timestamp),
    ) {
        if common.json {
            say!("{}", json!({ "pipeline": pipeline, "dates": dates, "at": now, name: found }));
            return;
        }
        let whose: Vec<String> = dates.iter().map(Date::to_string).collect();
        let whose = if whose.is_empty() { "no date is live".to_owned() } else { whose.join(", ") };
        say!("{} ({whose})", Paint::stdout().strong(&format!("{pipeline}: {name}")));
        if lines.is_empty() {
            say!("  none");
        }
        for line in lines {
            say!("  {line}");
        }
    }
}

fn at_work(run: &day::RunView, now: Timestamp) -> String {
    let paint = Paint::stdout();
    let health = match run.health {
        Health::Alive => paint.state("running", "alive"),
        Health::Stale | Health::Dead => paint.bad(run.health.as_str()),
    };
    let progress = if run.total > 0 { format!(" at {} of {}", run.done, run.total) } else { String::new() };
    let silent = if run.beats { "" } else { ", which sends no heartbeats" };
    format!(
        "{health:<6} {} {}{progress}, heard {} s ago{silent}, since {} min: {}",
        run.date,
        run.node,
        run.age_seconds,
        now.duration_since(run.first).as_mins(),
        harmless(run.run.as_str())
    )
}

fn hangs(found: &Stuck) -> String {
    let Stuck { run, why } = found;
    let (date, node) = (run.date, &run.node);
    format!(
        "{date} {node}: {} — {}; see `tipoff why {node} {date}`",
        harmless(run.run.as_str()),
        Paint::stdout().bad(why)
    )
}

fn fails(found: &Failed) -> String {
    let Failed { date, node, .. } = found;
    let class = found.class.as_ref().map(|class| format!(" [{class}]")).unwrap_or_default();
    let run = found.run.as_ref().map(|run| format!(" {}", harmless(run.as_str()))).unwrap_or_default();
    let words: String = harmless(&found.text).chars().take(WORDS_SHOWN).collect();
    let state = Paint::stdout().state(found.state, found.state);
    format!(
        "{date} {node}{run} at {}{class}: {words}; now {state}, dispatched {} times",
        shown(found.at),
        found.dispatches
    )
}

fn begins(found: &Storm) -> String {
    let Storm { date, node, begun, .. } = found;
    let worst = if *begun > found.critical_above { "critical" } else { "warning" };
    format!(
        "{date} {node}: {} runs within the hour, more than {} are a {worst}; tipoff asked for {} of this date; {} have not \
         ended. Stop what begins them, or `tipoff hold {date} {node} --reason WHY`",
        Paint::stdout().bad(&begun.to_string()),
        if worst == "critical" { found.critical_above } else { found.warn_above },
        found.dispatches,
        found.alive
    )
}
