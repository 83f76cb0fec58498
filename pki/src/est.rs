//! What EST (RFC 7030, with RFC 8951's corrections) puts into its messages: certificates without
//! signers as PKCS#7, what a request should have, and requests as clients send them. The master serves them.

use base64::prelude::{BASE64_STANDARD, Engine};
use cms::content_info::ContentInfo;
use cms::der::asn1::{Any, ObjectIdentifier, SetOfVec};
use cms::der::{self, Decode, Encode};
use cms::x509_cert::{Certificate, attr::Attribute};
use rustls_pki_types::CertificateDer;

/// The longest request that is looked at, as it comes. One for a P-256 key has some 400 bytes.
pub const LONGEST_REQUEST: usize = 16 * 1024;

/// RFC 5480 §2.1.1: an EC key, whose parameters name the curve.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 5480 §2.1.1.1: P-256.
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// RFC 5758 §3.2.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// A body that is no request in base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// There is nothing.
    #[error("the body is empty, where a PKCS#10 request in base64 was expected")]
    Empty,
    /// More than [`LONGEST_REQUEST`] bytes.
    #[error("the body has more than {LONGEST_REQUEST} bytes")]
    TooLong,
    /// Neither base64 nor PEM.
    #[error("the body is not base64")]
    Base64,
}

/// Takes a request out of a body (RFC 7030 §4.2.1): base64, whose lines may be broken anywhere. What
/// comes in PEM or DER is taken too: nothing else begins like it. Gives DER that nobody has read yet.
pub fn decode_request(body: &[u8]) -> Result<Vec<u8>, BodyError> {
    if body.len() > LONGEST_REQUEST {
        return Err(BodyError::TooLong);
    }
    // A SEQUENCE; in base64 a request begins with `M`.
    if body.first() == Some(&0x30) {
        return Ok(body.to_vec());
    }
    let text = body.trim_ascii();
    if text.is_empty() {
        return Err(BodyError::Empty);
    }
    if text.starts_with(b"-----BEGIN ") {
        return pem::parse(text).map(pem::Pem::into_contents).map_err(|_| BodyError::Base64);
    }
    let base64: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(base64).map_err(|_| BodyError::Base64)
}

/// Certificates alone, as PKCS#7 (RFC 7030 §4.1.3 and §4.2.3: a `SignedData` without signers) in
/// base64. `None` where one of them is not a certificate in DER.
pub fn certificates_only(certificates: &[CertificateDer<'_>]) -> Option<String> {
    encode_certificates(certificates).ok().map(|der| lines(&der))
}

/// What a request should have (RFC 7030 §4.5.2), in base64: a key on P-256, and a signature by
/// ECDSA with SHA-256. Names are not asked for, since none is taken.
pub fn request_attributes() -> String {
    lines(&encode_attributes().expect("invariant: three object identifiers have a DER form"))
}

fn encode_certificates(certificates: &[CertificateDer<'_>]) -> der::Result<Vec<u8>> {
    let certificates: der::Result<Vec<_>> =
        certificates.iter().map(|der| Certificate::from_der(der)).collect();
    ContentInfo::try_from(certificates?)?.to_der()
}

fn encode_attributes() -> der::Result<Vec<u8>> {
    let curve = SetOfVec::try_from(vec![Any::encode_from(&SECP256R1)?])?;
    let key = Attribute { oid: EC_PUBLIC_KEY, values: curve };
    // CsrAttrs ::= SEQUENCE OF AttrOrOID, a choice without tags of its own.
    vec![Any::encode_from(&key)?, Any::encode_from(&ECDSA_WITH_SHA256)?].to_der()
}

/// Base64 in lines that `openssl base64 -d` reads.
fn lines(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = String::with_capacity(text.len() + text.len() / 64 + 1);
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use cms::signed_data::SignedData;
    use jiff::Timestamp;

    use super::*;
    use crate::{Authority, PrivateKey, PublicKey};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn decoded(text: &str) -> Vec<u8> {
        assert!(text.ends_with('\n') && text.lines().all(|line| line.len() <= 64), "{text}");
        BASE64_STANDARD.decode(text.replace('\n', "")).unwrap()
    }

    #[test]
    fn certificates_are_carried_byte_for_byte() {
        let fleet = "acme".parse().unwrap();
        let root = Authority::create_root(&fleet, NOW).unwrap();
        let fleet_ca = root.create_fleet_ca(&fleet, NOW).unwrap();
        let given = [fleet_ca.der().clone(), root.der().clone()];
        let info = ContentInfo::from_der(&decoded(&certificates_only(&given).unwrap())).unwrap();
        let signed: SignedData = info.content.decode_as().unwrap();
        let mut carried: Vec<Vec<u8>> =
            signed.certificates.unwrap().0.iter().map(|one| one.to_der().unwrap()).collect();
        let mut wanted: Vec<Vec<u8>> = given.iter().map(|der| der.to_vec()).collect();
        carried.sort();
        wanted.sort();
        assert_eq!(carried, wanted);
        assert!(signed.signer_infos.0.is_empty());
        assert_eq!(certificates_only(&[CertificateDer::from(vec![0x30])]), None);
    }

    #[test]
    fn a_request_should_have_a_p256_key_and_an_ecdsa_signature() {
        let attributes = Vec::<Any>::from_der(&decoded(&request_attributes())).unwrap();
        let [key, signature] = &attributes[..] else { panic!("{attributes:?}") };
        let key: Attribute = key.decode_as().unwrap();
        assert_eq!(key.oid, EC_PUBLIC_KEY);
        let curves: Vec<ObjectIdentifier> =
            key.values.iter().map(|curve| curve.decode_as().unwrap()).collect();
        assert_eq!(curves, [SECP256R1]);
        assert_eq!(signature.decode_as::<ObjectIdentifier>().unwrap(), ECDSA_WITH_SHA256);
    }

    #[test]
    fn a_request_is_taken_from_base64_however_its_lines_are_broken() {
        let key = PrivateKey::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let der = request.der().to_vec();
        let base64 = BASE64_STANDARD.encode(&der);
        let broken: String = base64.chars().flat_map(|character| [character, '\r', '\n']).collect();
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der.clone()));
        for body in
            [base64.as_bytes(), broken.as_bytes(), lines(&der).as_bytes(), pem.as_bytes(), &der]
        {
            let taken = decode_request(body).unwrap();
            assert_eq!(taken, der);
            assert_eq!(&PublicKey::from_csr(&taken).unwrap(), key.public());
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (body, error) in [
            (&b""[..], BodyError::Empty),
            (b" \r\n ", BodyError::Empty),
            (b"MII!", BodyError::Base64),
            (b"-----BEGIN NOTHING", BodyError::Base64),
            (b"-----BEGIN \xff", BodyError::Base64),
            (&[b'M'; LONGEST_REQUEST + 1], BodyError::TooLong),
        ] {
            assert_eq!(decode_request(body).unwrap_err(), error);
        }
    }
}
