//! The only place that knows the JSON of messages: producers' dialects in, consumers' contracts out.

pub mod dispatch;

pub mod envelope;
pub mod history;
pub mod inbound;
