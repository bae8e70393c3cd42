//! `tipoff doctor`: does everything that the service needs work, and if not, what is to be done?

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::json;

use super::backend::{self, Emulators, project};
use super::paint::Paint;
use super::say::say;
use super::{Common, Door, Fault, Verdict, topics};
use crate::adapter::channel;
use crate::adapter::embedded::Embedded;
use crate::adapter::google::environment_credentials;
use crate::clock::Clock;
use crate::configuration::{Backend, Configuration};
use crate::domain::effect::Severity;
use crate::domain::notify::Ledger;
use crate::domain::time::{after, ahead_of, shown};
use crate::domain::words::harmless_lines;
use crate::engine::notify::QUIET_MAX;
use crate::http::caller::{self, Callers};
use crate::pipeline::Declarations;
use crate::port::{Answer, Store};
use crate::topology::broker::{Weight, findings};

/// How long one check may take. One that hangs is a failure, too.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// Clocks further apart than this make deadlines and lease times lie.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);

/// Topics that a warning names; `docs/alerts.md` lists all.
const UNHEARD_SHOWN: usize = 6;

/// `tipoff doctor`
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    door: Door,
}

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Warning,
    Failure,
}

/// One check.
#[derive(Serialize)]
struct Checked {
    check: &'static str,
    mark: Mark,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

fn ok(check: &'static str, found: impl Into<String>) -> Checked {
    Checked { check, mark: Mark::Ok, found: found.into(), advice: None }
}

fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Checked {
    Checked { check, mark: Mark::Warning, found: found.into(), advice: Some(advice.into()) }
}

fn failure(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Checked {
    Checked { check, mark: Mark::Failure, found: found.into(), advice: Some(advice.into()) }
}

impl Doctor {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let mut worst = Mark::Ok;
        let mut all = Vec::new();
        let mut note = |checked: Checked| {
            worst = worst.max(checked.mark);
            if common.json {
                all.push(checked);
            } else {
                tell(&checked);
            }
        };
        let declarations = match common.declarations() {
            Ok(declarations) => {
                note(ok("declarations", "topics.yaml and pipeline.yaml are sound"));
                Some(declarations)
            }
            Err(fault) => {
                note(failure("declarations", format!("{:#}", fault.error), "run `tipoff check`"));
                None
            }
        };
        match self.door.configuration(common) {
            Ok(configuration) => {
                let backend = match configuration.backend {
                    Backend::Embedded => "embedded",
                    Backend::Google => "google",
                };
                note(ok("configuration", format!("backend {backend}")));
                note(callers(&configuration));
                for file in caller::open_files(&configuration) {
                    let found = format!("{} can be read by every user of this machine", file.display());
                    note(warning("tokens", found, "chmod o-r, or let it hold the digest that `tipoff token` prints"));
                }
                for checked in alerts(&configuration, declarations.as_ref()).await {
                    note(checked);
                }
                match (configuration.backend, &declarations) {
                    (Backend::Embedded, _) => {
                        note(embedded(&configuration));
                        if let Ok(store) = Embedded::open_read_only(&configuration.data) {
                            note(telling(&store).await);
                        }
                    }
                    (Backend::Google, Some(declarations)) => google(&configuration, declarations, &mut note).await,
                    (Backend::Google, None) => {}
                }
            }
            Err(fault) => note(failure("configuration", format!("{:#}", fault.error), "mend the file or the flag")),
        }
        if common.json {
            say!("{}", json!({ "worst": worst, "checks": all }));
        }
        Ok(if worst == Mark::Failure { Verdict::Fails } else { Verdict::Holds })
    }
}

/// Whether people could be told. Nobody is told anything.
async fn alerts(configuration: &Configuration, declarations: Option<&Declarations>) -> Vec<Checked> {
    const CHECK: &str = "alerts";
    let (settings, channels) = match channel::declared(&configuration.alerts) {
        Ok(declared) => declared,
        Err(error) => return vec![failure(CHECK, error.to_string(), "mend the file, or set what it names")],
    };
    if channels.is_empty() {
        return vec![warning(CHECK, "nobody is told but who reads the log", "declare a channel; see docs/alerts.md")];
    }
    let mut checked = Vec::new();
    if let Some(declarations) = declarations {
        if let Err(error) = channel::known(&configuration.alerts, declarations) {
            checked.push(failure(CHECK, error.to_string(), "name one that there is, or leave it out"));
        }
        for severity in [Severity::Critical, Severity::Warning] {
            let unheard = settings.unheard(severity, declarations.pipelines.keys());
            if let Some(first) = unheard.get(..unheard.len().min(UNHEARD_SHOWN)).filter(|first| !first.is_empty()) {
                let more = if unheard.len() > first.len() { ", …" } else { "" };
                let (count, severity) = (unheard.len(), severity.as_str());
                let found = format!("no route takes {severity} alerts of {count} topics: {}{more}", first.join(", "));
                checked.push(warning(CHECK, found, "nobody is told of those; add a route without topics and pipeline"));
            }
        }
    }
    for (id, channel) in channels {
        checked.push(match tokio::time::timeout(CHECK_MAX, channel.reach()).await {
            Ok(Ok(())) => ok(CHECK, format!("{id} can be reached; `tipoff alerts test {id}` sends a notice over it")),
            Ok(Err(why)) => failure(CHECK, format!("{id}: {why}"), "mend it, or nobody is told over it"),
            Err(_) => failure(CHECK, format!("{id} does not answer"), "mend it, or nobody is told over it"),
        });
    }
    checked
}

fn tell(checked: &Checked) {
    let paint = Paint::stdout();
    let mark = match checked.mark {
        Mark::Ok => paint.state("succeeded", "ok     "),
        Mark::Warning => paint.state("failed", "warning"),
        Mark::Failure => paint.bad("failure"),
    };
    say!("{mark} {}: {}", checked.check, harmless_lines(&checked.found));
    if let Some(advice) = &checked.advice {
        say!("          {advice}");
    }
}

fn callers(configuration: &Configuration) -> Checked {
    let listen = configuration.listen;
    match Callers::of(configuration) {
        Ok(_) if listen.ip().is_loopback() => ok("listen", format!("{listen}, reached from this machine only")),
        Ok(_) => ok("listen", format!("{listen}, and who may call is said")),
        Err(error) => {
            failure("listen", error.to_string(), "mend what tipoff.yaml says of access and push, or name another file")
        }
    }
}

fn embedded(configuration: &Configuration) -> Checked {
    let data = &configuration.data;
    if !data.exists() {
        return ok("store", format!("{} is not there yet; `tipoff serve` makes it", data.display()));
    }
    if let Err(error) = tempfile::tempfile_in(data) {
        let advice = "give the directory to the user that runs the service, or name another with --data";
        return failure("store", format!("{} cannot be written: {error}", data.display()), advice);
    }
    match Embedded::open_read_only(data) {
        Ok(_) => ok("store", format!("{} opens", data.display())),
        Err(error) => {
            failure("store", format!("{}: {error}", data.display()), "restore it from a copy, or name another")
        }
    }
}

/// Whether a service looks for what people have to be told.
async fn telling(store: &dyn Store) -> Checked {
    const CHECK: &str = "telling";
    let ledger = match store.kept::<Ledger>().await {
        Ok((_, ledger)) => ledger,
        Err(error) => return failure(CHECK, error.to_string(), "restore the store from a copy"),
    };
    match ledger.round_at {
        None => ok(CHECK, "no service has looked yet for what people have to be told"),
        Some(at) if Clock::System.now() >= after(at, QUIET_MAX) => {
            let found = format!("a service last looked at {} for what people have to be told", shown(at));
            warning(CHECK, found, "start `tipoff serve`, or see its log: nobody is told of anything meanwhile")
        }
        Some(at) => ok(CHECK, format!("a service looked at {} for what people have to be told", shown(at))),
    }
}

/// A check that may hang.
async fn within(check: &'static str, work: impl Future<Output = Checked>) -> Checked {
    let late = || {
        let found = format!("no answer in {} s", CHECK_MAX.as_secs());
        failure(check, found, "look at the network between here and Google, and at the emulators' addresses")
    };
    tokio::time::timeout(CHECK_MAX, work).await.unwrap_or_else(|_| late())
}

async fn google(configuration: &Configuration, declarations: &Declarations, note: &mut impl FnMut(Checked)) {
    let emulators = match Emulators::find() {
        Ok(emulators) => emulators,
        Err(why) => return note(failure("emulators", why, "half a project in emulators mixes trial and truth")),
    };
    match &emulators.pubsub {
        Some(_) => note(ok("emulators", "Pub/Sub and Firestore are emulators; they ask for no credentials")),
        None => note(within("credentials", credentials()).await),
    }
    match project(configuration) {
        Ok(project) => note(ok("project", project)),
        Err(fault) => return note(failure("project", format!("{:#}", fault.error), "name it")),
    }
    match backend::services(configuration) {
        Ok(_) => note(ok("services", format!("{} are known", configuration.services.len()))),
        Err(fault) => {
            let advice = "identity tokens are made for service accounts only: run as one, or log in as one by \
                `gcloud auth application-default login --impersonate-service-account=ACCOUNT`";
            note(failure("services", format!("{:#}", fault.error), advice));
        }
    }
    // The others are checked whatever the services are.
    let google = match backend::no_services() {
        Ok(services) => backend::google(configuration, declarations, services).await,
        Err(fault) => Err(fault),
    };
    let google = match google {
        Ok(google) => google,
        Err(fault) => {
            let advice = match &emulators.pubsub {
                Some(_) => {
                    "start the emulators where PUBSUB_EMULATOR_HOST and FIRESTORE_EMULATOR_HOST say, or unset them"
                }
                None => "see `credentials`, and look at the network between here and Google",
            };
            return note(failure("clients", format!("{:#}", fault.error), advice));
        }
    };
    note(within("topics", broker(configuration, declarations)).await);
    note(within("database", database(&google)).await);
    note(within("telling", telling(&*google.firestore)).await);
    if emulators.firestore.is_some() {
        note(ok("indexes", "cannot be told: the emulator answers without them"));
    } else {
        note(within("indexes", indexes(&google, declarations)).await);
    }
    note(within("warehouse", warehouse(configuration, &emulators, &google, declarations)).await);
}

/// A key is good for ever, and for whoever has it.
const KEYLESS: &str =
    "run as the account (Workload Identity, the metadata server), or impersonate it, and delete the key";

async fn credentials() -> Checked {
    let advice = "run `gcloud auth application-default login`, or run as a service account";
    let credentials = match environment_credentials() {
        Ok(credentials) => credentials,
        Err(error) => return failure("credentials", error.to_string(), advice),
    };
    match credentials.headers(http::Extensions::new()).await {
        Ok(_) => match backend::service_account_key() {
            Some(file) => warning("credentials", format!("{file} is the key of a service account"), KEYLESS),
            None => ok("credentials", "found, and Google gave a token for them"),
        },
        Err(error) => failure("credentials", error.to_string(), advice),
    }
}

async fn broker(configuration: &Configuration, declarations: &Declarations) -> Checked {
    let admin = match topics::admin(configuration).await {
        Ok(admin) => admin,
        Err(fault) => return failure("topics", format!("{:#}", fault.error), "see `credentials`"),
    };
    let found = match admin.found(true).await {
        Ok(found) => found,
        Err(error) => {
            return failure(
                "topics",
                error.to_string(),
                "the service account needs roles/pubsub.viewer on the project",
            );
        }
    };
    let findings = findings(&declarations.topology, &found, &topics::places(configuration, false));
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    let words = format!("{errors} errors, {} warnings", findings.len() - errors);
    match (errors, findings.len()) {
        (0, 0) => ok("topics", "the broker has what topics.yaml declares"),
        (0, _) => warning("topics", words, "see `tipoff topics check`"),
        _ => failure("topics", words, "see `tipoff topics check`, then `tipoff topics apply`"),
    }
}

async fn database(google: &backend::Google) -> Checked {
    let before = Clock::System.now();
    let server = match google.firestore.try_writing(before).await {
        Ok(server) => server,
        Err(error) => {
            let advice = "make the database (`gcloud firestore databases create`), and grant roles/datastore.user";
            return failure("database", error.to_string(), advice);
        }
    };
    let skew = ahead_of(server, before, Clock::System.now()).abs();
    if skew > SKEW_MAX {
        let found = format!("writes; our clock is {} s off the server's", skew.as_secs());
        return warning("database", found, "set the clock by NTP: deadlines are counted on it");
    }
    ok("database", "writes, and its clock is ours")
}

async fn indexes(google: &backend::Google, declarations: &Declarations) -> Checked {
    let Some(pipeline) = declarations.pipelines.keys().next() else { return ok("indexes", "no pipeline asks") };
    let failed = google.firestore.try_queries(pipeline, Clock::System.now()).await;
    if failed.is_empty() {
        return ok("indexes", "every query is answered");
    }
    let found: Vec<String> = failed.iter().map(|(query, error)| format!("{query}: {error}")).collect();
    failure("indexes", found.join("; "), "deploy deploy/firestore.indexes.json; a new index takes minutes to be ready")
}

async fn warehouse(
    configuration: &Configuration,
    emulators: &Emulators,
    google: &backend::Google,
    declarations: &Declarations,
) -> Checked {
    if !configuration.google.bigquery {
        return ok("warehouse", "BigQuery is switched off");
    }
    if emulators.pubsub.is_some() && emulators.bigquery.is_none() {
        return warning(
            "warehouse",
            "left alone beside emulators",
            "set BIGQUERY_EMULATOR_HOST, or google.bigquery: false",
        );
    }
    let probed = declarations.pipelines.iter().find_map(|(id, pipeline)| Some((id, pipeline.probes.keys().next()?)));
    let Some((pipeline, node)) = probed else { return ok("warehouse", "no node is probed") };
    let now = Clock::System.now();
    let date = declarations.pipelines[pipeline].graph.date_at(now);
    match google.warehouse.coverage(pipeline, node, date, now).await {
        Answer::Known { .. } | Answer::NotKept => ok("warehouse", format!("answers about {node}")),
        Answer::Unknown(why) => {
            let advice = "where a table is missing, make it; else grant roles/bigquery.jobUser on the project, and \
                dataViewer and dataEditor on the datasets";
            warning("warehouse", why, advice)
        }
    }
}
