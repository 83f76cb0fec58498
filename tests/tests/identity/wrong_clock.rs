//! Devices whose clocks are wrong: without a battery one wakes in 1970 each time, and another's runs ahead. Their
//! certificates are renewed when they should be all the same.

use std::{fs, os::unix::fs::PermissionsExt as _};

use drover_tests::{fleet::Fleet, openssl::Shown, process::program};

const IN_1970: &str = "@1970-01-01 00:00:10";

/// The real agent on a machine whose clock says this, whenever it starts.
fn use_agent_at(fleet: &mut Fleet, time: &str) {
    let path = fleet.path("agent-at-another-time");
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD='/usr/$LIB/faketime/libfaketime.so.1' TZ=UTC\n\
         export FAKETIME='{time}' FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n\
         exec {} \"$@\"\n",
        program("drover-minion").display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fleet.use_agent(path);
}

#[test]
fn a_device_that_wakes_in_1970_gets_and_renews_its_certificate() {
    let mut fleet = Fleet::new();
    fleet.configure_master("ldevid_validity: 6s\n");
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    use_agent_at(&mut fleet, IN_1970);
    fleet.bring_up(&["rfid-1"]);
    // For openssl, in 1970, there is no master yet.
    let master = ["crt", "key"].map(|kind| fleet.path(&format!("master/pki/master.{kind}")));
    let master = Shown::files(&fleet, &master[0], &master[1]);
    let found = master.openssl_finds(&["-attime", "10", "-purpose", "sslserver"]);
    assert!(found.contains("is not yet valid"), "{found}");
    assert_eq!(master.openssl_finds(&["-purpose", "sslserver"]), "");
    let date = fleet.json(&["rfid-1", "cmd.run", "date +%Y"]);
    assert_eq!(date["rfid-1"], "1970", "{}", fleet.logs());
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", 4);
    let by: Vec<_> = renewed.iter().map(|event| event["data"]["by"].as_str().unwrap()).collect();
    assert_eq!(by[..4], ["birth", "operational", "operational", "operational"]);
    let issued = |at: usize| -> jiff::Timestamp {
        renewed[at]["data"]["issued"].as_str().unwrap().parse().unwrap()
    };
    for at in 1..4 {
        let age = issued(at - 1).duration_until(issued(at)).as_secs();
        assert!((3..=5).contains(&age), "renewed at the age of {age} s, of 6");
    }
    assert_eq!(fleet.events("drover/minion/rfid-1/start").len(), 1, "{}", fleet.logs());

    // And again in 1970, with what it has kept.
    fleet.kill_minion("rfid-1");
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/minion/rfid-1/start", 2);
    let more = fleet.events("drover/key/rfid-1/renewed").len();
    let _ = fleet.wait_events("drover/key/rfid-1/renewed", more + 1);
}

#[test]
fn a_device_whose_clock_is_two_months_ahead_does_not_take_its_certificates_for_expired() {
    let mut fleet = Fleet::new();
    fleet.configure_master("ldevid_validity: 4s\n");
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    use_agent_at(&mut fleet, "+60d");
    fleet.bring_up(&["rfid-1"]);
    let renewed = fleet.wait_events("drover/key/rfid-1/renewed", 3);
    let by: Vec<_> = renewed.iter().map(|event| event["data"]["by"].as_str().unwrap()).collect();
    assert_eq!(by[..3], ["birth", "operational", "operational"]);
}

#[test]
fn a_device_that_wakes_in_2099_comes_also_for_the_first_time() {
    let mut fleet = Fleet::new();
    fleet.configure_master("ldevid_validity: 6s\n");
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    use_agent_at(&mut fleet, "@2099-12-31 23:59:50");
    fleet.bring_up(&["rfid-1"]);
    let year = fleet.json(&["rfid-1", "cmd.run", "date +%Y"]);
    assert!(["2099", "2100"].contains(&year["rfid-1"].as_str().unwrap()), "{year}");
    let _ = fleet.wait_events("drover/key/rfid-1/renewed", 3);
    fleet.kill_minion("rfid-1");
    fleet.start_minion("rfid-1");
    let _ = fleet.wait_events("drover/minion/rfid-1/start", 2);
}
