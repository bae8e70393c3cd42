//! What is deployed is what the service reads: Terraform evaluates the same files, no role is granted that
//! `docs/deploy.md` does not name, and a container is told nothing that the program does not know.
//!
//! Terraform has no package to install, so where it is missing its tests say so, in CI as well.

mod containers;
mod declared;
mod instances;
mod network;
mod plan;
mod roles;
mod settings;
mod terraform;

use std::fs;
use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Every Terraform file, by its module, without what is said in comments.
fn modules() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for module in fs::read_dir(at("deploy/terraform")).unwrap() {
        let module = module.unwrap().path();
        // So that the first block begins a line like the others.
        let mut text = String::from("\n");
        for file in fs::read_dir(&module).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "tf") {
                let lines = fs::read_to_string(&file).unwrap();
                text.extend(
                    lines.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| [line, "\n"]),
                );
            }
        }
        found.push((module.file_name().unwrap().to_string_lossy().into_owned(), text));
    }
    found.sort();
    assert!(found.len() > 4, "the modules were not found: {found:?}");
    found
}
