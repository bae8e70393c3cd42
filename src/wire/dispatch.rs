//!
use std::collections::BTreeMap;
/// Where a message goes.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Target {
    /// A topic of the broker.
    Topic(String),
    /// A declared service.
    Http {
        /// Which.
        service: String,
        /// Path.
        path: String,
    },
}
/// A message ready to leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The dispatch id, with `#2` for its second message.
    pub id: String,
    /// Where to.
    pub target: Target,
    /// The JSON body.
    pub body: Vec<u8>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}
