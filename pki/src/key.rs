//! ECDSA P-256 keys: made, read and written here, and zeroed when dropped. Nothing else in Drover
//! touches a private key's bytes, but for rustls, which is handed a copy.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::prelude::{BASE64_STANDARD, Engine};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::{Zeroize, Zeroizing};

use crate::certificate::is_p256;
use crate::fingerprint::KeyDigest;

/// How long a line of PEM is (RFC 7468).
const PEM_LINE: usize = 64;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PKCS#8 key in the PEM text.
    #[error("holds no `PRIVATE KEY` in PEM (PKCS#8)")]
    Pem,
    /// Not a P-256 key.
    #[error("is not an ECDSA P-256 key")]
    Kind,
    /// The system has no random numbers.
    #[error("no key could be made: the system's random numbers failed")]
    Random,
    /// The library refused to sign.
    #[error("signing failed")]
    Sign,
    /// A token shows no public half of its key.
    #[error("the token keeps no public key beside it")]
    Public,
    /// A token did not sign.
    #[error("the token did not sign: {0}")]
    Token(String),
}

/// A P-256 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER, which must be a point on P-256.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Kind)?;
        let point = spki.subject_public_key.data.to_vec();
        // An uncompressed point: RFC 5480 §2.2 lets implementations refuse the other form.
        if !rest.is_empty() || !is_p256(&spki) || point.len() != 65 || point[0] != 4 {
            return Err(KeyError::Kind);
        }
        aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            &point,
        )
        .parse()
        .map_err(|_| KeyError::Kind)?;
        Ok(Self { spki: der.to_vec(), point })
    }

    /// The `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its SHA-256.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.spki)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.digest())
    }
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A P-256 private key.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Makes a key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Random)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key in PKCS#8, DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|_| KeyError::Kind)?;
        Self::with_pair(pair, Zeroizing::new(der.to_vec()))
    }

    /// Reads a key in PEM: `PRIVATE KEY`, as everything here and `openssl genpkey` writes it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)?;
        let key = Self::from_pkcs8(der.secret_pkcs8_der());
        der.zeroize();
        key
    }

    fn with_pair(pair: EcdsaKeyPair, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeyError::Kind)?;
        let public = PublicKey::from_spki(spki.as_ref())?;
        Ok(Self { pair, public, pkcs8 })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key in PKCS#8, DER.
    #[cfg(feature = "token")]
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key in PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        // No library's encoder: it leaves copies behind, and so does a text that grows.
        let base64 = Zeroizing::new(BASE64_STANDARD.encode(self.pkcs8.as_slice()));
        let mut text = Zeroizing::new(String::with_capacity(2 * base64.len()));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END PRIVATE KEY-----\n");
        text
    }

    /// A copy for rustls, which wants to own it.
    pub fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// Signs with ECDSA and SHA-256; the signature is in ASN.1's form, as X.509 has it.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature =
            self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public.digest())
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = PrivateKey::generate().unwrap();
        let pem = key.to_pem();
        let block = pem::Pem::new("PRIVATE KEY", key.pkcs8.as_slice());
        assert_eq!(*pem, pem::encode_config(&block, crate::pem_text::config()));
        assert_eq!(PrivateKey::from_pem(pem.as_bytes()).unwrap().public(), key.public());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("PrivateKey(of {})", key.public().digest()));
    }

    #[test]
    fn what_is_no_p256_key_is_refused() {
        assert_eq!(PrivateKey::from_pem(b"nothing").unwrap_err(), KeyError::Pem);
        assert_eq!(PrivateKey::from_pkcs8(b"0").unwrap_err(), KeyError::Kind);
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&other);
        assert_eq!(PublicKey::from_spki(&spki).unwrap_err(), KeyError::Kind);
        assert_eq!(PrivateKey::from_pkcs8(other.serialized_der()).unwrap_err(), KeyError::Kind);
    }
}
