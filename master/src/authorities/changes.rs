//! What an operator changes: a root list or a fleet CA that was brought, and what is dropped. Each change is decided on the
//! disk first, and then comes into force here and with the minions.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drover_pki::{
    Authority, KeyDigest,
    certificate::Certificate,
    pem_text::decode_certificates,
    root_list::SignedRootList,
    rotation,
    urn::DroverUrn,
    verify::{TrustAnchors, verify_fleet_authority},
};
use drover_proto::tunnel::CutReason;
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::{
    Authorities, AuthoritiesError, Need, RootSet,
    files::Dropped,
    fleet_ca_data, names,
    need::{self, WithoutRoot},
    unix, urn,
};
use crate::clock::Now;

/// Roots that a device may be behind: webpki takes no longer chains.
const LONGEST_WAY: usize = 5;

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
        let (mut stations, mut certified) = (BTreeSet::new(), BTreeSet::new());
        for der in list.list.cross.iter().filter(|der| remaining.has_issued(der)) {
            let certificate = Certificate::read(der)?;
            if let Some(DroverUrn::FactoryCa(station)) = urn(&certificate) {
                certified.insert(certificate.key);
                stations.insert(station);
            }
        }
        let mut need = Need::default();
        if let Some(parts) = self.0.parts.get() {
            // A station that was made again has an authority for the devices from before, too.
            for known in parts.crl.factory_lists(None)? {
                if !certified.contains(&known.issuer) {
                    stations.remove(&known.station);
                }
            }
            let has_way = self.is_left_by_a_way(list)?;
            let without = WithoutRoot { roots, has_way, stations };
            parts.registry.survey(|entry, sighting| without.add(entry, sighting, &mut need));
        }
        Ok(need)
    }

    /// Whether a device that trusts a root that this list leaves out, and no other, is led to one of the list's.
    fn is_left_by_a_way(&self, list: &SignedRootList) -> Result<bool, AuthoritiesError> {
        for root in self.state().anchors.certificates() {
            if !list.list.roots.contains(root) && !leads(root, list)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn need_of_fleet_ca(&self, key: &KeyDigest) -> Need {
        let now = Now::read().wall;
        let mut need = Need::default();
        if let Some(parts) = self.0.parts.get() {
            parts.registry.survey(|entry, _| need::without_fleet_ca(key, entry, now, &mut need));
        }
        need
    }
}

/// Whether the list's cross-certificates lead from a root to one of the list's own.
pub(super) fn leads(
    root: &CertificateDer<'static>,
    list: &SignedRootList,
) -> Result<bool, AuthoritiesError> {
    let key = |der: &CertificateDer<'_>| Certificate::read(der).map(|certificate| certificate.key);
    let goals = list.list.roots.iter().map(key).collect::<Result<BTreeSet<_>, _>>()?;
    let mut reached = vec![root.clone()];
    for _ in 0..LONGEST_WAY {
        let anchors = TrustAnchors::new(reached)?;
        let mut next = Vec::new();
        for der in list.list.cross.iter().filter(|der| anchors.has_issued(der)) {
            let certificate = Certificate::read(der)?;
            // Of those that they vouch for, roots alone are without a name.
            if certificate.uris.is_empty() {
                if goals.contains(&certificate.key) {
                    return Ok(true);
                }
                next.push(der.clone());
            }
        }
        if next.is_empty() {
            return Ok(false);
        }
        reached = next;
    }
    Ok(false)
}
