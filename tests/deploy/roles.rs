//! Every role is named with its reason in `docs/deploy.md`, and every name in a module is there.

use std::collections::BTreeSet;

use regex::Regex;

use crate::{modules, text};

fn all<'t>(pattern: &str, text: &'t str) -> BTreeSet<&'t str> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found.get(1).unwrap().as_str()).collect()
}

#[test]
fn every_role_is_one_that_the_page_explains_and_no_other() {
    let page = text("docs/deploy.md");
    let table = page.split("## Who may do what").nth(1).expect("the section").split("\n## ").next().unwrap();
    let explained = all("`(roles/[A-Za-z.]+)`", table);
    let modules = modules();
    let granted: BTreeSet<&str> = modules.iter().flat_map(|(_, text)| all("\"(roles/[A-Za-z.]+)\"", text)).collect();
    assert!(granted.len() > 8, "{granted:?}");
    assert_eq!(granted, explained, "deploy/terraform grants the left, docs/deploy.md explains the right");
}

#[test]
fn no_role_is_wider_than_it_has_to_be() {
    // What can only be had on a whole project: jobs, telemetry, and Firestore, which has a condition instead.
    let on_projects = [
        "roles/bigquery.jobUser",
        "roles/cloudtrace.agent",
        "roles/datastore.user",
        "roles/datastore.viewer",
        "roles/logging.logWriter",
        "roles/monitoring.metricWriter",
    ];
    for (module, text) in modules() {
        for primitive in ["roles/owner", "roles/editor", "roles/viewer"] {
            assert!(!text.contains(&format!("\"{primitive}\"")), "{module} grants {primitive}");
        }
        // A binding or a policy takes away what others were granted.
        let authoritative = all("resource \"(google_[a-z0-9_]+_iam_(?:binding|policy))\"", &text);
        assert!(authoritative.is_empty(), "{module}: {authoritative:?}");
        for block in text.split("\nresource ").filter(|block| block.starts_with("\"google_project_iam_member\"")) {
            let block = block.split("\n}\n").next().unwrap();
            for role in all("\"(roles/[A-Za-z.]+)\"", block) {
                assert!(on_projects.contains(&role), "{module} grants {role} on the whole project");
                assert!(!role.starts_with("roles/datastore") || block.contains("condition {"), "{module}: {block}");
            }
        }
        assert!(!text.contains("allUsers") && !text.contains("allAuthenticatedUsers"), "{module} lets everybody in");
        assert!(!text.contains("google_service_account_key"), "{module} makes a key");
        assert!(!text.contains("google_cloud_scheduler"), "{module}: timers are ours");
    }
}

#[test]
fn every_name_that_a_module_uses_is_declared_and_every_declared_one_used() {
    // Terraform checks that only with the providers, which need a registry.
    let modules = modules();
    let outputs_of = |name: &str| {
        let (_, text) = modules.iter().find(|(module, _)| module == name).unwrap_or_else(|| panic!("no module {name}"));
        all("(?m)^output \"([a-z_]+)\"", text)
    };
    for (module, text) in &modules {
        let variables = all("(?m)^variable \"([a-z_]+)\"", text);
        assert_eq!(all(r"\bvar\.([a-z_]+)", text), variables, "{module}: used on the left, declared on the right");
        let mut locals = BTreeSet::new();
        for block in text.split("\nlocals {\n").skip(1) {
            locals.extend(all(r"(?m)^  ([a-z_]+) *= ", block.split("\n}\n").next().unwrap()));
        }
        assert_eq!(all(r"\blocal\.([a-z_]+)", text), locals, "{module}: used on the left, declared on the right");
        for block in text.split("\nmodule \"").skip(1) {
            let (name, body) = block.split_once('"').unwrap();
            let body = body.split("\n}\n").next().unwrap();
            let source = all(r#"source *= "\.\./([a-z-]+)""#, body);
            let source = source.first().unwrap_or_else(|| panic!("{module}: module {name} has no source"));
            let used = all(&format!(r"\bmodule\.{name}(?:\[[a-z.]+\])?\.([a-z_]+)"), text);
            assert!(used.is_subset(&outputs_of(source)), "{module} uses of {source}: {used:?}");
            let (_, called) = modules.iter().find(|(module, _)| module == source).unwrap();
            let given = all(r"(?m)^  ([a-z_]+) *= ", body);
            let given: BTreeSet<&str> =
                given.into_iter().filter(|argument| !["source", "for_each"].contains(argument)).collect();
            let taken = all("(?m)^variable \"([a-z_]+)\"", called);
            assert!(given.is_subset(&taken), "{module} gives {source}: {:?}", given.difference(&taken));
        }
    }
}

#[test]
fn every_phase_has_its_turn_in_the_migration() {
    let page = text("docs/migration.md");
    let (_, table) = page.split_once("| `--send` | switch off today's |").expect("the table");
    let named: BTreeSet<&str> = table
        .split("\n\n")
        .next()
        .unwrap()
        .lines()
        .skip(2)
        .flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    let declared = tipoff::pipeline::load(
        ("topics.yaml", tipoff::pipeline::TOPICS),
        ("pipeline.yaml", tipoff::pipeline::PIPELINE),
    );
    let declared = declared.unwrap();
    let phases: BTreeSet<&str> =
        declared.pipelines.values().flat_map(|it| tipoff::desk::day::phases(&it.graph)).collect();
    assert_eq!(named, phases, "docs/migration.md names the left, pipeline.yaml has the right");
}
