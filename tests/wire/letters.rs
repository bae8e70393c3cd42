//! Dead letters on the wire: whatever comes, the same letter has one name, and its replay is one message.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tipoff::domain::dead_letter::{Kind, Says};
use tipoff::domain::event::Event;
use tipoff::domain::id::RunId;
use tipoff::wire::dispatch::Target;
use tipoff::wire::inbound::{Decoded, Delivery, decode};
use tipoff::wire::letter::{self, BODY_MAX, HEAD_MAX, NotSendable};

use crate::support::World;

const LETTERS: &str = "nba-phase1-scrapers-complete-dlq";

/// Reading the topology takes longer than a case.
static WORLD: LazyLock<World> = LazyLock::new(World::new);

fn instant() -> Timestamp {
    "2026-01-23T04:00:00Z".parse().unwrap()
}

/// A letter as Pub/Sub hands it over.
fn delivery(message_id: &str, body: &[u8], subscription: &str) -> Delivery {
    let source = |name: &str, value: &str| (format!("CloudPubSubDeadLetterSource{name}"), value.to_owned());
    let attributes = BTreeMap::from([
        source("Subscription", subscription),
        source("DeliveryCount", "5"),
        source("TopicPublishTime", "2026-01-23T03:00:00.123Z"),
        ("team_abbr".to_owned(), "POR".to_owned()),
    ]);
    let data = body.to_vec();
    Delivery { topic: LETTERS.into(), message_id: message_id.into(), published: instant(), attributes, data }
}

fn scraped() -> Value {
    json!({ "scraper_name": "nbac_gamebook_pdf", "execution_id": "r1", "game_date": "2026-01-22", "status": "success" })
}

#[test]
fn a_letter_says_where_it_comes_from_and_what_it_is_about() {
    let world = World::new();
    let body = scraped().to_string();
    let (found, (data, attributes)) =
        letter::dead(&world.routes(), &delivery("9", body.as_bytes(), "nba-phase2-raw-sub"));
    assert_eq!(found.kind, Kind::Dead);
    assert_eq!(found.topic.as_deref(), Some("nba-phase1-scrapers-complete"));
    assert_eq!(found.subscription.as_deref(), Some("nba-phase2-raw-sub"));
    assert_eq!((found.attempts, found.published), (5, "2026-01-23T03:00:00.123Z".parse().unwrap()));
    let about = &found.about;
    assert_eq!(about.node.as_ref().map(|node| node.as_str()), Some("nbac_gamebook_pdf"));
    assert_eq!((about.date.unwrap().to_string().as_str(), about.says), ("2026-01-22", Says::Reports));
    assert_eq!(data, body.as_bytes());
    // What the broker has added is no part of the message.
    assert_eq!(attributes.into_keys().collect::<Vec<_>>(), ["team_abbr"]);
    // Forwarded twice by the broker it is one letter; given up on by somebody else it is another.
    let again = letter::dead(&world.routes(), &delivery("10", body.as_bytes(), "nba-phase2-raw-sub")).0;
    let other = letter::dead(&world.routes(), &delivery("9", body.as_bytes(), "tipoff-nba-phase1-sub")).0;
    assert_eq!(again.id, found.id);
    assert_ne!(other.id, found.id);
}

#[test]
fn a_name_is_believed_only_where_its_letters_go_there() {
    // Anybody may write an attribute; a replay must not be sent where the letter never was.
    let world = World::new();
    let (found, _) = letter::dead(&world.routes(), &delivery("9", b"{}", "nba-phase6-export-trigger-sub"));
    assert_eq!((found.topic.as_deref(), found.subscription), (Some("nba-phase1-scrapers-complete"), None));
    let mut stray = delivery("9", b"{}", "nobody");
    stray.topic = "no-such-topic".into();
    assert_eq!(letter::dead(&world.routes(), &stray).0.topic, None);
}

#[test]
fn a_replay_is_a_new_execution_about_the_old_one() {
    let world = World::new();
    let topology = &world.routes().topology;
    let topic = "nba-phase1-scrapers-complete";
    let content = (scraped().to_string().into_bytes(), BTreeMap::new());
    let run = RunId::from("replay-0123-1");
    let message = letter::replay(topology, Some(topic), &content, &run).unwrap();
    assert_eq!(
        message,
        letter::replay(topology, Some(topic), &content, &run).unwrap(),
        "the same letter gives the same bytes"
    );
    assert_eq!((message.id.as_str(), &message.target), (run.as_str(), &Target::Topic(topic.into())));
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!((&body["execution_id"], &body["recovery"]), (&json!("replay-0123-1"), &json!(true)));
    assert_eq!(body["original_execution_id"], "r1");
    // A replay of a replay is still about the first.
    let second =
        letter::replay(topology, Some(topic), &(message.body, message.attributes), &RunId::from("replay-0123-2"));
    let second: Value = serde_json::from_slice(&second.unwrap().body).unwrap();
    assert_eq!(second["original_execution_id"], "r1");
    // What has no fields takes none, and where nobody knows whence it came there is nowhere to send it.
    for poison in [&b"no json"[..], b"[1]", b"\xff", b""] {
        let refused = letter::replay(topology, Some(topic), &(poison.to_vec(), BTreeMap::new()), &run);
        assert!(matches!(refused, Err(NotSendable::NotAnObject(_))), "{refused:?}");
    }
    assert_eq!(letter::replay(topology, None, &content, &run), Err(NotSendable::NoTopic));
    assert_eq!(letter::replay(topology, Some("undeclared"), &content, &run), Err(NotSendable::NoTopic));
}

#[test]
fn what_is_too_long_is_kept_by_its_beginning_and_says_so() {
    let world = World::new();
    let long = vec![b'x'; 10 * 1024 * 1024];
    let (found, (data, _)) = letter::dead(&world.routes(), &delivery("9", &long, "nba-phase2-raw-sub"));
    assert_eq!((data.len(), found.versions[0].size, found.versions[0].is_whole), (HEAD_MAX, long.len(), false));
    let whole = vec![b'x'; BODY_MAX];
    let (found, (data, _)) = letter::dead(&world.routes(), &delivery("9", &whole, "nba-phase2-raw-sub"));
    assert!(found.versions[0].is_whole && data == whole);
}

#[test]
fn letters_that_failed_alike_have_one_cause() {
    let alike = [
        ["503 Service Unavailable: instance 00bf4bf02d71", "503 Service Unavailable: instance 00bf4bf02dAA"],
        ["row 17 of 8123 is bad", "row 9 of 41 is bad"],
        ["timeout after 60000 ms", "timeout after 12000 ms"],
    ];
    for [one, other] in alike {
        assert_eq!(letter::cause("sub", one), letter::cause("sub", other));
    }
    assert_ne!(letter::cause("sub", "503 unavailable"), letter::cause("sub", "500 unavailable"));
    assert_ne!(letter::cause("sub", "503 unavailable"), letter::cause("other", "503 unavailable"));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_and_no_attributes_are_too_odd_to_be_kept(
        data in prop::collection::vec(any::<u8>(), 0..200),
        attributes in prop::collection::btree_map(".{0,30}", ".{0,40}", 0..6),
        topic in prop_oneof![Just(LETTERS.to_owned()), ".{0,20}"],
    ) {
        let world = &*WORLD;
        let delivery =
            Delivery { topic, message_id: "m".into(), published: instant(), attributes, data: data.clone() };
        let (found, (kept, _)) = letter::dead(&world.routes(), &delivery);
        prop_assert_eq!(kept, data);
        prop_assert!(found.cause.words.chars().all(|letter| !letter.is_control()));
        prop_assert_eq!(&found, &letter::dead(&world.routes(), &delivery).0);
    }

    #[test]
    fn a_replay_keeps_every_field_and_is_taken_for_the_execution_that_it_is_about(
        members in prop::collection::btree_map("[a-z_]{1,8}", value(), 0..6),
        execution in prop::option::of("[a-z0-9-]{1,20}"),
    ) {
        let routes = WORLD.routes();
        let mut body = scraped();
        body.as_object_mut().unwrap().remove("execution_id");
        for (name, value) in members {
            if !["status", "date", "gamedate", "success", "name", "bucket", "scraper", "error", "errors", "reason"].contains(&name.as_str())
                && !["run_id", "batch_id", "metadata", "recovery", "tipoff"].contains(&name.as_str())
            {
                body[name] = value;
            }
        }
        if let Some(execution) = &execution {
            body["execution_id"] = json!(execution);
        }
        let content = (body.to_string().into_bytes(), BTreeMap::new());
        let run = RunId::from("replay-0123-1");
        let topic = "nba-phase1-scrapers-complete";
        let message = letter::replay(routes.topology, Some(topic), &content, &run).unwrap();
        let sent: Value = serde_json::from_slice(&message.body).unwrap();
        for (name, value) in body.as_object().unwrap().iter().filter(|(name, _)| *name != "execution_id") {
            prop_assert_eq!(&sent[name], value);
        }
        let delivery = Delivery { topic: topic.into(), message_id: "new".into(), published: instant(), attributes: message.attributes, data: message.body };
        if let Decoded::Events { events, .. } = decode(&routes, &delivery) {
            let Some(Event::Completed(done)) = events.first() else { panic!("{events:?}") };
            prop_assert_eq!(done.run.as_str(), execution.as_deref().unwrap_or("replay-0123-1"));
        } else {
            prop_assert!(false, "it is not read: {:?}", decode(&routes, &delivery));
        }
    }
}
