//! `capsule` and `replay`: what was recorded of a date, in one file, decided again, or played on other terms.

use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::inspect::{Desk, harmless, zone};
use super::paint::Paint;
use super::say::{print_with, say};
use super::{Common, Fault, Verdict, graph};
use crate::diagnostic;
use crate::domain::graph::Graph;
use crate::domain::id::{NodeId, PartitionKey, PipelineId};
use crate::domain::partition::{Node as Facts, Partition};
use crate::domain::time::shown;
use crate::pipeline::{self, Declarations};
use crate::replay::capsule::{Capsule, Declared};
use crate::replay::compare::{Comparison, Missed, Outcome, compare};
use crate::replay::record::{Reach, Record};
use crate::replay::story::{Purpose, Story, neighbours, story, title};
use crate::replay::walk::{Difference, Walk, hex};
use crate::scenario::file::Scenario;

/// Dates that are played at once.
const DATES_MAX: usize = 31;
/// Differences that are printed.
const SHOWN_MAX: usize = 10;

/// `tipoff capsule DATE`
#[derive(Args)]
pub struct MakeCapsule {
    /// Which date
    date: String,
    /// Where to write it, compressed where it ends in .gz; - is standard output [default: PIPELINE-DATE.capsule.json.gz]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A scenario for `tipoff simulate` instead: what came in comes in again, and the same is expected [default: to standard output]
    #[arg(long)]
    scenario: bool,
}

/// `tipoff replay DATE|FROM..TO|FILE`
#[derive(Args)]
pub struct Replay {
    /// A date, several as FROM..TO, or a capsule
    #[arg(value_name = "DATE|FILE")]
    what: String,
    /// Decide everything again, and exit 1 where the same declaration decides otherwise; what is done where nothing else is asked
    #[arg(long)]
    verify: bool,
    /// Play it on a changed declaration: a merge patch on pipeline.yaml
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    what_if: Option<PathBuf>,
    /// Or with this changed, as nodes.predictions.attempts_max=1; a path begins within the pipeline
    #[arg(long = "set", value_name = "PATH=VALUE", conflicts_with = "verify")]
    set: Vec<String>,
    /// Write the scenario of a capsule that `tipoff simulate` plays to standard output instead
    #[arg(long, conflicts_with_all = ["verify", "what_if", "set"])]
    scenario: bool,
}

/// What is taken up again: records, the dates that were asked about among them, and what they are decided on.
struct Subject {
    topics: (String, String),
    pipelines: (String, String),
    declarations: Arc<Declarations>,
    /// The dates asked about first.
    records: Vec<Record>,
    asked: Vec<PartitionKey>,
}

impl MakeCapsule {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let desk = Desk::open(common).await?;
        let key = desk.key(desk.date(&self.date)?);
        let (topics, pipelines) = common.texts()?;
        let (topics, pipelines) = (Declared::new(topics), Declared::new(pipelines));
        let gathered = Capsule::gather((&*desk.store, &*desk.bus), (topics, pipelines), &key, desk.now.at).await;
        let capsule = gathered.map_err(Fault::unusable)?;
        let own = &capsule.records[0];
        if own.reach(desk.graph()) == Reach::Nothing {
            return Err(Fault::usage(anyhow::anyhow!("nothing was ever decided about {key}")));
        }
        if self.scenario {
            let records: Vec<&Record> = capsule.records.iter().collect();
            let made = scenario(&desk.declarations, &records)?;
            return write_text(&made, self.output.as_deref(), common);
        }
        let usual = || PathBuf::from(format!("{}-{}.capsule.json.gz", key.pipeline, key.date));
        let path = self.output.clone().unwrap_or_else(usual);
        if path.as_os_str() == "-" {
            print_with(|out| capsule.write(None, out));
            return Ok(Verdict::Holds);
        }
        let unwritten = |error: std::io::Error| Fault::usage(anyhow::anyhow!("write {}: {error}", path.display()));
        // What it holds is as good as the requests of operators.
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(unwritten)?;
        // Also where one was there already. What is no file has a mode of its own.
        if file.metadata().is_ok_and(|found| found.is_file()) {
            file.set_permissions(Permissions::from_mode(0o600)).map_err(unwritten)?;
        }
        capsule.write(Some(&path), &file).and_then(|()| file.sync_all()).map_err(unwritten)?;
        let others: Vec<String> = capsule.records[1..].iter().map(|record| record.key.date.to_string()).collect();
        if common.json {
            say!(
                "{}",
                json!({ "file": path, "partition": key, "entries": own.entries.len(), "with": others,
                    "parked": capsule.parked.len(), "alerts": capsule.alerts.len(), "revision": capsule.pipelines.revision,
                    "decided_by": own.revisions().into_iter().map(hex).collect::<Vec<_>>() })
            );
            return Ok(Verdict::Holds);
        }
        let with = if others.is_empty() { String::new() } else { format!(", with {}", others.join(" and ")) };
        say!("{key}: {} entries{with} → {}", own.entries.len(), harmless(&path.display().to_string()));
        let elsewhere = own.revisions().into_iter().filter(|revision| *revision != desk.graph().revision);
        let elsewhere: Vec<String> = elsewhere.map(hex).collect();
        if !elsewhere.is_empty() {
            let paint = Paint::stdout();
            let list = elsewhere.join(", ");
            say!(
                "{}",
                paint.bad(&format!("parts of it were decided by revision {list}, which is not the one that is in it"))
            );
        }
        Ok(Verdict::Holds)
    }
}

/// The scenario of whole records.
fn scenario(declarations: &Declarations, records: &[&Record]) -> Result<Story, Fault> {
    let Some(own) = records.first() else { return Err(Fault::usage(anyhow::anyhow!("it holds no date"))) };
    let graph = graph_of(declarations, &own.key)?;
    whole(graph, own)?;
    let is_played = |record: &&Record| record.key == own.key || is_whole(declarations, record);
    let records: Vec<&Record> = records.iter().copied().filter(is_played).collect();
    story(declarations, &records, &title(&own.key), Purpose::Regression)
        .map_err(|why| Fault::usage(anyhow::anyhow!(why)))
}

fn write_text(story: &Story, path: Option<&Path>, common: &Common) -> Result<Verdict, Fault> {
    match path.filter(|path| path.as_os_str() != "-") {
        None => print_with(|out| out.write_all(story.text.as_bytes())),
        Some(path) => {
            let unwritten = |error| Fault::usage(anyhow::anyhow!("write {}: {error}", path.display()));
            std::fs::write(path, &story.text).map_err(unwritten)?;
            if !common.json {
                say!("{}: play it with `tipoff simulate {0}`", harmless(&path.display().to_string()));
            }
        }
    }
    for left_out in &story.left_out {
        eprintln!("tipoff: left out: {}", harmless(left_out));
    }
    Ok(Verdict::Holds)
}

fn graph_of<'d>(declarations: &'d Declarations, key: &PartitionKey) -> Result<&'d Graph, Fault> {
    let found = declarations.pipelines.get(&key.pipeline).map(|pipeline| &*pipeline.graph);
    found.ok_or_else(|| graph::no_pipeline(declarations, key.pipeline.as_str()))
}

fn is_whole(declarations: &Declarations, record: &Record) -> bool {
    let graph = declarations.pipelines.get(&record.key.pipeline).map(|pipeline| &*pipeline.graph);
    graph.is_some_and(|graph| record.broken.is_none() && record.reach(graph) == Reach::Whole)
}

/// Refuses a record on which nothing can be built, and says from where on it is known.
fn whole(graph: &Graph, record: &Record) -> Result<(), Fault> {
    let key = &record.key;
    match record.reach(graph) {
        Reach::Nothing => Err(Fault::usage(anyhow::anyhow!("nothing was ever decided about {key}"))),
        Reach::Cut => {
            let from = record.entries.first().map_or("nothing of it is kept".to_owned(), |first| {
                format!("it begins at {} with version {}", shown(first.now.at), first.version)
            });
            Err(Fault {
                code: 1,
                error: anyhow::anyhow!(
                    "the record of {key} is not whole: {from}, and entries are kept for 30 days; it cannot be decided again"
                ),
            })
        }
        Reach::Whole => match &record.broken {
            None => Ok(()),
            Some(broken) => {
                Err(Fault { code: 1, error: anyhow::anyhow!("the record of {key} is not whole: {}", harmless(broken)) })
            }
        },
    }
}

impl Replay {
    pub async fn run(&self, common: &Common) -> Result<Verdict, Fault> {
        let subject = self.subject(common).await?;
        if self.scenario {
            let records: Vec<&Record> = subject.records.iter().collect();
            return write_text(&scenario(&subject.declarations, &records)?, None, common);
        }
        if self.what_if.is_some() || !self.set.is_empty() {
            return self.what_if(&subject, common).await;
        }
        verify(&subject, common)
    }

    /// Whether it is about a capsule, and no date.
    pub fn is_of_a_file(&self) -> bool {
        Path::new(&self.what).is_file()
            || self.what.contains(['/', '\\'])
            || self.what.ends_with(".json")
            || self.what.ends_with(".gz")
    }

    /// A capsule where there is a file of that name, else dates of the store.
    async fn subject(&self, common: &Common) -> Result<Subject, Fault> {
        if self.is_of_a_file() {
            return self.capsule(Path::new(&self.what), common);
        }
        let desk = Desk::open(common).await?;
        let (from, until) = match self.what.split_once("..") {
            Some((from, until)) => (desk.date(from)?, desk.date(until)?),
            None => (desk.date(&self.what)?, desk.date(&self.what)?),
        };
        let count = from.until(until).map_or(-1, |span| span.get_days());
        if usize::try_from(count).map_or(true, |count| count >= DATES_MAX) {
            return Err(Fault::usage(anyhow::anyhow!("{from}..{until} are not between one and {DATES_MAX} dates")));
        }
        let dates: Vec<Date> = from.series(jiff::Span::new().days(1)).take_while(|date| *date <= until).collect();
        let is_one = dates.len() == 1;
        let mut records = Vec::new();
        for date in dates {
            let record = Record::read(&*desk.store, &desk.key(date)).await.map_err(Fault::unusable)?;
            // Of several dates those without a record are days off.
            if is_one || record.version > 0 {
                records.push(record);
            }
        }
        if records.is_empty() {
            return Err(Fault::usage(anyhow::anyhow!("nothing was ever decided about any date of {from}..{until}")));
        }
        let asked: Vec<PartitionKey> = records.iter().map(|record| record.key.clone()).collect();
        let before: Vec<PartitionKey> = records
            .iter()
            .flat_map(neighbours)
            .filter(|key| key.date < from && !asked.contains(key))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for key in before {
            let record = Record::read(&*desk.store, &key).await.map_err(Fault::unusable)?;
            if record.version > 0 {
                records.push(record);
            }
        }
        let (topics, pipelines) = common.texts()?;
        Ok(Subject { topics, pipelines, declarations: Arc::new(desk.declarations), records, asked })
    }

    fn capsule(&self, path: &Path, common: &Common) -> Result<Subject, Fault> {
        let refused = |why: String| {
            Fault::usage(anyhow::anyhow!("{}: {}", harmless(&path.display().to_string()), harmless(&why)))
        };
        let file = File::open(path).map_err(|error| refused(error.to_string()))?;
        let capsule = Capsule::read(file).map_err(|error| refused(error.to_string()))?;
        let (mut topics, mut pipelines) =
            ((capsule.topics.name, capsule.topics.text), (capsule.pipelines.name, capsule.pipelines.text));
        // What is named here goes before what was carried along.
        let (here, there) = common.texts()?;
        if common.topics.is_some() {
            topics = here;
        }
        if common.pipeline_file.is_some() {
            pipelines = there;
        }
        let declarations =
            pipeline::load((&topics.0, &topics.1), (&pipelines.0, &pipelines.1)).map_err(Fault::usage)?;
        graph_of(&declarations, &capsule.about)?;
        Ok(Subject {
            topics,
            pipelines,
            declarations: Arc::new(declarations),
            asked: vec![capsule.about],
            records: capsule.records,
        })
    }

    async fn what_if(&self, subject: &Subject, common: &Common) -> Result<Verdict, Fault> {
        let changed = self.changed(subject, common)?;
        for record in subject.records.iter().filter(|record| subject.asked.contains(&record.key)) {
            whole(graph_of(&subject.declarations, &record.key)?, record)?;
        }
        let records: Vec<&Record> = subject
            .records
            .iter()
            .filter(|record| subject.asked.contains(&record.key) || is_whole(&subject.declarations, record))
            .collect();
        let usage = |why: String| Fault::usage(anyhow::anyhow!(why));
        let told = story(&subject.declarations, &records, "what if", Purpose::Trial).map_err(usage)?;
        let scenario = Scenario::read("the record", &told.text).map_err(Fault::usage)?;
        let both = (&subject.declarations, &changed);
        let found = compare(&told, &scenario, both, &records, &subject.asked).await;
        let found = found.map_err(|error| Fault::unusable(anyhow::anyhow!("play the record: {error}")))?;
        if common.json {
            say!("{}", json!(found));
        } else {
            let graph = graph_of(&subject.declarations, &subject.asked[0])?;
            print(&found, graph);
        }
        Ok(Verdict::Holds)
    }

    /// The declarations with what is changed.
    fn changed(&self, subject: &Subject, common: &Common) -> Result<Arc<Declarations>, Fault> {
        let (name, text) = (&subject.pipelines.0, subject.pipelines.1.clone());
        let mut text = text;
        if let Some(path) = &self.what_if {
            let file = path.display().to_string();
            let read = std::fs::read_to_string(path);
            let read = read.map_err(|error| Fault::usage(anyhow::anyhow!("read {}: {error}", harmless(&file))))?;
            let patch: Value = diagnostic::parse(&file, &read).map_err(Fault::usage)?;
            text = pipeline::with_overrides(name, &text, &patch).map_err(Fault::usage)?;
        }
        for set in &self.set {
            let declared: Value = diagnostic::parse(name, &text).map_err(Fault::usage)?;
            let patch = patch_of(set, &PipelineId::from(common.pipeline.as_str()), &declared)?;
            text = pipeline::with_overrides(name, &text, &patch).map_err(Fault::usage)?;
        }
        let file = format!("{name} as changed");
        let loaded = pipeline::load((&subject.topics.0, &subject.topics.1), (&file, &text));
        let loaded = loaded.map_err(Fault::usage)?;
        for key in &subject.asked {
            graph_of(&loaded, key)?;
        }
        Ok(Arc::new(loaded))
    }
}

/// The merge patch that a `PATH=VALUE` means. The name of a node may have dots in it: of the keys that are declared, the
/// longest that fits counts.
fn patch_of(set: &str, pipeline: &PipelineId, declared: &Value) -> Result<Value, Fault> {
    let wrong = |why: &str| Fault::usage(anyhow::anyhow!("--set {}: {why}", harmless(set)));
    let (path, value) = set.split_once('=').ok_or_else(|| wrong("write PATH=VALUE"))?;
    let value: Value = diagnostic::parse("--set", value).map_err(Fault::usage)?;
    let whole = if path.starts_with("pipelines.") { path.to_owned() } else { format!("pipelines.{pipeline}.{path}") };
    let mut keys: Vec<String> = Vec::new();
    let (mut rest, mut here) = (whole.as_str(), Some(declared));
    while !rest.is_empty() {
        let members = here.and_then(Value::as_object);
        let fits = |key: &&String| {
            rest.strip_prefix(key.as_str()).is_some_and(|tail| tail.is_empty() || tail.starts_with('.'))
        };
        let known = members.and_then(|members| members.keys().filter(fits).max_by_key(|key| key.len()));
        let key = match known {
            Some(key) => key.clone(),
            None => rest.split('.').next().unwrap_or_default().to_owned(),
        };
        if key.is_empty() {
            return Err(wrong("a part of the path is empty"));
        }
        here = members.and_then(|members| members.get(&key));
        rest = rest[key.len()..].strip_prefix('.').unwrap_or_default();
        keys.push(key);
    }
    Ok(keys.into_iter().rev().fold(value, |inner, key| json!({ key: inner })))
}

/// What deciding a record again came to.
struct Verified<'r> {
    record: &'r Record,
    differences: Vec<Difference>,
    /// Whether the entries make the partition that was stored.
    is_same: bool,
}

/// Leaves out what the version that stored the date did not keep: when a failed run had begun.
fn as_stored(made: &mut Partition, stored: &Partition) {
    let unknown = |facts: &Facts| facts.failure.as_ref().is_some_and(|failure| failure.began.is_none());
    for (id, _) in stored.nodes.iter().filter(|(_, facts)| unknown(facts)) {
        if let Some(failure) = made.nodes.get_mut(id).and_then(|facts| facts.failure.as_mut()) {
            failure.began = None;
        }
    }
}

fn verify(subject: &Subject, common: &Common) -> Result<Verdict, Fault> {
    let paint = Paint::stdout();
    let mut failed = false;
    for record in subject.records.iter().filter(|record| subject.asked.contains(&record.key)) {
        let graph = graph_of(&subject.declarations, &record.key)?;
        whole(graph, record)?;
        let mut walk = Walk::new(graph, record.key.clone());
        let differences: Vec<Difference> = record.entries.iter().filter_map(|entry| walk.take(entry)).collect();
        as_stored(&mut walk.partition, &record.partition);
        let found = Verified { record, differences, is_same: walk.partition == record.partition };
        // What follows another decision is another day: the first difference tells whose it is.
        let first = found.differences.first();
        let is_ours = first.is_some_and(|first| first.revision == hex(graph.revision));
        let others = record.revisions().iter().any(|revision| *revision != graph.revision);
        failed |= is_ours || first.is_none() && !found.is_same && !others;
        if common.json {
            say!(
                "{}",
                json!({ "partition": record.key, "entries": record.entries.len(), "revision": hex(graph.revision),
                    "decided_by": record.revisions().into_iter().map(hex).collect::<Vec<_>>(),
                    "differences": found.differences, "state_is_the_same": found.is_same,
                    "holds": first.is_none() && found.is_same })
            );
        } else {
            found.print(graph, &subject.pipelines.0, paint);
        }
    }
    Ok(if failed { Verdict::Fails } else { Verdict::Holds })
}

impl Verified<'_> {
    fn print(&self, graph: &Graph, file: &str, paint: Paint) {
        let Self { record, differences, is_same } = self;
        let name = paint.strong(&record.key.to_string());
        let here = hex(graph.revision);
        let count = record.entries.len();
        let file = harmless(file);
        let others: Vec<String> =
            record.revisions().into_iter().filter(|revision| *revision != graph.revision).map(hex).collect();
        if differences.is_empty() && *is_same {
            let by = if others.is_empty() {
                "the same revision".to_owned()
            } else {
                format!("revision {}", others.join(", "))
            };
            say!("{name}: {count} entries decided again by {file} ({here}), all as by {by}");
            return;
        }
        say!("{name}: {} of {count} entries would be decided otherwise by {file} ({here})", differences.len());
        if !others.is_empty() {
            say!("  it was decided by revision {}: differences are to be expected", others.join(", "));
        }
        for difference in differences.iter().take(SHOWN_MAX) {
            let by = if difference.revision == here { String::new() } else { format!(", by {}", difference.revision) };
            say!("  entry {} at {}{by}", difference.entry, shown(difference.at));
            for text in &difference.lost {
                say!("    {} {}", paint.bad("-"), harmless(text));
            }
            for text in &difference.new {
                say!("    {} {}", paint.strong("+"), harmless(text));
            }
        }
        if differences.len() > SHOWN_MAX {
            say!("  {}", paint.dim(&format!("and {} more; --json has all", differences.len() - SHOWN_MAX)));
        }
        if differences.is_empty() {
            say!("  every decision is the same, and yet the stored state is another than the entries make");
        }
    }
}

fn print(found: &Comparison, graph: &Graph) {
    let (paint, clocks) = (Paint::stdout(), &graph.zone);
    for (before, then) in &found.dates {
        say!("{} ({})", paint.strong(&before.partition.to_string()), zone(graph));
        table(before, then, clocks, paint);
        let (lost, lost_then) = (before.lost(), then.lost());
        let games = |lost: &[&crate::domain::id::UnitId]| match lost {
            [] => "none".to_owned(),
            some => some.iter().map(|game| harmless(game.as_str())).collect::<Vec<_>>().join(", "),
        };
        let marked = |text: String, is_worse: bool| if is_worse { paint.bad(&text) } else { text };
        if before.games.is_empty() {
            say!("  no game is known of the date");
        } else {
            let of = before.games.len();
            say!("  games that begin without predictions, of {of}:");
            say!("    as declared  {}: {}", lost.len(), games(&lost));
            say!(
                "    as changed   {}",
                marked(format!("{}: {}", lost_then.len(), games(&lost_then)), lost_then.len() > lost.len())
            );
        }
        let line = |what: &str, before: usize, then: usize| {
            say!("  {what:<22} {before} → {}", marked(then.to_string(), then > before));
        };
        line("degraded runs", before.degraded(), then.degraded());
        line("deadlines missed", before.missed.len(), then.missed.len());
        let only = |these: &Outcome, those: &Outcome| -> Vec<Missed> {
            these.missed.iter().filter(|missed| !those.missed.contains(missed)).cloned().collect()
        };
        for (sign, missed) in [("+", only(then, before)), ("-", only(before, then))] {
            for missed in missed {
                let games: Vec<&str> = missed.games.iter().map(|game| game.as_str()).collect();
                let games =
                    if games.is_empty() { String::new() } else { format!(" for {}", harmless(&games.join(", "))) };
                say!("    {sign} {} {}{games}", clock(missed.at, clocks), missed.node);
            }
        }
        line("alerts raised", before.alerts.len(), then.alerts.len());
        for (sign, these, those) in [("+", then, before), ("-", before, then)] {
            for (key, severity) in these.alerts.iter().filter(|(key, _)| !those.alerts.contains_key(*key)) {
                say!("    {sign} {:<8} {}", severity.as_str(), harmless(key.as_str()));
            }
        }
    }
    say!("{}", paint.dim(&format!("Assumed: {}.", found.model)));
    if found.assumed > 0 {
        say!(
            "{}",
            paint.dim(&format!("{} dispatches as changed go as an earlier run of their node did.", found.assumed))
        );
    }
    if found.unanswered > 0 {
        let count = found.unanswered;
        say!(
            "{}",
            paint.bad(&format!("{count} dispatches as changed are answered by nobody: no run of theirs was recorded."))
        );
    }
    for left_out in &found.left_out {
        say!("{}", paint.dim(&format!("Left out: {}.", harmless(left_out))));
    }
    if !found.unlike_the_record.is_empty() {
        let count = found.unlike_the_record.len();
        say!("{}", paint.bad(&format!("Played as declared it differs from the record in {count} dispatches:")));
        for unlike in found.unlike_the_record.iter().take(SHOWN_MAX) {
            say!("  {}", harmless(unlike));
        }
    }
}

/// When each node was first dispatched, and how often.
fn table(before: &Outcome, then: &Outcome, clocks: &TimeZone, paint: Paint) {
    let mut nodes: Vec<&NodeId> = before.nodes.keys().chain(then.nodes.keys()).collect();
    let first = |outcome: &Outcome, node: &NodeId| outcome.nodes.get(node).and_then(|sent| sent.at.first().copied());
    nodes.sort_by_key(|node| (first(before, node).or(first(then, node)), node.as_str()));
    nodes.dedup();
    say!("{}", paint.dim("  first dispatch of                   as declared       as changed        by"));
    for node in nodes {
        let cell = |outcome: &Outcome| match outcome.nodes.get(node) {
            None => "never".to_owned(),
            Some(sent) => {
                let times = if sent.at.len() > 1 { format!(" ×{}", sent.at.len()) } else { String::new() };
                let at = sent.at.first().map_or_else(String::new, |at| clock(*at, clocks));
                let degraded = if sent.degraded > 0 { " degr." } else { "" };
                format!("{at}{times}{degraded}")
            }
        };
        let by = match (first(before, node), first(then, node)) {
            (Some(one), Some(other)) if one == other => String::new(),
            (Some(one), Some(other)) => {
                let by = other.duration_since(one).as_secs();
                let (sign, by) = (if by < 0 { "-" } else { "+" }, by.abs());
                format!("{sign}{}h{:02}m{:02}s", by / 3600, by / 60 % 60, by % 60)
            }
            _ => String::new(),
        };
        let (declared, changed) = (cell(before), cell(then));
        let shown = format!("{changed:<17}");
        let shown = if changed == "never" { paint.bad(&shown) } else { shown };
        say!("  {:<35} {declared:<17} {shown} {by}", node.to_string());
    }
}

fn clock(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).strftime("%a %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::partition::{Failure, FailureKind};

    #[test]
    fn what_an_earlier_version_did_not_keep_is_no_difference_and_anything_else_is() {
        let at = Timestamp::UNIX_EPOCH;
        let date = |began, text: &str| {
            let failure = Failure { at, run: None, kind: FailureKind::Silent, text: text.into(), charged: true, began };
            let mut partition = Partition::new(PartitionKey::new("nba", jiff::civil::date(2026, 1, 22)));
            partition.nodes.insert("t".into(), Facts { failure: Some(failure), ..Facts::default() });
            partition
        };
        let later = at + jiff::SignedDuration::from_secs(1);
        for (made, stored, is_same) in [
            (date(Some(at), "no"), date(None, "no"), true),
            (date(Some(at), "no"), date(None, "yes"), false),
            (date(Some(at), "no"), date(Some(later), "no"), false),
            (date(None, "no"), date(Some(at), "no"), false),
        ] {
            let mut replayed = made.clone();
            as_stored(&mut replayed, &stored);
            assert_eq!(replayed == stored, is_same, "{made:?} {stored:?}");
        }
    }
}
