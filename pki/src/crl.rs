//! Certificate revocation lists (RFC 5280 §5): what an authority says of the certificates that it
//! takes back. Masters publish them and stations send them; whom a master refuses is its registry's.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, RevokedCertParams};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::{ReasonCode, X509Version};

use crate::authority::{Authority, AuthorityError, with_cause};
use crate::certificate::{SerialNumber, Unreadable, unreadable};

/// Why a list could not be made, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// The authority's own certificate cannot be read.
    #[error("the authority's certificate cannot be read")]
    Authority(#[source] Unreadable),
    /// The list could not be signed.
    #[error("the revocation list could not be signed")]
    Sign(#[source] AuthorityError),
    /// There is no list in the PEM text.
    #[error("holds no `X509 CRL` in PEM")]
    Pem,
    /// The bytes are not a list that can be read.
    #[error("not a readable revocation list: {0}")]
    Unreadable(String),
    /// The list is not a whole one of one authority, or lacks what RFC 5280 demands.
    #[error("not a revocation list as RFC 5280 §5 has it: {0}")]
    Profile(&'static str),
    /// The list is another authority's.
    #[error("the revocation list is from `{found}`, not from `{expected}`")]
    OtherIssuer {
        /// Whose list it says to be.
        found: String,
        /// Whose list was expected.
        expected: String,
    },
    /// The certificate may not sign lists.
    #[error("`{issuer}` may not sign revocation lists")]
    NoSigner {
        /// The certificate's subject.
        issuer: String,
    },
    /// The signature is not the authority's.
    #[error("the revocation list's signature is not by `{issuer}`")]
    Forged {
        /// The authority's subject.
        issuer: String,
    },
}

/// Why a certificate was revoked (RFC 5280 §5.3.1). `certificateHold` and `removeFromCRL` are not
/// used: what is in a list stays there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevocationReason {
    /// None was given; the list then leaves it out.
    #[default]
    Unspecified,
    /// Somebody else has, or may have, the key.
    KeyCompromise,
    /// Somebody else has, or may have, the key of the authority.
    #[serde(rename = "cACompromise")]
    CaCompromise,
    /// The device's name, or whose it is, changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The device reached its end of life.
    CessationOfOperation,
    /// The device may no longer do what the certificate permits.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// Its name in RFC 5280.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    /// The reason that an operator's words name, whatever the case (`key compromise`,
    /// `keyCompromise`), else [`Self::Unspecified`].
    pub fn from_words(words: &str) -> Self {
        let words: String = words.chars().filter(char::is_ascii_alphabetic).collect();
        let named = |reason: &Self| reason.as_str().eq_ignore_ascii_case(&words);
        Self::ALL.into_iter().find(named).unwrap_or_default()
    }

    fn to_rcgen(self) -> Option<rcgen::RevocationReason> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(rcgen::RevocationReason::KeyCompromise),
            Self::CaCompromise => Some(rcgen::RevocationReason::CaCompromise),
            Self::AffiliationChanged => Some(rcgen::RevocationReason::AffiliationChanged),
            Self::Superseded => Some(rcgen::RevocationReason::Superseded),
            Self::CessationOfOperation => Some(rcgen::RevocationReason::CessationOfOperation),
            Self::PrivilegeWithdrawn => Some(rcgen::RevocationReason::PrivilegeWithdrawn),
        }
    }

    fn from_code(code: ReasonCode) -> Option<Self> {
        match code {
            ReasonCode::Unspecified => Some(Self::Unspecified),
            ReasonCode::KeyCompromise => Some(Self::KeyCompromise),
            ReasonCode::CACompromise => Some(Self::CaCompromise),
            ReasonCode::AffiliationChanged => Some(Self::AffiliationChanged),
            ReasonCode::Superseded => Some(Self::Superseded),
            ReasonCode::CessationOfOperation => Some(Self::CessationOfOperation),
            ReasonCode::PrivilegeWithdrawn => Some(Self::PrivilegeWithdrawn),
            _ => None,
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no reason of RFC 5280.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reason for a revocation (RFC 5280 §5.3.1), such as `keyCompromise`")]
pub struct ReasonError(String);

impl FromStr for RevocationReason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let named = |reason: &Self| reason.as_str() == text;
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| ReasonError(text.escape_debug().take(80).collect()))
    }
}

/// A certificate that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Its serial number.
    pub serial: SerialNumber,
    /// When, to the second.
    pub at: Timestamp,
    /// Why.
    #[serde(default)]
    pub reason: RevocationReason,
}

/// What stands in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// The list's number, higher than that of the same authority's list before (RFC 5280 §5.2.3).
    pub number: u64,
    /// When it was made, to the second.
    pub this_update: Timestamp,
    /// By when there will be another, to the second.
    pub next_update: Timestamp,
    /// The certificates. Each serial number counts once.
    pub revoked: Vec<Revoked>,
}

impl Revocations {
    /// What it says of a certificate.
    pub fn find(&self, serial: &SerialNumber) -> Option<&Revoked> {
        self.revoked.iter().find(|revoked| revoked.serial == *serial)
    }
}

/// A signed list. One that was read proves nothing until it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    issuer: String,
    contents: Revocations,
}

impl RevocationList {
    /// Makes an authority's list. The times are cut to seconds, and of two entries with one serial
    /// number the first one stands.
    pub fn sign(authority: &Authority, contents: &Revocations) -> Result<Self, CrlError> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let encoded = |time: Timestamp| {
            epoch + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
        };
        let mut seen = BTreeSet::new();
        let once = contents.revoked.iter().filter(|revoked| seen.insert(&revoked.serial));
        let revoked_certs = once
            .map(|revoked| RevokedCertParams {
                serial_number: rcgen::SerialNumber::from_slice(revoked.serial.as_bytes()),
                revocation_time: encoded(revoked.at),
                reason_code: revoked.reason.to_rcgen(),
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: encoded(contents.this_update),
            next_update: encoded(contents.next_update),
            crl_number: contents.number.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: key_identifier(authority.der())?,
        };
        let list = with_cause(authority.key(), |signer| {
            params.signed_by(&Issuer::from_ca_cert_der(authority.der(), signer)?)
        })
        .map_err(CrlError::Sign)?;
        Self::from_der(list.der())
    }

    /// Reads a list in PEM.
    pub fn from_pem(text: &[u8]) -> Result<Self, CrlError> {
        let der = CertificateRevocationListDer::from_pem_slice(text).map_err(|_| CrlError::Pem)?;
        Self::from_der(&der)
    }

    /// Reads a list in DER. Nothing may follow it.
    pub fn from_der(der: &[u8]) -> Result<Self, CrlError> {
        let (rest, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| CrlError::Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CrlError::Unreadable(format!("{} bytes follow it", rest.len())));
        }
        let contents = read(&list)?;
        let issuer = list.issuer().to_string();
        Ok(Self { der: der.to_vec().into(), issuer, contents })
    }

    /// Whether an authority made this list: its name, its right to, and its signature. Whether the
    /// list is still current is the caller's to ask.
    pub fn verify(&self, issuer: &CertificateDer<'_>) -> Result<(), CrlError> {
        let unread = |error: &dyn fmt::Display| CrlError::Authority(unreadable(error));
        let (_, x509) = X509Certificate::from_der(issuer).map_err(|error| unread(&error))?;
        // invariant: it was read before, else there were no `self`.
        let (_, list) = CertificateRevocationList::from_der(&self.der)
            .map_err(|error| CrlError::Unreadable(error.to_string()))?;
        let subject = x509.subject().to_string();
        if x509.subject().as_raw() != list.issuer().as_raw() {
            return Err(CrlError::OtherIssuer { found: self.issuer.clone(), expected: subject });
        }
        let usage = x509.key_usage().map_err(|error| unread(&error))?;
        if !x509.is_ca() || !usage.is_some_and(|usage| usage.value.crl_sign()) {
            return Err(CrlError::NoSigner { issuer: subject });
        }
        let key = EndEntityCert::try_from(issuer).map_err(|error| unread(&error))?;
        key.verify_signature(
            webpki::aws_lc_rs::ECDSA_P256_SHA256,
            list.tbs_cert_list.as_ref(),
            &list.signature_value.data,
        )
        .map_err(|_| CrlError::Forged { issuer: subject })
    }

    /// The list in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The list in PEM.
    pub fn to_pem(&self) -> String {
        pem::encode_config(&pem::Pem::new("X509 CRL", self.der()), crate::pem_text::config())
    }

    /// Whose list it says to be, as RFC 4514 writes names.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What stands in it.
    pub fn contents(&self) -> &Revocations {
        &self.contents
    }
}

fn read(list: &CertificateRevocationList<'_>) -> Result<Revocations, CrlError> {
    if list.version() != Some(X509Version::V2) {
        return Err(CrlError::Profile("it is not of version 2"));
    }
    if list.signature_algorithm != list.tbs_cert_list.signature
        || list.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(CrlError::Profile("it is not signed with ECDSA and SHA-256"));
    }
    // A list of a part only, or of changes only, says so in a critical extension.
    refuse_critical(list.extensions())?;
    let number = list.crl_number().ok_or(CrlError::Profile("it has no number"))?;
    let number = u64::try_from(number).map_err(|_| CrlError::Profile("its number is too large"))?;
    let next_update = list.next_update().ok_or(CrlError::Profile("it has no nextUpdate"))?;
    Ok(Revocations {
        number,
        this_update: timestamp(list.last_update())?,
        next_update: timestamp(next_update)?,
        revoked: list.iter_revoked_certificates().map(read_revoked).collect::<Result<_, _>>()?,
    })
}

fn read_revoked(revoked: &RevokedCertificate<'_>) -> Result<Revoked, CrlError> {
    // An entry of another authority says so in a critical extension.
    refuse_critical(revoked.extensions())?;
    let reason = match revoked.reason_code() {
        Some((_, code)) => RevocationReason::from_code(code)
            .ok_or(CrlError::Profile("it has a reason that is not used here"))?,
        None => RevocationReason::Unspecified,
    };
    Ok(Revoked {
        serial: SerialNumber::from_der_bytes(revoked.raw_serial()),
        at: timestamp(revoked.revocation_date)?,
        reason,
    })
}

fn refuse_critical(extensions: &[X509Extension<'_>]) -> Result<(), CrlError> {
    if extensions.iter().any(|extension| extension.critical) {
        return Err(CrlError::Profile("it has a critical extension that is not used here"));
    }
    Ok(())
}

/// The authority's own key identifier, so that list and certificates name it alike.
fn key_identifier(authority: &CertificateDer<'_>) -> Result<KeyIdMethod, CrlError> {
    let unread = |error: &dyn fmt::Display| CrlError::Authority(unreadable(error));
    let (_, x509) = X509Certificate::from_der(authority).map_err(|error| unread(&error))?;
    let own = x509.extensions().iter().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() else {
            return None;
        };
        Some(id.0.to_vec())
    });
    Ok(own.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified))
}

fn timestamp(time: ASN1Time) -> Result<Timestamp, CrlError> {
    Timestamp::from_second(time.timestamp())
        .map_err(|_| CrlError::Profile("a time is out of range"))
}

#[cfg(test)]
mod tests;
