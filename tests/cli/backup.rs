//! `backup`, `restore`, `migrate`: a copy is whole, or is none.

use serde_json::Value;

use super::run;
use crate::running::{Running, completion};

#[tokio::test]
async fn a_copy_made_beside_the_service_is_put_back_and_goes_on() {
    let mut service = Running::serve(&["--heartbeat-flush", "0s"]);
    let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "done-1", "success");
    assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    let (copy, data) = (copy.to_str().unwrap(), service.data.to_str().unwrap().to_owned());
    let at = |arguments: &[&str]| run(&[arguments, &["--data", &data]].concat());

    let (code, said, errors) = at(&["backup", copy, "--json"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(said["holds"]["journal"].as_u64() > Some(0), "{said}");
    let (code, _, errors) = at(&["backup", copy]);
    assert_eq!((code, errors.contains("is there already")), (Some(2), true), "{errors}");

    // What came after it.
    let later = completion("TeamOffenseGameSummaryProcessor", "phase_3_analytics", "later-1", "success");
    assert!(service.publish("nba-phase3-analytics-complete", &later).await.is_success());
    let (code, _, errors) = at(&["restore", copy, "--replace"]);
    assert_eq!((code, errors.contains("a service runs on")), (Some(3), true), "{errors}");

    service.killed();
    let (code, _, errors) = at(&["restore", copy]);
    assert_eq!((code, errors.contains("--replace")), (Some(2), true), "{errors}");
    // A copy that is damaged changes nothing.
    let spoilt = folder.path().join("spoilt.db");
    let mut bytes = std::fs::read(copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&spoilt, bytes).unwrap();
    let (code, _, errors) = at(&["restore", spoilt.to_str().unwrap(), "--replace"]);
    assert_eq!((code, errors.contains("damaged")), (Some(3), true), "{errors}");
    let (_, said, _) = at(&["timeline", "today"]);
    assert!(said.contains("later-1"), "{said}");

    let (code, said, errors) = at(&["restore", copy, "--replace"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("what was there is"), "{said}");
    let (_, said, _) = at(&["timeline", "today"]);
    assert!(said.contains("done-1") && !said.contains("later-1"), "{said}");
    let (code, said, _) = at(&["migrate"]);
    assert_eq!((code, said.contains("nothing to do")), (Some(0), true), "{said}");

    // A service goes on from there.
    service.killed_and_started();
    assert!(service.publish("nba-phase3-analytics-complete", &later).await.is_success());
    let (_, said, _) = at(&["timeline", "today"]);
    assert!(said.contains("later-1"), "{said}");
}

#[tokio::test]
async fn a_service_that_has_ended_leaves_one_file_that_holds_everything() {
    let mut service = Running::serve(&[]);
    let done = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "done-1", "success");
    assert!(service.publish("nba-phase3-analytics-complete", &done).await.is_success());
    service.ended();
    let alone = tempfile::tempdir().unwrap();
    let copy = alone.path().join("copied-by-hand.db");
    std::fs::copy(service.data.join("tipoff.db"), &copy).unwrap();
    assert!(tipoff::adapter::embedded::check(&copy).unwrap().journal > 0);
}

#[test]
fn an_earlier_layout_is_brought_up_with_a_copy_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    drop(tipoff::adapter::embedded::Embedded::open(data.as_ref(), tipoff::adapter::embedded::Durability::Off).unwrap());
    let database = rusqlite::Connection::open(folder.path().join("data/tipoff.db")).unwrap();
    // As the version before plans had it.
    database.execute_batch("DROP TABLE plans; PRAGMA user_version = 5").unwrap();
    drop(database);
    let (code, said, errors) = run(&["migrate", "--dry-run", "--data", data]);
    assert_eq!((code, said.contains("layout 5 becomes 6")), (Some(1), true), "{said}{errors}");
    let elsewhere = folder.path().join("copy.db");
    let migrate = ["migrate", "--copy", elsewhere.to_str().unwrap(), "--data", data];
    let (code, said, errors) = run(&migrate);
    assert_eq!((code, said.contains("layout 5 has become 6")), (Some(0), true), "{said}{errors}");
    assert_eq!(tipoff::adapter::embedded::check(&elsewhere).unwrap().schema, 5);
    let (code, said, _) = run(&["migrate", "--data", data]);
    assert_eq!((code, said.contains("nothing to do")), (Some(0), true), "{said}");
    let (code, _, errors) = run(&["migrate", "--data", folder.path().join("nowhere").to_str().unwrap()]);
    assert_eq!(code, Some(3), "{errors}");
}

#[test]
fn what_stands_in_the_place_of_a_store_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let file = folder.path().join("tipoff.db");
    let said = |command: &[&str]| {
        let (code, _, errors) = run(&[command, &["--data", data]].concat());
        assert_eq!(code, Some(3), "{command:?}: {errors}");
        errors
    };
    for command in [&["migrate"][..], &["status"], &["backup", "copy.db"]] {
        assert!(said(command).contains("`tipoff serve --data"), "there is none yet");
    }
    std::fs::write(&file, "this is no database, and long enough to look like one: ".repeat(100)).unwrap();
    for command in [&["migrate"][..], &["status"], &["backup", "copy.db"]] {
        let errors = said(command);
        assert!(errors.contains("it is there") && !errors.contains("makes one"), "{command:?}: {errors}");
    }
    std::fs::remove_file(&file).unwrap();
    drop(tipoff::adapter::embedded::Embedded::open(folder.path(), tipoff::adapter::embedded::Durability::Off).unwrap());
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for command in [&["migrate"][..], &["status"], &["backup", "copy.db"]] {
        let errors = said(command);
        let told = errors.contains("use the version that wrote it") && !errors.contains("makes one");
        assert!(told, "{command:?}: {errors}");
    }
}
