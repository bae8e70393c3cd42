//! `tipoff import`: a report out of a file into the embedded warehouse, where no query can tell it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::say::say;
use super::{Common, Fault, Verdict, backend, dates, graph};
use crate::adapter::embedded::{Durability, Embedded};
use crate::clock::Clock;
use crate::configuration::Backend;
use crate::domain::id::PipelineId;
use crate::port::Row;
use crate::wire::report::{self, Kind};

/// The largest file that is read: a season of schedules is some hundred kilobytes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// `tipoff import REPORT FILE`
#[derive(Args)]
pub struct Import {
    /// Which report: schedule, game_coverage or roster_ages
    report: Kind,
    /// CSV with a header, or JSON lines; told apart by the name's end (.csv, .jsonl)
    file: PathBuf,
    /// The date of rows that name none in a column game_date or date
    #[arg(long)]
    date: Option<String>,
}

impl Import {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let declarations = common.declarations()?;
        let pipeline = PipelineId::from(common.pipeline.as_str());
        let Some(declared) = declarations.pipelines.get(&pipeline) else {
            return Err(graph::no_pipeline(&declarations, &common.pipeline));
        };
        let configuration = common.configuration()?;
        if configuration.backend != Backend::Embedded {
            let why = "import writes into the embedded warehouse; on Google Cloud reports are queries in pipeline.yaml";
            return Err(Fault::usage(anyhow::anyhow!(why)));
        }
        let now = Clock::System.now();
        let date = self.date.as_deref().map(|word| dates::resolve(word, &declared.graph, now)).transpose()?;
        let dates = self.read(date).map_err(Fault::usage)?;
        let opened = Embedded::open_existing(&configuration.data, Durability::Full);
        let embedded = opened.map_err(|error| backend::no_store(&configuration, &error))?;
        let counts: BTreeMap<Date, usize> = dates.iter().map(|(date, rows)| (*date, rows.len())).collect();
        for (date, rows) in dates {
            embedded.put_report(&pipeline, self.report, date, rows, now).await.map_err(Fault::unusable)?;
        }
        if common.json {
            say!("{}", json!({ "pipeline": pipeline, "report": self.report.as_str(), "rows": counts }));
        } else {
            for (date, count) in counts {
                say!("{pipeline} {date}: {count} rows of {}", self.report);
            }
        }
        Ok(Verdict::Holds)
    }

    /// The file's rows by date, all of them sound.
    fn read(&self, date: Option<Date>) -> anyhow::Result<BTreeMap<Date, Vec<Row>>> {
        let named = |error: anyhow::Error| anyhow::anyhow!("{}: {error:#}", self.file.display());
        let rows = rows(&self.file).map_err(named)?;
        let dates = report::by_date(self.report, rows, date).map_err(|error| named(error.into()))?;
        if dates.is_empty() {
            return Err(named(anyhow::anyhow!("has no rows; a date on which there is nothing is told by a call")));
        }
        for (date, rows) in &dates {
            report::check(self.report, *date, rows).map_err(|error| named(error.into()))?;
        }
        Ok(dates)
    }
}

fn rows(path: &Path) -> anyhow::Result<Vec<Row>> {
    let extension = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    anyhow::ensure!(matches!(extension.as_str(), "csv" | "jsonl"), "is neither .csv nor .jsonl");
    let file = File::open(path)?;
    anyhow::ensure!(file.metadata()?.len() <= BYTES_MAX, "more than {BYTES_MAX} bytes are not taken");
    let text = BufReader::new(file.take(BYTES_MAX));
    if extension == "csv" { comma_separated(text) } else { json_lines(text) }
}

/// Every cell is text; an empty one is none.
fn comma_separated(text: impl Read) -> anyhow::Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let cell = |text: &str| if text.is_empty() { Value::Null } else { Value::from(text) };
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(columns.iter().cloned().zip(record?.iter().map(cell)).collect());
    }
    Ok(rows)
}

fn json_lines(text: impl BufRead) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line);
        rows.push(row.map_err(|error| anyhow::anyhow!("line {}: {error}", index + 1))?);
    }
    Ok(rows)
}
