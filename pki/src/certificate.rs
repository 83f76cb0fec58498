//! What a certificate says, read by x509-parser: the fields that verification, enrolment and
//! `drover-enrol show` look at. Reading proves nothing: `verify` does that.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::UnixTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, Oid};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::fingerprint::{Fingerprint, KeyDigest};

/// 99991231235959Z, RFC 5280's "no well-defined expiration date" (§4.1.2.5), in seconds.
pub const NO_EXPIRY: u64 = 253_402_300_799;

/// A certificate's serial number: shown in lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber(Box<[u8]>);

impl SerialNumber {
    /// Takes a number as it stands in DER, where a zero precedes one whose first bit is set.
    pub(crate) fn from_der_bytes(raw: &[u8]) -> Self {
        Self(number(raw).into())
    }

    /// The number's bytes, the most significant first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A text that is not a serial number in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a serial number of 1 to 20 bytes in lower-case hexadecimal digits")]
pub struct SerialError(String);

impl FromStr for SerialNumber {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let refused = || SerialError(text.escape_debug().take(80).collect());
        // RFC 5280 §4.1.2.2: at most 20 octets.
        if !is_hex || text.is_empty() || !text.len().is_multiple_of(2) || text.len() > 40 {
            return Err(refused());
        }
        let bytes: Option<Vec<u8>> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
            .collect();
        Ok(Self(number(&bytes.ok_or_else(refused)?).into()))
    }
}

impl Serialize for SerialNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SerialNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a certificate's extendedKeyUsage permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purposes {
    /// To open a TLS connection: minions and operators.
    pub client: bool,
    /// To accept one: masters.
    pub server: bool,
    /// Anything beside those two.
    pub other: bool,
}

impl Purposes {
    /// `clientAuth` alone.
    pub const CLIENT: Self = Self { client: true, server: false, other: false };
    /// `serverAuth` alone.
    pub const SERVER: Self = Self { client: false, server: true, other: false };
    /// Both.
    pub const BOTH: Self = Self { client: true, server: true, other: false };
}

impl fmt::Display for Purposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            [(self.client, "clientAuth"), (self.server, "serverAuth"), (self.other, "other")];
        let names: Vec<_> = names.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }.as_str())
    }
}

/// The bytes are not a certificate that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate: {0}")]
pub struct Unreadable(pub(crate) String);

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, as RFC 4514 writes names.
    pub subject: String,
    /// Its issuer, likewise.
    pub issuer: String,
    /// The subject's `O`, where an authority has its fleet's name.
    pub organization: Option<String>,
    /// The subject's `OU`: what kind of authority it is.
    pub organizational_unit: Option<String>,
    /// The subject's `CN`.
    pub common_name: Option<String>,
    /// The subject's `serialNumber`, where a device has its hardware serial number.
    pub subject_serial: Option<String>,
    /// Every URI in its subjectAltName.
    pub uris: Vec<String>,
    /// Its extendedKeyUsage; `None` where it has none.
    pub purposes: Option<Purposes>,
    /// basicConstraints' `cA`.
    pub is_ca: bool,
    /// Whether keyUsage permits to sign (`digitalSignature`); an absent one permits everything.
    pub may_sign: bool,
    /// Whether keyUsage permits to sign certificates (`keyCertSign`).
    pub may_certify: bool,
    /// Whether its key is ECDSA P-256.
    pub is_p256: bool,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The start of its validity.
    pub not_before: UnixTime,
    /// The end of its validity.
    pub not_after: UnixTime,
    /// The SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// The SHA-256 of its public key.
    pub key: KeyDigest,
}

impl Certificate {
    /// Reads a certificate in DER. Nothing may follow it.
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let (rest, x509) = X509Certificate::from_der(der).map_err(unreadable)?;
        if !rest.is_empty() {
            return Err(Unreadable(format!("{} bytes follow it", rest.len())));
        }
        let usage = x509.key_usage().map_err(unreadable)?;
        let names = x509.subject_alternative_name().map_err(unreadable)?;
        let mut uris = Vec::new();
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            if let GeneralName::URI(uri) = name {
                uris.push((*uri).to_owned());
            }
        }
        let purposes = x509.extended_key_usage().map_err(unreadable)?.map(|extension| {
            let eku = extension.value;
            Purposes {
                client: eku.client_auth,
                server: eku.server_auth,
                other: eku.any
                    || eku.code_signing
                    || eku.email_protection
                    || eku.time_stamping
                    || eku.ocsp_signing
                    || !eku.other.is_empty(),
            }
        });
        let constraints = x509.basic_constraints().map_err(unreadable)?;
        Ok(Self {
            subject: x509.subject().to_string(),
            issuer: x509.issuer().to_string(),
            organization: only_text(x509.subject().iter_organization()),
            organizational_unit: only_text(x509.subject().iter_organizational_unit()),
            common_name: only_text(x509.subject().iter_common_name()),
            subject_serial: hardware_serial(x509.subject()),
            uris,
            purposes,
            is_ca: constraints.is_some_and(|extension| extension.value.ca),
            may_sign: usage.as_ref().is_none_or(|extension| extension.value.digital_signature()),
            may_certify: usage.as_ref().is_none_or(|extension| extension.value.key_cert_sign()),
            is_p256: is_p256(x509.public_key()),
            serial: SerialNumber::from_der_bytes(x509.raw_serial()),
            not_before: unix_time(x509.validity().not_before),
            not_after: unix_time(x509.validity().not_after),
            fingerprint: Fingerprint::of(der),
            key: KeyDigest::of(x509.public_key().raw),
        })
    }
}

/// True for a key of the one kind that Drover issues to: an EC key on P-256.
pub(crate) fn is_p256(key: &SubjectPublicKeyInfo<'_>) -> bool {
    key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| Oid::try_from(curve).ok())
            .is_some_and(|curve| curve == OID_EC_P256)
}

fn hardware_serial(subject: &X509Name<'_>) -> Option<String> {
    only_text(subject.iter_by_oid(&x509_parser::oid_registry::OID_X509_SERIALNUMBER))
}

/// An attribute that appears once; twice is nothing that could be relied on.
fn only_text<'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Option<String> {
    let text = attributes.next()?.as_str().ok()?;
    attributes.next().is_none().then(|| text.to_owned())
}

/// DER puts a zero before a number whose first bit is set.
fn number(raw: &[u8]) -> &[u8] {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    }
}

/// Seconds since 1970; what lies before counts as 1970.
fn unix_time(time: ASN1Time) -> UnixTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

pub(crate) fn unreadable(error: impl fmt::Display) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_read_as_it_is_written() {
        let serial: SerialNumber = "00ff10".parse().unwrap();
        assert_eq!(serial.as_bytes(), [0xff, 0x10]);
        assert_eq!(serial.to_string().parse(), Ok(serial));
        for wrong in ["", "f", "FF", "+f", "0x", "\u{e9}", &"ab".repeat(21)] {
            assert!(wrong.parse::<SerialNumber>().is_err(), "{wrong}");
        }
    }
}
