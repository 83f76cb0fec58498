//! Who needs an authority: what a fleet would lose with it. Decided from the registry, without I/O.

use std::collections::BTreeSet;

use drover_pki::{KeyDigest, MinionId, StationName};
use jiff::Timestamp;
use serde::Serialize;

use super::RootSet;
use crate::registry::{Entry, Sighting, Status};

/// The devices that need a root or a fleet CA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Need {
    /// They trust none of the roots that would remain, as far as they have said. Only the cross-certificates that the
    /// master goes on showing bring them back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<MinionId>,
    /// They were never here, so nobody knows what they trust.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_seen: Vec<MinionId>,
    /// They hold certificates from it that have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<MinionId>,
    /// Nothing that they have would be accepted any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<MinionId>,
}

impl Need {
    /// Whether nobody needs it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.behind.is_empty()
            && self.never_seen.is_empty()
            && self.holders.is_empty()
            && self.lost.is_empty()
    }

    /// Whether it is needed, as far as anybody knows, by none but devices that were never here.
    #[must_use]
    pub fn is_never_seen_alone(&self) -> bool {
        !self.never_seen.is_empty()
            && self.behind.is_empty()
            && self.holders.is_empty()
            && self.lost.is_empty()
    }

    /// In a sentence: who, and what becomes of them.
    #[must_use]
    pub fn told(&self) -> String {
        let parts = [
            (&self.behind, "devices that trust no other root"),
            (&self.never_seen, "devices that were never here, so nobody knows what they trust"),
            (&self.holders, "devices that hold certificates from it"),
            (&self.lost, "devices that have no certificate that would be accepted without it"),
        ];
        let told = parts.into_iter().filter(|(devices, _)| !devices.is_empty());
        let told = told.map(|(devices, what)| format!("{what} ({})", some(devices)));
        told.collect::<Vec<_>>().join("; ")
    }
}

/// What is known of a root's absence.
#[derive(Debug)]
pub(super) struct WithoutRoot {
    /// The roots that remain.
    pub(super) roots: RootSet,
    /// The stations whose authorities one of them certified.
    pub(super) stations: BTreeSet<StationName>,
}

impl WithoutRoot {
    pub(super) fn add(&self, entry: &Entry, sighting: &Sighting, need: &mut Need) {
        if entry.status != Status::Accepted {
            return;
        }
        if !sighting.roots.meets(self.roots) {
            let list =
                if sighting.last_seen.is_none() { &mut need.never_seen } else { &mut need.behind };
            list.push(entry.id.clone());
        }
        if let Some(birth) = &entry.birth
            && !self.stations.contains(&birth.station)
        {
            need.lost.push(entry.id.clone());
        }
    }
}

/// What becomes of a device when a fleet CA is dropped: it comes back by its birth certificate, if it has one.
pub(super) fn without_fleet_ca(issuer: &KeyDigest, entry: &Entry, now: Timestamp, need: &mut Need) {
    if entry.status != Status::Accepted {
        return;
    }
    let Some(operational) = &entry.operational else { return };
    let current = operational.current();
    if current.issuer == *issuer && current.expires > now {
        need.holders.push(entry.id.clone());
        if entry.birth.is_none() {
            need.lost.push(entry.id.clone());
        }
    }
}

fn some(devices: &[MinionId]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<_> = devices.iter().map(MinionId::as_str).collect();
    names.sort_unstable();
    names.truncate(SHOWN);
    match devices.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use drover_pki::KeyDigest;

    use super::*;
    use crate::registry::Birth;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn device(id: &str, station: &str) -> Entry {
        let birth = Birth {
            key: KeyDigest::of(id.as_bytes()),
            station: station.parse().unwrap(),
            serial: None,
            certificate: None,
        };
        Entry::new(id.parse().unwrap(), Status::Accepted, NOW, Some(birth))
    }

    fn trusting(roots: &[u32]) -> Sighting {
        let roots = roots.iter().fold(RootSet::default(), |set, root| set.with(RootSet::of(*root)));
        Sighting { roots, last_seen: Some(NOW), ..Sighting::default() }
    }

    #[test]
    fn who_trusts_another_root_and_has_a_certified_station_needs_no_old_one() {
        let without = WithoutRoot {
            roots: RootSet::of(2),
            stations: BTreeSet::from(["line-1".parse().unwrap()]),
        };
        let need = |entry: &Entry, sighting: &Sighting| {
            let mut need = Need::default();
            without.add(entry, sighting, &mut need);
            need
        };
        assert!(need(&device("a", "line-1"), &trusting(&[1, 2])).is_none());
        assert_eq!(need(&device("a", "line-1"), &trusting(&[1])).behind.len(), 1);
        assert_eq!(need(&device("a", "line-1"), &trusting(&[])).behind.len(), 1);
        assert_eq!(need(&device("a", "line-1"), &Sighting::default()).never_seen.len(), 1);
        assert_eq!(need(&device("a", "line-9"), &trusting(&[2])).lost.len(), 1);
        let revoked = Entry { status: Status::Revoked, ..device("a", "line-9") };
        assert!(need(&revoked, &trusting(&[1])).is_none());
    }

    #[test]
    fn what_is_lost_is_told_in_a_sentence() {
        let ids = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let need = Need {
            behind: ids(&["a"]),
            holders: ids(&["f", "b", "c", "d", "e", "a"]),
            ..Need::default()
        };
        assert_eq!(
            need.told(),
            "devices that trust no other root (a); devices that hold certificates from it (a, b, c, d, e and 1 more)"
        );
    }
}
