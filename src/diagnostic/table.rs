//! A file of which every mistake is to be listed, taken apart key by key.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error as YamlError, Spanned};

use super::{Found, Place, Problem, Problems, Report, WRITTEN_TWICE, join, options, problem, unknown_key};

/// Any YAML value, its parts with their places.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
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

/// The whole text, as it is written.
pub(super) fn tree(text: &str) -> Result<Spanned<Tree>, YamlError> {
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
