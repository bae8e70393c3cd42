//! May a target be called at this moment? One that fails again and again rests, and is then tried once.
//!
//! Each effect has a backoff of its own. Sixty of them would still be sixty calls of a service that cannot answer, and all at
//! once when it can again. What rests is kept in memory: after a restart there is one try more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::pace::jittered;
use crate::domain::time::after;

/// So many answers in a row that it is gone, or does not know us, and it rests.
const DEAD_MAX: u32 = 2;
/// So many failures in a row that may pass,
const FAILURES_MAX: u32 = 3;
/// over so long: a service that starts from nothing refuses for some minutes.
const FAILING_FOR: SignedDuration = SignedDuration::from_mins(5);
/// The first rest; doubles with each trial that fails.
const REST: SignedDuration = SignedDuration::from_secs(30);
/// The longest rest.
const REST_MAX: SignedDuration = SignedDuration::from_mins(10);
/// How long a trial may take before another is let go: longer than the longest call.
const TRIAL_MAX: SignedDuration = SignedDuration::from_secs(630);
/// How long to wait for the outcome of somebody else's trial before asking again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// Why a target is not called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rest {
    /// Until when at least.
    pub until: Timestamp,
    /// Its last words.
    pub reason: String,
    /// Whether somebody has to mend it.
    pub dead: bool,
}

/// How every target has answered of late.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<BTreeMap<String, Breaker>>);

#[derive(Debug)]
struct Breaker {
    failures: u32,
    dead: u32,
    since: Timestamp,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Timestamp,
    rest: SignedDuration,
    trial: Option<(String, Timestamp)>,
    reason: String,
    dead: bool,
}

impl Breakers {
    /// Whether the effect `id` may call `target` now. Of those that ask after a rest one may.
    ///
    /// # Errors
    /// Why not, and until when.
    pub fn ask(&self, target: &str, id: &str, now: Timestamp) -> Result<(), Rest> {
        let mut breakers = self.known();
        let Some(open) = breakers.get_mut(target).and_then(|breaker| breaker.open.as_mut()) else { return Ok(()) };
        let rest = |until| Err(Rest { until, reason: open.reason.clone(), dead: open.dead });
        if now < open.until {
            return rest(open.until);
        }
        match &open.trial {
            Some((other, since)) if other != id && now < after(*since, TRIAL_MAX) => rest(after(now, ASK_AGAIN)),
            Some(_) | None => {
                open.trial = Some((id.to_owned(), now));
                Ok(())
            }
        }
    }

    /// The effect `id` was not taken; `dead` where somebody has to mend the target.
    pub fn failed(&self, target: &str, id: &str, (reason, dead): (&str, bool), now: Timestamp) {
        let mut breakers = self.known();
        let breaker =
            breakers.entry(target.to_owned()).or_insert(Breaker { failures: 0, dead: 0, since: now, open: None });
        if let Some(open) = &mut breaker.open {
            if open.trial.as_ref().is_some_and(|(trial, _)| trial == id) {
                open.rest = (open.rest * 2).min(REST_MAX);
                open.until = after(now, jittered(open.rest, target, breaker.failures));
                open.trial = None;
                (open.reason, open.dead) = (reason.to_owned(), dead);
                breaker.failures = breaker.failures.saturating_add(1);
            }
            return;
        }
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.dead = if dead { breaker.dead + 1 } else { 0 };
        let lasting = breaker.failures >= FAILURES_MAX && now >= after(breaker.since, FAILING_FOR);
        if breaker.dead >= DEAD_MAX || lasting {
            let until = after(now, jittered(REST, target, 0));
            breaker.open = Some(Open { until, rest: REST, trial: None, reason: reason.to_owned(), dead });
        }
    }

    /// The effect `id` will not call after all.
    pub fn forgo(&self, id: &str) {
        for open in self.known().values_mut().filter_map(|breaker| breaker.open.as_mut()) {
            open.trial.take_if(|(trial, _)| trial == id);
        }
    }

    /// It was taken.
    pub fn worked(&self, target: &str) {
        self.known().remove(target);
    }

    /// Targets that rest, each with its last words.
    pub fn resting(&self) -> Vec<(String, Rest)> {
        let rest = |open: &Open| Rest { until: open.until, reason: open.reason.clone(), dead: open.dead };
        self.known().iter().filter_map(|(name, known)| Some((name.clone(), rest(known.open.as_ref()?)))).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_770_000_000 + seconds).unwrap()
    }

    fn rests(breakers: &Breakers, id: &str, seconds: i64) -> bool {
        breakers.ask("t", id, at(seconds)).is_err()
    }

    #[test]
    fn one_that_is_gone_rests_after_two_answers_and_one_trial_is_let_go() {
        let breakers = Breakers::default();
        breakers.failed("t", "a", ("404", true), at(0));
        assert!(!rests(&breakers, "b", 1));
        breakers.failed("t", "b", ("404", true), at(1));
        let rest = breakers.ask("t", "c", at(2)).unwrap_err();
        assert_eq!((rest.reason.as_str(), rest.dead), ("404", true));
        assert!((31..=39).contains(&(rest.until.as_second() - at(0).as_second())), "{}", rest.until);
        assert!(breakers.ask("u", "c", at(2)).is_ok(), "another target works on");
        // After the rest one of three goes; it fails, and the next rest is twice as long.
        assert_eq!(["c", "d", "e"].map(|id| rests(&breakers, id, 40)), [false, true, true]);
        breakers.failed("t", "c", ("404", true), at(41));
        assert_eq!([60, 100, 117].map(|seconds| rests(&breakers, "d", seconds)), [true, true, false]);
        breakers.worked("t");
        assert_eq!(["a", "b", "c"].map(|id| rests(&breakers, id, 118)), [false; 3]);
    }

    #[test]
    fn one_that_is_cold_is_asked_for_five_minutes_and_a_success_in_between_counts() {
        let breakers = Breakers::default();
        for seconds in 0..290 {
            breakers.failed("t", "a", ("503", false), at(seconds));
            assert!(!rests(&breakers, "a", seconds));
        }
        breakers.failed("t", "a", ("503", false), at(300));
        assert!(rests(&breakers, "a", 301));
        breakers.worked("t");
        for seconds in 302..590 {
            breakers.failed("t", "a", ("503", false), at(seconds));
        }
        assert!(!rests(&breakers, "a", 591));
    }

    #[test]
    fn rests_grow_to_ten_minutes_and_a_trial_that_is_lost_is_not_waited_for() {
        let breakers = Breakers::default();
        let mut now = 0;
        breakers.failed("t", "a", ("404", true), at(now));
        breakers.failed("t", "a", ("404", true), at(now));
        let mut trials = 0;
        while now < 6 * 3600 {
            if breakers.ask("t", "a", at(now)).is_ok() {
                trials += 1;
                breakers.failed("t", "a", ("404", true), at(now));
            }
            now += 1;
        }
        assert!((30..45).contains(&trials), "{trials} trials in six hours");
        let lost = breakers.ask("t", "a", at(now + 1000));
        assert!(lost.is_ok());
        assert!(rests(&breakers, "b", now + 1100) && !rests(&breakers, "b", now + 1000 + 631));
    }
}
