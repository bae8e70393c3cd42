//! Records of dates as a scenario: what came in comes in again, on the wire where a message can say it.
//!
//! What a run of our own dispatch said follows that dispatch, by as much as it did then: so the scenario means the same where
//! the dispatch comes a little sooner or later, or not at all. Whatever nobody here asked for comes when it came. What the
//! warehouse answered becomes a fact shortly before the answer, and follows the run of which it is the outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::domain::coverage::Coverage;
use crate::domain::effect::{Dispatch, Effect};
use crate::domain::event::{CheckAnswer, Completed, Event, Heartbeat, Outcome, Pulse};
use crate::domain::evidence::Extent;
use crate::domain::graph::{Heartbeats, Kind};
use crate::domain::id::{CheckId, NodeId, PartitionKey, PipelineId, RunId, UnitId};
use crate::domain::partition::Recorded;
use crate::domain::time::after;
use crate::pipeline::{Declarations, Pipeline};
use crate::port::JournalEntry;
use crate::topology::Carries;
use crate::wire::inbound::{Decoded, Delivery, Routes, decode};

use super::record::Record;

/// How long before the first entry the clock begins, where the process had been listening for a while by then.
const BEFORE: SignedDuration = SignedDuration::from_mins(2);
/// For how long a process that has just started listens before it judges silence.
const SETTLE_IN: SignedDuration = SignedDuration::from_secs(60);
/// What was decided last is sent within this, before a process that is stopped is gone.
const WINDS_DOWN: SignedDuration = SignedDuration::from_secs(5);
/// A message that was taken up within this after it was published came at once.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(30);
/// So long before it was counted a row is taken to have been there.
const FACT_LEAD: SignedDuration = SignedDuration::from_secs(5);
/// A dispatch of the scenario may come so much sooner or later than the recorded one: sweeps come by at other seconds.
const SOONER: SignedDuration = SignedDuration::from_secs(30);
const LATER: SignedDuration = SignedDuration::from_secs(90);
/// The clock ends so long after the last entry.
const AFTER: SignedDuration = SignedDuration::from_secs(15);

/// What is made of the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A scenario that holds where the same is decided again: it expects the dispatches of its first date.
    Regression,
    /// A day to be played on other terms: nothing is expected, and forecasts, which were made on the old terms, are left out.
    Trial,
}

/// A scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// As `tipoff simulate` reads it.
    pub text: String,
    /// What of the records is not in it.
    pub left_out: BTreeSet<String>,
    /// How often each node was dispatched for each date, as recorded.
    pub dispatches: BTreeMap<(PartitionKey, NodeId), u32>,
}

/// One dispatch as recorded.
struct Sent<'r> {
    dispatch: &'r Dispatch,
    at: Timestamp,
    /// The version of the decision: what was known by then is no answer to it, though it came at the same instant.
    version: u64,
    nth: u32,
    begun: bool,
}

/// Where an event belongs: on the clock, or after a dispatch.
type Place = Option<(NodeId, u32)>;

/// Turns `records`, the first of which it is about, into a scenario on `declarations`.
///
/// # Errors
/// Why that cannot be done, in words.
pub fn story(declarations: &Declarations, records: &[&Record], title: &str, purpose: Purpose) -> Result<Story, String> {
    let mut entries: Vec<&JournalEntry> = records.iter().flat_map(|record| &record.entries).collect();
    entries.sort_by_key(|entry| entry.now.at);
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err("nothing is recorded of it".to_owned());
    };
    let (first, last) = (first.now.at, last.now.at);
    let mut teller = Teller {
        declarations,
        known: records.iter().map(|record| &record.key).collect(),
        purpose,
        timeline: Vec::new(),
        follows: BTreeMap::new(),
        away: Vec::new(),
        asked: asked(records),
        left_out: BTreeSet::new(),
        dispatches: BTreeMap::new(),
    };
    for record in records {
        teller.tell(record)?;
    }
    teller.outages();
    let mut starts = starts(&entries);
    let start = starts.first().copied().filter(|at| *at <= first).unwrap_or(after(first, -BEFORE));
    starts.retain(|at| *at > start);
    for up in starts {
        // It was away since some time after the last that it did, and up just before what came at that instant.
        let up = after(up, SignedDuration::from_millis(-1));
        let busy = entries.partition_point(|entry| entry.now.at <= up);
        let busy = busy.checked_sub(1).and_then(|index| entries.get(index)).map_or(start, |entry| entry.now.at);
        let away = up.duration_since(after(busy, WINDS_DOWN)).max(SignedDuration::ZERO);
        let step = json!({ "restart": { "down_for": span(away).trim_start_matches('+') } });
        teller.timeline.push((after(up, -away), step));
    }
    Ok(Story {
        text: teller.write(records, title, (start, after(last, AFTER))),
        left_out: teller.left_out,
        dispatches: teller.dispatches,
    })
}

struct Teller<'a> {
    declarations: &'a Declarations,
    /// Dates that say themselves what they know: nobody has to be told it.
    known: BTreeSet<&'a PartitionKey>,
    purpose: Purpose,
    timeline: Vec<(Timestamp, Value)>,
    follows: BTreeMap<(PartitionKey, NodeId, u32), Vec<(SignedDuration, Value)>>,
    /// When the warehouse answered, and whether it could not tell.
    away: Vec<(Timestamp, bool)>,
    /// Questions about outputs that have not been answered yet.
    asked: BTreeMap<PartitionKey, BTreeMap<NodeId, VecDeque<Timestamp>>>,
    left_out: BTreeSet<String>,
    dispatches: BTreeMap<(PartitionKey, NodeId), u32>,
}

/// What the warehouse is asked about: an output, or a check of a node.
type Question = (NodeId, Option<CheckId>);

/// A fact as it was last told: whose outcome it is, how much is there, and of which parts.
type Told = (Place, Coverage, BTreeMap<UnitId, Coverage>);

/// What is remembered while one record is told.
struct Telling<'r> {
    record: &'r Record,
    pipeline: &'r Pipeline,
    sent: BTreeMap<NodeId, Vec<Sent<'r>>>,
    /// Which dispatch a run answers; nothing where it answers none.
    runs: BTreeMap<(NodeId, RunId), Place>,
    /// The last run of a node that ended well.
    done: BTreeMap<NodeId, (Timestamp, Place)>,
    /// The last answer of the warehouse about a node or a check, and the last fact told of it with its place.
    answered: BTreeMap<Question, Timestamp>,
    facts: BTreeMap<Question, Told>,
}

impl<'a> Teller<'a> {
    fn tell(&mut self, record: &'a Record) -> Result<(), String> {
        let key = &record.key;
        let pipeline = self.declarations.pipelines.get(&key.pipeline);
        let pipeline = pipeline.ok_or_else(|| format!("there is no pipeline {}", key.pipeline))?;
        let mut told = Telling {
            record,
            pipeline,
            sent: BTreeMap::new(),
            runs: BTreeMap::new(),
            done: BTreeMap::new(),
            answered: BTreeMap::new(),
            facts: BTreeMap::new(),
        };
        for entry in &record.entries {
            for effect in &entry.effects {
                let Effect::Dispatch(dispatch) = effect else { continue };
                let sent = told.sent.entry(dispatch.node.clone()).or_default();
                let nth = u32::try_from(sent.len() + 1).unwrap_or(u32::MAX);
                sent.push(Sent { dispatch, at: entry.now.at, version: entry.version, nth, begun: false });
                self.dispatches.insert((key.clone(), dispatch.node.clone()), nth);
                // One that nobody answered is told as well: it is not answered as another was.
                self.follows.insert((key.clone(), dispatch.node.clone(), nth), Vec::new());
            }
        }
        // What a run says at its end tells whose it was from its beginning.
        let echoes: BTreeMap<(&NodeId, &RunId), Place> = events(record)
            .filter_map(|(_, event)| match event {
                Event::Completed(done) => {
                    let sent = told.sent.get(&done.node)?;
                    let answered = sent.iter().find(|sent| Some(&sent.dispatch.id) == done.dispatch.as_ref())?;
                    Some(((&done.node, &done.run), Some((done.node.clone(), answered.nth))))
                }
                _ => None,
            })
            .collect();
        for (entry, event) in events(record) {
            if let Event::Completed(Completed { node, run, published, .. })
            | Event::Heartbeat(Heartbeat { node, run, published, .. }) = event
                && !told.runs.contains_key(&(node.clone(), run.clone()))
            {
                let echoed = echoes.get(&(node, run)).cloned();
                let place = echoed.unwrap_or_else(|| told.begins(node, *published, entry.version));
                told.runs.insert((node.clone(), run.clone()), place);
            }
            self.event(&mut told, entry, event);
        }
        Ok(())
    }

    fn event(&mut self, told: &mut Telling<'_>, entry: &JournalEntry, event: &Event) {
        let key = &told.record.key;
        match event {
            Event::Completed(done) => {
                let place = told.runs.get(&(done.node.clone(), done.run.clone())).cloned().flatten();
                let (at, published) = came(done.published, entry);
                if matches!(done.outcome, Outcome::Done(_)) {
                    told.done.insert(done.node.clone(), (at, place.clone()));
                }
                let step = self.completion(told, done).map(|(topic, body)| {
                    let mut publish = json!({ "topic": topic, "body": body });
                    if published != at {
                        publish["published"] = moment(told, &place, published);
                    }
                    json!({ "publish": publish })
                });
                self.put(told, &place, at, step.unwrap_or_else(|| raw(key, event)));
            }
            Event::Heartbeat(beat) => {
                let place = told.runs.get(&(beat.node.clone(), beat.run.clone())).cloned().flatten();
                let (at, published) = came(beat.published, entry);
                let is_on_time = published == at;
                let step = self.heartbeat(told, beat).filter(|_| is_on_time);
                self.put(told, &place, at, step.unwrap_or_else(|| raw(key, event)));
            }
            Event::Observed(seen) => {
                let about = (seen.node.clone(), None);
                self.away.push((seen.at, seen.coverage.is_none() && !seen.not_kept));
                self.fact(told, about, seen.at, seen.coverage, &seen.units);
                // Somebody else asked: a date that is not among these.
                if !self.is_asked(key, &seen.node, seen.at) && self.purpose == Purpose::Regression {
                    self.put(told, &None, entry.now.at, raw(key, event));
                }
            }
            Event::Checked(seen) => {
                let about = (seen.node.clone(), Some(seen.check.clone()));
                self.away.push((seen.at, seen.answer == CheckAnswer::Unknown));
                let coverage = if let CheckAnswer::Share(coverage) = seen.answer { Some(coverage) } else { None };
                self.fact(told, about, seen.at, coverage, &BTreeMap::new());
            }
            Event::Scheduled(games) => {
                let listed: BTreeMap<&UnitId, Value> =
                    games.games.iter().map(|(unit, game)| (unit, compact(json!(game)))).collect();
                let step = json!({ "schedule": of(key, json!({ "date": key.date, "games": listed })) });
                self.put(told, &None, games.at, step);
            }
            Event::Requested(request) => {
                let asked = json!({ "date": key.date, "ask": request.command, "actor": request.actor,
                    "reason": request.reason });
                self.put(told, &None, request.at, json!({ "operator": of(key, asked) }));
            }
            Event::UpstreamSettled(settled) => {
                let from = PartitionKey { pipeline: key.pipeline.clone(), date: settled.date };
                if !self.known.contains(&from) {
                    self.put(told, &None, entry.now.at, raw(key, event));
                }
            }
            Event::Delivery(delivery) => {
                let sent = told.sent.get(&delivery.node);
                let of_attempt = |sent: &&Sent<'_>| sent.dispatch.manifest.attempt == delivery.attempt;
                let nth = sent.and_then(|sent| sent.iter().rfind(of_attempt)).map(|sent| sent.nth);
                let place = nth.map(|nth| (delivery.node.clone(), nth));
                self.put(told, &place, entry.now.at, raw(key, event));
            }
            Event::Withheld(told_of) => {
                let sent = told.sent.get(&told_of.node);
                let of_attempt = |sent: &&Sent<'_>| sent.dispatch.manifest.attempt == told_of.attempt;
                let nth = sent.and_then(|sent| sent.iter().rfind(of_attempt)).map(|sent| sent.nth);
                let place = nth.map(|nth| (told_of.node.clone(), nth));
                self.put(told, &place, entry.now.at, raw(key, event));
            }
            Event::Noted(_) | Event::Served(_) => self.put(told, &None, entry.now.at, raw(key, event)),
            Event::Foretold(_) if self.purpose == Purpose::Regression => {
                self.put(told, &None, entry.now.at, raw(key, event));
            }
            Event::Foretold(_) => {
                self.left_out.insert("forecasts, which were made on the old terms".to_owned());
            }
            Event::Tick => {}
        }
    }

    /// What the warehouse answered, as something that was so a little earlier.
    fn fact(
        &mut self,
        told: &mut Telling<'_>,
        about: Question,
        at: Timestamp,
        coverage: Option<Coverage>,
        units: &BTreeMap<UnitId, Coverage>,
    ) {
        let key = &told.record.key;
        let before = told.answered.insert(about.clone(), at);
        let Some(coverage) = coverage else {
            if told.facts.remove(&about).is_some() {
                self.left_out.insert(format!("that the warehouse forgot {}@{}", about.0, key.date));
            }
            return;
        };
        // A check is about what stands before the node, and no outcome of it.
        let done = told.done.get(&about.0).filter(|_| about.1.is_none()).cloned();
        let (since, place) =
            done.map_or((None, None), |(ended, place)| (Some(ended).filter(|ended| *ended <= at), place));
        let value = (place.clone(), coverage, units.clone());
        if told.facts.get(&about) == Some(&value) {
            return;
        }
        told.facts.insert(about.clone(), value);
        let known_not_before = before.map(|before| after(before, SignedDuration::from_millis(1)));
        let when =
            after(at, -FACT_LEAD).max(known_not_before.unwrap_or(Timestamp::MIN)).max(since.unwrap_or(Timestamp::MIN));
        let mut fact = json!({ "node": about.0, "date": key.date, "observed": coverage.observed(),
            "expected": coverage.expected() });
        if let Some(check) = &about.1 {
            fact["check"] = json!(check);
        }
        if !units.is_empty() {
            let units: BTreeMap<_, _> =
                units.iter().map(|(unit, share)| (unit, (share.observed(), share.expected()))).collect();
            fact["units"] = json!(units);
        }
        self.put(told, &place, when.min(at), json!({ "fact": of(key, fact) }));
    }

    /// Whether one of these dates had asked the question; one answer is to one question.
    fn is_asked(&mut self, key: &PartitionKey, node: &NodeId, at: Timestamp) -> bool {
        let asked = self.asked.get_mut(key).and_then(|asked| asked.get_mut(node));
        let Some(asked) = asked.filter(|asked| asked.front().is_some_and(|first| *first <= at)) else { return false };
        asked.pop_front();
        true
    }

    /// Adds a step, on the clock or after its dispatch.
    fn put(&mut self, told: &Telling<'_>, place: &Place, at: Timestamp, step: Value) {
        match place.as_ref().and_then(|(node, nth)| Some((node, *nth, told.sent_at(node, *nth)?))) {
            Some((node, nth, sent_at)) => {
                let follow = self.follows.entry((told.record.key.clone(), node.clone(), nth)).or_default();
                follow.push((at.duration_since(sent_at).max(SignedDuration::ZERO), step));
            }
            None => self.timeline.push((at, step)),
        }
    }

    /// The spans in which the warehouse could not tell.
    fn outages(&mut self) {
        self.away.sort();
        let mut is_away = false;
        for (at, unknown) in std::mem::take(&mut self.away) {
            if unknown != is_away {
                let reason = if unknown { "it could not tell when this was recorded" } else { "" };
                self.timeline.push((after(at, SignedDuration::from_millis(-1)), json!({ "warehouse_away": reason })));
                is_away = unknown;
            }
        }
    }

    /// The message that says this, if there is one: topic and body.
    fn completion(&self, told: &Telling<'_>, done: &Completed) -> Option<(String, Value)> {
        let mut body = json!({
            "processor_name": told.pipeline.class(&done.node),
            "execution_id": done.run,
            "game_date": told.record.key.date,
        });
        let status = match &done.outcome {
            Outcome::Done(Extent::Whole) => "success",
            Outcome::Done(Extent::Share(coverage)) => {
                body["metadata"] =
                    json!({ "expected_players": coverage.expected(), "completed_players": coverage.observed() });
                "success"
            }
            Outcome::Done(Extent::Unknown) => "partial",
            Outcome::Failed(words) => {
                body["error_message"] = json!(words);
                "failed"
            }
            Outcome::NoData => "no_data",
            Outcome::Skipped(words) => {
                body["skip_reason"] = json!(words);
                "skipped"
            }
        };
        body["status"] = json!(status);
        if let Some(records) = done.records {
            body["record_count"] = json!(records);
        }
        if let Some(correlation) = &done.correlation {
            body["correlation_id"] = json!(correlation);
        }
        if let Some(unit) = &done.unit {
            if unit.as_str().len() <= 4 {
                body["team_abbr"] = json!(unit);
            } else {
                body["gcs_path"] = json!(format!("{unit}.json"));
            }
        }
        if let Some(dispatch) = &done.dispatch {
            body["tipoff"] = json!({ "dispatch_id": dispatch });
        }
        let topic = self.topic(told, Carries::Completion, Some(&done.node))?;
        // Whose trace it was in decides nothing.
        let event = Event::Completed(Completed { trace: None, ..done.clone() });
        self.says(&topic, &body, done.published, (&told.record.key, &event)).then_some(())?;
        let answers = told.runs.get(&(done.node.clone(), done.run.clone())).is_some_and(Option::is_some);
        if done.dispatch.is_some() && answers {
            body["tipoff"] = json!({ "dispatch_id": "{dispatch}" });
        }
        Some((topic, body))
    }

    fn heartbeat(&self, told: &Telling<'_>, beat: &Heartbeat) -> Option<Value> {
        let (key, status) = (
            &told.record.key,
            match beat.pulse {
                Pulse::Running => "running",
                Pulse::Ended => "completed",
                Pulse::Failed => "failed",
            },
        );
        let processor = told.pipeline.class(&beat.node);
        let body = json!({ "processor_name": processor, "run_id": beat.run, "data_date": key.date, "status": status,
            "progress": beat.progress.0, "total": beat.progress.1 });
        let topic = self.topic(told, Carries::Heartbeat, None)?;
        let event = Event::Heartbeat(beat.clone());
        // A step of heartbeats publishes to the topic of that short name.
        let is_usual = topic == "nba-processor-heartbeats";
        (is_usual && self.says(&topic, &body, beat.published, (key, &event))).then(|| {
            json!({ "heartbeats": { "processor": processor, "run": beat.run, "date": key.date, "times": 1, "status": status,
                "progress": beat.progress.0, "total": beat.progress.1 } })
        })
    }

    /// A topic of the pipeline that carries this, that of the node's phase if there is one.
    fn topic(&self, told: &Telling<'_>, carries: Carries, node: Option<&NodeId>) -> Option<String> {
        let phase = node.and_then(|node| told.pipeline.graph.node(node)).map(|node| node.phase.as_str());
        let carrying = || self.declarations.topology.topics().filter(|(_, topic)| topic.carries == carries);
        let own = || carrying().filter(|(_, topic)| topic.pipeline == told.record.key.pipeline.as_str());
        let of_phase = own().find(|(name, _)| phase.is_some_and(|phase| name.as_str().contains(phase)));
        of_phase.or(own().next()).or(carrying().next()).map(|(name, _)| name.as_str().to_owned())
    }

    /// Whether a message means this event and nothing else.
    fn says(&self, topic: &str, body: &Value, published: Timestamp, (key, event): (&PartitionKey, &Event)) -> bool {
        let pipelines = &self.declarations.pipelines;
        let routes = Routes {
            graphs: pipelines.values().map(|pipeline| &*pipeline.graph).collect(),
            topology: &self.declarations.topology,
            naming: pipelines.iter().map(|(id, pipeline)| (id, &pipeline.naming)).collect(),
        };
        let delivery = Delivery {
            topic: topic.to_owned(),
            message_id: "m".to_owned(),
            published,
            attributes: BTreeMap::new(),
            data: body.to_string().into_bytes(),
        };
        match decode(&routes, &delivery) {
            Decoded::Events { key: found, events } => {
                found == *key && events.len() == 1 && events.first() == Some(event)
            }
            Decoded::Probe | Decoded::Ignored { .. } | Decoded::Parked { .. } => false,
        }
    }

    fn write(&mut self, records: &[&Record], title: &str, (start, end): (Timestamp, Timestamp)) -> String {
        let mut text = String::new();
        let dates: Vec<String> = records.iter().map(|record| record.key.to_string()).collect();
        let _ = writeln!(text, "title: {}", json!(title));
        let _ = writeln!(text, "story: |\n  Made of the journal of {}.", dates.join(", "));
        let _ = writeln!(
            text,
            "  What our own dispatches brought about follows them; everything else comes when it came. What the warehouse\n  \
             answered is a fact from shortly before the answer on."
        );
        for left_out in &self.left_out {
            let _ = writeln!(text, "  Left out: {}.", crate::wire::inbound::excerpt(left_out));
        }
        let _ = writeln!(text, "start: {start}\nrun_on: 1s\ntimeline:");
        self.timeline.sort_by_key(|(at, _)| *at);
        for (at, step) in &self.timeline {
            let _ = writeln!(text, "  - {}", with_at(&json!(at), step));
        }
        if self.timeline.is_empty() {
            text.truncate(text.len() - "timeline:\n".len());
        }
        if !self.follows.is_empty() {
            let _ = writeln!(text, "follows:");
        }
        for ((key, node, nth), steps) in &mut self.follows {
            steps.sort_by_key(|(offset, _)| *offset);
            let head = of(key, json!({ "date": key.date, "node": node, "nth": nth }));
            let head = head.to_string();
            if steps.is_empty() {
                let _ = writeln!(text, "  - {head}");
                continue;
            }
            let _ = writeln!(text, "  - {},\n      \"steps\": [", head.trim_end_matches('}'));
            let lines: Vec<String> = steps
                .iter()
                .map(|(offset, step)| format!("        {}", with_at(&json!(span(*offset)), step)))
                .collect();
            let _ = writeln!(text, "{}\n      ] }}", lines.join(",\n"));
        }
        let expectations = match (self.purpose, records.first()) {
            (Purpose::Regression, Some(record)) => self.expectations(record, end),
            // Something has to be looked at at the end, or the clock would not get there.
            (_, Some(record)) => self.looks(record, end),
            (_, None) => Vec::new(),
        };
        let _ = writeln!(text, "expect:");
        for expectation in expectations {
            let _ = writeln!(text, "  - {expectation}");
        }
        text
    }

    /// The dispatches of a record, each at its time, no others, and where its nodes stood at the end.
    fn expectations(&self, record: &Record, end: Timestamp) -> Vec<Value> {
        let key = &record.key;
        let mut wanted = Vec::new();
        let mut counts: BTreeMap<&NodeId, u32> = BTreeMap::new();
        for (entry, dispatch) in dispatches(record) {
            *counts.entry(&dispatch.node).or_default() += 1;
            let attempt = dispatch.manifest.attempt;
            wanted.push(json!({ "dispatch": { "pipeline": key.pipeline, "node": dispatch.node, "date": key.date,
                "run": attempt.run, "attempt": attempt.attempt, "cause": dispatch.manifest.cause.as_str(),
                "between": [after(entry.now.at, -SOONER), after(entry.now.at, LATER)] } }));
        }
        for (node, count) in &counts {
            wanted.push(
                json!({ "dispatch": { "pipeline": key.pipeline, "node": node, "date": key.date, "count": count } }),
            );
        }
        let graph = self.declarations.pipelines.get(&key.pipeline).map(|pipeline| &pipeline.graph);
        let quiet = graph.into_iter().flat_map(|graph| graph.nodes.values()).filter(|node| node.task().is_some());
        for node in quiet.filter(|node| !counts.contains_key(&node.id)) {
            wanted.push(
                json!({ "never": { "dispatch": { "pipeline": key.pipeline, "node": node.id, "date": key.date } } }),
            );
        }
        wanted.extend(self.looks(record, end));
        wanted
    }

    /// Where the nodes of a record stood at the end.
    fn looks(&self, record: &Record, end: Timestamp) -> Vec<Value> {
        let key = &record.key;
        let graph = self.declarations.pipelines.get(&key.pipeline).map(|pipeline| &pipeline.graph);
        let is_gate =
            |id: &NodeId| graph.and_then(|graph| graph.node(id)).is_none_or(|node| matches!(node.kind, Kind::Gate(_)));
        let standing = record.partition.nodes.iter().filter(|(id, _)| !is_gate(id));
        let look = |(id, node): (&NodeId, &crate::domain::partition::Node)| json!({ "state": of(key, json!({ "node": id, "date": key.date, "is": node.state.name(), "at": end })) });
        standing.map(look).collect()
    }
}

impl Telling<'_> {
    /// Which dispatch a run answers that is first heard of at `published`: the last one before, if nobody has yet and it is
    /// not too long ago.
    fn begins(&mut self, node: &NodeId, published: Timestamp, version: u64) -> Place {
        let declared = self.pipeline.graph.node(node)?;
        let within = match declared.liveness.heartbeats {
            Heartbeats::Sent => declared.liveness.start_within,
            Heartbeats::None => declared.liveness.duration_max,
        };
        let before = |sent: &&mut Sent<'_>| sent.version < version && sent.at <= published;
        let sent = self.sent.get_mut(node)?.iter_mut().rfind(before)?;
        if sent.begun || published.duration_since(sent.at) > within {
            return None;
        }
        sent.begun = true;
        Some((node.clone(), sent.nth))
    }

    fn sent_at(&self, node: &NodeId, nth: u32) -> Option<Timestamp> {
        self.sent.get(node)?.iter().find(|sent| sent.nth == nth).map(|sent| sent.at)
    }
}

/// When a process started, as the entries show it: for a minute it had heard nothing.
fn starts(entries: &[&JournalEntry]) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let (mut was_deaf, mut before) = (false, Timestamp::MIN);
    for (index, entry) in entries.iter().enumerate() {
        let is_deaf = entry.now.heard_until == Timestamp::MIN;
        if is_deaf && !was_deaf {
            let hears = entries[index..].iter().find(|entry| entry.now.heard_until != Timestamp::MIN);
            let latest = hears.map_or(entry.now.at, |hears| after(hears.now.at, -SETTLE_IN));
            found.push(entry.now.at.min(latest).max(before));
        }
        (was_deaf, before) = (is_deaf, entry.now.at);
    }
    found
}

/// What the records asked of outputs, and when.
fn asked(records: &[&Record]) -> BTreeMap<PartitionKey, BTreeMap<NodeId, VecDeque<Timestamp>>> {
    let mut asked: BTreeMap<PartitionKey, BTreeMap<NodeId, VecDeque<Timestamp>>> = BTreeMap::new();
    for record in records {
        for entry in &record.entries {
            for effect in &entry.effects {
                let Effect::Observe { date, node } = effect else { continue };
                let of = PartitionKey { pipeline: record.key.pipeline.clone(), date: *date };
                asked.entry(of).or_default().entry(node.clone()).or_default().push_back(entry.now.at);
            }
        }
    }
    asked.values_mut().flat_map(BTreeMap::values_mut).for_each(|instants| instants.make_contiguous().sort());
    asked
}

/// The events of a record that were settled by it.
fn events(record: &Record) -> impl Iterator<Item = (&JournalEntry, &Event)> {
    record.entries.iter().flat_map(|entry| {
        let outcome = |index: usize| entry.recorded.get(index).filter(|_| entry.recorded.len() == entry.events.len());
        let counts = move |index: usize| !matches!(outcome(index), Some(Recorded::Future | Recorded::Rejected));
        entry.events.iter().enumerate().filter(move |(index, _)| counts(*index)).map(move |(_, event)| (entry, event))
    })
}

/// The dispatches of a record.
pub fn dispatches(record: &Record) -> impl Iterator<Item = (&JournalEntry, &Dispatch)> {
    record.entries.iter().flat_map(|entry| {
        entry.effects.iter().filter_map(move |effect| match effect {
            Effect::Dispatch(dispatch) => Some((entry, dispatch)),
            _ => None,
        })
    })
}

/// When a message came, and when it was published: at that time, unless it was taken up much later.
fn came(published: Timestamp, entry: &JournalEntry) -> (Timestamp, Timestamp) {
    let is_late = entry.now.at.duration_since(published) > AT_ONCE;
    (if is_late { entry.now.at } else { published }, published)
}

/// An instant, on the clock of the dispatch it follows where there is one.
fn moment(told: &Telling<'_>, place: &Place, at: Timestamp) -> Value {
    let sent_at = place.as_ref().and_then(|(node, nth)| told.sent_at(node, *nth));
    match sent_at.filter(|sent_at| *sent_at <= at) {
        Some(sent_at) => json!(span(at.duration_since(sent_at))),
        None => json!(at),
    }
}

/// A date is told an event as it is.
fn raw(key: &PartitionKey, event: &Event) -> Value {
    json!({ "event": of(key, json!({ "date": key.date, "is": compact(json!(event)) })) })
}

/// What is about a pipeline other than the one that is meant where none is named.
fn of(key: &PartitionKey, mut what: Value) -> Value {
    if key.pipeline != PipelineId::from("nba") {
        what["pipeline"] = json!(key.pipeline);
    }
    what
}

/// Without the members that say nothing.
fn compact(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

fn with_at(at: &Value, step: &Value) -> Value {
    let mut whole = json!({ "at": at });
    if let (Value::Object(whole), Value::Object(step)) = (&mut whole, step) {
        whole.extend(step.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    whole
}

/// A span after a dispatch as scenarios write it.
fn span(span: SignedDuration) -> String {
    let millis = span.as_millis().max(0);
    let (hours, minutes, seconds, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60, millis % 1000);
    let parts = [(hours, "h"), (minutes, "m"), (seconds, "s"), (rest, "ms")];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    format!("+{}", if text.is_empty() { "0s" } else { &text })
}

/// The dates that a record's cross-date edges look at, and those that look at it.
pub fn neighbours(record: &Record) -> BTreeSet<PartitionKey> {
    let mut dates = BTreeSet::new();
    for entry in &record.entries {
        dates.extend(entry.events.iter().filter_map(|event| match event {
            Event::UpstreamSettled(settled) => Some(settled.date),
            _ => None,
        }));
        dates.extend(entry.effects.iter().filter_map(|effect| match effect {
            Effect::NotifyPartition { to, .. } => Some(*to),
            Effect::Observe { date, .. } => Some(*date),
            _ => None,
        }));
    }
    dates.remove(&record.key.date);
    dates.into_iter().map(|date| PartitionKey { pipeline: record.key.pipeline.clone(), date }).collect()
}

/// A title for the scenario of a date.
pub fn title(key: &PartitionKey) -> Arc<str> {
    format!("{key} as it was recorded").into()
}
