//! Whether the wall clock is believed when what is old goes. One that is put forward by years, for a moment or for good,
//! makes everything old at once; so after a step nothing goes by its age for an hour, in which somebody can put it right.
//! A machine.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Now;

/// A clock that is slewed, or corrected a little, is not put forward.
const STEP: SignedDuration = SignedDuration::from_mins(10);
/// How long it is doubted.
const DOUBT: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Calendar {
    last: Now,
    doubted_until: Option<Instant>,
}

impl Calendar {
    /// With the time of the log's newest event: a clock that is far ahead of that may be right, where the master was off.
    pub(super) fn new(newest: Option<Timestamp>, now: Now) -> Self {
        let is_ahead = newest.is_some_and(|newest| now.wall.duration_since(newest) > STEP);
        Self { last: now, doubted_until: is_ahead.then(|| now.instant + DOUBT) }
    }

    /// How far the clock was put forward, if it was.
    pub(super) fn handle_time(&mut self, now: Now) -> Option<SignedDuration> {
        let passed = now.instant.saturating_duration_since(self.last.instant);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let step = now.wall.duration_since(self.last.wall).saturating_sub(passed);
        self.last = now;
        (step > STEP).then(|| {
            self.doubted_until = Some(now.instant + DOUBT);
            step
        })
    }

    /// The time by which things are old, unless it is doubted.
    pub(super) fn believed(&self) -> Option<Timestamp> {
        let is_over = |until| self.last.instant >= until;
        self.doubted_until.is_none_or(is_over).then_some(self.last.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    const YEARS: SignedDuration = SignedDuration::from_hours(10 * 8_760);

    fn later(now: Now, instant: SignedDuration, wall: SignedDuration) -> Now {
        Now { instant: now.instant + instant.unsigned_abs(), wall: now.wall + wall }
    }

    #[test]
    fn a_clock_that_is_put_forward_is_doubted_for_an_hour() {
        let start = Now::read();
        let mut calendar = Calendar::new(None, start);
        assert_eq!(calendar.believed(), Some(start.wall));
        let hour = later(start, HOUR, HOUR);
        assert_eq!(calendar.handle_time(hour), None, "nothing but time has passed");
        assert_eq!(calendar.believed(), Some(hour.wall));

        let wrong = later(hour, SignedDuration::from_secs(60), YEARS);
        assert!(calendar.handle_time(wrong).is_some());
        assert_eq!(calendar.believed(), None);
        let right = later(wrong, SignedDuration::from_secs(60), -YEARS);
        assert_eq!(calendar.handle_time(right), None, "put right");
        assert_eq!(calendar.believed(), None, "still");
        let after = later(right, HOUR, HOUR);
        assert_eq!(calendar.handle_time(after), None);
        assert_eq!(calendar.believed(), Some(after.wall));
    }

    #[test]
    fn a_clock_that_is_far_ahead_of_the_log_is_doubted_too() {
        let now = Now::read();
        assert_eq!(Calendar::new(Some(now.wall - YEARS), now).believed(), None);
        for newest in [now.wall, now.wall + YEARS, now.wall - SignedDuration::from_secs(60)] {
            assert_eq!(Calendar::new(Some(newest), now).believed(), Some(now.wall));
        }
    }
}
