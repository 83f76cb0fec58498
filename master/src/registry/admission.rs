//! Whether a minion that proved its key may connect, and what for: one decision, without I/O.

use std::fmt;

use drover_pki::verify::{MinionCertificate, MinionCertificateKind};
use drover_proto::message::Scope;
use jiff::Timestamp;

use super::{
    certificates::{IssuedCertificate, OperationalCertificates, Standing},
    entry::{Birth, Entry, Status},
};
use crate::config::Acceptance;

/// What a decision is made by, beside what is known of the minion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Which strangers are accepted.
    pub(super) policy: Acceptance,
    /// Whether this master issues operational certificates: who shows a birth certificate then comes for one.
    pub(super) issues: bool,
    /// Whether the station whose authority issued the birth certificate is not trusted any more.
    pub(super) is_station_revoked: bool,
}

/// What to do with it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// It may connect.
    Admit(Scope),
    /// It may connect, and is remembered so.
    AdmitNew(Box<Entry>, Scope),
    /// It may not, and is remembered as one that waits.
    RefuseNew(Box<Entry>),
    /// It may not.
    Refuse(Reason),
}

impl Decision {
    /// What it may connect for, if it may.
    pub(super) const fn scope(&self) -> Option<Scope> {
        match self {
            Self::Admit(scope) | Self::AdmitNew(_, scope) => Some(*scope),
            Self::RefuseNew(_) | Self::Refuse(_) => None,
        }
    }
}

/// Why a minion may not connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Dropped,
    Pending,
    Rejected,
    Revoked,
    OtherKey,
    OtherStation,
    RevokedStation,
    /// The sign of a clone: a device that lost its newer certificate comes back with its birth certificate.
    Superseded,
    Outdated,
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
            Self::RevokedStation => "its station is revoked, and it was not registered before",
            Self::Dropped => "the fleet CA that issued its operational certificate was dropped",
            Self::Superseded => "a newer operational certificate of this id is in use",
            Self::Outdated => {
                "its operational certificate is from before the id was deleted or enrolled anew"
            }
        })
    }
}

/// Decides. `entry` is what the registry has of the certificate's id.
pub(super) fn decide(
    rules: Rules,
    entry: Option<&Entry>,
    shown: &MinionCertificate,
    now: Timestamp,
) -> Decision {
    if let Some(refused) = entry.and_then(|entry| status_refuses(entry.status)) {
        return Decision::Refuse(refused);
    }
    match &shown.kind {
        MinionCertificateKind::IDevId { station, .. } => {
            let serial = shown.hardware_serial.clone();
            let (key, certificate) = (shown.key, Some(shown.fingerprint));
            let birth = Birth { key, station: station.clone(), serial, certificate };
            let scope = if rules.issues { Scope::Renewal } else { Scope::Full };
            decide_birth(rules, entry, birth, scope, shown, now)
        }
        MinionCertificateKind::LDevId { .. } => decide_operational(rules, entry, shown, now),
    }
}

const fn status_refuses(status: Status) -> Option<Reason> {
    match status {
        Status::Revoked => Some(Reason::Revoked),
        Status::Rejected => Some(Reason::Rejected),
        Status::Pending => Some(Reason::Pending),
        Status::Accepted | Status::Deleted => None,
    }
}

fn decide_birth(
    rules: Rules,
    entry: Option<&Entry>,
    birth: Birth,
    scope: Scope,
    shown: &MinionCertificate,
    now: Timestamp,
) -> Decision {
    // Whoever has a stolen station's authority can make any device; those that were bound to it before are known by
    // their keys.
    let known = entry.filter(|entry| entry.status != Status::Deleted);
    if rules.is_station_revoked && known.is_none_or(|known| known.birth.is_none()) {
        return Decision::Refuse(Reason::RevokedStation);
    }
    let Some(known) = known else {
        return match rules.policy {
            Acceptance::Auto => {
                let entry = stranger(entry, shown, Status::Accepted, Some(birth), now);
                Decision::AdmitNew(Box::new(entry), scope)
            }
            Acceptance::Manual | Acceptance::Registered => {
                let entry = stranger(entry, shown, Status::Pending, Some(birth), now);
                Decision::RefuseNew(Box::new(entry))
            }
        };
    };
    match &known.birth {
        Some(known) if known.key != birth.key => Decision::Refuse(Reason::OtherKey),
        Some(known) if known.station != birth.station => Decision::Refuse(Reason::OtherStation),
        Some(_) => Decision::Admit(scope),
        // The first birth certificate of an id binds it.
        None => {
            let entry = Entry { birth: Some(birth), ..known.clone() };
            Decision::AdmitNew(Box::new(entry), scope)
        }
    }
}

/// An operational certificate was issued by this fleet to the device that is accepted here, or to one before it.
fn decide_operational(
    rules: Rules,
    entry: Option<&Entry>,
    shown: &MinionCertificate,
    now: Timestamp,
) -> Decision {
    let certificate = IssuedCertificate::shown(shown);
    if let Some(entry) = entry {
        match entry.standing(certificate.fingerprint, certificate.issued) {
            None => return Decision::Refuse(Reason::Outdated),
            Some(Standing::Superseded) => return Decision::Refuse(Reason::Superseded),
            Some(Standing::Known | Standing::New) => {}
        }
    }
    match (entry.map(|entry| entry.status), rules.policy) {
        (Some(Status::Accepted), _) => Decision::Admit(Scope::Full),
        (_, Acceptance::Auto) => {
            let entry = Entry {
                operational: Some(Box::new(OperationalCertificates::new(certificate))),
                ..stranger(entry, shown, Status::Accepted, None, now)
            };
            Decision::AdmitNew(Box::new(entry), Scope::Full)
        }
        (_, Acceptance::Manual | Acceptance::Registered) => {
            let entry = stranger(entry, shown, Status::Pending, None, now);
            Decision::RefuseNew(Box::new(entry))
        }
    }
}

/// A forgotten one comes back as a stranger, but what was said of manifests and certificates stays.
fn stranger(
    forgotten: Option<&Entry>,
    shown: &MinionCertificate,
    status: Status,
    birth: Option<Birth>,
    now: Timestamp,
) -> Entry {
    let entry = Entry::new(shown.id.clone(), status, now, birth);
    match forgotten {
        Some(before) => Entry {
            forgotten: before.forgotten,
            operational_after: before.operational_after,
            ..entry
        },
        None => entry,
    }
}

#[cfg(test)]
mod tests;
