//! How much of an output is there, in whole units: no floating point decides anything.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share in thousandths: 800 is 80 %.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMille(u16);

impl PerMille {
    /// Everything.
    pub const FULL: Self = Self(1000);
    /// Nothing is required.
    pub const NONE: Self = Self(0);

    /// `thousandths` if it is at most 1000.
    pub fn new(thousandths: u16) -> Option<Self> {
        (thousandths <= 1000).then_some(Self(thousandths))
    }

    /// The share in thousandths, 0 to 1000.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 1000, (self.0 % 1000) / 10)
    }
}

/// Units observed out of units expected. `expected` is never zero: no expectation is no coverage, not full coverage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Coverage {
    observed: u32,
    expected: u32,
}

impl Coverage {
    /// `None` where nothing is expected.
    pub fn new(observed: u32, expected: u32) -> Option<Self> {
        (expected > 0).then_some(Self { observed, expected })
    }

    /// Whole units seen; may exceed `expected` where more came than was asked for.
    pub fn observed(self) -> u32 {
        self.observed
    }

    /// Whole units due, at least 1.
    pub fn expected(self) -> u32 {
        self.expected
    }

    /// Whether the share observed reaches `least`: exactly at the threshold counts as reached.
    pub fn reaches(self, least: PerMille) -> bool {
        u64::from(self.observed) * 1000 >= u64::from(least.get()) * u64::from(self.expected)
    }

    /// The share observed, rounded down, at most everything.
    pub fn share(self) -> PerMille {
        let thousandths = (u64::from(self.observed) * 1000 / u64::from(self.expected)).min(1000);
        u16::try_from(thousandths).map_or(PerMille::FULL, PerMille)
    }

    /// Whether nothing is missing.
    pub fn is_full(self) -> bool {
        self.observed >= self.expected
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = u64::from(self.observed) * 100 / u64::from(self.expected);
        write!(f, "{}/{} ({}.{:02})", self.observed, self.expected, hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_itself_suffices_and_one_unit_less_does_not() {
        let eighty = PerMille::new(800).unwrap();
        assert!(Coverage::new(8, 10).unwrap().reaches(eighty));
        assert!(!Coverage::new(7, 10).unwrap().reaches(eighty));
        assert!(!Coverage::new(6, 8).unwrap().reaches(eighty));
        assert_eq!(Coverage::new(3, 0), None);
        assert_eq!(Coverage::new(6, 8).unwrap().to_string(), "6/8 (0.75)");
    }
}
