//! What every adapter must do, whoever the vendor is, and what the embedded one does beyond that.
//!
//! The suites in `store`, `bus` and `warehouse` know nothing but the ports. An adapter's own module runs them on it and
//! adds what only that adapter can be asked.

mod bigquery;
mod bus;
mod channels;
#[path = "../support/cloud.rs"]
mod cloud;
mod embedded;
#[path = "../support/emulator.rs"]
mod emulator;
mod firestore;
mod google;
#[path = "../support/google_keys.rs"]
mod google_keys;
mod identity;
mod push;
mod services;
mod store;
mod warehouse;

use jiff::{SignedDuration, Timestamp};

/// An instant so many seconds into a night.
fn second(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-22T06:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}
