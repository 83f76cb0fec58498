//! No more than so many events a second: a bucket that fills steadily and from which every event that is sent takes one
//! token. What finds none waits; nothing is dropped. A machine.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// Bursts are a quarter of a second's events.
const BURSTS: f64 = 4.0;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: f64,
    burst: f64,
    tokens: f64,
    /// When that many were there.
    at: Option<Instant>,
}

impl Throttle {
    /// So many events a second.
    pub(super) fn new(rate: NonZeroU32) -> Self {
        let rate = f64::from(rate.get());
        let burst = (rate / BURSTS).max(1.0);
        Self { rate, burst, tokens: burst, at: None }
    }

    /// When a burst may go, or `wanted` events where those are fewer.
    pub(super) fn ready_at(&self, wanted: usize) -> Option<Instant> {
        let wanted = f64::from(u32::try_from(wanted).unwrap_or(u32::MAX)).min(self.burst);
        let missing = (wanted - self.tokens).max(0.0);
        self.at.map(|at| at + Duration::from_secs_f64(missing / self.rate))
    }

    /// Takes tokens for up to `wanted` events; how many there were.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a burst"
    )]
    pub(super) fn take(&mut self, wanted: usize, now: Instant) -> usize {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        // A rounding error must not hold back what `ready_at` promised.
        let taken = ((self.tokens + 1e-6) as usize).min(wanted);
        self.tokens -= taken as f64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    #[test]
    fn in_a_minute_no_more_go_than_the_rate_allows_and_not_many_fewer() {
        for rate in [1, 3, 100, 50_000] {
            let mut throttle = Throttle::new(NonZeroU32::new(rate).unwrap());
            let start = Now::read().instant;
            let (mut now, mut sent) = (start, 0);
            loop {
                now = throttle.ready_at(500).map_or(now, |ready| ready.max(now));
                if now > start + Duration::from_secs(60) {
                    break;
                }
                let taken = throttle.take(500, now);
                assert!(taken > 0, "what is promised is there");
                sent += taken;
            }
            let allowed = rate as usize * 60;
            // Beyond it only the bucket that was full at the start.
            let burst = (rate as usize / 4).max(1);
            assert!(sent <= allowed + burst + 1, "{sent} at {rate}");
            assert!(sent + burst + 1 >= allowed, "{sent} at {rate}");
        }
    }
}
