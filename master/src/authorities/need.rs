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
    /// They were never here, so nobody knows what they trust. What is in this list alone comes back by the
    /// cross-certificates, and stands in no drop's way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_seen: Vec<MinionId>,
    /// They hold certificates from it that have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<MinionId>,
    /// They could not come back: nothing that they have would be accepted any more, or nothing would lead them from the
    /// root that they trust to this master.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<MinionId>,
}

impl Need {
    /// Whether nobody is known to need it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.behind.is_empty() && self.holders.is_empty() && self.lost.is_empty()
    }

    /// In a sentence: who, and what becomes of them.
    #[must_use]
    pub fn told(&self) -> String {
        let parts = [
            (&self.behind, "devices that trust no other root"),
            (&self.holders, "devices that hold certificates from it"),
            (&self.lost, "devices that could not come back without it"),
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
    /// Whether cross-certificates lead to one of them from each root that goes.
    pub(super) has_way: bool,
    /// The stations whose authorities one of them certified, each that is known by that name.
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
        let is_left_behind = !self.has_way && !sighting.roots.meets(self.roots);
        let is_refused =
            entry.birth.as_ref().is_some_and(|birth| !self.stations.contains(&birth.station));
        if is_left_behind || is_refused {
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
            has_way: true,
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
        let never_here = need(&device("a", "line-1"), &Sighting::default());
        assert!(never_here.is_none(), "the cross-certificates bring it");
        assert_eq!(never_here.never_seen.len(), 1);
        let never_here = need(&device("a", "line-9"), &Sighting::default());
        assert_eq!((never_here.is_none(), never_here.lost.len()), (false, 1));
        assert_eq!(need(&device("a", "line-9"), &trusting(&[2])).lost.len(), 1);
        let revoked = Entry { status: Status::Revoked, ..device("a", "line-9") };
        assert!(need(&revoked, &trusting(&[1])).is_none());
        let without = WithoutRoot { has_way: false, ..without };
        let mut left = Need::default();
        without.add(&device("a", "line-1"), &Sighting::default(), &mut left);
        without.add(&device("b", "line-1"), &trusting(&[2]), &mut left);
        assert_eq!(left.lost, ["a".parse().unwrap()]);
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
