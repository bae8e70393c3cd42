//! Schedules drawn from seeds: what happens in which order when anything may go wrong, and whether the laws hold in all.
//!
//! [`core`] plays `decide` over a model of a broker and a store, thousands of schedules a second; [`engine`] plays the real
//! engine. A schedule is a function of its seed. [`planted`] has bugs that are planted to see that the laws find them.

pub mod core;
pub mod dice;
pub mod engine;
mod graphs;
mod law;
mod model;
pub mod planted;
mod schedule;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use law::Broken;

/// What schedules saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Steps taken.
    pub steps: u64,
    /// Decisions stored.
    pub decisions: u64,
    /// Dispatches decided.
    pub dispatches: u64,
    /// Replicas killed.
    pub kills: u64,
    /// Commits refused since somebody was faster.
    pub conflicts: u64,
    /// Messages delivered more than once.
    pub redeliveries: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.decisions += other.decisions;
        self.dispatches += other.dispatches;
        self.kills += other.kills;
        self.conflicts += other.conflicts;
        self.redeliveries += other.redeliveries;
    }
}

/// A schedule in which a law does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which law, and what was seen.
    pub broken: Broken,
}

/// What came of many schedules.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// How many were played.
    pub seeds: u64,
    /// What they saw together.
    pub seen: Seen,
    /// The one with the lowest seed, of those that were found.
    pub failure: Option<Failure>,
}

/// Something of which every seed is a schedule.
pub trait Schedules: Sync {
    /// Plays the schedule of `seed`. With `tell`, the story of its steps comes back.
    fn schedule(&self, seed: u64, tell: bool) -> (Seen, Result<(), Broken>, Vec<String>);

    /// Plays the schedule of `seed`.
    ///
    /// # Errors
    /// The law that does not hold in it.
    fn play(&self, seed: u64) -> (Seen, Result<(), Failure>) {
        let (seen, result, _) = self.schedule(seed, false);
        (seen, result.map_err(|broken| Failure { seed, broken }))
    }

    /// Everything that happens in the schedule of `seed`, in order, and last the law that does not hold in it.
    fn story(&self, seed: u64) -> Vec<String> {
        let (_, result, mut story) = self.schedule(seed, true);
        story.extend(result.err().map(|broken| broken.to_string()));
        story
    }

    /// Plays `seeds` schedules from seed `from` on, on so many threads, until a law does not hold. `tell` is told now and then
    /// how many have been begun.
    fn play_all(&self, from: u64, seeds: u64, threads: NonZeroUsize, tell: &(dyn Fn(u64) + Sync)) -> Played {
        let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
        let all = Mutex::new(Played::default());
        let work = || {
            let mut played = Played::default();
            while !found.load(Ordering::Relaxed) {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= seeds {
                    break;
                }
                tell(nth);
                let (seen, result) = self.play(from.wrapping_add(nth));
                played.seeds += 1;
                played.seen += seen;
                if let Err(failure) = result {
                    found.store(true, Ordering::Relaxed);
                    played.failure = Some(failure);
                }
            }
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.seeds += played.seeds;
            all.seen += played.seen;
            all.failure = [all.failure.take(), played.failure].into_iter().flatten().min_by_key(|one| one.seed);
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.get() {
                scope.spawn(work);
            }
        });
        all.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
