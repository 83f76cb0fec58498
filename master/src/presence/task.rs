//! The presence machine's shell: takes the hub's signs, and writes what changes, each event together with the entry
//! that it belongs to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use drover_pki::MinionId;
use tokio::{sync::mpsc, time::sleep_until};

use super::{Presence, PresenceEntry};
use crate::{
    clock::Now,
    hub::SignOf,
    store::{Batch, ReadError, Store, StoreError},
};

/// Says how minions stand. Clones share it; no call waits.
#[derive(Clone)]
pub struct PresenceHandle(Arc<Mutex<Presence>>);

/// Writes what the machine decides.
pub struct PresenceTask {
    store: Store,
    signs: mpsc::Receiver<SignOf>,
    presence: PresenceHandle,
}

impl PresenceTask {
    /// Takes up what the store remembers. To be called before minions can connect.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new(
        store: Store,
        grace: Duration,
        signs: mpsc::Receiver<SignOf>,
    ) -> Result<(PresenceHandle, Self), ReadError> {
        // The newest event is the last sign of life of the master before this one.
        let newest = store.events(store.last_seq().saturating_sub(1), 1).await?;
        let alive = newest.first().map(|event| event.ts);
        let presence = Presence::restore(grace, store.presence()?, alive, Now::read().instant);
        let presence = PresenceHandle(Arc::new(Mutex::new(presence)));
        Ok((presence.clone(), Self { store, signs, presence }))
    }

    /// Runs until the hub ends: its end is nobody's absence.
    ///
    /// # Errors
    /// When the store no longer takes writes.
    pub async fn run(mut self) -> Result<(), StoreError> {
        loop {
            let (batch, due) = self.presence.take();
            if !batch.is_empty() {
                self.store.submit(batch).await?;
            }
            let timer = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                sign = self.signs.recv() => match sign {
                    Some(sign) => self.presence.lock().handle_sign(&sign, Now::read().instant),
                    None => return Ok(()),
                },
            }
        }
    }
}

impl PresenceHandle {
    /// The master ends: to be called before it cuts its connections.
    pub fn end(&self) {
        self.lock().handle_end();
    }

    /// A minion's key was deleted; the caller puts [`Batch::presence_over`] into the batch that says so.
    pub fn deleted(&self, id: &MinionId) {
        self.lock().handle_deleted(id);
    }

    /// How a minion stands; `None` for one that was never connected.
    #[must_use]
    pub fn entry(&self, id: &MinionId) -> Option<PresenceEntry> {
        self.lock().entry(id)
    }

    /// How every minion stands that was ever connected.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<MinionId, PresenceEntry> {
        self.lock().entries().map(|(id, entry)| (id.clone(), entry)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Presence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is to be written now, and when to look again.
    fn take(&self) -> (Batch, Option<Instant>) {
        let mut presence = self.lock();
        presence.handle_timeout(Now::read());
        let mut batch = Batch::new();
        while let Some(change) = presence.poll_event() {
            // The entry and the event become durable together: a restart tells neither twice nor not at all.
            batch.presence(&change.minion, &change.entry);
            if let Some(event) = change.event() {
                batch.event(event);
            }
        }
        (batch, presence.poll_timeout())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{hub::Sign, presence::PresenceState, store::Retention};

    #[tokio::test]
    async fn changes_are_events_and_outlive_the_task() {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), Retention::default()).unwrap();
        let (send, signs) = mpsc::channel(8);
        let grace = Duration::from_millis(20);
        let (handle, task) = PresenceTask::new(store.clone(), grace, signs).await.unwrap();
        let task = tokio::spawn(task.run());
        let minion: MinionId = "a".parse().unwrap();
        for sign in [Sign::Connected, Sign::Disconnected] {
            send.send(SignOf { minion: minion.clone(), sign, at: Now::read().wall }).await.unwrap();
        }
        store.watch().wait_for(|seq| *seq == 2).await.unwrap();
        let events = store.events(0, 10).await.unwrap();
        let tags: Vec<_> = events.iter().map(|event| event.tag.as_str()).collect();
        assert_eq!(tags, ["drover/presence/a/stale", "drover/presence/a/lost"]);
        assert_eq!(handle.entry(&minion).unwrap().presence, PresenceState::Lost);
        drop(send);
        task.await.unwrap().unwrap();
        let (_send, signs) = mpsc::channel(8);
        let (handle, _task) = PresenceTask::new(store, grace, signs).await.unwrap();
        assert_eq!(handle.entry(&minion).unwrap().presence, PresenceState::Lost);
    }
}
