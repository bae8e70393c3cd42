//! tipoff: the orchestrator that a daily data pipeline runs on.
//!
//! Completions and heartbeats come in, dispatches and alerts go out, nothing accepted is lost, and an operator can ask
//! why. Imports point inward: [`domain`] is the pure core, a package of its own, and uses nothing of ours; [`wire`], [`topology`],
//! [`pipeline`], [`port`] and [`monitor`] use `domain`; [`engine`] runs the loops over ports; [`adapter`]s are the vendors;
//! [`desk`] is what operators read
//! and ask for; [`http`], [`scenario`], [`replay`], [`simulation`] and the command line stand outside. `ARCHITECTURE.md` is the map.

pub mod adapter;
pub mod cli;
pub mod clock;
pub mod configuration;
pub mod crash;
pub mod desk;
pub mod diagnostic;
pub use tipoff_domain as domain;
pub mod engine;
pub mod fault;
pub mod http;
pub mod monitor;
pub mod pipeline;
pub mod port;
pub mod replay;
pub mod scenario;
pub mod simulation;
pub mod telemetry;
pub mod topology;
pub mod wire;
