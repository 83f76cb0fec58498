//! What the jobs machine asks the hub to do, and what it tells whoever started a job.

use std::collections::BTreeMap;

use drover_proto::{MinionId, id::JobId, session::master::JobFrame};
use serde::Serialize;

use super::Line;
use crate::{registry::Status, store::Batch};

/// What the hub has to do: first make the batch durable, then the rest.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be stored.
    pub batch: Batch,
    /// Jobs to hand to sessions, in this order.
    pub sends: Vec<(MinionId, JobFrame)>,
    /// Jobs to end.
    pub kills: Vec<(MinionId, JobId)>,
    /// What followers of jobs are told.
    pub lines: Vec<(JobId, Line)>,
    /// Jobs that are over for every minion.
    pub over: Vec<JobId>,
}

impl Effects {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.is_done_once_durable()
    }

    /// Whether there is nothing to do beside storing.
    #[must_use]
    pub const fn is_done_once_durable(&self) -> bool {
        self.sends.is_empty()
            && self.kills.is_empty()
            && self.lines.is_empty()
            && self.over.is_empty()
    }
}

impl Effects {
    /// Adds what has to be done after this.
    pub fn append(&mut self, later: Self) {
        let Self { batch, sends, kills, lines, over } = later;
        self.batch.append(batch);
        self.sends.extend(sends);
        self.kills.extend(kills);
        self.lines.extend(lines);
        self.over.extend(over);
    }
}

/// What whoever started a job is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// The job; `None` where nobody was meant.
    pub jid: Option<JobId>,
    /// Whom the target means.
    pub minions: Vec<MinionId>,
    /// Those of them that are not connected.
    pub away: Vec<MinionId>,
    /// Those that the job is kept for.
    pub queued: Vec<MinionId>,
    /// Names of a list that are nobody's.
    pub unknown: Vec<String>,
    /// Minions of a list that are known and not accepted.
    pub not_accepted: BTreeMap<MinionId, Status>,
}
