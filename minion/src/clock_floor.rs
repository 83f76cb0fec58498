//! The latest time that certificates have proved, kept for a device that wakes without a clock. It never falls, and is
//! written only when it rises: when a master's certificate is renewed, about once a year, and with the device's own.

use std::{path::PathBuf, time::Duration};

use drover_pki::clock::raised_floor;
use rustls_pki_types::UnixTime;

use crate::{durable, error_chain};

/// The stored floor.
#[derive(Debug)]
pub struct ClockFloor {
    path: PathBuf,
    floor: Option<UnixTime>,
}

impl ClockFloor {
    /// What was stored in `data_dir`. A damaged file is as good as none: every master that is met raises it again.
    #[must_use]
    pub fn load(data_dir: &std::path::Path) -> Self {
        let path = data_dir.join("clock-floor.json");
        let seconds = durable::read_json::<u64>(&path).unwrap_or_else(|why| {
            tracing::warn!("{}", error_chain(&why));
            None
        });
        let floor = seconds.map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)));
        Self { path, floor }
    }

    /// The floor; none before any master was met.
    #[must_use]
    pub const fn get(&self) -> Option<UnixTime> {
        self.floor
    }

    /// A chain verified whose latest notBefore is this.
    pub fn raise(&mut self, latest_not_before: UnixTime) {
        let raised = raised_floor(self.floor, latest_not_before);
        if self.floor == Some(raised) {
            return;
        }
        self.floor = Some(raised);
        if let Err(why) = durable::write_json(&self.path, &raised.as_secs()) {
            tracing::warn!("{}", error_chain(&why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn the_floor_rises_never_falls_and_outlives_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let mut floor = ClockFloor::load(directory.path());
        assert_eq!(floor.get(), None);
        floor.raise(at(100));
        floor.raise(at(50));
        assert_eq!(ClockFloor::load(directory.path()).get(), Some(at(100)));
        std::fs::write(directory.path().join("clock-floor.json"), "x").unwrap();
        assert_eq!(ClockFloor::load(directory.path()).get(), None);
    }
}
