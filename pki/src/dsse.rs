//! Signed files: a DSSE envelope (Dead Simple Signing Envelope) around a payload, with each signer's certificate beside
//! its signature. A station's manifest is one, a fleet's root list another. Whether a signer counts is for the reader of
//! the payload to say.

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;

use crate::authority::Authority;
use crate::key::KeyError;
use crate::pem_text::{PemError, decode_certificates, encode_certificates};

/// Why a text is no envelope of the type that was looked for.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the envelope's JSON.
    #[error("the file is not a signed envelope")]
    Unreadable(#[source] serde_json::Error),
    /// A part that should be base64 is not.
    #[error("the envelope's `{part}` is not base64")]
    Base64 {
        /// The part's name.
        part: &'static str,
    },
    /// Another signed thing.
    #[error("the file is signed as `{found}`")]
    Type {
        /// The type that it states, cut.
        found: String,
    },
    /// A signer's certificate is missing.
    #[error("a signature does not carry its signer's certificate")]
    Certificate(#[source] PemError),
}

/// An envelope taken apart. Nothing in it is proven until [`Opened::is_signed_by`] says so.
#[derive(Debug)]
pub(crate) struct Opened {
    payload_type: &'static str,
    /// What is signed.
    pub(crate) payload: Vec<u8>,
    /// By whom, as they say.
    pub(crate) signatures: Vec<OpenedSignature>,
}

/// One signature of an envelope.
#[derive(Debug)]
pub(crate) struct OpenedSignature {
    /// The signer's own certificate.
    pub(crate) signer: CertificateDer<'static>,
    signature: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
    /// The signer's certificate, then whatever leads from it to the root, in PEM.
    cert: String,
}

/// Signs a payload, and gives the envelope's text. A signature counts for this type of payload alone.
pub(crate) fn seal(
    payload_type: &str,
    payload: &[u8],
    signers: &[&Authority],
) -> Result<String, KeyError> {
    let message = signed_bytes(payload_type, payload);
    let mut signatures = Vec::with_capacity(signers.len());
    for signer in signers {
        signatures.push(Signature {
            keyid: signer.certificate().key.to_string(),
            sig: BASE64_STANDARD.encode(signer.key().sign(&message)?),
            cert: encode_certificates(std::slice::from_ref(signer.der())),
        });
    }
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: BASE64_STANDARD.encode(payload),
        signatures,
    };
    let text = serde_json::to_string_pretty(&envelope).expect("strings have a JSON form");
    Ok(text + "\n")
}

/// Takes an envelope apart.
pub(crate) fn open(text: &[u8], payload_type: &'static str) -> Result<Opened, EnvelopeError> {
    let envelope: Envelope = serde_json::from_slice(text).map_err(EnvelopeError::Unreadable)?;
    if envelope.payload_type != payload_type {
        let found = envelope.payload_type.escape_debug().take(80).collect();
        return Err(EnvelopeError::Type { found });
    }
    let decode =
        |part, text: &str| BASE64_STANDARD.decode(text).map_err(|_| EnvelopeError::Base64 { part });
    let mut signatures = Vec::with_capacity(envelope.signatures.len());
    for signature in &envelope.signatures {
        let mut certificates =
            decode_certificates(signature.cert.as_bytes()).map_err(EnvelopeError::Certificate)?;
        let signer = certificates.swap_remove(0);
        signatures.push(OpenedSignature { signer, signature: decode("sig", &signature.sig)? });
    }
    Ok(Opened { payload_type, payload: decode("payload", &envelope.payload)?, signatures })
}

impl Opened {
    /// Whether this signature is by the key in this certificate.
    pub(crate) fn is_signed_by(
        &self,
        signature: &OpenedSignature,
        signer: &CertificateDer<'_>,
    ) -> bool {
        let message = signed_bytes(self.payload_type, &self.payload);
        EndEntityCert::try_from(signer).is_ok_and(|signer| {
            let algorithm = webpki::aws_lc_rs::ECDSA_P256_SHA256;
            signer.verify_signature(algorithm, &message, &signature.signature).is_ok()
        })
    }
}

/// DSSE's pre-authentication encoding: type and payload, each with its length, so that no two pairs
/// read alike.
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const TYPE: &str = "application/vnd.drover.test+json";

    #[test]
    fn every_signature_is_its_own_signers_and_no_other_types() {
        let now = Timestamp::constant(1_800_000_000, 0);
        let one = Authority::create_root(&"acme".parse().unwrap(), now).unwrap();
        let two = Authority::create_root(&"acme".parse().unwrap(), now).unwrap();
        let text = seal(TYPE, b"payload", &[&one, &two]).unwrap();
        let opened = open(text.as_bytes(), TYPE).unwrap();
        assert_eq!(opened.payload, b"payload");
        let [first, second] = opened.signatures.as_slice() else { panic!("{opened:?}") };
        assert!(opened.is_signed_by(first, one.der()) && opened.is_signed_by(second, two.der()));
        assert!(!opened.is_signed_by(first, two.der()));

        let other = Opened { payload_type: "another", ..open(text.as_bytes(), TYPE).unwrap() };
        assert!(!other.is_signed_by(&other.signatures[0], one.der()));
        assert!(matches!(open(text.as_bytes(), "another"), Err(EnvelopeError::Type { .. })));
    }
}
