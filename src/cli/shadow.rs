//! `tipoff shadow report`: what was decided beside what others really ran.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::inspect::{Desk, harmless, zone};
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict};
use crate::domain::graph::Graph;
use crate::domain::shadow::Role;
use crate::replay::record::Record;
use crate::replay::shadow::{Compared, Kind, Row, compared};

/// Dates that are compared at once.
const DATES_MAX: usize = 92;

/// `tipoff shadow`
#[derive(Args)]
pub struct Shadow {
    #[command(subcommand)]
    command: Of,
}

#[derive(Subcommand)]
enum Of {
    /// What was decided of dates beside what others really ran, each difference with its reason; exits 1 where there is one
    Report(Report),
}

/// `tipoff shadow report [DATE|FROM..TO]`
#[derive(Args)]
struct Report {
    /// A date, or several as FROM..TO
    #[arg(default_value = "yesterday", value_name = "DATE")]
    dates: String,
    /// What does not differ, too
    #[arg(long, short)]
    all: bool,
}

impl Shadow {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        match &self.command {
            Of::Report(report) => report.run(common).await,
        }
    }
}

impl Report {
    async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common).await?;
        let (from, until) = match self.dates.split_once("..") {
            Some((from, until)) => (desk.date(from)?, desk.date(until)?),
            None => (desk.date(&self.dates)?, desk.date(&self.dates)?),
        };
        let count = from.until(until).map_or(-1, |span| span.get_days());
        if usize::try_from(count).map_or(true, |count| count >= DATES_MAX) {
            return Err(Fault::usage(anyhow::anyhow!("{from}..{until} are not between one and {DATES_MAX} dates")));
        }
        let (_, role) = desk.store.kept::<Role>().await.map_err(Fault::unusable)?;
        let mut dates: Vec<Compared> = Vec::new();
        let days = from.series(jiff::Span::new().days(1)).take_while(|date| *date <= until);
        for date in days {
            let record = Record::read(&*desk.store, &desk.key(date)).await.map_err(Fault::unusable)?;
            if record.version > 0 {
                dates.push(compared(desk.graph(), &record));
            }
        }
        if dates.is_empty() {
            return Err(Fault::usage(anyhow::anyhow!("nothing was ever decided about any date of {from}..{until}")));
        }
        let differs = dates.iter().flat_map(|date| &date.rows).any(|row| row.kind != Kind::Same);
        if common.json {
            say!("{}", self.json(&dates, &role));
        } else {
            match role.notice() {
                Some(notice) => say!("{notice}"),
                None => say!("what is decided is sent: a run may be the answer to a dispatch"),
            }
            for date in &dates {
                self.print(desk.graph(), date);
            }
            if dates.len() > 1 {
                say!("{}: {}", Paint::stdout().strong("in all"), counts(&dates));
            }
        }
        Ok(if differs { Verdict::Fails } else { Verdict::Holds })
    }

    fn json(&self, dates: &[Compared], role: &Role) -> Value {
        let is_shown = |row: &&Row| self.all || row.kind != Kind::Same;
        let shown = dates.iter().map(|date| {
            let rows: Vec<&Row> = date.rows.iter().filter(is_shown).collect();
            json!({ "partition": date.partition, "rows": rows, "incomplete": date.incomplete })
        });
        let count = |kind: Kind| dates.iter().map(|date| date.count(kind)).sum::<usize>();
        let counts: serde_json::Map<String, Value> = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((json!(kind).as_str()?.to_owned(), json!(count(kind)))))
            .collect();
        json!({ "dates": shown.collect::<Vec<_>>(), "counts": counts, "role": role })
    }

    fn print(&self, graph: &Graph, date: &Compared) {
        let paint = Paint::stdout();
        let name = paint.strong(&date.partition.to_string());
        say!("{name} ({}): {}", zone(graph), counts(std::slice::from_ref(date)));
        if let Some(why) = &date.incomplete {
            say!("  {}", paint.bad(&harmless(why)));
        }
        let rows: Vec<&Row> = date.rows.iter().filter(|row| self.all || row.kind != Kind::Same).collect();
        if rows.is_empty() {
            return;
        }
        let wide = rows.iter().map(|row| row.node.as_str().len()).max().unwrap_or_default();
        say!(
            "  {}",
            paint.dim(&format!("{:<wide$}  {:<15}  {:<9}  {:<9}  {:>8}  why", "node", "", "tipoff", "others", "apart"))
        );
        for row in rows {
            let decided = row.decided.as_ref().map(|decided| clock(graph, date.partition.date, decided.at));
            let ran = row.ran.as_ref().map(|ran| {
                // Where only the end is known, it began before.
                let mark = if ran.only_its_end_is_known { "<" } else { "" };
                format!("{mark}{}", clock(graph, date.partition.date, ran.began))
            });
            let apart = row.apart_s.filter(|_| row.kind != Kind::Same).map(span).unwrap_or_default();
            let (decided, ran) = (decided.unwrap_or_else(|| "—".into()), ran.unwrap_or_else(|| "—".into()));
            let kind = format!("{:<15}", row.kind.words());
            let kind = match row.kind {
                Kind::Same => paint.dim(&kind),
                Kind::Earlier | Kind::Later => kind,
                Kind::NotRun | Kind::NotDecided | Kind::Duplicate => paint.bad(&kind),
            };
            let node = row.node.as_str();
            say!("  {node:<wide$}  {kind}  {decided:<9}  {ran:<9}  {apart:>8}  {}", harmless(&row.reason));
        }
    }
}

fn counts(dates: &[Compared]) -> String {
    let count = |kind: Kind| dates.iter().map(|date| date.count(kind)).sum::<usize>();
    let told: Vec<String> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind == Kind::Same || count(*kind) > 0)
        .map(|kind| format!("{} {}", count(kind), kind.words()))
        .collect();
    told.join(", ")
}

/// The time on the pipeline's wall, with how many days after the date where that is not the same day.
fn clock(graph: &Graph, date: Date, at: Timestamp) -> String {
    let at = graph.zone.to_datetime(at);
    let days = date.until(at.date()).map_or(0, |span| span.get_days());
    let time = at.strftime("%H:%M");
    if days == 0 { time.to_string() } else { format!("{time}{days:+}d") }
}

fn span(seconds: i64) -> String {
    let minutes = seconds.unsigned_abs() / 60;
    if minutes < 60 { format!("{minutes}m") } else { format!("{}h{:02}m", minutes / 60, minutes % 60) }
}
