//! A backup of a master at work, and a master made from it: on a machine whose disk was lost, over one that has gone on,
//! and cut off at any step.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use drover_tests::{
    fleet::{Fleet, Outcome, PATIENCE, run},
    process::{Daemon, program},
    wait,
};
use serde_json::Value;

/// The system calls by which a restore changes the disk, and how often it is killed at each: those of the engine and of
/// each file, the exchange that decides and the rename after it, and what tidies up.
const RESTORING: [(&str, &[usize]); 4] = [
    ("fsync", &[1, 9, 18, 26, 32, 36, 38, 40, 42, 44]),
    ("rename", &[1, 6, 10, 11, 12, 13, 14]),
    ("renameat2", &[1]),
    ("unlink", &[1, 3]),
];

fn restore(fleet: &Fleet, file: &Path, more: &[&str]) -> Outcome {
    let directory = fleet.path("master");
    let mut arguments = vec!["-c", text(&directory), "restore", text(file)];
    arguments.extend(more);
    run(&program("drover-master"), &arguments)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's paths are text")
}

/// The ids of the kept events by their numbers.
fn events(fleet: &Fleet) -> BTreeMap<u64, String> {
    let number = |event: &Value| event["seq"].as_u64().expect("an event has a number");
    let id = |event: &Value| event["id"].as_str().expect("an event has an id").to_owned();
    fleet.events("*").iter().map(|event| (number(event), id(event))).collect()
}

fn backup(fleet: &Fleet, name: &str) -> (PathBuf, Value) {
    let file = fleet.path(name);
    let summary = fleet.drover(&["--out", "json", "backup", text(&file)]).ok().json();
    (file, summary)
}

#[test]
fn a_master_at_work_is_backed_up_and_comes_back_on_an_empty_disk() {
    let mut fleet = Fleet::new();
    fleet.configure_master("acceptance: auto\n");
    fleet.enrol("rfid-1", &["role=rfid"]);
    fleet.configure_minion("rfid-1", "heartbeat: 1s\n");
    fleet.bring_up(&["rfid-1"]);
    let started = fleet.json(&["rfid-1", "test.ping"]);
    assert_eq!(started["rfid-1"], true, "{started}");
    let _ = fleet.drover(&["--pending", "--async", "-L", "rfid-1", "test.ping"]).ok();
    let flood = flood(&fleet, "load");
    let _ = fleet.wait_events("drover/app/*", 2_000);

    let (file, summary) = backup(&fleet, "master.backup");
    assert!(flood.log().contains("connected"), "{}", flood.log());
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let checked = fleet.drover(&["--out", "json", "backup", "--check", text(&file)]).ok().json();
    assert_eq!(checked, summary);
    let last = summary["last_seq"].as_u64().unwrap();
    let _ = fleet.wait_events("drover/app/*", 4_000);
    let before = events(&fleet);
    assert!(*before.last_key_value().unwrap().0 > last, "the load went on");
    let (keys, jobs) = (fleet.json(&["key", "list"]), fleet.json(&["jobs", "list"]));

    // The disk is lost, and the keys with it.
    flood.kill();
    fleet.kill_master();
    fs::remove_dir_all(fleet.path("master/data")).unwrap();
    fs::remove_dir_all(fleet.path("master/pki")).unwrap();
    fs::remove_file(fleet.path("master/master.yml")).unwrap();
    let told = restore(&fleet, &file, &[]).ok().stdout;
    assert!(told.contains(&format!("with the events up to {last}")), "{told}");
    fleet.start_master();

    let after = events(&fleet);
    for (seq, id) in before.range(..=last) {
        assert_eq!(after.get(seq), Some(id), "event {seq}");
    }
    let restored = fleet.events("drover/master/restored");
    assert_eq!(restored[0]["data"]["last_seq"], last);
    let first = restored[0]["seq"].as_u64().unwrap();
    assert!(first > *before.last_key_value().unwrap().0, "no number is given twice");
    assert!(after.range(last + 1..first).next().is_none(), "no number is given twice");
    assert_eq!(fleet.json(&["key", "list"])["accepted"], keys["accepted"]);
    assert_eq!(fleet.json(&["jobs", "list"]), jobs);
    fleet.wait_connected(&["rfid-1"]);
    assert_eq!(fleet.json(&["rfid-1", "test.ping"])["rfid-1"], true);
    let sent = fleet.json(&["events", "send", "site/back"]);
    assert!(sent["seq"].as_u64() > Some(first), "{sent}");
}

/// Minions that send events as fast as the master takes them.
fn flood(fleet: &Fleet, prefix: &str) -> Daemon {
    let (pki, root) = (fleet.path("master/pki"), fleet.path("factory/root/root.crt"));
    let address = fleet.master_address();
    let arguments = [
        "--fleet-ca",
        text(&pki),
        "--root",
        text(&root),
        "--master",
        &address,
        "--count",
        "4",
        "--prefix",
        prefix,
        "--events",
        "100000000",
    ];
    Daemon::start(&program("drover-sim"), arguments, fleet.path("sim.log"))
}

#[test]
fn what_has_gone_on_is_moved_aside_and_what_it_knew_is_told() {
    let mut fleet = Fleet::connected(&["rfid-1", "rfid-2"]);
    let (file, _) = backup(&fleet, "master.backup");
    let again = fleet.drover(&["backup", text(&file)]);
    assert_eq!(again.status, 2, "{}", again.stderr);
    assert!(again.stderr.contains("overwrite it with --force"), "{}", again.stderr);
    let _ = fleet.drover(&["key", "revoke", "-y", "rfid-2", "--reason", "stolen"]).ok();

    let running = restore(&fleet, &file, &["--force"]);
    assert_eq!(running.status, 1, "{}", running.stdout);
    assert!(running.stderr.contains("in use by another master"), "{}", running.stderr);
    fleet.stop_master();
    let asked = restore(&fleet, &file, &[]);
    assert_eq!(asked.status, 1, "{}", asked.stdout);
    assert!(asked.stderr.contains("is not empty"), "{}", asked.stderr);

    let mut damaged = fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let broken = fleet.path("broken.backup");
    fs::write(&broken, &damaged).unwrap();
    assert_eq!(restore(&fleet, &broken, &["--force"]).status, 1);
    assert_eq!(run(&program("drover"), &["backup", "--check", text(&broken)]).status, 1);

    let told = restore(&fleet, &file, &["--force"]).ok().stdout;
    assert!(told.contains("rfid-2 was revoked: do it again"), "{told}");
    assert!(told.contains("data.before-restore-"), "{told}");
    fleet.start_master();
    fleet.wait_connected(&["rfid-1"]);
    let _ = fleet.drover(&["key", "revoke", "-y", "rfid-2", "--reason", "stolen"]).ok();
    fleet.stop_master();

    // What was moved aside is a master's directory still.
    fs::remove_dir_all(fleet.path("master/data")).unwrap();
    let aside = fs::read_dir(fleet.path("master"))
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("data.before-restore-"));
    fs::rename(aside.unwrap().path(), fleet.path("master/data")).unwrap();
    fleet.start_master();
    assert_eq!(fleet.json(&["key", "list"])["revoked"], serde_json::json!(["rfid-2"]));
}

#[test]
fn a_restore_that_is_killed_at_any_step_leaves_the_old_master_or_the_new_one() {
    let mut fleet = Fleet::new();
    fleet.enrol("rfid-1", &[]);
    fleet.start_master();
    fleet.register();
    fleet.write("master/pki/note", "before");
    let (file, _) = backup(&fleet, "master.backup");
    fleet.write("master/pki/note", "after");
    let _ = fleet.drover(&["events", "send", "site/after"]).ok();
    fleet.stop_master();
    let kept = fleet.path("kept");
    copy(&fleet.path("master"), &kept);
    let mut outcomes = BTreeMap::new();
    for (call, numbers) in RESTORING {
        for number in numbers {
            let _ = fs::remove_dir_all(fleet.path("master"));
            copy(&kept, &fleet.path("master"));
            let was_killed = cut_off(&fleet, &file, call, *number);
            // Nobody looks after it: the master is started as after any power cut.
            fleet.start_master();
            let is_new = !fleet.events("drover/master/restored").is_empty();
            let is_old = !fleet.events("site/after").is_empty();
            assert!(is_new != is_old, "{call} {number}: {}", fleet.logs());
            assert_eq!(fleet.json(&["key", "list"])["accepted"], serde_json::json!(["rfid-1"]));
            // What the backup has beside the store came with it, or not at all.
            let note = fs::read_to_string(fleet.path("master/pki/note")).unwrap();
            assert_eq!(note, if is_new { "before" } else { "after" }, "{call} {number}");
            assert!(!fleet.path("master/data/restored-pki").exists(), "{call} {number}");
            fleet.stop_master();
            outcomes
                .entry((was_killed, is_new))
                .or_insert_with(Vec::new)
                .push(format!("{call} {number}"));
            // And the operator may always do it again.
            let told = restore(&fleet, &file, &["--force"]).ok().stdout;
            assert!(told.contains("data.before-restore-"), "{told}");
            assert!(!fleet.path("master/data.restoring").exists(), "{call} {number}");
        }
    }
    println!("killed and new: {outcomes:?}");
    // Else the restore has other steps than the test knows.
    assert!(
        outcomes[&(true, true)].len() >= 3 && outcomes[&(true, false)].len() >= 8,
        "{outcomes:?}"
    );
}

/// Runs a restore that is killed at this call; whether it came to that.
fn cut_off(fleet: &Fleet, file: &Path, call: &str, number: usize) -> bool {
    let (trace, inject) =
        (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={number}"));
    let (master, directory) = (program("drover-master"), fleet.path("master"));
    let status = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .args([text(&master), "-c", text(&directory), "restore", text(file), "--force"])
        .output()
        .expect("strace is installed (tests/parts/install)");
    !status.status.success()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", text(from), text(to)]).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy {}", from.display());
}

#[test]
fn whoever_is_too_slow_for_the_load_is_told_and_the_master_goes_on() {
    let mut fleet = Fleet::new();
    fleet.start_master();
    // More than lies in pipes and sockets, so that the backup waits for its reader.
    send_mebibytes(&fleet, 8);
    let (drover, directory) = (program("drover"), fleet.path("master"));
    let (gate, taken) = (fleet.path("gate"), fleet.path("taken"));
    let script = format!(
        "{} -c {} backup - | (while [ ! -e {} ]; do sleep 0.1; done; cat >{})",
        text(&drover),
        text(&directory),
        text(&gate),
        text(&taken)
    );
    let taking = Daemon::start(Path::new("sh"), ["-c", &script], fleet.path("slow.log"));
    let _ = fleet.wait_events("drover/master/backup", 1);
    // More than may wait for a backup; the master takes it all the same.
    send_mebibytes(&fleet, 40);
    let other = fleet.drover(&["backup", text(&fleet.path("other"))]);
    assert!(other.stderr.contains("another backup is being made"), "{}", other.stderr);
    fs::write(&gate, "").unwrap();
    let told = wait::until_some(
        "the backup has ended",
        PATIENCE,
        || Some(taking.log()).filter(|log| log.contains("hint:")),
        || fleet.logs(),
    );
    assert!(told.contains("the copy was taken too slowly"), "{told}");
    let checked = run(&drover, &["backup", "--check", text(&taken)]);
    assert_eq!(checked.status, 1, "what came is no backup: {}", checked.stdout);
    let (_, summary) = backup(&fleet, "at-last.backup");
    assert!(summary["last_seq"].as_u64() > Some(48), "{summary}");
}

/// Events of a mebibyte each.
fn send_mebibytes(fleet: &Fleet, count: usize) {
    let body = serde_json::json!({ "tag": "site/large", "data": "x".repeat(1 << 20) });
    fleet.write("large.json", &body.to_string());
    let (socket, body) = (fleet.path("master/run/api.sock"), fleet.path("large.json"));
    let body = format!("@{}", text(&body));
    for _ in 0..count {
        let arguments = ["-sSf", "--unix-socket", text(&socket), "--json", &body];
        let _ =
            run(Path::new("curl"), &[&arguments[..], &["http://drover/v1/events"]].concat()).ok();
    }
}
