//! The entries of the store's ledgers that are not named elsewhere: a job on one minion, a job that waits, a minion's
//! presence, what a bridge could not deliver, and what an operator wants of it.

use drover_pki::MinionId;
use drover_proto::{event::Event, id::JobId, job::JobState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Where a job stands on one minion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEntry {
    /// Where it stands.
    pub state: JobState,
    /// What the function gave back, once it did.
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// 0 for success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retcode: Option<i32>,
    /// When it came to stand there.
    pub ts: Timestamp,
}

impl JobEntry {
    /// An entry without a return.
    #[must_use]
    pub const fn new(state: JobState, ts: Timestamp) -> Self {
        Self { state, value: None, retcode: None, ts }
    }
}

/// A job that the master keeps for a minion that is away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingEntry {
    /// The job.
    pub jid: JobId,
    /// For whom it is kept.
    pub minion: MinionId,
    /// `module.function`.
    pub fun: String,
    /// Positional arguments.
    pub arg: Vec<Value>,
    /// Keyword arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwarg: Map<String, Value>,
    /// Since when it is kept.
    pub queued: Timestamp,
    /// When it is given up.
    pub expires: Timestamp,
}

/// Whether a minion is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// Welcomed, and heard within three heartbeats.
    Connected,
    /// Silent for three heartbeats, or its connection has ended.
    Stale,
    /// Stale for longer than the grace.
    Lost,
}

/// A minion's presence, as it was written when it last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceEntry {
    /// Whether it is there.
    pub presence: PresenceState,
    /// Since when.
    pub since: Timestamp,
    /// When it was last known to be there; at most three heartbeats after it was heard.
    pub last_seen: Timestamp,
}

/// An event that a bridge could not deliver in any form. It is kept beside a copy of the event, since the log forgets.
/// Earlier versions wrote neither the copy nor what names the event: such a letter has the event for as long as the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The event.
    pub seq: u64,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// Its tag.
    pub tag: String,
    /// Its minion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minion: Option<String>,
    /// What the server said.
    pub reason: String,
    /// When.
    pub ts: Timestamp,
}

impl DeadLetter {
    /// Why an event was given up.
    #[must_use]
    pub fn new(event: &Event, reason: String, ts: Timestamp) -> Self {
        Self {
            seq: event.seq,
            id: Some(event.id),
            tag: event.tag.to_string(),
            minion: event.minion.as_ref().map(ToString::to_string),
            reason,
            ts,
        }
    }

    /// With the event's copy, as it is kept.
    #[must_use]
    pub fn with_event(&self, event: &Event) -> StoredLetter {
        StoredLetter { seq: self.seq, bytes: super::batch::encode(&Letter { letter: self, event }) }
    }
}

/// A dead letter with its event, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLetter {
    pub(super) seq: u64,
    pub(super) bytes: Vec<u8>,
}

impl StoredLetter {
    /// The event.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Its bytes in the store.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[derive(Serialize)]
struct Letter<'a> {
    #[serde(flatten)]
    letter: &'a DeadLetter,
    event: &'a Event,
}

/// As much of a letter as its event.
#[derive(Deserialize)]
pub(super) struct LettersEvent {
    #[serde(default)]
    pub(super) event: Option<Event>,
}

/// What an operator wants of a bridge, whatever the configuration says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeEntry {
    /// It sends nothing until it is resumed.
    #[serde(default)]
    pub is_paused: bool,
}
