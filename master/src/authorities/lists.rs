//! Which root list a device is to follow next: decided from what it says it trusts. Read by the hub for each device that
//! comes, so it is small and in memory.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use drover_pki::{
    Fingerprint, KeyDigest, certificate::Certificate, root_list::SignedRootList, rotation,
};
use serde::{Deserialize, Serialize};

/// The roots that a device trusts, one bit for each by its place in the fleet's series. A device's own word, which counts
/// for itself alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootSet(u32);

impl RootSet {
    /// The root of that place in the series, from 1.
    #[must_use]
    pub const fn of(generation: u32) -> Self {
        // A fleet that replaces its root every year has thirty-two years.
        Self(if generation >= 1 && generation <= 32 { 1 << (generation - 1) } else { 0 })
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one root is in both.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it has none: the device has not said.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a whole, to be left out of what is stored where it says nothing.
    #[must_use]
    pub const fn is_unsaid(&self) -> bool {
        self.is_empty()
    }
}

/// The lists that are in force, and who issues now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RootLists(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By number.
    lists: Vec<Listed>,
    /// Every root that was ever trusted, by its certificate.
    roots: Vec<(Fingerprint, RootSet)>,
    /// The key of the fleet CA that issues.
    issuer: Option<KeyDigest>,
}

#[derive(Debug)]
struct Listed {
    number: u64,
    signers: RootSet,
    roots: RootSet,
    text: Bytes,
}

impl RootLists {
    /// From now on these lists, oldest first, and roots that no list names.
    pub(super) fn replace(&self, lists: &[SignedRootList], others: &[Certificate]) {
        let mut roots: Vec<(Fingerprint, RootSet)> = Vec::new();
        let listed = lists.iter().flat_map(|signed| &signed.list.roots);
        let listed = listed.filter_map(|der| Certificate::read(der).ok());
        for root in listed.chain(others.iter().cloned()) {
            let place = RootSet::of(rotation::generation(&root));
            if !roots.iter().any(|(known, _)| *known == root.fingerprint) {
                roots.push((root.fingerprint, place));
            }
        }
        let signers = |signed: &SignedRootList| {
            let signers = signed.signers.iter().map(|signer| place_of(&roots, &signer.certificate));
            signers.fold(RootSet::default(), RootSet::with)
        };
        let listed = |signed: &SignedRootList| {
            let places =
                signed.list.roots.iter().map(|root| place_of(&roots, &Fingerprint::of(root)));
            places.fold(RootSet::default(), RootSet::with)
        };
        let lists = lists
            .iter()
            .map(|signed| Listed {
                number: signed.list.number,
                signers: signers(signed),
                roots: listed(signed),
                text: Bytes::copy_from_slice(&signed.text),
            })
            .collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        (known.lists, known.roots) = (lists, roots);
    }

    /// From now on the fleet CA with this key issues.
    pub(super) fn set_issuer(&self, issuer: Option<KeyDigest>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).issuer = issuer;
    }

    /// The roots that a device says it trusts, as far as they are the fleet's.
    #[must_use]
    pub fn known(&self, roots: &[Fingerprint]) -> RootSet {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // A device's word may be long.
        let roots = roots.iter().take(32).map(|root| place_of(&known.roots, root));
        roots.fold(RootSet::default(), RootSet::with)
    }

    /// The signed lists that a device should follow, one after the other: always the newest that a root signed which it
    /// trusts by then. One that is up to date gets none, one that slept for long a few.
    #[must_use]
    pub fn after(&self, root_list: u64, trusted: RootSet) -> Vec<Bytes> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (mut number, mut trusted) = (root_list, trusted);
        let mut way = Vec::new();
        loop {
            let mut newer = known.lists.iter().rev().take_while(|list| list.number > number);
            let Some(next) = newer.find(|list| list.signers.meets(trusted)) else { return way };
            (number, trusted) = (next.number, next.roots);
            way.push(next.text.clone());
        }
    }

    /// Whether a certificate from this authority should be renewed before it is due.
    #[must_use]
    pub fn is_replaced(&self, issuer: &KeyDigest) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.issuer.as_ref().is_some_and(|current| current != issuer)
    }
}

fn place_of(roots: &[(Fingerprint, RootSet)], root: &Fingerprint) -> RootSet {
    roots.iter().find(|(known, _)| known == root).map_or(RootSet::default(), |(_, place)| *place)
}

#[cfg(test)]
mod tests {
    use drover_pki::{Authority, PrivateKey, root_list::RootList};
    use jiff::Timestamp;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn list(number: u64, roots: &[&Authority], signers: &[&Authority]) -> SignedRootList {
        let roots = roots.iter().map(|root| root.der().clone()).collect();
        let fleet = "acme".parse().unwrap();
        RootList::new(fleet, number, NOW, roots, Vec::new()).sign(signers).unwrap()
    }

    fn heir(root: &Authority) -> Authority {
        root.create_next_root(PrivateKey::generate().unwrap(), NOW).unwrap()
    }

    #[test]
    fn a_device_that_slept_through_two_rotations_is_led_from_list_to_list() {
        let one = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
        let two = heir(&one);
        let three = heir(&two);
        let made = [
            list(1, &[&one, &two], &[&one, &two]),
            list(2, &[&two], &[&two]),
            list(3, &[&two, &three], &[&two, &three]),
            list(4, &[&three], &[&three]),
        ];
        let lists = RootLists::default();
        lists.replace(&made, &[]);
        let way = |root_list, trusted: &[&Authority]| {
            let roots: Vec<_> = trusted.iter().map(|root| root.certificate().fingerprint).collect();
            let way = lists.after(root_list, lists.known(&roots));
            let number = |text| made.iter().find(|list| list.text == text).unwrap().list.number;
            way.into_iter().map(number).collect::<Vec<_>>()
        };
        assert_eq!(way(0, &[&one]), [1, 3, 4]);
        assert_eq!(way(1, &[&one, &two]), [3, 4]);
        assert_eq!(way(3, &[&two, &three]), [4]);
        assert!(way(4, &[&three]).is_empty());
        // One that was born after the last rotation is not taken back to an older root.
        assert_eq!(way(0, &[&three]), [4]);
        // An agent that says nothing of its roots, and one of another fleet, are left alone.
        assert!(way(0, &[]).is_empty());
        let other = Authority::create_root(&"acme".parse().unwrap(), NOW).unwrap();
        assert!(way(0, &[&other]).is_empty());
    }

    #[test]
    fn certificates_of_another_authority_than_the_one_that_issues_are_renewed() {
        let lists = RootLists::default();
        let (old, new) = (KeyDigest::of(b"old"), KeyDigest::of(b"new"));
        assert!(!lists.is_replaced(&old), "nobody issues");
        lists.set_issuer(Some(new));
        assert!(lists.is_replaced(&old) && !lists.is_replaced(&new));
    }
}
