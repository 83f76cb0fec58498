//! SIGKILL at any moment: nothing that was acknowledged is lost, and nothing that changes something runs twice.

use std::{collections::BTreeSet, fs, time::Duration};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    wait,
};

#[test]
fn events_that_a_minion_queued_survive_a_killed_master_and_are_stored_once() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\nbeacons: {load: [{interval: 1}]}\n");
    fleet.start_master();
    fleet.register();
    fleet.start_minion("rfid-1");
    for round in 1..=3_usize {
        let _ = fleet.wait_events("drover/beacon/rfid-1/*", round * 4);
        let before: BTreeSet<String> = identities(&fleet);
        fleet.kill_master();
        fleet.start_master();
        let after = identities(&fleet);
        assert!(before.is_subset(&after), "lost {:?}", before.difference(&after));
    }
    // The device's own stamps are the outbox's order: one stored twice would show its stamp twice.
    let events = fleet.events("drover/beacon/rfid-1/*");
    let stamps: BTreeSet<&str> = events.iter().filter_map(|event| event["at"].as_str()).collect();
    assert_eq!(stamps.len(), events.len(), "an event was stored twice");
}

fn identities(fleet: &Fleet) -> BTreeSet<String> {
    let events = fleet.events("*");
    events.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_command_that_a_crash_cut_off_fails_and_is_not_run_again() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let marks = fleet.path("marks");
    let command = format!("echo ran >> {}; sleep 60", marks.display());
    let started = fleet.json(&["--async", "rfid-1", "cmd.run", &command]);
    let jid = started["jid"].as_str().expect("a jid").to_owned();
    wait::until("the command runs", PATIENCE, || marks.exists());
    fleet.kill_minion("rfid-1");
    fleet.start_minion("rfid-1");
    let job = wait::until_some(
        "the job has ended",
        PATIENCE,
        || {
            let job = fleet.json(&["jobs", "show", &jid]);
            (job["minions"]["rfid-1"]["state"] == "failed").then_some(job)
        },
        || fleet.logs(),
    );
    assert_eq!(fs::read_to_string(&marks).unwrap(), "ran\n", "it ran once: {job}");
}

#[test]
fn a_return_reaches_the_store_though_the_master_was_dead_when_the_job_ended() {
    let mut fleet = Fleet::connected(&["rfid-1"]);
    let (begun, go) = (fleet.path("begun"), fleet.path("go"));
    let command = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.1; done; echo finished",
        begun.display(),
        go.display()
    );
    let started = fleet.json(&["--async", "rfid-1", "cmd.run", &command]);
    let jid = started["jid"].as_str().expect("a jid").to_owned();
    wait::until("the command runs", PATIENCE, || begun.exists());
    fleet.kill_master();
    fs::write(&go, "").unwrap();
    fleet.start_master();
    wait::until("the return is in the store", Duration::from_secs(60), || {
        let job = fleet.json(&["jobs", "show", &jid]);
        job["minions"]["rfid-1"]["return"] == "finished"
    });
    assert_eq!(fleet.events(&format!("drover/job/{jid}/ret/rfid-1")).len(), 1);
}
