//! A certificate authority: a certificate, its key, and what the two issue. The root makes the
//! others; a station's makes birth certificates, the master's everything else.

use std::cell::Cell;
#[cfg(feature = "token")]
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{Issuer, PublicKeyData, SerialNumber};
use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, Unreadable};
use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::name::{FleetName, HardwareSerial, MasterName, MinionId, StationName};
use crate::profile::Profile;
#[cfg(feature = "token")]
use crate::token::TokenKey;

/// Why a certificate could not be issued, or an authority not be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The authority's certificate cannot be read.
    #[error("the authority's certificate cannot be read")]
    Certificate(#[from] Unreadable),
    /// The certificate is not an authority's.
    #[error("`{subject}` is no certificate authority")]
    NoAuthority {
        /// The certificate's subject.
        subject: String,
    },
    /// The key does not belong to the certificate.
    #[error("the key is not that of the authority `{subject}`")]
    OtherKey {
        /// The certificate's subject.
        subject: String,
    },
    /// A key could not be made, or did not sign.
    #[error("the authority's key cannot be used")]
    Key(#[from] KeyError),
    /// rcgen refused, or signing failed.
    #[error("the certificate could not be made")]
    Issue(#[from] rcgen::Error),
}

/// An authority's key, wherever it is kept.
#[derive(Debug)]
pub enum AuthorityKey {
    /// In a file, and now in memory.
    File(PrivateKey),
    /// In a PKCS#11 token, which signs.
    #[cfg(feature = "token")]
    Token(Box<TokenKey>),
}

impl AuthorityKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::File(key) => key.public(),
            #[cfg(feature = "token")]
            Self::Token(key) => key.public(),
        }
    }

    /// Signs with ECDSA and SHA-256; the signature is in ASN.1's form, as X.509 has it.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::File(key) => key.sign(message),
            #[cfg(feature = "token")]
            Self::Token(key) => key.sign(message).map_err(|error| {
                let cause = error.source().map(|cause| format!(": {cause}"));
                KeyError::Token(format!("{error}{}", cause.unwrap_or_default()))
            }),
        }
    }
}

impl From<PrivateKey> for AuthorityKey {
    fn from(key: PrivateKey) -> Self {
        Self::File(key)
    }
}

#[cfg(feature = "token")]
impl From<TokenKey> for AuthorityKey {
    fn from(key: TokenKey) -> Self {
        Self::Token(Box::new(key))
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.public().der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.public().algorithm()
    }
}

impl rcgen::SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    der: CertificateDer<'static>,
    certificate: Certificate,
    key: Arc<AuthorityKey>,
}

impl Authority {
    /// Joins an authority's certificate and its key.
    pub fn new(
        der: CertificateDer<'static>,
        key: impl Into<AuthorityKey>,
    ) -> Result<Self, AuthorityError> {
        Self::with_key(der, Arc::new(key.into()))
    }

    /// The same authority by another certificate of its key: certified again, or for longer.
    pub fn with_certificate(&self, der: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        Self::with_key(der, Arc::clone(&self.key))
    }

    fn with_key(
        der: CertificateDer<'static>,
        key: Arc<AuthorityKey>,
    ) -> Result<Self, AuthorityError> {
        let certificate = Certificate::read(&der)?;
        if !certificate.is_ca {
            return Err(AuthorityError::NoAuthority { subject: certificate.subject });
        }
        if certificate.key != key.public().digest() {
            return Err(AuthorityError::OtherKey { subject: certificate.subject });
        }
        Ok(Self { der, certificate, key })
    }

    /// Makes a fleet's root, with a key of its own.
    pub fn create_root(fleet: &FleetName, now: Timestamp) -> Result<Self, AuthorityError> {
        Self::create_root_with(fleet, PrivateKey::generate()?, now)
    }

    /// Makes a fleet's root of a key that was made for it.
    pub fn create_root_with(
        fleet: &FleetName,
        key: impl Into<AuthorityKey>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        Self::create_root_as(&Profile::root(fleet), key, now)
    }

    /// Makes a root of any profile, of a key that was made for it.
    pub fn create_root_as(
        profile: &Profile,
        key: impl Into<AuthorityKey>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let key = key.into();
        let mut params = profile.params(now)?;
        params.serial_number = Some(random_serial()?);
        let der = with_cause(&key, |key| Ok(params.self_signed(key)?.der().clone()))?;
        Self::new(der, key)
    }

    /// Makes a station's authority. For the root.
    pub fn create_factory_ca(
        &self,
        station: &StationName,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let fleet = self.certificate.organization.as_deref().unwrap_or_default();
        self.create_authority(&Profile::factory_ca(fleet, station), now)
    }

    /// Makes the master's authority. For the root.
    pub fn create_fleet_ca(
        &self,
        fleet: &FleetName,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        self.create_authority(&Profile::fleet_ca(fleet), now)
    }

    /// Makes an authority of any profile, with a key of its own.
    pub fn create_authority(
        &self,
        profile: &Profile,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        self.create_authority_with(profile, PrivateKey::generate()?, now)
    }

    /// Makes an authority of any profile, of a key that was made for it.
    pub fn create_authority_with(
        &self,
        profile: &Profile,
        key: impl Into<AuthorityKey>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let key = key.into();
        let der = self.issue(profile, &key, now)?;
        Self::new(der, key)
    }

    /// Issues a birth certificate. For a station's authority.
    pub fn issue_idevid(
        &self,
        id: &MinionId,
        serial: &HardwareSerial,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        self.issue(&Profile::idevid(id, serial), key, now)
    }

    /// Issues an operational certificate. For the fleet CA.
    pub fn issue_ldevid(
        &self,
        id: &MinionId,
        serial: Option<&HardwareSerial>,
        key: &impl PublicKeyData,
        validity: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        self.issue(&Profile::ldevid(id, serial, validity), key, now)
    }

    /// Issues a master's certificate. For the fleet CA.
    pub fn issue_master(
        &self,
        name: &MasterName,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        self.issue(&Profile::master(name), key, now)
    }

    /// Issues a certificate of any profile, also one that this authority may not issue: who
    /// verifies refuses it, and tests show that.
    pub fn issue(
        &self,
        profile: &Profile,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = profile.params(now)?;
        params.serial_number = Some(random_serial()?);
        with_cause(&self.key, |signer| {
            let issuer = Issuer::from_ca_cert_der(&self.der, signer)?;
            Ok(params.signed_by(key, &issuer)?.der().clone())
        })
    }

    /// Its certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// What its certificate says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key.
    pub fn key(&self) -> &AuthorityKey {
        &self.key
    }
}

/// A key that remembers why it did not sign: rcgen's error has no room for it.
pub(crate) struct Signer<'a> {
    key: &'a AuthorityKey,
    failure: Cell<Option<KeyError>>,
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|error| {
            self.failure.set(Some(error));
            rcgen::Error::RemoteKeyError
        })
    }
}

/// Signs something with a key, and if that fails gives the key's own reason.
pub(crate) fn with_cause<T>(
    key: &AuthorityKey,
    sign: impl FnOnce(&Signer<'_>) -> Result<T, rcgen::Error>,
) -> Result<T, AuthorityError> {
    let signer = Signer { key, failure: Cell::new(None) };
    sign(&signer).map_err(|error| match signer.failure.take() {
        Some(failure) => AuthorityError::Key(failure),
        None => AuthorityError::Issue(error),
    })
}

/// 128 random bits, never zero (RFC 5280 §4.1.2.2 wants a positive number).
fn random_serial() -> Result<SerialNumber, KeyError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    if bytes == [0; 16] {
        return Err(KeyError::Random);
    }
    Ok(SerialNumber::from_slice(&bytes))
}
