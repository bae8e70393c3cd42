//! The shipped pipeline as it is at any hour of the day, for tests by the real clock.

/// The shipped declarations, but that the passes of a day begin with it: what is decided of today is decided at any hour.
pub fn pipeline() -> String {
    let (from, begins) = (r#"from: { day: 0, at: "06:00" }"#, r#"from: { day: 0, at: "00:00" }"#);
    let shipped = tipoff::pipeline::PIPELINE;
    assert_eq!(shipped.matches(from).count(), 1, "the passes of a day begin at another time");
    shipped.replace(from, begins)
}
