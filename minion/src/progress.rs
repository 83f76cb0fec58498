//! What a job tells while it runs. It may get lost where much is told at once: the return has everything.

use drover_proto::{id::JobId, message::Progress};
use serde_json::Value;
use tokio::sync::mpsc;

/// How many steps wait for the agent's loop.
pub(crate) const STEPS: usize = 64;

/// Where one job tells its steps to.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    jid: JobId,
    steps: mpsc::Sender<Progress>,
}

impl Reporter {
    pub(crate) const fn new(jid: JobId, steps: mpsc::Sender<Progress>) -> Self {
        Self { jid, steps }
    }

    /// Tells one step.
    pub(crate) fn report(&self, data: Value) {
        let step = Progress { jid: self.jid.clone(), data };
        if self.steps.try_send(step).is_err() {
            tracing::debug!(jid = %self.jid, "a step of a job is not told");
        }
    }
}
