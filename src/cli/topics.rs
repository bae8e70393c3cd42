//! `tipoff topics plan|apply|check`: topics.yaml against the broker.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::backend::{Emulators, project};
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict};
use crate::adapter::pubsub::Connection;
use crate::adapter::pubsub::admin::Admin;
use crate::configuration::Configuration;
use crate::pipeline::Declarations;
use crate::topology::Topology;
use crate::topology::broker::{Broker, Change, Finding, Moved, Places, Weight, changes, findings, missing};
use crate::wire::dispatch::Target;

/// How long the service looks at its start.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// `tipoff topics`
#[derive(Args)]
pub struct Topics {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What `apply` would do; exits 1 if there is anything
    Plan(Plan),
    /// Create and change what differs; deletes only what is named
    Apply(Apply),
    /// What is wrong with the broker, the worst first; exits 1 on an error
    Check(Check),
}

#[derive(Args)]
struct Plan {
    /// Let consumers without a URL be pulled from, as on a laptop
    #[arg(long)]
    pull_instead: bool,
}

#[derive(Args)]
struct Apply {
    #[command(flatten)]
    plan: Plan,
    /// Delete this topic or subscription; repeatable
    #[arg(long, value_name = "NAME")]
    delete: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    plan: Plan,
    /// A broker's description, as `topics check --json` prints it under `found`, rather than the broker itself
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl Topics {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let declared = common.declarations()?.topology;
        let configuration = common.configuration()?;
        match &self.verb {
            Verb::Plan(plan) => {
                let places = places(&configuration, plan.pull_instead);
                let found = admin(&configuration).await?.found(false).await.map_err(Fault::unusable)?;
                let changes = wanted(&configuration, changes(&declared, &found, &places, &BTreeSet::new()));
                let findings = told(&configuration, &declared, findings(&declared, &found, &places));
                if common.json {
                    say!("{}", json!({ "changes": changes, "findings": findings, "found": found }));
                } else {
                    show(&changes);
                    orphans(&findings);
                    say!("{}", summary(&changes));
                }
                Ok(if changes.is_empty() { Verdict::Holds } else { Verdict::Fails })
            }
            Verb::Apply(apply) => apply.run(common, &configuration, &declared).await,
            Verb::Check(check) => check.run(common, &configuration, &declared).await,
        }
    }
}

impl Apply {
    async fn run(&self, common: &Common, configuration: &Configuration, declared: &Topology) -> Result<Verdict, Fault> {
        let places = places(configuration, self.plan.pull_instead);
        let admin = admin(configuration).await?;
        let found = admin.found(false).await.map_err(Fault::unusable)?;
        let delete: BTreeSet<String> = self.delete.iter().cloned().collect();
        for name in &delete {
            if !found.topics.contains_key(name) && !found.subscriptions.contains_key(name) {
                return Err(Fault::usage(anyhow::anyhow!("--delete {name}: there is no such topic or subscription")));
            }
            if declared.subscription(name).is_some() || declared.topic(name).is_some() {
                tracing::warn!(name, "topics.yaml declares what is being deleted; the next apply creates it again");
            }
        }
        let changes = wanted(configuration, changes(declared, &found, &places, &delete));
        if !common.json {
            show(&changes);
        }
        if changes.is_empty() {
            if common.json {
                say!("{}", json!({ "made": [], "failed": [] }));
            } else {
                say!("{}", summary(&changes));
            }
            return Ok(Verdict::Holds);
        }
        if !self.yes && !agreed()? {
            return Ok(Verdict::Fails);
        }
        let (mut made, mut failed) = (Vec::new(), Vec::new());
        for change in &changes {
            match admin.make(change, declared, &places).await {
                Ok(()) => made.push(change),
                Err(error) => {
                    if !common.json {
                        say!("{}", Paint::stdout().bad(&format!("failed: {error}")));
                    }
                    failed.push((change, error.to_string()));
                }
            }
        }
        if common.json {
            let failed: Vec<_> =
                failed.iter().map(|(change, error)| json!({ "change": change, "error": error })).collect();
            say!("{}", json!({ "made": made, "failed": failed }));
        } else {
            say!("{} made, {} failed", made.len(), failed.len());
        }
        match failed.len() {
            0 => Ok(Verdict::Holds),
            count => Err(Fault::unusable(anyhow::anyhow!("{count} of {} changes failed; apply again", changes.len()))),
        }
    }
}

impl Check {
    async fn run(&self, common: &Common, configuration: &Configuration, declared: &Topology) -> Result<Verdict, Fault> {
        let found = match &self.from {
            Some(path) => {
                let wrong =
                    |error: &dyn std::fmt::Display| Fault::usage(anyhow::anyhow!("{}: {error}", path.display()));
                let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
                serde_json::from_str::<Broker>(&text).map_err(|error| wrong(&error))?
            }
            None => admin(configuration).await?.found(true).await.map_err(Fault::unusable)?,
        };
        let places = places(configuration, self.plan.pull_instead);
        let findings = told(configuration, declared, findings(declared, &found, &places));
        if common.json {
            say!("{}", json!({ "findings": findings, "found": found }));
        } else {
            for finding in &findings {
                tell(finding);
            }
            let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
            say!("{errors} errors, {} warnings", findings.len() - errors);
            if self.from.is_none() && found.topics.values().all(|topic| topic.letters_allowed.is_none()) {
                say!("who may move dead letters cannot be told here");
            }
        }
        let errors = findings.iter().any(|finding| finding.weight == Weight::Error);
        Ok(if errors { Verdict::Fails } else { Verdict::Holds })
    }
}

/// Says at the start of the service what the broker lacks. The service starts all the same: what it reads is tried again and
/// again, and it is not ready meanwhile.
pub async fn tell_what_is_missing(configuration: &Configuration, declarations: &Declarations) {
    let found = async {
        let admin = admin(configuration).await.map_err(|fault| format!("{:#}", fault.error))?;
        tokio::time::timeout(LOOK_MAX, admin.found(false))
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error| error.to_string())
    };
    let found = match found.await {
        Ok(found) => found,
        Err(why) => return tracing::warn!("the topics could not be compared with topics.yaml: {why}"),
    };
    let tasks = declarations.pipelines.values().flat_map(|pipeline| pipeline.tasks.values().flatten());
    let sent = tasks.filter(|_| !configuration.shadow).filter_map(|message| match &message.target {
        Target::Topic(topic) => Some(topic.as_str()),
        Target::Http { .. } => None,
    });
    for missing in missing(&declarations.topology, &found, sent) {
        tracing::error!("{missing} does not exist: run `tipoff topics apply`");
    }
    let findings = findings(&declarations.topology, &found, &places(configuration, false));
    for finding in told(configuration, &declarations.topology, findings) {
        match finding.weight {
            Weight::Error => tracing::warn!("{}: {}; {}", finding.name, finding.what, finding.advice),
            Weight::Warning => tracing::debug!("{}: {}; {}", finding.name, finding.what, finding.advice),
        }
    }
}

/// A shadow adds what it needs, and leaves alone what others have as they have it.
fn wanted(configuration: &Configuration, changes: Vec<Change>) -> Vec<Change> {
    let is_theirs = |change: &Change| configuration.shadow && matches!(change, Change::UpdateTopic { .. });
    changes.into_iter().filter(|change| !is_theirs(change)).collect()
}

/// To a shadow, subscriptions that it does not know are those of whoever runs the pipeline.
fn told(configuration: &Configuration, declared: &Topology, findings: Vec<Finding>) -> Vec<Finding> {
    let is_ours = |finding: &Finding| {
        declared.subscription(&finding.name).is_some() || finding.what.starts_with("the topic does not exist")
    };
    findings.into_iter().filter(|finding| !configuration.shadow || is_ours(finding)).collect()
}

/// Where consumers are, by the configuration.
pub fn places(configuration: &Configuration, pull_instead: bool) -> Places {
    let urls = configuration.services.iter().map(|(name, service)| (name.clone(), service.url.clone())).collect();
    Places { urls, identity: configuration.google.push_identity.clone(), pull_instead }
}

/// The administration of the configured project.
pub async fn admin(configuration: &Configuration) -> Result<Admin, Fault> {
    let emulators = Emulators::find().map_err(|error| Fault::usage(anyhow::anyhow!(error)))?;
    let connection = Connection { project: project(configuration)?, emulator: emulators.pubsub };
    Admin::connect(connection).await.map_err(Fault::unusable)
}

fn show(changes: &[Change]) {
    let paint = Paint::stdout();
    let fields = |moved: &[Moved]| {
        for Moved { field, from, to } in moved {
            say!("      {field}: {from} → {to}");
        }
    };
    for change in changes {
        match change {
            Change::CreateTopic { topic } => say!("{} topic {topic}", paint.state("succeeded", "+")),
            Change::CreateSubscription { subscription, topic } => {
                say!("{} subscription {subscription} of {topic}", paint.state("succeeded", "+"));
            }
            Change::UpdateTopic { topic, moved } => {
                say!("{} topic {topic}", paint.state("failed", "~"));
                fields(moved);
            }
            Change::UpdateSubscription { subscription, moved } => {
                say!("{} subscription {subscription}", paint.state("failed", "~"));
                fields(moved);
            }
            Change::Delete { name } => say!("{} {name}", paint.bad("-")),
        }
    }
}

/// What a plan leaves to people.
fn orphans(findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| !finding.advice.starts_with("run `tipoff topics apply`")) {
        tell(finding);
    }
}

fn tell(finding: &Finding) {
    let paint = Paint::stdout();
    let weight = match finding.weight {
        Weight::Error => paint.bad("error"),
        Weight::Warning => paint.state("failed", "warning"),
    };
    say!("{weight}: {}: {}", finding.name, finding.what);
    say!("      {}", finding.advice);
}

fn summary(changes: &[Change]) -> String {
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
    if changes.is_empty() {
        return "the broker has what topics.yaml declares".to_owned();
    }
    let created = count(|it| matches!(it, Change::CreateTopic { .. } | Change::CreateSubscription { .. }));
    let updated = count(|it| matches!(it, Change::UpdateTopic { .. } | Change::UpdateSubscription { .. }));
    format!("{created} to create, {updated} to change, {} to delete", changes.len() - created - updated)
}

fn agreed() -> Result<bool, Fault> {
    if !std::io::stdin().is_terminal() {
        return Err(Fault::usage(anyhow::anyhow!("nobody can be asked here; say --yes")));
    }
    eprint!("make these changes? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Fault::unusable)?;
    Ok(matches!(answer.trim(), "y" | "yes"))
}
