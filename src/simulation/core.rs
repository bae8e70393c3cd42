//! `decide` over a model of a broker and a store.

use super::dice::Dice;
use super::law::Broken;
use super::planted::{Bent, Planted};
use super::{Schedules, Seen, graphs, schedule};
use crate::domain::graph::Graph;

/// Graphs that schedules are played on.
const GRAPHS: u64 = 256;

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
}

impl Schedules for Core {
    fn schedule(&self, seed: u64, tell: bool) -> (Seen, Result<(), Broken>, Vec<String>) {
        let index = usize::try_from(seed % GRAPHS).unwrap_or(0);
        let (graph, bent) = &self.graphs[index];
        schedule::play(graph, bent, self.planted.map(|planted| planted.bug), seed, tell)
    }
}
