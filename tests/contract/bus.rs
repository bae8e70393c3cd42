//! The contract of a bus, as far as a sender sees it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tipoff::domain::effect::{About, Alert, Severity, Turn};
use tipoff::port::{Bus, BusError};
use tipoff::wire::dispatch::{Outgoing, Target};

use super::second;

/// Runs every check of the contract, under a topology that declares `topic`. No alert may be on.
pub async fn contract(bus: &dyn Bus, topic: &str) {
    // Undeclared is a mistake that no retry mends; sent twice is no mistake.
    let unknown = bus.send(&message("contract/0", Target::Topic("nobody-declared-this".into())), second(0)).await;
    assert!(matches!(unknown, Err(BusError::Refused(_))), "{unknown:?}");
    for _ in 0..2 {
        bus.send(&message("contract/1", Target::Topic(topic.into())), second(0)).await.unwrap();
    }
    alerts_are_on_until_resolved(bus).await;
}

pub fn message(id: &str, target: Target) -> Outgoing {
    Outgoing {
        id: id.into(),
        target,
        body: br#"{"game_date":"2026-01-22"}"#.to_vec(),
        attributes: BTreeMap::from([("tipoff_dispatch_id".into(), id.into())]),
    }
}

fn alert(key: &str, severity: Severity, turn: Turn, at: Timestamp) -> Alert {
    Alert::new(key.into(), severity, turn, format!("{key} at {at}"), at)
}

async fn alerts_are_on_until_resolved(bus: &dyn Bus) {
    // One alert per key; the worst first; what arrives late does not undo what came after it.
    let low = alert("low", Severity::Warning, Turn::Raised, second(1));
    let high = alert("high", Severity::Critical, Turn::Raised, second(2));
    for alert in [&low, &low, &high] {
        bus.alert(alert).await.unwrap();
    }
    assert_eq!(bus.alerts().await.unwrap(), [high.clone(), low.clone()]);

    let worse = alert("low", Severity::Critical, Turn::Raised, second(3));
    bus.alert(&worse).await.unwrap();
    bus.alert(&low).await.unwrap();
    assert_eq!(bus.alerts().await.unwrap(), [high, worse]);

    for key in ["low", "high"] {
        bus.alert(&alert(key, Severity::Critical, Turn::Resolved, second(4))).await.unwrap();
    }
    bus.alert(&alert("high", Severity::Warning, Turn::Raised, second(3))).await.unwrap();
    assert_eq!(bus.alerts().await.unwrap(), []);

    // The end may come before the beginning.
    bus.alert(&alert("brief", Severity::Warning, Turn::Resolved, second(4))).await.unwrap();
    bus.alert(&alert("brief", Severity::Warning, Turn::Raised, second(3))).await.unwrap();
    assert_eq!(bus.alerts().await.unwrap(), []);

    let end = bus.alert_of(&"high".into()).await.unwrap().unwrap();
    assert_eq!((end.turn, end.text), (Turn::Resolved, format!("high at {}", second(4))));
    assert_eq!(bus.alert_of(&"nobody".into()).await.unwrap(), None);

    let back = alert("high", Severity::Info, Turn::Raised, second(5));
    bus.alert(&back).await.unwrap();
    assert_eq!(bus.alerts().await.unwrap(), [back]);

    // Whose it is, and what is done, is kept with it.
    let date = "nba/2026-01-22".parse().unwrap();
    let about = About::node(&date, &"player_game_summary".into()).done("it was dispatched again");
    let whose = alert("whose", Severity::Critical, Turn::Raised, second(6)).about(about);
    bus.alert(&whose).await.unwrap();
    assert_eq!(bus.alerts().await.unwrap().first(), Some(&whose));
    assert_eq!(bus.alert_of(&"whose".into()).await.unwrap(), Some(whose));
}
