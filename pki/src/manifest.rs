//! The manifest: what a station issued, numbered and signed with the station's own authority, on
//! its way to the master's registry. A DSSE envelope around a JSON payload; its form is described
//! in `docs/enrolment.md`.

use jiff::Timestamp;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::crl::{CrlError, RevocationList};
use crate::dsse::{self, EnvelopeError, Opened, OpenedSignature};
use crate::fingerprint::{Fingerprint, KeyDigest};
use crate::key::KeyError;
use crate::ledger::{Head, Reason};
use crate::name::{HardwareSerial, MinionId, StationName};
use crate::pem_text::PemError;
use crate::verify::{CertificateError, FactoryAuthority, TrustAnchors, verify_factory_authority};

/// What is signed is a manifest, and no signature of it counts for anything else.
const PAYLOAD_TYPE: &str = "application/vnd.drover.manifest+json";
/// The payload's format. Another one is refused.
const FORMAT: u32 = 2;

/// What a station issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which fields follow.
    pub format: Format,
    /// The station that issued.
    pub station: StationName,
    /// Its place in the station's series, from 1. A lower number restores nothing.
    pub number: u64,
    /// Whether it lists everything that the station ever issued, not what is new alone.
    pub all: bool,
    /// When it was made, by the station's clock.
    pub created: Timestamp,
    /// How far the station's ledger goes, which says whether something was cut off it.
    pub ledger: ManifestLedger,
    /// The devices, each with its latest certificate.
    pub minions: Vec<ManifestEntry>,
    /// Every device whose latest certificate the station revoked.
    pub revoked: Vec<RevokedMinion>,
    /// The station's revocation list, in PEM: for every certificate that it revoked, those that
    /// another took the place of included.
    pub crl: String,
}

/// The format that is written and read here, in whose place nothing else is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            FORMAT => Ok(Self),
            other => Err(serde::de::Error::custom(format_args!("format {other}"))),
        }
    }
}

/// The station's ledger, as far as a manifest knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestLedger {
    /// How far it went when the manifest was made. The line about the manifest itself comes after.
    #[serde(flatten)]
    pub head: Head,
    /// How far it went as the manifest before has it; nothing, for the first one.
    pub previous: Head,
}

impl ManifestLedger {
    /// Whether this ledger can be the one whose latest known head is `known`, grown since. A manifest
    /// between the two may be missing; lines that the known one had may not.
    pub fn goes_on_from(&self, known: &Head) -> bool {
        self.previous == *known || (self.previous.count > known.count)
    }
}

/// A device in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The minion.
    pub id: MinionId,
    /// The device's hardware serial number.
    pub serial: HardwareSerial,
    /// SHA-256 of its birth certificate's key: what the registry knows it by.
    pub key: KeyDigest,
    /// SHA-256 of its birth certificate.
    pub certificate: Fingerprint,
    /// Its enrolled grains, which the device cannot change.
    pub grains: Map<String, Value>,
    /// When it was issued, by the station's clock.
    pub issued: Timestamp,
    /// What it took the place of, if the device had another certificate before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reissue: Option<Reissue>,
}

/// That a device got another certificate, with another key. The one before counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reissue {
    /// Why.
    pub reason: Reason,
    /// SHA-256 of the key that counts no more.
    pub replaces: KeyDigest,
}

/// A device that a station wants to be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedMinion {
    /// The minion.
    pub id: MinionId,
    /// SHA-256 of its birth certificate's key. With another key it is another device.
    pub key: KeyDigest,
    /// When, by the station's clock.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// A manifest whose signature verified, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// The authority that signed it.
    pub authority: FactoryAuthority,
    /// Its revocation list, which the same authority signed.
    pub crl: RevocationList,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the envelope, or not what is in it.
    #[error("the file is not a manifest")]
    Unreadable(#[source] serde_json::Error),
    /// A part that should be base64 is not.
    #[error("the manifest's `{part}` is not base64")]
    Base64 {
        /// The part's name.
        part: &'static str,
    },
    /// Another signed thing.
    #[error("the file is signed as `{found}`, not as a manifest")]
    Type {
        /// The type that it states.
        found: String,
    },
    /// Written by another Drover.
    #[error("the manifest has format {found}, not {FORMAT}, the one that is known here")]
    Format {
        /// The format that it states.
        found: u32,
    },
    /// None, or more than one.
    #[error("the manifest has {0} signatures, not one")]
    Signatures(usize),
    /// The station's certificate is missing.
    #[error("the manifest does not carry its station's certificate")]
    Certificate(#[source] PemError),
    /// The station's certificate is not one of this fleet's.
    #[error("the manifest's station is not one that is trusted here")]
    Authority(#[source] CertificateError),
    /// Changed after it was signed, or never signed by that station.
    #[error("the manifest's signature is not by its station's key: it was changed or forged")]
    Forged,
    /// A station that speaks for another.
    #[error("the manifest of station `{claimed}` is signed by station `{signer}`")]
    OtherStation {
        /// The station that the manifest names.
        claimed: StationName,
        /// The station that signed.
        signer: StationName,
    },
    /// Its revocation list is not one, or not by the same authority.
    #[error("the manifest's revocation list is not its station's")]
    RevocationList(#[source] CrlError),
    /// Signing failed.
    #[error("the manifest could not be signed")]
    Sign(#[source] KeyError),
}

impl From<EnvelopeError> for ManifestError {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Unreadable(source) => Self::Unreadable(source),
            EnvelopeError::Base64 { part } => Self::Base64 { part },
            EnvelopeError::Type { found } => Self::Type { found },
            EnvelopeError::Certificate(source) => Self::Certificate(source),
        }
    }
}

impl Manifest {
    /// Signs it with the station's authority. The text is the manifest's file.
    pub fn sign(&self, authority: &Authority) -> Result<String, ManifestError> {
        let payload = serde_json::to_vec(self).map_err(ManifestError::Unreadable)?;
        dsse::seal(PAYLOAD_TYPE, &payload, &[authority]).map_err(ManifestError::Sign)
    }

    /// Reads a manifest and verifies it: signed by a station under one of these roots, and by the
    /// one that it names. Whether its number is too old is the registry's to say.
    pub fn verify(
        text: &[u8],
        anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Result<VerifiedManifest, ManifestError> {
        let opened = dsse::open(text, PAYLOAD_TYPE)?;
        let signature = sole_signature(&opened)?;
        let authority = verify_factory_authority(anchors, &signature.signer, now)
            .map_err(ManifestError::Authority)?;
        if !opened.is_signed_by(signature, &signature.signer) {
            return Err(ManifestError::Forged);
        }
        // Read only now that it is known to be the station's.
        let manifest = read_payload(&opened.payload)?;
        if manifest.station != authority.station {
            return Err(ManifestError::OtherStation {
                claimed: manifest.station,
                signer: authority.station,
            });
        }
        let crl = RevocationList::from_pem(manifest.crl.as_bytes())
            .and_then(|crl| crl.verify(&signature.signer).map(|()| crl))
            .map_err(ManifestError::RevocationList)?;
        Ok(VerifiedManifest { manifest, authority, crl })
    }

    /// Reads a manifest that is as its signer left it, and the signer's key. Whether that one is a station of the fleet
    /// is not asked: a station's own copies outlive the root that it had when it signed them.
    pub fn read_signed(text: &[u8]) -> Result<(Self, KeyDigest), ManifestError> {
        let opened = dsse::open(text, PAYLOAD_TYPE)?;
        let signature = sole_signature(&opened)?;
        let signer = Certificate::read(&signature.signer).map_err(CertificateError::from);
        let signer = signer.map_err(ManifestError::Authority)?;
        if !opened.is_signed_by(signature, &signature.signer) {
            return Err(ManifestError::Forged);
        }
        Ok((read_payload(&opened.payload)?, signer.key))
    }

    /// Reads a manifest to show it. Nothing in it is proven.
    pub fn read_unverified(text: &[u8]) -> Result<Self, ManifestError> {
        let opened = dsse::open(text, PAYLOAD_TYPE)?;
        sole_signature(&opened)?;
        read_payload(&opened.payload)
    }
}

fn sole_signature(opened: &Opened) -> Result<&OpenedSignature, ManifestError> {
    match opened.signatures.as_slice() {
        [signature] => Ok(signature),
        signatures => Err(ManifestError::Signatures(signatures.len())),
    }
}

fn read_payload(payload: &[u8]) -> Result<Manifest, ManifestError> {
    // The format comes first: a newer payload need not have today's fields.
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let Versioned { format } =
        serde_json::from_slice(payload).map_err(ManifestError::Unreadable)?;
    if format != FORMAT {
        return Err(ManifestError::Format { found: format });
    }
    serde_json::from_slice(payload).map_err(ManifestError::Unreadable)
}

#[cfg(test)]
mod tests;
