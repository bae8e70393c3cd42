//! What stops a whole pipeline, what happens how often, and what things are called.

use tipoff::domain::effect::About;
use tipoff::domain::id::{Attempt, PartitionKey};
use tipoff::domain::once::{Calls, Entered};
use tipoff::domain::rate::Rate;
use tipoff::domain::stop::{Stop, Stops};
use tipoff::domain::time::{Now, Wake, ahead_of};
use tipoff::domain::trace::TraceContext;

use crate::graphs::{DATE, at};

fn stop(pipeline: &str, from: i64, until: Option<i64>) -> Stop {
    let (actor, reason) = ("ann".to_owned(), "law".to_owned());
    Stop { pipeline: pipeline.into(), actor, reason, from: at(from), until: until.map(at), ended_by: None }
}

/// A stop holds its own pipeline until it ends, and not in that instant.
#[test]
fn a_stop_holds_its_pipeline_until_it_ends() {
    let mut stops = Stops::default();
    stops.hold(stop("nba", 0, Some(60)));
    let held = |stops: &Stops, pipeline: &str, second| stops.of(&pipeline.into(), at(second)).map(ToString::to_string);
    let words = "nba is held by ann until 2026-01-22 12:01:00Z: law".to_owned();
    assert_eq!(held(&stops, "nba", 59), Some(words));
    assert_eq!((held(&stops, "nba", 60), held(&stops, "mlb", 0)), (None, None));
    stops.hold(stop("mlb", 0, None));
    assert_eq!(held(&stops, "mlb", 999), Some("mlb is held by ann until `tipoff resume all`: law".to_owned()));
    assert!(stops.past().is_empty());
    assert!(stops.end(&"mlb".into(), ("bob", "done"), at(70)));
    assert!(!stops.end(&"nba".into(), ("bob", "done"), at(70)), "it was over");
    let past: Vec<_> = stops.past().iter().map(|stop| (stop.pipeline.as_str(), stop.until)).collect();
    assert_eq!(past, [("mlb", Some(at(70))), ("nba", Some(at(60)))]);
}

/// A stop is replaced by another of the same pipeline in the instant in which that begins, and by nothing else.
#[test]
fn a_stop_is_replaced_by_the_next_of_its_pipeline() {
    let told = |stops: &Stops| {
        let turns = stops.turns(&"nba".into(), at(0), at(999)).into_iter();
        turns.map(|(at, words)| (at, words.split_whitespace().next().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let word = |second, word: &str| (at(second), word.to_owned());
    let mut stops = Stops::default();
    stops.hold(stop("nba", 0, None));
    stops.hold(stop("nba", 50, None));
    assert_eq!(told(&stops), [word(0, "held"), word(50, "replaced"), word(50, "held")]);
    // One that another pipeline's follows was resumed, and so is one that ended in the instant in which it began.
    let mut stops = Stops::default();
    stops.hold(stop("nba", 0, None));
    stops.end(&"nba".into(), ("bob", "done"), at(50));
    stops.hold(stop("mlb", 50, None));
    assert_eq!(told(&stops), [word(0, "held"), word(50, "resumed")]);
    let mut stops = Stops::default();
    stops.hold(stop("nba", 50, None));
    stops.end(&"nba".into(), ("bob", "done"), at(50));
    assert_eq!(told(&stops), [word(50, "held"), word(50, "resumed")]);
}

/// What happens is counted by the hour, and when the count falls is known.
#[test]
fn what_happened_counts_for_an_hour() {
    let mut rate = Rate::default();
    assert!(rate.is_empty() && rate.falls_at(at(0)).is_none());
    rate.note(at(0));
    rate.note(at(600));
    assert!(!rate.is_empty());
    assert_eq!((rate.falls_at(at(0)), rate.falls_at(at(4_199))), (Some(at(4_200)), Some(at(4_200))));
    assert_eq!((rate.falls_at(at(4_200)), rate.in_the_hour_before(at(4_200))), (Some(at(4_800)), 1));
    assert_eq!((rate.falls_at(at(4_800)), rate.in_the_hour_before(at(4_800))), (None, 0));
}

/// A deadline of this instant that could not be judged is looked at again soon, and not at once.
#[test]
fn a_deadline_that_has_come_is_looked_at_again_soon() {
    for (deadline, looks) in [(-5, 10), (0, 10), (1, 1)] {
        let mut wake = Wake::new(Now::caught_up(at(0)));
        wake.at(at(deadline));
        assert_eq!(wake.earliest(), Some(at(looks)), "{deadline}");
    }
}

/// Two clocks agree where what one shows lies within the time that the other took to ask.
#[test]
fn clocks_agree_within_the_time_that_a_call_took() {
    for (other, ahead) in [(7, 3), (10, 0), (15, 0), (20, 0), (25, -5)] {
        assert_eq!(ahead_of(at(other), at(10), at(20)).as_secs(), ahead, "{other}");
    }
}

/// A call whose maker has said nothing for half a minute may be made again.
#[test]
fn a_call_that_is_under_way_for_half_a_minute_may_be_made_again() {
    let entered = |second| {
        let mut calls = Calls::default();
        calls.enter("k", "a", at(0));
        calls.enter("k", "a", at(second))
    };
    assert_eq!((entered(29), entered(30)), (Entered::UnderWay, Entered::New(at(0))));
}

/// Names are read as they are written.
#[test]
fn names_are_read_as_they_are_written() {
    let key = |text: &str| text.parse::<PartitionKey>().ok();
    assert_eq!(key("nba/2026-01-22"), Some(PartitionKey::new("nba", DATE)));
    assert_eq!(["/2026-01-22", "nba", "nba/today", ""].map(key), [None, None, None, None]);
    assert_eq!(Attempt { run: 2, attempt: 3 }.to_string(), "run 2 attempt 3");
    for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true)] {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        assert_eq!(text.parse::<TraceContext>().ok().map(|trace| trace.sampled), Some(sampled), "{flags}");
    }
    let about = About::date(&PartitionKey::new("nba", DATE));
    assert!(About::default().is_empty() && !about.is_empty());
    assert_eq!(about.clone().done("it waits"), About { done: Some("it waits".to_owned()), ..about });
}
