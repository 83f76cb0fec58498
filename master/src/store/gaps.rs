//! Seqs that no event has: a restore leaves some out. Whoever finds events gone does not count these.

use super::{
    ReadError, Store,
    engine::{Change, Engine},
    keys,
};

/// The gaps of a log, oldest first. They do not change while the store is open.
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<(u64, u64)>);

/// Events that a reader did not see, and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The first of them.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// How many: fewer than from first to last where a gap lies between.
    pub count: u64,
}

impl Gaps {
    pub(super) fn read(engine: &Engine) -> Result<Self, ReadError> {
        let mut gaps = Vec::new();
        for entry in engine.range(keys::GAP, &keys::end_of_gaps()) {
            let (key, value) = entry?;
            let last = value.try_into().map_or(0, u64::from_be_bytes);
            gaps.push((keys::gap_first(&key), last));
        }
        Ok(Self(gaps))
    }

    /// That no event has these numbers, for a log that goes on after them.
    pub(super) fn change(first: u64, last: u64) -> Change {
        Change { key: keys::gap(first), value: Some(last.to_be_bytes().to_vec()) }
    }

    /// How many of these numbers no event has.
    pub(super) fn within(&self, first: u64, last: u64) -> u64 {
        let overlap = |gap: &(u64, u64)| (last.min(gap.1) + 1).saturating_sub(first.max(gap.0));
        self.0.iter().map(overlap).sum()
    }

    /// What is missing between two numbers, neither of them included.
    fn missing(&self, after: u64, before: u64) -> Option<Missing> {
        let (mut from, mut to) = (after + 1, before.saturating_sub(1));
        for (first, last) in &self.0 {
            if (*first..=*last).contains(&from) {
                from = last + 1;
            }
        }
        for (first, last) in self.0.iter().rev() {
            if (*first..=*last).contains(&to) {
                to = first - 1;
            }
        }
        (from <= to).then(|| Missing { from, to, count: to - from + 1 - self.within(from, to) })
    }
}

impl Store {
    /// What a reader has missed that has dealt with everything up to `after`, and finds this event next. Numbers that a
    /// restore left out are not missed.
    #[must_use]
    pub fn missing(&self, after: u64, next: u64) -> Option<Missing> {
        self.gaps.missing(after, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_were_left_out_are_not_missed() {
        let gaps = Gaps(vec![(11, 20), (31, 40)]);
        let missing = |after, next| gaps.missing(after, next).map(|m| (m.from, m.to, m.count));
        assert_eq!(missing(4, 5), None);
        assert_eq!(missing(4, 8), Some((5, 7, 3)));
        assert_eq!(missing(10, 21), None, "a restore");
        assert_eq!(missing(8, 21), Some((9, 10, 2)));
        assert_eq!(missing(10, 24), Some((21, 23, 3)));
        assert_eq!(missing(8, 24), Some((9, 23, 5)));
        assert_eq!(missing(30, 41), None);
        assert_eq!(missing(4, 50), Some((5, 49, 25)));
    }

    #[test]
    fn what_lies_within_is_counted() {
        let gaps = Gaps(vec![(11, 20), (31, 40)]);
        assert_eq!(gaps.within(1, 10), 0);
        assert_eq!(gaps.within(1, 11), 1);
        assert_eq!(gaps.within(15, 35), 11);
        assert_eq!(gaps.within(21, 30), 0);
        assert_eq!(gaps.within(1, 100), 20);
    }
}
