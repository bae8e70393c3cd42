//! What whoever is asked does: begins, beats, ends; or what those did whose day was recorded.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::broker::long_name;
use super::{RunError, World};
use crate::domain::event::Event;
use crate::domain::graph::Heartbeats;
use crate::domain::id::{Attempt, DispatchId, NodeId, PartitionKey, RunId};
use crate::domain::time::after;
use crate::scenario::file::{Answer, Follow, Step, span};
use crate::scenario::seen::Sent;

impl World<'_> {
    /// Does what followed this dispatch, or the last one like it, when it was recorded.
    fn follow(
        &mut self,
        key: &PartitionKey,
        node: &NodeId,
        (id, attempt): (&DispatchId, Attempt),
        at: Timestamp,
    ) -> Result<(), RunError> {
        let nth = self.dispatched.entry((key.clone(), node.clone())).or_default();
        *nth += 1;
        let nth = *nth;
        let is_of =
            |follow: &&Follow| follow.pipeline == key.pipeline && follow.date == key.date && follow.node == *node;
        let described = || self.scenario.follows.iter().map(|follow| &follow.value).filter(is_of);
        let found = described().find(|follow| follow.nth == nth);
        let like = || described().filter(|follow| !follow.steps.is_empty()).max_by_key(|follow| follow.nth);
        let Some(found) = found.or_else(like) else { return Ok(()) };
        let again = (found.nth != nth).then(|| format!("~{nth}"));
        for (index, step) in found.steps.iter().enumerate() {
            let step = answering(step.clone(), id, attempt, again.as_deref());
            self.lay(&step, at, &format!("after {id}, {}", index + 1))?;
        }
        Ok(())
    }

    /// Does what the consumer of a dispatch would.
    pub(super) fn answer(&mut self, sent: &Sent, at: Timestamp) -> Result<(), RunError> {
        let Some((key, node, attempt)) = sent.dispatch.parts() else { return Ok(()) };
        if !self.scenario.follows.is_empty() {
            self.follow(&key, &node, (&sent.dispatch, attempt), at)?;
        }
        let Some(mut answer) = self.scenario.answers.get(&node) else { return Ok(()) };
        let asked = node.clone();
        let nth = self.answers.entry(node).or_default();
        *nth += 1;
        while let (Some(times), Some(then)) = (answer.times, &answer.then) {
            if *nth <= times {
                break;
            }
            answer = then;
        }
        let run = format!("{}-{}-{}", answer.processor, attempt.run, attempt.attempt);
        let part = |text: &Option<String>, otherwise: i64| match text {
            Some(text) => span(text).map_err(RunError::File),
            None => Ok(SignedDuration::from_secs(otherwise)),
        };
        let starts = part(&answer.starts, 20)?;
        let completes = answer.completes.as_ref().map(|_| part(&answer.completes, 0)).transpose()?;
        let beats = match completes {
            Some(completes) => (completes.saturating_sub(starts).as_secs() / 60).max(0) + 1,
            None => i64::from(answer.beats),
        };
        let Answer { processor, topic, records, .. } = answer.clone();
        let graph = self.declarations.pipelines.get(&key.pipeline).map(|pipeline| &pipeline.graph);
        let liveness = graph.and_then(|graph| graph.node(&asked)).map(|node| node.liveness.heartbeats);
        let told = if liveness == Some(Heartbeats::None) { 0 } else { beats };
        for beat in 0..told {
            let when = after(after(at, starts), SignedDuration::from_secs(60 * beat));
            let body = json!({ "processor_name": processor, "run_id": run, "data_date": key.date,
                "status": "running", "progress": beat, "total": (beats - 1).max(1), "status_message": "" });
            let topic = long_name("hb");
            self.message(&run, &topic, body.to_string().into_bytes(), BTreeMap::new(), when, when, &[]);
        }
        if let Some(completes) = completes {
            let when = after(at, completes);
            let mut body = json!({ "processor_name": processor, "execution_id": run, "correlation_id": run,
                "game_date": key.date, "status": "success", "record_count": records, "timestamp": when,
                "target_date": key.date });
            if let Some(reason) = &answer.fails {
                body["status"] = json!("failed");
                body["error_message"] = json!(reason);
            }
            let topic = long_name(&topic);
            self.message(&run, &topic, body.to_string().into_bytes(), BTreeMap::new(), when, when, &[]);
        }
        Ok(())
    }
}

/// A recorded step as the answer to a dispatch: it names that dispatch, and where it is played more than once its run is
/// another each time.
fn answering(mut step: Step, id: &DispatchId, attempt: Attempt, again: Option<&str>) -> Step {
    let renamed = |run: &str| format!("{run}{}", again.unwrap_or_default());
    if let Some(beats) = &mut step.heartbeats {
        beats.run = renamed(&beats.run);
    }
    if let Some(body) = step.publish.as_mut().and_then(|publish| publish.body.as_mut()) {
        for member in ["execution_id", "run_id", "batch_id"] {
            if let Some(run) = body.get_mut(member)
                && let Some(text) = run.as_str()
            {
                *run = json!(renamed(text));
            }
        }
        if let Some(echo) = body.pointer_mut("/tipoff/dispatch_id")
            && echo == "{dispatch}"
        {
            *echo = json!(id);
        }
    }
    match step.event.as_mut().map(|told| &mut told.is) {
        Some(Event::Completed(done)) => {
            done.run = RunId::from(renamed(done.run.as_str()).as_str());
            done.dispatch = done.dispatch.take().map(|_| id.clone());
        }
        Some(Event::Heartbeat(beat)) => beat.run = RunId::from(renamed(beat.run.as_str()).as_str()),
        Some(Event::Delivery(delivery)) => delivery.attempt = attempt,
        Some(Event::Withheld(told)) => told.attempt = attempt,
        Some(_) | None => {}
    }
    step
}
