pub mod diagnostic;
pub mod topology;
