//! A copy of the store is put back, and what came after it is told again.

use super::join::{TOPIC, name};
use super::plant::{Plant, SOURCES};
use super::publisher::completion;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_again_after_a_restore_has_the_ids_that_it_had() {
    let plant = Plant::new().await;
    let mut service = plant.start();
    let [before, after] = [1, 2].map(|ahead| plant.publisher.date(ahead));
    let told = |date: &str| (0..SOURCES).map(|source| completion(&name(source), date, date, true)).collect::<Vec<_>>();
    let ran = |args: &[&str]| {
        let ended = plant.tipoff(args);
        assert!(ended.status.success(), "{args:?}: {ended:?}");
    };
    let ids = || plant.consumer.seen();
    plant.publisher.insist(&service.url, TOPIC, &told(&before)).await;
    plant.until("the first is dispatched", || ids().len() == 1).await;
    let copy = plant.folder.path().join("copy.db");
    ran(&["backup", copy.to_str().unwrap()]);
    // In the other order, and with a failure: what was decided has another attempt, too.
    let mut other = told(&after);
    other.reverse();
    plant.publisher.insist(&service.url, TOPIC, &other).await;
    plant.until("the second is dispatched", || ids().len() == 2).await;
    plant.publisher.insist(&service.url, TOPIC, &[completion("join", &after, "in vain", false)]).await;
    plant.until("it is tried again", || ids().len() == 3).await;
    let had = ids();

    service.kill();
    let came = plant.consumer.arrivals();
    ran(&["restore", copy.to_str().unwrap(), "--replace"]);
    service = plant.start();
    // The broker hands out again what came after the copy.
    plant.publisher.insist(&service.url, TOPIC, &told(&after)).await;
    let once_more = |id: &String| plant.consumer.arrivals()[id] > came[id];
    let of = |attempt: u64| had.iter().find(|((date, _, _, of), _)| *date == after && *of == attempt).unwrap().1;
    let again = |attempt: u64| of(attempt).iter().all(once_more);
    plant.until("the second is dispatched again", || again(1)).await;
    plant.publisher.insist(&service.url, TOPIC, &[completion("join", &after, "in vain", false)]).await;
    plant.until("it is tried again, again", || again(2)).await;
    assert_eq!(ids(), had, "each attempt has one id, whichever store decides on it");
    plant.comes_to_rest(&service).await;
}
