//! The real binary on the Pub/Sub and Firestore emulators.

#[path = "../support/any_hour.rs"]
mod any_hour;
mod clock;
#[path = "../support/cloud.rs"]
mod cloud;
mod cut_off;
mod dead_letters;
#[path = "../support/emulator.rs"]
mod emulator;
#[path = "../support/faketime.rs"]
mod faketime;
mod half_dead;
mod identity;
mod paused;
mod poison;
mod producer;
mod readiness;
mod reading;
mod replicas;
mod service;
mod shadow;
mod stories;
mod topics;
mod wire;
