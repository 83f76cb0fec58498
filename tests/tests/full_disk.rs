//! A device whose disk is full is still reached, and does nothing twice: that is when its operator needs it. The disk
//! is a small tmpfs, so this runs as root.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::fs;

use drover_tests::{
    disk::Disk,
    fleet::{Fleet, PATIENCE},
    wait,
};

#[test]
fn a_device_whose_disk_is_full_runs_nothing_that_it_cannot_remember_and_comes_back_from_a_crash() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let disk = Disk::mount(fleet.minion_dir("rfid-1").join("data"), "256k");
    fleet.bring_up(&["rfid-1"]);
    let (begun, marks) = (fleet.path("begun"), fleet.path("marks"));
    let command = format!("touch {}; echo ran >> {}; sleep 60", begun.display(), marks.display());
    let started = fleet.json(&["--async", "rfid-1", "cmd.run", &command]);
    let jid = started["jid"].as_str().unwrap().to_owned();
    wait::until("the command runs", PATIENCE, || begun.exists());
    disk.fill();
    // The journal's last page still has room for a few.
    let refused = (1..200).find_map(|number| {
        let mark = fleet.path(&format!("mark-{number}"));
        let command = format!("touch {}", mark.display());
        let outcome = fleet.drover(&["--out", "json", "rfid-1", "cmd.run", &command]);
        (outcome.status == 1).then(|| (outcome.json(), mark))
    });
    let (said, mark) = refused.expect("one job is one too many for the disk");
    assert!(said["rfid-1"].as_str().unwrap().starts_with("not run: "), "{said}");
    assert!(!mark.exists(), "what cannot be written down does not run");

    fleet.kill_minion("rfid-1");
    fleet.start_minion("rfid-1");
    wait::until("the device is back, its disk full", PATIENCE, || {
        fleet.drover(&["rfid-1", "test.ping"]).status == 0
    });
    wait::until_some(
        "the job that the crash cut off has failed",
        PATIENCE,
        || {
            let job = fleet.json(&["jobs", "show", &jid]);
            (job["minions"]["rfid-1"]["state"] == "failed").then_some(())
        },
        || fleet.logs(),
    );
    assert_eq!(fs::read_to_string(&marks).unwrap(), "ran\n", "it ran once");
    disk.empty();
    assert_eq!(fleet.drover(&["rfid-1", "cmd.run", "true"]).status, 0);
    fleet.stop_minion("rfid-1");
}
