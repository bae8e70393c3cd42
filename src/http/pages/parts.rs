//! Small pieces of pages: text from outside, times, ages, states.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::desk::day::Light;
use crate::desk::words::clean;

/// Text from outside: escaped, at most `most` characters, without what would turn round what stands beside it.
pub fn text(given: &str, most: usize) -> Markup {
    html! { bdi { (clean(given, most)) } }
}

/// The same for an attribute, or where no mark-up may stand.
pub fn plain(given: &str, most: usize) -> String {
    clean(given, most)
}

/// Its beginning, without a sign that it goes on: beside a label that has the whole of it.
pub fn begins(given: &str, most: usize) -> String {
    clean(given, usize::MAX).chars().take(most).collect()
}

/// A part of a path, so that no name can make another path of it.
pub fn path(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// An instant as the clocks of the zone show it.
pub fn local_time(zone: &TimeZone, at: Timestamp) -> jiff::ZonedDateTime {
    at.to_zoned_datetime(zone.clone())
}

/// An instant in full: date, time, and the zone's abbreviation.
pub fn instant(zone: &TimeZone, at: Timestamp) -> Markup {
    let local = local_time(zone, at);
    html! {
        time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(at.strftime("%Y-%m-%d %H:%M:%S UTC")) {
            (local.strftime("%a %d %b %Y %H:%M %Z"))
        }
    }
}

/// An instant in the pipeline's zone, without its date where that is today's; the whole of it is in the title.
pub fn moment(zone: &TimeZone, at: Timestamp, now: Timestamp) -> Markup {
    let local = local_time(zone, at);
    let same = local.date() == local_time(zone, now).date();
    let shown = if same { local.strftime("%H:%M %Z") } else { local.strftime("%d %b %H:%M %Z") };
    let full = format!("{} · {}", local.strftime("%a %d %b %Y %H:%M:%S %Z"), at.strftime("%H:%M:%S UTC"));
    html! { time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(full) { (shown) } }
}

/// How long, in the two units that matter.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} m", seconds / 60),
        6_000..=172_799 => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.duration_since(at).as_secs()))
}

/// How long until then, or since.
pub fn until(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    if seconds >= 0 { format!("in {}", span(seconds)) } else { ago(at, now) }
}

/// The sign and the class of a node's state. The word always stands beside it.
pub fn look(state: &str) -> (&'static str, &'static str) {
    match state {
        "succeeded" | "open" => ("✓", "ok"),
        "running" => ("▶", "work"),
        "dispatched" => ("→", "work"),
        "failed" => ("!", "warn"),
        "exhausted" => ("✕", "bad"),
        "expired" => ("∅", "warn"),
        "skipped" => ("»", "wait"),
        _ => ("○", "wait"),
    }
}

/// A node's state.
pub fn state(state: &str) -> Markup {
    let (sign, class) = look(state);
    html! { span class=(format!("state {class}")) { span aria-hidden="true" { (sign) } " " (state) } }
}

/// The sign and the class of a light.
pub fn lit(light: Light) -> (&'static str, &'static str) {
    match light {
        Light::Done => ("✓", "ok"),
        Light::Working => ("▶", "work"),
        Light::Waiting => ("○", "wait"),
        Light::Trouble => ("✕", "bad"),
        Light::Idle => ("–", "wait"),
    }
}

/// A count beside the name of a page; nothing where there is nothing.
pub fn count(count: usize) -> Markup {
    html! { @if count > 0 { " " span class="count" { (count) } } }
}

/// So much of so much, as a bar with its figures.
pub fn progress(done: u64, total: u64) -> Markup {
    html! {
        @if total > 0 {
            progress max=(total) value=(done.min(total)) aria-label="Progress" {}
            " " span class="num" { (done) "/" (total) }
        } @else if done > 0 {
            span class="num" { (done) }
        } @else {
            span class="dim" { "does not count" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped_cut_and_kept_in_its_place() {
        let shown = text("<script>alert(1)</script>\u{202e}gnp", 12).into_string();
        assert_eq!(shown, "<bdi>&lt;script&gt;aler…</bdi>");
        assert_eq!(path("a/../b?c#d"), "a%2F..%2Fb%3Fc%23d");
    }

    #[test]
    fn spans_are_told_in_what_matters() {
        let told: Vec<String> = [5, 99, 100, 3_600, 7_260, 200_000].into_iter().map(span).collect();
        assert_eq!(told, ["5 s", "99 s", "1 m", "60 m", "2 h 01 m", "2 d"]);
    }
}
