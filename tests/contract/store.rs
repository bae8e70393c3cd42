//! The contract of a store. Every check uses dates of its own, so that one store can take them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use tipoff::domain::backfill::{Draft, Item, ItemState, Plan, Said, Status};
use tipoff::domain::dead_letter::{About, Again, Cause, Discarded, Kind, Letter, Version};
use tipoff::domain::effect::Effect;
use tipoff::domain::id::{LetterId, PartitionKey, RequestId};
use tipoff::domain::notify::{Ledger, Notice};
use tipoff::domain::partition::Partition;
use tipoff::domain::time::Now;
use tipoff::port::{
    Commit, Delivered, JournalEntry, Letters, OutboxEntry, PARKED_MAX, PLANS_MAX, Parked, Store, StoreError, Stored,
    place,
};

use super::second;

/// Runs every check of the contract but the slow one. The store must be empty.
pub async fn contract(store: Arc<dyn Store>) {
    unknown_is_version_0(&*store).await;
    commits_are_numbered_and_compared(&*store).await;
    a_refused_commit_leaves_nothing(&*store).await;
    effects_wait_until_settled(&*store).await;
    due_comes_latest_date_first(&*store).await;
    the_journal_is_read_in_pages(&*store).await;
    parked_inputs_are_counted(&*store).await;
    the_export_goes_forward(&*store).await;
    who_was_at_work_can_be_told(&*store).await;
    what_people_were_told_is_compared(&*store).await;
    documents_of_other_names_are_others(&*store).await;
    no_more_is_taken_than_there_is(&store).await;
    plans_are_numbered_and_compared(&*store).await;
    letters_are_numbered_and_compared(&*store).await;
    letters_come_in_pages_and_settled_ones_make_room(&*store).await;
    no_update_is_lost(store).await;
}

pub fn key(pipeline: &str, date: &str) -> PartitionKey {
    PartitionKey::new(pipeline, date.parse::<Date>().unwrap())
}

/// The next commit on what is stored.
pub fn next(stored: Stored, at: Timestamp) -> Commit {
    let Stored { partition, version, .. } = stored;
    let journal = JournalEntry {
        seq: 0,
        key: partition.key.clone(),
        version: version + 1,
        now: Now::caught_up(at),
        revision: 1,
        events: Vec::new(),
        recorded: Vec::new(),
        effects: Vec::new(),
        moved: Vec::new(),
    };
    let partition = Arc::new(Partition { decided_at: at, ..Arc::unwrap_or_clone(partition) });
    Commit {
        expected_version: version,
        partition,
        wake_at: None,
        outbox: Vec::new(),
        claimed_until: None,
        journal: Some(journal),
    }
}

pub fn effect(key: &PartitionKey, id: &str, at: Timestamp) -> OutboxEntry {
    let effect = Effect::Observe { date: key.date, node: "player_game_summary".into() };
    OutboxEntry { id: id.into(), key: key.clone(), effect, decided_at: at, tries: 0 }
}

/// Commits effects of those ids for a new date.
pub async fn decide(store: &dyn Store, key: &PartitionKey, ids: &[&str], at: Timestamp) {
    let commit = next(store.load(key).await.unwrap(), at);
    let outbox = ids.iter().map(|id| effect(key, id, at)).collect();
    store.commit(Commit { outbox, ..commit }).await.unwrap();
}

pub async fn waiting(store: &dyn Store, at: Timestamp) -> Vec<String> {
    store.outbox(at, 100).await.unwrap().into_iter().map(|entry| entry.id).collect()
}

async fn settle_all(store: &dyn Store) {
    for id in waiting(store, Timestamp::MAX).await {
        store.settle(&id, Delivered::Sent { at: second(0) }).await.unwrap();
    }
}

async fn unknown_is_version_0(store: &dyn Store) {
    // A date nobody has written about is there to be decided on.
    let key = key("contract", "2026-01-01");
    let stored = store.load(&key).await.unwrap();
    assert_eq!((stored.version, &*stored.partition), (0, &Partition::new(key)));
}

async fn commits_are_numbered_and_compared(store: &dyn Store) {
    // What is loaded is what was committed, and a decision on an older version is refused.
    let key = key("contract", "2026-01-02");
    let first = next(store.load(&key).await.unwrap(), second(1));
    store.commit(first.clone()).await.unwrap();
    let stored = store.load(&key).await.unwrap();
    assert_eq!((stored.version, &stored.partition), (1, &first.partition));
    let second_of_both = next(stored, second(2));
    store.commit(second_of_both.clone()).await.unwrap();
    for stale in [first, second_of_both] {
        let refused = store.commit(stale).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Conflict(of) if *of == key), "{refused}");
    }
    assert_eq!(store.load(&key).await.unwrap().version, 2);
    // A version that has never been is as stale as an old one.
    let absent = PartitionKey::new("contract", "2026-01-03".parse::<Date>().unwrap());
    let ahead = next(Stored { partition: Partition::new(absent.clone()).into(), version: 7, wake_at: None }, second(3));
    assert!(matches!(store.commit(ahead).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.load(&absent).await.unwrap().version, 0);
    assert_eq!(store.dates(&"contract".into(), 10).await.unwrap(), [key.date]);
}

async fn what_people_were_told_is_compared(store: &dyn Store) {
    // One who tells on what is not so any more would tell it twice.
    let (version, mut ledger) = store.kept::<Ledger>().await.unwrap();
    assert_eq!((version, &ledger), (0, &Ledger::default()));
    ledger.made = 7;
    ledger.channels.entry("people".into()).or_default().queue.push_back(Notice::heartbeat("n".into(), second(1)));
    assert!(!store.keep(3, &ledger).await.unwrap(), "there is no third version");
    assert!(store.keep(0, &ledger).await.unwrap());
    assert!(!store.keep(0, &Ledger::default()).await.unwrap());
    assert_eq!(store.kept::<Ledger>().await.unwrap(), (1, ledger.clone()));
    ledger.made = 8;
    assert!(store.keep(1, &ledger).await.unwrap());
    assert_eq!(store.kept::<Ledger>().await.unwrap(), (2, ledger));
}

async fn documents_of_other_names_are_others(store: &dyn Store) {
    assert_eq!(store.document("contract-a").await.unwrap(), (0, None));
    let first = serde_json::json!({ "name": "first", "nested": { "of": [1, 2, 3] } });
    assert!(store.keep_document("contract-a", 0, &first).await.unwrap());
    assert_eq!(store.document("contract-b").await.unwrap(), (0, None));
    assert!(!store.keep_document("contract-b", 1, &first).await.unwrap(), "it has no first version");
    assert_eq!(store.document("contract-a").await.unwrap(), (1, Some(first)));
}

async fn plans_are_numbered_and_compared(store: &dyn Store) {
    // Whoever decides on a plan that somebody else has changed decides again; a plan is what was stored last.
    let pipeline = "plans".into();
    let plan = |id: &str, at: i64, status: Status| {
        let said = Said { at: second(at), actor: "ann".into(), text: "holes".into() };
        let draft = Draft { items: vec![item("2026-01-02")], refused: Vec::new() };
        Plan { status, ..Plan::new(id.into(), "plans".into(), second(at), draft, said) }
    };
    let first = plan("first", 1, Status::Proposed);
    assert!(store.put_plan(&first, 0).await.unwrap());
    assert!(!store.put_plan(&first, 0).await.unwrap(), "it is there already");
    let started = Plan { status: Status::Running, ..first.clone() };
    assert!(store.put_plan(&started, 1).await.unwrap());
    assert!(!store.put_plan(&plan("first", 1, Status::Cancelled), 1).await.unwrap(), "somebody was faster");
    assert!(!store.put_plan(&plan("ahead", 1, Status::Running), 7).await.unwrap(), "it never was");
    let second = plan("second", 2, Status::Over);
    assert!(store.put_plan(&second, 0).await.unwrap());
    let all = [(started.clone(), 2), (second, 1)];
    assert_eq!(store.plans(&pipeline).await.unwrap(), all, "what runs first, then the latest");
    // However many are proposed hide none that runs.
    for nth in 0..=PLANS_MAX {
        let proposed = plan(&format!("proposed-{nth:03}"), 10 + i64::try_from(nth).unwrap(), Status::Proposed);
        assert!(store.put_plan(&proposed, 0).await.unwrap());
    }
    let plans = store.plans(&pipeline).await.unwrap();
    assert_eq!((plans.len(), &plans[0]), (PLANS_MAX, &(started, 2)));
    assert_eq!(plans[1].0.id.as_str(), format!("proposed-{PLANS_MAX:03}"), "then the latest");
    assert!(store.plans(&"other".into()).await.unwrap().is_empty());
}

fn item(date: &str) -> Item {
    Item {
        node: "player_game_summary".into(),
        date: date.parse().unwrap(),
        fills: ["player_game_summary".into()].into(),
        follows: false,
        state: ItemState::Resting { until: second(9), why: Some("it waits".into()) },
        attempts: 1,
    }
}

async fn a_refused_commit_leaves_nothing(store: &dyn Store) {
    // Neither effect nor journal entry of a refused decision may be seen by anybody.
    let key = key("refused", "2026-01-02");
    decide(store, &key, &["refused/a"], second(1)).await;
    let stale = next(Stored { partition: Partition::new(key.clone()).into(), version: 0, wake_at: None }, second(2));
    let stale = Commit { outbox: vec![effect(&key, "refused/b", second(2))], wake_at: Some(second(2)), ..stale };
    assert!(matches!(store.commit(stale).await, Err(StoreError::Conflict(_))));
    assert_eq!(waiting(store, second(9)).await, ["refused/a"]);
    assert_eq!(store.journal(Some(&key), 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.next_wake().await.unwrap(), (None, Some(second(1))));
    settle_all(store).await;
}

async fn effects_wait_until_settled(store: &dyn Store) {
    // The latest date first, within it as decided; deferred, parked and sent ones step aside.
    let (old, new) = (key("effects", "2026-01-02"), key("effects", "2026-01-09"));
    decide(store, &old, &["old/z", "old/a"], second(10)).await;
    decide(store, &new, &["new/1"], second(20)).await;
    decide(store, &new, &["new/1", "new/0"], second(30)).await;
    assert_eq!(waiting(store, second(15)).await, ["old/z", "old/a"], "not before it was decided");
    assert_eq!(waiting(store, second(30)).await, ["new/1", "new/0", "old/z", "old/a"], "an id is taken once");
    assert_eq!(store.outbox(second(30), 1).await.unwrap(), [effect(&new, "new/1", second(20))]);

    let deferred = Delivered::Deferred { until: second(60), error: "503".into() };
    for _ in 0..2 {
        store.settle("new/1", deferred.clone()).await.unwrap();
    }
    let parked = Delivered::Parked { reason: "no such topic".into() };
    for _ in 0..2 {
        store.settle("old/z", parked.clone()).await.unwrap();
        store.settle("new/0", Delivered::Sent { at: second(31) }).await.unwrap();
    }
    assert_eq!(waiting(store, second(59)).await, ["old/a"]);
    let again = store.outbox(second(60), 10).await.unwrap();
    assert_eq!((again[0].id.as_str(), again[0].tries), ("new/1", 1), "the same deferral is one try");
    assert_eq!(store.next_wake().await.unwrap().1, Some(second(10)));
    let undeliverable = store.undeliverable(10).await.unwrap();
    assert_eq!(undeliverable, [(effect(&old, "old/z", second(10)), "no such topic".to_owned())]);

    store.settle("new/0", deferred).await.unwrap();
    store.settle("nobody", Delivered::Sent { at: second(32) }).await.unwrap();
    assert_eq!(waiting(store, second(99)).await, ["new/1", "old/a"], "what was sent stays sent");
    settle_all(store).await;
    assert_eq!(store.next_wake().await.unwrap().1, None);
}

async fn due_comes_latest_date_first(store: &dyn Store) {
    // Today's games matter more than last week's; a wake that was taken back does not come.
    for (date, wake_at) in [("2026-01-05", Some(40)), ("2026-01-07", Some(50)), ("2026-01-06", Some(90))] {
        let commit = next(store.load(&key("due", date)).await.unwrap(), second(1));
        store.commit(Commit { wake_at: wake_at.map(second), ..commit }).await.unwrap();
    }
    assert_eq!(store.next_wake().await.unwrap().0, Some(second(40)));
    assert_eq!(store.due(second(39), 10).await.unwrap(), []);
    assert_eq!(store.due(second(50), 10).await.unwrap(), [key("due", "2026-01-07"), key("due", "2026-01-05")]);
    assert_eq!(store.due(second(90), 1).await.unwrap(), [key("due", "2026-01-07")]);
    for date in ["2026-01-05", "2026-01-06", "2026-01-07"] {
        let commit = next(store.load(&key("due", date)).await.unwrap(), second(2));
        store.commit(commit).await.unwrap();
    }
    assert_eq!(store.due(second(999), 10).await.unwrap(), []);
    let dates = store.dates(&"due".into(), 2).await.unwrap();
    assert_eq!(dates, [key("due", "2026-01-07").date, key("due", "2026-01-06").date]);
}

async fn the_journal_is_read_in_pages(store: &dyn Store) {
    // Numbers grow over the whole store; one partition's entries are found among the others.
    let (one, two) = (key("journal", "2026-01-05"), key("journal", "2026-01-06"));
    let before = store.journal(None, 0, 1000).await.unwrap().last().map_or(0, |entry| entry.seq);
    for turn in 0..3 {
        decide(store, &one, &[], second(turn)).await;
        decide(store, &two, &[], second(turn)).await;
    }
    let all = store.journal(None, before, 100).await.unwrap();
    assert!(all.is_sorted_by(|a, b| a.seq < b.seq) && all.len() == 6, "{all:?}");
    let page = store.journal(Some(&two), before, 2).await.unwrap();
    assert_eq!(page.iter().map(|entry| entry.version).collect::<Vec<_>>(), [1, 2]);
    let rest = store.journal(Some(&two), page[1].seq, 2).await.unwrap();
    assert_eq!(rest, all[5..]);
    assert_eq!(rest[0].now, Now::caught_up(second(2)));
}

pub fn poison(fingerprint: &str, at: Timestamp) -> Parked {
    Parked {
        fingerprint: fingerprint.into(),
        slug: "no_date".into(),
        reason: "it names no date".into(),
        topic: "nba-phase3-analytics-complete".into(),
        message_id: "1".into(),
        published: at,
        attributes: BTreeMap::from([("source".into(), "test".into())]),
        head: b"{\xff".to_vec(),
        size: 2,
        at,
        count: 0,
    }
}

async fn parked_inputs_are_counted(store: &dyn Store) {
    // A repetition is counted and moves its input to the front; the first one is what is kept.
    store.park(poison("a", second(1))).await.unwrap();
    store.park(poison("b", second(2))).await.unwrap();
    store.park(Parked { reason: "other words".into(), ..poison("a", second(3)) }).await.unwrap();
    let parked = store.parked(10).await.unwrap();
    assert_eq!(parked, [Parked { count: 2, ..poison("a", second(1)) }, Parked { count: 1, ..poison("b", second(2)) }]);
    assert_eq!(store.parked(1).await.unwrap().len(), 1);
}

/// Slow, so not part of [`contract`]: a flood of different inputs fills the store no further than its bound.
pub async fn a_flood_of_poison_is_bounded(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..PARKED_MAX + 5 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.park(poison(&format!("flood/{number}"), second(1))).await.unwrap() });
    }
    tasks.join_all().await;
    let parked = store.parked(usize::MAX).await.unwrap();
    assert_eq!(parked.len() as u64, PARKED_MAX + 1);
    let overflow = parked.iter().find(|parked| parked.fingerprint == "overflow").unwrap();
    assert_eq!(overflow.count, 5);
}

/// A letter that came at that instant.
pub fn letter(id: &str, at: Timestamp) -> Letter {
    Letter {
        id: LetterId::from(id),
        kind: Kind::Dead,
        topic: Some("done".into()),
        subscription: Some("theirs".into()),
        message_id: "7".into(),
        published: at,
        at,
        attempts: 5,
        reason: "503".into(),
        cause: Cause { fingerprint: "ab".into(), words: "theirs: 503".into() },
        about: About::default(),
        versions: vec![Version { at, actor: None, reason: None, size: 2, is_whole: true }],
        replays: Vec::new(),
        discarded: None,
        again_at: None,
    }
}

async fn letters_are_numbered_and_compared(store: &dyn Store) {
    // Of two who change the same letter one does; what each version says is kept.
    let content = (vec![0xff, b'{'], BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let mut kept = letter("compared", second(1));
    assert!(store.letter(&kept.id).await.unwrap().is_none());
    assert!(!store.keep_letter(&kept, 3, None).await.unwrap(), "there is no third version");
    assert!(store.keep_letter(&kept, 0, Some(content.clone())).await.unwrap());
    assert!(!store.keep_letter(&letter("compared", second(9)), 0, None).await.unwrap(), "it is kept already");
    assert_eq!(store.letter(&kept.id).await.unwrap(), Some((kept.clone(), 1)));
    let correction = Version { actor: Some("ann".into()), ..kept.versions[0].clone() };
    kept.correct(correction).unwrap();
    let corrected = (b"{}".to_vec(), BTreeMap::new());
    assert!(store.keep_letter(&kept, 1, Some(corrected.clone())).await.unwrap());
    assert!(!store.keep_letter(&kept, 1, None).await.unwrap(), "somebody else was faster");
    assert_eq!(store.letter(&kept.id).await.unwrap(), Some((kept.clone(), 2)));
    assert_eq!(store.letter_content(&kept.id, 0).await.unwrap(), Some(content));
    assert_eq!(store.letter_content(&kept.id, 1).await.unwrap(), Some(corrected));
    assert_eq!(store.letter_content(&kept.id, 2).await.unwrap(), None);
    discarded(store, kept).await;
}

async fn discarded(store: &dyn Store, mut letter: Letter) {
    let (_, version) = store.letter(&letter.id).await.unwrap().unwrap();
    let at = letter.at;
    letter.discard(Discarded { actor: "ann".into(), reason: "seen".into(), at }).unwrap();
    assert!(store.keep_letter(&letter, version, None).await.unwrap());
}

async fn letters_come_in_pages_and_settled_ones_make_room(store: &dyn Store) {
    let empty = || Some((Vec::new(), BTreeMap::new()));
    for number in 10..15 {
        assert!(store.keep_letter(&letter(&format!("p{number}"), second(number)), 0, empty()).await.unwrap());
    }
    let ids = async |which, after: Option<&str>, limit| {
        let page = store.letters(which, after, limit).await.unwrap();
        page.into_iter().map(|(letter, _)| letter.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Letters::Open, None, 2).await, ["p14", "p13"]);
    let after = place(&letter("p13", second(13)));
    assert_eq!(ids(Letters::Open, Some(&after), 10).await, ["p12", "p11", "p10"]);
    // One is being replayed: it is open, and found among those that were left over.
    let mut asked = letter("p12", second(12));
    asked.ask(Again::Refused, ("ann", None), "digest".into(), second(20)).unwrap();
    assert!(store.keep_letter(&asked, 1, None).await.unwrap());
    assert_eq!(ids(Letters::Asked, None, 10).await, ["p12"]);
    assert_eq!(ids(Letters::Open, None, 10).await.len(), 5);
    asked.sent(second(21));
    assert!(store.keep_letter(&asked, 2, None).await.unwrap());
    assert_eq!(ids(Letters::Asked, None, 10).await, Vec::<String>::new());
    discarded(store, letter("p11", second(11))).await;
    assert_eq!(ids(Letters::Open, None, 10).await, ["p14", "p13", "p10"]);
    assert_eq!(ids(Letters::All, None, 10).await.len(), 6);
    // With the one of another check three are settled. What waits never goes, whatever the bound.
    assert_eq!(store.trim_letters(6).await.unwrap(), 6);
    assert_eq!(store.trim_letters(5).await.unwrap(), 5);
    assert_eq!(store.trim_letters(0).await.unwrap(), 3);
    assert_eq!(ids(Letters::All, None, 10).await, ["p14", "p13", "p10"]);
    assert_eq!(store.letter_content(&"p11".into(), 0).await.unwrap(), None);
}

async fn the_export_goes_forward(store: &dyn Store) {
    // Two exporters that overlap must not send the cursor back.
    assert_eq!(store.exported().await.unwrap(), 0);
    for (set, expected) in [(5, 5), (3, 5), (8, 8)] {
        store.set_exported(set).await.unwrap();
        assert_eq!(store.exported().await.unwrap(), expected);
    }
}

/// A mark is told, the latest of them, and is no parked input.
async fn who_was_at_work_can_be_told(store: &dyn Store) {
    assert_eq!(store.marked().await.unwrap(), None);
    let parked = store.parked(1000).await.unwrap().len();
    for at in [second(60), second(120)] {
        store.mark(at).await.unwrap();
        assert_eq!(store.marked().await.unwrap(), Some(at));
    }
    assert_eq!(store.parked(1000).await.unwrap().len(), parked);
}

async fn no_update_is_lost(store: Arc<dyn Store>) {
    // Eight deciders on one date, each loading again when another was faster.
    let key = key("contended", "2026-01-05");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (store, key) = (Arc::clone(&store), key.clone());
        tasks.spawn(async move {
            for turn in 0..50 {
                loop {
                    let mut commit = next(store.load(&key).await.unwrap(), second(turn));
                    Arc::make_mut(&mut commit.partition)
                        .requests
                        .insert(RequestId::new(format!("{task}/{turn}")), second(turn));
                    match store.commit(commit).await {
                        Ok(()) => break,
                        Err(StoreError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let stored = store.load(&key).await.unwrap();
    assert_eq!((stored.version, stored.partition.requests.len()), (400, 400));
    let versions: Vec<u64> =
        store.journal(Some(&key), 0, 1000).await.unwrap().into_iter().map(|entry| entry.version).collect();
    assert_eq!(versions, (1..=400).collect::<Vec<_>>());
}

/// Of what is limited within a window nobody gets more than is left, whoever asks at the same time; a new window is full.
async fn no_more_is_taken_than_there_is(store: &Arc<dyn Store>) {
    let (ten, eleven) = (second(36_000), second(39_600));
    let asked = (0..8).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.take("dispatches", ten, 3, 10).await.unwrap() })
    });
    let mut taken = Vec::new();
    for one in asked.collect::<Vec<_>>() {
        taken.push(one.await.unwrap());
    }
    assert_eq!(taken.iter().sum::<u32>(), 10, "{taken:?}");
    assert_eq!(store.take("dispatches", ten, 1, 10).await.unwrap(), 0);
    assert_eq!(store.take("dispatches of others", ten, 4, 10).await.unwrap(), 4);
    assert_eq!(store.take("dispatches", eleven, 20, 10).await.unwrap(), 10);
    assert_eq!(store.take("dispatches", eleven, 1, 12).await.unwrap(), 1, "a wider limit holds at once");
}
