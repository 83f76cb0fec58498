//! What time events and returns are stamped with: the device's clock, set right by the master's where it is clearly
//! wrong. Stamps alone; trust in certificates never follows the master's word.

use jiff::{SignedDuration, Timestamp};

/// A difference below this is the link's delay, not the clock's.
const TOLERATED: SignedDuration = SignedDuration::from_secs(5);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamps {
    ahead: SignedDuration,
}

impl Stamps {
    pub(super) fn from_welcome(master: Timestamp, device: Timestamp) -> Self {
        let ahead = device.duration_until(master);
        Self { ahead: if ahead.abs() > TOLERATED { ahead } else { SignedDuration::ZERO } }
    }

    pub(super) fn now(self) -> Timestamp {
        self.at(Timestamp::now())
    }

    fn at(self, device: Timestamp) -> Timestamp {
        device.saturating_add(self.ahead).unwrap_or(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_wakes_in_1970_stamps_with_the_time_of_the_welcome() {
        let welcome: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let stamps = Stamps::from_welcome(welcome, Timestamp::UNIX_EPOCH);
        let later = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60);
        assert_eq!(stamps.at(later).to_string(), "2026-11-23T02:01:00Z");
    }

    #[test]
    fn a_clock_that_is_about_right_is_left_alone() {
        let welcome: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let device = welcome - SignedDuration::from_secs(4);
        assert_eq!(Stamps::from_welcome(welcome, device).at(device), device);
    }
}
