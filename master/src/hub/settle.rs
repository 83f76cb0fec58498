//! What a round of the hub's loop leaves to do: store it, and once it is durable, acknowledge, send and tell.

use std::collections::HashMap;

use drover_proto::{
    MinionId,
    session::master::{Notice, Reply},
};

use crate::{
    jobs::Effects,
    store::{Batch, StoreError, Submitted},
};

/// Told once the batch is durable.
pub(super) type Answer = Box<dyn FnOnce() + Send>;

/// What the inputs of one round have caused so far.
#[derive(Default)]
pub(super) struct Round {
    pub(super) effects: Effects,
    /// By connection number, the outbox number up to which this round and those before it store everything.
    pub(super) outboxes: HashMap<u64, u64>,
    pub(super) answers: Vec<Answer>,
    /// Answers to minions' requests, by connection number.
    pub(super) replies: Vec<(u64, Box<Reply>)>,
    /// What minions are told, if they are connected.
    pub(super) notices: Vec<(MinionId, Notice)>,
}

impl Round {
    pub(super) fn is_empty(&self) -> bool {
        self.effects.is_empty()
            && self.outboxes.is_empty()
            && self.answers.is_empty()
            && self.replies.is_empty()
            && self.notices.is_empty()
    }

    /// Whether something has to be on the disk before the rest is done. An outbox entry that an earlier round stores
    /// waits for that round by being behind it.
    pub(super) fn needs_store(&self) -> bool {
        !self.effects.batch.is_empty() || !self.outboxes.is_empty() || !self.answers.is_empty()
    }

    pub(super) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.effects.batch)
    }
}

/// A round whose batch was handed in.
pub(super) async fn stored(submitted: Submitted, round: Round) -> Result<Round, StoreError> {
    submitted.wait().await?;
    Ok(round)
}
