//! The latest time that certificates have proved, kept for a device that wakes without a clock. It is written only when
//! it changes: when a master's certificate is renewed, about once a year, and with the device's own.

use std::path::{Path, PathBuf};

use drover_pki::clock::{DeviceClock, Floor};
use rustls_pki_types::UnixTime;

use crate::{durable, error_chain};

/// The stored floor.
#[derive(Debug)]
pub struct ClockFloor {
    path: PathBuf,
    floor: Floor,
}

impl ClockFloor {
    /// What was stored in `data_dir`, else when the device was born. A damaged file is as good as none: every master that
    /// is met raises it again.
    #[must_use]
    pub fn load(data_dir: &Path, born: UnixTime) -> Self {
        let path = data_dir.join("clock-floor.json");
        let stored = durable::read_json(&path).unwrap_or_else(|why| {
            tracing::warn!("{}", error_chain(&why));
            None
        });
        Self { path, floor: stored.unwrap_or_else(|| Floor::of_birth(born)) }
    }

    /// The floor.
    #[must_use]
    pub const fn get(&self) -> Floor {
        self.floor
    }

    /// The floor, and what the system says at this moment.
    #[must_use]
    pub fn clock(&self) -> DeviceClock {
        DeviceClock { system: UnixTime::now(), floor: Some(self.floor) }
    }

    /// Certificates that verified prove another.
    pub fn raise(&mut self, proved: Floor) {
        let raised = self.floor.raised(proved);
        if self.floor == raised {
            return;
        }
        self.floor = raised;
        if let Err(why) = durable::write_json(&self.path, &raised) {
            tracing::warn!("{}", error_chain(&why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn proved(authority: u64, latest: u64) -> Floor {
        serde_json::from_value(serde_json::json!({ "authority": authority, "latest": latest }))
            .unwrap()
    }

    #[test]
    fn the_floor_rises_and_outlives_the_agent_and_falls_for_a_newer_authority_alone() {
        let directory = tempfile::tempdir().unwrap();
        let stored = || ClockFloor::load(directory.path(), at(7)).get().time();
        let mut floor = ClockFloor::load(directory.path(), at(7));
        assert_eq!(floor.get().time(), at(7));
        floor.raise(proved(10, 100));
        floor.raise(proved(10, 50));
        assert_eq!(stored(), at(100));
        floor.raise(proved(9, 200));
        assert_eq!(stored(), at(100));
        floor.raise(proved(11, 60));
        assert_eq!(stored(), at(60));
        for damaged in ["", "x", "100", "{}"] {
            fs::write(directory.path().join("clock-floor.json"), damaged).unwrap();
            assert_eq!(stored(), at(7), "{damaged}");
        }
    }
}
