//! A copy of the whole store while it is written to. The copy reads every ledger as it goes; what is committed meanwhile the writer mirrors into a queue, and it follows in the copy, in its order. So
//! whatever the reading missed or saw half, the copy as a whole is the store at its end. The writer never waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::{
    EngineError, FORMAT, Store, StoreError,
    engine::{Change, Engine},
    keys,
    writer::Write,
};

/// Bytes of a part of the copy, roughly.
const PART: usize = 1 << 20;
/// Bytes of commits that wait for the copy, past which it fails.
const WAITING: usize = 32 << 20;
/// Commits that wait, past which it fails.
const COMMITS: usize = 8192;
/// After every key.
const END: [u8; 1] = [0xff];
/// The length that stands for no value.
const REMOVED: u32 = u32::MAX;
/// Why a copy of the store was not made.
#[derive(Debug, Error)]
pub enum CopyError {
    /// Whoever takes the copy is too slow for what is written meanwhile.
    #[error(
        "the copy was taken too slowly: more than {} MiB were written meanwhile", WAITING >> 20
    )]
    TooSlow,
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be read.
    #[error("read the store for the copy")]
    Engine(#[from] EngineError),
}

/// Why a copy is not one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BrokenCopy {
    /// A part of it ends within an entry, or has an entry that no store has.
    #[error("the copy of the store is damaged")]
    Damaged,
    /// It has no format's mark, so it is a part of a copy.
    #[error("the copy of the store is not whole")]
    Unmarked,
    /// A later version's.
    #[error("the copy has the store's format {0}, this version reads up to format {FORMAT}")]
    Newer(u32),
}

/// The writer's end of a copy: what it commits goes here too.
pub(super) struct Mirror {
    commits: mpsc::Sender<Commit>,
    shared: Arc<Shared>,
    staged: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    waiting: AtomicUsize,
    is_too_slow: AtomicBool,
}

enum Commit {
    Changes(Vec<u8>),
    /// The copy is the store up to here, of which this is the newest event.
    End(u64),
}

impl Mirror {
    fn stage(&mut self, changes: &[Change]) {
        for Change { key, value } in changes {
            encode(&mut self.staged, key, value.as_deref());
        }
    }

    /// What was staged is durable; whether the copy still wants more.
    fn commit(&mut self) -> bool {
        if self.staged.is_empty() {
            return !self.commits.is_closed();
        }
        let bytes = std::mem::take(&mut self.staged);
        let length = bytes.len();
        let waiting = self.shared.waiting.fetch_add(length, Ordering::AcqRel) + length;
        let is_taken = waiting <= WAITING && self.commits.try_send(Commit::Changes(bytes)).is_ok();
        if !is_taken {
            self.shared.is_too_slow.store(true, Ordering::Release);
        }
        is_taken
    }

    /// The copy is whole with what was committed so far.
    fn end(self, seq: u64) {
        if self.commits.try_send(Commit::End(seq)).is_err() {
            self.shared.is_too_slow.store(true, Ordering::Release);
        }
    }
}

/// What the writer has to do with copies.
#[derive(Default)]
pub(super) struct Mirroring {
    mirror: Option<Mirror>,
    is_ending: bool,
}

impl Mirroring {
    /// From the next commit on.
    pub(super) fn begin(&mut self, mirror: Mirror) {
        *self = Self { mirror: Some(mirror), is_ending: false };
    }

    /// With the next commit.
    pub(super) const fn end(&mut self) {
        self.is_ending = true;
    }

    /// To be called before these changes are committed.
    pub(super) fn stage(&mut self, changes: &[Change]) {
        if let Some(mirror) = &mut self.mirror {
            mirror.stage(changes);
        }
    }

    /// They are committed; the newest event is this one.
    pub(super) fn commit(&mut self, seq: u64) {
        if self.mirror.as_mut().is_some_and(|mirror| !mirror.commit()) {
            self.mirror = None;
        }
        if std::mem::take(&mut self.is_ending)
            && let Some(mirror) = self.mirror.take()
        {
            mirror.end(seq);
        }
    }
}

/// A copy that is being made. Dropped, the writer has nothing more to do with it.
pub struct Copy {
    engine: Arc<Engine>,
    writes: mpsc::Sender<Write>,
    commits: mpsc::Receiver<Commit>,
    shared: Arc<Shared>,
    phase: Phase,
}

enum Phase {
    /// Reading on from this key.
    Reading(Vec<u8>),
    /// Everything was read, and the writer is asked for the end.
    Ending,
    /// Of which this is the newest event.
    Over(u64),
}

impl Store {
    /// Begins a copy of everything. There is one at a time: a second one ends the first.
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn copy(&self) -> Result<Copy, StoreError> {
        let (commits, receiver) = mpsc::channel(COMMITS);
        let shared = Arc::<Shared>::default();
        let mirror = Mirror { commits, shared: shared.clone(), staged: Vec::new() };
        let (done, begun) = oneshot::channel();
        let write = Write::Mirror { mirror, done };
        self.writes.send(write).await.map_err(|_| StoreError::Failed)?;
        // What is committed before this is there to be read, what is committed after it comes by the mirror.
        begun.await.map_err(|_| StoreError::Failed)?;
        Ok(Copy {
            engine: self.engine.clone(),
            writes: self.writes.clone(),
            commits: receiver,
            shared,
            phase: Phase::Reading(Vec::new()),
        })
    }
}

impl Copy {
    /// The next part, of whole entries; `None` when it is all. Blocks.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn next_part(&mut self) -> Result<Option<Vec<u8>>, CopyError> {
        let mut part = Vec::new();
        if let Phase::Reading(from) = &self.phase {
            match self.read(&from.clone(), &mut part)? {
                Some(next) => self.phase = Phase::Reading(next),
                None => {
                    let end = self.writes.blocking_send(Write::EndMirror);
                    end.map_err(|_| StoreError::Failed)?;
                    self.phase = Phase::Ending;
                }
            }
        }
        // invariant: what was read stands before what was committed since, so that the newest of a key stands last.
        while part.len() < WAITING
            && let Ok(commit) = self.commits.try_recv()
        {
            self.take(commit, &mut part);
        }
        while part.is_empty() && matches!(self.phase, Phase::Ending) {
            match self.commits.blocking_recv() {
                Some(commit) => self.take(commit, &mut part),
                None if self.shared.is_too_slow.load(Ordering::Acquire) => {
                    return Err(CopyError::TooSlow);
                }
                None => return Err(StoreError::Failed.into()),
            }
        }
        if self.shared.is_too_slow.load(Ordering::Acquire) {
            return Err(CopyError::TooSlow);
        }
        Ok((!part.is_empty()).then_some(part))
    }

    /// The newest event in it, once it is all.
    #[must_use]
    pub const fn last_seq(&self) -> Option<u64> {
        match self.phase {
            Phase::Over(seq) => Some(seq),
            Phase::Reading(_) | Phase::Ending => None,
        }
    }

    /// Reads on from a key. Returns where to go on.
    fn read(&self, from: &[u8], part: &mut Vec<u8>) -> Result<Option<Vec<u8>>, EngineError> {
        for entry in self.engine.range(from, &END) {
            let (mut key, value) = entry?;
            encode(part, &key, Some(&value));
            if part.len() >= PART {
                // The first key after it.
                key.push(0);
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn take(&mut self, commit: Commit, part: &mut Vec<u8>) {
        match commit {
            Commit::Changes(bytes) => {
                self.shared.waiting.fetch_sub(bytes.len(), Ordering::AcqRel);
                part.extend(bytes);
            }
            Commit::End(seq) => self.phase = Phase::Over(seq),
        }
    }
}

/// The entry as it lies in a copy: the lengths of key and value, then both.
fn encode(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("no entry is as long as 4 GiB");
    out.extend(length(key).to_be_bytes());
    out.extend(value.map_or(REMOVED, length).to_be_bytes());
    out.extend(key);
    out.extend(value.unwrap_or_default());
}

/// The entries of a part.
pub(super) fn decode(mut part: &[u8]) -> Result<Vec<Change>, BrokenCopy> {
    fn take<'a>(part: &mut &'a [u8], length: u32) -> Result<&'a [u8], BrokenCopy> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        part.split_off(..length).ok_or(BrokenCopy::Damaged)
    }
    fn word(part: &mut &[u8]) -> Result<u32, BrokenCopy> {
        let bytes = take(part, 4)?.try_into();
        bytes.map(u32::from_be_bytes).map_err(|_| BrokenCopy::Damaged)
    }
    let mut changes = Vec::new();
    while !part.is_empty() {
        let (key, value) = (word(&mut part)?, word(&mut part)?);
        let key = take(&mut part, key)?.to_vec();
        if key.is_empty() || key >= END.to_vec() {
            return Err(BrokenCopy::Damaged);
        }
        let value = match value {
            REMOVED => None,
            length => Some(take(&mut part, length)?.to_vec()),
        };
        changes.push(Change { key, value });
    }
    Ok(changes)
}

/// Looks at the parts of a copy, in their order, without making a store of them.
#[derive(Debug, Default)]
pub struct CopyCheck {
    format: Option<u32>,
}

impl CopyCheck {
    /// The next part.
    ///
    /// # Errors
    /// When it is none of this version's.
    pub fn handle_part(&mut self, part: &[u8]) -> Result<(), BrokenCopy> {
        for change in decode(part)? {
            if change.key == keys::FORMAT {
                let value = change.value.unwrap_or_default();
                self.format = value.try_into().ok().map(u32::from_be_bytes);
            }
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// When a store of this version cannot be made from it.
    pub const fn finish(self) -> Result<(), BrokenCopy> {
        match self.format {
            Some(format) if format <= FORMAT => Ok(()),
            Some(format) => Err(BrokenCopy::Newer(format)),
            None => Err(BrokenCopy::Unmarked),
        }
    }
}

#[cfg(test)]
mod tests;
