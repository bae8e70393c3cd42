//! What waits for a target, a cap or a stop, as one alert tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::domain::effect::Dispatch;
use crate::domain::id::{NodeId, PartitionKey};

/// Dates that an alert names.
const DATES_SHOWN: usize = 20;
/// Nodes of each.
const NODES_SHOWN: usize = 5;

/// What is known of each thing that may stand in the way, by the key of its alert: what waits for it, or that it works.
pub(super) type Targets = Mutex<BTreeMap<String, Option<Waiting>>>;

/// Dates and nodes whose dispatches wait.
#[derive(Default, Debug)]
pub(super) struct Waiting(BTreeMap<PartitionKey, BTreeSet<NodeId>>);

/// What people are told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The newest dates with their nodes, and how many there are.
    pub shown: String,
    /// The newest date.
    pub newest: PartitionKey,
}

impl Waiting {
    /// Takes a dispatch in. It is worth telling if it is the first of its date.
    pub fn add(&mut self, dispatch: &Dispatch) -> Option<Told> {
        let news = !self.0.contains_key(&dispatch.key);
        self.0.entry(dispatch.key.clone()).or_default().insert(dispatch.node.clone());
        let (newest, _) = self.0.last_key_value()?;
        news.then(|| Told { shown: self.shown(), newest: newest.clone() })
    }

    fn shown(&self) -> String {
        let mut shown: Vec<String> =
            self.0.iter().rev().take(DATES_SHOWN).map(|(key, nodes)| of_date(key, nodes)).collect();
        let more = self.0.len().saturating_sub(shown.len());
        if more > 0 {
            shown.push(format!("and {more} more dates"));
        }
        shown.join(", ")
    }
}

fn of_date(key: &PartitionKey, nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<&str> = nodes.iter().take(NODES_SHOWN).map(NodeId::as_str).collect();
    let more = nodes.len().saturating_sub(names.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{key} ({}{rest})", names.join(", "))
}
