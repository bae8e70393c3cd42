//! Everything in one directory: store, bus and warehouse in one SQLite file, for development, for tests and for an
//! installation of one machine.
//!
//! What holds:
//! - a commit changes partition, outbox and journal together or not at all, and is on disk before it is answered;
//! - two processes may open the same file: the version in a commit is what decides between them, not who came first;
//! - a row that decides something carries a checksum, so that a flipped bit is an error and never another decision;
//! - a full disk refuses writes and nothing else, and writing works again once there is room.
//!
//! It reads no clock: whatever needs the time is given it.

mod alerts;
mod backup;
mod bus;
mod collect;
mod database;
mod documents;
mod letters;
mod plans;
mod push;
mod store;
mod text;
mod warehouse;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

pub use backup::{BackupError, Checked, check};
pub use bus::{Backlog, EmbeddedBus, Leased};
pub use database::{Durability, FILE, OpenError, SCHEMA};
pub use push::{PushTargets, Pusher};
pub use store::{Lock, Pruned};
pub use warehouse::question;

use self::database::Database;
use crate::port::StoreError;

/// The store and the warehouse of one directory. Cloning shares it.
#[derive(Clone)]
pub struct Embedded {
    database: Arc<Database>,
    /// Why the warehouse does not answer, while it is told not to.
    unavailable: Arc<Mutex<Option<String>>>,
}

impl Embedded {
    /// Opens the file in `dir`, creating both as needed. An earlier version's is brought up to this one's layout, and kept beside
    /// it as it was.
    pub fn open(dir: &Path, durability: Durability) -> Result<Self, OpenError> {
        Self::keep_earlier(dir)?;
        Database::open(dir, durability).map(Self::over)
    }

    /// Opens the file in `dir`, which must exist: an operator's request must not make a store that nobody serves.
    pub fn open_existing(dir: &Path, durability: Durability) -> Result<Self, OpenError> {
        drop(Database::open_read_only(dir)?);
        Self::open(dir, durability)
    }

    /// Opens the file in `dir` for looking only; it must exist, and every write is refused.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        Database::open_read_only(dir).map(Self::over)
    }

    /// Keeps the file from growing beyond so many pages, or lifts that bound. A write that needs more is refused as
    /// unavailable, exactly as on a full disk.
    pub async fn bound_pages(&self, pages_max: Option<u32>) -> Result<(), StoreError> {
        // SQLite takes the largest page number as "no bound of ours".
        let pages = pages_max.unwrap_or(u32::MAX - 1);
        self.database.write(move |db| Ok(db.pragma_update(None, "max_page_count", pages)?)).await
    }

    /// How many pages the file has, as [`Embedded::bound_pages`] counts them.
    pub async fn pages(&self) -> Result<u32, StoreError> {
        self.database.read(|db| Ok(db.pragma_query_value(None, "page_count", |row| row.get(0))?)).await
    }

    /// Deletes sent effects, exported journal entries, settled deliveries, settled letters and superseded reports from before
    /// `before`.
    /// A journal entry that has not been exported is kept whatever its age, as is whatever is still to be delivered.
    pub async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        self.database.write(move |db| store::prune(db, before)).await
    }

    fn over(database: Database) -> Self {
        Self { database: Arc::new(database), unavailable: Arc::default() }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("database", &self.database).finish_non_exhaustive()
    }
}
