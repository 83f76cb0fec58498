//! sled beneath the store, and nothing of the domain: ordered keys, atomic batches, one flush. Only this file calls
//! it. Whoever replaces the engine replaces this.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// What sled may keep of its pages in memory.
const CACHE: u64 = 64 << 20;

/// The engine failed: the disk is full, broken or gone. What was not acknowledged may be lost.
#[derive(Debug, Error)]
#[error("the store's engine failed")]
pub struct EngineError(#[source] sled::Error);

/// Why the engine does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The directory cannot be made or locked.
    #[error("prepare the data directory `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("the data directory `{path}` is in use by another master")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// sled does not open it.
    #[error("open the store in `{path}`")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What sled said.
        source: EngineError,
    },
}

/// One change of one key; no value removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Change {
    pub(super) fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

pub(super) struct Engine {
    db: sled::Db,
    // sled's flush waits for the pages (`sync_file_range`), not for the drive's cache and the file's length.
    log: File,
    // invariant: locked as long as the engine lives, so that one master owns the directory.
    _lock: File,
}

/// Locks a directory for as long as the file lives.
pub(super) fn lock(directory: &Path) -> Result<File, StartError> {
    let prepare = |source| StartError::Directory { path: directory.to_owned(), source };
    let lock = File::create(directory.join("lock")).map_err(prepare)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::InUse { path: directory.to_owned() }),
        Err(error) => Err(prepare(error.into())),
    }
}

impl Engine {
    pub(super) fn start(directory: &Path) -> Result<Self, StartError> {
        let prepare = |source| StartError::Directory { path: directory.to_owned(), source };
        // What jobs were given and gave back is for nobody else on this machine.
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(prepare)?;
        let lock = lock(directory)?;
        let db = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE)
            .mode(sled::Mode::HighThroughput)
            // The writer flushes; a timer beside it would only flush half a batch.
            .flush_every_ms(None)
            .open()
            .map_err(|source| StartError::Open {
                path: directory.to_owned(),
                source: EngineError(source),
            })?;
        let log = File::open(directory.join("db")).map_err(prepare)?;
        // A new file is there after a power cut once its directory is on the disk too.
        File::open(directory).and_then(|entries| entries.sync_all()).map_err(prepare)?;
        Ok(Self { db, log, _lock: lock })
    }

    pub(super) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.db.get(key).map_err(EngineError)?.map(|value| value.to_vec()))
    }

    /// Keys from `from` to before `until`, ascending; from the back with `.rev()`.
    pub(super) fn range(
        &self,
        from: &[u8],
        until: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>), EngineError>> + use<> {
        self.db.range(from.to_vec()..until.to_vec()).map(|entry| {
            entry.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(EngineError)
        })
    }

    /// Bytes of its files.
    pub(super) fn size(&self) -> Result<u64, EngineError> {
        self.db.size_on_disk().map_err(EngineError)
    }

    /// All of `changes` or none, also after a crash. Not durable before [`Self::flush`].
    pub(super) fn apply(&self, changes: &[Change]) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for Change { key, value } in changes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        self.db.apply_batch(batch).map_err(EngineError)
    }

    /// Returns when everything applied so far is on the disk.
    pub(super) fn flush(&self) -> Result<(), EngineError> {
        self.db.flush().map_err(EngineError)?;
        self.log.sync_data().map_err(|error| EngineError(error.into()))
    }
}
