//! The vendors behind the ports: one module for each set of services that can carry the pipeline.
//!
//! Nothing outside this module and the command line knows which vendor runs; every adapter passes `tests/contract`.

pub mod embedded;
