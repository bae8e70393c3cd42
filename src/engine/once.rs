//! Carries a call out once, however often it is made under one key: also across a crash, and by several processes.

use jiff::Timestamp;

use super::Engine;
use crate::domain::once::{Calls, Entered};
use crate::port::StoreError;

/// Tries to change what is kept of calls against others who do.
const TRIES_MAX: usize = 8;

impl Engine {
    /// Enters a call under `key` for `content`, both digests.
    ///
    /// # Errors
    /// If the store does not keep it; then it must not be carried out.
    pub async fn enter(&self, key: &str, content: &str, now: Timestamp) -> Result<Entered, StoreError> {
        self.change_calls(|calls| calls.enter(key, content, now)).await
    }

    /// Notes what came of it; nothing where it may be made again.
    ///
    /// # Errors
    /// If that is not kept: the same call is then carried out again, as the same request.
    pub async fn answered(&self, key: &str, answer: Option<(u16, String)>) -> Result<(), StoreError> {
        self.change_calls(|calls| calls.answer(key, answer.clone())).await
    }

    async fn change_calls<T>(&self, change: impl Fn(&mut Calls) -> T) -> Result<T, StoreError> {
        for _ in 0..TRIES_MAX {
            let (version, mut calls) = self.store.kept::<Calls>().await?;
            let before = calls.clone();
            let answer = change(&mut calls);
            if calls == before || self.store.keep(version, &calls).await? {
                return Ok(answer);
            }
        }
        Err(StoreError::Unavailable("others keep changing what is kept of calls".to_owned()))
    }
}
