//! Power cuts on the device. Killed at each system call by which a renewal changes the disk, it has a working identity
//! and comes back with it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use drover_pki::{certificate::Certificate, file, pair::KeyPairFiles};
use drover_tests::{
    fleet::{Fleet, PATIENCE},
    process::{Daemon, program},
    wait,
};

/// The system calls by which a renewal changes the disk, and how many of each it makes: for the key and the certificate
/// beside the old ones, the rename that decides, the one that tidies up, and the clock's floor.
const RENEWAL: [(&str, usize); 4] = [("fsync", 7), ("rename", 2), ("renameat", 1), ("unlink", 2)];

/// Likewise at first contact, from the start of the agent on.
const FIRST_CONTACT: [(&str, usize); 4] =
    [("fsync", 10), ("rename", 2), ("renameat", 2), ("unlink", 2)];

fn answers(fleet: &Fleet, id: &str) {
    wait::until_some(
        &format!("`{id}` is back"),
        PATIENCE,
        || (fleet.drover(&[id, "test.ping"]).status == 0).then_some(()),
        || fleet.logs(),
    );
}

/// Which files of the operational certificate there are, and which of them has the certificate's key.
fn state(pki: &Path) -> (Vec<String>, Option<&'static str>) {
    let mut names: Vec<String> = fs::read_dir(pki)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("ldevid"))
        .collect();
    names.sort();
    let wanted = file::read_certificates(&pki.join("ldevid.crt"))
        .ok()
        .map(|chain| Certificate::read(&chain[0]).unwrap().key);
    let of = ["ldevid.key", "ldevid.next.key"].into_iter().find(|name| {
        let key = file::read_key(&pki.join(name)).ok();
        wanted.is_some() && key.map(|key| key.public().digest()) == wanted
    });
    (names, of)
}

/// A copy, so that looking at it changes nothing.
fn loads(pki: &Path) -> bool {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(pki).unwrap().flatten() {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    KeyPairFiles::new(copy.path(), "ldevid").load().unwrap().is_some()
}

#[test]
fn a_device_that_is_killed_at_any_step_of_a_renewal_has_a_working_identity() {
    let mut fleet = Fleet::new();
    fleet.configure_master("ldevid_validity: 4s\n");
    fleet.enrol("rfid-1", &[]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    fleet.bring_up(&["rfid-1"]);
    let pki = fleet.minion_dir("rfid-1").join("pki");
    let mut seen = BTreeSet::new();
    for (call, count) in RENEWAL {
        for number in 1..=count {
            let agent = fleet.minion("rfid-1").id().to_string();
            let (trace, inject) =
                (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}"));
            let arguments = ["-f", "-p", &agent, "-e", &trace, "-e", &inject];
            let cutter = Daemon::start(Path::new("strace"), arguments, fleet.path("strace.log"));
            wait::until(&format!("killed at {call} {number}"), PATIENCE, || {
                !fleet.minion("rfid-1").runs()
            });
            fleet.kill_minion("rfid-1");
            cutter.kill();
            let (names, of) = state(&pki);
            assert!(loads(&pki), "{call} {number}: {names:?}, the key is {of:?}");
            seen.insert((names, of));
            fleet.start_minion("rfid-1");
            answers(&fleet, "rfid-1");
        }
    }
    let whole = ["ldevid.crt", "ldevid.key"];
    let staged = ["ldevid.crt", "ldevid.key", "ldevid.next.key"];
    let prepared = ["ldevid.crt", "ldevid.key", "ldevid.next.crt", "ldevid.next.key"];
    let (old, new) = (Some("ldevid.key"), Some("ldevid.next.key"));
    for (names, of) in [(&whole[..], old), (&staged, old), (&prepared, old), (&staged, new)] {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        assert!(seen.contains(&(names.clone(), of)), "{names:?} {of:?} is not among {seen:?}");
    }
}

#[test]
fn a_device_that_is_killed_at_any_step_of_its_first_contact_is_not_lost() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.start_master();
    for (call, count) in FIRST_CONTACT {
        for number in 1..=count {
            let id = format!("{call}-{number}");
            fleet.enrol(&id, &[]);
            fleet.use_agent(cutting(&fleet, call, number));
            fleet.start_minion(&id);
            wait::until(&format!("killed at {call} {number}"), PATIENCE, || {
                !fleet.minion(&id).runs()
            });
            fleet.kill_minion(&id);
            fleet.use_agent(program("drover-minion"));
            fleet.start_minion(&id);
            answers(&fleet, &id);
            assert!(loads(&fleet.minion_dir(&id).join("pki")));
            fleet.stop_minion(&id);
        }
    }
}

/// An agent that is killed at that system call.
fn cutting(fleet: &Fleet, call: &str, number: usize) -> PathBuf {
    let path = fleet.path("cut-agent");
    let script = format!(
        "#!/bin/sh\nexec strace -f -o {} -e trace={call} -e inject={call}:signal=SIGKILL:when={number} {} \"$@\"\n",
        fleet.path("strace.log").display(),
        program("drover-minion").display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
