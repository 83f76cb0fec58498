//! Where the outside begins: what beacons may ask of the machine they run on.

pub(crate) mod linux;

use std::{io, path::PathBuf};

/// The machine under a minion, as beacons see it. [`Linux`](crate::Linux) is the real one.
pub trait System {
    /// The load averages over 1, 5 and 15 minutes.
    fn load_averages(&self) -> Result<[f64; 3], SystemError>;

    /// The machine's main memory.
    fn memory(&self) -> Result<Memory, SystemError>;

    /// The mounted file systems, each mount point once.
    fn mounts(&self) -> Result<Vec<Mount>, SystemError>;

    /// The space on the file system mounted at `point`.
    fn disk_space(&self, point: &str) -> Result<DiskSpace, SystemError>;

    /// The sensors that the kernel watches for too much warmth, each name once.
    fn thermal_zones(&self) -> Result<Vec<Sensor>, SystemError>;

    /// What a sensor measures, in degrees Celsius.
    fn temperature(&self, sensor: &Sensor) -> Result<f64, SystemError>;
}

/// A sensor of temperature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sensor {
    /// What it is called, such as `cpu-thermal`.
    pub name: String,
    /// The file that has its thousandths of a degree.
    pub path: PathBuf,
}

/// Main memory, in any one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What programs can still have without swapping.
    pub available: u64,
}

impl Memory {
    /// The share in use, in percent with one decimal, as Salt gives it.
    #[must_use]
    pub fn percent_used(&self) -> f64 {
        percent(self.total.saturating_sub(self.available), self.total)
    }
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: String,
    /// Its type, such as `ext4`.
    pub kind: String,
}

impl Mount {
    /// Whether asking this file system for its space can block for as long as a server is away.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        const REMOTE: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs"];
        REMOTE.contains(&self.kind.as_str()) || self.kind.starts_with("fuse.")
    }
}

/// The space on one file system, in any one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What is taken.
    pub used: u64,
    /// What programs without privileges can still take.
    pub available: u64,
}

impl DiskSpace {
    /// The share in use, in percent with one decimal, as `df` and Salt give it: what is reserved
    /// for root counts neither way. A file system without blocks is empty.
    #[must_use]
    pub fn percent_used(&self) -> f64 {
        percent(self.used, self.used.saturating_add(self.available))
    }
}

/// The machine did not say what a beacon asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// A file of the kernel could not be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file of the kernel does not say what it should.
    #[error("`{path}` does not give {missing}")]
    Unexpected {
        /// The file.
        path: &'static str,
        /// What was looked for.
        missing: &'static str,
    },
    /// A file system does not tell its space.
    #[error("failed to ask for the space on `{point}`")]
    DiskSpace {
        /// Where it is mounted.
        point: String,
        /// Why not.
        source: io::Error,
    },
    /// A sensor does not tell its temperature.
    #[error("failed to read the temperature of `{sensor}` from `{}`", path.display())]
    Temperature {
        /// Its name.
        sensor: String,
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file with a log cannot be read.
    #[error("failed to read the log `{}`", path.display())]
    ReadLog {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More files match than one beacon follows.
    #[error("more than {most} files match, the others are not followed")]
    TooManyFiles {
        /// How many are followed.
        most: usize,
    },
    /// The program that reads the journal cannot be started.
    #[error("failed to start `{}`", program.display())]
    StartJournal {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program that reads the journal ended.
    #[error("`journalctl` ended: {reason}")]
    Journal {
        /// What it said.
        reason: String,
    },
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_one_decimal() {
        assert_eq!(Memory { total: 3, available: 2 }.percent_used(), 33.3);
        assert_eq!(DiskSpace { used: 2, available: 1 }.percent_used(), 66.7);
    }

    #[test]
    fn a_file_system_without_blocks_is_empty() {
        assert_eq!(DiskSpace { used: 0, available: 0 }.percent_used(), 0.0);
    }

    #[test]
    fn network_and_user_space_file_systems_are_remote() {
        let mount = |kind: &str| Mount { point: "/mnt".into(), kind: kind.into() };
        assert!(mount("nfs4").is_remote());
        assert!(mount("fuse.sshfs").is_remote());
        assert!(!mount("ext4").is_remote());
    }
}
