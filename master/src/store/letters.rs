//! What the store keeps of bridges beside their cursors: the events that they could not deliver, and what an operator wants
//! of them.

use drover_proto::event::Event;

use super::{
    BridgeEntry, DeadLetter, ReadError, Store, decode,
    entry::LettersEvent,
    keys::{self, ledger},
};

impl Store {
    /// The events that a bridge could not deliver, oldest first.
    ///
    /// # Errors
    /// When the engine has failed or an entry is damaged.
    pub fn dead_letters(&self, bridge: &str) -> Result<Vec<DeadLetter>, ReadError> {
        let (from, until) = keys::dead_letters(bridge);
        let letters = self.engine.range(&from, &until);
        letters
            .map(|entry| {
                entry.map_err(ReadError::from).and_then(|(key, value)| decode(&key, &value))
            })
            .collect()
    }

    /// How many bytes each of these events takes, by its seq.
    ///
    /// # Errors
    /// When the engine has failed.
    pub fn dead_letter_sizes(&self, bridge: &str) -> Result<Vec<(u64, usize)>, ReadError> {
        let (from, until) = keys::dead_letters(bridge);
        let letters = self.engine.range(&from, &until);
        letters
            .map(|entry| {
                let (key, value) = entry?;
                Ok((keys::letter_seq(&key), value.len()))
            })
            .collect()
    }

    /// One of these events; `None` too for one of an earlier version, which kept no copy.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn dead_letter_event(&self, bridge: &str, seq: u64) -> Result<Option<Event>, ReadError> {
        let letter: Option<LettersEvent> = self.entry(&keys::dead_letter(bridge, seq))?;
        Ok(letter.and_then(|letter| letter.event))
    }

    /// What an operator wants of a bridge.
    ///
    /// # Errors
    /// When the engine has failed or the entry is damaged.
    pub fn bridge(&self, name: &str) -> Result<BridgeEntry, ReadError> {
        Ok(self.entry(&keys::named(ledger::BRIDGE, name))?.unwrap_or_default())
    }
}
