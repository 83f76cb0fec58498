//! The authorities that this master stands on, and how they change while it runs: the roots by signed lists, the fleet CA
//! by a new key that the root certifies. What minions are shown and judged by changes at once, and each is told what it
//! has to follow.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use drover_pki::{
    Authority, KeyDigest,
    authority::AuthorityError,
    certificate::{Certificate, Unreadable},
    passphrase::PassphraseSource,
    pem_text::{PemError, decode_certificates},
    root_list::{RootListError, SignedRootList},
    rotation,
    urn::DroverUrn,
    verify::{AnchorError, CertificateError, TrustAnchors, verify_fleet_authority},
};
use drover_proto::{
    event::NewEvent,
    tunnel::{CutReason, GatewayHandle},
};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::{
    clock::Now,
    crl::CrlHandle,
    est::EstHandle,
    hub::HubHandle,
    identity::IdentityHandle,
    operational::Operational,
    registry::Registry,
    store::{Store, StoreError},
};

mod files;
mod lists;
mod need;
mod report;

pub use files::FilesError;
pub use lists::{RootLists, RootSet};
pub use need::Need;
pub use report::{AuthorityRow, Report};

use files::{Dropped, Files};
use need::WithoutRoot;

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

/// Why the authorities stay as they are.
#[derive(Debug, Error)]
pub enum AuthoritiesError {
    /// A file.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Neither a root list nor a certificate.
    #[error("the file is neither a root list nor a certificate")]
    Neither(#[source] PemError),
    /// A list that is not to be followed.
    #[error("the root list is refused")]
    List(#[from] RootListError),
    /// Its roots are none.
    #[error("the root list's roots cannot be used")]
    Anchors(#[from] AnchorError),
    /// What this master stands on does not lead to the list's roots.
    #[error("the fleet CA that issues here would not be trusted under root list {number}")]
    FleetCaLeftOut {
        /// The list's number.
        number: u64,
        /// Why not.
        source: CertificateError,
    },
    /// A certificate that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A certificate that is no fleet CA's of this fleet.
    #[error("the certificate is no fleet CA's that is trusted here")]
    NoFleetCa(#[source] CertificateError),
    /// Another fleet's.
    #[error("the certificate is that of the fleet `{0}`")]
    OtherFleet(String),
    /// Of a key that is not here.
    #[error("the certificate is of a key that is not here")]
    OtherKey,
    /// A key and its certificate do not fit.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Nothing of that name.
    #[error("there is no root and no former fleet CA `{name}` here; there is {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The one that issues, or the only root.
    #[error("`{0}` is in use")]
    InUse(String),
    /// No list without it was brought.
    #[error("no root list without `{0}` was imported")]
    NoList(String),
    /// Devices need it.
    #[error("`{name}` is needed: {}", need.told())]
    Needed {
        /// Its name.
        name: String,
        /// By whom.
        need: Box<Need>,
    },
    /// There is no fleet CA that could be replaced.
    #[error("this master has no fleet CA")]
    NoneHere,
    /// The store failed.
    #[error("store that the authorities changed")]
    Store(#[from] StoreError),
}

impl AuthoritiesError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::List(error) => error.hint().map(str::to_owned),
            Self::FleetCaLeftOut { .. } => Some(
                "import a fleet CA that the list's newest root certified first: `drover key authorities request`".into(),
            ),
            Self::OtherKey => Some(
                "certify the request that `drover key authorities request` gave on this master".into(),
            ),
            Self::Neither(_) => {
                Some("bring what `drover-enrol rotate-root` or `drover-enrol certify` wrote".into())
            }
            Self::Unknown { .. } => Some("`drover key authorities` shows what there is".into()),
            Self::InUse(name) if name.starts_with("root") => {
                Some("make another root first: `drover-enrol rotate-root`".into())
            }
            Self::InUse(_) => {
                Some("replace it first: `drover key authorities request`".into())
            }
            Self::NoList(name) => Some(format!(
                "make it where the root lies, and import it: `drover-enrol rotate-root --drop {name}`"
            )),
            Self::Needed { .. } => Some(
                "wait until `drover key authorities` shows that nobody needs it, or say --force".into(),
            ),
            Self::Files(FilesError::Token) => Some(
                "make the key and its request with the token's own tools, and put its URI into `fleet-ca.next.key`".into(),
            ),
            Self::NoneHere => Some("bring `fleet-ca.crt` and `fleet-ca.key` into pki_dir".into()),
            Self::Files(_)
            | Self::Anchors(_)
            | Self::Unreadable(_)
            | Self::NoFleetCa(_)
            | Self::OtherFleet(_)
            | Self::Authority(_)
            | Self::Store(_) => None,
        }
    }
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// A list that is in force.
    Followed {
        /// Its number.
        number: u64,
        /// The roots in it.
        roots: Vec<String>,
        /// Those that are new.
        added: Vec<String>,
    },
    /// A list that leaves roots out, and waits until they are dropped.
    Waiting {
        /// Its number.
        number: u64,
        /// What it leaves out.
        leaves_out: Vec<String>,
    },
    /// A fleet CA that issues from now on.
    FleetCa {
        /// Its name.
        name: String,
        /// Whether its key issued already.
        is_renewed: bool,
        /// In what time the minions renew.
        within: Duration,
    },
    /// What is in force already.
    Known {
        /// In words.
        what: String,
    },
}

impl Authorities {
    /// Reads what is in `pki_dir`, and makes good what a cut left half done.
    ///
    /// # Errors
    /// When there is no usable root. A fleet CA whose key cannot be used is left out, and said to be.
    pub fn open(pki_dir: &Path, passphrase: PassphraseSource) -> Result<Self, AuthoritiesError> {
        let files = Files::new(pki_dir);
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
        let key = fleet_ca.as_ref().map(|authority| authority.certificate().key);
        let previous = files.previous(key.as_ref(), &passphrase)?;
        let state = State {
            anchors,
            lists,
            waiting: files.waiting()?,
            fleet_ca: fleet_ca.map(Arc::new),
            previous: previous.into_iter().map(Arc::new).collect(),
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

    /// Makes a key for a new fleet CA, where none waits: gives its request, in PEM.
    ///
    /// # Errors
    /// When the key cannot be made or written.
    pub async fn request(&self) -> Result<String, AuthoritiesError> {
        let _changing = self.0.changing.lock().await;
        if self.fleet_ca().is_none() {
            return Err(AuthoritiesError::NoneHere);
        }
        Ok(self.blocking(|inner| inner.files.request(&inner.passphrase)).await?)
    }

    /// Takes a signed root list or the certificate of a fleet CA. Returns once it is in force here; the minions follow.
    ///
    /// # Errors
    /// When it is not to be trusted, or this master could not be trusted with it.
    pub async fn import(
        &self,
        file: &[u8],
        within: Duration,
    ) -> Result<Imported, AuthoritiesError> {
        let _changing = self.0.changing.lock().await;
        if file.trim_ascii_start().starts_with(b"{") {
            return self.import_list(file).await;
        }
        let chain = decode_certificates(file).map_err(AuthoritiesError::Neither)?;
        self.import_fleet_ca(chain.into_iter().next().expect("there is at least one"), within).await
    }

    async fn import_list(&self, text: &[u8]) -> Result<Imported, AuthoritiesError> {
        let signed = SignedRootList::read(text)?;
        let number = signed.list.number;
        let (leaves_out, added) = {
            let state = self.state();
            let newest = state.lists.last();
            if newest.is_some_and(|newest| newest.text == signed.text) {
                return Ok(Imported::Known { what: format!("root list {number}") });
            }
            signed.check_follows(&state.anchors, newest.map_or(0, |newest| newest.list.number))?;
            let present = state.anchors.certificates();
            (
                names(present.iter().filter(|root| !signed.list.roots.contains(root)))?,
                names(signed.list.roots.iter().filter(|root| !present.contains(root)))?,
            )
        };
        self.check_own(&signed)?;
        if leaves_out.is_empty() {
            let roots = names(signed.list.roots.iter())?;
            self.follow(signed).await?;
            return Ok(Imported::Followed { number, roots, added });
        }
        let kept = signed.clone();
        self.blocking(move |inner| inner.files.wait(&kept)).await?;
        self.state_mut().waiting = Some(signed);
        Ok(Imported::Waiting { number, leaves_out })
    }

    /// Devices that follow the list must be able to come back.
    fn check_own(&self, signed: &SignedRootList) -> Result<(), AuthoritiesError> {
        let Some(fleet_ca) = self.fleet_ca() else { return Ok(()) };
        let anchors = signed.list.anchors()?;
        let verified = verify_fleet_authority(&anchors, fleet_ca.der(), unix(Now::read().wall));
        let number = signed.list.number;
        verified.map(drop).map_err(|source| AuthoritiesError::FleetCaLeftOut { number, source })
    }

    async fn follow(&self, signed: SignedRootList) -> Result<(), AuthoritiesError> {
        let before = names(self.state().anchors.certificates().iter())?;
        let after = names(signed.list.roots.iter())?;
        let number = signed.list.number;
        let anchors = signed.list.anchors()?;
        let kept = signed.clone();
        // Decided on the disk; what is done in memory from here on would be done by a restart too.
        self.blocking(move |inner| inner.files.follow(&kept)).await?;
        {
            let mut state = self.state_mut();
            state.anchors = anchors;
            state.lists.push(signed);
            let is_over = |waiting: &SignedRootList| waiting.list.number <= number;
            if state.waiting.as_ref().is_some_and(is_over) {
                state.waiting = None;
            }
        }
        let inner = self.clone();
        let certified = tokio::task::spawn_blocking(move || inner.certify_again()).await;
        certified.expect("copying a certificate does not panic")?;
        self.refresh_lists()?;
        self.tell_parts().await;
        for name in after.iter().filter(|name| !before.contains(name)) {
            self.tell(name, "added", json!({ "kind": "root", "root_list": number })).await?;
        }
        for name in before.iter().filter(|name| !after.contains(name)) {
            self.tell(name, "dropped", json!({ "kind": "root", "root_list": number })).await?;
        }
        if let Some(parts) = self.0.parts.get() {
            parts.hub.tell_roots().await;
        }
        Ok(())
    }

    async fn import_fleet_ca(
        &self,
        der: CertificateDer<'static>,
        within: Duration,
    ) -> Result<Imported, AuthoritiesError> {
        let certificate = Certificate::read(&der)?;
        let present = self.fleet_ca();
        let fleet = verify_fleet_authority(&self.anchors(), &der, unix(Now::read().wall))
            .map_err(AuthoritiesError::NoFleetCa)?;
        let ours = present.as_ref().and_then(|present| present.certificate().organization.clone());
        if ours.is_some_and(|ours| ours != fleet.as_str()) {
            return Err(AuthoritiesError::OtherFleet(fleet.to_string()));
        }
        let name = rotation::name_of(&certificate);
        if let Some(present) = &present
            && present.certificate().key == certificate.key
        {
            if *present.der() == der {
                return Ok(Imported::Known { what: format!("the fleet CA `{name}`") });
            }
            let renewed = present.with_certificate(der.clone())?;
            self.blocking(move |inner| inner.files.replace_certificate(&der)).await?;
            self.state_mut().fleet_ca = Some(Arc::new(renewed));
            self.tell_parts().await;
            self.tell(&name, "renewed", fleet_ca_data(&certificate)).await?;
            return Ok(Imported::FleetCa { name, is_renewed: true, within: Duration::ZERO });
        }
        if !self.0.files.has_request() {
            return Err(AuthoritiesError::OtherKey);
        }
        let key = self.blocking(|inner| inner.files.staged(&inner.passphrase)).await?;
        if key.public().digest() != certificate.key {
            return Err(AuthoritiesError::OtherKey);
        }
        let authority = Authority::new(der.clone(), key)?;
        let replaced = present.clone();
        // Decided on the disk.
        self.blocking(move |inner| inner.files.change_fleet_ca(replaced.as_deref(), &der)).await?;
        {
            let mut state = self.state_mut();
            state.previous.splice(0..0, present);
            state.fleet_ca = Some(Arc::new(authority));
        }
        self.refresh_lists()?;
        self.tell_parts().await;
        self.tell(&name, "added", fleet_ca_data(&certificate)).await?;
        if let Some(parts) = self.0.parts.get() {
            parts.hub.tell_renew(within).await;
        }
        Ok(Imported::FleetCa { name, is_renewed: false, within })
    }

    /// Trusts a root, or accepts what a former fleet CA issued, no more. Without force only where nobody needs it.
    ///
    /// # Errors
    /// When it is needed, or is none that could be dropped.
    pub async fn drop_authority(
        &self,
        name: &str,
        is_forced: bool,
    ) -> Result<Need, AuthoritiesError> {
        let _changing = self.0.changing.lock().await;
        let (is_root, former, issuing) = {
            let state = self.state();
            let roots = names(state.anchors.certificates().iter())?;
            let named =
                |authority: &&Arc<Authority>| rotation::name_of(authority.certificate()) == name;
            let former = state.previous.iter().find(named).cloned();
            let issuing = state.fleet_ca.iter().find(named).is_some();
            (roots.iter().any(|root| root == name), former, issuing)
        };
        match former {
            Some(authority) => self.drop_fleet_ca(name, &authority, is_forced).await,
            None if is_root => self.drop_root(name, is_forced).await,
            None if issuing => Err(AuthoritiesError::InUse(name.to_owned())),
            None => {
                let known = self.droppable()?.join(", ");
                Err(AuthoritiesError::Unknown { name: name.to_owned(), known })
            }
        }
    }

    async fn drop_root(&self, name: &str, is_forced: bool) -> Result<Need, AuthoritiesError> {
        let (waiting, count) = {
            let state = self.state();
            (state.waiting.clone(), state.anchors.certificates().len())
        };
        let is_without = |waiting: &SignedRootList| {
            names(waiting.list.roots.iter())
                .is_ok_and(|roots| roots.iter().all(|root| root != name))
        };
        let Some(waiting) = waiting.filter(is_without) else {
            return Err(if count == 1 {
                AuthoritiesError::InUse(name.to_owned())
            } else {
                AuthoritiesError::NoList(name.to_owned())
            });
        };
        // The fleet CA may have changed since the list was brought.
        self.check_own(&waiting)?;
        let need = self.need_without_roots(&waiting)?;
        if !is_forced && !need.is_none() {
            return Err(AuthoritiesError::Needed { name: name.to_owned(), need: Box::new(need) });
        }
        self.follow(waiting).await?;
        Ok(need)
    }

    async fn drop_fleet_ca(
        &self,
        name: &str,
        authority: &Arc<Authority>,
        is_forced: bool,
    ) -> Result<Need, AuthoritiesError> {
        let key = authority.certificate().key;
        let need = self.need_of_fleet_ca(&key);
        if !is_forced && !need.is_none() {
            return Err(AuthoritiesError::Needed { name: name.to_owned(), need: Box::new(need) });
        }
        let mut dropped = self.state().dropped.clone();
        dropped.push(Dropped { name: name.to_owned(), key, at: Now::read().wall });
        let (kept, gone) = (dropped.clone(), authority.clone());
        self.blocking(move |inner| inner.files.drop_fleet_ca(&kept, &gone)).await?;
        {
            let mut state = self.state_mut();
            state.previous.retain(|previous| previous.certificate().key != key);
            state.dropped = dropped;
        }
        self.tell_parts().await;
        self.tell(name, "dropped", fleet_ca_data(authority.certificate())).await?;
        if let Some(parts) = self.0.parts.get() {
            for minion in &need.holders {
                parts.gateway.cut_minion(minion, CutReason::NotAccepted);
            }
        }
        Ok(need)
    }

    /// Which accepted devices need the roots that a list leaves out.
    fn need_without_roots(&self, list: &SignedRootList) -> Result<Need, AuthoritiesError> {
        let remaining = TrustAnchors::new(list.list.roots.clone())?;
        let mut roots = RootSet::default();
        for root in &list.list.roots {
            roots = roots.with(RootSet::of(rotation::generation(&Certificate::read(root)?)));
        }
        let mut stations = BTreeSet::new();
        for der in list.list.cross.iter().filter(|der| remaining.has_issued(der)) {
            if let Some(DroverUrn::FactoryCa(station)) = urn(&Certificate::read(der)?) {
                stations.insert(station);
            }
        }
        // A station that was made under a root that remains is in no list.
        let without = WithoutRoot { roots, stations };
        let mut need = Need::default();
        if let Some(parts) = self.0.parts.get() {
            parts.registry.survey(|entry, sighting| without.add(entry, sighting, &mut need));
        }
        Ok(need)
    }

    fn need_of_fleet_ca(&self, key: &KeyDigest) -> Need {
        let now = Now::read().wall;
        let mut need = Need::default();
        if let Some(parts) = self.0.parts.get() {
            parts.registry.survey(|entry, _| need::without_fleet_ca(key, entry, now, &mut need));
        }
        need
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
