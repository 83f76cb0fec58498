//! What others hold of a bridge: how it is doing, and what may be wanted of it.

use std::sync::{Arc, Mutex, PoisonError};

use drover_proto::event::Event;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    meter::Meter,
    status::{BridgeLag, BridgeStatus, Progress},
};
use crate::{
    clock::Now,
    store::{DeadLetter, ReadError, Store},
};

/// What is wanted of a bridge's task.
pub(super) enum Order {
    /// Send one event beside the others, and say what came back.
    Test(oneshot::Sender<Tested>),
    /// Set the cursor back to this event.
    Replay { after: u64, done: oneshot::Sender<Result<u64, NothingToReplay>> },
    /// Send nothing until further notice, or go on.
    Pause { is_paused: bool, done: oneshot::Sender<()> },
    /// Try the dead letters of these events again; those that are none are left out.
    Revive { letters: Vec<u64>, done: oneshot::Sender<usize> },
    /// Forget the dead letters of these events.
    Drop { letters: Vec<u64>, done: oneshot::Sender<usize> },
}

/// What came of an event that was sent as a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The bridge.
    pub bridge: String,
    /// What the other side is found to be.
    pub server: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What it says.
    pub verdict: TestVerdict,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the other side says of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestVerdict {
    /// The event is there.
    Done,
    /// The event would be sent again.
    Later,
    /// The event would be a dead letter.
    Refused,
    /// The other side is away, or turns the bridge away.
    Failed,
}

/// The bridge's task has ended, as the master does.
#[derive(Debug, Error)]
#[error("the bridge has ended; the master's log tells why")]
pub struct BridgeEnded;

/// A replay that would send nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the bridge has come to event {at} only, and sends what follows anyway")]
pub struct NothingToReplay {
    /// The cursor.
    pub at: u64,
}

/// What others hold of a bridge.
#[derive(Clone)]
pub struct BridgeHandle {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) is_idempotent: bool,
    pub(super) store: Store,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) meter: Arc<Mutex<Meter>>,
    pub(super) orders: mpsc::Sender<Order>,
}

impl BridgeHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what is sent twice is there once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// How it is doing.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn status(&self) -> Result<BridgeStatus, ReadError> {
        let progress = self.progress.borrow().clone();
        let now = Now::read();
        let lag = self.store.lag(progress.settled)?;
        let age = |oldest: Timestamp| now.wall.as_second().saturating_sub(oldest.as_second());
        let rate = self.meter.lock().unwrap_or_else(PoisonError::into_inner).rate(now.instant);
        let (last_error_at, last_error) = progress.last_error.unzip();
        Ok(BridgeStatus {
            kind: self.kind,
            state: progress.state,
            server: progress.server,
            lag: BridgeLag {
                events: lag.events,
                bytes: lag.bytes,
                seconds: lag.oldest.map_or(0, age).max(0).unsigned_abs(),
            },
            rate,
            retries: progress.retries,
            sent: progress.sent,
            dead_letters: progress.dead_letters,
            last_error,
            last_error_at,
            seq: progress.settled,
            is_denied: progress.is_denied,
        })
    }

    /// Sends one event that is made for it, beside the others, and says what came back.
    ///
    /// # Errors
    /// When the bridge has ended.
    pub async fn test(&self) -> Result<Tested, BridgeEnded> {
        self.order(Order::Test).await
    }

    /// Sends again all that it takes after this event; how many events it goes back.
    ///
    /// # Errors
    /// When the bridge has ended.
    pub async fn replay(&self, after: u64) -> Result<Result<u64, NothingToReplay>, BridgeEnded> {
        self.order(|done| Order::Replay { after, done }).await
    }

    /// Has it send nothing, over a restart too, or has it go on. Returns when that is durable.
    ///
    /// # Errors
    /// When the bridge has ended.
    pub async fn pause(&self, is_paused: bool) -> Result<(), BridgeEnded> {
        self.order(|done| Order::Pause { is_paused, done }).await
    }

    /// Tries the dead letters of these events again; of how many there are. A letter goes when its event is delivered.
    ///
    /// # Errors
    /// When the bridge has ended.
    pub async fn revive(&self, letters: Vec<u64>) -> Result<usize, BridgeEnded> {
        self.order(|done| Order::Revive { letters, done }).await
    }

    /// Forgets the dead letters of these events; of how many there were.
    ///
    /// # Errors
    /// When the bridge has ended.
    pub async fn forget(&self, letters: Vec<u64>) -> Result<usize, BridgeEnded> {
        self.order(|done| Order::Drop { letters, done }).await
    }

    /// The events that it could not deliver, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, ReadError> {
        self.store.dead_letters(&self.name)
    }

    /// A dead letter's event; `None` where neither the letter nor the log has it any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letter_event(&self, seq: u64) -> Result<Option<Event>, ReadError> {
        dead_letter_event(&self.store, &self.name, seq).await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, BridgeEnded> {
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).await.map_err(|_| BridgeEnded)?;
        answer.await.map_err(|_| BridgeEnded)
    }
}

/// A dead letter's event: its copy, or, of a letter of an earlier version, what the log has.
pub(super) async fn dead_letter_event(
    store: &Store,
    bridge: &str,
    seq: u64,
) -> Result<Option<Event>, ReadError> {
    if let Some(event) = store.dead_letter_event(bridge, seq)? {
        return Ok(Some(event));
    }
    let found = store.events(seq.saturating_sub(1), 1).await?.into_iter().next();
    Ok(found.filter(|event| event.seq == seq).map(|event| Event::clone(&event)))
}
