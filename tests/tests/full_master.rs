//! A master whose disk is full loses nothing that it acknowledged, says so, and goes on by itself when there is room. The
//! disk is a small tmpfs, so this runs as root.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::collections::BTreeSet;

use drover_tests::{
    disk::Disk,
    fleet::{Fleet, PATIENCE},
    local_bus::Program,
    wait,
};
use serde_json::json;

const APP: &str = "drover/app/rfid-1/*";

fn seqs(fleet: &Fleet) -> Vec<u64> {
    fleet.events(APP).iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect()
}

fn ids(fleet: &Fleet) -> BTreeSet<String> {
    fleet.events("*").iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn refuses(fleet: &Fleet) -> bool {
    let sent = fleet.drover(&["events", "send", "site/door", "open=1"]);
    if sent.status == 0 {
        return false;
    }
    assert_eq!(sent.status, 1, "{}", sent.stderr);
    assert!(sent.stderr.contains("the store is full"), "{}", sent.stderr);
    assert!(sent.stderr.contains("hint: make room"), "{}", sent.stderr);
    true
}

#[test]
fn a_master_whose_disk_is_full_keeps_what_it_acknowledged_and_takes_the_rest_when_there_is_room() {
    let mut fleet = Fleet::new();
    for id in ["rfid-1", "rfid-2"] {
        fleet.enrol(id, &[]);
    }
    let disk = Disk::mount(fleet.path("master/data"), "96m");
    fleet.configure_master("events: {reserve: 16MiB}\n");
    fleet.bring_up(&["rfid-1"]);
    let mut program = Program::connect(&fleet.minion_dir("rfid-1").join("run/events.ipc"));
    let mut numbers = 0..;
    let mut send = |count| {
        for n in numbers.by_ref().take(count) {
            program.send("door/open", &json!({"n": n}));
        }
    };
    send(20);
    let _ = fleet.wait_events(APP, 20);

    disk.fill();
    wait::until("an event is refused", PATIENCE, || refuses(&fleet));
    let status = fleet.json(&["status"]);
    assert_eq!(status["store"]["state"], "full", "{status}");
    let kept = ids(&fleet);
    send(30);
    let ping = fleet.drover(&["rfid-1", "test.ping"]);
    assert_eq!(ping.status, 1, "{}", ping.stderr);
    assert!(ping.stderr.contains("hint: make room"), "{}", ping.stderr);
    let revoked = fleet.drover(&["key", "revoke", "rfid-2", "-y", "--reason", "stolen"]);
    assert_eq!(revoked.status, 0, "into the reserve: {}", revoked.stderr);
    for round in 0..3 {
        assert!(refuses(&fleet), "round {round}");
        fleet.kill_master();
        fleet.start_master();
        assert!(refuses(&fleet), "after a crash, round {round}");
        assert!(kept.is_subset(&ids(&fleet)), "what was acknowledged is there");
    }
    fleet.wait_connected(&["rfid-1"]);
    send(30);
    assert_eq!(seqs(&fleet).len(), 20, "what was not acknowledged waits at the device");
    assert_eq!(fleet.json(&["key", "show", "rfid-2"])["status"], "revoked");

    disk.empty();
    let told = fleet.wait_events("drover/master/store/full", 1);
    assert!(told[0]["data"]["refused"].as_u64() > Some(0), "{told:?}");
    let _ = fleet.wait_events(APP, 80);
    assert_eq!(seqs(&fleet), (0..80).collect::<Vec<_>>(), "all of them, once, in their order");
    assert!(kept.is_subset(&ids(&fleet)));
    assert_eq!(fleet.json(&["status"])["store"]["state"], "ok");
    assert_eq!(fleet.drover(&["rfid-1", "test.ping"]).status, 0);
    let (_, full) = (fleet.stop_master(), fleet.logs());
    assert_eq!(full.matches("the disk has room again").count(), 1, "{full}");
}

#[test]
fn a_disk_that_fills_up_against_all_care_ends_the_master_and_loses_nothing() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    let disk = Disk::mount(fleet.path("master/data"), "64m");
    // Nothing is kept free, so the engine meets a full disk.
    fleet.configure_master("events: {reserve: 1}\n");
    fleet.bring_up(&["rfid-1"]);
    let mut program = Program::connect(&fleet.minion_dir("rfid-1").join("run/events.ipc"));
    for n in 0..20 {
        program.send("door/open", &json!({"n": n}));
    }
    let _ = fleet.wait_events(APP, 20);
    let kept = ids(&fleet);
    disk.fill_but(64 << 10);
    // Larger than what is left, and than what the engine has to write over.
    let large: Vec<_> = (0..8).map(|n| format!("text{n}={}", "x".repeat(100_000))).collect();
    let mut words = vec!["events", "send", "site/door"];
    words.extend(large.iter().map(String::as_str));
    assert_eq!(fleet.drover(&words).status, 1, "it is not acknowledged");
    wait::until("the master has ended", PATIENCE, || !fleet.master().runs());
    for n in 20..40 {
        program.send("door/open", &json!({"n": n}));
    }
    disk.empty();
    fleet.start_master();
    assert!(kept.is_subset(&ids(&fleet)), "what was acknowledged is there");
    let _ = fleet.wait_events(APP, 40);
    assert_eq!(seqs(&fleet), (0..40).collect::<Vec<_>>(), "all of them, once, in their order");
}

/// Changes a key until the store has no room even for that, and gives what the operator is told.
fn exhaust(fleet: &Fleet) -> String {
    for round in 0..5_000 {
        let verb = if round % 2 == 0 { "reject" } else { "accept" };
        let changed = fleet.drover(&["key", verb, "rfid-2", "-y"]);
        if changed.status != 0 {
            return changed.stderr;
        }
    }
    panic!("the reserve has no end");
}

#[test]
fn a_master_without_any_room_left_lives_on_ends_when_told_and_goes_on_when_there_is_room() {
    let mut fleet = Fleet::new();
    for id in ["rfid-1", "rfid-2", "rfid-3"] {
        fleet.enrol(id, &[]);
    }
    let disk = Disk::mount(fleet.path("master/data"), "64m");
    fleet.configure_master("events: {reserve: 2MiB}\n");
    fleet.bring_up(&["rfid-1", "rfid-2"]);
    disk.fill();
    let told = exhaust(&fleet);
    assert!(told.contains("the store is full"), "{told}");
    assert!(told.contains("hint: make room"), "{told}");
    let kept = ids(&fleet);
    assert_eq!(fleet.json(&["status"])["store"]["state"], "full");
    let vault = fleet.path("vault.backup");
    let vault = vault.to_str().unwrap();
    let backup = fleet.drover(&["--out", "json", "backup", vault]).ok().json();
    assert!(backup["last_seq"].as_u64() > Some(0), "to another disk: {backup}");
    // What minions cause, and what the master has to say of itself, waits.
    fleet.kill_minion("rfid-1");
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
    // It is to be issued a certificate, which has to be on the books.
    fleet.start_minion("rfid-3");
    let not_issued = || fleet.logs().contains("nothing is issued until there is room");
    wait::until("the new device is told to wait", PATIENCE, not_issued);
    assert!(fleet.master().runs());
    assert_eq!(fleet.json(&["status"])["store"]["state"], "full");
    fleet.stop_master();
    fleet.start_master();
    assert_eq!(fleet.json(&["status"])["store"]["state"], "full");
    assert!(kept.is_subset(&ids(&fleet)), "what was acknowledged is there");
    disk.empty();
    let _ = fleet.wait_events("drover/master/store/full", 1);
    fleet.wait_connected(&["rfid-1", "rfid-3"]);
    assert_eq!(fleet.drover(&["rfid-1", "test.ping"]).status, 0);
    assert!(kept.is_subset(&ids(&fleet)));
}
