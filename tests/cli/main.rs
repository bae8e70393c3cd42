//! The program as somebody types it: what it prints, and with which exit code it ends.

use std::process::{Command, Output, Stdio};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(arguments).current_dir(std::env::temp_dir());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The README's first command: both recorded days play to their end, and everything they promise holds.
#[test]
fn both_days_hold_without_a_terminal() {
    let (code, text, errors) = run(&["demo", "--fast"]);
    assert_eq!(code, Some(0), "{text}\n{errors}");
    assert!(text.contains("because heartbeat_dead"), "the stuck run was not run again:\n{text}");
}

#[test]
fn a_reader_that_leaves_is_no_crash() {
    let mut child = program(&["graph"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_cannot_be_answered_says_what_to_do() {
    let nowhere = std::env::temp_dir().join("tipoff-has-never-been-here");
    let nowhere = nowhere.to_str().unwrap();
    for (arguments, code, words) in [
        (&["status", "--data", nowhere][..], 3, "`tipoff serve --data"),
        (&["why", "predictions", "--data", nowhere], 3, "`tipoff serve --data"),
        (&["serve", "--listen", "0.0.0.0:0", "--data", nowhere], 2, "give --token-file"),
        (&["serve", "--push", "nobody=http://127.0.0.1:1", "--data", nowhere], 2, "no such subscription or service"),
        (&["check", "--pipeline-file", "no-such-file.yaml"], 2, "no-such-file.yaml"),
        (&["check", "--log", "x=["], 2, "--log x=["),
        (&["statsu"], 2, "did you mean"),
    ] {
        let (found, _, errors) = run(arguments);
        let errors_lower = errors.to_lowercase();
        assert!(
            found == Some(code)
                && (errors.contains(words) || words == "did you mean" && errors_lower.contains("similar")),
            "{arguments:?}: {found:?} {errors}"
        );
    }
}

#[test]
fn a_requests_whole_way_can_be_followed() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let (code, _, errors) = run(&["hold", "2026-01-22", "grading", "--reason", "model swap", "--data", data]);
    assert_eq!(code, Some(3), "a request made a store that nobody serves");
    assert!(errors.contains("`tipoff serve --data"), "{errors}");
    drop(
        tipoff::adapter::embedded::Embedded::open(
            std::path::Path::new(data),
            tipoff::adapter::embedded::Durability::Off,
        )
        .unwrap(),
    );
    let at = |arguments: &[&str]| run(&[arguments, &["--data", data]].concat());
    let (code, said, errors) = at(&["hold", "2026-01-22", "grading", "--reason", "model swap", "--actor", "ann"]);
    assert_eq!((code, said.as_str()), (Some(0), "nba/2026-01-22: grading is held until `tipoff resume`\n"), "{errors}");
    let (code, said, _) = at(&["why", "grading", "2026-01-22"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("held by ann: model swap"), "{said}");
    assert!(said.contains("tipoff resume 2026-01-22 grading"), "{said}");
    let (code, _, _) = at(&["resume", "2026-01-22", "grading", "--reason", "swapped"]);
    assert_eq!(code, Some(0));
    let (_, said, _) = at(&["why", "grading", "2026-01-22"]);
    assert!(!said.contains("held by"), "{said}");
    let (code, said, _) = at(&["status", "2026-01-22"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("nba 2026-01-22 (America/New_York): not complete; of 22 tasks "), "{said}");
    let (_, said, _) = at(&["timeline", "2026-01-22", "--json"]);
    let entries: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 2);
}

/// The demo promises to leave nothing behind, however it ends.
#[cfg(unix)]
#[test]
fn a_demo_that_is_ended_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let mut child = program(&["demo", "--speed", "1"])
        .env("TMPDIR", home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let full = || std::fs::read_dir(home.path()).unwrap().count();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while full() == 0 {
        assert!(std::time::Instant::now() < patience, "the demo has not begun");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(full(), 0);
}
