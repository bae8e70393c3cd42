//! `tipoff dlq` on a prepared store: what is shown, what is refused, and what is done only with `--apply`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tipoff::adapter::embedded::{Durability, Embedded};
use tipoff::domain::dead_letter::Letter;
use tipoff::domain::id::LetterId;
use tipoff::port::Store as _;
use tipoff::wire::letter;

use super::run;
use crate::running::{Running, completion};

struct Desk {
    home: tempfile::TempDir,
}

fn today() -> String {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    zone.to_datetime(tipoff::clock::Clock::System.now()).date().to_string()
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        drop(Embedded::open(&desk.data(), Durability::Off).unwrap());
        desk
    }

    fn data(&self) -> std::path::PathBuf {
        self.home.path().join("data")
    }

    /// A letter of the scrapers' topic that says this, given up on by the raw processors.
    fn letter(&self, id: &str, reason: &str, body: &[u8]) {
        let at = tipoff::clock::Clock::System.now();
        let letter: Letter = serde_json::from_value(json!({
            "id": id, "kind": "dead", "topic": "nba-phase1-scrapers-complete", "subscription": "nba-phase2-raw-sub",
            "message_id": "7", "published": at, "at": at, "attempts": 5, "reason": reason,
            "cause": letter::cause("nba-phase2-raw-sub", reason),
            "about": { "pipeline": null, "date": null, "node": null, "run": null, "dispatch": null, "says": "unclear" },
            "versions": [{ "at": at, "actor": null, "reason": null, "size": body.len(), "is_whole": true }],
        }))
        .unwrap();
        let content = (body.to_vec(), BTreeMap::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = Embedded::open(&self.data(), Durability::Off).unwrap();
        assert!(runtime.block_on(store.keep_letter(&letter, 0, Some(content))).unwrap());
    }

    fn kept(&self, id: &str) -> Letter {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = Embedded::open(&self.data(), Durability::Off).unwrap();
        runtime.block_on(store.letter(&LetterId::from(id))).unwrap().unwrap().0
    }

    fn dlq(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        run(&[&["dlq"], arguments, &["--data", self.data().to_str().unwrap()]].concat())
    }

    fn file(&self, body: &Value) -> String {
        let path = self.home.path().join("fixed.json");
        std::fs::write(&path, body.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn scraped(run: &str) -> Value {
    json!({ "scraper_name": "nbac_gamebook_pdf", "execution_id": run, "game_date": today(), "status": "success" })
}

#[test]
fn letters_are_listed_by_cause_and_shown_harmlessly() {
    let desk = Desk::new();
    let (code, said, _) = desk.dlq(&["list"]);
    assert_eq!((code, said.as_str()), (Some(0), "no letters that wait\n"));
    for number in 0..3 {
        let body = scraped(&format!("r{number}")).to_string();
        desk.letter(&format!("aa{number}0"), &format!("503 instance {number}4711"), body.as_bytes());
    }
    desk.letter("bb00", "500 \u{1b}[31mred\u{202e}gnp", "{\"a\": \"\u{1b}]0;owned\u{7}\u{202e}\"".as_bytes());
    let (code, said, _) = desk.dlq(&["list"]);
    assert_eq!(code, Some(1), "some wait");
    assert!(said.starts_with("4 letters that wait, of 2 causes\n"), "{said}");
    assert!(said.contains("3  ") && said.contains("nba-phase2-raw-sub: 503 instance #"), "{said}");
    assert!(said.contains("wanted: what is made from nbac_gamebook_pdf is not there"), "{said}");
    let (_, shown, _) = desk.dlq(&["show", "bb"]);
    let odd = |text: &str| text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}'));
    assert!(!odd(&said) && !odd(&shown), "what came from outside reaches the terminal as it is: {shown:?}");
    let (code, json, _) = desk.dlq(&["show", "aa1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, &json["id"], &json["stage"], &json["standing"]),
        (Some(0), &json!("aa10"), &json!("waiting"), &json!("wanted"))
    );
    assert_eq!(serde_json::from_str::<Value>(json["versions"][0]["body"].as_str().unwrap()).unwrap(), scraped("r1"));
    for (arguments, words) in [
        (&["show", "zz"][..], "there is no letter `zz`"),
        (&["show", "aa"], "3 letters begin with `aa`"),
        (&["list", "--topic", "nba-phase1-scraper-complete"], "did you mean"),
        (&["replay"], "say which letters"),
        (&["replay", "aa10", "--topic", "nba-phase1-scrapers-complete"], "not both"),
        (&["list", "--older-than", "soon"], "--older-than"),
    ] {
        let (code, _, errors) = desk.dlq(arguments);
        assert!(code == Some(2) && errors.contains(words), "{arguments:?}: {code:?} {errors}");
    }
}

#[test]
fn a_replay_is_dry_until_it_is_applied_and_refused_after_the_third() {
    let desk = Desk::new();
    desk.letter("aa10", "503", scraped("r1").to_string().as_bytes());
    let (code, said, _) = desk.dlq(&["replay", "aa10"]);
    assert_eq!(code, Some(0));
    assert!(said.starts_with("1 ready\n") && said.contains("reaches nba-phase2-raw-processors: 1 message"), "{said}");
    assert!(said.contains("nbac_gamebook_pdf: waiting → succeeded") && said.contains("nothing was done"), "{said}");
    assert!(desk.kept("aa10").replays.is_empty(), "a dry run has changed something");

    let (code, _, errors) = desk.dlq(&["list", "--after", "garbage"]);
    assert_eq!((code, errors.contains("--after garbage")), (Some(2), true), "{errors}");
    let (code, said, _) = desk.dlq(&["list", "--no-such-thing", "--json"]);
    assert_eq!((code, said.contains("\"code\":2")), (Some(2), true), "{said}");
    let (code, said, errors) = desk.dlq(&["replay", "aa10", "--apply", "--reason", "it is back", "--actor", "ann"]);
    assert_eq!((code, said.as_str()), (Some(0), "1 replayed\n"), "{errors}");
    let kept = desk.kept("aa10");
    assert_eq!((kept.replays[0].execution.as_str(), kept.replays[0].actor.as_str()), ("replay-aa10-1", "ann"));
    let (code, said, _) = desk.dlq(&["replay", "aa10", "--apply", "--reason", "it is back"]);
    assert!(code == Some(1) && said.contains("replayed already"), "{said}");
    for _ in 0..2 {
        assert_eq!(desk.dlq(&["replay", "aa10", "--apply", "--reason", "it is back", "--force"]).0, Some(0));
    }
    let (code, said, _) = desk.dlq(&["replay", "aa10", "--apply", "--reason", "it is back", "--force"]);
    assert!(code == Some(1) && said.contains("replayed 3 times"), "{said}");
    let (_, said, _) = desk.dlq(&["show", "aa10"]);
    assert!(said.contains("replay replay-aa10-3") && said.contains("it is back"), "{said}");
}

#[test]
fn what_is_held_is_not_replayed_whoever_insists() {
    let desk = Desk::new();
    desk.letter("aa10", "503", scraped("r1").to_string().as_bytes());
    let data = desk.data();
    let at = |arguments: &[&str]| run(&[arguments, &["--data", data.to_str().unwrap()]].concat()).0;
    assert_eq!(at(&["hold", "all", "--reason", "services are deployed", "--actor", "ann"]), Some(0));
    let (code, said, _) = desk.dlq(&["replay", "aa10", "--force", "--apply", "--reason", "it is back"]);
    assert!(code == Some(1) && said.contains("services are deployed"), "{said}");
    assert!(desk.kept("aa10").replays.is_empty());
    assert_eq!(at(&["resume", "all", "--reason", "done"]), Some(0));
    assert_eq!(desk.dlq(&["replay", "aa10", "--apply", "--reason", "it is back"]).0, Some(0));
}

#[test]
fn a_letter_is_corrected_and_both_versions_are_kept() {
    let desk = Desk::new();
    desk.letter("cc10", "400", b"{\"scraper_name\": oops");
    let (code, said, _) = desk.dlq(&["replay", "cc10", "--force"]);
    assert!(
        code == Some(1) && said.contains("not JSON"),
        "what takes no field is not sent, whatever anybody says: {said}"
    );
    let (code, _, errors) = desk.dlq(&["correct", "cc10", "--with", "no-such-file", "--reason", "r"]);
    assert!(code == Some(2) && errors.contains("no-such-file"), "{errors}");
    let (code, _, errors) = desk.dlq(&["correct", "cc10", "--with", &desk.file(&json!([1])), "--reason", "r"]);
    assert!(code == Some(2) && errors.contains("not an object"), "{errors}");
    let file = desk.file(&scraped("fixed"));
    let (code, said, _) = desk.dlq(&["replay", "cc10", "--with", &file]);
    assert!(code == Some(0) && said.contains("1 ready"), "{said}");
    assert_eq!(desk.kept("cc10").versions.len(), 1, "a dry run has changed something");
    let (code, said, _) =
        desk.dlq(&["replay", "cc10", "--with", &file, "--apply", "--reason", "it is back", "--actor", "ann"]);
    assert_eq!((code, said.as_str()), (Some(0), "1 replayed\n"));
    let kept = desk.kept("cc10");
    assert_eq!((kept.versions.len(), kept.replays[0].version), (2, 1));
    let (_, said, _) = desk.dlq(&["show", "cc10"]);
    assert!(
        said.contains("version 0, as it came") && said.contains("version 1, by ann") && said.contains("oops"),
        "{said}"
    );
    // The date has taken it as the run that it was.
    let (_, said, _) = run(&["timeline", "today", "--json", "--data", desk.data().to_str().unwrap()]);
    assert!(said.contains("\"fixed\""), "{said}");
}

#[test]
fn what_is_done_is_left_and_what_is_discarded_needs_a_reason() {
    let desk = Desk::new();
    desk.letter("aa10", "503", scraped("r1").to_string().as_bytes());
    desk.letter("dd10", "503", b"{}");
    assert_eq!(desk.dlq(&["replay", "aa10", "--apply", "--reason", "it is back"]).0, Some(0));
    let beat = json!({ "processor_name": "x", "run_id": "b", "data_date": today(), "status": "running" });
    desk.letter("ee10", "503", beat.to_string().as_bytes());
    let (code, said, _) = desk.dlq(&["replay", "--every"]);
    assert!(code == Some(1) && said.starts_with("2 unclear\n"), "{said}");
    let (code, _, errors) = desk.dlq(&["discard", "dd10", "--apply"]);
    assert!(code == Some(2) && errors.contains("--reason"), "{errors}");
    let (code, said, _) = desk.dlq(&["discard", "--standing", "unclear", "--reason", "nobody knows"]);
    assert!(code == Some(0) && said.starts_with("2 would be discarded"), "{said}");
    assert!(desk.kept("dd10").discarded.is_none());
    let arguments = ["discard", "--standing", "unclear", "--reason", "nobody knows", "--actor", "ann", "--apply"];
    assert_eq!(desk.dlq(&arguments).1, "2 discarded\n");
    assert_eq!(desk.kept("dd10").discarded.unwrap().reason, "nobody knows");
    let (code, said, _) = desk.dlq(&["list"]);
    assert_eq!((code, said.as_str()), (Some(0), "no letters that wait\n"));
    let (code, said, _) = desk.dlq(&["list", "--all", "--json"]);
    let board: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &board["count"]), (Some(0), &json!(3)));
    let (code, said, _) = desk.dlq(&["replay", "dd10", "--force", "--apply", "--reason", "it is back"]);
    assert!(code == Some(1) && said.contains("discarded by ann"), "{said}");
}

#[tokio::test]
async fn what_would_be_parked_again_is_said_so_and_comes_back_and_may_be_laid_aside() {
    let service = Running::serve(&[]);
    let mut body = completion("PlayerGameSummaryProcessor", "phase_3_analytics", "r1", "success");
    body["status"] = json!("no-such-status");
    assert!(service.publish("nba-phase3-analytics-complete", &body).await.is_success());
    let dlq = |arguments: &[&str]| run(&[&["dlq"], arguments, &["--data", service.data.to_str().unwrap()]].concat());
    let waiting = || -> Value { serde_json::from_str(&dlq(&["list", "--json"]).1).unwrap() };
    let id = waiting()["letters"][0]["id"].as_str().unwrap().to_owned();
    let (code, said, _) = dlq(&["replay", &id]);
    assert!(code == Some(1) && said.contains("tipoff would park it again") && said.contains("is no status"), "{said}");
    for times in 1..=3 {
        let (_, said, errors) = dlq(&["replay", &id, "--force", "--apply", "--reason", "try"]);
        assert!(said.contains("1 replayed"), "{said}{errors}");
        // Nobody could read it: it waits again, and is told of as before.
        let letters = waiting();
        assert_eq!((&letters["count"], &letters["letters"][0]["stage"]), (&json!(1), &json!("waiting")), "{letters}");
        assert_eq!(letters["letters"][0]["replays"].as_array().unwrap().len(), times);
    }
    let (code, said, _) = dlq(&["replay", &id, "--force", "--apply", "--reason", "again"]);
    assert!(code == Some(1) && said.contains("replayed 3 times"), "{said}");
    let (code, said, errors) = dlq(&["discard", &id, "--reason", "its producer is gone", "--apply"]);
    assert!(code == Some(0) && said.contains("1 discarded"), "{said}{errors}");
    assert_eq!(waiting()["count"], 0);
}

#[test]
fn what_was_typed_moves_no_cursor_and_turns_no_text() {
    let evil = "\u{1b}[31mX\u{202e}";
    let desk = Desk::new();
    for arguments in [
        &["dlq", "show", evil][..],
        &["why", evil],
        &["status", evil],
        &["hold", "today", "predictions", "--reason", "x", "--for", evil],
        &["mute", evil, "--for", "1h", "--reason", "x"],
        &["status", "-p", evil],
        &["dlq", "list", "--kind", evil],
        &[evil],
        &["check", "--log", evil],
        &["check", "--config", evil],
    ] {
        let data = desk.data();
        let (code, said, errors) = run(&[arguments, &["--data", data.to_str().unwrap()]].concat());
        assert!(matches!(code, Some(1..=3)), "{arguments:?}: {code:?}");
        assert!(!format!("{said}{errors}").contains(['\u{1b}', '\u{202e}']), "{arguments:?}: {said}{errors}");
        assert!(!errors.is_empty(), "{arguments:?}");
    }
}
