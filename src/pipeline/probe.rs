//! What is asked of the warehouse about a node's output, and about a date?
//!
//! A probe is a query written once and asked for several nodes: `{{ table }}` and `{{ date_column }}` are filled in
//! from the declaration when it is read, `@date` and what the probe declares under `with` are parameters of the query.
//! A report is such a query about the date itself, with nothing to fill in. What holds of every [`Probe`] that exists:
//! it is one statement that only reads, it asks about `@date`, and every parameter it names has a value.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Any, Found, Place, Report, Table, suggestion};
use crate::wire::report;

/// The column that most tables keep a game date in.
const DATE_COLUMN: &str = "game_date";
/// The parameter that every probe has.
const DATE: &str = "date";

/// A query with everything but the date filled in. About an output, its rows have the columns `observed` and
/// `expected`, and may have `unit`, by which they are then told apart; a report's have the columns of its
/// [`report::Kind`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Probe {
    /// Its name in the declaration.
    pub name: String,
    /// The query, with `@date` and `arguments` as its parameters.
    pub sql: String,
    /// The values of the parameters beside the date.
    pub arguments: BTreeMap<String, Argument>,
}

/// The value of a parameter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Argument {
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
}

impl Argument {
    fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Text(_) => "text",
        }
    }
}

/// A query as written.
pub(super) struct DraftProbe {
    sql: String,
    with: BTreeMap<String, Argument>,
}

/// What a node asks, as written.
pub(super) struct DraftAsk {
    name: Found<String>,
    date_column: Option<Found<String>>,
    with: Vec<(String, Found<Argument>)>,
}

/// Reads one of the pipeline's probes.
pub(super) fn probe(table: Table, report: &mut Report) -> DraftProbe {
    query(table, "a probe", &["observed", "expected"], report)
}

/// Reads one of the pipeline's reports, if it is one that is known.
pub(super) fn reported(name: &str, place: &Place, table: Table, report: &mut Report) -> Option<(report::Kind, Probe)> {
    let kind = match name.parse::<report::Kind>() {
        Ok(kind) => kind,
        Err(message) => {
            report.at(place, message);
            return None;
        }
    };
    let DraftProbe { sql, with } = query(table, "a report", kind.columns(), report);
    if sql.contains("{{") {
        report.at(place, "a report names its tables itself; nothing is filled in");
    }
    Some((kind, Probe { name: name.to_owned(), sql, arguments: with }))
}

fn query(mut table: Table, what: &str, columns: &[&str], report: &mut Report) -> DraftProbe {
    let sql = table.required_text("sql", report);
    let with = table.any("with", report);
    table.finish(report);
    let mut declared = BTreeMap::new();
    for (name, value) in with.map(|found| arguments(found, report)).unwrap_or_default() {
        if name == DATE {
            report.at(&value.place, "the date is given by whoever asks");
        }
        declared.insert(name, value.value);
    }
    if let Some(sql) = &sql {
        check(sql, &declared, what, columns, report);
    }
    DraftProbe { sql: sql.map(|found| found.value).unwrap_or_default(), with: declared }
}

/// Reads what a node says under `probe`: a name, or a name with what is particular to the node.
pub(super) fn ask(found: Found<Any>, report: &mut Report) -> Option<DraftAsk> {
    let Found { value, place } = found;
    let entries = match value {
        Any::Text(name) => {
            return Some(DraftAsk { name: Found { value: name, place }, date_column: None, with: Vec::new() });
        }
        Any::Table(entries) => entries,
        Any::Null | Any::Bool(_) | Any::Integer(_) | Any::Real(_) | Any::List(_) => {
            report.at(&place, "expected the name of a probe, or a mapping with name, date_column and with");
            return None;
        }
    };
    let (mut name, mut date_column, mut with) = (None, None, Vec::new());
    for (key, found) in entries {
        match (key.as_str(), found) {
            ("name", Found { value: Any::Text(value), place }) => name = Some(Found { value, place }),
            ("date_column", Found { value: Any::Text(value), place }) => date_column = Some(Found { value, place }),
            ("with", found) => with = arguments(found, report),
            ("name" | "date_column", found) => report.at(&found.place, "expected text"),
            (_, found) => {
                let near = suggestion(&key, ["name", "date_column", "with"]);
                report.at(&found.place, format!("unknown key{near}"));
            }
        }
    }
    if name.is_none() {
        report.at(&Place { line: place.line, key: format!("{}.name", place.key) }, "missing");
    }
    Some(DraftAsk { name: name?, date_column, with })
}

fn arguments(found: Found<Any>, report: &mut Report) -> Vec<(String, Found<Argument>)> {
    let Any::Table(entries) = found.value else {
        report.at(&found.place, "expected a mapping");
        return Vec::new();
    };
    let mut read = Vec::new();
    for (name, Found { value, place }) in entries {
        match value {
            Any::Integer(number) => read.push((name, Found { value: Argument::Integer(number), place })),
            Any::Text(text) => read.push((name, Found { value: Argument::Text(text), place })),
            Any::Null | Any::Bool(_) | Any::Real(_) | Any::List(_) | Any::Table(_) => {
                report.at(&place, "expected a whole number or text");
            }
        }
    }
    read
}

/// Notes what can be seen of a query without running it.
fn check(sql: &Found<String>, with: &BTreeMap<String, Argument>, what: &str, columns: &[&str], report: &mut Report) {
    let text = &sql.value;
    let start = text.trim_start().to_ascii_uppercase();
    if !(start.starts_with("SELECT") || start.starts_with("WITH")) || text.contains(';') {
        report.at(&sql.place, format!("{what} is one query; it begins with SELECT or WITH and has no `;`"));
    }
    for column in columns.iter().filter(|column| !text.contains(**column)) {
        report.at(&sql.place, format!("names no column `{column}`; {what} gives {}", list(columns)));
    }
    if let Err(message) = fill(text, "", "") {
        report.at(&sql.place, message);
    }
    let named = parameters(text);
    if !named.contains(DATE) {
        report.at(&sql.place, "does not ask about @date, so it would read every date");
    }
    for name in named.iter().filter(|name| **name != DATE && !with.contains_key(**name)) {
        let near = suggestion(name, with.keys().map(String::as_str).chain([DATE]));
        report.at(&sql.place, format!("`@{name}` is not declared under with{near}"));
    }
    for name in with.keys().filter(|name| !named.contains(name.as_str())) {
        report.at(&sql.place, format!("`{name}` is declared under with and not used"));
    }
}

/// Names as a sentence has them: `a, b and c`.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

/// The names after each `@`. Ours never stand in a literal; one that does is noted as undeclared, which is safe.
fn parameters(sql: &str) -> BTreeSet<&str> {
    let name = |rest: &'_ str| rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    sql.split('@').skip(1).map(|rest| &rest[..name(rest)]).collect()
}

/// Fills the holes of a query.
fn fill(sql: &str, table: &str, date_column: &str) -> Result<String, String> {
    let mut parts = sql.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hole, rest) = part.split_once("}}").ok_or("opens a hole with {{ and does not close it")?;
        filled.push_str(match hole.trim() {
            "table" => table,
            "date_column" => date_column,
            other => {
                let near = suggestion(other, ["table", "date_column"]);
                return Err(format!("`{other}` is not known{near}; table and date_column are filled in"));
            }
        });
        filled.push_str(rest);
    }
    Ok(filled)
}

/// What a node asks, with everything filled in. `output` is the node's table; both names are put in back-quotes, so
/// neither may hold one.
pub(super) fn resolve(
    ask: &DraftAsk,
    output: &str,
    probes: &BTreeMap<String, DraftProbe>,
    report: &mut Report,
) -> Option<Probe> {
    let Some(probe) = probes.get(&ask.name.value) else {
        let near = suggestion(&ask.name.value, probes.keys().map(String::as_str));
        report.at(&ask.name.place, format!("no probe `{}` is declared{near}", ask.name.value));
        return None;
    };
    let column = ask.date_column.as_ref().map_or(DATE_COLUMN, |found| &found.value);
    if let Some(found) = ask.date_column.as_ref().filter(|found| !is_identifier(&found.value)) {
        report.at(&found.place, format!("`{}` is no name of a column", found.value));
    }
    let mut arguments = probe.with.clone();
    for (name, found) in &ask.with {
        match arguments.get_mut(name) {
            Some(held) if held.kind() == found.value.kind() => *held = found.value.clone(),
            Some(held) => report.at(&found.place, format!("expected {}", held.kind())),
            None => {
                let near = suggestion(name, probe.with.keys().map(String::as_str));
                report.at(&found.place, format!("`{}` has no argument `{name}`{near}", ask.name.value));
            }
        }
    }
    let sql = fill(&probe.sql, &format!("`{output}`"), &format!("`{column}`")).ok()?;
    Some(Probe { name: ask.name.value.clone(), sql, arguments })
}

/// Whether a name may be put between back-quotes as it is.
pub(super) fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
