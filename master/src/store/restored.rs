//! The store that is made from a copy, and the one whose place it takes.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use drover_proto::event::{Event, NewEvent};
use jiff::Timestamp;
use thiserror::Error;

use super::{
    BrokenCopy, EngineError, ReadError, StartError, backup,
    engine::{self, Change, Engine},
    gaps::Gaps,
    keys,
    log::{self, Chunk},
    writer,
};

/// Seqs that a restored store leaves out at least.
const LEFT_OUT: u64 = 1_000_000;
/// And for each millisecond since the backup: more than a store ever took.
const MOST_A_MILLISECOND: u64 = 250;

/// Events that are read at once.
const CHUNK: usize = 512;

/// Why no store was made from a copy.
#[derive(Debug, Error)]
pub enum RestoreStoreError {
    /// The engine does not start in the directory.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine failed as it was written.
    #[error("write the restored store")]
    Engine(#[from] EngineError),
    /// What was written cannot be read again.
    #[error("read the restored store")]
    Read(#[from] ReadError),
    /// The copy is broken.
    #[error(transparent)]
    Broken(#[from] BrokenCopy),
}

/// The newest seq that may have been given by anybody who went on from a copy that was taken `taken`, with `last` as its newest
/// event. What was appended since had numbers too, and nobody knows how many: none of them is given a second time, not even
/// where the same copy is restored again. `previous` is the newest event of the store that the restored one replaces.
#[must_use]
pub fn given(last: u64, taken: Timestamp, previous: Option<u64>, now: Timestamp) -> u64 {
    let since = u64::try_from(now.duration_since(taken).as_millis()).unwrap_or(0);
    let most = last.saturating_add(since.saturating_mul(MOST_A_MILLISECOND));
    most.max(previous.unwrap_or(0)).saturating_add(LEFT_OUT)
}

/// A store that is being made from a copy, in a directory of its own.
pub struct Restoring {
    engine: Engine,
}

impl Restoring {
    /// Begins in a directory without a store.
    ///
    /// # Errors
    /// When the engine does not start there.
    pub fn begin(directory: &Path) -> Result<Self, StartError> {
        Ok(Self { engine: Engine::start(directory)? })
    }

    /// The next part of the copy.
    ///
    /// # Errors
    /// When it is damaged, or cannot be written.
    pub fn handle_part(&mut self, part: &[u8]) -> Result<(), RestoreStoreError> {
        Ok(self.engine.apply(&backup::decode(part)?)?)
    }

    /// Appends the event that tells of it, after seqs up to `given` that are given to nobody, and puts all on the disk.
    /// Returns the event's seq.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn finish(
        self,
        told: NewEvent,
        given: u64,
        now: Timestamp,
    ) -> Result<u64, RestoreStoreError> {
        let (last, offset) = super::end_of_log(&self.engine)?;
        let seq = last.max(given) + 1;
        let mut chunk = Chunk::new(seq);
        chunk.push(&writer::numbered(told, seq, log::to_microsecond(now)));
        let event = Change { key: keys::event(seq), value: Some(chunk.close(offset)) };
        let gap = (last < given).then(|| Gaps::change(last + 1, given));
        let changes: Vec<_> = gap.into_iter().chain([event]).collect();
        self.engine.apply(&changes)?;
        self.engine.flush()?;
        Ok(seq)
    }
}

/// A data directory that nobody else uses as long as this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    // invariant: locked as long as it lives.
    _lock: File,
}

impl DirectoryLock {
    /// Takes it.
    ///
    /// # Errors
    /// When somebody else has it, or the directory is not there.
    pub fn take(directory: &Path) -> Result<Self, StartError> {
        Ok(Self { _lock: engine::lock(directory)? })
    }
}

/// The store whose place another one takes. Nobody else uses it as long as this lives.
pub struct Previous {
    /// Where it can be read.
    engine: Option<Engine>,
    _lock: Option<DirectoryLock>,
}

/// What a store has after an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// Events.
    pub events: u64,
    /// Those of them that say who may connect: tags, oldest first.
    pub changes: Vec<String>,
}

impl Previous {
    /// Locks a data directory, and opens its store if that can be read.
    ///
    /// # Errors
    /// When a master runs on it.
    pub fn open(directory: &Path) -> Result<Self, StartError> {
        // The engine may panic over what it cannot read, and a damaged store is what a backup is for.
        match catch_unwind(AssertUnwindSafe(|| Engine::start(directory))) {
            Ok(Ok(engine)) => Ok(Self { engine: Some(engine), _lock: None }),
            Ok(Err(error @ StartError::InUse { .. })) => Err(error),
            Ok(Err(StartError::Directory { .. } | StartError::Open { .. })) | Err(_) => {
                let lock = DirectoryLock::take(directory)?;
                Ok(Self { engine: None, _lock: Some(lock) })
            }
        }
    }

    /// Its newest event, where it can be read.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        super::end_of_log(self.engine.as_ref()?).ok().map(|(last, _)| last)
    }

    /// What it has after this event; `None` where it cannot be read.
    #[must_use]
    pub fn since(&self, seq: u64) -> Option<Since> {
        let engine = self.engine.as_ref()?;
        let (last, _) = super::end_of_log(engine).ok()?;
        let (mut since, mut after) = (Since::default(), seq);
        while after < last {
            let events = super::read_log(engine, after, last, CHUNK).ok()?;
            let Some(newest) = events.last() else { break };
            after = newest.seq;
            since.events += events.len() as u64;
            since.changes.extend(events.iter().filter_map(|event| change(event)));
        }
        Some(since)
    }
}

/// Changes of who may connect.
fn change(event: &Event) -> Option<String> {
    let tag = event.tag.as_str();
    let of = |part| tag.strip_prefix(part);
    let what =
        of("drover/key/").or_else(|| of("drover/station/")).or_else(|| of("drover/authority/"));
    let (name, what) = what?.rsplit_once('/')?;
    matches!(
        what,
        "revoked" | "rejected" | "deleted" | "accepted" | "retiring" | "added" | "dropped"
    )
    .then(|| format!("{name} was {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn no_number_is_given_twice_however_much_happened_since_the_backup() {
        /// Far more than any store took so far.
        const A_SECOND: u64 = 200_000;
        for days in [0, 1, 30, 365] {
            let seconds = days * 86_400 + 10;
            let newest = 500 + u64::try_from(seconds).unwrap() * A_SECOND;
            let first = given(500, at(0), None, at(seconds));
            assert!(first > newest, "{days} days");
            // The same backup again, after as much once more.
            assert!(given(500, at(0), None, at(2 * seconds)) > first + newest, "{days} days");
        }
    }

    #[test]
    fn what_the_old_store_says_counts_where_the_clock_does_not() {
        let wrong_clock = at(-1_000_000);
        assert_eq!(given(500, at(0), None, wrong_clock), 500 + LEFT_OUT);
        assert_eq!(given(500, at(0), Some(7_000_000), wrong_clock), 7_000_000 + LEFT_OUT);
        assert_eq!(given(500, at(0), Some(400), at(0)), 500 + LEFT_OUT);
    }
}
