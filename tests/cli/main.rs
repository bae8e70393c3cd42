//! The program as somebody types it: what it prints, and with which exit code it ends.

#[path = "../support/any_hour.rs"]
mod any_hour;
mod backup;
mod commands;
mod dlq;
mod load;
mod operations;
mod plan;
mod remote;
mod replay;
#[path = "../support/running.rs"]
mod running;
mod shadow;
mod slips;

use std::process::{Command, Output, Stdio};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipoff"));
    command.args(arguments).current_dir(std::env::temp_dir());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The README's first command: both recorded days play to their end, and everything they promise holds.
#[test]
fn both_days_hold_without_a_terminal() {
    let (code, text, errors) = run(&["demo", "--fast"]);
    assert_eq!(code, Some(0), "{text}\n{errors}");
    assert!(text.contains("because heartbeat_dead"), "the stuck run was not run again:\n{text}");
}

#[test]
fn a_reader_that_leaves_is_no_crash() {
    let mut child = program(&["graph"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_cannot_be_answered_says_what_to_do() {
    let nowhere = std::env::temp_dir().join("tipoff-has-never-been-here");
    let nowhere = nowhere.to_str().unwrap();
    for (arguments, code, words) in [
        (&["status", "--data", nowhere][..], 3, "`tipoff serve --data"),
        (&["why", "predictions", "--data", nowhere], 3, "`tipoff serve --data"),
        (&["serve", "--listen", "0.0.0.0:0", "--data", nowhere], 2, "give --token-file"),
        (&["serve", "--listen", "example.org:80", "--data", nowhere], 2, "as 127.0.0.1:8085"),
        (&["serve", "--push", "x=http://2852039166/", "--data", nowhere], 2, "its own credentials"),
        (&["serve", "--push", "nobody=http://127.0.0.1:1", "--data", nowhere], 2, "no such subscription or service"),
        (&["check", "--pipeline-file", "no-such-file.yaml"], 2, "no-such-file.yaml"),
        (&["check", "--log", "x=["], 2, "--log x=["),
        (&["statsu"], 2, "did you mean"),
    ] {
        let (found, _, errors) = run(arguments);
        let errors_lower = errors.to_lowercase();
        assert!(
            found == Some(code)
                && (errors.contains(words) || words == "did you mean" && errors_lower.contains("similar")),
            "{arguments:?}: {found:?} {errors}"
        );
    }
}

#[test]
fn the_environment_that_serve_obeys_is_shown_and_checked() {
    let with = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = program(arguments).envs(environment.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let open = [("TIPOFF_LISTEN", "0.0.0.0:80")];
    let (_, shown) = with(&["config"], &open);
    assert!(shown.contains(r#""listen": "0.0.0.0:80""#), "{shown}");
    let (code, said) = with(&["doctor"], &open);
    assert!(code == Some(1) && said.contains("0.0.0.0:80 is not loopback"), "{said}");
    let (code, said) = with(&["doctor"], &[("TIPOFF_TOKEN_FILE", "no-such-token")]);
    assert!(code == Some(1) && said.contains("read no-such-token"), "{said}");

    let emulators = |host| [("PUBSUB_EMULATOR_HOST", host), ("FIRESTORE_EMULATOR_HOST", host)];
    let plan = ["topics", "plan", "--project", "p"];
    let (code, said) = with(&plan, &emulators("http://127.0.0.1:1"));
    assert!(code == Some(2) && said.contains("write HOST:PORT"), "{said}");
    let (code, said) = with(&plan, &emulators("emulators.example:1"));
    assert!(code == Some(2) && said.contains("it has to be on loopback"), "{said}");
    let (code, said) = with(&plan, &[("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")]);
    assert!(code == Some(2) && said.contains("set both or neither"), "{said}");
    let (code, said) = with(&["topics", "plan"], &[("GOOGLE_CLOUD_PROJECT", "")]);
    assert!(code == Some(2) && said.contains("which Google Cloud project?"), "{said}");
    let (code, said) = with(&["topics", "plan", "--project", "a/../b"], &emulators("127.0.0.1:1"));
    assert!(code == Some(2) && said.contains("not the id of a Google Cloud project"), "{said}");
}

#[test]
fn what_would_be_unsafe_is_said_at_the_start() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("key.json");
    // It ends at once, since this cannot be asked for there.
    let serve =
        ["serve", "--backend", "google", "--project", "p", "--listen", "127.0.0.1:0", "--push", "x=http://127.0.0.1:1"];
    let said = |kind: &str| {
        std::fs::write(&key, serde_json::json!({ "type": kind, "private_key": "planted" }).to_string()).unwrap();
        let output = program(&serve).env("GOOGLE_APPLICATION_CREDENTIALS", &key).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let warned = said("service_account");
    assert!(warned.contains("is the key of a service account") && !warned.contains("planted"), "{warned}");
    assert!(!said("authorized_user").contains("is the key of a service account"));

    let token = home.path().join("token");
    std::fs::write(&token, "a-token-of-more-than-thirty-two-bytes").unwrap();
    let said = |mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = program(&[&serve[..], &["--token-file", token.to_str().unwrap()]].concat()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(0o644).contains("can be read by every user of this machine"));
    assert!(!said(0o640).contains("can be read by every user"));
}

#[test]
fn a_service_is_nowhere_where_a_machine_has_its_credentials() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tipoff.yaml");
    let (file_name, data) = (file.to_str().unwrap(), home.path().join("data"));
    for host in ["169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]"] {
        std::fs::write(&file, format!("services: {{ scraper: {{ url: 'http://{host}/' }} }}\n")).unwrap();
        for command in
            [&["check"][..], &["serve", "--listen", "127.0.0.1:0"], &["serve", "--backend", "google", "--project", "p"]]
        {
            let common = ["--config", file_name, "--data", data.to_str().unwrap()];
            let (code, said, errors) = run(&[command, &common].concat());
            let told = errors.contains("services.scraper.url") && errors.contains("its own credentials");
            assert!(code == Some(2) && told, "{host} {command:?}: {code:?} {said}{errors}");
        }
    }
    assert!(!data.exists());
}

#[test]
fn a_token_is_made_that_nobody_can_guess() {
    let (code, made, _) = run(&["token"]);
    let (token, digest) = made.trim().split_once('\n').unwrap();
    assert_eq!((code, format!("sha256:{}", tipoff::http::caller::digest(token)).as_str()), (Some(0), digest));
    assert!(token.len() >= 43 + "tipoff_".len(), "{token}");
    assert_ne!(made, run(&["token"]).1);
}

#[test]
fn a_requests_whole_way_can_be_followed() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let (code, _, errors) = run(&["hold", "2026-01-22", "grading", "--reason", "model swap", "--data", data]);
    assert_eq!(code, Some(3), "a request made a store that nobody serves");
    assert!(errors.contains("`tipoff serve --data"), "{errors}");
    drop(
        tipoff::adapter::embedded::Embedded::open(
            std::path::Path::new(data),
            tipoff::adapter::embedded::Durability::Off,
        )
        .unwrap(),
    );
    let at = |arguments: &[&str]| run(&[arguments, &["--data", data]].concat());
    let (code, said, errors) = at(&["hold", "2026-01-22", "grading", "--reason", "model swap", "--actor", "ann"]);
    assert_eq!((code, said.as_str()), (Some(0), "nba/2026-01-22: grading is held until `tipoff resume`\n"), "{errors}");
    let (code, said, _) = at(&["why", "grading", "2026-01-22"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("held by ann: model swap"), "{said}");
    assert!(said.contains("tipoff resume 2026-01-22 grading"), "{said}");
    let (code, _, _) = at(&["resume", "2026-01-22", "grading", "--reason", "swapped"]);
    assert_eq!(code, Some(0));
    let (_, said, _) = at(&["why", "grading", "2026-01-22"]);
    assert!(!said.contains("held by"), "{said}");
    let (code, said, _) = at(&["status", "2026-01-22"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("nba 2026-01-22 (America/New_York): not complete; of 22 tasks "), "{said}");
    let (_, said, _) = at(&["timeline", "2026-01-22", "--json"]);
    let entries: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 2);
}

/// What a service that cannot write has not written down must not read as what has not happened.
#[test]
fn the_status_of_a_service_that_cannot_write_says_so() {
    use tipoff::adapter::embedded::{Durability, Embedded};
    use tipoff::port::Store as _;
    let data = tempfile::tempdir().unwrap();
    let here = data.path().to_str().unwrap();
    let store = Embedded::open(data.path(), Durability::Off).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = || run(&["status", "2026-01-24", "--data", here]);
    // Nobody has ever served it: what is stored is all there is.
    assert_eq!(status().0, Some(1));
    let now = tipoff::clock::Clock::System.now();
    let ago = |minutes| now - jiff::SignedDuration::from_mins(minutes);
    runtime.block_on(store.mark(ago(60))).unwrap();
    let (code, said, _) = status();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the service has written nothing since"), "{said}");
    assert!(said.contains("the store refuses its writes"), "{said}");
    runtime.block_on(store.mark(ago(1))).unwrap();
    let (code, said, _) = status();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("nba 2026-01-24 (America/New_York): not complete"), "{said}");
}

/// A value that somebody changed and nobody committed is seen: in what is printed, and in what was decided by it.
#[test]
fn the_configuration_in_force_can_be_told_from_another() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (data, pipelines, settings) = (path("data"), path("mine.yaml"), path("tipoff.yaml"));
    let shown = |arguments: &[&str]| {
        let (code, said, errors) = run(&[&["config", "--data", &data], arguments].concat());
        assert_eq!(code, Some(0), "{errors}");
        serde_json::from_str::<serde_json::Value>(&said).unwrap()["effective"].clone()
    };
    let built_in = shown(&[]);
    assert_eq!(built_in["sources"]["pipeline.yaml"], "built-in pipeline.yaml");
    assert_eq!(built_in["differences"], serde_json::json!(["settings.data"]));

    let changed = tipoff::pipeline::PIPELINE.replacen("attempts_max: 3", "attempts_max: 2", 1);
    assert_ne!(changed, tipoff::pipeline::PIPELINE, "there is nothing to change");
    std::fs::write(&pipelines, changed).unwrap();
    std::fs::write(&settings, "token: a-token-that-nobody-may-see\nservices: { s: { url: 'https://s' } }\n").unwrap();
    let mine = shown(&["--pipeline-file", &pipelines, "--config", &settings]);
    assert_ne!(mine["digest"], built_in["digest"]);
    assert_ne!(mine["revision"], built_in["revision"]);
    assert_eq!(mine["sources"]["pipeline.yaml"], pipelines.as_str());
    assert_eq!(mine["sources"]["settings"], settings.as_str());
    let differences: Vec<&str> =
        mine["differences"].as_array().unwrap().iter().filter_map(|key| key.as_str()).collect();
    assert!(
        matches!(differences[..], [key, "settings.data", "settings.services.s", "settings.token"]
            if key.starts_with("pipeline.yaml.") && key.ends_with(".attempts_max")),
        "{differences:?}"
    );
    assert!(!mine.to_string().contains("nobody-may-see"), "{mine}");

    // What was decided by the changed file says so to whoever reads with another one.
    drop(
        tipoff::adapter::embedded::Embedded::open(
            std::path::Path::new(&data),
            tipoff::adapter::embedded::Durability::Off,
        )
        .unwrap(),
    );
    let held = ["hold", "2026-01-22", "grading", "--reason", "x", "--data", &data, "--pipeline-file", &pipelines];
    assert_eq!(run(&held).0, Some(0));
    let revision = mine["revision"].as_str().unwrap();
    let (_, said, _) = run(&["why", "grading", "2026-01-22", "--data", &data, "--pipeline-file", &pipelines]);
    assert!(said.contains(&format!("decided by revision {revision}, which is {pipelines}\n")), "{said}");
    let (_, said, _) = run(&["why", "grading", "2026-01-22", "--data", &data]);
    assert!(said.contains(&format!("decided by revision {revision}, which is not built-in pipeline.yaml")), "{said}");
}

/// The demo promises to leave nothing behind, however it ends.
#[cfg(unix)]
#[test]
fn a_demo_that_is_ended_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let mut child = program(&["demo", "--speed", "1"])
        .env("TMPDIR", home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let full = || std::fs::read_dir(home.path()).unwrap().count();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while full() == 0 {
        assert!(std::time::Instant::now() < patience, "the demo has not begun");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(full(), 0);
}

/// What an operator asks first when something does not work.
#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let run = |arguments: &[&str], set: &[(&str, &str)]| {
        let mut command = program(arguments);
        command
            .env_remove("PUBSUB_EMULATOR_HOST")
            .env_remove("FIRESTORE_EMULATOR_HOST")
            .env_remove("GOOGLE_CLOUD_PROJECT");
        let output = command.envs(set.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let here = data.to_str().unwrap();
    let (code, said, errors) = run(&["doctor", "--data", here], &[]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("`tipoff serve` makes it"), "{said}");

    let token = folder.path().join("token");
    let with_token = [("TIPOFF_TOKEN_FILE", token.to_str().unwrap())];
    let for_all = |text: &str| {
        std::fs::write(&token, text).unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        run(&["doctor", "--data", here], &with_token).1
    };
    assert!(for_all("0123456789abcdef0123456789abcdef").contains("can be read by every user"));
    assert!(!for_all(&format!("sha256:{}", "0".repeat(64))).contains("can be read by every user"));

    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("tipoff.db"), "this is no database").unwrap();
    let (code, said, _) = run(&["doctor", "--data", here, "--json"], &[]);
    assert_eq!(code, Some(1));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let store = said["checks"].as_array().unwrap().iter().find(|check| check["check"] == "store").unwrap();
    assert_eq!((store["mark"].as_str(), said["worst"].as_str()), (Some("failure"), Some("failure")));
    assert!(store["advice"].is_string());

    // Half a project in emulators, and emulators that are not there: neither hangs, both are named.
    let nowhere = "127.0.0.1:1";
    let (code, said, _) =
        run(&["doctor", "--backend", "google", "--project", "p"], &[("PUBSUB_EMULATOR_HOST", nowhere)]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FIRESTORE_EMULATOR_HOST is not"), "{said}");
    let both = [("PUBSUB_EMULATOR_HOST", nowhere), ("FIRESTORE_EMULATOR_HOST", nowhere)];
    let (code, said, _) = run(&["doctor", "--backend", "google"], &both);
    assert_eq!(code, Some(1));
    assert!(said.contains("GOOGLE_CLOUD_PROJECT"), "{said}");

    // A key that nobody knows is refused by its line; a secret is not shown.
    let config = folder.path().join("tipoff.yaml");
    std::fs::write(&config, "backend: embedded\ntokn: x\n").unwrap();
    let (code, _, errors) = run(&["config", "--config", config.to_str().unwrap()], &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("tipoff.yaml:2") && errors.contains("tokn"), "{errors}");
    std::fs::write(&config, "token: a-token-that-nobody-may-see\n").unwrap();
    let (code, said, errors) = run(&["config", "--config", config.to_str().unwrap()], &[]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("(hidden)") && !said.contains("nobody-may-see"), "{said}");
}

/// The day that the coverage alert was written for: from a recorded file to the answer, without a running service.
#[test]
fn the_daily_questions_are_answered_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let here = data.to_str().unwrap();
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/coverage-2026-01-24.csv");
    let at = |arguments: &[&str]| run(&[arguments, &["--data", here]].concat());
    let (code, _, errors) = at(&["import", "game_coverage", recorded]);
    assert_eq!(code, Some(3), "a file made a store that nobody serves");
    assert!(errors.contains("`tipoff serve --data"), "{errors}");
    drop(tipoff::adapter::embedded::Embedded::open(&data, tipoff::adapter::embedded::Durability::Off).unwrap());

    let (code, _, errors) = at(&["coverage", "2026-01-24"]);
    assert_eq!(code, Some(3));
    assert!(errors.contains("keeps no game_coverage of nba/2026-01-24"), "{errors}");
    let (code, said, errors) = at(&["import", "game_coverage", recorded]);
    assert_eq!((code, said.as_str()), (Some(0), "nba 2026-01-24: 7 rows of game_coverage\n"), "{errors}");
    let (code, said, _) = at(&["coverage", "2026-01-24"]);
    assert_eq!(code, Some(1), "three games have too few predictions");
    assert!(said.starts_with("nba/2026-01-24: 3 of 7 games have too few predictions\n"), "{said}");
    let low: Vec<&str> = said.lines().filter(|line| line.ends_with("LOW_COVERAGE")).map(|line| &line[2..9]).collect();
    assert_eq!(low, ["GSW@MIN", "MIA@UTA", "WAS@CHA"]);
    let (_, said, _) = at(&["coverage", "2026-01-24", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["status"].as_str(), said["issues_count"].as_u64()), (Some("alert_skipped_dry_run"), Some(3)));

    let rosters = folder.path().join("rosters.jsonl");
    let team = |team: &str| {
        format!(r#"{{"team":"{team}","latest_roster":"2026-01-20","player_count":15,"is_playing":false}}"#)
    };
    let nba = tipoff::pipeline::shipped().unwrap();
    let teams = &nba.pipelines["nba"].monitors.roster_coverage.as_ref().unwrap().teams;
    let lines: Vec<String> = teams.iter().map(|name| team(name)).collect();
    std::fs::write(&rosters, lines.join("\n")).unwrap();
    let file = rosters.to_str().unwrap();
    let (code, _, errors) = at(&["import", "roster_ages", file]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("rosters.jsonl: row 1: has neither game_date nor date; say --date"), "{errors}");
    for date in ["2026-01-23", "2026-01-24"] {
        assert_eq!(at(&["import", "roster_ages", file, "--date", date]).0, Some(0));
    }
    let (code, said, _) = at(&["rosters", "--date", "2026-01-23"]);
    assert_eq!(
        (code, said.lines().next().unwrap()),
        (Some(0), "nba/2026-01-23: 30 of 30 teams have a roster, 30 of them a current one; 0 play")
    );
    let (code, said, _) = at(&["rosters", "--date", "2026-01-24"]);
    assert_eq!(code, Some(1), "four days are worth a warning");
    assert!(said.contains("warning  Team ATL roster is stale (4 days old)"), "{said}");
    let (code, said, _) = at(&["health", "2026-01-23", "--json"]);
    assert_eq!(code, Some(1), "nothing has been done");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["roster_coverage"]["status"], &said["data_quality"]), (&"ok".into(), &"UNKNOWN".into()));

    std::fs::write(
        folder.path().join("bad.csv"),
        "date,away,home,player_count,prediction_count\n2026-01-24,MIA,UTA,six,36\n",
    )
    .unwrap();
    let bad = folder.path().join("bad.csv");
    for (arguments, words) in [
        (
            &["import", "game_coverage", bad.to_str().unwrap()][..],
            "bad.csv: game_coverage of 2026-01-24, row 1, player_count: expected a count, found `six`",
        ),
        (&["import", "game_covrage", recorded], "did you mean `game_coverage`?"),
        (&["import", "schedule", recorded], "player_count: schedule has no such column"),
        (&["import", "schedule", "schedule.xlsx"], "schedule.xlsx: is neither .csv nor .jsonl"),
        (
            &["import", "schedule", recorded, "--backend", "google"],
            "on Google Cloud reports are queries in pipeline.yaml",
        ),
        (&["coverage", "2026-1-24"], "`2026-1-24` is not a date"),
    ] {
        let (code, _, errors) = at(arguments);
        assert!(code == Some(2) && errors.contains(words), "{arguments:?}: {code:?} {errors}");
    }
}
