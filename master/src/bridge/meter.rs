//! How many events a second went, over the last minute. A machine.

use std::time::Instant;

/// Seconds that are looked back at.
const SECONDS: usize = 60;

/// Counts by the second.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    counts: [u64; SECONDS],
    /// The second since the start that was counted last.
    at: u64,
}

impl Meter {
    pub(super) const fn new(start: Instant) -> Self {
        Self { start, counts: [0; SECONDS], at: 0 }
    }

    /// So many went now.
    pub(super) fn add(&mut self, count: u64, now: Instant) {
        self.advance(now);
        self.counts[slot(self.at)] += count;
    }

    /// Events a second, over the last minute or since the start.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn rate(&mut self, now: Instant) -> f64 {
        self.advance(now);
        let passed = now.saturating_duration_since(self.start).as_secs_f64();
        let sum: u64 = self.counts.iter().sum();
        // To a tenth; an eager look in the first second does not see a flood.
        (sum as f64 / passed.clamp(1.0, SECONDS as f64) * 10.0).round() / 10.0
    }

    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        let passed = second.saturating_sub(self.at).min(SECONDS as u64);
        for second in second + 1 - passed..=second {
            self.counts[slot(second)] = 0;
        }
        self.at = self.at.max(second);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below 60")]
const fn slot(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Now;

    #[test]
    fn what_is_older_than_a_minute_does_not_count() {
        let start = Now::read().instant;
        let mut meter = Meter::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!((meter.rate(at(0)) - 0.0).abs() < f64::EPSILON);
        for second in 0..30 {
            meter.add(100, at(second));
        }
        assert!((meter.rate(at(30)) - 100.0).abs() < 1.0, "{}", meter.rate(at(30)));
        assert!((meter.rate(at(59)) - 50.0).abs() < 2.0);
        assert!((meter.rate(at(74)) - 25.0).abs() < 2.0);
        assert!(meter.rate(at(1_000)) < 0.1);
    }
}
