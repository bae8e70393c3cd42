//! `impact`: what a node holds up that is late, or never comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::inspect::{harmless, node, zone};
use super::paint::Paint;
use super::say::say;
use super::show::instant;
use super::{Common, Fault, Verdict, monitor};
use crate::desk::day::phases;
use crate::domain::forecast::forecast;
use crate::domain::graph::Graph;
use crate::domain::id::PartitionKey;
use crate::domain::impact::{Affected, Critical, Fate, Impact, Known, impact};
use crate::domain::partition::Partition;
use crate::domain::time::shown;
use crate::engine::Engine;
use crate::replay::record::{Reach, Record};
use crate::replay::walk::Walk;

/// Game days after its own that are looked at.
const DAYS_AFTER: usize = 2;
/// Dates of the store that are looked through for them.
const DATES_MAX: usize = 64;

/// `tipoff impact NODE [DATE]`
#[derive(Args)]
pub struct NodeImpact {
    /// Which node; any name its producer uses will do
    node: String,
    /// Which date
    #[arg(default_value = "today")]
    date: String,
    /// As it stood then: 14:55 on that date or 2026-01-23T14:55 by the pipeline's clocks, or an instant as 2026-01-23T19:55:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl NodeImpact {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let (engine, key) = monitor::open(common, &self.date).await?;
        let Some(graph) = engine.graph(&key.pipeline) else { return Ok(Verdict::Holds) };
        let (clock, at) = (engine.clock.now(), self.at.as_deref());
        let at = at.map(|text| instant(text, key.date, graph)).transpose()?.filter(|at| *at < clock);
        let now = at.unwrap_or(clock);
        let id = node(graph, &self.node, key.date, now)?;
        let mut days = Vec::new();
        for key in days_from(&engine, graph, &key).await? {
            days.push(match at {
                Some(at) => stood(&engine, graph, &key, at).await?,
                None => Arc::unwrap_or_clone(engine.store.load(&key).await.map_err(Fault::unusable)?.partition),
            });
        }
        let Some(own) = days.first() else { return Ok(Verdict::Holds) };
        let today = key.date.min(graph.date_at(now));
        let history = engine.history(graph, &key.pipeline, today).await.map_err(Fault::unusable)?;
        let forecast = forecast(graph, own, &history, now);
        let Some(found) = impact(graph, &days, &forecast, &id, now) else {
            return Err(Fault::usage(anyhow::anyhow!("{id} is not in the graph")));
        };
        if common.json {
            say!("{}", json!({ "partition": key, "at": now, "impact": found }));
        } else {
            print(&found, &key, graph, now);
        }
        Ok(Verdict::Holds)
    }
}

/// A date as it stood at an instant.
async fn stood(engine: &Engine, graph: &Graph, key: &PartitionKey, at: Timestamp) -> Result<Partition, Fault> {
    let record = Record::read(&*engine.store, key).await.map_err(Fault::unusable)?;
    if record.reach(graph) == Reach::Cut {
        let why = format!("the record of {key} does not reach back far enough to tell how it stood at {}", shown(at));
        return Err(Fault { code: 1, error: anyhow::anyhow!(why) });
    }
    let mut walk = Walk::new(graph, key.clone());
    record.entries.iter().take_while(|entry| entry.now.at <= at).for_each(|entry| {
        walk.take(entry);
    });
    Ok(walk.partition)
}

/// The date, and the next ones of which games are known; the day after where none are.
async fn days_from(engine: &Engine, graph: &Graph, key: &PartitionKey) -> Result<Vec<PartitionKey>, Fault> {
    let mut dates = engine.store.dates(&key.pipeline, DATES_MAX).await.map_err(Fault::unusable)?;
    dates.retain(|date| *date > key.date);
    dates.sort();
    let mut days = vec![key.clone()];
    for date in dates {
        let next = PartitionKey { pipeline: key.pipeline.clone(), date };
        let partition = engine.store.load(&next).await.map_err(Fault::unusable)?.partition;
        if days.len() <= DAYS_AFTER && !partition.has_no_games(&graph.calendar) {
            days.push(next);
        }
    }
    if let (1, Ok(date)) = (days.len(), key.date.tomorrow()) {
        days.push(PartitionKey { pipeline: key.pipeline.clone(), date });
    }
    Ok(days)
}

fn print(found: &Impact, key: &PartitionKey, graph: &Graph, now: Timestamp) {
    let (paint, clocks, order) = (Paint::stdout(), &graph.zone, phases(graph));
    let name = paint.strong(&key.to_string());
    if found.is_there {
        say!("{name} ({}): {} is there ({}), and nothing waits for it", zone(graph), found.node, found.output);
        if !found.short.is_empty() {
            let short: Vec<&str> = found.short.iter().map(|unit| unit.as_str()).collect();
            say!("  {}", paint.bad(&format!("short of it: {}", harmless(&short.join(", ")))));
        }
        return;
    }
    let expected = match found.expected_at {
        Some(at) => format!("expected at {}", clock(at, key.date, clocks)),
        None => "when it comes cannot be told: too few past days tell, or it will not come by itself".to_owned(),
    };
    say!("{name} ({}): if {} never comes; it is {}, {expected}", zone(graph), found.node, found.state);
    if found.affected.is_empty() {
        say!("  nothing that is still to be done depends on it");
        return;
    }
    for (fate, head) in [
        (Fate::Held, "does not go"),
        (Fate::Without, "goes without it, degraded"),
        (Fate::OnLess, "goes on what was made without it"),
    ] {
        let mut by_phase: BTreeMap<Date, Vec<(&str, Vec<&Affected>)>> = BTreeMap::new();
        for affected in found.affected.iter().filter(|affected| affected.fate == fate) {
            let phases = by_phase.entry(affected.date).or_default();
            match phases.iter_mut().find(|(phase, _)| *phase == affected.phase) {
                Some((_, nodes)) => nodes.push(affected),
                None => phases.push((&affected.phase, vec![affected])),
            }
        }
        if !by_phase.is_empty() {
            let text = if fate == Fate::Held { paint.bad(head) } else { paint.strong(head) };
            say!("{text}");
        }
        for (date, mut phases) in by_phase {
            phases.sort_by_key(|(phase, _)| order.iter().position(|other| other == phase));
            for (phase, nodes) in phases {
                let of = if date == key.date { phase.to_owned() } else { format!("{phase} {date}") };
                say!("  {}", paint.dim(&of));
                for affected in nodes {
                    let waits = if affected.waits.is_zero() {
                        String::new()
                    } else {
                        format!(", after {}", span(affected.waits))
                    };
                    say!(
                        "    {:<36} {}",
                        affected.node.to_string(),
                        paint.dim(&format!("for want of {}{waits}", affected.via))
                    );
                }
            }
        }
    }
    games(found, key, clocks, now, paint);
    if let Some(due) = &found.deadline {
        let left = due.at.duration_since(now);
        say!(
            "the next deadline: {} by {}, in {}",
            of(&due.node, due.date, key.date),
            clock(due.at, key.date, clocks),
            span(left)
        );
    }
    if let Some(critical) = &found.critical {
        path(critical, key.date, clocks, paint);
    }
}

fn games(found: &Impact, key: &PartitionKey, clocks: &TimeZone, now: Timestamp, paint: Paint) {
    if found.games.is_empty() {
        say!("games: none that is known to be ahead");
        return;
    }
    let held = found.games.iter().filter(|game| game.fate == Fate::Held).count();
    say!("games: {} concerned, {held} of them without anything", found.games.len());
    for game in &found.games {
        let fate = match game.fate {
            Fate::Held => paint.bad(&format!("no {}", game.output)),
            Fate::Without | Fate::OnLess => format!("{} on less", game.output),
        };
        let tip = clock(game.tip, key.date, clocks);
        say!(
            "  {:<20} tip-off {tip}, in {:<8} {fate}",
            harmless(game.game.as_str()),
            span(game.tip.duration_since(now))
        );
    }
}

fn path(critical: &Critical, own: Date, clocks: &TimeZone, paint: Paint) {
    let legs: Vec<String> = critical
        .legs
        .iter()
        .map(|leg| match leg.known {
            Known::Waited => of(&leg.node, leg.date, own),
            Known::Usual | Known::Declared => format!("{} {}", of(&leg.node, leg.date, own), span(leg.takes)),
        })
        .collect();
    let declared = critical.legs.iter().any(|leg| leg.known == Known::Declared);
    let basis = if declared {
        "durations as declared at the longest, where too few past days tell"
    } else {
        "durations as usual on past game days"
    };
    say!("the critical path: {}", legs.join(" → "));
    say!("  {}", paint.dim(&format!("{basis}; the first as expected, or at once where nothing is")));
    let (ready, due) = (clock(critical.ready_at, own, clocks), clock(critical.due.at, own, clocks));
    let slack = if critical.slack.is_negative() {
        paint.bad(&format!("too late by {}", span(critical.slack)))
    } else {
        paint.strong(&format!("slack {}", span(critical.slack)))
    };
    say!("  {} is then ready by {ready} and due by {due}: {slack}", of(&critical.due.node, critical.due.date, own));
}

fn of(node: &crate::domain::id::NodeId, date: Date, own: Date) -> String {
    if date == own { node.to_string() } else { format!("{node}@{date}") }
}

/// A clock time, with its date where that is another.
fn clock(at: Timestamp, own: Date, zone: &TimeZone) -> String {
    let local = zone.to_datetime(at);
    let form = if local.date() == own { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    local.strftime(form).to_string()
}

/// A span in hours and minutes, without its sign.
fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().unsigned_abs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
