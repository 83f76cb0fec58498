//! The end of a device's service: told before, its last act, and then nothing more.

use std::fs;

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};
use serde_json::json;

#[test]
fn a_device_does_its_last_act_on_its_day_and_is_revoked() {
    let fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let farewell = fleet.path("farewell");
    let act = format!("cmd.run 'echo gone > {}'", farewell.display());
    let retire = ["key", "retire", "rfid-1", "--at", "+2s", "--last-act", &act];
    let outcome = fleet.drover(&[&["--out", "json"], &retire[..]].concat()).ok();
    assert_eq!(outcome.json()["rfid-1"]["retire"]["last_act"]["fun"], "cmd.run");
    let told = fleet.wait_events("drover/key/rfid-1/retired", 1).remove(0);
    assert_eq!(told["data"]["last_act"], "done", "{told}");
    assert_eq!(fs::read_to_string(&farewell).unwrap(), "gone\n");
    let phases: Vec<_> = fleet
        .events("drover/key/rfid-1/retiring")
        .iter()
        .map(|event| event["data"]["phase"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(phases, ["ordered", "due"]);
    wait::until("it is cut", PATIENCE, || {
        fleet.json(&["presence"])["rfid-1"]["presence"] != "connected"
    });
    let key = fleet.json(&["key", "show", "rfid-1"]);
    assert_eq!(
        (&key["status"], &key["reason"]),
        (&json!("revoked"), &json!("cessation of operation"))
    );
    assert_eq!(fleet.json(&["key", "list"])["accepted"], json!(["rfid-2"]));
}

/// A device that is away, and whose last act waits for it.
fn away_on_its_day() -> Fleet {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    fleet.stop_minion("rfid-1");
    fleet.wait_presence(&["rfid-1"], "stale");
    let retire = ["key", "retire", "rfid-1", "--at", "+1s", "--last-act", "test.echo bye"];
    let _ = fleet.drover(&retire).ok();
    wait::until("its day has come", PATIENCE, || {
        fleet.json(&["key", "show", "rfid-1"])["retire"]["jid"].is_string()
    });
    fleet
}

#[test]
fn a_last_act_waits_for_a_device_that_is_away_also_over_a_restart() {
    let mut fleet = away_on_its_day();
    fleet.kill_master();
    fleet.start_master();
    assert_eq!(fleet.json(&["key", "show", "rfid-1"])["status"], "accepted");
    let cancelled = fleet.drover(&["key", "retire", "rfid-1", "--cancel"]);
    assert_eq!(cancelled.status, 1, "{}", cancelled.stderr);
    fleet.start_minion("rfid-1");
    let told = fleet.wait_events("drover/key/rfid-1/retired", 1).remove(0);
    assert_eq!(told["data"]["last_act"], "done", "{told}");
    let jobs = fleet.json(&["jobs", "list"]);
    let last_acts = jobs.as_array().unwrap().iter().filter(|job| job["fun"] == "test.echo");
    assert_eq!(last_acts.count(), 1, "once: {jobs}");
}

#[test]
fn what_waited_for_a_device_is_not_for_the_next_one_with_its_id() {
    let fleet = away_on_its_day();
    assert_eq!(fleet.json(&["pending", "list"]).as_array().unwrap().len(), 1);
    let _ = fleet.drover(&["key", "delete", "rfid-1"]).ok();
    assert_eq!(fleet.json(&["pending", "list"]), json!([]));
    let job = &fleet.json(&["jobs", "list"])[0];
    let job = fleet.json(&["jobs", "show", job["jid"].as_str().unwrap()]);
    assert_eq!(job["minions"]["rfid-1"]["state"], "cancelled", "{job}");
}

#[test]
fn a_retirement_is_told_shown_and_taken_back() {
    let fleet = Fleet::connected(&["rfid-1"]);
    let _ = fleet.drover(&["key", "retire", "rfid-*", "--at", "2099-01-31", "-y"]).ok();
    let key = fleet.json(&["key", "show", "rfid-1"]);
    assert_eq!(key["retire"]["at"], "2099-01-31T00:00:00Z");
    wait::until("the device knows", PATIENCE, || {
        fleet.json(&["rfid-1", "grains.get", "retires_at"])["rfid-1"] == "2099-01-31T00:00:00Z"
    });
    let list = fleet.drover(&["key", "list"]).ok();
    assert!(list.stdout.contains("2099-01-31"), "{}", list.stdout);
    let _ = fleet.drover(&["key", "retire", "rfid-1", "--cancel"]).ok();
    assert_eq!(fleet.json(&["key", "show", "rfid-1"])["retire"], json!(null));
    wait::until("the device knows", PATIENCE, || {
        fleet.json(&["rfid-1", "grains.get", "retires_at"])["rfid-1"] != "2099-01-31T00:00:00Z"
    });
}
