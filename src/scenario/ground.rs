//! On what the engine stands in a run: the embedded store and bus, or whatever a test brings.

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
        let embedded = Embedded::open(self.folder.path(), Durability::Off).map_err(|error| error.to_string())?;
        let bus = embedded.bus(Arc::clone(&self.topology));
        Ok((Arc::new(embedded), Arc::new(bus)))
    }
}
