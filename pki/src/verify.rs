//! Whether a certificate chain is one of this fleet's, and whom it speaks for. The gateway, the
//! tunnel and the CLI ask here; whether that one is *accepted* is the registry's to say.
//!
//! Path, signatures and times are webpki's. Added here is what X.509 cannot say: what an authority
//! may issue is bound to its own URI and its purposes.

use std::cell::RefCell;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::certificate::{Certificate, Purposes, SerialNumber};
use crate::fingerprint::{Fingerprint, KeyDigest};
use crate::name::{FleetName, HardwareSerial, MasterName, MinionId, OperatorName, StationName};
use crate::profile::BACKDATE;
use crate::urn::DroverUrn;

mod anchors;
mod error;

pub use anchors::{AnchorError, TrustAnchors};
pub use error::{CertificateError, Fault};

/// The one signature that the fleet's authorities make: ECDSA on P-256 with SHA-256.
const SIGNATURES: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] =
    &[webpki::aws_lc_rs::ECDSA_P256_SHA256];

/// Where a minion's certificate comes from (IEEE 802.1AR).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MinionCertificateKind {
    /// The birth certificate, from a factory's station.
    IDevId {
        /// The station whose authority issued it.
        station: StationName,
        /// That authority.
        issuer: Issuer,
    },
    /// The operational certificate, from the master's fleet CA.
    LDevId {
        /// The fleet whose authority issued it.
        fleet: FleetName,
        /// That authority.
        issuer: Issuer,
    },
}

/// The authority next to a leaf in the path that verified. Authorities of one name, as an old fleet
/// CA and its successor, are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issuer {
    /// SHA-256 of its public key.
    pub key: KeyDigest,
    /// When its own certificate was issued.
    pub issued: UnixTime,
}

/// A minion's certificate whose chain verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinionCertificate {
    /// The minion that it speaks for.
    pub id: MinionId,
    /// Birth or operational, and from whom.
    pub kind: MinionCertificateKind,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key: what a manifest registers.
    pub key: KeyDigest,
    /// The certificate's serial number.
    pub serial: SerialNumber,
    /// The device's hardware serial number, where the subject has one.
    pub hardware_serial: Option<HardwareSerial>,
    /// The start of its validity.
    pub not_before: UnixTime,
    /// The end of its validity.
    pub not_after: UnixTime,
}

impl MinionCertificate {
    /// When it was issued, which its validity begins [`BACKDATE`] before.
    pub fn issued(&self) -> UnixTime {
        issued(self.not_before)
    }

    /// The authority that issued it.
    pub fn issuer(&self) -> Issuer {
        match self.kind {
            MinionCertificateKind::IDevId { issuer, .. }
            | MinionCertificateKind::LDevId { issuer, .. } => issuer,
        }
    }
}

/// A master's certificate whose chain verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterCertificate {
    /// The master's name: a label.
    pub name: MasterName,
    /// The fleet whose authority issued it.
    pub fleet: FleetName,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key.
    pub key: KeyDigest,
    /// The certificate's serial number.
    pub serial: SerialNumber,
    /// The start of its validity.
    pub not_before: UnixTime,
    /// The end of its validity.
    pub not_after: UnixTime,
    /// When the authority that issued it was issued itself.
    pub authority: UnixTime,
    /// The latest notBefore of the path that verified: what a device's clock floor rises to.
    pub latest_not_before: UnixTime,
}

/// An operator's certificate whose chain verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorCertificate {
    /// Who the operator is.
    pub name: OperatorName,
    /// The fleet whose authority issued it.
    pub fleet: FleetName,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// The start of its validity.
    pub not_before: UnixTime,
    /// The end of its validity.
    pub not_after: UnixTime,
}

/// A station's own authority, verified against the fleet's root: what signs manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryAuthority {
    /// The station.
    pub station: StationName,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key.
    pub key: KeyDigest,
    /// When its certificate was issued.
    pub issued: UnixTime,
    /// The end of its certificate's validity.
    pub not_after: UnixTime,
}

/// Verifies what a minion shows: `leaf`, and the other certificates it sent.
pub fn verify_minion(
    anchors: &TrustAnchors,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<MinionCertificate, CertificateError> {
    let verified = verify_leaf(anchors, leaf, intermediates, now, Purposes::CLIENT)?;
    let DroverUrn::Minion(id) = verified.speaks_for else {
        return Err(CertificateError::other_kind("a minion", &verified.speaks_for));
    };
    let issuer = verified.issuer.issuer;
    let kind = match verified.issuer.urn {
        DroverUrn::FactoryCa(station) => MinionCertificateKind::IDevId { station, issuer },
        DroverUrn::FleetCa(fleet) => MinionCertificateKind::LDevId { fleet, issuer },
        urn @ (DroverUrn::Minion(_) | DroverUrn::Master(_) | DroverUrn::Operator(_)) => {
            return Err(CertificateError::issued_beyond(&urn, &DroverUrn::Minion(id)));
        }
    };
    let leaf = verified.leaf;
    Ok(MinionCertificate {
        id,
        kind,
        fingerprint: leaf.fingerprint,
        key: leaf.key,
        serial: leaf.serial,
        hardware_serial: leaf.subject_serial.and_then(|serial| serial.parse().ok()),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    })
}

/// Verifies what a master shows. Host names and addresses are not looked at: any master under the
/// fleet's root is the minion's master.
pub fn verify_master(
    anchors: &TrustAnchors,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<MasterCertificate, CertificateError> {
    let verified = verify_leaf(anchors, leaf, intermediates, now, Purposes::SERVER)?;
    let DroverUrn::Master(name) = verified.speaks_for else {
        return Err(CertificateError::other_kind("a master", &verified.speaks_for));
    };
    let DroverUrn::FleetCa(fleet) = verified.issuer.urn else {
        return Err(CertificateError::issued_beyond(
            &verified.issuer.urn,
            &DroverUrn::Master(name),
        ));
    };
    let leaf = verified.leaf;
    Ok(MasterCertificate {
        name,
        fleet,
        fingerprint: leaf.fingerprint,
        key: leaf.key,
        serial: leaf.serial,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        authority: verified.issuer.issuer.issued,
        latest_not_before: verified.issuer.latest_not_before.max(leaf.not_before),
    })
}

/// Verifies what an operator shows.
pub fn verify_operator(
    anchors: &TrustAnchors,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<OperatorCertificate, CertificateError> {
    let verified = verify_leaf(anchors, leaf, intermediates, now, Purposes::CLIENT)?;
    let DroverUrn::Operator(name) = verified.speaks_for else {
        return Err(CertificateError::other_kind("an operator", &verified.speaks_for));
    };
    let DroverUrn::FleetCa(fleet) = verified.issuer.urn else {
        return Err(CertificateError::issued_beyond(
            &verified.issuer.urn,
            &DroverUrn::Operator(name),
        ));
    };
    let leaf = verified.leaf;
    Ok(OperatorCertificate {
        name,
        fleet,
        fingerprint: leaf.fingerprint,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    })
}

/// Verifies a station's own certificate: a factory CA as the profile has it, and nothing else.
pub fn verify_factory_authority(
    anchors: &TrustAnchors,
    authority: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<FactoryAuthority, CertificateError> {
    let (certificate, urn) = read_authority(anchors, authority, now)?;
    let DroverUrn::FactoryCa(station) = urn else {
        return Err(CertificateError::other_kind("a factory CA", &urn));
    };
    Ok(FactoryAuthority {
        station,
        fingerprint: certificate.fingerprint,
        key: certificate.key,
        issued: issued(certificate.not_before),
        not_after: certificate.not_after,
    })
}

/// Verifies the fleet CA's own certificate, and says whose it is.
pub fn verify_fleet_authority(
    anchors: &TrustAnchors,
    authority: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<FleetName, CertificateError> {
    match read_authority(anchors, authority, now)?.1 {
        DroverUrn::FleetCa(fleet) => Ok(fleet),
        other @ (DroverUrn::FactoryCa(_)
        | DroverUrn::Minion(_)
        | DroverUrn::Master(_)
        | DroverUrn::Operator(_)) => Err(CertificateError::other_kind("a fleet CA", &other)),
    }
}

/// webpki takes no authority for a leaf, so this one is checked here: issued by a root that is
/// trusted, valid now, and with the purposes that go with its name.
fn read_authority(
    anchors: &TrustAnchors,
    authority: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(Certificate, DroverUrn), CertificateError> {
    let certificate = Certificate::read(authority)?;
    if !certificate.is_ca || !certificate.may_certify {
        return Err(CertificateError::NoAuthority { subject: certificate.subject });
    }
    let certificate = match anchors.verify_issued(authority) {
        Ok(()) => certificate,
        // Under a root that is trusted no more; another may have certified the same authority.
        Err(error) => anchors.certified_again(&certificate).ok_or(error)?,
    };
    CertificateError::check_validity(&certificate, now)?;
    let urn = sole_urn(&certificate)?;
    let is_fleet = matches!(urn, DroverUrn::FleetCa(_));
    check_authority(&certificate, &urn, if is_fleet { Purposes::BOTH } else { Purposes::CLIENT })?;
    Ok((certificate, urn))
}

/// A leaf whose path verified, and what stands in it.
struct VerifiedLeaf {
    leaf: Certificate,
    speaks_for: DroverUrn,
    issuer: PathIssuer,
}

/// The authority that a verified path goes through.
struct PathIssuer {
    urn: DroverUrn,
    issuer: Issuer,
    /// Its own, and that of any authority above it.
    latest_not_before: UnixTime,
}

fn verify_leaf(
    anchors: &TrustAnchors,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    purpose: Purposes,
) -> Result<VerifiedLeaf, CertificateError> {
    let certificate = Certificate::read(leaf)?;
    if certificate.is_ca {
        return Err(CertificateError::AuthorityAsLeaf { subject: certificate.subject });
    }
    let end_entity = EndEntityCert::try_from(leaf).map_err(CertificateError::from_path)?;
    let usage = if purpose.server { KeyUsage::server_auth() } else { KeyUsage::client_auth() };

    let known = intermediates.iter().chain(anchors.authorities());
    let intermediates: Vec<_> = known.map(|der| CertificateDer::from(der.as_ref())).collect();

    // webpki goes on to other paths when one is refused, so the reason is kept beside it.
    let refused = RefCell::new(None);
    let check_path = |path: &VerifiedPath<'_>| match path_issuer(path, purpose) {
        Ok(_) => Ok(()),
        Err(error) => {
            refused.replace(Some(error));
            Err(webpki::Error::UnknownIssuer)
        }
    };
    let path = end_entity.verify_for_usage(
        SIGNATURES,
        anchors.as_slice(),
        &intermediates,
        now,
        usage,
        None,
        Some(&check_path),
    );
    let path = match path {
        Ok(path) => path,
        Err(error) => {
            if let Some(reason) = refused.into_inner() {
                return Err(reason);
            }
            if matches!(error, webpki::Error::RequiredEkuNotFoundContext(_)) {
                check_leaf(&certificate, purpose)?;
                check_shown_authority(&intermediates, purpose)?;
            }
            return Err(CertificateError::from_path(error));
        }
    };

    // invariant: `check_path` accepted this very path.
    let issuer = path_issuer(&path, purpose)?;
    check_leaf(&certificate, purpose)?;
    let speaks_for = sole_urn(&certificate)?;
    Ok(VerifiedLeaf { leaf: certificate, speaks_for, issuer })
}

/// Whether the first authority among what was shown is one that issues for this. For a path that did not verify.
fn check_shown_authority(
    shown: &[CertificateDer<'_>],
    purpose: Purposes,
) -> Result<(), CertificateError> {
    let mut shown = shown.iter().filter_map(|der| Certificate::read(der).ok());
    match shown.find(|certificate| certificate.is_ca) {
        Some(authority) => check_authority(&authority, &sole_urn(&authority)?, purpose),
        None => Ok(()),
    }
}

/// The authority next to the leaf in the path: the one whose signature counts, which need not be
/// the second certificate that was sent.
fn path_issuer(path: &VerifiedPath<'_>, purpose: Purposes) -> Result<PathIssuer, CertificateError> {
    let mut between = Vec::new();
    for certificate in path.intermediate_certificates() {
        between.push(Certificate::read(&certificate.der())?);
    }
    let Some(issuer) = between.first() else {
        return Err(CertificateError::IssuedByRoot);
    };
    if !issuer.may_certify {
        return Err(CertificateError::NoAuthority { subject: issuer.subject.clone() });
    }
    let urn = sole_urn(issuer)?;
    check_authority(issuer, &urn, purpose)?;
    for cross in &between[1..] {
        // A root has no purposes and no name, so that whoever has either is not taken for one.
        let is_named = cross.uris.iter().any(|uri| DroverUrn::claims(uri));
        if !cross.may_certify || is_named || cross.purposes.is_some() {
            return Err(CertificateError::NoCross { subject: cross.subject.clone() });
        }
    }
    let latest_not_before =
        between.iter().map(|c| c.not_before).fold(issuer.not_before, UnixTime::max);
    let issuer = Issuer { key: issuer.key, issued: issued(issuer.not_before) };
    Ok(PathIssuer { urn, issuer, latest_not_before })
}

/// The time of issue of what is valid from here on.
fn issued(not_before: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(not_before.as_secs()) + BACKDATE)
}

/// A factory CA has clientAuth and nothing else; a fleet CA what it issues for. Absent is refused.
fn check_authority(
    authority: &Certificate,
    urn: &DroverUrn,
    purpose: Purposes,
) -> Result<(), CertificateError> {
    let found = authority.purposes.unwrap_or_default();
    let fits = match urn {
        DroverUrn::FactoryCa(_) => found == Purposes::CLIENT && purpose == Purposes::CLIENT,
        DroverUrn::FleetCa(_) => {
            (found.client || !purpose.client) && (found.server || !purpose.server) && !found.other
        }
        DroverUrn::Minion(_) | DroverUrn::Master(_) | DroverUrn::Operator(_) => {
            return Err(CertificateError::other_kind("an authority", urn));
        }
    };
    if fits {
        Ok(())
    } else {
        Err(CertificateError::AuthorityPurpose { issuer: urn.to_string(), found, needed: purpose })
    }
}

fn check_leaf(leaf: &Certificate, purpose: Purposes) -> Result<(), CertificateError> {
    let found = leaf.purposes.unwrap_or_default();
    if found != purpose {
        return Err(CertificateError::Purpose { found, needed: purpose });
    }
    if !leaf.may_sign || !leaf.is_p256 {
        return Err(CertificateError::Key { subject: leaf.subject.clone() });
    }
    Ok(())
}

/// The one `urn:drover:` name: with two of them, nobody knows who is speaking.
fn sole_urn(certificate: &Certificate) -> Result<DroverUrn, CertificateError> {
    let mut ours = certificate.uris.iter().filter(|uri| DroverUrn::claims(uri));
    let Some(uri) = ours.next() else {
        return Err(CertificateError::NoName { subject: certificate.subject.clone() });
    };
    if ours.next().is_some() {
        return Err(CertificateError::SeveralNames { subject: certificate.subject.clone() });
    }
    uri.parse().map_err(CertificateError::Name)
}

#[cfg(test)]
mod tests;
