//! The one thread that writes. It takes whatever waits, gives events their numbers, applies all of it as one batch,
//! flushes once, and only then tells the writers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_proto::event::{Event, NewEvent};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use uuid::{NoContext, Uuid};

use super::{
    Appended, PutError, Retention, Revision, StoreError, StoreState,
    backup::{Mirror, Mirroring},
    batch::Batch,
    calendar::Calendar,
    disk::{Ballast, Disk},
    engine::{Change, Engine, EngineError},
    keys::{self, ledger},
    log::{self, Chunk, Recent},
    readers::Readers,
    registry_value,
    room::{Admission, Need, Room, Turn},
};
use crate::clock::Now;

/// No more writes than this share one flush, so that the first of them does not wait for ever.
const MOST_WRITES: usize = 1024;
/// Nor more bytes, so that a commit fits into the reserve however it is counted.
const MOST_BYTES: usize = 4 << 20;
/// And far less of what is written into the reserve.
const MOST_RESERVED_BYTES: usize = 128 << 10;
/// Tells that the disk was full, and for how long.
const FULL: &str = "drover/master/store/full";

pub(super) enum Write {
    Batch {
        batch: Batch,
        /// Its bytes' place in the queue.
        place: Option<OwnedSemaphorePermit>,
        done: oneshot::Sender<Result<Appended, StoreError>>,
    },
    /// A registry entry, if its revision is still the expected one.
    Registry {
        key: Vec<u8>,
        expected: Option<Revision>,
        entry: Vec<u8>,
        batch: Batch,
        done: oneshot::Sender<Result<Revision, PutError>>,
    },
    /// From now on, what is committed goes here too.
    Mirror { mirror: Mirror, done: oneshot::Sender<()> },
    /// With the next commit that is over.
    EndMirror,
    /// The disk is looked at, also where nothing is written.
    Look,
    /// What is over its age goes, also where nothing is written; whether there may be more of it.
    Expire { done: oneshot::Sender<Result<bool, StoreError>> },
}

impl Write {
    fn need(&self) -> Need {
        match self {
            Self::Batch { batch, .. } => batch.need(),
            Self::Registry { .. } => Need::Essential,
            // It can come again, and nobody counts it.
            Self::Expire { .. } => Need::Master,
            Self::Mirror { .. } | Self::EndMirror | Self::Look => Need::Essential,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Batch { place: Some(place), .. } => place.num_permits(),
            Self::Batch { batch, place: None, .. } => batch.size(),
            Self::Registry { entry, batch, .. } => entry.len() + batch.size(),
            Self::Mirror { .. } | Self::EndMirror | Self::Look | Self::Expire { .. } => 0,
        }
    }
}

/// Where a flushed write's answer goes.
enum Answer {
    Batch(oneshot::Sender<Result<Appended, StoreError>>, Appended, Option<OwnedSemaphorePermit>),
    Registry(oneshot::Sender<Result<Revision, PutError>>, Revision),
    Expire(oneshot::Sender<Result<bool, StoreError>>, bool),
}

/// What the writer shares with the store's handles.
pub(super) struct WriterParts {
    pub(super) engine: Arc<Engine>,
    pub(super) recent: Arc<Mutex<Recent>>,
    pub(super) readers: Arc<Readers>,
    /// The seq of the newest durable event.
    pub(super) last: watch::Sender<u64>,
    /// Bytes of the log up to it, removed ones too.
    pub(super) log_end: Arc<AtomicU64>,
    pub(super) state: watch::Sender<StoreState>,
    pub(super) disk: Arc<Disk>,
    pub(super) ballast: Ballast,
    /// Events that were turned away since the disk is full.
    pub(super) refused: Arc<AtomicU64>,
    pub(super) retention: Retention,
    pub(super) calendar: Calendar,
}

pub(super) struct Writer {
    shared: WriterParts,
    /// The seq of the newest event, durable or not.
    seq: u64,
    /// Bytes of the log so far, removed ones too.
    offset: u64,
    /// Whether it forgets what is old: not before it was asked to, which is after every reader has said what it holds.
    forgets: bool,
    changes: Vec<Change>,
    appended: Vec<Arc<Event>>,
    answers: Vec<Answer>,
    revisions: HashMap<Vec<u8>, Revision>,
    chunk: Option<Chunk>,
    mirroring: Mirroring,
    room: Room,
    /// What waits for room, in its order.
    held: VecDeque<Write>,
}

impl Writer {
    pub(super) fn new(shared: WriterParts) -> Self {
        let (seq, offset) = (*shared.last.borrow(), shared.log_end.load(Ordering::Relaxed));
        let room = Room::new(shared.retention.reserve);
        Self {
            shared,
            seq,
            offset,
            forgets: false,
            changes: Vec::new(),
            appended: Vec::new(),
            answers: Vec::new(),
            revisions: HashMap::new(),
            chunk: None,
            mirroring: Mirroring::default(),
            room,
            held: VecDeque::new(),
        }
    }

    /// Until every handle is gone, or the engine fails: what is on the disk is then unknown, so nothing more is
    /// written over it.
    pub(super) fn run(mut self, writes: &mut mpsc::Receiver<Write>) -> Result<(), EngineError> {
        let result = self.write(writes);
        if result.is_err() {
            self.shared.state.send_replace(StoreState::Failed);
        }
        result
    }

    fn write(&mut self, writes: &mut mpsc::Receiver<Write>) -> Result<(), EngineError> {
        let now = self.read_clock();
        self.look(now);
        loop {
            let first = match self.may_go_on() {
                true => None,
                false => match writes.blocking_recv() {
                    Some(write) => Some(write),
                    None => return Ok(()),
                },
            };
            let now = self.read_clock();
            self.look(now);
            let mut bytes = 0;
            if let Some(write) = first {
                bytes += write.size();
                self.admit(write, now)?;
            }
            let most = if self.is_full() { MOST_RESERVED_BYTES } else { MOST_BYTES };
            for _ in 1..MOST_WRITES {
                if bytes >= most {
                    break;
                }
                if let Some(held) = self.poll_held() {
                    bytes += held.size();
                    self.take(held, now)?;
                } else if let Ok(write) = writes.try_recv() {
                    bytes += write.size();
                    self.admit(write, now)?;
                } else {
                    break;
                }
            }
            self.commit()?;
        }
    }

    /// The one clock of the store: when events were appended.
    fn read_clock(&mut self) -> Timestamp {
        let now = Now::read();
        if let Some(step) = self.shared.calendar.handle_time(now) {
            tracing::warn!(%step, now = %now.wall, "the clock was put forward: nothing is forgotten for its age for an hour");
        }
        log::to_microsecond(now.wall)
    }

    fn is_full(&self) -> bool {
        matches!(*self.shared.state.borrow(), StoreState::Full { .. })
    }

    /// Whether something waits that may be written now.
    fn may_go_on(&self) -> bool {
        !self.held.is_empty() && self.room.admit(Need::Master) == Admission::Write
    }

    fn poll_held(&mut self) -> Option<Write> {
        if self.may_go_on() { self.held.pop_front() } else { None }
    }

    /// Looks at the disk, and sees to it that the engine finds room for what is admitted.
    fn look(&mut self, now: Timestamp) {
        let Ok(free) = self.shared.disk.free() else { return };
        let ballast = &mut self.shared.ballast;
        match self.room.handle_available(free.saturating_add(ballast.size()), now) {
            None => {}
            Some(Turn::Full) => {
                tracing::error!(
                    free,
                    reserve = self.shared.retention.reserve,
                    "the disk is full: events of minions and programs are refused until there is room; \
                     the minions keep theirs"
                );
                self.shared.state.send_replace(StoreState::Full { since: now });
            }
            Some(Turn::Open { since }) => {
                self.shared.state.send_replace(StoreState::Open);
                let refused = self.shared.refused.swap(0, Ordering::Relaxed);
                tracing::info!(%since, refused, "the disk has room again");
                let tag = FULL.parse().expect("a literal that is a tag");
                let data = json!({"since": since, "until": now, "refused": refused});
                self.append(NewEvent::new(tag, None, data), now);
            }
        }
        let margin = 2 * self.room.margin();
        if !self.is_full() {
            // Made at the start, and again after the disk was full.
            self.shared.ballast.fill(self.room.ballast());
        } else if free < margin && self.shared.ballast.size() > 0 {
            // What cannot be given back stays; the next look tries again.
            let _ = self.shared.ballast.release(margin - free);
        }
    }

    fn admit(&mut self, write: Write, now: Timestamp) -> Result<(), EngineError> {
        if let Write::Mirror { .. } | Write::EndMirror | Write::Look = write {
            // They write nothing, and a master without any room can still be backed up.
            return self.take(write, now);
        }
        let need = write.need();
        match self.room.admit(need) {
            // What waits goes first.
            Admission::Write if need != Need::Master || self.held.is_empty() => {
                self.take(write, now)
            }
            Admission::Write | Admission::Hold => {
                self.hold(write);
                Ok(())
            }
            Admission::Refuse => {
                self.refuse(write);
                Ok(())
            }
        }
    }

    fn hold(&mut self, write: Write) {
        match write {
            Write::Expire { done } => drop(done.send(Ok(false))),
            Write::Batch { .. }
            | Write::Registry { .. }
            | Write::Mirror { .. }
            | Write::EndMirror
            | Write::Look => self.held.push_back(write),
        }
    }

    fn refuse(&self, write: Write) {
        match write {
            Write::Batch { batch, done, .. } => {
                self.shared.refused.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
                let _ = done.send(Err(StoreError::Full));
            }
            Write::Registry { done, .. } => drop(done.send(Err(StoreError::Full.into()))),
            Write::Expire { done } => drop(done.send(Ok(false))),
            Write::Mirror { .. } | Write::EndMirror | Write::Look => {}
        }
    }

    fn take(&mut self, write: Write, now: Timestamp) -> Result<(), EngineError> {
        match write {
            Write::Batch { batch, place, done } => {
                let appended = self.take_batch(batch, now);
                self.answers.push(Answer::Batch(done, appended, place));
            }
            Write::Registry { key, expected, entry, batch, done } => {
                let current = match self.revisions.get(&key) {
                    Some(&revision) => Some(revision),
                    None => {
                        let value = self.shared.engine.value(&key)?;
                        value.as_deref().and_then(registry_value::revision)
                    }
                };
                if current != expected {
                    // The writer may be gone; nobody else wants to know.
                    let _ = done.send(Err(PutError::Conflict));
                    return Ok(());
                }
                let revision = Revision(current.map_or(1, |revision| revision.0 + 1));
                self.revisions.insert(key.clone(), revision);
                let value = Some(registry_value::join(revision, &entry));
                self.changes.push(Change { key, value });
                self.take_batch(batch, now);
                self.answers.push(Answer::Registry(done, revision));
            }
            Write::Mirror { mirror, done } => {
                self.mirroring.begin(mirror);
                // Whoever wanted the copy may be gone; the mirror notices.
                let _ = done.send(());
            }
            Write::EndMirror => self.mirroring.end(),
            Write::Look => {}
            Write::Expire { done } => {
                self.forgets = true;
                let mut removed = self.expired_events()?;
                if let Some(now) = self.shared.calendar.believed() {
                    let WriterParts { retention, engine, .. } = &self.shared;
                    removed.append(&mut retention.expired_jobs(engine, now)?);
                }
                self.answers.push(Answer::Expire(done, !removed.is_empty()));
                self.changes.append(&mut removed);
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: Batch, now: Timestamp) -> Appended {
        let first = self.seq + 1;
        for event in batch.events {
            self.append(event, now);
        }
        self.changes.extend(batch.changes);
        Appended { first, last: self.seq }
    }

    fn append(&mut self, event: NewEvent, now: Timestamp) {
        self.seq += 1;
        let event = numbered(event, self.seq, now);
        let chunk = self.chunk.get_or_insert_with(|| Chunk::new(self.seq));
        chunk.push(&event);
        if chunk.is_full() {
            self.close_chunk();
        }
        self.appended.push(Arc::new(event));
    }

    fn close_chunk(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            let key = keys::event(chunk.first);
            let value = chunk.close(self.offset);
            self.offset += value.len() as u64;
            self.changes.push(Change { key, value: Some(value) });
        }
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        self.close_chunk();
        if self.forgets && !self.appended.is_empty() {
            let mut removed = self.expired_events()?;
            self.changes.append(&mut removed);
        }
        self.mirroring.stage(&self.changes);
        // A pass of retention that found nothing writes nothing.
        if !self.changes.is_empty() {
            self.shared.engine.apply(&self.changes)?;
            self.shared.engine.flush()?;
        }
        // Durable from here on; nothing above told anybody, everything below does.
        self.mirroring.commit(self.seq);
        self.shared.readers.handle_durable(self.changes.iter());
        let first = self.first_after_removed()?;
        self.changes.clear();
        self.revisions.clear();
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for event in self.appended.drain(..) {
            recent.push(event);
        }
        // What is gone from the log is gone for every reader, and not first after a restart.
        recent.forget_before(first);
        drop(recent);
        self.shared.log_end.store(self.offset, Ordering::Release);
        self.shared.last.send_if_modified(|last| std::mem::replace(last, self.seq) != self.seq);
        for answer in self.answers.drain(..) {
            // A writer that no longer waits loses nothing: what it wrote is durable.
            match answer {
                Answer::Batch(done, appended, place) => {
                    drop(place);
                    let _ = done.send(Ok(appended));
                }
                Answer::Registry(done, revision) => drop(done.send(Ok(revision))),
                Answer::Expire(done, more) => drop(done.send(Ok(more))),
            }
        }
        Ok(())
    }

    /// The oldest event that is left, where some were removed just now.
    fn first_after_removed(&self) -> Result<u64, EngineError> {
        let is_removed =
            |change: &&Change| change.key[0] == ledger::EVENT && change.value.is_none();
        let Some(last) = self.changes.iter().rfind(is_removed) else { return Ok(0) };
        let mut left = self.shared.engine.range(&last.key, &keys::end_of(ledger::EVENT));
        Ok(left.next().transpose()?.map_or(0, |(key, _)| keys::event_seq(&key)))
    }

    fn expired_events(&self) -> Result<Vec<Change>, EngineError> {
        let now = self.shared.calendar.believed();
        let Self { shared, seq, offset, .. } = self;
        let delivered = shared.readers.slowest();
        shared.retention.expired_events(&shared.engine, *seq, *offset, delivered, now)
    }
}

/// An event as it is appended.
pub(super) fn numbered(event: NewEvent, seq: u64, now: Timestamp) -> Event {
    Event {
        id: time_ordered_id(now),
        seq,
        ts: now,
        at: event.at.map(log::to_microsecond),
        tag: event.tag,
        minion: event.minion,
        data: event.data,
    }
}

/// A UUIDv7 of this time.
fn time_ordered_id(now: Timestamp) -> Uuid {
    let since = Duration::try_from(now.as_duration()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos()))
}
