//! `tipoff serve`: the service, on the embedded backend or on Google Cloud. Its declarations are read again on SIGHUP, or when
//! an administrator says so, and applied where nothing is lost by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use super::at_work::{AGAIN_AFTER, AtWork, Entrance, begun_anew, replaced};
use super::effective::Effective;
use super::generation::{Generation, Prepared, Standing, is_away};
use super::plan::{differences_of, settings_differences};
use super::say::say;
use super::{Common, Door, Fault, Verdict, backend, telemetry};
use crate::adapter::channel;
use crate::adapter::egress;
use crate::adapter::embedded::{Durability, Embedded};
use crate::adapter::google::services::Services;
use crate::clock::Clock;
use crate::configuration::{self, Backend, Configuration};
use crate::crash::{self, Place};
use crate::desk::day;
use crate::diagnostic::suggestion;
use crate::domain::shadow::Role;
use crate::http::caller::{Callers, Refusal};
use crate::http::guard::Guard;
use crate::http::probe::not_begun;
use crate::http::reload::{Reload, Why};
use crate::http::server::{self, Limits};
use crate::pipeline::Declarations;
use crate::telemetry::log;

/// Who asks where a signal does.
const SIGNAL: &str = "SIGHUP";

/// How long the end may take: Cloud Run kills after ten seconds.
const END_MAX: Duration = Duration::from_secs(8);

/// `tipoff serve`
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    door: Door,
    /// Push to a subscription or service of the embedded broker: NAME=http://host:port, repeatable
    #[arg(long = "push", value_name = "NAME=URL", value_parser = target)]
    targets: Vec<(String, reqwest::Url)>,
    /// How long a heartbeat may wait to be committed with others [default: 1s, and 15s on Google Cloud]
    #[arg(long, value_name = "DURATION", value_parser = lasting)]
    heartbeat_flush: Option<String>,
    /// How long settled messages, sent dispatches and the journal are kept [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = lasting)]
    keep: Option<String>,
    /// Send only what these phases are asked, and decide the rest without sending it; `none` for nothing [default: all]
    #[arg(long, value_name = "PHASE", value_delimiter = ',')]
    send: Vec<String>,
    /// Tell people of alerts over the declared channels, in the shadow as well
    #[arg(long)]
    tell: bool,
    /// What a line of the log looks like [default: gcp on Cloud Run and on Kubernetes, else text]
    #[arg(long, env = "TIPOFF_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    log_format: Option<log::Form>,
    /// The same as --log-format json
    #[arg(long, conflicts_with = "log_format")]
    log_json: bool,
}

fn lasting(text: &str) -> Result<String, String> {
    configuration::span(text).map(|_| text.to_owned())
}

fn target(text: &str) -> Result<(String, reqwest::Url), String> {
    let (name, url) = text.split_once('=').ok_or("write NAME=http://host:port")?;
    let url: reqwest::Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{url}: only http and https are spoken"));
    }
    egress::declared(&url).map_err(|refused| format!("{url}: {refused}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        let shown = configuration::shown_url(url.as_str());
        return Err(format!(
            "{shown}: a name or a password in it would be seen in the list of processes, so none is taken"
        ));
    }
    Ok((name.to_owned(), url))
}

impl Serve {
    /// What a line of the log looks like.
    pub fn log_form(&self) -> log::Form {
        let in_cloud = ["K_SERVICE", "KUBERNETES_SERVICE_HOST"].iter().any(|name| std::env::var_os(name).is_some());
        let usual = if in_cloud { log::Form::Gcp } else { log::Form::Text };
        if self.log_json { log::Form::Json } else { self.log_format.unwrap_or(usual) }
    }

    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let prepared = self.prepare(common, None)?;
        let configuration = &prepared.configuration;
        keep_out_of_dumps();
        prepared.effective.log();
        if let Some(notice) = prepared.role.notice() {
            tracing::warn!("{notice}");
        }
        let listener = TcpListener::bind(configuration.listen)
            .await
            .map_err(|error| Fault::unusable(anyhow::anyhow!("listen on {}: {error}", configuration.listen)))?;
        let embedded = match configuration.backend {
            Backend::Embedded => {
                Some(Arc::new(Embedded::open(&configuration.data, Durability::Full).map_err(Fault::unusable)?))
            }
            Backend::Google => None,
        };
        let (reload, mut reloads) = mpsc::channel(1);
        let standing = Standing {
            targets: self.targets.clone(),
            telemetry: telemetry::start(configuration, &prepared.effective)?,
            name: uuid::Uuid::new_v4().to_string(),
            reload,
            embedded,
        };
        let signalled = |kind| signal(kind).map_err(Fault::unusable);
        let mut hangup = signalled(SignalKind::hangup())?;
        let ends = [signalled(SignalKind::terminate())?, signalled(SignalKind::interrupt())?];
        let (over, mut is_over) = watch::channel(false);
        tokio::spawn(end_when_told(ends, over));
        let (end, ending) = watch::channel(false);
        let begin = async || Generation::begin(&standing, &prepared, ("serve", "it was started")).await;
        let mut begun = begin().await;
        let entrance = Arc::new(match &begun {
            Ok(generation) => Entrance::to(generation.router.clone()),
            // To end would only have it started again, over and over, with nobody to ask.
            Err(fault) if is_away(&standing, fault) => Entrance::to(not_begun()),
            Err(_) => return begun.map(|_| Verdict::Holds),
        });
        let server = listen(Arc::clone(&entrance), listener, ending, self.log_form())?;
        while let Err(fault) = begun {
            if !is_away(&standing, &fault) {
                return Err(fault);
            }
            tracing::error!("nothing can be served yet, and is tried again: {:#}", fault.error);
            tokio::select! {
                biased;
                _ = is_over.wait_for(|over| *over) => {
                    end.send_replace(true);
                    closed(server).await;
                    return Ok(Verdict::Holds);
                }
                () = tokio::time::sleep(AGAIN_AFTER) => {}
            }
            begun = begin().await;
        }
        let generation = begun?;
        entrance.lead(&generation.router).await;
        let mut at_work = AtWork { generation, prepared };
        loop {
            let asked = tokio::select! {
                biased;
                _ = is_over.wait_for(|over| *over) => break,
                () = at_work.generation.engine.set_back.notified() => {
                    at_work = begun_anew(&standing, at_work, &entrance).await;
                    continue;
                }
                _ = hangup.recv() => None,
                asked = reloads.recv() => asked,
            };
            let (actor, reason) = match &asked {
                Some(asked) => (asked.actor.clone(), asked.reason.clone()),
                None => (SIGNAL.to_owned(), "a signal asked for it".to_owned()),
            };
            let answer = match self.change(common, &at_work, asked.as_ref()).await {
                Ok((prepared, told)) => {
                    let refused;
                    (at_work, refused) = replaced(&standing, at_work, prepared, (&actor, &reason), &entrance).await;
                    refused.map_or(Ok(told), Err)
                }
                Err(why) => Err(why),
            };
            match &answer {
                Ok(told) if told["applied"] == true => {
                    tracing::info!(actor, reason, "the files were read again, and what has changed in them is in force")
                }
                Ok(_) => {
                    tracing::info!(actor, reason, "the files were read again, and say the same; secrets may be others")
                }
                Err(why) => tracing::error!(actor, reason, "the declarations stay as they are: {why}"),
            }
            // Whoever asks is answered; to a signal there is no answer.
            match &answer {
                Ok(_) => at_work.generation.engine.reloaded(None),
                Err(why) if asked.is_none() => at_work.generation.engine.reloaded(Some(in_short(why))),
                Err(_) => {}
            }
            if let Some(asked) = asked {
                // Whoever has asked may have gone.
                let _ = asked.answer.send(answer);
            }
        }
        tracing::info!("draining: what has been received is settled, then the service ends");
        crash::at(Place::Drain);
        end.send_replace(true);
        let engine = at_work.generation.engine.clone();
        at_work.generation.end().await;
        crash::at(Place::Drain);
        engine.leave().await;
        closed(server).await;
        crash::at(Place::Drain);
        if standing.embedded.is_some() {
            let data = at_work.prepared.configuration.data;
            let _ = tokio::task::spawn_blocking(move || Embedded::fold(&data)).await;
        }
        standing.telemetry.end().await;
        Ok(Verdict::Holds)
    }

    /// Reads everything there is to read, and says what is wrong with it before anything is opened.
    fn prepare(&self, common: &Common, before: Option<&Prepared>) -> Result<Prepared, Fault> {
        let configuration = self.configuration(common)?;
        let mut callers = Callers::of(&configuration).map_err(Fault::usage)?;
        if let Some(before) = before {
            callers.go_on_from(before.guard.callers());
        }
        let declarations = Arc::new(common.declarations()?);
        Services::check(&configuration.services).map_err(Fault::usage)?;
        channel::declared(&configuration.alerts).map_err(Fault::usage)?;
        channel::known(&configuration.alerts, &declarations).map_err(Fault::usage)?;
        if let (Backend::Google, Some(file)) = (configuration.backend, backend::service_account_key()) {
            tracing::warn!(
                "{file} is the key of a service account, which is good for ever and for whoever has it: run as the account \
                 (Workload Identity, the metadata server), or impersonate it"
            );
        }
        self.targets_of(&configuration, &declarations)?;
        let role = role_of(&configuration, &declarations)?;
        let effective = Effective::of(common, &configuration)?;
        let declared = common.declared()?;
        let guard = Arc::new(Guard::new(callers, configuration.access.origin.as_deref()));
        // Whoever runs a pipeline tells people of it, and a shadow only if somebody wants to hear it as well.
        let tells = self.tell || !configuration.shadow;
        let settings = Arc::new(common.settings()?.unwrap_or_else(|| Configuration::default().shown()));
        Ok(Prepared { configuration, declarations, role, tells, effective, settings, declared, guard })
    }

    /// Whether there is anybody to push for.
    fn targets_of(&self, configuration: &Configuration, declarations: &Declarations) -> Result<(), Fault> {
        for (name, _) in &self.targets {
            let is_service = declarations.pipelines.values().any(|pipeline| pipeline.services.contains_key(name));
            let why = match configuration.backend {
                _ if configuration.shadow => "a shadow sends nothing to anybody".to_owned(),
                Backend::Google => {
                    "on Google Cloud the broker pushes; where services are called directly is said in tipoff.yaml"
                        .to_owned()
                }
                Backend::Embedded if is_service || declarations.topology.subscription(name).is_some() => continue,
                Backend::Embedded => {
                    let topics = declarations.topology.topics();
                    let subscriptions =
                        topics.flat_map(|(_, topic)| topic.subscriptions().map(|(name, _)| name.as_str()));
                    let pipelines = declarations.pipelines.values();
                    let services = pipelines.flat_map(|pipeline| pipeline.services.keys().map(|name| name.as_str()));
                    let hint = crate::diagnostic::suggestion(name, subscriptions.chain(services));
                    format!("no such subscription or service{hint}; topics.yaml and pipeline.yaml name them")
                }
            };
            return Err(Fault::usage(anyhow::anyhow!("--push {name}: {why}")));
        }
        Ok(())
    }

    /// What the files say now, if it may be applied. Where they say the same, secrets may be others, which are in no digest.
    async fn change(
        &self,
        common: &Common,
        at_work: &AtWork,
        asked: Option<&Reload>,
    ) -> Result<(Prepared, Value), Why> {
        let accept = asked.is_some_and(|asked| asked.accept);
        let before = &at_work.prepared;
        let prepared = self.prepare(common, Some(before)).map_err(|fault| Why::Wrong(format!("{:#}", fault.error)))?;
        if let Some(what) = fixed(&before.configuration, &prepared.configuration) {
            return Err(Why::Fixed(what));
        }
        // A file that is gone would be replaced by what is built in, in silence; and with it, who may call.
        if before.effective.sources != prepared.effective.sources {
            let (were, are) = (&before.effective.sources, &prepared.effective.sources);
            return Err(Why::Wrong(format!(
                "the files are not those that were read before: {were:?} have become {are:?}"
            )));
        }
        if prepared.guard.callers().is_open() && !before.guard.callers().is_open() {
            return Err(Why::Fixed("access"));
        }
        // Whoever is locked out could not take it back.
        if let Some(asked) = asked.filter(|_| !before.guard.callers().is_open()) {
            match prepared.guard.callers().caller(asked.by.headers()).await {
                Ok(caller) if caller.role.covers(configuration::Role::Admin) => {}
                Err(Refusal::Unavailable) => {
                    return Err(Why::Unknown("whether you could still call afterwards".to_owned()));
                }
                Ok(_) | Err(_) => return Err(Why::LocksOut),
            }
        }
        let file = |text: &crate::wire::kept::Text| (text.file.clone(), text.text.clone());
        let texts = |prepared: &Prepared| (file(&prepared.declared.0), file(&prepared.declared.1));
        let found = differences_of(&texts(before), &texts(&prepared));
        let mut found = found.map_err(|fault| Why::Wrong(format!("{:#}", fault.error)))?;
        found.extend(settings_differences(&before.settings, &prepared.settings));
        let revision = at_work.generation.engine.revise(&prepared.declarations).await;
        let revision = revision.map_err(|error| Why::Unknown(error.to_string()))?;
        let is_same = before.effective.digest == prepared.effective.digest;
        let told = json!({ "applied": !is_same, "digest": prepared.effective.digest, "differences": found,
            "revision": revision, "takes_away": revision.takes_away() });
        if revision.takes_away() && !accept && !is_same { Err(Why::TakesAway(told)) } else { Ok((prepared, told)) }
    }

    /// The configuration, with what only this command can be told.
    fn configuration(&self, common: &Common) -> Result<Configuration, Fault> {
        let mut configuration = self.door.configuration(common)?;
        if let Some(flush) = &self.heartbeat_flush {
            configuration.heartbeat_flush = Some(flush.clone());
        }
        if let Some(keep) = &self.keep {
            configuration.keep.clone_from(keep);
        }
        if !self.send.is_empty() {
            let none = self.send.iter().all(|phase| phase == "none");
            let phases = if none { Vec::new() } else { self.send.clone() };
            if configuration.shadow && !phases.is_empty() {
                return Err(Fault::usage(anyhow::anyhow!("--send: a shadow sends nothing; say it without --shadow")));
            }
            configuration.send = Some(phases);
        }
        Ok(configuration)
    }
}

/// Whether what is decided is sent.
/// Why the files are not at work, in a line, and what to do about it.
fn in_short(why: &Why) -> String {
    let text = why.to_string();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let more = match lines.count() {
        0 => String::new(),
        more => format!(" (and {more} lines more: `tipoff check` says all)"),
    };
    let mend = if matches!(why, Why::Wrong(_)) { "; mend them and send SIGHUP again" } else { "" };
    format!("{first}{more}{mend}")
}

fn role_of(configuration: &Configuration, declarations: &Declarations) -> Result<Role, Fault> {
    let declared: BTreeSet<&str> =
        declarations.pipelines.values().flat_map(|pipeline| day::phases(&pipeline.graph)).collect();
    for phase in configuration.send.iter().flatten() {
        if !declared.contains(phase.as_str()) {
            let near = suggestion(phase, declared.iter().copied());
            return Err(Fault::usage(anyhow::anyhow!("send: no pipeline has a phase `{phase}`{near}")));
        }
    }
    let sends = configuration.send.as_ref();
    let sends = sends.map(|phases| phases.iter().map(|phase| Arc::from(phase.as_str())).collect());
    Ok(Role { shadow: configuration.shadow, sends })
}

/// Keys of tipoff.yaml that are set once for the life of the process.
pub const FIXED: [&str; 6] = ["backend", "data", "listen", "google", "shadow", "telemetry"];

/// What is set once for the life of the process, and would be otherwise.
fn fixed(before: &Configuration, after: &Configuration) -> Option<&'static str> {
    let shown = [before.shown(), after.shown()];
    let differs = |key: &str| shown[0][key] != shown[1][key];
    FIXED.into_iter().find(|key| differs(key))
}

/// Serves HTTP until the service ends, and says where.
fn listen(
    entrance: Arc<Entrance>,
    listener: TcpListener,
    ending: watch::Receiver<bool>,
    form: log::Form,
) -> Result<tokio::task::JoinHandle<()>, Fault> {
    let address = listener.local_addr().map_err(Fault::unusable)?;
    let through = Router::new().fallback(move |request: Request| {
        let entrance = Arc::clone(&entrance);
        async move {
            let router = entrance.leads(request.uri().path()).await;
            router.oneshot(request).await
        }
    });
    let server = tokio::spawn(server::serve(listener, through, ending, Limits::default()));
    tracing::info!(%address, "listening");
    // The one line a script waits for. Where a platform collects what we write, it is an object as every other line is.
    let said = format!("listening on http://{address}");
    match form {
        log::Form::Text => say!("{said}"),
        log::Form::Json | log::Form::Gcp => {
            say!("{}", json!({ "severity": "INFO", "time": Clock::System.now(), "target": "tipoff", "message": said }))
        }
    }
    Ok(server)
}

/// Clients that keep their connection open do not keep us.
async fn closed(server: tokio::task::JoinHandle<()>) {
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
}

/// Has the service end when it is told to, within [`END_MAX`] whatever it is at; at once where it is told a second time. What is left
/// comes again, as after a kill.
async fn end_when_told([mut terminate, mut interrupt]: [Signal; 2], over: watch::Sender<bool>) {
    let mut told = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    told().await;
    over.send_replace(true);
    tokio::select! {
        () = told() => {
            tracing::warn!("ended at once: what was not settled comes again");
            std::process::exit(130);
        }
        () = tokio::time::sleep(END_MAX) => {
            tracing::warn!("it did not end in time; what was not settled comes again");
            std::process::exit(0);
        }
    }
}

/// The token that a call of ours carries, if there is one.
pub fn token(configuration: &Configuration) -> Result<Option<String>, Fault> {
    let (token, from) = match (&configuration.token_file, &configuration.token) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Fault::usage(anyhow::anyhow!("read {}: {error}", path.display())))?;
            // The first is as good as the others, and a digest is none.
            let token = text.split_whitespace().find(|word| !word.starts_with("sha256:"));
            (token.unwrap_or_default().to_owned(), path.display().to_string())
        }
        (None, Some(token)) => (token.reveal().to_owned(), "token".to_owned()),
        (None, None) => return Ok(None),
    };
    if token.len() < 16 {
        return Err(Fault::usage(anyhow::anyhow!("{from}: a token has at least 16 characters")));
    }
    Ok(Some(token))
}

/// A crash leaves no memory behind, in which tokens would be.
fn keep_out_of_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!("a crash may leave a dump with secrets in it: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_pushed_to_is_named_without_a_password() {
        assert_eq!(target("a=http://127.0.0.1:9/p").unwrap().1.path(), "/p");
        for url in ["http://bob:planted-secret@127.0.0.1:9/", "http://planted-secret@127.0.0.1:9/?key=planted-secret"] {
            let refused = target(&format!("a={url}")).unwrap_err();
            assert!(refused.contains("none is taken") && !refused.contains("planted-secret"), "{refused}");
        }
        assert!(target("a=http://169.254.169.254/").is_err());
    }
}
