//! The last guard against floods: a token bucket for each beacon, which counts what it holds back.

use std::time::{Duration, Instant};

/// What one beacon may send at once.
const BURST: u32 = 60;
/// How long it takes until it may send one more.
const REFILL: Duration = Duration::from_secs(1);

/// Lets a burst of 60 events through, then one a second.
#[derive(Debug)]
pub(crate) struct RateCap {
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

impl RateCap {
    pub(crate) fn new(now: Instant) -> Self {
        Self { tokens: BURST, refilled: now, suppressed: 0 }
    }

    /// Whether one more event may go. One that may not is counted.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        self.refill(now);
        let Some(left) = self.tokens.checked_sub(1) else {
            self.suppressed += 1;
            return false;
        };
        self.tokens = left;
        true
    }

    /// How many events were held back, once there is room to say so.
    pub(crate) fn take_suppressed(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.suppressed == 0 || self.tokens == 0 {
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs() / REFILL.as_secs();
        // Whole steps only, so that nothing is lost to rounding.
        let steps = u32::try_from(passed).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(steps).min(BURST);
        self.refilled += REFILL.saturating_mul(steps);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut cap = RateCap::new(start);
        let admitted = (0..100).filter(|_| cap.admit(start)).count();
        assert_eq!(admitted, 60);
        assert_eq!(cap.take_suppressed(start), None);
        assert_eq!(cap.take_suppressed(start + REFILL), Some(40));
        assert_eq!(cap.take_suppressed(start + REFILL * 2), None);
    }

    #[test]
    fn one_event_a_second_always_passes() {
        let start = Instant::now();
        let mut cap = RateCap::new(start);
        assert!((0..1000).all(|second| cap.admit(start + REFILL * second)));
    }
}
