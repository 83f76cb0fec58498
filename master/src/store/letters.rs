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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde::Serialize;
    use serde_json::json;
    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;
    use crate::store::{Batch, Retention};

    fn event(seq: u64) -> Event {
        Event {
            id: Uuid::from_u128(seq.into()),
            seq,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: "a/b".parse().unwrap(),
            minion: Some("rfid-1".parse().unwrap()),
            data: json!({"deep": [1, {"x": null}]}),
        }
    }

    #[tokio::test]
    async fn a_letter_keeps_its_event() {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), Retention::default()).unwrap();
        let letter = DeadLetter::new(&event(7), "no".into(), Timestamp::UNIX_EPOCH);
        let stored = letter.with_event(&event(7));
        let mut batch = Batch::new();
        batch.dead_letter("elk", &stored);
        store.write(batch).await.unwrap();
        assert_eq!(store.dead_letters("elk").unwrap(), [letter]);
        assert_eq!(store.dead_letter_sizes("elk").unwrap(), [(7, stored.size())]);
        assert_eq!(store.dead_letter_event("elk", 7).unwrap(), Some(event(7)));
        assert_eq!(store.dead_letter_event("elk", 8).unwrap(), None);
        assert!(store.dead_letters("other").unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_letter_of_an_earlier_version_is_read() {
        #[derive(Serialize)]
        struct Earlier {
            seq: u64,
            tag: &'static str,
            reason: &'static str,
            ts: Timestamp,
        }
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), Retention::default()).unwrap();
        let mut batch = Batch::new();
        let earlier = Earlier { seq: 7, tag: "a/b", reason: "no", ts: Timestamp::UNIX_EPOCH };
        batch.put(keys::dead_letter("elk", 7), &earlier);
        store.write(batch).await.unwrap();
        let letters = store.dead_letters("elk").unwrap();
        assert_eq!((letters[0].seq, letters[0].id, &*letters[0].reason), (7, None, "no"));
        assert_eq!(store.dead_letter_event("elk", 7).unwrap(), None);
    }
}
