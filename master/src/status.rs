//! How the master is doing, in one value: for `drover status`, and for `/metrics`. What is wrong stands first.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use drover_pki::MasterName;
use drover_proto::tunnel::GatewayHandle;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::{
    bridge::{BridgeHandle, BridgeStatus},
    clock::Now,
    expiry::{self, Kind, Stage, Watched},
    master::Master,
    reactor::ReactorHandle,
    registry,
    store::{Lag, PresenceState, ReadError, StoreState, Usage, UsageError},
};

mod problems;
mod routes;

pub use problems::{Problem, Severity};
pub use routes::routes;

const DAY: i64 = 86_400;

/// How the master is doing.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub name: MasterName,
    /// Its version.
    pub version: &'static str,
    /// Since when it runs.
    pub started: Timestamp,
    /// For so many seconds.
    pub uptime: i64,
    /// Where minions connect.
    pub listen: SocketAddr,
    /// Where this is asked.
    pub api: PathBuf,
    /// Whether nothing is down.
    pub healthy: bool,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
    /// Who is there.
    pub minions: Minions,
    /// What it remembers.
    pub store: StoreStatus,
    /// What is under way.
    pub jobs: Jobs,
    /// What reacts to events; none where there are no rules.
    pub reactor: Option<Reactor>,
    /// Where events go.
    pub bridges: BTreeMap<String, BridgeStatus>,
    /// What has an end, and what has none.
    pub certificates: Vec<CertificateStatus>,
}

/// Who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Minions {
    /// Sessions that are open.
    pub connected: usize,
    /// Accepted ones that are stale.
    pub stale: usize,
    /// Accepted ones that are lost.
    pub lost: usize,
    /// Known ids, by what the registry says of them.
    pub accepted: usize,
    /// Those that wait to be accepted.
    pub pending: usize,
    /// Rejected ones.
    pub rejected: usize,
    /// Revoked ones.
    pub revoked: usize,
}

/// What the master remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// `ok`, `full` or `failed`.
    pub state: &'static str,
    /// Since when it is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What it takes.
    #[serde(flatten)]
    pub usage: Usage,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// Jobs that are not over on every minion.
    pub active: usize,
    /// Jobs that are kept for minions that are away, each minion's counted.
    pub pending: usize,
}

/// What reacts to events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reactor {
    /// What it has not dealt with.
    pub lag: Behind,
}

/// How far a reader of the log is behind its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Behind {
    /// Events.
    pub events: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// How old the oldest of them is.
    pub seconds: f64,
}

impl Behind {
    /// As it is now.
    #[must_use]
    pub fn of(lag: Lag, now: Timestamp) -> Self {
        let seconds = lag.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
        Self { events: lag.events, bytes: lag.bytes, seconds: seconds.max(0.0) }
    }
}

/// A certificate that the master or the fleet stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its end; none where it has none.
    pub not_after: Option<Timestamp>,
    /// Days until then.
    pub days: Option<i64>,
    /// How near it is, where it is near.
    pub stage: Option<Stage>,
}

/// Why it is not known how the master is doing.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nor what it takes.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// Nor what stations' manifests told.
    #[error(transparent)]
    Lists(#[from] crate::crl::RevokeError),
}

/// What status is asked of.
#[derive(Clone)]
pub struct StatusSource {
    /// The master.
    pub master: Master,
    /// Its gateway.
    pub gateway: GatewayHandle,
    /// Its reactor, where there are rules.
    pub reactor: Option<ReactorHandle>,
    /// Its bridges.
    pub bridges: Vec<BridgeHandle>,
}

impl StatusSource {
    /// Looks. Reads files and the store, so it blocks.
    ///
    /// # Errors
    /// See [`StatusError`].
    pub fn look(&self) -> Result<Status, StatusError> {
        let (master, now) = (&self.master, Now::read().wall);
        let tally = master.hub.tally();
        let mut status = Status {
            name: master.config.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: master.started.wall,
            uptime: now.duration_since(master.started.wall).as_secs(),
            listen: master.listen,
            api: master.config.api_socket(),
            healthy: true,
            problems: Vec::new(),
            minions: self.minions(),
            store: self.store()?,
            jobs: Jobs { active: tally.active(), pending: tally.pending() },
            reactor: self.reactor(now)?,
            bridges: self.bridges.iter().map(named).collect::<Result<_, _>>()?,
            certificates: self.certificates(now)?,
        };
        status.problems = problems::of(&status);
        status.healthy = !status.problems.iter().any(|problem| problem.severity == Severity::Down);
        Ok(status)
    }

    fn minions(&self) -> Minions {
        let master = &self.master;
        let mut minions = Minions { connected: master.hub.roster().len(), ..Minions::default() };
        let presence = master.presence.entries();
        master.registry.survey(|entry, _| {
            let count = match entry.status {
                registry::Status::Accepted => &mut minions.accepted,
                registry::Status::Pending => &mut minions.pending,
                registry::Status::Rejected => &mut minions.rejected,
                registry::Status::Revoked => &mut minions.revoked,
                // Nobody is known by it any more.
                registry::Status::Deleted => return,
            };
            *count += 1;
            if entry.status == registry::Status::Accepted {
                match presence.get(&entry.id).map(|entry| entry.presence) {
                    Some(PresenceState::Stale) => minions.stale += 1,
                    Some(PresenceState::Lost) => minions.lost += 1,
                    Some(PresenceState::Connected) | None => {}
                }
            }
        });
        minions
    }

    fn store(&self) -> Result<StoreStatus, UsageError> {
        let store = &self.master.store;
        let (state, since) = match *store.state().borrow() {
            StoreState::Open => ("ok", None),
            StoreState::Full { since } => ("full", Some(since)),
            StoreState::Failed => ("failed", None),
        };
        Ok(StoreStatus { state, since, usage: store.usage()? })
    }

    fn reactor(&self, now: Timestamp) -> Result<Option<Reactor>, ReadError> {
        let Some(reactor) = &self.reactor else { return Ok(None) };
        let lag = self.master.store.lag(reactor.read())?;
        Ok(Some(Reactor { lag: Behind::of(lag, now) }))
    }

    fn certificates(&self, now: Timestamp) -> Result<Vec<CertificateStatus>, StatusError> {
        let mut watched = expiry::in_directory(&self.master.config.pki_dir);
        watched.extend(self.master.crl.factory_lists(None)?.iter().map(Watched::factory));
        let status = |watched: Watched| CertificateStatus {
            stage: watched.due(None, now),
            days: watched.expires.map(|end| end.duration_since(now).as_secs().div_euclid(DAY)),
            name: watched.name,
            kind: watched.kind,
            not_after: watched.expires,
        };
        let mut certificates: Vec<_> = watched.into_iter().map(status).collect();
        // What has no end comes last.
        certificates.sort_by_key(|one| (one.not_after.is_none(), one.not_after, one.name.clone()));
        Ok(certificates)
    }
}

fn named(bridge: &BridgeHandle) -> Result<(String, BridgeStatus), ReadError> {
    Ok((bridge.name().to_owned(), bridge.status()?))
}
