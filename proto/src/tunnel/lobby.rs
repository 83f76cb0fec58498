//! Who waits for the end of a TLS handshake: bounds on all of them and on those of one source.
//! A machine: the gateway closes whom it names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// The unfinished handshakes, by connection number. Numbers rise, so the lowest is the oldest.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    most_from_one: usize,
    waiting: BTreeMap<u64, IpAddr>,
    by_source: HashMap<IpAddr, BTreeSet<u64>>,
}

impl Lobby {
    pub(super) fn new(most: usize, most_from_one: usize) -> Self {
        Self { most, most_from_one, waiting: BTreeMap::new(), by_source: HashMap::new() }
    }

    /// Lets a connection in and returns the one that has to go for it: the oldest of the same
    /// source where that has its share, else the oldest of all.
    pub(super) fn handle_arrival(&mut self, number: u64, address: IpAddr) -> Option<u64> {
        let source = source(address);
        let same_source = self.by_source.get(&source);
        let oldest = match same_source.filter(|numbers| numbers.len() >= self.most_from_one) {
            Some(numbers) => numbers.first().copied(),
            None if self.waiting.len() >= self.most => self.waiting.keys().next().copied(),
            None => None,
        };
        if let Some(oldest) = oldest {
            self.handle_departure(oldest);
        }
        self.waiting.insert(number, source);
        self.by_source.entry(source).or_default().insert(number);
        oldest
    }

    /// Forgets a connection whose handshake ended; false if it was not waiting any more.
    pub(super) fn handle_departure(&mut self, number: u64) -> bool {
        let Some(source) = self.waiting.remove(&number) else { return false };
        if let Some(numbers) = self.by_source.get_mut(&source) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_source.remove(&source);
            }
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// One host: an IPv6 host can have any address of its /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_goes_when_the_lobby_is_full() {
        let mut lobby = Lobby::new(2, 2);
        assert_eq!(lobby.handle_arrival(1, address("10.0.0.1")), None);
        assert_eq!(lobby.handle_arrival(2, address("10.0.0.2")), None);
        assert_eq!(lobby.handle_arrival(3, address("10.0.0.3")), Some(1));
        assert_eq!(lobby.len(), 2);
    }

    #[test]
    fn a_source_with_its_share_displaces_only_itself() {
        let mut lobby = Lobby::new(3, 2);
        lobby.handle_arrival(1, address("10.0.0.1"));
        lobby.handle_arrival(2, address("10.0.0.9"));
        lobby.handle_arrival(3, address("10.0.0.9"));
        assert_eq!(lobby.handle_arrival(4, address("10.0.0.9")), Some(2));
        assert_eq!(lobby.len(), 3);
    }

    #[test]
    fn who_is_done_makes_room() {
        let mut lobby = Lobby::new(1, 1);
        lobby.handle_arrival(1, address("10.0.0.1"));
        assert!(lobby.handle_departure(1));
        assert!(!lobby.handle_departure(1));
        assert_eq!(lobby.handle_arrival(2, address("10.0.0.1")), None);
        assert!(lobby.by_source.len() == 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let mut lobby = Lobby::new(9, 1);
        lobby.handle_arrival(1, address("2001:db8::1"));
        assert_eq!(lobby.handle_arrival(2, address("2001:db8::ffff:2")), Some(1));
        assert_eq!(lobby.handle_arrival(3, address("::ffff:10.0.0.1")), None);
        assert_eq!(lobby.handle_arrival(4, address("10.0.0.1")), Some(3));
    }
}
