//! What nobody could process: what may be done with it, and whether what it asked for is still wanted.
//!
//! A letter is a message that a subscription gave up on, an input that could never be applied, or an effect that could
//! never be delivered. It is kept with every version that operators have made of it and everything that was done about
//! it. Where it stands is derived from that and stored nowhere. It does not know how a letter looks on the wire, nor where
//! it is kept.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Kind as Vertex, Offset};
use super::id::{DispatchId, LetterId, NodeId, PipelineId, RunId};
use super::partition::{Partition, State};
use super::time::{after, shown};

/// Replays of one letter, whatever operators say: what has come back three times comes back a fourth time.
pub const REPLAYS_MAX: usize = 3;
/// Versions of one letter: as it came, and its corrections.
pub const VERSIONS_MAX: usize = 8;
/// How long a replay that was recorded and is not known to have left is its recorder's alone. A publish call ends within
/// fifteen seconds.
pub const REPLAY_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// Names of unmade outputs that a reason lists.
const NAMED_MAX: usize = 3;
/// How the execution ids of replays begin.
const REPLAY: &str = "replay-";

/// One message that nobody could process, and what has been done about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// Its name.
    pub id: LetterId,
    /// How it came to be one.
    pub kind: Kind,
    /// The topic it was first published to; nothing where that cannot be told.
    pub topic: Option<String>,
    /// Who gave up on it: a subscription, or the target of an effect. Nothing for what was parked.
    pub subscription: Option<String>,
    /// The broker's name for the message.
    pub message_id: String,
    /// When it was first published.
    pub published: Timestamp,
    /// When it was given up on.
    pub at: Timestamp,
    /// Deliveries that were tried.
    pub attempts: u32,
    /// Why it was given up on, in the words of whoever did.
    pub reason: String,
    /// What it has in common with others.
    pub cause: Cause,
    /// What it is about, as the names were declared when it came.
    pub about: About,
    /// As it came, and as operators have corrected it since.
    pub versions: Vec<Version>,
    /// Every replay of it.
    #[serde(default)]
    pub replays: Vec<Replay>,
    /// That nothing more is to be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<Discarded>,
    /// When the same was published again after it had been settled, so that it waits once more; the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Timestamp>,
}

/// How a letter came to be one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A subscription gave up on it.
    Dead,
    /// It could never be applied, and was parked.
    Parked,
    /// An effect that could never be delivered.
    Undeliverable,
}

impl Kind {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Parked => "parked",
            Self::Undeliverable => "undeliverable",
        }
    }
}

/// What letters have in common that failed alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// A short digest of the words.
    pub fingerprint: String,
    /// Where, and why, without what differs from letter to letter.
    pub words: String,
}

/// What a letter is about, as far as it can be told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// Which pipeline.
    pub pipeline: Option<PipelineId>,
    /// Which date.
    pub date: Option<Date>,
    /// Which node.
    pub node: Option<NodeId>,
    /// The execution it speaks of.
    pub run: Option<RunId>,
    /// The decision that it carries out.
    pub dispatch: Option<DispatchId>,
    /// What it wants of its reader.
    pub says: Says,
}

/// What a message wants of its reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// It asks for work.
    Asks,
    /// It reports how a run ended.
    Reports,
    /// It is a sign of life.
    Beats,
    /// That cannot be told.
    #[default]
    Unclear,
}

/// One wording of a letter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// When it came, or was made.
    pub at: Timestamp,
    /// Who made it; nobody for what came.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Bytes of its body.
    pub size: usize,
    /// Whether the whole body is kept; else only its beginning.
    pub is_whole: bool,
}

/// One replay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replay {
    /// The execution id that the new message carries: a function of the letter and of the replay's number.
    pub execution: RunId,
    /// Which version of the letter, counted from 0.
    pub version: usize,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// When it was recorded, or taken over from somebody who died.
    pub at: Timestamp,
    /// A digest of the new body, by which it is known again when it comes back.
    pub digest: String,
    /// When the broker took the new message.
    pub sent_at: Option<Timestamp>,
    /// When the new message was given up on as well.
    pub returned_at: Option<Timestamp>,
}

/// That nothing more is to be done about a letter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Discarded {
    /// Who says so.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Where a letter stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Somebody has to decide.
    Waiting,
    /// A replay was recorded, and is not known to have left.
    Asked,
    /// It was replayed.
    Replayed,
    /// Nothing more is done about it.
    Discarded,
}

impl Stage {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Asked => "asked",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }

    /// Whether something is still to be done.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Asked)
    }
}

/// Why something is not done with a letter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It has been replayed often enough.
    #[error("it was replayed {REPLAYS_MAX} times, which is all that may be; mend its reader, or discard it")]
    TooOften,
    /// A replay of it is under way.
    #[error("a replay of it by {0} is under way")]
    UnderWay(String),
    /// It was replayed, and has not come back.
    #[error("it was replayed already; --force replays it once more")]
    Replayed,
    /// Somebody has discarded it.
    #[error("it was discarded by {0}")]
    Discarded(String),
    /// It has been corrected often enough.
    #[error("it has {VERSIONS_MAX} versions already; discard it, and publish what is right")]
    TooManyVersions,
    /// Only its beginning is kept.
    #[error("only the beginning of its body is kept; give the whole with --with FILE")]
    NotWhole,
}

/// Whether a letter that was replayed may be replayed once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// It may.
    Allowed,
    /// Only what waits is.
    Refused,
}

impl Letter {
    /// Where it stands.
    pub fn stage(&self) -> Stage {
        let came_after = |at: Timestamp| self.again_at.is_some_and(|again| again > at);
        if self.discarded.as_ref().is_some_and(|discarded| !came_after(discarded.at)) {
            return Stage::Discarded;
        }
        match self.replays.last().map(|replay| (replay.sent_at, replay.returned_at)) {
            None | Some((_, Some(_))) => Stage::Waiting,
            Some((None, None)) => Stage::Asked,
            Some((Some(sent), None)) if came_after(sent) => Stage::Waiting,
            Some((Some(_), None)) => Stage::Replayed,
        }
    }

    /// Since when nothing is to be done about it.
    pub fn settled_at(&self) -> Option<Timestamp> {
        match self.stage() {
            Stage::Waiting | Stage::Asked => None,
            Stage::Replayed => self.replays.last().and_then(|replay| replay.sent_at),
            Stage::Discarded => self.discarded.as_ref().map(|discarded| discarded.at),
        }
    }

    /// The number of its latest version.
    pub fn latest(&self) -> usize {
        self.versions.len().saturating_sub(1)
    }

    /// The execution id of its next replay.
    pub fn next_execution(&self) -> RunId {
        RunId::new(format!("{REPLAY}{}-{}", self.id, self.replays.len() + 1))
    }

    /// A replay that was recorded so long ago that whoever recorded it has died.
    pub fn left_over(&self, now: Timestamp) -> Option<&Replay> {
        let replay = self.replays.last().filter(|_| self.stage() == Stage::Asked)?;
        (now >= after(replay.at, REPLAY_WITHIN)).then_some(replay)
    }

    /// Whether it may be replayed.
    ///
    /// # Errors
    /// Why not.
    pub fn may_replay(&self, again: Again) -> Result<(), Refusal> {
        match (self.stage(), again) {
            (Stage::Discarded, _) => return Err(self.is_discarded()),
            (Stage::Asked, _) => return Err(self.is_under_way()),
            (Stage::Replayed, Again::Refused) => return Err(Refusal::Replayed),
            (Stage::Replayed, Again::Allowed) | (Stage::Waiting, _) => {}
        }
        if self.replays.len() >= REPLAYS_MAX {
            return Err(Refusal::TooOften);
        }
        if self.kind != Kind::Undeliverable && self.versions.last().is_some_and(|version| !version.is_whole) {
            return Err(Refusal::NotWhole);
        }
        Ok(())
    }

    /// Records a replay of its latest version, before anything of it leaves.
    ///
    /// # Errors
    /// If it may not be replayed.
    pub fn ask(
        &mut self,
        again: Again,
        (actor, reason): (&str, Option<&str>),
        digest: String,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.may_replay(again)?;
        self.replays.push(Replay {
            execution: self.next_execution(),
            version: self.latest(),
            actor: actor.to_owned(),
            reason: reason.map(str::to_owned),
            at: now,
            digest,
            sent_at: None,
            returned_at: None,
        });
        Ok(())
    }

    /// The message of the replay that was asked for is about to leave: the time that is its recorder's alone begins.
    pub fn begins(&mut self, now: Timestamp) {
        if let Some(replay) = self.replays.last_mut() {
            replay.at = now;
        }
    }

    /// Takes a replay over whose recorder has died. Whether there was one.
    pub fn take_over(&mut self, now: Timestamp) -> bool {
        let is_left_over = self.left_over(now).is_some();
        if let Some(replay) = self.replays.last_mut().filter(|_| is_left_over) {
            replay.at = now;
        }
        is_left_over
    }

    /// The message of the replay that was asked for has left.
    pub fn sent(&mut self, now: Timestamp) {
        if let Some(replay) = self.replays.last_mut() {
            replay.sent_at.get_or_insert(now);
        }
    }

    /// The message of the replay that was asked for can never leave: it is as if nobody had asked.
    pub fn withdraw(&mut self) {
        if self.stage() == Stage::Asked {
            self.replays.pop();
        }
    }

    /// The message of its replay `execution` was given up on as well. Whether it was that message, by its digest; told
    /// twice, it is once.
    pub fn came_back(&mut self, execution: &RunId, digest: &str, now: Timestamp) -> bool {
        let replay = self.replays.iter_mut().find(|replay| replay.execution == *execution && replay.digest == digest);
        let Some(replay) = replay else { return false };
        // It has left, whether or not that could be noted.
        replay.sent_at.get_or_insert(now);
        replay.returned_at.get_or_insert(now);
        true
    }

    /// The same was published once more, then: what was settled before waits again. Whether it was settled.
    pub fn came_again(&mut self, published: Timestamp) -> bool {
        let is_news = self.settled_at().is_some_and(|settled| published > settled);
        if is_news {
            self.again_at = Some(published);
        }
        is_news
    }

    /// Notes that its last replay could not be read, and came to nothing.
    pub fn returned(&mut self, now: Timestamp) {
        if let Some(replay) = self.replays.last_mut() {
            replay.returned_at.get_or_insert(now);
        }
    }

    /// Adds a corrected version.
    ///
    /// # Errors
    /// If it is not waiting, or has too many.
    pub fn correct(&mut self, version: Version) -> Result<(), Refusal> {
        self.waits()?;
        if self.versions.len() >= VERSIONS_MAX {
            return Err(Refusal::TooManyVersions);
        }
        self.versions.push(version);
        Ok(())
    }

    /// Has nothing more be done about it.
    ///
    /// # Errors
    /// If a replay of it is under way, or it was discarded before.
    pub fn discard(&mut self, discarded: Discarded) -> Result<(), Refusal> {
        // Said again in the same words it is the same, since an answer may have been lost.
        let is_same = |before: &Discarded| (&before.actor, &before.reason) == (&discarded.actor, &discarded.reason);
        if self.stage() == Stage::Discarded && self.discarded.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        // What was replayed and came to nothing waits for nobody, and may be laid aside.
        if self.stage() != Stage::Replayed {
            self.waits()?;
        }
        self.discarded = Some(discarded);
        Ok(())
    }

    fn waits(&self) -> Result<(), Refusal> {
        match self.stage() {
            Stage::Waiting => Ok(()),
            Stage::Asked => Err(self.is_under_way()),
            Stage::Replayed => Err(Refusal::Replayed),
            Stage::Discarded => Err(self.is_discarded()),
        }
    }

    fn is_under_way(&self) -> Refusal {
        Refusal::UnderWay(self.replays.last().map_or_else(String::new, |replay| replay.actor.clone()))
    }

    fn is_discarded(&self) -> Refusal {
        Refusal::Discarded(self.discarded.as_ref().map_or_else(String::new, |discarded| discarded.actor.clone()))
    }
}

/// The letter that an execution id of a replay names.
pub fn letter_of(execution: &str) -> Option<LetterId> {
    let (letter, number) = execution.strip_prefix(REPLAY)?.rsplit_once('-')?;
    number.parse::<usize>().ok().filter(|_| !letter.is_empty())?;
    Some(LetterId::from(letter))
}

/// Who did not take a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// Tipoff itself.
    Us,
    /// Some processor.
    Others,
}

/// Whether what a letter asked for is still wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "standing", content = "why", rename_all = "snake_case")]
pub enum Standing {
    /// It has not been done.
    Wanted(String),
    /// It has been done since, is being done, or its time is over.
    Unneeded(String),
    /// That cannot be told.
    Unclear(String),
}

impl Standing {
    /// The word shown to people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Wanted(_) => "wanted",
            Self::Unneeded(_) => "unneeded",
            Self::Unclear(_) => "unclear",
        }
    }

    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Wanted(why) | Self::Unneeded(why) | Self::Unclear(why) => why,
        }
    }
}

/// Whether what a letter asked of `reader` is still wanted, read from the date it is about.
pub fn standing(graph: &Graph, partition: &Partition, about: &About, reader: Reader) -> Standing {
    let Some(id) = about.node.as_ref().filter(|id| graph.node(id).is_some()) else {
        return Standing::Unclear("it names no node that is known".to_owned());
    };
    match about.says {
        Says::Beats => Standing::Unneeded("a sign of life is about its own moment, which has passed".to_owned()),
        Says::Unclear => Standing::Unclear("what it wants of its reader is not known".to_owned()),
        Says::Asks => work(graph, partition, id, about.dispatch.as_ref()),
        Says::Reports if reader == Reader::Us => report(graph, partition, id, about.run.as_ref()),
        Says::Reports => {
            let same = graph.dependents(id).iter().filter(|(_, offset)| *offset == Offset::Same);
            let is_join = |id: &NodeId| graph.node(id).is_none_or(|node| matches!(node.kind, Vertex::Gate(_)));
            let consumers: Vec<&NodeId> = same.map(|(id, _)| id).filter(|id| !is_join(id)).collect();
            if consumers.is_empty() {
                return report(graph, partition, id, about.run.as_ref());
            }
            let unmade: Vec<&NodeId> = consumers.iter().copied().filter(|id| !is_made(graph, partition, id)).collect();
            if unmade.is_empty() {
                return Standing::Unneeded(format!("what is made from {id} is there: {}", names(&consumers)));
            }
            Standing::Wanted(format!("what is made from {id} is not there: {}", names(&unmade)))
        }
    }
}

/// Whether work that was asked for is wanted.
fn work(graph: &Graph, partition: &Partition, id: &NodeId, dispatch: Option<&DispatchId>) -> Standing {
    let node = partition.node(id);
    let asked = dispatch.and_then(DispatchId::parts).filter(|(key, of, _)| *key == partition.key && of == id);
    let is_older = asked.as_ref().is_some_and(|(_, _, attempt)| *attempt < node.attempt);
    match &node.state {
        State::Succeeded { at } => Standing::Unneeded(format!("{id} has succeeded since, at {}", shown(*at))),
        State::Skipped { reason, .. } => Standing::Unneeded(format!("{id} is skipped: {reason}")),
        State::Running { since, .. } => {
            Standing::Unneeded(format!("{id} is running since {} ({})", shown(*since), node.attempt))
        }
        // Of several requests for the same work the latest stands for all.
        state if is_older => {
            let name = state.name();
            Standing::Unneeded(format!("{id} was asked for anew since ({}), and is {name}", node.attempt))
        }
        State::Expired { .. } if is_made(graph, partition, id) => {
            Standing::Unneeded(format!("another pass over the date has made what {id} would"))
        }
        State::Expired { at } => Standing::Unneeded(format!("its pass over the date ended at {}", shown(*at))),
        State::Dispatched { at } => Standing::Wanted(format!("{id} was asked for at {} and nobody began", shown(*at))),
        State::Waiting => Standing::Wanted(format!("nobody has been heard at {id}")),
        state @ (State::Failed { at } | State::Exhausted { at }) => {
            Standing::Wanted(format!("{id} is {} since {}", state.name(), shown(*at)))
        }
    }
}

/// Whether a report is news to us.
fn report(graph: &Graph, partition: &Partition, id: &NodeId, run: Option<&RunId>) -> Standing {
    let node = partition.node(id);
    if let Some(run) = run.filter(|run| node.ended.contains_key(*run)) {
        return Standing::Unneeded(format!("it is known how {run} of {id} ended"));
    }
    if is_made(graph, partition, id) {
        return Standing::Unneeded(format!("{id} is {}", node.state.name()));
    }
    Standing::Wanted(format!("{id} is {}, and what this says of it is not known", node.state.name()))
}

/// Whether a node's output is there, or nobody waits for it.
fn is_made(graph: &Graph, partition: &Partition, id: &NodeId) -> bool {
    let done = |id: &NodeId| matches!(partition.node(id).state, State::Succeeded { .. });
    let made_up = || graph.family(id).iter().any(done);
    match partition.node(id).state {
        State::Succeeded { .. } | State::Skipped { .. } => true,
        State::Expired { .. } => made_up(),
        State::Waiting | State::Dispatched { .. } | State::Running { .. } | State::Failed { .. } => false,
        State::Exhausted { .. } => false,
    }
}

fn names(ids: &[&NodeId]) -> String {
    let named: Vec<&str> = ids.iter().take(NAMED_MAX).map(|id| id.as_str()).collect();
    let more = ids.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}
