//! Against a program that plays `journalctl`, and against the real one where a journal can be made.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]

use std::{
    cell::Cell, fs, os::unix::fs::PermissionsExt, path::Path, process::Command, thread::yield_now,
};

use serde_json::json;

use super::*;

/// A beacon whose `journalctl` is a shell script.
struct Bench {
    beacon: Journald,
    directory: tempfile::TempDir,
    now: Instant,
    room: Cell<usize>,
}

impl Bench {
    fn new(options: Value, script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut read = Options::read("journald", &options).unwrap();
        let mut beacon = Journald::configure(&mut read).unwrap();
        read.finish().unwrap();
        beacon.program = directory.path().join("journalctl");
        let script = format!("#!/bin/sh\ncd {}\n{script}\n", directory.path().display());
        fs::write(&beacon.program, script).unwrap();
        fs::set_permissions(&beacon.program, fs::Permissions::from_mode(0o700)).unwrap();
        Self { beacon, directory, now: Instant::now(), room: Cell::new(usize::MAX) }
    }

    fn look(&mut self, readings: &mut Vec<Reading>) -> Result<(), SystemError> {
        self.beacon.look(Look { now: self.now, first: false, room: &self.room }, readings)
    }

    /// Looks until `count` have been told, without virtual time passing.
    fn told(&mut self, count: usize) -> Vec<Reading> {
        let (mut readings, begin) = (Vec::new(), Instant::now());
        while readings.len() < count && begin.elapsed() < Duration::from_secs(20) {
            self.look(&mut readings).unwrap();
            yield_now();
        }
        readings
    }

    /// Looks until it fails.
    fn failure(&mut self) -> String {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) {
            if let Err(why) = self.look(&mut Vec::new()) {
                return why.to_string();
            }
            yield_now();
        }
        panic!("no failure")
    }
}

fn messages(readings: &[Reading]) -> Vec<&str> {
    readings.iter().map(|reading| reading.data["message"].as_str().unwrap()).collect()
}

#[test]
fn an_entry_becomes_a_document() {
    let entry = json!({
        "__CURSOR": "s=1", "MESSAGE": "Failed password", "PRIORITY": "3", "_PID": "42",
        "SYSLOG_IDENTIFIER": "sshd", "_COMM": "sshd", "_SYSTEMD_UNIT": "ssh.service",
    });
    let mut bench = Bench::new(json!({}), &format!("echo '{entry}'; exec sleep 100"));
    let readings = bench.told(1);
    let data = json!({
        "message": "Failed password",
        "log": {"level": "error", "syslog": {"priority": 3, "appname": "sshd"}},
        "process": {"pid": 42, "name": "sshd"},
        "systemd": {"unit": "ssh.service"},
    });
    assert_eq!(readings[0].data, data);
}

#[test]
fn entries_that_are_long_or_not_utf8_or_none_are_marked_or_passed_over() {
    let script = r#"echo 'no entry'; echo '{"MESSAGE": [97, 255, 98]}'; echo '{"MESSAGE": "longlong"}'
        head -c 300000 /dev/zero | tr '\0' x; echo; echo '{"MESSAGE": null}'; exec sleep 100"#;
    let mut bench = Bench::new(json!({"max_line": 4}), script);
    let readings = bench.told(3);
    assert_eq!(messages(&readings), ["a\u{fffd}", "long", ""]);
    let flags: Vec<_> = readings.iter().map(|reading| &reading.data["log"]["flags"]).collect();
    assert_eq!(flags[1], &json!(["truncated"]));
    assert_eq!(flags[0], &json!(["truncated", "not_utf8"]));
}

#[test]
fn a_program_that_ends_is_started_again_behind_what_was_taken() {
    let script =
        r#"echo "$@" >> calls; echo '{"MESSAGE": "x", "__CURSOR": "s=7;i=9"}'; echo broken >&2"#;
    let mut bench = Bench::new(json!({"units": ["app"], "priority": "warning"}), script);
    assert_eq!(bench.failure(), "`journalctl` ended: broken");
    assert!(bench.told(0).is_empty());
    bench.look(&mut Vec::new()).unwrap();
    bench.now += RESTART.0;
    bench.failure();
    let calls = fs::read_to_string(bench.directory.path().join("calls")).unwrap();
    let [first, second] = calls.lines().collect::<Vec<_>>()[..] else { panic!("{calls}") };
    assert!(first.contains("--lines=0") && first.ends_with("--unit=app --priority=4"), "{first}");
    assert!(second.contains("--no-tail --after-cursor=s=7;i=9"), "{second}");
}

#[test]
fn what_the_rate_holds_back_stays_in_the_journal() {
    let script = r#"seq 1000000 | sed 's/.*/{"MESSAGE": "&"}/'"#;
    let mut bench = Bench::new(json!({"lines_per_second": 3}), script);
    assert_eq!(bench.told(30).len(), 30);
    let mut readings = Vec::new();
    bench.look(&mut readings).unwrap();
    assert!(readings.is_empty(), "no more for now");
    bench.now += Duration::from_secs(5);
    assert_eq!(messages(&bench.told(15))[14], "45");
    bench.room.set(0);
    bench.now += Duration::from_secs(5);
    bench.look(&mut readings).unwrap();
    assert!(readings.is_empty(), "the outbox has no room");
}

#[test]
fn salts_services_tell_all_fields_under_their_names() {
    let script = r#"echo "$@" > calls; echo '{"A": "1", "B": "2"}'; echo '{"A": "1", "B": "3"}'; exec sleep 100"#;
    let options = json!([{"services": {"one": {"A": 1}, "both": {"A": "1", "B": 3}}}]);
    let mut bench = Bench::new(options, script);
    let readings = bench.told(3);
    let told: Vec<_> = readings.iter().map(|reading| reading.detail.as_str()).collect();
    assert_eq!(told, ["one", "one", "both"]);
    assert_eq!(readings[2].data, json!({"A": "1", "B": "3"}));
    let calls = fs::read_to_string(bench.directory.path().join("calls")).unwrap();
    assert!(calls.trim_end().ends_with("--quiet --lines=0 A=1 + A=1 B=3"), "{calls}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let mut bench = Bench::new(json!({}), "");
    bench.beacon.program = "/not/there".into();
    assert_eq!(bench.failure(), "failed to start `/not/there`");
}

#[test]
fn an_entry_of_this_boot_knows_its_age_whatever_the_clock_says() {
    let moment = Moment::now();
    let of = |boot: &str| {
        let line = json!({"_BOOT_ID": boot, "__MONOTONIC_TIMESTAMP": "1000000"}).to_string();
        Entry::read(line.as_bytes()).unwrap().age(&moment)
    };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(of(&boot.trim().replace('-', "")) > Duration::ZERO);
    assert_eq!(of("another"), Duration::ZERO);
}

#[test]
fn what_cannot_choose_entries_is_refused() {
    let refusal = |options: Value| {
        let mut read = Options::read("journald", &options).unwrap();
        Journald::configure(&mut read).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(json!({"priority": "loud"})),
        "option `priority` of beacon `journald` must be a name like `warning` or a number up to 7, \
         but is `\"loud\"`"
    );
    assert_eq!(
        refusal(json!({"services": {"x": {"no field": 1}}})),
        "option `services` of beacon `journald` must be a map like `{sshd: {SYSLOG_IDENTIFIER: \
         sshd}}`, but is `{\"x\":{\"no field\":1}}`"
    );
}

/// The real `journalctl` reads a journal file; `systemd-journal-remote` makes one. Where they are not installed, there
/// is nothing to see.
#[test]
fn the_real_journalctl_is_understood() {
    let remote = Path::new("/lib/systemd/systemd-journal-remote");
    if !remote.exists() || Command::new("journalctl").arg("--version").output().is_err() {
        return;
    }
    // All of the file, and not what comes after.
    let script = r#"journalctl --file=made.journal $(echo "$@" | sed 's/--follow//; s/--lines=0//')
        exec sleep 100"#;
    let mut bench = Bench::new(json!({"priority": "info"}), script);
    let export = "__REALTIME_TIMESTAMP=1763863200000000\n__MONOTONIC_TIMESTAMP=5000000\n\
                  _BOOT_ID=00000000000000000000000000000001\nMESSAGE=the real thing\nPRIORITY=6\n\
                  SYSLOG_IDENTIFIER=app\n\n";
    let source = bench.directory.path().join("export");
    fs::write(&source, export).unwrap();
    let journal = bench.directory.path().join("made.journal");
    let made = Command::new(remote).arg("-o").arg(&journal).arg(&source).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let readings = bench.told(1);
    assert_eq!(messages(&readings), ["the real thing"]);
    assert_eq!(readings[0].data["log"]["level"], "info");
    assert!(bench.beacon.cursor.is_some());
}
