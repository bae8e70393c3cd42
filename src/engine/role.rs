//! Whether what is decided is done. A store that a shadow has decided on stays a shadow's, since what it holds as asked for
//! was never sent; one that decides for real is never made a shadow's.

use super::Engine;
use crate::domain::id::{NodeId, PipelineId};
use crate::domain::shadow::Role;
use crate::port::{Store, StoreError};

/// Tries to note the role against others who start.
const TRIES_MAX: usize = 8;

/// Why a store cannot be used so.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is a shadow's.
    #[error(
        "what is kept there was decided in the shadow, and never sent; begin with another store, or go on with --shadow"
    )]
    Shadows,
    /// It is not.
    #[error("what is kept there was decided for real; a shadow has a store of its own")]
    Real,
    /// Others change it all the time.
    #[error("somebody else changes it at the same time; try again")]
    Contended,
}

/// Notes what a store is for from now on.
///
/// # Errors
/// If it is for something else, or cannot be written.
pub async fn assume(
    store: &dyn Store,
    pipelines: impl Iterator<Item = &PipelineId>,
    role: &Role,
) -> Result<(), RoleError> {
    let used = is_used(store, pipelines).await?;
    for _ in 0..TRIES_MAX {
        let (version, known) = store.kept::<Role>().await?;
        match (known.shadow, role.shadow) {
            (true, false) => return Err(RoleError::Shadows),
            (false, true) if used || version > 0 => return Err(RoleError::Real),
            _ if known == *role && (version > 0 || !role.shadow) => return Ok(()),
            _ => {}
        }
        if store.keep(version, role).await? {
            return Ok(());
        }
    }
    Err(RoleError::Contended)
}

/// Whether what a store holds was decided for real.
///
/// # Errors
/// If it cannot be read.
pub async fn is_real(store: &dyn Store, pipelines: impl Iterator<Item = &PipelineId>) -> Result<bool, StoreError> {
    let (version, role) = store.kept::<Role>().await?;
    Ok(!role.shadow && (version > 0 || is_used(store, pipelines).await?))
}

async fn is_used(store: &dyn Store, pipelines: impl Iterator<Item = &PipelineId>) -> Result<bool, StoreError> {
    for pipeline in pipelines {
        if !store.dates(pipeline, 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Engine {
    /// Whether what `node` is asked leaves. What is not declared any more is refused when it is rendered.
    pub(super) fn sends(&self, pipeline: &PipelineId, node: &NodeId) -> bool {
        let phase = || Some(&self.graph(pipeline)?.node(node)?.phase);
        let role = &self.settings.role;
        role.sends.is_none() || phase().is_some_and(|phase| role.sends(phase))
    }

    /// What the store is for.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn role(&self) -> Result<Role, StoreError> {
        Ok(self.store.kept::<Role>().await?.1)
    }
}
