//! What the API, the runners and the reactor hold of a running master: its parts, and the few things that need more than
//! one of them.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use drover_pki::{
    StationName,
    manifest::{Manifest, ManifestError},
};
use drover_proto::{
    MinionId,
    id::JobId,
    job::{JobRequest, TargetType},
    message,
    session::master::Notice,
    target::{Expression, TargetError},
};
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    authorities::Authorities,
    backup::Backups,
    clock::Now,
    config::Config,
    crl::{CrlHandle, RevokeError},
    est::EstHandle,
    hub::{HubHandle, PendingOf, StartError, Started},
    identity::IdentityHandle,
    manifests::Manifests,
    operational::Operational,
    pillar::Pillars,
    presence::PresenceHandle,
    reactor::{EffectError, Effects},
    registry::{
        self, ChangeError, Changed, Import, Matched, Only, Registry, Retirement, RevokedStation,
        Shown, Status, Verb,
    },
    retire::RetireHandle,
    store::Store,
};

/// A running master; clones share it.
#[derive(Clone)]
pub struct Master(Arc<Parts>);

/// Its parts.
pub struct Parts {
    /// What it was told.
    pub config: Config,
    /// Where minions connect.
    pub listen: SocketAddr,
    /// What this master stands on, and manifests lead to.
    pub authorities: Authorities,
    /// What it remembers.
    pub store: Store,
    /// Which minions there are.
    pub registry: Registry,
    /// What is revoked, for others to read.
    pub crl: CrlHandle,
    /// EST, where it is served.
    pub est: Option<EstHandle>,
    /// Issues devices' certificates.
    pub operational: Operational,
    /// Keeps the master's own certificate.
    pub identity: IdentityHandle,
    /// Sessions and jobs.
    pub hub: HubHandle,
    /// Looks after devices whose service ends.
    pub retirements: RetireHandle,
    /// Who is there.
    pub presence: PresenceHandle,
    /// Copies all of it into one file.
    pub backups: Backups,
    /// Pillar and previews.
    pub pillars: Pillars,
    /// When it began.
    pub started: Now,
}

/// Why a job was not started.
#[derive(Debug, Error)]
pub enum JobError {
    /// The target is wrong.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The job is, or the master stops.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// How a manifest is imported.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ImportOptions {
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// Also where lines were cut off the station's ledger.
    #[serde(default)]
    pub force: bool,
    /// These devices of it alone, where that was said: ids or globs on ids, separated by commas.
    #[serde(default)]
    pub only: Only,
}

/// Why a manifest was not imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It is not to be trusted.
    #[error("the manifest is refused")]
    Manifest(#[source] ManifestError),
    /// The registry refused it, or failed.
    #[error(transparent)]
    Registry(#[from] registry::ImportError),
    /// Its copy cannot be written.
    #[error("keep a copy of the manifest")]
    Keep(#[source] std::io::Error),
    /// Its revocation list cannot be kept.
    #[error("keep the station's revocation list")]
    RevocationList(#[from] RevokeError),
}

impl std::ops::Deref for Master {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Master {
    /// A master of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The accepted minions that a target means.
    ///
    /// # Errors
    /// When the expression is wrong.
    pub async fn resolve(&self, tgt: &str, kind: TargetType) -> Result<Matched, TargetError> {
        let expression = self.pillars.expression(tgt, kind)?;
        Ok(self
            .with_pillar(expression, |master, expression| {
                master
                    .registry
                    .matching(expression, &|shown| master.pillars.render(shown, "base").ok())
            })
            .await)
    }

    /// What the registry shows of the minions that a target means, or of all.
    ///
    /// # Errors
    /// When the expression is wrong.
    pub async fn shown(
        &self,
        tgt: Option<&str>,
        kind: TargetType,
    ) -> Result<Vec<Shown>, TargetError> {
        let Some(tgt) = tgt else { return Ok(self.registry.shown(None, &|_| None)) };
        let expression = self.pillars.expression(tgt, kind)?;
        Ok(self
            .with_pillar(expression, |master, expression| {
                let pillar = |shown: &Shown| master.pillars.render(shown, "base").ok();
                master.registry.shown(Some(expression), &pillar)
            })
            .await)
    }

    /// Starts a job on the minions that its target means.
    ///
    /// # Errors
    /// See [`JobError`].
    pub async fn start_job(&self, request: JobRequest) -> Result<Started, JobError> {
        let matched = self.resolve(&request.tgt, request.tgt_type).await?;
        Ok(self.hub.start(request, matched).await?)
    }

    /// Registers the devices of a station's manifest, or tells what would come of it.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(&self, text: &[u8], how: ImportOptions) -> Result<Import, ImportError> {
        let now = Now::read().wall;
        let since = std::time::Duration::try_from(now.as_duration()).unwrap_or_default();
        let anchors = self.authorities.anchors();
        let verified = Manifest::verify(text, &anchors, UnixTime::since_unix_epoch(since))
            .map_err(ImportError::Manifest)?;
        // It is kept before anything comes of it, and not if nothing would.
        let preview = self.registry.preview_import(&verified, &how.only, how.force, now).await?;
        if how.dry_run || how.only.has_missed(&preview) {
            return Ok(preview);
        }
        let (station, number) = (&verified.manifest.station, verified.manifest.number);
        self.manifests().keep(station, number, text).map_err(ImportError::Keep)?;
        let import = self.registry.import(&verified, &how.only, how.force, now).await?;
        // The list names what was revoked of the other devices too.
        if how.only.is_all() {
            self.crl.keep(&verified.authority, &verified.crl).await?;
        }
        Ok(import)
    }

    /// The manifests that were imported.
    #[must_use]
    pub fn manifests(&self) -> Manifests {
        Manifests::new(&self.config.data_dir)
    }

    /// Refuses what a station signs from now on.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn revoke_station(
        &self,
        station: &StationName,
        devices: bool,
        reason: Option<&str>,
    ) -> Result<RevokedStation, ChangeError> {
        self.registry.revoke_station(station, devices, reason, Now::read().wall).await
    }

    /// Does to keys what an operator wants, and tells what became of each.
    pub async fn change_keys(
        &self,
        ids: &[MinionId],
        verb: Verb,
        reason: Option<&str>,
    ) -> Vec<(MinionId, Result<Changed, ChangeError>)> {
        let changes = self.registry.change(ids, verb, reason, Now::read().wall).await;
        let mut gone = HashSet::new();
        for changed in changes.iter().filter_map(|(_, changed)| changed.as_ref().ok()) {
            match changed.entry.status {
                Status::Deleted => {
                    self.presence.deleted(&changed.entry.id);
                    gone.insert(changed.entry.id.clone());
                }
                Status::Revoked => drop(gone.insert(changed.entry.id.clone())),
                Status::Accepted | Status::Pending | Status::Rejected => {}
            }
        }
        if !gone.is_empty() {
            // What waited for them is not for another device that gets the id. Where the hub has ended, so does the master.
            let _ = self.hub.cancel_pending(PendingOf::Minions(gone)).await;
        }
        self.retirements.look();
        changes
    }

    /// Orders the end of devices, or takes it back; those that are connected are told.
    pub async fn retire(
        &self,
        ids: &[MinionId],
        retirement: Option<&Retirement>,
    ) -> Vec<(MinionId, Result<Changed, ChangeError>)> {
        let changes = self.registry.retire(ids, retirement, Now::read().wall).await;
        let notice = message::Retirement { at: retirement.map(|retirement| retirement.at) };
        for (id, _) in changes.iter().filter(|(_, changed)| changed.is_ok()) {
            // One that is away is told in its welcome; where the hub has ended, so does the master.
            let _ = self.hub.notify(id.clone(), Notice::Retirement(notice)).await;
        }
        self.retirements.look();
        changes
    }

    /// Pillar is rendered where a thread may block; everything else is quick.
    async fn with_pillar<T: Send + 'static>(
        &self,
        expression: Expression,
        find: impl FnOnce(&Self, &Expression) -> T + Send + 'static,
    ) -> T {
        if expression.needs_pillar() {
            let master = self.clone();
            let found = tokio::task::spawn_blocking(move || find(&master, &expression)).await;
            found.expect("matching does not panic")
        } else {
            find(self, &expression)
        }
    }
}

impl Effects for Master {
    async fn start_job(&self, request: JobRequest) -> Result<JobId, EffectError> {
        let started =
            Self::start_job(self, request).await.map_err(|error| EffectError(error.to_string()))?;
        started.ticket.jid.ok_or_else(|| EffectError("no minion matched the target".to_owned()))
    }

    async fn deliver_pending(
        &self,
        tgt: String,
        tgt_type: TargetType,
    ) -> Result<usize, EffectError> {
        let matched =
            self.resolve(&tgt, tgt_type).await.map_err(|error| EffectError(error.to_string()))?;
        let sent = self.hub.deliver(matched.minions).await;
        sent.map(|sent| sent.len()).map_err(|error| EffectError(error.to_string()))
    }
}
