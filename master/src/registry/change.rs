//! What an operator or a manifest makes of an entry: decisions without I/O.

use drover_pki::manifest::{Manifest, ManifestEntry};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::entry::{Birth, Entry, Status};
use crate::config::Acceptance;

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
        forgotten.renounce_operational(now);
        return Ok(Some(forgotten));
    }
    if status == entry.status {
        // A reason may be given later, and what is so stays so since when it was.
        let explained = reason.filter(|reason| entry.reason.as_deref() != Some(reason));
        let explained =
            explained.map(|reason| Entry { reason: Some(reason.into()), ..entry.clone() });
        return Ok(explained);
    }
    let reason = reason.map(Into::into);
    Ok(Some(Entry { status, since: now, reason, ..entry.clone() }))
}

/// Why a device of a manifest was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// The id has another factory key here.
    OtherKey,
    /// The id belongs to another station here.
    OtherStation,
    /// The id is revoked here.
    Revoked,
    /// The id was deleted here after that manifest was made.
    Deleted,
}

/// What a manifest makes of one of its devices.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Registration {
    /// Registered by it.
    New(Box<Entry>),
    /// Known already; the entry is given where something else about it changes.
    Known(Option<Box<Entry>>),
    /// Refused.
    Refused(Conflict),
}

/// Registers a device of a manifest.
pub(super) fn register(
    policy: Acceptance,
    manifest: &Manifest,
    device: &ManifestEntry,
    entry: Option<&Entry>,
    now: Timestamp,
) -> Registration {
    let birth = Birth {
        key: device.key,
        station: manifest.station.clone(),
        serial: Some(device.serial.clone()),
    };
    let fresh = |before: Option<&Entry>| {
        let status = match policy {
            Acceptance::Registered | Acceptance::Auto => Status::Accepted,
            Acceptance::Manual => Status::Pending,
        };
        let entry =
            before.cloned().unwrap_or_else(|| Entry::new(device.id.clone(), status, now, None));
        Registration::New(Box::new(Entry {
            status,
            since: now,
            reason: None,
            birth: Some(birth.clone()),
            manifest: manifest.number,
            enrolled: device.grains.clone(),
            ..entry
        }))
    };
    let Some(entry) = entry else { return fresh(None) };
    if entry.manifest == 0 && manifest.number <= entry.forgotten {
        return Registration::Refused(Conflict::Deleted);
    }
    match (entry.status, &entry.birth) {
        // It stays known which certificates are another device's.
        (Status::Deleted, _) => fresh(Some(entry)),
        (Status::Revoked, Some(known)) if *known == birth => Registration::Known(None),
        (Status::Revoked, _) => Registration::Refused(Conflict::Revoked),
        // A stranger's own word is worth less than the station's.
        (Status::Pending, _) if entry.manifest == 0 => fresh(Some(entry)),
        (_, Some(known)) if known.station != birth.station => {
            Registration::Refused(Conflict::OtherStation)
        }
        (_, Some(known)) if known.key != birth.key => Registration::Refused(Conflict::OtherKey),
        // Accepted or rejected by hand: the manifest brings what the station knows, not a verdict.
        (Status::Accepted | Status::Rejected | Status::Pending, _) => {
            let changed = Entry {
                birth: Some(birth),
                manifest: manifest.number.max(entry.manifest),
                enrolled: device.grains.clone(),
                ..entry.clone()
            };
            let is_older = manifest.number < entry.manifest;
            Registration::Known((!is_older && changed != *entry).then(|| Box::new(changed)))
        }
    }
}
