//! What every message producers have ever sent means, and that no bytes stop the reader.

mod decode;
mod letters;
mod producer;
mod support;
