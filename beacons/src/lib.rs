//! What a device watches about itself, and when it tells.
//!
//! The minion owns a [`BeaconSchedule`], wakes it when [`BeaconSchedule::poll_timeout`] says so and
//! sends what [`BeaconSchedule::poll_event`] gives. Heartbeat and presence are not beacons: they
//! belong to the session. What the operator writes is described in `docs/beacons.md`.

mod alarm;
mod beacon;
mod config;
mod log_rate;
mod rate_cap;
mod schedule;
mod system;

pub use config::ConfigError;
pub use schedule::{BeaconEvent, BeaconSchedule};
pub use system::linux::Linux;
pub use system::{DiskSpace, Memory, Mount, Sensor, System, SystemError};
