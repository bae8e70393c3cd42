//! Who may touch the file, and when: one writer that commits what waits together, and a few readers.
//!
//! The cost of a durable commit is the sync, not the rows. So the writer drains what waits into one transaction, a
//! savepoint for each request, and answers them all after the one sync. It knows nothing of what the requests mean.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::{BackupError, documents, letters, plans, warehouse};
use crate::crash::{self, Place};
use crate::port::StoreError;

/// The file's name within its directory.
pub const FILE: &str = "tipoff.db";

/// `tipo` in ASCII: tells our file from any other SQLite file.
const APPLICATION_ID: i32 = 0x7469_706f;
/// The layout of the tables in this version of the program.
pub const SCHEMA: i32 = 6;
/// How long a writer waits for another process's transaction: those take milliseconds, a backup may take seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests committed together. More adds latency for the first of them and saves nothing measurable.
const GROUP_MAX: usize = 256;
/// Requests waiting for the writer. Whoever comes after waits in line, which slows the intake as it should.
const WAITING_MAX: usize = 1024;
/// Readers at once. Reading is fast; more would only hold more page caches.
const READERS_MAX: usize = 4;

/// What a commit survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The death of the machine.
    Full,
    /// Nothing. Every request runs at once on its caller's thread, so that a simulated run repeats exactly.
    Off,
}

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing and cannot be made.
    #[error("create {0}")]
    Directory(PathBuf, #[source] std::io::Error),
    /// SQLite refuses.
    #[error("open {0}")]
    Sqlite(PathBuf, #[source] rusqlite::Error),
    /// It is a SQLite file, but somebody else's.
    #[error("{0} is not a tipoff database: its application id is {1:#x}")]
    NotOurs(PathBuf, i32),
    /// A later version of the program has written it.
    #[error(
        "{path} has schema {found}, and this version of tipoff knows up to {SCHEMA}; use the version that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// Nobody has written it so.
    #[error("{path} has schema {found}, which no version of tipoff writes: it is damaged; restore it from a copy")]
    Layout {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// It has to be changed, and cannot be kept as it is before.
    #[error(
        "{path} has schema {found}, and could not be copied before it is changed; `tipoff migrate --copy FILE` copies it elsewhere"
    )]
    Copy {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
        /// Why not.
        source: Box<BackupError>,
    },
    /// Somebody is putting another file in its place.
    #[error("{0} is being replaced by a copy; open it again in a moment")]
    Replaced(PathBuf),
    /// Somebody writes to it, or reads it while it is to be replaced.
    #[error("a service runs on {0}, or a command uses it: end it first")]
    InUse(PathBuf),
    /// There is nothing to look at yet.
    #[error("{0} holds no tipoff database yet")]
    Empty(PathBuf),
    /// No thread could be started.
    #[error("start the writer")]
    Thread(#[source] std::io::Error),
}

/// The open file.
pub(super) struct Database {
    path: PathBuf,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
    places: Semaphore,
    /// Rings when something may be there to push.
    pub(super) deliveries: Notify,
    /// Held as long as anything may be written.
    _use: Option<File>,
}

enum Writer {
    /// A thread of its own.
    Thread(mpsc::Sender<Box<dyn Request>>),
    /// The caller's thread.
    Inline(Box<Mutex<Connection>>),
    /// Nobody writes.
    None,
}

/// Something to be done inside the writer's transaction, and answered after it.
trait Request: Send {
    /// Does it. Whether what it did is to be kept.
    fn run(&mut self, db: &Connection) -> bool;
    /// Tells whoever asked what became of it, or why nothing did.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Asked<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Request for Asked<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, db: &Connection) -> bool {
        // A panic is of this work; the thread has to serve others as well.
        let fault = |_| Err(StoreError::Unavailable("it panicked, which is a fault of tipoff".into()));
        self.result = self.work.take().map(|work| catch_unwind(AssertUnwindSafe(|| work(db))).unwrap_or_else(fault));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.result) {
            // A refusal was decided on rows of this transaction; if those came to nothing, so did the refusal.
            (Err(error), _) => Err(error),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Unavailable("the request was not run".into())),
        };
        // Whoever asked may have stopped waiting; the commit stands all the same.
        let _ = self.reply.send(answer);
    }
}

impl Database {
    pub(super) fn open(dir: &Path, durability: Durability) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(|error| OpenError::Directory(dir.to_owned(), error))?;
        let path = dir.join(FILE);
        let used = in_use(dir)?;
        used.try_lock_shared().map_err(|_| OpenError::Replaced(path.clone()))?;
        // SQLite gives the files that it makes beside it the same mode. One that is there is left alone: to close it by hand would
        // drop this process's locks on it.
        match owned().create_new(true).open(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(OpenError::Directory(path.clone(), error));
            }
            // One that somebody has made for us, and in which nothing is yet.
            Err(_) if path.metadata().is_ok_and(|found| found.is_file() && found.len() == 0) => {
                let mode = std::fs::set_permissions(&path, Permissions::from_mode(0o600));
                mode.map_err(|error| OpenError::Directory(path.clone(), error))?;
            }
            _ => {}
        }
        let mut db = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        check_identity(&db, &path)?;
        let refused = |error| OpenError::Sqlite(path.clone(), error);
        db.pragma_update(None, "journal_mode", "WAL").map_err(refused)?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Off => "OFF",
        };
        db.pragma_update(None, "synchronous", synchronous).map_err(refused)?;
        db.pragma_update(None, "foreign_keys", true).map_err(refused)?;
        create(&mut db, &path)?;
        let writer = match durability {
            Durability::Full => {
                let (sender, receiver) = mpsc::channel(WAITING_MAX);
                thread::Builder::new()
                    .name("tipoff-store-writer".into())
                    .spawn(move || write_in_groups(&db, receiver))
                    .map_err(OpenError::Thread)?;
                Writer::Thread(sender)
            }
            Durability::Off => Writer::Inline(Box::new(Mutex::new(db))),
        };
        let (readers, places) = (Mutex::default(), Semaphore::new(READERS_MAX));
        Ok(Self { path, writer, readers, places, deliveries: Notify::new(), _use: Some(used) })
    }

    pub(super) fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let readers = Mutex::new(vec![look_at(&path)?]);
        let (writer, places) = (Writer::None, Semaphore::new(READERS_MAX));
        Ok(Self { path, writer, readers, places, deliveries: Notify::new(), _use: None })
    }

    /// Does `work` in the writer's next transaction. What it returns is told once that transaction is on disk; an error
    /// undoes this work and no other.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Asked { work: Some(work), result: None, reply });
        match &self.writer {
            Writer::Thread(sender) => sender.send(request).await.map_err(|_| gone())?,
            Writer::Inline(db) => commit_group(&lock(db), vec![request]),
            Writer::None => return Err(StoreError::Unavailable("the store was opened for reading only".into())),
        }
        answer.await.map_err(|_| gone())?
    }

    /// Does `look` on a consistent view of what has been committed.
    pub(super) async fn read<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        if let Writer::Inline(db) = &self.writer {
            return look(&lock(db));
        }
        let place = self.places.acquire().await.map_err(|_| gone())?;
        let idle = lock(&self.readers).pop();
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let db = match idle {
                Some(db) => db,
                None => connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
                    .map_err(|error| StoreError::Unavailable(format!("open a reader: {error}")))?,
            };
            // Several statements of one look must see one state of the file.
            db.execute_batch("BEGIN")?;
            let answer = look(&db);
            let ended = db.execute_batch("ROLLBACK");
            Ok::<_, StoreError>((answer, ended.is_ok().then_some(db)))
        })
        .await
        .map_err(|error| StoreError::Unavailable(format!("the reader ended: {error}")))?;
        let (answer, db) = looked?;
        // A connection that cannot end its transaction is dropped; the next reader opens another.
        lock(&self.readers).extend(db);
        drop(place);
        answer
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { what: "the database file".into(), why: error.to_string() }
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// Takes a lock whose holder may have panicked: a connection or a list of them is sound between two uses.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> StoreError {
    StoreError::Unavailable("the writer has ended".into())
}

/// A file that is written to and, where it is new, read by nobody else: what it holds is as good as the requests of operators.
pub(super) fn owned() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// The file that says, by its lock, whether anybody may write to the directory.
fn in_use(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("tipoff.lock");
    let opened = owned().create(true).truncate(false).open(&path);
    opened.map_err(|error| OpenError::Directory(path, error))
}

/// Keeps everybody else from writing to the directory, until it is dropped.
///
/// # Errors
/// If somebody may be writing.
pub(super) fn alone(dir: &Path) -> Result<File, OpenError> {
    let used = in_use(dir)?;
    used.try_lock().map_err(|_| OpenError::InUse(dir.join(FILE)))?;
    Ok(used)
}

/// The schema of the file in `dir`, if there is one that may be used.
pub(super) fn schema(dir: &Path) -> Result<Option<i32>, OpenError> {
    let path = dir.join(FILE);
    // A new one is made with nothing in it.
    if path.metadata().is_ok_and(|file| file.len() > 0) {
        return looked_at(&path).map(|(_, schema)| Some(schema));
    }
    Ok(None)
}

/// A database for looking only, and its schema. What somebody was at who was killed is undone first, which whoever only looks
/// cannot do.
fn looked_at(path: &Path) -> Result<(Connection, i32), OpenError> {
    let look = || {
        let db = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let schema = check_identity(&db, path)?;
        Ok((db, schema))
    };
    match look() {
        Err(OpenError::Sqlite(_, error))
            if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_ROLLBACK) =>
        {
            check_identity(&connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, path)?;
            look()
        }
        looked => looked,
    }
}

/// A database of ours, for looking only.
pub(super) fn look_at(path: &Path) -> Result<Connection, OpenError> {
    match looked_at(path)? {
        (_, 0) => Err(OpenError::Empty(path.to_owned())),
        (db, _) => Ok(db),
    }
}

/// Has a file to which nobody writes at the moment hold everything itself, and nothing in a log beside it.
///
/// # Errors
/// [`OpenError::InUse`] where somebody reads what is in the log.
pub(super) fn fold(path: &Path) -> Result<(), OpenError> {
    let db = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    match busy.map_err(|error| OpenError::Sqlite(path.to_owned(), error))? {
        true => Err(OpenError::InUse(path.to_owned())),
        false => Ok(()),
    }
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, OpenError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let refused = |error| OpenError::Sqlite(path.to_owned(), error);
    let db = Connection::open_with_flags(path, flags).map_err(refused)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
    // Finds some kinds of damage when a page is read rather than when its contents are believed.
    db.pragma_update(None, "cell_size_check", true).map_err(refused)?;
    Ok(db)
}

/// The file's schema if the file may be used; 0 for a new file.
fn check_identity(db: &Connection, path: &Path) -> Result<i32, OpenError> {
    let refused = |error| OpenError::Sqlite(path.to_owned(), error);
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(refused);
    let (application, schema) = (number("application_id")?, number("user_version")?);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refused)?;
    match (application, schema) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, found) if found > SCHEMA => Err(OpenError::Newer { path: path.to_owned(), found }),
        (APPLICATION_ID, found) if found < 1 => Err(OpenError::Layout { path: path.to_owned(), found }),
        (APPLICATION_ID, found) => Ok(found),
        (other, _) => Err(OpenError::NotOurs(path.to_owned(), other)),
    }
}

/// Creates the tables that are missing, unless another process was faster.
fn create(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let refused = |error| OpenError::Sqlite(path.to_owned(), error);
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(refused)?;
    match check_identity(&transaction, path)? {
        SCHEMA => return Ok(()),
        0 => transaction.execute_batch(TABLES).map_err(refused)?,
        // Earlier ones lack whose an alert is, documents, letters, plans, and tables of the warehouse.
        _ => {
            let known = "SELECT count(*) FROM pragma_table_info('alerts') WHERE name = 'about'";
            if transaction.query_row(known, [], |row| row.get::<_, i32>(0)).map_err(refused)? == 0 {
                transaction.execute_batch("ALTER TABLE alerts ADD COLUMN about TEXT").map_err(refused)?;
            }
        }
    }
    transaction.execute_batch(documents::TABLE).map_err(refused)?;
    crash::at(Place::Migration);
    transaction.execute_batch(letters::TABLES).map_err(refused)?;
    crash::at(Place::Migration);
    transaction.execute_batch(warehouse::REPORTS).map_err(refused)?;
    crash::at(Place::Migration);
    transaction.execute_batch(plans::TABLE).map_err(refused)?;
    crash::at(Place::Migration);
    transaction.execute_batch(&warehouse::history_tables()).map_err(refused)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(refused)?;
    transaction.pragma_update(None, "user_version", SCHEMA).map_err(refused)?;
    crash::at(Place::Migration);
    transaction.commit().map_err(refused)
}

fn write_in_groups(db: &Connection, mut requests: mpsc::Receiver<Box<dyn Request>>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    // Ends when the last owner of the sender is gone and everything it sent has been answered.
    while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        commit_group(db, std::mem::take(&mut group));
    }
}

/// Does every request of the group in one transaction, and answers them.
fn commit_group(db: &Connection, mut group: Vec<Box<dyn Request>>) {
    let committed = try_group(db, &mut group);
    if committed.is_err() && !db.is_autocommit() {
        // Some errors have ended the transaction already; the connection is usable again in either case.
        if let Err(error) = db.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a failed transaction could not be rolled back");
        }
    }
    for request in group {
        request.answer(committed.as_ref().copied().map_err(|error| StoreError::Unavailable(error.to_string())));
    }
}

fn try_group(db: &Connection, group: &mut [Box<dyn Request>]) -> Result<(), rusqlite::Error> {
    // Immediate: a transaction that begins as a reader can lose against another process in its middle.
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for request in group {
        db.prepare_cached("SAVEPOINT request")?.execute([])?;
        if !request.run(db) {
            // A full disk may have ended the whole transaction, and with it what the others did.
            db.prepare_cached("ROLLBACK TO request")?.execute([])?;
        }
        db.prepare_cached("RELEASE request")?.execute([])?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// The tables but for the history of runs. Instants are RFC 3339 texts of one width, see `text::instant`; documents
/// are JSON.
const TABLES: &str = include_str!("schema.sql");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_schema_and_a_strangers_file_are_refused() {
        // Writing into a layout that is not known would destroy it.
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open(dir.path(), Durability::Off).unwrap());
        let db = Connection::open(dir.path().join(FILE)).unwrap();
        db.pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        let refused = Database::open(dir.path(), Durability::Off).unwrap_err();
        assert!(matches!(refused, OpenError::Newer { found, .. } if found == SCHEMA + 1), "{refused}");
        db.pragma_update(None, "application_id", 7).unwrap();
        let refused = Database::open(dir.path(), Durability::Off).unwrap_err();
        assert!(matches!(refused, OpenError::NotOurs(_, 7)), "{refused}");
    }

    #[test]
    fn an_earlier_file_gets_the_tables_that_it_lacks() {
        // What it holds stays; nobody has to begin again after an upgrade.
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open(dir.path(), Durability::Off).unwrap());
        let db = Connection::open(dir.path().join(FILE)).unwrap();
        db.execute_batch(
            "DROP TABLE tipoff_decisions; DROP TABLE warehouse_report; DROP TABLE documents;
             ALTER TABLE alerts DROP COLUMN about;
             INSERT INTO cursors VALUES ('export', 7); PRAGMA user_version = 1",
        )
        .unwrap();
        drop(Database::open_read_only(dir.path()).unwrap());
        drop(Database::open(dir.path(), Durability::Off).unwrap());
        let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("SELECT count(*) FROM tipoff_decisions"), 0);
        assert_eq!(number("SELECT count(*) FROM warehouse_report"), 0);
        assert_eq!(number("SELECT count(*) FROM documents"), 0);
        assert_eq!(number("SELECT count(about) FROM alerts"), 0);
        assert_eq!(number("SELECT value FROM cursors WHERE name = 'export'"), 7);
        assert_eq!(number("PRAGMA user_version"), i64::from(SCHEMA));
    }

    #[test]
    fn looking_creates_nothing() {
        // The command line run in the wrong directory must not leave a database there.
        let dir = tempfile::tempdir().unwrap();
        assert!(Database::open_read_only(dir.path()).is_err());
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_request_that_fails_half_way_undoes_itself_alone() {
        // Its neighbours in the group are committed, and what it had written is gone.
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), Durability::Off).unwrap();
        let Writer::Inline(db) = &database.writer else { panic!("off writes on the caller's thread") };
        let mut answers = Vec::new();
        let group = ["first", "fails", "last"].map(|name| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let work = move |db: &Connection| {
                db.execute("INSERT INTO cursors (name, value) VALUES (?1, 1)", [name])?;
                if name == "fails" { Err(gone()) } else { Ok(()) }
            };
            Box::new(Asked { work: Some(work), result: None, reply }) as Box<dyn Request>
        });
        commit_group(&lock(db), group.into());
        let answers: Vec<bool> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap().is_ok()).collect();
        assert_eq!(answers, [true, false, true]);
        let kept: String =
            lock(db).query_row("SELECT group_concat(name ORDER BY name) FROM cursors", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "first,last");
    }
}
