//! `hold`, `resume`, `retry`, `skip`, `game`: an operator's requests, committed straight to the store.
//!
//! The commit protocol makes that safe beside a running service, which then delivers what follows from them. Every
//! request is in the journal with who and why.

use std::sync::Arc;

use clap::Args;
use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde_json::json;

use super::backend::{Access, Opened};
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict, backend, dates, graph};
use crate::clock::Clock;
use crate::desk::ask::{self, Asked, Verb};
use crate::domain::event::{Command, EdgeRule, Event, GameStatus, Request, RunWord};
use crate::domain::graph::{DayTime, Graph};
use crate::domain::id::{NodeId, PartitionKey, PipelineId, UnitId};
use crate::domain::partition::Recorded;
use crate::domain::stop::Stop;
use crate::domain::time::{Now, after, shown};
use crate::domain::view::{self, PartitionView};
use crate::domain::words::{self, harmless};
use crate::engine::{Engine, Settings};

/// What every request says.
#[derive(Args)]
pub(super) struct Words {
    /// Why; it is journaled and shown by `why`
    #[arg(long, short, required = true, value_parser = words::reason)]
    pub reason: String,
    /// Who asks
    #[arg(long, env = "USER", default_value = "operator", value_parser = words::actor)]
    pub actor: String,
}

/// A date, and perhaps one node of it.
#[derive(Args)]
pub struct Target {
    /// Which date, or `all` for the whole pipeline
    date: String,
    /// Which node [default: the whole date]
    node: Option<String>,
    #[command(flatten)]
    words: Words,
}

/// One node of a date.
#[derive(Args)]
pub struct NodeTarget {
    /// Which date
    date: String,
    /// Which node
    node: String,
    #[command(flatten)]
    words: Words,
}

/// `tipoff hold DATE [NODE]`
#[derive(Args)]
pub struct Hold {
    #[command(flatten)]
    target: Target,
    /// Not the whole node, but what comes from this input of it
    #[arg(long, value_name = "NODE", requires = "node")]
    input: Option<String>,
    /// How long, as `90m` or `4h` [default: until resumed]
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true)]
    span: Option<String>,
}

/// `tipoff resume DATE [NODE]`
#[derive(Args)]
pub struct Resume {
    #[command(flatten)]
    target: Target,
    /// Have this input, or this check, of the node count as declared again
    #[arg(long, value_name = "NAME", requires = "node")]
    input: Option<String>,
}

/// `tipoff force DATE NODE --past NAME`
#[derive(Args)]
pub struct Force {
    #[command(flatten)]
    target: NodeTarget,
    /// The one input, gate or check that is no longer to stand in the way; everything else still is
    #[arg(long, value_name = "NAME")]
    past: String,
    /// How long, as `90m` or `4h` [default: for this date]
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true)]
    span: Option<String>,
}

/// When a span that was typed ends.
fn ends(span: Option<&str>) -> Result<Option<Timestamp>, Fault> {
    let ends = span.map(|span| ask::ends(span, Clock::System.now())).transpose();
    ends.map_err(|error| Fault::usage(anyhow::anyhow!("--for: {error}")))
}

impl Force {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let (target, until) = (&self.target, ends(self.span.as_deref())?);
        let asked = Asked { verb: Verb::Force, node: Some(&target.node), input: Some(&self.past), until, run: None };
        request(common, &target.date, &asked, &target.words).await
    }
}

impl Hold {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let until = ends(self.span.as_deref())?;
        let target = &self.target;
        if target.is_all()? {
            return target.stop(common, until).await;
        }
        let (node, input) = (target.node.as_deref(), self.input.as_deref());
        request(common, &target.date, &Asked { verb: Verb::Hold, node, input, until, run: None }, &target.words).await
    }
}

/// The least time for which an operator's word about a game outweighs the schedule where no time is given: a past date is
/// corrected for good enough within it.
const OVERRIDE_MIN: SignedDuration = SignedDuration::from_hours(24);

/// `tipoff game DATE AWAY@HOME`
#[derive(Args)]
pub struct Game {
    /// Which date
    date: String,
    /// Which game, as `SAS@GSW`
    #[arg(value_parser = matchup)]
    teams: (String, String),
    /// How it stands
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// When it begins, as `2026-02-12T03:00:00Z`
    #[arg(long, value_name = "INSTANT")]
    tip: Option<Timestamp>,
    /// How long this outweighs the schedule [default: until noon of the day after]; it ends sooner when the schedule says
    /// that the game is over
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true)]
    span: Option<String>,
    /// Believe the schedule again
    #[arg(long, conflicts_with_all = ["status", "tip", "span"])]
    clear: bool,
    #[command(flatten)]
    words: Words,
}

/// How a game stands, as typed.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Status {
    /// Not begun
    Scheduled,
    /// In progress
    Live,
    /// Over
    Final,
    /// Not played for now
    Postponed,
    /// Played on another date
    Moved,
}

impl From<Status> for GameStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Scheduled => Self::Scheduled,
            Status::Live => Self::Live,
            Status::Final => Self::Final,
            Status::Postponed => Self::Postponed,
            Status::Moved => Self::Moved,
        }
    }
}

fn matchup(text: &str) -> Result<(String, String), String> {
    let is_team = |team: &&str| team.len() == 3 && team.bytes().all(|byte| byte.is_ascii_alphabetic());
    let teams = text.split_once('@').filter(|(away, home)| is_team(away) && is_team(home));
    let (away, home) = teams.ok_or("write the visitors and the hosts, as SAS@GSW")?;
    Ok((away.to_ascii_uppercase(), home.to_ascii_uppercase()))
}

impl Game {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        if self.status.is_none() && self.tip.is_none() && !self.clear {
            return Err(Fault::usage(anyhow::anyhow!(
                "say what you know better: --status, --tip, or both; or --clear"
            )));
        }
        let now = Clock::System.now();
        let given = ends(self.span.as_deref())?;
        if given.is_some_and(|until| until <= now) {
            return Err(Fault::usage(anyhow::anyhow!(
                "--for: that is over at once; --clear ends what was said before"
            )));
        }
        let (status, tip) = (self.status.map(GameStatus::from), self.tip);
        let (away, home) = &self.teams;
        ask_of(common, &self.date, &self.words, |graph, date, now| {
            let noon = DayTime { days: 1, time: Time::constant(12, 0, 0, 0) }.on(date, &graph.zone);
            let until = if self.clear { now } else { given.unwrap_or(noon.max(after(now, OVERRIDE_MIN))) };
            let game = UnitId::new(format!("{}_{away}_{home}", date.strftime("%Y%m%d")));
            Ok(Command::Override { game, status, tip, until })
        })
        .await
    }
}

impl Resume {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let target = &self.target;
        if target.is_all()? {
            return target.go_on(common).await;
        }
        let (node, input) = (target.node.as_deref(), self.input.as_deref());
        request(common, &target.date, &Asked { verb: Verb::Resume, node, input, until: None, run: None }, &target.words)
            .await
    }
}

/// What stands for every date.
const ALL: &str = "all";

impl Target {
    fn is_all(&self) -> Result<bool, Fault> {
        match &self.node {
            _ if self.date != ALL => Ok(false),
            None => Ok(true),
            Some(node) => Err(Fault::usage(anyhow::anyhow!(
                "`{ALL}` is the whole pipeline; {node} is held date by date: give a date"
            ))),
        }
    }

    async fn stop(&self, common: &Common, until: Option<Timestamp>) -> Result<Verdict, Fault> {
        let Whole { engine, pipeline, .. } = Whole::open(common, Access::Write).await?;
        let (actor, reason) = (self.words.actor.clone(), self.words.reason.clone());
        let stop = Stop { pipeline, actor, reason, from: engine.clock.now(), until, ended_by: None };
        engine.stop(&stop).await.map_err(Fault::unusable)?;
        if common.json {
            say!("{}", json!(stop));
        } else {
            say!("{stop}");
            say!("Nothing of it leaves; what its dates decide waits, and leaves within a minute of the end.");
        }
        Ok(Verdict::Holds)
    }

    async fn go_on(&self, common: &Common) -> Result<Verdict, Fault> {
        let Whole { engine, pipeline, .. } = Whole::open(common, Access::Write).await?;
        let held = engine.go_on(&pipeline, &self.words.actor, &self.words.reason).await.map_err(Fault::unusable)?;
        if common.json {
            say!("{}", json!({ "pipeline": pipeline, "was_held": held }));
        } else if held {
            say!("{pipeline} is no longer held; what waits leaves within a minute");
        } else {
            say!("{pipeline} was not held as a whole; `tipoff status` shows what is held of a date");
        }
        Ok(if held { Verdict::Holds } else { Verdict::Fails })
    }
}

impl NodeTarget {
    pub async fn retry(&self, common: &Common) -> Result<Verdict, Fault> {
        self.ask(common, Verb::Retry).await
    }

    pub async fn skip(&self, common: &Common) -> Result<Verdict, Fault> {
        self.ask(common, Verb::Skip).await
    }

    async fn ask(&self, common: &Common, verb: Verb) -> Result<Verdict, Fault> {
        let asked = Asked { verb, node: Some(&self.node), input: None, until: None, run: None };
        request(common, &self.date, &asked, &self.words).await
    }
}

/// A date that no message could be about is a slip of the finger.
pub(super) fn within_reach(graph: &Graph, date: Date, now: Timestamp) -> Result<(), Fault> {
    let days = graph.limits.behind_max.days();
    let today = graph.date_at(now);
    if (today.saturating_sub(days)..=today.saturating_add(days)).contains(&date) {
        return Ok(());
    }
    Err(Fault::usage(anyhow::anyhow!("{date} is too far from today, {today}: is that what you mean?")))
}

pub(super) async fn request(common: &Common, date: &str, asked: &Asked<'_>, words: &Words) -> Result<Verdict, Fault> {
    ask_of(common, date, words, |graph, date, now| asked.command(graph, date, now).map_err(Fault::usage)).await
}

pub(super) async fn ask_of(
    common: &Common,
    date: &str,
    words: &Words,
    command: impl FnOnce(&Graph, Date, Timestamp) -> Result<Command, Fault>,
) -> Result<Verdict, Fault> {
    let declarations = Arc::new(common.declarations()?);
    let pipeline = PipelineId::from(common.pipeline.as_str());
    let Some(declared) = declarations.pipelines.get(&pipeline) else {
        return Err(graph::no_pipeline(&declarations, &common.pipeline));
    };
    let now = Clock::System.now();
    let date = dates::resolve(date, &declared.graph, now)?;
    within_reach(&declared.graph, date, now)?;
    let command = command(&declared.graph, date, now)?;
    let request = ask::request(None, (words.actor.as_str().into(), words.reason.as_str().into()), now, command);
    let Opened { store, bus, warehouse } = backend::open(common, &declarations, Access::Write).await?;
    let engine = Engine::new(declarations.clone(), store, bus, warehouse, Clock::System, Settings::default());
    let key = PartitionKey { pipeline, date };
    let stepped = engine.step(&key, &[Event::Requested(request.clone())]).await.map_err(Fault::unusable)?;
    let recorded = stepped.recorded.first().copied().unwrap_or(Recorded::Rejected);
    if common.json {
        say!("{}", json!({ "partition": key, "request": request, "recorded": recorded, "at": now }));
    } else {
        report(&key, &request, recorded);
        let stored = engine.store.load(&key).await.map_err(Fault::unusable)?;
        if let (Command::Override { game, until, .. }, Recorded::Applied) = (&request.command, recorded)
            && *until > request.at
        {
            match &stored.partition.schedule {
                None => say!("No schedule of {date} is known yet; it counts as soon as one is."),
                Some(schedule) if !schedule.games.contains_key(game) => {
                    say!(
                        "The schedule of {date} does not list it; it counts as a game that is played beside the others."
                    );
                }
                Some(_) => {}
            }
        }
        follow(&view::view(&declared.graph, &stored.partition, Now::caught_up(now)), &request);
    }
    Ok(if recorded == Recorded::Applied { Verdict::Holds } else { Verdict::Fails })
}

fn report(key: &PartitionKey, request: &Request, recorded: Recorded) {
    let node = |node: &Option<NodeId>| node.as_ref().map_or("the whole date".to_owned(), NodeId::to_string);
    let asked = match &request.command {
        Command::Hold { node: held, until: None } => format!("{} is held until `tipoff resume`", node(held)),
        Command::Hold { node: held, until: Some(until) } => format!("{} is held until {}", node(held), shown(*until)),
        Command::Resume { node: resumed } => format!("{} is no longer held or skipped", node(resumed)),
        Command::Retry { node } => format!("{node} is to run again"),
        Command::Backfill { node, plan } => format!("{node} is made again for {plan}"),
        Command::Withdraw { node, plan } => format!("{node} is no longer made again for {plan}"),
        Command::Skip { node } => format!("{node} is skipped; what needs it goes on without it"),
        Command::Edge { node, input, rule, until } => {
            let until = until.map(|until| format!(" until {}", shown(until))).unwrap_or_default();
            match rule {
                Some(EdgeRule::Hold) => format!("{node} waits whatever comes from {input}{until}"),
                Some(EdgeRule::Force) => format!("{input} no longer stands in the way of {node}{until}"),
                None => format!("{input} counts for {node} as declared"),
            }
        }
        Command::Execution { node, run, word } => {
            let run = harmless(run.as_str());
            match word {
                RunWord::GiveUp => {
                    format!("{run} is given up: {node} may be tried again, and nothing that run still says counts")
                }
                RunWord::Finalize => format!("{run} of {node} is to be closed with what it has done"),
                RunWord::Continue => format!("{run} of {node} has its whole patience again"),
            }
        }
        Command::Override { game, until, .. } if *until <= request.at => {
            format!("{game} is as the schedule says")
        }
        Command::Override { game, until, .. } => {
            format!("{game} is as you say until {}, or until the feed says that it is over", shown(*until))
        }
    };
    match recorded {
        Recorded::Applied => say!("{key}: {asked}"),
        Recorded::Superseded => {
            say!("{key}: nothing changed; something newer is known, see `tipoff timeline {}`", key.date)
        }
        Recorded::Rejected => match &request.command {
            Command::Execution { node, .. } => {
                say!("{key}: refused; the progress of {node} is not watched, so nothing of it is closed or continued")
            }
            _ => say!("{key}: refused; tipoff does not run sources, their producers do"),
        },
        Recorded::Duplicate | Recorded::Fenced | Recorded::Future => say!("{key}: nothing changed"),
    }
}

/// Says what became of the node that the request is about.
fn follow(view: &PartitionView, request: &Request) {
    let (Command::Retry { node } | Command::Edge { node, rule: Some(EdgeRule::Force), .. }) = &request.command else {
        return;
    };
    let date = view.partition.date;
    let Some(found) = view.nodes.iter().find(|found| found.node == *node) else { return };
    match found.blockers.first() {
        _ if matches!(found.state, "dispatched" | "running") => {
            say!("{node} is {} ({}); a running service sends it", found.state, found.attempt)
        }
        Some(blocker) => {
            say!("{node} waits: {}", view::brief(blocker, date));
            say!("see `tipoff why {node} {date}`");
        }
        None => say!("{node} is {}", found.state),
    }
}
