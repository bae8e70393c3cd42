//! What may become of a dead letter, whatever operators, crashes and brokers do to it, and when its work is still wanted.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tipoff::domain::dead_letter::{
    About, Again, Cause, Discarded, Kind, Letter, REPLAYS_MAX, Reader, Refusal, Says, Stage, Standing, VERSIONS_MAX,
    Version, letter_of, standing,
};
use tipoff::domain::decide::decide;
use tipoff::domain::event::Event;
use tipoff::domain::graph::Graph;
use tipoff::domain::id::{Attempt, LetterId, PartitionKey, RunId};
use tipoff::domain::partition::Partition;
use tipoff::domain::time::{Now, after};

use crate::facts::came;
use crate::graphs::{at, graph, hard, source, task};

fn version(actor: Option<&str>) -> Version {
    Version { at: at(0), actor: actor.map(str::to_owned), reason: None, size: 2, is_whole: true }
}

fn letter() -> Letter {
    Letter {
        id: LetterId::from("0123456789abcdef"),
        kind: Kind::Dead,
        topic: Some("done".into()),
        subscription: Some("theirs".into()),
        message_id: "7".into(),
        published: at(0),
        at: at(0),
        attempts: 5,
        reason: "503".into(),
        cause: Cause { fingerprint: "ab".into(), words: "theirs: 503".into() },
        about: About::default(),
        versions: vec![version(None)],
        replays: Vec::new(),
        discarded: None,
        again_at: None,
    }
}

/// What may happen to a letter.
#[derive(Clone, Debug)]
enum Happens {
    Asked(Again),
    Sent,
    CameBack { nth: usize, is_ours: bool },
    Corrected,
    Discarded,
    Again,
    TakenOver,
    Withdrawn,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => prop_oneof![Just(Again::Allowed), Just(Again::Refused)].prop_map(Happens::Asked),
        4 => Just(Happens::Sent),
        3 => (0..4usize, any::<bool>()).prop_map(|(nth, is_ours)| Happens::CameBack { nth, is_ours }),
        2 => Just(Happens::Corrected),
        1 => Just(Happens::Discarded),
        1 => Just(Happens::Again),
        1 => Just(Happens::TakenOver),
        1 => Just(Happens::Withdrawn),
    ]
}

/// The digest of the message of the replay with that execution id.
fn digest(execution: &RunId) -> String {
    format!("digest of {execution}")
}

fn apply(letter: &mut Letter, what: &Happens, now: Timestamp) -> Result<(), Refusal> {
    match what {
        Happens::Asked(again) => {
            let digest = digest(&letter.next_execution());
            letter.ask(*again, ("ann", None), digest, now)
        }
        Happens::Sent => {
            letter.sent(now);
            Ok(())
        }
        Happens::CameBack { nth, is_ours } => {
            if let Some(replay) = letter.replays.get(*nth).cloned() {
                let digest = if *is_ours { replay.digest } else { "somebody's".to_owned() };
                let before = letter.clone();
                assert_eq!(letter.came_back(&replay.execution, &digest, now), *is_ours);
                assert!(*is_ours || *letter == before, "a stranger's message changed a letter");
                let once = letter.clone();
                letter.came_back(&replay.execution, &digest, after(now, SignedDuration::from_secs(1)));
                assert_eq!(*letter, once, "told twice, it is once");
            }
            Ok(())
        }
        Happens::Corrected => letter.correct(version(Some("ann"))),
        Happens::Discarded => letter.discard(Discarded { actor: "ann".into(), reason: "seen".into(), at: now }),
        Happens::Again => {
            let was_open = letter.stage().is_open();
            let is_news = letter.came_again(now);
            assert!(!is_news || !was_open, "what waits is not opened again");
            assert!(!is_news || letter.stage() == Stage::Waiting && letter.settled_at().is_none());
            assert!(!letter.came_again(now), "told twice, it is once");
            Ok(())
        }
        Happens::TakenOver => {
            letter.take_over(now);
            Ok(())
        }
        Happens::Withdrawn => {
            letter.withdraw();
            Ok(())
        }
    }
}

proptest! {
    #[test]
    fn a_letter_is_replayed_three_times_at_most_and_each_replay_has_a_name_of_its_own(
        story in prop::collection::vec((0..60i64, happens()), 0..60)
    ) {
        let (mut letter, mut now) = (letter(), at(0));
        for (gap, what) in story {
            now = after(now, SignedDuration::from_secs(gap));
            let before = letter.clone();
            let done = apply(&mut letter, &what, now);
            if done.is_err() {
                prop_assert_eq!(&letter, &before, "what is refused changes nothing");
            }
            prop_assert!(letter.replays.len() <= REPLAYS_MAX);
            prop_assert!(letter.versions.len() <= VERSIONS_MAX);
            let names: BTreeSet<&RunId> = letter.replays.iter().map(|replay| &replay.execution).collect();
            prop_assert_eq!(names.len(), letter.replays.len());
            for replay in &letter.replays {
                prop_assert_eq!(letter_of(replay.execution.as_str()), Some(letter.id.clone()));
                prop_assert!(letter.versions.len() > replay.version, "it says what a version says");
            }
            // Nothing is asked for beside another replay, and what has left never becomes something that has not.
            let unsent = letter.replays.iter().filter(|replay| replay.sent_at.is_none()).count();
            prop_assert!(unsent <= 1);
            for (was, is) in before.replays.iter().zip(&letter.replays).filter(|(was, _)| was.sent_at.is_some()) {
                prop_assert_eq!(was.sent_at, is.sent_at);
                prop_assert_eq!((&was.execution, &was.digest), (&is.execution, &is.digest));
            }
            prop_assert_eq!(letter.stage().is_open(), letter.settled_at().is_none());
            if before.stage() == Stage::Discarded && !matches!(what, Happens::Again) {
                prop_assert_eq!(letter.stage(), Stage::Discarded, "nothing else brings it back");
            }
            prop_assert_eq!(&letter.versions[0], &before.versions[0], "as it came, it is kept");
        }
    }

    #[test]
    fn what_was_recorded_is_its_recorders_alone_for_a_while_and_then_anybodys(seconds in 0..120i64) {
        let mut letter = letter();
        letter.ask(Again::Refused, ("ann", None), "digest".into(), at(0)).unwrap();
        let now = after(at(0), SignedDuration::from_secs(seconds));
        prop_assert_eq!(letter.left_over(now).is_some(), seconds >= 30);
        let execution = letter.replays[0].execution.clone();
        prop_assert_eq!(letter.take_over(now), seconds >= 30);
        prop_assert!(!letter.take_over(now), "of two who find it, one has it");
        prop_assert_eq!(&letter.replays[0].execution, &execution, "under the same name");
    }
}

fn small() -> Graph {
    graph(vec![source("s"), task("t", vec![hard("s")])])
}

fn told(graph: &Graph, node: &str, run: &str, partition: &Partition) -> Partition {
    decide(graph, partition, &[Event::Completed(came(node, run))], Now::caught_up(at(0))).unwrap().next
}

#[test]
fn a_letter_is_wanted_until_its_work_is_done() {
    let graph = small();
    let key = PartitionKey::new(graph.pipeline.clone(), jiff::civil::date(2026, 1, 22));
    let empty = Partition::new(key.clone());
    let heard = told(&graph, "s", "r1", &empty);
    let done = told(&graph, "t", "r2", &heard);
    let about = |node: &str, says, run: Option<&str>, attempt: Option<u32>| About {
        pipeline: Some(key.pipeline.clone()),
        date: Some(key.date),
        node: Some(node.into()),
        run: run.map(Into::into),
        dispatch: attempt.map(|attempt| Attempt { run: 1, attempt }.dispatch_id(&key, &node.into())),
        says,
    };
    let (us, others) = (Reader::Us, Reader::Others);
    let table = [
        // A report is wanted by us until we know it, and by others until they have made something of it.
        (&empty, about("s", Says::Reports, Some("r1"), None), us, "wanted"),
        (&heard, about("s", Says::Reports, Some("r1"), None), us, "unneeded"),
        (&heard, about("s", Says::Reports, Some("other"), None), us, "unneeded"),
        (&heard, about("s", Says::Reports, Some("r1"), None), others, "wanted"),
        (&done, about("s", Says::Reports, Some("r1"), None), others, "unneeded"),
        // Nothing is made of the last one's report.
        (&heard, about("t", Says::Reports, Some("r2"), None), others, "wanted"),
        (&done, about("t", Says::Reports, Some("r2"), None), others, "unneeded"),
        // Work is wanted until somebody is at it or has done it. After the source was heard, it was asked for once.
        (&empty, about("t", Says::Asks, None, None), others, "wanted"),
        (&heard, about("t", Says::Asks, None, Some(1)), others, "wanted"),
        (&heard, about("t", Says::Asks, None, Some(0)), others, "unneeded"),
        (&done, about("t", Says::Asks, None, Some(1)), others, "unneeded"),
        (&empty, about("s", Says::Beats, Some("r1"), None), us, "unneeded"),
        (&empty, about("nobody", Says::Asks, None, None), others, "unclear"),
        (&empty, about("s", Says::Unclear, None, None), others, "unclear"),
    ];
    for (partition, about, reader, expected) in table {
        let found = standing(&graph, partition, &about, reader);
        assert_eq!(found.as_str(), expected, "{about:?} of {reader:?}: {found:?}");
        assert!(!found.why().is_empty());
    }
    let nothing = About { node: None, ..about("s", Says::Asks, None, None) };
    assert!(matches!(standing(&graph, &done, &nothing, others), Standing::Unclear(_)));
}

/// How a letter comes from one stage to the next, and what is refused meanwhile, by whom it is done.
#[test]
fn a_letter_goes_from_stage_to_stage() {
    let seen =
        |actor: &str, reason: &str, second| Discarded { actor: actor.into(), reason: reason.into(), at: at(second) };
    let mut letter = letter();
    assert_eq!((letter.stage(), letter.settled_at()), (Stage::Waiting, None));
    letter.ask(Again::Refused, ("ann", None), "d".into(), at(1)).unwrap();
    let busy = Refusal::UnderWay("ann".to_owned());
    assert_eq!((letter.stage(), letter.may_replay(Again::Allowed)), (Stage::Asked, Err(busy.clone())));
    assert_eq!(letter.correct(version(None)), Err(busy.clone()));
    assert_eq!(letter.discard(seen("bob", "seen", 2)), Err(busy));
    // Its time begins when its message is about to leave.
    letter.begins(at(40));
    assert!(letter.left_over(at(69)).is_none() && letter.left_over(at(70)).is_some());
    letter.sent(at(50));
    assert_eq!((letter.stage(), letter.settled_at()), (Stage::Replayed, Some(at(50))));
    letter.withdraw();
    assert_eq!(letter.replays.len(), 1, "what has left is not withdrawn");
    assert_eq!(letter.may_replay(Again::Refused), Err(Refusal::Replayed));
    assert_eq!(letter.may_replay(Again::Allowed), Ok(()));
    assert_eq!(letter.correct(version(None)), Err(Refusal::Replayed));
    // What came to nothing waits again, and says so once.
    letter.returned(at(60));
    letter.returned(at(61));
    assert_eq!((letter.stage(), letter.replays[0].returned_at), (Stage::Waiting, Some(at(60))));
    letter.correct(version(Some("ann"))).unwrap();
    assert_eq!(letter.latest(), 1);
    letter.ask(Again::Refused, ("ann", None), "e".into(), at(70)).unwrap();
    letter.withdraw();
    assert_eq!((letter.stage(), letter.replays.len()), (Stage::Waiting, 1));
    letter.ask(Again::Refused, ("ann", None), "e".into(), at(70)).unwrap();
    assert_eq!(letter.replays[1].version, 1);
    letter.sent(at(71));
    letter.discard(seen("bob", "seen", 80)).unwrap();
    assert_eq!((letter.stage(), letter.settled_at()), (Stage::Discarded, Some(at(80))));
    // The same words are the same decision; others are another.
    assert_eq!(letter.discard(seen("bob", "seen", 90)), Ok(()));
    assert_eq!(letter.settled_at(), Some(at(80)));
    let gone = Refusal::Discarded("bob".to_owned());
    assert_eq!(letter.discard(seen("eve", "seen", 90)), Err(gone.clone()));
    assert_eq!(letter.discard(seen("bob", "other", 90)), Err(gone.clone()));
    assert_eq!((letter.may_replay(Again::Allowed), letter.correct(version(None))), (Err(gone.clone()), Err(gone)));
    // Published before it was laid aside it is what was laid aside, and afterwards it waits once more.
    assert!(!letter.came_again(at(80)));
    assert_eq!((letter.stage(), letter.again_at), (Stage::Discarded, None));
    assert!(letter.came_again(at(81)));
    assert_eq!((letter.stage(), letter.settled_at()), (Stage::Waiting, None));
    letter.discard(seen("eve", "again", 95)).unwrap();
    assert_eq!((letter.stage(), letter.settled_at()), (Stage::Discarded, Some(at(95))));
    let mut replayed = Letter { discarded: None, again_at: None, ..letter };
    assert_eq!((replayed.stage(), replayed.settled_at()), (Stage::Replayed, Some(at(71))));
    assert!(!replayed.came_again(at(71)) && replayed.came_again(at(72)));
    assert_eq!(replayed.stage(), Stage::Waiting);
    for (kind, word) in [(Kind::Dead, "dead"), (Kind::Parked, "parked"), (Kind::Undeliverable, "undeliverable")] {
        assert_eq!(kind.as_str(), word);
    }
    // Of what is not whole only an effect can be sent again, which is kept elsewhere.
    let cut = Version { is_whole: false, ..version(None) };
    for (kind, expected) in
        [(Kind::Dead, Err(Refusal::NotWhole)), (Kind::Parked, Err(Refusal::NotWhole)), (Kind::Undeliverable, Ok(()))]
    {
        let letter = Letter { kind, versions: vec![cut.clone()], ..self::letter() };
        assert_eq!(letter.may_replay(Again::Refused), expected);
    }
}

/// What is made of a report is named, three at most.
#[test]
fn what_a_report_is_wanted_for_is_named() {
    let tasks = (0..15).map(|nth| task(&format!("t{nth:02}"), vec![hard("s")]));
    let key = PartitionKey::new("laws", jiff::civil::date(2026, 1, 22));
    let about = About { node: Some("s".into()), says: Says::Reports, ..About::default() };
    let why = |count| {
        let graph = graph(std::iter::once(source("s")).chain(tasks.clone().take(count)).collect());
        standing(&graph, &Partition::new(key.clone()), &about, Reader::Others).why().to_owned()
    };
    assert_eq!(why(2), "what is made from s is not there: t00, t01");
    let named = |text: &str| text.matches("t0").count() + text.matches("t1").count();
    let all = why(15);
    let more: usize = all.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert_eq!(named(&all) + more, 15, "{all}");
    let exact = why(named(&all));
    assert!(!exact.contains("more") && named(&exact) == named(&all), "{exact}");
}

/// The words for the stages of a letter.
#[test]
fn each_stage_has_its_word() {
    let stages = [Stage::Waiting, Stage::Asked, Stage::Replayed, Stage::Discarded];
    assert_eq!(stages.map(Stage::as_str), ["waiting", "asked", "replayed", "discarded"]);
    assert_eq!(stages.map(Stage::is_open), [true, true, false, false]);
}

/// Work of a pass that is over is not wanted, and why is that another pass has done it, or that nobody needs it any more. What was
/// asked of another node is no earlier request.
#[test]
fn work_of_a_pass_that_is_over_is_not_wanted() {
    let of = small();
    let late = tipoff::domain::graph::Node { cycle: "same_day".into(), ..task("late", vec![hard("s")]) };
    let nodes = of.nodes.clone().into_iter().chain([("late".into(), late)]).collect();
    let order = of.order.iter().cloned().chain(["late".into()]).collect();
    let aliases = std::collections::BTreeMap::from([("producer".to_owned(), vec!["late".into(), "t".into()])]);
    let graph = Graph::new(of.pipeline, 1, of.zone, nodes, order, of.cycles, aliases, of.limits);
    let key = PartitionKey::new(graph.pipeline.clone(), jiff::civil::date(2026, 1, 22));
    let asks = |attempt: u32, node: &str| About {
        pipeline: Some(key.pipeline.clone()),
        date: Some(key.date),
        node: Some("t".into()),
        run: None,
        dispatch: Some(Attempt { run: 1, attempt }.dispatch_id(&key, &node.into())),
        says: Says::Asks,
    };
    let why = |date: &Partition, about: &About| {
        let found = standing(&graph, date, about, Reader::Others);
        (found.as_str().to_owned(), found.why().to_owned())
    };
    let mut date = Partition::new(key.clone());
    let t = crate::facts::facts(&mut date, "t");
    (t.state, t.attempt) = (tipoff::domain::partition::State::Expired { at: at(0) }, Attempt { run: 1, attempt: 1 });
    let over = "its pass over the date ended at 2026-01-22 12:00:00Z".to_owned();
    assert_eq!(why(&date, &asks(1, "t")), ("unneeded".to_owned(), over));
    crate::facts::facts(&mut date, "late").state = tipoff::domain::partition::State::Succeeded { at: at(0) };
    let made = "another pass over the date has made what t would".to_owned();
    assert_eq!(why(&date, &asks(1, "t")), ("unneeded".to_owned(), made));
    let t = crate::facts::facts(&mut date, "t");
    t.state = tipoff::domain::partition::State::Dispatched { at: at(0) };
    assert_eq!(["t", "late"].map(|node| why(&date, &asks(0, node)).0), ["unneeded", "wanted"]);
}
