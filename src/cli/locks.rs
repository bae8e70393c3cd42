//! `locks` and `batch`: who occupies a node, and an operator's word on a run that is alive as far as it says itself.
//!
//! A lock is no record of its own: it is held by a run as long as that run gives signs of life, and let go with it. So what is
//! released is the run, and it is fenced: nothing that it still says counts.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::backend::Access;
use super::command::{Words, request};
use super::inspect::{harmless, node};
use super::paint::Paint;
use super::say::say;
use super::whole::Whole;
use super::{Common, Fault, Verdict};
use crate::desk::ask::{Verb, Wish};
use crate::desk::day::Health;
use crate::desk::occupied::{Occupied, by_node, occupied};
use crate::domain::event::RunWord;
use crate::domain::id::NodeId;
use crate::domain::time::shown;

/// `tipoff locks [DATE]`
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  tipoff locks today\n  \
    tipoff locks release predictions today --reason 'its machine is gone'"
)]
pub struct Locks {
    /// Which date [default: every date on which something may still happen]
    date: Option<String>,
    #[command(subcommand)]
    what: Option<Release>,
}

#[derive(Subcommand)]
enum Release {
    /// Give the run up that occupies a node: it is fenced, its lock is let go, and its node may be tried again
    Release {
        #[command(flatten)]
        whose: Whose,
        /// Also where it was heard of lately: it may still be at work
        #[arg(long)]
        force: bool,
    },
}

/// `tipoff batch`
#[derive(Args)]
#[command(after_help = "Example: tipoff batch finalize predictions today --reason 'two players have no line'")]
pub struct Batch {
    #[command(subcommand)]
    what: OfBatch,
}

#[derive(Subcommand)]
enum OfBatch {
    /// Batches at work: how far they are, since when they stand still, and when they are closed without anybody
    List {
        /// Which date [default: every date on which something may still happen]
        date: Option<String>,
    },
    /// Close one now, as at its threshold: its processor is asked to; one that was asked already ends with what it has done
    Finalize(Whose),
    /// Give one its whole patience again
    Continue(Whose),
}

/// A run of a node.
#[derive(Args)]
struct Whose {
    /// Which node; any name its producer uses will do
    node: String,
    /// Which date
    date: String,
    /// Which run, where there are several
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    words: Words,
}

impl Locks {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        match &self.what {
            Some(Release::Release { whose, force }) => whose.say(common, RunWord::GiveUp, *force).await,
            None => list(common, self.date.as_deref(), "locks", |_| true, lock).await,
        }
    }
}

impl Batch {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        match &self.what {
            OfBatch::List { date } => {
                list(common, date.as_deref(), "batches", |found| found.batch.is_some(), batch).await
            }
            OfBatch::Finalize(whose) => whose.say(common, RunWord::Finalize, true).await,
            OfBatch::Continue(whose) => whose.say(common, RunWord::Continue, true).await,
        }
    }
}

async fn list(
    common: &Common,
    date: Option<&str>,
    name: &str,
    is_meant: impl Fn(&Occupied) -> bool,
    line: impl Fn(&Occupied, Timestamp) -> String,
) -> Result<Verdict, Fault> {
    let whole = Whole::open(common, Access::Read).await?;
    let (graph, pipeline, now) = (whole.graph(), &whole.pipeline, whole.now);
    let days = whole.days(date).await?;
    let found: Vec<Occupied> = days.iter().flat_map(|day| occupied(graph, day)).filter(is_meant).collect();
    if common.json {
        say!("{}", json!({ "pipeline": pipeline, "at": now, name: found }));
        return Ok(Verdict::Holds);
    }
    say!("{}", Paint::stdout().strong(&format!("{pipeline}: {name}")));
    if found.is_empty() {
        say!("  none");
    }
    for found in &found {
        say!("  {}", line(found, now));
        if let Some(word) = &found.word {
            let (actor, reason) = (harmless(&word.actor), harmless(&word.reason));
            say!("      {actor} said `{}` at {}: {reason}", word.word.as_str(), shown(word.at));
        }
    }
    Ok(Verdict::Holds)
}

fn lock(found: &Occupied, _now: Timestamp) -> String {
    let (run, paint) = (&found.run, Paint::stdout());
    let fate = match run.health {
        Health::Dead => paint.bad("counts as dead: a running service lets it go"),
        Health::Stale => paint.bad(&format!("silent; let go at {}", shown(found.dead_at))),
        Health::Alive => format!("let go at {} if nothing more is heard", shown(found.dead_at)),
    };
    let (date, node, name) = (run.date, &run.node, harmless(run.run.as_str()));
    format!("{date} {node}: held by {name} since {}, heard {} s ago; {fate}", shown(run.first), run.age_seconds)
}

fn batch(found: &Occupied, now: Timestamp) -> String {
    let run = &found.run;
    let stands = now.duration_since(run.progressed_at).as_mins();
    let fate = match found.batch {
        Some(batch) => match batch.asked_at {
            Some(at) => format!("asked to close at {}, over at {}", shown(at), shown(batch.over_at)),
            None => format!(
                "asked to close at {} if it does not come on, over at {}",
                shown(batch.close_at),
                shown(batch.over_at)
            ),
        },
        None => String::new(),
    };
    let (date, node, name) = (run.date, &run.node, harmless(run.run.as_str()));
    format!("{date} {node}: {name} at {} of {} for {stands} min; {fate}", run.done, run.total)
}

impl Whose {
    async fn say(&self, common: &Common, word: RunWord, also_alive: bool) -> Result<Verdict, Fault> {
        let whole = Whole::open(common, Access::Read).await?;
        let (graph, key) = (whole.graph(), whole.key(&self.date)?);
        let date = key.date;
        let node = node(graph, &self.node, date, whole.now)?;
        let day = whole.day(&key).await?;
        let all = occupied(graph, &day);
        let found = self.meant(&by_node(&all, date, node.as_str()), &node)?;
        if word != RunWord::GiveUp && graph.node(&node).is_some_and(|node| node.liveness.stall.is_none()) {
            let why =
                format!("{node} has no batches: its progress is not watched. `tipoff locks release` gives a run up");
            return Err(Fault { code: 1, error: anyhow::anyhow!(why) });
        }
        if !also_alive && found.run.health == Health::Alive {
            let (name, age) = (harmless(found.run.run.as_str()), found.run.age_seconds);
            let why = format!(
                "{name} was heard of {age} s ago, and may be at work: two of them would write the same rows. It counts as dead \
                 at {} if nothing more is heard; --force gives it up now",
                shown(found.dead_at)
            );
            return Err(Fault { code: 1, error: anyhow::anyhow!(why) });
        }
        let verb = match word {
            RunWord::GiveUp => Verb::GiveUp,
            RunWord::Finalize => Verb::Finalize,
            RunWord::Continue => Verb::Continue,
        };
        let (node, run) = (Some(node.to_string()), Some(found.run.run.to_string()));
        request(common, &self.date, Wish { node, run, ..self.words.wish(verb) }).await
    }

    /// The one run that is meant.
    fn meant<'o>(&self, found: &[&'o Occupied], node: &NodeId) -> Result<&'o Occupied, Fault> {
        let fails = |why: String| Fault { code: 1, error: anyhow::anyhow!(why) };
        let names = || found.iter().map(|one| harmless(one.run.run.as_str())).collect::<Vec<_>>().join(", ");
        match (&self.run, found) {
            (_, []) => Err(fails(format!("nobody is at work on {node}; `tipoff locks` lists who is"))),
            (Some(run), _) => {
                let meant = found.iter().find(|one| one.run.run.as_str() == run);
                meant.copied().ok_or_else(|| fails(format!("no run of {node} is called that; at work are {}", names())))
            }
            (None, [only]) => Ok(only),
            (None, _) => Err(Fault::usage(anyhow::anyhow!("say which with --run: at work on {node} are {}", names()))),
        }
    }
}
