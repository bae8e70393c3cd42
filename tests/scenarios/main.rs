//! Stories: every incident tipoff was built for, at wire level on a virtual clock, through the real engine.
//!
//! Each file holds plainly, with every message delivered twice, with the process killed anywhere, and with messages
//! between which no deadline falls in another order, under seeds that the stories take in turn. Where the host is, by its
//! own clock, changes nothing: what is played elsewhere is played by the program, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, OnceLock};

use tipoff::pipeline::{Declarations, PIPELINE, TOPICS};
use tipoff::scenario::expect::Miss;
use tipoff::scenario::file::Scenario;
use tipoff::scenario::run::{declarations, embedding, run, run_beside};
use tipoff::scenario::seen::Course;
use tipoff::scenario::world::Regime;

/// For runs in this process, one for each story in turn, and for those on hosts elsewhere.
const SEEDS: [u64; 3] = [1, 42, 1949];
const SEED_ELSEWHERE: &str = "7";
/// What went wrong, and must not again.
const INCIDENTS: [&str; 45] = [
    "01a", "01b", "01c", "01d", "01e", "02", "03", "04", "06", "07", "08", "09", "11", "12", "14", "15", "16", "17",
    "18", "19", "20", "21", "22", "23", "24", "25", "27", "28", "29", "30", "31", "32", "33", "34", "35", "37", "38",
    "41", "42", "43", "44", "45", "46", "47", "48",
];
/// What volumes, or a whole week, show: the regimes would only show the same ten times more slowly.
const PLAIN_ONLY: [&str; 3] = ["inc-24-flood.yaml", "inc-27-the-cleaner-in-full.yaml", "shadow-week.yaml"];

/// Thousands of messages: they hold under every regime, and nothing of them hangs on where the host is.
const HERE_ONLY: [&str; 2] = ["inc-20-seven-thousand-runs.yaml", "inc-22-three-weeks-of-backlog.yaml"];

/// One file, and how its plain run went once somebody has asked.
struct Story {
    name: String,
    path: PathBuf,
    scenario: Scenario,
    declared: Arc<Declarations>,
    plain: OnceLock<(Course, Vec<Miss>)>,
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
    Story { name, path: path.to_owned(), scenario, declared, plain: OnceLock::new() }
}

impl Story {
    fn play(&self, regime: Regime) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failed = |error| -> ! { panic!("{} under {regime:?}: {error}", self.name) };
        let told = |misses: &[Miss]| {
            let told = |miss: &Miss| format!("{}:{}: {regime:?}: {}", self.name, miss.line, miss.text);
            misses.iter().map(told).collect()
        };
        // Four tests run side by side; whichever comes first plays it plainly.
        let (course, misses) = self.plain.get_or_init(|| {
            let played = runtime.block_on(run(&self.scenario, &self.declared, Regime::Plain, |_| {}));
            let report = played.unwrap_or_else(|error| failed(error));
            (report.seen.course(report.seen.ended), report.misses)
        });
        if regime == Regime::Plain {
            return told(misses);
        }
        let beside = async {
            run_beside(embedding(&self.declared)?, &self.scenario, &self.declared, (regime, Some(course)), |_| {}).await
        };
        told(&runtime.block_on(beside).unwrap_or_else(|error| failed(error)).misses)
    }
}

/// Every story holds under a regime of its own, by its place among them.
fn hold(regime: impl Fn(usize) -> Regime) {
    let stories = STORIES.iter().enumerate().map(|(nth, story)| (regime(nth), story));
    let played = stories.filter(|(regime, story)| *regime == Regime::Plain || !PLAIN_ONLY.contains(&&*story.name));
    let missed: Vec<String> = played.flat_map(|(regime, story)| story.play(regime)).collect();
    let count = STORIES.len();
    assert!(missed.is_empty(), "{} of {count} stories' expectations missed:\n{}", missed.len(), missed.join("\n"));
}

/// The seed of the story at that place: each has another than its neighbours.
fn seed(nth: usize) -> u64 {
    SEEDS[nth % SEEDS.len()]
}

/// Of so many stories one is played elsewhere: nothing in the program reads the host's zone, which `tests/tidy` keeps, and what
/// a library would read of it every story would show.
const ELSEWHERE_EACH: usize = 3;

/// What the program prints of those stories, on a host whose clock shows the time of `zone`.
fn printed(zone: &str, regime: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stays = |story: &&Story| PLAIN_ONLY.iter().chain(&HERE_ONLY).any(|name| *name == story.name);
    let stories: Vec<&Story> = STORIES.iter().filter(|story| !stays(story)).step_by(ELSEWHERE_EACH).collect();
    let run = Command::new(env!("CARGO_BIN_EXE_tipoff"))
        .current_dir(root)
        .env("TZ", zone)
        .args(["simulate", "--json", "--topics", "topics.yaml", "--pipeline-file", "pipeline.yaml"])
        .args(regime)
        .args(stories.iter().map(|story| &story.path))
        .output()
        .unwrap();
    let lines: Vec<String> = String::from_utf8(run.stdout).unwrap().lines().map(str::to_owned).collect();
    let missed: Vec<&String> = lines.iter().filter(|line| line.starts_with("{\"entry\":\"missed\"")).collect();
    let failed = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && missed.is_empty(), "in {zone} {regime:?}: {missed:#?}\n{failed}");
    assert!(lines.iter().filter(|line| line.contains("\"holds\":true")).count() >= stories.len());
    lines
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
    hold(|_| Regime::Plain);
}

#[test]
fn every_story_holds_with_every_message_twice() {
    hold(|_| Regime::Twice);
}

#[test]
fn every_story_holds_with_the_process_killed_anywhere() {
    hold(|nth| Regime::RestartAnywhere(seed(nth)));
}

#[test]
fn every_story_holds_in_another_order() {
    hold(|nth| Regime::Shuffle(seed(nth)));
}

#[test]
fn stories_are_told_the_same_on_hosts_elsewhere() {
    let [here, there] = ["America/Los_Angeles", "Asia/Tokyo"].map(|zone| printed(zone, &[]));
    let differs = here.iter().zip(&there).find(|(here, there)| here != there);
    assert!(differs.is_none() && here.len() == there.len(), "{differs:#?}");
}

#[test]
fn stories_hold_on_hosts_elsewhere_under_the_regimes() {
    printed("America/Los_Angeles", &["--shuffle", SEED_ELSEWHERE]);
    printed("Asia/Tokyo", &["--restart-anywhere", SEED_ELSEWHERE]);
}
