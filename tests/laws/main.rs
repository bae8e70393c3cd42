//! The laws of the core: what holds for every graph, every order of messages and every crash.
//!
//! `properties` states them for random graphs and random events, `model` for every interleaving of two replicas over
//! one store, `simulation` for schedules drawn from seeds, and `node_states` keeps the table of (state, event) that people read equal to the one that runs.

mod affected;
mod alerts;
mod backfill;
mod calendar;
mod dead_letters;
mod edges;
mod evidence;
mod facts;
mod forecast;
mod gaps;
mod graphs;
mod impact;
mod invariant;
mod model;
mod node_states;
mod notices;
mod past;
mod producers;
mod properties;
mod questions;
mod readiness;
mod record;
mod replay;
mod silent;
mod simulation;
mod stalls;
mod standstill;
mod stops;
mod telling;
mod units;
mod views;
mod walk;
mod wants;
mod words;
