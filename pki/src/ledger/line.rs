//! What stands in a ledger: one line of JSON for each thing that the station did or refused. A line
//! has the digest of the line before it, so that none can be changed, taken out or put between.

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::words::{Actor, Reason};
use crate::certificate::SerialNumber;
use crate::fingerprint::{Fingerprint, KeyDigest, LineDigest};
use crate::manifest::ManifestEntry;
use crate::name::{HardwareSerial, MinionId};

/// How far a ledger goes: how many lines it has, and the digest of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// How many lines.
    pub count: u64,
    /// The digest of the last line; of the empty text where there is none.
    pub head: LineDigest,
}

impl Head {
    /// Of a ledger without lines.
    pub fn empty() -> Self {
        Self { count: 0, head: LineDigest::of(b"") }
    }

    /// With one line more.
    pub(super) fn followed_by(self, line: &[u8]) -> Self {
        Self { count: self.count + 1, head: LineDigest::of(line) }
    }
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its place, from 1.
    pub n: u64,
    /// The digest of the line before it.
    pub previous: LineDigest,
    /// When, by the station's clock.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// The line as it is written and digested, without its line break.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: a line is made of names, numbers and text")
    }
}

/// What the station did, or refused to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It gave a device its first certificate.
    Issued(IssuedLine),
    /// It gave a device another one, which revokes the one before ([`ManifestEntry::reissue`]).
    Reissued(IssuedLine),
    /// It refused to give one.
    Refused(RefusedLine),
    /// It revoked a device's certificate.
    Revoked(RevokedLine),
    /// It exported a manifest, whose revocation list has this line's number.
    Manifest(ManifestLine),
    /// It signed a revocation list by itself, which has this line's number.
    RevocationList(RevocationListLine),
    /// It was made again, from the manifests of the station before it.
    Replaced(ReplacedLine),
    /// A device that the station before it issued.
    Adopted(AdoptedLine),
}

impl Event {
    /// What it says of a device's certificate, if it is about a new one.
    pub fn entry(&self) -> Option<&ManifestEntry> {
        match self {
            Self::Issued(line) | Self::Reissued(line) => Some(&line.entry),
            Self::Adopted(line) => Some(&line.entry),
            Self::Refused(_)
            | Self::Revoked(_)
            | Self::Manifest(_)
            | Self::RevocationList(_)
            | Self::Replaced(_) => None,
        }
    }
}

/// A certificate that the station issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedLine {
    /// What a manifest says of it.
    #[serde(flatten)]
    pub entry: ManifestEntry,
    /// The certificate that this one takes the place of, by the number that the revocation list has
    /// it under; `None` where another authority issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revokes: Option<SerialNumber>,
    /// The certificate itself, so that a bundle which a power cut left half-written can be finished.
    #[serde(with = "der")]
    pub der: CertificateDer<'static>,
}

/// A certificate that the station did not issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLine {
    /// For which minion, as far as it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MinionId>,
    /// For which hardware serial number, as far as it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<HardwareSerial>,
    /// Of which kind the refusal is.
    pub refusal: RefusalKind,
    /// What was said about it.
    pub reason: Reason,
}

/// Why a certificate was not issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The id was used before.
    IdSeen,
    /// The hardware serial number was used before.
    SerialSeen,
    /// The key was used before.
    KeySeen,
    /// There is nothing to re-issue.
    NotIssued,
    /// The signing request cannot be used.
    Request,
    /// The certificate just made does not verify.
    Unverified,
}

/// A certificate that the station revoked, and nothing took its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedLine {
    /// The minion.
    pub id: MinionId,
    /// The device's hardware serial number.
    pub serial: HardwareSerial,
    /// SHA-256 of the certificate's key.
    pub key: KeyDigest,
    /// SHA-256 of the certificate.
    pub certificate: Fingerprint,
    /// The certificate's own number, which the revocation list has.
    pub revokes: SerialNumber,
    /// Why.
    pub reason: Reason,
}

/// A manifest that the station exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestLine {
    /// Its number.
    pub number: u64,
    /// Whether it had everything.
    pub all: bool,
    /// How many devices it lists.
    pub minions: usize,
}

/// A revocation list that the station signed by itself, outside a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationListLine {
    /// How many certificates it lists.
    pub certificates: usize,
}

/// Where a station that was made again begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedLine {
    /// The number of the last manifest of the station before it.
    pub number: u64,
    /// SHA-256 of the key that signed that manifest.
    pub authority: KeyDigest,
    /// How far the ledger went that is lost, as that manifest says.
    pub ledger: Head,
    /// How many devices follow.
    pub minions: usize,
}

/// A device of the station before, whose certificate another authority issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedLine {
    /// What the manifests say of it.
    #[serde(flatten)]
    pub entry: ManifestEntry,
    /// Why it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Reason>,
}

mod der {
    use super::{BASE64_STANDARD, CertificateDer, Deserialize, Engine};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        der: &CertificateDer<'_>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(der))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CertificateDer<'static>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(CertificateDer::from(bytes))
    }
}
