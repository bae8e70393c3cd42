//! The pure core: no clock, no IO, no async, no logging, and nothing of ours outside this folder.
//!
//! [`decide::decide`] is the product. Read `record::record` for what an event does, `plan::plan` for what is sent,
//! `readiness` for why something is not.

pub mod backfill;
pub mod calendar;
pub mod coverage;
pub mod dead_letter;
pub mod decide;
pub mod effect;
pub mod event;
pub mod evidence;
pub mod failure;
pub mod forecast;
pub mod graph;
pub mod id;
pub mod impact;
pub mod invariant;
pub mod notify;
pub mod once;
pub mod partition;
pub mod plan;
pub mod rate;
pub mod readiness;
pub mod record;
pub mod shadow;
pub mod silence;
pub mod standstill;
pub mod stop;
pub mod time;
pub mod timetable;
pub mod trace;
pub mod units;
pub mod view;
pub mod words;
