//! `docs/operations.md` promises what there is: each of the sixteen questions has a command that exists, and a test of it.

use std::collections::BTreeSet;

use super::run;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The commands that a cell names: what stands in backquotes and begins with `tipoff`.
fn commands(cell: &str) -> Vec<Vec<&str>> {
    let quoted = cell.split('`').skip(1).step_by(2).filter_map(|words| words.strip_prefix("tipoff "));
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    quoted.map(|words| words.split(' ').take_while(is_name).collect()).collect()
}

/// Words of our sources that stand in quotes, as arguments of a test do.
fn quoted_in_tests() -> BTreeSet<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = BTreeSet::new();
    for part in ["cli", "e2e"] {
        for file in std::fs::read_dir(folder.join(part)).unwrap().map(|entry| entry.unwrap().path()) {
            if file.file_name().is_some_and(|name| name != "operations.rs") {
                let text = std::fs::read_to_string(file).unwrap();
                found.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn each_of_the_sixteen_questions_has_a_command_and_the_command_a_test() {
    let tested = quoted_in_tests();
    let rows: Vec<Vec<&str>> = PAGE
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.get(1).is_some_and(|first| first.parse::<u32>().is_ok()))
        .collect();
    let numbers: Vec<u32> = rows.iter().map(|cells| cells[1].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=16).collect::<Vec<u32>>());
    let mut missing = Vec::new();
    for cells in rows {
        let commands = commands(cells[3]);
        assert!(!commands.is_empty(), "{}: no command", cells[2]);
        for command in commands {
            let (code, help, _) = run(&["help", command[0]]);
            // What follows a command is a subcommand of it, or a word such as `all` or `yesterday`.
            let under = command.get(1).filter(|_| help.contains("Commands:"));
            let is_there =
                code == Some(0) && under.is_none_or(|under| run(&[command[0], under, "--help"]).0 == Some(0));
            if !is_there {
                missing.push(format!("there is no {command:?}"));
            }
            if !tested.contains(command[0]) {
                missing.push(format!("no test calls {command:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    // The rest of the page names only commands that there are.
    for command in commands(PAGE) {
        assert_eq!(run(&["help", command[0]]).0, Some(0), "{command:?}");
    }
}
