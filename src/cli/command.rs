//! `hold`, `resume`, `retry`, `skip`, `force`, `game`: an operator's requests. Every one is in the journal with who and why.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::backend::Access;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict, carry};
use crate::desk::ask::{self, GameWord, Refusal, Verb, Wish};
use crate::domain::event::{Command, EdgeRule, GameStatus, Request, RunWord};
use crate::domain::id::{NodeId, PartitionKey};
use crate::domain::partition::Recorded;
use crate::domain::time::{Now, shown};
use crate::domain::view::{self, PartitionView};
use crate::domain::words::{self, harmless};

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

impl Words {
    /// A wish in these words.
    pub fn wish(&self, verb: Verb) -> Wish {
        Wish::new(verb, &self.actor, &self.reason)
    }
}

impl Force {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let NodeTarget { date, node, words } = &self.target;
        let (node, input) = (Some(node.clone()), Some(self.past.clone()));
        request(common, date, Wish { node, input, r#for: self.span.clone(), ..words.wish(Verb::Force) }).await
    }
}

impl Hold {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let target = &self.target;
        if target.is_all()? {
            return target.stop(common, self.span.as_deref()).await;
        }
        let (node, input) = (target.node.clone(), self.input.clone());
        let wish = Wish { node, input, r#for: self.span.clone(), ..target.words.wish(Verb::Hold) };
        request(common, &target.date, wish).await
    }
}

/// `tipoff game DATE AWAY@HOME`
#[derive(Args)]
pub struct Game {
    /// Which date
    date: String,
    /// Which game, as `SAS@GSW`
    #[arg(value_parser = teams)]
    teams: String,
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

fn teams(text: &str) -> Result<String, Refusal> {
    ask::matchup(text).map(|(away, home)| format!("{away}@{home}"))
}

impl Game {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        if self.status.is_none() && self.tip.is_none() && !self.clear {
            return Err(Fault::usage(anyhow::anyhow!(
                "say what you know better: --status, --tip, or both; or --clear"
            )));
        }
        let status = self.status.map(GameStatus::from);
        let game = GameWord { teams: self.teams.clone(), status, tip: self.tip, clear: self.clear };
        let wish = Wish { game: Some(game), r#for: self.span.clone(), ..self.words.wish(Verb::Game) };
        request(common, &self.date, wish).await
    }
}

impl Resume {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let target = &self.target;
        if target.is_all()? {
            return target.go_on(common).await;
        }
        let (node, input) = (target.node.clone(), self.input.clone());
        request(common, &target.date, Wish { node, input, ..target.words.wish(Verb::Resume) }).await
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

    async fn stop(&self, common: &Common, span: Option<&str>) -> Result<Verdict, Fault> {
        let whole = Whole::open(common, Access::Write).await?;
        let stop = carry::stop(common, &whole, &self.words, span).await?;
        if common.json {
            say!("{}", json!(stop));
        } else {
            say!("{stop}");
            say!("Nothing of it leaves; what its dates decide waits, and leaves within a minute of the end.");
        }
        Ok(Verdict::Holds)
    }

    async fn go_on(&self, common: &Common) -> Result<Verdict, Fault> {
        let whole = Whole::open(common, Access::Write).await?;
        let held = carry::go_on(common, &whole, &self.words).await?;
        let pipeline = &whole.pipeline;
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
        request(common, &self.date, Wish { node: Some(self.node.clone()), ..self.words.wish(verb) }).await
    }
}

/// Asks it, and says what came of it.
pub(super) async fn request(common: &Common, date: &str, wish: Wish) -> Result<Verdict, Fault> {
    let whole = Whole::open(common, Access::Write).await?;
    let key = whole.key(date)?;
    let (request, recorded) = carry::request(common, &whole, &key, &wish).await?;
    let verdict = if recorded == Recorded::Applied { Verdict::Holds } else { Verdict::Fails };
    if common.json {
        say!("{}", json!({ "partition": key, "request": request, "recorded": recorded, "at": whole.now }));
        return Ok(verdict);
    }
    report(&key, &request, recorded);
    let stored = whole.engine.store.load(&key).await.map_err(Fault::unusable)?;
    if let (Command::Override { game, until, .. }, Recorded::Applied) = (&request.command, recorded)
        && *until > request.at
    {
        let date = key.date;
        match &stored.partition.schedule {
            None => say!("No schedule of {date} is known yet; it counts as soon as one is."),
            Some(schedule) if !schedule.games.contains_key(game) => {
                say!("The schedule of {date} does not list it; it counts as a game that is played beside the others.");
            }
            Some(_) => {}
        }
    }
    let role = whole.engine.role().await.map_err(Fault::unusable)?;
    let view = view::view(whole.graph(), &stored.partition, Now::caught_up(whole.now));
    follow(&view, &request, |node| {
        let sends = whole.graph().node(node).is_none_or(|node| role.sends(&node.phase));
        role.notice().filter(|_| !sends)
    });
    Ok(verdict)
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
        Recorded::Superseded if matches!(request.command, Command::Resume { .. }) => {
            say!("{key}: nothing changed; nothing was held or skipped, or it has been held anew since")
        }
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

/// Says what became of the node that the request is about. `withheld` says why nothing of a node leaves, where that is so.
fn follow(view: &PartitionView, request: &Request, withheld: impl Fn(&NodeId) -> Option<String>) {
    let (Command::Retry { node } | Command::Edge { node, rule: Some(EdgeRule::Force), .. }) = &request.command else {
        return;
    };
    let date = view.partition.date;
    let Some(found) = view.nodes.iter().find(|found| found.node == *node) else { return };
    match found.blockers.first() {
        _ if matches!(found.state, "dispatched" | "running") => {
            let then = withheld(node).map_or("a running service sends it".to_owned(), |why| format!("{why}, nor this"));
            say!("{node} is {} ({}); {then}", found.state, found.attempt)
        }
        Some(blocker) => {
            say!("{node} waits: {}", view::brief(blocker, date));
            say!("see `tipoff why {node} {date}`");
        }
        None => say!("{node} is {}", found.state),
    }
}
