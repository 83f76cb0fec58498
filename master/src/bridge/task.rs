//! A bridge's shell: reads the log from its cursor, hands batches to the sink, writes down how far it came. Each bridge
//! is a task of its own, and nothing in the master waits for it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use drover_proto::event::{NewEvent, Tag};
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tracing::{error, info, warn};
use uuid::Uuid;

mod flights;
mod ledger;
mod orders;

use super::{
    choice::Choice,
    config::Bridge,
    dead::Letters,
    feed::{Feed, Settings, Settled, weigh},
    handle::{BridgeHandle, Order, Tested, dead_letter_event},
    health::{Announcement, Condition, Health},
    meter::Meter,
    sink::Sink,
    status::{BridgeState, Progress},
};
use crate::{
    clock::Now,
    registry::Registry,
    store::{Missing, ReadError, Store, StoreError},
};
use flights::Landed;
use ledger::Ledger;

/// Events that are read at once.
const CHUNK: usize = 500;
/// As many are read at once even where events are very large.
const FEWEST: usize = 8;
/// A sink that is silent for longer counts as failed, whatever it waits for.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a sink is asked whether it wants its upkeep, and how long one that failed waits for the next.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// The last part of the event that tells of dead letters.
const DEAD_LETTERS: &str = "dead_letters";
/// Orders that wait until the task has time.
const ORDERS: usize = 16;

/// Why a bridge stopped.
#[derive(Debug, Error)]
pub enum BridgeStopped {
    /// The log cannot be read.
    #[error("read events for the bridge `{bridge}`")]
    Read {
        /// Which bridge.
        bridge: String,
        /// Why not.
        source: ReadError,
    },
    /// The store no longer takes writes.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One bridge's loop.
pub struct BridgeTask {
    name: String,
    is_enabled: bool,
    is_paused: bool,
    store: Store,
    sink: Arc<Sink>,
    choice: Choice,
    feed: Feed,
    health: Health,
    ledger: Ledger,
    /// What is on its way to the sink.
    flights: JoinSet<Landed>,
    /// Dead letters that are to be tried again.
    reviving: VecDeque<u64>,
    /// Those, and what of them is on its way.
    revived: BTreeSet<u64>,
    /// Tests that wait until the sink takes another batch.
    tests: VecDeque<oneshot::Sender<Tested>>,
    orders: mpsc::Receiver<Order>,
    is_in_upkeep: bool,
    upkeep_at: Instant,
    /// When a request last ended without an answer.
    ambiguous_at: Instant,
    /// Bytes of an event, on the average of those that were read last.
    mean: usize,
    has_succeeded: bool,
    last_error: Option<(Timestamp, String)>,
    sent: u64,
    progress: watch::Sender<Progress>,
    meter: Arc<Mutex<Meter>>,
}

impl BridgeTask {
    /// Takes up where the bridge of this name ended; a new one begins with the oldest event that is kept. From now on the
    /// log keeps what the bridge has not passed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(
        store: Store,
        registry: Registry,
        bridge: Bridge,
    ) -> Result<(BridgeHandle, Self), BridgeStopped> {
        let Bridge { name, is_enabled, sink, filter, sample, rate, grains, limits } = bridge;
        let failed = |source| BridgeStopped::Read { bridge: name.clone(), source };
        let saved = match store.cursor(&cursor(&name)).map_err(failed)? {
            Some(saved) => saved,
            None => store.first_seq().map_err(failed)?.saturating_sub(1),
        };
        if is_enabled {
            store.hold(&cursor(&name)).map_err(failed)?;
        }
        let is_paused = store.bridge(&name).map_err(failed)?.is_paused;
        let letters = Letters::new(store.dead_letter_sizes(&name).map_err(failed)?);
        let settings = Settings {
            limits,
            in_flight: sink.in_flight().max(1),
            rate,
            sent_before: store.last_seq(),
            // As good as any, and another one for each bridge and start.
            seed: Uuid::new_v4().as_u64_pair().0,
        };
        let mut feed = Feed::new(settings, saved);
        feed.stop(is_paused || !is_enabled);
        let now = now();
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (progress, watched) = watch::channel(Progress {
            state: BridgeState::Idle,
            is_denied: false,
            server: None,
            settled: saved,
            sent: 0,
            retries: 0,
            dead_letters: letters.count(),
            last_error: None,
        });
        let meter = Arc::new(Mutex::new(Meter::new(now)));
        let handle = BridgeHandle {
            name: name.clone(),
            kind: sink.kind(),
            is_idempotent: sink.is_idempotent(),
            store: store.clone(),
            progress: watched,
            meter: meter.clone(),
            orders,
        };
        let ledger = Ledger::new(&name, store.clone(), saved, letters);
        let task = Self {
            name,
            is_enabled,
            is_paused,
            store,
            sink: Arc::new(sink),
            choice: Choice { filter, sample, grains, registry, no_grains: Arc::default() },
            feed,
            health: Health::default(),
            ledger,
            flights: JoinSet::new(),
            reviving: VecDeque::new(),
            revived: BTreeSet::new(),
            tests: VecDeque::new(),
            orders: ordered,
            is_in_upkeep: false,
            upkeep_at: now,
            ambiguous_at: now,
            mean: 1,
            has_succeeded: false,
            last_error: None,
            sent: 0,
            progress,
            meter,
        };
        task.show();
        Ok((handle, task))
    }

    /// Runs for as long as the master does.
    ///
    /// # Errors
    /// When the store has failed.
    pub async fn run(mut self) -> Result<(), BridgeStopped> {
        let mut newer = self.store.watch();
        if self.is_enabled {
            self.sink.start(&self.store);
        }
        loop {
            newer.mark_unchanged();
            let has_read = self.read().await?;
            self.revive().await?;
            self.launch();
            self.settle();
            self.tell().await?;
            if let Some(trouble) = self.sink.poll_trouble() {
                self.last_error = Some((Timestamp::now(), trouble));
            }
            self.show();
            let due = self.poll_timeout();
            let timer = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(landed) = self.flights.join_next() => {
                    let landed = landed.expect("what a sink panics with is caught");
                    self.land(landed).await?;
                }
                written = self.ledger.written(now) => written?,
                Some(order) = self.orders.recv() => self.carry_out(order).await?,
                () = std::future::ready(()), if has_read => {}
                changed = newer.changed(), if self.room() > 0 => {
                    changed.map_err(|_| StoreError::Failed)?;
                }
                () = timer => {}
            }
        }
    }

    /// How many more events are wanted. None while what became of the last ones cannot be written down.
    fn room(&self) -> usize {
        if self.ledger.is_full() { 0 } else { self.feed.room() }
    }

    /// Takes events from the log, if there is room; whether there were any.
    async fn read(&mut self) -> Result<bool, BridgeStopped> {
        let room = self.room();
        if room == 0 {
            return Ok(false);
        }
        // So that a chunk of large events is not much more than there is room for.
        let most = (self.feed.room_bytes() / self.mean).max(FEWEST).min(room).min(CHUNK);
        let after = self.feed.read();
        let failed = |source| BridgeStopped::Read { bridge: self.name.clone(), source };
        let events = self.store.events(after, most).await.map_err(failed)?;
        let Some(first) = events.first() else { return Ok(false) };
        if let Some(missing) = self.store.missing(after, first.seq) {
            self.missed(missing).await?;
        }
        self.mean = (events.iter().map(|event| weigh(event)).sum::<usize>() / events.len()).max(1);
        self.feed.handle_events(events, |event| self.choice.choose(event), now());
        Ok(true)
    }

    /// Takes dead letters that are to be tried again, if there is room.
    async fn revive(&mut self) -> Result<(), BridgeStopped> {
        while self.room() > 0 {
            let Some(seq) = self.reviving.pop_front() else { return Ok(()) };
            if !self.ledger.letters().has(seq) {
                self.revived.remove(&seq);
                continue;
            }
            let failed = |source| BridgeStopped::Read { bridge: self.name.clone(), source };
            let event = dead_letter_event(&self.store, &self.name, seq).await.map_err(failed)?;
            if let Some(event) = event {
                let grains = self.choice.grains(&event);
                self.feed.handle_letter(Arc::new(event), grains, now());
            } else {
                self.revived.remove(&seq);
            }
        }
        Ok(())
    }

    /// Writes down what came to its end.
    fn settle(&mut self) {
        while let Some(settled) = self.feed.poll_settled() {
            match settled {
                // Somebody dropped it while it was on its way once more.
                Settled::StillDead { event, .. } if !self.revived.remove(&event.seq) => {}
                Settled::Dead { event, reason } | Settled::StillDead { event, reason } => {
                    let seq = event.seq;
                    error!(bridge = self.name, seq, reason, "an event cannot be delivered");
                    let dropped = self.ledger.add(&event, reason.clone(), Timestamp::now());
                    // What tells of dead letters and becomes one would be told of for ever.
                    if event.tag != tag(&self.name, DEAD_LETTERS) {
                        self.health.handle_dead(&reason, dropped);
                    }
                }
                Settled::Revived { seq } => {
                    self.revived.remove(&seq);
                    self.ledger.remove(seq);
                }
            }
        }
        self.ledger.write(self.feed.settled(), now());
    }

    async fn tell(&mut self) -> Result<(), StoreError> {
        while let Some(announcement) = self.health.poll_event(now()) {
            let (what, data) = match announcement {
                Announcement::Up => ("up", json!({})),
                Announcement::Down { reason } => ("down", json!({"reason": reason})),
                Announcement::Paused { reason } => ("paused", json!({"reason": reason})),
                Announcement::DeadLetters { count, dropped, reason } => {
                    let data = json!({"count": count, "dropped": dropped, "reason": reason});
                    (DEAD_LETTERS, data)
                }
            };
            self.append(what, data).await?;
        }
        Ok(())
    }

    /// The log was faster than the bridge, beyond what it keeps for it.
    async fn missed(&mut self, missing: Missing) -> Result<(), StoreError> {
        let Missing { from, to, count } = missing;
        error!(bridge = self.name, from, to, "events were removed before they could be delivered");
        let hint = "raise `events: {undelivered_max_bytes: …}`";
        let data = json!({"from": from, "to": to, "count": count, "hint": hint});
        self.append("missed", data).await
    }

    async fn append(&mut self, what: &str, data: Value) -> Result<(), StoreError> {
        let event = NewEvent::new(tag(&self.name, what), None, data);
        self.store.submit(event.into()).await.map(drop)
    }

    /// When there is something to do, if nothing happens until then.
    fn poll_timeout(&self) -> Option<Instant> {
        let upkeep = (self.is_running() && !self.is_in_upkeep).then_some(self.upkeep_at);
        let feed = self.feed.poll_timeout().filter(|_| self.has_slot());
        [feed, self.health.poll_timeout(), self.ledger.poll_timeout(), upkeep]
            .into_iter()
            .flatten()
            .min()
    }

    const fn is_running(&self) -> bool {
        self.is_enabled && !self.is_paused
    }

    fn state(&self) -> BridgeState {
        match self.health.condition() {
            _ if !self.is_enabled => BridgeState::Stopped,
            _ if self.is_paused => BridgeState::Paused,
            Condition::Denied(_) => BridgeState::Paused,
            Condition::Down(_) => BridgeState::Down,
            Condition::Well if self.has_succeeded => BridgeState::Up,
            Condition::Well => BridgeState::Idle,
        }
    }

    /// Shows to others how it is doing.
    fn show(&self) {
        let progress = Progress {
            state: self.state(),
            is_denied: !self.is_paused && matches!(self.health.condition(), Condition::Denied(_)),
            server: self.sink.server(),
            settled: self.ledger.saved(),
            sent: self.sent,
            retries: self.feed.retries(),
            dead_letters: self.ledger.letters().count(),
            last_error: self.last_error.clone(),
        };
        self.progress.send_if_modified(|shown| {
            let is_news = *shown != progress;
            if is_news {
                *shown = progress;
            }
            is_news
        });
    }

    fn handle_failure(&mut self, reason: &str, is_denied: bool) {
        if *self.health.condition() == Condition::Well {
            warn!(bridge = self.name, reason, "a bridge cannot deliver; it goes on trying");
        }
        self.health.handle_failure(reason, is_denied);
        self.last_error = Some((Timestamp::now(), reason.to_owned()));
    }

    fn handle_success(&mut self) {
        if *self.health.condition() != Condition::Well {
            info!(bridge = self.name, "a bridge delivers again");
        }
        self.health.handle_success();
        self.has_succeeded = true;
    }

    fn count(&mut self, done: usize) {
        self.sent += done as u64;
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).add(done as u64, now());
    }
}

/// The name of a bridge's cursor.
fn cursor(name: &str) -> String {
    format!("bridge/{name}")
}

fn tag(bridge: &str, what: &str) -> Tag {
    let tag = format!("drover/bridge/{bridge}/{what}");
    tag.parse().expect("a bridge's name has the characters of a tag")
}

fn now() -> Instant {
    Now::read().instant
}

#[cfg(test)]
mod tests;
