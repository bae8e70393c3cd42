//! Terraform and the service read the same of the same files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tipoff::pipeline::{self, Declarations};
use tipoff::topology::{Carries, Delivery, PushBody, Standing, Subscription, Topology};
use tipoff::wire::dispatch::Target;

use crate::terraform::outputs;
use crate::{at, text};

fn declarations() -> Declarations {
    pipeline::load(("topics.yaml", pipeline::TOPICS), ("pipeline.yaml", pipeline::PIPELINE)).unwrap()
}

/// A topology as Terraform should see it.
fn topics(topology: &Topology) -> (Value, Value, Value) {
    let (mut topics, mut subscriptions, mut retired) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, topic) in topology.topics() {
        if let Standing::Retired { why } = &topic.standing {
            retired.insert(name.to_string(), json!(why));
            continue;
        }
        let retention = topic.retention.as_secs();
        let shown = json!({ "pipeline": topic.pipeline, "carries": topic.carries.as_str(), "retention_s": retention });
        topics.insert(name.to_string(), shown);
        for (name_of_it, subscription) in topic.subscriptions() {
            subscriptions
                .insert(name_of_it.to_string(), shown_subscription(name.as_str(), topic.carries, subscription));
        }
    }
    (json!(topics), json!(subscriptions), json!(retired))
}

fn shown_subscription(topic: &str, carries: Carries, subscription: &Subscription) -> Value {
    let push = match &subscription.delivery {
        Delivery::Pull => Value::Null,
        Delivery::Push { path, body } => json!({ "path": path, "wrapped": *body == PushBody::Envelope }),
    };
    let letters = subscription.dead_letter.as_ref();
    json!({
        "topic": topic,
        "carries": carries.as_str(),
        "consumer": subscription.consumer,
        "push": push,
        "ack_deadline_s": subscription.ack_deadline.as_secs(),
        "retention_s": subscription.retention.as_secs(),
        "backoff_min_s": subscription.backoff.min.as_secs(),
        "backoff_max_s": subscription.backoff.max.as_secs(),
        "dead_letter": letters.map(|letters| letters.topic.to_string()),
        "attempts_max": letters.map(|letters| letters.attempts_max),
    })
}

/// Where two values differ, for a message that can be read.
fn same(what: &str, ours: &Value, theirs: &Value) {
    if ours == theirs {
        return;
    }
    let keys =
        |value: &Value| value.as_object().map(|it| it.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    let differ: Vec<String> = keys(ours)
        .union(&keys(theirs))
        .filter(|key| ours.get(key) != theirs.get(key))
        .map(|key| format!("{key}: here {:?}, there {:?}", ours.get(key), theirs.get(key)))
        .collect();
    panic!("{what}: the service and Terraform differ:\n{}", differ.join("\n"));
}

/// That the values of `found` are these, in any order.
fn all(what: &str, expected: Vec<Value>, found: &Value) {
    let found: Vec<&Value> = found.as_object().unwrap().values().collect();
    let missing: Vec<&Value> = expected.iter().filter(|it| !found.contains(it)).collect();
    assert!(missing.is_empty() && found.len() == expected.len(), "{what}: {found:?} lacks {missing:?}");
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// (who, role, kind, on)
type Grant = (String, String, String, String);

fn grants(value: &Value) -> BTreeSet<Grant> {
    let word = |grant: &Value, key: &str| grant[key].as_str().unwrap().to_owned();
    let list = value.as_array().unwrap();
    let found: BTreeSet<Grant> =
        list.iter().map(|it| (word(it, "who"), word(it, "role"), word(it, "kind"), word(it, "on"))).collect();
    assert_eq!(found.len(), list.len(), "a grant is made twice");
    found
}

#[test]
fn topics_and_subscriptions_are_those_that_the_service_reads() {
    let Some(found) = outputs("declared", &[]) else { return };
    let declared = declarations();
    let (topics, subscriptions, retired) = topics(&declared.topology);
    same("topics", &topics, &found["topics"]);
    same("subscriptions", &subscriptions, &found["subscriptions"]);
    same("retired", &retired, &found["retired"]);
    let reads: BTreeSet<String> =
        declared.topology.consumed_by("tipoff").map(|(_, name, _)| name.to_string()).collect();
    assert_eq!(names(&found["reads"]), reads);
    let letters = |topic: &str| declared.topology.topic(topic).unwrap().carries == Carries::DeadLetter;
    let waiting = declared.topology.topics().flat_map(|(topic, it)| {
        it.subscriptions().map(move |(name, subscription)| (topic.as_str(), name.to_string(), &subscription.consumer))
    });
    let waiting = waiting.filter(|(topic, _, consumer)| letters(topic) && *consumer != "tipoff");
    assert_eq!(names(&found["waiting"]), waiting.map(|(_, name, _)| name).collect());
}

#[test]
fn every_default_and_every_unit_of_the_file_is_understood() {
    // Each subscription says something else than its defaults, or nothing.
    let file = "version: 1
defaults:
  topic: { retention: 90m }
  push: { ack_deadline: 600s, attempts_max: 5, backoff: { min: 1s, max: 9m }, retention: 7d }
  pull: { ack_deadline: 1m, attempts_max: 20, backoff: { min: 0s, max: 10s }, retention: 1h }
topics:
  done:
    { purpose: p, pipeline: nba, carries: completion, retention: 31d, subscriptions: {
      usual: { consumer: tipoff, delivery: pull, dead_letter: done-dlq },
      other: { consumer: tipoff, delivery: pull, dead_letter: done-dlq, ack_deadline: 11s, attempts_max: 7,
               backoff: { min: 2s, max: 3s }, retention: 10m },
      pushed: { consumer: raw, delivery: push, endpoint: /process, dead_letter: done-dlq },
      bare: { consumer: raw, delivery: push, endpoint: /start, wrapped: false, dead_letter: done-dlq } } }
  done-dlq:
    { purpose: p, pipeline: nba, carries: dead-letter, subscriptions: { dlq: { consumer: people, delivery: pull } } }
  silent: { purpose: p, pipeline: nba, carries: other }
  gone: { purpose: p, pipeline: nba, carries: trigger, retired: 'nobody asks' }
";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topics.yaml");
    std::fs::write(&path, file).unwrap();
    let declared = tipoff::topology::check(file, "topics.yaml").unwrap();
    let Some(found) = outputs("declared", &[("topics_file", path.to_str().unwrap())]) else { return };
    let (topics, subscriptions, retired) = topics(&declared);
    same("topics", &topics, &found["topics"]);
    same("subscriptions", &subscriptions, &found["subscriptions"]);
    same("retired", &retired, &found["retired"]);
}

#[test]
fn a_shadow_reads_over_subscriptions_of_its_own_and_may_send_nothing() {
    let Some(found) = outputs("declared", &[("shadow_prefix", "shadow-")]) else { return };
    let shadow = declarations().topology.shadow("tipoff", "shadow-");
    let (topics, subscriptions, _) = topics(&shadow);
    same("topics", &topics, &found["topics"]);
    same("subscriptions", &subscriptions, &found["subscriptions"]);
    assert_eq!(found["tables"], json!({}), "its history is its journal");
    assert_eq!(found["waiting"], json!([]));
    // Its own signs of life alone, by which it notices that a stream is dead.
    let heartbeats = shadow.topics().filter(|(_, topic)| topic.carries == Carries::Heartbeat);
    assert_eq!(names(&found["sends"]), heartbeats.map(|(name, _)| name.to_string()).collect());
    let real: BTreeSet<String> =
        declarations().topology.consumed_by("tipoff").map(|(_, name, _)| name.to_string()).collect();
    assert!(names(&found["reads"]).is_disjoint(&real), "it takes what the real one is to have");
    for (who, role, _, on) in grants(&found["grants"]) {
        assert_eq!(who, "orchestrator", "{role} on {on}");
        assert!(role != "roles/bigquery.dataEditor", "{on}");
    }
}

#[test]
fn tipoff_may_do_what_it_does_and_nothing_else() {
    let Some(found) = outputs("declared", &[]) else { return };
    let declared = declarations();
    let topology = &declared.topology;
    let grant = |who: &str, role: &str, kind: &str, on: &str| {
        (who.to_owned(), format!("roles/{role}"), kind.to_owned(), on.to_owned())
    };
    let mut expected = BTreeSet::new();
    for (_, name, _) in topology.consumed_by("tipoff") {
        expected.insert(grant("orchestrator", "pubsub.subscriber", "subscription", name.as_str()));
        expected.insert(grant("orchestrator", "pubsub.viewer", "subscription", name.as_str()));
    }
    let mut sends = BTreeSet::new();
    for (topic, it) in topology.topics().filter(|(_, it)| it.standing == Standing::Live) {
        if it.carries == Carries::Heartbeat {
            sends.insert(topic.as_str());
        }
        for (name, subscription) in it.subscriptions() {
            if let Some(letters) = &subscription.dead_letter {
                expected.insert(grant("pubsub", "pubsub.publisher", "topic", letters.topic.as_str()));
                expected.insert(grant("pubsub", "pubsub.subscriber", "subscription", name.as_str()));
                // Where a letter is replayed.
                sends.insert(topic.as_str());
            }
        }
    }
    let messages = declared.pipelines.values().flat_map(|it| {
        it.tasks.values().chain(it.closings.values()).chain(it.backfills.values()).flatten().map(|it| &it.target)
    });
    let asked: BTreeSet<&str> = messages
        .filter_map(|target| match target {
            Target::Topic(topic) => Some(topic.as_str()),
            Target::Http { .. } => None,
        })
        .collect();
    assert!(asked.len() > 5, "{asked:?}");
    sends.extend(&asked);
    assert_eq!(names(&found["sends"]), sends.iter().map(|it| (*it).to_owned()).collect());
    expected.extend(sends.iter().map(|topic| grant("orchestrator", "pubsub.publisher", "topic", topic)));
    for (name, table) in found["tables"].as_object().unwrap() {
        assert_eq!(table["table"], name.as_str(), "a file of schemas/bigquery is named for its table");
        expected.insert(grant("orchestrator", "bigquery.dataEditor", "table", name));
    }
    for dataset in names(&found["datasets"]) {
        expected.insert(grant("orchestrator", "bigquery.dataViewer", "dataset", &dataset));
    }
    let granted = grants(&found["grants"]);
    let (more, less): (Vec<_>, Vec<_>) =
        (granted.difference(&expected).collect(), expected.difference(&granted).collect());
    assert!(more.is_empty() && less.is_empty(), "granted for nothing: {more:?}\nnot granted: {less:?}");
}

#[test]
fn every_dataset_that_is_asked_is_one_that_may_be_read() {
    let Some(found) = outputs("declared", &[]) else { return };
    let datasets = names(&found["datasets"]);
    let declared = declarations();
    let mut asked = BTreeSet::new();
    for pipeline in declared.pipelines.values() {
        let probes = pipeline.probes.values().chain(pipeline.checks.values()).chain(pipeline.reports.values());
        for probe in probes {
            // Tables stand in back-quotes, as `dataset.table`.
            let quoted = probe.sql.split('`').skip(1).step_by(2);
            asked.extend(quoted.filter_map(|table| table.split_once('.')).map(|(dataset, _)| dataset.to_owned()));
        }
    }
    assert!(asked.len() > 3, "{asked:?}");
    assert!(asked.is_subset(&datasets), "asked and not let in: {:?}", asked.difference(&datasets));
}

#[test]
fn the_database_and_the_tables_are_those_of_their_files() {
    let Some(found) = outputs("declared", &[]) else { return };
    let file: Value = serde_json::from_str(&text("deploy/firestore.indexes.json")).unwrap();
    let collection = |it: &Value| it["collectionGroup"].as_str().unwrap().strip_prefix("tipoff_").unwrap().to_owned();
    let index = |it: &Value| {
        let field = |field: &Value| json!({ "path": field["fieldPath"], "order": field["order"] });
        let fields: Vec<Value> = it["fields"].as_array().unwrap().iter().map(field).collect();
        json!({ "collection": collection(it), "fields": fields })
    };
    all("indexes", file["indexes"].as_array().unwrap().iter().map(index).collect(), &found["indexes"]);
    let field = |it: &Value| json!({ "collection": collection(it), "path": it["fieldPath"], "ttl": it["ttl"] });
    all("fields", file["fieldOverrides"].as_array().unwrap().iter().map(field).collect(), &found["fields"]);
    let mut tables = 0;
    for entry in std::fs::read_dir(at("schemas/bigquery")).unwrap() {
        let path = entry.unwrap().path();
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let table = &found["tables"][path.file_stem().unwrap().to_str().unwrap()];
        assert_eq!(table["dataset"], schema["tableReference"]["datasetId"], "{}", path.display());
        assert_eq!(table["fields"], schema["schema"]["fields"], "{}", path.display());
        assert_eq!(table["partition"], schema["timePartitioning"], "{}", path.display());
        assert_eq!(table["clustering"], schema["clustering"]["fields"], "{}", path.display());
        tables += 1;
    }
    assert_eq!(found["tables"].as_object().unwrap().len(), tables);
}
