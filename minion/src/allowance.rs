//! How often something may happen that costs the device more than time: flash wears, and a master that is broken or in
//! a stranger's hands must not wear it out.

use std::time::{Duration, Instant};

/// So many at once, and one more in each interval after.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u32,
    interval: Duration,
    spent: u32,
    /// Since when what is spent comes back.
    since: Option<Instant>,
}

impl Allowance {
    pub(crate) const fn new(most: u32, interval: Duration) -> Self {
        Self { most, interval, spent: 0, since: None }
    }

    /// Takes one, where there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = self.since.unwrap_or(now);
        let intervals = now.saturating_duration_since(since).as_secs() / self.interval.as_secs();
        let back = u32::try_from(intervals).unwrap_or(u32::MAX).min(self.spent);
        self.spent -= back;
        self.since = Some(if self.spent == 0 { now } else { since + self.interval * back });
        let is_left = self.spent < self.most;
        self.spent += u32::from(is_left);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
    fn what_is_spent_comes_back_one_by_one() {
        let minute = Duration::from_secs(60);
        let mut allowance = Allowance::new(3, minute);
        let mut now = Instant::now();
        let mut taken = |now| (0..10).filter(|_| allowance.take(now)).count();
        assert_eq!((taken(now), taken(now)), (3, 0));
        now += minute;
        assert_eq!(taken(now), 1);
        now += minute * 3 / 2;
        assert_eq!(taken(now), 1);
        now += minute / 2;
        assert_eq!(taken(now), 1, "half a minute was not lost");
        now += minute * 1_000_000;
        assert_eq!(taken(now), 3, "and no more than at first");
    }
}
