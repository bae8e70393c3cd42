//! `plan`: what the declarations here would change in those in force, and in the dates in flight.

use clap::Args;
use serde_json::{Value, json};

use super::backend::{self, Access};
use super::command::Words;
use super::inspect::harmless;
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, File, Verdict, serve};
use crate::configuration;
use crate::diagnostic;
use crate::engine::revise::{Revised, Revision};
use crate::pipeline;
use crate::pipeline::difference::{Difference, differences};
use crate::pipeline::in_force::InForce;

/// Differences that are shown where nobody asked for JSON.
const SHOWN_MAX: usize = 40;

/// `tipoff plan`
#[derive(Args)]
#[command(
    after_help = "Compares topics.yaml and pipeline.yaml, as --topics and --pipeline-file name them, with what the running \
    service has, or had when it last ran on this store; and tipoff.yaml, where there is one here, with a running service's, \
    which tells it to administrators. Nothing is changed. Exits 1 where facts would lose their node, or \
    something would stand in the way of what nothing stands in the way of now.\n\
    Example: tipoff plan --pipeline-file pipeline.yaml --server http://127.0.0.1:8085"
)]
pub struct Plan {}

impl Plan {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let here = common.own_texts()?;
        let wanted = load(&here)?;
        let there = in_force(common).await?;
        let engine = backend::engine(common, load(&there)?, Access::Read).await?;
        let mut found = differences_of(&there, &here)?;
        let theirs = common.served.as_ref().and_then(|service| service.declared.settings.as_ref());
        let ours = common.settings()?;
        let settings = theirs.zip(ours.as_ref());
        found.extend(settings.map(|(theirs, ours)| settings_differences(theirs, ours)).into_iter().flatten());
        let revision = engine.revise(&wanted).await.map_err(Fault::unusable)?;
        if common.json {
            let takes_away = revision.takes_away();
            let compared = settings.is_some();
            say!(
                "{}",
                json!({ "differences": found, "settings_compared": compared, "revision": revision,
                    "takes_away": takes_away })
            );
        } else {
            let why = match (theirs, &ours) {
                (Some(_), Some(_)) => None,
                (_, None) => Some("tipoff.yaml is not compared: there is none here, and --config names none"),
                _ if common.served.is_none() => {
                    Some("tipoff.yaml is not compared: only a running service tells its own; --server names one")
                }
                (None, _) => {
                    Some("tipoff.yaml is not compared: a running service tells its own to administrators alone")
                }
            };
            print(&found, &revision, (&there.1.0, &here.1.0), why);
        }
        Ok(if revision.takes_away() { Verdict::Fails } else { Verdict::Holds })
    }
}

/// In what two pairs of files differ.
pub fn differences_of(before: &(File, File), after: &(File, File)) -> Result<Vec<Difference>, Fault> {
    let value = |file: &File| diagnostic::parse::<Value>(&file.0, &file.1).map_err(Fault::usage);
    let mut found = differences("topics.yaml", &value(&before.0)?, &value(&after.0)?);
    found.extend(differences("pipeline.yaml", &value(&before.1)?, &value(&after.1)?));
    Ok(found)
}

/// In what two files of settings differ, as they may be shown.
pub fn settings_differences(before: &Value, after: &Value) -> Vec<Difference> {
    differences(configuration::FILE, before, after)
}

/// `tipoff reload`
#[derive(Args)]
#[command(
    after_help = "The service reads topics.yaml, pipeline.yaml and tipoff.yaml again, from where it has read them before. \
    It refuses what is wrong with its line, and without --accept what would take something away from dates in flight, as \
    `tipoff plan` says it. What has been received is settled first, and calls that come meanwhile wait, but for probes. SIGHUP does the same.\n\
    Example: tipoff reload --server http://127.0.0.1:8085 --reason 'the quorum of phase 4 is four'"
)]
pub struct Reload {
    /// Apply it though something would be taken away
    #[arg(long)]
    accept: bool,
    #[command(flatten)]
    words: Words,
}

impl Reload {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let Some(service) = &common.served else {
            return Err(Fault::usage(anyhow::anyhow!("say which service with --server, or send it SIGHUP")));
        };
        let body = json!({ "accept": self.accept, "actor": self.words.actor, "reason": self.words.reason });
        let told: Value = service.ask(&["reload"], &body).await.map_err(Fault::called)?;
        if common.json {
            say!("{told}");
            return Ok(Verdict::Holds);
        }
        let count = told["differences"].as_array().map_or(0, Vec::len);
        let digest = harmless(told["digest"].as_str().unwrap_or_default());
        if told["applied"] == true {
            say!("{digest} is in force: {count} keys are other than before");
        } else {
            say!("{digest} was in force already; nothing changed but secrets, which were read again");
        }
        Ok(Verdict::Holds)
    }
}

fn load((topics, pipelines): &(File, File)) -> Result<pipeline::Declarations, Fault> {
    pipeline::load((&topics.0, &topics.1), (&pipelines.0, &pipelines.1)).map_err(Fault::usage)
}

/// What the service that is asked has, or what decided last at the store.
async fn in_force(common: &Common) -> Result<(File, File), Fault> {
    if common.served.is_some() {
        return common.texts();
    }
    let opened = backend::open(common, &common.declarations()?, Access::Read).await?;
    let (_, in_force) = opened.store.kept::<InForce>().await.map_err(Fault::unusable)?;
    let texts =
        in_force.texts.map(|(topics, pipelines)| ((topics.file, topics.text), (pipelines.file, pipelines.text)));
    texts.ok_or_else(|| {
        Fault::unusable(anyhow::anyhow!("no service has said yet what it decides by at this store: start it once"))
    })
}

fn print(found: &[Difference], revision: &Revision, (there, here): (&str, &str), uncompared: Option<&str>) {
    let paint = Paint::stdout();
    let head = format!("{} ({}) → {} ({})", revision.from, harmless(there), revision.to, harmless(here));
    say!("{}", paint.strong(&head));
    if found.is_empty() {
        say!("  the declarations are the same");
    }
    for difference in found.iter().take(SHOWN_MAX) {
        say!("  {}", harmless(&difference.to_string()));
    }
    if found.len() > SHOWN_MAX {
        say!("  {}", paint.dim(&format!("and {} more; --json lists them all", found.len() - SHOWN_MAX)));
    }
    for key in serve::FIXED {
        let path = format!("{}.{key}", configuration::FILE);
        if found.iter().any(|found| found.path == path || found.path.starts_with(&format!("{path}."))) {
            say!(
                "  {}",
                paint.dim(&format!(
                    "{path} is set when the service starts: a reload refuses another, unless a flag says it there"
                ))
            );
        }
    }
    if let Some(why) = uncompared {
        say!("  {}", paint.dim(why));
    }
    say!("of {} dates that are known, {} would change", revision.looked_at, revision.dates.len());
    for revised in &revision.dates {
        date(revised, paint);
    }
}

fn date(revised: &Revised, paint: Paint) {
    let counts = [
        ("would dispatch", revised.dispatches.len()),
        ("un-satisfy", revised.unsatisfied.len()),
        ("satisfy", revised.satisfied.len()),
    ];
    let mut words: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{word} {count}")).collect();
    match revised.lost.len() {
        0 => {}
        1 => words.push("1 node's facts lose their node".to_owned()),
        many => words.push(format!("{many} nodes' facts lose their node")),
    }
    if let Some(complete) = revised.complete {
        words.push(if complete { "would be complete".to_owned() } else { "would not be complete".to_owned() });
    }
    say!("  {}: {}", paint.strong(&revised.partition.to_string()), words.join(", "));
    for node in &revised.dispatches {
        say!("    → {node}");
    }
    for unsatisfied in &revised.unsatisfied {
        say!("    {} {}: {}", paint.bad("waits"), unsatisfied.node, harmless(&unsatisfied.by));
    }
    for node in &revised.satisfied {
        say!("    free {node}");
    }
    for lost in &revised.lost {
        let alive = if lost.alive == 0 { String::new() } else { format!(", {} runs alive", lost.alive) };
        say!("    {} {} ({}{alive})", paint.bad("loses"), lost.node, lost.state);
    }
}
