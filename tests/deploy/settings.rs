//! The settings that Terraform makes up are understood by the service.

use serde_json::Value;
use tipoff::configuration::{Backend, Configuration, Identity, PushMode, Role};

use crate::terraform::{outputs, refused};

const PLACE: [(&str, &str); 4] =
    [("project", "p"), ("region", "us-west2"), ("database", "tipoff"), ("producers_database", "(default)")];

fn with<'v>(more: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
    [&PLACE[..], more].concat()
}

fn read(yaml: &Value) -> Configuration {
    Configuration::read("tipoff.yaml", yaml.as_str().unwrap()).unwrap()
}

#[test]
fn the_settings_that_are_made_up_are_understood() {
    let services = r#"{ "phase4" = { url = "https://phase4.example.org" }, "raw" = { url = "https://raw.example.org/", identity = "none", audience = "raw" } }"#;
    let more = r#"{ alerts = { channels = { ops = { kind = "slack", url_file = "/secrets/slack/value" } } } }"#;
    let variables = with(&[
        ("push_identity", "pusher@p.iam.gserviceaccount.com"),
        ("services", services),
        ("secrets", r#"["token", "slack"]"#),
        ("more", more),
    ]);
    let Some(found) = outputs("settings", &variables) else { return };
    let settings = read(&found["yaml"]);
    assert_eq!(settings.backend, Backend::Google);
    assert_eq!(settings.google.database.as_deref(), Some("tipoff"));
    assert_eq!(settings.google.producers_database.as_deref(), Some("(default)"));
    assert_eq!(settings.google.push_identity.as_deref(), Some("pusher@p.iam.gserviceaccount.com"));
    assert_eq!(settings.services["phase4"].identity, Identity::Oidc);
    assert_eq!(settings.services["raw"].audience.as_deref(), Some("raw"));
    assert_eq!(settings.alerts.channels.len(), 1);
    assert!(settings.access.google.is_none() && settings.push.mode.is_none());
    assert_eq!(found["env"]["TIPOFF_TOKEN_FILE"], "/secrets/token/value");
    assert!(!found["args"].as_array().unwrap().contains(&"--shadow".into()));
}

#[test]
fn whom_google_vouches_for_needs_no_token_of_ours() {
    let access = r#"{ google = { audience = "a", roles = { "ann@example.org" = "operator" }, cloud_run_iam = true }, iap = { audience = "/projects/1/b", roles = { "bob@example.org" = "viewer" } }, origin = "http://127.0.0.1:8087" }"#;
    let push = r#"{ mode = "oidc", audience = "https://tipoff.example.org/push", emails = ["pusher@p.iam.gserviceaccount.com"] }"#;
    let Some(found) = outputs("settings", &with(&[("shadow", "true"), ("access", access), ("push", push)])) else {
        return;
    };
    let settings = read(&found["yaml"]);
    assert_eq!(settings.access.origin.as_deref(), Some("http://127.0.0.1:8087"));
    let google = settings.access.google.unwrap();
    assert_eq!((google.audience.as_str(), google.cloud_run_iam), ("a", true));
    assert_eq!(google.roles["ann@example.org"], Role::Operator);
    assert_eq!(settings.access.iap.unwrap().roles["bob@example.org"], Role::Viewer);
    assert_eq!(settings.push.mode, Some(PushMode::Oidc));
    assert_eq!(settings.push.audience.as_deref(), Some("https://tipoff.example.org/push"));
    assert_eq!(settings.push.emails, ["pusher@p.iam.gserviceaccount.com"]);
    assert_eq!(settings.google.push_identity, None, "nobody is called from the shadow");
    assert_eq!(found["env"].get("TIPOFF_TOKEN_FILE"), None, "there is no such file");
    assert!(found["args"].as_array().unwrap().contains(&"--shadow".into()));
}

#[test]
fn settings_that_the_service_would_refuse_are_refused_before() {
    let token = ("secrets", r#"["token"]"#);
    for (variables, words) in [
        (vec![], "it needs to know who may call"),
        (vec![("access", r#"{ google = { audience = "a", roles = {} } }"#)], "Google vouches for an audience and"),
        (
            vec![("access", r#"{ iap = { audience = "a", roles = { "a@b" = "owner" } } }"#)],
            "a role is producer, viewer",
        ),
        (vec![token, ("push", r#"{ mode = "open" }"#)], "push.mode is off, token, oidc or cloud_run_iam"),
        (vec![token, ("push", r#"{ mode = "oidc", audience = "a" }"#)], "has an audience, as the subscription has it"),
    ] {
        refused("settings", &with(&variables), words);
    }
}
