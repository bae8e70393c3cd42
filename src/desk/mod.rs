//! What operators read and what they ask for: the same for the command line, the API and the pages.
//!
//! - [`ask`]: a request as a person writes it, checked against the graph, as the domain's command.
//! - [`day`]: a date as it stands: its lights, games, runs and deadlines.
//! - [`course`]: the same date over time, from its journal.
//! - [`letters`]: dead letters, as they are asked for.
//! - [`runs`], [`occupied`]: runs that want somebody's eye, and those that occupy a node.
//! - [`season`]: every date of a season at a glance.
//! - [`words`]: the journal in words, and text from outside made harmless.
//!
//! It decides nothing and stores nothing: verdicts are the domain's, and every change goes through the engine.

pub mod ask;
pub mod course;
pub mod day;
pub mod letters;
pub mod occupied;
pub mod runs;
pub mod season;
pub mod words;
