//! Renewal after renewal, and a fleet that comes for the first time: nobody is missed, and nothing piles up.

use std::{collections::BTreeSet, fs};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    process::{Daemon, program},
    wait,
};

#[test]
fn a_device_that_renews_every_second_is_never_seen_to_leave() {
    let mut fleet = Fleet::new();
    fleet.configure_master("ldevid_validity: 2s\n");
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    fleet.bring_up(&["rfid-1"]);
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", 12);
    let by: Vec<_> = renewed.iter().map(|event| event["data"]["by"].as_str().unwrap()).collect();
    assert_eq!(by[0], "birth");
    assert!(by[1..].iter().all(|by| *by == "operational"), "{by:?}\n{}", fleet.logs());
    let serials: BTreeSet<_> =
        renewed.iter().map(|event| event["data"]["serial"].to_string()).collect();
    assert_eq!(serials.len(), renewed.len());
    let count = |tag| fleet.events(tag).len();
    assert_eq!(count("drover/minion/rfid-1/start"), 1);
    assert_eq!(count("drover/minion/rfid-1/stop"), 0);
    assert_eq!(count("drover/presence/rfid-1/*"), 0);
    fleet.stop_minion("rfid-1");
    let mut files: Vec<_> = fs::read_dir(fleet.minion_dir("rfid-1").join("pki"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["idevid.crt", "idevid.key", "ldevid.crt", "ldevid.key", "root.crt"]);
}

#[test]
fn a_fleet_that_comes_for_the_first_time_gets_its_certificates_and_is_served() {
    const DEVICES: usize = 200;
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\nhandshakes: 8192\nhandshakes_per_address: 8192\n");
    fleet.start_master();
    let paths = [fleet.path("stations/line-1"), fleet.path("factory/root/root.crt")];
    let [station, root] = paths.each_ref().map(|path| path.to_str().unwrap());
    let (address, count) = (fleet.master_address(), DEVICES.to_string());
    let arguments = ["--station", station, "--root", root, "--master", &address, "--count", &count];
    let devices = Daemon::start(&program("drover-sim"), arguments, fleet.path("sim.log"));
    wait::until_some(
        "the fleet has its certificates",
        PATIENCE,
        || devices.log().contains(&format!("issued {DEVICES} operational")).then_some(()),
        || devices.log(),
    );
    let answered = fleet.json(&["sim-*", "test.ping"]);
    assert_eq!(answered.as_object().unwrap().len(), DEVICES);
    let renewed = fleet.events("drover/key/sim-*/renewed");
    assert_eq!(renewed.len(), DEVICES);
    assert_eq!(fleet.events("drover/minion/sim-*/start").len(), DEVICES);
}
