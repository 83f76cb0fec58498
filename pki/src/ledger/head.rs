//! The ledger's signed head: how far it goes, in an envelope signed by the station's authority. The
//! chain alone cannot show that its end was cut off.

use std::path::Path;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::check::HeadFault;
use super::line::Head;
use crate::authority::Authority;
use crate::dsse;
use crate::file::FileError;
use crate::key::KeyError;

/// The head that counts.
pub(super) const HEAD: &str = "ledger.head";
/// The head of the line that is about to be appended.
pub(super) const NEXT_HEAD: &str = "ledger.head.next";

/// What is signed is a ledger's head, and no signature of it counts for anything else.
const PAYLOAD_TYPE: &str = "application/vnd.drover.ledger-head+json";

#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(flatten)]
    head: Head,
    at: Timestamp,
}

/// Signs a head. The text is the head's file.
pub(super) fn seal(head: Head, at: Timestamp, authority: &Authority) -> Result<String, KeyError> {
    let payload = serde_json::to_vec(&Payload { head, at }).expect("a head has a JSON form");
    dsse::seal(PAYLOAD_TYPE, &payload, &[authority])
}

/// Reads a head's file, and believes it if `signer` signed it.
pub(super) fn read(
    path: &Path,
    signer: &CertificateDer<'_>,
) -> Result<Result<Head, HeadFault>, FileError> {
    match crate::file::read(path) {
        Ok(text) => Ok(open(&text, signer)),
        Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Err(HeadFault::Missing))
        }
        Err(error) => Err(error),
    }
}

fn open(text: &[u8], signer: &CertificateDer<'_>) -> Result<Head, HeadFault> {
    let opened = dsse::open(text, PAYLOAD_TYPE).map_err(|_| HeadFault::Unreadable)?;
    let [signature] = opened.signatures.as_slice() else { return Err(HeadFault::Unreadable) };
    if !opened.is_signed_by(signature, signer) {
        return Err(HeadFault::Forged);
    }
    let payload: Payload =
        serde_json::from_slice(&opened.payload).map_err(|_| HeadFault::Unreadable)?;
    Ok(payload.head)
}
