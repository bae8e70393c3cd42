//! Terraform itself: is it there, and what does it make of a module without a provider?

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::at;

/// Calls Terraform, which neither asks the network nor leaves anything in the repository.
pub fn terraform(module: &str, scratch: &Path, args: &[&str]) -> Option<Output> {
    let mut terraform = Command::new("terraform");
    let nothing = scratch.join("terraformrc");
    std::fs::write(&nothing, "").unwrap();
    terraform
        .env("TF_CLI_CONFIG_FILE", nothing)
        .env("TF_DATA_DIR", scratch.join("data"))
        .env("CHECKPOINT_DISABLE", "1");
    match terraform.current_dir(at("deploy/terraform").join(module)).args(args).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Not by `eprintln!`: what a passing test prints so is shown to nobody.
            let words = b"NOT TESTED: terraform is not installed, so what it makes of deploy/terraform is not known\n";
            std::io::stderr().write_all(words).unwrap();
            None
        }
        Err(error) => panic!("run terraform: {error}"),
    }
}

/// What it prints, if it went well.
pub fn good(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

/// What `apply` of a module without a provider says, beside where its state is.
fn apply(module: &str, variables: &[(&str, &str)], scratch: &Path) -> Option<(Output, String)> {
    let state = format!("-state={}", scratch.join("state").display());
    good(&terraform(module, scratch, &["init", "-input=false", "-no-color"])?);
    let variables: Vec<String> = variables.iter().map(|(name, value)| format!("-var={name}={value}")).collect();
    let mut apply = vec!["apply", "-auto-approve", "-input=false", "-no-color", &state];
    apply.extend(variables.iter().map(String::as_str));
    Some((terraform(module, scratch, &apply)?, state))
}

/// The outputs of a module that has no provider, or nothing where Terraform is missing.
pub fn outputs(module: &str, variables: &[(&str, &str)]) -> Option<BTreeMap<String, Value>> {
    let scratch = tempfile::tempdir().unwrap();
    let (applied, state) = apply(module, variables, scratch.path())?;
    good(&applied);
    let json = good(&terraform(module, scratch.path(), &["output", "-json", &state])?);
    let outputs: BTreeMap<String, Value> = serde_json::from_str(&json).unwrap();
    Some(outputs.into_iter().map(|(name, mut output)| (name, output["value"].take())).collect())
}

/// That these variables are refused with these words.
pub fn refused(module: &str, variables: &[(&str, &str)], words: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let Some((output, _)) = apply(module, variables, scratch.path()) else { return };
    assert!(!output.status.success(), "{module} takes {variables:?}");
    // Terraform breaks lines where it likes.
    let said = String::from_utf8_lossy(&output.stderr).replace(['\u{2502}', '\u{2577}', '\u{2575}'], " ");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(words), "{module} says of {variables:?}: {said}");
}

#[test]
fn every_file_is_formatted() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(output) = terraform(".", scratch.path(), &["fmt", "-check", "-recursive", "-diff"]) else { return };
    good(&output);
}

#[test]
fn a_prefix_that_is_none_is_refused() {
    // The same call works with one that is.
    if outputs("declared", &[("shadow_prefix", "shadow-")]).is_some() {
        refused("declared", &[("shadow_prefix", "Shadow")], "ends in a hyphen");
    }
}
