//! The process's own numbers, under the names that Prometheus' client libraries give them.

use std::fs;

use super::exposition::{Exposition, Kind};

/// Clock ticks a second in /proc; fixed on Linux.
const TICKS: f64 = 100.0;

#[expect(clippy::cast_precision_loss, reason = "no process computes for 2^53 ticks")]
pub(super) fn write(out: &mut Exposition) {
    // What the system does not say is left out.
    let Ok(status) = fs::read_to_string("/proc/self/stat") else { return };
    // The program's name is in parentheses and may have spaces in it; what follows is numbers.
    let Some((_, numbers)) = status.rsplit_once(')') else { return };
    let number =
        |place: usize| -> Option<u64> { numbers.split_whitespace().nth(place)?.parse().ok() };
    if let (Some(user), Some(system)) = (number(11), number(12)) {
        out.one(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Time that the processors spent on the master.",
            (user + system) as f64 / TICKS,
        );
    }
    if let Some(kilobytes) = resident() {
        let help = "Memory of the master that is in the machine's.";
        out.one("process_resident_memory_bytes", Kind::Gauge, help, kilobytes * 1024);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.one("process_open_fds", Kind::Gauge, "Open descriptors.", open.count());
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        let help = "How many descriptors may be open.";
        out.one("process_max_fds", Kind::Gauge, help, limit);
    }
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_descriptors() {
        let mut out = Exposition::default();
        write(&mut out);
        let text = out.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") > 2.0);
        assert!(value("process_max_fds ") > 2.0);
    }
}
