//! The entries of the store's ledgers that are not named elsewhere: a job on one minion, a job that waits, a minion's
//! presence, an event that a bridge could not deliver.

use drover_pki::MinionId;
use drover_proto::{id::JobId, job::JobState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// An event that a bridge's server refused for good. The event itself is in the log, for as long as that keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The event.
    pub seq: u64,
    /// Its tag.
    pub tag: String,
    /// What the server said.
    pub reason: String,
    /// When.
    pub ts: Timestamp,
}
