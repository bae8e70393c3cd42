//! The ledger as it is looked at. Looking changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Board, Error, Group, OURSELVES, Opened, PAGE, Seen, Selection};
use crate::domain::dead_letter::{About, Kind, Letter, Reader, Says, Standing, standing};
use crate::domain::id::{LetterId, PartitionKey, PipelineId};
use crate::domain::partition::Partition;
use crate::engine::Engine;
use crate::engine::intake::routes;
use crate::port::{Letters, StoreError, place};
use crate::wire::envelope::Content;
use crate::wire::letter::{self, Message};

/// Letters of one look whose names are read anew, because they named nothing that was known when they came.
const RESOLVED_MAX: usize = 2_000;

impl Selection {
    /// What can be told from the letter alone.
    fn takes(&self, letter: &Letter) -> bool {
        self.topic.as_ref().is_none_or(|topic| letter.topic.as_ref() == Some(topic))
            && self.cause.as_ref().is_none_or(|cause| letter.cause.fingerprint.starts_with(cause.as_str()))
            && self.kind.is_none_or(|kind| letter.kind == kind)
            && self.before.is_none_or(|before| letter.at < before)
            && self.since.is_none_or(|since| letter.at >= since)
    }

    fn is_about(&self, about: &About) -> bool {
        self.pipeline.as_ref().is_none_or(|pipeline| about.pipeline.as_ref() == Some(pipeline))
            && self.node.as_ref().is_none_or(|node| about.node.as_ref() == Some(node))
            && self.date.is_none_or(|date| about.date == Some(date))
    }
}

/// The dates that letters are about, each read once.
pub(super) struct Desk<'a> {
    engine: &'a Engine,
    partitions: BTreeMap<PartitionKey, Arc<Partition>>,
    /// What holds each pipeline, if anything does.
    stopped: BTreeMap<PipelineId, Option<String>>,
    resolved: usize,
}

impl<'a> Desk<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, partitions: BTreeMap::new(), stopped: BTreeMap::new(), resolved: 0 }
    }

    pub(super) async fn partition(&mut self, key: &PartitionKey) -> Result<&Partition, StoreError> {
        if !self.partitions.contains_key(key) {
            let stored = self.engine.store.load(key).await?;
            self.partitions.insert(key.clone(), stored.partition);
        }
        Ok(&self.partitions[key])
    }

    /// What a letter is about. What named nothing that was known is read again: a name may have been declared since.
    pub(super) async fn about(&mut self, letter: &Letter) -> Result<About, StoreError> {
        if letter.about.node.is_some() || letter.kind == Kind::Undeliverable || self.resolved >= RESOLVED_MAX {
            return Ok(letter.about.clone());
        }
        self.resolved += 1;
        match self.engine.store.letter_content(&letter.id, letter.latest()).await? {
            Some(content) => Ok(self.engine.message(letter, &content).about(&routes(self.engine))),
            None => Ok(letter.about.clone()),
        }
    }

    pub(super) async fn standing(&mut self, letter: &Letter, about: &About) -> Result<Standing, StoreError> {
        let engine = self.engine;
        let (Some(pipeline), Some(date)) = (&about.pipeline, about.date) else {
            return Ok(Standing::Unclear("it names no date that can be told".to_owned()));
        };
        let Some(graph) = engine.graph(pipeline) else {
            return Ok(Standing::Unclear(format!("there is no pipeline {pipeline}")));
        };
        let subscription =
            letter.subscription.as_deref().and_then(|name| engine.declarations.topology.subscription(name));
        let ours = letter.kind == Kind::Parked || subscription.is_some_and(|(_, it)| it.consumer == OURSELVES);
        let reader = if ours { Reader::Us } else { Reader::Others };
        let partition = match self.partition(&PartitionKey { pipeline: pipeline.clone(), date }).await {
            Ok(partition) => partition,
            // One damaged date does not keep the letters of the others.
            Err(StoreError::Corrupt { what, why }) => return Ok(Standing::Unclear(format!("{what}: {why}"))),
            Err(error) => return Err(error),
        };
        Ok(standing(graph, partition, about, reader))
    }

    /// Who holds what a replay would begin, and why: a hold outweighs whoever insists.
    pub(super) async fn held(&mut self, about: &About) -> Result<Option<String>, StoreError> {
        let (Some(pipeline), now) = (&about.pipeline, self.engine.clock.now()) else { return Ok(None) };
        if !self.stopped.contains_key(pipeline) {
            let stop = self.engine.stopped(pipeline).await?;
            self.stopped.insert(pipeline.clone(), stop.map(|stop| stop.to_string()));
        }
        if let Some(Some(stop)) = self.stopped.get(pipeline) {
            return Ok(Some(stop.clone()));
        }
        let (Some(date), Says::Asks) = (about.date, about.says) else { return Ok(None) };
        let partition = self.partition(&PartitionKey { pipeline: pipeline.clone(), date }).await?;
        let of_node = about.node.as_ref().and_then(|node| partition.node(node).hold.clone());
        let hold = partition.hold.clone().into_iter().chain(of_node).find(|hold| hold.holds_at(now));
        Ok(hold.map(|hold| format!("it is held by {}: {}; see `tipoff resume`", hold.actor, hold.reason)))
    }

    async fn see(&mut self, letter: Letter, about: About) -> Result<Seen, StoreError> {
        let standing = self.standing(&letter, &about).await?;
        let age_s = self.engine.clock.now().duration_since(letter.at).as_secs();
        let (stage, place) = (letter.stage(), place(&letter));
        let came_of_it = letter.replays.last().map(|replay| match (replay.sent_at, replay.returned_at, &standing) {
            (_, Some(_), _) => "it was given up on again".to_owned(),
            (None, None, _) => "it is not known to have left".to_owned(),
            (Some(_), None, Standing::Unneeded(why)) => format!("done: {why}"),
            (Some(_), None, Standing::Wanted(why)) => format!("not yet: {why}"),
            (Some(_), None, Standing::Unclear(_)) => "that cannot be told".to_owned(),
        });
        Ok(Seen { letter: Letter { about, ..letter }, stage, standing, came_of_it, age_s, place })
    }
}

impl Engine {
    pub(super) fn message<'a>(&self, letter: &'a Letter, content: &'a Content) -> Message<'a> {
        let (topic, message_id) = (letter.topic.as_deref(), letter.message_id.as_str());
        Message { topic, message_id, published: letter.published, content }
    }

    /// The letters that are meant: a page of them, and all by cause. Where no causes are asked for, no more is read than the
    /// page needs, and `count` is of what was read.
    ///
    /// # Errors
    /// If the store cannot be read, or one that is named is not there.
    pub async fn dead_letters(
        &self,
        selection: &Selection,
        (from, limit): (Option<&str>, usize),
        groups_max: usize,
    ) -> Result<Board, Error> {
        let mut desk = Desk::new(self);
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let (mut letters, mut count, mut more) = (Vec::new(), 0, false);
        // Whoever does not want the causes does not pay for reading all.
        let most = if groups_max == 0 { Some((from, limit.saturating_add(1))) } else { None };
        for (letter, about) in self.selected(&mut desk, selection, most).await? {
            let place = place(&letter);
            let is_shown = from.is_none_or(|from| place.as_str() < from);
            let seen = desk.see(letter, about).await?;
            if selection.standing.as_ref().is_some_and(|standing| seen.standing.as_str() != standing) {
                continue;
            }
            count += 1;
            let at = seen.letter.at;
            let group = groups.entry(seen.letter.cause.fingerprint.clone()).or_insert_with(|| Group {
                cause: seen.letter.cause.fingerprint.clone(),
                words: seen.letter.cause.words.clone(),
                count: 0,
                wanted: 0,
                unneeded: 0,
                unclear: 0,
                oldest: at,
                newest: at,
            });
            group.count += 1;
            group.wanted += usize::from(matches!(seen.standing, Standing::Wanted(_)));
            group.unneeded += usize::from(matches!(seen.standing, Standing::Unneeded(_)));
            group.unclear += usize::from(matches!(seen.standing, Standing::Unclear(_)));
            group.oldest = group.oldest.min(at);
            group.newest = group.newest.max(at);
            if is_shown && letters.len() < limit {
                letters.push(seen);
            } else {
                more |= is_shown;
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by(|a, b| (b.count, b.newest, &a.cause).cmp(&(a.count, a.newest, &b.cause)));
        let groups_left_out = groups.len().saturating_sub(groups_max);
        groups.truncate(groups_max);
        let next = letters.last().filter(|_| more).map(|last: &Seen| last.place.clone());
        Ok(Board { count, groups, groups_left_out, letters, next })
    }

    /// One letter, by its name or the beginning of it.
    ///
    /// # Errors
    /// If the store cannot be read, or there is no one such letter.
    pub async fn dead_letter(&self, id: &str) -> Result<Opened, Error> {
        let (letter, _) = self.named(id).await?;
        let mut contents = Vec::with_capacity(letter.versions.len());
        for version in 0..letter.versions.len() {
            contents.push(self.store.letter_content(&letter.id, version).await?.unwrap_or_default());
        }
        let mut desk = Desk::new(self);
        let about = desk.about(&letter).await?;
        Ok(Opened { seen: desk.see(letter, about).await?, contents })
    }

    pub(super) async fn named(&self, id: &str) -> Result<(Letter, u64), Error> {
        if let Some(found) = self.store.letter(&LetterId::from(id)).await? {
            return Ok(found);
        }
        let mut found = Vec::new();
        // A whole name that is not there begins no other, and what is no name at all is looked for nowhere.
        let is_beginning = id.len() < letter::ID_LEN && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_beginning && !id.is_empty() {
            let mut place: Option<String> = None;
            loop {
                let page = self.store.letters(Letters::All, place.as_deref(), PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                place = Some(crate::port::place(last));
                found.extend(page.into_iter().filter(|(letter, _)| letter.id.as_str().starts_with(id)));
            }
        }
        match found.len() {
            0 => Err(Error::NoSuch(id.to_owned())),
            1 => Ok(found.remove(0)),
            several => Err(Error::Several(id.to_owned(), several)),
        }
    }

    /// The letters that are meant, the latest first, each with what it is about; at most so many after a place, where that is
    /// said and no standing is asked for, which only the dates can tell.
    pub(super) async fn selected(
        &self,
        desk: &mut Desk<'_>,
        selection: &Selection,
        most: Option<(Option<&str>, usize)>,
    ) -> Result<Vec<(Letter, About)>, Error> {
        let mut found = Vec::new();
        if !selection.ids.is_empty() {
            let mut known = BTreeSet::new();
            for id in &selection.ids {
                let (letter, _) = self.named(id).await?;
                if known.insert(letter.id.clone()) {
                    let about = desk.about(&letter).await?;
                    found.push((letter, about));
                }
            }
            return Ok(found);
        }
        let which = if selection.all { Letters::All } else { Letters::Open };
        let most = most.filter(|_| selection.standing.is_none());
        let mut place: Option<String> = most.and_then(|(from, _)| from.map(str::to_owned));
        let most = most.map_or(usize::MAX, |(_, most)| most);
        loop {
            let page = self.store.letters(which, place.as_deref(), PAGE.min(most.saturating_add(1))).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            place = Some(crate::port::place(last));
            for (letter, _) in page {
                if found.len() == most {
                    return Ok(found);
                }
                if selection.takes(&letter) {
                    let about = desk.about(&letter).await?;
                    if selection.is_about(&about) {
                        found.push((letter, about));
                    }
                }
            }
        }
    }
}

/// A letter with what each of its versions says, as JSON. What is no text has its bytes in base64 beside it.
pub fn shown(opened: &Opened) -> Value {
    let contents = opened.seen.letter.versions.iter().zip(&opened.contents).map(|(version, (data, attributes))| {
        let mut shown = json!(version);
        shown["attributes"] = json!(attributes);
        shown["body"] = json!(String::from_utf8_lossy(data));
        if std::str::from_utf8(data).is_err() {
            shown["body_base64"] = json!(STANDARD.encode(data));
        }
        shown
    });
    let contents: Vec<Value> = contents.collect();
    let mut shown = json!(opened.seen);
    shown["versions"] = json!(contents);
    shown
}

/// The letter that [`shown`] shows.
///
/// # Errors
/// If it is none.
pub fn read(shown: &Value) -> Result<Opened, serde_json::Error> {
    let seen: Seen = serde_json::from_value(shown.clone())?;
    let content = |version: &Value| {
        let bytes = version["body_base64"].as_str().and_then(|body| STANDARD.decode(body).ok());
        let bytes = bytes.unwrap_or_else(|| version["body"].as_str().unwrap_or_default().as_bytes().to_vec());
        serde_json::from_value(version["attributes"].clone()).map(|attributes| (bytes, attributes))
    };
    let contents = shown["versions"].as_array().into_iter().flatten().map(content).collect::<Result<_, _>>()?;
    Ok(Opened { seen, contents })
}
