//! A day on a virtual clock, through the real engine and the real store.
//!
//! [`file`] and [`wanted`] are the format, [`world`] the broker, clock and faults around the engine, [`seen`] what it showed,
//! [`expect`] what must come of it, [`run`] the regimes, [`ground`] what store and bus it stands on. Nothing of the engine is replaced: the
//! world hands over messages, moves the clock and looks.

pub mod expect;
mod faults;
pub mod file;
pub mod ground;
mod past;
pub mod run;
pub mod seen;
pub mod wanted;
pub mod world;
