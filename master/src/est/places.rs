//! How many connections there are, in all and from one address: past the limits a new one is closed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: usize,
    most_per_address: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        Self { most, most_per_address, taken: Arc::default() }
    }

    /// A place for a connection from there, if one is left.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut taken = lock(&self.taken);
        let here = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.all >= self.most || here >= self.most_per_address {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, here + 1);
        Some(Place { address, taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Who has one IPv6 address has the whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_run_out_in_all_and_for_one_address_and_come_back() {
        let places = Places::new(3, 2);
        let at = |text: &str| places.take(text.parse().unwrap());
        let first = at("10.0.0.1");
        let _second = at("::ffff:10.0.0.1");
        assert!(first.is_some() && at("10.0.0.1").is_none());
        let _third = at("2001:db8::1").unwrap();
        assert!(at("10.0.0.2").is_none());
        drop(first);
        let _fourth = at("2001:db8::2").unwrap();
        assert!(at("10.0.0.2").is_none());
    }

    #[test]
    fn nothing_is_remembered_of_who_is_gone() {
        let places = Places::new(10, 2);
        drop(places.take("10.0.0.1".parse().unwrap()));
        let taken = lock(&places.taken);
        assert_eq!((taken.all, taken.by_address.len()), (0, 0));
    }
}
