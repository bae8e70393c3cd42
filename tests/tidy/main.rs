//! Keeps what ARCHITECTURE.md says by absence: imports point inward, the core reads no clock and does no IO.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Tests may use whatever they like.
                let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources: the check would check nothing");
    found
}

fn refuse(folder: &str, words: &[&str]) {
    let mut offences = Vec::new();
    for (path, text) in sources(folder) {
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in words {
                if line.contains(word) {
                    offences.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(offences.is_empty(), "{folder} must not use:\n{}", offences.join("\n"));
}

#[test]
fn the_core_does_nothing() {
    // That it uses nothing of ours, and no crate that does anything, its own manifest sees to.
    refuse(
        "src/domain",
        &[
            "async ",
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "Timestamp::now",
            "SystemTime",
            "Instant::now",
            "println!",
        ],
    );
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain/Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]").unwrap();
    let (dependencies, _) = rest.split_once("\n[").unwrap();
    let names = dependencies.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), ["jiff", "serde", "thiserror"]);
    let sections: Vec<&str> = manifest.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(sections, ["[package]", "[lib]", "[dependencies]", "[dev-dependencies]", "[lints.rust]"]);
    assert!(manifest.contains("unsafe_code = \"forbid\""), "unsafe code is not forbidden there");
}

#[test]
fn imports_point_inward() {
    let outer = ["crate::engine", "crate::adapter", "crate::http", "crate::cli", "crate::scenario", "crate::replay"];
    refuse("src/wire", &outer);
    refuse("src/monitor", &[&outer[..], &["crate::pipeline", "crate::port", "async ", "Timestamp::now"]].concat());
    refuse(
        "src/engine",
        &["crate::adapter", "crate::http", "crate::cli", "crate::scenario", "crate::replay", "rusqlite", "axum"],
    );
    refuse("src/adapter", &["crate::engine", "crate::http", "crate::cli", "crate::scenario"]);
    refuse("src/http", &["crate::cli", "crate::scenario"]);
    refuse("src/scenario", &["crate::cli", "crate::http", "crate::replay"]);
    refuse("src/replay", &["crate::cli", "crate::http", "crate::adapter", ".commit(", "Timestamp::now"]);
}

#[test]
fn only_telemetry_knows_how_it_is_told() {
    for folder in ["src/domain", "src/wire", "src/engine", "src/adapter", "src/http", "src/cli", "src/scenario"] {
        refuse(folder, &["opentelemetry"]);
    }
    refuse("src/telemetry", &["crate::engine", "crate::adapter", "crate::http", "crate::cli", "crate::port"]);
}

#[test]
fn nobody_asks_which_zone_the_host_is_in() {
    refuse("src", &["TimeZone::system", "Zoned::now", "chrono::Local", "Local::now", "localtime"]);
}

#[test]
fn nothing_unfinished_and_no_unwrap_outside_tests() {
    refuse("src", &["todo!(", "unimplemented!(", ".unwrap()", "dbg!("]);
}

#[test]
fn every_invariant_has_its_place_in_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let code = fs::read_to_string(root.join("src/domain/invariant.rs")).unwrap();
    let slugs: Vec<&str> = code.split("broken(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(slugs.len() > 5, "no slugs were found in invariant.rs: {slugs:?}");
    for slug in slugs {
        assert!(page.contains(&format!("`{slug}`")), "ARCHITECTURE.md does not explain {slug}");
    }
}

#[test]
fn every_topic_of_an_alert_is_known_and_explained() {
    let begins =
        ["condition(\"", "AlertKey::new(format!(\"", "key = format!(\"", "turn(format!(\"", "fails(&format!(\""];
    let is_topic = |name: &str| name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let mut raised = std::collections::BTreeSet::new();
    for (_, text) in ["src/domain/plan", "src/engine", "src/monitor"].into_iter().flat_map(sources) {
        for begin in begins {
            let words = text.split(begin).skip(1).filter_map(|rest| rest.split([':', '"']).next());
            raised.extend(words.filter(|word| is_topic(word)).map(str::to_owned));
        }
    }
    assert!(raised.len() > 25, "the topics were not found: {raised:?}");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md")).unwrap();
    for topic in &raised {
        assert!(tipoff::domain::notify::is_topic(topic, []), "domain/notify/topics.rs does not list {topic}");
    }
    for (topic, _, says) in tipoff::domain::notify::TOPICS {
        assert!(page.contains(&format!("| `{topic}` | {says} |")), "docs/alerts.md does not explain {topic}: {says}");
    }
}

/// `deny.toml` says the same to cargo-deny, which is not installed everywhere.
#[test]
fn what_is_linked_comes_from_one_place_and_brings_no_second_tls() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap();
    let field = |line: &str, name: &str| line.strip_prefix(name).map(|rest| rest.trim_matches('"').to_owned());
    let sources: Vec<String> = lock.lines().filter_map(|line| field(line, "source = ")).collect();
    assert!(sources.len() > 100, "{} sources", sources.len());
    for source in sources {
        assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index");
    }
    let names: Vec<String> = lock.lines().filter_map(|line| field(line, "name = ")).collect();
    for banned in ["openssl", "openssl-sys", "native-tls"] {
        assert!(!names.iter().any(|name| name == banned), "{banned} is linked: TLS is rustls");
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""), "unsafe code is not forbidden any more");
}

/// Every item of the checklist is answered: met, and by which test, or refused, and why.
#[test]
fn every_item_of_the_security_checklist_is_answered_by_tests_that_there_are() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let code: String = ["src", "tests"].into_iter().flat_map(whole).collect();
    for number in 1..=42 {
        let begin = format!("| SEC-{number:02} |");
        let row = page.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no row {begin}"));
        assert!(row.contains("| met |") || row.contains("| refused |") || row.contains("| in part |"), "{row}");
        for test in row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.matches('_').count() > 2 && !word.contains('/') && *word == word.to_lowercase())
        {
            let name = test.rsplit("::").next().unwrap_or(test);
            assert!(code.contains(&format!("fn {name}(")), "SEC-{number:02} names {test}, which is no test");
        }
    }
}

/// What is said to show what becomes of a fault is there: tests, stories and files.
#[test]
fn every_fault_is_shown_by_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let code: String = ["src", "tests"].into_iter().flat_map(whole).collect();
    for number in 1..=74 {
        let begin = format!("| F-{number:02} |");
        let row = page.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no row {begin}"));
        for word in row.split('`').skip(1).step_by(2) {
            let is_test =
                word.matches('_').count() > 1 && word.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
            if word.ends_with(".yaml") && !word.contains(['/', ' ']) {
                let is_there = word == "tipoff.yaml"
                    || root.join(word).exists()
                    || root.join("tests/scenarios").join(word).exists();
                assert!(is_there, "F-{number:02} names {word}, which is no story");
            } else if word.contains('/') && word.ends_with(".rs") {
                assert!(root.join(word).exists(), "F-{number:02} names {word}, which is not there");
            } else if is_test {
                assert!(code.contains(&format!("fn {word}(")), "F-{number:02} names {word}, which is no test");
            }
        }
    }
}

/// Sources with their tests.
fn whole(folder: &str) -> Vec<String> {
    sources(folder).into_iter().map(|(path, _)| fs::read_to_string(path).unwrap()).collect()
}
