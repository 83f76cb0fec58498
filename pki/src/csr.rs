//! A certificate signing request (RFC 2986): a device's way to show a key that it made itself. Only
//! the key is taken from it, never a name or an extension, and the request must be signed with it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1,
    EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid,
};
use x509_parser::prelude::FromDer;

use crate::authority::{AuthorityError, AuthorityKey, with_cause};
use crate::key::{KeyError, PrivateKey, PublicKey};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Neither PEM nor DER of a request.
    #[error("is not a certificate signing request (RFC 2986, PEM or DER)")]
    Unreadable,
    /// Its key is of another kind.
    #[error("has a key that cannot be certified")]
    Key(#[source] KeyError),
    /// It is signed in a way that is not taken.
    #[error("is not signed with ECDSA and SHA-256, SHA-384 or SHA-512")]
    Algorithm,
    /// Its signature is not by its own key: whoever sent it need not hold the key.
    #[error("is not signed with its own key, which proves that the sender has it")]
    Possession,
}

impl PublicKey {
    /// Takes the key from a request in PEM or DER, once its proof of possession holds.
    pub fn from_csr(request: &[u8]) -> Result<Self, CsrError> {
        if request.first() == Some(&0x30) {
            return from_der(request);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(request)
            .map_err(|_| CsrError::Unreadable)?;
        from_der(&der)
    }
}

impl PrivateKey {
    /// A request in DER for a certificate of this key. It names nobody: whoever issues knows who asks.
    pub fn to_csr(&self) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(self)?.der().to_vec())
    }
}

impl AuthorityKey {
    /// A request in PEM for a certificate of this key, named for who reads it.
    pub fn to_csr(&self, name: &str) -> Result<String, AuthorityError> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let request = with_cause(self, |signer| params.serialize_request(signer))?;
        let block = pem::Pem::new("CERTIFICATE REQUEST", request.der().as_ref());
        Ok(pem::encode_config(&block, crate::pem_text::config()))
    }
}

fn from_der(der: &[u8]) -> Result<PublicKey, CsrError> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| CsrError::Unreadable)?;
    if !rest.is_empty() {
        return Err(CsrError::Unreadable);
    }
    let info = &request.certification_request_info;
    let key = PublicKey::from_spki(info.subject_pki.raw).map_err(CsrError::Key)?;
    let algorithm = algorithm(&request.signature_algorithm.algorithm).ok_or(CsrError::Algorithm)?;
    UnparsedPublicKey::new(algorithm, rcgen::PublicKeyData::der_bytes(&key))
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| CsrError::Possession)?;
    Ok(key)
}

fn algorithm(oid: &Oid<'_>) -> Option<&'static EcdsaVerificationAlgorithm> {
    let known = [
        (OID_SIG_ECDSA_WITH_SHA256, &ECDSA_P256_SHA256_ASN1),
        (OID_SIG_ECDSA_WITH_SHA384, &ECDSA_P256_SHA384_ASN1),
        (OID_SIG_ECDSA_WITH_SHA512, &ECDSA_P256_SHA512_ASN1),
    ];
    known.into_iter().find(|(known, _)| known == oid).map(|(_, algorithm)| algorithm)
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;

    use super::*;

    fn request(key: &PrivateKey) -> Vec<u8> {
        let params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn only_the_key_is_taken() {
        let key = PrivateKey::generate().unwrap();
        let der = request(&key);
        assert_eq!(&PublicKey::from_csr(&der).unwrap(), key.public());
        let text = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
        assert_eq!(&PublicKey::from_csr(text.as_bytes()).unwrap(), key.public());
    }

    #[test]
    fn a_key_asks_for_itself_and_names_nobody() {
        let key = PrivateKey::generate().unwrap();
        let der = key.to_csr().unwrap();
        assert_eq!(&PublicKey::from_csr(&der).unwrap(), key.public());
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        assert_eq!(request.certification_request_info.subject.to_string(), "");
    }

    #[test]
    fn a_request_for_another_ones_key_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let mut der = request(&key);
        // The last bytes are the signature's `s`.
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(PublicKey::from_csr(&der).unwrap_err(), CsrError::Possession);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [&b""[..], b"0", b"0\x80", b"hello", &[0x30; 100]] {
            assert_eq!(PublicKey::from_csr(bytes).unwrap_err(), CsrError::Unreadable);
        }
        let mut trailing = request(&PrivateKey::generate().unwrap());
        trailing.push(0);
        assert_eq!(PublicKey::from_csr(&trailing).unwrap_err(), CsrError::Unreadable);
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let der = CertificateParams::default().serialize_request(&other).unwrap();
        assert_eq!(PublicKey::from_csr(der.der()).unwrap_err(), CsrError::Key(KeyError::Kind));
    }
}
