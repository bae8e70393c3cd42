//! `/v1/events`: what is decided, as it is decided, to whoever listens. The journal is the source, so whoever comes back with
//! the number of the last event it had misses nothing that is still kept.
//!
//! One task reads the journal for all who listen, and only while somebody does. What it has read lately is kept in memory;
//! who has fallen further behind reads the journal for itself, page by page, no faster than it takes what it gets.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::api::{parameters, pipeline};
use super::problem::Problem;
use crate::domain::effect::Effect;
use crate::domain::id::{PartitionKey, PipelineId};
use crate::engine::Engine;
use crate::port::{JournalEntry, Store, StoreError};

/// Who may listen at once. A browser's tab is one.
pub const LISTENERS_MAX: usize = 50;
/// Events kept in memory: some minutes of the busiest hour.
const RING_MAX: usize = 1_024;
/// Journal entries read at once.
const PAGE: usize = 200;
/// Who is further behind than so many pages is told to begin anew.
const PAGES_MAX: usize = 50;
/// Events on their way to one listener.
const UNDER_WAY_MAX: usize = 32;
/// A comment goes out where nothing happens, so that a dead connection is noticed by both ends.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After a failure to read the journal it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Who listens, and what they are told from.
#[derive(Debug)]
pub struct Feed {
    listeners: Arc<Semaphore>,
    live: Mutex<Weak<Live>>,
    every: Duration,
}

impl Feed {
    /// Reads the journal this often while somebody listens.
    pub fn new(every: Duration) -> Self {
        Self { listeners: Arc::new(Semaphore::new(LISTENERS_MAX)), live: Mutex::default(), every }
    }

    /// What is read for all who listen; begins where nobody has listened.
    fn live(&self, engine: &Arc<Engine>) -> Arc<Live> {
        let mut known = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = known.upgrade() {
            return live;
        }
        let live = Arc::new(Live { head: watch::Sender::new(None), ring: Mutex::default() });
        *known = Arc::downgrade(&live);
        tokio::spawn(follow(Arc::clone(&engine.store), Arc::downgrade(&live), self.every));
        live
    }
}

#[derive(Debug)]
struct Live {
    /// The number of the last entry read; nothing before the first look.
    head: watch::Sender<Option<u64>>,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Everything after this number is here.
    from: u64,
    told: VecDeque<Arc<Told>>,
}

/// One event.
#[derive(Debug)]
struct Told {
    seq: u64,
    key: PartitionKey,
    text: String,
}

impl Told {
    fn of(entry: &JournalEntry) -> Self {
        let moved: Vec<Value> =
            entry.moved.iter().map(|(node, from, to)| json!({ "node": node, "from": from, "to": to })).collect();
        let (mut dispatched, mut alerts) = (Vec::new(), Vec::new());
        for effect in &entry.effects {
            match effect {
                Effect::Dispatch(sent) => dispatched.push(&sent.id),
                Effect::Alert(alert) => alerts.push(json!({ "key": alert.key, "turn": alert.turn })),
                _ => {}
            }
        }
        let told = json!({ "seq": entry.seq, "partition": entry.key, "at": entry.now.at, "moved": moved,
            "dispatched": dispatched, "alerts": alerts });
        Self { seq: entry.seq, key: entry.key.clone(), text: told.to_string() }
    }
}

impl Live {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came after `seq`, if that is all still in memory.
    fn after(&self, seq: u64) -> Option<Vec<Arc<Told>>> {
        let ring = self.ring();
        (seq >= ring.from).then(|| ring.told.iter().filter(|told| told.seq > seq).cloned().collect())
    }

    fn push(&self, entries: &[JournalEntry]) {
        let mut ring = self.ring();
        for entry in entries {
            ring.told.push_back(Arc::new(Told::of(entry)));
            if ring.told.len() > RING_MAX
                && let Some(oldest) = ring.told.pop_front()
            {
                ring.from = oldest.seq;
            }
        }
    }
}

/// Reads the journal for as long as anybody listens.
async fn follow(store: Arc<dyn Store>, live: Weak<Live>, every: Duration) {
    let mut seq = None;
    loop {
        let Some(live) = live.upgrade() else { return };
        let read = match seq {
            None => newest(&*store).await.map(|newest| {
                live.ring().from = newest;
                (newest, true)
            }),
            Some(known) => next(&*store, known).await.map(|(entries, at)| {
                live.push(&entries);
                (at, entries.len() < PAGE)
            }),
        };
        let pause = match read {
            Ok((at, is_all)) => {
                seq = Some(at);
                live.head.send_if_modified(|head| head.replace(at) != Some(at));
                if is_all { every } else { Duration::ZERO }
            }
            Err(error) => {
                tracing::debug!("the journal cannot be read for those who listen: {error}");
                TRY_AGAIN
            }
        };
        drop(live);
        tokio::time::sleep(pause).await;
    }
}

/// The entries after `seq`, and where to go on.
async fn next(store: &dyn Store, seq: u64) -> Result<(Vec<JournalEntry>, u64), StoreError> {
    match store.journal(None, seq, PAGE).await {
        Ok(entries) => {
            let at = entries.last().map_or(seq, |last| last.seq);
            Ok((entries, at))
        }
        Err(StoreError::BadEntry { seq, .. }) => Ok((Vec::new(), seq)),
        Err(error) => Err(error),
    }
}

/// The number of the newest entry. The export is rarely far behind it; from there on it is closed in on by doubling and halving.
async fn newest(store: &dyn Store) -> Result<u64, StoreError> {
    let is_beyond = async |seq: u64| match store.journal(None, seq, 1).await {
        Ok(entries) => Ok(entries.is_empty()),
        Err(StoreError::BadEntry { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let mut known = store.exported().await?;
    if is_beyond(known).await? {
        return Ok(known);
    }
    let mut step = 1_u64;
    let mut beyond = loop {
        let tried = known.saturating_add(step);
        if is_beyond(tried).await? {
            break tried;
        }
        known = tried;
        step = step.saturating_mul(2);
    };
    // There is an entry after `known`, and none after `beyond`.
    while beyond - known > 1 {
        let middle = known + (beyond - known) / 2;
        if is_beyond(middle).await? {
            beyond = middle;
        } else {
            known = middle;
        }
    }
    Ok(beyond)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    pipeline: Option<String>,
    date: Option<Date>,
    after: Option<u64>,
}

/// Whom an event concerns.
#[derive(Clone)]
struct Wanted {
    pipeline: Option<PipelineId>,
    date: Option<Date>,
}

impl Wanted {
    fn has(&self, key: &PartitionKey) -> bool {
        self.pipeline.as_ref().is_none_or(|wanted| *wanted == key.pipeline)
            && self.date.is_none_or(|wanted| wanted == key.date)
    }
}

/// The stream: events named `decided`, each with its number as id; `reset` to whoever comes back too late.
pub async fn stream(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let wanted = Wanted {
        pipeline: asked.pipeline.as_deref().map(|name| pipeline(&app, name).map(|(id, _)| id)).transpose()?,
        date: asked.date,
    };
    let after = match headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse::<u64>().ok())) {
        Some(Some(seq)) => Some(seq),
        Some(None) => return Err(Problem::invalid("Last-Event-ID is the number of an event that was sent")),
        None => asked.after,
    };
    let feed = &app.screen.feed;
    let Ok(seat) = Arc::clone(&feed.listeners).try_acquire_owned() else {
        return Err(Problem::unavailable(format!("{LISTENERS_MAX} listen already; try again later")));
    };
    let live = feed.live(&app.engine);
    let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
    let (store, mut stopping) = (Arc::clone(&app.engine.store), app.stopping.clone());
    tokio::spawn(async move {
        let _seat = seat;
        tokio::select! {
            biased;
            // Whoever has gone keeps no seat.
            () = sender.closed() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
            _ = tell(&*store, &live, &wanted, after, &sender) => {}
        }
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive).into_response())
}

type Out = mpsc::Sender<Result<Event, Infallible>>;

/// Tells one listener everything after `after`, or from now on. Ends when it has gone.
async fn tell(store: &dyn Store, live: &Live, wanted: &Wanted, after: Option<u64>, out: &Out) -> Option<()> {
    let mut head = live.head.subscribe();
    let newest = (*head.wait_for(Option::is_some).await.ok()?)?;
    // A number from another store, or from the future, is no place in this journal.
    let mut seq = after.filter(|after| *after <= newest).unwrap_or(newest);
    // So that the way is known to be open, and the place to come back to.
    let hello = json!({ "seq": seq }).to_string();
    out.send(Ok(Event::default().event("hello").id(seq.to_string()).retry(TRY_AGAIN).data(hello))).await.ok()?;
    let mut pages = 0;
    loop {
        head.borrow_and_update();
        let told = match live.after(seq) {
            Some(told) => told,
            None if pages < PAGES_MAX => {
                pages += 1;
                match next(store, seq).await {
                    Ok((entries, at)) if at > seq => {
                        let told = entries.iter().map(|entry| Arc::new(Told::of(entry))).collect();
                        seq = seq.max(at);
                        told
                    }
                    Ok(_) | Err(_) => {
                        tokio::time::sleep(TRY_AGAIN).await;
                        continue;
                    }
                }
            }
            None => {
                seq = (*head.borrow())?;
                let reset = json!({ "seq": seq }).to_string();
                out.send(Ok(Event::default().event("reset").id(seq.to_string()).data(reset))).await.ok()?;
                continue;
            }
        };
        for told in &told {
            seq = seq.max(told.seq);
            if wanted.has(&told.key) {
                let event = Event::default().event("decided").id(told.seq.to_string()).data(&told.text);
                out.send(Ok(event)).await.ok()?;
            }
        }
        if live.after(seq).is_some_and(|more| more.is_empty()) {
            head.changed().await.ok()?;
        }
    }
}
