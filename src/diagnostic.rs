//! Which place in a declaration is wrong?
//!
//! The YAML files an operator writes are read here into values that remember their line, so that every mistake can
//! be named as `FILE:LINE: KEY: MESSAGE` and an editor can jump to it. Two ways in:
//!
//! - [`parse`] for a type that derives `Deserialize`: stops at the first mistake, because a derived deserialiser does.
//! - [`Table::read`] for a file whose mistakes should all be listed at once: the caller takes the keys it knows, and
//!   what is left over is reported as unknown.
//!
//! It does not know what any key means. Unknown and repeated keys are mistakes in both, never silently dropped: a
//! misspelled threshold that falls back to its default is a change nobody decided.

use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error as YamlError, MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::domain::words::{harmless, harmless_lines};

/// One mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: String,
    /// Counted from one; zero where the reader could not say.
    pub line: u64,
    /// Path of the key from the top of the file, such as `topics.nba-phase1.subscriptions.raw.ack_deadline`.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are whoever's who wrote the file.
        let (file, key, message) = (harmless(&self.file), harmless(&self.key), harmless_lines(&self.message));
        write!(f, "{file}:{}: {key}: {message}", self.line)
    }
}

/// Every mistake found in one reading, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A line and the path of the key written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub key: String,
}

/// A value and the place of the key that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    pub value: T,
    pub place: Place,
}

/// Mistakes of one file, collected while it is read.
#[derive(Debug)]
pub struct Report {
    file: String,
    problems: Vec<Problem>,
}

impl Report {
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), problems: Vec::new() }
    }

    /// Notes a mistake at a place.
    pub fn at(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line: place.line,
            key: place.key.clone(),
            message: message.into(),
        });
    }

    /// How many mistakes have been noted.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether no mistake has been noted.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The value if nothing was noted, else everything noted, in the order of the file.
    pub fn finish<T>(mut self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        // A file is mended from the top, so that is the order; the sort is stable, so that mistakes of one line stay
        // in the order in which they were found.
        self.problems.sort_by_key(|problem| problem.line);
        Err(Problems(self.problems))
    }
}

/// The candidate that `name` was probably meant to be.
///
/// A third of the name may be wrong, and at least one letter: more than that suggests names that merely have the same
/// length. Swapped neighbours count as one mistake, being the commonest slip of the hand.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?`, or nothing where no candidate is near.
pub fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Reads a whole file into a type, or says which key on which line is in the way.
///
/// Structs should carry `#[serde(deny_unknown_fields)]`; a repeated key is refused whatever the type says.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Problems> {
    serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::Error))
        .map_err(|error| Problems(vec![problem(file, text, &error)]))
}

/// Levels of a file.
const DEPTH_MAX: usize = 32;

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        // `no` and `off` are words in a list of answers or teams before they are truth values.
        strict_booleans: true,
        // The excerpt of the source is for a terminal; a problem is one line.
        with_snippet: false,
        // Nobody writes so many levels, and each costs stack: a hundred of them would end the process.
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    }
}

fn problem(file: &str, text: &str, error: &YamlError) -> Problem {
    let error = innermost(error);
    let at = error.location().map_or(Point { line: 0, column: 0 }, Point::of);
    let outline = Outline::of(text);
    let mark = outline.mark_before(at);
    let place = match error {
        YamlError::SerdeMissingField { field, .. } => mark.missing(field),
        YamlError::SerdeUnknownField { field, .. } | YamlError::DuplicateMappingKey { key: Some(field), .. } => {
            Place { line: at.line, key: mark.named(field) }
        }
        _ => Place { line: at.line, key: mark.path.clone() },
    };
    let key = if place.key.is_empty() { written_on(text, at.line) } else { place.key };
    Problem { file: file.to_owned(), line: place.line, key, message: message(error) }
}

fn innermost(error: &YamlError) -> &YamlError {
    match error.without_snippet() {
        YamlError::AliasError { error, .. } => innermost(error),
        error => error,
    }
}

/// What is wrong, in words that need no knowledge of the library that noticed.
fn message(error: &YamlError) -> String {
    match error {
        YamlError::SerdeMissingField { .. } => "missing".to_owned(),
        YamlError::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        YamlError::SerdeUnknownVariant { variant, expected, .. } => not_one_of(variant, expected),
        YamlError::DuplicateMappingKey { .. } => WRITTEN_TWICE.to_owned(),
        YamlError::SerdeInvalidType { unexpected, expected, .. }
        | YamlError::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("expected {expected}, found {unexpected}")
        }
        YamlError::InvalidBooleanStrict { .. } => "expected true or false".to_owned(),
        error => one_line(&UserMessageFormatter.format_message(error)),
    }
}

const WRITTEN_TWICE: &str = "written twice in one mapping";

fn unknown_key(key: &str, known: &[&str]) -> String {
    let near = suggestion(key, known.iter().copied());
    if near.is_empty() {
        format!("unknown key; known here: {}", known.join(", "))
    } else {
        format!("unknown key{near}")
    }
}

/// `x` is not one of a, b, c, with the nearest suggested.
pub fn not_one_of(word: &str, known: &[&str]) -> String {
    format!("`{word}` is not one of {}{}", known.join(", "), suggestion(word, known.iter().copied()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The key on a line, for text so broken that no outline of it exists.
fn written_on(text: &str, line: u64) -> String {
    let line = usize::try_from(line).unwrap_or(usize::MAX);
    text.lines()
        .nth(line.saturating_sub(1))
        .and_then(|line| line.split_once(':'))
        .map(|(key, _)| key.trim_start_matches(['-', ' ']).trim().to_owned())
        .filter(|key| !key.is_empty())
        .unwrap_or_else(|| "(file)".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    line: u64,
    column: u64,
}

impl Point {
    fn of(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A key, a list item or a mapping, and what encloses it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    point: Point,
    path: String,
    /// The mapping in which it is written; a mapping is its own.
    within: Place,
}

impl Mark {
    /// A key that should have been written beside the last one read, at the line of the mapping that lacks it.
    fn missing(&self, field: &str) -> Place {
        Place { line: self.within.line, key: join(&self.within.key, field) }
    }

    /// The path of a key that an error names and that is written here or, if the library is vague, nearby.
    fn named(&self, field: &str) -> String {
        let beside = join(&self.within.key, field);
        if self.path == beside { beside } else { join(&self.path, field) }
    }
}

/// Every key, list item and mapping of a text, in the order they are written.
///
/// The library says where an error is, not under which key; the outline turns the one into the other.
#[derive(Debug)]
struct Outline {
    top: Mark,
    marks: Vec<Mark>,
}

impl Outline {
    fn of(text: &str) -> Self {
        let place = Place { line: 1, key: String::new() };
        let top = Mark { point: Point { line: 0, column: 0 }, path: String::new(), within: place.clone() };
        let mut outline = Self { top, marks: Vec::new() };
        if let Ok(tree) = tree(text) {
            outline.walk(&tree, &place);
            // A mapping in block style begins where its first key does; the sort is stable and keeps it before the key.
            outline.marks.sort_by_key(|mark| mark.point);
        }
        outline
    }

    fn walk(&mut self, tree: &Spanned<Tree>, place: &Place) {
        match &tree.value {
            Tree::Table(entries) => {
                self.marks.push(Mark {
                    point: Point::of(tree.referenced),
                    path: place.key.clone(),
                    within: place.clone(),
                });
                for (key, value) in entries {
                    let path = join(&place.key, &key.value);
                    self.marks.push(Mark {
                        point: Point::of(key.referenced),
                        path: path.clone(),
                        within: place.clone(),
                    });
                    self.walk(value, &Place { line: key.referenced.line(), key: path });
                }
            }
            Tree::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    let place = Place { line: item.referenced.line(), key: format!("{}[{i}]", place.key) };
                    self.marks.push(Mark {
                        point: Point::of(item.referenced),
                        path: place.key.clone(),
                        within: place.clone(),
                    });
                    self.walk(item, &place);
                }
            }
            Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Real(_) | Tree::Text(_) => {}
        }
    }

    /// The last mark at or before a point: the one that an error there is about.
    fn mark_before(&self, at: Point) -> &Mark {
        let after = self.marks.partition_point(|mark| mark.point <= at);
        after.checked_sub(1).map_or(&self.top, |i| &self.marks[i])
    }
}

/// Any YAML value, its parts with their places.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    List(Vec<Spanned<Tree>>),
    /// In the order written, repetitions included, so that both can be reported.
    Table(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Tree {
    fn describe(&self) -> String {
        match self {
            Tree::Null => "nothing".to_owned(),
            Tree::Bool(value) => format!("{value}"),
            Tree::Integer(value) => format!("{value}"),
            Tree::Real(value) => format!("{value}"),
            Tree::Text(value) => format!("`{value}`"),
            Tree::List(_) => "a list".to_owned(),
            Tree::Table(_) => "a mapping".to_owned(),
        }
    }
}

impl<'de> de::Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        i64::try_from(value).map(Tree::Integer).map_err(|_| E::custom(format!("{value} is too large a number")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Tree::Table(table))
    }
}

fn tree(text: &str) -> Result<Spanned<Tree>, YamlError> {
    serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::PassThrough))
}

/// Any value, its parts with their places, for what is handed on rather than interpreted here.
#[derive(Debug, Clone, PartialEq)]
pub enum Any {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    List(Vec<Found<Any>>),
    Table(Vec<(String, Found<Any>)>),
}

impl Any {
    fn of(tree: Tree, place: &Place, report: &mut Report) -> Self {
        match tree {
            Tree::Null => Self::Null,
            Tree::Bool(value) => Self::Bool(value),
            Tree::Integer(value) => Self::Integer(value),
            Tree::Real(value) => Self::Real(value),
            Tree::Text(value) => Self::Text(value),
            Tree::List(items) => {
                let item = |(i, item): (usize, Spanned<Tree>)| {
                    let place = Place { line: item.referenced.line(), key: format!("{}[{i}]", place.key) };
                    Found { value: Self::of(item.value, &place, report), place }
                };
                Self::List(items.into_iter().enumerate().map(item).collect())
            }
            Tree::Table(entries) => {
                let Table { place, entries, .. } = Table::new(place.clone(), entries, report);
                let entry = |(key, tree): (Spanned<String>, Spanned<Tree>)| {
                    let place = Place { line: key.referenced.line(), key: join(&place.key, &key.value) };
                    (key.value, Found { value: Self::of(tree.value, &place, report), place })
                };
                Self::Table(entries.into_iter().map(entry).collect())
            }
        }
    }
}

/// A mapping that is taken apart key by key; what nobody took is unknown.
#[derive(Debug)]
pub struct Table {
    place: Place,
    entries: Vec<(Spanned<String>, Spanned<Tree>)>,
    /// Every key that was asked for, for suggestions.
    known: Vec<&'static str>,
}

impl Table {
    /// The mapping that is the whole file. Fails only where the text is not YAML or not a mapping.
    pub fn read(file: &str, text: &str, report: &mut Report) -> Result<Self, Problems> {
        let tree = tree(text).map_err(|error| Problems(vec![problem(file, text, &error)]))?;
        let place = Place { line: tree.referenced.line(), key: String::new() };
        match tree.value {
            Tree::Table(entries) => Ok(Self::new(place, entries, report)),
            other => Err(Problems(vec![Problem {
                file: file.to_owned(),
                line: place.line,
                key: "(file)".to_owned(),
                message: format!("expected a mapping, found {}", other.describe()),
            }])),
        }
    }

    fn new(place: Place, entries: Vec<(Spanned<String>, Spanned<Tree>)>, report: &mut Report) -> Self {
        let mut table = Self { place, entries: Vec::with_capacity(entries.len()), known: Vec::new() };
        for (key, value) in entries {
            if table.entries.iter().any(|(earlier, _)| earlier.value == key.value) {
                report.at(&table.place_of(&key), WRITTEN_TWICE);
            } else {
                table.entries.push((key, value));
            }
        }
        table
    }

    /// Where the mapping is: the line of its key.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn place_of(&self, key: &Spanned<String>) -> Place {
        Place { line: key.referenced.line(), key: join(&self.place.key, &key.value) }
    }

    fn take(&mut self, key: &'static str) -> Option<Found<Tree>> {
        self.known.push(key);
        let at = self.entries.iter().position(|(written, _)| written.value == key)?;
        let (key, tree) = self.entries.remove(at);
        Some(Found { place: self.place_of(&key), value: tree.value })
    }

    /// Notes a key that has to be here and is not.
    pub fn require(&self, key: &str, report: &mut Report) {
        if !self.has(key) {
            report.at(&Place { line: self.place.line, key: join(&self.place.key, key) }, "missing");
        }
    }

    /// A text, if the key is there and holds one. A number is taken as its digits.
    pub fn text(&mut self, key: &'static str, report: &mut Report) -> Option<Found<String>> {
        let Found { value, place } = self.take(key)?;
        match value {
            Tree::Text(value) => Some(Found { value, place }),
            Tree::Integer(value) => Some(Found { value: value.to_string(), place }),
            other => {
                report.at(&place, format!("expected text, found {}", other.describe()));
                None
            }
        }
    }

    /// A text that has to be there.
    pub fn required_text(&mut self, key: &'static str, report: &mut Report) -> Option<Found<String>> {
        self.require(key, report);
        self.text(key, report)
    }

    /// A whole number, if the key is there and holds one.
    pub fn integer(&mut self, key: &'static str, report: &mut Report) -> Option<Found<i64>> {
        let Found { value, place } = self.take(key)?;
        match value {
            Tree::Integer(value) => Some(Found { value, place }),
            other => {
                report.at(&place, format!("expected a whole number, found {}", other.describe()));
                None
            }
        }
    }

    /// True or false, if the key is there and holds one.
    pub fn boolean(&mut self, key: &'static str, report: &mut Report) -> Option<Found<bool>> {
        let Found { value, place } = self.take(key)?;
        match value {
            Tree::Bool(value) => Some(Found { value, place }),
            other => {
                report.at(&place, format!("expected true or false, found {}", other.describe()));
                None
            }
        }
    }

    /// A list of texts; empty where the key is absent.
    pub fn texts(&mut self, key: &'static str, report: &mut Report) -> Vec<Found<String>> {
        let Some(Found { value, place }) = self.take(key) else { return Vec::new() };
        let Tree::List(items) = value else {
            report.at(&place, format!("expected a list of texts, found {}", value.describe()));
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let place = Place { line: item.referenced.line(), key: format!("{}[{i}]", place.key) };
            match item.value {
                Tree::Text(value) => texts.push(Found { value, place }),
                other => report.at(&place, format!("expected text, found {}", other.describe())),
            }
        }
        texts
    }

    /// A number, with or without decimals, if the key is there and holds one.
    pub fn number(&mut self, key: &'static str, report: &mut Report) -> Option<Found<f64>> {
        let Found { value, place } = self.take(key)?;
        match value {
            Tree::Real(value) => Some(Found { value, place }),
            // Every whole number that a declaration may sensibly hold is exact here.
            Tree::Integer(value) => i32::try_from(value).ok().map(|value| Found { value: f64::from(value), place }),
            other => {
                report.at(&place, format!("expected a number, found {}", other.describe()));
                None
            }
        }
    }

    /// The mappings of a list; empty where the key is absent.
    pub fn tables(&mut self, key: &'static str, report: &mut Report) -> Vec<Table> {
        let Some(Found { value, place }) = self.take(key) else { return Vec::new() };
        let Tree::List(items) = value else {
            report.at(&place, format!("expected a list of mappings, found {}", value.describe()));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let place = Place { line: item.referenced.line(), key: format!("{}[{i}]", place.key) };
            tables.extend(Self::of(item.value, place, report));
        }
        tables
    }

    /// Whatever is under a key, for what is handed on rather than interpreted here.
    pub fn any(&mut self, key: &'static str, report: &mut Report) -> Option<Found<Any>> {
        let Found { value, place } = self.take(key)?;
        let value = Any::of(value, &place, report);
        Some(Found { value, place })
    }

    /// A mapping under a key, if the key is there and holds one.
    pub fn table(&mut self, key: &'static str, report: &mut Report) -> Option<Table> {
        let Found { value, place } = self.take(key)?;
        Self::of(value, place, report)
    }

    fn of(tree: Tree, place: Place, report: &mut Report) -> Option<Table> {
        match tree {
            Tree::Table(entries) => Some(Self::new(place, entries, report)),
            other => {
                report.at(&place, format!("expected a mapping, found {}", other.describe()));
                None
            }
        }
    }

    /// The mappings under this one, for a mapping whose keys are names that the author chose.
    pub fn named(self, report: &mut Report) -> Vec<Found<(String, Table)>> {
        let Table { place, entries, .. } = self;
        let mut named = Vec::with_capacity(entries.len());
        for (key, tree) in entries {
            let place = Place { line: key.referenced.line(), key: join(&place.key, &key.value) };
            if let Some(table) = Self::of(tree.value, place.clone(), report) {
                named.push(Found { value: (key.value, table), place });
            }
        }
        named
    }

    /// Whether nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a key is there and not yet taken.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(written, _)| written.value == key)
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self, report: &mut Report) {
        for (key, _) in &self.entries {
            report.at(&self.place_of(key), unknown_key(&key.value, &self.known));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Graph {
        #[expect(dead_code, reason = "only whether it can be read is of interest")]
        version: u32,
        #[serde(default)]
        nodes: BTreeMap<String, Node>,
        #[serde(default)]
        gates: Vec<Node>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Node {
        kind: Kind,
        attempts_max: u32,
        #[serde(default)]
        required: bool,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Source,
        Task,
    }

    fn refused(text: &str) -> String {
        parse::<Graph>("graph.yaml", text).expect_err("the text has a mistake").to_string()
    }

    #[test]
    fn a_problem_reads_as_file_line_key_message() {
        // Editors and CI annotations parse this line, so its shape is fixed.
        let problem = Problem {
            file: "topics.yaml".into(),
            line: 7,
            key: "topics.a.retention".into(),
            message: "too long".into(),
        };
        assert_eq!(problem.to_string(), "topics.yaml:7: topics.a.retention: too long");
        assert_eq!(Problems(vec![problem.clone(), problem]).to_string().lines().count(), 2);
    }

    #[test]
    fn a_sound_file_is_read() {
        // Values arrive typed; nothing is reported.
        let graph: Graph = parse(
            "graph.yaml",
            "version: 1\nnodes:\n  a: { kind: task, attempts_max: 3 }\ngates:\n  - kind: source\n    attempts_max: 1\n    required: true\n",
        )
        .expect("sound");
        assert_eq!(graph.nodes["a"].kind, Kind::Task);
        assert_eq!(graph.nodes["a"].attempts_max, 3);
        assert!(graph.gates[0].required);
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_path() {
        // One row per kind of mistake a deserialiser can notice, in block and in flow style.
        let table = [
            (
                "version: 1\nnodes:\n  a:\n    kind: task\n    atempts_max: 3\n",
                "graph.yaml:5: nodes.a.atempts_max: unknown key; did you mean `attempts_max`?",
            ),
            (
                "version: 1\nnodes:\n  a: { kind: task, atempts_max: 3 }\n",
                "graph.yaml:3: nodes.a.atempts_max: unknown key; did you mean `attempts_max`?",
            ),
            ("version: 1\nnods: {}\n", "graph.yaml:2: nods: unknown key; did you mean `nodes`?"),
            ("version: 1\ncolour: {}\n", "graph.yaml:2: colour: unknown key; known here: version, nodes, gates"),
            ("nodes: {}\n", "graph.yaml:1: version: missing"),
            ("version: 1\nnodes:\n  a:\n    kind: task\n", "graph.yaml:3: nodes.a.attempts_max: missing"),
            ("version: 1\nnodes:\n  a: {}\n", "graph.yaml:3: nodes.a.kind: missing"),
            ("version: 1\nnodes:\n  a: { kind: task }\n", "graph.yaml:3: nodes.a.attempts_max: missing"),
            (
                "version: 1\ngates:\n  - { kind: task, attempts_max: 1 }\n  - kind: task\n",
                "graph.yaml:4: gates[1].attempts_max: missing",
            ),
            (
                "version: 1\nnodes:\n  a:\n    kind: tsak\n    attempts_max: 3\n",
                "graph.yaml:4: nodes.a.kind: `tsak` is not one of source, task; did you mean `task`?",
            ),
            (
                "version: 1\nnodes:\n  a: { kind: task, attempts_max: 3 }\n  b: { kind: task, attempts_max: 3 }\n  a: { kind: task, attempts_max: 3 }\n",
                "graph.yaml:5: nodes.a: written twice in one mapping",
            ),
            (
                "version: 1\nnodes:\n  a:\n    kind: task\n    attempts_max: 3\n    required: no\n",
                "graph.yaml:6: nodes.a.required: expected true or false",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(refused(text), expected, "\n{text}");
        }
    }

    #[test]
    fn values_of_the_wrong_shape_keep_their_place() {
        // The wording is the library's; the place is ours to keep.
        let shown = refused("version: 1\nnodes:\n  a:\n    kind: task\n    attempts_max: lots\n");
        assert!(shown.starts_with("graph.yaml:5: nodes.a.attempts_max: "), "{shown}");
        assert_eq!(shown.lines().count(), 1);
        let shown = refused("version: 1\nnodes: [1, 2]\n");
        assert!(shown.starts_with("graph.yaml:2: nodes: "), "{shown}");
    }

    #[test]
    fn text_that_is_no_yaml_still_has_a_line() {
        // Without a tree there is no path, so the key is what the line itself shows.
        let shown = refused("version: 1\nnodes: { a: [ }\n");
        assert!(shown.starts_with("graph.yaml:2: nodes: "), "{shown}");
        let shown = refused("version: 1\nnodes:\n\ta: 1\n");
        assert!(shown.starts_with("graph.yaml:3: a: "), "{shown}");
        assert!(refused("").contains("graph.yaml:"), "an empty file is named too");
    }

    #[test]
    fn nearest_suggests_slips_and_nothing_else() {
        // A suggestion that is merely another name of that length is worse than none.
        let known = ["nba-phase4-trigger", "nba-phase3-trigger", "nba-grading-trigger", "pull"];
        let table = [
            ("nba-phase4-triger", Some("nba-phase4-trigger")),
            ("nba-pahse3-trigger", Some("nba-phase3-trigger")),
            ("nba-gradnig-trigger", Some("nba-grading-trigger")),
            ("pul", Some("pull")),
            ("push", None),
            ("orders", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn a_table_lists_every_mistake_of_a_file() {
        // Four mistakes in one reading, in the order of the lines.
        let text = "name: x\nsize: big\nflag: maybe\nname: y\ncolour: red\n";
        let mut report = Report::new("t.yaml");
        let mut table = Table::read("t.yaml", text, &mut report).expect("is a mapping");
        assert_eq!(table.text("name", &mut report).map(|found| found.value), Some("x".to_owned()));
        assert_eq!(table.integer("size", &mut report), None);
        assert_eq!(table.boolean("flag", &mut report), None);
        table.required_text("owner", &mut report);
        table.finish(&mut report);
        let shown = report.finish(()).expect_err("mistakes").to_string();
        assert_eq!(
            shown,
            "t.yaml:1: owner: missing\n\
             t.yaml:2: size: expected a whole number, found `big`\n\
             t.yaml:3: flag: expected true or false, found `maybe`\n\
             t.yaml:4: name: written twice in one mapping\n\
             t.yaml:5: colour: unknown key; known here: name, size, flag, owner"
        );
    }
}
