//! TLS as both ends use it: 1.3 only, aws-lc-rs, post-quantum hybrid first, both sides authenticated.
//! Sessions are never resumed, so every connection proves its key and is judged anew.

use std::sync::{Arc, LazyLock, OnceLock};

use drover_pki::certificate::Certificate;
use drover_pki::clock::{DeviceClock, Floor};
use drover_pki::verify::{
    CertificateError, MasterCertificate, MinionCertificate, TrustAnchors, verify_minion,
};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Every key of a fleet is ECDSA P-256.
const SIGNATURES: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

/// A certificate chain with its private key: what one end shows of itself.
#[derive(Debug, Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why a certificate and a key are no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The certificate file is not PEM, or holds no certificate.
    #[error("the certificate file holds no certificate in PEM")]
    Certificate(#[source] Option<pem::Error>),
    /// The key file is not PEM, or holds no private key.
    #[error("the key file holds no private key in PEM")]
    Key(#[source] pem::Error),
    /// The key cannot be used, or is not the certificate's.
    #[error("the private key does not belong to the certificate")]
    Pair(#[source] rustls::Error),
}

impl Identity {
    /// Reads a leaf followed by its issuing CA (`idevid.crt`, `ldevid.crt`, `master.crt`), and its key.
    ///
    /// # Errors
    /// If either cannot be read, or the two do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::Certificate(Some(error)))?;
        if chain.is_empty() {
            return Err(IdentityError::Certificate(None));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::Key)?;
        Self::from_der(chain, key)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// If the two do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        CertifiedKey::from_der(chain, key, &PROVIDER)
            .map(|certified| Self(Arc::new(certified)))
            .map_err(IdentityError::Pair)
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.0)))
    }
}

/// Judges one minion's certificate and keeps what it read, so that nobody has to read it twice.
#[derive(Debug)]
pub(super) struct MinionVerifier {
    anchors: Arc<TrustAnchors>,
    verified: OnceLock<MinionCertificate>,
    /// Boxed: an idle connection keeps the verifier.
    refused: OnceLock<Box<(String, CertificateError)>>,
}

impl MinionVerifier {
    pub(super) fn new(anchors: Arc<TrustAnchors>) -> Self {
        Self { anchors, verified: OnceLock::new(), refused: OnceLock::new() }
    }

    /// The certificate. Its key is proved only once the handshake is complete.
    pub(super) fn certificate(&self) -> Option<&MinionCertificate> {
        self.verified.get()
    }

    /// The issuer that a refused certificate names, in the stranger's own words, and why it was refused.
    pub(super) fn refused(&self) -> Option<(&str, &CertificateError)> {
        self.refused.get().map(|refused| (refused.0.as_str(), &refused.1))
    }
}

/// The master's side for one connection.
pub(super) fn server_config(identity: &Identity, verifier: Arc<MinionVerifier>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("aws-lc-rs has cipher suites for TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity.resolver());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Judges one master's certificate and keeps what it read.
#[derive(Debug)]
pub(super) struct MasterVerifier {
    anchors: Arc<TrustAnchors>,
    clock_floor: Option<Floor>,
    verified: OnceLock<(MasterCertificate, Vec<CertificateDer<'static>>)>,
}

impl MasterVerifier {
    pub(super) fn new(anchors: Arc<TrustAnchors>, clock_floor: Option<Floor>) -> Self {
        Self { anchors, clock_floor, verified: OnceLock::new() }
    }

    /// The certificate, and everything that was shown with it, itself first.
    pub(super) fn shown(&self) -> Option<&(MasterCertificate, Vec<CertificateDer<'static>>)> {
        self.verified.get()
    }
}

/// The minion's side for one connection.
pub(super) fn client_config(identity: &Identity, verifier: Arc<MasterVerifier>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("aws-lc-rs has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(identity.resolver());
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    config
}

/// The name that a `TlsConnector` asks for. It is neither sent nor compared: a master is known by its URI.
pub(super) fn any_master() -> ServerName<'static> {
    ServerName::try_from("drover-master").expect("the name is a valid DNS name")
}

impl ClientCertVerifier for MinionVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = verify_minion(&self.anchors, leaf, intermediates, now);
        let certificate = verified.map_err(|error| {
            let issuer = Certificate::read(leaf).map(|leaf| leaf.issuer).unwrap_or_default();
            self.refused.get_or_init(|| Box::new((issuer, error.clone())));
            refused(error)
        })?;
        self.verified.get_or_init(|| certificate);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.to_vec()
    }
}

impl ServerCertVerifier for MasterVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let clock = DeviceClock { system: now, floor: self.clock_floor };
        let certificate =
            clock.verify_master(&self.anchors, leaf, intermediates).map_err(refused)?;
        let shown = std::iter::once(leaf).chain(intermediates);
        let shown = shown.map(|der| der.clone().into_owned()).collect();
        self.verified.get_or_init(|| (certificate, shown));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.to_vec()
    }
}

/// Neither end offers TLS 1.2, so no peer can come to sign in it.
fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

/// Whether the peer has the key of the certificate that it showed.
fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = &PROVIDER.signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signed, algorithms)
}

/// Our reason inside rustls's error, so that the peer is sent the alert that fits and our log says why.
#[must_use]
pub fn refused(error: CertificateError) -> rustls::Error {
    use rustls::CertificateError as Alert;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have no alert of their own")]
    let alert = match error {
        CertificateError::UnknownIssuer => Alert::UnknownIssuer,
        CertificateError::Expired { .. } => Alert::Expired,
        CertificateError::NotYetValid { .. } => Alert::NotValidYet,
        CertificateError::Purpose { .. } => Alert::InvalidPurpose,
        other => Alert::Other(OtherError(Arc::new(other))),
    };
    rustls::Error::InvalidCertificate(alert)
}
