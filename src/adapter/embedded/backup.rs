//! A copy of the file, taken beside whoever writes to it, and checked before it counts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::Serialize;

use super::Embedded;
use super::database::{self, FILE, OpenError};
use super::store::load_all;

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
    /// The file is damaged.
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
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
}

impl Embedded {
    /// Copies the file in `dir` to `to`, as it stands at one instant, whoever writes meanwhile; the copy has been read whole
    /// before it has its name. What is at `to` is left as it is.
    ///
    /// # Errors
    /// If there is no copy.
    pub fn back_up(dir: &Path, to: &Path) -> Result<Checked, BackupError> {
        if is_taken(to) {
            return Err(BackupError::There(to.to_owned()));
        }
        let db = database::look_at(&dir.join(FILE))?;
        let written = |error| BackupError::Write(to.to_owned(), error);
        let (parts, _) = Parts::begin(to).map_err(written)?;
        let path = &parts.0;
        let told = |error| BackupError::Sqlite(path.clone(), error);
        let name = path.to_str().ok_or_else(|| BackupError::Damaged(path.clone(), "its name is not UTF-8".into()))?;
        // SQLite writes into a file that is there, if it is empty.
        db.execute("VACUUM INTO ?1", [name]).map_err(told)?;
        let checked = check(path)?;
        parts.settle(to).map_err(written)?;
        Ok(checked)
    }

    /// Puts the copy at `from` into `dir`. What is there is laid aside under another name, if `replace` says that it may be.
    ///
    /// # Errors
    /// If the copy is damaged or a later version's, or something is there that may not be replaced. Then nothing has changed.
    pub fn restore(from: &Path, dir: &Path, replace: Option<&str>) -> Result<(Checked, Option<PathBuf>), BackupError> {
        let checked = check(from)?;
        let to = dir.join(FILE);
        let aside = match replace {
            _ if !is_taken(&to) => None,
            Some(word) => Some(dir.join(format!("{FILE}.{word}"))),
            None => return Err(BackupError::There(to)),
        };
        let told = |error| BackupError::Write(to.clone(), error);
        fs::create_dir_all(dir).map_err(told)?;
        let _alone = database::alone(dir)?;
        let (parts, mut file) = Parts::begin(&to).map_err(told)?;
        File::open(from).and_then(|mut from| std::io::copy(&mut from, &mut file)).map_err(told)?;
        check(&parts.0)?;
        if let Some(aside) = &aside {
            // What is in the log beside it belongs to it, and to nothing that comes after it.
            database::fold(&to)?;
            // It has two names until the copy takes its own: whoever is killed in between leaves a store, never none.
            fs::hard_link(&to, aside).or_else(|_| fs::copy(&to, aside).map(drop)).map_err(told)?;
        }
        for log in ["-wal", "-shm"] {
            let _ = fs::remove_file(dir.join(format!("{FILE}{log}")));
        }
        parts.settle(&to).map_err(told)?;
        Ok((checked, aside))
    }
}

/// Reads a whole file: its pages, the checksum of every row that decides something, and every date.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<Checked, BackupError> {
    let db = database::look_at(path)?;
    let told = |error| BackupError::Sqlite(path.to_owned(), error);
    let damaged = |why: String| BackupError::Damaged(path.to_owned(), why);
    let verdict: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(told)?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    load_all(&db).map_err(|error| damaged(error.to_string()))?;
    let count = |sql: &str| count(&db, sql).map_err(told);
    Ok(Checked {
        schema: db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(told)?,
        partitions: count("partitions")?,
        journal: count("journal")?,
        waiting: count("outbox WHERE sent_at IS NULL AND parked_reason IS NULL")?,
        undelivered: count("deliveries WHERE settled_at IS NULL")?,
        // An earlier layout has none.
        letters: if count("sqlite_schema WHERE name = 'letters'")? == 0 { 0 } else { count("letters")? },
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
struct Parts(PathBuf);

impl Parts {
    /// Begins with an empty file beside `path` that nobody else may read.
    fn begin(path: &Path) -> std::io::Result<(Self, File)> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let parts = path.with_file_name(name);
        // Left by one that was killed.
        let _ = fs::remove_file(&parts);
        let file = database::owned().create_new(true).open(&parts)?;
        Ok((Self(parts), file))
    }

    /// Gives the file its name once it is on disk, and the name as well.
    fn settle(self, to: &Path) -> std::io::Result<()> {
        File::open(&self.0)?.sync_all()?;
        fs::rename(&self.0, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Once it is settled, nothing has that name.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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
        assert!(matches!(Embedded::restore(&copy, &away, None), Err(BackupError::There(_))));
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
        Embedded::restore(&copy, &back, None).unwrap();
        Embedded::back_up(&back, &folder.path().join("again")).unwrap();
        for path in [data.join(FILE), back.join(FILE), folder.path().join("again")] {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        // A directory has its name, so the copy cannot have it once it is whole.
        fs::remove_file(back.join(FILE)).unwrap();
        fs::create_dir(back.join(FILE)).unwrap();
        assert!(Embedded::restore(&copy, &back, Some("aside")).is_err());
        let left: Vec<_> = fs::read_dir(&back).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
    }

    #[test]
    fn a_layout_that_no_version_writes_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        drop(Embedded::open(&data, Durability::Full).unwrap());
        Embedded::back_up(&data, &copy).unwrap();
        Connection::open(&copy).unwrap().pragma_update(None, "user_version", -1).unwrap();
        let refused = Embedded::restore(&copy, &folder.path().join("back"), None).unwrap_err();
        assert!(matches!(refused, BackupError::Open(OpenError::Layout { found: -1, .. })), "{refused}");
        assert!(!folder.path().join("back").exists());
    }
}
