//! The loops as tasks of a running service: each has an owner, a name and a way to end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Engine;
use super::backfill::BACKFILL_EVERY;
use super::dead_letter::LOOK_AFTER_EVERY;
use super::fault::REST;
use super::forecast::FORECAST_EVERY;
use super::hearing::{Gap, PAUSE_MIN};
use super::intake::{Intake, Offer, Settlement};
use super::relay::UnderWay;
use crate::crash::{self, Place};
use crate::domain::time::after;
use crate::fault::caught;
use crate::port::StoreError;
use crate::wire::inbound::Delivery;

/// Calls whose messages wait for the intake task. Senders wait when it is full.
pub const INBOX: usize = 256;
/// Partitions applied at once.
const APPLYING_MAX: usize = 16;
/// Inputs being parked at once; they share commits.
const PARKING_MAX: usize = 64;
/// After a shutdown has begun, how long what has been received may take to be settled.
const DRAIN: Duration = Duration::from_secs(10);
/// The shortest time between two sweeps.
const SWEEP_MIN: Duration = Duration::from_secs(1);
/// The shortest time between two looks for what people have to be told,
const NOTIFY_MIN: Duration = Duration::from_secs(1);
/// and the longest: each reads the alerts that are on, and half a minute of company is waited for anyway.
const NOTIFY_EVERY: Duration = Duration::from_secs(15);
/// How often it is said that the service is at work.
const PULSE_EVERY: Duration = Duration::from_secs(5);
/// How often history is written.
const EXPORT_EVERY: Duration = Duration::from_secs(5);

/// A message, and where its settlement is awaited.
type Received = (Delivery, oneshot::Sender<Settlement>);

/// Hands messages to the running intake: those that are received together, together.
#[derive(Clone, Debug)]
pub struct Inbox(mpsc::Sender<Vec<Received>>);

impl Inbox {
    /// One behind which nobody takes anything in.
    pub fn closed() -> Self {
        Self(mpsc::channel(1).0)
    }

    /// Hands a message over and waits until it is settled.
    pub async fn deliver(&self, delivery: Delivery) -> Settlement {
        self.deliver_all(vec![delivery]).await.pop().unwrap_or_else(closed)
    }

    /// Hands messages over in their order, and waits until each is settled. They may share commits. Where there is no room for
    /// all of them, at most [`super::intake::WAITING_MAX`], each is handed back: if some were taken then, senders that send
    /// all again would fill the room with repetitions, and none of them would ever come to an end.
    pub async fn deliver_all(&self, deliveries: Vec<Delivery>) -> Vec<Settlement> {
        let (received, waiting): (Vec<Received>, Vec<_>) = deliveries
            .into_iter()
            .map(|delivery| {
                let (settle, settled) = oneshot::channel();
                ((delivery, settle), settled)
            })
            .unzip();
        // What cannot be sent is dropped with the places to settle it, which whoever waits there is told.
        let _ = self.0.send(received).await;
        let mut settlements = Vec::with_capacity(waiting.len());
        for settled in waiting {
            settlements.push(settled.await.unwrap_or_else(|_| closed()));
        }
        settlements
    }
}

fn closed() -> Settlement {
    Settlement::Nack {
        after: jiff::SignedDuration::from_secs(5),
        reason: "it was not settled: the service goes down, or panicked at it".to_owned(),
    }
}

/// The running loops.
#[derive(Debug)]
pub struct Running {
    /// Where messages go in.
    pub inbox: Inbox,
    tasks: JoinSet<()>,
}

impl Running {
    /// Waits until every loop has ended, at most a little longer than the drain.
    pub async fn ended(mut self) {
        drop(self.inbox);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN + Duration::from_secs(2), all).await.is_err() {
            tracing::warn!("not every loop ended in time; what it held will come again");
        }
    }
}

/// What every loop is given.
#[derive(Clone)]
struct Given {
    engine: Arc<Engine>,
    /// Where a loop says that something was decided.
    decided: watch::Sender<()>,
    stop: watch::Receiver<bool>,
}

/// Starts every loop. They end when `stop` turns true, and are begun again where one panics.
pub fn run(engine: &Arc<Engine>, stop: &watch::Receiver<bool>) -> Running {
    let (sender, receiver) = mpsc::channel(INBOX);
    let receiver = Arc::new(Mutex::new(receiver));
    let given = Given { engine: Arc::clone(engine), decided: watch::channel(()).0, stop: stop.clone() };
    let mut tasks = JoinSet::new();
    keep_up(&mut tasks, &given, "intake", move |given| intake(given, Arc::clone(&receiver)));
    keep_up(&mut tasks, &given, "sweep", sweep);
    keep_up(&mut tasks, &given, "relay", relay);
    keep_up(&mut tasks, &given, "pulse", pulse);
    keep_up(&mut tasks, &given, "export", export);
    keep_up(&mut tasks, &given, "calendar", calendar);
    keep_up(&mut tasks, &given, "forecast", forecast);
    keep_up(&mut tasks, &given, "backfill", backfill);
    keep_up(&mut tasks, &given, "watch", watch_over);
    keep_up(&mut tasks, &given, "notify", notify);
    keep_up(&mut tasks, &given, "letters", look_after_letters);
    keep_up(&mut tasks, &given, "measure", measure);
    Running { inbox: Inbox(sender), tasks }
}

fn keep_up<F>(
    tasks: &mut JoinSet<()>,
    given: &Given,
    name: &'static str,
    begin: impl Fn(Given) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let given = given.clone();
    tasks.spawn(Arc::clone(&given.engine).keep_up(name, given.stop.clone(), move || begin(given.clone())));
}

async fn intake(Given { engine, decided, mut stop }: Given, receiver: Arc<Mutex<mpsc::Receiver<Vec<Received>>>>) {
    let mut receiver = receiver.lock().await;
    let mut intake: Intake<oneshot::Sender<Settlement>> = Intake::default();
    let mut applying = JoinSet::new();
    let mut parking = JoinSet::new();
    // What came together, and for all of which there is room.
    let mut arrived: VecDeque<Received> = VecDeque::new();
    let mut open = true;
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        engine.beats.moves("intake");
        // A flood of poison waits here, and what comes after it in the inbox.
        while parking.len() < PARKING_MAX
            && let Some((delivery, settle)) = arrived.pop_front()
        {
            take_in(&engine, &mut intake, &mut parking, (delivery, settle));
        }
        // After that: what was just taken in is due by now, and by no earlier clock.
        let now = engine.clock.now();
        while applying.len() < APPLYING_MAX {
            let batches = intake.due(now, APPLYING_MAX - applying.len());
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                let engine = Arc::clone(&engine);
                applying.spawn(async move {
                    let key = batch.key.clone();
                    let applied = caught(async {
                        for (settle, settlement) in engine.apply(batch).await {
                            crash::at(Place::BeforeAck);
                            // A receiver that has gone will see its message again.
                            let _ = settle.send(settlement);
                        }
                    });
                    if let Err(why) = applied.await {
                        engine.faulted("intake", &why, "what was not settled was handed back, and comes again").await;
                    }
                    key
                });
            }
        }
        if !open && arrived.is_empty() && intake.is_empty() && applying.is_empty() && parking.is_empty() {
            return;
        }
        let nap = intake.next_due().map_or(Duration::from_secs(60), |due| until(now, due));
        let drained = deadline;
        // Finished work first, for it makes room and lets a partition's next batch go; then new messages; then time.
        tokio::select! {
            biased;
            Some(done) = applying.join_next(), if !applying.is_empty() => {
                if let Ok(key) = done {
                    intake.done(&key);
                }
                decided.send_replace(());
            }
            // One that has panicked is not settled, and comes again.
            Some(_) = parking.join_next(), if !parking.is_empty() => {}
            received = receiver.recv(), if open && arrived.is_empty() => match received {
                Some(received) => match intake.refusal(&engine, received.len()) {
                    None => arrived.extend(received),
                    Some(refusal) => {
                        for (delivery, settle) in received {
                            engine.count(&delivery.topic, &refusal);
                            let _ = settle.send(refusal.clone());
                        }
                    }
                },
                None => {
                    open = false;
                    intake.flush();
                }
            },
            () = stopped(&mut stop), if open && deadline.is_none() => {
                deadline = Some(tokio::time::Instant::now() + DRAIN);
                receiver.close();
                intake.flush();
            }
            () = tokio::time::sleep_until(drained.unwrap_or_else(tokio::time::Instant::now)), if drained.is_some() => {
                tracing::warn!("the drain took too long; what was not applied will come again");
                return;
            }
            () = tokio::time::sleep(nap), if applying.len() < APPLYING_MAX => {}
        }
    }
}

/// Takes in a message, or settles it, or has it kept elsewhere.
fn take_in(
    engine: &Arc<Engine>,
    intake: &mut Intake<oneshot::Sender<Settlement>>,
    parking: &mut JoinSet<()>,
    (delivery, settle): Received,
) {
    let (topic, now) = (delivery.topic.clone(), engine.clock.now());
    match intake.offer(engine, delivery, settle) {
        Offer::Taken => {}
        Offer::Settled(settle, settlement) => {
            engine.count(&topic, &settlement);
            let _ = settle.send(settlement);
        }
        Offer::ToPark(settle, parked) => {
            let engine = Arc::clone(engine);
            parking.spawn(async move {
                let (parked, delivery) = *parked;
                let settlement = engine.park(parked, &delivery).await;
                engine.count(&topic, &settlement);
                engine.show_receipt(&delivery, None, now, &settlement);
                let _ = settle.send(settlement);
            });
        }
        Offer::ToKeep(settle, letter) => {
            let engine = Arc::clone(engine);
            parking.spawn(async move {
                let settlement = engine.keep_dead(&letter).await;
                engine.count(&topic, &settlement);
                let _ = settle.send(settlement);
            });
        }
    }
}

async fn sweep(Given { engine, decided, mut stop }: Given) {
    loop {
        engine.beats.moves("sweep");
        match engine.sweep().await {
            Ok(0) => {}
            Ok(_) => {
                decided.send_replace(());
            }
            Err(error) => tracing::warn!("sweep: {error}"),
        }
        let nap = nap(&engine).await;
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(nap) => {}
        }
    }
}

/// Notices that everything stood still, or that the clock was set.
async fn pulse(Given { engine, mut stop, .. }: Given) {
    // It may have been set back while nobody was at work.
    let marked = engine.store.marked().await.ok().flatten();
    let mut is_owed = marked.is_some_and(|marked| marked > after(engine.clock.now(), PAUSE_MIN));
    loop {
        let gap = engine.hearing.at_work(engine.clock.now());
        if let Some(Gap::Missed(passed)) = gap {
            let seconds = passed.as_secs();
            tracing::warn!(seconds, "it was paused, or its clock was set forward: silence is judged anew");
        }
        if let Some(Gap::Back(passed)) = gap {
            let seconds = passed.as_secs();
            tracing::warn!(seconds, "the clock was set back: what waits for a time by the old one is tried at once");
            is_owed = true;
        }
        if is_owed {
            match engine.store.look_anew(engine.clock.now()).await {
                Ok(()) => is_owed = false,
                Err(error) => tracing::warn!("what waits for a time by the old clock cannot be tried yet: {error}"),
            }
        }
        if let Some(Gap::Back(_)) = gap {
            engine.set_back.notify_one();
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(PULSE_EVERY) => {}
        }
    }
}

/// Until the next deadline that is known, but not longer than deadlines set by another process may wait.
async fn nap(engine: &Engine) -> Duration {
    let longest = Duration::try_from(engine.settings.sweep_every).unwrap_or(Duration::from_secs(10));
    match engine.store.next_wake().await {
        // One that cannot be woken is tried again, and not at once.
        Ok((Some(wake), _)) => until(engine.clock.now(), wake).clamp(SWEEP_MIN.min(longest), longest),
        Ok((None, _)) | Err(_) => longest,
    }
}

async fn relay(Given { engine, decided, mut stop }: Given) {
    let mut changes = decided.subscribe();
    let mut under_way = UnderWay::default();
    let mut deliveries = JoinSet::new();
    let mut stopping = false;
    engine.relays(true);
    loop {
        let mut idle = true;
        let mut refused = engine.watch.refusal().is_some();
        engine.beats.moves("relay");
        match engine.take_up(&mut under_way).await {
            Ok(entries) => {
                engine.beats.caught_up("relay");
                for entry in entries {
                    idle = false;
                    let engine = Arc::clone(&engine);
                    deliveries.spawn(async move {
                        let recorded = match caught(engine.deliver(&entry)).await {
                            Ok(recorded) => recorded,
                            Err(why) => {
                                engine.faulted("relay", &why, "the effect is tried again, under its id").await;
                                tokio::time::sleep(REST).await;
                                Err(StoreError::Unavailable(why))
                            }
                        };
                        (entry, recorded)
                    });
                }
            }
            Err(error) => {
                refused = true;
                tracing::warn!("relay: {error}");
            }
        }
        // What was claimed with its commit and cannot be taken up now is anybody's before long.
        if stopping && idle && deliveries.is_empty() && (refused || engine.fresh.is_empty()) {
            return;
        }
        let nap = engine.fresh.nap(engine.clock.now(), engine.settings.relay_every);
        let nap = Duration::try_from(nap).unwrap_or(Duration::from_secs(1));
        tokio::select! {
            biased;
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                // What is committed from now on is left to whoever comes after us.
                engine.relays(false);
            }
            Some(done) = deliveries.join_next() => {
                let mut done = Some(done);
                while let Some(delivery) = done.take().or_else(|| deliveries.try_join_next()) {
                    let Ok((entry, recorded)) = delivery else { continue };
                    engine.delivered(&mut under_way, &entry);
                    if let Err(error) = recorded {
                        tracing::warn!(effect = entry.id, "delivered or not, it could not be noted: {error}");
                    }
                }
            }
            Ok(()) = changes.changed() => {}
            () = engine.fresh.handed.notified() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
}

async fn calendar(Given { engine, decided, mut stop }: Given) {
    let every = Duration::try_from(engine.schedules_every()).unwrap_or(EXPORT_EVERY);
    loop {
        match engine.read_schedules().await {
            Ok(0) => {}
            Ok(_) => {
                decided.send_replace(());
            }
            Err(error) => tracing::warn!("read the schedule: {error}"),
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

async fn forecast(Given { engine, decided, mut stop }: Given) {
    let every = Duration::try_from(FORECAST_EVERY).unwrap_or(EXPORT_EVERY);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(every) => {}
        }
        match engine.foretell().await {
            Ok(0) => {}
            Ok(_) => {
                decided.send_replace(());
            }
            Err(error) => tracing::warn!("forecast: {error}"),
        }
    }
}

async fn backfill(Given { engine, decided, mut stop }: Given) {
    let every = Duration::try_from(BACKFILL_EVERY).unwrap_or(EXPORT_EVERY);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(every) => {}
        }
        match engine.backfill().await {
            Ok(0) => {}
            Ok(_) => {
                decided.send_replace(());
            }
            Err(error) => tracing::warn!("backfill: {error}"),
        }
    }
}

async fn export(Given { engine, mut stop, .. }: Given) {
    loop {
        match engine.export().await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::warn!("export: {error}"),
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(EXPORT_EVERY) => {}
        }
    }
}

async fn watch_over(Given { engine, mut stop, .. }: Given) {
    loop {
        engine.watch().await;
        loop {
            let now = engine.clock.now();
            let due = engine.watch.due();
            if due <= now {
                break;
            }
            // A suspicion moves what is due; what it is moved to is looked at anew.
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                () = engine.watch.suspected() => {}
                () = tokio::time::sleep(until(now, due)) => {}
            }
        }
        if *stop.borrow() {
            return;
        }
    }
}

async fn notify(Given { engine, mut stop, .. }: Given) {
    loop {
        if let Err(error) = engine.notify().await {
            tracing::warn!("what is on cannot be told now: {error}");
        }
        let nap = until(engine.clock.now(), engine.notifier.due()).clamp(NOTIFY_MIN, NOTIFY_EVERY);
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(nap) => {}
        }
    }
}

async fn look_after_letters(Given { engine, mut stop, .. }: Given) {
    loop {
        if let Err(error) = engine.look_after_letters().await {
            tracing::warn!("look after dead letters: {error}");
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(LOOK_AFTER_EVERY) => {}
        }
    }
}

async fn measure(Given { engine, mut stop, .. }: Given) {
    let every = Duration::try_from(engine.settings.measure_every).unwrap_or(EXPORT_EVERY);
    engine.make_series_known();
    loop {
        engine.measure_ourselves();
        if let Err(error) = engine.measure().await {
            tracing::warn!("what waits cannot be measured: {error}");
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO).max(Duration::from_millis(1))
}

/// Resolves once the service is going down.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that has gone is an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::intake::WAITING_MAX;
    use super::*;
    use crate::adapter::embedded::{Durability, Embedded};
    use crate::clock::Clock;
    use crate::engine::Settings;

    #[tokio::test]
    async fn what_is_sent_together_is_taken_whole_or_not_at_all() {
        // Senders of some calls each filled the room with a part of theirs, were refused, and sent all again, for ever.
        const TOGETHER: usize = 512;
        let folder = tempfile::tempdir().unwrap();
        let embedded = Arc::new(Embedded::open(folder.path(), Durability::Off).unwrap());
        let declarations = Arc::new(crate::pipeline::shipped().unwrap());
        let bus = Arc::new(embedded.bus(Arc::new(declarations.topology.clone())));
        let (store, clock) = (embedded.clone(), Clock::System);
        let engine = Arc::new(Engine::new(declarations, store, bus, embedded, clock.clone(), Settings::default()));
        let (stop, stopping) = watch::channel(false);
        let running = run(&engine, &stopping);
        let today = jiff::tz::TimeZone::UTC.to_datetime(clock.now()).date();
        let call = |call: usize| {
            let delivery = |index: usize| {
                let run = format!("{call}/{index}");
                let body = serde_json::json!({ "processor_name": "PlayerGameSummaryProcessor",
                    "phase": "phase_3_analytics", "execution_id": run, "correlation_id": run,
                    "game_date": today.to_string(), "output_table": "", "status": "success", "record_count": 1 });
                Delivery {
                    topic: "nba-phase3-analytics-complete".to_owned(),
                    message_id: run,
                    published: clock.now(),
                    attributes: BTreeMap::new(),
                    data: body.to_string().into_bytes(),
                }
            };
            let inbox = running.inbox.clone();
            let deliveries = (0..TOGETHER).map(delivery).collect();
            async move { inbox.deliver_all(deliveries).await }
        };
        let calls: JoinSet<_> = (0..2 * WAITING_MAX / TOGETHER).map(call).collect();
        let mut whole = 0;
        let mut refused = 0;
        for settlements in calls.join_all().await {
            let acknowledged = settlements.iter().filter(|settlement| **settlement == Settlement::Ack).count();
            match acknowledged {
                TOGETHER => whole += 1,
                0 => refused += 1,
                part => panic!("{part} of {TOGETHER} were taken"),
            }
        }
        assert!(whole > 0 && refused > 0, "{whole} calls were taken and {refused} were not");
        stop.send_replace(true);
        running.ended().await;
    }
}
