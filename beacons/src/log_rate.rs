//! How fast lines of logs may leave. Unlike [`RateCap`](crate::rate_cap::RateCap) nothing is dropped here: a line that
//! may not go yet stays where it is, in its file or its journal.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::config::{ConfigError, Options};

/// What may go at once after a quiet time, as time at the full rate.
const BURST: Duration = Duration::from_secs(10);
const DEFAULT_LINES: u64 = 100;
const DEFAULT_BYTES: u64 = 64 << 10;
/// What an event has beside its line: names, the tag's end, a path.
const AROUND: usize = 256;

/// Two token buckets: lines, and bytes.
#[derive(Debug)]
pub(crate) struct LogRate {
    lines: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// Below zero after something larger than what was left: so a large line passes sooner or later.
    left: i64,
    refilled: Option<Instant>,
}

impl LogRate {
    /// Takes `lines_per_second` and `bytes_per_second`.
    pub(crate) fn take(options: &mut Options<'_>) -> Result<Self, ConfigError> {
        let lines = options.take_size("lines_per_second")?.unwrap_or(DEFAULT_LINES);
        let bytes = options.take_size("bytes_per_second")?.unwrap_or(DEFAULT_BYTES);
        Ok(Self { lines: Bucket::new(lines), bytes: Bucket::new(bytes) })
    }

    /// Counts what the time since the last look allows.
    pub(crate) fn refill(&mut self, now: Instant) {
        self.lines.refill(now);
        self.bytes.refill(now);
    }

    /// Whether one more line of `bytes` may go, into an outbox with so much `room` for logs.
    pub(crate) fn admit(&mut self, bytes: usize, room: &Cell<usize>) -> bool {
        let Some(left) = room.get().checked_sub(bytes + AROUND) else {
            // Whoever gave the room sees by this that it was too little.
            room.set(0);
            return false;
        };
        if self.lines.left <= 0 || self.bytes.left <= 0 {
            return false;
        }
        self.lines.left -= 1;
        self.bytes.left = self.bytes.left.saturating_sub_unsigned(bytes as u64);
        room.set(left);
        true
    }
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        Self { per_second, left: 0, refilled: None }
    }

    fn refill(&mut self, now: Instant) {
        let passed = match self.refilled.replace(now) {
            Some(refilled) => now.saturating_duration_since(refilled),
            None => BURST,
        };
        let worth = |time: Duration| {
            let tokens = u128::from(self.per_second) * time.as_millis() / 1000;
            i64::try_from(tokens).unwrap_or(i64::MAX)
        };
        // A look that comes once a minute may take a minute's lines.
        let most = worth(passed.max(BURST));
        self.left = self.left.saturating_add(worth(passed)).min(most);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use serde_json::json;

    use super::*;

    fn rate(lines: u64, bytes: u64) -> LogRate {
        let value = json!({"lines_per_second": lines, "bytes_per_second": bytes});
        LogRate::take(&mut Options::read("logfile", &value).unwrap()).unwrap()
    }

    fn admitted(rate: &mut LogRate, bytes: usize, now: Instant) -> usize {
        rate.refill(now);
        let room = Cell::new(usize::MAX);
        (0..10_000).take_while(|_| rate.admit(bytes, &room)).count()
    }

    #[test]
    fn ten_seconds_go_at_once_and_then_the_rate() {
        let (mut rate, mut now) = (rate(10, 1 << 30), Instant::now());
        assert_eq!(admitted(&mut rate, 100, now), 100);
        assert_eq!(admitted(&mut rate, 100, now), 0);
        now += Duration::from_secs(5);
        assert_eq!(admitted(&mut rate, 100, now), 50);
        now += Duration::from_secs(60);
        assert_eq!(admitted(&mut rate, 100, now), 600, "what a minute allows");
    }

    #[test]
    fn a_line_larger_than_the_burst_goes_and_is_paid_for_after() {
        let (mut rate, mut now) = (rate(1000, 10), Instant::now());
        assert_eq!(admitted(&mut rate, 300, now), 1);
        now += Duration::from_secs(20);
        assert_eq!(admitted(&mut rate, 300, now), 0);
        now += Duration::from_secs(1);
        assert_eq!(admitted(&mut rate, 300, now), 1);
    }

    #[test]
    fn nothing_goes_where_the_outbox_has_no_room() {
        let mut rate = rate(1000, 1 << 30);
        rate.refill(Instant::now());
        let room = Cell::new(3 * (100 + AROUND));
        assert_eq!((0..10).filter(|_| rate.admit(100, &room)).count(), 3);
    }
}
