//! Logs on a device's RAM disk reach the master: each line once, in order, through rotation and a master that dies.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use drover_tests::fleet::Fleet;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory on a tmpfs.
fn ram_disk() -> TempDir {
    tempfile::Builder::new().prefix("drover-").tempdir_in("/dev/shm").expect("a RAM disk")
}

fn append(path: &Path, lines: impl IntoIterator<Item = u32>) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    for line in lines {
        writeln!(file, "10:00:00 INFO badge {line}").unwrap();
    }
}

/// A fleet with one device that ships `app.log` of the RAM disk; the first line has arrived.
fn shipping(disk: &TempDir, more: &str) -> (Fleet, PathBuf) {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let log = disk.path().join("app.log");
    let beacon = format!(
        "logfile: [{{files: {}}}, {{interval: 1}}, {{lines_per_second: 5000}}, \
         {{bytes_per_second: 10MiB}}, {{parse: 'badge (?<badge>\\d+)'}}]",
        log.display()
    );
    fleet.configure_minion("rfid-1", &format!("beacons: {{{beacon}}}\n{more}"));
    fleet.bring_up(&["rfid-1"]);
    append(&log, [0]);
    let _ = fleet.wait_events("drover/beacon/rfid-1/logfile/", 1);
    (fleet, log)
}

fn badges(events: &[Value]) -> Vec<u32> {
    events
        .iter()
        .map(|event| event["data"]["fields"]["badge"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn lines_arrive_once_and_in_order_through_rotation_and_a_master_that_dies() {
    let disk = ram_disk();
    let (mut fleet, log) = shipping(&disk, "");
    append(&log, 1..500);
    fleet.kill_master();
    append(&log, 500..1000);
    fs::rename(&log, disk.path().join("app.log.1")).unwrap();
    append(&log, 1000..1500);
    fleet.start_master();
    fleet.wait_connected(&["rfid-1"]);
    append(&log, 1500..2000);
    let events = fleet.wait_events("drover/beacon/rfid-1/logfile/", 2000);
    assert!(badges(&events).into_iter().eq(0..2000), "{:?}", badges(&events));
    let data = json!({
        "message": "10:00:00 INFO badge 0",
        "log": {"level": "info", "offset": 0, "file": {"path": log}},
        "fields": {"badge": "0"},
    });
    assert_eq!(events[0]["data"], data);
    assert!(fleet.events("drover/beacon/rfid-1/logfile/dropped").is_empty());
}

#[test]
fn a_log_fills_half_of_the_outbox_and_waits_in_its_file() {
    let disk = ram_disk();
    let (mut fleet, log) = shipping(&disk, "outbox_limit: 64KiB\n");
    fleet.kill_master();
    append(&log, 1..3000);
    fleet.start_master();
    let events = fleet.wait_events("drover/beacon/rfid-1/logfile/", 3000);
    assert!(badges(&events).into_iter().eq(0..3000), "{:?}", badges(&events));
    assert!(fleet.events("drover/minion/rfid-1/outbox/dropped").is_empty(), "nothing was dropped");
}
