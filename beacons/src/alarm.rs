//! When a measured value is worth an event: limits, hysteresis, and how often a lasting condition
//! is told again. Beacons with limits share it; it knows nothing of what is measured.

use std::time::{Duration, Instant};

/// How far back inside its limit a value must come, as a share of the limit, before crossing it
/// again counts as new.
const HYSTERESIS: f64 = 0.05;

/// What counts as out of bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limits {
    /// Out at this value or more.
    Below(f64),
    /// Out under the first or over the second value.
    Between(f64, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    TooLow,
    TooHigh,
}

impl Limits {
    fn side(self, value: f64) -> Side {
        match self {
            Self::Below(high) if value >= high => Side::TooHigh,
            Self::Between(low, _) if value < low => Side::TooLow,
            Self::Between(_, high) if value > high => Side::TooHigh,
            Self::Below(_) | Self::Between(..) => Side::Inside,
        }
    }

    /// Whether a value that was out on `side` has come back far enough to have left it.
    fn has_left(self, side: Side, value: f64) -> bool {
        let (low, high) = match self {
            Self::Below(high) => (f64::NEG_INFINITY, high),
            Self::Between(low, high) => (low, high),
        };
        match side {
            Side::Inside => true,
            Side::TooLow => value > low * (1.0 + HYSTERESIS),
            Side::TooHigh => value < high * (1.0 - HYSTERESIS),
        }
    }
}

/// How often a value that stays out of its limits is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Only the crossing is told.
    Never,
    /// At every look, as Salt does.
    EveryLook,
    /// At the first look after this long.
    After(Duration),
}

/// What one measured value has been doing.
#[derive(Debug)]
pub(crate) struct Alarm {
    side: Side,
    reported: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { side: Side::Inside, reported: None }
    }

    /// Takes the latest value; true if it is to be told. The caller then calls
    /// [`reported`](Self::reported).
    pub(crate) fn observe(
        &mut self,
        value: f64,
        limits: Limits,
        repeat: Repeat,
        now: Instant,
    ) -> bool {
        let side = limits.side(value);
        if side == Side::Inside {
            if limits.has_left(self.side, value) {
                *self = Self::new();
            }
            return false;
        }
        let crossed = side != self.side;
        self.side = side;
        crossed
            || match repeat {
                Repeat::Never => false,
                Repeat::EveryLook => true,
                Repeat::After(gap) => self
                    .reported
                    .is_none_or(|reported| now.saturating_duration_since(reported) >= gap),
            }
    }

    /// Notes that the condition was told, or was known already.
    pub(crate) fn reported(&mut self, now: Instant) {
        self.reported = Some(now);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Feeds one value a minute and gives the minutes at which an event was due.
    fn told(limits: Limits, repeat: Repeat, values: &[f64]) -> Vec<usize> {
        let start = Instant::now();
        let mut alarm = Alarm::new();
        let mut told = Vec::new();
        for (minute, value) in values.iter().enumerate() {
            let now = start + MINUTE * u32::try_from(minute).unwrap();
            if alarm.observe(*value, limits, repeat, now) {
                alarm.reported(now);
                told.push(minute);
            }
        }
        told
    }

    #[test]
    fn the_limit_itself_is_out_for_a_share_and_inside_for_a_band() {
        assert_eq!(told(Limits::Below(63.0), Repeat::Never, &[62.9, 63.0]), [1]);
        assert_eq!(told(Limits::Between(0.1, 1.0), Repeat::Never, &[0.1, 1.0, 1.01]), [2]);
    }

    #[test]
    fn a_lasting_condition_is_told_again_only_after_the_gap() {
        let values = [90.0; 12];
        let every_five = Repeat::After(MINUTE * 5);
        assert_eq!(told(Limits::Below(80.0), every_five, &values), [0, 5, 10]);
        assert_eq!(told(Limits::Below(80.0), Repeat::Never, &values), [0]);
        assert_eq!(told(Limits::Below(80.0), Repeat::EveryLook, &values).len(), 12);
    }

    #[test]
    fn a_value_that_trembles_at_its_limit_is_told_once() {
        let values = [79.0, 80.0, 79.5, 80.5, 78.0, 81.0];
        assert_eq!(told(Limits::Below(80.0), Repeat::Never, &values), [1]);
    }

    #[test]
    fn a_value_that_came_back_is_told_when_it_crosses_again() {
        let values = [80.0, 75.0, 80.0];
        assert_eq!(told(Limits::Below(80.0), Repeat::Never, &values), [0, 2]);
    }

    #[test]
    fn both_ends_of_a_band_are_crossings() {
        let band = Limits::Between(0.1, 1.0);
        assert_eq!(told(band, Repeat::Never, &[0.05, 2.0, 2.0, 0.5, 0.0]), [0, 1, 4]);
    }

    #[test]
    fn a_value_inside_is_never_told() {
        assert!(told(Limits::Between(0.1, 1.0), Repeat::EveryLook, &[0.5, 0.9]).is_empty());
    }
}
