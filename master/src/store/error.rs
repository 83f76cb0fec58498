//! What can go wrong with the store: as it opens, as it is read, as it is written.

use thiserror::Error;

use super::{EngineError, FORMAT, StartError, log::Damaged};

/// Why the store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The engine does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine failed as it was read.
    #[error("read the store as it opens")]
    Read(#[source] ReadError),
    /// The engine failed as it was written.
    #[error("write to the store as it opens")]
    Write(#[source] EngineError),
    /// A later version wrote it.
    #[error(
        "the store has format {found}, this version reads up to format {FORMAT}: install the version that wrote it"
    )]
    Newer {
        /// The format found.
        found: u32,
    },
    /// The system does not show the disk that it lies on.
    #[error("look at the disk that the store lies on")]
    Disk(#[source] std::io::Error),
    /// The writer's thread does not start.
    #[error("start the store's writer")]
    Thread(#[source] std::io::Error),
}

/// A write that is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The disk is full: nothing of it was written, and it may come again when there is room.
    #[error("the store is full: the disk has less left than the master keeps free")]
    Full,
    /// The engine has failed, and the master should end; the write may be lost.
    #[error("the store no longer takes writes; the log tells why")]
    Failed,
}

/// A read that failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The event log has a value that cannot be read.
    #[error(transparent)]
    Log(#[from] Damaged),
    /// An entry cannot be read.
    #[error("the entry `{key}` of the store is damaged")]
    Entry {
        /// Its key, escaped.
        key: String,
        /// What the decoder says.
        source: rmp_serde::decode::Error,
    },
}

/// Why a registry entry was not written.
#[derive(Debug, Error)]
pub enum PutError {
    /// Somebody else has written it since it was read.
    #[error("the entry has changed since it was read")]
    Conflict,
    /// The store no longer takes writes.
    #[error(transparent)]
    Store(#[from] StoreError),
}
