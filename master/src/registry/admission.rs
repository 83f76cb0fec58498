//! Whether a minion that proved its key may connect: one decision, without I/O.

use std::fmt;

use drover_pki::verify::{MinionCertificate, MinionCertificateKind};
use jiff::Timestamp;

use super::entry::{Birth, Entry, Status};
use crate::config::Acceptance;

/// What to do with it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// It may connect.
    Admit,
    /// It may connect, and is remembered so.
    AdmitNew(Box<Entry>),
    /// It may not, and is remembered as one that waits.
    RefuseNew(Box<Entry>),
    /// It may not.
    Refuse(Reason),
}

/// Why a minion may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Pending,
    Rejected,
    Revoked,
    OtherKey,
    OtherStation,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => {
                "it waits to be accepted: import its station's manifest, or `drover key accept` it"
            }
            Self::Rejected => "it is rejected",
            Self::Revoked => "it is revoked",
            Self::OtherKey => "its factory key is not the one that is registered for this id",
            Self::OtherStation => "its station is not the one that is registered for this id",
        })
    }
}

/// Decides. `entry` is what the registry has of the certificate's id.
pub(super) fn decide(
    policy: Acceptance,
    entry: Option<&Entry>,
    shown: &MinionCertificate,
    now: Timestamp,
) -> Decision {
    let Some(entry) = entry.filter(|entry| entry.status != Status::Deleted) else {
        // A forgotten one comes back as a stranger, but what was said of manifests stays.
        let forgotten = entry.map_or(0, |entry| entry.forgotten);
        return stranger(policy, shown, forgotten, now);
    };
    match entry.status {
        Status::Revoked => return Decision::Refuse(Reason::Revoked),
        Status::Rejected => return Decision::Refuse(Reason::Rejected),
        Status::Pending => return Decision::Refuse(Reason::Pending),
        Status::Accepted | Status::Deleted => {}
    }
    match (birth(shown), &entry.birth) {
        (Some(shown), Some(known)) if shown.key != known.key => Decision::Refuse(Reason::OtherKey),
        (Some(shown), Some(known)) if shown.station != known.station => {
            Decision::Refuse(Reason::OtherStation)
        }
        // An operational certificate was issued by this fleet to the device that is accepted here.
        (Some(_) | None, Some(_)) | (None, None) => Decision::Admit,
        // The first birth certificate of an id binds it.
        (Some(shown), None) => {
            Decision::AdmitNew(Box::new(Entry { birth: Some(shown), ..entry.clone() }))
        }
    }
}

fn stranger(
    policy: Acceptance,
    shown: &MinionCertificate,
    forgotten: u64,
    now: Timestamp,
) -> Decision {
    let entry = |status| {
        let entry = Entry::new(shown.id.clone(), status, now, birth(shown));
        Box::new(Entry { forgotten, ..entry })
    };
    match policy {
        Acceptance::Auto => Decision::AdmitNew(entry(Status::Accepted)),
        Acceptance::Manual | Acceptance::Registered => Decision::RefuseNew(entry(Status::Pending)),
    }
}

fn birth(shown: &MinionCertificate) -> Option<Birth> {
    match &shown.kind {
        MinionCertificateKind::IDevId { station, .. } => Some(Birth {
            key: shown.key,
            station: station.clone(),
            serial: shown.hardware_serial.clone(),
        }),
        MinionCertificateKind::LDevId { .. } => None,
    }
}
