//! Somebody at the station makes it forget what it issued: lines cut off its ledger, and an older copy of all of it.

use std::{fs, path::Path, process::Command};

use drover_tests::{
    fleet::{Fleet, Outcome, run},
    process::program,
};

fn enrol(fleet: &Fleet, verb: &[&str], more: &[&str]) -> Outcome {
    let station = fleet.path("stations/line-1");
    let arguments = [verb, &["--station", station.to_str().unwrap()], more].concat();
    run(&program("drover-enrol"), &arguments)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_station_whose_ledger_was_cut_is_named_the_lines_and_issues_nothing() {
    let fleet = Fleet::new();
    for id in ["rfid-1", "rfid-2", "rfid-3"] {
        fleet.enrol(id, &[]);
    }
    let ledger = fleet.path("stations/line-1/ledger.ndjson");
    let whole = fs::read_to_string(&ledger).unwrap();
    let first = whole.split_inclusive('\n').next().unwrap();
    fs::write(&ledger, first).unwrap();
    let verified = enrol(&fleet, &["ledger", "verify"], &[]);
    assert_eq!(verified.status, 1);
    assert!(verified.stdout.contains("lines 2 to 3 were cut off the end"), "{}", verified.stdout);

    // What the cut was for: the serial number of the last device, once more.
    let out = fleet.path("clone");
    let again = ["--id", "rfid-3", "--serial", "SN-rfid-3", "--out", out.to_str().unwrap()];
    let refused = enrol(&fleet, &["issue"], &again);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("does not verify"), "{}", refused.stderr);
    assert!(!out.exists());
    // Put back, it goes on.
    fs::write(&ledger, whole).unwrap();
    let refused = enrol(&fleet, &["issue"], &again);
    assert!(refused.stderr.contains("was issued at"), "{}", refused.stderr);
}

#[test]
fn a_station_that_was_set_back_to_an_older_copy_is_found_out_by_the_master() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    fleet.enrol("rfid-1", &[]);
    let (station, older) = (fleet.path("stations/line-1"), fleet.path("older"));
    copy(&station, &older);
    fleet.enrol("rfid-2", &[]);
    fleet.register();

    // Ledger, head and manifests, all of them genuine once: nothing at the station shows it.
    fs::remove_dir_all(&station).unwrap();
    copy(&older, &station);
    let _ = enrol(&fleet, &["ledger", "verify"], &[]).ok();
    let out = fleet.path("clone");
    let clone = ["--id", "rfid-2", "--serial", "SN-rfid-2", "--out", out.to_str().unwrap()];
    let _ = enrol(&fleet, &["issue"], &clone).ok();
    let manifest = fleet.path("forked");
    let _ = enrol(&fleet, &["manifest"], &["--out", manifest.to_str().unwrap()]).ok();
    let refused = fleet.drover(&["key", "import", manifest.to_str().unwrap()]);
    assert_eq!(refused.status, 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("does not go on from the"), "{}", refused.stderr);
}
