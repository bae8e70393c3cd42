//! What is known of a date, in as few words as laws need.

use tipoff::domain::coverage::Coverage;
use tipoff::domain::event::{Completed, Outcome};
use tipoff::domain::evidence::{Claim, Extent};
use tipoff::domain::partition::{Node as Facts, Partition};

use crate::graphs::at;

/// What is known of a node.
pub fn facts<'p>(date: &'p mut Partition, id: &str) -> &'p mut Facts {
    date.nodes.entry(id.into()).or_default()
}

/// A share in tenths.
pub fn of_ten(observed: u32) -> Coverage {
    Coverage::new(observed, 10).unwrap()
}

/// That a run has made all of an output.
pub fn claim(second: i64) -> Claim {
    Claim {
        run: "r".into(),
        published: at(second),
        records: None,
        extent: Extent::Whole,
        correlation: None,
        trace: None,
    }
}

/// That a run nobody was asked for has ended well.
pub fn came(node: &str, run: &str) -> Completed {
    Completed {
        node: node.into(),
        run: run.into(),
        outcome: Outcome::Done(Extent::Whole),
        records: Some(1),
        published: at(0),
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    }
}
