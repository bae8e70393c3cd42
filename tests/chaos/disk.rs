//! A disk that is full, one that cannot be written, and files with altered bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use tipoff::adapter::embedded::{Durability, Embedded, check};

use super::plant::{PATIENCE, Plant, dice, has, inside};

/// A namespace in which anybody may mount; what is mounted there is gone with the process.
const OWN: [&str; 4] = ["--user", "--map-root-user", "--mount", "true"];
/// Small enough to be full soon.
const DISK: usize = 12 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_refused_work_and_goes_on_when_there_is_room() {
    if !has("unshare", &OWN) {
        return;
    }
    let mut plant = Plant::new().await;
    std::fs::create_dir(&plant.data).unwrap();
    let mount = format!("mount -t tmpfs -o size={DISK} none data && exec \"$@\"");
    let own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let mut service = plant.try_start(plant.command(&own, None)).unwrap();
    let away = inside(&service, &plant.data);
    plant.away = Some(away.clone());
    for _ in 0..5 {
        plant.round(&service.url).await;
    }
    let before = plant.nothing_promised_is_lost();
    assert_eq!(before, 25, "it works");
    // What somebody else puts there.
    let ballast = away.join("ballast");
    let block = vec![0_u8; 1 << 12];
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    for _ in 5..15 {
        plant.round(&service.url).await;
    }
    let during = plant.nothing_promised_is_lost();
    {
        let refused = &plant.publisher.promised.lock().unwrap().refused;
        assert!(!refused.is_empty(), "a full disk took {} promises", during - before);
        for (status, words) in refused {
            assert_eq!(*status, 503, "{words}");
        }
    }
    assert_eq!(service.child.try_wait().unwrap(), None, "it has ended");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let began = Instant::now();
    let (promised, dispatches, _) = plant.comes_to_rest(&service).await;
    println!(
        "a disk of {DISK} bytes: {before} promised before, {} while it was full, {promised} in all, {dispatches} dispatches; at rest after {:?}",
        during - before,
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_for_which_there_is_no_room_ends_nothing() {
    if !has("unshare", &OWN) {
        return;
    }
    let mut plant = Plant::new().await;
    plant.log = "debug";
    let logs = plant.folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let mount = "mount -t tmpfs -o size=16k none logs && exec \"$@\" 2> logs/log";
    let own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"];
    let service = plant.try_start(plant.command(&own, None)).unwrap();
    let log = inside(&service, &logs).join("log");
    let full = || std::fs::metadata(&log).unwrap().len() >= 12 << 10;
    let patience = Instant::now() + PATIENCE;
    while !full() {
        assert!(Instant::now() < patience, "it logs too little to fill a disk");
        plant.round(&service.url).await;
    }
    for _ in 0..5 {
        plant.round(&service.url).await;
    }
    assert!(plant.publisher.promised.lock().unwrap().refused.is_empty(), "it takes what comes");
    plant.comes_to_rest(&service).await;
    assert!(full(), "somebody has made room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_written_is_named_and_nothing_is_served() {
    if !has("unshare", &OWN) {
        return;
    }
    let plant = Plant::new().await;
    std::fs::create_dir(&plant.data).unwrap();
    let mount = "mount -t tmpfs -o ro none data && exec \"$@\"";
    let mut command =
        plant.command(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"], None);
    let ended = command.stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("data") && said.contains("Read-only"), "{said}");
}

/// Everything on which a decision is taken, or that one has come to.
const DECIDES: [(&str, &str); 3] = [
    ("partitions", "pipeline, date, version, wake_at, document"),
    ("outbox", "id, pipeline, date, effect, decided_at"),
    ("journal", "pipeline, date, version, entry"),
];

fn rows(path: &Path) -> rusqlite::Result<BTreeMap<&'static str, Vec<Vec<Value>>>> {
    let database = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut all = BTreeMap::new();
    for (table, columns) in DECIDES {
        let mut statement = database.prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2, 3"))?;
        let count = statement.column_count();
        let rows = statement.query_map([], |row| (0..count).map(|column| row.get(column)).collect())?;
        all.insert(table, rows.collect::<rusqlite::Result<_>>()?);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_altered_page_is_believed() {
    const PAGE: usize = 4096;
    let plant = Plant::new().await;
    let mut service = plant.start();
    for _ in 0..6 {
        plant.round(&service.url).await;
    }
    service.signal("TERM");
    assert!(service.ended(Duration::from_secs(8)).await.success());
    let file = plant.data.join("tipoff.db");
    plant.database().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let (whole, sound) = (std::fs::read(&file).unwrap(), rows(&file).unwrap());
    assert!(sound.values().all(|rows| rows.len() > 5), "too little is stored");
    check(&file).unwrap();
    let mut dice = dice();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("tipoff.db");
    let (mut detected, mut harmless) = (0, 0);
    for page in 0..whole.len() / PAGE {
        for fault in ["bit", "garbage", "zero"] {
            let mut altered = whole.clone();
            let at = page * PAGE + dice.index(PAGE - 64);
            match fault {
                "bit" => altered[at] ^= 1 << dice.roll(8),
                "garbage" => altered[at..at + 64].fill_with(|| u8::try_from(dice.roll(256)).unwrap()),
                _ => altered[page * PAGE..(page + 1) * PAGE].fill(0),
            }
            if altered == whole {
                continue;
            }
            std::fs::write(&copy, &altered).unwrap();
            if check(&copy).is_err() {
                detected += 1;
                continue;
            }
            let same = rows(&copy).is_ok_and(|rows| rows == sound);
            assert!(same, "page {page}, {fault} at {at}: believed, and other than it was");
            harmless += 1;
        }
    }
    // Whoever serves such a file serves the rest of it, or nothing.
    std::fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    assert!(check(&copy).is_err() || Embedded::open(folder.path(), Durability::Off).is_err(), "half a file is whole");
    assert!(detected > harmless / 4, "{detected} detected, {harmless} harmless: hardly anything was hit");
    println!(
        "{} pages, three faults each: {detected} detected, {harmless} in what decides nothing",
        whole.len() / PAGE
    );
}
