//! Laws of silence: what is too quiet, judged by signs that are a minute on either side of each bound.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tipoff::domain::calendar::Schedule;
use tipoff::domain::decide::decide;
use tipoff::domain::event::{Completed, Event, Game, GameStatus, Heartbeat, Outcome, Pulse, Scheduled};
use tipoff::domain::evidence::Extent;
use tipoff::domain::graph::{Graph, Heartbeats, Node};
use tipoff::domain::id::{PartitionKey, PipelineId};
use tipoff::domain::partition::Partition;
use tipoff::domain::standstill::{Heard, Plane, Verdict, judge};
use tipoff::domain::time::Now;

use crate::graphs::{at, empty, graph, minutes, source};

/// Four sources that beat, and one that never does.
fn sources() -> Graph {
    let mute = source("mute");
    let mute =
        Node { liveness: tipoff::domain::graph::Liveness { heartbeats: Heartbeats::None, ..mute.liveness }, ..mute };
    graph(["a", "b", "c", "d"].into_iter().map(source).chain([mute]).collect())
}

/// A minute of the day that begins with the laws, at noon.
fn minute(of_day: i64) -> Now {
    Now::caught_up(at(of_day * 60))
}

fn done(node: &str, of_day: i64) -> Event {
    Event::Completed(Completed {
        node: node.into(),
        run: format!("{node}-{of_day}").as_str().into(),
        outcome: Outcome::Done(Extent::Whole),
        records: None,
        published: at(of_day * 60),
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    })
}

fn beat(node: &str, of_day: i64) -> Event {
    let published = at(of_day * 60);
    Event::Heartbeat(Heartbeat {
        node: node.into(),
        run: "beats".into(),
        pulse: Pulse::Running,
        progress: (1, 5),
        published,
    })
}

/// A day with so many games, on which that was heard.
fn day(games: usize, events: &[Event]) -> Partition {
    let game = |nth: usize| {
        let game = Game { tip: None, status: GameStatus::Scheduled, id: None };
        (format!("20260122_T{nth:02}_BOS").as_str().into(), game)
    };
    let scheduled = Event::Scheduled(Scheduled { games: (0..games).map(game).collect::<BTreeMap<_, _>>(), at: at(0) });
    let all: Vec<Event> = [scheduled].into_iter().chain(events.iter().cloned()).collect();
    decide(&sources(), &empty(), &all, minute(0)).unwrap().next
}

/// The process has been listening since noon, and heard nothing.
fn deaf() -> Heard {
    Heard { since: at(0), completion: None, heartbeat: None }
}

fn verdict(plane: Plane, partition: Partition, heard: Heard, now: Now) -> &'static str {
    match judge(plane, &sources(), &[partition], heard, now) {
        Verdict::Lively(_) => "lively",
        Verdict::Silent(_) => "silent",
        Verdict::Open => "open",
    }
}

#[test]
fn heartbeats_are_missed_once_three_have_ended_without_any() {
    let beats = |events: &[Event], now: Now| verdict(Plane::Heartbeats, day(1, events), deaf(), now);
    let three = [done("a", 10), done("b", 10), done("c", 10)];
    assert_eq!(beats(&three, minute(60)), "silent");
    assert_eq!(beats(&three[..2], minute(60)), "open", "two may be an accident");
    assert_eq!(beats(&[done("a", 10), done("b", 10), done("mute", 10)], minute(60)), "open", "one of them never beats");
    // For six hours, and no longer.
    assert_eq!(beats(&three, minute(10 + 359)), "silent");
    assert_eq!(beats(&three, minute(10 + 360)), "open");
    // What has not been heard yet has not ended.
    assert_eq!(beats(&three, Now { heard_until: at(599), ..minute(60) }), "open");
    assert_eq!(beats(&three, Now { heard_until: at(600), ..minute(60) }), "silent");
    assert_eq!(verdict(Plane::Heartbeats, day(0, &three), deaf(), minute(60)), "lively", "nobody plays");
}

#[test]
fn one_heartbeat_excuses_what_ended_soon_after_it_and_six_hours() {
    let heard = |after: i64, now: Now| {
        let ends = ["a", "b", "c"].map(|node| done(node, after));
        let events: Vec<Event> = [beat("d", 0)].into_iter().chain(ends).collect();
        verdict(Plane::Heartbeats, day(1, &events), deaf(), now)
    };
    assert_eq!(heard(30, minute(359)), "lively");
    assert_eq!(heard(30, minute(360)), "silent");
    // A run is dead after a quarter of an hour of silence; one that ended by then may have sent the heartbeat.
    assert_eq!(heard(15, minute(360)), "open");
    assert_eq!(heard(16, minute(360)), "silent");
    // Whoever lags by a minute has not heard that minute, in which the next one may lie.
    assert_eq!(heard(30, Now { heard_until: at(359 * 60), ..minute(360) }), "open");
    let process = Heard { heartbeat: Some(at(60)), ..deaf() };
    let three = ["a", "b", "c"].map(|node| done(node, 30));
    assert_eq!(verdict(Plane::Heartbeats, day(1, &three), process, minute(360)), "lively", "over another road");
}

#[test]
fn completions_and_decisions_are_missed_after_hours_of_a_day_with_games() {
    let completions = |events: &[Event], heard: Heard, now: Now| verdict(Plane::Messages, day(1, events), heard, now);
    assert_eq!(completions(&[], deaf(), minute(179)), "open");
    assert_eq!(completions(&[], deaf(), minute(180)), "silent", "since the process listens");
    assert_eq!(completions(&[done("a", 10)], deaf(), minute(189)), "lively");
    assert_eq!(completions(&[done("a", 10)], deaf(), minute(190)), "silent");
    assert_eq!(completions(&[], Heard { completion: Some(at(1_200)), ..deaf() }, minute(199)), "lively");
    assert_eq!(completions(&[], Heard { completion: Some(at(1_200)), ..deaf() }, minute(200)), "silent");
    let lags = Now { heard_until: at(0) + minutes(189), ..minute(190) };
    assert_eq!(completions(&[done("a", 10)], deaf(), lags), "open");
    // The day's only decision is the one at noon.
    assert_eq!(verdict(Plane::Decisions, day(1, &[]), deaf(), minute(119)), "lively");
    assert_eq!(verdict(Plane::Decisions, day(1, &[]), deaf(), minute(120)), "silent");
    // Where nothing was decided yet, it counts from when the process began to listen.
    let undecided = || Partition { decided_at: jiff::Timestamp::MIN, ..day(1, &[]) };
    assert_eq!(verdict(Plane::Decisions, undecided(), deaf(), minute(119)), "open");
    assert_eq!(verdict(Plane::Decisions, undecided(), deaf(), minute(120)), "silent");
    // Each is an alert of its own, and without heartbeats work goes on.
    let keys = Plane::ALL.map(|plane| plane.alert(&PipelineId::from("laws")).to_string());
    assert_eq!(keys, ["silent:decisions:laws", "silent:messages:laws", "silent:heartbeats:laws"]);
    assert!(Plane::Heartbeats.severity() < Plane::Decisions.severity());
    assert_eq!(Plane::Decisions.severity(), Plane::Messages.severity());
}

#[test]
fn silence_says_since_when_whose_and_of_what_else() {
    let text = |plane, events: &[Event], now: Now| match judge(plane, &sources(), &[day(2, events)], deaf(), now) {
        Verdict::Silent(text) => text,
        other => panic!("{other:?}"),
    };
    let told = text(Plane::Messages, &[done("a", 10)], minute(200));
    assert!(told.contains("since 2026-01-22 12:10:00Z, of a, on a day with games (2)"), "{told}");
    let told = text(Plane::Decisions, &[done("a", 10)], minute(125));
    assert!(told.contains("though completions come in, the last at 2026-01-22 12:10:00Z"), "{told}");
    let told = text(Plane::Decisions, &[done("a", 10)], minute(130));
    assert!(told.contains("and no completion has come in since 2026-01-22 12:10:00Z"), "{told}");
    let told = text(Plane::Messages, &[], minute(200));
    assert!(told.contains("since the service began to listen at 2026-01-22 12:00:00Z, on"), "{told}");
}

#[test]
fn a_night_is_no_silence_and_the_day_begins_at_five_whatever_the_clocks_do() {
    // 8 March 2026: the clocks go forward at two in the morning, and five o'clock is 09:00Z.
    let mut graph = sources();
    graph.zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let key = PartitionKey::new("nba", jiff::civil::date(2026, 3, 8));
    let game = Game { tip: Some(at("2026-03-09T00:00:00Z")), status: GameStatus::Scheduled, id: None };
    let games = [("20260308_MIA_UTA".into(), game)].into();
    let schedule = Some(Schedule { at: Timestamp::MIN, games, emptied_at: None });
    let live = [Partition { decided_at: at("2026-03-08T03:00:00Z"), schedule, ..Partition::new(key) }];
    let heard = Heard { since: at("2026-03-01T00:00:00Z"), completion: None, heartbeat: None };
    let judge = |now: Now| judge(Plane::Decisions, &graph, &live, heard, now);
    assert_eq!(judge(Now::caught_up(at("2026-03-08T10:59:00Z"))), Verdict::Open);
    let silent = judge(Now::caught_up(at("2026-03-08T11:00:00Z")));
    assert!(matches!(&silent, Verdict::Silent(text) if text.contains("since 2026-03-08 03:00:00Z")), "{silent:?}");
    // What has not been heard yet may be no silence.
    let deaf = Now { at: at("2026-03-08T15:00:00Z"), heard_until: at("2026-03-08T10:00:00Z") };
    assert_eq!(judge(deaf), Verdict::Open);
    // The date whose day it is decides, not the one with games.
    assert_eq!(judge(Now::caught_up(at("2026-03-09T11:00:00Z"))), Verdict::Open);
}
