//! What an operator is shown of the authorities: each one, when it ends, and how many devices it carries.

use drover_pki::{
    Fingerprint, KeyDigest,
    certificate::{Certificate, NO_EXPIRY},
    rotation,
    urn::DroverUrn,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{Authorities, AuthoritiesError, RootSet, names, urn};
use crate::{
    clock::Now,
    registry::{Status, timestamp},
};

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The number of the root list that is in force; 0 where there was never one.
    pub root_list: u64,
    /// A list that waits for a root to be dropped.
    pub waiting: Option<Waiting>,
    /// Whether a new fleet CA's key waits for its certificate.
    pub requested: bool,
    /// Accepted devices.
    pub devices: usize,
    /// Those that have not said which roots they trust.
    pub unsaid: usize,
    /// Each authority.
    pub authorities: Vec<AuthorityRow>,
}

/// A list that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its number.
    pub number: u64,
    /// What it leaves out.
    pub leaves_out: Vec<String>,
}

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorityRow {
    /// By which it is dropped.
    pub name: String,
    /// `root`, `fleet_ca` or `factory_ca`.
    pub kind: &'static str,
    /// `trusted` or `dropping` for a root; `issuing`, `previous` or `unusable` for a fleet CA, the last where its key
    /// cannot be used; `certified` for a station's.
    pub state: &'static str,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its key.
    pub key: KeyDigest,
    /// When it ends; none where it does not.
    pub not_after: Option<Timestamp>,
    /// For a root: accepted devices that trust it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_by: Option<usize>,
    /// Accepted devices that need it: that trust no other root, or hold certificates from it.
    pub needed_by: usize,
}

impl Authorities {
    /// Counts who trusts and holds what.
    ///
    /// # Errors
    /// When a certificate that was good cannot be read.
    pub fn report(&self) -> Result<Report, AuthoritiesError> {
        let now = Now::read().wall;
        let state = self.state();
        let mut rows = Vec::new();
        let mut places = Vec::new();
        let leaves_out = match &state.waiting {
            Some(waiting) => {
                let present = state.anchors.certificates().iter();
                names(present.filter(|root| !waiting.list.roots.contains(root)))?
            }
            None => Vec::new(),
        };
        for root in state.anchors.certificates() {
            let certificate = Certificate::read(root)?;
            let row = row(&certificate, "root", "trusted");
            let is_leaving = leaves_out.contains(&row.name);
            places.push(RootSet::of(rotation::generation(&certificate)));
            rows.push(AuthorityRow {
                state: if is_leaving { "dropping" } else { "trusted" },
                trusted_by: Some(0),
                ..row
            });
        }
        let roots = rows.len();
        if let Some(authority) = &state.fleet_ca {
            rows.push(row(authority.certificate(), "fleet_ca", "issuing"));
        }
        for authority in &state.previous {
            rows.push(row(authority.certificate(), "fleet_ca", "previous"));
        }
        for certificate in &state.unusable {
            rows.push(row(certificate, "fleet_ca", "unusable"));
        }
        let fleet_cas = rows.len();
        let mut stations = Vec::new();
        for der in state.anchors.authorities() {
            let certificate = Certificate::read(der)?;
            let Some(DroverUrn::FactoryCa(station)) = urn(&certificate) else { continue };
            if !rows.iter().any(|row| row.key == certificate.key) {
                rows.push(row(&certificate, "factory_ca", "certified"));
                stations.push(station);
            }
        }
        let (mut devices, mut unsaid) = (0, 0);
        let parts = self.0.parts.get();
        let mut count = |entry: &crate::registry::Entry, sighting: &crate::registry::Sighting| {
            if entry.status != Status::Accepted {
                return;
            }
            devices += 1;
            unsaid += usize::from(sighting.roots.is_empty());
            for (at, place) in places.iter().enumerate() {
                let others = places.iter().enumerate().filter(|(other, _)| *other != at);
                let others = others.fold(RootSet::default(), |set, (_, place)| set.with(*place));
                let is_trusted = sighting.roots.meets(*place);
                if let Some(trusted_by) = &mut rows[at].trusted_by {
                    *trusted_by += usize::from(is_trusted);
                }
                rows[at].needed_by += usize::from(is_trusted && !sighting.roots.meets(others));
            }
            if let Some(operational) = &entry.operational {
                let current = operational.current();
                let issuers = rows[roots..fleet_cas].iter_mut();
                if current.expires > now
                    && let Some(issuer) =
                        issuers.into_iter().find(|issuer| issuer.key == current.issuer)
                {
                    issuer.needed_by += 1;
                }
            }
            if let Some(birth) = &entry.birth {
                let mut of = rows[fleet_cas..].iter_mut().zip(&stations);
                if let Some((row, _)) = of.find(|(_, station)| **station == birth.station) {
                    row.needed_by += 1;
                }
            }
        };
        if let Some(parts) = parts {
            parts.registry.survey(&mut count);
        }
        let waiting = state.waiting.as_ref();
        Ok(Report {
            root_list: state.lists.last().map_or(0, |newest| newest.list.number),
            waiting: waiting.map(|waiting| Waiting { number: waiting.list.number, leaves_out }),
            requested: self.0.files.has_request(),
            devices,
            unsaid,
            authorities: rows,
        })
    }
}

fn row(certificate: &Certificate, kind: &'static str, state: &'static str) -> AuthorityRow {
    AuthorityRow {
        name: rotation::name_of(certificate),
        kind,
        state,
        fingerprint: certificate.fingerprint,
        key: certificate.key,
        not_after: end(certificate),
        trusted_by: None,
        needed_by: 0,
    }
}

/// When it ends; none where it does not.
pub(super) fn end(certificate: &Certificate) -> Option<Timestamp> {
    (certificate.not_after.as_secs() < NO_EXPIRY).then(|| timestamp(certificate.not_after))
}
