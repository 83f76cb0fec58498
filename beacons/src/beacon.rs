//! The closed set of beacons. Each is one file beneath this one, with a `configure` that takes its
//! options and a `look` that reads the system; adding one means a variant and three lines here.

mod diskusage;
mod load;
mod memusage;

use std::time::Instant;

use serde_json::Value;

use crate::config::{ConfigError, Options};
use crate::system::{System, SystemError};

/// A beacon with what it remembers from one look to the next.
#[derive(Debug)]
pub(crate) enum Beacon {
    Diskusage(diskusage::Diskusage),
    Load(load::Load),
    Memusage(memusage::Memusage),
}

/// The names of all beacons, as the configuration and the tags give them.
pub(crate) const NAMES: &[&str] = &["diskusage", "load", "memusage"];

impl Beacon {
    /// Makes the beacon `kind` from its options.
    pub(crate) fn configure(kind: &str, options: &mut Options<'_>) -> Result<Self, ConfigError> {
        match kind {
            "diskusage" => diskusage::Diskusage::configure(options).map(Self::Diskusage),
            "load" => load::Load::configure(options).map(Self::Load),
            "memusage" => memusage::Memusage::configure(options).map(Self::Memusage),
            _ => Err(ConfigError::UnknownBeacon { name: kind.to_owned(), known: NAMES }),
        }
    }

    /// Refuses a beacon without anything to watch, once all its options have been read.
    pub(crate) fn check(&self, name: &str) -> Result<(), ConfigError> {
        match self {
            Self::Diskusage(beacon) => beacon.check(name),
            Self::Load(_) | Self::Memusage(_) => Ok(()),
        }
    }

    /// Reads the system once and adds what is to be told to `readings`.
    pub(crate) fn look(
        &mut self,
        system: &dyn System,
        look: Look,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        match self {
            Self::Diskusage(beacon) => beacon.look(system, look, readings),
            Self::Load(beacon) => beacon.look(system, look, readings),
            Self::Memusage(beacon) => beacon.look(system, look, readings),
        }
    }
}

/// One look at the system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) now: Instant,
    /// The first since the minion started.
    pub(crate) first: bool,
}

/// Something that a beacon tells.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The end of the event's tag; most beacons have none.
    pub(crate) detail: String,
    /// A map, with the names that Salt's beacon gives.
    pub(crate) data: Value,
}

impl Reading {
    pub(crate) fn of(data: Value) -> Self {
        Self { detail: String::new(), data }
    }
}
