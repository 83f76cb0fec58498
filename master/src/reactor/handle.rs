//! How far the reactor has come, for others to read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What others hold of the reactor.
#[derive(Debug, Clone)]
pub struct ReactorHandle(Arc<AtomicU64>);

impl ReactorHandle {
    pub(super) fn new(read: u64) -> Self {
        Self(Arc::new(AtomicU64::new(read)))
    }

    pub(super) fn handle_read(&self, seq: u64) {
        self.0.store(seq, Ordering::Relaxed);
    }

    /// The last event that it has met.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
