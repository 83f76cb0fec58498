//! All that the master remembers, in the domain's terms: the event log and its readers' cursors, the registry's
//! entries, jobs with their returns, what is pending, and how far each minion's outbox has come. Whatever a write
//! brings is on the disk before the write returns. The engine beneath is an embedded one; nothing here asks for what
//! a replicated log with a key-value view could not do.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread,
};

use drover_pki::MinionId;
use drover_proto::{
    event::{Event, NewEvent},
    id::BootId,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

mod backup;
mod batch;
mod calendar;
mod disk;
mod engine;
mod entry;
mod error;
mod gaps;
mod jobs;
mod keys;
mod letters;
mod log;
mod readers;
mod registry_value;
mod restored;
mod retention;
mod revocation;
mod room;
mod state;
mod station;
mod usage;
mod writer;

#[cfg(test)]
mod tests;

pub use backup::{BrokenCopy, Copy, CopyCheck, CopyError};
pub use batch::Batch;
pub use engine::{EngineError, StartError};
pub use entry::{
    BridgeEntry, DeadLetter, JobEntry, PendingEntry, PresenceEntry, PresenceState, StoredLetter,
};
pub use error::{OpenError, PutError, ReadError, StoreError};
pub use gaps::Missing;
pub use log::Damaged;
pub use restored::{DirectoryLock, Previous, RestoreStoreError, Restoring, Since, given};
pub use retention::Retention;
pub use state::StoreState;
pub use usage::{Lag, Usage, UsageError};

use calendar::Calendar;
use disk::{Ballast, Disk};
use engine::{Change, Engine};
use gaps::Gaps;
use keys::ledger;
use log::Recent;
use readers::Readers;
use room::Need;
use writer::{Write, Writer, WriterParts};

use crate::clock::Now;

/// The format that this version writes. An older one is migrated as it is opened, a newer one is refused.
const FORMAT: u32 = 1;
/// Writes that wait for the writer before the next one has to.
const QUEUE: usize = 4096;
/// And their bytes. What was let in before the disk was full fits into the reserve with them.
const QUEUE_BYTES: u32 = 16 << 20;

/// Bytes of the log that are read at once: an event may have a megabyte.
const READ_BYTES: usize = 4 << 20;

/// The version of a registry entry, which compare-and-set compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision(u64);

/// The seqs that a batch's events were given; `last` is before `first` where it had none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of its first event.
    pub first: u64,
    /// Of its last event.
    pub last: u64,
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    disk: Arc<Disk>,
    recent: Arc<Mutex<Recent>>,
    readers: Arc<Readers>,
    last: watch::Receiver<u64>,
    gaps: Arc<Gaps>,
    /// Bytes of the log up to its newest durable event, removed ones too.
    log_end: Arc<AtomicU64>,
    state: watch::Receiver<StoreState>,
    refused: Arc<AtomicU64>,
    /// Of the queue, a permit for each byte.
    room: Arc<Semaphore>,
    writes: mpsc::Sender<Write>,
}

impl Store {
    /// Opens the store in a directory, makes it where there is none, and starts its writer, which ends when the last
    /// handle is dropped.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, retention: Retention) -> Result<Self, OpenError> {
        Ballast::make_room(directory).map_err(OpenError::Disk)?;
        let engine = Arc::new(Engine::start(directory)?);
        check_format(&engine)?;
        let (seq, offset) = end_of_log(&engine).map_err(OpenError::Read)?;
        let newest = newest_time(&engine).map_err(OpenError::Read)?;
        let disk = Arc::new(Disk::of(directory).map_err(OpenError::Disk)?);
        let gaps = Arc::new(Gaps::read(&engine).map_err(OpenError::Read)?);
        let (last_seq, last) = watch::channel(seq);
        let (states, state) = watch::channel(StoreState::Open);
        let recent = Arc::<Mutex<Recent>>::default();
        let readers = Arc::<Readers>::default();
        let log_end = Arc::new(AtomicU64::new(offset));
        let refused = Arc::<AtomicU64>::default();
        let (writes, mut queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(WriterParts {
            engine: engine.clone(),
            recent: recent.clone(),
            readers: readers.clone(),
            last: last_seq,
            log_end: log_end.clone(),
            state: states,
            disk: disk.clone(),
            ballast: Ballast::open(directory).map_err(OpenError::Disk)?,
            refused: refused.clone(),
            retention,
            calendar: Calendar::new(newest, Now::read()),
        });
        thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                if let Err(error) = writer.run(&mut queue) {
                    tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                }
            })
            .map_err(OpenError::Thread)?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        Ok(Self {
            engine,
            disk,
            recent,
            readers,
            last,
            gaps,
            log_end,
            state,
            refused,
            room,
            writes,
        })
    }

    /// Returns when the batch is durable.
    ///
    /// # Errors
    /// When the engine has failed; the batch may then be lost.
    pub async fn write(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.submit(batch).await?.wait().await
    }

    /// Hands the batch in, and returns before it is durable: batches are written in the order they are handed in.
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn submit(&self, batch: Batch) -> Result<Submitted, StoreError> {
        let place = match batch.need() {
            Need::Outside | Need::Master => {
                // One that is larger than all has the queue for itself.
                let size = u32::try_from(batch.size()).unwrap_or(u32::MAX).min(QUEUE_BYTES);
                let place = self.room.clone().acquire_many_owned(size).await;
                Some(place.expect("the queue's permits are never closed"))
            }
            // What takes keys away does not queue behind what waits for room.
            Need::Essential => None,
        };
        let (done, answer) = oneshot::channel();
        let write = Write::Batch { batch, place, done };
        self.writes.send(write).await.map_err(|_| StoreError::Failed)?;
        Ok(Submitted(answer))
    }

    /// Appends one event; returns when it is durable.
    ///
    /// # Errors
    /// When the engine has failed; the event may then be lost.
    pub async fn append(&self, event: NewEvent) -> Result<u64, StoreError> {
        self.write(event.into()).await.map(|appended| appended.last)
    }

    /// Appends an event that an operator or a program sends; returns when it is durable.
    ///
    /// # Errors
    /// When the disk is full, or the engine has failed.
    pub async fn take_in(&self, event: NewEvent) -> Result<u64, StoreError> {
        self.write(Batch::from(event).from_outside()).await.map(|appended| appended.last)
    }

    /// Removes some of what is older than it is kept; whether there may be more of it. Events go as others come, too,
    /// but a master to which nothing happens forgets only by this; and none forgets anything before this is asked for the
    /// first time, so that every reader can say before what it [holds](Self::hold).
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn expire(&self) -> Result<bool, StoreError> {
        let (done, answer) = oneshot::channel();
        self.writes.send(Write::Expire { done }).await.map_err(|_| StoreError::Failed)?;
        answer.await.map_err(|_| StoreError::Failed)?
    }

    /// The seq of the newest durable event; 0 where there was never one.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        *self.last.borrow()
    }

    /// The seq of the oldest event that is kept.
    ///
    /// # Errors
    /// When the engine has failed.
    pub fn first_seq(&self) -> Result<u64, ReadError> {
        let mut log = self.engine.range(&[ledger::EVENT], &keys::end_of(ledger::EVENT));
        Ok(log.next().transpose()?.map_or(1, |(key, _)| keys::event_seq(&key)))
    }

    /// Tells when there are newer durable events.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.clone()
    }

    /// Up to about `limit` durable events after `seq`, in their order, fewer where they are large. Where the first of them is not `seq + 1`, retention
    /// has removed what is missing. Empty at the end of the log.
    ///
    /// # Errors
    /// When the engine has failed or the log is damaged.
    pub async fn events(&self, seq: u64, limit: usize) -> Result<Vec<Arc<Event>>, ReadError> {
        if seq >= self.last_seq() {
            return Ok(Vec::new());
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner).after(seq, limit);
        if let Some(events) = recent {
            return Ok(events);
        }
        let (engine, last) = (self.engine.clone(), self.last_seq());
        // The log may be read from the disk.
        tokio::task::spawn_blocking(move || read_log(&engine, seq, last, limit))
            .await
            .expect("reading the log does not panic")
    }

    /// How far a reader of the log has come, if it ever said so.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn cursor(&self, name: &str) -> Result<Option<u64>, ReadError> {
        self.entry(&keys::named(ledger::CURSOR, name))
    }

    /// Remembers how far a reader of the log has come. To move it together with what the reader writes, use
    /// [`Batch::cursor`].
    ///
    /// # Errors
    /// When the engine has failed.
    pub async fn set_cursor(&self, name: &str, seq: u64) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.cursor(name, seq);
        self.write(batch).await.map(drop)
    }

    /// Every registry entry, for a master that starts.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn registry<T: DeserializeOwned>(&self) -> Result<Vec<(Revision, T)>, ReadError> {
        self.engine
            .range(&[ledger::REGISTRY], &keys::end_of(ledger::REGISTRY))
            .map(|entry| {
                let (key, value) = entry?;
                let (revision, bytes) = registry_value::split(&value);
                Ok((revision, decode(&key, bytes)?))
            })
            .collect()
    }

    /// What every minion showed of itself when it was last here, for a master that starts.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn sightings<T: DeserializeOwned>(&self) -> Result<Vec<(MinionId, T)>, ReadError> {
        let sightings = self.engine.range(&[ledger::SIGHTING], &keys::end_of(ledger::SIGHTING));
        sightings
            .filter_map(|entry| match entry {
                Ok((key, value)) => {
                    let minion = std::str::from_utf8(&key[1..]).ok()?.parse().ok()?;
                    Some(decode(&key, &value).map(|sighting| (minion, sighting)))
                }
                Err(error) => Some(Err(error.into())),
            })
            .collect()
    }

    /// Writes a registry entry if its revision is still `expected` (`None`: there is no entry), together with a batch.
    /// Returns when it is durable.
    ///
    /// # Errors
    /// When somebody else was first, or the engine has failed.
    pub async fn put_registry<T: serde::Serialize>(
        &self,
        id: &MinionId,
        expected: Option<Revision>,
        entry: &T,
        batch: Batch,
    ) -> Result<Revision, PutError> {
        let key = keys::named(ledger::REGISTRY, id.as_str());
        self.compare_and_set(key, expected, entry, batch).await
    }

    async fn compare_and_set<T: serde::Serialize>(
        &self,
        key: Vec<u8>,
        expected: Option<Revision>,
        entry: &T,
        batch: Batch,
    ) -> Result<Revision, PutError> {
        let (done, answer) = oneshot::channel();
        let entry = batch::encode(entry);
        let write = Write::Registry { key, expected, entry, batch, done };
        self.writes.send(write).await.map_err(|_| StoreError::Failed)?;
        answer.await.map_err(|_| StoreError::Failed)?
    }

    /// The newest manifest that was imported from a station; 0 for none.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn manifest(&self, station: &str) -> Result<u64, ReadError> {
        Ok(self.entry(&keys::named(ledger::MANIFEST, station))?.unwrap_or(0))
    }

    /// How far this boot's outbox is in the store; 0 for nothing.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn outbox(&self, minion: &MinionId, boot: BootId) -> Result<u64, ReadError> {
        let mark: Option<(BootId, u64)> = self.entry(&keys::outbox(minion))?;
        // A device runs one agent: what another boot of it had is over.
        Ok(mark.filter(|(of, _)| *of == boot).map_or(0, |(_, through)| through))
    }

    /// Every minion's presence as it was last written.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn presence(&self) -> Result<Vec<(MinionId, PresenceEntry)>, ReadError> {
        let minions = self.engine.range(&[ledger::PRESENCE], &keys::end_of(ledger::PRESENCE));
        minions
            .filter_map(|entry| match entry {
                Ok((key, value)) => {
                    let minion = std::str::from_utf8(&key[1..]).ok()?.parse().ok()?;
                    Some(decode(&key, &value).map(|entry| (minion, entry)))
                }
                Err(error) => Some(Err(error.into())),
            })
            .collect()
    }

    /// Returns when the engine has failed and nothing more is written.
    pub async fn failed(&self) {
        self.writes.closed().await;
    }

    fn values<T: DeserializeOwned>(&self, from: &[u8], until: &[u8]) -> Result<Vec<T>, ReadError> {
        let entries = self.engine.range(from, until);
        entries
            .map(|entry| {
                entry.map_err(ReadError::from).and_then(|(key, value)| decode(&key, &value))
            })
            .collect()
    }

    fn entry<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ReadError> {
        self.engine.value(key)?.map(|value| decode(key, &value)).transpose()
    }
}

/// A batch that was handed in.
pub struct Submitted(oneshot::Receiver<Result<Appended, StoreError>>);

impl Submitted {
    /// Returns when it is durable.
    ///
    /// # Errors
    /// When the engine has failed; the batch may then be lost.
    pub async fn wait(self) -> Result<Appended, StoreError> {
        self.0.await.map_err(|_| StoreError::Failed)?
    }
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, ReadError> {
    rmp_serde::from_slice(value)
        .map_err(|source| ReadError::Entry { key: key.escape_ascii().to_string(), source })
}

/// Marks a new store with the format. There is no older format yet: the first migration goes here.
fn check_format(engine: &Engine) -> Result<(), OpenError> {
    let found = engine.value(keys::FORMAT).map_err(|error| OpenError::Read(error.into()))?;
    match found.map(|value| value.as_slice().try_into().map_or(u32::MAX, u32::from_be_bytes)) {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Newer { found }),
        None => {
            let value = Some(FORMAT.to_be_bytes().to_vec());
            let change = Change { key: keys::FORMAT.to_vec(), value };
            engine.apply(&[change]).and_then(|()| engine.flush()).map_err(OpenError::Write)
        }
    }
}

/// When the newest event was appended.
fn newest_time(engine: &Engine) -> Result<Option<Timestamp>, ReadError> {
    let mut log = engine.range(&[ledger::EVENT], &keys::end_of(ledger::EVENT)).rev();
    let Some((key, value)) = log.next().transpose()? else { return Ok(None) };
    Ok(Some(log::header(keys::event_seq(&key), &value)?.newest))
}

/// The newest event's seq, and the bytes of the log so far.
fn end_of_log(engine: &Engine) -> Result<(u64, u64), ReadError> {
    let mut log = engine.range(&[ledger::EVENT], &keys::end_of(ledger::EVENT)).rev();
    let Some((key, value)) = log.next().transpose()? else { return Ok((0, 0)) };
    let first = keys::event_seq(&key);
    let header = log::header(first, &value)?;
    let count = log::events(first, &value)?.len() as u64;
    Ok((first + count - 1, header.offset + value.len() as u64))
}

fn read_log(
    engine: &Engine,
    seq: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<Arc<Event>>, ReadError> {
    // The chunk that `seq + 1` lies in begins at or before it.
    let from = engine
        .range(&[ledger::EVENT], &keys::event(seq + 2))
        .next_back()
        .transpose()?
        .map_or_else(|| keys::event(seq + 1), |(key, _)| key);
    let (mut events, mut bytes) = (Vec::new(), 0);
    for entry in engine.range(&from, &keys::event(last + 1)) {
        let (key, value) = entry?;
        bytes += value.len();
        let chunk = log::events(keys::event_seq(&key), &value)?;
        // What is applied and not yet flushed is not there for readers.
        events.extend(chunk.into_iter().filter(|e| e.seq > seq && e.seq <= last).map(Arc::new));
        if events.len() >= limit || bytes >= READ_BYTES && !events.is_empty() {
            break;
        }
    }
    Ok(events)
}
