//! How much there is: behind a reader, in the log, on the disk.

use std::{io, sync::atomic::Ordering};

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use super::{
    EngineError, ReadError, Store,
    keys::{self, ledger},
    log::{self, Header},
};

/// What a reader of the log has before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Events that are still there.
    pub events: u64,
    /// Their bytes in the log; to the event within a value of the log by the mean of that value.
    pub bytes: u64,
    /// When the oldest of them was appended.
    pub oldest: Option<Timestamp>,
}

/// What the store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The oldest event that is kept.
    pub first_seq: u64,
    /// The newest event.
    pub last_seq: u64,
    /// Bytes of the events that are kept, before the engine's own overhead.
    pub event_bytes: u64,
    /// Bytes of the store's files.
    pub bytes: u64,
    /// Bytes that the disk has left.
    pub disk_free: u64,
}

/// Why it is not known what the store takes.
#[derive(Debug, Error)]
pub enum UsageError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The engine has failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system does not say what is free.
    #[error("ask how much of the disk is free")]
    Disk(#[source] io::Error),
}

impl Store {
    /// What a reader that has dealt with everything up to `after` has before it. Costs two lookups, however much it is.
    ///
    /// # Errors
    /// When the engine has failed or the log is damaged.
    pub fn lag(&self, after: u64) -> Result<Lag, ReadError> {
        let last = self.last_seq();
        if after >= last {
            return Ok(Lag::default());
        }
        let end = self.log_end.load(Ordering::Acquire);
        // The value that `after + 1` lies in, or the oldest one where retention has removed that.
        let within = self.engine.range(&[ledger::EVENT], &keys::event(after + 2)).next_back();
        let mut following = self.engine.range(&keys::event(after + 2), &keys::event(last + 1));
        let value = match within.transpose()? {
            Some(value) => Some(value),
            None => following.next().transpose()?,
        };
        let Some((key, value)) = value else { return Ok(Lag::default()) };
        let first = keys::event_seq(&key);
        let Header { offset, newest } = log::header(first, &value)?;
        let next = following.next().transpose()?.map_or(last + 1, |(key, _)| keys::event_seq(&key));
        let count = next - first - self.gaps.within(first, next - 1);
        let (count, passed) = (count.max(1), (after + 1).saturating_sub(first));
        let before = after.max(first - 1);
        let passed_bytes = value.len() as u64 * passed / count;
        Ok(Lag {
            events: last - before - self.gaps.within(before + 1, last),
            bytes: end.saturating_sub(offset + passed_bytes),
            // All events of one value were appended at one time.
            oldest: Some(newest),
        })
    }

    /// What the store takes.
    ///
    /// # Errors
    /// See [`UsageError`].
    pub fn usage(&self) -> Result<Usage, UsageError> {
        let first_seq = self.first_seq()?;
        Ok(Usage {
            first_seq,
            last_seq: self.last_seq(),
            event_bytes: self.lag(first_seq - 1)?.bytes,
            bytes: self.engine.size()?,
            disk_free: self.disk.free().map_err(UsageError::Disk)?,
        })
    }
}
