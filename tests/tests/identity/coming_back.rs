//! Devices that come back with something else than what they left with: an older image, a disk that takes nothing.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use drover_tests::{
    fleet::{Fleet, PATIENCE},
    process::program,
    wait,
};

fn fleet(validity: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure_master(&format!("ldevid_validity: {validity}\n"));
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    fleet.start_master();
    fleet.register();
    fleet
}

fn renewals(fleet: &Fleet, by: &str) -> usize {
    let renewed = fleet.events("drover/key/rfid-1/renewed");
    renewed.iter().filter(|event| event["data"]["by"] == by).count()
}

/// An agent whose start is preceded by these commands, in a mount namespace of its own. `$PKI` is its `pki_dir`.
fn use_agent_after(fleet: &mut Fleet, commands: &str) {
    let path = fleet.path("agent-in-a-namespace");
    let script = format!(
        "#!/bin/sh\nexport PKI={}\nexec unshare --mount --propagation private sh -ec '{commands}\nexec {} \"$@\"' sh \"$@\"\n",
        fleet.minion_dir("rfid-1").join("pki").display(),
        program("drover-minion").display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fleet.use_agent(path);
}

#[test]
fn a_device_that_was_put_back_to_an_older_image_comes_back_by_its_birth_certificate() {
    let mut fleet = fleet("15s");
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
    let pki = fleet.minion_dir("rfid-1").join("pki");
    let copies = ["ldevid.crt", "ldevid.key"].map(|name| (name, fs::read(pki.join(name)).unwrap()));
    let _ = fleet.wait_events("drover/key/rfid-1/renewed", 2);
    let _ = fleet.drover(&["rfid-1", "test.ping"]).ok();
    fleet.stop_minion("rfid-1");
    for (name, content) in copies {
        fs::write(pki.join(name), content).unwrap();
    }
    assert_eq!(renewals(&fleet, "birth"), 1);
    fleet.start_minion("rfid-1");
    wait::until("it was refused and came back", PATIENCE, || renewals(&fleet, "birth") == 2);
    fleet.wait_connected(&["rfid-1"]);
    let log = fs::read_to_string(fleet.path("minion-rfid-1.log")).unwrap();
    assert!(log.contains("the master closed the connection after the handshake"), "{log}");
}

#[test]
fn a_device_whose_pki_directory_is_read_only_renews_in_memory() {
    let mut fleet = fleet("3s");
    use_agent_after(&mut fleet, "mount --bind $PKI $PKI; mount -o remount,bind,ro $PKI");
    in_memory(&mut fleet, "ead-only file system");
}

#[test]
fn a_device_whose_pki_directory_is_full_renews_in_memory() {
    let mut fleet = fleet("3s");
    use_agent_after(
        &mut fleet,
        "cp -rT $PKI $PKI.copy; mount -t tmpfs -o size=32k,mode=700 tmpfs $PKI; cp $PKI.copy/* $PKI\n\
         cat /dev/zero > $PKI/filler 2>/dev/null || true",
    );
    in_memory(&mut fleet, "No space left on device");
}

/// It works until it is restarted, and then it works again.
fn in_memory(fleet: &mut Fleet, why: &str) {
    fleet.start_minion("rfid-1");
    fleet.wait_connected(&["rfid-1"]);
    wait::until_some(
        "it has renewed in memory",
        PATIENCE,
        || (renewals(fleet, "operational") >= 3).then_some(()),
        || fleet.logs(),
    );
    let told = fleet.events("drover/minion/rfid-1/identity/not_stored");
    assert_eq!(told.len(), 1, "told once: {told:?}");
    assert!(told[0]["data"]["reason"].as_str().unwrap().contains(why), "{told:?}");
    assert_eq!(renewals(fleet, "birth"), 1);
    assert!(!has_operational(fleet.minion_dir("rfid-1").join("pki").as_path()));
    fleet.stop_minion("rfid-1");
    fleet.start_minion("rfid-1");
    wait::until("it is back by its birth certificate", PATIENCE, || renewals(fleet, "birth") == 2);
    fleet.wait_connected(&["rfid-1"]);
}

fn has_operational(pki: &Path) -> bool {
    fs::read_dir(pki)
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("ldevid"))
}
