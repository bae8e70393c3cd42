//! `tipoff topics` on the Pub/Sub emulator, and on a broker as it stood on the worst day.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use proptest::prelude::*;
use serde_json::{Value, json};
use tipoff::pipeline::{PIPELINE, TOPICS};
use tipoff::topology::Topology;
use tipoff::topology::broker::{Broker, FoundPush, FoundSubscription, FoundTopic, Places, Weight, changes, findings};

use super::emulator::{self, Emulator};

fn declared() -> Topology {
    tipoff::pipeline::load(("topics.yaml", TOPICS), ("pipeline.yaml", PIPELINE)).unwrap().topology
}

/// A broker that has some of what is declared, and something else of each.
fn broker() -> impl Strategy<Value = Broker> {
    let declared = declared();
    let topics: Vec<String> = declared.topics().map(|(name, _)| name.to_string()).collect();
    let subscriptions: Vec<(String, String)> = declared
        .topics()
        .flat_map(|(topic, it)| it.subscriptions().map(|(name, _)| (topic.to_string(), name.to_string())))
        .collect();
    let topic = (proptest::sample::select(topics), proptest::option::of(1_u64..3_000_000));
    let push = (any::<bool>(), proptest::option::of(Just("pusher@p.iam.gserviceaccount.com".to_owned()))).prop_map(
        |(bare, identity)| FoundPush { endpoint: "https://old/process".into(), bare, identity, audience: None },
    );
    let subscription = (
        proptest::sample::select(subscriptions),
        proptest::option::of(push),
        10_u64..600,
        proptest::option::of((0_u64..10, 10_u64..600)),
        proptest::option::of(60_u64..100_000),
        any::<bool>(),
    );
    let topics = proptest::collection::vec(topic, 0..20);
    (topics, proptest::collection::vec(subscription, 0..20)).prop_map(|(topics, subscriptions)| Broker {
        topics: topics
            .into_iter()
            .map(|(name, retention)| (name, FoundTopic { retention, letters_allowed: None }))
            .collect(),
        subscriptions: subscriptions
            .into_iter()
            .map(|((topic, name), push, ack_deadline, backoff, expires, ordered)| {
                let found =
                    FoundSubscription { topic, push, ack_deadline, backoff, expires, ordered, ..Default::default() };
                (name, found)
            })
            .collect(),
    })
}

fn places() -> impl Strategy<Value = Places> {
    let urls = proptest::sample::subsequence(
        vec!["nba-phase2-raw-processors", "nba-phase3-analytics-processors", "prediction-coordinator"],
        0..=3,
    );
    (urls, any::<bool>(), any::<bool>()).prop_map(|(urls, identity, pull_instead)| Places {
        urls: urls.into_iter().map(|name| (name.to_owned(), format!("https://{name}.run.app"))).collect(),
        identity: identity.then(|| "pusher@p.iam.gserviceaccount.com".to_owned()),
        pull_instead,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_was_changed_needs_no_change(found in broker(), places in places()) {
        let declared = declared();
        let plan = changes(&declared, &found, &places, &BTreeSet::new());
        let after = found.with(&declared, &places, &plan);
        prop_assert_eq!(changes(&declared, &after, &places, &BTreeSet::new()), Vec::new());
        // Nothing that was there is gone.
        prop_assert!(found.topics.keys().all(|name| after.topics.contains_key(name)));
        prop_assert!(found.subscriptions.keys().all(|name| after.subscriptions.contains_key(name)));
    }
}

#[test]
fn the_twelfth_of_january_is_seen() {
    // INC-14: a push without identity, and one with another's audience. Each was refused for a day and a half.
    let push = |endpoint: &str, identity: Option<&str>, audience: Option<&str>| FoundPush {
        endpoint: endpoint.to_owned(),
        bare: false,
        identity: identity.map(str::to_owned),
        audience: audience.map(str::to_owned),
    };
    let found = |topic: &str, push| FoundSubscription {
        topic: topic.to_owned(),
        push: Some(push),
        ack_deadline: 600,
        ..FoundSubscription::default()
    };
    let raw = "nba-phase1-scrapers-complete";
    let broker = Broker {
        topics: BTreeMap::from([(raw.to_owned(), FoundTopic::default())]),
        subscriptions: BTreeMap::from([
            ("nba-phase2-raw-sub".to_owned(), found(raw, push("https://raw.run.app/process", None, None))),
            (
                "nba-processors-sub-v2".to_owned(),
                found(raw, push("https://raw.run.app/process", Some("p@x"), Some("https://other.run.app"))),
            ),
        ]),
    };
    let findings = findings(&declared(), &broker, &Places::default());
    let said = |name: &str, words: &str| findings.iter().any(|it| it.name == name && it.what.contains(words));
    assert!(said("nba-phase2-raw-sub", "as nobody"), "{findings:#?}");
    assert!(said("nba-processors-sub-v2", "its token is for https://other.run.app"), "{findings:#?}");
    assert!(said("nba-phase2-raw-sub", "everything is done twice"), "{findings:#?}");
    assert!(said("nba-processors-sub-v2", "topics.yaml does not know it"), "{findings:#?}");
    assert!(said("nba-phase2-raw-complete", "does not exist"), "{findings:#?}");
    assert!(findings.is_sorted(), "the worst first");
}

/// What nobody can process leaves a subscription only where it has a policy, and the broker both rights that it takes.
#[test]
fn dead_letters_that_cannot_leave_are_seen() {
    let topic = "nba-phase1-scrapers-complete";
    let said = |policy: bool, off_it: Option<bool>, onto: Option<bool>| {
        let letters = "nba-phase1-scrapers-complete-dlq";
        let subscription = FoundSubscription {
            topic: topic.to_owned(),
            dead_letter: policy.then(|| (letters.to_owned(), 5)),
            letters_allowed: off_it,
            backoff: Some((10, 600)),
            ..FoundSubscription::default()
        };
        let found = Broker {
            topics: BTreeMap::from([(
                letters.to_owned(),
                FoundTopic { letters_allowed: onto, ..FoundTopic::default() },
            )]),
            subscriptions: BTreeMap::from([("nba-phase2-raw-sub".to_owned(), subscription)]),
        };
        let all = findings(&declared(), &found, &Places::default());
        let about = ["dead letters", "retried until it is too old"];
        let letters = all.into_iter().filter(|it| about.iter().any(|words| it.what.contains(words)));
        letters.map(|it| (it.weight, it.name)).collect::<Vec<_>>()
    };
    let (subscription, letters) = ("nba-phase2-raw-sub".to_owned(), "nba-phase1-scrapers-complete-dlq".to_owned());
    for rights in [None, Some(true)] {
        assert_eq!(said(true, rights, rights), [], "{rights:?}");
    }
    assert_eq!(said(false, None, None), [(Weight::Warning, subscription.clone())]);
    assert_eq!(said(true, Some(false), Some(true)), [(Weight::Error, subscription)]);
    assert_eq!(said(true, Some(true), Some(false)), [(Weight::Error, letters)]);
}

fn topics(emulator: &Emulator, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.arg("topics").args(arguments).args(["--project", "topics-test"]);
    command.env("PUBSUB_EMULATOR_HOST", &emulator.address).env("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_broker_is_brought_in_line_and_kept_there() {
    let Some(emulator) = emulator::pubsub() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tipoff.yaml");
    let services = json!({ "nba-phase3-analytics-processors": { "url": "https://p3.run.app" } });
    let identity = "pusher@topics-test.iam.gserviceaccount.com";
    std::fs::write(&config, json!({ "google": { "push_identity": identity }, "services": services }).to_string())
        .unwrap();
    let config = config.to_str().unwrap();
    let plan = |more: &[&str]| topics(&emulator, &[&["plan", "--config", config], more].concat());
    let apply = |more: &[&str]| topics(&emulator, &[&["apply", "--config", config], more].concat());

    let (code, said, errors) = plan(&["--json"]);
    assert_eq!(code, Some(1), "{errors}");
    let planned: Value = serde_json::from_str(&said).unwrap();
    let creates = planned["changes"].as_array().unwrap().len();
    assert!(creates > 40, "{creates}");
    let (code, _, errors) = apply(&[]);
    assert_eq!(code, Some(2), "nobody is there to be asked");
    assert!(errors.contains("--yes"), "{errors}");
    let (code, said, errors) = apply(&["--yes"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    let (code, said, _) = plan(&[]);
    assert_eq!(code, Some(0), "{said}");
    // Consumers whose place nobody knows are not subscribed, and that is said.
    assert!(said.contains("services.nba-phase2-raw-processors.url"), "{said}");
    let (code, said, _) = apply(&["--yes"]);
    assert_eq!((code, said.lines().last()), (Some(0), Some("the broker has what topics.yaml declares")));

    // Somebody deletes what we read, and adds what nobody declared.
    let (code, said, errors) = apply(&["--yes", "--delete", "tipoff-nba-heartbeats-sub"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    let (code, said, _) = plan(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("+ subscription tipoff-nba-heartbeats-sub of nba-processor-heartbeats"), "{said}");
    let (code, said, _) = topics(&emulator, &["check", "--config", config]);
    assert_eq!(code, Some(1));
    assert!(said.contains("error: tipoff-nba-heartbeats-sub: tipoff does not read nba-processor-heartbeats"), "{said}");
    let (code, ..) = apply(&["--yes"]);
    assert_eq!(code, Some(0));

    // Somebody makes it by hand, as nobody should: what cannot be processed would never leave it.
    let name = "tipoff-nba-heartbeats-sub";
    assert_eq!(apply(&["--yes", "--delete", name]).0, Some(0));
    let place = format!("http://{}/v1/projects/topics-test", emulator.address);
    let bare = json!({ "topic": "projects/topics-test/topics/nba-processor-heartbeats" });
    let create = reqwest::Client::new().put(format!("{place}/subscriptions/{name}")).json(&bare).send();
    let created = tokio::runtime::Runtime::new().unwrap().block_on(create).unwrap();
    assert!(created.status().is_success(), "{created:?}");
    let (_, said, _) = topics(&emulator, &["check", "--config", config]);
    assert!(said.contains(&format!("warning: {name}: what its consumer cannot process is retried")), "{said}");
    let (code, said, _) = plan(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("dead_letter: none → nba-processor-heartbeats-dlq after"), "{said}");
    assert_eq!(apply(&["--yes"]).0, Some(0));
    let (code, said, _) = plan(&[]);
    assert_eq!(code, Some(0), "{said}");

    // On a laptop, consumers are pulled from.
    let (code, said, errors) = apply(&["--yes", "--pull-instead"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("+ subscription nba-phase2-raw-sub"), "{said}");
    let (code, said, _) = plan(&["--pull-instead"]);
    assert_eq!(code, Some(0), "{said}");
    // A moved service is a change, shown as from and to.
    std::fs::write(
        config,
        json!({ "google": { "push_identity": identity }, "services":
        { "nba-phase3-analytics-processors": { "url": "https://moved.run.app" } } })
        .to_string(),
    )
    .unwrap();
    let (code, said, _) = plan(&["--pull-instead"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("push to https://p3.run.app/process"), "{said}");
    assert!(said.contains("→ push to https://moved.run.app/process"), "{said}");
    let (code, said, errors) = apply(&["--yes", "--pull-instead"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert_eq!(plan(&["--pull-instead"]).0, Some(0));
    let (code, _, errors) = apply(&["--yes", "--delete", "no-such-thing"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("no-such-thing"), "{errors}");
}
