//! `gaps` and `backfill`: what is missing of a season, and what is done about it.
//!
//! Plans are kept in the store, and a running service carries them out: these commands look, decide and show.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::json;

use super::backend::Access;
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict, carry, dates, inspect};
use crate::domain::backfill::{Gap, Item, ItemState, Plan, Said, Status, Survey};
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PlanId};
use crate::domain::time::shown;
use crate::domain::words;
use crate::engine::backfill::Turned;

/// How often a plan that is watched is read.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// Columns of a bar of progress.
const BAR: usize = 40;
/// Items that are shown one by one where nobody asked for JSON.
const SHOWN_MAX: usize = 20;

/// Which dates and outputs are looked at.
#[derive(Args)]
struct Scope {
    /// The first date [default: the season's first]
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// The last date [default: today]
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// A season of the calendar, as `2025-26` [default: the latest that has begun]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "until"])]
    season: Option<String>,
    /// Only this output; any name its producer uses will do. May be given several times
    #[arg(long, short, value_name = "NODE")]
    node: Vec<String>,
}

/// `tipoff gaps`
#[derive(Args)]
pub struct Gaps {
    #[command(flatten)]
    scope: Scope,
}

/// `tipoff backfill …`
#[derive(Args)]
pub struct Backfill {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plan what is missing, and keep the plan; nothing is asked for before it is run
    Plan(Planning),
    /// Approve a plan: the service carries it out
    Run(Deciding),
    /// How far plans are; exits 1 where one has given something up
    Status(Watching),
    /// End a plan: nothing more of it is asked for
    Cancel(Deciding),
}

#[derive(Args)]
struct Planning {
    #[command(flatten)]
    scope: Scope,
    /// What is made of what is missing, too, each once and after it
    #[arg(long)]
    cascade: bool,
    /// Who asks
    #[arg(long, env = "USER", default_value = "operator", value_parser = words::actor)]
    actor: String,
}

#[derive(Args)]
struct Deciding {
    /// Which plan
    plan: String,
    /// Why; it is kept with the plan
    #[arg(long, short, required = true, value_parser = words::reason)]
    reason: String,
    /// Who decides
    #[arg(long, env = "USER", default_value = "operator", value_parser = words::actor)]
    actor: String,
    /// Do not ask whether it is meant so
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args)]
struct Watching {
    /// Which plan [default: all, without their items]
    plan: Option<String>,
    /// Show it until it is over
    #[arg(long, short)]
    watch: bool,
}

/// What every command has at hand.
struct Desk {
    whole: Whole,
}

impl Desk {
    async fn open(common: &Common, access: Access) -> Result<Self, Fault> {
        Ok(Self { whole: Whole::open(common, access).await? })
    }

    fn graph(&self) -> &Graph {
        self.whole.graph()
    }

    async fn survey(&self, scope: &Scope, is_quiet: bool) -> Result<(Survey, (Date, Date)), Fault> {
        let (graph, now) = (self.graph(), self.whole.engine.clock.now());
        let span = scope.span(graph, now)?;
        let nodes: Vec<NodeId> =
            scope.node.iter().map(|name| inspect::node(graph, name, span.0, now)).collect::<Result<_, Fault>>()?;
        let only = (!nodes.is_empty()).then_some(nodes.as_slice());
        let is_shown = !is_quiet && std::io::stderr().is_terminal();
        let progress = |done: usize, all: usize| {
            if is_shown {
                let end = if done == all { "\r\x1b[K" } else { "" };
                // Progress that cannot be shown is no failure.
                let _ = write!(std::io::stderr(), "\rlooking {} {done}/{all} dates {end}", bar(done, all));
            }
        };
        let survey = self.whole.engine.survey(&self.whole.pipeline, graph, span, only, &progress).await;
        Ok((survey.map_err(Fault::unusable)?, span))
    }

    async fn plans(&self) -> Result<Vec<Plan>, Fault> {
        let plans = self.whole.engine.store.plans(&self.whole.pipeline).await.map_err(Fault::unusable)?;
        Ok(plans.into_iter().map(|(plan, _)| plan).collect())
    }

    async fn plan(&self, name: &str) -> Result<Plan, Fault> {
        let plans = self.plans().await?;
        let known: Vec<String> = plans.iter().map(|plan| plan.id.to_string()).collect();
        plans.into_iter().find(|plan| plan.id.as_str() == name).ok_or_else(|| {
            let hint = crate::diagnostic::suggestion(name, known.iter().map(String::as_str));
            Fault::usage(anyhow::anyhow!("there is no plan `{name}`{hint}; `tipoff backfill status` lists them"))
        })
    }
}

impl Scope {
    fn span(&self, graph: &Graph, now: Timestamp) -> Result<(Date, Date), Fault> {
        let today = graph.date_at(now);
        let seasons = &graph.calendar.seasons;
        let season = match &self.season {
            Some(name) => Some(seasons.iter().find(|season| *season.name == **name).ok_or_else(|| {
                let hint = crate::diagnostic::suggestion(name, seasons.iter().map(|season| &*season.name));
                Fault::usage(anyhow::anyhow!("{} has no season `{name}`{hint}", graph.pipeline))
            })?),
            None => seasons.iter().filter(|season| season.from <= today).max_by_key(|season| season.from),
        };
        let date = |word: &Option<String>| word.as_deref().map(|word| dates::resolve(word, graph, now)).transpose();
        let oldest = today.saturating_sub(graph.limits.behind_max.days());
        let from = date(&self.from)?.or(season.map(|season| season.from)).unwrap_or(oldest);
        let last = season.filter(|_| self.season.is_some()).map_or(today, |season| season.until.min(today));
        let until = date(&self.until)?.unwrap_or(last);
        if until > today {
            return Err(Fault::usage(anyhow::anyhow!("{until} has not been yet: nothing is missing of it")));
        }
        if until < from {
            return Err(Fault::usage(anyhow::anyhow!("{from} comes after {until}: no date is looked at")));
        }
        Ok((from, until))
    }
}

impl Gaps {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common, Access::Read).await?;
        let (survey, (from, until)) = desk.survey(&self.scope, common.json).await?;
        let (gaps, unknown) = (survey.gaps(), survey.unknown());
        let (missing, known) = survey.counts();
        if common.json {
            let days = (survey.game_days.len(), &survey.unknown_days);
            let shown = json!({ "pipeline": desk.whole.pipeline, "from": from, "until": until, "game_days": days.0,
                "unknown_days": days.1, "known": known, "missing": missing, "gaps": gaps, "unknown": unknown });
            say!("{shown}");
        } else {
            let paint = Paint::stdout();
            let head = paint.strong(&format!("{} {from} to {until}", desk.whole.pipeline));
            let days = survey.game_days.len();
            say!("{head}: {days} game days; {missing} of {known} outputs are missing, in {} ranges", gaps.len());
            for gap in &gaps {
                say!("  {}", paint.bad(&line(gap)));
            }
            if !unknown.is_empty() {
                say!("Nobody can tell of these, and nothing is concluded from that:");
                unknown.iter().for_each(|gap| say!("  {}", paint.dim(&line(gap))));
            }
            if !survey.unknown_days.is_empty() {
                let days = survey.unknown_days.len();
                say!("{}", paint.dim(&format!("of {days} dates nobody can tell whether games were played")));
            }
        }
        Ok(if gaps.is_empty() { Verdict::Holds } else { Verdict::Fails })
    }
}

fn line(gap: &Gap) -> String {
    let days = if gap.days == 1 { "1 game day".to_owned() } else { format!("{} game days", gap.days) };
    format!("{:<34} {} to {}  {days}", gap.node.to_string(), gap.from, gap.until)
}

impl Backfill {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        match &self.command {
            Command::Plan(planning) => planning.run(common).await,
            Command::Run(deciding) => deciding.turn(common, Status::Running).await,
            Command::Cancel(deciding) => deciding.turn(common, Status::Cancelled).await,
            Command::Status(watching) => watching.run(common).await,
        }
    }
}

impl Planning {
    async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common, Access::Write).await?;
        let (survey, (from, until)) = desk.survey(&self.scope, common.json).await?;
        let at = desk.whole.engine.clock.now();
        let text = format!("planned what is missing from {from} to {until}");
        let said = Said { at, actor: self.actor.as_str().into(), text: text.into() };
        let asked = ((from, until), self.scope.node.as_slice(), self.cascade);
        let plan = carry::plan(common, &desk.whole, &survey, asked, said).await?;
        if common.json {
            say!("{}", json!(plan));
            return Ok(Verdict::Holds);
        }
        let paint = Paint::stdout();
        if plan.items.is_empty() {
            say!("Nothing can be asked for, and no plan was kept.");
            let unknown = survey.unknown();
            let outputs = unknown.iter().map(|gap| &gap.node).collect::<BTreeSet<_>>().len();
            let days = survey.unknown_days.len();
            if outputs > 0 {
                say!("Of {outputs} outputs nobody can tell what is there: `tipoff gaps` shows on which dates");
            }
            if days > 0 {
                say!("Of {days} dates nobody can tell whether games were played: their schedule is not known");
            }
        } else {
            print_items(&plan, paint);
            let limits = &desk.graph().backfill.limits;
            let end = limits.ends_at(&desk.graph().zone, at, plan.estimate.takes);
            say!(
                "{} items; {} of work, {} at once: {} where nothing fails, which from now on ends at {}",
                plan.items.len(),
                span(plan.estimate.work),
                limits.at_once,
                span(plan.estimate.takes),
                shown(end)
            );
        }
        print_refused(&plan, paint);
        if !plan.items.is_empty() {
            say!("Start it with `tipoff backfill run {} --reason …`", paint.strong(plan.id.as_str()));
        }
        Ok(Verdict::Holds)
    }
}

fn print_refused(plan: &Plan, paint: Paint) {
    if !plan.refused.is_empty() {
        say!("Not asked for:");
    }
    for refused in &plan.refused {
        let days = format!("{} to {} ({})", refused.from, refused.until, refused.days);
        say!("  {:<34} {days}  {}", refused.node.to_string(), paint.dim(&refused.why));
    }
}

fn print_items(plan: &Plan, paint: Paint) {
    for item in plan.items.iter().take(SHOWN_MAX) {
        let fills: Vec<&str> = item.fills.iter().filter(|node| **node != item.node).map(NodeId::as_str).collect();
        let why = match (item.follows, fills.is_empty()) {
            (true, _) => "made again after what it is made of".to_owned(),
            (false, true) => String::new(),
            (false, false) => format!("for {}", fills.join(", ")),
        };
        say!("  {} {:<34} {} {}", item.date, item.node.to_string(), state(item, paint), paint.dim(&why));
    }
    if plan.items.len() > SHOWN_MAX {
        say!("  {}", paint.dim(&format!("and {} more; --json shows all", plan.items.len() - SHOWN_MAX)));
    }
}

fn state(item: &Item, paint: Paint) -> String {
    match &item.state {
        ItemState::Waiting => paint.state("waiting", "waiting"),
        ItemState::Resting { until, why } => {
            let why = why.as_deref().map(|why| format!(": {}", inspect::harmless(why))).unwrap_or_default();
            paint.state("waiting", &format!("rests until {}{why}", shown(*until)))
        }
        ItemState::Asked { at } => paint.state("running", &format!("asked for at {}", shown(*at))),
        ItemState::Done { at } => paint.state("succeeded", &format!("done at {}", shown(*at))),
        ItemState::Failed { why, .. } => paint.state("exhausted", &format!("given up: {}", inspect::harmless(why))),
    }
}

impl Deciding {
    async fn turn(&self, common: &Common, status: Status) -> Result<Verdict, Fault> {
        let desk = Desk::open(common, Access::Write).await?;
        let plan = desk.plan(&self.plan).await?;
        if !self.yes && !common.json && std::io::stdin().is_terminal() && !self.confirmed(&plan, status)? {
            say!("nothing changed");
            return Ok(Verdict::Fails);
        }
        let said = Said {
            at: desk.whole.engine.clock.now(),
            actor: self.actor.as_str().into(),
            text: self.reason.as_str().into(),
        };
        match carry::turn(common, &desk.whole, &PlanId::from(self.plan.as_str()), status, said).await? {
            Turned::Done(plan) => {
                if common.json {
                    say!("{}", json!(plan));
                } else {
                    say!("{} is {}; a running service goes by it within minutes", plan.id, word(plan.status));
                }
                Ok(Verdict::Holds)
            }
            Turned::Crowded(count) => Err(Fault::usage(anyhow::anyhow!(
                "{count} plans run already; wait for one, or `tipoff backfill cancel` one"
            ))),
            Turned::Not(_) if self.plan.as_str() == "automatic" => Err(Fault::usage(anyhow::anyhow!(
                "automatic is what is filled without asking: `tipoff hold` stops a date or a node, and \
                `backfill.automatic_within` in pipeline.yaml says how far back it goes"
            ))),
            Turned::Not(is) => Err(Fault::usage(anyhow::anyhow!("{} is {} already", self.plan, word(is)))),
            Turned::Unknown => Err(Fault::usage(anyhow::anyhow!("there is no plan `{}` any more", self.plan))),
        }
    }

    fn confirmed(&self, plan: &Plan, status: Status) -> Result<bool, Fault> {
        let tally = plan.tally();
        let verb = if status == Status::Running { "Start" } else { "End" };
        say!("{verb} {}: {} of {} items are left. Type yes to go on.", plan.id, tally.waiting, tally.all);
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(Fault::usage)?;
        Ok(matches!(answer.trim(), "yes" | "y"))
    }
}

impl Watching {
    async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common, Access::Read).await?;
        let Some(name) = &self.plan else {
            let plans = desk.plans().await?;
            if common.json {
                let shown = plans.iter().map(|plan| {
                    json!({ "plan": plan.id, "status": plan.status,
                    "made_at": plan.made_at, "tally": plan.tally() })
                });
                say!("{}", json!(shown.collect::<Vec<_>>()));
            } else if plans.is_empty() {
                say!("no plan is known");
            }
            for plan in plans.iter().filter(|_| !common.json) {
                say!("{}", summary(plan, Paint::stdout()));
            }
            let failed = plans.iter().any(|plan| plan.tally().failed > 0);
            return Ok(if failed { Verdict::Fails } else { Verdict::Holds });
        };
        let live = self.watch && std::io::stdout().is_terminal() && !common.json;
        loop {
            let plan = desk.plan(name).await?;
            let goes_on = self.watch && plan.status == Status::Running && !plan.automatic;
            if live && goes_on {
                super::say::print_with(|out| write!(out, "\r\x1b[K{}", summary(&plan, Paint::stdout())));
            } else if goes_on {
                say!("{}", if common.json { json!(plan.tally()).to_string() } else { summary(&plan, Paint::stdout()) });
            } else {
                if live {
                    super::say::print_with(|out| write!(out, "\r\x1b[K"));
                }
                self.print(&plan, common.json);
                return Ok(if plan.tally().failed > 0 { Verdict::Fails } else { Verdict::Holds });
            }
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Err(Fault::interrupted()),
                () = tokio::time::sleep(WATCH_EVERY) => {}
            }
        }
    }

    fn print(&self, plan: &Plan, is_json: bool) {
        if is_json {
            say!("{}", json!(plan));
            return;
        }
        let paint = Paint::stdout();
        say!("{}", summary(plan, paint));
        print_items(plan, paint);
        print_refused(plan, paint);
        for said in &plan.said {
            let (actor, text) = (inspect::harmless(&said.actor), inspect::harmless(&said.text));
            say!("{}", paint.dim(&format!("{} {actor}: {text}", shown(said.at))));
        }
    }
}

/// A plan on one line.
fn summary(plan: &Plan, paint: Paint) -> String {
    let tally = plan.tally();
    let settled = tally.done + tally.failed;
    let failed = if tally.failed > 0 { paint.bad(&format!(", {} given up", tally.failed)) } else { String::new() };
    format!(
        "{} {} {} {settled}/{}: {} done{failed}, {} asked for, {} waiting",
        paint.strong(plan.id.as_str()),
        word(plan.status),
        bar(settled, tally.all),
        tally.all,
        tally.done,
        tally.asked,
        tally.waiting
    )
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Proposed => "proposed",
        Status::Running => "running",
        Status::Over => "over",
        Status::Cancelled => "cancelled",
    }
}

fn bar(done: usize, all: usize) -> String {
    let full = (done * BAR).checked_div(all).unwrap_or(BAR).min(BAR);
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

fn span(span: SignedDuration) -> String {
    let minutes = span.as_mins();
    if minutes < 60 { format!("{minutes} m") } else { format!("{} h {:02} m", minutes / 60, minutes % 60) }
}
