//! Certificates as PEM text (RFC 7468), as the identity files hold them: a leaf, then its issuer.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A text without a certificate, or with a broken one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Not one `CERTIFICATE` in it.
    #[error("holds no certificate in PEM")]
    Empty,
    /// A block is broken.
    #[error("is not valid PEM: {0}")]
    Broken(String),
}

/// Writes certificates one after the other.
pub fn encode_certificates(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|der| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.as_ref()), config()))
        .collect()
}

/// Reads every certificate in a text; there is at least one.
pub fn decode_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|error| PemError::Broken(error.to_string()))?;
    if certificates.is_empty() { Err(PemError::Empty) } else { Ok(certificates) }
}

pub(crate) fn config() -> pem::EncodeConfig {
    pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)
}
