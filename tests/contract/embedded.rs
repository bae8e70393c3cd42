//! The embedded adapter: the contracts, and what a file on a disk can meet with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use tipoff::adapter::embedded::{Durability, Embedded, EmbeddedBus, FILE, Leased, Lock};
use tipoff::domain::coverage::Coverage;
use tipoff::port::{Answer, Bus, BusError, Commit, Delivered, Reported, Row, Store, StoreError, Warehouse};
use tipoff::topology::{self, Topology};
use tipoff::wire::dispatch::Target;
use tipoff::wire::report::Kind;

use super::bus::message;
use super::store::{decide, effect, key, next, waiting};
use super::warehouse::row;
use super::{bus, second, store, warehouse};

/// Two consumers beside ourselves, one of whom pulls.
const TOPICS: &str = "
version: 1
defaults:
  topic: { retention: 7d }
  push: { ack_deadline: 600s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 1d }
  pull: { ack_deadline: 60s, attempts_max: 5, backoff: { min: 10s, max: 600s }, retention: 1d }
topics:
  done:
    purpose: A run has ended.
    pipeline: nba
    carries: completion
    subscriptions:
      ours: { consumer: tipoff, delivery: pull, dead_letter: done-dlq }
      theirs: { consumer: reader, delivery: pull, dead_letter: done-dlq }
  start:
    purpose: Do it.
    pipeline: nba
    carries: trigger
    subscriptions:
      wrapped: { consumer: worker, delivery: push, endpoint: /process, dead_letter: done-dlq }
      bare: { consumer: coordinator, delivery: push, endpoint: /start, wrapped: false, dead_letter: done-dlq }
  done-dlq:
    purpose: Given up on.
    pipeline: nba
    carries: dead-letter
    subscriptions:
      letters: { consumer: operators, delivery: pull }
      copies: { consumer: tipoff, delivery: pull }
";

pub fn topics() -> Arc<Topology> {
    Arc::new(topology::check(TOPICS, "topics.yaml").unwrap())
}

pub fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Durability::Full).unwrap()
}

fn fresh() -> (TempDir, Embedded) {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path());
    (dir, embedded)
}

#[async_trait]
impl warehouse::Bench for Embedded {
    fn warehouse(&self) -> &dyn Warehouse {
        self
    }

    async fn put_games(&self, date: Date, games: &[(&str, bool)], at: Timestamp) {
        let part = |there: &bool| Coverage::new(u32::from(*there), 1).unwrap();
        let units = games.iter().map(|(game, there)| ((*game).into(), part(there))).collect();
        let observed = games.iter().filter(|(_, there)| *there).count() as u32;
        let whole = Coverage::new(observed, games.len() as u32).unwrap();
        self.put_coverage(&warehouse::PIPELINE.into(), &warehouse::NODE.into(), date, whole, units, at).await.unwrap();
    }

    async fn put_game_coverage(&self, date: Date, rows: Vec<Row>, at: Timestamp) {
        self.put_report(&warehouse::PIPELINE.into(), Kind::GameCoverage, date, rows, at).await.unwrap();
    }

    async fn rows(&self, table: &str) -> Vec<Row> {
        self.history(table, usize::MAX).await.unwrap()
    }
}

/// Somebody at the file with a shell.
fn tamper(dir: &TempDir, sql: &str) {
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contracts_hold() {
    // The same for both durabilities, which run requests on different threads.
    for durability in [Durability::Full, Durability::Off] {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path(), durability).unwrap();
        store::contract(Arc::new(embedded.clone())).await;
        bus::contract(&embedded.bus(topics()), "done").await;
        warehouse::contract(&embedded).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_poison_is_bounded() {
    // Synced once per group, ten thousand inputs are soon kept.
    let (_dir, embedded) = fresh();
    store::a_flood_of_poison_is_bounded(Arc::new(embedded)).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    // All three parts of a commit, and a second process sees them while the first still runs.
    let (dir, embedded) = fresh();
    let key = key("nba", "2026-01-22");
    decide(&embedded, &key, &["a"], second(1)).await;
    let reader = Embedded::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.load(&key).await.unwrap().version, 1);
    let refused = reader.settle("a", Delivered::Sent { at: second(2) }).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    drop((embedded, reader));
    let again = open(dir.path());
    assert_eq!(again.load(&key).await.unwrap().version, 1);
    assert_eq!(waiting(&again, second(1)).await, ["a"]);
    assert_eq!(again.journal(Some(&key), 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_processes_cannot_both_win() {
    // The command line and the service hold the file at once; the version decides.
    let (dir, service) = fresh();
    let shell = open(dir.path());
    let key = key("nba", "2026-01-22");
    let (theirs, ours) = (shell.load(&key).await.unwrap(), service.load(&key).await.unwrap());
    shell.commit(next(theirs, second(1))).await.unwrap();
    assert!(matches!(service.commit(next(ours, second(1))).await, Err(StoreError::Conflict(_))));
}

#[tokio::test]
async fn a_damaged_row_is_named_and_harms_no_other() {
    // A flipped bit, a moved version, a document of a later program: each an error, none another decision.
    let (dir, embedded) = fresh();
    let sound = key("nba", "2026-01-22");
    decide(&embedded, &sound, &[], second(1)).await;
    let damages = [
        "document = replace(document, '06:00:01', '06:00:09')",
        "version = 7",
        "wake_at = '2026-01-22T06:00:00.000000000Z'",
        "document = x'ff00'",
        "checksum = NULL",
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let key = key("nba", &format!("2026-02-{:02}", number + 1));
        decide(&embedded, &key, &[], second(1)).await;
        let db = Connection::open(dir.path().join(FILE)).unwrap();
        let sql = format!("UPDATE OR IGNORE partitions SET {damage} WHERE date = '{}'", key.date);
        if db.execute(&sql, []).is_err() {
            // The file itself refuses what a column cannot hold.
            continue;
        }
        match embedded.load(&key).await {
            Err(StoreError::Corrupt { what, .. }) => assert_eq!(what, format!("partitions/{key}")),
            Ok(stored) if damage.starts_with("checksum") => assert_eq!(stored.version, 1, "the update was ignored"),
            other => panic!("{damage}: {other:?}"),
        }
        assert_eq!(embedded.load(&sound).await.unwrap().version, 1);
    }
}

#[tokio::test]
async fn a_damaged_effect_keeps_nobody_back() {
    // It is set aside with an alert, and the effect after it is delivered.
    let (dir, embedded) = fresh();
    decide(&embedded, &key("nba", "2026-01-22"), &["bad", "good"], second(1)).await;
    tamper(&dir, "UPDATE outbox SET effect = replace(effect, 'player', 'plaYer') WHERE id = 'bad'");
    assert_eq!(waiting(&embedded, second(2)).await, ["good"]);
    let alerts = embedded.bus(topics()).alerts().await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.key.as_str()).collect::<Vec<_>>(), ["store/outbox/bad"]);
    embedded.settle("good", Delivered::Sent { at: second(3) }).await.unwrap();
    assert_eq!(embedded.next_wake().await.unwrap().1, None);
}

#[tokio::test]
async fn a_damaged_journal_entry_is_told_when_it_is_reached() {
    // The export gets as far as it can and then knows which entry it is.
    let (dir, embedded) = fresh();
    let key = key("nba", "2026-01-22");
    for turn in 0..3 {
        decide(&embedded, &key, &[], second(turn)).await;
    }
    tamper(&dir, "UPDATE journal SET entry = '{}' WHERE seq = 2");
    assert_eq!(embedded.journal(None, 0, 10).await.unwrap().len(), 1);
    let error = embedded.journal(None, 1, 10).await.unwrap_err();
    assert!(matches!(&error, StoreError::BadEntry { seq: 2, what, .. } if what == "journal/2"), "{error}");
    assert_eq!(embedded.journal(None, 2, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    // Reading goes on, and so does writing once there is room.
    let (_dir, embedded) = fresh();
    let key = key("nba", "2026-01-22");
    decide(&embedded, &key, &[], second(1)).await;
    embedded.bound_pages(Some(embedded.pages().await.unwrap())).await.unwrap();
    let mut large = next(embedded.load(&key).await.unwrap(), second(2));
    large.outbox = (0..2000).map(|number| effect(&key, &format!("full/{number}"), second(2))).collect();
    let refused = embedded.commit(large.clone()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert_eq!(embedded.load(&key).await.unwrap().version, 1);
    // A mark would fit into a row that is there; it asks for a commit's room, so it tells the same.
    assert!(embedded.mark(second(3)).await.is_err());
    assert_eq!(waiting(&embedded, second(9)).await, [""; 0]);
    embedded.bound_pages(None).await.unwrap();
    embedded.mark(second(3)).await.unwrap();
    embedded.commit(large).await.unwrap();
    assert_eq!(embedded.load(&key).await.unwrap().version, 2);
}

#[tokio::test]
async fn pruning_keeps_what_is_still_needed() {
    // Unsent effects and unexported decisions stay whatever their age.
    let (_dir, embedded) = fresh();
    let key = key("nba", "2026-01-22");
    decide(&embedded, &key, &["sent", "unsent"], second(1)).await;
    decide(&embedded, &key, &[], second(2)).await;
    embedded.settle("sent", Delivered::Sent { at: second(3) }).await.unwrap();
    embedded.set_exported(1).await.unwrap();
    let pruned = embedded.prune(second(100)).await.unwrap();
    assert_eq!((pruned.outbox, pruned.journal), (1, 1));
    assert_eq!(waiting(&embedded, second(100)).await, ["unsent"]);
    assert_eq!(embedded.journal(None, 0, 10).await.unwrap().len(), 1);
    decide(&embedded, &key, &[], second(3)).await;
    assert_eq!(embedded.journal(None, 2, 10).await.unwrap()[0].seq, 3, "no number is given twice");
}

#[tokio::test]
async fn only_the_dead_runs_lock_is_released() {
    // A later run may hold the lock by the time the release is delivered.
    let (_dir, embedded) = fresh();
    let lock = |run: &str| Lock { key: key("nba", "2026-01-22"), node: "summary".into(), run: run.into() };
    assert!(embedded.take_lock(lock("r1"), second(1)).await.unwrap());
    assert!(!embedded.take_lock(lock("r2"), second(2)).await.unwrap());
    for (dead, left) in [("r2", 1), ("r1", 0), ("r1", 0)] {
        embedded.release_lock(&lock(dead).key, &"summary".into(), &dead.into()).await.unwrap();
        assert_eq!(embedded.locks().await.unwrap().len(), left);
    }
}

fn ids(leased: &[Leased]) -> Vec<String> {
    leased.iter().map(|leased| leased.ack_id.clone()).collect()
}

async fn pull(bus: &EmbeddedBus, subscription: &str, at: i64) -> Vec<Leased> {
    bus.pull(subscription, 10, second(at)).await.unwrap()
}

#[tokio::test]
async fn a_message_is_leased_until_acknowledged() {
    // Sent twice it is one message; leased it is nobody else's; expired it comes again and is counted.
    let (_dir, embedded) = fresh();
    let bus = embedded.bus(topics());
    for _ in 0..2 {
        bus.send(&message("d/1", Target::Topic("done".into())), second(0)).await.unwrap();
    }
    let first = pull(&bus, "theirs", 0).await;
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].message_id.as_str(), first[0].delivery_attempt), ("d/1", 1));
    assert_eq!(first[0].attributes["tipoff_dispatch_id"], "d/1");
    assert_eq!(pull(&bus, "theirs", 59).await, []);
    assert_eq!(pull(&bus, "ours", 59).await, [], "our own intake is served directly");

    bus.modify_ack_deadline("theirs", &ids(&first), 100, second(59)).await.unwrap();
    assert_eq!(pull(&bus, "theirs", 158).await, []);
    let second_lease = pull(&bus, "theirs", 159).await;
    assert_eq!(second_lease[0].delivery_attempt, 2);
    bus.modify_ack_deadline("theirs", &ids(&first), 600, second(160)).await.unwrap();
    bus.acknowledge("theirs", &ids(&second_lease), second(161)).await.unwrap();
    assert_eq!(pull(&bus, "theirs", 9_999).await, []);

    let refused = bus.pull("nobody", 1, second(0)).await;
    assert!(matches!(refused, Err(BusError::Refused(_))));
    assert!(matches!(bus.acknowledge("theirs", &["?".into()], second(0)).await, Err(BusError::Refused(_))));
}

#[tokio::test]
async fn what_is_refused_too_often_goes_to_the_dead_letters() {
    // Whether refused or left to expire, the fifth time is the last; the letter says where it comes from.
    let (_dir, embedded) = fresh();
    let bus = embedded.bus(topics());
    let id = bus.publish("done", vec![(b"{}".to_vec(), BTreeMap::new())], second(0)).await.unwrap().remove(0);
    let mut at = 0;
    for pause in [10, 20, 40, 80, 160] {
        let leased = pull(&bus, "theirs", at).await;
        bus.modify_ack_deadline("theirs", &ids(&leased), 0, second(at)).await.unwrap();
        assert_eq!(pull(&bus, "theirs", at + pause - 1).await, [], "the pause doubles");
        at += pause;
    }
    assert_eq!(pull(&bus, "theirs", at).await, []);
    let letters = pull(&bus, "letters", at).await;
    assert_eq!(letters[0].attributes["CloudPubSubDeadLetterSourceSubscription"], "theirs");
    assert_eq!(letters[0].attributes["CloudPubSubDeadLetterSourceDeliveryCount"], "5");
    assert_eq!((letters[0].message_id.clone(), letters[0].data.clone()), (format!("{id}@theirs"), b"{}".to_vec()));

    // Nobody answers at all.
    bus.publish("done", vec![(b"{}".to_vec(), BTreeMap::new())], second(1000)).await.unwrap();
    for lease in 0..5 {
        assert_eq!(pull(&bus, "theirs", 1000 + 60 * lease).await.len(), 1);
    }
    assert_eq!(pull(&bus, "theirs", 1300).await, []);
    let letters = pull(&bus, "letters", 1300).await;
    assert_eq!(letters.len(), 2, "the first letter's lease is over too, and letters have no end");

    let backlog = bus.backlog().await.unwrap();
    let of = |name: &str| backlog.iter().find(|backlog| backlog.subscription == name).unwrap();
    assert_eq!((of("theirs").dead, of("theirs").waiting, of("letters").waiting), (2, 0, 2));
}

#[tokio::test]
async fn the_old_is_dropped_and_the_settled_forgotten() {
    // A subscription keeps a message for a day; then it is neither delivered nor kept.
    let (_dir, embedded) = fresh();
    let bus = embedded.bus(topics());
    let day = 24 * 60 * 60;
    bus.send(&message("d/1", Target::Topic("done".into())), second(0)).await.unwrap();
    bus.send(&message("d/2", Target::Topic("done".into())), second(day)).await.unwrap();
    assert_eq!(bus.expire(second(day)).await.unwrap(), 0);
    assert_eq!(bus.expire(second(day + 1)).await.unwrap(), 1);
    assert_eq!(pull(&bus, "theirs", day + 1).await[0].message_id, "d/2");
    let pruned = embedded.prune(second(day + 2)).await.unwrap();
    assert_eq!((pruned.deliveries, pruned.messages), (1, 1));
    assert!(bus.pull("theirs", 10, second(2 * day + 1)).await.unwrap().is_empty(), "too old, though nobody dropped it");
}

#[tokio::test]
async fn coverage_is_answered_as_it_was() {
    // An answer never looks ahead, and being away is neither nothing nor everything.
    let (_dir, embedded) = fresh();
    let (nba, node, date) = ("nba".into(), "summary".into(), "2026-01-22".parse().unwrap());
    let part = |observed| Coverage::new(observed, 10).unwrap();
    let units = BTreeMap::from([("20260122_LAL_BOS".into(), part(4))]);
    embedded.put_coverage(&nba, &node, date, part(4), units.clone(), second(10)).await.unwrap();
    embedded.put_coverage(&nba, &node, date, part(9), BTreeMap::new(), second(20)).await.unwrap();
    assert_eq!(embedded.coverage(&nba, &node, date, second(9)).await, Answer::NotKept);
    assert_eq!(embedded.coverage(&nba, &node, date, second(19)).await, Answer::Known { coverage: part(4), units });
    let newest = Answer::Known { coverage: part(9), units: BTreeMap::new() };
    assert_eq!(embedded.coverage(&nba, &node, date, second(20)).await, newest);
    embedded.set_unavailable(Some("quota".into()));
    assert_eq!(embedded.coverage(&nba, &node, date, second(20)).await, Answer::Unknown("quota".into()));
    assert!(embedded.append("phase_completions", Vec::new()).await.is_err());
    embedded.set_unavailable(None);
    assert_eq!(embedded.coverage(&nba, &node, date, second(20)).await, newest);
}

#[tokio::test]
async fn a_report_is_told_as_it_was_and_only_the_newest_is_kept_for_good() {
    // A day off is an answer without rows; a day of which nothing was told is none.
    let (_dir, embedded) = fresh();
    let (nba, date) = ("nba".into(), "2026-01-22".parse().unwrap());
    let game = vec![row(json!({ "game_id": "0022500647", "away": "BOS", "home": "CHI", "status": "scheduled" }))];
    embedded.put_report(&nba, Kind::Schedule, date, game.clone(), second(10)).await.unwrap();
    embedded.put_report(&nba, Kind::Schedule, date, Vec::new(), second(20)).await.unwrap();
    let told = async |at| embedded.report(&nba, Kind::Schedule, date, second(at)).await;
    assert_eq!(told(9).await, Reported::NotKept);
    assert_eq!(told(19).await, Reported::Rows(game));
    assert_eq!(told(20).await, Reported::Rows(Vec::new()));
    assert_eq!(embedded.prune(second(30)).await.unwrap().reports, 1);
    assert_eq!(told(19).await, Reported::NotKept);
    assert_eq!(told(40).await, Reported::Rows(Vec::new()));
    assert_eq!(embedded.report(&nba, Kind::RosterAges, date, second(40)).await, Reported::NotKept);
    embedded.set_unavailable(Some("quota".into()));
    assert_eq!(told(40).await, Reported::Unknown("quota".into()));
}

#[tokio::test]
async fn history_appended_twice_is_there_once() {
    // A writer whose answer was lost appends again.
    let (_dir, embedded) = fresh();
    let run = json!({
        "processor_name": "PlayerGameSummaryProcessor", "run_id": "r1", "status": "success", "duration_seconds": 1.5,
        "records_processed": 281, "backfill_mode": false, "data_date": "2026-01-22", "errors": ["none", 1],
    });
    for _ in 0..2 {
        embedded.append("processor_run_history", vec![("nba/1".into(), row(run.clone()))]).await.unwrap();
    }
    assert_eq!(embedded.history("processor_run_history", 10).await.unwrap(), [row(run)]);
}

#[tokio::test]
async fn a_commit_is_stored_whether_or_not_anybody_waits_for_the_answer() {
    // A caller that is cancelled leaves a store that can be asked what happened.
    let (_dir, embedded) = fresh();
    let key = key("nba", "2026-01-22");
    let commit: Commit = next(embedded.load(&key).await.unwrap(), second(1));
    let store = embedded.clone();
    let task = tokio::spawn(async move { store.commit(commit).await });
    tokio::task::yield_now().await;
    task.abort();
    let _ = task.await;
    // Requests are taken in order, so this answer comes after whatever the first came to.
    embedded.set_exported(1).await.unwrap();
    let stored = embedded.load(&key).await.unwrap();
    assert_eq!(embedded.journal(Some(&key), 0, 10).await.unwrap().len() as u64, stored.version);
}
