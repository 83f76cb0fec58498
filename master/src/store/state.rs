//! Whether the store takes writes, for whoever has to know.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Store, StoreError, writer::Write};

/// How often a full disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether the store takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// It does.
    Open,
    /// The disk is full: what comes from minions, operators and programs is refused, what the master has to write of
    /// itself goes into the reserve.
    Full {
        /// Since when.
        since: Timestamp,
    },
    /// The engine has failed: the master ends.
    Failed,
}

impl Store {
    /// Whether the store takes writes, and to be told when that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<StoreState> {
        self.state.clone()
    }

    /// Whether it refuses what comes from outside.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(*self.state.borrow(), StoreState::Full { .. })
    }

    /// Returns when it takes what comes from outside.
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn room(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let is_full = |state: &StoreState| matches!(state, StoreState::Full { .. });
        match state.wait_for(|state| !is_full(state)).await.map(|state| *state) {
            Ok(StoreState::Open | StoreState::Full { .. }) => Ok(()),
            Ok(StoreState::Failed) | Err(_) => Err(StoreError::Failed),
        }
    }

    /// Counts events that were turned away before they came to the store: the event that tells of it has the sum.
    pub fn count_refused(&self, events: u64) {
        self.refused.fetch_add(events, Ordering::Relaxed);
    }

    /// Looks at the disk, which else is looked at with each write.
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn look(&self) -> Result<(), StoreError> {
        self.writes.send(Write::Look).await.map_err(|_| StoreError::Failed)
    }

    /// Finds out when a full disk has room again, for as long as the master runs.
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn watch_disk(self) -> Result<(), StoreError> {
        let mut state = self.state();
        loop {
            let full = state.wait_for(|state| matches!(state, StoreState::Full { .. })).await;
            drop(full.map_err(|_| StoreError::Failed)?);
            while self.is_full() {
                tokio::time::sleep(LOOK_EVERY).await;
                self.look().await?;
            }
        }
    }
}
