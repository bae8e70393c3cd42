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
        if to.exists() {
            return Err(BackupError::There(to.to_owned()));
        }
        let db = database::look_at(&dir.join(FILE))?;
        let parts = beside(to);
        // Left by one that was killed.
        let _ = fs::remove_file(&parts);
        let told = |error| BackupError::Sqlite(parts.clone(), error);
        let name = parts.to_str().ok_or_else(|| BackupError::Damaged(parts.clone(), "its name is not UTF-8".into()))?;
        db.execute("VACUUM INTO ?1", [name]).map_err(told)?;
        let checked = check(&parts);
        let kept = checked.and_then(|checked| {
            settle(&parts, to).map_err(|error| BackupError::Write(to.to_owned(), error))?;
            Ok(checked)
        });
        if kept.is_err() {
            let _ = fs::remove_file(&parts);
        }
        kept
    }

    /// Puts the copy at `from` into `dir`. What is there is laid aside under another name, if `replace` says that it may be.
    ///
    /// # Errors
    /// If the copy is damaged or a later version's, or something is there that may not be replaced. Then nothing has changed.
    pub fn restore(from: &Path, dir: &Path, replace: Option<&str>) -> Result<(Checked, Option<PathBuf>), BackupError> {
        let checked = check(from)?;
        let to = dir.join(FILE);
        let aside = match replace {
            _ if !to.exists() => None,
            Some(word) => Some(dir.join(format!("{FILE}.{word}"))),
            None => return Err(BackupError::There(to)),
        };
        let told = |error| BackupError::Write(to.clone(), error);
        fs::create_dir_all(dir).map_err(told)?;
        let _alone = database::alone(dir)?;
        let parts = beside(&to);
        fs::copy(from, &parts).map_err(told)?;
        check(&parts)?;
        if let Some(aside) = &aside {
            // What is in the log beside it belongs to it, and to nothing that comes after it.
            database::fold(&to)?;
            // It has two names until the copy takes its own: whoever is killed in between leaves a store, never none.
            fs::hard_link(&to, aside).or_else(|_| fs::copy(&to, aside).map(drop)).map_err(told)?;
        }
        for log in ["-wal", "-shm"] {
            let _ = fs::remove_file(dir.join(format!("{FILE}{log}")));
        }
        settle(&parts, &to).map_err(told)?;
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

/// A name for what is not whole yet.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Gives a file its name once it is on disk, and the name as well.
fn settle(parts: &Path, to: &Path) -> std::io::Result<()> {
    File::open(parts)?.sync_all()?;
    fs::rename(parts, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
