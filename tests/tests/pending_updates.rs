//! Updates that wait for a device that is away: kept, superseded, expired, taken back, and pushed once on its return.

use std::{fs, path::PathBuf};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};
use serde_json::json;

const REACTOR: &str = "reactor: [{'drover/minion/*/start': [reactor/push-pending.sls]}]\n";

/// A fleet whose state `app` writes a file that holds the pillar's release.
fn fleet() -> Fleet {
    let fleet = Fleet::new();
    fleet.configure_master(REACTOR);
    fleet.write(
        "master/reactor/push-pending.sls",
        "push:\n  runner.pending.deliver:\n    - tgt: {{ data['id'] }}\n",
    );
    let released = released(&fleet);
    fleet.write(
        "master/states/app.sls",
        &format!(
            "app:\n  file.managed:\n    - name: {}\n    - contents: {{{{ pillar['release'] }}}}\n",
            released.display()
        ),
    );
    fleet.write("master/states/other.sls", "other:\n  test.nop: []\n");
    fleet.write("master/pillar/top.sls", "base:\n  '*':\n    - release\n");
    release(&fleet, "one");
    fleet.enrol("rfid-1", &["role=rfid"]);
    fleet
}

fn released(fleet: &Fleet) -> PathBuf {
    fleet.path("released")
}

fn release(fleet: &Fleet, name: &str) {
    fleet.write("master/pillar/release.sls", &format!("release: {name}\n"));
}

fn queue(fleet: &Fleet, sls: &str) -> String {
    let queued = fleet.json(&["rfid-1", "state.apply", sls, "--pending"]);
    assert_eq!(queued["minions"], json!(["rfid-1"]), "{queued}");
    queued["jid"].as_str().expect("a jid").to_owned()
}

fn state_of(fleet: &Fleet, jid: &str) -> String {
    let job = fleet.json(&["jobs", "show", jid]);
    job["minions"]["rfid-1"]["state"].as_str().expect("a state").to_owned()
}

#[test]
fn an_update_waits_and_is_pushed_once_when_the_device_returns() {
    let mut fleet = fleet();
    fleet.start_master();
    fleet.register();
    let jid = queue(&fleet, "app");
    assert_eq!(state_of(&fleet, &jid), "queued");
    let pending = fleet.json(&["pending", "list"]);
    assert_eq!(pending[0]["jid"], json!(jid));
    assert_eq!(pending[0]["minion"], "rfid-1");
    assert_eq!(pending[0]["fun"], "state.apply");

    fleet.start_minion("rfid-1");
    wait::until("the update arrives", PATIENCE, || {
        fs::read_to_string(released(&fleet)).is_ok_and(|content| content.trim() == "one")
    });
    wait::until("the job is done", PATIENCE, || state_of(&fleet, &jid) == "done");
    assert_eq!(fleet.json(&["pending", "list"]), json!([]));

    // Another return brings nothing more.
    fleet.kill_minion("rfid-1");
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/minion/rfid-1/start", 2);
    fleet.wait_connected(&["rfid-1"]);
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    assert_eq!(fleet.events("drover/pending/rfid-1/delivered").len(), 1);
    assert_eq!(fleet.events(&format!("drover/job/{jid}/ret/rfid-1")).len(), 1);
}

#[test]
fn a_later_apply_of_the_same_sls_supersedes_an_earlier_one() {
    let mut fleet = fleet();
    fleet.start_master();
    fleet.register();
    let first = queue(&fleet, "app");
    let other = queue(&fleet, "other");
    let second = queue(&fleet, "app");
    assert_eq!(state_of(&fleet, &first), "superseded");
    assert_eq!(state_of(&fleet, &other), "queued");
    release(&fleet, "two");
    fleet.start_minion("rfid-1");
    wait::until("the later one is done", PATIENCE, || state_of(&fleet, &second) == "done");
    assert_eq!(state_of(&fleet, &other), "done");
    assert!(fleet.events(&format!("drover/job/{first}/ret/*")).is_empty());
}

#[test]
fn an_apply_that_does_not_wait_leaves_what_waits() {
    let mut fleet = fleet();
    fleet.start_master();
    fleet.register();
    let jid = queue(&fleet, "app");
    let _ = fleet.drover(&["rfid-1", "state.apply", "app"]);
    assert_eq!(state_of(&fleet, &jid), "queued");
    fleet.start_minion("rfid-1");
    wait::until("the job is done", PATIENCE, || state_of(&fleet, &jid) == "done");
}

#[test]
fn a_pending_job_expires_after_its_time_to_live() {
    let mut fleet = fleet();
    fleet.start_master();
    fleet.register();
    let queued = fleet.json(&["rfid-1", "state.apply", "app", "--pending", "--ttl", "1s"]);
    let jid = queued["jid"].as_str().expect("a jid").to_owned();
    let _ = fleet.wait_events("drover/pending/rfid-1/expired", 1);
    assert_eq!(state_of(&fleet, &jid), "expired");
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    assert!(!released(&fleet).exists());
}

#[test]
fn an_operator_takes_a_pending_job_back() {
    let mut fleet = fleet();
    fleet.start_master();
    fleet.register();
    let jid = queue(&fleet, "app");
    let _ = fleet.drover(&["pending", "cancel", &jid]).ok();
    assert_eq!(state_of(&fleet, &jid), "cancelled");
    assert_eq!(fleet.json(&["pending", "list"]), json!([]));
}

#[test]
fn a_killed_master_keeps_what_is_pending() {
    let mut fleet = fleet();
    fleet.start_master();
    fleet.register();
    let jid = queue(&fleet, "app");
    fleet.kill_master();
    fleet.start_master();
    assert_eq!(state_of(&fleet, &jid), "queued");
    fleet.start_minion("rfid-1");
    wait::until("the job is done", PATIENCE, || state_of(&fleet, &jid) == "done");
    assert_eq!(fs::read_to_string(released(&fleet)).unwrap().trim(), "one");
}
