//! Who may connect is the registry's word, at once and for good: unknown, rejected, revoked and foreign devices.

use std::{process::Command, time::Duration};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};
use serde_json::{Value, json};

#[test]
fn a_revoked_minion_is_cut_off_and_stays_out_over_a_restart() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let _ = fleet.drover(&["key", "revoke", "rfid-1", "-y"]).ok();
    wait::until("the connection is cut", Duration::from_secs(5), || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    // Nobody waits for it: it is listed with its status, and not among those that may come back.
    assert_eq!(fleet.json(&["presence"]), json!({}));
    assert_eq!(fleet.json(&["minions"])["rfid-1"]["status"], "revoked");
    fleet.kill_master();
    fleet.start_master();
    let keys = fleet.json(&["key", "list"]);
    assert_eq!(keys["revoked"], serde_json::json!(["rfid-1"]));
    // It knocks, and is refused.
    wait::until("the master has refused it", PATIENCE, || fleet.logs().contains("revoked"));
    // A target never selects it.
    assert_eq!(fleet.drover(&["rfid-1", "test.ping"]).status, 3);
}

#[test]
fn a_device_that_no_manifest_names_waits_outside_until_it_is_registered() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/key/rfid-1/*", 1);
    assert_ne!(fleet.json(&["presence"])["rfid-1"]["presence"], "connected");
    fleet.register();
    fleet.wait_connected(&["rfid-1"]);
}

#[test]
fn manual_acceptance_waits_for_an_operator() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: manual\n");
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    fleet.start_minion("rfid-1");
    wait::until("it is pending", PATIENCE, || {
        fleet.json(&["key", "list"])["pending"] == serde_json::json!(["rfid-1"])
    });
    let _ = fleet.drover(&["key", "accept", "rfid-1", "-y"]).ok();
    fleet.wait_connected(&["rfid-1"]);
    let _ = fleet.drover(&["key", "reject", "rfid-1", "-y"]).ok();
    wait::until("it is cut off", PATIENCE, || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    assert_eq!(fleet.json(&["presence"]), json!({}));
}

#[test]
fn a_device_of_another_fleet_gets_nowhere() {
    let mut ours = Fleet::new();
    ours.configure_master("acceptance: auto\n");
    ours.start_master();
    let mut theirs = Fleet::new();
    theirs.enrol("rfid-1", &[]);
    let address = ours.master_address();
    theirs.write(
        "minions/rfid-1/minion.yml",
        &format!("master: {address}\npki_dir: pki\ndata_dir: data\nrun_dir: run\n"),
    );
    theirs.start_minion("rfid-1");
    wait::until("it was turned away", PATIENCE, || {
        theirs.minion("rfid-1").log().lines().count() > 1
    });
    assert_eq!(ours.json(&["minions"]), serde_json::json!({}));
    assert!(theirs.minion("rfid-1").runs(), "it goes on trying");
}

#[test]
fn many_keys_are_shown_first_and_told_of_each() {
    let mut fleet = Fleet::new();
    for id in ["rfid-1", "rfid-2", "gate-1"] {
        fleet.enrol(id, &[]);
    }
    fleet.start_master();
    fleet.register();
    let unasked = fleet.drover(&["key", "reject", "rfid-*"]);
    assert_eq!(unasked.status, 2, "{}", unasked.stderr);
    assert!(unasked.stderr.contains("rfid-2  accepted -> rejected"), "{}", unasked.stderr);
    assert!(unasked.stderr.contains("hint: -y"), "{}", unasked.stderr);
    let dry = fleet.json(&["key", "reject", "rfid-*", "--dry-run"]);
    let would = json!({ "was": "accepted", "status": "rejected" });
    assert_eq!(dry, json!({ "rfid-1": would, "rfid-2": would }));
    let rejected = fleet.json(&["key", "reject", "rfid-*", "-y", "--reason", "wrong batch"]);
    assert_eq!(
        (&rejected["rfid-1"]["was"], &rejected["rfid-1"]["status"]),
        (&json!("accepted"), &json!("rejected"))
    );
    assert_eq!(fleet.json(&["key", "show", "rfid-2"])["reason"], "wrong batch");
    let listed = fleet.json(&["key", "list", "--status", "rej", "rfid-*"]);
    assert_eq!(listed["rejected"], json!(["rfid-1", "rfid-2"]));
    assert_eq!(fleet.drover(&["key", "accept", "web-*", "-y"]).status, 3);
    let mixed = fleet.drover(&["--out", "json", "key", "accept", "rfid-1", "nobody", "-y"]);
    assert_eq!(mixed.status, 1, "{}", mixed.stderr);
    assert_eq!(mixed.json()["rfid-1"]["status"], "accepted");
    assert_eq!(mixed.json()["nobody"]["error"], "there is no minion `nobody`");
    let _ = fleet.drover(&["key", "accept", "rfid-*", "-y"]).ok();
    let _ = fleet.drover(&["key", "delete", "--all", "-y"]).ok();
    let none = json!({ "accepted": [], "pending": [], "rejected": [], "revoked": [] });
    assert_eq!(fleet.json(&["key", "list"]), none);
}

#[test]
fn a_hundred_thousand_keys_are_changed_by_one_request() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    let ids: Vec<_> = (0..100_000).map(|number| format!("warehouse-reader-{number:06}")).collect();
    fleet.write("wanted", &json!({ "change": "revoke", "ids": ids }).to_string());
    let (socket, wanted) = (fleet.path("master/run/api.sock"), fleet.path("wanted"));
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "60", "--header", "content-type: application/json"])
        .args(["--unix-socket", socket.to_str().unwrap(), "--data-binary"])
        .args([&format!("@{}", wanted.display()), "http://master/v1/keys"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told.as_object().unwrap().len(), ids.len());
    assert_eq!(told[&ids[99_999]]["error"], format!("there is no minion `{}`", ids[99_999]));
}
