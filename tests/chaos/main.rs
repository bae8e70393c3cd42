//! Faults on real parts: the real binary on the embedded store is killed at named places and at random ones, stopped, ended, and
//! denied disk, files and network, while messages come. After each, all has to come to rest, and what must hold is looked
//! for in the file and at the consumer. `docs/proof.md` has the table.

mod clock;
mod consumer;
mod crash_points;
mod disk;
#[path = "../support/faketime.rs"]
mod faketime;
#[path = "../support/join.rs"]
mod join;
mod kills;
mod network;
mod panics;
mod plant;
mod power;
mod processes;
mod publisher;
mod restored;
