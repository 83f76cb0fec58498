//! Whether the store takes writes.

use jiff::Timestamp;
use tokio::sync::watch;

use super::Store;

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
}
