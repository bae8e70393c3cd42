//! The image and the laptop's set of containers, as far as they can be judged without running them.

use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::{modules, text};

/// Every environment variable that the program reads: those its help names, and those of Google's clients.
fn known() -> BTreeSet<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_tipoff")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let named = Regex::new(r"\[env: ([A-Z_]+)=").unwrap();
    let mut known: BTreeSet<String> = named.captures_iter(&help).map(|found| found[1].to_owned()).collect();
    assert!(known.contains("TIPOFF_LISTEN"), "the help names no variables: {help}");
    let backend = text("src/cli/backend.rs");
    for name in ["PUBSUB_EMULATOR_HOST", "FIRESTORE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"] {
        assert!(backend.contains(&format!("\"{name}\"")), "{name} is no longer read");
        known.insert(name.to_owned());
    }
    known
}

#[test]
fn a_container_is_told_only_what_the_program_knows() {
    let known = known();
    let compose: Value = serde_saphyr::from_str(&text("deploy/compose.yaml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for (name, service) in services {
        if service["image"] == "tipoff:laptop" {
            let environment = service["environment"].as_object().unwrap_or_else(|| panic!("{name} is told nothing"));
            told.extend(environment.keys().cloned());
        }
    }
    let image = Regex::new(r"(?m)^ENV ([A-Z_]+)=").unwrap();
    told.extend(image.captures_iter(&text("deploy/Containerfile")).map(|found| found[1].to_owned()));
    let variable = Regex::new(r"(?m)^ +([A-Z][A-Z_]+) += ").unwrap();
    for (_, text) in modules() {
        told.extend(variable.captures_iter(&text).map(|found| found[1].to_owned()));
    }
    assert!(told.contains("PUBSUB_EMULATOR_HOST") && told.contains("TIPOFF_CONFIG"), "{told:?}");
    assert!(told.is_subset(&known), "the program knows nothing of {:?}", told.difference(&known));
}

#[test]
fn nobody_else_reaches_what_runs_on_a_laptop() {
    let compose: Value = serde_saphyr::from_str(&text("deploy/compose.yaml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    let mut published = 0;
    for (name, service) in services {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is published as {port}");
            published += 1;
        }
        // Emulators are on the loopback of the one network that has the ports.
        let network = service["network_mode"].as_str();
        assert_eq!(network, if name == "network" { None } else { Some("service:network") }, "{name}");
        for needed in service["depends_on"].as_object().into_iter().flat_map(|needed| needed.keys()) {
            assert!(services.contains_key(needed), "{name} waits for {needed}, which is not there");
        }
        // A file whose content stands in this file is copied into the container, which is refused where it is read-only.
        for file in service["configs"].as_array().into_iter().flatten() {
            let is_copied = compose["configs"][file["source"].as_str().unwrap()]["content"].is_string();
            assert!(!is_copied || service["read_only"] != true, "{name} could not be started");
        }
    }
    assert!(published > 3);
    for (variable, host) in services["tipoff"]["environment"].as_object().unwrap() {
        if variable.ends_with("EMULATOR_HOST") {
            let port = host.as_str().unwrap().strip_prefix("127.0.0.1:").expect("on loopback");
            let answers =
                services.values().any(|it| it["healthcheck"]["test"].to_string().contains(&format!("/{port}")));
            assert!(answers, "nobody is at {variable}={host}");
        }
    }
}

/// One subscription at fault keeps a service from being ready: that must neither end an instance nor keep operators from it.
#[test]
fn whoever_is_not_ready_is_reached_all_the_same() {
    let (run, cluster) = (text("deploy/terraform/cloud-run/main.tf"), text("deploy/terraform/gke/main.tf"));
    let path_of = |file: &str, probe: &str| {
        let block = file.split_once(&format!("{probe} {{")).expect(probe).1;
        let path = block.split_once("path = \"").expect(probe).1;
        path.split_once('"').expect(probe).0.to_owned()
    };
    for file in [&run, &cluster] {
        assert_eq!(path_of(file, "startup_probe"), "/startupz");
        assert_eq!(path_of(file, "liveness_probe"), "/healthz");
    }
    assert_eq!(path_of(&cluster, "readiness_probe"), "/readyz");
    assert!(cluster.contains("publish_not_ready_addresses = true"));
}

#[test]
fn the_image_is_run_as_nobody_without_a_shell() {
    let file = text("deploy/Containerfile");
    let (build, image) = file.split_once("# ---- the image\n").expect("the last stage begins there");
    // Bases are arguments, so that a digest can be given.
    for line in file.lines().filter(|line| line.starts_with("FROM ")) {
        assert!(line.starts_with("FROM ${"), "{line}");
    }
    assert!(build.contains("ARG RUST=") && build.contains("ARG BASE="));
    assert!(!image.contains("\nRUN "), "nothing can run in an image without a shell");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    for entry in image.lines().filter(|line| line.starts_with("ENTRYPOINT") || line.starts_with("CMD")) {
        assert!(entry.contains('['), "{entry}: without brackets it needs a shell");
    }
    let script = text("deploy/build.sh");
    for needed in ["--locked", "SOURCE_DATE_EPOCH", "--remap-path-prefix"] {
        assert!(script.contains(needed), "deploy/build.sh no longer says {needed}");
    }
    for script in ["deploy/build.sh", "deploy/image.sh", "deploy/firestore.sh"] {
        let checked =
            Command::new("bash").args(["-n", script]).current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(checked.success(), "{script}");
    }
}

/// What a script prints, and the code that it ends with.
fn ran(script: &str, args: &[&str]) -> (String, Option<i32>) {
    let mut bash = Command::new("bash");
    bash.arg(script).args(args).env_remove("GOOGLE_CLOUD_PROJECT").current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = bash.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn indexes_are_made_for_the_collections_of_whoever_asks_for_them() {
    let file: Value = serde_json::from_str(&text("deploy/firestore.indexes.json")).unwrap();
    let declared = ["indexes", "fieldOverrides"].map(|key| file[key].as_array().unwrap().len()).iter().sum::<usize>();
    let shadow = tipoff::configuration::Configuration::default().in_the_shadow().google.prefix;
    for (args, prefix, database) in
        [(&["--print"][..], "tipoff_", "(default)"), (&["--print", "--prefix", &shadow, "tipoff"], &shadow, "tipoff")]
    {
        let (printed, code) = ran("deploy/firestore.sh", args);
        assert_eq!((printed.lines().count(), code), (declared, Some(0)), "{printed}");
        for line in printed.lines() {
            let group = line.split("--collection-group=").nth(1).unwrap().split(' ').next().unwrap();
            let name = group.strip_prefix(prefix).unwrap_or_else(|| panic!("{line}"));
            assert!(!name.starts_with("shadow_") && !name.starts_with("tipoff_"), "{line}");
            assert!(line.ends_with(&format!("--database={database}")), "{line}");
        }
    }
    assert_eq!(ran("deploy/firestore.sh", &["--prefix"]).1, Some(2));
    assert_eq!(ran("deploy/firestore.sh", &["--print", "--prefix", "Shadow-"]), (String::new(), Some(2)));
    assert_ne!(ran("deploy/firestore.sh", &[]).1, Some(0), "no project is named");
    let (help, code) = ran("deploy/firestore.sh", &["--help"]);
    assert!(help.contains("--prefix PREFIX") && code == Some(0), "{help}");
}
