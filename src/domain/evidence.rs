//! What is known about an output: what producers claimed and what a probe observed.
//!
//! Evidence is a join-semilattice: each part keeps the newest fact by publish time, so order and repetition of
//! messages do not matter (`order-free`, `twice-is-once`). Verdicts (good, short, unknown) are computed, never stored.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::coverage::{Coverage, PerMille};
use super::id::{RunId, UnitId};
use super::trace::TraceContext;

/// Parts remembered of one output. A date has some fifteen games and thirty teams.
const PARTS_MAX: usize = 64;

/// Same version, same data: a dependent that used it need not run again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version of whatever `parts` distinguish.
    pub fn of(parts: impl Hash) -> Self {
        // DefaultHasher::new() has fixed keys: the same parts give the same version in every process.
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// A number below `bound` that this version alone determines; 0 where there is none below it.
    pub fn within(self, bound: u64) -> u64 {
        self.0.checked_rem(bound).unwrap_or(0)
    }
}

/// A completion that says an output exists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The producer's execution.
    pub run: RunId,
    /// When the broker took the message.
    pub published: Timestamp,
    /// Rows, where the message says.
    pub records: Option<u64>,
    /// What the message says of its completeness.
    pub extent: Extent,
    /// The producer's correlation id, passed on to what this completion causes.
    pub correlation: Option<Arc<str>>,
    /// The span in which it was received, where its message brought a trace: what it causes belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

/// How much a claim claims.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Success: all that was there to do.
    Whole,
    /// So many of so many.
    Share(Coverage),
    /// Partial, or zero rows, without a figure: neither 0 nor 1.
    Unknown,
}

/// A probe's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Observation {
    /// When the answer was taken.
    pub at: Timestamp,
    /// When the coverage it gives was first observed, so that an unchanged answer is not news.
    pub since: Timestamp,
    /// What is there of what should be.
    pub coverage: Coverage,
    /// The same per unit, where the probe knows.
    pub units: BTreeMap<UnitId, Coverage>,
}

/// Everything known about one node's output for its date.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The newest successful completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// The newest probe answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
    /// When a probe last found less than everything: what is whole after that is news, though a claim said so before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_at: Option<Timestamp>,
    /// The parts that completions have told of, in the producers' words, each with its first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<UnitId, Timestamp>,
    /// When the warehouse was last heard of this output, whatever it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// When a probe last failed to tell, if it has told nothing since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Timestamp>,
}

/// The verdict on an output.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extant {
    /// Nobody has said anything.
    Nothing,
    /// Something is there; how much cannot be told.
    Unknown,
    /// A success without a figure.
    Claimed,
    /// This much.
    Known(Coverage),
}

impl Extant {
    /// Whether it reaches `least`. `None` where that cannot be told: unknown is neither 0 nor 1.
    pub fn reaches(self, least: PerMille) -> Option<bool> {
        match self {
            Self::Nothing => Some(false),
            Self::Unknown => None,
            Self::Claimed => Some(true),
            Self::Known(coverage) => Some(coverage.reaches(least)),
        }
    }

    /// Whether nothing is missing.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Claimed => true,
            Self::Known(coverage) => coverage.is_full(),
            Self::Nothing | Self::Unknown => false,
        }
    }
}

impl std::fmt::Display for Extant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Unknown => f.write_str("unknown"),
            Self::Claimed => f.write_str("complete (claimed)"),
            Self::Known(coverage) => coverage.fmt(f),
        }
    }
}

impl Evidence {
    /// Takes a claim in; returns whether it was news. The newest by publish time wins, ties by run id; of the same claim
    /// told twice, the first telling counts, whichever is delivered first.
    pub fn claim(&mut self, claim: Claim) -> bool {
        if let Some(held) = &mut self.claim
            && (&held.run, held.extent) == (&claim.run, claim.extent)
        {
            if (claim.published, claim.trace) < (held.published, held.trace) {
                (held.published, held.trace) = (claim.published, claim.trace);
            }
            return false;
        }
        let newer = self.claim.as_ref().is_none_or(|held| {
            held.run != claim.run && (claim.published, &claim.run) > (held.published, &held.run)
                || held.run == claim.run && claim.extent != held.extent && claim.published > held.published
        });
        if newer {
            self.claim = Some(claim);
        }
        newer
    }

    /// Takes a probe's answer in; returns whether it was news.
    pub fn observe(&mut self, at: Timestamp, coverage: Coverage, units: BTreeMap<UnitId, Coverage>) -> bool {
        self.unanswered = self.unanswered.filter(|unanswered| *unanswered > at);
        if !coverage.is_full() {
            self.short_at = self.short_at.max(Some(at));
        }
        match &mut self.observation {
            Some(held) if held.at >= at => false,
            Some(held) => {
                let changed = held.coverage != coverage || held.units != units;
                let since = if changed { at } else { held.since };
                *held = Observation { at, since, coverage, units };
                changed
            }
            None => {
                self.observation = Some(Observation { at, since: at, coverage, units });
                true
            }
        }
    }

    /// Notes that a probe could not tell; returns whether that was news.
    pub fn leave_unanswered(&mut self, at: Timestamp) -> bool {
        let answered = self.observation.as_ref().is_some_and(|seen| seen.at >= at);
        let news = !answered && self.unanswered.is_none();
        if news {
            self.unanswered = Some(at);
        }
        news
    }

    /// Whether a completion is believed although the warehouse could not tell.
    pub fn is_unanswered(&self) -> bool {
        let claimed = self.claim.as_ref().map(|claim| claim.published);
        claimed.is_some() && self.unanswered.is_some() && self.looked_at >= claimed
    }

    /// Takes in that a completion was about one part; returns whether that is news. A part told of twice is one part.
    pub fn part(&mut self, unit: &UnitId, published: Timestamp) -> bool {
        let known = self.parts.len();
        if known >= PARTS_MAX && !self.parts.contains_key(unit) {
            return false;
        }
        let first = self.parts.entry(unit.clone()).or_insert(published);
        *first = published.min(*first);
        self.parts.len() > known
    }

    /// Takes in that the warehouse was heard; returns whether that is news to somebody who waits for its word.
    pub fn look(&mut self, at: Timestamp) -> bool {
        let awaited = self.claim.as_ref().is_some_and(|claim| self.looked_at < Some(claim.published));
        self.looked_at = self.looked_at.max(Some(at));
        awaited
    }

    /// The newest claim, if nothing has been observed since.
    pub fn newest_claim(&self) -> Option<&Claim> {
        let claim = self.claim.as_ref()?;
        self.observation.as_ref().is_none_or(|seen| claim.published > seen.at).then_some(claim)
    }

    /// How much is there: a newer observation outweighs a claim, a newer claim outweighs an observation.
    pub fn extant(&self) -> Extant {
        match (&self.claim, &self.observation) {
            (None, None) if self.unanswered.is_some() => Extant::Unknown,
            (None, None) => Extant::Nothing,
            (Some(claim), Some(seen)) if claim.published > seen.at => claimed(claim),
            (_, Some(seen)) => Extant::Known(seen.coverage),
            (Some(claim), None) => claimed(claim),
        }
    }

    /// The version of the output. A probe that confirms a complete claim does not make a new one.
    pub fn version(&self) -> Version {
        let run = self.claim.as_ref().map(|claim| claim.run.as_str());
        match self.extant() {
            whole if whole.is_whole() => Version::of((run, "whole")),
            Extant::Known(coverage) => Version::of((run, coverage)),
            other => Version::of((run, other)),
        }
    }

    /// When the current version came to be known; where a probe could not tell, when that was.
    pub fn since(&self) -> Option<Timestamp> {
        match (&self.claim, &self.observation) {
            (Some(claim), Some(seen)) if seen.since > claim.published => {
                let contradicted = self.short_at.is_some_and(|short| short > claim.published);
                let confirms = claimed(claim).is_whole() && seen.coverage.is_full() && !contradicted;
                Some(if confirms { claim.published } else { seen.since })
            }
            (Some(claim), _) => Some(claim.published),
            (None, Some(seen)) => Some(seen.since),
            (None, None) => self.unanswered,
        }
    }
}

fn claimed(claim: &Claim) -> Extant {
    match claim.extent {
        Extent::Whole => Extant::Claimed,
        Extent::Share(coverage) => Extant::Known(coverage),
        Extent::Unknown => Extant::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_counts_once_from_when_it_was_first_told_of_and_so_many_are_remembered() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let unit = |nth: usize| UnitId::from(format!("u{nth}").as_str());
        let mut evidence = Evidence::default();
        assert!(evidence.part(&unit(0), at(10)));
        assert!(!evidence.part(&unit(0), at(20)));
        assert!(!evidence.part(&unit(0), at(5)));
        assert_eq!(evidence.parts[&unit(0)], at(5));
        for nth in 1..PARTS_MAX {
            assert!(evidence.part(&unit(nth), at(30)));
        }
        assert!(!evidence.part(&unit(PARTS_MAX), at(30)));
        assert_eq!(evidence.parts.len(), PARTS_MAX);
        // What is remembered can still be told of anew.
        evidence.part(&unit(1), at(1));
        assert_eq!(evidence.parts[&unit(1)], at(1));
    }
}
