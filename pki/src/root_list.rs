//! The roots that a fleet trusts, as a numbered list signed by roots: how a device that trusts the old root comes to
//! trust the new one, and later to trust the old one no more. Its form is described in `docs/rotation.md`.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::certificate::{Certificate, Unreadable};
use crate::dsse::{self, EnvelopeError};
use crate::fingerprint::{Fingerprint, KeyDigest};
use crate::key::KeyError;
use crate::name::FleetName;
use crate::pem_text::{PemError, decode_certificates, encode_certificates};
use crate::urn::DroverUrn;
use crate::verify::{AnchorError, TrustAnchors};

/// What is signed is a list of roots, and no signature of it counts for anything else.
const PAYLOAD_TYPE: &str = "application/vnd.drover.root-list+json";
/// The payload's format. A newer one is refused.
const FORMAT: u32 = 1;
/// The longest list that is read: it has to fit into one message.
pub const LARGEST: usize = 512 << 10;
/// While one root replaces another there are two; more only if nobody ever drops one.
const MOST_ROOTS: usize = 8;
/// Roots that vouch for one another, and each station's authority under each root.
const MOST_CROSS: usize = 1024;

/// A fleet's roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootList {
    format: u32,
    /// The fleet.
    pub fleet: FleetName,
    /// Its place in the series, from 1. Nobody goes back to a lower one.
    pub number: u64,
    /// When it was made, by the safe's clock.
    pub created: Timestamp,
    /// The roots to trust, and no others.
    #[serde(with = "certificates")]
    pub roots: Vec<CertificateDer<'static>>,
    /// What leads to them: each root's successor certified by it, and the authorities that they certified again.
    #[serde(with = "certificates")]
    pub cross: Vec<CertificateDer<'static>>,
}

/// A list whose signatures are by the roots that they name. Whether one of those is trusted is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRootList {
    /// What it says.
    pub list: RootList,
    /// The roots that signed it.
    pub signers: Vec<Signer>,
    /// The signed text.
    pub text: Vec<u8>,
}

/// A root that signed a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// SHA-256 of its certificate.
    pub certificate: Fingerprint,
    /// SHA-256 of its key.
    pub key: KeyDigest,
}

/// Why a list of roots was refused.
#[derive(Debug, thiserror::Error)]
pub enum RootListError {
    /// Longer than any list is.
    #[error("the root list has {0} bytes, more than {LARGEST}")]
    TooLong(usize),
    /// Not the envelope.
    #[error("the file is not a root list")]
    Envelope(#[source] EnvelopeError),
    /// Not what is in it.
    #[error("the root list cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// Written by a newer Drover.
    #[error("the root list has format {found}, newer than {FORMAT}, the latest known here")]
    Format {
        /// The format that it states.
        found: u32,
    },
    /// A signature is not by the certificate beside it.
    #[error(
        "a signature of the root list is not by the root that it names: it was changed or forged"
    )]
    Forged,
    /// None of its own roots signed it.
    #[error("none of the roots in the list signed it")]
    Unsigned,
    /// None of the roots that are trusted signed it.
    #[error("no root that is trusted here signed the root list")]
    Untrusted,
    /// It would lead back.
    #[error("the root list has number {number}, and number {known} is followed already")]
    Older {
        /// Its number.
        number: u64,
        /// The number that counts.
        known: u64,
    },
    /// Another fleet's.
    #[error("the root list is of the fleet `{found}`, not of `{expected}`")]
    OtherFleet {
        /// The fleet that it names.
        found: String,
        /// The fleet of the roots that are trusted.
        expected: String,
    },
    /// It has no number, no root, or too much.
    #[error("the root list {0}")]
    Form(&'static str),
    /// What stands among the roots is none.
    #[error("`{subject}` stands in the root list and is no root of the fleet")]
    NoRoot {
        /// The certificate's subject.
        subject: String,
    },
    /// What stands among the others is no authority.
    #[error("`{subject}` stands in the root list and is no authority")]
    NoAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// A certificate in it cannot be read.
    #[error("the root list holds a certificate that cannot be read")]
    Certificate(#[from] Unreadable),
    /// Its roots cannot be trusted.
    #[error("the root list's roots cannot be used")]
    Anchors(#[from] AnchorError),
    /// Signing failed.
    #[error("the root list could not be signed")]
    Sign(#[source] KeyError),
}

impl RootListError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Forged => Some("bring the file again from the safe; do not use this one"),
            Self::Untrusted | Self::OtherFleet { .. } => {
                Some("lists are followed one after the other: bring the ones before it too")
            }
            Self::Older { .. } => Some("nothing is to be done if that one is the newest"),
            Self::Format { .. } => Some("bring this program up to date"),
            Self::Envelope(_) => Some("it is made by `drover-enrol rotate-root`"),
            Self::TooLong(_)
            | Self::Unreadable(_)
            | Self::Unsigned
            | Self::Form(_)
            | Self::NoRoot { .. }
            | Self::NoAuthority { .. }
            | Self::Certificate(_)
            | Self::Anchors(_)
            | Self::Sign(_) => None,
        }
    }
}

impl RootList {
    /// A list to be signed.
    pub fn new(
        fleet: FleetName,
        number: u64,
        created: Timestamp,
        roots: Vec<CertificateDer<'static>>,
        cross: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { format: FORMAT, fleet, number, created, roots, cross }
    }

    /// Signs it with these roots: one that the devices trust, and one that is in the list. The text is the list's file.
    pub fn sign(&self, roots: &[&Authority]) -> Result<SignedRootList, RootListError> {
        let payload = serde_json::to_vec(self).map_err(RootListError::Unreadable)?;
        let text = dsse::seal(PAYLOAD_TYPE, &payload, roots).map_err(RootListError::Sign)?;
        SignedRootList::read(text.as_bytes())
    }

    /// The roots to trust from now on, with the authorities that they vouch for.
    pub fn anchors(&self) -> Result<TrustAnchors, AnchorError> {
        Ok(TrustAnchors::new(self.roots.clone())?.with_authorities(self.cross.clone()))
    }

    /// Everything about it that needs no trust.
    fn check(&self) -> Result<(), RootListError> {
        if self.number == 0 {
            return Err(RootListError::Form("has no number"));
        }
        if self.roots.is_empty() || self.roots.len() > MOST_ROOTS {
            return Err(RootListError::Form("has no root, or more than eight"));
        }
        if self.cross.len() > MOST_CROSS {
            return Err(RootListError::Form("has more than 1024 certificates beside its roots"));
        }
        for root in &self.roots {
            let certificate = Certificate::read(root)?;
            let itself = TrustAnchors::new(vec![root.clone()])?;
            if !is_root(&certificate)
                || certificate.organization.as_deref() != Some(self.fleet.as_str())
                || !itself.has_issued(root)
            {
                return Err(RootListError::NoRoot { subject: certificate.subject });
            }
        }
        for authority in &self.cross {
            let certificate = Certificate::read(authority)?;
            let is_authority = match certificate.uris.as_slice() {
                [] => is_root(&certificate),
                [uri] => matches!(uri.parse(), Ok(DroverUrn::FactoryCa(_) | DroverUrn::FleetCa(_))),
                _ => false,
            };
            if !certificate.is_ca || !certificate.may_certify || !is_authority {
                return Err(RootListError::NoAuthority { subject: certificate.subject });
            }
        }
        Ok(())
    }
}

impl SignedRootList {
    /// Reads a list: its form, and that whoever it says signed it did. Nobody among those need be trusted.
    pub fn read(text: &[u8]) -> Result<Self, RootListError> {
        if text.len() > LARGEST {
            return Err(RootListError::TooLong(text.len()));
        }
        let opened = dsse::open(text, PAYLOAD_TYPE).map_err(RootListError::Envelope)?;
        if opened.signatures.len() > MOST_ROOTS {
            return Err(RootListError::Form("has more than eight signatures"));
        }
        let mut signers = Vec::with_capacity(opened.signatures.len());
        for signature in &opened.signatures {
            if !opened.is_signed_by(signature, &signature.signer) {
                return Err(RootListError::Forged);
            }
            let Certificate { fingerprint, key, .. } = Certificate::read(&signature.signer)?;
            signers.push(Signer { certificate: fingerprint, key });
        }
        let list = read_payload(&opened.payload)?;
        list.check()?;
        for root in &list.roots {
            let key = Certificate::read(root)?.key;
            if signers.iter().any(|signer| signer.key == key) {
                return Ok(Self { list, signers, text: text.to_vec() });
            }
        }
        // A root whose key nobody has would take the fleet away.
        Err(RootListError::Unsigned)
    }

    /// Whether who trusts these roots, and follows the list with that number, may follow this one.
    pub fn check_follows(&self, trusted: &TrustAnchors, known: u64) -> Result<(), RootListError> {
        let mut is_trusted = false;
        for root in trusted.certificates() {
            let root = Certificate::read(root)?;
            is_trusted |= self.signers.iter().any(|signer| signer.key == root.key);
            if root.organization.as_deref() != Some(self.list.fleet.as_str()) {
                return Err(RootListError::OtherFleet {
                    found: self.list.fleet.to_string(),
                    expected: root.organization.unwrap_or_default(),
                });
            }
        }
        if !is_trusted {
            return Err(RootListError::Untrusted);
        }
        if self.list.number <= known {
            return Err(RootListError::Older { number: self.list.number, known });
        }
        Ok(())
    }
}

/// A root has neither a name of Drover's nor a purpose.
fn is_root(certificate: &Certificate) -> bool {
    certificate.is_ca
        && certificate.may_certify
        && certificate.is_p256
        && certificate.purposes.is_none()
        && !certificate.uris.iter().any(|uri| DroverUrn::claims(uri))
}

fn read_payload(payload: &[u8]) -> Result<RootList, RootListError> {
    // The format comes first: a newer payload need not have today's fields.
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let Versioned { format } =
        serde_json::from_slice(payload).map_err(RootListError::Unreadable)?;
    if format != FORMAT {
        return Err(RootListError::Format { found: format });
    }
    serde_json::from_slice(payload).map_err(RootListError::Unreadable)
}

/// Each certificate as a text in PEM, for whoever looks at the file with `openssl`.
mod certificates {
    use super::{CertificateDer, PemError, decode_certificates, encode_certificates};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        certificates: &[CertificateDer<'static>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            certificates.iter().map(|der| encode_certificates(std::slice::from_ref(der))),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<CertificateDer<'static>>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let certificates: Result<Vec<_>, PemError> = texts
            .iter()
            .map(|text| Ok(decode_certificates(text.as_bytes())?.swap_remove(0)))
            .collect();
        certificates.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
