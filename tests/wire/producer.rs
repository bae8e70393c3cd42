//! What `tipoff run` says of a job is what the schemas have, and what our own reader understands.

use jiff::Timestamp;
use serde_json::Value;
use tipoff::domain::event::Pulse;
use tipoff::wire::producer::{Ending, Producer};

fn schema(text: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str::<Value>(text).unwrap()).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_769_180_400 + second).unwrap()
}

fn producer(dispatch: Option<&str>) -> Producer {
    Producer {
        node: "player_game_summary".into(),
        phase: "analytics".to_owned(),
        date: "2026-01-23".parse().unwrap(),
        run: "r1".to_owned(),
        dispatch: dispatch.map(str::to_owned),
        correlation: "c1".to_owned(),
        started_at: at(0),
    }
}

#[test]
fn every_body_is_as_its_schema_has_it() {
    let heartbeat = schema(include_str!("../../schemas/heartbeat.json"));
    let completion = schema(include_str!("../../schemas/completion.json"));
    let endings = [Ending::Done, Ending::Failed("exit status 1".to_owned()), Ending::Failed("x".repeat(20_000))];
    for dispatch in [None, Some("nba/2026-01-23/player_game_summary/1/1")] {
        let producer = producer(dispatch);
        for (pulse, progress) in
            [(Pulse::Running, (0, 0)), (Pulse::Running, (3, 9)), (Pulse::Ended, (9, 9)), (Pulse::Failed, (4, 9))]
        {
            let body = producer.heartbeat(pulse, progress, at(60));
            let wrong: Vec<String> = heartbeat.iter_errors(&body).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{wrong:?}: {body}");
        }
        for ending in &endings {
            for records in [None, Some(0), Some(282)] {
                let body = producer.completion(ending, records, at(90));
                let wrong: Vec<String> = completion.iter_errors(&body).map(|error| error.to_string()).collect();
                assert!(wrong.is_empty(), "{wrong:?}: {body}");
                assert!(body.to_string().len() < 4_000, "it is too long for a message");
            }
        }
    }
}

#[test]
fn a_schema_refuses_what_is_not_so() {
    let completion = schema(include_str!("../../schemas/completion.json"));
    let mut body = producer(None).completion(&Ending::Done, Some(1), at(90));
    assert!(completion.is_valid(&body));
    body["status"] = Value::from("finished, I think");
    assert!(!completion.is_valid(&body), "a check that cannot fail proves nothing");
}
