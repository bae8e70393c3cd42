//! A shadow and the real one beside each other: what both stand on is made once, and nothing else is made by both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use tipoff::configuration::Configuration;

use crate::modules;
use crate::plan::{Plan, Resource};

/// What Google, or the cluster, knows a resource by. A grant is all that it says.
fn identity(resource: &Resource) -> String {
    const NAMES: [&str; 10] = [
        "account_id",
        "collection",
        "dataset_id",
        "field",
        "fields1",
        "name",
        "secret",
        "secret_id",
        "service",
        "table_id",
    ];
    let Resource { kind, input, .. } = resource;
    if kind.ends_with("_iam_member") {
        return format!("{kind} {input}");
    }
    let mut known: Map<String, Value> = input.as_object().unwrap().clone();
    known.retain(|key, _| NAMES.contains(&key.as_str()));
    // Where Google makes a name up, people know it by this one.
    let title = [&input["display_name"], &input["metadata1"]["name"], &input["manifest"]["metadata"]["name"]];
    if known.is_empty() {
        known.extend(title.iter().filter(|it| it.is_string()).map(|it| ("title".to_owned(), (*it).clone())));
    }
    assert!(!known.is_empty(), "{}: what is it known by?", resource.address);
    format!("{kind} {}", Value::Object(known))
}

/// Every step of docs/migration.md, for the example with these changes.
fn migrated(altered: &[(&str, &str)]) -> Option<Vec<Resource>> {
    let plan = Plan::of_the_example(altered)?;
    let actions = |planned: &[Resource]| planned.iter().flat_map(|it| it.actions.clone()).collect::<BTreeSet<_>>();
    let only = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();

    let begun = plan.with(r#"["shadow"]"#, true);
    assert_eq!(actions(&begun), only(&["create"]));
    let real = plan.with(r#"["shadow", "real"]"#, true);
    assert_eq!(actions(&real), only(&["create", "no-op"]), "the real one is made beside the shadow");
    let touched = |of: &'static str| move |it: &&Resource| it.actions != ["no-op"] && !it.address.contains(of);
    assert_eq!(real.iter().find(touched("[\"real\"]")).map(|it| &it.address), None);

    let ended = plan.with(r#"["real"]"#, false);
    assert_eq!(actions(&ended), only(&["delete", "no-op"]), "the shadow is taken away");
    assert_eq!(ended.iter().find(touched("[\"shadow\"]")).map(|it| &it.address), None);
    // All that is there, as it is there.
    Some(ended)
}

fn nothing_is_made_twice(made: &[Resource]) {
    let mut known = BTreeMap::new();
    for resource in made {
        if let Some(other) = known.insert(identity(resource), &resource.address) {
            panic!("{} and {other} are the same: {}", resource.address, identity(resource));
        }
    }
}

#[test]
fn on_cloud_run_a_shadow_comes_first_and_goes_and_nothing_is_made_twice() {
    let Some(made) = migrated(&[]) else { return };
    nothing_is_made_twice(&made);
    let of = |kind: &str| made.iter().filter(|it| it.kind == kind).collect::<Vec<_>>();
    assert!(of("google_pubsub_topic").iter().all(|it| it.address.starts_with("module.project.")));
    assert!(of("google_pubsub_topic").len() > 20);
    // Where the service keeps its documents is where the indexes are.
    let mut collections = 0;
    for resource in made.iter().filter(|it| it.input["collection"].is_string()) {
        let shadow = Configuration::default().in_the_shadow().google.prefix;
        let is_shadow = resource.address.contains("[\"shadow\"]");
        let collection = resource.input["collection"].as_str().unwrap();
        assert!(collection.starts_with("tipoff_") && collection.starts_with(&shadow) == is_shadow, "{collection}");
        collections += 1;
    }
    assert!(collections > 10);
    for service in of("google_cloud_run_v2_service") {
        let is_shadow = service.address.contains("[\"shadow\"]");
        assert_eq!(service.input["deletion_protection"], !is_shadow, "{}", service.address);
        let args = &service.input["template1"]["containers1"]["args"];
        let more: &[&str] = if is_shadow { &["--shadow"] } else { &["--send", "none"] };
        assert_eq!(args, &Value::from([&["serve", "--log-format", "gcp"], more].concat()));
    }
    assert_eq!(of("google_cloud_run_v2_service").len(), 2);
    let callers = of("google_cloud_run_v2_service_iam_member");
    let called = callers.iter().filter(|it| it.input["member"] == "user:ann@example.org");
    assert_eq!(called.count(), 2, "callers are let in by Cloud Run");
}

#[test]
fn on_a_cluster_as_well() {
    let altered = [
        ("\"../cloud-run\"", "\"../gke\""),
        ("  callers  = keys(var.callers)\n", ""),
        ("value = { for name, tipoff in module.tipoff : name => tipoff.url }", "value = {}"),
    ];
    let Some(made) = migrated(&altered) else { return };
    nothing_is_made_twice(&made);
    let policies: Vec<&Resource> = made.iter().filter(|it| it.kind == "kubernetes_network_policy_v1").collect();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let rules = policy.input["spec1"]["egress1"].as_array().unwrap();
        assert!(rules.len() > 2, "{rules:?}");
        for rule in rules {
            assert!(!rule["to1"].as_array().unwrap().is_empty() || !rule["to2"].as_array().unwrap().is_empty());
            assert!(!rule["ports1"].as_array().unwrap().is_empty(), "{rule}");
        }
    }
}

#[test]
fn nothing_of_an_instance_refuses_to_go_but_the_real_service() {
    for (module, text) in modules() {
        assert!(module == "project" || !text.contains("prevent_destroy"), "{module}");
    }
}
