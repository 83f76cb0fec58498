//! How long to wait before the next try: longer each time, and never quite as long as everybody else. A machine.

use std::time::Duration;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause: a server that is back is not left waiting.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses, one after another.
#[derive(Debug)]
pub(super) struct Backoff {
    last: Option<Duration>,
    seed: u64,
}

impl Backoff {
    /// Nothing has failed yet. Equal seeds give equal pauses.
    pub(super) const fn new(seed: u64) -> Self {
        Self { last: None, seed }
    }

    /// The pause before the next try: three quarters of what it is due, and a share of the last quarter.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.last.map_or(FIRST, |last| (last * 2).min(LONGEST));
        self.last = Some(whole);
        // A step of Knuth's generator; its upper bits are the good ones.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = u32::try_from(self.seed >> 56).unwrap_or(0);
        whole * 3 / 4 + whole / 4 * share / 256
    }

    /// It succeeded: the next pause is the first one.
    pub(super) const fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_less_up_to_a_quarter() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            for due in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
                let pause = backoff.pause().as_millis();
                assert!((due * 3 / 4..=due).contains(&pause), "{pause} of {due}");
            }
            backoff.reset();
            assert!(backoff.pause().as_millis() <= 250);
        }
        let pauses: std::collections::BTreeSet<_> =
            (0..1_000).map(|seed| Backoff::new(seed << 40).pause()).collect();
        assert!(pauses.len() > 50, "bridges do not come back all at once");
    }
}
