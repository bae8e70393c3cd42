//! The only place that knows the JSON of messages: producers' dialects in, consumers' contracts out.

pub mod completion;
pub mod dispatch;
pub mod envelope;
pub mod heartbeat;
pub mod history;
pub mod inbound;
pub mod kept;
pub mod letter;
mod name;
pub mod parked;
pub mod producer;
pub mod report;
mod revision;
pub mod table;
pub mod trace;
mod value;

pub use value::is_control;
