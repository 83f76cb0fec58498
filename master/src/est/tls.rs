//! EST's end of TLS: 1.3 alone, a certificate of its own from the fleet CA, kept in memory and made
//! anew half-way, and devices that may show theirs or not. Who shows one that is not of this fleet is refused
//! before any HTTP.

use std::{sync::Arc, time::Duration};

use drover_pki::{
    Authority, Fingerprint, PrivateKey, Profile,
    authority::AuthorityError,
    host::Host,
    key::KeyError,
    verify::{MinionCertificate, verify_minion},
};
use drover_proto::tunnel::refused;
use jiff::{SignedDuration, Timestamp};
use rustls::{
    DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{Shared, Trust};

/// How long the server's certificate lasts.
const VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// When it is made anew.
const RENEWAL: SignedDuration = SignedDuration::from_hours(15 * 24);

/// Why there is no certificate for the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("make a key for EST's server certificate")]
    Key(#[from] KeyError),
    #[error("issue EST's server certificate")]
    Issue(#[from] AuthorityError),
    #[error("use EST's server certificate")]
    Use(#[from] rustls::Error),
}

/// What the server shows now.
pub(super) struct Shown {
    authority: Fingerprint,
    trust: Arc<Trust>,
    issued: Timestamp,
    pub(super) config: Arc<ServerConfig>,
}

impl Shown {
    /// Certifies a new key. Takes its time where the fleet CA's key is in a token.
    pub(super) fn make(
        authority: &Authority,
        hosts: Vec<Host>,
        shared: &Arc<Shared>,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let trust = shared.trust();
        let key = PrivateKey::generate()?;
        let leaf = authority.issue(&Profile::est_server(hosts, VALIDITY), &key, now)?;
        let mut chain = vec![leaf, authority.der().clone()];
        chain.extend(trust.cross.iter().cloned());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            Arc::new(DeviceVerifier { shared: shared.clone(), provider: provider.clone() });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key.to_rustls())?;
        // As on the minions' port: every connection proves its key and is judged anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let authority = authority.certificate().fingerprint;
        Ok(Self { authority, trust, issued: now, config: Arc::new(config) })
    }

    /// Whether it is to be made anew: half its time is over, or what it rests on has changed.
    pub(super) fn is_due(&self, authority: &Authority, trust: &Arc<Trust>, now: Timestamp) -> bool {
        authority.certificate().fingerprint != self.authority
            || !Arc::ptr_eq(trust, &self.trust)
            || now.duration_since(self.issued).abs() >= RENEWAL
    }
}

impl Shared {
    /// Whom a chain speaks for. `simpleenroll` answers with the leaf alone, so a client may well show
    /// no more than that: the fleet CA is known here.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<MinionCertificate, rustls::Error> {
        let own = self.operational.authority().map(|authority| authority.der().clone());
        let known: Vec<_> = intermediates.iter().cloned().chain(own).collect();
        verify_minion(&self.trust().anchors, leaf, &known, now).map_err(refused)
    }
}

/// Takes a device's certificate, and none as well.
struct DeviceVerifier {
    shared: Arc<Shared>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for DeviceVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceVerifier")
    }
}

impl ClientCertVerifier for DeviceVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.shared.verify(leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // Every key of a fleet is ECDSA P-256.
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
