//! The closed set of beacons. Each is one file beneath this one, with a `configure` that takes its
//! options and a `look` that reads the system; adding one means a variant and three lines here.

mod diskusage;
mod journald;
mod load;
mod logfile;
mod memusage;
mod temperature;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::config::{ConfigError, Options};
use crate::system::{System, SystemError};

/// A beacon with what it remembers from one look to the next.
#[derive(Debug)]
pub(crate) enum Beacon {
    Diskusage(diskusage::Diskusage),
    Journald(Box<journald::Journald>),
    Load(load::Load),
    Logfile(Box<logfile::Logfile>),
    Memusage(memusage::Memusage),
    Temperature(temperature::Temperature),
}

/// The names of all beacons, as the configuration and the tags give them.
pub(crate) const NAMES: &[&str] =
    &["diskusage", "journald", "load", "log", "logfile", "memusage", "temperature"];

impl Beacon {
    /// Makes the beacon `kind` from its options.
    pub(crate) fn configure(kind: &str, options: &mut Options<'_>) -> Result<Self, ConfigError> {
        match kind {
            "diskusage" => diskusage::Diskusage::configure(options).map(Self::Diskusage),
            "journald" => journald::Journald::configure(options)
                .map(|beacon| Self::Journald(Box::new(beacon))),
            "load" => load::Load::configure(options).map(Self::Load),
            "log" => logfile::Logfile::configure_log(options)
                .map(|beacon| Self::Logfile(Box::new(beacon))),
            "logfile" => {
                logfile::Logfile::configure(options).map(|beacon| Self::Logfile(Box::new(beacon)))
            }
            "memusage" => memusage::Memusage::configure(options).map(Self::Memusage),
            "temperature" => temperature::Temperature::configure(options).map(Self::Temperature),
            _ => Err(ConfigError::UnknownBeacon { name: kind.to_owned(), known: NAMES }),
        }
    }

    /// Refuses a beacon without anything to watch, once all its options have been read.
    pub(crate) fn check(&self, name: &str) -> Result<(), ConfigError> {
        match self {
            Self::Diskusage(beacon) => beacon.check(name),
            Self::Logfile(beacon) => beacon.check(name),
            Self::Journald(_) | Self::Load(_) | Self::Memusage(_) | Self::Temperature(_) => Ok(()),
        }
    }

    /// Whether it ships what others have written. Such beacons have limits of their own, and are looked at more often
    /// where nothing else is said.
    pub(crate) fn is_log(&self) -> bool {
        match self {
            Self::Journald(_) | Self::Logfile(_) => true,
            Self::Diskusage(_) | Self::Load(_) | Self::Memusage(_) | Self::Temperature(_) => false,
        }
    }

    /// Reads the system once and adds what is to be told to `readings`.
    pub(crate) fn look(
        &mut self,
        system: &dyn System,
        look: Look<'_>,
        readings: &mut Vec<Reading>,
    ) -> Result<(), SystemError> {
        match self {
            Self::Diskusage(beacon) => beacon.look(system, look, readings),
            Self::Journald(beacon) => beacon.look(look, readings),
            Self::Load(beacon) => beacon.look(system, look, readings),
            Self::Logfile(beacon) => beacon.look(look, readings),
            Self::Memusage(beacon) => beacon.look(system, look, readings),
            Self::Temperature(beacon) => beacon.look(system, look, readings),
        }
    }
}

/// One look at the system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) now: Instant,
    /// The first since the minion started.
    pub(crate) first: bool,
    /// What the outbox can take of logs, in bytes.
    pub(crate) room: &'a Cell<usize>,
}

/// Something that a beacon tells.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The end of the event's tag; most beacons have none.
    pub(crate) detail: String,
    /// A map, with the names that Salt's beacon gives.
    pub(crate) data: Value,
    /// How long ago it was.
    pub(crate) age: Duration,
}

impl Reading {
    pub(crate) fn of(data: Value) -> Self {
        Self { detail: String::new(), data, age: Duration::ZERO }
    }

    /// With an end of the tag, and no data yet.
    pub(crate) fn tagged(detail: &str) -> Self {
        Self { detail: detail.to_owned(), ..Self::of(Value::Null) }
    }
}
