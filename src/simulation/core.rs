//! `decide` over a model of a broker and a store.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::dice::Dice;
use super::graphs;
use super::law::Broken;
use super::planted::{Bent, Planted};
use super::schedule::{self, Seen};
use crate::domain::graph::Graph;

/// Graphs that schedules are played on.
const GRAPHS: u64 = 256;

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

/// What schedules are played on: every graph once, as the laws see it and as a planted bug has it.
#[derive(Debug)]
pub struct Core {
    graphs: Vec<(Graph, Bent)>,
    planted: Option<&'static Planted>,
}

impl Core {
    /// Without a bug, or with a planted one.
    pub fn new(planted: Option<&'static Planted>) -> Self {
        let bug = planted.map(|planted| planted.bug);
        let graphs = (0..GRAPHS).map(|seed| {
            let graph = graphs::drawn(&mut Dice::new(seed));
            let bent = Bent::new(&graph, bug);
            (graph, bent)
        });
        Self { graphs: graphs.collect(), planted }
    }

    /// Plays the schedule of `seed`.
    ///
    /// # Errors
    /// The law that does not hold in it.
    pub fn play(&self, seed: u64) -> (Seen, Result<(), Failure>) {
        let (seen, result, _) = self.on(seed, false);
        (seen, result.map_err(|broken| Failure { seed, broken }))
    }

    /// Plays `seeds` schedules from seed `from` on, on so many threads, until a law does not hold. `tell` is told now and then
    /// how many have been begun.
    pub fn play_all(&self, from: u64, seeds: u64, threads: NonZeroUsize, tell: &(dyn Fn(u64) + Sync)) -> Played {
        let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
        let all = Mutex::new(Played::default());
        let work = || {
            let mut played = Played::default();
            while !found.load(Ordering::Relaxed) {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= seeds {
                    break;
                }
                if nth.is_multiple_of(64) {
                    tell(nth);
                }
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

    /// Everything that happens in the schedule of `seed`, in order.
    pub fn story(&self, seed: u64) -> Vec<String> {
        let (_, result, mut story) = self.on(seed, true);
        if let Err(broken) = result {
            story.push(broken.to_string());
        }
        story
    }

    fn on(&self, seed: u64, tell: bool) -> (Seen, Result<(), Broken>, Vec<String>) {
        let index = usize::try_from(seed % GRAPHS).unwrap_or(0);
        let (graph, bent) = &self.graphs[index];
        schedule::play(graph, bent, self.planted.map(|planted| planted.bug), seed, tell)
    }
}
