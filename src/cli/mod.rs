//! The command line: one file per family of commands. Only here and in `main` is `anyhow` used.
//!
//! Exit codes: 0 it holds; 1 it does not (a check failed, an expectation was missed, a date is not complete);
//! 2 the call or a file was wrong; 3 the store or the service could not be used, or nobody keeps it up to date.

mod alerts;
mod at_work;
mod backend;
mod backfill;
mod backup;
mod carry;
mod check;
mod command;
mod dates;
mod demo;
mod dispatch;
mod dlq;
mod doctor;
mod effective;
mod forecast;
mod games;
mod generation;
mod graph;
mod impact;
mod import;
mod inspect;

mod load;
mod locks;
mod monitor;
mod paint;
mod plan;
mod reconcile;
mod replay;
mod run;
mod runs;
mod say;
mod serve;
mod shadow;
mod show;
mod sim;
mod simulate;
mod tables;
mod telemetry;
mod token;
mod topics;
mod whole;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use reqwest::Url;

use crate::adapter::call;
use crate::adapter::service::{self, Service};
use crate::clock::Clock;
use crate::configuration::{self, Backend, Configuration};
use crate::diagnostic::Problems;
use crate::domain::words;
use crate::pipeline::{self, Declarations};
use crate::telemetry::log;
use crate::topology::broker::OURSELVES;
use crate::wire::kept;

/// The orchestrator that a daily data pipeline runs on.
#[derive(Parser)]
#[command(
    name = "tipoff",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 it holds, 1 it does not, 2 the \
    call or a file was wrong, 3 the store or the service could not be used, or nobody keeps it up to date.\nDates: YYYY-MM-DD, today, yesterday, tomorrow, in the \
    pipeline's zone."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options every command understands.
#[derive(Args, Clone)]
#[command(next_help_heading = "Common options")]
struct Common {
    /// The messaging topology [default: ./topics.yaml if there, else the built-in one]
    #[arg(long, global = true, env = "TIPOFF_TOPICS", value_name = "FILE")]
    topics: Option<PathBuf>,
    /// The pipelines [default: ./pipeline.yaml if there, else the built-in ones]
    #[arg(long, global = true, env = "TIPOFF_PIPELINE_FILE", value_name = "FILE")]
    pipeline_file: Option<PathBuf>,
    /// Which pipeline
    #[arg(long, short, global = true, env = "TIPOFF_PIPELINE", default_value = "nba", value_name = "NAME")]
    pipeline: String,
    /// The configuration [default: ./tipoff.yaml if there]
    #[arg(long, global = true, env = "TIPOFF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where state is kept, and over what is talked [default: embedded]
    #[arg(long, global = true, env = "TIPOFF_BACKEND", value_enum)]
    backend: Option<Backend>,
    /// The Google Cloud project of --backend google
    #[arg(long, global = true, env = "GOOGLE_CLOUD_PROJECT", value_name = "PROJECT")]
    project: Option<String>,
    /// The directory in which the embedded store lives [default: tipoff-data]
    #[arg(long, global = true, env = "TIPOFF_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The shadow of a pipeline that others run: a store and subscriptions of its own, and nothing is sent
    #[arg(long, global = true, env = "TIPOFF_SHADOW")]
    shadow: bool,
    /// Ask the running service at this address over its API, instead of opening its store
    #[arg(long, global = true, env = "TIPOFF_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Open the store, though TIPOFF_SERVER names a service
    #[arg(long, global = true)]
    offline: bool,
    /// A file with a token: of the service, one that may do everything; of a call, the one that it carries
    #[arg(long, global = true, env = "TIPOFF_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token over http to another machine all the same, where whoever is on the way can read it
    #[arg(long, global = true, env = "TIPOFF_INSECURE_HTTP")]
    insecure_http: bool,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Log filter, as `info` or `tipoff=debug` [default: warn, and info for serve]
    #[arg(long, global = true, env = "TIPOFF_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// The service that is asked, once it has said what it decides on.
    #[arg(skip)]
    served: Option<Arc<Service>>,
    /// What was typed, and does not come from the environment or by default.
    #[arg(skip)]
    typed: Typed,
}

/// What the names of a shadow's subscriptions begin with.
const SHADOW_PREFIX: &str = "shadow-";

/// Options of which it matters who gave them.
#[derive(Clone, Copy, Default)]
struct Typed {
    server: bool,
    pipeline: bool,
    /// Which store, or where.
    store: bool,
}

impl Typed {
    fn of(matches: &ArgMatches) -> Self {
        let typed = |name: &str| is_typed(matches, name);
        let store = (typed("data") || typed("backend") || typed("project")) && typed("server");
        Self { server: typed("server"), pipeline: typed("pipeline"), store }
    }
}

fn is_typed(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
        || matches.subcommand().is_some_and(|(_, below)| is_typed(below, name))
}

/// Where a service is.
fn address(text: &str) -> Result<Url, String> {
    let mut url: Url = text.parse().map_err(|error| format!("{error}; write http://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("only http and https are spoken; write http://host:port".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("an address, and nothing that is a secret or a question: --token-file names a token".to_owned());
    }
    // It may be served below a path, to which other paths are added.
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Where the service answers, and whom: what it would be told, and what is shown and checked of it.
#[derive(Args, Clone)]
struct Door {
    /// Where to listen; anything but loopback needs to know who may call [default: 127.0.0.1:8085]
    #[arg(long, env = "TIPOFF_LISTEN", value_name = "ADDRESS", value_parser = configuration::listen)]
    listen: Option<SocketAddr>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service, on the embedded store or on Google Cloud
    Serve(serve::Serve),
    /// Play a recorded day through the real engine, sped up
    Demo(demo::Demo),
    /// Run scenario files on a virtual clock; exits 0 only if every expectation holds
    Simulate(simulate::Simulate),
    /// Play schedules drawn from seeds, in which anything may go wrong, and see whether the laws hold in all of them
    Sim(sim::Sim),
    /// What a shadow decided beside what really ran
    Shadow(shadow::Shadow),
    /// Validate topics.yaml and pipeline.yaml
    Check,
    /// Print the configuration as it is understood, where it comes from and in what it differs from the built-in one,
    /// without secrets
    Config(Door),
    /// Compare topics.yaml with the broker of a Google Cloud project, and bring it in line
    Topics(topics::Topics),
    /// Put a report out of a file into the embedded warehouse, beside a running service or without one
    Import(import::Import),
    /// Send a running service the completions and heartbeats of a declared pipeline, and measure its answers; it believes them
    Load(load::Load),
    /// Create the history's tables in BigQuery; what is there is left as it is
    Tables,
    /// Copy the embedded store into a file, beside a running service
    Backup(backup::Backup),
    /// Put such a copy in the place of the embedded store
    Restore(backup::Restore),
    /// Bring a store of an earlier version to this one's layout, with a copy made first
    Migrate(backup::Migrate),
    /// Check what the service needs: declarations, store, credentials, topics, indexes; exits 1 on a failure
    Doctor(doctor::Doctor),
    /// Where every node of a date stands; exits 1 unless all that is required is done, 3 if nobody keeps that up to date
    Status(inspect::Status),
    /// Why a node has or has not run
    Why(inspect::Why),
    /// What happened on a date, in order
    Timeline(inspect::Timeline),
    /// A date as it stood at an instant, or after an entry of its journal; exits 1 where that is not known any more
    Show(show::Show),
    /// Write everything about a date into one file, or as a scenario
    Capsule(replay::MakeCapsule),
    /// Decide recorded dates again, or play them on a changed declaration; exits 1 where the same declaration decides otherwise
    Replay(replay::Replay),
    /// What a node holds up that is late or never comes: nodes, dates, games, and the time left until a deadline
    Impact(impact::NodeImpact),
    /// The games of a date: when they begin, how they stand, who says so, and what each is short of
    Games(games::Games),
    /// Who is at work; with --stuck, --failed or --storm: what wants somebody's eye, and exits 1 where something does
    Runs(runs::Runs),
    /// What is believed of a date beside what the warehouse says of it; exits 1 where they differ
    Reconcile(reconcile::Reconcile),
    /// Who occupies a node, and until when that is believed
    Locks(locks::Locks),
    /// Batches that stand still: how far they are, and a word on how they go on
    Batch(locks::Batch),
    /// Whether every game of a date has enough predictions; exits 1 where one has not
    Coverage(monitor::GameCoverage),
    /// When each node of a date will be ready, and what will stand at each game's deadline; exits 1 where too little will
    Forecast(forecast::DateForecast),
    /// What is missing of a season, as ranges of game days; exits 1 where something is
    Gaps(backfill::Gaps),
    /// Plan, start, watch and end the making of what is missing
    Backfill(backfill::Backfill),
    /// How new the teams' rosters are; exits 1 where one is too old or missing
    Rosters(monitor::RosterCoverage),
    /// How far the phases of a date are; exits 1 unless all is done
    Health(monitor::PipelineHealth),
    /// What is on, whom tipoff told of it, and whether the ways to tell people work
    Alerts(alerts::Alerts),
    /// What nobody could process: look at it, correct it, replay it, discard it
    Dlq(dlq::Dlq),
    /// Tell nobody of an alert, or of a topic, for a while; it is told again if it is still on then
    Mute(alerts::MuteFor),
    /// End a mute
    Unmute(alerts::Unmute),
    /// What the declarations here would change in those in force, and in the dates in flight; exits 1 where something is lost
    Plan(plan::Plan),
    /// Have the running service read its declarations again, and go by them; exits 2 where it refuses
    Reload(plan::Reload),
    /// The dependency graph
    Graph(graph::Graph),
    /// Stop dispatching a node, a date, or a whole pipeline
    Hold(command::Hold),
    /// End a hold
    Resume(command::Resume),
    /// Go on past one named input, gate or check that stands in the way of a node
    Force(command::Force),
    /// Run a node again, whatever its budget, as soon as its dependencies allow
    Retry(command::NodeTarget),
    /// Send a node what it is sent, checked: shows the messages and what follows, and sends with --apply
    Dispatch(dispatch::DispatchNode),
    /// Count a node as not required for a date
    Skip(command::NodeTarget),
    /// Know a game better than the schedule does: its status or its hour, for a while
    Game(command::Game),
    /// Make a token that nobody can guess, and its SHA-256: the caller gets the first line, `access` in tipoff.yaml the second
    Token,
    /// Run a job so that tipoff watches it: heartbeats, progress, completion; exits as the job does
    Run(run::Run),
    /// Print shell completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command, into a directory; without one, print the first to standard output
    Man {
        /// Where to
        #[arg(value_name = "DIR")]
        into: Option<PathBuf>,
    },
}

/// Of what a command speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A store, or a running service over its API.
    Either,
    /// A running service, to which it sends messages; or nothing but a file.
    Sends,
    /// What is on this machine, or in a project of Google's.
    Here,
}

impl Command {
    fn reach(&self) -> Reach {
        match self {
            Self::Run(_) | Self::Load(_) => Reach::Sends,
            Self::Alerts(alerts) if alerts.is_here() => Reach::Here,
            Self::Replay(replay) if replay.is_of_a_file() => Reach::Sends,
            Self::Serve(_)
            | Self::Demo(_)
            | Self::Simulate(_)
            | Self::Sim(_)
            | Self::Check
            | Self::Config(_)
            | Self::Topics(_)
            | Self::Import(_)
            | Self::Tables
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Migrate(_)
            | Self::Doctor(_)
            | Self::Token
            | Self::Completions { .. }
            | Self::Man { .. } => Reach::Here,
            _ => Reach::Either,
        }
    }
}

/// What a command came to.
enum Verdict {
    Holds,
    Fails,
    /// What was found is told, and cannot be relied on: nobody keeps it up to date.
    Stale,
    /// What somebody else's job came to.
    Code(u8),
}

/// A failure with its exit code.
#[derive(Debug)]
struct Fault {
    code: u8,
    error: anyhow::Error,
}

impl Fault {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into() }
    }

    fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 3, error: error.into() }
    }

    /// What a service has said to a call.
    fn called(error: service::Error) -> Self {
        if error.is_refusal() { Self::usage(error) } else { Self::unusable(error) }
    }

    /// Somebody ended it before its end; the code is the one shells give.
    fn interrupted() -> Self {
        Self { code: 130, error: anyhow::anyhow!("interrupted") }
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    // Two are linked, by different clients, and without a choice TLS would have none. A second choice is refused.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.common.typed = Typed::of(&matches);
        Ok(cli)
    });
    let Cli { mut common, command } = match parsed {
        Ok(cli) => cli,
        // Help and version are our own words; a complaint repeats what was typed.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let why = words::harmless_lines(&error.render().to_string());
            if std::env::args_os().any(|argument| argument == "--json") {
                say::say!("{}", serde_json::json!({ "error": why.trim_end(), "code": 2 }));
            }
            eprint!("{why}");
            return ExitCode::from(2);
        }
    };
    let level = match (&common.log, &command) {
        (Some(filter), _) => filter.clone(),
        (None, Command::Serve(_)) => "info,firestore=warn,gcloud_sdk=warn,google_cloud_pubsub=warn".to_owned(),
        // What a simulated day alerts about is on its own screen.
        (None, Command::Demo(_) | Command::Simulate(_) | Command::Replay(_)) => "off".to_owned(),
        (None, _) => "error".to_owned(),
    };
    let form = match &command {
        Command::Serve(serve) => serve.log_form(),
        _ => log::Form::Text,
    };
    let project = common.project.clone().filter(|project| !project.is_empty());
    if let Err(error) = log::start(&level, form, paint::wanted(&std::io::stderr()), project) {
        eprintln!("tipoff: --log {}: {}", words::harmless(&level), words::harmless(&error.to_string()));
        return ExitCode::from(2);
    }
    let may_ask = matches!(command.reach(), Reach::Either);
    let result = match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tipoff", &mut script);
            say::print_with(|out| out.write_all(&script));
            Ok(Verdict::Holds)
        }
        Command::Man { into } => manual(into.as_deref()),
        command => match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => {
                let result = runtime.block_on(async {
                    common.connect(&command).await?;
                    run(command, &common).await
                });
                // A name that is looked up in vain would hold up the end.
                runtime.shutdown_background();
                result
            }
            Err(error) => Err(Fault::unusable(error)),
        },
    };
    match result {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Fails) => ExitCode::from(1),
        Ok(Verdict::Stale) => ExitCode::from(3),
        Ok(Verdict::Code(code)) => ExitCode::from(code),
        Err(fault) => {
            if common.json {
                say::say!("{}", serde_json::json!({ "error": format!("{:#}", fault.error), "code": fault.code }));
            }
            eprintln!("tipoff: {}", words::harmless_lines(&format!("{:#}", fault.error)));
            // At night, with a file that somebody has just broken.
            if may_ask && common.served.is_none() && fault.error.is::<Problems>() {
                eprintln!("tipoff: a running service goes on with what it had: say --server URL to ask it instead");
            }
            ExitCode::from(fault.code)
        }
    }
}

/// The manual, as `man` reads it.
fn manual(into: Option<&std::path::Path>) -> Result<Verdict, Fault> {
    let Some(into) = into else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Fault::unusable)?;
        say::print_with(|out| out.write_all(&page));
        return Ok(Verdict::Holds);
    };
    let told = |error| Fault::usage(anyhow::anyhow!("write manual pages to {}: {error}", into.display()));
    std::fs::create_dir_all(into).map_err(told)?;
    clap_mangen::generate_to(Cli::command(), into).map_err(told)?;
    Ok(Verdict::Holds)
}

fn config(door: &Door, common: &Common) -> Result<Verdict, Fault> {
    let configuration = door.configuration(common)?;
    let mut shown = configuration.shown();
    shown["effective"] = serde_json::json!(effective::Effective::of(common, &configuration)?);
    // YAML's own writer is no dependency of ours, and JSON is YAML.
    say::say!("{}", if common.json { shown.to_string() } else { format!("{shown:#}") });
    Ok(Verdict::Holds)
}

async fn run(command: Command, common: &Common) -> Result<Verdict, Fault> {
    match command {
        Command::Serve(serve) => serve.run(common).await,
        Command::Run(run) => run.run(common).await,
        Command::Demo(demo) => demo.run(common).await,
        Command::Simulate(simulate) => simulate.run(common).await,
        Command::Sim(sim) => sim.run(common),
        Command::Topics(topics) => topics.run(common).await,
        Command::Import(import) => import.run(common).await,
        Command::Load(load) => load.run(common).await,
        Command::Tables => tables::create(common).await,
        Command::Backup(backup) => backup.run(common).await,
        Command::Restore(restore) => restore.run(common).await,
        Command::Migrate(migrate) => migrate.run(common).await,
        Command::Shadow(shadow) => shadow.run(common).await,
        Command::Doctor(doctor) => doctor.run(common).await,
        Command::Status(status) => status.run(common).await,
        Command::Why(why) => why.run(common).await,
        Command::Timeline(timeline) => timeline.run(common).await,
        Command::Show(show) => show.run(common).await,
        Command::Capsule(capsule) => capsule.run(common).await,
        Command::Replay(replay) => replay.run(common).await,
        Command::Impact(impact) => impact.run(common).await,
        Command::Games(games) => games.run(common).await,
        Command::Runs(runs) => runs.run(common).await,
        Command::Dispatch(dispatch) => dispatch.run(common).await,
        Command::Reconcile(reconcile) => reconcile.run(common).await,
        Command::Locks(locks) => locks.run(common).await,
        Command::Batch(batch) => batch.run(common).await,
        Command::Coverage(coverage) => coverage.run(common).await,
        Command::Forecast(forecast) => forecast.run(common).await,
        Command::Gaps(gaps) => gaps.run(common).await,
        Command::Backfill(backfill) => backfill.run(common).await,
        Command::Rosters(rosters) => rosters.run(common).await,
        Command::Health(health) => health.run(common).await,
        Command::Alerts(alerts) => alerts.run(common).await,
        Command::Dlq(dlq) => dlq.run(common).await,
        Command::Mute(mute) => mute.run(common).await,
        Command::Unmute(unmute) => unmute.run(common).await,
        Command::Hold(hold) => hold.run(common).await,
        Command::Resume(resume) => resume.run(common).await,
        Command::Force(force) => force.run(common).await,
        Command::Retry(target) => target.retry(common).await,
        Command::Skip(target) => target.skip(common).await,
        Command::Game(game) => game.run(common).await,
        Command::Check => check::check(common),
        Command::Config(door) => config(&door, common),
        Command::Plan(plan) => plan.run(common).await,
        Command::Reload(reload) => reload.run(common).await,
        Command::Graph(graph) => graph.run(common),
        Command::Token => token::make(common),
        Command::Completions { .. } | Command::Man { .. } => Ok(Verdict::Holds),
    }
}

/// A declaration file's name and text.
type File = (String, String);

/// The declaration file given, the one in this directory, or the built-in one.
fn text(given: Option<&PathBuf>, name: &str, built_in: &str) -> Result<File, Fault> {
    let path = match given {
        Some(path) => path.clone(),
        None if std::path::Path::new(name).is_file() => PathBuf::from(name),
        None => return Ok((format!("built-in {name}"), built_in.to_owned())),
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Fault::usage(anyhow::anyhow!("read {}: {error}", path.display())))?;
    Ok((path.display().to_string(), text))
}

impl Door {
    /// The configuration, with this door.
    fn configuration(&self, common: &Common) -> Result<Configuration, Fault> {
        let mut configuration = common.configuration()?;
        if let Some(listen) = self.listen {
            configuration.listen = listen;
        }
        Ok(configuration)
    }
}

impl Common {
    /// The configuration: what the flags and the environment say over what the file says.
    fn configuration(&self) -> Result<Configuration, Fault> {
        let (name, text) = text(self.config.as_ref(), configuration::FILE, "")?;
        let mut configuration = Configuration::read(&name, &text).map_err(Fault::usage)?;
        if let Some(backend) = self.backend {
            configuration.backend = backend;
        }
        if let Some(data) = &self.data {
            configuration.data.clone_from(data);
        }
        if let Some(file) = self.token_file.as_ref().filter(|file| !file.as_os_str().is_empty()) {
            configuration.token_file = Some(file.clone());
            configuration.token = None;
        }
        // A variable that is set to nothing says nothing.
        if let Some(project) = self.project.as_ref().filter(|project| !project.is_empty()) {
            configuration.google.project = Some(project.clone());
        }
        let shadow = self.shadow || configuration.shadow;
        Ok(if shadow { configuration.in_the_shadow() } else { configuration })
    }

    /// What the file of the settings here says, as it may be shown; nothing where there is no file.
    fn settings(&self) -> Result<Option<serde_json::Value>, Fault> {
        if self.config.is_none() && !std::path::Path::new(configuration::FILE).is_file() {
            return Ok(None);
        }
        let (name, text) = text(self.config.as_ref(), configuration::FILE, "")?;
        Ok(Some(Configuration::read(&name, &text).map_err(Fault::usage)?.shown()))
    }

    /// Whose time counts: the service's, where one is asked.
    fn clock(&self) -> Clock {
        self.served.as_ref().map_or(Clock::System, |service| service.clock.clone())
    }

    /// The service that is to be asked; none where its store is opened. A variable that is set to nothing says nothing.
    fn server(&self) -> Result<Option<Url>, Fault> {
        let named = self.server.as_deref().filter(|named| !self.offline && !named.is_empty());
        let whose = if self.typed.server { "--server" } else { "TIPOFF_SERVER" };
        named.map(address).transpose().map_err(|why| Fault::usage(anyhow::anyhow!("{whose}: {why}")))
    }

    /// The token that a call to `url` carries, if there is one: to another machine over https only, or where that is wanted.
    fn token_for(&self, url: &Url, configuration: &Configuration) -> Result<Option<String>, Fault> {
        let token = serve::token(configuration)?;
        if token.is_some() && url.scheme() == "http" && !call::is_loopback(url) && !self.insecure_http {
            let why = format!(
                "{url} is another machine, and whoever is on the way there would read the token: write https, or the address \
                 of a tunnel on 127.0.0.1; --insecure-http sends it all the same"
            );
            return Err(Fault::usage(anyhow::anyhow!(why)));
        }
        Ok(token)
    }

    /// Connects to the service that is to be asked, where one is.
    async fn connect(&mut self, command: &Command) -> Result<(), Fault> {
        if self.offline && self.typed.server {
            return Err(Fault::usage(anyhow::anyhow!(
                "--server asks a service, --offline opens its store: say one of them"
            )));
        }
        let Some(url) = self.server()? else { return Ok(()) };
        let url = &url;
        match command.reach() {
            Reach::Either => {}
            // It sends to the service, and reads nothing of it.
            Reach::Sends => return Ok(()),
            Reach::Here if self.typed.server => {
                let why = "--server: this command works on this machine alone, and asks no service";
                return Err(Fault::usage(anyhow::anyhow!(why)));
            }
            Reach::Here => {
                if !matches!(command, Command::Check | Command::Serve(_) | Command::Demo(_) | Command::Simulate(_)) {
                    eprintln!("tipoff: TIPOFF_SERVER is not asked by this command, which looks at this machine");
                }
                return Ok(());
            }
        }
        if self.typed.store {
            let why = "--server asks a service, which has its own store: leave out --data, --backend and --project";
            return Err(Fault::usage(anyhow::anyhow!(why)));
        }
        let token = self.token_for(url, &self.configuration()?)?;
        let service = Service::connect(url, token, &Clock::System).await.map_err(Fault::unusable)?;
        let (theirs, ours) = (&service.declared.version, env!("CARGO_PKG_VERSION"));
        if theirs != ours {
            let theirs = words::harmless(theirs);
            eprintln!("tipoff: {url} is version {theirs}, this is {ours}: what it keeps may be read differently");
        }
        self.served = Some(Arc::new(service));
        Ok(())
    }

    fn texts(&self) -> Result<(File, File), Fault> {
        if let Some(service) = &self.served {
            let file = |text: &kept::Text| (text.file.clone(), text.text.clone());
            return Ok((file(&service.declared.topics), file(&service.declared.pipelines)));
        }
        self.own_texts()
    }

    /// The declarations of this machine, whatever service is asked.
    fn own_texts(&self) -> Result<(File, File), Fault> {
        Ok((
            text(self.topics.as_ref(), "topics.yaml", pipeline::TOPICS)?,
            text(self.pipeline_file.as_ref(), "pipeline.yaml", pipeline::PIPELINE)?,
        ))
    }

    /// Both declarations as a service tells them.
    fn declared(&self) -> Result<(kept::Text, kept::Text), Fault> {
        let (topics, pipelines) = self.texts()?;
        let text = |(file, text): File| kept::Text { file, text };
        Ok((text(topics), text(pipelines)))
    }

    fn declarations(&self) -> Result<Declarations, Fault> {
        let (topics, pipelines) = self.texts()?;
        let declared = pipeline::load((&topics.0, &topics.1), (&pipelines.0, &pipelines.1)).map_err(Fault::usage)?;
        Ok(match self.served {
            // What a service reads is not asked for.
            None if self.configuration()?.shadow => {
                let topology = declared.topology.shadow(OURSELVES, SHADOW_PREFIX);
                Declarations { topology, ..declared }
            }
            _ => declared,
        })
    }

    /// The file in which the pipelines are declared.
    fn pipelines_from(&self) -> Result<String, Fault> {
        Ok(self.texts()?.1.0)
    }
}
