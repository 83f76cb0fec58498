//! Which dead letters a bridge has, and which go when there are too many: the oldest events. A machine.

use std::collections::BTreeMap;

/// Events, for each bridge.
const MOST: usize = 10_000;
/// Their bytes.
const MOST_BYTES: usize = 64 << 20;

/// The letters that are kept, by their events' seqs.
#[derive(Debug, Default)]
pub(super) struct Letters {
    sizes: BTreeMap<u64, usize>,
    bytes: usize,
}

impl Letters {
    /// Those that are in the store.
    pub(super) fn new(sizes: impl IntoIterator<Item = (u64, usize)>) -> Self {
        let sizes: BTreeMap<_, _> = sizes.into_iter().collect();
        let bytes = sizes.values().sum();
        Self { sizes, bytes }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is one of this event.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.sizes.contains_key(&seq)
    }

    /// Another one; returns those that go for it.
    pub(super) fn add(&mut self, seq: u64, size: usize) -> Vec<u64> {
        self.remove(seq);
        self.sizes.insert(seq, size);
        self.bytes += size;
        let mut gone = Vec::new();
        while self.sizes.len() > MOST || (self.bytes > MOST_BYTES && self.sizes.len() > 1) {
            let Some((oldest, size)) = self.sizes.pop_first() else { break };
            self.bytes -= size;
            gone.push(oldest);
        }
        gone
    }

    /// One that is over; whether it was there.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let size = self.sizes.remove(&seq);
        self.bytes -= size.unwrap_or(0);
        size.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut letters = Letters::new((1..=10_000).map(|seq| (seq, 100)));
        assert_eq!(letters.add(10_001, 100), [1]);
        assert!(letters.add(10_001, 200).is_empty(), "the same event has one letter");
        assert_eq!(letters.count(), 10_000);
    }

    #[test]
    fn large_ones_are_bounded_in_bytes() {
        let mut letters = Letters::default();
        for seq in 1..=64 {
            assert!(letters.add(seq, 1 << 20).is_empty());
        }
        assert_eq!(letters.add(65, 3 << 20), [1, 2, 3]);
        assert!(letters.remove(65) && !letters.remove(1));
        assert!(letters.add(66, 3 << 20).is_empty());
    }
}
