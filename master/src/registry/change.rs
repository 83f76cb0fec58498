//! What an operator makes of an entry: decisions without I/O.

use drover_pki::crl::RevocationReason;
use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::entry::{Entry, Status};
use crate::crl;

/// What an operator does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// It may connect.
    Accept,
    /// It may not.
    Reject,
    /// It may not any more, whatever certificates it has.
    Revoke,
    /// Forget it.
    Delete,
}

/// Why a key stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerbError {
    /// Nobody knows the id.
    #[error("there is no minion `{0}`")]
    Unknown(String),
    /// Only who may connect can be told to end.
    #[error("`{0}` is not accepted, but {word}", word = .1.word())]
    NotAccepted(String, Status),
    /// Its day has come.
    #[error("`{0}` is retiring already, which cannot be changed or taken back any more")]
    Retiring(String),
    /// Revoked is for good.
    #[error("`{0}` is revoked, which cannot be taken back")]
    Revoked(String),
}

impl VerbError {
    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "`drover key list` shows the ids that are known",
            Self::NotAccepted(_, Status::Revoked) => "what is revoked is out of service already",
            Self::NotAccepted(..) => "`drover key accept` lets it connect",
            Self::Retiring(_) => {
                "`drover key show` says how its service ends; `drover key revoke` ends it now"
            }
            Self::Revoked(_) => {
                "delete the id, enrol the device again with a new key, and import the new manifest"
            }
        }
    }
}

/// The entry after the operator's verb; `None` where it stays as it is.
pub(super) fn apply(
    verb: Verb,
    reason: Option<&str>,
    entry: Option<&Entry>,
    id: &str,
    newest_manifest: u64,
    now: Timestamp,
) -> Result<Option<Entry>, VerbError> {
    let entry = entry
        .filter(|entry| entry.status != Status::Deleted)
        .ok_or_else(|| VerbError::Unknown(id.to_owned()))?;
    let status = match (verb, entry.status) {
        (Verb::Accept | Verb::Reject, Status::Revoked) => {
            return Err(VerbError::Revoked(id.to_owned()));
        }
        (Verb::Accept, _) => Status::Accepted,
        (Verb::Reject, _) => Status::Rejected,
        (Verb::Revoke, _) => Status::Revoked,
        (Verb::Delete, _) => Status::Deleted,
    };
    if verb == Verb::Delete {
        // Nothing of it is kept but that manifests up to this one do not bring it back, and no certificate issued until now.
        let mut forgotten = Entry::new(entry.id.clone(), Status::Deleted, now, None);
        forgotten.forgotten = newest_manifest.max(entry.manifest).max(entry.forgotten);
        let mut renounced = entry.clone();
        renounced.renounce_operational(now);
        forgotten.operational_after = renounced.operational_after;
        return Ok(Some(forgotten));
    }
    if status == entry.status {
        // What the station revoked is so for good once an operator says it too.
        if entry.station_revoked {
            return Ok(Some(Entry { station_revoked: false, ..entry.clone() }));
        }
        // A reason may be given later, and what is so stays so since when it was.
        let explained = reason.filter(|reason| entry.reason.as_deref() != Some(reason));
        let explained =
            explained.map(|reason| Entry { reason: Some(reason.into()), ..entry.clone() });
        return Ok(explained);
    }
    let reason = reason.map(Into::into);
    Ok(Some(Entry { status, since: now, reason, ..entry.clone() }))
}

/// Why a change takes the device's operational certificates back, if it does.
pub(super) fn revocation_reason(before: &Entry, after: &Entry) -> Option<RevocationReason> {
    match after.status {
        Status::Revoked if before.status != Status::Revoked => {
            Some(crl::reason(after.reason.as_deref()))
        }
        Status::Deleted => Some(RevocationReason::CessationOfOperation),
        Status::Accepted | Status::Pending | Status::Rejected | Status::Revoked => {
            let was_renounced = before.operational.is_some() && after.operational.is_none();
            was_renounced.then_some(RevocationReason::Superseded)
        }
    }
}
