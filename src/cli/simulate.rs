//! `tipoff simulate`: scenario files on a virtual clock.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::inspect::harmless;
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict};
use crate::scenario::file::Scenario;
use crate::scenario::ground::{Ground, Kept};
use crate::scenario::run::{declarations, embedding, run_on};
use crate::scenario::seen::{Entry, What};
use crate::scenario::world::{Regime, RunError};

/// `tipoff simulate FILE…`
#[derive(Args)]
pub struct Simulate {
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Deliver every message twice
    #[arg(long, group = "regime")]
    twice: bool,
    /// Kill and restart the process at points drawn from this seed
    #[arg(long, group = "regime", value_name = "SEED")]
    restart_anywhere: Option<u64>,
    /// Reorder messages between which no deadline falls, drawn from this seed
    #[arg(long, group = "regime", value_name = "SEED")]
    shuffle: Option<u64>,
    /// Print what happens
    #[arg(long, short)]
    verbose: bool,
    /// Leave the store of the run in this new directory, for `tipoff status --data DIR` and the others to look at
    #[arg(long, value_name = "DIR", conflicts_with = "regime")]
    keep: Option<PathBuf>,
}

impl Simulate {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let regime = match (self.twice, self.restart_anywhere, self.shuffle) {
            (true, _, _) => Regime::Twice,
            (_, Some(seed), _) => Regime::RestartAnywhere(seed),
            (_, _, Some(seed)) => Regime::Shuffle(seed),
            (false, None, None) => Regime::Plain,
        };
        if let Some(folder) = &self.keep
            && (self.files.len() > 1 || folder.exists())
        {
            let why = if folder.exists() { "it is there already" } else { "only one file can be played into it" };
            return Err(Fault::usage(anyhow::anyhow!("--keep {}: {why}", folder.display())));
        }
        let (topics, pipelines) = common.texts()?;
        let paint = Paint::stdout();
        let mut missed = 0;
        for file in &self.files {
            let name = file.display().to_string();
            let text =
                std::fs::read_to_string(file).map_err(|error| Fault::usage(anyhow::anyhow!("read {name}: {error}")))?;
            let scenario = Scenario::read(&name, &text).map_err(Fault::usage)?;
            let declared =
                declarations(&scenario, (&topics.0, &topics.1), (&pipelines.0, &pipelines.1)).map_err(Fault::usage)?;
            let ground: Box<dyn Ground> = match &self.keep {
                Some(folder) => Box::new(Kept::new(folder, &declared.topology)),
                None => embedding(&declared).map_err(Fault::unusable)?,
            };
            let report = run_on(ground, &scenario, &declared, regime, |_| {}).await.map_err(|error| {
                let wrong = matches!(error, RunError::File(_));
                let error = anyhow::anyhow!("{name}: {error}");
                if wrong { Fault::usage(error) } else { Fault::unusable(error) }
            })?;
            if common.json {
                for entry in &report.seen.entries {
                    say!("{}", json!(entry));
                }
                for miss in &report.misses {
                    say!("{}", json!({ "entry": "missed", "file": name, "line": miss.line, "text": miss.text }));
                }
                say!("{}", json!({ "entry": "verdict", "file": name, "holds": report.misses.is_empty() }));
            } else {
                if self.verbose {
                    for entry in &report.seen.entries {
                        say!("{} {}", paint.dim(&entry.at.to_string()), line(entry));
                    }
                }
                let word = if report.misses.is_empty() { "holds".to_owned() } else { paint.bad("MISSED") };
                say!("{word}  {}  {name}", harmless(&scenario.title));
                for miss in &report.misses {
                    say!("  {name}:{}: {}", miss.line, miss.text);
                }
            }
            missed += report.misses.len();
        }
        Ok(if missed == 0 { Verdict::Holds } else { Verdict::Fails })
    }
}

/// An entry in words.
pub fn line(entry: &Entry) -> String {
    match &entry.what {
        What::Received { message, topic } => format!("received  {message} on {topic}"),
        What::Settled { message, settlement } => format!("settled   {message}: {settlement}"),
        What::Moved { partition, node, from, to } => format!("moved     {node}@{}: {from} → {to}", partition.date),
        What::Sent(sent) => format!(
            "dispatch  {} → {} because {}",
            sent.message,
            sent.target,
            sent.manifest("cause").unwrap_or_default()
        ),
        What::Alert { key, severity, turn, text } => {
            let turn = format!("{turn:?}").to_lowercase();
            format!("alert     {turn} {key} ({}): {text}", format!("{severity:?}").to_lowercase())
        }
        What::Told { channel, notice } => format!("told      {channel}: {}", notice.title),
        What::World { text } => format!("world     {text}"),
    }
}
