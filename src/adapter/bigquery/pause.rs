//! May BigQuery be called now?
//!
//! A quota that is used up is given anew at midnight in California, so until then every call would be one more refusal.
//! A server that does not answer is left alone for a moment, so that whoever asks about sixty tables does not wait sixty
//! times. Both end by the clock; nothing is remembered over a restart, which costs one refused call.

use std::sync::{Mutex, PoisonError};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::client::Failure;
use crate::clock::Clock;

/// How long a server that did not answer is left alone. A judgement: shorter than the 15 minutes between two questions
/// about one table, longer than the questions of one decision.
const AWAY: SignedDuration = SignedDuration::from_secs(30);

/// Whether calls are held back, and until when.
#[derive(Debug)]
pub(super) struct Pause {
    clock: Clock,
    /// Where the quota's day begins.
    zone: TimeZone,
    held: Mutex<Option<(Timestamp, String)>>,
}

impl Pause {
    pub(super) fn new(clock: Clock) -> Self {
        let zone = TimeZone::get("America/Los_Angeles").expect("the zone database is built in");
        Self { clock, zone, held: Mutex::default() }
    }

    /// Why nothing may be asked at the moment, if so.
    pub(super) fn reason(&self) -> Option<String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, why) = held.as_ref()?;
        if *until <= self.clock.now() {
            *held = None;
            return None;
        }
        Some(format!("not asked until {until}: {why}"))
    }

    /// Takes note of a failure. A used-up quota is told once.
    pub(super) fn note(&self, failure: &Failure) {
        let now = self.clock.now();
        let until = match failure {
            Failure::Quota(_) => midnight_after(now, &self.zone),
            Failure::Away(_) => now.saturating_add(AWAY).unwrap_or(Timestamp::MAX),
            Failure::Exists(_) | Failure::Refused(_) => return,
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls that were under way together fail together; the longest pause counts, and is told by the first.
        if held.as_ref().is_some_and(|(earlier, _)| *earlier >= until) {
            return;
        }
        *held = Some((until, failure.to_string()));
        if let Failure::Quota(_) = failure {
            tracing::warn!(%until, "BigQuery is neither asked nor written to: {failure}");
        }
    }
}

/// The next midnight in `zone`, after `now`.
fn midnight_after(now: Timestamp, zone: &TimeZone) -> Timestamp {
    let midnight =
        zone.to_datetime(now).date().tomorrow().and_then(|day| zone.to_timestamp(day.to_datetime(Time::midnight())));
    // At the end of time there is no tomorrow.
    midnight.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_quotas_day_ends_at_midnight_in_california() {
        // On the days on which clocks change it is 23 and 25 hours long.
        let zone = TimeZone::get("America/Los_Angeles").unwrap();
        let table = [
            ("2026-01-23T20:00:00Z", "2026-01-24T08:00:00Z"),
            ("2026-01-24T07:59:59Z", "2026-01-24T08:00:00Z"),
            ("2026-01-24T08:00:00Z", "2026-01-25T08:00:00Z"),
            ("2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z"),
        ];
        for (now, midnight) in table {
            assert_eq!(midnight_after(at(now), &zone), at(midnight), "{now}");
        }
    }

    #[test]
    fn a_pause_ends_by_the_clock_and_the_longest_counts() {
        let clock = Clock::manual(at("2026-01-23T20:00:00Z"));
        let pause = Pause::new(clock.clone());
        pause.note(&Failure::Refused("syntax".into()));
        assert_eq!(pause.reason(), None, "what was asked wrongly says nothing about what is asked next");
        pause.note(&Failure::Away("no route".into()));
        assert_eq!(pause.reason().unwrap(), "not asked until 2026-01-23T20:00:30Z: no route");
        pause.note(&Failure::Quota("403".into()));
        pause.note(&Failure::Away("no route".into()));
        clock.set(at("2026-01-24T07:59:59Z"));
        assert!(pause.reason().unwrap().contains("quota"));
        clock.set(at("2026-01-24T08:00:00Z"));
        assert_eq!(pause.reason(), None);
    }
}
