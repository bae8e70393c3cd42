//! Stores, buses and warehouses.
//!
//! Nothing outside this module and the command line knows which vendor runs; every adapter passes `tests/contract`.

pub mod bigquery;
pub mod call;
pub mod channel;
pub mod egress;
pub mod embedded;
pub mod firestore;
pub mod google;
pub mod pubsub;
pub mod service;
