//! What a pod of tipoff may call is what somebody has named, and what it cannot do without.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::terraform::{outputs, refused};

/// (to whom, port, protocol), of every rule.
fn open(rules: &Value) -> BTreeSet<(String, u64, String)> {
    let mut open = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        let blocks = rule["blocks"].as_array().unwrap().iter().map(|block| block["cidr"].as_str().unwrap().to_owned());
        let pods = rule["pods"].as_array().unwrap().iter().map(|pods| {
            let app = pods["labels"]["k8s-app"].as_str().unwrap_or("*");
            format!("{}/{app}", pods["namespace"].as_str().unwrap())
        });
        let to: Vec<String> = blocks.chain(pods).collect();
        // In a network policy a rule without whom, or without a port, is a rule for all.
        assert!(!to.is_empty() && !rule["ports"].as_array().unwrap().is_empty(), "{rule}");
        for port in rule["ports"].as_array().unwrap() {
            let (number, protocol) = (port["port"].as_u64().unwrap(), port["protocol"].as_str().unwrap());
            open.extend(to.iter().map(|to| (to.clone(), number, protocol.to_owned())));
        }
    }
    open
}

fn is_open(to: &str, port: u64, protocol: &str) -> (String, u64, String) {
    (to.to_owned(), port, protocol.to_owned())
}

fn usual() -> BTreeSet<(String, u64, String)> {
    let mut usual = BTreeSet::from([is_open("0.0.0.0/0", 443, "TCP")]);
    for resolver in ["kube-system/kube-dns", "kube-system/node-local-dns", "169.254.20.10/32", "169.254.169.254/32"] {
        usual.extend(["UDP", "TCP"].map(|protocol| is_open(resolver, 53, protocol)));
    }
    for metadata in ["169.254.169.252/32", "169.254.169.254/32"] {
        usual.extend([80, 988].map(|port| is_open(metadata, port, "TCP")));
    }
    usual
}

#[test]
fn names_metadata_and_https_are_open_and_nothing_private() {
    let Some(found) = outputs("network", &[("private_ranges", r#"["100.64.0.0/10"]"#)]) else { return };
    assert_eq!(open(&found["egress"]), usual());
    let everybody: Vec<&Value> = found["egress"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["blocks"].as_array().unwrap())
        .filter(|block| block["cidr"] == "0.0.0.0/0")
        .collect();
    let [everybody] = everybody[..] else { panic!("{everybody:?}") };
    for private in ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"] {
        assert!(everybody["except"].as_array().unwrap().contains(&private.into()), "{private} is open");
    }
}

#[test]
fn a_collector_mail_and_a_private_service_are_let_through_where_they_are_named() {
    let variables = [
        ("collectors_in_namespaces", r#"["telemetry"]"#),
        ("mail_to", r#"["198.51.100.7/32"]"#),
        ("calls_to", r#"[{ cidr = "10.1.0.0/24" }, { cidr = "10.2.0.9/32", ports = [8080] }]"#),
    ];
    let Some(found) = outputs("network", &variables) else { return };
    let mut expected = usual();
    expected.extend([4317, 4318].map(|port| is_open("telemetry/*", port, "TCP")));
    expected.extend([465, 587].map(|port| is_open("198.51.100.7/32", port, "TCP")));
    expected.extend([is_open("10.1.0.0/24", 443, "TCP"), is_open("10.2.0.9/32", 8080, "TCP")]);
    assert_eq!(open(&found["egress"]), expected);
}

#[test]
fn a_call_without_a_port_or_an_address_is_refused() {
    for call in [r#"[{ cidr = "10.1.0.0/24", ports = [] }]"#, r#"[{ cidr = "phase4" }]"#] {
        refused("network", &[("calls_to", call)], "calls_to has address ranges");
    }
}
