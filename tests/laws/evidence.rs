//! What is believed of an output: what its runs claim and what the warehouse says, each by its own time.

use std::collections::BTreeMap;

use tipoff::domain::coverage::Coverage;
use tipoff::domain::evidence::{Claim, Evidence, Extant, Extent, Version};

use crate::graphs::at;

fn claim(run: &str, second: i64, extent: Extent) -> Claim {
    Claim { run: run.into(), published: at(second), records: None, extent, correlation: None, trace: None }
}

fn of_ten(observed: u32) -> Coverage {
    Coverage::new(observed, 10).unwrap()
}

#[test]
fn the_newest_run_is_believed_and_the_first_telling_of_it() {
    let half = Extent::Share(of_ten(5));
    // Each with whether it is news, and whose word stands then, of when.
    let told = [
        (claim("b", 10, Extent::Whole), true, ("b", 10)),
        (claim("b", 20, Extent::Whole), false, ("b", 10)),
        (claim("b", 6, Extent::Whole), false, ("b", 6)),
        (claim("c", 5, Extent::Whole), false, ("b", 6)),
        // Of two in one instant the greater name counts, whichever is told first.
        (claim("a", 6, Extent::Whole), false, ("b", 6)),
        (claim("c", 6, Extent::Whole), true, ("c", 6)),
        (claim("a", 7, Extent::Whole), true, ("a", 7)),
        // A run corrects itself by a later word, and by no earlier one.
        (claim("a", 7, half), false, ("a", 7)),
        (claim("a", 8, half), true, ("a", 8)),
        (claim("a", 7, Extent::Whole), false, ("a", 8)),
    ];
    let mut evidence = Evidence::default();
    for (claim, is_news, (run, second)) in told {
        assert_eq!(evidence.claim(claim.clone()), is_news, "{claim:?}");
        let held = evidence.claim.as_ref().unwrap();
        assert_eq!((held.run.as_str(), held.published), (run, at(second)), "after {claim:?}");
    }
    assert_eq!(evidence.extant(), Extant::Known(of_ten(5)));
}

#[test]
fn an_answer_is_news_where_it_differs_and_is_newer() {
    let mut evidence = Evidence::default();
    let mut seen = |second, tenths, unit: Option<u32>| {
        let units = unit.map(|unit| ("u".into(), of_ten(unit))).into_iter().collect::<BTreeMap<_, _>>();
        let is_news = evidence.observe(at(second), of_ten(tenths), units);
        let held = evidence.observation.clone().unwrap();
        (is_news, held.at, held.since, held.coverage.observed())
    };
    assert_eq!(seen(10, 5, None), (true, at(10), at(10), 5));
    assert_eq!(seen(20, 5, None), (false, at(20), at(10), 5));
    assert_eq!(seen(20, 6, None), (false, at(20), at(10), 5), "of one instant the first");
    assert_eq!(seen(30, 5, Some(5)), (true, at(30), at(30), 5), "another share of a part");
    assert_eq!(seen(25, 9, None), (false, at(30), at(30), 5));
    assert_eq!(seen(40, 10, None), (true, at(40), at(40), 10));
    assert_eq!(evidence.short_at, Some(at(30)), "when less was last seen");
    // That it could not tell is news once, where it has told nothing since.
    let unanswered: Vec<bool> = [39, 40, 41, 42].map(|second| evidence.leave_unanswered(at(second))).into();
    assert_eq!(unanswered, [false, false, true, false]);
    evidence.observe(at(40), of_ten(10), BTreeMap::new());
    assert_eq!(evidence.unanswered, Some(at(41)));
    evidence.observe(at(41), of_ten(10), BTreeMap::new());
    assert_eq!(evidence.unanswered, None);
}

#[test]
fn an_answer_is_waited_for_until_one_is_as_new_as_the_claim() {
    let mut evidence = Evidence::default();
    assert!(!evidence.look(at(1)), "nobody waits");
    evidence.claim(claim("r", 10, Extent::Whole));
    assert!(evidence.leave_unanswered(at(5)));
    assert!(!evidence.is_unanswered(), "asked before it was claimed");
    assert_eq!([5, 10, 7, 12].map(|second| evidence.look(at(second))), [true, true, false, false]);
    assert_eq!(evidence.looked_at, Some(at(12)));
    assert!(evidence.is_unanswered());
    let heard = Evidence { looked_at: Some(at(10)), ..evidence.clone() };
    assert!(heard.is_unanswered());
    assert!(!Evidence { unanswered: None, ..heard.clone() }.is_unanswered());
    assert!(!Evidence { claim: None, ..heard }.is_unanswered());
}

/// The version of an output, and since when it is known, change with what is there and not with who confirms it.
#[test]
fn what_confirms_a_claim_is_no_new_version() {
    let none = BTreeMap::new;
    let mut evidence = Evidence::default();
    assert_eq!((evidence.extant(), evidence.since()), (Extant::Nothing, None));
    evidence.leave_unanswered(at(1));
    assert_eq!((evidence.extant(), evidence.since()), (Extant::Unknown, Some(at(1))));
    evidence.claim(claim("r", 10, Extent::Whole));
    let claimed = evidence.version();
    assert_eq!((evidence.extant(), evidence.since()), (Extant::Claimed, Some(at(10))));
    assert!(evidence.newest_claim().is_some());
    // What was seen in the very instant of the claim, or before, is as old as it.
    for second in [9, 10] {
        let mut before = Evidence::default();
        before.observe(at(second), of_ten(10), none());
        assert_eq!((before.since(), before.extant()), (Some(at(second)), Extant::Known(of_ten(10))));
        before.claim(claim("r", 10, Extent::Whole));
        assert_eq!((before.since(), before.newest_claim().is_some()), (Some(at(10)), second < 10));
    }
    let mut confirmed = evidence.clone();
    confirmed.observe(at(20), of_ten(10), none());
    assert_eq!((confirmed.since(), confirmed.version()), (Some(at(10)), claimed));
    assert!(confirmed.newest_claim().is_none());
    // Less is another version, and so is what is whole after that.
    let mut short = evidence.clone();
    short.observe(at(20), of_ten(5), none());
    assert_eq!((short.since(), short.extant()), (Some(at(20)), Extant::Known(of_ten(5))));
    assert_ne!(short.version(), claimed);
    short.observe(at(30), of_ten(10), none());
    assert_eq!((short.since(), short.version()), (Some(at(30)), claimed));
    let (mut third, mut fourth) = (evidence.clone(), evidence);
    third.observe(at(20), of_ten(3), none());
    fourth.observe(at(20), of_ten(4), none());
    assert_ne!(third.version(), fourth.version());
    for (extant, words) in [
        (Extant::Nothing, "nothing"),
        (Extant::Unknown, "unknown"),
        (Extant::Claimed, "complete (claimed)"),
        (Extant::Known(of_ten(5)), "5/10 (0.50)"),
    ] {
        assert_eq!(extant.to_string(), words);
    }
}

/// The later of a claim and an answer counts, and of one instant the answer; it is known since it last became another.
#[test]
fn the_later_of_a_claim_and_an_answer_counts() {
    let half = Extent::Share(of_ten(5));
    // What is claimed at 20, and what is answered when; what counts then, and since when it is known.
    for (extent, answers, there, since) in [
        (Extent::Whole, vec![(19, 5)], Extant::Claimed, 20),
        (Extent::Whole, vec![(20, 5)], Extant::Known(of_ten(5)), 20),
        (Extent::Whole, vec![(21, 5)], Extant::Known(of_ten(5)), 21),
        (Extent::Whole, vec![(21, 10)], Extant::Known(of_ten(10)), 20),
        (Extent::Whole, vec![(19, 5), (21, 10)], Extant::Known(of_ten(10)), 20),
        (Extent::Whole, vec![(20, 5), (21, 10)], Extant::Known(of_ten(10)), 20),
        (Extent::Whole, vec![(21, 5), (22, 10)], Extant::Known(of_ten(10)), 22),
        (half, vec![(21, 10)], Extant::Known(of_ten(10)), 21),
        (half, vec![(19, 10)], Extant::Known(of_ten(5)), 20),
    ] {
        let mut evidence = Evidence::default();
        evidence.claim(claim("r", 20, extent));
        for (second, tenths) in &answers {
            evidence.observe(at(*second), of_ten(*tenths), BTreeMap::new());
        }
        assert_eq!((evidence.extant(), evidence.since()), (there, Some(at(since))), "{extent:?} {answers:?}");
    }
}

/// A number that a version determines lies below its bound, and other versions have others.
#[test]
fn a_version_determines_a_number_below_any_bound() {
    let numbers: Vec<u64> = (0..100).map(|nth: u64| Version::of(nth).within(10)).collect();
    assert!((0..10).all(|number| numbers.contains(&number)) && numbers.iter().all(|number| *number < 10));
    assert_eq!(Version::of(1).within(0), 0);
}

/// A share is in thousandths, rounded down, and never more than all.
#[test]
fn a_share_is_rounded_down_and_never_more_than_all() {
    for (there, of, share) in
        [(0, 3, 0), (1, 3, 333), (7, 10, 700), (2_999, 3_000, 999), (10, 10, 1_000), (12, 10, 1_000)]
    {
        assert_eq!(Coverage::new(there, of).unwrap().share().get(), share, "{there} of {of}");
    }
}
