//! How a bridge is doing, for `drover bridge status`.

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::store::{DeadLetter, ReadError, Store};

/// What a bridge's task says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Whether the last try was a success.
    pub(super) is_up: bool,
    /// The cursor.
    pub(super) settled: u64,
    /// Events delivered since the master started.
    pub(super) sent: u64,
    pub(super) dead_letters: usize,
    pub(super) last_error: Option<(Timestamp, String)>,
}

/// How a bridge is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgeStatus {
    /// Its name.
    pub name: String,
    /// `file` or `elasticsearch`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether the last try was a success; false too before there was one.
    pub up: bool,
    /// The last event that it is done with.
    pub seq: u64,
    /// Events that are stored and not yet done with.
    pub lag: u64,
    /// Events delivered since the master started.
    pub sent: u64,
    /// Notes of events that could not be delivered.
    pub dead_letters: usize,
    /// Why a try failed last.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
}

/// What others hold of a bridge.
#[derive(Clone)]
pub struct BridgeHandle {
    name: String,
    kind: &'static str,
    store: Store,
    progress: watch::Receiver<Progress>,
}

impl BridgeHandle {
    pub(super) const fn new(
        name: String,
        kind: &'static str,
        store: Store,
        progress: watch::Receiver<Progress>,
    ) -> Self {
        Self { name, kind, store, progress }
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> BridgeStatus {
        let progress = self.progress.borrow().clone();
        let (last_error_at, last_error) = progress.last_error.unzip();
        BridgeStatus {
            name: self.name.clone(),
            kind: self.kind,
            up: progress.is_up,
            seq: progress.settled,
            lag: self.store.last_seq().saturating_sub(progress.settled),
            sent: progress.sent,
            dead_letters: progress.dead_letters,
            last_error,
            last_error_at,
        }
    }

    #[cfg(test)]
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// The events that it could not deliver, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, ReadError> {
        self.store.dead_letters(&self.name)
    }
}
