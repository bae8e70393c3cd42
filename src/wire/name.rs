//! Which node of which pipeline does a message mean?
//!
//! Only declared names count: a node's aliases, and the tables among them. Nothing is derived by rewriting class names,
//! which once turned the same processor into two.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::diagnostic::nearest;
use crate::domain::event::{Event, Note};
use crate::domain::graph::Graph;
use crate::domain::id::{DispatchId, NodeId, PartitionKey, PipelineId};

use super::inbound::{Decoded, NAME_MAX, Routes};
use super::parked::{Ignored, Reason, excerpt};
use super::value::is_control;

/// The longest unknown name for which a near one is searched; comparing longer ones costs more than the hint is worth.
const HINT_MAX: usize = 64;

/// What a pipeline's messages may name beside its nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Naming {
    /// How the names of its datasets begin; they tell pipelines apart where both know a name.
    pub datasets: Vec<String>,
    /// Where the files of a node lie in the bucket, and the node's name. Of several that fit, the longest counts.
    pub files: BTreeMap<String, String>,
    /// How names, and places in the bucket, of producers begin that feed no date. Consulted only where no pipeline knows
    /// the name; a `p2_` before it is left aside.
    pub untracked: Vec<String>,
}

/// The names a message gives of its producer.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// The producer's own name.
    pub name: &'a str,
    /// Whether that is the name of the table it wrote; scrapers are called like the tables their files end up in.
    pub is_table: bool,
    /// Tables it wrote, with or without dataset.
    pub tables: Vec<&'a str>,
    /// The dataset it wrote, where said apart.
    pub dataset: Option<&'a str>,
}

/// What the names came to.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Which date of which pipeline.
    pub key: PartitionKey,
    /// Which node.
    pub node: NodeId,
    /// The dispatch that is answered, if it is one of this node for this date.
    pub dispatch: Option<DispatchId>,
    /// What an operator should know of the names.
    pub notes: Vec<Event>,
}

/// Who writes a stored file.
pub(super) enum Writer<'a> {
    /// The node of this name.
    Node(&'a str),
    /// A producer that feeds no date.
    Untracked,
    /// Nobody who is known.
    Unknown,
}

/// Who writes the file at `path`, with or without `gs://` and bucket before it.
pub(super) fn writer_of<'a>(routes: &Routes<'a>, path: &str) -> Writer<'a> {
    let object = path.strip_prefix("gs://").map_or(path, |rest| rest.split_once('/').map_or("", |(_, object)| object));
    let object = object.trim_start_matches('/');
    let places = routes.naming.values().flat_map(|naming| &naming.files);
    let fitting = places.filter(|(place, _)| object.starts_with(place.as_str()));
    match fitting.max_by_key(|(place, _)| place.len()) {
        Some((_, node)) => Writer::Node(node),
        None if is_untracked(routes, object) => Writer::Untracked,
        None => Writer::Unknown,
    }
}

/// Refuses what no producer is called: a name is shown, logged and kept.
pub(super) fn checked<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Reason> {
    if text.chars().any(is_control) {
        return Err(Reason::ControlCharacter { field });
    }
    if text.chars().count() > NAME_MAX {
        return Err(Reason::TooLong { field });
    }
    Ok(text)
}

/// Finds the node, or says what becomes of the message instead.
pub(super) fn resolve(
    routes: &Routes<'_>,
    topic: (&str, &str),
    names: &Names<'_>,
    date: Result<Date, Reason>,
    published: Timestamp,
    echoed: Option<&str>,
) -> Result<Resolved, Decoded> {
    let (topic, pipeline) = topic;
    let park = |reason| Decoded::Parked { reason };
    let name = checked("the name", names.name).map_err(park)?;
    let (graph, known_as) = match find(routes, pipeline, names) {
        Found::One(graph, known_as) => (graph, known_as),
        Found::Several(pipelines) => {
            return Err(park(Reason::AmbiguousName { name: excerpt(name), pipelines }));
        }
        Found::None if is_untracked(routes, name) => return Err(Decoded::Ignored { reason: Ignored::Untracked }),
        Found::None => return Err(park(Reason::UnknownName { name: excerpt(name), hint: hint(routes, name) })),
    };
    let date = date.and_then(|date| within(graph, date, published)).map_err(park)?;
    let key = PartitionKey::new(graph.pipeline.clone(), date);
    // The echo of a dispatch names the pass; without it the date's relation to the day of publishing does.
    let sharers = graph.aliases.get(&known_as.name).map_or(&[][..], Vec::as_slice);
    let echo = echoed
        .filter(|id| id.chars().count() <= NAME_MAX)
        .map(DispatchId::from)
        .and_then(|id| id.parts().map(|(of, node, _)| (id, of, node)))
        .filter(|(_, of, node)| *of == key && sharers.contains(node));
    let (node, dispatch) = match echo {
        Some((id, _, node)) => (node, Some(id)),
        None => match graph.resolve(&known_as.name, date, published) {
            Some(node) => (node.clone(), None),
            // An alias of nobody, which a checked declaration does not have.
            None => return Err(park(Reason::UnknownName { name: excerpt(name), hint: String::new() })),
        },
    };
    let mut notes = Vec::new();
    if known_as.by == By::Table {
        notes.push(Event::Noted(Note::UnknownName { name: Arc::from(name), node: node.clone() }));
    }
    if pipeline != graph.pipeline.as_str() {
        notes.push(Event::Noted(Note::WrongTopic { name: Arc::from(name), topic: Arc::from(topic) }));
    }
    Ok(Resolved { key, node, dispatch, notes })
}

/// The alias under which a graph knows the producer.
struct KnownAs {
    name: String,
    by: By,
}

/// What told the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The producer's name.
    Name,
    /// Only the table it wrote.
    Table,
}

enum Found<'a> {
    None,
    One(&'a Graph, KnownAs),
    Several(Vec<PipelineId>),
}

fn find<'a>(routes: &Routes<'a>, pipeline: &str, names: &Names<'_>) -> Found<'a> {
    let mut forms: Vec<(String, By)> = Vec::new();
    if names.is_table && !names.name.contains('.') {
        forms.extend(qualified(routes, pipeline, names.name).map(|alias| (alias.to_owned(), By::Name)));
    }
    forms.extend(spellings(names.name, None).into_iter().map(|form| (form, By::Name)));
    for table in &names.tables {
        forms.extend(spellings(table, names.dataset).into_iter().map(|form| (form, By::Table)));
    }
    for (name, by) in forms {
        let knowing: Vec<&'a Graph> =
            routes.graphs.iter().copied().filter(|graph| graph.aliases.contains_key(&name)).collect();
        let chosen = match knowing.as_slice() {
            [] => continue,
            [only] => Some(*only),
            several => by_dataset(routes, several, names)
                .or_else(|| several.iter().copied().find(|graph| graph.pipeline.as_str() == pipeline)),
        };
        return match chosen {
            Some(graph) => Found::One(graph, KnownAs { name, by }),
            None => Found::Several(knowing.iter().map(|graph| graph.pipeline.clone()).collect()),
        };
    }
    Found::None
}

/// The names that end in a bare table, with their datasets; those of the topic's own pipeline first.
fn qualified<'a>(routes: &Routes<'a>, pipeline: &str, table: &str) -> impl Iterator<Item = &'a str> {
    let ending = format!(".{}", table.to_ascii_lowercase());
    let mut graphs = routes.graphs.clone();
    graphs.sort_by_key(|graph| graph.pipeline.as_str() != pipeline);
    graphs
        .into_iter()
        .flat_map(|graph| graph.aliases.keys())
        .map(String::as_str)
        .filter(move |alias| alias.ends_with(&ending) && !alias.starts_with("p2_"))
}

/// The ways in which a declaration may write one name, the most particular first: with its dataset, as it is, without.
///
/// `p2_` goes with the dataset only. A bare `p2_x` is never taken for `x`, for scrapers are called like the tables that
/// their files end up in, and a loader's report is not its scraper's.
fn spellings(name: &str, dataset: Option<&str>) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    match (name.strip_prefix("p2_").and_then(|table| table.rsplit_once('.')), name.rsplit_once('.')) {
        (Some((dataset, table)), _) => vec![name.clone(), format!("{dataset}.{table}"), format!("p2_{table}")],
        (None, Some((_, table))) => vec![name.clone(), table.to_owned()],
        (None, None) => {
            let qualified = dataset.map(|dataset| format!("{}.{name}", dataset.to_ascii_lowercase()));
            qualified.into_iter().chain([name]).collect()
        }
    }
}

/// The one graph of `among` to which the dataset belongs that the message names.
fn by_dataset<'a>(routes: &Routes<'a>, among: &[&'a Graph], names: &Names<'_>) -> Option<&'a Graph> {
    let qualified = |name: &str| name.rsplit_once('.').map(|(dataset, _)| dataset.to_owned());
    let named = names.dataset.map(str::to_owned).or_else(|| names.tables.iter().find_map(|table| qualified(table)));
    let dataset = named.or_else(|| qualified(names.name))?.to_ascii_lowercase();
    let dataset = dataset.strip_prefix("p2_").unwrap_or(&dataset);
    let mut owners = among.iter().copied().filter(|graph| {
        let prefixes = routes.naming.get(&graph.pipeline).map_or(&[][..], |naming| naming.datasets.as_slice());
        prefixes.iter().any(|prefix| dataset.starts_with(&prefix.to_ascii_lowercase()))
    });
    let first = owners.next()?;
    owners.next().is_none().then_some(first)
}

fn is_untracked(routes: &Routes<'_>, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let bare = name.strip_prefix("p2_").unwrap_or(&name);
    let table = bare.rsplit_once('.').map_or(bare, |(_, table)| table);
    let mut families = routes.naming.values().flat_map(|naming| &naming.untracked);
    families.any(|family| bare.starts_with(family.as_str()) || table.starts_with(family.as_str()))
}

fn hint(routes: &Routes<'_>, name: &str) -> String {
    let length = name.chars().count();
    if length > HINT_MAX {
        return String::new();
    }
    let name = name.to_ascii_lowercase();
    let near = routes.graphs.iter().flat_map(|graph| graph.aliases.keys()).map(String::as_str);
    // Names that differ more in length than `nearest` allows in all cannot be near, and comparing is what costs.
    let near = near.filter(|known| known.chars().count().abs_diff(length) <= (length / 3).max(1));
    nearest(&name, near).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// `date`, if the pipeline takes messages about it. Compared with the day of publishing, so that a message means the
/// same however late it is read.
fn within(graph: &Graph, date: Date, published: Timestamp) -> Result<Date, Reason> {
    let today = graph.date_at(published);
    let days = today.until(date).map_or(i32::MAX, |span| span.get_days());
    if days > graph.limits.ahead_max {
        return Err(Reason::TooFarAhead { date, today, max: graph.limits.ahead_max });
    }
    if days < graph.limits.behind_max.saturating_neg() {
        return Err(Reason::TooOld { date, today, max: graph.limits.behind_max });
    }
    Ok(date)
}
