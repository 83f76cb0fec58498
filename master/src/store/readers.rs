//! Who reads the log to its end, and how far each of them has come: what they have not passed is kept longer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    ReadError, Store,
    engine::Change,
    keys::{self, ledger},
};

/// The readers that hold the log, by name, each with its durable cursor.
#[derive(Default)]
pub(super) struct Readers(Mutex<BTreeMap<String, u64>>);

impl Readers {
    /// The last event that all of them have dealt with.
    pub(super) fn slowest(&self) -> u64 {
        self.lock().values().copied().min().unwrap_or(u64::MAX)
    }

    /// Takes the cursors among changes that are durable.
    pub(super) fn handle_durable<'a>(&self, changes: impl Iterator<Item = &'a Change>) {
        let cursors = changes.filter(|change| change.key[0] == ledger::CURSOR);
        for Change { key, value } in cursors {
            let seq = value.as_deref().and_then(|value| rmp_serde::from_slice(value).ok());
            let name = std::str::from_utf8(&key[1..]).unwrap_or_default();
            if let Some(cursor) = self.lock().get_mut(name) {
                *cursor = seq.unwrap_or(0);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Keeps what is behind a reader's cursor from now on, whatever its age, up to
    /// [`Retention::undelivered`](super::Retention::undelivered). One that has no cursor yet has everything before it.
    ///
    /// # Errors
    /// When the engine has failed or the cursor is damaged.
    pub fn hold(&self, reader: &str) -> Result<(), ReadError> {
        // Under the lock, so that a cursor that moves meanwhile is not set back.
        let mut readers = self.readers.lock();
        let cursor = self.entry(&keys::named(ledger::CURSOR, reader))?.unwrap_or(0);
        readers.insert(reader.to_owned(), cursor);
        Ok(())
    }

    /// Keeps nothing more for a reader. Its cursor stays, so that it goes on from there if it comes back.
    pub fn release(&self, reader: &str) {
        self.readers.lock().remove(reader);
    }
}
