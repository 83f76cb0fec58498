//! The authorities that this master stands on, and how they change while it runs: the roots by signed lists, the fleet CA
//! by a new key that the root certifies. What minions are shown and judged by changes at once, and each is told what it
//! has to follow.

use std::{
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use drover_pki::{
    Authority, KeyDigest, certificate::Certificate, passphrase::PassphraseSource,
    root_list::SignedRootList, rotation, urn::DroverUrn, verify::TrustAnchors,
};
use drover_proto::{event::NewEvent, tunnel::GatewayHandle};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    crl::CrlHandle, est::EstHandle, hub::HubHandle, identity::IdentityHandle,
    operational::Operational, registry::Registry, store::Store,
};

mod changes;
mod error;
mod files;
mod lists;
mod need;
mod report;

pub use changes::Imported;
pub use error::AuthoritiesError;
pub use files::FilesError;
pub use lists::{RootLists, RootSet};
pub use need::Need;
pub use report::{AuthorityRow, Report};

use files::{Dropped, Files};

/// In what time the minions renew when another fleet CA issues, unless it is said otherwise.
pub const RENEW_WITHIN: Duration = Duration::from_secs(3_600);

/// What the master knows of its authorities; clones share it.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    files: Files,
    passphrase: PassphraseSource,
    state: RwLock<State>,
    lists: RootLists,
    /// Held while something changes, so that the files and the memory agree.
    changing: Mutex<()>,
    parts: OnceLock<AuthorityParts>,
}

/// What is in force.
struct State {
    anchors: TrustAnchors,
    /// The lists that were followed, oldest first.
    lists: Vec<SignedRootList>,
    /// A list that leaves a root out, until that is dropped.
    waiting: Option<SignedRootList>,
    fleet_ca: Option<Arc<Authority>>,
    previous: Vec<Arc<Authority>>,
    /// Fleet CAs whose keys cannot be used, though devices may hold their certificates.
    unusable: Vec<Certificate>,
    dropped: Vec<Dropped>,
}

/// The parts of the master that have to know at once.
pub struct AuthorityParts {
    /// Judges minions' certificates.
    pub gateway: GatewayHandle,
    /// Issues.
    pub operational: Operational,
    /// Signs revocation lists.
    pub crl: CrlHandle,
    /// Shows the master's own certificate.
    pub identity: IdentityHandle,
    /// Speaks to standard clients, where it is on.
    pub est: Option<EstHandle>,
    /// Knows who needs what.
    pub registry: Registry,
    /// Tells the minions.
    pub hub: HubHandle,
    /// Remembers that it happened.
    pub store: Store,
}

impl Authorities {
    /// Reads what is in `pki_dir`, and makes good what a cut left half done.
    ///
    /// # Errors
    /// When there is no usable root. A fleet CA whose key cannot be used is left out, and said to be.
    pub fn open(pki_dir: &Path, passphrase: PassphraseSource) -> Result<Self, AuthoritiesError> {
        let files = Files::new(pki_dir);
        for (path, mode) in files.exposed_keys() {
            let path = path.display();
            tracing::warn!("others may read `{path}` (mode {mode:04o}): `chmod 600 {path}`");
        }
        let lists = files.lists().or_else(|error| {
            // `root.crt` says the same, but for what a device needs that slept.
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the root list cannot be read, `root.crt` counts");
            Ok::<_, AuthoritiesError>(Vec::new())
        })?;
        let anchors = match lists.last() {
            Some(newest) => {
                if let Err(error) = files.finish_following(newest) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "`root.crt` is not what the root list says");
                }
                newest.list.anchors()?
            }
            None => files.roots()?,
        };
        let fleet_ca = match files.fleet_ca(&passphrase) {
            Ok(Some(authority)) => Some(authority),
            Ok(None) => {
                tracing::info!(
                    "no `fleet-ca.key`: this master signs no certificates and no revocation list"
                );
                None
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the fleet CA's key cannot be used: nothing is signed");
                None
            }
        };
        let mut unusable = Vec::new();
        if fleet_ca.is_none() {
            unusable.extend(files.fleet_ca_certificate());
        }
        let key = fleet_ca.as_ref().map(|authority| authority.certificate().key);
        let (previous, without_key) = files.previous(key.as_ref(), &passphrase)?;
        unusable.extend(without_key);
        let state = State {
            anchors,
            lists,
            waiting: files.waiting()?,
            fleet_ca: fleet_ca.map(Arc::new),
            previous: previous.into_iter().map(Arc::new).collect(),
            unusable,
            dropped: files.dropped()?,
        };
        let authorities = Self(Arc::new(Inner {
            files,
            passphrase,
            state: RwLock::new(state),
            lists: RootLists::default(),
            changing: Mutex::new(()),
            parts: OnceLock::new(),
        }));
        authorities.certify_again()?;
        authorities.refresh_lists()?;
        Ok(authorities)
    }

    /// Whom to tell of changes from now on.
    pub fn set_parts(&self, parts: AuthorityParts) {
        parts.registry.set_dropped_issuers(self.dropped_issuers());
        if let Some(est) = &parts.est {
            est.set_trust(self.anchors(), self.shown_also());
        }
        // One set for each master; a second one would be a bug that changes nothing here.
        let _ = self.0.parts.set(parts);
    }

    /// The roots that count, with the authorities that they vouch for.
    #[must_use]
    pub fn anchors(&self) -> TrustAnchors {
        self.state().anchors.clone()
    }

    /// The fleet CA that issues.
    #[must_use]
    pub fn fleet_ca(&self) -> Option<Arc<Authority>> {
        self.state().fleet_ca.clone()
    }

    /// The fleet CAs that sign revocation lists: first the one that issues.
    #[must_use]
    pub fn issuers(&self) -> Vec<Arc<Authority>> {
        let state = self.state();
        state.fleet_ca.iter().chain(&state.previous).cloned().collect()
    }

    /// What a device needs to find the way from the master's certificate to a root that it trusts: roots that vouch for
    /// their successors, and fleet CAs under each root.
    #[must_use]
    pub fn shown_also(&self) -> Vec<CertificateDer<'static>> {
        let state = self.state();
        let authorities = state.anchors.authorities().iter();
        authorities.filter(|der| !is_factory(der)).cloned().collect()
    }

    /// What the hub asks of each device that comes.
    #[must_use]
    pub fn lists(&self) -> &RootLists {
        &self.0.lists
    }

    /// Puts the certificate that the newest root gave the fleet CA in the place of the one under an older root.
    fn certify_again(&self) -> Result<(), AuthoritiesError> {
        let (present, again) = {
            let state = self.state();
            let Some(present) = state.fleet_ca.clone() else { return Ok(()) };
            let Some(newest) = state.lists.last() else { return Ok(()) };
            let Some(root) = newest.list.roots.last() else { return Ok(()) };
            let root = TrustAnchors::new(vec![root.clone()])?;
            if root.has_issued(present.der()) {
                return Ok(());
            }
            let mut authorities = newest.list.cross.iter();
            let again = authorities.find(|der| {
                let key = Certificate::read(der).map(|certificate| certificate.key);
                key.is_ok_and(|key| key == present.certificate().key) && root.has_issued(der)
            });
            let Some(again) = again.cloned() else { return Ok(()) };
            (present, again)
        };
        let authority = present.with_certificate(again.clone())?;
        self.0.files.replace_certificate(&again)?;
        self.state_mut().fleet_ca = Some(Arc::new(authority));
        Ok(())
    }

    fn refresh_lists(&self) -> Result<(), AuthoritiesError> {
        let state = self.state();
        let mut others = Vec::new();
        for root in state.anchors.certificates() {
            others.push(Certificate::read(root)?);
        }
        self.0.lists.replace(&state.lists, &others);
        let key = state.fleet_ca.as_ref().map(|authority| authority.certificate().key);
        self.0.lists.set_issuer(key);
        Ok(())
    }

    /// Everything that is in force, to every part that acts by it.
    async fn tell_parts(&self) {
        let Some(parts) = self.0.parts.get() else { return };
        parts.gateway.set_anchors(self.anchors());
        parts.operational.set_authority(self.fleet_ca());
        parts.registry.set_dropped_issuers(self.dropped_issuers());
        if let Some(est) = &parts.est {
            est.set_trust(self.anchors(), self.shown_also());
        }
        parts.identity.show_also(self.shown_also(), self.anchors()).await;
        parts.identity.look().await;
        parts.crl.set_issuers(self.issuers()).await;
    }

    async fn tell(
        &self,
        name: &str,
        what: &str,
        mut data: serde_json::Value,
    ) -> Result<(), AuthoritiesError> {
        tracing::info!(authority = name, "{what}");
        data["name"] = name.into();
        let Some(parts) = self.0.parts.get() else { return Ok(()) };
        match format!("drover/authority/{name}/{what}").parse() {
            Ok(tag) => drop(parts.store.append(NewEvent::new(tag, None, data)).await?),
            Err(error) => tracing::warn!(%error, "an event's tag cannot be"),
        }
        Ok(())
    }

    fn dropped_issuers(&self) -> Arc<[KeyDigest]> {
        self.state().dropped.iter().map(|dropped| dropped.key).collect()
    }

    fn droppable(&self) -> Result<Vec<String>, AuthoritiesError> {
        let state = self.state();
        let mut known = names(state.anchors.certificates().iter())?;
        known.extend(
            state.previous.iter().map(|previous| rotation::name_of(previous.certificate())),
        );
        Ok(known)
    }

    /// What reads and writes files, or waits for a token, where a thread may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.expect("changing files does not panic")
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fleet_ca_data(certificate: &Certificate) -> serde_json::Value {
    json!({
        "kind": "fleet_ca",
        "fingerprint": certificate.fingerprint.with_colons(),
        "not_after": report::end(certificate),
    })
}

fn names<'a>(
    roots: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> Result<Vec<String>, AuthoritiesError> {
    roots.map(|root| Ok(rotation::name_of(&Certificate::read(root)?))).collect()
}

fn urn(certificate: &Certificate) -> Option<DroverUrn> {
    certificate.uris.first().and_then(|uri| uri.parse().ok())
}

fn is_factory(der: &CertificateDer<'_>) -> bool {
    let urn = Certificate::read(der).ok().and_then(|certificate| urn(&certificate));
    matches!(urn, Some(DroverUrn::FactoryCa(_)))
}

fn unix(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::try_from(now.as_duration()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
