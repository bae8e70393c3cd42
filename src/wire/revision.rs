//! Which revision of its program a producer says it is, in a heartbeat or a completion: `revision`, as Cloud Run names it, or
//! `commit`.

use super::inbound::Delivery;
use super::value::{Text, is_control};
use crate::domain::event::{Event, Served};
use crate::domain::id::NodeId;

/// Characters of a revision; a commit's digest has 40.
const REVISION_MAX: usize = 100;

/// What it says, if it says anything that is a name.
pub(super) fn served(node: &NodeId, said: [&Option<Text>; 2], delivery: &Delivery) -> Option<Event> {
    let revision = said.into_iter().flatten().map(|text| text.0.trim()).find(|text| !text.is_empty())?;
    let is_name = revision.len() <= REVISION_MAX && !revision.chars().any(is_control);
    let at = delivery.published;
    is_name.then(|| Event::Served(Served { node: node.clone(), revision: revision.into(), at }))
}
