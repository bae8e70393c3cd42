//! Stories: every incident tipoff was built for, at wire level on a virtual clock, through the real engine.
//!
//! Each file holds plainly, with every message delivered twice, with the process killed anywhere, and with messages
//! between which no deadline falls in another order. A seed that ever failed stays in the list.

use std::path::{Path, PathBuf};

use tipoff::pipeline::{PIPELINE, TOPICS};
use tipoff::scenario::file::Scenario;
use tipoff::scenario::run::{declarations, run};
use tipoff::scenario::world::Regime;

const SEEDS: [u64; 4] = [1, 7, 42, 1949];
/// Ten thousand messages show what a flood does; the regimes would only show the same ten times more slowly.
const PLAIN_ONLY: [&str; 1] = ["inc-24-flood.yaml"];

/// The stories, and the two days that `tipoff demo` plays.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = ["tests/scenarios", "demo"]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn hold(regime: Regime) {
    let mut missed = Vec::new();
    let files = files();
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if regime != Regime::Plain && PLAIN_ONLY.contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let scenario = Scenario::read(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!scenario.expect.is_empty(), "{name} expects nothing: it could not fail");
        let declared = declarations(&scenario, ("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE))
            .unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let report = runtime
            .block_on(run(&scenario, &declared, regime, |_| {}))
            .unwrap_or_else(|error| panic!("{name} under {regime:?}: {error}"));
        missed.extend(report.misses.iter().map(|miss| format!("{name}:{}: {regime:?}: {}", miss.line, miss.text)));
    }
    assert!(
        missed.is_empty(),
        "{} of {} stories' expectations missed:\n{}",
        missed.len(),
        files.len(),
        missed.join("\n")
    );
}

#[test]
fn every_incident_has_its_story() {
    let names: Vec<String> =
        files().iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    for incident in ["01a", "01b", "03", "04", "08", "09", "11", "12", "17", "18", "24", "29", "31", "42"] {
        assert!(names.iter().any(|name| name.starts_with(&format!("inc-{incident}-"))), "INC-{incident} has no story");
    }
}

#[test]
fn every_story_holds() {
    hold(Regime::Plain);
}

#[test]
fn every_story_holds_with_every_message_twice() {
    hold(Regime::Twice);
}

#[test]
fn every_story_holds_with_the_process_killed_anywhere() {
    for seed in SEEDS {
        hold(Regime::RestartAnywhere(seed));
    }
}

#[test]
fn every_story_holds_in_another_order() {
    for seed in SEEDS {
        hold(Regime::Shuffle(seed));
    }
}
