//! One timer for each connection, without a task for each: a session's deadline moves with every word it hears, so a
//! timer that is due is first asked whether it still is.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// Deadlines by connection number. Each connection has one at most.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, u64)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Instant, connection: u64) {
        self.0.push(Reverse((at, connection)));
    }

    /// When the first one is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// A connection whose timer is due. It is gone from here until it is set again.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        self.first().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse((_, connection))| connection)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary moment to count from")]
    fn the_first_deadline_is_taken_first_and_once() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set(start + Duration::from_secs(2), 2);
        timers.set(start + Duration::from_secs(1), 1);
        assert_eq!(timers.take_due(start), None);
        let later = start + Duration::from_secs(3);
        assert_eq!(
            [timers.take_due(later), timers.take_due(later), timers.take_due(later)],
            [Some(1), Some(2), None]
        );
    }
}
