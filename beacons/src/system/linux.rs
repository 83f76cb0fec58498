//! The real machine: `/proc`, `/sys` and `statvfs`.

use std::{fs, io, path::Path};

use super::{DiskSpace, Memory, Mount, Sensor, System, SystemError};

const LOADAVG: &str = "/proc/loadavg";
const MEMINFO: &str = "/proc/meminfo";
const MOUNTS: &str = "/proc/self/mounts";
const THERMAL: &str = "/sys/class/thermal";

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

    fn thermal_zones(&self) -> Result<Vec<Sensor>, SystemError> {
        thermal_zones(Path::new(THERMAL))
            .map_err(|source| SystemError::Read { path: THERMAL, source })
    }

    fn temperature(&self, sensor: &Sensor) -> Result<f64, SystemError> {
        let read = || {
            let text = fs::read_to_string(&sensor.path)?;
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a number");
            text.trim().parse().map_err(|_| wrong()).map(celsius)
        };
        read().map_err(|source| SystemError::Temperature {
            sensor: sensor.name.clone(),
            path: sensor.path.clone(),
            source,
        })
    }
}

/// One decimal of thousandths of a degree.
fn celsius(thousandths: i32) -> f64 {
    (f64::from(thousandths) / 100.0).round() / 10.0
}

/// Reads `thermal_zone0/type` and so on. Where several zones have one type, the zone's number is added. A kernel without
/// zones has no such directory.
fn thermal_zones(directory: &Path) -> io::Result<Vec<Sensor>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut zones = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let file_name = path.file_name().and_then(|name| name.to_str());
        let number = file_name.and_then(|name| name.strip_prefix("thermal_zone")?.parse().ok());
        let Some(number): Option<u32> = number else { continue };
        let kind = fs::read_to_string(path.join("type"));
        let kind = kind.map_or_else(|_| "thermal_zone".to_owned(), |kind| kind.trim().to_owned());
        zones.push((number, kind, path.join("temp")));
    }
    zones.sort_unstable();
    let is_alone = |kind: &str| zones.iter().filter(|(_, other, _)| other == kind).count() == 1;
    let name = |number: u32, kind: &str| {
        if is_alone(kind) { kind.to_owned() } else { format!("{kind}-{number}") }
    };
    Ok(zones
        .iter()
        .map(|(number, kind, path)| Sensor { name: name(*number, kind), path: path.clone() })
        .collect())
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
    fn thermal_zones_are_named_for_their_type() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(thermal_zones(&directory.path().join("none")).unwrap(), []);
        for (zone, kind) in [(0, "cpu-thermal"), (1, "acpitz"), (10, "acpitz")] {
            let zone = directory.path().join(format!("thermal_zone{zone}"));
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("type"), format!("{kind}\n")).unwrap();
            fs::write(zone.join("temp"), "-51249\n").unwrap();
        }
        fs::create_dir(directory.path().join("cooling_device0")).unwrap();
        let zones = thermal_zones(directory.path()).unwrap();
        let names: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
        assert_eq!(names, ["cpu-thermal", "acpitz-1", "acpitz-10"]);
        assert_eq!(Linux.temperature(&zones[0]).unwrap(), -51.2);
        fs::write(&zones[0].path, "warm").unwrap();
        let error = Linux.temperature(&zones[0]).unwrap_err().to_string();
        assert!(error.starts_with("failed to read the temperature of `cpu-thermal`"), "{error}");
    }

    #[test]
    fn a_mount_point_that_is_not_there_is_named() {
        let error = Linux.disk_space("/not/there").unwrap_err();
        assert_eq!(error.to_string(), "failed to ask for the space on `/not/there`");
    }
}
