//! What a past day showed, read off its journal, and what several days had in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use tipoff::domain::coverage::PerMille;
use tipoff::domain::decide::decide;
use tipoff::domain::event::{Completed, Event, Game, GameStatus, Heartbeat, Observed, Outcome, Pulse, Scheduled};
use tipoff::domain::forecast::{Day, FORECAST_DAYS_MIN, History, Reading};
use tipoff::domain::graph::{Graph, Node, Unit};
use tipoff::domain::id::UnitId;
use tipoff::domain::partition::Partition;
use tipoff::domain::time::Now;

use crate::facts::{came, of_ten};
use crate::graphs::{at, empty, graph, hard, minutes, source, task};

const GAMES: [&str; 2] = ["20260122_BOS_NYK", "20260122_LAL_GSW"];

/// A date that is played, and read as it was journalled.
struct Played<'g> {
    graph: &'g Graph,
    date: Partition,
    reading: Reading<'g>,
}

impl<'g> Played<'g> {
    fn of(graph: &'g Graph) -> Self {
        Self { graph, date: empty(), reading: Reading::new(graph, empty().key) }
    }

    fn hear(&mut self, minute: i64, event: Event) {
        let events = [event];
        let decision = decide(self.graph, &self.date, &events, Now::caught_up(at(minute * 60))).unwrap();
        self.date = decision.next;
        self.reading.take(at(minute * 60), &events, &decision.effects);
    }

    fn games(&mut self, minute: i64, games: &[(&str, GameStatus)]) {
        let game = |status: &GameStatus| Game { tip: Some(at(8 * 3_600)), status: *status, id: None };
        let games = games.iter().map(|(unit, status)| (UnitId::from(*unit), game(status))).collect();
        self.hear(minute, Event::Scheduled(Scheduled { games, at: at(minute * 60) }));
    }

    fn done(&mut self, minute: i64, node: &str, run: &str) {
        self.hear(minute, Event::Completed(Completed { published: at(minute * 60), ..came(node, run) }));
    }

    fn counted(&mut self, minute: i64, node: &str, tenths: u32, units: &[(&str, u32)]) {
        let units = units.iter().map(|(unit, tenths)| ((*unit).into(), of_ten(*tenths))).collect();
        let node = node.into();
        let coverage = Some(of_ten(tenths));
        let observed = Observed { node, coverage, units, at: at(minute * 60), not_kept: false, actor: None };
        self.hear(minute, Event::Observed(observed));
    }
}

/// Minutes after noon.
fn at_noon(spans: &BTreeMap<tipoff::domain::id::NodeId, jiff::SignedDuration>) -> Vec<(String, i64)> {
    spans.iter().map(|(id, span)| (id.to_string(), span.as_secs() / 60)).collect()
}

fn shown(of: &[(&str, i64)]) -> Vec<(String, i64)> {
    of.iter().map(|(id, minute)| ((*id).to_owned(), *minute)).collect()
}

/// An output came when it first sufficed, and took as long as from when it was asked for, or first heard of.
#[test]
fn a_day_shows_when_each_output_came_and_how_long_it_took() {
    let of = graph(vec![source("s"), task("t", vec![hard("s")]), task("u", vec![hard("t")])]);
    let mut played = Played::of(&of);
    played.games(-60, &[(GAMES[0], GameStatus::Scheduled)]);
    // The source beats before it is done, and is done once more later.
    let beat = |minute: i64| {
        Event::Heartbeat(Heartbeat {
            node: "s".into(),
            run: "x".into(),
            pulse: Pulse::Running,
            progress: (0, 0),
            published: at(minute * 60),
        })
    };
    played.hear(10, beat(10));
    played.hear(12, beat(8));
    played.done(20, "s", "x");
    played.counted(35, "t", 5, &[]);
    played.counted(50, "t", 10, &[]);
    played.done(70, "s", "y");
    let day = played.reading.day().unwrap();
    assert_eq!(at_noon(&day.arrived), shown(&[("s", 740), ("t", 770)]));
    assert_eq!(at_noon(&day.took), shown(&[("s", 12), ("t", 30)]), "it was asked for when its input came");
    assert_eq!(day.covered, BTreeMap::new(), "nothing is promised");
}

/// A sign of life from after the output, by a clock that is ahead, says nothing of how long it took.
#[test]
fn a_sign_of_life_from_after_the_output_says_nothing_of_its_time() {
    let of = graph(vec![source("s")]);
    for (beats_at, took) in [(19, Some(1)), (20, Some(0)), (21, None)] {
        let mut played = Played::of(&of);
        played.games(-60, &[(GAMES[0], GameStatus::Scheduled)]);
        let beat = Heartbeat {
            node: "s".into(),
            run: "x".into(),
            pulse: Pulse::Running,
            progress: (0, 0),
            published: at(beats_at * 60),
        };
        played.hear(15, Event::Heartbeat(beat));
        played.done(20, "s", "x");
        let day = played.reading.day().unwrap();
        assert_eq!(at_noon(&day.took), took.map(|minute| ("s".to_owned(), minute)).into_iter().collect::<Vec<_>>());
        assert_eq!(at_noon(&day.arrived), shown(&[("s", 740)]));
    }
}

/// Of what is promised a day shows how much was there from when on; fewer games make more of it.
#[test]
fn a_day_shows_how_what_is_promised_grew() {
    let mut p = Node { probed: true, ..task("p", vec![hard("s")]) };
    p.expects.alert_before_tip = Some(minutes(60));
    p.expects.unit = Unit::Game;
    let of = graph(vec![source("s"), p, task("u", vec![hard("p")])]);
    let mut played = Played::of(&of);
    let both = [(GAMES[0], GameStatus::Scheduled), (GAMES[1], GameStatus::Scheduled)];
    played.games(-60, &both);
    played.counted(10, "p", 2, &[(GAMES[0], 4)]);
    played.counted(20, "p", 2, &[(GAMES[0], 4)]);
    played.counted(30, "p", 5, &[(GAMES[0], 10)]);
    played.games(40, &[both[0], (GAMES[1], GameStatus::Postponed)]);
    let day = played.reading.day().unwrap();
    let steps: Vec<(i64, u16)> =
        day.covered["p"].iter().map(|(clock, share)| (clock.as_secs() / 60, share.get())).collect();
    assert_eq!(steps, [(730, 200), (750, 500), (760, 1_000)]);
    assert_eq!(at_noon(&day.arrived), shown(&[("p", 760)]), "that is all there is to do");
}

/// A run that ends is of its processor, whichever of its passes it was for; a day without games shows nothing.
#[test]
fn a_day_without_games_shows_nothing() {
    let of = graph(vec![source("s")]);
    let mut played = Played::of(&of);
    played.done(20, "s", "x");
    assert!(played.reading.day().is_none(), "nobody has told of any");
    let mut played = Played::of(&of);
    played.games(-60, &[(GAMES[0], GameStatus::Postponed)]);
    played.done(20, "s", "x");
    assert!(played.reading.day().is_none());
    let mut played = Played::of(&of);
    played.games(-60, &[(GAMES[0], GameStatus::Scheduled)]);
    let failed = Completed { outcome: Outcome::Failed("no".into()), published: at(1_200), ..came("s", "x") };
    played.hear(20, Event::Completed(failed));
    assert_eq!(played.reading.day(), Some(Day::default()));
}

/// Half of the days were not above the median, a quarter not above the lower figure, and three not above the upper.
#[test]
fn what_is_usual_is_told_by_quarters_of_the_days() {
    let usual = |seen: &[i64]| {
        let day = |minute: &i64| {
            let covered = BTreeMap::from([(
                "s".into(),
                vec![(minutes(0), PerMille::new(u16::try_from(*minute).unwrap()).unwrap())],
            )]);
            Arc::new(Day { arrived: [("s".into(), minutes(*minute))].into(), covered, ..Day::default() })
        };
        let history = History { days: seen.iter().map(day).collect() };
        let usual = history.arrival(&"s".into())?;
        let share = history.coverage(&"s".into(), minutes(10)).unwrap().get();
        Some(([usual.low, usual.median, usual.high].map(|span| span.as_secs() / 60), usual.days, share))
    };
    assert_eq!(usual(&[5, 1, 4, 2]), None);
    assert_eq!(usual(&[5, 1, 4, 2, 3]), Some(([2, 3, 4], 5, 3)));
    assert_eq!(usual(&[8, 1, 7, 2, 3, 6, 5, 4]), Some(([2, 4, 6], 8, 4)));
    assert_eq!(FORECAST_DAYS_MIN, 5);
}
