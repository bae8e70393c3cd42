//! Where in a text is what, for errors that say a line and not under which key.

use serde_saphyr::Spanned;

use super::table::{Tree, tree};
use super::{Place, join};

/// A place in a text, both counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub line: u64,
    pub column: u64,
}

impl Point {
    pub fn of(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A key, a list item or a mapping, and what encloses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    point: Point,
    pub path: String,
    /// The mapping in which it is written; a mapping is its own.
    within: Place,
}

impl Mark {
    /// A key that should have been written beside the last one read, at the line of the mapping that lacks it.
    pub fn missing(&self, field: &str) -> Place {
        Place { line: self.within.line, key: join(&self.within.key, field) }
    }

    /// The path of a key that an error names and that is written here or, if the library is vague, nearby.
    pub fn named(&self, field: &str) -> String {
        let beside = join(&self.within.key, field);
        if self.path == beside { beside } else { join(&self.path, field) }
    }
}

/// Every key, list item and mapping of a text, in the order they are written.
///
/// The library says where an error is, not under which key; the outline turns the one into the other.
#[derive(Debug)]
pub(super) struct Outline {
    top: Mark,
    marks: Vec<Mark>,
}

impl Outline {
    pub fn of(text: &str) -> Self {
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
    pub fn mark_before(&self, at: Point) -> &Mark {
        let after = self.marks.partition_point(|mark| mark.point <= at);
        after.checked_sub(1).map_or(&self.top, |i| &self.marks[i])
    }
}
