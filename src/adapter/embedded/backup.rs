//! A copy of the file, taken beside whoever writes to it, and checked before it counts.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;

use super::database::{self, Database, Durability, FILE, OpenError, SCHEMA};
use super::store::load_all;
use super::{Embedded, documents};
use crate::domain::shadow::Role;
use crate::port::Document as _;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// SQLite refuses.
    #[error("copy {0}")]
    Sqlite(PathBuf, #[source] rusqlite::Error),
    /// The file system refuses.
    #[error("write {0}")]
    Write(PathBuf, #[source] std::io::Error),
    /// Something is there already.
    #[error("{0} is there already")]
    There(PathBuf),
    /// Somebody else is writing a copy there.
    #[error("another copy is being written to {0}")]
    Busy(PathBuf),
    /// SQLite would take it for a part of another file.
    #[error("{0} has the name of a log of SQLite's, which would be taken for one: take another name")]
    Log(PathBuf),
    /// The file is damaged.
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    /// It was decided in the shadow, and is to be restored as what was done.
    #[error("what {0} holds was decided in the shadow, and never sent; --shadow restores it as that")]
    Shadows(PathBuf),
    /// It is the other way round.
    #[error("what {0} holds was decided for real; a shadow has a store of its own")]
    Real(PathBuf),
}

/// What is in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Checked {
    /// The layout of its tables.
    pub schema: i32,
    /// Dates.
    pub partitions: u64,
    /// Decisions.
    pub journal: u64,
    /// Effects that have not left yet.
    pub waiting: u64,
    /// Messages for consumers that have not taken them yet.
    pub undelivered: u64,
    /// Dead letters.
    pub letters: u64,
    /// Whether nothing of it was sent.
    pub shadow: bool,
}

impl Embedded {
    /// Copies the file in `dir` to `to`, as it stands at one instant, whoever writes meanwhile; the copy has been read whole
    /// before it has its name. What is at `to` is left as it is.
    ///
    /// # Errors
    /// If there is no copy.
    pub fn back_up(dir: &Path, to: &Path) -> Result<Checked, BackupError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        if LOGS.iter().any(|end| name.ends_with(end)) {
            return Err(BackupError::Log(to.to_owned()));
        }
        if is_taken(to) {
            return Err(BackupError::There(to.to_owned()));
        }
        let parts = Parts::begin(to)?;
        let checked = parts.fill(&dir.join(FILE))?;
        parts.settle(to, also_named).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => BackupError::There(to.to_owned()),
            _ => BackupError::Write(to.to_owned(), error),
        })?;
        Ok(checked)
    }

    /// Brings an earlier version's file in `dir` to this one's layout, and says where it is as it was: at `copy`, or beside it.
    /// Nothing is done where it has that layout.
    ///
    /// # Errors
    /// If it cannot be copied, and then it is unchanged; or cannot be opened.
    pub fn migrate(dir: &Path, copy: Option<&Path>) -> Result<Option<PathBuf>, BackupError> {
        let Some(found) = earlier(dir)? else { return Ok(None) };
        let copy = copy.map_or_else(|| free_name(dir, found), Path::to_owned);
        Self::back_up(dir, &copy)?;
        drop(Database::open(dir, Durability::Full)?);
        Ok(Some(copy))
    }

    /// Copies an earlier version's file before this one changes it. Where somebody else is at that, they are waited for.
    pub(super) fn keep_earlier(dir: &Path) -> Result<(), OpenError> {
        let begun = Instant::now();
        while let Some(found) = earlier(dir)? {
            let copy = free_name(dir, found);
            match Self::back_up(dir, &copy) {
                Ok(_) => {
                    let copy = copy.display();
                    tracing::info!(found, schema = SCHEMA, %copy, "the store gets this version's layout; the copy is as it was");
                    return Ok(());
                }
                Err(BackupError::Busy(_) | BackupError::There(_)) if begun.elapsed() < OTHERS_MAX => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => {
                    return Err(OpenError::Copy { path: dir.join(FILE), found, source: Box::new(error) });
                }
            }
        }
        Ok(())
    }

    /// Has the file in `dir` hold everything itself, as far as nobody reads it at the moment: whoever copies it afterwards by hand
    /// has all of it.
    pub fn fold(dir: &Path) {
        if let Err(error) = database::fold(&dir.join(FILE)) {
            tracing::debug!("what is in the log beside the store stays there: {error}");
        }
    }

    /// Puts the copy at `from`, with what is in a log beside it, into `dir`; where the file there is a link, to where that leads.
    /// What is there is laid aside under another name, if `replace` says that it may be; damaged, as it is.
    ///
    /// # Errors
    /// If the copy is damaged, a later version's, or a shadow's where `shadow` does not say so; or something is there that may
    /// not be replaced, or that somebody reads. Then nothing has changed.
    pub fn restore(
        from: &Path,
        dir: &Path,
        shadow: bool,
        replace: Option<&str>,
    ) -> Result<(Checked, Option<PathBuf>), BackupError> {
        let holds = check(from)?;
        match (holds.shadow, shadow) {
            (true, false) => return Err(BackupError::Shadows(from.to_owned())),
            (false, true) if holds.partitions > 0 => return Err(BackupError::Real(from.to_owned())),
            _ => {}
        }
        let to = dir.join(FILE);
        if replace.is_none() && is_taken(&to) {
            return Err(BackupError::There(to));
        }
        let told = |error| BackupError::Write(to.clone(), error);
        fs::create_dir_all(dir).map_err(told)?;
        let _alone = database::alone(dir)?;
        let to = fs::canonicalize(&to).unwrap_or_else(|_| to.clone());
        let aside = replace.filter(|_| is_taken(&to)).map(|word| named(&to, &format!(".{word}")));
        let parts = Parts::begin(&to)?;
        let checked = parts.fill(from)?;
        if let Some(aside) = &aside {
            // What is in the log beside it belongs to it, and to nothing that comes after it.
            if let Err(OpenError::InUse(path)) = database::fold(&to) {
                return Err(OpenError::InUse(path).into());
            }
            // What cannot be read is kept with its log, for whoever can.
            // It has two names until the copy takes its own: whoever is killed in between leaves a store, never none.
            also_named(&to, aside).map_err(told)?;
            for log in ["-wal", "-journal"] {
                if let Err(error) = also_named(&named(&to, log), &named(aside, log))
                    && error.kind() != ErrorKind::NotFound
                {
                    return Err(told(error));
                }
            }
        }
        // None of them is the copy's, and SQLite would take it for that.
        for log in LOGS {
            let _ = fs::remove_file(named(&to, log));
        }
        parts.settle(&to, |part, to| fs::rename(part, to)).map_err(told)?;
        Ok((checked, aside))
    }
}

/// How long somebody may take who copies an earlier version's file at the same time.
const OTHERS_MAX: Duration = Duration::from_mins(5);

/// How the files that SQLite keeps beside a database are named after it.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The layout of the file in `dir`, if it is an earlier version's.
fn earlier(dir: &Path) -> Result<Option<i32>, OpenError> {
    Ok(database::schema(dir)?.filter(|found| (1..SCHEMA).contains(found)))
}

/// A name beside the file for a copy of it with the layout `found`. One that is taken is of another day.
fn free_name(dir: &Path, found: i32) -> PathBuf {
    let name = format!("{FILE}.layout-{found}");
    let (mut copy, mut others) = (dir.join(&name), 1);
    while is_taken(&copy) {
        others += 1;
        copy = dir.join(format!("{name}-{others}"));
    }
    copy
}

/// Gives what is at `path` another name as well, which nothing else has; a copy where a disk has no second names.
fn also_named(path: &Path, name: &Path) -> std::io::Result<()> {
    match fs::hard_link(path, name) {
        Err(error) if !matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
            let mut copy = database::owned().create_new(true).open(name)?;
            let copied = File::open(path).and_then(|mut from| std::io::copy(&mut from, &mut copy));
            copied.and_then(|_| copy.sync_all()).inspect_err(|_| drop(fs::remove_file(name)))
        }
        linked => linked,
    }
}

/// The path with `end` after its name.
fn named(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Reads a whole file: its pages, the checksum of every row that decides something, and every date.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<Checked, BackupError> {
    // To open a pipe would be to wait for whoever writes to it.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(BackupError::Damaged(path.to_owned(), "it is no file".to_owned()));
    }
    let db = database::look_at(path)?;
    let told = |error| BackupError::Sqlite(path.to_owned(), error);
    let damaged = |why: String| BackupError::Damaged(path.to_owned(), why);
    let verdict: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(told)?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    load_all(&db).map_err(|error| damaged(error.to_string()))?;
    let count = |sql: &str| count(&db, sql).map_err(told);
    let has = |table: &str| count(&format!("sqlite_schema WHERE name = '{table}'")).map(|found| found > 0);
    // An earlier layout has neither documents nor letters.
    let (_, role) = if has("documents")? {
        documents::read(&db, Role::NAME).map_err(|error| damaged(error.to_string()))?
    } else {
        (0, None)
    };
    let role = role.map(serde_json::from_value::<Role>).transpose().map_err(|error| damaged(error.to_string()))?;
    Ok(Checked {
        schema: db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(told)?,
        partitions: count("partitions")?,
        journal: count("journal")?,
        waiting: count("outbox WHERE sent_at IS NULL AND parked_reason IS NULL")?,
        undelivered: count("deliveries WHERE settled_at IS NULL")?,
        letters: if has("letters")? { count("letters")? } else { 0 },
        shadow: role.is_some_and(|role| role.shadow),
    })
}

fn count(db: &Connection, of: &str) -> Result<u64, rusqlite::Error> {
    db.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Whether something has that name, be it a link that leads nowhere.
fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// What is not whole yet, under a name of its own; it is gone unless it is settled.
struct Parts {
    path: PathBuf,
    /// Locked as long as it is being written.
    _file: File,
}

impl Parts {
    /// Begins with an empty file beside `of` that nobody else may read.
    fn begin(of: &Path) -> Result<Self, BackupError> {
        let path = named(of, ".part");
        let told = |error| BackupError::Write(path.clone(), error);
        let busy = || BackupError::Busy(of.to_owned());
        // Left by one that was killed, unless somebody is at it. It is held until another has its name, so that nobody takes
        // that one away for it.
        let left = path.symlink_metadata().ok();
        let _held = if left.as_ref().is_some_and(fs::Metadata::is_file) {
            let held = File::open(&path).map_err(told)?;
            let is_named = |named: &fs::Metadata| held.metadata().is_ok_and(|held| held.ino() == named.ino());
            if held.try_lock().is_err() || !path.symlink_metadata().is_ok_and(|named| is_named(&named)) {
                return Err(busy());
            }
            Some(held)
        } else {
            None
        };
        if left.is_some() {
            fs::remove_file(&path).map_err(told)?;
        }
        // What is written into is ours from its first byte.
        let file = database::owned().create_new(true).open(&path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => busy(),
            _ => told(error),
        })?;
        file.try_lock().map_err(|_| busy())?;
        LOGS.iter().for_each(|log| drop(fs::remove_file(named(&path, log))));
        Ok(Self { path, _file: file })
    }

    /// Copies the database at `from` into it, with what is in its log, and reads it whole.
    fn fill(&self, from: &Path) -> Result<Checked, BackupError> {
        let path = &self.path;
        // A whole path is a path, and never one of SQLite's addresses.
        let whole = std::path::absolute(path).map_err(|error| BackupError::Write(path.clone(), error))?;
        let name = whole.to_str().ok_or_else(|| BackupError::Damaged(path.clone(), "its name is not UTF-8".into()))?;
        // SQLite writes into a file that is there, if it is empty.
        let copied = database::look_at(from)?.execute("VACUUM INTO ?1", [name]);
        copied.map_err(|error| BackupError::Sqlite(path.clone(), error))?;
        check(path)
    }

    /// Gives the file its name by `give` once it is on disk, and the name as well.
    fn settle(self, to: &Path, give: impl Fn(&Path, &Path) -> std::io::Result<()>) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        give(&self.path, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Once it is settled, nothing has that name.
        for end in LOGS.into_iter().chain([""]) {
            let _ = fs::remove_file(named(&self.path, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rusqlite::OpenFlags;

    use super::*;
    use crate::adapter::embedded::Durability;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_name_that_is_taken_by_a_link_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy, link) = (folder.path().join("data"), folder.path().join("copy"), folder.path().join("link"));
        drop(Embedded::open(&data, Durability::Full).unwrap());
        Embedded::back_up(&data, &copy).unwrap();
        symlink(folder.path().join("nowhere"), &link).unwrap();
        assert!(matches!(Embedded::back_up(&data, &link), Err(BackupError::There(_))));
        assert!(link.symlink_metadata().unwrap().is_symlink(), "it was replaced");
        // The store is a link to a disk that is not mounted.
        let away = folder.path().join("away");
        fs::create_dir(&away).unwrap();
        symlink(folder.path().join("nowhere"), away.join(FILE)).unwrap();
        assert!(matches!(Embedded::restore(&copy, &away, false, None), Err(BackupError::There(_))));
        assert!(away.join(FILE).symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn nobody_else_reads_a_store_or_a_copy_and_what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy, back) = (folder.path().join("data"), folder.path().join("copy"), folder.path().join("back"));
        drop(Embedded::open(&data, Durability::Full).unwrap());
        Embedded::back_up(&data, &copy).unwrap();
        // A copy that was made readable is restored as ours.
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
        Embedded::restore(&copy, &back, false, None).unwrap();
        Embedded::back_up(&back, &folder.path().join("again")).unwrap();
        for path in [data.join(FILE), back.join(FILE), folder.path().join("again")] {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        // A directory has its name, so the copy cannot have it once it is whole.
        fs::remove_file(back.join(FILE)).unwrap();
        fs::create_dir(back.join(FILE)).unwrap();
        assert!(Embedded::restore(&copy, &back, false, Some("aside")).is_err());
        let left: Vec<_> = fs::read_dir(&back).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
    }

    #[test]
    fn what_is_damaged_or_leads_nowhere_is_laid_aside_as_it_is() {
        // Whoever needs a copy most has a store that cannot be read.
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        // Closed when it is dropped, on this thread: nothing is left in a log that would mend the file.
        drop(Embedded::open(&data, Durability::Off).unwrap());
        let whole = Embedded::back_up(&data, &copy).unwrap();
        let damaged = vec![0; 8192];
        fs::write(data.join(FILE), &damaged).unwrap();
        let (restored, aside) = Embedded::restore(&copy, &data, false, Some("aside")).unwrap();
        assert_eq!(restored, whole);
        assert!(fs::read(aside.unwrap()).unwrap() == damaged);
        // A name is given once: what was laid aside under it stays.
        fs::write(data.join(FILE), "other").unwrap();
        assert!(Embedded::restore(&copy, &data, false, Some("aside")).is_err());
        assert!(fs::read(data.join(format!("{FILE}.aside"))).unwrap() == damaged);
        fs::remove_file(data.join(FILE)).unwrap();
        symlink(folder.path().join("nowhere"), data.join(FILE)).unwrap();
        let (_, aside) = Embedded::restore(&copy, &data, false, Some("link")).unwrap();
        assert!(aside.unwrap().symlink_metadata().unwrap().is_symlink());
        check(&data.join(FILE)).unwrap();
    }

    #[test]
    fn where_the_store_is_a_link_the_copy_goes_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy, disk) = (folder.path().join("data"), folder.path().join("copy"), folder.path().join("disk"));
        drop(Embedded::open(&disk, Durability::Full).unwrap());
        Embedded::back_up(&disk, &copy).unwrap();
        fs::create_dir(&data).unwrap();
        symlink(disk.join(FILE), data.join(FILE)).unwrap();
        let (_, aside) = Embedded::restore(&copy, &data, false, Some("aside")).unwrap();
        assert!(data.join(FILE).symlink_metadata().unwrap().is_symlink());
        assert_eq!(aside.unwrap(), fs::canonicalize(&disk).unwrap().join(format!("{FILE}.aside")));
    }

    #[test]
    fn what_is_in_a_log_is_copied_and_never_lost_to_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let (data, back, copy) = (folder.path().join("data"), folder.path().join("back"), folder.path().join("copy"));
        drop(Embedded::open(&data, Durability::Full).unwrap());
        Embedded::back_up(&data, &copy).unwrap();
        let (reader, writer) = (data.join(FILE), data.join(FILE));
        let (reader, writer) = (Connection::open(reader).unwrap(), Connection::open(writer).unwrap());
        let count =
            |db: &Connection| db.query_row("SELECT count(*) FROM cursors", [], |row| row.get::<_, i64>(0)).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let before = count(&reader);
        writer.execute("INSERT INTO cursors (name, value) VALUES ('in the log', 1)", []).unwrap();
        // As a copy it has what is in its log.
        Embedded::restore(&data.join(FILE), &back, false, None).unwrap();
        assert_eq!(count(&Connection::open(back.join(FILE)).unwrap()), before + 1);
        // And it is not laid aside without that while somebody reads what was before.
        let refused = Embedded::restore(&copy, &data, false, Some("aside")).unwrap_err();
        assert!(matches!(refused, BackupError::Open(OpenError::InUse(_))), "{refused}");
        reader.execute_batch("ROLLBACK").unwrap();
        let (_, aside) = Embedded::restore(&copy, &data, false, Some("aside")).unwrap();
        assert_eq!(count(&Connection::open(aside.unwrap()).unwrap()), before + 1);
        let left: Vec<_> = fs::read_dir(&back).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains(".part")), "{left:?}");
    }

    #[test]
    fn an_earlier_file_is_kept_as_it_was_by_whoever_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path(), folder.path().join(FILE));
        drop(Embedded::open(data, Durability::Off).unwrap());
        let become_earlier = || {
            Connection::open(&file).unwrap().execute_batch("DROP TABLE plans; PRAGMA user_version = 5").unwrap();
        };
        let copies = || {
            let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| name.contains("layout")).collect();
            names.sort();
            names
        };
        become_earlier();
        drop(Embedded::open(data, Durability::Off).unwrap());
        assert_eq!(check(&data.join("tipoff.db.layout-5")).unwrap().schema, 5);
        assert_eq!(check(&file).unwrap().schema, SCHEMA);
        drop(Embedded::open(data, Durability::Off).unwrap());
        assert_eq!(copies(), ["tipoff.db.layout-5"], "nothing was changed, so nothing is copied");
        become_earlier();
        // Where it cannot be copied it is not changed.
        fs::create_dir(data.join("tipoff.db.layout-5-2.part")).unwrap();
        let refused = Embedded::open(data, Durability::Off).unwrap_err();
        assert!(matches!(refused, OpenError::Copy { found: 5, .. }), "{refused}");
        assert_eq!(check(&file).unwrap().schema, 5);
        fs::remove_dir(data.join("tipoff.db.layout-5-2.part")).unwrap();
        drop(Embedded::open(data, Durability::Off).unwrap());
        assert_eq!(copies(), ["tipoff.db.layout-5", "tipoff.db.layout-5-2"]);
    }

    #[test]
    fn what_somebody_was_at_who_was_killed_is_undone_by_whoever_opens_it_next() {
        // A restored file has a journal at first, and no log; a kill in the next start leaves that.
        let folder = tempfile::tempdir().unwrap();
        let (data, copy, killed) =
            (folder.path().join("data"), folder.path().join("copy"), folder.path().join("killed"));
        drop(Embedded::open(&data, Durability::Off).unwrap());
        let whole = Embedded::back_up(&data, &copy).unwrap();
        fs::create_dir(&killed).unwrap();
        let (file, hot) = (killed.join(FILE), killed.join("tipoff.db-journal"));
        let kill = || {
            fs::copy(&copy, folder.path().join("at-work")).unwrap();
            let db = Connection::open(folder.path().join("at-work")).unwrap();
            // Pages go to the file before the end of the transaction.
            db.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN; DELETE FROM cursors").unwrap();
            let many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500)
                INSERT INTO cursors (name, value) SELECT hex(randomblob(500)), x FROM n";
            db.execute_batch(many).unwrap();
            fs::copy(folder.path().join("at-work"), &file).unwrap();
            fs::copy(folder.path().join("at-work-journal"), &hot).unwrap();
            let only_looks = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let looked = only_looks.query_row("SELECT count(*) FROM cursors", [], |row| row.get::<_, i64>(0));
            assert!(looked.is_err(), "there is nothing to undo");
        };
        kill();
        assert_eq!(check(&file).unwrap(), whole, "whoever looks");
        kill();
        drop(Embedded::open(&killed, Durability::Off).unwrap());
        assert_eq!(check(&file).unwrap(), whole, "whoever serves");
        // Nor does it get into what is restored after the file was taken away.
        kill();
        fs::remove_file(&file).unwrap();
        Embedded::restore(&copy, &killed, false, None).unwrap();
        assert!(!hot.exists());
        drop(Embedded::open(&killed, Durability::Off).unwrap());
        assert_eq!(check(&file).unwrap(), whole);
    }

    #[test]
    fn copies_to_one_name_leave_each_other_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        drop(Embedded::open(&data, Durability::Off).unwrap());
        let first = Parts::begin(&copy).unwrap();
        assert!(matches!(Embedded::back_up(&data, &copy), Err(BackupError::Busy(_))));
        assert!(folder.path().join("copy.part").exists(), "it was taken from whoever writes it");
        drop(first);
        // What has come meanwhile stays.
        let parts = Parts::begin(&copy).unwrap();
        fs::write(&copy, "mine").unwrap();
        assert_eq!(parts.settle(&copy, also_named).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&copy).unwrap(), b"mine");
        for name in ["data/tipoff.db-wal", "copy-journal", "x-shm"] {
            let refused = Embedded::back_up(&data, &folder.path().join(name)).unwrap_err();
            assert!(matches!(refused, BackupError::Log(_)), "{refused}");
        }
        assert!(!folder.path().join("copy.part").exists());
    }

    #[test]
    fn a_layout_that_no_version_writes_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        drop(Embedded::open(&data, Durability::Full).unwrap());
        Embedded::back_up(&data, &copy).unwrap();
        Connection::open(&copy).unwrap().pragma_update(None, "user_version", -1).unwrap();
        let restore = |from: &Path| Embedded::restore(from, &folder.path().join("back"), false, None).unwrap_err();
        let refused = restore(&copy);
        assert!(matches!(refused, BackupError::Open(OpenError::Layout { found: -1, .. })), "{refused}");
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(restore(&pipe), BackupError::Damaged(..)));
        assert!(!folder.path().join("back").exists());
    }
}
