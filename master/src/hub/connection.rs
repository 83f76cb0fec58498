//! One connection: who it is of, and the phase that its session is in.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use drover_pki::verify::MinionCertificate;
use drover_proto::{
    id::BootId,
    session::master::{AwaitHello, Established},
    tunnel::ConnectionId,
};

use super::backlog::Backlog;
use crate::operational::Applicant;

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// What ROUTER knows it by.
    pub(super) identity: Bytes,
    pub(super) address: SocketAddr,
    pub(super) phase: Phase,
    /// What it was sent and has not taken.
    pub(super) backlog: Backlog,
    /// Whether the hub's timers have an entry of it.
    pub(super) has_timer: bool,
    /// Whether an outbox entry was refused: no later one is taken, for the acknowledgement of that would be of both.
    pub(super) is_refused: bool,
}

pub(super) enum Phase {
    /// Let through by the gateway; kept to be asked of the registry once more.
    Hello(AwaitHello, Box<MinionCertificate>),
    Established {
        session: Box<Established>,
        boot: BootId,
        applicant: Applicant,
    },
    /// Told to end; what still comes is not read.
    Closing,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        certificate: Box<MinionCertificate>,
        address: SocketAddr,
        backlog: Backlog,
        now: Instant,
    ) -> Self {
        let identity = Bytes::from(id.to_string());
        Self {
            id,
            identity,
            address,
            phase: Phase::Hello(AwaitHello::new(now), certificate),
            backlog,
            has_timer: false,
            is_refused: false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Hello(waiting, _) => waiting.poll_timeout(),
            Phase::Established { session, .. } => session.poll_timeout(),
            Phase::Closing => None,
        }
    }

    pub(super) fn session(&mut self) -> Option<&mut Established> {
        match &mut self.phase {
            Phase::Established { session, .. } => Some(session),
            Phase::Hello(..) | Phase::Closing => None,
        }
    }
}

/// How long a minion stays away that came while the master could not take it in.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// How long a machine stays away whose identity another one has.
pub(super) const RETRY_OF_CLONE: Duration = Duration::from_secs(60);
