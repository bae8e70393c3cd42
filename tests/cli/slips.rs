//! What is mistyped is named as what it is, by its exit code as well; and a file prints nothing that a terminal would obey.

use std::process::{Command, Output};

use super::running::Running;

fn tipoff(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tipoff")).args(arguments).output().unwrap()
}

#[test]
fn keys_of_a_file_move_no_cursor_and_turn_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, "\"\\e[31mred\\u202e\": 1\n").unwrap();
    let file = file.to_str().unwrap();
    for arguments in [&["check", "--pipeline-file", file][..], &["doctor", "--pipeline-file", file]] {
        let said = tipoff(arguments);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(text.contains("\\u{1b}[31mred\\u{202e}"), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn a_story_that_names_what_there_is_not_is_a_file_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("story.yaml");
    for (expected, words) in [
        ("{ node: predictions, date: 2026-01-22, is: runing }", "`runing` is no state"),
        ("{ node: prediction, date: 2026-01-22, is: running }", "prediction"),
    ] {
        let text = format!("title: t\nstory: s\nstart: 2026-01-22T15:00:00Z\nexpect:\n  - state: {expected}\n");
        std::fs::write(&file, text).unwrap();
        let said = tipoff(&["simulate", file.to_str().unwrap()]);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains(words), "{said:?}");
    }
}

#[test]
fn a_planted_bug_that_is_found_is_as_it_should_be_by_its_seed_as_well() {
    let said = tipoff(&["sim", "--core", "--seed", "1"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    // Some of its schedules find it, and others do not.
    let mut codes = std::collections::BTreeSet::new();
    for seed in 1..100 {
        let told = tipoff(&["sim", "--core", "--planted", "unbounded", "--seed", &seed.to_string()]);
        let held = String::from_utf8_lossy(&told.stdout).contains("every law held");
        assert_eq!(told.status.code(), Some(i32::from(held)), "{told:?}");
        codes.insert(told.status.code());
        if codes.len() == 2 {
            break;
        }
    }
    assert_eq!(codes, [Some(0), Some(1)].into());
    let threads = tipoff(&["sim", "--core", "--seeds", "2", "--threads", "1000000"]);
    assert_eq!(threads.status.code(), Some(2), "{threads:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_what_may_be() {
    let service = Running::serve(&[]);
    let data = service.data.to_str().unwrap();
    for (arguments, words) in [
        (&["status", "2062-01-23", "--data", data][..], "2062-01-23 is too far from today"),
        (&["why", "predictions", "2062-01-23", "--data", data], "2062-01-23 is too far from today"),
        (&["demo", "--fast", "--listen", "127.0.0.1:0"], "--stay"),
        (&["serve", "--push", "nba-phase4-triger-sub=http://127.0.0.1:1"], "nba-phase4-trigger-sub"),
    ] {
        let said = tipoff(arguments);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains(words), "{said:?}");
    }
    // What is past stays to be looked at, however long ago.
    assert_eq!(tipoff(&["status", "2020-01-23", "--data", data]).status.code(), Some(0));
}
