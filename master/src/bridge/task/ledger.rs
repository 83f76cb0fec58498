//! What a bridge writes down: how far it came, and the events that it gave up on its way there. One write at a time, beside
//! which the bridge goes on sending.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use drover_proto::event::Event;
use jiff::Timestamp;

use crate::{
    bridge::dead::Letters,
    store::{Appended, Batch, DeadLetter, Store, StoreError, StoredLetter},
};

/// A cursor that moved over nothing but events that were not meant waits so long.
const UNHURRIED: Duration = Duration::from_secs(1);
/// As many changes may wait to be written before no more events are taken, as while the disk is full.
const MOST_WAITING: usize = 1_000;
/// The time until the next try where the disk is full.
const FULL: Duration = Duration::from_secs(1);

/// A bridge's cursor and its dead letters.
pub(super) struct Ledger {
    bridge: String,
    cursor: String,
    store: Store,
    /// The cursor that is written.
    saved: u64,
    letters: Letters,
    /// What is to be written with the next cursor.
    changes: Vec<Change>,
    /// Since when the cursor differs from the one that is written.
    behind_since: Option<Instant>,
    is_urgent: bool,
    not_before: Option<Instant>,
    saving: Option<Saving>,
}

enum Change {
    Letter(StoredLetter),
    Over(u64),
}

struct Saving {
    cursor: u64,
    changes: Vec<Change>,
    write: Pin<Box<dyn Future<Output = Result<Appended, StoreError>> + Send>>,
}

impl Ledger {
    pub(super) fn new(bridge: &str, store: Store, saved: u64, letters: Letters) -> Self {
        Self {
            bridge: bridge.to_owned(),
            cursor: super::cursor(bridge),
            store,
            saved,
            letters,
            changes: Vec::new(),
            behind_since: None,
            is_urgent: false,
            not_before: None,
            saving: None,
        }
    }

    /// The cursor that is written.
    pub(super) const fn saved(&self) -> u64 {
        self.saved
    }

    pub(super) const fn letters(&self) -> &Letters {
        &self.letters
    }

    /// An event is given up; how many older letters go for it.
    pub(super) fn add(&mut self, event: &Event, reason: String, now: Timestamp) -> usize {
        let letter = DeadLetter::new(event, reason, now).with_event(event);
        let gone = self.letters.add(letter.seq(), letter.size());
        self.changes.push(Change::Letter(letter));
        let count = gone.len();
        self.changes.extend(gone.into_iter().map(Change::Over));
        self.is_urgent = true;
        count
    }

    /// A letter is over; whether there was one.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let was_there = self.letters.remove(seq);
        if was_there {
            self.changes.push(Change::Over(seq));
            self.is_urgent = true;
        }
        was_there
    }

    /// Whether so much waits to be written that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        let writing = self.saving.as_ref().map_or(0, |saving| saving.changes.len());
        self.changes.len() + writing >= MOST_WAITING
    }

    /// Something was delivered: the cursor does not wait.
    pub(super) const fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// Begins to write, if there is something to write and nothing is being written.
    pub(super) fn write(&mut self, settled: u64, now: Instant) {
        let is_moved = settled != self.saved;
        if !is_moved && self.changes.is_empty() {
            (self.behind_since, self.is_urgent) = (None, false);
            return;
        }
        let since = *self.behind_since.get_or_insert(now);
        let is_due = self.is_urgent || now >= since + UNHURRIED;
        if !is_due || self.saving.is_some() || self.not_before.is_some_and(|until| now < until) {
            return;
        }
        let mut batch = Batch::new();
        let changes = std::mem::take(&mut self.changes);
        for change in &changes {
            match change {
                Change::Letter(letter) => batch.dead_letter(&self.bridge, letter),
                Change::Over(seq) => batch.dead_letter_over(&self.bridge, *seq),
            }
        }
        // What lies before the cursor is durable at the sink, or a dead letter of this same batch.
        batch.cursor(&self.cursor, settled);
        let store = self.store.clone();
        let write = Box::pin(async move { store.write(batch).await });
        self.saving = Some(Saving { cursor: settled, changes, write });
        (self.behind_since, self.is_urgent, self.not_before) = (None, false, None);
    }

    /// Returns when what is being written is durable; never where nothing is. May be dropped and called again.
    pub(super) async fn written(&mut self, now: impl Fn() -> Instant) -> Result<(), StoreError> {
        let Some(saving) = &mut self.saving else { return std::future::pending().await };
        let written = (&mut saving.write).await;
        let Some(Saving { cursor, mut changes, .. }) = self.saving.take() else { return Ok(()) };
        match written {
            Ok(_) => {
                self.saved = cursor;
                Ok(())
            }
            // Nothing is lost: it comes with the next write.
            Err(StoreError::Full) => {
                changes.append(&mut self.changes);
                self.changes = changes;
                self.is_urgent = true;
                self.not_before = Some(now() + FULL);
                Ok(())
            }
            Err(error @ StoreError::Failed) => Err(error),
        }
    }

    /// When [`Self::write`] has something to do that it does not do now.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.saving.is_some() {
            return None;
        }
        let since = self.behind_since?;
        let due = if self.is_urgent { since } else { since + UNHURRIED };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::{clock::Now, store::Retention};

    #[tokio::test]
    async fn what_waits_to_be_written_has_a_limit() {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), Retention::default()).unwrap();
        let mut ledger = Ledger::new("elk", store, 0, Letters::default());
        let now = Now::read();
        for seq in 1..=MOST_WAITING as u64 {
            assert!(!ledger.is_full(), "{seq}");
            let event = crate::bridge::sink::item(seq, "a/b", Value::Null).event;
            ledger.add(&event, "not like this".to_owned(), now.wall);
        }
        assert!(ledger.is_full());
        ledger.write(1, now.instant);
        assert!(ledger.is_full(), "until it is written, it may have to be written again");
        // As on a full disk: it comes back.
        if let Some(saving) = &mut ledger.saving {
            saving.write = Box::pin(std::future::ready(Err(StoreError::Full)));
        }
        ledger.written(|| now.instant).await.unwrap();
        assert!(ledger.is_full());
        ledger.write(1, now.instant + FULL);
        ledger.written(|| now.instant).await.unwrap();
        assert!(!ledger.is_full());
    }
}
