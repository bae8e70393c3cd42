//! Laws of edges: how long is waited for what may be missing, what makes a node anew, and what a claim is worth.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use tipoff::domain::coverage::{Coverage, PerMille};
use tipoff::domain::decide::decide;
use tipoff::domain::effect::{Cause, Effect, Severity, Turn};
use tipoff::domain::event::{CheckAnswer, Checked, Command, Completed, Event, Observed, Outcome, Request};
use tipoff::domain::evidence::Extent;
use tipoff::domain::failure::{ClockTime, Ends, FailureClass};
use tipoff::domain::graph::{Check, Dependency, Gate, Graph, Kind, Node, Refresh, Storm, Strength, Tier, Unanswered};
use tipoff::domain::partition::Partition;
use tipoff::domain::time::Now;
use tipoff::domain::view::{remedies, view, why};

use crate::graphs::{DATE, at, empty, graph, hard, minutes, source, task};

/// A date, minute by minute, and the effects of the last decision.
struct Day {
    graph: Graph,
    partition: Partition,
    effects: Vec<Effect>,
}

impl Day {
    fn new(nodes: Vec<Node>) -> Self {
        Self { graph: graph(nodes), partition: empty(), effects: Vec::new() }
    }

    /// Hears of something in a minute.
    fn hear(&mut self, minute: i64, event: Event) {
        let now = Now::caught_up(at(minute * 60));
        let decision = decide(&self.graph, &self.partition, &[event], now).unwrap_or_else(|broken| panic!("{broken}"));
        self.partition = decision.next;
        self.effects = decision.effects;
    }

    fn done(&mut self, minute: i64, node: &str) {
        self.hear(minute, completed(node, minute));
    }

    /// Why each node is asked for that is, by the last decision, and whether it has to do without something.
    fn sent(&self) -> Vec<(&str, Cause, bool)> {
        let sent = self.effects.iter().filter_map(|effect| match effect {
            Effect::Dispatch(dispatch) => {
                Some((dispatch.node.as_str(), dispatch.manifest.cause, dispatch.manifest.degraded))
            }
            _ => None,
        });
        sent.collect()
    }

    /// The nodes of whose output the warehouse is asked by the last decision, and the checks.
    fn asked(&self) -> (Vec<&str>, usize) {
        let nodes = self.effects.iter().filter_map(|effect| match effect {
            Effect::Observe { node, .. } => Some(node.as_str()),
            _ => None,
        });
        (nodes.collect(), self.effects.iter().filter(|effect| matches!(effect, Effect::Check { .. })).count())
    }
}

fn completed(node: &str, minute: i64) -> Event {
    Event::Completed(Completed {
        node: node.into(),
        run: format!("{node}-{minute}").as_str().into(),
        outcome: Outcome::Done(Extent::Whole),
        records: Some(100),
        published: at(minute * 60),
        correlation: None,
        dispatch: None,
        unit: None,
        trace: None,
    })
}

fn observed(node: &str, minute: i64, tenths: u32) -> Event {
    Event::Observed(Observed {
        node: node.into(),
        coverage: Coverage::new(tenths, 10),
        units: BTreeMap::new(),
        not_kept: false,
        actor: None,
        at: at(minute * 60),
    })
}

fn optional(upstream: &str, grace: i64, refresh: Refresh) -> Dependency {
    Dependency { strength: Strength::Optional, grace: minutes(grace), refresh, ..hard(upstream) }
}

#[test]
fn what_may_be_missing_is_waited_for_as_long_as_its_grace_and_no_longer() {
    let nodes = || vec![source("s"), source("o"), task("t", vec![hard("s"), optional("o", 20, Refresh::Always)])];
    let mut day = Day::new(nodes());
    day.done(0, "s");
    assert_eq!(day.sent(), []);
    day.hear(19, Event::Tick);
    assert_eq!(day.sent(), []);
    day.hear(20, Event::Tick);
    assert_eq!(day.sent(), [("t", Cause::DependenciesMet, true)]);
    // Once it is there nothing is waited for.
    let mut day = Day::new(nodes());
    day.done(0, "s");
    day.done(5, "o");
    assert_eq!(day.sent(), [("t", Cause::DependenciesMet, false)]);
}

#[test]
fn what_was_missed_makes_anew_and_what_was_not_does_not() {
    let nodes = || vec![source("s"), source("o"), task("t", vec![hard("s"), optional("o", 0, Refresh::IfMissed)])];
    let mut day = Day::new(nodes());
    day.done(0, "s");
    assert_eq!(day.sent(), [("t", Cause::DependenciesMet, true)]);
    day.done(5, "t");
    day.done(30, "o");
    day.hear(60, Event::Tick);
    assert_eq!(day.sent().len(), 1, "it was made without: {:?}", day.sent());
    day.done(65, "t");
    day.done(90, "o");
    assert_eq!(day.sent(), []);
    day.hear(120, Event::Tick);
    assert_eq!(day.sent(), [], "it was made with it");
}

#[test]
fn a_claim_that_the_warehouse_contradicts_is_told_of() {
    let mut claims = source("s");
    claims.expects.verify = minutes(5);
    let told = |tenths| {
        let mut day = Day::new(vec![claims.clone(), task("t", vec![hard("s")])]);
        day.done(0, "s");
        assert_eq!((day.sent(), day.asked()), (vec![], (vec!["s"], 0)), "the warehouse is asked before t is");
        // It may lag behind.
        day.hear(1, observed("s", 1, tenths));
        let early = day.effects.iter().any(|effect| matches!(effect, Effect::Alert(_)));
        assert!(!early, "{:?}", day.effects);
        day.hear(5, observed("s", 5, tenths));
        let raised = day.effects.into_iter().filter_map(|effect| match effect {
            Effect::Alert(alert) if alert.turn == Turn::Raised => Some((alert.key.to_string(), alert.severity)),
            _ => None,
        });
        raised.filter(|(key, _)| key.starts_with("phantom") || key.starts_with("contradicted")).collect::<Vec<_>>()
    };
    assert_eq!(told(10), []);
    assert_eq!(told(5), [("contradicted:s:laws/2026-01-22".to_owned(), Severity::Warning)]);
    assert_eq!(told(0), [("phantom-success:s:laws/2026-01-22".to_owned(), Severity::Critical)]);
}

#[test]
fn a_check_is_asked_for_once_until_it_is_answered_and_again_once_per_interval_while_it_stops_the_node() {
    let least = |least| PerMille::new(least).unwrap();
    let check =
        Check { id: "enough".into(), warn_below: least(900), block_below: least(500), unanswered: Unanswered::Block };
    let mut checked = task("t", vec![hard("s")]);
    checked.expects.checks = vec![check];
    let answer = |minute: i64, tenths| {
        let answer = Coverage::new(tenths, 10).map_or(CheckAnswer::Unknown, CheckAnswer::Share);
        Event::Checked(Checked { node: "t".into(), check: "enough".into(), answer, at: at(minute * 60) })
    };
    let mut day = Day::new(vec![source("s"), checked]);
    let every = 120;
    day.done(0, "s");
    assert_eq!((day.sent(), day.asked().1), (vec![], 1));
    day.hear(1, Event::Tick);
    assert_eq!((day.sent(), day.asked().1), (vec![], 0));
    day.hear(2, answer(2, 4));
    assert_eq!((day.sent(), day.asked().1), (vec![], 0), "too little");
    day.hear(every - 1, Event::Tick);
    assert_eq!(day.asked().1, 0);
    day.hear(every, Event::Tick);
    assert_eq!(day.asked().1, 1);
    day.hear(every + 1, answer(every + 1, 5));
    assert_eq!(day.sent().len(), 1, "enough");
}

/// Of a hold and a resume that were asked for at the same instant, the one that comes last counts.
#[test]
fn the_last_word_of_one_instant_counts() {
    let asked = |command| {
        let id = format!("{command:?}").as_str().into();
        Event::Requested(Request { id, actor: "operator".into(), reason: "law".into(), at: at(60), command })
    };
    let hold = || asked(Command::Hold { node: Some("s".into()), until: None });
    let resume = || asked(Command::Resume { node: Some("s".into()) });
    for (words, is_held) in [([hold(), resume()], false), ([resume(), hold()], true)] {
        let mut day = Day::new(vec![source("s")]);
        for word in words {
            day.hear(1, word);
        }
        assert_eq!(day.partition.node(&"s".into()).hold.is_some(), is_held);
    }
}

/// A failure is told of until it is overcome, and what has no attempt left says what a person can do.
#[test]
fn a_failure_is_told_of_until_it_is_overcome_and_its_end_says_what_to_do() {
    let fails = |minute: i64| match completed("t", minute) {
        Event::Completed(all) => Event::Completed(Completed { outcome: Outcome::Failed("no".into()), ..all }),
        other => other,
    };
    let told = |day: &Day| {
        let told = day.effects.iter().filter_map(|effect| match effect {
            Effect::Alert(alert) if alert.key.as_str().starts_with("failed:t:") => Some(alert.turn),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let commands = |day: &Day, minute: i64| {
        let view = view(&day.graph, &day.partition, Now::caught_up(at(minute * 60)));
        let why = why(&view, &"t".into()).unwrap();
        remedies(&view, &why).into_iter().map(|remedy| remedy.command).collect::<Vec<_>>()
    };
    let retry = "tipoff retry 2026-01-22 t --reason …".to_owned();
    let mut unprobed = task("t", vec![hard("s")]);
    unprobed.probed = false;
    let mut day = Day::new(vec![source("s"), unprobed]);
    day.done(0, "s");
    day.hear(1, fails(1));
    assert_eq!(told(&day), [Turn::Raised]);
    assert!(!commands(&day, 1).contains(&retry), "it is tried again by itself");
    day.hear(30, Event::Tick);
    day.done(31, "t");
    assert_eq!(told(&day), [Turn::Resolved]);
    let mut day = Day { partition: empty(), ..day };
    day.done(0, "s");
    for minute in [10, 60, 120] {
        day.hear(minute - 1, Event::Tick);
        day.hear(minute, fails(minute));
    }
    assert_eq!(day.partition.node(&"t".into()).state.name(), "exhausted");
    assert!(commands(&day, 120).contains(&retry), "{:?}", commands(&day, 120));
}

/// A name that several passes share means the earliest ahead of its date, and the last once the date is over.
#[test]
fn a_shared_name_means_the_pass_that_is_on() {
    let first = Node { cycle: "same_day".into(), ..source("first") };
    let mut graph = graph(vec![first, source("last")]);
    graph.aliases.insert("both".to_owned(), vec!["first".into(), "last".into()]);
    graph.aliases.insert("late".to_owned(), vec!["last".into()]);
    let means = |name: &str, hours: i64| graph.resolve(name, DATE, at(hours * 3_600)).map(ToString::to_string);
    assert_eq!(means("Both", -24).as_deref(), Some("first"));
    assert_eq!(means("both", 0).as_deref(), Some("last"));
    assert_eq!(means("both", 24).as_deref(), Some("last"));
    assert_eq!(means("late", -24).as_deref(), Some("last"), "there is no other");
    assert_eq!(means("nobody", 0), None);
}

/// What its inputs came for in time, and is never made, is told of once its pass is over.
#[test]
fn what_was_not_made_in_its_pass_was_missed() {
    let told = |inputs: bool| {
        let mut unprobed = task("t", vec![hard("s")]);
        unprobed.probed = false;
        let mut day = Day::new(vec![source("s"), unprobed]);
        let hold = Command::Hold { node: Some("t".into()), until: None };
        let asked =
            Request { id: "hold".into(), actor: "operator".into(), reason: "law".into(), at: at(0), command: hold };
        day.hear(0, Event::Requested(asked));
        if inputs {
            day.done(1, "s");
        }
        // Ten o'clock of the next morning.
        day.hear(22 * 60, Event::Tick);
        assert_eq!(day.partition.node(&"t".into()).state.name(), "expired");
        let is_told = |effect: &Effect| matches!(effect, Effect::Alert(alert) if alert.turn == Turn::Raised && alert.key.as_str().starts_with("missed:t:"));
        day.effects.iter().any(is_told)
    };
    assert!(told(true));
    assert!(!told(false), "nothing had come for it");
}

/// The warehouse is asked before something is called missed; what it counts by then is a word, if it is only that there is
/// none.
#[test]
fn what_the_warehouse_has_none_of_was_missed() {
    let end = 22 * 60;
    let told = |answer: Option<u32>| {
        let mut day = Day::new(vec![source("s"), task("t", vec![hard("s")])]);
        let hold = Command::Hold { node: Some("t".into()), until: None };
        let asked =
            Request { id: "hold".into(), actor: "operator".into(), reason: "law".into(), at: at(0), command: hold };
        day.hear(0, Event::Requested(asked));
        day.done(1, "s");
        day.hear(end, Event::Tick);
        let mut is_on = Vec::new();
        if let Some(tenths) = answer {
            let observed = Observed {
                node: "t".into(),
                coverage: Some(crate::facts::of_ten(tenths)),
                units: BTreeMap::new(),
                at: at((end + 1) * 60),
                not_kept: false,
                actor: None,
            };
            day.hear(end + 1, Event::Observed(observed));
        }
        for minute in [end + 1, end + 2, end + 9] {
            day.hear(minute, Event::Tick);
            is_on.push(day.partition.alerts.keys().any(|key| key.topic() == "missed"));
        }
        is_on
    };
    assert_eq!(told(None), [false, true, true], "it has two minutes to answer");
    assert_eq!(told(Some(0)), [true, true, true]);
    assert_eq!(told(Some(10)), [false, false, false], "it was done, and nobody had said so");
}

/// Who fails for a reason that ends at a clock time waits for that, once for all that fail so; who fails of its inputs waits for
/// others; and who fails for no known reason is tried again.
#[test]
fn a_failure_is_tried_again_when_that_makes_sense() {
    let fails = |node: &str, minute: i64, text: &str| match completed(node, minute) {
        Event::Completed(all) => Event::Completed(Completed { outcome: Outcome::Failed(text.into()), ..all }),
        other => other,
    };
    let class = |name: &str, word: &str, ends| FailureClass { name: name.into(), words: vec![word.to_owned()], ends };
    // The laws begin at noon; the clock of the quota strikes two hours later.
    let clock = ClockTime { at: jiff::civil::time(14, 0, 0, 0), zone: TimeZone::UTC, spread: minutes(10) };
    let day = || {
        let mut day = Day::new(vec![source("s"), task("t", vec![hard("s")]), task("u", vec![hard("s")])]);
        day.graph.failures = vec![
            class("quota", "quota exceeded", Ends::At(clock.clone())),
            class("bad", "bad input", Ends::WithNewInputs),
        ];
        day.done(0, "s");
        assert_eq!(day.sent().len(), 2);
        day
    };
    let told = |day: &Day, turn| {
        let told = day.effects.iter().filter_map(|effect| match effect {
            Effect::Alert(alert) if alert.turn == turn => Some((alert.key.topic().to_owned(), alert.text.clone())),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let mut quota = day();
    quota.hear(1, fails("t", 1, "403 Quota Exceeded"));
    let raised = told(&quota, Turn::Raised);
    let [(topic, text)] = raised.as_slice() else { panic!("{raised:?}") };
    assert_eq!((topic.as_str(), text.starts_with("quota: t cannot work before")), ("quota", true), "{text}");
    quota.hear(2, fails("u", 2, "quota exceeded"));
    assert!(told(&quota, Turn::Raised)[0].1.starts_with("quota: t, u cannot"), "it is told again, with both");
    quota.hear(119, Event::Tick);
    assert_eq!(quota.sent(), [], "the clock has not struck");
    let mut sent = 0;
    for minute in 120..131 {
        quota.hear(minute, Event::Tick);
        sent += quota.sent().len();
    }
    assert_eq!(sent, 2, "within the ten minutes after it");
    quota.done(131, "t");
    assert!(told(&quota, Turn::Resolved).iter().any(|(topic, _)| topic == "quota"), "one success is enough");
    // Its inputs are to blame.
    let mut bad = day();
    bad.done(1, "u");
    bad.hear(2, fails("t", 2, "Bad input: no rows"));
    assert!(told(&bad, Turn::Raised).iter().any(|(topic, _)| topic == "exhausted"), "no try will help");
    for minute in [60, 120, 240] {
        bad.hear(minute, Event::Tick);
        assert_eq!(bad.sent(), [], "the same inputs fail again");
    }
    bad.done(250, "s");
    bad.hear(265, Event::Tick);
    assert!(bad.sent().iter().any(|(node, cause, _)| (*node, *cause) == ("t", Cause::InputsNewer)), "{:?}", bad.sent());
    // Nobody knows why.
    let mut unknown = day();
    unknown.done(1, "u");
    unknown.hear(2, fails("t", 2, "503"));
    unknown.hear(60, Event::Tick);
    assert_eq!(unknown.sent(), [("t", Cause::Failed, false)]);
}

fn raised<'d>(day: &'d Day, topic: &str) -> Vec<(Severity, &'d str)> {
    let raised = day.effects.iter().filter_map(|effect| match effect {
        Effect::Alert(alert) if alert.turn == Turn::Raised && alert.key.topic() == topic => {
            Some((alert.severity, alert.text.as_str()))
        }
        _ => None,
    });
    raised.collect()
}

/// A join opens when all have come, or when so many have and the time of their tier is over; never without who is critical.
#[test]
fn a_join_opens_by_its_tiers() {
    let day = |critical: &[&str]| {
        let tiers = [(3, 0), (2, 30)].map(|(count, after)| Tier { count, after: minutes(after) }).to_vec();
        let kind = Kind::Gate(Gate { critical: critical.iter().map(|id| (*id).into()).collect(), quorum: tiers });
        let gate = Node { kind, probed: false, ..task("g", vec![hard("a"), hard("b"), hard("c")]) };
        Day::new(vec![source("a"), source("b"), source("c"), gate, task("t", vec![hard("g")])])
    };
    let sent = |degraded| vec![("t", Cause::DependenciesMet, degraded)];
    let mut all = day(&[]);
    for (minute, node) in [(0, "a"), (5, "b")] {
        all.done(minute, node);
        assert_eq!(all.sent(), []);
    }
    all.done(10, "c");
    assert_eq!((all.sent(), raised(&all, "quorum")), (sent(false), vec![]));
    // Two of three, once half an hour is over since the first.
    let mut two = day(&[]);
    two.done(0, "a");
    two.done(10, "b");
    two.hear(29, Event::Tick);
    assert_eq!(two.sent(), []);
    let why_not = why(&view(&two.graph, &two.partition, Now::caught_up(at(29 * 60))), &"t".into()).unwrap();
    assert_eq!(why_not.because[0].text, "g: 2 of 3, missing c; next tier at 2026-01-22 12:30:00Z");
    two.hear(30, Event::Tick);
    assert_eq!(two.sent(), sent(true));
    assert_eq!(raised(&two, "quorum"), [(Severity::Warning, "g goes on with 2 of 3: c missing")]);
    // One is too few whatever the time; the second opens it at once then.
    let mut late = day(&[]);
    late.done(0, "a");
    late.hear(30, Event::Tick);
    assert_eq!(late.sent(), []);
    late.done(40, "b");
    assert_eq!(late.sent(), sent(true));
    let mut critical = day(&["c"]);
    critical.done(0, "a");
    critical.done(10, "b");
    critical.hear(60, Event::Tick);
    assert_eq!(critical.sent(), []);
    assert_eq!(raised(&critical, "impossible"), [], "c may still come");
    critical.done(70, "c");
    assert_eq!(critical.sent(), sent(false));
    // What an operator skips counts as come.
    let mut skipped = day(&["c"]);
    skipped.done(0, "a");
    let skip = Command::Skip { node: "c".into() };
    let skip = Request { id: "skip".into(), actor: "ann".into(), reason: "law".into(), at: at(60), command: skip };
    skipped.hear(1, Event::Requested(skip));
    assert_eq!(skipped.sent(), []);
    skipped.done(2, "b");
    assert_eq!(skipped.sent(), sent(true));
}

/// Runs that begin over and over are told of when there are more than many, again when there are too many, and again whenever
/// they have doubled; and it is over well below where it began.
#[test]
fn a_storm_is_told_of_as_it_grows_and_is_over_once_it_has_abated() {
    let mut often = source("s");
    often.liveness.storm = Some(Storm { warn_above: 4, critical_above: 6 });
    let mut day = Day::new(vec![often]);
    let mut told = Vec::new();
    for minute in 0..14 {
        day.done(minute, "s");
        told.extend(raised(&day, "storm").into_iter().map(|(severity, _)| (minute + 1, severity)));
    }
    assert_eq!(told, [(5, Severity::Warning), (7, Severity::Critical), (13, Severity::Critical)]);
    let over = (60..90).find(|minute| {
        day.hear(*minute, Event::Tick);
        assert_eq!(raised(&day, "storm"), [], "it abates");
        day.effects.iter().any(|effect| matches!(effect, Effect::Alert(alert) if alert.key.topic() == "storm"))
    });
    // Counted in spans of ten minutes: until then four of the fourteen are left, and then none is.
    assert_eq!(over, Some(80));
}
