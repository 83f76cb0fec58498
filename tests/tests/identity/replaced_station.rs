//! A station's laptop dies, and the station is made again from the manifests that the master keeps.

use std::fs;

use drover_tests::{
    fleet::{Fleet, Outcome, run},
    process::program,
};
use serde_json::json;

fn enrol(arguments: &[&str]) -> Outcome {
    run(&program("drover-enrol"), arguments)
}

#[test]
fn a_station_whose_laptop_died_goes_on_without_losing_its_devices() {
    let mut fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    fleet.enrol("rfid-3", &[]);
    fleet.register();
    let station = fleet.path("stations/line-1");
    fs::remove_dir_all(&station).unwrap();
    let station = station.to_str().unwrap();

    let out = fleet.path("back");
    let give = ["key", "manifest", "line-1", "--all", "--dir", out.to_str().unwrap()];
    let _ = fleet.drover(&give).ok();
    let mut manifests: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    manifests.sort();
    let manifests: Vec<&str> = manifests.iter().map(String::as_str).collect();
    let factory = fleet.path("factory");
    let init = ["init-station", "--fleet", factory.to_str().unwrap(), "--name", "line-1"];
    let init = [&init[..], &["--dir", station, "--replace"]].concat();
    let refused = enrol(&[&init[..], &manifests[1..]].concat());
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("`line-1` manifest 1 is missing"), "{}", refused.stderr);
    assert!(refused.stderr.contains("drover key manifest line-1 --all"), "{}", refused.stderr);
    let made = enrol(&[&init[..], &manifests].concat()).ok();
    assert!(made.stdout.contains("it knows 3 devices"), "{}", made.stdout);

    // Nobody is issued twice, numbers go on, and the devices are the same as before.
    let clone = fleet.path("clone");
    let again = ["issue", "--station", station, "--id", "rfid-9", "--serial", "SN-rfid-2"];
    let refused = enrol(&[&again[..], &["--out", clone.to_str().unwrap()]].concat());
    assert!(refused.stderr.contains("was issued at"), "{}", refused.stderr);
    fleet.enrol("rfid-4", &[]);
    fleet.register();
    fleet.start_minion("rfid-4");
    fleet.wait_connected(&["rfid-1", "rfid-2", "rfid-4"]);
    let accepted = fleet.json(&["key", "list"])["accepted"].clone();
    assert_eq!(accepted, json!(["rfid-1", "rfid-2", "rfid-3", "rfid-4"]));
    let out = fleet.path("back-again");
    let _ = fleet.drover(&["key", "manifest", "line-1", "3", "-o", out.to_str().unwrap()]).ok();
    let _ = enrol(&["ledger", "verify", "--station", station]).ok();

    // A device of the station before it gets another certificate from this one.
    let new = fleet.path("minions/new");
    let address = fleet.master_address();
    let device = ["issue", "--station", station, "--id", "rfid-2", "--serial", "SN-rfid-2"];
    let reissue = ["--reissue", "--reason", "card lost", "--master", &address, "--out"];
    let _ = enrol(&[&device[..], &reissue, &[new.to_str().unwrap()]].concat()).ok();
    fleet.register();
    fleet.stop_minion("rfid-2");
    let pki = fleet.minion_dir("rfid-2");
    fs::remove_dir_all(&pki).unwrap();
    fs::rename(&new, &pki).unwrap();
    fleet.start_minion("rfid-2");
    fleet.wait_connected(&["rfid-2"]);
}
