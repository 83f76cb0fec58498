//! What one write to the store brings: events and entries that become durable together or not at all. One record of
//! a replicated log could carry the same; no batch depends on what a ledger holds.

use drover_pki::MinionId;
use drover_proto::{
    event::NewEvent,
    id::{BootId, JobId},
    job::JobRecord,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    engine::Change,
    entry::{BridgeEntry, JobEntry, PendingEntry, PresenceEntry, StoredLetter},
    keys::{self, ledger},
    room::Need,
};

/// Events and entries that become durable together.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) events: Vec<NewEvent>,
    pub(super) changes: Vec<Change>,
    is_from_outside: bool,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It can come again: a full store refuses it with [`StoreError::Full`](super::StoreError::Full). Any other batch is
    /// written in the reserve, or waits.
    #[must_use]
    pub fn from_outside(self) -> Self {
        Self { is_from_outside: true, ..self }
    }

    pub(super) fn need(&self) -> Need {
        const ESSENTIAL: [u8; 5] = [
            ledger::REGISTRY,
            ledger::STATION,
            ledger::REVOCATION,
            ledger::CRL,
            ledger::FACTORY_CRL,
        ];
        if self.is_from_outside {
            Need::Outside
        } else if self.changes.iter().any(|change| ESSENTIAL.contains(&change.key[0])) {
            Need::Essential
        } else {
            Need::Master
        }
    }

    /// About how many bytes it is.
    pub(super) fn size(&self) -> usize {
        let changes = self.changes.iter().map(Change::size).sum::<usize>();
        self.events.iter().map(size).sum::<usize>() + changes
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty()
    }

    /// Adds what another batch brings, after what is here.
    pub fn append(&mut self, mut later: Self) {
        self.events.append(&mut later.events);
        self.changes.append(&mut later.changes);
    }

    /// Appends an event.
    pub fn event(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Journals a job, as one that is not yet over.
    pub fn job(&mut self, job: &JobRecord) {
        self.put(keys::named(ledger::JOB, job.jid.as_str()), job);
        self.put(keys::named(ledger::ACTIVE_JOB, job.jid.as_str()), &());
    }

    /// A job that is over for every minion.
    pub fn job_over(&mut self, jid: &JobId) {
        self.remove(keys::named(ledger::ACTIVE_JOB, jid.as_str()));
    }

    /// Where a job stands on one minion, with its return.
    pub fn job_entry(&mut self, jid: &JobId, minion: &MinionId, entry: &JobEntry) {
        self.put(keys::job_entry(jid, minion), entry);
    }

    /// Keeps a job for a minion that is away.
    pub fn pending(&mut self, entry: &PendingEntry) {
        self.put(keys::pending(&entry.minion, &entry.jid), entry);
    }

    /// A job that is no longer kept for a minion.
    pub fn pending_over(&mut self, minion: &MinionId, jid: &JobId) {
        self.remove(keys::pending(minion, jid));
    }

    /// Every outbox entry of this minion and boot up to `through` came with this batch or before it.
    pub fn outbox(&mut self, minion: &MinionId, boot: BootId, through: u64) {
        self.put(keys::outbox(minion), &(boot, through));
    }

    /// What a minion showed of itself when it was last here.
    pub fn sighting<T: Serialize>(&mut self, minion: &MinionId, sighting: &T) {
        self.put(keys::named(ledger::SIGHTING, minion.as_str()), sighting);
    }

    /// Forgets what a minion showed of itself.
    pub fn sighting_over(&mut self, minion: &MinionId) {
        self.remove(keys::named(ledger::SIGHTING, minion.as_str()));
    }

    /// Moves a reader's cursor: it has dealt with everything up to `seq`.
    pub fn cursor(&mut self, name: &str, seq: u64) {
        self.put(keys::named(ledger::CURSOR, name), &seq);
    }

    /// The newest manifest that was imported from a station.
    pub fn manifest(&mut self, station: &str, number: u64) {
        self.put(keys::named(ledger::MANIFEST, station), &number);
    }

    /// A minion's presence has changed.
    pub fn presence(&mut self, minion: &MinionId, entry: &PresenceEntry) {
        self.put(keys::named(ledger::PRESENCE, minion.as_str()), entry);
    }

    /// A minion that is no longer known.
    pub fn presence_over(&mut self, minion: &MinionId) {
        self.remove(keys::named(ledger::PRESENCE, minion.as_str()));
    }

    /// Keeps an event that a bridge could not deliver.
    pub fn dead_letter(&mut self, bridge: &str, letter: &StoredLetter) {
        let key = keys::dead_letter(bridge, letter.seq);
        self.changes.push(Change { key, value: Some(letter.bytes.clone()) });
    }

    /// What an operator wants of a bridge.
    pub fn bridge(&mut self, name: &str, entry: &BridgeEntry) {
        self.put(keys::named(ledger::BRIDGE, name), entry);
    }

    /// Forgets such an event.
    pub fn dead_letter_over(&mut self, bridge: &str, seq: u64) {
        self.remove(keys::dead_letter(bridge, seq));
    }

    /// The tags of its events, for tests of machines that fill batches.
    #[cfg(test)]
    pub(crate) fn tags(&self) -> Vec<String> {
        self.events.iter().map(|event| event.tag.to_string()).collect()
    }

    /// The job entries in it, for the same.
    #[cfg(test)]
    pub(crate) fn job_entries(&self) -> Vec<(JobId, MinionId, JobEntry)> {
        let entries = self.changes.iter().filter(|change| change.key[0] == ledger::JOB_ENTRY);
        entries
            .filter_map(|change| {
                let (jid, minion) = std::str::from_utf8(&change.key[1..]).ok()?.split_once('\0')?;
                let entry = rmp_serde::from_slice(change.value.as_deref()?).ok()?;
                Some((jid.parse().ok()?, minion.parse().ok()?, entry))
            })
            .collect()
    }

    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, value: &T) {
        self.changes.push(Change { key, value: Some(encode(value)) });
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changes.push(Change { key, value: None });
    }
}

impl From<NewEvent> for Batch {
    fn from(event: NewEvent) -> Self {
        Self { events: vec![event], ..Self::default() }
    }
}

/// About how many bytes an event is in the log.
fn size(event: &NewEvent) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) => 1,
            Value::Number(_) => 9,
            Value::String(text) => text.len() + 2,
            Value::Array(items) => items.iter().map(of).sum::<usize>() + 3,
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| key.len() + 2 + of(value)).sum::<usize>() + 3
            }
        }
    }
    /// Its id, its times and its minion.
    const ENVELOPE: usize = 64;
    ENVELOPE + event.tag.as_str().len() + of(&event.data)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("the store's entries have a MessagePack form")
}
