//! Stories: every incident tipoff was built for, at wire level on a virtual clock, through the real engine.
//!
//! Each file holds plainly, with every message delivered twice, with the process killed anywhere, and with messages
//! between which no deadline falls in another order. A seed that ever failed stays in the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use tipoff::domain::id::DispatchId;
use tipoff::pipeline::{Declarations, PIPELINE, TOPICS};
use tipoff::scenario::file::Scenario;
use tipoff::scenario::run::{declarations, embedding, plainly, run, run_beside};
use tipoff::scenario::world::Regime;

const SEEDS: [u64; 4] = [1, 7, 42, 1949];
/// What went wrong, and must not again.
const INCIDENTS: [&str; 29] = [
    "01a", "01b", "02", "03", "04", "08", "09", "11", "12", "14", "15", "16", "17", "18", "21", "23", "24", "29", "30",
    "31", "32", "33", "34", "35", "37", "38", "41", "42", "47",
];
/// Ten thousand messages show what a flood does; the regimes would only show the same ten times more slowly.
const PLAIN_ONLY: [&str; 1] = ["inc-24-flood.yaml"];

/// One file, and what its plain run sends once somebody has asked.
struct Story {
    name: String,
    scenario: Scenario,
    declared: Arc<Declarations>,
    plain: OnceLock<BTreeSet<DispatchId>>,
}

/// The stories, and the two days that `tipoff demo` plays.
static STORIES: LazyLock<Vec<Story>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = ["tests/scenarios", "demo"]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files.iter().map(|path| story(path)).collect()
});

fn story(path: &Path) -> Story {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let scenario = Scenario::read(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!scenario.expect.is_empty(), "{name} expects nothing: it could not fail");
    let declared = declarations(&scenario, ("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE))
        .unwrap_or_else(|problems| panic!("{name}: {problems}"));
    Story { name, scenario, declared, plain: OnceLock::new() }
}

fn hold(regime: Regime) {
    let mut missed = Vec::new();
    let stories = STORIES.iter().filter(|story| regime == Regime::Plain || !PLAIN_ONLY.contains(&story.name.as_str()));
    for Story { name, scenario, declared, plain } in stories {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failed = |error| -> ! { panic!("{name} under {regime:?}: {error}") };
        let play = async {
            if regime == Regime::Plain {
                return run(scenario, declared, regime, |_| {}).await;
            }
            // Four tests run side by side; whichever comes first plays it plainly.
            if plain.get().is_none() {
                let _ = plain.set(plainly(scenario, declared).await?.dispatches());
            }
            run_beside(embedding(declared)?, scenario, declared, (regime, plain.get()), |_| {}).await
        };
        let report = runtime.block_on(play).unwrap_or_else(|error| failed(error));
        missed.extend(report.misses.iter().map(|miss| format!("{name}:{}: {regime:?}: {}", miss.line, miss.text)));
    }
    assert!(
        missed.is_empty(),
        "{} of {} stories' expectations missed:\n{}",
        missed.len(),
        STORIES.len(),
        missed.join("\n")
    );
}

#[test]
fn every_incident_has_its_story() {
    let names: Vec<&str> = STORIES.iter().map(|story| story.name.as_str()).collect();
    for incident in INCIDENTS {
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
