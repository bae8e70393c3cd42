//! On what the engine stands in a run: the embedded store and bus, or whatever a test brings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::adapter::embedded::{Durability, Embedded};
use crate::port::{Bus, Store};
use crate::topology::Topology;

/// A store and a bus that outlive the processes of a run.
#[async_trait]
pub trait Ground: Send {
    /// What a process finds that starts now. What an earlier one had not committed is gone.
    async fn open(&mut self) -> Result<(Arc<dyn Store>, Arc<dyn Bus>), String>;
}

/// The embedded store and bus in a directory that is gone with the run.
pub struct Embedding {
    folder: tempfile::TempDir,
    topology: Arc<Topology>,
}

/// The embedded store and bus in a directory that stays.
#[derive(Clone)]
pub struct Kept {
    folder: PathBuf,
    topology: Arc<Topology>,
}

impl Kept {
    /// In `folder`, which is made where it is not there.
    pub fn new(folder: &Path, topology: &Topology) -> Self {
        Self { folder: folder.to_owned(), topology: Arc::new(topology.clone()) }
    }
}

#[async_trait]
impl Ground for Kept {
    async fn open(&mut self) -> Result<(Arc<dyn Store>, Arc<dyn Bus>), String> {
        opened(&self.folder, &self.topology)
    }
}

impl Embedding {
    /// An empty one.
    ///
    /// # Errors
    /// If its directory cannot be made.
    pub fn new(topology: &Topology) -> std::io::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, topology: Arc::new(topology.clone()) })
    }
}

#[async_trait]
impl Ground for Embedding {
    async fn open(&mut self) -> Result<(Arc<dyn Store>, Arc<dyn Bus>), String> {
        opened(self.folder.path(), &self.topology)
    }
}

/// A store and its bus.
type Opened = (Arc<dyn Store>, Arc<dyn Bus>);

fn opened(folder: &Path, topology: &Arc<Topology>) -> Result<Opened, String> {
    let embedded = Embedded::open(folder, Durability::Off).map_err(|error| error.to_string())?;
    let bus = embedded.bus(Arc::clone(topology));
    Ok((Arc::new(embedded), Arc::new(bus)))
}
