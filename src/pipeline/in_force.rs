//! Which declarations decide, since when, and by whom they were brought: kept in the store, so that another declaration can be
//! held against them, and a replica that decides by others is noticed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::time::after;
use crate::wire::kept::Text;

/// Changes that are remembered.
const APPLIED_MAX: usize = 20;
/// A replica that has not been heard for so long is gone.
const GONE_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// Replicas that are remembered.
const REPLICAS_MAX: usize = 32;

/// What was brought into force, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// Of the pipelines, as every decision names it.
    pub revision: String,
    /// Of both declarations and the settings.
    pub digest: String,
    /// The version of tipoff.
    pub version: String,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// The declarations in force.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct InForce {
    /// `topics.yaml` and `pipeline.yaml`; nothing where no service has ever run on the store.
    pub texts: Option<(Text, Text)>,
    /// How they came to be in force: the latest last.
    pub applied: Vec<Applied>,
}

impl InForce {
    /// Has these be in force. Whether that is news.
    pub fn apply(&mut self, texts: &(Text, Text), applied: Applied) -> bool {
        let is_same = self
            .applied
            .last()
            .is_some_and(|last| (&last.digest, &last.version) == (&applied.digest, &applied.version));
        if is_same && self.texts.as_ref() == Some(texts) {
            return false;
        }
        self.texts = Some(texts.clone());
        self.applied.push(applied);
        let more = self.applied.len().saturating_sub(APPLIED_MAX);
        self.applied.drain(..more);
        true
    }
}

/// A running service, as others see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replica {
    /// The digest of what it decides by.
    pub digest: String,
    /// The version of tipoff.
    pub version: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// When it was last heard.
    pub seen: Timestamp,
    /// Why it could not put to work what its files say, when they were read again on nobody's behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Those that run on one store, by a name that each gives itself at its start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replicas(pub BTreeMap<String, Replica>);

impl Replicas {
    /// One says that it is there; those that have gone are forgotten.
    pub fn hear(&mut self, name: &str, replica: Replica) {
        let now = replica.seen;
        self.0.retain(|_, known| after(known.seen, GONE_AFTER) > now);
        if self.0.len() < REPLICAS_MAX || self.0.contains_key(name) {
            self.0.insert(name.to_owned(), replica);
        }
    }

    /// One has ended.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Why one of them could not put to work what its files say, where one could not.
    pub fn refused(&self) -> Option<&str> {
        self.0.values().find_map(|replica| replica.refused.as_deref())
    }

    /// Whether they decide by different things, and in which words.
    pub fn mixed(&self) -> Option<String> {
        let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for replica in self.0.values() {
            *kinds.entry((&replica.digest, &replica.version)).or_default() += 1;
        }
        if kinds.len() < 2 {
            return None;
        }
        let each = kinds.iter().map(|((digest, version), count)| format!("{count} by {digest} (version {version})"));
        Some(each.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i8) -> Timestamp {
        format!("2026-01-23T17:{minute:02}:00Z").parse().unwrap()
    }

    fn replica(digest: &str, seen: i8) -> Replica {
        Replica { digest: digest.to_owned(), version: "1".to_owned(), since: at(0), seen: at(seen), refused: None }
    }

    #[test]
    fn replicas_that_differ_are_told_until_one_has_gone() {
        let mut replicas = Replicas::default();
        replicas.hear("one", replica("aa", 0));
        replicas.hear("two", replica("aa", 1));
        assert_eq!(replicas.mixed(), None);
        replicas.hear("three", replica("bb", 2));
        assert_eq!(replicas.mixed().as_deref(), Some("2 by aa (version 1), 1 by bb (version 1)"));
        replicas.hear("three", replica("bb", 9));
        assert_eq!(replicas.mixed(), None, "the others have gone");
    }

    #[test]
    fn what_one_could_not_put_to_work_is_told_until_it_could_or_has_gone() {
        let mut replicas = Replicas::default();
        let refusing = |seen| Replica { refused: Some("no zone".to_owned()), ..replica("aa", seen) };
        replicas.hear("one", refusing(0));
        replicas.hear("two", replica("aa", 1));
        assert_eq!(replicas.refused(), Some("no zone"), "another's files are its own");
        replicas.hear("one", replica("aa", 2));
        assert_eq!(replicas.refused(), None);
        replicas.hear("one", refusing(3));
        replicas.hear("two", replica("aa", 9));
        assert_eq!(replicas.refused(), None, "it has gone");
    }

    #[test]
    fn the_same_again_is_no_news_and_what_was_is_remembered() {
        let text = |text: &str| Text { file: "f".to_owned(), text: text.to_owned() };
        let applied = |digest: &str| Applied {
            revision: digest.to_owned(),
            digest: digest.to_owned(),
            version: "1".to_owned(),
            at: at(0),
            actor: "ann".to_owned(),
            reason: "r".to_owned(),
        };
        let mut in_force = InForce::default();
        assert!(in_force.apply(&(text("a"), text("b")), applied("aa")));
        assert!(!in_force.apply(&(text("a"), text("b")), applied("aa")));
        assert!(in_force.apply(&(text("a"), text("c")), applied("bb")));
        for _ in 0..APPLIED_MAX {
            in_force.apply(&(text("a"), text("b")), applied("aa"));
            in_force.apply(&(text("a"), text("c")), applied("bb"));
        }
        assert_eq!(in_force.applied.len(), APPLIED_MAX);
        assert_eq!(in_force.texts.as_ref().map(|(_, pipelines)| pipelines.text.as_str()), Some("c"));
    }
}
