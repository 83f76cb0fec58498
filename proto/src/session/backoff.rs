//! When to connect again: exponential with full jitter, so that a fleet whose master restarts does not come back in
//! one moment.

use std::time::Duration;

use super::jitter::Jitter;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A device that waits for its acceptance is back soon after it.
const LONGEST_UNACCEPTED: Duration = Duration::from_secs(10);
/// The longest that a master is left alone for: one that asks for a year, by mistake or not, must not cost a device one.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Backoff {
    attempts: u32,
    floor: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { attempts: 0, floor: Duration::ZERO }
    }

    /// The last connection was good.
    pub(super) const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The peer made no sense: give it the longest wait.
    pub(super) const fn worsen(&mut self) {
        self.attempts = 6;
    }

    /// The master asked to be left alone for this long, of which an hour is granted; holds for the next wait.
    pub(super) fn at_least(&mut self, floor: Duration) {
        self.floor = floor.min(LONGEST_ASKED);
    }

    pub(super) fn wait(&mut self, jitter: &mut Jitter) -> Duration {
        self.wait_at_most(LONGEST, jitter)
    }

    pub(super) fn wait_for_acceptance(&mut self, jitter: &mut Jitter) -> Duration {
        self.wait_at_most(LONGEST_UNACCEPTED, jitter)
    }

    fn wait_at_most(&mut self, longest: Duration, jitter: &mut Jitter) -> Duration {
        let most = FIRST.saturating_mul(1 << self.attempts.min(16)).min(longest);
        self.attempts = self.attempts.saturating_add(1);
        std::mem::take(&mut self.floor) + jitter.between(Duration::ZERO, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_fall_back_after_a_good_connection() {
        let (mut backoff, mut jitter) = (Backoff::new(), Jitter::new(7));
        for most in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(backoff.wait(&mut jitter) <= Duration::from_secs(most));
        }
        backoff.reset();
        assert!(backoff.wait(&mut jitter) <= FIRST);
    }

    #[test]
    fn full_jitter_uses_the_whole_span() {
        let mut jitter = Jitter::new(1);
        let waits: Vec<_> =
            (0..1_000).map(|_| Backoff::new().wait(&mut jitter).as_millis() / 100).collect();
        for tenth in 0..10 {
            let share = waits.iter().filter(|&&wait| wait == tenth).count();
            assert!((60..140).contains(&share), "{share} of 1000 in tenth {tenth}");
        }
    }

    #[test]
    fn what_the_master_asks_for_is_a_floor_for_one_wait() {
        let (mut backoff, mut jitter) = (Backoff::new(), Jitter::new(3));
        backoff.at_least(Duration::from_secs(90));
        let wait = backoff.wait(&mut jitter);
        assert!((90..=91).contains(&wait.as_secs()), "{wait:?}");
        assert!(backoff.wait(&mut jitter) <= Duration::from_secs(2));
    }

    #[test]
    fn a_device_that_is_not_accepted_tries_within_ten_seconds() {
        let (mut backoff, mut jitter) = (Backoff::new(), Jitter::new(9));
        for _ in 0..40 {
            assert!(backoff.wait_for_acceptance(&mut jitter) <= LONGEST_UNACCEPTED);
        }
    }
}
