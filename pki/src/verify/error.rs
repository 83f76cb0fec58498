//! Why a chain was refused, and who can do something about it.

use jiff::Timestamp;
use rustls_pki_types::UnixTime;

use crate::certificate::{Certificate, Purposes, Unreadable};
use crate::urn::{DroverUrn, UrnError};

/// Who must act on a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer shows what no authority of ours makes: it is broken, or it tries something.
    Peer,
    /// The peer belongs to another fleet, or one side has the wrong `root.crt`.
    Fleet,
    /// The certificate is genuine, its time is not now: renew it, or set a clock.
    Time,
    /// An authority issued what it may not: its key may be in the wrong hands.
    Authority,
}

/// Why a certificate chain was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable(#[from] Unreadable),
    /// No path leads to a root that is trusted.
    #[error("the certificate does not lead to a root that is trusted here")]
    UnknownIssuer,
    /// Its time is over.
    #[error("the certificate expired at {not_after}, and it is {now}")]
    Expired {
        /// The end of its validity.
        not_after: Timestamp,
        /// The time of validation.
        now: Timestamp,
    },
    /// Its time has not come.
    #[error("the certificate is not valid before {not_before}, and it is {now}")]
    NotYetValid {
        /// The start of its validity.
        not_before: Timestamp,
        /// The time of validation.
        now: Timestamp,
    },
    /// An authority's certificate where a leaf is wanted.
    #[error("`{subject}` is a certificate authority, which cannot be a peer")]
    AuthorityAsLeaf {
        /// The certificate's subject.
        subject: String,
    },
    /// A certificate that may not certify, where an authority is wanted.
    #[error("`{subject}` is no certificate authority")]
    NoAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// The leaf's extendedKeyUsage is absent, or not the one that is needed.
    #[error("the certificate is for {found}, needed is {needed} alone")]
    Purpose {
        /// What it has.
        found: Purposes,
        /// What was needed.
        needed: Purposes,
    },
    /// The issuing authority's extendedKeyUsage does not have what was issued.
    #[error("the authority `{issuer}` has {found} and cannot issue for {needed}")]
    AuthorityPurpose {
        /// The authority.
        issuer: String,
        /// What it has.
        found: Purposes,
        /// What was needed.
        needed: Purposes,
    },
    /// No `urn:drover:` name in subjectAltName.
    #[error("the certificate of `{subject}` has no `urn:drover:` name")]
    NoName {
        /// The certificate's subject.
        subject: String,
    },
    /// More than one of them.
    #[error("the certificate of `{subject}` has several `urn:drover:` names")]
    SeveralNames {
        /// The certificate's subject.
        subject: String,
    },
    /// One that is not valid.
    #[error("the certificate's `urn:drover:` name is not valid")]
    Name(#[source] UrnError),
    /// A genuine certificate of another kind of peer.
    #[error("the certificate speaks for `{found}`, expected is {expected}")]
    OtherKind {
        /// What was expected.
        expected: &'static str,
        /// Whom it speaks for.
        found: String,
    },
    /// An authority beyond its own name.
    #[error("the authority `{issuer}` may not issue `{issued}`")]
    IssuedBeyond {
        /// The authority.
        issuer: String,
        /// What it issued.
        issued: String,
    },
    /// The root issues authorities, no leaf.
    #[error("the certificate was issued by the root itself")]
    IssuedByRoot,
    /// Between a fleet's authority and the root that is trusted stand roots that vouch for one another, and nothing else.
    #[error("`{subject}` stands in the chain where a root's cross-certificate should")]
    NoCross {
        /// The certificate's subject.
        subject: String,
    },
    /// The leaf's key is not ECDSA P-256, or may not sign.
    #[error("the key of `{subject}` is not one that may sign with ECDSA P-256")]
    Key {
        /// The certificate's subject.
        subject: String,
    },
    /// Anything else that webpki refuses.
    #[error("the certificate chain is not valid: {0}")]
    Path(String),
}

impl CertificateError {
    /// Who must act.
    pub fn fault(&self) -> Fault {
        match self {
            Self::UnknownIssuer => Fault::Fleet,
            Self::Expired { .. } | Self::NotYetValid { .. } => Fault::Time,
            Self::AuthorityPurpose { .. }
            | Self::IssuedBeyond { .. }
            | Self::IssuedByRoot
            | Self::NoCross { .. } => Fault::Authority,
            Self::Unreadable(_)
            | Self::AuthorityAsLeaf { .. }
            | Self::NoAuthority { .. }
            | Self::Purpose { .. }
            | Self::NoName { .. }
            | Self::SeveralNames { .. }
            | Self::Name(_)
            | Self::OtherKind { .. }
            | Self::Key { .. }
            | Self::Path(_) => Fault::Peer,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> &'static str {
        match self.fault() {
            Fault::Peer => "look at the file with `drover-enrol show`; enrol anew what is broken",
            Fault::Fleet => "compare root.crt on both sides: they must be one fleet's",
            Fault::Time => "check the clock; an operational certificate is renewed by its owner",
            Fault::Authority => "find out who has this authority's key; do not use what it issued",
        }
    }

    pub(super) fn other_kind(expected: &'static str, found: &DroverUrn) -> Self {
        Self::OtherKind { expected, found: found.to_string() }
    }

    pub(super) fn issued_beyond(issuer: &DroverUrn, issued: &DroverUrn) -> Self {
        Self::IssuedBeyond { issuer: issuer.to_string(), issued: issued.to_string() }
    }

    pub(super) fn check_validity(certificate: &Certificate, now: UnixTime) -> Result<(), Self> {
        let (not_before, not_after) = (certificate.not_before, certificate.not_after);
        if now < not_before {
            return Err(Self::NotYetValid { not_before: shown(not_before), now: shown(now) });
        }
        if now > not_after {
            return Err(Self::Expired { not_after: shown(not_after), now: shown(now) });
        }
        Ok(())
    }

    /// webpki's reason in our words. It has dozens; those that an operator can act upon are told apart.
    pub(super) fn from_path(error: webpki::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "webpki's errors may grow")]
        match error {
            webpki::Error::UnknownIssuer
            | webpki::Error::InvalidSignatureForPublicKey
            | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                Self::UnknownIssuer
            }
            webpki::Error::CertExpired { time, not_after } => {
                Self::Expired { not_after: shown(not_after), now: shown(time) }
            }
            webpki::Error::CertNotValidYet { time, not_before } => {
                Self::NotYetValid { not_before: shown(not_before), now: shown(time) }
            }
            other => Self::Path(other.to_string()),
        }
    }
}

/// A time for people. Certificates end at 9999-12-31, which is the last day that fits.
fn shown(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
