//! `decide` over a model of a broker and a store.

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
