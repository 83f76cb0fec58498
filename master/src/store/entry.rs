//! The entries of the store's ledgers that are not named elsewhere: a job on one minion, a job that waits.

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
