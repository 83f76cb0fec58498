//! `drover-minion call` as an operator types it: masterless runs, exit statuses, and what is said of mistakes.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a test's surroundings ends the test")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A device that no factory knows.
struct Device(TempDir);

impl Device {
    fn new(yml: &str) -> Self {
        let device = Self(tempfile::tempdir().unwrap());
        device.write("minion.yml", yml);
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover-minion"));
        command.arg("-c").arg(self.0.path()).args(arguments).output().unwrap()
    }

    /// The exit status, and what the function returned.
    fn call(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[&["call", "--local", "--out", "json"], arguments].concat());
        let mut returned: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), returned["local"].take())
    }
}

const ROOTS: &str =
    "file_roots: {base: [states]}\npillar_roots: {base: [pillar]}\ngrains: {role: rfid}\n";

#[test]
fn states_are_applied_without_a_master_or_a_certificate() {
    let device = Device::new(ROOTS);
    let target = device.path("applied");
    device.write("states/top.sls", "base:\n  'G@role:rfid':\n    - rfid\n");
    let sls = format!(
        "{}:\n  file.managed:\n    - contents: {{{{ pillar['text'] }}}}\n",
        target.display()
    );
    device.write("states/rfid.sls", &sls);
    device.write("pillar/top.sls", "base:\n  '*':\n    - all\n");
    device.write("pillar/all.sls", "text: {{ grains['role'] }}\n");

    let (status, returned) = device.call(&["state.apply", "test=True"]);
    let state = returned.as_object().unwrap().values().next().unwrap();
    assert_eq!((status, &state["result"]), (0, &Value::Null));
    assert!(!target.exists());

    assert_eq!(device.call(&["state.highstate"]).0, 0);
    assert_eq!(fs::read_to_string(&target).unwrap(), "rfid\n");

    let (status, returned) = device.call(&["state.apply", "rfid"]);
    let state = returned.as_object().unwrap().values().next().unwrap();
    assert_eq!((status, &state["changes"]), (0, &json!({})));
}

#[test]
fn a_state_that_does_not_compile_changes_nothing_and_says_file_and_line() {
    let device = Device::new(ROOTS);
    let target = device.path("applied");
    let sls = format!("{}:\n  file.managed: []\nx:\n  file.mangled: []\n", target.display());
    device.write("states/rfid.sls", &sls);
    let (status, returned) = device.call(&["state.apply", "rfid"]);
    assert_eq!(status, 1);
    let said = returned[0].as_str().unwrap();
    assert!(said.contains("rfid.sls:4") && said.contains("file.managed"), "{said}");
    assert!(!target.exists());
}

#[test]
fn the_exit_status_is_that_of_the_function() {
    let device = Device::new("");
    assert_eq!(device.call(&["test.ping"]), (0, json!(true)));
    assert_eq!(device.call(&["cmd.run", "echo out; exit 3"]), (1, json!("out")));
    assert_eq!(
        device.call(&["test.pnig"]),
        (1, json!("'test.pnig' is not available. Did you mean 'test.ping'?"))
    );
    assert_eq!(
        device.call(&["test.arg", "1", "two", "three=[3]"]),
        (0, json!({"args": [1, "two"], "kwargs": {"three": [3]}}))
    );
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let device = Device::new("master: 127.0.0.1\nhartbeat: 30s\n");
    let output = device.run(&["call", "--local", "test.ping"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("minion.yml:2:1: unknown key `hartbeat`"), "{said}");
    assert!(said.contains("did you mean `heartbeat`?"), "{said}");
}

#[test]
fn without_local_an_unknown_device_is_told_to_enrol() {
    let device = Device::new("");
    let output = device.run(&["call", "test.ping"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("drover-enrol issue"));
    let output = device.run(&["call", "--local", "state.apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`file_roots:` in minion.yml"));
}
