//! `dlq`: what nobody could process, and what is to become of it.
//!
//! Looking takes nothing off any subscription; only `correct`, and `replay` and `discard` with `--apply`, change anything.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::backend::{self, Access};
use super::carry::{self, of_ledger};
use super::inspect::harmless;
use super::paint::Paint;
use super::say::say;
use super::{Common, Fault, Verdict, dates};
use crate::desk::ask;
use crate::desk::letters::{self as desk, Correcting, Discarding, PER_SECOND, Replaying, Wanted};
use crate::domain::dead_letter::{About, Kind};
use crate::domain::id::PipelineId;
use crate::domain::time::{after, shown};
use crate::engine::Engine;
use crate::engine::dead_letter::{self as letters, Board, Outcome, Plan, Progress, Seen, Selection};
use crate::port::is_place;
use crate::wire::letter::BODY_MAX;

/// Causes that are shown where nobody asked for JSON.
const GROUPS_SHOWN: usize = 20;
/// Letters, and their outcomes, that are shown one by one.
const SHOWN_MAX: usize = 20;
/// Characters of a body that are shown.
const BODY_SHOWN: usize = 4_000;
/// Letters of one page at most.
const PAGE_MAX: usize = 10_000;
/// How often the progress is told where it is no terminal.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// `tipoff dlq …`
#[derive(Args)]
pub struct Dlq {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// The letters that wait, by cause; exits 1 where some do
    List(List),
    /// One letter: where it comes from, what it says, and what has been done about it
    Show {
        /// Which letter; the beginning of its name will do
        id: String,
    },
    /// Publish letters anew on their topics, where what they ask for is still wanted; a dry run unless --apply
    Replay(Replay),
    /// Have a letter say something else when it is replayed; what it said is kept
    Correct {
        /// Which letter
        id: String,
        /// What it is to say: a file of JSON, or `-`
        #[arg(long, value_name = "FILE")]
        with: PathBuf,
        /// Why; it is kept with the letter
        #[arg(long, short)]
        reason: String,
        /// Who
        #[arg(long, env = "USER", default_value = "operator")]
        actor: String,
    },
    /// Have nothing more be done about letters; a dry run unless --apply
    Discard(Discard),
}

/// Which letters.
#[derive(Args)]
struct Filter {
    /// Of this topic
    #[arg(long)]
    topic: Option<String>,
    /// About this node; any name its producer uses will do
    #[arg(long, short)]
    node: Option<String>,
    /// About this date
    #[arg(long)]
    date: Option<String>,
    /// With this cause: its fingerprint as `list` shows it, or the beginning of it
    #[arg(long, value_name = "FINGERPRINT")]
    cause: Option<String>,
    /// How they came to be letters
    #[arg(long, value_enum)]
    kind: Option<KindWord>,
    /// Given up on longer ago than this, as `2h`
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// Given up on within this time, as `90m`
    #[arg(long, value_name = "DURATION")]
    newer_than: Option<String>,
    /// Whether what they ask for is still wanted
    #[arg(long, value_enum)]
    standing: Option<StandingWord>,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindWord {
    /// A subscription gave up on them
    Dead,
    /// They could never be applied
    Parked,
    /// Effects that could never be delivered
    Undeliverable,
}

#[derive(Clone, Copy, ValueEnum)]
enum StandingWord {
    /// It has not been done
    Wanted,
    /// It has been done since, or its time is over
    Unneeded,
    /// That cannot be told
    Unclear,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// Those about which nothing more is to be done, too
    #[arg(long, short)]
    all: bool,
    /// Letters shown one by one
    #[arg(long, default_value_t = SHOWN_MAX)]
    limit: usize,
    /// The page after this one: the `next` of the page before
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
}

#[derive(Args)]
struct Replay {
    /// Which letters, by their names or the beginnings of them [default: those that the filters leave]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every letter that waits
    #[arg(long, conflicts_with = "ids")]
    every: bool,
    /// At most so many, the oldest first
    #[arg(long)]
    limit: Option<usize>,
    /// Also what is not wanted any more, of which that cannot be told, and what was replayed already
    #[arg(long)]
    force: bool,
    /// Have it say this instead: a file of JSON, or `-`; what it said is kept
    #[arg(long, value_name = "FILE", requires = "ids")]
    with: Option<PathBuf>,
    /// Do it
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Messages a second at most; 0 is no bound
    #[arg(long, value_name = "NUMBER", default_value_t = PER_SECOND)]
    per_second: u32,
    /// Why; it is kept with the letters
    #[arg(long, short)]
    reason: Option<String>,
    /// Who
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
}

#[derive(Args)]
struct Discard {
    /// Which letters, by their names or the beginnings of them [default: those that the filters leave]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every letter that waits
    #[arg(long, conflicts_with = "ids")]
    every: bool,
    /// At most so many, the oldest first
    #[arg(long)]
    limit: Option<usize>,
    /// Do it
    #[arg(long)]
    apply: bool,
    /// Why; it is kept with the letters
    #[arg(long, short)]
    reason: String,
    /// Who
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
}

async fn engine(common: &Common, access: Access) -> Result<Engine, Fault> {
    backend::engine(common, common.declarations()?, access).await
}

impl Filter {
    /// These letters, or those that the filters leave.
    fn wanted(&self, engine: &Engine, common: &Common, ids: &[String], every: bool) -> Result<Wanted, Fault> {
        let now = engine.clock.now();
        // Every pipeline is meant, unless one was named, or is needed to understand the name of a node.
        let is_named = common.typed.pipeline || self.node.is_some();
        let date = match &self.date {
            // A word for a date is in a pipeline's zone.
            Some(word) => match ask::pipeline(&engine.declarations, &common.pipeline) {
                Ok(declared) => Some(dates::resolve(word, &declared.graph, now)?.to_string()),
                Err(refusal) => {
                    word.parse::<Date>().map(|date| Some(date.to_string())).map_err(|_| Fault::usage(refusal))?
                }
            },
            None => None,
        };
        Ok(Wanted {
            ids: ids.to_vec(),
            topic: self.topic.clone(),
            pipeline: is_named.then(|| common.pipeline.clone()),
            node: self.node.clone(),
            date,
            cause: self.cause.clone(),
            kind: self.kind.map(|kind| match kind {
                KindWord::Dead => Kind::Dead,
                KindWord::Parked => Kind::Parked,
                KindWord::Undeliverable => Kind::Undeliverable,
            }),
            before: ago("--older-than", self.older_than.as_deref(), now)?,
            since: ago("--newer-than", self.newer_than.as_deref(), now)?,
            standing: self.standing.map(|standing| {
                let word = match standing {
                    StandingWord::Wanted => "wanted",
                    StandingWord::Unneeded => "unneeded",
                    StandingWord::Unclear => "unclear",
                };
                word.to_owned()
            }),
            every,
        })
    }
}

fn ago(flag: &str, span: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let span = span.map(crate::topology::duration).transpose();
    let span = span.map_err(|error| Fault::usage(anyhow::anyhow!("{flag}: {error}")))?;
    Ok(span.map(|span| after(now, -SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX))))
}

/// What a letter is to say, out of a file.
fn file(path: &Path) -> Result<String, Fault> {
    let wrong = |error: std::io::Error| Fault::usage(anyhow::anyhow!("read {}: {error}", path.display()));
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(wrong)?)
    };
    let mut data = Vec::new();
    source.take(BODY_MAX as u64 + 1).read_to_end(&mut data).map_err(wrong)?;
    if data.len() > BODY_MAX {
        return Err(Fault::usage(anyhow::anyhow!("{} has more than {BODY_MAX} bytes", path.display())));
    }
    String::from_utf8(data).map_err(|_| Fault::usage(anyhow::anyhow!("{} is not text in UTF-8", path.display())))
}

impl Dlq {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        match &self.command {
            What::List(list) => list.run(common).await,
            What::Show { id } => show(common, id).await,
            What::Replay(replay) => replay.run(common).await,
            What::Correct { id, with, reason, actor } => {
                let correcting = Correcting { with: file(with)?, actor: actor.clone(), reason: reason.clone() };
                let engine = engine(common, Access::Write).await?;
                let letter = carry::correct(common, &engine, id, &correcting).await?;
                if common.json {
                    say!("{}", json!(letter));
                } else {
                    say!("{} says that from now on; what it said before is kept", letter.id);
                    say!("see `tipoff dlq replay {}`", letter.id);
                }
                Ok(Verdict::Holds)
            }
            What::Discard(discard) => discard.run(common).await,
        }
    }
}

impl List {
    async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        if let Some(after) = self.after.as_deref().filter(|after| !is_place(after)) {
            let after = harmless(after);
            return Err(Fault::usage(anyhow::anyhow!("--after {after}: that is the `next` of no page")));
        }
        let engine = engine(common, Access::Read).await?;
        let wanted = self.filter.wanted(&engine, common, &[], false)?;
        let selection = wanted.selection(&engine.declarations, engine.clock.now()).map_err(carry::of_letters)?;
        let selection = Selection { all: self.all, ..selection };
        let page = (self.after.as_deref(), self.limit.min(PAGE_MAX));
        let groups = if common.json { PAGE_MAX } else { GROUPS_SHOWN };
        let board = engine.dead_letters(&selection, page, groups).await.map_err(of_ledger)?;
        if common.json {
            say!("{}", json!(board));
        } else {
            print(&board, self.all, Paint::stdout());
        }
        Ok(if board.count == 0 || self.all { Verdict::Holds } else { Verdict::Fails })
    }
}

fn print(board: &Board, all: bool, paint: Paint) {
    let what = if all { "letters" } else { "letters that wait" };
    if board.count == 0 {
        say!("no {what}");
        return;
    }
    say!("{} {what}, of {} causes", board.count, board.groups.len() + board.groups_left_out);
    for group in &board.groups {
        let standing = format!("{} wanted, {} not, {} unclear", group.wanted, group.unneeded, group.unclear);
        let newest = shown(group.newest);
        say!("{:>7}  {}  {}", group.count, paint.strong(&group.cause), harmless(&group.words));
        say!("         {}", paint.dim(&format!("{standing}; the last at {newest}")));
    }
    if board.groups_left_out > 0 {
        say!("         and {} causes more; --json lists them all", board.groups_left_out);
    }
    for seen in &board.letters {
        say!("");
        line(seen, paint);
    }
    if let Some(next) = &board.next {
        say!("");
        say!("more: --after {next}, or --limit");
    }
}

fn line(seen: &Seen, paint: Paint) {
    let letter = &seen.letter;
    let topic = letter.topic.as_deref().or(letter.subscription.as_deref()).unwrap_or("an unknown topic");
    let (id, kind, stage) = (paint.strong(letter.id.as_str()), letter.kind.as_str(), seen.stage.as_str());
    say!("{id}  {kind}, {stage}  {}  {} ago, {} tries", harmless(topic), age(seen.age_s), letter.attempts);
    say!("  about {}; {}", about(&letter.about), harmless(&letter.reason));
    match &seen.came_of_it {
        Some(words) => say!("  replayed {} times; {}", letter.replays.len(), harmless(words)),
        None => say!("  {}: {}", seen.standing.as_str(), harmless(seen.standing.why())),
    }
}

fn about(about: &About) -> String {
    let pipeline = about.pipeline.as_ref().map_or("?".to_owned(), PipelineId::to_string);
    let date = about.date.map_or("?".to_owned(), |date| date.to_string());
    let node = about.node.as_ref().map_or("an unknown node".to_owned(), |node| harmless(node.as_str()));
    let run = about.run.as_ref().map(|run| format!(", {}", harmless(run.as_str()))).unwrap_or_default();
    format!("{pipeline}/{date} {node}{run}")
}

fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

async fn show(common: &Common, id: &str) -> Result<Verdict, Fault> {
    let opened = engine(common, Access::Read).await?.dead_letter(id).await.map_err(of_ledger)?;
    if common.json {
        say!("{}", letters::shown(&opened));
        return Ok(Verdict::Holds);
    }
    let (paint, letter) = (Paint::stdout(), &opened.seen.letter);
    line(&opened.seen, paint);
    say!("  message {}, published {}", harmless(&letter.message_id), shown(letter.published));
    if let Some(subscription) = &letter.subscription {
        say!("  given up on by {} at {}", harmless(subscription), shown(letter.at));
    }
    say!("  cause {}: {}", letter.cause.fingerprint, harmless(&letter.cause.words));
    for replay in &letter.replays {
        let sent = replay.sent_at.map_or("not known to have left".to_owned(), |at| format!("left {}", shown(at)));
        let back = replay.returned_at.map(|at| format!(", came back {}", shown(at))).unwrap_or_default();
        let reason = replay.reason.as_deref().map(|reason| format!(": {}", harmless(reason))).unwrap_or_default();
        say!("  replay {} by {}{reason}; {sent}{back}", replay.execution, harmless(&replay.actor));
    }
    if let Some(discarded) = &letter.discarded {
        let (actor, reason) = (harmless(&discarded.actor), harmless(&discarded.reason));
        say!("  discarded by {actor} at {}: {reason}", shown(discarded.at));
    }
    if let Some(again) = letter.again_at {
        say!("  the same was published again at {}", shown(again));
    }
    for (number, (version, (data, attributes))) in letter.versions.iter().zip(&opened.contents).enumerate() {
        let whose = match (&version.actor, &version.reason) {
            (None, _) => "as it came".to_owned(),
            (Some(actor), None) => format!("by {}", harmless(actor)),
            (Some(actor), Some(reason)) => format!("by {}: {}", harmless(actor), harmless(reason)),
        };
        let whole = if version.is_whole { "" } else { ", of which the beginning is kept" };
        say!("");
        say!("{}", paint.strong(&format!("version {number}, {whose}, {} bytes{whole}", version.size)));
        for (name, value) in attributes {
            say!("  {}: {}", harmless(name), harmless(value));
        }
        body(data);
    }
    Ok(Verdict::Holds)
}

/// A body for a terminal: nothing in it may move the cursor or turn the text around it.
fn body(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let tidy = serde_json::from_slice::<Value>(data).ok().map(|value| format!("{value:#}"));
    let text = tidy.as_deref().unwrap_or(&text);
    let cut: String = text.chars().take(BODY_SHOWN).collect();
    for line in cut.lines() {
        say!("  {}", harmless(line));
    }
    if cut.len() < text.len() {
        say!("  … {} bytes more; --json shows all that is kept", text.len() - cut.len());
    }
}

impl Replay {
    async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let engine = engine(common, if self.apply { Access::Write } else { Access::Read }).await?;
        let asked = Replaying {
            letters: self.filter.wanted(&engine, common, &self.ids, self.every)?,
            limit: self.limit,
            force: self.force,
            with: self.with.as_deref().map(file).transpose()?,
            per_second: self.per_second,
            apply: self.apply,
            actor: self.actor.clone(),
            reason: self.reason.clone(),
        };
        if !self.apply {
            let plan = desk::plan(&engine, &asked).await.map_err(carry::of_letters)?.plan;
            if common.json {
                say!("{}", json!({ "applied": false, "plan": plan }));
            } else {
                would(&plan);
            }
            return Ok(verdict(&plan.letters));
        }
        let mut bar = Bar::new();
        let outcomes = carry::replay(common, &engine, &asked, &mut |progress| bar.tell(progress)).await;
        bar.end();
        let outcomes = outcomes?;
        if common.json {
            say!("{}", json!({ "applied": true, "letters": outcomes }));
        } else {
            say!("{}", counted(&outcomes));
            others(&outcomes, |outcome| outcome.verdict != letters::Verdict::Replayed);
            let is_named = |outcome: &Outcome| self.ids.iter().any(|id| outcome.id.as_str().starts_with(id.as_str()));
            let is_left = |outcome: &Outcome| matches!(outcome.verdict, letters::Verdict::Unneeded(_));
            if !self.force && outcomes.iter().any(|outcome| is_named(outcome) && is_left(outcome)) {
                say!("what nobody needs any more is not sent; --force sends it all the same");
            }
        }
        Ok(verdict(&outcomes))
    }
}

/// What was not done for a reason that somebody has to look at fails; what is not wanted does not.
fn verdict(outcomes: &[Outcome]) -> Verdict {
    if desk::is_sound(outcomes) { Verdict::Holds } else { Verdict::Fails }
}

fn counted(outcomes: &[Outcome]) -> String {
    let counts = desk::counts(outcomes);
    if counts.is_empty() {
        return "no letter is meant".to_owned();
    }
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

fn others(outcomes: &[Outcome], is_shown: impl Fn(&Outcome) -> bool) {
    let mut left = outcomes.iter().filter(|outcome| is_shown(outcome));
    for outcome in left.by_ref().take(SHOWN_MAX) {
        let why = harmless(outcome.verdict.why());
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        say!("  {}  {}  {}{why}", outcome.id, about(&outcome.about), outcome.verdict.as_str());
    }
    let more = left.count();
    if more > 0 {
        say!("  and {more} more; --json lists them all");
    }
}

fn would(plan: &Plan) {
    say!("{}", counted(&plan.letters));
    others(&plan.letters, |_| true);
    for (consumer, count) in &plan.reaches {
        let messages = if *count == 1 { "message" } else { "messages" };
        say!("reaches {}: {count} {messages}", harmless(consumer));
    }
    for consequence in &plan.consequences {
        let key = &consequence.partition;
        match &consequence.unknown {
            Some(why) => say!("{key}: {}", harmless(why)),
            None if consequence.moved.is_empty() && consequence.dispatches.is_empty() => {
                say!("{key}: {} facts, which change no state and ask for nothing", consequence.events);
            }
            None => say!("{key}: {} facts", consequence.events),
        }
        for (node, from, to) in &consequence.moved {
            say!("  {node}: {from} → {to}");
        }
        for dispatch in &consequence.dispatches {
            say!("  would dispatch {dispatch}");
        }
    }
    if plan.letters.iter().any(|outcome| outcome.verdict == letters::Verdict::Ready) {
        say!("nothing was done; --apply does it");
    }
}

impl Discard {
    async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let engine = engine(common, if self.apply { Access::Write } else { Access::Read }).await?;
        let letters = self.filter.wanted(&engine, common, &self.ids, self.every)?;
        let (limit, apply) = (self.limit, self.apply);
        let asked = Discarding { letters, limit, apply, actor: self.actor.clone(), reason: self.reason.clone() };
        let outcomes = carry::discard(common, &engine, &asked).await?;
        let refused = |outcome: &Outcome| matches!(outcome.verdict, letters::Verdict::Refused(_));
        let done = outcomes.iter().filter(|outcome| !refused(outcome)).count();
        if common.json {
            say!("{}", json!({ "applied": self.apply, "letters": outcomes }));
        } else if self.apply {
            say!("{done} discarded");
            others(&outcomes, refused);
        } else {
            say!("{done} would be discarded; --apply does it");
            others(&outcomes, |_| true);
        }
        Ok(if outcomes.iter().any(refused) { Verdict::Fails } else { Verdict::Holds })
    }
}

/// How far a replay is, on standard error.
struct Bar {
    is_terminal: bool,
    told: Option<Instant>,
}

impl Bar {
    fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), told: None }
    }

    fn tell(&mut self, progress: Progress) {
        let Progress { done, of, replayed, failed } = progress;
        let words = format!("{done} of {of}: {replayed} replayed, {failed} failed");
        if self.is_terminal {
            eprint!("\r{words}\u{1b}[K");
            let _ = std::io::stderr().flush();
        } else if of > SHOWN_MAX && (done == of || self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY)) {
            eprintln!("{words}");
            self.told = Some(Instant::now());
        }
    }

    fn end(&self) {
        if self.is_terminal {
            eprint!("\r\u{1b}[K");
            let _ = std::io::stderr().flush();
        }
    }
}
