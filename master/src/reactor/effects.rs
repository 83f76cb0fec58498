//! What the reactor asks of the rest of the master. A trait, because here its outside begins: the tests of its task have
//! no fleet.

use drover_proto::{
    id::JobId,
    job::{JobRequest, TargetType},
};
use thiserror::Error;

/// Why something was not done, in words for the event that records it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct EffectError(pub String);

/// Starts jobs and delivers pending ones.
pub trait Effects: Send + Sync + 'static {
    /// Starts a job and returns when it is journalled, before any minion has answered.
    fn start_job(
        &self,
        request: JobRequest,
    ) -> impl Future<Output = Result<JobId, EffectError>> + Send;

    /// Sends what waits for these minions to those of them that are connected. To ask again does nothing: a job that
    /// was delivered no longer waits. Returns how many were sent.
    fn deliver_pending(
        &self,
        tgt: String,
        tgt_type: TargetType,
    ) -> impl Future<Output = Result<usize, EffectError>> + Send;
}
