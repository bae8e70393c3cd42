//! The power fails: what was not synced may be lost, each sector by itself. The service's own calls say what that is. Files that
//! were made or deleted count as made and deleted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tipoff::simulation::dice::Dice;

use super::join::{TOPIC, name, recorded};
use super::plant::{PATIENCE, Plant, SOURCES, dice, has};
use super::publisher::completion;

/// Calls that are answered one after another, each with one completion: enough for the log to begin anew.
const CALLS: usize = 150;
/// Of so many of its calls the service is cut off after one.
const CUT_EVERY: u64 = 50;
/// What is written at once, or not.
const SECTOR: usize = 512;
/// The file in which SQLite has what was committed last.
const LOG: &str = "tipoff.db-wal";
/// What a publish call is answered with, and nothing else is.
const ANSWER: &[u8] = b"messageIds";

/// One change of a file that nobody has synced.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A file as it is on disk, and what is only in the machine's memory.
#[derive(Clone, Default)]
struct File {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

fn make(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, bytes) => {
            content.resize(content.len().max(at + bytes.len()), 0);
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Length(length) => content.resize(*length, 0),
    }
}

/// The files of a store, by what a process did to them.
#[derive(Default)]
struct Disk {
    files: BTreeMap<String, File>,
    /// Of each thread's unended sync the file, and how many changes it is of.
    syncing: BTreeMap<String, (String, usize)>,
    /// Syncs of the log do nothing.
    forgets: bool,
}

impl Disk {
    /// Takes in a line of strace's. Whether it answers a publish call.
    fn take(&mut self, line: &str) -> bool {
        let Some((thread, call)) = line.split_once(' ') else { return false };
        let call = call.trim_start();
        if call.starts_with("<... fsync resumed>") || call.starts_with("<... fdatasync resumed>") {
            if let Some((file, count)) = self.syncing.remove(thread) {
                assert!(call.ends_with("= 0"), "{call}");
                self.sync(&file, count);
            }
            return false;
        }
        let Some((function, arguments)) = call.split_once('(') else { return false };
        if function.starts_with("unlink") {
            let path = text(arguments.split('"').nth(1).unwrap_or_default());
            self.files.remove(&named(&path));
            return false;
        }
        let path = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let Some((path, rest)) = path else { return false };
        let path = text(path);
        if path.starts_with("socket:") {
            return rest.split('"').any(|part| part.contains("\\x") && contains(&bytes(part), ANSWER));
        }
        let file = named(&path);
        if !path.contains("/data/tipoff.db") || file.ends_with("-shm") {
            return false;
        }
        match function {
            "pwrite64" => {
                let mut parts = rest.split('"');
                let written = bytes(parts.nth(1).expect("what is written"));
                let rest = parts.next().expect("how much, and where");
                let number = |nth: usize| {
                    let field = rest.split([',', ')', ' ']).filter(|field| !field.is_empty()).nth(nth).unwrap();
                    field.parse::<usize>().unwrap_or_else(|error| panic!("{error}: {rest}"))
                };
                assert_eq!(written.len(), number(0), "all of it is in the trace");
                let file = self.files.entry(file).or_default();
                file.pending.push(Change::Write(number(1), written));
            }
            "ftruncate" => {
                let length = rest.trim_start_matches([',', ' ']).split(')').next().unwrap();
                let length = length.split(' ').next().unwrap().parse().unwrap();
                self.files.entry(file).or_default().pending.push(Change::Length(length));
            }
            "fsync" | "fdatasync" => {
                let count = self.files.entry(file.clone()).or_default().pending.len();
                if rest.contains("unfinished") {
                    self.syncing.insert(thread.to_owned(), (file, count));
                } else {
                    assert!(rest.ends_with("= 0"), "{rest}");
                    self.sync(&file, count);
                }
            }
            _ => {}
        }
        false
    }

    fn sync(&mut self, name: &str, count: usize) {
        let is_done = !(self.forgets && name == LOG);
        let Some(file) = self.files.get_mut(name).filter(|_| is_done) else { return };
        let synced: Vec<Change> = file.pending.drain(..count).collect();
        synced.iter().for_each(|change| make(&mut file.synced, change));
    }

    /// What is there after the power has failed: what was synced, and of the rest the sectors that the dice say.
    fn after_the_cut(&self, folder: &Path, dice: &mut Dice) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, file) in &self.files {
            let mut content = file.synced.clone();
            for change in &file.pending {
                let Change::Write(at, bytes) = change else {
                    if dice.roll(2) == 0 {
                        make(&mut content, change);
                    }
                    continue;
                };
                // A sector lies where the file says, wherever the write began.
                let mut from = 0;
                while from < bytes.len() {
                    let to = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
                    if dice.roll(2) == 0 {
                        make(&mut content, &Change::Write(at + from, bytes[from..to].to_vec()));
                    }
                    from = to;
                }
            }
            std::fs::write(folder.join(name), content).unwrap();
        }
    }
}

fn named(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What strace writes as `\x74\x69`.
fn bytes(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
}

fn text(hex: &str) -> String {
    String::from_utf8(bytes(hex)).unwrap()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_is_there_after_the_power_has_failed() {
    if !has("strace", &["-D", "-o", "/dev/null", "true"]) {
        return;
    }
    let plant = Plant::new().await;
    let trace = plant.folder.path().join("calls");
    let calls = "trace=pwrite64,fsync,fdatasync,ftruncate,?unlink,?unlinkat,writev,write,sendto";
    let before = ["strace", "-D", "-f", "-q", "-y", "-xx", "-s", "1048576", "-e", calls, "-o", trace.to_str().unwrap()];
    let mut service = plant.try_start(plant.command(&before, None)).unwrap();
    let mut runs = Vec::new();
    for call in 0..CALLS {
        let (run, date) = (format!("run-{call}"), plant.publisher.date(call / SOURCES % 5));
        let body = completion(&name(call % SOURCES), &date, &run, true);
        assert!(plant.publisher.tell(&service.url, TOPIC, &[body]).await);
        runs.push(run);
    }
    service.kill();
    let ends = Instant::now() + PATIENCE;
    let calls = loop {
        let calls = std::fs::read_to_string(&trace).unwrap();
        let last = calls.lines().last().unwrap_or_default();
        if last.ends_with("+++ killed by SIGKILL +++") && last.starts_with(&service.child.id().to_string()) {
            break calls;
        }
        assert!(Instant::now() < ends, "the trace has no end: {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (mut dice, folder) = (dice(), tempfile::tempdir().unwrap());
    // Whether what was answered is there after a cut, and the file is sound.
    let mut keeps = |disk: &Disk, answered: &[String]| {
        let at = folder.path().join("cut");
        disk.after_the_cut(&at, &mut dice);
        let file = Connection::open(at.join("tipoff.db")).unwrap();
        let sound = file.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0));
        let found = sound.is_ok_and(|word| word == "ok").then(|| recorded(&file));
        drop(file);
        std::fs::remove_dir_all(&at).unwrap();
        found.is_some_and(|found| answered.iter().all(|run| found.contains(run)))
    };
    let (mut answered, mut cuts, mut lost, mut has_begun_anew) = (0, 0, 0, false);
    let mut drawn = super::plant::dice();
    let [mut disk, mut forgetful] = [(); 2].map(|()| Disk::default());
    for line in calls.lines() {
        forgetful.take(line);
        let is_answer = disk.take(line);
        if is_answer {
            answered += 1;
            assert!(answered <= CALLS, "an answer is in the trace twice");
            // From the first on, so that there is a database.
            forgetful.forgets = true;
            lost += usize::from(!keeps(&forgetful, &runs[..answered]));
        }
        has_begun_anew |= answered > 0 && disk.files["tipoff.db"].pending.len() > 1;
        if is_answer || answered > 0 && drawn.roll(CUT_EVERY) == 0 {
            cuts += 1;
            assert!(keeps(&disk, &runs[..answered]), "after {answered} answers some of them are lost");
        }
    }
    assert_eq!(answered, CALLS, "an answer is not in the trace");
    assert!(has_begun_anew, "nothing has gone from the log into the file");
    // It is the syncs of the log that keep them.
    assert!(lost > CALLS / 2, "without these {lost} of {CALLS} cuts lose something");
    // What is left is served again, and comes to its end.
    std::fs::remove_dir_all(&plant.data).unwrap();
    disk.after_the_cut(&plant.data, &mut dice);
    let service = plant.start();
    let (promised, dispatches, _) = plant.comes_to_rest(&service).await;
    println!(
        "the power failed {cuts} times, {lost} of {CALLS} answers need the log's syncs; {promised} promised, {dispatches} dispatches"
    );
}
