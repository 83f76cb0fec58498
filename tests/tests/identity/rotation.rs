//! Authorities that change under a working fleet: a new fleet CA, a new root, and devices that slept through it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use drover_pki::file;
use drover_tests::{
    fleet::{Fleet, Outcome, PATIENCE, run},
    process::{Daemon, program},
    wait,
};
use serde_json::Value;

/// Two minions that hold operational certificates for this long.
fn fleet(validity: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure_master(&format!("ldevid_validity: {validity}\n"));
    for id in ["rfid-1", "rfid-2"] {
        fleet.enrol(id, &[]);
        fleet.configure_minion(id, "heartbeat: 1s\n");
    }
    fleet.start_master();
    fleet.register();
    for id in ["rfid-1", "rfid-2"] {
        fleet.start_minion(id);
    }
    fleet.wait_connected(&["rfid-1", "rfid-2"]);
    fleet
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Where the root lies.
fn safe(arguments: &[&str]) -> Outcome {
    run(&program("drover-enrol"), arguments)
}

fn rotate(fleet: &Fleet, more: &[&str], out: &str) -> String {
    let (factory, out) = (fleet.path("factory"), fleet.path(out));
    let mut arguments = vec!["rotate-root", "--fleet", text(&factory), "--out", text(&out)];
    arguments.extend(more);
    let _ = safe(&arguments).ok();
    text(&out).to_owned()
}

fn import(fleet: &Fleet, file: &str) -> Value {
    fleet.json(&["key", "authorities", "import", file, "--within", "2s"])
}

fn authority(fleet: &Fleet, name: &str) -> Value {
    let report = fleet.json(&["key", "authorities"]);
    let found = report["authorities"].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.cloned().unwrap_or_default()
}

fn answers(fleet: &Fleet, id: &str) {
    wait::until_some(
        &format!("`{id}` answers"),
        PATIENCE,
        || (fleet.drover(&[id, "test.ping"]).status == 0).then_some(()),
        || fleet.logs(),
    );
}

fn openssl_verifies(root: &Path, certificate: &Path) -> bool {
    let (root, certificate) = (text(root), text(certificate));
    let arguments = ["verify", "-CAfile", root, "-untrusted", certificate, certificate];
    Command::new("openssl").args(arguments).output().unwrap().status.success()
}

fn use_agent_in_1970(fleet: &mut Fleet) {
    let path = fleet.path("agent-in-1970");
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD='/usr/$LIB/faketime/libfaketime.so.1' TZ=UTC\n\
         export FAKETIME='@1970-01-01 00:00:10' FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n\
         exec {} \"$@\"\n",
        program("drover-minion").display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fleet.use_agent(path);
}

#[test]
fn a_new_fleet_ca_takes_over_and_the_former_one_goes_when_nobody_holds_its_certificates() {
    let mut fleet = fleet("30d");
    let csr = fleet.path("fleet-ca.csr");
    let _ = fleet.drover(&["key", "authorities", "request", "--file", text(&csr)]).ok();
    // A master that is killed with a key that waits has it still.
    fleet.kill_master();
    fleet.start_master();
    fleet.wait_connected(&["rfid-1", "rfid-2"]);
    let (factory, out) = (fleet.path("factory"), fleet.path("new"));
    let certify = ["certify", "--fleet", text(&factory), "--csr", text(&csr), "--out", text(&out)];
    let _ = safe(&certify).ok();
    let refused = fleet.drover(&["key", "authorities", "drop", "fleet-ca"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    let told = import(&fleet, text(&out.join("fleet-ca.crt")));
    assert_eq!((&told["imported"], &told["name"]), (&"fleet_ca".into(), &"fleet-ca-2".into()));
    wait::until("both renewed from the new one", PATIENCE, || {
        authority(&fleet, "fleet-ca-2")["needed_by"] == 2
            && authority(&fleet, "fleet-ca")["needed_by"] == 0
    });
    let dropped = fleet.json(&["key", "authorities", "drop", "fleet-ca"]);
    assert_eq!(dropped["needed"], serde_json::json!({}), "{dropped}");
    for id in ["rfid-1", "rfid-2"] {
        answers(&fleet, id);
        let pki = fleet.minion_dir(id).join("pki");
        assert!(openssl_verifies(&pki.join("root.crt"), &pki.join("ldevid.crt")));
    }
    fleet.kill_master();
    fleet.start_master();
    fleet.wait_connected(&["rfid-1", "rfid-2"]);
}

#[test]
fn a_device_that_slept_through_two_rotations_and_knows_the_first_root_alone_comes_back() {
    let mut fleet = fleet("5s");
    // Stock: made under the first root, and never switched on so far.
    fleet.enrol("rfid-3", &[]);
    fleet.configure_minion("rfid-3", "heartbeat: 1s\n");
    fleet.register();
    fleet.stop_minion("rfid-2");
    let root = fleet.minion_dir("rfid-2").join("pki/root.crt");
    let born_with = fs::read(&root).unwrap();

    let one = rotate(&fleet, &[], "1.json");
    assert_eq!(import(&fleet, &one)["in_force"], true);
    wait::until("the one that is there follows", PATIENCE, || {
        authority(&fleet, "root-2")["trusted_by"] == 1
    });
    let two = rotate(&fleet, &["--drop", "root"], "2.json");
    assert_eq!(import(&fleet, &two)["in_force"], false);

    // The sleeper needs the old root.
    let refused = fleet.drover(&["key", "authorities", "drop", "root"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("rfid-2"), "{refused:?}");
    assert!(["rfid-1", "rfid-3"].iter().all(|id| !refused.stderr.contains(id)), "{refused:?}");
    let forced = fleet.json(&["key", "authorities", "drop", "root", "--force"]);
    let needed = serde_json::json!({ "behind": ["rfid-2"], "never_seen": ["rfid-3"] });
    assert_eq!(forced["needed"], needed, "{forced}");
    assert_eq!(authority(&fleet, "root"), Value::Null);

    let three = rotate(&fleet, &[], "3.json");
    assert_eq!(import(&fleet, &three)["in_force"], true);
    wait::until("it follows again", PATIENCE, || authority(&fleet, "root-3")["trusted_by"] == 1);
    let four = rotate(&fleet, &["--drop", "root-2"], "4.json");
    let _ = import(&fleet, &four);
    let _ = fleet.drover(&["key", "authorities", "drop", "root-2", "--force"]).ok();
    fleet.kill_master();
    fleet.start_master();
    answers(&fleet, "rfid-1");

    // Its operational certificate is long over, its clock says 1970, and its only root is one that nobody else trusts.
    assert_eq!(fs::read(&root).unwrap(), born_with);
    use_agent_in_1970(&mut fleet);
    fleet.start_minion("rfid-2");
    answers(&fleet, "rfid-2");
    // What blocked no drop comes back as well.
    fleet.start_minion("rfid-3");
    answers(&fleet, "rfid-3");
    wait::until("they trust the newest root alone", PATIENCE, || {
        authority(&fleet, "root-3")["trusted_by"] == 3
    });
    let newest = fleet.path("factory/root/root.crt");
    assert_eq!(fs::read(&root).unwrap(), fs::read(&newest).unwrap());
    fleet.kill_minion("rfid-2");
    fleet.start_minion("rfid-2");
    answers(&fleet, "rfid-2");
}

#[test]
fn a_device_that_is_killed_as_it_follows_a_list_trusts_the_roots_before_or_after() {
    let mut fleet = fleet("30d");
    let pki = fleet.minion_dir("rfid-2").join("pki");
    let known = || file::read_anchors(&pki.join("root.crt")).unwrap().certificates().len();
    // The list and `root.crt`: each synced, renamed, and its directory synced.
    let cuts = [("fsync", 1), ("renameat", 1), ("fsync", 2), ("renameat", 2), ("fsync", 4)];
    for (round, (call, number)) in cuts.into_iter().enumerate() {
        let list = rotate(&fleet, &[], &format!("{round}.json"));
        let agent = fleet.minion("rfid-2").id().to_string();
        let (trace, inject) =
            (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}"));
        let arguments = ["-f", "-p", &agent, "-e", &trace, "-e", &inject];
        let log = fleet.path("strace.log");
        let cutter = Daemon::start(Path::new("strace"), arguments, log.clone());
        wait::until("strace is attached", PATIENCE, || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("attached"))
        });
        let _ = import(&fleet, &list);
        wait::until(&format!("killed at {call} {number}"), PATIENCE, || {
            !fleet.minion("rfid-2").runs()
        });
        fleet.kill_minion("rfid-2");
        cutter.kill();
        fs::remove_file(&log).unwrap();
        assert!((round + 1..=round + 2).contains(&known()));
        fleet.start_minion("rfid-2");
        answers(&fleet, "rfid-2");
        let name = format!("root-{}", round + 2);
        wait::until(&format!("it trusts {name}"), PATIENCE, || {
            authority(&fleet, &name)["trusted_by"] == 2
        });
        assert_eq!(known(), round + 2);
    }
}
