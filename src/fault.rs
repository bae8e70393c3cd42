//! A panic, which is a fault of tipoff itself, as a value.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

/// What comes of `work`, or what it said as it panicked.
///
/// # Errors
/// Where it panicked. What it had in hand was dropped with it; what stays is whole between any two steps, as it must be for a
/// kill.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| said(&*panic))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no words").to_owned()
}
