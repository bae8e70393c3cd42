//! What was recorded of dates, taken up again: as it stood then, decided anew, carried away, played on other terms.
//!
//! [`record`] reads a date's journal, [`walk`] folds it, [`capsule`] is the one file that holds a date with what it was decided
//! on, [`story`] turns records into a scenario, [`compare`] plays one on two declarations,
//! [`shadow`] holds what was decided beside what others ran. Nothing here writes to a store.

pub mod capsule;
pub mod compare;
pub mod record;
pub mod shadow;
pub mod story;
pub mod walk;
