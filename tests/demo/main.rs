//! The README's first command: both recorded days play to their end, and everything they promise holds.

use std::process::Command;

#[test]
fn both_days_hold_without_a_terminal() {
    let output = Command::new(env!("CARGO_BIN_EXE_tipoff")).args(["demo", "--fast"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("because heartbeat_dead"), "the stuck run was not run again:\n{text}");
}
