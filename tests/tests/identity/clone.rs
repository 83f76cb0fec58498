//! A device's disk is copied: two machines have one identity.

use std::fs;

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};
use serde_json::json;

/// What a thief takes: the identity and the configuration of a device that has been in the field.
fn copy_of(fleet: &Fleet, id: &str, name: &str) {
    let (from, to) = (fleet.minion_dir(id), fleet.minion_dir(name));
    fs::create_dir_all(to.join("pki")).unwrap();
    fs::copy(from.join("minion.yml"), to.join("minion.yml")).unwrap();
    for entry in fs::read_dir(from.join("pki")).unwrap().flatten() {
        fs::copy(entry.path(), to.join("pki").join(entry.file_name())).unwrap();
    }
}

#[test]
fn the_machine_that_was_there_first_stays_and_both_are_named() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let first = fleet.wait_events("drover/minion/rfid-1/start", 1).pop().unwrap();
    copy_of(&fleet, "rfid-1", "twin");
    fleet.start_minion("twin");
    let clone = fleet.wait_events("drover/key/rfid-1/clone", 1).remove(0);
    let data = &clone["data"];
    assert_eq!(
        (&data["sign"], &data["cut"], &data["kept"]),
        (&json!("two_boots"), &json!([1]), &json!(0))
    );
    let machines = data["machines"].as_array().unwrap();
    assert_eq!(machines[0]["boot"], first["data"]["boot"], "{data}");
    assert_ne!(machines[0]["boot"], machines[1]["boot"]);
    for machine in machines {
        assert_eq!(machine["address"], "127.0.0.1", "{data}");
        assert_eq!(machine["fingerprint"].as_str().unwrap().len(), 95, "{data}");
    }
    fleet.wait_connected(&["rfid-1"]);
    wait::until("the copy is told why", PATIENCE, || {
        fleet.minion("twin").log().contains("another machine has this identity")
    });
    let answer = fleet.json(&["rfid-1", "test.ping"]);
    assert_eq!(answer, json!({ "rfid-1": true }));
    let boots: Vec<_> = fleet.events("drover/minion/rfid-1/start");
    assert_eq!(boots.last().unwrap()["data"]["boot"], first["data"]["boot"], "the first is back");
    assert_eq!(fleet.events("drover/key/rfid-1/clone").len(), 1, "once an hour");

    // The first one goes: whoever has its identity may come.
    fleet.stop_minion("rfid-1");
    fleet.stop_minion("twin");
    fleet.start_minion("twin");
    fleet.wait_connected(&["rfid-1"]);
}

#[test]
fn both_are_cut_off_where_the_policy_says_so_until_an_operator_accepts() {
    let mut fleet = Fleet::new();
    fleet.configure_master("clones: both\n");
    fleet.enrol("rfid-1", &[]);
    fleet.bring_up(&["rfid-1"]);
    copy_of(&fleet, "rfid-1", "twin");
    fleet.start_minion("twin");
    let clone = fleet.wait_events("drover/key/rfid-1/clone", 1).remove(0);
    assert_eq!((&clone["data"]["cut"], &clone["data"]["kept"]), (&json!([0, 1]), &json!(null)));
    let rejected = fleet.wait_events("drover/key/rfid-1/rejected", 1).remove(0);
    assert!(rejected["data"]["reason"].as_str().unwrap().contains("two machines"), "{rejected}");
    wait::until("it is cut off", PATIENCE, || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    fleet.stop_minion("twin");
    let _ = fleet.drover(&["key", "accept", "rfid-1"]).ok();
    // It may have been told to stay away for a minute, which is longer than a test waits.
    fleet.stop_minion("rfid-1");
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
}
