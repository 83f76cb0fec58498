//! The roots that a fleet trusts: `root.crt`, which may hold several while one replaces another.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{CertificateError, SIGNATURES};
use crate::certificate::{Certificate, Unreadable};

/// Why bytes are no set of trusted roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Not one certificate in it.
    #[error("holds no certificate")]
    Empty,
    /// The PEM text is broken.
    #[error("is not valid PEM: {0}")]
    Pem(String),
    /// A certificate in it cannot be read.
    #[error("holds a certificate that cannot be read")]
    Certificate(#[source] Unreadable),
    /// A certificate in it is not an authority's.
    #[error("holds `{subject}`, which is no certificate authority")]
    NoAuthority {
        /// The certificate's subject.
        subject: String,
    },
}

/// The roots that chains must lead to, and authorities that are known without being shown: certified again by another
/// root, or roots certified by one another. Those are trusted no further than a root vouches for them.
#[derive(Debug, Clone)]
pub struct TrustAnchors {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    authorities: Vec<CertificateDer<'static>>,
}

impl TrustAnchors {
    /// Reads the roots in a PEM text, such as `root.crt`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AnchorError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        Self::new(certificates.map_err(|error| AnchorError::Pem(error.to_string()))?)
    }

    /// Trusts these certificates, in DER.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, AnchorError> {
        if certificates.is_empty() {
            return Err(AnchorError::Empty);
        }
        let mut anchors = Vec::with_capacity(certificates.len());
        for der in &certificates {
            let certificate = Certificate::read(der).map_err(AnchorError::Certificate)?;
            if !certificate.is_ca {
                return Err(AnchorError::NoAuthority { subject: certificate.subject });
            }
            let anchor = webpki::anchor_from_trusted_cert(der)
                .map_err(|error| AnchorError::Certificate(Unreadable(error.to_string())))?;
            anchors.push(anchor.to_owned());
        }
        Ok(Self { certificates, anchors, authorities: Vec::new() })
    }

    /// The same roots, and these authorities' certificates beside whatever a peer shows.
    #[must_use]
    pub fn with_authorities(self, authorities: Vec<CertificateDer<'static>>) -> Self {
        Self { authorities, ..self }
    }

    /// The authorities that are known without being shown.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The roots' certificates, in DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The roots as webpki and rustls take them.
    pub fn as_slice(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The certificate of this authority that one of the roots signed, where another root signed the one that was shown.
    pub(super) fn certified_again(&self, shown: &Certificate) -> Option<Certificate> {
        self.authorities.iter().find_map(|known| {
            let certificate = Certificate::read(known).ok()?;
            let is_same = certificate.key == shown.key
                && certificate.subject == shown.subject
                && certificate.uris == shown.uris;
            (is_same && self.has_issued(known)).then_some(certificate)
        })
    }

    /// Whether one of the roots signed this authority's certificate. Nothing else is looked at.
    pub fn has_issued(&self, authority: &CertificateDer<'_>) -> bool {
        self.verify_issued(authority).is_ok()
    }

    /// The same, with a reason.
    pub(super) fn verify_issued(
        &self,
        issued: &CertificateDer<'_>,
    ) -> Result<(), CertificateError> {
        // For its refusal of critical extensions that it does not know.
        EndEntityCert::try_from(issued).map_err(CertificateError::from_path)?;
        let unreadable = |error: &dyn std::fmt::Display| Unreadable(error.to_string());
        let (_, x509) = X509Certificate::from_der(issued).map_err(|error| unreadable(&error))?;
        let trusted = self.certificates.iter().any(|root| {
            let Ok((_, root_x509)) = X509Certificate::from_der(root) else { return false };
            let Ok(root) = EndEntityCert::try_from(root) else { return false };
            root_x509.subject().as_raw() == x509.issuer().as_raw()
                && x509.signature_algorithm == x509.tbs_certificate.signature
                && x509.signature_algorithm.algorithm
                    == x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256
                && SIGNATURES.iter().any(|algorithm| {
                    let signature = &x509.signature_value.data;
                    root.verify_signature(*algorithm, x509.tbs_certificate.as_ref(), signature)
                        .is_ok()
                })
        });
        if trusted { Ok(()) } else { Err(CertificateError::UnknownIssuer) }
    }
}
