//! Where connections, jobs and the store meet: one task owns every session and every job that is not over. What minions
//! send becomes durable in batches, and is acknowledged, answered and told only then.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use drover_proto::{
    MinionId,
    id::JobId,
    job::{JobRequest, JobState},
    session::master::{JobFrameError, Notice, Reply, Request},
    tunnel::ConnectionId,
};
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    jobs::{Feed, Ticket},
    operational::Applicant,
    registry::Matched,
    store::{PendingEntry, StoreError},
};

mod backlog;
mod connection;
mod settle;
mod tally;
mod task;
mod timers;

pub use tally::Tally;
pub use task::{HubParts, HubTask};

/// Commands that wait for the hub before the next one has to.
const COMMANDS: usize = 1024;

/// What a connection shows of a minion's life, for presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Welcomed.
    Connected,
    /// Three heartbeats were missed; the connection stands.
    Stale,
    /// Heard again.
    Heard,
    /// Its connection ended.
    Disconnected,
}

/// A sign of one minion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOf {
    /// Whose.
    pub minion: MinionId,
    /// Which.
    pub sign: Sign,
    /// When.
    pub at: Timestamp,
}

/// Who is connected and when it was last heard, readable from anywhere. A minion that has only come for its certificate
/// is not.
#[derive(Debug, Default)]
pub struct Roster(RwLock<HashMap<MinionId, Timestamp>>);

impl Roster {
    /// Whether a minion is connected.
    #[must_use]
    pub fn contains(&self, minion: &MinionId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(minion)
    }

    /// When a connected minion was last heard.
    #[must_use]
    pub fn last_heard(&self, minion: &MinionId) -> Option<Timestamp> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(minion).copied()
    }

    /// How many are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&self, minion: MinionId, at: Timestamp) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(minion, at);
    }

    fn heard(&self, minion: &MinionId, at: Timestamp) {
        let mut minions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = minions.get_mut(minion) {
            *last = at;
        }
    }

    fn remove(&self, minion: &MinionId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(minion);
    }
}

/// A request that another service answers by [`HubHandle::reply`].
#[derive(Debug)]
pub struct Ask {
    /// Who asked, and where the answer goes.
    pub connection: ConnectionId,
    /// What an operational certificate for it would be issued by.
    pub applicant: Applicant,
    /// What.
    pub request: Request,
}

/// Why a job was not started.
#[derive(Debug, Error)]
pub enum StartError {
    /// No minion would take it.
    #[error(transparent)]
    Frame(#[from] JobFrameError),
    /// It cannot be journalled.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub has ended.
    #[error(transparent)]
    Hub(#[from] HubError),
}

/// The hub has ended: the master stops, or its store has failed.
#[derive(Debug, Error)]
#[error("the master is stopping")]
pub struct HubError;

/// A started job, and what becomes of it.
#[derive(Debug)]
pub struct Started {
    /// For whoever started it.
    pub ticket: Ticket,
    /// What becomes of it; `None` where nobody was meant.
    pub feed: Option<Arc<Feed>>,
}

/// Whose pending jobs an operator means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingOf {
    /// One job's.
    Job(JobId),
    /// These minions'.
    Minions(HashSet<MinionId>),
}

enum Command {
    Start {
        request: Box<JobRequest>,
        matched: Matched,
        answer: oneshot::Sender<Result<Started, StartError>>,
    },
    Follow {
        jid: JobId,
        answer: oneshot::Sender<Option<Arc<Feed>>>,
    },
    States {
        jid: JobId,
        answer: oneshot::Sender<Vec<(MinionId, JobState)>>,
    },
    Kill {
        jid: JobId,
        answer: oneshot::Sender<Vec<MinionId>>,
    },
    Deliver {
        minions: Vec<MinionId>,
        answer: oneshot::Sender<Vec<JobId>>,
    },
    Pending {
        answer: oneshot::Sender<Vec<PendingEntry>>,
    },
    CancelPending {
        of: PendingOf,
        answer: oneshot::Sender<Vec<(JobId, MinionId)>>,
    },
    Notify {
        minion: MinionId,
        notice: Notice,
    },
    Reply {
        connection: ConnectionId,
        reply: Box<Reply>,
    },
    TellRoots,
    TellRenew {
        within: Duration,
    },
    Stop,
}

/// What the rest of the master holds of the hub.
#[derive(Clone)]
pub struct HubHandle {
    commands: mpsc::Sender<Command>,
    roster: Arc<Roster>,
    tally: Arc<Tally>,
}

impl HubHandle {
    /// Who is connected.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Numbers about jobs.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Starts a job on the minions that its target means. Returns once it is journalled.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        &self,
        request: JobRequest,
        matched: Matched,
    ) -> Result<Started, StartError> {
        if matched.minions.is_empty() {
            let ticket = Ticket {
                jid: None,
                minions: Vec::new(),
                away: Vec::new(),
                queued: Vec::new(),
                unknown: matched.unknown,
                not_accepted: matched.not_accepted,
            };
            return Ok(Started { ticket, feed: None });
        }
        let request = Box::new(request);
        self.ask(|answer| Command::Start { request, matched, answer }).await?
    }

    /// What becomes of a job that is not over.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn follow(&self, jid: JobId) -> Result<Option<Arc<Feed>>, HubError> {
        self.ask(|answer| Command::Follow { jid, answer }).await
    }

    /// Where a job that is not over stands, as far as it is not in the store.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn states(&self, jid: JobId) -> Result<Vec<(MinionId, JobState)>, HubError> {
        self.ask(|answer| Command::States { jid, answer }).await
    }

    /// Ends a job; returns the minions on which it was not over.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn kill(&self, jid: JobId) -> Result<Vec<MinionId>, HubError> {
        self.ask(|answer| Command::Kill { jid, answer }).await
    }

    /// Sends what is kept for these minions to those that are connected; returns the jobs that were sent.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn deliver(&self, minions: Vec<MinionId>) -> Result<Vec<JobId>, HubError> {
        self.ask(|answer| Command::Deliver { minions, answer }).await
    }

    /// Everything that is kept for minions that are away.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn pending(&self) -> Result<Vec<PendingEntry>, HubError> {
        self.ask(|answer| Command::Pending { answer }).await
    }

    /// Takes back what is kept.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn cancel_pending(&self, of: PendingOf) -> Result<Vec<(JobId, MinionId)>, HubError> {
        self.ask(|answer| Command::CancelPending { of, answer }).await
    }

    /// Tells a minion something, if it is connected.
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn notify(&self, minion: MinionId, notice: Notice) -> Result<(), HubError> {
        self.commands.send(Command::Notify { minion, notice }).await.map_err(|_| HubError)
    }

    /// Answers an [`Ask`].
    ///
    /// # Errors
    /// When the hub has ended.
    pub async fn reply(&self, connection: ConnectionId, reply: Reply) -> Result<(), HubError> {
        let command = Command::Reply { connection, reply: Box::new(reply) };
        self.commands.send(command).await.map_err(|_| HubError)
    }

    /// Hands every connected minion the root list that it is to follow, if it is behind. Those that come later are handed
    /// theirs as they come.
    pub async fn tell_roots(&self) {
        // A hub that has ended has nobody connected.
        let _ = self.commands.send(Command::TellRoots).await;
    }

    /// Has every connected minion renew its operational certificate, each at a random moment within this time; those that
    /// come later with a certificate of a former fleet CA as well.
    pub async fn tell_renew(&self, within: Duration) {
        let _ = self.commands.send(Command::TellRenew { within }).await;
    }

    /// Ends the hub once everything that it has is durable.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn stop(&self) -> Result<(), HubError> {
        self.commands.send(Command::Stop).await.map_err(|_| HubError)
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, HubError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| HubError)?;
        answered.await.map_err(|_| HubError)
    }
}
