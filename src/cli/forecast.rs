//! `forecast`: when each node of a date will be ready, and what will stand at each game's deadline.
//!
//! It reads store and journal itself and raises no alert; a running service does, at the same figures.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict, monitor};
use crate::domain::forecast::{Basis, Deadline, Expected, FORECAST_DAYS_MIN, Forecast, Late};
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey};

/// `tipoff forecast [DATE]`
#[derive(Args)]
pub struct DateForecast {
    /// Which date
    #[arg(default_value = "today")]
    date: String,
    /// Nodes of which nothing can be told, too
    #[arg(long, short)]
    all: bool,
}

impl DateForecast {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let (engine, key) = monitor::open(common, &self.date).await?;
        let Some(graph) = engine.graph(&key.pipeline) else { return Ok(Verdict::Holds) };
        let forecast = engine.forecast(graph, &key).await.map_err(Fault::unusable)?;
        if common.json {
            say!("{}", json!({ "partition": key, "at": engine.clock.now(), "forecast": forecast }));
        } else {
            self.print(graph, &key, &forecast);
        }
        let short = forecast.deadlines.iter().any(Deadline::is_short);
        Ok(if short { Verdict::Fails } else { Verdict::Holds })
    }

    fn print(&self, graph: &Graph, key: &PartitionKey, forecast: &Forecast) {
        let (paint, zone) = (Paint::stdout(), &graph.zone);
        let short = forecast.deadlines.iter().filter(|deadline| deadline.is_short()).count();
        let summary = match (forecast.deadlines.len(), short) {
            (0, _) => "no deadline is ahead".to_owned(),
            (ahead, 0) => format!("none of {ahead} deadlines ahead will be missed, as far as can be told"),
            (ahead, short) => paint.bad(&format!("{short} of {ahead} deadlines ahead will be missed")),
        };
        say!("{}: {summary}", paint.strong(&key.to_string()));
        let promised: std::collections::BTreeSet<&NodeId> =
            forecast.deadlines.iter().map(|deadline| &deadline.node).collect();
        for node in promised {
            if let Some(short) = forecast.shortfall(node) {
                say!("  {}", short.words(node, key.date, zone));
            }
        }
        if !forecast.deadlines.is_empty() {
            say!("{}", paint.dim("  deadline  expected  required  games"));
        }
        for deadline in &forecast.deadlines {
            let expected = deadline.expected.map_or("—".to_owned(), |share| format!("{} %", share.get() / 10));
            let expected = format!("{expected:>8}");
            let games: Vec<&str> = deadline.games.iter().map(|game| game.as_str()).collect();
            say!(
                "  {:<8}  {}  {:>6} %  {} of {}",
                clock(deadline.at, zone),
                if deadline.is_short() { paint.bad(&expected) } else { expected },
                deadline.required.get() / 10,
                deadline.node,
                games.join(", ")
            );
        }
        say!("{}", paint.dim("  node                                ready     usual     late  because"));
        let told = |expected: &&Expected| self.all || expected.ready_at.is_some() || expected.usual_at.is_some();
        for expected in forecast.nodes.iter().filter(told) {
            self.line(expected, zone, paint);
        }
        let days = format!("  A basis is the median of {FORECAST_DAYS_MIN} game days or more, with its middle half");
        say!("{}", paint.dim(&days));
    }

    fn line(&self, expected: &Expected, zone: &TimeZone, paint: Paint) {
        let at = |at: Option<Timestamp>| at.map_or("—".to_owned(), |at| clock(at, zone));
        let late = if expected.late_by.is_zero() { String::new() } else { format!("{} m", expected.late_by.as_mins()) };
        let because = expected.because.iter().filter(|late| late.node != expected.node).map(cause).next();
        let basis = expected.basis.as_ref().map(|basis| paint.dim(&words(basis)));
        let words: Vec<String> = because.into_iter().chain(basis).collect();
        let ready = format!("{}{}", at(expected.ready_at), if expected.is_ready { " ✓" } else { "" });
        say!("  {:<34}  {ready:<8}  {:<8}  {late:>4}  {}", expected.node, at(expected.usual_at), words.join("; "));
    }
}

fn cause(late: &Late) -> String {
    format!("{} is {} minutes late", late.node, late.by.as_mins())
}

/// The hour of an instant, as the pipeline's zone has it.
pub(super) fn clock(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).strftime("%H:%M").to_string()
}

fn words(basis: &Basis) -> String {
    match basis {
        Basis::Arrival(usual) => {
            let clock = |at: jiff::SignedDuration| {
                let (days, minutes) = (at.as_mins().div_euclid(24 * 60), at.as_mins().rem_euclid(24 * 60));
                let day = if days == 0 { String::new() } else { format!("{days:+}d ") };
                format!("{day}{:02}:{:02}", minutes / 60, minutes % 60)
            };
            format!("came {} to {} on {} days", clock(usual.low), clock(usual.high), usual.days)
        }
        Basis::Duration(usual) => {
            format!("took {} to {} s on {} days", usual.low.as_secs(), usual.high.as_secs(), usual.days)
        }
    }
}
