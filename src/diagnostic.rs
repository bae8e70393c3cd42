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

mod outline;
mod table;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, Error as YamlError, MessageFormatter, Options, UserMessageFormatter};

use self::outline::{Outline, Point};
pub use self::table::{Any, Table};

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
