//! Publish calls that failed as a whole. Their publisher sends all of it again, and what was applied the first time must be
//! recognised: the messages keep their id and the instant of their first telling.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Messages remembered; the contents of ten full calls.
const REMEMBERED_MAX: usize = 10_000;

type Content = [u8; 32];

/// Messages of failed calls, by topic and content.
#[derive(Debug, Default)]
pub struct Retold(Mutex<BTreeMap<Content, (String, Timestamp)>>);

impl Retold {
    /// The id of a message and the instant it was first told, `now` unless a call with it has failed.
    pub fn identity(
        &self,
        topic: &str,
        data: &[u8],
        attributes: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Taken out, so that the same content published later is another message.
        known.remove(&content(topic, data, attributes)).unwrap_or_else(|| (uuid::Uuid::new_v4().to_string(), now))
    }

    /// The call with this message has failed.
    pub fn failed(
        &self,
        topic: &str,
        data: &[u8],
        attributes: &BTreeMap<String, String>,
        identity: (String, Timestamp),
    ) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.len() < REMEMBERED_MAX {
            known.insert(content(topic, data, attributes), identity);
        }
    }
}

fn content(topic: &str, data: &[u8], attributes: &BTreeMap<String, String>) -> Content {
    let mut digest = Sha256::new();
    let attributes = attributes.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
    for part in [topic.as_bytes(), data].into_iter().chain(attributes) {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
