//! The real machine: `/proc` and `statvfs`.

use std::fs;

use super::{DiskSpace, Memory, Mount, System, SystemError};

const LOADAVG: &str = "/proc/loadavg";
const MEMINFO: &str = "/proc/meminfo";
const MOUNTS: &str = "/proc/self/mounts";

/// The Linux machine that this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl System for Linux {
    fn load_averages(&self) -> Result<[f64; 3], SystemError> {
        load_averages(&read(LOADAVG)?)
            .ok_or(SystemError::Unexpected { path: LOADAVG, missing: "three load averages" })
    }

    fn memory(&self) -> Result<Memory, SystemError> {
        memory(&read(MEMINFO)?)
            .ok_or(SystemError::Unexpected { path: MEMINFO, missing: "total and free memory" })
    }

    fn mounts(&self) -> Result<Vec<Mount>, SystemError> {
        Ok(mounts(&read(MOUNTS)?))
    }

    fn disk_space(&self, point: &str) -> Result<DiskSpace, SystemError> {
        let space = rustix::fs::statvfs(point).map_err(|errno| SystemError::DiskSpace {
            point: point.to_owned(),
            source: errno.into(),
        })?;
        Ok(DiskSpace {
            used: space.f_blocks.saturating_sub(space.f_bfree),
            available: space.f_bavail,
        })
    }
}

fn read(path: &'static str) -> Result<String, SystemError> {
    fs::read_to_string(path).map_err(|source| SystemError::Read { path, source })
}

/// Reads `0.20 0.18 0.12 1/80 11206`.
fn load_averages(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || fields.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

/// Reads lines such as `MemTotal:  948304 kB`. Kernels before 3.14 do not estimate what is
/// available; there it is what is free or can be dropped.
fn memory(text: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
    };
    let reclaimable = || Some(field("MemFree")? + field("Buffers")? + field("Cached")?);
    Some(Memory {
        total: field("MemTotal")?,
        available: field("MemAvailable").or_else(reclaimable)?,
    })
}

/// Reads lines such as `/dev/root / ext4 rw 0 0`. Of mounts on top of one another only the last
/// can be seen.
fn mounts(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        let point = unescape(point);
        mounts.retain(|earlier| earlier.point != point);
        mounts.push(Mount { point, kind: kind.to_owned() });
    }
    mounts
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_averages_are_read() {
        assert_eq!(load_averages("0.20 1.18 10.12 1/80 11206\n"), Some([0.2, 1.18, 10.12]));
        assert_eq!(load_averages("0.20 1.18"), None);
        assert_eq!(load_averages(""), None);
    }

    #[test]
    fn available_memory_is_the_kernels_estimate() {
        let text = "MemTotal:         948304 kB\nMemFree:          1000 kB\n\
                    MemAvailable:     474152 kB\nBuffers: 10 kB\nCached: 20 kB\n";
        assert_eq!(memory(text), Some(Memory { total: 948_304, available: 474_152 }));
    }

    #[test]
    fn old_kernels_do_not_estimate_available_memory() {
        let text = "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 20 kB\n";
        assert_eq!(memory(text), Some(Memory { total: 100, available: 35 }));
        assert_eq!(memory("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn mount_points_are_unescaped_and_the_topmost_counts() {
        let text = "/dev/root / ext4 rw 0 0\n/dev/sda1 /media/usb\\040stick vfat rw 0 0\n\
                    overlay / overlay rw 0 0\n";
        assert_eq!(
            mounts(text),
            [
                Mount { point: "/media/usb stick".into(), kind: "vfat".into() },
                Mount { point: "/".into(), kind: "overlay".into() },
            ]
        );
    }

    #[test]
    fn this_machine_answers() {
        let memory = Linux.memory().unwrap();
        assert!(memory.total > 0 && memory.available <= memory.total);
        assert!(Linux.load_averages().unwrap().iter().all(|average| *average >= 0.0));
        assert!(Linux.mounts().unwrap().iter().any(|mount| mount.point == "/"));
        assert!((0.0..=100.0).contains(&Linux.disk_space("/").unwrap().percent_used()));
    }

    #[test]
    fn a_mount_point_that_is_not_there_is_named() {
        let error = Linux.disk_space("/not/there").unwrap_err();
        assert_eq!(error.to_string(), "failed to ask for the space on `/not/there`");
    }
}
