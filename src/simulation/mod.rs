//! Schedules drawn from seeds: what happens in which order when anything may go wrong, and whether the laws hold in all.
//!
//! [`core`] plays `decide` over a model of a broker and a store, tens of thousands of schedules a second; a schedule is a
//! function of its seed. [`planted`] has bugs that are planted to see that the laws find them.

pub mod core;
pub mod dice;
mod graphs;
mod law;
pub mod planted;
mod schedule;

pub use law::Broken;
pub use schedule::Seen;
