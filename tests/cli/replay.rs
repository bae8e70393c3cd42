//! `show`, `capsule`, `replay`, `impact` on a recorded day: the 23rd of January as the demo plays it, in a store of its own.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The store of a scenario that was played, made once for all tests of this process.
fn kept(scenario: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let file = Path::new(ROOT).join(scenario);
    let (code, said, errors) = run(&["simulate", text(&file), "--keep", text(&folder), "--log", "off"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    folder
}

fn january() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| kept("demo/jan-23.yaml", "january"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a command says of that store.
fn at(arguments: &[&str]) -> (Option<i32>, String, String) {
    run(&[arguments, &["--data", text(january())]].concat())
}

fn json_of(arguments: &[&str]) -> Value {
    let (code, said, errors) = at(&[arguments, &["--json"]].concat());
    // Nobody serves that store any more, which `status` tells by 3.
    assert!(matches!(code, Some(0 | 1 | 3)), "{errors}");
    serde_json::from_str(&said).unwrap()
}

/// A copy of the store in which something was done to its journal.
fn spoilt(sql: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(january()).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let store = rusqlite::Connection::open(folder.path().join("tipoff.db")).unwrap();
    store.execute_batch(sql).unwrap();
    folder
}

fn state_of<'v>(shown: &'v Value, node: &str) -> &'v str {
    let nodes = shown["view"]["nodes"].as_array().unwrap();
    nodes.iter().find(|found| found["node"] == node).unwrap()["state"].as_str().unwrap()
}

#[test]
fn a_date_is_shown_as_it_stood_and_stepped_through() {
    // The stuck run: it beats, is flagged, is fenced and asked for again, and is done.
    for (time, state, alert) in [
        ("2026-01-22T22:05:00Z", "running", None),
        ("17:10", "running", Some("stale:player_game_summary:nba/2026-01-22")),
        ("17:19:30", "dispatched", Some("dead:player_game_summary:nba/2026-01-22")),
        ("2026-01-22T17:25", "succeeded", None),
    ] {
        let shown = json_of(&["show", "2026-01-22", "--at", time]);
        assert_eq!(state_of(&shown, "player_game_summary"), state, "{time}");
        let alerts: Vec<&str> =
            shown["alerts"].as_array().unwrap().iter().filter_map(|alert| alert["key"].as_str()).collect();
        assert_eq!(alerts.first().copied(), alert, "{time}");
        assert_eq!(shown["differs"], Value::Null);
    }
    let (code, said, _) = at(&["show", "2026-01-22", "--at", "17:19:10", "--why", "player_game_summary"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("as it stood at 2026-01-22 22:19:10Z"), "{said}");
    assert!(said.contains("player_game_summary is dispatched (run 1 attempt 2)"), "{said}");

    // The entry that brought it is named with what moved and what was sent.
    let here = json_of(&["show", "2026-01-22", "--at", "17:19:10"])["event"].as_u64().unwrap();
    let brought = (1..=here).rev().find(|event| {
        let shown = json_of(&["show", "2026-01-22", "--event", &event.to_string()]);
        shown["entry"]["effects"].as_array().unwrap().iter().any(|effect| effect["effect"] == "dispatch")
    });
    let (_, said, _) = at(&["show", "2026-01-22", "--event", &brought.unwrap().to_string()]);
    assert!(said.contains("dispatch  nba/2026-01-22/player_game_summary/1/2 because heartbeat_dead"), "{said}");
    assert!(said.contains("moved     player_game_summary: running → dispatched"), "{said}");

    // Steps, forward and back, name the entry they lead to.
    let here = json_of(&["show", "2026-01-22", "--at", "17:19:10"]);
    let event = here["event"].as_u64().unwrap();
    let step = |event: u64, way: &str| json_of(&["show", "2026-01-22", "--event", &event.to_string(), way]);
    assert_eq!(step(event, "--previous")["event"], event - 1);
    assert_eq!(step(event - 1, "--next")["entry"], here["entry"]);
    assert_eq!(json_of(&["show", "2026-01-22", "--at", "17:19:10", "--next"])["event"], event + 1);
    let first = json_of(&["show", "2026-01-22", "--event", "0"]);
    assert_eq!((&first["entry"], state_of(&first, "player_game_summary")), (&Value::Null, "waiting"));
    // The last entry is what `status` shows.
    let last = json_of(&["show", "2026-01-23"]);
    let status = json_of(&["status", "2026-01-23"]);
    let states = |view: &Value| -> Vec<Value> {
        view["nodes"].as_array().unwrap().iter().map(|node| json!([node["node"], node["attempt"]])).collect()
    };
    assert_eq!(states(&last["view"]), states(&status));

    for (arguments, words) in [
        (&["show", "2026-01-22", "--event", "100000"][..], "entries, not 100000"),
        (&["show", "2026-01-22", "--event", "0", "--previous"], "nothing was recorded before"),
        (&["show", "2026-01-22", "--at", "2999-01-01T00:00:00Z"], "still to come"),
        (&["show", "2026-01-22", "--at", "half past\u{1b}[2J"], "is no time: 14:55"),
        (&["show", "2025-11-11"], "nothing was ever decided about nba/2025-11-11"),
        (&["show", "2026-01-22", "--why", "player_game_sumary"], "did you mean"),
    ] {
        let (code, said, errors) = at(arguments);
        assert!(code == Some(2) && errors.contains(words), "{arguments:?}: {code:?} {said}{errors}");
        assert!(!errors.contains('\u{1b}'), "{errors}");
    }
}

/// What is not kept any more is not made up.
#[test]
fn a_record_that_is_not_whole_is_said_to_be_so() {
    let cut = spoilt(
        "DELETE FROM journal WHERE date = '2026-01-23' AND seq IN (SELECT seq FROM journal WHERE date = '2026-01-23' ORDER BY seq LIMIT 40)",
    );
    let gone = spoilt("DELETE FROM journal");
    let damaged = spoilt(
        "UPDATE journal SET checksum = 'x' WHERE seq = (SELECT seq FROM journal WHERE date = '2026-01-23' ORDER BY seq LIMIT 1 OFFSET 30)",
    );
    let on =
        |store: &tempfile::TempDir, arguments: &[&str]| run(&[arguments, &["--data", text(store.path())]].concat());
    let (code, said, errors) = on(&cut, &["show", "2026-01-23", "--event", "1"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(said.contains("begins at 2026-01-23") && said.contains("with version 4"), "{said}");
    assert!(!said.contains("precompute"), "a state was made up:\n{said}");
    let (code, said, _) = on(&cut, &["show", "2026-01-23", "--json"]);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &shown["view"]), (Some(1), &Value::Null));
    assert!(shown["known_from"].is_string() && shown["entry"].is_object(), "{said}");
    let (code, said, _) = on(&gone, &["show", "2026-01-23"]);
    assert!(code == Some(1) && said.contains("no entry of nba/2026-01-23 is kept any more"), "{said}");
    for arguments in [
        &["replay", "2026-01-23", "--verify"][..],
        &["replay", "2026-01-23", "--set", "nodes.predictions.rebuild_after=never"],
        &["capsule", "2026-01-23", "--scenario"],
        &["impact", "predictions", "2026-01-23", "--at", "08:00"],
    ] {
        let (code, said, errors) = on(&cut, arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}{errors}");
        assert!(errors.contains("the record of nba/2026-01-23"), "{arguments:?}: {errors}");
    }
    let (code, said, _) = on(&damaged, &["show", "2026-01-23"]);
    assert!(code == Some(0) && said.contains("after entry 30 of 30"), "{said}");
    assert!(said.contains("the record ends early: journal/") && said.contains("corrupt"), "{said}");
    let (code, _, errors) = on(&damaged, &["replay", "2026-01-23"]);
    assert!(code == Some(1) && errors.contains("corrupt"), "{errors}");
}

#[test]
fn a_capsule_holds_all_that_is_needed_to_decide_again() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (packed, plain, settings) = (path("day.json.gz"), path("day.json"), path("tipoff.yaml"));
    std::fs::write(&settings, "token: a-token-that-nobody-may-see\n").unwrap();
    let (code, said, errors) = at(&["capsule", "2026-01-23", "-o", &packed, "--config", &settings]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("entries, with 2026-01-22 → "), "{said}");
    assert_eq!(at(&["capsule", "2026-01-23", "-o", &plain]).0, Some(0));
    assert_eq!(
        std::fs::metadata(&plain).unwrap().permissions().mode() & 0o777,
        0o600,
        "it is read by whom it is sent to"
    );
    let mut unpacked = String::new();
    GzDecoder::new(std::fs::File::open(&packed).unwrap()).read_to_string(&mut unpacked).unwrap();
    assert!(!unpacked.contains("nobody-may-see"));
    let capsule: Value = serde_json::from_str(&unpacked).unwrap();
    let again: Value = serde_json::from_str(&std::fs::read_to_string(&plain).unwrap()).unwrap();
    assert_eq!(capsule["records"], again["records"]);
    assert_eq!((&capsule["capsule"], &capsule["pipelines"]["text"]), (&json!(1), &json!(tipoff::pipeline::PIPELINE)));

    // Elsewhere, without store and declarations.
    for file in [&packed, &plain] {
        let (code, said, errors) = run(&["replay", file, "--verify", "--data", "no-such-store"]);
        assert_eq!(code, Some(0), "{said}{errors}");
        assert!(said.contains("all as by the same revision"), "{said}");
    }
    // By another declaration other decisions are to be expected: they are listed with the revision they were taken by.
    let changed = path("changed.yaml");
    let text = tipoff::pipeline::PIPELINE.replacen("dead_after: 900s", "dead_after: 1200s", 1);
    let text =
        if text == tipoff::pipeline::PIPELINE { text.replace("dead_after: 15m", "dead_after: 20m") } else { text };
    assert_ne!(text, tipoff::pipeline::PIPELINE, "there is nothing to change");
    std::fs::write(&changed, text).unwrap();
    let own = capsule["pipelines"]["revision"].as_str().unwrap();
    let first = path("first.json");
    assert_eq!(at(&["capsule", "2026-01-22", "-o", &first]).0, Some(0));
    let (code, said, errors) = run(&["replay", &first, "--verify", "--pipeline-file", &changed]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains(&format!("it was decided by revision {own}")), "{said}");
    assert!(said.contains("- dispatch nba/2026-01-22/player_game_summary/1/2 because heartbeat_dead"), "{said}");

    // A decision that this tipoff would not take is one that fails.
    let mut forged = capsule.clone();
    let entries = forged["records"][0]["entries"].as_array_mut().unwrap();
    let dispatch = entries.iter_mut().flat_map(|entry| entry["effects"].as_array_mut().unwrap());
    let dispatch = dispatch.into_iter().find(|effect| effect["effect"] == "dispatch").unwrap();
    dispatch["manifest"]["cause"] = json!("requested");
    let file = path("forged.json");
    std::fs::write(&file, forged.to_string()).unwrap();
    let (code, said, errors) = run(&["replay", &file, "--verify"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        said.contains("1 of ") && said.contains("because requested") && said.contains("because dependencies_met"),
        "{said}"
    );
}

#[test]
fn files_that_are_no_capsules_are_refused_with_a_reason() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let whole = path("whole.json");
    assert_eq!(at(&["capsule", "2026-01-22", "-o", &whole]).0, Some(0));
    let capsule: Value = serde_json::from_str(&std::fs::read_to_string(&whole).unwrap()).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut capsule = capsule.clone();
        change(&mut capsule);
        capsule.to_string().into_bytes()
    };
    let packed = |bytes: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let good = changed(&|_| {});
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("empty", Vec::new(), "it is no capsule: EOF"),
        ("words", b"what is this?".to_vec(), "it is no capsule"),
        ("list", b"[1]".to_vec(), "it is no capsule"),
        ("half", good[..good.len() / 2].to_vec(), "it is no capsule: EOF"),
        ("half-packed", packed(&good)[..2000].to_vec(), "its compression is broken"),
        ("nested", [b"[".repeat(100_000), b"]".repeat(100_000)].concat(), "it is no capsule"),
        (
            "other",
            changed(&|capsule| capsule["capsule"] = json!(2)),
            "a capsule of version 2, and this tipoff reads version 1",
        ),
        ("more", changed(&|capsule| capsule["more"] = json!(1)), "unknown field"),
        (
            "swapped",
            changed(&|capsule| capsule["records"][0]["entries"].as_array_mut().unwrap().swap(0, 1)),
            "stands after version",
        ),
        (
            "foreign",
            changed(&|capsule| capsule["about"]["pipeline"] = json!("mlb")),
            "its first record is not that of mlb",
        ),
        ("text", changed(&|capsule| capsule["topics"]["text"] = json!("x")), "is not the text of revision"),
        (
            "name\u{1b}[2J",
            changed(&|capsule| capsule["pipelines"]["name"] = json!("\u{1b}[2Jx")).iter().copied().take(900).collect(),
            "it is no capsule",
        ),
    ];
    for (name, bytes, words) in cases {
        let file = path(&format!("{name}.json"));
        std::fs::write(&file, bytes).unwrap();
        for arguments in [&["replay", &file][..], &["replay", &file, "--scenario"]] {
            let (code, said, errors) = run(arguments);
            assert_eq!(code, Some(2), "{name}: {said}{errors}");
            assert!(errors.contains(words) && !errors.contains('\u{1b}'), "{name}: {errors}");
        }
    }
    // A terminal is not at the mercy of what a capsule says.
    let hostile = changed(&|capsule| {
        capsule["pipelines"]["name"] = json!("\u{1b}[2Jpipeline");
        let effects = capsule["records"][0]["entries"].as_array_mut().unwrap().iter_mut();
        let effects = effects.flat_map(|entry| entry["effects"].as_array_mut().unwrap());
        effects.filter(|effect| effect["effect"] == "alert").for_each(|alert| alert["text"] = json!("\u{1b}]0;x\u{7}"));
    });
    let file = path("hostile.json");
    std::fs::write(&file, hostile).unwrap();
    let (code, said, errors) = run(&["replay", &file]);
    assert_eq!(code, Some(1), "{said}{errors}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "{said}");
    let (code, _, errors) = run(&["replay", "no-such-file.json"]);
    assert!(code == Some(2) && errors.contains("no-such-file.json"), "{errors}");
    for (what, words) in
        [("2026-01-24..2026-01-20", "between one and 31"), ("2026-01-01..2026-12-31", "between one and 31")]
    {
        let (code, _, errors) = at(&["replay", what]);
        assert!(code == Some(2) && errors.contains(words), "{errors}");
    }
}

/// A date that was recorded becomes a scenario that holds.
#[test]
fn a_capsule_becomes_a_scenario() {
    let home = tempfile::tempdir().unwrap();
    let stories = [
        ("demo/jan-23.yaml", "2026-01-23"),
        ("demo/jan-23.yaml", "2026-01-22"),
        ("demo/game-day.yaml", "2026-01-28"),
        // A run that hangs; a forced edge; a kill while something waits; a warehouse that cannot tell.
        ("tests/scenarios/inc-01a-stuck-run.yaml", "2026-01-22"),
        ("tests/scenarios/force-past-one-gate.yaml", "2026-02-05"),
        ("tests/scenarios/inc-04-restart-while-waiting.yaml", "2026-01-12"),
        ("tests/scenarios/inc-01b-six-of-eight.yaml", "2026-01-22"),
        // Completions at the very instant of the next dispatch.
        ("tests/scenarios/inc-44-the-same-batch-twice.yaml", "2026-02-11"),
    ];
    for (index, (file, date)) in stories.into_iter().enumerate() {
        let store =
            if file == "demo/jan-23.yaml" { january().to_owned() } else { kept(file, &format!("story-{index}")) };
        let made = home.path().join(format!("{index}.yaml"));
        let (code, _, errors) = run(&["capsule", date, "--scenario", "-o", text(&made), "--data", text(&store)]);
        assert_eq!(code, Some(0), "{file}: {errors}");
        let made_text = std::fs::read_to_string(&made).unwrap();
        let (code, said, errors) = run(&["simulate", text(&made)]);
        assert_eq!(code, Some(0), "{file} {date}: {said}{errors}\n{made_text}");
        // It says something: what came in comes in on the wire, and dispatches are expected.
        assert!(made_text.contains("\"publish\"") || made_text.contains("\"heartbeats\""), "{file}");
        assert!(made_text.contains("\"dispatch\""), "{file}");
    }
    // One that expects what does not come does not hold.
    let made = std::fs::read_to_string(home.path().join("0.yaml")).unwrap();
    let other = home.path().join("other.yaml");
    std::fs::write(&other, made.replace("\"cause\":\"inputs_newer\"", "\"cause\":\"overdue\"")).unwrap();
    assert_eq!(run(&["simulate", text(&other)]).0, Some(1));
    // The same out of the file, offline.
    let capsule = home.path().join("day.json.gz");
    assert_eq!(at(&["capsule", "2026-01-23", "-o", text(&capsule)]).0, Some(0));
    let (code, said, errors) = run(&["replay", text(&capsule), "--scenario", "--data", "no-such-store"]);
    assert_eq!((code, said == made), (Some(0), true), "{errors}");
}

/// The story: by the source system's rule nothing goes without anything, and the game is lost; by tipoff's it is not.
#[test]
fn by_all_or_nothing_the_game_of_january_23_is_lost() {
    let rule = Path::new(ROOT).join("docs/all-or-nothing.yaml");
    let found = json_of(&["replay", "2026-01-23", "--what-if", text(&rule)]);
    let [declared, changed] = found["dates"][0].as_array().unwrap().as_slice() else { panic!("{found}") };
    let standing = |outcome: &Value, game: &str| {
        let games = outcome["games"].as_array().unwrap();
        games.iter().find(|found| found["game"] == game).unwrap()["standing"].clone()
    };
    assert_eq!(standing(declared, "20260123_TOR_POR"), "all");
    assert_eq!(standing(changed, "20260123_TOR_POR"), "nothing");
    assert_eq!(found["unlike_the_record"], json!([]), "played as declared it is the recorded day");
    assert_eq!(found["unanswered"], 0);
    // Why: the context waits for the rosters of sixteen teams, and what is made of it is never asked for.
    let sent = |outcome: &Value, node: &str| outcome["nodes"][node]["at"].as_array().map_or(0, Vec::len);
    for node in ["upcoming_player_game_context", "ml_feature_store", "predictions", "export"] {
        assert!(sent(declared, node) > 0 && sent(changed, node) == 0, "{node}: {found}");
    }
    assert_eq!(sent(changed, "player_shot_zone_analysis"), 1, "what is whole goes all the same");
    let missed = |outcome: &Value| outcome["missed"].as_array().unwrap().len();
    assert!(missed(changed) > missed(declared), "{found}");
    // Out of a capsule, for people, it is the same.
    let home = tempfile::tempdir().unwrap();
    let capsule = home.path().join("day.json.gz");
    assert_eq!(at(&["capsule", "2026-01-23", "-o", text(&capsule)]).0, Some(0));
    let (code, said, errors) = run(&["replay", text(&capsule), "--what-if", text(&rule), "--data", "no-such-store"]);
    assert_eq!(code, Some(0), "{errors}");
    for words in ["as declared  0: none", "as changed   8: ", "20260123_TOR_POR", "never", "Assumed: a run begins"] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
}

/// One threshold, on several dates: what follows a dispatch moves with it.
#[test]
fn a_changed_threshold_moves_what_follows_it() {
    let change = ["--set", "nodes.upcoming_player_game_context.needs.p2_odds_player_props.grace=10m"];
    let found = json_of(&[&["replay", "2026-01-22..2026-01-23"][..], &change].concat());
    assert_eq!(found["dates"].as_array().unwrap().len(), 2);
    let [declared, changed] = found["dates"][1].as_array().unwrap().as_slice() else { panic!("{found}") };
    let first = |outcome: &Value, node: &str| -> jiff::Timestamp {
        outcome["nodes"][node]["at"][0].as_str().unwrap().parse().unwrap()
    };
    for node in ["upcoming_player_game_context", "player_composite_factors", "ml_feature_store", "predictions"] {
        let by = first(declared, node).duration_since(first(changed, node));
        assert_eq!(by.as_mins(), 20, "{node}: {found}");
    }
    // A name with a dot in it, and what is wrong with a change.
    let dotted =
        ["replay", "2026-01-23", "--set", "nodes.player_daily_cache.overnight.needs.no_such_node={strength: hard}"];
    let (code, _, errors) = at(&dotted);
    assert!(code == Some(2) && errors.contains("no_such_node"), "{errors}");
    for (set, words) in [
        ("predictions", "write PATH=VALUE"),
        ("nodes..predictions=1", "a part of the path is empty"),
        ("nodes.predictions.rebild_after=1m", "rebild_after"),
        ("nodes.predictions.needs={", "--set"),
    ] {
        let (code, said, errors) = at(&["replay", "2026-01-23", "--set", set]);
        assert!(code == Some(2) && errors.contains(words), "{set}: {code:?} {said}{errors}");
    }
}

#[test]
fn what_a_late_node_holds_up_is_told() {
    let found = json_of(&["impact", "NbacScheduleProcessor", "2026-01-23", "--at", "08:30"])["impact"].clone();
    let fate = |node: &str| {
        let affected = found["affected"].as_array().unwrap().iter();
        affected.filter(|hit| hit["node"] == node && hit["date"] == "2026-01-23").map(|hit| hit["fate"].clone()).next()
    };
    assert_eq!(found["node"], "p2_nbacom_schedule");
    assert_eq!(fate("upcoming_player_game_context"), Some(json!("held")));
    assert_eq!(fate("predictions"), Some(json!("held")));
    assert_eq!(fate("team_defense_zone_analysis"), None, "it does not need the schedule");
    assert_eq!(found["games"].as_array().unwrap().len(), 8);
    assert_eq!(found["deadline"]["at"], "2026-01-23T22:10:00Z", "two hours before the first tip-off");
    let legs: Vec<&str> =
        found["critical"]["legs"].as_array().unwrap().iter().filter_map(|leg| leg["node"].as_str()).collect();
    assert_eq!(legs.first(), Some(&"p2_nbacom_schedule"));
    assert_eq!(legs.last(), Some(&"predictions"));
    let (code, said, _) = at(&["impact", "p2_nbacom_schedule", "2026-01-23", "--at", "08:30"]);
    assert_eq!(code, Some(0));
    for words in [
        "does not go",
        "20260123_TOR_POR     tip-off 22:10, in 13h40m   no predictions",
        "the critical path:",
        "as declared",
        "slack ",
    ] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
    // A dead run of the evening before reaches the next date; what is optional is gone without.
    let (_, said, _) = at(&["impact", "player_game_summary", "2026-01-22", "--at", "17:20"]);
    assert!(
        said.contains("2026-01-23\n    player_shot_zone_analysis            for want of player_game_summary"),
        "{said}"
    );
    let (_, said, _) = at(&["impact", "p2_odds_player_props", "2026-01-23", "--at", "08:30"]);
    assert!(said.contains("goes without it, degraded"), "{said}");
    assert!(said.contains("for want of p2_odds_player_props, after 30m"), "{said}");
    let (code, said, _) = at(&["impact", "p2_espn_roster", "2026-01-23", "--at", "09:00"]);
    assert!(code == Some(0) && said.contains("is there (14/30"), "{said}");
    let (code, _, errors) = at(&["impact", "p2_espn_rostr"]);
    assert!(code == Some(2) && errors.contains("did you mean `p2_espn_roster`"), "{errors}");
}
