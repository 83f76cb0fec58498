//! A bridge's shell: reads the log from its cursor, hands batches to the sink, writes down how far it came. Each bridge
//! is a task of its own, and nothing in the master waits for it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use drover_proto::event::{NewEvent, Tag};
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{sleep_until, timeout},
};
use tracing::{error, info, warn};

use super::{
    config::Bridge,
    feed::Feed,
    filter::Filter,
    health::{Announcement, Health},
    sink::{Failure, Sink, SinkError, Verdict},
    status::{BridgeHandle, Progress},
};
use crate::{
    clock::Now,
    store::{Batch, DeadLetter, ReadError, Store, StoreError},
};

/// Events that are read at once.
const CHUNK: usize = 500;
/// The cursor moves with each batch; past this many events that were not meant also without one.
const SAVE_AFTER: u64 = 10_000;
/// Notes of events that could not be delivered, for each bridge; past that the oldest goes.
const MOST_DEAD_LETTERS: usize = 10_000;
/// A sink that is silent for longer counts as failed, whatever it waits for.
const PATIENCE: Duration = Duration::from_secs(300);

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
    store: Store,
    sink: Sink,
    filter: Filter,
    feed: Feed,
    health: Health,
    /// The cursor that is written.
    saved: u64,
    /// The numbers of the dead letters that are kept.
    dead: VecDeque<u64>,
    progress: watch::Sender<Progress>,
}

impl BridgeTask {
    /// Takes up where the bridge of this name ended; a new one begins with the oldest event that is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(store: Store, bridge: Bridge) -> Result<(BridgeHandle, Self), BridgeStopped> {
        let Bridge { name, sink, filter, limits, .. } = bridge;
        let failed = |source| BridgeStopped::Read { bridge: name.clone(), source };
        let saved = match store.cursor(&cursor(&name)).map_err(failed)? {
            Some(saved) => saved,
            None => store.first_seq().map_err(failed)?.saturating_sub(1),
        };
        let letters = store.dead_letters(&name).map_err(failed)?;
        let dead: VecDeque<_> = letters.iter().map(|letter| letter.seq).collect();
        let (progress, watched) = watch::channel(Progress {
            settled: saved,
            dead_letters: dead.len(),
            ..Progress::default()
        });
        let handle = BridgeHandle::new(name.clone(), sink.kind(), store.clone(), watched);
        let feed = Feed::new(limits, saved);
        let health = Health::default();
        Ok((handle, Self { name, store, sink, filter, feed, health, saved, dead, progress }))
    }

    /// Runs for as long as the master does.
    ///
    /// # Errors
    /// When the store has failed.
    pub async fn run(mut self) -> Result<(), BridgeStopped> {
        let mut newer = self.store.watch();
        loop {
            let has_read = self.read().await?;
            let has_sent = self.send().await?;
            self.save().await?;
            self.tell().await?;
            if has_read || has_sent {
                continue;
            }
            let due = self.feed.poll_timeout().into_iter().chain(self.health.poll_timeout()).min();
            let timer = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                changed = newer.changed(), if self.feed.wants_events() => {
                    changed.map_err(|_| StoreError::Failed)?;
                }
            }
        }
    }

    /// Takes events from the log, if there is room; whether there were any.
    async fn read(&mut self) -> Result<bool, BridgeStopped> {
        if !self.feed.wants_events() {
            return Ok(false);
        }
        let after = self.feed.read();
        let failed = |source| BridgeStopped::Read { bridge: self.name.clone(), source };
        let events = self.store.events(after, CHUNK).await.map_err(failed)?;
        let Some(first) = events.first() else { return Ok(false) };
        if first.seq > after + 1 {
            self.missed(after + 1, first.seq - 1).await?;
        }
        self.feed.handle_events(events, |event| self.filter.takes(event, &|_| None), now());
        Ok(true)
    }

    /// Sends a batch, if one is due; whether one was.
    async fn send(&mut self) -> Result<bool, BridgeStopped> {
        let Some(items) = self.feed.poll_transmit(now()) else { return Ok(false) };
        let delivered = timeout(PATIENCE, self.sink.deliver(items)).await;
        let sent = items.len();
        match delivered {
            Ok(Ok(verdicts)) => {
                let late = verdicts.iter().find_map(|verdict| match verdict {
                    Verdict::Later(reason) => Some(reason.clone()),
                    Verdict::Done | Verdict::Refused(_) => None,
                });
                let done = verdicts.iter().filter(|verdict| **verdict == Verdict::Done).count();
                self.progress.send_modify(|progress| progress.sent += done as u64);
                self.feed.handle_verdicts(verdicts, now());
                match late {
                    Some(reason) => self.failed(&reason),
                    None => self.succeeded(),
                }
            }
            Ok(Err(error)) if error.failure() == Failure::TooLarge => {
                self.feed.handle_too_large(&error.to_string(), now());
            }
            Ok(Err(error)) => {
                self.feed.handle_failure(now());
                self.failed(&reason(&error));
            }
            Err(_) => {
                self.feed.handle_failure(now());
                self.failed(&format!(
                    "{sent} events were not taken within {} s",
                    PATIENCE.as_secs()
                ));
            }
        }
        Ok(true)
    }

    fn failed(&mut self, reason: &str) {
        if self.health.reason().is_none() {
            warn!(bridge = self.name, reason, "a bridge cannot deliver; it goes on trying");
        }
        self.health.handle_failure(reason);
        let error = Some((Timestamp::now(), reason.to_owned()));
        self.progress.send_modify(|progress| {
            progress.is_up = false;
            progress.last_error = error;
        });
    }

    fn succeeded(&mut self) {
        if self.health.reason().is_some() {
            info!(bridge = self.name, "a bridge delivers again");
        }
        self.health.handle_success();
        self.progress.send_modify(|progress| progress.is_up = true);
    }

    /// Writes down how far the bridge came, with the events that it gave up on its way there.
    async fn save(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        while let Some(dead) = self.feed.poll_dead() {
            let seq = dead.event.seq;
            let letter = DeadLetter {
                seq,
                tag: dead.event.tag.to_string(),
                reason: dead.reason,
                ts: Timestamp::now(),
            };
            error!(bridge = self.name, seq, reason = letter.reason, "an event cannot be delivered");
            self.health.handle_dead(&letter.reason);
            batch.dead_letter(&self.name, &letter);
            self.dead.push_back(seq);
            if self.dead.len() > MOST_DEAD_LETTERS
                && let Some(oldest) = self.dead.pop_front()
            {
                batch.dead_letter_over(&self.name, oldest);
            }
        }
        let settled = self.feed.settled();
        let is_between = self.feed.is_idle() || settled >= self.saved + SAVE_AFTER;
        if batch.is_empty() && (settled == self.saved || !is_between) {
            return Ok(());
        }
        // What lies before the cursor is durable at the sink, or a dead letter of this same batch.
        batch.cursor(&cursor(&self.name), settled);
        self.store.write(batch).await?;
        self.saved = settled;
        let dead_letters = self.dead.len();
        self.progress.send_modify(|progress| {
            progress.settled = settled;
            progress.dead_letters = dead_letters;
        });
        Ok(())
    }

    async fn tell(&mut self) -> Result<(), StoreError> {
        while let Some(announcement) = self.health.poll_event(now()) {
            let (what, data) = match announcement {
                Announcement::Up => ("up", json!({})),
                Announcement::Down { reason } => ("down", json!({"reason": reason})),
                Announcement::DeadLetters { count, reason } => {
                    ("dead_letters", json!({"count": count, "reason": reason}))
                }
            };
            self.append(what, data).await?;
        }
        Ok(())
    }

    /// Retention was faster than the bridge.
    async fn missed(&self, from: u64, to: u64) -> Result<(), StoreError> {
        error!(bridge = self.name, from, to, "events were removed before they could be delivered");
        self.append(
            "missed",
            json!({"from": from, "to": to, "hint": "raise `events: {undelivered_max_bytes: …}`"}),
        )
        .await
    }

    async fn append(&self, what: &str, data: Value) -> Result<(), StoreError> {
        let tag: Tag = format!("drover/bridge/{}/{what}", self.name)
            .parse()
            .expect("a bridge's name has the characters of a tag");
        self.store.submit(NewEvent::new(tag, None, data).into()).await.map(drop)
    }
}

fn cursor(name: &str) -> String {
    format!("bridge/{name}")
}

fn now() -> Instant {
    Now::read().instant
}

/// An error with what caused it, in one line.
fn reason(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut at = std::error::Error::source(error);
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
