//! Publish calls that failed as a whole. Their publisher sends all of it again, and what was applied the first time must be
//! recognised: the messages keep their id and the instant of their first telling.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Messages remembered; the contents of ten full calls.
const REMEMBERED_MAX: usize = 10_000;

/// The digest of a topic and of what was sent to it.
type Content = [u8; 32];

/// A message as it was first told.
#[derive(Debug)]
pub struct Identity {
    /// The broker's name for it.
    pub id: String,
    /// When it was first told.
    pub published: Timestamp,
    content: Content,
}

/// Messages of failed calls, by topic and content.
#[derive(Debug, Default)]
pub struct Retold(Mutex<BTreeMap<Content, (String, Timestamp)>>);

impl Retold {
    /// What a message is known by: a new id, told `now`, unless a call with it has failed.
    pub fn identity(
        &self,
        topic: &str,
        data: &[u8],
        attributes: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Identity {
        let content = content(topic, data, attributes);
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Taken out, so that the same content published later is another message.
        let (id, published) = known.remove(&content).unwrap_or_else(|| (uuid::Uuid::new_v4().to_string(), now));
        Identity { id, published, content }
    }

    /// The call with this message has failed.
    pub fn failed(&self, Identity { id, published, content }: Identity) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.len() < REMEMBERED_MAX {
            known.insert(content, (id, published));
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
